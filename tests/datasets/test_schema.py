"""A Dataset is checked once, named in errors, and cannot change afterwards."""

from __future__ import annotations

import datetime
import pickle

import numpy as np
import pytest
from support import tiny_dataset, tiny_manifest

from prosumer_gym.datasets.schema import ARRAYS, LEAD_IN_DAYS, Dataset, Manifest, covariate_bounds
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return tiny_dataset()


def spoilt(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    out = array.copy()
    out[place] = value
    return out


def test_sizes_and_calendar_agree_with_the_standard_library(tiny: Dataset) -> None:
    assert (tiny.num_days, tiny.num_hours, tiny.num_prosumers, tiny.dt_h) == (40 + 3 * LEAD_IN_DAYS, 24, 10, 1.0)
    dates = [datetime.date.fromisoformat(str(date)) for date in tiny.dates]
    assert tiny.weekday.tolist() == [date.weekday() for date in dates]
    assert tiny.day_of_year.tolist() == [date.timetuple().tm_yday for date in dates]
    assert [len(tiny.days(split)) for split in ("train", "dev", "test", "lead-in")] == [24, 8, 8, 24]


@pytest.mark.parametrize("copy", [lambda d: d, lambda d: pickle.loads(pickle.dumps(d))], ids=["as made", "unpickled"])
def test_no_array_can_be_written(tiny: Dataset, copy) -> None:
    dataset = copy(tiny)
    for name in (*ARRAYS, "weekday", "day_of_year"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(dataset, name)[...] = 0
    with pytest.raises(AttributeError):
        dataset.load_kw = dataset.pv_kw
    assert dataset.manifest == tiny.manifest


def test_it_keeps_its_own_copy_of_what_it_was_given(tiny: Dataset) -> None:
    load = tiny.load_kw.copy()
    dataset = tiny.replace(load_kw=load)
    load[:] = -1.0
    assert np.array_equal(dataset.load_kw, tiny.load_kw)


@pytest.mark.parametrize(
    ("array", "place", "value", "named"),
    [
        ("load_kw", (10, 5, 3), np.nan, ["load_kw: nan", "2021-06-11", "row 10", "hour 5", "'home-3'"]),
        ("load_kw", (10, 5, 3), -0.5, ["load_kw: -0.5", "2021-06-11", "hour 5", "'home-3'"]),
        (
            "load_kw",
            (0, 0, 0),
            12_000.0,
            ["load_kw: 12000", "10000]; it is above the upper limit of one prosumer; is it W instead of kW"],
        ),
        ("pv_kw", (20, 0, 9), -1e-3, ["pv_kw: -0.001", "2021-06-21", "hour 0", "'home-9'"]),
        ("pv_kw", (20, 12, 9), np.inf, ["pv_kw: inf"]),
        ("shiftable_ref_kw", (1, 2, 3), -1.0, ["shiftable_ref_kw: -1", "2021-06-02", "hour 2", "'home-3'"]),
        ("price_da_ct_per_kwh", (63, 23), np.nan, ["price_da_ct_per_kwh: nan", "2021-08-03", "hour 23"]),
        ("price_rt_ct_per_kwh", (3, 4), 60_000.0, ["price_rt_ct_per_kwh: 60000", "per MWh"]),
        ("passive_pu", (3, 4), -0.1, ["passive_pu: -0.1", "hour 4"]),
        ("weather", (7, 3, 0), 95.0, ["weather temperature_c: 95", "deg F"]),
        ("weather", (7, 3, 1), 55.0, ["weather cloud_fraction: 55", "percent"]),
        ("weather", (7, 3, 2), -2.0, ["weather irradiance_w_per_m2: -2"]),
        ("weather_forecast", (7, 3, 2, 0), np.nan, ["weather_forecast temperature_c: nan", "2021-06-08", "'home-2'"]),
        ("pv_capacity_kw", (4,), np.nan, ["pv_capacity_kw", "'home-4'"]),
        ("pv_capacity_kw", (4,), -1.0, ["pv_capacity_kw", "'home-4'"]),
    ],
)
def test_a_bad_value_is_named_by_array_date_hour_and_prosumer(tiny, array, place, value, named) -> None:
    with pytest.raises(UsageError) as error:
        tiny.replace(**{array: spoilt(getattr(tiny, array), place, value)})
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in named), message


def test_prices_may_be_negative_and_in_any_order(tiny: Dataset) -> None:
    negative = tiny.replace(price_rt_ct_per_kwh=spoilt(tiny.price_rt_ct_per_kwh, (0, 0), -9.0))
    assert negative.price_rt_ct_per_kwh.min() == -9.0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"load_kw": np.zeros((64, 24))}, ["load_kw", "(64, 24)", "[D,H,N]"]),
        ({"load_kw": np.zeros((64, 23, 10))}, ["axis H", "23", "24"]),
        ({"prosumers": ("a", "b")}, ["axis N", "10", "2"]),
        ({"prosumers": ("a",) * 10}, ["'a' stands twice"]),
        ({"covariates": ("temperature_c", "cloud_fraction")}, ["axis F", "3", "2"]),
        ({"weekend": np.zeros(63, dtype=bool)}, ["weekend", "axis D"]),
        ({"load_kw": np.full((64, 24, 10), "1.0")}, ["load_kw", "float64 is needed"]),
        ({"load_kw": np.full((64, 24, 10), None)}, ["load_kw", "object"]),
        ({"weekend": np.zeros(64)}, ["weekend", "bool is needed"]),
        ({"block": np.zeros(64)}, ["block", "int64 is needed"]),
        ({"dates": np.datetime64("2021-06-01T12:00") + np.arange(64) * np.timedelta64(1, "D")}, ["whole days"]),
        ({"loads_kw": 1}, ["no field 'loads_kw'"]),
    ],
)
def test_wrong_shapes_and_types_are_refused(tiny: Dataset, changes, named) -> None:
    with pytest.raises(UsageError) as error:
        tiny.replace(**changes)
    assert all(part in str(error.value) for part in named), error.value


