"""The ids of B communities side by side in one process: `gymnasium.make_vec` makes these."""

from __future__ import annotations

from collections.abc import Mapping

from gymnasium.vector import AutoresetMode

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.day_ahead import DayAheadGame
from prosumer_gym.envs.planning import Planner
from prosumer_gym.envs.real_time import RealTimeGame
from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.envs.two_stage import TwoStageGame
from prosumer_gym.envs.vector_face import VectorFace


class TwoStageVectorEnv(VectorFace[TwoStageGame]):
    """B communities in `ProsumerGym/TwoStage-v0`, each on a day of its own.

    Args:
        num_envs: B.
        dataset: as for `TwoStageEnv`, like the next four.
        scenario: name of a community, or one.
        split: the days that may be played.
        days_per_episode: days of an episode.
        reward: weights of the reward.
        render_mode: None or "rgb_array": one picture for each lane.
        autoreset_mode: next step, same step, or disabled; then `reset(options={"reset_mask": ...})` restarts lanes.
        copy: whether observations are the user's own. If not, the next step overwrites them; for large batches
            that saves most of the time.
        threads: on how many threads batches of 256 lanes and more are played; the results are the same to the bit.
        mechanism: as for `TwoStageEnv`.

    Raises:
        UsageError: as `TwoStageEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        dataset: str | Dataset = "tehran-v0",
        scenario: str | Community = "ieee33",
        split: str = "train",
        days_per_episode: int = 1,
        reward: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        threads: int = 1,
        mechanism: str | None = None,
    ) -> None:
        game = TwoStageGame(
            num_envs, dataset=dataset, scenario=scenario, split=split, days_per_episode=days_per_episode,
            mechanism=mechanism, reward=reward, threads=threads,
        )  # fmt: skip
        super().__init__(game, render_mode, autoreset_mode, copy=copy)


class RealTimeVectorEnv(VectorFace[RealTimeGame]):
    """B communities in `ProsumerGym/RealTime-v0`, each on a day of its own.

    Args:
        num_envs: B.
        dataset: as for `RealTimeEnv`, like the next four.
        scenario: name of a community, or one.
        split: the days that may be played.
        days_per_episode: days of an episode.
        reward: weights of the reward.
        render_mode: None or "rgb_array": one picture for each lane.
        autoreset_mode: as for `TwoStageVectorEnv`, like the next two.
        copy: whether observations are the user's own.
        threads: on how many threads batches of 256 lanes and more are played.
        mechanism: as for `RealTimeEnv`, like the next.
        planner: of day-ahead positions.

    Raises:
        UsageError: as `RealTimeEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        dataset: str | Dataset = "tehran-v0",
        scenario: str | Community = "ieee33",
        split: str = "train",
        days_per_episode: int = 1,
        reward: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        threads: int = 1,
        mechanism: str | None = None,
        planner: Planner | None = None,
    ) -> None:
        game = RealTimeGame(
            num_envs, planner=planner, watched=render_mode is not None, dataset=dataset, scenario=scenario,
            split=split, days_per_episode=days_per_episode, mechanism=mechanism, reward=reward, threads=threads,
        )  # fmt: skip
        super().__init__(game, render_mode, autoreset_mode, copy=copy)
        self.layout = game.layout.slices
        self.action_layout = game.action_slices


class DayAheadVectorEnv(VectorFace[DayAheadGame]):
    """B communities in `ProsumerGym/DayAhead-v0`, each on a day of its own.

    Args:
        num_envs: B.
        dataset: as for `DayAheadEnv`, like the next four.
        scenario: name of a community, or one.
        split: the days that may be played.
        days_per_episode: days of an episode.
        reward: weights of the reward.
        render_mode: None or "rgb_array": one picture for each lane.
        autoreset_mode: as for `TwoStageVectorEnv`, like the next one.
        threads: on how many threads batches of 256 lanes and more are played.

    Raises:
        UsageError: as `DayAheadEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        dataset: str | Dataset = "tehran-v0",
        scenario: str | Community = "ieee33",
        split: str = "train",
        days_per_episode: int = 1,
        reward: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int = 1,
    ) -> None:
        game = DayAheadGame(
            num_envs, dataset=dataset, scenario=scenario, split=split, days_per_episode=days_per_episode,
            mechanism=None, reward=reward, threads=threads,
        )  # fmt: skip
        super().__init__(game, render_mode, autoreset_mode, copy=True)
        self.layout = game.layout.slices
