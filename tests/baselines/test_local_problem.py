"""A prosumer's own problem is its part of the core problem, and knows nothing of the others.

Axis letters: deg neighbours, N prosumers, E edges, S scenarios, H hours of a day, h remaining hours.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import cvxpy
import numpy as np
import pytest
from core_cases import random_case, random_community

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines import local_problem as module
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, DayStart, Scenarios, evaluate, solve_core
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.local_problem import LocalProblem
from prosumer_gym.baselines.trades import own_side
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.errors import UsageError

RHO = 0.5
CASES = [
    # seed, N, H, S, start hour (None: day-ahead), negative prices, |backlog| costs
    (0, 3, 6, 1, None, False, 0.0),
    (1, 4, 6, 4, None, False, 0.3),
    (2, 6, 24, 3, None, True, 0.0),
    (3, 4, 6, 4, 2, False, 0.0),
    (4, 4, 8, 5, 3, True, 0.3),
    (5, 5, 6, 7, 0, True, 0.0),
    (6, 4, 6, 3, 5, True, 0.0),
]

Problem = tuple[Community, DayStart, Scenarios]


def problem(
    seed: int, num: int = 4, hours: int = 6, scenarios: int = 4, start: int | None = None, negative: bool = False,
    discomfort: float = 0.0,
) -> Problem:  # fmt: skip
    rng = np.random.default_rng(seed)
    community = random_community(rng, num=num, hours=hours, discomfort_linear=discomfort)
    return community, *random_case(rng, community, scenarios, start_hour=start, negative=negative, own_weights=True)


def question(seed: int, local: LocalProblem, spread: float = 3.0) -> tuple[FloatArray, FloatArray]:
    """Prices and targets [h,deg]."""
    rng, shape = np.random.default_rng(seed), (local.mean_pv_kw.size, local.neighbours.size)
    return rng.normal(0, spread, shape), rng.uniform(-3, 3, shape)


def by_cvxpy(case: Problem, prosumer: int, price: FloatArray, target: FloatArray) -> tuple[float, FloatArray]:
    """The problem straight from its equations, rho/2 (b - a - zh)^2 included."""
    local = LocalProblem(*case, prosumer, rho=RHO)
    start, scenarios = module._own_start(case[1], prosumer), module._own_scenarios(case[2], prosumer)
    model = reference_problem(
        local.community, start, scenarios, regulariser=REGULARISER_CT_PER_KW2, trades=own_side(case[0], prosumer)[0]
    )
    apart = model.trade_kw - target
    cost = model.problem.objective.expr + cvxpy.sum(cvxpy.multiply(price, apart)) + RHO / 2 * cvxpy.sum_squares(apart)
    whole = cvxpy.Problem(cvxpy.Minimize(cost), model.problem.constraints)
    whole.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    assert whole.status == "optimal"
    return float(whole.value), np.asarray(model.trade_kw.value)


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_model(case: tuple) -> None:  # type: ignore[type-arg]
    stage = problem(*case)
    for prosumer in (0, 1):
        local = LocalProblem(*stage, prosumer, rho=RHO)
        for seed in range(3):  # the later ones start warm
            price, target = question(seed, local)
            found = local.solve(price, target)
            value, trade_kw = by_cvxpy(stage, prosumer, price, target)
            assert found.objective_ct == pytest.approx(value, rel=1e-6)
            assert found.lower_bound_ct == pytest.approx(value, rel=1e-6)
            np.testing.assert_allclose(found.estimate_kw, trade_kw, atol=2e-4)
        assert local.fallbacks == []


def test_a_solve_does_not_depend_on_the_solves_before() -> None:
    stage = problem(1)
    used = LocalProblem(*stage, 0, rho=RHO)
    for seed in range(5):
        price, target = question(seed, used, spread=10.0**-seed)
        found, fresh = used.solve(price, target), LocalProblem(*stage, 0, rho=RHO).solve(price, target)
        np.testing.assert_allclose(found.estimate_kw, fresh.estimate_kw, atol=2e-5)
        assert found.objective_ct == pytest.approx(fresh.objective_ct, rel=1e-8)


def test_of_the_others_nothing_is_read() -> None:
    """Nor are they asked when they may sell: a prosumer may hope to buy at any hour."""
    community, start, scenarios = problem(2, num=5)
    mine = np.arange(5) == 1
    rng = np.random.default_rng(0)
    other_fleet = random_community(rng, num=5).fleet
    fleet = replace(
        community.fleet,
        **{
            name: np.where(mine, values, getattr(other_fleet, name))
            for name, values in vars(community.fleet).items()
            if not name.startswith("_")
        },
    )
    graph = community.graph
    touches = (graph.first == 1) | (graph.second == 1)
    other_graph = replace(
        graph, limit_kw=np.where(touches, graph.limit_kw, 99.0),
        fee_ct_per_kwh=np.where(touches, graph.fee_ct_per_kwh, 7.0)
    )  # fmt: skip
    changed = community.replace(fleet=fleet, graph=other_graph)
    elsewhere = replace(
        scenarios,
        load_kw=np.where(mine, scenarios.load_kw, rng.uniform(0, 50, scenarios.load_kw.shape)),
        pv_kw=np.where(mine, scenarios.pv_kw, rng.uniform(0, 50, scenarios.pv_kw.shape)),
        weights=np.where(mine[:, None], scenarios.weights_by_prosumer, np.full((5, 4), 0.25)),
    )
    begin = replace(
        start, soc_kwh=np.where(mine, start.soc_kwh, 30.0), connection_peak_kw=np.where(mine, 0.0, 9.0),
        shiftable_ref_kw=np.where(mine, start.shiftable_ref_kw, 1.0),
    )  # fmt: skip
    here = LocalProblem(community, start, scenarios, 1, rho=RHO)
    there = LocalProblem(changed, begin, elsewhere, 1, rho=RHO)
    price, target = question(0, here)
    np.testing.assert_array_equal(here.solve(price, target).estimate_kw, there.solve(price, target).estimate_kw)
    np.testing.assert_array_equal(here.neighbours, there.neighbours)


@pytest.mark.parametrize("start_hour", [None, 2])
def test_plans_with_given_trades_add_up_to_the_core_problem(start_hour: int | None) -> None:
    """With the central optimum's trades each prosumer's plan is its part of the central optimum."""
    community, start, scenarios = problem(3, start=start_hour)
    central = solve_core(community, start, scenarios, tolerance=1e-9)
    total = 0.0
    for prosumer in range(4):
        local = LocalProblem(community, start, scenarios, prosumer, rho=RHO)
        sign = np.where(community.graph.first[local.edges] == prosumer, 1.0, -1.0)
        plan = local.plan(sign * central.trade_kw[:, local.edges]).plan
        np.testing.assert_allclose(plan.battery_kw[:, 0], central.battery_kw[:, prosumer], atol=0.05)
        np.testing.assert_array_equal(plan.trade_kw, sign * central.trade_kw[:, local.edges])
        total += plan.objective_ct
    assert total == pytest.approx(central.objective_ct, rel=1e-6)
    assert np.max(np.abs(central.trade_kw)) > 1.0


@pytest.mark.parametrize("start_hour", [None, 2])
def test_what_everybody_pays_at_least_bounds_what_all_pay(start_hour: int | None) -> None:
    community, start, scenarios = problem(4, start=start_hour)
    best = solve_core(community, start, scenarios, tolerance=1e-9).objective_ct
    locals_ = [LocalProblem(community, start, scenarios, n, rho=RHO) for n in range(4)]
    for spread in (0.0, 1.0, 5.0):
        price = np.random.default_rng(0).normal(0, spread, (len(locals_[0].mean_pv_kw), community.num_edges))
        assert sum(local.least_cost(price[:, local.edges]) for local in locals_) <= best + 1e-6 * abs(best)


def test_a_prosumer_without_neighbours_and_closed_edges() -> None:
    community, start, scenarios = problem(5)
    alone = community.replace(graph=TradeGraph.ring_with_chords(1))
    closed = community.replace(graph=replace(community.graph, limit_kw=np.zeros(community.num_edges)))
    by_itself = sum(
        LocalProblem(alone, start, scenarios, n, rho=RHO).solve(np.zeros((6, 0)), np.zeros((6, 0))).objective_ct
        for n in range(4)
    )
    assert by_itself == pytest.approx(solve_core(alone, start, scenarios).objective_ct, rel=1e-7)
    local = LocalProblem(closed, start, scenarios, 0, rho=RHO)
    price, target = question(0, local)
    assert np.all(local.solve(price, target).estimate_kw == 0.0)
    nothing = np.zeros(price.shape)
    assert local.solve(nothing, nothing).objective_ct == pytest.approx(local.plan(nothing).plan.objective_ct, rel=1e-7)


def test_a_plan_s_cost_is_what_it_costs() -> None:
    community, start, scenarios = problem(6)
    local = LocalProblem(community, start, scenarios, 0, rho=RHO)
    plan = local.plan(np.full((6, local.neighbours.size), 2.0)).plan
    own = module._own_start(start, 0), module._own_scenarios(scenarios, 0)
    # The trades brought 2 kW of each neighbour: as much again of position would have, at no price.
    there = replace(plan, position_kw=plan.position_kw + 2.0 * local.neighbours.size, trade_kw=np.zeros((6, 0)))
    prices = community.tariff.settlement_prices(start.price_da_ct_per_kwh, scenarios.price_rt_ct_per_kwh)
    moved = np.sum(
        community.dt_h
        * (
            prices.da_buy * (np.maximum(plan.position_kw, 0) - np.maximum(there.position_kw, 0))
            + prices.da_sell * (np.minimum(plan.position_kw, 0) - np.minimum(there.position_kw, 0))
        )
    )
    fee = community.dt_h * 6 * 2.0 * 0.5 * community.graph.fee_ct_per_kwh[local.edges].sum()
    regularised = 0.5 * REGULARISER_CT_PER_KW2 * (np.sum(plan.position_kw**2) + np.sum(plan.trade_kw**2))
    cost = evaluate(there, local.community, *own).total_ct + moved + fee + regularised
    assert plan.objective_ct == pytest.approx(cost, rel=1e-6)


def test_a_solver_that_stops_short_is_replaced_and_named(caplog: pytest.LogCaptureFixture) -> None:
    stage = problem(7)
    local, short = (LocalProblem(*stage, 0, rho=RHO) for _ in range(2))
    short._program.max_iterations = 2
    price, target = question(0, local)
    with caplog.at_level(logging.WARNING):
        found = short.solve(price, target)
    assert found.objective_ct == pytest.approx(local.solve(price, target).objective_ct, rel=1e-7)
    assert len(short.fallbacks) == 1
    assert "prosumer 0: interior point: not solved within tolerance" in caplog.text


def test_inputs_that_do_not_fit_are_named() -> None:
    community, start, scenarios = problem(8)
    with pytest.raises(UsageError, match="rho is -1"):
        LocalProblem(community, start, scenarios, 0, rho=-1.0)
    with pytest.raises(UsageError, match="'mid-market-rate'"):
        LocalProblem(community.replace(mechanism="mid-market-rate"), start, scenarios, 0, rho=RHO)
