"""The page on market mechanisms says what its days say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from prosumer_gym.mechanisms import MECHANISMS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "mechanisms.md"


def rows_of(kind: str) -> list[list[str]]:
    """Cells of the tables of a kind, without their heads."""
    text = PAGE.read_text(encoding="utf-8")
    tables = re.findall(rf"<!-- {kind}: .*? -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert tables
    return [line.strip("| ").split(" | ") for table in tables for line in table.splitlines()[2:]]


def test_the_days_played_again_give_the_same_tables() -> None:
    command = [sys.executable, ROOT / "docs" / "mechanisms.py", "--check", "tehran-v0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nobody_is_worse_off_by_central_offers_and_every_mechanism_is_listed() -> None:
    text, rows = PAGE.read_text(encoding="utf-8"), rows_of("trades")
    assert {row[-1] for row in rows if row[0] != "*nobody trades*"} == {"0.0 %"}
    for mechanism in MECHANISMS:
        assert f"| `{mechanism}` | " in text
        assert any(row[0] == f"`{mechanism}`" for row in rows)


def test_the_three_pools_cost_the_community_the_same() -> None:
    cost = {}
    for policy, mechanism, ct_per_day, *_ in rows_of("plans"):
        cost.setdefault(mechanism, []).append((policy, ct_per_day))
    assert cost["`mid-market-rate`"] == cost["`supply-demand-ratio`"] == cost["`double-auction`"]
