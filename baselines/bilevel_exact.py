"""The exact choice of consensus kNN's tau and k, on instances small enough for it.

`cknn` weighs the training days by tau (how much a prosumer relies on its own nearest days, and not on its neighbours')
and k (how many days each names). arXiv 2409.00493 chooses both by what the plans cost in the end, a bi-level problem:

    minimise over (tau, k)   F = sum_i C(z^i; xi^i)    where   z^i = argmin_z sum_j w^j(X^i; tau, k) C(z; xi^j)

Here C(z; xi^i), the cost of plan z on training day i, includes the best recourse of that day (`planning.evaluate`), and
the inner problem is the day-ahead core problem with its regulariser, which makes the plan unique.

Three things in print are different here, because they are wrong there:

- Its weights of day i admit day i itself. With k = 1 and tau = 1 every plan then knows its own day, costs least that
  way whatever the data, and nothing has been learnt. Here a day does not answer for itself. Days of a data set have
  others in their past, and `BilevelInstance.of_contexts` takes who may answer for whom (`weights.leave_one_out`).
- Its weights lack the factors 1 / k and 1 / (number of neighbours), without which they do not sum to one.
- Its single-level program is called a mixed-integer linear one. Wear and discomfort are quadratic, so that it is a
  quadratic one, for which HiGHS has no solver: `bilevel_milp` bounds it by tangents.

Axis letters: D training days, N prosumers, P features of a context, K candidates of k, H hours of a day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.bilevel_lower import lower_level
from prosumer_gym.baselines.bilevel_milp import ROOM, SingleLevel, TrainingDay
from prosumer_gym.baselines.bilevel_search import TAUS
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, solve_core
from prosumer_gym.baselines.planning import DayStart, Scenarios, evaluate
from prosumer_gym.baselines.solve import SolverError
from prosumer_gym.baselines.weights import among, cknn, distances, nearest
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous

_TOLERANCE = 1e-9
"""Of the plans' residuals. The regulariser is small, so that a small error of a price moves a position by much."""

_ANEW = 1e-4
"""How much the cost of plans made anew may differ, relative: where F is steep, tau has too few digits."""


@dataclass(frozen=True)
class Choice:
    """A (tau, k) and what it costs on the training days."""

    tau: float
    k: int
    objective_ct: float
    """F at (tau, k)."""


@dataclass(frozen=True)
class ExactChoice(Choice):
    """The best (tau, k), with its proof."""

    lower_bound_ct: float
    """No (tau, k) costs less."""
    program_ct: float
    """Optimum of the last mixed-integer program, whose tangents lie below the cost."""
    program_choice: tuple[float, int]
    """Its own (tau, k): one as good, where several are."""
    complementarity: float
    """Largest product of a multiplier and the slack that it belongs to, in that optimum, ct."""
    num_binaries: int
    rounds: int
    """Mixed-integer programs solved, each with more tangents."""
    num_nodes: int
    """Of all their search trees."""


