from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pvlib
import pytest
from citylearn_files import FIRST_DATE, LATITUDE, LONGITUDE, OLD_NAMES, ZONE, CityLearnFiles, make_citylearn

from prosumer_gym.datasets.citylearn import CityLearn, cloud_of
from prosumer_gym.datasets.forecast_errors import cloud_transmission
from prosumer_gym.datasets.importers import Companions, import_citylearn
from prosumer_gym.datasets.imports import ImportChoices, Imported
from prosumer_gym.datasets.schema import ARRAYS, Dataset, parse_zone
from prosumer_gym.errors import UsageError

WHOLE_LOAD = ImportChoices(id="mine", shiftable_share=0.0)


def load(
    folder: Path,
    files: CityLearnFiles,
    choices: ImportChoices = WHOLE_LOAD,
    companions: Companions | None = None,
    *,
    one_price: bool = True,
    zone: str = ZONE,
    **said: Any,
) -> Imported:
    given = {
        "first_date": date.fromisoformat(FIRST_DATE),
        "latitude": LATITUDE,
        "longitude": LONGITUDE,
        **said,
    }
    source = CityLearn(schema=files.write(folder), zone=parse_zone(zone), **given)
    return import_citylearn(source, zone, companions or Companions(), choices, one_price=one_price)


def same_days(one: Dataset, other: Dataset) -> bool:
    return one.manifest.sha256 == other.manifest.sha256


def notes_of(imported: Imported) -> str:
    return " ".join(imported.notes)


# what goes in comes out -------------------------------------------------------------------------------------------


def test_each_hour_is_at_its_place_though_the_files_tell_no_year(tmp_path: Path) -> None:
    files = make_citylearn()
    imported = load(tmp_path, files)
    dataset = imported.dataset
    assert imported.counts.at_the_edges == ["2016-07-31"]  # its last hour alone is in the files
    assert str(dataset.dates[0]) == "2016-08-01"
    frame = files.frames["Building_2.csv"]
    for row in (0, 20):  # hour 1 of the file is the hour from 0 to 1
        of_day = slice(1 + 24 * row, 25 + 24 * row)
        np.testing.assert_array_equal(frame["hour"][of_day], np.arange(1, 25))
        np.testing.assert_array_equal(dataset.load_kw[row, :, 1], frame["non_shiftable_load"][of_day])
        np.testing.assert_allclose(
            dataset.pv_kw[row, :, 1], frame["solar_generation"][of_day] * 4.0 / 1000, rtol=1e-12
        )  # 4 kW
        np.testing.assert_array_equal(
            dataset.weather[row, :, 0], files.frames["weather.csv"]["outdoor_dry_bulb_temperature"][of_day]
        )


def test_the_schema_says_who_takes_part_and_how_large_the_pv_is(tmp_path: Path) -> None:
    files = make_citylearn()
    dataset = load(tmp_path, files).dataset
    assert dataset.prosumers == ("Building_1", "Building_2", "Building_3")
    np.testing.assert_array_equal(dataset.pv_capacity_kw, [2.0, 4.0, 0.0])
    assert (dataset.pv_kw[:, :, 2] == 0.0).all()  # no PV in the schema, whatever the column holds
    chosen = load(tmp_path, files, buildings=("Building_4", "Building_1")).dataset
    assert chosen.prosumers == ("Building_4", "Building_1")
    np.testing.assert_array_equal(chosen.pv_kw[:, :, 1], dataset.pv_kw[:, :, 0])


def test_the_names_of_2022_mean_the_same(tmp_path: Path) -> None:
    files = make_citylearn()
    today = load(tmp_path, files)
    files.frames = {name: frame.rename(columns=OLD_NAMES) for name, frame in files.frames.items()}
    old = load(tmp_path, files)
    assert same_days(old.dataset, today.dataset)
    assert old.notes == today.notes


