"""The program of an hour solved by the prosumers and the operator of the feeder themselves, by consensus ADMM.

Each prosumer holds estimates of its trades and, where the feeder counts, the operator has copies of its net import and
of its shiftable load (on which its reactive power depends). A round, with x a prosumer's estimates and xh what was
agreed:

1. Every prosumer plans its own hour (`HourProgram` of one): min cost(x) + lam'(x - xh) + rho/2 |x - xh|^2.
2. Trades: both ends of an edge agree on the middle; in a pool the sum of the orders is spread over all.
   The operator: the nearest imports and loads whose voltages cost least, min rho/2 |xh - x - lam / rho|^2 + penalty.
3. lam += rho (x - xh).

lam is a price: of a trade on top of the mechanism's, of a net import the nodal price of the feeder. Two blocks, so that
it converges for any rho > 0. After arXiv 2505.21884, whose hour is solved in this way; the hour of all at once
(`HourProgram`) has the same optimum.

Axis letters: N prosumers, X trades of an hour, K buses but the substation, k rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.hour_program import HourProgram, Worth
from prosumer_gym.baselines.hour_voltage import HourVoltage
from prosumer_gym.baselines.rules import Move, Slot
from prosumer_gym.baselines.solve import QuadraticProgram
from prosumer_gym.baselines.trades import TradeForm
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.errors import UsageError

_TOLERANCE = 1e-7
"""Of the programs of a round."""


@dataclass(frozen=True, eq=False)
class HourConsensus:
    """What was agreed on."""

    move: Move
    trade_price_ct_per_kwh: FloatArray
    """On top of the mechanism's price; where a trade has two ends, both pay the same [X]."""
    node_price_ct_per_kwh: FloatArray
    """What a kWh more drawn at each prosumer's node costs in voltages; zero where the feeder does not count [N]."""
    converged: bool
    """Whether both residuals fell to the tolerance before the cap on the rounds."""
    disagreement_kw: FloatArray
    """|x - xh| of each round [k]."""
    movement_kw: FloatArray
    """|xh - xh of the round before| of each round [k]."""

    @property
    def iterations(self) -> int:
        """Rounds, k."""
        return len(self.disagreement_kw)


class _Side:
    """One prosumer: its own hour, and how its estimates are read off it."""

    def __init__(self, whole: HourProgram, slot: Slot, worth: Worth, n: int, rho: float) -> None:
        ends = [np.flatnonzero(end == n) for end, _ in whole.trades.ends]
        signs = [np.full(own.size, sign) for own, (_, sign) in zip(ends, whole.trades.ends, strict=True)]
        self.trades: IntArray = np.concatenate(ends)
        """Its trades, of the community's [deg]."""
        self.signs: FloatArray = np.concatenate(signs)
        """+1 where it buys when the trade is positive [deg]."""
        limit, fee = (values[self.trades] for values in (whole.trades.limit_kw, whole.trades.half_fee_ct_per_kwh))
        form = TradeForm(((np.zeros(self.trades.size, dtype=np.int64), 1.0),), limit, fee, is_pool=False)
        own = slot_of(slot, n)
        hour = HourProgram(_alone(whole.community, n), trades=form, tolerance=_TOLERANCE)
        program = hour.program(own, Worth(worth.stored_ct_per_kwh[[n]], worth.ahead_ct_per_kwh[[n]]))
        self.hour, self.rho, self.cost = hour, rho, program.c
        one = np.eye(hour.size)
        buys = one[hour.at["u"]] - one[hour.at["v"]]
        drawn = one[hour.at["k"]] + one[hour.at["p"]] + one[hour.at["c"]] - one[hour.at["d"]]
        parts = [buys] if whole.voltage is None else [buys, drawn, one[hour.at["p"]]]
        self.read = np.concatenate(parts)
        """Its estimates: trades as bought, then what it draws beyond load less PV, and its shiftable load."""
        self.program = QuadraticProgram(
            program.P + sp.csc_matrix(rho * self.read.T @ self.read), program.c, program.A, program.b, program.G,
            program.h, program.lb, program.ub, tolerance=_TOLERANCE,
        )  # fmt: skip
        self.x = np.zeros(hour.size)

    def plan(self, agreed_kw: FloatArray, price_ct_per_kw: FloatArray) -> FloatArray:
        """Step 1: its estimates."""
        self.program.update(c=self.cost + self.read.T @ (price_ct_per_kw - self.rho * agreed_kw))
        self.x = self.program.solve().x
        return self.read @ self.x


