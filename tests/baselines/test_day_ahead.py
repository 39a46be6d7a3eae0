"""The core problem: the fast form is the model, its optimum is an optimum, and it behaves as economics says.

Axes: N prosumers, E edges, H hours of a day, S scenarios, h remaining hours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cvxpy
import numpy as np
import pytest
from core_cases import FORMS, POOLS, random_case, random_community

from prosumer_gym.baselines.core_matrices import build_core
from prosumer_gym.baselines.day_ahead import (
    REGULARISER_CT_PER_KW2,
    DayStart,
    Plan,
    Scenarios,
    evaluate,
    solve_core,
    solve_matrices,
)
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.trades import bought_kw
from prosumer_gym.community import Community, Tariff, TradeGraph
from prosumer_gym.errors import UsageError

CASES = [
    # seed, N, H, S, start hour (None: day-ahead), edges, negative prices, each prosumer's own weights, |backlog| costs
    (0, 3, 6, 1, None, True, False, False, 0.0),
    (1, 3, 6, 3, None, True, True, True, 0.0),
    (2, 4, 8, 7, None, True, False, True, 0.3),
    (3, 1, 4, 7, None, False, True, False, 0.0),
    (4, 2, 24, 3, None, True, False, False, 0.0),
    (5, 3, 6, 1, 0, True, True, False, 0.0),
    (6, 3, 6, 3, 0, True, False, True, 0.3),
    (7, 4, 8, 7, 0, True, True, True, 0.0),
    (8, 3, 6, 3, 3, True, True, False, 0.0),
    (9, 4, 6, 7, 2, True, True, True, 0.0),
    (10, 2, 4, 7, 3, True, True, False, 0.0),
    (11, 1, 8, 3, 4, False, True, False, 0.3),
    (12, 3, 6, 7, 5, True, True, True, 0.0),
    (13, 4, 6, 3, 1, False, True, False, 0.0),
    (14, 2, 24, 3, 11, True, True, False, 0.0),
]

Problem = tuple[Community, DayStart, Scenarios]


def problem(
    seed: int, num: int, hours: int, scenarios: int, start: int | None, edges: bool, negative: bool, own: bool,
    discomfort: float, mechanism: str = "bilateral",
) -> Problem:  # fmt: skip
    rng = np.random.default_rng(seed)
    community = random_community(
        rng, num=num, hours=hours, edges=edges, discomfort_linear=discomfort, mechanism=mechanism
    )
    return community, *random_case(rng, community, scenarios, start_hour=start, negative=negative, own_weights=own)


def simple(seed: int = 0, start_hour: int | None = None, scenarios: int = 4, **community: object) -> Problem:
    """Positive prices, three prosumers, six hours."""
    rng = np.random.default_rng(seed)
    stage = random_community(rng, **community)  # type: ignore[arg-type]
    return stage, *random_case(rng, stage, scenarios, start_hour=start_hour)


def uneven(community: Community, start: DayStart, scenarios: Scenarios) -> Problem:
    """Every second prosumer has twice the sun and the others none: there is something to trade."""
    sun = np.where(np.arange(community.num_prosumers) % 2 == 0, 2.0, 0.0)
    return community, start, replace(scenarios, pv_kw=sun * scenarios.pv_kw)


def regularised(plan: Plan, start: DayStart) -> float:
    """r/2 |position, purchases, sales|^2: an edge's trade is a purchase at one end and a sale at the other."""
    position = plan.position_kw if start.position_kw is None else np.zeros(1)
    num_ends = 2 if plan.market.offers == "edges" else 1
    return 0.5 * REGULARISER_CT_PER_KW2 * float(np.sum(position**2) + num_ends * np.sum(plan.trade_kw**2))


