"""How much each training day tells about a day to come: weights from contexts, for each prosumer its own.

Bertsimas and Kallus, "From predictive to prescriptive analytics" (Management Science 66, 2020): a plan for a day whose
context is x minimises the weighted average cost over the training days, and what learns is the weights: one for each of
the k nearest neighbours of x, a kernel of the distance (Nadaraya-Watson), or the share of a random forest's trees in
whose leaves day and x lie together (`leaf_weights`). In `cknn` neighbours pool the days that each finds near, without
telling one another their contexts (arXiv 2409.00493).

A training day that is itself asked about must not be among those that answer (it would know the day it is asked
about), nor may a day that has it in its past: `leave_one_out`, or `rolling` where only earlier days answer.

Axis letters: D training days, N prosumers, P features, H hours, F covariates; Q days that are asked about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.context import Context, knows_of
from prosumer_gym.community import TradeGraph
from prosumer_gym.errors import UsageError

LEAST_WEIGHT = 1e-3
"""Of a day that is kept by `heaviest`."""


def prosumer_features(context: Context) -> FloatArray:
    """What each prosumer knows of each day, as numbers that are comparable between days [Q,N,P].

    Of its own forecast the mean and the highest value of each covariate; the level and the spread of the day-ahead
    price; the weekend; the season; and the level of its load and PV, yesterday and in the last week.
    """
    num_days, _, num_prosumers, _ = context.weather_forecast.shape
    price = context.price_da_ct_per_kwh
    angle = 2.0 * np.pi * context.day_of_year / 365.25
    shared = [price.mean(axis=1), np.ptp(price, axis=1), context.weekend, np.sin(angle), np.cos(angle)]  # [Q] each
    load, pv = context.past_load_kw.mean(axis=2), context.past_pv_kw.mean(axis=2)  # [Q,W,N]
    own = [
        *np.moveaxis(context.weather_forecast.mean(axis=1), -1, 0),
        *np.moveaxis(context.weather_forecast.max(axis=1), -1, 0),
        *(past[:, -1] for past in (load, pv)),
        *(past[:, -7:].mean(axis=1) for past in (load, pv)),
    ]  # [Q,N] each
    shape = (num_days, num_prosumers)
    return np.stack([*own, *(np.broadcast_to(column[:, np.newaxis], shape) for column in shared)], axis=-1)


@dataclass(frozen=True, eq=False)
class ContextScaler:
    """Puts the features of each prosumer on one scale: mean 0 and standard deviation 1 over the training days."""

    mean: FloatArray
    """[N,P]."""
    scale: FloatArray
    """[N,P]; 1 for a feature that is the same on all training days."""

    @classmethod
    def fit(cls, context: Context) -> Self:
        """From the contexts of D training days."""
        features = prosumer_features(context)
        spread = features.std(axis=0)
        mean = features.mean(axis=0)
        constant = spread <= 1e-12 * np.maximum(np.abs(mean), 1.0)
        return cls(mean, np.where(constant, 1.0, spread))

    def vectors(self, context: Context) -> FloatArray:
        """The contexts of Q days as vectors [Q,N,P]."""
        return np.asarray((prosumer_features(context) - self.mean) / self.scale)


def distances(days: FloatArray, training: FloatArray) -> FloatArray:
    """Euclidean distance of each prosumer's vectors of Q days [Q,N,P] from those of D training days [Q,N,D]."""
    return np.stack(
        [np.sqrt(((training - day) ** 2).sum(axis=-1)).T for day in days]
    )  # day by day: all at once would need Q times the memory


def leave_one_out(rows: IntArray, block: IntArray) -> BoolArray:
    """Which training days [i,j] may answer for which: j for i unless j is i or has it among its past days [D,D]."""
    return np.asarray(~knows_of(rows, block).T)


def rolling(rows: IntArray) -> BoolArray:
    """Which training days [i,j] may answer for which: j for i when it was earlier [D,D]."""
    return np.asarray(rows[:, np.newaxis] > rows)


def among(distance: FloatArray, eligible: BoolArray) -> FloatArray:
    """The distances with those that may not answer infinitely far away; `eligible` [Q,D], distances [Q,N,D]."""
    return np.where(eligible[:, np.newaxis], distance, np.inf)


