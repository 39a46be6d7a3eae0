"""The operator of the feeder in a negotiation: it prices the voltages that the prosumers' plans lead to.

The core problem's price on expected voltages beyond their limits (`network`) couples all prosumers. In the distributed
form the operator takes it over. Of each prosumer it learns what the prosumer expects to draw in the hours ahead: its
net import y and its consumption l, on which reactive power depends. It answers with what it would have everybody draw,

    minimise  sum over watched hours of  rho/2 |y^ - y - mu/rho|^2 + rho/2 |l^ - l - nu/rho|^2 + price excess(y^, l^)

a small quadratic program in 2N numbers and an excess for each bus that might leave its limits. In consensus ADMM the
operator stands beside the edges (`admm`): prosumers are one block, edges and operator the other, so that it converges
like without. mu and nu move like the prices of trades, and in the end they are the nodal prices: what a kW more at a
prosumer's node costs in voltages. After arXiv 2505.21884, whose prosumers agree with their operator in this way hour by
hour. Hours in which no limit can be exceeded are not watched, and where none can be, there is no operator.

Axis letters: N prosumers, K buses, h remaining hours, w watched hours.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.baselines.assembly import ABSENT, Rows, Variables
from prosumer_gym.baselines.core_matrices import EXCESS_PER_PU
from prosumer_gym.baselines.interior_point import InteriorPoint
from prosumer_gym.baselines.local_problem import LOCAL_TOLERANCE, Watch
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import Scenarios
from prosumer_gym.community import Community


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
        self.watch = Watch(self.guarded.any(axis=(0, 2)), self.guarded[upper].any(axis=(0, 2)), rho)
        self._shape = (self.watch.hours.size, community.num_prosumers, 2)
        self._multipliers = self._kept = np.zeros(0)

    def meet(self, is_fixed: BoolArray, at_rest_kw: FloatArray) -> None:
        """Set up, knowing which of net import and consumption follow from what is no decision, and those [h,N,2]."""
        watched = self.watch.hours
        variables, below = Variables(), Rows()
        self._drawn = variables.add(
            self._shape, lower=np.where(is_fixed, at_rest_kw, -np.inf), upper=np.where(is_fixed, at_rest_kw, np.inf),
            quadratic=self.watch.rho, present=np.broadcast_to(watched[:, None, None], self._shape),
        )  # fmt: skip
        excess = variables.add(
            self.guarded.shape[1:],
            linear=self.dt_h * self.network.price_ct_per_pu_h / EXCESS_PER_PU,
            present=np.asarray(self.guarded.any(axis=0)),
        )
        for side, guarded in zip(self.network.sides, self.guarded, strict=True):
            rows = below.add(-EXCESS_PER_PU * side.idle_pu, present=guarded)
            below.put(rows, excess, -1.0)
            for i, slope in enumerate((side.per_import, side.per_consumption)):
                below.put(rows[:, :, None], self._drawn[:, None, :, i], EXCESS_PER_PU * slope)
        self._G, self._h = below.finish(variables.size)
        self._cost = variables.vector("linear")
        self._program = InteriorPoint(
            variables.vector("quadratic"), sp.csr_matrix((0, variables.size)), np.zeros(0), self._G, self._h,
            variables.vector("lower"), variables.vector("upper"), tolerance=LOCAL_TOLERANCE,
        )  # fmt: skip

    def answer(self, wanted_kw: FloatArray) -> FloatArray:
        """What everybody should draw, from what they would and their prices, y + mu / rho; the same where unwatched.

        Both [h,N,2]. Raises `SolverError`.
        """
        there = self._drawn != ABSENT
        c = self._cost.copy()
        c[self._drawn[there]] -= self.watch.rho * wanted_kw[there]
        found = self._program.solve(c)
        self._multipliers = found.z
        return np.where(there, np.append(found.x, 0.0)[self._drawn], wanted_kw)

    def keep(self) -> None:
        """Remember this round as the best so far."""
        self._kept = self._multipliers

    @property
    def node_price_ct_per_kw(self) -> FloatArray:
        """What a kW more of either at each node costs in voltages, in the best round [h,N,2]."""
        return np.asarray(np.append(self._G.T @ self._kept, 0.0)[self._drawn])

    @property
    def least_cost(self) -> float:
        """What voltages cost at least, less what the nodal prices bring in: a bound from the best round's prices."""
        return -float(self._h @ self._kept)

    def excess_pu_h(self, drawn_kw: FloatArray) -> float:
        """How far voltages are expected beyond their limits, all buses and hours watched, from what is drawn."""
        beyond = self.network.excess_pu(drawn_kw[:, :, 0], drawn_kw[:, :, 1])
        return self.dt_h * float(beyond[self.watch.hours].sum())
