"""The tables of the pages say what the records say, and the records are whole."""

from __future__ import annotations

import importlib.util
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


def test_a_table_of_longer_episodes_takes_their_records_only() -> None:
    spec = importlib.util.spec_from_file_location("results", ROOT / "docs" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    days = [load_record(path) for path in RECORDS if path.name.startswith("tehran-v0.ieee33.test90.both.")]
    result = days[0].result
    months = result.model_copy(update={"dataset": result.dataset.model_copy(update={"days_per_episode": 30})})
    records = [*days, days[0].model_copy(update={"result": months})]

    def lines(marker: str) -> int:
        text = f"<!-- scores: tehran-v0 test mpc{marker} short -->\n<!-- end of scores -->\n"
        return len(page.filled(text, records).splitlines()) - 4  # two comments, two lines of headings

    assert lines(" 30-day") == 1
    assert lines("") == lines(" 1-day") == len(days)
    with pytest.raises(SystemExit, match="no record of tehran-v0 test mpc, 7 days an episode"):
        lines(" 7-day")
