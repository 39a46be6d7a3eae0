"""What is played, and what a face needs of it: the games of all ids have this form.

A game plays B lanes, each on a day of its own: it begins episodes, plays steps, and tells what is seen and what
happened. The faces (`single_face`, `vector_face`) add what Gymnasium asks for: seeds, draws of days, autoreset, masks.

Axis letters: B lanes, N prosumers, H hours of a day. What a face hands out leads with B.
"""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from gymnasium import spaces

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.compiled import compiled
from prosumer_gym.datasets.schema import SPLITS, Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.envs.observation import check_fit
from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import StepResult

Info = dict[str, Any]


@dataclass(frozen=True)
class Note:
    """One entry of the info of a step."""

    name: str
    axes: str
    unit: str
    description: str
    kind: type = float


class Game(ABC):
    """B lanes of a game, each on a day of its own.

    Args:
        num_lanes: B.
        dataset: name of a data set, or one.
        scenario: name of a community, or one.
        split: "train", "dev" or "test": the days that may be played.
        days_per_episode: days of an episode; more than one need consecutive dates of one block.
        mechanism: name of the market mechanism; None for the community's own.
        reward: weights of the reward, as `RewardWeights` or a mapping of their names.

    Raises:
        UsageError: unknown name, split without days, data and community that do not fit, or no day on which an
            episode of that many days can begin.
    """

    observation_space: spaces.Space[Any]
    """Of one lane."""
    action_space: spaces.Space[Any]
    """Of one lane."""
    day: IntArray
    """Row that the last step played, or that the episode begins with [B]."""

    # What a picture shows beside the data.
    hour: IntArray
    """Hour that the last step played, -1 for a day-ahead step or none [B]."""
    result: StepResult
    """What happened in the last step."""
    episode_cost_ct: FloatArray
    """Community cost since the episode began [B]."""
    exchange_kw: FloatArray
    """Exchange in the hours of the day that were played [B,H]."""
    position_kw: FloatArray
    """Sum of the positions committed for the day that the last step played, zero before [B,H]."""

    def __init__(
        self,
        num_lanes: int,
        *,
        dataset: str | Dataset,
        scenario: str | Community,
        split: str,
        days_per_episode: int,
        mechanism: str | None,
        reward: RewardWeights | Mapping[str, float] | None,
    ) -> None:
        self.num_lanes = whole_number("num_envs", num_lanes)
        self.days_per_episode = whole_number("days_per_episode", days_per_episode)
        data = load_dataset(dataset) if isinstance(dataset, str) else dataset
        if not isinstance(data, Dataset):
            raise UsageError(f"dataset: a {type(data).__name__} is no data set; give one or the name of one")
        community = make_scenario(scenario) if isinstance(scenario, str) else scenario
        if not isinstance(community, Community):
            raise UsageError(f"scenario: a {type(community).__name__} is no community; give one or the name of one")
        self.community = community if mechanism is None else community.replace(mechanism=mechanism)
        check_fit(data, self.community)
        self.dataset = staged(data, self.community)
        self.split = split
        self.weights = RewardWeights.of(reward)
        self.first_days = first_days(self.dataset, split, self.days_per_episode)

    @abstractmethod
    def begin(self, lanes: BoolArray, row: IntArray) -> None:
        """An episode begins on row `row` [B] in the lanes of the mask [B]."""

    @abstractmethod
    def play(self, action: Any, lanes: BoolArray) -> tuple[FloatArray, BoolArray]:
        """One step of the lanes of the mask [B], at least one of them; none of their episodes is over.

        Returns:
            Reward [B] and whether the episode is over [B], zero and false elsewhere. With B = 1 the next step may
            overwrite them, with more lanes they are the caller's own.

        Raises:
            UsageError: an action that cannot be read; the message names the part, and nothing has changed.
        """

    @abstractmethod
    def observation(self) -> Any:
        """What the first lane sees, without the axis B, in arrays of the caller's own."""

    @abstractmethod
    def observations(self, *, copy: bool) -> Any:
        """What every lane sees, leading axis B; without a copy the next step overwrites it."""

    @abstractmethod
    def observations_of(self, lanes: IntArray) -> list[Any]:
        """What some lanes see, without the axis B, in arrays of the caller's own."""

    @abstractmethod
    def info(self) -> Info:
        """What is told about the last step of the first lane."""

    @abstractmethod
    def infos(self) -> Info:
        """What is told about the last step of every lane, leading axis B, in arrays of the caller's own."""

    @property
    @abstractmethod
    def soc_kwh(self) -> FloatArray:
        """State of charge of the batteries [N,B]."""

    def row_of(self, day: Any) -> int:
        """The row of the data set that a user means by `day`: a row, or a date such as "2023-07-01".

        Raises:
            UsageError: no such day, or no episode of this environment may begin on it.
        """
        dataset = self.dataset
        if isinstance(day, str | date | np.datetime64):
            text = str(day)
            try:
                wanted = np.datetime64(text if _ISO_DATE.match(text) else "no date", "D")
            except ValueError:
                raise UsageError(
                    f"day: {day!r} is not a date; write a date like {dataset.dates[0]}, or a row as int"
                ) from None
            rows = np.flatnonzero(dataset.dates == wanted)
            if rows.size == 0:
                raise UsageError(
                    f"day: {dataset.id} has no {wanted}; it runs from {dataset.dates[0]} to {dataset.dates[-1]}"
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


_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]|$)")


def first_days(dataset: Dataset, split: str, days_per_episode: int) -> IntArray:
    """Rows on which an episode may begin: all its days in the split, in one block, on consecutive dates.

    Raises:
        UsageError: unknown or empty split, or no such row.
    """
    if split not in SPLITS:  # the days that lead in are no split: what lies before them is not known
        raise UsageError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")
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
    return np.asarray(rows[together], np.int64)


def whole_number(name: str, value: Any) -> int:
    """`value`, which is called `name`, as a number of things.

    Raises:
        UsageError: it is none, or below 1.
    """
    number = operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else 0
    if number < 1:
        raise UsageError(f"{name}: {value!r} must be a whole number, 1 or more")
    return number


@compiled
def book(
    hour_played: IntArray,
    cost_ct: FloatArray,
    exchange_kw: FloatArray,
    episode_cost_ct: FloatArray,
    exchange_of_day_kw: FloatArray,
) -> None:
    """Add the step to the episode's cost [B] and to the day's exchange [B,H]."""
    for lane in range(hour_played.shape[0]):
        episode_cost_ct[lane] += cost_ct[lane]
        if hour_played[lane] == 0:
            exchange_of_day_kw[lane, :] = 0.0
        if hour_played[lane] >= 0:
            exchange_of_day_kw[lane, hour_played[lane]] = exchange_kw[lane]
