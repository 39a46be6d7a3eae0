"""`knn`, `kernel` and `forest`: sample averages weighted by how alike the days are.

Bertsimas and Kallus, "From predictive to prescriptive analytics" (Management Science 66, 2020); with k nearest
neighbours the baseline kNN of arXiv 2409.00493.

Axis letters: D training days, N prosumers, S scenarios, H hours of a day, P features.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.day_ahead import Plan, Scenarios
from prosumer_gym.baselines.fit_cache import cached
from prosumer_gym.baselines.forecast import TrainingDays
from prosumer_gym.baselines.leaf_weights import LeafWeights
from prosumer_gym.baselines.policy import Observation, hour_of
from prosumer_gym.baselines.scenario_policy import NUM_SCENARIOS, ScenarioPolicy
from prosumer_gym.baselines.tuned import Parameters, Tuned, tuned_for
from prosumer_gym.baselines.weights import (
    ContextScaler,
    distances,
    heaviest,
    kernel,
    knn,
    prosumer_features,
    usual_bandwidth,
)
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset


class WeightedSampleAverage(ScenarioPolicy):
    """Plans on actual training days, which count the more for a prosumer the more alike their contexts are to today's.

    Every prosumer weighs the days by what it knows itself; a scenario is one and the same day for all of them, so that
    what goes together stays together. In mode "mpc" the hours to come stay those of the training days, with the weights
    of the gate: only the hour that is played is the day's own. With `permuted` the contexts of the training days are
    dealt to other days at random: the control of what knowing the context is worth.

    A kind has one parameter: the one it is made with, else the one tuned for the days it is fitted on, else a default.
    """

    tuned_as: ClassVar[str]
    """Name of the file of tuned parameters."""

    def __init__(self, mode: str, asked: dict[str, int | float | None], *, permuted: bool, network: bool) -> None:
        super().__init__(mode, network=network)
        self.permuted = permuted
        self._asked = {name: value for name, value in asked.items() if value is not None}

    @classmethod
    @abstractmethod
    def candidates(cls, num_days: int) -> list[Parameters]:
        """What tuning chooses from, besides the default, where at least `num_days` training days are at hand."""

    @classmethod
    @abstractmethod
    def default(cls, num_days: int, num_features: int) -> Parameters:
        """The parameter where nothing was tuned for D training days of P features."""

    @classmethod
    def default_for(cls, history: Dataset) -> Parameters:
        """The parameter where nothing was tuned for this history."""
        rows = np.flatnonzero(history.is_training).astype(np.int64)
        return cls.default(rows.size, prosumer_features(Context.from_history(history, rows[:1])).shape[-1])

    @abstractmethod
    def weights(self, context: Context) -> FloatArray:
        """How much each training day tells each prosumer about the one day of a context [N,D]."""

    def _parameters(self, history: Dataset) -> Tuned:
        if self._asked:
            return Tuned(self._asked, "as asked for", "")
        found = tuned_for(self.tuned_as, history)
        return found if found.parameters else found._replace(parameters=self.default_for(history))

    def tuned_settings(self, history: Dataset) -> dict[str, int | float | str]:
        """What a fit on `history` will use, and where it comes from. Raises `UsageError` as `tuned_for`."""
        parameters, source, passed_over = self._parameters(history)
        return {**parameters, "parameters": source, **({"passed_over": passed_over} if passed_over else {})}

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn where the training days lie among one another."""
        super().fit(community, history)
        days = TrainingDays.of_history(history, permuted=self.permuted)
        self.days = days.values
        self.scaler = ContextScaler.fit(days.context)
        self.vectors = self.scaler.vectors(days.context)  # [D,N,P]
        vars(self).update(self._parameters(history).parameters)
        self.learn(history)
        self.weights(days.context.take(np.array([0])))  # a parameter that cannot be is an error now, not every day

    def learn(self, history: Dataset) -> None:
        """Learn what weighing needs besides."""

    def day_plan(self, obs: Observation) -> Plan:
        """The plan for the day of an observation at the gate."""
        self.plan(obs)
        assert self._plan is not None
        return self._plan

    def scenarios(self, obs: Observation) -> Scenarios:
        """The training days that count for anybody, from this hour on."""
        weights = self.weights(Context.from_observation(obs))
        kept = np.flatnonzero(weights.any(axis=0))
        load_kw, pv_kw, price_rt_ct_per_kwh = (values[kept, hour_of(obs) :] for values in self.days)
        return Scenarios(load_kw, pv_kw, price_rt_ct_per_kwh, weights[:, kept])

    def distances(self, context: Context) -> FloatArray:
        """From the one day of a context to each training day [N,D]."""
        return np.asarray(distances(self.scaler.vectors(context), self.vectors)[0])


