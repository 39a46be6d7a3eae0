"""What Gymnasium asks of a vector environment, for any game. The ids are in `vector`.

Lane i is the single environment with seed s + i, to the bit. Axis letters: B lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic

import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.draws import DayDraws
from prosumer_gym.envs.game import Info
from prosumer_gym.envs.rendering import Image, Renderer, scene_of
from prosumer_gym.envs.single_face import AnyGame, SingleFace, checked_options
from prosumer_gym.errors import UsageError

_DRAWN = -1
"""In place of a row: the lane's generator draws it."""


class VectorFace(VectorEnv[Any, Any, npt.NDArray[Any]], Generic[AnyGame]):
    """B communities, each on a day of its own. Rewards, info and autoreset are those of `gymnasium.vector`.

    Args:
        game: of B lanes.
        render_mode: None or "rgb_array".
        autoreset_mode: a mode or its name.
        copy: whether observations are the user's own.

    Raises:
        UsageError: an unknown render mode or autoreset mode, or a `copy` that is no bool.
    """

    def __init__(
        self, game: AnyGame, render_mode: str | None, autoreset_mode: AutoresetMode | str, *, copy: bool
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise UsageError(f"render_mode: {render_mode!r} is unknown; use rgb_array or None")
        if not isinstance(copy, bool | np.bool_):
            raise UsageError(f"copy: {copy!r} is neither True nor False; say which")
        self.game = game
        self.num_envs = game.num_lanes
        self.render_mode = render_mode
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {**SingleFace.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = game.observation_space
        self.single_action_space = game.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.copy = copy
        self._draws = DayDraws(game.first_days, self.num_envs)
        self._rngs: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds = [-1] * self.num_envs
        self._renderer = Renderer(game.community)
        self._begun = np.zeros(self.num_envs, np.bool_)
        self._all_begun = False
        self._over = np.ones(self.num_envs, np.bool_)

    @property
    def dataset(self) -> Dataset:
        """The days that are played."""
        return self.game.dataset

    @property
    def community(self) -> Community:
        """The community that plays them."""
        return self.game.community

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the lanes, as `gymnasium.vector.SyncVectorEnv` gives them."""
        return tuple(self._rng(lane) for lane in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """Their seeds."""
        for lane in range(self.num_envs):
            self._rng(lane)
        return tuple(self._seeds)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """Begin an episode in every lane, or in those of `options["reset_mask"]` `[B]`.

        Args:
            seed: lane i gets seed + i; or a list of one seed for each lane.
            options: `day`, as for the single environment, for all lanes or a list of one for each; `reset_mask`.

        Raises:
            UsageError: an unknown option, a mask or list of a wrong length, or a day that may not be played.
        """
        options = checked_options(options, "reset_mask")
        lanes = self._mask(options.get("reset_mask"))
        rows = self._rows(options.get("day"))
        self._seed(seed, lanes)
        self._begin(lanes, rows)
        return self.game.observations(copy=self.copy), _masked({"day": self.game.day.copy()}, lanes)

    def step(self, actions: Any) -> tuple[Any, FloatArray, BoolArray, BoolArray, Info]:
        """One step of every lane.

        Raises:
            UsageError: actions that cannot be read; nothing has changed then.
            gymnasium.error.ResetNeeded: before the first `reset`, or with autoreset disabled when a lane is over.
        """
        over, num = self._over, self.num_envs
        if not (self._all_begun and self.autoreset_mode is AutoresetMode.NEXT_STEP):
            self._check_ready()
        played = ~over
        if np.count_nonzero(played):
            rewards, terminated = self.game.play(actions, played)
            told = self.game.infos()
        else:
            rewards, terminated, told = np.zeros(num), np.zeros(num, np.bool_), {}
        self._over = over | terminated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and np.count_nonzero(terminated):
            info = _masked(told, played & ~terminated) | self._final(told, terminated)
            self._renew(terminated, info)
        else:
            info = _masked(told, played)
            if self.autoreset_mode is AutoresetMode.NEXT_STEP and np.count_nonzero(over):
                self._renew(over, info)
        return self.game.observations(copy=self.copy), rewards, terminated, np.zeros(num, np.bool_), info

    def render(self) -> tuple[Image, ...] | None:
        """A picture of each lane, as of the single environment; None without a render_mode.

        Raises:
            UsageError: matplotlib is not installed.
            gymnasium.error.ResetNeeded: before the first `reset` of every lane.
        """
        if self.render_mode is None:
            return None
        if not self._all_begun:
            raise ResetNeeded("nothing has been played; call reset() before render()")
        return tuple(self._renderer.image(scene_of(self.game, lane)) for lane in range(self.num_envs))

    def _check_ready(self) -> None:
        """Raise `ResetNeeded` if a lane cannot be played: it never began, or it is over and nobody restarts it."""
        needy = ~self._begun if self.autoreset_mode is AutoresetMode.NEXT_STEP else self._over
        if needy.any():
            raise ResetNeeded(f"the episode of lane {int(needy.argmax())} is over; call reset() before step()")

    def _final(self, told: Info, lanes: BoolArray) -> Info:
        """The last observation and info of episodes that ended and are restarted in the same step."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        ended = np.flatnonzero(lanes)
        for lane, obs in zip(ended.tolist(), self.game.observations_of(ended), strict=True):
            final_obs[lane] = obs
        return _masked({"final_obs": final_obs, "final_info": told}, lanes)

    def _renew(self, lanes: BoolArray, info: Info) -> None:
        """New episodes in the lanes of the mask; `info` tells their days."""
        self._begin(lanes, np.full(self.num_envs, _DRAWN))
        info["day"] = self.game.day.copy()
        info["_day"] = np.ones(self.num_envs, np.bool_)

    def _begin(self, lanes: BoolArray, rows: IntArray) -> None:
        """Episodes on the days `rows` [B], drawn where so marked, in the lanes of the mask."""
        drawn = np.flatnonzero(lanes & (rows == _DRAWN))
        rows[drawn] = self._draws.draw(drawn, self._rng)
        self.game.begin(lanes, rows)
        self._begun |= lanes
        self._all_begun = bool(self._begun.all())
        self._over &= ~lanes

    def _rows(self, days: Any) -> IntArray:
        """The rows that a user means by one day for all lanes or a list of one for each [B]."""
        if isinstance(days, list | tuple) or (isinstance(days, np.ndarray) and days.ndim):
            if len(days) != self.num_envs:
                raise UsageError(f"reset: {len(days)} days for {self.num_envs} lanes; give one for each")
            return np.array([_DRAWN if day is None else self.game.row_of(day) for day in days])
        return np.full(self.num_envs, _DRAWN if days is None else self.game.row_of(days))

    def _rng(self, lane: int) -> np.random.Generator:
        rng = self._rngs[lane]
        if rng is None:
            rng, self._seeds[lane] = seeding.np_random()
            self._rngs[lane] = rng
        return rng

    def _seed(self, seed: int | Sequence[int | None] | None, lanes: BoolArray) -> None:
        if seed is None:
            return
        seeds: Any = [int(seed) + k for k in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        if not isinstance(seeds, Sequence | np.ndarray) or isinstance(seeds, str):
            raise UsageError(f"reset: seed {seeds!r} is neither a whole number nor a list of one for each lane")
        if len(seeds) != self.num_envs:
            raise UsageError(f"reset: {len(seeds)} seeds for {self.num_envs} lanes; give one for each")
        given = {lane: seeds[lane] for lane in np.flatnonzero(lanes).tolist() if seeds[lane] is not None}
        for lane, one in given.items():
            if not isinstance(one, int | np.integer) or one < 0:
                raise UsageError(f"reset: seed {one!r} of lane {lane} must be a whole number, 0 or more")
        for lane, one in given.items():
            self._rngs[lane], self._seeds[lane] = seeding.np_random(int(one))
            self._draws.forget(lane)

    def _mask(self, mask: Any) -> BoolArray:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not (isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (self.num_envs,)):
            raise UsageError(f"reset: reset_mask must be an array of {self.num_envs} bool")
        if not mask.any():
            raise UsageError("reset: reset_mask names no lane; set one of its entries")
        return mask


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        names = ", ".join(each.value for each in AutoresetMode)
        raise UsageError(f"autoreset_mode: {mode!r} is unknown; use one of {names}") from None


def _masked(info: Info, lanes: BoolArray) -> Info:
    """An info of arrays with leading axis B as Gymnasium wants it: zero in the other lanes, and a mask for each key.

    The arrays are those of `info` if all lanes are told about, and copies if not.
    """
    num = int(np.count_nonzero(lanes))
    if num == 0:
        return {}
    masks = np.empty((_num_keys(info), len(lanes)), np.bool_)
    masks[:] = lanes
    return _with_masks(info, None if num == len(lanes) else ~lanes, iter(masks))


def _num_keys(info: Info) -> int:
    return sum(1 + (_num_keys(value) if isinstance(value, dict) else 0) for value in info.values())


def _with_masks(info: Info, others: BoolArray | None, masks: Iterator[BoolArray]) -> Info:
    masked: Info = {}
    for name, value in info.items():
        if isinstance(value, dict):
            masked[name] = _with_masks(value, others, masks)
        elif others is None or value.dtype == object:
            masked[name] = value
        else:
            masked[name] = value.copy()
            masked[name][others] = 0
        masked[f"_{name}"] = next(masks)
    return masked
