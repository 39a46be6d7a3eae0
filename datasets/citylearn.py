"""Data sets of CityLearn: schema.json, a file of each building, weather and one price, hour by hour without a year.

The files say month, kind of day and hour, never the year: the user states the date of the first row, and every row is
checked against the calendar that follows from it. Hours 1 to 24 name the end of a step (24 belongs to the day that
ends); of files with hours 0 to 23 the user says which end they name. Units are those of the format: loads in kWh in an
hour, PV in W for each kW of the building's `nominal_power` in the schema, the price in dollars (or the like) a kWh.
Columns called predictions are not used: they are the observed weather of later hours, unchanged or with noise.

Imported by importers only (needs pandas). Axis: N buildings, T hours of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, tzinfo
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.datasets.forecast_errors import CLOUD_LOSS, CLOUD_POWER
from prosumer_gym.datasets.schema import BOUNDS, COVARIATES
from prosumer_gym.datasets.sources import Part, Series
from prosumer_gym.datasets.sun import sun_over
from prosumer_gym.datasets.tables import IntervalLabel, Readings, Steps, Table
from prosumer_gym.errors import UsageError

BUILDING_COLUMNS = {
    "month": "month",
    "Month": "month",
    "day_type": "weekday, 1 = Monday",
    "Day Type": "weekday, 1 = Monday",
    "hour": "hour",
    "Hour": "hour",
    "daylight_savings_status": "summer time",
    "Daylight Savings Status": "summer time",
    "non_shiftable_load": "load, kWh",
    "Equipment Electric Power [kWh]": "load, kWh",
    "solar_generation": "PV, W/kW",
    "Solar Generation [W/kW]": "PV, W/kW",
    "cooling_demand": "cooling, kWh of heat",
    "Cooling Load [kWh]": "cooling, kWh of heat",
    "heating_demand": "heating, kWh of heat",
    "Heating Load [kWh]": "heating, kWh of heat",
    "dhw_demand": "hot water, kWh of heat",
    "DHW Heating [kWh]": "hot water, kWh of heat",
}
"""Columns of a building's file, in the names of today and of 2022, and what they are here."""
WEATHER_COLUMNS = {
    "outdoor_dry_bulb_temperature": "temperature, deg C",
    "Outdoor Drybulb Temperature [C]": "temperature, deg C",
    "diffuse_solar_irradiance": "diffuse irradiance, W/m2",
    "Diffuse Solar Radiation [W/m2]": "diffuse irradiance, W/m2",
    "direct_solar_irradiance": "direct normal irradiance, W/m2",
    "Direct Solar Radiation [W/m2]": "direct normal irradiance, W/m2",
}
"""Columns of the weather file."""
PRICING_COLUMNS = {"electricity_pricing": "price, $/kWh", "Electricity Pricing [$]": "price, $/kWh"}
"""Columns of the price file."""

DiffuseColumn = Literal["diffuse", "global"]
MAX_DIFFUSE_W_PER_M2 = 700.0
"""More than any sky scatters; a column called diffuse that exceeds it holds the global irradiance."""
_LEAST_SUN_W_PER_M2 = 100.0
"""Clear-sky irradiance below which the cloud cannot be told from the irradiance."""
_HOUR = pd.Timedelta(hours=1)
_NO_HOLIDAY = 7  # day types beyond it are holidays in some sets
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MARK = "where a number such as -999 marks a missing reading, empty those cells"


