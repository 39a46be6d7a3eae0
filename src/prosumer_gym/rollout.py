"""Whole days replayed from the physical actions that were logged: what a score is computed from.

Axis letters: D days played, H hours of a day, N prosumers, E undirected trade edges, K buses, T cost terms.
Here arrays lead with the days.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.simulator import Simulator, StepResult


@dataclass(frozen=True, eq=False)
class Trace:
    """Everything that happened on some days."""

    position_kw: FloatArray
    """Committed day-ahead position [D,N,H]."""
    battery_kw: FloatArray
    """Feasible power, + charges [D,H,N]."""
    shiftable_kw: FloatArray
    """[D,H,N]"""
    curtail_kw: FloatArray
    """[D,H,N]"""
    net_import_kw: FloatArray
    """y, what the prosumer draws through its connection [D,H,N]."""
    realtime_kw: FloatArray
    """q, settled in real time [D,H,N]."""
    p2p_kw: FloatArray
    """P, + bought from the neighbours [D,H,N]."""
    trade_kw: FloatArray
    """+ the edge's first end buys from its second [D,H,E]."""
    cost_ct: FloatArray
    """Terms in the order of `COST_TERMS` [D,H,T,N]."""
    community_cost_ct: FloatArray
    """Sum over terms and prosumers [D,H]."""
    soc_kwh: FloatArray
    """At the start of each hour and at the end of the day [D,H+1,N]."""
    backlog_kwh: FloatArray
    """At the start of each hour and at the end of the day [D,H+1,N]."""
    v_pu: FloatArray
    """[D,H,K]"""
    voltage_excess_pu: FloatArray
    """Sum over buses of the voltage beyond its limits [D,H]."""
    violated_buses: IntArray
    """[D,H]"""
    losses_kw: FloatArray
    """[D,H]"""
    slack_kw: FloatArray
    """Drawn from the substation [D,H]."""
    p2p_price_ct_per_kwh: FloatArray
    """What energy traded between prosumers cost [D,H]."""
    exchange_kw: FloatArray
    """G, the sum of the net imports [D,H]."""
    peak_increase_kw: FloatArray
    """By how much the community's largest import of the day rose [D,H]."""
    converged: BoolArray
    """[D,H]"""
    clipped: IntArray
    """How many parts of an hour's action had to be changed to be feasible; the position counts in hour 0 [D,H]."""


def rollout(
    community: Community, exogenous: Exogenous, days: npt.ArrayLike, actions: DayActions, *, central_trade: bool = False
) -> Trace:
    """Play whole days from logged actions, each an episode of its own.

    Args:
        community: the stage.
        exogenous: the data.
        days: rows of the data to play [D].
        actions: what was wanted on them, with a leading axis D (`DayActions.stack`).
        central_trade: what each prosumer has over or lacks beyond its position is offered for it (`Simulator.step`);
            the offers among the actions, which may be those of another mechanism, are not read.

    Raises:
        UsageError: a day is not in the data, or an action has a wrong shape or holds NaN.
    """
    rows = np.atleast_1d(np.asarray(days))
    num_days, num_hours, num_prosumers = rows.size, community.hours_per_day, community.num_prosumers
    shapes = {
        "position_kw": (num_prosumers, num_hours),
        "battery_kw": (num_hours, num_prosumers),
        "shiftable_kw": (num_hours, num_prosumers),
        "curtail_kw": (num_hours, num_prosumers),
        "offers": (num_hours, community.num_offers),
    }
    if central_trade:
        del shapes["offers"]
    for name, shape in shapes.items():
        if np.shape(getattr(actions, name)) != (num_days, *shape):
            raise UsageError(
                f"rollout: actions.{name} has shape {np.shape(getattr(actions, name))}, expected {(num_days, *shape)}"
            )
    simulator = Simulator(community, exogenous, num_days)
    simulator.reset(rows)
    clipped_positions = simulator.commit(np.moveaxis(actions.position_kw, 0, -1))
    recorded = [name for name in (item.name for item in fields(Trace)) if name in _STEP_FIELDS]
    hours: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in recorded}
    position_kw = simulator.state.position_kw.copy()
    start = {"soc_kwh": simulator.state.soc_kwh.copy(), "backlog_kwh": simulator.state.backlog_kwh.copy()}
    for hour in range(num_hours):
        dispatch = actions.hour(hour)
        wants = {name: np.moveaxis(getattr(dispatch, name), 0, -1) for name in shapes if name != "position_kw"}
        result = simulator.step(**wants)
        for name in recorded:
            hours[name].append(getattr(result, name).copy())
    for name, first in start.items():
        hours[name].insert(0, first)
    trace = {name: np.ascontiguousarray(np.moveaxis(np.stack(values), -1, 0)) for name, values in hours.items()}
    trace["clipped"][:, 0] += clipped_positions
    return Trace(position_kw=np.ascontiguousarray(np.moveaxis(position_kw, -1, 0)), **trace)


_STEP_FIELDS = frozenset(item.name for item in fields(StepResult))
