"""What one prosumer does and writes: one table, and how the actions of all become that of their community.

Axis letters: N prosumers, E undirected trade edges, S = 2E places at which one prosumer may write to a neighbour,
G neighbours of one prosumer, M numbers of a message, H hours of a day, A numbers of all actions, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from prosumer_gym.arrays import FloatArray, IntArray, real_numbers
from prosumer_gym.community import Community
from prosumer_gym.envs.action import Action, Part
from prosumer_gym.envs.local import Neighbourhood
from prosumer_gym.errors import UsageError

TABLE: tuple[Part, ...] = (
    Part("day_ahead", "H", "day-ahead", "a x position limit", "own day-ahead position, + = buy"),
    Part("battery", "", "real time", "a x battery power", "own battery, + = charge"),
    Part("shiftable", "", "real time", "(a + 1) / 2 x shiftable power", "own shiftable load"),
    Part("curtail", "", "real time", "max(0, a) x available PV", "own PV thrown away"),
    Part("trade", "G", "real time", "a x limit of the offer",
         "own offers, + = buy; bilateral: one to each neighbour; in a pool one order, in an auction an order and its "
         "limit price"),
    Part("messages", "GM", "both", "-", "what is written to each neighbour"),
)  # fmt: skip
"""One prosumer's action, in this order; every part lies in [-1, 1] and is always present."""

_OFFERS_OF_ONE = {"orders": 1, "priced orders": 2}


class JointReader:
    """Checks the actions of all prosumers of one community and puts them together.

    Args:
        community: whose offers these are.
        neighbourhood: who writes to whom.
        agents: names of the prosumers.
        message_size: M.
    """

    def __init__(
        self, community: Community, neighbourhood: Neighbourhood, agents: Sequence[str], message_size: int
    ) -> None:
        num, num_hours = community.num_prosumers, community.hours_per_day
        offers_are = community.market.offers
        self._agents = tuple(agents)
        self.slices: tuple[dict[str, slice], ...] = tuple(
            _slices(num_hours, _OFFERS_OF_ONE.get(offers_are, len(own)), len(own) * message_size)
            for own in neighbourhood.neighbours
        )
        """Where each part stands in the action of each prosumer."""
        self.sizes: tuple[int, ...] = tuple(own["messages"].stop for own in self.slices)
        """How many numbers the action of each prosumer has."""
        starts = np.cumsum((0, *self.sizes)).tolist()
        self._places = [slice(*pair) for pair in pairwise(starts)]
        everything = np.arange(starts[-1])
        at = {
            name: [everything[place][own[name]] for place, own in zip(self._places, self.slices, strict=True)]
            for name in self.slices[0]
        }
        self._at: dict[str, IntArray] = {
            "day_ahead": np.stack(at["day_ahead"]),
            **{name: np.concatenate(at[name]) for name in ("battery", "shiftable", "curtail")},
            "trade": _offer_places(at["trade"], neighbourhood, offers_are),
        }
        """Where each number of the community's action stands among all actions."""
        self._messages_at: IntArray = np.concatenate(at["messages"]).reshape(neighbourhood.answers.size, message_size)
        self._owner = np.repeat(np.arange(num), self.sizes)
        is_position, is_message = np.zeros((2, everything.size), np.bool_)
        is_position[self._at["day_ahead"]] = True
        is_message[self._messages_at] = True
        self._is_read = (~is_position, is_position | is_message)  # by whether it is the day-ahead step

    def spaces(self) -> tuple[spaces.Box, ...]:
        """The space of the action of each prosumer."""
        return tuple(spaces.Box(-1.0, 1.0, (size,), dtype=np.float32) for size in self.sizes)

    def read(self, actions: Mapping[str, Any], *, at_gate: bool) -> tuple[Action, FloatArray, IntArray]:
        """The community's action, the outbox [S,M], and how many numbers of each prosumer's were out of range [N].

        What is out of range is counted in the parts that this step reads, the messages included; these are clipped
        here, the rest where the community's action is read.

        Raises:
            UsageError: a prosumer is missing or unknown, or its action is no array of the right shape or holds NaN.
        """
        joint = self._joined(actions)
        action = {name: joint[places] for name, places in self._at.items()}
        written = joint[self._messages_at]
        inside = np.abs(joint) <= 1.0
        if inside.all():
            return action, written, np.zeros(len(self._agents), np.int64)
        if np.isnan(joint).any():
            raise UsageError(self._nan_in(joint))
        outside = ~inside & self._is_read[at_gate]
        return action, written.clip(-1.0, 1.0), np.bincount(self._owner[outside], minlength=len(self._agents))

    def _joined(self, actions: Mapping[str, Any]) -> FloatArray:
        """All actions one after the other [A]."""
        if not isinstance(actions, Mapping):
            raise UsageError(f"actions: a {type(actions).__name__} is no mapping; give one action by agent")
        if len(actions) != len(self._agents) or any(agent not in actions for agent in self._agents):
            unknown = [agent for agent in actions if agent not in self._agents]
            missing = [agent for agent in self._agents if agent not in actions]
            what = f"agent {unknown[0]!r} is unknown" if unknown else f"agent {missing[0]!r} is missing"
            raise UsageError(
                f"actions: {what}; there are {self._agents[0]} ... {self._agents[-1]}, each acts in a step"
            )
        given = zip(self._agents, self.sizes, strict=True)
        return np.concatenate([_checked(actions[agent], agent, size) for agent, size in given], dtype=np.float64)

    def _nan_in(self, joint: FloatArray) -> str:
        """Whose part it is."""
        first = int(np.argmax(np.isnan(joint)))
        n = int(self._owner[first])
        place = first - self._places[n].start
        part = next(name for name, own in self.slices[n].items() if own.start <= place < own.stop)
        return f"actions[{self._agents[n]!r}]: {part} holds NaN; give numbers in [-1, 1]"


def _checked(values: Any, agent: str, size: int) -> npt.NDArray[Any]:
    """One agent's action, as an array of so many numbers.

    Raises:
        UsageError: it is none.
    """
    own = values
    if not (isinstance(values, np.ndarray) and values.dtype.kind == "f"):
        try:
            own = real_numbers(values, np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"actions[{agent!r}]: is not an array of numbers: {error}") from None
    if own.shape != (size,):
        raise UsageError(f"actions[{agent!r}]: shape {own.shape}, expected {(size,)}")
    return own  # type: ignore[no-any-return]


def _slices(num_hours: int, num_offers: int, num_written: int) -> dict[str, slice]:
    """Where each part of the table stands in one prosumer's action."""
    sizes = {"H": num_hours, "": 1, "G": num_offers, "GM": num_written}
    slices, start = {}, 0
    for part in TABLE:
        slices[part.name] = slice(start, start + sizes[part.axes])
        start += sizes[part.axes]
    return slices


def _offer_places(own: list[IntArray], neighbourhood: Neighbourhood, offers_are: str) -> IntArray:
    """Where each of the community's offers stands, from where each prosumer's stand."""
    if offers_are != "edges":  # all orders, then all limit prices
        return np.stack(own, axis=1).ravel()
    places = np.empty(neighbourhood.offer.size, np.int64)
    places[neighbourhood.offer] = np.concatenate(own)
    return places
