"""The columns that the importers read, as the tables of docs/data.md.

`python -m prosumer_gym.datasets.format_tables docs/data.md` writes them anew. Imported on demand only (needs pandas).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prosumer_gym.datasets import ausgrid, citylearn, market_prices, simbench
from prosumer_gym.errors import UsageError


def citylearn_table() -> str:
    """Columns of the files of a CityLearn set, in both spellings."""
    return _table(
        "file",
        [
            ("building", citylearn.BUILDING_COLUMNS),
            ("weather", citylearn.WEATHER_COLUMNS),
            ("price", citylearn.PRICING_COLUMNS),
        ],
    )


def simbench_table() -> str:
    """Columns of the files of a SimBench grid."""
    return _table(
        "file",
        [
            ("Load.csv", simbench.LOAD_COLUMNS),
            ("RES.csv", simbench.PLANT_COLUMNS),
            ("LoadProfile.csv, RESProfile.csv", simbench.PROFILE_COLUMNS),
        ],
    )


def ausgrid_table() -> str:
    """Columns of a year of Ausgrid's homes."""
    return _table("file", [("a year", ausgrid.COLUMNS)])


def prices_table() -> str:
    """Columns of the files of markets."""
    return _table("format", [(f"`{name}`", columns) for name, columns in market_prices.COLUMNS.items()])


TABLES: dict[str, Callable[[], str]] = {
    "citylearn": citylearn_table,
    "simbench": simbench_table,
    "ausgrid": ausgrid_table,
    "prices": prices_table,
}


def filled(text: str) -> str:
    """`text` with every marked table written anew.

    Raises:
        UsageError: a mark that names no table, or a table that is not marked once.
    """
    marked = re.findall(r"<!-- table: (.*?) -->", text)
    if sorted(marked) != sorted(TABLES):
        raise UsageError(f"tables: the text marks {sorted(marked)}, it has to mark each of {sorted(TABLES)} once")
    return re.sub(
        r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def _table(first: str, files: Iterable[tuple[str, Mapping[str, str]]]) -> str:
    """One row for each meaning of a file's columns."""
    rows = [(first, "column", "what it is"), ("---",) * 3]
    for name, columns in files:
        for meaning in dict.fromkeys(columns.values()):
            spellings = ", ".join(f"`{column}`" for column, ours in columns.items() if ours == meaning)
            rows.append((name, spellings, meaning))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    for page in sys.argv[1:]:
        Path(page).write_text(filled(Path(page).read_text(encoding="utf-8")), encoding="utf-8")
