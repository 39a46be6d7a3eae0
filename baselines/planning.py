"""What the core problem is asked and what it answers: scenarios, the state it starts from, the plan, and its cost.

The recourse of a plan has a closed form, so the expected cost of any plan, optimal or not, is arithmetic: `evaluate`.

Axis letters: N prosumers, X trades of an hour (`trades`), M numbers that an hour's offers consist of, H hours of a day,
S scenarios, h remaining hours (start ... H-1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.trades import offers_of, trade_form
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.mechanisms import Mechanism


@dataclass(frozen=True, eq=False)
class Scenarios:
    """What the remaining hours may bring: load, PV and real-time price together, and how likely each is.

    Prices are raw; the tariff turns them into settlement prices. Raises `UsageError` naming the field.
    """

    load_kw: FloatArray
    """Must-run load [S,h,N]."""
    pv_kw: FloatArray
    """Available PV generation [S,h,N]."""
    price_rt_ct_per_kwh: FloatArray
    """Raw real-time price [S,h]."""
    weights: FloatArray
    """Probabilities, the same for all prosumers [S] or each prosumer's own [N,S]; each set sums to one."""

    def __post_init__(self) -> None:
        shape = np.shape(self.load_kw)
        if len(shape) != 3 or 0 in shape:
            raise UsageError(f"scenarios.load_kw: shape {shape}, expected [S,h,N], none of them 0")
        num, hours, prosumers = shape
        for name, expected in (("pv_kw", shape), ("price_rt_ct_per_kwh", (num, hours))):
            if np.shape(getattr(self, name)) != expected:
                raise UsageError(f"scenarios.{name}: shape {np.shape(getattr(self, name))}, expected {expected}")
        if np.shape(self.weights) not in ((num,), (prosumers, num)):
            raise UsageError(
                f"scenarios.weights: shape {np.shape(self.weights)}, expected ({num},) or ({prosumers}, {num})"
            )
        for name in ("load_kw", "pv_kw", "price_rt_ct_per_kwh", "weights"):
            if not np.all(np.isfinite(getattr(self, name))):
                raise UsageError(f"scenarios.{name}: not finite")
        if np.min(self.weights) < 0 or np.max(np.abs(np.sum(self.weights, axis=-1) - 1.0)) > 1e-9:
            raise UsageError("scenarios.weights: must not be negative and must sum to one over the scenarios")

    @property
    def weights_by_prosumer(self) -> FloatArray:
        """Weights `[N,S]`, whichever way they were given."""
        num, _, prosumers = self.load_kw.shape
        return np.broadcast_to(self.weights, (prosumers, num))

    @property
    def mean_load_kw(self) -> FloatArray:
        """What is expected to be consumed, the shiftable load apart [h,N]."""
        return np.asarray(np.einsum("ns,shn->hn", self.weights_by_prosumer, self.load_kw))

    @property
    def mean_pv_kw(self) -> FloatArray:
        """What is expected to be generated, and may be promised to neighbours [h,N]."""
        return np.asarray(np.einsum("ns,shn->hn", self.weights_by_prosumer, self.pv_kw))


@dataclass(frozen=True, eq=False)
class DayStart:
    """Where the community stands when it plans. Raises `UsageError` naming the field."""

    start_hour: int
    """First hour to plan; the hours before it are over."""
    soc_kwh: FloatArray
    """State of charge at the start of that hour [N]."""
    backlog_kwh: FloatArray
    """Backlog of the shiftable load [N]."""
    connection_peak_kw: FloatArray
    """Highest import of the day so far: only what exceeds it is charged [N]."""
    shiftable_ref_kw: FloatArray
    """When the shiftable load would run if left alone, whole day [H,N]."""
    price_da_ct_per_kwh: FloatArray
    """Raw day-ahead price, whole day [H]."""
    position_kw: FloatArray | None = None
    """Committed position, whole day [N,H]; `None` at the day-ahead stage, where it is a decision."""

    def __post_init__(self) -> None:
        hours, prosumers = np.shape(self.shiftable_ref_kw)
        if not 0 <= self.start_hour < hours:
            raise UsageError(f"day start.start_hour: {self.start_hour}, must lie in 0 ... {hours - 1}")
        expected: dict[str, tuple[int, ...]] = {
            "soc_kwh": (prosumers,), "backlog_kwh": (prosumers,), "connection_peak_kw": (prosumers,),
            "price_da_ct_per_kwh": (hours,), "position_kw": (prosumers, hours),
        }  # fmt: skip
        for name, shape in expected.items():
            values = getattr(self, name)
            if values is None:
                continue
            if np.shape(values) != shape:
                raise UsageError(f"day start.{name}: shape {np.shape(values)}, expected {shape}")
            if not np.all(np.isfinite(values)):
                raise UsageError(f"day start.{name}: not finite")


