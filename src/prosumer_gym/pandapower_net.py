"""A pandapower net read as the arrays of a radial feeder.

Neither pandapower nor pandas is imported: a net is anything whose attributes `bus`, `line`, `ext_grid`, ... are tables
with an `index`, `columns` and columns by name. Elements mean what they mean to pandapower's balanced AC power flow, and
what a radial feeder without shunts cannot hold is refused.

Buses that closed bus-bus switches join are one node, and a node is a bus of the feeder. Axis letters: K nodes,
L branches.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.errors import UsageError
from prosumer_gym.groups import Groups

Label = Hashable
"""What pandapower calls an element: its place in the index of its table."""


class NetArrays(NamedTuple):
    """What a net says about a feeder, in the units of `Feeder.from_arrays`; node 0 is the substation."""

    from_bus: list[int]  # [L]
    to_bus: list[int]  # [L]
    r_ohm: list[float]  # [L]
    x_ohm: list[float]  # [L]
    p_kw: FloatArray  # [K]
    q_kvar: FloatArray  # [K]
    base_kv: float
    slack_v_pu: float


_SERVED = ("bus", "line", "load", "sgen", "ext_grid")
_ONE_VOLTAGE = (
    "a feeder has one voltage: put the ext_grid on the secondary side and take the transformer out of service"
)
_INSTEAD = {
    "trafo": _ONE_VOLTAGE,
    "trafo3w": _ONE_VOLTAGE,
    "gen": "only the substation holds a voltage; make it an sgen",
    "shunt": "the power flow knows no shunts; make it a load",
    "storage": "batteries belong to prosumers; take it out of service",
    "impedance": "make it a line",
}
_ELSE = "a feeder has no such element; put its power into a load, or take it out of service"


def read_net(net: Any, *, neglect_line_shunts: bool) -> NetArrays:
    """The feeder in a net. Raises `UsageError` naming the element; see `Feeder.from_pandapower`."""
    node_of, source = bus_numbers(net), _source(net)
    _refuse_other_elements(net, node_of)
    base_kv = _one_voltage(_rows(net, "bus"), source.labels_in("bus")[0])
    if max(node_of.values()) == 0:
        raise UsageError("bus: all in service are one node; a feeder needs a second bus and a line to it")
    branches = _branches(net, node_of, neglect_line_shunts)
    slack_v_pu = float(source.figures("vm_pu")[0])
    if slack_v_pu <= 0.0:
        raise UsageError(f"{source.name(0)}: vm_pu is {slack_v_pu:g}; give the voltage of the substation, such as 1.0")
    power_kva = np.zeros(1 + max(node_of.values()), np.complex128)
    for table, sign in (("load", 1.0), ("sgen", -1.0)):
        rows = _rows(net, table)
        for i, label in enumerate(rows.labels_in("bus")):
            _check_buses(net, rows.name(i), [label])
        rows = rows.where([label in node_of for label in rows.labels_in("bus")])
        rows.refuse_voltage_dependence()
        power_mva = rows.figures("p_mw") + 1j * rows.figures("q_mvar", 0.0)
        nodes = [node_of[label] for label in rows.labels_in("bus")]
        np.add.at(power_kva, nodes, sign * 1000.0 * rows.figures("scaling", 1.0) * power_mva)
    return NetArrays(
        from_bus=[a for a, _ in branches],
        to_bus=[b for _, b in branches],
        r_ohm=[z.real for z in branches.values()],
        x_ohm=[z.imag for z in branches.values()],
        p_kw=power_kva.real,
        q_kvar=power_kva.imag,
        base_kv=base_kv,
        slack_v_pu=slack_v_pu,
    )


def bus_numbers(net: Any) -> dict[Label, int]:
    """Where the buses of a pandapower net go: by label in the net, the number in `Feeder.from_pandapower(net)`.

    The bus of the external grid is 0, the others follow in the order of `net.bus`. Buses that a closed bus-bus switch
    joins share a number; a bus out of service has none.

    Raises:
        UsageError: not one external grid, two buses of one label, or a bus-bus switch with an impedance or on a bus
            that is not there.
    """
    _refuse_twins(net)
    labels = _rows(net, "bus").labels
    place = {label: i for i, label in enumerate(labels)}
    nodes = Groups(len(labels))
    switches = _switches(net)
    switches = switches.where(
        kind == "b" and closed for kind, closed in zip(switches.labels_in("et"), switches.flags("closed"), strict=True)
    )
    ends = list(zip(switches.labels_in("bus"), switches.labels_in("element"), strict=True))
    for i, z_ohm in enumerate(switches.figures("z_ohm", 0.0).tolist()):
        _check_buses(net, switches.name(i), ends[i])
        if z_ohm > 0.0:
            raise UsageError(f"{switches.name(i)}: z_ohm is {z_ohm:g}; make the switch a line, or z_ohm zero")
        if ends[i][0] in place and ends[i][1] in place:
            nodes.join(place[ends[i][0]], place[ends[i][1]])
    number = {nodes.root(place[_source(net).labels_in("bus")[0]]): 0}
    return {label: number.setdefault(nodes.root(i), len(number)) for i, label in enumerate(labels)}


# elements -------------------------------------------------------------------------------------------------------------


class _Rows:
    """Some rows of a table, at first those in service."""

    def __init__(self, table: str, labels: Sequence[Label], columns: dict[str, Any]) -> None:
        self.table, self.labels, self._columns = table, labels, columns

    @classmethod
    def in_service(cls, table: str, frame: Any) -> _Rows:
        """Those of a DataFrame."""
        if not hasattr(frame, "columns"):
            raise UsageError(f"{table}: is a {type(frame).__name__}; give a table with columns, as pandapower makes it")
        columns = {str(name): np.asarray(frame[name], dtype=object) for name in frame.columns}
        rows = cls(table, list(frame.index), columns)
        return rows.where(rows.flags("in_service")) if "in_service" in columns else rows

    def where(self, mask: Iterable[bool]) -> _Rows:
        """Those for which the mask is true."""
        kept = np.flatnonzero(np.fromiter(mask, np.bool_))
        columns = {name: values[kept] for name, values in self._columns.items()}
        return _Rows(self.table, [self.labels[i] for i in kept.tolist()], columns)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, i: int) -> str:
        """What row `i` is called in a message."""
        return f"{self.table} {self.labels[i]}"

    def labels_in(self, column: str) -> list[Label]:
        """The elements that a column points to."""
        return list(self._column(column).tolist())

    def flags(self, column: str) -> list[bool]:
        """A column of truth values."""
        values = self._column(column).tolist()
        for i, value in enumerate(values):
            if not isinstance(value, bool | int | float) or value not in (0, 1):
                raise UsageError(f"{self.name(i)}: {column} is {value!r}; say True or False")
        return [bool(value) for value in values]

    def figures(self, column: str, default: float | None = None) -> FloatArray:
        """A column of numbers; the default in all rows of a table without it."""
        if column not in self._columns and default is not None:
            return np.full(len(self), default)
        values = self._column(column)
        try:
            numbers = values.astype(np.float64)
        except (TypeError, ValueError):
            raise UsageError(f"{self.table}: column {column} holds something else than numbers; correct it") from None
        finite = np.isfinite(numbers)
        if not finite.all():
            i = int(np.argmin(finite))
            raise UsageError(f"{self.name(i)}: {column} is {numbers[i]}; give a finite number")
        return np.asarray(numbers)

    def ends(self) -> list[list[Label]]:
        """The AC buses that each row hangs on."""
        columns = [name for name in self._columns if name == "bus" or name.endswith("_bus")]
        return [[self._columns[name][i] for name in columns] for i in range(len(self))]

    def refuse_voltage_dependence(self) -> None:
        """Raise for a load that is not of constant power."""
        for column in self._columns:
            shares = self.figures(column) if column.startswith("const_") else np.zeros(0)
            if shares.any():
                i = int(np.argmax(shares != 0.0))
                raise UsageError(f"{self.name(i)}: {column} is {shares[i]:g}; make it 0, a load of constant power")

    def _column(self, column: str) -> Any:
        if column not in self._columns:
            if len(self) == 0:
                return np.zeros(0, dtype=object)
            raise UsageError(f"{self.table}: there is no column {column}; give a net as pandapower makes it")
        return self._columns[column]


def _frame(net: Any, table: str) -> Any:
    return net.get(table) if isinstance(net, Mapping) else getattr(net, table, None)


def _rows(net: Any, table: str) -> _Rows:
    frame = _frame(net, table)
    if frame is not None:
        return _Rows.in_service(table, frame)
    if table in ("bus", "line", "ext_grid"):
        raise UsageError(f"net: there is no table {table}; give a net as pandapower makes it")
    return _Rows(table, [], {})


def _switches(net: Any) -> _Rows:
    """The switches, every one on a bus and an element that are there."""
    switches = _rows(net, "switch")
    columns = [switches.labels_in(name) for name in ("et", "bus", "element")]
    for i, (kind, bus, element) in enumerate(zip(*columns, strict=True)):
        if kind not in ("b", "l", "t", "t3"):
            raise UsageError(f"{switches.name(i)}: et is {kind!r}; say b (bus-bus) or l (line)")
        _check_buses(net, switches.name(i), [bus])
        if kind == "l":
            _check_line_end(net, switches.name(i), element, bus)
    return switches


def _check_line_end(net: Any, who: str, line: Label, bus: Label) -> None:
    lines = _frame(net, "line")
    if lines is None or line not in lines.index:
        raise UsageError(f"{who}: there is no line {line}; correct it")
    if bus not in (lines["from_bus"][line], lines["to_bus"][line]):
        raise UsageError(f"{who}: line {line} does not end at bus {bus}; correct it")


def _refuse_twins(net: Any) -> None:
    """Raise for two elements of a table that have one label."""
    for table in ("bus", "line"):
        frame, seen = _frame(net, table), set[Label]()
        for label in frame.index if hasattr(frame, "columns") else ():
            if label in seen:
                raise UsageError(f"{table} {label}: stands twice in the index of net.{table}; give each its own label")
            seen.add(label)


def _source(net: Any) -> _Rows:
    """The one external grid."""
    sources = _rows(net, "ext_grid")
    if len(sources) != 1:
        raise UsageError(
            f"ext_grid: {len(sources)} are in service, and a feeder hangs on one; "
            "leave one in service, and of the buses only those that it feeds"
        )
    bus = sources.labels_in("bus")[0]
    _check_buses(net, sources.name(0), [bus])
    if bus not in _rows(net, "bus").labels:
        raise UsageError(f"{sources.name(0)}: its bus {bus} is out of service; put it on a bus in service")
    return sources


def _check_buses(net: Any, who: str, labels: Iterable[Label]) -> None:
    known = _frame(net, "bus").index
    for label in labels:
        if label not in known:
            raise UsageError(f"{who}: there is no bus {label}; correct it")


def _one_voltage(buses: _Rows, source_bus: Label) -> float:
    """Nominal voltage of all buses in service, kV."""
    vn_kv: dict[Label, float] = dict(zip(buses.labels, buses.figures("vn_kv").tolist(), strict=True))
    for label, kv in vn_kv.items():
        if kv != vn_kv[source_bus]:
            raise UsageError(
                f"bus {label}: vn_kv is {kv:g} and that of the ext_grid {vn_kv[source_bus]:g}; a feeder has one "
                "voltage: take what is not on it out of service"
            )
    return vn_kv[source_bus]


def _refuse_other_elements(net: Any, node_of: Mapping[Label, int]) -> None:
    """Raise for what else is in service on a bus in service."""
    tables = net if isinstance(net, Mapping) else vars(net)
    for table, frame in tables.items():
        if table in _SERVED or str(table).startswith("_") or frame is None:
            continue
        if table not in _INSTEAD and "in_service" not in getattr(frame, "columns", ()):
            continue
        rows = _Rows.in_service(table, frame)
        for i, ends in enumerate(rows.ends()):
            if any(end in node_of for end in ends):
                raise UsageError(f"{rows.name(i)}: {_INSTEAD.get(table, _ELSE)}")


# lines ----------------------------------------------------------------------------------------------------------------


def _branches(net: Any, node_of: Mapping[Label, int], neglect_line_shunts: bool) -> dict[tuple[int, int], complex]:
    """Impedance between every two nodes that closed lines join, ohm: of all lines between the two together."""
    lines = _rows(net, "line")
    parallel = lines.figures("parallel", 1.0)
    if (parallel < 1.0).any():
        i = int(np.argmin(parallel))
        raise UsageError(f"{lines.name(i)}: parallel is {parallel[i]:g}; give the number of circuits, 1 or more")
    ohm_per_km = lines.figures("r_ohm_per_km") + 1j * lines.figures("x_ohm_per_km")
    z_ohm = (ohm_per_km * lines.figures("length_km") / parallel).tolist()
    has_shunt = ((lines.figures("c_nf_per_km", 0.0) != 0.0) | (lines.figures("g_us_per_km", 0.0) != 0.0)).tolist()
    opened = _opened_ends(net)
    groups = Groups(1 + max(node_of.values()))
    branches: dict[tuple[int, int], complex] = {}
    for i, ends in enumerate(zip(lines.labels_in("from_bus"), lines.labels_in("to_bus"), strict=True)):
        who = f"{lines.name(i)} (bus {ends[0]} - bus {ends[1]})"
        _check_buses(net, who, ends)
        nodes = sorted(node_of[end] for end in ends if end in node_of and (lines.labels[i], end) not in opened)
        if nodes and has_shunt[i] and not neglect_line_shunts:
            raise UsageError(
                f"{who}: c_nf_per_km or g_us_per_km is not zero, and the power flow is exact without shunts only; "
                "say neglect_line_shunts=True to leave them out"
            )
        if len(nodes) < 2 or nodes[0] == nodes[1]:  # open at one end, or both ends are one node: it carries nothing
            continue
        if z_ohm[i].real < 0.0:
            raise UsageError(f"{who}: resistance {z_ohm[i].real:g} ohm is negative; give zero or more")
        if z_ohm[i] == 0.0:
            raise UsageError(f"{who}: impedance is zero; make it a closed bus-bus switch")
        pair = nodes[0], nodes[1]
        if pair in branches:
            branches[pair] = 1.0 / (1.0 / branches[pair] + 1.0 / z_ohm[i])
        elif groups.join(*pair):
            branches[pair] = z_ohm[i]
        else:
            raise UsageError(f"{who}: closes a loop; a feeder is radial, open a line of the loop or a switch on it")
    islands = [label for label, node in node_of.items() if groups.root(node) != groups.root(0)]
    if islands:
        more = f", nor to {len(islands) - 1} more" if len(islands) > 1 else ""
        raise UsageError(f"bus {islands[0]}: no line leads to it{more}; connect it or take it out of service")
    return branches


def _opened_ends(net: Any) -> set[tuple[Label, Label]]:
    """(line, bus) of every open line switch."""
    switches = _switches(net)
    columns = (
        switches.labels_in("et"),
        switches.flags("closed"),
        switches.labels_in("element"),
        switches.labels_in("bus"),
    )
    return {(line, bus) for kind, closed, line, bus in zip(*columns, strict=True) if kind == "l" and not closed}
