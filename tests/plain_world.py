"""The rules of the world once more, in plain scalar Python, and random communities to try them on.

Nothing here shares code with the simulator but the power flow, which has tests of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from prosumer_gym.community import Community, Fleet, Tariff, TradeGraph
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import ieee33
from prosumer_gym.power_flow import solve_power_flow

TERMS = 8


def small_feeder(num_buses: int, rng: np.random.Generator) -> Feeder:
    """A random tree of medium voltage with light loads."""
    child = np.arange(1, num_buses)
    parent = np.array([rng.integers(0, k) for k in child])
    return Feeder.from_arrays(
        parent,
        child,
        rng.uniform(0.05, 0.5, num_buses - 1),
        rng.uniform(0.02, 0.4, num_buses - 1),
        np.concatenate(([0.0], rng.uniform(0.0, 150.0, num_buses - 1))),
        np.concatenate(([0.0], rng.uniform(0.0, 80.0, num_buses - 1))),
        base_kv=12.66,
        v_min_pu=0.995,
        v_max_pu=1.0005,
    )


def random_community(seed: int, *, hours_per_day: int | None = None, linear: bool = False) -> Community:
    """1 to 12 prosumers; some without battery or shiftable load, some with tight bounds; some graphs without edges."""
    rng = np.random.default_rng(seed)
    num = int(rng.integers(1, 13))
    feeder = ieee33() if rng.random() < 0.3 else small_feeder(int(rng.integers(2, 9)), rng)
    pairs = [(a, b) for a in range(num) for b in range(a + 1, num)]
    density = rng.choice([0.0, 0.3, 1.0])
    edges = np.array([pair for pair in pairs if rng.random() < density], np.int64).reshape(-1, 2)
    soc_min = rng.uniform(0.0, 20.0, num)
    soc_max = soc_min + rng.uniform(0.0, 100.0, num) * (rng.random(num) < 0.9)
    quadratic = 0.0 if linear else 1.0
    fleet = Fleet(
        bus=rng.integers(1, feeder.num_buses, num),
        pv_ratio=np.ones(num),
        units=rng.integers(1, 4, num),
        battery_power_kw=rng.uniform(1.0, 30.0, num) * (rng.random(num) < 0.8),
        soc_min_kwh=soc_min,
        soc_max_kwh=soc_max,
        soc_initial_kwh=soc_min + rng.uniform(0.0, 1.0, num) * (soc_max - soc_min),
        charge_efficiency=rng.uniform(0.5, 1.0, num),
        discharge_efficiency=rng.uniform(0.5, 1.0, num),
        battery_wear_quadratic_ct_per_kw2h=quadratic * rng.uniform(0.0, 0.1, num),
        battery_wear_linear_ct_per_kwh=rng.uniform(0.0, 2.0, num),
        shiftable_power_kw=rng.uniform(5.0, 20.0, num),
        backlog_min_kwh=-rng.choice([0.5, 5.0, 200.0], num),
        backlog_max_kwh=rng.choice([0.5, 5.0, 200.0], num),
        discomfort_quadratic_ct_per_kwh2h=quadratic * rng.uniform(0.0, 0.05, num),
        discomfort_linear_ct_per_kwhh=quadratic * rng.uniform(0.0, 0.5, num),
        position_limit_kw=rng.uniform(5.0, 50.0, num),
        connection_limit_kw=rng.uniform(5.0, 50.0, num),
        power_factor=rng.uniform(0.8, 1.0, num),
    )
    tariff = Tariff(
        da_sell_ratio=rng.uniform(0.0, 1.0),
        rt_sell_ratio=rng.uniform(0.0, 1.0),
        rt_buy_margin_ct_per_kwh=rng.uniform(0.0, 2.0),
        rt_sell_margin_ct_per_kwh=rng.uniform(0.0, 2.0),
        demand_charge_ct_per_kw=rng.uniform(0.0, 30.0),
        terminal_shortfall_factor=rng.uniform(0.5, 2.0),
    )
    return Community(
        name=f"random {seed}",
        feeder=feeder,
        fleet=fleet,
        graph=TradeGraph(
            edges[:, 0], edges[:, 1], rng.uniform(0.0, 8.0, len(edges)), rng.uniform(0.0, 1.0, len(edges))
        ),
        tariff=tariff,
        hours_per_day=int(rng.choice([4, 24])) if hours_per_day is None else hours_per_day,
    )


def random_days(community: Community, num_days: int, seed: int) -> Exogenous:
    """Loads, sun and prices of either sign; the shiftable load never exceeds its power."""
    rng = np.random.default_rng(seed)
    shape = (num_days, community.hours_per_day, community.num_prosumers)
    share = rng.uniform(0.0, 1.0, shape) * (rng.random(shape) < 0.7)
    return Exogenous(
        load_kw=rng.uniform(0.0, 25.0, shape),
        pv_kw=rng.uniform(0.0, 30.0, shape) * (rng.random(shape) < 0.6),
        shiftable_ref_kw=share * community.fleet.shiftable_power_kw,
        price_da_ct_per_kwh=rng.uniform(-5.0, 15.0, shape[:2]),
        price_rt_ct_per_kwh=rng.uniform(-10.0, 30.0, shape[:2]),
        passive_pu=rng.uniform(0.1, 0.7, shape[:2]),
    )


def random_wants(community: Community, num_lanes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Battery, shiftable load, curtailment [N,B] and offers [M,B]; many of them beyond what is feasible."""
    num = community.num_prosumers
    battery = rng.uniform(-1.5, 1.5, (num, num_lanes)) * (community.fleet.battery_power_kw[:, None] + 1.0)
    shiftable = rng.uniform(-0.3, 1.3, (num, num_lanes)) * community.fleet.shiftable_power_kw[:, None]
    curtail = rng.uniform(-10.0, 12.0, (num, num_lanes))
    offers = rng.uniform(-1.3, 1.3, (community.num_offers, num_lanes)) * community.offer_limits[:, None]
    for wants in (battery, shiftable, curtail, offers):
        wants[rng.random(wants.shape) < 0.02] = np.inf
        wants[rng.random(wants.shape) < 0.02] = -np.inf
    if community.market.offers == "priced orders":  # limit prices often coincide
        offers[num:] = np.where(rng.random((num, num_lanes)) < 0.5, np.round(2.0 * offers[num:]) / 2.0, offers[num:])
    return battery, shiftable, curtail, offers


