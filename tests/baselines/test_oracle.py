"""Nothing that can be played beats an oracle, and the oracle's day can be played.

Axes: N prosumers, E edges, H hours of a day, D days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cvxpy
import numpy as np
import pytest
from core_cases import FORMS, POOLS, random_community, random_days

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.day_ahead import DayStart, Scenarios, solve_core
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.oracle import OracleEpisode, oracle_cost, oracle_peak, perfect_day_ahead
from prosumer_gym.community import Community, Tariff, TradeGraph
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.rollout import Trace, rollout

NUM_DAYS = 4


def stage(
    seed: int, *, negative: bool = False, num: int = 3, hours: int = 8, mechanism: str = "bilateral"
) -> tuple[Community, Exogenous]:
    rng = np.random.default_rng(seed)
    community = random_community(rng, num=num, hours=hours, discomfort_linear=0.1 * (seed % 2), mechanism=mechanism)
    return community, random_days(rng, community, NUM_DAYS, negative=negative)


def play(community: Community, exogenous: Exogenous, actions: list[DayActions]) -> Trace:
    return rollout(community, exogenous, np.arange(len(actions)), DayActions.stack(actions))


def cost_of(trace: Trace) -> FloatArray:
    """Community cost of each day [D]."""
    return np.asarray(trace.community_cost_ct.sum(axis=1))


def peak_of(trace: Trace) -> FloatArray:
    """Largest exchange with the grid of each day, max_h G+ [D]."""
    return np.asarray(np.maximum(trace.exchange_kw.max(axis=1), 0.0))


def bounds(oracle: list[OracleEpisode], name: str) -> FloatArray:
    """One number of each day that is an episode of its own [D]."""
    return np.array([np.squeeze(getattr(day, name)) for day in oracle])


def days_of(oracle: list[OracleEpisode]) -> list[DayActions]:
    """The actions of days each of which is an episode of its own."""
    return [day.actions.day(0) for day in oracle]


def random_actions(rng: np.random.Generator, community: Community, exogenous: Exogenous) -> list[DayActions]:
    """Each day something else: wild, or the oracle's own kind of day on somebody else's data."""
    H, N, fleet = community.hours_per_day, community.num_prosumers, community.fleet
    return [
        DayActions(
            position_kw=rng.uniform(-1, 1, (N, H)) * fleet.position_limit_kw[:, None],
            battery_kw=rng.uniform(-1, 1, (H, N)) * fleet.battery_power_kw * rng.uniform(0, 1),
            shiftable_kw=rng.uniform(0, 1, (H, N)) * fleet.shiftable_power_kw,
            curtail_kw=exogenous.pv_kw[day] * rng.uniform(0, 1, (H, N)) * rng.integers(2),
            offers=rng.uniform(-1.3, 1.3, (H, community.num_offers)) * community.offer_limits,
        )
        for day in range(NUM_DAYS)
    ]


def neighbours_of_the_oracle(rng: np.random.Generator, oracle: list[OracleEpisode]) -> list[DayActions]:
    """The oracle's actions, each number a little off."""
    return [
        DayActions(**{name: values + rng.normal(0, 0.05, values.shape) for name, values in vars(day).items()})
        for day in days_of(oracle)
    ]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("find", [oracle_cost, oracle_peak])
def test_the_day_can_be_played_and_costs_what_the_oracle_says(
    find: Callable[..., list[OracleEpisode]], seed: int, mechanism: str
) -> None:
    community, exogenous = stage(seed, mechanism=mechanism)
    oracle = find(community, exogenous, range(NUM_DAYS))
    trace = play(community, exogenous, days_of(oracle))
    if find is oracle_cost:
        assert np.abs(trace.p2p_kw).max() > 1.0
    np.testing.assert_allclose(cost_of(trace), bounds(oracle, "objective_ct"), rtol=1e-6)
    np.testing.assert_allclose(peak_of(trace), bounds(oracle, "peak_kw"), rtol=1e-6, atol=1e-6)
    assert np.all(bounds(oracle, "gap") < 1e-8)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_nothing_played_beats_an_oracle(seed: int, negative: bool, mechanism: str) -> None:
    community, exogenous = stage(seed, negative=negative, mechanism=mechanism)
    rng = np.random.default_rng(seed)
    cheapest = oracle_cost(community, exogenous, range(NUM_DAYS))
    flattest = oracle_peak(community, exogenous, range(NUM_DAYS))
    rivals = [
        days_of(cheapest),
        days_of(flattest),
        perfect_day_ahead(exogenous, range(NUM_DAYS), community),
        *(random_actions(rng, community, exogenous) for _ in range(10)),
        *(neighbours_of_the_oracle(rng, best) for best in (cheapest, flattest) for _ in range(10)),
    ]
    cost, peak = bounds(cheapest, "objective_ct"), bounds(flattest, "peak_kw")
    for actions in rivals:
        trace = play(community, exogenous, actions)
        assert np.all(cost_of(trace) >= cost - 1e-6 * np.abs(cost))
        assert np.all(peak_of(trace) >= peak - 1e-6 * (1 + peak))


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_the_cheapest_day_is_that_of_the_model(seed: int, mechanism: str) -> None:
    """With surplus of negative price, so that curtailment counts."""
    community, exogenous = stage(seed, mechanism=mechanism)
    price = np.random.default_rng(seed).uniform(-15, 5, (NUM_DAYS, 8))
    exogenous = replace(exogenous, price_rt_ct_per_kwh=price, pv_kw=2 * exogenous.pv_kw)
    start = DayStart(
        0, community.fleet.soc_initial_kwh, np.zeros(3), np.zeros(3), exogenous.shiftable_ref_kw[1],
        exogenous.price_da_ct_per_kwh[1],
    )  # fmt: skip
    actual = Scenarios(exogenous.load_kw[[1]], exogenous.pv_kw[[1]], price[[1]], np.ones(1))
    reference = reference_problem(community, start, actual, regulariser=0.0, foresight=True).problem
    reference.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    (day,) = oracle_cost(community, exogenous, [1])
    assert day.objective_ct == pytest.approx(reference.value, rel=1e-7)


