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
  With a priced network, importing more may also bring down a voltage that is too high: in hours with a row for an upper
  limit all curtailment is written out.
- Sales to neighbours are left out where nothing is generated, and their common limit where it cannot bind.
- Of the voltage limits only those that some plan could exceed have a row (`NetworkPenalty.can_be_exceeded`): on the
  33-bus feeder a tenth of them.
- The payments between prosumers sum to zero and are left out, so that one form serves every market mechanism but for
  who may trade with whom (`trades`): edges with limits, or a pool whose purchases equal its sales in each hour.

Measured for N=10, H=24, S=50 (PIQP alone, one core, the same instance): two variables per scenario 0.59 s; excess
over x per scenario 0.56 s; pieces with charge, discharge and shiftable in each peak row 0.49 s; pieces and z 0.07 s.
Building and setting up takes a seventh of that, so that nothing is kept between solves: no memory, and no result that
depends on what was solved before.

Axis letters: N prosumers, E undirected trade edges, X trades of an hour (`trades`), S scenarios, K buses, h remaining
hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.assembly import ABSENT, Rows, Variables
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import DayStart, Scenarios
from prosumer_gym.baselines.trades import TradeForm, trade_form
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError

NO_KW = 1e-9
"""Powers below this are zero: corners of the recourse cost closer than this are one, less PV is none."""

EXCESS_PER_PU = 1e3
"""Excess voltages are counted in thousandths of a p.u.: numbers of the size of kW."""

_ROUNDING_KWH = 1e-6
"""How far a backlog may lie outside what can be made up before it is an error."""


class CoreColumns(NamedTuple):
    """Where each variable stands in x; -1 (`assembly.ABSENT`) where it is left out, which means zero."""

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
    trade_up: IntArray
    """Trade in its direction +: what the first end of an edge buys of the second, or a prosumer of the pool [h,X]."""
    trade_down: IntArray
    """Trade in its direction -: what the second end buys of the first, or the pool of a prosumer [h,X]."""
    soc: IntArray
    """State of charge at the end of each hour [h,N]."""
    curtail_later: IntArray
    """Expected curtailment of hours not yet observed, where voltages are priced [h,N]."""
    excess: IntArray
    """Excess voltage in units of 1 / `EXCESS_PER_PU` p.u., where it is priced [h,K]."""


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
    start_rows: IntArray
    """Rows of Ax = b on whose right-hand side the state of charge at the start stands [N]."""


def build_core(
    community: Community,
    start: DayStart,
    scenarios: Scenarios,
    *,
    regulariser: float,
    foresight: bool = False,
    terminal: bool = True,
    trades: TradeForm | None = None,
    network: NetworkPenalty | None = None,
) -> CoreMatrices:
    """Matrices of the core problem.

    Args:
        community: who plans.
        start: where the day stands. Without a position: day-ahead stage, the position is decided and nothing is
            curtailed. With one: real time, the first hour is observed and later PV may be curtailed once known.
        scenarios: the remaining hours.
        regulariser: weight r of r/2 |position, purchases, sales|^2 in ct/kW^2, which makes the plan unique.
        foresight: every hour is known (one scenario) and the position is still free: the oracle's problem.
        terminal: what is stored at the end of the day has a value; not where another day follows in the same program.
        trades: who may trade, if not all that the mechanism allows.
        network: prices the expected voltages beyond their limits, if given.

    Raises `UsageError` when the shapes do not fit the community, the observed hour differs between scenarios, a
    shiftable load can no longer be delivered, or the value of energy left over exceeds that of energy missing.
    """
    check_core(community, start, scenarios, foresight=foresight, terminal=terminal)
    build = CoreBuild(community, start, scenarios, foresight, trades or trade_form(community))
    if network is not None and network.price_ct_per_pu_h > 0:
        build.guard(network)
    return build.core(regulariser, terminal=terminal)


