"""Named communities: a feeder, who sits where on it, and what the rest of the feeder consumes.

Axis letters: N prosumers, H hours of a day.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import case69, case141, ieee33

IEEE33_BUSES = [5, 8, 11, 13, 15, 17, 21, 24, 29, 32]
CASE69_BUSES = [13, 19, 26, 45, 49, 55, 58, 61, 64, 66]
CASE141_BUSES = [31, 51, 58, 67, 79, 86, 105, 108, 115, 129]

_PASSIVE_HOUR = [0, 4, 8, 12, 15, 18, 21, 23]
_PASSIVE_PU = [0.38, 0.30, 0.34, 0.32, 0.32, 0.42, 0.60, 0.48]


def passive_profile(hours_per_day: int = 24) -> FloatArray:
    """Load of the rest of the feeder as a multiple of its nominal load, at the start of each time slot `[H]`.

    Linear between the corner points and, around midnight, back to the first one.
    """
    hours = np.arange(hours_per_day) * (24.0 / hours_per_day)
    profile: FloatArray = np.interp(hours, _PASSIVE_HOUR, _PASSIVE_PU, period=24.0)
    return profile


def _community(
    name: str,
    feeder: Feeder,
    buses: list[int],
    *,
    units: int = 1,
    pv_ratio: float = 1.0,
    limit_kw: float = 50.0,
) -> Community:
    """Prosumers with the default units at these buses; `limit_kw` is of position and connection."""
    each = np.ones(len(buses))
    fleet = replace(
        Fleet.identical(buses),
        units=np.full(len(buses), units),
        pv_ratio=pv_ratio * each,
        position_limit_kw=limit_kw * each,
        connection_limit_kw=limit_kw * each,
    )
    return Community(name, feeder, fleet, TradeGraph.ring_with_chords(len(buses)))


def _ieee33() -> Community:
    """Ten prosumers on the feeder of Baran and Wu (1989), slack 1.0 p.u., limits 0.95 ... 1.05 p.u."""
    return _community("ieee33", ieee33(), IEEE33_BUSES)


def _ieee33_high_pv() -> Community:
    """`ieee33` with much PV: its voltages are too high at noon instead of too low in the evening.

    Three units at each node, each with 3.25 times the PV of the data set, on a feeder whose substation holds 1.03 p.u.,
    as where taps were set for a heavy load. Position and connection limits are three times the usual ones, above the
    largest export; battery, shiftable load and trade are the usual ones.
    """
    return _community(
        "ieee33-high-pv", ieee33().replace(slack_v_pu=1.03), IEEE33_BUSES, units=3, pv_ratio=3.25, limit_kw=150.0
    )


def _case69() -> Community:
    """Ten nodes of four units on the 69-bus feeder of Baran and Wu (1989), slack 1.0 p.u.

    Four are on the lateral that sags (buses 52 ... 64), three on the main line and three at the ends of other laterals.
    With four units most of what goes wrong is the community's own doing; with one, little does.
    """
    return _community("case69", case69(), CASE69_BUSES, units=4)


def _case141() -> Community:
    """Ten nodes of twelve units on the 141-bus feeder of Khodr et al. (2008), slack 1.0 p.u.

    They are at the ends of branches, five of them where the feeder sags (buses 36 ... 86). It is built for three times
    the load of `ieee33`, and the rest of its load alone never takes it to its limits; twelve units a node do.
    """
    return _community("case141", case141(), CASE141_BUSES, units=12)


_SCENARIOS: dict[str, Callable[[], Community]] = {
    "ieee33": _ieee33,
    "ieee33-high-pv": _ieee33_high_pv,
    "case69": _case69,
    "case141": _case141,
}


def scenario_names() -> list[str]:
    """Names that `make_scenario` knows."""
    return list(_SCENARIOS)


def make_scenario(name: str) -> Community:
    """The community called `name`, or that of a file, `street.yaml`. Raises `UsageError` for an unknown name."""
    if name.endswith((".yaml", ".yml")):
        from prosumer_gym.community_file import load_community  # its libraries are needed here only

        return load_community(name)
    if name not in _SCENARIOS and re.search(r"[./\\]", name):
        raise UsageError(f"scenario {name}: a community file ends in .yaml or .yml; rename it")
    if name not in _SCENARIOS:
        known = ", ".join(scenario_names())
        raise UsageError(f"scenario {name!r} is not known; choose one of: {known}, or name a .yaml file")
    return _SCENARIOS[name]()
