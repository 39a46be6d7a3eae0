"""Files of readings in time: reading them without guessing, with errors that name file, column and row.

Rows are counted as a spreadsheet counts them: the header is row 1. Imported by importers only (needs pandas).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import tzinfo
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from prosumer_gym.arrays import FloatArray
from prosumer_gym.errors import UsageError

IntervalLabel = Literal["begin", "end"]
NaiveTimes = Literal["local", "utc"]

_OFFSET = re.compile(r"[ T]\d{2}.*(?:[Zz]|[+-]\d{2}(?::?\d{2})?)$")
_HOUR = pd.Timedelta(hours=1)
_MINUTE = pd.Timedelta(minutes=1)


@dataclass(frozen=True, eq=False)
class Steps:
    """Values on a regular grid of time steps; what is missing is NaN."""

    frame: pd.DataFrame
    """Index: beginnings of the steps, UTC, regular and rising; one column for each series."""
    step: pd.Timedelta

    @classmethod
    def of(cls, frame: pd.DataFrame, step: pd.Timedelta) -> Steps:
        """Steps from rows in any order; steps that no row tells are NaN."""
        grid = pd.date_range(frame.index.min(), frame.index.max(), freq=step)
        return cls(frame.reindex(grid), step)


@dataclass(frozen=True, eq=False)
class Table:
    """One file as it stands."""

    path: Path
    frame: pd.DataFrame

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        keep_index: bool = False,
        separator: str = ",",
        columns: Collection[str] | None = None,
    ) -> Table:
        """Read a CSV (also gzipped) or parquet file.

        Args:
            path: the file.
            keep_index: the index of a parquet file becomes a column.
            separator: between the cells of a CSV.
            columns: those to read of a CSV, where they are there; None: all.

        Raises:
            UsageError: the file is missing, empty, of another kind, or cannot be parsed.
        """
        if path.is_dir():
            raise UsageError(f"{path}: it is a folder; name the file in it")
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file; check the path")
        name = path.name.lower()
        try:
            if name.endswith((".parquet", ".pq")):
                frame = pd.read_parquet(path)
                frame = frame.reset_index() if keep_index else frame
            elif name.endswith((".csv", ".csv.gz")):
                wanted = None if columns is None else (lambda column: column.strip() in columns)
                frame = pd.read_csv(path, dtype=str, skip_blank_lines=False, sep=separator, usecols=wanted)
            else:
                raise UsageError(f"{path}: its name ends neither in .csv, .csv.gz nor .parquet; convert it first")
        except (ValueError, OSError, pd.errors.ParserError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{path}: it cannot be read ({' '.join(str(error).split())}); check the file") from None
        frame.columns = frame.columns.map(lambda column: str(column).strip())
        blank = frame.isna().all(axis=1).to_numpy()
        end = len(frame) - int(np.argmin(blank[::-1])) if not blank.all() else 0  # empty lines at the end
        if end == 0:
            raise UsageError(f"{path}: it has no rows; check the file")
        return cls(path, frame.iloc[:end].reset_index(drop=True))

    def error(self, column: str, row: int, message: str) -> UsageError:
        """The error about one cell; `row` counts the data rows from 0."""
        return UsageError(f"{self.path}: column {column}, row {row + 2}: {message}")

    def require(self, *columns: str) -> None:
        """Raises `UsageError` naming the first column that is not there."""
        for column in columns:
            if column not in self.frame.columns:
                have = ", ".join(str(name) for name in self.frame.columns)
                if have[:1] in ("{", "[", "<"):
                    raise UsageError(
                        f"{self.path}: it begins with {have[:1]!r}, so it is JSON or HTML; give a CSV file"
                    )
                if len(self.frame.columns) == 1 and ";" in have:
                    raise UsageError(f"{self.path}: its cells are separated by semicolons; separate them by commas")
                raise UsageError(f"{self.path}: column {column} is missing; it has {have}; rename or add it")

    def numbers(self, column: str) -> FloatArray:
        """The column as numbers, NaN where a cell is empty. Raises `UsageError` for text and for infinity."""
        given = self.frame[column]
        if given.dtype == np.bool_:
            raise self.error(column, 0, "it holds true and false; give numbers")
        values = np.full(len(given), np.nan)
        told = given.notna().to_numpy()
        try:
            # Text becomes numbers here and not while reading: every digit counts, and errors can name the row.
            values[told] = given[told].to_numpy(dtype=object).astype(np.float64)
        except (ValueError, TypeError):
            row = int(np.argmax(told & pd.to_numeric(given, errors="coerce").isna().to_numpy()))
            message = "is not a number; write it like 1.5, or leave it empty"
            raise self.error(column, row, f"{given.iloc[row]!r} {message}") from None
        if np.isinf(values).any():
            row = int(np.argmax(np.isinf(values)))
            raise self.error(column, row, "it is not finite; leave it empty where nothing is known")
        return values

    def check_range(
        self, column: str, values: FloatArray, low: float, high: float, hint: str, *, above: str | None = None
    ) -> None:
        """Raises `UsageError` for the first number outside [low, high]; NaN passes.

        `hint` says what may be wrong; `above`, if given, takes its place for a number above `high`.
        """
        bad = (values < low) | (values > high)
        if bad.any():
            row = int(np.argmax(bad))
            why = above if above is not None and values[row] > high else hint
            raise self.error(column, row, f"{values[row]:g} is outside [{low:g}, {high:g}]; {why}")

    def times(self, zone: tzinfo, naive: NaiveTimes | None, groups: npt.NDArray[np.str_] | None) -> pd.DatetimeIndex:
        """The column `time` in UTC, one entry for each row.

        Times with an offset say what they mean. Those without are refused unless `naive` says what they are: "utc", or
        "local", the clock of `zone`; of an hour that the clock shows twice, the first row of a group is the earlier.

        Raises:
            UsageError: an empty or unparsable time, times with and without offset in one file, times without offset
                when `naive` is None, a local time that the clock never shows.
        """
        self.require("time")
        given = self.frame["time"]
        if given.isna().any():
            raise self.error("time", int(np.argmax(given.isna().to_numpy())), "it is empty; give every row its time")
        if isinstance(given.dtype, pd.DatetimeTZDtype):
            return pd.DatetimeIndex(given.dt.tz_convert("UTC"))
        if given.dtype.kind == "M":
            parsed, aware = pd.DatetimeIndex(given), np.zeros(len(given), dtype=np.bool_)
        else:
            text = given.astype(str).str.strip()
            stamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
            if stamps.isna().any():
                row = int(np.argmax(stamps.isna().to_numpy()))
                raise self.error("time", row, f"{text.iloc[row]!r} is not an ISO 8601 time; write 2018-01-31T13:00:00Z")
            aware = text.str.contains(_OFFSET).to_numpy(dtype=np.bool_)
            if aware.any() and not aware.all():
                row = int(np.argmax(aware != aware[0]))
                raise self.error(
                    "time",
                    row,
                    f"{text.iloc[row]!r}: some times have a UTC offset, some have none; write all alike",
                )
            parsed = pd.DatetimeIndex(stamps)
            parsed = parsed if aware[0] else parsed.tz_localize(None)
        if aware[0]:
            return parsed
        if naive is None:
            raise self.error(
                "time",
                0,
                f"{given.iloc[0]} has no UTC offset; add it (2018-01-31T13:00:00Z), or say --naive-times local or utc",
            )
        if naive == "utc":
            return parsed.tz_localize("UTC")
        return self._localize(parsed, zone, groups)

    def _localize(self, naive: pd.DatetimeIndex, zone: tzinfo, groups: npt.NDArray[np.str_] | None) -> pd.DatetimeIndex:
        keys = pd.DataFrame({"time": naive, "group": "" if groups is None else groups})
        first = (keys.groupby(["group", "time"]).cumcount() == 0).to_numpy()
        local = naive.tz_localize(zone, ambiguous=first, nonexistent="NaT")
        if local.isna().any():
            row = int(np.argmax(local.isna()))
            raise self.error(
                "time",
                row,
                f"{naive[row]} does not exist in {zone}, where the clock jumps over it; are the times in utc?",
            )
        return local.tz_convert("UTC")


@dataclass(frozen=True, eq=False)
class Readings:
    """A table whose rows are readings over steps of one length.

    Raises `UsageError` for a reading that stands twice, steps of different length or longer than an hour, and steps
    that do not fit into the local hours.
    """

    table: Table
    zone: tzinfo
    begin: pd.DatetimeIndex
    """Beginning of each row's step, UTC."""
    step: pd.Timedelta
    ids: npt.NDArray[np.str_]
    """Whose reading each row is; "" in a file of a place, not of prosumers."""

    @classmethod
    def of(cls, table: Table, zone: tzinfo, label: IntervalLabel, naive: NaiveTimes | None, *, by_id: bool) -> Readings:
        """Parse time and, with `by_id`, id; `label` says which end of its step a time names."""
        ids = np.full(len(table.frame), "", dtype=np.str_)
        if by_id:
            table.require("time", "id")
            if table.frame["id"].isna().any():
                row = int(np.argmax(table.frame["id"].isna().to_numpy()))
                raise table.error("id", row, "it is empty; give every row the id of its prosumer")
            ids = table.frame["id"].astype(str).str.strip().to_numpy().astype(np.str_)
        stamps = table.times(zone, naive, ids).as_unit("ns")
        return cls._checked(table, zone, stamps, label, ids, "time")

    @classmethod
    def at(
        cls,
        table: Table,
        zone: tzinfo,
        begin: pd.DatetimeIndex,
        ids: npt.NDArray[np.str_] | None = None,
        *,
        column: str = "time",
    ) -> Readings:
        """Rows whose steps begin at `begin`, UTC; errors about them name `column`, from which they were made."""
        ids = np.full(len(table.frame), "", dtype=np.str_) if ids is None else ids
        return cls._checked(table, zone, begin.as_unit("ns"), "begin", ids, column)

    @classmethod
    def _checked(
        cls,
        table: Table,
        zone: tzinfo,
        stamps: pd.DatetimeIndex,
        label: IntervalLabel,
        ids: npt.NDArray[np.str_],
        column: str,
    ) -> Readings:
        twice = pd.DataFrame({"time": stamps, "id": ids}).duplicated().to_numpy()
        if twice.any():
            row = int(np.argmax(twice))
            whose = f" of {ids[row]}" if ids[row] else ""
            raise table.error(
                column, row, f"{table.frame[column].iloc[row]}{whose} stands twice; keep one of the two rows"
            )
        step = _step_of(table, stamps, column)
        begin = stamps - step if label == "end" else stamps
        local = begin.tz_convert(zone)
        off = np.asarray((local.minute % (step // _MINUTE) != 0) | (local.second != 0) | (local.microsecond != 0))
        if off.any():
            row = int(np.argmax(off))
            raise table.error(
                column,
                row,
                f"its step begins at {local[row]:%H:%M:%S} local time, across local hours; check the time and its zone",
            )
        return cls(table, zone, begin, step, ids)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The ids, in the order in which the file names them."""
        return tuple(str(name) for name in pd.unique(pd.Series(self.ids)))

    def steps(self, values: FloatArray) -> Steps:
        """One number a row -> one column for each id, in any order."""
        wide = pd.DataFrame({"begin": self.begin, "id": self.ids, "value": values}).pivot(
            index="begin", columns="id", values="value"
        )
        return Steps.of(wide, self.step)

    def gap(self, column: str, name: str, begin: pd.Timestamp) -> UsageError:
        """The error for a step that has no reading: an empty cell, or no row."""
        mine = np.flatnonzero(self.ids == name)
        here = mine[self.begin[mine] == begin]
        whose = f" of {name}" if name else ""
        when = f"{begin.tz_convert(self.zone):%Y-%m-%d %H:%M} local time"
        mend = "fill the gap, or say with --fill-gaps and --drop-incomplete-days what to do with gaps"
        if here.size:
            row = int(here[0])
            cell = self.table.frame[column].iloc[row]
            what = "is empty" if pd.isna(cell) else f"is {cell}, which is said to mean that it is missing"
            return self.table.error(column, row, f"the reading{whose} at {when} {what}; {mend}")
        before = mine[self.begin[mine] < begin]
        row = int(before[np.argmax(self.begin[before])]) if before.size else 0
        return self.table.error(column, row, f"after it the reading{whose} at {when} is missing; {mend}")


def _step_of(table: Table, stamps: pd.DatetimeIndex, column: str) -> pd.Timedelta:
    """Length of a step: the shortest time between two stamps, which must be an hour or a whole part of it.

    Parts are whole minutes.
    """
    times, rows = np.unique(stamps.to_numpy(dtype="datetime64[ns]"), return_index=True)
    if times.size == 1:
        raise table.error(column, 0, "there is only one time in the file; a data set needs weeks of readings")
    shortest = int(np.diff(times).argmin())
    step = pd.Timedelta(times[shortest + 1] - times[shortest])
    if step > _HOUR or _HOUR % step != pd.Timedelta(0) or step % _MINUTE != pd.Timedelta(0):
        minutes = step.total_seconds() / 60.0
        message = f"it comes {minutes:g} minutes after the one before; steps must be an hour or a whole part of it"
        raise table.error(column, int(rows[shortest + 1]), message)
    return step
