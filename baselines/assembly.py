"""Variables and rows of a mathematical program, block by block: numbered arrays in, vectors and sparse matrices out.

A block is an array of column or row numbers of any shape. What a program does not need is left out of a block and has
number -1 there; entries of such rows or columns vanish, so that the code that writes equations needs no cases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray

ABSENT = -1


def _number(shape: tuple[int, ...], present: BoolArray | None, first: int) -> tuple[IntArray, BoolArray]:
    """Consecutive numbers from `first` where `present`, ABSENT elsewhere; and where that is."""
    where = np.ones(shape, dtype=np.bool_) if present is None else np.broadcast_to(present, shape)
    numbers = np.full(shape, ABSENT, dtype=np.int64)
    numbers[where] = np.arange(first, first + np.count_nonzero(where))
    return numbers, where


@dataclass
class Variables:
    """Bounds and costs of the variables added so far."""

    size: int = 0
    _blocks: dict[str, list[FloatArray]] = field(
        default_factory=lambda: {"lower": [], "upper": [], "linear": [], "quadratic": []}
    )

    def add(
        self,
        shape: tuple[int, ...],
        *,
        lower: Any = 0.0,
        upper: Any = np.inf,
        linear: Any = 0.0,
        quadratic: Any = 0.0,
        present: BoolArray | None = None,
    ) -> IntArray:
        """Columns of a new block; bounds and costs (linear x + quadratic/2 x^2) broadcast to `shape`."""
        columns, where = _number(shape, present, self.size)
        given = {"lower": lower, "upper": upper, "linear": linear, "quadratic": quadratic}
        for name, values in given.items():
            self._blocks[name].append(np.broadcast_to(np.asarray(values, dtype=np.float64), shape)[where])
        self.size += self._blocks["lower"][-1].size
        return columns

    def vector(self, name: str) -> FloatArray:
        """All values of "lower", "upper", "linear" or "quadratic" [x]."""
        return np.concatenate(self._blocks[name])


@dataclass
class Rows:
    """A sparse matrix and its right-hand side, as added so far."""

    size: int = 0
    _rhs: list[FloatArray] = field(default_factory=list)
    _entries: list[tuple[IntArray, IntArray, FloatArray]] = field(default_factory=list)

    def add(self, rhs: FloatArray, present: BoolArray | None = None) -> IntArray:
        """Numbers of a new block of rows, of the shape of their right-hand sides."""
        rows, where = _number(rhs.shape, present, self.size)
        self._rhs.append(rhs[where])
        self.size += self._rhs[-1].size
        return rows

    def put(self, rows: IntArray, columns: IntArray, values: Any) -> None:
        """Entries of the matrix; the three broadcast against each other."""
        row, column, value = np.broadcast_arrays(rows, columns, np.asarray(values, dtype=np.float64))
        where = (row != ABSENT) & (column != ABSENT)
        self._entries.append((row[where], column[where], value[where]))

    def finish(self, num_columns: int) -> tuple[sp.csc_matrix, FloatArray]:
        """Matrix and right-hand side."""
        row, column, value = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        matrix = sp.csc_matrix((value, (row, column)), shape=(self.size, num_columns))
        return matrix, np.concatenate(self._rhs)
