"""The voltages of one hour as rows of its program, in the linear model of `network`.

Axis letters: N prosumers, K buses but the substation.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.rules import Slot
from prosumer_gym.community import Community


class HourVoltage:
    """How far the buses lie beyond their limits in an hour, linear in what the prosumers do, and what that costs.

    A price, not a limit: where the rest of the feeder alone breaks the limits, the hour still has a solution.

    Args:
        community: on its feeder.
        price_ct_per_pu_h: of a bus's voltage beyond its limits, for an hour.
        margin_pu: by how much both limits are drawn in, for what the linear model does not see.
    """

    def __init__(self, community: Community, *, price_ct_per_pu_h: float, margin_pu: float) -> None:
        # Linear in the load of the rest of the feeder too: known without it and with the nominal one, known for all.
        ends = NetworkPenalty.lindistflow(
            community, np.array([0.0, 1.0]), price_ct_per_pu_h=price_ct_per_pu_h, margin_pu=margin_pu
        )
        self.price_ct_per_pu_h = price_ct_per_pu_h
        sides = ends.sides  # the lower limits, the upper
        self._alone = [side.idle_pu[0, 1:] for side in sides]
        self._passive = [side.idle_pu[1, 1:] - side.idle_pu[0, 1:] for side in sides]
        self.per_import = [side.per_import[0, 1:] for side in sides]
        """By how much a kW of net import takes each bus towards too low, and too high, p.u./kW [K,N] each."""
        self.per_consumption = [side.per_consumption[0, 1:] for side in sides]
        """Likewise a kW of load, for the reactive power that goes with it [K,N] each."""

    @property
    def num_buses(self) -> int:
        """K."""
        return len(self._alone[0])

    def room_pu(self, slot: Slot) -> list[FloatArray]:
        """How far each bus is from being too low, and too high, if nobody steers, p.u. [K] each; negative beyond.

        Nobody steers: batteries rest, no shiftable load runs and nothing is curtailed.
        """
        net_kw = slot.load_kw - slot.pv_kw
        return [
            -(alone + slot.passive_pu * passive + per_import @ net_kw + per_consumption @ slot.load_kw)
            for alone, passive, per_import, per_consumption in zip(
                self._alone, self._passive, self.per_import, self.per_consumption, strict=True
            )
        ]
