"""The community's peak in a plan: what its exchange with the grid exceeds in no hour costs something.

A tariff charges each connection for its own peak. What the grid has to be built for is the peak of all together, max_h
G+ with G the sum of their net imports; a plan that pays for it too lets the prosumers take turns. With scenarios, the
expected peak is paid for. In the course of a day the peak that has been is a floor: no more is paid below it.

Axis letters: N prosumers, S scenarios, h remaining hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prosumer_gym.arrays import IntArray
from prosumer_gym.baselines.core_matrices import CoreBuild, CoreColumns, CoreMatrices, check_core
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import DayStart, Scenarios
from prosumer_gym.baselines.trades import trade_form
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError


@dataclass(frozen=True)
class PeakPrice:
    """What a plan pays for the community's peak. Raises `UsageError`."""

    ct_per_kw: float
    """For the day; 0 is a plan that knows no peak but those of the connections."""
    so_far_kw: float = 0.0
    """The day's peak before the first hour of the plan."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise UsageError(f"peak price: {name} is {value}, must be finite and not negative")


def build_with_peak(
    community: Community,
    start: DayStart,
    scenarios: Scenarios,
    peak: PeakPrice,
    *,
    regulariser: float,
    foresight: bool = False,
    network: NetworkPenalty | None = None,
) -> CoreMatrices:
    """The core problem (`core_matrices.build_core`; other arguments and errors as there) with a price on the peak.

    What exceeds the peak so far is paid for. Where each prosumer has weights of its own for the scenarios, their mean
    stands for the probability of what all of them do together.
    """
    check_core(community, start, scenarios, foresight=foresight)
    build = _PeakBuild(community, start, scenarios, foresight, trade_form(community))
    build.peak = peak
    if network is not None and network.price_ct_per_pu_h > 0:
        build.guard(network)
    return build.core(regulariser)


class _PeakBuild(CoreBuild):
    """The core program, in which the community is charged for its peak like every connection for its own."""

    peak: PeakPrice

    def demand_charge(self, columns: CoreColumns, thrown: IntArray) -> None:
        super().demand_charge(columns, thrown)
        if self.peak.ct_per_kw == 0.0:
            return
        probability = self.weights.mean(axis=0)  # [S]
        counts = probability > 0
        total = self.variables.add((self.hours,), lower=-np.inf)
        rows = self.equal.add(np.zeros(self.hours))
        self.equal.put(rows, total, -1.0)
        for column in (columns.flexible, columns.curtail):
            self.equal.put(rows[:, None], column, 1.0)
        peak = self.variables.add(
            counts.shape, lower=self.peak.so_far_kw, linear=self.peak.ct_per_kw * probability, present=counts
        )  # fmt: skip
        fixed_kw = self.net_load_kw.sum(axis=1)  # [h,S]
        rows = self.below.add(-fixed_kw, present=np.broadcast_to(counts, fixed_kw.shape))
        self.below.put(rows, total[:, None], 1.0)
        self.below.put(rows[:, None], thrown, 1.0)
        self.below.put(rows, peak, -1.0)
        self.constant_ct -= self.peak.ct_per_kw * self.peak.so_far_kw
