"""The environments: Gymnasium faces of the world."""

from __future__ import annotations

from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.envs.single import RealTimeEnv, TwoStageEnv
from prosumer_gym.envs.vector import RealTimeVectorEnv, TwoStageVectorEnv

__all__ = ["RealTimeEnv", "RealTimeVectorEnv", "RewardWeights", "TwoStageEnv", "TwoStageVectorEnv"]
