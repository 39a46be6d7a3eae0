"""`po`: predict, then optimise.

Axis letters: as in `scenario_policy`.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.baselines.day_ahead import Scenarios
from prosumer_gym.baselines.fit_cache import cached
from prosumer_gym.baselines.forecast import DayForecaster
from prosumer_gym.baselines.policy import Observation
from prosumer_gym.baselines.scenario_policy import ScenarioPolicy, uniform_scenarios
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset


class PredictThenOptimise(ScenarioPolicy):
    """Plans on one scenario, the contextual forecast, as if it were certain (arXiv 2409.00493's baseline PO).

    It buys just the expected net load and so is exposed to imbalance being dearer one way than the other. In mode
    "mpc" the forecast of the rest of the day learns from the day's errors so far. With `permuted` it is learned from
    contexts dealt to other days at random: the control of what knowing the context is worth.
    """

    def __init__(self, mode: str = "mpc", *, permuted: bool = False, network: bool = False) -> None:
        super().__init__(mode, network=network)
        self.permuted = permuted

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn the forecast."""
        super().fit(community, history)
        self.forecaster = cached(DayForecaster.fit, history, permuted=self.permuted)

    def scenarios(self, obs: Observation) -> Scenarios:
        """One: the forecast."""
        values = self.forecaster.forecast(obs)
        return uniform_scenarios(*(v[np.newaxis] for v in values))
