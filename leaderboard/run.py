"""From policies to logged episodes: resumable, on several processes, with the same results on one.

Every finished episode is kept at once in `OUT/work/<policy>.<mode>.<key>/`. The key is a digest of everything that
decides what is played (data, scenario, days of an episode, mode, settings, code, library versions), so an episode is
used again only where it would come out the same. Each of them begins with `reset`: it does not matter who plays it, or
when.

Axis letters: D days, K episodes, N prosumers, E trade edges, H hours of a day.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.policy import Policy
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.anchors import anchor_episode
from prosumer_gym.leaderboard.entries import (
    Entry,
    code_digest,
    content_digest,
    own_code_digest,
    package_lock,
    settings_of,
)
from prosumer_gym.leaderboard.play import EpisodeLog, one_line, play_episode
from prosumer_gym.leaderboard.progress import Reporter, Silent
from prosumer_gym.leaderboard.protocol import FAILURE_SHARE, RunError
from prosumer_gym.leaderboard.store import DamagedEpisodeError, EpisodeStore, write_atomically
from prosumer_gym.rollout import episodes_of

SEED = 0
"""Training seed of a deterministic policy: it has one."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass(frozen=True, eq=False)
class Played:
    """All days of one row of a board, as logged."""

    entry: Entry
    actions: DayActions
    """Stacked: a leading axis D."""
    failed: IntArray
    """Steps that failed, by day [D]."""
    out_of_range: IntArray
    """[D]"""
    first_error: str
    bound: FloatArray
    """Of an oracle: what no policy can beat in each episode, ct, kW or p.u. h [K]."""
    gap: FloatArray
    """Of an oracle [K]."""
    fallbacks: dict[str, IntArray]
    """How often in each episode the policy fell back to what, by its own count [K]."""
    fit_s: float
    decision_s: FloatArray
    """[D,H+1]"""
    revision: str
    """Digest of what was run."""
    settings: dict[str, object]

    @property
    def failed_share(self) -> float:
        """Share of the steps that failed."""
        return float(self.failed.sum() / self.decision_s.size)

    @property
    def ranked(self) -> bool:
        """Whether few enough steps failed."""
        return self.failed_share <= FAILURE_SHARE

    @property
    def seconds_per_day(self) -> float:
        """Mean time of a day's decisions."""
        return float(np.mean(self.decision_s.sum(axis=1)))


@dataclass(frozen=True)
class Failure:
    """A row that could not be played at all."""

    entry: Entry
    error: str


@dataclass(frozen=True, eq=False)
class Stage:
    """Where a run plays: the same for all rows of a board."""

    community: Community
    dataset: Dataset
    """As it was published: what a record names."""
    rows: IntArray
    """Days to play, rows of the data, one episode after the other [D]."""
    seed: int = SEED
    days_per_episode: int = 1
    left_over: int = 0
    """Days that were asked for and that no whole episode has: they are not played."""

    @cached_property
    def episodes(self) -> IntArray:
        """Rows of the days of each episode, a line each; K lines.

        Raises `UsageError` if the days of an episode do not follow each other.
        """
        return episodes_of(self.rows, self.days_per_episode)

    @cached_property
    def staged(self) -> Dataset:
        """The data as the community lives them: what is played and scored."""
        return staged(self.dataset, self.community)

    @cached_property
    def history(self) -> Dataset:
        """What policies are fitted on."""
        return self.staged.training_history()


@dataclass
class _Job:
    entry: Entry
    store: EpisodeStore
    revision: str
    settings: dict[str, object]
    token: str
    todo: list[int]
    """Numbers of the episodes to play."""
    logs: dict[int, EpisodeLog]
    """By the number of the episode."""
    fit_s: float = float("nan")
    failure: str = ""


# in whichever process plays ---------------------------------------------------------------------------------------


