"""The agents of `parallel_env` play the two-stage game, each its part, as PettingZoo and its users expect it.

Axes: N prosumers, H hours of a day.
"""

from __future__ import annotations

import functools
import importlib
import operator
import pickle
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from contract_cases import SHORT_HOURS, assert_same, copied, short_days
from gymnasium.error import ResetNeeded
from support import tiny_dataset

pytest.importorskip("pettingzoo", reason="PettingZoo is not installed")
from parallel_cases import SHORT, Joint, N, actions_of, as_one, both_forms, episode, make, part, uneven
from pettingzoo.test import parallel_api_test, parallel_seed_test

from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.envs.local import INFO_TABLE
from prosumer_gym.envs.parallel import ProsumersEnv, parallel_env, register_rllib
from prosumer_gym.envs.reward import REWARD_TERMS
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.scenarios import make_scenario


def own_columns(n: int, obs: Joint) -> Joint:
    """What may be seen of a two-stage observation, said once more by hand."""
    own = {
        "shiftable_ref_kw": obs["shiftable_ref_kw"][:, n],
        "weather_forecast": obs["weather_forecast"][:, n],
        "load_kw": obs["load_kw"][:, n],
        "pv_kw": obs["pv_kw"][:, n],
        "past_load_kw": obs["past_load_kw"][:, :, n],
        "past_pv_kw": obs["past_pv_kw"][:, :, n],
        "position_kw": obs["position_kw"][n],
        **{name: obs[name][[n]] for name in ("soc_kwh", "backlog_kwh", "connection_peak_kw")},
    }
    withheld = {"passive_pu", "past_passive_pu", "community_peak_kw"}
    return {name: own.get(name, values) for name, values in obs.items() if name not in withheld}


# the game is the two-stage game -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True], ids=["individual", "shared"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_it_is_the_two_stage_game_of_the_same_actions(mechanism: str, shared: bool) -> None:
    """Observations, costs and info to the bit, over episodes of two days."""
    arguments = {**SHORT, "days_per_episode": 2, "mechanism": mechanism}
    env, one, rng = parallel_env(**arguments, flat=False, shared_reward=shared), TwoStageEnv(**arguments), None
    rng = np.random.default_rng(0)
    for seed in (5, None):
        observations, infos = env.reset(seed=seed)
        obs, info = one.reset(seed=seed)
        assert infos == dict.fromkeys(env.agents, info)
        assert env.told == info
        inboxes = {agent: np.zeros((len(env.neighbours[agent]), 4)) for agent in env.agents}
        over = False
        while not over:
            for n, agent in enumerate(env.possible_agents):
                assert_same(observations[agent], own_columns(n, obs) | {"inbox": inboxes[agent]}, agent)
                assert observations[agent] in env.observation_space(agent)
            actions = actions_of(env, rng)
            inboxes = {
                agent: np.stack(
                    [
                        part(env, actions, other, "messages").reshape(-1, 4)[env.neighbours[other].index(agent)]
                        for other in env.neighbours[agent]
                    ]
                ).clip(-1, 1)
                for agent in env.agents
            }
            observations, rewards, terminations, _, infos = env.step(actions)
            obs, reward, over, _, info = one.step(as_one(env, actions))
            assert_same(env.told, info, "told")
            assert set(terminations.values()) == {over}
            assert sum(rewards.values()) == pytest.approx(N * reward if shared else reward, rel=1e-9, abs=1e-9)
            for n, agent in enumerate(env.possible_agents):
                own = infos[agent]
                if shared:
                    assert rewards[agent] == reward
                    assert own["reward_terms"] == info["reward_terms"]
                else:
                    costs = [-cost for cost in info["cost_ct"][:, n].tolist()]
                    feeder = [info["reward_terms"][name] / N for name in ("voltage", "community_peak")]
                    assert list(own["reward_terms"].values()) == costs + feeder
                assert own["cost_ct"] == pytest.approx(info["cost_ct"][:, n].sum())
                for name in ("battery_kw", "shiftable_kw", "curtail_kw", "net_import_kw", "realtime_kw", "p2p_kw"):
                    assert own[name] == info[name][n]
                assert (own["day"], own["hour"]) == (info["day"], info["hour"])
                if mechanism == "bilateral":
                    assert own["trade_kw"].sum() == pytest.approx(own["p2p_kw"])
                assert own["trade_kw"].tolist() == [
                    trade_between(env, info["trade_kw"], n, env.possible_agents.index(other))
                    for other in env.neighbours[agent]
                ]
        assert env.agents == []


