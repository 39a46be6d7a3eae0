"""The core problem straight from its equations, in CVXPY: to be read, and to check the fast form against. Slow.

Prosumer n, hour h, scenario i with weight w_n^i; y net import, p position, q real-time settlement, b and a purchases
from and sales to each neighbour, c and d charging and discharging, s backlog, k curtailed PV, t peak of the day:

    minimise  sum_n { dt sum_h [ c^{DA,+} p+ - c^{DA,-} p- + sum_m (pi_nm (b - a) + phi/2 (b + a))
                                + alpha_b (c^2 + d^2) + beta_b (c + d) + alpha_s s^2 + beta_s |s| ]
                      + sum_i w^i ( dt sum_h [ c^{rt,+} q+ - c^{rt,-} q- ] + delta (t - peak so far) )
                      + v+ (e_ref - e_end)+ - v- (e_end - e_ref)+ } + r/2 |p+, p-, b, a|^2
    subject to  y = load - (pv - k) + shiftable + c - d = p + q + sum_m (b - a)      each n, h, i
                t >= y each h,  t >= peak so far
                e' = e + dt (eta_c c - d / eta_d),  s' = s + dt (shiftable - reference),  s at midnight = 0
                b_nm = a_mn <= limit,   sum_m a <= mean pv - k (k where observed)

That is the bilateral market. In a pool or an auction everybody trades with all others at once, each with the limit and
the fee of its orders: m is the pool, and sum_n b = sum_n a in every hour stands for b_nm = a_mn.

With a network penalty the minimum also holds dt price sum_hk e_hk, where e_hk >= 0 is at least what bus k lies beyond
its lower and its upper limit at the expected net imports sum_i w^i y and consumptions sum_i w^i load + shiftable
(`network`).

Axis letters: N prosumers, E undirected trade edges, X trades of an hour (`trades`), S scenarios, K buses, h remaining
hours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cvxpy
import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import DayStart, Scenarios
from prosumer_gym.baselines.trades import TradeForm
from prosumer_gym.community import Community

cp: Any = cvxpy  # its functions are not visible to type checkers


class ReferenceProblem(NamedTuple):
    """A CVXPY problem and those of its expressions that make up a plan."""

    problem: Any
    position_kw: Any
    """[h,N]."""
    charge_kw: Any
    discharge_kw: Any
    shiftable_kw: Any
    curtail_kw: Any
    """In hours already observed [h,N]."""
    trade_kw: Any
    """[h,X]."""
    soc_end_kwh: Any
    """State of charge at the end of the day [N]."""


def reference_problem(
    community: Community,
    start: DayStart,
    scenarios: Scenarios,
    *,
    regulariser: float,
    foresight: bool = False,
    terminal: bool = True,
    network: NetworkPenalty | None = None,
    trades: TradeForm | None = None,
    soc_kwh: Any = None,
) -> ReferenceProblem:
    """The core problem of `core_matrices.build_core` (same arguments), not yet solved.

    An expression `soc_kwh` [N], as that of the end of the day before, stands for the state of charge at the start.
    """
    fleet, tariff, dt_h = community.fleet, community.tariff, community.dt_h
    S, T, N = scenarios.load_kw.shape
    first_hour = start.start_hour
    weights = scenarios.weights_by_prosumer
    prices = tariff.settlement_prices(start.price_da_ct_per_kwh[first_hour:], scenarios.price_rt_ct_per_kwh)
    num_observed = T if foresight else 0 if start.position_kw is None else 1
    constraints: list[Any] = []
    cost: Any = 0.0

    # Day-ahead position
    if start.position_kw is None:
        p_plus, p_minus = cp.Variable((T, N), nonneg=True), cp.Variable((T, N), nonneg=True)
        constraints += [p_plus <= _rows(fleet.position_limit_kw, T), p_minus <= _rows(fleet.position_limit_kw, T)]
        cost += regulariser / 2 * (cp.sum_squares(p_plus) + cp.sum_squares(p_minus))
    else:
        committed = start.position_kw[:, first_hour:].T
        p_plus, p_minus = cp.Constant(np.maximum(committed, 0)), cp.Constant(np.maximum(-committed, 0))
    position = p_plus - p_minus
    cost += dt_h * cp.sum(prices.da_buy @ p_plus - prices.da_sell @ p_minus)

    if trades is not None:
        traded = _own_side(trades, community.dt_h * prices.p2p, community.dt_h, regulariser)
    else:
        traded = market_trades(community, prices.p2p, regulariser)
    bought, sold, trade = traded.bought_kw, traded.sold_kw, traded.trade_kw
    constraints += traded.constraints
    cost += traded.cost_ct

    # Battery
    charge, discharge = cp.Variable((T, N), nonneg=True), cp.Variable((T, N), nonneg=True)
    soc = cp.Variable((T + 1, N))
    constraints += [
        charge <= _rows(fleet.battery_power_kw, T),
        discharge <= _rows(fleet.battery_power_kw, T),
        soc[0] == (start.soc_kwh if soc_kwh is None else soc_kwh),
        soc[1:] == soc[:-1] + dt_h * (charge @ np.diag(fleet.charge_efficiency)
                                      - discharge @ np.diag(1 / fleet.discharge_efficiency)),
        soc[1:] >= _rows(fleet.soc_min_kwh, T),
        soc[1:] <= _rows(fleet.soc_max_kwh, T),
    ]  # fmt: skip
    cost += dt_h * cp.sum((cp.square(charge) + cp.square(discharge)) @ fleet.battery_wear_quadratic_ct_per_kw2h)
    cost += dt_h * cp.sum((charge + discharge) @ fleet.battery_wear_linear_ct_per_kwh)
    if terminal:
        short, left = cp.Variable(N, nonneg=True), cp.Variable(N, nonneg=True)
        constraints += [fleet.soc_initial_kwh - soc[T] == short - left]
        short_value, left_value = tariff.terminal_values(
            start.price_da_ct_per_kwh, fleet.charge_efficiency, fleet.discharge_efficiency
        )
        cost += short_value @ short - left_value @ left

    # Shiftable load
    shiftable = cp.Variable((T, N), nonneg=True)
    backlog = cp.Variable((T + 1, N))
    constraints += [
        shiftable <= _rows(fleet.shiftable_power_kw, T),
        backlog[0] == start.backlog_kwh,
        backlog[1:] == backlog[:-1] + dt_h * (shiftable - start.shiftable_ref_kw[first_hour:]),
        backlog[T] == 0,
        backlog[1:] >= _rows(fleet.backlog_min_kwh, T),
        backlog[1:] <= _rows(fleet.backlog_max_kwh, T),
    ]
    cost += dt_h * cp.sum(cp.square(backlog[1:]) @ fleet.discomfort_quadratic_ct_per_kwh2h)
    cost += dt_h * cp.sum(cp.abs(backlog[1:]) @ fleet.discomfort_linear_ct_per_kwhh)

    # Curtailment of observed hours, and sales limited by generation
    curtail = cp.Variable((T, N), nonneg=True)
    mean_pv = np.einsum("ns,shn->hn", weights, scenarios.pv_kw)
    constraints += [
        curtail <= np.where(np.arange(T)[:, None] < num_observed, mean_pv, 0.0),
        sold <= mean_pv - curtail,
    ]

    # Each scenario's balance, curtailment, settlement and peak
    expected_import: Any = 0.0
    for i in range(S):
        thrown = curtail
        if start.position_kw is not None:
            later = cp.Variable((T, N), nonneg=True)
            constraints += [later <= scenarios.pv_kw[i], later[0] == 0]
            thrown = curtail + later
        net_import = scenarios.load_kw[i] - scenarios.pv_kw[i] + thrown + shiftable + charge - discharge
        q_plus, q_minus = cp.Variable((T, N), nonneg=True), cp.Variable((T, N), nonneg=True)
        peak = cp.Variable(N)
        constraints += [
            net_import == position + bought - sold + q_plus - q_minus,
            cp.vstack([peak] * T) >= net_import,
            peak >= start.connection_peak_kw,
        ]
        cost += dt_h * (prices.rt_buy[i] @ q_plus - prices.rt_sell[i] @ q_minus) @ weights[:, i]
        cost += tariff.demand_charge_ct_per_kw * weights[:, i] @ (peak - start.connection_peak_kw)
        expected_import += net_import @ np.diag(weights[:, i])

    # Expected voltages beyond their limits
    if network is not None:
        consumption = scenarios.mean_load_kw + shiftable
        excess = cp.Variable(network.sides[0].idle_pu.shape, nonneg=True)
        for side in network.sides:
            constraints += [
                excess[h] >= side.idle_pu[h] + side.per_import[h] @ expected_import[h]
                + side.per_consumption[h] @ consumption[h]
                for h in range(T)
            ]  # fmt: skip
        cost += dt_h * network.price_ct_per_pu_h * cp.sum(excess)
    return ReferenceProblem(
        cp.Problem(cp.Minimize(cost), constraints), position, charge, discharge, shiftable, curtail, trade, soc[T]
    )


class ReferenceTrades(NamedTuple):
    """What is traded, as expressions."""

    bought_kw: Any
    """[h,N]."""
    sold_kw: Any
    """Of all partners, never netted [h,N]."""
    trade_kw: Any
    """[h,X]."""
    constraints: list[Any]
    cost_ct: Any
    """What is paid, to one another and for the network, and the regulariser."""


def market_trades(community: Community, price_ct_per_kwh: FloatArray, regulariser: float) -> ReferenceTrades:
    """All trades that the community's mechanism allows; prices [h]."""
    form = _on_edges if community.market.offers == "edges" else _in_pool
    return form(community, price_ct_per_kwh, regulariser)


