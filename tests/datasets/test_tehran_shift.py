"""tehran-shift-v0: the days of tehran-v0 by another clock, and nothing else."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from prosumer_gym.datasets import tehran as standard
from prosumer_gym.datasets import tehran_shift as maker
from prosumer_gym.datasets.realism import MARKET_AND_HOME_BANDS, TEHRAN_BANDS, Band
from prosumer_gym.datasets.schema import ARRAYS, Dataset, parse_zone
from prosumer_gym.datasets.store import dataset_folder, load_dataset, load_dataset_folder
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario

DIGITS = {"weather": (0.01, 0.001, 0.01), "weather_forecast": (0.01, 0.001, 0.01)}


@pytest.fixture(scope="module")
def shift() -> Dataset:
    return load_dataset("tehran-shift-v0")


@pytest.fixture(scope="module")
def tehran() -> Dataset:
    return load_dataset("tehran-v0")


def year(dataset: Dataset) -> np.ndarray:
    return dataset.dates.astype("datetime64[Y]").astype(int) + 1970


def is_office(dataset: Dataset) -> np.ndarray:
    return np.array([name.startswith("office") for name in dataset.prosumers])


def test_the_generator_makes_the_frozen_file(shift: Dataset) -> None:
    made = maker.generate()
    assert (made.prosumers, made.covariates) == (shift.prosumers, shift.covariates)
    for name in ARRAYS:
        frozen, again = getattr(shift, name), getattr(made, name)
        assert frozen.shape == again.shape
        if frozen.dtype == np.float64:
            assert np.all(np.abs(frozen - again) <= 1.001 * np.array(DIGITS.get(name, 0.001))), name
        else:
            assert np.array_equal(frozen, again), name
    assert made.manifest.model_copy(update={"sha256": ""}) == shift.manifest.model_copy(update={"sha256": ""})


def test_the_card_has_the_figures_of_the_file(shift: Dataset) -> None:
    assert shift.card == standard.card(shift, maker.CLOCK_ON_THE_WALL)
    assert shift.manifest.sha256 in shift.card


def test_the_package_s_folder_is_small_and_named_as_its_manifest(shift: Dataset) -> None:
    folder = dataset_folder("tehran-shift-v0")
    assert json.loads((folder / "manifest.json").read_text())["id"] == shift.id == "tehran-shift-v0"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6


# the clock ------------------------------------------------------------------------------------------------------------


def test_the_time_zone_s_own_rules_give_the_offsets_of_every_hour(shift: Dataset) -> None:
    zone = parse_zone(shift.time_zone)
    assert zone == ZoneInfo("Asia/Tehran")
    for date, y in zip(shift.dates, year(shift), strict=True):
        hours = datetime.timedelta(hours=3.5 + maker.CLOCK_ON_THE_WALL.ahead_h[int(y)])
        day = datetime.datetime.fromisoformat(str(date))
        assert {(day + datetime.timedelta(hours=h)).replace(tzinfo=zone).utcoffset() for h in range(24)} == {hours}


def test_calendar_buildings_and_passive_load_are_those_of_tehran(shift: Dataset, tehran: Dataset) -> None:
    for name in ("dates", "split", "block", "weekend", "pv_capacity_kw", "passive_pu"):
        assert np.array_equal(getattr(shift, name), getattr(tehran, name)), name
    assert shift.prosumers == tehran.prosumers


@pytest.mark.parametrize("name", ["pv_kw", "weather"])
def test_sun_and_weather_are_the_same_at_the_same_moment(shift: Dataset, tehran: Dataset, name: str) -> None:
    """Hour h by the clock of 2019 to 2022 is hour h - 1 of standard time; in 2023 the clock shows standard time."""
    for y in range(2019, 2024):
        ahead = 0 if y == 2023 else 1
        here, there = (getattr(d, name)[year(d) == y].reshape(98 * 24, -1) for d in (shift, tehran))
        assert np.array_equal(here[ahead:], there[: len(there) - ahead])


def test_the_test_summer_is_that_of_tehran_but_for_the_offices(shift: Dataset, tehran: Dataset) -> None:
    rows = year(shift) == 2023
    for name in ("pv_kw", "price_da_ct_per_kwh", "price_rt_ct_per_kwh", "weather", "weather_forecast"):
        assert np.array_equal(getattr(shift, name)[rows], getattr(tehran, name)[rows]), name
    here, there = shift.load_kw[rows], tehran.load_kw[rows]
    office = is_office(shift)
    assert np.array_equal(here[..., ~office], there[..., ~office])
    assert (here[..., office] != there[..., office]).mean() > 0.9


def working_day(dataset: Dataset, y: int, prosumers: np.ndarray) -> np.ndarray:
    rows = (year(dataset) == y) & ~dataset.weekend
    mean: np.ndarray = dataset.load_kw[rows][..., prosumers].mean(axis=(0, 2))
    return mean


def moved_by(profile: np.ndarray, reference: np.ndarray) -> int:
    """By how many hours `profile` is later than `reference`."""
    fit = {hours: np.corrcoef(profile, np.roll(reference, hours))[0, 1] for hours in (-2, -1, 0, 1, 2)}
    return max(fit, key=lambda hours: fit[hours])


@pytest.mark.parametrize("y", [2019, 2020, 2021, 2022, 2023])
def test_homes_and_shops_keep_the_clock_and_offices_open_earlier_in_2023(
    shift: Dataset, tehran: Dataset, y: int
) -> None:
    office = is_office(shift)
    assert moved_by(working_day(shift, y, ~office), working_day(tehran, y, ~office)) == 0
    assert moved_by(working_day(shift, y, office), working_day(tehran, y, office)) == (-1 if y == 2023 else 0)


def test_offices_keep_the_sun(shift: Dataset) -> None:
    """Their hours and the middle of the PV day move together."""
    before, after = (np.isin(year(shift), years) for years in ((2022,), (2023,)))
    assert maker.pv_middle(shift, before) - maker.pv_middle(shift, after) == pytest.approx(1.0, abs=0.05)
    assert maker.offices_half_up(shift, before) - maker.offices_half_up(shift, after) == pytest.approx(1.0, abs=0.25)
    assert maker.pv_middle(shift, after) == pytest.approx(12.1, abs=0.1)


def test_prices_peak_by_the_clock_in_every_year(shift: Dataset, tehran: Dataset) -> None:
    for y in range(2019, 2024):
        rows = year(shift) == y
        here, there = (d.price_da_ct_per_kwh[rows].mean(axis=0) for d in (shift, tehran))
        assert moved_by(here, there) == 0
        assert np.argmax(here) == np.argmax(there)


def test_the_shiftable_reference_is_the_training_mean_of_the_clock_s_hours(shift: Dataset) -> None:
    assert np.ptp(shift.shiftable_ref_kw, axis=0).max() == 0.0
    mean = shift.load_kw[shift.is_training].mean(axis=0) * 0.3 / 0.7
    assert np.allclose(shift.shiftable_ref_kw[0], mean, atol=1.5e-3)


def test_forecasts_are_runs_of_the_clock_s_days(shift: Dataset) -> None:
    """A forecast's error at 23 h says nothing about the one at 0 h of the next day, which is of another run."""
    error = (shift.weather_forecast[..., 0] - shift.weather[:, :, None, 0]).mean(axis=2)
    later = np.diff(shift.dates) == np.timedelta64(1, "D")
    assert abs(np.corrcoef(error[:-1][later, 23], error[1:][later, 0])[0, 1]) < 0.15
    assert np.corrcoef(error[:, 0], error[:, 1])[0, 1] > 0.65
    dark = shift.weather[..., 2] == 0.0
    assert shift.weather_forecast[dark][..., 2].max() < 0.02  # what is dark is so within rounding


