"""Sun, clear sky and PV power at a place, by pvlib (the extra `generate`); used to make data, never to load it.

Axes: D days, H steps of a day, N prosumers, M = D H `SUBSTEPS` instants: a step is the mean of instants inside it, so
that the hours of sunrise and sunset come out right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from prosumer_gym.arrays import FloatArray
from prosumer_gym.datasets.splits import DateArray
from prosumer_gym.errors import UsageError

try:
    import pvlib
except ImportError as error:  # pragma: no cover (the test environment has it)
    raise UsageError(
        "pvlib is not installed; making data needs it: run pip install '.[generate]' in the checkout"
    ) from error

SUBSTEPS = 4
WIND_M_PER_S = 2.5
TEMPERATURE_COEFFICIENT_PER_K = -0.004


@dataclass(frozen=True)
class Site:
    """A place: degrees north and east, metres, hours ahead of UTC (one offset all the year), Linke turbidity."""

    latitude: float
    longitude: float
    altitude_m: float
    utc_offset_h: float
    turbidity: tuple[float, float]
    """At the summer solstice and 90 days later, linear between and beyond."""


@dataclass(frozen=True)
class Sky:
    """Sun and clear sky at M instants."""

    day_of_year: FloatArray
    zenith_deg: FloatArray
    apparent_zenith_deg: FloatArray
    azimuth_deg: FloatArray
    extra_w_per_m2: FloatArray
    """Direct normal irradiance above the atmosphere."""
    clear_w_per_m2: FloatArray
    """Global horizontal irradiance of a clear sky (Ineichen and Perez, 2002)."""


def clear_sky(site: Site, dates: DateArray, steps: int = 24) -> Sky:
    """Sun and clear sky on `dates` [D], `SUBSTEPS` instants in each of `steps` steps of a day."""
    per_day = steps * SUBSTEPS
    minutes = (np.arange(per_day) + 0.5) * (1440.0 / per_day) - site.utc_offset_h * 60.0
    instants = dates[:, None].astype("datetime64[s]") + np.round(minutes * 60.0).astype("timedelta64[s]")
    times = pd.DatetimeIndex(instants.ravel(), tz="UTC")
    sun = pvlib.solarposition.get_solarposition(times, site.latitude, site.longitude, altitude=site.altitude_m)
    apparent = sun["apparent_zenith"].to_numpy()
    day_of_year = times.day_of_year.to_numpy().astype(np.float64)
    extra = np.asarray(pvlib.irradiance.get_extra_radiation(day_of_year), dtype=np.float64)
    pressure = pvlib.atmosphere.alt2pres(site.altitude_m)
    airmass = pvlib.atmosphere.get_absolute_airmass(pvlib.atmosphere.get_relative_airmass(apparent), pressure)
    first, later = site.turbidity
    turbidity = first + (later - first) * (day_of_year - 173.0) / 90.0
    with np.errstate(divide="ignore", invalid="ignore"):  # at night there is no air mass
        clear: dict[str, Any] = pvlib.clearsky.ineichen(apparent, airmass, turbidity, site.altitude_m, extra)
    return Sky(
        day_of_year=day_of_year,
        zenith_deg=sun["zenith"].to_numpy(),
        apparent_zenith_deg=apparent,
        azimuth_deg=sun["azimuth"].to_numpy(),
        extra_w_per_m2=extra,
        clear_w_per_m2=np.nan_to_num(np.asarray(clear["ghi"], dtype=np.float64)),
    )


def step_means(values: FloatArray, days: int) -> FloatArray:
    """Means of instants [M] over the steps of the days [D,H]."""
    return np.asarray(values.reshape(days, -1, SUBSTEPS).mean(axis=2))


def pv_power(
    sky: Sky,
    transmission: FloatArray,
    temperature_c: FloatArray,
    capacity_kw: FloatArray,
    tilt_deg: FloatArray,
    azimuth_deg: FloatArray,
) -> FloatArray:
    """PV power at the inverter [D,H,N].

    The global irradiance (clear sky x `transmission` [D,H]) is split by Erbs, brought to the plane of each array by Hay
    and Davies, heats the cells by Faiman, and becomes power by PVWatts with its default losses (Dobos, 2014).

    Args:
        sky: sun and clear sky at the instants of the steps.
        transmission: share of the clear-sky irradiance that arrives [D,H].
        temperature_c: of the air [D,H].
        capacity_kw: rated DC power [N]; the inverter is rated the same.
        tilt_deg: of the arrays [N].
        azimuth_deg: of the arrays [N], 180 = south.
    """
    days = transmission.shape[0]
    horizontal = sky.clear_w_per_m2 * np.repeat(transmission.ravel(), SUBSTEPS)
    air = np.repeat(temperature_c.ravel(), SUBSTEPS)
    parts = pvlib.irradiance.erbs(horizontal, sky.zenith_deg, sky.day_of_year)
    losses = 1.0 - pvlib.pvsystem.pvwatts_losses() / 100.0
    power = []
    for capacity, tilt, azimuth in zip(capacity_kw, tilt_deg, azimuth_deg, strict=True):
        plane = pvlib.irradiance.get_total_irradiance(
            tilt, azimuth, sky.apparent_zenith_deg, sky.azimuth_deg, parts["dni"], horizontal, parts["dhi"],
            dni_extra=sky.extra_w_per_m2, model="haydavies",
        )  # fmt: skip
        incident = np.nan_to_num(np.asarray(plane["poa_global"], dtype=np.float64))
        cell = pvlib.temperature.faiman(incident, air, WIND_M_PER_S)
        direct = pvlib.pvsystem.pvwatts_dc(incident, cell, capacity, TEMPERATURE_COEFFICIENT_PER_K) * losses
        power.append(step_means(np.nan_to_num(np.asarray(pvlib.inverter.pvwatts(direct, capacity))), days))
    return np.maximum(np.stack(power, axis=-1), 0.0)
