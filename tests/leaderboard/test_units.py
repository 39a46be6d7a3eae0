"""Several identical units at a node: the feeder carries all of them, every other figure is that of one."""

from __future__ import annotations

import dataclasses

import numpy as np

from prosumer_gym.actions import DayActions
from prosumer_gym.leaderboard.anchors import no_control_day
from prosumer_gym.leaderboard.metrics import DayMetrics, day_metrics
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.rollout import Trace, rollout

OF_THE_FEEDER = {"voltage_pu_h", "violated_share", "worst_excess_pu", "losses_kwh", "non_converged", "par_feeder"}


def played(stage: Stage, units: int) -> tuple[DayMetrics, Trace]:
    community, rows, exogenous = stage.community, stage.rows, stage.dataset.exogenous
    community = community.replace(fleet=dataclasses.replace(community.fleet, units=np.full(10, units)))
    actions = DayActions.stack([no_control_day(community, stage.dataset, row) for row in rows.tolist()])
    trace = rollout(community, exogenous, rows, actions)
    return day_metrics(community, exogenous, rows, trace), trace


def test_the_figures_of_a_day_are_of_one_unit_but_those_of_the_feeder(stage: Stage) -> None:
    (one, one_trace), (three, three_trace) = played(stage, 1), played(stage, 3)
    for item in dataclasses.fields(DayMetrics):
        same = np.array_equal(getattr(one, item.name), getattr(three, item.name), equal_nan=True)
        assert same or item.name in OF_THE_FEEDER, item.name
    assert (three.losses_kwh != one.losses_kwh).all()
    assert three.voltage_pu_h.sum() > one.voltage_pu_h.sum()
    # at the substation two more units of everybody are seen
    more_kw = (three_trace.slack_kw - three_trace.losses_kw) - (one_trace.slack_kw - one_trace.losses_kw)
    np.testing.assert_allclose(more_kw, 2.0 * one_trace.exchange_kw, atol=1e-6)
