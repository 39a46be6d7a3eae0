"""The batch as Stable-Baselines3 plays it: what its own vector environment of single environments would have been.

Axes: B lanes.
"""

from __future__ import annotations

import functools
import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from contract_cases import CASES, IDS, SHORT_HOURS, Case, assert_same, copied, random_action, short_days
from gymnasium.error import ResetNeeded

pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed")
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import tile_images

from prosumer_gym.envs.sb3 import SB3VecEnv
from prosumer_gym.errors import UsageError

SHORT = short_days()
FLAT = [case for case in CASES if case.is_flat]
REAL_TIME, DAY_AHEAD = IDS[1:]
LANES = 3
every_flat_case = pytest.mark.parametrize("case", FLAT, ids=str)
every_flat_id = pytest.mark.parametrize("case", [REAL_TIME, DAY_AHEAD], ids=str)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def adapter(case: Case = REAL_TIME, num_envs: int = LANES, **kwargs: Any) -> SB3VecEnv:
    return SB3VecEnv(case.id, num_envs, **case.kwargs, **{**SHORT, **kwargs})


def dummy(case: Case, num_envs: int = LANES, **kwargs: Any) -> DummyVecEnv:
    def make() -> gym.Env[Any, Any]:
        env: gym.Env[Any, Any] = case.make(**{**SHORT, **kwargs})
        return env

    return DummyVecEnv([make] * num_envs)


def actions_for(env: Any, num: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.stack([random_action(env.action_space, rng) for _ in range(env.num_envs)]) for _ in range(num)]


@every_flat_case
@pytest.mark.parametrize("num_envs", [1, LANES])
def test_it_is_their_vector_environment_of_single_environments(case: Case, num_envs: int) -> None:
    mine, theirs = adapter(case, num_envs, days_per_episode=2), dummy(case, num_envs, days_per_episode=2)
    assert mine.observation_space == theirs.observation_space
    assert mine.action_space == theirs.action_space
    assert mine.seed(7) == theirs.seed(7)
    assert_same(mine.reset(), theirs.reset(), "reset")
    assert_same(mine.reset_infos, theirs.reset_infos, "reset info")
    length, ends = case.steps_of(2, SHORT_HOURS), 0
    for step, actions in enumerate(actions_for(theirs, 4 * length + 1)):
        *rest, infos = mine.step(actions)
        *their_rest, their_infos = theirs.step(actions)
        assert_same(rest, their_rest, f"step {step}")
        assert_same(mine.reset_infos, theirs.reset_infos, f"reset info after step {step}")
        for lane, done in enumerate(rest[2].tolist()):
            assert_same(infos[lane], their_infos[lane] if done else {}, f"step {step}, info of lane {lane}")
        ends += int(rest[2].sum())
    assert ends == 4 * num_envs


def test_lanes_of_which_only_some_end() -> None:
    mine, theirs = adapter(num_envs=4), dummy(REAL_TIME, 4)
    mine.seed(0)
    theirs.seed(0)
    mine.reset()
    theirs.reset()
    for actions in actions_for(theirs, 2):
        mine.step(actions)
        theirs.step(actions)
    some = np.array([False, True, False, True])
    mine.batch.reset(options={"reset_mask": some})
    for lane in np.flatnonzero(some):
        theirs.envs[lane].reset()
    told = []
    for step, actions in enumerate(actions_for(theirs, 3 * SHORT_HOURS, seed=1)):
        *rest, infos = mine.step(actions)
        *their_rest, their_infos = theirs.step(actions)
        assert_same(rest, their_rest, f"step {step}")
        assert_same(infos, [info if done else {} for info, done in zip(their_infos, rest[2], strict=True)])
        told.append(rest[2].tolist())
    assert some.tolist() in told
    assert (~some).tolist() in told


