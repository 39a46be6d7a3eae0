"""Communities whose prosumers act each for itself, and how the tests of `parallel_env` play them.

Axes: N prosumers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from contract_cases import random_action, short_days

from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.envs.parallel import ProsumersEnv, parallel_env
from prosumer_gym.scenarios import make_scenario

SHORT = short_days()
N = 10
both_forms = pytest.mark.parametrize("flat", [True, False], ids=["flat", "named"])
Joint = dict[str, np.ndarray]


def uneven() -> dict[str, Any]:
    """Four prosumers in a line of trade edges, 0 - 2 - 1, and one with nobody."""
    graph = TradeGraph(np.array([0, 1]), np.array([2, 2]), np.array([4.0, 7.0]), np.array([0.2, 0.3]))
    return short_days(Community("uneven", make_scenario("ieee33").feeder, Fleet.identical([5, 9, 17, 30]), graph))


def make(**kwargs: Any) -> ProsumersEnv:
    return parallel_env(**{**SHORT, **kwargs})


def actions_of(env: ProsumersEnv, rng: np.random.Generator, spread: float = 1.2) -> Joint:
    return {agent: random_action(env.action_space(agent), rng, spread) for agent in env.agents}


def part(env: ProsumersEnv, actions: Joint, agent: str, name: str) -> np.ndarray:
    return actions[agent][env.action_layout[agent][name]].astype(np.float64)


def as_one(env: ProsumersEnv, actions: Joint) -> Joint:
    """What the two-stage environment is given for these actions, put together number by number."""
    agents, graph = env.possible_agents, env.community.graph
    one = {
        name: np.stack([part(env, actions, agent, name) for agent in agents]).reshape(shape)
        for name, shape in (("day_ahead", (len(agents), -1)), ("battery", -1), ("shiftable", -1), ("curtail", -1))
    }
    if env.community.market.offers == "edges":
        ends = [(a, b) for a, b in zip(graph.first.tolist(), graph.second.tolist(), strict=True)]
        offers = []
        for own, other in ends + [(b, a) for a, b in ends]:
            column = env.neighbours[agents[own]].index(agents[other])
            offers.append(part(env, actions, agents[own], "trade")[column])
        one["trade"] = np.array(offers)
    else:
        orders = np.stack([part(env, actions, agent, "trade") for agent in agents])
        one["trade"] = orders.T.ravel()
    return one


def episode(env: ProsumersEnv, rng: np.random.Generator, **reset: Any) -> Iterator[tuple[Any, ...]]:
    """(observations, rewards, terminations, truncations, infos) of each step at random; the first is of the reset."""
    observations, infos = env.reset(**reset)
    yield observations, {}, {}, {}, infos
    while env.agents:
        yield env.step(actions_of(env, rng))
