"""A community file builds what it says, and every error is one line with file and field."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from prosumer_gym import community_fields, yaml_file
from prosumer_gym.community import Community, Fleet, Tariff, TradeGraph
from prosumer_gym.community_file import load_community, spread_buses
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import case69, ieee33
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.power_flow import solve_power_flow
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import Simulator
from prosumer_gym.sizes import FLEET_BOUNDS

PROSUMERS = "prosumers: {count: 5}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str) -> Community:
    Path("street.yaml").write_text(text, encoding="utf-8")
    return load_community("street.yaml")


def error(text: str) -> str:
    """The one line that is wrong with a file, without the file's name."""
    with pytest.raises(UsageError) as caught:
        load(text)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("street.yaml: ")
    return line.removeprefix("street.yaml: ")


def same_fleet(one: Fleet, other: Fleet) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Fleet.__dataclass_fields__)


def same_graph(one: TradeGraph, other: TradeGraph) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in TradeGraph.__dataclass_fields__)


# what a file builds ---------------------------------------------------------------------------------------------------


def test_what_is_left_out_has_the_benchmark_s_defaults() -> None:
    community = load("prosumers: {buses: [5, 8, 11, 13, 15, 17, 21, 24, 29, 32]}")
    scenario = make_scenario("ieee33")
    assert community.name == "street"
    assert same_fleet(community.fleet, scenario.fleet)
    assert same_graph(community.graph, scenario.graph)
    assert (community.tariff, community.mechanism, community.hours_per_day) == (Tariff(), "bilateral", 24)
    assert np.array_equal(community.feeder.r_ohm, scenario.feeder.r_ohm)
    assert community.feeder.slack_v_pu == scenario.feeder.slack_v_pu


def test_a_list_of_prosumers_and_a_group_say_the_same() -> None:
    listed = load("prosumers: [{bus: 5, units: 2}, {bus: 8, units: 2, battery: {power_kw: 7}}]")
    grouped = load("prosumers: {buses: [5, 8], units: 2, overrides: {1: {battery: {power_kw: 7}}}}")
    assert same_fleet(listed.fleet, grouped.fleet)
    assert listed.fleet.battery_power_kw.tolist() == [20.0, 7.0]


