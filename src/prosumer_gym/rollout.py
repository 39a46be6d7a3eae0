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
    community: Community,
    exogenous: Exogenous,
    days: npt.ArrayLike,
    actions: DayActions,
    *,
    days_per_episode: int = 1,
    central_trade: bool = False,
) -> Trace:
    """Play whole days from logged actions.

    Args:
        community: the stage.
        exogenous: the data.
        days: rows of the data to play, one episode after the other [D].
        actions: what was wanted on them, with a leading axis D (`DayActions.stack`).
        days_per_episode: how many of the days are an episode together. They lie in consecutive rows; batteries keep
            their energy from one to the next, and what is left in them is settled after the last one.
        central_trade: what each prosumer has over or lacks beyond its position is offered for it (`Simulator.step`);
            the offers among the actions, which may be those of another mechanism, are not read.

    Raises:
        UsageError: a day is not in the data, the days are no whole episodes, or an action has a wrong shape or holds
            NaN.
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
    episodes = episodes_of(rows, days_per_episode)
    simulator = Simulator(community, exogenous, len(episodes))
    simulator.reset(episodes[:, 0], days_per_episode=days_per_episode)
    recorded = [item.name for item in fields(Trace) if item.name in _STEP_FIELDS]
    played: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ("position_kw", *recorded)}
    for place in range(days_per_episode):
        today = slice(place, None, days_per_episode)
        clipped_positions = simulator.commit(np.moveaxis(actions.position_kw[today], 0, -1))
        played["position_kw"].append(simulator.state.position_kw.copy())
        hours: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in recorded}
        for name in ("soc_kwh", "backlog_kwh"):
            hours[name].append(getattr(simulator.state, name).copy())
        for hour in range(num_hours):
            dispatch = actions.hour(hour)
            wants = {
                name: np.moveaxis(getattr(dispatch, name)[today], 0, -1) for name in shapes if name != "position_kw"
            }
            result = simulator.step(**wants)
            for name in recorded:
                hours[name].append(getattr(result, name).copy())
        hours["clipped"][0] += clipped_positions
        for name in recorded:
            played[name].append(np.stack(hours[name]))
    return Trace(**{name: _days_first(np.stack(values)) for name, values in played.items()})


def episodes_of(rows: IntArray, days_per_episode: int) -> IntArray:
    """Rows of the data, one episode after the other [D], as a table of an episode in each line.

    Raises:
        UsageError: no whole episodes, or rows of one that do not follow each other.
    """
    if days_per_episode < 1 or rows.size % days_per_episode:
        raise UsageError(f"{rows.size} days are no whole episodes of {days_per_episode}; leave days out")
    episodes = rows.reshape(rows.size // days_per_episode, days_per_episode)
    broken = (np.diff(episodes, axis=1) != 1).any(axis=1)
    if broken.any():
        first = episodes[int(np.argmax(broken))]
        raise UsageError(f"rows {first[0]} ... {first[-1]} of the data are no episode: they must follow each other")
    return episodes


def _days_first(played: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """From places in the episode first and lanes last to the days in the order in which they were given first."""
    by_lane = np.ascontiguousarray(np.moveaxis(played, -1, 0))
    return by_lane.reshape(by_lane.shape[0] * by_lane.shape[1], *by_lane.shape[2:])


_STEP_FIELDS = frozenset(item.name for item in fields(StepResult))
