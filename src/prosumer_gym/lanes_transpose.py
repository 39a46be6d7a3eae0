"""From rows to lanes and back: eight columns of the rows of LANES lanes at a time, turned in registers.

Tables, actions and observations hold a row for each lane, kernels want a number of all lanes side by side. To copy one
number after the other takes as long as half an hour's physics. Axis letter: S columns of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]  # no types are published
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.lanes import LANES

COLUMNS = 8
"""How many columns are turned at once."""

cgutils: Any = _cgutils  # numba's functions carry no types

_INDEX = ir.IntType(32)
_NUMBERS = {types.float64: ir.DoubleType(), types.float32: ir.FloatType()}
_EIGHT = ir.VectorType(ir.DoubleType(), COLUMNS)


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight vectors whose entry j of vector k is entry k of vector j of `rows`."""
    rows = list(rows)
    for step in (1, 2, 4):
        places = [j for j in range(COLUMNS) if not j & step]
        low = ir.Constant(ir.VectorType(_INDEX, COLUMNS), [j if not j & step else j - step + 8 for j in range(COLUMNS)])
        high = ir.Constant(
            ir.VectorType(_INDEX, COLUMNS), [j + step if not j & step else j + 8 for j in range(COLUMNS)]
        )
        for j in places:
            first, second = rows[j], rows[j + step]
            rows[j] = builder.shuffle_vector(first, second, low)
            rows[j + step] = builder.shuffle_vector(first, second, high)
    return rows


def _address(context: Any, builder: Any, kind: Any, array: Any, row: Any, column: Any) -> Any:
    """Address of array[row, column], as that of eight numbers."""
    made = context.make_array(kind)(context, builder, array)
    place = cgutils.get_item_pointer(context, builder, kind, made, [row, column], wraparound=False)
    return builder.bitcast(place, ir.VectorType(_NUMBERS[kind.dtype], COLUMNS).as_pointer())


def _is_matrix(kind: Any, *numbers: Any) -> bool:
    return isinstance(kind, types.Array) and kind.ndim == 2 and kind.layout == "C" and kind.dtype in numbers


def _is_list_of_rows(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.ndim == 1 and kind.layout == "C" and kind.dtype is types.int64


def _to_lanes(_context: Any, source: Any, rows: Any, column: Any, target: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        from_kind, rows_kind, _, to_kind, _ = signature.args
        column, row = (context.cast(builder, operands[k], signature.args[k], types.intp) for k in (2, 4))
        made_rows = context.make_array(rows_kind)(context, builder, operands[1])
        lanes = []
        for j in range(LANES):
            index = [context.get_constant(types.intp, j)]
            place = cgutils.get_item_pointer(context, builder, rows_kind, made_rows, index, wraparound=False)
            address = _address(context, builder, from_kind, operands[0], builder.load(place), column)
            values = builder.load(address, align=from_kind.dtype.bitwidth // 8)
            lanes.append(values if from_kind.dtype is types.float64 else builder.fpext(values, _EIGHT))
        for half in range(0, LANES, COLUMNS):
            for k, values in enumerate(_turned(builder, lanes[half : half + COLUMNS])):
                to_row = builder.add(row, context.get_constant(types.intp, k))
                to_column = context.get_constant(types.intp, half)
                builder.store(values, _address(context, builder, to_kind, operands[3], to_row, to_column), align=8)
        return context.get_dummy_value()

    fits = _is_matrix(source, *_NUMBERS) and _is_list_of_rows(rows) and _is_matrix(target, types.float64)
    return (types.void(source, rows, column, target, row), generate) if fits else None


def _to_rows(_context: Any, source: Any, row: Any, target: Any, first: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        from_kind, _, to_kind, _, _ = signature.args
        row, first, column = (context.cast(builder, operands[k], signature.args[k], types.intp) for k in (1, 3, 4))
        for half in range(0, LANES, COLUMNS):
            columns = []
            for k in range(COLUMNS):
                from_row = builder.add(row, context.get_constant(types.intp, k))
                place = _address(
                    context, builder, from_kind, operands[0], from_row, context.get_constant(types.intp, half)
                )
                columns.append(builder.load(place, align=8))
            for j, values in enumerate(_turned(builder, columns)):
                lane = builder.add(first, context.get_constant(types.intp, half + j))
                number = _NUMBERS[to_kind.dtype]
                if to_kind.dtype is types.float32:
                    values = builder.fptrunc(values, ir.VectorType(number, COLUMNS))
                address = _address(context, builder, to_kind, operands[2], lane, column)
                builder.store(values, address, align=to_kind.dtype.bitwidth // 8)
        return context.get_dummy_value()

    fits = _is_matrix(source, types.float64) and _is_matrix(target, *_NUMBERS)
    return (types.void(source, row, target, first, column), generate) if fits else None


# target[row + k, j] = source[rows[j], column + k] for the LANES lanes j and the next COLUMNS columns k
to_lanes = cast(Callable[[npt.NDArray[Any], IntArray, int, FloatArray, int], None], intrinsic(_to_lanes))
# target[first + j, column + k] = source[row + k, j]
to_rows = cast(Callable[[FloatArray, int, npt.NDArray[Any], int, int], None], intrinsic(_to_rows))


def padded_columns(num: int) -> int:
    """The least number of columns from `num` on that can be turned without a rest."""
    return -(-num // COLUMNS) * COLUMNS


def padded(table: FloatArray) -> FloatArray:
    """A copy of a table `[.,S]` whose columns can be turned without a rest, zero beyond."""
    rows, num = table.shape
    wide = np.zeros((rows, padded_columns(num)), table.dtype)
    wide[:, :num] = table
    return wide
