from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tidy_files import import_tidy, make_frames, stamp, write

from prosumer_gym.datasets.imports import ImportChoices
from prosumer_gym.errors import UsageError

CHOICES = ImportChoices(id="mine")

Break = Callable[[dict[str, pd.DataFrame]], None]


def at(name: str, row: int, column: str, value: Any) -> Break:
    """Put `value` into the cell of data row `row` (counted from 0)."""

    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames[name][column] = frames[name][column].astype(object)
        frames[name].loc[row, column] = value

    return change


def without_row(name: str, row: int) -> Break:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames[name] = frames[name].drop(index=row).reset_index(drop=True)

    return change


def without_column(name: str, column: str) -> Break:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames[name] = frames[name].drop(columns=column)

    return change


def renamed(name: str, column: str, to: str) -> Break:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames[name] = frames[name].rename(columns={column: to})

    return change


def twice(name: str, row: int) -> Break:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames[name] = pd.concat([frames[name], frames[name].iloc[[row]]], ignore_index=True)

    return change


def with_forecasts(*ids: str) -> Break:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames["forecasts"] = pd.concat([frames["weather"].assign(id=name) for name in ids], ignore_index=True)

    return change


def with_capacities(ids: list[str], values: list[Any]) -> Break:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames["capacities"] = pd.DataFrame({"id": ids, "pv_capacity_kw": values})

    return change


