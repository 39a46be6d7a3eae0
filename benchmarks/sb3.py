"""How fast PPO learns on the native batch, beside the same PPO on worker processes with one environment each.

    python benchmarks/sb3.py [--rounds 5] [--threads 1] [--write]

RealTime; Stable-Baselines3's PPO with two layers of 64, rollouts of 16,384 steps, minibatches of 4,096, 4 epochs,
observations and rewards normalised: once on `SB3VecEnv` with 256 environments, once on `SubprocVecEnv` with 8. Both
learn from as many steps and update as often. In every round each takes a turn of one rollout and its update; figures
are medians of the rounds in wall-clock time, for the workers are processes of their own, ratios medians of the ratios
within a round. `--threads` is Torch's number of threads. `--write` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from pages import machine, markdown, publish, significant
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper, VecNormalize

import prosumer_gym  # noqa: F401  (registers the environments)
from prosumer_gym.arrays import FloatArray
from prosumer_gym.envs.sb3 import SB3VecEnv

ID = "ProsumerGym/RealTime-v0"
ROLLOUT, MINIBATCH, EPOCHS, LAYERS = 16_384, 4_096, 4, [64, 64]
NATIVE, WORKERS = 256, 8


class Timed(VecEnvWrapper):
    """Adds up the seconds in which the learner waits for its environments."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.seconds = 0.0
        self._start = 0.0

    def reset(self) -> Any:  # noqa: D102 - as the wrapper's, like the next two
        return self.venv.reset()

    def step_async(self, actions: Any) -> None:  # noqa: D102
        self._start = time.perf_counter()
        self.venv.step_async(actions)

    def step_wait(self) -> Any:  # noqa: D102
        told = self.venv.step_wait()
        self.seconds += time.perf_counter() - self._start
        return told


class Contestant:
    """One PPO on its environments; a turn is a rollout and the update that follows."""

    def __init__(self, environments: VecEnv) -> None:
        self.timed = Timed(environments)
        self.model = PPO(
            "MlpPolicy", VecNormalize(self.timed, gamma=0.99), n_steps=ROLLOUT // environments.num_envs,
            batch_size=MINIBATCH, n_epochs=EPOCHS, policy_kwargs={"net_arch": LAYERS}, device="cpu", seed=0,
        )  # fmt: skip

    def turn(self) -> tuple[float, float]:
        """Seconds altogether, and those in the environments."""
        before, start = self.timed.seconds, time.perf_counter()
        self.model.learn(ROLLOUT, reset_num_timesteps=False)
        return time.perf_counter() - start, self.timed.seconds - before


def seconds_of_rounds(contestants: dict[str, Contestant], rounds: int) -> dict[str, FloatArray]:
    """Seconds of a turn, altogether and in the environments, for each contestant [round, 2]; the first is left out."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(1 + rounds):
        for name, contestant in contestants.items():
            seconds[name].append(contestant.turn())
    return {name: np.array(turns[1:]) for name, turns in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of Torch")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    native, workers = f"`SB3VecEnv`, {NATIVE} environments", f"`SubprocVecEnv`, {WORKERS} environments"
    contestants = {
        native: Contestant(SB3VecEnv(ID, NATIVE)),
        workers: Contestant(SubprocVecEnv([functools.partial(gymnasium.make, ID)] * WORKERS)),
    }
    seconds = seconds_of_rounds(contestants, arguments.rounds)
    for contestant in contestants.values():
        contestant.timed.close()
    rows = []
    for name, each in seconds.items():
        whole, share = np.median(each[:, 0]), np.median(each[:, 1] / each[:, 0])
        rows.append((
            f"PPO on {name}",
            significant(float(np.median(seconds[workers][:, 0] / each[:, 0])), 2),
            significant(ROLLOUT / float(whole)),
            significant(100.0 * float(share), 2),
            significant(1e6 * float(np.median(each[:, 1])) / ROLLOUT),
        ))  # fmt: skip
    head = ("learner", "times as fast", "steps/s", "% of it in the environments", "us a step in the environments")
    words = f"{machine()}; medians of {arguments.rounds} rounds, {arguments.threads} thread(s) of Torch."
    publish("performance.md", "sb3", f"{markdown(head, rows)}\n\n{words}", into_page=arguments.write)


if __name__ == "__main__":
    main()
