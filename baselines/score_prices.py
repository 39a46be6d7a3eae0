"""What the score pays for a lower peak and for better voltages, in money.

A board adds up, with weights w, what of the way from nobody steering (the reference) to perfect foresight was covered
in cost C, peak ratio P (max_h G+ over the mean gross demand of the day) and voltage violation V, over all days:

    J = w_C (C_ref - C) / (C_ref - C_ideal) + w_P (P_ref - P) / (P_ref - P_ideal) + w_V (V_ref - V) / V_ref

To maximise J is to minimise C + a P + b V with the prices

    a = w_P / w_C (C_ref - C_ideal) / (P_ref - P_ideal)      b = w_V / w_C (C_ref - C_ideal) / V_ref

so that there is nothing to tune: how far reference and perfect foresight are apart is learned on training days. Where
they are not, a metric scores nothing and its price is 0.

Axis letters: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.network import ac_voltages
from prosumer_gym.baselines.oracle import oracle_cost, oracle_peak
from prosumer_gym.baselines.planning import DayStart, Plan, Scenarios, evaluate
from prosumer_gym.baselines.trades import trade_form
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.reference import no_control_position

SHARES = {"cost": 0.6, "peak": 0.2, "voltage": 0.2}
"""Of the metrics in J."""


class DayGap(NamedTuple):
    """Where reference and perfect foresight stand on a day."""

    reference_ct: float
    ideal_ct: float
    reference_peak: float
    """Peak over mean gross demand."""
    ideal_peak: float
    reference_pu_h: float
    """Voltage violation; without is ideal."""


class ScorePrices(NamedTuple):
    """What is added to the cost of a day."""

    peak_ct: float
    """For each unit of the peak ratio."""
    voltage_ct_per_pu_h: float


def score_prices(gaps: list[DayGap]) -> ScorePrices:
    """The prices at which cost, peak and voltages count as they do in the score."""
    total = DayGap(*np.sum(gaps, axis=0).tolist())
    cost_ct = total.reference_ct - total.ideal_ct

    def price(share: float, gap: float) -> float:
        return max(0.0, share / SHARES["cost"] * cost_ct / gap) if gap > _NO_GAP else 0.0

    return ScorePrices(
        peak_ct=price(SHARES["peak"], total.reference_peak - total.ideal_peak),
        voltage_ct_per_pu_h=price(SHARES["voltage"], total.reference_pu_h),
    )


_NO_GAP = 1e-9


def day_gaps(community: Community, history: Dataset, rows: IntArray) -> list[DayGap]:
    """Reference and perfect foresight on the days in `rows` of a history [D]; each with its lead-in before it.

    Raises `SolverError` when a day is not solved within tolerance.
    """
    exogenous = history.exogenous
    days = rows.tolist()
    cheapest, flattest = oracle_cost(community, exogenous, days), oracle_peak(community, exogenous, days)
    gaps = []
    for row, cheap, flat in zip(days, cheapest, flattest, strict=True):
        load_kw, reference_kw = history.load_kw[row], history.shiftable_ref_kw[row]
        drawn_kw = load_kw + reference_kw - history.pv_kw[row]  # [H,N]
        gross_kw = float((load_kw + reference_kw).sum(axis=1).mean())
        gaps.append(
            DayGap(
                reference_ct=_reference_cost_ct(community, history, row),
                ideal_ct=cheap.objective_ct,
                reference_peak=max(0.0, float(drawn_kw.sum(axis=1).max())) / gross_kw,
                ideal_peak=float(flat.peak_kw[0]) / gross_kw,
                reference_pu_h=_violation_pu_h(
                    community, history.passive_pu[row], drawn_kw, load_kw + reference_kw
                ),
            )
        )  # fmt: skip
    return gaps


def _reference_cost_ct(community: Community, history: Dataset, row: int) -> float:
    """Cost of a day on which nobody steers."""
    fleet, past = community.fleet, slice(row - LEAD_IN_DAYS, row)
    reference_kw = history.shiftable_ref_kw[row]
    idle = np.zeros_like(reference_kw)
    plan = Plan(
        position_kw=no_control_position(
            history.load_kw[past], history.pv_kw[past], reference_kw, fleet.position_limit_kw
        ),
        battery_kw=idle,
        shiftable_kw=reference_kw,
        curtail_kw=idle,
        trade_kw=np.zeros((len(idle), len(trade_form(community).limit_kw))),
        market=community.market,
        objective_ct=np.nan,
        lower_bound_ct=np.nan,
        solver="",
        fallbacks=(),
    )
    start = DayStart(
        start_hour=0,
        soc_kwh=fleet.soc_initial_kwh,
        backlog_kwh=np.zeros(len(fleet)),
        connection_peak_kw=np.zeros(len(fleet)),
        shiftable_ref_kw=reference_kw,
        price_da_ct_per_kwh=history.price_da_ct_per_kwh[row],
    )
    actual = Scenarios(
        history.load_kw[[row]], history.pv_kw[[row]], history.price_rt_ct_per_kwh[[row]], weights=np.ones(1)
    )
    return evaluate(plan, community, start, actual).total_ct


def _violation_pu_h(
    community: Community, passive_pu: FloatArray, drawn_kw: FloatArray, consumed_kw: FloatArray
) -> float:
    """Excess of the voltages beyond the limits, all buses and hours; a dead bus lacks all of the lower limit."""
    feeder = community.feeder
    v_pu, converged = ac_voltages(community, passive_pu, drawn_kw, consumed_kw)
    excess_pu = np.maximum(np.maximum(feeder.v_min_pu - v_pu, v_pu - feeder.v_max_pu), 0.0)
    dead_pu = np.full(excess_pu.shape, feeder.v_min_pu)
    dead_pu[:, 0] = 0.0
    return community.dt_h * float(np.where(converged[:, np.newaxis], excess_pu, dead_pu).sum())
