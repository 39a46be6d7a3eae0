"""Perfect foresight of the voltages: the day that leaves no voltage violation that could be avoided.

Like the other oracles (`oracle`) it is handed the actual day and is free in everything. It minimises what the voltages
of the AC power flow lie outside their limits, summed over buses and hours, and finds the cheapest course of the day at
that. AC voltages are not linear, so that a sequence of plans is made, with voltages linear in the loads: the first by
LinDistFlow, later ones by tangents of the AC power flow at the plans before. On a radial feeder voltages are concave in
the loads (losses grow faster than loads), so that

- what lies below the lower limits is convex, and nowhere less than any of its tangents: all of them are kept, each plan
  adds one, and the plans come as close as is asked for (Kelley's cutting planes). Three plans are the rule;
- of the upper limits only the last tangent is kept: it asks for more than is needed, and less so as plans settle.

What is left below the lower limits is unavoidable: the least excess by all tangents, whatever it costs, is a linear
program whose dual value no course of the day can beat. (Of the upper limits that proves nothing; it only tells that no
small change helps.)

Axis letters: N prosumers, K buses, H hours of a day.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.core_matrices import EXCESS_PER_PU
from prosumer_gym.baselines.day_ahead import plan_of, solve_matrices
from prosumer_gym.baselines.network import NetworkPenalty, VoltageSide, ac_voltages
from prosumer_gym.baselines.oracle import TOLERANCE, OracleDay, day_problem, oracle_day
from prosumer_gym.community import Community
from prosumer_gym.exogenous import Exogenous

_PRICE_CT_PER_PU_H = 1e8
"""What an excess counts: more than avoiding it can cost (a tenth of it still leaves some on the 33-bus feeder)."""
_ROOM_PU = 1e-6
"""How far inside the limits the plan stays, so that neither rounding nor what is left of the curvature leaves them."""
_AGREES_PU_H = 1e-7
_MAX_PLANS = 12
"""Where they are not enough, as feeders near their collapse may need more, the best plan stands, and its gap tells."""


@dataclass(frozen=True, eq=False)
class VoltageDay(OracleDay):
    """The day of least violation. Its `gap` is between the violation and `bound_pu_h`."""

    voltage_pu_h: float
    """Excess outside the limits by the AC power flow, all buses and hours; a dead hour counts as such."""
    bound_pu_h: float
    """What is proven to be unavoidable (of voltages too low; see module)."""
    num_plans: int
    """How many plans it took."""


def oracle_voltage(community: Community, exogenous: Exogenous, days: Iterable[int]) -> list[VoltageDay]:
    """The day of least voltage violation for each of `days` (rows of `exogenous`), and the cheapest course at it.

    Raises `SolverError` when a plan is not solved within tolerance.
    """
    return [_oracle_voltage(community, exogenous, day) for day in days]


def _oracle_voltage(community: Community, exogenous: Exogenous, day: int) -> VoltageDay:
    passive_pu, load_kw, pv_kw = (getattr(exogenous, name)[day] for name in ("passive_pu", "load_kw", "pv_kw"))
    network = NetworkPenalty.lindistflow(
        community, passive_pu, price_ct_per_pu_h=_PRICE_CT_PER_PU_H, margin_pu=_ROOM_PU
    )
    lower: list[VoltageSide] = []  # tangents so far
    best: VoltageDay | None = None
    for num_plans in range(1, _MAX_PLANS + 1):
        start, scenario, matrices = day_problem(community, exogenous, day, network)
        solution = solve_matrices(matrices, tolerance=TOLERANCE)
        plan = plan_of(community, start, matrices, solution)
        drawn_kw = load_kw - pv_kw + plan.curtail_kw + plan.shiftable_kw + plan.battery_kw
        hours = (passive_pu, drawn_kw, load_kw + plan.shiftable_kw)
        foreseen_pu_h = community.dt_h * float(network.excess_pu(*hours[1:]).sum())
        low, high = NetworkPenalty.tangent(
            community, *hours, price_ct_per_pu_h=_PRICE_CT_PER_PU_H, margin_pu=_ROOM_PU
        ).sides
        lower.append(low)
        network = NetworkPenalty(_PRICE_CT_PER_PU_H, (*lower, high))
        found_pu_h = _excess_pu_h(community, *hours)
        if best is None or found_pu_h <= best.voltage_pu_h + _AGREES_PU_H:
            plan = replace(plan, objective_ct=plan.objective_ct - _PRICE_CT_PER_PU_H * foreseen_pu_h)
            bound_pu_h = _least_excess_pu_h(community, exogenous, day, network)
            gap = max(0.0, found_pu_h - bound_pu_h) / (1.0 + found_pu_h)
            course = oracle_day(matrices, solution, scenario, plan, gap)
            best = VoltageDay(**vars(course), voltage_pu_h=found_pu_h, bound_pu_h=bound_pu_h, num_plans=num_plans)
        agrees = abs(_excess_pu_h(community, *hours, room_pu=_ROOM_PU) - foreseen_pu_h) < _AGREES_PU_H
        if agrees and num_plans > 1:  # LinDistFlow too agrees where all is within the limits, but wastes room
            break
    assert best is not None
    return best


def _least_excess_pu_h(community: Community, exogenous: Exogenous, day: int, network: NetworkPenalty) -> float:
    """The least excess of any course of the day, whatever it costs, by tangents that keep `_ROOM_PU`."""
    true_limits = tuple(side._replace(idle_pu=side.idle_pu - _ROOM_PU) for side in network.sides)
    _, _, matrices = day_problem(community, exogenous, day, replace(network, sides=true_limits))
    excess = matrices.columns.excess[matrices.columns.excess >= 0]
    cost = np.zeros(matrices.c.size)
    cost[excess] = community.dt_h
    only_excess = replace(matrices, P=sp.csc_matrix(matrices.P.shape), c=cost)
    return solve_matrices(only_excess, solver="highs", tolerance=TOLERANCE).dual_objective / EXCESS_PER_PU


def _excess_pu_h(
    community: Community,
    passive_pu: FloatArray,
    net_import_kw: FloatArray,
    consumption_kw: FloatArray,
    room_pu: float = 0.0,
) -> float:
    """What the AC voltages of a day lie outside the limits drawn in by `room_pu`; a dead bus lacks all of the lower."""
    feeder = community.feeder
    v_pu, _ = ac_voltages(community, passive_pu, net_import_kw, consumption_kw)  # 0 where there is no solution
    beyond_pu = np.maximum(feeder.v_min_pu + room_pu - v_pu, v_pu - feeder.v_max_pu + room_pu)
    return community.dt_h * float(np.maximum(beyond_pu, 0.0).sum())