def solved_reference(community: Community, start: DayStart, scenarios: Scenarios, regulariser: float) -> Any:
    reference = reference_problem(community, start, scenarios, regulariser=regulariser)
    reference.problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    assert reference.problem.status == "optimal"
    return reference


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_fast_form_is_the_model(case: tuple, mechanism: str) -> None:  # type: ignore[type-arg]
    community, start, scenarios = problem(*case, mechanism)
    plan = solve_core(community, start, scenarios, tolerance=1e-9)
    reference = solved_reference(community, start, scenarios, REGULARISER_CT_PER_KW2)
    assert plan.solver == "piqp"
    assert plan.objective_ct == pytest.approx(reference.problem.value, rel=1e-8)
    assert plan.lower_bound_ct == pytest.approx(plan.objective_ct, rel=1e-8)


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_fast_form_has_the_model_s_plan(case: tuple, mechanism: str) -> None:  # type: ignore[type-arg]
    """With a minimum curved enough that solvers can tell plans apart to 1e-6 kW."""
    community, start, scenarios = problem(*case, mechanism)
    plan = solve_core(community, start, scenarios, regulariser=0.1, tolerance=1e-9)
    reference = solved_reference(community, start, scenarios, 0.1)
    for ours, theirs in (
        (plan.position_kw.T, reference.position_kw),
        (plan.battery_kw, reference.charge_kw - reference.discharge_kw),
        (plan.shiftable_kw, reference.shiftable_kw),
        (plan.trade_kw, reference.trade_kw),
    ):
        np.testing.assert_allclose(ours, theirs.value, atol=1e-6)


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_closed_form_cost_of_the_optimum_is_the_objective(case: tuple, mechanism: str) -> None:  # type: ignore[type-arg]
    community, start, scenarios = problem(*case, mechanism)
    plan = solve_core(community, start, scenarios, tolerance=1e-9)
    cost = evaluate(plan, community, start, scenarios)
    assert cost.total_ct + regularised(plan, start) == pytest.approx(plan.objective_ct, rel=1e-7)


@pytest.mark.parametrize("case", CASES[::3])
def test_matrices_are_solved_to_optimality(case: tuple) -> None:  # type: ignore[type-arg]
    """Karush-Kuhn-Tucker conditions of the fast form, dense and without the solver layer's own residuals."""
    m = build_core(*problem(*case), regulariser=REGULARISER_CT_PER_KW2)
    found = solve_matrices(m, tolerance=1e-9)
    P, A, G, x = m.P.toarray(), m.A.toarray(), m.G.toarray(), found.x
    slope = P @ x + m.c + A.T @ found.y + G.T @ found.z - found.z_lower + found.z_upper
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    np.testing.assert_allclose(A @ x, m.b, atol=1e-6)
    for multiplier, slack in ((found.z, m.h - G @ x), (found.z_lower, x - m.lb), (found.z_upper, m.ub - x)):
        finite = np.isfinite(slack)
        assert np.all(slack >= -1e-6)
        assert np.all(multiplier >= -1e-8)
        assert np.all(multiplier[~finite] == 0)
        np.testing.assert_allclose(multiplier[finite] * slack[finite], 0, atol=1e-4)


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("start_hour", [None, 2])
def test_no_other_plan_costs_less_in_sample(start_hour: int | None, mechanism: str) -> None:
    community, start, scenarios = simple(20, start_hour, scenarios=5, mechanism=mechanism)
    best = solve_core(community, start, scenarios, tolerance=1e-9)
    rng = np.random.default_rng(1)
    for _ in range(6):
        weights = rng.dirichlet(np.full(5, 0.3))
        other = solve_core(community, start, replace(scenarios, weights=weights))
        cost = evaluate(other, community, start, scenarios).total_ct + regularised(other, start)
        assert cost >= best.objective_ct * (1 - 1e-9)
        mixed = replace(
            best,
            **{
                name: 0.5 * (getattr(best, name) + getattr(other, name))
                for name in ("position_kw", "battery_kw", "shiftable_kw", "trade_kw")
            },
        )
        cost = evaluate(mixed, community, start, scenarios).total_ct + regularised(mixed, start)
        assert cost >= best.objective_ct * (1 - 1e-9)


def test_newsvendor_by_hand() -> None:
    """One prosumer, one slot of 24 h, net load 1 or 3 kW, 10 ct to buy ahead, 21 short, 3.5 for what is left: buy 3."""
    community, _, _ = simple(num=1, hours=1, edges=False)
    fleet = replace(
        community.fleet, battery_power_kw=np.zeros(1), shiftable_power_kw=np.zeros(1),
        soc_initial_kwh=community.fleet.soc_min_kwh,
    )  # fmt: skip
    community = community.replace(fleet=fleet, tariff=Tariff(demand_charge_ct_per_kw=20.0))
    start = DayStart(0, fleet.soc_min_kwh, np.zeros(1), np.zeros(1), np.zeros((1, 1)), np.array([10.0]))
    scenarios = Scenarios(
        np.array([[[1.0]], [[3.0]]]), np.zeros((2, 1, 1)), np.full((2, 1), 20.0), np.array([0.5, 0.5])
    )
    plan = solve_core(community, start, scenarios, regulariser=0.0)
    np.testing.assert_allclose(plan.position_kw, 3.0, atol=1e-6)
    # 24 h x (3 kW x 10 ct - half of the time 2 kW left x 3.5 ct), and 20 ct/kW on a peak of 1 or 3 kW
    assert plan.objective_ct == pytest.approx(24 * (30 - 0.5 * 2 * 3.5) + 20 * 2, rel=1e-8)
    cheap = solve_core(community, start, replace(scenarios, weights=np.array([0.7, 0.3])), regulariser=0.0)
    np.testing.assert_allclose(cheap.position_kw, 1.0, atol=1e-6)  # short with 0.3: 0.7 x 3.5 + 0.3 x 21 < 10


