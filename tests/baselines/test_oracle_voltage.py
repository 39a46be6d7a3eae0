"""The day of least voltage violation: it can be played, and what it leaves cannot be avoided.

Axes: N prosumers, K buses, H hours of a day, D days.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_cases import FORMS, random_community, random_days
from network_cases import strained

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines import oracle_voltage as module
from prosumer_gym.baselines.network import ac_voltages
from prosumer_gym.baselines.oracle import oracle_cost, oracle_peak
from prosumer_gym.baselines.oracle_voltage import oracle_voltage
from prosumer_gym.community import Community
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import ieee33
from prosumer_gym.power_flow import solve_power_flow
from prosumer_gym.rollout import Trace, rollout

NUM_DAYS = 2


def stage(seed: int, *, mechanism: str = "bilateral", sun: float = 1.0, passive: float = 0.2) -> tuple[
    Community, Exogenous
]:  # fmt: skip
    rng = np.random.default_rng(seed)
    community = strained(random_community(rng, num=3, hours=8, mechanism=mechanism))
    days = random_days(rng, community, NUM_DAYS)
    return community, replace(days, pv_kw=sun * days.pv_kw, passive_pu=np.full((NUM_DAYS, 8), passive))


def play(community: Community, exogenous: Exogenous, actions: list[DayActions]) -> Trace:
    return rollout(community, exogenous, np.arange(len(actions)), DayActions.stack(actions))


def violation(community: Community, trace: Trace) -> FloatArray:
    """Excess outside the limits of each day, p.u. h [D]."""
    return np.asarray(trace.voltage_excess_pu.sum(axis=1) * community.dt_h)


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("sun", [1.0, 4.0])
def test_the_day_can_be_played_and_is_what_the_oracle_says(mechanism: str, sun: float) -> None:
    community, exogenous = stage(0, mechanism=mechanism, sun=sun)
    oracle = oracle_voltage(community, exogenous, range(NUM_DAYS))
    trace = play(community, exogenous, [day.actions.day(0) for day in oracle])
    np.testing.assert_allclose(violation(community, trace), [day.attained for day in oracle], atol=1e-9)
    np.testing.assert_allclose(trace.community_cost_ct.sum(axis=1), [day.objective_ct for day in oracle], rtol=1e-5)
    for day in oracle:
        assert 0.0 <= day.bound_pu_h <= day.attained + 1e-9
        assert day.gap == pytest.approx(max(day.attained - day.bound_pu_h, 0.0) / (1.0 + day.attained))


@pytest.mark.parametrize("seed", [2, 3])
def test_what_is_left_of_low_voltages_cannot_be_avoided(seed: int) -> None:
    """It agrees with the bound, and no rival comes below: the other oracles, wild days, and neighbours of its own."""
    community, exogenous = stage(seed, sun=0.3)
    rng, fleet, H, N = np.random.default_rng(seed), community.fleet, 8, 3
    oracle = oracle_voltage(community, exogenous, range(NUM_DAYS))
    least = np.array([day.attained for day in oracle])
    assert np.all(least > 0.1)
    assert all(day.gap < 2e-5 for day in oracle)
    others = [find(community, exogenous, range(NUM_DAYS)) for find in (oracle_cost, oracle_peak)]
    wild = [
        DayActions(
            np.zeros((N, H)), rng.uniform(-1, 0.3, (H, N)) * fleet.battery_power_kw,
            rng.uniform(0, 1, (H, N)) * fleet.shiftable_power_kw, np.zeros((H, N)), np.zeros((H, community.num_offers)),
        )
        for _ in range(40)
    ]  # fmt: skip
    near = [
        DayActions(**{k: v + rng.normal(0, 0.3, v.shape) for k, v in vars(day.actions.day(0)).items()})
        for _ in range(20) for day in oracle
    ]  # fmt: skip
    rivals = [*([day.actions.day(0) for day in days] for days in others), *zip(wild[::2], wild[1::2], strict=True)]
    for actions in (*rivals, *zip(near[::2], near[1::2], strict=True)):
        assert np.all(violation(community, play(community, exogenous, list(actions))) >= least - 1e-5)
    worse = violation(community, play(community, exogenous, [day.actions.day(0) for day in others[0]]))
    assert np.all(worse > least + 1e-3)


def test_voltages_too_high_are_avoided_by_throwing_sun_away() -> None:
    community, exogenous = stage(4, sun=4.0, passive=0.05)
    community = community.replace(feeder=community.feeder.replace(v_min_pu=0.9, v_max_pu=0.995))
    cheapest = oracle_cost(community, exogenous, range(NUM_DAYS))
    assert np.all(violation(community, play(community, exogenous, [day.actions.day(0) for day in cheapest])) > 0.01)
    oracle = oracle_voltage(community, exogenous, range(NUM_DAYS))
    trace = play(community, exogenous, [day.actions.day(0) for day in oracle])
    np.testing.assert_array_equal(violation(community, trace), 0.0)
    assert trace.curtail_kw.max() > 1.0
    assert [day.gap for day in oracle] == [0.0, 0.0]


@pytest.mark.parametrize("seed", [5, 6])
def test_where_nothing_is_violated_it_is_the_cheapest_day(seed: int) -> None:
    community, exogenous = stage(seed)
    calm = community.replace(feeder=ieee33().replace(v_min_pu=0.8, v_max_pu=1.2))
    for ours, cheapest in zip(
        oracle_voltage(calm, exogenous, range(NUM_DAYS)), oracle_cost(calm, exogenous, range(NUM_DAYS)), strict=True
    ):
        assert ours.attained == 0.0
        assert ours.objective_ct == pytest.approx(cheapest.objective_ct, rel=1e-9)


def test_of_days_without_violation_it_is_the_cheapest() -> None:
    """The first plan, by LinDistFlow, is never the last: it keeps a distance that costs. Wider limits cost less."""
    community, exogenous = stage(4, sun=4.0, passive=0.05)
    costs = []
    for v_max_pu in (0.99, 0.995, 1.0, 1.2):
        wide = community.replace(feeder=community.feeder.replace(v_min_pu=0.9, v_max_pu=v_max_pu))
        days = oracle_voltage(wide, exogenous, range(NUM_DAYS))
        assert all(day.num_plans > 1 and day.attained == 0.0 for day in days)
        costs.append(sum(day.objective_ct for day in days))
    assert np.all(np.diff(costs) <= 1e-6)
    assert costs[0] > costs[-1] + 10.0


def _two_buses(load_kw: float, battery_kw: float) -> tuple[Community, Exogenous]:
    """One prosumer on a line of 1 ohm at 1 kV, two slots of 12 h, all its load in the first, a battery that is full."""
    feeder = Feeder.from_arrays([0], [1], [1.0], [0.5], [0.0, 0.0], [0.0, 0.0], base_kv=1.0, v_min_pu=0.95)
    community = random_community(np.random.default_rng(0), num=1, hours=2, edges=False)
    fleet = replace(
        community.fleet, bus=np.ones(1, dtype=np.int64), battery_power_kw=np.array([battery_kw]),
        discharge_efficiency=np.ones(1), soc_min_kwh=np.zeros(1), soc_max_kwh=np.array([2000.0]),
        soc_initial_kwh=np.array([2000.0]), shiftable_power_kw=np.zeros(1), power_factor=np.array([0.9]),
    )  # fmt: skip
    load, none, price = np.array([[[load_kw], [0.0]]]), np.zeros((1, 2, 1)), np.full((1, 2), 10.0)
    return community.replace(feeder=feeder, fleet=fleet), Exogenous(load, none, none, price, price, np.zeros((1, 2)))


def test_by_hand() -> None:
    """What the battery cannot take off is left; where it can take off more, it takes off just enough."""
    reactive = np.tan(np.arccos(0.9))
    community, exogenous = _two_buses(100.0, battery_kw=20.0)
    (day,) = oracle_voltage(community, exogenous, [0])
    v_pu = solve_power_flow(community.feeder, np.array([0.0, 80.0]), np.array([0.0, 100 * reactive])).v_pu[1, 0]
    assert v_pu < 0.95
    assert day.attained == pytest.approx(12 * (0.95 - v_pu), abs=1e-8)
    assert day.bound_pu_h == pytest.approx(day.attained, abs=1e-8)
    community, exogenous = _two_buses(60.0, battery_kw=50.0)
    (day,) = oracle_voltage(community, exogenous, [0])
    assert day.attained == 0.0
    net_kw, consumption_kw = 60.0 + day.actions.battery_kw[0, 0, 0], 60 * reactive
    v_pu = solve_power_flow(community.feeder, np.array([0.0, net_kw]), np.array([0.0, consumption_kw])).v_pu[1, 0]
    assert 0.95 <= v_pu < 0.95 + 1e-5
    assert day.actions.battery_kw[0, 0, 0] < -5.0


def test_a_dead_hour_counts_as_one() -> None:
    """A load beyond what the line can carry: every bus but the substation lacks the whole lower limit."""
    community, exogenous = _two_buses(5000.0, battery_kw=20.0)
    (day,) = oracle_voltage(community, exogenous, [0])
    assert day.attained == pytest.approx(12 * 0.95)
    assert day.num_plans == module._MAX_PLANS


@pytest.mark.parametrize("seed", range(3))
def test_voltages_are_concave_in_the_loads(seed: int) -> None:
    """What the proof of the bound rests on: half way between two sets of loads no voltage is below the mean of both."""
    rng = np.random.default_rng(seed)
    community = strained(random_community(rng, num=4, hours=1, edges=False))
    num = 400
    ends = [(rng.uniform(-60, 60, (num, 4)), rng.uniform(0, 30, (num, 4))) for _ in range(2)]
    passive_pu = rng.uniform(0.2, 0.8, num)
    (first, _), (second, _) = (ac_voltages(community, passive_pu, *end) for end in ends)
    between, converged = ac_voltages(
        community, passive_pu, *(0.5 * (a + b) for a, b in zip(*ends, strict=True))
    )  # fmt: skip
    assert converged.all()
    assert np.all(between >= 0.5 * (first + second) - 1e-9)
    assert np.abs(between - 0.5 * (first + second)).max() > 1e-4