def fleet_fields(section: type[BaseModel], path: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Fleet field -> path of the file's field."""
    found: dict[str, tuple[str, ...]] = {}
    for name, info in section.model_fields.items():
        if isinstance(info.default, BaseModel):
            found |= fleet_fields(type(info.default), (*path, name))
        elif isinstance(info.json_schema_extra, dict) and "fleet" in info.json_schema_extra:
            found[str(info.json_schema_extra["fleet"])] = (*path, name)
    return found


def test_the_file_reaches_every_field_of_fleet_and_tariff() -> None:
    assert {*fleet_fields(community_fields.Devices), "bus"} == {*Fleet.__dataclass_fields__}
    assert {*community_fields.Prices.model_fields} == {*Tariff.__dataclass_fields__}
    assert community_fields.Prices().model_dump() == vars(Tariff())


@pytest.mark.parametrize("name", [name for name in Fleet.__dataclass_fields__ if name != "bus"])
def test_every_field_of_a_prosumer_arrives_where_it_belongs(name: str) -> None:
    path = fleet_fields(community_fields.Devices)[name]
    values: dict[str, float] = {"units": 3, "soc_min_kwh": 11, "soc_max_kwh": 190, "soc_initial_kwh": 99}
    value = values.get(name, -1.5 if name == "backlog_min_kwh" else 0.5)
    own: Any = value
    for part in reversed(path):
        own = {part: own}
    Path("street.yaml").write_text(yaml.safe_dump({"prosumers": {"buses": [5, 8, 11], "overrides": {1: own}}}))
    fleet = load_community("street.yaml").fleet
    default = Fleet.identical([5, 8, 11])
    for each in Fleet.__dataclass_fields__:
        expected = np.array(getattr(default, each))
        if each == name:
            expected[1] = value
        assert np.array_equal(getattr(fleet, each), expected), each


def test_an_override_keeps_the_rest_of_the_group() -> None:
    community = load(
        "prosumers:\n"
        "  count: 3\n"
        "  power_factor: 0.9\n"
        "  battery: {power_kw: 8, soc_max_kwh: 120}\n"
        "  overrides:\n"
        "    1: {battery: {soc_max_kwh: 150}, pv_ratio: 2}\n"
        "    2: {bus: 7}\n"
    )
    assert community.fleet.battery_power_kw.tolist() == [8, 8, 8]
    assert community.fleet.soc_max_kwh.tolist() == [120, 150, 120]
    assert community.fleet.pv_ratio.tolist() == [1, 2, 1]
    assert community.fleet.power_factor.tolist() == [0.9] * 3
    assert community.fleet.bus.tolist() == [*spread_buses(3, 33)[:2], 7]


def test_the_other_fields() -> None:
    community = load(
        "name: Elm-St.2\nfeeder: case69\nslack_v_pu: 1.02\nv_min_pu: 0.94\nv_max_pu: 1.06\n"
        "mechanism: double-auction\nhours_per_day: 48\ntariff: {da_sell_ratio: 0.5, demand_charge_ct_per_kw: 0}\n"
        "prosumers: {buses: [4, 4, 68]}\ntrade: {limit_kw: 7, fee_ct_per_kwh: 0.1}\n"
    )
    feeder = community.feeder
    assert community.name == "Elm-St.2"
    assert (feeder.name, feeder.num_buses) == ("case69", 69)
    assert (feeder.slack_v_pu, feeder.v_min_pu, feeder.v_max_pu) == (1.02, 0.94, 1.06)
    assert np.array_equal(feeder.x_ohm, case69().x_ohm)
    assert (community.mechanism, community.hours_per_day) == ("double-auction", 48)
    assert community.tariff == Tariff(da_sell_ratio=0.5, demand_charge_ct_per_kw=0.0)
    assert community.fleet.bus.tolist() == [4, 4, 68]
    assert same_graph(community.graph, TradeGraph.ring_with_chords(3, limit_kw=7.0, fee_ct_per_kwh=0.1))


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_can_be_named(name: str) -> None:
    assert load(f"{PROSUMERS}mechanism: {name}").market is MECHANISMS[name]


@pytest.mark.parametrize(
    ("trade", "edges"),
    [
        ("graph: none", []),
        ("graph: star", [(0, 1), (0, 2), (0, 3), (0, 4)]),
        ("graph: complete", [(i, j) for i in range(5) for j in range(i + 1, 5)]),
        ("graph: ring-with-chords", [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4)]),
        ("edges: []", []),
        ("edges: [[3, 1], {between: [0, 4]}]", [(1, 3), (0, 4)]),
    ],
)
def test_trade_graphs(trade: str, edges: list[tuple[int, int]]) -> None:
    graph = load(f"{PROSUMERS}trade: {{{trade}, limit_kw: 6, fee_ct_per_kwh: 0.3}}").graph
    assert list(zip(graph.first.tolist(), graph.second.tolist(), strict=True)) == edges
    assert graph.limit_kw.tolist() == [6.0] * len(edges)
    assert graph.fee_ct_per_kwh.tolist() == [0.3] * len(edges)


def test_an_edge_may_have_its_own_limit_and_fee() -> None:
    graph = load(f"{PROSUMERS}trade: {{edges: [[0, 1], {{between: [2, 1], limit_kw: 0, fee_ct_per_kwh: 0}}]}}").graph
    assert graph.limit_kw.tolist() == [5.0, 0.0]
    assert graph.fee_ct_per_kwh.tolist() == [0.2, 0.0]


@pytest.mark.parametrize("text", ["1e1", "10", "10.0", "1.e+1", "+1E1", "0.1e2"])
def test_numbers_may_be_written_as_people_do(text: str) -> None:
    assert load(f"prosumers: {{count: 1, battery: {{power_kw: {text}}}}}").fleet.battery_power_kw[0] == 10.0


def test_prosumers_may_be_repeated_by_anchors() -> None:
    text = "prosumers:\n  - &home {bus: 3, power_factor: 0.9, battery: {power_kw: 4}}\n  - {<<: *home, bus: 4}\n"
    fleet = load(text).fleet
    assert (fleet.bus.tolist(), fleet.battery_power_kw.tolist()) == ([3, 4], [4.0, 4.0])


