"""The distributionally robust day straight from its equations, in CVXPY: to be read, and to check the fast form. Slow.

The first stage is that of `day_ahead_reference`. In place of its recourse every prosumer has a rule q = C Q xi and the
programs of `wasserstein_reference`: the largest expected cost of the rule, and for each hour h the rows (18') for the
shortfall C (mu_h + xi_h) - x_h - C Q_h' xi, whose slope is C (e_h - Q_h) and whose offset is C mu_h - x_h.

Here the rule may also be a full lower-triangular Q, which answers an hour by all hours up to it; then there is no
closed form, and distances may be of any norm. With it the expected cost is bounded hour by hour, each with a worst
distribution of its own (exact at rho_obj = 0): a cost of two prices is a sum over hours only along a diagonal.

Axis letters: N prosumers, S scenarios, D sampled deviations, h remaining hours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cvxpy
import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.day_ahead_reference import market_trades
from prosumer_gym.baselines.dro_program import EMERGENCY_FACTOR, Deviations, Robustness
from prosumer_gym.baselines.planning import DayStart, Scenarios
from prosumer_gym.baselines.wasserstein_reference import (
    Ball,
    Polytope,
    chance_rows,
    separable_cost,
    worst_case_expectation,
)
from prosumer_gym.community import Community

cp: Any = cvxpy  # its functions are not visible to type checkers


class RobustReference(NamedTuple):
    """A CVXPY problem and those of its expressions that make up a plan."""

    problem: Any
    position_kw: Any
    battery_kw: Any
    shiftable_kw: Any
    """[h,N]."""
    rule: list[Any]
    """Q of each prosumer [h,h]."""
    emergency_kw: Any
    """[h,N]."""


def dro_reference(
    community: Community,
    start: DayStart,
    scenarios: Scenarios,
    deviations: Deviations,
    robustness: Robustness,
    *,
    regulariser: float,
    full_rule: bool = False,
    norm: float = 1,
) -> RobustReference:
    """The problem of `dro_program.solve_dro`, not yet solved; `norm` is that of the reliability's ball."""
    fleet, tariff, dt_h = community.fleet, community.tariff, community.dt_h
    T, N = deviations.expected_kw.shape
    first_hour = start.start_hour
    prices = tariff.settlement_prices(start.price_da_ct_per_kwh[first_hour:], scenarios.price_rt_ct_per_kwh)
    constraints: list[Any] = []
    cost: Any = 0.0

    # Position
    if start.position_kw is None:
        p_plus, p_minus = cp.Variable((T, N), nonneg=True), cp.Variable((T, N), nonneg=True)
        constraints += [p_plus <= _rows(fleet.position_limit_kw, T), p_minus <= _rows(fleet.position_limit_kw, T)]
        cost += regulariser / 2 * (cp.sum_squares(p_plus) + cp.sum_squares(p_minus))
    else:
        committed = start.position_kw[:, first_hour:].T
        p_plus, p_minus = cp.Constant(np.maximum(committed, 0)), cp.Constant(np.maximum(-committed, 0))
    cost += dt_h * cp.sum(prices.da_buy @ p_plus - prices.da_sell @ p_minus)

    # Trades
    traded = market_trades(community, prices.p2p, regulariser)
    observed = np.arange(T)[:, None] < (start.position_kw is not None)
    curtail = cp.Variable((T, N), nonneg=True)
    constraints += [
        *traded.constraints,
        curtail <= np.where(observed, scenarios.mean_pv_kw, 0.0),
        traded.sold_kw <= scenarios.mean_pv_kw - curtail,
    ]
    cost += traded.cost_ct

    # Battery
    charge, discharge = cp.Variable((T, N), nonneg=True), cp.Variable((T, N), nonneg=True)
    stored = charge @ np.diag(fleet.charge_efficiency) - discharge @ np.diag(1 / fleet.discharge_efficiency)
    soc = _rows(start.soc_kwh, T) + dt_h * cp.cumsum(stored, axis=0)
    constraints += [
        charge <= _rows(fleet.battery_power_kw, T), discharge <= _rows(fleet.battery_power_kw, T),
        soc >= _rows(fleet.soc_min_kwh, T), soc <= _rows(fleet.soc_max_kwh, T),
    ]  # fmt: skip
    cost += dt_h * cp.sum((cp.square(charge) + cp.square(discharge)) @ fleet.battery_wear_quadratic_ct_per_kw2h)
    cost += dt_h * cp.sum((charge + discharge) @ fleet.battery_wear_linear_ct_per_kwh)
    short_value, left_value = tariff.terminal_values(
        start.price_da_ct_per_kwh, fleet.charge_efficiency, fleet.discharge_efficiency
    )
    left = soc[T - 1] - fleet.soc_initial_kwh
    cost += cp.sum(cp.maximum(cp.multiply(-short_value, left), cp.multiply(-left_value, left)))

    # Shiftable load
    shiftable = cp.Variable((T, N), nonneg=True)
    backlog = _rows(start.backlog_kwh, T) + dt_h * cp.cumsum(
        shiftable - start.shiftable_ref_kw[first_hour:], axis=0
    )  # fmt: skip
    constraints += [
        shiftable <= _rows(fleet.shiftable_power_kw, T), backlog[T - 1] == 0,
        backlog >= _rows(fleet.backlog_min_kwh, T), backlog <= _rows(fleet.backlog_max_kwh, T),
    ]  # fmt: skip
    cost += dt_h * cp.sum(cp.square(backlog) @ fleet.discomfort_quadratic_ct_per_kwh2h)
    cost += dt_h * cp.sum(cp.abs(backlog) @ fleet.discomfort_linear_ct_per_kwhh)

    # Demand charge on the scenarios
    flexible = shiftable + charge - discharge
    for i in range(len(scenarios.load_kw)):
        peak = cp.max(scenarios.load_kw[i] - scenarios.pv_kw[i] + curtail + flexible, axis=0)
        above = cp.pos(peak - start.connection_peak_kw)
        cost += tariff.demand_charge_ct_per_kw * scenarios.weights_by_prosumer[:, i] @ above

    # The rule, its cost and its reliability; the observed hour has neither
    supply = p_plus - p_minus + traded.bought_kw - traded.sold_kw - flexible - curtail
    emergency = cp.Variable((T, N), nonneg=True)
    cost += EMERGENCY_FACTOR * dt_h * np.abs(prices.rt_buy).max() * cp.sum(emergency)
    hours = np.flatnonzero(~observed[:, 0])
    if len(hours) < T:
        lacks = scenarios.load_kw[0, 0] - scenarios.pv_kw[0, 0] - supply[0]
        cost += dt_h * cp.sum(cp.maximum(prices.rt_buy[0, 0] * lacks, prices.rt_sell[0, 0] * lacks))
    xi = deviations.of(scenarios.load_kw - scenarios.pv_kw)
    count = len(deviations.samples_pu)
    rules = []
    for n in range(N if hours.size else 0):
        nominal_kw, band_kw = deviations.nominal_kw[n], robustness.band_kw[n]
        low, high = deviations.low_pu[hours, n], deviations.high_pu[hours, n]
        box = Polytope.box(low, high)
        in_cost = Ball(xi[:, hours, n], scenarios.weights_by_prosumer[n], robustness.rho_obj, box, 1)
        in_chance = Ball(
            deviations.samples_pu[:, hours, n], np.full(count, 1 / count), robustness.rho_cc, box, norm
        )  # fmt: skip
        Q, more = _rule(len(hours), full_rule)
        rules.append(Q)
        constraints += more
        buy, sell = dt_h * prices.rt_buy[:, hours], dt_h * prices.rt_sell[:, hours]
        if not full_rule:
            worst, more = separable_cost(in_cost, low, high, nominal_kw * cp.diag(Q), buy, sell)
            cost += worst
            constraints += more
        for k, h in enumerate(hours):
            answer = Q[k] * nominal_kw
            ends = cp.multiply(answer, high), cp.multiply(answer, low)
            if np.isfinite(band_kw):
                constraints += [cp.sum(cp.maximum(*ends)) <= band_kw, cp.sum(cp.minimum(*ends)) >= -band_kw]
            if full_rule:
                slopes = [price[:, [k]] @ cp.reshape(answer, (1, len(hours)), order="C") for price in (buy, sell)]
                worst, more = worst_case_expectation(in_cost, slopes, [0.0, 0.0])
                cost += worst
                constraints += more
            slope = nominal_kw * np.eye(len(hours))[k] - answer
            short = deviations.expected_kw[h, n] - supply[h, n]
            if robustness.surplus_kw is None:
                constraints += chance_rows(in_chance, slope, short - emergency[h, n], robustness.level)
            else:
                lacks, too_much = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
                constraints += [lacks + too_much <= emergency[h, n]]
                constraints += chance_rows(in_chance, slope, short - lacks, robustness.level)
                over = -short - robustness.surplus_kw[n] - too_much
                constraints += chance_rows(in_chance, -slope, over, robustness.level)
    return RobustReference(
        cp.Problem(cp.Minimize(cost), constraints), p_plus - p_minus, charge - discharge, shiftable, rules, emergency
    )


def _rule(size: int, full: bool) -> tuple[Any, list[Any]]:
    """Q [h,h] and its rows: a diagonal between 0 and 1, and below it, if `full`, anything; never above it."""
    if not full:
        theta = cp.Variable(size, nonneg=True)
        return cp.diag(theta), [theta <= 1]
    Q = cp.Variable((size, size))
    rows = [cp.diag(Q) >= 0, cp.diag(Q) <= 1]
    if size > 1:
        rows.append(Q[np.triu_indices(size, 1)] == 0)
    return Q, rows


def _rows(values: FloatArray, num_rows: int) -> FloatArray:
    return np.tile(values, (num_rows, 1))
