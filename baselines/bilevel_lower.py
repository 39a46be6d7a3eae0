"""The plan for one day as a program whose data are affine in the weights of the scenarios: plain matrices.

    minimise    1/2 z' diag(Q) z + (f0 + F w)' z
    subject to  A z = b,  G z <= g0 + G1 w,  lower <= z <= upper

The day-ahead core problem (`day_ahead_reference`; arXiv 2409.00493 with two settlement prices, a demand charge and
recourse in every scenario) in that form: payments w_j dt (c+ q+_j - c- q-_j) and demand charges delta w_j t_j are
linear in each prosumer's weights, and so is the generation that may be promised to neighbours. Every scenario that can
have a weight keeps variables of its own, also where it has none: the weights are chosen elsewhere (`bilevel_exact`).

With it come a finite box in which some optimum lies whatever the weights, and bounds on its multipliers from prices.

Axis letters: N prosumers, X trades of an hour (`trades`), S scenarios, H hours of a day, V variables, W = N S weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.assembly import ABSENT, Rows, Variables
from prosumer_gym.baselines.planning import DayStart
from prosumer_gym.baselines.solve import Solution, solve_qp
from prosumer_gym.baselines.trades import trade_form
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous

_NO_KW = 1e-9
"""Less PV than this is none."""


class LowerColumns(NamedTuple):
    """Where each variable stands in z; -1 (`assembly.ABSENT`) where it is left out, which means zero."""

    buy: IntArray
    """Day-ahead purchase [H,N]."""
    sell: IntArray
    charge: IntArray
    discharge: IntArray
    soc: IntArray
    """At the end of the hour [H,N]."""
    short: IntArray
    """Energy missing at the end of the day [N]."""
    left: IntArray
    shiftable: IntArray
    backlog: IntArray
    """At the end of the hour; none in the last [H,N]."""
    flexible: IntArray
    """Shiftable + charge - discharge [H,N]."""
    trade_up: IntArray
    """What the first end of an edge buys of the second [H,X]."""
    trade_down: IntArray
    supply: IntArray
    """Position + bought - sold - flexible [H,N]."""
    rt_buy: IntArray
    """Real-time purchase q+ [S,H,N]."""
    rt_sell: IntArray
    peak: IntArray
    """[S,N]."""


class LowerRows(NamedTuple):
    """Where each equation stands in A, and each inequality (`sales`, `peak`) in G."""

    soc: IntArray
    terminal: IntArray
    backlog: IntArray
    flexible: IntArray
    supply: IntArray
    balance: IntArray
    """[S,H,N]."""
    sales: IntArray
    """[H,N]."""
    peak: IntArray
    """[S,H,N]."""


class Interval(NamedTuple):
    """Between `low` and `high`, entry by entry."""

    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, eq=False)
class LowerLevel:
    """The program, its weights still open (see module)."""

    Q: FloatArray
    """Diagonal [V]."""
    f0: FloatArray
    F: Any
    """[V,W]; weight of prosumer n for scenario j is number n S + j."""
    A: Any
    b: FloatArray
    G: Any
    g0: FloatArray
    G1: Any
    lower: FloatArray
    upper: FloatArray
    box: Interval
    """In which some optimum lies, whatever the weights [V]."""
    columns: LowerColumns
    rows: LowerRows
    curved: IntArray
    """The variables whose squares cost something, for which Q stands, without the regulariser's."""
    lack_kw: FloatArray
    """Load - PV of the scenarios [S,H,N]."""
    equal_multipliers: Interval
    """Between which some multipliers of Az = b lie, whatever the weights."""
    below_multipliers: FloatArray
    """What some of the rows of G do not exceed."""

    def solve(self, weights: FloatArray, *, tolerance: float = 1e-9) -> Solution:
        """The plan for given weights [N,S]. Raises `SolverError`.

        What costs nothing, because its scenario has no weight, stays within the box.
        """
        w = weights.ravel()
        upper = np.where(np.isfinite(self.upper), self.upper, self.box.high)
        return solve_qp(
            sp.diags(self.Q, format="csc"), self.f0 + self.F @ w, self.A, self.b, self.G, self.g0 + self.G1 @ w,
            self.lower, upper, tolerance=tolerance,
        )  # fmt: skip


