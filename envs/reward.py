"""The reward: minus what the step cost in money, minus what it did to the feeder.

Every term has a name and its own line in `reward_terms`; the reward is their sum, added in the order of `REWARD_TERMS`.

Axis letters: B lanes, N prosumers, T cost terms, R reward terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.compiled import compiled
from prosumer_gym.errors import UsageError
from prosumer_gym.simulator import COST_TERMS

REWARD_TERMS: tuple[str, ...] = (*COST_TERMS, "voltage", "community_peak")
"""Names of the terms, R of them: one for each cost term of the simulator, then the two of the feeder."""


@dataclass(frozen=True)
class RewardWeights:
    """What a violated voltage and a higher peak weigh against money. Zero leaves a term out.

    The defaults follow the weights of the benchmark's headline score (0.6 cost, 0.2 peak, 0.2 voltage) on the default
    data and scenario, so that a policy that learns from the reward learns for the score.

    Raises:
        UsageError: a weight is negative or not finite.
    """

    voltage_ct_per_pu_h: float = 10_000.0
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
) -> FloatArray:
    """Terms of the reward of one step, ct `[R,B]`.

    Args:
        weights: of voltage and peak.
        dt_h: length of a step.
        cost_ct: what each prosumer pays for what [T,N,B].
        voltage_excess_pu: voltage outside the limits, summed over the buses [B].
        peak_increase_kw: increase of the community's running peak of the day [B]; over a day it sums to the peak.
    """
    terms = np.empty((len(REWARD_TERMS), cost_ct.shape[-1]))
    _negated_costs(cost_ct, terms)
    terms[-2] = 0.0 - voltage_excess_pu * (weights.voltage_ct_per_pu_h * dt_h)
    terms[-1] = 0.0 - peak_increase_kw * weights.peak_ct_per_kw
    return terms


def reward(terms: FloatArray) -> FloatArray:
    """The reward `[B]`: the terms `[R,B]` added one after the other, so that the sum has the same bits everywhere."""
    total = np.zeros(terms.shape[-1])
    for term in terms:
        total += term
    return total


@compiled
def _negated_costs(cost_ct, terms):  # type: ignore[no-untyped-def]
    """The first T rows of `terms` [R,B]; prosumers are added in their order, so that the bits do not depend on B."""
    for t in range(cost_ct.shape[0]):
        terms[t, :] = 0.0
        for n in range(cost_ct.shape[1]):
            for lane in range(cost_ct.shape[2]):
                terms[t, lane] -= cost_ct[t, n, lane]