# placement and number -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buses", [2, 3, 33, 141])
@pytest.mark.parametrize("num", [1, 2, 3, 10, 32, 33, 64, 65, 1000])
def test_spread_is_even_and_stays_in_the_feeder(num: int, buses: int) -> None:
    placed = spread_buses(num, buses)
    assert len(placed) == num
    assert placed == sorted(placed)
    counts = np.bincount(placed, minlength=buses)
    assert (len(counts), counts[0]) == (buses, 0)
    assert np.ptp(counts[1:]) <= 1
    gaps = np.diff(
        [0.5, *(n for n in placed), buses - 0.5]
    )  # to either end of the feeder at most as far as between two
    assert gaps.max() <= (buses - 1) / num + 1.0
    mirrored = [buses - n for n in reversed(placed)]
    assert np.abs(np.array(mirrored) - placed).max() <= 1


@pytest.mark.parametrize("num", [1, 2, 3, 1000])
def test_communities_of_every_size_play(num: int) -> None:
    community = load(f"feeder: case69\nprosumers: {{count: {num}, battery: {{power_kw: 1}}}}\ntrade: {{limit_kw: 1}}")
    assert (community.num_prosumers, community.num_edges) == (num, {1: 0, 2: 1, 3: 3, 1000: 1500}[num])
    load_kw = np.full((1, 24, num), 100.0 / num)
    price = np.full((1, 24), 10.0)
    exogenous = Exogenous(load_kw, 0.5 * load_kw, 0.1 * load_kw, price, price, np.full((1, 24), 0.3))
    simulator = Simulator(community, exogenous, 2)
    simulator.reset(np.zeros(2, dtype=np.int64))
    simulator.commit(np.zeros((num, 24, 2)))
    idle = np.zeros((num, 2))
    for _ in range(24):
        result = simulator.step(idle, np.full((num, 2), 10.0 / num), idle, np.zeros((community.num_offers, 2)))
        assert result.converged.all()
        assert np.allclose(result.net_import_kw.sum(axis=0), 60.0)
    assert result.done.all()


# feeders of the user's own --------------------------------------------------------------------------------------------

FEEDER = "feeder: {branches: lines.csv, buses: buses.csv, base_kv: 12.66}\n"


def write_tables(feeder: Feeder) -> None:
    Path("lines.csv").write_text(
        "from_bus,to_bus,r_ohm,x_ohm,comment\n"
        + "".join(
            f"{a},{b},{r!r},{x!r},line\n"
            for a, b, r, x in zip(
                feeder.from_bus.tolist(), feeder.to_bus.tolist(), feeder.r_ohm.tolist(), feeder.x_ohm.tolist(),
                strict=True,
            )
        )
    )  # fmt: skip
    rows = [
        f"{k},{p!r},{q!r}\n" for k, (p, q) in enumerate(zip(feeder.p_kw.tolist(), feeder.q_kvar.tolist(), strict=True))
    ]
    Path("buses.csv").write_text("bus, p_kw, q_kvar\n" + "".join(reversed(rows)))


def test_a_feeder_from_tables_flows_as_the_built_in_one() -> None:
    write_tables(ieee33())
    feeder = load(f"{FEEDER}{PROSUMERS}slack_v_pu: 1.01").feeder
    there = ieee33().replace(slack_v_pu=1.01)
    loads = (there.p_kw[:, None], there.q_kvar[:, None])
    assert np.array_equal(solve_power_flow(feeder, *loads).v_pu, solve_power_flow(there, *loads).v_pu)
    assert np.array_equal(feeder.p_kw, there.p_kw)
    assert np.array_equal(feeder.q_kvar, there.q_kvar)
    assert (feeder.name, feeder.base_kv) == ("lines", 12.66)