def random_position(community: Community, num_lanes: int, rng: np.random.Generator) -> np.ndarray:
    """Positions [N,H,B], some beyond their limits."""
    shape = (community.num_prosumers, community.hours_per_day, num_lanes)
    return rng.uniform(-1.2, 1.2, shape) * community.fleet.position_limit_kw[:, None, None]


@dataclass
class PlainHour:
    """What the rules say happened in one hour of one community."""

    battery_kw: list[float] = field(default_factory=list)
    shiftable_kw: list[float] = field(default_factory=list)
    curtail_kw: list[float] = field(default_factory=list)
    soc_kwh: list[float] = field(default_factory=list)
    backlog_kwh: list[float] = field(default_factory=list)
    net_import_kw: list[float] = field(default_factory=list)
    trade_kw: list[float] = field(default_factory=list)
    p2p_kw: list[float] = field(default_factory=list)
    realtime_kw: list[float] = field(default_factory=list)
    p2p_price_ct_per_kwh: float = 0.0
    cost_ct: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass
class PlainDay:
    """One community on one day, hour by hour."""

    community: Community
    exogenous: Exogenous
    day: int
    position_kw: np.ndarray  # [N,H], within limits
    soc_kwh: list[float]
    last: bool = True
    hour: int = 0

    def __post_init__(self) -> None:
        num = self.community.num_prosumers
        self.backlog_kwh = [0.0] * num
        self.peak_kw = [0.0] * num

    def reach(self, n: int, hour: int) -> tuple[float, float]:
        """Backlogs of prosumer n at the start of `hour` from which the day can be finished, by walking back."""
        fleet, dt = self.community.fleet, self.community.dt_h
        low = high = 0.0
        for h in reversed(range(hour, self.community.hours_per_day)):
            ref = float(self.exogenous.shiftable_ref_kw[self.day, h, n])
            low = max(low - dt * (float(fleet.shiftable_power_kw[n]) - ref), float(fleet.backlog_min_kwh[n]))
            high = min(high + dt * ref, float(fleet.backlog_max_kwh[n]))
        return low, high

    def play(
        self, battery: np.ndarray, shiftable: np.ndarray, curtail: np.ndarray, offers: np.ndarray | None
    ) -> PlainHour:
        """One hour at the wants [N], [N], [N], [M]; without offers the community trades what is over for what lacks."""
        c, x, h, day = self.community, self.exogenous, self.hour, self.day
        f, t, dt = c.fleet, c.tariff, c.dt_h
        num, out = c.num_prosumers, PlainHour()
        for n in range(num):
            pv, load, ref = x.pv_kw[day, h, n], x.load_kw[day, h, n], x.shiftable_ref_kw[day, h, n]
            k = min(max(curtail[n], 0.0), pv)
            eta_c, eta_d = f.charge_efficiency[n], f.discharge_efficiency[n]
            charge = min(max(battery[n], 0.0), f.battery_power_kw[n], (f.soc_max_kwh[n] - self.soc_kwh[n]) / eta_c / dt)
            discharge = min(
                max(-battery[n], 0.0), f.battery_power_kw[n], (self.soc_kwh[n] - f.soc_min_kwh[n]) * eta_d / dt
            )
            soc = self.soc_kwh[n] + dt * (eta_c * charge - discharge / eta_d)
            low, high = self.reach(n, h + 1)
            least = max(0.0, ref + (low - self.backlog_kwh[n]) / dt)
            most = min(f.shiftable_power_kw[n], ref + (high - self.backlog_kwh[n]) / dt)
            ps = min(max(shiftable[n], least), most)
            out.curtail_kw.append(k)
            out.battery_kw.append(charge - discharge)
            out.soc_kwh.append(soc)
            out.shiftable_kw.append(ps)
            out.backlog_kwh.append(self.backlog_kwh[n] + dt * (ps - ref))
            out.net_import_kw.append(load - (pv - k) + ps + charge - discharge)
        da, rt = float(x.price_da_ct_per_kwh[day, h]), float(x.price_rt_ct_per_kwh[day, h])
        da_sell = da - (1.0 - t.da_sell_ratio) * abs(da)
        rt_buy = max(rt, da) + t.rt_buy_margin_ct_per_kwh
        rt_sell = min(rt - (1.0 - t.rt_sell_ratio) * abs(rt), da_sell) - t.rt_sell_margin_ct_per_kwh
        available = [float(x.pv_kw[day, h, n]) - out.curtail_kw[n] for n in range(num)]
        residual = [out.net_import_kw[n] - float(self.position_kw[n, h]) for n in range(num)]
        if c.mechanism == "bilateral":
            per_edge = plain_residual_offers(c, available, residual) if offers is None else offers.tolist()
            out.trade_kw, out.p2p_kw, fee = plain_bilateral(c, available, per_edge)
            out.p2p_price_ct_per_kwh = (da + da_sell) / 2.0
        else:
            orders = (residual if offers is None else offers[:num].tolist())[:num]
            limits = [math.copysign(1.0, r) for r in residual] if offers is None else offers[num:].tolist()
            out.trade_kw = [0.0] * c.num_edges
            out.p2p_kw, out.p2p_price_ct_per_kwh = plain_pool(c, available, orders, limits, da, da_sell)
            fee = [c.pool_fee_ct_per_kwh[n] / 2.0 * abs(out.p2p_kw[n]) for n in range(num)]
        out.cost_ct = np.zeros((TERMS, num))
        for n in range(num):
            y, p, traded = out.net_import_kw[n], float(self.position_kw[n, h]), out.p2p_kw[n]
            q = y - p - traded
            out.realtime_kw.append(q)
            b, s = out.battery_kw[n], out.backlog_kwh[n]
            terminal = 0.0
            if self.last and h == c.hours_per_day - 1:
                prices = [float(price) for price in x.price_da_ct_per_kwh[day]]
                short = t.terminal_shortfall_factor * max(0.0, max(prices)) / f.charge_efficiency[n]
                surplus = max(0.0, min(v - (1.0 - t.da_sell_ratio) * abs(v) for v in prices))
                missing = f.soc_initial_kwh[n] - out.soc_kwh[n]
                terminal = short * missing if missing > 0.0 else surplus * f.discharge_efficiency[n] * missing
            out.cost_ct[:, n] = (
                dt * (da * p if p > 0.0 else da_sell * p),
                dt * (rt_buy * q if q > 0.0 else rt_sell * q),
                dt * out.p2p_price_ct_per_kwh * traded,
                dt * fee[n],
                t.demand_charge_ct_per_kw * (max(y, self.peak_kw[n]) - self.peak_kw[n]),
                dt * (f.battery_wear_quadratic_ct_per_kw2h[n] * b * b + f.battery_wear_linear_ct_per_kwh[n] * abs(b)),
                dt * (f.discomfort_quadratic_ct_per_kwh2h[n] * s * s + f.discomfort_linear_ct_per_kwhh[n] * abs(s)),
                terminal,
            )
            self.peak_kw[n] = max(self.peak_kw[n], y)
        self.soc_kwh, self.backlog_kwh = list(out.soc_kwh), list(out.backlog_kwh)
        self.hour += 1
        return out


