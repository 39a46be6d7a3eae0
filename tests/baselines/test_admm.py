"""Prosumers that exchange trade estimates agree on the plan that a central planner would make.

Axis letters: deg neighbours, N prosumers, E edges, S scenarios, H hours of a day, h remaining hours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_cases import random_case, random_community

from prosumer_gym.baselines import admm as module
from prosumer_gym.baselines.admm import ACCELERATIONS, AdmmResult, Messages, Trader, consensus_admm
from prosumer_gym.baselines.core_matrices import NO_KW
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, DayStart, Scenarios, evaluate, solve_core
from prosumer_gym.baselines.interior_point import InteriorPoint, Optimum
from prosumer_gym.baselines.local_problem import LocalProblem
from prosumer_gym.baselines.solve import SolverError
from prosumer_gym.baselines.trades import bought_kw
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario

RHO = 0.5
Problem = tuple[Community, DayStart, Scenarios]


def problem(
    seed: int, *, num: int = 5, hours: int = 6, scenarios: int = 4, start: int | None = None, negative: bool = False
) -> Problem:
    """Every second prosumer has twice the sun and the others a third: there is something to trade."""
    rng = np.random.default_rng(seed)
    community = random_community(rng, num=num, hours=hours)
    begin, days = random_case(rng, community, scenarios, start_hour=start, negative=negative, own_weights=True)
    sun = np.where(np.arange(num) % 2 == 0, 2.0, 0.3)
    return community, begin, replace(days, pv_kw=sun * days.pv_kw)


def tehran_day(row: int, scenarios: int = 12) -> Problem:
    """A day of the data set, and others of the same season as its scenarios."""
    community, data = make_scenario("ieee33"), load_dataset("tehran-v0")
    near = row + np.arange(-scenarios, 0)
    start = DayStart(
        0, community.fleet.soc_initial_kwh, np.zeros(10), np.zeros(10), data.shiftable_ref_kw[row],
        data.price_da_ct_per_kwh[row],
    )  # fmt: skip
    weights = np.random.default_rng(row).dirichlet(np.ones(scenarios), 10)
    return community, start, Scenarios(
        data.load_kw[near], data.pv_kw[near], data.price_rt_ct_per_kwh[near], weights
    )  # fmt: skip


def traders_of(case: Problem) -> list[Trader]:
    return [Trader(LocalProblem(*case, n, rho=RHO)) for n in range(case[0].num_prosumers)]


def play_round(traders: list[Trader]) -> list[Messages]:
    """Everybody plans and sends; what each received."""
    for trader in traders:
        trader.plan()
    inboxes = module._deliver(trader.send() for trader in traders)
    for trader, inbox in zip(traders, inboxes, strict=True):
        trader.receive(inbox)
    return inboxes


def bought(case: Problem, result: AdmmResult) -> np.ndarray:
    return np.stack([bought_kw(case[0], hour) for hour in result.plan.trade_kw])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("start", "negative"), [(None, False), (None, True), (2, True)])
def test_it_finds_the_central_optimum(seed: int, start: int | None, negative: bool) -> None:
    case = problem(seed, start=start, negative=negative)
    central, found = solve_core(*case, tolerance=1e-9), consensus_admm(*case, rho=RHO)
    assert found.converged
    assert found.iterations == found.residuals.combined.size < 800
    assert found.plan.objective_ct == pytest.approx(central.objective_ct, rel=1e-5)
    # Nobody beats the optimum, and the prices prove it.
    assert found.plan.objective_ct >= central.objective_ct - 1e-6 * abs(central.objective_ct)
    assert found.plan.lower_bound_ct <= central.objective_ct + 1e-6 * abs(central.objective_ct)
    assert found.plan.lower_bound_ct == pytest.approx(central.objective_ct, rel=1e-5)
    assert found.plan.fallbacks == ()
    assert found.residuals.disagreement_kw[-1] <= found.residuals.target
    assert found.residuals.movement_ct_per_kw[-1] <= found.residuals.target
    assert np.max(np.abs(central.trade_kw)) > 1.0


@pytest.mark.parametrize("row", [60, 200, 330])
def test_it_finds_the_central_optimum_of_tehran_s_days(row: int) -> None:
    case = tehran_day(row)
    central, found = solve_core(*case), consensus_admm(*case, rho=RHO)
    assert found.converged
    assert found.iterations < 400
    assert found.plan.objective_ct == pytest.approx(central.objective_ct, rel=1e-5)
    assert found.plan.lower_bound_ct == pytest.approx(central.objective_ct, rel=1e-5)


@pytest.mark.parametrize("start", [None, 2])
def test_the_plan_can_be_carried_out_and_costs_what_it_says(start: int | None) -> None:
    """Whether the rounds have come to an end or not: trades within limits and generation, one number for both ends."""
    case = community, begin, scenarios = problem(1, start=start)
    for rounds in (1, 3, 800):
        found = consensus_admm(*case, rho=RHO, max_iterations=rounds)
        assert found.converged is (rounds == 800)
        assert found.iterations <= rounds
        plan = found.plan
        assert np.all(np.abs(plan.trade_kw) <= community.graph.limit_kw + 1e-12)
        sold = np.zeros(scenarios.mean_pv_kw.shape)
        for edge, (first, second) in enumerate(zip(community.graph.first, community.graph.second, strict=True)):
            sold[:, second] += np.maximum(plan.trade_kw[:, edge], 0)
            sold[:, first] += np.maximum(-plan.trade_kw[:, edge], 0)
        assert np.all(sold <= scenarios.mean_pv_kw - plan.curtail_kw + 1e-9)
        position = plan.position_kw if start is None else np.zeros(1)
        regularised = 0.5 * REGULARISER_CT_PER_KW2 * (np.sum(position**2) + 2 * np.sum(plan.trade_kw**2))
        cost = evaluate(plan, community, begin, scenarios).total_ct + regularised
        assert plan.objective_ct == pytest.approx(cost, rel=1e-6)
        # ... and by how much it may be improved is known.
        best = solve_core(*case, tolerance=1e-9).objective_ct
        assert plan.lower_bound_ct - 1e-6 * abs(best) <= best <= plan.objective_ct + 1e-6 * abs(best)


def test_at_the_cap_the_best_round_counts() -> None:
    """The acceleration as published goes astray: what it ends with is not what it had."""
    case = problem(8)
    result = consensus_admm(*case, rho=RHO, acceleration="as published", tolerance=1e-9, max_iterations=60)
    assert not result.converged
    worst = np.maximum(result.residuals.disagreement_kw, result.residuals.movement_ct_per_kw)
    until = int(np.argmin(worst)) + 1
    assert until < 60
    same = consensus_admm(*case, rho=RHO, acceleration="as published", tolerance=1e-9, max_iterations=until)
    np.testing.assert_array_equal(result.plan.trade_kw, same.plan.trade_kw)
    np.testing.assert_array_equal(result.price_ct_per_kwh, same.price_ct_per_kwh)


def test_both_ends_have_the_same_price_and_opposite_trades() -> None:
    case = problem(3)
    traders = traders_of(case)
    for _ in range(5):
        play_round(traders)
        for n, trader in enumerate(traders):
            for column, m in enumerate(trader.problem.neighbours):
                other = traders[m]
                theirs = list(other.problem.neighbours).index(n)
                np.testing.assert_array_equal(trader.price_ct_per_kw[:, column], other.price_ct_per_kw[:, theirs])
                np.testing.assert_array_equal(trader.agreed_kw[:, column], -other.agreed_kw[:, theirs])
            trader.go_on(0.3)
    assert np.max(np.abs(traders[0].price_ct_per_kw)) > 0.1


def test_what_is_agreed_minimises_the_augmented_cost_of_the_edge() -> None:
    """zh = argmin over zh_nm + zh_mn = 0 of -lam (zh_nm + zh_mn) + rho/2 |z - zh|^2: its slope there is zero."""
    case = problem(4)
    traders = traders_of(case)
    for _ in range(3):
        before = [trader._ahead[1] for trader in traders]
        inboxes = play_round(traders)
        for trader, price, inbox in zip(traders, before, inboxes, strict=True):
            for column, m in enumerate(trader.problem.neighbours):
                theirs = list(traders[m].problem.neighbours).index(trader.problem.prosumer)
                zh, z, z_other = trader.agreed_kw[:, column], trader.estimate_kw[:, column], inbox[int(m)]
                price_other = before[m][:, theirs]
                slope = -price[:, column] - RHO * (z - zh) + price_other + RHO * (z_other + zh)
                np.testing.assert_allclose(slope, 0.0, atol=1e-9)
            # 3: lam += rho (z - zh)
            np.testing.assert_allclose(
                trader.price_ct_per_kw, price + RHO * (trader.estimate_kw - trader.agreed_kw), atol=1e-9
            )
            trader.go_on(0.5)


def test_with_and_without_restart_the_limit_is_the_same_and_as_published_is_slower() -> None:
    case = problem(5)
    found = {name: consensus_admm(*case, rho=RHO, acceleration=name, max_iterations=400) for name in ACCELERATIONS}
    fast, plain, published = (found[name] for name in ACCELERATIONS)
    assert fast.converged
    assert plain.converged
    assert fast.plan.objective_ct == pytest.approx(plain.plan.objective_ct, rel=1e-6)
    np.testing.assert_allclose(bought(case, fast), bought(case, plain), atol=0.05)
    assert not plain.residuals.restarted.any()
    assert not published.residuals.restarted.any()
    assert fast.residuals.restarted.any()
    assert published.iterations > fast.iterations


def test_the_restart_is_goldstein_s() -> None:
    """After a restart the combined residual must fall below the last accepted one; else it restarts again."""
    history = consensus_admm(*problem(6), rho=RHO).residuals
    level = np.inf
    for combined, restarted in zip(history.combined, history.restarted, strict=True):
        assert restarted == (combined >= 0.999 * level)
        level = level / 0.999 if restarted else combined


def test_where_the_next_round_starts() -> None:
    """Ahead by the momentum, of the price alone as published; after a restart where the last round stood."""
    trader, *_ = everybody = traders_of(problem(6))
    play_round(everybody)
    for other in everybody:
        other.go_on(0.0)
    agreed, price = trader.agreed_kw, trader.price_ct_per_kw
    play_round(everybody)
    trader.go_on(0.4)
    np.testing.assert_allclose(trader._ahead[0], trader.agreed_kw + 0.4 * (trader.agreed_kw - agreed), rtol=1e-12)
    np.testing.assert_allclose(
        trader._ahead[1], trader.price_ct_per_kw + 0.4 * (trader.price_ct_per_kw - price), rtol=1e-12
    )
    trader.go_on(0.4, with_agreed=False)
    np.testing.assert_array_equal(trader._ahead[0], trader.agreed_kw)
    assert not np.array_equal(trader._ahead[1], trader.price_ct_per_kw)
    trader.go_back()
    np.testing.assert_array_equal(trader._ahead[0], agreed)
    np.testing.assert_array_equal(trader._ahead[1], price)
    assert not np.array_equal(agreed, trader.agreed_kw)


def test_rho_changes_the_rounds_and_not_the_result() -> None:
    case = problem(7)
    one, other = (consensus_admm(*case, rho=rho) for rho in (0.5, 2.0))
    assert one.iterations != other.iterations
    assert one.plan.objective_ct == pytest.approx(other.plan.objective_ct, rel=1e-5)


@pytest.mark.parametrize("graph", ["one prosumer", "no edges", "closed edges"])
def test_without_trade_everybody_plans_alone(graph: str) -> None:
    community, start, scenarios = problem(8, num=1 if graph == "one prosumer" else 3)
    if graph == "no edges":
        community = community.replace(graph=TradeGraph.ring_with_chords(1))
    if graph == "closed edges":
        community = community.replace(graph=replace(community.graph, limit_kw=np.zeros(3)))
    found = consensus_admm(community, start, scenarios)
    assert found.converged
    assert found.iterations == 1
    assert found.price_ct_per_kwh.shape == (6, community.num_edges)
    alone = solve_core(community, start, scenarios)
    assert found.plan.objective_ct == pytest.approx(alone.objective_ct, rel=1e-7)
    np.testing.assert_allclose(found.plan.battery_kw, alone.battery_kw, atol=0.02)
    np.testing.assert_array_equal(found.plan.trade_kw, 0.0)


def test_some_closed_edges_and_a_prosumer_of_one_neighbour() -> None:
    community, start, scenarios = problem(9, num=4)
    limit = np.where((community.graph.first == 0) & (community.graph.second != 1), 0.0, community.graph.limit_kw)
    community = community.replace(graph=replace(community.graph, limit_kw=limit))
    found = consensus_admm(community, start, scenarios)
    assert found.converged
    assert found.plan.objective_ct == pytest.approx(solve_core(community, start, scenarios).objective_ct, rel=1e-5)
    np.testing.assert_array_equal(found.plan.trade_kw[:, limit == 0.0], 0.0)


def test_renumbering_the_prosumers_renumbers_the_result() -> None:
    community, start, scenarios = problem(10)
    order = np.array([3, 0, 4, 1, 2])  # whom the new numbers stand for
    number = np.argsort(order)
    fleet = replace(
        community.fleet, **{name: values[order] for name, values in vars(community.fleet).items() if name[0] != "_"}
    )
    ends = np.sort(np.stack([number[community.graph.first], number[community.graph.second]]), axis=0)
    there = community.replace(fleet=fleet, graph=replace(community.graph, first=ends[0], second=ends[1]))
    moved = (
        there,
        replace(
            start, soc_kwh=start.soc_kwh[order], backlog_kwh=start.backlog_kwh[order],
            connection_peak_kw=start.connection_peak_kw[order], shiftable_ref_kw=start.shiftable_ref_kw[:, order],
        ),
        replace(
            scenarios, load_kw=scenarios.load_kw[:, :, order], pv_kw=scenarios.pv_kw[:, :, order],
            weights=scenarios.weights[order],
        ),
    )  # fmt: skip
    here, same = consensus_admm(community, start, scenarios), consensus_admm(*moved)
    assert abs(same.iterations - here.iterations) <= 5  # rounding may move a restart
    assert same.plan.objective_ct == pytest.approx(here.plan.objective_ct, rel=1e-6)
    np.testing.assert_allclose(bought(moved, same), bought((community, start, scenarios), here)[:, order], atol=0.02)


def test_threads_change_nothing() -> None:
    case = problem(11)
    one, two = (consensus_admm(*case, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.plan.battery_kw, two.plan.battery_kw)
    np.testing.assert_array_equal(one.residuals.combined, two.residuals.combined)


def test_news_travels_one_edge_a_round() -> None:
    """Six in a ring without chords: what prosumer 0 knows reaches 1 and 5 with the first messages, 3 with the third."""
    community, start, scenarios = problem(12, num=6)
    graph = community.graph
    ring = (graph.second - graph.first == 1) | (graph.second - graph.first == 5)
    community = community.replace(
        graph=TradeGraph(*(getattr(graph, name)[ring] for name in ("first", "second", "limit_kw", "fee_ct_per_kwh")))
    )
    load = scenarios.load_kw.copy()
    load[:, :, 0] += 7.0
    traders = [traders_of((community, start, days)) for days in (scenarios, replace(scenarios, load_kw=load))]
    away = np.array([0, 1, 2, 3, 2, 1])
    for played in range(3):
        for everybody in traders:
            play_round(everybody)
            for trader in everybody:
                trader.go_on(0.0)
        changed = [
            any(not np.array_equal(a, b) for a, b in zip(one.send().values(), other.send().values(), strict=True))
            for one, other in zip(*traders, strict=True)
        ]
        assert not np.any(np.array(changed) & (away > played))
        assert changed[0]


def test_the_price_is_what_makes_everybody_want_the_trade() -> None:
    """At the price found, what each prosumer would trade of its own will is what was agreed (up to rho, none here)."""
    case = community, start, scenarios = problem(13)
    found = consensus_admm(*case, tolerance=1e-6)
    prices = community.tariff.settlement_prices(start.price_da_ct_per_kwh, scenarios.price_rt_ct_per_kwh)
    extra = community.dt_h * (found.price_ct_per_kwh - prices.p2p[:, None])
    for n in range(community.num_prosumers):
        local = LocalProblem(*case, n, rho=RHO)
        local.hear(scenarios.mean_pv_kw[:, local.neighbours] > NO_KW)  # where nobody sells it means nothing
        sign = np.where(community.graph.first[local.edges] == n, 1.0, -1.0)
        agreed = sign * found.plan.trade_kw[:, local.edges]
        np.testing.assert_allclose(local.solve(extra[:, local.edges], agreed).estimate_kw, agreed, atol=1e-3)


def test_inputs_that_do_not_fit_are_named() -> None:
    case = problem(14)
    for wrong, message in (
        ({"acceleration": "fast"}, "acceleration 'fast' is not known; choose one of: restart"),
        ({"rho": 0.0}, r"rho is 0\.0, must be positive"),
        ({"rho": -1.0}, r"rho is -1\.0, must be positive"),
        ({"tolerance": np.nan}, "tolerance is nan"),
        ({"max_iterations": 0}, r"max_iterations \(0\)"),
        ({"threads": 0}, r"threads \(0\)"),
    ):
        with pytest.raises(UsageError, match=message):
            consensus_admm(*case, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="use bilateral"):
        consensus_admm(case[0].replace(mechanism="double-auction"), *case[1:])


def an_hour_later(case: Problem, result: AdmmResult) -> Problem:
    """Where the plan's first hour leads, and what is observed then."""
    community, start, scenarios = case
    fleet, plan, dt_h = community.fleet, result.plan, community.dt_h
    load, pv, price = (
        np.array(values[:, 1:]) for values in (scenarios.load_kw, scenarios.pv_kw, scenarios.price_rt_ct_per_kwh)
    )
    for values in (load, pv, price):
        values[:, 0] = values[0, 0]
    stored = fleet.charge_efficiency * np.maximum(plan.battery_kw[0], 0.0)
    stored += np.minimum(plan.battery_kw[0], 0.0) / fleet.discharge_efficiency
    shifted = plan.shiftable_kw[0] - start.shiftable_ref_kw[start.start_hour]
    later = replace(
        start, start_hour=start.start_hour + 1, soc_kwh=start.soc_kwh + dt_h * stored,
        backlog_kwh=start.backlog_kwh + dt_h * shifted,
    )  # fmt: skip
    return community, later, Scenarios(load, pv, price, scenarios.weights)


