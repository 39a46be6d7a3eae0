"""`prosumer-gym community`: begin a community file, look at a community, list the fields of a file.

`python -m prosumer_gym.cli_community docs/community.md` writes the table of that page anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prosumer_gym.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from prosumer_gym.arrays import FloatArray
    from prosumer_gym.community import Community

app = typer.Typer(no_args_is_help=True, help="Communities of your own: new, show, fields.")

TEMPLATE = """\
# A community of prosumers on a feeder. Names of fields carry their units; what is left out has the default that
# stands here. All fields: prosumer-gym community fields. Look at the result: prosumer-gym community show {file}

name: {name}                  # in tables and records; that of the file if left out
feeder: ieee33                  # ieee33, case69, case141, or tables of your own:
# feeder:
#   branches: branches.csv      # columns from_bus, to_bus, r_ohm, x_ohm; files beside this one
#   buses: buses.csv            # columns bus, p_kw, q_kvar (nominal load); bus 0 is the substation
#   base_kv: 12.66
#   base_mva: 1.0
# slack_v_pu: 1.0               # voltage of the substation and limits; the feeder's if left out
# v_min_pu: 0.95
# v_max_pu: 1.05
mechanism: bilateral            # or mid-market-rate, supply-demand-ratio, double-auction
# hours_per_day: 24             # that of the data set

prosumers:                      # alike, but for what stands under overrides
  count: 10                     # the data set must have as many: prosumer-gym data resize
  buses: spread                 # evenly over the feeder; or the bus of each: [5, 8, 11, ...]
  pv_ratio: 1.0                 # installed PV as a multiple of the data set's
  battery:
    power_kw: 20
    soc_min_kwh: 10
    soc_max_kwh: 200
    soc_initial_kwh: 100
    charge_efficiency: 0.9
    discharge_efficiency: 0.9
    wear_quadratic_ct_per_kw2h: 0.02
    wear_linear_ct_per_kwh: 1.0
  shiftable:
    power_kw: 20
    backlog_min_kwh: -200       # most that may be put off
    backlog_max_kwh: 200        # most that may be run ahead
    discomfort_quadratic_ct_per_kwh2h: 0.01
    discomfort_linear_ct_per_kwhh: 0
  position_limit_kw: 50         # day-ahead purchase or sale
  connection_limit_kw: 50       # exceeding it is counted, not prevented
  power_factor: 0.95            # of the consumption
  units: 1                      # identical units at the bus
  overrides:                    # by number, from 0
    3: {{battery: {{power_kw: 0}}}}            # no battery
    7: {{bus: 17, pv_ratio: 1.5}}            # at the end of the feeder, with more PV

# Or one by one:
# prosumers:
#   - {{bus: 5, battery: {{power_kw: 10}}}}
#   - {{bus: 8}}

trade:
  graph: ring-with-chords       # or complete, star (everyone with prosumer 0), none; or instead of a graph:
  # edges:
  #   - [0, 1]
  #   - {{between: [1, 2], limit_kw: 10, fee_ct_per_kwh: 0}}
  limit_kw: 5
  fee_ct_per_kwh: 0.2           # network fee, half from each side

