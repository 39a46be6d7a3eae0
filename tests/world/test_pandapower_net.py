"""Pandapower nets become feeders with the same power flow, and what is no feeder is refused by name.

The nets are frozen tables (`benchmarks/make_golden_pandapower_nets.py`): pandapower is not needed, except by the last
test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import ieee33
from prosumer_gym.pandapower_net import bus_numbers
from prosumer_gym.power_flow import solve_power_flow

CASES = Path(__file__).parents[1] / "cases" / "pandapower"
NETS = sorted(path.stem for path in CASES.glob("*.json"))


def golden(name: str) -> tuple[Any, dict[str, Any]]:
    """The net, as pandapower would hand it over, and what pandapower made of it."""
    case = json.loads((CASES / f"{name}.json").read_text())
    tables = {
        table: pd.DataFrame(content["columns"], index=content["index"]) for table, content in case["tables"].items()
    }
    return SimpleNamespace(**tables), case


def changed(table: str, label: int, column: str, value: object) -> Callable[[Any], None]:
    def change(net: Any) -> None:
        frame = getattr(net, table)
        if column not in frame:
            frame[column] = 0.0
        frame[column] = frame[column].astype(object)
        frame.loc[label, column] = value

    return change


def added(table: str, **row: object) -> Callable[[Any], None]:
    def add(net: Any) -> None:
        frame = getattr(net, table, None)
        label = 0 if frame is None else int(frame.index.max()) + 1
        new = pd.DataFrame([{"in_service": True, **row}], index=[label])
        setattr(net, table, new if frame is None else pd.concat([frame, new[[c for c in new if c in frame]]]))

    return add


def both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    def change(net: Any) -> None:
        first(net)
        second(net)

    return change


@pytest.mark.parametrize("name", NETS)
def test_a_net_has_the_power_flow_that_pandapower_finds(name: str) -> None:
    net, case = golden(name)
    feeder = Feeder.from_pandapower(net)
    numbers = bus_numbers(net)
    result = solve_power_flow(feeder, feeder.p_kw, feeder.q_kvar)
    assert {str(label) for label in numbers} == set(case["v_pu"])
    assert sorted(set(numbers.values())) == list(range(feeder.num_buses))
    for label, bus in numbers.items():
        assert result.v_pu[bus, 0] == pytest.approx(case["v_pu"][str(label)], rel=0, abs=1e-9)
    for figure in ("losses_kw", "losses_kvar", "slack_p_kw", "slack_q_kvar"):
        assert getattr(result, figure).item() == pytest.approx(case[figure], rel=0, abs=1e-5)


def test_there_are_three_nets() -> None:
    assert NETS == ["case33bw", "cigre_mv_feeder_1", "odd"]


def test_pandapower_s_case33bw_is_ieee33() -> None:
    net, _ = golden("case33bw")
    feeder, ours = Feeder.from_pandapower(net), ieee33()
    assert bus_numbers(net) == {bus: bus for bus in range(33)}
    np.testing.assert_array_equal(feeder.parent_bus, ours.parent_bus)
    for field in ("r_ohm", "x_ohm", "p_kw", "q_kvar"):
        np.testing.assert_allclose(getattr(feeder, field), getattr(ours, field), rtol=1e-7, atol=0)
    assert (feeder.base_kv, feeder.slack_v_pu, feeder.v_min_pu, feeder.v_max_pu) == (12.66, 1.0, 0.95, 1.05)


def test_what_is_said_beside_the_net_is_kept() -> None:
    net, _ = golden("case33bw")
    feeder = Feeder.from_pandapower(net, base_mva=2.0, v_min_pu=0.9, v_max_pu=1.1, name="mine")
    assert (feeder.base_mva, feeder.v_min_pu, feeder.v_max_pu, feeder.name) == (2.0, 0.9, 1.1, "mine")


def test_every_element_of_the_odd_net_finds_its_place() -> None:
    net, _ = golden("odd")
    feeder = Feeder.from_pandapower(net)
    # 1000 carries the external grid; 55, 56 and 57 are one; 12 is out of service
    assert bus_numbers(net) == {1000: 0, 42: 1, 7: 2, 3: 3, 8: 4, 55: 5, 56: 5, 57: 5, 21: 6, 99: 7}
    assert feeder.parent_bus.tolist() == [-1, 0, 0, 2, 3, 4, 5, 3]
    np.testing.assert_allclose(feeder.p_kw, [400, 1300, 0, 0, 0, 450 + 700 + 900 - 300, 1100, 800 - 1200])
    np.testing.assert_allclose(feeder.q_kvar, [100, 400, 0, 0, 0, 150 + 200 - 150 - 50, 350, 200])
    z_ohm = {
        (int(a), int(b)): complex(r, x)
        for a, b, r, x in zip(feeder.from_bus, feeder.to_bus, feeder.r_ohm, feeder.x_ohm, strict=True)
    }
    one, other = 1.5 * (0.6 + 0.3j), 3.0 * (0.4 + 0.45j)
    expected = {
        (0, 2): 2.5 * (0.3 + 0.35j), (2, 3): 2.0 * (0.5 + 0.4j), (3, 4): one * other / (one + other),
        (4, 5): 2.0 * (0.7 + 0.3j), (5, 6): 3.5 * (0.65 + 0.38j), (0, 1): 6.0 * (0.45 + 0.37j), (3, 7): 1.0 + 0.8j,
    }  # fmt: skip
    assert z_ohm == {pair: pytest.approx(value, rel=1e-12) for pair, value in expected.items()}
    assert feeder.slack_v_pu == 1.02


def test_a_net_may_lack_the_columns_and_tables_that_say_nothing() -> None:
    net, _ = golden("case33bw")
    expected = Feeder.from_pandapower(net)
    net.line = net.line[net.line.in_service][["from_bus", "to_bus", "length_km", "r_ohm_per_km", "x_ohm_per_km"]]
    net.load = net.load[["bus", "p_mw", "q_mvar"]]
    net.bus, net.ext_grid = net.bus[["vn_kv"]], net.ext_grid[["bus", "vm_pu"]]
    feeder = Feeder.from_pandapower(net)
    for field in ("from_bus", "to_bus", "r_ohm", "x_ohm", "p_kw", "q_kvar"):
        np.testing.assert_array_equal(getattr(feeder, field), getattr(expected, field))
    del net.load
    assert not Feeder.from_pandapower(net).p_kw.any()


def test_shunts_of_lines_are_left_out_only_when_asked() -> None:
    net, _ = golden("odd")
    expected = Feeder.from_pandapower(net)
    for column in ("c_nf_per_km", "g_us_per_km"):
        net, _ = golden("odd")
        changed("line", 31, column, 9.0)(net)
        with pytest.raises(UsageError, match=r"line 31 \(bus 7 - bus 3\): c_nf_per_km or g_us_per_km is not zero"):
            Feeder.from_pandapower(net)
        feeder = Feeder.from_pandapower(net, neglect_line_shunts=True)
        np.testing.assert_array_equal(feeder.r_ohm, expected.r_ohm)
        changed("line", 31, column, 0.0)(net)
        changed("line", 39, column, 9.0)(net)  # out of service
        Feeder.from_pandapower(net)
        changed("line", 38, column, 9.0)(net)  # open at one end, but under voltage
        with pytest.raises(UsageError, match=r"line 38 \(bus 42 - bus 21\): c_nf"):
            Feeder.from_pandapower(net)


ELEMENT = "a feeder has no such element; put its power into a load, or take it out of service"
ONE_VOLTAGE = "a feeder has one voltage: put the ext_grid on the secondary side and take the transformer out of service"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("switch", 5, "closed", True), "line 38 (bus 42 - bus 21): closes a loop; a feeder is radial"),
        (changed("line", 41, "in_service", False), "bus 99: no line leads to it; connect it or take it out of service"),
        (changed("line", 34, "in_service", False), "bus 55: no line leads to it, nor to 3 more; connect it or"),
        (changed("bus", 12, "in_service", True), "line 40 (bus 21 - bus 12): closes a loop"),  # joined to bus 3
        (changed("bus", 99, "vn_kv", 0.4), "bus 99: vn_kv is 0.4 and that of the ext_grid 20; a feeder has one vol"),
        (changed("ext_grid", 5, "in_service", True), "ext_grid: 2 are in service, and a feeder hangs on one; leave"),
        (changed("ext_grid", 4, "in_service", False), "ext_grid: 0 are in service, and a feeder hangs on one; leave"),
        (changed("ext_grid", 4, "bus", 12), "ext_grid 4: its bus 12 is out of service; put it on a bus in service"),
        (changed("ext_grid", 4, "bus", 13), "ext_grid 4: there is no bus 13; correct it"),
        (changed("ext_grid", 4, "vm_pu", np.nan), "ext_grid 4: vm_pu is nan; give a finite number"),
        (changed("switch", 0, "z_ohm", 0.01), "switch 0: z_ohm is 0.01; make the switch a line, or z_ohm zero"),
        (changed("switch", 0, "element", 13), "switch 0: there is no bus 13; correct it"),
        (changed("line", 37, "to_bus", 13), "line 37 (bus 42 - bus 13): there is no bus 13; correct it"),
        (changed("line", 37, "length_km", 0.0), "line 37 (bus 42 - bus 1000): impedance is zero; make it a closed"),
        (changed("line", 37, "r_ohm_per_km", np.nan), "line 37: r_ohm_per_km is nan; give a finite number"),
        (changed("line", 37, "x_ohm_per_km", "much"), "line: column x_ohm_per_km holds something else than numbers"),
        (changed("line", 37, "parallel", 0), "line 37: parallel is 0; give the number of circuits, 1 or more"),
        (changed("line", 37, "r_ohm_per_km", -1.0), "line 37 (bus 42 - bus 1000): resistance -6 ohm is negative"),
        (changed("load", 4, "p_mw", np.nan), "load 4: p_mw is nan; give a finite number"),
        (changed("load", 4, "const_z_percent", 30.0), "load 4: const_z_percent is 30; make it 0, a load of constant"),
        (added("trafo", hv_bus=42, lv_bus=21), f"trafo 0: {ONE_VOLTAGE}"),
        (added("trafo3w", hv_bus=12, mv_bus=12, lv_bus=21), f"trafo3w 0: {ONE_VOLTAGE}"),
        (added("gen", bus=3), "gen 0: only the substation holds a voltage; make it an sgen"),
        (added("shunt", bus=3), "shunt 0: the power flow knows no shunts; make it a load"),
        (added("storage", bus=3), "storage 0: batteries belong to prosumers; take it out of service"),
        (added("impedance", from_bus=3, to_bus=8), "impedance 0: make it a line"),
        (added("dcline", from_bus=3, to_bus=8), f"dcline 0: {ELEMENT}"),
        (added("ward", bus=56), f"ward 0: {ELEMENT}"),
        (changed("load", 4, "bus", 9), "load 4: there is no bus 9; correct it"),
        (changed("sgen", 1, "bus", 9), "sgen 1: there is no bus 9; correct it"),
        (changed("switch", 4, "bus", 9), "switch 4: there is no bus 9; correct it"),
        (changed("switch", 4, "element", 9), "switch 4: there is no line 9; correct it"),
        (changed("switch", 4, "bus", 7), "switch 4: line 38 does not end at bus 7; correct it"),
        (changed("switch", 4, "et", "x"), "switch 4: et is 'x'; say b (bus-bus) or l (line)"),
        (changed("switch", 4, "closed", np.nan), "switch 4: closed is nan; say True or False"),
        (changed("load", 4, "in_service", "yes"), "load 4: in_service is 'yes'; say True or False"),
        (changed("ext_grid", 4, "vm_pu", 0.0), "ext_grid 4: vm_pu is 0; give the voltage of the substation, such as"),
        (lambda net: net.ext_grid.pop("vm_pu"), "ext_grid: there is no column vm_pu; give a net as pandapower makes"),
        (lambda net: setattr(net, "load", [{"bus": 3}]), "load: is a list; give a table with columns, as pan"),
        (lambda net: setattr(net, "bus", {"vn_kv": [20.0]}), "bus: is a dict; give a table with columns, as pan"),
        (lambda net: setattr(net, "gen", [{"bus": 3}]), "gen: is a list; give a table with columns, as pan"),
        (lambda net: setattr(net, "bus", net.bus.rename(index={99: 3})), "bus 3: stands twice in the index of net.bus"),
        (lambda net: net.bus.__setitem__("in_service", net.bus.index == 1000), "bus: all in service are one node; a"),
        (lambda net: delattr(net, "bus"), "net: there is no table bus; give a net as pandapower makes it"),
        (lambda net: net.line.pop("length_km"), "line: there is no column length_km; give a net as pandapower makes"),
    ],
)  # fmt: skip
def test_what_is_no_feeder_is_refused_by_name(change: Callable[[Any], None], message: str) -> None:
    net, _ = golden("odd")
    change(net)
    with pytest.raises(UsageError) as refusal:
        Feeder.from_pandapower(net)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("not_a_net", ["net.json", None, 3, {}, pd.DataFrame()])
def test_something_else_than_a_net_is_refused(not_a_net: object) -> None:
    with pytest.raises(UsageError, match="net: there is no table bus; give a net as pandapower makes it"):
        Feeder.from_pandapower(not_a_net)


@pytest.mark.parametrize(
    "harmless",
    [
        added("trafo", hv_bus=42, lv_bus=21, in_service=False),
        added("gen", bus=12),  # its bus is out of service
        changed("switch", 5, "z_ohm", np.nan),  # of a line
        changed("load", 5, "const_z_percent", 30.0),  # out of service
        both(changed("switch", 3, "bus", 3), changed("switch", 3, "element", 12)),  # the other way round
        both(changed("switch", 4, "closed", False), changed("line", 38, "c_nf_per_km", 9.0)),  # open at both ends
        lambda net: setattr(net, "controller", pd.DataFrame({"in_service": [True]})),
        lambda net: setattr(net, "measurement", pd.DataFrame({"bus": [3]})),
    ],
)
def test_what_does_not_count_is_not_looked_at(harmless: Callable[[Any], None]) -> None:
    net, _ = golden("odd")
    expected = Feeder.from_pandapower(net)
    harmless(net)
    feeder = Feeder.from_pandapower(net)
    np.testing.assert_array_equal(feeder.r_ohm, expected.r_ohm)
    np.testing.assert_array_equal(feeder.p_kw, expected.p_kw)


@pytest.mark.filterwarnings("ignore")  # pandapower's own
def test_with_pandapower_itself() -> None:
    pandapower = pytest.importorskip("pandapower", reason="pandapower is not installed; the frozen nets are tested")
    from pandapower import networks

    net = networks.case33bw()
    net.line.loc[36, "in_service"] = True  # a tie line instead of the branch that it loops with
    net.line.loc[27, "in_service"] = False
    pandapower.runpp(net, tolerance_mva=1e-10, numba=False)
    feeder = Feeder.from_pandapower(net)
    result = solve_power_flow(feeder, feeder.p_kw, feeder.q_kvar)
    for label, bus in bus_numbers(net).items():
        assert result.v_pu[bus, 0] == pytest.approx(net.res_bus.vm_pu[label], rel=0, abs=1e-8)
