"""Days of the data replayed with a rule, hour by hour, and what they cost: arithmetic, for tuning. No simulator.

Axis letters: N prosumers, H hours of a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.planning import Plan
from prosumer_gym.baselines.rules import RulePolicy, soc_after
from prosumer_gym.datasets.schema import Dataset


def replay_day(policy: RulePolicy, dataset: Dataset, row: int, gate: Mapping[str, Any]) -> Plan:
    """What a fitted rule does on a day that is an episode of its own, as a plan that came about as it stands.

    Args:
        policy: fitted.
        dataset: staged days.
        row: the day.
        gate: its observation at the gate.
    """
    community, fleet = policy.community, policy.community.fleet
    position_kw = np.clip(policy.plan(gate), -fleet.position_limit_kw[:, None], fleet.position_limit_kw[:, None])
    soc_kwh, backlog_kwh = np.array(gate["soc_kwh"]), np.array(gate["backlog_kwh"])
    peak_kw = np.zeros(len(fleet))
    moves = []
    for hour in range(community.hours_per_day):
        obs = {
            **gate,
            "stage": np.ones(1), "hour": np.full(1, float(hour)),
            "load_kw": dataset.load_kw[row], "pv_kw": dataset.pv_kw[row], "passive_pu": dataset.passive_pu[row],
            "price_rt_ct_per_kwh": dataset.price_rt_ct_per_kwh[row], "position_kw": position_kw,
            "soc_kwh": soc_kwh, "backlog_kwh": backlog_kwh, "connection_peak_kw": peak_kw,
        }  # fmt: skip
        slot = policy.observed(obs)
        move = policy.rule(slot)
        moves.append(move)
        soc_kwh = soc_after(fleet, move.battery_kw, soc_kwh, community.dt_h)
        backlog_kwh = backlog_kwh + community.dt_h * (move.shiftable_kw - slot.shiftable_ref_kw)
        net_kw = slot.load_kw - slot.pv_kw + move.curtail_kw + move.shiftable_kw + move.battery_kw
        peak_kw = np.maximum(peak_kw, net_kw)

    def stacked(field: str) -> FloatArray:
        return np.stack([getattr(move, field) for move in moves])

    return Plan(
        position_kw=position_kw, battery_kw=stacked("battery_kw"), shiftable_kw=stacked("shiftable_kw"),
        curtail_kw=stacked("curtail_kw"), trade_kw=stacked("trade_kw"), market=community.market,
        objective_ct=float("nan"), lower_bound_ct=float("nan"), solver="rule", fallbacks=(),
    )  # fmt: skip