def plain_residual_offers(community: Community, available_kw: list[float], residual_kw: list[float]) -> list[float]:
    """Offers along the edges, in their order, of what is over to whom it lacks."""
    graph, num = community.graph, community.num_prosumers
    over = [min(max(-residual_kw[n], 0.0), available_kw[n]) for n in range(num)]
    lacking = [max(residual_kw[n], 0.0) for n in range(num)]
    offers = [0.0] * len(graph)
    for e in range(len(graph)):
        for sign, buyer, seller in ((1, graph.first[e], graph.second[e]), (-1, graph.second[e], graph.first[e])):
            power = min(over[seller], lacking[buyer], float(graph.limit_kw[e]))
            over[seller] -= power
            lacking[buyer] -= power
            offers[e] += sign * power
    return offers + [-offer for offer in offers]


def plain_bilateral(
    community: Community, available_kw: list[float], offers: list[float]
) -> tuple[list[float], list[float], list[float]]:
    """Trade on every edge, what every prosumer trades, and its fee per hour."""
    g, num, num_edges = community.graph, community.num_prosumers, community.num_edges
    ends = [(int(a), int(b)) for a, b in zip(g.first, g.second, strict=True)]
    limited = [min(max(o, -lim), lim) for o, lim in zip(offers, np.concatenate((g.limit_kw, g.limit_kw)), strict=True)]
    sells = [0.0] * num
    for e, (a, b) in enumerate(ends):
        sells[a] += max(-limited[e], 0.0)
        sells[b] += max(-limited[num_edges + e], 0.0)
    sigma = [min(1.0, available_kw[n] / sells[n]) if sells[n] > 0.0 else 1.0 for n in range(num)]
    trades, p2p, fee = [], [0.0] * num, [0.0] * num
    for e, (a, b) in enumerate(ends):
        mine, theirs = limited[e], limited[num_edges + e]
        trade = 0.0
        if mine > 0.0 > theirs:
            trade = min(mine, -theirs * sigma[b])
        if mine < 0.0 < theirs:
            trade = -min(-mine * sigma[a], theirs)
        trades.append(trade)
        p2p[a] += trade
        p2p[b] -= trade
        for n in (a, b):
            fee[n] += g.fee_ct_per_kwh[e] / 2.0 * abs(trade)
    return trades, p2p, fee


