"""Files in formats of others: reading their lines, telling which format they have, and naming their rows in errors.

Imported by importers only (needs pandas).
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import pandas as pd

from prosumer_gym.arrays import BoolArray, IntArray
from prosumer_gym.datasets.tables import Table
from prosumer_gym.errors import UsageError

SEPARATORS = (",", ";", "\t")
_HEAD_LINES = 8

_SIGNS = {
    "Ausgrid's solar homes": r"consumption category",
    "CAISO OASIS (--prices-format oasis)": r"intervalstarttime_gmt",
    "ISO New England (--prices-format isone)": r"^\s*\"?[CH]\"?,.*(hour ending|lmp|report)",
    "ENTSO-E (--prices-format entsoe)": r"(^|[,;\t\"])(mtu|isp|imbalance settlement period)\b.*price",
    "tidy prices (--prices-format tidy)": r"^\s*\"?time\"?[,;\t].*price_(da|rt)",
    "tidy readings": r"^\s*\"?time\"?[,;\t].*(load_kw|pv_kw)",
}
"""What one of the first lines of a file of each format shows, whatever its case."""


@dataclass(frozen=True, eq=False)
class PickedTable(Table):
    """Rows picked out of a file; errors name the rows by their place in the file."""

    lines: IntArray = field(kw_only=True)
    """Line of the file of each row, the first line being 1."""

    def error(self, column: str, row: int, message: str) -> UsageError:
        """The error about one cell; `row` counts the picked rows from 0."""
        return UsageError(f"{self.path}: column {column}, row {int(self.lines[row])}: {message}")

    def where(self, mask: BoolArray) -> PickedTable:
        """The rows for which `mask` holds."""
        return PickedTable(self.path, self.frame[mask].reset_index(drop=True), lines=self.lines[mask])


class Line(NamedTuple):
    """One line of a file."""

    number: int
    cells: list[str]

    @property
    def stripped(self) -> Line:
        """The line without blanks around its cells."""
        return Line(self.number, [cell.strip() for cell in self.cells])


def head_of(path: Path) -> list[str]:
    """The first lines of a file as they stand. Raises `UsageError` if the file is missing or no text."""
    with _opened(path) as text:
        return [line for _, line in zip(range(_HEAD_LINES), text, strict=False)]


def lines_of(path: Path, separator: str) -> Iterator[Line]:
    """The lines of a file that are not blank. Raises `UsageError` if the file is missing or no text."""
    with _opened(path) as text:
        reader = csv.reader(text, delimiter=separator)
        try:
            for cells in reader:
                if any(cells):
                    yield Line(reader.line_num, cells)
        except csv.Error as error:
            raise UsageError(f"{path}: row {reader.line_num}: it cannot be read ({error}); fetch it again") from None


def separator_of(header: str) -> str:
    """What separates the columns of a header."""
    return max(SEPARATORS, key=header.count)


def picked(path: Path, header: Line, rows: Sequence[Line], missing: Collection[str] = ()) -> PickedTable:
    """A table of some lines; cells that are empty or in `missing` are missing.

    Raises:
        UsageError: there is no line, or one has more or fewer cells than the header (a file that was cut off).
    """
    if not rows:
        raise UsageError(f"{path}: it has no rows below its header (row {header.number}); fetch it again")
    for line in rows:
        if len(line.cells) != len(header.cells):
            raise UsageError(
                f"{path}: row {line.number} has {len(line.cells)} cells, the header has {len(header.cells)}; "
                "is the file cut off? fetch it again"
            )
    frame = pd.DataFrame([line.stripped.cells for line in rows], columns=header.cells, dtype=object)
    frame = frame.where(~frame.isin(["", *missing]), None)
    return PickedTable(path, frame, lines=np.array([line.number for line in rows], dtype=np.int64))


def not_a_file_of(path: Path, expected: str, why: str) -> UsageError:
    """The error for a file of another format, which names the format that it looks like."""
    like = looks_like(head_of(path))
    advice = "check the file" if like is None or like == expected else f"it looks like a file of {like}"
    return UsageError(f"{path}: it is no file of {expected}: {why}; {advice}")


def looks_like(head: Sequence[str]) -> str | None:
    """The format whose sign one of the first lines shows."""
    for name, sign in _SIGNS.items():
        if any(re.search(sign, line, re.IGNORECASE) for line in head):
            return name
    return None


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The file as text, compressed or not; what goes wrong in reading it is the user's to mend."""
    name = path.name.lower()
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; check the path")
    if not name.endswith((".csv", ".csv.gz")):
        raise UsageError(f"{path}: its name ends neither in .csv nor .csv.gz; unpack or convert it first")
    try:
        if name.endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
                yield text
        else:
            with path.open(encoding="utf-8-sig", newline="") as text:
                yield text
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise UsageError(f"{path}: it cannot be read ({error}); fetch it again") from None
