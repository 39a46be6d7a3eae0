"""The days of the rows beside the policies: reference, perfect day-ahead, oracles. They are handed the actuals.

Axis letters: N prosumers, H hours of a day.
"""

from __future__ import annotations

import time

import numpy as np

from prosumer_gym.actions import DayActions
from prosumer_gym.baselines.oracle import OracleDay, oracle_cost, oracle_peak, perfect_day_ahead
from prosumer_gym.baselines.oracle_voltage import oracle_voltage
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.leaderboard.entries import ORACLES, PERFECT_DAY_AHEAD, REFERENCE
from prosumer_gym.leaderboard.play import DayLog
from prosumer_gym.reference import no_control_dispatch, no_control_position


def anchor_day(name: str, community: Community, dataset: Dataset, row: int) -> DayLog:
    """The day in row `row` of the staged data as the anchor `name` plays it; its one decision is the day-ahead one."""
    started = time.perf_counter()
    bound, gap = float("nan"), 0.0
    if name == REFERENCE:
        actions = no_control_day(community, dataset, row)
    elif name == PERFECT_DAY_AHEAD:
        (actions,) = perfect_day_ahead(dataset.exogenous, [row], community)
    else:
        day, bound = _oracle_day(name, community, dataset, row)
        actions, gap = day.actions, day.gap * (1.0 + abs(bound))
    decision_s = np.zeros(community.hours_per_day + 1)
    decision_s[0] = time.perf_counter() - started
    return DayLog(actions, 0, 0, "", decision_s, bound, gap)


def _oracle_day(name: str, community: Community, dataset: Dataset, row: int) -> tuple[OracleDay, float]:
    """The day as the oracle `name` plays it, and what it attains in its metric."""
    world = (community, dataset.exogenous, [row])
    if name == ORACLES["cost"]:
        (cheapest,) = oracle_cost(*world)
        return cheapest, cheapest.objective_ct
    if name == ORACLES["peak"]:
        (flattest,) = oracle_peak(*world)
        return flattest, flattest.peak_kw
    (steadiest,) = oracle_voltage(*world)
    return steadiest, steadiest.voltage_pu_h


def no_control_day(community: Community, dataset: Dataset, row: int) -> DayActions:
    """Nobody steers; last week's mean net load is bought."""
    past = slice(row - LEAD_IN_DAYS, row)
    position_kw = no_control_position(
        dataset.load_kw[past],
        dataset.pv_kw[past],
        dataset.shiftable_ref_kw[row],
        community.fleet.position_limit_kw,
    )
    hours = [no_control_dispatch(hour_kw, community.num_offers) for hour_kw in dataset.shiftable_ref_kw[row]]
    return DayActions.from_steps(position_kw, hours)
