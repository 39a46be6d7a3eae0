"""One world of one project, played at random: what `peers.py` starts in the Python that has the project.

    python benchmarks/peer_worlds.py PROJECT CASE [--checkout FOLDER]

It says on standard output, as JSON, what it plays. Then, for every number of seconds on standard input, it plays whole
episodes for at least that long, reset included, and answers how many steps it played in how much time of the processor.
Only the standard library is imported before the project is. Actions are drawn beforehand, so nobody pays for drawing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

LONGEST = 288
"""Longer episodes are cut off here: as many steps as a day of five minutes has, the longest day of the projects."""
NUM_ACTIONS = 288


@dataclass
class World:
    """One environment, ready to be played."""

    version: str
    case: str
    """How large it is."""
    step: str
    """What one step does."""
    play: Callable[[], int]
    """Plays an episode, reset included, and counts its steps."""
    note: str = ""


def episode(reset: Callable[[], Any], step: Callable[[Any], bool], actions: list[Any]) -> Callable[[], int]:
    """An episode of these actions, in turn; `step` says whether it was the last one."""
    supply: Iterator[Any] = itertools.cycle(actions)

    def play() -> int:
        reset()
        played, over = 0, False
        while not over and played < LONGEST:
            over = step(next(supply))
            played += 1
        return played

    return play


def gymnasium_episode(env: Any, *, copies: bool = False) -> Callable[[], int]:
    """An episode of an environment with Gymnasium's interface; some write into the action and get copies."""
    env.action_space.seed(0)

    def step(action: Any) -> bool:
        _, _, terminated, truncated, _ = env.step(action.copy() if copies else action)
        return bool(terminated or truncated)

    return episode(env.reset, step, [env.action_space.sample() for _ in range(NUM_ACTIONS)])


def commit_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def needed(checkout: Path | None, what: str) -> Path:
    if checkout is None:
        raise RuntimeError(f"needs {what}; clone it and say where: --checkout")
    return checkout.resolve()


def ours(name: str, **options: Any) -> Any:
    import gymnasium

    import prosumer_gym  # noqa: F401  (registers the environments)

    return gymnasium.make(f"ProsumerGym/{name}-v0", **options)


OUR_CASE = "10 prosumers, 33 buses, 1 h"
OUR_STEP = "equipment, trade between prosumers, settlement, exact AC power flow"


def real_time(_: Path | None) -> World:
    return World(version("prosumer-gym"), f"RealTime, {OUR_CASE}", OUR_STEP, gymnasium_episode(ours("RealTime")))


def two_stage(_: Path | None) -> World:
    note = "an observation of about 6,000 numbers; one step in 25 is the day-ahead step"
    return World(version("prosumer-gym"), f"TwoStage, {OUR_CASE}", OUR_STEP, gymnasium_episode(ours("TwoStage")), note)


def real_time_batch(_: Path | None) -> World:
    import gymnasium
    from gymnasium.vector import AutoresetMode

    import prosumer_gym  # noqa: F401  (registers the environments)

    lanes = 1024
    envs = gymnasium.make_vec("ProsumerGym/RealTime-v0", num_envs=lanes, autoreset_mode=AutoresetMode.DISABLED)
    envs.action_space.seed(0)

    def step(action: Any) -> bool:
        return bool(envs.step(action)[2].all())

    play = episode(envs.reset, step, [envs.action_space.sample() for _ in range(24)])
    return World(version("prosumer-gym"), f"{lanes} RealTime at once", OUR_STEP, lambda: lanes * play())


def citylearn(schema: str, case: str, checkout: Path | None) -> World:
    if checkout is not None:
        os.environ["CITYLEARN_LOCAL_DATASETS_PATH"] = str(checkout.resolve() / "data" / "datasets")
    from citylearn.citylearn import CityLearnEnv

    env = CityLearnEnv(schema, central_agent=True)
    (space,) = env.action_space
    space.seed(0)

    def step(action: Any) -> bool:
        _, _, terminated, truncated, _ = env.step(action)
        return bool(terminated or truncated)

    play = episode(env.reset, step, [[space.sample().tolist()] for _ in range(NUM_ACTIONS)])
    return World(
        version("citylearn"), case, "batteries, PV and loads of the buildings; no power flow", play, "challenge of 2022"
    )


