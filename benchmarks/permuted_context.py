"""The permuted-context control: what `po` and `er-saa` are worth when the context tells them nothing.

    cd benchmarks
    prosumer-gym bench --mode open_loop \
        --policies saa,po,er-saa,permuted_context:PermutedPo,permuted_context:PermutedErSaa

The forecasts of these two are learned from training days whose contexts (weather forecasts, prices, calendar, the days
before) have been dealt to other days at random. If knowing the context is what helps, nothing of the gain over `saa`
may be left; if a gain survives, it comes from something else, such as averaging.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.er_saa import ResidualSampleAverage
from prosumer_gym.baselines.forecast import DayForecaster, DayValues, ErrorUpdate, GateForecast, out_of_fold_forecast
from prosumer_gym.baselines.po import PredictThenOptimise
from prosumer_gym.baselines.scenario_policy import ScenarioPolicy, equally_spaced_days
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset

SEED = 0


def permuted_forecaster(history: Dataset) -> DayForecaster:
    """As `DayForecaster.fit`, with the contexts of the training days dealt out at random."""
    rows = np.flatnonzero(history.is_training).astype(np.int64)
    dealt = np.random.default_rng(SEED).permutation(rows.size)
    context, values = Context.from_history(history, rows).take(dealt), DayValues.of_history(history, rows)
    errors = values.series() - out_of_fold_forecast(context, values, rows, history.block[rows]).series()
    return DayForecaster(GateForecast.fit(context, values), ErrorUpdate.fit(errors), errors)


class PermutedPo(PredictThenOptimise):
    """`po` with a forecast that has learned from the wrong contexts."""

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn from permuted contexts."""
        ScenarioPolicy.fit(self, community, history)
        self.forecaster = permuted_forecaster(history)


class PermutedErSaa(ResidualSampleAverage):
    """`er-saa` likewise."""

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn from permuted contexts."""
        ScenarioPolicy.fit(self, community, history)
        self.forecaster = permuted_forecaster(history)
        self.days = equally_spaced_days(history)
