"""The arrays that the kernel of an hour reads and writes, and how they are laid out.

Axis letters: B lanes (one lane = one community), N prosumers, E undirected trade edges, H hours of a day, D days,
K buses, T cost terms, W = LANES lanes of a block. Arrays are lanes-last; what is known of every prosumer stands in an
array [.,N,B] whose first axis is named here. B is rounded up to whole blocks and then by half a block more: were the
rows a power of two apart, as they would be for most batches, the cache could hold only a few of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import FeederTables
from prosumer_gym.lanes import LANES, aligned
from prosumer_gym.market import COST_TERMS
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.power_flow import block_scratch
from prosumer_gym.prosumer import backlog_tube

# First axis of `Results.by_prosumer`, `.by_lane`, `.counts`, `.flags`.
BATTERY, SHIFTABLE, CURTAIL, NET_IMPORT, REALTIME, P2P, SOC, BACKLOG = range(8)
COMMUNITY_COST, VOLTAGE_EXCESS, LOSSES, SLACK, EXCHANGE, PEAK_INCREASE, TRADE_PRICE = range(7)
VIOLATED_BUSES, CLIPPED = range(2)
CONVERGED, DONE, PLAYED = range(3)
# First axis of `Results.cost_ct`.
DAY_AHEAD, REAL_TIME, P2P_PAYMENT, P2P_FEE, DEMAND_CHARGE, WEAR, DISCOMFORT, TERMINAL_SOC = range(len(COST_TERMS))
# First axis of `Lanes.by_prosumer` and of `Lanes.counts`.
NOW_SOC, NOW_BACKLOG, NOW_PEAK = range(3)
DAY, HOUR, DAYS_LEFT = range(3)
# First axis of `Work.hour`, second of `World.prices` and `World.terminal`, first of `World.fleet` and `World.edges`.
LOAD, PV, REF, NEXT_LOW, NEXT_HIGH = range(5)
DA_BUY, DA_SELL, RT_BUY, RT_SELL, P2P_PRICE, PASSIVE = range(6)
MISSING, LEFT = range(2)
(
    BATTERY_POWER, SOC_MIN, SOC_MAX, SOC_INITIAL, CHARGE_EFFICIENCY, DISCHARGE_EFFICIENCY, WEAR_QUADRATIC, WEAR_LINEAR,
    SHIFTABLE_POWER, DISCOMFORT_QUADRATIC, DISCOMFORT_LINEAR, POSITION_LIMIT, ACTIVE_PER_KW, REACTIVE_PER_KW,
) = range(14)  # fmt: skip
LIMIT, HALF_FEE = range(2)  # of `World.pool` too
# First axis of `Work.by_lane`.
IS_PLAYED, NUM_CLIPPED, NUM_VIOLATED, IS_FOUND = range(4)
# First axis of `Work.market`: of offers along edges, of residuals, of orders.
SELLS, SCALE = range(2)
OVER, LACKING = range(2)
ORDER, LIMIT_PRICE = range(2)
# `World.mechanism`
BILATERAL, MID_MARKET_RATE, SUPPLY_DEMAND_RATIO, DOUBLE_AUCTION = range(len(MECHANISMS))
_MECHANISMS = {
    "bilateral": BILATERAL,
    "mid-market-rate": MID_MARKET_RATE,
    "supply-demand-ratio": SUPPLY_DEMAND_RATIO,
    "double-auction": DOUBLE_AUCTION,
}


class World(NamedTuple):
    """A community and its days."""

    feeder: FeederTables
    nominal_pu: FloatArray  # [2,K] active and reactive load of the rest of the feeder, at a multiple of one
    bus: IntArray  # [N]
    fleet: FloatArray  # [14,N] one row per property
    ends: IntArray  # [2,E] first and second end of each edge
    mechanism: int
    edges: FloatArray  # [2,E] limit and half the fee
    pool: FloatArray  # [2,N] limit and half the fee
    hours: FloatArray  # [D*H,5N] what each hour brings to each prosumer, the axis of five first
    prices: FloatArray  # [D*H,6] and to the whole community
    terminal: FloatArray  # [D,2,N] ct/kWh missing, ct/kWh left over when an episode ends with this day
    num_hours: int
    dt_h: float
    demand_charge_ct_per_kw: float
    v_min_pu: float
    v_max_pu: float


class Lanes(NamedTuple):
    """Where every lane stands, as in `State`."""

    counts: IntArray  # [3,B] day, hour, days left
    at_gate: BoolArray  # [B]
    by_prosumer: FloatArray  # [3,N,B]
    position_kw: FloatArray  # [N,H,B]
    community_peak_kw: FloatArray  # [1,B]


class Wanted(NamedTuple):
    """What is wanted of every lane."""

    battery_kw: FloatArray  # [N,B]
    shiftable_kw: FloatArray  # [N,B]
    curtail_kw: FloatArray  # [N,B]
    offers: FloatArray  # [M,B]


class Results(NamedTuple):
    """What happened, as in `StepResult`."""

    by_prosumer: FloatArray  # [8,N,B]
    cost_ct: FloatArray  # [T,N,B]
    trade_kw: FloatArray  # [E,B]
    v_pu: FloatArray  # [K,B]
    by_lane: FloatArray  # [7,B]
    counts: IntArray  # [2,B]
    flags: BoolArray  # [3,B]


class Work(NamedTuple):
    """Working memory of one thread: one block."""

    rows: IntArray  # [W] of `World.hours`
    brought: FloatArray  # [5N,W] the same turned
    hour: FloatArray  # [5,N,W] the same memory
    prices: FloatArray  # [6,W]
    by_lane: FloatArray  # [4,W]
    position_kw: FloatArray  # [N,W] of this hour
    market: FloatArray  # [2,N,W] what each prosumer brings to it
    load_pu: FloatArray  # [K,W] of each bus
    load_reactive_pu: FloatArray  # [K,W]
    v_pu: FloatArray  # [K,W]
    power_flow: FloatArray  # of `solve_block`
    losses_pu: FloatArray  # [2,W]
    slack_pu: FloatArray  # [2,W]
    sweeps: IntArray  # [W]
    converged: BoolArray  # [W]


def width_of(num_lanes: int) -> int:
    """B of the arrays for `num_lanes` lanes."""
    return -(-num_lanes // LANES) * LANES + LANES // 2


def tabulate(community: Community, exogenous: Exogenous) -> World:
    """Everything about the days that does not depend on what is done: prices, tube, terminal values, once.

    All arrays are copies of one kind. A read-only array would be another type to the compiler, and whether those of a
    community are depends on whether it was ever pickled.

    Raises:
        UsageError: the data do not fit the community, generation is negative, or a day's shiftable energy cannot be
            delivered.
    """
    fleet, graph, feeder, tariff = community.fleet, community.graph, community.feeder, community.tariff
    expected = (community.hours_per_day, community.num_prosumers)
    if exogenous.load_kw.shape[1:] != expected:
        raise UsageError(
            f"exogenous.load_kw: shape {exogenous.load_kw.shape}, "
            f"but community {community.name} has {expected[0]} hours and {expected[1]} prosumers"
        )
    if exogenous.num_days == 0:
        raise UsageError("exogenous.load_kw: holds no day")
    if (exogenous.pv_kw < 0.0).any():
        day, hour, prosumer = (int(i) for i in np.argwhere(exogenous.pv_kw < 0.0)[0])
        raise UsageError(f"exogenous.pv_kw: day {day}, hour {hour}, prosumer {prosumer}: generation is negative")
    prices = tariff.settlement_prices(exogenous.price_da_ct_per_kwh, exogenous.price_rt_ct_per_kwh)
    low_kwh, high_kwh = backlog_tube(community, exogenous.shiftable_ref_kw)
    by_prosumer = (exogenous.load_kw, exogenous.pv_kw, exogenous.shiftable_ref_kw, low_kwh[:, 1:], high_kwh[:, 1:])
    num_rows = exogenous.num_days * community.hours_per_day
    terminal = tariff.terminal_values(
        exogenous.price_da_ct_per_kwh, fleet.charge_efficiency, fleet.discharge_efficiency
    )
    pu_per_kw = fleet.units / feeder.tables.base_kva
    plain: list[Any] = [np.array(part) if isinstance(part, np.ndarray) else part for part in feeder.tables]
    return World(
        feeder=FeederTables(*plain),
        nominal_pu=np.stack((feeder.p_kw, feeder.q_kvar)) / feeder.tables.base_kva,
        bus=np.array(fleet.bus),
        fleet=np.stack(
            (
                fleet.battery_power_kw, fleet.soc_min_kwh, fleet.soc_max_kwh, fleet.soc_initial_kwh,
                fleet.charge_efficiency, fleet.discharge_efficiency, fleet.battery_wear_quadratic_ct_per_kw2h,
                fleet.battery_wear_linear_ct_per_kwh, fleet.shiftable_power_kw,
                fleet.discomfort_quadratic_ct_per_kwh2h, fleet.discomfort_linear_ct_per_kwhh, fleet.position_limit_kw,
                pu_per_kw, pu_per_kw * np.tan(np.arccos(fleet.power_factor)),
            )
        ),
        ends=np.stack((graph.first, graph.second)),
        mechanism=_MECHANISMS[community.mechanism],
        edges=np.stack((graph.limit_kw, 0.5 * graph.fee_ct_per_kwh)),
        pool=np.stack((community.pool_limit_kw, 0.5 * community.pool_fee_ct_per_kwh)),
        hours=np.stack(by_prosumer, axis=2).reshape(num_rows, -1),
        prices=np.stack((*prices, exogenous.passive_pu), axis=2).reshape(num_rows, -1),
        terminal=np.stack(terminal, axis=1),
        num_hours=community.hours_per_day,
        dt_h=community.dt_h,
        demand_charge_ct_per_kw=tariff.demand_charge_ct_per_kw,
        v_min_pu=feeder.v_min_pu,
        v_max_pu=feeder.v_max_pu,
    )  # fmt: skip


def make_lanes(community: Community, num_lanes: int) -> Lanes:
    """Lanes whose episodes are over."""
    width = width_of(num_lanes)
    lanes = Lanes(
        counts=np.zeros((3, width), np.int64),
        at_gate=np.zeros(width, np.bool_),
        by_prosumer=_room(3, community.num_prosumers, width),
        position_kw=_room(community.num_prosumers, community.hours_per_day, width),
        community_peak_kw=aligned(1, width),
    )
    lanes.counts[HOUR] = community.hours_per_day
    lanes.by_prosumer[NOW_SOC] = community.fleet.soc_initial_kwh[:, np.newaxis]
    return lanes


def make_wanted(community: Community, num_lanes: int) -> Wanted:
    """Room for what is wanted of all lanes."""
    num_prosumers = community.num_prosumers
    num_rows = (num_prosumers, num_prosumers, num_prosumers, community.num_offers)
    return Wanted(*(aligned(num, width_of(num_lanes)) for num in num_rows))


def make_results(community: Community, num_lanes: int) -> Results:
    """Room for the results of all lanes."""
    num_prosumers, width = community.num_prosumers, width_of(num_lanes)
    return Results(
        by_prosumer=_room(8, num_prosumers, width),
        cost_ct=_room(len(COST_TERMS), num_prosumers, width),
        trade_kw=aligned(community.num_edges, width),
        v_pu=aligned(community.feeder.num_buses, width),
        by_lane=aligned(7, width),
        counts=np.zeros((2, width), np.int64),
        flags=np.zeros((3, width), np.bool_),
    )


def make_work(community: Community) -> Work:
    """Working memory of one thread."""
    num_prosumers, num_buses = community.num_prosumers, community.feeder.num_buses
    brought = aligned(5 * num_prosumers)
    return Work(
        rows=np.zeros(LANES, np.int64),
        brought=brought,
        hour=brought.reshape(5, num_prosumers, LANES),
        prices=aligned(6),
        by_lane=aligned(4),
        position_kw=aligned(num_prosumers),
        market=_room(2, num_prosumers, LANES),
        load_pu=aligned(num_buses),
        load_reactive_pu=aligned(num_buses),
        v_pu=aligned(num_buses),
        power_flow=block_scratch(num_buses),
        losses_pu=aligned(2),
        slack_pu=aligned(2),
        sweeps=np.zeros(LANES, np.int64),
        converged=np.zeros(LANES, np.bool_),
    )


def _room(num_groups: int, num_rows: int, width: int) -> FloatArray:
    return aligned(num_groups * num_rows, width).reshape(num_groups, num_rows, width)