@dataclass
class _Player:
    """What a process keeps between tasks."""

    stage: Stage
    folder: Path
    """Where fitted policies are handed from process to process."""
    envs: dict[str, TwoStageEnv] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)

    def fit(self, entry: Entry, token: str, hand_on: bool) -> tuple[float, str]:
        """Fit a policy and hand it on: seconds, and what went wrong ("" for nothing)."""
        started = time.perf_counter()
        try:
            policy = entry.make()
            with threadpool_limits(1):
                policy.fit(self.stage.community, self.stage.history)
        except UsageError as error:
            return 0.0, str(error)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit too: a policy does not end the run
            return 0.0, f"fit failed: {one_line(error)}"
        seconds = time.perf_counter() - started
        if hand_on:
            try:
                content = pickle.dumps(policy)
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:
                return seconds, f"cannot be sent to another process ({one_line(error)}); use --jobs 1"
            write_atomically(self.folder / token, content)
            policy = pickle.loads(content)  # the very copy that the other processes play with
        self.policies[token] = policy
        return seconds, ""

    def play(self, entry: Entry, token: str, number: int, store: EpisodeStore) -> EpisodeLog:
        """Play an episode of the stage and keep it."""
        stage = self.stage
        rows = stage.episodes[number]
        first = int(rows[0])
        with threadpool_limits(1):
            if entry.kind == "policy":
                if token not in self.policies:
                    self.policies[token] = pickle.loads((self.folder / token).read_bytes())
                policy, env = self.policies[token], self._env(first)
                log = play_episode(env, policy, entry.name, stage.community, stage.staged, first, stage.seed)
            else:
                try:
                    log = anchor_episode(entry.name, stage.community, stage.staged, rows)
                except Exception as error:
                    raise RunError(f"{entry.name}: {stage.dataset.dates[first]}: {one_line(error)}") from error
        store.save(stage.dataset.dates[first], log)
        return log

    def _env(self, row: int) -> TwoStageEnv:
        stage = self.stage
        split = str(stage.dataset.split[row])
        if split not in self.envs:  # the environment stages the data itself
            self.envs[split] = TwoStageEnv(
                stage.dataset, scenario=stage.community, split=split, days_per_episode=stage.days_per_episode
            )
        return self.envs[split]


_player: _Player


def _start_worker(stage: Stage, folder: Path) -> None:
    """In a new process: die without a word on Ctrl-C, and with the parent, whatever killed it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    global _player
    _player = _Player(stage, folder)


def _fit_in_worker(entry: Entry, token: str) -> tuple[float, str]:
    return _player.fit(entry, token, hand_on=True)


def _play_in_worker(entry: Entry, token: str, number: int, store: EpisodeStore) -> EpisodeLog:
    return _player.play(entry, token, number, store)


# in the main process ----------------------------------------------------------------------------------------------


def play(
    stage: Stage,
    entries: Sequence[Entry],
    out: Path,
    *,
    jobs: int = 1,
    reporter: Reporter | None = None,
    fresh: bool = False,
) -> list[Played | Failure]:
    """Play every entry in every episode, using again what an earlier run has kept in `out`.

    Args:
        stage: community, data and days.
        entries: the rows of the boards.
        out: folder of the results; episodes are kept in its `work`.
        jobs: processes.
        reporter: told how it goes; nobody by default.
        fresh: forget what is kept.

    Raises:
        UsageError: `out` cannot be written to, jobs below 1, or days that are no whole episodes.
        KeyboardInterrupt: what was played until then is kept.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: at least one process is needed")
    reporter = reporter or Silent()
    plan = [_job(stage, entry, out, reporter, fresh) for entry in entries]
    with tempfile.TemporaryDirectory(prefix="prosumer-gym-") as folder:
        todo = sum(len(job.todo) for job in plan)
        if jobs == 1 or todo == 0:
            _play_here(_Player(stage, Path(folder)), plan, reporter)
        else:
            _play_apart(stage, Path(folder), plan, min(jobs, todo), reporter)
    return [_result(stage, job) for job in plan]