def test_tables_are_looked_for_beside_the_file() -> None:
    write_tables(ieee33())
    for name in ("lines.csv", "buses.csv"):
        Path("there").mkdir(exist_ok=True)
        Path(name).rename(Path("there") / name)
    Path("there/street.yaml").write_text(FEEDER + PROSUMERS)
    assert make_scenario("there/street.yaml").feeder.num_buses == 33


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("lines.csv", "0,1,0.0922", "0,1,much", "feeder.branches: lines.csv: row 2: column r_ohm: 'much' is no number"),
        ("lines.csv", "0,1,0.0922", "0,1,", "feeder.branches: lines.csv: row 2: column r_ohm: '' is no number"),
        ("lines.csv", "x_ohm", "x", "feeder.branches: lines.csv: has no column x_ohm; its header has to name from_bus"),
        ("lines.csv", "0,1,0.0922", "0,1,-1", "feeder: branch 0 (bus 0 - bus 1): resistance -1.0 ohm is negative"),
        ("lines.csv", "0,1,0.0922", "0,40,0.1", "feeder: branch 0 (bus 0 - bus 40): there is no bus 40"),
        ("buses.csv", "0,0.0", "33,0.0", "feeder.buses: buses.csv: column bus: 1 stands where 0 should; number the 33"),
        ("buses.csv", "7,200.0", "8,200.0", "feeder.buses: buses.csv: column bus: 8 stands where 7 should; number the"),
    ],
)  # fmt: skip
def test_errors_of_tables_name_file_row_and_column(name: str, old: str, new: str, says: str) -> None:
    write_tables(ieee33())
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new, 1))
    assert error(FEEDER + PROSUMERS).startswith(says)


def test_tables_that_are_missing_or_empty() -> None:
    assert error(FEEDER + PROSUMERS) == "feeder.branches: lines.csv: cannot be read (No such file or directory)"
    write_tables(ieee33())
    Path("buses.csv").write_text("bus,p_kw,q_kvar\n")
    assert error(FEEDER + PROSUMERS) == "feeder.buses: buses.csv: has no rows below its header bus,p_kw,q_kvar"


# errors in the user's own terms ---------------------------------------------------------------------------------------

