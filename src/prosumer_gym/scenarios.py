"""Named communities: a feeder, who sits where on it, and what the rest of the feeder consumes.

Axis letters: N prosumers, H hours of a day.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.feeders import ieee33

IEEE33_BUSES = [5, 8, 11, 13, 15, 17, 21, 24, 29, 32]

_PASSIVE_HOUR = [0, 4, 8, 12, 15, 18, 21, 23]
_PASSIVE_PU = [0.38, 0.30, 0.34, 0.32, 0.32, 0.42, 0.60, 0.48]


def passive_profile(hours_per_day: int = 24) -> FloatArray:
    """Load of the rest of the feeder as a multiple of its nominal load, at the start of each time slot `[H]`.

    Linear between the corner points and, around midnight, back to the first one.
    """
    hours = np.arange(hours_per_day) * (24.0 / hours_per_day)
    profile: FloatArray = np.interp(hours, _PASSIVE_HOUR, _PASSIVE_PU, period=24.0)
    return profile


def _ieee33() -> Community:
    """Ten prosumers on the feeder of Baran and Wu (1989), slack 1.0 p.u., limits 0.95 ... 1.05 p.u."""
    return Community(
        name="ieee33",
        feeder=ieee33(),
        fleet=Fleet.identical(IEEE33_BUSES),
        graph=TradeGraph.ring_with_chords(len(IEEE33_BUSES)),
    )


_SCENARIOS: dict[str, Callable[[], Community]] = {"ieee33": _ieee33}


def scenario_names() -> list[str]:
    """Names that `make_scenario` knows."""
    return sorted(_SCENARIOS)


def make_scenario(name: str) -> Community:
    """The community called `name`. Raises `UsageError` for an unknown name."""
    if name not in _SCENARIOS:
        raise UsageError(f"scenario {name!r} is not known; choose one of: {', '.join(scenario_names())}")
    return _SCENARIOS[name]()
