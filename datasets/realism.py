"""Is made data like real data? Statistics of a data set, and the bands measured on real markets, homes and places.

Axes: D days, H steps of a day, N prosumers, K buses. Serial correlations never reach across the end of a block; what
differs from block to block in the mean (growth, a hot summer) is taken out first. Lags are in hours or days, whatever
the length of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.power_flow import solve_power_flow


@dataclass(frozen=True)
class Band:
    """A statistic and the range in which a realistic data set has it."""

    title: str
    statistic: Callable[[Dataset], float]
    low: float
    high: float

    def holds(self, dataset: Dataset) -> bool:
        """Whether the data set lies in the band (ends included)."""
        return self.low <= self.statistic(dataset) <= self.high


# prices ---------------------------------------------------------------------------------------------------------------


def price_sd_ratio(dataset: Dataset) -> float:
    """Standard deviation of the real-time price over that of the day-ahead price."""
    return float(dataset.price_rt_ct_per_kwh.std() / dataset.price_da_ct_per_kwh.std())


def price_correlation(dataset: Dataset) -> float:
    """Correlation of day-ahead and real-time price."""
    return _correlation(dataset.price_da_ct_per_kwh, dataset.price_rt_ct_per_kwh)


def spread_correlation_1h(dataset: Dataset) -> float:
    """Autocorrelation of the spread (real-time minus day-ahead) at one hour."""
    return _serial(_blocks(dataset, _spread(dataset)), _per_hour(dataset))


def spread_correlation_24h(dataset: Dataset) -> float:
    """Autocorrelation of the spread at one day."""
    return _serial(_blocks(dataset, _spread(dataset)), dataset.num_hours)


def real_time_skewness(dataset: Dataset) -> float:
    """Skewness of the real-time price."""
    away = dataset.price_rt_ct_per_kwh - dataset.price_rt_ct_per_kwh.mean()
    return float((away**3).mean() / (away**2).mean() ** 1.5)


def daily_day_ahead_correlation(dataset: Dataset) -> float:
    """Autocorrelation of the daily mean day-ahead price at one day."""
    return _serial(_blocks(dataset, dataset.price_da_ct_per_kwh.mean(axis=1, keepdims=True)), 1)


# loads ----------------------------------------------------------------------------------------------------------------


def load_correlations_24h(dataset: Dataset) -> FloatArray:
    """Autocorrelation of each load at one day [N]."""
    loads = np.moveaxis(dataset.load_kw, 2, 0)
    return np.array([_serial(_blocks(dataset, load), dataset.num_hours) for load in loads])


def load_correlation_24h(dataset: Dataset) -> float:
    """Autocorrelation of a single load at one day, mean over the prosumers."""
    return float(load_correlations_24h(dataset).mean())


def load_pair_correlation(dataset: Dataset) -> float:
    """Correlation of the loads of two prosumers, mean over the pairs."""
    N = dataset.num_prosumers
    series = np.concatenate([block - block.mean(axis=0) for block in _blocks(dataset, dataset.load_kw, N)])
    return float(np.corrcoef(series.T)[np.triu_indices(N, 1)].mean())


def hot_day_profile(dataset: Dataset) -> FloatArray:
    """Mean load of all prosumers, shiftable part included, over the days of July and August [H], kW."""
    total = (dataset.load_kw + dataset.shiftable_ref_kw).sum(axis=2)
    profile: FloatArray = total[np.isin(_month(dataset), (7, 8))].mean(axis=0)
    return profile


def day_peak_hour(dataset: Dataset) -> float:
    """Hour of the highest load before 18 h, July and August."""
    return float(np.argmax(hot_day_profile(dataset)[: 18 * _per_hour(dataset)])) / _per_hour(dataset)


def night_peak_hour(dataset: Dataset) -> float:
    """Hour of the highest load from 18 h on, July and August."""
    start = 18 * _per_hour(dataset)
    return float(start + np.argmax(hot_day_profile(dataset)[start:])) / _per_hour(dataset)


def day_over_night_peak(dataset: Dataset) -> float:
    """Highest load before 18 h over the highest from 18 h on, July and August."""
    profile = hot_day_profile(dataset)
    start = 18 * _per_hour(dataset)
    return float(profile[:start].max() / profile[start:].max())


# weather --------------------------------------------------------------------------------------------------------------


def forecast_error_sd(dataset: Dataset) -> float:
    """Standard deviation of a prosumer's temperature forecast error, deg C."""
    return float(_temperature_errors(dataset).std())


def forecast_error_correlation_1h(dataset: Dataset) -> float:
    """Autocorrelation of a prosumer's temperature forecast error at one hour, within a day."""
    errors, lag = _temperature_errors(dataset), _per_hour(dataset)
    return _correlation(errors[:, lag:], errors[:, :-lag])


def daily_temperature_correlation(dataset: Dataset) -> float:
    """Autocorrelation of the daily mean temperature at one day."""
    return _serial(_blocks(dataset, _temperature(dataset).mean(axis=1, keepdims=True)), 1)


def july_maximum(dataset: Dataset) -> float:
    """Mean over the July days of the daily maximum temperature, deg C."""
    return float(_temperature(dataset)[_month(dataset) == 7].max(axis=1).mean())


def july_minimum(dataset: Dataset) -> float:
    """Mean over the July days of the daily minimum temperature, deg C."""
    return float(_temperature(dataset)[_month(dataset) == 7].min(axis=1).mean())