THREE = "prosumers: [{bus: 5}, {bus: 8}, {bus: 9, battery: {%s}}]"
EDGES = "prosumers: {count: 5}\ntrade: {edges: [[0, 1], [1, 2], [2, 3], %s]}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (THREE % "power_kw: -5", "prosumers[2].battery.power_kw: -5 must not be negative"),
        (THREE % "power_kw: much", "prosumers[2].battery.power_kw: 'much' is no number"),
        (THREE % "power_kw: '5'", "prosumers[2].battery.power_kw: '5' is no number"),
        (THREE % "power_kw: true", "prosumers[2].battery.power_kw: true is no number"),
        (THREE % "power_kw: .nan", "prosumers[2].battery.power_kw: nan is not finite"),
        (THREE % "power_kw: ", "prosumers[2].battery.power_kw: has no value; give one, or leave the line out"),
        (THREE % "powr_kw: 5", "prosumers[2].battery.powr_kw: is no field; did you mean 'power_kw'?"),
        (THREE % "charge_efficiency: 0", "prosumers[2].battery.charge_efficiency: 0 must be above 0"),
        (THREE % "charge_efficiency: 1.5", "prosumers[2].battery.charge_efficiency: 1.5 must not exceed 1"),
        (
            THREE % "soc_max_kwh: 50",
            "prosumers[2].battery.soc_initial_kwh: 100 (the default) lies outside soc_min_kwh 10 (the default) ... "
            "soc_max_kwh 50",
        ),
        (THREE % "soc_max_kwh: 5", "prosumers[2].battery.soc_max_kwh: 5 is below soc_min_kwh, 10 (the default)"),
        (THREE % "power_kw: 1:30", "prosumers[2].battery.power_kw: '1:30' is no number"),
        (THREE % "power_kw: 1_000", "prosumers[2].battery.power_kw: '1_000' is no number"),
        (THREE % "power_kw: 2019-07-15", "prosumers[2].battery.power_kw: '2019-07-15' is no number"),
        (THREE % "power_kw: 1e30", "prosumers[2].battery.power_kw: 1e+30 must not exceed 10000; is it in W or Wh?"),
        ("prosumers: {count: 2, overrides: {1: {count: 0}}}",
         "prosumers.overrides.1.count: is no field; the fields here are units, pv_ratio, battery, shiftable, "
         "position_limit_kw, connection_limit_kw, power_factor, bus"),
        ("prosumers: [{bus: 40}]", "prosumers[0].bus: 40 is not in the feeder (buses 1 ... 32)"),
        ("prosumers: [{bus: 0}]", "prosumers[0].bus: 0 is the substation (buses 1 ... 32)"),
        ("prosumers: [{bus: 2.5}]", "prosumers[0].bus: 2.5 is no whole number"),
        ("prosumers: [{bus: 3, units: 0}]", "prosumers[0].units: 0 must be 1 or more"),
        ("prosumers: [{bus: 3, shiftable: {backlog_min_kwh: 3}}]",
         "prosumers[0].shiftable.backlog_min_kwh: 3 must not be positive"),
        ("prosumers: [{units: 3}]", "prosumers[0].bus: is missing; give it"),
        ("prosumers: []", "prosumers: is empty; at least one is needed"),
        ("prosumers: 5", "prosumers: 5 holds no fields"),
        ("prosumers:", "prosumers: has no value; give one, or leave the line out"),
        ("feeder: ieee33", "prosumers: is missing; give it"),
        ("prosumers: {}", "prosumers.count: is missing; say how many there are, or list their buses"),
        ("prosumers: {count: 0}", "prosumers.count: 0 must be 1 or more"),
        ("prosumers: {count: 1001}", "prosumers.count: 1001 must not exceed 1000"),
        ("prosumers: {buses: []}", "prosumers.buses: is empty; give a bus for each prosumer, or say spread"),
        ("prosumers: {count: 2, buses: [1, 2, 3]}",
         "prosumers.buses: 3 buses for 2 prosumers; give one for each, or say spread"),
        ("prosumers: {buses: [1, 2, 33]}", "prosumers.buses[2]: 33 is not in the feeder (buses 1 ... 32)"),
        ("prosumers: {count: 1, buses: spred}",
         "prosumers.buses: 'spred' is not known; choose one of: spread, or a list with the bus of each"),
        ("prosumers: {count: 2, overrides: {2: {}}}",
         "prosumers.overrides.2: there is no such prosumer; they are numbered 0 ... 1"),
        ("prosumers: {count: 2, overrides: {-1: {}}}",
         "prosumers.overrides.-1: there is no such prosumer; they are numbered 0 ... 1"),
        ("prosumers: {count: 2, overrides: {a: {}}}", "prosumers.overrides.a: 'a' is no whole number"),
        ("prosumers: {count: 2, overrides: {1: {bus: 77}}}",
         "prosumers.overrides.1.bus: 77 is not in the feeder (buses 1 ... 32)"),
        ("prosumers: {count: 2, overrides: {1: {battery: {powerkw: 7}}}}",
         "prosumers.overrides.1.battery.powerkw: is no field; did you mean 'power_kw'?"),
        ("prosumers: {count: 2, battery: {soc_max_kwh: 99}}",
         "prosumers.battery.soc_initial_kwh: 100 (the default) lies outside soc_min_kwh 10 (the default) ... "
         "soc_max_kwh 99"),
        ("prosumers: {count: 2, overrides: {1: {battery: {soc_max_kwh: 99}}}}",
         "prosumers.overrides.1.battery.soc_initial_kwh: 100 (the default) lies outside soc_min_kwh 10 (the default) "
         "... soc_max_kwh 99"),
        (f"{PROSUMERS}mechanism: vickrey",
         "mechanism: 'vickrey' is not known; choose one of: bilateral, mid-market-rate, supply-demand-ratio, "
         "double-auction"),
        (f"{PROSUMERS}mechansim: bilateral", "mechansim: is no field; did you mean 'mechanism'?"),
        (f"{PROSUMERS}weather: fine",
         "weather: is no field; the fields here are name, feeder, slack_v_pu, v_min_pu, v_max_pu, mechanism, "
         "hours_per_day, tariff, prosumers, trade"),
        (f"{PROSUMERS}feeder: ieee34", "feeder: 'ieee34' is not known; choose one of: ieee33, case69, case141"),
        (f"{PROSUMERS}feeder: 33", "feeder: 33 is no text"),
        (f"{PROSUMERS}feeder: {{branches: a.csv, base_kv: 0}}", "feeder.buses: is missing; give it"),
        (f"{PROSUMERS}feeder: {{branches: a.csv, buses: b.csv, base_kv: 0}}", "feeder.base_kv: 0 must be above 0"),
        (f"{PROSUMERS}v_min_pu: 1.4", "v_min_pu 1.4 is not below v_max_pu 1.05; swap or widen them"),
        (f"{PROSUMERS}hours_per_day: 24.0", "hours_per_day: 24.0 is no whole number"),
        (f"{PROSUMERS}tariff: {{da_sell_ratio: 1.4}}", "tariff.da_sell_ratio: 1.4 must not exceed 1"),
        (f"{PROSUMERS}tariff: {{demand_charge_ct_per_kw: -1}}",
         "tariff.demand_charge_ct_per_kw: -1 must not be negative"),
        (f"{PROSUMERS}name: 5", "name: 5 is no text"),
        (f"{PROSUMERS}name: ../up", "name: '../up': use letters, digits, dots, dashes and underscores, 64 at most"),
        (f"{PROSUMERS}name: ''", "name: '': use letters, digits, dots, dashes and underscores, 64 at most"),
        (f"{PROSUMERS}trade: {{graph: ring}}",
         "trade.graph: 'ring' is not known; choose one of: ring-with-chords, complete, star, none"),
        (f"{PROSUMERS}trade: {{graph: star, edges: []}}", "trade: give a graph or edges, not both"),
        (EDGES % "[4, 4]", "trade.edges[3]: prosumer 4 cannot trade with itself"),
        (EDGES % "[1, 5]", "trade.edges[3]: there is no prosumer 5; they are numbered 0 ... 4"),
        (EDGES % "[-1, 2]", "trade.edges[3]: there is no prosumer -1; they are numbered 0 ... 4"),
        (EDGES % "[2, 1]", "trade.edges[3]: prosumers 1 and 2 have an edge already, trade.edges[1]"),
        (EDGES % "[3]", "trade.edges[3].between: [3] does not name two prosumers, such as [0, 1]"),
        (EDGES % "[1, 2, 3]", "trade.edges[3].between: [1, 2, 3] does not name two prosumers, such as [0, 1]"),
        (EDGES % "[3, b]", "trade.edges[3].between[1]: 'b' is no whole number"),
        (EDGES % "7", "trade.edges[3]: 7 holds no fields"),
        (EDGES % "{between: [3, 4], limit: 3}", "trade.edges[3].limit: is no field; did you mean 'limit_kw'?"),
        (EDGES % "{between: [3, 4], limit_kw: -3}", "trade.edges[3].limit_kw: -3 must not be negative"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_with_the_field_as_it_stands_in_the_file(text: str, says: str) -> None:
    assert error(text) == says


def test_a_long_value_is_cut() -> None:
    assert error(f"{PROSUMERS}feeder: [{', '.join('a' * 9 for _ in range(99))}]").endswith("... is no text")


def test_every_value_and_name_is_cut() -> None:
    for text in ("name: %s", "feeder: %s", "mechanism: %s", "%s: 1", "feeder: {%s: 1}", "weather: 1\n%s: 2\n%s: 3"):
        assert len(error(f"{PROSUMERS}{text.replace('%s', 'a' * 500)}")) < 200, text


@pytest.mark.parametrize("name", FLEET_BOUNDS)
def test_the_bounds_of_the_environments_are_those_of_a_file(name: str) -> None:
    kind, _, rest = name.partition("_")
    field = {"battery": f"battery.{rest}", "shiftable": f"shiftable.{rest}", "soc": f"battery.{name}"}.get(kind, name)
    field = f"shiftable.{name}" if kind == "backlog" else field
    section, _, key = field.rpartition(".")
    for beyond in (1.0, 1.001):
        given = {key: FLEET_BOUNDS[name] * beyond} | ({"soc_initial_kwh": 50.0} if key == "soc_max_kwh" else {})
        text = json.dumps({"prosumers": {"count": 1, **({section: given} if section else given)}})
        if beyond == 1.0:
            assert getattr(load(text).fleet, name).tolist() == [FLEET_BOUNDS[name]]
        else:
            assert error(text).endswith("; is it in W or Wh?")


def test_a_list_of_a_thousand_is_the_most() -> None:
    assert load("prosumers: [" + "{bus: 1}," * 1000 + "]").num_prosumers == 1000
    assert error("prosumers: [" + "{bus: 1}," * 1001 + "]") == "prosumers: more than 1000"


# YAML from strangers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("street", "holds no fields; begin with lines such as 'feeder: ieee33' and 'prosumers:'"),
        ("- bus: 1", "holds no fields; begin with lines such as 'feeder: ieee33' and 'prosumers:'"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "line 2, column 1: expected a single document in the stream, but found another document"),
        ("name: a\nfeeder: ieee33\nname: b\n", "line 3: 'name' stands twice (first in line 1)"),
        ("prosumers:\n  battery: {power_kw: 1, power_kw: 2}", "line 2: 'power_kw' stands twice (first in line 2)"),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4: could not determine a constructor for the tag"),
        ("? [1]\n: 2", "line 1, column 3: while constructing a mapping, found unhashable key"),
        ("a: &a [*a]", "line 1: refers to itself"),
        ("prosumers: {count: 010}", "line 1: 010 begins with 0; leave it out, or quote a text"),
        ("prosumers:\n\tcount: 3", "found character '\\t' that cannot start any token; indent with spaces"),
        ("a: !!python/name:os.system", "python/name:os.system'; write plain values, without ! before them"),
        ("a: " + "9" * 5000, "a value cannot be read (Exceeds the limit"),
        ("[" * 40 + "]" * 40, "line 1: is nested more than 30 levels deep"),
        ("[" * 50_000, "is nested more than 30 levels deep"),
        ("a: \x07", "special characters are not allowed"),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_is_refused_by_line(text: str, says: str) -> None:
    assert says in error(text)


def test_a_few_aliases_do_not_become_a_million_values() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    start = time.perf_counter()
    assert error("\n".join(lines)).endswith("holds more than 200000 values, aliases written out")
    assert time.perf_counter() - start < 2.0


def test_files_that_are_too_large_missing_or_no_text() -> None:
    assert error("#" * 1_000_001) == "has 1.0 MB; 1 MB is the most that is read"
    Path("street.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UsageError, match=r"^street.yaml: is not text in UTF-8 \(byte 6\); save it as UTF-8$"):
        load_community("street.yaml")
    with pytest.raises(UsageError, match=r"^none.yaml: cannot be read \(No such file or directory\)$"):
        load_community("none.yaml")
    Path("folder.yaml").mkdir()
    with pytest.raises(UsageError, match=r"^folder.yaml: is not a file$"):
        load_community("folder.yaml")


def test_a_file_of_a_thousand_explicit_prosumers_is_within_the_limits() -> None:
    one = {"bus": 3, "battery": {"power_kw": 1.5, "soc_min_kwh": 1.0, "soc_max_kwh": 9.0, "soc_initial_kwh": 4.0}}
    text = "".join(f"- {json.dumps(one)}\n" for _ in range(1000))
    text = "prosumers:\n" + text
    assert len(text) < yaml_file.MAX_BYTES
    assert load(text).num_prosumers == 1000


# where a scenario is named --------------------------------------------------------------------------------------------


def test_a_file_is_a_scenario() -> None:
    for name in ("street.yaml", "street.yml"):
        Path(name).write_text(PROSUMERS)
        assert make_scenario(name).num_prosumers == 5
    for name in ("my.txt", "towns/street", "towns.d"):
        with pytest.raises(UsageError, match=rf"^scenario {name}: a community file ends in \.yaml or \.yml"):
            make_scenario(name)
    with pytest.raises(UsageError, match=r"choose one of: .*ieee33.*, or name a \.yaml file"):
        make_scenario("street")


def test_the_world_comes_without_yaml_and_pydantic() -> None:
    program = (
        "import sys\nfrom prosumer_gym.scenarios import make_scenario\nmake_scenario('ieee33')\n"
        "assert not {'yaml', 'pydantic', 'prosumer_gym.community_file'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