@every_flat_id
@pytest.mark.parametrize("num_envs", [1, LANES, 64])
def test_nothing_that_was_handed_out_changes_later(case: Case, num_envs: int) -> None:
    kept: list[Any] = []
    for careless in (False, True):
        env = adapter(case, num_envs, seed=0, days_per_episode=2)
        told: list[Any] = [env.reset()]
        copies = [copied(told[0])]
        for actions in actions_for(env, 3 * case.steps_of(2, SHORT_HOURS)):
            told.append(env.step(actions))
            copies.append(copied(told[-1]))
            if careless:  # what a wrapper may do
                observations, rewards, dones, infos = told[-1]
                for values in (observations, rewards, dones):
                    values[...] = 1
                for info in infos:
                    info.setdefault("terminal_observation", np.zeros(1))[...] = 1
        if not careless:
            assert_same(told, copies, "handed out")
        kept.append(copies)
    assert_same(*kept)


def test_the_infos_of_a_step_are_apart() -> None:
    env = adapter(seed=0)
    env.reset()
    (action,) = actions_for(env, 1)
    infos = env.step(action)[3]
    infos[0]["episode"] = {}
    assert infos[1:] == [{}] * (LANES - 1)
    assert env.step(action)[3] == [{}] * LANES


def test_what_all_lanes_were_told_is_there() -> None:
    env, batch = adapter(), REAL_TIME.make_vec(LANES, autoreset_mode="SameStep", **SHORT)
    env.seed(3)
    env.reset()
    assert_same(env.told, batch.reset(seed=3)[1])
    for action in actions_for(env, SHORT_HOURS + 1):
        env.step(action)
        assert_same(env.told, batch.step(action)[4])


# Seeds and options


@every_flat_id
def test_seeds_and_options_hold_for_one_reset(case: Case) -> None:
    mine, theirs = adapter(case, split="test"), dummy(case, split="test")
    rows = mine.get_attr("dataset")[0].days("test").tolist()

    def days(say: Callable[[Any], Any] = lambda _: None) -> list[int]:
        told = []
        for env in (mine, theirs):
            say(env)
            env.reset()
            told.append([info["day"] for info in env.reset_infos])
        assert told[0] == told[1]
        return told[0]

    first = days(lambda env: env.seed(5))
    assert days() != days()
    assert days(lambda env: env.seed(5)) == first
    assert days(lambda env: env.set_options({"day": rows[2]})) == [rows[2]] * LANES
    drawn = [days() for _ in range(4)]
    assert any(each != [rows[2]] * LANES for each in drawn)
    own = [{"day": rows[2]}, {}, {"day": str(mine.get_attr("dataset")[0].dates[rows[0]])}]
    assert days(lambda env: env.set_options(own))[::2] == [rows[2], rows[0]]
    assert own == [{"day": rows[2]}, {}, {"day": str(mine.get_attr("dataset")[0].dates[rows[0]])}]

    def both(env: Any) -> None:
        env.seed(5)
        env.set_options([{}, {"day": rows[1]}, {}])

    assert days(both) == [first[0], rows[1], first[2]]
    days(lambda env: env.set_options())


def test_a_seed_may_be_given_when_it_is_made() -> None:
    env, later = adapter(seed=4), adapter()
    later.seed(4)
    assert_same(env.reset(), later.reset())
    assert env.get_attr("np_random_seed") == [4, 5, 6]
    assert not np.array_equal(adapter().reset(), adapter().reset())  # else each time others


def test_what_a_reset_is_told_wrongly() -> None:
    env = adapter(seed=0)
    first = env.reset()
    for options, line in {
        "unknown": ({"dya": 1}, "option 'dya' is unknown"),
        "mask": ({"reset_mask": np.ones(LANES, np.bool_)}, "option 'reset_mask' is unknown"),
        "row": ({"day": 7}, "day: row 7 .* cannot begin"),
        "number": ([{"day": 8}] * 2, "2 days for 3 lanes"),
    }.values():
        env.set_options(options)
        with pytest.raises(UsageError, match=line):
            env.reset()
    env.set_options()
    env.seed(0)
    assert_same(env.reset(), first)