def consensus_hour(
    program: HourProgram,
    slot: Slot,
    worth: Worth,
    *,
    rho: float = 0.5,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
) -> HourConsensus:
    """The optimum of `program.solve(slot, worth)`, found by the prosumers and the operator.

    Args:
        program: the hour of all at once, for its community, market and feeder; it is not solved.
        slot: the hour.
        worth: of what it leaves behind.
        rho: how hard a disagreement weighs, ct/kW^2. It changes the number of rounds, not what they lead to.
        tolerance: the rounds end when root mean squares of disagreement and movement are at most this, in kW.
        max_iterations: cap on the rounds.

    Raises:
        UsageError: rho, tolerance or cap is not positive.
        SolverError: a round's program is not solved.
    """
    if not (rho > 0 and tolerance > 0 and max_iterations >= 1):
        raise UsageError(
            f"consensus of an hour: rho ({rho}), tolerance ({tolerance}) and max_iterations ({max_iterations}) must be "
            "positive"
        )
    num = program.community.num_prosumers
    sides = [_Side(program, slot, worth, n, rho) for n in range(num)]
    last = np.cumsum([len(side.read) for side in sides])
    own = [slice(end - len(side.read), end) for side, end in zip(sides, last, strict=True)]
    agree = [_traders(program.trades, sides, own)]
    if program.voltage is not None:
        agree.append(_operator(program.voltage, program.community.dt_h, slot, rho, sides, own))
    estimate, agreed, price = (np.zeros(last[-1]) for _ in range(3))
    disagreement: list[float] = []
    movement: list[float] = []
    converged = False
    while not converged and len(disagreement) < max_iterations:
        for side, part in zip(sides, own, strict=True):
            estimate[part] = side.plan(agreed[part], price[part])
        before, agreed = agreed, np.zeros_like(agreed)
        for settle in agree:
            settle(estimate + price / rho, agreed)
        price = price + rho * (estimate - agreed)
        disagreement.append(float(np.linalg.norm(estimate - agreed)))
        movement.append(float(np.linalg.norm(agreed - before)))
        converged = max(disagreement[-1], movement[-1]) <= tolerance * np.sqrt(agreed.size)

    def gathered(values: FloatArray) -> FloatArray:
        """Of the trades, as their first ends have them [X]."""
        result = np.zeros(len(program.trades.limit_kw))
        for side, part in zip(sides, own, strict=True):
            first = side.signs > 0
            result[side.trades[first]] = values[part][: first.size][first]
        return result

    moves = [side.hour.move(side.x) for side in sides]
    dt_h = program.community.dt_h
    return HourConsensus(
        move=Move(
            battery_kw=np.concatenate([move.battery_kw for move in moves]),
            shiftable_kw=np.concatenate([move.shiftable_kw for move in moves]),
            curtail_kw=np.concatenate([move.curtail_kw for move in moves]),
            trade_kw=gathered(agreed),
        ),
        trade_price_ct_per_kwh=gathered(price) / dt_h,
        node_price_ct_per_kwh=np.array([price[part][-2] for part in own]) / dt_h
        if program.voltage is not None
        else np.zeros(num),
        converged=converged,
        disagreement_kw=np.array(disagreement),
        movement_kw=np.array(movement),
    )


def slot_of(slot: Slot, n: int) -> Slot:
    """The hour as prosumer n sees it."""
    arrays = {
        item.name: getattr(slot, item.name)[[n]]
        for item in fields(slot)
        if isinstance(getattr(slot, item.name), np.ndarray) and item.name != "day_ahead_ct_per_kwh"  # that is of hours
    }
    terminal = slot.terminal_ct_per_kwh
    return replace(
        slot, **arrays, terminal_ct_per_kwh=None if terminal is None else (terminal[0][[n]], terminal[1][[n]])
    )


def _alone(community: Community, n: int) -> Community:
    """Prosumer n by itself."""
    fleet = community.fleet
    return community.replace(
        fleet=replace(fleet, **{item.name: getattr(fleet, item.name)[[n]] for item in fields(fleet)}),
        graph=TradeGraph.ring_with_chords(1),
    )


_Settle = Callable[[FloatArray, FloatArray], None]
"""Writes what is agreed on, from what is wanted, both as all sides' estimates in a row."""


def _traders(trades: TradeForm, sides: list[_Side], own: list[slice]) -> _Settle:
    """Step 2 of the trades: the nearest that match."""
    place = np.concatenate(
        [np.arange(part.start, part.start + side.trades.size) for side, part in zip(sides, own, strict=True)]
    )
    trade = np.concatenate([side.trades for side in sides])
    sign = np.concatenate([side.signs for side in sides])
    num_trades = len(trades.limit_kw)

    def settle(wanted: FloatArray, agreed: FloatArray) -> None:
        if trades.is_pool:
            agreed[place] = wanted[place] - wanted[place].mean()
        else:
            middle = np.bincount(trade, sign * wanted[place], num_trades) / len(trades.ends)
            agreed[place] = sign * middle[trade]

    return settle


def _operator(
    voltage: HourVoltage, dt_h: float, slot: Slot, rho: float, sides: list[_Side], own: list[slice]
) -> _Settle:
    """Step 2 of the operator: the nearest imports and shiftable loads whose voltages are worth it."""
    num, num_buses = len(sides), voltage.num_buses
    place = np.concatenate([np.array([part.stop - 2 for part in own]), np.array([part.stop - 1 for part in own])])
    scale = 1e3  # voltages in 1e-3 p.u., so that the numbers are alike in size
    rises = scale * np.concatenate(
        [np.hstack(both) for both in zip(voltage.per_import, voltage.per_consumption, strict=True)]
    )
    penalty = np.full(num_buses, dt_h * voltage.price_ct_per_pu_h / scale)
    program = QuadraticProgram(
        sp.diags(np.append(np.full(2 * num, rho), np.zeros(num_buses)), format="csc"),
        np.append(np.zeros(2 * num), penalty),
        G=np.hstack([rises, -np.tile(np.eye(num_buses), (2, 1))]),
        h=scale * np.concatenate(voltage.room_pu(slot)),
        lb=np.append(np.full(2 * num, -np.inf), np.zeros(num_buses)),
        tolerance=_TOLERANCE,
    )

    def settle(wanted: FloatArray, agreed: FloatArray) -> None:
        program.update(c=np.append(-rho * wanted[place], penalty))
        agreed[place] = program.solve().x[: 2 * num]

    return settle
