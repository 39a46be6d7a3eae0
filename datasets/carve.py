"""The shiftable load that a generated or measured load does not tell: a share of it, carved out.

Axes: D days, H steps of a day, N prosumers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.errors import UsageError

SHIFTABLE_SHARE = 0.3


def carve_shiftable(
    total_load_kw: FloatArray, training: BoolArray, power_limit_kw: npt.ArrayLike, *, share: float = SHIFTABLE_SHARE
) -> tuple[FloatArray, FloatArray]:
    """Split a load into a must-run part and the reference profile of a shiftable part.

    The must-run load is `1 - share` of each hour's load. The reference is `share` of the prosumer's *training mean* at
    that step of the day, at most its power limit, and the same every day: a share of the day's own load would tell the
    load of a day to whoever sees the reference at the day-ahead gate.

    Args:
        total_load_kw: load before the split [D,H,N].
        training: rows whose mean is taken [D].
        power_limit_kw: largest power of the shiftable load, one number or [N].
        share: shiftable part of the load, 0 to 1.

    Returns:
        load_kw [D,H,N] and shiftable_ref_kw [D,H,N] (each day the same).

    Raises:
        UsageError: no training row, or a share outside 0 to 1.
    """
    if not np.any(training):
        raise UsageError(
            "shiftable load: there is no train day to take its mean profile from; give the data a train block"
        )
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"shiftable load: its share is {share:g}; give a number from 0 to 1")
    reference = np.minimum(share * total_load_kw[training].mean(axis=0), power_limit_kw)
    return (1.0 - share) * total_load_kw, np.array(np.broadcast_to(reference, total_load_kw.shape))
