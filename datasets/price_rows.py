"""Prices of a market as intervals in time, whatever the format of their files; several files make one series.

Imported by importers only (needs pandas).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.datasets.foreign import PickedTable
from prosumer_gym.datasets.schema import BOUNDS
from prosumer_gym.datasets.sources import Series
from prosumer_gym.datasets.tables import NaiveTimes, Steps
from prosumer_gym.errors import UsageError

Price = Literal["price_da", "price_rt"]
PriceFormat = Literal["entsoe", "oasis", "isone"]

NAMES: dict[Price, str] = {"price_da": "day-ahead price", "price_rt": "real-time price"}
OPTIONS: dict[Price, str] = {"price_da": "--prices", "price_rt": "--prices-rt"}
CT_PER_KWH = {"MWh": 0.1, "kWh": 100.0}
"""ct/kWh for one unit of the currency for each MWh or kWh; a ct is 1/100 of the currency."""
MOST_NAMED = 4
LEAST_CT_PER_KWH, MOST_CT_PER_KWH = 0.1, 150.0
"""Median sizes of a market's prices beyond these suggest a wrong unit: 1 and 1500 for each MWh."""
MOST_RATIO = 5.0
"""So do two prices of one market whose median sizes differ by more than this factor."""

_MEND = "fill the gap, or say with --fill-gaps and --drop-incomplete-days what to do with gaps"


@dataclass(frozen=True, kw_only=True)
class PriceChoices:
    """What the user says of price files where they leave it open."""

    format: PriceFormat
    node: str | None = None
    """Whose prices, in a file of several places: OASIS node, ISO-NE location (id or name), ENTSO-E area."""
    sequence: str | None = None
    """ENTSO-E: which auction, in a file of several."""
    rt_column: str | None = None
    """ENTSO-E: the column of the real-time price, in a file of several."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a reader is asked for."""

    price: Price | None
    """The price that the user says the file holds; None: the file itself must say."""
    choices: PriceChoices
    zone: tzinfo
    """Of the data set."""
    naive_times: NaiveTimes | None


@dataclass(frozen=True, kw_only=True, eq=False)
class PriceRows:
    """One price in one file: for each row an interval and its price."""

    price: Price
    table: PickedTable
    column: str
    """Of the prices, as the file calls it."""
    time_column: str
    begin: pd.DatetimeIndex
    """UTC."""
    length: pd.TimedeltaIndex
    values: FloatArray
    """In the unit of the file; NaN where it has none."""
    per: str
    """MWh or kWh."""
    currency: str
    place: str
    clock: str
    """What the times of the file are, for the card."""

    @property
    def ct_per_kwh(self) -> FloatArray:
        """The prices in ct/kWh."""
        return self.values * CT_PER_KWH[self.per]

    def check(self, zone: tzinfo) -> None:
        """Raises `UsageError` for a price out of range, and for intervals that do not fit into the local hours."""
        low, high = BOUNDS[f"{self.price}_ct_per_kwh"]
        factor = CT_PER_KWH[self.per]
        hint = f"the file says {self.currency}/{self.per}; is that right?"
        self.table.check_range(self.column, self.values, low / factor, high / factor, hint)
        minutes = self.length / pd.Timedelta(minutes=1)
        bad = (minutes <= 0) | (minutes > 60) | (60 % np.maximum(minutes, 1) != 0)
        if bad.any():
            row = int(np.argmax(bad))
            raise self.table.error(
                self.time_column, row, f"it lasts {minutes[row]:g} minutes; must be an hour or a whole part of it"
            )
        local = self.begin.tz_convert(zone)
        off = np.asarray((local.minute % minutes != 0) | (local.second != 0))
        if off.any():
            row = int(np.argmax(off))
            raise self.table.error(
                self.time_column,
                row,
                f"it begins at {local[row]:%H:%M:%S} local time, across local hours; check the time and its zone",
            )


def only_place(table: PickedTable, column: str, names: Sequence[str], node: str | None, option: str) -> str:
    """The one place (or auction) called `names` in `column`: the user's choice, or the only one there is.

    Raises:
        UsageError: the choice is not there, or there are several and no choice.
    """
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    if node is None and len(names) > 1:
        raise UsageError(f"{table.path}: column {column} has several: {shown}; say which with {option}")
    if node is not None and node not in names:
        raise UsageError(f"{table.path}: column {column} has no {node!r}, it has {shown}; change {option}")
    return names[0] if node is None else node


def series_of(files: Sequence[PriceRows], zone: tzinfo) -> Series:
    """One regular series in ct/kWh from the rows of one price in some files.

    Intervals of different length may follow each other: the grid has the shortest of them, and a price holds for all
    steps of its interval.

    Raises:
        UsageError: see `PriceRows.check`; two rows that tell the same time.
    """
    for rows in files:
        rows.check(zone)
    intervals = _Intervals.of(files, zone)
    intervals.check_once()
    return Series(intervals.steps(), lambda _, begin: intervals.gap(begin))


