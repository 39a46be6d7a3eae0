"""The contextual forecast of a day, and what is learned about it while the day goes by.

One linear regression (ridge) per prosumer and hour for load and PV, one per hour for the real-time price, on what is
known at the gate (`Context`). Its errors on training days are *out of fold*: the error of a day comes from a
regression that has seen neither that day nor any day it was a feature of. In the course of a day the hours to come
are corrected by what the day has shown: the error of each hour to come is regressed on the latest error and on the
mean error of the day so far, over the out-of-fold errors.

Why linear: on the load, gradient-boosted trees pooled over prosumers and hours took six times as long to fit and
erred 5 % more on the development days of three made data sets. `benchmarks/forecast.py` shows the skill.

Axis letters: D days, H hours of a day, N prosumers, P features, M = 2N+1 series (loads, then PV, then the price),
G regressions side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.context import Context, knows_of
from prosumer_gym.baselines.policy import Observation, at_gate, hour_of, obs_array
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

_PENALTIES = np.geomspace(1.0, 1e4, 9)
_NUM_FOLDS = 5
_CHUNK_DAYS = 14
_SEASON_DAYS = 30
PERMUTATION_SEED = 0
MIN_TRAINING_DAYS = 12
"""With fewer, no day can be left out together with the days it is a feature of."""


class DayValues(NamedTuple):
    """Load, PV [..., H, N] in kW and raw real-time price [..., H] in ct/kWh of one or more days."""

    load_kw: FloatArray
    pv_kw: FloatArray
    price_rt_ct_per_kwh: FloatArray

    def series(self) -> FloatArray:
        """One row per series [..., M, H].

        Contiguous, as a pickled copy is: sums over another layout would differ in their last bit.
        """
        price = self.price_rt_ct_per_kwh[..., np.newaxis, :]
        rows = [np.swapaxes(self.load_kw, -1, -2), np.swapaxes(self.pv_kw, -1, -2), price]
        return np.ascontiguousarray(np.concatenate(rows, axis=-2))

    @classmethod
    def from_series(cls, series: FloatArray) -> Self:
        """The inverse of `series`."""
        num = series.shape[-2] // 2
        return cls(
            load_kw=np.swapaxes(series[..., :num, :], -1, -2),
            pv_kw=np.swapaxes(series[..., num : 2 * num, :], -1, -2),
            price_rt_ct_per_kwh=series[..., -1, :],
        )

    @classmethod
    def of_history(cls, history: Dataset, rows: IntArray) -> Self:
        """What happened on `rows` [D]."""
        return cls(history.load_kw[rows], history.pv_kw[rows], history.price_rt_ct_per_kwh[rows])


@dataclass(frozen=True, eq=False)
class Ridges:
    """G ridge regressions side by side; the penalty of each is chosen by leave-one-out on its own training days."""

    coefficients: FloatArray
    """Of the features as they come, not standardised [*G,P]."""
    intercepts: FloatArray
    """[*G]."""

    @classmethod
    def fit(cls, features: FloatArray, targets: FloatArray) -> Self:
        """From `features` [D,*G,P] and `targets` [D,*G]."""
        num_days, num_features = len(features), features.shape[-1]
        X = features.reshape(num_days, -1, num_features)
        Y = targets.reshape(num_days, -1)
        coefficients = np.zeros(X.shape[1:])
        intercepts = Y.mean(axis=0)
        for g in range(Y.shape[1]):
            if np.ptp(Y[:, g]) == 0.0:
                continue  # PV at night
            scaler = StandardScaler().fit(X[:, g])
            ridge = RidgeCV(alphas=_PENALTIES).fit(scaler.transform(X[:, g]), Y[:, g])
            coefficients[g] = ridge.coef_ / scaler.scale_
            intercepts[g] = ridge.intercept_ - coefficients[g] @ scaler.mean_
        return cls(coefficients.reshape(features.shape[1:]), intercepts.reshape(targets.shape[1:]))

    def predict(self, features: FloatArray) -> FloatArray:
        """Forecasts [D,*G]."""
        return np.asarray(np.einsum("d...p,...p->d...", features, self.coefficients) + self.intercepts)


@dataclass(frozen=True, eq=False)
class GateForecast:
    """The forecast at the day-ahead gate of load, PV and real-time price."""

    load: Ridges
    pv: Ridges
    price: Ridges
    season_day_of_year: FloatArray
    """Of the training days [D]."""
    season_pv_kw: FloatArray
    """PV of the training days [D,H,N]."""

    @classmethod
    def fit(cls, context: Context, values: DayValues) -> Self:
        """From the contexts of D training days and what happened on them."""
        return cls(
            load=Ridges.fit(context.load_features(), values.load_kw),
            pv=Ridges.fit(context.pv_features(), values.pv_kw),
            price=Ridges.fit(context.price_features(), values.price_rt_ct_per_kwh),
            season_day_of_year=context.day_of_year,
            season_pv_kw=values.pv_kw,
        )

    def predict(self, context: Context) -> DayValues:
        """Forecasts of the days of `context` [D,...], within what is physically possible."""
        return clip_to_physics(
            DayValues(
                self.load.predict(context.load_features()),
                self.pv.predict(context.pv_features()),
                self.price.predict(context.price_features()),
            ),
            self.pv_ceiling_kw(context.day_of_year),
        )

    def pv_ceiling_kw(self, day_of_year: FloatArray) -> FloatArray:
        """The most that each hour brought on the training days nearest in season [D,H,N]; zero at night."""
        distance = np.abs(day_of_year[:, np.newaxis] - self.season_day_of_year)
        distance = np.minimum(distance, 365.25 - distance)
        nearest = np.argsort(distance, axis=1, kind="stable")[:, :_SEASON_DAYS]
        return np.asarray(self.season_pv_kw[nearest].max(axis=1))


def clip_to_physics(values: DayValues, pv_ceiling_kw: FloatArray) -> DayValues:
    """Loads are not negative, and PV lies between zero and what the hour can bring [...,H,N]."""
    return DayValues(
        np.maximum(values.load_kw, 0.0), np.clip(values.pv_kw, 0.0, pv_ceiling_kw), values.price_rt_ct_per_kwh
    )


def fold_of_days(block: IntArray) -> IntArray:
    """Number of the fold of each training day [D], from the blocks the days lie in [D].

    Folds are made of chunks of up to two weeks of one block, so that a day's neighbours share its fold.
    """
    length = min(max(1, -(-len(block) // _NUM_FOLDS)), _CHUNK_DAYS)
    chunk, chunks, run = np.zeros(len(block), dtype=np.int64), -1, 0
    for d in range(len(block)):
        if d == 0 or block[d] != block[d - 1] or run == length:
            chunks, run = chunks + 1, 0
        chunk[d], run = chunks, run + 1
    return chunk % _NUM_FOLDS


def out_of_fold_forecast(context: Context, values: DayValues, rows: IntArray, block: IntArray) -> DayValues:
    """A forecast of each training day by a regression that has not seen it [D,...].

    Neither the day nor a day that has it among its past days is in the regression's training set. `rows` [D] are
    the days' rows in the history and `block` [D] their blocks.
    """
    fold, knows = fold_of_days(block), knows_of(rows, block)
    result = DayValues(*(np.empty_like(v) for v in values))
    for number in np.unique(fold):
        held_out = fold == number
        clean = np.flatnonzero(~knows[:, held_out].any(axis=1))
        forecast = GateForecast.fit(context.take(clean), DayValues(*(v[clean] for v in values)))
        for target, source in zip(result, forecast.predict(context.take(held_out)), strict=True):
            target[held_out] = source
    return result


@dataclass(frozen=True, eq=False)
class ErrorUpdate:
    """What the errors of a day so far say about its errors to come, per series."""

    gains: tuple[FloatArray, ...]
    """For each hour h but the last: of the latest error and of the mean so far, on each later hour [M,H-1-h,2]."""

    @classmethod
    def fit(cls, errors: FloatArray) -> Self:
        """From the errors of D days [D,M,H]."""
        scale = np.sqrt(np.mean(errors**2, axis=(0, 2)))
        scaled = errors / np.where(scale > 0.0, scale, 1.0)[:, np.newaxis]  # the penalty then means the same for all
        num_series, num_hours = errors.shape[1:]
        gains = []
        for hour in range(num_hours - 1):
            shown = _shown(scaled[..., : hour + 1])
            gain = np.zeros((num_series, num_hours - 1 - hour, 2))
            for m in range(num_series):
                ridge = Ridge(alpha=1.0, fit_intercept=False).fit(shown[:, m], scaled[:, m, hour + 1 :])
                gain[m] = np.reshape(ridge.coef_, gain[m].shape)
            gains.append(gain)
        return cls(tuple(gains))

    def expected(self, errors: FloatArray) -> FloatArray:
        """Errors to expect in the later hours [...,M,H-1-h] from those of hours 0 ... h [...,M,h+1]."""
        hour = errors.shape[-1] - 1
        if hour >= len(self.gains):
            return np.zeros((*errors.shape[:-1], 0))
        return np.asarray(np.einsum("...mj,mkj->...mk", _shown(errors), self.gains[hour]))


def _shown(errors: FloatArray) -> FloatArray:
    """The latest error and the mean so far [...,M,2] of errors [...,M,h+1]."""
    return np.stack([errors[..., -1], errors.mean(axis=-1)], axis=-1)


class TrainingDays(NamedTuple):
    """What a policy may learn from: D days, what was known before each of them, and what happened on it."""

    rows: IntArray
    """In the history, in date order [D]."""
    block: IntArray
    """The blocks they lie in [D]."""
    context: Context
    values: DayValues

    @classmethod
    def of_history(cls, history: Dataset, *, permuted: bool = False) -> Self:
        """The train days of a history.

        With `permuted` the contexts are dealt to other days at random (always in the same way): the control that tells
        what a method gains from the context, and what it would gain without.
        """
        rows = np.flatnonzero(history.is_training).astype(np.int64)
        context = Context.from_history(history, rows)
        if permuted:
            context = context.take(np.random.default_rng(PERMUTATION_SEED).permutation(rows.size))
        return cls(rows, history.block[rows], context, DayValues.of_history(history, rows))


@dataclass(frozen=True, eq=False)
class DayForecaster:
    """Everything about forecasting that a policy learns from the training history."""

    gate: GateForecast
    update: ErrorUpdate
    errors: FloatArray
    """Out-of-fold errors of the training days, in date order: actual minus forecast [D,M,H]."""

    @classmethod
    def fit(cls, history: Dataset, *, permuted: bool = False) -> Self:
        """From the train days of `history`, their contexts `permuted` or not (`TrainingDays`).

        Raises `UsageError` when there are fewer than `MIN_TRAINING_DAYS`.
        """
        num_days = int(history.is_training.sum())
        if num_days < MIN_TRAINING_DAYS:
            raise UsageError(
                f"{history.id}: {num_days} training days are too few for a forecast; give {MIN_TRAINING_DAYS} or more"
            )
        rows, block, context, values = TrainingDays.of_history(history, permuted=permuted)
        errors = values.series() - out_of_fold_forecast(context, values, rows, block).series()
        return cls(GateForecast.fit(context, values), ErrorUpdate.fit(errors), errors)

    def forecast(self, obs: Observation) -> DayValues:
        """What to expect of the rest of the day that `obs` belongs to, hours `hour_of(obs)` ... H-1 [h,...].

        At the gate that is the whole day. In real time the first hour is as observed (its PV at most what the training
        days show to be possible), and the later ones are corrected by the errors so far.
        """
        return self._remaining(obs, errors=None)

    def scenarios(self, obs: Observation, days: IntArray) -> DayValues:
        """The same forecast with the errors of some training days added [S,h,...]; `days` [S] index `errors`.

        In real time, what is added is the part of their errors that their own hours so far had not told.
        """
        return self._remaining(obs, self.errors[days])

    def _remaining(self, obs: Observation, errors: FloatArray | None) -> DayValues:
        context = Context.from_observation(obs)
        ceiling_kw = self.gate.pv_ceiling_kw(context.day_of_year)[0]
        series = DayValues(*(v[0] for v in self.gate.predict(context))).series()  # [M,H]
        if not at_gate(obs):
            shown = hour_of(obs) + 1
            ceiling_kw = ceiling_kw[shown - 1 :]
            observed = DayValues(*(obs_array(obs, name)[:shown] for name in DayValues._fields)).series()
            expected = self.update.expected(observed - series[:, :shown])
            series = np.concatenate([observed[:, -1:], series[:, shown:] + expected], axis=1)
            if errors is not None:
                untold = errors[..., shown:] - self.update.expected(errors[..., :shown])
                errors = np.concatenate([np.zeros_like(errors[..., :1]), untold], axis=-1)
        if errors is not None:
            series = series + errors
        return clip_to_physics(DayValues.from_series(series), ceiling_kw)
