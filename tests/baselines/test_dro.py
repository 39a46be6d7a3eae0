"""The distributionally robust day: the fast form is the model, and robustness costs what it must.

Axes: N prosumers, S scenarios, D sampled deviations, h remaining hours.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from core_cases import FORMS, random_case, random_community
from support_leakage import assert_no_leak
from support_policies import play, small_community, small_days

from prosumer_gym.baselines.day_ahead import solve_core
from prosumer_gym.baselines.dro import RADII, DistributionallyRobust, choose_radius
from prosumer_gym.baselines.dro_program import Deviations, Robustness, RobustPlan, solve_dro
from prosumer_gym.baselines.dro_reference import dro_reference
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import DayStart, Scenarios, evaluate
from prosumer_gym.baselines.po import PredictThenOptimise
from prosumer_gym.baselines.policy import MODES
from prosumer_gym.baselines.registry import tunable_class
from prosumer_gym.baselines.wasserstein import support_of, worst_case_cvar
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError

NOMINAL_KW = 50.0
Problem = tuple[Community, DayStart, Scenarios, Deviations]


def problem(
    seed: int,
    *,
    num: int = 2,
    hours: int = 4,
    scenarios: int = 4,
    samples: int = 6,
    start_hour: int | None = None,
    negative: bool = False,
    own_weights: bool = False,
    mechanism: str = "bilateral",
) -> Problem:
    """Random days; the sampled deviations are the scenarios' and some more."""
    rng = np.random.default_rng(seed)
    community = random_community(rng, num=num, hours=hours, edges=num > 1, mechanism=mechanism)
    start, cases = random_case(
        rng, community, scenarios, start_hour=start_hour, negative=negative, own_weights=own_weights
    )
    net_kw = cases.load_kw - cases.pv_kw
    expected_kw = np.einsum("ns,shn->hn", cases.weights_by_prosumer, net_kw) + rng.normal(0, 0.5, net_kw.shape[1:])
    more = net_kw[rng.integers(0, scenarios, samples)] + rng.normal(0, 2.0, (samples, *net_kw.shape[1:]))
    if start_hour is not None:
        more[:, 0] = net_kw[0, 0]
    sampled = (np.concatenate([net_kw, more]) - expected_kw) / NOMINAL_KW
    low, high = support_of(sampled)
    return community, start, cases, Deviations(np.full(num, NOMINAL_KW), expected_kw, sampled, low, high)


def robustness(rho: float = 0.01, level: float = 0.1, band_kw: float = 8.0, **changes: Any) -> Robustness:
    return replace(Robustness(rho, rho, level, np.full(2, band_kw)), **changes)


def cost(case: Problem, asked: Robustness) -> float:
    return solve_dro(*case, asked, tolerance=1e-9).plan.objective_ct


def reference_value(case: Problem, asked: Robustness, **how: Any) -> Any:
    reference = dro_reference(*case, asked, regulariser=1e-3, **how)
    reference.problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert reference.problem.status == "optimal"
    return reference


CASES = [
    # seed, hours, scenarios, start hour, negative prices, own weights, rho, norm, surplus limit kW
    (0, 4, 4, None, False, False, 0.0, 1, None),
    (1, 4, 4, None, True, True, 0.02, 2, None),
    (2, 3, 3, None, True, False, 0.3, np.inf, 3.0),
    (3, 3, 5, 0, True, True, 0.005, 1, None),
    (4, 6, 3, 2, False, False, 0.02, 2, None),
    (5, 4, 4, 3, True, False, 0.02, 1, None),
    (6, 4, 1, None, False, False, 0.001, 1, None),
]


