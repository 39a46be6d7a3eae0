"""Stable-Baselines3's vector environment over the native batch: B communities in one process, no copies of them.

    from prosumer_gym.envs.sb3 import SB3VecEnv
    env = SB3VecEnv("ProsumerGym/RealTime-v0", num_envs=256, seed=0)

Nothing else here loads the library, which the extra `rl` brings. Axis letters: B lanes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from prosumer_gym.arrays import IntArray
from prosumer_gym.envs.game import Info
from prosumer_gym.envs.rendering import Image
from prosumer_gym.envs.single_face import checked_options
from prosumer_gym.envs.vector_face import VectorFace
from prosumer_gym.errors import UsageError

try:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn
except ImportError as error:
    raise UsageError(f"envs.sb3 needs Stable-Baselines3 ({error}); run pip install '.[rl]' in the checkout") from None

FLAT_IDS = ("ProsumerGym/RealTime-v0", "ProsumerGym/DayAhead-v0")
"""What can be named: observation and action are one array each."""

_OF_ONE_LANE = {"observation_space": "single_observation_space", "action_space": "single_action_space"}
"""What a single environment calls it, and what the batch does."""
_BY_LANE = ("np_random", "np_random_seed")


class SB3VecEnv(VecEnv):
    """B communities as Stable-Baselines3 wants them; lane i is the single environment with seed s + i, to the bit.

    An episode that ends is followed by the next in the same step; its last observation is in the info of its lane as
    `terminal_observation`. It ended by itself (`TimeLimit.truncated` is false): the horizon is inherent, and what
    remains of it is observed. Observations are the caller's own, rewards are float32, as from `DummyVecEnv`.

    Info is told of lanes whose episode ends, the last step's; other lanes get an empty dict. `told` has the rest.

    Args:
        env: one of `FLAT_IDS`, or a batch with autoreset in the same step whose observation and action are arrays.
        num_envs: B, for an id.
        seed: for the first reset, as by `seed()`.
        kwargs: of the environment, for an id.

    Raises:
        UsageError: an unknown id or one that is not flat, a batch that restarts otherwise or reuses its observations,
            arguments beside a batch, or what the environment says of its arguments.
    """

    told: Info
    """What the last step or reset told of all lanes, in arrays `[B]`: the info of `gymnasium.vector`."""

    def __init__(
        self, env: str | VectorFace[Any], num_envs: int | None = None, *, seed: int | None = None, **kwargs: Any
    ) -> None:
        self.batch = _named(env, num_envs, kwargs) if isinstance(env, str) else env
        _check(self.batch)
        if self.batch is env and (num_envs is not None or kwargs):
            raise UsageError(f"{min(kwargs, default='num_envs')}: the batch is made already; give its arguments to it")
        self._attributes: dict[str, dict[int, Any]] = {}
        self._actions: Any = None
        self.told = {}
        super().__init__(self.batch.num_envs, self.batch.single_observation_space, self.batch.single_action_space)
        if seed is not None:
            self.seed(seed)

    @property
    def spec(self) -> Any:
        """What the environment was made from, for logs; None for a batch that was not made by an id."""
        return self.batch.spec

    def reset(self) -> npt.NDArray[Any]:
        """Begin an episode in every lane `[B,.]`, with what `seed` and `set_options` said since the last reset.

        Raises:
            UsageError: an unknown option, options for another number of lanes, or a day that may not be played.
        """
        days = [checked_options(options).get("day") for options in self._options]
        observations: npt.NDArray[Any]
        observations, self.told = self.batch.reset(seed=self._seeds, options={"day": days})
        self.reset_infos = _of_lanes(self.told, np.arange(self.num_envs))
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """What `step_wait` will play `[B,.]`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One step of every lane.

        Raises:
            UsageError: actions that cannot be read; nothing has changed then.
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        observations, rewards, dones, _, self.told = self.batch.step(self._actions)
        infos: list[Info] = [{} for _ in range(self.num_envs)]  # each its own: wrappers write into them
        ended = np.flatnonzero(dones)
        if ended.size:
            self._tell_ends(infos, ended)
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Nothing is left open; may be called again."""
        self.batch.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute as a single environment has it, once for each lane.

        Raises:
            AttributeError: there is none.
        """
        lanes = self._lanes(indices)
        if attr_name in self._attributes:
            by_lane = self._attributes[attr_name]
            without = [lane for lane in lanes if lane not in by_lane]
            if without:
                raise AttributeError(f"lane {without[0]} has no attribute {attr_name!r}")
            return [by_lane[lane] for lane in lanes]
        value = getattr(self.batch, _OF_ONE_LANE.get(attr_name, attr_name))
        return [value[lane] for lane in lanes] if attr_name in _BY_LANE else [value] * len(lanes)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Attach something to lanes, for `get_attr`.

        Raises:
            UsageError: the environment has an attribute of that name; what it was made with cannot be changed.
        """
        if hasattr(self.batch, attr_name):
            raise UsageError(f"set_attr: {attr_name} is the environment's and fixed; make another environment")
        self._attributes.setdefault(attr_name, {}).update(dict.fromkeys(self._lanes(indices), value))

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """`render`, the picture of each lane; lanes have no other method of their own.

        Raises:
            UsageError: another method.
        """
        if method_name != "render" or method_args or kwargs:
            raise UsageError(
                f"env_method: the lanes of a batch cannot run {method_name} one by one; "
                "there is render, and for days of their own set_options([...]) and reset()"
            )
        images = self.batch.render()
        return [None if images is None else images[lane] for lane in self._lanes(indices)]

    def env_is_wrapped(
        self,
        wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]],  # noqa: ARG002 - none is inside
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """False for each lane: wrappers of single environments are not inside; wrap Stable-Baselines3's around."""
        return [False] * len(self._lanes(indices))

    def get_images(self) -> Sequence[Image | None]:
        """A picture of each lane; without a render_mode None for each, and a warning."""
        images: tuple[Image, ...] | None = self.batch.render()
        if images is None:
            warnings.warn("there are no pictures without a render_mode; make it with rgb_array", stacklevel=2)
            return [None] * self.num_envs
        return images

    def _tell_ends(self, infos: list[Info], ended: IntArray) -> None:
        """The last step's info of the lanes that ended, and with which day they went on."""
        last = _of_lanes(self.told["final_info"], ended)
        for lane, info, day in zip(ended.tolist(), last, self.told["day"][ended].tolist(), strict=True):
            terminal = self.told["final_obs"][lane]
            infos[lane] = {**info, "TimeLimit.truncated": False, "terminal_observation": terminal}
            self.reset_infos[lane] = {"day": day}

    def _lanes(self, indices: VecEnvIndices) -> list[int]:
        every = range(self.num_envs)
        return [every[index] for index in self._get_indices(indices)]


