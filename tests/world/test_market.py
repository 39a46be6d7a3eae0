"""Matching and settlement, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.lanes import aligned, lean, load, store
from prosumer_gym.market import (
    COST_TERMS,
    energy_cost,
    feasible_limit_price,
    feasible_offer,
    feasible_order,
    limit_price,
    matched_trade,
    scaled_offer,
    seller_scale,
    served_share,
    supply_demand_price,
    terminal_cost,
)
from prosumer_gym.simulator import Simulator, StepResult


def in_lanes(kernel: Callable[..., None], numbers: list[Any], *others: float) -> list[float]:
    """`kernel` of one number, or of a tuple of them, a lane."""
    table = np.array(numbers, dtype=np.float64).reshape(len(numbers), -1).T
    given, result = aligned(len(table)), aligned(1)
    given[:, : len(numbers)] = table
    kernel(given, result, *others)
    return result[0, : len(numbers)].tolist()


@lean
def offer_kernel(x: np.ndarray, result: np.ndarray, limit: float) -> None:
    store(result, 0, 0, feasible_offer(load(x, 0, 0), limit))


@lean
def scale_kernel(x: np.ndarray, result: np.ndarray) -> None:
    store(result, 0, 0, seller_scale(load(x, 0, 0), load(x, 1, 0)))


@lean
def scaled_kernel(x: np.ndarray, result: np.ndarray) -> None:
    store(result, 0, 0, scaled_offer(load(x, 0, 0), load(x, 1, 0)))


@lean
def trade_kernel(x: np.ndarray, result: np.ndarray) -> None:
    store(result, 0, 0, matched_trade(load(x, 0, 0), load(x, 1, 0)))


@lean
def order_kernel(x: np.ndarray, result: np.ndarray, limit: float) -> None:
    store(result, 0, 0, feasible_order(load(x, 0, 0), limit, load(x, 1, 0)))


@lean
def limit_kernel(x: np.ndarray, result: np.ndarray) -> None:
    store(result, 0, 0, limit_price(feasible_limit_price(load(x, 0, 0)), load(x, 1, 0), load(x, 2, 0)))


@lean
def share_kernel(x: np.ndarray, result: np.ndarray) -> None:
    store(result, 0, 0, served_share(load(x, 0, 0), load(x, 1, 0)))


@lean
def ratio_kernel(x: np.ndarray, result: np.ndarray) -> None:
    store(result, 0, 0, supply_demand_price(load(x, 0, 0), load(x, 1, 0), load(x, 2, 0)))


@lean
def energy_kernel(x: np.ndarray, result: np.ndarray, dt: float) -> None:
    store(result, 0, 0, energy_cost(load(x, 0, 0), load(x, 1, 0), load(x, 2, 0), dt))


@lean
def terminal_kernel(x: np.ndarray, result: np.ndarray) -> None:
    for lane in range(3):
        result[0, lane] = terminal_cost(x[0, lane], x[1, lane], x[2, lane], x[3, lane])


def test_offers_stay_within_the_edge() -> None:
    assert in_lanes(offer_kernel, [3.0, 7.0, -7.0, np.inf, -np.inf], 5.0) == [3.0, 5.0, -5.0, 5.0, -5.0]


def test_sellers_sell_no_more_than_they_generate() -> None:
    available_and_sells = [(6.0, 4.0), (6.0, 6.0), (6.0, 8.0), (0.0, 8.0), (0.0, 0.0), (5.0, 0.0)]
    assert in_lanes(scale_kernel, available_and_sells) == [1.0, 1.0, 0.75, 0.0, 1.0, 1.0]
    assert in_lanes(scaled_kernel, [(-4.0, 0.75), (4.0, 0.75), (0.0, 0.75)]) == [-3.0, 4.0, 0.0]


def test_opposing_offers_meet_at_the_smaller() -> None:
    first_and_second = [
        (3.0, -2.0), (2.0, -3.0), (-3.0, 2.0), (-2.0, 3.0), (3.0, 2.0), (-3.0, -2.0), (0.0, -2.0), (3.0, 0.0),
    ]  # fmt: skip
    assert in_lanes(trade_kernel, first_and_second) == [2.0, 2.0, -2.0, -2.0, 0.0, 0.0, 0.0, 0.0]


def test_an_order_stays_within_its_limit_and_sells_what_is_generated() -> None:
    wanted_and_available = [(3.0, 0.0), (np.inf, 0.0), (-3.0, 2.0), (-3.0, 4.0), (-np.inf, 9.0), (-1.0, 0.0)]
    assert in_lanes(order_kernel, wanted_and_available, 5.0) == [3.0, 5.0, -2.0, -3.0, -5.0, 0.0]


def test_limit_prices_run_from_what_the_grid_pays_to_what_it_asks() -> None:
    limits = [-np.inf, -1.0, 0.0, 0.5, 1.0, 7.0]
    assert in_lanes(limit_kernel, [(a, 10.0, 4.0) for a in limits]) == [4.0, 4.0, 7.0, 8.5, 10.0, 10.0]
    assert in_lanes(limit_kernel, [(a, -10.0, -16.0) for a in limits[1:5]]) == [-16.0, -13.0, -11.5, -10.0]


def test_which_part_of_the_orders_is_served() -> None:
    cases = [(1.0, 4.0), (4.0, 4.0), (5.0, 4.0), (0.0, 4.0), (0.0, 0.0), (3.0, 0.0)]
    assert in_lanes(share_kernel, cases) == [0.25, 1.0, 1.0, 0.0, 1.0, 1.0]


def test_supply_and_demand_price_never_leaves_the_grid_prices() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        buy = rng.uniform(-20.0, 20.0, 16)
        sell = buy - rng.choice([0.0, 1e-9, 1.0], 16) * rng.uniform(0.0, 30.0, 16)
        ratios = rng.choice([0.0, 1.0, 0.5], 16) if rng.random() < 0.5 else rng.uniform(0.0, 1.0, 16)
        price = np.array(in_lanes(ratio_kernel, list(zip(ratios, buy, sell, strict=True))))
        assert (price >= sell).all()
        assert (price <= buy).all()
        np.testing.assert_allclose(price[ratios == 0.0], buy[ratios == 0.0], atol=1e-12)
        np.testing.assert_allclose(price[ratios == 1.0], sell[ratios == 1.0], atol=1e-12)


def test_energy_has_one_price_for_buying_and_one_for_selling() -> None:
    cases = [(3.0, 10.0, 4.0), (-3.0, 10.0, 4.0), (0.0, 10.0, 4.0), (3.0, -2.0, -5.0), (-3.0, -2.0, -5.0)]
    assert in_lanes(energy_kernel, cases, 0.5) == [15.0, -6.0, 0.0, -3.0, 7.5]


def test_missing_energy_is_paid_for_and_left_energy_earns() -> None:
    assert in_lanes(terminal_kernel, [(90.0, 100.0, 3.0, 2.0), (110.0, 100.0, 3.0, 2.0), (100.0, 100.0, 3.0, 2.0)]) == [
        30.0, -20.0, 0.0,
    ]  # fmt: skip


# A day of two slots of 12 h, two prosumers A and B, one edge, default tariff.
#
# slot  raw DA  raw RT | DA buy  DA sell  RT buy             RT sell                     P2P
#    0      10       5 |     10        4  max(5, 10)+1 = 11  min(5-.4*5, 4)-.5   = 2.5   7
#    1       6      20 |      6      2.4  max(20, 6)+1 = 21  min(20-.4*20, 2.4)-.5 = 1.9  4.2
# end of day: dearest purchase 10, cheapest sale 2.4, so a missing kWh costs 15 / .8 = 18.75 (A), 15 / .75 = 20 (B),
# and a kWh left over earns 2.4 * .5 = 1.2 (both).
FLEET = Fleet(
    bus=np.array([1, 2]),
    pv_ratio=np.ones(2),
    units=np.array([1, 3]),
    battery_power_kw=np.array([5.0, 4.0]),
    soc_min_kwh=np.array([0.0, 0.0]),
    soc_max_kwh=np.array([120.0, 100.0]),
    soc_initial_kwh=np.array([60.0, 50.0]),
    charge_efficiency=np.array([0.8, 0.75]),
    discharge_efficiency=np.array([0.5, 0.5]),
    battery_wear_quadratic_ct_per_kw2h=np.array([0.02, 0.1]),
    battery_wear_linear_ct_per_kwh=np.array([1.0, 2.0]),
    shiftable_power_kw=np.array([3.0, 2.0]),
    backlog_min_kwh=np.array([-100.0, -100.0]),
    backlog_max_kwh=np.array([100.0, 100.0]),
    discomfort_quadratic_ct_per_kwh2h=np.array([0.01, 0.02]),
    discomfort_linear_ct_per_kwhh=np.array([0.1, 0.2]),
    position_limit_kw=np.array([50.0, 50.0]),
    connection_limit_kw=np.array([50.0, 50.0]),
    power_factor=np.array([0.8, 0.6]),
)
PAIR = Community(
    "pair",
    Feeder.from_arrays([0, 1], [1, 2], [0.5, 0.5], [0.3, 0.3], [0.0, 10.0, 20.0], [0.0, 5.0, 6.0], base_kv=12.66),
    FLEET,
    TradeGraph(np.array([0]), np.array([1]), np.array([5.0]), np.array([0.2])),
    hours_per_day=2,
)
DAY = Exogenous(
    load_kw=np.array([[[4.0, 6.0], [5.0, 7.0]]]),
    pv_kw=np.array([[[10.0, 0.0], [2.0, 3.0]]]),
    shiftable_ref_kw=np.array([[[1.0, 0.5], [1.0, 0.5]]]),
    price_da_ct_per_kwh=np.array([[10.0, 6.0]]),
    price_rt_ct_per_kwh=np.array([[5.0, 20.0]]),
    passive_pu=np.array([[0.5, 1.0]]),
)


@pytest.fixture(scope="module")
def slots() -> list[StepResult]:
    simulator = Simulator(PAIR, DAY, 1)
    simulator.reset(0)
    simulator.commit(np.array([[[1.0], [-1.0]], [[-1.0], [2.0]]]))
    # A charges, curtails, runs ahead of its shiftable load and offers to sell 3; B discharges and wants to buy 2.
    first = simulator.step([[2.0], [-1.0]], [[1.5], [0.25]], [[1.0], [0.0]], [[-3.0], [2.0]]).copy()
    # A discharges and wants to buy 5, its shiftable load must slow down; B sells 4 but generates 3 and curtails .6.
    second = simulator.step([[-1.5], [3.0]], [[3.0], [0.75]], [[0.0], [0.6]], [[5.0], [-4.0]]).copy()
    return [first, second]


def test_the_first_slot_by_hand(slots: list[StepResult]) -> None:
    slot = slots[0]
    # y = l - (g - k) + p^s + b
    np.testing.assert_allclose(slot.net_import_kw[:, 0], [4.0 - 9.0 + 1.5 + 2.0, 6.0 - 0.0 + 0.25 - 1.0])
    np.testing.assert_allclose(slot.soc_kwh[:, 0], [60.0 + 12.0 * 0.8 * 2.0, 50.0 - 12.0 * 1.0 / 0.5])
    np.testing.assert_allclose(slot.backlog_kwh[:, 0], [12.0 * (1.5 - 1.0), 12.0 * (0.25 - 0.5)])
    np.testing.assert_allclose(slot.trade_kw, [[-2.0]])  # min(3, 2), A sells
    # q = y - p - P
    np.testing.assert_allclose(slot.realtime_kw[:, 0], [-1.5 - 1.0 + 2.0, 5.25 + 1.0 - 2.0])
    expected = {
        "day_ahead": [12 * 10 * 1.0, 12 * 4 * -1.0],
        "real_time": [12 * 2.5 * -0.5, 12 * 11 * 4.25],
        "p2p": [12 * 7 * -2.0, 12 * 7 * 2.0],
        "p2p_fee": [12 * 0.1 * 2.0, 12 * 0.1 * 2.0],
        "demand_charge": [0.0, 20 * 5.25],
        "battery_wear": [12 * (0.02 * 4 + 1.0 * 2), 12 * (0.1 * 1 + 2.0 * 1)],
        "discomfort": [12 * (0.01 * 36 + 0.1 * 6), 12 * (0.02 * 9 + 0.2 * 3)],
        "terminal_soc": [0.0, 0.0],
    }
    assert tuple(expected) == COST_TERMS
    for term, cost_ct in zip(expected.values(), slot.cost_ct[:, :, 0], strict=True):
        np.testing.assert_allclose(cost_ct, term, atol=1e-9)
    # A: 120 - 15 - 168 + 2.4 + 24.96 + 11.52 = -24.12; B: -48 + 561 + 168 + 2.4 + 105 + 25.2 + 9.36 = 822.96
    np.testing.assert_allclose(slot.community_cost_ct, [-24.12 + 822.96])
    np.testing.assert_allclose(slot.exchange_kw, [3.75])
    np.testing.assert_allclose(slot.peak_increase_kw, [3.75])
    assert slot.clipped.tolist() == [0]
    assert not slot.done.any()


def test_the_last_slot_by_hand(slots: list[StepResult]) -> None:
    slot = slots[1]
    # what is left of the shiftable energy: 1 - 6 / 12 and .5 + 3 / 12
    np.testing.assert_allclose(slot.shiftable_kw[:, 0], [0.5, 0.75])
    np.testing.assert_allclose(slot.backlog_kwh, 0.0, atol=1e-12)
    np.testing.assert_allclose(slot.net_import_kw[:, 0], [5.0 - 2.0 + 0.5 - 1.5, 7.0 - 2.4 + 0.75 + 3.0])
    np.testing.assert_allclose(slot.soc_kwh[:, 0], [79.2 - 12.0 * 1.5 / 0.5, 26.0 + 12.0 * 0.75 * 3.0])
    np.testing.assert_allclose(slot.trade_kw, [[2.4]])  # B's 4 scaled by 2.4 / 4, A buys
    np.testing.assert_allclose(slot.realtime_kw[:, 0], [2.0 + 1.0 - 2.4, 8.35 - 2.0 + 2.4])
    expected = {
        "day_ahead": [12 * 2.4 * -1.0, 12 * 6 * 2.0],
        "real_time": [12 * 21 * 0.6, 12 * 21 * 8.75],
        "p2p": [12 * 4.2 * 2.4, 12 * 4.2 * -2.4],
        "p2p_fee": [12 * 0.1 * 2.4, 12 * 0.1 * 2.4],
        "demand_charge": [20 * 2.0, 20 * (8.35 - 5.25)],
        "battery_wear": [12 * (0.02 * 2.25 + 1.0 * 1.5), 12 * (0.1 * 9 + 2.0 * 3)],
        "discomfort": [0.0, 0.0],
        "terminal_soc": [18.75 * (60.0 - 43.2), -1.2 * (53.0 - 50.0)],
    }
    for term, cost_ct in zip(expected.values(), slot.cost_ct[:, :, 0], strict=True):
        np.testing.assert_allclose(cost_ct, term, atol=1e-9)
    # A: -28.8 + 151.2 + 120.96 + 2.88 + 40 + 18.54 + 315 = 619.78
    # B: 144 + 2205 - 120.96 + 2.88 + 62 + 82.8 - 3.6 = 2372.12
    np.testing.assert_allclose(slot.community_cost_ct, [619.78 + 2372.12])
    np.testing.assert_allclose(slot.exchange_kw, [10.35])
    np.testing.assert_allclose(slot.peak_increase_kw, [10.35 - 3.75])
    assert slot.clipped.tolist() == [2]  # A's shiftable load, B's offer
    assert slot.done.all()


def test_real_time_surplus_is_sold_at_the_real_time_price() -> None:
    simulator = Simulator(PAIR, DAY, 1)
    simulator.reset(0)
    simulator.commit(np.zeros((2, 2, 1)))
    idle = [[0.0], [0.0]]
    slot = simulator.step(idle, [[1.0], [0.5]], idle, idle)
    # A: y = q = 4 - 10 + 1 = -5 sold at 2.5; B: 6.5 bought at 11
    np.testing.assert_allclose(slot.cost_ct[1, :, 0], [12 * 2.5 * -5.0, 12 * 11 * 6.5])


def test_the_feeder_sees_every_unit_and_its_reactive_power(slots: list[StepResult]) -> None:
    """A light feeder: the slack carries loads times units, passive load at its multiple, and little more."""
    for slot, passive in zip(slots, (0.5, 1.0), strict=True):
        prosumers = float(slot.net_import_kw[0, 0] + 3.0 * slot.net_import_kw[1, 0])
        assert 0.0 < slot.losses_kw[0] < 0.05
        np.testing.assert_allclose(slot.slack_kw, prosumers + 30.0 * passive + slot.losses_kw, atol=1e-9)
    # slot 0, p.u. of 1 MVA: bus 2 draws 10 + 3 * 5.25 kW and 3 + 3 * (4 / 3) * 6.25 kvar, bus 1 adds 5 - 1.5 kW and
    # 2.5 + .75 * 5.5 kvar; to first order the voltage drops by (r P + x Q) / v^2 of each branch
    z_base = 12.66**2 / 1.0
    p2, q2 = 0.010 + 3 * 0.00525, 0.003 + 3 * (4 / 3) * 0.00625
    p1, q1 = p2 + 0.005 - 0.0015, q2 + 0.0025 + 0.75 * 0.0055
    drop = np.cumsum([0.0, (0.5 * p1 + 0.3 * q1) / z_base, (0.5 * p2 + 0.3 * q2) / z_base])
    np.testing.assert_allclose(1.0 - slots[0].v_pu[:, 0], drop, rtol=2e-3)
