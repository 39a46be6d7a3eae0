from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tiny_dataset
from tidy_files import TidyFiles, import_tidy, make_frames, write

from prosumer_gym.baselines.forecast import MIN_TRAINING_DAYS
from prosumer_gym.datasets.assemble import season_blocks
from prosumer_gym.datasets.imports import ImportChoices, Imported
from prosumer_gym.datasets.oddities import MIN_TRAIN_DAYS_OF_FORECASTS
from prosumer_gym.datasets.schema import ARRAYS, COVARIATES, LEAD_IN_DAYS, Dataset
from prosumer_gym.datasets.splits import Block
from prosumer_gym.errors import UsageError

CHOICES = ImportChoices(id="mine")


def same_days(one: Dataset, other: Dataset) -> bool:
    return one.manifest.sha256 == other.manifest.sha256


def tidy_frames(dataset: Dataset) -> dict[str, pd.DataFrame]:
    """A data set as tidy tables; the inverse of the importer."""
    hours = (dataset.dates.astype("datetime64[h]")[:, None] + np.arange(dataset.num_hours)).ravel()
    times = pd.DatetimeIndex(hours.astype("datetime64[ns]"), tz="UTC+03:30")
    flat = {
        name: getattr(dataset, name).reshape(len(times), -1) for name in ARRAYS if np.ndim(getattr(dataset, name)) > 1
    }
    forecast = dataset.weather_forecast.reshape(len(times), dataset.num_prosumers, -1)
    readings, forecasts = [], []
    for n, name in enumerate(dataset.prosumers):
        columns = {f"{q}_kw": flat[f"{q}_kw"][:, n] for q in ("load", "pv", "shiftable_ref")}
        readings.append(pd.DataFrame({"time": times, "id": name, **columns}))
        forecasts.append(
            pd.DataFrame({"time": times, "id": name, **{c: forecast[:, n, f] for f, c in enumerate(COVARIATES)}})
        )
    return {
        "readings": pd.concat(readings),
        "prices": pd.DataFrame(
            {
                "time": times,
                "price_da": flat["price_da_ct_per_kwh"][:, 0],
                "price_rt": flat["price_rt_ct_per_kwh"][:, 0],
            }
        ),
        "weather": pd.DataFrame({"time": times, **{c: flat["weather"][:, f] for f, c in enumerate(COVARIATES)}}),
        "forecasts": pd.concat(forecasts),
        "passive": pd.DataFrame({"time": times, "passive_pu": flat["passive_pu"][:, 0]}),
        "capacities": pd.DataFrame({"id": dataset.prosumers, "pv_capacity_kw": dataset.pv_capacity_kw}),
    }


def blocks_of(dataset: Dataset) -> tuple[Block, ...]:
    blocks = []
    for number in np.unique(dataset.block):
        mine = np.flatnonzero((dataset.block == number) & (dataset.split != "lead-in"))
        blocks.append(Block(str(dataset.split[mine[0]]), dataset.dates[mine[0]], dataset.dates[mine[-1]]))
    return tuple(blocks)


# what goes in comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_a_data_set_survives_the_round_trip_through_tidy_files_exactly(tmp_path: Path, kind: str) -> None:
    dataset = tiny_dataset(num_days=10, num_prosumers=3)
    paths = {}
    for name, frame in tidy_frames(dataset).items():
        paths[name] = tmp_path / f"{name}.{kind}"
        frame = frame.sample(frac=1.0, random_state=1)  # the order of the rows says nothing but the order of the ids
        if name == "readings":
            frame = frame.sort_values("id", kind="stable")
        if kind == "parquet":
            frame.to_parquet(paths[name])
        else:
            frame.to_csv(paths[name], index=False)
    files = TidyFiles(**paths, time_zone=dataset.time_zone, interval_label="begin", unit="kW", price_unit="ct/kWh")
    choices = replace(CHOICES, blocks=blocks_of(dataset), weekend=(3, 4))
    back = import_tidy(files, choices).dataset
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(back, name), getattr(dataset, name), err_msg=name)
    assert back.prosumers == dataset.prosumers
    assert same_days(back, dataset)
    assert back.manifest.made == "nothing"
    assert back.manifest.seed is None


