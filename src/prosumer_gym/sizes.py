"""The largest sizes that a community may have: those that the environments' observations are bounded by."""

from __future__ import annotations

MAX_POWER_KW = 1e4
MAX_ENERGY_KWH = 1e5
MAX_PROSUMERS = 1000

FLEET_BOUNDS: dict[str, float] = {
    "position_limit_kw": MAX_POWER_KW,
    "battery_power_kw": MAX_POWER_KW,
    "shiftable_power_kw": MAX_POWER_KW,
    "soc_max_kwh": MAX_ENERGY_KWH,
    "backlog_min_kwh": -MAX_ENERGY_KWH,
    "backlog_max_kwh": MAX_ENERGY_KWH,
}
"""Field of `Fleet` -> the largest value of a prosumer's; where that is negative, the smallest."""