@dataclass(frozen=True, eq=False)
class _Intervals:
    """The rows of all files by time."""

    files: Sequence[PriceRows]
    zone: tzinfo
    begin_ns: IntArray
    """UTC, rising."""
    length_ns: IntArray
    file: IntArray
    row: IntArray

    @classmethod
    def of(cls, files: Sequence[PriceRows], zone: tzinfo) -> _Intervals:
        begin = np.concatenate([rows.begin.as_unit("ns").asi8 for rows in files])
        length = np.concatenate([rows.length.as_unit("ns").asi8 for rows in files])
        file = np.concatenate([np.full(len(rows.begin), k) for k, rows in enumerate(files)])
        row = np.concatenate([np.arange(len(rows.begin)) for rows in files])
        order = np.lexsort((row, file, begin))
        return cls(files, zone, begin[order], length[order], file[order], row[order])

    def source(self, k: int) -> tuple[PriceRows, int]:
        """The file of the k-th interval, and its row there."""
        return self.files[int(self.file[k])], int(self.row[k])

    def check_once(self) -> None:
        """Raises `UsageError` where an interval begins before the one before it has ended."""
        again = self.begin_ns[1:] < self.begin_ns[:-1] + self.length_ns[:-1]
        if again.any():
            k = int(np.argmax(again))
            (first, first_row), (rows, row) = self.source(k), self.source(k + 1)
            where = f"row {first.table.lines[first_row]}" + ("" if first is rows else f" of {first.table.path}")
            raise rows.table.error(
                rows.time_column, row, f"{self._when(rows.begin[row])} stands twice, first in {where}; keep one of them"
            )

    def steps(self) -> Steps:
        """The prices on the grid of the shortest interval."""
        values = np.concatenate([rows.ct_per_kwh for rows in self.files])
        starts = np.cumsum([0, *(len(rows.begin) for rows in self.files)])
        in_order = values[starts[self.file] + self.row]
        step = int(self.length_ns.min())
        repeats = self.length_ns // step
        inside = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        grid = pd.DatetimeIndex(np.repeat(self.begin_ns, repeats) + inside * step, tz="UTC")
        frame = pd.DataFrame({self.files[0].price: np.repeat(in_order, repeats)}, index=grid)
        return Steps.of(frame, pd.Timedelta(step, "ns"))

    def gap(self, begin: pd.Timestamp) -> UsageError:
        """The error for a step without a price: an empty cell, or no row."""
        at = begin.as_unit("ns").value
        k = max(int(np.searchsorted(self.begin_ns, at, side="right")) - 1, 0)
        rows, row = self.source(k)
        if self.begin_ns[k] <= at < self.begin_ns[k] + self.length_ns[k]:
            return rows.table.error(rows.column, row, f"the price at {self._when(begin)} is empty; {_MEND}")
        return rows.table.error(rows.column, row, f"after it the price at {self._when(begin)} is missing; {_MEND}")

    def _when(self, begin: pd.Timestamp) -> str:
        return f"{begin.tz_convert(self.zone):%Y-%m-%d %H:%M} local time"


def odd_sizes(series: dict[Price, Series], files: Sequence[PriceRows]) -> tuple[str, ...]:
    """Notes on prices whose size suggests a wrong unit; nothing is changed."""
    notes: list[str] = []
    middle: dict[Price, float] = {}
    for price, one in series.items():
        values = one.steps.frame.to_numpy(dtype=np.float64)
        mine = next(rows for rows in files if rows.price == price)
        middle[price] = float(np.nanmedian(np.abs(values))) if not np.isnan(values).all() else 0.0
        unit, size = f"{mine.currency}/{mine.per}", middle[price] / CT_PER_KWH[mine.per]
        if not LEAST_CT_PER_KWH < middle[price] < MOST_CT_PER_KWH:
            notes.append(
                f"The {NAMES[price]} has a median size of {size:.4g}, read as {unit} ({middle[price]:.4g} ct/kWh), "
                f"which is unusual; check the unit of {_named(files, price)}."
            )
    if len(middle) == len(NAMES):
        low, high = sorted(middle, key=lambda price: middle[price])
        if middle[high] > MOST_RATIO * middle[low]:
            notes.append(
                f"The {NAMES[high]} (median size {middle[high]:.4g} ct/kWh) is more than {MOST_RATIO:g} times the "
                f"{NAMES[low]} ({middle[low]:.4g} ct/kWh); check that both files are in the unit that they say."
            )
    return tuple(notes)


def _named(files: Sequence[PriceRows], price: Price) -> str:
    names = list(dict.fromkeys(rows.table.path.name for rows in files if rows.price == price))
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


def paths_of(files: Sequence[PriceRows]) -> tuple[Path, ...]:
    """Every file once, in the order given."""
    return tuple(dict.fromkeys(rows.table.path for rows in files))