@pytest.mark.parametrize("form", ["local", "utc"])
def test_times_with_an_offset_local_times_and_utc_times_give_the_same_days(tmp_path: Path, form: str) -> None:
    frames = make_frames()
    aware = import_tidy(write(tmp_path, frames), CHOICES).dataset
    assert same_days(import_tidy(write(tmp_path, frames, form), CHOICES).dataset, aware)


def test_times_that_name_the_end_of_a_step_give_the_same_days(tmp_path: Path) -> None:
    frames = make_frames()
    begin = import_tidy(write(tmp_path, frames), CHOICES).dataset
    for frame in frames.values():
        frame["time"] += pd.Timedelta(hours=1)
    assert same_days(import_tidy(write(tmp_path, frames, interval_label="end"), CHOICES).dataset, begin)
    shifted = import_tidy(write(tmp_path, frames), CHOICES).dataset  # a wrong label moves everything by an hour
    np.testing.assert_array_equal(shifted.load_kw[0, 1:], begin.load_kw[1, :-1])


def test_energy_of_half_hours_becomes_the_mean_power_of_the_hour(tmp_path: Path) -> None:
    frames = make_frames(step="30min")
    power = import_tidy(write(tmp_path, frames), CHOICES).dataset
    steps = frames["readings"].query("id == 'a'")["load_kw"].to_numpy().reshape(-1, 24, 2)
    # whole seasons of 40 days: the first row is the first day, 0.7 of its load is must-run
    np.testing.assert_allclose(power.load_kw[0, :, 0], 0.7 * steps[0].mean(axis=1), rtol=1e-12)
    readings = frames["readings"]
    frames["readings"] = pd.DataFrame(
        {
            "time": readings["time"],
            "id": readings["id"],
            "load_kwh": readings["load_kw"] / 2,
            "pv_kwh": readings["pv_kw"] / 2,
        }
    )
    energy = import_tidy(write(tmp_path, frames, unit="kWh"), CHOICES).dataset
    assert same_days(energy, power)


def test_files_may_have_steps_of_different_length_and_cover_different_spans(tmp_path: Path) -> None:
    frames = make_frames()
    half = make_frames(first="2018-04-20", days=70, step="30min")
    mixed = import_tidy(write(tmp_path, {**frames, "prices": half["prices"]}), CHOICES).dataset
    day = half["prices"][half["prices"]["time"].dt.strftime("%Y-%m-%d") == str(mixed.dates[3])]
    np.testing.assert_allclose(
        mixed.price_da_ct_per_kwh[3], day["price_da"].to_numpy().reshape(24, 2).mean(axis=1), rtol=1e-12
    )


@pytest.mark.parametrize(("unit", "factor"), [("EUR/MWh", 0.1), ("EUR/kWh", 100.0)])
def test_prices_are_converted_to_ct_and_keep_their_sign(tmp_path: Path, unit: str, factor: float) -> None:
    frames = make_frames()
    frames["prices"].loc[5, "price_da"] = -3.0
    ct = import_tidy(write(tmp_path, frames), CHOICES).dataset
    other = import_tidy(write(tmp_path, frames, price_unit=unit), CHOICES).dataset
    np.testing.assert_allclose(other.price_rt_ct_per_kwh, factor * ct.price_rt_ct_per_kwh)
    assert other.price_da_ct_per_kwh[0, 5] == pytest.approx(-3.0 * factor)