@pytest.mark.parametrize(("case", "mechanism"), [*((case, FORMS[0]) for case in CASES), (CASES[1], FORMS[1])])
def test_fast_form_is_the_model(case: Any, mechanism: str) -> None:
    seed, hours, scenarios, start_hour, negative, own, rho, norm, surplus = case
    stage = problem(
        seed, hours=hours, scenarios=scenarios, start_hour=start_hour, negative=negative, own_weights=own,
        mechanism=mechanism,
    )  # fmt: skip
    asked = robustness(rho, surplus_kw=None if surplus is None else np.full(2, surplus))
    found = solve_dro(*stage, asked, tolerance=1e-9)
    reference = reference_value(stage, asked, norm=norm)
    assert found.plan.solver == "piqp"
    assert found.plan.objective_ct == pytest.approx(reference.problem.value, rel=1e-6)
    assert found.emergency_kw.sum() == pytest.approx(reference.emergency_kw.value.sum(), abs=1e-4)


def test_fast_form_has_the_model_s_plan() -> None:
    """With a minimum curved enough that solvers can tell plans apart."""
    stage, asked = problem(1), robustness()
    found = solve_dro(*stage, asked, regulariser=0.1, tolerance=1e-9)
    reference = dro_reference(*stage, asked, regulariser=0.1)
    reference.problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    np.testing.assert_allclose(found.plan.position_kw.T, reference.position_kw.value, atol=1e-4)
    np.testing.assert_allclose(found.plan.battery_kw, reference.battery_kw.value, atol=1e-4)
    rule = np.array([np.diag(Q.value) for Q in reference.rule]).T
    np.testing.assert_allclose(found.rule, rule, atol=1e-4)


def test_supply_withstands_kappa_where_the_rule_does_not_answer() -> None:
    stage = problem(2)
    community, deviations = stage[0], stage[3]
    asked = robustness(0.002)
    found = solve_dro(*stage, asked)
    kappa = worst_case_cvar(deviations.samples_pu, np.full(10, 1 / 10), deviations.high_pu, radius=0.002, level=0.1)
    np.testing.assert_allclose(found.kappa_pu, kappa)
    supply = supplied_kw(community, found)
    needed = deviations.expected_kw + NOMINAL_KW * (1 - found.rule) * kappa
    assert np.all(supply + found.emergency_kw >= needed - 1e-4)
    sampled_kw = deviations.expected_kw + NOMINAL_KW * deviations.samples_pu
    planned_kw = NOMINAL_KW * found.rule * deviations.samples_pu
    np.testing.assert_allclose(found.real_time_kw(sampled_kw), planned_kw, atol=1e-9)
    short = sampled_kw - supply - planned_kw - found.emergency_kw > 1e-4
    assert short.mean(axis=0).max() <= 0.1  # as many samples as the level allows
    largest = NOMINAL_KW * np.maximum(np.abs(deviations.low_pu), np.abs(deviations.high_pu))
    assert np.all(found.rule * largest <= 8.0 + 1e-5)
    assert (found.rule < 0.95).any()
    assert (found.rule > 0.05).any()


def supplied_kw(community: Community, found: RobustPlan) -> np.ndarray:
    """[h,N]."""
    plan, graph = found.plan, community.graph
    bought = np.zeros_like(plan.battery_kw)
    for e in range(community.num_edges):
        bought[:, graph.first[e]] += plan.trade_kw[:, e]
        bought[:, graph.second[e]] -= plan.trade_kw[:, e]
    return plan.position_kw.T + bought - plan.battery_kw - plan.shiftable_kw - plan.curtail_kw


@pytest.mark.parametrize("which", ["rho_obj", "rho_cc"])
@pytest.mark.parametrize("start_hour", [None, 1])
def test_cost_does_not_fall_with_either_radius_and_ends(which: str, start_hour: int | None) -> None:
    stage = problem(3, start_hour=start_hour)
    radii = (0.0, 1e-3, 0.01, 0.1, 1.0, 10.0)
    found = [cost(stage, robustness(0.0, **{which: rho})) for rho in radii]
    assert np.all(np.diff(found) >= -1e-6 * abs(found[0]))
    assert found[-1] > found[0] + 1.0
    assert found[-1] == pytest.approx(found[-2], rel=1e-6)  # the whole support is in reach


