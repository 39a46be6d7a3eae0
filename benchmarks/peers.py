"""Steps a second of our environments and of other projects', in one run.

    python benchmarks/peers.py --python citylearn=/path/to/python --python grid2op=/path/to/python ...
                               --checkout powergym=/path/to/clone ... [--write]

Every project plays in a Python of its own (`peer_worlds.py` says how), since hardly two of them agree on versions. All
are started and warmed up, then they take turns: in each round everyone plays whole episodes, reset included, for at
least a second of processor time, with random actions drawn beforehand, on one thread. The table gives the median of the
rounds, and the median over the rounds of the ratio to ours in the same round. A project that is not installed or does
not run is listed with the reason. `--write` puts the tables into docs/peers.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pages import machine, markdown, publish, significant
from peer_worlds import OUT_OF_REACH, WORLDS

OURS = next(iter(WORLDS))
OURS_SINGLE, OURS_BATCH = 0, 2
WORKER = Path(__file__).parent / "peer_worlds.py"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR")}


@dataclass
class Contestant:
    """One case of one project, in a process that waits for its turn."""

    project: str
    case: str
    about: dict[str, Any] = field(default_factory=dict)
    """What it says of itself."""
    rates: list[float] = field(default_factory=list)
    """Steps a second in each round."""
    reason: str = ""
    """Why there are no figures, if there are none."""

    def start(self, python: str, checkout: str | None, log: Path) -> None:
        """Start it and wait until it is warm."""
        command = [python, str(WORKER), self.project, self.case, *(["--checkout", checkout] if checkout else [])]
        self._log = log
        try:
            with log.open("w") as errors:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                    env={**os.environ, **ONE_THREAD},
                )  # fmt: skip
        except OSError as error:
            self.reason = f"{python}: {error.strerror}"
            return
        self.about = self._hear()

    def turn(self, seconds: float) -> None:
        """Play for at least that long."""
        with contextlib.suppress(BrokenPipeError):  # it has died: what it said last is the reason
            print(seconds, file=self._process.stdin, flush=True)
        if heard := self._hear():
            self.rates.append(heard["steps"] / heard["seconds"])

    def stop(self) -> None:
        """End its process by ending what it is told."""
        self._process.communicate()

    def _hear(self) -> dict[str, Any]:
        """The next answer; nothing, and a reason, if there is none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        heard: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in heard:
            self.reason = str(heard["error"])
            self.stop()
            return {}
        return heard

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a word"


def named(pairs: list[str], option: str) -> dict[str, str]:
    """`NAME=PATH` of an option, by name."""
    found = dict(pair.partition("=")[::2] for pair in pairs)
    for name, path in found.items():
        if name not in WORLDS or not path:
            print(f"--{option} {name}={path}: give NAME=PATH, NAME one of {', '.join(WORLDS)}", file=sys.stderr)
            raise SystemExit(2)
    return found


def contestants(pythons: dict[str, str], checkouts: dict[str, str], logs: Path) -> list[Contestant]:
    """Everyone, started and warmed up, or with the reason why not."""
    everyone = [Contestant(project, case) for project, cases in WORLDS.items() for case in cases]
    for number, one in enumerate(everyone):
        if one.project in pythons:
            one.start(pythons[one.project], checkouts.get(one.project), logs / f"{number}.txt")
        else:
            one.reason = f"no Python for it was given (--python {one.project}=...)"
        print(f"{one.project} ({one.case}): {one.reason or one.about['version']}", file=sys.stderr)
    return everyone


def tables(everyone: list[Contestant]) -> str:
    """Markdown: the speed of all that ran, what their steps do, and who did not run and why."""
    running = [one for one in everyone if not one.reason]
    mine = [np.array(one.rates) for one in (running[OURS_SINGLE], running[OURS_BATCH])]
    speeds, steps = [], {}
    for one in running:
        name, rates = f"{one.project} {one.about['version']}", np.array(one.rates)
        ratios = [significant(float(np.median(ours / rates)), 2) for ours in mine]
        speeds.append((f"{name}: {one.about['case']}", significant(float(np.median(rates))), *ratios))
        steps[name if one.project != OURS else f"{name}: {one.case}", one.about["step"]] = one.about["note"]
    head = ("environment", "steps/s", "one RealTime of ours: times", "1024 of ours, one thread: times")
    what = markdown(
        ("environment", "a step is", "remark"), [(*key, note) for key, note in steps.items()], text_columns=3
    )
    absent = {f"{one.project} ({one.case})": one.reason for one in everyone if one.reason} | OUT_OF_REACH
    reasons = "\n".join(f"- {name}: {reason}." for name, reason in absent.items())
    return f"{markdown(head, speeds)}\n\n{what}\n\nNot measured:\n\n{reasons}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--checkout", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn, at least")
    parser.add_argument("--write", action="store_true", help="into docs/peers.md")
    arguments = parser.parse_args()
    pythons = {OURS: sys.executable, **named(arguments.python, "python")}
    with tempfile.TemporaryDirectory() as logs:
        everyone = contestants(pythons, named(arguments.checkout, "checkout"), Path(logs))
        for turn in range(arguments.rounds):
            print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr)
            for one in everyone:
                if not one.reason:
                    one.turn(arguments.seconds)
        for one in everyone:
            if not one.reason:
                one.stop()
    if broken := [one.reason for one in everyone if one.reason and one.project == OURS]:
        print(f"ours does not run: {broken[0]}", file=sys.stderr)
        return 2
    how = f"{machine()}; medians of {arguments.rounds} rounds of at least {arguments.seconds:g} s, one thread"
    text = f"{tables(everyone)}\n\n{how}."
    publish("peers.md", "peers", text, into_page=arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