class NearestDays(WeightedSampleAverage):
    """The k days whose contexts are nearest count the same, the others nothing. By default k is the root of D."""

    tuned_as = "knn"
    k: int

    def __init__(
        self, mode: str = "mpc", *, k: int | None = None, permuted: bool = False, network: bool = False
    ) -> None:
        super().__init__(mode, {"k": k}, permuted=permuted, network=network)

    @classmethod
    def candidates(cls, num_days: int) -> list[Parameters]:
        """From the single nearest day to 90."""
        return [{"k": k} for k in (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90) if k <= num_days]

    @classmethod
    def default(cls, num_days: int, num_features: int) -> Parameters:  # noqa: ARG003
        """The root of the number of days, rounded up."""
        return {"k": math.ceil(math.sqrt(num_days))}

    def weights(self, context: Context) -> FloatArray:
        """1/k each."""
        return knn(self.distances(context), self.k)


class KernelDays(WeightedSampleAverage):
    """Nadaraya-Watson: days count by a Gaussian kernel of the distance of their contexts, the 50 heaviest of them.

    The bandwidth is in standard deviations of the features; by default it is half the root of their number.
    """

    tuned_as = "kernel"
    bandwidth: float

    def __init__(
        self, mode: str = "mpc", *, bandwidth: float | None = None, permuted: bool = False, network: bool = False
    ) -> None:
        super().__init__(mode, {"bandwidth": bandwidth}, permuted=permuted, network=network)

    @classmethod
    def candidates(cls, num_days: int) -> list[Parameters]:  # noqa: ARG003
        """From next to one day to next to all alike."""
        return [{"bandwidth": width} for width in (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)]

    @classmethod
    def default(cls, num_days: int, num_features: int) -> Parameters:  # noqa: ARG003
        """As far as a third of the usual distance."""
        return {"bandwidth": round(usual_bandwidth(num_features), 4)}

    def weights(self, context: Context) -> FloatArray:
        """By distance."""
        return heaviest(kernel(self.distances(context), self.bandwidth), NUM_SCENARIOS)


class ForestDays(WeightedSampleAverage):
    """Days count by how often a random forest puts them into the leaf of today's context, the 50 heaviest of them.

    The forest of a prosumer learns which features matter: its trees tell days apart by net load and price. By default
    a leaf holds at least 5 days.
    """

    tuned_as = "forest"
    min_leaf: int

    def __init__(
        self, mode: str = "mpc", *, min_leaf: int | None = None, permuted: bool = False, network: bool = False
    ) -> None:
        super().__init__(mode, {"min_leaf": min_leaf}, permuted=permuted, network=network)

    @classmethod
    def candidates(cls, num_days: int) -> list[Parameters]:
        """Leaves of one day to a fifth of them."""
        return [{"min_leaf": size} for size in (1, 2, 3, 5, 10, 20) if size <= max(1, num_days // 5)]

    @classmethod
    def default(cls, num_days: int, num_features: int) -> Parameters:  # noqa: ARG003
        """The usual size of a regression tree's leaves."""
        return {"min_leaf": min(5, num_days)}

    def learn(self, history: Dataset) -> None:
        """Grow the forests."""
        self.forests = cached(grow, history, min_leaf=self.min_leaf, permuted=self.permuted)

    def weights(self, context: Context) -> FloatArray:
        """By leaves."""
        return heaviest(self.forests.weights(self.scaler.vectors(context)[0]), NUM_SCENARIOS)


def grow(history: Dataset, *, min_leaf: int, permuted: bool) -> LeafWeights:
    """The forests of all prosumers."""
    days = TrainingDays.of_history(history, permuted=permuted)
    return LeafWeights.fit(ContextScaler.fit(days.context).vectors(days.context), days.values, min_leaf=min_leaf)
