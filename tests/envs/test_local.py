"""Who knows what: an agent of `parallel_env` sees its own, what is public, and what its neighbours wrote to it.

Axes: N prosumers, H hours of a day.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from contract_cases import SHORT_HOURS, assert_same, copied

pytest.importorskip("pettingzoo", reason="PettingZoo is not installed")
from parallel_cases import SHORT, Joint, N, actions_of, as_one, both_forms, episode, make

from prosumer_gym.community import TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.local import PUBLIC, Neighbourhood
from prosumer_gym.envs.local import TABLE as LOCAL_TABLE
from prosumer_gym.envs.observation import TABLE as OBSERVATION_TABLE
from prosumer_gym.envs.parallel import ProsumersEnv, parallel_env
from prosumer_gym.envs.single import TwoStageEnv


def features(env: ProsumersEnv, n: int, obs: Joint, inbox: np.ndarray) -> dict[str, np.ndarray]:
    """What prosumer n should see, flat, worked out from the two-stage observation feature by feature."""
    fleet, H, hour = env.community.fleet, env.dataset.num_hours, int(obs["hour"][0])
    now = obs["stage"][0] == 1 and hour < H

    def coming(values: np.ndarray) -> np.ndarray:
        return np.concatenate((values[hour:], np.zeros(hour)))

    def present(values: np.ndarray, scale: float) -> np.ndarray:
        return np.array([values[hour] / scale if now else 0.0])

    def around(share: float) -> np.ndarray:
        return np.array([np.sin(2 * np.pi * share), np.cos(2 * np.pi * share)])

    forecast = obs["weather_forecast"][:, n]
    past_net_kw = (obs["past_load_kw"] - obs["past_pv_kw"])[1:, :, n].mean(axis=0)
    return {
        "stage": obs["stage"],
        "time_of_day": around(hour / H),
        "season": around(obs["day_of_year"][0] / 365.25),
        "weekend": obs["weekend"],
        "days_left": obs["days_left"] / env.unwrapped._env.game.days_per_episode,
        "price_rt": present(obs["price_rt_ct_per_kwh"], 10.0),
        "load": present(obs["load_kw"][:, n], fleet.connection_limit_kw[n]),
        "pv": present(obs["pv_kw"][:, n], fleet.connection_limit_kw[n]),
        "soc": (obs["soc_kwh"][[n]] - fleet.soc_min_kwh[n]) / (fleet.soc_max_kwh - fleet.soc_min_kwh)[n],
        "backlog": obs["backlog_kwh"][[n]] / max(-fleet.backlog_min_kwh[n], fleet.backlog_max_kwh[n]),
        "connection_peak": obs["connection_peak_kw"][[n]] / fleet.connection_limit_kw[n],
        "price_da": coming(obs["price_da_ct_per_kwh"]) / 10.0,
        "past_price_rt": coming(obs["past_price_rt_ct_per_kwh"][1:].mean(axis=0)) / 10.0,
        "net_load_last_week": coming(past_net_kw + obs["shiftable_ref_kw"][:, n]) / fleet.position_limit_kw[n],
        "shiftable_ref": coming(obs["shiftable_ref_kw"][:, n]) / fleet.shiftable_power_kw[n],
        "irradiance_forecast": coming(forecast[:, 2] / 1000.0),
        "temperature_forecast": coming((forecast[:, 0] - 20.0) / 20.0),
        "position": coming(obs["position_kw"][n]) / fleet.position_limit_kw[n],
        "inbox": inbox.ravel(),
    }


@pytest.mark.parametrize("days", [1, 2])
def test_the_flat_observation_is_what_the_table_says(days: int) -> None:
    env, one = make(days_per_episode=days), TwoStageEnv(**SHORT, days_per_episode=days)
    rng, over = np.random.default_rng(1), False
    seen, obs = env.reset(seed=3)[0], one.reset(seed=3)[0]
    named = make(days_per_episode=days, flat=False)
    messages = named.reset(seed=3)[0]
    while True:
        for n, agent in enumerate(env.possible_agents):
            assert seen[agent].dtype == np.float32
            assert seen[agent] in env.observation_space(agent)
            wanted = features(env, n, obs, messages[agent]["inbox"])
            assert wanted.keys() == env.layout[agent].keys()
            for name, place in env.layout[agent].items():
                np.testing.assert_allclose(seen[agent][place], wanted[name], rtol=1e-6, atol=1e-7, err_msg=name)
        if over:
            break
        actions = actions_of(env, rng)
        seen, messages = env.step(actions)[0], named.step(actions)[0]
        obs, _, over, _, _ = one.step(as_one(env, actions))


def test_all_embedded_days_lie_inside_the_spaces() -> None:
    for flat in (True, False):
        env = parallel_env(flat=flat)
        rng = np.random.default_rng(0)
        rows = env.dataset.days("train")
        for row in (int(rows[0]), int(rows[-1])):
            for observations, *_ in episode(env, rng, options={"day": row}):
                assert all(observations[agent] in env.observation_space(agent) for agent in observations)


def test_the_table_shows_own_columns_and_what_is_public() -> None:
    shown = {quantity.name for quantity in LOCAL_TABLE}
    private = {quantity.name for quantity in OBSERVATION_TABLE if "N" in quantity.axes}
    assert shown == private | PUBLIC
    assert not private & PUBLIC
    everything = {quantity.name for quantity in OBSERVATION_TABLE}
    assert everything - shown == {"passive_pu", "past_passive_pu", "community_peak_kw"}
    assert all("N" not in quantity.axes for quantity in LOCAL_TABLE)


def with_another_neighbour(dataset: Dataset, n: int) -> Dataset:
    """The data with all that is private to prosumer n changed, and the load of the rest of the feeder."""
    changed = {}
    for name in ("load_kw", "pv_kw", "shiftable_ref_kw", "weather_forecast"):
        values = np.array(getattr(dataset, name))
        values[:, :, n] = 0.5 * values[:, :, n] + (0.0 if name == "shiftable_ref_kw" else 0.3)
        changed[name] = values
    changed["passive_pu"] = 0.7 * dataset.passive_pu + 0.1
    return dataset.replace(**changed)


@both_forms
def test_what_is_private_to_another_is_not_seen(flat: bool) -> None:
    """Data, actions and trades of prosumer 3 change; who is not written to otherwise sees the same, to the bit."""
    n, truth = 3, make(flat=flat, days_per_episode=2)
    told = make(flat=flat, days_per_episode=2, dataset=with_another_neighbour(SHORT["dataset"], n))
    itself, rng = f"prosumer_{n}", np.random.default_rng(2)
    row = int(truth.dataset.days("train")[1])
    before, after = truth.reset(options={"day": row})[0], told.reset(options={"day": row})[0]
    others = [agent for agent in truth.possible_agents if agent != itself]
    costs = []
    while True:
        assert_same({agent: after[agent] for agent in others}, {agent: before[agent] for agent in others})
        with pytest.raises(AssertionError):
            assert_same(after[itself], before[itself])
        if not truth.agents:
            break
        actions = actions_of(truth, rng)
        changed = copied(actions)
        acts = slice(0, truth.action_layout[itself]["messages"].start)
        changed[itself][acts] = -actions[itself][acts]
        before, _, _, _, _ = truth.step(actions)
        after, _, _, _, _ = told.step(changed)
        costs.append(truth.told["cost_ct"].sum(axis=0) - told.told["cost_ct"].sum(axis=0))
    assert np.abs(costs).sum(axis=0)[n] > 1.0
    assert (np.abs(costs).sum(axis=0) > 1e-6).sum() > 1  # trades with it changed: the probe reaches others


def test_a_message_reaches_its_reader_once() -> None:
    """With the next observation, at every stage, and nobody else."""
    env = make(flat=False, days_per_episode=2, message_size=2)
    rng, words = np.random.default_rng(3), iter(np.linspace(-0.99, 0.99, 10_000, dtype=np.float32))
    observations = env.reset(seed=0)[0]
    assert all((obs["inbox"] == 0).all() for obs in observations.values())
    steps = 0
    while env.agents:
        actions = actions_of(env, rng, spread=0.5)
        written: dict[tuple[str, str], np.ndarray] = {}
        for agent in env.agents:
            place = env.action_layout[agent]["messages"]
            for k, other in enumerate(env.neighbours[agent]):
                at = slice(place.start + 2 * k, place.start + 2 * k + 2)
                actions[agent][at] = next(words), next(words)
                written[agent, other] = actions[agent][at].astype(np.float64)
        observations = env.step(actions)[0]
        received = {
            (other, agent): observations[agent]["inbox"][k]
            for agent in env.possible_agents
            for k, other in enumerate(env.neighbours[agent])
        }
        assert_same(received, {pair: written[pair] for pair in received}, f"step {steps}")
        assert received.keys() == written.keys()
        steps += 1
    assert steps == 2 * (SHORT_HOURS + 1)
    assert all((obs["inbox"] == 0).all() for obs in env.reset()[0].values())


def test_messages_are_clipped_and_counted_and_change_nothing_else() -> None:
    loud, quiet = make(), make()
    for env in (loud, quiet):
        env.reset(seed=1)
    rng = np.random.default_rng(4)
    while quiet.agents:
        actions = actions_of(quiet, rng, spread=0.9)
        shouted = copied(actions)
        shouted["prosumer_2"][loud.action_layout["prosumer_2"]["messages"]] = [5.0, -np.inf, 0.5] * 4
        _, rewards, _, _, infos = quiet.step(actions)
        observations, same, _, _, counted = loud.step(shouted)
        assert same == rewards
        assert [info["out_of_range"] for info in infos.values()] == [0] * N
        assert [info["out_of_range"] for info in counted.values()] == [0, 0, 8, *[0] * 7]
        reader = quiet.neighbours["prosumer_2"][0]
        column = quiet.neighbours[reader].index("prosumer_2")
        place = quiet.layout[reader]["inbox"].start + 4 * column
        assert observations[reader][place : place + 4].tolist() == [1.0, -1.0, 0.5, 1.0]


def test_what_is_out_of_range_is_counted_for_each_and_for_what_is_read() -> None:
    env = make()
    env.reset(seed=0)
    for step in range(3):
        actions = actions_of(env, np.random.default_rng(0), spread=0.9)
        layout = env.action_layout["prosumer_4"]
        actions["prosumer_4"][layout["day_ahead"]] = 2.0
        actions["prosumer_4"][layout["trade"]] = -2.0
        infos = env.step(actions)[4]
        wanted = SHORT_HOURS if step == 0 else 3
        assert [info["out_of_range"] for info in infos.values()] == [0, 0, 0, 0, wanted, 0, 0, 0, 0, 0]
        assert env.told["out_of_range"] == wanted


@pytest.mark.parametrize("seed", range(5))
def test_places_are_those_of_the_graph(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num = 7
    pairs = [(a, b) for a in range(num) for b in range(a + 1, num) if rng.random() < 0.4]
    pairs = [pairs[k] for k in rng.permutation(len(pairs))]
    first, second = np.array(pairs).T
    around = Neighbourhood(TradeGraph(first, second, np.ones(len(pairs)), np.zeros(len(pairs))), num)
    linked = {frozenset(pair) for pair in pairs}
    places = [(n, m) for n in range(num) for m in range(num) if frozenset((n, m)) in linked]
    assert [(n, m) for n, own in enumerate(around.neighbours) for m in own] == places
    assert [k for own in around.places for k in range(own.start, own.stop)] == list(range(len(places)))
    for k, (n, m) in enumerate(places):
        assert places[around.answers[k]] == (m, n)
        edge = pairs.index((min(n, m), max(n, m)))
        assert (around.edge[k], around.sign[k]) == (edge, 1.0 if n < m else -1.0)
        assert around.offer[k] == (edge if n < m else len(pairs) + edge)
    messages = rng.normal(size=(len(places), 3))
    assert all(np.array_equal(around.deliver(messages)[k], messages[places.index((m, n))])
               for k, (n, m) in enumerate(places))  # fmt: skip


def test_the_places_in_the_page_are_those_of_the_default_community() -> None:
    page = (Path(__file__).parents[2] / "docs" / "environment.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## One agent a prosumer\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    for name, place in parallel_env().layout["prosumer_0"].items():
        assert re.search(rf"\| `{name}` \| [^|]+ \| {place.start}:{place.stop} \|", section), name
