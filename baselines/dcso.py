"""`dcso`: neighbours pool the days that each finds near, and find their plan among themselves.

Distributed contextual stochastic optimization, arXiv 2409.00493. Every prosumer looks for the k training days whose
contexts are nearest to its own; its scenarios are those days with weight tau and, with weight 1 - tau, those that its
neighbours have found (consensus kNN, `weights.cknn`). What neighbours tell one another is the numbers of days. The plan
is that of the core problem with these weights, found by consensus ADMM (`admm`), in which they exchange estimates of
their trades: so neither contexts nor loads nor costs of a prosumer are known to anybody else.

(tau, k) is a bilevel problem: what counts is what the plans cost on days that they did not know (`bilevel_search`).
`prosumer-gym tune dcso` solves it by rolling origin, where a day is planned from days before it alone. The sum that the
paper writes lets a day be its own neighbour: then k = 1 and tau = 1 know the day and win whatever the data.

Axis letters: D training days, N prosumers, E edges, H hours of a day, h remaining hours.
"""

from __future__ import annotations

import math

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.admm import AdmmState, consensus_admm
from prosumer_gym.baselines.bilevel_search import first_round, next_round
from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.day_ahead import Plan, Scenarios
from prosumer_gym.baselines.interior_point import compile_kernels
from prosumer_gym.baselines.policy import Observation, at_gate, hour_of
from prosumer_gym.baselines.scenario_policy import day_start
from prosumer_gym.baselines.tuned import GridPoint, Parameters
from prosumer_gym.baselines.weighted_saa import WeightedSampleAverage
from prosumer_gym.baselines.weights import cknn, nearest
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

ROUNDS_AT_THE_GATE, GATE_TOLERANCE = 400, 1e-4
"""Cap on the rounds of the day-ahead negotiation, and by how much prosumers may still differ."""
ROUNDS_IN_AN_HOUR, HOUR_TOLERANCE = 50, 3e-3
"""The same of an hour of the day, which starts from what was agreed the hour before. Measured on recorded days of
tehran-v0 and cambridge-2018: 21 rounds on average, 99 % of the hours end below the cap, and the plans cost at most 3e-5
more than the best; 1e-4 takes 114 rounds."""

AT_CAP = "ADMM at its cap"
SOLVER_FELL_BACK = "a prosumer's problem left to the general solvers"

_KS = (1, 2, 3, 5, 7, 10, 15, 25, 40)
_WIDTH = 0.1
"""Of the two cells of tau in which tuning ends: closer together costs differ by less than chance."""
_NUM_KS = 3
"""Of how many k tuning refines tau."""


class ConsensusNearestDays(WeightedSampleAverage):
    """The k days that each finds nearest count for itself with weight tau, those of its neighbours with 1 - tau.

    At the gate the prosumers negotiate the whole day. In mode "mpc" they negotiate the rest of the day every hour, from
    where they stood the hour before. A negotiation that reaches its cap of rounds ends with the trades of its best
    round, which can be carried out; it is counted in `fallbacks`. `diagnostics` tells of the last negotiation. With
    `network` the operator of the feeder takes part in it. With `central` one solver that knows everything finds the
    same plans.

    By default k is the root of D, and tau one half.
    """

    tuned_as = "dcso"
    k: int
    tau: float

    def __init__(
        self,
        mode: str = "mpc",
        *,
        k: int | None = None,
        tau: float | None = None,
        permuted: bool = False,
        network: bool = False,
        central: bool = False,
    ) -> None:
        if (k is None) != (tau is None):
            raise UsageError(f"dcso: k is {k} and tau is {tau}; give both, or neither for those tuned together")
        super().__init__(mode, {"k": k, "tau": tau}, permuted=permuted, network=network)
        self.central = central
        self.diagnostics: dict[str, bool | int | float] = {}
        self._agreed: tuple[int, AdmmState] | None = None

    @classmethod
    def candidates(cls, num_days: int) -> list[Parameters]:
        """The grid of the bilevel search, from the single nearest day to 40; with neighbours that is 100 and more."""
        return [{"k": k, "tau": tau} for tau, k in first_round(k for k in _KS if k <= num_days)]

    @classmethod
    def refined(cls, points: list[GridPoint]) -> list[Parameters]:
        """Golden section for tau, of the best k."""
        values = {(float(p.parameters["tau"]), int(p.parameters["k"])): p.mean_cost_ct for p in points}
        return [{"k": k, "tau": round(tau, 3)} for tau, k in next_round(values, width=_WIDTH, num_ks=_NUM_KS)]

    @classmethod
    def default(cls, num_days: int, num_features: int) -> Parameters:  # noqa: ARG003
        """The root of the number of days, rounded up; its own days count as much as its neighbours'."""
        return {"k": math.ceil(math.sqrt(num_days)), "tau": 0.5}

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn where the training days lie; raises `UsageError` for a market without edges, besides."""
        if community.market.offers != "edges":
            raise UsageError(f"dcso: neighbours trade over edges, and {community.mechanism!r} has none; use bilateral")
        super().fit(community, history)
        if not self.central:
            compile_kernels()

    def reset(self, seed: int) -> None:
        """Forget plans and what was agreed, too."""
        super().reset(seed)
        self.diagnostics, self._agreed = {}, None

    def weights(self, context: Context) -> FloatArray:
        """Those of consensus kNN."""
        named = nearest(self.distances(context), self.k)
        return cknn(named, self.community.graph, self.tau, self.k)

    def day_plan(self, obs: Observation) -> Plan:
        """The gate's plan by the central solver: the same plan sooner, for tuning, which asks for thousands."""
        return super()._solve(obs, self.scenarios(obs), None)

    def _solve(self, obs: Observation, scenarios: Scenarios, position_kw: FloatArray | None) -> Plan:
        if self.central:
            return super()._solve(obs, scenarios, position_kw)
        hour, gate = hour_of(obs), at_gate(obs)
        if gate:
            self._agreed = None  # of another day
        found = consensus_admm(
            self.community,
            day_start(obs, position_kw),
            scenarios,
            network=self._penalty(obs),
            tolerance=GATE_TOLERANCE if gate else HOUR_TOLERANCE,
            max_iterations=ROUNDS_AT_THE_GATE if gate else ROUNDS_IN_AN_HOUR,
            warm=None if self._agreed is None else self._agreed[1].later(hour - self._agreed[0]),
        )
        self._agreed = (hour, found.state)
        if not found.converged:
            self.fallbacks[AT_CAP] += 1
        if found.plan.fallbacks:
            self.fallbacks[SOLVER_FELL_BACK] += 1
        self.diagnostics = {
            "rounds": found.iterations,
            "converged": found.converged,
            "disagreement_kw": float(found.residuals.disagreement_kw[-1]),
            "above_bound_ct": found.plan.objective_ct - found.plan.lower_bound_ct,
        }
        return found.plan
