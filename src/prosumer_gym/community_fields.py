"""What a community file may say: every field with its unit, default and range. How it is read is in `community_file`.

Defaults are those of `Fleet.identical`, `Tariff` and `TradeGraph.ring_with_chords`, taken from there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from prosumer_gym.community import Fleet, Tariff, TradeGraph
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import case69, case141, ieee33
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.sizes import FLEET_BOUNDS, MAX_PROSUMERS
from prosumer_gym.yaml_file import shown

FEEDERS: dict[str, Callable[[], Feeder]] = {"ieee33": ieee33, "case69": case69, "case141": case141}
"""Feeders that a file may name."""

_FLEET, _TARIFF = Fleet.identical([1]), Tariff()
_EDGE = TradeGraph.ring_with_chords(2)


def _field(default: object, unit: str, what: str, **limits: Any) -> Any:
    return Field(default, description=what, json_schema_extra={"unit": unit}, **limits)


def _unit(fleet: str, unit: str, what: str, **limits: Any) -> Any:
    """A field that fills `Fleet.<fleet>`, with the default found there."""
    default = getattr(_FLEET, fleet)[0].item()
    if fleet in FLEET_BOUNDS:
        bound = FLEET_BOUNDS[fleet]
        limits["le" if bound > 0.0 else "ge"] = bound
    return Field(default, description=what, json_schema_extra={"unit": unit, "fleet": fleet}, **limits)


def _tariff(name: str, unit: str, what: str, **limits: Any) -> Any:
    return _field(getattr(_TARIFF, name), unit, what, ge=0.0, **limits)


class Section(BaseModel):
    """A group of named fields. A name that is none is refused, with the one that was perhaps meant."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: object) -> object:
        if isinstance(given, dict):
            for name in given:
                if name not in cls.model_fields:
                    near = difflib.get_close_matches(str(name), cls.model_fields, 1, cutoff=0.7)
                    advice = (
                        f"did you mean {near[0]!r}?" if near else f"the fields here are {', '.join(cls.model_fields)}"
                    )
                    raise PydanticCustomError(
                        "no_field", "{message}", {"name": str(name), "message": f"is no field; {advice}"}
                    )
        return given


class Battery(Section):
    """The battery of a prosumer. Power is at its AC terminals, the state of charge the usable one."""

    power_kw: float = _unit("battery_power_kw", "kW", "largest charging or discharging power; 0: no battery", ge=0)
    soc_min_kwh: float = _unit("soc_min_kwh", "kWh", "lowest state of charge", ge=0)
    soc_max_kwh: float = _unit("soc_max_kwh", "kWh", "highest state of charge", ge=0)
    soc_initial_kwh: float = _unit("soc_initial_kwh", "kWh", "state of charge when an episode begins", ge=0)
    charge_efficiency: float = _unit("charge_efficiency", "1", "of charging", gt=0, le=1)
    discharge_efficiency: float = _unit("discharge_efficiency", "1", "of discharging", gt=0, le=1)
    wear_quadratic_ct_per_kw2h: float = _unit(
        "battery_wear_quadratic_ct_per_kw2h", "ct/(kW² h)", "wear, times the square of the power", ge=0
    )
    wear_linear_ct_per_kwh: float = _unit("battery_wear_linear_ct_per_kwh", "ct/kWh", "wear, times the power", ge=0)


class Shiftable(Section):
    """The shiftable load of a prosumer. Its backlog is the energy that it is ahead of its reference within a day."""

    power_kw: float = _unit("shiftable_power_kw", "kW", "largest power", ge=0)
    backlog_min_kwh: float = _unit("backlog_min_kwh", "kWh", "most that may be put off, a negative number", le=0)
    backlog_max_kwh: float = _unit("backlog_max_kwh", "kWh", "most that may be run ahead of the reference", ge=0)
    discomfort_quadratic_ct_per_kwh2h: float = _unit(
        "discomfort_quadratic_ct_per_kwh2h", "ct/(kWh² h)", "discomfort, times the square of the backlog", ge=0
    )
    discomfort_linear_ct_per_kwhh: float = _unit(
        "discomfort_linear_ct_per_kwhh", "ct/(kWh h)", "discomfort, times the backlog", ge=0
    )


class Devices(Section):
    """What a prosumer has, wherever it stands."""

    units: int = _unit("units", "1", "identical units at the bus: multiplies what the feeder sees, not the costs", ge=1)
    pv_ratio: float = _unit("pv_ratio", "1", "installed PV as a multiple of the data set's; 0: no PV", ge=0)
    battery: Battery = Field(default=Battery())
    shiftable: Shiftable = Field(default=Shiftable())
    position_limit_kw: float = _unit("position_limit_kw", "kW", "largest day-ahead purchase or sale", ge=0)
    connection_limit_kw: float = _unit(
        "connection_limit_kw", "kW", "rated connection; exceeding it is counted, not prevented", ge=0
    )
    power_factor: float = _unit("power_factor", "1", "of the consumption, lagging", gt=0, le=1)


class Prosumer(Devices):
    """One prosumer of a list."""

    bus: int = _field(..., "", "where it is connected, from 1 up (0 is the substation)")


class Override(Devices):
    """What one prosumer of a group has of its own."""

    bus: int | None = _field(None, "", "another bus than the group gives it")


def _kind(given: object) -> str:
    return "<list>" if isinstance(given, list) else "<word>"


