"""A tiny board, and policies that behave and misbehave on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import tiny_dataset

from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.scenarios import make_scenario

PLAYERS = '''
"""Policies for tests."""
import os
import time

import numpy as np


class Still:
    """Leaves everything alone; `change` is what kinds alter."""

    def fit(self, community, history):
        self.community = community
        self.days = history.num_days

    def reset(self, seed):
        self.rng = np.random.default_rng(seed)

    def act(self, obs):
        N, H, E = self.community.num_prosumers, self.community.hours_per_day, self.community.num_edges
        action = {
            "day_ahead": np.full((N, H), 0.1), "battery": np.zeros(N), "shiftable": np.zeros(N),
            "curtail": np.zeros(N), "trade": np.zeros(2 * E),
        }
        return self.change(action, obs)

    def change(self, action, obs):
        return action


class Noisy(Still):
    def change(self, action, obs):
        action["battery"] = self.rng.uniform(-1, 1, len(action["battery"]))
        action["trade"] = self.rng.uniform(-1, 1, len(action["trade"]))
        return action


class TwoStage(Still):
    def __init__(self, mode):
        self.mode = mode


class Beyond(Still):
    """Two numbers beyond [-1, 1] in every hour, and NH of the part that only the gate reads."""

    def change(self, action, obs):
        action["battery"][:2] = [7.0, -np.inf]
        action["day_ahead"] *= 100.0
        return action


class Once(Still):
    """Fails at 05:00 of every day, in a way set by `how`."""

    how = "raise"

    def change(self, action, obs):
        if obs["stage"][0] == 1 and obs["hour"][0] == 5:
            if self.how == "raise":
                raise ValueError("no idea\\nwhat to do")
            if self.how == "nan":
                action["trade"][3] = np.nan
            if self.how == "shape":
                action["curtail"] = np.zeros(3)
            if self.how == "missing":
                del action["battery"]
            if self.how == "unknown":
                action["heater"] = np.zeros(2)
            if self.how == "text":
                action["battery"] = ["much"] * len(action["battery"])
            if self.how == "none":
                return None
            if self.how == "exit":
                raise SystemExit("enough")
            if self.how == "wreck":  # spoils what it was given before it fails
                for value in obs.values():
                    value[...] = np.nan
                raise ValueError("spoilt")
        return action


class OnceNan(Once):
    how = "nan"


class OnceShape(Once):
    how = "shape"


class OnceMissing(Once):
    how = "missing"


class OnceUnknown(Once):
    how = "unknown"


class OnceText(Once):
    how = "text"


class OnceNone(Once):
    how = "none"


class OnceExit(Once):
    how = "exit"


class OnceWreck(Once):
    how = "wreck"


class Sunny(Still):
    """Sells what PV there was yesterday at 11:00 and in its training at 12:00, on average; curtails half."""

    def fit(self, community, history):
        super().fit(community, history)
        self.mean_kw = history.pv_kw[history.is_training, 12].mean(axis=0)

    def change(self, action, obs):
        limit_kw = self.community.fleet.position_limit_kw
        action["day_ahead"][:, 11] = -obs["past_pv_kw"][-1, 11] / limit_kw
        action["day_ahead"][:, 12] = -self.mean_kw / limit_kw
        action["curtail"][:] = 0.5
        return action


class NoFit(Still):
    def fit(self, community, history):
        raise RuntimeError("out of\\ntune")


class NoReset(Still):
    def reset(self, seed):
        raise RuntimeError("cannot start")


class ExitFit(Still):
    def fit(self, community, history):
        raise SystemExit(0)


class ExitReset(Still):
    def reset(self, seed):
        raise SystemExit(0)


class Hungry(Still):
    def __init__(self, weights):
        self.weights = weights


class Unsendable(Still):
    def fit(self, community, history):
        super().fit(community, history)
        self.handle = lambda: None


class Dies(Still):
    """Takes its process with it."""

    def act(self, obs):
        os._exit(9)


class Slow(Still):
    """A fifth of a second a day, and a line in a file for every day that is begun."""

    def reset(self, seed):
        super().reset(seed)
        with open(os.environ["SLOW_LOG"], "a") as log:
            log.write(f"{seed}\\n")
        time.sleep(0.2)


class Interrupted(Still):
    """Ctrl-C on its third day."""

    days = 0

    def fit(self, community, history):
        super().fit(community, history)
        self.begun = 0

    def reset(self, seed):
        super().reset(seed)
        self.begun += 1
        if self.begun == 3:
            raise KeyboardInterrupt


class Fills(Still):
    """Charges whatever fits."""

    def change(self, action, obs):
        action["battery"][:] = 1.0
        return action


class Remembers(Still):
    """Keeps a list of its resets, by seed, and of the gates that it met."""

    met = []

    def reset(self, seed):
        super().reset(seed)
        self.met.append(("reset", seed))

    def change(self, action, obs):
        if obs["stage"][0] == 0:
            self.met.append(("gate", int(obs["days_left"][0]), float(obs["soc_kwh"].mean())))
        action["battery"][:] = 0.1
        return action


class Halts(Noisy):
    """Ctrl-C at its fourth gate."""

    def fit(self, community, history):
        super().fit(community, history)
        self.gates = 0

    def change(self, action, obs):
        self.gates += int(obs["stage"][0] == 0)
        if self.gates == 4:
            raise KeyboardInterrupt
        return super().change(action, obs)


class Counts(Still):
    """Falls back once at every gate and twice at 05:00."""

    def reset(self, seed):
        super().reset(seed)
        self.fallbacks = {}

    def change(self, action, obs):
        if obs["stage"][0] == 0:
            self.count("plan at its cap", 1)
        elif obs["hour"][0] == 5:
            self.count("solver stopped short", 2)
        return action

    def count(self, what, num):
        self.fallbacks[what] = self.fallbacks.get(what, 0) + num


class CountsOn(Counts):
    """Forgets to forget."""

    fallbacks = {}

    def reset(self, seed):
        Still.reset(self, seed)


class CountsBadly(Counts):
    def count(self, what, num):
        self.fallbacks = ["many"]


class CountsAtLast(Counts):
    """Never comes up, and says that it fell back all the same."""

    fallbacks = {"anything": 3}

    def reset(self, seed):
        raise RuntimeError("cannot start")


class Threads(Still):
    """Writes down how many threads the libraries may use in its fit and in its steps."""

    def note(self, what):
        from threadpoolctl import threadpool_info

        most = max((pool["num_threads"] for pool in threadpool_info()), default=0)
        with open(os.environ["THREADS_LOG"], "a") as log:
            log.write(f"{os.getpid()} {what} {most}\\n")

    def fit(self, community, history):
        super().fit(community, history)
        self.note("fit")

    def change(self, action, obs):
        self.note("act")
        return action


class NotAPolicy:
    def act(self, obs):
        return None


a_function = len
'''


@pytest.fixture
def players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a module `players`, importable in this process."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "players.py").write_text(PLAYERS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "players", raising=False)
    return folder


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """Ten prosumers, twelve test days."""
    return tiny_dataset(num_days=60)


@pytest.fixture
def stage(tiny: Dataset) -> Stage:
    """Four test days in the community of the default scenario."""
    return Stage(make_scenario("ieee33"), tiny, tiny.days("test")[:4])


@pytest.fixture
def pairs(stage: Stage) -> Stage:
    """The same days as two episodes of two days."""
    return Stage(stage.community, stage.dataset, stage.rows, days_per_episode=2)
