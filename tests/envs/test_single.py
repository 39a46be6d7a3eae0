from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from support import tiny_dataset

from prosumer_gym.actions import DayActions, position_to_kw, to_kw
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.store import list_datasets
from prosumer_gym.envs import RewardWeights, TwoStageEnv, TwoStageVectorEnv
from prosumer_gym.envs.two_stage import INFO_TABLE
from prosumer_gym.errors import UsageError
from prosumer_gym.rollout import rollout
from prosumer_gym.simulator import COST_TERMS

ID = "ProsumerGym/TwoStage-v0"


def random_episode(env: TwoStageEnv, seed: int, **options: object) -> list[tuple]:
    """Steps (action, observation, reward, terminated, truncated, info); the first holds the reset."""
    env.action_space.seed(seed)
    obs, info = env.reset(seed=seed, options=dict(options))
    steps: list[tuple] = [(None, obs, 0.0, False, False, info)]
    while not steps[-1][3]:
        action = env.action_space.sample()
        steps.append((action, *env.step(action)))
    return steps


def test_gymnasiums_checker_has_no_complaint(days: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID, dataset=days).unwrapped, skip_render_check=True)


def test_made_by_name_it_is_wrapped_but_never_truncated(days: Dataset) -> None:
    env = gym.make(ID, dataset=days)
    assert isinstance(env.unwrapped, TwoStageEnv)
    assert env.spec is not None
    assert env.spec.max_episode_steps is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.reset(seed=0)
        ends = [env.step(env.action_space.sample())[2:4] for _ in range(25)]
    assert ends == [(False, False)] * 24 + [(True, False)]


def test_a_specification_survives_json() -> None:
    arguments = {"split": "dev", "days_per_episode": 2, "reward": {"peak_ct_per_kw": 0.0}}
    spec = gym.make(ID, **arguments).spec
    assert spec is not None
    again = EnvSpec.from_json(spec.to_json())
    assert json.loads(spec.to_json())["kwargs"] == arguments
    assert gym.make(again).unwrapped.game.weights == RewardWeights(peak_ct_per_kw=0.0)


def test_importing_the_package_is_all_it_takes_to_register() -> None:
    code = f"import gymnasium, prosumer_gym; print(gymnasium.spec({ID!r}).entry_point)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "prosumer_gym.envs.single:TwoStageEnv"


@pytest.mark.parametrize("num_days", [1, 3])
def test_a_day_is_one_gate_and_then_its_hours(days: Dataset, num_days: int) -> None:
    steps = random_episode(TwoStageEnv(days, days_per_episode=num_days), seed=1)
    assert len(steps) == 1 + 25 * num_days
    first = steps[0][5]["day"]
    for s, (_, obs, reward, terminated, truncated, info) in enumerate(steps[1:]):
        day, step = divmod(s, 25)
        assert info["day"] == first + day
        assert info["hour"] == step - 1
        assert (reward == 0.0) == (step == 0)
        assert type(reward) is float
        assert terminated is (s == 25 * num_days - 1)
        assert truncated is False
        next_day, next_step = divmod(s + 1, 25)
        if terminated:
            assert (obs["stage"][0], obs["hour"][0], obs["days_left"][0]) == (1, 24, 0)
        else:
            expected = (float(next_step > 0), max(next_step - 1, 0), num_days - 1 - next_day)
            assert (obs["stage"][0], obs["hour"][0], obs["days_left"][0]) == expected


@pytest.mark.parametrize("seed", range(3))
def test_what_is_seen_lies_inside_the_space_for_whole_episodes(days: Dataset, seed: int) -> None:
    env = TwoStageEnv(days, days_per_episode=2)
    for _, obs, *_ in random_episode(env, seed):
        assert obs in env.observation_space


def test_the_embedded_days_lie_inside_the_space_too() -> None:
    assert "tehran-v0" in list_datasets()
    env = TwoStageEnv(split="test")
    for seed in range(2):
        for _, obs, *_ in random_episode(env, seed):
            assert obs in env.observation_space


def test_steps_of_a_quarter_of_an_hour_work(community: Community) -> None:
    data = tiny_dataset(num_days=5, hours=96)
    env = TwoStageEnv(data, community.replace(hours_per_day=96))
    steps = random_episode(env, seed=0)
    assert len(steps) == 98
    assert all(step[1] in env.observation_space for step in steps)


def test_an_info_always_has_the_same_keys_shapes_and_types(days: Dataset, community: Community) -> None:
    sizes = {"N": 10, "E": community.num_edges, "K": community.feeder.num_buses, "T": len(COST_TERMS)}
    steps = random_episode(TwoStageEnv(days), seed=0)
    assert steps[0][5].keys() == {"day"}
    for *_, info in steps[1:]:
        assert info.keys() == {note.name for note in INFO_TABLE}
        for note in INFO_TABLE:
            value = info[note.name]
            if note.axes:
                assert value.shape == tuple(sizes[axis] for axis in note.axes)
                assert value.dtype == np.float64
            else:
                assert type(value) is note.kind
                assert note.kind is not dict or all(type(term) is float for term in value.values())


