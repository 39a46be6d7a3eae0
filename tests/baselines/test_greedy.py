from __future__ import annotations

from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from core_cases import FORMS, random_community

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.greedy import Greedy
from prosumer_gym.baselines.hour_program import HourProgram
from prosumer_gym.baselines.rules import Move, Slot
from prosumer_gym.baselines.trades import bought_kw
from prosumer_gym.community import Community


def random_slot(rng: np.random.Generator, community: Community, *, last_hour: bool, negative: bool) -> Slot:
    fleet, num = community.fleet, community.num_prosumers
    da = float(rng.uniform(-10.0, 0.0) if negative else rng.uniform(3.0, 12.0))
    prices = community.tariff.settlement_prices(np.array(da), np.array(da + rng.uniform(-2.0, 8.0)))
    day = rng.uniform(3.0, 12.0, community.hours_per_day)
    return Slot(
        load_kw=rng.uniform(0.0, 20.0, num),
        pv_kw=rng.uniform(0.0, 30.0, num) * (rng.random() < 0.7),
        shiftable_ref_kw=rng.uniform(0.0, 6.0, num),
        least_shiftable_kw=rng.uniform(0.0, 3.0, num),
        most_shiftable_kw=rng.uniform(3.0, 8.0, num),
        soc_kwh=np.where(rng.random(num) < 0.3, fleet.soc_min_kwh, rng.uniform(fleet.soc_min_kwh, fleet.soc_max_kwh)),
        least_soc_kwh=fleet.soc_min_kwh,
        backlog_kwh=rng.uniform(-5.0, 5.0, num),
        connection_peak_kw=rng.uniform(0.0, 20.0, num),
        position_kw=rng.uniform(-10.0, 20.0, num),
        buy_ct_per_kwh=float(prices.rt_buy),
        sell_ct_per_kwh=float(prices.rt_sell),
        passive_pu=float(rng.uniform(0.3, 0.6)),
        terminal_ct_per_kwh=community.tariff.terminal_values(day, fleet.charge_efficiency, fleet.discharge_efficiency)
        if last_hour
        else None,
    )


def cost_ct(community: Community, slot: Slot, move: Move) -> float:
    """What the hour costs the community, term by term, as the environment books it (trades cancel)."""
    fleet, dt_h = community.fleet, community.dt_h
    net = slot.load_kw - slot.pv_kw + move.curtail_kw + move.shiftable_kw + move.battery_kw
    left = net - slot.position_kw - bought_kw(community, move.trade_kw)
    backlog = slot.backlog_kwh + dt_h * (move.shiftable_kw - slot.shiftable_ref_kw)
    stored = np.maximum(move.battery_kw, 0) * fleet.charge_efficiency
    missing = (
        fleet.soc_initial_kwh
        - slot.soc_kwh
        - dt_h * (stored - np.maximum(-move.battery_kw, 0) / fleet.discharge_efficiency)
    )
    cost = dt_h * (slot.buy_ct_per_kwh * np.maximum(left, 0) - slot.sell_ct_per_kwh * np.maximum(-left, 0))
    cost += community.tariff.demand_charge_ct_per_kw * np.maximum(net - slot.connection_peak_kw, 0)
    cost += dt_h * fleet.battery_wear_quadratic_ct_per_kw2h * move.battery_kw**2
    cost += dt_h * fleet.battery_wear_linear_ct_per_kwh * np.abs(move.battery_kw)
    cost += dt_h * fleet.discomfort_quadratic_ct_per_kwh2h * backlog**2
    cost += dt_h * fleet.discomfort_linear_ct_per_kwhh * np.abs(backlog)
    if slot.terminal_ct_per_kwh is not None:
        short, over = slot.terminal_ct_per_kwh
        cost += short * np.maximum(missing, 0) - over * np.maximum(-missing, 0)
    pooled = len(move.trade_kw) == community.num_prosumers and community.mechanism != "bilateral"
    fee = community.pool_fee_ct_per_kwh / 2 if pooled else community.graph.fee_ct_per_kwh
    return float(cost.sum() + dt_h * fee @ np.abs(move.trade_kw))


