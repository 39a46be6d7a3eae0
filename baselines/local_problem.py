"""One prosumer's part of the core problem, with trades that it negotiates: what distributed optimization solves.

The core problem separates into prosumers but for one thing: what one end of an edge buys the other sells. So each
prosumer n plans alone, with trades z_nm of its own [deg,h], + when it buys, and its neighbours' views enter as a price
and a target:

    minimise  C_n(z) + lam'(z - zh) + rho/2 |z - zh|^2

C_n is all that the core problem says of n (`day_ahead_reference`), and what it pays its neighbours: half of the fee,
and the mechanism's price pi, which cancels between the two ends. The matrices are those of the core problem of n
alone with its own side of its edges; between solves only the linear cost of the trades changes.

Purchase b and sale a are two variables, z = b - a, and rho/2 (b - a)^2 is written rho/2 (b^2 + a^2), which keeps P
diagonal: both at once never pays (half a fee and a regulariser each), and where one is zero the two are the same.

Where voltages are priced (`admm_network`), the operator of the feeder is one neighbour more: in the hours that it
watches, the prosumer's expected net import and consumption are such estimates, too, each with a price, that of the
node, and a target. So the estimates are [h,deg] or [h,deg+2].

Axis letters: deg neighbours of the prosumer, N prosumers, S scenarios, H hours of a day, h remaining hours.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.assembly import ABSENT
from prosumer_gym.baselines.core_matrices import CoreBuild, CoreColumns, build_core, check_core
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, plan_of, solve_matrices
from prosumer_gym.baselines.interior_point import InteriorPoint
from prosumer_gym.baselines.planning import DayStart, Plan, Scenarios
from prosumer_gym.baselines.solve import SolverError, solve_qp
from prosumer_gym.baselines.trades import TradeForm, own_side
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.errors import UsageError

LOCAL_TOLERANCE = 1e-10
"""Largest scaled residual of a local solution: the trades hang on the root of it (at 1e-8 they are 1e-3 kW off)."""

ACCEPTABLE = 1e-8
"""The same where rounding leads no further: still a tenth of what the general solvers promise."""

_log = logging.getLogger(__name__)


class Watch(NamedTuple):
    """Which hours the operator of the feeder watches, as it tells everybody."""

    hours: BoolArray
    """Where some limit can be exceeded: net import and consumption are negotiated [h]."""
    too_high: BoolArray
    """Where voltages can be too high: there PV may be curtailed though it would earn something [h]."""
    rho: float
    """Weight of the distance to the operator's targets, ct/kW^2."""


class OwnPlan(NamedTuple):
    """What a prosumer does in the end."""

    plan: Plan
    drawn_kw: FloatArray
    """Expected net import and consumption, zero in hours that nobody watches [h,2]; [h,0] without an operator."""


class LocalSolution(NamedTuple):
    """What a prosumer would do."""

    estimate_kw: FloatArray
    """Trades with each neighbour, + buys, then what it would draw; the target where nobody watches [h,deg(+2)]."""
    objective_ct: float
    """C_n(z) + lam'(z - zh) + rho/2 |z - zh|^2."""
    lower_bound_ct: float
    """What the multipliers prove no other plan can beat."""
    iterations: int


