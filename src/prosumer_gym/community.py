"""A community of prosumers: what does not change while a day is played.

`Community` = `Feeder` + `Fleet` (the prosumers) + `TradeGraph` (who trades with whom) + `Tariff` (what energy costs) +
`Mechanism` (how they trade).
Everything is validated once, here; an error names the field and the prosumer or edge.

Axis letters: N prosumers, E undirected trade edges, M numbers that an hour's offers consist of, H hours of a day,
D days.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np

from prosumer_gym.arrays import FloatArray, FrozenArrays, IntArray, frozen
from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder
from prosumer_gym.mechanisms import Mechanism, mechanism_named


@dataclass(frozen=True, eq=False)
class Fleet(FrozenArrays):
    """The prosumers, one array per property, each of shape `[N]`.

    Power is AC-side power at the battery's terminals; the bounds on the state of charge are the usable ones.
    Wear is quadratic and linear in power: `dt (wear_quadratic p^2 + wear_linear |p|)`; discomfort likewise in the
    backlog of the shiftable load. Default values after arXiv 2409.00493, Table I.

    Raises `UsageError` naming the field and the prosumer.
    """

    bus: IntArray
    """Bus each prosumer is connected to, 1 ... K-1 (0 is the substation) [N]."""
    pv_ratio: FloatArray
    """Installed PV as a multiple of the data set's [N]."""
    units: IntArray
    """How many identical units stand at the node [N]. All do the same. The feeder carries all of them: voltages, losses
    and what the substation gives are theirs together; costs, trades, exchange and peaks are those of one."""
    battery_power_kw: FloatArray
    soc_min_kwh: FloatArray
    soc_max_kwh: FloatArray
    soc_initial_kwh: FloatArray
    charge_efficiency: FloatArray
    discharge_efficiency: FloatArray
    battery_wear_quadratic_ct_per_kw2h: FloatArray
    battery_wear_linear_ct_per_kwh: FloatArray
    shiftable_power_kw: FloatArray
    backlog_min_kwh: FloatArray
    backlog_max_kwh: FloatArray
    discomfort_quadratic_ct_per_kwh2h: FloatArray
    discomfort_linear_ct_per_kwhh: FloatArray
    position_limit_kw: FloatArray
    """Largest day-ahead purchase or sale [N]."""
    connection_limit_kw: FloatArray
    """Rated connection: exceeding it is counted, never prevented [N]."""
    power_factor: FloatArray
    """Of the consumption (load and shiftable load), lagging; PV and battery run at unity [N]."""

    def __post_init__(self) -> None:
        if np.ndim(self.bus) != 1 or np.size(self.bus) == 0:
            raise UsageError("fleet.bus: must list one bus for each of at least one prosumer")
        num = np.size(self.bus)
        for item in fields(self):
            dtype = np.int64 if item.name in ("bus", "units") else np.float64
            values = np.asarray(getattr(self, item.name))
            if values.ndim != 0 and values.shape != (num,):
                raise UsageError(f"fleet.{item.name}: shape {values.shape}, expected one value per prosumer ({num},)")
            if not np.all(np.isfinite(values)):
                raise UsageError(f"fleet.{item.name}: not finite")
            if dtype is np.int64 and np.any(values != np.floor(values)):
                raise UsageError(f"fleet.{item.name}: {values[values != np.floor(values)][0]:g} is no whole number")
            object.__setattr__(self, item.name, frozen(np.broadcast_to(values, (num,)), dtype))
        self._require("bus", self.bus >= 1, "must be 1 or more (bus 0 is the substation)")
        self._require("units", self.units >= 1, "must be 1 or more")
        for name in (
            "pv_ratio", "battery_power_kw", "soc_min_kwh", "battery_wear_quadratic_ct_per_kw2h",
            "battery_wear_linear_ct_per_kwh", "shiftable_power_kw", "discomfort_quadratic_ct_per_kwh2h",
            "discomfort_linear_ct_per_kwhh", "position_limit_kw", "connection_limit_kw",
        ):  # fmt: skip
            self._require(name, getattr(self, name) >= 0, "must not be negative")
        for name in ("charge_efficiency", "discharge_efficiency", "power_factor"):
            values = getattr(self, name)
            self._require(name, (values > 0) & (values <= 1), "must lie in (0, 1]")
        self._require("soc_max_kwh", self.soc_max_kwh >= self.soc_min_kwh, "is below soc_min_kwh")
        self._require(
            "soc_initial_kwh",
            (self.soc_initial_kwh >= self.soc_min_kwh) & (self.soc_initial_kwh <= self.soc_max_kwh),
            "lies outside soc_min_kwh ... soc_max_kwh",
        )
        self._require("backlog_min_kwh", self.backlog_min_kwh <= 0, "must not be positive")
        self._require("backlog_max_kwh", self.backlog_max_kwh >= 0, "must not be negative")

    def _require(self, name: str, holds: np.ndarray[Any, np.dtype[np.bool_]], message: str) -> None:
        if not np.all(holds):
            prosumer = int(np.argmin(holds))
            raise UsageError(f"fleet.{name}: prosumer {prosumer}: {getattr(self, name)[prosumer]:g} {message}")

    @classmethod
    def identical(cls, bus: IntArray | list[int]) -> Self:
        """One prosumer with the benchmark's default units at each bus of `bus` `[N]`."""
        one: dict[str, Any] = {
            "pv_ratio": 1.0,
            "units": 1,
            "battery_power_kw": 20.0,
            "soc_min_kwh": 10.0,
            "soc_max_kwh": 200.0,
            "soc_initial_kwh": 100.0,
            "charge_efficiency": 0.9,
            "discharge_efficiency": 0.9,
            "battery_wear_quadratic_ct_per_kw2h": 0.02,
            "battery_wear_linear_ct_per_kwh": 1.0,
            "shiftable_power_kw": 20.0,
            "backlog_min_kwh": -200.0,
            "backlog_max_kwh": 200.0,
            "discomfort_quadratic_ct_per_kwh2h": 0.01,
            "discomfort_linear_ct_per_kwhh": 0.0,
            "position_limit_kw": 50.0,
            "connection_limit_kw": 50.0,
            "power_factor": 0.95,
        }
        return cls(bus=np.asarray(bus), **one)

    def __len__(self) -> int:
        return len(self.bus)


