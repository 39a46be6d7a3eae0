"""The same seed and the same actions give the same bits: in any company, on any threads, after any journey."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import pickle
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
from contract_cases import (
    IDS,
    SHORT_HOURS,
    Case,
    assert_same,
    copied,
    every_case,
    every_id,
    lanes_of,
    random_action,
    short_days,
)
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from prosumer_gym.envs import action, observation, two_stage

SHORT = short_days()
BATCH, SEED = 700, 30
JOURNEYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "cloudpickle": lambda env: pickle.loads(cloudpickle.dumps(env)),
    "deepcopy": copy.deepcopy,
}


def played(case: Case, seeds: list[int], actions: list[Any], threads: int = 1) -> list[Any]:
    """All that is handed out; lanes restart in the step that ends them."""
    env = case.make_vec(len(seeds), autoreset_mode="SameStep", threads=threads, days_per_episode=2, **SHORT)
    return [copied(env.reset(seed=seeds)), *(copied(env.step(action)) for action in actions)]


def of_lanes(told: Any, lanes: Any) -> Any:
    """Some lanes of all that is handed out."""
    if isinstance(told, tuple | list):
        return type(told)(of_lanes(part, lanes) for part in told)
    return {key: of_lanes(part, lanes) for key, part in told.items()} if isinstance(told, dict) else told[lanes]


@every_case
def test_neither_company_nor_place_nor_threads_change_a_bit(case: Case) -> None:
    rng, steps = np.random.default_rng(0), case.steps_of(2, SHORT_HOURS) + 2
    space = case.make_vec(BATCH, **SHORT).action_space
    actions = [random_action(space, rng) for _ in range(steps)]
    seeds = list(range(SEED, SEED + BATCH))
    all_of_them = played(case, seeds, actions)
    for threads in (2, 3):
        assert_same(played(case, seeds, actions, threads), all_of_them, f"{threads} threads")
    for lanes in ([0], [63], [699], [699, 0, 65, 350, 64]):
        few = played(case, [seeds[lane] for lane in lanes], [lanes_of(action, lanes) for action in actions])
        assert_same(few, of_lanes(all_of_them, lanes), f"lanes {lanes}")


@every_case
@pytest.mark.parametrize("journey", JOURNEYS.values(), ids=JOURNEYS)
@pytest.mark.parametrize("num_envs", [None, 3])
def test_after_a_journey_in_the_middle_of_an_episode_it_goes_on(
    case: Case, journey: Callable[[Any], Any], num_envs: int | None
) -> None:
    arguments = {**SHORT, "days_per_episode": 2}
    env = case.make(**arguments) if num_envs is None else case.make_vec(num_envs, **arguments)
    rng, steps = np.random.default_rng(1), case.steps_of(2, SHORT_HOURS)
    env.reset(seed=5)
    for _ in range(steps // 2):
        env.step(random_action(env.action_space, rng))
    env.action_space.seed(3)
    twin = journey(env)
    assert (twin.observation_space, twin.action_space, twin.metadata) == (
        env.observation_space,
        env.action_space,
        env.metadata,
    )
    assert_same(twin.action_space.sample(), env.action_space.sample(), "sample")
    for step in range(3 * steps):
        action = random_action(env.action_space, rng)
        mine = env.step(action)
        kept = copied(mine)
        theirs = twin.step(action)
        assert_same(theirs, mine, f"step {step}")
        assert_same(mine, kept, f"step {step}, after the twin's")  # they share nothing that is written to
        if num_envs is None and mine[2]:
            assert_same(twin.reset(), env.reset(), f"reset after step {step}")


@every_case
def test_a_journey_before_the_first_reset_or_after_the_end(case: Case) -> None:
    env, rng = case.make(**SHORT), np.random.default_rng(2)
    env = JOURNEYS["pickle"](env)
    env.reset(seed=1)
    while not env.step(random_action(env.action_space, rng))[2]:
        pass
    twin = JOURNEYS["pickle"](env)
    assert_same(twin.reset(), env.reset(), "reset")


@every_id
def test_gymnasiums_worker_processes_play_the_same(case: Case) -> None:
    # started anew, without anything of this process: what a user of Windows or macOS has, and all have from Python 3.14
    makers = [functools.partial(case.make, **SHORT)]
    workers, here = AsyncVectorEnv(makers, context="spawn"), SyncVectorEnv(makers)
    try:
        rng = np.random.default_rng(0)
        assert_same(workers.reset(seed=3), here.reset(seed=3), "reset")
        for step in range(case.steps_of(1, SHORT_HOURS) + 3):
            actions = random_action(here.action_space, rng, spread=1.0)
            assert_same(workers.step(actions), here.step(actions), f"step {step}")
    finally:
        workers.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows forks no processes")
@every_id
def test_a_forked_process_goes_on_with_threads_of_its_own(case: Case) -> None:
    env = case.make_vec(300, threads=2, **SHORT)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    actions = [random_action(env.action_space, rng) for _ in range(4)]
    env.step(actions[0])  # the parent's threads exist
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def child() -> None:
        there.send([env.step(action)[1] for action in actions[1:]])

    process = context.Process(target=child)
    process.start()
    try:
        assert here.poll(60), "the forked process does not answer"
        rewards = here.recv()
    finally:
        process.kill()
        process.join()
    assert_same(rewards, [env.step(action)[1] for action in actions[1:]], "rewards")


def test_the_machine_code_is_made_once_for_all() -> None:
    """One or many lanes, a copy that travelled, an action that may not be written to: nothing is compiled again."""
    case, rng = IDS[0], np.random.default_rng(0)
    for env in (case.make(**SHORT), case.make_vec(5, **SHORT), case.make_vec(300, **SHORT)):
        for each in (env, JOURNEYS["pickle"](env)):
            each.reset(seed=0)
            for _ in range(2):
                parts = random_action(each.action_space, rng)
                for values in parts.values():
                    values.setflags(write=False)
                each.step(parts)
    assert all(argument.mutable for types in action._read.signatures for argument in types[:8])
    for kernel in (observation._open_day, observation._reveal_hour, observation._commit, two_stage._split):
        assert len(kernel.signatures) == 1, kernel
