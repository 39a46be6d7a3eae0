"""The two-stage game on B lanes: the simulator with the whole observation, action and info.

A day is one day-ahead step, which commits the position, and H real-time steps.

Axis letters: B lanes, N prosumers, E undirected trade edges, H hours of a day, K buses, T cost terms, R reward terms.
Observations, actions and infos lead with B (`[B,N]`); the simulator's arrays are lanes-last (`[N,B]`).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.compiled import compiled
from prosumer_gym.envs.action import Action, ActionReader, action_space
from prosumer_gym.envs.game import Game, Info, Note, book, whole_number
from prosumer_gym.envs.observation import Observation, ObservationBuilder, observation_space
from prosumer_gym.envs.reward import REWARD_TERMS, reward_terms
from prosumer_gym.simulator import COST_TERMS, Simulator, StepResult

INFO_TABLE: tuple[Note, ...] = (
    Note("day", "", "-", "row of the data set that was played (after a reset: that will be played)", int),
    Note("hour", "", "-", "hour that was played; -1 at the day-ahead step", int),
    Note(
        "out_of_range", "", "-", "numbers of the action beyond [-1, 1], clipped; only of the parts that were read", int
    ),
    Note("clipped", "", "-", "powers that were not feasible and clipped", int),
    Note("reward_terms", "", "ct", "the terms of the reward by name; they sum to it", dict),
    Note("community_cost_ct", "", "ct", "what the hour cost all prosumers together"),
    Note("cost_ct", "TN", "ct", f"the same by term ({', '.join(COST_TERMS)}) and prosumer"),
    Note("battery_kw", "N", "kW", "battery as it ran, + = charge"),
    Note("shiftable_kw", "N", "kW", "shiftable load as it ran"),
    Note("curtail_kw", "N", "kW", "PV thrown away"),
    Note("net_import_kw", "N", "kW", "drawn through the connection, + = import"),
    Note("realtime_kw", "N", "kW", "settled at real-time prices, + = bought"),
    Note("p2p_kw", "N", "kW", "traded with the neighbours, + = bought"),
    Note("trade_kw", "E", "kW", "trade on each edge, + = its lower-numbered end buys"),
    Note("exchange_kw", "", "kW", "sum of the net imports"),
    Note("peak_increase_kw", "", "kW", "by how much the community's highest import of the day rose"),
    Note("v_pu", "K", "p.u.", "voltage of each bus"),
    Note("voltage_excess_pu", "", "p.u.", "voltage beyond the limits, summed over the buses"),
    Note("violated_buses", "", "-", "buses beyond the limits", int),
    Note("losses_kw", "", "kW", "losses of the feeder"),
    Note("slack_kw", "", "kW", "drawn from the substation: prosumers, rest of the feeder and losses"),
    Note("converged", "", "-", "whether the power flow has a solution; if not, every bus counts as violated", bool),
)
"""The info of a step; after a reset only `day` is there. At the day-ahead step all powers are zero."""

_OF_RESULT = {item.name for item in fields(StepResult)} - {"clipped"}
_SCALARS = tuple((note.name, note.kind) for note in INFO_TABLE if note.name in _OF_RESULT and not note.axes)
_ARRAYS = tuple(note.name for note in INFO_TABLE if note.name in _OF_RESULT and note.axes)


class TwoStageGame(Game):
    """B lanes of the game, each on a day and at an hour of its own.

    Args:
        num_lanes: B.
        single: whether actions come without the axis B; B is 1 then.
        threads: for batches of 256 lanes and more.
        game: as for `Game`.

    Raises:
        UsageError: as `Game`.
    """

    def __init__(self, num_lanes: int, *, single: bool = False, threads: int = 1, **game: Any) -> None:
        super().__init__(num_lanes, **game)
        num_lanes, threads = self.num_lanes, whole_number("threads", threads)
        self.observation_space = observation_space(self.dataset)
        self.action_space = action_space(self.community)
        self.reader = ActionReader(self.community, num_lanes, single=single)
        self.simulator = Simulator(self.community, self.dataset.exogenous, num_lanes, threads=threads)
        self.builder = ObservationBuilder(self.dataset, num_lanes)

        self._gate = np.zeros(num_lanes, np.bool_)
        self._nothing = _no_result(self.simulator, self.community)
        self.result: StepResult = self._nothing
        """What happened in the last step; zero in lanes that were at the gate."""
        self.terms_ct: FloatArray = np.zeros((len(REWARD_TERMS), num_lanes))
        """Terms of the last step's reward [R,B]."""
        self.day = np.zeros(num_lanes, np.int64)
        """Row that the last step played [B]."""
        self.hour = np.full(num_lanes, -1)
        """Hour that the last step played, -1 for the day-ahead step [B]."""
        self.clipped: IntArray = self._nothing.clipped
        """How many powers were not feasible in the last step [B]."""
        self.episode_cost_ct = np.zeros(num_lanes)
        """Community cost since the episode began [B]."""
        self.exchange_kw = np.zeros((num_lanes, self.community.hours_per_day))
        """Exchange in the hours of the day that were played [B,H]."""
        self.position_kw = np.zeros((num_lanes, self.community.hours_per_day))
        """Sum of the positions committed for the day that the last step played, zero before [B,H]."""

    @property
    def soc_kwh(self) -> FloatArray:
        """State of charge of the batteries [N,B]."""
        return self.simulator.state.soc_kwh

    def observation(self) -> Observation:
        """What the first lane sees, without the axis B, in arrays of the caller's own."""
        return self.builder.copy_of_first()

    def observations(self, *, copy: bool) -> Observation:
        """What every lane sees, leading axis B; without a copy the next step overwrites it."""
        return {name: values.copy() if copy else values for name, values in self.builder.arrays.items()}

    def observations_of(self, lanes: IntArray) -> list[Observation]:
        """What some lanes see, without the axis B, in arrays of the caller's own."""
        some = {name: values[lanes] for name, values in self.builder.arrays.items()}
        return [{name: values[k].copy() for name, values in some.items()} for k in range(len(lanes))]

    def begin(self, lanes: BoolArray, row: IntArray) -> None:
        """An episode begins on row `row` [B] in the lanes of the mask [B]."""
        self.simulator.reset(row, days_per_episode=self.days_per_episode, mask=lanes)
        self.builder.open_day(lanes, self.simulator.state.day)
        self._write_state()
        self.day[lanes] = row[lanes]
        self.hour[lanes] = -1
        self.episode_cost_ct[lanes] = 0.0
        self.exchange_kw[lanes] = 0.0
        self.position_kw[lanes] = 0.0

    def play(self, action: Action, lanes: BoolArray) -> tuple[FloatArray, BoolArray]:
        """One step of the lanes of the mask [B]; each part of `action` leads with B, unless the game is `single`.

        Returns:
            Reward [B] and whether the episode is over [B]; zero and false in other lanes.

        Raises:
            UsageError: a part of the action is missing or unknown, has a wrong shape or holds NaN; nothing has changed.
        """
        state, wanted = self.simulator.state, self.reader.wanted
        self.reader.read(action, lanes, state.at_gate, state.hour, self.builder.arrays["pv_kw"])
        gate, inside = _split(lanes, state.at_gate, state.day, state.hour, self._gate, self.day, self.hour)
        self.clipped = self._nothing.clipped
        self.result = self._nothing
        if inside:
            self.result = self.simulator.step(wanted.battery_kw, wanted.shiftable_kw, wanted.curtail_kw, wanted.offers)
            self.clipped = self.result.clipped
            if self.days_per_episode > 1:
                self.builder.open_day(~self._gate & state.at_gate, state.day)
        if gate:
            self._commit(wanted.position_kw)
        result = self.result
        book(self.hour, result.community_cost_ct, result.exchange_kw, self.episode_cost_ct, self.exchange_kw)
        self.builder.reveal_hour(lanes, state.at_gate, state.day, state.hour)
        self._write_state()
        self.terms_ct, total_ct = reward_terms(
            self.weights, self.community.dt_h, result.cost_ct, result.voltage_excess_pu, result.peak_increase_kw
        )
        return total_ct, result.done.copy()

    def _commit(self, position_kw: FloatArray) -> None:
        """Commit the position [N,H,B] of the lanes that were at the gate before this step."""
        state, gate = self.simulator.state, self._gate
        arrived = state.at_gate & ~gate  # lanes whose day ended in this very step must not commit the next one's
        state.at_gate[arrived] = False
        self.clipped = self.clipped + self.simulator.commit(position_kw)
        state.at_gate[arrived] = True
        self.builder.commit(gate, state.position_kw)
        self.position_kw[gate] = state.position_kw.sum(axis=0).T[gate]

    def _write_state(self) -> None:
        state = self.simulator.state
        self.builder.write_state(
            state.at_gate, state.hour, state.days_left, state.soc_kwh, state.backlog_kwh, state.connection_peak_kw,
            state.community_peak_kw,
        )  # fmt: skip

    def info(self) -> Info:
        """What is told about the last step of the first lane."""
        lane, result = 0, self.result
        info: Info = {
            "day": int(self.day[lane]),
            "hour": int(self.hour[lane]),
            "out_of_range": int(self.reader.out_of_range[lane]),
            "clipped": int(self.clipped[lane]),
            "reward_terms": dict(zip(REWARD_TERMS, self.terms_ct[:, lane].tolist(), strict=True)),
        }
        for name, kind in _SCALARS:
            info[name] = kind(getattr(result, name)[lane])
        for name in _ARRAYS:
            info[name] = getattr(result, name)[..., lane].copy()
        if self.hour[lane] < 0:
            info["converged"] = True
        return info

    def infos(self) -> Info:
        """What is told about the last step of every lane, leading axis B."""
        info: Info = {
            "day": self.day.copy(),
            "hour": self.hour.copy(),
            "out_of_range": self.reader.out_of_range.copy(),
            "clipped": self.clipped.astype(np.int64),
            "reward_terms": {name: term.copy() for name, term in zip(REWARD_TERMS, self.terms_ct, strict=True)},
        }
        for name, kind in _SCALARS:
            info[name] = getattr(self.result, name).astype(kind)
        for name in _ARRAYS:
            info[name] = np.moveaxis(getattr(self.result, name), -1, 0).copy(order="C")
        info["converged"] |= self.hour < 0
        return info


