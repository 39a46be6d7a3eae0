"""Speed of the simulator: hours of one community per second, what the market and the power flow take, and the start.

    python benchmarks/simulator.py [--repeats 7] [--write]

One hour of one community is everything: ten prosumers' equipment, peer-to-peer matching, settlement and an exact AC
power flow of 33 buses. With lightsim2grid installed (pip install lightsim2grid pandapower) its bare power flow of one
case, the usual inner loop of a grid environment, is timed beside it. Contestants take turns; one thread is timed by the
clock of the processor, more by the clock on the wall. Trust ratios more than microseconds. `--write` puts the figures
into docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
from pages import machine, markdown, publish, significant
from power_flow import one_block  # the benchmark of that name, next to this file

from prosumer_gym.community import Community
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.lanes import LANES
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.scenarios import make_scenario, passive_profile
from prosumer_gym.simulator import Simulator

BATCHES = (1, 8, 64, 1024, 8192)
NUM_DAYS = 100
FIRST_STEP = """
import time
start = time.perf_counter()
import numpy as np
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import Simulator
day, hour = np.zeros((1, 24, 10)), np.zeros((1, 24))
simulator = Simulator(make_scenario("ieee33"), Exogenous(day, day, day, hour, hour, hour), 1)
simulator.reset(0)
simulator.commit(np.zeros((10, 24, 1)))
zeros = np.zeros((10, 1))
simulator.step(zeros, zeros, zeros, np.zeros((30, 1)))
print(time.perf_counter() - start, time.process_time())
"""


def plausible_days(community: Community) -> Exogenous:
    """Loads of a household's size, sun by day, prices of the papers' range."""
    rng = np.random.default_rng(0)
    num_hours, num = community.hours_per_day, community.num_prosumers
    hour = 24.0 * np.arange(num_hours) / num_hours
    sun = np.maximum(np.sin(np.pi * (hour - 6.0) / 12.0), 0.0)
    return Exogenous(
        load_kw=rng.uniform(5.0, 20.0, (NUM_DAYS, num_hours, num)),
        pv_kw=rng.uniform(5.0, 30.0, (NUM_DAYS, 1, num)) * sun[:, np.newaxis],
        shiftable_ref_kw=rng.uniform(0.0, 8.0, (NUM_DAYS, num_hours, num)),
        price_da_ct_per_kwh=rng.uniform(6.0, 12.0, (NUM_DAYS, num_hours)),
        price_rt_ct_per_kwh=rng.uniform(6.0, 25.0, (NUM_DAYS, num_hours)),
        passive_pu=np.broadcast_to(passive_profile(num_hours), (NUM_DAYS, num_hours)),
    )


def played_day(simulator: Simulator, *, central: bool = False) -> Callable[[Callable[[], float]], list[float]]:
    """A function that plays a day of random actions: seconds a step, of every four steps, by the clock it is given.

    With `central` trade no offers are made.
    """
    rng, num_lanes = np.random.default_rng(1), simulator.num_lanes
    num, limits = simulator.community.num_prosumers, simulator.community.offer_limits
    position = rng.uniform(-10.0, 40.0, (num, 24, num_lanes))
    actions = [
        (
            rng.uniform(-25.0, 25.0, (num, num_lanes)),
            rng.uniform(0.0, 20.0, (num, num_lanes)),
            np.maximum(rng.uniform(-20.0, 5.0, (num, num_lanes)), 0.0),
            None if central else rng.uniform(-1.0, 1.0, (len(limits), num_lanes)) * limits[:, np.newaxis],
        )
        for _ in range(4)
    ]

    def play(clock: Callable[[], float]) -> list[float]:
        simulator.reset(rng.integers(0, NUM_DAYS, num_lanes))
        simulator.commit(position)
        seconds = []
        for _ in range(6):
            start = clock()
            for action in actions:
                simulator.step(*action)
            seconds.append((clock() - start) / 4)
        return seconds

    return play


def single_solve(feeder: Feeder) -> Callable[[], object]:
    """One bare power flow of lightsim2grid at its usual tolerance."""
    import pandapower
    from lightsim2grid.gridmodel import init_from_pandapower

    net = pandapower.create_empty_network(sn_mva=1.0)
    for _ in range(feeder.num_buses):
        pandapower.create_bus(net, vn_kv=feeder.base_kv)
    pandapower.create_ext_grid(net, 0, vm_pu=feeder.slack_v_pu)
    for a, b, r, x in zip(feeder.from_bus, feeder.to_bus, feeder.r_ohm, feeder.x_ohm, strict=True):
        pandapower.create_line_from_parameters(
            net, int(a), int(b), length_km=1.0, r_ohm_per_km=r, x_ohm_per_km=x, c_nf_per_km=0.0, max_i_ka=1.0
        )
    for bus in range(feeder.num_buses):
        pandapower.create_load(net, bus, p_mw=feeder.p_kw[bus] / 2000, q_mvar=feeder.q_kvar[bus] / 2000)
    pandapower.runpp(net, numba=False)
    grid = init_from_pandapower(net)
    start = np.full(feeder.num_buses, feeder.slack_v_pu, np.complex128)
    if not len(grid.ac_pf(start, 20, 1e-8)):
        raise RuntimeError("lightsim2grid did not converge")
    return lambda: grid.ac_pf(start, 20, 1e-8)


def seconds_of(solve: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        solve()
    return (time.process_time() - start) / calls


def first_step_seconds(cache: str) -> tuple[float, float]:
    """Import and first step in a new process that keeps its compiled code in `cache`: on the wall, of the processor."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    answer = subprocess.run([sys.executable, "-c", FIRST_STEP], env=environment, capture_output=True, check=True)
    wall, processor = (float(number) for number in answer.stdout.split())
    return wall, processor


