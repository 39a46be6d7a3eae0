"""Prices of the ENTSO-E Transparency Platform, saved from its pages as CSV ("Day-ahead Prices", "Imbalance Prices").

Two generations of headers, seen in public files; a row for each market time unit:

    "MTU (CET/CEST)","Day-ahead Price [EUR/MWh]","Currency","BZN|FR"
    "01.01.2023 00:00 - 01.01.2023 01:00","57.40","EUR",""

    "MTU (UTC)","Area","Sequence","Day-ahead Price (EUR/MWh)","Intraday Period (UTC)","Intraday Price (EUR/MWh)"
    "01/01/2025 00:00:00 - 01/01/2025 00:15:00","BZN|FR","Without Sequence","18.92","",""

    "Imbalance settlement period (CET/CEST)","+ Imbalance Price [EUR/MWh] - SCA|AT","- Imbalance Price ..."

Days come first in dates. Times name both ends of an interval, on the clock that the header names (UTC, CET/CEST,
WET/WEST or EET/EEST); an hour that the clock shows twice stands twice, the earlier one first, unless its times say
which they are ("(CEST)"). A row for an hour that the clock jumps over may stand there without a price. Hours may turn
into quarter-hours within a file (the day-ahead auction did in October 2025). The unit stands in the header. A missing
price is empty, "-", "n/e" or "N/A". Areas and auctions ("Sequence") may stand below each other: the user chooses one.

**Which price is the real-time one.** Balancing prices are published twice: "+" for a party with a surplus, "-" for one
with a shortage. Where both are the same in every row (single pricing) that is the real-time price; where they differ
the user names the column. Intraday auction prices, activation prices, XML, and files whose lines are quoted as a whole
are refused.

Imported by importers only (needs pandas).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from prosumer_gym.arrays import BoolArray
from prosumer_gym.datasets.foreign import PickedTable, head_of, lines_of, not_a_file_of, picked, separator_of
from prosumer_gym.datasets.price_rows import NAMES, OPTIONS, Asked, Price, PriceRows, only_place
from prosumer_gym.datasets.schema import parse_zone
from prosumer_gym.errors import UsageError

FORMAT = "ENTSO-E (--prices-format entsoe)"
COLUMNS = {
    "MTU (...)": "interval and clock",
    "Imbalance settlement period (...)": "interval and clock",
    "ISP (...)": "interval and clock",
    "Area": "place",
    "Sequence": "auction",
    "Currency": "currency",
    "Day-ahead Price [.../MWh]": "price_da",
    "+ Imbalance Price [.../MWh]": "price_rt",
    "- Imbalance Price [.../MWh]": "price_rt",
}
"""What is read: the file's columns and what they hold; ... stands for what the header tells."""
CLOCKS = {"UTC": "UTC", "CET/CEST": "Europe/Brussels", "WET/WEST": "Europe/Lisbon", "EET/EEST": "Europe/Helsinki"}
"""What a header calls its clock, and a zone with this clock."""
MISSING = ("-", "n/e", "N/A")

_TIME = re.compile(
    r"(?:MTU|ISP|Imbalance settlement period|Time)\s*(?:\(?\s*([A-Z]+(?:/[A-Z]+)?)\s*\)?)?", re.IGNORECASE
)
_DAY_AHEAD = re.compile(r"day-ahead price\b.*", re.IGNORECASE)
_IMBALANCE = re.compile(r"(?:generation\s*/\s*)?([+-])?\s*imbalance price\b.*", re.IGNORECASE)
_UNIT = re.compile(r"[\[(]\s*([A-Za-z]{3})\s*/\s*([MK]Wh)\s*[\])]", re.IGNORECASE)
_STAMP = re.compile(r"^(\d{2})[./](\d{2})[./](\d{4} \d{2}:\d{2})(?::00)?(?: \(([A-Z]+)\))?$")
_AREA = re.compile(r"[A-Z]{3}\|\S+")
_HOUR = pd.Timedelta(hours=1)


def read_entsoe(path: Path, asked: Asked) -> list[PriceRows]:
    """The prices of one file, one entry for each price that it holds.

    Raises:
        UsageError: naming file, column and row: another format, an area, auction or price that is not clear, a time
            that cannot be read or that the clock never shows, a price that is no number.
    """
    table, time_column, clock = _read(path)
    table, place = _chosen(table, asked)
    wanted = _price_columns(table, asked)
    entries: list[PriceRows] = []
    for price, column in wanted.items():
        values = table.numbers(column)
        begin, length = _intervals(table, time_column, clock, asked, np.isnan(values))
        shown = np.asarray(begin.notna())
        currency, per = _unit(table, column)
        entries.append(
            PriceRows(
                price=price,
                table=table.where(shown),
                column=column,
                time_column=time_column,
                begin=begin[shown],
                length=length[shown],
                values=values[shown],
                per=per,
                currency=currency,
                place=place or _place_of_header(table, column),
                clock=f"times are {clock or asked.naive_times}, days first, and name both ends of an interval",
            )
        )
    return entries


