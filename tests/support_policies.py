"""Small communities and days played, for the tests of policies.

Axes: H hours of a day.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from support import tiny_dataset

from prosumer_gym.baselines.policy import Action, Observation, Policy
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.feeders import ieee33


def small_community(num_prosumers: int = 2, hours: int = 8) -> Community:
    """Default units at the first buses."""
    return Community(
        name="small",
        feeder=ieee33(),
        fleet=Fleet.identical(list(range(1, num_prosumers + 1))),
        graph=TradeGraph.ring_with_chords(num_prosumers),
        hours_per_day=hours,
    )


@cache
def small_days() -> Dataset:
    """36 training days, 12 dev days, 12 test days of two prosumers, in steps of three hours."""
    return tiny_dataset(num_days=60, num_prosumers=2, hours=8)


def play(
    policy: Policy, community: Community, dataset: Dataset, row: int, split: str = "dev"
) -> tuple[list[Observation], list[Action], list[dict[str, Any]]]:
    """One day of one episode with a fitted policy: H+1 observations, actions and infos."""
    env = TwoStageEnv(dataset, community, split=split)
    obs, _ = env.reset(options={"day": row})
    policy.reset(0)
    seen, actions, infos, over = [], [], [], False
    while not over:
        seen.append(obs)
        actions.append(policy.act(obs))
        obs, _, over, _, info = env.step(actions[-1])
        infos.append(info)
    return seen, actions, infos


def total_cost_ct(infos: list[dict[str, Any]]) -> float:
    return float(sum(info["community_cost_ct"] for info in infos))