class CoreBuild:
    """The program while it is written: its data in the axis order [h,N,S], and what has been added so far.

    Every method adds one part. `core` calls them in their order; other programs of the same first stage, as that of
    `dro_program`, put parts of their own in the place of some.
    """

    def __init__(
        self, community: Community, start: DayStart, scenarios: Scenarios, foresight: bool, trades: TradeForm
    ) -> None:
        self.community, self.start, self.trades = community, start, trades
        self.num_scenarios, self.hours, self.num_prosumers = scenarios.load_kw.shape
        prices = community.tariff.settlement_prices(
            start.price_da_ct_per_kwh[start.start_hour :], scenarios.price_rt_ct_per_kwh
        )
        self.prices = prices
        self.rt_buy, self.rt_sell = prices.rt_buy.T[:, None, :], prices.rt_sell.T[:, None, :]  # [h,1,S]
        self.pv_kw = scenarios.pv_kw.transpose(1, 2, 0)
        self.net_load_kw = scenarios.load_kw.transpose(1, 2, 0) - self.pv_kw
        self.weights = scenarios.weights_by_prosumer  # [N,S]
        self.mean_load_kw, self.mean_pv_kw = scenarios.mean_load_kw, scenarios.mean_pv_kw  # [h,N]
        free = start.position_kw is None
        hour = np.arange(self.hours)[:, None]
        self.is_last = hour == self.hours - 1
        observed = hour < (self.hours if foresight else 0 if free else 1)  # [h,1]
        self.observed, self.is_recourse = observed, (not free) & ~observed  # how PV may be curtailed [h,1]
        self.network: NetworkPenalty | None = None
        self.guarded = np.zeros((0, self.hours, community.feeder.num_buses), dtype=np.bool_)
        self.too_high = np.zeros((self.hours, 1), dtype=np.bool_)  # whether voltages may be [h,1]
        self.find_curtailment()
        # Shiftable power that is no decision any more: nothing is left to deliver, nothing but full power delivers it,
        # or the day's last hour takes what is left [N]. (An interior-point method stalls where there is no interior.)
        low, high = _backlog_range(community, start)
        power = community.fleet.shiftable_power_kw
        idle, full = start.backlog_kwh > high - _ROUNDING_KWH, start.backlog_kwh < low + _ROUNDING_KWH
        self.forced = idle | full | (self.hours == 1)
        remaining_kw = np.clip((high - start.backlog_kwh) / (community.dt_h * self.hours), 0.0, power)
        self.forced_kw = np.where(idle, 0.0, np.where(full, power, remaining_kw))
        self.variables, self.equal, self.below = Variables(), Rows(), Rows()
        self.start_rows = np.zeros(0, dtype=np.int64)
        self.constant_ct = 0.0

    def core(self, regulariser: float, *, terminal: bool = True) -> CoreMatrices:
        """The whole program; arguments as those of `build_core`."""
        columns = self.first_stage(regulariser)
        columns = self.battery(columns, terminal=terminal)
        self.shiftable(columns)
        supply = self.supply(columns)
        self.pool_balance(columns)
        self.sales_limit(columns)
        thrown = self.recourse_with_curtailment(supply)
        self.recourse_in_pieces(supply)
        self.demand_charge(columns, thrown)
        return self.finish(self.voltages(columns, thrown))

    def guard(self, network: NetworkPenalty) -> None:
        """Price the voltages beyond all limits that can be exceeded."""
        self.network = network
        self.guarded = network.can_be_exceeded(self.community.fleet, self.mean_load_kw, self.mean_pv_kw)
        upper = np.array([side.is_upper for side in network.sides])
        self.too_high = self.guarded[upper].any(axis=(0, 2))[:, None]
        self.find_curtailment()

    def find_curtailment(self) -> None:
        """Where curtailment may pay, as a decision [h,N] and as recourse [h,N,S]."""
        self.can_curtail = self.observed & ((self.rt_sell[:, :, 0] < 0) | self.too_high) & (self.mean_pv_kw > NO_KW)
        self.may_throw = (
            self.is_recourse[:, :, None] & ((self.rt_sell < 0) | self.too_high[:, :, None])
            & (self.pv_kw > NO_KW) & (self.weights > 0)
        )  # fmt: skip

    def at_start(self, values: FloatArray) -> FloatArray:
        """`values` [N] in the first hour, zero later [h,N]."""
        result = np.zeros((self.hours, self.num_prosumers))
        result[0] = values
        return result

    def first_stage(self, regulariser: float) -> CoreColumns:
        """What is decided before the scenarios part."""
        fleet, trades, dt_h = self.community.fleet, self.trades, self.community.dt_h
        add, prices, shape = self.variables.add, self.prices, (self.hours, self.num_prosumers)
        position: dict[str, Any] = {
            "upper": fleet.position_limit_kw, "quadratic": regulariser,
            "present": (self.start.position_kw is None) & (fleet.position_limit_kw > 0),
        }  # fmt: skip
        battery: dict[str, Any] = {
            "upper": fleet.battery_power_kw, "present": fleet.battery_power_kw > 0,
            "linear": dt_h * fleet.battery_wear_linear_ct_per_kwh,
            "quadratic": 2.0 * dt_h * fleet.battery_wear_quadratic_ct_per_kw2h,
        }  # fmt: skip
        # An edge's trade is a purchase at one end and a sale at the other: both pay, both are regularised.
        num_ends = len(trades.ends)
        trade: dict[str, Any] = {
            "upper": trades.limit_kw, "linear": dt_h * num_ends * trades.half_fee_ct_per_kwh,
            "quadratic": num_ends * regulariser,
        }  # fmt: skip
        up, down = self.may_trade()
        return CoreColumns(
            buy=add(shape, linear=dt_h * prices.da_buy[:, None], **position),
            sell=add(shape, linear=-dt_h * prices.da_sell[:, None], **position),
            charge=add(shape, **battery),
            discharge=add(shape, **battery),
            shiftable=add(
                shape,
                lower=np.where(self.forced, self.forced_kw, 0.0),
                upper=np.where(self.forced, self.forced_kw, fleet.shiftable_power_kw),
                present=fleet.shiftable_power_kw > 0,
            ),
            flexible=add(shape, lower=-np.inf),
            curtail=add(shape, upper=self.mean_pv_kw, present=self.can_curtail),
            trade_up=add(up.shape, present=up, **trade),
            trade_down=add(down.shape, present=down, **trade),
            soc=np.full(shape, ABSENT, dtype=np.int64),
            curtail_later=np.full(shape, ABSENT, dtype=np.int64),
            excess=np.full(self.guarded.shape[1:], ABSENT, dtype=np.int64),
        )

    def may_trade(self) -> tuple[BoolArray, BoolArray]:
        """Where a trade can be in its direction + and in its direction -: who sells generates, and another buys [h,X].

        (An interior-point method stalls on a purchase that must be zero because nobody sells.)
        """
        generates, is_open = self.mean_pv_kw > NO_KW, self.trades.limit_kw > 0
        if self.trades.is_pool:
            sells = generates & is_open & (np.count_nonzero(is_open) > 1)
            others_sell = np.count_nonzero(sells, axis=1)[:, None] > sells
            return is_open & others_sell, sells
        first, *second = (generates[:, end] for end, _ in self.trades.ends)
        # Of one prosumer's own side of its edges the other end is not known: it may sell at any time.
        return (second[0] if second else np.True_) & np.broadcast_to(is_open, first.shape), first & is_open

    def battery(self, columns: CoreColumns, *, terminal: bool = True) -> CoreColumns:
        """State of charge at the end of each hour and, if it has one, its value at the end of the day."""
        fleet, dt_h = self.community.fleet, self.community.dt_h
        soc = self.variables.add(
            (self.hours, self.num_prosumers), lower=fleet.soc_min_kwh, upper=fleet.soc_max_kwh
        )  # fmt: skip
        rows = self.equal.add(self.at_start(self.start.soc_kwh))
        self.equal.put(rows, soc, 1.0)
        self.equal.put(rows[1:], soc[:-1], -1.0)
        self.equal.put(rows, columns.charge, -dt_h * fleet.charge_efficiency)
        self.equal.put(rows, columns.discharge, dt_h / fleet.discharge_efficiency)
        self.start_rows = rows[0]
        if terminal:
            short_value, left_value = self.community.tariff.terminal_values(
                self.start.price_da_ct_per_kwh, fleet.charge_efficiency, fleet.discharge_efficiency
            )
            rows = self.equal.add(fleet.soc_initial_kwh)
            self.equal.put(rows, soc[-1], 1.0)
            self.equal.put(rows, self.variables.add((self.num_prosumers,), linear=short_value), 1.0)
            self.equal.put(rows, self.variables.add((self.num_prosumers,), linear=-left_value), -1.0)
        return columns._replace(soc=soc)

    def shiftable(self, columns: CoreColumns) -> None:
        """Backlog at the end of each hour, none at midnight; z = shiftable + charge - discharge."""
        fleet, dt_h = self.community.fleet, self.community.dt_h
        shape = (self.hours, self.num_prosumers)
        backlog = self.variables.add(
            shape, lower=fleet.backlog_min_kwh, upper=fleet.backlog_max_kwh,
            quadratic=2.0 * dt_h * fleet.discomfort_quadratic_ct_per_kwh2h, present=~self.is_last,
        )  # fmt: skip
        reference = self.start.shiftable_ref_kw[self.start.start_hour :]
        # Forced power ends at midnight without a backlog by itself, up to rounding.
        rows = self.equal.add(
            self.at_start(self.start.backlog_kwh) - dt_h * reference, present=~(self.is_last & self.forced)
        )
        self.equal.put(rows, backlog, 1.0)
        self.equal.put(rows[1:], backlog[:-1], -1.0)
        self.equal.put(rows, columns.shiftable, -dt_h)
        linear = fleet.discomfort_linear_ct_per_kwhh
        matters = ~self.is_last & (linear > 0)
        magnitude = self.variables.add(shape, linear=dt_h * linear, present=matters)
        for sign in (1.0, -1.0):
            rows = self.below.add(np.zeros(shape), present=matters)
            self.below.put(rows, backlog, sign)
            self.below.put(rows, magnitude, -1.0)
        rows = self.equal.add(np.zeros(shape))
        self.equal.put(rows, columns.flexible, 1.0)
        self.equal.put(rows, columns.shiftable, -1.0)
        self.equal.put(rows, columns.charge, -1.0)
        self.equal.put(rows, columns.discharge, 1.0)

    def supply(self, columns: CoreColumns) -> IntArray:
        """X = position + bought - sold - z - curtailed: what meets load - PV before real time does [h,N]."""
        dt_h = self.community.dt_h
        committed = np.zeros((self.hours, self.num_prosumers))
        if self.start.position_kw is not None:
            committed[:] = self.start.position_kw[:, self.start.start_hour :].T
            da_buy, da_sell = self.prices.da_buy[:, None], self.prices.da_sell[:, None]
            self.constant_ct += dt_h * float(
                np.sum(da_buy * np.maximum(committed, 0.0) + da_sell * np.minimum(committed, 0.0))
            )
        supply = self.variables.add((self.hours, self.num_prosumers), lower=-np.inf)
        rows = self.equal.add(committed)
        self.equal.put(rows, supply, 1.0)
        self.equal.put(rows, columns.buy, -1.0)
        self.equal.put(rows, columns.sell, 1.0)
        self.equal.put(rows, columns.flexible, 1.0)
        self.equal.put(rows, columns.curtail, 1.0)
        for end, sign in self.trades.ends:
            self.equal.put(rows[:, end], columns.trade_up, -sign)
            self.equal.put(rows[:, end], columns.trade_down, sign)
        return supply

    def pool_balance(self, columns: CoreColumns) -> None:
        """What some buy of the pool others sell to it, in every hour in which anybody can."""
        if not self.trades.is_pool:
            return
        rows = self.equal.add(np.zeros(self.hours), present=np.any(columns.trade_down != ABSENT, axis=1))
        self.equal.put(rows[:, None], columns.trade_up, 1.0)
        self.equal.put(rows[:, None], columns.trade_down, -1.0)

    def sales_limit(self, columns: CoreColumns) -> None:
        """Only local generation is sold to others: no more than is expected, or observed and not curtailed."""
        trades = self.trades
        limit_kw = sum(np.bincount(end, trades.limit_kw, self.num_prosumers) for end, _ in trades.ends)
        binds = (self.mean_pv_kw > NO_KW) & ((self.mean_pv_kw < limit_kw) | self.can_curtail)
        rows = self.below.add(self.mean_pv_kw, present=binds)
        for end, sign in trades.ends:
            self.below.put(rows[:, end], columns.trade_down if sign > 0 else columns.trade_up, 1.0)
        self.below.put(rows, columns.curtail, 1.0)

    def recourse_with_curtailment(self, supply: IntArray) -> IntArray:
        """Hours and scenarios where PV may be thrown away: each its own payment, c- (r + k - x) + (c+ - c-) excess.

        Returns the columns of k [h,N,S].
        """
        shape, add = self.may_throw.shape, self.variables.add
        sell = self.community.dt_h * self.weights * self.rt_sell  # [h,N,S]
        spread = self.community.dt_h * self.weights * (self.rt_buy - self.rt_sell)
        thrown = add(shape, upper=self.pv_kw, linear=sell, present=self.may_throw)
        excess = add(shape, linear=spread, present=self.may_throw)
        rows = self.below.add(-self.net_load_kw, present=self.may_throw)
        self.below.put(rows, supply[:, :, None], -1.0)
        self.below.put(rows, thrown, 1.0)
        self.below.put(rows, excess, -1.0)
        self.constant_ct += float(np.sum(np.where(self.may_throw, sell * self.net_load_kw, 0.0)))
        return thrown

    def recourse_in_pieces(self, supply: IntArray) -> None:
        """Expected payment of all other hours and scenarios as a function of the supply, in pieces."""
        num_pieces = self.num_scenarios + 1
        stake = np.where(self.may_throw, 0.0, self.community.dt_h * self.weights)  # [h,N,S]
        # Scenarios without a stake have no corner of their own: they share that of the heaviest.
        heaviest = np.argmax(stake, axis=2)[:, :, None]
        corner = np.where(stake > 0, self.net_load_kw, np.take_along_axis(self.net_load_kw, heaviest, axis=2))
        order = np.argsort(corner, axis=2, kind="stable")
        corner = np.take_along_axis(corner, order, axis=2)
        slope = np.empty((*supply.shape, num_pieces))
        slope[:, :, 0] = -np.sum(stake * self.rt_buy, axis=2)
        rise = np.take_along_axis(stake * (self.rt_buy - self.rt_sell), order, axis=2)
        slope[:, :, 1:] = slope[:, :, :1] + np.cumsum(rise, axis=2)
        # The payments written out elsewhere hold a term -c- x: it tilts every piece.
        tilt = -np.sum(np.where(self.may_throw, self.community.dt_h * self.weights * self.rt_sell, 0.0), axis=2)
        slope += tilt[:, :, None]
        width = np.full(slope.shape, np.inf)
        width[:, :, 1:-1] = np.diff(corner, axis=2)
        sign = np.ones(num_pieces)
        sign[0] = -1.0  # the first piece runs downwards from the first corner, all others upwards
        piece = self.variables.add(slope.shape, upper=width, linear=sign * slope, present=width > NO_KW)
        rows = self.equal.add(corner[:, :, 0])
        self.equal.put(rows, supply, 1.0)
        self.equal.put(rows[:, :, None], piece, -sign)
        at_corner = stake * self.rt_buy * (self.net_load_kw - corner[:, :, :1])
        self.constant_ct += float(np.sum(at_corner) + np.sum(tilt * corner[:, :, 0]))

    def demand_charge(self, columns: CoreColumns, thrown: IntArray) -> None:
        """Peak of each connection in each scenario, r + z + curtailed at most, never below the day's peak so far."""
        charge, peak_so_far_kw = self.community.tariff.demand_charge_ct_per_kw, self.start.connection_peak_kw
        counts = (self.weights > 0) & (charge > 0)
        peak = self.variables.add(
            counts.shape, lower=peak_so_far_kw[:, None], linear=charge * self.weights, present=counts
        )
        rows = self.below.add(-self.net_load_kw, present=np.broadcast_to(counts, self.net_load_kw.shape))
        self.below.put(rows, columns.flexible[:, :, None], 1.0)
        self.below.put(rows, columns.curtail[:, :, None], 1.0)
        self.below.put(rows, thrown, 1.0)
        self.below.put(rows, peak, -1.0)
        self.constant_ct -= charge * float(peak_so_far_kw.sum())

    def voltages(self, columns: CoreColumns, thrown: IntArray) -> CoreColumns:
        """Expected excess of each bus over its guarded limits, at its price; the columns with those of this block."""
        if self.network is None:
            return columns
        later = self.variables.add(
            columns.flexible.shape, lower=-np.inf, present=np.asarray(self.may_throw.any(axis=2))
        )  # fmt: skip
        rows = self.equal.add(np.zeros(later.shape), present=later != ABSENT)
        self.equal.put(rows, later, 1.0)
        self.equal.put(rows[:, :, None], thrown, -self.weights)
        excess = self.variables.add(
            self.guarded.shape[1:],
            linear=self.community.dt_h * self.network.price_ct_per_pu_h / EXCESS_PER_PU,
            present=np.asarray(self.guarded.any(axis=0)),
        )
        for side, guarded in zip(self.network.sides, self.guarded, strict=True):
            beyond_pu = side.beyond_pu(self.mean_load_kw - self.mean_pv_kw, self.mean_load_kw)
            rows = self.below.add(-EXCESS_PER_PU * beyond_pu, present=guarded)
            self.below.put(rows, excess, -1.0)
            for column in (columns.flexible, columns.curtail, later):
                self.below.put(rows[:, :, None], column[:, None, :], EXCESS_PER_PU * side.per_import)
            self.below.put(rows[:, :, None], columns.shiftable[:, None, :], EXCESS_PER_PU * side.per_consumption)
        return columns._replace(curtail_later=later, excess=excess)

    def finish(self, columns: CoreColumns) -> CoreMatrices:
        """All that was added, as matrices."""
        vector = self.variables.vector
        A, b = self.equal.finish(self.variables.size)
        G, h = self.below.finish(self.variables.size)
        return CoreMatrices(
            sp.diags(vector("quadratic"), format="csc"), vector("linear"), A, b, G, h, vector("lower"),
            vector("upper"), self.constant_ct, columns, self.start_rows,
        )  # fmt: skip


