"""Every id with every mechanism it takes, and how the tests of their one contract play them.

Axes: B lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from support import tiny_dataset

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import day_ahead, real_time, single, two_stage, vector
from prosumer_gym.envs.game import Note
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.scenarios import make_scenario

MODES = [mode.value for mode in AutoresetMode]
SHORT_HOURS = 6
"""Hours of the short days: whole episodes in a few steps."""


@dataclass(frozen=True)
class Case:
    """One id, settled by one mechanism."""

    name: str
    mechanism: str | None
    """None for the community's own."""
    single: Callable[..., Any]
    vector: Callable[..., Any]
    notes: tuple[Note, ...]
    """Table of the info of a step."""
    steps_beside_hours: int | None
    """Steps of a day beside its hours; None where a day is one step."""

    def __str__(self) -> str:
        return self.name if self.mechanism is None else f"{self.name}-{self.mechanism}"

    @property
    def id(self) -> str:
        return f"ProsumerGym/{self.name}-v0"

    @property
    def kwargs(self) -> dict[str, Any]:
        return {} if self.mechanism is None else {"mechanism": self.mechanism}

    @property
    def is_flat(self) -> bool:
        return self.name != "TwoStage"

    def steps_of(self, days: int, hours: int) -> int:
        """Steps of an episode."""
        return days * (1 if self.steps_beside_hours is None else hours + self.steps_beside_hours)

    def make(self, *arguments: Any, **kwargs: Any) -> Any:
        """The single environment, as it is."""
        return self.single(*arguments, **self.kwargs, **kwargs)

    def make_vec(self, num_envs: int, *arguments: Any, **kwargs: Any) -> Any:
        """The batch."""
        return self.vector(num_envs, *arguments, **self.kwargs, **kwargs)

    def make_by_name(self, **kwargs: Any) -> Any:
        """What `gymnasium.make` makes, its checker included."""
        return gym.make(self.id, **self.kwargs, **kwargs)


IDS = [
    Case("TwoStage", None, single.TwoStageEnv, vector.TwoStageVectorEnv, two_stage.INFO_TABLE, 1),
    Case("RealTime", None, single.RealTimeEnv, vector.RealTimeVectorEnv, real_time.INFO_TABLE, 0),
    Case("DayAhead", None, single.DayAheadEnv, vector.DayAheadVectorEnv, day_ahead.INFO_TABLE, None),
]
CASES = [
    Case(each.name, mechanism, each.single, each.vector, each.notes, each.steps_beside_hours)
    for each in IDS
    for mechanism in (MECHANISMS if each.name != "DayAhead" else [None])
]

every_id = pytest.mark.parametrize("case", IDS, ids=str)
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def short_days(community: Community | None = None) -> dict[str, Any]:
    """Arguments for days of six hours."""
    community = make_scenario("ieee33") if community is None else community
    return {
        "dataset": tiny_dataset(num_days=15, num_prosumers=community.num_prosumers, hours=SHORT_HOURS),
        "scenario": community.replace(hours_per_day=SHORT_HOURS),
    }


def random_action(space: spaces.Space[Any], rng: np.random.Generator, spread: float = 1.2) -> Any:
    """Numbers a little beyond [-1, 1], of the space's shape and type."""
    if isinstance(space, spaces.Dict):
        return {name: random_action(part, rng, spread) for name, part in space.spaces.items()}
    assert isinstance(space, spaces.Box)
    return rng.uniform(-spread, spread, space.shape).astype(space.dtype)


def lanes_of(batch: Any, lanes: Any) -> Any:
    """Some lanes of arrays that lead with B, and of dicts of them."""
    if isinstance(batch, dict):
        return {name: lanes_of(values, lanes) for name, values in batch.items()}
    return batch[lanes]


def numbers_of(data: Any) -> Iterator[np.ndarray]:
    """All arrays of an observation, also of a dict."""
    for values in data.values() if isinstance(data, dict) else [data]:
        yield np.asarray(values)


def assert_same(one: Any, two: Any, where: str = "") -> None:
    """Same types, keys, shapes and bits, all the way down; the message names the place."""
    assert type(one) is type(two), f"{where}: {type(one)} and {type(two)}"
    if isinstance(one, dict):
        assert one.keys() == two.keys(), f"{where}: {sorted(one)} and {sorted(two)}"
        for key in one:
            assert_same(one[key], two[key], f"{where}[{key!r}]")
    elif isinstance(one, tuple | list):
        assert len(one) == len(two), where
        for k, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_same(a, b, f"{where}[{k}]")
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape), where
        if one.dtype == object:
            assert_same(list(one), list(two), where)
        else:
            assert one.tobytes() == two.tobytes(), f"{where}: {one.tolist()} and {two.tolist()}"
    else:
        assert one == two, f"{where}: {one} and {two}"


def copied(data: Any) -> Any:
    """A copy all the way down."""
    if isinstance(data, dict):
        return {key: copied(value) for key, value in data.items()}
    if isinstance(data, tuple | list):
        return type(data)(copied(value) for value in data)
    if isinstance(data, np.ndarray) and data.dtype == object:
        values = np.empty(data.shape, object)
        values[:] = [copied(value) for value in data]
        return values
    return data.copy() if isinstance(data, np.ndarray) else data


Planner = Callable[[dict[str, np.ndarray]], np.ndarray]


def sensitive_planner(observation: dict[str, np.ndarray]) -> np.ndarray:
    """A position, kW [N,H], every number of which depends on every number that is seen."""
    total = sum(float(np.sin(values).sum()) for values in observation.values())
    shape = observation["position_kw"].shape
    return 40.0 * np.sin(total + np.arange(shape[0] * shape[1], dtype=np.float64)).reshape(shape)


def dataset_of(env: Any) -> Dataset:
    """The days that an environment plays."""
    dataset: Dataset = env.unwrapped.dataset
    return dataset
