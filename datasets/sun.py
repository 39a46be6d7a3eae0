"""Where the sun stands and what a clear sky would give, without a library: enough to read irradiance from its parts.

Imported by importers only (needs pandas). Axis: T steps of time.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from prosumer_gym.arrays import FloatArray

SUBSTEPS = 6
"""Instants whose mean is that of a step, so that the hours of sunrise and sunset come out right."""


def sun_over(
    begin: pd.DatetimeIndex, step: pd.Timedelta, latitude: float, longitude: float
) -> tuple[FloatArray, FloatArray]:
    """Means over steps [T]: cosine of the sun's zenith angle (0 below the horizon), clear-sky irradiance in W/m2.

    Declination and equation of time by Spencer (1971), to a quarter of a degree; the clear sky by Haurwitz (1945).

    Args:
        begin: of the steps, UTC [T].
        step: their length.
        latitude: degrees north.
        longitude: degrees east.
    """
    hours = (np.arange(SUBSTEPS) + 0.5) / SUBSTEPS * (step / pd.Timedelta(hours=1))
    clock = (begin.hour + begin.minute / 60.0).to_numpy(dtype=np.float64)[:, None] + hours  # [T, SUBSTEPS], UTC
    year = 2.0 * np.pi * (begin.day_of_year.to_numpy(dtype=np.float64)[:, None] - 1.0 + clock / 24.0) / 365.0
    declination = (
        0.006918
        - 0.399912 * np.cos(year)
        + 0.070257 * np.sin(year)
        - 0.006758 * np.cos(2 * year)
        + 0.000907 * np.sin(2 * year)
        - 0.002697 * np.cos(3 * year)
        + 0.00148 * np.sin(3 * year)
    )
    late_min = 229.18 * (
        0.000075
        + 0.001868 * np.cos(year)
        - 0.032077 * np.sin(year)
        - 0.014615 * np.cos(2 * year)
        - 0.040849 * np.sin(2 * year)
    )
    angle = np.radians(15.0 * (clock - 12.0) + longitude + late_min / 4.0)
    place = np.radians(latitude)
    cosine = np.sin(place) * np.sin(declination) + np.cos(place) * np.cos(declination) * np.cos(angle)
    above = np.maximum(cosine, 1e-6)
    clear = np.where(cosine > 0.0, 1098.0 * above * np.exp(-0.057 / above), 0.0)
    return np.maximum(cosine, 0.0).mean(axis=1), clear.mean(axis=1)