@pytest.mark.parametrize("rho", [0.0, 0.0005])
def test_cost_does_not_fall_as_fewer_violations_are_allowed_and_all_hours_together_cost_more(rho: float) -> None:
    stage = problem(4, samples=36)
    levels = (0.5, 0.2, 0.1, 0.1 / 4)  # the last: 0.1 for all four hours together, by Bonferroni
    found = [cost(stage, robustness(rho, level)) for level in levels]
    assert np.all(np.diff(found) >= -1e-6 * abs(found[0]))
    assert found[3] > found[2] + 0.1


def test_a_rule_costs_no_less_than_exact_recourse() -> None:
    """Positive prices, and a level that no sample may exceed: what the rule buys in plan is at least what is needed."""
    for seed in range(4):
        stage = problem(seed + 10)
        community, start, scenarios = stage[:3]
        exact = solve_core(community, start, scenarios).objective_ct
        for band_kw in (0.0, 5.0, np.inf):
            found = solve_dro(*stage, robustness(0.0, level=0.01, band_kw=band_kw))
            assert found.plan.objective_ct >= exact - 1e-4
            in_sample = evaluate(found.plan, community, start, scenarios).total_ct
            assert found.plan.objective_ct >= in_sample - 1e-3


def test_without_a_band_all_deviations_are_left_to_real_time_and_the_reliability_is_slack() -> None:
    stage = problem(5)
    wide = robustness(0.0, band_kw=np.inf)
    found = solve_dro(*stage, wide)
    assert found.rule.min() > 0.99
    assert cost(stage, replace(wide, rho_cc=0.1)) == pytest.approx(cost(stage, wide), rel=1e-7)


def test_a_sure_day_is_planned_as_by_po() -> None:
    """One scenario, without deviation: no rule, no doubt, the core problem."""
    rng = np.random.default_rng(6)
    community = random_community(rng, num=3, hours=6)
    community = replace(community, fleet=replace(community.fleet, position_limit_kw=np.full(3, 200.0)))
    start, scenarios = random_case(rng, community, 1)
    expected_kw = (scenarios.load_kw - scenarios.pv_kw)[0]
    none = np.zeros((1, *expected_kw.shape))
    sure = Deviations(np.full(3, NOMINAL_KW), expected_kw, none, none[0], none[0])
    found = solve_dro(community, start, scenarios, sure, Robustness(0.0, 0.0, 0.05, np.full(3, 8.0)), regulariser=0.1)
    po = solve_core(community, start, scenarios, regulariser=0.1)
    assert found.plan.objective_ct == pytest.approx(po.objective_ct, rel=1e-7)
    np.testing.assert_allclose(found.plan.position_kw, po.position_kw, atol=1e-3)
    np.testing.assert_allclose(found.plan.battery_kw, po.battery_kw, atol=1e-3)
    np.testing.assert_array_equal(found.rule, 0.0)


def test_exact_recourse_without_a_support_adds_a_constant_whatever_the_radius() -> None:
    """Why there is a rule: the worst case over all of space costs the radius times the dearest price, plan or no plan.

    For a known price the recourse of one hour is max(c+ (r - x), c- (r - x)): its steepest slope does not depend on x.
    """
    import cvxpy as cp

    from prosumer_gym.baselines.wasserstein_reference import Ball, Polytope, worst_case_expectation

    rng = np.random.default_rng(7)
    r = rng.normal(5.0, 2.0, (15, 2))
    free = Polytope.box(np.full(2, -np.inf), np.full(2, np.inf))
    box = Polytope.box(*support_of(r))
    buy, sell, ahead = 12.0, 4.0, 7.0

    def decided(radius: float, support: Polytope) -> tuple[np.ndarray, float]:
        x, total, rows = cp.Variable(2), 0.0, []
        for h in range(2):
            ball = Ball(r, np.full(15, 1 / 15), radius, support, 1)
            e = np.eye(2)[h]
            worst, more = worst_case_expectation(ball, [buy * e, sell * e], [-buy * x[h], -sell * x[h]])
            total, rows = total + ahead * x[h] + worst, rows + more
        problem = cp.Problem(cp.Minimize(total + 1e-3 * cp.sum_squares(x)), rows)
        problem.solve(solver="CLARABEL")
        return np.array(x.value), float(problem.value)

    base, value = decided(0.0, free)
    for radius in (0.1, 1.0):
        found, worse = decided(radius, free)
        np.testing.assert_allclose(found, base, atol=1e-3)
        assert worse == pytest.approx(value + 2 * buy * radius, rel=1e-5)
    assert np.abs(decided(1.0, box)[0] - base).max() > 0.1  # a bounded support changes decisions