def lower_level(
    community: Community,
    start: DayStart,
    days: Exogenous,
    may_weigh: BoolArray,
    *,
    regulariser: float,
) -> LowerLevel:
    """The day-ahead program of `community` with the S rows of `days` as scenarios.

    Args:
        community: who plans, without trade or by bilateral trade.
        start: the day to plan, without a position.
        days: what the scenarios bring.
        may_weigh: whether a prosumer can give a scenario weight [N,S]; where not it has no variables.
        regulariser: weight r of r/2 |position, purchases, sales|^2 in ct/kW^2, positive.

    Raises:
        UsageError: a plan that would not be unique, or prices at which wasting energy pays, so that a battery may
            charge and discharge at once.
    """
    _check(community, start, days, regulariser)
    build = _Build(community, start, days, may_weigh)
    build.first_stage(regulariser)
    build.scenarios()
    columns, rows = build.columns, build.rows
    A, b = build.equal.finish(build.variables.size)
    G, g0 = build.below.finish(build.variables.size)
    vector, num_weights = build.variables.vector, may_weigh.size
    lower, upper = vector("lower"), vector("upper")
    return LowerLevel(
        vector("quadratic"), vector("linear"), _sparse(build.price_entries, (lower.size, num_weights)), A, b, G, g0,
        _sparse(build.promise_entries, (g0.size, num_weights)), lower, upper, build.box(lower, upper),
        LowerColumns(**columns), LowerRows(**rows), build.curved(), build.net_load_kw,
        *build.multipliers(b.size, g0.size),
    )  # fmt: skip


Entries = list[tuple[IntArray, IntArray, FloatArray]]