def _read(path: Path) -> tuple[PickedTable, str, str | None]:
    """All rows, the column of times and the clock that it names."""
    head = head_of(path)
    if head and head[0].startswith('"') and '""' in head[0]:
        raise UsageError(f"{path}: row 1: its lines are quoted as a whole; export the file again, or mend the quotes")
    lines = lines_of(path, separator_of(head[0]) if head else ",")
    header = next((line.stripped for line in lines), None)
    if header is None:
        raise UsageError(f"{path}: it is empty; fetch it again")
    for column in header.cells:
        match = _TIME.fullmatch(column)
        if match:
            clock = match[1].upper() if match[1] else None
            if clock is not None and clock not in CLOCKS:
                raise UsageError(
                    f"{path}: column {column}: the clock {clock} is not known, only {', '.join(CLOCKS)}; "
                    "export the file in one of these"
                )
            return picked(path, header, list(lines), MISSING), column, clock
    raise not_a_file_of(path, FORMAT, "no column MTU, ISP or Imbalance settlement period")


def _chosen(table: PickedTable, asked: Asked) -> tuple[PickedTable, str]:
    """The rows of one area and auction, and the name of the area ("" where no column tells)."""
    place = ""
    choices = asked.choices
    if "Area" in table.frame.columns:
        areas = list(dict.fromkeys(table.frame["Area"].dropna()))
        node = choices.node
        if node is not None and node not in areas:  # BZN|AT and SCA|AT are both AT
            same = [area for area in areas if area.rpartition("|")[2] == node.rpartition("|")[2]]
            node = same[0] if len(same) == 1 else node
        place = only_place(table, "Area", areas, node, "--price-node")
        table = table.where((table.frame["Area"] == place).to_numpy(dtype=np.bool_))
    if "Sequence" in table.frame.columns:
        auctions = list(dict.fromkeys(table.frame["Sequence"].dropna()))
        if auctions:
            auction = only_place(table, "Sequence", auctions, choices.sequence, "--price-sequence")
            table = table.where((table.frame["Sequence"] == auction).to_numpy(dtype=np.bool_))
    return table, place


def _price_columns(table: PickedTable, asked: Asked) -> dict[Price, str]:
    """Which column holds which price."""
    path, named = table.path, asked.choices.rt_column
    columns = list(table.frame.columns)
    day_ahead = [column for column in columns if _DAY_AHEAD.fullmatch(column)]
    imbalance = [column for column in columns if _IMBALANCE.fullmatch(column)]
    if len(day_ahead) > 1:
        raise UsageError(f"{path}: it has several day-ahead prices: {'; '.join(day_ahead)}; keep one of the columns")
    found: dict[Price, str] = {}
    if day_ahead and asked.price != "price_rt":
        found["price_da"] = day_ahead[0]
    if (imbalance or named in columns) and asked.price != "price_da":
        found["price_rt"] = _real_time(table, imbalance, named)
    if not found:
        holds: Price | None = "price_da" if day_ahead else "price_rt" if imbalance else None
        if holds is None:
            raise not_a_file_of(
                path, FORMAT, f"no column Day-ahead Price or Imbalance Price, it has {'; '.join(columns)}"
            )
        raise UsageError(f"{path}: it holds a {NAMES[holds]}; give it with {OPTIONS[holds]}")
    return found


def _real_time(table: PickedTable, columns: Sequence[str], named: str | None) -> str:
    """The column of the real-time price: the one named, or the one that all are equal to."""
    have = "; ".join(columns) or "no imbalance price"
    if named is not None:
        if named not in table.frame.columns:
            raise UsageError(f"{table.path}: column {named} is missing, it has {have}; change --price-rt-column")
        if named.lower().startswith("intraday"):
            raise UsageError(
                f"{table.path}: column {named}: intraday auctions have times of their own and are not read; "
                "give an imbalance price, or convert the file to tidy prices"
            )
        return named
    first = table.numbers(columns[0])
    for column in columns[1:]:
        other = table.numbers(column)
        differ = ~((first == other) | (np.isnan(first) & np.isnan(other)))
        if differ.any():
            row = int(np.argmax(differ))
            raise table.error(
                column,
                row,
                f"it is {other[row]:g}, but {columns[0]} is {first[row]:g}; which is the real-time price? "
                f"say it with --price-rt-column",
            )
    return columns[0]


def _place_of_header(table: PickedTable, column: str) -> str:
    """The area that a price's header or an empty column names: "... - SCA|FR", or "BZN|FR"; "" where none does."""
    named = [column.rpartition(" - ")[2], *map(str, table.frame.columns)]
    return next((name for name in named if _AREA.fullmatch(name)), "")