def test_a_full_rule_answers_only_what_has_been_seen_and_costs_no_more() -> None:
    stage = problem(8, hours=3, samples=0)
    found = []
    for rho, norm in ((0.0, 1), (0.003, 1), (0.003, 2), (0.003, np.inf)):
        asked = robustness(0.0, rho_cc=rho)
        full = reference_value(stage, asked, full_rule=True, norm=norm)
        found.append(full.problem.value)
        for Q in full.rule:
            np.testing.assert_allclose(np.triu(Q.value, 1), 0.0, atol=1e-9)
        if rho == 0.0:  # it does answer earlier hours, as these few samples let it
            assert max(np.abs(np.tril(Q.value, -1)).max() for Q in full.rule) > 0.01
        assert full.problem.value <= cost(stage, asked) + 1e-6
    # The ball grows with the radius, and with the norm that calls the same step shorter.
    assert np.all(np.diff(found) >= -1e-6)


def test_where_reliability_cannot_be_had_the_emergency_is_priced_and_told() -> None:
    community, start, scenarios, deviations = problem(9)
    weak = replace(community, fleet=replace(community.fleet, position_limit_kw=np.full(2, 1.0)))
    found = solve_dro(weak, start, scenarios, deviations, robustness(0.01, band_kw=1.0))
    assert found.emergency_kw.max() > 1.0
    prices = weak.tariff.settlement_prices(start.price_da_ct_per_kwh, scenarios.price_rt_ct_per_kwh)
    paid = 10.0 * weak.dt_h * prices.rt_buy.max() * found.emergency_kw.sum()
    assert found.plan.objective_ct > paid - 1e4
    enough = solve_dro(community, start, scenarios, deviations, robustness(0.01, band_kw=np.inf))
    assert enough.emergency_kw.max() < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rho_obj": -1e-3}, "rho_obj -0.001: a radius"),
        ({"rho_cc": float("nan")}, "rho_cc nan: a radius"),
        ({"level": 0.0}, "eps 0.0: the share of violations"),
        ({"level": 1.0}, "eps 1.0: the share of violations"),
        ({"band_kw": np.full(2, -1.0)}, "band_kw"),
    ],
)
def test_what_cannot_be_withstood_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        robustness(**changes)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rho_obj": -0.1}, "rho_obj -0.1"), ({"rho_cc": -0.1}, "rho_cc -0.1"), ({"eps": 0.0}, "eps 0.0"),
        ({"eps": 1.5}, "eps 1.5"), ({"band_pu": -1.0}, "band_pu -1.0"),
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DistributionallyRobust(**parameters)


# The policy


@cache
def fitted(mode: str = "open_loop", **parameters: Any) -> DistributionallyRobust:
    policy = DistributionallyRobust(mode, **parameters)
    policy.fit(small_community(), small_days().training_history())
    return policy