def trade_between(env: ProsumersEnv, trade_kw: np.ndarray, n: int, m: int) -> float:
    """What n buys from m."""
    graph = env.community.graph
    edge = np.flatnonzero((graph.first == min(n, m)) & (graph.second == max(n, m)))[0]
    return float(trade_kw[edge] if n < m else -trade_kw[edge])


def test_trades_are_made() -> None:
    env = make()
    env.reset(seed=0)
    traded_kw = 0.0
    while env.agents:
        actions = actions_of(env, np.random.default_rng(0))
        for n, agent in enumerate(env.agents):
            actions[agent][env.action_layout[agent]["trade"]] = 1.0 if n % 2 else -1.0
        infos = env.step(actions)[4]
        traded_kw += sum(np.abs(info["trade_kw"]).sum() for info in infos.values())
    assert traded_kw > 1.0


# what PettingZoo and its users ask for ------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("kwargs", [{}, {"days_per_episode": 2}, {"mechanism": "double-auction"}, {"message_size": 0}])
def test_pettingzoos_tests_have_no_complaint(flat: bool, kwargs: dict[str, Any]) -> None:
    """Warnings are errors here."""
    parallel_api_test(make(flat=flat, **kwargs), num_cycles=100)
    parallel_seed_test(lambda: make(flat=flat, **kwargs))


@both_forms
def test_the_same_seed_gives_the_same_bits_over_whole_episodes(flat: bool) -> None:
    def three(env: ProsumersEnv) -> list[Any]:
        rng = np.random.default_rng(6)
        return [list(episode(env, rng, **reset)) for reset in ({"seed": 8}, {}, {})]

    one = make(flat=flat)
    first = three(one)
    assert_same(first, three(make(flat=flat)), "another environment")
    assert_same(first, three(one), "again")
    assert len({steps[0][4]["prosumer_0"]["day"] for steps in first}) == 3
    assert all(len(steps) == 1 + 1 + SHORT_HOURS for steps in first)


def test_agents_leave_together_at_the_end() -> None:
    env = make(days_per_episode=2)
    assert env.possible_agents == [f"prosumer_{n}" for n in range(N)]
    assert (env.agents, env.num_agents, env.max_num_agents) == ([], 0, N)
    with pytest.raises(ResetNeeded):
        env.step({})
    steps = list(episode(env, np.random.default_rng(0), seed=0))
    assert len(steps) == 1 + 2 * (SHORT_HOURS + 1)
    for k, (_, rewards, terminations, truncations, infos) in enumerate(steps[1:], 2):
        for told in (rewards, terminations, truncations, infos):
            assert list(told) == env.possible_agents
        assert set(terminations.values()) == {k == len(steps)}
        assert set(truncations.values()) == {False}
    assert env.agents == []
    with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
        env.step({})
    env.reset()
    assert env.agents == env.possible_agents
    env.close()
    env.close()


def test_infos_and_rewards_have_always_the_same_form() -> None:
    env = make()
    kinds = {note.name: note.kind for note in INFO_TABLE if not note.axes}
    for k, (_, rewards, terminations, _, infos) in enumerate(episode(env, np.random.default_rng(0), seed=2)):
        for agent, info in infos.items():
            if k == 0:
                assert info.keys() == {"day"}
                continue
            assert list(info) == [note.name for note in INFO_TABLE]
            assert all(type(info[name]) is kind for name, kind in kinds.items())
            assert info["trade_kw"].shape == (len(env.neighbours[agent]),)
            assert list(info["reward_terms"]) == list(REWARD_TERMS)
            assert type(rewards[agent]) is float
            assert type(terminations[agent]) is bool
            assert rewards[agent] == functools.reduce(operator.add, info["reward_terms"].values())


@both_forms
def test_what_is_handed_out_is_the_agents_own(flat: bool) -> None:
    kept = list(episode(make(flat=flat), np.random.default_rng(4), seed=1))
    env, rng = make(flat=flat), np.random.default_rng(4)
    last = env.reset(seed=1)
    for k, step in enumerate(kept[1:]):
        assert_same(last[0], kept[k][0], f"step {k}")
        for obs in last[0].values():
            for values in [obs] if flat else obs.values():
                values[...] = 0.5
        for info in last[-1].values():
            info.clear()
        actions = actions_of(env, rng)
        last = env.step(actions)
        for values in actions.values():
            values[...] = np.nan
        assert last[1] == step[1]
        for info, same in zip(last[-1].values(), step[-1].values(), strict=True):
            assert_same(info, same)
            info["trade_kw"][...] = -7.0