# tariff:                       # from market prices to what a prosumer pays
#   da_sell_ratio: 0.4          # a day-ahead sale earns this share of the price
#   rt_sell_ratio: 0.6
#   rt_buy_margin_ct_per_kwh: 1.0
#   rt_sell_margin_ct_per_kwh: 0.5
#   demand_charge_ct_per_kw: 20 # a day, on each prosumer's own peak
#   terminal_shortfall_factor: 1.5
"""


@app.command("new")
def new_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it goes, such as street.yaml.")],
) -> None:
    """Write a community file to begin with."""
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{file}: let the name end in .yaml, by which a community file is known")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._") or "street"
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(TEMPLATE.format(name=name, file=file))
    except FileExistsError:
        raise UsageError(f"{file}: is there already; choose another name") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be written ({error.strerror}); choose another place") from None
    typer.echo(f"{file}: change it, look at it with prosumer-gym community show {file},")
    typer.echo(f"and name it wherever a scenario is named: prosumer-gym bench --scenario {file}")


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A scenario of the package, or a community file.")],
) -> None:
    """Check a community and print what it is."""
    from prosumer_gym.scenarios import make_scenario

    community = make_scenario(name)
    console = Console()
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, text in (*_what_it_is(community), *_what_the_feeder_holds(community)):
        table.add_row(f"[bold]{label}[/bold]", text)
    console.print(table)
    console.print()
    console.print(_sizes(community))


def _what_it_is(community: Community) -> Iterator[tuple[str, str]]:
    from prosumer_gym.community import Tariff

    feeder, fleet, graph = community.feeder, community.fleet, community.graph
    buses = np.unique(fleet.bus)
    yield "community", community.name
    yield (
        "feeder",
        f"{escape(feeder.name) or 'of its own'}: {feeder.num_buses} buses, {feeder.base_kv:g} kV, nominal load "
        f"{feeder.p_kw.sum():.0f} kW + j{feeder.q_kvar.sum():.0f} kvar",
    )
    yield (
        "voltage",
        f"{feeder.slack_v_pu:g} p.u. at the substation, limits {feeder.v_min_pu:g} ... {feeder.v_max_pu:g} p.u.",
    )
    at = " ".join(map(str, buses)) if len(buses) <= 20 else f"{buses[0]} ... {buses[-1]}"
    yield (
        "prosumers",
        f"N = {len(fleet)} on {len(buses)} " + (f"buses: {at}" if len(buses) > 1 else f"bus: {at}"),
    )
    limits = f", {_span(graph.limit_kw)} kW each, fee {_span(graph.fee_ct_per_kwh)} ct/kWh" if len(graph) else ""
    yield "trade", f"E = {len(graph)} edges{limits}"
    yield (
        "mechanism",
        f"{community.mechanism}: {community.market.summary} (M = {community.num_offers} numbers an hour)",
    )
    yield "day", f"H = {community.hours_per_day} time slots"
    own = [f"{key} {value:g}" for key, value in vars(community.tariff).items() if value != getattr(Tariff(), key)]
    yield "tariff", ", ".join(own) if own else "the default"


def _what_the_feeder_holds(community: Community) -> Iterator[tuple[str, str]]:
    """Voltages at the evening peak of the passive load, without the prosumers and with all of them at their limit."""
    from prosumer_gym.power_flow import solve_power_flow
    from prosumer_gym.scenarios import passive_profile

    feeder, fleet = community.feeder, community.fleet
    passive = float(passive_profile(24).max())
    connected_kw = fleet.units * fleet.connection_limit_kw
    tangent = np.tan(np.arccos(fleet.power_factor))
    p_kw, q_kvar = (np.tile(passive * nominal[:, None], 2) for nominal in (feeder.p_kw, feeder.q_kvar))  # [K,2]
    np.add.at(p_kw[:, 1], fleet.bus, connected_kw)
    np.add.at(q_kvar[:, 1], fleet.bus, connected_kw * tangent)
    flow = solve_power_flow(feeder, p_kw, q_kvar)
    for case, label, told in (
        (0, "lowest voltage", "at the evening peak of the rest of the feeder"),
        (1, "", f"with every prosumer at its connection limit too, {connected_kw.sum():.0f} kW together"),
    ):
        v_pu = flow.v_pu[:, case]
        where = (
            f"{v_pu.min():.3f} p.u. at bus {np.argmin(v_pu)} {told} ({(v_pu < feeder.v_min_pu).sum()} buses too low)"
        )
        yield label, where if flow.converged[case] else f"none {told}: [red]more than the feeder can carry[/red]"


def _sizes(community: Community) -> Table:
    fleet = community.fleet
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("sizes")
    table.add_column("each prosumer", justify="right")
    table.add_column("together", justify="right")
    rows: tuple[tuple[str, FloatArray, bool], ...] = (
        ("battery, kW", fleet.battery_power_kw, True),
        ("battery, usable kWh", fleet.soc_max_kwh - fleet.soc_min_kwh, True),
        ("battery, kWh at the start", fleet.soc_initial_kwh, True),
        ("battery, efficiency of a round trip", fleet.charge_efficiency * fleet.discharge_efficiency, False),
        ("shiftable load, kW", fleet.shiftable_power_kw, True),
        ("PV, multiple of the data set's", fleet.pv_ratio, False),
        ("day-ahead position, kW", fleet.position_limit_kw, True),
        ("connection, kW", fleet.connection_limit_kw, True),
        ("offers in a pool, kW", community.pool_limit_kw, True),
        ("units at the bus", fleet.units.astype(np.float64), True),
    )
    for label, values, adds_up in rows:
        table.add_row(label, _span(values), f"{values.sum():.10g}" if adds_up else "")
    return table


def _span(values: FloatArray) -> str:
    """One number where all are equal, else the least and the most."""
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} ... {high:g}"


# the fields of a file -------------------------------------------------------------------------------------------------


class FieldRow(NamedTuple):
    """One field of a community file."""

    path: str
    unit: str
    default: str
    what: str


@app.command("fields")
def fields_command() -> None:
    """List the fields of a community file: unit, default, meaning."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("field", "unit", "default", "what it is"):
        table.add_column(heading)
    section = ""
    for row in field_rows():
        here, _, name = row.path.rpartition(".")
        if here != section:
            table.add_row(f"[bold]{escape(here)}[/bold]")
        section = here
        table.add_row(f"  {name}" if here else name, row.unit, row.default, row.what.replace("`", ""))
    Console().print(table)