# What it is made of


def test_an_id_or_a_batch() -> None:
    batch = REAL_TIME.make_vec(LANES, autoreset_mode="SameStep", **SHORT)
    named, given = adapter(seed=1), SB3VecEnv(batch, seed=1)
    assert_same(named.reset(), given.reset())
    (action,) = actions_for(named, 1)
    assert_same(named.step(action), given.step(action))
    assert named.spec.id == REAL_TIME.id
    assert given.spec is None


def test_what_it_is_made_of_wrongly() -> None:
    make = REAL_TIME.make_vec
    same = {**SHORT, "autoreset_mode": "SameStep"}
    two_stage = IDS[0].make_vec(2, **same)
    for line, arguments, kwargs in (
        ("TwoStage-v0 has a dict as its action; .* ProsumerGym/RealTime-v0", ("ProsumerGym/TwoStage-v0", 2), SHORT),
        ("TwoStageVectorEnv has dicts .* ProsumerGym/RealTime-v0", (two_stage,), {}),
        ("RealTyme-v0 is unknown; .* ProsumerGym/RealTime-v0", ("ProsumerGym/RealTyme-v0", 2), {}),
        ("CartPole-v1 is unknown", ("CartPole-v1", 2), {}),
        ("a RealTimeEnv is neither an id nor a batch", (REAL_TIME.make(**SHORT),), {}),
        ("a int is neither an id nor a batch", (3,), {}),
        ("autoreset_mode is NextStep; make it with SameStep", (make(2, **SHORT),), {}),
        ("copy: .* leave it True", (make(2, copy=False, **same),), {}),
        ("copy: .* leave it True", (REAL_TIME.id, 2), {"copy": False, **SHORT}),
        ("num_envs: the batch is made already", (make(2, **same), 2), {}),
        ("split: the batch is made already", (make(2, **same),), {"split": "dev"}),
        ("num_envs: None must be a whole number", (REAL_TIME.id,), SHORT),
        ("num_envs: 0 must be a whole number", (REAL_TIME.id, 0), SHORT),
        ("split 'lead-out' is unknown", (REAL_TIME.id, 2), {**SHORT, "split": "lead-out"}),
        ("render_mode: 'human' is unknown", (REAL_TIME.id, 2), {**SHORT, "render_mode": "human"}),
    ):
        with pytest.raises(UsageError, match=line) as raised:
            SB3VecEnv(*arguments, **kwargs)
        assert "\n" not in str(raised.value)


def test_a_missing_library_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prosumer_gym.envs.sb3")
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env.base_vec_env", None)
    with pytest.raises(UsageError, match=r"needs Stable-Baselines3 .*; run pip install '\.\[rl\]'") as raised:
        importlib.import_module("prosumer_gym.envs.sb3")
    assert "\n" not in str(raised.value)


