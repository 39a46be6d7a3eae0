"""Boards: what was played, recomputed by the simulator, scored, and written down.

Axis letters: M metrics, D days, K episodes.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.splits import SPLITS
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.entries import (
    IDEALS,
    ORACLES,
    REFERENCE,
    Entry,
    anchor_entries,
    code_digest,
    content_digest,
    package_lock,
)
from prosumer_gym.leaderboard.metrics import DayMetrics, day_metrics
from prosumer_gym.leaderboard.progress import Reporter
from prosumer_gym.leaderboard.protocol import (
    DAY_AHEAD_LIMIT_S,
    FIT_LIMIT_S,
    METRICS,
    MIN_EPISODES,
    PROTOCOL_VERSION,
    STEP_BANK_S,
    STEP_LIMIT_S,
    WEIGHTS,
)
from prosumer_gym.leaderboard.records import (
    DatasetPart,
    EnvironmentPart,
    Headline,
    MadeOn,
    PolicyPart,
    Protocol,
    Record,
    Result,
    ScenarioPart,
    SeedRun,
    figures,
    make_record,
    save_record,
    save_traces,
    yardstick_part,
)
from prosumer_gym.leaderboard.run import Failure, Played, Stage, play
from prosumer_gym.leaderboard.score import Score, Yardstick, score, scored_metrics
from prosumer_gym.leaderboard.statistics import week_blocks
from prosumer_gym.leaderboard.store import actions_digest
from prosumer_gym.rollout import Trace, rollout


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a board."""

    played: Played
    trace: Trace
    metrics: DayMetrics
    score: Score

    @property
    def entry(self) -> Entry:
        """Which row it is."""
        return self.played.entry


@dataclass(frozen=True, eq=False)
class Board:
    """The policies of one mode beside reference and oracles, best first."""

    mode: str
    anchors: list[Row]
    policies: list[Row]
    failures: list[Failure]
    yard: Yardstick

    @property
    def reference(self) -> Row:
        """The row of nobody steering."""
        return next(row for row in self.anchors if row.entry.name == REFERENCE)

    @property
    def complete(self) -> bool:
        """Whether every policy could be played, and failed on few enough steps."""
        return not self.failures and all(row.played.ranked for row in self.policies)


def choose_days(dataset: Dataset, split: str, num_days: int | None) -> IntArray:
    """The first `num_days` days of a split (all by default), as rows.

    Raises:
        UsageError: unknown split, no days, or more than there are.
    """
    if split not in SPLITS:
        raise UsageError(f"--split {split!r} is not known; choose one of: {', '.join(SPLITS)}")
    rows = dataset.days(split)
    if num_days is None:
        return rows
    if num_days < 1:
        raise UsageError(f"--days {num_days}: at least one day is needed")
    if num_days > len(rows):
        raise UsageError(
            f"--days {num_days}: split {split!r} of {dataset.id} has {len(rows)} {'day' if len(rows) == 1 else 'days'}"
        )
    return rows[:num_days]