def test_hours_from_0_to_23_are_read_when_the_user_says_which_end_they_name(tmp_path: Path) -> None:
    files = make_citylearn()
    expected = load(tmp_path, files).dataset
    for n in range(1, 5):
        files.frames[f"Building_{n}.csv"]["hour"] -= 1
    assert same_days(load(tmp_path, files, hours_name="begin").dataset, expected)
    with pytest.raises(UsageError, match=r"Building_1.csv: column hour, row 3: hours run from 0 to 23 here; say"):
        load(tmp_path, files)
    later = make_citylearn(first="2016-08-01 00:00")  # the first row is of hour 0, the end of an hour of July
    for n in range(1, 5):
        later.frames[f"Building_{n}.csv"]["hour"] -= 1
    moved = load(tmp_path, later, first_date=date(2016, 8, 1), hours_name="end").dataset
    np.testing.assert_array_equal(moved.load_kw[0, :-1, 0], later.frames["Building_1.csv"]["non_shiftable_load"][1:24])


@pytest.mark.parametrize(("first", "change"), [("2016-03-01", "2016-03-13"), ("2016-10-15", "2016-11-06")])
def test_a_file_on_the_clock_of_the_place_loses_the_days_on_which_it_changes(
    tmp_path: Path, first: str, change: str
) -> None:
    zone = "America/Los_Angeles"
    files = make_citylearn(first=f"{first} 00:00", zone=zone)
    rows = files.frames["Building_1.csv"]
    imported = load(tmp_path, files, zone=zone, first_date=date.fromisoformat(first))
    assert imported.counts.clock_change == [change]
    assert imported.counts.incomplete == []
    last = str(imported.dataset.dates[-1])
    np.testing.assert_array_equal(imported.dataset.load_kw[-1, :, 0], rows["non_shiftable_load"].to_numpy()[-24:])
    assert last == str(pd.Timestamp(first) + pd.DateOffset(days=40))[:10]
    assert "summer time" not in notes_of(imported)


# weather -----------------------------------------------------------------------------------------------------------


def test_irradiance_is_diffuse_plus_direct_on_the_horizontal(tmp_path: Path) -> None:
    files = make_citylearn()
    dataset = load(tmp_path, files).dataset
    weather = files.frames["weather.csv"]
    for row in (3, 30):
        begin = pd.Timestamp(str(dataset.dates[row]), tz=ZONE)
        instants = pd.date_range(begin, periods=24 * 12, freq="5min") + pd.Timedelta("2.5min")
        zenith = pvlib.solarposition.get_solarposition(instants, LATITUDE, LONGITUDE)["zenith"]
        cosine = np.maximum(np.cos(np.radians(zenith)), 0).to_numpy().reshape(24, 12).mean(axis=1)
        of_day = slice(1 + 24 * row, 25 + 24 * row)
        expected = weather["diffuse_solar_irradiance"][of_day] + weather["direct_solar_irradiance"][of_day] * cosine
        np.testing.assert_allclose(dataset.weather[row, :, 2], expected, atol=2.5)
    assert "irradiance (diffuse + direct x cosine" in dataset.manifest.derived


def test_a_column_called_diffuse_that_is_the_global_one_is_refused_until_the_user_says_so(tmp_path: Path) -> None:
    files = make_citylearn()
    weather = files.frames["weather.csv"]
    weather["diffuse_solar_irradiance"] *= 6  # up to 900 W/m2
    with pytest.raises(
        UsageError, match=r"weather.csv: column diffuse_solar_irradiance, row \d+: .*--diffuse-column g"
    ):
        load(tmp_path, files)
    dataset = load(tmp_path, files, diffuse_column="global").dataset
    np.testing.assert_array_equal(dataset.weather[0, :, 2], weather["diffuse_solar_irradiance"][1:25])
    assert "irradiance" not in dataset.manifest.derived.replace("from irradiance", "")


def test_the_cloud_is_the_one_that_leaves_the_irradiance_and_tells_nothing_of_the_morning() -> None:
    hours = np.arange(72)
    clear = np.maximum(900 * np.sin(np.pi * (hours % 24 - 6) / 12), 0.0)
    cloud = np.where(hours < 24, 0.0, np.where(hours < 48, 0.6, 0.9))
    seen = cloud_of(clear * cloud_transmission(cloud), clear)
    sunny = clear > 100
    np.testing.assert_allclose(seen[sunny], cloud[sunny], atol=1e-6)
    np.testing.assert_allclose(seen[19:31], 0.0, atol=1e-6)  # the night before the cloudy day
    np.testing.assert_allclose(seen[43:55], 0.6, atol=1e-6)
    assert cloud_of(0.0 * clear, clear).max() == 1.0
    holed = clear.copy()
    holed[[12, 22]] = np.nan
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(cloud_of(holed, clear))), [12, 22])


