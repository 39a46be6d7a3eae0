"""A community from a YAML file: `load_community("street.yaml")`.

What the file may say is in `community_fields`. Every error is one line: the file, the field as the user wrote it, what
is wrong with it.

Axis letters: N prosumers, E trade edges, K buses.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community, Fleet, Tariff, TradeGraph
from prosumer_gym.community_fields import FEEDERS, CommunityFile, Devices, FeederTable, Group, Prosumer, Trade
from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder
from prosumer_gym.yaml_file import read_text, read_yaml, shortened, shown


class _Seat(NamedTuple):
    """One prosumer, where it is connected, and which fields of the file say so."""

    bus: int
    bus_field: str
    devices: Devices
    field: str


def load_community(path: str | Path) -> Community:
    """The community that a YAML file describes.

    Raises:
        UsageError: one line with file and field: a file that cannot be read or is no YAML, a field that is unknown,
            missing, out of its range or does not fit the others.
    """
    path = Path(path)
    given = read_yaml(path)
    if not isinstance(given, dict):
        raise UsageError(f"{path}: holds no fields; begin with lines such as 'feeder: ieee33' and 'prosumers:'")
    try:
        file = CommunityFile.model_validate(given)
    except ValidationError as error:
        raise UsageError(f"{path}: {_complaint(error.errors(include_url=False)[0])}") from None
    name = path.stem if file.name is None else file.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(f"{path}: name: {shown(name)}: use letters, digits, dots, dashes and underscores, 64 at most")
    try:
        feeder = _feeder(file, path.parent)
        seats = list(_seats(file.prosumers, feeder.num_buses))
        for seat in seats:
            _check_seat(seat, feeder.num_buses)
        return Community(
            name=name,
            feeder=feeder,
            fleet=_fleet(seats),
            graph=_graph(file.trade, len(seats)),
            tariff=Tariff(**dict(file.tariff)),
            mechanism=file.mechanism,
            hours_per_day=file.hours_per_day,
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def spread_buses(num_prosumers: int, num_buses: int) -> list[int]:
    """Buses 1 ... K-1 at even distances by their numbers [N]; with more prosumers than buses each has some."""
    return [1 + (2 * n + 1) * (num_buses - 1) // (2 * num_prosumers) for n in range(num_prosumers)]


# the feeder -----------------------------------------------------------------------------------------------------------


def _feeder(file: CommunityFile, folder: Path) -> Feeder:
    feeder = FEEDERS[file.feeder]() if isinstance(file.feeder, str) else _feeder_from_tables(file.feeder, folder)
    changes = {name: getattr(file, name) for name in ("slack_v_pu", "v_min_pu", "v_max_pu")}
    return feeder.replace(**{name: value for name, value in changes.items() if value is not None})


def _feeder_from_tables(table: FeederTable, folder: Path) -> Feeder:
    branches = _columns(folder / table.branches, "feeder.branches", ("from_bus", "to_bus", "r_ohm", "x_ohm"))
    buses = _columns(folder / table.buses, "feeder.buses", ("bus", "p_kw", "q_kvar"))
    order = np.argsort(buses["bus"])
    numbers = buses["bus"][order]
    if not np.array_equal(numbers, np.arange(len(numbers))):
        odd = int(np.argmin(numbers == np.arange(len(numbers))))
        raise UsageError(
            f"feeder.buses: {table.buses}: column bus: {numbers[odd]:g} stands where {odd} should; number the "
            f"{len(numbers)} buses from 0 (the substation) to {len(numbers) - 1}, each once"
        )
    try:
        return Feeder.from_arrays(
            branches["from_bus"],
            branches["to_bus"],
            branches["r_ohm"],
            branches["x_ohm"],
            buses["p_kw"][order],
            buses["q_kvar"][order],
            base_kv=table.base_kv,
            base_mva=table.base_mva,
            name=Path(table.branches).stem,
        )
    except UsageError as error:
        raise UsageError(f"feeder: {error}") from None


def _columns(path: Path, field: str, names: tuple[str, ...]) -> dict[str, FloatArray]:
    """Columns of numbers from a CSV file; it may have others."""
    try:
        text = read_text(path)
    except UsageError as error:
        raise UsageError(f"{field}: {error}") from None
    rows = list(csv.DictReader(io.StringIO(text), skipinitialspace=True))
    if not rows:
        raise UsageError(f"{field}: {path}: has no rows below its header {','.join(names)}")
    columns: dict[str, FloatArray] = {}
    for name in names:
        if name not in rows[0]:
            raise UsageError(f"{field}: {path}: has no column {name}; its header has to name {', '.join(names)}")
        columns[name] = np.empty(len(rows))
        for k, row in enumerate(rows):
            try:
                columns[name][k] = float(row[name] or "nothing")
            except ValueError:
                raise UsageError(
                    f"{field}: {path}: row {k + 2}: column {name}: {shown(row[name])} is no number"
                ) from None
    return columns


# the prosumers --------------------------------------------------------------------------------------------------------


def _seats(prosumers: list[Prosumer] | Group, num_buses: int) -> Iterator[_Seat]:
    if isinstance(prosumers, list):
        for n, prosumer in enumerate(prosumers):
            yield _Seat(prosumer.bus, f"prosumers[{n}].bus", prosumer, f"prosumers[{n}]")
        return
    buses = _buses(prosumers, num_buses)
    beyond = [n for n in prosumers.overrides if not 0 <= n < len(buses)]
    if beyond:
        raise UsageError(
            f"prosumers.overrides.{beyond[0]}: there is no such prosumer; they are numbered 0 ... {len(buses) - 1}"
        )
    for n, bus in enumerate(buses):
        listed = "prosumers.buses" if isinstance(prosumers.buses, str) else f"prosumers.buses[{n}]"
        own = prosumers.overrides.get(n)
        if own is None:
            yield _Seat(bus, listed, prosumers, "prosumers")
        else:
            field = f"prosumers.overrides.{n}"
            moved = own.bus is not None
            devices = _merged(prosumers, own)
            yield _Seat(own.bus if own.bus is not None else bus, f"{field}.bus" if moved else listed, devices, field)


def _buses(group: Group, num_buses: int) -> list[int]:
    """The bus that the group gives each of its prosumers [N]."""
    if isinstance(group.buses, str):
        if group.count is None:
            raise UsageError("prosumers.count: is missing; say how many there are, or list their buses")
        return spread_buses(group.count, num_buses)
    if not group.buses:
        raise UsageError("prosumers.buses: is empty; give a bus for each prosumer, or say spread")
    if group.count not in (None, len(group.buses)):
        raise UsageError(
            f"prosumers.buses: {len(group.buses)} buses for {group.count} prosumers; give one for each, or say spread"
        )
    return group.buses


def _merged(group: Devices, own: Devices) -> Devices:
    """What the group has, and in its place what the prosumer has of its own."""
    changes: dict[str, object] = {}
    for name in own.model_fields_set & Devices.model_fields.keys():
        value, common = getattr(own, name), getattr(group, name)
        if isinstance(value, BaseModel):
            value = common.model_copy(update={each: getattr(value, each) for each in value.model_fields_set})
        changes[name] = value
    return group.model_copy(update=changes)


def _check_seat(seat: _Seat, num_buses: int) -> None:
    """What no field can tell alone."""
    if not 1 <= seat.bus < num_buses:
        what = "is the substation" if seat.bus == 0 else "is not in the feeder"
        raise UsageError(f"{seat.bus_field}: {seat.bus} {what} (buses 1 ... {num_buses - 1})")
    battery, field = seat.devices.battery, f"{seat.field}.battery"

    def told(name: str) -> str:
        return f"{getattr(battery, name):g}" + ("" if name in battery.model_fields_set else " (the default)")

    if battery.soc_max_kwh < battery.soc_min_kwh:
        raise UsageError(f"{field}.soc_max_kwh: {told('soc_max_kwh')} is below soc_min_kwh, {told('soc_min_kwh')}")
    if not battery.soc_min_kwh <= battery.soc_initial_kwh <= battery.soc_max_kwh:
        span = f"soc_min_kwh {told('soc_min_kwh')} ... soc_max_kwh {told('soc_max_kwh')}"
        raise UsageError(f"{field}.soc_initial_kwh: {told('soc_initial_kwh')} lies outside {span}")


def _fleet(seats: list[_Seat]) -> Fleet:
    rows = [dict(_of_the_fleet(seat.devices)) for seat in seats]
    return Fleet(
        bus=np.array([seat.bus for seat in seats]), **{name: np.array([row[name] for row in rows]) for name in rows[0]}
    )


def _of_the_fleet(section: BaseModel) -> Iterator[tuple[str, float]]:
    """Every value that fills a field of `Fleet`, with the name of that."""
    for name, info in type(section).model_fields.items():
        value, extra = getattr(section, name), info.json_schema_extra
        if isinstance(value, BaseModel):
            yield from _of_the_fleet(value)
        elif isinstance(extra, dict) and "fleet" in extra:
            yield str(extra["fleet"]), value


# trade ----------------------------------------------------------------------------------------------------------------


def _graph(trade: Trade, num: int) -> TradeGraph:
    if trade.edges is not None:
        return _listed_edges(trade, num)
    if trade.graph in (None, "ring-with-chords"):
        return TradeGraph.ring_with_chords(num, limit_kw=trade.limit_kw, fee_ct_per_kwh=trade.fee_ct_per_kwh)
    pairs = {
        "complete": list(itertools.combinations(range(num), 2)),
        "star": [(0, n) for n in range(1, num)],
        "none": [],
    }[str(trade.graph)]
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return TradeGraph(
        first=ends[:, 0],
        second=ends[:, 1],
        limit_kw=np.full(len(ends), trade.limit_kw),
        fee_ct_per_kwh=np.full(len(ends), trade.fee_ct_per_kwh),
    )


def _listed_edges(trade: Trade, num: int) -> TradeGraph:
    edges = trade.edges or []
    seen: dict[tuple[int, int], int] = {}
    for e, edge in enumerate(edges):
        field = f"trade.edges[{e}]"
        for n in edge.between:
            if not 0 <= n < num:
                raise UsageError(f"{field}: there is no prosumer {n}; they are numbered 0 ... {num - 1}")
        first, second = sorted(edge.between)
        if first == second:
            raise UsageError(f"{field}: prosumer {first} cannot trade with itself")
        if (first, second) in seen:
            before = seen[first, second]
            raise UsageError(f"{field}: prosumers {first} and {second} have an edge already, trade.edges[{before}]")
        seen[first, second] = e
    ends = np.array(list(seen), dtype=np.int64).reshape(-1, 2)
    return TradeGraph(
        first=ends[:, 0],
        second=ends[:, 1],
        limit_kw=np.array([trade.limit_kw if edge.limit_kw is None else edge.limit_kw for edge in edges]),
        fee_ct_per_kwh=np.array(
            [trade.fee_ct_per_kwh if edge.fee_ct_per_kwh is None else edge.fee_ct_per_kwh for edge in edges]
        ),
    )


# errors ---------------------------------------------------------------------------------------------------------------


def _complaint(error: ErrorDetails) -> str:
    """`field.path: what is wrong`, in the words of the file."""
    place = ""
    for part in error["loc"]:
        if isinstance(part, str) and part.startswith(("<", "[")):
            continue  # which form of a field was taken; that a key is meant
        part = shortened(part) if isinstance(part, str) else part
        in_list = isinstance(part, int) and not place.endswith("overrides")
        place += f"[{part}]" if in_list else f".{part}" if place else str(part)
    kind, limits = error["type"], error.get("ctx", {})
    if kind == "no_field":
        place = f"{place}.{shortened(limits['name'])}".lstrip(".")
    if error["input"] is None and kind not in ("missing", "no_field"):
        return f"{place}: has no value; give one, or leave the line out"
    value = shown(error["input"])
    unit = "; is it in W or Wh?" if place.endswith(("_kw", "_kwh")) else ""
    limit = {name: limits[name] for name in ("ge", "gt", "le", "lt") if name in limits}
    bound = f"{next(iter(limit.values())):g}" if limit else ""
    least, most = f"{bound} or more{unit}", f"{bound}{unit}"
    expected = str(limits.get("expected")).replace(" or ", ", ").replace("'", "")
    if place.endswith("buses"):
        expected += ", or a list with the bus of each"
    words = {
        "missing": "is missing; give it",
        "no_field": error["msg"],
        "unknown": error["msg"],
        "both": error["msg"],
        "greater_than_equal": f"{value} must not be negative" if bound == "0" else f"{value} must be {least}",
        "greater_than": f"{value} must be above {bound}",
        "less_than_equal": f"{value} must not be positive" if bound == "0" else f"{value} must not exceed {most}",
        "float_type": f"{value} is no number",
        "int_type": f"{value} is no whole number",
        "finite_number": f"{value} is not finite",
        "string_type": f"{value} is no text",
        "literal_error": f"{value} is not known; choose one of: {expected}",
        "list_type": f"{value} is no list",
        "dict_type": f"{value} holds no fields",
        "model_type": f"{value} holds no fields",
    }
    if place.endswith("between"):
        words |= dict.fromkeys(("too_short", "too_long"), f"{value} does not name two prosumers, such as [0, 1]")
    elif kind in ("too_short", "too_long"):
        words |= {"too_short": "is empty; at least one is needed", "too_long": f"more than {limits.get('max_length')}"}
    return f"{place}: {words.get(kind) or value + ': ' + error['msg'].lower()}"