@dataclass(frozen=True, eq=False)
class BilevelInstance:
    """Training days, and whom to ask about each: all that the choice of (tau, k) depends on."""

    community: Community
    days: Exogenous
    ks: tuple[int, ...]
    """Candidates [K]."""
    own: FloatArray
    """Weights of the days j for day i at tau = 1: the own nearest days of each prosumer [K,D(i),N,D(j)]."""
    pooled: FloatArray
    """Those at tau = 0: its neighbours' nearest days [K,D,N,D]."""
    regulariser: float = REGULARISER_CT_PER_KW2

    @classmethod
    def of_contexts(
        cls,
        community: Community,
        days: Exogenous,
        vectors: FloatArray,
        ks: tuple[int, ...],
        eligible: BoolArray | None = None,
    ) -> Self:
        """From the prosumers' contexts of the days.

        Args:
            community: who plans; neighbours are those of its trade graph.
            days: the D training days.
            vectors: their contexts [D,N,P] (`weights.ContextScaler`).
            ks: candidates of k.
            eligible: whether day j may answer for day i [D(i),D(j)]; by default all others may.

        Raises:
            UsageError: a k below 1 or above the number of days that may answer, or shapes that disagree.
        """
        num_days, num_prosumers = days.num_days, community.num_prosumers
        if np.shape(vectors)[:2] != (num_days, num_prosumers) or np.shape(days.load_kw)[2] != num_prosumers:
            raise UsageError(
                f"bi-level instance: contexts of shape {np.shape(vectors)} for {num_days} days of "
                f"{np.shape(days.load_kw)[2]} prosumers in a community of {num_prosumers}, expected [D,N,P]"
            )
        if not ks or len(set(ks)) < len(ks):
            raise UsageError(f"bi-level instance: candidates of k {ks}, expected one or more different numbers")
        may = ~np.eye(num_days, dtype=np.bool_) if eligible is None else eligible
        distance = among(distances(vectors, vectors), may)

        def weights(tau: float) -> FloatArray:
            return np.array(
                [[cknn(near, community.graph, tau, k) for near in nearest(distance, k)] for k in ks]
            )  # fmt: skip

        return cls(community, days, ks, weights(1.0), weights(0.0))

    def alone(self, prosumer: int) -> Self:
        """One prosumer without trade, which still hears of its neighbours' days."""
        fleet, days = self.community.fleet, self.days
        only = Fleet(**{name: getattr(fleet, name)[[prosumer]] for name in Fleet.__dataclass_fields__})
        community = self.community.replace(fleet=only, graph=TradeGraph.ring_with_chords(1))
        by_prosumer = {
            name: getattr(days, name)[:, :, [prosumer]] for name in ("load_kw", "pv_kw", "shiftable_ref_kw")
        }  # fmt: skip
        return replace(
            self, community=community, days=replace(days, **by_prosumer), own=self.own[:, :, [prosumer]],
            pooled=self.pooled[:, :, [prosumer]],
        )  # fmt: skip

    def weights(self, tau: float, k: int) -> FloatArray:
        """Weights of the days j for each day i [D(i),N,D(j)]."""
        number = self.ks.index(k)
        return np.asarray(tau * self.own[number] + (1.0 - tau) * self.pooled[number])

    def start(self, day: int) -> DayStart:
        """The gate of a training day, batteries at their first state of charge."""
        num_prosumers = self.community.num_prosumers
        return DayStart(
            0, np.array(self.community.fleet.soc_initial_kwh), np.zeros(num_prosumers), np.zeros(num_prosumers),
            np.array(self.days.shiftable_ref_kw[day]), np.array(self.days.price_da_ct_per_kwh[day]),
        )  # fmt: skip

    def scenarios(self, which: IntArray, weights: FloatArray) -> Scenarios:
        """Training days as scenarios with weights [S] or [N,S]."""
        days = self.days
        return Scenarios(days.load_kw[which], days.pv_kw[which], days.price_rt_ct_per_kwh[which], weights)

    @cached_property
    def training(self) -> list[TrainingDay]:
        """Every training day with its inner problem, in which all days are scenarios that some (tau, k) weighs."""
        days, tariff, dt_h = self.days, self.community.tariff, self.community.dt_h
        prices = tariff.settlement_prices(days.price_da_ct_per_kwh, days.price_rt_ct_per_kwh)
        num_ks = len(self.ks)
        weighed = (self.own + self.pooled).max(axis=0) > 0
        return [
            TrainingDay(
                lower_level(self.community, self.start(i), days, weighed[i], regulariser=self.regulariser),
                self.own[:, i].reshape(num_ks, -1),
                self.pooled[:, i].reshape(num_ks, -1),
                days.load_kw[i] - days.pv_kw[i],
                dt_h * prices.rt_buy[i],
                dt_h * prices.rt_sell[i],
                tariff.demand_charge_ct_per_kw,
            )
            for i in range(days.num_days)
        ]

    def training_cost_ct(self, tau: float, k: int) -> float:
        """F: the plans that (tau, k) leads to, each at what it costs on its own day.

        By `solve_core` and `evaluate`, which know nothing of the matrices that the exact choice is made of.
        """
        total = 0.0
        for i, weights in enumerate(self.weights(tau, k)):
            which = np.flatnonzero(weights.max(axis=0) > 0)
            plan = solve_core(
                self.community, self.start(i), self.scenarios(which, weights[:, which]),
                regulariser=self.regulariser, tolerance=_TOLERANCE,
            )  # fmt: skip
            actual = self.scenarios(np.array([i]), np.ones(1))
            total += evaluate(plan, self.community, self.start(i), actual).total_ct
        return total