def test_prices_of_an_unlikely_size_are_noted_and_kept(tmp_path: Path) -> None:
    frames = make_frames()
    frames["prices"][["price_da", "price_rt"]] *= 10.0  # 80 EUR/MWh
    assert "median size" not in notes_of(import_tidy(write(tmp_path, frames, price_unit="EUR/MWh"), CHOICES))
    per_kwh = import_tidy(write(tmp_path, frames, price_unit="EUR/kWh"), CHOICES)
    assert "prices.csv: column price_da has a median size of 8" in notes_of(per_kwh)
    assert "read as EUR/kWh (8" in notes_of(per_kwh)
    frames["prices"][["price_da", "price_rt"]] /= 1000.0
    per_mwh = import_tidy(write(tmp_path, frames, price_unit="EUR/MWh"), CHOICES)
    assert "column price_rt has a median size of 0.08, read as EUR/MWh (0.008 ct/kWh)" in notes_of(per_mwh)


# days -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [None, "local", "utc"])
@pytest.mark.parametrize(
    ("first", "change", "hours"), [("2018-03-10", "2018-03-25", 23), ("2018-10-10", "2018-10-28", 25)]
)
@pytest.mark.parametrize("per_hour", [1, 2])
def test_days_of_23_and_25_hours_are_dropped_and_counted(
    tmp_path: Path, form: str | None, first: str, change: str, hours: int, per_hour: int
) -> None:
    frames = make_frames(first=first, step="1h" if per_hour == 1 else "30min")
    local = frames["weather"]["time"].dt.strftime("%Y-%m-%d")
    assert (local == change).sum() == hours * per_hour
    imported = import_tidy(write(tmp_path, frames, form), CHOICES)
    assert imported.counts.clock_change == [change]
    assert imported.counts.days_seen == 40
    dates = [str(date) for date in imported.dataset.dates]
    assert len(dates) == 39
    assert change not in dates
    # the days around the change are whole, and each hour is at its place on the local clock
    row = dates.index(str(np.datetime64(change) + 1))
    day = frames["weather"][local == dates[row]]
    hourly = day["temperature_c"].to_numpy().reshape(24, per_hour).mean(axis=1)
    np.testing.assert_array_equal(imported.dataset.weather[row, :, 0], hourly)


def test_a_zone_whose_clock_changes_at_midnight_loses_that_day_only(tmp_path: Path) -> None:
    frames = make_frames(first="2021-03-05", zone="Asia/Tehran")
    imported = import_tidy(write(tmp_path, frames, time_zone="Asia/Tehran"), CHOICES)
    assert imported.counts.clock_change == ["2021-03-22"]
    assert len(imported.dataset.dates) == 39


def test_days_at_the_edges_of_the_files_are_dropped_and_counted(tmp_path: Path) -> None:
    frames = make_frames()
    frames["readings"] = frames["readings"][frames["readings"]["time"] >= "2018-05-01 07:00+01:00"]
    frames["weather"] = frames["weather"][frames["weather"]["time"] < "2018-06-08 20:00+01:00"]
    counts = import_tidy(write(tmp_path, frames), CHOICES).counts
    assert counts.at_the_edges == ["2018-05-01", "2018-06-08", "2018-06-09"]
    assert counts.incomplete == []


def test_gaps_are_filled_or_dropped_when_the_user_says_so(tmp_path: Path) -> None:
    frames = make_frames()
    whole = import_tidy(write(tmp_path, frames), CHOICES).dataset
    short = frames["readings"]["time"].isin(pd.to_datetime(["2018-05-10 03:00+01:00", "2018-05-10 04:00+01:00"]))
    long = frames["readings"]["time"].between("2018-05-20 03:00+01:00", "2018-05-20 08:00+01:00")
    mine = frames["readings"]["id"] == "b"
    frames["readings"] = frames["readings"][~(mine & (short | long))]
    files = write(tmp_path, frames)
    with pytest.raises(UsageError, match=r"readings.csv: column load_kw, row \d+: .*b at 2018-05-10 03:00"):
        import_tidy(files, CHOICES)
    with pytest.raises(UsageError, match="2018-05-10 03:00"):  # filling nothing that is longer than an hour
        import_tidy(files, replace(CHOICES, fill_gaps_h=1))
    with pytest.raises(UsageError, match="2018-05-20 03:00"):
        import_tidy(files, replace(CHOICES, fill_gaps_h=2))
    imported = import_tidy(files, replace(CHOICES, fill_gaps_h=2, drop_incomplete_days=True))
    assert imported.counts.incomplete == ["2018-05-20"]
    assert imported.counts.filled_hours["load"] == 2
    assert imported.counts.filled_hours["pv"] == 2
    row = [str(date) for date in imported.dataset.dates].index("2018-05-10")
    before, after = whole.load_kw[row, 2, 1], whole.load_kw[row, 5, 1]
    expected = [before + (after - before) / 3, before + 2 * (after - before) / 3]
    np.testing.assert_allclose(imported.dataset.load_kw[row, 3:5, 1], expected)
    assert "2018-05-20" in imported.dataset.card


