"""Explicit vectors for kernels: LANES numbers that are added, multiplied and stored at once.

A loop over lanes becomes vector instructions only if the compiler can prove that its arrays do not overlap, and it
decides anew, silently, for every loop. Here the source says it: a `Vector` is one value, `a * b` is one multiplication
of LANES numbers, and the compiler only chooses how many registers that takes (two with AVX-512, four with AVX2).

Two things follow. Lanes cannot touch each other, since no operation mixes them. And a kernel compiled with `exact` has
the same bits wherever it is called from, and on every machine: nothing is reordered, and a product and a sum are
rounded as one only where `fma` is written, so IEEE 754 leaves no choice.

A `Vector` lives in compiled code only. W is the width of an array in lanes, a multiple of LANES.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # no types are published
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from prosumer_gym.arrays import FloatArray

LANES = 16  # 8 starve the pipelines of one core, 32 do not fit in the registers of AVX2
_BYTES_OF_A_LINE = 64  # of cache: a vector that straddles two lines is loaded at half the speed

# numba's functions carry no types
cgutils: Any = _cgutils
primitive_model: Any = models.PrimitiveModel
type_for: Any = type_callable
lower_for: Any = lower_builtin

_Function = TypeVar("_Function", bound=Callable[..., Any])
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_EXACT: Any = {"cache": True, "error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
_LEAN: Any = {**_EXACT, "_nrt": False}
_ALIGNMENT = 8  # promised to the compiler: an array of float64 that comes from anywhere


class Vector:
    """LANES numbers, to the eye of a type checker."""

    def __add__(self, other: Vector) -> Vector:
        raise NotImplementedError

    def __sub__(self, other: Vector) -> Vector:
        raise NotImplementedError

    def __mul__(self, other: Vector) -> Vector:
        raise NotImplementedError

    def __neg__(self) -> Vector:
        raise NotImplementedError


class VectorType(types.Type):
    """LANES numbers, to the eye of the compiler."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector({LANES})")


_vector = VectorType()


def exact(function: _Function) -> _Function:
    """Compile `function` for one thread, with every operation as it is written."""
    return cast(_Function, numba.njit(**_EXACT)(function))


def lean(function: _Function) -> _Function:
    """Compile like `exact`, but without numba's runtime: the function cannot allocate, or it does not compile.

    Nor does it count references, which costs more than the arithmetic where arrays are handed on in tuples.
    """
    return cast(_Function, numba.njit(**_LEAN)(function))


def inner(function: _Function) -> _Function:
    """Compile like `lean`, to be called from compiled code only: the way in from Python takes time to compile too."""
    options: Any = {**_LEAN, "no_cpython_wrapper": True}
    return cast(_Function, numba.njit(**options)(function))


def inlined(function: _Function) -> _Function:
    """Write `function` into its `lean` callers; to compile it by itself would take time and gain nothing."""
    options: Any = {"error_model": "numpy", "nogil": True, "_nrt": False, "inline": "always"}
    return cast(_Function, numba.njit(**options)(function))


def aligned(num_rows: int, width: int = LANES) -> FloatArray:
    """[num_rows, width] zeros that start on a line of the cache; no row straddles one if `width` is a multiple of 8."""
    spare = _BYTES_OF_A_LINE // 8
    memory = np.zeros(num_rows * width + spare)
    skip = -(memory.ctypes.data // 8) % spare
    return memory[skip : skip + num_rows * width].reshape(num_rows, width)


def _model(data_model_manager: Any, frontend_type: Any) -> Any:
    return primitive_model(data_model_manager, frontend_type, _VECTOR)


register_model(VectorType)(_model)


def _is_vector(kind: Any) -> bool:
    return isinstance(kind, VectorType)


def _operator(symbol: Any, instruction: str, num_operands: int) -> None:
    """Teach the compiler an operator between vectors."""

    def type_of(_context: Any) -> Any:
        if num_operands == 1:
            return lambda a: _vector if _is_vector(a) else None
        return lambda a, b: _vector if _is_vector(a) and _is_vector(b) else None

    def lower(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return getattr(builder, instruction)(*operands)

    type_for(symbol)(type_of)
    lower_for(symbol, *[VectorType] * num_operands)(lower)


_operator(operator.add, "fadd", 2)
_operator(operator.sub, "fsub", 2)
_operator(operator.mul, "fmul", 2)
_operator(operator.neg, "fneg", 1)


def _place(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
    """Address of array[row, column] for operands (array, row, column, ...)."""
    array = context.make_array(signature.args[0])(context, builder, operands[0])
    index = [context.cast(builder, operands[n], signature.args[n], types.intp) for n in (1, 2)]
    place = cgutils.get_item_pointer(context, builder, signature.args[0], array, index, wraparound=False)
    return builder.bitcast(place, _VECTOR.as_pointer())


def _is_matrix(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 2 and array.layout == "C" and array.dtype is types.float64


def _load(_context: Any, array: Any, row: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return builder.load(_place(context, builder, signature, operands), align=_ALIGNMENT)

    return (_vector(array, row, column), generate) if _is_matrix(array) else None


def _store(_context: Any, array: Any, row: Any, column: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        builder.store(operands[3], _place(context, builder, signature, operands), align=_ALIGNMENT)
        return context.get_dummy_value()

    return (types.void(array, row, column, value), generate) if _is_matrix(array) and _is_vector(value) else None


def _spread(_context: Any, number: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        index = ir.VectorType(ir.IntType(32), LANES)
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, operands[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(index, [0] * LANES))

    return (_vector(number), generate) if number is types.float64 else None


def _llvm_function(name: str, num_operands: int) -> Callable[..., Any]:
    def of(_context: Any, *operand_types: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
            kind = ir.FunctionType(_VECTOR, [_VECTOR] * num_operands)
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)

        return (_vector(*operand_types), generate) if all(map(_is_vector, operand_types)) else None

    return of


def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    return _llvm_function(f"llvm.fma.v{LANES}f64", 3)(context, a, b, c)


def _magnitude(context: Any, a: Any) -> Any:
    return _llvm_function(f"llvm.fabs.v{LANES}f64", 1)(context, a)


def _where(_context: Any, flag: Any, a: Any, b: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        mask = builder.fcmp_unordered("!=", operands[0], ir.Constant(_VECTOR, [0.0] * LANES))
        return builder.select(mask, operands[1], operands[2])

    return (_vector(flag, a, b), generate) if all(map(_is_vector, (flag, a, b))) else None


# array[row, column : column + LANES] of a C-contiguous [rows, W] array of float64; the caller keeps inside it
load = cast(Callable[[FloatArray, int, int], Vector], intrinsic(_load))
store = cast(Callable[[FloatArray, int, int, Vector], None], intrinsic(_store))
# one number in every lane
spread = cast(Callable[[float], Vector], intrinsic(_spread))
# a * b + c, rounded once
fma = cast(Callable[[Vector, Vector, Vector], Vector], intrinsic(_fma))
# |a|
magnitude = cast(Callable[[Vector], Vector], intrinsic(_magnitude))
# a where the flag is not zero, else b
where = cast(Callable[[Vector, Vector, Vector], Vector], intrinsic(_where))
