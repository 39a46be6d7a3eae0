"""Weights of training days from random forests: days are alike when trees put them into the same leaf.

Bertsimas and Kallus (Management Science 66, 2020): w_i(x) = mean over the trees of 1[i in the leaf of x] / size of that
leaf. The trees are grown to tell the outcomes of the training days apart, so that they choose by themselves which
features matter. One forest a prosumer, on its own context.

Axis letters: D training days, N prosumers, P features, T trees, H hours, O outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.forecast import DayValues
from prosumer_gym.errors import UsageError

NUM_TREES = 100
_PARTS_OF_DAY = 4
_SEED = 0


def outcomes(values: DayValues) -> FloatArray:
    """What the trees tell apart [D,N,O]: net load and price in each quarter of the day.

    Net load and price count the same: each has variance 1 over days and quarters together.
    """
    net_load = values.load_kw - values.pv_kw  # [D,H,N]
    price = np.repeat(values.price_rt_ct_per_kwh[:, :, np.newaxis], net_load.shape[2], axis=2)
    quarters = np.array_split(np.arange(net_load.shape[1]), min(_PARTS_OF_DAY, net_load.shape[1]))
    parts = []
    for series in (net_load, price):
        means = np.stack([series[:, hours].mean(axis=1) for hours in quarters], axis=-1)  # [D,N,quarters]
        spread = means.std(axis=0).mean(axis=-1)[np.newaxis, :, np.newaxis]
        parts.append(means / np.where(spread > 0.0, spread, 1.0))
    return np.concatenate(parts, axis=-1)


@dataclass(frozen=True, eq=False)
class LeafWeights:
    """The trees of all prosumers, and the leaves that the training days lie in."""

    trees: tuple[tuple[Any, ...], ...]
    """[N][T]."""
    leaves: IntArray
    """[N,T,D]."""

    @classmethod
    def fit(cls, vectors: FloatArray, values: DayValues, *, min_leaf: int) -> Self:
        """From contexts [D,N,P] and what happened; `min_leaf` is the least number of days in a leaf.

        Raises:
            UsageError: `min_leaf` below 1 or above the number of days.
        """
        if not 1 <= min_leaf <= len(vectors):
            raise UsageError(f"min_leaf {min_leaf} of {len(vectors)} training days: must lie in 1 ... {len(vectors)}")
        targets = outcomes(values)
        trees, leaves = [], []
        for n in range(vectors.shape[1]):
            forest = RandomForestRegressor(
                n_estimators=NUM_TREES, min_samples_leaf=min_leaf, max_features=1.0 / 3.0, random_state=_SEED, n_jobs=1
            ).fit(vectors[:, n], targets[:, n])
            grown = tuple(estimator.tree_ for estimator in forest.estimators_)
            trees.append(grown)
            leaves.append(_leaves(grown, vectors[:, n]))
        return cls(tuple(trees), np.stack(leaves))

    def weights(self, day: FloatArray) -> FloatArray:
        """Weights for one day of the context [N,P] `[N,D]`."""
        result = np.empty((len(self.trees), self.leaves.shape[2]))
        for n, trees in enumerate(self.trees):
            together = self.leaves[n] == _leaves(trees, day[n][np.newaxis])  # [T,D]
            result[n] = np.mean(together / together.sum(axis=1, keepdims=True), axis=0)
        return np.asarray(result / result.sum(axis=1, keepdims=True))


def _leaves(trees: tuple[Any, ...], vectors: FloatArray) -> IntArray:
    """The leaf of each tree that each of D vectors [D,P] falls into [T,D]."""
    single = np.ascontiguousarray(vectors, dtype=np.float32)  # as sklearn's trees are grown and asked
    return np.stack([tree.apply(single) for tree in trees]).astype(np.int64)