@pytest.mark.parametrize("seed", range(15, 18))
def test_an_hour_later_they_go_on_from_where_they_were(seed: int) -> None:
    """Fewer rounds than from nothing, to the same optimum; a start that misleads them only takes rounds."""
    case = problem(seed, hours=8, start=1)
    first = consensus_admm(*case, rho=RHO)
    later = an_hour_later(case, first)
    cold, warm = (consensus_admm(*later, rho=RHO, warm=state) for state in (None, first.state.later()))
    misled = replace(first.state, price_ct_per_kw=-first.state.price_ct_per_kw).later()
    astray = consensus_admm(*later, rho=RHO, warm=misled)
    assert warm.converged
    assert warm.iterations < cold.iterations
    for found in (warm, astray):
        assert found.plan.objective_ct == pytest.approx(cold.plan.objective_ct, rel=1e-5)
        np.testing.assert_allclose(bought(later, found), bought(later, cold), atol=0.1)


def test_who_has_agreed_is_done_at_once() -> None:
    """The state is where the rounds ended: from there nothing moves any more."""
    case = problem(18)
    first = consensus_admm(*case, rho=RHO)
    again = consensus_admm(*case, rho=RHO, warm=first.state)
    assert again.converged
    assert again.iterations <= 3
    np.testing.assert_allclose(again.state.agreed_kw, first.state.agreed_kw, atol=1e-2)
    np.testing.assert_allclose(again.price_ct_per_kwh, first.price_ct_per_kwh, atol=1e-2)
    p2p = case[0].tariff.settlement_prices(case[1].price_da_ct_per_kwh, case[2].price_rt_ct_per_kwh).p2p
    np.testing.assert_allclose(
        first.price_ct_per_kwh, p2p[:, None] + first.state.price_ct_per_kw / case[0].dt_h, rtol=1e-12
    )


