"""Worst cases over Wasserstein balls: the closed forms are the programs, and the programs bound what they claim to.

Axes: S samples, d coordinates, h hours.
"""

from __future__ import annotations

from typing import Any

import cvxpy
import numpy as np
import pytest

from prosumer_gym.baselines.wasserstein import cvar, support_of, worst_case_cvar
from prosumer_gym.baselines.wasserstein_reference import (
    Ball,
    Polytope,
    chance_rows,
    separable_cost,
    worst_case_expectation,
)
from prosumer_gym.baselines.wasserstein_reference import worst_case_cvar as worst_case_cvar_program
from prosumer_gym.errors import UsageError

cp: Any = cvxpy

NORMS = (1, 2, np.inf)
RADII = (0.0, 0.003, 0.01, 0.03, 0.1, 0.5)
NO_RADII = (0.0, 1e-7)  # none, where the rows are simpler, and next to none
LEVELS = (0.02, 0.13, 0.5)


def samples(seed: int = 0, num: int = 12, dims: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Skewed samples of unequal weights."""
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 0.1, (num, dims)) - 0.2, rng.dirichlet(np.full(num, 2.0))


def boxed(radius: float, norm: float = 1, seed: int = 0, dims: int = 3) -> Ball:
    xi, weights = samples(seed, dims=dims)
    return Ball(xi, weights, radius, Polytope.box(*support_of(xi)), norm)


def unbounded(radius: float, norm: float) -> Ball:
    xi, weights = samples()
    return Ball(xi, weights, radius, Polytope.box(np.full(3, -np.inf), np.full(3, np.inf)), norm)


def least(objective: Any, rows: list[Any]) -> float:
    problem = cp.Problem(cp.Minimize(objective), rows)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert problem.status == "optimal"
    return float(problem.value)


def expectation(ball: Ball, slopes: list[np.ndarray], offsets: list[float]) -> float:
    return least(*worst_case_expectation(ball, slopes, offsets))


def tightest(ball: Ball, slope: np.ndarray, level: float) -> float:
    """The smallest x for which the chance rows keep slope' xi - x at most 0."""
    x = cp.Variable()
    return least(x, chance_rows(ball, slope, -x, level))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("radius", NO_RADII)
def test_without_radius_the_worst_expectation_is_that_of_the_samples(radius: float, norm: float) -> None:
    ball, v, u = boxed(radius, norm), np.array([1.0, -2.0, 0.5]), np.array([-1.0, 0.3, 1.0])
    empirical = ball.weights @ np.maximum(ball.samples @ v, ball.samples @ u + 0.1)
    assert expectation(ball, [v, u], [0.0, 0.1]) == pytest.approx(empirical, abs=2e-6)


@pytest.mark.parametrize(("norm", "dual"), [(1, np.inf), (2, 2), (np.inf, 1)])
@pytest.mark.parametrize("radius", [0.01, 0.4])
def test_without_a_support_the_worst_mean_grows_by_the_radius_times_the_dual_norm(
    norm: float, dual: float, radius: float
) -> None:
    ball, v = unbounded(radius, norm), np.array([1.0, -2.0, 0.5])
    mean = ball.weights @ ball.samples @ v
    assert expectation(ball, [v], [0.0]) == pytest.approx(mean + radius * np.linalg.norm(v, dual), abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_worst_expectation_grows_with_the_radius_to_the_largest_value_on_the_support(norm: float) -> None:
    v = np.array([1.0, -2.0, 0.5])
    low, high = support_of(samples()[0])
    largest = float(np.where(v > 0, v * high, v * low).sum())
    found = [expectation(boxed(radius, norm), [v], [0.0]) for radius in (*RADII, 5.0)]
    assert np.all(np.diff(found) > -1e-7)
    assert found[1] > found[0] + 1e-4
    assert found[-1] == pytest.approx(largest, abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_distribution_inside_the_ball_is_worse_than_the_bound(norm: float) -> None:
    """Samples carried at random to places on the support, scaled to the radius; the CVaR and a mean of two pieces."""
    rng, radius, level = np.random.default_rng(1), 0.08, 0.2
    ball, v, u = boxed(radius, norm), np.array([1.0, -2.0, 0.5]), np.array([-1.0, 0.3, 1.0])
    low, high = support_of(ball.samples)
    mean_bound = expectation(ball, [v, u], [0.0, 0.1])
    cvar_bound = least(*worst_case_cvar_program(ball, v, 0.0, level))
    means, tails = [], []
    for _ in range(400):
        move = rng.uniform(low, high, ball.samples.shape) - ball.samples
        move *= rng.random((len(move), 1)) < rng.uniform(0.05, 1.0)
        if rng.random() < 0.5:  # the direction that hurts
            move = np.where(v > 0, high, low) - ball.samples
            move *= rng.random((len(move), 1)) < 0.3
        distance = ball.weights @ np.linalg.norm(move, norm, axis=1)
        carried = ball.samples + move * min(1.0, radius / max(distance, 1e-12))
        means.append(ball.weights @ np.maximum(carried @ v, carried @ u + 0.1))
        tails.append(float(cvar(carried @ v, ball.weights, level)))
    assert max(means) <= mean_bound + 1e-7
    assert max(tails) <= cvar_bound + 1e-7
    assert max(tails) > tightest(boxed(0.0, norm), v, level) + 1e-3  # some of them do hurt


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("radius", NO_RADII)
def test_without_radius_the_chance_rows_ask_for_the_cvar_of_the_samples(
    radius: float, norm: float, level: float
) -> None:
    ball, v = boxed(radius, norm), np.array([1.0, -2.0, 0.5])
    losses = ball.samples @ v
    t = np.concatenate([losses, [losses.min() - 1]])  # the minimum over t lies at a sample
    by_definition = min(x + ball.weights @ np.maximum(losses - x, 0) / level for x in t)
    assert float(cvar(losses, ball.weights, level)) == pytest.approx(by_definition, abs=1e-12)
    assert tightest(ball, v, level) == pytest.approx(by_definition, abs=1e-6 + radius * 3.5 / level)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("radius", RADII)
def test_the_closed_form_is_the_program_whatever_the_norm(radius: float, level: float, norm: float) -> None:
    ball = boxed(radius, norm)
    high = support_of(ball.samples)[1]
    kappa = worst_case_cvar(ball.samples, ball.weights, high, radius=radius, level=level)
    scale = 0.7
    assert tightest(ball, np.array([0.0, scale, 0.0]), level) == pytest.approx(scale * kappa[1], abs=1e-6)


@pytest.mark.parametrize("radius", RADII)
def test_a_surplus_is_the_mirror_image(radius: float) -> None:
    ball, level = boxed(radius), 0.13
    low = support_of(ball.samples)[0]
    kappa = worst_case_cvar(-ball.samples, ball.weights, -low, radius=radius, level=level)
    assert tightest(ball, np.array([-1.0, 0.0, 0.0]), level) == pytest.approx(kappa[0], abs=1e-6)


def test_kappa_does_not_fall_with_the_radius_nor_rise_with_the_level_and_ends_at_the_bound() -> None:
    xi, weights = samples()
    high = support_of(xi)[1]
    found = np.array([
        [worst_case_cvar(xi, weights, high, radius=radius, level=level) for level in LEVELS]
        for radius in (*RADII, 10.0)
    ])  # fmt: skip
    assert np.all(np.diff(found, axis=0) >= -1e-12)
    assert np.all(np.diff(found, axis=1) <= 1e-12)
    assert np.all(found <= high + 1e-12)
    np.testing.assert_allclose(found[-1], np.broadcast_to(high, found[-1].shape), atol=1e-12)
    np.testing.assert_allclose(found[0, 0], xi.max(axis=0), atol=1e-12)  # less mass than the largest sample has


def test_kappa_of_an_unbounded_deviation_grows_by_the_radius_over_the_level() -> None:
    xi, weights = samples()
    kappa = worst_case_cvar(xi, weights, np.full(3, np.inf), radius=0.02, level=0.13)
    np.testing.assert_allclose(kappa, cvar(xi, weights, 0.13) + 0.02 / 0.13)


def test_the_last_sample_of_the_tail_counts_in_part() -> None:
    xi, weights = np.array([1.0, 4.0, 2.0, 3.0]), np.full(4, 0.25)
    assert float(cvar(xi, weights, 0.375)) == pytest.approx((0.25 * 4 + 0.125 * 3) / 0.375)
    high = np.float64(5.0)  # room of the tail: 0.25 * 1 + 0.125 * 2 = 0.5
    assert float(worst_case_cvar(xi, weights, high, radius=0.1, level=0.375)) == pytest.approx((1.375 + 0.1) / 0.375)
    assert float(worst_case_cvar(xi, weights, high, radius=0.7, level=0.375)) == pytest.approx(5.0)


def test_the_rows_as_printed_do_not_bound_the_cvar() -> None:
    """With s in place of eps s in the third row the program finds a "CVaR" below that of the samples themselves."""
    ball, level = boxed(0.0), 0.13
    losses = ball.samples[:, 0]
    x, t, s = cp.Variable(), cp.Variable(), cp.Variable(len(losses))
    printed = [ball.weights @ s <= 0, t <= s, losses - x + (level - 1) * t <= s]
    assert least(x, printed) < float(cvar(losses, ball.weights, level)) - 0.02
    corrected = [ball.weights @ s <= 0, t <= s, losses - x + (level - 1) * t <= level * s]
    assert least(x, corrected) == pytest.approx(float(cvar(losses, ball.weights, level)), abs=1e-6)


@pytest.mark.parametrize("radius", [0.0, 0.01, 0.2])
def test_the_separable_cost_is_the_largest_over_all_ways_to_carry_the_samples(radius: float) -> None:
    """The primal: each sample's mass may go to any corner of a fine grid, which holds the corners of the cost."""
    rng = np.random.default_rng(2)
    ball, q = boxed(radius, dims=2), np.array([3.0, 1.5])
    low, high = support_of(ball.samples)
    sell = rng.uniform(-2.0, 4.0, ball.samples.shape)
    buy = sell + rng.uniform(0.5, 5.0, sell.shape)
    found = least(*separable_cost(ball, low, high, q, buy, sell))
    value, weight, distance, num = [], [], [], len(ball.samples)
    for i in range(num):
        axes = [np.array([low[j], ball.samples[i, j], 0.0, high[j]]) for j in range(2)]
        places = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
        value.append(np.maximum(buy[i] * q * places, sell[i] * q * places).sum(axis=1))
        distance.append(np.abs(places - ball.samples[i]).sum(axis=1))
    carried = cp.Variable((num, len(value[0])), nonneg=True)
    weight = [cp.sum(carried, axis=1) == ball.weights, cp.sum(cp.multiply(carried, np.array(distance))) <= radius]
    primal = -least(-cp.sum(cp.multiply(carried, np.array(value))), weight)
    assert found == pytest.approx(primal, abs=1e-6)


@pytest.mark.parametrize(("radius", "level"), [(-1e-9, 0.05), (np.nan, 0.05), (np.inf, 0.05)])
def test_a_radius_is_a_number_of_at_least_zero(radius: float, level: float) -> None:
    xi, weights = samples()
    with pytest.raises(UsageError, match="radius"):
        worst_case_cvar(xi, weights, xi.max(axis=0), radius=radius, level=level)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 5.0, np.nan])
def test_a_level_lies_between_zero_and_one(level: float) -> None:
    xi, weights = samples()
    with pytest.raises(UsageError, match="between 0 and 1"):
        worst_case_cvar(xi, weights, xi.max(axis=0), radius=0.0, level=level)


def test_samples_beyond_the_support_are_an_error() -> None:
    xi, weights = samples()
    with pytest.raises(UsageError, match="samples lie beyond"):
        worst_case_cvar(xi, weights, xi.max(axis=0) - 0.01, radius=0.0, level=0.1)
