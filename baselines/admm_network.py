"""The operator of the feeder in a negotiation: it prices the voltages that the prosumers' plans lead to.

The core problem's price on expected voltages beyond their limits (`network`) couples all prosumers. In the distributed
form the operator takes it over. Of each prosumer it learns what the prosumer expects to draw in the hours ahead: its
net import y and its consumption l, on which reactive power depends. It answers with what it would have everybody draw,

    minimise  sum over watched hours of  rho/2 |y^ - y - mu/rho|^2 + rho/2 |l^ - l - nu/rho|^2 + price excess(y^, l^)

a small quadratic program. It is solved for the prices instead: with a multiplier 0 <= w <= price of each limit that can
be exceeded, and g its voltage's slopes, y^ = y + (mu - sum w g) / rho, and likewise l^. In consensus ADMM the
operator stands beside the edges (`admm`): prosumers are one block, edges and operator the other, so that it converges
like without. mu and nu move like the prices of trades, and in the end they are the nodal prices: what a kW more at a
prosumer's node costs in voltages. After arXiv 2505.21884, whose prosumers agree with their operator in this way hour by
hour. Hours in which no limit can be exceeded are not watched, and where none can be, there is no operator.

Axis letters: N prosumers, K buses, h remaining hours, w watched hours.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.baselines.assembly import Rows, Variables
from prosumer_gym.baselines.core_matrices import EXCESS_PER_PU
from prosumer_gym.baselines.interior_point import InteriorPoint
from prosumer_gym.baselines.local_problem import ACCEPTABLE, LOCAL_TOLERANCE, Watch
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import Scenarios
from prosumer_gym.baselines.solve import SolverError, solve_qp
from prosumer_gym.community import Community

_log = logging.getLogger(__name__)


class Operator:
    """The operator's side.

    Args:
        community: whose feeder; who is connected with which devices is known to its operator.
        scenarios: of which it knows what each prosumer expects to consume and to generate, nothing else.
        network: what voltages cost.
        rho: weight of the distance to what prosumers would draw, ct/kW^2.

    Attribute: `watch`, what it tells everybody.
    """

    def __init__(self, community: Community, scenarios: Scenarios, network: NetworkPenalty, *, rho: float) -> None:
        self.network, self.dt_h = network, community.dt_h
        self.guarded = network.can_be_exceeded(community.fleet, scenarios.mean_load_kw, scenarios.mean_pv_kw)
        upper = np.array([side.is_upper for side in network.sides])
        self.watch = Watch(
            np.asarray(self.guarded.any(axis=(0, 2))), np.asarray(self.guarded[upper].any(axis=(0, 2))), rho
        )
        self._multipliers: list[FloatArray] = []
        self._kept: list[FloatArray] = []
        self.fallbacks: list[str] = []

    def meet(self, is_fixed: BoolArray) -> None:
        """Set up, knowing which net imports and consumptions follow from what is no decision [h,N,2]."""
        self._shape = is_fixed.shape
        variables, equal, below = Variables(), Rows(), Rows()
        moves = self.watch.hours[:, None, None] & ~is_fixed
        self._move = variables.add(is_fixed.shape, lower=-np.inf, quadratic=1.0 / self.watch.rho, present=moves)
        most = self.dt_h * self.network.price_ct_per_pu_h / EXCESS_PER_PU
        self._multiplier = [
            variables.add(guarded.shape, upper=most, present=np.asarray(guarded)) for guarded in self.guarded
        ]
        rows = equal.add(np.zeros(is_fixed.shape), present=moves)
        equal.put(rows, self._move, 1.0)
        for side, multiplier in zip(self.network.sides, self._multiplier, strict=True):
            for i, slope in enumerate((side.per_import, side.per_consumption)):
                equal.put(rows[:, None, :, i], multiplier[:, :, None], -EXCESS_PER_PU * slope)
        # Of a bus that may leave either limit the one that it is further beyond counts.
        both = below.add(np.full(self.guarded.shape[1:], most), present=np.asarray(self.guarded.sum(axis=0) > 1))
        for multiplier in self._multiplier:
            below.put(both, multiplier, 1.0)
        self._curvature = variables.vector("quadratic")
        limits = variables.vector("lower"), variables.vector("upper")
        self._rest: tuple[Any, ...] = (*equal.finish(variables.size), *below.finish(variables.size), *limits)
        self._program = InteriorPoint(
            self._curvature, *self._rest, tolerance=LOCAL_TOLERANCE, acceptable=ACCEPTABLE
        )  # fmt: skip

    def answer(self, wanted_kw: FloatArray) -> FloatArray:
        """What everybody should draw, from what they would and their prices, y + mu / rho; the same where unwatched.

        Both [h,N,2]. Raises `SolverError` when the general solvers fail, too.
        """
        c = np.zeros(self._curvature.size)
        for side, guarded, multiplier in zip(self.network.sides, self.guarded, self._multiplier, strict=True):
            beyond_pu = side.beyond_pu(wanted_kw[:, :, 0], wanted_kw[:, :, 1])
            c[multiplier[guarded]] = -EXCESS_PER_PU * beyond_pu[guarded]
        try:
            x = self._program.solve(c).x
        except SolverError as error:
            _log.warning("operator: %s; the general solvers are asked", error)
            self.fallbacks.append(str(error))
            x = solve_qp(sp.diags(self._curvature), c, *self._rest).x
        x = np.append(x, 0.0)
        self._multipliers = [np.asarray(x[multiplier]) for multiplier in self._multiplier]
        return np.asarray(wanted_kw - x[self._move] / self.watch.rho)

    def keep(self) -> None:
        """Remember this round as the best so far."""
        self._kept = self._multipliers

    @property
    def node_price_ct_per_kw(self) -> FloatArray:
        """What a kW more of either at each node costs in voltages, in the best round [h,N,2]."""
        price = np.zeros(self._shape)
        for side, kept in zip(self.network.sides, self._kept, strict=True):
            for i, slope in enumerate((side.per_import, side.per_consumption)):
                price[:, :, i] += EXCESS_PER_PU * np.einsum("hk,hkn->hn", kept, slope)
        return price

    @property
    def least_cost(self) -> float:
        """What voltages cost at least, less what the nodal prices bring in: a bound from the best round's prices."""
        parts = [np.sum(kept * side.idle_pu) for side, kept in zip(self.network.sides, self._kept, strict=True)]
        return EXCESS_PER_PU * float(np.sum(parts))

    def excess_pu_h(self, drawn_kw: FloatArray) -> float:
        """How far voltages are expected beyond their limits, all buses and hours watched, from what is drawn."""
        beyond = self.network.excess_pu(drawn_kw[:, :, 0], drawn_kw[:, :, 1])
        return self.dt_h * float(beyond[self.watch.hours].sum())
