"""Parameters chosen on training days: rolling-origin cross-validation of what the plans of the day before cost.

The training days are cut into runs of up to two weeks. For each run but the early ones the policy is fitted on what
lies before it, so that nothing can leak, and plans the run's days at their gates. What a plan costs on the day as it
came, with the best recourse, is arithmetic (`planning.evaluate`), and so is a day that a rule plays (`replay`). The
choice is what costs least on average, as in the bilevel problem of arXiv 2409.00493: of a first round of candidates and
of those that a policy names in further rounds, once it knows what the ones before cost (`refined`). Test days are taken
out of the data before anything else.

Axis letters: D days that are judged on, N prosumers, H hours of a day, F covariates, W = 8 past days.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.day_ahead import DayStart, Plan, Scenarios, evaluate
from prosumer_gym.baselines.fit_cache import source_digest
from prosumer_gym.baselines.policy import Observation
from prosumer_gym.baselines.replay import replay_day
from prosumer_gym.baselines.rules import RulePolicy
from prosumer_gym.baselines.tuned import GridPoint, Parameters
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.errors import UsageError

_ROLLING = "rolling origin: fitted on the training days before each run of up to 14 days"
RUN_DAYS = 14
FIRST_SHARE = 3
"""A run is judged on when at least a third of the training days lie before it."""
MAX_DAYS = 90
"""Days that are judged on at most, equally spaced."""


def criterion(kind: type[Any]) -> str:
    """What a policy's parameters are chosen by."""
    if issubclass(kind, RulePolicy):
        return f"mean cost in ct of the day as played hour by hour; {_ROLLING}"
    return f"mean cost in ct of the gate's plan on the day as it came, with the best recourse; {_ROLLING}"


class Tunable(Protocol):
    """A policy whose parameters can be chosen: a class with these, whose constructor takes the parameters by name.

    It may have a classmethod `refined(points: list[GridPoint]) -> list[Parameters]`: what else to try, given what all
    that was tried cost, the default too, in the order of trying. It is asked again and again until it names nothing
    new, and depends on the points only, so that an interrupted tuning goes on as it would have. And an attribute
    `judged_days`, for other than `MAX_DAYS` to judge on at most.
    """

    tuned_as: str
    """Name of its file."""

    @classmethod
    def candidates(cls, num_days: int) -> list[Parameters]:
        """What to try first, besides the default, when fitted on at least `num_days` training days."""

    @classmethod
    def default_for(cls, history: Dataset) -> Parameters:
        """The parameters without tuning."""

    def fit(self, community: Community, history: Dataset) -> None:
        """As every policy's."""

    def day_plan(self, obs: Observation) -> Plan:
        """The plan for the day of an observation at the gate; a rule (`RulePolicy`) is replayed instead."""


@dataclass(frozen=True, eq=False)
class Run:
    """Days that are planned by one fit."""

    known: IntArray
    """Rows of the training days that the policy is fitted on."""
    judged: IntArray
    """Rows of the days that it plans [D]."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What tuning found."""

    parameters: Parameters
    default: Parameters
    train: list[GridPoint]
    dev: list[GridPoint]
    num_train_days: int
    num_dev_days: int


