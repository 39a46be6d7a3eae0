"""`er-saa`: sample average approximation on a forecast with empirical residuals.

Axis letters: as in `scenario_policy`.
"""

from __future__ import annotations

from prosumer_gym.baselines.day_ahead import Scenarios
from prosumer_gym.baselines.fit_cache import cached
from prosumer_gym.baselines.forecast import DayForecaster
from prosumer_gym.baselines.policy import Observation
from prosumer_gym.baselines.scenario_policy import ScenarioPolicy, equally_spaced_days, uniform_scenarios
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset


class ResidualSampleAverage(ScenarioPolicy):
    """Plans on the contextual forecast with the errors that it made on 50 training days added, one day a scenario.

    The errors are out of fold, or the plan would trust the forecast too much: the jackknife variant of ER-SAA of
    Kannan, Bayraksan and Luedtke (arXiv 2207.13554). A day's errors are added together, for all prosumers, hours and
    the price, so that what goes wrong together does so in the scenarios. In mode "mpc" forecast and errors of the rest
    of the day are those that remain once the day's errors so far are known. With `permuted` forecast and errors are
    learned from contexts dealt to other days at random.
    """

    def __init__(self, mode: str = "mpc", *, permuted: bool = False, network: bool = False) -> None:
        super().__init__(mode, network=network)
        self.permuted = permuted

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn the forecast and its errors."""
        super().fit(community, history)
        self.forecaster = cached(DayForecaster.fit, history, permuted=self.permuted)
        self.days = equally_spaced_days(history)

    def scenarios(self, obs: Observation) -> Scenarios:
        """Forecast plus errors, within what is physically possible."""
        return uniform_scenarios(*self.forecaster.scenarios(obs, self.days))