class _Build:
    """The program while it is written."""

    def __init__(self, community: Community, start: DayStart, days: Exogenous, may_weigh: BoolArray) -> None:
        self.community, self.start, self.days, self.may_weigh = community, start, days, may_weigh
        self.trades, self.fleet, self.dt_h = trade_form(community), community.fleet, community.dt_h
        self.prices = community.tariff.settlement_prices(start.price_da_ct_per_kwh, days.price_rt_ct_per_kwh)
        self.values = community.tariff.terminal_values(
            start.price_da_ct_per_kwh, self.fleet.charge_efficiency, self.fleet.discharge_efficiency
        )
        self.shape = (community.hours_per_day, community.num_prosumers)
        self.weighed = np.broadcast_to(may_weigh.T[:, None], days.load_kw.shape)  # [S,H,N]
        self.net_load_kw = days.load_kw - days.pv_kw
        self.variables, self.equal, self.below = Variables(), Rows(), Rows()
        self.columns: dict[str, IntArray] = {}
        self.rows: dict[str, IntArray] = {}
        self.price_entries: Entries = []
        self.promise_entries: Entries = []

    def first_stage(self, regulariser: float) -> None:
        """What is decided before the scenarios part."""
        fleet, dt_h, prices, shape, column = self.fleet, self.dt_h, self.prices, self.shape, self.columns
        add = self.variables.add
        position: dict[str, Any] = {"upper": fleet.position_limit_kw, "quadratic": regulariser}
        column["buy"] = add(shape, linear=dt_h * prices.da_buy[:, None], **position)
        column["sell"] = add(shape, linear=-dt_h * prices.da_sell[:, None], **position)
        has_battery = fleet.battery_power_kw > 0
        battery: dict[str, Any] = {
            "upper": fleet.battery_power_kw, "present": has_battery,
            "linear": dt_h * fleet.battery_wear_linear_ct_per_kwh,
            "quadratic": 2.0 * dt_h * fleet.battery_wear_quadratic_ct_per_kw2h,
        }  # fmt: skip
        column["charge"], column["discharge"] = add(shape, **battery), add(shape, **battery)
        column["soc"] = add(shape, lower=fleet.soc_min_kwh, upper=fleet.soc_max_kwh, present=has_battery)
        short, left = self.values
        column["short"] = add(short.shape, linear=short, present=has_battery)
        column["left"] = add(left.shape, linear=-left, present=has_battery)
        has_shiftable = fleet.shiftable_power_kw > 0
        is_last = np.arange(shape[0])[:, None] == shape[0] - 1
        column["shiftable"] = add(shape, upper=fleet.shiftable_power_kw, present=has_shiftable)
        column["backlog"] = add(
            shape, lower=fleet.backlog_min_kwh, upper=fleet.backlog_max_kwh, present=has_shiftable & ~is_last,
            quadratic=2.0 * dt_h * fleet.discomfort_quadratic_ct_per_kwh2h,
        )  # fmt: skip
        column["flexible"] = add(shape, lower=-np.inf)
        num_ends, trades = len(self.trades.ends), self.trades
        up, down = self.may_trade()
        trade: dict[str, Any] = {
            "upper": trades.limit_kw, "linear": dt_h * num_ends * trades.half_fee_ct_per_kwh,
            "quadratic": num_ends * regulariser,
        }  # fmt: skip
        column["trade_up"], column["trade_down"] = (
            add((shape[0], trades.limit_kw.size), present=where, **trade) for where in (up, down)
        )
        column["supply"] = add(shape, lower=-np.inf)
        self.first_rows()

    def may_trade(self) -> tuple[BoolArray, BoolArray]:
        """Where the second end of an edge may have something to sell, and where the first end [H,X]."""
        generates = np.any(self.weighed & (self.days.pv_kw > _NO_KW), axis=0)  # [H,N]
        is_open = self.trades.limit_kw > 0
        (first, _), (second, _) = self.trades.ends
        return generates[:, second] & is_open, generates[:, first] & is_open

    def first_rows(self) -> None:
        """What ties the first stage together."""
        fleet, dt_h, shape, column, row = self.fleet, self.dt_h, self.shape, self.columns, self.rows
        put = self.equal.put
        at_start = np.zeros(shape)
        at_start[0] = self.start.soc_kwh
        row["soc"] = self.equal.add(at_start, present=column["soc"] != ABSENT)
        put(row["soc"], column["soc"], 1.0)
        put(row["soc"][1:], column["soc"][:-1], -1.0)
        put(row["soc"], column["charge"], -dt_h * fleet.charge_efficiency)
        put(row["soc"], column["discharge"], dt_h / fleet.discharge_efficiency)
        row["terminal"] = self.equal.add(fleet.soc_initial_kwh, present=column["short"] != ABSENT)
        for name, sign in (("short", 1.0), ("left", -1.0)):
            put(row["terminal"], column[name], sign)
        put(row["terminal"], column["soc"][-1], 1.0)
        row["backlog"] = self.equal.add(
            -dt_h * self.start.shiftable_ref_kw, present=column["shiftable"] != ABSENT
        )  # fmt: skip
        put(row["backlog"], column["backlog"], 1.0)
        put(row["backlog"][1:], column["backlog"][:-1], -1.0)
        put(row["backlog"], column["shiftable"], -dt_h)
        row["flexible"] = self.equal.add(np.zeros(shape))
        for name, sign in (("flexible", 1.0), ("shiftable", -1.0), ("charge", -1.0), ("discharge", 1.0)):
            put(row["flexible"], column[name], sign)
        row["supply"] = self.equal.add(np.zeros(shape))
        for name, sign in (("supply", 1.0), ("buy", -1.0), ("sell", 1.0), ("flexible", 1.0)):
            put(row["supply"], column[name], sign)
        sells = np.zeros(shape, dtype=np.bool_)
        for end, sign in self.trades.ends:
            np.logical_or.at(sells.T, end, (column["trade_down" if sign > 0 else "trade_up"] != ABSENT).T)
        row["sales"] = self.below.add(np.zeros(shape), present=sells)
        for end, sign in self.trades.ends:
            put(row["supply"][:, end], column["trade_up"], -sign)
            put(row["supply"][:, end], column["trade_down"], sign)
            self.below.put(row["sales"][:, end], column["trade_down" if sign > 0 else "trade_up"], 1.0)

    def scenarios(self) -> None:
        """Settlement and peak of every scenario, priced by its weights; what generation may be promised."""
        dt_h, column, row, prices = self.dt_h, self.columns, self.rows, self.prices
        charge = self.community.tariff.demand_charge_ct_per_kw
        add, peaks = self.variables.add, self.may_weigh.T & (charge > 0)
        column["rt_buy"], column["rt_sell"] = (add(self.weighed.shape, present=self.weighed) for _ in range(2))
        column["peak"] = add(peaks.shape, present=peaks)
        row["balance"] = self.equal.add(self.net_load_kw, present=self.weighed)
        for name, sign in (("rt_buy", 1.0), ("rt_sell", -1.0), ("supply", 1.0)):
            self.equal.put(row["balance"], column[name], sign)
        row["peak"] = self.below.add(-self.net_load_kw, present=np.broadcast_to(peaks[:, None], self.weighed.shape))
        self.below.put(row["peak"], column["flexible"], 1.0)
        self.below.put(row["peak"], column["peak"][:, None], -1.0)
        self.by_weight(self.price_entries, column["rt_buy"], dt_h * prices.rt_buy[:, :, None])
        self.by_weight(self.price_entries, column["rt_sell"], -dt_h * prices.rt_sell[:, :, None])
        self.by_weight(self.price_entries, column["peak"][:, None], np.full((1, 1, 1), charge))
        self.by_weight(self.promise_entries, np.broadcast_to(row["sales"], self.weighed.shape), self.days.pv_kw)

    def by_weight(self, entries: Entries, where: IntArray, values: FloatArray) -> None:
        """Entries [S,H,N] that count with the weight of scenario and prosumer."""
        num_scenarios, _, num_prosumers = self.weighed.shape
        number = np.arange(num_prosumers) * num_scenarios + np.arange(num_scenarios)[:, None, None]
        where, number, values, present = np.broadcast_arrays(
            where, number, values, self.weighed if where.shape[1] > 1 else self.may_weigh.T[:, None]
        )
        present = present & (where != ABSENT)
        entries.append((where[present], number[present], values[present]))

    def curved(self) -> IntArray:
        """The variables whose squares cost something."""
        columns = np.concatenate([self.columns[name].ravel() for name in ("charge", "discharge", "backlog")])
        return np.asarray(columns[columns != ABSENT])

    def box(self, lower: FloatArray, upper: FloatArray) -> Interval:
        """Bounds on all variables that some optimum keeps whatever the weights.

        Those of the program, what can be reached from the start, and for the recourse no more than is needed: no
        real-time purchase beyond the largest lack, no peak above the largest import.
        """
        low, high = lower.copy(), upper.copy()
        fleet, dt_h, column = self.fleet, self.dt_h, self.columns
        hours = np.arange(1, self.shape[0] + 1)[:, None]

        def narrow(name: str, least: FloatArray, most: FloatArray) -> None:
            where = column[name] != ABSENT
            at = column[name][where]
            low[at] = np.maximum(low[at], np.broadcast_to(least, where.shape)[where])
            high[at] = np.minimum(high[at], np.broadcast_to(most, where.shape)[where])

        def reach(name: str, sign: float) -> Interval:
            bounds = (np.append(values, 0.0)[column[name]] for values in (low, high))
            least, most = bounds if sign > 0 else (-values for values in reversed(list(bounds)))
            return Interval(least, most)

        start, power = self.start.soc_kwh, dt_h * hours * fleet.battery_power_kw
        soc = Interval(
            np.maximum(start - power / fleet.discharge_efficiency, fleet.soc_min_kwh),
            np.minimum(start + power * fleet.charge_efficiency, fleet.soc_max_kwh),
        )
        narrow("soc", *soc)
        narrow("short", np.zeros(1), np.maximum(fleet.soc_initial_kwh - soc.low[-1], 0.0))
        narrow("left", np.zeros(1), np.maximum(soc.high[-1] - fleet.soc_initial_kwh, 0.0))
        due = dt_h * np.cumsum(self.start.shiftable_ref_kw, axis=0)
        total, power = due[-1], dt_h * fleet.shiftable_power_kw
        done_least = np.maximum(total - power * (self.shape[0] - hours), 0.0)
        narrow("backlog", done_least - due, np.minimum(power * hours, total) - due)
        parts = [reach("shiftable", 1.0), reach("charge", 1.0), reach("discharge", -1.0)]
        flexible = Interval(*(np.sum([part[side] for part in parts], axis=0) for side in (0, 1)))
        narrow("flexible", *flexible)
        parts = [reach("buy", 1.0), reach("sell", -1.0), reach("flexible", -1.0)]
        supply = Interval(*(np.sum([part[side] for part in parts], axis=0) for side in (0, 1)))
        for end, sign in self.trades.ends:
            for name in ("trade_up", "trade_down"):
                part = reach(name, sign if name == "trade_up" else -sign)
                for side in (0, 1):
                    np.add.at(supply[side].T, end, part[side].T)
        narrow("supply", *supply)
        narrow("rt_buy", np.zeros(1), np.maximum(self.net_load_kw - supply.low, 0.0))
        narrow("rt_sell", np.zeros(1), np.maximum(supply.high - self.net_load_kw, 0.0))
        most = np.maximum((self.net_load_kw + flexible.high).max(axis=1), 0.0)
        narrow("peak", np.maximum((self.net_load_kw + flexible.low).max(axis=1), 0.0), most)
        return Interval(low, high)

    def multipliers(self, num_equal: int, num_below: int) -> tuple[Interval, FloatArray]:
        """Bounds on the multipliers of the equations, and on those of G from above.

        A kWh is worth no less than any scenario pays for it and no more than any charges, peak included; stored, no
        more than the dearest hour that it could spare charging in, and no less than what it costs to get rid of it;
        shifted, as much as in other hours, up to the discomfort in between.
        """
        fleet, dt_h, prices, row = self.fleet, self.dt_h, self.prices, self.rows
        charge = self.community.tariff.demand_charge_ct_per_kw
        low, high = np.zeros(num_equal), np.zeros(num_equal)
        below = np.zeros(num_below)

        def put(name: str, least: Any, most: Any) -> None:
            where = row[name] != ABSENT
            low[row[name][where]] = np.broadcast_to(least, where.shape)[where]
            high[row[name][where]] = np.broadcast_to(most, where.shape)[where]

        cheap = np.where(self.weighed, prices.rt_sell[:, :, None], np.inf).min(axis=0)  # [H,N]
        dear = np.where(self.weighed, prices.rt_buy[:, :, None], -np.inf).max(axis=0)
        put("balance", -dt_h * prices.rt_buy[:, :, None], 0.0)  # times a weight of 0 ... 1
        put("supply", dt_h * cheap, dt_h * dear)
        put("flexible", -dt_h * dear - charge, -dt_h * cheap)
        wear = fleet.battery_wear_linear_ct_per_kwh + (
            2.0 * fleet.battery_wear_quadratic_ct_per_kw2h * fleet.battery_power_kw
        )
        dearest = dear.max(axis=0) + charge / dt_h
        short, left = self.values
        put("soc", -wear * fleet.discharge_efficiency, np.maximum(short, (dearest + wear) / fleet.charge_efficiency))
        put("terminal", -short, -left)
        reach = np.maximum(fleet.backlog_max_kwh, -fleet.backlog_min_kwh)
        reach = np.minimum(reach, dt_h * self.start.shiftable_ref_kw.sum(axis=0))
        discomfort = 2.0 * dt_h * fleet.discomfort_quadratic_ct_per_kwh2h * reach * self.shape[0]
        put("backlog", cheap.min(axis=0) - discomfort, dearest + discomfort)
        for name, most in (("sales", dt_h * (dear.max() - cheap.min())), ("peak", charge)):
            below[row[name][row[name] != ABSENT]] = most
        return Interval(low, high), below


