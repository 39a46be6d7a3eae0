"""Importer of tidy files: one row for each time and prosumer, units and time zone said by the user, never guessed.

Imported by importers only (needs pandas). Axes: D days, H = 24 hours, N prosumers, F covariates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Fleet
from prosumer_gym.datasets.assemble import Counts, Rows, blocks_table, complete_days, cut, weekend_of
from prosumer_gym.datasets.carve import SHIFTABLE_SHARE, carve_shiftable
from prosumer_gym.datasets.forecast_errors import make_forecasts
from prosumer_gym.datasets.schema import BOUNDS, COVARIATES, UNITS, Dataset, Manifest, parse_zone
from prosumer_gym.datasets.splits import Block
from prosumer_gym.datasets.tables import IntervalLabel, NaiveTimes, Readings, Steps, Table
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import passive_profile

EnergyUnit = Literal["kW", "kWh"]
PriceUnit = Literal["ct/kWh", "EUR/MWh", "EUR/kWh"]

CT_PER_KWH: dict[PriceUnit, float] = {"ct/kWh": 1.0, "EUR/MWh": 0.1, "EUR/kWh": 100.0}
MIN_TRAIN_DAYS_OF_FORECASTS = 12
"""Policies that fit a forecast refuse fewer train days; an import with fewer says so."""
_PRICES = ("price_da", "price_rt")
_HINTS = {
    "load": "a load is never negative; is it net of PV?",
    "pv": "generation is never negative, at night it is 0; is it of the opposite sign?",
    "shiftable_ref": "a shiftable load is never negative",
    "price_da": "is --price-unit right?",
    "price_rt": "is --price-unit right?",
    "temperature_c": "is it in deg F or K?",
    "cloud_fraction": "is it in percent or oktas?",
    "irradiance_w_per_m2": "is it in kJ/m2, or does it have a negative offset at night?",
    "passive_pu": "it is a share of the feeder's nominal load",
}
_ABOVE = f"the upper limit of one prosumer is {BOUNDS['load_kw'][1]:g} kW; is the column in W?"


@dataclass(frozen=True, eq=False)
class Imported:
    """A data set and what became of its source on the way."""

    dataset: Dataset
    counts: Counts
    notes: tuple[str, ...]
    """What the user should know or check, one sentence each."""


@dataclass(frozen=True, kw_only=True)
class TidyFiles:
    """The files and what their columns mean.

    Files have a column `time`; those of prosumers also `id`. What may be left out is made, and the card says so.
    """

    readings: Path
    """time, id, load_kw or load_kwh, pv_kw or pv_kwh; optionally shiftable_ref_kw or shiftable_ref_kwh."""
    prices: Path
    """time, price_da, price_rt."""
    weather: Path
    """time, temperature_c, cloud_fraction, irradiance_w_per_m2."""
    time_zone: str
    interval_label: IntervalLabel
    unit: EnergyUnit
    price_unit: PriceUnit
    forecasts: Path | None = None
    """time, id and the columns of weather."""
    passive: Path | None = None
    """time, passive_pu."""
    capacities: Path | None = None
    """id, pv_capacity_kw (no time)."""
    naive_times: NaiveTimes | None = None


@dataclass(frozen=True, kw_only=True)
class TidyChoices:
    """What to do with the readings; every choice stands on the card."""

    id: str
    title: str = "Imported readings"
    licence: str = "not stated"
    citation: str = "not stated"
    blocks: tuple[Block, ...] | None = None
    """Splits; None: `season_blocks`."""
    weekend: tuple[int, ...] = (5, 6)
    """Weekdays of the weekend, Monday = 0."""
    shiftable_share: float = SHIFTABLE_SHARE
    fill_gaps_h: float = 0.0
    drop_incomplete_days: bool = False
    seed: int = 0
    """Of the forecast errors, where forecasts are made."""


def import_tidy(files: TidyFiles, choices: TidyChoices) -> Imported:
    """Make a data set of tidy files.

    Readings of less than an hour are averaged to hours. Days of 23 or 25 hours, and days at the edges of the files, are
    dropped and counted.

    Raises:
        UsageError: naming file, column and row: a column that is missing or of another unit than stated, a cell that
            is no number or out of its range, a time that cannot be read or has no offset, a reading that stands twice
            or is missing, prosumers that differ between files; or too few days for the splits.
    """
    sources = _Sources(files)
    names = sources.names
    counts = Counts()
    days = complete_days(sources.steps, sources.zone, counts, fill_gaps_up_to=pd.Timedelta(hours=choices.fill_gaps_h))
    if days.first_missing is not None and not choices.drop_incomplete_days:
        raise sources.gap(days.first_missing.table, days.first_missing.column, days.first_missing.begin)
    rows = cut(days, choices.blocks, counts)
    hourly = rows.hourly

    load_kw, pv_kw = hourly["load"], hourly["pv"]
    notes = _notes(rows, names)
    fleet = Fleet.identical([1])
    if "shiftable_ref" in hourly:
        shiftable_ref_kw = hourly["shiftable_ref"]
    else:
        load_kw, shiftable_ref_kw = carve_shiftable(
            load_kw, rows.training, float(fleet.shiftable_power_kw[0]), share=choices.shiftable_share
        )
    weather = hourly["weather"]
    if files.forecasts is None:
        rng = np.random.default_rng(choices.seed)
        forecast = np.round(make_forecasts(weather, len(names), rng), 4)
    else:
        forecast = np.stack([hourly[f"forecast {name}"] for name in COVARIATES], axis=-1)
    if files.passive is None:
        passive_pu = np.tile(passive_profile(load_kw.shape[1]), (len(rows.dates), 1))
    else:
        passive_pu = hourly["passive"][:, :, 0]
    capacity_kw = pv_kw[rows.training].max(axis=(0, 1)) if files.capacities is None else _capacities(files, names)

    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", choices.id):
        raise UsageError(f"--id {choices.id!r}: use a-z, 0-9, dots, dashes and underscores, a letter or digit first")
    told = _Told(files, choices, carved="shiftable_ref" not in hourly)
    manifest = Manifest(
        id=choices.id,
        version="1",
        title=choices.title or choices.id,
        licence=choices.licence or "not stated",
        citation=choices.citation or "not stated",
        sources=tuple(path.name for path in told.paths),
        units=UNITS,
        interval_label="begin",
        time_zone=files.time_zone,
        measured=told.given,
        derived=told.derived,
        made=told.made,
        seed=choices.seed if files.forecasts is None else None,
    )
    dataset = Dataset(
        manifest=manifest,
        prosumers=names,
        dates=rows.dates,
        split=rows.split,
        block=rows.block,
        weekend=weekend_of(rows.dates, choices.weekend),
        load_kw=load_kw,
        pv_kw=pv_kw,
        shiftable_ref_kw=shiftable_ref_kw,
        price_da_ct_per_kwh=hourly["prices"][:, :, 0],
        price_rt_ct_per_kwh=hourly["prices"][:, :, 1],
        passive_pu=passive_pu,
        weather=weather,
        weather_forecast=forecast,
        pv_capacity_kw=capacity_kw,
        covariates=COVARIATES,
        card=told.card(rows, counts, notes),
    )
    return Imported(dataset, counts, notes)


class _Sources:
    """All files read, checked and put on grids of steps."""

    def __init__(self, files: TidyFiles) -> None:
        self.zone = parse_zone(files.time_zone)
        self._files = files
        self.steps: dict[str, Steps] = {}
        self._readings: dict[str, tuple[Readings, str | None]] = {}
        self._read_prosumers()
        self._read_place("prices", files.prices, _PRICES, CT_PER_KWH[files.price_unit])
        self._read_place("weather", files.weather, COVARIATES)
        if files.forecasts is not None:
            self._read_forecasts(files.forecasts)
        if files.passive is not None:
            self._read_place("passive", files.passive, ("passive_pu",))

    @property
    def names(self) -> tuple[str, ...]:
        """The prosumers, in the order of the file of readings."""
        return self._readings["load"][0].names

    def gap(self, table: str, column: str, begin: pd.Timestamp) -> UsageError:
        """The error for a missing reading; `column` is the column of the steps."""
        readings, of_prosumers = self._readings[table]
        if of_prosumers is None:
            return readings.gap(column, "", begin)
        return readings.gap(of_prosumers, column, begin)

    def _open(self, table: Table, *, by_id: bool) -> Readings:
        files = self._files
        return Readings.of(table, self.zone, files.interval_label, files.naive_times, by_id=by_id)

    def _read_prosumers(self) -> None:
        unit = self._files.unit
        other = "kWh" if unit == "kW" else "kW"
        table = Table.read(self._files.readings)
        for quantity in ("load", "pv", "shiftable_ref"):
            if f"{quantity}_{other.lower()}" in table.frame.columns:
                raise UsageError(
                    f"{table.path}: column {quantity}_{other.lower()} is in {other}, but the unit is said to be "
                    f"{unit}; say --unit {other}, or convert and rename the column"
                )
        required = [f"{quantity}_{unit.lower()}" for quantity in ("load", "pv")]
        table.require("time", "id", *required)
        readings = self._open(table, by_id=True)
        per_kw = 1.0 if unit == "kW" else readings.step / pd.Timedelta(hours=1)
        for quantity in ("load", "pv", "shiftable_ref"):
            column = f"{quantity}_{unit.lower()}"
            if column in table.frame.columns:
                low, high = BOUNDS[f"{quantity}_kw"]
                self._add(quantity, readings, column, table.numbers(column) / per_kw, low, high)

    def _read_forecasts(self, path: Path) -> None:
        readings = self._open(Table.read(path), by_id=True)
        readings.table.require(*COVARIATES)
        for name in self.names:
            if name not in readings.names:
                raise UsageError(f"{path}: column id: prosumer {name!r} has no forecast; add its rows")
        for name in readings.names:
            if name not in self.names:
                row = int(np.argmax(readings.ids == name))
                raise readings.table.error("id", row, f"{name!r} is no prosumer of the readings; leave its rows out")
        for name in COVARIATES:
            low, high = BOUNDS[name]
            self._add(f"forecast {name}", readings, name, readings.table.numbers(name), low, high)

    def _add(self, key: str, readings: Readings, column: str, values: FloatArray, low: float, high: float) -> None:
        hint, above = _HINTS[key.removeprefix("forecast ")], _ABOVE if f"{key}_kw" in BOUNDS else None
        readings.table.check_range(column, values, low, high, hint, above=above)
        steps = readings.steps(values)
        names = list(self.names) if self.steps else list(readings.names)
        self.steps[key] = Steps(steps.frame[names], steps.step)
        self._readings[key] = (readings, column)

    def _read_place(self, key: str, path: Path, columns: Sequence[str], factor: float = 1.0) -> None:
        readings = self._open(Table.read(path), by_id=False)
        readings.table.require(*columns)
        series: dict[str, pd.Series[float]] = {}
        for column in columns:
            values = readings.table.numbers(column) * factor
            low, high = BOUNDS[f"{column}_ct_per_kwh" if column in _PRICES else column]
            readings.table.check_range(column, values, low, high, _HINTS[column])
            series[column] = readings.steps(values).frame[""]
        self.steps[key] = Steps(pd.DataFrame(series), readings.step)
        self._readings[key] = (readings, None)


def _capacities(files: TidyFiles, names: Sequence[str]) -> FloatArray:
    """Rated PV power [N] from its file."""
    assert files.capacities is not None
    table = Table.read(files.capacities)
    table.require("id", "pv_capacity_kw")
    values = table.numbers("pv_capacity_kw")
    low, high = BOUNDS["pv_kw"]
    table.check_range("pv_capacity_kw", values, low, high, "give the rated PV power in kW, 0 for none", above=_ABOVE)
    ids = table.frame["id"].astype(str).str.strip().tolist()
    for row, name in enumerate(ids):
        if name not in names:
            raise table.error("id", row, f"{name!r} is no prosumer of the readings; leave the row out")
        if name in ids[:row]:
            raise table.error("id", row, f"{name!r} stands twice; keep one of the two rows")
        if np.isnan(values[row]):
            raise table.error("pv_capacity_kw", row, "it is empty; give the rated PV power in kW, 0 for none")
    for name in names:
        if name not in ids:
            raise UsageError(f"{table.path}: column id: {name!r}, a prosumer of the readings, is missing; add it")
    return np.array([values[ids.index(name)] for name in names])


def _notes(rows: Rows, names: Sequence[str]) -> tuple[str, ...]:
    """What looks odd but may be right."""
    notes: list[str] = []
    train_days = int(rows.training.sum())
    if train_days < MIN_TRAIN_DAYS_OF_FORECASTS:
        notes.append(
            f"It has {train_days} train days; policies that fit a forecast need {MIN_TRAIN_DAYS_OF_FORECASTS} or more "
            "and will refuse it. Import more days, or give train more of them with --split."
        )
    load_kw, pv_kw = rows.hourly["load"], rows.hourly["pv"]
    zeros = (load_kw == 0.0).sum(axis=(0, 1))
    if zeros.any():
        n = int(zeros.argmax())
        notes.append(
            f"The load is exactly 0 in {int(zeros.sum())} hours of prosumers (most of them, {int(zeros[n])}, of "
            f"{names[n]}); where the source writes 0 for a missing reading, empty those cells."
        )
    limit_kw = float(Fleet.identical([1]).connection_limit_kw[0])
    peak_kw = load_kw[rows.training].max(axis=(0, 1))
    if peak_kw.max() > limit_kw:
        n = int(peak_kw.argmax())
        notes.append(
            f"{int((peak_kw > limit_kw).sum())} prosumers exceed the {limit_kw:g} kW of the default connection on "
            f"train days (most of all {names[n]}, {peak_kw[n]:.1f} kW); scale them, or play with a fleet of your own."
        )
    if len(names) != 10:
        notes.append(
            f"The scenario ieee33 seats 10 prosumers, these are {len(names)}; play with a community of your own."
        )
    lag = _pv_lag(pv_kw.sum(axis=2), rows.hourly["weather"][:, :, COVARIATES.index("irradiance_w_per_m2")])
    if lag != 0:
        notes.append(
            f"PV follows the irradiance best when it is moved by {lag:+d} h; check the interval label and the time "
            "zone of both files."
        )
    return tuple(notes)


def _pv_lag(pv_kw: FloatArray, irradiance: FloatArray) -> int:
    """Hours by which PV [D,H] must move to fit the irradiance [D,H] best, within two hours."""
    if pv_kw.std() == 0.0 or irradiance.std() == 0.0:
        return 0
    width = pv_kw.shape[1]
    fits = {
        lag: float(
            np.corrcoef(
                pv_kw[:, max(0, -lag) : width - max(0, lag)].ravel(),
                irradiance[:, max(0, lag) : width + min(0, lag)].ravel(),
            )[0, 1]
        )
        for lag in (0, -1, 1, -2, 2)
    }
    return max(fits, key=lambda lag: fits[lag])


@dataclass(frozen=True)
class _Told:
    """What the user said and what was done, in words."""

    files: TidyFiles
    choices: TidyChoices
    carved: bool

    @property
    def paths(self) -> list[Path]:
        files = self.files
        optional = [path for path in (files.forecasts, files.passive, files.capacities) if path is not None]
        return [files.readings, files.prices, files.weather, *optional]

    @property
    def given(self) -> str:
        given = ["load", "PV", "both prices", "weather"]
        given += ["weather forecasts"] if self.files.forecasts else []
        given += ["load of the rest of the feeder"] if self.files.passive else []
        given += ["rated PV power"] if self.files.capacities else []
        given += [] if self.carved else ["shiftable load"]
        return "as given in the files, measured or not: " + ", ".join(given)

    @property
    def derived(self) -> str:
        return "nothing" if self.files.capacities else "rated PV power: the largest PV power of the train days"

    @property
    def made(self) -> str:
        made = []
        if self.files.forecasts is None:
            made.append(f"weather forecasts (the weather plus the error model of tehran-v0, seed {self.choices.seed})")
        if self.files.passive is None:
            made.append("load of the rest of the feeder (default profile, the same every day)")
        if self.carved:
            made.append(f"shiftable load ({self.choices.shiftable_share:.0%} of the load, carved out of it)")
        return "; ".join(made) or "nothing"

    def card(self, rows: Rows, counts: Counts, notes: Sequence[str]) -> str:
        files, choices = self.files, self.choices
        weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
        lines = [
            f"# {choices.id}: {choices.title}",
            "",
            f"Licence: {choices.licence}. Citation: {choices.citation}.",
            f"Files: {', '.join(path.name for path in self.paths)}.",
            "",
            "## What it is",
            f"- Given: {self.given}.",
            f"- Derived: {self.derived}.",
            f"- Made: {self.made}.",
            f"- Stated by the user: local time of {files.time_zone}; times name the {files.interval_label} of a step; "
            f"load and PV in {files.unit}; prices in {files.price_unit}. "
            f"Times without an offset: {files.naive_times or 'none'}.",
            "- Readings of less than an hour are averaged to hours.",
            f"- Weekend: {', '.join(weekdays[day] for day in choices.weekend) or 'none'}.",
            "",
            "## What was dropped and filled",
            *(f"- {line}" for line in counts.lines()),
            *(f"- {note}" for note in notes),
            "",
            "## Splits",
            *blocks_table(rows),
            "",
            "Lead-in days are never scored nor trained on. Train days may lie after dev and test days.",
        ]
        return "\n".join(lines) + "\n"
