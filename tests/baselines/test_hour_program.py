from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_cases import FORMS, random_community
from hour_cases import (
    MARGIN_PU,
    PRICE_CT_PER_PU_H,
    assert_feasible,
    beyond_limits_pu,
    cost_ct,
    on_a_weak_feeder,
    random_slot,
    random_worth,
    reference_cost_ct,
    stored_kwh,
)

from prosumer_gym.baselines.hour_program import HourProgram, Worth, one_sided_kw
from prosumer_gym.baselines.hour_voltage import HourVoltage
from prosumer_gym.baselines.rules import Move, Slot
from prosumer_gym.baselines.trades import bought_kw
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError

TIE_BREAK = {"bilateral": 1e-3, "mid-market-rate": 5e-4}


def voltage(community: Community) -> HourVoltage:
    return HourVoltage(community, price_ct_per_pu_h=PRICE_CT_PER_PU_H, margin_pu=MARGIN_PU)


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("last_hour", [False, True])
@pytest.mark.parametrize("discomfort_linear", [0.0, 0.4])
def test_the_hour_costs_what_cvxpy_says_is_least(last_hour: bool, discomfort_linear: float, mechanism: str) -> None:
    rng = np.random.default_rng(7)
    traded = 0.0
    for _ in range(8):
        community = random_community(rng, num=4, hours=12, discomfort_linear=discomfort_linear, mechanism=mechanism)
        slot = random_slot(rng, community, last_hour=last_hour, negative=False)
        move = HourProgram(community).solve(slot)
        assert_feasible(community, slot, move)
        # The tie-break is worth at most 1e-3 x 8^2 a trade; measured, far less.
        assert cost_ct(community, slot, move) == pytest.approx(reference_cost_ct(community, slot), rel=1e-4, abs=0.05)
        traded += np.abs(move.trade_kw).sum()
    assert traded > 1.0


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("negative", [False, True])
def test_with_worths_and_voltages_the_optimum_is_that_of_cvxpy(negative: bool, network: bool, mechanism: str) -> None:
    rng = np.random.default_rng(8)
    excess = 0.0
    for i in range(6):
        community = on_a_weak_feeder(random_community(rng, num=4, discomfort_linear=0.1 * (i % 2), mechanism=mechanism))
        slot, worth = random_slot(rng, community, last_hour=i == 5, negative=negative), random_worth(rng, community)
        program = HourProgram(community, voltage=voltage(community) if network else None, tolerance=1e-8)
        solution = program.program(slot, worth).solve()
        reference = reference_cost_ct(community, slot, worth, network=network, tie_break=TIE_BREAK[mechanism])
        assert solution.objective + program.fixed_ct(slot) == pytest.approx(reference, rel=1e-6, abs=1e-4)
        assert not solution.fallbacks
        move = program.move(solution.x)
        assert_feasible(community, slot, move)
        if not negative:  # nothing is burned, so the move is the optimum
            assert program.objective_ct(slot, worth, move) == pytest.approx(solution.objective, rel=1e-6, abs=1e-4)
        excess += solution.x[program.at["e"]].sum()
    assert (excess > 0.1) == network


def test_what_a_move_comes_to_is_its_cost_less_what_it_leaves_behind() -> None:
    rng = np.random.default_rng(9)
    for i in range(10):
        community = on_a_weak_feeder(random_community(rng, num=4, discomfort_linear=0.3))
        slot, worth = random_slot(rng, community, last_hour=i % 2 == 0, negative=False), random_worth(rng, community)
        program = HourProgram(community, voltage=voltage(community))
        best = program.solve(slot, worth)
        other = replace(best, battery_kw=0.5 * best.battery_kw, shiftable_kw=slot.most_shiftable_kw)
        dt_h = community.dt_h
        for move in (best, other):
            net = slot.load_kw - slot.pv_kw + move.curtail_kw + move.shiftable_kw + move.battery_kw
            beyond = beyond_limits_pu(community, slot, net, move.shiftable_kw)
            left = dt_h * worth.ahead_ct_per_kwh @ move.shiftable_kw
            if slot.terminal_ct_per_kwh is None:
                left += worth.stored_ct_per_kwh @ stored_kwh(community, move)
            expected = cost_ct(community, slot, move) + dt_h * PRICE_CT_PER_PU_H * beyond.sum() - left
            expected += 1e-3 * np.sum(move.trade_kw**2)
            found = program.objective_ct(slot, worth, move) + program.fixed_ct(slot)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert program.objective_ct(slot, worth, other) > program.objective_ct(slot, worth, best)


def test_priced_voltages_are_held_where_they_can_be_and_only_then_does_the_hour_differ() -> None:
    rng = np.random.default_rng(10)
    reduced, kept = 0, 0
    for i in range(12):
        community = on_a_weak_feeder(random_community(rng, num=4), units=1 if i < 4 else 8)
        slot, worth = random_slot(rng, community, last_hour=False, negative=False), random_worth(rng, community)
        slot = replace(slot, passive_pu=0.3 if i < 4 else 0.6)

        def excess_pu(move: Move, slot: Slot = slot, community: Community = community) -> float:
            net = slot.load_kw - slot.pv_kw + move.curtail_kw + move.shiftable_kw + move.battery_kw
            return float(beyond_limits_pu(community, slot, net, move.shiftable_kw).sum())

        blind = HourProgram(community).solve(slot, worth)
        seeing = HourProgram(community, voltage=voltage(community)).solve(slot, worth)
        if excess_pu(blind) > 1e-6:
            assert excess_pu(seeing) < excess_pu(blind) + 1e-9
            reduced += excess_pu(seeing) < 0.9 * excess_pu(blind)
        else:
            np.testing.assert_allclose(seeing.battery_kw, blind.battery_kw, atol=1e-2)
            kept += 1
    assert reduced >= 4
    assert kept >= 1