def _backlog_range(community: Community, start: DayStart) -> tuple[FloatArray, FloatArray]:
    """The backlogs from which the day's energy can still be delivered: at full power, and with no more at all [N]."""
    left = start.shiftable_ref_kw[start.start_hour :]
    due_kwh = community.dt_h * left.sum(axis=0)
    return due_kwh - community.dt_h * len(left) * community.fleet.shiftable_power_kw, due_kwh


def check_core(
    community: Community, start: DayStart, scenarios: Scenarios, *, foresight: bool = False, terminal: bool = True
) -> None:
    """Raise what `build_core` says it raises."""
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
    low, high = _backlog_range(community, start)
    stuck = (start.backlog_kwh < low - _ROUNDING_KWH) | (start.backlog_kwh > high + _ROUNDING_KWH)
    if stuck.any():
        n = int(np.argmax(stuck))
        raise UsageError(
            f"day start.backlog_kwh: prosumer {n}: from {start.backlog_kwh[n]:g} kWh the shiftable load of the day "
            f"cannot be delivered any more, must lie in {low[n]:g} ... {high[n]:g}"
        )
    short, left = tariff.terminal_values(
        start.price_da_ct_per_kwh, community.fleet.charge_efficiency, community.fleet.discharge_efficiency
    )
    if terminal and np.any(short < left):
        raise UsageError(
            "tariff.terminal_shortfall_factor: energy missing at the end of the day costs less than energy left over "
            "earns, so that the core problem is not convex; raise the factor"
        )
