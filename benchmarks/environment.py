"""What a step of the environment costs beside the simulator's hour, as ratios of processor time in one run.

Run: python benchmarks/environment.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from prosumer_gym.envs import TwoStageEnv, TwoStageVectorEnv
from prosumer_gym.simulator import Simulator


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Best of five, processor time of this thread, for one call."""
    work()
    best = np.inf
    for _ in range(5):
        start = time.thread_time()
        for _ in range(repeats):
            work()
        best = min(best, (time.thread_time() - start) / repeats)
    return best


def day_of(env: TwoStageEnv | TwoStageVectorEnv) -> Callable[[], None]:
    """A reset and the steps of a day of doing nothing."""
    rest = {name: np.zeros(space.shape) for name, space in env.action_space.items()}

    def day() -> None:
        env.reset()
        for _ in range(25):
            env.step(rest)

    return day


def simulated_day(env: TwoStageEnv | TwoStageVectorEnv, num_lanes: int) -> Callable[[], None]:
    """The same in the simulator alone."""
    community = env.game.community
    simulator = Simulator(community, env.game.dataset.exogenous, num_lanes)
    by_prosumer, offers = np.zeros((community.num_prosumers, num_lanes)), np.zeros((2 * community.num_edges, num_lanes))
    position = np.zeros((community.num_prosumers, community.hours_per_day, num_lanes))

    def day() -> None:
        simulator.reset(env.game.first_days[0])
        simulator.commit(position)
        for _ in range(community.hours_per_day):
            simulator.step(by_prosumer, by_prosumer, by_prosumer, offers)

    return day


if __name__ == "__main__":
    single = TwoStageEnv()
    cases: list[tuple[str, TwoStageEnv | TwoStageVectorEnv, int, int]] = [("single", single, 1, 60)]
    for lanes in (64, 1024):
        for copy in (True, False):
            label = f"{lanes} lanes, {'own arrays' if copy else 'shared arrays'}"
            cases.append((label, TwoStageVectorEnv(lanes, copy=copy), lanes, 2))
    base = seconds(day_of(single), 60)
    print(f"{'':28}{'us a step':>10}{'x simulator':>13}{'x single':>10}")
    for label, env, lanes, repeats in cases:
        whole = seconds(day_of(env), repeats)
        alone = seconds(simulated_day(env, lanes), repeats)
        print(f"{label:28}{whole / 25 / lanes * 1e6:10.2f}{whole / alone:13.2f}{whole / lanes / base:10.3f}")
