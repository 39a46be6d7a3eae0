"""Actions in two languages, kilowatts and the numbers in [-1, 1] that learners like, and the scales between them.

The scales are public: day_ahead x position limit; battery x its power (+ = charge); shiftable a -> (a + 1) / 2 x its
power; curtail -> max(0, a) x available PV, so that the zero action curtails nothing; trade x the limit of each offer
(+ = buy).

Axis letters: N prosumers, E undirected trade edges, H hours of a day, D days, M numbers that an hour's offers consist
of. The market mechanism says what they are. Bilateral offers are `[2E]`: offer e is that of the lower-numbered end of
edge e, offer E + e that of the other end. Functions accept leading batch axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError

DISPATCH_KEYS = ("battery", "shiftable", "curtail", "trade")
"""The parts of an action that are read in real time, in the order of the fields of `Dispatch`."""


@dataclass(frozen=True, eq=False)
class Dispatch:
    """What the prosumers want in one hour of real time; the simulator makes it feasible."""

    battery_kw: FloatArray
    """Battery, + charges [N]."""
    shiftable_kw: FloatArray
    """Shiftable load [N]."""
    curtail_kw: FloatArray
    """PV thrown away [N]."""
    offers: FloatArray
    """Offers to trade with other prosumers, in the form of the market mechanism, + buys [M]."""


@dataclass(frozen=True, eq=False)
class DayActions:
    """What the prosumers wanted on one day, in kW; several days stacked have a leading axis D on every array."""

    position_kw: FloatArray
    """Day-ahead position, + buys [N,H]."""
    battery_kw: FloatArray
    """Battery, + charges [H,N]."""
    shiftable_kw: FloatArray
    """Shiftable load [H,N]."""
    curtail_kw: FloatArray
    """PV thrown away [H,N]."""
    offers: FloatArray
    """Offers to trade with other prosumers, in the form of the market mechanism, + buys [H,M]."""

    @classmethod
    def from_steps(cls, position_kw: FloatArray, dispatches: Sequence[Dispatch]) -> Self:
        """One day from its position `[N,H]` and the dispatches of its H hours."""
        hours = {item.name: np.stack([getattr(d, item.name) for d in dispatches]) for item in fields(Dispatch)}
        return cls(position_kw=np.array(position_kw, dtype=np.float64), **hours)

    @classmethod
    def stack(cls, days: Sequence[Self]) -> Self:
        """Several days in one, with a leading axis D."""
        return cls(**{item.name: np.stack([getattr(day, item.name) for day in days]) for item in fields(cls)})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Days that are stacked already, one part after the other."""
        return cls(**{item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)})

    def day(self, day: int) -> Self:
        """One of several days, without the leading axis."""
        return type(self)(**{item.name: getattr(self, item.name)[day] for item in fields(self)})

    def hour(self, hour: int) -> Dispatch:
        """What was wanted in hour `hour`; leading axis D when days are stacked."""
        return Dispatch(**{item.name: getattr(self, item.name)[..., hour, :] for item in fields(Dispatch)})


def to_kw(community: Community, action: Mapping[str, Any], pv_kw: FloatArray) -> Dispatch:
    """The real-time part of an action in kW.

    Args:
        community: whose limits are the scales.
        action: battery, shiftable, curtail `[N]` and trade `[M]`; beyond [-1, 1] they are clipped. Other keys are
            not read.
        pv_kw: available PV generation of the hour [N].

    Raises:
        UsageError: a key is missing, or its value has a wrong shape or holds NaN; the message names the key.
    """
    fleet = community.fleet
    battery, shiftable, curtail = (
        _part(action, key, (community.num_prosumers,)) for key in ("battery", "shiftable", "curtail")
    )
    trade = _part(action, "trade", (community.num_offers,))
    return Dispatch(
        battery_kw=battery * fleet.battery_power_kw,
        shiftable_kw=(0.5 + 0.5 * shiftable) * fleet.shiftable_power_kw,
        curtail_kw=np.maximum(curtail, 0.0) * pv_kw,
        offers=trade * community.offer_limits,
    )


def from_kw(community: Community, dispatch: Dispatch, pv_kw: FloatArray) -> dict[str, FloatArray]:
    """The action whose `to_kw` is `dispatch` (the nearest one in [-1, 1] when a power exceeds its limit).

    Where a limit is zero the action is zero, for a shiftable load -1. `pv_kw` is the available PV generation [N].
    """
    fleet = community.fleet
    return {
        "battery": _unit(dispatch.battery_kw, fleet.battery_power_kw),
        "shiftable": 2.0 * np.maximum(_unit(dispatch.shiftable_kw, fleet.shiftable_power_kw), 0.0) - 1.0,
        "curtail": np.maximum(_unit(dispatch.curtail_kw, pv_kw), 0.0),
        "trade": _unit(dispatch.offers, community.offer_limits),
    }


def position_to_kw(community: Community, action: Mapping[str, Any]) -> FloatArray:
    """The day-ahead part of an action in kW [N,H].

    Raises:
        UsageError: the key day_ahead is missing, or its value has a wrong shape or holds NaN.
    """
    share = _part(action, "day_ahead", (community.num_prosumers, community.hours_per_day))
    return share * community.fleet.position_limit_kw[:, np.newaxis]


def position_from_kw(community: Community, position_kw: FloatArray) -> FloatArray:
    """The value of the key day_ahead [N,H] for a position in kW [N,H]."""
    return _unit(position_kw, community.fleet.position_limit_kw[:, np.newaxis])


def _part(action: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> FloatArray:
    """One part of an action, checked and clipped to [-1, 1]."""
    if key not in action:
        raise UsageError(f"action: key {key!r} is missing; it has {', '.join(map(repr, action))}")
    try:
        values = np.asarray(action[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"action[{key!r}]: is not an array of numbers: {error}") from None
    if values.shape[max(values.ndim - len(shape), 0) :] != shape:
        raise UsageError(f"action[{key!r}]: shape {values.shape}, expected {shape}")
    if np.isnan(values).any():
        raise UsageError(f"action[{key!r}]: holds NaN; give numbers in [-1, 1]")
    return np.clip(values, -1.0, 1.0)


def _unit(power_kw: npt.ArrayLike, limit_kw: FloatArray) -> FloatArray:
    """`power_kw` as a share of `limit_kw` in [-1, 1], zero where the limit is zero."""
    power = np.asarray(power_kw, dtype=np.float64)
    limit = np.broadcast_to(limit_kw, power.shape)
    return np.clip(np.divide(power, limit, out=np.zeros(power.shape), where=limit > 0.0), -1.0, 1.0)