def _unit(table: PickedTable, column: str) -> tuple[str, str]:
    """Currency and energy of a price, as its header says."""
    match = _UNIT.search(column)
    if match is None:
        raise UsageError(f"{table.path}: column {column}: it does not say its unit; rename it to {column} [EUR/MWh]")
    currency = match[1].upper()
    if "Currency" in table.frame.columns:
        told = table.frame["Currency"].fillna(currency).to_numpy(dtype=str)
        if (told != currency).any():
            row = int(np.argmax(told != currency))
            raise table.error("Currency", row, f"it is {told[row]}, but the header says {currency}; make them agree")
    return currency, "kWh" if match[2].lower() == "kwh" else "MWh"


def _intervals(
    table: PickedTable, column: str, clock: str | None, asked: Asked, empty: BoolArray
) -> tuple[pd.DatetimeIndex, pd.TimedeltaIndex]:
    """Beginning (UTC) and length of each row; NaT for an interval that the clock never shows and that has no price."""
    text = table.frame[column].fillna("").astype(str)
    sides = text.str.partition(" - ")
    wall, label = _walls(table, column, sides[0])
    wall_end, _ = _walls(table, column, sides[2])
    zone = _zone(table, column, clock, asked)

    labelled = label != ""
    repeated = np.asarray(wall.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward").isna())
    first = (pd.Series(wall).groupby(wall).cumcount() == 0).to_numpy()
    summer = (clock or "").rpartition("/")[2]
    local = wall.tz_localize(zone, ambiguous=np.where(labelled, label == summer, first), nonexistent="NaT")
    never = np.asarray(local.isna())
    if (never & ~empty).any():
        row = int(np.argmax(never & ~empty))
        raise table.error(
            column, row, f"{text[row]} does not exist on the clock {clock or zone}, which jumps over it; is it UTC?"
        )
    wrong = labelled & ~never & (np.asarray(local.strftime("%Z")) != label)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise table.error(column, row, f"{text[row]} is not {label[row]} at that time of the year; check the file")
    begin = local.tz_convert("UTC").as_unit("ns")
    told = np.flatnonzero(repeated & ~labelled)
    falls = np.flatnonzero(np.diff(begin.asi8[told]) < 0)
    if falls.size:
        row = int(told[falls[0] + 1])
        raise table.error(
            column,
            row,
            f"{text[row]} is shown twice by the clock; sort the rows by time, so that the order tells which",
        )
    return begin, _lengths(wall, wall_end, zone)


def _walls(table: PickedTable, column: str, text: pd.Series[str]) -> tuple[pd.DatetimeIndex, npt.NDArray[np.str_]]:
    """What the clock shows, and the name of the clock beside it ("" where there is none)."""
    parts = text.str.extract(_STAMP.pattern)
    stamps = pd.to_datetime(parts[0] + "." + parts[1] + "." + parts[2], format="%d.%m.%Y %H:%M", errors="coerce")
    if stamps.isna().any():
        row = int(np.argmax(stamps.isna().to_numpy()))
        cell = table.frame[column].iloc[row] or ""
        raise table.error(
            column, row, f"{cell!r} is not an interval like 31.01.2023 00:00 - 31.01.2023 01:00, days first"
        )
    return pd.DatetimeIndex(stamps), parts[3].fillna("").to_numpy(dtype=np.str_)


def _zone(table: PickedTable, column: str, clock: str | None, asked: Asked) -> tzinfo:
    if clock is not None:
        return parse_zone(CLOCKS[clock])
    if asked.naive_times is None:
        raise UsageError(
            f"{table.path}: column {column}: it does not say whose clock it is; rename it to {column} (CET/CEST) or "
            "what it is, or say --naive-times local or utc"
        )
    return asked.zone if asked.naive_times == "local" else parse_zone("UTC")


def _lengths(begin: pd.DatetimeIndex, end: pd.DatetimeIndex, zone: tzinfo) -> pd.TimedeltaIndex:
    """Time between two showings of the clock, at most an hour where the clock changes on that day."""
    length = end - begin
    midnight = begin.normalize()
    days = pd.DatetimeIndex([*midnight, *(midnight + pd.Timedelta(days=1))])
    bounds = days.tz_localize(zone, ambiguous=np.ones(len(days), dtype=np.bool_), nonexistent="shift_forward")
    changes = np.asarray(bounds[len(begin) :] - bounds[: len(begin)] != pd.Timedelta(days=1))
    length = length.where(~(changes & (length > _HOUR)), length - _HOUR)
    return length.where(~(changes & (length <= pd.Timedelta(0))), length + _HOUR).as_unit("ns")
