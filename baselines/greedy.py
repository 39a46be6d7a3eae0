"""`greedy`: the cheapest hour, every hour, without looking ahead (arXiv 2505.21884's comparator of online policies)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prosumer_gym.baselines.hour_program import HourProgram
from prosumer_gym.baselines.rules import Move, RulePolicy, Slot
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset


class Greedy(RulePolicy):
    """Each hour the community does what costs it least in that hour, within hard limits that keep it free of debt.

    What would only put a cost off is no saving, so the battery stays above the state of charge that the episode is
    settled against, and the shiftable load does not fall behind its reference. Without these two limits a rule that
    never looks ahead empties every battery in the first hours and runs every shiftable load in the last ones, and pays
    more for both than it spends on everything else. What is left to do at ordinary prices is to trade: an hour by
    itself gives no reason to charge a battery or to run a load early. Only negative prices move them.
    """

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn the forecast that the position is made from, and set up the hour's program."""
        super().fit(community, history)
        self.hour = HourProgram(community)

    def rule(self, slot: Slot) -> Move:
        """The optimum of the hour."""
        fleet, dt_h = self.community.fleet, self.community.dt_h
        on_time_kw = slot.shiftable_ref_kw - slot.backlog_kwh / dt_h
        return self.hour.solve(
            replace(
                slot,
                least_shiftable_kw=np.clip(on_time_kw, slot.least_shiftable_kw, slot.most_shiftable_kw),
                least_soc_kwh=np.minimum(slot.soc_kwh, np.maximum(slot.least_soc_kwh, fleet.soc_initial_kwh)),
            )
        )
