"""What a policy does: one table, from which the spaces, the checks and the documentation are made.

The scales are those of `prosumer_gym.actions`, applied here to whole batches in one compiled pass.

Axis letters: B lanes, N prosumers, E undirected trade edges, H hours of a day. Actions lead with B (`[B,N]`); what they
want of the simulator is lanes-last (`[N,B]`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray, real_numbers
from prosumer_gym.community import Community
from prosumer_gym.compiled import compiled
from prosumer_gym.errors import UsageError

Action = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Part:
    """One part of the action."""

    name: str
    axes: str
    """Axis letters of the single environment's array, without commas."""
    stage: Literal["day-ahead", "real time", "both"]
    """When it is read; at the other stage it must be there but changes nothing."""
    scale: str
    description: str


TABLE: tuple[Part, ...] = (
    Part("day_ahead", "NH", "day-ahead", "a x position limit", "day-ahead position, + = buy"),
    Part("battery", "N", "real time", "a x battery power", "battery, + = charge"),
    Part("shiftable", "N", "real time", "(a + 1) / 2 x shiftable power", "shiftable load"),
    Part("curtail", "N", "real time", "max(0, a) x available PV", "PV thrown away; 0 and less throw nothing away"),
    Part("trade", "M", "real time", "a x limit of the offer",
         "offers to trade with other prosumers, + = buy; bilateral: entry e is that of edge e's lower-numbered end, "
         "entry E + e of the other"),
)  # fmt: skip
"""The action. Every part lies in [-1, 1] and is always present."""

_NAMES = tuple(part.name for part in TABLE)


def part_shapes(community: Community) -> dict[str, tuple[int, ...]]:
    """Shape of each part of a single environment's action."""
    sizes = {"N": (community.num_prosumers,), "NH": (community.num_prosumers, community.hours_per_day)}
    sizes["M"] = (community.num_offers,)
    return {part.name: sizes[part.axes] for part in TABLE}


def action_space(community: Community) -> spaces.Dict:
    """The space of a single environment's action."""
    return spaces.Dict(
        [(name, spaces.Box(-1.0, 1.0, shape, dtype=np.float64)) for name, shape in part_shapes(community).items()]
    )


class Scales(NamedTuple):
    """kW that an action of 1 stands for; of curtailment it is the PV of the hour."""

    position_kw: FloatArray  # [N]
    battery_kw: FloatArray  # [N]
    shiftable_kw: FloatArray  # [N]
    offers: FloatArray  # [M]


class Wanted(NamedTuple):
    """What an action wants, kW; the arrays are written again by the next `ActionReader.read`."""

    position_kw: FloatArray  # [N,H,B]
    battery_kw: FloatArray  # [N,B]
    shiftable_kw: FloatArray  # [N,B]
    curtail_kw: FloatArray  # [N,B]
    offers: FloatArray  # [M,B]


