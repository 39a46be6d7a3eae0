"""The bi-level choice of (tau, k) as one mixed-integer program: inner problems replaced by their optimality conditions.

A candidate k is chosen by a binary delta_k, and t_k = tau delta_k, so that the weights are linear in both:

    w^j(X^i) = sum_k [ t_k own_ijk + (delta_k - t_k) pooled_ijk ],    sum_k delta_k = 1,   0 <= t_k <= delta_k

Every training day i brings its inner problem (`bilevel_lower`), with multipliers nu and mu and a binary u for every
inequality, bounds among them, that can bind:

    Q z + f0 + F w + A' nu + G' mu = 0,   A z = b,   0 <= g - G z <= M_p (1 - u),   0 <= mu <= M_d u

M_p comes from the box of the variables, M_d from what a kWh can be worth; a multiplier at its bound raises. What the
days then cost is convex but quadratic. HiGHS takes linear objectives with binaries only, so that each square x^2 is
replaced by y >= 2 a x - a^2 at points a, to which every round adds those that it has found.

Inequalities between the binaries that hold at every optimum (nothing is at both its bounds; nobody buys and sells, or
charges and discharges, at once; the scenario that lacks more buys first) keep the search small.

Axis letters: K candidates of k, V variables and W weights of an inner problem, N prosumers, S scenarios, H hours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import highspy
import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.assembly import ABSENT, Rows, Variables
from prosumer_gym.baselines.bilevel_lower import Interval, LowerLevel
from prosumer_gym.baselines.solve import SolverError

ROOM = 1.5
"""Bounds on multipliers are this multiple of what prices allow, so that one that is reached shows that it is wrong."""

_FIRST_TANGENTS = 6
_SAME = 1e-9
_AT_BOUND = 1e-6
_NOT_BOTH = (("buy", "sell"), ("charge", "discharge"), ("short", "left"), ("trade_up", "trade_down"),
             ("rt_buy", "rt_sell"))  # fmt: skip


class TrainingDay(NamedTuple):
    """A training day: the problem that its plan solves, what its weights can be, and what the day brought."""

    lower: LowerLevel
    own: FloatArray
    """Weights at tau = 1 [K,W]."""
    pooled: FloatArray
    """At tau = 0 [K,W]."""
    net_load_kw: FloatArray
    """Load - PV [H,N]."""
    rt_buy_ct_per_kw: FloatArray
    """What real time charges for a kW over the hour [H]."""
    rt_sell_ct_per_kw: FloatArray
    peak_ct_per_kw: float

    def cost_ct(self, plan: FloatArray) -> float:
        """What a plan [V] costs on this day, without the regulariser and with the best recourse."""
        lower, columns = self.lower, self.lower.columns
        squares = 0.5 * float(lower.Q[lower.curved] @ plan[lower.curved] ** 2)
        lack = self.net_load_kw - plan[columns.supply]
        settled = self.rt_buy_ct_per_kw @ np.maximum(lack, 0.0) + self.rt_sell_ct_per_kw @ np.minimum(lack, 0.0)
        peak = np.maximum((self.net_load_kw + plan[columns.flexible]).max(axis=0), 0.0)
        return float(lower.f0 @ plan + squares + settled.sum() + self.peak_ct_per_kw * peak.sum())


class DayColumns(NamedTuple):
    """Where a training day's variables stand in the mixed-integer program."""

    z: IntArray
    """[V]."""
    nu: IntArray
    mu: IntArray
    """Of the rows of G, the lower bounds and the upper bounds; ABSENT where one cannot bind."""
    epigraph: IntArray
    """Bounds on the squares of the curved variables."""


class Answer(NamedTuple):
    """What a round found."""

    tau: float
    number: int
    """Of the candidate chosen."""
    objective_ct: float
    bound_ct: float
    """No (tau, k) costs less."""
    x: FloatArray
    num_nodes: int