def test_hours_that_are_over_are_forgotten() -> None:
    state = consensus_admm(*problem(19), rho=RHO, max_iterations=3).state
    np.testing.assert_array_equal(state.later(2).agreed_kw, state.agreed_kw[2:])
    np.testing.assert_array_equal(state.later().price_ct_per_kw, state.price_ct_per_kw[1:])
    assert state.later().drawn_kw is None
    with pytest.raises(UsageError, match=r"of \(5, \d+\) hours and edges, expected \(6, \d+\); `later` drops"):
        consensus_admm(*problem(19), warm=state.later())


@pytest.mark.parametrize("row", [60, 200])
def test_an_hour_s_negotiation_fits_its_cap(row: int) -> None:
    """50 rounds, to the looser tolerance of an hour: the whole is within 1e-4 of the central optimum, every hour."""
    case = tehran_day(row)
    community, start, scenarios = case
    found = consensus_admm(*case, rho=RHO)
    case = community, replace(start, position_kw=found.plan.position_kw), first_observed(scenarios)
    state = found.state
    for _ in range(6):
        found = consensus_admm(*case, rho=RHO, tolerance=3e-3, max_iterations=50, warm=state)
        assert found.plan.objective_ct == pytest.approx(solve_core(*case).objective_ct, rel=1e-4)
        state, case = found.state.later(), an_hour_later(case, found)


