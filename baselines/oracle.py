"""Perfect foresight: what no policy can beat, and what a perfect forecast alone is worth. For the scorer only.

Each oracle is handed the actual day and minimises one metric over everything a policy may do: position, battery,
shiftable load, curtailment in every hour, and trades matched centrally, under the rules of the community's market
mechanism and with the same value of the energy left at the end. A day is an episode of its own, from the initial state
of charge. The oracle of the voltages has a module of its own, `oracle_voltage`.

The problems are relaxed in one respect, which keeps the bound valid: at negative prices they may charge and discharge
at once. The environment turns that into the one of equal effect on the state of charge, so that a day played as planned
may cost more than `objective_ct` there, never less; the bound is the objective.

Axis letters: N prosumers, H hours of a day, D days.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.core_matrices import CoreMatrices, build_core
from prosumer_gym.baselines.day_ahead import plan_of, solve_matrices
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import DayStart, Plan, Scenarios
from prosumer_gym.baselines.solve import Solution, SolverError
from prosumer_gym.community import Community
from prosumer_gym.exogenous import Exogenous

TOLERANCE = 1e-8
"""Scaled residuals of the oracles' solutions."""
_PEAK_CT_PER_KW = 1e5
"""What a kW of peak counts in the lowest-peak oracle: more than any kW can save (ten times less already is)."""


@dataclass(frozen=True, eq=False)
class OracleDay:
    """The best day in hindsight."""

    actions: DayActions
    objective_ct: float
    """Community cost of the plan."""
    peak_kw: float
    """Largest exchange with the grid, max_h G+, of the plan."""
    gap: float
    """Between what the oracle minimises (cost or peak) and what is proven unbeatable, relative to 1 + its size."""


def oracle_cost(community: Community, exogenous: Exogenous, days: Iterable[int]) -> list[OracleDay]:
    """The cheapest course of each day in `days` (rows of `exogenous`), one entry per day.

    Raises `SolverError` when a day is not solved within tolerance.
    """
    result = []
    for day in days:
        start, scenario, matrices = day_problem(community, exogenous, day)
        solution = solve_matrices(matrices, tolerance=TOLERANCE)
        plan = plan_of(community, start, matrices, solution)
        gap = max(0.0, plan.objective_ct - plan.lower_bound_ct) / (1.0 + abs(plan.objective_ct))
        result.append(oracle_day(matrices, solution, scenario, plan, gap))
    return result


def oracle_peak(community: Community, exogenous: Exogenous, days: Iterable[int]) -> list[OracleDay]:
    """The lowest peak of the community's exchange on each day, max_h G+, and the cheapest course of the day at it.

    The lowest peak is proven by a linear program; a second program, where a kW of peak costs more than it can save,
    finds it again together with the cheapest course. (Capping the peak instead leaves no interior: slow.)

    Raises `SolverError` when a day is not solved within tolerance, or the two programs disagree.
    """
    result = []
    for day in days:
        start, scenario, matrices = day_problem(community, exogenous, day)
        lowest, priced = _with_peak(matrices, scenario, cost_scale=0.0), _with_peak(matrices, scenario, cost_scale=1.0)
        bound_kw = solve_matrices(lowest, solver="highs", tolerance=TOLERANCE).objective / _PEAK_CT_PER_KW
        solution = solve_matrices(priced, tolerance=TOLERANCE)
        peak_kw = float(solution.x[-1])
        plan = plan_of(community, start, priced, solution)
        plan = replace(plan, objective_ct=plan.objective_ct - _PEAK_CT_PER_KW * peak_kw)
        gap = max(0.0, peak_kw - bound_kw) / (1.0 + peak_kw)
        if gap > 10.0 * TOLERANCE:
            raise SolverError(f"oracle_peak: day {day}: peak {peak_kw} kW, but {bound_kw} kW is possible")
        result.append(oracle_day(matrices, solution, scenario, plan, gap))
    return result


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


def day_problem(
    community: Community, exogenous: Exogenous, day: int, network: NetworkPenalty | None = None
) -> tuple[DayStart, Scenarios, CoreMatrices]:
    """The day as a core problem with one scenario, itself; voltages priced if there is a `network`."""
    num = community.num_prosumers
    start = DayStart(
        start_hour=0,
        soc_kwh=community.fleet.soc_initial_kwh,
        backlog_kwh=np.zeros(num),
        connection_peak_kw=np.zeros(num),
        shiftable_ref_kw=exogenous.shiftable_ref_kw[day],
        price_da_ct_per_kwh=exogenous.price_da_ct_per_kwh[day],
    )
    scenario = Scenarios(
        load_kw=exogenous.load_kw[day][None],
        pv_kw=exogenous.pv_kw[day][None],
        price_rt_ct_per_kwh=exogenous.price_rt_ct_per_kwh[day][None],
        weights=np.ones(1),
    )
    matrices = build_core(community, start, scenario, regulariser=0.0, foresight=True, network=network)
    return start, scenario, matrices


def _exchange(matrices: CoreMatrices, scenario: Scenarios) -> tuple[sp.csc_matrix, FloatArray]:
    """Exchange with the grid G = rows @ x + fixed, of what can and what cannot be decided [H,x], [H]."""
    hours, num = matrices.columns.flexible.shape
    decided = np.concatenate([matrices.columns.flexible, matrices.columns.curtail], axis=1)
    hour = np.repeat(np.arange(hours), 2 * num)[decided.ravel() >= 0]
    column = decided.ravel()[decided.ravel() >= 0]
    rows = sp.csc_matrix((np.ones(column.size), (hour, column)), shape=(hours, matrices.c.size))
    return rows, (scenario.load_kw - scenario.pv_kw)[0].sum(axis=1)


def _with_peak(matrices: CoreMatrices, scenario: Scenarios, cost_scale: float) -> CoreMatrices:
    """The problem with the peak t >= G, t >= 0 as its last variable, at a price, and all other costs scaled."""
    m, (rows, fixed_kw) = matrices, _exchange(matrices, scenario)
    return replace(
        m,
        P=sp.block_diag([cost_scale * m.P, sp.csc_matrix((1, 1))], format="csc"),
        c=np.append(cost_scale * m.c, _PEAK_CT_PER_KW),
        A=sp.hstack([m.A, sp.csc_matrix((m.b.size, 1))], format="csc"),
        G=sp.bmat([[m.G, None], [rows, sp.csc_matrix(-np.ones((len(fixed_kw), 1)))]], format="csc"),
        h=np.concatenate([m.h, -fixed_kw]),
        lb=np.append(m.lb, 0.0),
        ub=np.append(m.ub, np.inf),
        constant_ct=cost_scale * m.constant_ct,
    )


def oracle_day(matrices: CoreMatrices, solution: Solution, scenario: Scenarios, plan: Plan, gap: float) -> OracleDay:
    """A plan as the actions of a day."""
    rows, fixed_kw = _exchange(matrices, scenario)
    return OracleDay(
        actions=DayActions(
            position_kw=plan.position_kw,
            battery_kw=plan.battery_kw,
            shiftable_kw=plan.shiftable_kw,
            curtail_kw=plan.curtail_kw,
            offers=np.stack([plan.offers(hour) for hour in range(len(fixed_kw))]),
        ),
        objective_ct=plan.objective_ct,
        peak_kw=max(0.0, float(np.max(rows @ solution.x[: matrices.c.size] + fixed_kw))),
        gap=gap,
    )
