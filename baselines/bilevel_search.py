"""Search for the k and the tau of consensus kNN that cost least: the bilevel problem of arXiv 2409.00493, tractably.

The upper level asks for min F(tau, k), where F is what the plans of the lower level cost on days that they did not
know. F has a value only where all those plans have been made; along k it is a list of numbers, along tau it is
continuous and piecewise smooth, but not convex. So:

1. F on a grid: every k, and tau in steps of a quarter.
2. Inside the two cells of the grid around the best tau of a k, golden section: of three neighbouring points whose
   middle one is the best, the longer side gets a point, at the golden ratio, until the cells are narrower than asked
   for. A best tau of 0 or 1 has one cell.

The best of all points ever tried is the answer, so that whatever F looks like it is never worse than the grid. Where F
is the same on both sides of the middle tau does not matter, and nothing is refined.

What comes next depends on nothing but the values at hand (`next_round`): a search can be broken off, kept, and played
in rounds whose points are independent of one another. (Brute force and the exact single-level form exist for tiny
instances, to compare with.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prosumer_gym.errors import UsageError

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The grid of tau."""
_GOLDEN = (3.0 - math.sqrt(5.0)) / 2.0
"""Where a side is cut, as a share of it, seen from the middle."""
_DIGITS = 6
"""Decimals of tau."""

Point = tuple[float, int]
"""tau and k."""


@dataclass(frozen=True)
class Found:
    """What a search has found."""

    tau: float
    k: int
    value: float
    """F there."""
    values: dict[Point, float]
    """F wherever it was asked for, in that order."""


def search(
    objective: Callable[[float, int], float],
    ks: Iterable[int],
    *,
    taus: Iterable[float] = TAUS,
    width: float = 0.01,
    num_ks: int | None = None,
) -> Found:
    """The best (tau, k) of an objective F(tau, k).

    Args:
        objective: F, called once for a point.
        ks: which k to try.
        taus: the grid of tau.
        width: refine until the two cells around the best tau together are no wider.
        num_ks: of how many k, those that are best on the grid, tau is refined; of all by default.

    Raises:
        UsageError: no k, a tau outside 0 ... 1, a width or a number that is not positive, or an F that is not finite.
    """
    values: dict[Point, float] = {}
    points = first_round(ks, taus=taus)
    while points:
        for tau, k in points:
            values[tau, k] = float(objective(tau, k))
        points = next_round(values, width=width, num_ks=num_ks)
    tau, k = best_point(values)
    return Found(tau, k, values[tau, k], values)


def first_round(ks: Iterable[int], *, taus: Iterable[float] = TAUS) -> list[Point]:
    """The grid. Raises `UsageError` for none of k or tau, a k below 1, or a tau outside 0 ... 1."""
    every_k, every_tau = list(dict.fromkeys(ks)), sorted(set(taus))
    if not every_k or min(every_k) < 1:
        raise UsageError(f"search for k: {every_k} to choose from; give numbers of days, 1 or more")
    if not every_tau or not all(0.0 <= tau <= 1.0 for tau in every_tau):
        raise UsageError(f"search for tau: {every_tau} to choose from; they must lie in 0 ... 1")
    return [(tau, k) for k in every_k for tau in every_tau]


def next_round(values: Mapping[Point, float], *, width: float, num_ks: int | None = None) -> list[Point]:
    """What to try next, at most one tau for each k, from F at all points tried so far; nothing when it is over.

    A k of which one tau alone was tried has no cells, and stays as it is.

    Raises:
        UsageError: a width or a number of k that is not positive, or a value that is not finite.
    """
    if not width > 0.0:
        raise UsageError(f"search for tau: width {width} must be positive")
    if num_ks is not None and num_ks < 1:
        raise UsageError(f"search for tau: num_ks {num_ks} must be 1 or more")
    for (tau, k), value in values.items():
        if not math.isfinite(value):
            raise UsageError(f"search for k and tau: F is {value} at tau={tau}, k={k}; it must be a number")
    by_k: dict[int, dict[float, float]] = {}
    for (tau, k), value in values.items():
        by_k.setdefault(k, {})[tau] = value
    gridded = [k for k in by_k if len(by_k[k]) > 1]
    # Refining lowers the best value of a k, so that the k that are refined stay the same ones.
    chosen = sorted(gridded, key=lambda k: min(by_k[k].values()))[:num_ks]
    found = [(_refined(by_k[k], width), k) for k in gridded if k in chosen]
    return [(tau, k) for tau, k in found if tau is not None]


def best_point(values: Mapping[Point, float]) -> Point:
    """Where F is least, of equal ones the first tried."""
    return min(values, key=lambda point: values[point])


def _refined(values: Mapping[float, float], width: float) -> float | None:
    """The tau to try next for one k; None where the cells are narrow, or tau does not matter."""
    taus = sorted(values)
    at = taus.index(min(values, key=lambda tau: values[tau]))
    around = taus[max(at - 1, 0) : at + 2]
    middle = taus[at]
    if around[-1] - around[0] <= width or len({values[tau] for tau in around}) == 1:
        return None
    far = max((around[0], around[-1]), key=lambda tau: abs(tau - middle))
    tau = round(middle + _GOLDEN * (far - middle), _DIGITS)
    return None if tau in values else tau
