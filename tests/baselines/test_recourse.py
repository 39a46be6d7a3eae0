"""A plan with recourse: what is decided now is the same in all scenarios, and nothing else is.

Axes: N prosumers, H hours of a day, S scenarios, h remaining hours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cvxpy
import numpy as np
import pytest
from core_cases import FORMS, random_case, random_community
from network_cases import penalty, strained

from prosumer_gym.baselines.day_ahead import DayStart, Scenarios, plan_of, solve_core, solve_matrices
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.peak import PeakPrice, build_with_peak
from prosumer_gym.baselines.recourse import solve_recourse
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError

STARTS = [None, 0, 3]
REGULARISER = 1e-3
FREE = PeakPrice(0.0)
NOW = ("battery_kw", "shiftable_kw", "curtail_kw", "trade_kw")

cp: Any = cvxpy  # its functions are not visible to type checkers
Problem = tuple[Community, DayStart, Scenarios]


def problem(
    seed: int, num_scenarios: int, start: int | None, *, mechanism: str = "bilateral", negative: bool = False
) -> Problem:
    rng = np.random.default_rng(seed)
    community = strained(random_community(rng, mechanism=mechanism))
    return community, *random_case(rng, community, num_scenarios, start_hour=start, negative=negative)


def network_of(stage: Problem) -> NetworkPenalty:
    return penalty(stage[0], stage[0].hours_per_day - stage[1].start_hour)


def only(scenarios: Scenarios, s: int) -> Scenarios:
    one = slice(s, s + 1)
    return Scenarios(scenarios.load_kw[one], scenarios.pv_kw[one], scenarios.price_rt_ct_per_kwh[one], np.ones(1))


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("start", STARTS)
def test_the_optimum_is_that_of_the_equations(start: int | None, mechanism: str) -> None:
    community, day, scenarios = stage = problem(1, 3, start, mechanism=mechanism, negative=True)
    # Some have much to sell to the others, so that trades are decided.
    scenarios = replace(scenarios, pv_kw=scenarios.pv_kw * np.array([4.0, 1.0, 0.2]))
    stage = (community, day, scenarios)
    network = network_of(stage)
    at_gate = start is None
    parts = [
        reference_problem(
            community, day, only(scenarios, s), regulariser=REGULARISER, foresight=at_gate, network=network
        )
        for s in range(3)
    ]
    tied = []
    for part in parts[1:]:
        for name in ("position_kw",) if at_gate else ("charge_kw", "discharge_kw", "shiftable_kw", "trade_kw"):
            one, other = getattr(parts[0], name), getattr(part, name)
            tied.append(one == other if at_gate else one[0] == other[0])
        if not at_gate:
            tied.append(parts[0].curtail_kw[0] == part.curtail_kw[0])
    value = sum(w * part.problem.objective.args[0] for w, part in zip(scenarios.weights, parts, strict=True))
    rows = [row for part in parts for row in part.problem.constraints]
    whole = cp.Problem(cp.Minimize(value), rows + tied)
    whole.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    plan = solve_recourse(*stage, peak=FREE, network=network, regulariser=REGULARISER, tolerance=1e-8)
    assert plan.objective_ct == pytest.approx(whole.value, rel=1e-6)
    assert plan.lower_bound_ct == pytest.approx(plan.objective_ct, rel=1e-6)


@pytest.mark.parametrize("start", STARTS)
def test_scenarios_that_are_alike_are_one(start: int | None) -> None:
    community, day, scenarios = problem(2, 3, start, negative=True)
    one, peak = only(scenarios, 1), PeakPrice(40.0, 5.0 if start else 0.0)
    alike = Scenarios(
        *(np.repeat(values, 4, axis=0) for values in (one.load_kw, one.pv_kw, one.price_rt_ct_per_kwh)),
        weights=np.array([0.1, 0.2, 0.3, 0.4]),
    )
    network = network_of((community, day, scenarios))
    matrices = build_with_peak(
        community, day, one, peak, regulariser=REGULARISER, foresight=start is None, network=network
    )
    core = plan_of(community, day, matrices, solve_matrices(matrices))
    for told in (one, alike):
        plan = solve_recourse(community, day, told, peak=peak, network=network, regulariser=REGULARISER)
        assert plan.objective_ct == pytest.approx(core.objective_ct, rel=1e-6)
        np.testing.assert_allclose(plan.position_kw, core.position_kw, atol=2e-2)
        for name in NOW:
            np.testing.assert_allclose(getattr(plan, name), getattr(core, name), atol=2e-2)


@pytest.mark.parametrize("start", STARTS)
def test_recourse_is_worth_something_and_knowing_is_worth_more(start: int | None) -> None:
    community, day, scenarios = problem(3, 4, start)
    # What may be sold to neighbours is promised on the expected PV without recourse, on the actual PV with it.
    scenarios = replace(scenarios, pv_kw=np.repeat(scenarios.pv_kw[:1], 4, axis=0))
    with_recourse = solve_recourse(community, day, scenarios, peak=FREE).objective_ct
    without = solve_core(community, day, scenarios).objective_ct
    knowing = sum(
        w * solve_recourse(community, day, only(scenarios, s), peak=FREE).objective_ct
        for s, w in enumerate(scenarios.weights)
    )
    slack_ct = 1e-5 * abs(without)
    assert knowing <= with_recourse + slack_ct
    assert with_recourse <= without + slack_ct
    assert without - knowing > 100.0 * slack_ct, "the scenarios do not differ enough to tell"
    assert with_recourse < without - slack_ct


@pytest.mark.parametrize("start", [0, 3])
def test_in_real_time_the_hour_is_decided_whatever_comes(start: int) -> None:
    """What differs later makes no difference now where it has no weight, and the plan of the hour can be played."""
    community, day, scenarios = problem(4, 3, start)
    weights = np.array([0.5, 0.0, 0.5])
    kept = Scenarios(
        scenarios.load_kw[::2], scenarios.pv_kw[::2], scenarios.price_rt_ct_per_kwh[::2], np.array([0.5, 0.5])
    )
    plan = solve_recourse(community, day, replace(scenarios, weights=weights), peak=PeakPrice(20.0))
    same = solve_recourse(community, day, kept, peak=PeakPrice(20.0))
    assert plan.objective_ct == same.objective_ct
    fleet, dt_h = community.fleet, community.dt_h
    stored = fleet.charge_efficiency * np.maximum(plan.battery_kw[0], 0.0)
    taken = np.maximum(-plan.battery_kw[0], 0.0) / fleet.discharge_efficiency
    soc = day.soc_kwh + dt_h * (stored - taken)
    assert np.all(soc >= fleet.soc_min_kwh - 1e-4)
    assert np.all(soc <= fleet.soc_max_kwh + 1e-4)
    assert np.all(np.abs(plan.trade_kw[0]) <= community.graph.limit_kw + 1e-6)


def test_each_prosumers_own_weights_are_refused() -> None:
    community, day, scenarios = problem(5, 3, None)
    own = np.broadcast_to(scenarios.weights, (community.num_prosumers, 3))
    with pytest.raises(UsageError, match="weights must be the same for all prosumers"):
        solve_recourse(community, day, replace(scenarios, weights=own), peak=FREE)
