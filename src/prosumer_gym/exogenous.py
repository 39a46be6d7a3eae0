"""What happens to a community whatever it does: load, sun, prices and the rest of the feeder, day by day.

Axis letters: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from prosumer_gym.arrays import FloatArray, FrozenArrays, frozen
from prosumer_gym.errors import UsageError


@dataclass(frozen=True, eq=False)
class Exogenous(FrozenArrays):
    """Days as the simulator reads them; rows that follow each other are the days an episode of several days plays.

    Raises `UsageError` naming the field when shapes disagree or a value is not finite.
    """

    load_kw: FloatArray
    """Must-run load [D,H,N]."""
    pv_kw: FloatArray
    """Available PV generation [D,H,N]."""
    shiftable_ref_kw: FloatArray
    """When the shiftable load would run if left alone; its daily energy is what must be delivered [D,H,N]."""
    price_da_ct_per_kwh: FloatArray
    """Raw day-ahead price [D,H]."""
    price_rt_ct_per_kwh: FloatArray
    """Raw real-time price [D,H]."""
    passive_pu: FloatArray
    """Load of the rest of the feeder, multiple of nominal [D,H]."""

    def __post_init__(self) -> None:
        if np.ndim(self.load_kw) != 3:
            raise UsageError(f"exogenous.load_kw: shape {np.shape(self.load_kw)}, expected [D,H,N]")
        shape = np.shape(self.load_kw)
        for item in fields(self):
            values = np.asarray(getattr(self, item.name), dtype=np.float64)
            expected = shape if item.name.endswith("_kw") else shape[:2]
            if values.shape != expected:
                raise UsageError(f"exogenous.{item.name}: shape {values.shape}, expected {expected}")
            if not np.all(np.isfinite(values)):
                raise UsageError(f"exogenous.{item.name}: holds values that are not finite")
            object.__setattr__(self, item.name, frozen(values))

    @property
    def num_days(self) -> int:
        """D."""
        return int(self.load_kw.shape[0])