def choose_episodes(dataset: Dataset, split: str, num_days: int | None, days_per_episode: int) -> tuple[IntArray, int]:
    """The days of the whole episodes among the first `num_days` days of a split, as rows, and how many are in none.

    An episode is `days_per_episode` days on consecutive dates of one block; each such stretch of the split is cut into
    episodes from its beginning.

    Raises:
        UsageError: as `choose_days`; episodes of less than a day, or of more days than follow each other.
    """
    if days_per_episode < 1:
        raise UsageError(f"--days-per-episode {days_per_episode}: an episode has at least one day")
    rows = choose_days(dataset, split, num_days)
    dates = dataset.dates[rows]
    follows = (np.diff(rows) == 1) & (np.diff(dates) == np.timedelta64(1, "D"))  # rows: a block begins with its lead-in
    stretches = np.split(rows, np.flatnonzero(~follows) + 1)
    whole = [stretch[: len(stretch) // days_per_episode * days_per_episode] for stretch in stretches]
    chosen = np.concatenate(whole)
    if chosen.size == 0:
        among = f"the {len(rows)}" if num_days is None else f"the first {num_days}"
        raise UsageError(
            f"--days-per-episode {days_per_episode}: among {among} days of split {split!r} of {dataset.id} at most "
            f"{max(map(len, stretches))} follow each other; use shorter episodes"
        )
    return chosen, len(rows) - len(chosen)


def run_boards(
    stage: Stage,
    boards: Mapping[str, Sequence[Entry]],
    out: Path,
    *,
    jobs: int = 1,
    reporter: Reporter | None = None,
    fresh: bool = False,
) -> list[Board]:
    """Play and score the boards, by mode; reference and oracles are played once and stand on all of them.

    Raises:
        UsageError: see `run.play`.
        ImpossibleScoreError: a policy beat perfect foresight.
    """
    entries = [*anchor_entries(), *(entry for board in boards.values() for entry in board)]
    outcome = play(stage, entries, out, jobs=jobs, reporter=reporter, fresh=fresh)
    failures = [item for item in outcome if isinstance(item, Failure)]
    recorded: list[tuple[Played, Trace, DayMetrics]] = []
    for item in outcome:
        if isinstance(item, Played):
            trace = rollout(
                stage.community,
                stage.staged.exogenous,
                stage.rows,
                item.actions,
                days_per_episode=stage.days_per_episode,
            )
            metrics = day_metrics(stage.community, stage.staged.exogenous, stage.rows, trace)
            recorded.append((item, trace, metrics))
    by_name = {item.entry.name: (item, metrics) for item, _, metrics in recorded if item.entry.kind != "policy"}
    yard = make_yardstick(stage, by_name)
    rows = [Row(item, trace, metrics, score(item.entry.name, [metrics], yard)) for item, trace, metrics in recorded]
    anchors = [row for row in rows if row.entry.kind != "policy"]
    return [
        Board(
            mode=mode,
            anchors=anchors,
            policies=sorted(
                (row for row in rows if row.entry.kind == "policy" and row.entry.mode == mode),
                key=lambda row: -row.score.j,
            ),
            failures=[item for item in failures if item.entry.mode == mode],
            yard=yard,
        )
        for mode in boards
    ]


def make_yardstick(stage: Stage, anchors: Mapping[str, tuple[Played, DayMetrics]]) -> Yardstick:
    """Reference and ideals of the days that were played, from the recorded anchors by name."""
    reference = anchors[REFERENCE][1]
    num_episodes, length = len(stage.episodes), stage.days_per_episode
    ideal: list[FloatArray] = []
    gap: list[FloatArray] = []
    gross_kw = reference.gross_demand_kw.reshape(num_episodes, length).mean(axis=1)
    unit = {"cost": np.ones(num_episodes), "peak": 1.0 / gross_kw}  # an oracle's peaks are in kW of a mean day
    for metric in METRICS:
        oracle = anchors[ORACLES[metric]][0] if metric in IDEALS else None
        ideal.append(oracle.bound * unit[metric] if oracle else np.zeros(num_episodes))
        gap.append(oracle.gap * unit[metric] if oracle else np.zeros(num_episodes))
    first = stage.episodes[:, 0]
    yard = Yardstick(
        reference=scored_metrics([reference])[:, 0],
        ideal=np.stack(ideal),
        gap=np.stack(gap),
        week=np.repeat(week_blocks(stage.dataset.dates[first], stage.dataset.block[first]), length),
        reference_per_prosumer_ct=reference.cost_per_prosumer_ct,
        best_oracle_j=float("nan"),
    )
    attained = [score(name, [anchors[name][1]], yard).j for name in ORACLES.values()]
    return replace(yard, best_oracle_j=max(attained))


def row_record(stage: Stage, split: str, row: Row, yard: Yardstick) -> Record:
    """What is kept of a row."""
    played, dataset = row.played, stage.dataset
    interval = row.score.j_interval
    result = Result(
        protocol=Protocol(version=PROTOCOL_VERSION, weights=WEIGHTS),
        environment=EnvironmentPart(
            version=package_lock()["prosumer-gym"], code_sha256=code_digest(), lock=package_lock()
        ),
        dataset=DatasetPart.model_validate(
            {
                "id": dataset.id,
                "version": dataset.manifest.version,
                "sha256": dataset.manifest.sha256,
                "split": split,
                "dates": [str(date) for date in dataset.dates[stage.rows]],
                "week": yard.week.tolist(),
                "days_per_episode": stage.days_per_episode,
            }
        ),
        scenario=ScenarioPart(id=stage.community.name, sha256=content_digest(stage.community)),
        mode=played.entry.mode,  # type: ignore[arg-type]
        control="central",
        policy=PolicyPart.model_validate(
            {
                "name": played.entry.name,
                "kind": played.entry.kind,
                "family": played.entry.family,
                "revision": played.revision,
                "settings": played.settings,
            }
        ),
        runs=[
            SeedRun(
                seed=stage.seed,
                action_log_sha256=actions_digest(played.actions),
                failed_steps=played.failed.tolist(),
                out_of_range=played.out_of_range.tolist(),
                first_error=played.first_error,
                fallbacks={what: counts.tolist() for what, counts in played.fallbacks.items()},
                **figures(row.metrics),
            )
        ],
        yardstick=yardstick_part(yard),
        headline=Headline(
            j=_defined(row.score.j),
            j_low=interval.low if interval else None,
            j_high=interval.high if interval else None,
            interval_method=interval.method if interval else None,
            s={metric: _defined(value) for metric, value in row.score.s.items()},
            ranked=played.ranked and len(stage.episodes) >= MIN_EPISODES,
        ),
    )
    return make_record(result, _made_on(played))


def save_rows(stage: Stage, split: str, boards: Sequence[Board], out: Path) -> list[Path]:
    """Write the records of all rows, and their hourly traces beside them; returns the records' files."""
    dates = [str(date) for date in stage.dataset.dates[stage.rows]]
    rows = [*boards[0].anchors, *(row for board in boards for row in board.policies)]
    files = []
    for row in rows:
        path = save_record(row_record(stage, split, row, boards[0].yard), out / "records")
        save_traces(row.played.actions, row.trace, dates, path.with_suffix(".npz"))
        files.append(path)
    return files


def _made_on(played: Played) -> MadeOn:
    day_ahead_s, steps_s = played.decision_s[:, 0], played.decision_s[:, 1:]
    beyond_bank_s = np.maximum(steps_s - STEP_LIMIT_S, 0.0).sum(axis=1)
    fit_s = _defined(played.fit_s)
    ratios = [(fit_s or 0.0) / FIT_LIMIT_S, day_ahead_s.max() / DAY_AHEAD_LIMIT_S, beyond_bank_s.max() / STEP_BANK_S]
    return MadeOn(
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        platform=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        fit_s=fit_s,
        seconds_per_day=played.seconds_per_day,
        p95_day_ahead_s=float(np.quantile(day_ahead_s, 0.95)),
        p95_step_s=float(np.quantile(steps_s, 0.95)),
        time_ratio=float(max(ratios)),
    )


def _processor() -> str:
    """Name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def community_of(scenario: str, dataset: Dataset) -> Community:
    """The community of a scenario, with the data's number of hours a day.

    Raises:
        UsageError: an unknown scenario, or one that the data does not fit.
    """
    from prosumer_gym.scenarios import make_scenario

    community = make_scenario(scenario)
    if dataset.num_hours != 24:
        community = community.replace(hours_per_day=dataset.num_hours)
    dataset.check_community(community)
    return community
