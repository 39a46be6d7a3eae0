"""One prosumer's own equipment: what it wants becomes what it can do, and what that does to its battery and backlog.

The compiled functions take and return one prosumer's numbers of one hour; loops over prosumers and lanes are the
caller's. A wanted power may be infinite: it is clipped like any other. Equations (1), (3), (4) and the parameters after
arXiv 2409.00493, with efficiencies of charging and discharging apart.

Axis letters: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community
from prosumer_gym.compiled import compiled
from prosumer_gym.errors import UsageError

_ROUNDING_KWH = 1e-9


@compiled
def feasible_curtailment(wanted_kw: float, pv_kw: float) -> float:
    """No more can be thrown away than the sun gives, and no less than nothing, kW."""
    return max(0.0, min(wanted_kw, pv_kw))


@compiled
def feasible_battery(
    wanted_kw: float,
    soc_kwh: float,
    power_kw: float,
    soc_min_kwh: float,
    soc_max_kwh: float,
    charge_efficiency: float,
    discharge_efficiency: float,
    dt_h: float,
) -> float:
    """The wanted power, clipped so that neither the battery's power nor its state of charge is exceeded, kW.

    One signed number, + charges: a battery never charges and discharges in the same hour.
    """
    charge_kw = min(power_kw, (soc_max_kwh - soc_kwh) / (charge_efficiency * dt_h))
    discharge_kw = min(power_kw, (soc_kwh - soc_min_kwh) * discharge_efficiency / dt_h)
    return max(-discharge_kw, min(wanted_kw, charge_kw))


@compiled
def next_soc(
    battery_kw: float,
    soc_kwh: float,
    soc_min_kwh: float,
    soc_max_kwh: float,
    charge_efficiency: float,
    discharge_efficiency: float,
    dt_h: float,
) -> float:
    """State of charge after an hour at a feasible power, kWh; the bounds only take away rounding."""
    charged_kw = charge_efficiency * max(battery_kw, 0.0) - max(-battery_kw, 0.0) / discharge_efficiency
    return max(soc_min_kwh, min(soc_kwh + dt_h * charged_kw, soc_max_kwh))


@compiled
def feasible_shiftable(
    wanted_kw: float,
    backlog_kwh: float,
    ref_kw: float,
    power_kw: float,
    next_low_kwh: float,
    next_high_kwh: float,
    dt_h: float,
) -> float:
    """The wanted power of the shiftable load, clipped so that the day's energy can still be delivered exactly, kW.

    `next_low_kwh ... next_high_kwh` are the backlogs after this hour from which the day can be finished
    (`backlog_tube`).
    """
    least_kw = min(max(0.0, ref_kw + (next_low_kwh - backlog_kwh) / dt_h), power_kw)
    most_kw = max(min(ref_kw + (next_high_kwh - backlog_kwh) / dt_h, power_kw), 0.0)
    return max(least_kw, min(wanted_kw, most_kw))


@compiled
def next_backlog(
    shiftable_kw: float, backlog_kwh: float, ref_kw: float, next_low_kwh: float, next_high_kwh: float, dt_h: float
) -> float:
    """Backlog after an hour at a feasible power, + is ahead of its time, kWh; the bounds only take away rounding."""
    return max(next_low_kwh, min(backlog_kwh + dt_h * (shiftable_kw - ref_kw), next_high_kwh))


@compiled
def net_import(load_kw: float, pv_kw: float, curtail_kw: float, shiftable_kw: float, battery_kw: float) -> float:
    """What the prosumer draws through its connection, kW: equation (1)."""
    return load_kw - (pv_kw - curtail_kw) + shiftable_kw + battery_kw


@compiled
def wear_cost(power_kw: float, quadratic_ct_per_kw2h: float, linear_ct_per_kwh: float, dt_h: float) -> float:
    """Wear of a battery in an hour at a power of either sign, ct."""
    return dt_h * (quadratic_ct_per_kw2h * power_kw * power_kw + linear_ct_per_kwh * abs(power_kw))


@compiled
def discomfort_cost(backlog_kwh: float, quadratic_ct_per_kwh2h: float, linear_ct_per_kwhh: float, dt_h: float) -> float:
    """Discomfort of a backlog of either sign that stands at the end of an hour, ct."""
    return dt_h * (quadratic_ct_per_kwh2h * backlog_kwh * backlog_kwh + linear_ct_per_kwhh * abs(backlog_kwh))


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
