"""tehran-v0: the frozen file is what the generator makes, and it honours the facts."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from prosumer_gym.datasets import tehran as maker
from prosumer_gym.datasets.realism import MARKET_AND_HOME_BANDS
from prosumer_gym.datasets.schema import ARRAYS, Dataset
from prosumer_gym.datasets.store import dataset_folder, load_dataset, load_dataset_folder
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import passive_profile

OTHER_SEED = 0xC0FFEE_0123456789ABCDEF_0123456789ABCDEF  # 152 bits
DIGITS = {"weather": (0.01, 0.001, 0.01), "weather_forecast": (0.01, 0.001, 0.01)}


@pytest.fixture(scope="module")
def tehran() -> Dataset:
    return load_dataset("tehran-v0")


@pytest.fixture(scope="module")
def other() -> Dataset:
    return maker.generate(OTHER_SEED)


def year(dataset: Dataset) -> np.ndarray:
    return dataset.dates.astype("datetime64[Y]").astype(int) + 1970


def test_the_generator_makes_the_frozen_file(tehran: Dataset) -> None:
    made = maker.generate()
    assert (made.prosumers, made.covariates) == (tehran.prosumers, tehran.covariates)
    for name in ARRAYS:
        frozen, again = getattr(tehran, name), getattr(made, name)
        assert frozen.shape == again.shape
        if frozen.dtype == np.float64:
            unit = np.array(DIGITS.get(name, 0.001))
            assert np.all(np.abs(frozen - again) <= 1.001 * unit), name
        else:
            assert np.array_equal(frozen, again), name
    assert made.manifest.model_copy(update={"sha256": ""}) == tehran.manifest.model_copy(update={"sha256": ""})


def test_values_are_rounded(tehran: Dataset) -> None:
    for name in ARRAYS:
        values = getattr(tehran, name)
        if values.dtype == np.float64:
            assert np.array_equal(values, np.round(values, 3)), name
    assert np.array_equal(tehran.weather[..., 0], np.round(tehran.weather[..., 0], 2))


def test_the_card_has_the_figures_of_the_file(tehran: Dataset) -> None:
    assert tehran.card == maker.card(tehran)
    assert tehran.manifest.sha256 in tehran.card


def test_the_package_s_folder_is_small_and_named_as_its_manifest(tehran: Dataset) -> None:
    folder = dataset_folder("tehran-v0")
    assert json.loads((folder / "manifest.json").read_text())["id"] == tehran.id == "tehran-v0"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6


# days -----------------------------------------------------------------------------------------------------------------


def test_five_summers_of_ninety_days_with_their_lead_in(tehran: Dataset) -> None:
    expected = []
    for y, split in ((2019, "train"), (2020, "train"), (2021, "train"), (2022, "dev"), (2023, "test")):
        first = datetime.date(y, 6, 14)
        expected += [(str(first + datetime.timedelta(k)), "lead-in" if k < 8 else split, y - 2019) for k in range(98)]
    assert list(zip(tehran.dates.astype(str), tehran.split, tehran.block, strict=True)) == expected
    assert [tehran.days(split).size for split in ("train", "dev", "test")] == [270, 90, 90]
    assert str(tehran.dates[tehran.days("test")][0]) == "2023-06-22"
    assert str(tehran.dates[tehran.days("test")][-1]) == "2023-09-19"


def test_thursday_and_friday_are_the_weekend(tehran: Dataset) -> None:
    names = {datetime.date.fromisoformat(str(date)).strftime("%A") for date in tehran.dates[tehran.weekend]}
    assert names == {"Thursday", "Friday"}
    assert np.isclose(tehran.weekend.mean(), 2 / 7, atol=0.01)


def test_the_sun_keeps_standard_time_in_every_year(tehran: Dataset) -> None:
    """The middle of the PV day stands near 12.1 h (51.31 E on UTC+3:30) and does not move when Iran drops its DST."""
    hours = np.arange(24) + 0.5
    middles = []
    for y in range(2019, 2024):
        daily = tehran.pv_kw[year(tehran) == y].sum(axis=(0, 2))
        middles.append(float((daily * hours).sum() / daily.sum()))
    assert np.ptp(middles) < 0.1
    assert np.allclose(middles, 12.1, atol=0.2)


def test_people_keep_standard_time_too(tehran: Dataset) -> None:
    """Profiles of different years line up best without a shift of an hour."""
    profiles = {y: tehran.load_kw[year(tehran) == y].mean(axis=(0, 2)) for y in (2019, 2021, 2022, 2023)}
    for y in (2019, 2021, 2022):
        fit = [np.corrcoef(profiles[2023], np.roll(profiles[y], shift))[0, 1] for shift in (-1, 0, 1)]
        assert np.argmax(fit) == 1


# physics --------------------------------------------------------------------------------------------------------------


def test_pv_is_dark_at_night_and_never_above_its_rating(tehran: Dataset) -> None:
    assert (tehran.pv_kw[:, [0, 1, 2, 3, 20, 21, 22, 23]] == 0.0).all()
    assert (tehran.pv_kw[tehran.weather[..., 2] == 0.0] == 0.0).all()
    assert (tehran.pv_kw <= tehran.pv_capacity_kw).all()
    assert ((tehran.pv_capacity_kw >= 30.0) & (tehran.pv_capacity_kw <= 60.0)).all()
    per_kw = tehran.pv_kw.sum(axis=1).mean(axis=0) / tehran.pv_capacity_kw
    assert ((per_kw > 4.5) & (per_kw < 6.0)).all()  # kWh/kW a day: what summer yields there


def test_clear_sky_energy_of_the_place(tehran: Dataset) -> None:
    assert maker.clear_sky_energy(tehran) == pytest.approx(7.8, abs=0.15)
    clear = maker.step_means(maker.clear_sky(maker.TEHRAN, tehran.dates).clear_w_per_m2, tehran.num_days)
    assert (tehran.weather[..., 2] <= clear + 0.01).all()


def test_clouds_dim_the_sun(tehran: Dataset) -> None:
    noon = tehran.weather[:, 12]
    assert noon[noon[:, 1] > 0.8, 2].mean() < 0.75 * noon[noon[:, 1] < 0.1, 2].mean()


def test_the_shiftable_reference_is_the_training_mean_and_the_same_every_day(tehran: Dataset) -> None:
    assert np.ptp(tehran.shiftable_ref_kw, axis=0).max() == 0.0
    mean = tehran.load_kw[tehran.is_training].mean(axis=0) * 0.3 / 0.7
    assert np.allclose(tehran.shiftable_ref_kw[0], mean, atol=1.5e-3)
    assert tehran.shiftable_ref_kw.max() <= 20.0


def test_loads_grow_and_dip_where_they_should(tehran: Dataset) -> None:
    commercial = np.array([building.kind == "commercial" for building in maker.BUILDINGS])
    assert commercial.sum() == 4
    cool = tehran.weather[..., 0].mean(axis=1)
    mild = (cool > 28.0) & (cool < 32.0) & ~tehran.weekend  # days of like weather
    mean = {y: tehran.load_kw[mild & (year(tehran) == y)].mean(axis=(0, 1)) for y in range(2019, 2024)}
    dip = mean[2020] / (0.5 * (mean[2019] + mean[2021]))
    assert np.all(dip[commercial] < 0.9)
    assert np.all(dip[~commercial] > 0.9)
    assert 1.05 < (mean[2023] / mean[2019]).mean() < 1.25


def test_heat_raises_loads_and_weekends_empty_offices(tehran: Dataset) -> None:
    load = tehran.load_kw.sum(axis=(1, 2))
    temperature = tehran.weather[..., 0].mean(axis=1)
    for y in range(2019, 2024):
        work = (year(tehran) == y) & ~tehran.weekend
        assert np.corrcoef(load[work], temperature[work])[0, 1] > 0.55
    office = tehran.load_kw[:, 9:16, 1].mean(axis=1)
    assert office[tehran.weekday == 4].mean() < 0.75 * office[tehran.weekday == 0].mean()


def test_the_passive_load_is_the_profile_of_the_scenario(tehran: Dataset) -> None:
    assert np.allclose(tehran.passive_pu, passive_profile(24), atol=5e-4)


# information ----------------------------------------------------------------------------------------------------------


def surprise(dataset: Dataset) -> np.ndarray:
    """What the forecasts missed in temperature [D,H]."""
    return dataset.weather[..., 0] - dataset.weather_forecast[..., 0].mean(axis=2)


def test_prices_keep_their_ranges(tehran: Dataset) -> None:
    assert tehran.price_da_ct_per_kwh.min() >= 6.0
    assert tehran.price_da_ct_per_kwh.max() <= 12.0
    assert tehran.price_rt_ct_per_kwh.min() >= 6.0
    assert tehran.price_rt_ct_per_kwh.max() <= 25.0


def test_surprises_reach_the_real_time_price_only(tehran: Dataset) -> None:
    """Once the forecasts are accounted for, what they missed moves the real-time price and not the day-ahead price."""
    forecast = tehran.weather_forecast[..., 0].mean(axis=2)
    day = np.repeat(forecast.mean(axis=1), 24)
    hour = np.tile(np.eye(24), (tehran.num_days, 1))
    week = np.repeat(np.eye(7)[tehran.weekday], 24, axis=0)[:, 1:]
    design = np.column_stack([surprise(tehran).ravel(), forecast.ravel(), day, hour, week])
    share = np.clip((tehran.price_da_ct_per_kwh.ravel() - 6.0) / 6.0, 1e-3, 1.0 - 1e-3)
    stress = np.log(share / (1.0 - share))  # linear in forecasts, hour and weekday
    assert abs(np.linalg.lstsq(design, stress, rcond=None)[0][0]) < 0.02
    assert np.linalg.lstsq(design, tehran.price_rt_ct_per_kwh.ravel(), rcond=None)[0][0] > 0.5


def test_the_day_ahead_price_is_a_function_of_forecasts() -> None:
    forecast = 25.0 + np.random.default_rng(0).normal(5.0, 3.0, (10, 24))
    weekday = np.arange(10) % 7
    price = maker.day_ahead_price(forecast, weekday, np.random.default_rng(1))
    assert np.array_equal(price, maker.day_ahead_price(forecast, weekday, np.random.default_rng(1)))
    assert (maker.day_ahead_price(forecast + 3.0, weekday, np.random.default_rng(1)) > price).all()


def test_forecasts_tell_something_of_the_coming_day(tehran: Dataset) -> None:
    """The context that a policy sees at the gate goes with the loads, the PV and the prices of the day."""
    forecast = tehran.weather_forecast[..., 0].mean(axis=(1, 2))
    sun_forecast = tehran.weather_forecast[..., 2].mean(axis=(1, 2))
    load, pv = tehran.load_kw.sum(axis=(1, 2)), tehran.pv_kw.sum(axis=(1, 2))
    price = tehran.price_rt_ct_per_kwh.mean(axis=1)
    for y in range(2019, 2024):
        work = (year(tehran) == y) & ~tehran.weekend
        assert np.corrcoef(forecast[work], load[work])[0, 1] > 0.5
        assert np.corrcoef(forecast[work], price[work])[0, 1] > 0.5
        assert np.corrcoef(sun_forecast[work], pv[work])[0, 1] > 0.5


def test_many_forecasts_together_are_better_than_one(tehran: Dataset) -> None:
    one = np.abs(tehran.weather_forecast[..., 0] - tehran.weather[:, :, None, 0]).mean()
    assert np.abs(surprise(tehran)).mean() < 0.95 * one


# other seeds ----------------------------------------------------------------------------------------------------------


def test_another_seed_is_another_draw_of_the_same_community(tehran: Dataset, other: Dataset) -> None:
    assert other.prosumers == tehran.prosumers
    assert np.array_equal(other.pv_capacity_kw, tehran.pv_capacity_kw)
    assert np.array_equal(other.dates, tehran.dates)
    assert np.array_equal(other.split, tehran.split)
    for name in ("load_kw", "pv_kw", "price_da_ct_per_kwh", "price_rt_ct_per_kwh", "weather", "weather_forecast"):
        ours, theirs = getattr(tehran, name), getattr(other, name)
        assert not np.any(np.all(ours == theirs, axis=tuple(range(1, ours.ndim)))), name
    profile = tehran.load_kw.mean(axis=0) / other.load_kw.mean(axis=0)  # [H,N]
    assert np.allclose(profile, 1.0, atol=0.15)
    assert np.corrcoef(tehran.load_kw.sum(axis=(1, 2)), other.load_kw.sum(axis=(1, 2)))[0, 1] < 0.8


def test_every_bit_of_a_long_seed_counts(other: Dataset) -> None:
    assert not np.array_equal(maker.generate(OTHER_SEED ^ (1 << 140)).load_kw, other.load_kw)


def test_another_seed_keeps_the_bands_of_markets_and_homes(other: Dataset) -> None:
    outside = [f"{band.title}: {band.statistic(other):.3f}" for band in MARKET_AND_HOME_BANDS if not band.holds(other)]
    assert outside == []


def test_years_are_different_draws(tehran: Dataset) -> None:
    first, second = (tehran.weather[year(tehran) == y, :, 0] for y in (2019, 2020))
    assert abs(np.corrcoef(first.mean(axis=1), second.mean(axis=1))[0, 1]) < 0.7
    assert not np.any(first == second, axis=1).all()


def test_seed_and_name_go_together(other: Dataset) -> None:
    assert other.id == "tehran-other"
    assert other.manifest.seed == OTHER_SEED
    with pytest.raises(UsageError, match="give a set of another seed another name"):
        maker.generate(1, "tehran-v0")
    with pytest.raises(UsageError, match="give a set of another seed another name"):
        maker.generate(maker.SEED, "mine")
    with pytest.raises(UsageError, match="-1 is negative"):
        maker.generate(-1)


def test_the_command_freezes_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str], tehran: Dataset) -> None:
    assert maker.main(["--freeze", str(tmp_path / "again")]) == 0
    again = load_dataset_folder(tmp_path / "again")
    assert again.manifest.sha256 in capsys.readouterr().out
    assert again.card.replace(again.manifest.sha256, "") == tehran.card.replace(tehran.manifest.sha256, "")
    assert maker.main(["--freeze", str(tmp_path / "x"), "--seed", "5", "--name", "tehran-v0"]) == 2
    assert "another name" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
