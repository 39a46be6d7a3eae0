"""Loads of apartment blocks and of commercial buildings in a hot summer.

Axes: D days, H = 24 hours of a day, N prosumers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.datasets.forecast_errors import ar1

GROWTH_PER_YEAR = 0.03
COVID_YEAR, COVID_FACTOR = 2020, 0.82
"""Commercial load in the first summer of the pandemic."""
COMMON_DAY_SD, OWN_DAY_SD, HOURLY_CORRELATION = 0.05, 0.11, 0.6
HOURLY_SD = {"residential": 0.20, "commercial": 0.25}
NOISE_LIMIT = 0.55
"""Largest logarithmic deviation: a building has a connection and does not draw several times its usual load."""
THURSDAY, FRIDAY = 3, 4
_PROFILE_HOURS = (0, 3, 6, 8, 10, 12, 14, 16, 18, 20, 21, 22, 23)
_PROFILES = {
    "residential": (0.52, 0.40, 0.42, 0.52, 0.58, 0.66, 0.66, 0.58, 0.62, 0.92, 1.00, 0.94, 0.74),
    "commercial": (0.28, 0.26, 0.30, 0.62, 0.98, 1.06, 1.04, 0.86, 0.66, 0.66, 0.60, 0.48, 0.36),
}
_PRESENCE = {
    "residential": (0.75, 0.65, 0.55, 0.60, 0.75, 1.00, 1.05, 0.95, 0.82, 0.90, 0.95, 0.92, 0.85),
    "commercial": (0.15, 0.15, 0.20, 0.70, 1.00, 1.00, 1.00, 0.95, 0.70, 0.60, 0.50, 0.35, 0.20),
}
_WEEKEND = {"residential": (1.03, 1.07), "commercial": (0.80, 0.55)}
"""Factors on Thursday and Friday."""


@dataclass(frozen=True)
class Building:
    """One prosumer's building and its roof."""

    name: str
    kind: Literal["residential", "commercial"]
    size_kw: float
    """Load of its base profile at 1, without cooling."""
    cooling_per_k: float
    """Cooling load, as a share of `size_kw`, per degree above the balance point."""
    balance_c: float
    shift_h: float
    """How much later than the profile of its kind it lives."""
    pv_kw: float
    pv_azimuth_deg: float


def building_loads(
    buildings: tuple[Building, ...],
    year: int,
    weekday: IntArray,
    temperature_c: FloatArray,
    rng: np.random.Generator,
    *,
    base_year: int,
) -> FloatArray:
    """Total loads, shiftable part included, of one summer [D,H,N].

    Base profile plus cooling in proportion to the effective temperature (half of now, .3 of the day's mean, .2 of
    yesterday's) above the building's balance point; day factors common to all and of each one, AR(1) hourly noise,
    factors of Thursday and Friday, growth, and the commercial dip of 2020.

    Args:
        buildings: the N buildings.
        year: of the summer.
        weekday: Monday = 0 [D].
        temperature_c: realised [D+1,H]; its first row is the day before.
        rng: source of the noise.
        base_year: when the sizes hold.
    """
    D, H = weekday.size, temperature_c.shape[1]
    daily = temperature_c.mean(axis=1)
    effective = 0.5 * temperature_c[1:] + 0.3 * daily[1:, None] + 0.2 * daily[:-1, None]
    common = COMMON_DAY_SD * ar1(rng.standard_normal((1, D, 1)), 0.5)[0]  # [D,1]
    own = OWN_DAY_SD * ar1(rng.standard_normal((1, D, len(buildings))), 0.5)[0]  # [D,N]
    sd = np.array([HOURLY_SD[building.kind] for building in buildings])
    hourly = sd * ar1(rng.standard_normal((1, D * H, len(buildings))), HOURLY_CORRELATION).reshape(D, H, -1)
    growth = (1.0 + GROWTH_PER_YEAR) ** (year - base_year)
    loads = []
    for building in buildings:
        hours = (np.arange(H) + 0.5) * 24.0 / H - building.shift_h
        base = np.interp(hours, _PROFILE_HOURS, _PROFILES[building.kind], period=24.0)
        presence = np.interp(hours, _PROFILE_HOURS, _PRESENCE[building.kind], period=24.0)
        cooling = building.cooling_per_k * presence * np.maximum(effective - building.balance_c, 0.0)
        dip = COVID_FACTOR if building.kind == "commercial" and year == COVID_YEAR else 1.0
        week = np.select(_days(weekday), _WEEKEND[building.kind], 1.0)[:, None]
        loads.append(building.size_kw * growth * dip * week * (base + cooling))
    noise = common[:, None, :] + own[:, None, :] + hourly
    return np.asarray(np.stack(loads, axis=-1) * np.exp(np.clip(noise, -NOISE_LIMIT, NOISE_LIMIT)))


def _days(weekday: IntArray) -> list[BoolArray]:
    return [weekday == THURSDAY, weekday == FRIDAY]