@dataclass(frozen=True, eq=False)
class Plan:
    """The remaining hours as decided now, before the scenarios part."""

    position_kw: FloatArray
    """Day-ahead position, + buys: decided at the day-ahead stage, else as committed [N,h]."""
    battery_kw: FloatArray
    """Battery, + charges [h,N]."""
    shiftable_kw: FloatArray
    """Shiftable load [h,N]."""
    curtail_kw: FloatArray
    """PV thrown away in the hours already observed; zero in later ones, where it is recourse [h,N]."""
    trade_kw: FloatArray
    """Trades: of each edge, + when its first end buys, or in a pool or an auction of each prosumer, + buys [h,X]."""
    market: Mechanism
    """By which the trades are to come about."""
    objective_ct: float
    """The minimum: expected cost of the remaining hours, the regulariser, and the price of the voltages, if any."""
    lower_bound_ct: float
    """What the multipliers prove no plan can beat."""
    solver: str
    """Who solved it."""
    fallbacks: tuple[str, ...]
    """Why solvers asked before failed; empty when the first one solved it."""
    voltage_excess_pu_h: float = 0.0
    """What voltages are expected beyond the limits that they were priced at, all buses and hours; 0 if none were."""

    def offers(self, i: int) -> FloatArray:
        """Offers for the i-th planned hour, everybody the planned trade, in the form of the mechanism, + buys `[M]`."""
        return offers_of(self.market, self.trade_kw[i])


@dataclass(frozen=True, eq=False)
class PlanCost:
    """Expected cost of a plan over the remaining hours, ct, by term and prosumer; each array is `[N]`.

    Payments between prosumers are left out: they sum to zero.
    """

    day_ahead: FloatArray
    real_time: FloatArray
    p2p_fee: FloatArray
    demand_charge: FloatArray
    """For what exceeds the day's peak so far."""
    battery_wear: FloatArray
    discomfort: FloatArray
    terminal_soc: FloatArray

    @property
    def total_ct(self) -> float:
        """Cost of the whole community."""
        return float(sum(np.sum(value) for value in vars(self).values()))


