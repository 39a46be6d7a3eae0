"""The ids of one community: `gymnasium.make` makes these."""

from __future__ import annotations

from collections.abc import Mapping

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.day_ahead import DayAheadGame
from prosumer_gym.envs.planning import Planner
from prosumer_gym.envs.real_time import RealTimeGame
from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.envs.single_face import SingleFace
from prosumer_gym.envs.two_stage import TwoStageGame


class TwoStageEnv(SingleFace[TwoStageGame]):
    """A community that commits a day-ahead position and then runs its day hour by hour: `ProsumerGym/TwoStage-v0`.

    Each day is one day-ahead step (`obs["stage"]` is 0: only the action's `day_ahead` is read) and H real-time steps
    (`obs["stage"]` is 1: the other parts are read). An episode is `days_per_episode` such days, H + 1 steps each, and
    always ends with `terminated`. The tables of observation, action and info are in `docs/environment.md`.

    The first day of an episode is drawn by `self.np_random`; `reset(options={"day": ...})` chooses it, by row of the
    data set or by date.

    Args:
        dataset: name of a data set, or one.
        scenario: name of a community, or one.
        split: "train", "dev" or "test": the days that may be played.
        days_per_episode: days of an episode; more than one need consecutive dates.
        reward: weights of the reward, as `RewardWeights` or a mapping of their names.
        render_mode: None, "human" or "rgb_array".
        mechanism: name of the market mechanism, which says what `action["trade"]` is; None for the community's own.

    Raises:
        UsageError: from the constructor for an unknown name or data and community that do not fit, from `reset` for a
            day that may not be played, from `step` for an action with a wrong key, a wrong shape or NaN.
    """

    def __init__(
        self,
        dataset: str | Dataset = "tehran-v0",
        scenario: str | Community = "ieee33",
        split: str = "train",
        days_per_episode: int = 1,
        reward: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
        mechanism: str | None = None,
    ) -> None:
        game = TwoStageGame(
            1, single=True, dataset=dataset, scenario=scenario, split=split, days_per_episode=days_per_episode,
            mechanism=mechanism, reward=reward,
        )  # fmt: skip
        super().__init__(game, render_mode)


class RealTimeEnv(SingleFace[RealTimeGame]):
    """A community that runs its day hour by hour after a position planned beforehand: `ProsumerGym/RealTime-v0`.

    H steps a day, no day-ahead step. The observation is a flat float32 array, `layout["soc"]` is the slice where in it
    the state of charge stands, and so on. The action is a flat float32 array: battery, shiftable load and curtailment
    of the N prosumers. What a prosumer has over or lacks beyond its position is offered to the others centrally.

    Args:
        dataset: as for `TwoStageEnv`, like all but the last.
        scenario: name of a community, or one.
        split: the days that may be played.
        days_per_episode: days of an episode.
        reward: weights of the reward.
        render_mode: None, "human" or "rgb_array".
        mechanism: name of the market mechanism; None for the community's own.
        planner: gives the day-ahead position `[N,H]`, kW, of a day from the two-stage observation at its gate, as the
            `plan` of a fitted policy does; None for the no-control reference's. It is asked once for each day, when an
            episode comes to that day for the first time, so a slow planner makes first resets slow.

    Raises:
        UsageError: as `TwoStageEnv`; from `reset` also for a plan of a wrong shape or with NaN.
    """

    def __init__(
        self,
        dataset: str | Dataset = "tehran-v0",
        scenario: str | Community = "ieee33",
        split: str = "train",
        days_per_episode: int = 1,
        reward: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
        mechanism: str | None = None,
        planner: Planner | None = None,
    ) -> None:
        game = RealTimeGame(
            1, single=True, planner=planner, watched=render_mode is not None, dataset=dataset, scenario=scenario,
            split=split, days_per_episode=days_per_episode, mechanism=mechanism, reward=reward,
        )  # fmt: skip
        super().__init__(game, render_mode)
        self.layout = game.layout.slices
        self.action_layout = game.action_slices


class DayAheadEnv(SingleFace[DayAheadGame]):
    """A community that commits a day-ahead position and is then left to itself: `ProsumerGym/DayAhead-v0`.

    One step a day: a contextual bandit. The action is the position, a flat float32 array of N x H numbers, hour after
    hour of prosumer after prosumer. The observation is a flat float32 array, `layout["price_da"]` is the slice where in
    it the day's prices stand, and so on.

    Args:
        dataset: as for `TwoStageEnv`, like the rest.
        scenario: name of a community, or one.
        split: the days that may be played.
        days_per_episode: days of an episode.
        reward: weights of the reward.
        render_mode: None, "human" or "rgb_array": the last hour of the day.

    Raises:
        UsageError: as `TwoStageEnv`.
    """

    def __init__(
        self,
        dataset: str | Dataset = "tehran-v0",
        scenario: str | Community = "ieee33",
        split: str = "train",
        days_per_episode: int = 1,
        reward: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        game = DayAheadGame(
            1, single=True, dataset=dataset, scenario=scenario, split=split, days_per_episode=days_per_episode,
            mechanism=None, reward=reward,
        )  # fmt: skip
        super().__init__(game, render_mode)
        self.layout = game.layout.slices
