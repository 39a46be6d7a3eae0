"""What more prosumers are worth, and what it takes them to agree: N = 5 ... 50, dev days; a table and a picture.

    python benchmarks/community_size.py [--dataset tehran-v0 ...] [--every 1] [--jobs 2] [--gates 4] [--write]

The first five or ten prosumers of the data, or all and further ones put together from them (`datasets.resize`), each
with the usual units, at the buses of the 33-bus feeder in turn, in a ring with chords. Voltages are not looked at: the
feeder is not built for fifty. `po` and `er-saa` play open loop; on the first days, equally spaced, the plan of `er-saa`
is also negotiated by the prosumers (`consensus_admm`), in processor time of one thread. Days are kept in --kept.

Axis letters: D days, N prosumers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from pages import DOCS, markdown
from studies import (
    Study,
    arguments,
    change,
    datasets,
    dev_days,
    difference,
    figures,
    finish,
    kept_value,
    played,
    reach,
    study_of,
)

from prosumer_gym.baselines.admm import consensus_admm
from prosumer_gym.baselines.er_saa import ResidualSampleAverage
from prosumer_gym.baselines.interior_point import compile_kernels
from prosumer_gym.baselines.scenario_policy import day_start
from prosumer_gym.baselines.tuning import gate_observation
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.datasets.resize import resized
from prosumer_gym.feeders import ieee33
from prosumer_gym.leaderboard.entries import BOTH, ORACLES, REFERENCE, Entry, policy_entry
from prosumer_gym.leaderboard.run import Stage

NAME = "community_size"
SIZES = (5, 10, 20, 50)
SMALLEST = SIZES[0]
MODE = "open_loop"
POLICIES = ("po", "er-saa")
ORACLE = ORACLES["cost"]
ROUNDS = 800
"""Cap on a negotiation, the paper's."""


