"""Readings of Ausgrid's "Solar home electricity data": 300 homes with rooftop PV near Sydney, July 2010 to June 2013.

A file a year. A line of title, a header, and a row for each customer, day and meter, half-hours side by side:

    "2011-2012 Solar home electricity data - Before using this data, please read ...",,,
    Customer,Generator Capacity,Postcode,Consumption Category,date,0:30,1:00,...,23:30,0:00,Row Quality
    1,3.78,2076,CL,1/07/2011,1.25,1.25,...,1.063,

Meters: GC general consumption, CL controlled load (off-peak heating; only some customers have it, and its rows begin
and end when it was put in and out), GG gross generation. Values are kWh in the half-hour, columns name its end, the
last one (0:00) the end of the row's day. Generator Capacity is in kWp. Dates are day first, 1/07/2011 or 1-Jul-11. Row
Quality is blank where all values were measured, anything else (NA) where some are estimates. Ausgrid, "Solar home
electricity data notes" (Aug 2014); Ratnam et al., Int. J. Sustainable Energy 36 (2017) 787.

**Clock changes.** Whose clock it is, is measured, on the published half-hours of customer 12, 2011-12: the middle of
the PV day moves by +0.7 h in October and by -1.3 h in April (means of four weeks before and after), so it is Sydney's
clock. Every day has 48 columns nevertheless: in spring the two half-hours that the clock jumps over hold 0, in autumn
the repeated ones hold about twice as much as their neighbours. Days of 23 and 25 hours are therefore left out.

Imported by importers only (needs pandas). Axis: N customers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.datasets.foreign import PickedTable, head_of, not_a_file_of
from prosumer_gym.datasets.schema import BOUNDS
from prosumer_gym.datasets.sources import Part, Series
from prosumer_gym.datasets.splits import DateArray
from prosumer_gym.datasets.tables import Steps
from prosumer_gym.errors import UsageError

FORMAT = "Ausgrid's solar homes"
TIME_ZONE = "Australia/Sydney"
LICENCE = "Ausgrid's terms of use; check them before publishing the data"
CITATION = (
    "Ausgrid: Solar home electricity data; E. L. Ratnam, S. R. Weller, C. M. Kellett and A. T. Murray (2017): "
    "Residential load and rooftop PV generation: an Australian distribution network dataset, "
    "doi:10.1080/14786451.2015.1100196"
)
HALF_HOURS = (*(f"{k // 2}:{30 * (k % 2):02d}" for k in range(1, 48)), "0:00")
COLUMNS = {
    "Customer": "id",
    "Generator Capacity": "pv_capacity_kw",
    "Consumption Category": "GC + CL: load, GG: pv",
    "date": "local date, day first",
    "0:30 ... 0:00": "kWh in the half-hour that ends then",
    "Row Quality": "blank: measured; else: estimated",
}
"""What is read: the file's columns and what they hold."""

_CUSTOMER, _CAPACITY, _CATEGORY, _DATE, _QUALITY = (name for name in COLUMNS if ":" not in name)
_CATEGORIES = ("GC", "CL", "GG")
_HALF_HOUR = pd.Timedelta(minutes=30)
_ZONE = ZoneInfo(TIME_ZONE)
_DAY = np.timedelta64(1, "D")
_KW_PER_KWH = 2.0
_DATE_FORMATS = ("%d/%m/%Y", "%d-%b-%y")
_CHUNK_ROWS = 20_000
_MOST_NAMED = 4
_PV_OVER_CAPACITY = 1.3
_MEND = "fill the gap, or say with --fill-gaps and --drop-incomplete-days what to do with gaps"


