"""How the kernels of the world are compiled, said once.

- `error_model="numpy"`: the check for a division by zero would keep loops over lanes from being vectorised.
- fastmath without `nnan` and `ninf`: NaN and infinity survive, so a power flow that collapses can be seen.
- `nogil`: blocks of lanes may run on several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "nogil": True,
}


def compiled(function: _Function) -> _Function:
    """Compile `function` for one thread."""
    return cast(_Function, numba.njit(**_OPTIONS)(function))


def compiled_parallel(function: _Function) -> _Function:
    """Compile `function` so that its `numba.prange` loops run on several threads."""
    return cast(_Function, numba.njit(parallel=True, **_OPTIONS)(function))
