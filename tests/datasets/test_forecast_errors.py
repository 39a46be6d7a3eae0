"""The error model of weather forecasts, against its own statement on many days."""

from __future__ import annotations

import numpy as np
import pytest

from prosumer_gym.datasets.forecast_errors import ar1, cloud_transmission, make_forecasts
from prosumer_gym.errors import UsageError


def steady(days: int, hours: int = 24, cloud: float = 0.4, sun: float = 500.0) -> np.ndarray:
    return np.broadcast_to([30.0, cloud, sun], (days, hours, 3)).copy()


@pytest.fixture(scope="module")
def errors() -> np.ndarray:
    """Temperature errors [D,H,N] of 4000 days."""
    return make_forecasts(steady(4000), 4, np.random.default_rng(1))[..., 0] - 30.0


def test_temperature_error_grows_with_lead(errors: np.ndarray) -> None:
    lead = 12.0 + np.arange(24)
    assert np.allclose(errors.std(axis=(0, 2)), 0.55 + 0.02 * lead, rtol=0.03)
    assert np.abs(errors.mean(axis=(0, 2))).max() < 0.06


def test_temperature_error_is_serially_correlated_within_a_day_only(errors: np.ndarray) -> None:
    inside = [np.corrcoef(errors[:, h, 0], errors[:, h + 1, 0])[0, 1] for h in range(23)]
    assert np.allclose(inside, 0.75, atol=0.04)
    assert abs(np.corrcoef(errors[:-1, 23, 0], errors[1:, 0, 0])[0, 1]) < 0.05


def test_each_prosumer_has_its_own_share_so_the_mean_is_better(errors: np.ndarray) -> None:
    pairs = np.corrcoef(errors.reshape(-1, 4).T)[np.triu_indices(4, 1)]
    assert np.allclose(pairs, 0.7, atol=0.03)
    # common .7 and a quarter of the own .3 are left in the mean of four
    assert np.isclose((errors.mean(axis=2) / errors.std(axis=(0, 2))).var(), 0.7 + 0.3 / 4, rtol=0.05)


def test_quarter_hours_have_the_same_hourly_correlation() -> None:
    errors = make_forecasts(steady(3000, 96), 1, np.random.default_rng(2))[..., 0, 0] - 30.0
    assert np.isclose(np.corrcoef(errors[:, 10], errors[:, 14])[0, 1], 0.75, atol=0.03)


def test_clouds_stay_clouds_and_err_most_when_half_covered() -> None:
    spread = {}
    for cloud in (0.0, 0.5, 1.0):
        forecast = make_forecasts(steady(500, cloud=cloud), 2, np.random.default_rng(3))[..., 1]
        assert forecast.min() >= 0.0
        assert forecast.max() <= 1.0
        spread[cloud] = forecast.std()
    assert spread[0.5] > 3.0 * max(spread[0.0], spread[1.0])


def test_irradiance_follows_the_forecast_clouds_and_never_shines_at_night() -> None:
    weather = steady(300)
    weather[:, :6, 2] = 0.0
    forecast = make_forecasts(weather, 3, np.random.default_rng(4))
    assert (forecast[:, :6, :, 2] == 0.0).all()
    day = forecast[:, 6:]
    ratio = day[..., 2] / (500.0 * cloud_transmission(day[..., 1]) / cloud_transmission(np.array(0.4)))
    assert np.allclose(np.ptp(np.log(ratio), axis=1), 0.0)  # what is left is one haze factor a day
    assert 0.04 < np.log(ratio).std() < 0.06


def test_the_same_generator_gives_the_same_forecasts() -> None:
    first, again, other = (make_forecasts(steady(5), 2, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(UsageError, match=r"give \[D,H,3\]: temperature_c"):
        make_forecasts(np.zeros((3, 24, 2)), 2, np.random.default_rng(0))


def test_ar1_is_stationary() -> None:
    series = ar1(np.random.default_rng(5).standard_normal((20_000, 6)), 0.8)
    assert np.allclose(series.std(axis=0), 1.0, atol=0.02)
    assert np.isclose(np.corrcoef(series[:, 1], series[:, 4])[0, 1], 0.8**3, atol=0.02)
