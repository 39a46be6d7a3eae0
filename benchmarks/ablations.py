"""What trade, batteries and shiftable loads are worth: communities without them, the same policies, dev days.

    python benchmarks/ablations.py [--dataset tehran-v0 ...] [--mpc po ...] [--every 1] [--jobs 2] [--write]

Without trade: no edges. Without batteries: of no power, so the energy in them stays where it is. Without shiftable
loads: the loads stay, but run by themselves. Policies are fitted and plan for the community that they play in; the
oracle of cost knows the day. Days are kept in --kept: an interrupted run goes on where it stopped.

Axis letters: D days.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pages import markdown
from studies import Study, arguments, change, datasets, dev_days, difference, figures, finish, played, share, study_of

from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.leaderboard.entries import BOTH, ORACLES, REFERENCE, Entry, policy_entry
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.scenarios import make_scenario

NAME = "ablations"
FULL, NONE = "all three", "none of them"
WITHOUT = {
    FULL: (),
    "without trade": ("trade",),
    "without batteries": ("batteries",),
    "without shiftable loads": ("shiftable loads",),
    NONE: ("trade", "batteries", "shiftable loads"),
}
"""What each community lacks."""
OPEN_LOOP, MPC = "open_loop", "mpc"
POLICIES = ("po", "knn", "er-saa")
ORACLE = ORACLES["cost"]


def main() -> None:
    """Play, tell, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mpc", nargs="*", choices=POLICIES, default=list(POLICIES), help="who plays in mpc too")
    asked = arguments(parser)
    studies = []
    for dataset in datasets(asked.dataset):
        rows, cases = dev_days(dataset, asked.every), []
        for lacking, parts in WITHOUT.items():
            stage = Stage(without(make_scenario("ieee33"), *parts), dataset, rows)
            entries = entries_of(asked.mpc)
            for entry, row in zip(entries, played(stage, entries, asked.kept, asked.jobs, lacking), strict=True):
                cases.append({"community": lacking, "policy": entry.name, "mode": entry.mode, **figures(row.metrics)})
        studies.append(study_of(NAME, asked, stage, cases, f" --mpc {' '.join(asked.mpc)}"))
    finish(NAME, studies, tables, write=asked.write)


def entries_of(mpc: Sequence[str]) -> list[Entry]:
    """Who plays in each community: all policies open loop, those of `mpc` hour by hour too."""
    return [
        Entry(REFERENCE, BOTH, "reference", "-"),
        Entry(ORACLE, BOTH, "oracle", "-"),
        *(policy_entry(name, OPEN_LOOP) for name in POLICIES),
        *(policy_entry(name, MPC) for name in mpc),
    ]


def without(community: Community, *parts: str) -> Community:
    """The community that lacks `trade`, `batteries` or `shiftable loads`, or several of them."""
    fleet, nothing = community.fleet, np.zeros(community.num_prosumers)
    if "batteries" in parts:
        fleet = replace(fleet, battery_power_kw=nothing)
    if "shiftable loads" in parts:  # a backlog of nothing: each hour's load is its reference
        fleet = replace(fleet, backlog_min_kwh=nothing, backlog_max_kwh=nothing)
    graph = TradeGraph.ring_with_chords(1) if "trade" in parts else community.graph
    name = "-".join((community.name, "without", *(part.replace(" ", "-") for part in parts))) if parts else None
    return community.replace(name=name or community.name, fleet=fleet, graph=graph)


def tables(studies: Sequence[Study]) -> dict[str, str]:
    """By name of their place on the page."""
    return {f"ablations {study.dataset}": _table(study) for study in studies}


def _table(study: Study) -> str:
    """What each part is worth to each policy: what the community pays more without it."""
    week = study.weeks
    reference = study.days("cost_ct", community=FULL, policy=REFERENCE)
    head = ("policy", "mode", "all three, ct/day", "against no control", *list(WITHOUT)[1:])
    lines = []
    rows = [(name, mode) for mode in (OPEN_LOOP, MPC) for name in POLICIES if study.has(policy=name, mode=mode)]
    for policy, mode in ((ORACLE, BOTH), *rows):

        def cost(community: str, policy: str = policy, mode: str = mode) -> np.ndarray:
            return study.days("cost_ct", community=community, policy=policy, mode=mode)

        full = cost(FULL)
        worth = []
        for lacking in list(WITHOUT)[1:]:
            more = difference(cost(lacking), full, week)
            of_all = share(cost(lacking) - full, reference - full, week)
            worth.append(f"{more.told(0)}; {100 * of_all.value:.0f} %")
        name = f"`{policy}`" if policy != ORACLE else f"*{policy}*"
        shown = "" if mode == BOTH else mode.replace("_", " ")
        lines.append((name, shown, f"{full.mean():.0f}", change(full, reference, week).percent, *worth))
    words = (
        f"{study.told[0].upper()}{study.told[1:]}; `no-control` pays {reference.mean():.0f} ct/day in each of these "
        "communities. The last columns: ct/day that the community pays more without the part (95 % interval), and what "
        "share of the saving against no control that is."
    )
    return f"{words}\n\n{markdown(head, lines, text_columns=2)}"


if __name__ == "__main__":
    main()
