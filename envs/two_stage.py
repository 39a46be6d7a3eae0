"""The two-stage game on B lanes, without the faces: days of a data set, the simulator, observation, reward and info.

A day is one day-ahead step, which commits the position, and H real-time steps. `TwoStageVectorEnv` is this game with
Gymnasium's vector interface, `TwoStageEnv` is a batch of one.

Axis letters: B lanes, N prosumers, E undirected trade edges, H hours of a day, K buses, T cost terms, R reward terms.
Observations, actions and infos lead with B (`[B,N]`); the simulator's arrays are lanes-last (`[N,B]`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from prosumer_gym.actions import position_to_kw, to_kw
from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.compiled import compiled
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.envs.observation import ObservationBuilder, check_fit, observation_space
from prosumer_gym.envs.reward import REWARD_TERMS, RewardWeights, reward, reward_terms
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import COST_TERMS, Simulator, StepResult

Action = Mapping[str, npt.NDArray[Any]]
Info = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One part of the action."""

    name: str
    axes: str
    stage: Literal["day-ahead", "real time"]
    """When it is read; at the other stage it must be there but changes nothing."""
    scale: str
    description: str


ACTION_TABLE: tuple[Part, ...] = (
    Part("day_ahead", "NH", "day-ahead", "a x position limit", "day-ahead position, + = buy"),
    Part("battery", "N", "real time", "a x battery power", "battery, + = charge"),
    Part("shiftable", "N", "real time", "(a + 1) / 2 x shiftable power", "shiftable load"),
    Part("curtail", "N", "real time", "max(0, a) x available PV", "PV thrown away; 0 and less throw nothing away"),
    Part("trade", "2E", "real time", "a x edge limit",
         "peer-to-peer offers, + = buy: entry e is that of edge e's lower-numbered end, entry E + e of the other"),
)  # fmt: skip
"""The action. Every part lies in [-1, 1]."""


@dataclass(frozen=True)
class Note:
    """One entry of the info of a step."""

    name: str
    axes: str
    unit: str
    description: str


INFO_TABLE: tuple[Note, ...] = (
    Note("day", "", "-", "row of the data set that was played (after a reset: that will be played)"),
    Note("hour", "", "-", "hour that was played; -1 at the day-ahead step"),
    Note("out_of_range", "", "-", "numbers of the action beyond [-1, 1], clipped; only of the parts that were read"),
    Note("clipped", "", "-", "powers that were not feasible and clipped"),
    Note("reward_terms", "", "ct", "the terms of the reward by name; they sum to it"),
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
    Note("violated_buses", "", "-", "buses beyond the limits"),
    Note("losses_kw", "", "kW", "losses of the feeder"),
    Note("slack_kw", "", "kW", "drawn from the substation: prosumers, rest of the feeder and losses"),
    Note("converged", "", "-", "whether the power flow has a solution; if not, every bus counts as violated"),
)
"""The info of a step; after a reset only `day` is there. At the day-ahead step nothing flows and all powers are zero."""

_SIMULATED = tuple(note.name for note in INFO_TABLE if note.name in {item.name for item in fields(StepResult)})


def action_space(community: Community) -> spaces.Dict:
    """The space of a single environment's action."""
    shapes = part_shapes(community)
    return spaces.Dict([(name, spaces.Box(-1.0, 1.0, shape, dtype=np.float64)) for name, shape in shapes.items()])


def part_shapes(community: Community) -> dict[str, tuple[int, ...]]:
    """Shape of each part of a single environment's action."""
    sizes = {"N": (community.num_prosumers,), "NH": (community.num_prosumers, community.hours_per_day)}
    sizes["2E"] = (2 * community.num_edges,)
    return {part.name: sizes[part.axes] for part in ACTION_TABLE}


