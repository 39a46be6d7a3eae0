"""Many communities in real time: each lane is the single environment, to the bit."""

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

from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import RealTimeEnv, RealTimeVectorEnv
from prosumer_gym.errors import UsageError

ID = "ProsumerGym/RealTime-v0"
MODES = [mode.value for mode in AutoresetMode]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_days", [1, 2])
@pytest.mark.parametrize("copy", [True, False])
def test_it_does_what_gymnasium_does_with_single_environments(
    days: Dataset, mode: str, num_days: int, copy: bool
) -> None:
    """Step by step and to the bit: observations, rewards, ends, infos with their masks, final observations."""
    num_lanes = 3
    reference = SyncVectorEnv([lambda: RealTimeEnv(days, days_per_episode=num_days)] * num_lanes, autoreset_mode=mode)
    native = RealTimeVectorEnv(num_lanes, days, days_per_episode=num_days, autoreset_mode=mode, copy=copy)
    assert native.observation_space == reference.observation_space
    assert native.action_space == reference.action_space
    assert native.metadata == reference.metadata
    assert data_equivalence(reference.reset(seed=11), native.reset(seed=11), exact=True)
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


@pytest.mark.parametrize("num_lanes", [1, 5, 700])
def test_lane_i_is_the_single_environment_with_the_seed_s_plus_i(days: Dataset, num_lanes: int) -> None:
    batch = RealTimeVectorEnv(num_lanes, days, autoreset_mode="SameStep", threads=2)
    singles = {lane: RealTimeEnv(days) for lane in {0, num_lanes // 2, num_lanes - 1}}
    observations, _ = batch.reset(seed=40)
    for lane, single in singles.items():
        assert np.array_equal(single.reset(seed=40 + lane)[0], observations[lane])
    rng = np.random.default_rng(1)
    for _ in range(30):
        actions = rng.uniform(-1.2, 1.2, batch.action_space.shape).astype(np.float32)
        observations, rewards, ends, _, infos = batch.step(actions)
        for lane, single in singles.items():
            obs, reward, end, _, info = single.step(actions[lane])
            told = infos
            if end:
                assert np.array_equal(obs, infos["final_obs"][lane])
                told = infos["final_info"]
                obs, _ = single.reset()
            assert np.array_equal(obs, observations[lane])
            assert (reward, end) == (rewards[lane], ends[lane])
            for name, value in info.items():
                if isinstance(value, dict):
                    assert value == {term: told[name][term][lane] for term in value}
                else:
                    assert value == told[name][lane], name


def test_threads_and_company_do_not_change_a_bit(days: Dataset) -> None:
    few, many = RealTimeVectorEnv(3, days), RealTimeVectorEnv(700, days, threads=3)
    few.reset(seed=0)
    many.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(55):
        actions = rng.uniform(-1, 1, (700, 30)).astype(np.float32)
        one, two = few.step(actions[:3]), many.step(actions)
        assert np.array_equal(one[1], two[1][:3])
        assert np.array_equal(one[0], two[0][:3])


@pytest.mark.parametrize("threads", [1, 3])
def test_a_nan_anywhere_is_refused_before_anything_has_changed(days: Dataset, threads: int) -> None:
    env, twin = (RealTimeVectorEnv(700, days, threads=threads) for _ in range(2))
    env.reset(seed=0)
    twin.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (700, 30)).astype(np.float32)
    for lane in (0, 350, 699):
        wrong = actions.copy()
        wrong[lane, 17] = np.nan
        with pytest.raises(UsageError, match=rf"lane {lane}, shiftable of prosumer 7 is NaN"):
            env.step(wrong)
    with pytest.raises(UsageError, match=r"expected \(700, 30\)"):
        env.step(actions[:3])
    assert data_equivalence(env.step(actions), twin.step(actions), exact=True)


def test_next_step_ignores_the_actions_of_lanes_that_restart(days: Dataset) -> None:
    env, twin = RealTimeVectorEnv(2, days), RealTimeVectorEnv(2, days)
    for each in (env, twin):
        each.reset(seed=0)
        for _ in range(10):
            each.step(np.zeros((2, 30)))
        each.reset(options={"reset_mask": np.array([True, False])})
        for _ in range(14):
            ends = each.step(np.zeros((2, 30)))[2]
        assert ends.tolist() == [False, True]
    nonsense = np.zeros((2, 30))
    nonsense[1] = np.nan
    one, two = env.step(nonsense), twin.step(np.zeros((2, 30)))
    assert data_equivalence(one, two, exact=True)
    assert one[1][1] == 0.0
    assert one[4]["_hour"].tolist() == [True, False]
    assert one[4]["_day"].tolist() == [True, True]


def test_make_vec_makes_it_without_a_warning(days: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make_vec(ID, num_envs=4, dataset=days, split="dev")
    assert isinstance(env, RealTimeVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    with pytest.raises(ResetNeeded):
        env.step(np.zeros((4, 30)))
    assert set(env.reset(seed=0)[1]["day"]) <= set(days.days("dev"))
    assert env.layout == RealTimeEnv(days).layout
    assert env.action_layout["curtail"] == slice(20, 30)
    env.close()
    env.close()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("num_lanes", [2, 16])
def test_what_is_handed_out_is_never_touched_again(days: Dataset, mode: str, num_lanes: int) -> None:
    env = RealTimeVectorEnv(num_lanes, days, autoreset_mode=mode)
    env.action_space.seed(0)
    kept: list[Any] = [env.reset(seed=0)]
    copies = pickle.loads(pickle.dumps(kept))
    for _ in range(28):
        kept.append(env.step(env.action_space.sample()))
        copies.append(pickle.loads(pickle.dumps(kept[-1])))
        assert data_equivalence(kept, copies, exact=True)


@pytest.mark.parametrize("num_lanes", [2, 16])
def test_without_copies_the_next_step_writes_into_the_same_array(days: Dataset, num_lanes: int) -> None:
    kept, reused = RealTimeVectorEnv(num_lanes, days), RealTimeVectorEnv(num_lanes, days, copy=False)
    before, _ = kept.reset(seed=0)
    view, _ = reused.reset(seed=0)
    for _ in range(3):
        after, again = kept.step(np.zeros((num_lanes, 30)))[0], reused.step(np.zeros((num_lanes, 30)))[0]
        assert np.array_equal(after, again)
        assert np.shares_memory(again, view)
        assert not np.shares_memory(before, after)


def test_it_can_be_pickled_in_the_middle_of_a_day(days: Dataset) -> None:
    env = RealTimeVectorEnv(300, days, threads=2, days_per_episode=2)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(30):
        env.step(env.action_space.sample())
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(45):
        actions = env.action_space.sample()
        assert data_equivalence(env.step(actions), twin.step(actions), exact=True)


def test_a_lane_takes_little_memory(days: Dataset) -> None:
    def size_of(num_lanes: int) -> int:
        env = RealTimeVectorEnv(num_lanes, days)
        env.reset(seed=0)
        env.step(np.zeros((num_lanes, 30)))
        return len(pickle.dumps(env))

    assert (size_of(600) - size_of(200)) / 400 < 6_000


@pytest.mark.parametrize("num_lanes", [2, 40])
def test_every_lane_has_its_picture_and_looking_changes_nothing(days: Dataset, num_lanes: int) -> None:
    pytest.importorskip("matplotlib")
    watched = RealTimeVectorEnv(num_lanes, days, render_mode="rgb_array")
    plain = RealTimeVectorEnv(num_lanes, days)
    with pytest.raises(ResetNeeded):
        watched.render()
    for env in (watched, plain):
        env.reset(seed=0)
        env.action_space.seed(0)
    for _ in range(14):
        actions = plain.action_space.sample()
        one, two = watched.step(actions), plain.step(actions)
        assert data_equivalence(one, two, exact=True)
    scenes = [watched.game.result.net_import_kw[:, lane].sum() for lane in (0, num_lanes - 1)]
    assert scenes == pytest.approx(one[4]["exchange_kw"][[0, num_lanes - 1]])
    if num_lanes == 2:
        first, second = watched.render() or ()
        assert first.shape == second.shape == (800, 1280, 3)
        assert not np.array_equal(first, second)


def test_the_picture_of_a_lane_knows_its_own_day_only(days: Dataset) -> None:
    env = RealTimeVectorEnv(2, days, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(10):
        env.step(np.zeros((2, 30)))
    env.reset(options={"reset_mask": np.array([False, True])})
    told = [env.step(np.full((2, 30), 0.2))[4]["exchange_kw"][1] for _ in range(15)]  # lane 0 ends and begins again
    assert env.game.hour.tolist() == [-1, 14]
    assert env.game.exchange_kw[1, :15].tolist() == told
    assert not env.game.exchange_kw[0].any()


def test_a_picture_of_one_community(days: Dataset) -> None:
    pytest.importorskip("matplotlib")
    from prosumer_gym.envs.rendering import scene_of

    env = RealTimeEnv(days, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (800, 1280, 3)
    infos = [env.step(np.full(30, 0.3))[4] for _ in range(14)]
    scene = scene_of(env.game)
    assert scene.hour == infos[-1]["hour"] == 13
    assert scene.episode_cost_ct == pytest.approx(sum(info["community_cost_ct"] for info in infos))
    assert scene.day_exchange_kw == pytest.approx([info["exchange_kw"] for info in infos])
    assert scene.position_kw.shape == (24,)
    assert scene.position_kw.any()
    again = pickle.loads(pickle.dumps(env))
    assert np.array_equal(again.render(), env.render())