class ActionReader:
    """Checks the actions of B lanes and turns them into kW.

    Args:
        community: whose limits are the scales.
        num_lanes: B.
        single: whether actions come without the axis B, as those of a single environment do; B is 1 then.
    """

    def __init__(self, community: Community, num_lanes: int, *, single: bool = False) -> None:
        fleet = community.fleet
        num_prosumers, num_hours = community.num_prosumers, community.hours_per_day
        self._single = single
        shapes = part_shapes(community)
        self._shapes = shapes if single else {name: (num_lanes, *shape) for name, shape in shapes.items()}
        limits_kw = (fleet.position_limit_kw, fleet.battery_power_kw, fleet.shiftable_power_kw, community.offer_limits)
        self._scales = Scales(*map(np.array, limits_kw))  # writable ones: pickling would change the kernel's types
        self.wanted = Wanted(
            position_kw=np.zeros((num_prosumers, num_hours, num_lanes)),
            battery_kw=np.zeros((num_prosumers, num_lanes)),
            shiftable_kw=np.zeros((num_prosumers, num_lanes)),
            curtail_kw=np.zeros((num_prosumers, num_lanes)),
            offers=np.zeros((community.num_offers, num_lanes)),
        )
        self.out_of_range: IntArray = np.zeros(num_lanes, np.int64)
        """How many numbers of the parts that were read lay beyond [-1, 1] and were clipped [B]."""

    def read(self, action: Action, lanes: BoolArray, at_gate: BoolArray, hour: IntArray, pv_kw: FloatArray) -> None:
        """Write `wanted` and `out_of_range` for the lanes of the mask [B]; the other lanes are not even checked.

        Args:
            action: every part, with a leading axis B unless they are of a single environment.
            lanes: which lanes are played [B].
            at_gate: which of them stand at the day-ahead step [B].
            hour: that the others are about to play [B].
            pv_kw: available PV of the hours of the day, as far as they are revealed [B,H,N].

        Raises:
            UsageError: a part is missing or unknown, has a wrong shape, or holds NaN; the message names it.
        """
        if not isinstance(action, Mapping):
            raise UsageError(f"action: a {type(action).__name__} is no mapping; give {', '.join(_NAMES)} by name")
        if action.keys() != self._shapes.keys():
            unknown, missing = action.keys() - self._shapes.keys(), self._shapes.keys() - action.keys()
            what = f"{min(map(str, unknown))!r} is unknown" if unknown else f"{min(missing)!r} is missing"
            raise UsageError(f"action: key {what}; it has {', '.join(_NAMES)}")
        day_ahead, battery, shiftable, curtail, trade = (self._part(name, action[name]) for name in _NAMES)
        nan = _read(
            day_ahead, battery, shiftable, curtail, trade, lanes, at_gate, hour, pv_kw, self._scales, self.wanted,
            self.out_of_range,
        )  # fmt: skip
        if nan >= 0:
            raise UsageError(f"action[{_NAMES[nan]!r}]: holds NaN; give numbers in [-1, 1]")

    def _part(self, name: str, values: Any) -> FloatArray:
        try:
            array = real_numbers(values, np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"action[{name!r}]: is not an array of numbers: {error}") from None
        if array.shape != self._shapes[name]:
            raise UsageError(f"action[{name!r}]: shape {array.shape}, expected {self._shapes[name]}")
        if not array.flags.writeable:
            array = array.copy()  # or the kernel would be compiled again, for arrays that cannot be written to
        return array[np.newaxis] if self._single else array


@compiled
def _any_nan(values: FloatArray, lane: int) -> bool:
    flat = values[lane].ravel()
    found = False
    for i in range(flat.size):
        found |= np.isnan(flat[i])
    return found


@compiled
def _beyond(values: FloatArray, lane: int) -> int:
    flat = values[lane].ravel()
    count = 0
    for i in range(flat.size):
        count += int(abs(flat[i]) > 1.0)
    return count


@compiled
def _unit(value: float) -> float:
    return min(max(value, -1.0), 1.0)


@compiled
def _read(
    day_ahead: FloatArray,
    battery: FloatArray,
    shiftable: FloatArray,
    curtail: FloatArray,
    trade: FloatArray,
    lanes: BoolArray,
    at_gate: BoolArray,
    hour: IntArray,
    pv_kw: FloatArray,
    scales: Scales,
    wanted: Wanted,
    out_of_range: IntArray,
) -> int:
    """Fill `wanted` for the parts that are read; returns the number of a part that holds NaN, or -1."""
    num_lanes, num_prosumers, num_hours = day_ahead.shape
    for lane in range(num_lanes):
        if lanes[lane]:
            if _any_nan(day_ahead, lane):
                return 0
            if _any_nan(battery, lane):
                return 1
            if _any_nan(shiftable, lane):
                return 2
            if _any_nan(curtail, lane):
                return 3
            if _any_nan(trade, lane):
                return 4
    for lane in range(num_lanes):
        out_of_range[lane] = 0
        if lanes[lane] and at_gate[lane]:
            out_of_range[lane] = _beyond(day_ahead, lane)
            for n in range(num_prosumers):
                for h in range(num_hours):
                    wanted.position_kw[n, h, lane] = _unit(day_ahead[lane, n, h]) * scales.position_kw[n]
        elif lanes[lane]:
            out_of_range[lane] = (
                _beyond(battery, lane) + _beyond(shiftable, lane) + _beyond(curtail, lane) + _beyond(trade, lane)
            )
            for n in range(num_prosumers):
                wanted.battery_kw[n, lane] = _unit(battery[lane, n]) * scales.battery_kw[n]
                wanted.shiftable_kw[n, lane] = (0.5 + 0.5 * _unit(shiftable[lane, n])) * scales.shiftable_kw[n]
                wanted.curtail_kw[n, lane] = max(_unit(curtail[lane, n]), 0.0) * pv_kw[lane, hour[lane], n]
            for e in range(trade.shape[1]):
                wanted.offers[e, lane] = _unit(trade[lane, e]) * scales.offers[e]
    return -1
