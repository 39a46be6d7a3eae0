"""A plan that knows it will be made anew: all but what is decided now may differ between scenarios.

The core problem (`day_ahead`) fixes battery, shiftable load and trades of every hour beforehand and lets only the
imbalance react. That is how a schedule is lived that is never touched again. Who plans every hour anew can react with
everything, and should not pay beforehand for reserves that it will find when they are needed. Here only what cannot
wait is the same in all scenarios:

- at the gate the position;
- in real time the battery, the shiftable load, the curtailment and the trades of the hour that is played.

All else is recourse: in each scenario it is the best that can be done once the rest of the day is known. (It never will
be known all at once: the true value lies between this plan's and the core problem's.) The program is one core problem
for each scenario, weighted, in which the columns of what is decided now are the same columns.

Axis letters: N prosumers, S scenarios, h remaining hours, x variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.assembly import ABSENT
from prosumer_gym.baselines.core_matrices import CoreMatrices
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, plan_of, solve_matrices
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.peak import PeakPrice, build_with_peak
from prosumer_gym.baselines.planning import DayStart, Plan, Scenarios
from prosumer_gym.baselines.solve import DEFAULT_TOLERANCE
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError


def solve_recourse(
    community: Community,
    start: DayStart,
    scenarios: Scenarios,
    *,
    peak: PeakPrice,
    network: NetworkPenalty | None = None,
    regulariser: float = REGULARISER_CT_PER_KW2,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Plan:
    """What to do now, and what is expected to be done later: the mean of the scenarios' plans.

    With one scenario it is the core problem, in which PV may be curtailed at any hour, the peak priced.

    Args:
        community: who plans.
        start: where the day stands; with a position it is real time, without one the day-ahead stage.
        scenarios: what the remaining hours may bring, with the same weights for all prosumers.
        peak: prices the community's peak in each scenario.
        network: prices the voltages beyond their limits in each scenario, if given.
        regulariser: weight r of r/2 |position, purchases, sales|^2, ct/kW^2.
        tolerance: largest scaled residual accepted.

    Raises `UsageError` for inputs that do not fit together, `SolverError` when no solver reaches the tolerance.
    """
    if np.ndim(scenarios.weights) != 1:
        raise UsageError("recourse: the scenarios' weights must be the same for all prosumers, of shape [S]")
    kept = np.flatnonzero(scenarios.weights > 0).tolist()
    weights = scenarios.weights[kept]
    parts = [
        build_with_peak(
            community, start, _one(scenarios, s), peak,
            regulariser=regulariser, foresight=start.position_kw is None, network=network,
        )
        for s in kept
    ]  # fmt: skip
    program, places = tie(parts, weights, [_decided_now(part, start) for part in parts])
    solution = solve_matrices(program, tolerance=tolerance)
    plans = [
        plan_of(community, start, part, replace(solution, x=solution.x[place]))
        for part, place in zip(parts, places, strict=True)
    ]
    mean = {
        name: np.einsum("s,s...->...", weights, np.stack([getattr(plan, name) for plan in plans]))
        for name in ("position_kw", "battery_kw", "shiftable_kw", "curtail_kw", "trade_kw")
    }
    return replace(
        plans[0], **mean, objective_ct=solution.objective + program.constant_ct,
        lower_bound_ct=solution.dual_objective + program.constant_ct,
    )  # fmt: skip


def _one(scenarios: Scenarios, s: int) -> Scenarios:
    only = slice(s, s + 1)
    return Scenarios(
        scenarios.load_kw[only], scenarios.pv_kw[only], scenarios.price_rt_ct_per_kwh[only], weights=np.ones(1)
    )


def _decided_now(part: CoreMatrices, start: DayStart) -> IntArray:
    """The columns that are the same in all scenarios."""
    c = part.columns
    now = (
        (c.buy, c.sell) if start.position_kw is None
        else (c.charge[0], c.discharge[0], c.shiftable[0], c.curtail[0], c.trade_up[0], c.trade_down[0])
    )  # fmt: skip
    columns = np.concatenate([column.ravel() for column in now])
    return np.asarray(columns[columns != ABSENT])


def tie(
    parts: Sequence[CoreMatrices], weights: FloatArray, shared: Sequence[IntArray]
) -> tuple[CoreMatrices, list[IntArray]]:
    """One program of all `parts`, their costs weighted, in which the `shared` columns of each are the same variables.

    Also the place of each variable of each part in it [x]. `columns` and `start_rows` are those of the first part.
    """
    places, size = [np.arange(parts[0].c.size)], parts[0].c.size
    for part, columns in zip(parts[1:], shared[1:], strict=True):
        place = np.full(part.c.size, ABSENT)
        place[columns] = shared[0]
        own = place == ABSENT
        place[own] = size + np.arange(np.count_nonzero(own))
        size += int(np.count_nonzero(own))
        places.append(place)
    linear, quadratic = np.zeros(size), np.zeros(size)
    lower, upper = np.full(size, -np.inf), np.full(size, np.inf)
    for part, weight, place in zip(parts, weights, places, strict=True):
        linear[place] += weight * part.c
        quadratic[place] += weight * part.P.diagonal()
        lower[place], upper[place] = np.maximum(lower[place], part.lb), np.minimum(upper[place], part.ub)
    return replace(
        parts[0],
        P=sp.diags(quadratic, format="csc"), c=linear, lb=lower, ub=upper,
        A=_stacked([part.A for part in parts], places, size), b=np.concatenate([part.b for part in parts]),
        G=_stacked([part.G for part in parts], places, size), h=np.concatenate([part.h for part in parts]),
        constant_ct=float(weights @ [part.constant_ct for part in parts]),
    ), places  # fmt: skip


def _stacked(matrices: Sequence[Any], places: Sequence[IntArray], size: int) -> Any:
    """The matrices one below the other, each with its columns at their places."""
    moved = []
    for matrix, place in zip(matrices, places, strict=True):
        entries = matrix.tocoo()
        moved.append(
            sp.csc_matrix((entries.data, (entries.row, place[entries.col])), shape=(matrix.shape[0], size))
        )  # fmt: skip
    return sp.vstack(moved, format="csc")
