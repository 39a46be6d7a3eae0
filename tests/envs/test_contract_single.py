"""What every id owes to Gymnasium, Stable-Baselines3 and its user, one community at a time, over whole episodes."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from contract_cases import IDS, Case, assert_same, copied, every_case, every_id, numbers_of, random_action, short_days
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, TransformAction
from stable_baselines3.common.env_checker import check_env as check_for_baselines

from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.reward import REWARD_TERMS

SHORT = short_days()


def episode(env: Any, rng: np.random.Generator, **reset: Any) -> list[tuple[Any, ...]]:
    """(observation, reward, terminated, truncated, info) of a whole episode; the first is of the reset."""
    obs, info = env.reset(**reset)
    steps = [(obs, 0.0, False, False, info)]
    while not steps[-1][2]:
        steps.append(env.step(random_action(env.action_space, rng)))
    return steps


@every_case
def test_gymnasiums_checker_has_no_complaint(case: Case) -> None:
    check_env(case.make_by_name(**SHORT).unwrapped, skip_render_check=True)


@every_id
def test_gymnasiums_checker_has_no_complaint_about_pictures(case: Case) -> None:
    env = case.make_by_name(render_mode="rgb_array", **SHORT)
    env.metadata = {**env.metadata, "render_modes": ["rgb_array"]}  # a window needs a screen
    env.reset(seed=0)
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((800, 1280, 3), np.uint8)
    env.step(random_action(env.action_space, np.random.default_rng(0)))
    assert not np.array_equal(env.render(), picture)


@every_case
def test_stable_baselines_checker_has_no_complaint(case: Case) -> None:
    env = case.make(**SHORT)
    if not case.is_flat:
        check_for_baselines(env, warn=False)  # the interface; its policies know no dict of actions
        parts = env.action_space
        flat = spaces.Box(-1.0, 1.0, spaces.flatten_space(parts).shape, dtype=np.float32)
        env = TransformAction(FlattenObservation(env), lambda action: spaces.unflatten(parts, action), flat)
    check_for_baselines(env, warn=True)


@every_id
def test_its_specification_says_all_and_survives_json(case: Case) -> None:
    env = case.make_by_name(split="dev", days_per_episode=2, reward={"peak_ct_per_kw": 0.0})
    assert env.spec is not None
    assert isinstance(env.spec.entry_point, str)
    assert isinstance(env.spec.vector_entry_point, str)
    assert env.spec.max_episode_steps is None
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"] == {"split": "dev", "days_per_episode": 2, "reward": {"peak_ct_per_kw": 0.0}}
    again = gym.make(EnvSpec.from_json(text)).unwrapped
    assert type(again) is case.single
    assert (again.game.split, again.game.days_per_episode, again.game.weights.peak_ct_per_kw) == ("dev", 2, 0.0)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        env.spec.pprint()
    assert case.id in printed.getvalue()


def test_importing_the_package_registers_all_ids_and_little_else() -> None:
    code = (
        "import sys, gymnasium, prosumer_gym\n"
        f"ids = {[case.id for case in IDS]!r}\n"
        "assert [i for i in gymnasium.registry if i.startswith('ProsumerGym/')] == ids\n"
        "assert not {'numba', 'pandas', 'prosumer_gym.envs.single'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@every_case
@pytest.mark.parametrize("days", [1, 2])
def test_made_by_name_it_plays_whole_episodes_under_the_checker(case: Case, days: int) -> None:
    env = case.make_by_name(days_per_episode=days, **SHORT)
    rng = np.random.default_rng(0)
    observation_space, action_space = env.observation_space, env.action_space
    for seed in (3, None):
        steps = episode(env, rng, seed=seed)
        assert len(steps) == 1 + case.steps_of(days, 6)
        assert [step[3] for step in steps] == [False] * len(steps)
    assert env.observation_space is observation_space is env.unwrapped.observation_space
    assert env.action_space is action_space is env.unwrapped.action_space
    env.close()
    env.close()


@every_case
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_what_is_seen_and_told_has_always_the_same_form(case: Case, split: str, days: Dataset) -> None:
    env, rng = case.make(days, split=split), np.random.default_rng(1)
    kinds = {note.name: note.kind for note in case.notes}
    axes = {note.name: len(note.axes) for note in case.notes}
    shapes: dict[str, Any] = {}
    for k in range(2 if case.is_flat else 1):
        steps = episode(env, rng, seed=k)
        row = steps[0][4]["day"]
        assert steps[0][4].keys() == {"day"}
        assert type(row) is int
        assert days.split[row] == split
        for s, (obs, reward, terminated, truncated, info) in enumerate(steps):
            assert obs in env.observation_space
            for values in numbers_of(obs):
                assert values.dtype == (np.float32 if case.is_flat else np.float64)
                assert np.isfinite(values).all()
            assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
            assert terminated == (s == len(steps) - 1)
            if s == 0:
                continue
            assert info.keys() == kinds.keys()
            for name, value in info.items():
                if axes[name]:
                    assert value.ndim == axes[name]
                    assert np.isfinite(value).all()
                    assert shapes.setdefault(name, (value.shape, value.dtype)) == (value.shape, value.dtype)
                else:
                    assert type(value) is kinds[name], name
                    assert kinds[name] is not float or np.isfinite(value)
            assert list(info["reward_terms"]) == list(REWARD_TERMS)
            assert all(type(term) is float for term in info["reward_terms"].values())
            assert reward == sum(info["reward_terms"].values())


@every_id
def test_all_embedded_days_lie_inside_the_space(case: Case) -> None:
    for split in ("train", "dev", "test"):
        batch = case.make_vec(4 if case.is_flat else 1, split=split)
        rows = batch.dataset.days(split)
        rng = np.random.default_rng(2)
        for first in range(0, len(rows), max(batch.num_envs, len(rows) // (6 if case.is_flat else 1))):
            day = np.resize(rows[first : first + batch.num_envs], batch.num_envs)
            seen = [batch.reset(options={"day": day})[0]]
            seen += [batch.step(random_action(batch.action_space, rng))[0] for _ in range(case.steps_of(1, 24))]
            for obs in seen:
                assert obs in batch.observation_space
                assert all(np.isfinite(values).all() for values in numbers_of(obs))


@every_case
def test_order_is_kept(case: Case) -> None:
    env, rng = case.make(**SHORT), np.random.default_rng(0)
    action = random_action(env.action_space, rng)
    with pytest.raises(ResetNeeded):
        env.step(action)
    episode(env, rng, seed=0)
    for _ in range(2):
        with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
            env.step(action)
    env.reset()
    env.step(action)
    env.reset()
    assert len(episode(env, rng)) == 1 + case.steps_of(1, 6)
    env.close()
    env.close()


@every_case
def test_what_is_handed_out_is_the_users_own(case: Case) -> None:
    """Nothing is written into it later, and writing into it changes nothing."""
    careful, careless = case.make(days_per_episode=2, **SHORT), case.make(days_per_episode=2, **SHORT)
    kept = episode(careful, np.random.default_rng(4), seed=1)
    copies = copied(kept)
    episode(careful, np.random.default_rng(5))
    assert_same(kept, copies, "kept")
    rng, obs = np.random.default_rng(4), careless.reset(seed=1)[0]
    for s in range(1, len(kept)):
        action = random_action(careless.action_space, rng)
        for values in numbers_of(obs):
            values[...] = 0.5
        step = careless.step(action)
        assert_same(step, copies[s], f"step {s}")
        for values in numbers_of(action):
            values[...] = np.nan
        obs, info = step[0], step[4]
        for value in info.values():
            if isinstance(value, np.ndarray):
                value[...] = -7.0
            elif isinstance(value, dict):
                value.clear()


@every_case
def test_the_same_seed_gives_the_same_bits_and_days_go_on_from_it(case: Case) -> None:
    def three_episodes(env: Any, **reset: Any) -> list[Any]:
        rng = np.random.default_rng(6)
        return [episode(env, rng, **reset), episode(env, rng), episode(env, rng)]

    one, two = case.make(**SHORT), case.make(**SHORT)
    first = three_episodes(one, seed=8)
    assert_same(first, three_episodes(two, seed=8), "another environment")
    assert_same(first, three_episodes(one, seed=8), "again")
    assert len({steps[0][4]["day"] for steps in first}) == 3
    assert one.np_random_seed == 8


@every_id
def test_a_chosen_day_costs_no_draw(case: Case) -> None:
    env, free = case.make(**SHORT), case.make(**SHORT)
    env.reset(seed=2)
    free.reset(seed=2)
    row = int(env.dataset.days("train")[4])
    assert env.reset(options={"day": row})[1] == {"day": row}
    assert [env.reset()[1] for _ in range(6)] == [free.reset()[1] for _ in range(6)]
    assert env.reset(seed=2, options={"day": row})[1] == {"day": row}
    assert env.reset()[1] == case.make(**SHORT).reset(seed=2)[1]


@every_id
def test_what_the_user_gives_is_left_alone(case: Case) -> None:
    env = case.make(**SHORT)
    options = {"day": int(env.dataset.days("train")[0])}
    given = dict(options)
    env.reset(seed=0, options=options)
    assert options == given
    action = random_action(env.action_space, np.random.default_rng(0), spread=3.0)
    before = copied(action)
    env.step(action)
    assert_same(action, before, "action")
    for values in numbers_of(action):
        values.setflags(write=False)
    env.reset(seed=0)
    env.step(action)  # a read-only action may be played
