"""Gymnasium's wrappers around every id: what they report is what a user works out by hand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from contract_cases import IDS, MODES, SHORT_HOURS, Case, assert_same, every_id, lanes_of, random_action, short_days
from gymnasium import spaces, wrappers
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import vector as vector_wrappers

SHORT = short_days()
LANES = 3
every_mode = pytest.mark.parametrize("mode", MODES)


def actions_for(env: Any, seed: int, num: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [random_action(env.unwrapped.action_space, rng) for _ in range(num)]


def batch_of(case: Case, mode: str) -> VectorEnv[Any, Any, Any]:
    batch: VectorEnv[Any, Any, Any] = case.make_vec(LANES, autoreset_mode=mode, **SHORT)
    return batch


def flat_batch(case: Case) -> VectorEnv[Any, Any, Any]:
    """The batch, its observation one array."""
    env = batch_of(case, "NextStep")
    return env if case.is_flat else vector_wrappers.FlattenObservation(env)


def flat_single(case: Case) -> gym.Env[Any, Any]:
    env: gym.Env[Any, Any] = case.make(**SHORT)
    return env if case.is_flat else wrappers.FlattenObservation(env)


def stepped(env: Any, actions: list[Any], seed: int = 0) -> list[Any]:
    """What a batch hands out; with autoreset disabled, lanes that are over are restarted: a reset follows its step."""
    told = [env.reset(seed=seed)]
    for action in actions:
        told.append(env.step(action))
        if env.unwrapped.autoreset_mode.value == "Disabled" and told[-1][2].any():
            told.append(env.reset(options={"reset_mask": told[-1][2].copy()}))
    return told


@every_id
@every_mode
def test_returns_and_lengths_of_episodes_are_hand_sums(case: Case, mode: str) -> None:
    batch = case.make_vec(LANES, autoreset_mode=mode, days_per_episode=2, **SHORT)
    env = vector_wrappers.RecordEpisodeStatistics(batch)
    length, num_ended = case.steps_of(2, SHORT_HOURS), 0
    actions = actions_for(env, 0, 3 * (length + 1))
    told = [env.reset(seed=0)]
    if length > 2:  # the lanes do not march together
        told += [env.step(actions[0]), env.reset(options={"reset_mask": np.array([False, True, False])})]
    returns, lengths, over = np.zeros(LANES), np.zeros(LANES, int), np.zeros(LANES, np.bool_)
    if length > 2:
        returns[[0, 2]], lengths[[0, 2]] = told[1][1][[0, 2]], 1
    for action in actions:
        _, rewards, ends, _, info = env.step(action)
        restarted = over if mode == "NextStep" else np.zeros(LANES, np.bool_)
        returns, lengths = np.where(restarted, 0.0, returns + rewards), np.where(restarted, 0, lengths + 1)
        assert ("episode" in info) == ends.any()
        if ends.any():
            assert info["_episode"].tolist() == ends.tolist()
            np.testing.assert_array_equal(info["episode"]["r"], np.where(ends, returns, 0.0))
            np.testing.assert_array_equal(info["episode"]["l"], np.where(ends, lengths, 0))
            assert (lengths[ends] == length).all()
            assert list(env.return_queue)[-ends.sum() :] == returns[ends].tolist()
            returns, lengths = np.where(ends, 0.0, returns), np.where(ends, 0, lengths)
            num_ended += ends.sum()
        if mode == "Disabled" and ends.any():
            env.reset(options={"reset_mask": ends.copy()})
        over = ends
    assert num_ended >= 2 * LANES


@every_id
def test_normalized_observations_are_numpys(case: Case) -> None:
    actions = actions_for(flat_batch(case), 1, 18)
    plain, normal = flat_batch(case), vector_wrappers.NormalizeObservation(flat_batch(case))
    seen = np.concatenate([step[0] for step in stepped(plain, actions)]).astype(np.float64)
    told = stepped(normal, actions)
    mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    scale = 1.0 + np.abs(seen).max(axis=0)
    assert (np.abs(normal.obs_rms.mean - mean) < 1e-4 * scale).all()
    assert (np.abs(np.sqrt(normal.obs_rms.var) - deviation) < 2e-3 * scale).all()
    varying = deviation > 0.01 * scale
    assert varying.sum() > 10
    last = (seen[-LANES:] - mean) / np.sqrt(deviation**2 + 1e-8)
    np.testing.assert_allclose(told[-1][0][:, varying], last[:, varying], atol=0.02)
    assert all(step[0] in normal.observation_space for step in told)
    for mode in ("SameStep", "Disabled"):  # the wrapper itself takes no other mode
        with pytest.raises(ValueError, match="NEXT_STEP"):
            vector_wrappers.NormalizeObservation(batch_of(case, mode))


@every_id
@every_mode
def test_normalized_rewards_are_numpys(case: Case, mode: str) -> None:
    plain = batch_of(case, mode)
    normal = vector_wrappers.NormalizeReward(batch_of(case, mode), gamma=0.9)
    actions = actions_for(plain, 2, 24)
    total, over, samples = np.zeros(LANES), np.zeros(LANES, np.bool_), []
    plain.reset(seed=0)
    normal.reset(seed=0)
    for action in actions:
        _, rewards, ends, _, _ = plain.step(action)
        got = normal.step(action)[1]
        active = np.ones(LANES, np.bool_) if mode == "SameStep" else ~over
        total = np.where(active, 0.9 * total * ~ends + rewards, total)
        samples += total[active].tolist()
        variance = np.var(samples)
        np.testing.assert_allclose(got, rewards / np.sqrt(variance + 1e-8), rtol=0.02, atol=1e-3)
        if mode == "SameStep":
            total[ends] = 0.0
        over = ends
        if mode == "Disabled" and ends.any():
            for env in (plain, normal):
                env.reset(options={"reset_mask": ends.copy()})
            total, over = np.zeros(LANES), np.zeros(LANES, np.bool_)
    assert len(samples) > 10


@every_id
@every_mode
def test_rewards_and_actions_may_be_reshaped(case: Case, mode: str) -> None:
    plain = batch_of(case, mode)
    clipped = vector_wrappers.ClipReward(batch_of(case, mode), -100.0, -1.0)
    thousands = vector_wrappers.TransformReward(batch_of(case, mode), lambda reward: reward / 1000.0)
    actions = actions_for(plain, 3, 2 * case.steps_of(1, SHORT_HOURS))
    told = [stepped(env, actions) for env in (plain, clipped, thousands)]
    for one, two, three in zip(*told, strict=True):
        assert_same(one[0], two[0], "observation")
        if len(one) > 2:
            np.testing.assert_array_equal(two[1], np.clip(one[1], -100.0, -1.0))
            np.testing.assert_array_equal(three[1], one[1] / 1000.0)
            assert_same(one[2:], two[2:], "ends and info")


@pytest.mark.parametrize("case", [case for case in IDS if case.is_flat], ids=str)
def test_actions_on_another_scale(case: Case) -> None:
    batch = case.make_vec(LANES, **SHORT)
    doubled = vector_wrappers.RescaleAction(case.make_vec(LANES, **SHORT), np.float32(-2), np.float32(2))
    actions = [np.clip(action, -1.0, 1.0) for action in actions_for(batch, 4, 8)]
    told = stepped(doubled, [2 * action for action in actions])
    assert_same([step[1:3] for step in told[1:]], [step[1:3] for step in stepped(batch, actions)[1:]], "steps")
    single = wrappers.RescaleAction(case.make(**SHORT), np.float32(-2), np.float32(2))
    single.reset(seed=0)
    assert single.step(2 * actions[0][0])[1] == told[1][1][0]


@every_id
def test_a_list_of_infos_has_those_of_single_environments(case: Case) -> None:
    env = vector_wrappers.DictInfoToList(case.make_vec(LANES, **SHORT))
    singles = [case.make(**SHORT) for _ in range(LANES)]
    _, told = env.reset(seed=5)
    assert told == [single.reset(seed=5 + lane)[1] for lane, single in enumerate(singles)]
    for action in actions_for(env, 5, case.steps_of(1, SHORT_HOURS)):
        infos = env.step(action)[4]
        for lane, single in enumerate(singles):
            expected = single.step(lanes_of(action, lane))[4]
            assert infos[lane].keys() == expected.keys()
            for name, value in expected.items():
                assert np.array_equal(infos[lane][name], value), name


def test_the_flattened_observation_is_the_observation() -> None:
    case = IDS[0]
    space = case.make(**SHORT).observation_space
    plain, flat = case.make_vec(LANES, **SHORT), flat_batch(case)
    single = flat_single(case)
    actions = actions_for(plain, 6, 9)
    rows = [single.reset(seed=0)[0]]
    for one, two in zip(stepped(plain, actions), stepped(flat, actions), strict=True):
        assert two[0] in flat.observation_space
        for lane in range(LANES):
            assert np.array_equal(two[0][lane], spaces.flatten(space, lanes_of(one[0], lane)))
    for action, told in zip(actions[:7], stepped(flat, actions)[1:], strict=False):
        rows.append(single.step(lanes_of(action, 0))[0])
        assert np.array_equal(rows[-1], told[0][0])


@every_id
def test_single_wrappers_report_what_a_user_works_out(case: Case) -> None:
    plain = flat_single(case)
    actions = actions_for(plain, 7, 3 * case.steps_of(1, SHORT_HOURS))
    record = wrappers.RecordEpisodeStatistics(flat_single(case))
    clip = wrappers.ClipReward(flat_single(case), -100.0, -1.0)
    scaled = wrappers.NormalizeReward(wrappers.NormalizeObservation(flat_single(case)))
    checked = wrappers.PassiveEnvChecker(wrappers.OrderEnforcing(flat_single(case)))
    everyone = (plain, record, clip, scaled, checked)
    first = [env.reset(seed=0)[0] for env in everyone]
    seen, lengths, total = [first[0]], [], 0.0
    for action in actions:
        told = [env.step(action) for env in everyone]
        obs, reward, over, cut, _ = told[0]
        seen.append(obs)
        total += reward
        assert not cut
        assert told[2][1] == np.clip(reward, -100.0, -1.0)
        assert_same(told[4], told[0], "under the checker")
        episode = told[1][4].pop("episode", None)
        assert_same(told[1], told[0], "recorded")
        assert (episode is not None) == over
        assert np.isfinite(told[3][1])
        assert np.isfinite(told[3][0]).all()
        if over:
            assert (episode["r"], episode["l"]) == (total, case.steps_of(1, SHORT_HOURS))
            lengths.append(episode["l"])
            total = 0.0
            first = [env.reset()[0] for env in everyone]
            seen.append(first[0])
    assert len(lengths) == 3
    mean = np.mean(seen, axis=0, dtype=np.float64)
    scale = 1.0 + np.abs(seen).max(axis=0)
    assert (np.abs(scaled.env.obs_rms.mean - mean) < 1e-4 * scale).all()  # type: ignore[attr-defined]


@every_id
def test_an_episode_may_be_cut_or_restarted_by_a_wrapper(case: Case) -> None:
    steps = case.steps_of(2, SHORT_HOURS)
    env = wrappers.TimeLimit(case.make(days_per_episode=2, **SHORT), max_episode_steps=steps - 1)
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in actions_for(env, 8, steps - 1)]
    assert ends == [(False, False)] * (steps - 2) + [(False, True)]
    plain, restarted = case.make(**SHORT), wrappers.Autoreset(case.make(**SHORT))
    plain.reset(seed=0)
    restarted.reset(seed=0)
    actions = actions_for(plain, 9, case.steps_of(1, SHORT_HOURS))
    for action in actions:
        assert_same(restarted.step(action), plain.step(action), "step")
    obs, reward, over, cut, info = restarted.step(actions[0])
    assert_same((obs, info), plain.reset(), "restart")
    assert (float(reward), over, cut) == (0.0, False, False)
