"""PettingZoo's parallel environment over the two-stage game: one agent a prosumer, who sees its own and gets mail.

    from prosumer_gym.envs.parallel import parallel_env
    env = parallel_env(dataset="tehran-v0", scenario="ieee33")

Nothing else here loads the library, which the extra `rl` brings. The game is `TwoStageEnv`'s, played once for all.

Axis mail: N prosumers, G neighbours of one prosumer, S = 2E places at which one prosumer may write to a neighbour,
M numbers of a message, T cost terms, R reward terms.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.game import Info, whole_number
from prosumer_gym.envs.local import Neighbourhood, local_space, local_view
from prosumer_gym.envs.local_action import JointReader
from prosumer_gym.envs.local_features import LocalFeatures, local_layouts
from prosumer_gym.envs.reward import REWARD_TERMS, RewardWeights
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError
from prosumer_gym.simulator import COST_TERMS

try:
    from pettingzoo import ParallelEnv
except ImportError as error:
    raise UsageError(f"envs.parallel needs PettingZoo ({error}); run pip install '.[rl]' in the checkout") from None

_IGNORED_OPTION = "options"
"""PettingZoo's own test of environments resets them with `options={"options": 1}`; it means nothing."""

Value = TypeVar("Value")
ByAgent = dict[str, Value]


