"""`ours`: what the results of the other policies teach, in one.

Axis letters: N prosumers, S scenarios, H hours of a day, h remaining hours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, Plan, Scenarios, plan_of, solve_matrices
from prosumer_gym.baselines.fit_cache import cached
from prosumer_gym.baselines.forecast import DayForecaster
from prosumer_gym.baselines.network import MARGIN_PU, NetworkPenalty
from prosumer_gym.baselines.peak import PeakPrice, build_with_peak
from prosumer_gym.baselines.policy import Observation, at_gate, hour_of, obs_array
from prosumer_gym.baselines.recourse import solve_recourse
from prosumer_gym.baselines.scenario_policy import (
    NUM_SCENARIOS,
    ScenarioPolicy,
    day_start,
    equally_spaced_days,
    expected_passive_pu,
    uniform_scenarios,
)
from prosumer_gym.baselines.score_prices import day_gaps, score_prices
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset

FEW = 5
"""Scenarios of a plan with recourse: each is a whole day of the community in the program."""
TOLERANCE = 1e-6
"""Scaled residuals of a plan: some of these large programs stop just short of less."""


class Ours(ScenarioPolicy):
    """Plans for what is scored, on the forecast and its errors, and knows that it will plan again.

    - The objective: a plan pays for the community's peak (`peak`) and for voltages beyond the limits (`network`) what
      the score pays for them, in money (`score_prices`), learned on training days.
    - In mode "mpc" the plan is one with recourse (`recourse`): at the gate only the position is decided, in an hour
      only that hour. It has few scenarios, forecast plus errors that are zero in the mean.
    - In mode "open_loop" nothing but the imbalance will react: the plan is that of the core problem, on 50 scenarios.

    With `permuted` forecast and errors are learned from contexts dealt to other days at random.
    """

    def __init__(self, mode: str = "mpc", *, permuted: bool = False) -> None:
        super().__init__(mode)
        self.network = True
        self.permuted = permuted
        self.num_scenarios = FEW if mode == "mpc" else NUM_SCENARIOS

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn the forecast and its errors, and what the score pays."""
        super().fit(community, history)
        forecaster = cached(DayForecaster.fit, history, permuted=self.permuted)
        days = equally_spaced_days(history, self.num_scenarios)
        errors = forecaster.errors[days]
        self.forecaster = replace(forecaster, errors=errors - errors.mean(axis=0))
        sample = np.flatnonzero(history.is_training)[equally_spaced_days(history)]
        self.prices = score_prices(day_gaps(community, history, sample))

    def scenarios(self, obs: Observation) -> Scenarios:
        """Forecast plus errors, within what is physically possible."""
        return uniform_scenarios(*self.forecaster.scenarios(obs, np.arange(len(self.forecaster.errors))))

    def _solve(self, obs: Observation, scenarios: Scenarios, position_kw: FloatArray | None) -> Plan:
        start, peak, network = day_start(obs, position_kw), self.peak_price(obs, scenarios), self._penalty(obs)
        if self.mode == "mpc":
            plan = solve_recourse(self.community, start, scenarios, peak=peak, network=network, tolerance=TOLERANCE)
        else:
            matrices = build_with_peak(
                self.community, start, scenarios, peak, regulariser=REGULARISER_CT_PER_KW2, network=network
            )
            plan = plan_of(self.community, start, matrices, solve_matrices(matrices, tolerance=TOLERANCE))
        return self.counted(plan)

    def peak_price(self, obs: Observation, scenarios: Scenarios) -> PeakPrice:
        """What the score pays for a kW, by the gross demand that is expected of the day."""
        over = obs_array(obs, "load_kw")[: hour_of(obs)]  # what the hours before have shown
        load_kw = np.concatenate([over, scenarios.mean_load_kw])
        gross_kw = float((load_kw + obs_array(obs, "shiftable_ref_kw")).sum(axis=1).mean())
        so_far_kw = 0.0 if at_gate(obs) else float(obs_array(obs, "community_peak_kw")[0])
        return PeakPrice(self.prices.peak_ct / gross_kw if gross_kw > 0 else 0.0, so_far_kw)

    def _penalty(self, obs: Observation) -> NetworkPenalty:
        return NetworkPenalty.lindistflow(
            self.community,
            expected_passive_pu(obs),
            price_ct_per_pu_h=self.prices.voltage_ct_per_pu_h,
            margin_pu=MARGIN_PU,
        )
