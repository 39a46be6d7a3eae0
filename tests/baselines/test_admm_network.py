"""Prosumers and the operator of the feeder agree on the plan that knows all of them and the voltages.

Axis letters: N prosumers, K buses, S scenarios, h remaining hours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_cases import random_case, random_community
from network_cases import penalty, strained

from prosumer_gym.baselines.admm import AdmmResult, consensus_admm
from prosumer_gym.baselines.admm_network import Operator
from prosumer_gym.baselines.core_matrices import EXCESS_PER_PU, build_core
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, DayStart, Scenarios, solve_core, solve_matrices
from prosumer_gym.baselines.local_problem import LocalProblem
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.community import Community

Problem = tuple[Community, DayStart, Scenarios, NetworkPenalty]

RHO = 5.0
"""Prices of such voltages are ten times those of a usual feeder."""

CASES = [
    # seed, N, H, S, start hour (None: day-ahead), negative prices
    (0, 3, 6, 3, None, False),
    (1, 3, 6, 3, None, True),
    (2, 4, 6, 4, None, True),
    (3, 1, 4, 3, None, True),
    (4, 3, 6, 1, 0, True),
    (5, 3, 6, 4, 0, False),
    (6, 3, 6, 4, 2, True),
    (10, 3, 6, 3, 3, False),
    (8, 2, 4, 4, 3, True),
]


def problem(
    seed: int, num: int, hours: int, scenarios: int, start: int | None, negative: bool, price: float = 2e4
) -> Problem:
    """A feeder so weak that voltages are too low in some hours and too high in others; weights of everybody's own."""
    rng = np.random.default_rng(seed)
    community = strained(random_community(rng, num=num, hours=hours, edges=num > 1))
    day, future = random_case(rng, community, scenarios, start_hour=start, negative=negative, own_weights=True)
    future = replace(future, pv_kw=3.0 * future.pv_kw)
    return community, day, future, penalty(community, hours - (start or 0), price=price)


def agreed(case: Problem, **options: object) -> AdmmResult:
    community, start, scenarios, network = case
    return consensus_admm(community, start, scenarios, network=network, **options)  # type: ignore[arg-type]


def central_cost(case: Problem) -> float:
    community, start, scenarios, network = case
    return solve_core(community, start, scenarios, network=network, tolerance=1e-9).objective_ct


@pytest.mark.parametrize("arguments", CASES)
def test_they_find_the_central_optimum(arguments: tuple) -> None:  # type: ignore[type-arg]
    case = problem(*arguments)
    found, best = agreed(case, rho=RHO, tolerance=1e-3), central_cost(case)
    assert found.converged
    assert found.plan.objective_ct == pytest.approx(best, rel=1e-4, abs=0.01)
    assert found.plan.lower_bound_ct == pytest.approx(best, rel=1e-4, abs=0.01)
    slack = 1e-6 * (1.0 + abs(best))
    assert found.plan.lower_bound_ct - slack <= best <= found.plan.objective_ct + slack
    assert found.plan.fallbacks == ()
    knows_nothing = solve_core(*case[:3]).objective_ct
    assert best > knows_nothing + 1.0  # voltages matter


def test_at_the_cap_the_plan_costs_what_it_says() -> None:
    """However far the rounds have come: bounds on both sides, and the excess is that of the plan's own loads."""
    case = community, _, scenarios, network = problem(5, 3, 6, 3, None, False)
    best = central_cost(case)
    for rounds in (1, 5, 60):
        found = agreed(case, rho=RHO, max_iterations=rounds)
        plan = found.plan
        assert not found.converged
        assert plan.lower_bound_ct < best < plan.objective_ct
        consumption = scenarios.mean_load_kw + plan.shiftable_kw
        drawn = consumption - scenarios.mean_pv_kw + plan.battery_kw
        # At the day-ahead stage nothing is curtailed; charging and discharging at once does not pay here.
        excess = network.excess_pu(drawn, consumption).sum() * community.dt_h
        assert plan.voltage_excess_pu_h == pytest.approx(excess, rel=1e-4)


