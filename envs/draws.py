"""Which day an episode begins with: each day of the split once, in random order, then again in another order.

Axis letters: B lanes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import IntArray


class DayDraws:
    """First days of the episodes of B lanes.

    A lane's generator draws the order of a whole round at a time, so that thousands of lanes are served at once.

    Args:
        first_days: rows on which an episode may begin.
        num_lanes: B.
    """

    def __init__(self, first_days: IntArray, num_lanes: int) -> None:
        self._first_days = first_days
        num = len(first_days)
        self._order: npt.NDArray[np.unsignedinteger] = np.zeros((num_lanes, num), np.min_scalar_type(num))
        self._next = np.full(num_lanes, num)

    def forget(self, lane: int) -> None:
        """The lane begins a new round: its generator is another one."""
        self._next[lane] = len(self._first_days)

    def draw(self, lanes: IntArray, generator_of: Callable[[int], np.random.Generator]) -> IntArray:
        """The next first day of each of `lanes`; a lane whose round is over draws another by its generator."""
        num = len(self._first_days)
        for lane in lanes[self._next[lanes] == num].tolist():
            self._order[lane] = generator_of(lane).permutation(num)
            self._next[lane] = 0
        rows: IntArray = self._first_days[self._order[lanes, self._next[lanes]]]
        self._next[lanes] += 1
        return rows