def test_missing_irradiance_is_a_gap_and_not_a_clear_sky(tmp_path: Path) -> None:
    files = make_citylearn()
    files.set("weather.csv", 60, "direct_solar_irradiance", np.nan)
    with pytest.raises(
        UsageError, match=r"weather.csv: column diffuse_solar_irradiance, row \d+: the reading at 2016-08"
    ):
        load(tmp_path, files)


def test_columns_of_predictions_are_flagged_and_never_used(tmp_path: Path) -> None:
    files = make_citylearn()
    plain = load(tmp_path, files)
    assert "6 columns of predictions are the observed weather of 6, 12 and 24 hours later, unchanged" in notes_of(plain)
    columns = [column for column in files.frames["weather.csv"] if "_predicted_" in column]
    files.frames["weather.csv"][columns] += np.random.default_rng(0).normal(size=(len(files.frames["weather.csv"]), 6))
    noisy = load(tmp_path, files)
    assert same_days(noisy.dataset, plain.dataset)
    assert "made from later observed weather" in notes_of(noisy)
    files.frames["weather.csv"] = files.frames["weather.csv"].drop(columns=columns)
    assert "predictions" not in notes_of(load(tmp_path, files))
    assert "weather forecasts (the weather plus the error model" in plain.dataset.manifest.made


def test_weather_of_other_days_is_noted_as_a_negative_control(tmp_path: Path) -> None:
    files = make_citylearn(days=60)
    assert "negative control" not in notes_of(load(tmp_path, files))
    weather = files.frames["weather.csv"]
    files.frames["weather.csv"] = weather.apply(lambda column: np.roll(column, 24 * 23))  # other days, the same hours
    imported = load(tmp_path, files)
    assert "the weather seems not to be that of the days of the readings" in notes_of(imported)
    assert "negative control" in imported.dataset.card


def test_weather_of_ones_own_takes_the_place_of_that_of_the_set(tmp_path: Path) -> None:
    files = make_citylearn()
    times = pd.date_range("2016-07-20", "2016-09-20", freq="h", tz="UTC")
    own = pd.DataFrame({"time": times, "temperature_c": 7.0, "cloud_fraction": 0.5, "irradiance_w_per_m2": 0.0})
    own.to_csv(tmp_path / "own.csv", index=False)
    companions = Companions(weather=tmp_path / "own.csv", interval_label="begin")
    dataset = load(tmp_path / "set", files, companions=companions, latitude=None, longitude=None).dataset
    assert (dataset.weather[:, :, 0] == 7.0).all()
    assert "weather.csv" not in dataset.manifest.sources
    with pytest.raises(UsageError, match=r"own.csv: which end of its step does a time name"):
        load(tmp_path / "set", files, companions=Companions(weather=tmp_path / "own.csv"))
    with pytest.raises(UsageError, match="say --latitude and --longitude"):
        load(tmp_path / "set", files, latitude=None)


# prices ------------------------------------------------------------------------------------------------------------


def write_prices(path: Path, **columns: float) -> Path:
    times = pd.date_range("2016-07-20", "2016-09-20", freq="h", tz="UTC")
    pd.DataFrame({"time": times, **columns}).to_csv(path, index=False)
    return path


