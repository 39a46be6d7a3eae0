"""What each market mechanism does with offers, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prosumer_gym.community import Community, Fleet, Tariff, TradeGraph
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import COST_TERMS, Simulator, StepResult

TERM = {name: index for index, name in enumerate(COST_TERMS)}


# Everybody has PV to spare unless said, pool limits are 100 kW, the fee is 0.2 ct/kWh, slots are of one hour.


def one_hour(
    mechanism: str,
    orders: list[float],
    limits: list[float] | None = None,
    *,
    raw_price: float = 10.0,
    da_sell_ratio: float = 0.4,
    pv_kw: float | list[float] = 50.0,
    central: bool = False,
) -> StepResult:
    """`orders`, or with `central` trade the residuals of these prosumers, in one hour."""
    num = len(orders)
    graph = TradeGraph.ring_with_chords(num)
    limit_kw = np.full(len(graph), 100.0 * num / 2.0 / len(graph))
    community = Community(
        "market",
        Feeder.from_arrays([0], [1], [0.01], [0.01], [0.0, 0.0], [0.0, 0.0], base_kv=12.66),
        dataclasses.replace(Fleet.identical([1] * num), shiftable_power_kw=np.zeros(num)),
        dataclasses.replace(graph, limit_kw=limit_kw),
        Tariff(da_sell_ratio=da_sell_ratio),
        mechanism,
    )
    day, hour = np.zeros((1, 24, num)), np.full((1, 24), raw_price)
    pv = day + pv_kw
    load = pv + orders if central else day
    simulator = Simulator(community, Exogenous(load, pv, day, hour, hour, hour), 1)
    simulator.reset(0)
    simulator.commit(np.zeros((num, 24, 1)))
    rest = np.zeros((num, 1))
    offers = None if central else np.array(orders + (limits or []))[:, np.newaxis]
    return simulator.step(rest, rest, rest, offers)


def test_a_pool_serves_its_longer_side_in_proportion() -> None:
    for mechanism in ("mid-market-rate", "supply-demand-ratio"):
        result = one_hour(mechanism, [-6.0, -2.0, 4.0, 0.0])
        np.testing.assert_allclose(result.p2p_kw[:, 0], [-3.0, -1.0, 4.0, 0.0])
        result = one_hour(mechanism, [-3.0, 4.0, 8.0, 0.0])
        np.testing.assert_allclose(result.p2p_kw[:, 0], [-3.0, 1.0, 2.0, 0.0])
        assert not result.trade_kw.any()
        assert result.clipped.tolist() == [0]
        for alone in ([5.0, 1.0, 0.0], [-5.0, -1.0, 0.0], [0.0, 0.0, 0.0]):
            result = one_hour(mechanism, alone)
            assert not result.p2p_kw.any()
            np.testing.assert_allclose(result.p2p_price_ct_per_kwh, [7.0])


def test_nobody_sells_more_in_a_pool_than_it_generates_or_orders_more_than_its_limit() -> None:
    for mechanism in ("mid-market-rate", "supply-demand-ratio"):
        result = one_hour(mechanism, [-30.0, 150.0, -150.0], pv_kw=[10.0, 0.0, 200.0])
        np.testing.assert_allclose(result.p2p_kw[:, 0], [-100.0 / 11.0, 100.0, -1000.0 / 11.0])
        assert result.clipped.tolist() == [3]
    result = one_hour("double-auction", [-30.0, 60.0, 5.0], [-1.0, 1.5, -np.inf], pv_kw=[10.0, 0.0, 0.0])
    np.testing.assert_allclose(result.p2p_kw[:, 0], [-10.0, 10.0, 0.0])
    assert result.clipped.tolist() == [3]


@pytest.mark.parametrize(
    ("orders", "raw_price", "da_sell_ratio", "price"),
    [
        # 10 is asked, 4 is paid
        ([8.0, -2.0], 10.0, 0.4, 4.0 * 10.0 / (6.0 * 0.25 + 4.0)),
        ([8.0, -4.0], 10.0, 0.4, 4.0 * 10.0 / (6.0 * 0.5 + 4.0)),
        ([8.0, -8.0], 10.0, 0.4, 4.0),
        ([8.0, -9.0], 10.0, 0.4, 4.0),
        ([8.0, -1e-6], 10.0, 0.4, 10.0),
        ([8.0, 0.0], 10.0, 0.4, 7.0),
        ([0.0, -8.0], 10.0, 0.4, 7.0),
        # nothing is paid: a straight line
        ([8.0, -2.0], 10.0, 0.0, 7.5),
        ([8.0, -8.0], 10.0, 0.0, 0.0),
        # -10 is asked, -16 is paid
        ([8.0, -2.0], -10.0, 0.4, -11.5),
        ([8.0, -9.0], -10.0, 0.4, -16.0),
        ([8.0, 0.0], -10.0, 0.4, -13.0),
        ([8.0, -2.0], 0.0, 0.4, 0.0),
    ],
)
def test_the_price_falls_with_the_ratio_of_supply_to_demand(
    orders: list[float], raw_price: float, da_sell_ratio: float, price: float
) -> None:
    result = one_hour("supply-demand-ratio", orders, raw_price=raw_price, da_sell_ratio=da_sell_ratio)
    np.testing.assert_allclose(result.p2p_price_ct_per_kwh, [price], atol=1e-5)
    np.testing.assert_allclose(result.cost_ct[TERM["p2p"], :, 0], price * result.p2p_kw[:, 0], atol=1e-4)


def test_the_price_at_mid_market_rate_is_the_middle() -> None:
    for raw_price, price in ((10.0, 7.0), (0.0, 0.0), (-10.0, -13.0)):
        result = one_hour("mid-market-rate", [8.0, -2.0], raw_price=raw_price)
        np.testing.assert_allclose(result.p2p_price_ct_per_kwh, [price])
        np.testing.assert_allclose(result.cost_ct[TERM["p2p"], :, 0], [2.0 * price, -2.0 * price])
        np.testing.assert_allclose(result.cost_ct[TERM["p2p_fee"], :, 0], [0.2, 0.2])


@pytest.mark.parametrize(
    ("orders", "limits", "traded", "price"),
    [
        # limit a is worth 7 + 3 a: bids 5 at 10 and 3 at 7, asks 4 at 4 and 6 at 8; the ask at the margin delivers 1
        ([5.0, 3.0, -4.0, -6.0], [1.0, 0.0, -1.0, 1 / 3], [5.0, 0.0, -4.0, -1.0], (10.0 + 8.0) / 2),
        # the bid at the margin gets 1
        ([5.0, 3.0, -6.0, -6.0], [1.0, 0.0, -1.0, 1 / 3], [5.0, 1.0, -6.0, 0.0], (7.0 + 4.0) / 2),
        # volumes meet in the middle of nowhere: the last accepted bid and ask
        ([5.0, 3.0, -5.0, -6.0], [1.0, -1 / 3, -1.0, 1 / 3], [5.0, 0.0, -5.0, 0.0], (10.0 + 4.0) / 2),
        # equal bids at the margin share what is left, in proportion
        ([2.0, 3.0, 6.0, -5.0], [1.0, 0.0, 0.0, -1.0], [2.0, 1.0, 2.0, -5.0], (7.0 + 4.0) / 2),
        # equal asks at the margin
        ([5.0, -3.0, -6.0, -2.0], [1.0, 0.0, 0.0, -1.0], [5.0, -1.0, -2.0, -2.0], (10.0 + 7.0) / 2),
        # bid and ask at one price trade
        ([5.0, -3.0], [0.5, 0.5], [3.0, -3.0], 8.5),
        # no bid reaches an ask; one side only; nobody
        ([5.0, -5.0], [-0.5, 0.5], [0.0, 0.0], 7.0),
        ([5.0, 2.0], [1.0, 1.0], [0.0, 0.0], 7.0),
        ([-5.0, -2.0], [-1.0, -1.0], [0.0, 0.0], 7.0),
        ([0.0, 0.0], [1.0, -1.0], [0.0, 0.0], 7.0),
        # the grid's own prices as limits: a pool at the middle
        ([4.0, 8.0, -3.0], [1.0, 1.0, -1.0], [1.0, 2.0, -3.0], 7.0),
        ([3.0, -4.0, -8.0], [1.0, -1.0, -1.0], [3.0, -1.0, -2.0], 7.0),
    ],
)
def test_auctions_by_hand(orders: list[float], limits: list[float], traded: list[float], price: float) -> None:
    result = one_hour("double-auction", orders, limits)
    np.testing.assert_allclose(result.p2p_kw[:, 0], traded, atol=1e-12)
    np.testing.assert_allclose(result.p2p_price_ct_per_kwh, [price])
    np.testing.assert_allclose(result.cost_ct[TERM["p2p"], :, 0], np.multiply(traded, price), atol=1e-9)


def test_an_auction_where_grid_prices_coincide_trades_at_that_price() -> None:
    result = one_hour("double-auction", [5.0, -3.0], [-1.0, 1.0], da_sell_ratio=1.0)
    np.testing.assert_allclose(result.p2p_kw[:, 0], [3.0, -3.0])
    np.testing.assert_allclose(result.p2p_price_ct_per_kwh, [10.0])


def test_rounding_does_not_set_the_price_of_an_auction() -> None:
    """A bid of 0.6 meets asks of 0.1, 0.2, 0.3, which add up to more than that in some orders, as float64 has it."""
    sums = set()
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]):
        for sign, price in ((1.0, (8.5 + 4.0) / 2), (-1.0, (5.5 + 10.0) / 2)):
            small = [(-sign * share) for share in np.array([0.1, 0.2, 0.3])[order]]
            sums.add(sum(small) * sign)
            limits = [-sign, -sign, -sign, 0.5 * sign, 0.0]
            result = one_hour("double-auction", [*small, 0.6 * sign, 5.0 * sign], limits)
            np.testing.assert_allclose(result.p2p_price_ct_per_kwh, [price])
            np.testing.assert_allclose(result.p2p_kw[:, 0], [*small, 0.6 * sign, 0.0], atol=1e-9)
    assert len(sums) == 2


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_central_trade_by_hand(mechanism: str) -> None:
    """A lacks 5, B has 4 over, C has 2."""
    result = one_hour(mechanism, [5.0, -4.0, -2.0], central=True)
    assert result.clipped.tolist() == [0]
    np.testing.assert_allclose(result.p2p_price_ct_per_kwh, [4.0 if mechanism == "supply-demand-ratio" else 7.0])
    if mechanism == "bilateral":
        np.testing.assert_allclose(result.trade_kw[:, 0], [4.0, 1.0, 0.0])  # edges 0-1, 0-2, 1-2 in this order
    else:
        np.testing.assert_allclose(result.p2p_kw[:, 0], [5.0, -20.0 / 6.0, -10.0 / 6.0])


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_is_over_is_measured_against_the_position_and_sold_only_if_generated(mechanism: str) -> None:
    community = make_scenario("ieee33").replace(mechanism=mechanism)
    day, hour = np.zeros((1, 24, 10)), np.full((1, 24), 10.0)
    load, pv = day.copy(), day.copy()
    load[..., 0], pv[..., 1] = 20.0, 4.0
    simulator = Simulator(community, Exogenous(load, pv, day, hour, hour, hour), 1)
    rest, curtail, position = np.zeros((10, 1)), np.zeros((10, 1)), np.zeros((10, 24, 1))
    curtail[1] = 1.0
    for bought_kw, traded_kw in ((18.0, 2.0), (10.0, 3.0), (20.0, 0.0), (25.0, 0.0)):
        position[0], position[1] = bought_kw, 1.0  # 0 lacks what it has not bought; 1 has 4 over and generates 3
        simulator.reset(0)
        simulator.commit(position)
        result = simulator.step(rest, rest, curtail)
        np.testing.assert_allclose(result.p2p_kw[:2, 0], [traded_kw, -traded_kw])
        assert not result.p2p_kw[2:].any()
