"""From readings in time to a `Dataset`: what the importers share.

Complete local days of 24 hours, the default splits, what is made where a source has nothing, and the card. Imported by
importers only (needs pandas). Axes: D days, H = 24 hours, N prosumers, F covariates, C columns of a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

import numpy as np
import pandas as pd

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.datasets.splits import LEAD_IN_DAYS, SPLITS, Block, DateArray, LabelArray, cut_blocks
from prosumer_gym.datasets.tables import Steps
from prosumer_gym.errors import UsageError

HOURS = 24
SEASON_DAYS = 91
LONGEST_HOLE_DAYS = 14
_DEV_AND_TEST_SHARE = 0.2
_ONE_HOUR = pd.Timedelta(hours=1)
_ONE_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Missing:
    """The first reading that a day lacks."""

    table: str
    column: str
    begin: pd.Timestamp


@dataclass
class Counts:
    """What became of the days and hours of the source."""

    days_seen: int = 0
    at_the_edges: list[str] = field(default_factory=list)
    clock_change: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    outside_splits: list[str] = field(default_factory=list)
    filled_hours: dict[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One sentence for each kind, zero or not, for the summary and the card."""
        filled = ", ".join(f"{name} {hours:g} h" for name, hours in self.filled_hours.items() if hours) or "nothing"
        return [
            f"Local days in the files: {self.days_seen}.",
            f"Dropped, the files begin or end within them: {_listed(self.at_the_edges)}.",
            f"Dropped, 23 or 25 hours long (the clock changes): {_listed(self.clock_change)}.",
            f"Dropped, readings are missing: {_listed(self.incomplete)}.",
            f"Dropped, in no block of the splits: {_listed(self.outside_splits)}.",
            f"Short gaps filled by linear interpolation: {filled}.",
        ]


@dataclass(frozen=True, eq=False)
class CompleteDays:
    """All local days of 24 hours for which every table tells every hour."""

    dates: DateArray
    """[D], strictly increasing; days that were dropped are simply not there."""
    hourly: dict[str, FloatArray]
    """Means over the local hours, one array [D,H,C] for each table."""
    first_missing: Missing | None
    """The first reading that an incomplete day lacks, if there is any."""


