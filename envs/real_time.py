"""The real-time game on B lanes: the day-ahead position is planned beforehand, prosumers trade centrally.

An agent runs batteries, shiftable loads and curtailment, H steps a day. Observation and action are flat and float32.

Axis letters: B lanes, N prosumers, H hours of a day, R reward terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray, real_numbers
from prosumer_gym.crew import Crew
from prosumer_gym.envs import real_time_kernel as kernel
from prosumer_gym.envs.game import Game, Info, Note, book, whole_number
from prosumer_gym.envs.planning import DayPlans, Planner
from prosumer_gym.envs.real_time_kernel import Float32Array, Scales, Told
from prosumer_gym.envs.real_time_observation import (
    make_script,
    make_sight,
    positions_of,
    real_time_layout,
    write_positions,
)
from prosumer_gym.envs.reward import REWARD_TERMS
from prosumer_gym.errors import UsageError
from prosumer_gym.hour import entry
from prosumer_gym.lanes import LANES
from prosumer_gym.simulator import name_results
from prosumer_gym.tables import NOW_SOC, make_results, tabulate

ACTION_PARTS = ("battery", "shiftable", "curtail")
"""What the action consists of, N numbers each, by the scales of the two-stage environment."""

INFO_TABLE: tuple[Note, ...] = (
    Note("day", "", "-", "row of the data set that was played (after a reset: that will be played)", int),
    Note("hour", "", "-", "hour that was played", int),
    Note("out_of_range", "", "-", "numbers of the action beyond [-1, 1], clipped", int),
    Note("clipped", "", "-", "powers that were not feasible and clipped", int),
    Note("violated_buses", "", "-", "buses beyond the voltage limits", int),
    Note("reward_terms", "", "ct", "the terms of the reward by name; they sum to it", dict),
    Note("community_cost_ct", "", "ct", "what the hour cost all prosumers together"),
    Note("exchange_kw", "", "kW", "sum of the net imports"),
    Note("peak_increase_kw", "", "kW", "by how much the community's highest import of the day rose"),
    Note("voltage_excess_pu", "", "p.u.", "voltage beyond the limits, summed over the buses"),
    Note("losses_kw", "", "kW", "losses of the feeder"),
    Note("converged", "", "-", "whether the power flow has a solution; if not, every bus counts as violated", bool),
)
"""The info of a step; after a reset only `day` is there."""

_COUNTS = ("day", "hour", "out_of_range", "clipped", "violated_buses")
_FIGURES = ("community_cost_ct", "exchange_kw", "peak_increase_kw", "voltage_excess_pu", "losses_kw")
_FIRST_FIGURE = kernel.COMMUNITY_COST
_MADE_ANEW = ("result", "_world", "_arrays", "_scales", "_desks", "_play", "_begin", "_crew")


class RealTimeGame(Game):
    """B lanes of the game, each on a day and at an hour of its own.

    Args:
        num_lanes: B.
        planner: gives the day-ahead position `[N,H]` of a day from the two-stage observation at its gate; None for the
            reference's. Every day is planned once, when an episode comes to it for the first time.
        single: whether actions come without the axis B; B is 1 then.
        watched: whether pictures will be made, for which the results of all lanes are kept.
        threads: for batches of 256 lanes and more.
        game: as for `Game`.

    Raises:
        UsageError: as `Game`.
    """

    def __init__(
        self,
        num_lanes: int,
        *,
        planner: Planner | None,
        single: bool = False,
        watched: bool = False,
        threads: int = 1,
        **game: Any,
    ) -> None:
        super().__init__(num_lanes, **game)
        num_lanes = self.num_lanes
        self.threads = whole_number("threads", threads)
        self.layout = real_time_layout(self.dataset, self.community)
        num = self.community.num_prosumers
        self.action_slices = {part: slice(k * num, (k + 1) * num) for k, part in enumerate(ACTION_PARTS)}
        self.observation_space = self.layout.box
        self.action_space = spaces.Box(-1.0, 1.0, (3 * num,), dtype=np.float32)
        self._action_shape = (3 * num,) if single else (num_lanes, 3 * num)
        self._single = single
        self._watched = watched
        self._plans = DayPlans(self.dataset, self.community, planner)
        self._world = tabulate(self.community, self.dataset.exogenous)
        self._script = make_script(self.dataset, self.community, self._world, self.layout)
        self._lanes = kernel.make_lanes_without_positions(self.community, num_lanes)
        self._results = make_results(self.community, num_lanes if watched else LANES)
        self._handed_out = True
        self._told = kernel.make_told(num_lanes, self._free_observations())
        self.day = np.zeros(num_lanes, np.int64)
        self.hour = np.full(num_lanes, -1)
        self.episode_cost_ct = np.zeros(num_lanes)
        self.exchange_kw = np.zeros((num_lanes, self.community.hours_per_day))
        self.position_kw = np.zeros((num_lanes, self.community.hours_per_day))
        self._prepare()

    def _prepare(self) -> None:
        """What follows from the rest; pickling leaves it out."""
        community, weights, width = self.community, self.weights, self._results.flags.shape[1]
        self.result = name_results(self._results, min(self.num_lanes, width))
        self._arrays = (self._world, self._lanes, self._script, make_sight(community, self.days_per_episode))
        self._scales = Scales(
            np.array(community.fleet.battery_power_kw),
            np.array(community.fleet.shiftable_power_kw),
            weights.voltage_ct_per_pu_h * community.dt_h,
            float(weights.peak_ct_per_kw),
        )
        self._crew = Crew(self.threads, self.num_lanes, -(-self.num_lanes // LANES))
        self._desks = [kernel.make_desk(community, self._results)]
        while len(self._desks) < self._crew.size:
            own = self._results if self._watched else make_results(community, LANES)
            self._desks.append(kernel.make_desk(community, own))
        actions = np.zeros((self.num_lanes, 3 * community.num_prosumers), np.float32)
        self._play = entry(
            kernel.play_hour, *self._arrays, self._scales, self._desks[0], actions, self._told, 0, 0, self._watched
        )
        some = np.ones(1, np.bool_)
        self._begin = entry(
            kernel.begin_episodes, *self._arrays, self._desks[0], some, self.day, 0, self._told.observations
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _MADE_ANEW}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.__dict__.update(attributes)
        lanes = kernel.make_lanes_without_positions(self.community, self.num_lanes)
        for new, kept in zip(lanes, self._lanes, strict=True):  # into arrays that lie where the kernel is fast
            new[:] = kept
        self._lanes = lanes
        self._world = tabulate(self.community, self.dataset.exogenous)
        self._prepare()

    @property
    def soc_kwh(self) -> FloatArray:
        """State of charge of the batteries [N,B]."""
        return self._lanes.by_prosumer[NOW_SOC, :, : self.num_lanes]

    def begin(self, lanes: BoolArray, row: IntArray) -> None:
        """An episode begins on row `row` [B] in the lanes of the mask [B].

        Raises:
            UsageError: the planner gave no position for a day.
        """
        self._plan(row[lanes])
        observations = self._free_observations()
        some, rows = np.array(lanes), np.array(row, np.int64)  # of the kinds for which the kernel was compiled
        self._begin(*self._arrays, self._desks[0], some, rows, self.days_per_episode - 1, observations)
        self._told = self._told._replace(observations=observations)
        self.day = np.where(lanes, row, self.day)
        if self._watched:
            self.hour[lanes] = -1
            self.episode_cost_ct[lanes] = 0.0
            self.exchange_kw[lanes] = 0.0
            self._look_at_positions()

    def play(self, action: Any, lanes: BoolArray) -> tuple[FloatArray, BoolArray]:  # noqa: ARG002 - it knows them
        """One hour of all lanes whose episodes are not over; `action` leads with B, unless the game is `single`.

        Returns:
            Reward [B] and whether the episode is over [B]; zero and false in other lanes.

        Raises:
            UsageError: the action has a wrong shape or holds NaN; nothing has changed.
        """
        actions = self._checked(action)
        # of a single environment nothing but copies goes out, and the arrays are used again
        told = self._told if self._single else kernel.make_told(self.num_lanes, self._free_observations())
        nan = self._play_hour(actions, told)
        if nan >= 0:
            part, prosumer = divmod(nan % actions.shape[1], self.community.num_prosumers)
            lane = "" if self._single else f"lane {nan // actions.shape[1]}, "
            raise UsageError(
                f"action: {lane}{ACTION_PARTS[part]} of prosumer {prosumer} is NaN; give numbers in [-1, 1]"
            )
        self._told = told
        self.day = told.counts[kernel.DAY, : self.num_lanes]
        reward, done = told.figures[kernel.REWARD, : self.num_lanes], told.flags[kernel.DONE, : self.num_lanes]
        if self._watched:
            self.hour = told.counts[kernel.HOUR, : self.num_lanes].copy()
            cost_ct, exchange_kw = told.figures[[kernel.COMMUNITY_COST, kernel.EXCHANGE], : self.num_lanes]
            book(self.hour, cost_ct, exchange_kw, self.episode_cost_ct, self.exchange_kw)
            self._look_at_positions()
        return reward, done

    def observation(self) -> Float32Array:
        """What the first lane sees, in an array of the caller's own."""
        first: Float32Array = self._told.observations[0].copy()
        return first

    def observations(self, *, copy: bool) -> Float32Array:
        """What every lane sees [B,.]; without a copy the next step overwrites it."""
        blocks = self._told.observations
        if not copy:
            return blocks[: self.num_lanes]
        if len(blocks) > self.num_lanes:
            return blocks[: self.num_lanes].copy()
        self._handed_out = True  # instead of a copy: the next step writes into another array
        return blocks

    def observations_of(self, lanes: IntArray) -> list[Float32Array]:
        """What some lanes see, in arrays of the caller's own."""
        return list(self._told.observations[lanes])

    def info(self) -> Info:
        """What is told about the last step of the first lane."""
        figures, told = self._told.figures[:, 0].tolist(), self._told
        info: Info = dict(zip(_COUNTS, told.counts[:, 0].tolist(), strict=True))
        info["reward_terms"] = dict(zip(REWARD_TERMS, figures, strict=False))
        info |= zip(_FIGURES, figures[_FIRST_FIGURE:], strict=True)
        info["converged"] = bool(told.flags[kernel.CONVERGED, 0])
        return info

    def infos(self) -> Info:
        """What is told about the last step of every lane [B], in arrays that no later step writes to."""
        figures, told = self._told.figures[:, : self.num_lanes], self._told
        info: Info = dict(zip(_COUNTS, told.counts[:, : self.num_lanes], strict=True))
        info["reward_terms"] = dict(zip(REWARD_TERMS, figures, strict=False))
        info |= zip(_FIGURES, figures[_FIRST_FIGURE:], strict=True)
        info["converged"] = told.flags[kernel.CONVERGED, : self.num_lanes]
        return info

    def _plan(self, first_rows: IntArray) -> None:
        """Positions for all days of episodes that begin on these rows."""
        rows = (first_rows[:, np.newaxis] + np.arange(self.days_per_episode)).ravel()
        rows = self._plans.missing(rows)
        if rows.size:
            write_positions(self._script, self.community, self.layout, rows, self._plans.plan(rows))

    def _look_at_positions(self) -> None:
        self.position_kw = positions_of(self._script, self.community)[self.day].sum(axis=2)

    def _checked(self, action: Any) -> Float32Array:
        if isinstance(action, np.ndarray) and action.dtype == np.float32:
            actions: Float32Array = np.ascontiguousarray(action)
        else:
            actions = _as_float32(action)
        if actions.shape != self._action_shape:
            raise UsageError(f"action: shape {actions.shape}, expected {self._action_shape}")
        return actions[np.newaxis] if self._single else actions

    def _free_observations(self) -> Float32Array:
        """Room for observations that belongs to nobody else."""
        if not self._handed_out:
            return self._told.observations
        self._handed_out = False
        return np.empty((-(-self.num_lanes // LANES) * LANES, self.layout.size), np.float32)

    def _play_hour(self, actions: Float32Array, told: Told) -> int:
        """One hour on all threads; the place of a NaN among the actions, or -1."""

        def play(t: int, first: int, last: int) -> int:
            place: int = self._play(
                *self._arrays, self._scales, self._desks[t], actions, told, first, last, self._watched
            )
            return place

        nan: int = self._crew.share(play)[0]  # each of them looks at all actions, so they agree
        return nan


def _as_float32(action: Any) -> Float32Array:
    try:
        with np.errstate(over="ignore"):  # beyond single precision is infinity, which is clipped and counted
            return real_numbers(action, np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"action: is not an array of numbers: {error}") from None