def evaluate(plan: Plan, community: Community, start: DayStart, scenarios: Scenarios) -> PlanCost:
    """Expected cost of `plan` under `scenarios`, with optimal recourse; feasible or not, it is not checked.

    In real time (a position is given) PV of later hours may be curtailed once it is known: the best curtailment of a
    prosumer's scenario weighs the price of surplus against the demand charge, a convex function of the day's peak
    whose minimum lies at one of its corners.
    """
    fleet, trades, dt_h = community.fleet, trade_form(community), community.dt_h
    prices = community.tariff.settlement_prices(
        start.price_da_ct_per_kwh[start.start_hour :], scenarios.price_rt_ct_per_kwh
    )
    weights = scenarios.weights_by_prosumer
    position = plan.position_kw.T
    charge, discharge = np.maximum(plan.battery_kw, 0.0), np.maximum(-plan.battery_kw, 0.0)
    soc_end = start.soc_kwh + dt_h * np.sum(
        fleet.charge_efficiency * charge - discharge / fleet.discharge_efficiency, axis=0
    )
    backlog = start.backlog_kwh + dt_h * np.cumsum(
        plan.shiftable_kw - start.shiftable_ref_kw[start.start_hour :], axis=0
    )
    bought = np.zeros_like(plan.battery_kw)
    fee = np.zeros(len(fleet))
    half_fee = dt_h * trades.half_fee_ct_per_kwh * np.abs(plan.trade_kw).sum(axis=0)
    for end, sign in trades.ends:
        np.add.at(bought.T, end, sign * plan.trade_kw.T)
        fee += np.bincount(end, half_fee, len(fleet))

    net_import = scenarios.load_kw - scenarios.pv_kw + plan.battery_kw + plan.shiftable_kw + plan.curtail_kw  # [S,h,N]
    residual = net_import - position - bought
    real_time, increase = _recourse(community, start, scenarios, net_import, residual, prices.rt_buy, prices.rt_sell)
    short_value, left_value = community.tariff.terminal_values(
        start.price_da_ct_per_kwh, fleet.charge_efficiency, fleet.discharge_efficiency
    )
    short = fleet.soc_initial_kwh - soc_end
    return PlanCost(
        day_ahead=dt_h * np.sum(
            prices.da_buy[:, None] * np.maximum(position, 0.0) + prices.da_sell[:, None] * np.minimum(position, 0.0),
            axis=0,
        ),
        real_time=np.einsum("ns,sn->n", weights, real_time),
        p2p_fee=fee,
        demand_charge=community.tariff.demand_charge_ct_per_kw * np.einsum("ns,sn->n", weights, increase),
        battery_wear=dt_h * np.sum(
            fleet.battery_wear_quadratic_ct_per_kw2h * plan.battery_kw**2
            + fleet.battery_wear_linear_ct_per_kwh * np.abs(plan.battery_kw),
            axis=0,
        ),
        discomfort=dt_h * np.sum(
            fleet.discomfort_quadratic_ct_per_kwh2h * backlog**2
            + fleet.discomfort_linear_ct_per_kwhh * np.abs(backlog),
            axis=0,
        ),
        terminal_soc=short_value * np.maximum(short, 0.0) - left_value * np.maximum(-short, 0.0),
    )  # fmt: skip


def _recourse(
    community: Community, start: DayStart, scenarios: Scenarios, net_import_kw: FloatArray, residual_kw: FloatArray,
    rt_buy: FloatArray, rt_sell: FloatArray,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Real-time payment [S,N] and increase of the connection's peak [S,N] with the best curtailment of later hours.

    `net_import_kw`, `residual_kw` [S,h,N] are before that curtailment; prices [S,h].
    """
    dt_h, charge = community.dt_h, community.tariff.demand_charge_ct_per_kw
    buy, sell = rt_buy[:, :, None], rt_sell[:, :, None]

    def pay(residual: FloatArray) -> FloatArray:
        return dt_h * np.asarray(buy * np.maximum(residual, 0.0) + sell * np.minimum(residual, 0.0))

    # Curtailment pays while the energy it leaves has a negative price: first as surplus, then as purchase.
    surplus = np.where(sell < 0, np.minimum(scenarios.pv_kw, np.maximum(-residual_kw, 0.0)), 0.0)
    most = np.where(buy < 0, scenarios.pv_kw, surplus)
    if start.position_kw is None:
        surplus, most = np.zeros_like(surplus), np.zeros_like(most)
    else:
        surplus[:, 0] = most[:, 0] = 0.0  # the observed hour's curtailment is the plan's
    floor = np.maximum(start.connection_peak_kw, net_import_kw.max(axis=1))  # [S,N]
    best_payment, best_peak = pay(residual_kw).sum(axis=1), floor
    best = best_payment + charge * best_peak
    if np.any(most > 0):
        for corner in np.concatenate([net_import_kw + surplus, net_import_kw + most], axis=1).swapaxes(0, 1):
            peak = np.maximum(corner, floor)
            curtailed = np.minimum(most, peak[:, None] - net_import_kw)
            payment = pay(residual_kw + curtailed).sum(axis=1)
            better = payment + charge * peak < best
            best_payment, best_peak = np.where(better, payment, best_payment), np.where(better, peak, best_peak)
            best = np.minimum(best, payment + charge * peak)
    return best_payment, best_peak - start.connection_peak_kw