def test_conversions_that_lose_nothing_are_made(tiny: Dataset) -> None:
    whole = np.round(tiny.load_kw)
    dataset = tiny.replace(
        load_kw=np.asfortranarray(whole).astype(np.int32),
        dates=tiny.dates.astype("datetime64[ns]"),
        block=tiny.block.astype(np.int8),
    )
    assert dataset.load_kw.dtype == np.float64
    assert dataset.load_kw.flags.c_contiguous
    assert np.array_equal(dataset.load_kw, whole)
    assert np.array_equal(dataset.dates, tiny.dates)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"split": lambda s: np.where(np.arange(64) == 30, "test", s)}, ["row 30", "2021-07-01", "'test'", "'train'"]),
        ({"split": lambda s: np.where(np.arange(64) == 30, "lead-in", s)}, ["row 30"]),
        ({"split": lambda s: np.where(np.arange(64) == 7, "train", s)}, ["block 0", "7 lead-in days"]),
        ({"split": lambda s: np.where(np.arange(64) == 8, "lead-in", s)}, ["block 0", "9 lead-in days"]),
        ({"split": lambda s: np.where(s == "dev", "lead-in", s)}, ["block 1", "lead-in days only"]),
        ({"split": lambda s: np.where(s == "dev", "valid", s)}, ["row 40", "'valid'"]),
        ({"split": lambda s: np.where(s == "dev", "validation", s)}, ["'validation'"]),
        ({"block": lambda b: np.where(b == 2, 0, b)}, ["number 0 comes back at row 48"]),
        ({"dates": lambda d: np.where(np.arange(64) == 33, d[32], d)}, ["row 33", "2021-07-03"]),
        ({"dates": lambda d: d[::-1]}, ["row 1"]),
        ({"dates": lambda d: np.where(np.arange(64) == 33, np.datetime64("NaT"), d)}, ["row 33", "no date"]),
    ],
)
def test_the_rules_of_blocks(tiny: Dataset, changes, named) -> None:
    with pytest.raises(UsageError) as error:
        tiny.replace(**{name: change(getattr(tiny, name)) for name, change in changes.items()})
    assert all(part in str(error.value) for part in named), error.value


def test_missing_days_inside_a_block_are_allowed(tiny: Dataset) -> None:
    gap = tiny.subset([row for row in tiny.days("train") if row != 20])
    assert np.diff(gap.dates).astype(int).max() == 2


def test_training_history_has_train_days_and_their_lead_in_only(tiny: Dataset) -> None:
    history = tiny.training_history()
    assert history.split.tolist() == ["lead-in"] * 8 + ["train"] * 24
    assert history.dates.max() < tiny.dates[tiny.days("dev")].min()
    assert np.array_equal(history.load_kw, tiny.load_kw[:32])
    assert history.is_training.sum() == tiny.is_training.sum() == 24
    with pytest.raises(UsageError, match="no test days"):
        history.days("test")


def test_nothing_of_other_splits_reaches_the_training_history(tiny: Dataset) -> None:
    other = {
        name: np.where(np.arange(64).reshape(-1, *[1] * (getattr(tiny, name).ndim - 1)) < 32, getattr(tiny, name), 0.5)
        for name in (
            "load_kw",
            "pv_kw",
            "price_da_ct_per_kwh",
            "price_rt_ct_per_kwh",
            "weather",
            "weather_forecast",
            "passive_pu",
        )
    }
    history, changed = tiny.training_history(), tiny.replace(**other).training_history()
    assert history.manifest.sha256 == changed.manifest.sha256


def test_a_subset_brings_the_lead_in_of_its_blocks(tiny: Dataset) -> None:
    rows = tiny.days("test")[3:5]
    part = tiny.subset(rows)
    assert part.split.tolist() == ["lead-in"] * 8 + ["test"] * 2
    assert np.array_equal(part.pv_kw[8:], tiny.pv_kw[rows])
    for bad, named in (([64], "no row 64"), ([-1], "no row -1"), ([0, 1], "no scored day"), ([], "no scored day")):
        with pytest.raises(UsageError, match=named):
            tiny.subset(bad)


