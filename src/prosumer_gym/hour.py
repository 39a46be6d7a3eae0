"""One hour of real time for a block of communities: the physics and the accounts, once.

The order of events is that of `play_block`: what a prosumer can do, curtailment, battery and shiftable load, then offers
scaled and matched, then what is left settled in real time, then the power flow, then the costs.

Axis letters: B lanes (one lane = one community), W = LANES lanes of a block, N prosumers, E undirected trade edges,
H hours of a day, D days, K buses, T cost terms. Arrays are lanes-last. A block is always played in full: the spare
lanes of the last block repeat its last lane, so that every lane goes through the same machine code and the results
depend neither on the size of the batch nor on the lane's place in it. Nothing is allocated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.compiled import compiled
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import FeederTables
from prosumer_gym.market import (
    COST_TERMS,
    energy_cost,
    feasible_offer,
    matched_trade,
    scaled_offer,
    seller_scale,
    terminal_cost,
)
from prosumer_gym.lanes import LANES
from prosumer_gym.power_flow import block_scratch, solve_block
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

CLIPPED_KW = 1e-9
"""An action counts as clipped when it was changed by more than this."""

# Rows of `World.fleet` and `World.edges`.
(
    _BATTERY_POWER, _SOC_MIN, _SOC_MAX, _SOC_INITIAL, _CHARGE_EFFICIENCY, _DISCHARGE_EFFICIENCY, _WEAR_QUADRATIC,
    _WEAR_LINEAR, _SHIFTABLE_POWER, _DISCOMFORT_QUADRATIC, _DISCOMFORT_LINEAR, _UNITS, _TAN_PHI,
) = range(13)  # fmt: skip
_LIMIT, _FEE = range(2)
# Groups of N rows of `World.hours`, then its single rows.
_LOAD, _PV, _REF, _NEXT_LOW, _NEXT_HIGH = range(5)
_DA_BUY, _DA_SELL, _RT_BUY, _RT_SELL, _P2P, _PASSIVE = range(6)
# Groups of rows of `Work.by_prosumer`.
(
    _W_SOC, _W_BACKLOG, _W_PEAK, _W_POSITION, _W_BATTERY, _W_SHIFTABLE, _W_CURTAIL, _W_SELLS, _W_SCALE, _W_FEE,
) = range(10)  # fmt: skip
_NUM_WORK_ROWS = 10
# Rows of `Results.by_prosumer`, of `Results.cost_ct`, of `Results.by_lane` and of `Results.counts`, `Results.flags`.
BATTERY, SHIFTABLE, CURTAIL, NET_IMPORT, REALTIME, P2P, SOC, BACKLOG = range(8)
(
    _COST_DAY_AHEAD, _COST_REAL_TIME, _COST_P2P, _COST_P2P_FEE, _COST_DEMAND, _COST_WEAR, _COST_DISCOMFORT,
    _COST_TERMINAL,
) = range(len(COST_TERMS))  # fmt: skip
COMMUNITY_COST, VOLTAGE_EXCESS, LOSSES, SLACK, EXCHANGE, PEAK_INCREASE = range(6)
VIOLATED_BUSES, CLIPPED = range(2)
CONVERGED, DONE, PLAYED = range(3)


class World(NamedTuple):
    """A community and its days, tabulated for the kernel."""

    feeder: FeederTables
    nominal_p_pu: FloatArray
    """Passive load at a multiple of one [K]."""
    nominal_q_pu: FloatArray
    bus: IntArray
    """[N]"""
    fleet: FloatArray
    """One row per property [13,N]."""
    ends: IntArray
    """First and second end of each edge [2,E]."""
    edges: FloatArray
    """Limit and fee of each edge [2,E]."""
    hours: FloatArray
    """All that an hour brings, one row per hour: N loads, N PV, ... and the prices [D*H,5N+6]."""
    terminal_ct_per_kwh: FloatArray
    """Energy missing, energy left over at the end of an episode that ends with this day [D,2,N]."""
    num_hours: int
    dt_h: float
    demand_charge_ct_per_kw: float
    v_min_pu: float
    v_max_pu: float


class Lanes(NamedTuple):
    """Where every lane stands: the arrays of `State`."""

    day: IntArray
    hour: IntArray
    days_left: IntArray
    at_gate: BoolArray
    soc_kwh: FloatArray
    backlog_kwh: FloatArray
    position_kw: FloatArray
    connection_peak_kw: FloatArray
    community_peak_kw: FloatArray


class Wanted(NamedTuple):
    """What is wanted of every lane."""

    battery_kw: FloatArray
    shiftable_kw: FloatArray
    curtail_kw: FloatArray
    offer_kw: FloatArray


class Results(NamedTuple):
    """What happened, in rows that `StepResult` names; B is rounded up to whole blocks."""

    by_prosumer: FloatArray
    """[8,N,B]"""
    cost_ct: FloatArray
    """[T,N,B]"""
    trade_kw: FloatArray
    """[E,B]"""
    v_pu: FloatArray
    """[K,B]"""
    by_lane: FloatArray
    """[6,B]"""
    counts: IntArray
    """[2,B]"""
    flags: BoolArray
    """[3,B]"""


class Work(NamedTuple):
    """Working memory of one block, one per thread."""

    rows: IntArray
    """Row of `World.hours` of each lane [W]."""
    lanes: IntArray
    """Number of each lane, the last one repeated [W]."""
    ends_episode: BoolArray
    """[W]"""
    hours: FloatArray
    """What the hour brings [5N+6,W]."""
    by_prosumer: FloatArray
    """[..,N,W]"""
    offer_kw: FloatArray
    """[2E,W]"""
    p_pu: FloatArray
    """[K,W]"""
    q_pu: FloatArray
    """[K,W]"""
    v_pu: FloatArray
    """[K,W]"""
    power_flow: FloatArray
    """Of `solve_block`."""
    losses_pu: FloatArray
    """[2,W]"""
    slack_pu: FloatArray
    """[2,W]"""
    sweeps: IntArray
    """[W]"""
    converged: BoolArray
    """[W]"""


def tabulate(community: Community, exogenous: Exogenous) -> World:
    """Everything about the days that does not depend on what is done: prices, tube, terminal values, once.

    Raises:
        UsageError: a day's shiftable energy cannot be delivered.
    """
    fleet, graph, feeder, tariff = community.fleet, community.graph, community.feeder, community.tariff
    tables = feeder.tables
    prices = tariff.settlement_prices(exogenous.price_da_ct_per_kwh, exogenous.price_rt_ct_per_kwh)
    low_kwh, high_kwh = backlog_tube(community, exogenous.shiftable_ref_kw)
    hours = np.concatenate(
        (
            exogenous.load_kw, exogenous.pv_kw, exogenous.shiftable_ref_kw, low_kwh[:, 1:], high_kwh[:, 1:],
            np.stack((prices.da_buy, prices.da_sell, prices.rt_buy, prices.rt_sell, prices.p2p), axis=-1),
            exogenous.passive_pu[..., np.newaxis],
        ),
        axis=-1,
    )  # fmt: skip
    terminal = tariff.terminal_values(
        exogenous.price_da_ct_per_kwh, fleet.charge_efficiency, fleet.discharge_efficiency
    )
    return World(
        feeder=tables,
        nominal_p_pu=feeder.p_kw / tables.base_kva,
        nominal_q_pu=feeder.q_kvar / tables.base_kva,
        bus=np.array(fleet.bus),
        fleet=np.stack(
            (
                fleet.battery_power_kw, fleet.soc_min_kwh, fleet.soc_max_kwh, fleet.soc_initial_kwh,
                fleet.charge_efficiency, fleet.discharge_efficiency, fleet.battery_wear_quadratic_ct_per_kw2h,
                fleet.battery_wear_linear_ct_per_kwh, fleet.shiftable_power_kw,
                fleet.discomfort_quadratic_ct_per_kwh2h, fleet.discomfort_linear_ct_per_kwhh, fleet.units,
                np.tan(np.arccos(fleet.power_factor)),
            )
        ),
        ends=np.stack((graph.first, graph.second)),
        edges=np.stack((graph.limit_kw, graph.fee_ct_per_kwh)),
        hours=hours.reshape(-1, hours.shape[-1]),
        terminal_ct_per_kwh=np.stack(terminal, axis=1),
        num_hours=community.hours_per_day,
        dt_h=community.dt_h,
        demand_charge_ct_per_kw=tariff.demand_charge_ct_per_kw,
        v_min_pu=feeder.v_min_pu,
        v_max_pu=feeder.v_max_pu,
    )  # fmt: skip


def make_results(world: World, num_lanes: int) -> Results:
    """Room for the results of `num_lanes` lanes, rounded up to whole blocks."""
    num_prosumers, num_edges, num_buses = world.bus.size, world.ends.shape[1], world.nominal_p_pu.size
    padded = -(-num_lanes // LANES) * LANES
    return Results(
        by_prosumer=np.zeros((8, num_prosumers, padded)),
        cost_ct=np.zeros((len(COST_TERMS), num_prosumers, padded)),
        trade_kw=np.zeros((num_edges, padded)),
        v_pu=np.zeros((num_buses, padded)),
        by_lane=np.zeros((6, padded)),
        counts=np.zeros((2, padded), np.int64),
        flags=np.zeros((3, padded), np.bool_),
    )


def make_work(world: World) -> Work:
    """Working memory of one thread."""
    num_prosumers, num_edges, num_buses = world.bus.size, world.ends.shape[1], world.nominal_p_pu.size
    return Work(
        rows=np.zeros(LANES, np.int64),
        lanes=np.zeros(LANES, np.int64),
        ends_episode=np.zeros(LANES, np.bool_),
        hours=np.zeros((world.hours.shape[1], LANES)),
        by_prosumer=np.zeros((_NUM_WORK_ROWS, num_prosumers, LANES)),
        offer_kw=np.zeros((2 * num_edges, LANES)),
        p_pu=np.zeros((num_buses, LANES)),
        q_pu=np.zeros((num_buses, LANES)),
        v_pu=np.zeros((num_buses, LANES)),
        power_flow=block_scratch(num_buses),
        losses_pu=np.zeros((2, LANES)),
        slack_pu=np.zeros((2, LANES)),
        sweeps=np.zeros(LANES, np.int64),
        converged=np.zeros(LANES, np.bool_),
    )


@compiled
def play_block(
    world: World, state: Lanes, wanted: Wanted, results: Results, work: Work, start: int, count: int
) -> None:
    """Play one hour of the lanes start ... start + count - 1, with 1 <= count <= W.

    Lanes that stand at the gate or whose episode is over keep their state; their results mean nothing.
    """
    _look_up(world, state, wanted, work, start, count)
    for j in range(start, start + LANES):
        results.counts[CLIPPED, j] = 0
    _use_equipment(world, results, work, start)
    _trade(world, results, work, start)
    _settle(world, results, work, start)
    _feed_grid(world, results, work, start)
    _sum_up(state, results, work, start, count)
    _move_on(world, state, results, work, start, count)


@compiled
def _look_up(world: World, state: Lanes, wanted: Wanted, work: Work, start: int, count: int) -> None:
    """What the hour brings to each lane, where the lane stands and what is wanted of it."""
    for j in range(LANES):
        lane = start + min(j, count - 1)
        hour = min(state.hour[lane], world.num_hours - 1)
        work.lanes[j] = lane
        work.rows[j] = state.day[lane] * world.num_hours + hour
        work.ends_episode[j] = hour == world.num_hours - 1 and state.days_left[lane] == 0
    for j in range(LANES):
        for r in range(work.hours.shape[0]):
            work.hours[r, j] = world.hours[work.rows[j], r]
    for n in range(world.bus.shape[0]):
        _copy_lanes(state.soc_kwh[n], work.by_prosumer[_W_SOC, n], work.lanes, start, count)
        _copy_lanes(state.backlog_kwh[n], work.by_prosumer[_W_BACKLOG, n], work.lanes, start, count)
        _copy_lanes(state.connection_peak_kw[n], work.by_prosumer[_W_PEAK, n], work.lanes, start, count)
        _copy_lanes(wanted.battery_kw[n], work.by_prosumer[_W_BATTERY, n], work.lanes, start, count)
        _copy_lanes(wanted.shiftable_kw[n], work.by_prosumer[_W_SHIFTABLE, n], work.lanes, start, count)
        _copy_lanes(wanted.curtail_kw[n], work.by_prosumer[_W_CURTAIL, n], work.lanes, start, count)
        for j in range(LANES):
            hour = work.rows[j] % world.num_hours
            work.by_prosumer[_W_POSITION, n, j] = state.position_kw[n, hour, work.lanes[j]]
    for e in range(work.offer_kw.shape[0]):
        _copy_lanes(wanted.offer_kw[e], work.offer_kw[e], work.lanes, start, count)


@compiled
def _copy_lanes(of_all: FloatArray, of_block: FloatArray, lanes: IntArray, start: int, count: int) -> None:
    for j in range(count):
        of_block[j] = of_all[start + j]
    for j in range(count, LANES):
        of_block[j] = of_all[lanes[j]]


@compiled
def _use_equipment(world: World, results: Results, work: Work, start: int) -> None:
    """Curtailment, battery and shiftable load of every prosumer, and what it then draws."""
    N, dt_h = world.bus.shape[0], world.dt_h
    clipped = results.counts[CLIPPED]
    for n in range(N):
        load_kw, pv_kw, ref_kw = work.hours[_LOAD * N + n], work.hours[_PV * N + n], work.hours[_REF * N + n]
        low_kwh, high_kwh = work.hours[_NEXT_LOW * N + n], work.hours[_NEXT_HIGH * N + n]
        soc_kwh, backlog_kwh = work.by_prosumer[_W_SOC, n], work.by_prosumer[_W_BACKLOG, n]
        battery_wanted_kw = work.by_prosumer[_W_BATTERY, n]
        shiftable_wanted_kw = work.by_prosumer[_W_SHIFTABLE, n]
        curtail_wanted_kw = work.by_prosumer[_W_CURTAIL, n]
        battery_kw, shiftable_kw = results.by_prosumer[BATTERY, n], results.by_prosumer[SHIFTABLE, n]
        curtail_kw, net_import_kw = results.by_prosumer[CURTAIL, n], results.by_prosumer[NET_IMPORT, n]
        soc_after_kwh, backlog_after_kwh = results.by_prosumer[SOC, n], results.by_prosumer[BACKLOG, n]
        power_kw, soc_min, soc_max = world.fleet[_BATTERY_POWER, n], world.fleet[_SOC_MIN, n], world.fleet[_SOC_MAX, n]
        eta_c, eta_d = world.fleet[_CHARGE_EFFICIENCY, n], world.fleet[_DISCHARGE_EFFICIENCY, n]
        shiftable_power_kw = world.fleet[_SHIFTABLE_POWER, n]
        for j in range(LANES):
            b = start + j
            curtail_kw[b] = feasible_curtailment(curtail_wanted_kw[j], pv_kw[j])
            battery_kw[b] = feasible_battery(
                battery_wanted_kw[j], soc_kwh[j], power_kw, soc_min, soc_max, eta_c, eta_d, dt_h
            )
            soc_after_kwh[b] = next_soc(battery_kw[b], soc_kwh[j], soc_min, soc_max, eta_c, eta_d, dt_h)
            shiftable_kw[b] = feasible_shiftable(
                shiftable_wanted_kw[j], backlog_kwh[j], ref_kw[j], shiftable_power_kw, low_kwh[j], high_kwh[j], dt_h
            )
            backlog_after_kwh[b] = next_backlog(
                shiftable_kw[b], backlog_kwh[j], ref_kw[j], low_kwh[j], high_kwh[j], dt_h
            )
            net_import_kw[b] = net_import(load_kw[j], pv_kw[j], curtail_kw[b], shiftable_kw[b], battery_kw[b])
            clipped[b] += (
                int(abs(curtail_kw[b] - curtail_wanted_kw[j]) > CLIPPED_KW)
                + int(abs(battery_kw[b] - battery_wanted_kw[j]) > CLIPPED_KW)
                + int(abs(shiftable_kw[b] - shiftable_wanted_kw[j]) > CLIPPED_KW)
            )


@compiled
def _trade(world: World, results: Results, work: Work, start: int) -> None:
    """Offers, each seller's scaled to the generation it has, matched edge by edge."""
    N, E = world.bus.shape[0], world.ends.shape[1]
    clipped = results.counts[CLIPPED]
    for n in range(N):
        for j in range(LANES):
            work.by_prosumer[_W_SELLS, n, j] = 0.0
            work.by_prosumer[_W_FEE, n, j] = 0.0
            results.by_prosumer[P2P, n, start + j] = 0.0
    for end in range(2):
        for e in range(E):
            limit_kw = world.edges[_LIMIT, e]
            sells_kw = work.by_prosumer[_W_SELLS, world.ends[end, e]]
            offer_kw = work.offer_kw[end * E + e]
            for j in range(LANES):
                sells_kw[j] += max(-feasible_offer(offer_kw[j], limit_kw), 0.0)
    for n in range(N):
        pv_kw, sells_kw, scale = work.hours[_PV * N + n], work.by_prosumer[_W_SELLS, n], work.by_prosumer[_W_SCALE, n]
        curtail_kw = results.by_prosumer[CURTAIL, n]
        for j in range(LANES):
            scale[j] = seller_scale(pv_kw[j] - curtail_kw[start + j], sells_kw[j])
    for end in range(2):
        for e in range(E):
            limit_kw = world.edges[_LIMIT, e]
            scale = work.by_prosumer[_W_SCALE, world.ends[end, e]]
            offer_kw = work.offer_kw[end * E + e]
            for j in range(LANES):
                wanted_kw = offer_kw[j]
                offer_kw[j] = scaled_offer(feasible_offer(wanted_kw, limit_kw), scale[j])
                clipped[start + j] += int(abs(offer_kw[j] - wanted_kw) > CLIPPED_KW)
    for e in range(E):
        first, second = world.ends[0, e], world.ends[1, e]
        fee = 0.5 * world.edges[_FEE, e]
        first_kw, second_kw, trade_kw = work.offer_kw[e], work.offer_kw[E + e], results.trade_kw[e]
        first_fee, second_fee = work.by_prosumer[_W_FEE, first], work.by_prosumer[_W_FEE, second]
        first_p2p_kw, second_p2p_kw = results.by_prosumer[P2P, first], results.by_prosumer[P2P, second]
        for j in range(LANES):
            b = start + j
            trade_kw[b] = matched_trade(first_kw[j], second_kw[j])
            first_p2p_kw[b] += trade_kw[b]
            second_p2p_kw[b] -= trade_kw[b]
            first_fee[j] += fee * abs(trade_kw[b])
            second_fee[j] += fee * abs(trade_kw[b])