def test_the_one_price_is_the_day_ahead_price_in_ct_and_the_real_time_price_must_be_said(tmp_path: Path) -> None:
    files = make_citylearn()
    with pytest.raises(
        UsageError, match=r"pricing.csv: the set has one price; give the real-time price with --prices-rt"
    ):
        load(tmp_path, files, one_price=False)
    one = load(tmp_path, files)
    pricing = files.frames["pricing.csv"]["electricity_pricing"].to_numpy()
    np.testing.assert_allclose(one.dataset.price_da_ct_per_kwh.ravel()[:200], 100 * pricing[1:201], rtol=1e-12)
    assert one.dataset.price_da_ct_per_kwh.min() == pytest.approx(-5.0)  # a negative price is one
    np.testing.assert_array_equal(one.dataset.price_rt_ct_per_kwh, one.dataset.price_da_ct_per_kwh)
    assert "real-time price (the day-ahead price, as said by the user)" in one.dataset.manifest.made
    assert "Both prices are one" in notes_of(one)

    rt = write_prices(tmp_path / "rt.csv", price_rt=-30.0)
    said = {"price_unit": "EUR/MWh", "interval_label": "begin"}
    apart = load(tmp_path, files, companions=Companions(prices_rt=(rt,), **said), one_price=False).dataset
    np.testing.assert_array_equal(apart.price_da_ct_per_kwh, one.dataset.price_da_ct_per_kwh)
    assert (apart.price_rt_ct_per_kwh == -3.0).all()
    assert "real-time price" not in apart.manifest.made

    both = Companions(prices=(write_prices(tmp_path / "both.csv", price_da=50.0, price_rt=60.0),), **said)
    dataset = load(tmp_path, files, companions=both, one_price=False).dataset
    assert (dataset.price_da_ct_per_kwh == 5.0).all()
    assert "pricing.csv" not in dataset.manifest.sources
    with pytest.raises(UsageError, match="--one-price: prices are given"):
        load(tmp_path, files, companions=both)


# notes and gaps ----------------------------------------------------------------------------------------------------


def test_heat_is_no_electricity_and_said_to_be_left_out(tmp_path: Path) -> None:
    files = make_citylearn()
    plain = load(tmp_path, files)
    assert "heating" not in notes_of(plain)
    files.frames["Building_1.csv"]["cooling_demand"] = 1.0
    hot = load(tmp_path, files)
    assert same_days(hot.dataset, plain.dataset)
    assert "Heat for cooling, heating and hot water (961 kWh in 1 buildings) is not in the load" in notes_of(hot)


def test_marks_of_summer_time_that_are_not_of_the_zone_are_noted(tmp_path: Path) -> None:
    files = make_citylearn()
    assert "summer time" not in notes_of(load(tmp_path, files))
    files.frames["Building_1.csv"]["daylight_savings_status"] = 1
    assert "Building_1 marks 961 hours as summer time, by UTC-08:00 0 are" in notes_of(load(tmp_path, files))
    files = make_citylearn()  # no clock changes in summer: only the marks can tell
    wrong = load(tmp_path, files, zone="America/Los_Angeles")
    assert "marks 0 hours as summer time, by America/Los_Angeles 961 are" in notes_of(wrong)


def test_zeros_that_mean_missing_are_gaps_when_the_user_says_so(tmp_path: Path) -> None:
    files = make_citylearn()
    files.set("Building_2.csv", 49, "non_shiftable_load", 0)
    kept = load(tmp_path, files)
    assert "exactly 0 in 1 hours" in notes_of(kept)
    assert kept.dataset.load_kw[2, 0, 1] == 0.0
    missing = ImportChoices(id="mine", shiftable_share=0.0, zero_load_is_missing=True)
    said = (
        r"Building_2.csv: column non_shiftable_load, row 51: the reading at 2016-08-03 00:00 local time is 0, which is"
    )
    with pytest.raises(UsageError, match=said):
        load(tmp_path, files, missing)
    filled = load(tmp_path, files, ImportChoices(id="x", zero_load_is_missing=True, fill_gaps_h=1)).dataset
    assert filled.load_kw[2, 0, 1] > 0.0
    assert "counts as missing" in filled.card


# errors ------------------------------------------------------------------------------------------------------------

Break = Callable[[CityLearnFiles], None]


def cell(name: str, row: int, column: str, value: Any) -> Break:
    return lambda files: files.set(name, row, column, value)


def times_factor(name: str, column: str, factor: float) -> Break:
    def change(files: CityLearnFiles) -> None:
        files.frames[name][column] *= factor

    return change


