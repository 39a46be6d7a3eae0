"""Policies by name: the command line, the scorer and the leaderboard find them here.

A baseline has a short name; anybody's own class is named `package.module:Class`. What is named is checked here, so
that a mistake is one clear line and not a failure in the middle of a run.

A name may carry options: `po+permuted`. An option is a keyword of the constructor that is False unless it is named.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any

from prosumer_gym.baselines.policy import MODES, Policy
from prosumer_gym.errors import UsageError

FAMILIES = ("rule", "optimization", "RL", "hybrid")
_METHODS = {"fit": ("community", "history"), "reset": ("seed",), "act": ("obs",)}


@dataclass(frozen=True)
class PolicyInfo:
    """What is known about a policy without making one."""

    name: str
    """With the options that were asked for, if any: `po+permuted`."""
    family: str
    """One of `FAMILIES`: a tag."""
    modes: tuple[str, ...]
    """The boards it stands on: both of `MODES` for a two-stage policy, "mpc" for one that decides hour by hour."""
    summary: str
    """One line."""
    options: tuple[str, ...] = ()
    """What may be added to the name."""


def policy_infos() -> list[PolicyInfo]:
    """All registered policies. Raises `UsageError` when their libraries are not installed."""
    return [info for info, _ in _registered().values()]


def policy_names(mode: str | None = None) -> list[str]:
    """Names of the registered policies, of one mode or of all.

    Raises:
        UsageError: unknown mode.
    """
    if mode is not None:
        _check_mode(mode)
    return [info.name for info in policy_infos() if mode is None or mode in info.modes]


def policy_info(name: str) -> PolicyInfo:
    """What is known about the policy called `name`, a registered name with or without options.

    The name it carries has the options in the order of the constructor, whatever order they were given in.

    Raises:
        UsageError: unknown name or option.
    """
    return _named(name)[0]


def make_policy(name: str, mode: str) -> Policy:
    """A registered policy, with the options of its name, not fitted yet.

    Raises:
        UsageError: unknown name, option or mode, or a policy that does not stand on the board of that mode.
    """
    _check_mode(mode)
    info, kind, options = _named(name)
    if mode not in info.modes:
        raise UsageError(f"policy {name!r} has no mode {mode!r}; use {' or '.join(info.modes)}")
    return _made(kind, mode, name, options)


def tunable_class(name: str) -> type[Any]:
    """The class of a registered policy that has parameters to be tuned (`tuning.Tunable`).

    Raises:
        UsageError: unknown name, a name with options, or a policy without parameters.
    """
    info, kind, options = _named(name)
    if options:
        raise UsageError(f"policy {name!r}: parameters are tuned once for all options; tune {name.partition('+')[0]}")
    if not hasattr(kind, "candidates"):
        tunable = [info.name for info, each in _registered().values() if hasattr(each, "candidates")]
        raise UsageError(f"policy {info.name!r} has no parameters to tune; choose one of: {', '.join(tunable)}")
    return kind


def load_policy(entry: str, mode: str) -> Policy:
    """An object of the class named `package.module:Class`, not fitted yet.

    The class has the methods of `Policy`. Its constructor takes the keyword `mode` if and only if it is two-stage.

    Raises:
        UsageError: a name of another form, a module that cannot be imported, no such class or not a policy, or
            mode "open_loop" for a class that decides hour by hour.
    """
    _check_mode(mode)
    module_name, colon, class_name = entry.partition(":")
    if not (colon and all(part.isidentifier() for part in [*module_name.split("."), *class_name.split(".")])):
        raise UsageError(f"policy {entry!r}: a class is named package.module:Class")
    try:
        module = import_module(module_name)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever a user's module raises, SystemExit too
        raise UsageError(
            f"policy {entry!r}: module {module_name!r} cannot be imported: {type(error).__name__}: {_one_line(error)}"
        ) from error
    kind: object = module
    for part in class_name.split("."):
        if not hasattr(kind, part):
            raise UsageError(f"policy {entry!r}: module {module_name!r} has no {class_name!r}")
        kind = getattr(kind, part)
    checked = _checked_class(kind, entry)
    if mode == "open_loop" and not _takes_mode(checked):
        raise UsageError(
            f"policy {entry!r} decides hour by hour (its constructor takes no mode), which belongs to mode 'mpc'; "
            "use that, or let the constructor take mode"
        )
    return _made(checked, mode, entry)


def register(table: dict[str, tuple[PolicyInfo, type[Policy]]], info: PolicyInfo, kind: type[Policy]) -> None:
    """Enter a policy into a table.

    Raises:
        UsageError: a name that is taken or not in lower-case words joined by "-", an unknown family or mode, a class
            that is not a policy, or one whose constructor and modes disagree.
    """
    where = f"policy {info.name!r}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", info.name):
        raise UsageError(f"{where}: a name is lower-case words joined by '-'")
    if info.name in table:
        raise UsageError(f"{where}: registered twice")
    if info.family not in FAMILIES:
        raise UsageError(f"{where}: family {info.family!r} is not known; choose one of: {', '.join(FAMILIES)}")
    if not info.modes or not set(info.modes) <= set(MODES):
        raise UsageError(f"{where}: modes are {info.modes}; choose from: {', '.join(MODES)}")
    if not info.summary or "\n" in info.summary:
        raise UsageError(f"{where}: its summary is one line")
    if _takes_mode(_checked_class(kind, info.name)) and set(info.modes) != set(MODES):
        raise UsageError(f"{where}: its constructor takes a mode, so it stands on both boards")
    table[info.name] = (replace(info, options=_options(kind)), kind)


@cache
def _registered() -> dict[str, tuple[PolicyInfo, type[Policy]]]:
    """The baselines, in the order of the tables. Imported on demand: a user's own policy needs none of them."""
    try:
        from prosumer_gym.baselines.dcso import ConsensusNearestDays
        from prosumer_gym.baselines.dro import DistributionallyRobust
        from prosumer_gym.baselines.er_saa import ResidualSampleAverage
        from prosumer_gym.baselines.greedy import Greedy
        from prosumer_gym.baselines.lyapunov import Lyapunov
        from prosumer_gym.baselines.no_control import NoControl
        from prosumer_gym.baselines.ours import Ours
        from prosumer_gym.baselines.po import PredictThenOptimise
        from prosumer_gym.baselines.saa import SampleAverage
        from prosumer_gym.baselines.self_consumption import SelfConsumption
        from prosumer_gym.baselines.weighted_saa import ForestDays, KernelDays, NearestDays
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the baselines need {error.name!r}, which is not installed; run pip install '.[baselines]' in the checkout"
        ) from error
    hourly = ("mpc",)
    table: dict[str, tuple[PolicyInfo, type[Policy]]] = {}
    for name, family, modes, kind, summary in (
        ("no-control", "rule", MODES, NoControl, "the reference: nobody steers, last week's mean net load is bought"),
        ("self-consumption", "rule", hourly, SelfConsumption, "own PV first into own load, battery and neighbours"),
        (
            "greedy",
            "optimization",
            hourly,
            Greedy,
            "the cheapest hour, every hour: trades, but leaves batteries and loads alone",
        ),
        ("lyapunov", "optimization", hourly, Lyapunov, "the cheapest hour when queues say what stored energy is worth"),
        ("po", "optimization", MODES, PredictThenOptimise, "plans on one contextual forecast"),
        ("saa", "optimization", MODES, SampleAverage, "plans on 50 training days, whatever the context"),
        ("er-saa", "optimization", MODES, ResidualSampleAverage, "plans on the forecast plus 50 days of its errors"),
        ("knn", "optimization", MODES, NearestDays, "plans on the training days whose contexts are nearest"),
        ("kernel", "optimization", MODES, KernelDays, "plans on training days weighted by a kernel of the distance"),
        ("forest", "optimization", MODES, ForestDays, "plans on training days weighted by the leaves of a forest"),
        (
            "dcso",
            "optimization",
            MODES,
            ConsensusNearestDays,
            "neighbours pool the days that each finds near, and negotiate the plan",
        ),
        ("dro", "optimization", MODES, DistributionallyRobust, "supply that is reliable near the forecast's errors"),
        ("ours", "optimization", MODES, Ours, "plans for the score, and knows that it will plan again"),
    ):
        register(table, PolicyInfo(name, family, modes, summary), kind)
    return table