def _on_edges(community: Community, price_ct_per_kwh: FloatArray, regulariser: float) -> ReferenceTrades:
    """Neighbours: what the first end of an edge buys the second sells, and the other way round; prices [h]."""
    graph, T, N, E = community.graph, len(price_ct_per_kwh), community.num_prosumers, community.num_edges
    if E == 0:
        none = cp.Constant(np.zeros((T, N)))
        return ReferenceTrades(none, none, cp.Constant(np.zeros((T, 0))), [], 0.0)
    ends = {"first": np.eye(N)[graph.first], "second": np.eye(N)[graph.second]}  # [E,N]
    purchase = {end: cp.Variable((T, E), nonneg=True) for end in ends}
    sale = {end: cp.Variable((T, E), nonneg=True) for end in ends}
    constraints = [purchase["first"] == sale["second"], purchase["second"] == sale["first"]]
    cost: Any = 0.0
    for end in ends:
        constraints += [purchase[end] <= _rows(graph.limit_kw, T)]
        for which, sign in ((purchase[end], 1.0), (sale[end], -1.0)):
            price = sign * price_ct_per_kwh[:, None] + graph.fee_ct_per_kwh / 2  # [h,E]
            cost += community.dt_h * cp.sum(cp.multiply(price, which)) + regulariser / 2 * cp.sum_squares(which)
    return ReferenceTrades(
        sum(purchase[end] @ incidence for end, incidence in ends.items()),
        sum(sale[end] @ incidence for end, incidence in ends.items()),
        purchase["first"] - purchase["second"],
        constraints,
        cost,
    )


