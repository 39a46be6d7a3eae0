"""The shiftable load is carved out of the load, and tells nothing of its day."""

from __future__ import annotations

import numpy as np
import pytest

from prosumer_gym.datasets.carve import carve_shiftable
from prosumer_gym.errors import UsageError

RNG = np.random.default_rng(3)
TOTAL = RNG.gamma(4.0, 5.0, (12, 24, 3))  # [D,H,N]
TRAINING = np.arange(12) < 7


def test_the_mean_training_energy_is_kept() -> None:
    load, reference = carve_shiftable(TOTAL, TRAINING, 1e9)
    assert np.allclose((load + reference)[TRAINING].mean(axis=0), TOTAL[TRAINING].mean(axis=0), atol=1e-12)
    assert np.allclose(load, 0.7 * TOTAL)
    assert np.allclose(reference[4, :, 1], 0.3 * TOTAL[:7, :, 1].mean(axis=0))


def test_the_reference_is_the_same_every_day_and_knows_no_other_split() -> None:
    _, reference = carve_shiftable(TOTAL, TRAINING, 1e9)
    assert np.ptp(reference, axis=0).max() == 0.0
    changed = np.where(TRAINING[:, None, None], TOTAL, 99.0)
    assert np.array_equal(carve_shiftable(changed, TRAINING, 1e9)[1], reference)


def test_the_power_limit_holds_for_each_prosumer() -> None:
    limit = np.array([4.0, 5.0, 100.0])
    _, reference = carve_shiftable(TOTAL, TRAINING, limit)
    assert (reference.max(axis=(0, 1)) <= limit).all()
    assert reference[..., 0].max() == 4.0
    assert reference[..., 2].max() < 100.0


def test_no_train_day_or_an_impossible_share() -> None:
    with pytest.raises(UsageError, match="no train day"):
        carve_shiftable(TOTAL, np.zeros(12, dtype=bool), 20.0)
    with pytest.raises(UsageError, match=r"share is 1\.2"):
        carve_shiftable(TOTAL, TRAINING, 20.0, share=1.2)