@compiled
def _settle(world: World, results: Results, work: Work, start: int) -> None:
    """What is left is settled in real time, and every prosumer pays."""
    N, dt_h = world.bus.shape[0], world.dt_h
    prices = work.hours[5 * N :]
    for n in range(N):
        position_kw, fee_ct_per_h = work.by_prosumer[_W_POSITION, n], work.by_prosumer[_W_FEE, n]
        peak_kw = work.by_prosumer[_W_PEAK, n]
        net_import_kw, p2p_kw = results.by_prosumer[NET_IMPORT, n], results.by_prosumer[P2P, n]
        realtime_kw, battery_kw = results.by_prosumer[REALTIME, n], results.by_prosumer[BATTERY, n]
        backlog_kwh = results.by_prosumer[BACKLOG, n]
        cost = results.cost_ct[:, n]
        wear_quadratic, wear_linear = world.fleet[_WEAR_QUADRATIC, n], world.fleet[_WEAR_LINEAR, n]
        discomfort_quadratic = world.fleet[_DISCOMFORT_QUADRATIC, n]
        discomfort_linear = world.fleet[_DISCOMFORT_LINEAR, n]
        for j in range(LANES):
            b = start + j
            realtime_kw[b] = net_import_kw[b] - position_kw[j] - p2p_kw[b]
            cost[_COST_DAY_AHEAD, b] = energy_cost(position_kw[j], prices[_DA_BUY, j], prices[_DA_SELL, j], dt_h)
            cost[_COST_REAL_TIME, b] = energy_cost(realtime_kw[b], prices[_RT_BUY, j], prices[_RT_SELL, j], dt_h)
            cost[_COST_P2P, b] = dt_h * prices[_P2P, j] * p2p_kw[b]
            cost[_COST_P2P_FEE, b] = dt_h * fee_ct_per_h[j]
            increase_kw = max(net_import_kw[b] - peak_kw[j], 0.0)
            peak_kw[j] += increase_kw
            cost[_COST_DEMAND, b] = world.demand_charge_ct_per_kw * increase_kw
            cost[_COST_WEAR, b] = wear_cost(battery_kw[b], wear_quadratic, wear_linear, dt_h)
            cost[_COST_DISCOMFORT, b] = discomfort_cost(backlog_kwh[b], discomfort_quadratic, discomfort_linear, dt_h)
        _settle_battery(world, results, work, start, n)


