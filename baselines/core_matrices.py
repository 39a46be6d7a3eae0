"""The core problem as matrices: what `solve_core` hands to the solver.

The model (two-stage stochastic program with recourse, after arXiv 2409.00493; stated in full, readable and slow, in
`day_ahead_reference`) is rewritten here without changing its optimum, because the rewriting is six times faster:

- Recourse. In hour h of scenario i prosumer n settles q = r - x, with r = load - PV of the scenario and x, the supply,
  the same in all scenarios. The expected payment sum_i w_i (c+_i (r_i - x)+ - c-_i (x - r_i)+) is a convex
  piecewise-linear function of the one number x, with a corner at each r_i (c+ >= c- by the tariff). Instead of two
  variables and a balance per scenario, x is cut into its pieces: bounded variables with increasing slopes, which fill
  up in order at any optimum, and one equation. Scenarios that agree share a corner: an observed hour has one.
- Demand charge. Each scenario's peak t_i >= r_i + z in every hour, z = shiftable + charge - discharge, also the same
  in all scenarios. With z a variable of its own, its rows hold two numbers instead of four and leave little fill.
- Curtailment is left out wherever the real-time selling price is not negative. Proof: where 0 <= c- <= c+, taking
  back curtailment lowers q, and so the payment, lowers the import, and so its peak, and leaves more to be sold to
  neighbours: no optimum needs it. Where c- < 0 it depends on the peak, and the hour and scenario are written out.
- Sales to neighbours are left out where nothing is generated, and their common limit where it cannot bind.

Measured for N=10, H=24, S=50 (medians, one core): two variables per scenario 0.59 s; excess over x per scenario
0.56 s; pieces with charge, discharge and shiftable in each peak row 0.49 s; pieces and z 0.07 s. Setting up takes a
tenth of that, so that nothing is kept between solves: no memory, and no result that depends on what was solved before.

Axis letters: N prosumers, E undirected trade edges, S scenarios, h remaining hours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.planning import DayStart, Scenarios
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError

_SAME_KW = 1e-9
"""Corners of the recourse cost closer than this are one."""


class CoreColumns(NamedTuple):
    """Where each variable stands in x; -1 where it is left out, which means zero."""

    buy: IntArray
    """Day-ahead purchase [h,N]."""
    sell: IntArray
    """Day-ahead sale [h,N]."""
    charge: IntArray
    discharge: IntArray
    shiftable: IntArray
    flexible: IntArray
    """z = shiftable + charge - discharge [h,N]."""
    curtail: IntArray
    """PV thrown away in hours already observed [h,N]."""
    first_buys: IntArray
    """Sale from the second to the first end of an edge [h,E]."""
    second_buys: IntArray
    """Sale from the first to the second end [h,E]."""


@dataclass(frozen=True, eq=False)
class CoreMatrices:
    """Minimise 1/2 x'Px + c'x + constant subject to Ax = b, Gx <= h, lb <= x <= ub."""

    P: Any
    c: FloatArray
    A: Any
    b: FloatArray
    G: Any
    h: FloatArray
    lb: FloatArray
    ub: FloatArray
    constant_ct: float
    columns: CoreColumns

    def with_rows(self, rows: Any, limits: FloatArray) -> Self:
        """The same with further rows `rows @ x <= limits`, for example limits of the network on `flexible`."""
        return replace(self, G=sp.vstack([self.G, rows], format="csc"), h=np.concatenate([self.h, limits]))


@dataclass
class _Variables:
    """Variables listed one block after the other."""

    size: int = 0
    lower: list[FloatArray] = field(default_factory=list)
    upper: list[FloatArray] = field(default_factory=list)
    linear: list[FloatArray] = field(default_factory=list)
    quadratic: list[FloatArray] = field(default_factory=list)

    def add(
        self, shape: tuple[int, ...], *, lower: Any = 0.0, upper: Any = np.inf, cost: Any = 0.0, quadratic: Any = 0.0,
        present: BoolArray | None = None,
    ) -> IntArray:  # fmt: skip
        """Columns of a new block, -1 where not `present`; bounds and costs broadcast to `shape`."""
        columns = np.full(shape, -1, dtype=np.int64)
        where = np.ones(shape, dtype=np.bool_) if present is None else np.broadcast_to(present, shape)
        count = int(np.count_nonzero(where))
        columns[where] = np.arange(self.size, self.size + count)
        self.size += count
        for values, store in (
            (lower, self.lower), (upper, self.upper), (cost, self.linear), (quadratic, self.quadratic),
        ):  # fmt: skip
            store.append(np.broadcast_to(np.asarray(values, dtype=np.float64), shape)[where])
        return columns


@dataclass
class _Rows:
    """Rows of a sparse matrix and their right-hand sides, listed one block after the other."""

    rhs: list[FloatArray] = field(default_factory=list)
    size: int = 0
    entries: list[tuple[IntArray, IntArray, FloatArray]] = field(default_factory=list)

    def add(self, rhs: FloatArray, present: BoolArray | None = None) -> IntArray:
        """Numbers of new rows, of the shape of `rhs`; -1 where not `present`."""
        rows = np.full(rhs.shape, -1, dtype=np.int64)
        where = np.ones(rhs.shape, dtype=np.bool_) if present is None else present
        count = int(np.count_nonzero(where))
        rows[where] = np.arange(self.size, self.size + count)
        self.size += count
        self.rhs.append(rhs[where])
        return rows

    def put(self, rows: IntArray, columns: IntArray, value: Any) -> None:
        """Entries of the matrix, broadcast against each other; those of absent rows or columns are left out."""
        row, column, values = np.broadcast_arrays(rows, columns, np.asarray(value, dtype=np.float64))
        where = (row >= 0) & (column >= 0)
        self.entries.append((row[where], column[where], values[where]))

    def matrix(self, num_columns: int) -> tuple[Any, FloatArray]:
        row, column, values = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        matrix = sp.csc_matrix((values, (row, column)), shape=(self.size, num_columns))
        return matrix, np.concatenate(self.rhs)


def build_core(
    community: Community, start: DayStart, scenarios: Scenarios, *, regulariser: float, foresight: bool = False
) -> CoreMatrices:
    """Matrices of the core problem.

    Args:
        community: who plans.
        start: where the day stands. Without a position: day-ahead stage, the position is decided and nothing is
            curtailed. With one: real time, the first hour is observed and later PV may be curtailed once known.
        scenarios: the remaining hours.
        regulariser: weight r of r/2 |position, purchases, sales|^2 in ct/kW^2, which makes the plan unique.
        foresight: every hour is known (one scenario) and the position is still free: the oracle's problem.

    Raises `UsageError` when the shapes do not fit the community, the observed hour differs between scenarios, or the
    terminal value is not concave.
    """
    fleet, graph, tariff, dt_h = community.fleet, community.graph, community.tariff, community.dt_h
    S, T, N = scenarios.load_kw.shape
    E = community.num_edges
    _check(community, start, scenarios, foresight)
    free_position = start.position_kw is None
    num_observed = T if foresight else 0 if free_position else 1
    weights = scenarios.weights_by_prosumer  # [N,S]
    prices = tariff.settlement_prices(start.price_da_ct_per_kwh[start.start_hour :], scenarios.price_rt_ct_per_kwh)
    pv = scenarios.pv_kw.transpose(1, 2, 0)  # [h,N,S], as all that follows
    net_load = scenarios.load_kw.transpose(1, 2, 0) - pv
    rt_buy, rt_sell = prices.rt_buy.T[:, None, :], prices.rt_sell.T[:, None, :]  # [h,1,S]
    promised = scenarios.mean_pv_kw  # [h,N]
    observed = np.arange(T)[:, None] < num_observed  # [h,1]
    curtails = observed & (rt_sell[:, :, 0] < 0) & (promised > 0)  # [h,N]
    recourse = np.zeros((T, N, S), dtype=np.bool_)  # written out, with curtailment of its own
    if not (free_position or foresight):
        recourse = ~observed[:, :, None] & (rt_sell < 0) & (pv > 0) & (weights > 0)

    columns = _Variables()
    limit = fleet.position_limit_kw
    day_ahead = free_position & (limit > 0)
    buy = columns.add((T, N), upper=limit, cost=dt_h * prices.da_buy[:, None], quadratic=regulariser, present=day_ahead)
    sell = columns.add(
        (T, N), upper=limit, cost=-dt_h * prices.da_sell[:, None], quadratic=regulariser, present=day_ahead
    )
    power = fleet.battery_power_kw
    wear = {
        "cost": dt_h * fleet.battery_wear_linear_ct_per_kwh,
        "quadratic": 2.0 * dt_h * fleet.battery_wear_quadratic_ct_per_kw2h,
    }
    charge = columns.add((T, N), upper=power, present=power > 0, **wear)
    discharge = columns.add((T, N), upper=power, present=power > 0, **wear)
    shiftable = columns.add((T, N), upper=fleet.shiftable_power_kw, present=fleet.shiftable_power_kw > 0)
    soc = columns.add((T, N), lower=fleet.soc_min_kwh, upper=fleet.soc_max_kwh)  # at the end of each hour
    backlog = columns.add(  # likewise; at midnight it is zero
        (T, N), lower=fleet.backlog_min_kwh, upper=fleet.backlog_max_kwh,
        quadratic=2.0 * dt_h * fleet.discomfort_quadratic_ct_per_kwh2h, present=np.arange(T)[:, None] < T - 1,
    )  # fmt: skip
    flexible = columns.add((T, N), lower=-np.inf)
    supply = columns.add((T, N), lower=-np.inf)
    curtail = columns.add((T, N), upper=promised, present=curtails)
    trade = {
        "upper": graph.limit_kw, "cost": dt_h * graph.fee_ct_per_kwh,
        "quadratic": 2.0 * regulariser,  # a purchase at one end and a sale at the other
    }  # fmt: skip
    first_buys = columns.add((T, E), present=(promised[:, graph.second] > 0) & (graph.limit_kw > 0), **trade)
    second_buys = columns.add((T, E), present=(promised[:, graph.first] > 0) & (graph.limit_kw > 0), **trade)
    short_value, left_value = tariff.terminal_values(
        start.price_da_ct_per_kwh, fleet.charge_efficiency, fleet.discharge_efficiency
    )
    short = columns.add((N,), cost=short_value)
    left = columns.add((N,), cost=-left_value)

    equal, below = _Rows(), _Rows()
    rows = equal.add(np.where(np.arange(T)[:, None] == 0, start.soc_kwh, 0.0))
    equal.put(rows, soc, 1.0)
    equal.put(rows[1:], soc[:-1], -1.0)
    equal.put(rows, charge, -dt_h * fleet.charge_efficiency)
    equal.put(rows, discharge, dt_h / fleet.discharge_efficiency)
    rows = equal.add(fleet.soc_initial_kwh)
    equal.put(rows, soc[-1], 1.0)
    equal.put(rows, short, 1.0)
    equal.put(rows, left, -1.0)
    reference = start.shiftable_ref_kw[start.start_hour :]
    rows = equal.add(np.where(np.arange(T)[:, None] == 0, start.backlog_kwh, 0.0) - dt_h * reference)
    equal.put(rows, backlog, 1.0)
    equal.put(rows[1:], backlog[:-1], -1.0)
    equal.put(rows, shiftable, -dt_h)
    if np.any(fleet.discomfort_linear_ct_per_kwhh > 0):
        magnitude = columns.add((T, N), cost=dt_h * fleet.discomfort_linear_ct_per_kwhh, present=backlog >= 0)
        for sign in (1.0, -1.0):
            rows = below.add(np.zeros((T, N)), present=backlog >= 0)
            below.put(rows, backlog, sign)
            below.put(rows, magnitude, -1.0)
    rows = equal.add(np.zeros((T, N)))
    equal.put(rows, flexible, 1.0)
    equal.put(rows, shiftable, -1.0)
    equal.put(rows, charge, -1.0)
    equal.put(rows, discharge, 1.0)
    # supply = position + bought - sold - flexible - curtailed
    committed = np.zeros((T, N)) if start.position_kw is None else start.position_kw[:, start.start_hour :].T
    rows = equal.add(np.ascontiguousarray(committed))
    equal.put(rows, supply, 1.0)
    equal.put(rows, buy, -1.0)
    equal.put(rows, sell, 1.0)
    equal.put(rows, flexible, 1.0)
    equal.put(rows, curtail, 1.0)
    for end, sign in ((graph.first, -1.0), (graph.second, 1.0)):
        equal.put(rows[:, end], first_buys, sign)
        equal.put(rows[:, end], second_buys, -sign)

    constant = 0.0
    if not free_position:
        constant += dt_h * float(
            np.sum(prices.da_buy[:, None] * np.maximum(committed, 0.0))
            + np.sum(prices.da_sell[:, None] * np.minimum(committed, 0.0))
        )
    stake = np.where(recourse, 0.0, dt_h * weights)
    constant += _add_pieces(columns, equal, supply, net_load, stake, rt_buy, rt_sell)

    # The same sales are limited by what is generated: only local generation is sold.
    partners_kw = np.bincount(graph.first, graph.limit_kw, N) + np.bincount(graph.second, graph.limit_kw, N)
    rows = below.add(promised, present=(promised > 0) & ((promised < partners_kw) | curtails))
    below.put(rows[:, graph.second], first_buys, 1.0)
    below.put(rows[:, graph.first], second_buys, 1.0)
    below.put(rows, curtail, 1.0)

    thrown = np.full((T, N, S), -1, dtype=np.int64)
    if recourse.any():
        thrown = columns.add((T, N, S), upper=pv, cost=dt_h * weights * rt_sell, present=recourse)
        excess = columns.add((T, N, S), cost=dt_h * weights * (rt_buy - rt_sell), present=recourse)
        rows = below.add(-net_load, present=recourse)
        below.put(rows, supply[:, :, None], -1.0)
        below.put(rows, thrown, 1.0)
        below.put(rows, excess, -1.0)
        paid = np.where(recourse, dt_h * weights * rt_sell, 0.0)
        constant += float(np.sum(paid * net_load))
        # the rest of c- (net load - supply): supply carries a cost of its own here
        extra_supply_cost = -paid.sum(axis=2)
    else:
        extra_supply_cost = np.zeros((T, N))

    if tariff.demand_charge_ct_per_kw > 0:
        counts = weights > 0  # [N,S]
        peak = columns.add(
            (N, S), lower=start.connection_peak_kw[:, None], cost=tariff.demand_charge_ct_per_kw * weights,
            present=counts,
        )  # fmt: skip
        rows = below.add(-net_load, present=np.broadcast_to(counts, (T, N, S)))
        below.put(rows, flexible[:, :, None], 1.0)
        below.put(rows, curtail[:, :, None], 1.0)
        below.put(rows, thrown, 1.0)
        below.put(rows, peak, -1.0)
        constant -= tariff.demand_charge_ct_per_kw * float(start.connection_peak_kw.sum())

    A, b = equal.matrix(columns.size)
    G, h = below.matrix(columns.size)
    c = np.concatenate(columns.linear)
    c[supply] += extra_supply_cost
    return CoreMatrices(
        P=sp.diags(np.concatenate(columns.quadratic), format="csc"), c=c, A=A, b=b, G=G, h=h,
        lb=np.concatenate(columns.lower), ub=np.concatenate(columns.upper), constant_ct=constant,
        columns=CoreColumns(buy, sell, charge, discharge, shiftable, flexible, curtail, first_buys, second_buys),
    )  # fmt: skip


def _add_pieces(
    columns: _Variables, equal: _Rows, supply: IntArray, net_load: FloatArray, stake: FloatArray,
    rt_buy: FloatArray, rt_sell: FloatArray,
) -> float:  # fmt: skip
    """Expected real-time payment as a function of the supply, in pieces; returns its constant part.

    `supply` [h,N]; `net_load`, `stake` = dt w [h,N,S]; prices [h,1,S]. Scenarios without stake have no corner.
    """
    T, N, S = net_load.shape
    heaviest = np.argmax(stake, axis=2)[:, :, None]
    corner = np.where(stake > 0, net_load, np.take_along_axis(net_load, heaviest, axis=2))
    order = np.argsort(corner, axis=2, kind="stable")
    corner = np.take_along_axis(corner, order, axis=2)
    rise = np.take_along_axis(stake * (rt_buy - rt_sell), order, axis=2)
    slope = np.empty((T, N, S + 1))
    slope[:, :, 0] = -np.sum(stake * rt_buy, axis=2)
    slope[:, :, 1:] = slope[:, :, :1] + np.cumsum(rise, axis=2)
    width = np.full((T, N, S + 1), np.inf)
    width[:, :, 1:-1] = np.diff(corner, axis=2)
    at_stake = np.any(stake > 0, axis=2)  # [h,N]
    present = at_stake[:, :, None] & (width > _SAME_KW)
    # The first piece runs downwards from the first corner, all others upwards.
    sign = np.ones(S + 1)
    sign[0] = -1.0
    piece = columns.add((T, N, S + 1), upper=width, cost=sign * slope, present=present)
    rows = equal.add(corner[:, :, 0], present=at_stake)
    equal.put(rows, supply, 1.0)
    equal.put(rows[:, :, None], piece, -sign)
    return float(np.sum(stake * rt_buy * (net_load - corner[:, :, :1])))


def _check(community: Community, start: DayStart, scenarios: Scenarios, foresight: bool) -> None:
    S, T, N = scenarios.load_kw.shape
    hours, tariff = community.hours_per_day, community.tariff
    if start.shiftable_ref_kw.shape != (hours, community.num_prosumers):
        raise UsageError(
            f"day start.shiftable_ref_kw: shape {start.shiftable_ref_kw.shape}, "
            f"expected ({hours}, {community.num_prosumers})"
        )
    if (hours - start.start_hour, community.num_prosumers) != (T, N):
        raise UsageError(
            f"scenarios.load_kw: {T} hours of {N} prosumers, expected the {hours - start.start_hour} remaining hours "
            f"of {community.num_prosumers} prosumers"
        )
    if foresight and (S != 1 or start.position_kw is not None):
        raise UsageError("core problem: foresight takes one scenario and a free position")
    if start.position_kw is not None and S > 1:
        for name in ("load_kw", "pv_kw", "price_rt_ct_per_kwh"):
            first = getattr(scenarios, name)[:, 0]
            if np.any(first != first[0]):
                raise UsageError(f"scenarios.{name}: the first hour is observed and must be the same in every scenario")
    short, left = tariff.terminal_values(
        start.price_da_ct_per_kwh, community.fleet.charge_efficiency, community.fleet.discharge_efficiency
    )
    if np.any(short < left):
        raise UsageError(
            "tariff.terminal_shortfall_factor: energy missing at the end of the day costs less than energy left over "
            "earns, so that the core problem is not convex; raise the factor"
        )