class ProsumersEnv(ParallelEnv[str, Any, Any]):  # type: ignore[misc]  # no types are published
    """A community whose prosumers decide each for itself, on what each knows: the agents of `parallel_env`.

    Each day is one day-ahead step and H real-time steps, as in `TwoStageEnv`, whose game this is. An agent sees its own
    columns of that observation, prices, calendar and weather, and what its neighbours along the trade edges wrote to it
    with their actions of the step before; before the first step of an episode nobody has written. Nobody sees the
    community's peak or the load of the rest of the feeder. All episodes end for all agents at once, by themselves.

    `layout[agent]` and `action_layout[agent]` say where what stands, `neighbours[agent]` with whom it trades, in the
    order of its offers, messages and trades.

    Args:
        dataset: as for `TwoStageEnv`, like all that follow up to the last three.
        scenario: name of a community, or one.
        split: the days that may be played.
        days_per_episode: days of an episode.
        reward: weights of the reward.
        render_mode: None, "human" or "rgb_array".
        mechanism: name of the market mechanism; None for the community's own.
        shared_reward: whether each agent earns the community's reward. Otherwise it earns minus its own cost and its
            Nth part of the terms for voltage and peak; these rewards sum to the community's.
        message_size: M, how many numbers in [-1, 1] each writes to each neighbour in a step; 0 for silence.
        flat: whether observations are flat float32 arrays for learners; otherwise dicts of float64 arrays that hold all
            that may be known, in the units of `TwoStageEnv`.

    Raises:
        UsageError: as `TwoStageEnv`; from `step` also for an agent that is missing or unknown.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - PettingZoo's
        **TwoStageEnv.metadata, "name": "prosumers_v0", "is_parallelizable": True,
    }  # fmt: skip

    def __init__(
        self,
        dataset: str | Dataset = "tehran-v0",
        scenario: str | Community = "ieee33",
        split: str = "train",
        days_per_episode: int = 1,
        reward: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
        mechanism: str | None = None,
        *,
        shared_reward: bool = False,
        message_size: int = 4,
        flat: bool = True,
    ) -> None:
        silent = isinstance(message_size, int) and not isinstance(message_size, bool) and message_size == 0
        message_size = 0 if silent else whole_number("message_size", message_size)
        self._env = TwoStageEnv(dataset, scenario, split, days_per_episode, reward, render_mode, mechanism)
        self.render_mode, self.shared_reward, self.flat = render_mode, shared_reward, flat
        community, data = self._env.community, self._env.dataset
        num = community.num_prosumers
        self.possible_agents = [f"prosumer_{n}" for n in range(num)]
        self.agents: list[str] = []
        self._around = Neighbourhood(community.graph, num)
        degrees = [len(own) for own in self._around.neighbours]
        self._reader = JointReader(community, self._around, self.possible_agents, message_size)
        layouts = local_layouts(data, community, degrees, message_size)
        self._features = LocalFeatures(data, community, self._env.game.days_per_episode, layouts)
        self._inbox = self._silence = np.zeros((sum(degrees), message_size))
        self._is_played = False
        self.layout = self._by_agent([layout.slices for layout in layouts])
        """Where each feature stands in a flat observation: name -> slice, by agent."""
        self.action_layout = self._by_agent(list(self._reader.slices))
        """Where each part stands in an action: name -> slice, by agent."""
        self.neighbours = self._by_agent(
            [tuple(self.possible_agents[m] for m in own) for own in self._around.neighbours]
        )
        self.action_spaces = self._by_agent(list(self._reader.spaces()))
        self.observation_spaces: ByAgent[spaces.Space[Any]] = self._by_agent(
            [
                layout.box if flat else local_space(data, degree, message_size)
                for layout, degree in zip(layouts, degrees, strict=True)
            ]
        )

    @property
    def dataset(self) -> Dataset:
        """The days that are played."""
        return self._env.dataset

    @property
    def community(self) -> Community:
        """The community that plays them."""
        return self._env.community

    @property
    def told(self) -> Info:
        """What `TwoStageEnv` would have told of the last step: the info of the whole community, for who evaluates."""
        return self._env.game.info() if self._is_played else {"day": int(self._env.game.day[0])}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """What an agent sees lies in it; always the same object.

        Raises:
            UsageError: there is no such agent.
        """
        return self.observation_spaces[self._known(agent)]

    def action_space(self, agent: str) -> spaces.Box:
        """What an agent may do lies in it; always the same object.

        Raises:
            UsageError: there is no such agent.
        """
        return self.action_spaces[self._known(agent)]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ByAgent[Any], ByAgent[Info]]:
        """Begin an episode with a day. `options={"day": row or date}` chooses the day.

        Raises:
            UsageError: an unknown option, or a day that is not of the split or cannot begin an episode.
        """
        if isinstance(options, Mapping):
            options = {name: value for name, value in options.items() if name != _IGNORED_OPTION}
        _, info = self._env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        self._inbox, self._is_played = self._silence, False
        return self._observations(), {agent: dict(info) for agent in self.agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[ByAgent[Any], ByAgent[float], ByAgent[bool], ByAgent[bool], ByAgent[Info]]:
        """One step of all agents; their messages arrive with the observations it returns.

        Raises:
            UsageError: an agent is missing or unknown, or an action cannot be read; nothing has changed then.
            gymnasium.error.ResetNeeded: the episode is over.
        """
        if not self.agents:
            raise ResetNeeded("the episode is over; call reset() before step()")
        at_gate = bool(self._env.game.simulator.state.at_gate[0])
        action, outbox, out_of_range = self._reader.read(actions, at_gate=at_gate)
        _, over = self._env.advance(action)
        self._inbox, self._is_played = self._around.deliver(outbox), True
        terms_ct = self._terms_ct()
        rewards: list[float] = terms_ct.cumsum(axis=1)[:, -1].tolist()  # added in their order
        infos = self._infos(terms_ct, out_of_range)
        observations, agents = self._observations(), self.agents
        if over:
            self.agents = []
        return (
            observations,
            dict(zip(agents, rewards, strict=True)),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, False),
            dict(zip(agents, infos, strict=True)),
        )

    def render(self) -> Any:
        """As `TwoStageEnv.render`."""
        return self._env.render()

    def close(self) -> None:
        """Close the window, if there is one."""
        self._env.close()

    def _observations(self) -> ByAgent[Any]:
        """What each sees, in arrays of its own."""
        seen = self._env.game.builder.first
        if self.flat:
            return self._by_agent(self._features.of(seen, self._inbox))
        places = self._around.places
        return self._by_agent([local_view(seen, n, self._inbox[own]) for n, own in enumerate(places)])

    def _terms_ct(self) -> FloatArray:
        """The terms of each agent's reward [N,R]."""
        game, num = self._env.game, len(self.possible_agents)
        whole = game.terms_ct[:, 0]
        if self.shared_reward:
            return np.tile(whole, (num, 1))
        terms_ct = np.empty((num, len(REWARD_TERMS)))
        terms_ct[:, : len(COST_TERMS)] = 0.0 - game.result.cost_ct[:, :, 0].T
        terms_ct[:, len(COST_TERMS) :] = whole[len(COST_TERMS) :] / num
        return terms_ct

    def _infos(self, terms_ct: FloatArray, out_of_range: IntArray) -> list[Info]:
        """What each is told."""
        game, result = self._env.game, self._env.game.result
        day, hour = int(game.day[0]), int(game.hour[0])
        trades_kw = self._around.trades(result.trade_kw[:, 0])
        return [
            {
                "day": day,
                "hour": hour,
                "out_of_range": beyond,
                "reward_terms": dict(zip(REWARD_TERMS, terms, strict=True)),
                "cost_ct": cost_ct,
                "battery_kw": battery_kw,
                "shiftable_kw": shiftable_kw,
                "curtail_kw": curtail_kw,
                "net_import_kw": net_import_kw,
                "realtime_kw": realtime_kw,
                "p2p_kw": p2p_kw,
                "trade_kw": trades_kw[place],
            }
            for (
                place, beyond, terms, cost_ct, battery_kw, shiftable_kw, curtail_kw, net_import_kw, realtime_kw, p2p_kw
            ) in zip(
                self._around.places,
                out_of_range.tolist(),
                terms_ct.tolist(),
                result.cost_ct[:, :, 0].sum(axis=0).tolist(),
                result.battery_kw[:, 0].tolist(),
                result.shiftable_kw[:, 0].tolist(),
                result.curtail_kw[:, 0].tolist(),
                result.net_import_kw[:, 0].tolist(),
                result.realtime_kw[:, 0].tolist(),
                result.p2p_kw[:, 0].tolist(),
                strict=True,
            )
        ]  # fmt: skip

    def _by_agent(self, values: list[Value]) -> ByAgent[Value]:
        return dict(zip(self.possible_agents, values, strict=True))

    def _known(self, agent: str) -> str:
        if agent not in self.action_spaces:
            last = self.possible_agents[-1]
            raise UsageError(f"agent {agent!r} is unknown; there are {self.possible_agents[0]} ... {last}")
        return agent


def parallel_env(**kwargs: Any) -> ProsumersEnv:
    """PettingZoo's parallel environment of a community; arguments are those of `ProsumersEnv`.

    Raises:
        UsageError: as `ProsumersEnv`.
    """
    return ProsumersEnv(**kwargs)


def register_rllib(name: str, **kwargs: Any) -> None:
    """Make the environment known to Ray RLlib: `config.environment(name, env_config={...})`, which adds arguments.

    Args:
        name: by which RLlib will find it.
        kwargs: as for `parallel_env`.

    Raises:
        UsageError: RLlib is not installed.
    """
    try:
        registry = importlib.import_module("ray.tune.registry")
        wrappers = importlib.import_module("ray.rllib.env.wrappers.pettingzoo_env")
    except ImportError as error:
        raise UsageError(f"register_rllib needs Ray RLlib ({error}); run pip install 'ray[rllib]'") from None
    registry.register_env(
        name, lambda config: wrappers.ParallelPettingZooEnv(parallel_env(**{**kwargs, **dict(config)}))
    )
