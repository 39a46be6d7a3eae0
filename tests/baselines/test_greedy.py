from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from core_cases import random_community
from hour_cases import random_slot

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.greedy import Greedy
from prosumer_gym.baselines.hour_program import HourProgram
from prosumer_gym.community import Community


def greedy_of(community: Community) -> Any:
    policy = Greedy()
    policy.community = community
    policy.hour = HourProgram(community)
    return policy


def test_greedy_makes_no_debts() -> None:
    rng = np.random.default_rng(10)
    for _ in range(6):
        community = random_community(rng, num=4)
        slot = random_slot(rng, community, last_hour=False, negative=False)
        slot = replace(slot, least_shiftable_kw=np.zeros(4), most_shiftable_kw=np.full(4, 8.0))
        move = greedy_of(community).rule(slot)
        fleet, dt_h = community.fleet, community.dt_h
        backlog = slot.backlog_kwh + dt_h * (move.shiftable_kw - slot.shiftable_ref_kw)
        assert (backlog >= np.minimum(0.0, slot.backlog_kwh) - 1e-5).all()
        discharged = np.maximum(-move.battery_kw, 0.0)
        spare: FloatArray = np.maximum(slot.soc_kwh - fleet.soc_initial_kwh, 0.0) * fleet.discharge_efficiency / dt_h
        assert (discharged <= spare + 1e-5).all()
