"""Every error of a community names the field and the prosumer or edge."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from prosumer_gym.community import Community, Fleet, Tariff, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.feeders import ieee33

DEFAULT = Fleet.identical([5, 8, 11])


def fleet(**changes: Any) -> Fleet:
    values = {name: getattr(DEFAULT, name) for name in Fleet.__dataclass_fields__}
    return Fleet(**{**values, **changes})


def changed(name: str, value: float) -> np.ndarray:
    """The default with another value for prosumer 1."""
    values = np.array(getattr(DEFAULT, name), dtype=np.float64)
    values[1] = value
    return values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bus", 0), ("units", 0), ("pv_ratio", -1.0), ("battery_power_kw", -1.0),
        ("soc_min_kwh", -1.0), ("soc_max_kwh", 5.0),
        ("soc_initial_kwh", 5.0), ("soc_initial_kwh", 250.0), ("charge_efficiency", 0.0), ("charge_efficiency", 1.1),
        ("discharge_efficiency", 0.0), ("discharge_efficiency", 1.1), ("battery_wear_quadratic_ct_per_kw2h", -1.0),
        ("battery_wear_linear_ct_per_kwh", -1.0), ("shiftable_power_kw", -1.0), ("backlog_min_kwh", 1.0),
        ("backlog_max_kwh", -1.0), ("discomfort_quadratic_ct_per_kwh2h", -1.0),
        ("discomfort_linear_ct_per_kwhh", -1.0), ("position_limit_kw", -1.0), ("connection_limit_kw", -1.0),
        ("power_factor", 0.0), ("power_factor", 1.01),
    ],
)  # fmt: skip
def test_a_fleet_names_the_field_and_the_prosumer(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"fleet\.{name}: prosumer 1: {value:g} "):
        fleet(**{name: changed(name, value)})


@pytest.mark.parametrize("name", [name for name in Fleet.__dataclass_fields__ if name not in ("bus", "units")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_fleet_refuses_what_is_not_finite(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"fleet\.{name}: not finite"):
        fleet(**{name: changed(name, value)})


@pytest.mark.parametrize("name", [name for name in Fleet.__dataclass_fields__ if name != "bus"])
def test_a_fleet_refuses_another_number_of_values(name: str) -> None:
    with pytest.raises(UsageError, match=rf"fleet\.{name}: shape \(2,\), expected one value per prosumer \(3,\)"):
        fleet(**{name: [1.0, 1.0]})


@pytest.mark.parametrize("bus", [[], 5, [[5, 8]]])
def test_a_fleet_has_a_list_of_buses(bus: Any) -> None:
    with pytest.raises(UsageError, match=r"fleet\.bus: must list one bus"):
        fleet(bus=bus)


def test_a_fleet_is_read_only_and_takes_one_value_for_all() -> None:
    assert fleet(battery_power_kw=7.0).battery_power_kw.tolist() == [7.0, 7.0, 7.0]
    with pytest.raises(ValueError, match="read-only"):
        DEFAULT.battery_power_kw[0] = 1.0
    assert len(DEFAULT) == 3


@pytest.mark.parametrize(
    ("first", "second", "changes", "message"),
    [
        ([0, 1], [1, 1], {}, r"edge 1 \(1 - 1\): a prosumer cannot trade with itself"),
        ([0, 2], [1, 1], {}, r"edge 1 \(2 - 1\): the lower-numbered prosumer comes first"),
        ([0, -1], [1, 1], {}, r"edge 1 \(-1 - 1\): the lower-numbered prosumer comes first"),
        ([0, 0], [1, 1], {}, r"edge 1 \(0 - 1\): listed twice"),
        ([0, 1], [1, 2], {"limit_kw": [1.0, -1.0]}, r"edge 1 \(1 - 2\): limit_kw must be finite and not negative"),
        ([0, 1], [1, 2], {"limit_kw": [1.0, np.inf]}, r"edge 1 \(1 - 2\): limit_kw must be finite"),
        ([0, 1], [1, 2], {"fee_ct_per_kwh": [1.0, -1.0]}, r"edge 1 \(1 - 2\): fee_ct_per_kwh must be finite"),
        ([0, 1], [1, 2], {"fee_ct_per_kwh": [1.0, np.nan]}, r"edge 1 \(1 - 2\): fee_ct_per_kwh must be finite"),
        ([0, 1], [1], {}, r"trade graph\.second: shape \(1,\), expected \(2,\)"),
        ([0, 1], [1, 2], {"limit_kw": [1.0]}, r"trade graph\.limit_kw: shape \(1,\), expected \(2,\)"),
    ],
)
def test_a_trade_graph_names_the_edge(first: list[int], second: list[int], changes: Any, message: str) -> None:
    arguments = {"limit_kw": 5.0, "fee_ct_per_kwh": 0.2, **changes}
    with pytest.raises(UsageError, match=message):
        TradeGraph(np.array(first), np.array(second), **arguments)


def test_ring_with_chords() -> None:
    graph = TradeGraph.ring_with_chords(10)
    degree = np.bincount(np.concatenate((graph.first, graph.second)))
    assert len(graph) == 15
    assert (degree == 3).all()
    assert (graph.first < graph.second).all()
    assert len(TradeGraph.ring_with_chords(1)) == 0
    assert len(TradeGraph.ring_with_chords(2)) == 1
    assert len(TradeGraph.ring_with_chords(5)) == 5


@pytest.mark.parametrize("name", Tariff.__dataclass_fields__)
@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_a_tariff_names_the_field(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"tariff\.{name}: .* must be finite and not negative"):
        Tariff(**{name: value})


@pytest.mark.parametrize("name", ["da_sell_ratio", "rt_sell_ratio"])
def test_sell_ratios_do_not_exceed_one(name: str) -> None:
    with pytest.raises(UsageError, match=rf"tariff\.{name}: 1.5 must not exceed 1"):
        Tariff(**{name: 1.5})


@pytest.mark.parametrize(
    ("da", "rt", "expected"),
    [
        # da_buy = c, da_sell = c - .6|c|, rt_buy = max(r, da_buy) + 1, rt_sell = min(r - .4|r|, da_sell) - .5
        (10.0, 20.0, (10.0, 4.0, 21.0, 3.5, 7.0)),
        (10.0, 5.0, (10.0, 4.0, 11.0, 2.5, 7.0)),
        (-10.0, 5.0, (-10.0, -16.0, 6.0, -16.5, -13.0)),
        (10.0, -5.0, (10.0, 4.0, 11.0, -7.5, 7.0)),
        (-10.0, -20.0, (-10.0, -16.0, -9.0, -28.5, -13.0)),
        (0.0, 0.0, (0.0, 0.0, 1.0, -0.5, 0.0)),
    ],
)
def test_settlement_prices_by_hand(da: float, rt: float, expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(Tariff().settlement_prices(np.array(da), np.array(rt)), expected, atol=1e-12)


def test_settlement_prices_are_ordered_for_prices_of_any_sign() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        tariff = Tariff(*rng.uniform(0.0, 1.0, 6))
        price = tariff.settlement_prices(rng.uniform(-50.0, 50.0, (7, 24)), rng.uniform(-50.0, 50.0, (7, 24)))
        ordered = (price.rt_sell, price.da_sell, price.p2p, price.da_buy, price.rt_buy)
        for lower, upper in pairwise(ordered):
            assert (lower <= upper + 1e-12).all()


def test_terminal_values_by_hand() -> None:
    # dearest purchase 20, cheapest sale .4 * 5 = 2: missing 1.5 * 20 / .9, left 2 * .8
    missing, left = Tariff().terminal_values(np.array([5.0, 20.0]), np.array([0.9]), np.array([0.8]))
    np.testing.assert_allclose(missing, [30.0 / 0.9])
    np.testing.assert_allclose(left, [1.6])
    # prices below zero make energy worth nothing, never a burden
    missing, left = Tariff().terminal_values(np.array([-5.0, -20.0]), np.array([0.9]), np.array([0.8]))
    assert missing.tolist() == left.tolist() == [0.0]


def test_a_community_names_what_does_not_fit_together() -> None:
    graph = TradeGraph.ring_with_chords(3)
    with pytest.raises(UsageError, match=r"community here: prosumer 2 sits on bus 33, but .* buses 0 \.\.\. 32"):
        Community("here", ieee33(), Fleet.identical([5, 8, 33]), graph)
    with pytest.raises(UsageError, match="community here: trade edge 1 ends at prosumer 2, but there are only 2"):
        Community("here", ieee33(), Fleet.identical([5, 8]), graph)
    with pytest.raises(UsageError, match="community here: hours_per_day is 0, must be 1 or more"):
        Community("here", ieee33(), Fleet.identical([5, 8, 11]), graph, hours_per_day=0)


def test_a_bus_is_a_whole_number() -> None:
    with pytest.raises(UsageError, match=r"fleet\.bus: 5\.5 is no whole number"):
        Fleet.identical(np.array([5.0, 5.5]))
