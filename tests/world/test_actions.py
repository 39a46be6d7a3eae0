from __future__ import annotations

import numpy as np
import pytest

from prosumer_gym.actions import DayActions, Dispatch, from_kw, position_from_kw, position_to_kw, to_kw
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.feeders import ieee33
from prosumer_gym.scenarios import make_scenario


@pytest.fixture
def community() -> Community:
    """Two prosumers, one edge of 5 kW; the second has neither battery nor shiftable load."""
    fleet = Fleet.identical([5, 8])
    values = {name: np.array(getattr(fleet, name)) for name in Fleet.__dataclass_fields__}
    values |= {"battery_power_kw": [20.0, 0.0], "shiftable_power_kw": [10.0, 0.0], "position_limit_kw": [50.0, 30.0]}
    return Community("pair", ieee33(), Fleet(**values), TradeGraph.ring_with_chords(2), hours_per_day=3)


def test_scales_by_hand(community: Community) -> None:
    action = {"battery": [-0.5, 1.0], "shiftable": [0.0, 1.0], "curtail": [0.25, -1.0], "trade": [0.6, -1.0]}
    dispatch = to_kw(community, action, np.array([8.0, 4.0]))
    assert dispatch.battery_kw.tolist() == [-10.0, 0.0]
    assert dispatch.shiftable_kw.tolist() == [5.0, 0.0]
    assert dispatch.curtail_kw.tolist() == [2.0, 0.0]
    assert dispatch.offers.tolist() == [3.0, -5.0]
    day_ahead = np.array([[1.0, 0.0, -0.5], [0.1, -1.0, 2.0]])
    assert position_to_kw(community, {"day_ahead": day_ahead}).tolist() == [[50.0, 0.0, -25.0], [3.0, -30.0, 30.0]]


def test_the_zero_action_curtails_and_trades_nothing(community: Community) -> None:
    zero = {"battery": np.zeros(2), "shiftable": np.zeros(2), "curtail": np.zeros(2), "trade": np.zeros(2)}
    dispatch = to_kw(community, zero, np.array([8.0, 4.0]))
    assert not dispatch.curtail_kw.any()
    assert not dispatch.offers.any()
    assert not dispatch.battery_kw.any()


def test_beyond_the_box_is_clipped(community: Community) -> None:
    action = {"battery": [3.0, 0.0], "shiftable": [-9.0, 0.0], "curtail": [np.inf, 0.0], "trade": [-np.inf, 7.0]}
    dispatch = to_kw(community, action, np.array([8.0, 4.0]))
    assert dispatch.battery_kw[0] == 20.0
    assert dispatch.shiftable_kw[0] == 0.0
    assert dispatch.curtail_kw[0] == 8.0
    assert dispatch.offers.tolist() == [-5.0, 5.0]


@pytest.mark.parametrize("batch", [(), (7,), (2, 3)])
def test_there_and_back(batch: tuple[int, ...]) -> None:
    community, rng = make_scenario("ieee33"), np.random.default_rng(0)
    pv = rng.uniform(0.0, 20.0, (*batch, 10)) * (rng.random((*batch, 10)) < 0.7)
    action = {key: rng.uniform(-1.0, 1.0, (*batch, 10)) for key in ("battery", "shiftable", "curtail")}
    action["trade"] = rng.uniform(-1.0, 1.0, (*batch, 30))
    back = from_kw(community, to_kw(community, action, pv), pv)
    assert set(back) == set(action)
    for key in ("battery", "shiftable", "trade"):
        np.testing.assert_allclose(back[key], action[key], atol=1e-12)
    np.testing.assert_allclose(back["curtail"], np.where(pv > 0.0, np.maximum(action["curtail"], 0.0), 0.0), atol=1e-12)
    day_ahead = rng.uniform(-1.0, 1.0, (*batch, 10, 24))
    position = position_to_kw(community, {"day_ahead": day_ahead})
    np.testing.assert_allclose(position_from_kw(community, position), day_ahead, atol=1e-12)


def test_kilowatts_beyond_a_limit_become_the_end_of_the_box(community: Community) -> None:
    dispatch = Dispatch(np.array([99.0, 5.0]), np.array([99.0, 5.0]), np.array([99.0, 0.0]), np.array([99.0, -99.0]))
    action = from_kw(community, dispatch, np.array([8.0, 0.0]))
    assert action["battery"].tolist() == [1.0, 0.0]
    assert action["shiftable"].tolist() == [1.0, -1.0]
    assert action["curtail"].tolist() == [1.0, 0.0]
    assert action["trade"].tolist() == [1.0, -1.0]


@pytest.mark.parametrize("key", ["battery", "shiftable", "curtail", "trade"])
def test_bad_parts_are_named(community: Community, key: str) -> None:
    good = {name: np.zeros(2) for name in ("battery", "shiftable", "curtail", "trade")}
    pv = np.zeros(2)
    with pytest.raises(UsageError, match=f"key '{key}' is missing"):
        to_kw(community, {name: value for name, value in good.items() if name != key}, pv)
    with pytest.raises(UsageError, match=rf"action\['{key}'\]: holds NaN"):
        to_kw(community, {**good, key: np.array([0.0, np.nan])}, pv)
    with pytest.raises(UsageError, match=rf"action\['{key}'\]: shape \(3,\), expected \(2,\)"):
        to_kw(community, {**good, key: np.zeros(3)}, pv)
    with pytest.raises(UsageError, match=rf"action\['{key}'\]: shape \(\), expected \(2,\)"):
        to_kw(community, {**good, key: 0.0}, pv)
    with pytest.raises(UsageError, match=rf"action\['{key}'\]: is not an array of numbers"):
        to_kw(community, {**good, key: ["a", "b"]}, pv)


def test_a_bad_position_is_named(community: Community) -> None:
    with pytest.raises(UsageError, match="key 'day_ahead' is missing; it has 'battery'"):
        position_to_kw(community, {"battery": np.zeros(2)})
    with pytest.raises(UsageError, match=r"action\['day_ahead'\]: shape \(3, 2\), expected \(2, 3\)"):
        position_to_kw(community, {"day_ahead": np.zeros((3, 2))})


def test_days_are_put_together_and_taken_apart() -> None:
    rng = np.random.default_rng(0)
    days = []
    for _ in range(4):
        hours = [Dispatch(rng.random(2), rng.random(2), rng.random(2), rng.random(6)) for _ in range(3)]
        days.append(DayActions.from_steps(rng.random((2, 3)), hours))
        np.testing.assert_array_equal(days[-1].hour(1).offers, hours[1].offers)
    stacked = DayActions.stack(days)
    assert stacked.position_kw.shape == (4, 2, 3)
    assert stacked.offers.shape == (4, 3, 6)
    np.testing.assert_array_equal(stacked.hour(2).battery_kw[3], days[3].battery_kw[2])