@dataclass(frozen=True, kw_only=True)
class CityLearn:
    """A folder of CityLearn files and what the files do not say."""

    schema: Path
    """schema.json, or the folder that holds it."""
    first_date: date
    """Date of the first row."""
    zone: tzinfo
    """Whose clock the hours are."""
    hours_name: IntervalLabel | None = None
    """Of hours 0 to 23: which end of a step they name."""
    buildings: tuple[str, ...] | None = None
    """Those to take; None: all that the schema includes."""
    latitude: float | None = None
    longitude: float | None = None
    diffuse_column: DiffuseColumn = "diffuse"
    """What the column of diffuse irradiance holds."""

    def __post_init__(self) -> None:
        for name, degrees, most in (("latitude", self.latitude, 90.0), ("longitude", self.longitude, 180.0)):
            if degrees is not None and not -most <= degrees <= most:  # true for NaN
                raise UsageError(f"--{name} {degrees:g}: give degrees from {-most:g} to {most:g}")

    @cached_property
    def _path(self) -> Path:
        return self.schema / "schema.json" if self.schema.is_dir() else self.schema

    @cached_property
    def _buildings(self) -> dict[str, Mapping[str, Any]]:
        """The schema of each building that is taken."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{self._path}: it cannot be read ({error.strerror}); name schema.json") from None
        except RecursionError:
            raise UsageError(f"{self._path}: it is nested too deeply for a schema; fetch it again") from None
        except ValueError as error:
            raise UsageError(f"{self._path}: it is not JSON ({error}); fetch it again") from None
        if not isinstance(found, dict) or not isinstance(found.get("buildings"), dict) or not found["buildings"]:
            raise UsageError(f"{self._path}: field buildings is missing; is it a schema of CityLearn?")
        seconds = found.get("seconds_per_time_step")
        if seconds != 3600:
            raise UsageError(f"{self._path}: field seconds_per_time_step is {seconds}; only hours (3600) are read")
        included = {name: each for name, each in found["buildings"].items() if each.get("include", True)}
        if self.buildings is None:
            if not included:
                raise UsageError(f"{self._path}: field buildings includes no building; name some with --buildings")
            return included
        for name in self.buildings:
            if name not in found["buildings"]:
                have = ", ".join(found["buildings"])
                raise UsageError(f"{self._path}: field buildings has no {name!r}; it has {have}")
        return {name: found["buildings"][name] for name in self.buildings}

    def _file(self, building: str, field: str) -> Path:
        name = self._buildings[building].get(field)
        if not name:
            raise UsageError(f"{self._path}: field buildings.{building}.{field} is missing; name its file there")
        return self._path.parent / str(name)

    def _common_file(self, field: str, instead: str) -> Path:
        """The one file that all buildings name."""
        paths = {self._file(name, field) if self._buildings[name].get(field) else None for name in self._buildings}
        (path, *others) = sorted(paths, key=str)
        if path is None or others:
            what = "differ between the buildings" if others else "are not told"
            raise UsageError(f"{self._path}: fields buildings.*.{field} {what}; {instead}")
        return path

    @cached_property
    def _tables(self) -> dict[str, Readings]:
        """The files of the buildings, their rows checked against the calendar."""
        tables = {name: Table.read(self._file(name, "energy_simulation")) for name in self._buildings}
        return {
            name: Readings.at(t, self.zone, _begins(t, self), column=_name(t, "hour")) for name, t in tables.items()
        }

    def _beside(self, path: Path) -> Readings:
        """A file without times, whose rows are those of the first building."""
        first = next(iter(self._tables.values()))
        table = Table.read(path)
        rows, wanted = len(table.frame), len(first.table.frame)
        if rows != wanted:
            raise UsageError(f"{path}: it has {rows} rows, {first.table.path.name} has {wanted}; fetch both again")
        return Readings.at(table, self.zone, first.begin, column=str(table.frame.columns[0]))

    # what it brings -----------------------------------------------------------------------------------------------

    def prosumers(self) -> Part:
        """Load and PV of the buildings."""
        load: dict[str, tuple[Readings, str, FloatArray]] = {}
        pv: dict[str, tuple[Readings, str, FloatArray]] = {}
        capacity_kw, heat_kwh, warmed = [], 0.0, 0
        for name, readings in self._tables.items():
            table = readings.table
            column = _name(table, "load, kWh")
            values = table.numbers(column)
            table.check_range(column, values, *BOUNDS["load_kw"], f"it is in kWh in an hour; {_MARK}")
            load[name] = (readings, column, values)
            nominal_kw = self._nominal_kw(name)
            column = _name(table, "PV, W/kW")
            pv[name] = (readings, column, nominal_kw * _pv_per_kw(table, column))
            capacity_kw.append(nominal_kw)
            heat = sum(float(np.nansum(table.numbers(each))) for each in _heat_columns(table))
            heat_kwh, warmed = heat_kwh + heat, warmed + (heat > 0.0)
        notes = self._clock_notes()
        if warmed:
            notes.append(
                f"Heat for cooling, heating and hot water ({heat_kwh:.0f} kWh in {warmed} buildings) is not in the "
                "load: how much electricity it takes depends on devices that CityLearn simulates."
            )
        return Part(
            files=(self._path, *(readings.table.path for readings in self._tables.values())),
            series={"load": _joined(load), "pv": _joined(pv)},
            given=("load", "PV"),
            stated=(
                f"Said by the user: the first row is of {self.first_date}, hours are of the clock of {self.zone}; "
                "month and kind of day of every row agree",
                "By the format: hours 1 to 24 name the end of a step; the load is the column of non-shiftable load, in "
                "kWh; PV is in W for each kW of nominal power in the schema",
            ),
            notes=tuple(notes),
            names=tuple(self._tables),
            pv_capacity_kw=np.array(capacity_kw),
            citation="CityLearn, github.com/intelligent-environments-lab/CityLearn; cite the source of the set as well",
        )

    def weather(self) -> Part:
        """The covariates: temperature as it stands, irradiance and cloud from the irradiance and the sun."""
        path = self._common_file("weather", "give --weather")
        if self.latitude is None or self.longitude is None:
            raise UsageError(
                f"{path}: it has no global irradiance and no cloud; say --latitude and --longitude, so that they can "
                "be derived, or give --weather"
            )
        readings = self._beside(path)
        told: dict[str, tuple[str, FloatArray]] = {}
        for what, low, high in (
            ("temperature, deg C", *BOUNDS["temperature_c"]),
            ("diffuse irradiance, W/m2", *BOUNDS["irradiance_w_per_m2"]),
            ("direct normal irradiance, W/m2", *BOUNDS["irradiance_w_per_m2"]),
        ):
            column = _name(readings.table, what)
            values = readings.table.numbers(column)
            hint = "is it in deg F or K?" if "temperature" in what else "is it in W/m2?"
            readings.table.check_range(column, values, low, high, f"{hint} And {_MARK}")
            told[what] = (column, values)
        temperature, diffuse, direct = told.values()
        if self.diffuse_column == "diffuse":
            readings.table.check_range(
                *diffuse, 0.0, MAX_DIFFUSE_W_PER_M2, "no sky scatters as much; say --diffuse-column global if it holds "
                "the global irradiance (the sets of 2022)"
            )  # fmt: skip
        cosine, clear = sun_over(readings.begin, readings.step, self.latitude, self.longitude)
        sun = diffuse[1] + direct[1] * cosine if self.diffuse_column == "diffuse" else diffuse[1]
        readings.table.check_range(
            diffuse[0], sun, *BOUNDS["irradiance_w_per_m2"], "with the direct one it is too much"
        )
        columns = (temperature, (diffuse[0], cloud_of(sun, clear)), (diffuse[0], sun))
        place = f"{self.latitude:g} N, {self.longitude:g} E"
        how = f"diffuse + direct x cosine of the zenith at {place}" if self.diffuse_column == "diffuse" else ""
        who = "By the format" if how else "As said by the user"
        return Part(
            files=(path,),
            series={"weather": Series.of_columns(readings, dict(zip(COVARIATES, columns, strict=True)))},
            given=("temperature",) if how else ("temperature", "irradiance"),
            derived=(
                *([f"irradiance ({how})"] if how else []),
                f"cloud fraction (from irradiance and the clear sky of Haurwitz at {place}; at night that of the last "
                "hour of sun)",
            ),
            stated=(f"By the format: irradiance is in W/m2. {who}, {diffuse[0]} holds the {self.diffuse_column} one",),
            notes=_prediction_notes(readings.table, temperature[1]),
        )

    def pricing(self) -> Part:
        """The one price of the set, as the day-ahead price."""
        path = self._common_file("pricing", "give --prices")
        readings = self._beside(path)
        column = _name(readings.table, "price, $/kWh")
        values = readings.table.numbers(column)
        readings.table.check_range(column, values, -10.0, 10.0, "it is in $/kWh; is it per MWh, or in ct?")
        return Part(
            files=(path,),
            series={"price_da": Series.of_columns(readings, {"price_da": (column, 100.0 * values)})},
            given=("the one price of the set, taken as the day-ahead price",),
            stated=("By the format: the price of the set is in $/kWh; a ct is 1/100 of it",),
        )

    # details ------------------------------------------------------------------------------------------------------

    def _nominal_kw(self, building: str) -> float:
        """Rated PV power: `pv.attributes.nominal_power` of the schema; 0 of a building without PV."""
        pv = self._buildings[building].get("pv")
        if pv is None:
            return 0.0
        told = (pv.get("attributes") or {}).get("nominal_power")
        if not isinstance(told, int | float) or isinstance(told, bool) or not 0.0 <= told <= BOUNDS["pv_kw"][1]:
            raise UsageError(
                f"{self._path}: field buildings.{building}.pv.attributes.nominal_power is {told}; give the rated PV "
                "power in kW (CityLearn sizes it as it runs), or make pv null"
            )
        return float(told)

    def _clock_notes(self) -> list[str]:
        """Rows whose mark of summer time is not what the zone says."""
        name, readings = next(iter(self._tables.items()))
        marked = readings.table.numbers(_name(readings.table, "summer time")) > 0.0
        zoned = np.array([bool(at.dst()) for at in readings.begin.tz_convert(self.zone)])
        if not (marked != zoned).any():
            return []
        return [
            f"{name} marks {int(marked.sum())} hours as summer time, by {self.zone} {int(zoned.sum())} are. Check "
            "which clock the hours are of; of standard time all year give the zone as an offset, such as UTC-08:00."
        ]


def _name(table: Table, what: str) -> str:
    """What the file calls a column."""
    columns = {**BUILDING_COLUMNS, **WEATHER_COLUMNS, **PRICING_COLUMNS}
    spellings = [column for column, ours in columns.items() if ours == what]
    found = next((column for column in spellings if column in table.frame.columns), spellings[0])
    table.require(found)
    return found


def _heat_columns(table: Table) -> list[str]:
    return [column for column, ours in BUILDING_COLUMNS.items() if "of heat" in ours and column in table.frame.columns]


def _begins(table: Table, said: CityLearn) -> pd.DatetimeIndex:
    """Beginning of each row's step, UTC [T], from the date of the first row.

    Raises:
        UsageError: a row whose hour, month or kind of day is not that of the calendar.
    """
    hour, month, kind = (_whole(table, what) for what in ("hour", "month", "weekday, 1 = Monday"))
    label: IntervalLabel | None = "end"
    if (hour == 0).any():
        label = said.hours_name
        if label is None:
            raise table.error(
                _name(table, "hour"),
                int(np.argmax(hour == 0)),
                "hours run from 0 to 23 here; say with --hours-name begin or end which end of a step they name",
            )
    elif said.hours_name == "begin":
        raise table.error(_name(table, "hour"), 0, "hours 1 to 24 name the end of a step; leave --hours-name away")
    first = pd.Timestamp(said.first_date) + (hour[0] - (label == "end")) * _HOUR
    try:
        start = first.tz_localize(said.zone, ambiguous=True, nonexistent="raise").tz_convert("UTC")
    except ValueError:
        raise table.error(
            _name(table, "hour"), 0, f"{first} does not exist on the clock of {said.zone}; check --first-date"
        ) from None
    begin = pd.DatetimeIndex(start + np.arange(len(hour)) * _HOUR)

    from_zero = bool((hour == 0).any())
    # hour 24 belongs to the day that ends, hour 0 to the one that begins
    local = (begin + _HOUR if from_zero and label == "end" else begin).tz_convert(said.zone)
    _check_calendar(table, said, hour, month, kind, local, local.hour.to_numpy() + int(not from_zero))
    return begin


def _check_calendar(
    table: Table, said: CityLearn, hour: FloatArray, month: FloatArray, kind: FloatArray, local: pd.DatetimeIndex,
    due: FloatArray,
) -> None:  # fmt: skip
    wrong: BoolArray = hour != due
    if wrong.any():
        row = int(np.argmax(wrong))
        why = "a row is missing before it, or one stands twice"
        if row and local[row].utcoffset() != local[row - 1].utcoffset():
            why = (
                f"the clock of {said.zone} changes here, that of the file does not: give the zone as an offset, such "
                "as UTC-08:00"
            )
        raise table.error(_name(table, "hour"), row, f"it is {hour[row]:g}, hour {due[row]:g} is due; {why}")
    for what, told, right in (
        ("month", month, local.month.to_numpy()),
        ("weekday, 1 = Monday", kind, local.day_of_week.to_numpy() + 1),
    ):
        wrong = (told != right) & ~((told > _NO_HOLIDAY) & (what != "month"))
        if wrong.any():
            row = int(np.argmax(wrong))
            day = f"{local[row]:%Y-%m-%d}, a {_WEEKDAYS[local[row].weekday()]}"
            raise table.error(
                _name(table, what), row, f"it is {told[row]:g}, but the row is of {day} (it should be {right[row]}); "
                "check --first-date, its year too"
            )  # fmt: skip


def _whole(table: Table, what: str) -> FloatArray:
    """A column of the calendar [T]: whole numbers, none missing."""
    column = _name(table, what)
    values = table.numbers(column)
    if np.isnan(values).any():
        raise table.error(column, int(np.argmax(np.isnan(values))), "it is empty; every row needs it")
    return values


def _pv_per_kw(table: Table, column: str) -> FloatArray:
    """Power for each kW of rated power, kW [T]."""
    values = table.numbers(column)
    table.check_range(column, values, 0.0, 1500.0, f"it is in W for each kW of PV, never negative, at night 0; {_MARK}")
    if 0.0 < np.nanmax(values, initial=0.0) < 5.0:
        row = int(np.nanargmax(values))
        raise table.error(
            column, row, f"it is never above {values[row]:g}, but should be in W for each kW of PV; multiply kW by 1000"
        )
    return values / 1000.0


def _joined(columns: dict[str, tuple[Readings, str, FloatArray]]) -> Series:
    """A column for each building, each from its own file."""
    parts = {name: Series.of_columns(r, {name: (column, values)}) for name, (r, column, values) in columns.items()}
    frame = pd.concat([part.steps.frame for part in parts.values()], axis=1)
    first = next(iter(parts.values()))
    return Series(Steps.of(frame, first.steps.step), lambda name, begin: parts[name].gap(name, begin))


def cloud_of(irradiance: FloatArray, clear: FloatArray) -> FloatArray:
    """Cloud fraction [T] that leaves `irradiance` of a `clear` sky (Kasten and Czeplak, 1980, solved for the cloud).

    While the sun is low it is that of the last hour of sun: nothing of the morning to come shows in a night.
    """
    sunny = clear >= _LEAST_SUN_W_PER_M2
    left = np.clip(np.divide(irradiance, clear, out=np.ones_like(clear), where=sunny), 0.0, 1.0)
    cloud = pd.Series(np.clip((1.0 - left) / CLOUD_LOSS, 0.0, 1.0) ** (1.0 / CLOUD_POWER))
    gone = np.isnan(irradiance)
    return np.asarray(cloud.where(sunny | gone).mask(gone).ffill().bfill().mask(gone))


def _prediction_notes(table: Table, temperature: FloatArray) -> tuple[str, ...]:
    """What the columns of predictions are."""
    names = [str(c) for c in table.frame.columns if re.search(r"_predicted_|Prediction", str(c))]
    if not names:
        return ()
    of_temperature = [name for name in names if re.search(r"(?i)dry_?bulb.temperature", name)]
    lags = (6, 12, 24)
    exact = len(of_temperature) == len(lags) and all(
        np.array_equal(table.numbers(name)[:-lag], temperature[lag:], equal_nan=True)
        for name, lag in zip(of_temperature, lags, strict=True)
    )
    how = "the observed weather of 6, 12 and 24 hours later, unchanged" if exact else "made from later observed weather"
    return (f"Its {len(names)} columns of predictions are {how}: no forecasts that anybody issued. They are not used.",)