def grid2op(name: str, case: str, random_actions: bool, _: Path | None) -> World:
    import grid2op
    import numpy as np
    from lightsim2grid import LightSimBackend

    env = grid2op.make(name, test=True, backend=LightSimBackend())
    rng = np.random.default_rng(0)
    reach = env.gen_max_ramp_up * env.gen_redispatchable if random_actions else np.zeros(env.n_gen)
    actions = [
        env.action_space({"redispatch": rng.uniform(-1, 1, env.n_gen) * reach} if random_actions else {})
        for _ in range(NUM_ACTIONS)
    ]
    case += ", redispatched at random" if random_actions else ", nothing done"
    release = f"{version('grid2op')} with lightsim2grid {version('lightsim2grid')}"
    step = "AC power flow of a transmission grid, its rules and protections"
    note = "random switching would end an episode after four steps"
    return World(release, case, step, episode(env.reset, lambda action: bool(env.step(action)[2]), actions), note)


def powergym(name: str, case: str, checkout: Path | None) -> World:
    folder = needed(checkout, "a checkout of siemens/powergym, which is no package")
    sys.path.insert(0, str(folder))
    from powergym.env_register import make_env

    env = make_env(name)
    env.seed(0)
    profiles = itertools.cycle(range(env.num_profiles))
    play = episode(
        lambda: env.reset(load_profile_idx=next(profiles)),
        lambda action: bool(env.step(action)[2]),
        [env.random_action() for _ in range(NUM_ACTIONS)],
    )
    step = "three-phase power flow (OpenDSS) with capacitors, regulators and batteries"
    return World(f"{commit_of(folder)} (2022)", case, step, play)


def powergridworld(checkout: Path | None) -> World:
    folder = needed(checkout, "a checkout of NREL/PowerGridworld, which is no package")
    sys.path.insert(0, str(folder))
    import pandas as pd
    from gridworld import MultiAgentEnv, MultiComponentEnv
    from gridworld.agents.energy_storage import EnergyStorageEnv
    from gridworld.agents.pv import PVEnv
    from gridworld.agents.vehicles import EVChargingEnv
    from gridworld.distribution_system import OpenDSSSolver

    roof = {"name": "pv", "cls": PVEnv, "config": {"profile_csv": "off-peak.csv", "scaling_factor": 40.0}}
    store = {"name": "storage", "cls": EnergyStorageEnv, "config": {"max_power": 20.0, "storage_range": (3.0, 250.0)}}
    farm = {"profile_csv": "constant.csv", "scaling_factor": 400.0, "grid_aware": True}
    cars = {"num_vehicles": 25, "minutes_per_step": 5, "max_charge_rate_kw": 7.0, "peak_threshold": 200.0}
    data = "ieee_13_dss"
    env = MultiAgentEnv(
        common_config={
            "start_time": "08-12-2020 00:00:00",
            "end_time": "08-13-2020 00:00:00",
            "control_timedelta": pd.Timedelta(300, "s"),
        },
        pf_config={
            "cls": OpenDSSSolver,
            "config": {
                "feeder_file": f"{data}/IEEE13Nodeckt.dss",
                "loadshape_file": f"{data}/annual_hourly_load_profile.csv",
                "system_load_rescale_factor": 0.65,
            },
        },
        agents=[
            {"name": "home", "bus": "675c", "cls": MultiComponentEnv, "config": {"components": [roof, store]}},
            {"name": "farm", "bus": "675c", "cls": PVEnv, "config": farm},
            {"name": "cars", "bus": "675c", "cls": EVChargingEnv, "config": cars},
        ],
    )
    play = episode(
        env.reset,
        lambda action: bool(env.step(action)[2]["__all__"]),
        [{name: space.sample() for name, space in env.action_space.items()} for _ in range(NUM_ACTIONS)],
    )
    step = "devices and a three-phase power flow (OpenDSS)"
    return World(f"{commit_of(folder)} (2023)", "3 agents, 13 buses, 5 min", step, play)


def ev2gym(_: Path | None) -> World:
    import ev2gym.models.ev2gym_env as package

    root = Path(package.__file__).parents[1]
    os.chdir(root.parent)  # its files are found from there only
    env = package.EV2Gym(config_file=str(root / "example_config_files" / "V2GProfitPlusLoads.yaml"))
    step = "charging of the cars that are there; transformer limit, no power flow"
    note = "V2GProfitPlusLoads; the package lacks the files of its 34-node grid"
    return World(version("ev2gym"), "25 chargers, 15 min", step, gymnasium_episode(env, copies=True), note)


