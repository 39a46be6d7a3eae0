from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from plain_world import random_community, random_days, random_position, random_wants

from prosumer_gym.actions import DayActions, Dispatch
from prosumer_gym.errors import UsageError
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.rollout import Trace, rollout
from prosumer_gym.simulator import COST_TERMS, Simulator


@pytest.mark.parametrize("seed", range(4))
def test_a_trace_is_the_days_played_one_by_one(seed: int) -> None:
    community = random_community(seed)
    exogenous = random_days(community, 6, seed)
    rng = np.random.default_rng(seed)
    rows = np.array([4, 0, 4, 5])
    days, expected = [], []
    for row in rows:
        simulator = Simulator(community, exogenous, 1)
        simulator.reset(row)
        position = random_position(community, 1, rng)
        clipped = simulator.commit(position)
        states = [simulator.state.copy()]
        wants, results = [], []
        for _ in range(community.hours_per_day):
            want = random_wants(community, 1, rng)
            wants.append(Dispatch(*(w[:, 0] for w in want)))
            results.append(simulator.step(*want).copy())
            states.append(simulator.state.copy())
        results[0].clipped[:] += clipped
        days.append(DayActions.from_steps(position[:, :, 0], wants))
        expected.append((states, results))
    trace = rollout(community, exogenous, rows, DayActions.stack(days))
    D, H, N, E = 4, community.hours_per_day, community.num_prosumers, community.num_edges
    assert trace.cost_ct.shape == (D, H, len(COST_TERMS), N)
    assert trace.v_pu.shape == (D, H, community.feeder.num_buses)
    assert trace.trade_kw.shape == (D, H, E)
    assert trace.soc_kwh.shape == trace.backlog_kwh.shape == (D, H + 1, N)
    assert trace.position_kw.shape == (D, N, H)
    for day, (states, results) in enumerate(expected):
        np.testing.assert_array_equal(trace.position_kw[day], states[0].position_kw[:, :, 0])
        np.testing.assert_array_equal(trace.soc_kwh[day], [state.soc_kwh[:, 0] for state in states])
        np.testing.assert_array_equal(trace.backlog_kwh[day], [state.backlog_kwh[:, 0] for state in states])
        for item in dataclasses.fields(Trace):
            if item.name not in ("position_kw", "soc_kwh", "backlog_kwh"):
                values = [getattr(result, item.name)[..., 0] for result in results]
                np.testing.assert_array_equal(getattr(trace, item.name)[day], values, err_msg=item.name)


def test_what_was_played_plays_again_the_same() -> None:
    """Feasible powers, logged and wanted again, are a fixed point."""
    community = random_community(3)
    exogenous = random_days(community, 5, 3)
    rng = np.random.default_rng(3)
    wants = [random_wants(community, 5, rng) for _ in range(community.hours_per_day)]
    stacked = [np.stack([want[k].T for want in wants], axis=1) for k in range(4)]
    actions = DayActions(random_position(community, 5, rng).transpose(2, 0, 1), *stacked)
    trace = rollout(community, exogenous, np.arange(5), actions)
    offers = np.concatenate((trace.trade_kw, -trace.trade_kw), axis=-1)
    again = rollout(
        community, exogenous, np.arange(5),
        DayActions(trace.position_kw, trace.battery_kw, trace.shiftable_kw, trace.curtail_kw, offers),
    )  # fmt: skip
    assert not again.clipped.any()
    np.testing.assert_allclose(again.cost_ct, trace.cost_ct, atol=1e-8)
    np.testing.assert_allclose(again.v_pu, trace.v_pu, atol=1e-12)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_central_trade_needs_no_offers_of_the_mechanism(mechanism: str) -> None:
    """Bilateral actions, played under every mechanism: the same physics, the trade of the simulator's own offers."""
    bilateral = random_community(4)
    community = bilateral.replace(mechanism=mechanism)
    exogenous = random_days(community, 5, 4)
    rng = np.random.default_rng(4)
    wants = [random_wants(bilateral, 5, rng) for _ in range(community.hours_per_day)]
    position = random_position(community, 5, rng)
    stacked = [np.stack([want[k].T for want in wants], axis=1) for k in range(4)]
    actions = DayActions(position.transpose(2, 0, 1), *stacked)
    trace = rollout(community, exogenous, np.arange(5), actions, central_trade=True)
    simulator = Simulator(community, exogenous, 5)
    simulator.reset(np.arange(5))
    simulator.commit(position)
    for hour, want in enumerate(wants):
        result = simulator.step(*want[:3])
        for name in ("p2p_kw", "p2p_price_ct_per_kwh", "community_cost_ct", "trade_kw"):
            np.testing.assert_array_equal(np.moveaxis(getattr(result, name), -1, 0), getattr(trace, name)[:, hour])
    assert np.abs(trace.p2p_kw).max() > 0.1
    offered = rollout(bilateral, exogenous, np.arange(5), actions)
    np.testing.assert_array_equal(trace.net_import_kw, offered.net_import_kw)
    np.testing.assert_array_equal(trace.v_pu, offered.v_pu)


def test_bad_actions_are_named() -> None:
    community = random_community(3)
    exogenous = random_days(community, 5, 3)
    H, N, E = community.hours_per_day, community.num_prosumers, community.num_edges
    shapes = {
        "position_kw": (2, N, H), "battery_kw": (2, H, N), "shiftable_kw": (2, H, N), "curtail_kw": (2, H, N),
        "offers": (2, H, 2 * E),
    }  # fmt: skip
    good = DayActions(**{name: np.zeros(shape) for name, shape in shapes.items()})
    for name in shapes:
        with pytest.raises(UsageError, match=rf"rollout: actions\.{name} has shape \(1, .*expected \(2, "):
            rollout(community, exogenous, [0, 1], dataclasses.replace(good, **{name: getattr(good, name)[:1]}))
    with pytest.raises(UsageError, match=r"must start on rows 0 \.\.\. 4"):
        rollout(community, exogenous, [0, 5], good)
