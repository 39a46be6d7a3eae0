from __future__ import annotations

import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from support import tiny_dataset

import prosumer_gym
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import TwoStageEnv, TwoStageVectorEnv
from prosumer_gym.errors import UsageError

ID = "ProsumerGym/TwoStage-v0"
MODES = [mode.value for mode in AutoresetMode]


def rest(env: TwoStageVectorEnv) -> dict[str, Any]:
    return {name: np.zeros(space.shape) for name, space in env.action_space.items()}


def lane_of(batch: dict[str, np.ndarray], lane: int) -> dict[str, np.ndarray]:
    return {name: values[lane] for name, values in batch.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_days", [1, 2])
def test_it_does_what_gymnasium_does_with_single_environments(days: Dataset, mode: str, num_days: int) -> None:
    """Step by step and to the bit: observations, rewards, ends, infos with their masks, final observations."""
    num_lanes = 3
    reference = SyncVectorEnv([lambda: TwoStageEnv(days, days_per_episode=num_days)] * num_lanes, autoreset_mode=mode)
    native = TwoStageVectorEnv(num_lanes, days, days_per_episode=num_days, autoreset_mode=mode)
    assert native.single_observation_space == reference.single_observation_space
    assert native.observation_space == reference.observation_space
    assert native.action_space == reference.action_space
    assert native.metadata == reference.metadata

    assert data_equivalence(reference.reset(seed=11), native.reset(seed=11), exact=True)
    assert native.np_random_seed == tuple(reference.np_random_seed)
    rng = np.random.default_rng(0)
    native.action_space.seed(0)
    for step in range(140):
        actions = native.action_space.sample()
        expected, got = reference.step(actions), native.step(actions)
        for what, a, b in zip(("observation", "reward", "end", "cut", "info"), expected, got, strict=True):
            assert data_equivalence(a, b, exact=True), f"{what} of step {step}"
        # now and then lanes are restarted by hand, so that they no longer march together
        mask = got[2].copy() if mode == "Disabled" else np.zeros(num_lanes, np.bool_)
        if step in (7, 33, 71):
            mask |= rng.random(num_lanes) < 0.5
        if mask.any():
            seed = 100 if step == 33 else None
            expected = reference.reset(seed=seed, options={"reset_mask": mask.copy()})
            assert data_equivalence(expected, native.reset(seed=seed, options={"reset_mask": mask}), exact=True)


@pytest.mark.parametrize("num_lanes", [1, 5, 70])
def test_lane_i_is_the_single_environment_with_the_seed_s_plus_i(days: Dataset, num_lanes: int) -> None:
    batch = TwoStageVectorEnv(num_lanes, days, autoreset_mode="SameStep")
    singles = {lane: TwoStageEnv(days) for lane in {0, num_lanes // 2, num_lanes - 1}}
    observations, _ = batch.reset(seed=40)
    batch.action_space.seed(1)
    for lane, single in singles.items():
        assert data_equivalence(single.reset(seed=40 + lane)[0], lane_of(observations, lane), exact=True)
    for _ in range(60):
        actions = batch.action_space.sample()
        observations, rewards, ends, _, infos = batch.step(actions)
        for lane, single in singles.items():
            obs, reward, end, _, info = single.step(lane_of(actions, lane))
            told = infos
            if end:
                assert data_equivalence(obs, infos["final_obs"][lane], exact=True)
                told = infos["final_info"]
                obs, _ = single.reset()
            assert data_equivalence(obs, lane_of(observations, lane), exact=True)
            assert (reward, end) == (rewards[lane], ends[lane])
            for name, value in info.items():
                if isinstance(value, dict):
                    assert value == {term: told[name][term][lane] for term in value}
                else:
                    assert np.array_equal(value, told[name][lane]), name


def test_threads_and_company_do_not_change_a_bit(days: Dataset) -> None:
    few, many = TwoStageVectorEnv(3, days), TwoStageVectorEnv(300, days, threads=2)
    few.reset(seed=0)
    many.reset(seed=0)
    many.action_space.seed(0)
    for _ in range(55):
        actions = many.action_space.sample()
        one = few.step({name: values[:3] for name, values in actions.items()})
        two = many.step(actions)
        assert np.array_equal(one[1], two[1][:3])
        assert all(np.array_equal(values, two[0][name][:3]) for name, values in one[0].items())


def test_make_vec_makes_it_without_a_warning(days: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make_vec(ID, num_envs=4, dataset=days, split="dev")
    assert isinstance(env, TwoStageVectorEnv)
    assert env.num_envs == 4
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert env.game.split == "dev"
    assert set(env.reset(seed=0)[1]["day"]) <= set(days.days("dev"))
    assert prosumer_gym.__version__
    env.close()
    env.close()


def test_next_step_ignores_the_action_of_the_step_that_restarts(days: Dataset) -> None:
    env = TwoStageVectorEnv(2, days)
    env.reset(seed=0)
    for step in range(25):
        _, _, ends, cut, _ = env.step(rest(env))
        assert ends.tolist() == [step == 24] * 2
        assert not cut.any()
    nonsense = {name: np.full(values.shape, np.nan) for name, values in rest(env).items()}
    obs, rewards, ends, _, info = env.step(nonsense)
    assert obs["stage"].tolist() == [[0.0], [0.0]]
    assert rewards.tolist() == [0.0, 0.0]
    assert not ends.any()
    assert info.keys() == {"day", "_day"}


def test_same_step_hands_over_the_last_observation_and_info(days: Dataset) -> None:
    env = TwoStageVectorEnv(2, days, autoreset_mode="SameStep")
    env.reset(seed=0)
    for _ in range(24):
        assert "final_obs" not in env.step(rest(env))[4]
    obs, rewards, ends, _, info = env.step(rest(env))
    assert ends.all()
    assert (rewards != 0).all()
    assert obs["stage"].tolist() == [[0.0], [0.0]]
    assert info["final_obs"].dtype == object
    assert info["final_obs"][1]["hour"] == 24
    assert info["final_info"]["hour"].tolist() == [23, 23]
    assert info["_final_info"].all()


def test_disabled_wants_a_reset_of_the_lanes_that_are_over(days: Dataset) -> None:
    env = TwoStageVectorEnv(3, days, autoreset_mode="Disabled")
    for lanes in ([True, True, True], [False, True, False]):
        with pytest.raises(ResetNeeded):
            env.step(rest(env))
        kept = env.game.observations(copy=True)["soc_kwh"]
        obs, info = env.reset(seed=3, options={"reset_mask": np.array(lanes)})
        assert np.array_equal(obs["soc_kwh"][~np.array(lanes)], kept[~np.array(lanes)])
        assert info["_day"].tolist() == lanes
        if not all(lanes):
            break
        for _ in range(25):
            env.step(rest(env))
    with pytest.raises(ResetNeeded, match="lane 0"):  # lanes 0 and 2 are still over
        env.step(rest(env))


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_played_before_the_first_reset(days: Dataset, mode: str) -> None:
    env = TwoStageVectorEnv(2, days, autoreset_mode=mode)
    with pytest.raises(ResetNeeded):
        env.step(rest(env))
    env.reset(options={"day": int(days.days("train")[0])})
    env.step(rest(env))


def test_days_can_be_chosen_for_every_lane(days: Dataset) -> None:
    env = TwoStageVectorEnv(3, days, split="test")
    rows = days.days("test")[[4, 0, 2]]
    assert env.reset(options={"day": rows})[1]["day"].tolist() == rows.tolist()
    assert env.reset(options={"day": str(days.dates[rows[0]])})[1]["day"].tolist() == [rows[0]] * 3
    assert env.reset(options={"day": [int(rows[1]), None, str(days.dates[rows[2]])]})[1]["day"][[0, 2]].tolist() == [
        rows[1],
        rows[2],
    ]
    with pytest.raises(UsageError, match="2 days for 3 lanes"):
        env.reset(options={"day": rows[:2]})
    with pytest.raises(UsageError, match="seeds"):
        env.reset(seed=[1, 2])
    for mask in (np.zeros(3, np.bool_), np.ones(2, np.bool_), [True] * 3, np.ones(3)):
        with pytest.raises(UsageError, match="reset_mask"):
            env.reset(options={"reset_mask": mask})


def test_users_options_are_left_alone(days: Dataset) -> None:
    env = TwoStageVectorEnv(2, days)
    options = {"reset_mask": np.array([True, False])}
    env.reset(options=options)
    assert options.keys() == {"reset_mask"}


def test_without_copies_the_next_step_writes_into_the_same_arrays(days: Dataset) -> None:
    kept, reused = TwoStageVectorEnv(2, days), TwoStageVectorEnv(2, days, copy=False)
    before, _ = kept.reset(seed=0)
    view, _ = reused.reset(seed=0)
    for _ in range(3):
        after, again = kept.step(rest(kept))[0], reused.step(rest(reused))[0]
        assert data_equivalence(after, again, exact=True)
        assert all(again[name] is view[name] for name in view)
        assert not any(np.shares_memory(before[name], after[name]) for name in before)


def test_it_can_be_pickled_in_the_middle_of_a_day(days: Dataset) -> None:
    env = TwoStageVectorEnv(3, days)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(12):
        env.step(env.action_space.sample())
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(45):
        actions = env.action_space.sample()
        assert data_equivalence(env.step(actions), twin.step(actions), exact=True)


def test_a_community_of_another_size(community: Community) -> None:
    small = Community("small", community.feeder, Fleet.identical([3, 9, 20]), TradeGraph.ring_with_chords(3))
    env = TwoStageVectorEnv(2, tiny_dataset(num_days=5, num_prosumers=3), small)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(26):
        assert env.step(env.action_space.sample())[0] in env.observation_space


def test_a_lane_that_reaches_its_next_gate_while_another_commits_waits_for_its_own_step(days: Dataset) -> None:
    reference = SyncVectorEnv([lambda: TwoStageEnv(days, days_per_episode=2)] * 2, autoreset_mode="Disabled")
    native = TwoStageVectorEnv(2, days, days_per_episode=2, autoreset_mode="Disabled")
    native.action_space.seed(0)
    for env in (reference, native):
        env.reset(seed=0)
    for step in range(49):
        if step == 24:  # lane 0 is about to play its last hour, lane 1 is sent back to a gate
            for env in (reference, native):
                obs, _ = env.reset(options={"reset_mask": np.array([False, True])})
                assert obs["hour"].tolist() == [[23.0], [0.0]]
                assert obs["stage"].tolist() == [[1.0], [0.0]]
        actions = native.action_space.sample()
        assert data_equivalence(reference.step(actions), native.step(actions), exact=True), step
        assert step != 24 or not native.game.simulator.state.position_kw[:, :, 0].any()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_what_is_handed_out_is_never_touched_again(days: Dataset, mode: str) -> None:
    env = TwoStageVectorEnv(2, days, autoreset_mode=mode)
    env.action_space.seed(0)
    kept: list[Any] = [env.reset(seed=0)]
    copies = pickle.loads(pickle.dumps(kept))
    for _ in range(28):
        kept.append(env.step(env.action_space.sample()))
        copies.append(pickle.loads(pickle.dumps(kept[-1])))
        assert data_equivalence(kept, copies, exact=True)