ERRORS: dict[str, tuple[Break, str, str]] = {
    "gap: a row is missing": (
        without_row("readings", 100),
        "readings.csv: column load_kw, row 101: ",
        "after it the reading of a at 2018-05-05 04:00 local time is missing",
    ),
    "gap: a price is missing": (
        without_row("prices", 30),
        "prices.csv: column price_da, row 31: ",
        "after it the reading at 2018-05-02 06:00 local time is missing",
    ),
    "NaN: an empty cell": (
        at("readings", 50, "pv_kw", np.nan),
        "readings.csv: column pv_kw, row 52: ",
        "the reading of a at 2018-05-03 02:00 local time is empty",
    ),
    "NaN in the weather": (
        at("weather", 7, "cloud_fraction", np.nan),
        "weather.csv: column cloud_fraction, row 9: ",
        "the reading at 2018-05-01 07:00 local time is empty",
    ),
    "a duplicate hour": (
        twice("readings", 10),
        "readings.csv: column time, row 1922: ",
        "2018-05-01 10:00:00+01:00 of a stands twice",
    ),
    "a duplicate price": (twice("prices", 3), "prices.csv: column time, row 962: ", "03:00:00+01:00 stands twice"),
    "text for a number": (at("readings", 5, "load_kw", "1,5"), "readings.csv: column load_kw, row 7: ", "'1,5' is not"),
    "infinite": (at("prices", 5, "price_rt", "inf"), "prices.csv: column price_rt, row 7: ", "is not finite"),
    "negative load": (
        at("readings", 6, "load_kw", -0.5),
        "readings.csv: column load_kw, row 8: ",
        "-0.5 is outside [0, 10000]; a load is never negative",
    ),
    "negative PV at night": (
        at("readings", 2, "pv_kw", -0.02),
        "readings.csv: column pv_kw, row 4: ",
        "at night it is 0",
    ),
    "W for kW": (
        at("readings", 2, "load_kw", 10982.0),
        "readings.csv: column load_kw, row 4: ",
        "10982 is outside [0, 10000]; the upper limit of one prosumer is 10000 kW; is the column in W?",
    ),
    "degrees F": (at("weather", 3, "temperature_c", 77.0), "weather.csv: column temperature_c, row 5: ", "in deg F"),
    "cloud in percent": (
        at("weather", 3, "cloud_fraction", 80.0),
        "weather.csv: column cloud_fraction, row 5: ",
        "80 is outside [0, 1]; is it in percent",
    ),
    "a missing column": (
        without_column("readings", "pv_kw"),
        "readings.csv: column pv_kw is missing; ",
        "it has time, id, load_kw;",
    ),
    "no time": (without_column("weather", "time"), "weather.csv: column time is missing; ", "it has temperature_c"),
    "no id": (without_column("readings", "id"), "readings.csv: column id is missing; ", "it has time, load_kw"),
    "prices by another name": (
        renamed("prices", "price_rt", "rt"),
        "prices.csv: column price_rt is missing; ",
        "it has time, price_da, rt;",
    ),
    "kWh for kW": (
        renamed("readings", "load_kw", "load_kwh"),
        "readings.csv: column load_kwh is in kWh, ",
        "but the unit is said to be kW; say --unit kWh",
    ),
    "an empty id": (at("readings", 9, "id", np.nan), "readings.csv: column id, row 11: ", "it is empty"),
    "an empty time": (at("prices", 9, "time", np.nan), "prices.csv: column time, row 11: ", "it is empty"),
    "days first": (
        at("readings", 9, "time", "31/05/2018 09:00:00+01:00"),
        "readings.csv: column time, row 11: ",
        "'31/05/2018 09:00:00+01:00' is not an ISO 8601 time",
    ),
    "days first, without an offset": (
        at("readings", 9, "time", "31/05/2018 13:00"),
        "readings.csv: column time, row 11: ",
        "'31/05/2018 13:00' is not an ISO 8601 time",
    ),
    "days first, with dots": (
        at("weather", 0, "time", "01.05.2018 01:00"),
        "weather.csv: column time, row 2: ",
        "'01.05.2018 01:00' is not an ISO 8601 time",
    ),
    "no such day": (
        at("weather", 4, "time", "2018-02-30 04:00:00+00:00"),
        "weather.csv: column time, row 6: ",
        "'2018-02-30 04:00:00+00:00' is not an ISO 8601 time",
    ),
    "one time without an offset": (
        at("readings", 9, "time", "2018-05-01 09:00:00"),
        "readings.csv: column time, row 11: ",
        "'2018-05-01 09:00:00': some times have a UTC offset, some have none",
    ),
    "a step that is no step": (
        at("weather", 9, "time", "2018-05-01 09:25:00+01:00"),
        "weather.csv: column time, row 12: ",  # the next hour comes 35 minutes later
        "it comes 35 minutes after the one before; steps must be an hour or a whole part of it",
    ),
    "steps that are not even": (
        at("weather", 9, "time", "2018-05-01 09:20:00+01:00"),
        "weather.csv: column time, row 12: ",
        "it comes 40 minutes after the one before",
    ),
    "seconds for hours": (
        at("weather", 9, "time", "2018-05-01 08:00:30+01:00"),
        "weather.csv: column time, row 11: ",
        "it comes 0.5 minutes after the one before",
    ),
    "a stray second": (
        at("prices", 9, "time", "2018-05-01 08:59:59+01:00"),
        "prices.csv: column time, row 11: ",
        "it comes 59.9833 minutes after the one before",
    ),
    "a half-hour too late": (
        at("weather", 9, "time", "2018-05-01 09:30:00+01:00"),
        "weather.csv: column temperature_c, row 2: ",
        "after it the reading at 2018-05-01 00:30 local time is missing",
    ),
    "a prosumer without forecast": (
        with_forecasts("a"),
        "forecasts.csv: column id: ",
        "prosumer 'b' has no forecast",
    ),
    "a forecast of nobody": (
        with_forecasts("a", "b", "c"),
        "forecasts.csv: column id, row 1922: ",
        "'c' is no prosumer of the readings",
    ),
    "capacity of nobody": (
        with_capacities(["a", "c", "b"], [1, 2, 3]),
        "capacities.csv: column id, row 3: ",
        "'c' is no prosumer of the readings",
    ),
    "capacity missing": (with_capacities(["a"], [1]), "capacities.csv: column id: ", "'b', a prosumer of the readings"),
    "capacity empty": (
        with_capacities(["a", "b"], [1, None]),
        "capacities.csv: column pv_capacity_kw, row 3: ",
        "it is empty",
    ),
    "capacity twice": (
        with_capacities(["a", "b", "a"], [1, 2, 3]),
        "capacities.csv: column id, row 4: ",
        "'a' stands twice",
    ),
    "capacity negative": (
        with_capacities(["a", "b"], [1, -2]),
        "capacities.csv: column pv_capacity_kw, row 3: ",
        "-2 is outside",
    ),
    "capacity in W": (
        with_capacities(["a", "b"], [1, 20000]),
        "capacities.csv: column pv_capacity_kw, row 3: ",
        "20000 is outside [0, 10000]; the upper limit of one prosumer is 10000 kW; is the column in W?",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_that_names_file_column_and_row(tmp_path: Path, case: str) -> None:
    change, where, what = ERRORS[case]
    frames = {name: stamp(frame, None) for name, frame in make_frames().items()}
    change(frames)
    with pytest.raises(UsageError, match=f"^{re.escape(f'{tmp_path}/{where}')}.*{re.escape(what)}") as caught:
        import_tidy(write(tmp_path, frames, "as is"), CHOICES)
    assert "\n" not in str(caught.value)


def test_times_without_an_offset_are_refused_unless_the_user_says_what_they_are(tmp_path: Path) -> None:
    files = write(tmp_path, make_frames(), "utc")
    with pytest.raises(UsageError, match=r"readings.csv: column time, row 2: .* has no UTC offset; .*--naive-times"):
        import_tidy(replace(files, naive_times=None), CHOICES)


def test_a_local_time_that_the_clock_jumps_over_is_refused(tmp_path: Path) -> None:
    files = write(tmp_path, make_frames(first="2018-03-10"), "utc")  # utc times, said to be local
    with pytest.raises(UsageError, match=r"row 363: 2018-03-25 01:00:00 does not exist in Europe/London.*utc"):
        import_tidy(replace(files, naive_times="local"), CHOICES)


@pytest.mark.parametrize("zone", ["Europe/Londn", "local", "EST", "GMT+3", "BST", "", "UTC+3", "UTC+99:00", "../etc"])
def test_a_time_zone_that_is_not_clear_is_refused(tmp_path: Path, zone: str) -> None:
    with pytest.raises(UsageError, match=r"time zone .* is unknown; give a name such as Europe/London"):
        import_tidy(write(tmp_path, make_frames(), time_zone=zone), CHOICES)


def test_hours_that_straddle_local_hours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"row 2: its step begins at .*:30:00 local time, across local hours"):
        import_tidy(write(tmp_path, make_frames(), time_zone="UTC+03:30"), CHOICES)


@pytest.mark.parametrize("step", ["3h", "25min"])
def test_steps_longer_than_an_hour_or_that_do_not_fit_into_it_are_refused(tmp_path: Path, step: str) -> None:
    frames = {**make_frames(), "weather": make_frames(step=step)["weather"]}
    with pytest.raises(UsageError, match=r"weather.csv: column time, row \d+: .*an hour or a whole part of it"):
        import_tidy(write(tmp_path, frames), CHOICES)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    files = write(tmp_path, make_frames())
    with pytest.raises(UsageError, match=r"nowhere\.csv: there is no such file"):
        import_tidy(replace(files, prices=tmp_path / "nowhere.csv"), CHOICES)
    for name, content in (("a.xlsx", b"x"), ("b.csv", b""), ("c.csv", b"time,price_da\n\n\n"), ("d.parquet", b"PAR")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=name):
            import_tidy(replace(files, prices=tmp_path / name), CHOICES)


def test_files_of_another_kind_are_told_what_they_are(tmp_path: Path) -> None:
    files = write(tmp_path, make_frames())
    with pytest.raises(UsageError, match="it is a folder; name the file in it"):
        import_tidy(replace(files, prices=tmp_path), CHOICES)
    semicolons = files.prices.read_text().replace(",", ";")
    for content, what in (
        (semicolons, "separated by semicolons"),
        ('{"time": 1}\n1\n', "it is JSON or HTML"),
        ("<html>\n<body>\n", "it is JSON or HTML"),
    ):
        (tmp_path / "other.csv").write_text(content)
        with pytest.raises(UsageError, match=rf"other\.csv: .*{what}"):
            import_tidy(replace(files, prices=tmp_path / "other.csv"), CHOICES)


def test_an_abbreviation_of_a_time_zone_is_refused_as_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'CET' is unknown; .*an abbreviation does not say which place"):
        import_tidy(write(tmp_path, make_frames(), time_zone="CET"), CHOICES)


def test_files_of_different_years_are_refused(tmp_path: Path) -> None:
    frames = {**make_frames(), "prices": make_frames(first="2016-05-01")["prices"]}
    with pytest.raises(UsageError, match="no whole local day lies in all files"):
        import_tidy(write(tmp_path, frames), CHOICES)


@pytest.mark.parametrize("name", ["My Set", "", "a/b", "../a"])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--id"):
        import_tidy(write(tmp_path, make_frames()), replace(CHOICES, id=name))