@dataclass(frozen=True, eq=False)
class Tuner:
    """The tuning of one policy on one data set."""

    kind: type[Any]
    """A class as `Tunable`."""
    community: Community
    dataset: Dataset
    """As published."""
    community_sha256: str
    """Of all that describes the community."""

    @cached_property
    def days(self) -> Dataset:
        """Train and dev days as the community lives them; nothing else is looked at."""
        rows = [self.dataset.days(split) for split in ("train", "dev")]
        return staged(self.dataset.subset(np.concatenate(rows)), self.community)

    @cached_property
    def history(self) -> Dataset:
        """What a policy is fitted on that plays dev and test days."""
        return self.days.training_history()

    @cached_property
    def runs(self) -> list[Run]:
        """The runs of training days to judge on, then that of the dev days.

        Raises:
            UsageError: too few training days for any.
        """
        rows = self.days.days("train")
        runs = rolling_origins(rows, self.days.block[rows], getattr(self.kind, "judged_days", MAX_DAYS))
        if not runs:
            raise UsageError(
                f"{self.dataset.id}: {rows.size} training days are too few to tune on: at least one run must have a "
                "third of them before it; give more"
            )
        return [*runs, Run(rows, self.days.days("dev"))]

    @cached_property
    def default(self) -> Parameters:
        """The parameters without tuning."""
        return dict(self.kind.default_for(self.history))

    @cached_property
    def grid(self) -> list[Parameters]:
        """The first round of candidates, the default among them."""
        candidates: list[Parameters] = list(self.kind.candidates(min(run.known.size for run in self.runs)))
        return candidates if self.default in candidates else [*candidates, self.default]

    def judge(self, run: Run, parameters: Parameters) -> list[float]:
        """Cost in ct of the plans for the days of a run [D].

        Raises:
            UsageError: one of them is a test day.
        """
        return judge(self.kind, self.community, self.days, run, parameters)

    def choose(self, kept: Path, *, jobs: int = 1, told: Callable[[int, int], None] | None = None) -> Choice:
        """Judge all candidates on the runs, round after round, choose, and judge choice and default on the dev days.

        Args:
            kept: file that keeps what is done, so that an interrupted tuning goes on; of another tuning, it is begun
                anew.
            jobs: processes.
            told: called with how many fits with their plans are done, and how many there are by what is known so far.

        Raises:
            UsageError: too few days, jobs below 1, or `kept` cannot be written.
        """
        if jobs < 1:
            raise UsageError(f"--jobs {jobs}: at least one process is needed")
        *train_runs, dev_run = self.runs
        done = _Kept(kept, self.revision())
        known, finished = list(self.grid), 0

        def tell() -> None:
            if told is not None:
                told(finished, len(train_runs) * len(known) + 2)

        def costs(runs: list[Run], candidates: list[Parameters]) -> FloatArray:
            """[candidate, D]."""
            nonlocal finished
            units = [(run, parameters) for run in runs for parameters in candidates]
            missing = [unit for unit in units if _name(*unit) not in done.costs]
            finished += len(units) - len(missing)
            tell()
            for name, found in _each(self, missing, jobs):
                done.add(name, found)
                finished += 1
                tell()
            return np.array([np.concatenate([done.costs[_name(run, p)] for run in runs]) for p in candidates])

        on_train = costs(train_runs, known)
        while more := self.refined(grid_points(known, on_train)):
            known += more
            on_train = np.concatenate([on_train, costs(train_runs, more)])
        points = grid_points(known, on_train)
        chosen = cheapest(points).parameters
        shown = [chosen] if chosen == self.default else [chosen, self.default]
        on_dev = costs([dev_run], shown)
        return Choice(
            parameters=chosen,
            default=self.default,
            train=points,
            dev=grid_points(shown, on_dev),
            num_train_days=on_train.shape[1],
            num_dev_days=on_dev.shape[1],
        )

    def refined(self, points: list[GridPoint]) -> list[Parameters]:
        """What the policy wants tried next, without what was tried already; empty when nothing."""
        if not hasattr(self.kind, "refined"):
            return []
        tried = [point.parameters for point in points]
        named: list[Parameters] = self.kind.refined(points)
        return [p for i, p in enumerate(named) if p not in tried and p not in named[:i]]

    def revision(self) -> str:
        """Digest of everything that decides the costs."""
        decisive = [
            self.kind.__module__, self.kind.__qualname__, self.community_sha256, self.days.manifest.sha256,
            source_digest(), self.grid, [[run.known.tolist(), run.judged.tolist()] for run in self.runs],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def judge(kind: type[Any], community: Community, dataset: Dataset, run: Run, parameters: Parameters) -> list[float]:
    """As `Tuner.judge`; `dataset` is staged."""
    rows = np.concatenate([run.known, run.judged])
    test = rows[dataset.split[rows] == "test"]
    if test.size:
        raise UsageError(
            f"{dataset.id}: {dataset.dates[test[0]]} is a test day; tuning sees train and dev days only, leave it out"
        )
    with threadpool_limits(1):
        rule = issubclass(kind, RulePolicy)
        policy = kind(**parameters) if rule else kind(mode="open_loop", **parameters)
        policy.fit(community, dataset.subset(run.known))
        costs = []
        for row in run.judged.tolist():
            gate = gate_observation(community, dataset, row)
            plan = replay_day(policy, dataset, row, gate) if rule else policy.day_plan(gate)
            costs.append(plan_cost_ct(plan, community, dataset, row))
        return costs


def rolling_origins(rows: IntArray, block: IntArray, max_days: int = MAX_DAYS) -> list[Run]:
    """Runs of training days to judge on, and before each what is known by then.

    Args:
        rows: of the training days [D], in date order.
        block: the blocks they lie in [D]; a run lies in one.
        max_days: judged on at most this many days, equally spaced.
    """
    starts = [0]
    for d in range(1, len(rows)):
        if block[d] != block[d - 1] or d - starts[-1] == RUN_DAYS:
            starts.append(d)
    spans = [
        np.arange(start, end)
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)
        if start > 0 and FIRST_SHARE * start >= len(rows)
    ]
    if not spans:
        return []
    eligible = np.concatenate(spans)
    chosen = eligible[np.linspace(0, eligible.size - 1, min(max_days, eligible.size)).round().astype(np.int64)]
    runs = [(rows[: span[0]], rows[np.intersect1d(span, chosen)]) for span in spans]
    return [Run(known, judged) for known, judged in runs if judged.size]