def test_an_unknown_split_is_refused(tiny: Dataset) -> None:
    with pytest.raises(UsageError, match="'valid' is unknown; use one of train, dev, test"):
        tiny.days("valid")


def test_the_digest_sees_every_array_and_name(tiny: Dataset) -> None:
    def bump(name: str) -> np.ndarray:
        array = getattr(tiny, name).copy()
        if name == "dates":
            array[-1] += np.timedelta64(1, "D")
        elif name == "split":
            array[tiny.days("test")] = "dev"
        elif name == "weekend":
            array[-1] = ~array[-1]
        elif name == "block":
            array += 1
        else:
            array.flat[-1] = np.nextafter(array.flat[-1], 0.4)
        return array

    digests = {tiny.manifest.sha256} | {tiny.replace(**{name: bump(name)}).manifest.sha256 for name in ARRAYS}
    digests.add(tiny.replace(prosumers=tuple(f"x{n}" for n in range(10))).manifest.sha256)
    digests.add(tiny.replace(covariates=("temperature_c", "cloud_fraction", "sun")).manifest.sha256)
    assert len(digests) == len(ARRAYS) + 3
    assert tiny.replace(card="other").manifest.sha256 == tiny.manifest.sha256


def test_a_wrong_digest_is_refused(tiny: Dataset) -> None:
    fields = {name: getattr(tiny, name) for name in (*ARRAYS, "prosumers", "covariates")}
    assert Dataset(manifest=tiny.manifest, **fields).manifest == tiny.manifest
    with pytest.raises(UsageError, match="the data was changed"):
        Dataset(manifest=tiny.manifest, **{**fields, "load_kw": tiny.load_kw * 1.01})


def test_exogenous_carries_the_same_numbers(tiny: Dataset) -> None:
    exogenous = tiny.exogenous
    assert exogenous is tiny.exogenous
    for name in ("load_kw", "pv_kw", "shiftable_ref_kw", "price_da_ct_per_kwh", "price_rt_ct_per_kwh", "passive_pu"):
        assert np.array_equal(getattr(exogenous, name), getattr(tiny, name))


def test_a_community_must_fit(tiny: Dataset) -> None:
    community = make_scenario("ieee33")
    tiny.check_community(community)
    with pytest.raises(UsageError, match="it has 4 prosumers, the community has 10"):
        tiny_dataset(num_prosumers=4).check_community(community)
    over = tiny.replace(shiftable_ref_kw=spoilt(tiny.shiftable_ref_kw, (9, 13, 2), 20.5))
    with pytest.raises(UsageError, match=r"20\.5 kW on 2021-06-10 step 13, prosumer 'home-2'.*20 kW"):
        over.check_community(community)


def test_steps_of_a_quarter_of_an_hour() -> None:
    dataset = tiny_dataset(num_days=5, hours=96, num_prosumers=2)
    assert dataset.dt_h == 0.25
    with pytest.raises(UsageError, match="step 95"):
        dataset.replace(load_kw=spoilt(dataset.load_kw, (1, 95, 0), np.nan))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("not json", ["m.json", "json"]),
        ("{}", ["m.json", "id", "required"]),
        (lambda m: m.model_dump_json().replace('"licence":"CC0-1.0",', ""), ["licence", "required"]),
        (lambda m: m.model_dump_json().replace('"begin"', '"end"'), ["interval_label", "'begin'"]),
        (lambda m: m.model_dump_json().replace('"id":', '"colour":"red","id":'), ["colour", "not permitted"]),
        (lambda m: m.model_dump_json().replace('"tiny"', '"../tiny"'), ["id"]),
        (lambda m: m.model_dump_json().replace('"time_zone":"UTC+03:30"', '"time_zone":""'), ["time_zone"]),
        (
            lambda m: m.model_dump_json().replace("UTC+03:30", "Foo"),
            ["m.json: time_zone: time zone 'Foo' is unknown; give a name such as Europe/London"],
        ),
        (lambda m: m.model_dump_json().replace("UTC+03:30", "Europe/Londn"), ["'Europe/Londn' is unknown"]),
    ],
)
def test_a_bad_manifest_names_the_field(text, named) -> None:
    content = text if isinstance(text, str) else text(tiny_manifest())
    with pytest.raises(UsageError) as error:
        Manifest.from_json(content, "m.json")
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in named), message


@pytest.mark.parametrize("zone", ["UTC", "UTC-03:30", "Europe/London", "America/Argentina/Ushuaia"])
def test_a_manifest_takes_places_and_fixed_offsets(zone: str) -> None:
    text = tiny_manifest().model_dump_json().replace("UTC+03:30", zone)
    assert Manifest.from_json(text, "m.json").time_zone == zone


def test_bounds_of_covariates() -> None:
    assert covariate_bounds("cloud_fraction") == (0.0, 1.0)
    assert covariate_bounds("wind_m_per_s") == covariate_bounds("load_kw")  # not a covariate of the schema: wide