@compiled
def _settle_battery(world: World, results: Results, work: Work, start: int, n: int) -> None:
    """At the end of an episode the battery's energy is settled against what it started with."""
    for j in range(LANES):
        cost_ct = 0.0
        if work.ends_episode[j]:
            day = work.rows[j] // world.num_hours
            cost_ct = terminal_cost(
                results.by_prosumer[SOC, n, start + j],
                world.fleet[_SOC_INITIAL, n],
                world.terminal_ct_per_kwh[day, 0, n],
                world.terminal_ct_per_kwh[day, 1, n],
            )
        results.cost_ct[_COST_TERMINAL, n, start + j] = cost_ct


@compiled
def _feed_grid(world: World, results: Results, work: Work, start: int) -> None:
    """The loads of every bus, the power flow, and how far the voltages leave their band.

    A lane whose power flow has no solution counts every bus but the slack as violated, by the whole lower limit.
    """
    N, K = world.bus.shape[0], work.p_pu.shape[0]
    base_kva = world.feeder.base_kva
    passive = work.hours[5 * N + _PASSIVE]
    for k in range(K):
        for j in range(LANES):
            work.p_pu[k, j] = world.nominal_p_pu[k] * passive[j]
            work.q_pu[k, j] = world.nominal_q_pu[k] * passive[j]
    for n in range(N):
        per_kw = world.fleet[_UNITS, n] / base_kva
        per_kvar = per_kw * world.fleet[_TAN_PHI, n]
        p_pu, q_pu = work.p_pu[world.bus[n]], work.q_pu[world.bus[n]]
        net_import_kw, shiftable_kw = results.by_prosumer[NET_IMPORT, n], results.by_prosumer[SHIFTABLE, n]
        load_kw = work.hours[_LOAD * N + n]
        for j in range(LANES):
            p_pu[j] += per_kw * net_import_kw[start + j]
            q_pu[j] += per_kvar * (load_kw[j] + shiftable_kw[start + j])
    solve_block(
        world.feeder, work.p_pu, work.q_pu, work.power_flow, work.v_pu, work.losses_pu, work.slack_pu, work.sweeps,
        work.converged,
    )  # fmt: skip
    excess_pu, violated = results.by_lane[VOLTAGE_EXCESS], results.counts[VIOLATED_BUSES]
    for j in range(start, start + LANES):
        excess_pu[j] = 0.0
        violated[j] = 0
    for k in range(K):
        v_pu, v_result_pu = work.v_pu[k], results.v_pu[k]
        for j in range(LANES):
            v_result_pu[start + j] = v_pu[j]
        for j in range(LANES):
            excess_pu[start + j] += max(world.v_min_pu - v_pu[j], 0.0) + max(v_pu[j] - world.v_max_pu, 0.0)
        for j in range(LANES):
            violated[start + j] += int(v_pu[j] < world.v_min_pu) + int(v_pu[j] > world.v_max_pu)
    for j in range(LANES):
        b = start + j
        results.by_lane[LOSSES, b] = work.losses_pu[0, j] * base_kva
        results.by_lane[SLACK, b] = work.slack_pu[0, j] * base_kva
        results.flags[CONVERGED, b] = work.converged[j]
        if not work.converged[j]:
            excess_pu[b] = (K - 1) * world.v_min_pu
            violated[b] = K - 1