class SingleLevel:
    """The mixed-integer program over all training days, to be solved again and again with more tangents.

    Args:
        days: the training days.
        room: bounds on multipliers are this multiple of what prices allow.
    """

    def __init__(self, days: list[TrainingDay], *, room: float = ROOM) -> None:
        self.days, self.room = days, room
        self.variables, self.equal, self.below = Variables(), Rows(), Rows()
        num_k = len(days[0].own)
        self.delta = self.variables.add((num_k,), upper=1.0)
        self.binaries = [self.delta]
        self.t = self.variables.add((num_k,), upper=1.0)
        self.equal.put(self.equal.add(np.ones(1)), self.delta, 1.0)
        rows = self.below.add(np.zeros(num_k))
        self.below.put(rows, self.t, 1.0)
        self.below.put(rows, self.delta, -1.0)
        self.columns = [_Day(self, day).columns for day in days]
        self.highs = self.program()
        for day, columns in zip(days, self.columns, strict=True):
            low, high = (bound[day.lower.curved] for bound in day.lower.box)
            for share in np.linspace(0.0, 1.0, _FIRST_TANGENTS):
                self.touch(day.lower, columns, low + share * (high - low))

    @property
    def num_binaries(self) -> int:
        """Binaries, before the solver's own presolve."""
        return int(sum(np.count_nonzero(block != ABSENT) for block in self.binaries))

    def put_matrix(self, rows: Rows, at: IntArray, columns: IntArray, matrix: Any, sign: float = 1.0) -> None:
        """`matrix` times `columns`, in rows `at`."""
        entries = sp.coo_matrix(matrix)
        rows.put(at[entries.row], columns[entries.col], sign * entries.data)

    def put_weights(self, rows: Rows, at: IntArray, matrix: Any, day: TrainingDay, sign: float = 1.0) -> None:
        """`matrix` [.,W] times the weights of the day, in rows `at`."""
        own, pooled = matrix @ day.own.T, matrix @ day.pooled.T  # [.,K]
        rows.put(at[:, np.newaxis], self.t, sign * (own - pooled))
        rows.put(at[:, np.newaxis], self.delta, sign * pooled)

    def program(self) -> Any:
        """The program as HiGHS has it, tangents still missing."""
        size = self.variables.size
        A, b = self.equal.finish(size)
        G, g = self.below.finish(size)
        rows = sp.vstack([A, G], format="csc")
        rows.eliminate_zeros()
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = size, b.size + g.size
        vector = self.variables.vector
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = vector("linear"), vector("lower"), vector("upper")
        lp.row_lower_, lp.row_upper_ = np.concatenate([b, np.full(g.size, -np.inf)]), np.concatenate([b, g])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = rows.indptr, rows.indices, rows.data
        is_binary = np.zeros(size, dtype=np.bool_)
        for block in self.binaries:
            is_binary[block[block != ABSENT]] = True
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in is_binary.tolist()]
        highs = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in (
            ("output_flag", False), ("threads", 1), ("mip_rel_gap", 5e-7), ("mip_abs_gap", 1e-6),
            ("mip_heuristic_effort", 0.0),  # a good (tau, k) is known beforehand
            ("mip_feasibility_tolerance", 1e-9), ("primal_feasibility_tolerance", 1e-9),
            ("dual_feasibility_tolerance", 1e-9),
        ):  # fmt: skip
            highs.setOptionValue(option, value)
        highs.passModel(lp)
        return highs

    def touch(self, lower: LowerLevel, columns: DayColumns, at: FloatArray) -> None:
        """Tangents at the values `at` of the curved variables: y >= Q (a x - a^2 / 2)."""
        for y, x, curvature, point in zip(
            columns.epigraph.tolist(), columns.z[lower.curved].tolist(), lower.Q[lower.curved].tolist(), at.tolist(),
            strict=True,
        ):  # fmt: skip
            self.highs.addRow(
                -0.5 * curvature * point**2, np.inf, 2, np.array([y, x]), np.array([1.0, -curvature * point])
            )

    def solve(self, below_ct: float = np.inf) -> Answer:
        """The optimum with the tangents so far, if it lies below a cost.

        Raises `SolverError` if there is none, or a multiplier lies at its bound.
        """
        self.highs.setOptionValue("objective_bound", below_ct)
        self.highs.run()
        status = self.highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise SolverError(f"single-level program: HiGHS says {self.highs.modelStatusToString(status).lower()}")
        x = np.array(self.highs.getSolution().col_value)
        info = self.highs.getInfo()
        number = int(np.argmax(x[self.delta]))
        tau = float(np.clip(x[self.t[number]], 0.0, 1.0))
        self.check_multipliers(x)
        return Answer(tau, number, info.objective_function_value, info.mip_dual_bound, x, info.mip_node_count)

    def check_multipliers(self, x: FloatArray) -> None:
        """Raise if a multiplier is as large as it may be: it might have to be larger."""
        low, high = self.variables.vector("lower"), self.variables.vector("upper")
        for number, columns in enumerate(self.columns):
            mu_below = columns.mu[: self.days[number].lower.g0.size]
            for which, least in ((columns.nu, low), (mu_below[mu_below != ABSENT], np.full(low.size, -np.inf))):
                at = (x[which] >= high[which] - _AT_BOUND) | (x[which] <= least[which] + _AT_BOUND)
                if np.any(at & (high[which] > low[which])):
                    raise SolverError(f"single-level program: a multiplier of training day {number} is at its bound")

    def complementarity(self, answer: Answer) -> float:
        """Largest product of a multiplier and its slack."""
        largest = 0.0
        values = np.append(answer.x, 0.0)
        for day, columns in zip(self.days, self.columns, strict=True):
            lower, z = day.lower, answer.x[columns.z]
            weights = answer.tau * day.own[answer.number] + (1.0 - answer.tau) * day.pooled[answer.number]
            slack = np.concatenate([lower.g0 + lower.G1 @ weights - lower.G @ z, z - lower.lower, lower.upper - z])
            products = values[columns.mu] * np.where(columns.mu == ABSENT, 0.0, slack)
            largest = max(largest, float(np.abs(products).max()))
        return largest

    def add_tangents(self, points: list[FloatArray]) -> None:
        """Tangents at the plans [V] of the training days."""
        for day, columns, point in zip(self.days, self.columns, points, strict=True):
            self.touch(day.lower, columns, point[day.lower.curved])

    def plans(self, answer: Answer) -> list[FloatArray]:
        """The plans [V] of the training days."""
        return [answer.x[columns.z] for columns in self.columns]


