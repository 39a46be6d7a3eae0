"""How the speed of RealTime falls with the number of prosumers and of buses: a table and docs/img/scaling.png.

    python benchmarks/scaling.py [--rounds 9] [--write]

Prosumers: the days of tehran-v0 for N prosumers on the 33-bus feeder, in turn at its buses, each with so small a share
of load and equipment that the community as a whole stays as large as with ten. Buses: ten prosumers on random trees of
K buses that all carry the load of the 33-bus feeder with the same voltage drop. In every round each size takes a turn:
a day of random actions, reset included, through `gymnasium.make_vec` with 256 environments and through
`gymnasium.make`, on one thread. Figures are medians of the rounds in processor time. `--write` puts the table into
docs/performance.md and the figure into docs/img.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from pages import DOCS, machine, markdown, publish, significant
from power_flow import random_feeder  # the benchmarks of these names, next to this file
from real_time import random_actions, seconds_in_turns

import prosumer_gym  # noqa: F401  (registers the environments)
from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.datasets.resize import resized
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import ieee33
from prosumer_gym.power_flow import lindistflow
from prosumer_gym.scenarios import make_scenario

PROSUMERS = (10, 20, 50, 100, 200, 500, 1000)
BUSES = (33, 60, 100, 200, 400, 1000)
BATCH, HOURS = 256, 24
SMALLEST_V_PU = 0.92
SHARED = ("_kw", "_kwh")
"""How the names of a fleet's powers and energies end."""
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"

Case = tuple[Community, Dataset]


def with_prosumers(num_prosumers: int) -> Case:
    """The default community, divided among N prosumers."""
    feeder, source = ieee33(), load_dataset("tehran-v0")
    share = source.num_prosumers / num_prosumers
    fleet = Fleet.identical([1 + n % (feeder.num_buses - 1) for n in range(num_prosumers)])
    equipment = {
        field.name: getattr(fleet, field.name) * share for field in fields(fleet) if field.name.endswith(SHARED)
    }
    graph = TradeGraph.ring_with_chords(num_prosumers, limit_kw=5.0 * share)
    community = Community(f"{num_prosumers} prosumers", feeder, replace(fleet, **equipment), graph)
    return community, resized(source, num_prosumers, scale=share)


def with_buses(num_buses: int) -> Case:
    """The default prosumers, spread over a feeder of K buses."""
    community = make_scenario("ieee33")
    if num_buses == community.feeder.num_buses:
        return community, load_dataset("tehran-v0")
    feeder = same_load(random_feeder(num_buses), community.feeder)
    bus = np.linspace(1, num_buses - 1, community.num_prosumers).round().astype(np.int64)
    return community.replace(feeder=feeder, fleet=replace(community.fleet, bus=bus)), load_dataset("tehran-v0")


def same_load(feeder: Feeder, model: Feeder) -> Feeder:
    """The feeder with the total load of another, and cables so strong that the linear model shows a voltage of 0.92."""
    factor = model.p_kw.sum() / feeder.p_kw.sum()
    loaded = feeder.replace(p_kw=factor * feeder.p_kw, q_kvar=factor * feeder.q_kvar)
    linear = lindistflow(loaded)
    drop = (linear.r @ loaded.p_kw + linear.x @ loaded.q_kvar).max() / (1000 * loaded.base_mva)
    strength = drop / (1 - SMALLEST_V_PU**2)
    return loaded.replace(r_ohm=loaded.r_ohm / strength, x_ohm=loaded.x_ohm / strength)


def day(case: Case, num_envs: int) -> Callable[[], Any]:
    """A day of so many environments at once, or of one made alone."""
    community, dataset = case
    name, worlds = "ProsumerGym/RealTime-v0", {"dataset": dataset, "scenario": community}
    env: Any
    if num_envs > 1:
        env = gymnasium.make_vec(name, num_envs=num_envs, autoreset_mode=AutoresetMode.DISABLED, **worlds)
    else:
        env = gymnasium.make(name, **worlds)
    actions = random_actions(env.action_space)[:HOURS]

    def play() -> None:
        env.reset()
        for action in actions:
            if not np.all(env.step(action)[4]["converged"]):
                raise RuntimeError(f"{community.name}: a power flow has no solution; the sizes do not compare")

    return play


def measure(cases: dict[int, Case], rounds: int) -> dict[int, FloatArray]:
    """Seconds a step, at once and alone [2], by size."""
    plays = {f"{size} {num}": day(case, num) for size, case in cases.items() for num in (BATCH, 1)}
    seconds = seconds_in_turns(plays, rounds)
    return {
        size: np.array([np.median(seconds[f"{size} {num}"]) / (HOURS * num) for num in (BATCH, 1)]) for size in cases
    }


def draw(panels: dict[str, dict[int, FloatArray]], caption: str) -> None:
    """Both panels, steps a second over the size."""
    import matplotlib.pyplot as plt

    figure, charts = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
    for chart, (label, found) in zip(charts, panels.items(), strict=True):
        sizes = np.array(list(found))
        for k, (name, colour, mark) in enumerate(((f"{BATCH} at once", BLUE, "o"), ("one alone", ORANGE, "s"))):
            rates = 1 / np.array([each[k] for each in found.values()])
            chart.plot(sizes, rates, mark + "-", color=colour, label=name, linewidth=1.8, markersize=5)
            for i, above, side in ((0, 7, "left"), (-1, -15, "right")):
                chart.annotate(
                    significant(rates[i], 2), (sizes[i], rates[i]), (0, above), textcoords="offset points",
                    ha=side, color=colour, fontsize=9,
                )  # fmt: skip
        chart.set(xscale="log", yscale="log", xlabel=label)
        chart.set_xticks(sizes, [str(size) for size in sizes])
        chart.minorticks_off()
        chart.grid(color="#dddddd", linewidth=0.6)
        chart.spines[["top", "right"]].set_visible(False)
    charts[0].set_ylabel("steps per second, one thread")
    charts[0].legend(frameon=False, loc="lower left", fontsize=9)
    figure.supxlabel(caption, fontsize=8, color=GREY)
    low, high = charts[0].get_ylim()
    charts[0].set_ylim(low / 1.6, 1.6 * high)
    figure.savefig(DOCS / "img" / "scaling.png", dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md and docs/img/scaling.png")
    arguments = parser.parse_args()
    panels = {
        "prosumers (33 buses)": measure({size: with_prosumers(size) for size in PROSUMERS}, arguments.rounds),
        "buses (10 prosumers)": measure({size: with_buses(size) for size in BUSES}, arguments.rounds),
    }
    rows = [
        (f"{size} {label}", *(significant(1e6 * seconds) for seconds in both), significant(1e-6 / both[0]))
        for label, found in panels.items()
        for size, both in found.items()
    ]
    how = f"{machine()}; medians of {arguments.rounds} rounds, one thread"
    head = ("size", f"us a step, {BATCH} at once", "us a step, one alone", f"million steps/s, {BATCH} at once")
    text = f"{markdown(head, rows)}\n\n{how}."
    publish("performance.md", "scaling", text, into_page=arguments.write)
    if arguments.write:
        draw(panels, f"RealTime-v0, days of random actions, resets included, processor time.\n{how}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
