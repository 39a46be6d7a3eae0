"""What can stand on a board: policies, and the rows that every board has beside them.

The rows beside the policies are the reference, which is the score's zero; `perfect-day-ahead`, the reference with a
perfect position, which splits a score into forecasting and flexibility; and the oracles, which see the whole day. They
are handed the actuals, so they are no policies and stand in no registry.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import platform
import sysconfig
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

import prosumer_gym
from prosumer_gym.baselines.policy import MODES, Policy
from prosumer_gym.baselines.registry import load_policy, make_policy, policy_info, policy_infos
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

REFERENCE = "no-control"
PERFECT_DAY_AHEAD = "perfect-day-ahead"
ORACLES = {"cost": "oracle-cost", "peak": "oracle-peak", "voltage": "oracle-voltage"}
"""The oracle of each scored metric."""
IDEALS = ("cost", "peak")
"""Metrics whose ideal is what their oracle attains; that of the voltages is 0, attained or not."""
ANCHORS = (REFERENCE, PERFECT_DAY_AHEAD, *ORACLES.values())
BOTH = "both"
"""The mode of the rows that stand on both boards."""

Kind = Literal["policy", "reference", "oracle"]


@dataclass(frozen=True)
class Entry:
    """One row of a board."""

    name: str
    """Registry name with its options, `package.module:Class`, or one of `ANCHORS`."""
    mode: str
    kind: Kind
    family: str
    """A tag: rule, optimization, RL, hybrid; "-" where nobody said."""

    @property
    def is_own_class(self) -> bool:
        """A user's class rather than a registered baseline."""
        return ":" in self.name

    def make(self) -> Policy:
        """The policy, not fitted. Raises `UsageError` if it cannot be made."""
        return load_policy(self.name, self.mode) if self.is_own_class else make_policy(self.name, self.mode)


def anchor_entries() -> list[Entry]:
    """Reference, perfect day-ahead and oracles."""
    kinds: dict[str, Kind] = {REFERENCE: "reference", PERFECT_DAY_AHEAD: "reference"}
    return [Entry(name, BOTH, kinds.get(name, "oracle"), "-") for name in ANCHORS]


def modes_of(name: str) -> tuple[str, ...]:
    """The boards that a policy stands on.

    Raises:
        UsageError: no such policy.
    """
    if ":" not in name:
        return policy_info(name).modes
    try:
        load_policy(name, "open_loop")
    except UsageError:
        load_policy(name, "mpc")  # where this fails too, it says what is wrong with the class itself
        return ("mpc",)
    return MODES


def policy_entry(name: str, mode: str | None) -> Entry:
    """The row of one policy; without a mode that of the board `bench` shows it on: open loop if it has two stages.

    Raises:
        UsageError: unknown policy or mode, or a policy without that mode.
    """
    modes = modes_of(name)
    chosen = mode if mode is not None else modes[0]
    if ":" in name:
        entry = Entry(name, chosen, "policy", "-")
    else:
        info = policy_info(name)
        entry = Entry(info.name, chosen, "policy", info.family)
    entry.make()
    return entry


def board_entries(mode: str | None, names: list[str] | None) -> dict[str, list[Entry]]:
    """The policies of each board, by mode.

    Without a mode every policy is on one board: open loop if it has two stages, else `mpc`. With a mode there is one
    board, of every policy that has that mode. `names` chooses among them; the reference is on every board anyhow.

    Raises:
        UsageError: an unknown mode or name, or a policy without the mode.
    """
    if mode is not None and mode not in MODES:
        raise UsageError(f"mode {mode!r} is not known; choose one of: {', '.join(MODES)}")
    if names is None:
        names = [info.name for info in policy_infos() if mode is None or mode in info.modes]
    boards: dict[str, list[Entry]] = {}
    for entry in dict.fromkeys(policy_entry(name, mode) for name in names):
        board = boards.setdefault(entry.mode, [])
        if entry.name != REFERENCE:
            board.append(entry)
    return {board: boards[board] for board in MODES if boards.get(board)} or {mode or MODES[0]: []}


