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

Axis letters: deg neighbours of the prosumer, N prosumers, S scenarios, H hours of a day, h remaining hours.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.core_matrices import build_core
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, plan_of, solve_matrices
from prosumer_gym.baselines.interior_point import InteriorPoint
from prosumer_gym.baselines.planning import DayStart, Plan, Scenarios
from prosumer_gym.baselines.solve import SolverError, solve_qp
from prosumer_gym.baselines.trades import own_side
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.errors import UsageError

LOCAL_TOLERANCE = 1e-10
"""Largest scaled residual of a local solution: the trades hang on the root of it (at 1e-8 they are 1e-3 kW off)."""

_log = logging.getLogger(__name__)


class LocalSolution(NamedTuple):
    """What a prosumer would trade."""

    trade_kw: FloatArray
    """With each neighbour, + buys [h,deg]."""
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
        regulariser: as in `solve_core`.
        tolerance: largest scaled residual accepted.

    Attributes: `neighbours` and `edges` [deg], in the order of the edges, and `signs`, +1 where it is the first end;
    `mean_pv_kw` [h], what may be sold;
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
        self.mean_pv_kw = own.mean_pv_kw[:, 0]
        m = build_core(self.community, self.start, own, regulariser=regulariser, trades=trades)
        prices = self.community.tariff.settlement_prices(
            start.price_da_ct_per_kwh[start.start_hour :], scenarios.price_rt_ct_per_kwh
        )
        self.p2p_price_ct_per_kwh: FloatArray = prices.p2p
        self.fallbacks: list[str] = []
        self._up, self._down = m.columns.trade_up >= 0, m.columns.trade_down >= 0
        self._up_at, self._down_at = m.columns.trade_up[self._up], m.columns.trade_down[self._down]
        self._matrices = m
        at_price = np.broadcast_to(self.community.dt_h * prices.p2p[:, None], self._up.shape)
        self._linear = self._tilted(m.c, at_price)
        self._curvature = np.array(m.P.diagonal())
        self._curvature[self._up_at] += rho
        self._curvature[self._down_at] += rho
        self._program = InteriorPoint(self._curvature, m.A, m.b, m.G, m.h, m.lb, m.ub, tolerance=tolerance)

    def solve(self, price_ct_per_kw: FloatArray, target_kw: FloatArray) -> LocalSolution:
        """The best plan at prices lam of its trades (on top of pi dt) and targets zh, both [h,deg]."""
        m = self._matrices
        c = self._tilted(self._linear, price_ct_per_kw - self.rho * target_kw)
        try:
            found = self._program.solve(c)
            x, objective, dual_objective, iterations = found.x, found.objective, found.dual_objective, found.iterations
        except SolverError as error:
            _log.warning("prosumer %d: %s; the general solvers are asked", self.prosumer, error)
            self.fallbacks.append(str(error))
            other = solve_qp(sp.diags(self._curvature), c, m.A, m.b, m.G, m.h, m.lb, m.ub)
            x, objective, dual_objective, iterations = other.x, other.objective, other.dual_objective, other.iterations
        constant = m.constant_ct + float(np.sum((0.5 * self.rho * target_kw - price_ct_per_kw) * target_kw))
        x = np.append(np.clip(x, m.lb, m.ub), 0.0)
        trade_kw = x[m.columns.trade_up] - x[m.columns.trade_down]
        return LocalSolution(trade_kw, objective + constant, dual_objective + constant, iterations)

    def least_cost(self, price_ct_per_kw: FloatArray) -> float:
        """What the prosumer pays at least at prices lam [h,deg], wherever its trades end: a bound from multipliers.

        With prices that agree at both ends of every edge the sum over all prosumers is a lower bound on what the
        community pays in any plan: what one end gets for lam the other pays.
        """
        m = self._matrices
        tilted = replace(m, c=self._tilted(self._linear, price_ct_per_kw))
        return solve_matrices(tilted).dual_objective + m.constant_ct

    def plan(self, trade_kw: FloatArray) -> Plan:
        """The best plan with these trades [h,deg], which must be within limits and generation; its cost without pi."""
        m = self._matrices
        lb, ub = m.lb.copy(), m.ub.copy()
        for at, values in (
            (self._up_at, np.maximum(trade_kw, 0.0)[self._up]),
            (self._down_at, np.maximum(-trade_kw, 0.0)[self._down]),
        ):
            lb[at] = ub[at] = values
        # A limit on sales that are all settled says nothing any more.
        says = m.G[:, ub > lb].getnnz(axis=1) > 0
        fixed = replace(m, G=m.G[says], h=m.h[says], lb=lb, ub=ub)
        return plan_of(self.community, self.start, fixed, solve_matrices(fixed))

    def _tilted(self, linear: FloatArray, price_ct_per_kw: FloatArray) -> FloatArray:
        """`linear` with a price on the trades [h,deg]."""
        c = linear.copy()
        c[self._up_at] += price_ct_per_kw[self._up]
        c[self._down_at] -= price_ct_per_kw[self._down]
        return c


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
