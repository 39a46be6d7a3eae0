"""The days of the rows beside the policies: reference, perfect day-ahead, oracles. They are handed the actuals.

Axis letters: N prosumers, H hours of a day.
"""

from __future__ import annotations

import time

import numpy as np

from prosumer_gym.actions import DayActions, Dispatch
from prosumer_gym.baselines.oracle import oracle_cost, oracle_peak
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.leaderboard.entries import ORACLES, PERFECT_DAY_AHEAD, REFERENCE
from prosumer_gym.leaderboard.play import DayLog
from prosumer_gym.reference import net_load_position, no_control_dispatch, no_control_position

_ORACLES = {ORACLES["cost"]: oracle_cost, ORACLES["peak"]: oracle_peak}


def anchor_day(name: str, community: Community, dataset: Dataset, row: int) -> DayLog:
    """The day in row `row` as the anchor `name` plays it; its one decision is the day-ahead one."""
    started = time.perf_counter()
    gap = 0.0
    if name in _ORACLES:
        (day,) = _ORACLES[name](community, dataset.exogenous, np.array([row]))
        actions, gap = day.actions, day.gap
    else:
        actions = reference_day(community, dataset, row, perfect={REFERENCE: False, PERFECT_DAY_AHEAD: True}[name])
    decision_s = np.zeros(community.hours_per_day + 1)
    decision_s[0] = time.perf_counter() - started
    return DayLog(actions, 0, 0, "", decision_s, gap)


def reference_day(community: Community, dataset: Dataset, row: int, *, perfect: bool) -> DayActions:
    """Nobody steers; the position is last week's mean net load or, if `perfect`, the net load that came."""
    shiftable_kw = dataset.shiftable_ref_kw[row]
    limit_kw = community.fleet.position_limit_kw
    if perfect:
        position_kw = net_load_position(dataset.load_kw[row] + shiftable_kw - dataset.pv_kw[row], limit_kw)
    else:
        past = slice(row - LEAD_IN_DAYS, row)
        position_kw = no_control_position(dataset.load_kw[past], dataset.pv_kw[past], shiftable_kw, limit_kw)
    hours: list[Dispatch] = [no_control_dispatch(hour_kw, community.num_edges) for hour_kw in shiftable_kw]
    return DayActions.from_steps(position_kw, hours)
