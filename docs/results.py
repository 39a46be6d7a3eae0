"""Writes the tables of scores into README.md and docs/results.md from the records in leaderboard/results/.

    python docs/results.py             # write
    python docs/results.py --check     # exit 1 where a page does not say what the records say

Records come from `prosumer-gym bench`; the pages name the commands. A table stands between two comments:
`<!-- scores: DATASET SPLIT MODE [N-day] [short] -->` and `<!-- end of scores -->`; N is the days of an episode.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from prosumer_gym import leaderboard
from prosumer_gym.leaderboard.records import Record, load_record
from prosumer_gym.leaderboard.score import details

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(leaderboard.__path__[0]) / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
_TABLE = re.compile(
    r"(<!-- scores: (\S+) (\S+) (\S+)(?: (\d+)-day)?( short)? -->\n).*?(<!-- end of scores -->)", re.DOTALL
)

SHORT = ("J", "95 % interval", "S cost", "S peak", "S voltage", "ct/day", "peak, kW", "bus-hours outside")
LONG = (*SHORT, "PAR", "peak ratio", "V, p.u. h/day", "s/day")


def board(records: Sequence[Record], dataset: str, split: str, mode: str, days_per_episode: int = 1) -> list[Record]:
    """The records of one board, best J first; reference and oracle rows stand on both boards."""
    chosen = [
        record
        for record in records
        if (record.result.dataset.id, record.result.dataset.split) == (dataset, split)
        and record.result.mode in (mode, "both")
        and record.result.dataset.days_per_episode == days_per_episode
    ]
    if not chosen:
        raise SystemExit(
            f"no record of {dataset} {split} {mode}, {days_per_episode} days an episode, in {RESULTS}; "
            "run: prosumer-gym bench"
        )
    return sorted(chosen, key=lambda record: -(record.result.headline.j or 0.0))


def cells(record: Record) -> dict[str, str]:
    """One line of a table."""
    result = record.result
    runs = [run.metrics() for run in result.runs]
    found = {item.name: item.value for item in details(runs, result.yard())}
    headline = result.headline
    interval = (
        "" if headline.j_low is None or headline.j_high is None else f"{headline.j_low:.3f} to {headline.j_high:.3f}"
    )
    scores = {name: _score(value) for name, value in headline.s.items()}
    return {
        "J": _score(headline.j),
        "95 % interval": interval if result.policy.kind == "policy" and result.policy.name != "no-control" else "",
        "S cost": scores["cost"],
        "S peak": scores["peak"],
        "S voltage": scores["voltage"],
        "ct/day": f"{found['cost']:.0f}",
        "peak, kW": f"{found['peak']:.0f}",
        "bus-hours outside": f"{found['bus-hours outside']:.2f} %",
        "PAR": f"{found['PAR']:.2f}",
        "peak ratio": f"{found['peak ratio']:.3f}",
        "V, p.u. h/day": f"{found['voltage']:.4f}",
        "s/day": f"{record.made_on.seconds_per_day:.2f}",
    }


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".replace("-0.000", "0.000")


def table(records: Sequence[Record], columns: Sequence[str]) -> str:
    """A Markdown table; reference and oracle rows in italics."""
    lines = ["| policy | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for record in records:
        policy, row = record.result.policy, cells(record)
        name = f"`{policy.name}`" if policy.kind == "policy" else f"*{policy.name}*"
        lines.append(f"| {name} | " + " | ".join(row[column] for column in columns) + " |")
    return "\n".join(lines) + "\n"


def filled(text: str, records: Sequence[Record]) -> str:
    """A page with its tables as the records say."""

    def replaced(match: re.Match[str]) -> str:
        head, dataset, split, mode, length, short, tail = match.groups()
        return head + table(board(records, dataset, split, mode, int(length or 1)), SHORT if short else LONG) + tail

    return _TABLE.sub(replaced, text)


def main() -> None:
    """Write or check the pages."""
    records = [load_record(path) for path in sorted(RESULTS.glob("*.json"))]
    stale = []
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before, records)
        if "--check" in sys.argv[1:]:
            stale += [page.name] if after != before else []
        else:
            page.write_text(after, encoding="utf-8")
    if stale:
        raise SystemExit(f"{', '.join(stale)}: not what the records say; run: python docs/results.py")


if __name__ == "__main__":
    main()
