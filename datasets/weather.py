"""The weather of a Tehran summer: day to day and hour by hour.

Axes: D days, H hours of a day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm

from prosumer_gym.arrays import FloatArray
from prosumer_gym.datasets.forecast_errors import ar1, cloud_transmission

DAILY_TEMPERATURE_CORRELATION = 0.80
DAILY_CLOUD_CORRELATION = 0.55
TEMPERATURE_CLOUD_CORRELATION = -0.35
WARMEST_HOUR = 15.1
"""15 h solar time: at 51.3 E and UTC+3:30 the sun is some five minutes late on standard time."""


@dataclass(frozen=True)
class Weather:
    """Hourly weather [D,H]."""

    temperature_c: FloatArray
    cloud: FloatArray
    transmission: FloatArray
    """Share of the clear-sky irradiance that clouds and dust leave."""


def summer_weather(day_of_year: FloatArray, rng: np.random.Generator) -> Weather:
    """The days of one summer [D], 24 hours each.

    Daily: temperature anomaly AR(1) .80 around a seasonal mean with a draw for the year; cloud fraction Beta(.45, 2.3),
    correlated -.35 with it, AR(1) .55; a dust factor of .75 to 1. Hourly: clouds around their daily value, a sinusoid
    of temperature with a range of 12 - 5 cloud deg C, AR(1) noise.
    """
    D = day_of_year.size
    warm = ar1(rng.standard_normal((1, D)), DAILY_TEMPERATURE_CORRELATION)[0]
    # what of the cloud latent is not explained by temperature has the correlation that gives the whole its own
    explained = TEMPERATURE_CLOUD_CORRELATION**2
    rest = (DAILY_CLOUD_CORRELATION - explained * DAILY_TEMPERATURE_CORRELATION) / (1.0 - explained)
    latent = TEMPERATURE_CLOUD_CORRELATION * warm + np.sqrt(1.0 - explained) * ar1(rng.standard_normal((1, D)), rest)[0]
    daily_cloud = beta.ppf(norm.cdf(latent), 0.45, 2.3)
    year_offset = 0.4 * rng.standard_normal()
    daily_mean = 30.8 - 1.3 * ((day_of_year - 203.0) / 45.0) ** 2 + year_offset + 2.0 * warm
    dust = 1.0 - 0.25 * norm.cdf(ar1(rng.standard_normal((1, D)), 0.6)[0]) ** 2

    H = 24
    spread = 0.25 * np.sqrt(daily_cloud * (1.0 - daily_cloud))
    noise = ar1(rng.standard_normal((1, D * H)), 0.8).reshape(D, H)
    cloud = np.clip(daily_cloud[:, None] + spread[:, None] * noise, 0.0, 1.0)
    middle = np.arange(D * H) + 0.5
    mean = np.interp(middle, np.arange(D) * H + H / 2, daily_mean).reshape(D, H)  # no jump at midnight
    swing = 0.5 * (12.0 - 5.0 * daily_cloud)[:, None] * np.cos(2.0 * np.pi * (np.arange(H) + 0.5 - WARMEST_HOUR) / H)
    temperature = mean + swing + 0.5 * ar1(rng.standard_normal((1, D * H)), 0.9).reshape(D, H)
    return Weather(temperature, cloud, cloud_transmission(cloud) * dust[:, None])
