"""Measured tables in the documentation.

They are written between two marks, `<!-- measured: NAME -->` and `<!-- end -->`, so that the page's words stay.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table whose first `text_columns` columns are text and the others numbers."""
    rule = "|" + "---|" * text_columns + "---:|" * (len(head) - text_columns)
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join((lines[0], rule, *lines[1:]))


def publish(page: str, name: str, text: str, *, into_page: bool) -> None:
    """Print the text and, if wanted, put it between the marks of that name in a page of the documentation.

    Raises:
        ValueError: the page has no such marks.
    """
    print(text)
    if not into_page:
        return
    path = DOCS / page
    path.write_text(filled(path.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def filled(page: str, name: str, text: str) -> str:
    """The text of a page with `text` between the marks of that name.

    Raises:
        ValueError: it has no such marks, or several.
    """
    pattern = re.compile(rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    changed, places = pattern.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)
    if places != 1:
        raise ValueError(f"{places} places marked <!-- measured: {name} -->; there must be one")
    return changed


def machine() -> str:
    """The processor by name, and the Python."""
    cpu_info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", cpu_info.read_text()) if cpu_info.exists() else []
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, Python {platform.python_version()}"


def significant(number: float, digits: int = 3) -> str:
    """The number rounded to that many digits, thousands apart."""
    rounded = float(f"{number:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(rounded))) if rounded else 0
    return f"{rounded:,.{max(0, places)}f}"