class LocalProblem:
    """One prosumer's problem, built once and solved for many prices and targets of its trades.

    Args:
        community: who plans; bilateral.
        start: where the day stands.
        scenarios: what the remaining hours may bring, with this prosumer's weights.
        prosumer: whose problem it is: of all the others nothing is read.
        rho: weight of the distance to the target, ct/kW^2; zero leaves it out.
        watch: of the operator of the feeder, where voltages are priced.
        regulariser: as in `solve_core`.
        tolerance: largest scaled residual accepted.

    Attributes: `neighbours` and `edges` [deg], in the order of the edges, and `signs`, +1 where it is the first end;
    `mean_pv_kw` [h], what may be sold; `rhos`, the weights of all estimates [deg(+2)];
    `p2p_price_ct_per_kwh` [h], the mechanism's price; `fallbacks`, why a solve was left to the general solvers.

    Raises `UsageError` for inputs that do not fit together, `SolverError` from `solve` when they fail, too.
    """

    def __init__(
        self,
        community: Community,
        start: DayStart,
        scenarios: Scenarios,
        prosumer: int,
        *,
        rho: float,
        watch: Watch | None = None,
        regulariser: float = REGULARISER_CT_PER_KW2,
        tolerance: float = LOCAL_TOLERANCE,
    ) -> None:
        if community.market.offers != "edges":
            raise UsageError(f"local problem: trades over edges are negotiated, not those of {community.mechanism!r}")
        if not (np.isfinite(rho) and rho >= 0):
            raise UsageError(f"local problem: rho is {rho}, must be finite and not negative")
        trades, self.neighbours, self.edges = own_side(community, prosumer)
        self.signs: FloatArray = np.where(community.graph.first[self.edges] == prosumer, 1.0, -1.0)
        self.prosumer, self.rho = prosumer, rho
        self.community = _alone(community, prosumer)
        self.start, own = _own_start(start, prosumer), _own_scenarios(scenarios, prosumer)
        self.mean_load_kw, self.mean_pv_kw = own.mean_load_kw[:, 0], own.mean_pv_kw[:, 0]
        self._watch = watch
        if watch is None:
            self._may_throw = np.zeros(len(self.mean_pv_kw), dtype=np.bool_)
            m, drawn = build_core(self.community, self.start, own, regulariser=regulariser, trades=trades), None
        else:
            check_core(self.community, self.start, own)
            build = _WatchedBuild(self.community, self.start, own, trades, watch)
            m, drawn = build.core(regulariser), build.drawn
            self._may_throw = np.asarray(build.may_throw.any(axis=2))[:, 0]
        prices = self.community.tariff.settlement_prices(
            start.price_da_ct_per_kwh[start.start_hour :], scenarios.price_rt_ct_per_kwh
        )
        self.p2p_price_ct_per_kwh: FloatArray = prices.p2p
        self.fallbacks: list[str] = []
        up, down, at_price = m.columns.trade_up, m.columns.trade_down, self.community.dt_h * prices.p2p[:, None]
        self.rhos: FloatArray = np.full(self.edges.size, rho)
        self.is_there = np.ones(up.shape, dtype=np.bool_)
        """Which estimates count: those of what the prosumer draws only in hours that are watched."""
        if watch is not None and drawn is not None:
            up, down = np.hstack([up, drawn]), np.hstack([down, np.full(drawn.shape, ABSENT)])
            self.rhos = np.append(self.rhos, [watch.rho, watch.rho])
            self.is_there = np.hstack([self.is_there, drawn != ABSENT])
        self._up, self._down = up != ABSENT, down != ABSENT
        self._up_at, self._down_at = up[self._up], down[self._down]
        self._columns = up, down
        self._matrices = m
        self._linear = self._tilted(m.c, np.where(np.arange(up.shape[1]) < self.edges.size, at_price, 0.0))
        self._attraction = np.zeros(m.c.size)
        """What the distance to the targets adds to the diagonal of P."""
        self._attraction[self._up_at] = np.broadcast_to(self.rhos, up.shape)[self._up]
        self._attraction[self._down_at] = np.broadcast_to(self.rhos, up.shape)[self._down]
        self._curvature = m.P.diagonal() + self._attraction
        self._tolerance = tolerance

    def hear(self, may_sell: BoolArray) -> None:
        """Which neighbours may sell in which hours [h,deg]: of the others it need not try to buy. Before it solves."""
        columns = self._columns[0][:, : self.edges.size]
        in_vain = columns[~may_sell & (columns != ABSENT)]
        ub = self._matrices.ub.copy()
        ub[in_vain] = 0.0
        self._matrices = replace(self._matrices, ub=ub)

    @cached_property
    def _program(self) -> InteriorPoint:
        m, acceptable = self._matrices, max(self._tolerance, ACCEPTABLE)
        return InteriorPoint(
            self._curvature, m.A, m.b, m.G, m.h, m.lb, m.ub, tolerance=self._tolerance, acceptable=acceptable
        )

    @property
    def is_watched(self) -> bool:
        """Whether there is an operator."""
        return self._watch is not None

    @property
    def at_rest_kw(self) -> FloatArray:
        """Estimates to begin with: no trade, and what is drawn with no battery and the shiftable load where it was."""
        estimate_kw = np.zeros(self._up.shape)
        if self._watch is not None:
            m, at = self._matrices, self._matrices.columns.shiftable[:, 0]
            lowest, highest = np.append(m.lb, 0.0)[at], np.append(m.ub, 0.0)[at]
            reference = self.start.shiftable_ref_kw[self.start.start_hour :, 0]
            consumption = self.mean_load_kw + np.clip(reference, lowest, highest)
            estimate_kw[:, -2:] = np.stack([consumption - self.mean_pv_kw, consumption], axis=1)
        return estimate_kw

    @property
    def is_fixed(self) -> BoolArray:
        """Which of net import and consumption follow from what is no decision any more [h,2]."""
        m = self._matrices

        def decided(*blocks: IntArray) -> BoolArray:
            """Where none of some variables [h] is free."""
            free = np.append(m.ub > m.lb, False)
            return np.asarray(~np.any([free[block[:, 0]] for block in blocks], axis=0))

        at, thrown = m.columns, self._may_throw
        drawn = decided(at.charge, at.discharge, at.shiftable, at.curtail) & ~thrown
        return np.stack([drawn, decided(at.shiftable)], axis=1)

    def solve(self, price_ct_per_kw: FloatArray, target_kw: FloatArray) -> LocalSolution:
        """The best plan at prices lam of its estimates (of trades on top of pi dt) and targets zh, both [h,deg(+2)]."""
        m = self._matrices
        c = self._tilted(self._linear, price_ct_per_kw - self.rhos * target_kw)
        try:
            found = self._program.solve(c)
            x, objective, dual_objective, iterations = found.x, found.objective, found.dual_objective, found.iterations
        except SolverError as error:
            _log.warning("prosumer %d: %s; the general solvers are asked", self.prosumer, error)
            self.fallbacks.append(str(error))
            other = solve_qp(sp.diags(self._curvature), c, m.A, m.b, m.G, m.h, m.lb, m.ub)
            x, objective, dual_objective, iterations = other.x, other.objective, other.dual_objective, other.iterations
        apart = (0.5 * self.rhos * target_kw - price_ct_per_kw) * target_kw
        constant = m.constant_ct + float(np.sum(apart, where=self.is_there))
        estimate_kw = np.where(self.is_there, self._estimates(x), target_kw)
        return LocalSolution(estimate_kw, objective + constant, dual_objective + constant, iterations)

    def least_cost(self, price_ct_per_kw: FloatArray) -> float:
        """What the prosumer pays at least at prices lam [h,deg(+2)], wherever its estimates end: from multipliers.

        With prices that agree at both ends of every edge the sum over all prosumers is a lower bound on what the
        community pays in any plan: what one end gets for lam the other pays. (With an operator: `Operator.least_cost`
        on top.)
        """
        m = self._matrices
        tilted = replace(m, c=self._tilted(self._linear, price_ct_per_kw))
        return solve_matrices(tilted).dual_objective + m.constant_ct

    def plan(
        self, trade_kw: FloatArray, price_ct_per_kw: FloatArray | None = None, target_kw: FloatArray | None = None
    ) -> OwnPlan:
        """The best plan with these trades [h,deg], which must be within limits and generation; its cost without pi.

        With an operator of the feeder it is best at the operator's prices and targets, both [h,2], which its cost is
        without, too.
        """
        m = self._matrices
        lb, ub, c = m.lb.copy(), m.ub.copy(), m.c
        settled = np.zeros(self._up.shape)
        settled[:, : self.edges.size] = trade_kw
        of_trade = np.arange(self._up.shape[1]) < self.edges.size
        for at, there, values in (
            (self._columns[0], self._up & of_trade, np.maximum(settled, 0.0)),
            (self._columns[1], self._down & of_trade, np.maximum(-settled, 0.0)),
        ):
            lb[at[there]] = ub[at[there]] = values[there]
        # A limit on sales that are all settled says nothing any more.
        says = m.G[:, ub > lb].getnnz(axis=1) > 0
        fixed = replace(m, G=m.G[says], h=m.h[says], lb=lb, ub=ub)
        if price_ct_per_kw is None or target_kw is None:
            solution = solve_matrices(fixed)
        else:
            price = np.zeros(self._up.shape)
            price[:, -2:] = price_ct_per_kw - self.rhos[-2:] * target_kw
            drawn = np.isin(np.arange(c.size), self._columns[0][:, -2:])
            tilted = replace(
                fixed, c=self._tilted(c, price), P=m.P + sp.diags(np.where(drawn, self._attraction, 0.0), format="csc")
            )
            solution = solve_matrices(tilted)
            cost = 0.5 * float(solution.x @ (m.P @ solution.x)) + float(c @ solution.x)
            solution = replace(solution, objective=cost, dual_objective=-np.inf)
        drawn_kw = self._estimates(solution.x)[:, self.edges.size :]
        return OwnPlan(plan_of(self.community, self.start, fixed, solution), drawn_kw)

    def _estimates(self, x: FloatArray) -> FloatArray:
        """The estimates that a solution stands for, zero where there is none [h,deg(+2)]."""
        m, (up, down) = self._matrices, self._columns
        x = np.append(np.clip(x, m.lb, m.ub), 0.0)
        return np.asarray(x[up] - x[down])

    def _tilted(self, linear: FloatArray, price_ct_per_kw: FloatArray) -> FloatArray:
        """`linear` with a price on the estimates [h,deg(+2)]."""
        c = linear.copy()
        c[self._up_at] += price_ct_per_kw[self._up]
        c[self._down_at] -= price_ct_per_kw[self._down]
        return c