def revision_of(stage: Stage, entry: Entry, settings: dict[str, object]) -> str:
    """Digest of everything that decides what an entry plays in an episode."""
    decisive = {
        "dataset": stage.dataset.manifest.sha256,
        "scenario": content_digest(stage.community),
        "name": entry.name,
        "mode": entry.mode,
        "settings": settings,
        "seed": stage.seed,
        "days per episode": stage.days_per_episode,
        "code": code_digest(),
        "own code": own_code_digest(entry),
        "lock": package_lock(),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _job(stage: Stage, entry: Entry, out: Path, reporter: Reporter, fresh: bool) -> _Job:
    settings = settings_of(entry.make(), stage.history) if entry.kind == "policy" else {}
    if "passed_over" in settings:
        reporter.note(f"{entry.name}: {settings['passed_over']}")
    revision = revision_of(stage, entry, settings)
    label = entry.name.replace(":", "-")
    store = EpisodeStore(out / "work" / f"{label}.{entry.mode}.{revision[:16]}", revision)
    if fresh:
        shutil.rmtree(store.folder, ignore_errors=True)
    about = {"policy": entry.name, "mode": entry.mode, "days per episode": stage.days_per_episode}
    write_atomically(store.folder / "about.json", json.dumps(about).encode())
    job = _Job(entry, store, revision, settings, revision[:16], [], {})
    for number, first in enumerate(stage.episodes[:, 0].tolist()):
        try:
            log = store.load(stage.dataset.dates[first])
        except DamagedEpisodeError as damage:
            reporter.note(f"{damage}; playing the {'day' if stage.days_per_episode == 1 else 'episode'} again")
            log = None
        if log is None:
            job.todo.append(number)
        else:
            job.logs[number] = log
    with contextlib.suppress(OSError, ValueError, KeyError):
        job.fit_s = float(json.loads((store.folder / "fit.json").read_text())["fit_s"])
    reporter.begin(_label(job), len(stage.episodes), len(job.logs))
    return job


def _label(job: _Job) -> str:
    return job.entry.name if job.entry.kind != "policy" else f"{job.entry.name} ({job.entry.mode})"


def _play_here(player: _Player, plan: Sequence[_Job], reporter: Reporter) -> None:
    for job in plan:
        if job.todo and job.entry.kind == "policy":
            reporter.fitting(_label(job))
            _fitted(job, *player.fit(job.entry, job.token, hand_on=False))
        for number in job.todo if not job.failure else ():
            job.logs[number] = player.play(job.entry, job.token, number, job.store)
            reporter.advance(_label(job))


def _fitted(job: _Job, seconds: float, failure: str) -> None:
    job.fit_s, job.failure = seconds, failure
    if not failure:
        write_atomically(job.store.folder / "fit.json", json.dumps({"fit_s": seconds}).encode())


def _play_apart(stage: Stage, folder: Path, plan: Sequence[_Job], jobs: int, reporter: Reporter) -> None:
    """Fits first, so that one policy plays while the next one is fitted."""
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(stage, folder)
    )
    fits: dict[Future[tuple[float, str]], _Job] = {}
    episodes: dict[Future[EpisodeLog], tuple[_Job, int]] = {}

    def submit_episodes(job: _Job) -> None:
        for number in job.todo:
            with _quiet_start():
                episodes[pool.submit(_play_in_worker, job.entry, job.token, number, job.store)] = (job, number)

    try:
        for job in plan:
            if job.todo and job.entry.kind == "policy":
                reporter.fitting(_label(job))
                with _quiet_start():
                    fits[pool.submit(_fit_in_worker, job.entry, job.token)] = job
        for job in plan:
            if job.entry.kind != "policy":
                submit_episodes(job)
        while fits or episodes:
            pending: list[Future[Any]] = [*fits, *episodes]
            wait(pending, return_when=FIRST_COMPLETED)
            for fit in [future for future in fits if future.done()]:
                job = fits.pop(fit)
                _fitted(job, *fit.result())
                if not job.failure:
                    submit_episodes(job)
            for episode in [future for future in episodes if future.done()]:
                job, number = episodes.pop(episode)
                job.logs[number] = episode.result()
                reporter.advance(_label(job))
    except BrokenProcessPool:
        raise RunError(
            "a process was killed from outside, perhaps for lack of memory; what was played so far is kept: "
            "run the same command again, with --jobs 1 if memory is short"
        ) from None
    finally:
        if fits or episodes:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """What is submitted may start a process: it uses one thread and, until it is ready, leaves Ctrl-C to this one."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    try:
        yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _result(stage: Stage, job: _Job) -> Played | Failure:
    if job.failure:
        return Failure(job.entry, job.failure)
    logs = [job.logs[number] for number in range(len(stage.episodes))]
    return Played(
        entry=job.entry,
        actions=DayActions.join([log.actions for log in logs]),
        failed=np.concatenate([log.failed for log in logs]),
        out_of_range=np.concatenate([log.out_of_range for log in logs]),
        first_error=next((log.first_error for log in logs if log.first_error), ""),
        bound=np.array([log.bound for log in logs]),
        gap=np.array([log.gap for log in logs]),
        fallbacks={
            what: np.array([log.fallbacks.get(what, 0) for log in logs], dtype=np.int64)
            for what in sorted({what for log in logs for what in log.fallbacks})
        },
        fit_s=job.fit_s if job.entry.kind == "policy" else 0.0,
        decision_s=np.concatenate([log.decision_s for log in logs]),
        revision=job.revision,
        settings=job.settings,
    )
