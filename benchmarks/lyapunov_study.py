"""`lyapunov` against `greedy` and the oracle of cost: single days and long episodes, with and without a position.

    python benchmarks/lyapunov_study.py [--dataset tehran-v0 ...] [--days-per-episode 30] [--jobs 2] [--write]

Three kinds: modified and tuned (the policy as it is), theoretical (each battery its own V_max) and vanilla (one V for
all). With a position: as the boards play. Pure real time: nobody may buy day-ahead, as in the paper, neither greedy nor
the oracle. Dev days, the same ones alone and in episodes that batteries run through; where a block of the data is
shorter than --days-per-episode, its days are one episode. Episodes are kept in --kept: an interrupted run goes on.

Axis letters: D days.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pages import markdown
from rich.console import Console
from studies import Study, change, datasets, figures, finish

from prosumer_gym.arrays import IntArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.leaderboard.entries import BOTH, ORACLES, REFERENCE, Entry, policy_entry
from prosumer_gym.leaderboard.metrics import day_metrics
from prosumer_gym.leaderboard.progress import reporter
from prosumer_gym.leaderboard.run import Failure, Stage, play
from prosumer_gym.leaderboard.statistics import week_blocks
from prosumer_gym.rollout import rollout
from prosumer_gym.scenarios import make_scenario

NAME = "lyapunov"
SCRIPT = "benchmarks/lyapunov_study.py"
ORACLE = ORACLES["cost"]
KINDS = {
    "greedy": "greedy",
    "modified": "lyapunov",
    "theoretical": "lyapunov+theoretical",
    "vanilla": "lyapunov+vanilla",
}
PLANNED, REAL_TIME = "with a position", "pure real time"


def main() -> None:
    """Play, tell, keep."""
    asked = arguments()
    studies = []
    for dataset in datasets(asked.dataset):
        longest = min(asked.days_per_episode, *(run.size for run in runs(dataset)))
        rows = np.concatenate([run[: run.size // longest * longest] for run in runs(dataset)])
        cases = [
            case
            for market in (PLANNED, REAL_TIME)
            for days_per_episode in (1, longest)
            for case in played(
                Stage(community(market), dataset, rows, days_per_episode=days_per_episode), market, asked
            )
        ]
        studies.append(
            Study(
                command=f"python {SCRIPT} --dataset {dataset.id} --days-per-episode {longest} --write",
                dataset=dataset.id,
                dataset_sha256=dataset.manifest.sha256,
                split="dev",
                dates=[str(date) for date in dataset.dates[rows]],
                week=week_blocks(dataset.dates[rows], dataset.block[rows]).tolist(),
                cases=cases,
            )
        )
    finish(NAME, studies, tables, write=asked.write)


def arguments() -> argparse.Namespace:
    """What was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", nargs="+", default=["tehran-v0", "cambridge-2018"])
    parser.add_argument("--days-per-episode", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--kept", type=Path, default=Path("runs/lyapunov"), help="folder of the episodes played so far")
    parser.add_argument("--write", action="store_true", help="into docs/reproduction; else tables are only printed")
    return parser.parse_args()


def runs(dataset: Dataset) -> list[IntArray]:
    """The dev days, as runs of days that follow each other."""
    rows = dataset.days("dev")
    return np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)


def community(market: str) -> Community:
    """The ten prosumers; in pure real time they cannot buy day-ahead."""
    found = make_scenario("ieee33")
    if market == PLANNED:
        return found
    nothing = np.zeros(found.num_prosumers)
    return found.replace(name=f"{found.name}-real-time", fleet=replace(found.fleet, position_limit_kw=nothing))


def played(stage: Stage, market: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """What came of each kind, the reference and the oracle, by day."""
    console = Console(stderr=True)
    console.print(f"{stage.dataset.id}, {market}, episodes of {stage.days_per_episode}", highlight=False)
    option = "+unplanned" if market == REAL_TIME else ""
    policies = {kind: f"{name}{option}" if kind != "greedy" else name for kind, name in KINDS.items()}
    entries = {
        REFERENCE: Entry(REFERENCE, BOTH, "reference", "-"),
        **{kind: policy_entry(name, "mpc") for kind, name in policies.items()},
        ORACLE: Entry(ORACLE, BOTH, "oracle", "-"),
    }
    with reporter(console) as told:
        outcome = play(stage, list(entries.values()), asked.kept, jobs=asked.jobs, reporter=told)
    cases = []
    for kind, item in zip(entries, outcome, strict=True):
        if isinstance(item, Failure):
            raise SystemExit(f"{kind}: {item.error}")
        if item.failed.any():
            raise SystemExit(f"{kind}: a step failed: {item.first_error}")
        exogenous, days = stage.staged.exogenous, stage.days_per_episode
        trace = rollout(stage.community, exogenous, stage.rows, item.actions, days_per_episode=days)
        metrics = day_metrics(stage.community, exogenous, stage.rows, trace)
        level = {"lowest_kwh": float(trace.soc_kwh.min()), "highest_kwh": float(trace.soc_kwh.max())}
        of = {"kind": kind, "market": market, "days_per_episode": days}
        cases.append({**of, **figures(metrics), **{name: round(value, 6) for name, value in level.items()}})
    return cases


def tables(studies: Sequence[Study]) -> dict[str, str]:
    """By name of their place on the page."""
    return {f"lyapunov {study.dataset}": _table(study) for study in studies}


def _table(study: Study) -> str:
    """Each kind against greedy and against the oracle of the same market and length."""
    lengths = sorted({case["days_per_episode"] for case in study.cases})
    head = ("market", "policy", *(column for days in lengths for column in _columns(days)))
    lines = []
    for market in (PLANNED, REAL_TIME):
        for kind in (REFERENCE, *KINDS, ORACLE):
            cells = [cell for days in lengths for cell in _cells(study, market, kind, days)]
            lines.append((market, f"*{kind}*" if kind == ORACLE else kind, *cells))
    words = (
        f"{study.told[0].upper()}{study.told[1:]}, each an episode of its own, and in episodes of {lengths[-1]} days. "
        "95 % intervals over weeks; `soc`: lowest and highest state of charge of any battery in any hour."
    )
    return f"{words}\n\n{markdown(head, lines, text_columns=2)}"


def _columns(days: int) -> tuple[str, ...]:
    of = "1 day" if days == 1 else f"{days} days"
    return f"{of}: ct/day", "against greedy", "above the oracle", "PAR", "soc, kWh"


def _cells(study: Study, market: str, kind: str, days: int) -> tuple[str, ...]:
    case = study.case(market=market, kind=kind, days_per_episode=days)
    cost, greedy, best = (
        study.days("cost_ct", market=market, kind=name, days_per_episode=days) for name in (kind, "greedy", ORACLE)
    )
    par = np.nanmean(study.days("par", market=market, kind=kind, days_per_episode=days))
    return (
        f"{cost.mean():.0f}",
        "" if kind == "greedy" else change(cost, greedy, study.weeks).percent,
        "" if kind == ORACLE else f"{100 * (cost.sum() / best.sum() - 1):.1f} %",
        f"{par:.2f}",
        f"{case['lowest_kwh']:.1f} ... {case['highest_kwh']:.1f}",
    )


if __name__ == "__main__":
    main()
