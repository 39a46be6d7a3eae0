"""`no-control`: the reference.

Axis letters: N prosumers, H hours of a day.
"""

from __future__ import annotations

from prosumer_gym.actions import Dispatch
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.policy import Observation, TwoStagePolicy, hour_of, obs_array
from prosumer_gym.reference import no_control_dispatch, no_control_position


class NoControl(TwoStagePolicy):
    """Nobody steers: batteries rest, nothing is shifted, curtailed or traded; last week's mean net load is bought."""

    def plan(self, obs: Observation) -> FloatArray:
        """The reference's position [N,H]."""
        return no_control_position(
            obs_array(obs, "past_load_kw"),
            obs_array(obs, "past_pv_kw"),
            obs_array(obs, "shiftable_ref_kw"),
            self.community.fleet.position_limit_kw,
        )

    def dispatch(self, obs: Observation) -> Dispatch:
        """The reference's hour."""
        return no_control_dispatch(obs_array(obs, "shiftable_ref_kw")[hour_of(obs)], self.community.num_offers)