def plain_pool(
    community: Community,
    available_kw: list[float],
    wanted: list[float],
    limits: list[float],
    buy: float,
    sell: float,
) -> tuple[list[float], float]:
    """What every prosumer trades in a pool or an auction, and the price."""
    pool_limit, num = community.pool_limit_kw, community.num_prosumers
    orders = [min(max(wanted[n], -pool_limit[n], -available_kw[n]), pool_limit[n]) for n in range(num)]
    if community.mechanism == "double-auction":
        worth = [sell + (min(max(limit, -1.0), 1.0) + 1.0) / 2.0 * (buy - sell) for limit in limits]
        return plain_auction(orders, worth, buy, sell)
    demand, supply = sum(o for o in orders if o > 0.0), -sum(o for o in orders if o < 0.0)
    matched = min(demand, supply)
    if matched == 0.0:
        return [0.0] * num, (buy + sell) / 2.0
    traded = [o * matched / (demand if o > 0.0 else supply) for o in orders]
    if community.mechanism == "mid-market-rate":
        return traded, (buy + sell) / 2.0
    ratio = min(supply / demand, 1.0)
    return traded, buy * sell / ((buy - sell) * ratio + sell) if sell > 0.0 else buy - ratio * (buy - sell)


def plain_auction(orders: list[float], worth: list[float], buy: float, sell: float) -> tuple[list[float], float]:
    """Best bid against best ask until they no longer meet; equal orders at the margin share what it left them."""
    bids = sorted((-worth[n], orders[n]) for n in range(len(orders)) if orders[n] > 0.0)
    asks = sorted((worth[n], -orders[n]) for n in range(len(orders)) if orders[n] < 0.0)
    volume, last_bid, last_ask = 0.0, buy, sell
    while bids and asks and -bids[0][0] >= asks[0][0]:
        last_bid, last_ask = -bids[0][0], asks[0][0]
        power = min(bids[0][1], asks[0][1])
        volume += power
        for side in (bids, asks):
            price, left = side.pop(0)
            if left > power + 1e-9:  # rounding is no order
                side.insert(0, (price, left - power))
    traded = []
    for order, price in zip(orders, worth, strict=True):
        sign, last = (1.0, last_bid) if order > 0.0 else (-1.0, last_ask)
        side = [(sign * p, sign * o) for o, p in zip(orders, worth, strict=True) if sign * o > 0.0]
        better = sum(o for p, o in side if p > sign * last)
        equal = sum(o for p, o in side if p == sign * last)
        share = 1.0 if sign * price > sign * last else 0.0
        if price == last and equal > 0.0:
            share = min((volume - better) / equal, 1.0)
        traded.append(order * share if volume > 0.0 else 0.0)
    return traded, (last_bid + last_ask) / 2.0


def bus_loads(
    community: Community, passive_pu: np.ndarray, net_import_kw: np.ndarray, consumed_kw: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Active and reactive load of every bus [K,B] for lanes of prosumers [N,B]."""
    p = community.feeder.p_kw[:, None] * passive_pu
    q = community.feeder.q_kvar[:, None] * passive_pu
    for n, bus in enumerate(community.fleet.bus):
        units = community.fleet.units[n]
        p[bus] += units * net_import_kw[n]
        q[bus] += units * np.tan(np.arccos(community.fleet.power_factor[n])) * consumed_kw[n]
    return p, q


def power_flow(community: Community, p_kw: np.ndarray, q_kvar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voltages [K,B] and active losses [B]."""
    solution = solve_power_flow(community.feeder, p_kw, q_kvar)
    return solution.v_pu, solution.losses_kw
