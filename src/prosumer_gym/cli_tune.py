"""`prosumer-gym tune`: choose the parameters of a policy on training days."""

from __future__ import annotations

import datetime
import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import prosumer_gym
from prosumer_gym.baselines.fit_cache import source_digest
from prosumer_gym.baselines.registry import tunable_class
from prosumer_gym.baselines.tuned import GridPoint, TunedFile, tuned_home, tuned_path
from prosumer_gym.baselines.tuning import Choice, Tuner, criterion
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.errors import InterruptedRunError, UsageError
from prosumer_gym.leaderboard.bench import community_of
from prosumer_gym.leaderboard.entries import content_digest, package_lock

_EVERY_S = 15.0


def tune(name: str, dataset: str, scenario: str, jobs: int, home: Path | None) -> Path:
    """Tune a policy, say what came out, and keep it; returns the file.

    Raises:
        UsageError: an unknown policy, or one without parameters; too few days; a file that cannot be written.
    """
    kind = tunable_class(name)
    data = load_dataset(dataset)
    community = community_of(scenario, data)
    tuner = Tuner(kind, community, data, content_digest(community))
    path = tuned_path(home or tuned_home(), data.id, name)
    kept = path.with_suffix(".partial")
    try:
        with _progress(name) as told:
            choice = tuner.choose(kept, jobs=jobs, told=told)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; what is done is kept in {kept}: run the same command again to go on"
        ) from None
    words = ["prosumer-gym", "tune", name, "--dataset", dataset, "--scenario", scenario]
    file = TunedFile(
        policy=name,
        parameters=choice.parameters,
        dataset=data.id,
        dataset_sha256=data.manifest.sha256,
        history_sha256=tuner.history.manifest.sha256,
        scenario=community.name,
        scenario_sha256=tuner.community_sha256,
        criterion=criterion(kind),
        train_days=choice.num_train_days,
        train=choice.train,
        dev_days=choice.num_dev_days,
        dev=choice.dev,
        command=shlex.join(words),
        package=prosumer_gym.__version__,
        code_sha256=source_digest(),
        libraries=package_lock(),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    try:
        new = path.with_suffix(".new")
        new.write_text(json.dumps(file.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: it cannot be written ({error.strerror}); choose another folder") from None
    kept.unlink(missing_ok=True)
    _tell(choice, path)
    return path


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(f"tuning {name}", total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
        return
    said = -_EVERY_S

    def told(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _EVERY_S or done == total:
            said = now
            console.print(f"tuning {name}: {done} of {total} fits with their plans", highlight=False, soft_wrap=True)

    yield told


def _tell(choice: Choice, path: Path) -> None:
    console = Console()
    for title, points in (
        (f"train: {choice.num_train_days} days, each planned from the days before it", choice.train),
        (f"dev: {choice.num_dev_days} days, for information", choice.dev),
    ):
        console.print(_table(title, points, choice))
    console.print(f"kept in {path}", highlight=False, markup=False, soft_wrap=True)


def _table(title: str, points: list[GridPoint], choice: Choice) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1))
    for heading in ("parameters", "ct/day", "behind the best", "standard error", ""):
        table.add_column(heading, justify="left" if heading in ("parameters", "") else "right", no_wrap=True)
    for point in points:
        marks = [
            word
            for word, value in (("chosen", choice.parameters), ("default", choice.default))
            if value == point.parameters
        ]
        values = ", ".join(f"{key} {value:g}" for key, value in point.parameters.items())
        numbers = (point.mean_cost_ct, point.behind_best_ct, point.standard_error_ct)
        table.add_row(values, *(f"{number:.1f}" for number in numbers), ", ".join(marks))
    return table
