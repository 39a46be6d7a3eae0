"""The episodes of the rows beside the policies: reference, perfect day-ahead, oracles. They are handed the actuals.

Axis letters: D days of an episode, N prosumers, H hours of a day.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import IntArray
from prosumer_gym.baselines.oracle import OracleEpisode, oracle_cost, oracle_peak, perfect_day_ahead
from prosumer_gym.baselines.oracle_voltage import oracle_voltage
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.leaderboard.entries import ORACLES, PERFECT_DAY_AHEAD, REFERENCE
from prosumer_gym.leaderboard.play import EpisodeLog
from prosumer_gym.reference import no_control_dispatch, no_control_position

_FIND: dict[str, Callable[..., Sequence[OracleEpisode]]] = {
    ORACLES["cost"]: oracle_cost,
    ORACLES["peak"]: oracle_peak,
    ORACLES["voltage"]: oracle_voltage,
}


def anchor_episode(name: str, community: Community, dataset: Dataset, rows: IntArray) -> EpisodeLog:
    """The episode of the rows `rows` `[D]` of the staged data as the anchor `name` plays it.

    Its one decision is the day-ahead one of the first day.
    """
    started = time.perf_counter()
    bound, gap = float("nan"), 0.0
    if name == REFERENCE:
        actions = DayActions.stack([no_control_day(community, dataset, row) for row in rows.tolist()])
    elif name == PERFECT_DAY_AHEAD:
        actions = DayActions.stack(perfect_day_ahead(dataset.exogenous, rows.tolist(), community))
    else:
        (best,) = _FIND[name](community, dataset.exogenous, [rows])
        actions, bound, gap = best.actions, best.attained, best.missed
    decision_s = np.zeros((len(rows), community.hours_per_day + 1))
    decision_s[0, 0] = time.perf_counter() - started
    nothing = np.zeros(len(rows), dtype=np.int64)
    return EpisodeLog(actions, nothing, nothing, "", decision_s, bound, gap)


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