@compiled
def _sum_up(state: Lanes, results: Results, work: Work, start: int, count: int) -> None:
    """The community's cost, its exchange with the grid and the rise of its peak."""
    cost_ct, exchange_kw = results.by_lane[COMMUNITY_COST], results.by_lane[EXCHANGE]
    for j in range(start, start + LANES):
        cost_ct[j] = 0.0
        exchange_kw[j] = 0.0
    for n in range(results.cost_ct.shape[1]):
        net_import_kw = results.by_prosumer[NET_IMPORT, n]
        for j in range(start, start + LANES):
            exchange_kw[j] += net_import_kw[j]
        for t in range(results.cost_ct.shape[0]):
            term_ct = results.cost_ct[t, n]
            for j in range(start, start + LANES):
                cost_ct[j] += term_ct[j]
    for j in range(LANES):
        peak_kw = state.community_peak_kw[work.lanes[j]]
        results.by_lane[PEAK_INCREASE, start + j] = max(exchange_kw[start + j] - peak_kw, 0.0)


@compiled
def _move_on(world: World, state: Lanes, results: Results, work: Work, start: int, count: int) -> None:
    """The lanes that were played step to the next hour, the gate of the next day or the end of their episode."""
    N = world.bus.shape[0]
    for b in range(start, start + count):
        played = not state.at_gate[b] and state.hour[b] < world.num_hours
        results.flags[PLAYED, b] = played
        results.flags[DONE, b] = played and work.ends_episode[b - start]
    for n in range(N):
        soc_kwh, backlog_kwh = results.by_prosumer[SOC, n], results.by_prosumer[BACKLOG, n]
        peak_kw = work.by_prosumer[_W_PEAK, n]
        for b in range(start, start + count):
            if results.flags[PLAYED, b]:
                state.soc_kwh[n, b] = soc_kwh[b]
                state.backlog_kwh[n, b] = backlog_kwh[b]
                state.connection_peak_kw[n, b] = peak_kw[b - start]
    for b in range(start, start + count):
        if results.flags[PLAYED, b]:
            state.community_peak_kw[b] += results.by_lane[PEAK_INCREASE, b]
            state.hour[b] += 1
            if state.hour[b] == world.num_hours and state.days_left[b] > 0:
                state.day[b] += 1
                state.days_left[b] -= 1
                state.hour[b] = 0
                state.at_gate[b] = True
                state.community_peak_kw[b] = 0.0
                state.backlog_kwh[:, b] = 0.0
                state.connection_peak_kw[:, b] = 0.0
                state.position_kw[:, :, b] = 0.0


@compiled
def play_blocks(
    world: World, state: Lanes, wanted: Wanted, results: Results, work: Work, first_block: int, last_block: int
) -> None:
    """Play one hour of the lanes of some blocks, from the first to before the last."""
    num_lanes = state.hour.shape[0]
    for block in range(first_block, last_block):
        start = block * LANES
        play_block(world, state, wanted, results, work, start, min(LANES, num_lanes - start))


@compiled
def first_nan(wanted: Wanted) -> int:
    """Position of the first array of `wanted` that holds NaN, -1 when none does."""
    if _holds_nan(wanted.battery_kw):
        return 0
    if _holds_nan(wanted.shiftable_kw):
        return 1
    if _holds_nan(wanted.curtail_kw):
        return 2
    if _holds_nan(wanted.offer_kw):
        return 3
    return -1


@compiled
def _holds_nan(values: FloatArray) -> bool:
    found = 0
    for row in range(values.shape[0]):
        for lane in range(values.shape[1]):
            found |= int(values[row, lane] != values[row, lane])
    return found > 0
