"""Small files in the format of Ausgrid's solar homes, made by hand, for the tests of the reader and of the import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

LABELS = [*(f"{k // 2}:{30 * (k % 2):02d}" for k in range(1, 48)), "0:00"]
HEADER = ",".join(
    ["Customer", "Generator Capacity", "Postcode", "Consumption Category", "date", *LABELS, "Row Quality"]
)
TITLE = '"{} Solar home electricity data - Before using this data, please read the attached ""notes""",,,,,'


def energy(category: str, day: int, place: int) -> float:
    """kWh of the half-hour at `place` (0: from 0:00 to 0:30) on the day-th day; it tells meter, day and place."""
    if category == "GG":
        return round(0.01 * max(0, 12 - abs(place - 24)) + 0.0001 * (day % 90), 4) if 12 < place < 36 else 0.0
    if category == "CL":
        return round(0.5 + 0.001 * (day % 90), 4) if place < 10 else 0.0
    return round(0.2 + 0.01 * place + 0.0001 * (day % 90), 4)


def date_text(date: pd.Timestamp, form: str) -> str:
    """1/07/2012 or 1-Jul-12, as the files write it."""
    return f"{date.day}/{date:%m/%Y}" if form == "slashes" else f"{date.day}-{date:%b-%y}"


def write_ausgrid(
    path: Path,
    meters: Mapping[str, Sequence[str]],
    first: str,
    days: int,
    *,
    form: str = "slashes",
    title: str | None = None,
    value: Callable[[str, int, int], object] = energy,
    quality: Mapping[int, str] | None = None,
    capacity: float = 1.5,
) -> Path:
    """A row for each customer, meter and day; `quality` marks days, counted from 0."""
    lines = [TITLE.format(title or "Some"), HEADER]
    for customer, categories in meters.items():
        for category in categories:
            for day, date in enumerate(pd.date_range(first, periods=days)):
                cells = [str(value(category, day, place)) for place in range(48)]
                flag = (quality or {}).get(day, "")
                lines.append(",".join([customer, str(capacity), "2076", category, date_text(date, form), *cells, flag]))
    path.write_text("\r\n".join(lines) + "\r\n")
    return path