def test_spaces_are_the_same_objects_and_bounded() -> None:
    for env in (make(), make(flat=False), make(**uneven())):
        for agent in env.possible_agents:
            assert env.observation_space(agent) is env.observation_space(agent)
            assert env.action_space(agent) is env.action_space(agent)
            assert env.action_space(agent).dtype == np.float32
            assert env.action_layout[agent]["messages"].stop == env.action_space(agent).shape[0]
    spaces = make().observation_spaces.values()
    assert all(np.isfinite(box.low).all() and np.isfinite(box.high).all() for box in spaces)
    assert len({box.shape for box in spaces}) == 1  # every prosumer of the default community has three neighbours


@both_forms
def test_it_can_be_pickled_in_the_middle_of_an_episode(flat: bool) -> None:
    env = make(flat=flat, days_per_episode=2)
    env.reset(seed=0)
    for _ in range(3):
        env.step(actions_of(env, np.random.default_rng(0)))
    again = pickle.loads(pickle.dumps(env))
    assert again.agents == env.agents
    while env.agents:
        actions = actions_of(env, np.random.default_rng(1))
        assert_same(env.step(actions), again.step(actions))
    assert again.agents == []
    assert_same(env.reset(), again.reset())


def test_uneven_neighbourhoods_and_one_alone() -> None:
    env, rng = make(**uneven()), np.random.default_rng(0)
    assert env.neighbours == {
        "prosumer_0": ("prosumer_2",),
        "prosumer_1": ("prosumer_2",),
        "prosumer_2": ("prosumer_0", "prosumer_1"),
        "prosumer_3": (),
    }
    one, over = TwoStageEnv(**uneven()), False
    env.reset(seed=0)
    one.reset(seed=0)
    while not over:
        actions = actions_of(env, rng)
        observations, rewards, *_ = env.step(actions)
        _, reward, over, _, info = one.step(as_one(env, actions))
        assert_same(env.told, info)
        assert sum(rewards.values()) == pytest.approx(reward, rel=1e-9, abs=1e-9)
        assert all(observations[agent] in env.observation_space(agent) for agent in observations)
    alone = Community("alone", make_scenario("ieee33").feeder, Fleet.identical([17]), TradeGraph.ring_with_chords(1))
    for kwargs in ({}, {"mechanism": "double-auction"}, {"flat": False}):
        env = make(**short_days(alone), **kwargs)
        parallel_api_test(env, num_cycles=20)


def test_pictures_are_those_of_the_two_stage_environment() -> None:
    env, one = make(render_mode="rgb_array"), TwoStageEnv(**SHORT, render_mode="rgb_array")
    env.reset(seed=0)
    one.reset(seed=0)
    for _ in range(2):
        actions = actions_of(env, np.random.default_rng(0))
        env.step(actions)
        one.step(as_one(env, actions))
    assert np.array_equal(env.render(), one.render())


# what can go wrong --------------------------------------------------------------------------------------------------


def test_what_a_user_gets_wrong_is_said_and_changes_nothing() -> None:
    env, same = make(), make()
    env.reset(seed=0)
    same.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(3):
        good = actions_of(env, rng)
        nan, short = copied(good), copied(good)
        nan["prosumer_3"][env.action_layout["prosumer_3"]["curtail"]] = np.nan
        short["prosumer_6"] = short["prosumer_6"][:-1]
        wrong: dict[str, Any] = {
            r"^actions\['prosumer_3'\]: curtail holds NaN": nan,
            r"^actions\['prosumer_6'\]: shape \(23,\), expected \(24,\)": short,
            r"^actions\['prosumer_6'\]: shape \(25,\), expected": {**good, "prosumer_6": np.zeros(25, np.float32)},
            r"^actions\['prosumer_6'\]: shape \(1, 24\), expected": {**good, "prosumer_6": good["prosumer_6"][None]},
            "^actions: agent 'prosumer_9' is missing": {a: good[a] for a in env.agents[:-1]},
            "^actions: agent 'grid' is unknown": {**good, "grid": good["prosumer_0"]},
            "^actions: agent 'prosumer_10' is unknown": {**{a: good[a] for a in env.agents[:-1]}, "prosumer_10": nan},
            r"^actions\['prosumer_1'\]: is not an array of numbers": {**good, "prosumer_1": "charge"},
            r"^actions\['prosumer_0'\]: is not an array .* complex": {**good, "prosumer_0": np.zeros(24) + 1j},
            "^actions: a list is no mapping": list(good.values()),
        }
        for what, actions in wrong.items():
            with pytest.raises(UsageError, match=what) as raised:
                env.step(actions)
            assert "\n" not in str(raised.value)
        assert_same(env.step(good), same.step(good))


