"""Weather forecasts made from observed weather: each prosumer's own, issued at noon of the day before.

Axes: D days, H steps of a day, N prosumers, F covariates (`COVARIATES`: temperature, cloud cover, irradiance).

Every error is an AR(1) process over the steps of a day, anew each day (each day has its own forecast run). A share
`OWN_SHARE` of its variance belongs to the one prosumer, the rest is common to all: the mean over the prosumers is a
better forecast than any one of them, which is what makes sharing context worth something.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.datasets.schema import COVARIATES
from prosumer_gym.errors import UsageError

OWN_SHARE = 0.3
HOURLY_CORRELATION = 0.75
ISSUE_LEAD_H = 12.0  # noon of the day before to midnight

MAX_IRRADIANCE_W_PER_M2 = 1200.0
CLOUD_LOSS, CLOUD_POWER = 0.75, 3.4


def cloud_transmission(cloud: FloatArray) -> FloatArray:
    """Share of the clear-sky global irradiance that a cloud fraction leaves (Kasten and Czeplak, 1980)."""
    return np.asarray(1.0 - CLOUD_LOSS * cloud**CLOUD_POWER)


def make_forecasts(weather: FloatArray, num_prosumers: int, rng: np.random.Generator) -> FloatArray:
    """Forecasts of `weather` [D,H,F] for each prosumer [D,H,N,F].

    Lead time at step h is 12 h + h. Temperature error: standard deviation .55 + .02 lead (deg C). Cloud error: grows
    with the square root of the lead and with cloud (1 - cloud); the result stays in 0 to 1. Irradiance: the observed
    one, moved by the transmission of the forecast cloud over that of the observed cloud, and by a daily haze error of
    about 5 %; zero whenever the observed one is zero.

    Raises:
        UsageError: `weather` does not have the covariates of the schema.
    """
    if weather.ndim != 3 or weather.shape[2] != len(COVARIATES):
        raise UsageError(
            f"forecasts: the weather has shape {weather.shape}; give [D,H,{len(COVARIATES)}]: {', '.join(COVARIATES)}"
        )
    D, H, _ = weather.shape
    dt_h = 24.0 / H
    lead_h = (ISSUE_LEAD_H + np.arange(H) * dt_h)[:, None]  # [H,1]
    temperature, cloud, irradiance = (weather[:, :, f, None] for f in range(len(COVARIATES)))  # [D,H,1]

    temperature_sd = 0.55 + 0.02 * lead_h
    forecast_temperature = temperature + temperature_sd * _errors(D, H, num_prosumers, rng)
    cloud_sd = 0.04 * np.sqrt(lead_h) * (0.25 + 3.0 * cloud * (1.0 - cloud))
    forecast_cloud = np.clip(cloud + cloud_sd * _errors(D, H, num_prosumers, rng), 0.0, 1.0)
    haze = np.exp(0.05 * _mix(rng.standard_normal((D, 1, 1)), rng.standard_normal((D, 1, num_prosumers))))
    moved = irradiance * cloud_transmission(forecast_cloud) / cloud_transmission(cloud) * haze
    forecast_irradiance = np.minimum(moved, MAX_IRRADIANCE_W_PER_M2)
    return np.stack([forecast_temperature, forecast_cloud, forecast_irradiance], axis=-1)


def _errors(D: int, H: int, N: int, rng: np.random.Generator) -> FloatArray:
    """Errors of unit variance [D,H,N]: AR(1) over the steps, partly common to the prosumers."""
    rho = HOURLY_CORRELATION ** (24.0 / H)
    return _mix(ar1(rng.standard_normal((D, H, 1)), rho), ar1(rng.standard_normal((D, H, N)), rho))


def _mix(common: FloatArray, own: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(1.0 - OWN_SHARE) * common + np.sqrt(OWN_SHARE) * own)


def ar1(noise: FloatArray, rho: float) -> FloatArray:
    """Stationary AR(1) of unit variance along axis 1, driven by standard normal `noise`, whose first entry stands."""
    out = np.array(noise)
    for h in range(1, out.shape[1]):
        out[:, h] = rho * out[:, h - 1] + np.sqrt(1.0 - rho**2) * noise[:, h]
    return out