def _in_pool(community: Community, price_ct_per_kwh: FloatArray, regulariser: float) -> ReferenceTrades:
    """All with all: what some buy others sell, in every hour; prices [h]."""
    shape = (len(price_ct_per_kwh), community.num_prosumers)
    purchase, sale = cp.Variable(shape, nonneg=True), cp.Variable(shape, nonneg=True)
    limit = _rows(community.pool_limit_kw, shape[0])
    constraints = [purchase <= limit, sale <= limit, cp.sum(purchase, axis=1) == cp.sum(sale, axis=1)]
    cost: Any = 0.0
    for which, sign in ((purchase, 1.0), (sale, -1.0)):
        price = sign * price_ct_per_kwh[:, None] + community.pool_fee_ct_per_kwh / 2  # [h,N]
        cost += community.dt_h * cp.sum(cp.multiply(price, which)) + regulariser / 2 * cp.sum_squares(which)
    return ReferenceTrades(purchase, sale, purchase - sale, constraints, cost)


def _own_side(trades: TradeForm, price_ct_per_kw: FloatArray, dt_h: float, regulariser: float) -> ReferenceTrades:
    """What one prosumer may buy of and sell to its neighbours, who are not asked; prices [h]."""
    shape = (len(price_ct_per_kw), trades.limit_kw.size)
    if shape[1] == 0:
        return ReferenceTrades(*(cp.Constant(np.zeros((shape[0], 1))),) * 2, cp.Constant(np.zeros(shape)), [], 0.0)
    purchase, sale = cp.Variable(shape, nonneg=True), cp.Variable(shape, nonneg=True)
    limit = _rows(trades.limit_kw, shape[0])
    cost = cp.sum(price_ct_per_kw @ (purchase - sale)) + dt_h * cp.sum((purchase + sale) @ trades.half_fee_ct_per_kwh)
    cost += regulariser / 2 * (cp.sum_squares(purchase) + cp.sum_squares(sale))
    total = np.ones((shape[1], 1))
    return ReferenceTrades(purchase @ total, sale @ total, purchase - sale, [purchase <= limit, sale <= limit], cost)


def _rows(values: FloatArray, count: int) -> FloatArray:
    """`values` [X] repeated for every hour [h,X]."""
    return np.tile(values, (count, 1))
