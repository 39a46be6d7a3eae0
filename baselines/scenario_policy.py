"""Policies that plan the community's day on scenarios: all of them here but for the scenarios.

Axis letters: N prosumers, H hours of a day, D days, S scenarios, h remaining hours.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import replace

import numpy as np

from prosumer_gym.actions import Dispatch
from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.day_ahead import DayStart, Plan, Scenarios, solve_core
from prosumer_gym.baselines.network import MARGIN_PU, PRICE_CT_PER_PU_H, NetworkPenalty
from prosumer_gym.baselines.policy import MODES, Observation, TwoStagePolicy, at_gate, hour_of, obs_array
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

NUM_SCENARIOS = 50
SOLVER_FELL_BACK = "a plan left to the second solver"


class ScenarioPolicy(TwoStagePolicy):
    """Plans the community's day at the gate: what its kinds differ in is `scenarios`.

    Mode "open_loop": the plan of the gate is followed, battery, shiftable load and trades, the latter offered by all
    concerned; nothing is curtailed and only the imbalance reacts. Mode "mpc": the position stands, and every hour the
    rest of the day is planned anew, with the hour's load, PV and price as observed, the same in every scenario.

    With `network` every plan, in both modes, also pays for voltages that it expects beyond the limits of the feeder
    (`network`); what the rest of the feeder consumes is expected to be the mean of the past days, and known in the hour
    that is observed.

    `fallbacks` counts since `reset` (`policy`). Raises `UsageError` for an unknown mode.
    """

    def __init__(self, mode: str = "mpc", *, network: bool = False) -> None:
        if mode not in MODES:
            raise UsageError(f"mode {mode!r} is not known; choose one of: {', '.join(MODES)}")
        self.mode = mode
        self.network = network
        if network:
            self.network_price_ct_per_pu_h = PRICE_CT_PER_PU_H
            self.network_margin_pu = MARGIN_PU
        self.fallbacks: Counter[str] = Counter()
        self._plan: Plan | None = None

    @abstractmethod
    def scenarios(self, obs: Observation) -> Scenarios:
        """What the hours `hour_of(obs)` ... H-1 may bring; in real time the first one is overwritten as observed."""

    def reset(self, seed: int) -> None:
        """Forget the day's plan, and what was counted."""
        super().reset(seed)
        self.fallbacks = Counter()
        self._plan = None

    def plan(self, obs: Observation) -> FloatArray:
        """The position of the day's plan [N,H]."""
        self._plan = None  # of the day before: where none is found today, it must not be followed
        self._plan = self._solve(obs, self.scenarios(obs), None)
        return self._plan.position_kw

    def dispatch(self, obs: Observation) -> Dispatch:
        """The hour as the gate planned it, or the first hour of a new plan."""
        if self.mode == "mpc":
            scenarios = observed_first(self.scenarios(obs), obs)
            return _hour_of_plan(self._solve(obs, scenarios, obs_array(obs, "position_kw")), 0)
        if self._plan is None:
            raise UsageError(
                f"{type(self).__name__}: an open-loop policy follows the plan of the gate, and it has not seen the "
                "gate of this day; let it act there first"
            )
        return _hour_of_plan(self._plan, hour_of(obs))

    def _solve(self, obs: Observation, scenarios: Scenarios, position_kw: FloatArray | None) -> Plan:
        plan = solve_core(self.community, day_start(obs, position_kw), scenarios, network=self._penalty(obs))
        return self.counted(plan)

    def counted(self, plan: Plan) -> Plan:
        """The plan, counted if the first solver had failed."""
        if plan.fallbacks:
            self.fallbacks[SOLVER_FELL_BACK] += 1
        return plan

    def _penalty(self, obs: Observation) -> NetworkPenalty | None:
        if not self.network:
            return None
        return NetworkPenalty.lindistflow(
            self.community,
            expected_passive_pu(obs),
            price_ct_per_pu_h=self.network_price_ct_per_pu_h,
            margin_pu=self.network_margin_pu,
        )


def _hour_of_plan(plan: Plan, hour: int) -> Dispatch:
    return Dispatch(
        battery_kw=plan.battery_kw[hour],
        shiftable_kw=plan.shiftable_kw[hour],
        curtail_kw=plan.curtail_kw[hour],
        offers=plan.offers(hour),
    )


def day_start(obs: Observation, position_kw: FloatArray | None) -> DayStart:
    """Where the day stands by an observation: at the gate without a position, in an hour of the day with it [N,H]."""
    return DayStart(
        start_hour=hour_of(obs),
        soc_kwh=obs_array(obs, "soc_kwh"),
        backlog_kwh=obs_array(obs, "backlog_kwh"),
        connection_peak_kw=obs_array(obs, "connection_peak_kw"),
        shiftable_ref_kw=obs_array(obs, "shiftable_ref_kw"),
        price_da_ct_per_kwh=obs_array(obs, "price_da_ct_per_kwh"),
        position_kw=position_kw,
    )


def observed_first(scenarios: Scenarios, obs: Observation) -> Scenarios:
    """The scenarios with their first hour as `obs` shows it: its load, PV and price are not uncertain any more."""
    hour = hour_of(obs)
    seen = {}
    for name in ("load_kw", "pv_kw", "price_rt_ct_per_kwh"):
        seen[name] = np.array(getattr(scenarios, name), dtype=np.float64)
        seen[name][:, 0] = obs_array(obs, name)[hour]
    return replace(scenarios, **seen)


def expected_passive_pu(obs: Observation) -> FloatArray:
    """What the rest of the feeder is expected to consume in the hours `hour_of(obs)` ... H-1, multiples of nominal [h].

    The mean of the past days; as observed in the hour that is played.
    """
    hour = hour_of(obs)
    expected: FloatArray = obs_array(obs, "past_passive_pu").mean(axis=0)[hour:]
    if not at_gate(obs):
        expected[0] = obs_array(obs, "passive_pu")[hour]
    return expected


def equally_spaced_days(history: Dataset, num_days: int = NUM_SCENARIOS) -> IntArray:
    """Places of `num_days` training days among all, in date order and equally spaced; all of them when fewer [S]."""
    num_training = int(history.is_training.sum())
    return np.linspace(0, num_training - 1, min(num_days, num_training)).round().astype(np.int64)


def uniform_scenarios(load_kw: FloatArray, pv_kw: FloatArray, price_rt_ct_per_kwh: FloatArray) -> Scenarios:
    """Scenarios of equal weight from arrays [S,h,N], [S,h,N] and [S,h]."""
    num = len(load_kw)
    return Scenarios(load_kw, pv_kw, price_rt_ct_per_kwh, weights=np.full(num, 1.0 / num))
