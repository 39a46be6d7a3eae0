"""What looks odd in imported days but may be right: noted, never changed.

Axes: D days, H = 24 hours, N prosumers. Imported by importers only (needs pandas).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Fleet
from prosumer_gym.datasets.assemble import Rows
from prosumer_gym.datasets.schema import COVARIATES

MIN_TRAIN_DAYS_OF_FORECASTS = 12
"""Policies that fit a forecast refuse fewer train days; an import with fewer says so."""
NOON_BETWEEN_H = (10.5, 15.0)
"""Local clock hours between which the middle of the PV energy lies nearly everywhere on earth, summer time included."""
SAME_SKY_CORRELATION = 0.3
"""Below it the days of PV and irradiance are not those of one sky: real pairs have 0.9, unrelated ones about 0."""
FAINT_W_PER_M2 = 5.0
"""An irradiance that is never above it, where there is PV, is in another unit."""
TINY_KW = 0.05
"""Loads that are all below it are in another unit."""
HUGE = 20.0
"""A load so many times the default connection may be in another unit."""
_SEASON_DAYS = 15
_SEATS_OF_IEEE33 = 10


def oddities(rows: Rows, names: Sequence[str]) -> tuple[str, ...]:
    """One sentence for each thing that the user should know or check."""
    load_kw, pv_kw = rows.hourly["load"], rows.hourly["pv"]
    irradiance = rows.hourly["weather"][:, :, COVARIATES.index("irradiance_w_per_m2")]
    found = (
        _few_train_days(int(rows.training.sum())),
        _zero_loads(load_kw, names),
        _tiny_loads(load_kw),
        _faint_sun(pv_kw, irradiance),
        _above_the_connection(load_kw[rows.training], names),
        _seats(len(names)),
        _another_clock(pv_kw.sum(axis=2), irradiance),
        _another_sky(pv_kw.sum(axis=(1, 2)), irradiance.sum(axis=1)),
    )
    return tuple(note for note in found if note is not None)


def _few_train_days(days: int) -> str | None:
    if days >= MIN_TRAIN_DAYS_OF_FORECASTS:
        return None
    return (
        f"It has {days} train days; policies that fit a forecast need {MIN_TRAIN_DAYS_OF_FORECASTS} or more "
        "and will refuse it. Import more days, or give train more of them with --split."
    )


def _zero_loads(load_kw: FloatArray, names: Sequence[str]) -> str | None:
    zeros = (load_kw == 0.0).sum(axis=(0, 1))
    if not zeros.any():
        return None
    n = int(zeros.argmax())
    return (
        f"The load is exactly 0 in {int(zeros.sum())} hours of prosumers (most of them, {int(zeros[n])}, of "
        f"{names[n]}); where the source writes 0 for a missing reading, say --zero-load missing."
    )


def _tiny_loads(load_kw: FloatArray) -> str | None:
    peak_kw = float(load_kw.max())
    return f"No load exceeds {peak_kw:.3g} kW; is it in MW?" if peak_kw < TINY_KW else None


def _faint_sun(pv_kw: FloatArray, irradiance: FloatArray) -> str | None:
    most = float(irradiance.max())
    if most >= FAINT_W_PER_M2 or pv_kw.max() == 0.0:
        return None
    return f"The irradiance never exceeds {most:.3g} W/m2, though there is PV; is it in kW/m2?"


def _above_the_connection(load_kw: FloatArray, names: Sequence[str]) -> str | None:
    limit_kw = float(Fleet.identical([1]).connection_limit_kw[0])
    peak_kw = load_kw.max(axis=(0, 1))
    if peak_kw.max() <= limit_kw:
        return None
    n = int(peak_kw.argmax())
    unit = " Is it in W?" if peak_kw[n] > HUGE * limit_kw else ""
    return (
        f"{int((peak_kw > limit_kw).sum())} prosumers exceed the {limit_kw:g} kW of the default connection on "
        f"train days (most of all {names[n]}, {peak_kw[n]:.1f} kW); scale them, or play with a fleet of your own.{unit}"
    )


def _seats(prosumers: int) -> str | None:
    if prosumers == _SEATS_OF_IEEE33:
        return None
    return (
        f"The scenario ieee33 seats {_SEATS_OF_IEEE33} prosumers, these are {prosumers}; play with a community of "
        "your own."
    )


def _another_clock(pv_kw: FloatArray, irradiance: FloatArray) -> str | None:
    """The PV of all [D,H] is not of the hours of the irradiance [D,H], or both are not of the local clock."""
    lag = _lag(pv_kw, irradiance)
    if lag != 0:
        return (
            f"PV follows the irradiance best when it is moved by {lag:+d} h; check the interval label and the time "
            "zone of both files."
        )
    for what, sun in (("PV energy", pv_kw), ("irradiance", irradiance)):
        if sun.sum() == 0.0:
            continue
        middle = float((sun * (np.arange(sun.shape[1]) + 0.5)).sum() / sun.sum())
        if not NOON_BETWEEN_H[0] <= middle <= NOON_BETWEEN_H[1]:
            clock = f"{int(middle)}:{int(60 * (middle % 1)):02d}"
            return (
                f"The middle of the {what} lies at {clock} of the local day, far from noon; check the time zone and "
                "what times without an offset mean."
            )
    return None


def _lag(pv_kw: FloatArray, irradiance: FloatArray) -> int:
    """Hours by which PV [D,H] must move to fit the irradiance [D,H] best, within two hours."""
    if pv_kw.std() == 0.0 or irradiance.std() == 0.0:
        return 0
    width = pv_kw.shape[1]
    fits = {
        lag: float(
            np.corrcoef(
                pv_kw[:, max(0, -lag) : width - max(0, lag)].ravel(),
                irradiance[:, max(0, lag) : width + min(0, lag)].ravel(),
            )[0, 1]
        )
        for lag in (0, -1, 1, -2, 2)
    }
    return max(fits, key=lambda lag: fits[lag])


def _another_sky(pv: FloatArray, irradiance: FloatArray) -> str | None:
    """Clear and cloudy days of PV [D] are not those of the irradiance [D], both sums of days."""
    one, other = (_anomaly(values) for values in (pv, irradiance))
    if len(pv) < _SEASON_DAYS or one.std() <= 1e-6 * abs(pv).mean() or other.std() <= 1e-6 * abs(irradiance).mean():
        return None
    fit = float(np.corrcoef(one, other)[0, 1])
    if fit >= SAME_SKY_CORRELATION:
        return None
    return (
        f"From day to day PV and irradiance hardly move together (correlation {fit:.2f}): the weather seems not to "
        "be that of the days of the readings. Claim no gains from reading it; take this set as a negative control."
    )


def _anomaly(values: FloatArray) -> FloatArray:
    """What a day [D] has over the mean of the days around it."""
    window = np.ones(_SEASON_DAYS)
    return np.asarray(values - np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same"))
