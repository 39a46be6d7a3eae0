"""The tables of `docs/environment.md`, written from the code: `python -m prosumer_gym.envs.tables docs/environment.md`.

Each table stands between two marks, `<!-- table: NAME -->` and `<!-- end -->`; what is between them is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from prosumer_gym.datasets.schema import COVARIATES, covariate_bounds
from prosumer_gym.envs import (
    action,
    day_ahead,
    local,
    local_action,
    local_features,
    observation,
    real_time,
    real_time_observation,
    two_stage,
)
from prosumer_gym.envs.action import Part
from prosumer_gym.envs.game import Note
from prosumer_gym.envs.layout import Feature, sizes_of
from prosumer_gym.envs.reward import RewardWeights
from prosumer_gym.errors import UsageError

_MOMENTS = {
    "state": "always",
    "past": "at the gate",
    "day": "at the gate",
    "hour": "hour by hour",
}


def observation_table() -> str:
    """One row for each entry of the observation."""
    rows = []
    for quantity in observation.TABLE:
        low = (
            "by covariate"
            if quantity.low != quantity.low
            else f"{quantity.low:g} ... " + ("H" if quantity.high == "H" else f"{quantity.high:g}")
        )
        rows.append(
            (
                f"`{quantity.name}`",
                _axes(quantity.axes),
                quantity.unit,
                low,
                _MOMENTS[quantity.moment],
                quantity.description,
            )
        )
    bounds = "; ".join(f"{name} {low:g} ... {high:g}" for name in COVARIATES for low, high in [covariate_bounds(name)])
    table = _markdown(("name", "shape", "unit", "bounds", "known", "what it is"), rows)
    return f"{table}\n\nBounds of the weather covariates: {bounds}; any other covariate -1e+06 ... 1e+06."


def action_table(parts: Sequence[Part]) -> str:
    """One row for each part of the action."""
    rows = [(f"`{p.name}`", _axes(p.axes), p.stage, f"`{p.scale}`", p.description) for p in parts]
    return _markdown(("name", "shape", "read at", "power of an action a", "what it is"), rows)


def info_table(notes: Sequence[Note]) -> str:
    """One row for each key of the info."""
    rows = [
        (f"`{note.name}`", _axes(note.axes) if note.axes else note.kind.__name__, note.unit, note.description)
        for note in notes
    ]
    return _markdown(("key", "shape or type", "unit", "what it is"), rows)


def feature_table(features: Sequence[Feature]) -> str:
    """One row for each feature of a flat observation; the places are those of the default community."""
    rows, start, sizes = [], 0, local_features.local_sizes(24, degree=3, message_size=4) | sizes_of(10, 24)
    for feature in features:
        stop = start + sizes[feature.size]
        bounds = f"{feature.low:g} ... {feature.high:g}"
        scale = feature.scale or "1"
        rows.append(
            (f"`{feature.name}`", feature.size, f"{start}:{stop}", feature.unit, bounds, scale, feature.description)
        )
        start = stop
    return _markdown(("name", "numbers", "place", "unit", "bounds", "divided by", "what it is"), rows)


def weight_table() -> str:
    """One row for each weight of the reward."""
    weights = RewardWeights()
    units = {"voltage_ct_per_pu_h": "ct per p.u. h", "peak_ct_per_kw": "ct per kW"}
    rows = [(f"`{item.name}`", f"{getattr(weights, item.name):g}", units[item.name]) for item in fields(weights)]
    return _markdown(("weight", "default", "unit"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "observation": observation_table,
    "action": lambda: action_table(action.TABLE),
    "info": lambda: info_table(two_stage.INFO_TABLE),
    "weights": weight_table,
    "real-time observation": lambda: feature_table(real_time_observation.TABLE),
    "real-time info": lambda: info_table(real_time.INFO_TABLE),
    "day-ahead observation": lambda: feature_table(day_ahead.TABLE),
    "day-ahead info": lambda: info_table(day_ahead.INFO_TABLE),
    "agent observation": lambda: feature_table(local_features.TABLE),
    "agent action": lambda: action_table(local_action.TABLE),
    "agent info": lambda: info_table(local.INFO_TABLE),
}


def filled(text: str) -> str:
    """`text` with every marked table written anew.

    Raises:
        UsageError: a mark that names no table, or a table that is marked nowhere.
    """
    marked = re.findall(r"<!-- table: (.*?) -->", text)
    if sorted(marked) != sorted(TABLES):
        raise UsageError(f"tables: the text marks {sorted(marked)}, it has to mark each of {sorted(TABLES)} once")
    return re.sub(
        r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def _axes(axes: str) -> str:
    """NH as [N, H], no axes as [1]."""
    letters = list(axes.replace("P", "8"))
    return f"[{', '.join(letters or ['1'])}]"


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(filled(Path(name).read_text(encoding="utf-8")), encoding="utf-8")