# splits -----------------------------------------------------------------------------------------------------------


def test_by_default_every_season_is_in_every_split(tmp_path: Path) -> None:
    dataset = import_tidy(write(tmp_path, make_frames(first="2019-01-01", days=365)), CHOICES).dataset
    for split in ("train", "dev", "test"):
        months = {int(str(date)[5:7]) for date in dataset.dates[dataset.days(split)]}
        for season in ({12, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}):
            assert months & season, (split, months)
        if split != "train":  # whole weeks
            assert np.ptp(np.bincount(dataset.weekday[dataset.days(split)], minlength=7)) == 0
    shares = np.array([len(dataset.days(split)) for split in ("train", "dev", "test")], dtype=float)
    np.testing.assert_allclose(shares / shares.sum(), [0.58, 0.21, 0.21], atol=0.03)
    assert len(dataset.dates) == 363


def test_no_season_spans_a_hole_of_months(tmp_path: Path) -> None:
    frames = make_frames(first="2018-04-01", days=200)
    for name, frame in frames.items():
        frames[name] = frame[(frame["time"] < "2018-05-20") | (frame["time"] >= "2018-07-01")]
    dataset = import_tidy(write(tmp_path, frames), replace(CHOICES, drop_incomplete_days=True)).dataset
    for number in np.unique(dataset.block):
        assert np.diff(dataset.dates[dataset.block == number]).max() == np.timedelta64(1, "D")


def test_the_users_own_blocks_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    days = [np.datetime64("2018-05-01") + k for k in range(60)]
    blocks = tuple(Block(s, days[a], days[b]) for s, a, b in (("train", 8, 25), ("dev", 34, 40), ("test", 50, 55)))
    imported = import_tidy(write(tmp_path, make_frames(days=60)), replace(CHOICES, blocks=blocks))
    dataset = imported.dataset
    assert [len(dataset.days(split)) for split in ("train", "dev", "test")] == [18, 7, 6]
    assert len(dataset.dates) == 18 + 7 + 6 + 3 * LEAD_IN_DAYS
    assert imported.counts.outside_splits == [str(days[k]) for k in (41, 56, 57, 58, 59)]
    with pytest.raises(UsageError, match="no test block"):
        import_tidy(write(tmp_path, make_frames(days=60)), replace(CHOICES, blocks=blocks[:2]))


@pytest.mark.parametrize("days", [28, 9])
def test_too_few_days_for_splits_are_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(UsageError, match=f"{days} complete days are too few; at least 29"):
        import_tidy(write(tmp_path, make_frames(days=days)), CHOICES)
    assert import_tidy(write(tmp_path, make_frames(days=29)), CHOICES).dataset.num_days == 29


# what is made -----------------------------------------------------------------------------------------------------


