"""More for explicit vectors: comparisons and division, which clipping needs, and arrays with one axis more.

Lane by lane, like everything in `lanes`, and with the bits that IEEE 754 prescribes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]  # no types are published
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

from prosumer_gym.arrays import FloatArray
from prosumer_gym.lanes import LANES, Vector, VectorType

cgutils: Any = _cgutils  # numba's functions carry no types

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


def _binary(generate: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """An operation on two vectors from the function that builds its instructions."""

    def of(_context: Any, a: Any, b: Any) -> Any:
        def lower(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
            return generate(builder, *operands)

        return (a(a, b), lower) if isinstance(a, VectorType) and isinstance(b, VectorType) else None

    return of


def _lesser(_context: Any, a: Any, b: Any) -> Any:
    return _binary(lambda builder, x, y: builder.select(builder.fcmp_ordered("<", x, y), x, y))(_context, a, b)


def _greater(_context: Any, a: Any, b: Any) -> Any:
    return _binary(lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))(_context, a, b)


def _exceeds(_context: Any, a: Any, b: Any) -> Any:
    def generate(builder: Any, x: Any, y: Any) -> Any:
        return builder.uitofp(builder.fcmp_ordered(">", x, y), _VECTOR)

    return _binary(generate)(_context, a, b)


def _ratio(_context: Any, a: Any, b: Any) -> Any:
    return _binary(lambda builder, x, y: builder.fdiv(x, y))(_context, a, b)


def _place(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
    """Address of array[group, row, column] for operands (array, group, row, column, ...)."""
    array = context.make_array(signature.args[0])(context, builder, operands[0])
    index = [context.cast(builder, operands[n], signature.args[n], types.intp) for n in (1, 2, 3)]
    place = cgutils.get_item_pointer(context, builder, signature.args[0], array, index, wraparound=False)
    return builder.bitcast(place, _VECTOR.as_pointer())


def _is_cube(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 3 and array.layout == "C" and array.dtype is types.float64


def _load3(_context: Any, array: Any, group: Any, row: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return builder.load(_place(context, builder, signature, operands), align=8)

    return (VectorType()(array, group, row, column), generate) if _is_cube(array) else None


def _store3(_context: Any, array: Any, group: Any, row: Any, column: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        builder.store(operands[4], _place(context, builder, signature, operands), align=8)
        return context.get_dummy_value()

    is_right = _is_cube(array) and isinstance(value, VectorType)
    return (types.void(array, group, row, column, value), generate) if is_right else None


# array[group, row, column : column + LANES] of a C-contiguous array of float64; the caller keeps inside it
load3 = cast(Callable[[FloatArray, int, int, int], Vector], intrinsic(_load3))
store3 = cast(Callable[[FloatArray, int, int, int, Vector], None], intrinsic(_store3))
# the smaller of two, b where they cannot be compared
lesser = cast(Callable[[Vector, Vector], Vector], intrinsic(_lesser))
# the larger of two, b where they cannot be compared
greater = cast(Callable[[Vector, Vector], Vector], intrinsic(_greater))
# 1 where a > b, else 0
exceeds = cast(Callable[[Vector, Vector], Vector], intrinsic(_exceeds))
# a / b
ratio = cast(Callable[[Vector, Vector], Vector], intrinsic(_ratio))