def gate_observation(community: Community, dataset: Dataset, row: int) -> Observation:
    """What a policy sees at the gate of a day that begins an episode, from the staged data itself."""
    num_hours, num_prosumers = dataset.num_hours, dataset.num_prosumers
    past = slice(row - LEAD_IN_DAYS, row)
    one, each, hourly = np.zeros(1), np.zeros(num_prosumers), np.zeros((num_hours, num_prosumers))
    return {
        "stage": one, "hour": one, "days_left": one,
        "day_of_year": np.array([float(dataset.day_of_year[row])]),
        "weekday": np.array([float(dataset.weekday[row])]),
        "weekend": np.array([float(dataset.weekend[row])]),
        "price_da_ct_per_kwh": dataset.price_da_ct_per_kwh[row],
        "shiftable_ref_kw": dataset.shiftable_ref_kw[row],
        "weather_forecast": dataset.weather_forecast[row],
        "observed": np.zeros(num_hours), "load_kw": hourly, "pv_kw": hourly,
        "price_rt_ct_per_kwh": np.zeros(num_hours), "passive_pu": np.zeros(num_hours),
        "weather": np.zeros(dataset.weather.shape[1:]),
        "past_load_kw": dataset.load_kw[past],
        "past_pv_kw": dataset.pv_kw[past],
        "past_price_da_ct_per_kwh": dataset.price_da_ct_per_kwh[past],
        "past_price_rt_ct_per_kwh": dataset.price_rt_ct_per_kwh[past],
        "past_passive_pu": dataset.passive_pu[past],
        "past_weather": dataset.weather[past],
        "position_kw": hourly.T,
        "soc_kwh": community.fleet.soc_initial_kwh,
        "backlog_kwh": each, "connection_peak_kw": each, "community_peak_kw": one,
    }  # fmt: skip


def plan_cost_ct(plan: Plan, community: Community, dataset: Dataset, row: int) -> float:
    """What the plan of the gate costs the community on a day as it came, ct."""
    fleet = community.fleet
    start = DayStart(
        start_hour=0,
        soc_kwh=fleet.soc_initial_kwh,
        backlog_kwh=np.zeros(len(fleet)),
        connection_peak_kw=np.zeros(len(fleet)),
        shiftable_ref_kw=dataset.shiftable_ref_kw[row],
        price_da_ct_per_kwh=dataset.price_da_ct_per_kwh[row],
    )
    came = Scenarios(
        dataset.load_kw[[row]], dataset.pv_kw[[row]], dataset.price_rt_ct_per_kwh[[row]], weights=np.ones(1)
    )
    return evaluate(plan, community, start, came).total_ct


def grid_points(candidates: list[Parameters], costs: FloatArray) -> list[GridPoint]:
    """Mean cost of each candidate and how far it is behind the best, from `costs` [candidate, D]."""
    mean = costs.mean(axis=1).round(3)
    best = costs[np.argmin(mean)]
    behind = costs - best
    error = behind.std(axis=1, ddof=1) / np.sqrt(costs.shape[1]) if costs.shape[1] > 1 else np.zeros(len(costs))
    return [
        GridPoint(
            parameters=parameters,
            mean_cost_ct=float(mean[c]),
            behind_best_ct=round(float(behind[c].mean()), 3),
            standard_error_ct=round(float(error[c]), 3),
        )
        for c, parameters in enumerate(candidates)
    ]


def cheapest(points: list[GridPoint]) -> GridPoint:
    """What cost least on average, as far as the file tells, the first of equals."""
    return min(points, key=lambda point: point.mean_cost_ct)


class _Kept:
    """What is done, on disk: a line a fit."""

    def __init__(self, path: Path, revision: str) -> None:
        self.path, self.costs = path, dict[str, list[float]]()
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            if not lines or lines[0] != revision:
                path.parent.mkdir(parents=True, exist_ok=True)
                lines = [revision]
            for line in lines[1:]:
                try:
                    name, costs = json.loads(line)
                except ValueError:
                    break  # cut off by a kill
                self.costs[name] = costs
            whole = [revision, *(json.dumps(item) for item in self.costs.items())]
            path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: it cannot be written ({error.strerror}); choose another folder") from None

    def add(self, name: str, costs: list[float]) -> None:
        self.costs[name] = costs
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, costs]) + "\n")


def _name(run: Run, parameters: Parameters) -> str:
    return json.dumps([int(run.judged[0]), parameters], sort_keys=True)


def _each(tuner: Tuner, units: list[tuple[Run, Parameters]], jobs: int) -> Iterator[tuple[str, list[float]]]:
    """The costs of all units, as they come."""
    if jobs == 1 or len(units) < 2:
        for run, parameters in units:
            yield _name(run, parameters), tuner.judge(run, parameters)
        return
    pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    yield from pool(
        joblib.delayed(_named_costs)(tuner.kind, tuner.community, tuner.days, run, parameters)
        for run, parameters in units
    )


def _named_costs(
    kind: type[Any], community: Community, dataset: Dataset, run: Run, parameters: Parameters
) -> tuple[str, list[float]]:
    return _name(run, parameters), judge(kind, community, dataset, run, parameters)