MARKET_AND_HOME_BANDS = (
    Band("sd of real-time price / sd of day-ahead price", price_sd_ratio, 0.9, 2.6),
    Band("correlation of day-ahead and real-time price", price_correlation, 0.34, 0.69),
    Band("spread, autocorrelation at 1 h", spread_correlation_1h, 0.46, 0.82),
    Band("spread, autocorrelation at 24 h", spread_correlation_24h, 0.03, 0.14),
    Band("real-time price, skewness", real_time_skewness, 0.3, 6.0),
    Band("daily day-ahead price, autocorrelation at 1 day", daily_day_ahead_correlation, 0.43, 0.83),
    Band("single load, autocorrelation at 24 h (mean)", load_correlation_24h, 0.50, 0.74),
    Band("correlation of two loads (mean over pairs)", load_pair_correlation, 0.20, 0.62),
    Band("temperature forecast error, sd (deg C)", forecast_error_sd, 0.8, 1.1),
    Band("temperature forecast error, autocorrelation at 1 h", forecast_error_correlation_1h, 0.65, 0.85),
    Band("daily temperature, autocorrelation at 1 day", daily_temperature_correlation, 0.7, 0.9),
)
"""Measured on real day-ahead and real-time markets, homes, estates and weather forecasts."""

TEHRAN_BANDS = (
    Band("July mean maximum temperature (deg C)", july_maximum, 35.8, 37.2),
    Band("July mean minimum temperature (deg C)", july_minimum, 23.8, 26.2),
    Band("hour of the day peak, July and August", day_peak_hour, 11, 16),
    Band("hour of the night peak, July and August", night_peak_hour, 19, 23),
    Band("day peak / night peak, July and August", day_over_night_peak, 1.0, 1.5),
)
"""Facts of the place: July mean maximum and minimum 36-37 and 24-26 deg C (0.2 either way for the draw of five
summers), peaks at 11-16 and 19-23 h with the day peak above the night peak in the hot months."""


# network --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkFigures:
    """What a community that controls nothing does to its feeder over some days."""

    share_below: float
    """Of bus-hours under the lower voltage limit."""
    share_above: float
    """Of bus-hours over the upper voltage limit."""
    hours_below: float
    """Share of hours with at least one bus under the limit."""
    lowest_pu: float
    highest_pu: float
    exchange_kw: tuple[float, float]
    """Smallest and largest net import of all prosumers together."""


def network_without_control(dataset: Dataset, community: Community, split: str) -> NetworkFigures:
    """Voltages with idle batteries, shiftable loads at their reference and no curtailment, by the AC power flow."""
    rows = dataset.days(split)
    steps, N = rows.size * dataset.num_hours, dataset.num_prosumers
    consumption = (dataset.load_kw + dataset.shiftable_ref_kw)[rows].reshape(steps, N).T  # [N,B]
    net = consumption - dataset.pv_kw[rows].reshape(steps, N).T
    feeder, fleet = community.feeder, community.fleet
    passive = dataset.passive_pu[rows].reshape(1, steps)
    p_kw, q_kvar = feeder.p_kw[:, None] * passive, feeder.q_kvar[:, None] * passive  # [K,B]
    tangent = np.tan(np.arccos(fleet.power_factor))
    np.add.at(p_kw, fleet.bus, fleet.units[:, None] * net)
    np.add.at(q_kvar, fleet.bus, (fleet.units * tangent)[:, None] * consumption)
    v_pu = solve_power_flow(feeder, p_kw, q_kvar).v_pu
    below = v_pu < feeder.v_min_pu
    exchange = net.sum(axis=0)
    return NetworkFigures(
        share_below=float(below.mean()),
        share_above=float((v_pu > feeder.v_max_pu).mean()),
        hours_below=float(below.any(axis=0).mean()),
        lowest_pu=float(v_pu.min()),
        highest_pu=float(v_pu.max()),
        exchange_kw=(float(exchange.min()), float(exchange.max())),
    )


# helpers --------------------------------------------------------------------------------------------------------------


def _per_hour(dataset: Dataset) -> int:
    return max(1, round(1.0 / dataset.dt_h))


def _month(dataset: Dataset) -> FloatArray:
    return np.asarray(dataset.dates.astype("datetime64[M]").astype(np.int64) % 12 + 1, dtype=np.float64)


def _spread(dataset: Dataset) -> FloatArray:
    return dataset.price_rt_ct_per_kwh - dataset.price_da_ct_per_kwh


def _temperature(dataset: Dataset) -> FloatArray:
    return dataset.weather[..., dataset.covariates.index("temperature_c")]


def _temperature_errors(dataset: Dataset) -> FloatArray:
    """Forecast minus realised temperature [D,H,N]."""
    f = dataset.covariates.index("temperature_c")
    return dataset.weather_forecast[..., f] - dataset.weather[:, :, None, f]


def _blocks(dataset: Dataset, values: FloatArray, width: int = 0) -> list[FloatArray]:
    """Each block's values in the order of time: [T], or [T,width]."""
    shape = (-1, width) if width else (-1,)
    return [values[dataset.block == number].reshape(shape) for number in np.unique(dataset.block)]


def _serial(blocks: list[FloatArray], lag: int) -> float:
    """Autocorrelation at `lag` of series that are pieces of one process, each around its own mean."""
    away = [block - block.mean() for block in blocks]
    together = np.mean(np.concatenate([piece[lag:] * piece[:-lag] for piece in away]))
    return float(together / np.mean(np.concatenate(away) ** 2))


def _correlation(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
