"""The core problem that the optimization policies share: plan the rest of a day for the whole community.

A two-stage stochastic program: the model of arXiv 2409.00493 with two settlement prices, a demand charge and a value of
the energy left at the end (equations: `day_ahead_reference`; matrices: `core_matrices`). One problem, two stages:

- day-ahead: position, battery, shiftable load and trades of every hour are decided; real time settles the rest;
- real time ("mpc"): the position stands, the first remaining hour is observed (its PV may be curtailed), and the
  others are uncertain.

Before the last day of an episode of several days a plan values stored energy like on the last one, at its own day's
prices.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.core_matrices import CoreMatrices, build_core
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import DayStart, Plan, PlanCost, Scenarios, evaluate
from prosumer_gym.baselines.solve import DEFAULT_TOLERANCE, Solution, solve_qp
from prosumer_gym.community import Community

__all__ = ["DayStart", "Plan", "PlanCost", "Scenarios", "evaluate", "plan_of", "solve_core", "solve_matrices"]

REGULARISER_CT_PER_KW2 = 1e-3
"""Weight of |position, purchases, sales|^2 / 2: small against any price, it makes the plan unique."""


def solve_core(
    community: Community,
    start: DayStart,
    scenarios: Scenarios,
    *,
    regulariser: float = REGULARISER_CT_PER_KW2,
    network: NetworkPenalty | None = None,
    solver: str = "piqp",
    tolerance: float = DEFAULT_TOLERANCE,
) -> Plan:
    """The plan of least expected cost for the remaining hours.

    Args:
        community: who plans.
        start: where the day stands; with a position it is real time, without one the day-ahead stage.
        scenarios: what the remaining hours may bring `[S,h,N]`; in real time the first hour is observed.
        regulariser: weight r of r/2 |position, purchases, sales|^2, ct/kW^2.
        network: prices the expected voltages beyond their limits, if given.
        solver: one of `solve.SOLVERS`.
        tolerance: largest scaled residual accepted.

    Raises `UsageError` for inputs that do not fit together, `SolverError` when no solver reaches the tolerance.
    """
    matrices = build_core(community, start, scenarios, regulariser=regulariser, network=network)
    solution = solve_matrices(matrices, solver=solver, tolerance=tolerance)
    plan = plan_of(community, start, matrices, solution)
    if network is None or network.price_ct_per_pu_h == 0:
        return plan
    return replace(plan, voltage_excess_pu_h=_expected_excess_pu_h(community, matrices, solution, scenarios, network))


def solve_matrices(matrices: CoreMatrices, *, solver: str = "piqp", tolerance: float = DEFAULT_TOLERANCE) -> Solution:
    """Solution of a built core problem; its objective lacks `matrices.constant_ct`."""
    m = matrices
    return solve_qp(m.P, m.c, m.A, m.b, m.G, m.h, m.lb, m.ub, solver=solver, tolerance=tolerance)


def plan_of(community: Community, start: DayStart, matrices: CoreMatrices, solution: Solution) -> Plan:
    """The plan that a solution stands for.

    Charging and discharging at once (worth while only at negative prices) becomes the one of equal effect on the state
    of charge, as the environment would make it.
    """
    fleet, columns = community.fleet, matrices.columns
    # The absent variables, number -1, read the zero appended here.
    x = np.append(np.clip(solution.x, matrices.lb, matrices.ub), 0.0)

    def values(which: IntArray) -> FloatArray:
        return np.asarray(x[which])

    stored = fleet.charge_efficiency * values(columns.charge) - values(columns.discharge) / fleet.discharge_efficiency
    position = (
        (values(columns.buy) - values(columns.sell)).T
        if start.position_kw is None
        else np.array(start.position_kw[:, start.start_hour :])
    )
    return Plan(
        position_kw=np.ascontiguousarray(position),
        battery_kw=np.where(stored > 0, stored / fleet.charge_efficiency, stored * fleet.discharge_efficiency),
        shiftable_kw=values(columns.shiftable),
        curtail_kw=values(columns.curtail),
        trade_kw=values(columns.trade_up) - values(columns.trade_down),
        market=community.market,
        objective_ct=solution.objective + matrices.constant_ct,
        lower_bound_ct=solution.dual_objective + matrices.constant_ct,
        solver=solution.solver,
        fallbacks=solution.fallbacks,
    )


def _expected_excess_pu_h(
    community: Community, matrices: CoreMatrices, solution: Solution, scenarios: Scenarios, network: NetworkPenalty
) -> float:
    """What the voltages of a solution are expected beyond the limits of `network`, all buses and hours."""
    columns = matrices.columns
    x = np.append(solution.x, 0.0)  # the absent variables, number -1, read this zero
    drawn_kw = x[columns.flexible] + x[columns.curtail] + x[columns.curtail_later]
    excess_pu = network.excess_pu(
        scenarios.mean_load_kw - scenarios.mean_pv_kw + drawn_kw, scenarios.mean_load_kw + x[columns.shiftable]
    )
    return community.dt_h * float(excess_pu.sum())
