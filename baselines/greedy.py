"""`greedy`: the cheapest hour, every hour, without looking ahead (arXiv 2505.21884's comparator of online policies).

The hour is a small convex quadratic program over the community. Variables, N each but for the trades (X each):
battery charge c and discharge d, shiftable load p, curtailment k, what is left to buy q+ and to sell q-, new connection
peak t above the old, discomfort bound a >= |backlog|, energy m missing from the battery at the end of an episode, and
the trades in their direction + (u: the first end of an edge buys, or a prosumer in a pool) and - (v).

Axis letters: N prosumers, X trades of an hour (`trades`).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.rules import Move, RulePolicy, Slot, battery_limits_kw
from prosumer_gym.baselines.solve import solve_qp
from prosumer_gym.baselines.trades import trade_form
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset

_PARTS = ("c", "d", "p", "k", "q+", "q-", "t", "a", "m", "u", "v")
_TIE_BREAK = 1e-3
"""Of a trade's square, ct/kW2: makes the trades unique."""
_TOLERANCE = 1e-6
"""Of the solver: an hour's cost is settled to a thousandth of a ct."""
_NOTHING_KW = 1e-6
"""A range narrower than this is a fixed number: an interior-point method needs an interior."""


class Greedy(RulePolicy):
    """Each hour the community does what costs it least in that hour, within hard limits that keep it free of debt.

    What would only put a cost off is no saving, so the battery stays above the state of charge that the episode is
    settled against, and the shiftable load does not fall behind its reference. Without these two limits a rule that
    never looks ahead empties every battery in the first hours and runs every shiftable load in the last ones, and pays
    more for both than it spends on everything else. What is left to do at ordinary prices is to trade: an hour by
    itself gives no reason to charge a battery or to run a load early. Only negative prices move them.
    """

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn the forecast that the position is made from, and set up the hour's program."""
        super().fit(community, history)
        self.hour = HourProgram(community)

    def rule(self, slot: Slot) -> Move:
        """The optimum of the hour."""
        fleet, dt_h = self.community.fleet, self.community.dt_h
        on_time_kw = slot.shiftable_ref_kw - slot.backlog_kwh / dt_h
        return self.hour.solve(
            replace(
                slot,
                least_shiftable_kw=np.clip(on_time_kw, slot.least_shiftable_kw, slot.most_shiftable_kw),
                least_soc_kwh=np.minimum(slot.soc_kwh, np.maximum(slot.least_soc_kwh, fleet.soc_initial_kwh)),
            )
        )