# what was run exactly ---------------------------------------------------------------------------------------------

_SCORING = {"cli", "cli_community", "cli_data", "cli_import", "cli_tune", "plots", "plots_data"}
_PLAYING = {"play", "anchors", "entries"}
_LIBRARIES = ("numpy", "numba", "scipy", "scikit-learn", "piqp", "clarabel", "highspy", "cvxpy", "gymnasium")


@cache
def package_lock() -> dict[str, str]:
    """Versions of Python and of the libraries that a result may depend on."""
    lock = {"python": platform.python_version(), "prosumer-gym": prosumer_gym.__version__}
    for name in _LIBRARIES:
        try:
            lock[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return lock


@cache
def code_digest() -> str:
    """SHA-256 of the source of everything that decides what is played: world, data sets, environments, baselines."""
    sha = hashlib.sha256()
    for room in ("", "datasets", "envs", "baselines", "leaderboard"):
        module = importlib.import_module(f"prosumer_gym.{room}".rstrip("."))
        for path in sorted(Path(module.__path__[0]).glob("*.py")):
            if (room == "" and path.stem in _SCORING) or (room == "leaderboard" and path.stem not in _PLAYING):
                continue
            sha.update(f"{room}/{path.name}\n".encode() + path.read_bytes())
    return sha.hexdigest()


def own_code_digest(entry: Entry) -> str:
    """SHA-256 of a user's code, "" for a baseline: the module of the class, and all it imports from beside it.

    Files that the class reads when it runs, such as weights, are not seen.
    """
    if not entry.is_own_class:
        return ""
    first = entry.name.partition(":")[0]
    found: dict[str, bytes] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] == "prosumer_gym":
            continue
        path = _own_source(name)
        if path is not None:
            found[name] = path.read_bytes()
            waiting += _imported(name, path.name == "__init__.py", found[name])
    sha = hashlib.sha256()
    for name, source in sorted(found.items()):
        sha.update(f"{name} {len(source)}\n".encode() + source)
    return sha.hexdigest()


def _own_source(name: str) -> Path | None:
    """Source file of a module, unless it is installed: those the lock of libraries stands for."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None  # not a module: a name that is imported from one
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin).resolve()
    libraries = {sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return None if any(path.is_relative_to(Path(place).resolve()) for place in libraries) else path


def _imported(name: str, is_package: bool, source: bytes) -> list[str]:
    """Names that a module imports, anywhere in its text, made absolute; some may be of functions and not of modules."""
    names = []
    package = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name]


def parameters(policy: Policy) -> dict[str, Any]:
    """The plain values among a policy's attributes before it is fitted: its settings, for the record."""
    found = {}
    for name, value in sorted(vars(policy).items()) if hasattr(policy, "__dict__") else ():
        if isinstance(value, bool | int | str) or (isinstance(value, float) and np.isfinite(value)):
            found[name.lstrip("_")] = value
    return found


def settings_of(policy: Policy, history: Dataset) -> dict[str, Any]:
    """The settings of a policy that will be fitted on `history`: its own, and what was tuned for it.

    A policy that reads tuned parameters says with `tuned_settings(history)` which, and where they come from.
    """
    told = getattr(policy, "tuned_settings", None)
    return parameters(policy) | (told(history) if callable(told) else {})


def content_digest(value: object) -> str:
    """SHA-256 of a frozen description of the world, such as a community: all its fields, nested ones included."""
    sha = hashlib.sha256()

    def feed(item: object) -> None:
        if is_dataclass(item) and not isinstance(item, type):
            for entry in fields(item):
                sha.update(entry.name.encode())
                feed(getattr(item, entry.name))
        elif isinstance(item, np.ndarray):
            sha.update(f"{item.dtype.str}{item.shape}".encode() + np.ascontiguousarray(item).tobytes())
        else:
            sha.update(json.dumps(item).encode())

    feed(value)
    return sha.hexdigest()
