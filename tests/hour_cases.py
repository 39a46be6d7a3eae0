"""Random hours of random communities, and the hour's program stated once more, for CVXPY.

Axes: N prosumers.
"""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.hour_program import Worth
from prosumer_gym.baselines.rules import Move, Slot
from prosumer_gym.baselines.trades import bought_kw
from prosumer_gym.community import Community
from prosumer_gym.power_flow import lindistflow

PRICE_CT_PER_PU_H, MARGIN_PU = 2e4, 0.002
"""Of voltages beyond their limits, in these tests."""
FAR_BUSES = [5, 11, 17, 32]


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
        usual_peak_kw=np.full(num, 12.0),
        day_ahead_ct_per_kwh=day,
        terminal_ct_per_kwh=community.tariff.terminal_values(day, fleet.charge_efficiency, fleet.discharge_efficiency)
        if last_hour
        else None,
    )


def random_worth(rng: np.random.Generator, community: Community) -> Worth:
    return Worth(*rng.uniform(-5.0, 25.0, (2, community.num_prosumers)))


def on_a_weak_feeder(community: Community, units: int = 3) -> Community:
    """The community of four at the ends of the feeder, several units each: its voltages leave the limits both ways."""
    fleet = replace(community.fleet, bus=np.array(FAR_BUSES), units=np.full(4, units))
    return community.replace(fleet=fleet)


def cost_ct(community: Community, slot: Slot, move: Move) -> float:
    """What the hour costs the community, term by term, as the environment books it (trades cancel)."""
    fleet, dt_h = community.fleet, community.dt_h
    net = slot.load_kw - slot.pv_kw + move.curtail_kw + move.shiftable_kw + move.battery_kw
    left = net - slot.position_kw - bought_kw(community, move.trade_kw)
    backlog = slot.backlog_kwh + dt_h * (move.shiftable_kw - slot.shiftable_ref_kw)
    missing = fleet.soc_initial_kwh - slot.soc_kwh - stored_kwh(community, move)
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


def stored_kwh(community: Community, move: Move) -> FloatArray:
    """What an hour puts into the batteries [N]."""
    fleet = community.fleet
    charged = np.maximum(move.battery_kw, 0) * fleet.charge_efficiency
    return np.asarray(community.dt_h * (charged - np.maximum(-move.battery_kw, 0) / fleet.discharge_efficiency))


def beyond_limits_pu(community: Community, slot: Slot, net_kw: FloatArray, shift_kw: FloatArray) -> FloatArray:
    """How far each bus lies outside its limits by LinDistFlow, read off the squared voltage at the limit [K+1]."""
    too_low, too_high = _beyond(community, slot, net_kw, shift_kw)
    return np.maximum(np.maximum(too_low, too_high), 0.0)


def _beyond(
    community: Community, slot: Slot, net_kw: FloatArray, shift_kw: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """How far each bus is below the lower and above the upper limit; of numbers or of CVXPY's expressions."""
    feeder, fleet = community.feeder, community.fleet
    model, at = lindistflow(feeder), np.eye(feeder.num_buses)[:, fleet.bus] * fleet.units
    p = slot.passive_pu * feeder.p_kw + at @ net_kw
    reactive = at * np.tan(np.arccos(fleet.power_factor))
    q = slot.passive_pu * feeder.q_kvar + reactive @ (slot.load_kw + shift_kw)
    square = feeder.slack_v_pu**2 - (model.r @ p + model.x @ q) / (1000.0 * feeder.base_mva)
    low, high = feeder.v_min_pu + MARGIN_PU, feeder.v_max_pu - MARGIN_PU
    return (low**2 - square) / (2 * low), (square - high**2) / (2 * high)


def reference_cost_ct(
    community: Community, slot: Slot, worth: Worth | None = None, *, network: bool = False, tie_break: float = 0.0
) -> float:
    """The least cost of the hour, less what it leaves behind is worth, stated for CVXPY."""
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
    gained = dt_h * (
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
    if tie_break > 0.0:
        cost += tie_break * cp.sum_squares(trade)
    if slot.terminal_ct_per_kwh is not None:
        short, over = slot.terminal_ct_per_kwh
        missing = fleet.soc_initial_kwh - slot.soc_kwh - gained
        cost += cp.sum(cp.multiply(over, missing) + cp.multiply(short - over, cp.pos(missing)))
    elif worth is not None:
        cost -= worth.stored_ct_per_kwh @ gained
    if worth is not None:
        cost -= dt_h * worth.ahead_ct_per_kwh @ shift
    if network:
        cost += dt_h * PRICE_CT_PER_PU_H * cp.sum(cp.pos(cp.maximum(*_beyond(community, slot, net, shift))))
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
    return float(problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-10, tol_feas=1e-9))


def assert_feasible(community: Community, slot: Slot, move: Move, slack: float = 1e-5) -> None:
    fleet, graph = community.fleet, community.graph
    after = slot.soc_kwh + stored_kwh(community, move)
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
