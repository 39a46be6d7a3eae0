"""The reward: minus what the step cost in money, minus what it did to the feeder.

Every term has a name and its own line in `reward_terms`; the reward is their sum, added in the order of `REWARD_TERMS`.

Axis letters: B lanes, N prosumers, T cost terms, R reward terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.errors import UsageError
from prosumer_gym.lanes import exact
from prosumer_gym.simulator import COST_TERMS

REWARD_TERMS: tuple[str, ...] = (*COST_TERMS, "voltage", "community_peak")
"""Names of the terms, R of them: one for each cost term of the simulator, then the two of the feeder."""


@dataclass(frozen=True)
class RewardWeights:
    """What a violated voltage and a higher peak weigh against money. Zero leaves a term out.

    The defaults follow the weights of the benchmark's headline score (0.6 cost, 0.2 peak, 0.2 voltage), so that what
    learns from the reward learns for the score: on the training days of the default data perfect foresight saves
    6080 ct of cost or 186 kW of peak against no control, whose voltages are off by 0.0605 p.u. h a day; a third of
    those 6080 ct for the whole of either gives 11 ct per kW and 34 000 ct per p.u. h.

    Raises:
        UsageError: a weight is negative or not finite.
    """

    voltage_ct_per_pu_h: float = 30_000.0
    """Per p.u. h of voltage outside the limits, summed over the buses."""
    peak_ct_per_kw: float = 10.0
    """Per kW by which an hour raises the highest import of all prosumers together since midnight."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (isinstance(value, int | float) and np.isfinite(value) and value >= 0):
                raise UsageError(f"reward.{item.name}: {value!r} must be a finite number, not negative")

    @classmethod
    def of(cls, given: RewardWeights | Mapping[str, float] | None) -> RewardWeights:
        """Weights from weights, from a mapping of their names (what JSON can hold), or the defaults from None.

        Raises:
            UsageError: a name that is no weight, or a weight that is refused.
        """
        if isinstance(given, RewardWeights):
            return given
        if not isinstance(given, Mapping | None):
            raise UsageError(f"reward: a {type(given).__name__} is no set of weights; give them by name")
        given = dict(given or {})
        unknown = given.keys() - {item.name for item in fields(cls)}
        if unknown:
            raise UsageError(
                f"reward: there is no weight {min(unknown)!r}; the weights are "
                f"{', '.join(item.name for item in fields(cls))}"
            )
        return cls(**given)


def reward_terms(
    weights: RewardWeights,
    dt_h: float,
    cost_ct: FloatArray,
    voltage_excess_pu: FloatArray,
    peak_increase_kw: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Terms of the reward of one step `[R,B]` and their sum `[B]`, ct.

    Args:
        weights: of voltage and peak.
        dt_h: length of a step.
        cost_ct: what each prosumer pays for what [T,N,B].
        voltage_excess_pu: voltage outside the limits, summed over the buses [B].
        peak_increase_kw: increase of the community's running peak of the day [B]; over a day it sums to the peak.
    """
    num_lanes = cost_ct.shape[-1]
    terms, total = np.empty((len(REWARD_TERMS), num_lanes)), np.empty(num_lanes)
    _reward_terms(
        weights.voltage_ct_per_pu_h * dt_h, weights.peak_ct_per_kw, cost_ct, voltage_excess_pu, peak_increase_kw,
        terms, total,
    )  # fmt: skip
    return terms, total


@exact
def _reward_terms(
    voltage_ct_per_pu: float,
    peak_ct_per_kw: float,
    cost_ct: FloatArray,
    voltage_excess_pu: FloatArray,
    peak_increase_kw: FloatArray,
    terms: FloatArray,
    total: FloatArray,
) -> None:
    """Prosumers, then terms, are added in their order: the bits do not depend on the number of lanes."""
    num_terms, num_prosumers, num_lanes = cost_ct.shape
    for lane in range(num_lanes):
        for t in range(num_terms):
            cost = 0.0
            for n in range(num_prosumers):
                cost += cost_ct[t, n, lane]
            terms[t, lane] = 0.0 - cost
        terms[num_terms, lane] = 0.0 - voltage_ct_per_pu * voltage_excess_pu[lane]
        terms[num_terms + 1, lane] = 0.0 - peak_ct_per_kw * peak_increase_kw[lane]
        total[lane] = 0.0
        for r in range(terms.shape[0]):
            total[lane] += terms[r, lane]
