"""One hour of a community as a small convex quadratic program, for the policies that decide hour by hour.

Variables, N each but for the trades (X each) and the buses (K): battery charge c and discharge d, shiftable load p,
curtailment k, what is left to buy q+ and to sell q-, new connection peak t above the old, discomfort bound
a >= |backlog|, energy m missing from the battery at the end of an episode, the trades in their direction + (u: the
first end of an edge buys, or a prosumer in a pool) and - (v), and, with the feeder, the excess e of each bus.

At a negative price charging and discharging at once burns energy, which the program may do and nobody else: a `Move`
has the one of equal effect on the state of charge.

Axis letters: N prosumers, X trades of an hour (`trades`), K buses.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import accumulate

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.hour_voltage import HourVoltage
from prosumer_gym.baselines.rules import Move, Slot, battery_limits_kw
from prosumer_gym.baselines.solve import QuadraticProgram
from prosumer_gym.baselines.trades import TradeForm, trade_form
from prosumer_gym.community import Community, Fleet
from prosumer_gym.errors import UsageError

_TIE_BREAK = 5e-4
"""Of a trade's square, ct/kW2 at each end: makes the trades unique."""
_TOLERANCE = 1e-6
"""Of the solver: an hour's cost is settled to a thousandth of a ct."""
_PER_PU = 1e3
"""The program counts voltages in 1e-3 p.u., so that its numbers are alike in size."""
_NOTHING_KW = 1e-6
"""A range narrower than this is a fixed number: an interior-point method needs an interior."""


@dataclass(frozen=True, eq=False)
class Worth:
    """What a rule holds energy to be worth after the hour, ct/kWh."""

    stored_ct_per_kwh: FloatArray
    """In the battery [N]; in the last hour of an episode the settlement's own worth stands in its place."""
    ahead_ct_per_kwh: FloatArray
    """Delivered to the shiftable load ahead of its reference [N]."""

    @classmethod
    def nothing(cls, num: int) -> Worth:
        """To a rule that never looks ahead."""
        return cls(np.zeros(num), np.zeros(num))


