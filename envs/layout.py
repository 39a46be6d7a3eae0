"""Flat observations: one table of named features, from which the Box, the slices and the documentation are made.

A feature stands as (value - offset) / scale. Scales and bounds are public constants of the data schema and of the
community, never read off the days. Axis letters: N prosumers, H hours of a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from prosumer_gym.arrays import FloatArray


@dataclass(frozen=True)
class Feature:
    """One entry of a table: some numbers of the observation that belong together."""

    name: str
    size: str
    """How many numbers, in terms of N and H."""
    unit: str
    low: float
    high: float
    """Bounds in that unit."""
    scale: str
    """What it is divided by, in words or as a number; "" for nothing."""
    description: str
    offset: float = 0.0
    """What is subtracted before that."""


@dataclass(frozen=True)
class Layout:
    """Where each feature stands, and the space of all of them."""

    slices: dict[str, slice]
    box: spaces.Box

    @property
    def size(self) -> int:
        """How many numbers an observation has."""
        return int(self.box.shape[0])


def make_layout(table: Sequence[Feature], sizes: Mapping[str, int], scales: Mapping[str, npt.ArrayLike]) -> Layout:
    """Lay the features of a table one after the other.

    Args:
        table: the features, in their order.
        sizes: how many numbers each expression in `Feature.size` means.
        scales: what each feature is divided by, a number or one for each of its numbers.
    """
    slices: dict[str, slice] = {}
    lows: list[FloatArray] = []
    highs: list[FloatArray] = []
    start = 0
    for feature in table:
        num = sizes[feature.size]
        slices[feature.name] = slice(start, start + num)
        start += num
        scale = np.broadcast_to(np.asarray(scales[feature.name], dtype=np.float64), (num,))
        lows.append((feature.low - feature.offset) / scale)
        highs.append((feature.high - feature.offset) / scale)
    low, high = (np.concatenate(parts).astype(np.float32) for parts in (lows, highs))
    return Layout(slices, spaces.Box(low, high, dtype=np.float32))


def divisor(limit: FloatArray) -> FloatArray:
    """A limit as a scale: 1 where it is zero, since there is nothing to be compared with it."""
    return np.where(limit > 0.0, limit, 1.0)


def sizes_of(num_prosumers: int, num_hours: int) -> dict[str, int]:
    """What the expressions in `Feature.size` mean."""
    return {"1": 1, "2": 2, "N": num_prosumers, "H": num_hours, "H/2": num_hours // 2, "NH": num_prosumers * num_hours}
