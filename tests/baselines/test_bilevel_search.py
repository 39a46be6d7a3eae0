from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from prosumer_gym.baselines.bilevel_search import TAUS, best_point, first_round, next_round, search
from prosumer_gym.errors import UsageError

Objective = Callable[[float, int], float]


def bowls(tau: float, k: int) -> float:
    """Least at tau = 0.43 of k = 5."""
    return (tau - {1: 0.1, 5: 0.43, 9: 0.9}[k]) ** 2 + abs(k - 5)


def kinked(tau: float, k: int) -> float:
    """Least at tau = 0.982 of k = 1, in a corner that lies beside the grid's best point."""
    return abs(tau - 0.982) + 0.3 * k


def bumpy(tau: float, k: int) -> float:
    """Not convex: a deep and narrow hole that no cell around the best grid point holds."""
    return math.sin(9.0 * tau + k) + (-5.0 if (tau, k) == (0.25, 2) else 0.0)


@pytest.mark.parametrize("width", [0.3, 0.05, 1e-3])
@pytest.mark.parametrize(("objective", "best"), [(bowls, (0.43, 5)), (kinked, (0.982, 1))])
def test_the_best_is_found_as_closely_as_asked_for(objective: Objective, best: tuple[float, int], width: float) -> None:
    found = search(objective, (1, 5, 9), width=width)
    assert found.k == best[1]
    assert abs(found.tau - best[0]) <= width
    assert found.value == objective(found.tau, found.k) == min(found.values.values())


def test_each_point_costs_one_call_and_the_golden_ratio_many_decimals() -> None:
    asked: list[tuple[float, int]] = []

    def objective(tau: float, k: int) -> float:
        asked.append((tau, k))
        return bowls(tau, k)

    found = search(objective, (1, 5, 9), width=1e-3, num_ks=1)
    assert asked == list(found.values)
    assert len(set(asked)) == len(asked)
    # Two cells of 0.25 shrink by the golden ratio at each step, after one that the first cells' shape may cost.
    assert len(asked) <= 15 + 3 + math.ceil(math.log(1e-3 / 0.5) / math.log((math.sqrt(5.0) - 1.0) / 2.0))


def test_whatever_the_objective_the_grid_is_never_beaten_by_the_answer() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        noise: dict[tuple[float, int], float] = {}

        def objective(tau: float, k: int, noise: dict[tuple[float, int], float] = noise) -> float:
            return noise.setdefault((tau, k), float(rng.normal()))

        found = search(objective, (1, 2), width=0.02)
        assert found.value == min(noise.values())
        assert set(first_round((1, 2))) <= set(noise)
    found = search(bumpy, (1, 2, 3))
    assert (found.tau, found.k) == (0.25, 2)
    assert found.value == bumpy(0.25, 2)


def test_a_smooth_objective_is_solved_as_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        at, steep = rng.uniform(-0.2, 1.2, 4), rng.uniform(0.5, 5.0, 4)

        def objective(tau: float, k: int, at: np.ndarray = at, steep: np.ndarray = steep) -> float:
            return float(steep[k] * (tau - at[k]) ** 2 - 0.2 * k)

        found = search(objective, (1, 2, 3), width=1e-3)
        fine = min(objective(tau, k) for k in (1, 2, 3) for tau in np.linspace(0.0, 1.0, 2001))
        assert abs(found.value - fine) < 5e-6


def test_at_the_ends_of_tau_there_is_one_cell() -> None:
    for slope, end in ((1.0, 0.0), (-1.0, 1.0)):
        found = search(lambda tau, k, slope=slope: slope * tau + k, (1,), width=0.01)
        assert found.tau == end
        inside = [tau for tau, _ in found.values if tau not in TAUS]
        assert inside
        assert all(abs(tau - end) < 0.25 for tau in inside)


def test_where_tau_does_not_matter_nothing_is_refined() -> None:
    found = search(lambda tau, k: float(k), (3, 2), width=1e-3)  # noqa: ARG005
    assert list(found.values) == first_round((3, 2))
    assert (found.tau, found.k) == (0.0, 2)  # the first of equals


def test_rounds_depend_on_nothing_but_the_values_at_hand() -> None:
    whole = search(bowls, (1, 5, 9), width=0.02).values
    for kept in range(15, len(whole), 4):
        values = dict(list(whole.items())[:kept])
        while points := next_round(values, width=0.02):
            values |= {point: bowls(*point) for point in points}
        assert best_point(values) == best_point(whole)
        shuffled = dict(sorted(values.items(), key=lambda item: hash(item[0])))
        assert next_round(shuffled, width=0.005) == sorted(
            next_round(values, width=0.005), key=lambda p: list(dict.fromkeys(k for _, k in shuffled)).index(p[1])
        )


def test_only_the_best_k_are_refined() -> None:
    refined = {k: sum(tau not in TAUS for tau, at in search(bowls, (1, 5, 9)).values if at == k) for k in (1, 5, 9)}
    assert min(refined.values()) > 0
    found = search(bowls, (1, 5, 9), num_ks=2)  # k = 1 and k = 9 are equal on the grid: the first
    counts = {k: sum(tau not in TAUS for tau, at in found.values if at == k) for k in (1, 5, 9)}
    assert counts == {1: refined[1], 5: refined[5], 9: 0}
    assert len(search(bowls, (1, 5, 9), width=1.0).values) == 15


def test_a_k_with_a_single_tau_is_a_point_like_any_other() -> None:
    values = {point: bowls(*point) for point in first_round((1, 5))} | {(0.5, 9): -9.0}
    assert {k for _, k in next_round(values, width=0.1)} == {1, 5}
    assert [k for _, k in next_round(values, width=0.1, num_ks=1)] == [5]  # it takes no other's place either
    assert best_point(values) == (0.5, 9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: search(bowls, ()), r"search for k: \[\] to choose from"),
        (lambda: search(bowls, (0, 5)), r"search for k: \[0, 5\] to choose from"),
        (lambda: search(bowls, (5,), taus=()), r"search for tau: \[\] to choose from"),
        (lambda: search(bowls, (5,), taus=(0.5, 1.2)), "they must lie in 0"),
        (lambda: search(bowls, (5,), taus=(0.5, math.nan)), "they must lie in 0"),
        (lambda: search(bowls, (5,), width=0.0), r"width 0\.0 must be positive"),
        (lambda: search(bowls, (5,), width=math.nan), r"width nan must be positive"),
        (lambda: search(bowls, (5,), num_ks=0), "num_ks 0 must be 1 or more"),
        (lambda: search(lambda tau, k: math.nan, (5,)), r"F is nan at tau=0\.0, k=5"),  # noqa: ARG005
    ],
)
def test_what_cannot_be_searched_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