def first_observed(scenarios: Scenarios) -> Scenarios:
    seen = {name: np.array(getattr(scenarios, name)) for name in ("load_kw", "pv_kw", "price_rt_ct_per_kwh")}
    for values in seen.values():
        values[:, 0] = values[0, 0]
    return replace(scenarios, **seen)


def test_what_one_pays_the_other_gets() -> None:
    """Both ends hold the same price and opposite trades, in the end as in every round: payments sum to zero."""
    case = community, *_ = problem(20)
    found = consensus_admm(*case, rho=RHO)
    payments = np.zeros(community.num_prosumers)
    for edge, (first, second) in enumerate(zip(community.graph.first, community.graph.second, strict=True)):
        paid = community.dt_h * float(np.sum(found.price_ct_per_kwh[:, edge] * found.plan.trade_kw[:, edge]))
        payments[first] += paid
        payments[second] -= paid
    assert np.max(np.abs(payments)) > 1.0
    assert payments.sum() == pytest.approx(0.0, abs=1e-9)
    traders = traders_of(case)
    for _ in range(40):
        play_round(traders)
        for trader in traders:
            trader.go_on(0.3)
    for trader in traders:
        for m, column in zip(trader.problem.neighbours, range(trader.problem.neighbours.size), strict=True):
            other = traders[m]
            there = list(other.problem.neighbours).index(trader.problem.prosumer)
            np.testing.assert_array_equal(trader.price_ct_per_kw[:, column], other.price_ct_per_kw[:, there])
            np.testing.assert_array_equal(trader.agreed_kw[:, column], -other.agreed_kw[:, there])
            apart = trader.estimate_kw[:, column] + other.estimate_kw[:, there]
            assert np.max(np.abs(apart)) < 1.0  # on their way to agree