@pytest.mark.parametrize("seed", [12, 13])
def test_the_same_day_costs_the_same_under_every_pool_and_less_than_along_edges(seed: int) -> None:
    """What one prosumer pays another receives; with the limits of all edges and one fee a pool can do all they can."""
    community, exogenous = stage(seed, num=6)
    community = community.replace(graph=replace(community.graph, fee_ct_per_kwh=np.full(community.num_edges, 0.3)))
    cost = {}
    for mechanism in MECHANISMS:
        there = community.replace(mechanism=mechanism)
        oracle = oracle_cost(there, exogenous, range(NUM_DAYS))
        cost[mechanism] = cost_of(play(there, exogenous, days_of(oracle)))
    for mechanism in POOLS:
        np.testing.assert_allclose(cost[mechanism], cost[POOLS[0]], rtol=1e-9)
        assert np.all(cost[mechanism] <= cost["bilateral"] * (1 + 1e-7))
        assert np.any(cost[mechanism] < cost["bilateral"] - 1.0)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_plan_on_other_days_costs_more_than_hindsight(mechanism: str) -> None:
    community, exogenous = stage(6, mechanism=mechanism)
    others = Scenarios(
        exogenous.load_kw[1:], exogenous.pv_kw[1:], exogenous.price_rt_ct_per_kwh[1:], np.full(NUM_DAYS - 1, 1 / 3)
    )  # fmt: skip
    start = DayStart(
        0, community.fleet.soc_initial_kwh, np.zeros(3), np.zeros(3), exogenous.shiftable_ref_kw[0],
        exogenous.price_da_ct_per_kwh[0],
    )  # fmt: skip
    plan = solve_core(community, start, others)
    offers = np.stack([plan.offers(hour) for hour in range(8)])
    actions = DayActions(plan.position_kw, plan.battery_kw, plan.shiftable_kw, plan.curtail_kw, offers)
    (best,) = oracle_cost(community, exogenous, [0])
    assert cost_of(play(community, exogenous, [actions]))[0] > best.objective_ct + 10.0


def test_at_negative_prices_the_day_played_costs_no_less() -> None:
    """Charging against discharging burns energy, which pays: the relaxed bound knows it, the environment does not."""
    community, exogenous = stage(7, negative=True)
    burning = replace(
        exogenous,
        price_da_ct_per_kwh=exogenous.price_da_ct_per_kwh - 40,
        price_rt_ct_per_kwh=exogenous.price_rt_ct_per_kwh - 60,
    )
    oracle = oracle_cost(community, burning, range(NUM_DAYS))
    played = cost_of(play(community, burning, days_of(oracle)))
    bound = bounds(oracle, "objective_ct")
    assert np.all(played >= bound - 1e-6 * np.abs(bound))
    assert np.any(played > bound + 1.0)


def test_the_peak_oracle_is_flatter_and_the_cost_oracle_cheaper() -> None:
    community, exogenous = stage(8)
    cheapest = oracle_cost(community, exogenous, range(NUM_DAYS))
    flattest = oracle_peak(community, exogenous, range(NUM_DAYS))
    assert np.all(bounds(flattest, "peak_kw") < bounds(cheapest, "peak_kw") - 0.1)
    assert np.all(bounds(flattest, "objective_ct") > bounds(cheapest, "objective_ct"))


def test_a_peak_that_is_dear_to_save_is_saved() -> None:
    """Where one way of storing is next to the same as another, the last hundredth of a watt costs what it counts."""
    rng = np.random.default_rng(3)
    community = random_community(rng, num=3, hours=8, discomfort_linear=0.1)
    (flattest,) = oracle_peak(community, random_days(rng, community, 3), [1])
    assert flattest.gap < 1e-8
    assert flattest.attained == pytest.approx(9.3214526148, abs=1e-6)


