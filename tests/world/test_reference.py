from __future__ import annotations

import numpy as np
from plain_world import random_days

from prosumer_gym.actions import DayActions
from prosumer_gym.reference import no_control_dispatch, no_control_position
from prosumer_gym.rollout import rollout
from prosumer_gym.scenarios import make_scenario


def test_position_by_hand() -> None:
    # one prosumer, two hours: the mean of the last seven of eight days, the oldest is left out
    load = np.array([[99.0, 99.0]] + [[10.0, 4.0]] * 6 + [[17.0, 4.0]])[:, :, None]
    pv = np.array([[0.0, 0.0]] * 7 + [[0.0, 35.0]])[:, :, None]
    shiftable = np.array([[1.0], [0.5]])
    # hour 0: mean(10 * 6, 17) = 11 plus 1; hour 1: 4 - 35 / 7 + .5 = -.5, sold ahead by nobody
    assert no_control_position(load, pv, shiftable, np.array([50.0])).tolist() == [[12.0, 0.0]]
    assert no_control_position(load, pv, shiftable, np.array([10.0])).tolist() == [[10.0, 0.0]]


def test_positions_of_a_batch() -> None:
    rng = np.random.default_rng(0)
    load, pv, shiftable = rng.random((5, 8, 24, 3)), rng.random((5, 8, 24, 3)), rng.random((5, 24, 3))
    limit = np.array([0.3, 0.5, 9.0])
    together = no_control_position(load, pv, shiftable, limit)
    assert together.shape == (5, 3, 24)
    for lane in range(5):
        alone = no_control_position(load[lane], pv[lane], shiftable[lane], limit)
        np.testing.assert_allclose(together[lane], alone, rtol=1e-14)


def test_dispatch_leaves_everything_alone() -> None:
    shiftable = np.array([1.0, 2.0])
    dispatch = no_control_dispatch(shiftable, 6)
    np.testing.assert_array_equal(dispatch.shiftable_kw, shiftable)
    assert not np.shares_memory(dispatch.shiftable_kw, shiftable)
    for values, shape in ((dispatch.battery_kw, (2,)), (dispatch.curtail_kw, (2,)), (dispatch.offers, (6,))):
        assert values.shape == shape
        assert not values.any()
    assert no_control_dispatch(np.ones((4, 2)), 6).offers.shape == (4, 6)


def test_without_control_nothing_is_clipped_and_perfect_foresight_settles_nothing_but_surplus() -> None:
    community = make_scenario("ieee33")
    exogenous = random_days(community, 4, 0)
    net_load = exogenous.load_kw + exogenous.shiftable_ref_kw - exogenous.pv_kw
    days = []
    for day in range(4):
        position = np.clip(net_load[day].T, 0.0, community.fleet.position_limit_kw[:, np.newaxis])
        hours = [no_control_dispatch(exogenous.shiftable_ref_kw[day, h], community.num_offers) for h in range(24)]
        days.append(DayActions.from_steps(position, hours))
    trace = rollout(community, exogenous, np.arange(4), DayActions.stack(days))
    assert not trace.clipped.any()
    np.testing.assert_allclose(trace.net_import_kw, net_load, atol=1e-12)
    np.testing.assert_allclose(trace.realtime_kw, np.minimum(net_load, 0.0), atol=1e-12)
    assert not trace.trade_kw.any()
    assert not trace.battery_kw.any()