def _no_result(simulator: Simulator, community: Community) -> StepResult:
    """The result of a step in which nobody was inside a day."""
    N, B = simulator.state.soc_kwh.shape
    shapes: dict[str, tuple[int, ...]] = {
        "cost_ct": (len(COST_TERMS), N, B),
        "trade_kw": (community.num_edges, B),
        "v_pu": (community.feeder.num_buses, B),
    }
    by_prosumer = {
        "battery_kw", "shiftable_kw", "curtail_kw", "net_import_kw", "realtime_kw", "p2p_kw", "soc_kwh", "backlog_kwh",
    }  # fmt: skip
    types: dict[str, Any] = {"violated_buses": np.int64, "clipped": np.int64} | dict.fromkeys(
        ("converged", "done", "played"), np.bool_
    )
    arrays: dict[str, Any] = {
        item.name: np.zeros(
            shapes.get(item.name, (N, B) if item.name in by_prosumer else (B,)), types.get(item.name, np.float64)
        )
        for item in fields(StepResult)
    }
    return StepResult(**arrays)


@compiled
def _split(
    lanes: BoolArray,
    at_gate: BoolArray,
    day: IntArray,
    hour: IntArray,
    gate: BoolArray,
    day_played: IntArray,
    hour_played: IntArray,
) -> tuple[bool, bool]:
    """Which lanes of the mask stand at the gate, and what is played. Returns whether any does, whether any does not."""
    some_gate, some_inside = False, False
    for lane in range(lanes.shape[0]):
        gate[lane] = lanes[lane] and at_gate[lane]
        day_played[lane] = day[lane]
        hour_played[lane] = -1 if gate[lane] or not lanes[lane] else hour[lane]
        some_gate |= bool(gate[lane])
        some_inside |= bool(hour_played[lane] >= 0)
    return some_gate, some_inside
