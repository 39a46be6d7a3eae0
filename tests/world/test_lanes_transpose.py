from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prosumer_gym.lanes import LANES, aligned, lean
from prosumer_gym.lanes_transpose import COLUMNS, padded, padded_columns, to_lanes, to_rows


@lean
def turn_in(table: Any, rows: Any, lanes: Any) -> None:
    for column in range(0, table.shape[1], COLUMNS):
        to_lanes(table, rows, column, lanes, column)


@lean
def turn_out(lanes: Any, table: Any, first: int, shift: int) -> None:
    for row in range(0, lanes.shape[0], COLUMNS):
        to_rows(lanes, row, table, first, row + shift)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("num_columns", [8, 40])
def test_rows_become_lanes_and_lanes_rows(dtype: Any, num_columns: int) -> None:
    rng = np.random.default_rng(0)
    table, rows = rng.normal(size=(50, num_columns)).astype(dtype), rng.integers(0, 50, LANES)
    lanes = aligned(num_columns)
    turn_in(table, rows, lanes)
    assert np.array_equal(lanes, table[rows].T)
    back = np.zeros((LANES + 7, num_columns + 3), dtype)
    turn_out(lanes, back, 5, 2)
    assert np.array_equal(back[5 : 5 + LANES, 2:-1], table[rows])
    back[5 : 5 + LANES, 2:-1] = 0.0
    assert not back.any(), "something was written beyond the rows and columns"


def test_a_number_is_rounded_to_single_precision_as_numpy_rounds_it() -> None:
    lanes = aligned(COLUMNS)
    lanes[:] = np.random.default_rng(1).normal(size=lanes.shape) * 10.0 ** np.arange(-20, 20, 5)[:, np.newaxis]
    rows = np.zeros((LANES, COLUMNS), np.float32)
    turn_out(lanes, rows, 0, 0)
    assert np.array_equal(rows, lanes.T.astype(np.float32))


def test_a_table_is_widened_with_zeros() -> None:
    assert [padded_columns(num) for num in (1, 8, 9, 66)] == [8, 8, 16, 72]
    table = np.arange(6.0).reshape(2, 3)
    assert padded(table).shape == (2, 8)
    assert np.array_equal(padded(table)[:, :3], table)
    assert not padded(table)[:, 3:].any()