def test_nothing_else_loads_the_library() -> None:
    code = (
        "import sys, gymnasium, prosumer_gym, prosumer_gym.envs, prosumer_gym.cli\n"
        f"gymnasium.make({REAL_TIME.id!r}); gymnasium.make_vec({DAY_AHEAD.id!r}, num_envs=2)\n"
        "print(sorted({'torch', 'stable_baselines3', 'pettingzoo'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_order_and_bad_actions() -> None:
    env = adapter(seed=0)
    (action,) = actions_for(env, 1)
    with pytest.raises(ResetNeeded):
        env.step(action)
    env.reset()
    twin = pickle.loads(pickle.dumps(env))
    nan = action.copy()
    nan[1, 0] = np.nan
    for wrong, line in ((nan, "lane 1, battery of prosumer 0 is NaN"), (action[:2], "action: shape")):
        with pytest.raises(UsageError, match=line):
            env.step(wrong)
    assert_same(env.step(action), twin.step(action))
    env.close()
    env.close()


@every_flat_id
def test_a_copy_that_travelled_goes_on(case: Case) -> None:
    env = adapter(case, seed=2, days_per_episode=2)
    env.reset()
    first, *later = actions_for(env, 2 * case.steps_of(2, SHORT_HOURS))
    env.step(first)
    env.set_attr("label", "a")
    env.set_options({"day": int(env.get_attr("dataset")[0].days("train")[1])})
    twin = pickle.loads(pickle.dumps(env))
    for step, action in enumerate(later):
        assert_same(env.step(action), twin.step(action), f"step {step}")
    assert_same(env.reset(), twin.reset())
    assert_same(env.reset_infos, twin.reset_infos)
    assert twin.get_attr("label") == ["a"] * LANES


# Attributes and methods


@every_flat_id
def test_attributes_are_those_of_single_environments(case: Case) -> None:
    mine, theirs = adapter(case), dummy(case)
    for env in (mine, theirs):
        env.seed(9)
        env.reset()
    for name in ("render_mode", "layout", "observation_space", "action_space", "np_random_seed", "community"):
        one, two = mine.get_attr(name), theirs.get_attr(name)
        assert len(one) == LANES
        assert one == two or name == "community", name
        assert mine.get_attr(name, 1) == one[1:2]
        assert mine.get_attr(name, [2, -1]) == [one[2]] * 2
    states = [[rng.bit_generator.state for rng in env.get_attr("np_random")] for env in (mine, theirs)]
    assert states[0] == states[1]
    for name in ("action_masks", "compute_reward"):
        assert not mine.has_attr(name)
        assert not theirs.has_attr(name)
    with pytest.raises(IndexError):
        mine.get_attr("layout", LANES)


def test_labels_of_lanes() -> None:
    env = adapter()
    env.set_attr("label", "a", indices=[0, 2])
    assert env.get_attr("label", indices=[2, 0]) == ["a", "a"]
    assert not env.has_attr("label")
    with pytest.raises(AttributeError, match="lane 1 has no attribute 'label'"):
        env.get_attr("label")
    env.set_attr("label", "b")
    assert env.get_attr("label") == ["b"] * LANES
    for name in ("dataset", "layout", "num_envs", "observation_space", "np_random"):
        with pytest.raises(UsageError, match=f"set_attr: {name} is the environment's and fixed"):
            env.set_attr(name, 3)


def test_methods_and_wrappers() -> None:
    env = adapter()
    assert env.env_method("render", indices=[0, 2]) == [None, None]
    for method in ("step", "reset", "close", "no_such"):
        with pytest.raises(UsageError, match=f"env_method: .* cannot run {method} one by one"):
            env.env_method(method)
    assert env.env_is_wrapped(Monitor) == [False] * LANES
    assert env.env_is_wrapped(Monitor, indices=1) == [False]
    assert env.unwrapped is VecMonitor(env).unwrapped


def test_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    env, theirs = (make(num_envs=2, render_mode="rgb_array") for make in (adapter, functools.partial(dummy, REAL_TIME)))
    (action,) = actions_for(env, 1)
    for each in (env, theirs):
        each.seed(0)
        each.reset()
        each.step(action)
    images = env.batch.render()
    monkeypatch.setattr(env.batch, "render", lambda: images)  # a picture takes time
    assert_same(env.env_method("render", indices=[1]), theirs.env_method("render", indices=[1]))
    assert env.get_images() == images
    assert_same(env.render(), tile_images(images))
    with pytest.warns(UserWarning, match="no pictures without a render_mode"):
        assert list(adapter().get_images()) == [None] * LANES


# With the library's wrappers and learners


@every_flat_id
def test_their_wrappers_report_and_normalise_the_same(case: Case, tmp_path: Path) -> None:
    note = ("community_cost_ct",)
    mine, theirs = (
        VecNormalize(VecMonitor(env, str(tmp_path / name), info_keywords=note), gamma=0.99)
        for name, env in (("mine", adapter(case)), ("theirs", dummy(case)))
    )
    for env in (mine, theirs):
        env.seed(0)
    assert_same(mine.reset(), theirs.reset())
    for action in actions_for(mine, 3 * case.steps_of(1, SHORT_HOURS)):
        one, two = mine.step(action), theirs.step(action)
        for lane, done in enumerate(one[2]):
            if done:
                for info in (one[3][lane], two[3][lane]):
                    del info["episode"]["t"]  # wall-clock time
                assert_same(one[3][lane], two[3][lane])
        assert_same(one[:3], two[:3])
    assert f'"env_id": "{case.id}"' in (tmp_path / "mine.monitor.csv").read_text()
    for env in (mine, theirs):
        env.close()


def test_a_normaliser_travels_with_its_model(tmp_path: Path) -> None:
    env = VecNormalize(VecMonitor(adapter(seed=0)), gamma=0.99)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=24, n_epochs=1, device="cpu", seed=0).learn(48)
    model.save(tmp_path / "model.zip")
    env.save(str(tmp_path / "normaliser.pkl"))
    again = VecNormalize.load(str(tmp_path / "normaliser.pkl"), VecMonitor(adapter(split="dev")))
    again.training, again.norm_reward = False, False
    loaded = PPO.load(tmp_path / "model.zip", env=again, device="cpu")
    raw = adapter(seed=5, split="dev")
    again.seed(5)  # the model has given it its own
    seen, plain = again.reset(), raw.reset()
    np.testing.assert_array_equal(seen, env.normalize_obs(plain))
    assert not np.array_equal(seen, plain)
    action, _ = loaded.predict(seen, deterministic=True)
    np.testing.assert_array_equal(action, model.predict(env.normalize_obs(plain), deterministic=True)[0])
    mean, _ = evaluate_policy(loaded, again, n_eval_episodes=LANES, deterministic=True, warn=True)
    assert mean < 0.0  # ct, not normalised