def test_the_radius_is_the_smallest_that_holds_on_days_left_out() -> None:
    rng = np.random.default_rng(0)
    deviations, fold = rng.normal(0.0, 0.1, (300, 6, 2)), np.arange(300) % 5

    def violated(radius: float, individual: bool, eps: float) -> float:
        shares = []
        for k in range(5):
            known, new = deviations[fold != k], deviations[fold == k]
            level = eps if individual else eps / 6
            kappa = worst_case_cvar(known, np.full(240, 1 / 240), support_of(known)[1], radius=radius, level=level)
            shares.append(new > kappa)
        all_ = np.concatenate(shares)
        return float(all_.mean(axis=(0, 2)).max() if individual else all_.any(axis=1).mean())

    chosen = set()
    for individual in (False, True):
        for eps in (0.3, 0.1, 0.05, 0.02):
            found = choose_radius(deviations, fold, eps=eps, individual=individual)
            chosen.add(found)
            place = RADII.index(found)
            assert violated(found, individual, eps) <= eps
            assert all(violated(radius, individual, eps) > eps for radius in RADII[:place])
    assert len(chosen) > 1
    heavy = deviations.copy()
    heavy[:, 0, 0] = 10.0 ** np.arange(300)  # whatever the radius, the days to come are beyond
    assert choose_radius(heavy, np.arange(300) // 60, eps=0.01, individual=False) == RADII[-1]


def test_the_policy_takes_the_forecast_and_the_errors_of_all_training_days() -> None:
    policy = fitted()
    obs = play(policy, small_community(), small_days(), int(small_days().days("dev")[3]))[0]
    scenarios = policy.scenarios(obs[0])
    assert len(scenarios.load_kw) == 36
    po = PredictThenOptimise("open_loop")
    po.fit(small_community(), small_days().training_history())
    forecast = po.scenarios(obs[0])
    deviations = policy.deviations(obs[0], scenarios)
    np.testing.assert_allclose(deviations.expected_kw, (forecast.load_kw - forecast.pv_kw)[0], atol=1e-9)
    net_kw = deviations.expected_kw + deviations.nominal_kw * deviations.high_pu
    assert np.all(net_kw <= support_of(scenarios.load_kw)[1] + 1e-9)  # no more than all load and no sun
    lowest_kw = deviations.expected_kw + deviations.nominal_kw * deviations.low_pu
    assert np.all(lowest_kw <= net(scenarios).min(axis=0) + 1e-9)
    # Of loads of which one was zero, nothing less is possible where there is no sun.
    dark = replace(scenarios, load_kw=scenarios.load_kw.copy(), pv_kw=np.zeros_like(scenarios.pv_kw))
    dark.load_kw[0] = 0.0
    at_night = policy.deviations(obs[0], dark)
    lowest_kw = at_night.expected_kw + at_night.nominal_kw * at_night.low_pu
    np.testing.assert_allclose(lowest_kw[0], 0.0, atol=1e-9)
    assert lowest_kw[4].max() < -0.1  # at noon there may be sun
    later = policy.deviations(obs[6], policy.scenarios(obs[6]))
    np.testing.assert_allclose(later.expected_kw, deviations.expected_kw[5:], atol=1e-9)  # still the gate's


def net(scenarios: Scenarios) -> np.ndarray:
    return scenarios.load_kw - scenarios.pv_kw


def test_in_real_time_the_rule_answers_what_deviates_from_the_gate() -> None:
    """The hours to come are supplied for the gate's forecast and the part of the deviation that the rule leaves."""
    policy = fitted("mpc", band_pu=0.05)
    obs = play(policy, small_community(), small_days(), int(small_days().days("dev")[3]))[0][4]
    policy.dispatch(obs)
    found = policy.diagnostics["robust_plan"]
    assert found.rule.shape == found.kappa_pu.shape == (5, 2)
    np.testing.assert_array_equal(found.rule[0], 0.0)  # the observed hour has none
    supply = supplied_kw(policy.community, found)
    needed = found.expected_kw + (1 - found.rule) * found.kappa_pu * 50.0 - found.emergency_kw
    assert np.all(supply[1:] >= needed[1:] - 1e-4)


def test_diagnostics_tell_of_the_emergency() -> None:
    days, community = small_days(), small_community()
    row = int(days.days("dev")[3])
    policy = fitted()
    obs = play(policy, community, days, row)[0][0]
    policy.plan(obs)
    assert policy.diagnostics["emergency_hours"] == 0
    fleet = replace(community.fleet, position_limit_kw=np.full(2, 0.5), battery_power_kw=np.full(2, 0.5))
    weak = replace(community, fleet=fleet)
    short = DistributionallyRobust("open_loop", band_pu=0.01)
    short.fit(weak, days.training_history())
    short.plan(obs)
    assert short.diagnostics["emergency_hours"] > 0
    assert short.diagnostics["emergency_kwh"] > 0.1


def test_the_permuted_control_has_other_errors_and_the_levels_are_those_of_the_paper() -> None:
    honest, control, alone = fitted(), fitted(permuted=True), fitted(individual=True)
    assert np.abs(honest.forecaster.errors - control.forecaster.errors).max() > 0
    assert honest.level == pytest.approx(0.05 / 8)
    assert alone.level == 0.05


def test_parameters_come_as_asked_for_or_by_default() -> None:
    history = small_days().training_history()
    assert DistributionallyRobust().tuned_settings(history) == {
        "rho_obj": 0.0, "band_pu": 1.0, "parameters": "default",
    }  # fmt: skip
    asked = DistributionallyRobust(rho_obj=0.1, band_pu=0.2).tuned_settings(history)
    assert asked == {"rho_obj": 0.1, "band_pu": 0.2, "parameters": "as asked for"}
    assert DistributionallyRobust(rho_cc=0.125).eps == 0.05
    assert fitted(rho_cc=0.125).rho_cc == 0.125
    assert fitted().rho_cc in RADII


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("parameters", [{}, {"permuted": True, "rho_obj": 1e-3, "band_pu": 0.05}])
def test_what_happens_later_changes_no_action(mode: str, parameters: dict[str, Any]) -> None:
    assert_no_leak(lambda: DistributionallyRobust(mode, **parameters), small_days(), small_community(), split="dev")


def test_priced_voltages_are_part_of_the_plan() -> None:
    for start_hour in (None, 1):
        stage = problem(12, start_hour=start_hour)
        community, _, scenarios, _ = stage
        penalty = NetworkPenalty.lindistflow(
            community, np.ones(len(scenarios.load_kw[0])), price_ct_per_pu_h=1e7, margin_pu=0.04
        )  # fmt: skip

        def excess_pu(found: RobustPlan, scenarios: Scenarios = scenarios, penalty: Any = penalty) -> float:
            plan = found.plan
            drawn_kw = net(scenarios).mean(axis=0) + plan.battery_kw + plan.shiftable_kw + plan.curtail_kw
            return float(penalty.excess_pu(drawn_kw, scenarios.mean_load_kw + plan.shiftable_kw).sum())

        even = replace(scenarios, weights=np.full(len(scenarios.load_kw), 1 / len(scenarios.load_kw)))
        stage = (stage[0], stage[1], even, stage[3])
        free, priced = solve_dro(*stage, robustness()), solve_dro(*stage, robustness(), network=penalty)
        assert excess_pu(priced, even) < excess_pu(free, even) - 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_with_the_network_option_the_feeder_is_asked(mode: str) -> None:
    days, community = small_days(), small_community()
    row = int(days.days("dev")[3])
    policy = DistributionallyRobust(mode, network=True)
    policy.fit(community, days.training_history())
    policy.network_margin_pu = 0.049  # the limits are within reach of two prosumers next to the substation
    policy.network_price_ct_per_pu_h = 1e8
    _, priced, _ = play(policy, community, days, row)
    _, free, _ = play(fitted(mode), community, days, row)
    assert any(np.abs(one["battery"] - other["battery"]).max() > 1e-3 for one, other in zip(priced, free, strict=True))


def test_every_candidate_of_tuning_can_be_asked_for() -> None:
    assert tunable_class("dro") is DistributionallyRobust
    grid = DistributionallyRobust.candidates(30)
    assert DistributionallyRobust.default_for(small_days().training_history()) in grid
    days = small_days()
    obs = play(fitted(), small_community(), days, int(days.days("dev")[3]))[0][0]
    for parameters in grid[:: len(grid) - 1]:
        policy = fitted(**parameters)
        assert {"rho_obj": policy.rho_obj, "band_pu": policy.band_pu} == parameters
        assert np.isfinite(policy.day_plan(obs).objective_ct)
