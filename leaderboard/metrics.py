"""What a day was like: tiny functions from hourly arrays of recorded days to one number a day.

Each takes plain arrays with the days in front and is pure, so that any figure of a record can be worked out by hand.
`day_metrics` applies them all to what the simulator made of the logged actions.

Axis letters: D days, H hours of a day, N prosumers, E undirected trade edges, K buses, T cost terms.
Imports, purchases, charging and consumption are positive; money is a cost.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.leaderboard.protocol import PAR_FLOOR, RunError
from prosumer_gym.market import COST_TERMS
from prosumer_gym.rollout import Trace

TOLERANCE = 1e-9
"""A limit counts as exceeded beyond this (kW or p.u.): rounding is no violation."""


def cost_ct(cost_terms_ct: FloatArray) -> FloatArray:
    """Signed cost of the community [D] from the bookings of each hour, term and prosumer [D,H,T,N]."""
    return np.asarray(cost_terms_ct.sum(axis=(1, 2, 3)))


def gross_demand_kw(load_kw: FloatArray, shiftable_ref_kw: FloatArray) -> FloatArray:
    """Mean over the day of what the community would draw without sun and control [D]; inputs [D,H,N].

    It does not depend on the policy, so nothing can be gained by burning energy.
    """
    return np.asarray((load_kw + shiftable_ref_kw).sum(axis=2).mean(axis=1))


def peak_kw(exchange_kw: FloatArray) -> FloatArray:
    """Largest import of the day [D] from the exchange with the grid [D,H]; zero for a day of export only."""
    return np.asarray(np.maximum(exchange_kw, 0.0).max(axis=1))


def peak_ratio(exchange_kw: FloatArray, gross_kw: FloatArray) -> FloatArray:
    """Largest import over mean gross demand [D]; exchange [D,H], gross demand [D]. This one enters the score."""
    return peak_kw(exchange_kw) / gross_kw


def par(exchange_kw: FloatArray, gross_kw: FloatArray) -> FloatArray:
    """Peak-to-average ratio of the imports [D]: largest over mean import; exchange [D,H], gross demand [D].

    NaN where the mean import is below 1 % of the mean gross demand: dividing by next to nothing says nothing.
    """
    mean_kw = np.maximum(exchange_kw, 0.0).mean(axis=1)
    defined = (mean_kw > 0.0) & (mean_kw >= PAR_FLOOR * gross_kw)
    undefined = np.full(mean_kw.shape, np.nan)
    return np.asarray(np.divide(peak_kw(exchange_kw), mean_kw, out=undefined, where=defined))


def voltage_excess_pu(v_pu: FloatArray, converged: BoolArray, v_min_pu: float, v_max_pu: float) -> FloatArray:
    """How far each bus lies outside the limits, p.u., zero inside [D,H,K]; bus 0 is the substation.

    Where the power flow has no solution [D,H] the feeder is taken to be dead: every bus but the substation lacks all of
    the lower limit, so that a collapse never looks better than a low voltage.
    """
    excess = np.maximum(np.maximum(v_min_pu - v_pu, v_pu - v_max_pu), 0.0)
    dead = np.full(excess.shape, v_min_pu)
    dead[..., 0] = 0.0
    return np.where(converged[..., np.newaxis], excess, dead)


def voltage_pu_h(excess_pu: FloatArray, dt_h: float) -> FloatArray:
    """Voltage violation of the day, p.u. h [D]: excess summed over buses and hours [D,H,K]."""
    return np.asarray(excess_pu.sum(axis=(1, 2)) * dt_h)


def violated_share(excess_pu: FloatArray) -> FloatArray:
    """Share of bus-hours outside the limits [D], all buses counted; excess [D,H,K]."""
    return np.asarray(np.mean(excess_pu > TOLERANCE, axis=(1, 2)))


def worst_excess_pu(excess_pu: FloatArray) -> FloatArray:
    """Largest excess of any bus in any hour [D]; excess [D,H,K]."""
    return np.asarray(excess_pu.max(axis=(1, 2)))


def energy_kwh(power_kw: FloatArray, dt_h: float) -> FloatArray:
    """Energy of the day, kWh [D]: `[D,H]` or `[D,H,...]` summed over everything but the day."""
    return np.asarray(power_kw.reshape(len(power_kw), -1).sum(axis=1) * dt_h)


def sold_kw(trade_kw: FloatArray, first: IntArray, second: IntArray, num_prosumers: int) -> FloatArray:
    """What each prosumer sells to its neighbours [D,H,N].

    `trade_kw` [D,H,E], + = the lower-numbered end `first` [E] buys from `second` [E]. Sales of different edges are
    added, never netted against purchases.
    """
    sold = np.zeros((*trade_kw.shape[:2], num_prosumers))
    for edge, (lower, higher) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        sold[:, :, lower] += np.maximum(-trade_kw[:, :, edge], 0.0)
        sold[:, :, higher] += np.maximum(trade_kw[:, :, edge], 0.0)
    return sold


def p2p_own_kw(sold: FloatArray, net_import_kw: FloatArray) -> FloatArray:
    """The part of the sales that is the seller's own net surplus of the hour [D,H,N]; both inputs [D,H,N].

    What is sold beyond it was bought elsewhere at the same time: it is passed on, and reported apart.
    """
    return np.minimum(sold, np.maximum(-net_import_kw, 0.0))


def shifted_kwh(shiftable_kw: FloatArray, shiftable_ref_kw: FloatArray, dt_h: float) -> FloatArray:
    """Shiftable energy that ran at another hour than by itself [D]; both inputs [D,H,N], of equal daily sums."""
    return 0.5 * energy_kwh(np.abs(shiftable_kw - shiftable_ref_kw), dt_h)


def beyond_connection_kw(net_import_kw: FloatArray, connection_limit_kw: FloatArray) -> FloatArray:
    """Power beyond each connection's rating, either way [D,H,N]; net import [D,H,N], limit [N]."""
    return np.maximum(np.abs(net_import_kw) - connection_limit_kw, 0.0)