def fill_short_gaps(steps: Steps, longest: pd.Timedelta) -> tuple[Steps, float]:
    """Interpolate linearly in time over gaps of at most `longest` between two readings.

    Returns the steps and how many column-hours were filled.
    """
    most = int(longest // steps.step)
    if most < 1:
        return steps, 0.0
    frame = steps.frame.copy()
    filled = 0
    for place in range(frame.shape[1]):
        values = frame.iloc[:, place].to_numpy(dtype=np.float64, copy=True)
        gone = np.isnan(values)
        starts = np.flatnonzero(gone & ~np.r_[False, gone[:-1]])
        ends = np.flatnonzero(gone & ~np.r_[gone[1:], False]) + 1
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if start > 0 and end < values.size and end - start <= most:
                weights = np.arange(1, end - start + 1) / (end - start + 1)
                values[start:end] = values[start - 1] + weights * (values[end] - values[start - 1])
                filled += end - start
        frame.isetitem(place, values)
    return replace(steps, frame=frame), filled * (steps.step / _ONE_HOUR)


def complete_days(
    tables: Mapping[str, Steps], zone: tzinfo, counts: Counts, *, fill_gaps_up_to: pd.Timedelta
) -> CompleteDays:
    """Cut tables into local days, fill short gaps, average to hours; `counts` is told what was dropped and filled.

    Raises:
        UsageError: the files have no whole local day in common.
    """
    filled: dict[str, Steps] = {}
    for name, steps in tables.items():
        filled[name], counts.filled_hours[name] = fill_short_gaps(steps, fill_gaps_up_to)
    first = next(iter(tables.values()))
    begin, end = first.frame.index[0], first.frame.index[-1] + first.step
    dates = np.arange(
        np.datetime64(begin.tz_convert(zone).date()),
        np.datetime64((end - pd.Timedelta(1, "ns")).tz_convert(zone).date()) + _ONE_DAY,
    )
    counts.days_seen = len(dates)
    midnight = _midnights(dates, zone)
    start, stop = midnight[:-1], midnight[1:]
    told_from = max(steps.frame.index[0] for steps in tables.values())
    told_until = min(steps.frame.index[-1] + steps.step for steps in tables.values())
    edge = np.asarray((start < told_from) | (stop > told_until))
    ordinary = np.asarray((stop - start) == HOURS * _ONE_HOUR)
    counts.at_the_edges += _dates(dates[edge])
    counts.clock_change += _dates(dates[~ordinary & ~edge])
    usable = ordinary & ~edge
    if not usable.any():
        raise UsageError("no whole local day lies in all files; check that they cover the same days")

    complete = np.ones(int(usable.sum()), dtype=np.bool_)
    hourly: dict[str, FloatArray] = {}
    missing: list[Missing] = []
    for name, steps in filled.items():
        values, grid = _on_grid(steps, start[usable])
        gone = np.isnan(values)  # [D, steps of a day, C]
        complete &= ~gone.any(axis=(1, 2))
        if gone.any():
            day, step, column = (int(k[0]) for k in np.nonzero(gone))
            missing.append(Missing(name, str(steps.frame.columns[column]), grid[day * gone.shape[1] + step]))
        hourly[name] = values.reshape(len(values), HOURS, -1, values.shape[2]).mean(axis=2)
    counts.incomplete += _dates(dates[usable][~complete])
    return CompleteDays(
        dates=dates[usable][complete],
        hourly={name: values[complete] for name, values in hourly.items()},
        first_missing=min(missing, key=lambda gap: gap.begin) if missing else None,
    )


def season_blocks(dates: DateArray) -> list[Block]:
    """The default splits: every season in each of them.

    The days are cut into equal parts of about a quarter of a year. Each part holds a test block, a dev block and a
    train block, in this order, each after `LEAD_IN_DAYS` days of lead-in. Of the other days dev and test get a fifth
    each, in whole weeks where that is possible, train gets the rest. So train days lie before and after test days. No
    part spans a hole of more than `LONGEST_HOLE_DAYS` days.

    Raises:
        UsageError: too few days.
    """
    blocks: list[Block] = []
    holes = np.flatnonzero(np.diff(dates) > (LONGEST_HOLE_DAYS + 1) * _ONE_DAY) + 1
    for run in np.split(np.arange(len(dates)), holes):
        for rows in np.array_split(run, max(1, round(len(run) / SEASON_DAYS))):
            scored = len(rows) - len(SPLITS) * LEAD_IN_DAYS
            size = int(scored * _DEV_AND_TEST_SHARE)
            if size < 1:
                continue
            weeks = round(scored * _DEV_AND_TEST_SHARE / 7)
            size = 7 * weeks if weeks else size
            first = int(rows[0]) + LEAD_IN_DAYS
            for split, length in (("test", size), ("dev", size), ("train", scored - 2 * size)):
                blocks.append(Block(split, dates[first], dates[first + length - 1]))  # type: ignore[arg-type]
                first += length + LEAD_IN_DAYS
    if not blocks:
        least = len(SPLITS) * LEAD_IN_DAYS + round(1 / _DEV_AND_TEST_SHARE)
        raise UsageError(
            f"splits: {len(dates)} complete days are too few; at least {least} without a hole of more than "
            f"{LONGEST_HOLE_DAYS} days are needed ({LEAD_IN_DAYS} before each block are lead-in)"
        )
    return blocks


@dataclass(frozen=True, eq=False)
class Rows:
    """The days that the splits keep."""

    dates: DateArray
    """[D]."""
    split: LabelArray
    """[D]."""
    block: IntArray
    """[D]."""
    hourly: dict[str, FloatArray]
    """[D,H,C]."""

    @property
    def training(self) -> BoolArray:
        """Train days, without lead-in [D]."""
        return np.asarray(self.split == "train", dtype=np.bool_)


def cut(days: CompleteDays, blocks: Sequence[Block] | None, counts: Counts) -> Rows:
    """Keep the days of the blocks and their lead-in (`blocks` None: `season_blocks`).

    Raises:
        UsageError: blocks that the days cannot fill, or a split without a block.
    """
    blocks = season_blocks(days.dates) if blocks is None else blocks
    for split in SPLITS:
        if not any(block.split == split for block in blocks):
            raise UsageError(f"splits: no {split} block is given; name at least one")
    rows, label, block = cut_blocks(days.dates, blocks)
    counts.outside_splits += _dates(np.delete(days.dates, rows))
    hourly = {name: values[rows] for name, values in days.hourly.items()}
    return Rows(days.dates[rows], label, block, hourly)


def steps_of_days(steps: Steps, dates: DateArray, zone: tzinfo) -> FloatArray:
    """Values of whole local days of 24 hours, not averaged [D, steps of a day, C]; NaN where missing."""
    starts = pd.DatetimeIndex([_midnights(dates[day : day + 1], zone)[0] for day in range(len(dates))])
    return _on_grid(steps, starts)[0]


def weekend_of(dates: DateArray, weekdays: Sequence[int]) -> BoolArray:
    """Whether each day [D] is one of `weekdays` (Monday = 0)."""
    return np.asarray(np.isin((dates.astype(np.int64) + 3) % 7, np.asarray(weekdays)), dtype=np.bool_)


def blocks_table(rows: Rows) -> list[str]:
    """Markdown table of the blocks: split, scored days, their span, and where the lead-in begins."""
    lines = ["| split | lead-in from | first day | last day | days |", "|---|---|---|---|---|"]
    for number in np.unique(rows.block):
        mine = rows.dates[rows.block == number]
        name = str(rows.split[rows.block == number][-1])
        days = len(mine) - LEAD_IN_DAYS
        lines.append(f"| {name} | {mine[0]} | {mine[LEAD_IN_DAYS]} | {mine[-1]} | {days} |")
    return lines


def _midnights(dates: DateArray, zone: tzinfo) -> pd.DatetimeIndex:
    """Beginning of each date and the end of the last one, UTC [D+1]."""
    naive = pd.DatetimeIndex(np.append(dates, dates[-1] + _ONE_DAY).astype("datetime64[ns]"))
    earlier = np.ones(len(naive), dtype=np.bool_)  # where the clock shows midnight twice, the day begins at the first
    return naive.tz_localize(zone, ambiguous=earlier, nonexistent="shift_forward").tz_convert("UTC")


def _on_grid(steps: Steps, midnights: pd.DatetimeIndex) -> tuple[FloatArray, pd.DatetimeIndex]:
    """Values of whole days [D, steps of a day, C], NaN where missing, and the beginnings of all their steps."""
    per_day = int(HOURS * _ONE_HOUR // steps.step)
    offsets = np.arange(per_day) * steps.step.to_timedelta64()
    grid = pd.DatetimeIndex((midnights.to_numpy(dtype="datetime64[ns]")[:, None] + offsets).ravel(), tz="UTC")
    values = steps.frame.reindex(grid).to_numpy(dtype=np.float64)
    return values.reshape(len(midnights), per_day, -1), grid


def _dates(dates: DateArray) -> list[str]:
    return [str(date) for date in dates]


def _listed(dates: Sequence[str]) -> str:
    if not dates:
        return "none"
    shown = ", ".join(dates[:20]) + (", ..." if len(dates) > 20 else "")
    return f"{len(dates)} ({shown})"
