"""What a step of one agent a prosumer costs beside the same step of TwoStage, and where the time goes.

    python benchmarks/parallel.py [--rounds 15] [--profile] [--write]

Days of random actions of ten prosumers, resets included, on one thread. In every round each contestant takes a turn;
figures are medians of the rounds in processor time, ratios medians of the ratios within a round. `--profile` prints
where the time of a step goes instead. `--write` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
from collections.abc import Callable
from typing import Any

import numpy as np
from pages import machine, markdown, publish, significant
from real_time import seconds_in_turns  # the benchmark of that name, next to this file

from prosumer_gym.envs import TwoStageEnv
from prosumer_gym.envs.parallel import parallel_env

STEPS = 25
TWO_STAGE = "`TwoStageEnv`, one policy"
CONTESTANTS: dict[str, dict[str, Any]] = {
    "`parallel_env`, ten agents": {},
    "`parallel_env(flat=False)`, ten agents": {"flat": False},
}


def day_of_one() -> Callable[[], None]:
    """A reset and the steps of a day of TwoStage."""
    env = TwoStageEnv()
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(STEPS)]

    def day() -> None:
        env.reset()
        for action in actions:
            env.step(action)

    return day


def day_of_many(**kwargs: Any) -> Callable[[], None]:
    """The same of ten agents."""
    env = parallel_env(**kwargs)
    for n, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(n)
    actions = [{agent: env.action_space(agent).sample() for agent in env.possible_agents} for _ in range(STEPS)]

    def day() -> None:
        env.reset()
        for joint in actions:
            env.step(joint)

    return day


def profile() -> None:
    """Where the time of a step goes."""
    day = day_of_many()
    day()
    with cProfile.Profile() as watched:
        for _ in range(200):
            day()
    pstats.Stats(watched).sort_stats("tottime").print_stats(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    arguments = parser.parse_args()
    if arguments.profile:
        return profile()
    plays = {TWO_STAGE: day_of_one(), **{name: day_of_many(**kwargs) for name, kwargs in CONTESTANTS.items()}}
    seconds = seconds_in_turns(plays, arguments.rounds)
    rows = []
    for name, days in seconds.items():
        times = significant(float(np.median(days / seconds[TWO_STAGE])), 2)
        rows.append((name, times, *(significant(1e6 * float(each) / STEPS) for each in (np.median(days), days.min()))))
    table = markdown(("environment", "times TwoStage", "us a step, resets included", "best round"), rows)
    how = f"{machine()}; medians of {arguments.rounds} rounds, one thread."
    publish("performance.md", "parallel", f"{table}\n\n{how}", into_page=arguments.write)
    return None


if __name__ == "__main__":
    main()
