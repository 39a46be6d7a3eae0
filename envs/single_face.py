"""What Gymnasium asks of an environment, for any game with one lane. The ids are in `single`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.draws import DayDraws
from prosumer_gym.envs.game import Game, Info
from prosumer_gym.envs.rendering import Renderer, scene_of
from prosumer_gym.errors import UsageError

AnyGame = TypeVar("AnyGame", bound=Game)

_ALL = np.ones(1, np.bool_)  # may be written to, like the masks of a batch: kernels are compiled for both at once
_FIRST = np.zeros(1, np.int64)
_FIRST.setflags(write=False)


class SingleFace(gym.Env[Any, Any], Generic[AnyGame]):
    """A batch of one. Python's own bool and float come out, and arrays that are never written to again.

    Raises:
        UsageError: an unknown render mode.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's

    def __init__(self, game: AnyGame, render_mode: str | None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UsageError(f"render_mode: {render_mode!r} is unknown; use one of human, rgb_array, or None")
        self.game = game
        self.observation_space = game.observation_space
        self.action_space = game.action_space
        self.render_mode = render_mode
        self._draws = DayDraws(game.first_days, 1)
        self._drawn_by: np.random.Generator | None = None
        self._renderer = Renderer(game.community, window=render_mode == "human")
        self._begun = False
        self._over = True

    @property
    def dataset(self) -> Dataset:
        """The days that are played."""
        return self.game.dataset

    @property
    def community(self) -> Community:
        """The community that plays them."""
        return self.game.community

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        """Begin an episode with a day. `options={"day": row or date}` chooses the day.

        Raises:
            UsageError: an unknown option, or a day that is not of the split or cannot begin an episode.
        """
        super().reset(seed=seed)
        row = chosen_day(self.game, options)
        if row is None:
            row = self._drawn_day()
        self.game.begin(_ALL, np.array([row]))
        self._begun, self._over = True, False
        self._show()
        return self.game.observation(), {"day": row}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """One step.

        Raises:
            UsageError: an action that cannot be read; nothing has changed then.
            gymnasium.error.ResetNeeded: the episode is over.
        """
        reward, over = self.advance(action)
        return self.game.observation(), reward, over, False, self.game.info()

    def advance(self, action: Any) -> tuple[float, bool]:
        """One step, for who shows and tells it otherwise: its reward, and whether the episode is over.

        Raises:
            UsageError, gymnasium.error.ResetNeeded: as `step`.
        """
        if self._over:
            raise ResetNeeded("the episode is over; call reset() before step()")
        reward, terminated = self.game.play(action, _ALL)
        self._over = bool(terminated[0])
        self._show()
        return float(reward[0]), self._over

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
        if not self._begun:
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

    def _drawn_day(self) -> int:
        if self._drawn_by is not self.np_random:  # another seed, or a generator of the user's
            self._drawn_by = self.np_random
            self._draws.forget(0)
        return int(self._draws.draw(_FIRST, lambda _: self.np_random)[0])


def chosen_day(game: Game, options: Mapping[str, Any] | None) -> int | None:
    """The row that `options` names, or None.

    Raises:
        UsageError: an unknown option or a day that may not be played.
    """
    options = checked_options(options)
    given = options.get("day")
    return None if given is None else game.row_of(given)


def checked_options(options: Mapping[str, Any] | None, *also: str) -> dict[str, Any]:
    """The options, as a dict of the caller's own; there is `day`, and what is named beside it.

    Raises:
        UsageError: no mapping, or an option that does not exist; the message names it.
    """
    if not isinstance(options, Mapping | None):
        raise UsageError(f"reset: options is a {type(options).__name__}; give them by name")
    own = dict(options or {})
    unknown = own.keys() - {"day", *also}
    if unknown:
        raise UsageError(f"reset: option {min(map(str, unknown))!r} is unknown; there is: {', '.join(('day', *also))}")
    return own
