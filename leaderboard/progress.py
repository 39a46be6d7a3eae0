"""What a run tells while it goes on: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_EVERY_S = 15.0


class Reporter(Protocol):
    """Where a run reports to."""

    def begin(self, name: str, total: int, kept: int) -> None:
        """`total` episodes of `name` are to be played, of which `kept` are there from an earlier run."""

    def fitting(self, name: str) -> None:
        """Its fit has begun."""

    def advance(self, name: str) -> None:
        """One more episode is played."""

    def note(self, text: str) -> None:
        """A line that stays."""


class Silent:
    """Reports nothing."""

    def begin(self, name: str, total: int, kept: int) -> None:
        """Nothing."""

    def fitting(self, name: str) -> None:
        """Nothing."""

    def advance(self, name: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class PlainLines:
    """A line when a policy begins and ends, and one now and then between, for logs and pipes.

    `unit` is what an episode is called.
    """

    def __init__(self, console: Console, unit: str = "day") -> None:
        self._console = console
        self._unit = unit
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self, name: str, total: int, kept: int) -> None:
        """Say how much there is to do, if anything was kept."""
        self._done[name], self._total[name], self._kept[name] = kept, total, kept
        if kept:
            self.note(f"{name}: {kept} of {total} {self._unit}s are kept from an earlier run")

    def fitting(self, name: str) -> None:
        """Say so."""
        self.note(f"{name}: fitting")

    def advance(self, name: str) -> None:
        """Say how far it is, now and then."""
        now = time.monotonic()
        self._started.setdefault(name, now)
        self._done[name] += 1
        done, total = self._done[name], self._total[name]
        if done == total:
            self.note(f"{name}: {total} {self._unit if total == 1 else self._unit + 's'}")
        elif now - self._said > PLAIN_EVERY_S and (played := done - self._kept[name]) > 1:
            self._said = now
            left_s = (now - self._started[name]) / (played - 1) * (total - done)
            self.note(f"{name}: {done} of {total} {self._unit}s, about {left_s:.0f} s left")

    def note(self, text: str) -> None:
        """Print the line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Left(TimeRemainingColumn):
    """The time that is left, and nothing once all is done: the time it took stands before it."""

    def render(self, task: Task) -> Text:
        return Text("") if task.finished else Text("left ") + super().render(task)


class LiveBars:
    """One bar a policy, with the time it will still take; `unit` is what an episode is called."""

    def __init__(self, console: Console, unit: str = "day") -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn(f"{unit}s"),
            TimeElapsedColumn(),
            _Left(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, name: str, total: int, kept: int) -> None:
        """A new bar."""
        self._tasks[name] = self._progress.add_task(name, total=total, completed=kept)
        self._progress.update(self._tasks[name], completed=kept)  # so a bar that is full at once counts as finished

    def fitting(self, name: str) -> None:
        """Say so on its bar."""
        self._progress.update(self._tasks[name], description=f"{name} [dim](fitting)[/dim]")

    def advance(self, name: str) -> None:
        """Move its bar."""
        self._progress.update(self._tasks[name], description=name, advance=1)

    def note(self, text: str) -> None:
        """Print the line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)


def reporter(console: Console, unit: str = "day") -> LiveBars | PlainLines:
    """Bars on a terminal, lines elsewhere, of days or other units; a context manager."""
    return LiveBars(console, unit) if console.is_terminal else PlainLines(console, unit)
