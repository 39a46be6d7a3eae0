"""The simulator: days played hour by hour on many communities at once. The one implementation of the physics.

Axis letters: B lanes (one lane = one community), N prosumers, E undirected trade edges, H hours of a day, D days,
K buses, T cost terms, M numbers that an hour's offers consist of. Arrays are lanes-last.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from prosumer_gym import tables as at
from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.crew import Crew
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.hour import commit, entry, play, take
from prosumer_gym.lanes import LANES
from prosumer_gym.market import COST_TERMS
from prosumer_gym.tables import Lanes, Results, Wanted, make_lanes, make_results, make_wanted, make_work, tabulate

__all__ = ["COST_TERMS", "Simulator", "State", "StepResult"]


@dataclass(frozen=True, eq=False)
class State:
    """Where every lane stands. The simulator writes into these arrays; `copy` keeps a moment."""

    day: IntArray
    """Row of the exogenous data being played [B]."""
    hour: IntArray
    """Hour about to be played; H when the episode is over [B]."""
    days_left: IntArray
    """Full days after the present one [B]."""
    at_gate: BoolArray
    """Waits for its day-ahead position [B]."""
    soc_kwh: FloatArray
    """[N,B]"""
    backlog_kwh: FloatArray
    """Shiftable energy delivered ahead of (+) or behind its time [N,B]."""
    position_kw: FloatArray
    """Committed day-ahead position, zero at the gate [N,H,B]."""
    connection_peak_kw: FloatArray
    """Largest import of each connection on this day [N,B]."""
    community_peak_kw: FloatArray
    """Largest import of the community on this day [B]."""

    def copy(self) -> Self:
        """A state that no later step changes."""
        return type(self)(**{item.name: getattr(self, item.name).copy() for item in fields(self)})


@dataclass(frozen=True, eq=False)
class StepResult:
    """What happened in the hour just played. The next step overwrites these arrays; `copy` keeps them.

    In a lane that was not played (at the gate, or its episode is over) all figures are zero.
    """

    battery_kw: FloatArray
    """Feasible power, + charges [N,B]."""
    shiftable_kw: FloatArray
    """[N,B]"""
    curtail_kw: FloatArray
    """[N,B]"""
    net_import_kw: FloatArray
    """y, what the prosumer draws through its connection [N,B]."""
    realtime_kw: FloatArray
    """q, settled in real time: net import - position - peer-to-peer [N,B]."""
    p2p_kw: FloatArray
    """P, + bought from the neighbours [N,B]."""
    trade_kw: FloatArray
    """+ the edge's first end buys from its second [E,B]."""
    cost_ct: FloatArray
    """Terms in the order of `COST_TERMS` [T,N,B]."""
    community_cost_ct: FloatArray
    """Sum over terms and prosumers [B]."""
    soc_kwh: FloatArray
    """After the hour [N,B]."""
    backlog_kwh: FloatArray
    """After the hour [N,B]."""
    v_pu: FloatArray
    """[K,B]"""
    voltage_excess_pu: FloatArray
    """Sum over buses of the voltage beyond its limits [B]; (K - 1) v_min where the power flow has no solution."""
    violated_buses: IntArray
    """[B]; K - 1 where the power flow has no solution."""
    losses_kw: FloatArray
    """[B]"""
    slack_kw: FloatArray
    """Drawn from the substation: prosumers, the rest of the feeder and losses [B]."""
    p2p_price_ct_per_kwh: FloatArray
    """What energy traded between prosumers cost [B]; the middle of what the grid pays and asks where none was."""
    exchange_kw: FloatArray
    """G, the sum of the net imports [B]."""
    peak_increase_kw: FloatArray
    """By how much the community's largest import of the day rose [B]."""
    converged: BoolArray
    """Whether the power flow has a solution [B]; where it has none, losses and slack are zero, the buses dark."""
    clipped: IntArray
    """How many parts of the action had to be changed to be feasible [B]."""
    done: BoolArray
    """The episode ended with this hour [B]."""
    played: BoolArray
    """[B]"""

    def copy(self) -> Self:
        """Results that no later step changes."""
        return type(self)(**{item.name: getattr(self, item.name).copy() for item in fields(self)})