def without(name: str, column: str) -> Break:
    def change(files: CityLearnFiles) -> None:
        files.frames[name] = files.frames[name].drop(columns=column)

    return change


def without_row(name: str, row: int) -> Break:
    def change(files: CityLearnFiles) -> None:
        files.frames[name] = files.frames[name].drop(index=row)

    return change


def schema(building: str, field: str, value: Any) -> Break:
    def change(files: CityLearnFiles) -> None:
        files.schema["buildings"][building][field] = value

    return change


def seconds(value: int) -> Break:
    def change(files: CityLearnFiles) -> None:
        files.schema["seconds_per_time_step"] = value

    return change


ERRORS: dict[str, tuple[Break, str]] = {
    "a row is missing": (
        without_row("Building_1.csv", 30),
        "Building_1.csv: column hour, row 32: it is 7, hour 6 is due; a row is missing before it",
    ),
    "an empty load": (
        cell("Building_3.csv", 30, "non_shiftable_load", np.nan),
        "Building_3.csv: column non_shiftable_load, row 32: the reading at 2016-08-02 05:00 local time is empty",
    ),
    "an empty hour": (cell("Building_1.csv", 4, "hour", np.nan), "Building_1.csv: column hour, row 6: it is empty"),
    "text": (cell("Building_1.csv", 4, "solar_generation", "x"), "column solar_generation, row 6: 'x' is not a number"),
    "a mark for missing": (
        cell("weather.csv", 9, "diffuse_solar_irradiance", -999),
        "weather.csv: column diffuse_solar_irradiance, row 11: -999 is outside [0, 1500]; is it in W/m2? And where a",
    ),
    "degrees F": (
        cell("weather.csv", 9, "outdoor_dry_bulb_temperature", 95),
        "weather.csv: column outdoor_dry_bulb_temperature, row 11: 95 is outside [-90, 65]; is it in deg F",
    ),
    "negative PV": (
        cell("Building_1.csv", 3, "solar_generation", -0.5),
        "Building_1.csv: column solar_generation, row 5: -0.5 is outside [0, 1500]; it is in W for each kW",
    ),
    "PV in kW": (
        times_factor("Building_1.csv", "solar_generation", 0.001),
        "should be in W for each kW of PV; multiply kW by 1000",
    ),
    "negative load": (
        cell("Building_1.csv", 3, "non_shiftable_load", -999),
        "Building_1.csv: column non_shiftable_load, row 5: -999 is outside",
    ),
    "a price per MWh": (
        times_factor("pricing.csv", "electricity_pricing", 1000),
        "pricing.csv: column electricity_pricing, row 2: 300 is outside [-10, 10]; it is in $/kWh; is it per MWh",
    ),
    "another month": (
        cell("Building_1.csv", 30, "month", 7),
        "Building_1.csv: column month, row 32: it is 7, but the row is of 2016-08-02, a Tuesday (it should be 8)",
    ),
    "another weekday": (
        cell("Building_1.csv", 30, "day_type", 3),
        "Building_1.csv: column day_type, row 32: it is 3, but the row is of 2016-08-02, a Tuesday (it should be 2)",
    ),
    "no load": (
        without("Building_2.csv", "non_shiftable_load"),
        "Building_2.csv: column non_shiftable_load is missing; it has month",
    ),
    "weather of other length": (
        without_row("weather.csv", 5),
        "weather.csv: it has 960 rows, Building_1.csv has 961; fetch both again",
    ),
    "PV sized later": (
        schema("Building_1", "pv", {"autosize": True}),
        "schema.json: field buildings.Building_1.pv.attributes.nominal_power is None; give the rated PV power",
    ),
    "PV power in text": (
        schema("Building_1", "pv", {"attributes": {"nominal_power": "4"}}),
        "schema.json: field buildings.Building_1.pv.attributes.nominal_power is 4; give the rated PV power in kW",
    ),
    "no file of a building": (
        schema("Building_1", "energy_simulation", None),
        "schema.json: field buildings.Building_1.energy_simulation is missing",
    ),
    "a file that is not there": (schema("Building_1", "energy_simulation", "x.csv"), "x.csv: there is no such file"),
    "no price": (schema("Building_1", "pricing", None), "schema.json: fields buildings.*.pricing"),
    "two weathers": (
        schema("Building_1", "weather", "other.csv"),
        "schema.json: fields buildings.*.weather differ between the buildings; give --weather",
    ),
    "quarters of an hour": (
        seconds(900),
        "schema.json: field seconds_per_time_step is 900; only hours (3600) are read",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_that_names_file_column_and_row(tmp_path: Path, case: str) -> None:
    change, what = ERRORS[case]
    files = make_citylearn()
    change(files)
    with pytest.raises(UsageError, match=f"^{re.escape(str(tmp_path))}/.*{re.escape(what)}") as caught:
        load(tmp_path, files)
    assert "\n" not in str(caught.value)


def test_another_year_or_a_clock_that_changes_is_found_by_the_calendar(tmp_path: Path) -> None:
    files = make_citylearn(days=120)
    with pytest.raises(UsageError, match=r"column day_type, row 2: it is 7, but the row is of 2017-07-31, a Monday"):
        load(tmp_path, files, first_date=date(2017, 7, 31))
    with pytest.raises(UsageError, match=r"column month, row 2: it is 7, but the row is of 2016-08-07, a Sunday"):
        load(tmp_path, files, first_date=date(2016, 8, 7))
    change = r"column hour, row \d+: it is 3, hour 2 is due; the clock of America/Los_Angeles changes here, that of the"
    with pytest.raises(UsageError, match=change):
        load(tmp_path, files, zone="America/Los_Angeles")
    with pytest.raises(UsageError, match="hours 1 to 24 name the end of a step; leave --hours-name away"):
        load(tmp_path, files, hours_name="begin")


def test_a_schema_that_is_none_is_named(tmp_path: Path) -> None:
    files = make_citylearn()
    with pytest.raises(
        UsageError, match=r"schema.json: field buildings has no 'Bulding_1'; it has Building_1, Building_2"
    ):
        load(tmp_path, files, buildings=("Bulding_1",))
    for content, what in (("{", "it is not JSON"), ("[]", "buildings is missing"), ("{}", "buildings is missing")):
        (tmp_path / "schema.json").write_text(content)
        with pytest.raises(UsageError, match=f"schema.json: .*{what}"):
            CityLearn(schema=tmp_path, first_date=date(2016, 7, 31), zone=parse_zone(ZONE)).prosumers()
    with pytest.raises(UsageError, match=r"nowhere.json: it cannot be read"):
        CityLearn(schema=tmp_path / "nowhere.json", first_date=date(2016, 7, 31), zone=parse_zone(ZONE)).prosumers()
    empty = {"seconds_per_time_step": 3600, "buildings": {"a": {"include": False}}}
    (tmp_path / "schema.json").write_text(json.dumps(empty))
    with pytest.raises(UsageError, match="includes no building"):
        CityLearn(schema=tmp_path, first_date=date(2016, 7, 31), zone=parse_zone(ZONE)).prosumers()


def test_a_schema_that_is_nested_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("[" * 200_000)
    with pytest.raises(UsageError, match=r"schema.json: it is nested too deeply"):
        CityLearn(schema=tmp_path, first_date=date(2016, 7, 31), zone=parse_zone(ZONE)).prosumers()


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ({"latitude": 91.0}, "--latitude 91: give degrees from -90 to 90"),
        ({"longitude": -181.0}, "--longitude -181: give degrees from -180 to 180"),
        ({"latitude": float("nan")}, "--latitude nan: give degrees"),
        ({"longitude": float("inf")}, "--longitude inf: give degrees"),
    ],
)
def test_a_place_that_is_not_on_earth_is_named(tmp_path: Path, place: dict[str, float], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        CityLearn(schema=tmp_path, first_date=date(2016, 7, 31), zone=parse_zone(ZONE), **place)


def test_importing_again_gives_the_same_bits(tmp_path: Path) -> None:
    files = make_citylearn()
    one, other = (load(tmp_path, files).dataset for _ in range(2))
    assert one.manifest == other.manifest
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