def field_rows() -> list[FieldRow]:
    """Every field of a community file, in the order of its sections."""
    from prosumer_gym import community_fields as of

    return [
        *_rows(of.CommunityFile, "", skip=("tariff", "prosumers", "trade")),
        *_rows(of.FeederTable, "feeder."),
        *_rows(of.Group, "prosumers.", only=("count", "buses", "overrides")),
        *_rows(of.Prosumer, "prosumers[].", only=("bus",)),
        *_rows(of.Devices, "prosumers."),
        *_rows(of.Trade, "trade."),
        *_rows(of.Edge, "trade.edges[]."),
        *_rows(of.Prices, "tariff."),
    ]


def _rows(
    section: type[BaseModel], prefix: str, *, skip: tuple[str, ...] = (), only: tuple[str, ...] = ()
) -> Iterator[FieldRow]:
    from pydantic import BaseModel

    for name, info in section.model_fields.items():
        if name in skip or (only and name not in only):
            continue
        default = None if info.is_required() else info.default
        if isinstance(default, BaseModel):
            yield from _rows(type(default), f"{prefix}{name}.")
            continue
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        told = "required" if info.is_required() else "" if default in (None, {}) else f"{default}"
        yield FieldRow(f"{prefix}{name}", str(extra.get("unit", "")), told, info.description or "")


def filled(text: str) -> str:
    """`text` with the table of fields between its marks written anew. Raises `UsageError` where the marks are not."""
    rows = [("field", "unit", "default", "what it is"), ("---",) * 4]
    rows += [(f"`{row.path}`", row.unit, row.default, row.what) for row in field_rows()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    new, count = re.subn(
        r"(<!-- table: fields -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}\n{table}\n\n{m[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise UsageError(f"the text marks the table of fields {count} times, it has to once")
    return new


if __name__ == "__main__":
    for page in sys.argv[1:]:
        Path(page).write_text(filled(Path(page).read_text(encoding="utf-8")), encoding="utf-8")
