"""The voltages of an hour in the linear model of the feeder, as rows of the hour's program.

Squared voltages fall linearly with what is drawn (LinDistFlow, Baran and Wu 1989; losses neglected). A bus that leaves
its limits costs: limits that nothing can keep, because the rest of the feeder alone breaks them, leave a program
solvable. A node's identical units draw alike, and the feeder carries all of them.

Axis letters: N prosumers, K buses but the substation.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.rules import Slot
from prosumer_gym.community import Community
from prosumer_gym.power_flow import lindistflow


class HourVoltage:
    """How the voltages of an hour follow from what the prosumers draw.

    Args:
        community: on its feeder.
        price_ct_per_pu2h: of a bus's squared voltage beyond its limits, for an hour.
        margin_pu: by how much the limits are drawn in, for what the linear model does not see.
    """

    def __init__(self, community: Community, *, price_ct_per_pu2h: float, margin_pu: float) -> None:
        feeder, fleet = community.feeder, community.fleet
        linear, base_kw = lindistflow(feeder), 1000.0 * feeder.base_mva
        self.price_ct_per_pu2h, self.num_buses = price_ct_per_pu2h, feeder.num_buses - 1
        self.drawn = linear.r[1:, fleet.bus] * fleet.units / base_kw
        """Fall of the squared voltages per kW of net import, p.u.^2/kW [K,N]."""
        reactive = np.tan(np.arccos(fleet.power_factor))
        self.run = linear.x[1:, fleet.bus] * fleet.units * reactive / base_kw
        """Besides, per kW of load and shiftable load, for its reactive power [K,N]."""
        self._passive = (linear.r @ feeder.p_kw + linear.x @ feeder.q_kvar)[1:] / base_kw
        self._slack = feeder.slack_v_pu**2
        self._low = (feeder.v_min_pu + margin_pu) ** 2
        self._high = (feeder.v_max_pu - margin_pu) ** 2

    def idle(self, slot: Slot) -> FloatArray:
        """Squared voltages if batteries rest, no shiftable load runs and nothing is curtailed, p.u.^2 [K]."""
        fall = self.drawn @ (slot.load_kw - slot.pv_kw) + self.run @ slot.load_kw
        return np.asarray(self._slack - slot.passive_pu * self._passive - fall)

    def room(self, slot: Slot) -> list[FloatArray]:
        """How far each bus may fall and rise from there, p.u.^2, negative where it is beyond its limit [K] each."""
        idle = self.idle(slot)
        return [idle - self._low, self._high - idle]