def main() -> None:
    """Play, tell, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gates", type=int, default=4, help="days on which the prosumers negotiate")
    asked = arguments(parser)
    studies = []
    for dataset in datasets(asked.dataset):
        rows, cases = dev_days(dataset, asked.every), []
        for size in SIZES:
            stage = Stage(community_of(size), resized(dataset, size), rows)
            entries = [
                Entry(REFERENCE, BOTH, "reference", "-"),
                Entry(ORACLE, BOTH, "oracle", "-"),
                *(policy_entry(name, MODE) for name in POLICIES),
            ]
            for entry, row in zip(entries, played(stage, entries, asked.kept, asked.jobs, f"N = {size}"), strict=True):
                first_ct = row.metrics.cost_per_prosumer_ct[:, :SMALLEST].sum(axis=1)
                case = {"size": size, "policy": entry.name, **figures(row.metrics)}
                cases.append({**case, "first_ct": first_ct.round(2).tolist()})
            cases.append({"size": size, "policy": "negotiation", **negotiations(stage, asked)})
        studies.append(study_of(NAME, asked, Stage(community_of(10), dataset, rows), cases, f" --gates {asked.gates}"))
    finish(NAME, studies, tables, write=asked.write)


def community_of(num_prosumers: int) -> Community:
    """So many usual prosumers on the 33-bus feeder."""
    feeder = ieee33()
    fleet = Fleet.identical([1 + n % (feeder.num_buses - 1) for n in range(num_prosumers)])
    return Community(f"ieee33-{num_prosumers}", feeder, fleet, TradeGraph.ring_with_chords(num_prosumers))


def negotiations(stage: Stage, asked: argparse.Namespace) -> dict[str, list[Any]]:
    """How the prosumers found the plans of some gates: rounds, processor time, and what the plan lacks to the optimum.

    Figures by gate. The gap is to what their own prices prove that no plan can beat.
    """
    gates = stage.rows[np.linspace(0, stage.rows.size - 1, asked.gates).round().astype(np.int64)]
    policy = ResidualSampleAverage(MODE)
    found: dict[str, list[Any]] = {"rounds": [], "converged": [], "cpu_s": [], "gap": []}
    for row in gates.tolist():

        def negotiate(row: int = row) -> dict[str, Any]:
            if not hasattr(policy, "forecaster"):
                policy.fit(stage.community, stage.history)
                compile_kernels()
            obs = gate_observation(stage.community, stage.staged, row)
            start, scenarios = day_start(obs, None), policy.scenarios(obs)
            began = time.process_time()
            result = consensus_admm(stage.community, start, scenarios, max_iterations=ROUNDS)
            spent = time.process_time() - began
            gap = result.plan.objective_ct / result.plan.lower_bound_ct - 1.0
            return {"rounds": result.iterations, "converged": result.converged, "cpu_s": spent, "gap": gap}

        of = {"negotiation": stage.community.name, "data": stage.dataset.manifest.sha256, "row": row, "cap": ROUNDS}
        for name, value in kept_value(asked.kept, of, negotiate).items():
            found[name].append(value)
    return found


def tables(studies: Sequence[Study]) -> dict[str, str]:
    """By name of their place on the page."""
    return {f"community size {study.dataset}": _table(study) for study in studies}


def _table(study: Study) -> str:
    """A line per N."""
    head = (
        "N", "`no-control`, ct per prosumer", "`po`, against it", "`er-saa`, against it", "*oracle-cost*, against it",
        f"first {SMALLEST}, `er-saa`: ct each", f"less than with N = {SMALLEST}", "rounds", "s per prosumer", "gap",
    )  # fmt: skip
    alone = study.days("first_ct", policy="er-saa", size=SMALLEST) / SMALLEST
    lines = []
    for size in SIZES:
        reference = study.days("cost_ct", policy=REFERENCE, size=size)
        against = [
            change(study.days("cost_ct", policy=name, size=size), reference, study.weeks).percent
            for name in (*POLICIES, ORACLE)
        ]
        first = study.days("first_ct", policy="er-saa", size=size) / SMALLEST
        gained = "" if size == SMALLEST else difference(alone, first, study.weeks).told(1)
        talks = study.case(policy="negotiation", size=size)
        rounds = f"{np.median(talks['rounds']):.0f} ({min(talks['rounds'])} to {max(talks['rounds'])})"
        seconds = np.median(talks["cpu_s"]) / size
        lines.append(
            (
                str(size), f"{reference.mean() / size:.0f}", *against, f"{first.mean():.0f}", gained, rounds,
                f"{seconds:.2f}", f"{max(talks['gap']):.0e}",
            )
        )  # fmt: skip
    gates = len(study.case(policy="negotiation", size=SMALLEST)["rounds"])
    words = (
        f"{study.told}, open loop, ct/day. The first {SMALLEST} are the same people in every line. Negotiation of the "
        f"plan of `er-saa` on {gates} of the days: median rounds (all of them), median processor time, largest gap."
    )
    return f"{words}\n\n{markdown(head, lines)}"


def draw(studies: Sequence[Study]) -> None:
    """Cost against no control, and rounds and time of a negotiation, over N: docs/img/community_size.png."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11.5, 3.8), layout="constrained")
    for place, study in enumerate(studies):
        where = np.array(SIZES) * 1.05 ** (place - 0.5)
        for name, style in (("er-saa", "o-"), (ORACLE, "^:")):
            told = [
                change(
                    study.days("cost_ct", policy=name, size=size),
                    study.days("cost_ct", policy=REFERENCE, size=size),
                    study.weeks,
                )
                for size in SIZES
            ]
            left.errorbar(
                where, [100 * each.value for each in told], 100 * reach(told), fmt=style, color=f"C{place}", ms=4,
                lw=1.3, elinewidth=0.8, capsize=2, label=f"{name}, {study.dataset}",
            )  # fmt: skip
        talks = [study.case(policy="negotiation", size=size) for size in SIZES]
        for chart, name, share in ((middle, "rounds", np.ones(len(SIZES))), (right, "cpu_s", np.array(SIZES))):
            values = np.array([each[name] for each in talks]) / share[:, np.newaxis]
            chart.plot(where, np.median(values, axis=1), "o-", color=f"C{place}", ms=4, lw=1.3, label=study.dataset)
            chart.plot(np.repeat(where, values.shape[1]), values.ravel(), ".", color=f"C{place}", ms=4, alpha=0.5)
    for chart, title in (
        (left, "cost against no control, %"),
        (middle, "rounds of a day's negotiation"),
        (right, "processor time of it, s per prosumer"),
    ):
        chart.set_title(title, fontsize="medium")
        chart.set(xscale="log", xlabel="prosumers")
        chart.set_xticks(SIZES, [str(size) for size in SIZES])
        chart.minorticks_off()
        chart.grid(axis="y", color="#dddddd", linewidth=0.6)
        chart.spines[["top", "right"]].set_visible(False)
    for chart in (middle, right):
        chart.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    middle.legend(frameon=False, fontsize="small")
    figure.savefig(DOCS / "img" / "community_size.png", dpi=110)


if __name__ == "__main__":
    main()