class Group(Devices):
    """Prosumers that are alike, but for what `overrides` says."""

    count: int | None = _field(
        None, "1", f"how many prosumers, up to {MAX_PROSUMERS}; may be left out where buses are listed",
        ge=1, le=MAX_PROSUMERS,
    )  # fmt: skip
    buses: Annotated[
        Annotated[list[int], Tag("<list>")] | Annotated[Literal["spread"], Tag("<word>")], Discriminator(_kind)
    ] = _field("spread", "", "`spread` evenly over all buses, or the bus of each prosumer (one may come several times)")
    overrides: dict[int, Override] = Field(
        default={}, description="by number, from 0: any of the fields of one prosumer",
        json_schema_extra={"unit": ""},
    )  # fmt: skip


class Edge(Section):
    """Two prosumers that may trade; short form `[0, 1]`."""

    between: list[int] = _field(..., "", "their numbers, from 0", min_length=2, max_length=2)
    limit_kw: float | None = _field(None, "kW", "as `trade.limit_kw`, for this edge", ge=0)
    fee_ct_per_kwh: float | None = _field(None, "ct/kWh", "as `trade.fee_ct_per_kwh`, for this edge", ge=0)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: object) -> object:
        return {"between": given} if isinstance(given, list) else given


class Trade(Section):
    """Who may trade with whom."""

    graph: Literal["ring-with-chords", "complete", "star", "none"] | None = _field(
        None, "", "`ring-with-chords` (the default), `complete`, `star` (everyone with prosumer 0) or `none`"
    )
    edges: list[Edge] | None = _field(None, "", "instead of a graph: the edges one by one")
    limit_kw: float = _field(_EDGE.limit_kw[0].item(), "kW", "largest trade over an edge", ge=0)
    fee_ct_per_kwh: float = _field(
        _EDGE.fee_ct_per_kwh[0].item(), "ct/kWh", "network fee on traded energy, half from each side", ge=0
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Trade:
        if self.graph is not None and self.edges is not None:
            raise PydanticCustomError("both", "give a graph or edges, not both")
        return self


class Prices(Section):
    """From market prices to what a prosumer pays: the fields of `Tariff`."""

    da_sell_ratio: float = _tariff("da_sell_ratio", "1", "a day-ahead sale earns this share of the price", le=1)
    rt_sell_ratio: float = _tariff("rt_sell_ratio", "1", "a real-time sale earns this share of the price", le=1)
    rt_buy_margin_ct_per_kwh: float = _tariff(
        "rt_buy_margin_ct_per_kwh", "ct/kWh", "what real-time purchases cost above the dearer of the two markets"
    )
    rt_sell_margin_ct_per_kwh: float = _tariff(
        "rt_sell_margin_ct_per_kwh", "ct/kWh", "what real-time sales earn below the cheaper of the two markets"
    )
    demand_charge_ct_per_kw: float = _tariff("demand_charge_ct_per_kw", "ct/kW", "a day, on each prosumer's own peak")
    terminal_shortfall_factor: float = _tariff(
        "terminal_shortfall_factor", "1", "energy missing at the end costs this multiple of the dearest hour"
    )


class FeederTable(Section):
    """A feeder of the user's own, as two CSV files beside the YAML file."""

    branches: str = _field(..., "", "CSV with the columns from_bus, to_bus, r_ohm, x_ohm")
    buses: str = _field(..., "", "CSV with the columns bus, p_kw, q_kvar (nominal load); bus 0 is the substation")
    base_kv: float = _field(..., "kV", "nominal voltage between lines", gt=0)
    base_mva: float = _field(1.0, "MVA", "base of the per-unit figures; no result depends on it", gt=0)


def _one_of(names: list[str]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in names:
            raise PydanticCustomError(
                "unknown", "{message}", {"message": f"{shown(name)} is not known; choose one of: {', '.join(names)}"}
            )
        return name

    return check


class CommunityFile(Section):
    """The whole file."""

    name: str | None = _field(None, "", "of the community, in records too; that of the file if left out")
    feeder: Annotated[
        Annotated[str, AfterValidator(_one_of(list(FEEDERS))), Tag("<word>")] | Annotated[FeederTable, Tag("<fields>")],
        Discriminator(lambda given: "<fields>" if isinstance(given, dict) else "<word>"),
    ] = _field("ieee33", "", f"{', '.join(f'`{name}`' for name in FEEDERS)}, or tables of your own")
    slack_v_pu: float | None = _field(None, "p.u.", "voltage of the substation; the feeder's if left out", gt=0)
    v_min_pu: float | None = _field(None, "p.u.", "lower voltage limit; the feeder's if left out", gt=0)
    v_max_pu: float | None = _field(None, "p.u.", "upper voltage limit; the feeder's if left out", gt=0)
    mechanism: Annotated[str, AfterValidator(_one_of(list(MECHANISMS)))] = _field(
        "bilateral", "", f"how they trade: {', '.join(f'`{name}`' for name in MECHANISMS)}"
    )
    hours_per_day: int = _field(24, "1", "time slots of a day; those of the data set you will play", ge=1, le=1440)
    tariff: Prices = Field(default=Prices())
    prosumers: Annotated[
        Annotated[list[Prosumer], Field(min_length=1, max_length=MAX_PROSUMERS), Tag("<list>")]
        | Annotated[Group, Tag("<fields>")],
        Discriminator(lambda given: "<list>" if isinstance(given, list) else "<fields>"),
    ] = Field(...)
    trade: Trade = Field(default=Trade())