@pytest.mark.parametrize("seed", range(21, 23))
def test_what_both_ends_would_trade_agrees_to_ten_watts(seed: int) -> None:
    traders = traders_of(problem(seed))
    module._negotiate(traders, None, 1e-4, 800, "restart", lambda: [trader.plan() for trader in traders])
    for trader in traders:
        for m, values in trader.send().items():
            assert np.max(np.abs(values + traders[m].send()[trader.problem.prosumer])) <= 1e-2


def test_a_problem_left_to_the_general_solvers_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    case = problem(23)
    usual = consensus_admm(*case, rho=RHO, tolerance=1e-3)
    solve, calls = InteriorPoint.solve, [0]

    def stops_short(self: InteriorPoint, c: np.ndarray) -> Optimum:
        calls[0] += 1
        if calls[0] % 7 == 0:
            raise SolverError("interior point: stopped short")
        return solve(self, c)

    monkeypatch.setattr(InteriorPoint, "solve", stops_short)
    found = consensus_admm(*case, rho=RHO, tolerance=1e-3)
    assert len(found.plan.fallbacks) == calls[0] // 7
    assert found.plan.fallbacks[0].startswith("prosumer ")
    assert "stopped short" in found.plan.fallbacks[0]
    assert found.plan.objective_ct == pytest.approx(usual.plan.objective_ct, rel=1e-5)


