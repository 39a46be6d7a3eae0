"""What a community does when nobody steers it: the score's zero, and what stands in for an action that failed.

Axis letters: N prosumers, M numbers that an hour's offers consist of, H hours of a day.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.actions import Dispatch
from prosumer_gym.arrays import FloatArray

PAST_DAYS = 7


def no_control_position(
    past_load_kw: FloatArray, past_pv_kw: FloatArray, shiftable_ref_kw: FloatArray, position_limit_kw: FloatArray
) -> FloatArray:
    """Each prosumer buys the mean net load that the hour had over the last seven days, and sells nothing [N,H].

    A position that also sold the mean surplus would promise energy the day may not bring: every rival would look good.

    Args:
        past_load_kw: must-run load of the last complete days, yesterday last [>=7,H,N].
        past_pv_kw: their PV generation [>=7,H,N].
        shiftable_ref_kw: the coming day's shiftable load where it runs by itself [H,N].
        position_limit_kw: largest purchase [N].
    """
    past_net_kw = np.asarray(past_load_kw)[..., -PAST_DAYS:, :, :] - np.asarray(past_pv_kw)[..., -PAST_DAYS:, :, :]
    mean_kw = past_net_kw.mean(axis=-3) + shiftable_ref_kw
    return np.ascontiguousarray(np.swapaxes(np.clip(mean_kw, 0.0, position_limit_kw), -1, -2))


def no_control_dispatch(shiftable_ref_kw: FloatArray, num_offers: int) -> Dispatch:
    """Batteries rest, nothing is curtailed or traded, the shiftable load runs by itself.

    Args:
        shiftable_ref_kw: of this hour [N].
        num_offers: M.
    """
    shiftable_kw = np.array(shiftable_ref_kw, dtype=np.float64)
    return Dispatch(
        battery_kw=np.zeros(shiftable_kw.shape),
        shiftable_kw=shiftable_kw,
        curtail_kw=np.zeros(shiftable_kw.shape),
        offers=np.zeros((*shiftable_kw.shape[:-1], num_offers)),
    )
