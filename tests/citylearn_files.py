"""A little CityLearn set made by hand, with what is odd about the published ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LATITUDE, LONGITUDE = 34.1, -117.4
ZONE = "UTC-08:00"
FIRST_DATE = "2016-07-31"  # a Sunday; the first row is its last hour
OLD_NAMES = {
    "month": "Month",
    "hour": "Hour",
    "day_type": "Day Type",
    "daylight_savings_status": "Daylight Savings Status",
    "non_shiftable_load": "Equipment Electric Power [kWh]",
    "solar_generation": "Solar Generation [W/kW]",
    "cooling_demand": "Cooling Load [kWh]",
    "heating_demand": "Heating Load [kWh]",
    "dhw_demand": "DHW Heating [kWh]",
    "outdoor_dry_bulb_temperature": "Outdoor Drybulb Temperature [C]",
    "diffuse_solar_irradiance": "Diffuse Solar Radiation [W/m2]",
    "direct_solar_irradiance": "Direct Solar Radiation [W/m2]",
    "electricity_pricing": "Electricity Pricing [$]",
    **{
        f"{ours}_predicted_{k + 1}": f"{hours}h Prediction {theirs}"
        for k, hours in enumerate((6, 12, 24))
        for ours, theirs in (
            ("outdoor_dry_bulb_temperature", "Outdoor Drybulb Temperature [C]"),
            ("direct_solar_irradiance", "Direct Solar Radiation [W/m2]"),
        )
    },
}


@dataclass
class CityLearnFiles:
    """The files, to be changed and written."""

    schema: dict[str, Any]
    frames: dict[str, pd.DataFrame]

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "schema.json").write_text(json.dumps(self.schema))
        for name, frame in self.frames.items():
            frame.to_csv(folder / name, index=False)
        return folder

    def set(self, name: str, row: int, column: str, value: Any) -> None:
        self.frames[name][column] = self.frames[name][column].astype(object)
        self.frames[name].loc[row, column] = value


def make_citylearn(days: int = 40, *, first: str = "2016-07-31 23:00", zone: str = "UTC-08:00") -> CityLearnFiles:
    """Two buildings with PV, one without and one that is not included; hours 1 to 24, on the clock of `zone`."""
    begin = pd.Timestamp(first, tz=zone)
    end = begin.normalize() + pd.DateOffset(days=days + 1)
    times = pd.date_range(begin, end, freq="h", inclusive="left")
    k, hour = np.arange(len(times)), times.hour.to_numpy()
    solar_hour = times.tz_convert("UTC-08:00").hour.to_numpy() + 0.5
    clear = 0.6 + 0.4 * np.cos(2.3 * (times.tz_convert("UTC-08:00").day_of_year.to_numpy()))
    sun = np.clip(np.sin(np.pi * (solar_hour - 5.9) / 12), 0.0, None) * clear
    calendar = pd.DataFrame(
        {
            "month": times.month,
            "hour": hour + 1,
            "day_type": times.day_of_week + 1,
            "daylight_savings_status": [int(bool(time.dst())) for time in times],
        }
    )
    frames = {}
    for n in range(1, 5):
        frames[f"Building_{n}.csv"] = calendar.assign(
            non_shiftable_load=n + 0.5 * np.sin(k / 7 + n) ** 2,
            dhw_demand=0.0,
            cooling_demand=0.0,
            heating_demand=0.0,
            solar_generation=(800 - 10 * n) * sun,
        )
    weather = pd.DataFrame(
        {
            "outdoor_dry_bulb_temperature": 20 + 8 * np.sin(np.pi * (solar_hour - 9) / 12) + np.sin(k / 50),
            "diffuse_solar_irradiance": 150 * sun,
            "direct_solar_irradiance": 500 * sun,
        }
    )
    for column in ("outdoor_dry_bulb_temperature", "direct_solar_irradiance"):
        for place, lag in enumerate((6, 12, 24)):
            weather[f"{column}_predicted_{place + 1}"] = np.roll(weather[column], -lag)
    frames["weather.csv"] = weather
    frames["pricing.csv"] = pd.DataFrame({"electricity_pricing": 0.2 + 0.1 * (hour > 15) - 0.25 * (k == 100)})
    buildings: dict[str, Any] = {
        f"Building_{n}": {
            "include": n != 4,
            "energy_simulation": f"Building_{n}.csv",
            "weather": "weather.csv",
            "pricing": "pricing.csv",
            "pv": {"type": "citylearn.energy_model.PV", "attributes": {"nominal_power": 2.0 * n}},
        }
        for n in range(1, 5)
    }
    buildings["Building_3"]["pv"] = None
    return CityLearnFiles({"seconds_per_time_step": 3600, "buildings": buildings}, frames)