def brute_force(instance: BilevelInstance, *, cells: int = 40, refined: int = 3, width: float = 1e-6) -> Choice:
    """The best of every k and a grid of tau, by golden section in the best places of every k's grid.

    Args:
        instance: what to choose for.
        cells: of the grid of tau.
        refined: around how many of its points tau is refined.
        width: how far.
    """
    taus = np.linspace(0.0, 1.0, cells + 1)
    best = Choice(1.0, instance.ks[0], np.inf)
    for k in instance.ks:

        def cost_ct(tau: float, k: int = k) -> float:
            return instance.training_cost_ct(tau, k)

        costs = [cost_ct(float(tau)) for tau in taus]
        found = [(cost, float(tau)) for cost, tau in zip(costs, taus, strict=True)]
        found += [
            _golden(cost_ct, float(taus[max(at - 1, 0)]), float(taus[min(at + 1, cells)]), width)
            for at in np.argsort(costs, kind="stable")[:refined]
        ]
        cost, tau = min(found)
        if cost < best.objective_ct:
            best = Choice(tau, k, cost)
    return best


def exact_choice(
    instance: BilevelInstance, *, gap: float = 1e-6, room: float = ROOM, max_rounds: int = 10
) -> ExactChoice:
    """The best (tau, k), by the single-level mixed-integer program.

    A coarse grid gives a cost to beat and the first tangents. Then the program is solved, the plans of its (tau, k) are
    made anew as a check, and its own become tangents, until what these cost and its bound agree. Of equally good
    choices one of the grid is preferred.

    Args:
        instance: what to choose for, a few prosumers, hours and days.
        gap: how much the two may differ, relative to the cost; as much again is left open by the solver.
        room: bounds on multipliers are this multiple of what prices allow.
        max_rounds: programs to solve at most.

    Raises:
        UsageError: an instance whose plans are not unique (`lower_level`).
        SolverError: the gap stays open, the program excludes a (tau, k) that is known to cost less than its optimum,
            its plans are not those of its (tau, k), or a multiplier lies at its bound.
    """
    program = SingleLevel(instance.training, room=room)
    tried = [_try_out(instance, tau, k) for k in instance.ks for tau in TAUS]
    for trial in tried:
        program.add_tangents(trial.plans)
    best = min((trial.choice for trial in tried), key=lambda choice: choice.objective_ct)
    allowed = gap * abs(best.objective_ct)
    num_nodes = 0
    for number in range(1, max_rounds + 1):
        answer = program.solve(best.objective_ct + 100.0 * allowed)
        num_nodes += answer.num_nodes
        if answer.objective_ct > best.objective_ct + allowed:
            raise SolverError(f"single-level program: optimum {answer.objective_ct} ct, but {best} is known")
        plans = program.plans(answer)
        cost_ct = sum(day.cost_ct(plan) for day, plan in zip(instance.training, plans, strict=True))
        found = Choice(answer.tau, instance.ks[answer.number], cost_ct)
        anew = _try_out(instance, found.tau, found.k)
        if abs(anew.choice.objective_ct - cost_ct) > _ANEW * abs(cost_ct):
            raise SolverError(f"single-level program: its plans make {found}, plans made anew {anew.choice}")
        if found.objective_ct < best.objective_ct - allowed:
            best = found
        if best.objective_ct - answer.bound_ct <= 2.0 * allowed:
            return ExactChoice(
                best.tau, best.k, best.objective_ct, answer.bound_ct, answer.objective_ct, (found.tau, found.k),
                program.complementarity(answer), program.num_binaries, number, num_nodes,
            )  # fmt: skip
        program.add_tangents(plans)
        program.add_tangents(anew.plans)
    raise SolverError(
        f"single-level program: after {max_rounds} rounds its bound {answer.bound_ct} ct is still below {best}"
    )


class _Tried(NamedTuple):
    """A (tau, k) and its plans, one for every training day, as the inner problems number their variables."""

    choice: Choice
    plans: list[FloatArray]


def _try_out(instance: BilevelInstance, tau: float, k: int) -> _Tried:
    """Plans of the inner problems, and what they cost."""
    plans = [
        day.lower.solve(weights, tolerance=_TOLERANCE).x
        for day, weights in zip(instance.training, instance.weights(tau, k), strict=True)
    ]
    cost = sum(day.cost_ct(plan) for day, plan in zip(instance.training, plans, strict=True))
    return _Tried(Choice(tau, k, cost), plans)


def _golden(
    function: Callable[[float], float], low: float, high: float, width: float
) -> tuple[float, float]:  # fmt: skip
    """Value and place of a minimum between `low` and `high`, to `width`."""
    ratio = 0.5 * (5.0**0.5 - 1.0)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > width:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return min((at_left, left), (at_right, right))
