"""What a step of TwoStage costs beside the simulator's hours, one and many at once, with and without copies.

    python benchmarks/environment.py [--rounds 9] [--write]

Days of doing nothing, resets included, on one thread. In every round each contestant takes a turn; figures are medians
of the rounds in processor time, ratios medians of the ratios within a round. `--write` puts the table into
docs/performance.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from pages import machine, markdown, publish, significant
from real_time import seconds_in_turns  # the benchmark of that name, next to this file

from prosumer_gym.envs import TwoStageEnv, TwoStageVectorEnv
from prosumer_gym.simulator import Simulator

STEPS = 25
CASES = ((1, True), (64, True), (64, False), (1024, True), (1024, False))
"""Environments at once, and whether observations are copied; one alone is `TwoStageEnv`."""


def day_of(env: TwoStageEnv | TwoStageVectorEnv) -> Callable[[], None]:
    """A reset and the steps of a day of doing nothing."""
    rest = {name: np.zeros(space.shape) for name, space in env.action_space.items()}

    def day() -> None:
        env.reset()
        for _ in range(STEPS):
            env.step(rest)

    return day


def simulated_day(num_lanes: int) -> Callable[[], None]:
    """The same in the simulator alone."""
    game = TwoStageEnv().game
    community = game.community
    simulator = Simulator(community, game.dataset.exogenous, num_lanes)
    by_prosumer = np.zeros((community.num_prosumers, num_lanes))
    offers = np.zeros((community.num_offers, num_lanes))
    position = np.zeros((community.num_prosumers, community.hours_per_day, num_lanes))

    def day() -> None:
        simulator.reset(game.first_days[0])
        simulator.commit(position)
        for _ in range(community.hours_per_day):
            simulator.step(by_prosumer, by_prosumer, by_prosumer, offers)

    return day


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    arguments = parser.parse_args()
    contestants: dict[str, Callable[[], None]] = {}
    for lanes, copy in CASES:
        env = TwoStageEnv() if lanes == 1 else TwoStageVectorEnv(lanes, copy=copy)
        contestants[f"{lanes} {copy}"] = day_of(env)
        contestants[f"{lanes} alone"] = simulated_day(lanes)
    seconds = seconds_in_turns(contestants, arguments.rounds)
    rows = []
    for lanes, copy in CASES:
        days, alone = seconds[f"{lanes} {copy}"], seconds[f"{lanes} alone"]
        name = "one (`TwoStageEnv`)" if lanes == 1 else f"{lanes} (`TwoStageVectorEnv`), `copy={copy}`"
        each = 1e6 * float(np.median(days)) / STEPS / lanes
        rows.append((name, significant(each), significant(float(np.median(days / alone)), 2)))
    table = markdown(("environments", "us a step and environment", "times the simulator alone"), rows)
    how = f"{machine()}; medians of {arguments.rounds} rounds, one thread."
    publish("performance.md", "environment", f"{table}\n\n{how}", into_page=arguments.write)


if __name__ == "__main__":
    main()
