"""What is known about a day at its day-ahead gate, and the features a forecast is made from.

A policy meets a day twice: as a row of the training history, when it is fitted, and as an observation, when it is
played. `Context` holds either, so that the same lines of code compute the features of both.

Axis letters: D days, H hours of a day, N prosumers, F weather covariates, P features, W = 8 past days (the last is
yesterday).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.errors import UsageError

_LAGS = (1, 2, 7)  # yesterday, the day before, the same weekday
_MEAN_DAYS = 7


@dataclass(frozen=True, eq=False)
class Context:
    """Everything about D days that is known before they begin, and nothing that is not."""

    day_of_year: FloatArray
    """1 January = 1 [D]."""
    weekday: FloatArray
    """Monday = 0 [D]."""
    weekend: FloatArray
    """1 on the local weekend [D]."""
    price_da_ct_per_kwh: FloatArray
    """Raw day-ahead price of the day [D,H]."""
    weather_forecast: FloatArray
    """Each prosumer's own forecast, issued at noon of the day before [D,H,N,F]."""
    past_load_kw: FloatArray
    """[D,W,H,N]."""
    past_pv_kw: FloatArray
    """[D,W,H,N]."""
    past_price_da_ct_per_kwh: FloatArray
    """[D,W,H]."""
    past_price_rt_ct_per_kwh: FloatArray
    """[D,W,H]."""
    past_weather: FloatArray
    """[D,W,H,F]."""

    @classmethod
    def from_observation(cls, obs: Mapping[str, Any]) -> Context:
        """The context of the one day that `obs` belongs to (D = 1); the same at the gate and in each of its hours."""
        one = {name: np.asarray(obs[name], dtype=np.float64) for name in cls.__dataclass_fields__}
        for name in ("day_of_year", "weekday", "weekend"):
            one[name] = one[name].reshape(())
        return cls(**{name: values[np.newaxis] for name, values in one.items()})

    @classmethod
    def from_history(cls, history: Dataset, rows: IntArray) -> Context:
        """The contexts of `rows` `[D]` of a data set. Raises `UsageError` for a row without 8 past days."""
        rows = np.asarray(rows, dtype=np.int64)
        past = rows[:, np.newaxis] + np.arange(-LEAD_IN_DAYS, 0)  # [D,W]
        lacking = (past[:, 0] < 0) | (history.block[np.maximum(past[:, 0], 0)] != history.block[rows])
        if lacking.any():
            row = int(rows[np.argmax(lacking)])
            raise UsageError(f"{history.id}: row {row} ({history.dates[row]}) lacks its past days; take scored days")
        return cls(
            day_of_year=history.day_of_year[rows].astype(np.float64),
            weekday=history.weekday[rows].astype(np.float64),
            weekend=history.weekend[rows].astype(np.float64),
            price_da_ct_per_kwh=history.price_da_ct_per_kwh[rows],
            weather_forecast=history.weather_forecast[rows],
            past_load_kw=history.load_kw[past],
            past_pv_kw=history.pv_kw[past],
            past_price_da_ct_per_kwh=history.price_da_ct_per_kwh[past],
            past_price_rt_ct_per_kwh=history.price_rt_ct_per_kwh[past],
            past_weather=history.weather[past],
        )

    def take(self, days: IntArray | BoolArray) -> Context:
        """Some of the days."""
        return Context(**{name: getattr(self, name)[days] for name in self.__dataclass_fields__})

    @property
    def num_days(self) -> int:
        """D."""
        return len(self.day_of_year)

    def load_features(self) -> FloatArray:
        """Features of the load of each prosumer and hour `[D,H,N,P]`."""
        return self._prosumer_features(self.past_load_kw)

    def pv_features(self) -> FloatArray:
        """Features of the PV power of each prosumer and hour `[D,H,N,P]`."""
        return self._prosumer_features(self.past_pv_kw)

    def price_features(self) -> FloatArray:
        """Features of the raw real-time price of each hour `[D,H,P]`."""
        spread = self.past_price_rt_ct_per_kwh - self.past_price_da_ct_per_kwh  # [D,W,H]
        shape = self.price_da_ct_per_kwh.shape
        columns = [
            self.price_da_ct_per_kwh,
            np.broadcast_to(self.price_da_ct_per_kwh.mean(axis=1, keepdims=True), shape),
            *_lagged(spread),
            np.broadcast_to(spread[:, -1, -3:].mean(axis=1)[:, np.newaxis], shape),
            *self._shared_weather(),
            *self._calendar(),
        ]
        return np.stack(columns, axis=-1)

    def _prosumer_features(self, past: FloatArray) -> FloatArray:
        """`past` `[D,W,H,N]` is the past of the quantity to be forecast."""
        shape = past[:, 0].shape  # [D,H,N]
        own = list(np.moveaxis(self.weather_forecast, -1, 0))  # F of [D,H,N]
        shared = [self.price_da_ct_per_kwh, *self._shared_weather(), *self._calendar()]  # of [D,H]
        day = past.mean(axis=2)  # [D,W,N]
        community = np.repeat(day.mean(axis=2, keepdims=True), shape[2], axis=2)  # its level, as growth moves it
        columns = [
            *_lagged(past),
            *(
                np.broadcast_to(level[:, np.newaxis, :], shape)
                for days in (day, community)
                for level in (days[:, -1], days[:, -_MEAN_DAYS:].mean(axis=1))
            ),
            *own,
            *(np.broadcast_to(column[:, :, np.newaxis], shape) for column in shared),
        ]
        return np.stack(columns, axis=-1)

    def _shared_weather(self) -> list[FloatArray]:
        """The community's mean forecast of the hour and of the day, then what the last days were; `[D,H]` each."""
        mean = self.weather_forecast.mean(axis=2)  # [D,H,F]
        past = self.past_weather.mean(axis=2)  # [D,W,F]
        daily = (mean.mean(axis=1), past[:, -1], past[:, -_MEAN_DAYS:].mean(axis=1))  # [D,F] each
        blocks = [mean, *(np.broadcast_to(values[:, np.newaxis, :], mean.shape) for values in daily)]
        return [column for block in blocks for column in np.moveaxis(block, -1, 0)]

    def _calendar(self) -> list[FloatArray]:
        """Weekend, weekday and season; each `[D,H]`."""
        angle = 2.0 * np.pi * self.day_of_year / 365.25
        flags = [self.weekend, *((self.weekday == k).astype(np.float64) for k in range(7))]
        hours = self.price_da_ct_per_kwh.shape[1]
        return [np.repeat(c[:, np.newaxis], hours, axis=1) for c in (*flags, np.sin(angle), np.cos(angle))]


def _lagged(past: FloatArray) -> list[FloatArray]:
    """Yesterday, two days ago, a week ago and the mean of the last days, from `past` `[D,W,H,...]`."""
    return [*(past[:, -lag] for lag in _LAGS), past[:, -_MEAN_DAYS:].mean(axis=1)]


def knows_of(rows: IntArray, block: IntArray) -> BoolArray:
    """Whether what is known about a day tells what happened on another: whether it is that day, or follows on it.

    Entry [i,j] is true where j is i itself or one of the days before it that are part of its context. A day that is
    held out to be judged on must not be judged by any day that knows of it.

    Args:
        rows: of the days in the history [D].
        block: the blocks they lie in [D].
    """
    age = rows[:, np.newaxis] - rows
    return np.asarray((age >= 0) & (age <= LEAD_IN_DAYS) & (block[:, np.newaxis] == block))
