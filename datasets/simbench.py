"""Grids of SimBench: profiles of a year in quarters of an hour, and the loads and plants that follow them.

A folder holds Load.csv and RES.csv (what stands at which node, its power in MW, the name of its profile) and
LoadProfile.csv and RESProfile.csv (`<profile>_pload` and `<profile>`, shares of that power). A prosumer is a node: its
loads together, and its PV plants together. Rows follow each other without a gap; their times are those of the clock on
the wall, which skips an hour in spring and shows one twice in autumn: so rows are counted, and the clock is checked.
Times name the beginning of a step.

Imported by importers only (needs pandas). Axes: N nodes, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path

import numpy as np
import pandas as pd

from prosumer_gym.arrays import BoolArray
from prosumer_gym.datasets.sources import Part, Series
from prosumer_gym.datasets.tables import Readings, Steps, Table
from prosumer_gym.errors import UsageError

LOAD_COLUMNS = {"node": "prosumer", "profile": "name of the load profile", "pLoad": "power, MW"}
"""Columns of Load.csv and what they are here."""
PLANT_COLUMNS = {
    "node": "prosumer",
    "type": "kind of plant; PV, PV_MV and the like are PV",
    "profile": "name of the PV profile",
    "pRES": "rated PV power, MW",
}
"""Columns of RES.csv."""
PROFILE_COLUMNS = {
    "time": "time, such as 31.01.2016 13:45",
    "<profile>_pload": "load, share of pLoad",
    "<profile>": "PV, share of pRES",
}
"""Columns of LoadProfile.csv and RESProfile.csv."""

_KW_PER_MW = 1000.0
_MAX_POWER_MW = 10.0
_MAX_SHARE = 1.5
_SEPARATOR = ";"
_TIME = "%d.%m.%Y %H:%M"
_PLENTY = 8

Powers = dict[str, dict[str, float]]
"""Of each node: the power in kW of each profile's share 1."""


def read_simbench(folder: Path, nodes: Sequence[str], zone: tzinfo) -> Part:
    """Load and PV of nodes of a SimBench grid.

    Args:
        folder: that holds the four files.
        nodes: to be prosumers, in this order.
        zone: whose clock the times are.

    Raises:
        UsageError: naming file, column and row: a node without load, a power or share that cannot be, a profile that is
            missing, a row whose time is not that of the clock; or a file that is missing.
    """
    if folder.is_file():
        raise UsageError(f"{folder}: it is a file; name the folder that holds Load.csv, LoadProfile.csv and the others")
    loads, plants = (Table.read(folder / name, separator=_SEPARATOR) for name in ("Load.csv", "RES.csv"))
    loads.require(*LOAD_COLUMNS)
    plants.require(*PLANT_COLUMNS)
    _check_nodes(loads, nodes)
    kinds = plants.frame["type"].fillna("")
    is_pv = kinds.str.upper().str.startswith("PV").to_numpy()
    here = plants.frame["node"].isin(list(nodes)).to_numpy()
    load_powers = _powers(loads, "pLoad", np.ones(len(loads.frame), dtype=np.bool_), nodes)
    pv_powers = _powers(plants, "pRES", is_pv, nodes)
    load = _followed(folder / "LoadProfile.csv", load_powers, "_pload", zone)
    if any(pv_powers.values()):
        pv = _followed(folder / "RESProfile.csv", pv_powers, "", zone)
    else:
        pv = Series(Steps(0.0 * load.steps.frame.fillna(0.0), load.steps.step), load.gap)
    notes = []
    if others := sorted(set(kinds[here & ~is_pv])):
        notes.append(f"Plants of the kind {', '.join(others)} at these nodes are no PV; they are left out.")
    if dark := [name for name in nodes if not pv_powers[name]]:
        notes.append(f"{len(dark)} nodes have no PV: {', '.join(dark)}.")
    return Part(
        files=tuple(folder / name for name in ("Load.csv", "LoadProfile.csv", "RES.csv", "RESProfile.csv")),
        series={"load": load, "pv": pv},
        given=("load", "PV"),
        stated=(
            f"Said by the user: times are of the clock of {zone}; every row agrees",
            "By the format: times name the beginning of a step; profiles are shares of pLoad and pRES, which are in "
            "MW; the loads of a node are added up, and so are its PV plants",
        ),
        notes=tuple(notes),
        names=tuple(nodes),
        pv_capacity_kw=np.array([sum(pv_powers[name].values()) for name in nodes]),
        licence="ODbL 1.0 (the database), DbCL 1.0 (its contents)",
        citation="SimBench (simbench.net): University of Kassel, Fraunhofer IEE, RWTH Aachen University, TU Dortmund",
    )


