"""A radial distribution feeder: what the user gives, checked once, and the arrays that the kernels want.

Axis letters: K buses, L lines (branches). A radial feeder has L = K - 1.

Buses are numbered 0..K-1 and bus 0 is the slack (the substation). Branches come in any order and direction. Tie lines
(normally open switches) are not part of a feeder: leave them out.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import FloatArray, FrozenArrays, IntArray, frozen
from prosumer_gym.errors import UsageError
from prosumer_gym.groups import Groups
from prosumer_gym.pandapower_net import read_net


class FeederTables(NamedTuple):
    """A feeder as the kernels see it: positions in depth-first order, a parent just before its first child.

    Position 0 is the slack. Entries of `parent`, `r_pu` and `x_pu` at position 0 are zero and never used.
    """

    order: IntArray  # [K] position -> bus
    parent: IntArray  # [K] position -> position of the bus one branch nearer to the slack
    num_children: IntArray  # [K] branches that leave the position towards the leaves
    r_pu: FloatArray  # [K] resistance of the branch from the parent, p.u. of base_kv and base_mva
    x_pu: FloatArray  # [K] its reactance
    slack_v_pu: float
    base_kva: float  # kW per p.u. of power


@dataclasses.dataclass(frozen=True, eq=False)
class Feeder(FrozenArrays):
    """A radial feeder with its nominal loads. Build it with `Feeder.from_arrays`; it never changes afterwards."""

    from_bus: IntArray  # [L]
    to_bus: IntArray  # [L]
    r_ohm: FloatArray  # [L]
    x_ohm: FloatArray  # [L]
    p_kw: FloatArray  # [K] nominal load
    q_kvar: FloatArray  # [K] nominal load
    base_kv: float
    base_mva: float = 1.0
    slack_v_pu: float = 1.0
    v_min_pu: float = 0.95
    v_max_pu: float = 1.05
    name: str = ""

    @classmethod
    def from_arrays(
        cls,
        from_bus: npt.ArrayLike,
        to_bus: npt.ArrayLike,
        r_ohm: npt.ArrayLike,
        x_ohm: npt.ArrayLike,
        p_kw: npt.ArrayLike,
        q_kvar: npt.ArrayLike,
        *,
        base_kv: float,
        base_mva: float = 1.0,
        slack_v_pu: float = 1.0,
        v_min_pu: float = 0.95,
        v_max_pu: float = 1.05,
        name: str = "",
    ) -> Feeder:
        """A checked feeder from plain arrays.

        Args:
            from_bus: [L] one end of each branch, 0..K-1.
            to_bus: [L] the other end.
            r_ohm: [L] series resistance, at least zero.
            x_ohm: [L] series reactance; r and x of a branch must not both be zero.
            p_kw: [K] nominal active load of each bus (negative: generation).
            q_kvar: [K] nominal reactive load.
            base_kv: nominal line-to-line voltage.
            base_mva: base of power of the per-unit system.
            slack_v_pu: voltage held at bus 0.
            v_min_pu: lower end of the allowed band.
            v_max_pu: upper end of the allowed band.
            name: for messages and plots.

        Raises:
            UsageError: a figure is missing, not finite or out of range, or the branches do not form one tree that
                hangs on bus 0; the message names the branch or bus.
        """
        return cls(
            from_bus=_bus_numbers(from_bus, "from_bus"),
            to_bus=_bus_numbers(to_bus, "to_bus"),
            r_ohm=_figures(r_ohm, "r_ohm"),
            x_ohm=_figures(x_ohm, "x_ohm"),
            p_kw=_figures(p_kw, "p_kw"),
            q_kvar=_figures(q_kvar, "q_kvar"),
            base_kv=_number(base_kv, "base_kv"),
            base_mva=_number(base_mva, "base_mva"),
            slack_v_pu=_number(slack_v_pu, "slack_v_pu"),
            v_min_pu=_number(v_min_pu, "v_min_pu"),
            v_max_pu=_number(v_max_pu, "v_max_pu"),
            name=name,
        )

    @classmethod
    def from_pandapower(
        cls,
        net: Any,
        *,
        base_mva: float = 1.0,
        v_min_pu: float = 0.95,
        v_max_pu: float = 1.05,
        name: str = "",
        neglect_line_shunts: bool = False,
    ) -> Feeder:
        """A checked feeder from a pandapower net, with the same AC power flow as `pandapower.runpp`.

        What is out of service is left out. The external grid gives bus 0 and its voltage; the other buses follow in the
        order of `net.bus`, buses that a closed bus-bus switch joins being one (`pandapower_net.bus_numbers` says where
        each went). Lines take their length and number of circuits into account, and carry nothing where a switch at
        one end is open. Nominal loads are the loads minus the static generators, each times its scaling.

        Args:
            net: the net; pandapower itself is not needed.
            base_mva: as in `from_arrays`.
            v_min_pu: lower end of the one allowed band; those of `net.bus` are not read.
            v_max_pu: upper end of it.
            name: for messages and plots.
            neglect_line_shunts: leave out the capacitance and conductance of the lines, which are refused otherwise.

        Raises:
            UsageError: a loop, a bus that nothing feeds, two voltages, an element that a feeder does not have (such as
                a transformer, a generator that holds a voltage or a shunt), loads that depend on the voltage, or a
                figure that is missing; the message names the element and says what to do.
        """
        arrays = read_net(net, neglect_line_shunts=neglect_line_shunts)
        return cls.from_arrays(**arrays._asdict(), base_mva=base_mva, v_min_pu=v_min_pu, v_max_pu=v_max_pu, name=name)

    def __post_init__(self) -> None:
        _check_scalars(self)
        _check_figures(self)
        _check_tree(self)

    def replace(self, **changes: Any) -> Feeder:
        """A feeder with some arguments of `from_arrays` changed, checked again.

        Raises:
            UsageError: an argument has no such name, or its value is refused by `from_arrays`.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - set(fields))
        if unknown:
            raise UsageError(f"feeder has no field {unknown[0]!r}; it has {', '.join(fields)}")
        return Feeder.from_arrays(**{**fields, **changes})

    @property
    def num_buses(self) -> int:
        """K."""
        return int(self.p_kw.shape[0])

    @cached_property
    def parent_bus(self) -> IntArray:
        """[K] the bus one branch nearer to the slack; -1 at the slack."""
        tables = self.tables
        parent = np.full(self.num_buses, -1, np.int64)
        parent[tables.order[1:]] = tables.order[tables.parent[1:]]
        parent.setflags(write=False)
        return parent

    @cached_property
    def tables(self) -> FeederTables:
        """The feeder in depth-first order and per unit, for the kernels."""
        z_base_ohm = self.base_kv**2 / self.base_mva
        neighbours = _neighbours(self)
        order: list[int] = []
        parent: list[int] = []
        r_pu: list[float] = []
        x_pu: list[float] = []
        position = np.full(self.num_buses, -1, np.int64)
        waiting: list[tuple[int, int, float, float]] = [(0, 0, 0.0, 0.0)]  # bus, parent position, r, x
        while waiting:
            bus, above, r, x = waiting.pop()
            position[bus] = len(order)
            order.append(bus)
            parent.append(above)
            r_pu.append(r / z_base_ohm)
            x_pu.append(x / z_base_ohm)
            for other, branch in sorted(neighbours[bus], reverse=True):
                if position[other] < 0:
                    waiting.append((other, int(position[bus]), float(self.r_ohm[branch]), float(self.x_ohm[branch])))
        return FeederTables(
            order=_frozen_int(order),
            parent=_frozen_int(parent),
            num_children=_frozen_int(np.bincount(parent[1:], minlength=self.num_buses)),
            r_pu=_frozen_float(r_pu),
            x_pu=_frozen_float(x_pu),
            slack_v_pu=self.slack_v_pu,
            base_kva=1000.0 * self.base_mva,
        )


