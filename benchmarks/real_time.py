"""Speed and memory of the environments as users make them, beside lightsim2grid's bare power flow of the same feeder.

    pip install lightsim2grid pandapower
    python benchmarks/real_time.py [--rounds 15] [--write]

RealTime is played in batches through `gymnasium.make_vec`, whole days of random actions, resets included, on one
thread; observations are the user's own (`copy=True`, the default). In every round each batch, the single environments
and lightsim2grid take a turn; figures are medians of the rounds in processor time, ratios medians of the ratios within
a round. Without lightsim2grid the ratios are left out. `--write` puts the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from pages import machine, markdown, publish, significant
from simulator import single_solve  # the benchmark of that name, next to this file

import prosumer_gym  # noqa: F401  (registers the environments)
from prosumer_gym.arrays import FloatArray
from prosumer_gym.scenarios import make_scenario

BATCHES = (1, 16, 64, 256, 1024, 4096)
HOURS = 24
PEER = "lightsim2grid"
TURN_SECONDS = 0.02

Play = Callable[[], Any]


def random_actions(space: gymnasium.Space[Any]) -> list[Any]:
    """A day of them, drawn beforehand."""
    space.seed(0)
    return [space.sample() for _ in range(HOURS + 1)]


def day_of_many(name: str, num_envs: int) -> Play:
    """A day in every lane; the last call is the reset, which ignores the action."""
    envs = gymnasium.make_vec(f"ProsumerGym/{name}-v0", num_envs=num_envs)
    actions = random_actions(envs.action_space)
    envs.reset(seed=0)

    def play() -> None:
        for action in actions:
            envs.step(action)

    return play


def days_of_one(name: str, *, steps: int, num_days: int) -> Play:
    """A reset and an episode of the environment as `gymnasium.make` gives it; `steps` of a day."""
    env = gymnasium.make(f"ProsumerGym/{name}-v0", days_per_episode=num_days)
    actions = random_actions(env.action_space)[:steps] * num_days

    def play() -> None:
        env.reset()
        for action in actions:
            env.step(action)

    return play


def seconds_in_turns(contestants: dict[str, Play], rounds: int) -> dict[str, FloatArray]:
    """Seconds a call of each contestant in each round."""

    def turn(play: Play, calls: int) -> float:
        start = time.process_time()
        for _ in range(calls):
            play()
        return (time.process_time() - start) / calls

    calls = {name: 1 + int(TURN_SECONDS / min(turn(play, 1) for _ in range(3))) for name, play in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, play in contestants.items():
            seconds[name].append(turn(play, calls[name]))
    return {name: np.array(values) for name, values in seconds.items()}


def bytes_a_lane(num_envs: int) -> float:
    """Memory that one more lane takes, observation, results and info included: a batch twice as large, minus one."""

    def held(lanes: int) -> int:
        tracemalloc.start()
        envs = gymnasium.make_vec("ProsumerGym/RealTime-v0", num_envs=lanes)
        envs.reset(seed=0)
        kept = envs.step(np.zeros(envs.action_space.shape, np.float32))
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 5
        return size

    return (held(2 * num_envs) - held(num_envs)) / num_envs


def report(rounds: int) -> str:
    """All tables in Markdown."""
    many = {f"{batch}": day_of_many("RealTime", batch) for batch in BATCHES}
    steps = {"RealTime": HOURS, "TwoStage": HOURS + 1}
    kinds = {f"{name}, episodes of {days} d": (name, days) for name in steps for days in (1, 30)}
    one = {kind: days_of_one(name, steps=steps[name], num_days=days) for kind, (name, days) in kinds.items()}
    contestants = {**many, **one}
    try:
        contestants[PEER] = single_solve(make_scenario("ieee33").feeder)
    except ImportError as error:
        print(f"{PEER}: not here ({error})", file=sys.stderr)
    seconds = seconds_in_turns(contestants, rounds)
    peer = seconds.get(PEER)
    batches = []
    for batch in BATCHES:
        each = seconds[f"{batch}"] / (HOURS * batch)
        ratio = "-" if peer is None else significant(float(np.median(peer / each)), 2)
        whole, rate = 1e6 * np.median(each) * batch, 1e-6 / np.median(each)
        batches.append((f"{batch}", ratio, significant(1e6 * np.median(each)), significant(whole), significant(rate)))
    in_one_solve = f"steps in one solve of {PEER}"
    head = ("environments at once", in_one_solve, "us a step and environment", "us a call", "million steps/s")
    singles = []
    for kind, (name, days) in kinds.items():
        each = seconds[kind] / (steps[name] * days)
        ratio = "-" if peer is None else significant(float(np.median(peer / each)), 2)
        singles.append((kind, ratio, significant(1e6 * float(np.median(each))), significant(1e6 * float(each.min()))))
    words = [] if peer is None else [f"One bare power flow of {PEER} took {1e6 * np.median(peer):.1f} us."]
    words.append(f"One more environment in a batch takes {bytes_a_lane(1024) / 1000:.1f} kB.")
    words.append(f"{machine()}; medians of {rounds} rounds, one thread.")
    tables = [
        markdown(head, batches),
        markdown(("one environment", in_one_solve, "us a step, resets included", "best round"), singles),
    ]
    return "\n\n".join((*tables, " ".join(words)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of the peer and its dependencies
    text = report(arguments.rounds)
    publish("performance.md", "real_time", text, into_page=arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
