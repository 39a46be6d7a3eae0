"""The environments: Gymnasium faces of the world."""

from __future__ import annotations

from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.envs.vector import TwoStageVectorEnv

__all__ = ["RewardWeights", "TwoStageEnv", "TwoStageVectorEnv"]