def _frozen_int(values: npt.ArrayLike) -> IntArray:
    return cast(IntArray, frozen(values, np.int64))


def _frozen_float(values: npt.ArrayLike) -> FloatArray:
    return cast(FloatArray, frozen(values, np.float64))


def _bus_numbers(values: npt.ArrayLike, field: str) -> IntArray:
    array = _figures(values, field)
    whole = np.isfinite(array) & (array == np.floor(array))
    if not whole.all():
        branch = int(np.argmin(whole))
        raise UsageError(f"{field}: branch {branch} has bus {array[branch]}; give whole numbers")
    return _frozen_int(array)


def _figures(values: npt.ArrayLike, field: str) -> FloatArray:
    try:
        array = _frozen_float(values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{field} is not an array of numbers: {error}") from None
    if array.ndim != 1:
        raise UsageError(f"{field} has shape {array.shape}; give one number per branch or bus")
    return array


def _number(value: Any, field: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{field} is {value!r}; give a finite number above zero") from None


def _check_scalars(feeder: Feeder) -> None:
    for field in ("base_kv", "base_mva", "slack_v_pu", "v_min_pu", "v_max_pu"):
        value = getattr(feeder, field)
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"{field} is {value!r}; give a finite number above zero")
    if feeder.v_min_pu >= feeder.v_max_pu:
        raise UsageError(f"v_min_pu {feeder.v_min_pu} is not below v_max_pu {feeder.v_max_pu}; swap or widen them")


def _check_figures(feeder: Feeder) -> None:
    num_buses, num_lines = feeder.num_buses, feeder.from_bus.shape[0]
    if num_buses < 2:
        raise UsageError(f"p_kw has {num_buses} buses; a feeder has at least a slack and one more bus")
    if feeder.q_kvar.shape[0] != num_buses:
        raise UsageError(f"q_kvar has {feeder.q_kvar.shape[0]} buses and p_kw {num_buses}; give one figure per bus")
    for field in ("to_bus", "r_ohm", "x_ohm"):
        length = getattr(feeder, field).shape[0]
        if length != num_lines:
            raise UsageError(f"{field} has {length} branches and from_bus {num_lines}; give one figure per branch")
    for field in ("p_kw", "q_kvar"):
        finite = np.isfinite(getattr(feeder, field))
        if not finite.all():
            bus = int(np.argmin(finite))
            raise UsageError(f"bus {bus}: {field} is {getattr(feeder, field)[bus]}; give a finite number")
    for branch in range(num_lines):
        ends = (int(feeder.from_bus[branch]), int(feeder.to_bus[branch]))
        for bus in ends:
            if not 0 <= bus < num_buses:
                raise UsageError(f"{_name(feeder, branch)}: there is no bus {bus}; buses are 0 to {num_buses - 1}")
        if ends[0] == ends[1]:
            raise UsageError(f"{_name(feeder, branch)}: both ends are the same bus; remove the branch")
        r, x = float(feeder.r_ohm[branch]), float(feeder.x_ohm[branch])
        if not (np.isfinite(r) and np.isfinite(x)):
            raise UsageError(f"{_name(feeder, branch)}: impedance {r} + j{x} ohm; give finite numbers")
        if r < 0:
            raise UsageError(f"{_name(feeder, branch)}: resistance {r} ohm is negative; give zero or more")
        if r == 0 and x == 0:
            raise UsageError(f"{_name(feeder, branch)}: impedance is zero; merge its two buses into one")


def _check_tree(feeder: Feeder) -> None:
    """One tree that holds every bus: no branch twice, no loop, no island."""
    groups = Groups(feeder.num_buses)
    seen: dict[tuple[int, int], int] = {}
    for branch, (a, b) in enumerate(zip(feeder.from_bus.tolist(), feeder.to_bus.tolist(), strict=True)):
        first = seen.setdefault((min(a, b), max(a, b)), branch)
        if first != branch:
            raise UsageError(f"{_name(feeder, branch)}: repeats branch {first}; give one branch between two buses")
        if not groups.join(a, b):
            raise UsageError(f"{_name(feeder, branch)}: closes a loop; a feeder is radial, leave tie lines out")
    for bus in range(feeder.num_buses):
        if groups.root(bus) != groups.root(0):
            raise UsageError(f"bus {bus}: no path of branches leads to the slack (bus 0); connect it or leave it out")


def _name(feeder: Feeder, branch: int) -> str:
    return f"branch {branch} (bus {feeder.from_bus[branch]} - bus {feeder.to_bus[branch]})"


def _neighbours(feeder: Feeder) -> list[list[tuple[int, int]]]:
    """For every bus its (neighbour, branch) pairs."""
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(feeder.num_buses)]
    for branch, (a, b) in enumerate(zip(feeder.from_bus.tolist(), feeder.to_bus.tolist(), strict=True)):
        neighbours[a].append((b, branch))
        neighbours[b].append((a, branch))
    return neighbours