def _one_prosumer(load_kw: list[float], soc_kwh: float) -> tuple[Community, Exogenous]:
    """Two slots of 12 h, a lossless battery of 3 kW, no PV, nothing to shift, flat price."""
    rng = np.random.default_rng(0)
    community = random_community(rng, num=1, hours=2, edges=False)
    fleet = replace(
        community.fleet, battery_power_kw=np.array([3.0]), charge_efficiency=np.ones(1),
        discharge_efficiency=np.ones(1), soc_min_kwh=np.zeros(1), soc_max_kwh=np.array([200.0]),
        soc_initial_kwh=np.array([soc_kwh]), shiftable_power_kw=np.zeros(1),
    )  # fmt: skip
    load, none, price = np.array(load_kw).reshape(1, 2, 1), np.zeros((1, 2, 1)), np.full((1, 2), 10.0)
    return community.replace(fleet=fleet), Exogenous(load, none, none, price, price, np.full((1, 2), 0.4))


def test_lowest_peak_by_hand() -> None:
    # enough energy: the power of 3 kW is all that the battery can take off
    community, exogenous = _one_prosumer([10.0, 6.0], soc_kwh=100.0)
    assert oracle_peak(community, exogenous, [0])[0].peak_kw == pytest.approx(7.0, abs=1e-7)
    # 24 kWh over 12 h are 2 kW
    community, exogenous = _one_prosumer([10.0, 6.0], soc_kwh=24.0)
    assert oracle_peak(community, exogenous, [0])[0].peak_kw == pytest.approx(8.0, abs=1e-7)
    # the evening gets what the morning stores: 2 + c = 6 - d, c = d
    community, exogenous = _one_prosumer([2.0, 6.0], soc_kwh=0.0)
    assert oracle_peak(community, exogenous, [0])[0].peak_kw == pytest.approx(4.0, abs=1e-7)


def test_lowest_cost_by_hand() -> None:
    """Flat price, costly battery: buy the load ahead, 12 h x 16 kW x 10 ct, and 20 ct/kW for a peak of 10 kW."""
    community, exogenous = _one_prosumer([10.0, 6.0], soc_kwh=100.0)
    dear = community.replace(fleet=replace(community.fleet, battery_wear_linear_ct_per_kwh=np.array([50.0])))
    (day,) = oracle_cost(dear, exogenous, [0])
    assert day.objective_ct == pytest.approx(12 * 16 * 10 + 20 * 10, rel=1e-8)
    np.testing.assert_allclose(day.actions.position_kw[0], [[10.0, 6.0]], atol=1e-5)
    np.testing.assert_allclose(day.actions.battery_kw, 0.0, atol=1e-6)


def _costs(community: Community, exogenous: Exogenous) -> FloatArray:
    return bounds(oracle_cost(community, exogenous, range(NUM_DAYS)), "objective_ct")


def test_more_room_never_costs_more() -> None:
    """Larger or more powerful batteries, wider positions, trades, cheaper imbalance."""
    community, exogenous = stage(9)
    fleet, base = community.fleet, _costs(community, exogenous)
    for richer in (
        replace(fleet, soc_max_kwh=fleet.soc_max_kwh + 50, soc_min_kwh=np.zeros(3)),
        replace(fleet, battery_power_kw=2 * fleet.battery_power_kw),
        replace(fleet, position_limit_kw=2 * fleet.position_limit_kw),
        replace(fleet, shiftable_power_kw=2 * fleet.shiftable_power_kw),
    ):
        assert np.all(_costs(community.replace(fleet=richer), exogenous) <= base + 1e-6 * np.abs(base))
    alone = community.replace(graph=TradeGraph.ring_with_chords(1))
    assert np.all(base <= _costs(alone, exogenous) + 1e-6 * np.abs(base))
    assert np.any(base < _costs(alone, exogenous) - 1.0)
    dearer = community.replace(tariff=Tariff(rt_buy_margin_ct_per_kwh=5.0))
    assert np.all(_costs(dearer, exogenous) >= base - 1e-6 * np.abs(base))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_perfect_day_ahead_leaves_nothing_to_real_time(mechanism: str) -> None:
    community, exogenous = stage(10, mechanism=mechanism)
    wide = community.replace(fleet=replace(community.fleet, position_limit_kw=np.full(3, 100.0)))
    days = perfect_day_ahead(exogenous, range(NUM_DAYS), wide)
    trace = play(wide, exogenous, days)
    np.testing.assert_allclose(trace.realtime_kw, 0.0, atol=1e-9)
    np.testing.assert_array_equal(trace.battery_kw, 0.0)
    np.testing.assert_allclose(trace.shiftable_kw, exogenous.shiftable_ref_kw, atol=1e-9)
    narrow = perfect_day_ahead(exogenous, [2], community)[0].position_kw
    net = (exogenous.load_kw + exogenous.shiftable_ref_kw - exogenous.pv_kw)[2].T
    limit = community.fleet.position_limit_kw[:, None]
    np.testing.assert_allclose(narrow, np.clip(net, -limit, limit))


def test_a_day_does_not_depend_on_the_others_asked_for() -> None:
    community, exogenous = stage(11)
    together = oracle_cost(community, exogenous, [0, 2, 1])
    (alone,) = oracle_cost(community, exogenous, [1])
    assert together[2].objective_ct == alone.objective_ct
    np.testing.assert_array_equal(together[2].actions.battery_kw, alone.actions.battery_kw)
