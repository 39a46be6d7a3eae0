"""A plan that knows the feeder: its linear model is the feeder, its price works as prices do.

Axes: N prosumers, K buses, H hours of a day, S scenarios, h remaining hours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cvxpy
import numpy as np
import pytest
from core_cases import FORMS, random_case, random_community, random_days
from network_cases import penalty, strained
from support import tiny_dataset
from support_leakage import assert_no_leak

from prosumer_gym.actions import DayActions
from prosumer_gym.baselines.core_matrices import build_core
from prosumer_gym.baselines.day_ahead import (
    REGULARISER_CT_PER_KW2,
    DayStart,
    Scenarios,
    plan_of,
    solve_core,
    solve_matrices,
)
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.network import MARGIN_PU, PRICE_CT_PER_PU_H, NetworkPenalty, VoltageSide, ac_voltages
from prosumer_gym.baselines.policy import MODES
from prosumer_gym.baselines.registry import make_policy
from prosumer_gym.baselines.scenario_policy import expected_passive_pu
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.entries import parameters
from prosumer_gym.rollout import rollout
from prosumer_gym.scenarios import make_scenario

CASES = [
    # seed, N, H, S, start hour (None: day-ahead), negative prices, each prosumer's own weights
    (0, 3, 6, 1, None, False, False),
    (1, 3, 6, 3, None, True, True),
    (2, 4, 8, 5, None, False, True),
    (3, 1, 4, 3, None, True, False),
    (4, 3, 6, 1, 0, True, False),
    (5, 4, 8, 5, 0, False, True),
    (6, 3, 6, 4, 2, True, True),
    (7, 4, 6, 3, 3, False, False),
    (8, 2, 4, 4, 3, True, False),
    (9, 3, 6, 4, 1, False, True),
]

Problem = tuple[Community, DayStart, Scenarios, NetworkPenalty]


def problem(
    seed: int, num: int, hours: int, scenarios: int, start: int | None, negative: bool, own: bool,
    mechanism: str = "bilateral", price: float = 2e4,
) -> Problem:  # fmt: skip
    rng = np.random.default_rng(seed)
    community = strained(random_community(rng, num=num, hours=hours, mechanism=mechanism, edges=num > 1))
    day, future = random_case(rng, community, scenarios, start_hour=start, negative=negative, own_weights=own)
    future = replace(future, pv_kw=3.0 * future.pv_kw)  # enough to lift the voltages at noon
    return community, day, future, penalty(community, hours - (start or 0), price=price)


def solved_reference(stage: Problem, regulariser: float, *, foresight: bool = False) -> Any:
    community, start, scenarios, network = stage
    reference = reference_problem(
        community, start, scenarios, regulariser=regulariser, foresight=foresight, network=network
    )
    reference.problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    assert reference.problem.status == "optimal"
    return reference


# The plan


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_fast_form_is_the_model(case: tuple, mechanism: str) -> None:  # type: ignore[type-arg]
    community, start, scenarios, network = stage = problem(*case, mechanism)
    plan = solve_core(community, start, scenarios, network=network, tolerance=1e-9)
    assert plan.objective_ct == pytest.approx(solved_reference(stage, REGULARISER_CT_PER_KW2).problem.value, rel=1e-6)
    assert plan.lower_bound_ct == pytest.approx(plan.objective_ct, rel=1e-7)


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_fast_form_has_the_model_s_plan(case: tuple, mechanism: str) -> None:  # type: ignore[type-arg]
    community, start, scenarios, network = stage = problem(*case, mechanism)
    plan = solve_core(community, start, scenarios, regulariser=0.1, network=network, tolerance=1e-9)
    reference = solved_reference(stage, 0.1)
    for ours, theirs in (
        (plan.position_kw.T, reference.position_kw),
        (plan.shiftable_kw, reference.shiftable_kw),
        (plan.trade_kw, reference.trade_kw),
    ):
        np.testing.assert_allclose(ours, theirs.value, atol=2e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_known_day_is_that_of_the_model(seed: int) -> None:
    """Where voltages are too high PV is curtailed, though surplus has a price."""
    stage = problem(seed, 4, 8, 1, None, False, False)
    community, start, scenarios, network = stage
    matrices = build_core(community, start, scenarios, regulariser=0.0, foresight=True, network=network)
    plan = plan_of(community, start, matrices, solve_matrices(matrices, tolerance=1e-9))
    reference = solved_reference(stage, 0.0, foresight=True)
    assert plan.objective_ct == pytest.approx(reference.problem.value, rel=1e-6)
    assert plan.curtail_kw.max() > 1.0


def test_the_cases_strain_the_feeder_on_both_sides() -> None:
    """What the comparisons with the model are worth: excess on both sides, rows left out, and PV curtailed for it."""
    low = high = later = 0
    for case in CASES:
        community, start, scenarios, network = problem(*case)
        plan = solve_core(community, start, scenarios, network=network)
        blind = solve_core(community, start, scenarios)
        load_kw, pv_kw = scenarios.mean_load_kw, scenarios.mean_pv_kw
        guarded = network.can_be_exceeded(community.fleet, load_kw, pv_kw)
        assert not guarded.all()
        drawn_kw = load_kw - pv_kw + blind.battery_kw + blind.shiftable_kw + blind.curtail_kw
        beyond = [side.beyond_pu(drawn_kw, load_kw + blind.shiftable_kw) for side in network.sides]
        low, high = low + int((beyond[0] > 0).any()), high + int((beyond[1] > 0).any())
        assert plan.voltage_excess_pu_h <= community.dt_h * network.excess_pu(
            drawn_kw, load_kw + blind.shiftable_kw
        ).sum() + 1e-9  # fmt: skip
        matrices = build_core(community, start, scenarios, regulariser=1e-3, network=network)
        later += int((matrices.columns.curtail_later >= 0).any())
    assert low >= 3
    assert high >= 3
    assert later >= 3


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("case", [CASES[2], CASES[5], CASES[7]])
def test_a_higher_price_buys_less_excess_for_more_money(case: tuple, mechanism: str) -> None:  # type: ignore[type-arg]
    excess, cost = [], []
    for price in (0.0, 1e2, 1e3, 3e3, 1e4, 3e4, 1e5, 1e6):
        community, start, scenarios, network = problem(*case, mechanism, price)
        plan = solve_core(community, start, scenarios, network=network, tolerance=1e-9)
        if price > 0:
            excess.append(plan.voltage_excess_pu_h)
        cost.append(plan.objective_ct - price * plan.voltage_excess_pu_h)
    assert np.all(np.diff(excess) <= 1e-8)
    assert np.all(np.diff(cost) >= -1e-6 * np.abs(cost[1:]))
    assert excess[-1] < 0.7 * excess[0]
    assert cost[-1] > cost[0] + 10.0


@pytest.mark.parametrize("case", [CASES[1], CASES[6]])
def test_for_nothing_it_is_no_option_to_the_bit(case: tuple) -> None:  # type: ignore[type-arg]
    community, start, scenarios, network = problem(*case, price=0.0)
    ours, blind = (
        build_core(community, start, scenarios, regulariser=1e-3, network=which) for which in (network, None)
    )
    for name in ("P", "A", "G"):
        assert (getattr(ours, name) != getattr(blind, name)).nnz == 0
    for name in ("c", "b", "h", "lb", "ub"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(blind, name))
    plan, other = (solve_core(community, start, scenarios, network=which) for which in (network, None))
    np.testing.assert_array_equal(plan.battery_kw, other.battery_kw)
    assert plan.objective_ct == other.objective_ct
    assert plan.voltage_excess_pu_h == other.voltage_excess_pu_h == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_a_limit_without_a_row_cannot_be_exceeded(seed: int) -> None:
    """Whatever the devices do; and the rows are not all there are."""
    community, _, scenarios, network = problem(seed, 4, 8, 3, None, False, True)
    rng, fleet = np.random.default_rng(seed), community.fleet
    load_kw, pv_kw = scenarios.mean_load_kw, scenarios.mean_pv_kw
    guarded = network.can_be_exceeded(fleet, load_kw, pv_kw)
    assert guarded.any()
    for _ in range(300):
        corner = rng.integers(2, size=(3, *load_kw.shape)) if rng.integers(2) else rng.integers(2, size=(3, 1, 1))
        battery_kw = (2.0 * corner[0] - 1.0) * fleet.battery_power_kw
        shiftable_kw, curtail_kw = corner[1] * fleet.shiftable_power_kw, corner[2] * pv_kw
        drawn_kw = load_kw - pv_kw + battery_kw + shiftable_kw + curtail_kw
        for side, has_row in zip(network.sides, guarded, strict=True):
            assert np.all(side.beyond_pu(drawn_kw, load_kw + shiftable_kw)[~has_row] <= 0.0)


# The linear model


def test_the_ac_voltages_are_the_environment_s() -> None:
    """Units, reactive power and passive load as the simulator has them."""
    rng = np.random.default_rng(1)
    community = strained(random_community(rng, num=4, hours=6))
    days = random_days(rng, community, 3)
    N, H = 4, 6
    actions = DayActions.stack([
        DayActions(
            position_kw=np.zeros((N, H)), battery_kw=rng.uniform(-9, 9, (H, N)),
            shiftable_kw=rng.uniform(0, 9, (H, N)), curtail_kw=rng.uniform(0, 5, (H, N)),
            offers=np.zeros((H, community.num_offers)),
        )
        for _ in range(3)
    ])  # fmt: skip
    trace = rollout(community, days, np.arange(3), actions)
    for d in range(3):
        consumption_kw = days.load_kw[d] + trace.shiftable_kw[d]
        v_pu, converged = ac_voltages(community, days.passive_pu[d], trace.net_import_kw[d], consumption_kw)
        assert converged.all()
        np.testing.assert_allclose(v_pu, trace.v_pu[d], atol=1e-9)


@pytest.mark.parametrize("scenario", ["ieee33", "ieee33-high-pv", "case69"])
def test_excess_is_that_of_the_ac_power_flow_within_the_margin(scenario: str) -> None:
    """Around the limits, from half to full passive load."""
    community = make_scenario(scenario)
    rng = np.random.default_rng(0)
    passive_pu = np.linspace(0.3, 0.6, 24)
    drawn_kw, consumption_kw = rng.uniform(-10, 15, (24, 10)), rng.uniform(0, 15, (24, 10))
    v_pu, _ = ac_voltages(community, passive_pu, drawn_kw, consumption_kw)
    network = NetworkPenalty.lindistflow(community, passive_pu, price_ct_per_pu_h=1.0, margin_pu=0.0)
    feeder = community.feeder
    num_near = 0
    for side, exact in zip(network.sides, (feeder.v_min_pu - v_pu, v_pu - feeder.v_max_pu), strict=True):
        near = np.abs(exact) < 0.03
        num_near += near.sum()
        assert np.abs(side.beyond_pu(drawn_kw, consumption_kw) - exact)[near].max(initial=0.0) < 0.003
    assert num_near > 100


def test_with_no_load_at_all_every_bus_has_the_substation_s_voltage() -> None:
    community = make_scenario("ieee33-high-pv")  # 1.03 p.u.
    network = NetworkPenalty.lindistflow(community, np.zeros(2), price_ct_per_pu_h=1.0, margin_pu=0.0)
    nothing = np.zeros((2, 10))
    np.testing.assert_allclose(network.sides[1].beyond_pu(nothing, nothing), (1.03**2 - 1.05**2) / 2.1, rtol=1e-12)
    np.testing.assert_allclose(network.sides[0].beyond_pu(nothing, nothing), (0.95**2 - 1.03**2) / 1.9, rtol=1e-12)
    v_pu, _ = ac_voltages(community, np.zeros(2), nothing, nothing)
    np.testing.assert_array_equal(v_pu, 1.03)


def test_sensitivities_are_those_of_the_ac_power_flow_within_a_tenth() -> None:
    """At the limits, where a square stands for a voltage; for active power and for the reactive that goes with it."""
    community = make_scenario("ieee33").replace(fleet=replace(make_scenario("ieee33").fleet, units=np.full(10, 2)))
    passive_pu, load_kw = np.array([0.55]), np.full((1, 10), 3.0)
    tangent = NetworkPenalty.tangent(community, passive_pu, load_kw, load_kw, price_ct_per_pu_h=1.0, margin_pu=0.0)
    linear = NetworkPenalty.lindistflow(community, passive_pu, price_ct_per_pu_h=1.0, margin_pu=0.0)
    for name in ("per_import", "per_consumption"):
        ours, exact = getattr(linear.sides[0], name)[0], getattr(tangent.sides[0], name)[0]
        np.testing.assert_allclose(ours, exact, atol=0.1 * exact.max())
    # 0.0069 p.u. per 100 kW at bus 17, for the lower limit; two units count twice
    assert linear.sides[0].per_import[0, 17, 5] == pytest.approx(2 * 0.0069 / 100 / 0.95, rel=0.01)


def test_units_at_a_node_are_as_many_prosumers_there() -> None:
    rng = np.random.default_rng(3)
    one = random_community(rng, num=1, hours=4, edges=False)
    three = one.replace(fleet=replace(one.fleet, units=np.array([3]), bus=np.array([17])))
    apart = random_community(rng, num=3, hours=4, edges=False)
    apart = apart.replace(fleet=replace(apart.fleet, bus=np.full(3, 17)))
    drawn_kw, consumption_kw = rng.uniform(-20, 20, (4, 1)), rng.uniform(0, 20, (4, 1))
    for side in (0, 1):
        together, each = (
            penalty(community, 4).sides[side].beyond_pu(np.tile(drawn_kw, num), np.tile(consumption_kw, num))
            for community, num in ((three, 1), (apart, 3))
        )
        np.testing.assert_allclose(together, each, rtol=1e-12)
    both = (ac_voltages(c, np.full(4, 0.4), np.tile(drawn_kw, n), np.tile(consumption_kw, n))[0] for c, n in
            ((three, 1), (apart, 3)))  # fmt: skip
    np.testing.assert_allclose(next(both), next(both), atol=1e-12)


def test_a_margin_draws_both_limits_in() -> None:
    community = make_scenario("ieee33")
    wide, tight = (
        NetworkPenalty.lindistflow(community, np.array([0.5]), price_ct_per_pu_h=1.0, margin_pu=margin)
        for margin in (0.0, 0.004)
    )
    at_limit = np.zeros((1, 10))
    for ours, theirs in zip(tight.sides, wide.sides, strict=True):
        change = ours.beyond_pu(at_limit, at_limit) - theirs.beyond_pu(at_limit, at_limit)
        np.testing.assert_allclose(change, 0.004, atol=6e-4)  # half the square of the distance changes too


def test_a_tangent_touches() -> None:
    """Right where it was taken, and off by the square of the distance from there."""
    community = strained(random_community(np.random.default_rng(5), num=4, hours=6))
    rng = np.random.default_rng(6)
    passive_pu = np.full(6, 0.45)
    drawn_kw, consumption_kw = rng.uniform(-20, 20, (6, 4)), rng.uniform(0, 20, (6, 4))
    tangent = NetworkPenalty.tangent(
        community, passive_pu, drawn_kw, consumption_kw, price_ct_per_pu_h=1.0, margin_pu=0.001
    )
    step, way = rng.normal(0, 10, (6, 4)), rng.normal(0, 10, (6, 4))
    errors = []
    for size in (0.0, 0.1, 1.0):
        at = (drawn_kw + size * step, consumption_kw + size * way)
        v_pu, _ = ac_voltages(community, passive_pu, *at)
        low, high = (0.971 - v_pu, v_pu - 0.999)
        errors.append(np.abs(tangent.sides[0].beyond_pu(*at) - low).max())
        np.testing.assert_allclose(tangent.sides[1].beyond_pu(*at), high, atol=1e-3)
    assert errors[0] < 1e-9
    assert errors[1] < 1.5e-2 * errors[2]


def test_an_hour_without_a_power_flow_keeps_the_first_model() -> None:
    community = strained(random_community(np.random.default_rng(5), num=4, hours=2))
    load_kw = np.array([[5.0] * 4, [4000.0] * 4])
    rough = penalty(community, 2, price=1.0)
    passive_pu = np.linspace(0.05, 0.25, 2)
    tangent = NetworkPenalty.tangent(community, passive_pu, load_kw, load_kw, price_ct_per_pu_h=1.0, margin_pu=0.002)
    for side in (0, 1):
        for part in range(3):
            ours, first = tangent.sides[side][part], rough.sides[side][part]
            np.testing.assert_array_equal(ours[1], first[1])
            assert not np.array_equal(ours[0], first[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price_ct_per_pu_h": -1.0}, "price -1.0 must be finite and not negative"),
        ({"price_ct_per_pu_h": float("nan")}, "price nan"),
        ({"margin_pu": -0.01}, "margin -0.01 p.u. must not be negative"),
        ({"margin_pu": 0.05}, "must leave something between the limits 0.95 and 1.05"),
        ({"margin_pu": float("nan")}, "margin nan"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, float], message: str) -> None:
    given = {"price_ct_per_pu_h": 1.0, "margin_pu": 0.0} | change
    with pytest.raises(UsageError, match=message):
        NetworkPenalty.lindistflow(make_scenario("ieee33"), np.ones(3), **given)


def test_by_hand() -> None:
    """One bus-hour: 1 kW of load takes it 0.002 p.u. down, and 0.0005 more for its reactive power."""
    side = VoltageSide(np.array([[-0.01]]), np.array([[[0.002]]]), np.array([[[0.0005]]]))
    inside = VoltageSide(np.array([[-1.0]]), np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))
    network = NetworkPenalty(1.0, (side, inside))
    assert network.excess_pu(np.array([[6.0]]), np.array([[8.0]]))[0, 0] == pytest.approx(0.012 + 0.004 - 0.01)
    assert network.excess_pu(np.array([[1.0]]), np.array([[1.0]]))[0, 0] == 0.0


# The policies


def tight_community() -> Community:
    """Three prosumers at the ends of a feeder whose limits they leave, six hours a day."""
    rng = np.random.default_rng(11)
    return strained(random_community(rng, num=3, hours=6), v_min_pu=0.975)


def tight_days() -> Dataset:
    """Their days; the rest of the feeder consumes little, and not the same every day."""
    days = tiny_dataset(num_days=40, num_prosumers=3, hours=6)
    rng = np.random.default_rng(12)
    return days.replace(passive_pu=0.4 * days.passive_pu * rng.uniform(0.8, 1.2, (len(days.dates), 1)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["po", "saa", "er-saa", "dcso"])
def test_a_policy_that_knows_the_feeder_relieves_it(name: str, mode: str) -> None:
    """And sees nothing early: the passive load of an hour counts once it is observed."""
    community, days = tight_community(), tight_days()
    history, excess = days.training_history(), {}
    for option in ("", "+network"):
        policy = make_policy(name + option, mode)
        policy.fit(community, history)
        env = TwoStageEnv(days, community, split="dev")
        excess[option] = 0.0
        for row in days.days("dev")[:3]:
            policy.reset(0)
            obs, _ = env.reset(options={"day": int(row)})
            over = False
            while not over:
                obs, _, over, _, info = env.step(policy.act(obs))
                excess[option] += float(np.sum(info["voltage_excess_pu"]))
    assert excess["+network"] < 0.8 * excess[""]
    assert_no_leak(lambda: make_policy(f"{name}+network", mode), days, community, split="dev")


def test_the_passive_load_of_the_past_days_is_expected_and_that_of_the_hour_known() -> None:
    past_pu = np.arange(48.0).reshape(8, 6)
    gate = {"stage": np.zeros(1), "past_passive_pu": past_pu, "passive_pu": np.zeros(6)}
    np.testing.assert_allclose(expected_passive_pu(gate), past_pu.mean(axis=0))
    seen = np.array([9.0, 8.0, 7.0, 0.0, 0.0, 0.0])
    hour = {"stage": np.ones(1), "hour": np.full(1, 2.0), "past_passive_pu": past_pu, "passive_pu": seen}
    np.testing.assert_allclose(expected_passive_pu(hour), [7.0, *past_pu.mean(axis=0)[3:]])


def test_what_a_policy_pays_for_voltages_is_among_its_settings() -> None:
    settings = parameters(make_policy("saa+network", "mpc"))
    assert settings["network"] is True
    assert settings["network_price_ct_per_pu_h"] == PRICE_CT_PER_PU_H
    assert settings["network_margin_pu"] == MARGIN_PU
    assert "network_price_ct_per_pu_h" not in parameters(make_policy("saa", "mpc"))