@pytest.mark.parametrize("start_hour", [None, 2])
def test_a_scenario_listed_twice_has_double_weight(start_hour: int | None) -> None:
    community, start, scenarios = simple(3, start_hour, scenarios=3)
    order = [0, 1, 1, 2]
    twice = Scenarios(
        scenarios.load_kw[order], scenarios.pv_kw[order], scenarios.price_rt_ct_per_kwh[order], np.full(4, 0.25)
    )
    once = solve_core(community, start, replace(scenarios, weights=np.array([0.25, 0.5, 0.25])), tolerance=1e-9)
    same = solve_core(community, start, twice, tolerance=1e-9)
    assert same.objective_ct == pytest.approx(once.objective_ct, rel=1e-8)
    np.testing.assert_allclose(same.position_kw, once.position_kw, atol=1e-4)
    np.testing.assert_allclose(same.battery_kw, once.battery_kw, atol=1e-4)


def test_shared_weights_are_everybodys_own_weights() -> None:
    community, start, scenarios = simple(4, scenarios=3)
    own = replace(scenarios, weights=np.tile(scenarios.weights, (3, 1)))
    assert solve_core(community, start, own).objective_ct == solve_core(community, start, scenarios).objective_ct


def test_scenarios_of_no_weight_do_not_matter() -> None:
    community, start, scenarios = simple(5, scenarios=5)
    weights = np.array([0.5, 0.0, 0.3, 0.0, 0.2])
    some = solve_core(community, start, replace(scenarios, weights=weights), tolerance=1e-9)
    kept = weights > 0
    few = Scenarios(
        scenarios.load_kw[kept], scenarios.pv_kw[kept], scenarios.price_rt_ct_per_kwh[kept], weights[kept]
    )  # fmt: skip
    assert some.objective_ct == pytest.approx(solve_core(community, start, few, tolerance=1e-9).objective_ct, rel=1e-9)
    sizes = [
        build_core(community, start, which, regulariser=0.0).c.size
        for which in (replace(scenarios, weights=weights), few)
    ]
    assert sizes[0] == sizes[1], "they cost no time either"


def test_when_only_prices_are_uncertain_the_mean_price_decides() -> None:
    """The cost is linear in the prices, so weighting scenarios and averaging them is the same."""
    community, start, scenarios = simple(6, scenarios=5)
    price = start.price_da_ct_per_kwh + np.random.default_rng(0).uniform(0, 8, (5, 6))  # the price rule is linear there
    scenarios = replace(
        scenarios, price_rt_ct_per_kwh=price,
        load_kw=np.tile(scenarios.load_kw[:1], (5, 1, 1)), pv_kw=np.tile(scenarios.pv_kw[:1], (5, 1, 1)),
    )  # fmt: skip
    mean = Scenarios(
        scenarios.load_kw[:1], scenarios.pv_kw[:1], (scenarios.weights @ price)[None], np.ones(1)
    )  # fmt: skip
    many = solve_core(community, start, scenarios, tolerance=1e-9)
    one = solve_core(community, start, mean, tolerance=1e-9)
    assert many.objective_ct == pytest.approx(one.objective_ct, rel=1e-9)
    np.testing.assert_allclose(many.position_kw, one.position_kw, atol=1e-4)
    np.testing.assert_allclose(many.battery_kw, one.battery_kw, atol=1e-4)


def _objective(community: Community, start: DayStart, scenarios: Scenarios) -> float:
    return solve_core(community, start, scenarios, regulariser=0.0, tolerance=1e-9).objective_ct


