"""The statistics of realism, against independent references, and tehran-v0 inside its bands."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.stats import skew
from support import tiny_dataset

from prosumer_gym.datasets import realism
from prosumer_gym.datasets.realism import MARKET_AND_HOME_BANDS, TEHRAN_BANDS, Band, network_without_control
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.scenarios import make_scenario


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return tiny_dataset(num_days=60, num_prosumers=4)


@pytest.fixture(scope="module")
def tehran() -> Dataset:
    return load_dataset("tehran-v0")


@pytest.mark.parametrize("band", [*MARKET_AND_HOME_BANDS, *TEHRAN_BANDS], ids=lambda band: band.statistic.__name__)
def test_tehran_lies_in_every_band(tehran: Dataset, band: Band) -> None:
    assert band.holds(tehran), f"{band.title}: {band.statistic(tehran):.3f} outside {band.low} to {band.high}"


def test_every_single_load_repeats_itself_as_homes_and_estates_do(tehran: Dataset) -> None:
    each = realism.load_correlations_24h(tehran)
    assert each.shape == (10,)
    assert (each >= 0.50).all()
    assert (each <= 0.74).all()


@pytest.mark.parametrize("split", ["dev", "test"])
def test_without_control_the_feeder_sags_a_little_and_never_swells(tehran: Dataset, split: str) -> None:
    figures = network_without_control(tehran, make_scenario("ieee33"), split)
    assert 0.015 <= figures.share_below <= 0.035
    assert 0.10 <= figures.hours_below <= 0.16
    assert 0.930 <= figures.lowest_pu <= 0.944
    assert figures.share_above == 0.0
    assert figures.highest_pu <= 1.05
    low, high = figures.exchange_kw
    assert -185.0 <= low <= -125.0
    assert 250.0 <= high <= 310.0


def test_the_limits_of_the_units_bind_nowhere_without_control(tehran: Dataset) -> None:
    community = make_scenario("ieee33")
    tehran.check_community(community)
    net_kw = tehran.load_kw + tehran.shiftable_ref_kw - tehran.pv_kw
    over = np.abs(net_kw) > community.fleet.position_limit_kw
    assert over.mean() < 1e-3


# the statistics themselves --------------------------------------------------------------------------------------------


def blockwise(dataset: Dataset, values: np.ndarray, lag: int) -> float:
    """Serial correlation by pandas: pairs at `lag` inside each block, after taking out the block's mean."""
    pairs = []
    for number in np.unique(dataset.block):
        series = pd.Series(values[dataset.block == number].ravel())
        series -= series.mean()
        pairs.append(pd.DataFrame({"now": series, "then": series.shift(lag)}).dropna())
    both = pd.concat(pairs)
    return float(both["now"].corr(both["then"]))


def test_against_pandas_and_scipy(tehran: Dataset) -> None:
    da, rt = tehran.price_da_ct_per_kwh, tehran.price_rt_ct_per_kwh
    assert realism.real_time_skewness(tehran) == pytest.approx(skew(rt.ravel()))
    assert realism.price_correlation(tehran) == pytest.approx(pd.Series(da.ravel()).corr(pd.Series(rt.ravel())))
    assert realism.spread_correlation_1h(tehran) == pytest.approx(blockwise(tehran, rt - da, 1), abs=2e-3)
    assert realism.spread_correlation_24h(tehran) == pytest.approx(blockwise(tehran, rt - da, 24), abs=2e-3)
    assert realism.daily_day_ahead_correlation(tehran) == pytest.approx(blockwise(tehran, da.mean(axis=1), 1), abs=0.02)
    each = [blockwise(tehran, tehran.load_kw[:, :, n], 24) for n in range(10)]
    assert np.allclose(realism.load_correlations_24h(tehran), each, atol=0.01)
    errors = tehran.weather_forecast[:, :, :, 0] - tehran.weather[:, :, None, 0]
    assert realism.forecast_error_sd(tehran) == pytest.approx(np.std(errors))
    daily = tehran.weather[:, :, 0].mean(axis=1)
    assert realism.daily_temperature_correlation(tehran) == pytest.approx(blockwise(tehran, daily, 1), abs=0.03)