@pytest.mark.parametrize("mechanism", FORMS)
def test_negative_prices_are_feasible_and_curtail(mechanism: str) -> None:
    rng = np.random.default_rng(8)
    curtailed = 0.0
    for _ in range(8):
        community = random_community(rng, num=4, mechanism=mechanism)
        slot = random_slot(rng, community, last_hour=False, negative=True)
        move = HourProgram(community).solve(slot)
        assert_feasible(community, slot, move)
        # Charging and discharging at once burns energy in the reference; the environment lets nobody do that.
        assert cost_ct(community, slot, move) >= reference_cost_ct(community, slot) - 0.05
        curtailed += move.curtail_kw.sum()
    assert curtailed > 1.0


def test_charging_and_discharging_at_once_becomes_the_one_of_equal_effect() -> None:
    community = random_community(np.random.default_rng(3), num=3)
    fleet = community.fleet
    charge, discharge = np.array([10.0, 2.0, 5.0]), np.array([4.0, 9.0, 0.0])
    power = one_sided_kw(fleet, charge, discharge)
    np.testing.assert_array_equal(np.sign(power), [1, -1, 1])
    move = Move(power, *(np.zeros(3) for _ in range(3)))
    expected = community.dt_h * (charge * fleet.charge_efficiency - discharge / fleet.discharge_efficiency)
    np.testing.assert_allclose(stored_kwh(community, move), expected)


@pytest.mark.parametrize("mechanism", FORMS)
def test_a_community_without_edges_solves_its_hour(mechanism: str) -> None:
    rng = np.random.default_rng(9)
    community = random_community(rng, num=2, edges=False, mechanism=mechanism)
    slot = random_slot(rng, community, last_hour=False, negative=False)
    move = HourProgram(community).solve(slot)
    assert cost_ct(community, slot, move) == pytest.approx(reference_cost_ct(community, slot), rel=1e-4)


@pytest.mark.parametrize("mechanism", FORMS)
def test_energy_is_traded_as_long_as_the_fee_is_below_the_spread(mechanism: str) -> None:
    """One has 10 kW over and the other lacks 10 kW; the grid asks 12 and pays 3 ct/kWh; batteries cannot help."""
    community = random_community(np.random.default_rng(11), num=2, hours=24, mechanism=mechanism)
    fleet = replace(community.fleet, battery_power_kw=np.zeros(2), shiftable_power_kw=np.zeros(2))
    slot = replace(
        random_slot(np.random.default_rng(11), community, last_hour=False, negative=False),
        load_kw=np.array([0.0, 10.0]), pv_kw=np.array([10.0, 0.0]), position_kw=np.zeros(2), backlog_kwh=np.zeros(2),
        shiftable_ref_kw=np.zeros(2), least_shiftable_kw=np.zeros(2), most_shiftable_kw=np.zeros(2),
        buy_ct_per_kwh=12.0, sell_ct_per_kwh=3.0,
    )  # fmt: skip
    for fee, expected in ((8.8, 5.0), (9.2, 0.0)):
        graph = replace(community.graph, limit_kw=np.full(1, 5.0), fee_ct_per_kwh=np.full(1, fee))
        there = community.replace(fleet=fleet, graph=graph)
        move = HourProgram(there).solve(slot)
        np.testing.assert_allclose(bought_kw(there, move.trade_kw), [-expected, expected], atol=1e-3)


def test_no_hour_depends_on_those_solved_before() -> None:
    rng = np.random.default_rng(12)
    community = random_community(rng, num=4)
    slots = [random_slot(rng, community, last_hour=False, negative=False) for _ in range(3)]
    worth = Worth.nothing(4)
    alone = HourProgram(community).solve(slots[2], worth)
    program = HourProgram(community)
    last = [program.solve(slot, worth) for slot in slots][-1]
    for name, value in vars(alone).items():
        np.testing.assert_array_equal(value, getattr(last, name))


@pytest.mark.parametrize(
    "name",
    ["load_kw", "soc_kwh", "backlog_kwh", "connection_peak_kw", "position_kw", "buy_ct_per_kwh", "stored_ct_per_kwh"],
)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_number_that_is_none_is_named(name: str, wrong: float) -> None:
    rng = np.random.default_rng(12)
    community = random_community(rng, num=2)
    slot, worth = random_slot(rng, community, last_hour=False, negative=False), random_worth(rng, community)
    part = worth if name == "stored_ct_per_kwh" else slot
    bad = replace(part, **{name: wrong * np.ones_like(getattr(part, name))})  # type: ignore[type-var]
    with pytest.raises(UsageError, match=f"hour: {name} is not finite"):
        HourProgram(community).solve(*((slot, bad) if part is worth else (bad, worth)))  # type: ignore[arg-type]