def test_what_is_handed_out_is_never_touched_again(days: Dataset) -> None:
    env = TwoStageEnv(days, days_per_episode=2)
    steps = random_episode(env, seed=3)
    copies = pickle.loads(pickle.dumps(steps))
    random_episode(env, seed=4)
    assert data_equivalence(steps, copies, exact=True)
    for _, earlier, *_ in steps[:3]:
        for _, later, *_ in steps[-3:]:
            assert not any(np.shares_memory(earlier[name], later[name]) for name in earlier)


def test_writing_into_what_was_handed_out_changes_nothing(days: Dataset) -> None:
    careful, careless = TwoStageEnv(days), TwoStageEnv(days)
    careful.action_space.seed(0)
    careful.reset(seed=0)
    obs, _ = careless.reset(seed=0)
    for _ in range(25):
        action = careful.action_space.sample()
        for values in obs.values():
            values[...] = 7.0
        mine, theirs = careful.step(action), careless.step(action)
        assert data_equivalence(mine, theirs, exact=True)
        obs, info = theirs[0], theirs[4]
        info["v_pu"][...] = 0.0


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_day(days: Dataset) -> None:
    one, two = random_episode(TwoStageEnv(days), 5), random_episode(TwoStageEnv(days), 5)
    assert data_equivalence(one, two, exact=True)
    assert len({TwoStageEnv(days).reset(seed=s)[1]["day"] for s in range(12)}) > 4


def test_every_day_of_the_split_is_played_before_any_comes_back(days: Dataset) -> None:
    for split in ("train", "dev", "test"):
        env = TwoStageEnv(days, split=split)
        rows = [env.reset(seed=9 if k == 0 else None)[1]["day"] for k in range(2 * len(days.days(split)))]
        half = len(rows) // 2
        assert sorted(rows[:half]) == sorted(rows[half:]) == days.days(split).tolist()
        assert rows[:half] != rows[half:]


def test_the_users_generator_is_used(days: Dataset) -> None:
    env = TwoStageEnv(days)
    drawn = []
    for _ in range(2):
        env.np_random = np.random.default_rng(3)
        drawn.append([env.reset()[1]["day"] for _ in range(4)])
    assert drawn[0] == drawn[1]


def test_a_day_is_chosen_by_row_or_date(days: Dataset) -> None:
    env = TwoStageEnv(days, split="test")
    row = int(days.days("test")[2])
    for day in (row, np.int64(row), str(days.dates[row])):
        obs, info = env.reset(options={"day": day})
        assert info == {"day": row}
        assert np.array_equal(obs["price_da_ct_per_kwh"], days.price_da_ct_per_kwh[row])


def test_days_that_may_not_be_played_are_refused(days: Dataset) -> None:
    env = TwoStageEnv(days, split="test")
    train, lead_in = int(days.days("train")[0]), int(days.days("lead-in")[0])
    for day in (
        train,
        lead_in,
        -1,
        days.num_days,
        2.5,
        None.__class__,
        "yesterday",
        "1999-01-01",
        str(days.dates[train]),
    ):
        with pytest.raises(UsageError, match="day"):
            env.reset(options={"day": day})
    with pytest.raises(UsageError, match="'dya'"):
        env.reset(options={"dya": 3})


def test_episodes_of_several_days_stay_on_consecutive_dates_of_one_block(days: Dataset) -> None:
    gap = days.replace(dates=days.dates + np.where(np.arange(days.num_days) >= 20, 3, 0))
    rows = gap.days("train")
    env = TwoStageEnv(gap, days_per_episode=3)
    expected = [row for row in rows.tolist() if row + 2 <= rows[-1] and not row < 20 <= row + 2]
    assert env.game.first_days.tolist() == expected
    with pytest.raises(UsageError, match="days_per_episode"):
        TwoStageEnv(days, days_per_episode=25)
    for wrong in (0, 1.5, True):
        with pytest.raises(UsageError, match="days_per_episode"):
            TwoStageEnv(days, days_per_episode=wrong)


def test_it_costs_what_the_simulator_says_its_logged_actions_cost(days: Dataset, community: Community) -> None:
    logs, costs, rows = [], [], []
    for seed in range(3):
        steps = random_episode(TwoStageEnv(days), seed)
        dispatches = []
        for h in range(24):
            action, pv_kw = steps[h + 2][0], steps[h + 1][1]["pv_kw"][h]
            dispatches.append(to_kw(community, action, pv_kw))
        logs.append(DayActions.from_steps(position_to_kw(community, steps[1][0]), dispatches))
        costs.append(np.array([step[5]["cost_ct"] for step in steps[2:]]))
        rows.append(steps[0][5]["day"])
        trace = rollout(community, days.exogenous, [rows[-1]], DayActions.stack(logs[-1:]))
        for name in ("battery_kw", "net_import_kw", "realtime_kw", "trade_kw", "v_pu", "slack_kw", "clipped"):
            assert np.array_equal(getattr(trace, name)[0], [step[5][name] for step in steps[2:]]), name
    trace = rollout(community, days.exogenous, rows, DayActions.stack(logs))
    assert np.array_equal(trace.cost_ct, costs)


