"""Made day-ahead and real-time prices.

Axes: D days, H = 24 hours of a day.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.datasets.forecast_errors import ar1
from prosumer_gym.datasets.loads import FRIDAY, THURSDAY

DAY_AHEAD_RANGE = (6.0, 12.0)
REAL_TIME_RANGE = (6.0, 25.0)
MEAN_TEMPERATURE_C = 30.0


def day_ahead_price(forecast_c: FloatArray, weekday: IntArray, rng: np.random.Generator) -> FloatArray:
    """Day-ahead price [D,H], 6 to 12 ct/kWh: a logistic curve of the stress that the *forecast* lets expect.

    Args:
        forecast_c: temperature forecast [D,H].
        weekday: Monday = 0 [D].
        rng: source of the market's own day-to-day noise.
    """
    D, H = forecast_c.shape
    market = 0.5 * ar1(rng.standard_normal((1, D)), 0.6)[0][:, None]
    heat = (0.5 * forecast_c + 0.5 * forecast_c.mean(axis=1, keepdims=True) - MEAN_TEMPERATURE_C) / 3.5
    week = np.select([weekday == THURSDAY, weekday == FRIDAY], [-0.3, -0.8], 0.0)[:, None]
    stress = -0.9 + 0.8 * heat + 1.6 * peak_hours(H) + week + market
    low, high = DAY_AHEAD_RANGE
    return np.asarray(low + (high - low) / (1.0 + np.exp(-stress)))


def real_time_price(
    day_ahead: FloatArray,
    temperature_c: FloatArray,
    forecast_c: FloatArray,
    irradiance: FloatArray,
    forecast_irradiance: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Real-time price [D,H], 6 to 25 ct/kWh: day-ahead, heat, what the forecasts missed, noise and spikes.

    The missed part is warmth above and sun below the forecast; the noise is AR(1) .65; spikes arrive with heat in the
    peak hours and decay.

    Args:
        day_ahead: price [D,H].
        temperature_c: realised [D,H].
        forecast_c: forecast [D,H].
        irradiance: realised [D,H], W/m2.
        forecast_irradiance: forecast [D,H], W/m2.
        rng: source of noise and spikes.
    """
    D, H = day_ahead.shape
    heat = np.maximum(temperature_c - MEAN_TEMPERATURE_C, 0.0) / 5.0
    surprise = 1.0 * (temperature_c - forecast_c) + 0.6 * (forecast_irradiance - irradiance) / 100.0
    noise = 1.5 * ar1(rng.standard_normal((1, D * H)), 0.65)[0]
    arrives = rng.random((D, H)) < 0.01 + 0.10 * heat * peak_hours(H)
    size = np.where(arrives, 4.5 * rng.standard_exponential((D, H)), 0.0).ravel()
    spikes = np.empty(D * H)
    left = 0.0
    for k in range(D * H):
        left = 0.6 * left + size[k]
        spikes[k] = left
    price = day_ahead + 0.4 * (heat - 0.5) + surprise + (noise + spikes).reshape(D, H)
    return np.asarray(np.clip(price, *REAL_TIME_RANGE))


def peak_hours(H: int) -> FloatArray:
    """How much of a peak hour each hour is, 0 to 1 [H]: the early afternoon and the evening."""
    hour = (np.arange(H) + 0.5) * 24.0 / H
    return np.asarray(np.exp(-0.5 * ((hour - 14.0) / 2.5) ** 2) + 0.9 * np.exp(-0.5 * ((hour - 21.0) / 1.5) ** 2))