class Simulator:
    """Many lanes of one community, each on a day and at an hour of its own.

    A day is one `commit` of a day-ahead position and H `step`s. Lanes need not march together: `commit` serves those at
    the gate, `step` plays the others, and `reset(mask=...)` restarts some of them.

    Results do not depend, to the bit, on the number of lanes, on a lane's place among them or on the number of threads.
    All memory is taken when the simulator is made: about 4.4 kB a lane for ten prosumers on 33 buses.

    Args:
        community: the stage.
        exogenous: the days, of the community's hours and prosumers.
        num_lanes: B.
        threads: on how many threads batches of 256 lanes and more are played.

    Raises:
        UsageError: the data do not fit the community, or a day's shiftable energy cannot be delivered.
    """

    def __init__(self, community: Community, exogenous: Exogenous, num_lanes: int, *, threads: int = 1) -> None:
        if num_lanes < 1 or threads < 1:
            raise UsageError(f"simulator: num_lanes is {num_lanes} and threads {threads}; both must be 1 or more")
        self.community = community
        self.exogenous = exogenous
        self.num_lanes = num_lanes
        self.threads = threads
        self._prepare()

    def _prepare(self) -> None:
        """Everything that follows from the constructor's arguments."""
        self._world = tabulate(self.community, self.exogenous)
        self._lanes = make_lanes(self.community, self.num_lanes)
        self._wanted = make_wanted(self.community, self.num_lanes)
        self._results = make_results(self.community, self.num_lanes)
        self._crew = Crew(self.threads, self.num_lanes, -(-self.num_lanes // LANES))
        self._work = [make_work(self.community) for _ in range(self._crew.size)]
        self._num_offers = self.community.num_offers
        self._no_offers = np.zeros((0, self.num_lanes))
        self._arrays = (self._world, self._lanes, self._wanted, self._results)
        self._play = entry(play, *self._arrays, self._work[0], 0, 0, False)
        self._take = entry(take, self._wanted, self._wanted)
        self._commit = entry(commit, self._lanes.position_kw, self._world, self._lanes, self._lanes.counts[0])
        self.state = _name_state(self._lanes, self.num_lanes)
        self._result = name_results(self._results, self.num_lanes)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "community": self.community,
            "exogenous": self.exogenous,
            "num_lanes": self.num_lanes,
            "threads": self.threads,
            "state": self.state,
        }

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        state: State = attributes.pop("state")
        self.__dict__.update(attributes)
        self._prepare()
        self.restore(state)

    def restore(self, state: State) -> None:
        """Every lane goes back to where it stood when `state` was copied.

        Raises:
            UsageError: the state is of other lanes, or stands outside the data.
        """
        for item in fields(State):
            now, then = getattr(self.state, item.name), getattr(state, item.name)
            if now.shape != then.shape:
                raise UsageError(f"restore: {item.name} has shape {then.shape}, expected {now.shape}")
        inside = (state.day >= 0) & (state.day + state.days_left < self.exogenous.num_days)
        if not (inside & (state.hour >= 0) & (state.hour <= self.community.hours_per_day)).all():
            raise UsageError("restore: a lane stands on a day or at an hour that the data do not have")
        for item in fields(State):
            getattr(self.state, item.name)[:] = getattr(state, item.name)

    def reset(self, day: npt.ArrayLike, *, days_per_episode: int = 1, mask: BoolArray | None = None) -> None:
        """Lanes begin an episode at the gate of a day, batteries at their initial state of charge.

        Args:
            day: first day, a row of the exogenous data, for every lane [B] or one for all.
            days_per_episode: how many rows from that one on are played.
            mask: which lanes begin; the others stay as they are [B]. All by default.

        Raises:
            UsageError: an episode would leave the data.
        """
        lanes = np.ones(self.num_lanes, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        if lanes.shape != (self.num_lanes,):
            raise UsageError(f"reset: mask has shape {lanes.shape}, expected ({self.num_lanes},)")
        if np.shape(day) not in ((), (self.num_lanes,)) or not np.issubdtype(np.asarray(day).dtype, np.integer):
            raise UsageError(f"reset: day must be one whole number or {self.num_lanes} of them")
        days = np.broadcast_to(np.asarray(day), (self.num_lanes,))[lanes]
        last = self.exogenous.num_days - days_per_episode
        if days_per_episode < 1 or (days.size and not (days.min() >= 0 and days.max() <= last)):
            raise UsageError(
                f"reset: episodes of {days_per_episode} days must start on rows 0 ... {last} of the data, "
                f"not {days.min()} ... {days.max()}"
            )
        state = self.state
        state.day[lanes] = days
        state.hour[lanes] = 0
        state.days_left[lanes] = days_per_episode - 1
        state.at_gate[lanes] = True
        state.soc_kwh[:, lanes] = self.community.fleet.soc_initial_kwh[:, np.newaxis]
        state.backlog_kwh[:, lanes] = 0.0
        state.position_kw[:, :, lanes] = 0.0
        state.connection_peak_kw[:, lanes] = 0.0
        state.community_peak_kw[lanes] = 0.0

    def commit(self, position_kw: npt.ArrayLike) -> IntArray:
        """The lanes at the gate commit their day-ahead position and enter the day.

        Args:
            position_kw: wanted position, + buys [N,H,B]; clipped to the position limit. Not read for other lanes.

        Returns:
            How many of each lane's hours had to be clipped [B].

        Raises:
            UsageError: no lane stands at the gate, or the position has a wrong shape or holds NaN.
        """
        given_kw = _checked("position_kw", position_kw, self.state.position_kw.shape)
        if not self.state.at_gate.any():
            raise UsageError("commit: no lane stands at the gate; step, or reset first")
        clipped = np.zeros(self.num_lanes, np.int64)
        if not self._commit(given_kw, self._world, self._lanes, clipped):
            raise UsageError("commit: position_kw holds NaN")
        return clipped

    def step(
        self,
        battery_kw: npt.ArrayLike,
        shiftable_kw: npt.ArrayLike,
        curtail_kw: npt.ArrayLike,
        offers: npt.ArrayLike | None = None,
    ) -> StepResult:
        """Play one hour of every lane that is inside a day; the others keep their state.

        Whatever is wanted beyond what is feasible, infinity included, is clipped.

        Args:
            battery_kw: wanted power, + charges [N,B].
            shiftable_kw: wanted power of the shiftable load [N,B].
            curtail_kw: PV to throw away [N,B].
            offers: to trade with other prosumers, in the form of the market mechanism, + buys [M,B]. None, and all
                that a prosumer has over or lacks beyond its position, its own generation at most, is offered for it.

        Returns:
            What happened, in arrays that the next step overwrites.

        Raises:
            UsageError: no lane is inside a day, or something wanted has a wrong shape or holds NaN; nothing has
                changed then.
        """
        state, by_prosumer = self.state, self.state.soc_kwh.shape
        given = Wanted(
            _checked("battery_kw", battery_kw, by_prosumer),
            _checked("shiftable_kw", shiftable_kw, by_prosumer),
            _checked("curtail_kw", curtail_kw, by_prosumer),
            self._no_offers if offers is None else _checked("offers", offers, (self._num_offers, self.num_lanes)),
        )
        if (state.at_gate | (state.hour == self.community.hours_per_day)).all():
            raise UsageError("step: no lane is inside a day; commit a position, or reset first")
        field: int = self._take(given, self._wanted)
        if field >= 0:
            raise UsageError(f"step: {Wanted._fields[field]} holds NaN")
        central = offers is None
        self._crew.share(lambda t, first, last: self._play(*self._arrays, self._work[t], first, last, central))
        return self._result


def _checked(field: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != shape:
        raise UsageError(f"{field}: shape {array.shape}, expected {shape}")
    return array


def _name_state(lanes: Lanes, num_lanes: int) -> State:
    """The kernel's lanes by name, without the spare ones."""
    counts, by_prosumer = lanes.counts[:, :num_lanes], lanes.by_prosumer[:, :, :num_lanes]
    return State(
        day=counts[at.DAY],
        hour=counts[at.HOUR],
        days_left=counts[at.DAYS_LEFT],
        at_gate=lanes.at_gate[:num_lanes],
        soc_kwh=by_prosumer[at.NOW_SOC],
        backlog_kwh=by_prosumer[at.NOW_BACKLOG],
        position_kw=lanes.position_kw[:, :, :num_lanes],
        connection_peak_kw=by_prosumer[at.NOW_PEAK],
        community_peak_kw=lanes.community_peak_kw[0, :num_lanes],
    )


def name_results(results: Results, num_lanes: int) -> StepResult:
    """The kernel's results by name, without the spare ones."""
    by_prosumer = results.by_prosumer[:, :, :num_lanes]
    by_lane, counts, flags = (part[:, :num_lanes] for part in (results.by_lane, results.counts, results.flags))
    return StepResult(
        battery_kw=by_prosumer[at.BATTERY],
        shiftable_kw=by_prosumer[at.SHIFTABLE],
        curtail_kw=by_prosumer[at.CURTAIL],
        net_import_kw=by_prosumer[at.NET_IMPORT],
        realtime_kw=by_prosumer[at.REALTIME],
        p2p_kw=by_prosumer[at.P2P],
        trade_kw=results.trade_kw[:, :num_lanes],
        cost_ct=results.cost_ct[:, :, :num_lanes],
        community_cost_ct=by_lane[at.COMMUNITY_COST],
        soc_kwh=by_prosumer[at.SOC],
        backlog_kwh=by_prosumer[at.BACKLOG],
        v_pu=results.v_pu[:, :num_lanes],
        voltage_excess_pu=by_lane[at.VOLTAGE_EXCESS],
        violated_buses=counts[at.VIOLATED_BUSES],
        losses_kw=by_lane[at.LOSSES],
        slack_kw=by_lane[at.SLACK],
        p2p_price_ct_per_kwh=by_lane[at.TRADE_PRICE],
        exchange_kw=by_lane[at.EXCHANGE],
        peak_increase_kw=by_lane[at.PEAK_INCREASE],
        converged=flags[at.CONVERGED],
        clipped=counts[at.CLIPPED],
        done=flags[at.DONE],
        played=flags[at.PLAYED],
    )
