"""A benchmark of policies that run a community of prosumers on a distribution feeder."""

from __future__ import annotations

from gymnasium.envs.registration import register

__version__ = "0.1.0"

register(
    id="ProsumerGym/TwoStage-v0",
    entry_point="prosumer_gym.envs.single:TwoStageEnv",
    vector_entry_point="prosumer_gym.envs.vector:TwoStageVectorEnv",
)
register(
    id="ProsumerGym/RealTime-v0",
    entry_point="prosumer_gym.envs.single:RealTimeEnv",
    vector_entry_point="prosumer_gym.envs.vector:RealTimeVectorEnv",
)
register(
    id="ProsumerGym/DayAhead-v0",
    entry_point="prosumer_gym.envs.single:DayAheadEnv",
    vector_entry_point="prosumer_gym.envs.vector:DayAheadVectorEnv",
)