@pytest.mark.parametrize("mechanism", FORMS)
def test_trade_is_worth_nothing_when_the_grid_buys_at_its_selling_price(mechanism: str) -> None:
    tariff = Tariff(da_sell_ratio=1.0)
    community, start, scenarios = simple(7, scenarios=3, tariff=tariff, mechanism=mechanism)
    wide = replace(community.fleet, position_limit_kw=np.full(3, 1000.0))
    free = replace(community.graph, fee_ct_per_kwh=np.zeros(3))
    alone = community.replace(fleet=wide, graph=TradeGraph.ring_with_chords(1))
    assert _objective(community.replace(fleet=wide, graph=free), start, scenarios) == pytest.approx(
        _objective(alone, start, scenarios), rel=1e-9
    )
    # With the spread of the default tariff it is worth something, unless the fee eats it.
    spread = community.replace(fleet=wide, graph=free, tariff=Tariff())
    apart = _objective(alone.replace(tariff=Tariff()), start, scenarios)
    assert _objective(spread, start, scenarios) < apart - 1.0
    dear = replace(community.graph, fee_ct_per_kwh=np.full(3, 100.0))
    assert _objective(spread.replace(graph=dear), start, scenarios) == pytest.approx(apart, rel=1e-9)


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("start_hour", [None, 2])
def test_another_edge_never_raises_the_cost(start_hour: int | None, mechanism: str) -> None:
    """Nor does the wider limit of the orders in a pool, at the same fee."""
    community, start, scenarios = simple(8, start_hour, num=4, mechanism=mechanism)
    graph = replace(community.graph, fee_ct_per_kwh=np.full(community.num_edges, 0.3))
    costs: list[float] = []
    for count in range(len(graph) + 1):
        part = TradeGraph(*(getattr(graph, name)[:count] for name in ("first", "second", "limit_kw", "fee_ct_per_kwh")))
        costs.append(_objective(community.replace(graph=part), start, scenarios))
    assert np.all(np.diff(costs) <= 1e-6 * costs[0])
    assert costs[-1] < costs[0] - 0.1


@pytest.mark.parametrize("start_hour", [None, 2])
@pytest.mark.parametrize("seed", range(4))
def test_a_pool_with_the_limits_of_the_edges_costs_no_more_than_they_do(seed: int, start_hour: int | None) -> None:
    """Whatever neighbours agree on, everybody's sums of it are orders that a pool can serve, at the same fee."""
    community, start, scenarios = uneven(*simple(30 + seed, start_hour, num=5))
    community = community.replace(graph=replace(community.graph, fee_ct_per_kwh=np.full(community.num_edges, 0.3)))
    edges = _objective(community, start, scenarios)
    pool = _objective(community.replace(mechanism="mid-market-rate"), start, scenarios)
    nobody = _objective(community.replace(graph=TradeGraph.ring_with_chords(1)), start, scenarios)
    assert pool <= edges + 1e-7 * abs(edges)
    assert edges < nobody - 1.0
    # Where everybody is everybody's neighbour and no edge is ever full the edges are a pool.
    first, second = np.triu_indices(5, 1)
    complete = community.replace(graph=TradeGraph(first, second, np.full(10, 1e3), np.full(10, 0.3)))
    costs = [_objective(complete.replace(mechanism=mechanism), start, scenarios) for mechanism in FORMS]
    assert costs[0] == pytest.approx(costs[1], rel=1e-8)


@pytest.mark.parametrize("start_hour", [None, 2])
def test_two_neighbours_are_a_pool(start_hour: int | None) -> None:
    community, start, scenarios = uneven(*simple(40, start_hour, num=2))
    edge, pool = (
        solve_core(community.replace(mechanism=mechanism), start, scenarios, tolerance=1e-9) for mechanism in FORMS
    )
    assert pool.objective_ct == pytest.approx(edge.objective_ct, rel=1e-9)
    np.testing.assert_allclose(pool.trade_kw, np.stack([edge.trade_kw[:, 0], -edge.trade_kw[:, 0]], axis=1), atol=1e-4)
    np.testing.assert_allclose(
        *(evaluate(plan, community.replace(mechanism=mechanism), start, scenarios).p2p_fee
          for plan, mechanism in zip((edge, pool), FORMS, strict=True)), atol=1e-4,
    )  # fmt: skip
    assert np.max(np.abs(pool.trade_kw)) > 1.0


def test_all_pools_and_the_auction_plan_alike() -> None:
    """What they pay one another is no cost of the community."""
    community, start, scenarios = uneven(*simple(37))
    plans = [solve_core(community.replace(mechanism=mechanism), start, scenarios) for mechanism in POOLS]
    assert len(plans) == 3
    for plan in plans[1:]:
        np.testing.assert_array_equal(plan.trade_kw, plans[0].trade_kw)
        np.testing.assert_array_equal(plan.battery_kw, plans[0].battery_kw)
    assert np.max(np.abs(plans[0].trade_kw)) > 1.0