class HourProgram:
    """The cost of one hour, as a quadratic program whose matrices are set up once."""

    def __init__(self, community: Community) -> None:
        self.community = community
        num, self.trades = community.num_prosumers, trade_form(community)
        num_trades = len(self.trades.limit_kw)
        sizes = [num] * 9 + [num_trades] * 2
        ends = list(accumulate(sizes))
        self.at = {part: slice(end - size, end) for part, size, end in zip(_PARTS, sizes, ends, strict=True)}
        self.size = ends[-1]
        fleet, dt_h = community.fleet, community.dt_h
        one = np.eye(num)
        bought = np.zeros((num, num_trades))  # of u; v is the other way round
        for end, sign in self.trades.ends:
            bought += sign * one[:, end]
        self.P = np.zeros((self.size, self.size))
        for part, weight in (
            ("c", dt_h * fleet.battery_wear_quadratic_ct_per_kw2h),
            ("d", dt_h * fleet.battery_wear_quadratic_ct_per_kw2h),
            ("p", dt_h**3 * fleet.discomfort_quadratic_ct_per_kwh2h),
            ("u", np.full(num_trades, _TIE_BREAK)),
            ("v", np.full(num_trades, _TIE_BREAK)),
        ):
            self.P[self.at[part], self.at[part]] = np.diag(2.0 * weight)
        # q+ - q- + P2P - k - p - c + d = load - PV - position
        self.A = self._rows(
            {"q+": one, "q-": -one, "u": bought, "v": -bought, "k": -one, "p": -one, "c": -one, "d": one}
        )
        if self.trades.is_pool:  # what some buy others sell
            everybody = np.ones((1, num))
            self.A = np.concatenate([self.A, self._rows({"u": everybody, "v": -everybody})])
        discharged = one * (dt_h / fleet.discharge_efficiency)
        self.G = np.concatenate(
            [
                self._rows({"k": one, "p": one, "c": one, "d": -one, "t": -one}),  # import is within the peak
                # only local generation is sold
                self._rows({"k": one, "u": np.maximum(-bought, 0.0), "v": np.maximum(bought, 0.0)}),
                self._rows({"p": dt_h * one, "a": -one}),  # discomfort of either sign
                self._rows({"p": -dt_h * one, "a": -one}),
                self._rows({"c": -dt_h * one * fleet.charge_efficiency, "d": discharged, "m": -one}),
            ]
        )

    def _rows(self, blocks: dict[str, FloatArray]) -> FloatArray:
        """Rows of a constraint, from its blocks by part [.,size]."""
        rows = np.zeros((len(next(iter(blocks.values()))), self.size))
        for part, block in blocks.items():
            rows[:, self.at[part]] = block
        return rows

    def solve(self, slot: Slot) -> Move:
        """The cheapest feasible hour. Raises `SolverError` when no solver finds it."""
        cost, lower, upper = self._costs(slot), np.concatenate(self._lower(slot)), np.concatenate(self._upper(slot))
        idle = np.zeros(self.size, dtype=np.bool_)
        idle[self.at["a"]] = idle[self.at["m"]] = True
        lower = np.where(idle & (cost == 0.0), upper, lower)  # what costs nothing has no optimum: out of the way
        upper = np.where(upper - lower < _NOTHING_KW, lower, upper)
        balance = np.append(slot.load_kw - slot.pv_kw - slot.position_kw, np.zeros(int(self.trades.is_pool)))
        x = solve_qp(
            self.P, cost, self.A, balance, self.G, self._right_sides(slot), lower, upper, tolerance=_TOLERANCE
        ).x
        at = self.at
        return Move(
            battery_kw=x[at["c"]] - x[at["d"]],  # never both: what the limits leave for one is all there is to gain
            shiftable_kw=x[at["p"]],
            curtail_kw=x[at["k"]],
            trade_kw=x[at["u"]] - x[at["v"]],
        )

    def _costs(self, slot: Slot) -> FloatArray:
        fleet, trades, dt_h = self.community.fleet, self.trades, self.community.dt_h
        cost = np.zeros(self.size)
        cost[self.at["c"]] = cost[self.at["d"]] = dt_h * fleet.battery_wear_linear_ct_per_kwh
        backlog_kwh = slot.backlog_kwh - dt_h * slot.shiftable_ref_kw  # if nothing runs
        cost[self.at["p"]] = 2.0 * dt_h**2 * fleet.discomfort_quadratic_ct_per_kwh2h * backlog_kwh
        cost[self.at["a"]] = dt_h * fleet.discomfort_linear_ct_per_kwhh
        cost[self.at["q+"]] = dt_h * slot.buy_ct_per_kwh
        cost[self.at["q-"]] = -dt_h * slot.sell_ct_per_kwh
        cost[self.at["t"]] = self.community.tariff.demand_charge_ct_per_kw
        fee = dt_h * len(trades.ends) * trades.half_fee_ct_per_kwh  # what is paid for the energy cancels
        cost[self.at["u"]] = cost[self.at["v"]] = fee
        if slot.terminal_ct_per_kwh is not None:
            missing, surplus = slot.terminal_ct_per_kwh
            cost[self.at["c"]] -= dt_h * fleet.charge_efficiency * surplus
            cost[self.at["d"]] += dt_h / fleet.discharge_efficiency * surplus
            cost[self.at["m"]] = np.maximum(missing - surplus, 0.0)
        return cost

    def _right_sides(self, slot: Slot) -> FloatArray:
        fleet, dt_h = self.community.fleet, self.community.dt_h
        backlog_kwh = slot.backlog_kwh - dt_h * slot.shiftable_ref_kw
        return np.concatenate(
            [
                slot.connection_peak_kw - slot.load_kw + slot.pv_kw,
                slot.pv_kw,
                -backlog_kwh,
                backlog_kwh,
                slot.soc_kwh - fleet.soc_initial_kwh,
            ]
        )

    def _lower(self, slot: Slot) -> list[FloatArray]:
        nothing, no_trade = np.zeros(self.community.num_prosumers), np.zeros(len(self.trades.limit_kw))
        return [nothing, nothing, slot.least_shiftable_kw, *[nothing] * 6, no_trade, no_trade]

    def _upper(self, slot: Slot) -> list[FloatArray]:
        fleet, trades = self.community.fleet, self.trades
        discharge_kw, charge_kw = battery_limits_kw(fleet, slot.soc_kwh, slot.least_soc_kwh, self.community.dt_h)
        # No bound on these binds; they keep the program bounded where a price or a charge is zero.
        most_kw = (
            slot.load_kw + slot.pv_kw + np.abs(slot.position_kw) + fleet.shiftable_power_kw
            + fleet.battery_power_kw + self.community.pool_limit_kw + 1.0
        )  # fmt: skip
        most_kwh = fleet.soc_max_kwh + fleet.backlog_max_kwh - fleet.backlog_min_kwh
        return [
            charge_kw, discharge_kw,
            np.maximum(slot.most_shiftable_kw, slot.least_shiftable_kw), slot.pv_kw, most_kw, most_kw, most_kw,
            most_kwh, most_kwh, trades.limit_kw, trades.limit_kw,
        ]  # fmt: skip
