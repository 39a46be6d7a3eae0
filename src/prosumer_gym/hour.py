"""One hour of real time for a block of communities: the physics and the accounts, once.

`play` is the order of events: curtailment, battery and shiftable load within what is feasible, offers scaled and
matched, the power flow, what is left settled in real time, the costs. A `Vector` holds one number in LANES lanes. All
operations are exact and no lane touches another, so that results depend neither on the size of a batch, nor on a lane's
place in it, nor on the number of threads. Nothing is allocated.

The parts of an hour speak of one block: `b` is its first lane in the state, `c` its column in what is wanted and in the
results, which are b, or 0 where these are kept for one block only.

Axis letters: B lanes (one lane = one community), N prosumers, E undirected trade edges, H hours of a day, K buses. What
the first axis of an array means is said in `tables`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from prosumer_gym import tables as at
from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.clearing import trade, trade_residuals
from prosumer_gym.lanes import LANES, inlined, lean, load, spread, store, where
from prosumer_gym.lanes_order import exceeds, greater, load3, store3
from prosumer_gym.lanes_transpose import COLUMNS, to_lanes
from prosumer_gym.market import bought, energy_cost, terminal_cost
from prosumer_gym.power_flow import solve_block
from prosumer_gym.prosumer import (
    CLIPPED_KW,
    discomfort_cost,
    feasible_battery,
    feasible_curtailment,
    feasible_shiftable,
    net_import,
    next_backlog,
    next_soc,
    was_clipped,
    wear_cost,
)
from prosumer_gym.tables import Lanes, Results, Wanted, Work, World


def entry(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """A compiled function for arguments of these types, called without a look at what types it is given.

    That look costs as long as a block of `play` takes, and the types of a simulator's arrays never change.
    """
    dispatcher: Any = function
    type_of: Any = numba.typeof
    machine_code: Callable[..., Any] = dispatcher.compile(tuple(type_of(argument) for argument in arguments))
    return machine_code


@lean
def commit(given_kw: FloatArray, world: World, lanes: Lanes, clipped: IntArray) -> bool:
    """The lanes at the gate commit `given_kw` [N,H,B] within their limits; False, and nothing changes, if it holds NaN.

    `clipped` [B] counts the hours that had to be changed.
    """
    at_gate, position_kw, fleet = lanes.at_gate, lanes.position_kw, world.fleet
    not_numbers = 0
    for n in range(given_kw.shape[0]):
        for hour in range(given_kw.shape[1]):
            for b in range(given_kw.shape[2]):
                not_numbers += int(at_gate[b] and given_kw[n, hour, b] != given_kw[n, hour, b])
    if not_numbers > 0:
        return False
    for n in range(given_kw.shape[0]):
        limit_kw = fleet[at.POSITION_LIMIT, n]
        for hour in range(given_kw.shape[1]):
            for b in range(given_kw.shape[2]):
                feasible_kw = max(-limit_kw, min(given_kw[n, hour, b], limit_kw))
                if at_gate[b]:
                    position_kw[n, hour, b] = feasible_kw
                    clipped[b] += int(abs(feasible_kw - given_kw[n, hour, b]) > CLIPPED_KW)
    for b in range(at_gate.shape[0]):
        at_gate[b] = False
    return True


@lean
def take(given: Wanted, wanted: Wanted) -> int:
    """Copy what is wanted to where `play` reads it; the position of the first array that holds NaN, or -1."""
    if _copy(given.battery_kw, wanted.battery_kw):
        return 0
    if _copy(given.shiftable_kw, wanted.shiftable_kw):
        return 1
    if _copy(given.curtail_kw, wanted.curtail_kw):
        return 2
    if _copy(given.offers, wanted.offers):
        return 3
    return -1


@lean
def _copy(given: FloatArray, wanted: FloatArray) -> bool:
    """Whether something that is given is not a number."""
    not_numbers = 0
    for row in range(given.shape[0]):
        for b in range(given.shape[1]):
            value = given[row, b]
            not_numbers |= int(value != value)
            wanted[row, b] = value
    return not_numbers > 0


@lean
def play(
    world: World, lanes: Lanes, wanted: Wanted, results: Results, work: Work, first: int, last: int, central: bool
) -> None:
    """Play one hour of the blocks from the first to before the last; block i is the lanes from i LANES on.

    Lanes at the gate and lanes whose episode is over keep their state, and nothing happens in them. With
    `central` trade the offers are not read.
    """
    for block in range(first, last):
        b = block * LANES
        look_up(world, lanes, work, b)
        use_equipment(world, lanes, wanted, results, work, b, b)
        if central:
            trade_residuals(world, results, work, b)
        else:
            trade(world, wanted, results, work, b)
        feed(world, results, work, b)
        settle(world, lanes, results, work, b, b)
        move_on(world, lanes, results, work, b, b)


@inlined
def look_up(world: World, lanes: Lanes, work: Work, b: int) -> None:
    """What this hour brings to each lane, which may be on days and at hours of their own."""
    N, H, hours, prices, counts = world.bus.shape[0], world.num_hours, world.hours, world.prices, lanes.counts
    at_gate, committed_kw, position_kw = lanes.at_gate, lanes.position_kw, work.position_kw
    rows, brought, these_prices, by_lane = work.rows, work.brought, work.prices, work.by_lane
    first_hour, together = min(counts[at.HOUR, b], H - 1), 0
    for j in range(LANES):
        hour = counts[at.HOUR, b + j]
        by_lane[at.IS_PLAYED, j] = 0.0 if at_gate[b + j] or hour >= H else 1.0
        hour = min(hour, H - 1)
        together += int(hour == first_hour)
        rows[j] = counts[at.DAY, b + j] * H + hour
    whole = hours.shape[1] - hours.shape[1] % COLUMNS
    for column in range(0, whole, COLUMNS):
        to_lanes(hours, rows, column, brought, column)
    for j in range(LANES):
        for column in range(whole, hours.shape[1]):
            brought[column, j] = hours[rows[j], column]
        for price in range(prices.shape[1]):
            these_prices[price, j] = prices[rows[j], price]
    if together == LANES:
        for n in range(N):
            store(position_kw, n, 0, load3(committed_kw, n, first_hour, b))
    else:
        for j in range(LANES):
            for n in range(N):
                position_kw[n, j] = committed_kw[n, rows[j] % H, b + j]


@inlined
def use_equipment(world: World, lanes: Lanes, wanted: Wanted, results: Results, work: Work, b: int, c: int) -> None:
    """Every prosumer curtails, runs its battery and its shiftable load as wanted, as far as it can."""
    dt_h, fleet, now, hour, after = world.dt_h, world.fleet, lanes.by_prosumer, work.hour, results.by_prosumer
    curtail_wanted_kw, battery_wanted_kw = wanted.curtail_kw, wanted.battery_kw
    shiftable_wanted_kw = wanted.shiftable_kw
    clipped = spread(0.0)
    for n in range(world.bus.shape[0]):
        pv_kw = load3(hour, at.PV, n, 0)
        wanted_kw = load(curtail_wanted_kw, n, c)
        curtail_kw = feasible_curtailment(wanted_kw, pv_kw)
        clipped = clipped + was_clipped(curtail_kw, wanted_kw)

        soc_kwh = load3(now, at.NOW_SOC, n, b)
        soc_min_kwh, soc_max_kwh = fleet[at.SOC_MIN, n], fleet[at.SOC_MAX, n]
        eta_c, eta_d = fleet[at.CHARGE_EFFICIENCY, n], fleet[at.DISCHARGE_EFFICIENCY, n]
        wanted_kw = load(battery_wanted_kw, n, c)
        battery_kw = feasible_battery(
            wanted_kw, soc_kwh, fleet[at.BATTERY_POWER, n], soc_min_kwh, soc_max_kwh, eta_c, eta_d, dt_h
        )
        soc_kwh = next_soc(battery_kw, soc_kwh, soc_min_kwh, soc_max_kwh, eta_c, eta_d, dt_h)
        clipped = clipped + was_clipped(battery_kw, wanted_kw)

        backlog_kwh, ref_kw = load3(now, at.NOW_BACKLOG, n, b), load3(hour, at.REF, n, 0)
        low_kwh, high_kwh = load3(hour, at.NEXT_LOW, n, 0), load3(hour, at.NEXT_HIGH, n, 0)
        wanted_kw = load(shiftable_wanted_kw, n, c)
        shiftable_kw = feasible_shiftable(
            wanted_kw, backlog_kwh, ref_kw, fleet[at.SHIFTABLE_POWER, n], low_kwh, high_kwh, dt_h
        )
        backlog_kwh = next_backlog(shiftable_kw, backlog_kwh, ref_kw, low_kwh, high_kwh, dt_h)
        clipped = clipped + was_clipped(shiftable_kw, wanted_kw)

        net_import_kw = net_import(load3(hour, at.LOAD, n, 0), pv_kw, curtail_kw, shiftable_kw, battery_kw)
        store3(after, at.CURTAIL, n, c, curtail_kw)
        store3(after, at.BATTERY, n, c, battery_kw)
        store3(after, at.SOC, n, c, soc_kwh)
        store3(after, at.SHIFTABLE, n, c, shiftable_kw)
        store3(after, at.BACKLOG, n, c, backlog_kwh)
        store3(after, at.NET_IMPORT, n, c, net_import_kw)
    store(work.by_lane, at.NUM_CLIPPED, 0, clipped)


@inlined
def feed(world: World, results: Results, work: Work, c: int) -> None:
    """The feeder carries all loads, and its voltages may leave their band.

    Where the power flow has no solution all buses but the substation's are dark, at zero voltage.
    """
    num_buses, nominal_pu, bus, fleet = world.nominal_pu.shape[1], world.nominal_pu, world.bus, world.fleet
    hour, after, base_kva = work.hour, results.by_prosumer, world.feeder.base_kva
    load_pu, load_reactive_pu, voltage_pu, v_results_pu = work.load_pu, work.load_reactive_pu, work.v_pu, results.v_pu
    passive = load(work.prices, at.PASSIVE, 0)
    for k in range(num_buses):
        store(load_pu, k, 0, passive * spread(nominal_pu[0, k]))
        store(load_reactive_pu, k, 0, passive * spread(nominal_pu[1, k]))
    for n in range(bus.shape[0]):
        k, consumed_kw = bus[n], load3(hour, at.LOAD, n, 0) + load3(after, at.SHIFTABLE, n, c)
        active_pu = load3(after, at.NET_IMPORT, n, c) * spread(fleet[at.ACTIVE_PER_KW, n])
        reactive_pu = consumed_kw * spread(fleet[at.REACTIVE_PER_KW, n])
        store(load_pu, k, 0, load(load_pu, k, 0) + active_pu)
        store(load_reactive_pu, k, 0, load(load_reactive_pu, k, 0) + reactive_pu)
    solve_block(
        world.feeder, load_pu, load_reactive_pu, work.power_flow, voltage_pu, work.losses_pu, work.slack_pu,
        work.sweeps, work.converged,
    )  # fmt: skip
    v_min_pu, v_max_pu, zero = spread(world.v_min_pu), spread(world.v_max_pu), spread(0.0)
    excess_pu, violated = zero, zero
    for k in range(num_buses):
        v_pu = load(voltage_pu, k, 0)
        store(v_results_pu, k, c, v_pu)
        beyond_pu = greater(v_min_pu - v_pu, v_pu - v_max_pu)
        excess_pu = excess_pu + greater(beyond_pu, zero)
        violated = violated + exceeds(beyond_pu, zero)
    store(work.by_lane, at.NUM_VIOLATED, 0, violated)
    store(results.by_lane, at.VOLTAGE_EXCESS, c, excess_pu)
    store(results.by_lane, at.LOSSES, c, load(work.losses_pu, 0, 0) * spread(base_kva))
    store(results.by_lane, at.SLACK, c, load(work.slack_pu, 0, 0) * spread(base_kva))


@inlined
def settle(world: World, lanes: Lanes, results: Results, work: Work, b: int, c: int) -> None:
    """What is left is settled in real time, and everybody pays for everything."""
    dt_h, fleet, now, positions_kw = world.dt_h, world.fleet, lanes.by_prosumer, work.position_kw
    after, cost_ct, demand_charge = results.by_prosumer, results.cost_ct, world.demand_charge_ct_per_kw
    da_buy, da_sell = load(work.prices, at.DA_BUY, 0), load(work.prices, at.DA_SELL, 0)
    rt_buy, rt_sell = load(work.prices, at.RT_BUY, 0), load(work.prices, at.RT_SELL, 0)
    p2p_price = load(results.by_lane, at.TRADE_PRICE, c)
    _value_batteries(world, lanes, results, b, c)
    exchange_kw, community_ct = spread(0.0), spread(0.0)
    for n in range(world.bus.shape[0]):
        position_kw, net_import_kw = load(positions_kw, n, 0), load3(after, at.NET_IMPORT, n, c)
        p2p_kw = load3(after, at.P2P, n, c)
        realtime_kw = net_import_kw - position_kw - p2p_kw
        store3(after, at.REALTIME, n, c, realtime_kw)
        exchange_kw = exchange_kw + net_import_kw

        day_ahead_ct = energy_cost(position_kw, da_buy, da_sell, dt_h)
        real_time_ct = energy_cost(realtime_kw, rt_buy, rt_sell, dt_h)
        p2p_ct = p2p_price * p2p_kw * spread(dt_h)
        demand_ct = bought(net_import_kw - load3(now, at.NOW_PEAK, n, b)) * spread(demand_charge)
        quadratic, linear = fleet[at.WEAR_QUADRATIC, n], fleet[at.WEAR_LINEAR, n]
        wear_ct = wear_cost(load3(after, at.BATTERY, n, c), quadratic, linear, dt_h)
        quadratic, linear = fleet[at.DISCOMFORT_QUADRATIC, n], fleet[at.DISCOMFORT_LINEAR, n]
        discomfort_ct = discomfort_cost(load3(after, at.BACKLOG, n, c), quadratic, linear, dt_h)
        store3(cost_ct, at.DAY_AHEAD, n, c, day_ahead_ct)
        store3(cost_ct, at.REAL_TIME, n, c, real_time_ct)
        store3(cost_ct, at.P2P_PAYMENT, n, c, p2p_ct)
        store3(cost_ct, at.DEMAND_CHARGE, n, c, demand_ct)
        store3(cost_ct, at.WEAR, n, c, wear_ct)
        store3(cost_ct, at.DISCOMFORT, n, c, discomfort_ct)

        settled_ct = day_ahead_ct + real_time_ct + p2p_ct + load3(cost_ct, at.P2P_FEE, n, c) + demand_ct
        used_ct = wear_ct + discomfort_ct + load3(cost_ct, at.TERMINAL_SOC, n, c)
        community_ct = community_ct + settled_ct + used_ct
    store(results.by_lane, at.COMMUNITY_COST, c, community_ct)
    store(results.by_lane, at.EXCHANGE, c, exchange_kw)
    store(results.by_lane, at.PEAK_INCREASE, c, bought(exchange_kw - load(lanes.community_peak_kw, 0, b)))


@inlined
def _value_batteries(world: World, lanes: Lanes, results: Results, b: int, c: int) -> None:
    """In the last hour of an episode the energy in the batteries is settled against what they started with."""
    N, H, counts, fleet, terminal = world.bus.shape[0], world.num_hours, lanes.counts, world.fleet, world.terminal
    after, cost_ct = results.by_prosumer, results.cost_ct
    for n in range(N):
        store3(cost_ct, at.TERMINAL_SOC, n, c, spread(0.0))
    for j in range(LANES):
        lane = b + j
        if counts[at.HOUR, lane] == H - 1 and counts[at.DAYS_LEFT, lane] == 0:
            day = counts[at.DAY, lane]
            for n in range(N):
                cost_ct[at.TERMINAL_SOC, n, c + j] = terminal_cost(
                    after[at.SOC, n, c + j],
                    fleet[at.SOC_INITIAL, n],
                    terminal[day, at.MISSING, n],
                    terminal[day, at.LEFT, n],
                )


@inlined
def move_on(world: World, lanes: Lanes, results: Results, work: Work, b: int, c: int) -> None:
    """The lanes that were played enter the next hour, stand at the next day's gate, or are done."""
    now, after, played = lanes.by_prosumer, results.by_prosumer, load(work.by_lane, at.IS_PLAYED, 0)
    for n in range(world.bus.shape[0]):
        soc_kwh, backlog_kwh = load3(now, at.NOW_SOC, n, b), load3(now, at.NOW_BACKLOG, n, b)
        peak_kw, net_import_kw = load3(now, at.NOW_PEAK, n, b), load3(after, at.NET_IMPORT, n, c)
        store3(now, at.NOW_SOC, n, b, where(played, load3(after, at.SOC, n, c), soc_kwh))
        store3(now, at.NOW_BACKLOG, n, b, where(played, load3(after, at.BACKLOG, n, c), backlog_kwh))
        store3(now, at.NOW_PEAK, n, b, where(played, greater(net_import_kw, peak_kw), peak_kw))
    peak_kw, exchange_kw = load(lanes.community_peak_kw, 0, b), load(results.by_lane, at.EXCHANGE, c)
    store(lanes.community_peak_kw, 0, b, where(played, greater(exchange_kw, peak_kw), peak_kw))
    by_lane, converged, counts, flags = work.by_lane, work.converged, results.counts, results.flags
    place = lanes.counts
    for j in range(LANES):
        lane, column = b + j, c + j
        counts[at.CLIPPED, column] = int(by_lane[at.NUM_CLIPPED, j])
        counts[at.VIOLATED_BUSES, column] = int(by_lane[at.NUM_VIOLATED, j])
        flags[at.CONVERGED, column] = converged[j]
        flags[at.PLAYED, column] = by_lane[at.IS_PLAYED, j] > 0.0
        flags[at.DONE, column] = False
        if not flags[at.PLAYED, column]:
            _blank(results, column)
        else:
            place[at.HOUR, lane] += 1
            if place[at.HOUR, lane] == world.num_hours:
                if place[at.DAYS_LEFT, lane] == 0:
                    flags[at.DONE, column] = True
                else:
                    _next_gate(lanes, lane)


