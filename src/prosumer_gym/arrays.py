"""Array types of the world, and the one way to make arrays read-only and keep them so."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def frozen(values: npt.ArrayLike, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """A read-only, C-contiguous copy of `values`."""
    array = np.array(values, dtype=dtype, order="C", copy=True)
    array.setflags(write=False)
    return array


def real_numbers(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A user's numbers, C-contiguous; without a copy if they are that already.

    Raises:
        TypeError, ValueError: they are no array of real numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise TypeError("complex numbers, of which the imaginary part would be lost; give real ones")
    return np.asarray(array, dtype=dtype, order="C")


class FrozenArrays:
    """A base of frozen dataclasses whose arrays stay read-only when they are pickled.

    Pickling loses the flag; besides the protection, kernels would be compiled again for arrays that can be written.
    What the object has worked out meanwhile (cached properties) does not travel.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)