def _named(name: str, num_envs: int | None, kwargs: dict[str, Any]) -> VectorFace[Any]:
    """The batch of an id."""
    if name not in FLAT_IDS:
        reason = "has a dict as its action" if name == "ProsumerGym/TwoStage-v0" else "is unknown"
        raise UsageError(f"env: {name} {reason}; Stable-Baselines3 plays {' or '.join(FLAT_IDS)}")
    number: Any = num_envs  # the environment says what it may be
    batch: Any = gym.make_vec(name, number, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs)
    made: VectorFace[Any] = batch
    return made


def _check(batch: Any) -> None:
    """That Stable-Baselines3 can play it.

    Raises:
        UsageError: if not.
    """
    if not isinstance(batch, VectorFace):
        raise UsageError(f"env: a {type(batch).__name__} is neither an id nor a batch of prosumer_gym.envs")
    boxes = batch.single_observation_space, batch.single_action_space
    if not all(isinstance(space, spaces.Box) for space in boxes):
        raise UsageError(
            f"env: {type(batch).__name__} has dicts as observation and action; Stable-Baselines3 plays "
            f"{' or '.join(FLAT_IDS)}"
        )
    if batch.autoreset_mode is not AutoresetMode.SAME_STEP:
        raise UsageError(f"env: its autoreset_mode is {batch.autoreset_mode.value}; make it with SameStep")
    if not batch.copy:
        raise UsageError("copy: Stable-Baselines3 keeps observations while the next step is played; leave it True")


def _of_lanes(info: Info, lanes: IntArray) -> list[Info]:
    """For each of `lanes` what a single environment would have told, from arrays [B]; masks are left out."""
    columns = {
        name: _of_lanes(value, lanes) if isinstance(value, dict) else value[lanes].tolist()
        for name, value in info.items()
        if not name.startswith("_")
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