def starts() -> str:
    """How soon the first step is done, in words."""
    with tempfile.TemporaryDirectory() as cache:
        first, _ = first_step_seconds(cache)
        later, _ = min(first_step_seconds(cache) for _ in range(3))
    return f"The first start after installation, compilation included, took {first:.1f} s, later ones {later:.2f} s."


def batches(community: Community, exogenous: Exogenous, repeats: int) -> str:
    """Speed by batch and threads, and memory, in Markdown."""
    simulators = {
        (batch, threads): Simulator(community, exogenous, batch, threads=threads)
        for batch in BATCHES
        for threads in (1, 2)
        if threads == 1 or batch >= 256
    }
    days = {key: played_day(simulator) for key, simulator in simulators.items()}
    seconds: dict[tuple[int, int], list[float]] = {key: [] for key in days}
    for turn in range(repeats + 1):
        for key, play in days.items():
            taken = play(time.process_time if key[1] == 1 else time.perf_counter)
            if turn > 0:
                seconds[key] += taken
    rows = []
    for (batch, threads), values in seconds.items():
        middle, least = float(np.median(values)), min(values)
        figures = (1e6 * middle, 1e6 * middle / batch, batch / middle / 1e6, batch / least / 1e6)
        rows.append((f"{batch}", f"{threads}", *map(significant, figures)))
    head = ("batch", "threads", "us a step", "us a lane", "million hours a second: median", "best")
    arrays = simulators[BATCHES[-1], 1]
    size = sum(array.nbytes for part in (arrays._lanes, arrays._wanted, arrays._results) for array in part)
    return f"{markdown(head, rows, text_columns=0)}\n\nA lane takes {size / BATCHES[-1] / 1000:.1f} kB."


def parts_of_a_step(community: Community, exogenous: Exogenous, repeats: int) -> str:
    """The power flow's part in an hour, and lightsim2grid's beside it, in words."""
    batch = 1024
    simulator = Simulator(community, exogenous, batch)
    play = played_day(simulator)
    loads = [np.multiply.outer(part, np.full(LANES, 0.5)) for part in (community.feeder.p_kw, community.feeder.q_kvar)]
    calls = 50
    kernel = one_block(community.feeder, *(np.tile(part, calls) for part in loads))  # `calls` blocks
    try:
        peer: Callable[[], object] | None = single_solve(community.feeder)
    except ImportError as error:
        peer = None
        print(f"lightsim2grid: not here ({error})", file=sys.stderr)
    steps: list[float] = []
    flows: list[float] = []
    peers: list[float] = []
    for turn in range(repeats + 1):
        taken = (float(np.median(play(time.process_time))) / batch, seconds_of(kernel, 20) / (calls * LANES))
        if turn > 0:
            steps.append(taken[0])
            flows.append(taken[1])
            if peer is not None:
                peers.append(seconds_of(peer, 200))
    step, flow = np.array(steps), np.array(flows)
    words = [
        f"At a batch of {batch} an hour of one community took {1e6 * np.median(step):.2f} us;",
        f"the power flow is {100 * np.median(flow / step):.0f} % of it.",
    ]
    if peers:
        single = np.array(peers)
        words.append(
            f"One bare power flow of lightsim2grid took {1e6 * np.median(single):.1f} us,"
            f" as long as {np.median(single / step):.0f} of these hours."
        )
    return " ".join(words)


def mechanisms(community: Community, exogenous: Exogenous, repeats: int) -> str:
    """What the market mechanisms take, in Markdown."""
    batch = 1024
    days = {
        (name, central): played_day(
            Simulator(community.replace(mechanism=name), exogenous, batch, threads=1), central=central
        )
        for name in MECHANISMS
        for central in (False, True)
    }
    seconds: dict[tuple[str, bool], list[float]] = {key: [] for key in days}
    for turn in range(repeats + 1):
        for key, play in days.items():
            taken = play(time.process_time)
            if turn > 0:
                seconds[key] += taken
    rows = [
        (name, *(significant(1e6 * float(np.median(seconds[name, central])) / batch) for central in (False, True)))
        for name in MECHANISMS
    ]
    return markdown(("us a lane", "with offers", "central trade"), rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of the peer and its dependencies
    community = make_scenario("ieee33")
    exogenous = plausible_days(community)
    speed = batches(community, exogenous, arguments.repeats)
    text = f"{speed} {parts_of_a_step(community, exogenous, arguments.repeats)} {starts()} {machine()}."
    text += f"\n\n{mechanisms(community, exogenous, arguments.repeats)}"
    publish("performance.md", "simulator", text, into_page=arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