class _WatchedBuild(CoreBuild):
    """The core problem of one prosumer with what it draws as variables, in the hours that the operator watches."""

    def __init__(
        self, community: Community, start: DayStart, scenarios: Scenarios, trades: TradeForm, watch: Watch
    ) -> None:
        super().__init__(community, start, scenarios, False, trades)
        self.watch = watch
        self.too_high = watch.too_high[:, None]
        self.find_curtailment()
        self.drawn = np.zeros((0, 2), dtype=np.int64)
        """Where net import and consumption stand in x [h,2]."""

    def voltages(self, columns: CoreColumns, thrown: IntArray) -> CoreColumns:
        """What is drawn, in place of its price: that is the operator's."""
        watched = self.watch.hours[:, None]
        net_import, consumption = (
            self.variables.add((self.hours, 1), lower=-np.inf, present=watched) for _ in range(2)
        )
        rows = self.equal.add(self.mean_load_kw - self.mean_pv_kw, present=watched)
        self.equal.put(rows, net_import, 1.0)
        self.equal.put(rows, columns.flexible, -1.0)
        self.equal.put(rows, columns.curtail, -1.0)
        self.equal.put(rows[:, :, None], thrown, -self.weights)
        rows = self.equal.add(self.mean_load_kw, present=watched)
        self.equal.put(rows, consumption, 1.0)
        self.equal.put(rows, columns.shiftable, -1.0)
        self.drawn = np.hstack([net_import, consumption])
        return columns


def _alone(community: Community, prosumer: int) -> Community:
    """The community of one prosumer."""
    fleet = community.fleet
    own = {name: values[[prosumer]] for name, values in vars(fleet).items() if not name.startswith("_")}
    return community.replace(fleet=replace(fleet, **own), graph=TradeGraph.ring_with_chords(1))


def _own_start(start: DayStart, prosumer: int) -> DayStart:
    own = [prosumer]
    return replace(
        start, soc_kwh=start.soc_kwh[own], backlog_kwh=start.backlog_kwh[own],
        connection_peak_kw=start.connection_peak_kw[own], shiftable_ref_kw=start.shiftable_ref_kw[:, own],
        position_kw=None if start.position_kw is None else start.position_kw[own],
    )  # fmt: skip


def _own_scenarios(scenarios: Scenarios, prosumer: int) -> Scenarios:
    own = [prosumer]
    return Scenarios(
        scenarios.load_kw[:, :, own], scenarios.pv_kw[:, :, own], scenarios.price_rt_ct_per_kwh,
        scenarios.weights_by_prosumer[prosumer],
    )  # fmt: skip