class _Day:
    """One training day while it is written into the program."""

    def __init__(self, program: SingleLevel, day: TrainingDay) -> None:
        self.program, self.day, self.lower = program, day, day.lower
        self.variables, self.equal, self.below = program.variables, program.equal, program.below
        lower, box = day.lower, day.lower.box
        bounds = np.concatenate([day.own, day.pooled])
        self.weight = Interval(bounds.min(axis=0), bounds.max(axis=0))
        middle = 0.5 * (lower.equal_multipliers.low + lower.equal_multipliers.high)
        half = program.room * (lower.equal_multipliers.high - middle)
        self.nu_range = Interval(middle - half, middle + half)
        self.z = self.variables.add(lower.Q.shape, lower=box.low, upper=box.high, linear=lower.f0)
        self.nu = self.variables.add(lower.b.shape, lower=self.nu_range.low, upper=self.nu_range.high)
        program.put_matrix(self.equal, self.equal.add(lower.b), self.z, lower.A)
        self.of_rows()
        self.of_bounds()
        self.stationarity()
        self.orders()
        self.outcome()
        epigraph = self.variables.add(lower.curved.shape, linear=1.0)
        self.columns = DayColumns(
            self.z, self.nu, np.concatenate([self.mu_below, self.mu_low, self.mu_high]), epigraph
        )  # fmt: skip

    def binary(self, present: BoolArray) -> IntArray:
        columns = self.variables.add(present.shape, upper=1.0, present=present)
        self.program.binaries.append(columns)
        return columns

    def switch(self, mu: IntArray, u: IntArray, most: FloatArray) -> None:
        """Multipliers are zero where their binary is, and else no larger than `most`."""
        rows = self.below.add(np.zeros(mu.shape), present=u != ABSENT)
        self.below.put(rows, mu, 1.0)
        self.below.put(rows, u, -most)

    def of_rows(self) -> None:
        """Gz <= g0 + G1 w, and multipliers only where it is tight."""
        lower, put_matrix, put_weights = self.lower, self.program.put_matrix, self.program.put_weights
        promised, used = _reach(lower.G1, self.weight), _reach(lower.G, lower.box)
        can_bind = lower.g0 + promised.low <= used.high + _SAME
        self.most_below = np.where(can_bind, self.program.room * lower.below_multipliers, 0.0)
        self.mu_below = self.variables.add(can_bind.shape, upper=self.most_below, present=can_bind)
        self.u_below = self.binary(can_bind)
        rows = self.below.add(lower.g0)
        put_matrix(self.below, rows, self.z, lower.G)
        put_weights(self.below, rows, lower.G1, self.day, -1.0)
        most_slack = lower.g0 + promised.high - used.low
        rows = self.below.add(most_slack - lower.g0, present=can_bind)
        put_matrix(self.below, rows, self.z, lower.G, -1.0)
        put_weights(self.below, rows, lower.G1, self.day)
        self.below.put(rows, self.u_below, most_slack)
        self.switch(self.mu_below, self.u_below, self.most_below)

    def of_bounds(self) -> None:
        """Multipliers of the bounds only where these are met; as large as the slope of the rest can be."""
        lower, (low, high) = self.lower, self.lower.box
        parts = (
            Interval(lower.f0 + lower.Q * low, lower.f0 + lower.Q * high),
            _reach(lower.F, self.weight),
            _reach(lower.A.T, self.nu_range),
            _reach(lower.G.T, Interval(np.zeros(self.most_below.size), self.most_below)),
        )
        least, most = (np.sum([part[side] for part in parts], axis=0) for side in (0, 1))
        moves = high > low + _SAME

        def pairs(meets: BoolArray, most: FloatArray, sign: float) -> tuple[IntArray, IntArray]:
            mu = self.variables.add(meets.shape, upper=most, present=meets)
            u = self.binary(meets & moves)
            self.switch(mu, u, most)
            rows = self.below.add(sign * np.where(sign > 0, high, low), present=u != ABSENT)
            self.below.put(rows, self.z, sign)
            self.below.put(rows, u, high - low)
            return mu, u

        self.mu_low, self.u_low = pairs(low <= lower.lower + _SAME, np.maximum(most, 0.0), 1.0)
        self.mu_high, self.u_high = pairs(high >= lower.upper - _SAME, np.maximum(-least, 0.0), -1.0)

    def stationarity(self) -> None:
        """Q z + f0 + F w + A' nu + G' mu - mu_low + mu_high = 0."""
        lower, put_matrix = self.lower, self.program.put_matrix
        rows = self.equal.add(-lower.f0)
        self.equal.put(rows, self.z, lower.Q)
        self.program.put_weights(self.equal, rows, lower.F, self.day)
        put_matrix(self.equal, rows, self.nu, lower.A.T)
        put_matrix(self.equal, rows, self.mu_below, lower.G.T)
        self.equal.put(rows, self.mu_low, -1.0)
        self.equal.put(rows, self.mu_high, 1.0)

    def orders(self) -> None:
        """What holds between binaries at every optimum; where one is absent nothing is said."""
        columns, below = self.lower.columns, self.below
        u_low = np.append(self.u_low, ABSENT)

        def say(limit: float, *terms: tuple[IntArray, float]) -> None:
            rows = below.add(
                np.full(terms[0][0].shape, limit), present=np.all([u != ABSENT for u, _ in terms], axis=0)
            )  # fmt: skip
            for u, sign in terms:
                below.put(rows, u, sign)

        say(1.0, (self.u_low, 1.0), (self.u_high, 1.0))
        for one, other in _NOT_BOTH:
            say(-1.0, *((u_low[getattr(columns, name)], -1.0) for name in (one, other)))
        # Scenarios by how much they lack: the one that lacks more is the last to sell and the first to buy.
        lack = self.lower.lack_kw
        order = np.argsort(lack, axis=0, kind="stable")
        lack, buys, sells = (
            np.take_along_axis(values, order, axis=0)
            for values in (lack, u_low[columns.rt_buy], u_low[columns.rt_sell])
        )
        for i in range(len(lack) - 1):
            say(0.0, (buys[i + 1], 1.0), (buys[i], -1.0))
            say(0.0, (sells[i], 1.0), (sells[i + 1], -1.0))
            apart = lack[i + 1] > lack[i] + _SAME
            say(1.0, (np.where(apart, sells[i], ABSENT), 1.0), (buys[i + 1], 1.0))
        # A peak is met somewhere, or is zero.
        u_below = np.append(self.u_below, ABSENT)[self.lower.rows.peak]  # [S,H,N]
        rows = below.add(np.full(columns.peak.shape, -1.0), present=columns.peak != ABSENT)
        below.put(rows, u_low[columns.peak], -1.0)
        below.put(rows[:, np.newaxis], u_below, -1.0)

    def outcome(self) -> None:
        """What the day costs beyond the first stage, with the best recourse."""
        day, columns, shape = self.day, self.lower.columns, self.day.net_load_kw.shape
        bought = self.variables.add(shape, linear=day.rt_buy_ct_per_kw[:, np.newaxis])
        sold = self.variables.add(shape, linear=-day.rt_sell_ct_per_kw[:, np.newaxis])
        peak = self.variables.add(shape[1:], linear=day.peak_ct_per_kw)
        rows = self.equal.add(day.net_load_kw)
        for column, sign in ((bought, 1.0), (sold, -1.0), (self.z[columns.supply], 1.0)):
            self.equal.put(rows, column, sign)
        rows = self.below.add(-day.net_load_kw)
        self.below.put(rows, self.z[columns.flexible], 1.0)
        self.below.put(rows, peak, -1.0)


def _reach(matrix: Any, values: Interval) -> Interval:
    """Between what the product of `matrix` and values within their intervals lies."""
    positive, negative = matrix.maximum(0.0), matrix.minimum(0.0)
    return Interval(
        positive @ values.low + negative @ values.high, positive @ values.high + negative @ values.low
    )  # fmt: skip
