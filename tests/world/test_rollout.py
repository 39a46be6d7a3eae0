from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from plain_world import random_community, random_days, random_position, random_wants

from prosumer_gym.actions import DayActions, Dispatch
from prosumer_gym.community import Community
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


def random_actions(community: Community, num_days: int, rng: np.random.Generator) -> DayActions:
    """Random wants of some days, with a leading axis D."""
    wants = [random_wants(community, num_days, rng) for _ in range(community.hours_per_day)]
    stacked = [np.stack([want[k].T for want in wants], axis=1) for k in range(4)]
    return DayActions(random_position(community, num_days, rng).transpose(2, 0, 1), *stacked)


@pytest.mark.parametrize("seed", range(3))
def test_an_episode_is_its_days_played_on_by_the_simulator(seed: int) -> None:
    """Two episodes of three days, the second of which begins before the first in the data."""
    community = random_community(seed)
    exogenous = random_days(community, 7, seed)
    rows = np.array([4, 5, 6, 1, 2, 3])
    actions = random_actions(community, 6, np.random.default_rng(seed))
    trace = rollout(community, exogenous, rows, actions, days_per_episode=3)
    D, H, N = 6, community.hours_per_day, community.num_prosumers
    assert trace.soc_kwh.shape == trace.backlog_kwh.shape == (D, H + 1, N)
    assert trace.trade_kw.shape == (D, H, community.num_edges)
    for first in (0, 3):
        simulator = Simulator(community, exogenous, 1)
        simulator.reset(rows[first], days_per_episode=3)
        for d in range(first, first + 3):
            day = actions.day(d)
            clipped = simulator.commit(day.position_kw[:, :, np.newaxis])
            np.testing.assert_array_equal(trace.position_kw[d], simulator.state.position_kw[:, :, 0])
            for hour in range(H):
                np.testing.assert_array_equal(trace.soc_kwh[d, hour], simulator.state.soc_kwh[:, 0])
                np.testing.assert_array_equal(trace.backlog_kwh[d, hour], simulator.state.backlog_kwh[:, 0])
                want = day.hour(hour)
                wants = (getattr(want, item.name)[:, np.newaxis] for item in dataclasses.fields(Dispatch))
                result = simulator.step(*wants).copy()
                result.clipped[0] += int(clipped[0]) if hour == 0 else 0
                for item in dataclasses.fields(Trace):
                    if item.name not in ("position_kw", "soc_kwh", "backlog_kwh"):
                        values = getattr(result, item.name)[..., 0]
                        np.testing.assert_array_equal(getattr(trace, item.name)[d, hour], values, err_msg=item.name)
                assert result.done[0] == (d == first + 2 and hour == H - 1)
            np.testing.assert_array_equal(trace.soc_kwh[d, H], simulator.state.soc_kwh[:, 0])


def test_batteries_carry_over_within_an_episode_and_what_is_left_is_settled_after_its_last_day() -> None:
    community = random_community(3)
    exogenous = random_days(community, 4, 3)
    actions = random_actions(community, 4, np.random.default_rng(7))
    trace = rollout(community, exogenous, np.arange(4), actions, days_per_episode=2)
    initial_kwh = np.broadcast_to(community.fleet.soc_initial_kwh, (2, community.num_prosumers))
    np.testing.assert_array_equal(trace.soc_kwh[[0, 2], 0], initial_kwh)
    np.testing.assert_array_equal(trace.soc_kwh[[1, 3], 0], trace.soc_kwh[[0, 2], -1])
    assert np.abs(trace.soc_kwh[[1, 3], 0] - initial_kwh).max() > 0.1
    terminal_ct = np.abs(trace.cost_ct[:, :, COST_TERMS.index("terminal_soc")])
    assert (terminal_ct[[1, 3], -1].sum(axis=-1) > 0.0).all()
    assert not terminal_ct[[0, 2]].any()
    assert not terminal_ct[:, :-1].any()
    np.testing.assert_allclose(trace.backlog_kwh[:, 0], 0.0, atol=1e-9)  # shiftable loads begin every day afresh


def test_rows_that_are_no_whole_episodes_are_refused() -> None:
    community = random_community(3)
    exogenous = random_days(community, 5, 3)
    for rows, length, says in (
        ([0, 1, 2], 2, "3 days are no whole episodes of 2"),
        ([0, 2], 2, r"rows 0 \.\.\. 2 of the data are no episode"),
        ([1, 0], 2, r"rows 1 \.\.\. 0 of the data are no episode"),
        ([0, 1], 0, "2 days are no whole episodes of 0"),
        ([4, 5], 2, r"must start on rows 0 \.\.\. 3"),
    ):
        actions = random_actions(community, len(rows), np.random.default_rng(0))
        with pytest.raises(UsageError, match=says):
            rollout(community, exogenous, rows, actions, days_per_episode=length)


def test_days_are_stacked_joined_and_taken_apart_again() -> None:
    actions = random_actions(random_community(3), 3, np.random.default_rng(0))
    days = [actions.day(d) for d in range(3)]
    again = DayActions.join([DayActions.stack(days[:1]), DayActions.stack(days[1:])])
    for item in dataclasses.fields(DayActions):
        assert getattr(days[1], item.name).ndim == 2
        np.testing.assert_array_equal(getattr(again, item.name), getattr(actions, item.name))