def _check_nodes(loads: Table, nodes: Sequence[str]) -> None:
    if not nodes:
        raise UsageError("--nodes: name at least one node")
    have = list(dict.fromkeys(loads.frame["node"].dropna()))
    for place, name in enumerate(nodes):
        if name in nodes[:place]:
            raise UsageError(f"--nodes: {name!r} stands twice; name each node once")
        if name not in have:
            near = [node for node in have if node.startswith(name.split(" ")[0])] or have
            raise UsageError(
                f"{loads.path}: column node has no {name!r}; it has {', '.join(near[:_PLENTY])}"
                f"{', ...' if len(near) > _PLENTY else ''}; correct --nodes"
            )


def _powers(table: Table, column: str, counts: BoolArray, nodes: Sequence[str]) -> Powers:
    """What stands at the nodes, of the rows that count."""
    chosen = counts & table.frame["node"].isin(list(nodes)).to_numpy()
    power_mw = np.where(chosen, table.numbers(column), np.nan)
    table.check_range(column, power_mw, 0.0, _MAX_POWER_MW, "it is the power of a node in MW; is it in kW?")
    powers: Powers = {name: {} for name in nodes}
    for row in np.flatnonzero(chosen).tolist():
        profile = table.frame["profile"].iloc[row]
        for what, empty in (("profile", pd.isna(profile)), (column, np.isnan(power_mw[row]))):
            if empty:
                raise table.error(what, row, "it is empty; fill it, or leave the row out")
        here = powers[str(table.frame["node"].iloc[row])]
        here[profile] = here.get(profile, 0.0) + _KW_PER_MW * float(power_mw[row])
    return powers


def _followed(path: Path, powers: Powers, suffix: str, zone: tzinfo) -> Series:
    """The power of each node, kW, as its profiles have it."""
    columns = {profile: f"{profile}{suffix}" for here in powers.values() for profile in here}
    table = Table.read(path, separator=_SEPARATOR, columns=("time", *columns.values()))
    table.require("time")
    for column in columns.values():
        if column not in table.frame.columns:
            raise UsageError(f"{path}: column {column} is missing, the profile of a chosen node; fetch the file again")
    readings = Readings.at(table, zone, _begins(table, zone))
    shares = {profile: table.numbers(column) for profile, column in columns.items()}
    for profile, column in columns.items():
        hint = "a profile is a share of the power, from 0 to 1, at night 0"
        table.check_range(column, shares[profile], 0.0, _MAX_SHARE, hint)
    power_kw = {
        name: sum((kw * shares[profile] for profile, kw in here.items()), np.zeros(len(table.frame)))
        for name, here in powers.items()
    }

    def gap(name: str, begin: pd.Timestamp) -> UsageError:
        row = readings.begin.get_loc(begin)
        return readings.gap(
            columns[next(profile for profile in powers[name] if np.isnan(shares[profile][row]))], "", begin
        )

    return Series(Steps.of(pd.DataFrame(power_kw, index=readings.begin), readings.step), gap)


def _begins(table: Table, zone: tzinfo) -> pd.DatetimeIndex:
    """Beginning of each row's step, UTC [T]: rows are counted from the first.

    Raises:
        UsageError: a time that cannot be read, or is not that of the clock.
    """
    text = table.frame["time"].fillna("")
    shown = pd.DatetimeIndex(pd.to_datetime(text, format=_TIME, errors="coerce"))
    if shown.isna().any():
        row = int(np.argmax(shown.isna()))
        raise table.error("time", row, f"{text.iloc[row]!r} cannot be read; write 31.01.2016 13:45")
    step = shown[1] - shown[0] if len(shown) > 1 else pd.Timedelta(0)
    if step <= pd.Timedelta(0):
        raise table.error("time", 1 if len(shown) > 1 else 0, "it does not come after the row before; sort the rows")
    try:
        start = shown[0].tz_localize(zone, ambiguous=True, nonexistent="raise").tz_convert("UTC")
    except ValueError:
        raise table.error(
            "time", 0, f"{text.iloc[0]} does not exist on the clock of {zone}; check --time-zone"
        ) from None
    begin = pd.date_range(start, periods=len(shown), freq=step)
    due = begin.tz_convert(zone).tz_localize(None)
    wrong = np.asarray(shown != due)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise table.error(
            "time",
            row,
            f"it is {text.iloc[row]}, but on the clock of {zone} {due[row]:{_TIME}} is due; check --time-zone, and "
            "whether a row is missing before it",
        )
    return begin
