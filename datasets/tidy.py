"""Tidy files: one row for each time and prosumer, units and time zone said by the user, never guessed.

Files have a column `time`, those of prosumers also `id`.

Imported by importers only (needs pandas). Axis: N prosumers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from prosumer_gym.arrays import FloatArray
from prosumer_gym.datasets.price_rows import LEAST_CT_PER_KWH, MOST_CT_PER_KWH
from prosumer_gym.datasets.schema import BOUNDS, COVARIATES
from prosumer_gym.datasets.sources import PRICES, Part, Series
from prosumer_gym.datasets.tables import IntervalLabel, NaiveTimes, Readings, Table
from prosumer_gym.errors import UsageError

EnergyUnit = Literal["kW", "kWh"]
PriceUnit = Literal["ct/kWh", "EUR/MWh", "EUR/kWh"]

CT_PER_KWH: dict[PriceUnit, float] = {"ct/kWh": 1.0, "EUR/MWh": 0.1, "EUR/kWh": 100.0}
_PRICES_GIVEN = {None: "both prices", "price_da": "day-ahead price", "price_rt": "real-time price"}
_QUANTITIES = ("load", "pv", "shiftable_ref")
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
_WHOLESALE_CT_PER_KWH = 25.0
"""A mean above it is that of a tariff, of a crisis, or of prices in EUR/MWh."""
_ABOVE = f"the upper limit of one prosumer is {BOUNDS['load_kw'][1]:g} kW; is the column in W?"


@dataclass(frozen=True)
class TidyTimes:
    """What the times of tidy files mean."""

    zone: tzinfo
    label: IntervalLabel | None
    """Which end of its step a time names; None: not said, and so refused."""
    naive: NaiveTimes | None = None
    """What times without a UTC offset mean; None: they are refused."""

    def open(self, table: Table, *columns: str, by_id: bool) -> Readings:
        """The rows with their times read, if `columns` are there."""
        table.require("time", *(["id"] if by_id else []), *columns)
        if self.label is None:
            raise UsageError(f"{table.path}: which end of its step does a time name? Say --interval-label begin or end")
        return Readings.of(table, self.zone, self.label, self.naive, by_id=by_id)

    @property
    def said(self) -> str:
        """A sentence for the card."""
        which = "end" if self.label == "end" else "beginning"
        return (
            f"Said by the user of tidy files: times name the {which} of a step; "
            f"times without an offset: {self.naive or 'none'}"
        )


def read_prosumers(path: Path, times: TidyTimes, unit: EnergyUnit) -> Part:
    """Load and PV of the prosumers, perhaps their shiftable load: load_kw or load_kwh, and so on."""
    other: EnergyUnit = "kWh" if unit == "kW" else "kW"
    table = Table.read(path)
    for quantity in _QUANTITIES:
        if f"{quantity}_{other.lower()}" in table.frame.columns:
            raise UsageError(
                f"{path}: column {quantity}_{other.lower()} is in {other}, but the unit is said to be "
                f"{unit}; say --unit {other}, or convert and rename the column"
            )
    readings = times.open(table, *(f"{quantity}_{unit.lower()}" for quantity in ("load", "pv")), by_id=True)
    per_kw = 1.0 if unit == "kW" else readings.step / pd.Timedelta(hours=1)
    series = {}
    for quantity in _QUANTITIES:
        column = f"{quantity}_{unit.lower()}"
        if column in readings.table.frame.columns:
            values = readings.table.numbers(column) / per_kw
            readings.table.check_range(column, values, *BOUNDS[f"{quantity}_kw"], _HINTS[quantity], above=_ABOVE)
            series[quantity] = Series.of_prosumers(readings, column, values, readings.names)
    return Part(
        files=(path,),
        series=series,
        given=("load", "PV"),
        stated=(times.said, f"Said by the user: load and PV are in {unit}"),
        names=readings.names,
    )


def read_prices(
    path: Path, times: TidyTimes, unit: PriceUnit, only: Literal["price_da", "price_rt"] | None = None
) -> Part:
    """Both prices, or one of them."""
    columns = PRICES if only is None else (only,)
    if only == "price_da" and "price_rt" in Table.read(path).frame.columns:
        raise UsageError(f"{path}: it holds price_rt already; leave --prices-rt away, or take the column out")
    part = _of_the_place("prices" if only is None else only, path, times, columns, CT_PER_KWH[unit])
    (series,) = part.series.values()
    return replace(
        part,
        given=(_PRICES_GIVEN[only],),
        stated=(*part.stated, f"Said by the user: prices are in {unit}"),
        notes=_odd_sizes(path, series.steps.frame, unit),
    )


def _odd_sizes(path: Path, prices: pd.DataFrame, unit: PriceUnit) -> tuple[str, ...]:
    """Notes on prices, ct/kWh, whose size suggests another unit."""
    means = {str(name): float(prices[name].mean()) for name in prices}
    sizes = {str(name): float(prices[name].abs().median()) for name in prices}
    perhaps_per_mwh = tuple(
        f"{path.name}: column {name} has a mean of {mean:.4g} {unit}, high for a wholesale price; is it in EUR/MWh?"
        for name, mean in means.items()
        if unit == "ct/kWh" and mean > _WHOLESALE_CT_PER_KWH and sizes[name] < MOST_CT_PER_KWH
    )
    return perhaps_per_mwh + tuple(
        f"{path.name}: column {name} has a median size of {size / CT_PER_KWH[unit]:.4g}, read as {unit} ({size:.4g} "
        "ct/kWh), which is unusual; check --price-unit."
        for name, size in sizes.items()
        if not LEAST_CT_PER_KWH < size < MOST_CT_PER_KWH
    )


def read_weather(path: Path, times: TidyTimes) -> Part:
    """The covariates at the place."""
    return _of_the_place("weather", path, times, COVARIATES)


def read_passive(path: Path, times: TidyTimes) -> Part:
    """Load of the rest of the feeder."""
    return replace(_of_the_place("passive", path, times, ("passive_pu",)), given=("load of the rest of the feeder",))


def read_forecasts(path: Path, times: TidyTimes, names: Sequence[str]) -> Part:
    """Each prosumer's own forecast of the covariates."""
    readings = times.open(Table.read(path), *COVARIATES, by_id=True)
    for name in names:
        if name not in readings.names:
            raise UsageError(f"{path}: column id: prosumer {name!r} has no forecast; add its rows")
    for name in readings.names:
        if name not in names:
            row = int(np.argmax(readings.ids == name))
            raise readings.table.error("id", row, f"{name!r} is no prosumer of the readings; leave its rows out")
    series = {}
    for name in COVARIATES:
        values = readings.table.numbers(name)
        readings.table.check_range(name, values, *BOUNDS[name], _HINTS[name])
        series[f"forecast {name}"] = Series.of_prosumers(readings, name, values, names)
    return Part(files=(path,), series=series, given=("weather forecasts",), stated=(times.said,))


def read_capacities(path: Path, names: Sequence[str]) -> Part:
    """Rated PV power of the prosumers."""
    table = Table.read(path)
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
            raise UsageError(f"{path}: column id: {name!r}, a prosumer of the readings, is missing; add it")
    capacity_kw: FloatArray = np.array([values[ids.index(name)] for name in names])
    return Part(files=(path,), series={}, given=("rated PV power",), pv_capacity_kw=capacity_kw)


def _of_the_place(key: str, path: Path, times: TidyTimes, columns: Sequence[str], factor: float = 1.0) -> Part:
    readings = times.open(Table.read(path), *columns, by_id=False)
    told: dict[str, tuple[str, FloatArray]] = {}
    for column in columns:
        values = readings.table.numbers(column) * factor
        low, high = BOUNDS[f"{column}_ct_per_kwh" if column in PRICES else column]
        readings.table.check_range(column, values, low, high, _HINTS[column])
        told[column] = (column, values)
    return Part(files=(path,), series={key: Series.of_columns(readings, told)}, given=(key,), stated=(times.said,))
