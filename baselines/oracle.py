"""Perfect foresight: what no policy can beat, and what a perfect forecast alone is worth. For the scorer only.

Each oracle is handed the actual days of an episode and minimises one metric over everything a policy may do: position,
battery, shiftable load, curtailment in every hour, and trades matched centrally, under the rules of the community's
market mechanism and with the same value of the energy left at the end of the last day. The batteries begin at their
initial state of charge on the first day, and what they hold at midnight is there the next day (`oracle_episode`). The
oracle of the voltages has a module of its own, `oracle_voltage`.

The problems are relaxed in one respect, which keeps the bound valid: at negative prices they may charge and discharge
at once. The environment turns that into the one of equal effect on the state of charge, so that an episode played as
planned may cost more than `objective_ct` there, never less; the bound is the objective.

Axis letters: N prosumers, H hours of a day, D days of an episode, h = D H hours of the episode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.core_matrices import CoreMatrices
from prosumer_gym.baselines.day_ahead import solve_matrices
from prosumer_gym.baselines.oracle_episode import Episode
from prosumer_gym.baselines.planning import Plan
from prosumer_gym.baselines.solve import Solution, SolverError
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous

TOLERANCE = 1e-8
"""Scaled residuals of the oracles' solutions."""
_PEAK_CT_PER_KW = (1e5, 1e6, 1e7, 1e8)
"""What a kW of peak counts in the lowest-peak oracle. The first is more than a kW can save (ten times less already is),
but not always more than it costs to exchange a day's peak for one that counts a little less; then the next is tried."""


@dataclass(frozen=True, eq=False)
class OracleEpisode:
    """The best course of an episode in hindsight; a day on its own is an episode of one day."""

    actions: DayActions
    """Of its days, stacked: a leading axis D."""
    objective_ct: float
    """Community cost of the plan."""
    peak_kw: FloatArray
    """Largest exchange with the grid, max_h G+, of the plan on each day [D]."""
    attained: float
    """What the oracle minimises, by the plan: cost (ct), peaks (kW, see `oracle_peak`) or voltages (p.u. h)."""
    gap: float
    """Between `attained` and what is proven unbeatable, relative to 1 + its size."""

    @property
    def missed(self) -> float:
        """The gap in the unit of `attained`: by how much there may be better."""
        return self.gap * (1.0 + abs(self.attained))


def oracle_cost(community: Community, exogenous: Exogenous, episodes: Iterable[npt.ArrayLike]) -> list[OracleEpisode]:
    """The cheapest course of each episode: of the consecutive days in an array of rows of `exogenous`, or of one row.

    Raises `UsageError` for rows that are not such, `SolverError` when an episode is not solved within tolerance.
    """
    return [_oracle_cost(Episode.of(community, exogenous, rows)) for rows in episodes]


def _oracle_cost(episode: Episode) -> OracleEpisode:
    matrices = episode.program()
    solution = solve_matrices(matrices, tolerance=TOLERANCE)
    plan = episode.plan(matrices, solution)
    gap = max(0.0, plan.objective_ct - plan.lower_bound_ct) / (1.0 + abs(plan.objective_ct))
    return course_of(episode, matrices, solution, plan, plan.objective_ct, gap)


def oracle_peak(community: Community, exogenous: Exogenous, episodes: Iterable[npt.ArrayLike]) -> list[OracleEpisode]:
    """The lowest peaks of the community's exchange, and the cheapest course of each episode at them.

    What is minimised is the sum over days of max_h G+ over the mean gross demand of the day, as it is scored. It is
    `attained` in kW: multiplied by the mean gross demand of all days, so that of one day it is the peak itself.

    The least is proven by a linear program; a second program, where a kW of peak costs more than it can save, finds it
    again together with the cheapest course. (Capping the peaks instead leaves no interior: slow.)

    Raises as `oracle_cost`, `UsageError` for a day without load, `SolverError` when the two programs disagree.
    """
    return [_oracle_peak(Episode.of(community, exogenous, rows)) for rows in episodes]


