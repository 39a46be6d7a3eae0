"""Perfect foresight of the voltages: the course of an episode that leaves no voltage violation that could be avoided.

Like the other oracles (`oracle`) it is handed the actual days of an episode and is free in everything. It minimises
what the voltages of the AC power flow lie outside their limits, summed over buses and hours, and finds the cheapest
course at that. AC voltages are not linear, so that a sequence of plans is made, with voltages linear in the loads: the
first by LinDistFlow, later ones by tangents of the AC power flow at the plans before. On a radial feeder voltages are
concave in the loads (losses grow faster than loads), so that

- what lies below the lower limits is convex, and nowhere less than any of its tangents: all of them are kept, each plan
  adds one, and the plans come as close as is asked for (Kelley's cutting planes). Three plans are the rule;
- of the upper limits only the last tangent is kept: it asks for more than is needed, and less so as plans settle.

What is left below the lower limits is unavoidable: the least excess by all tangents, whatever it costs, is a linear
program whose dual value no course of the episode can beat. (Of the upper limits that proves nothing; it only tells that
no small change helps.)

Axis letters: N prosumers, K buses, h hours of the episode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.core_matrices import EXCESS_PER_PU
from prosumer_gym.baselines.day_ahead import solve_matrices
from prosumer_gym.baselines.network import NetworkPenalty, VoltageSide, ac_voltages
from prosumer_gym.baselines.oracle import TOLERANCE, OracleEpisode, course_of
from prosumer_gym.baselines.oracle_episode import Episode
from prosumer_gym.community import Community
from prosumer_gym.exogenous import Exogenous

_PRICE_CT_PER_PU_H = 1e8
"""What an excess counts: more than avoiding it can cost (a tenth of it still leaves some on the 33-bus feeder)."""
_ROOM_PU = 1e-6
"""How far inside the limits the plan stays, so that neither rounding nor what is left of the curvature leaves them."""
_AGREES_PU_H = 1e-7
"""How close a plan is to foresee its voltages, for each day."""
_MAX_PLANS = 12
"""Where they are not enough, as feeders near their collapse may need more, the best plan stands, and its gap tells."""


@dataclass(frozen=True, eq=False)
class VoltageEpisode(OracleEpisode):
    """The course of least violation: `attained` is the excess outside the limits by the AC power flow, p.u. h.

    All buses and hours together; a dead hour counts as such. Its `gap` is between that and `bound_pu_h`.
    """

    bound_pu_h: float
    """What is proven to be unavoidable (of voltages too low; see module)."""
    num_plans: int
    """How many plans it took."""


def oracle_voltage(
    community: Community, exogenous: Exogenous, episodes: Iterable[npt.ArrayLike]
) -> list[VoltageEpisode]:
    """The least voltage violation of each episode (as of `oracle_cost`), and its cheapest course at that.

    Raises `UsageError` for rows that are no episode, `SolverError` when a plan is not solved within tolerance.
    """
    return [_oracle_voltage(Episode.of(community, exogenous, rows)) for rows in episodes]


def _oracle_voltage(episode: Episode) -> VoltageEpisode:
    community, close_pu_h = episode.community, _AGREES_PU_H * len(episode)
    passive_pu, load_kw, pv_kw = (episode.hourly(name) for name in ("passive_pu", "load_kw", "pv_kw"))
    planned_with = NetworkPenalty.lindistflow(
        community, passive_pu, price_ct_per_pu_h=_PRICE_CT_PER_PU_H, margin_pu=_ROOM_PU
    )
    lower: list[VoltageSide] = []  # tangents so far
    best_pu_h = np.inf
    for num_plans in range(1, _MAX_PLANS + 1):
        matrices = episode.program(planned_with)
        solution = solve_matrices(matrices, tolerance=TOLERANCE)
        plan = episode.plan(matrices, solution)
        drawn_kw = load_kw - pv_kw + plan.curtail_kw + plan.shiftable_kw + plan.battery_kw
        hours = (passive_pu, drawn_kw, load_kw + plan.shiftable_kw)
        foreseen_pu_h = community.dt_h * float(planned_with.excess_pu(*hours[1:]).sum())
        low, high = NetworkPenalty.tangent(
            community, *hours, price_ct_per_pu_h=_PRICE_CT_PER_PU_H, margin_pu=_ROOM_PU
        ).sides
        lower.append(low)
        planned_with = NetworkPenalty(_PRICE_CT_PER_PU_H, (*lower, high))
        found_pu_h = _excess_pu_h(community, *hours)
        if found_pu_h <= best_pu_h + close_pu_h:
            plan = replace(plan, objective_ct=plan.objective_ct - _PRICE_CT_PER_PU_H * foreseen_pu_h)
            best, best_pu_h, best_plans, known = (matrices, solution, plan), found_pu_h, num_plans, planned_with
        agrees = abs(_excess_pu_h(community, *hours, room_pu=_ROOM_PU) - foreseen_pu_h) < close_pu_h
        if agrees and num_plans > 1:  # LinDistFlow too agrees where all is within the limits, but wastes room
            break
    bound_pu_h = _least_excess_pu_h(episode, known)
    gap = max(0.0, best_pu_h - bound_pu_h) / (1.0 + best_pu_h)
    course = course_of(episode, *best, best_pu_h, gap)
    return VoltageEpisode(**vars(course), bound_pu_h=bound_pu_h, num_plans=best_plans)


def _least_excess_pu_h(episode: Episode, network: NetworkPenalty) -> float:
    """The least excess of any course of the episode, whatever it costs, by tangents that keep `_ROOM_PU`."""
    true_limits = tuple(side._replace(idle_pu=side.idle_pu - _ROOM_PU) for side in network.sides)
    matrices = episode.program(replace(network, sides=true_limits))
    excess = matrices.columns.excess[matrices.columns.excess >= 0]
    cost = np.zeros(matrices.c.size)
    cost[excess] = episode.community.dt_h
    only_excess = replace(matrices, P=sp.csc_matrix(matrices.P.shape), c=cost)
    return solve_matrices(only_excess, solver="highs", tolerance=TOLERANCE).dual_objective / EXCESS_PER_PU


def _excess_pu_h(
    community: Community,
    passive_pu: FloatArray,
    net_import_kw: FloatArray,
    consumption_kw: FloatArray,
    room_pu: float = 0.0,
) -> float:
    """What the AC voltages lie outside limits drawn in by `room_pu`, all hours; a dead bus lacks all of the lower."""
    feeder = community.feeder
    v_pu, _ = ac_voltages(community, passive_pu, net_import_kw, consumption_kw)  # 0 where there is no solution
    beyond_pu = np.maximum(feeder.v_min_pu + room_pu - v_pu, v_pu - feeder.v_max_pu + room_pu)
    return community.dt_h * float(np.maximum(beyond_pu, 0.0).sum())
