"""Tidy files made by hand, for the tests of the importer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prosumer_gym.datasets import importers
from prosumer_gym.datasets.imports import ImportChoices, Imported


@dataclass(frozen=True, kw_only=True)
class TidyFiles:
    """Files of all kinds and what is said of them."""

    readings: Path
    prices: Path
    weather: Path
    time_zone: str
    interval_label: str
    unit: str
    price_unit: str
    forecasts: Path | None = None
    passive: Path | None = None
    capacities: Path | None = None
    naive_times: str | None = None


def import_tidy(files: TidyFiles, choices: ImportChoices) -> Imported:
    said = {**vars(files), "prices": (files.prices,)}
    readings, unit, time_zone = (said.pop(name) for name in ("readings", "unit", "time_zone"))
    return importers.import_tidy(readings, unit, time_zone, importers.Companions(**said), choices)


def make_frames(
    first: str = "2018-05-01", days: int = 40, zone: str = "Europe/London", step: str = "1h"
) -> dict[str, pd.DataFrame]:
    """Readings of two prosumers, prices and weather; times are aware, local, and name the beginning of a step."""
    end = (pd.Timestamp(first) + pd.Timedelta(days=days)).strftime("%Y-%m-%d")
    times = pd.date_range(first, end, freq=step, inclusive="left", tz=zone)
    k = np.arange(len(times))
    hour = times.hour.to_numpy()
    sun = np.clip(np.sin(np.pi * (hour - 6) / 12), 0, None)
    load = {"a": 10 + 5 * np.sin(k) ** 2, "b": 20 + 3 * np.cos(k) ** 2}
    weather = pd.DataFrame(
        {"time": times, "temperature_c": 15 + 5 * sun, "cloud_fraction": 0.5, "irradiance_w_per_m2": 700 * sun}
    )
    prices = pd.DataFrame({"time": times, "price_da": 8 + 2 * np.sin(k / 5), "price_rt": 8 - 12 * (k % 50 == 0)})
    readings = pd.concat(
        pd.DataFrame({"time": times, "id": name, "load_kw": load[name], "pv_kw": 30 * sun}) for name in ("a", "b")
    )
    return {"readings": readings.reset_index(drop=True), "prices": prices, "weather": weather}


def stamp(frame: pd.DataFrame, form: str | None) -> pd.DataFrame:
    """Times as text: with offset (None), or without one in "local" or "utc"."""
    out = frame.copy()
    if form == "local":
        out["time"] = out["time"].dt.tz_localize(None)
    if form == "utc":
        out["time"] = out["time"].dt.tz_convert("UTC").dt.tz_localize(None)
    out["time"] = out["time"].map(lambda time: time.isoformat(sep=" "))
    return out


def write(folder: Path, frames: dict[str, pd.DataFrame], form: str | None = None, **said: Any) -> TidyFiles:
    paths = {}
    for name, frame in frames.items():
        paths[name] = folder / f"{name}.csv"
        (stamp(frame, form) if form != "as is" and "time" in frame else frame).to_csv(paths[name], index=False)
    given: dict[str, Any] = {
        "time_zone": "Europe/London",
        "interval_label": "begin",
        "unit": "kW",
        "price_unit": "ct/kWh",
        "naive_times": form if form in ("local", "utc") else None,
    }
    return TidyFiles(**paths, **{**given, **said})
