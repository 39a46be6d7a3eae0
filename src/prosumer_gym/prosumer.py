"""One prosumer's own equipment: what it wants becomes what it can do, and what that does to its battery and backlog.

The compiled functions speak of one prosumer in one hour; a `Vector` holds that hour's number in LANES lanes at once.
A wanted power may be infinite: it is clipped like any other. Equations (1), (3), (4) of the model, parameters after
arXiv 2409.00493, with efficiencies of charging and discharging apart.

Axis letters: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.lanes import Vector, inlined, magnitude, spread
from prosumer_gym.lanes_order import exceeds, greater, lesser

CLIPPED_KW = 1e-9
"""A part of an action counts as clipped when it was changed by more than this."""

_ROUNDING_KWH = 1e-9


@inlined
def was_clipped(feasible: Vector, wanted: Vector) -> Vector:
    """1 where a part of an action had to be changed, else 0."""
    return exceeds(magnitude(feasible - wanted), spread(CLIPPED_KW))


@inlined
def feasible_curtailment(wanted_kw: Vector, pv_kw: Vector) -> Vector:
    """No more can be thrown away than the sun gives, and no less than nothing, kW."""
    return greater(lesser(wanted_kw, pv_kw), spread(0.0))


@inlined
def feasible_battery(
    wanted_kw: Vector,
    soc_kwh: Vector,
    power_kw: float,
    soc_min_kwh: float,
    soc_max_kwh: float,
    charge_efficiency: float,
    discharge_efficiency: float,
    dt_h: float,
) -> Vector:
    """The wanted power, clipped so that neither the battery's power nor its state of charge is exceeded, kW.

    One signed number, + charges: a battery never charges and discharges in the same hour.
    """
    full_kw = (spread(soc_max_kwh) - soc_kwh) * spread(1.0 / (charge_efficiency * dt_h))
    empty_kw = (soc_kwh - spread(soc_min_kwh)) * spread(discharge_efficiency / dt_h)
    charge_kw, discharge_kw = lesser(full_kw, spread(power_kw)), lesser(empty_kw, spread(power_kw))
    return greater(-discharge_kw, lesser(wanted_kw, charge_kw))


@inlined
def next_soc(
    battery_kw: Vector,
    soc_kwh: Vector,
    soc_min_kwh: float,
    soc_max_kwh: float,
    charge_efficiency: float,
    discharge_efficiency: float,
    dt_h: float,
) -> Vector:
    """State of charge after an hour at a feasible power, kWh; the bounds only take away rounding."""
    charge_kw, discharge_kw = greater(battery_kw, spread(0.0)), greater(-battery_kw, spread(0.0))
    stored_kw = charge_kw * spread(charge_efficiency) - discharge_kw * spread(1.0 / discharge_efficiency)
    return greater(lesser(soc_kwh + stored_kw * spread(dt_h), spread(soc_max_kwh)), spread(soc_min_kwh))


@inlined
def feasible_shiftable(
    wanted_kw: Vector,
    backlog_kwh: Vector,
    ref_kw: Vector,
    power_kw: float,
    next_low_kwh: Vector,
    next_high_kwh: Vector,
    dt_h: float,
) -> Vector:
    """The wanted power of the shiftable load, clipped so that the day's energy can still be delivered exactly, kW.

    `next_low_kwh ... next_high_kwh` are the backlogs after this hour from which the day can be finished
    (`backlog_tube`).
    """
    per_h = spread(1.0 / dt_h)
    least_kw = lesser(ref_kw + (next_low_kwh - backlog_kwh) * per_h, spread(power_kw))
    most_kw = lesser(ref_kw + (next_high_kwh - backlog_kwh) * per_h, spread(power_kw))
    return greater(lesser(wanted_kw, most_kw), greater(least_kw, spread(0.0)))


@inlined
def next_backlog(
    shiftable_kw: Vector,
    backlog_kwh: Vector,
    ref_kw: Vector,
    next_low_kwh: Vector,
    next_high_kwh: Vector,
    dt_h: float,
) -> Vector:
    """Backlog after an hour at a feasible power, + is ahead of its time, kWh; the bounds only take away rounding."""
    moved_kwh = backlog_kwh + (shiftable_kw - ref_kw) * spread(dt_h)
    return greater(lesser(moved_kwh, next_high_kwh), next_low_kwh)


@inlined
def net_import(load_kw: Vector, pv_kw: Vector, curtail_kw: Vector, shiftable_kw: Vector, battery_kw: Vector) -> Vector:
    """What the prosumer draws through its connection, kW: equation (1)."""
    return load_kw - (pv_kw - curtail_kw) + shiftable_kw + battery_kw


@inlined
def wear_cost(power_kw: Vector, quadratic_ct_per_kw2h: float, linear_ct_per_kwh: float, dt_h: float) -> Vector:
    """Wear of a battery in an hour at a power of either sign, ct."""
    quadratic, linear = spread(dt_h * quadratic_ct_per_kw2h), spread(dt_h * linear_ct_per_kwh)
    return quadratic * power_kw * power_kw + linear * magnitude(power_kw)


@inlined
def discomfort_cost(
    backlog_kwh: Vector, quadratic_ct_per_kwh2h: float, linear_ct_per_kwhh: float, dt_h: float
) -> Vector:
    """Discomfort of a backlog of either sign that stands at the end of an hour, ct."""
    quadratic, linear = spread(dt_h * quadratic_ct_per_kwh2h), spread(dt_h * linear_ct_per_kwhh)
    return quadratic * backlog_kwh * backlog_kwh + linear * magnitude(backlog_kwh)


def backlog_tube(community: Community, shiftable_ref_kw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest backlog at the start of each hour from which the day can still be finished [D,H+1,N], kWh.

    The backlog is zero at both midnights, within its bounds in between, and moves by dt (p - ref) with 0 <= p <= power:
    walking backwards from midnight gives the interval of every hour. `shiftable_ref_kw` is `[D,H,N]`.

    Raises:
        UsageError: a day's energy cannot be delivered; the message names day and prosumer.
    """
    fleet, dt_h = community.fleet, community.dt_h
    num_days, num_hours, num_prosumers = shiftable_ref_kw.shape
    most_kwh = dt_h * fleet.shiftable_power_kw
    low_kwh = np.zeros((num_days, num_hours + 1, num_prosumers))
    high_kwh = np.zeros((num_days, num_hours + 1, num_prosumers))
    for hour in range(num_hours - 1, -1, -1):
        ref_kwh = dt_h * shiftable_ref_kw[:, hour]
        low_kwh[:, hour] = np.maximum(low_kwh[:, hour + 1] + ref_kwh - most_kwh, fleet.backlog_min_kwh)
        high_kwh[:, hour] = np.minimum(high_kwh[:, hour + 1] + ref_kwh, fleet.backlog_max_kwh)
    empty = (low_kwh > high_kwh + _ROUNDING_KWH).any(axis=1)
    undeliverable = empty | (low_kwh[:, 0] > _ROUNDING_KWH) | (high_kwh[:, 0] < -_ROUNDING_KWH)
    if undeliverable.any():
        day, prosumer = (int(i) for i in np.argwhere(undeliverable)[0])
        energy_kwh = dt_h * float(shiftable_ref_kw[day, :, prosumer].sum())
        reach_kwh = num_hours * float(most_kwh[prosumer])
        raise UsageError(
            f"exogenous.shiftable_ref_kw: day {day}, prosumer {prosumer}: {energy_kwh:g} kWh cannot be delivered; "
            + (
                f"the day offers 0 ... {reach_kwh:g} kWh at fleet.shiftable_power_kw"
                if not -_ROUNDING_KWH <= energy_kwh <= reach_kwh + _ROUNDING_KWH
                else "widen fleet.backlog_min_kwh ... backlog_max_kwh"
            )
        )
    return low_kwh, high_kwh