def test_numbers_of_any_kind_are_played() -> None:
    env, same = make(), make()
    env.reset(seed=0)
    same.reset(seed=0)
    for _ in range(2):
        actions: dict[str, Any] = actions_of(same, np.random.default_rng(0))
        actions["prosumer_1"] = np.zeros(24)
        others = dict(reversed(actions.items())) | {"prosumer_1": [0] * 24}
        others["prosumer_2"] = actions["prosumer_2"].astype(np.float64)
        others["prosumer_3"] = np.repeat(actions["prosumer_3"], 2)[::2]
        for given in others.values():
            if isinstance(given, np.ndarray):
                given.setflags(write=False)
        assert_same(env.step(others), same.step(actions))


@pytest.mark.parametrize(
    ("what", "kwargs"),
    [
        ("^message_size: -1 must be a whole number", {"message_size": -1}),
        ("^message_size: False must", {"message_size": False}),
        ("^message_size: 1.5 must", {"message_size": 1.5}),
        ("^split 'lead-in' is unknown", {"split": "lead-in"}),
        ("^render_mode: 'ascii' is unknown", {"render_mode": "ascii"}),
    ],
)
def test_what_it_is_made_of(what: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=what):
        make(**kwargs)


def test_options_and_agents_are_checked() -> None:
    env = make()
    row = int(env.dataset.days("train")[2])
    assert env.reset(options={"day": row})[1]["prosumer_0"] == {"day": row}
    for what, options in {
        "option 'days' is unknown": {"days": 3},
        "options is a list": [3],
        "cannot begin an episode": {"day": int(env.dataset.days("test")[0])},
    }.items():
        with pytest.raises(UsageError, match=what):
            env.reset(options=options)
    for ask in (env.action_space, env.observation_space):
        with pytest.raises(
            UsageError, match=r"^agent 'prosumer_10' is unknown; there are prosumer_0 \.\.\. prosumer_9$"
        ):
            ask("prosumer_10")


def test_a_refused_reset_leaves_the_episode_as_it_was() -> None:
    env, same = make(), make()
    env.reset(seed=0)
    same.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(3):
        actions = actions_of(env, rng)
        with pytest.raises(UsageError):
            env.reset(options={"day": -1})
        assert_same(env.step(actions), same.step(actions))


def test_without_pettingzoo_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    monkeypatch.delitem(sys.modules, "prosumer_gym.envs.parallel")
    with pytest.raises(UsageError, match=r"^envs.parallel needs PettingZoo .*pip install '\.\[rl\]'"):
        importlib.import_module("prosumer_gym.envs.parallel")


def test_nothing_else_loads_pettingzoo() -> None:
    code = (
        "import sys, gymnasium, prosumer_gym, prosumer_gym.envs, prosumer_gym.envs.tables\n"
        "gymnasium.make('ProsumerGym/TwoStage-v0')\n"
        "assert not {'pettingzoo', 'ray', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rllib_is_told_how_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two names of Ray that it uses are stood in for: the library itself does not go with this Gymnasium."""
    known: dict[str, Any] = {}
    registry = types.SimpleNamespace(register_env=known.__setitem__)
    wrappers = types.SimpleNamespace(ParallelPettingZooEnv=lambda env: ("wrapped", env))
    modules = {"ray.tune.registry": registry, "ray.rllib.env.wrappers.pettingzoo_env": wrappers}
    for name in ("ray", "ray.tune", "ray.rllib", "ray.rllib.env", "ray.rllib.env.wrappers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    register_rllib("prosumers", **SHORT, message_size=2, split="dev")
    wrapped, env = known["prosumers"]({"split": "train", "shared_reward": True})
    assert wrapped == "wrapped"
    assert isinstance(env, ProsumersEnv)
    assert (env._env.game.split, env.shared_reward) == ("train", True)
    assert env.action_layout["prosumer_0"]["messages"] == slice(12, 18)


def test_without_rllib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune.registry", None)
    with pytest.raises(UsageError, match=r"^register_rllib needs Ray RLlib .*pip install 'ray\[rllib\]'"):
        register_rllib("prosumers")


def test_days_of_other_lengths_and_data_without_all_covariates() -> None:
    quarters = make_scenario("ieee33").replace(hours_per_day=96)
    env = make(dataset=tiny_dataset(num_days=3, hours=96), scenario=quarters)
    steps = list(episode(env, np.random.default_rng(0), seed=0))
    assert len(steps) == 1 + 97
    data = SHORT["dataset"]
    bare = data.replace(
        covariates=data.covariates[:1], weather=data.weather[..., :1], weather_forecast=data.weather_forecast[..., :1]
    )
    env = make(dataset=bare)
    assert "irradiance_forecast" not in env.layout["prosumer_0"]
    for observations, *_ in episode(env, np.random.default_rng(0), seed=0):
        assert all(observations[agent] in env.observation_space(agent) for agent in observations)