def self_consumption(pv_kwh: FloatArray, curtailed_kwh: FloatArray, export_kwh: FloatArray) -> float:
    """Share of the available PV energy that neither was curtailed nor left the community; all days together [D]."""
    available = float(pv_kwh.sum())
    return (available - float(curtailed_kwh.sum() + export_kwh.sum())) / available if available > 0.0 else float("nan")


def self_sufficiency(demand_kwh: FloatArray, import_kwh: FloatArray) -> float:
    """Share of the load that was not imported on all days [D]. Negative if batteries waste more than PV gives."""
    demand = float(demand_kwh.sum())
    return (demand - float(import_kwh.sum())) / demand if demand > 0.0 else float("nan")


def jain_index(saving_ct: FloatArray) -> float:
    """How evenly savings [N] are spread: 1 if all save the same, 1/N if one takes all, NaN if nobody saves.

    (sum x)^2 / (N sum x^2) after Jain, Chiu and Hawe (1984); who loses counts as saving nothing.
    """
    gain = np.maximum(saving_ct, 0.0)
    squares = float(np.square(gain).sum())
    return float(gain.sum()) ** 2 / (len(gain) * squares) if squares > 0.0 else float("nan")


@dataclass(frozen=True, eq=False)
class DayMetrics:
    """Raw figures of recorded days, enough to score them again without simulating. One value a day [D] unless said."""

    cost_ct: FloatArray
    cost_terms_ct: FloatArray
    """By `COST_TERMS` [D,T]."""
    cost_per_prosumer_ct: FloatArray
    """[D,N]."""
    gross_demand_kw: FloatArray
    peak_kw: FloatArray
    peak_ratio: FloatArray
    par: FloatArray
    par_feeder: FloatArray
    """At the substation: losses and the rest of the feeder included."""
    voltage_pu_h: FloatArray
    violated_share: FloatArray
    worst_excess_pu: FloatArray
    losses_kwh: FloatArray
    non_converged: FloatArray
    """Hours without a power flow solution."""
    demand_kwh: FloatArray
    import_kwh: FloatArray
    export_kwh: FloatArray
    pv_kwh: FloatArray
    curtailed_kwh: FloatArray
    p2p_kwh: FloatArray
    """Traded between prosumers out of the sellers' own net surplus."""
    p2p_relayed_kwh: FloatArray
    """Traded beyond it."""
    battery_kwh: FloatArray
    """Throughput: charged plus discharged."""
    shifted_kwh: FloatArray
    overload_events: FloatArray
    """Hours of a connection beyond its rating."""
    overload_kwh: FloatArray

    def __len__(self) -> int:
        return len(self.cost_ct)

    def rows(self, index: IntArray) -> DayMetrics:
        """Some of the days."""
        return DayMetrics(**{item.name: getattr(self, item.name)[index] for item in fields(self)})


