"""The tables of the pages say what the records say, and the records are whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prosumer_gym import leaderboard
from prosumer_gym.leaderboard.records import load_record
from prosumer_gym.leaderboard.score import score

ROOT = Path(__file__).resolve().parents[2]
RECORDS = sorted((Path(leaderboard.__path__[0]) / "results").glob("*.json"))


def test_the_pages_say_what_the_records_say() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "results.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_published_record_scores_to_what_it_says(path: Path) -> None:
    result = load_record(path).result
    runs = [run.metrics() for run in result.runs]
    assert score(result.policy.name, runs, result.yard()).j == pytest.approx(result.headline.j, abs=1e-12)