def test_nobody_tries_to_buy_where_nothing_is_sold() -> None:
    """Else the price of a few watts rises for ever: these rounds took more than 800."""
    case = problem(15, hours=8, start=1)
    later = an_hour_later(case, consensus_admm(*case, rho=RHO))
    found = consensus_admm(*later, rho=RHO)
    assert found.iterations < 200
    dark = later[2].mean_pv_kw <= NO_KW
    for n in range(5):
        trader = Trader(LocalProblem(*later, n, rho=RHO))
        trader.hear({m: np.where(dark[:, m], 0.0, 1.0) for m in trader.problem.neighbours})
        trader.plan()
        assert np.all(trader.estimate_kw[dark[:, trader.problem.neighbours]] <= 0.0)


def test_days_without_weight_cost_nothing() -> None:
    """Days that count for others alone are not in a prosumer's problem."""
    community, start, scenarios = problem(24, scenarios=12)
    weights = np.zeros((5, 12))
    weights[0, :2], weights[1:, 2:] = 0.5, 0.1
    case = community, start, replace(scenarios, weights=weights)
    few = replace(
        scenarios, load_kw=scenarios.load_kw[:2], pv_kw=scenarios.pv_kw[:2],
        price_rt_ct_per_kwh=scenarios.price_rt_ct_per_kwh[:2], weights=np.full(2, 0.5),
    )  # fmt: skip
    with_others, alone = (LocalProblem(*c, 0, rho=RHO) for c in (case, (community, start, few)))
    assert with_others._matrices.c.size == alone._matrices.c.size
    assert with_others._matrices.G.shape == alone._matrices.G.shape