def read_ausgrid(
    files: Sequence[Path], customers: Sequence[str] | None = None, *, drop_estimated: bool = False
) -> Part:
    """Load (GC + CL) and PV (GG) of some customers, kW.

    Args:
        files: one or more years.
        customers: numbers as in the column Customer, in the order wanted; None: all that the files have.
        drop_estimated: rows that are not measured throughout become gaps.

    Raises:
        UsageError: naming file, column and row: another format, a customer that is not there, a date that cannot be
            read, a meter unknown, a value that is no energy, a row that stands twice.
    """
    wanted = None if customers is None else [name.strip() for name in customers]
    if wanted is not None and (not wanted or len(set(wanted)) < len(wanted)):
        raise UsageError(f"--customers {','.join(wanted)}: name each customer once")
    rows = _Rows.joined([chunk for path in files for chunk in _chunks(path, wanted)])
    names = rows.customers if wanted is None else wanted
    rows.check(names, files)
    dates = np.arange(rows.date.min(), rows.date.max() + _DAY)
    load_kw, pv_kw, without_cl = _powers(rows, names, dates, drop_estimated=drop_estimated)

    def gap_of(*categories: str) -> Callable[[str, pd.Timestamp], UsageError]:
        return lambda name, begin: rows.gap(name, categories, begin, drop_estimated=drop_estimated)

    return Part(
        files=tuple(files),
        series={
            "load": Series(_steps(load_kw, names, dates), gap_of("GC", "CL")),
            "pv": Series(_steps(pv_kw, names, dates), gap_of("GG")),
        },
        given=("load", "PV", "rated PV power"),
        derived=("load: general consumption plus controlled load (GC + CL)",),
        stated=(
            f"{FORMAT}: kWh in half-hours, which columns name by their end; dates are day first; the clock is that of "
            "Sydney, on which days of 23 or 25 hours are not told; PV is gross generation (GG); rows that are not "
            f"measured throughout are {'left out' if drop_estimated else 'kept'}",
        ),
        notes=_notes(rows, names, without_cl, drop_estimated=drop_estimated),
        names=tuple(names),
        pv_capacity_kw=np.array([rows.capacities(name)[-1] for name in names]),
        licence=LICENCE,
        citation=CITATION,
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of the files, R of them: a day of one meter of one customer each."""

    customer: npt.NDArray[np.str_]
    """[R]."""
    category: npt.NDArray[np.str_]
    """[R]."""
    date: DateArray
    """[R]."""
    kwh: FloatArray
    """[R,48]; NaN where a cell is empty."""
    capacity_kw: FloatArray
    """[R]."""
    estimated: BoolArray
    """[R]: not all values are measured."""
    line: IntArray
    """[R]: row in the file."""
    path: npt.NDArray[np.str_]
    """[R]."""

    @classmethod
    def joined(cls, parts: Sequence[_Rows]) -> _Rows:
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))

    @property
    def customers(self) -> list[str]:
        """In the order in which the files name them."""
        return list(dict.fromkeys(self.customer.tolist()))

    def of(self, customer: str, category: str) -> IntArray:
        """Indices of the rows of a meter, by date."""
        mine = np.flatnonzero((self.customer == customer) & (self.category == category))
        return mine[np.argsort(self.date[mine], kind="stable")]

    def capacities(self, customer: str) -> list[float]:
        """What the files tell of the PV of a customer, by date, each once."""
        return list(dict.fromkeys(self.capacity_kw[self.of(customer, "GG")].tolist()))

    def error(self, column: str, row: int, message: str) -> UsageError:
        return UsageError(f"{self.path[row]}: column {column}, row {self.line[row]}: {message}")

    def check(self, names: Sequence[str], files: Sequence[Path]) -> None:
        """Raises `UsageError` for a customer who is not there or lacks a meter, and for a row that stands twice."""
        paths = ", ".join(str(path) for path in files)
        have = self.customers
        for name in names:
            if name not in have:
                raise UsageError(f"{paths}: column {_CUSTOMER}: there is no customer {name!r}; change --customers")
            for category in ("GC", "GG"):
                if not self.of(name, category).size:
                    raise UsageError(
                        f"{paths}: column {_CATEGORY}: customer {name} has no {category} row; choose others with "
                        "--customers"
                    )
        keys = pd.DataFrame({"customer": self.customer, "category": self.category, "date": self.date})
        twice = keys.duplicated().to_numpy()
        if twice.any():
            row = int(np.argmax(twice))
            raise self.error(
                _DATE,
                row,
                f"the {self.category[row]} row of customer {self.customer[row]} on {self.date[row]} stands twice; "
                "keep one of the two",
            )

    def gap(self, name: str, categories: Sequence[str], begin: pd.Timestamp, *, drop_estimated: bool) -> UsageError:
        """The error for a half-hour that has no reading: no row, an empty cell, or one that is not to be used."""
        local = begin.tz_convert(_ZONE)
        date = np.datetime64(local.date())
        place = 2 * local.hour + local.minute // 30
        when = f"{local:%Y-%m-%d %H:%M} local time"
        for category in categories:
            mine = self.of(name, category)
            if category == "CL" and not _spans(self.date[mine], date):
                continue
            here = mine[self.date[mine] == date]
            whose = f"{category} of customer {name}"
            if not here.size:
                before = mine[self.date[mine] < date]
                row = int(before[-1]) if before.size else int(mine[0])
                return self.error(_DATE, row, f"after it the row {whose} on {date} is missing; {_MEND}")
            row = int(here[0])
            if drop_estimated and self.estimated[row]:
                return self.error(_QUALITY, row, f"{whose} on {date} is not measured throughout; {_MEND}")
            if np.isnan(self.kwh[row, place]):
                return self.error(HALF_HOURS[place], row, f"{whose} at {when} is empty; {_MEND}")
        row = int(self.of(name, categories[0])[np.searchsorted(self.date[self.of(name, categories[0])], date)])
        value = self.kwh[row, place]
        return self.error(
            HALF_HOURS[place],
            row,
            f"{categories[0]} of customer {name} at {when} is {value:g}, which is said to mean that it is missing; "
            f"{_MEND}",
        )


def _chunks(path: Path, wanted: Collection[str] | None) -> Iterator[_Rows]:
    """The rows of a file, those of the customers wanted, some thousands at a time."""
    head = head_of(path)
    above = next((k for k, line in enumerate(head) if _CATEGORY.lower() in line.lower()), None)
    if above is None:
        raise not_a_file_of(path, FORMAT, f"column {_CATEGORY} is missing")
    title = " ".join(head[:above])
    try:
        with pd.read_csv(
            path, dtype=str, skiprows=above, keep_default_na=False, skip_blank_lines=False, chunksize=_CHUNK_ROWS
        ) as chunks:  # NA is a mark of Row Quality and stays text
            last: PickedTable | None = None
            for number, chunk in enumerate(chunks):
                chunk.columns = pd.Index([str(column).strip() for column in chunk.columns])
                if number == 0:
                    _check_header(path, above + 1, list(chunk.columns))
                customer = chunk[_CUSTOMER].str.strip()
                lines = np.arange(len(chunk), dtype=np.int64) + above + 2 + number * _CHUNK_ROWS
                told = PickedTable(path, chunk, lines=lines).where((customer != "").to_numpy(dtype=np.bool_))
                last = told if len(told.frame) else last
                mine = (
                    customer[customer != ""].isin(list(wanted))
                    if wanted is not None
                    else customer[customer != ""] != ""
                )
                yield _rows(told.where(mine.to_numpy(dtype=np.bool_)), title)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UsageError(f"{path}: it cannot be read ({' '.join(str(error).split())}); fetch it again") from None
    if last is None:
        raise UsageError(f"{path}: it has no rows below its header (row {above + 1}); fetch it again")
    if not last.frame[HALF_HOURS[-1]].iloc[-1]:
        raise last.error(HALF_HOURS[-1], len(last.frame) - 1, "the last row ends before it; is the file cut off?")


def _check_header(path: Path, row: int, columns: Sequence[str]) -> None:
    for column in (_CUSTOMER, _CAPACITY, _CATEGORY, _DATE):
        if column not in columns:
            raise UsageError(f"{path}: row {row}: column {column} is missing; it has {', '.join(columns[:6])}, ...")
    times = [column for column in columns if re.fullmatch(r"\d{1,2}:\d{2}", column)]
    if tuple(times) != HALF_HOURS:
        has = f"{len(times)} columns of time from {times[0]} to {times[-1]}" if times else "no columns of time"
        raise UsageError(
            f"{path}: row {row}: it has {has}; this format has 48, from 0:30 to 0:00, each named by the end of its "
            "half-hour; check the file"
        )


def _rows(table: PickedTable, title: str) -> _Rows:
    frame = table.frame
    category = frame[_CATEGORY].fillna("").str.strip().to_numpy(dtype=np.str_)
    unknown = ~np.isin(category, _CATEGORIES)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise table.error(_CATEGORY, row, f"{str(category[row])!r} is none of {', '.join(_CATEGORIES)}; check the file")
    table = PickedTable(table.path, frame.replace("", None), lines=table.lines)
    capacity = table.numbers(_CAPACITY)
    if np.isnan(capacity).any():
        raise table.error(_CAPACITY, int(np.argmax(np.isnan(capacity))), "it is empty; give the rated PV power in kWp")
    table.check_range(_CAPACITY, capacity, *BOUNDS["pv_kw"], "it is rated PV power in kWp")
    quality = frame[_QUALITY].fillna("").str.strip() if _QUALITY in frame else pd.Series("", index=frame.index)
    return _Rows(
        customer=frame[_CUSTOMER].str.strip().to_numpy(dtype=np.str_),
        category=category,
        date=_dates(table, title),
        kwh=_energies(table),
        capacity_kw=capacity,
        estimated=np.asarray(quality != "", dtype=np.bool_),
        line=table.lines,
        path=np.full(len(frame), str(table.path)),
    )


def _dates(table: PickedTable, title: str) -> DateArray:
    """The day of each row; a title that names a financial year must agree."""
    text = table.frame[_DATE].fillna("").astype(str).str.strip()
    dates = pd.Series(pd.NaT, index=text.index, dtype="datetime64[ns]")
    for form in _DATE_FORMATS:
        dates = dates.fillna(pd.to_datetime(text, format=form, errors="coerce"))
    if dates.isna().any():
        row = int(np.argmax(dates.isna().to_numpy()))
        raise table.error(_DATE, row, f"{text[row]!r} is not a date like 1/07/2012 or 1-Jul-12, day first")
    days = dates.to_numpy().astype("datetime64[D]")
    year = re.search(r"\b(20\d\d)\s*-\s*(20\d\d)\b", title)
    if year:
        outside = (days < np.datetime64(f"{year[1]}-07-01")) | (days > np.datetime64(f"{year[2]}-06-30"))
        if outside.any():
            row = int(np.argmax(outside))
            raise table.error(
                _DATE,
                row,
                f"{text[row]!r} is read as {days[row]}, day first, but the title speaks of July {year[1]} to June "
                f"{year[2]}; are the dates month first?",
            )
    return days


def _energies(table: PickedTable) -> FloatArray:
    """The 48 values of each row, kWh."""
    low, high = (limit / _KW_PER_KWH for limit in BOUNDS["load_kw"])
    kwh = np.empty((len(table.frame), len(HALF_HOURS)))
    for place, column in enumerate(HALF_HOURS):
        kwh[:, place] = table.numbers(column)
        table.check_range(column, kwh[:, place], low, high, "it is energy in kWh, never negative; is it in Wh?")
    return kwh


def _powers(
    rows: _Rows, names: Sequence[str], dates: DateArray, *, drop_estimated: bool
) -> tuple[FloatArray, FloatArray, dict[str, int]]:
    """Load and PV [D,48,N] on all dates [D], kW, and on how many days a customer with controlled load had none."""
    kwh = rows.kwh.copy()
    if drop_estimated:
        kwh[rows.estimated] = np.nan
    energy = {category: np.full((len(dates), len(HALF_HOURS), len(names)), np.nan) for category in _CATEGORIES}
    without_cl: dict[str, int] = {}
    for n, name in enumerate(names):
        for category in _CATEGORIES:
            mine = rows.of(name, category)
            energy[category][(rows.date[mine] - dates[0]) // _DAY, :, n] = kwh[mine]
        cl_dates = rows.date[rows.of(name, "CL")]
        outside = np.array([not _spans(cl_dates, date) for date in dates])
        energy["CL"][outside, :, n] = 0.0
        days = int(np.isin(dates[outside], rows.date[rows.of(name, "GC")]).sum())
        if cl_dates.size and days:
            without_cl[name] = days
    load_kw = _KW_PER_KWH * (energy["GC"] + energy["CL"])
    return load_kw, _KW_PER_KWH * energy["GG"], without_cl


def _spans(dates: DateArray, date: np.datetime64) -> bool:
    """Whether a date lies between the first and the last of `dates`, which rise."""
    return bool(dates.size and dates[0] <= date <= dates[-1])


def _steps(values: FloatArray, names: Sequence[str], dates: DateArray) -> Steps:
    """Half-hours of the days of 24 hours; what lies between them is missing."""
    midnights = pd.DatetimeIndex(np.append(dates, dates[-1] + _DAY)).tz_localize(_ZONE).tz_convert("UTC")
    ordinary = np.diff(midnights.as_unit("ns").asi8) == pd.Timedelta(days=1).value
    starts = midnights[:-1][ordinary].to_numpy(dtype="datetime64[ns]")
    index = (starts[:, None] + np.arange(len(HALF_HOURS)) * _HALF_HOUR.to_timedelta64()).ravel()
    frame = pd.DataFrame(
        values[ordinary].reshape(-1, len(names)), index=pd.DatetimeIndex(index, tz="UTC"), columns=list(names)
    )
    return Steps.of(frame, _HALF_HOUR)


def _notes(rows: _Rows, names: Sequence[str], without_cl: dict[str, int], *, drop_estimated: bool) -> tuple[str, ...]:
    """What looks odd but may be right."""
    notes: list[str] = []
    zero = (rows.kwh == 0.0).all(axis=1)
    estimated = {name: int((rows.estimated & (rows.customer == name)).sum()) for name in names}
    for category, what in (("GC", "the consumption"), ("GG", "the generation")):
        days = {name: int(zero[rows.of(name, category)].sum()) for name in names}
        if any(days.values()):
            notes.append(
                f"Days on which {what} ({category}) is 0 throughout, which may stand for missing readings: "
                f"{_counted(days)}."
            )
    if any(estimated.values()) and not drop_estimated:
        notes.append(f"Rows with estimates among their values (Row Quality): {_counted(estimated)}.")
    if without_cl:
        notes.append(
            f"Days before or after a controlled load was there, with general consumption only: {_counted(without_cl)}."
        )
    for name in names:
        told = rows.capacities(name)
        if len(told) > 1:
            notes.append(
                f"The rated PV power of customer {name} changes ({', '.join(f'{kw:g}' for kw in told)} kWp); "
                "the last is taken."
            )
        peak_kw = _KW_PER_KWH * float(np.nanmax(rows.kwh[rows.of(name, "GG")]))
        if peak_kw > _PV_OVER_CAPACITY * told[-1]:
            notes.append(
                f"The PV of customer {name} reaches {peak_kw:.3g} kW, but its rated power is {told[-1]:g} kWp; "
                "check whether the file is in kWh for each half-hour."
            )
    return tuple(notes)


def _counted(days: dict[str, int]) -> str:
    """The largest counts, by customer."""
    found = sorted(((count, name) for name, count in days.items() if count), key=lambda pair: -pair[0])
    shown = ", ".join(f"customer {name} {count}" for count, name in found[:_MOST_NAMED])
    more = f", and {len(found) - _MOST_NAMED} customers more" if len(found) > _MOST_NAMED else ""
    return shown + more
