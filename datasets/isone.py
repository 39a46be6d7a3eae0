"""Prices of ISO New England (reports of hourly LMPs, WW_DALMP_ISO_..., lmp_rt_final_..., as CSV).

The first cell of a line says what it is: C comment, H heading, D data, T end of the file and the number of its D lines:

    "C","Day-Ahead Energy Market Hourly LMP Report"
    "C","Report for: 11/05/2023 - 11/05/2023"
    "H","Date","Hour Ending","Location ID","Location Name","Location Type","Locational Marginal Price",...
    "H","Date","HE","String","String","String","Number",...
    "D","11/05/2023","02X","4000",".H.INTERNAL_HUB","HUB",24.46,...
    "T","29184"

Kinds of lines: ISO New England, report descriptions ("WW_DALROFFER"); columns: seen in public files. Dates are month
first. Hours are named by their end, 01 to 24, on the clock of New England; when it is set back, 02 is the first of the
two hours that end at 2 and 02X the second; when it is set forward, 03 is left out. The Locational Marginal Price is in
USD/MWh; its components are left out. A comment says whether the price is day-ahead or real-time. One file a day:
give several. Spreadsheets (smd_hourly) and five-minute reports are not read.

Imported by importers only (needs pandas).
"""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.datasets.foreign import Line, PickedTable, lines_of, not_a_file_of, picked
from prosumer_gym.datasets.price_rows import MOST_NAMED, NAMES, OPTIONS, Asked, Price, PriceRows
from prosumer_gym.errors import UsageError

FORMAT = "ISO New England (--prices-format isone)"
COLUMNS = {
    "Date": "local date, month first",
    "Hour Ending": "local hour, ending",
    "Location ID": "place",
    "Location Name": "place",
    "Locational Marginal Price": "price",
}
"""What is read: the file's columns and what they hold."""

_ZONE = ZoneInfo("America/New_York")
_SAYS: tuple[tuple[str, Price], ...] = (("day-ahead", "price_da"), ("real-time", "price_rt"))
_DATE, _HOUR, _PRICE = "Date", "Hour Ending", "Locational Marginal Price"
_PLACES = ("Location ID", "Location Name")


def read_isone(path: Path, asked: Asked) -> list[PriceRows]:
    """The prices of one file (a list of one).

    Raises:
        UsageError: naming file, column and row: another format, a location that is not clear, a file that was cut off,
            a day or hour that cannot be read or that the clock never shows, a price that is no number.
    """
    header, comments, data, trailer = _sorted_lines(path)
    if trailer is not None and len(trailer.cells) > 1 and trailer.cells[1].isdigit():
        told = int(trailer.cells[1])
        if told != len(data):
            raise UsageError(
                f"{path}: row {trailer.number} says that there are {told} D lines, but there are {len(data)}; "
                "is the file cut off? fetch it again"
            )
    price = _price_of(path, comments, asked.price)
    rows, place = _of_place(path, header, data, asked.choices.node)
    table = picked(path, header, rows)
    values: FloatArray = table.numbers(_PRICE)
    begin = _begins(table, np.isnan(values))
    known = np.asarray(begin.notna())
    table = PickedTable(path, table.frame[known].reset_index(drop=True), lines=table.lines[known])
    return [
        PriceRows(
            price=price,
            table=table.where(known),
            column=_PRICE,
            time_column=_HOUR,
            begin=begin[known],
            length=pd.TimedeltaIndex(np.full(int(known.sum()), np.timedelta64(1, "h"))).as_unit("ns"),
            values=values[known],
            per="MWh",
            currency="USD",
            place=place,
            clock="dates and hours are the clock of New England, hours are named by their end (02X: the second 02)",
        )
    ]


