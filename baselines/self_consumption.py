"""`self-consumption`: what an inverter does out of the box.

Axis letters: N prosumers.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.baselines.rules import Move, RulePolicy, Slot, battery_limits_kw
from prosumer_gym.baselines.trades import surplus_to_deficit


class SelfConsumption(RulePolicy):
    """Own PV first into the own load, then into the own battery, then to neighbours, and only what is left to the grid.

    The shiftable load runs by its reference, and more when the sun gives a surplus. The battery takes up the rest of
    the surplus and covers a deficit, as inverters do, who see their own meter only; neighbours trade what is left
    behind the battery. Below the state of charge that the day is settled against it keeps its reserve.
    """

    def rule(self, slot: Slot) -> Move:
        """The hour of every prosumer on its own, then the trades."""
        fleet = self.community.fleet
        surplus_kw = slot.pv_kw - slot.load_kw
        shiftable_kw = np.clip(
            np.maximum(slot.shiftable_ref_kw, surplus_kw), slot.least_shiftable_kw, slot.most_shiftable_kw
        )
        net_kw = shiftable_kw - surplus_kw
        discharge_kw, charge_kw = battery_limits_kw(
            fleet, slot.soc_kwh, np.maximum(slot.least_soc_kwh, fleet.soc_initial_kwh), self.community.dt_h
        )
        battery_kw = np.clip(-net_kw, -discharge_kw, charge_kw)
        return Move(
            battery_kw=battery_kw,
            shiftable_kw=shiftable_kw,
            curtail_kw=np.zeros(len(fleet)),
            trade_kw=surplus_to_deficit(self.community, net_kw + battery_kw),
        )