def trained(algorithm: Any, env: Any, steps: int, **settings: Any) -> Any:
    env = VecNormalize(VecMonitor(env), gamma=0.99)
    model = algorithm("MlpPolicy", env, device="cpu", seed=0, policy_kwargs={"net_arch": [16]}, **settings)
    return model.learn(steps)


def assert_same_learner(one: Any, two: Any) -> None:
    for name, values in one.policy.state_dict().items():
        assert torch.equal(values, two.policy.state_dict()[name]), name
    assert [each["r"] for each in one.ep_info_buffer] == [each["r"] for each in two.ep_info_buffer]


@every_flat_id
def test_ppo_learns_the_same_on_it_as_on_single_environments(case: Case) -> None:
    settings = {"n_steps": 16, "batch_size": 24, "n_epochs": 2}
    models = [trained(PPO, env(case), 240, **settings) for env in (adapter, dummy)]
    assert_same_learner(*models)
    assert len(models[0].ep_info_buffer) >= 20


def test_sac_learns_the_same_on_it_as_on_single_environments() -> None:
    settings = {"learning_starts": 60, "batch_size": 32, "train_freq": 4, "gradient_steps": 2, "buffer_size": 1000}
    models = [trained(SAC, env(REAL_TIME), 300, **settings) for env in (adapter, dummy)]
    assert_same_learner(*models)
    buffers = [model.replay_buffer for model in models]
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        assert_same(getattr(buffers[0], name), getattr(buffers[1], name), name)
    assert buffers[0].handle_timeout_termination
    assert not buffers[0].timeouts.any()  # the horizon is inherent: nothing is worth anything after it
    assert buffers[0].dones.any()


def test_the_reward_of_an_episode_is_told_to_the_callback() -> None:
    env = VecMonitor(adapter(seed=0))
    env.reset()
    total = np.zeros(LANES, np.float32)
    for action in actions_for(env, SHORT_HOURS):
        _, rewards, dones, infos = env.step(action)
        total += rewards
    assert dones.all()
    assert [info["episode"]["r"] for info in infos] == total.tolist()
    assert [info["episode"]["l"] for info in infos] == [SHORT_HOURS] * LANES
