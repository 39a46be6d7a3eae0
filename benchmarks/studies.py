"""Policies played on the same days for the reproduction page, and what came of it as a small file beside the page.

A study plays through `leaderboard.run.play`: every finished day is kept in a folder at once, so a run that was stopped
goes on where it was, and nothing is played twice. What is written is a file `docs/reproduction/NAME.DATASET.json` of
figures by day; the page's tables are computed from these files alone (`reproduction.py`).

Axis letters: D days, W week blocks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pages import DOCS
from rich.console import Console

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.policy import Policy
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.leaderboard.entries import Entry, code_digest
from prosumer_gym.leaderboard.metrics import DayMetrics, day_metrics
from prosumer_gym.leaderboard.progress import reporter
from prosumer_gym.leaderboard.run import Failure, Stage, play
from prosumer_gym.leaderboard.statistics import Interval, Weekly, score_interval, week_blocks, weekly_sums
from prosumer_gym.leaderboard.store import write_atomically
from prosumer_gym.rollout import Trace, rollout

FOLDER = DOCS / "reproduction"
FIGURES = {"cost_ct": 2, "peak_kw": 3, "par": 4}
"""What is kept of a day, and to how many decimals."""


@dataclass(frozen=True)
class Case(Entry):
    """A policy that a study makes itself, with settings that no registry name has."""

    factory: Callable[[], Policy] = field(kw_only=True)

    def make(self) -> Policy:
        """The policy, not fitted."""
        return self.factory()


def source_digest(*files: str) -> str:
    """Digest of the scripts that decide what a case plays: as a setting of its policy it is part of the day's key."""
    sha = hashlib.sha256()
    for file in files:
        sha.update(Path(file).read_bytes())
    return sha.hexdigest()[:16]


# what is kept -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """Figures by day of several cases on the same days."""

    command: str
    """Made it."""
    dataset: str
    dataset_sha256: str
    split: str
    dates: list[str]
    week: list[int]
    """Number of the week block of each day."""
    cases: list[dict[str, Any]]
    """Each says what it is of, and its figures: lists [D], null where undefined; what is no list counts all days."""

    def case(self, **of: object) -> dict[str, Any]:
        """The one case of which all this is true.

        Raises:
            KeyError: none, or several.
        """
        found = [case for case in self.cases if all(case.get(key) == value for key, value in of.items())]
        if len(found) != 1:
            raise KeyError(f"{self.dataset}: {len(found)} cases of {of}")
        return found[0]

    def has(self, **of: object) -> bool:
        """Whether there is a case of which all this is true."""
        return any(all(case.get(key) == value for key, value in of.items()) for case in self.cases)

    def days(self, name: str, **of: object) -> FloatArray:
        """A figure of a case by day [D]; NaN where it is undefined."""
        return np.array(self.case(**of)[name], dtype=np.float64)

    @property
    def weeks(self) -> IntArray:
        """[D]."""
        return np.array(self.week, dtype=np.int64)

    @property
    def told(self) -> str:
        """Which days these are, in words."""
        return f"`{self.dataset}`, {len(self.dates)} {self.split} days"


def study_of(
    name: str, asked: argparse.Namespace, stage: Stage, cases: list[dict[str, Any]], options: str = ""
) -> Study:
    """The study that a script was asked for, with options of its own, of the dev days of a stage."""
    dataset, rows = stage.dataset, stage.rows
    every = f" --every {asked.every}" if asked.every != 1 else ""
    return Study(
        command=f"python benchmarks/{name}.py --dataset {dataset.id}{every}{options} --write",
        dataset=dataset.id,
        dataset_sha256=dataset.manifest.sha256,
        split="dev",
        dates=[str(date) for date in dataset.dates[rows]],
        week=week_blocks(dataset.dates[rows], dataset.block[rows]).tolist(),
        cases=cases,
    )


def path_of(name: str, dataset: str) -> Path:
    """File of a study."""
    return FOLDER / f"{name}.{dataset}.json"


def save(study: Study, path: Path) -> None:
    """Write a study, a case a line."""
    head = {key: value for key, value in vars(study).items() if key != "cases"}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    cases = ",\n".join(f"  {json.dumps(case)}" for case in study.cases)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("{", *lines, ' "cases": [', cases, " ]", "}", "")), encoding="utf-8")


def load(path: Path) -> Study:
    """Read a study."""
    return Study(**json.loads(path.read_text(encoding="utf-8")))


def figures(metrics: DayMetrics) -> dict[str, list[float | None]]:
    """What is kept of the days of a case."""
    return {
        name: [None if np.isnan(x) else round(x, digits) for x in getattr(metrics, name).tolist()]
        for name, digits in FIGURES.items()
    }


# playing ----------------------------------------------------------------------------------------------------------


def arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What every study is asked, parsed."""
    parser.add_argument("--dataset", nargs="+", default=["tehran-v0", "cambridge-2018"])
    parser.add_argument("--every", type=int, default=1, help="only every so many-th dev day")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--kept", type=Path, default=Path("runs/reproduction"), help="folder of the days played so far")
    parser.add_argument("--write", action="store_true", help="into docs/reproduction; else tables are only printed")
    return parser.parse_args()


def dev_days(dataset: Dataset, every: int) -> IntArray:
    """Every so many-th dev day, as rows."""
    return dataset.days("dev")[::every]


class Outcome(NamedTuple):
    """What came of an entry's days."""

    metrics: DayMetrics
    trace: Trace