def reference_cost_ct(community: Community, slot: Slot) -> float:
    """The least cost of the hour, stated for CVXPY."""
    fleet, graph, dt_h, num = community.fleet, community.graph, community.dt_h, community.num_prosumers
    charge, discharge, shift, curtail = (cp.Variable(num, nonneg=True) for _ in range(4))
    if community.mechanism == "bilateral":
        trade, limit, fee = cp.Variable(community.num_edges), graph.limit_kw, graph.fee_ct_per_kwh
        ends = np.zeros((num, community.num_edges))
        ends[graph.first, np.arange(community.num_edges)] = 1.0
        ends[graph.second, np.arange(community.num_edges)] = -1.0
    else:
        trade, limit, fee = cp.Variable(num), community.pool_limit_kw, community.pool_fee_ct_per_kwh / 2
        ends = np.eye(num)
    net = slot.load_kw - slot.pv_kw + curtail + shift + charge - discharge
    left = net - slot.position_kw - ends @ trade
    backlog = slot.backlog_kwh + dt_h * (shift - slot.shiftable_ref_kw)
    soc = slot.soc_kwh + dt_h * (
        cp.multiply(fleet.charge_efficiency, charge) - cp.multiply(1 / fleet.discharge_efficiency, discharge)
    )
    spread = slot.buy_ct_per_kwh - slot.sell_ct_per_kwh
    cost = dt_h * cp.sum(slot.sell_ct_per_kwh * left + spread * cp.pos(left))
    cost += community.tariff.demand_charge_ct_per_kw * cp.sum(cp.pos(net - slot.connection_peak_kw))
    cost += dt_h * cp.sum(
        cp.multiply(fleet.battery_wear_quadratic_ct_per_kw2h, charge**2 + discharge**2)
        + cp.multiply(fleet.battery_wear_linear_ct_per_kwh, charge + discharge)
        + cp.multiply(fleet.discomfort_quadratic_ct_per_kwh2h, backlog**2)
        + cp.multiply(fleet.discomfort_linear_ct_per_kwhh, cp.abs(backlog))
    )
    cost += dt_h * cp.sum(cp.multiply(fee, cp.abs(trade)))
    if slot.terminal_ct_per_kwh is not None:
        short, over = slot.terminal_ct_per_kwh
        missing = fleet.soc_initial_kwh - soc
        cost += cp.sum(cp.multiply(over, missing) + cp.multiply(short - over, cp.pos(missing)))
    sold = np.maximum(ends, 0.0) @ cp.neg(trade) + np.maximum(-ends, 0.0) @ cp.pos(trade)
    problem = cp.Problem(
        cp.Minimize(cost),
        [
            charge <= fleet.battery_power_kw, discharge <= fleet.battery_power_kw,
            dt_h * cp.multiply(fleet.charge_efficiency, charge) <= fleet.soc_max_kwh - slot.soc_kwh,
            dt_h * cp.multiply(1 / fleet.discharge_efficiency, discharge) <= slot.soc_kwh - slot.least_soc_kwh,
            shift >= slot.least_shiftable_kw, shift <= slot.most_shiftable_kw,
            sold + curtail <= slot.pv_kw, cp.abs(trade) <= limit, cp.sum(ends @ trade) == 0,
        ],
    )  # fmt: skip
    return float(problem.solve(solver=cp.CLARABEL))


def assert_feasible(community: Community, slot: Slot, move: Move) -> None:
    fleet, graph, dt_h, slack = community.fleet, community.graph, community.dt_h, 1e-5
    after = slot.soc_kwh + dt_h * np.where(
        move.battery_kw > 0, move.battery_kw * fleet.charge_efficiency, move.battery_kw / fleet.discharge_efficiency
    )
    assert (after >= slot.least_soc_kwh - slack).all()
    assert (after <= fleet.soc_max_kwh + slack).all()
    assert (np.abs(move.battery_kw) <= fleet.battery_power_kw + slack).all()
    assert (move.shiftable_kw >= slot.least_shiftable_kw - slack).all()
    assert (move.shiftable_kw <= slot.most_shiftable_kw + slack).all()
    if community.mechanism == "bilateral":
        assert (np.abs(move.trade_kw) <= graph.limit_kw + slack).all()
        sold = np.zeros(community.num_prosumers)
        np.add.at(sold, graph.first, np.maximum(-move.trade_kw, 0.0))
        np.add.at(sold, graph.second, np.maximum(move.trade_kw, 0.0))
    else:
        assert (np.abs(move.trade_kw) <= community.pool_limit_kw + slack).all()
        assert abs(move.trade_kw.sum()) < slack
        sold = np.maximum(-move.trade_kw, 0.0)
    assert (sold + move.curtail_kw <= slot.pv_kw + slack).all()
    assert (move.curtail_kw >= -slack).all()


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


@pytest.mark.parametrize("mechanism", FORMS)
def test_a_community_without_edges_solves_its_hour(mechanism: str) -> None:
    rng = np.random.default_rng(9)
    community = random_community(rng, num=2, edges=False, mechanism=mechanism)
    slot = random_slot(rng, community, last_hour=False, negative=False)
    move = HourProgram(community).solve(slot)
    assert cost_ct(community, slot, move) == pytest.approx(reference_cost_ct(community, slot), rel=1e-4)


def greedy_of(community: Community) -> Any:
    policy = Greedy()
    policy.community = community
    policy.hour = HourProgram(community)
    return policy


def test_greedy_makes_no_debts() -> None:
    rng = np.random.default_rng(10)
    for _ in range(6):
        community = random_community(rng, num=4)
        slot = random_slot(rng, community, last_hour=False, negative=False)
        slot = replace(slot, least_shiftable_kw=np.zeros(4), most_shiftable_kw=np.full(4, 8.0))
        move = greedy_of(community).rule(slot)
        fleet, dt_h = community.fleet, community.dt_h
        backlog = slot.backlog_kwh + dt_h * (move.shiftable_kw - slot.shiftable_ref_kw)
        assert (backlog >= np.minimum(0.0, slot.backlog_kwh) - 1e-5).all()
        discharged = np.maximum(-move.battery_kw, 0.0)
        spare: FloatArray = np.maximum(slot.soc_kwh - fleet.soc_initial_kwh, 0.0) * fleet.discharge_efficiency / dt_h
        assert (discharged <= spare + 1e-5).all()


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