@pytest.mark.parametrize("arguments", [CASES[0], CASES[6]])
def test_node_prices_are_the_multipliers_of_the_voltages(arguments: tuple) -> None:  # type: ignore[type-arg]
    case = community, start, scenarios, network = problem(*arguments)
    found = agreed(case, rho=RHO, tolerance=1e-4)
    matrices = build_core(community, start, scenarios, regulariser=REGULARISER_CT_PER_KW2, network=network)
    solution = solve_matrices(matrices, tolerance=1e-9)
    guarded = network.can_be_exceeded(community.fleet, scenarios.mean_load_kw, scenarios.mean_pv_kw)
    # The rows of the voltages are the last: side by side, and hour by hour.
    multipliers = np.zeros(guarded.shape)
    multipliers[guarded] = solution.z[-np.count_nonzero(guarded) :]
    expected = np.zeros(found.node_price_ct_per_kwh.shape)
    for side, w in zip(network.sides, multipliers, strict=True):
        expected[:, :, 0] += EXCESS_PER_PU * np.einsum("hk,hkn->hn", w, side.per_import)
        expected[:, :, 1] += EXCESS_PER_PU * np.einsum("hk,hkn->hn", w, side.per_consumption)
    assert np.max(np.abs(expected)) > 5.0
    np.testing.assert_allclose(
        community.dt_h * found.node_price_ct_per_kwh, expected, atol=0.02 * np.abs(expected).max()
    )


def test_an_hour_later_they_go_on_from_where_they_were() -> None:
    """Fewer rounds, and the same plan."""
    case = community, start, scenarios, network = problem(2, 3, 6, 3, 0, False)
    first = agreed(case, rho=RHO, tolerance=1e-3)
    assert first.state.drawn_kw is not None
    assert first.state.drawn_kw.shape == (6, 3, 2)
    load, pv, price = (
        np.array(values[:, 1:]) for values in (scenarios.load_kw, scenarios.pv_kw, scenarios.price_rt_ct_per_kwh)
    )
    for values in (load, pv, price):
        values[:, 0] = values[0, 0]
    soc = start.soc_kwh + community.dt_h * (
        community.fleet.charge_efficiency * np.maximum(first.plan.battery_kw[0], 0)
        + np.minimum(first.plan.battery_kw[0], 0) / community.fleet.discharge_efficiency
    )
    backlog = start.backlog_kwh + community.dt_h * (first.plan.shiftable_kw[0] - start.shiftable_ref_kw[0])
    later = (
        community,
        replace(start, start_hour=1, soc_kwh=soc, backlog_kwh=backlog),
        Scenarios(load, pv, price, scenarios.weights),
        network.hours(1, 6),
    )
    warm = agreed(later, rho=RHO, tolerance=1e-3, warm=first.state.later())
    cold = agreed(later, rho=RHO, tolerance=1e-3)
    assert warm.converged
    assert warm.iterations < cold.iterations
    assert warm.plan.objective_ct == pytest.approx(central_cost(later), rel=1e-4)
    # Who knew no operator before begins at rest with it.
    new = replace(first.state, drawn_kw=None, node_price_ct_per_kw=None).later()
    assert agreed(later, rho=RHO, tolerance=1e-3, warm=new).plan.objective_ct == pytest.approx(
        warm.plan.objective_ct, rel=1e-4
    )


def test_a_feeder_that_is_never_near_its_limits_costs_nothing() -> None:
    """Nobody is watched: the rounds are those without a network."""
    rng = np.random.default_rng(0)
    community = random_community(rng, num=3)
    start, scenarios = random_case(rng, community, 3)
    network = NetworkPenalty.lindistflow(community, np.full(6, 0.1), price_ct_per_pu_h=2e4, margin_pu=0.002)
    with_it, without = (consensus_admm(community, start, scenarios, network=n) for n in (network, None))
    np.testing.assert_array_equal(with_it.residuals.combined, without.residuals.combined)
    np.testing.assert_array_equal(with_it.plan.battery_kw, without.plan.battery_kw)
    assert not with_it.node_price_ct_per_kwh.any()
    free = replace(network, price_ct_per_pu_h=0.0)
    assert consensus_admm(community, start, scenarios, network=free).iterations == without.iterations


def test_who_decides_nothing_is_not_asked_to() -> None:
    """Without battery and shiftable load what a prosumer draws is what it is; the operator knows."""
    community, start, scenarios, network = problem(1, 3, 6, 3, None, False)
    some = np.array([True, False, True])
    fleet = replace(
        community.fleet, battery_power_kw=np.where(some, community.fleet.battery_power_kw, 0.0),
        shiftable_power_kw=np.where(some, community.fleet.shiftable_power_kw, 0.0),
    )  # fmt: skip
    start = replace(start, shiftable_ref_kw=np.where(some, start.shiftable_ref_kw, 0.0))
    case = (community.replace(fleet=fleet), start, scenarios, network)
    watch = Operator(case[0], scenarios, network, rho=RHO).watch
    for n in range(3):
        local = LocalProblem(*case[:3], n, rho=RHO, watch=watch)
        assert local.is_fixed[watch.hours].all() == (not some[n])
    found = agreed(case, rho=RHO, tolerance=1e-3)
    assert found.converged
    assert found.plan.objective_ct == pytest.approx(central_cost(case), rel=1e-4)