def test_what_is_made_comes_from_train_days_and_the_seed_alone(tmp_path: Path) -> None:
    frames = make_frames()
    dataset = import_tidy(write(tmp_path, frames), CHOICES).dataset
    np.testing.assert_array_equal(dataset.shiftable_ref_kw, np.tile(dataset.shiftable_ref_kw[0], (40, 1, 1)))
    total = dataset.load_kw / 0.7
    np.testing.assert_allclose(
        dataset.shiftable_ref_kw[0], np.minimum(0.3 * total[dataset.is_training].mean(axis=0), 20.0)
    )
    np.testing.assert_array_equal(dataset.pv_capacity_kw, dataset.pv_kw[dataset.is_training].max(axis=(0, 1)))
    assert same_days(import_tidy(write(tmp_path, frames), CHOICES).dataset, dataset)
    other = import_tidy(write(tmp_path, frames), replace(CHOICES, seed=1)).dataset
    assert not np.array_equal(other.weather_forecast, dataset.weather_forecast)
    # days that are no train days move nothing that is known at the gate of another day
    test_day = str(dataset.dates[dataset.days("test")[0]])
    frames["readings"].loc[frames["readings"]["time"].dt.strftime("%Y-%m-%d") == test_day, ["load_kw", "pv_kw"]] *= 3
    changed = import_tidy(write(tmp_path, frames), CHOICES).dataset
    assert not same_days(changed, dataset)
    np.testing.assert_array_equal(changed.shiftable_ref_kw, dataset.shiftable_ref_kw)
    np.testing.assert_array_equal(changed.pv_capacity_kw, dataset.pv_capacity_kw)


def test_the_card_says_what_was_given_derived_made_and_stated(tmp_path: Path) -> None:
    files = write(tmp_path, make_frames(), "utc")
    card = import_tidy(files, replace(CHOICES, seed=77, title="My street", licence="CC0")).dataset.card
    for text in (
        "My street",
        "CC0",
        "seed 77",
        "forecasts",
        "30% of the load",
        "Europe/London",
        "in kW",
        "utc",
        "beginning",
    ):
        assert text in card, text


def test_no_shiftable_load_can_be_asked_for(tmp_path: Path) -> None:
    dataset = import_tidy(write(tmp_path, make_frames()), replace(CHOICES, shiftable_share=0.0)).dataset
    assert (dataset.shiftable_ref_kw == 0).all()


@pytest.mark.parametrize("train_days", [11, 12])
def test_too_few_train_days_for_a_forecast_are_noted(tmp_path: Path, train_days: int) -> None:
    assert MIN_TRAIN_DAYS_OF_FORECASTS == MIN_TRAINING_DAYS == 12
    first = np.datetime64("2018-05-09")
    spans = (("train", 0, train_days), ("dev", 20, 1), ("test", 29, 1))
    blocks = tuple(Block(split, first + at, first + at + days - 1) for split, at, days in spans)
    notes = notes_of(import_tidy(write(tmp_path, make_frames()), replace(CHOICES, blocks=blocks)))
    assert ("It has 11 train days; policies that fit a forecast need 12 or more" in notes) == (train_days < 12)


def test_fifty_days_give_enough_train_days_for_a_forecast_and_fewer_may_not() -> None:
    def train_days(num_days: int) -> int:
        blocks = season_blocks(np.datetime64("2018-05-01") + np.arange(num_days))
        return sum(int((b.last - b.first).astype(int)) + 1 for b in blocks if b.split == "train")

    assert train_days(49) < MIN_TRAIN_DAYS_OF_FORECASTS
    assert min(train_days(num_days) for num_days in range(50, 400)) >= MIN_TRAIN_DAYS_OF_FORECASTS


def notes_of(imported: Imported) -> str:
    return " ".join(imported.notes)


def test_odd_things_that_may_be_right_are_noted(tmp_path: Path) -> None:
    frames = make_frames()
    plain = notes_of(import_tidy(write(tmp_path, frames), CHOICES))
    assert "these are 2" in plain
    assert "exactly 0" not in plain
    assert "moved" not in plain
    assert "exceed" not in plain
    frames["readings"].loc[frames["readings"].index[30:40], "load_kw"] = 0.0
    frames["readings"].loc[frames["readings"]["id"] == "b", "load_kw"] *= 5
    frames["weather"]["time"] += pd.Timedelta(hours=1)
    notes = notes_of(import_tidy(write(tmp_path, frames), CHOICES))
    assert "exactly 0 in 10 hours of prosumers (most of them, 10, of a)" in notes
    assert "moved by +1 h" in notes
    assert "1 prosumers exceed the 50 kW" in notes