@inlined
def _next_gate(lanes: Lanes, lane: int) -> None:
    """Midnight inside an episode: the battery keeps its energy, all that counts by the day begins afresh.

    So does the backlog: the tube of feasible backlogs has led it to zero.
    """
    place, now, position_kw = lanes.counts, lanes.by_prosumer, lanes.position_kw
    place[at.DAY, lane] += 1
    place[at.DAYS_LEFT, lane] -= 1
    place[at.HOUR, lane] = 0
    lanes.at_gate[lane] = True
    lanes.community_peak_kw[0, lane] = 0.0
    for n in range(position_kw.shape[0]):
        now[at.NOW_PEAK, n, lane] = 0.0
        for hour in range(position_kw.shape[1]):
            position_kw[n, hour, lane] = 0.0


@inlined
def _blank(results: Results, column: int) -> None:
    """Nothing happened in this lane."""
    by_prosumer, cost_ct, by_lane = results.by_prosumer, results.cost_ct, results.by_lane
    trade_kw, v_pu = results.trade_kw, results.v_pu
    for n in range(cost_ct.shape[1]):
        for group in range(by_prosumer.shape[0]):
            by_prosumer[group, n, column] = 0.0
        for term in range(cost_ct.shape[0]):
            cost_ct[term, n, column] = 0.0
    for e in range(trade_kw.shape[0]):
        trade_kw[e, column] = 0.0
    for k in range(v_pu.shape[0]):
        v_pu[k, column] = 0.0
    for row in range(by_lane.shape[0]):
        by_lane[row, column] = 0.0
    results.counts[at.CLIPPED, column] = 0
    results.counts[at.VIOLATED_BUSES, column] = 0
    results.flags[at.CONVERGED, column] = True
