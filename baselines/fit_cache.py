"""Fits that were made before: what several policies learn alike is learned once.

A fit is found again by all that decides it: the digest of the history, the function and its parameters, the source of
the package, the versions of the libraries and the kind of processor. Whether it was computed or found, what is handed
out is a pickled copy, so that no result depends on what was run before. Fits lie in the folder named by the environment
variable PROSUMER_GYM_CACHE, else in the platform's usual place. Where that cannot be written, or a file is broken, they
are computed as if there were none.

Why not joblib.Memory: it throws away the fits of another version of this file, and tells of a broken file by a
traceback; a file a fit, written at once or not at all, needs neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import pickle
import platform
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import platformdirs
import scipy.linalg  # noqa: F401 - its linear algebra is asked for the kind of processor
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

from prosumer_gym.datasets.schema import Dataset

HOME_VARIABLE = "PROSUMER_GYM_CACHE"
SIZE_LIMIT_BYTES = 500 * 2**20
"""Beyond it, what was not used for longest is thrown away."""

_ROOMS = ("prosumer_gym", "prosumer_gym.datasets", "prosumer_gym.baselines")
_LIBRARIES = ("numpy", "scipy", "scikit-learn")
_SEAL_BYTES = hashlib.sha256().digest_size

T = TypeVar("T")


def cache_home() -> Path:
    """The folder of the fits; it need not exist."""
    named = os.environ.get(HOME_VARIABLE)
    return (Path(named) if named else Path(platformdirs.user_cache_dir("prosumer-gym"))) / "fits"


def cached(function: Callable[..., T], history: Dataset, **parameters: bool | int | float | str) -> T:
    """`function(history, **parameters)`, computed on one thread or found.

    The function depends on nothing else, and its result can be pickled. What it raises is raised.
    """
    path = cache_home() / fit_key(function, history, **parameters)
    content = _found(path)
    if content is None:
        with threadpool_limits(1):  # another number of threads may sum in another order
            content = pickle.dumps(function(history, **parameters))
        _keep(path, content)
    result: T = pickle.loads(content)
    return result


def fit_key(function: Callable[..., object], history: Dataset, **parameters: bool | int | float | str) -> str:
    """Digest of all that decides a fit."""
    decisive = {
        "function": f"{function.__module__}.{function.__qualname__}",
        "history": [history.id, history.manifest.sha256],
        "parameters": parameters,
        "circumstances": _circumstances(),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


@cache
def source_digest() -> str:
    """SHA-256 of the source of world, data sets and baselines."""
    sha = hashlib.sha256()
    for room in _ROOMS:
        for path in sorted(Path(importlib.import_module(room).__path__[0]).glob("*.py")):
            sha.update(f"{room}/{path.name}\n".encode() + path.read_bytes())
    return sha.hexdigest()


@cache
def _circumstances() -> list[str]:
    """What the last bit of a fit may depend on besides data and parameters."""
    versions = [f"{name} {version(name)}" for name in _LIBRARIES]
    kernels = sorted({str(part["architecture"]) for part in threadpool_info() if "architecture" in part})
    return [source_digest(), platform.python_version(), platform.machine(), *versions, *kernels]


def _found(path: Path) -> bytes | None:
    """The content of a file whose seal is whole."""
    try:
        stored = path.read_bytes()
        content = stored[_SEAL_BYTES:]
        if stored[:_SEAL_BYTES] != hashlib.sha256(content).digest():
            return None
        os.utime(path)  # it was used
    except OSError:
        return None
    return content


def _keep(path: Path, content: bytes) -> None:
    """Write the file, whole or not at all, and make room for it."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
        _make_room(path.parent)


def _make_room(folder: Path) -> None:
    files = sorted(((p.stat().st_mtime, p.stat().st_size, p) for p in folder.iterdir()), reverse=True)
    size = 0
    for _, bytes_, path in files:
        size += bytes_
        if size > SIZE_LIMIT_BYTES:
            path.unlink(missing_ok=True)
