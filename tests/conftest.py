"""A cache of compiled code of its own for every state of the kernels' sources.

numba compiles a kernel again when its own file has changed, but does not see that a function it calls, in another file,
has. With the usual cache a test could pass on yesterday's physics.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path


def _kernels_digest() -> str:
    digest = hashlib.sha256()
    for package in ("prosumer_gym", "prosumer_gym.envs"):
        spec = find_spec(package)
        assert spec is not None
        for folder in spec.submodule_search_locations or ():
            for path in sorted(Path(folder).glob("*.py")):
                source = path.read_bytes()
                if re.search(rb"njit|^@(inlined|lean|exact|compiled)", source, re.MULTILINE):
                    digest.update(path.name.encode() + source)
    return digest.hexdigest()[:16]


_CACHES = Path(__file__).parent.parent / ".pytest_cache" / "numba"
os.environ.setdefault("NUMBA_CACHE_DIR", str(_CACHES / _kernels_digest()))

# Fits and tuned parameters of whoever runs the tests are neither read nor written.
_OWN = tempfile.TemporaryDirectory(prefix="prosumer-gym-tests-")
os.environ["PROSUMER_GYM_CACHE"] = str(Path(_OWN.name) / "cache")
os.environ["PROSUMER_GYM_TUNED"] = str(Path(_OWN.name) / "tuned")