def sustaingym(_: Path | None) -> World:
    from sustaingym.envs.evcharging import EVChargingEnv, GMMsTraceGenerator

    env = EVChargingEnv(GMMsTraceGenerator("caltech", "Summer 2019"), project_action_in_env=False)
    step = "charging of the cars that are there, limits of the cables; no power flow"
    note = "without the projection of actions, which needs a licence of Mosek"
    return World(version("sustaingym"), "54 chargers, 5 min", step, gymnasium_episode(env, copies=True), note)


def microgrid(_: Path | None) -> World:
    from pymgrid.envs import DiscreteMicrogridEnv

    env = DiscreteMicrogridEnv.from_scenario(microgrid_number=1)
    actions = [env.action_space.sample() for _ in range(NUM_ACTIONS)]
    step = "balance of the modules at one node; no power flow"
    play = episode(env.reset, lambda action: bool(env.step(action)[2]), actions)
    return World(version("python-microgrid"), f"{len(env.modules)} modules, 1 h", step, play)


def gym_anm(_: Path | None) -> World:
    import gym_anm  # noqa: F401  (registers the environment)
    import gymnasium

    env = gymnasium.make("gym_anm:ANM6Easy-v0")
    step = "an optimization that makes the action feasible, AC power flow"
    return World(version("gym-anm"), "6 buses, 15 min", step, gymnasium_episode(env), "ANM6Easy-v0")


def opfgym(_: Path | None) -> World:
    import logging

    from opfgym.envs import VoltageControl

    logging.disable(logging.WARNING)
    env = VoltageControl(seed=0)
    step = "reset to a new state, AC power flow (pandapower): an episode is one step"
    return World(version("opfgym"), f"{len(env.net.bus)} buses", step, gymnasium_episode(env), "VoltageControl")


WORLDS: dict[str, dict[str, Callable[[Path | None], World]]] = {
    "prosumer-gym": {"RealTime": real_time, "TwoStage": two_stage, "1024 RealTime": real_time_batch},
    "grid2op": {
        "14": lambda at: grid2op("l2rpn_case14_sandbox", "14 substations, 5 min", True, at),
        "14, idle": lambda at: grid2op("l2rpn_case14_sandbox", "14 substations, 5 min", False, at),
        "36": lambda at: grid2op("l2rpn_neurips_2020_track1", "36 substations, 5 min", True, at),
        "36, idle": lambda at: grid2op("l2rpn_neurips_2020_track1", "36 substations, 5 min", False, at),
    },
    "powergym": {
        "13": lambda at: powergym("13Bus", "16 buses, 1 h", at),
        "34": lambda at: powergym("34Bus", "37 buses, 1 h", at),
        "123": lambda at: powergym("123Bus", "132 buses, 1 h", at),
    },
    "powergridworld": {"13": powergridworld},
    "citylearn": {
        "5": lambda at: citylearn("citylearn_challenge_2022_phase_1", "5 buildings, 1 h", at),
        "17": lambda at: citylearn("citylearn_challenge_2022_phase_all", "17 buildings, 1 h", at),
    },
    "ev2gym": {"25": ev2gym},
    "sustaingym": {"54": sustaingym},
    "python-microgrid": {"1": microgrid},
    "gym-anm": {"6": gym_anm},
    "opfgym": {"122": opfgym},
}
"""Every project's cases; the first project is this one."""

OUT_OF_REACH = {
    "MAPDN (33 buses)": "its feeders and profiles are not in its repository, only behind a Google Drive link"
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", choices=WORLDS)
    parser.add_argument("case")
    parser.add_argument("--checkout", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    random.seed(0)
    answers = os.fdopen(os.dup(1), "w")  # what the projects print goes to standard error
    os.dup2(2, 1)

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    try:
        world = WORLDS[arguments.project][arguments.case](arguments.checkout)
        world.play()
    except Exception as error:  # whatever a project raises is what a reader should see
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    text = {"version": world.version, "case": world.case, "step": world.step, "note": world.note}
    answer(**text, python=platform.python_version())
    for line in sys.stdin:
        steps, start = 0, time.process_time()
        while (taken := time.process_time() - start) < float(line):
            steps += world.play()
        answer(steps=steps, seconds=taken)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