def played(stage: Stage, entries: Sequence[Entry], kept: Path, jobs: int, title: str) -> list[Outcome]:
    """The days of each entry as the scorer plays them; what an earlier run has kept is not played again."""
    console = Console(stderr=True)
    console.print(f"{stage.dataset.id}, {title}: {len(stage.rows)} days", highlight=False)
    with reporter(console) as told:
        outcome = play(stage, entries, kept, jobs=jobs, reporter=told)
    found = []
    for item in outcome:
        if isinstance(item, Failure):
            raise SystemExit(f"{item.entry.name}: {item.error}")
        if item.failed.any():
            raise SystemExit(f"{item.entry.name}: a step failed: {item.first_error}")
        trace = rollout(stage.community, stage.staged.exogenous, stage.rows, item.actions)
        found.append(Outcome(day_metrics(stage.community, stage.staged.exogenous, stage.rows, trace), trace))
    return found


def kept_value(folder: Path, of: dict[str, object], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `compute` once found, for what is no day of a policy: kept by the code, and by all of `of`."""
    key = hashlib.sha256(json.dumps([code_digest(), of], sort_keys=True).encode()).hexdigest()
    path = folder / "values" / f"{key[:16]}.json"
    if not path.exists():
        write_atomically(path, json.dumps(compute()).encode())
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def finish(
    name: str, studies: Sequence[Study], tables: Callable[[Sequence[Study]], dict[str, str]], *, write: bool
) -> None:
    """Keep the files of the studies, if wanted, and print their tables."""
    for study in studies if write else ():
        save(study, path_of(name, study.dataset))
    for title, text in tables(studies).items():
        print(f"\n{title}\n\n{text}")
    if write:
        print("\nput them on the page: python benchmarks/reproduction.py")


def datasets(names: Sequence[str]) -> list[Dataset]:
    """The data sets called so."""
    return [load_dataset(name) for name in names]


# figures with intervals -------------------------------------------------------------------------------------------


class Estimate(NamedTuple):
    """A figure and its 95 % interval; none with too few days or weeks."""

    value: float
    interval: Interval | None

    def told(self, digits: int, scale: float = 1.0, unit: str = "") -> str:
        """`1.234 (1.2 to 1.3)`."""
        text = f"{scale * self.value:.{digits}f}{unit}"
        if self.interval is None or self.interval.low == self.interval.high:
            return text
        low, high = (f"{scale * x:.{digits}f}" for x in self.interval[:2])
        return f"{text} ({low} to {high})".replace("-0." + "0" * digits + " ", "0." + "0" * digits + " ")

    @property
    def percent(self) -> str:
        """As a change in percent."""
        return self.told(1, 100.0, " %")


def reach(estimates: Sequence[Estimate]) -> FloatArray:
    """How far the intervals reach below and above the figures [2,...], as error bars take it; 0 without one."""
    ends = [each.interval[:2] if each.interval else (each.value, each.value) for each in estimates]
    return np.abs(np.array(ends).T - np.array([each.value for each in estimates]))


def _estimate(policy: FloatArray, reference: FloatArray, ideal: FloatArray, week: IntArray) -> Estimate:
    """(sum reference - sum policy) / (sum reference - sum ideal) over days [D], with the bootstrap of the boards."""
    sums = Weekly(
        policy=weekly_sums(policy[np.newaxis, np.newaxis], week),
        reference=weekly_sums(reference[np.newaxis], week),
        ideal=weekly_sums(ideal[np.newaxis], week),
        weight=np.ones(1),
        name="study",
        num_episodes=len(week),
    )
    value = float((reference - policy).sum() / (reference - ideal).sum())
    return Estimate(value, score_interval(sums))


def _turned(estimate: Estimate, about: float) -> Estimate:
    """`about` minus the estimate."""
    value, interval = estimate
    if interval is not None:
        interval = Interval(about - interval.high, about - interval.low, interval.method)
    return Estimate(about - value, interval)


def ratio(values: FloatArray, base: FloatArray, week: IntArray) -> Estimate:
    """Sum of `values` over sum of `base` [D]; days on which either is undefined are left out."""
    both = ~np.isnan(values + base)
    values, base = values[both], base[both]
    week = np.unique(week[both], return_inverse=True)[1].astype(np.int64)
    return _turned(_estimate(values, base, np.zeros_like(base), week), 1.0)


def change(values: FloatArray, base: FloatArray, week: IntArray) -> Estimate:
    """Sum of `values` over sum of `base`, minus 1."""
    value, interval = ratio(values, base, week)
    if interval is not None:
        interval = Interval(interval.low - 1.0, interval.high - 1.0, interval.method)
    return Estimate(value - 1.0, interval)


def difference(values: FloatArray, base: FloatArray, week: IntArray) -> Estimate:
    """Mean of `values` minus mean of `base` [D]."""
    return _turned(_estimate(values, base, base - 1.0, week), 0.0)


def share(part: FloatArray, whole: FloatArray, week: IntArray) -> Estimate:
    """Sum of `part` over sum of `whole` [D], e.g. of one saving in another."""
    return _estimate(-part, np.zeros_like(part), -whole, week)
