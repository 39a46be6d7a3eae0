"""What one prosumer's equipment can do, by hand and against other ways to say the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from plain_world import random_community, random_days

from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeders import ieee33
from prosumer_gym.lanes import LANES, aligned, lean, load, store
from prosumer_gym.prosumer import (
    backlog_tube,
    discomfort_cost,
    feasible_battery,
    feasible_curtailment,
    feasible_shiftable,
    net_import,
    next_backlog,
    next_soc,
    wear_cost,
)
from prosumer_gym.simulator import Simulator


def in_lanes(
    kernel: Callable[..., None], numbers: list[float] | list[tuple[float, ...]], *others: float
) -> list[float]:
    """`kernel` of one number, or of a tuple of them, a lane."""
    table = np.array(numbers, dtype=np.float64).reshape(len(numbers), -1).T
    given, result = aligned(len(table)), aligned(1)
    given[:, : len(numbers)] = table
    kernel(given, result, *others)
    assert len(numbers) <= LANES
    return result[0, : len(numbers)].tolist()


@lean
def curtail_kernel(x: np.ndarray, result: np.ndarray) -> None:
    store(result, 0, 0, feasible_curtailment(load(x, 0, 0), load(x, 1, 0)))


@lean
def battery_kernel(
    x: np.ndarray, result: np.ndarray, power: float, low: float, high: float, eta_c: float, eta_d: float, dt: float
) -> None:
    store(result, 0, 0, feasible_battery(load(x, 0, 0), load(x, 1, 0), power, low, high, eta_c, eta_d, dt))


@lean
def soc_kernel(
    x: np.ndarray, result: np.ndarray, low: float, high: float, eta_c: float, eta_d: float, dt: float
) -> None:
    store(result, 0, 0, next_soc(load(x, 0, 0), load(x, 1, 0), low, high, eta_c, eta_d, dt))


@lean
def shiftable_kernel(x: np.ndarray, result: np.ndarray, power: float, dt: float) -> None:
    wanted, backlog, ref, low, high = load(x, 0, 0), load(x, 1, 0), load(x, 2, 0), load(x, 3, 0), load(x, 4, 0)
    store(result, 0, 0, feasible_shiftable(wanted, backlog, ref, power, low, high, dt))


@lean
def backlog_kernel(x: np.ndarray, result: np.ndarray, dt: float) -> None:
    store(result, 0, 0, next_backlog(load(x, 0, 0), load(x, 1, 0), load(x, 2, 0), load(x, 3, 0), load(x, 4, 0), dt))


@lean
def import_kernel(x: np.ndarray, result: np.ndarray) -> None:
    store(result, 0, 0, net_import(load(x, 0, 0), load(x, 1, 0), load(x, 2, 0), load(x, 3, 0), load(x, 4, 0)))


@lean
def wear_kernel(x: np.ndarray, result: np.ndarray, quadratic: float, linear: float, dt: float) -> None:
    store(result, 0, 0, wear_cost(load(x, 0, 0), quadratic, linear, dt))


@lean
def discomfort_kernel(x: np.ndarray, result: np.ndarray, quadratic: float, linear: float, dt: float) -> None:
    store(result, 0, 0, discomfort_cost(load(x, 0, 0), quadratic, linear, dt))


def test_curtailment_lies_between_nothing_and_the_sun() -> None:
    wanted_and_pv = [(3.0, 5.0), (7.0, 5.0), (-1.0, 5.0), (np.inf, 5.0), (-np.inf, 5.0), (2.0, 0.0)]
    assert in_lanes(curtail_kernel, wanted_and_pv) == [3.0, 5.0, 0.0, 5.0, 0.0, 0.0]


def test_battery_is_limited_by_power_and_energy() -> None:
    # 20 kW, 10 ... 100 kWh, eta .8 / .5, half an hour: from 98 kWh, 2 / (.8 * .5) = 5 kW fill it; from 12 kWh,
    # 2 * .5 / .5 = 2 kW empty it
    wanted_and_soc = [
        (4.0, 50.0), (99.0, 50.0), (-99.0, 50.0), (99.0, 98.0), (4.0, 98.0), (-99.0, 12.0), (-1.0, 12.0),
        (99.0, 100.0), (-99.0, 10.0), (np.inf, 50.0), (-np.inf, 50.0),
    ]  # fmt: skip
    expected = [4.0, 20.0, -20.0, 5.0, 4.0, -2.0, -1.0, 0.0, 0.0, 20.0, -20.0]
    np.testing.assert_allclose(in_lanes(battery_kernel, wanted_and_soc, 20.0, 10.0, 100.0, 0.8, 0.5, 0.5), expected)


def test_charging_and_discharging_lose_energy() -> None:
    # half an hour: 10 kW store 10 * .8 * .5 = 4 kWh; -10 kW take 10 / .5 * .5 = 10 kWh
    result = in_lanes(soc_kernel, [(10.0, 50.0), (-10.0, 50.0), (0.0, 50.0)], 10.0, 100.0, 0.8, 0.5, 0.5)
    np.testing.assert_allclose(result, [54.0, 40.0, 50.0])


def test_rounding_never_leaves_the_bounds_of_the_battery() -> None:
    assert in_lanes(soc_kernel, [(100.0, 50.0), (-100.0, 50.0)], 10.0, 90.0, 0.9, 0.9, 1.0) == [90.0, 10.0]


def test_shiftable_load_stays_where_the_day_can_be_finished() -> None:
    # 10 kW, half an hour, ref 2 kW, backlog 1 kWh, after this hour within -1 ... 3 kWh:
    # at least 2 + (-1 - 1) / .5 = -2 -> 0, at most 2 + (3 - 1) / .5 = 6
    cases = [(w, 1.0, 2.0, -1.0, 3.0) for w in (-1.0, 4.0, 7.0, np.inf, -np.inf)]
    # from backlog -3 kWh: at least 2 + 2 / .5 = 6, at most 2 + 6 / .5 = 14 -> 10
    cases += [(w, -3.0, 2.0, -1.0, 3.0) for w in (0.0, 8.0, 99.0)]
    np.testing.assert_allclose(
        in_lanes(shiftable_kernel, cases, 10.0, 0.5), [0.0, 4.0, 6.0, 6.0, 0.0, 6.0, 8.0, 10.0]
    )  # fmt: skip


def test_backlog_net_import_wear_and_discomfort_by_hand() -> None:
    assert in_lanes(backlog_kernel, [(4.0, 1.0, 2.0, -5.0, 5.0), (0.0, 1.0, 2.0, -5.0, 5.0)], 0.5) == [2.0, 0.0]
    assert in_lanes(import_kernel, [(5.0, 8.0, 1.0, 2.0, -3.0)]) == [5.0 - (8.0 - 1.0) + 2.0 - 3.0]
    np.testing.assert_allclose(in_lanes(wear_kernel, [3.0, -3.0, 0.0], 0.2, 1.5, 0.5), [3.15, 3.15, 0.0])
    np.testing.assert_allclose(in_lanes(discomfort_kernel, [3.0, -3.0, 0.0], 0.2, 1.5, 0.5), [3.15, 3.15, 0.0])


@pytest.mark.parametrize("hours_per_day", [4, 24, 96])
def test_the_feasible_set_is_the_catch_up_set_where_the_backlog_is_free(hours_per_day: int) -> None:
    """With R the energy still due: max(0, R / dt - (hours after this one) power) <= p <= min(power, R / dt)."""
    rng = np.random.default_rng(hours_per_day)
    num_lanes = 32
    community = Community(
        "free backlog", ieee33(), dataclasses.replace(Fleet.identical([5, 8, 11]), backlog_min_kwh=np.full(3, -1e6),
        backlog_max_kwh=np.full(3, 1e6)), TradeGraph.ring_with_chords(3), hours_per_day=hours_per_day,
    )  # fmt: skip
    exogenous = random_days(community, num_lanes, hours_per_day)
    dt, power = community.dt_h, 20.0
    least, most, any_ = (Simulator(community, exogenous, num_lanes) for _ in range(3))
    any_.reset(np.arange(num_lanes))
    any_.commit(np.zeros((3, hours_per_day, num_lanes)))
    due_kwh = dt * exogenous.shiftable_ref_kw.sum(axis=1).T  # [N,B]
    zero, offers = np.zeros((3, num_lanes)), np.zeros((6, num_lanes))
    for hour in range(hours_per_day):
        least.restore(any_.state)
        most.restore(any_.state)
        low = least.step(zero, zero - np.inf, zero, offers).shiftable_kw
        high = most.step(zero, zero + np.inf, zero, offers).shiftable_kw
        after = hours_per_day - 1 - hour
        np.testing.assert_allclose(low, np.maximum(0.0, due_kwh / dt - after * power), atol=1e-9)
        np.testing.assert_allclose(high, np.minimum(power, due_kwh / dt), atol=1e-9)
        due_kwh = due_kwh - dt * any_.step(zero, rng.uniform(-9.0, 29.0, zero.shape), zero, offers).shiftable_kw
    np.testing.assert_allclose(due_kwh, 0.0, atol=1e-9)


def can_be_finished(ref_kw: np.ndarray, power_kw: float, low_kwh: float, high_kwh: float, dt: float) -> bool:
    """Whether the backlog can return to zero, by walking forwards."""
    least = most = 0.0
    for ref in ref_kw:
        least, most = max(least - dt * ref, low_kwh), min(most + dt * (power_kw - ref), high_kwh)
        if least > most + 1e-12:
            return False
    return least <= 1e-9 and most >= -1e-9


def one_prosumer(power_kw: float, low_kwh: float, high_kwh: float, hours_per_day: int) -> Community:
    fleet = dataclasses.replace(
        Fleet.identical([5]), shiftable_power_kw=np.array([power_kw]), backlog_min_kwh=np.array([low_kwh]),
        backlog_max_kwh=np.array([high_kwh]),
    )  # fmt: skip
    return Community("one", ieee33(), fleet, TradeGraph.ring_with_chords(1), hours_per_day=hours_per_day)


def test_the_tube_is_empty_exactly_when_the_day_cannot_be_finished() -> None:
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(400):
        power, hours = float(rng.uniform(1.0, 10.0)), int(rng.choice([3, 6]))
        low, high = -float(rng.uniform(0.0, 40.0)), float(rng.uniform(0.0, 40.0))
        community = one_prosumer(power, low, high, hours)
        ref = rng.uniform(0.0, 1.5 * power, (1, hours, 1)) * (rng.random((1, hours, 1)) < 0.7)
        possible = can_be_finished(ref[0, :, 0], power, low, high, community.dt_h)
        verdicts.append(possible)
        if possible:
            below, above = backlog_tube(community, ref)
            assert (below <= above + 1e-9).all()
            assert (below[:, -1] == 0.0).all()
            assert (above[:, -1] == 0.0).all()
            assert (below[:, 0] <= 1e-9).all()
            assert (above[:, 0] >= -1e-9).all()
        else:
            with pytest.raises(UsageError, match=r"exogenous\.shiftable_ref_kw: day 0, prosumer 0"):
                backlog_tube(community, ref)
    assert 50 < sum(verdicts) < 350


def test_a_day_at_full_power_can_just_be_delivered() -> None:
    community = one_prosumer(0.1, -1.0, 1.0, 24)
    below, above = backlog_tube(community, np.full((1, 24, 1), 0.1))
    np.testing.assert_allclose(below[0, 0], 0.0, atol=1e-12)
    assert (above >= -1e-12).all()


def test_an_impossible_day_is_named_when_the_simulator_is_made() -> None:
    community = random_community(1)
    exogenous = random_days(community, 3, 1)
    power = community.fleet.shiftable_power_kw

    def broken(value_kw: float) -> Exogenous:
        ref = np.array(exogenous.shiftable_ref_kw)
        ref[2, :, 0] = value_kw
        return dataclasses.replace(exogenous, shiftable_ref_kw=ref)

    too_much = power[0] + 0.1
    due, reach = 24.0 * too_much, 24.0 * power[0]
    with pytest.raises(UsageError, match=rf"day 2, prosumer 0: {due:g} kWh .* 0 \.\.\. {reach:g} kWh at fleet\.shift"):
        Simulator(community, broken(too_much), 1)
    with pytest.raises(UsageError, match=r"day 2, prosumer 0: -24 kWh cannot be delivered"):
        Simulator(community, broken(-1.0), 1)
    late = np.zeros((1, 6, 1))
    late[0, 5] = 12.0  # 48 kWh due in the last four hours, at 4 kW most of it in advance
    with pytest.raises(
        UsageError, match=r"day 0, prosumer 0: 48 kWh .* widen fleet\.backlog_min_kwh \.\.\. backlog_max"
    ):
        backlog_tube(one_prosumer(4.0, 0.0, 20.0, 6), late)
    backlog_tube(one_prosumer(4.0, 0.0, 32.0, 6), late)
