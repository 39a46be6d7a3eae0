"""Day-ahead positions of whole days, planned before a real-time environment plays them.

Axis letters: N prosumers, H hours of a day, D days (rows) of the data set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray, real_numbers
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.observation import Observation, ObservationBuilder
from prosumer_gym.errors import UsageError
from prosumer_gym.reference import no_control_position

Planner = Callable[[Observation], npt.ArrayLike]
"""The day-ahead position [N,H], kW, from the two-stage observation at the gate. The same observation, the same plan."""


def reference_position(observation: Observation) -> FloatArray:
    """What the no-control reference commits at a gate, but for the position limit [N,H]."""
    unlimited = np.full(observation["shiftable_ref_kw"].shape[1], np.inf)
    return no_control_position(
        observation["past_load_kw"], observation["past_pv_kw"], observation["shiftable_ref_kw"], unlimited
    )


class DayPlans:
    """The positions of all days that may be played, each planned once, when it is asked for first.

    A planner sees the gate of the day as an episode that begins there shows it: batteries at their initial state.

    Args:
        dataset: the days, as the community lives them.
        community: the community.
        planner: plans a day; None for the reference's position.

    Raises:
        UsageError: the planner is nothing that can be called.
    """

    def __init__(self, dataset: Dataset, community: Community, planner: Planner | None) -> None:
        if planner is not None and not callable(planner):
            raise UsageError(
                f"planner: a {type(planner).__name__} cannot be called; give a function of the observation"
            )
        self._dataset = dataset
        self._community = community
        self._planner = reference_position if planner is None else planner
        self._is_planned: BoolArray = np.zeros(dataset.num_days, np.bool_)

    def missing(self, rows: IntArray) -> IntArray:
        """Those of `rows` that are not planned yet, each once."""
        waiting = rows[~self._is_planned[rows]]
        return np.unique(waiting) if waiting.size else waiting

    def plan(self, rows: IntArray) -> FloatArray:
        """The positions of `rows` within the position limits [.,N,H].

        Raises:
            UsageError: the planner raised something, or a plan has a wrong shape or holds NaN; the message names the
                day.
        """
        positions_kw = np.stack([self._plan(row) for row in rows.tolist()])
        self._is_planned[rows] = True
        return positions_kw

    def _plan(self, row: int) -> FloatArray:
        community, limit_kw = self._community, self._community.fleet.position_limit_kw[:, np.newaxis]
        day = f"planner: {self._dataset.dates[row]} (row {row})"
        observation = self._at_gate(row)
        try:
            given = self._planner(observation)
        except Exception as error:  # whatever a function of the user's raises; its own traceback stays with it
            told = " ".join(str(error).split()) or "no message"
            raise UsageError(f"{day}: it raised {type(error).__name__}: {told}; correct the planner") from error
        try:
            position_kw: FloatArray = real_numbers(given, np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{day}: the plan is not an array of numbers: {error}") from None
        shape = (community.num_prosumers, community.hours_per_day)
        if position_kw.shape != shape:
            raise UsageError(f"{day}: the plan has shape {position_kw.shape}, expected {shape}")
        if np.isnan(position_kw).any():
            raise UsageError(f"{day}: the plan holds NaN")
        return np.asarray(np.clip(position_kw, -limit_kw, limit_kw))

    def _at_gate(self, row: int) -> Observation:
        """The two-stage observation at the gate of a day."""
        builder, everyone = ObservationBuilder(self._dataset, 1), np.ones(1, np.bool_)
        nothing = np.zeros((self._community.num_prosumers, 1))
        builder.open_day(everyone, np.array([row]))
        builder.write_state(
            everyone, np.zeros(1, np.int64), np.zeros(1, np.int64),
            self._community.fleet.soc_initial_kwh[:, np.newaxis], nothing, nothing, np.zeros(1),
        )  # fmt: skip
        return builder.copy_of_first()