@pytest.mark.parametrize("mechanism", FORMS)
def test_renumbering_the_prosumers_renumbers_the_plan(mechanism: str) -> None:
    community, start, scenarios = simple(38, 2, num=4, mechanism=mechanism)
    order = np.array([2, 0, 3, 1])  # whom the new numbers stand for
    number = np.argsort(order)
    fleet = replace(
        community.fleet, **{name: values[order] for name, values in vars(community.fleet).items() if name[0] != "_"}
    )
    ends = np.sort(np.stack([number[community.graph.first], number[community.graph.second]]), axis=0)
    there = community.replace(fleet=fleet, graph=replace(community.graph, first=ends[0], second=ends[1]))
    assert start.position_kw is not None
    same = solve_core(
        there,
        replace(
            start, soc_kwh=start.soc_kwh[order], backlog_kwh=start.backlog_kwh[order],
            connection_peak_kw=start.connection_peak_kw[order], position_kw=start.position_kw[order],
            shiftable_ref_kw=start.shiftable_ref_kw[:, order],
        ),
        replace(scenarios, load_kw=scenarios.load_kw[:, :, order], pv_kw=scenarios.pv_kw[:, :, order]),
        regulariser=0.1, tolerance=1e-9,
    )  # fmt: skip
    plan = solve_core(community, start, scenarios, regulariser=0.1, tolerance=1e-9)
    assert same.objective_ct == pytest.approx(plan.objective_ct, rel=1e-10)
    bought = [
        np.stack([bought_kw(which, hour) for hour in made.trade_kw])
        for which, made in ((community, plan), (there, same))
    ]
    np.testing.assert_allclose(bought[1], bought[0][:, order], atol=1e-5)
    np.testing.assert_allclose(same.battery_kw, plan.battery_kw[:, order], atol=1e-5)


def test_in_a_pool_an_hour_of_one_seller_and_of_none() -> None:
    """Who alone generates buys of nobody; where nobody does there is no trade; a closed prosumer stays out."""
    community, start, scenarios = simple(39, scenarios=2, num=4, mechanism="mid-market-rate")
    pv = np.zeros_like(scenarios.pv_kw)
    pv[:, 2, 0], pv[:, 3, :2] = 30.0, 30.0
    graph = replace(community.graph, limit_kw=np.where(community.graph.second == 3, 0.0, 4.0))
    graph = replace(graph, limit_kw=np.where(community.graph.first == 3, 0.0, graph.limit_kw))
    community = community.replace(graph=graph)
    scenarios = replace(scenarios, pv_kw=pv)
    plan = solve_core(community, start, scenarios, tolerance=1e-9)
    assert plan.solver == "piqp"
    np.testing.assert_array_equal(plan.trade_kw[[0, 1, 4, 5]], 0.0)
    np.testing.assert_array_equal(plan.trade_kw[:, 3], 0.0)
    assert plan.trade_kw[2, 0] < -1.0
    reference = solved_reference(community, start, scenarios, REGULARISER_CT_PER_KW2)
    assert plan.objective_ct == pytest.approx(reference.problem.value, rel=1e-8)


@pytest.mark.parametrize("start_hour", [None, 2])
def test_dearer_imbalance_fees_and_demand_never_lower_the_cost(start_hour: int | None) -> None:
    community, start, scenarios = simple(9, start_hour)
    base = _objective(community, start, scenarios)
    for name in (
        "rt_buy_margin_ct_per_kwh", "rt_sell_margin_ct_per_kwh", "demand_charge_ct_per_kw", "terminal_shortfall_factor",
    ):  # fmt: skip
        tariff = replace(community.tariff, **{name: getattr(community.tariff, name) + 5.0})
        assert _objective(community.replace(tariff=tariff), start, scenarios) >= base - 1e-6, name
    graph = replace(community.graph, fee_ct_per_kwh=community.graph.fee_ct_per_kwh + 1.0)
    assert _objective(community.replace(graph=graph), start, scenarios) >= base - 1e-6


def test_only_what_exceeds_the_peak_so_far_is_charged() -> None:
    community, start, scenarios = simple(10, 2)
    low, high, above_all = (
        _objective(community, replace(start, connection_peak_kw=np.full(3, peak)), scenarios)
        for peak in (0.0, 10.0, 500.0)
    )
    no_charge = community.replace(tariff=replace(community.tariff, demand_charge_ct_per_kw=0.0))
    assert low > high > above_all
    assert above_all == pytest.approx(_objective(no_charge, start, scenarios), rel=1e-9)


