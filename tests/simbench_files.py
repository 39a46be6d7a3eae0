"""A little SimBench grid made by hand: quarter-hours on the clock of Berlin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ZONE = "Europe/Berlin"
NODES = ("LV1.101 Bus 4", "LV1.101 Bus 2", "LV1.101 Bus 9")


@dataclass
class SimBenchFiles:
    """The files, to be changed and written."""

    frames: dict[str, pd.DataFrame]

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        for name, frame in self.frames.items():
            frame.to_csv(folder / name, index=False, sep=";")
        return folder

    def set(self, name: str, row: int, column: str, value: Any) -> None:
        self.frames[name][column] = self.frames[name][column].astype(object)
        self.frames[name].loc[row, column] = value


def make_simbench(first: str = "2016-05-01", days: int = 40, zone: str = ZONE, step: str = "15min") -> SimBenchFiles:
    """Three nodes: two loads and two PV plants, a load and a wind turbine, two loads of one profile."""
    end = pd.Timestamp(first) + pd.Timedelta(days=days)
    times = pd.date_range(first, end, freq=step, inclusive="left", tz=zone)
    k = np.arange(len(times))
    hour = times.tz_convert("UTC+01:00").hour + times.minute / 60
    clear = 0.7 + 0.3 * np.cos(1.7 * times.day_of_year)
    sun = np.clip(np.sin(np.pi * (hour - 6.2) / 12), 0.0, None) * clear
    time = times.strftime("%d.%m.%Y %H:%M")
    return SimBenchFiles(
        {
            "Load.csv": pd.DataFrame(
                {
                    "id": [f"Load {n}" for n in range(6)],
                    "node": [
                        "LV1.101 Bus 4",
                        "LV1.101 Bus 2",
                        "LV1.101 Bus 4",
                        "LV1.101 Bus 9",
                        "HV Bus 1",
                        "LV1.101 Bus 9",
                    ],
                    "profile": ["H0-A", "G1-B", "G1-B", "H0-A", "H0-A", "H0-A"],
                    "pLoad": [0.004, 0.01, 0.002, 0.003, 120.0, 0.005],
                    "qLoad": 0.001,
                }
            ),
            "RES.csv": pd.DataFrame(
                {
                    "id": [f"SGen {n}" for n in range(4)],
                    "node": ["LV1.101 Bus 4", "LV1.101 Bus 4", "LV1.101 Bus 2", "HV Bus 1"],
                    "type": ["PV", "PV_MV", "Wind", "Hydro_MV"],
                    "profile": ["PV3", "PV5", "WP1", "Hydro1"],
                    "pRES": [0.02, 0.01, 0.05, 900.0],
                }
            ),
            "LoadProfile.csv": pd.DataFrame(
                {
                    "time": time,
                    "H0-A_qload": -3.0,  # reactive power has either sign; nobody reads it
                    "H0-A_pload": 0.3 + 0.2 * np.sin(k / 31) ** 2,
                    "G1-B_qload": 0.1,
                    "G1-B_pload": 0.5 + 0.3 * np.cos(k / 17) ** 2,
                }
            ),
            "RESProfile.csv": pd.DataFrame(
                {"time": time, "PV3": 0.6 * sun, "PV5": 0.5 * sun, "WP1": -1e-5, "Hydro1": 0.9}
            ),
        }
    )


def write_companions(folder: Path, first: str = "2016-04-25", days: int = 60) -> dict[str, Path]:
    """Tidy prices and weather of the same place: times in UTC, naming the beginning of an hour."""
    folder.mkdir(exist_ok=True)
    times = pd.date_range(first, periods=24 * days, freq="h", tz="UTC")
    k = np.arange(len(times))
    sun = np.clip(np.sin(np.pi * (times.hour + 0.5 - 5.2) / 12), 0.0, None) * (
        0.7 + 0.3 * np.cos(1.7 * times.day_of_year)
    )
    prices = pd.DataFrame({"time": times, "price_da": 60 + 20 * np.sin(k / 5), "price_rt": 60 - 90 * (k % 50 == 0)})
    weather = {"temperature_c": 15 + 5 * sun, "cloud_fraction": 0.5, "irradiance_w_per_m2": 800 * sun}
    prices.to_csv(folder / "prices.csv", index=False)
    pd.DataFrame({"time": times, **weather}).to_csv(folder / "weather.csv", index=False)
    return {"prices": folder / "prices.csv", "weather": folder / "weather.csv"}
