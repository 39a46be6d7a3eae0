"""The environments: Gymnasium faces of the world."""

from __future__ import annotations

from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.envs.single import DayAheadEnv, RealTimeEnv, TwoStageEnv
from prosumer_gym.envs.vector import DayAheadVectorEnv, RealTimeVectorEnv, TwoStageVectorEnv

__all__ = [
    "DayAheadEnv",
    "DayAheadVectorEnv",
    "RealTimeEnv",
    "RealTimeVectorEnv",
    "RewardWeights",
    "TwoStageEnv",
    "TwoStageVectorEnv",
]