def test_energy_missing_or_left_over_at_the_end_by_hand() -> None:
    """An idle battery and a load of 1 kW, bought ahead: 24 h x (10 ct or 8 ct), and the energy against 100 kWh."""
    community, _, _ = simple(num=1, hours=2, edges=False)
    fleet = replace(
        community.fleet, battery_power_kw=np.zeros(1), shiftable_power_kw=np.zeros(1),
        charge_efficiency=np.array([0.8]), discharge_efficiency=np.array([0.9]),
        soc_min_kwh=np.zeros(1), soc_max_kwh=np.full(1, 200.0), soc_initial_kwh=np.full(1, 100.0),
    )  # fmt: skip
    community = community.replace(fleet=fleet, tariff=Tariff(demand_charge_ct_per_kw=0.0))
    scenarios = Scenarios(np.ones((1, 2, 1)), np.zeros((1, 2, 1)), np.full((1, 2), 12.0), np.ones(1))
    for soc, terminal in ((70.0, 30 * 1.5 * 10 / 0.8), (130.0, -30 * 0.4 * 8 * 0.9)):
        start = DayStart(0, np.array([soc]), np.zeros(1), np.zeros(1), np.zeros((2, 1)), np.array([10.0, 8.0]))
        plan = solve_core(community, start, scenarios, regulariser=0.0)
        assert plan.objective_ct == pytest.approx(12 * 10 + 12 * 8 + terminal, rel=1e-7)
        assert evaluate(plan, community, start, scenarios).terminal_soc == pytest.approx(terminal, rel=1e-7)


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("start_hour", [None, 0, 3])
def test_plans_respect_the_physics(start_hour: int | None, mechanism: str) -> None:
    rng = np.random.default_rng(12)
    community = random_community(rng, num=4, hours=8, mechanism=mechanism)
    start, scenarios = random_case(rng, community, 5, start_hour=start_hour, negative=True)
    plan = solve_core(community, start, scenarios)
    fleet, h, dt_h = community.fleet, 8 - start.start_hour, community.dt_h
    assert plan.position_kw.shape == (4, h)
    assert np.all(np.abs(plan.battery_kw) <= fleet.battery_power_kw)
    assert np.all((plan.shiftable_kw >= 0) & (plan.shiftable_kw <= fleet.shiftable_power_kw))
    stored = np.where(
        plan.battery_kw > 0, plan.battery_kw * fleet.charge_efficiency, plan.battery_kw / fleet.discharge_efficiency
    )  # fmt: skip
    soc = start.soc_kwh + dt_h * np.cumsum(stored, axis=0)
    assert np.all((soc >= fleet.soc_min_kwh - 1e-5) & (soc <= fleet.soc_max_kwh + 1e-5))
    backlog = start.backlog_kwh + dt_h * np.cumsum(
        plan.shiftable_kw - start.shiftable_ref_kw[start.start_hour :], axis=0
    )
    assert np.all((backlog >= fleet.backlog_min_kwh - 1e-5) & (backlog <= fleet.backlog_max_kwh + 1e-5))
    np.testing.assert_allclose(backlog[-1], 0, atol=1e-5)
    sold = np.zeros((h, 4))
    if mechanism == "bilateral":
        assert plan.trade_kw.shape == (h, community.num_edges)
        for edge, (first, second) in enumerate(zip(community.graph.first, community.graph.second, strict=True)):
            sold[:, second] += np.maximum(plan.trade_kw[:, edge], 0)
            sold[:, first] += np.maximum(-plan.trade_kw[:, edge], 0)
            assert np.all(np.abs(plan.trade_kw[:, edge]) <= community.graph.limit_kw[edge] + 1e-9)
    else:
        assert plan.trade_kw.shape == (h, 4)
        sold = np.maximum(-plan.trade_kw, 0)
        assert np.all(np.abs(plan.trade_kw) <= community.pool_limit_kw + 1e-9)
        np.testing.assert_allclose(plan.trade_kw.sum(axis=1), 0, atol=1e-6)
        assert np.max(sold) > 1.0
    assert np.all(sold <= scenarios.mean_pv_kw - plan.curtail_kw + 1e-5)
    assert plan.offers(0).shape == (community.num_offers,)
    if start_hour is None:
        assert np.all(np.abs(plan.position_kw) <= fleet.position_limit_kw[:, None])
        assert np.all(plan.curtail_kw == 0)
    else:
        np.testing.assert_array_equal(plan.position_kw, start.position_kw[:, start_hour:])  # type: ignore[index]
        assert np.all(plan.curtail_kw[1:] == 0)


