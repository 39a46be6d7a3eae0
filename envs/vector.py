"""`ProsumerGym/TwoStage-v0`, B communities side by side in one process: `gymnasium.make_vec` makes this one.

Lane i is the single environment with seed s + i, to the bit. Axis letters: B lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.action import Action
from prosumer_gym.envs.observation import Observation
from prosumer_gym.envs.rendering import Image, Renderer, scene_of
from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.envs.single import TwoStageEnv, option_names
from prosumer_gym.envs.two_stage import DayQueue, Info, TwoStageGame
from prosumer_gym.errors import UsageError


class TwoStageVectorEnv(VectorEnv[dict[str, Any], Action, npt.NDArray[Any]]):
    """B communities, each on a day of its own. Rewards, info and autoreset are those of `gymnasium.vector`.

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
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise UsageError(f"render_mode: {render_mode!r} is unknown; use rgb_array or None")
        self.game = TwoStageGame(
            num_envs, dataset=dataset, scenario=scenario, split=split, days_per_episode=days_per_episode,
            reward=reward, threads=threads,
        )  # fmt: skip
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**TwoStageEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.game.observation_space
        self.single_action_space = self.game.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.copy = copy
        self._days = [DayQueue(self.game.first_days) for _ in range(num_envs)]
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._seeds = [-1] * num_envs
        self._renderer = Renderer(self.game.community)
        self._begun = np.zeros(num_envs, np.bool_)
        self._everyone = np.ones(num_envs, np.bool_)

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
    ) -> tuple[Observation, Info]:
        """Begin an episode in every lane, or in those of `options["reset_mask"]` `[B]`.

        Args:
            seed: lane i gets seed + i; or a list of one seed for each lane.
            options: `day`, as for the single environment, for all lanes or a list of one for each; `reset_mask`.

        Raises:
            UsageError: an unknown option, a mask or list of a wrong length, or a day that may not be played.
        """
        options = dict(options or {})
        lanes = self._mask(options.pop("reset_mask", None))
        option_names(options)
        days = options.get("day")
        each = list(days) if isinstance(days, list | tuple | np.ndarray) else [days] * self.num_envs
        if len(each) != self.num_envs:
            raise UsageError(f"reset: {len(each)} days for {self.num_envs} lanes; give one for each")
        rows = [None if day is None else self.game.row_of(day) for day in each]
        self._seed(seed, lanes)
        self._begin(lanes, rows)
        return self._observation(), _masked({"day": self.game.day.copy()}, lanes)

    def step(self, actions: Action) -> tuple[Observation, FloatArray, BoolArray, BoolArray, Info]:
        """One step of every lane.

        Raises:
            UsageError: a wrong key, a wrong shape or NaN; nothing has changed then.
            gymnasium.error.ResetNeeded: before the first `reset`, or with autoreset disabled when a lane is over.
        """
        over = self.game.all_over()
        needy = ~self._begun if self.autoreset_mode is AutoresetMode.NEXT_STEP else over
        if needy.any():
            raise ResetNeeded(f"the episode of lane {int(needy.argmax())} is over; call reset() before step()")
        rewards, terminated = self.game.play(actions, ~over)
        info = _masked(self.game.infos(), ~over)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            renewed = over
        elif self.autoreset_mode is AutoresetMode.SAME_STEP:
            renewed = terminated
        else:
            renewed = np.zeros(self.num_envs, np.bool_)
        if renewed.any():
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                info = _masked(self.game.infos(), ~renewed) | self._final(renewed)
            self._begin(renewed, [None] * self.num_envs)
            info["day"], info["_day"] = np.where(renewed, self.game.day, info.get("day", 0)), self._everyone.copy()
        return self._observation(), rewards, terminated, np.zeros(self.num_envs, np.bool_), info

    def render(self) -> tuple[Image, ...] | None:
        """A picture of each lane, as `TwoStageEnv.render`; None without a render_mode.

        Raises:
            UsageError: matplotlib is not installed.
        """
        if self.render_mode is None:
            return None
        return tuple(self._renderer.image(scene_of(self.game, lane)) for lane in range(self.num_envs))

    def _final(self, lanes: BoolArray) -> Info:
        """The last observation and info of episodes that ended and are restarted in the same step."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for lane in np.flatnonzero(lanes):
            final_obs[lane] = {name: values[lane].copy() for name, values in self.game.observations.items()}
        return _masked({"final_obs": final_obs, "final_info": self.game.infos()}, lanes)

    def _begin(self, lanes: BoolArray, rows: Sequence[int | None]) -> None:
        """Episodes on the days `rows` [B], drawn where None, in the lanes of the mask."""
        chosen = np.zeros(self.num_envs, np.int64)
        for lane in np.flatnonzero(lanes).tolist():
            row = rows[lane]
            chosen[lane] = self._days[lane].pop(self._rng(lane)) if row is None else row
        self.game.begin(lanes, chosen)
        self._begun |= lanes

    def _observation(self) -> Observation:
        return {name: values.copy() if self.copy else values for name, values in self.game.observations.items()}

    def _rng(self, lane: int) -> np.random.Generator:
        rng = self._rngs[lane]
        if rng is None:
            rng, self._seeds[lane] = seeding.np_random()
            self._rngs[lane] = rng
        return rng

    def _seed(self, seed: int | Sequence[int | None] | None, lanes: BoolArray) -> None:
        if seed is None:
            seeds: Sequence[int | None] = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            seeds = [int(seed) + lane for lane in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise UsageError(f"reset: {len(seeds)} seeds for {self.num_envs} lanes; give one for each")
        for lane in np.flatnonzero(lanes).tolist():
            one = seeds[lane]
            if one is not None:
                self._rngs[lane], self._seeds[lane] = seeding.np_random(int(one))

    def _mask(self, mask: Any) -> BoolArray:
        if mask is None:
            return self._everyone
        if not (isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (self.num_envs,)):
            raise UsageError(f"reset: reset_mask must be an array of {self.num_envs} bool")
        if not mask.any():
            raise UsageError("reset: reset_mask names no lane; set one of its entries")
        return mask


def _masked(info: Info, lanes: BoolArray) -> Info:
    """An info of arrays with leading axis B as Gymnasium wants it: zero in the other lanes, and a mask for each key."""
    if not lanes.any():
        return {}
    masked: Info = {}
    for name, value in info.items():
        if isinstance(value, dict):
            masked[name] = _masked(value, lanes)
        else:
            if value.dtype != object:
                value[~lanes] = 0
            masked[name] = value
        masked[f"_{name}"] = lanes.copy()
    return masked