def nearest(distance: FloatArray, k: int) -> BoolArray:
    """Which days are the k nearest [...,D], of equally near ones the first; infinitely far ones are none.

    Raises:
        UsageError: k below 1 or above the number of days.
    """
    num_days = int(np.isfinite(distance).sum(axis=-1).min())
    if not 1 <= k <= num_days:
        raise UsageError(f"k={k} nearest days of {num_days} training days: k must lie in 1 ... {num_days}")
    order = np.argsort(distance, axis=-1, kind="stable")[..., :k]
    result = np.zeros(distance.shape, dtype=np.bool_)
    np.put_along_axis(result, order, values=True, axis=-1)
    return result


def knn(distance: FloatArray, k: int) -> FloatArray:
    """Equal weights of the k nearest days [...,D]. Raises `UsageError` as `nearest`."""
    return np.asarray(nearest(distance, k) / k)


def kernel(distance: FloatArray, bandwidth: float) -> FloatArray:
    """Nadaraya-Watson weights of a Gaussian kernel [...,D]; infinitely far days have none.

    Raises:
        UsageError: a bandwidth that is not positive, or no day that may answer.
    """
    if not (np.isfinite(bandwidth) and bandwidth > 0.0):
        raise UsageError(f"bandwidth {bandwidth}: must be a positive number")
    closest = distance.min(axis=-1, keepdims=True)
    if not np.all(np.isfinite(closest)):
        raise UsageError("kernel weights: there is no training day that may answer")
    # Relative to the closest day, so that something is left however far all of them are.
    weights = np.exp(-(distance**2 - closest**2) / (2.0 * bandwidth**2))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def usual_bandwidth(num_features: int) -> float:
    """Half the root of P: about a third of the distance that two days usually have, which is the root of 2 P.

    Rules for densities, such as Scott's, let hardly more than one day count where P is 15.
    """
    return 0.5 * math.sqrt(num_features)


def heaviest(weights: FloatArray, count: int) -> FloatArray:
    """The `count` largest weights, of equal ones the first, scaled to sum to one; the others zero [...,D].

    Weights below a thousandth are left out too: they move no plan, but spoil the scale of a program.
    """
    count = min(count, weights.shape[-1])
    order = np.argsort(-weights, axis=-1, kind="stable")[..., :count]
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, np.take_along_axis(weights, order, axis=-1), axis=-1)
    kept[kept < np.minimum(LEAST_WEIGHT, kept.max(axis=-1, keepdims=True))] = 0.0
    return np.asarray(kept / kept.sum(axis=-1, keepdims=True))


def cknn(indicators: BoolArray, graph: TradeGraph, tau: FloatArray | float, k: int) -> FloatArray:
    """Weights of consensus kNN [N,D]: w_n = tau_n 1_n / k + (1 - tau_n) / |neighbours| sum_m 1_m / k.

    Prosumers tell their neighbours nothing but which days are their k nearest (arXiv 2409.00493, with the factors that
    make its weights sum to one). Who has no neighbours relies on its own.

    Args:
        indicators: which days are near for whom, k for each [N,D].
        graph: who is whose neighbour.
        tau: how much each relies on its own days, 0 ... 1 [N], or one for all.
        k: days that each names.

    Raises:
        UsageError: `tau` outside 0 ... 1, or another number of days than k.
    """
    num_prosumers = len(indicators)
    own = np.broadcast_to(np.asarray(tau, dtype=np.float64), (num_prosumers,))
    if not np.all((own >= 0.0) & (own <= 1.0)):
        raise UsageError(f"tau {tau}: must lie in 0 ... 1")
    if np.any(indicators.sum(axis=1) != k):
        raise UsageError(f"consensus kNN: every prosumer must name k={k} days")
    near = indicators / k
    neighbours = np.zeros((num_prosumers, num_prosumers))
    neighbours[graph.first, graph.second] = neighbours[graph.second, graph.first] = 1.0
    degree = neighbours.sum(axis=1)
    own = np.where(degree == 0, 1.0, own)[:, np.newaxis]
    pooled = neighbours @ near / np.maximum(degree, 1.0)[:, np.newaxis]
    return np.asarray(own * near + (1.0 - own) * pooled)
