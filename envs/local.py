"""What one prosumer knows: its own columns of the observation, what is public, and what its neighbours wrote to it.

One table, derived from that of `observation`: a quantity with an axis N is shown by its own column, one that is listed
as public is shown whole, any other to nobody. Nothing here plays or needs a library for many agents.

Axis letters: N prosumers, E undirected trade edges, S = 2E places at which one prosumer may write to a neighbour,
G neighbours of one prosumer, M numbers of a message, H hours of a day, P past days, F weather covariates.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium import spaces

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.community import TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.game import Note
from prosumer_gym.envs.observation import TABLE as OBSERVATION_TABLE
from prosumer_gym.envs.observation import Observation, Quantity, box_of

PUBLIC = frozenset({
    "stage", "hour", "days_left", "day_of_year", "weekday", "weekend", "observed",
    "price_da_ct_per_kwh", "price_rt_ct_per_kwh", "past_price_da_ct_per_kwh", "past_price_rt_ct_per_kwh",
    "weather", "past_weather",
})  # fmt: skip
"""What everybody can look up: clock, calendar, prices, the weather. The load of the rest of the feeder and the
community's peak are the operator's and stay with it."""

TABLE: tuple[Quantity, ...] = tuple(
    replace(quantity, axes=quantity.axes.replace("N", ""))
    for quantity in OBSERVATION_TABLE
    if "N" in quantity.axes or quantity.name in PUBLIC
)
"""What a prosumer sees, in the order of the observation; `inbox` [G,M] comes after it."""

_OWN_COLUMN = {
    quantity.name: quantity.axes.index("N") if "N" in quantity.axes else None
    for quantity in OBSERVATION_TABLE
    if "N" in quantity.axes or quantity.name in PUBLIC
}
"""Which axis of the observation is the prosumers', None for what is public."""
_EVERYTHING = (slice(None),) * 2


INFO_TABLE: tuple[Note, ...] = (
    Note("day", "", "-", "row of the data set that was played (after a reset: that will be played)", int),
    Note("hour", "", "-", "hour that was played; -1 at the day-ahead step", int),
    Note(
        "out_of_range",
        "",
        "-",
        "own numbers beyond [-1, 1], clipped; of messages and of the parts that were read",
        int,
    ),
    Note("reward_terms", "", "ct", "the terms of the own reward by name; they sum to it", dict),
    Note("cost_ct", "", "ct", "what the hour cost the prosumer"),
    Note("battery_kw", "", "kW", "own battery as it ran, + = charge"),
    Note("shiftable_kw", "", "kW", "own shiftable load as it ran"),
    Note("curtail_kw", "", "kW", "own PV thrown away"),
    Note("net_import_kw", "", "kW", "drawn through the own connection, + = import"),
    Note("realtime_kw", "", "kW", "settled at real-time prices, + = bought"),
    Note("p2p_kw", "", "kW", "traded with the neighbours, or in the pool, + = bought"),
    Note("trade_kw", "G", "kW", "traded with each neighbour, + = bought; zero in a pool"),
)
"""The info of an agent's step; after a reset only `day` is there."""


def local_space(dataset: Dataset, degree: int, message_size: int) -> spaces.Dict:
    """The space of what a prosumer with `degree` neighbours sees; bounds are constants, as of the observation."""
    boxes: dict[str, spaces.Space[Any]] = {quantity.name: box_of(quantity, dataset) for quantity in TABLE}
    boxes["inbox"] = spaces.Box(-1.0, 1.0, (degree, message_size), dtype=np.float64)
    return spaces.Dict(list(boxes.items()))


def local_view(observation: Observation, prosumer: int, inbox: FloatArray) -> Observation:
    """What one prosumer sees of an observation without the axis B, and its inbox [G,M], in arrays of its own."""
    seen: Observation = {}
    for name, axis in _OWN_COLUMN.items():
        values = observation[name]
        column: Any = ... if axis is None else (*_EVERYTHING[:axis], prosumer)
        seen[name] = np.array(values[column], ndmin=1)
    seen["inbox"] = np.array(inbox)
    return seen


class Neighbourhood:
    """Who may write to whom, and where it stands: along the trade edges, both ways.

    Prosumer n's places are `places[n]`, one for each of its `neighbours[n]` in the order of their numbers. What is
    written at a place arrives at `answers` of it: the place where the other one writes back.
    """

    def __init__(self, graph: TradeGraph, num_prosumers: int) -> None:
        ends = np.concatenate((graph.first, graph.second)), np.concatenate((graph.second, graph.first))
        order = np.lexsort((ends[1], ends[0]))
        writer, reader = ends[0][order], ends[1][order]
        starts = np.searchsorted(writer, np.arange(num_prosumers + 1)).tolist()
        self.places: tuple[slice, ...] = tuple(slice(*pair) for pair in pairwise(starts))
        """Of each prosumer."""
        self.neighbours: tuple[tuple[int, ...], ...] = tuple(tuple(reader[own].tolist()) for own in self.places)
        """Of each prosumer, by number."""
        self.answers: IntArray = np.lexsort((writer, reader))
        """Where the other one of each place writes back [S]."""
        self.edge: IntArray = order % max(len(graph), 1)
        """Trade edge of each place [S]."""
        self.sign: FloatArray = np.where(order < len(graph), 1.0, -1.0)
        """+1 where who writes is the lower-numbered end of the edge, else -1 [S]."""
        self.offer: IntArray = order
        """Which of a community's bilateral offers is that of who writes to who reads [S]."""

    def deliver(self, outbox: FloatArray) -> FloatArray:
        """What each place receives, from what is written at each place, both [S,M]."""
        return outbox[self.answers]

    def trades(self, trade_kw: FloatArray) -> FloatArray:
        """What who writes buys (+) from who reads [S], from the trades of the edges [E]."""
        return self.sign * trade_kw[self.edge]
