from __future__ import annotations

import shutil
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from prosumer_gym.actions import DayActions
from prosumer_gym.datasets.cambridge import (
    BUILDINGS,
    CT_PER_PENNY,
    ESTATES_FILE,
    PRICES_FILE,
    PV_KWP,
    TRAIN_PEAK_KW,
    import_cambridge,
)
from prosumer_gym.datasets.imports import Imported
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.rollout import rollout
from prosumer_gym.scenarios import make_scenario

LONDON = ZoneInfo("Europe/London")
SEASONS = ({12, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11})


# files that look like the public ones ------------------------------------------------------------------------------


def make_estates() -> pd.DataFrame:
    """Two years of hours, as the archive has them: UTC, the first hour of a year lacks its first half."""
    times = pd.date_range("2018-01-01", "2020-01-01", freq="h", inclusive="left", name="time_utc_begin")
    k, hour = np.arange(len(times)), times.hour.to_numpy()
    sun = np.clip(np.sin(np.pi * (hour - 6) / 12), 0.0, None)
    columns = {}
    for n, name in enumerate(BUILDINGS):
        load = 100.0 * (n + 1) * (1.5 + np.sin(2 * np.pi * hour / 24 + n) + 0.1 * np.sin(k / 7))
        load[(times.day_of_year == 1) & (hour == 0)] /= 2
        columns[f"load_kw_{name}"] = load.astype(np.float32)
    columns |= {
        "temp_c": 10 + 8 * sun,
        "cloud_frac": 0.4 + 0.2 * np.sin(k / 9),
        "ghi_wm2": 600 * sun,
        "pv_pu_derived": 0.5 * sun,
    }
    return pd.DataFrame(columns, index=times)


ADDER_P = 8.0