def test_pair_correlation_against_pandas(tiny: Dataset) -> None:
    frame = pd.DataFrame(tiny.load_kw.reshape(-1, 4))
    blocks = np.repeat(tiny.block, 24)
    corr = (frame - frame.groupby(blocks).transform("mean")).corr().to_numpy()
    assert realism.load_pair_correlation(tiny) == pytest.approx(corr[np.triu_indices(4, 1)].mean())


def test_serial_correlation_finds_the_coefficient_of_a_known_process(tiny: Dataset) -> None:
    noise = np.random.default_rng(0).standard_normal(tiny.num_days * 24)
    series = lfilter([1.0], [1.0, -0.65], noise).reshape(tiny.num_days, 24)
    dataset = tiny.replace(price_rt_ct_per_kwh=tiny.price_da_ct_per_kwh + series)
    assert realism.spread_correlation_1h(dataset) == pytest.approx(0.65, abs=0.05)
    assert realism.spread_correlation_24h(dataset) == pytest.approx(0.0, abs=0.08)


def test_nothing_crosses_the_end_of_a_block(tiny: Dataset) -> None:
    """A price that differs between blocks and is noise inside them has no serial correlation."""
    noise = np.random.default_rng(1).standard_normal((tiny.num_days, 24))
    dataset = tiny.replace(price_da_ct_per_kwh=noise + 100.0 * tiny.block[:, None])
    assert abs(realism.daily_day_ahead_correlation(dataset)) < 0.3
    # one value a block apart from zero, last in its block: with no pair across blocks nothing multiplies it but its own
    spike = np.zeros((tiny.num_days, 24))
    last = np.flatnonzero(np.diff(tiny.block, append=-1))
    spike[last, 23], spike[(last + 1)[:-1], 0] = 50.0, 50.0
    flat = tiny.replace(price_rt_ct_per_kwh=tiny.price_da_ct_per_kwh + spike)
    assert abs(realism.spread_correlation_1h(flat)) < 0.01


def test_peaks_are_those_of_the_hot_months(tehran: Dataset) -> None:
    """The hours stay where they are when the other months are turned upside down."""
    hot = np.isin(tehran.dates.astype("datetime64[M]").astype(int) % 12, (6, 7))
    changed = tehran.replace(load_kw=np.where(hot[:, None, None], tehran.load_kw, tehran.load_kw[:, ::-1]))
    for statistic in (realism.day_peak_hour, realism.night_peak_hour, realism.day_over_night_peak):
        assert statistic(changed) == statistic(tehran)
    later = tehran.replace(
        load_kw=np.roll(tehran.load_kw, 1, axis=1), shiftable_ref_kw=np.roll(tehran.shiftable_ref_kw, 1, axis=1)
    )
    assert realism.night_peak_hour(later) == realism.night_peak_hour(tehran) + 1


def test_network_figures_of_a_community_that_draws_nothing(tehran: Dataset) -> None:
    """Only the passive load is left: its figures do not depend on the split, and more of it means lower voltages."""
    nothing = dict.fromkeys(("load_kw", "pv_kw", "shiftable_ref_kw"), np.zeros_like(tehran.load_kw))
    idle = tehran.replace(**nothing)
    community = make_scenario("ieee33")
    figures = network_without_control(idle, community, "test")
    assert figures == network_without_control(idle, community, "dev")
    assert figures.exchange_kw == (0.0, 0.0)
    full = network_without_control(idle.replace(passive_pu=np.ones_like(idle.passive_pu)), community, "test")
    assert full.lowest_pu == pytest.approx(0.9131, abs=1e-4)  # the feeder's published minimum at nominal load
    assert full.share_below == pytest.approx(21 / 33)
    assert full.hours_below == 1.0