def _sorted_lines(path: Path) -> tuple[Line, list[Line], list[Line], Line | None]:
    """The heading, the comments, the data and the end of a file."""
    comments: list[Line] = []
    data: list[Line] = []
    header: Line | None = None
    trailer: Line | None = None
    for line in lines_of(path, ","):
        kind = line.cells[0].strip()
        if kind == "C":
            comments.append(line)
        elif kind == "H":
            header = line.stripped if header is None else header  # a second one tells the types of the columns
        elif kind == "D" and header is not None:
            data.append(line)
        elif kind == "T":
            trailer = line
        else:
            raise not_a_file_of(path, FORMAT, f"row {line.number} begins with {kind!r}, not with C, H, D or T")
    if header is None:
        raise not_a_file_of(path, FORMAT, "no line begins with H")
    for column in (_DATE, _HOUR, _PRICE):
        if column not in header.cells:
            raise not_a_file_of(path, FORMAT, f"column {column} is missing in row {header.number}")
    if not any(column in header.cells for column in _PLACES):
        raise not_a_file_of(path, FORMAT, f"column {_PLACES[0]} is missing in row {header.number}")
    if not data:
        raise UsageError(f"{path}: it has no D lines; fetch it again")
    return header, comments, data, trailer


def _price_of(path: Path, comments: list[Line], asked: Price | None) -> Price:
    text = " ".join(cell for line in comments for cell in line.cells).lower()
    said = [price for words, price in _SAYS if words in text]
    if len(said) == 1:
        if asked is not None and said[0] != asked:
            raise UsageError(
                f"{path}: row {comments[0].number}: its comments say that it is a {NAMES[said[0]]}; "
                f"give it with {OPTIONS[said[0]]}"
            )
        return said[0]
    if asked is None:
        raise UsageError(
            f"{path}: its comments do not say whether the price is day-ahead or real-time; give the day-ahead price "
            "with --prices and the real-time price with --prices-rt"
        )
    return asked


def _of_place(path: Path, header: Line, data: list[Line], node: str | None) -> tuple[list[Line], str]:
    """The lines of one location, and its name."""
    at = [header.cells.index(column) for column in _PLACES if column in header.cells]
    width = len(header.cells)
    short = next((line for line in data if len(line.cells) != width), None)
    if short is not None:
        picked(path, header, [short])  # raises
    if node is not None:
        rows = [line for line in data if node in (line.cells[at[0]], line.cells[at[-1]])]
        if rows:
            return rows, rows[0].cells[at[-1]] or node
    names = list(dict.fromkeys(line.cells[at[-1]] for line in data))
    if node is None and len(names) == 1:
        return data, names[0]
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    column = header.cells[at[-1]]
    if node is None:
        raise UsageError(f"{path}: column {column} has several: {shown}; say which with --price-node")
    raise UsageError(f"{path}: column {column} has no {node!r}, it has {shown}; change --price-node")


def _begins(table: PickedTable, empty: BoolArray) -> pd.DatetimeIndex:
    """Beginning of each row's hour, UTC; NaT for an hour that the clock never shows and that has no price."""
    text = table.frame[_DATE].fillna("").astype(str)
    dates = pd.to_datetime(text, format="%m/%d/%Y", errors="coerce")
    if dates.isna().any():
        row = int(np.argmax(dates.isna().to_numpy()))
        raise table.error(_DATE, row, f"{text.iloc[row]!r} is not a date like 01/31/2023, month first")
    hours = table.frame[_HOUR].fillna("").astype(str)
    shape = re.compile(r"0?[1-9]|1\d|2[0-4]|02X")
    for row, hour in enumerate(hours):
        if not shape.fullmatch(hour):
            raise table.error(_HOUR, row, f"{hour!r} is not an hour from 01 to 24, or 02X")
    second = hours.str.endswith("X").to_numpy(dtype=np.bool_)
    number = hours.str.rstrip("X").to_numpy().astype(np.int64)
    wall = pd.DatetimeIndex(dates) + pd.to_timedelta(number - 1, unit="h")
    local: pd.DatetimeIndex = wall.tz_localize(_ZONE, ambiguous=~second, nonexistent="NaT")
    never = np.asarray(local.isna())
    if (never & ~empty).any():
        row = int(np.argmax(never & ~empty))
        raise table.error(
            _HOUR, row, f"hour {hours[row]} of {text[row]} does not exist in New England, where the clock jumps over it"
        )
    repeated = np.asarray(wall.tz_localize(_ZONE, ambiguous="NaT", nonexistent="shift_forward").isna())
    if (second & ~repeated).any():
        row = int(np.argmax(second & ~repeated))
        raise table.error(_HOUR, row, f"02X stands on {text[row]}, when the clock is not set back; check the date")
    return local.tz_convert("UTC").as_unit("ns")