def day_metrics(community: Community, exogenous: Exogenous, days: IntArray, trace: Trace) -> DayMetrics:
    """All figures of the days `days` `[D]` (rows of `exogenous`) that `trace` recorded.

    Raises:
        UsageError: a day without any load: there is nothing to compare its peak with.
        RunError: payments between prosumers do not cancel: a bug of the market, never of a policy.
    """
    load, pv, reference = (
        getattr(exogenous, name)[days] for name in ("load_kw", "pv_kw", "shiftable_ref_kw")
    )  # each [D,H,N]
    dt = community.dt_h
    gross = gross_demand_kw(load, reference)
    if not np.all(gross > 0.0):
        raise UsageError(
            f"day in row {days[np.argmin(gross)]}: no prosumer has any load; leave the day out of the split"
        )
    excess = voltage_excess_pu(trace.v_pu, trace.converged, community.feeder.v_min_pu, community.feeder.v_max_pu)
    graph = community.graph
    if community.market.offers == "edges":
        sold = sold_kw(trace.trade_kw, graph.first, graph.second, community.num_prosumers)
    else:
        sold = np.maximum(-trace.p2p_kw, 0.0)  # in a pool nobody buys and sells at once
    own = p2p_own_kw(sold, trace.net_import_kw)
    beyond = beyond_connection_kw(trace.net_import_kw, community.fleet.connection_limit_kw)
    _check_p2p_cash(trace)
    return DayMetrics(
        cost_ct=cost_ct(trace.cost_ct),
        cost_terms_ct=trace.cost_ct.sum(axis=(1, 3)),
        cost_per_prosumer_ct=trace.cost_ct.sum(axis=(1, 2)),
        gross_demand_kw=gross,
        peak_kw=peak_kw(trace.exchange_kw),
        peak_ratio=peak_ratio(trace.exchange_kw, gross),
        par=par(trace.exchange_kw, gross),
        par_feeder=par(trace.slack_kw, gross),
        voltage_pu_h=voltage_pu_h(excess, dt),
        violated_share=violated_share(excess),
        worst_excess_pu=worst_excess_pu(excess),
        losses_kwh=energy_kwh(trace.losses_kw, dt),
        non_converged=np.sum(~trace.converged, axis=1).astype(np.float64),
        demand_kwh=energy_kwh(load + trace.shiftable_kw, dt),
        import_kwh=energy_kwh(np.maximum(trace.exchange_kw, 0.0), dt),
        export_kwh=energy_kwh(np.maximum(-trace.exchange_kw, 0.0), dt),
        pv_kwh=energy_kwh(pv, dt),
        curtailed_kwh=energy_kwh(trace.curtail_kw, dt),
        p2p_kwh=energy_kwh(own, dt),
        p2p_relayed_kwh=energy_kwh(sold - own, dt),
        battery_kwh=energy_kwh(np.abs(trace.battery_kw), dt),
        shifted_kwh=shifted_kwh(trace.shiftable_kw, reference, dt),
        overload_events=np.sum(beyond > TOLERANCE, axis=(1, 2)).astype(np.float64),
        overload_kwh=energy_kwh(beyond, dt),
    )


def _check_p2p_cash(trace: Trace) -> None:
    """What one prosumer pays for traded energy another receives."""
    balance_ct = np.abs(trace.cost_ct[:, :, COST_TERMS.index("p2p")].sum(axis=2)).max(initial=0.0)
    if balance_ct > 1e-6:
        raise RunError(f"payments between prosumers do not sum to zero: {balance_ct:.3g} ct in one hour")
