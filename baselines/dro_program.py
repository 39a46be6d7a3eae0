"""The distributionally robust day: two stages, two time scales, and a rule for the energy bought in real time.

After the two-stage multi-time-scale distributionally robust optimization of prosumers with joint chance constraints
(Tabriz J. Electr. Eng.). What prosumer n's net load deviates from its forecast mu_h in hour h is C_n xi_h, with the
nominal power C_n and a deviation xi in p.u. The first stage (position, battery, shiftable load, trades) supplies x_h.
Real time is planned by a linear decision rule without intercept,

    q_h(xi) = C_n theta_h xi_h,   0 <= theta_h <= 1,   C_n theta_h |xi_h| <= band on the support,

so that it answers what it sees in hour h and cannot speculate between the two markets. The core problem
(`core_matrices`) is changed in two places, the rest stays:

- Cost. The recourse gives way to the largest expectation, over the distributions of xi within rho_obj of the scenarios
  (type-1 Wasserstein, 1-norm, each prosumer's own ball), of sum_h max(c+_h q_h, c-_h q_h) with each scenario's prices.
  What is supplied beyond the rule earns nothing in the plan, though the market will pay for it.
- Reliability. The shortfall C_n (mu_h + xi_h) - x_h - q_h(xi) is at most 0 with a probability of 1 - level in every
  hour, for all distributions within rho_cc of the sampled deviations. Its largest CVaR has a closed form, and the
  constraint is  x_h >= C_n mu_h + C_n (1 - theta_h) kappa_h  (`wasserstein.worst_case_cvar`): not a row a sample, so
  that all training days can be samples. Where it cannot be kept the missing energy is bought at the emergency price.
  With theta = 1 it is slack: only the band makes this a trade-off.

In real time the position stands and the rule of the remaining hours is decided anew: xi is still what deviates from the
forecast of the gate, of which a part is known by now. The hour that is observed needs no rule: what it lacks is bought
and what it has over is sold at its prices.

Why the largest expected cost needs few rows. Every scenario's hour can be carried to either end of the support, each
at a gain per distance of its own; the ball's radius is a budget of distance. Within an hour (of one theta) the
best-paying scenarios whose mass and room use the whole budget up leave nothing to the others, so those have no row.

Axis letters: N prosumers, S scenarios, D sampled deviations, h remaining hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.assembly import ABSENT
from prosumer_gym.baselines.core_matrices import CoreBuild, CoreMatrices
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, plan_of, solve_matrices
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import DayStart, Plan, Scenarios
from prosumer_gym.baselines.solve import DEFAULT_TOLERANCE
from prosumer_gym.baselines.trades import trade_form
from prosumer_gym.baselines.wasserstein import check_level, check_radius, worst_case_cvar
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError

EMERGENCY_FACTOR = 10.0
"""Energy that a reliability constraint lacks costs this multiple of the dearest real-time price."""

_NO_ROOM_PU = 1e-9
_ROUNDING_PU = 1e-9


@dataclass(frozen=True, eq=False)
class Deviations:
    """What the net loads of the remaining hours may deviate from the forecast of the gate. Raises `UsageError`."""

    nominal_kw: FloatArray
    """The power that one p.u. stands for [N]."""
    expected_kw: FloatArray
    """Forecast of the gate of load minus PV, the shiftable load apart [h,N]."""
    samples_pu: FloatArray
    """Equally likely; in real time those that are still to be expected [D,h,N]."""
    low_pu: FloatArray
    high_pu: FloatArray
    """Bounds of the support, around samples and scenarios [h,N]."""

    def __post_init__(self) -> None:
        if np.min(self.nominal_kw) <= 0:
            raise UsageError("deviations.nominal_kw: must be positive")
        shape = self.samples_pu.shape[1:]
        for name in ("expected_kw", "low_pu", "high_pu"):
            if getattr(self, name).shape != shape:
                raise UsageError(f"deviations.{name}: shape {getattr(self, name).shape}, expected {shape}")
        if np.any(self.samples_pu < self.low_pu) or np.any(self.samples_pu > self.high_pu):
            raise UsageError("deviations.samples_pu: beyond the support; widen low_pu and high_pu")

    def of(self, net_load_kw: FloatArray) -> FloatArray:
        """Deviations, p.u. [...,h,N], of net loads [...,h,N]."""
        return np.asarray((net_load_kw - self.expected_kw) / self.nominal_kw)


@dataclass(frozen=True, eq=False)
class Robustness:
    """What a plan is to withstand. Raises `UsageError` for a negative radius or a level outside (0, 1)."""

    rho_obj: float
    """Radius of the ball that the expected cost is the largest of, p.u.; 0 trusts the scenarios."""
    rho_cc: float
    """Radius of the ball that the reliability holds for, p.u.; 0 trusts the samples."""
    level: float
    """How often an hour's supply may fall short of the rule. For all hours of a day together: a share of 1/H each."""
    band_kw: FloatArray
    """What the rule may buy or sell at most [N]; infinite for no bound."""
    surplus_kw: FloatArray | None = None
    """If given, supply may exceed the rule by more than this as rarely as it falls short of it [N]."""

    def __post_init__(self) -> None:
        check_radius("rho_obj", self.rho_obj)
        check_radius("rho_cc", self.rho_cc)
        check_level("eps", self.level)
        if np.min(self.band_kw) < 0 or np.any(np.isnan(self.band_kw)):
            raise UsageError("band_kw: the band of real-time energy must not be negative")


