"""`saa`: sample average approximation on training days.

Axis letters: as in `scenario_policy`.
"""

from __future__ import annotations

from prosumer_gym.baselines.day_ahead import Scenarios
from prosumer_gym.baselines.forecast import DayValues
from prosumer_gym.baselines.policy import Observation, hour_of
from prosumer_gym.baselines.scenario_policy import ScenarioPolicy, equally_spaced_days, uniform_scenarios
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset


class SampleAverage(ScenarioPolicy):
    """Plans on 50 training days of equal weight, spread evenly over the history (arXiv 2409.00493's baseline SAA).

    It knows how days vary, and ignores what is known about this one. In mode "mpc" the hours to come stay those of
    the training days: only the hour that is played is the day's own.
    """

    def fit(self, community: Community, history: Dataset) -> None:
        """Choose the days."""
        super().fit(community, history)
        rows = history.is_training.nonzero()[0][equally_spaced_days(history)]
        self.days = DayValues.of_history(history, rows)

    def scenarios(self, obs: Observation) -> Scenarios:
        """The training days, from this hour on."""
        return uniform_scenarios(*(v[:, hour_of(obs) :] for v in self.days))