def test_pv_is_curtailed_only_when_surplus_has_a_negative_price() -> None:
    community, start, scenarios = simple(13, 3, hours=6)  # noon
    plan = solve_core(community, start, scenarios)
    assert np.all(plan.curtail_kw == 0)
    paying = replace(scenarios, price_rt_ct_per_kwh=np.full(scenarios.price_rt_ct_per_kwh.shape, -30.0))
    plan = solve_core(community, replace(start, position_kw=np.full((3, 6), 20.0)), paying)
    np.testing.assert_allclose(plan.curtail_kw[0], scenarios.pv_kw[0, 0], atol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_curtailment_weighs_the_price_of_surplus_against_the_peak(seed: int) -> None:
    """Surplus has a negative price in every hour and scenario, but energy in the market has not."""
    rng = np.random.default_rng(seed)
    community = random_community(rng, num=3, hours=8)
    start, scenarios = random_case(rng, community, 3, start_hour=3)
    price = rng.uniform(-15, 0, scenarios.price_rt_ct_per_kwh.shape)
    price[:, 0] = price[0, 0]
    scenarios = replace(scenarios, price_rt_ct_per_kwh=price, pv_kw=0.5 * scenarios.pv_kw)
    plan = solve_core(community, start, scenarios, tolerance=1e-9)
    reference = solved_reference(community, start, scenarios, REGULARISER_CT_PER_KW2)
    assert plan.objective_ct == pytest.approx(reference.problem.value, rel=1e-8)
    cost = evaluate(plan, community, start, scenarios).total_ct
    assert cost + regularised(plan, start) == pytest.approx(plan.objective_ct, rel=1e-7)
    # the observed hour's curtailment is the plan's own: without it the plan costs more
    if np.max(plan.curtail_kw[0]) > 0.1:
        without = replace(plan, curtail_kw=np.zeros_like(plan.curtail_kw))
        assert evaluate(without, community, start, scenarios).total_ct > cost + 1e-3


@pytest.mark.parametrize("pv_kw", [3.0, 5.5])
def test_what_is_curtailed_is_not_sold(pv_kw: float) -> None:
    """The seller is left with what it bought ahead and would be rid of all: by sale (at most 5 kW) and curtailment."""
    community, _, _ = simple(num=2, hours=2)
    fleet = replace(community.fleet, battery_power_kw=np.zeros(2), shiftable_power_kw=np.zeros(2))
    graph = replace(community.graph, limit_kw=np.array([5.0]))
    community = community.replace(fleet=fleet, graph=graph)
    start = DayStart(
        1, fleet.soc_initial_kwh, np.zeros(2), np.zeros(2), np.zeros((2, 2)), np.full(2, 5.0),
        position_kw=np.array([[0.0, 10.0], [0.0, 0.0]]),
    )  # fmt: skip
    scenarios = Scenarios(np.array([[[0.0, 30.0]]]), np.array([[[pv_kw, 0.0]]]), np.full((1, 1), -10.0), np.ones(1))
    plan = solve_core(community, start, scenarios)
    sold = min(pv_kw, 5.0)
    np.testing.assert_allclose(plan.trade_kw, -sold, atol=1e-5)
    np.testing.assert_allclose(plan.curtail_kw, [[pv_kw - sold, 0.0]], atol=1e-5)


def test_charging_against_discharging_becomes_the_power_of_equal_effect() -> None:
    """Deep negative prices and a full battery: burning energy pays, but the environment knows one signed power."""
    community, start, scenarios = simple(14, 5, num=2)
    fleet = replace(community.fleet, soc_initial_kwh=community.fleet.soc_max_kwh)
    community = community.replace(fleet=fleet)
    start = replace(
        start, soc_kwh=fleet.soc_max_kwh, position_kw=np.zeros((2, 6)), price_da_ct_per_kwh=np.full(6, -40.0)
    )  # fmt: skip
    scenarios = replace(scenarios, price_rt_ct_per_kwh=np.full(scenarios.price_rt_ct_per_kwh.shape, -40.0))
    m = build_core(community, start, scenarios, regulariser=1e-3)
    x = solve_matrices(m).x
    assert np.all(np.minimum(x[m.columns.charge], x[m.columns.discharge]) > 1.0)
    plan = solve_core(community, start, scenarios)
    stored = fleet.charge_efficiency * x[m.columns.charge] - x[m.columns.discharge] / fleet.discharge_efficiency
    np.testing.assert_allclose(
        np.where(plan.battery_kw > 0, plan.battery_kw * fleet.charge_efficiency,
                 plan.battery_kw / fleet.discharge_efficiency),
        stored, atol=1e-9,
    )  # fmt: skip
    assert evaluate(plan, community, start, scenarios).total_ct > plan.objective_ct


def test_units_that_have_no_room_to_move() -> None:
    """No battery, no shiftable power, closed edges, a state of charge with one value: plans nevertheless."""
    community, start, scenarios = simple(15)
    fleet = replace(
        community.fleet, battery_power_kw=np.array([0.0, 10.0, 10.0]), soc_max_kwh=np.full(3, 50.0),
        soc_min_kwh=np.array([10.0, 50.0, 10.0]), soc_initial_kwh=np.array([40.0, 50.0, 40.0]),
        position_limit_kw=np.array([50.0, 0.0, 50.0]),
    )  # fmt: skip
    community = community.replace(fleet=fleet, graph=replace(community.graph, limit_kw=np.array([0.0, 5.0, 5.0])))
    start = replace(start, soc_kwh=fleet.soc_initial_kwh)
    plan = solve_core(community, start, scenarios, tolerance=1e-9)
    np.testing.assert_allclose(plan.battery_kw[:, :2], 0, atol=1e-7)
    assert np.all(plan.position_kw[1] == 0)
    assert np.all(plan.trade_kw[:, 0] == 0)
    reference = solved_reference(community, start, scenarios, REGULARISER_CT_PER_KW2)
    assert plan.objective_ct == pytest.approx(reference.problem.value, rel=1e-8)


def test_load_that_must_catch_up_at_full_power_or_has_nothing_left() -> None:
    community, start, scenarios = simple(16, 4)
    fleet = replace(community.fleet, backlog_min_kwh=np.full(3, -1e3))
    behind = start.shiftable_ref_kw[4:].sum(axis=0) - 2 * fleet.shiftable_power_kw
    start = replace(start, backlog_kwh=community.dt_h * behind)
    community = community.replace(fleet=fleet)
    for rounding in (0.0, -1e-9):
        late = replace(start, backlog_kwh=start.backlog_kwh + rounding)
        plan = solve_core(community, late, scenarios)
        np.testing.assert_allclose(plan.shiftable_kw, np.tile(fleet.shiftable_power_kw, (2, 1)), rtol=1e-6)
        assert plan.solver == "piqp"
    done = replace(start, backlog_kwh=community.dt_h * start.shiftable_ref_kw[4:].sum(axis=0))
    ready = community.replace(fleet=replace(fleet, backlog_max_kwh=np.full(3, 1e3)))
    for rounding in (0.0, 1e-9):
        plan = solve_core(ready, replace(done, backlog_kwh=done.backlog_kwh + rounding), scenarios)
        np.testing.assert_array_equal(plan.shiftable_kw, 0.0)
        assert plan.solver == "piqp"
    with pytest.raises(UsageError, match=r"day start\.backlog_kwh: prosumer 0: .* cannot be delivered"):
        solve_core(community, replace(start, backlog_kwh=start.backlog_kwh - 0.1), scenarios)


@pytest.mark.parametrize("seed", range(3))
def test_the_last_hour_delivers_what_is_left(seed: int) -> None:
    community, start, scenarios = simple(seed, 5)
    plan = solve_core(community, start, scenarios)
    left_kw = start.shiftable_ref_kw[5] - start.backlog_kwh / community.dt_h
    np.testing.assert_allclose(plan.shiftable_kw[0], left_kw, rtol=1e-12)


def test_the_same_question_has_the_same_answer_to_the_bit() -> None:
    community, start, scenarios = simple(17, 2)
    first = solve_core(community, start, scenarios)
    solve_core(*simple(18, 1))
    again = solve_core(community, start, scenarios)
    np.testing.assert_array_equal(first.battery_kw, again.battery_kw)
    np.testing.assert_array_equal(first.trade_kw, again.trade_kw)


def test_other_solvers_find_the_same_plan() -> None:
    community, start, scenarios = simple(19)
    piqp = solve_core(community, start, scenarios, tolerance=1e-9)
    clarabel = solve_core(community, start, scenarios, solver="clarabel", tolerance=1e-9)
    assert clarabel.solver == "clarabel"
    assert clarabel.objective_ct == pytest.approx(piqp.objective_ct, rel=1e-8)
    np.testing.assert_allclose(clarabel.position_kw, piqp.position_kw, atol=1e-3)


def test_inputs_that_do_not_fit_are_named() -> None:
    community, start, scenarios = simple(21, 2)
    with pytest.raises(UsageError, match=r"scenarios\.weights: must not be negative and must sum to one"):
        replace(scenarios, weights=np.full(4, 0.3))
    with pytest.raises(UsageError, match=r"scenarios\.pv_kw: shape"):
        replace(scenarios, pv_kw=scenarios.pv_kw[:2])
    with pytest.raises(UsageError, match=r"scenarios\.load_kw: not finite"):
        replace(scenarios, load_kw=scenarios.load_kw * np.nan)
    with pytest.raises(UsageError, match=r"day start\.soc_kwh: shape"):
        replace(start, soc_kwh=np.zeros(2))
    with pytest.raises(UsageError, match=r"day start\.start_hour: 6"):
        replace(start, start_hour=6)
    with pytest.raises(UsageError, match="expected the 3 remaining hours"):
        solve_core(community, replace(start, start_hour=3), scenarios)
    with pytest.raises(UsageError, match=r"scenarios\.load_kw: the first hour is observed"):
        solve_core(community, start, replace(scenarios, load_kw=scenarios.load_kw + np.arange(4)[:, None, None]))
    generous = community.replace(tariff=replace(community.tariff, terminal_shortfall_factor=0.0))
    with pytest.raises(UsageError, match="terminal_shortfall_factor"):
        solve_core(generous, start, scenarios)