@dataclass(frozen=True, eq=False)
class RobustPlan:
    """A plan, and the rule by which it answers deviations."""

    plan: Plan
    rule: FloatArray
    """Theta: the share of an hour's deviation that is left to real time [h,N]; 0 where nothing is uncertain."""
    kappa_pu: FloatArray
    """The deviation that the supply must withstand where the rule does not answer it [h,N]."""
    emergency_kw: FloatArray
    """What the supply lacks of being reliable, and has over, bought at the emergency price [h,N]."""
    expected_kw: FloatArray
    """Net load from which the rule counts deviations [h,N]."""

    def real_time_kw(self, net_load_kw: FloatArray) -> FloatArray:
        """What the rule buys in real time [...,h,N] when the net load comes to this [...,h,N]."""
        return np.asarray(self.rule * (net_load_kw - self.expected_kw))


def solve_dro(
    community: Community,
    start: DayStart,
    scenarios: Scenarios,
    deviations: Deviations,
    robustness: Robustness,
    *,
    regulariser: float = REGULARISER_CT_PER_KW2,
    network: NetworkPenalty | None = None,
    solver: str = "piqp",
    tolerance: float = DEFAULT_TOLERANCE,
) -> RobustPlan:
    """The robust plan for the remaining hours; arguments of both names as `day_ahead.solve_core`.

    Raises `UsageError` for inputs that do not fit together, `SolverError` when no solver reaches the tolerance.
    """
    build = _RobustBuild(community, start, scenarios, deviations, robustness)
    matrices = build.matrices(regulariser, network)
    solution = solve_matrices(matrices, solver=solver, tolerance=tolerance)
    x = np.append(np.clip(solution.x, matrices.lb, matrices.ub), 0.0)  # the absent, number -1, read this zero
    return RobustPlan(
        plan=plan_of(community, start, matrices, solution),
        rule=np.asarray(x[build.rule]),
        kappa_pu=build.kappa_pu,
        emergency_kw=np.asarray(sum(x[columns] for columns in build.emergency)),
        expected_kw=deviations.expected_kw,
    )