class TwoStageGame:
    """B lanes of the game, each on a day and at an hour of its own.

    Args:
        num_lanes: B.
        dataset: name of a data set, or one.
        scenario: name of a community, or one.
        split: "train", "dev" or "test": the days that may be played.
        days_per_episode: days of an episode; more than one need consecutive dates of one block.
        reward: weights of the reward, as `RewardWeights` or a mapping of their names.
        threads: for batches of 256 lanes and more.

    Raises:
        UsageError: unknown name, split without days, data and community that do not fit, or no day on which an
            episode of that many days can begin.
    """

    def __init__(
        self,
        num_lanes: int,
        *,
        dataset: str | Dataset,
        scenario: str | Community,
        split: str,
        days_per_episode: int,
        reward: RewardWeights | Mapping[str, float] | None,
        threads: int = 1,
    ) -> None:
        self.dataset = load_dataset(dataset) if isinstance(dataset, str) else dataset
        self.community = make_scenario(scenario) if isinstance(scenario, str) else scenario
        self.split = split
        self.days_per_episode = days_per_episode
        self.weights = RewardWeights.of(reward)
        self.num_lanes = num_lanes
        check_fit(self.dataset, self.community)
        self.first_days = first_days(self.dataset, split, days_per_episode)
        self.observation_space = observation_space(self.dataset)
        self.action_space = action_space(self.community)
        self.simulator = Simulator(self.community, self.dataset.exogenous, num_lanes, threads=threads)
        self.builder = ObservationBuilder(self.dataset, num_lanes)

        self._shapes = part_shapes(self.community)
        self._nothing = _no_result(self.simulator, self.community)
        self.result: StepResult = self._nothing
        """What happened in the last step; zero in lanes that were at the gate."""
        self.terms_ct: FloatArray = np.zeros((len(REWARD_TERMS), num_lanes))
        """Terms of the last step's reward [R,B]."""
        self.day = np.zeros(num_lanes, np.int64)
        """Row that the last step played [B]."""
        self.hour = np.full(num_lanes, -1)
        """Hour that the last step played, -1 for the day-ahead step [B]."""
        self.out_of_range = np.zeros(num_lanes, np.int64)
        self.clipped = np.zeros(num_lanes, np.int64)
        self.episode_cost_ct = np.zeros(num_lanes)
        """Community cost since the episode began [B]."""
        self.exchange_kw = np.zeros((num_lanes, self.community.hours_per_day))
        """Exchange in the hours of the day that were played [B,H]."""

    @property
    def observations(self) -> dict[str, FloatArray]:
        """What each lane sees, leading axis B; the next step writes into these arrays."""
        return self.builder.arrays

    @property
    def over(self) -> BoolArray:
        """Whether each lane's episode is over (or has not begun) [B]."""
        state = self.simulator.state
        return np.asarray(state.hour >= self.community.hours_per_day)

    def row_of(self, day: Any) -> int:
        """The row of the data set that a user means by `day`: a row, or a date such as "2023-07-01".

        Raises:
            UsageError: no such day, or no episode of this environment may begin on it.
        """
        dataset = self.dataset
        if isinstance(day, str):
            try:
                date = np.datetime64(day, "D")
            except ValueError:
                raise UsageError(f"day: {day!r} is not a date; write it like {dataset.dates[0]}") from None
            rows = np.flatnonzero(dataset.dates == date)
            if rows.size == 0:
                raise UsageError(
                    f"day: {dataset.id} has no {date}; it runs from {dataset.dates[0]} to {dataset.dates[-1]}"
                )
            row = int(rows[0])
        else:
            try:
                row = operator.index(day)
            except TypeError:
                raise UsageError(f"day: {day!r} is neither a row of the data set nor a date") from None
            if not 0 <= row < dataset.num_days:
                raise UsageError(f"day: {dataset.id} has rows 0 ... {dataset.num_days - 1}, not {row}")
        if row not in self.first_days:
            raise UsageError(
                f"day: row {row} ({dataset.dates[row]}, {dataset.split[row]}) cannot begin an episode of "
                f"{self.days_per_episode} {self.split} days; choose one of days('{self.split}')"
            )
        return row

    def begin(self, lanes: BoolArray, row: IntArray) -> None:
        """An episode begins on row `row` [B] in the lanes of the mask [B]."""
        self.simulator.reset(row, days_per_episode=self.days_per_episode, mask=lanes)
        self.builder.open_day(lanes, self.simulator.state.day)
        self._write_state()
        self.day[lanes] = row[lanes]
        self.hour[lanes] = -1
        self.episode_cost_ct[lanes] = 0.0
        self.exchange_kw[lanes] = 0.0

    def play(self, action: Action, lanes: BoolArray) -> tuple[FloatArray, BoolArray]:
        """One step of the lanes of the mask [B]; each part of `action` leads with B.

        Returns:
            Reward [B] and whether the episode is over [B]; zero and false in other lanes.

        Raises:
            UsageError: a part of the action is missing or unknown, has a wrong shape or holds NaN; nothing has changed.
        """
        parts, out_of_range = self._checked(action, lanes)
        state = self.simulator.state
        gate = state.at_gate & lanes
        inside = lanes & ~gate
        self.day[:] = state.day
        self.hour[:] = np.where(gate, -1, state.hour)
        self.out_of_range = np.where(gate, out_of_range[0], out_of_range[1:].sum(axis=0))
        self.clipped = np.zeros(self.num_lanes, np.int64)
        self.result = self._nothing
        if inside.any():
            self._dispatch(parts)
        if gate.any():
            self._commit(parts, gate)
        self.builder.open_day(inside & state.at_gate, state.day)
        self.builder.reveal_hour(lanes & ~state.at_gate & ~self.over, state.day, state.hour)
        self._write_state()
        result = self.result
        self.terms_ct = reward_terms(
            self.weights, self.community.dt_h, result.cost_ct, result.voltage_excess_pu, result.peak_increase_kw
        )
        self.episode_cost_ct += result.community_cost_ct
        return reward(self.terms_ct), np.array(result.done)

    def _dispatch(self, parts: dict[str, FloatArray]) -> None:
        """Play the hour of the lanes inside a day."""
        state = self.simulator.state
        rows, hour = np.arange(self.num_lanes), np.minimum(state.hour, self.community.hours_per_day - 1)
        wanted = to_kw(self.community, parts, self.builder.arrays["pv_kw"][rows, hour])
        self.result = self.simulator.step(
            wanted.battery_kw.T, wanted.shiftable_kw.T, wanted.curtail_kw.T, wanted.offer_kw.T
        )
        self.clipped = self.result.clipped.copy()
        played = self.result.played
        self.exchange_kw[rows[played], hour[played]] = self.result.exchange_kw[played]

    def _commit(self, parts: dict[str, FloatArray], gate: BoolArray) -> None:
        """Commit the position of the lanes that were at the gate before this step."""
        state = self.simulator.state
        arrived = state.at_gate & ~gate  # lanes whose day ended in this very step must not commit the next one's
        state.at_gate[arrived] = False
        self.clipped += self.simulator.commit(np.moveaxis(position_to_kw(self.community, parts), 0, -1))
        state.at_gate[arrived] = True
        self.builder.commit(gate, state.position_kw)
        self.exchange_kw[gate] = 0.0

    def _write_state(self) -> None:
        state = self.simulator.state
        self.builder.write_state(
            ~state.at_gate, state.hour, state.days_left, state.soc_kwh, state.backlog_kwh, state.connection_peak_kw,
            state.community_peak_kw,
        )  # fmt: skip

    def _checked(self, action: Action, lanes: BoolArray) -> tuple[dict[str, FloatArray], IntArray]:
        """The parts of an action, clipped to [-1, 1], and how many numbers of each part were clipped [5,B]."""
        if not isinstance(action, Mapping):
            raise UsageError(f"action: a {type(action).__name__} is no mapping; give {', '.join(self._shapes)} by name")
        unknown = action.keys() - self._shapes.keys()
        if unknown:
            raise UsageError(f"action: key {min(map(str, unknown))!r} is unknown; it has {', '.join(self._shapes)}")
        parts: dict[str, FloatArray] = {}
        counts = np.zeros((len(self._shapes), self.num_lanes), np.int64)
        for k, (name, shape) in enumerate(self._shapes.items()):
            if name not in action:
                raise UsageError(f"action: key {name!r} is missing; it has {', '.join(self._shapes)}")
            try:
                given = np.ascontiguousarray(action[name], dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise UsageError(f"action[{name!r}]: is not an array of numbers: {error}") from None
            if given.shape != (self.num_lanes, *shape):
                raise UsageError(f"action[{name!r}]: shape {given.shape}, expected {(self.num_lanes, *shape)}")
            clipped = np.empty_like(given)
            flat = given.reshape(self.num_lanes, -1)
            if _clip(flat, lanes, clipped.reshape(flat.shape), counts[k]):
                raise UsageError(f"action[{name!r}]: holds NaN; give numbers in [-1, 1]")
            parts[name] = clipped
        return parts, counts

    def info(self, lane: int) -> Info:
        """What is told about the last step of one lane."""
        result = self.result
        info: Info = {
            "day": int(self.day[lane]),
            "hour": int(self.hour[lane]),
            "out_of_range": int(self.out_of_range[lane]),
            "clipped": int(self.clipped[lane]),
            "reward_terms": dict(zip(REWARD_TERMS, self.terms_ct[:, lane].tolist(), strict=True)),
        }
        for name in _SIMULATED:
            if name == "clipped":
                continue
            value = getattr(result, name)[..., lane]
            info[name] = value.copy() if value.ndim else value.item()
        if self.hour[lane] < 0:
            info["converged"] = True
        return info

    def infos(self) -> Info:
        """What is told about the last step of every lane, leading axis B."""
        info: Info = {
            "day": self.day.copy(),
            "hour": self.hour.copy(),
            "out_of_range": self.out_of_range.copy(),
            "clipped": self.clipped.copy(),
            "reward_terms": {name: term.copy() for name, term in zip(REWARD_TERMS, self.terms_ct, strict=True)},
        }
        for name in _SIMULATED:
            if name != "clipped":
                info[name] = np.moveaxis(getattr(self.result, name), -1, 0).copy(order="C")
        info["converged"] |= self.hour < 0
        return info


class DayQueue:
    """First days of a lane's episodes: each day of the split once, in random order, then again in another order.

    The order is drawn for a whole round at a time. A new generator (a new seed) begins a new round.
    """

    def __init__(self, first_days: IntArray) -> None:
        self._first_days = first_days
        self._round: IntArray = first_days[:0]
        self._next = 0
        self._drawn_by: np.random.Generator | None = None

    def pop(self, rng: np.random.Generator) -> int:
        """The next first day, drawn by `rng`."""
        if self._drawn_by is not rng or self._next == len(self._round):
            self._round = rng.permutation(self._first_days)
            self._next = 0
            self._drawn_by = rng
        self._next += 1
        return int(self._round[self._next - 1])


def first_days(dataset: Dataset, split: str, days_per_episode: int) -> IntArray:
    """Rows on which an episode may begin: all its days in the split, in one block, on consecutive dates.

    Raises:
        UsageError: unknown or empty split, or no such row.
    """
    if isinstance(days_per_episode, bool) or not isinstance(days_per_episode, int) or days_per_episode < 1:
        raise UsageError(f"days_per_episode: {days_per_episode!r} must be a whole number, 1 or more")
    rows = dataset.days(split)
    last = rows + days_per_episode - 1
    within = last < dataset.num_days
    rows, last = rows[within], last[within]
    together = (
        (dataset.block[last] == dataset.block[rows])
        & (dataset.split[last] == split)
        & (dataset.dates[last] - dataset.dates[rows] == np.timedelta64(days_per_episode - 1, "D"))
    )
    if not together.any():
        raise UsageError(
            f"days_per_episode: {dataset.id} has no {days_per_episode} consecutive {split} days; use fewer"
        )
    return rows[together]


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
    types = {"violated_buses": np.int64, "clipped": np.int64} | dict.fromkeys(("converged", "done", "played"), np.bool_)
    return StepResult(
        **{
            item.name: np.zeros(
                shapes.get(item.name, (N, B) if item.name in by_prosumer else (B,)), types.get(item.name, np.float64)
            )
            for item in fields(StepResult)
        }
    )


@compiled
def _clip(values, lanes, clipped, count):  # type: ignore[no-untyped-def]
    """Clip the lanes of the mask to [-1, 1] and count what was clipped; true when one of them holds NaN."""
    for lane in range(values.shape[0]):
        if not lanes[lane]:
            clipped[lane, :] = 0.0
            continue
        for i in range(values.shape[1]):
            value = values[lane, i]
            if np.isnan(value):
                return True
            clipped[lane, i] = min(max(value, -1.0), 1.0)
            if clipped[lane, i] != value:
                count[lane] += 1
    return False