class HourProgram:
    """The cost of one hour, as a quadratic program whose matrices are set up once.

    Each hour is solved from scratch, so that no hour's answer depends on those asked before.

    Args:
        community: whose hour it is.
        voltage: prices what takes the feeder out of its limits; `None` leaves the feeder out.
        trades: what can be traded; that of the community's market by default.
        tolerance: of the solver.
    """

    def __init__(
        self,
        community: Community,
        *,
        voltage: HourVoltage | None = None,
        trades: TradeForm | None = None,
        tolerance: float = _TOLERANCE,
    ) -> None:
        self.community, self.voltage, self.tolerance = community, voltage, tolerance
        self.trades = trade_form(community) if trades is None else trades
        num, num_trades = community.num_prosumers, len(self.trades.limit_kw)
        sizes = dict.fromkeys(("c", "d", "p", "k", "q+", "q-", "t", "a", "m"), num)
        sizes |= {"u": num_trades, "v": num_trades, "e": 0 if voltage is None else voltage.num_buses}
        ends = accumulate(sizes.values())
        self.at = {part: slice(end - size, end) for (part, size), end in zip(sizes.items(), ends, strict=True)}
        self.size = sum(sizes.values())
        self._bought = np.zeros((num, num_trades))
        """What each prosumer buys by the trades u; v is the other way round [N,X]."""
        for end, sign in self.trades.ends:
            self._bought[end, np.arange(num_trades)] += sign
        self.P = sp.diags(self._squares(), format="csc")
        self.A, self.G = (sp.csc_matrix(rows) for rows in (self._equations(), self._limits()))
        self._rises = np.zeros((0, self.size))
        """What takes each bus towards too low, then too high, 1e-3 p.u./kW [2K,size]."""
        if voltage is not None:
            self._rises = _PER_PU * np.concatenate(
                [
                    self._rows({"k": drawn, "p": drawn + run, "c": drawn, "d": -drawn})
                    for drawn, run in zip(voltage.per_import, voltage.per_consumption, strict=True)
                ]
            )

    def solve(self, slot: Slot, worth: Worth | None = None) -> Move:
        """The cheapest feasible hour. Raises as `program`, and `SolverError` when no solver finds it."""
        solution = self.program(slot, worth).solve()
        return self.move(solution.x, solution.fallbacks)

    def program(self, slot: Slot, worth: Worth | None = None) -> QuadraticProgram:
        """The hour with its numbers, ready to be solved; what it minimises lacks the constants of `fixed_ct`.

        Raises:
            UsageError: one of the numbers is NaN or infinite; the message names it.
        """
        cost = self._costs(slot, worth or Worth.nothing(self.community.num_prosumers))
        lower, upper = np.concatenate(self._lower(slot)), np.concatenate(self._upper(slot))
        h, balance = self._right_sides(slot), self._balance(slot)
        if not all(np.isfinite(values).all() for values in (cost, lower, upper, h, balance)):
            raise UsageError(f"hour: {_not_finite(slot, worth)} is not finite; nothing can be decided on it")
        idle = np.zeros(self.size, dtype=np.bool_)
        idle[self.at["a"]] = idle[self.at["m"]] = True
        lower = np.where(idle & (cost == 0.0), upper, lower)  # what costs nothing has no optimum: out of the way
        upper = np.where(upper - lower < _NOTHING_KW, lower, upper)
        G = self.G
        if self.voltage is not None:
            room = self._room(slot)
            reached = room < np.maximum(self._rises, 0.0) @ upper + np.minimum(self._rises, 0.0) @ lower
            upper[self.at["e"]] = np.where(reached.reshape(2, -1).any(axis=0), np.inf, 0.0)
            rows = self._rises + self._rows({"e": -np.tile(np.eye(self.voltage.num_buses), (2, 1))})
            G, h = sp.vstack([G, sp.csc_matrix(rows[reached])]), np.append(h, room[reached])
        return QuadraticProgram(self.P, cost, self.A, balance, G, h, lower, upper, tolerance=self.tolerance)

    def move(self, x: FloatArray, fallbacks: tuple[str, ...] = ()) -> Move:
        """What the values of the variables [size] mean; `fallbacks` are the solution's."""
        at = self.at
        return Move(
            battery_kw=one_sided_kw(self.community.fleet, x[at["c"]], x[at["d"]]),
            shiftable_kw=x[at["p"]],
            curtail_kw=x[at["k"]],
            trade_kw=x[at["u"]] - x[at["v"]],
            fallbacks=fallbacks,
        )

    def objective_ct(self, slot: Slot, worth: Worth, move: Move) -> float:
        """What a feasible move comes to in the terms of the program, those that cannot be helped (`fixed_ct`) left out.

        The cost of the hour, less the worth of what it leaves behind.
        """
        at, num, x = self.at, self.community.num_prosumers, np.zeros(self.size)
        x[at["c"]], x[at["d"]] = np.maximum(move.battery_kw, 0.0), np.maximum(-move.battery_kw, 0.0)
        x[at["p"]], x[at["k"]] = move.shiftable_kw, move.curtail_kw
        x[at["u"]], x[at["v"]] = np.maximum(move.trade_kw, 0.0), np.maximum(-move.trade_kw, 0.0)
        left = (self._balance(slot) - self.A @ x)[:num]
        x[at["q+"]], x[at["q-"]] = np.maximum(left, 0.0), np.maximum(-left, 0.0)
        beyond = np.maximum(self.G @ x - self._right_sides(slot), 0.0).reshape(5, num)
        x[at["t"]], x[at["a"]], x[at["m"]] = beyond[0], np.maximum(beyond[2], beyond[3]), beyond[4]
        if self.voltage is not None:
            x[at["e"]] = np.maximum(self._rises @ x - self._room(slot), 0.0).reshape(2, -1).max(axis=0)
        return float(0.5 * x @ (self.P @ x) + self._costs(slot, worth) @ x)

    def fixed_ct(self, slot: Slot) -> float:
        """What the hour costs whatever is done: if no shiftable load runs and no battery moves."""
        fleet, dt_h = self.community.fleet, self.community.dt_h
        fixed = dt_h * fleet.discomfort_quadratic_ct_per_kwh2h @ _idle_backlog_kwh(slot, dt_h) ** 2
        if slot.terminal_ct_per_kwh is not None:
            fixed += slot.terminal_ct_per_kwh[1] @ (fleet.soc_initial_kwh - slot.soc_kwh)
        return float(fixed)

    def _squares(self) -> FloatArray:
        """The diagonal of P [size]."""
        fleet, dt_h = self.community.fleet, self.community.dt_h
        square = np.zeros(self.size)
        square[self.at["c"]] = square[self.at["d"]] = 2.0 * dt_h * fleet.battery_wear_quadratic_ct_per_kw2h
        square[self.at["p"]] = 2.0 * dt_h**3 * fleet.discomfort_quadratic_ct_per_kwh2h
        square[self.at["u"]] = square[self.at["v"]] = 2.0 * len(self.trades.ends) * _TIE_BREAK
        return square

    def _equations(self) -> FloatArray:
        one, bought = np.eye(self.community.num_prosumers), self._bought
        # q+ - q- + P2P - k - p - c + d = load - PV - position
        rows = self._rows({"q+": one, "q-": -one, "u": bought, "v": -bought, "k": -one, "p": -one, "c": -one, "d": one})
        if not self.trades.is_pool:
            return rows
        everybody = np.ones((1, len(one)))  # what some buy others sell
        return np.concatenate([rows, self._rows({"u": everybody, "v": -everybody})])

    def _limits(self) -> FloatArray:
        fleet, dt_h = self.community.fleet, self.community.dt_h
        one, bought = np.eye(len(fleet)), self._bought
        discharged = one * (dt_h / fleet.discharge_efficiency)
        blocks = [
            self._rows({"k": one, "p": one, "c": one, "d": -one, "t": -one}),  # import is within the peak
            # only local generation is sold
            self._rows({"k": one, "u": np.maximum(-bought, 0.0), "v": np.maximum(bought, 0.0)}),
            self._rows({"p": dt_h * one, "a": -one}),  # discomfort of either sign
            self._rows({"p": -dt_h * one, "a": -one}),
            self._rows({"c": -dt_h * one * fleet.charge_efficiency, "d": discharged, "m": -one}),
        ]
        return np.concatenate(blocks)

    def _rows(self, blocks: dict[str, FloatArray]) -> FloatArray:
        """Rows of a constraint, from its blocks by part [.,size]."""
        rows = np.zeros((len(next(iter(blocks.values()))), self.size))
        for part, block in blocks.items():
            rows[:, self.at[part]] = block
        return rows

    def _costs(self, slot: Slot, worth: Worth) -> FloatArray:
        fleet, trades, dt_h = self.community.fleet, self.trades, self.community.dt_h
        cost = np.zeros(self.size)
        stored, missing = worth.stored_ct_per_kwh, np.zeros(len(fleet))
        if slot.terminal_ct_per_kwh is not None:
            missing, stored = slot.terminal_ct_per_kwh
        wear = dt_h * fleet.battery_wear_linear_ct_per_kwh
        cost[self.at["c"]] = wear - dt_h * fleet.charge_efficiency * stored
        cost[self.at["d"]] = wear + dt_h / fleet.discharge_efficiency * stored
        cost[self.at["m"]] = np.maximum(missing - stored, 0.0) if slot.terminal_ct_per_kwh is not None else 0.0
        slope = 2.0 * dt_h**2 * fleet.discomfort_quadratic_ct_per_kwh2h * _idle_backlog_kwh(slot, dt_h)
        cost[self.at["p"]] = slope - dt_h * worth.ahead_ct_per_kwh
        cost[self.at["a"]] = dt_h * fleet.discomfort_linear_ct_per_kwhh
        cost[self.at["q+"]] = dt_h * slot.buy_ct_per_kwh
        cost[self.at["q-"]] = -dt_h * slot.sell_ct_per_kwh
        cost[self.at["t"]] = self.community.tariff.demand_charge_ct_per_kw
        fee = dt_h * len(trades.ends) * trades.half_fee_ct_per_kwh  # what is paid for the energy cancels
        cost[self.at["u"]] = cost[self.at["v"]] = fee
        if self.voltage is not None:
            cost[self.at["e"]] = dt_h * self.voltage.price_ct_per_pu_h / _PER_PU
        return cost

    def _right_sides(self, slot: Slot) -> FloatArray:
        backlog_kwh = _idle_backlog_kwh(slot, self.community.dt_h)
        sides = [
            slot.connection_peak_kw - slot.load_kw + slot.pv_kw,
            slot.pv_kw,
            -backlog_kwh,
            backlog_kwh,
            slot.soc_kwh - self.community.fleet.soc_initial_kwh,
        ]
        return np.concatenate(sides)

    def _balance(self, slot: Slot) -> FloatArray:
        return np.append(slot.load_kw - slot.pv_kw - slot.position_kw, np.zeros(int(self.trades.is_pool)))

    def _room(self, slot: Slot) -> FloatArray:
        """How far each bus is from being too low, then too high, if nobody steers, 1e-3 p.u. [2K]."""
        assert self.voltage is not None
        return _PER_PU * np.concatenate(self.voltage.room_pu(slot))

    def _lower(self, slot: Slot) -> list[FloatArray]:
        lower = [np.zeros(part.stop - part.start) for part in self.at.values()]
        lower[list(self.at).index("p")] = slot.least_shiftable_kw
        return lower

    def _upper(self, slot: Slot) -> list[FloatArray]:
        fleet, trades = self.community.fleet, self.trades
        discharge_kw, charge_kw = battery_limits_kw(fleet, slot.soc_kwh, slot.least_soc_kwh, self.community.dt_h)
        # No bound on these binds; they keep the program bounded where a price or a charge is zero.
        most_kw = (
            slot.load_kw + slot.pv_kw + np.abs(slot.position_kw) + fleet.shiftable_power_kw
            + fleet.battery_power_kw + np.abs(self._bought) @ trades.limit_kw + 1.0
        )  # fmt: skip
        most_kwh = fleet.soc_max_kwh + fleet.backlog_max_kwh - fleet.backlog_min_kwh
        return [
            charge_kw, discharge_kw,
            np.maximum(slot.most_shiftable_kw, slot.least_shiftable_kw), slot.pv_kw, most_kw, most_kw, most_kw,
            most_kwh, most_kwh, trades.limit_kw, trades.limit_kw,
            np.zeros(self.at["e"].stop - self.at["e"].start),
        ]  # fmt: skip


def one_sided_kw(fleet: Fleet, charge_kw: FloatArray, discharge_kw: FloatArray) -> FloatArray:
    """The battery power, + charges, that moves the state of charge as charging and discharging at once would [N]."""
    stored_kw = charge_kw * fleet.charge_efficiency - discharge_kw / fleet.discharge_efficiency
    return np.where(stored_kw > 0.0, stored_kw / fleet.charge_efficiency, stored_kw * fleet.discharge_efficiency)


def _not_finite(slot: Slot, worth: Worth | None) -> str:
    """The first number that is not."""
    for part in (slot, worth) if worth is not None else (slot,):
        for item in fields(part):
            values = getattr(part, item.name)
            if values is not None and not np.isfinite(values).all():
                return item.name
    return "a number"


def _idle_backlog_kwh(slot: Slot, dt_h: float) -> FloatArray:
    """Backlog after the hour if no shiftable load runs [N]."""
    return slot.backlog_kwh - dt_h * slot.shiftable_ref_kw