class _RobustBuild(CoreBuild):
    """The core problem with a rule in place of its recourse; arrays in the axis order [h,N,S]."""

    def __init__(
        self,
        community: Community,
        start: DayStart,
        scenarios: Scenarios,
        deviations: Deviations,
        robustness: Robustness,
    ) -> None:
        super().__init__(community, start, scenarios, False, trade_form(community))
        if deviations.expected_kw.shape != (self.hours, self.num_prosumers):
            raise UsageError(
                f"deviations: shape {deviations.expected_kw.shape}, expected {(self.hours, self.num_prosumers)}"
            )
        self.deviations, self.robustness = deviations, robustness
        self.xi = deviations.of(scenarios.load_kw - scenarios.pv_kw).transpose(1, 2, 0)
        low, high = deviations.low_pu[:, :, None], deviations.high_pu[:, :, None]
        if np.any(self.xi < low - _ROUNDING_PU) or np.any(self.xi > high + _ROUNDING_PU):
            raise UsageError("scenarios: net loads beyond the support of their deviations; widen low_pu and high_pu")
        self.xi = np.clip(self.xi, low, high)
        self.planned = np.ones(self.hours, dtype=np.bool_)  # not yet observed
        self.planned[0] = start.position_kw is None
        self.kappa_pu = self._kappa(1.0)
        self.rule = np.full(self.may_throw.shape[:2], ABSENT, dtype=np.int64)
        self.emergency: list[IntArray] = []

    def _kappa(self, sign: float) -> FloatArray:
        """What deviations in the direction of `sign` must be withstood [h,N]."""
        d = self.deviations
        count = len(d.samples_pu)
        return worst_case_cvar(
            sign * d.samples_pu, np.full(count, 1.0 / count), d.high_pu if sign > 0 else -d.low_pu,
            radius=self.robustness.rho_cc, level=self.robustness.level,
        )  # fmt: skip

    def matrices(self, regulariser: float, network: NetworkPenalty | None) -> CoreMatrices:
        """The whole program."""
        if network is not None and network.price_ct_per_pu_h > 0:
            self.guard(network)
            # What is over in later hours earns nothing in the plan, and is not thrown away in it.
            self.may_throw[:] = False
        columns = self.first_stage(regulariser)
        columns = self.battery(columns)
        self.shiftable(columns)
        supply = self.supply(columns)
        self.pool_balance(columns)
        self.sales_limit(columns)
        self.settle_observed(supply)
        self.decide_rule()
        self.doubt()
        self.reliability(supply)
        thrown = np.full(self.xi.shape, ABSENT, dtype=np.int64)
        self.demand_charge(columns, thrown)
        return self.finish(self.voltages(columns, thrown))

    def settle_observed(self, supply: IntArray) -> None:
        """What the observed hour lacks is bought, what it has over is sold."""
        here = np.broadcast_to(~self.planned[:, None], supply.shape)
        rows = self.equal.add(self.net_load_kw[:, :, 0], present=here)
        self.equal.put(rows, supply, 1.0)
        for price, sign in ((self.rt_buy, 1.0), (self.rt_sell, -1.0)):
            cost = sign * self.community.dt_h * price[:, :, 0]
            self.equal.put(rows, self.variables.add(supply.shape, linear=cost, present=here), sign)

    def cost_per_share(self, xi: FloatArray) -> FloatArray:
        """What a rule of theta = 1 pays for deviations [h,N,S], ct."""
        kwh = self.community.dt_h * self.deviations.nominal_kw[:, None] * xi
        return np.maximum(self.rt_buy * kwh, self.rt_sell * kwh)

    def decide_rule(self) -> None:
        """Theta of all hours to come, at its expected cost under the scenarios."""
        d, band_kw = self.deviations, self.robustness.band_kw
        largest = np.maximum(np.abs(d.low_pu), np.abs(d.high_pu)) * d.nominal_kw
        most = np.divide(band_kw, largest, out=np.ones_like(largest), where=largest > band_kw)
        self.rule = self.variables.add(
            most.shape,
            upper=most,
            linear=(self.weights * self.cost_per_share(self.xi)).sum(axis=2),
            present=self.planned[:, None] & (largest > _NO_ROOM_PU * d.nominal_kw) & (most > 0),
        )

    def doubt(self) -> None:
        """What the worst distribution of the ball adds to the expected cost of the rule."""
        radius = self.robustness.rho_obj
        if radius == 0:
            return
        here = self.cost_per_share(self.xi)
        ends = []
        for bound, sign in ((self.deviations.high_pu, 1.0), (self.deviations.low_pu, -1.0)):
            room = sign * (bound[:, :, None] - self.xi)
            gain = self.cost_per_share(np.broadcast_to(bound[:, :, None], room.shape)) - here
            ends.append((gain, room))
        carried = self._worth_carrying(ends, radius) & (self.rule != ABSENT)[:, :, None]
        nominal_kw = self.deviations.nominal_kw
        # Of distance, in ct/kW: multiplied by the nominal power it is the L of the equations.
        price = self.variables.add((self.num_prosumers,), linear=radius * nominal_kw)
        extra = self.variables.add(carried.shape, linear=self.weights, present=carried)
        for gain, room in ends:
            rows = self.below.add(np.zeros(carried.shape), present=carried & (gain > 0))
            self.below.put(rows, self.rule[:, :, None], gain)
            self.below.put(rows, price[:, None], -room * nominal_kw[:, None])
            self.below.put(rows, extra, -1.0)

    def _worth_carrying(self, ends: list[tuple[FloatArray, FloatArray]], radius: float) -> BoolArray:
        """The scenarios of each hour that the radius can reach before better ones have used it up [h,N,S]."""
        slopes = np.stack([
            np.divide(gain, room, out=np.zeros_like(gain), where=room > _NO_ROOM_PU) for gain, room in ends
        ])  # fmt: skip
        best = slopes.argmax(axis=0)[None]
        slope = np.take_along_axis(slopes, best, axis=0)[0]
        room = np.take_along_axis(np.stack([room for _, room in ends]), best, axis=0)[0]
        order = np.argsort(-slope, axis=2, kind="stable")
        used = np.take_along_axis(self.weights * room, order, axis=2)
        before = np.cumsum(used, axis=2) - used
        reached = np.empty(slope.shape, dtype=np.bool_)
        np.put_along_axis(reached, order, before < radius, axis=2)
        reached &= (slope > 0) & (self.weights > 0)
        return reached

    def reliability(self, supply: IntArray) -> None:
        """Supply withstands kappa where the rule does not answer, and, if asked for, is not too much."""
        d = self.deviations
        price = EMERGENCY_FACTOR * self.community.dt_h * float(np.abs(self.rt_buy).max())
        present = np.broadcast_to(self.planned[:, None], supply.shape)
        sides: list[tuple[float, FloatArray, float | FloatArray]] = [(1.0, self.kappa_pu, 0.0)]
        if self.robustness.surplus_kw is not None:
            sides.append((-1.0, self._kappa(-1.0), self.robustness.surplus_kw))
        for sign, kappa_pu, allowed_kw in sides:
            self.emergency.append(self.variables.add(supply.shape, linear=price, present=present))
            kappa_kw = d.nominal_kw * kappa_pu
            rows = self.below.add(allowed_kw - sign * d.expected_kw - kappa_kw, present=present)
            self.below.put(rows, supply, -sign)
            self.below.put(rows, self.rule, -kappa_kw)
            self.below.put(rows, self.emergency[-1], -1.0)