def _sparse(entries: Entries, shape: tuple[int, int]) -> Any:
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    return sp.csc_matrix((value, (row, column)), shape=shape)


def _check(community: Community, start: DayStart, days: Exogenous, regulariser: float) -> None:
    fleet, where = community.fleet, "exact choice of tau and k"
    if community.market.offers != "edges":
        raise UsageError(f"{where}: written for bilateral trade, not for the mechanism {community.mechanism!r}")
    if start.position_kw is not None or start.start_hour != 0:
        raise UsageError(f"{where}: plans a day from its gate on, without a position")
    if regulariser <= 0:
        raise UsageError(f"{where}: the regulariser is {regulariser}, must be positive: else plans are not unique")
    curved = (fleet.battery_wear_quadratic_ct_per_kw2h > 0) | (fleet.battery_power_kw == 0)
    curved &= (fleet.discomfort_quadratic_ct_per_kwh2h > 0) | (fleet.shiftable_power_kw == 0)
    if not curved.all():
        raise UsageError(f"{where}: wear and discomfort must have a quadratic part: else plans are not unique")
    if np.any(fleet.discomfort_linear_ct_per_kwhh > 0):
        raise UsageError(f"{where}: written for a discomfort without a linear part")
    prices = community.tariff.settlement_prices(start.price_da_ct_per_kwh, days.price_rt_ct_per_kwh)
    if prices.rt_sell.min() < 0:
        raise UsageError(f"{where}: a real-time sale costs {-prices.rt_sell.min():g} ct/kWh; prices must be higher")
