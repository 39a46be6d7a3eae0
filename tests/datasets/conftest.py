from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL_DATA = "PROSUMER_GYM_REAL_DATA"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the public files that the project does not contain; tests that need it skip where it is not."""
    named = os.environ.get(REAL_DATA)
    folder = Path(named) if named else Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the Cambridge and GB files are not at hand (name their folder in {REAL_DATA})")
    return folder
