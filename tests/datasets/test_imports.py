"""What all imports share: prices of any format, notes, and parts that come together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ausgrid_files import energy, write_ausgrid
from price_files import hours, wave, write_entsoe, write_entsoe_imbalance, write_isone, write_oasis
from simbench_files import write_companions
from tidy_files import import_tidy, make_frames, write

from prosumer_gym.datasets import importers
from prosumer_gym.datasets.importers import Companions, import_ausgrid
from prosumer_gym.datasets.imports import ImportChoices, Imported
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

CHOICES = ImportChoices(id="mine")


def notes_of(imported: Imported) -> str:
    return " ".join(imported.notes)


def tidy_with(folder: Path, prices: Any, **said: Any) -> Imported:
    """Forty days of two prosumers in London from 1 May 2018, with prices of other files."""
    files = write(folder, make_frames())
    given = {"interval_label": "begin", "weather": files.weather, "prices": prices, **said}
    return importers.import_tidy(files.readings, "kW", "Europe/London", Companions(**given), CHOICES)


# prices -----------------------------------------------------------------------------------------------------------


def day_of(dataset: Dataset, date: str) -> int:
    return [str(each) for each in dataset.dates].index(date)


def test_prices_of_entsoe_come_in_at_the_local_hour(tmp_path: Path) -> None:
    times = hours("2018-04-25", 60, "Europe/Paris")
    quarters = hours("2018-04-25", 60, "Europe/Paris", "15min")
    da = write_entsoe(tmp_path / "da.csv", times)
    rt = write_entsoe_imbalance(tmp_path / "rt.csv", quarters)
    imported = tidy_with(tmp_path, (da,), prices_rt=(rt,), prices_format="entsoe")
    dataset = imported.dataset
    row = day_of(dataset, "2018-05-20")
    first = 24 * 25 + 1  # midnight in London is 1 o'clock in Paris
    expected = np.array([wave(k) for k in range(first, first + 24)]) / 10
    np.testing.assert_allclose(dataset.price_da_ct_per_kwh[row], expected, rtol=1e-12)
    fine = np.array([wave(k) for k in range(4 * first, 4 * first + 96)]).reshape(24, 4).mean(axis=1) / 10
    np.testing.assert_allclose(dataset.price_rt_ct_per_kwh[row], fine, rtol=1e-12)
    assert dataset.price_da_ct_per_kwh.min() < 0.0  # negative prices are real
    assert dataset.manifest.sources == ("readings.csv", "da.csv", "rt.csv", "weather.csv")
    assert "EUR/MWh" in dataset.card


@pytest.mark.parametrize("name", ["oasis", "isone"])
def test_prices_of_other_markets_come_in_the_same_way(tmp_path: Path, name: str) -> None:
    if name == "oasis":
        times = hours("2018-04-25", 60, "America/Los_Angeles")
        da = write_oasis(tmp_path / "da.csv", times)
        rt = write_oasis(tmp_path / "rt.csv", times, market="RTPD", column="PRC")
        first, behind = "2018-04-25", 8
    else:
        times = hours("2018-04-25", 60, "America/New_York")
        da = write_isone(tmp_path / "da.csv", times)
        rt = write_isone(tmp_path / "rt.csv", times, market="Real-Time")
        first, behind = "2018-04-25", 5
    dataset = tidy_with(tmp_path, (da,), prices_rt=(rt,), prices_format=name).dataset
    row = day_of(dataset, "2018-05-20")
    k = int((np.datetime64("2018-05-20") - np.datetime64(first)).astype(int)) * 24 - behind
    expected = np.array([wave(j) for j in range(k, k + 24)]) / 10
    np.testing.assert_allclose(dataset.price_da_ct_per_kwh[row], expected, rtol=1e-12)
    np.testing.assert_allclose(dataset.price_rt_ct_per_kwh[row], expected, rtol=1e-12)


def test_tidy_prices_may_stand_in_two_files_of_different_steps(tmp_path: Path) -> None:
    frames, fine = make_frames(), make_frames(step="30min")
    frames["prices"][["time", "price_da"]].to_csv(tmp_path / "da.csv", index=False)
    fine["prices"][["time", "price_rt"]].to_csv(tmp_path / "rt.csv", index=False)
    said = {"prices_rt": (tmp_path / "rt.csv",), "price_unit": "ct/kWh"}
    dataset = tidy_with(tmp_path, (tmp_path / "da.csv",), **said).dataset
    np.testing.assert_allclose(dataset.price_da_ct_per_kwh[0], frames["prices"]["price_da"][:24], rtol=1e-12)
    of_day = fine["prices"]["price_rt"][:48].to_numpy().reshape(24, 2).mean(axis=1)
    np.testing.assert_allclose(dataset.price_rt_ct_per_kwh[0], of_day, rtol=1e-12)


def test_what_prices_need_is_named_in_one_line(tmp_path: Path) -> None:
    files = write(tmp_path, make_frames())
    tidy = (files.prices,)
    for prices, said, what in (
        ((), {}, "--prices: no file is given"),
        (tidy, {}, "prices.csv: in which unit are the prices"),
        ((*tidy, *tidy), {"price_unit": "ct/kWh"}, "--prices: 2 tidy files are given; put them into one"),
        (tidy, {"price_unit": "ct/kWh", "price_node": "x"}, "--price-node x: it is of the formats of markets"),
        (tidy, {"price_unit": "ct/kWh", "prices_format": "oasis"}, "--price-unit ct/kWh: the format oasis has its own"),
        (tidy, {"price_unit": "ct/kWh", "interval_label": None}, "which end of its step does a time name"),
        (tidy, {"price_unit": "ct/kWh", "weather": None}, "--weather: no file is given"),
    ):
        with pytest.raises(UsageError, match=what):
            tidy_with(tmp_path, prices, **said)


# homes of Ausgrid ---------------------------------------------------------------------------------------------------


def ausgrid(folder: Path, first: str, choices: ImportChoices = CHOICES, **said: Any) -> Imported:
    path = write_ausgrid(folder / "2012.csv", {"12": ["GC", "CL", "GG"], "57": ["GC", "GG"]}, first, 40)
    paths = write_companions(folder / "beside", str(np.datetime64(first) - 5))
    companions = Companions(
        prices=(paths["prices"],), price_unit="EUR/MWh", weather=paths["weather"], interval_label="begin"
    )
    return import_ausgrid((path,), None, companions, choices, **said)


def test_half_hours_of_ausgrid_become_hours_of_sydney(tmp_path: Path) -> None:
    imported = ausgrid(tmp_path, "2012-07-01", replace(CHOICES, shiftable_share=0.0))
    dataset = imported.dataset
    assert dataset.prosumers == ("12", "57")
    assert dataset.time_zone == "Australia/Sydney"
    for row in (0, 33):
        kwh = np.array([energy("GC", row, k) + energy("CL", row, k) for k in range(48)])
        np.testing.assert_allclose(dataset.load_kw[row, :, 0], kwh.reshape(24, 2).sum(axis=1), rtol=1e-12)
        pv_kwh = np.array([energy("GG", row, k) for k in range(48)])
        np.testing.assert_allclose(dataset.pv_kw[row, :, 1], pv_kwh.reshape(24, 2).sum(axis=1), rtol=1e-12)
    assert "Ausgrid" in dataset.manifest.licence
    assert "Ratnam" in dataset.manifest.citation
    np.testing.assert_array_equal(dataset.pv_capacity_kw, [1.5, 1.5])


@pytest.mark.parametrize(("first", "change"), [("2012-09-10", "2012-10-07"), ("2013-03-10", "2013-04-07")])
def test_days_on_which_the_clock_of_sydney_changes_are_dropped(tmp_path: Path, first: str, change: str) -> None:
    imported = ausgrid(tmp_path, first)
    assert imported.counts.clock_change == [change]
    assert imported.counts.incomplete == []


# notes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Tokyo"])
def test_a_wrong_time_zone_of_all_files_shows_at_noon(tmp_path: Path, zone: str) -> None:
    frames = make_frames(days=60)
    right = notes_of(import_tidy(write(tmp_path, frames), CHOICES))
    assert "noon" not in right
    wrong = import_tidy(write(tmp_path, frames, "local", time_zone=zone, naive_times="utc"), CHOICES)
    assert "The middle of the PV energy lies at" in notes_of(wrong)
    assert "far from noon; check the time zone" in wrong.dataset.card
    frames["readings"]["pv_kw"] = 0.0
    without_pv = import_tidy(write(tmp_path, frames, "local", time_zone=zone, naive_times="utc"), CHOICES)
    assert "The middle of the irradiance lies at" in notes_of(without_pv)


def test_sizes_that_suggest_another_unit_are_noted(tmp_path: Path) -> None:
    usual = notes_of(import_tidy(write(tmp_path, make_frames()), CHOICES))
    for frame, columns, factor, note in (
        ("weather", ["irradiance_w_per_m2"], 1e-3, "never exceeds 0.7 W/m2, though there is PV; is it in kW/m2?"),
        ("readings", ["load_kw", "pv_kw"], 1e-3, "No load exceeds 0.023 kW; is it in MW?"),
        ("readings", ["load_kw"], 300.0, "Is it in W?"),
        ("prices", ["price_da"], 10.0, "price_da has a mean of 80.09 ct/kWh, high for a wholesale price"),
    ):
        assert note.split(" exceeds ")[0] not in usual
        frames = make_frames()
        frames[frame][columns] *= factor
        notes = notes_of(import_tidy(write(tmp_path, frames), CHOICES))
        assert note.replace("80.09", notes.partition("has a mean of ")[2].partition(" ")[0]) in notes


def test_days_of_one_sky_are_told_from_days_of_two(tmp_path: Path) -> None:
    frames = make_frames(days=60)
    day = frames["weather"]["time"].dt.day_of_year
    cloudy = 1.0 - 0.6 * (np.cos(2.1 * day) > 0)
    frames["readings"]["pv_kw"] *= np.tile(cloudy, 2)
    frames["weather"]["irradiance_w_per_m2"] *= cloudy
    assert "negative control" not in notes_of(import_tidy(write(tmp_path, frames), CHOICES))
    frames["weather"]["irradiance_w_per_m2"] *= (1.0 - 0.6 * (np.sin(1.3 * day) > 0)) / cloudy
    assert "hardly move together" in notes_of(import_tidy(write(tmp_path, frames), CHOICES))


def test_a_season_that_ends_is_no_other_sky(tmp_path: Path) -> None:
    frames = make_frames(days=200)  # both fall in autumn; of the days themselves PV knows nothing
    day = frames["weather"]["time"].dt.day_of_year
    autumn = 1.5 - day / 365
    rng = np.random.default_rng(1)
    skies = [pd.Series(1 + 0.2 * rng.standard_normal(366)) for _ in range(2)]
    frames["readings"]["pv_kw"] *= np.tile(autumn * skies[0][day].to_numpy().clip(0, None), 2)
    frames["weather"]["irradiance_w_per_m2"] *= autumn * skies[1][day].to_numpy().clip(0, None)
    assert "hardly move together" in notes_of(import_tidy(write(tmp_path, frames), CHOICES))


def test_zero_loads_are_kept_or_missing_as_the_user_says(tmp_path: Path) -> None:
    frames = make_frames()
    frames["readings"].loc[100, "load_kw"] = 0.0
    files = write(tmp_path, frames)
    kept = import_tidy(files, replace(CHOICES, shiftable_share=0.0))
    assert kept.dataset.load_kw[4, 4, 0] == 0.0
    assert "say --zero-load missing" in notes_of(kept)
    with pytest.raises(
        UsageError, match=r"readings.csv: column load_kw, row 102: the reading of a .* is 0.0, which is"
    ):
        import_tidy(files, replace(CHOICES, zero_load_is_missing=True))
    filled = import_tidy(files, replace(CHOICES, zero_load_is_missing=True, fill_gaps_h=1, shiftable_share=0.0))
    assert filled.dataset.load_kw[4, 4, 0] > 5.0
    assert filled.counts.filled_hours["load"] == 1
    assert (filled.dataset.pv_kw == 0.0).any()  # PV of zero is night


def test_what_the_source_says_of_its_terms_gives_way_to_the_user(tmp_path: Path) -> None:
    own = ausgrid(tmp_path, "2012-07-01", replace(CHOICES, licence="CC0-1.0", citation="me")).dataset
    assert (own.manifest.licence, own.manifest.citation) == ("CC0-1.0", "me")
    assert "Licence: CC0-1.0. Citation: me." in own.card