@dataclass(frozen=True, eq=False)
class TradeGraph(FrozenArrays):
    """Who may trade with whom: undirected edges, each between a lower- and a higher-numbered prosumer.

    A trade on edge e is signed: + means that `first[e]` buys from `second[e]`. Raises `UsageError` naming the edge.
    """

    first: IntArray
    """Lower-numbered end of each edge [E]."""
    second: IntArray
    """Higher-numbered end of each edge [E]."""
    limit_kw: FloatArray
    """Largest trade either way [E]."""
    fee_ct_per_kwh: FloatArray
    """Network fee on the traded energy, half paid by each end, income of the operator [E]."""

    def __post_init__(self) -> None:
        num = np.size(self.first)
        for item in fields(self):
            dtype = np.int64 if item.name in ("first", "second") else np.float64
            values = np.asarray(getattr(self, item.name))
            if values.ndim != 0 and values.shape != (num,):
                raise UsageError(f"trade graph.{item.name}: shape {values.shape}, expected ({num},)")
            object.__setattr__(self, item.name, frozen(np.broadcast_to(values, (num,)), dtype))
        seen: set[tuple[int, int]] = set()
        for edge, (first, second) in enumerate(zip(self.first.tolist(), self.second.tolist(), strict=True)):
            where = f"trade graph: edge {edge} ({first} - {second})"
            if first == second:
                raise UsageError(f"{where}: a prosumer cannot trade with itself")
            if first > second or first < 0:
                raise UsageError(f"{where}: the lower-numbered prosumer comes first, counted from 0")
            if (first, second) in seen:
                raise UsageError(f"{where}: listed twice")
            seen.add((first, second))
            if not (np.isfinite(self.limit_kw[edge]) and self.limit_kw[edge] >= 0):
                raise UsageError(f"{where}: limit_kw must be finite and not negative")
            if not (np.isfinite(self.fee_ct_per_kwh[edge]) and self.fee_ct_per_kwh[edge] >= 0):
                raise UsageError(f"{where}: fee_ct_per_kwh must be finite and not negative")

    @classmethod
    def ring_with_chords(cls, num_prosumers: int, *, limit_kw: float = 5.0, fee_ct_per_kwh: float = 0.2) -> Self:
        """The ring n ~ n+1 with the chords n ~ n+N/2: every prosumer has three partners (two when N is odd)."""
        pairs = {(n, (n + 1) % num_prosumers) for n in range(num_prosumers)} if num_prosumers > 1 else set()
        if num_prosumers % 2 == 0:
            pairs |= {(n, n + num_prosumers // 2) for n in range(num_prosumers // 2)}
        edges = sorted({(min(pair), max(pair)) for pair in pairs})
        ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
        return cls(
            first=ends[:, 0], second=ends[:, 1], limit_kw=np.full(len(ends), limit_kw),
            fee_ct_per_kwh=np.full(len(ends), fee_ct_per_kwh),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.first)


class SettlementPrices(NamedTuple):
    """Prices in ct/kWh, each of the shape of the raw prices they came from (for example `[D,H]`).

    In every hour `rt_sell <= da_sell <= p2p <= da_buy <= rt_buy`.
    """

    da_buy: FloatArray
    da_sell: FloatArray
    rt_buy: FloatArray
    rt_sell: FloatArray
    p2p: FloatArray


@dataclass(frozen=True)
class Tariff:
    """From raw market prices to what a prosumer pays, valid for prices of any sign.

    A price taker buys at the market price and sells at a discount; imbalance is never better than having traded the
    day before, so no policy can speculate between the two markets. Energy traded between prosumers costs the middle
    of the day-ahead buying and selling prices.
    """

    da_sell_ratio: float = 0.4
    rt_sell_ratio: float = 0.6
    rt_buy_margin_ct_per_kwh: float = 1.0
    rt_sell_margin_ct_per_kwh: float = 0.5
    demand_charge_ct_per_kw: float = 20.0
    """Per day, on each connection's own import peak."""
    terminal_shortfall_factor: float = 1.5
    """Energy missing from the battery at the end of an episode costs this multiple of the dearest hour's price."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (np.isfinite(value) and value >= 0):
                raise UsageError(f"tariff.{item.name}: {value} must be finite and not negative")
        for name in ("da_sell_ratio", "rt_sell_ratio"):
            if getattr(self, name) > 1:
                raise UsageError(f"tariff.{name}: {getattr(self, name)} must not exceed 1")

    def settlement_prices(self, price_da_ct_per_kwh: FloatArray, price_rt_ct_per_kwh: FloatArray) -> SettlementPrices:
        """Settlement prices from raw prices of any shapes that broadcast; never rejects a price for its sign.

        da_buy = c;  da_sell = c - (1 - k)|c|;  rt_buy = max(r, da_buy) + m+;  rt_sell = min(r - (1 - k_rt)|r|,
        da_sell) - m-;  p2p = (da_buy + da_sell) / 2.
        """
        da_buy = np.asarray(price_da_ct_per_kwh, dtype=np.float64)
        rt = np.asarray(price_rt_ct_per_kwh, dtype=np.float64)
        da_sell = da_buy - (1.0 - self.da_sell_ratio) * np.abs(da_buy)
        rt_buy = np.maximum(rt, da_buy) + self.rt_buy_margin_ct_per_kwh
        rt_sell = np.minimum(rt - (1.0 - self.rt_sell_ratio) * np.abs(rt), da_sell) - self.rt_sell_margin_ct_per_kwh
        return SettlementPrices(da_buy, da_sell, rt_buy, rt_sell, 0.5 * (da_buy + da_sell))

    def terminal_values(
        self, price_da_ct_per_kwh: FloatArray, charge_efficiency: FloatArray, discharge_efficiency: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """What a kWh in the battery is worth at the end of an episode, ct/kWh `[..., N]`: (if missing, if left over).

        `price_da_ct_per_kwh` `[..., H]` are the raw prices of the last day, efficiencies `[N]`. Shortfall below the
        initial state of charge costs factor x the dearest purchase / charge efficiency; what is left over it earns the
        cheapest sale x discharge efficiency.
        """
        prices = self.settlement_prices(price_da_ct_per_kwh, price_da_ct_per_kwh)
        dearest = np.maximum(prices.da_buy.max(axis=-1), 0.0)[..., np.newaxis]
        cheapest = np.maximum(prices.da_sell.min(axis=-1), 0.0)[..., np.newaxis]
        return self.terminal_shortfall_factor * dearest / charge_efficiency, cheapest * discharge_efficiency


@dataclass(frozen=True, eq=False)
class Community:
    """The whole stage on which days are played. Raises `UsageError` naming what does not fit together."""

    name: str
    feeder: Feeder
    fleet: Fleet
    graph: TradeGraph
    tariff: Tariff = Tariff()
    mechanism: str = "bilateral"
    """Name of the market mechanism, one of `MECHANISMS`."""
    hours_per_day: int = 24
    """Time slots of a day, H: 24 of one hour by default."""

    def __post_init__(self) -> None:
        mechanism_named(self.mechanism)
        if self.hours_per_day < 1:
            raise UsageError(f"community {self.name}: hours_per_day is {self.hours_per_day}, must be 1 or more")
        beyond = self.fleet.bus >= self.feeder.num_buses
        if beyond.any():
            n = int(np.argmax(beyond))
            raise UsageError(
                f"community {self.name}: prosumer {n} sits on bus {self.fleet.bus[n]}, "
                f"but the feeder has buses 0 ... {self.feeder.num_buses - 1}"
            )
        if len(self.graph) and int(self.graph.second.max()) >= len(self.fleet):
            edge = int(np.argmax(self.graph.second))
            raise UsageError(
                f"community {self.name}: trade edge {edge} ends at prosumer {self.graph.second[edge]}, "
                f"but there are only {len(self.fleet)} prosumers"
            )

    @property
    def num_prosumers(self) -> int:
        """N."""
        return len(self.fleet)

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.graph)

    @property
    def dt_h(self) -> float:
        """Length of a time slot, h."""
        return 24.0 / self.hours_per_day

    @property
    def market(self) -> Mechanism:
        """The mechanism by which the prosumers trade with each other."""
        return mechanism_named(self.mechanism)

    @property
    def pool_limit_kw(self) -> FloatArray:
        """Largest order of each prosumer in a pool or an auction: all it could trade over its edges [N]."""
        graph, num = self.graph, self.num_prosumers
        limit_kw = np.bincount(graph.first, graph.limit_kw, num) + np.bincount(graph.second, graph.limit_kw, num)
        return np.asarray(limit_kw, dtype=np.float64)

    @property
    def pool_fee_ct_per_kwh(self) -> FloatArray:
        """Network fee on what is traded in a pool, half paid by each side: the mean of a prosumer's edges [N]."""
        graph, num = self.graph, self.num_prosumers
        ends = np.concatenate((graph.first, graph.second))
        fees = np.bincount(ends, np.tile(graph.limit_kw * graph.fee_ct_per_kwh, 2), num)
        limit_kw = self.pool_limit_kw
        return np.divide(fees, limit_kw, out=np.zeros(num), where=limit_kw > 0)

    @property
    def offer_limits(self) -> FloatArray:
        """Largest size of each number of an hour's offers: kW, of limit prices 1 [M]."""
        if self.market.offers == "edges":
            return np.tile(self.graph.limit_kw, 2)
        if self.market.offers == "orders":
            return self.pool_limit_kw
        return np.concatenate((self.pool_limit_kw, np.ones(self.num_prosumers)))

    @property
    def num_offers(self) -> int:
        """M."""
        return len(self.offer_limits)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again."""
        return replace(self, **changes)