def _oracle_peak(episode: Episode) -> OracleEpisode:
    matrices, num_days = episode.program(), len(episode)
    if np.any(episode.gross_demand_kw <= 0.0):
        row = episode.rows[np.argmin(episode.gross_demand_kw)]
        raise UsageError(
            f"oracle_peak: day in row {row}: no prosumer has any load to compare its peak with; leave it out"
        )
    weight = episode.gross_demand_kw.mean() / episode.gross_demand_kw
    only_peaks = _with_peaks(episode, matrices, _PEAK_CT_PER_KW[0] * weight, cost_scale=0.0)
    bound_kw = solve_matrices(only_peaks, solver="highs", tolerance=TOLERANCE).objective / _PEAK_CT_PER_KW[0]
    peak_kw = np.inf
    for price in _PEAK_CT_PER_KW:
        priced = _with_peaks(episode, matrices, price * weight, cost_scale=1.0)
        solution = solve_matrices(priced, tolerance=TOLERANCE)
        peak_kw = float(weight @ solution.x[-num_days:])
        gap = max(0.0, peak_kw - bound_kw) / (1.0 + peak_kw)
        if gap <= 10.0 * TOLERANCE:
            plan = episode.plan(priced, solution)
            plan = replace(plan, objective_ct=plan.objective_ct - price * peak_kw)
            return course_of(episode, matrices, solution, plan, peak_kw, gap)
    raise SolverError(f"oracle_peak: days {episode.rows}: peaks of {peak_kw} kW, but {bound_kw} kW are possible")


def perfect_day_ahead(exogenous: Exogenous, days: Iterable[int], community: Community) -> list[DayActions]:
    """Each day with its actual net load as the position and no flexibility used: what a perfect forecast is worth.

    Position = load + reference of the shiftable load - PV, clipped to the limit; battery idle, shiftable load at its
    reference, nothing curtailed, no trades.
    """
    limit = community.fleet.position_limit_kw
    result = []
    for day in days:
        load, reference = exogenous.load_kw[day], exogenous.shiftable_ref_kw[day]
        idle = np.zeros_like(load)
        result.append(
            DayActions(
                position_kw=np.ascontiguousarray(np.clip(load + reference - exogenous.pv_kw[day], -limit, limit).T),
                battery_kw=idle,
                shiftable_kw=reference.copy(),
                curtail_kw=idle.copy(),
                offers=np.zeros((len(load), community.num_offers)),
            )
        )
    return result


def _exchange(matrices: CoreMatrices) -> sp.csc_matrix:
    """What decisions add to the community's exchange with the grid, rows @ x [h,x]."""
    hours, num = matrices.columns.flexible.shape
    decided = np.concatenate([matrices.columns.flexible, matrices.columns.curtail], axis=1)
    hour = np.repeat(np.arange(hours), 2 * num)[decided.ravel() >= 0]
    column = decided.ravel()[decided.ravel() >= 0]
    return sp.csc_matrix((np.ones(column.size), (hour, column)), shape=(hours, matrices.c.size))


def _with_peaks(episode: Episode, matrices: CoreMatrices, price: FloatArray, cost_scale: float) -> CoreMatrices:
    """The program with each day's peak t >= G, t >= 0 last, at its price [D]; all other costs are scaled."""
    m, num_days = matrices, len(episode)
    of_day = sp.kron(sp.identity(num_days), np.ones((episode.community.hours_per_day, 1)))
    return replace(
        m,
        P=sp.block_diag([cost_scale * m.P, sp.csc_matrix((num_days, num_days))], format="csc"),
        c=np.concatenate([cost_scale * m.c, price]),
        A=sp.hstack([m.A, sp.csc_matrix((m.b.size, num_days))], format="csc"),
        G=sp.bmat([[m.G, None], [_exchange(m), -of_day]], format="csc"),
        h=np.concatenate([m.h, -episode.passive_kw]),
        lb=np.concatenate([m.lb, np.zeros(num_days)]),
        ub=np.concatenate([m.ub, np.full(num_days, np.inf)]),
        constant_ct=cost_scale * m.constant_ct,
    )


def course_of(
    episode: Episode, matrices: CoreMatrices, solution: Solution, plan: Plan, attained: float, gap: float
) -> OracleEpisode:
    """A plan of all hours as the actions of its days, with the peaks of its solution."""
    exchange_kw = _exchange(matrices) @ solution.x[: matrices.c.size] + episode.passive_kw
    return OracleEpisode(
        actions=episode.actions(plan),
        objective_ct=plan.objective_ct,
        peak_kw=np.maximum(episode.daily(exchange_kw).max(axis=1), 0.0),
        attained=attained,
        gap=gap,
    )