# how large it is ------------------------------------------------------------------------------------------------------


def test_what_repeats_the_training_days_misses_the_sun_of_the_test_days(shift: Dataset, tehran: Dataset) -> None:
    error = maker.error_of_training_mean
    assert error(shift, "test", "PV") > 2.5 * error(shift, "dev", "PV")
    assert error(shift, "test", "PV", 1) < 0.5 * error(shift, "test", "PV")
    assert error(tehran, "test", "PV") == pytest.approx(error(shift, "test", "PV", 1), rel=0.05)
    assert error(shift, "test", "load minus PV") > 1.5 * error(tehran, "test", "load minus PV")


def test_the_error_of_the_training_mean_by_hand(shift: Dataset) -> None:
    pv = shift.pv_kw.sum(axis=2)
    expected = np.mean([np.abs(pv[row] - pv[shift.days("train")].mean(axis=0)).mean() for row in shift.days("test")])
    assert maker.error_of_training_mean(shift, "test", "PV") == pytest.approx(expected)


def test_the_card_tells_the_shift_year_by_year(shift: Dataset) -> None:
    rows = re.findall(r"^\| (20\d\d) \| (\w+) \| (UTC\S+) \| ([\d.]+) \| (\d+) \| (\d+) \|", shift.card, re.MULTILINE)
    assert [row[:3] for row in rows] == [
        *((str(y), "train", "UTC+4:30") for y in (2019, 2020, 2021)),
        ("2022", "dev", "UTC+4:30"),
        ("2023", "test", "UTC+3:30"),
    ]
    assert [row[3:] for row in rows] == [("13.1", "13", "16")] * 4 + [("12.1", "12", "15")]


# realism, other seeds, the command ------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", [*MARKET_AND_HOME_BANDS, *TEHRAN_BANDS], ids=lambda band: band.statistic.__name__)
def test_it_lies_in_every_band(shift: Dataset, band: Band) -> None:
    assert band.holds(shift), f"{band.title}: {band.statistic(shift):.3f} outside {band.low} to {band.high}"


def test_the_default_community_can_play_it(shift: Dataset) -> None:
    shift.check_community(make_scenario("ieee33"))


def test_other_seeds_and_names() -> None:
    other = maker.generate(7)
    assert (other.id, other.manifest.seed) == ("tehran-shift-other", 7)
    assert np.array_equal(other.pv_kw[-98:], standard.generate(7).pv_kw[-98:])
    for seed, name in ((7, "tehran-shift-v0"), (7, "tehran-v0"), (standard.SEED, "tehran-v0"), (standard.SEED, "mine")):
        with pytest.raises(UsageError, match="give a set of another seed another name"):
            maker.generate(seed, name)
    with pytest.raises(UsageError, match="give a set of another seed another name"):
        standard.generate(7, "tehran-shift-v0")


def test_the_command_freezes_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str], shift: Dataset) -> None:
    assert maker.main(["--freeze", str(tmp_path / "again")]) == 0
    again = load_dataset_folder(tmp_path / "again")
    assert again.manifest.sha256 in capsys.readouterr().out
    assert again.card.replace(again.manifest.sha256, "") == shift.card.replace(shift.manifest.sha256, "")
    assert maker.main(["--freeze", str(tmp_path / "x"), "--seed", "5", "--name", "tehran-v0"]) == 2
    assert "another name" in capsys.readouterr().err
