"""`ProsumerGym/TwoStage-v0`, one community: a batch of one.

Axis letters: N prosumers, E undirected trade edges, H hours of a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.action import Action
from prosumer_gym.envs.observation import Observation
from prosumer_gym.envs.rendering import Renderer, scene_of
from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.envs.two_stage import DayQueue, Info, TwoStageGame
from prosumer_gym.errors import UsageError

_ALL = np.ones(1, np.bool_)
_ALL.setflags(write=False)


class TwoStageEnv(gym.Env[dict[str, Any], dict[str, Any]]):
    """A community that commits a day-ahead position and then runs its day hour by hour.

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

    Raises:
        UsageError: from the constructor for an unknown name or data and community that do not fit, from `reset` for a
            day that may not be played, from `step` for an action with a wrong key, a wrong shape or NaN.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's

    def __init__(
        self,
        dataset: str | Dataset = "tehran-v0",
        scenario: str | Community = "ieee33",
        split: str = "train",
        days_per_episode: int = 1,
        reward: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UsageError(f"render_mode: {render_mode!r} is unknown; use one of human, rgb_array, or None")
        self.game = TwoStageGame(
            1,
            single=True,
            dataset=dataset,
            scenario=scenario,
            split=split,
            days_per_episode=days_per_episode,
            reward=reward,
        )
        self.observation_space = self.game.observation_space
        self.action_space = self.game.action_space
        self.render_mode = render_mode
        self._days = DayQueue(self.game.first_days)
        self._renderer = Renderer(self.game.community, window=render_mode == "human")

    @property
    def dataset(self) -> Dataset:
        """The days that are played."""
        return self.game.dataset

    @property
    def community(self) -> Community:
        """The community that plays them."""
        return self.game.community

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Begin an episode at the gate of a day. `options={"day": row or date}` chooses the day.

        Raises:
            UsageError: an unknown option, or a day that is not of the split or cannot begin an episode.
        """
        super().reset(seed=seed)
        row = chosen_day(self.game, options)
        if row is None:
            row = self._days.pop(self.np_random)
        self.game.begin(_ALL, np.array([row]))
        self._show()
        return self._observation(), {"day": row}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, Info]:
        """One step: the day-ahead step or an hour, whichever `obs["stage"]` announced.

        Raises:
            UsageError: a wrong key, a wrong shape or NaN; nothing has changed then.
            gymnasium.error.ResetNeeded: the episode is over.
        """
        if self.game.over(0):
            raise ResetNeeded("the episode is over; call reset() before step()")
        reward, terminated = self.game.play(action, _ALL)
        self._show()
        return self._observation(), float(reward[0]), bool(terminated[0]), False, self.game.info(0)

    def render(self) -> Any:
        """The hour that was played last: an array `[800, 1280, 3]` (rgb_array), or nothing (human: a window, None).

        Raises:
            UsageError: matplotlib is not installed.
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() shows nothing without a render_mode; make the environment with rgb_array or human"
            )
            return None
        if self.game.over(0) and self.game.hour[0] < 0:
            raise ResetNeeded("nothing has been played; call reset() before render()")
        scene = scene_of(self.game)
        if self.render_mode == "rgb_array":
            return self._renderer.image(scene)
        self._renderer.show(scene)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        self._renderer.close()

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()

    def _observation(self) -> Observation:
        return self.game.builder.copy_of_first()  # what a user keeps is never overwritten


def chosen_day(game: TwoStageGame, options: Mapping[str, Any] | None) -> int | None:
    """The row that `options` names, or None.

    Raises:
        UsageError: an unknown option or a day that may not be played.
    """
    option_names(options or {})
    given = (options or {}).get("day")
    return None if given is None else game.row_of(given)


def option_names(options: Mapping[str, Any]) -> None:
    """Refuse an option that does not exist.

    Raises:
        UsageError: naming it.
    """
    unknown = options.keys() - {"day"}
    if unknown:
        raise UsageError(f"reset: option {min(map(str, unknown))!r} is unknown; there is: day")