def test_it_can_be_pickled_in_the_middle_of_a_day(days: Dataset) -> None:
    env = TwoStageEnv(days, days_per_episode=2)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(30):
        env.step(env.action_space.sample())
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(60):
        action = env.action_space.sample()
        mine, theirs = env.step(action), twin.step(action)
        assert data_equivalence(mine, theirs, exact=True)
        if mine[2]:
            assert data_equivalence(env.reset(), twin.reset(), exact=True)  # the same days are drawn, too


def test_order_is_kept(days: Dataset) -> None:
    env = TwoStageEnv(days)
    rest = {name: np.zeros(space.shape) for name, space in env.action_space.items()}
    with pytest.raises(ResetNeeded):
        env.step(rest)
    env.reset(seed=0)
    for _ in range(25):
        env.step(rest)
    with pytest.raises(ResetNeeded):
        env.step(rest)
    env.close()
    env.close()


def test_data_and_community_must_fit(days: Dataset) -> None:
    with pytest.raises(UsageError, match="12 prosumers"):
        TwoStageEnv(tiny_dataset(num_days=5, num_prosumers=12))
    with pytest.raises(UsageError, match="hours_per_day=48"):
        TwoStageEnv(tiny_dataset(num_days=5, hours=48))
    with pytest.raises(UsageError, match="split"):
        TwoStageEnv(days, split="lead-out")
    with pytest.raises(UsageError, match="no-such-data"):
        TwoStageEnv("no-such-data")
    with pytest.raises(UsageError, match="render_mode"):
        TwoStageEnv(days, render_mode="ansi")


def test_one_prosumer_alone_has_nobody_to_trade_with(community: Community) -> None:
    alone = Community("alone", community.feeder, Fleet.identical([3]), TradeGraph.ring_with_chords(1))
    data = tiny_dataset(num_days=5, num_prosumers=1)
    env = TwoStageEnv(data, alone)
    assert env.action_space["trade"].shape == (0,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
    steps = random_episode(env, seed=0)
    assert len(steps) == 26
    assert all(step[1] in env.observation_space for step in steps)
    batch = TwoStageVectorEnv(2, data, alone)
    batch.reset(seed=0)
    batch.action_space.seed(0)
    assert batch.step(batch.action_space.sample())[0] in batch.observation_space


def test_offers_take_the_form_of_the_mechanism_that_is_asked_for(days: Dataset, community: Community) -> None:
    assert TwoStageEnv(days).action_space["trade"].shape == (2 * community.num_edges,)
    env = TwoStageEnv(days, mechanism="mid-market-rate")
    assert env.community.mechanism == "mid-market-rate"
    assert env.action_space["trade"].shape == (10,)
    assert TwoStageVectorEnv(2, days, mechanism="double-auction").single_action_space["trade"].shape == (20,)
    own = TwoStageEnv(days, community.replace(mechanism="supply-demand-ratio"))
    assert own.community.mechanism == "supply-demand-ratio"
    with pytest.raises(UsageError, match="'barter'"):
        TwoStageEnv(days, mechanism="barter")


def test_pv_is_as_large_as_the_communitys(days: Dataset, community: Community) -> None:
    fleet = dataclasses.replace(community.fleet, pv_ratio=np.where(np.arange(10) < 5, 2.0, 1.0))
    env = TwoStageEnv(days, community.replace(fleet=fleet))
    row = int(days.days("train")[0])
    env.reset(options={"day": row})
    rest = {name: np.zeros(space.shape) for name, space in env.action_space.items()}
    for _ in range(14):
        obs = env.step(rest)[0]
    assert np.array_equal(obs["pv_kw"][12], days.pv_kw[row, 12] * fleet.pv_ratio)
    assert obs["past_pv_kw"].sum() > days.pv_kw[row - 8 : row].sum() > 0


def test_a_thousand_prosumers_may_play_and_no_more(community: Community) -> None:
    data = tiny_dataset(num_days=3, num_prosumers=1000, hours=4)
    buses = np.arange(1000) % 32 + 1
    many = Community(
        "many", community.feeder, Fleet.identical(buses), TradeGraph.ring_with_chords(1000), hours_per_day=4
    )
    env = TwoStageEnv(data, many)
    assert all(step[1] in env.observation_space for step in random_episode(env, seed=0))
    more = Community("more", community.feeder, Fleet.identical([1] * 1001), TradeGraph.ring_with_chords(1001))
    with pytest.raises(UsageError, match="1001 prosumers"):
        TwoStageEnv(tiny_dataset(num_days=3, num_prosumers=1001), more)
