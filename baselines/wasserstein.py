"""Worst cases over a ball of probability distributions around samples: the closed forms that a plan needs.

The ball holds all distributions on a support to which the samples can be carried at a mean distance of at most its
radius rho (the type-1 Wasserstein distance). Which norm measures the distance does not matter here: everything below
moves one coordinate at a time. `wasserstein_reference` states the same as linear and cone programs, for any norm and
polytope, to be read and to check these forms against.

Conditional value at risk (CVaR) at level eps: the mean of the worst share eps. A constraint "at most 0 with probability
1 - eps" is kept whenever the CVaR of its left-hand side is at most 0, and for all distributions of the ball whenever
the largest CVaR is. Of a deviation xi on [low, high] that one is (`worst_case_cvar`)

    kappa = 1/eps [ sum of the tail + min(rho, sum of the tail's room up to high) ]

where the tail are the largest samples of total mass eps, the last one in part: raising just them costs no distance
elsewhere, and none can be raised beyond high. It does not fall with rho or with 1/eps, and never exceeds high. For a
constraint that is linear in -xi, a surplus, exchange the signs and the bounds.

Equation (18) of the two-stage distributionally robust paper on prosumers (Tabriz J. Electr. Eng.) lacks the level on
the right of its third row and does not bound anything; the rows are corrected in `wasserstein_reference`.

Axis letters: S samples; any further axes stand for deviations side by side.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.errors import UsageError

SUPPORT_MARGIN = 0.1
"""How far a support reaches beyond its samples, as a share of their range."""


def check_radius(name: str, radius: float) -> None:
    """Raises `UsageError` for a radius that is negative or not finite."""
    if not (np.isfinite(radius) and radius >= 0):
        raise UsageError(f"{name} {radius}: a radius is a number of at least 0; 0 trusts the samples")


def check_level(name: str, level: float) -> None:
    """Raises `UsageError` for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise UsageError(f"{name} {level}: the share of violations that is allowed must lie between 0 and 1, like 0.05")


def support_of(samples: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest sample of each deviation, with a margin [...], from samples [S,...]."""
    low, high = samples.min(axis=0), samples.max(axis=0)
    margin = SUPPORT_MARGIN * (high - low)
    return low - margin, high + margin


def cvar(samples: FloatArray, weights: FloatArray, level: float) -> FloatArray:
    """Mean of the largest samples of total weight `level` [...], from samples [S,...] with weights [S]."""
    check_level("level", level)
    mass, ordered = _tail(samples, weights, level)
    return np.asarray((mass * ordered).sum(axis=0) / level)


def worst_case_cvar(
    samples: FloatArray, weights: FloatArray, high: FloatArray, *, radius: float, level: float
) -> FloatArray:
    """Largest CVaR of each deviation over the ball, kappa [...].

    Args:
        samples: [S,...].
        weights: probabilities of the samples [S].
        high: largest possible deviation [...], none of the samples beyond it; infinite where there is no bound.
        radius: of the ball, in the unit of the samples; 0 is the samples' own CVaR.
        level: share of the outcomes that the mean is taken of, in (0, 1).

    Raises:
        UsageError: radius, level or bound out of range.
    """
    check_radius("radius", radius)
    check_level("level", level)
    if np.any(samples > high):
        raise UsageError("support: samples lie beyond its upper end; widen it")
    mass, ordered = _tail(samples, weights, level)
    if radius == 0:
        return np.asarray((mass * ordered).sum(axis=0) / level)
    # What is no part of the tail has no room, even where there is no bound.
    room = np.multiply(mass, high - ordered, out=np.zeros_like(mass), where=mass > 0).sum(axis=0)
    return np.asarray(((mass * ordered).sum(axis=0) + np.minimum(radius, room)) / level)


def _tail(samples: FloatArray, weights: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Weight of each sample within the tail, and the samples, largest first [S,...]."""
    order = np.argsort(-samples, axis=0, kind="stable")
    ordered = np.take_along_axis(samples, order, axis=0)
    sorted_weights = weights[order]
    before = np.cumsum(sorted_weights, axis=0) - sorted_weights
    return np.clip(level - before, 0.0, sorted_weights), ordered