def make_prices() -> pd.DataFrame:
    """Half-hours, UTC; the tariff has its adder from 16 to 19 h on the clock of London."""
    times = pd.date_range("2017-12-30", "2019-01-03", freq="30min", inclusive="left", tz="UTC")
    local = times.tz_convert(LONDON)
    evening = (local.hour >= 16) & (local.hour < 19)
    smooth = 5 + np.cos(2 * np.pi * (local.hour * 2 + local.minute / 30 - 34.5) / 48)  # even around the middle of it
    return pd.DataFrame(
        {
            "time_utc_begin": times.tz_localize(None),
            "rt_ssp_gbp_per_mwh": 50 + 30 * np.sin(np.arange(len(times)) / 11),
            "da_agile_outgoing_p_per_kwh": smooth + ADDER_P * evening,
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write(folder, make_estates(), make_prices())
    return folder


def write(folder: Path, estates: pd.DataFrame, prices: pd.DataFrame) -> None:
    estates.to_parquet(folder / ESTATES_FILE)
    prices.to_csv(folder / PRICES_FILE, index=False)


@pytest.fixture(scope="module")
def imported(made: Path) -> Imported:
    return import_cambridge(made)


# the recipe, on made files -----------------------------------------------------------------------------------------


def test_the_adder_is_found_and_taken_off_in_local_time(imported: Imported) -> None:
    dataset = imported.dataset
    jump = 0.5 * np.cos(2 * np.pi * 2.5 / 48) - 0.5 * np.cos(2 * np.pi * 3.5 / 48)  # of the smooth price, both ends
    assert f"adder of {ADDER_P + 2 * jump:.2f} p/kWh from 16 to 19 h" in imported.dataset.card
    hour = np.arange(24) * 2.0
    smooth = 5 + 0.5 * (np.cos(2 * np.pi * (hour - 34.5) / 48) + np.cos(2 * np.pi * (hour + 1 - 34.5) / 48))
    for row in (0, dataset.num_days // 2):  # in winter and in summer time
        np.testing.assert_allclose(
            dataset.price_da_ct_per_kwh[row], CT_PER_PENNY * smooth, atol=0.07
        )  # the smooth price's own step


def test_real_time_prices_are_the_mean_of_two_half_hours_in_ct(imported: Imported) -> None:
    dataset, prices = imported.dataset, make_prices()
    times = pd.DatetimeIndex(prices["time_utc_begin"], tz="UTC").tz_convert(LONDON)
    for row in (3, 200):
        mine = prices["rt_ssp_gbp_per_mwh"][times.strftime("%Y-%m-%d") == str(dataset.dates[row])].to_numpy()
        expected = mine.reshape(24, 2).mean(axis=1) / 10 * CT_PER_PENNY  # GBP/MWh -> p/kWh -> ct/kWh
        np.testing.assert_allclose(dataset.price_rt_ct_per_kwh[row], expected, atol=1e-4)


def test_loads_are_scaled_to_the_train_peak_by_one_factor_each_and_carved(imported: Imported) -> None:
    dataset = imported.dataset
    total = dataset.load_kw / 0.7
    np.testing.assert_allclose(total[dataset.is_training].max(axis=(0, 1)), TRAIN_PEAK_KW, atol=1e-3)
    reference = np.minimum(0.3 * total[dataset.is_training].mean(axis=0), 20.0)
    np.testing.assert_allclose(dataset.shiftable_ref_kw, np.tile(reference, (dataset.num_days, 1, 1)), atol=1e-3)
    estates = make_estates()
    source = estates.loc["2018-07-10 23:00":"2018-07-11 22:00"]  # a day of London in summer, in UTC
    row = list(map(str, dataset.dates)).index("2018-07-11")
    for n, name in enumerate(BUILDINGS):
        ratio = total[row, :, n] / source[f"load_kw_{name}"].to_numpy()
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    np.testing.assert_allclose(dataset.pv_kw[row, :, 4], PV_KWP * source["pv_pu_derived"].to_numpy(), atol=1e-4)
    np.testing.assert_allclose(dataset.weather[row, :, 0], source["temp_c"].to_numpy(), atol=1e-4)


def test_only_the_half_hour_of_new_year_and_the_changes_of_the_clock_cost_days(imported: Imported) -> None:
    assert imported.counts.incomplete == ["2018-01-01"]
    assert imported.counts.clock_change == ["2018-03-25", "2018-10-28"]
    assert imported.dataset.num_days == 362


def test_short_gaps_are_filled_long_ones_cost_the_day_and_their_neighbours_count_as_missing(tmp_path: Path) -> None:
    estates = make_estates()
    load = "load_kw_b40"
    hours = {
        day: estates.index.get_loc(pd.Timestamp(f"2018-{day} 12:00")) for day in ("02-10", "02-20", "05-10", "06-10")
    }
    column, cloud = estates.columns.get_loc(load), estates.columns.get_loc("cloud_frac")
    estates.iloc[hours["02-10"], column] = np.nan  # with its neighbours three hours
    estates.iloc[hours["02-20"] : hours["02-20"] + 2, column] = np.nan  # with its neighbours four
    estates.iloc[hours["05-10"] : hours["05-10"] + 3, cloud] = np.nan
    estates.iloc[hours["06-10"] : hours["06-10"] + 4, cloud] = np.nan
    write(tmp_path, estates, make_prices())
    found = import_cambridge(tmp_path)
    assert found.counts.incomplete == ["2018-01-01", "2018-02-20", "2018-06-10"]
    assert found.counts.filled_hours == {"load": 3, "weather": 3, "PV": 0, "prices": 0}
    for date in found.counts.incomplete:
        assert date in found.dataset.card
    assert "2018-06-10" not in list(map(str, found.dataset.dates))
    check_splits(found.dataset)


def test_a_test_day_changes_neither_factors_nor_adder_nor_reference(tmp_path: Path, imported: Imported) -> None:
    dataset = imported.dataset
    day = str(dataset.dates[dataset.days("test")[20]])
    estates, prices = make_estates(), make_prices()
    estates.loc[day, [f"load_kw_{name}" for name in BUILDINGS]] *= 5.0
    at = prices["time_utc_begin"].dt.strftime("%Y-%m-%d") == day
    prices.loc[at, "da_agile_outgoing_p_per_kwh"] *= 3.0
    write(tmp_path, estates, prices)
    other = import_cambridge(tmp_path).dataset
    same = np.isin(np.arange(dataset.num_days), np.flatnonzero(dataset.split != "test"))
    np.testing.assert_array_equal(other.load_kw[same], dataset.load_kw[same])
    np.testing.assert_array_equal(other.price_da_ct_per_kwh[same], dataset.price_da_ct_per_kwh[same])
    np.testing.assert_array_equal(other.shiftable_ref_kw, dataset.shiftable_ref_kw)
    assert not np.array_equal(other.load_kw, dataset.load_kw)


def test_importing_again_gives_the_same_bits(made: Path, tmp_path: Path, imported: Imported) -> None:
    deeper = tmp_path / "a" / "b"
    deeper.mkdir(parents=True)
    shutil.copy(made / ESTATES_FILE, deeper)
    shutil.copy(made / PRICES_FILE, tmp_path / "a")
    again = import_cambridge(tmp_path).dataset
    assert again.manifest == imported.dataset.manifest
    assert again.card == imported.dataset.card


def test_the_card_says_what_is_not_measured(imported: Imported) -> None:
    card = imported.dataset.card
    for text in (
        "error model",
        "seed 2018",
        "45 kWp",
        "1.13",
        "Train days lie before and after",
        "zenodo.10955332",
        "MIT",
    ):
        assert text in card, text
    for name in BUILDINGS:
        assert f"| {name} |" in card


def check_splits(dataset: Dataset) -> None:
    for split in ("train", "dev", "test"):
        months = {int(str(date)[5:7]) for date in dataset.dates[dataset.days(split)]}
        assert all(months & season for season in SEASONS), (split, months)
    for number in np.unique(dataset.block):
        labels = dataset.split[dataset.block == number]
        assert list(labels[:LEAD_IN_DAYS]) == ["lead-in"] * LEAD_IN_DAYS
        assert len(set(labels[LEAD_IN_DAYS:])) == 1


def test_every_season_is_in_every_split(imported: Imported) -> None:
    check_splits(imported.dataset)


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        (ESTATES_FILE, "load_kw_b105", "column load_kw_b105 is missing"),
        (ESTATES_FILE, "ghi_wm2", "column ghi_wm2 is missing"),
        (PRICES_FILE, "rt_ssp_gbp_per_mwh", "column rt_ssp_gbp_per_mwh is missing"),
        (PRICES_FILE, "time_utc_begin", "column time_utc_begin is missing"),
    ],
)
def test_a_missing_column_is_named(made: Path, tmp_path: Path, name: str, column: str, message: str) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    if name == ESTATES_FILE:
        pd.read_parquet(made / name).drop(columns=column).to_parquet(tmp_path / name)
    else:
        pd.read_csv(made / name).drop(columns=column).to_csv(tmp_path / name, index=False)
    with pytest.raises(UsageError, match=f"{name}: {message}"):
        import_cambridge(tmp_path)


def test_missing_files_and_other_years_are_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        import_cambridge(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=f"{ESTATES_FILE} is nowhere in it"):
        import_cambridge(tmp_path)
    shutil.copy(made / ESTATES_FILE, tmp_path)
    with pytest.raises(UsageError, match=f"{PRICES_FILE} is nowhere in it"):
        import_cambridge(tmp_path)
    prices = make_prices()
    prices["time_utc_begin"] += pd.Timedelta(days=730)
    prices.to_csv(tmp_path / PRICES_FILE, index=False)
    with pytest.raises(UsageError, match="it has no hour of 2018"):
        import_cambridge(tmp_path)
    make_prices().iloc[::2].to_csv(tmp_path / PRICES_FILE, index=False)
    with pytest.raises(UsageError, match="its steps are not half-hours"):
        import_cambridge(tmp_path)


# the public files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(real_data: Path) -> Imported:
    return import_cambridge(real_data)


def test_the_buildings_are_those_of_the_stated_rule(real_data: Path) -> None:
    frame = pd.read_parquet(next(real_data.rglob(ESTATES_FILE)))
    loads = frame.loc["2018-01-01 01:00":"2018-12-31", [c for c in frame if c.startswith("load_kw_b")]].astype(float)
    loads.columns = loads.columns.str.removeprefix("load_kw_")

    def longest_gap(values: pd.Series) -> int:
        gone = values.isna()
        return int(gone.groupby((~gone).cumsum()).sum().max())

    good = [
        name
        for name, values in loads.items()
        if longest_gap(values) <= 3
        and values.max() <= 1.25 * values.quantile(0.999)
        and values.min() >= 0.05 * values.median()
        and values.mean() >= 10.0
    ]
    assert len(good) == 12
    while len(good) > len(BUILDINGS):
        alike = loads[good].corr().to_numpy(copy=True)
        np.fill_diagonal(alike, -1.0)
        pair = np.unravel_index(int(alike.argmax()), alike.shape)
        good.remove(max((good[k] for k in pair), key=lambda name: loads[name].mean()))
    assert tuple(sorted(good, key=lambda name: int(name[1:]))) == BUILDINGS


def test_the_real_year_has_the_days_and_counts_of_its_card(real: Imported) -> None:
    dataset, counts = real.dataset, real.counts
    assert counts.days_seen == 365
    assert len(counts.clock_change) == 2
    assert len(counts.incomplete) == 12
    assert counts.outside_splits == counts.at_the_edges == []
    assert counts.filled_hours == {"load": 3, "weather": 15, "PV": 0, "prices": 0}
    assert [len(dataset.days(split)) for split in ("train", "dev", "test")] == [143, 56, 56]
    check_splits(dataset)
    assert "adder of 7.55 p/kWh" in dataset.card
    total = dataset.load_kw / 0.7
    np.testing.assert_allclose(total[dataset.is_training].max(axis=(0, 1)), TRAIN_PEAK_KW, atol=1e-3)


def test_the_real_prices_and_loads_behave_as_published(real: Imported) -> None:
    dataset = real.dataset
    da, rt = dataset.price_da_ct_per_kwh, dataset.price_rt_ct_per_kwh
    assert 0.34 < np.corrcoef(da.ravel(), rt.ravel())[0, 1] < 0.69
    assert 0.9 < rt.std() / da.std() < 2.6
    assert (rt < 0).any()
    # without its adder the tariff is smooth at 16 and 19 h: its mean moves as little there as elsewhere
    steps = np.abs(np.diff(np.median(da, axis=0)))
    assert max(steps[15], steps[18]) < 2.0 * np.sort(steps)[-3]
    # PV and irradiance are of the same hour
    pv, sun = dataset.pv_kw.sum(axis=2), dataset.weather[:, :, 2]
    fits = {lag: np.corrcoef(np.roll(pv.ravel(), lag), sun.ravel())[0, 1] for lag in (-1, 0, 1)}
    assert max(fits, key=lambda lag: fits[lag]) == 0


def test_without_control_the_feeder_is_under_its_limit_about_as_often_as_in_tehran(real: Imported) -> None:
    community, dataset = make_scenario("ieee33"), real.dataset
    rows = dataset.days("test")
    rest = np.zeros((len(rows), dataset.num_hours, dataset.num_prosumers))
    actions = DayActions(
        position_kw=np.zeros((len(rows), dataset.num_prosumers, dataset.num_hours)),
        battery_kw=rest,
        shiftable_kw=dataset.shiftable_ref_kw[rows],
        curtail_kw=rest,
        offers=np.zeros((len(rows), dataset.num_hours, 2 * community.num_edges)),
    )
    trace = rollout(community, dataset.exogenous, rows, actions)
    assert trace.converged.all()
    assert 0.01 < (trace.v_pu < 0.95).mean() < 0.04
    assert (trace.v_pu <= 1.05).all()