def _named(name: str) -> tuple[PolicyInfo, type[Policy], tuple[str, ...]]:
    """What is registered under `name`, its class, and the options that the name asks for."""
    base, *asked = name.split("+")
    if base not in _registered():
        raise UsageError(
            f"policy {name!r} is not known; choose one of: {', '.join(_registered())}, or package.module:Class"
        )
    info, kind = _registered()[base]
    for option in asked:
        if option not in info.options:
            offered = f"its options: {', '.join(info.options)}" if info.options else "it has none"
            raise UsageError(f"policy {name!r}: {base} has no option {option!r}; {offered}")
        if asked.count(option) > 1:
            raise UsageError(f"policy {name!r}: the option {option!r} stands twice; name it once")
    options = tuple(option for option in info.options if option in asked)
    return replace(info, name="+".join((base, *options))), kind, options


def _options(kind: type[Any]) -> tuple[str, ...]:
    """Keywords of a constructor that are off by default."""
    return tuple(name for name, part in inspect.signature(kind).parameters.items() if part.default is False)


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise UsageError(f"mode {mode!r} is not known; choose one of: {', '.join(MODES)}")


def _checked_class(kind: object, name: str) -> type[Any]:
    """`kind` if it is a class with the methods of a policy."""
    if not inspect.isclass(kind):
        raise UsageError(f"policy {name!r} is not a class but a {type(kind).__name__}")
    for method, arguments in _METHODS.items():
        wanted = f"{method}({', '.join(arguments)})"
        if not callable(getattr(kind, method, None)):
            raise UsageError(f"policy {name!r} has no method {wanted}")
        try:
            inspect.signature(getattr(kind, method)).bind(None, *arguments)
        except TypeError:
            raise UsageError(f"policy {name!r}: its method {method} cannot be called as {wanted}") from None
    return kind


def _takes_mode(kind: type[Any]) -> bool:
    return "mode" in inspect.signature(kind).parameters


def _made(kind: type[Any], mode: str, name: str, options: tuple[str, ...] = ()) -> Policy:
    chosen: dict[str, Any] = dict.fromkeys(options, True) | ({"mode": mode} if _takes_mode(kind) else {})
    try:
        policy: Policy = kind(**chosen)
    except (UsageError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever a user's constructor raises, SystemExit too
        raise UsageError(f"policy {name!r} cannot be made: {type(error).__name__}: {_one_line(error)}") from error
    return policy


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
