"""Worst cases over a Wasserstein ball as programs, straight from their equations, in CVXPY. Slow.

Mohajerin Esfahani and Kuhn (Mathematical Programming 171, 2018): over all distributions on the polytope F xi <= f that
lie within distance rho of the samples, the largest expectation of max_k (a_k' xi + b_k) is

    minimise  L rho + sum_i w_i s_i
    subject to  b_k + a_k' xi^i + gamma_ik' (f - F xi^i) <= s_i,   |F' gamma_ik - a_k|_* <= L,   gamma_ik >= 0

with the dual |.|_* of the norm that measures distances. With one piece it is equation (14) of the paper on prosumers
(Tabriz J. Electr. Eng.); with the two pieces of the CVaR, t and (a' xi + b) / eps + (1 - 1/eps) t, it is

    L rho + sum_i w_i s_i <= 0,   t <= s_i,
    a' xi^i + b + (eps - 1) t + eps gamma_i' (f - F xi^i) <= eps s_i,   |eps F' gamma_i - a|_* <= eps L,   gamma_i >= 0

which is its equation (18) with eps before s_i, where the print has none. (For b: -0.0205 in place of 0.0355 on the
samples that showed it; a bound from above must not lie below.)

Axis letters: S samples, d coordinates, M rows of the polytope, h hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cvxpy
import numpy as np

from prosumer_gym.arrays import FloatArray

cp: Any = cvxpy  # its functions are not visible to type checkers

_DUAL: dict[float, Any] = {1: "inf", 2: 2, np.inf: 1}


class Polytope(NamedTuple):
    """F xi <= f."""

    F: FloatArray
    """[M,d]."""
    f: FloatArray
    """[M]."""

    @classmethod
    def box(cls, low: FloatArray, high: FloatArray) -> Polytope:
        """Between the bounds, where these are finite."""
        eye = np.eye(len(low))
        F, f = np.concatenate([eye, -eye]), np.concatenate([high, -low])
        return cls(F[np.isfinite(f)], f[np.isfinite(f)])


class Ball(NamedTuple):
    """All distributions on a support near the samples."""

    samples: FloatArray
    """[S,d]."""
    weights: FloatArray
    """[S]."""
    radius: float
    support: Polytope
    norm: float
    """That measures distances: 1, 2 or infinity."""


def worst_case_expectation(ball: Ball, slopes: Sequence[Any], offsets: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Largest expectation of max_k (slopes_k' xi + offsets_k): an expression to be minimised, and its rows.

    Slopes [d], or each sample's own [S,d], and offsets are numbers or affine expressions.
    """
    num, steepness = len(ball.samples), _steepness(ball)
    bound = cp.Variable(num)
    rows: list[Any] = []
    for slope, offset in zip(slopes, offsets, strict=True):
        gamma, leaves = _multipliers(ball)
        own = slope if slope.ndim == 2 else _for_each(num, slope)
        rows += [offset + cp.sum(cp.multiply(ball.samples, own), axis=1) + _room(ball, gamma) <= bound]
        if ball.radius > 0:
            rows.append(cp.norm(leaves - own, _DUAL[ball.norm], axis=1) <= steepness)
    return ball.radius * steepness + ball.weights @ bound, rows


def worst_case_cvar(ball: Ball, slope: Any, offset: Any, level: float) -> tuple[Any, list[Any]]:
    """Largest CVaR of slope' xi + offset: an expression to be minimised, and its rows."""
    t = cp.Variable()
    zero = np.zeros(ball.samples.shape[1])
    return worst_case_expectation(ball, [zero, slope / level], [t, offset / level + (1 - 1 / level) * t])


def chance_rows(ball: Ball, slope: Any, offset: Any, level: float) -> list[Any]:
    """Rows, as in the equations above, that keep the largest CVaR of slope' xi + offset at most 0."""
    num, steepness, t = len(ball.samples), _steepness(ball), cp.Variable()
    bound = cp.Variable(num)
    gamma, leaves = _multipliers(ball)
    rows = [
        ball.radius * steepness + ball.weights @ bound <= 0,
        t <= bound,
        ball.samples @ slope + offset + (level - 1) * t + level * _room(ball, gamma) <= level * bound,
    ]
    if ball.radius > 0:
        rows.append(cp.norm(level * leaves - _for_each(num, slope), _DUAL[ball.norm], axis=1) <= level * steepness)
    return rows


def separable_cost(
    ball: Ball, low: FloatArray, high: FloatArray, per_unit_kw: Any, buy: FloatArray, sell: FloatArray
) -> tuple[Any, list[Any]]:
    """Largest expectation of sum_h max(buy_h q_h, sell_h q_h), q_h = per_unit_kw_h xi_h, over a ball of norm 1.

    Each sample keeps its prices [S,h]: what is uncertain beyond the samples is xi, on the box from `low` to `high` [h].
    Exact for non-negative `per_unit_kw`, because distance and cost are sums over hours.
    """
    if ball.norm != 1:
        raise ValueError("the cost is separable only when distances are, with norm 1")
    xi, steepness = ball.samples, _steepness(ball)
    bound = cp.Variable(xi.shape)
    rows: list[Any] = []
    for price in (buy, sell):
        up, down = cp.Variable(xi.shape, nonneg=True), cp.Variable(xi.shape, nonneg=True)
        slope = price @ cp.diag(per_unit_kw)
        rows.append(cp.multiply(slope, xi) + cp.multiply(up, high - xi) + cp.multiply(down, xi - low) <= bound)
        if ball.radius > 0:
            rows.append(cp.abs(up - down - slope) <= steepness)
    return ball.radius * steepness + ball.weights @ cp.sum(bound, axis=1), rows


def _for_each(num: int, slope: Any) -> Any:
    """The slope [d] of every sample [S,d]."""
    return np.ones((num, 1)) @ cp.reshape(slope, (1, slope.size), order="C")


def _steepness(ball: Ball) -> Any:
    """L. With no radius it is free to be infinite, so that its rows hold by themselves and are left out with it."""
    return cp.Variable(nonneg=True) if ball.radius > 0 else 0.0


def _multipliers(ball: Ball) -> tuple[Any, Any]:
    """The gammas [S,M], and F' gamma [S,d]."""
    if len(ball.support.f) == 0:
        return None, np.zeros(ball.samples.shape)
    gamma = cp.Variable((len(ball.samples), len(ball.support.f)), nonneg=True)
    return gamma, gamma @ ball.support.F


def _room(ball: Ball, gamma: Any) -> Any:
    """gamma_i' (f - F xi^i) [S]."""
    if gamma is None:
        return np.zeros(len(ball.samples))
    return cp.sum(cp.multiply(gamma, ball.support.f - ball.samples @ ball.support.F.T), axis=1)
