from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from ausgrid_files import LABELS, energy, write_ausgrid

from prosumer_gym.datasets import ausgrid
from prosumer_gym.datasets.assemble import Counts, complete_days
from prosumer_gym.datasets.ausgrid import HALF_HOURS, TIME_ZONE, read_ausgrid
from prosumer_gym.datasets.sources import Part
from prosumer_gym.errors import UsageError

SYDNEY = ZoneInfo(TIME_ZONE)
HOME = {"12": ["GC", "GG"]}
BOILER = {"7": ["CL", "GC", "GG"]}


def kw(part: Part, key: str, name: str, local: str) -> float:
    """Of the half-hour that begins at a local time."""
    frame = part.series[key].steps.frame
    return round(float(frame.loc[pd.Timestamp(local, tz=TIME_ZONE).tz_convert("UTC"), name]), 6)


def refused(files: Sequence[Path], customers: Sequence[str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        read_ausgrid(files, customers)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(path: Path, edit: Callable[[list[str]], list[str]]) -> Path:
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    return path


# what the columns mean ----------------------------------------------------------------------------------------------


def test_columns_name_the_end_of_their_half_hour_and_energy_becomes_power(tmp_path: Path) -> None:
    """By hand: 0.25 kWh in the half-hour to 0:30 is 0.5 kW from 0:00; 0:00 is the last half-hour of the same day."""
    values = {("GC", 0): 0.25, ("GC", 1): 0.5, ("GC", 47): 1.0, ("GG", 24): 0.75}
    path = write_ausgrid(
        tmp_path / "a.csv",
        HOME,
        "2012-07-01",
        2,
        value=lambda meter, day, place: values.get((meter, place), 0) * (day + 1),
    )
    part = read_ausgrid([path])
    assert part.names == ("12",)
    assert kw(part, "load", "12", "2012-07-01 00:00") == 0.5
    assert kw(part, "load", "12", "2012-07-01 00:30") == 1.0
    assert kw(part, "load", "12", "2012-07-01 23:30") == 2.0
    assert kw(part, "load", "12", "2012-07-02 00:00") == 1.0
    assert kw(part, "pv", "12", "2012-07-01 12:00") == 1.5
    assert part.series["load"].steps.step == pd.Timedelta("30min")
    assert str(part.series["load"].steps.frame.index[0]) == "2012-06-30 14:00:00+00:00"  # midnight in Sydney's winter
    assert list(HALF_HOURS) == LABELS


def test_load_is_general_consumption_plus_controlled_load_and_pv_is_gross_generation(tmp_path: Path) -> None:
    path = write_ausgrid(tmp_path / "a.csv", {**BOILER, **HOME}, "2012-07-01", 3)
    part = read_ausgrid([path])
    for name, meters in (("7", ("GC", "CL")), ("12", ("GC",))):
        load = part.series["load"].steps.frame[name].to_numpy().reshape(3, 48)
        pv = part.series["pv"].steps.frame[name].to_numpy().reshape(3, 48)
        for day in range(3):
            for place in range(48):
                assert load[day, place] == pytest.approx(2 * sum(energy(meter, day, place) for meter in meters))
                assert pv[day, place] == pytest.approx(2 * energy("GG", day, place))
    assert part.series["load"].steps.frame["7"].iloc[0] > part.series["load"].steps.frame["12"].iloc[0] + 0.9
    assert part.pv_capacity_kw is not None
    assert part.pv_capacity_kw.tolist() == [1.5, 1.5]
    assert "GC + CL" in part.derived[0]


@pytest.mark.parametrize("form", ["slashes", "months"])
def test_dates_are_day_first(tmp_path: Path, form: str) -> None:
    """3/04/2012 is 3 April; a leap day is a day."""
    path = write_ausgrid(tmp_path / "a.csv", HOME, "2012-02-27", 40, form=form)
    text = path.read_text()
    assert (",3/04/2012," if form == "slashes" else ",3-Apr-12,") in text
    part = read_ausgrid([path])
    day = (pd.Timestamp("2012-04-03") - pd.Timestamp("2012-02-27")).days
    assert kw(part, "load", "12", "2012-04-03 10:00") == pytest.approx(2 * energy("GC", day, 20))
    assert kw(part, "load", "12", "2012-02-29 10:00") == pytest.approx(2 * energy("GC", 2, 20))
    dates = sorted(set(part.series["load"].steps.frame.dropna().index.tz_convert(SYDNEY).date))
    assert len(dates) == 39  # without 1 April 2012, when the clock is set back
    assert str(dates[-1]) == "2012-04-06"


@pytest.mark.parametrize(
    ("first", "change", "utc_after"),
    [("2011-09-30", "2011-10-02", "2011-10-02 13:00"), ("2012-03-30", "2012-04-01", "2012-04-01 14:00")],
)
def test_days_on_which_the_clock_changes_are_left_out_and_counted(
    tmp_path: Path, first: str, change: str, utc_after: str
) -> None:
    """The day after begins an hour earlier (UTC) in spring and an hour later in autumn, as Sydney's clock does."""
    part = read_ausgrid([write_ausgrid(tmp_path / "a.csv", HOME, first, 6)])
    frame = part.series["load"].steps.frame
    after = pd.Timestamp(utc_after, tz="UTC")
    assert frame.loc[after, "12"] == pytest.approx(2 * energy("GC", 3, 0))
    assert np.isnan(frame.loc[after - pd.Timedelta("30min"), "12"])
    counts = Counts()
    steps = {key: each.steps for key, each in part.series.items()}
    days = complete_days(steps, SYDNEY, counts, fill_gaps_up_to=pd.Timedelta(0))
    assert counts.clock_change == [change]
    assert counts.incomplete == []
    assert days.first_missing is None
    assert len(days.dates) == 5
    expected = [2 * energy("GC", 4, 2 * hour) + 0.01 for hour in range(24)]  # half-hours of an hour differ by 0.01 kWh
    np.testing.assert_allclose(days.hourly["load"][3, :, 0], expected)


def test_several_years_make_one_series(tmp_path: Path) -> None:
    """Also when they are named out of order, and in two forms of dates."""
    one = write_ausgrid(
        tmp_path / "a.csv", {**HOME, **BOILER}, "2011-06-20", 11, form="months", title="2010-2011", capacity=1.0
    )
    other = write_ausgrid(tmp_path / "b.csv", HOME, "2011-07-01", 5, title="2011-2012", capacity=2.0)
    part = read_ausgrid([other, one], ["12"])
    frame = part.series["load"].steps.frame
    assert list(frame.columns) == ["12"]
    assert len(frame) == 16 * 48
    assert not frame.isna().any().any()
    assert kw(part, "load", "12", "2011-06-30 23:30") == pytest.approx(2 * energy("GC", 10, 47))
    assert kw(part, "load", "12", "2011-07-01 00:00") == pytest.approx(2 * energy("GC", 0, 0))
    assert part.pv_capacity_kw is not None
    assert part.pv_capacity_kw.tolist() == [2.0]
    assert any("changes (1, 2 kWp); the last is taken" in note for note in part.notes)


def test_customers_are_chosen_in_the_order_given(tmp_path: Path) -> None:
    path = write_ausgrid(tmp_path / "a.csv", {"3": ["GC", "GG"], **HOME, **BOILER}, "2012-07-01", 2)
    assert read_ausgrid([path]).names == ("3", "12", "7")
    part = read_ausgrid([path], ["7", "3"])
    assert part.names == ("7", "3")
    assert list(part.series["pv"].steps.frame.columns) == ["7", "3"]
    assert kw(part, "load", "7", "2012-07-01 00:00") == pytest.approx(2 * (0.2 + 0.5))
    assert kw(part, "load", "3", "2012-07-01 00:00") == pytest.approx(2 * 0.2)


def test_files_longer_than_what_is_read_at_once_count_their_rows_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ausgrid(tmp_path / "a.csv", {**HOME, **BOILER}, "2012-07-01", 4)
    whole = read_ausgrid([path])
    monkeypatch.setattr(ausgrid, "_CHUNK_ROWS", 3)
    parts = read_ausgrid([path])
    for key in ("load", "pv"):
        pd.testing.assert_frame_equal(parts.series[key].steps.frame, whole.series[key].steps.frame)
    rewrite(path, lambda lines: [*lines[:16], lines[16].replace(",0.3002,", ",0.5.1,", 1), *lines[17:]])
    assert "row 17: '0.5.1' is not a number" in refused([path])


# gaps ---------------------------------------------------------------------------------------------------------------


def without(date: str, category: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [line for line in lines if f",{category},{date}," not in line]


def missing(part: Part, key: str, name: str) -> list[str]:
    frame = part.series[key].steps.frame[name]
    return sorted({str(time.tz_convert(SYDNEY).date()) for time in frame.index[frame.isna()]})


@pytest.mark.parametrize(("category", "key"), [("GC", "load"), ("CL", "load"), ("GG", "pv")])
def test_a_day_without_its_row_is_a_gap(tmp_path: Path, category: str, key: str) -> None:
    path = rewrite(write_ausgrid(tmp_path / "a.csv", BOILER, "2012-07-01", 5), without("3/07/2012", category))
    part = read_ausgrid([path])
    assert missing(part, key, "7") == ["2012-07-03"]
    assert missing(part, "pv" if key == "load" else "load", "7") == []
    row = {"CL": 4, "GC": 9, "GG": 14}[category]
    error = part.series[key].gap("7", pd.Timestamp("2012-07-03 12:30", tz=TIME_ZONE).tz_convert("UTC"))
    assert str(error).startswith(
        f"{path}: column date, row {row}: after it the row {category} of customer 7 on 2012-07-03 is missing; fill"
    )


def test_controlled_load_may_come_and_go(tmp_path: Path) -> None:
    """Before its first row and after its last the load is general consumption, and that is noted."""
    path = write_ausgrid(tmp_path / "a.csv", BOILER, "2012-07-01", 5)
    rewrite(path, lambda lines: without("1/07/2012", "CL")(without("5/07/2012", "CL")(lines)))
    part = read_ausgrid([path])
    assert missing(part, "load", "7") == []
    assert kw(part, "load", "7", "2012-07-01 00:00") == pytest.approx(0.4)
    assert kw(part, "load", "7", "2012-07-05 00:00") == pytest.approx(0.4, abs=1e-3)
    assert kw(part, "load", "7", "2012-07-02 00:00") > 1.3
    assert any("general consumption only: customer 7 2." in note for note in part.notes)


def test_an_empty_cell_is_a_gap(tmp_path: Path) -> None:
    path = write_ausgrid(tmp_path / "a.csv", HOME, "2012-07-01", 5)
    rewrite(path, lambda lines: [*lines[:4], lines[4].replace(",0.2102,", ",,", 1), *lines[5:]])
    part = read_ausgrid([path])
    assert missing(part, "load", "12") == ["2012-07-03"]
    frame = part.series["load"].steps.frame["12"]
    (time,) = frame.index[frame.isna()]
    assert str(part.series["load"].gap("12", time)).startswith(
        f"{path}: column 1:00, row 5: GC of customer 12 at 2012-07-03 00:30 local time is empty; fill the gap"
    )


def test_rows_with_estimates_are_kept_and_noted_or_become_gaps(tmp_path: Path) -> None:
    """NA is Ausgrid's mark for them, not a missing mark."""
    path = write_ausgrid(tmp_path / "a.csv", HOME, "2012-07-01", 5, quality={2: "NA", 3: "E"})
    kept = read_ausgrid([path])
    assert missing(kept, "load", "12") == missing(kept, "pv", "12") == []
    assert any("estimates" in note and "customer 12 4." in note for note in kept.notes)
    part = read_ausgrid([path], drop_estimated=True)
    assert missing(part, "load", "12") == missing(part, "pv", "12") == ["2012-07-03", "2012-07-04"]
    assert not any("estimates" in note for note in part.notes)
    error = part.series["pv"].gap("12", pd.Timestamp("2012-07-03", tz=TIME_ZONE).tz_convert("UTC"))
    assert f"{path}: column Row Quality, row 10: GG of customer 12 on 2012-07-03 is not measured throughout" in str(
        error
    )


def test_zeros_that_are_said_to_be_missing_are_named_as_such(tmp_path: Path) -> None:
    path = write_ausgrid(tmp_path / "a.csv", HOME, "2012-07-01", 5, value=lambda *_: 0)
    error = read_ausgrid([path]).series["load"].gap("12", pd.Timestamp("2012-07-02 01:00", tz=TIME_ZONE))
    assert "column 1:30, row 4: GC of customer 12 at 2012-07-02 01:00 local time is 0, which is said to mean" in str(
        error
    )


# notes --------------------------------------------------------------------------------------------------------------


def test_days_of_nothing_but_zeros_are_counted(tmp_path: Path) -> None:
    path = write_ausgrid(
        tmp_path / "a.csv",
        {**HOME, **BOILER},
        "2012-07-01",
        9,
        value=lambda meter, day, place: (
            0 if (meter == "GC" and day < 3) or (meter == "GG" and day == 5) else energy(meter, day, place)
        ),
    )
    notes = read_ausgrid([path]).notes
    assert any("consumption (GC) is 0 throughout" in note and "customer 12 3, customer 7 3." in note for note in notes)
    assert any("generation (GG) is 0 throughout" in note and "customer 12 1, customer 7 1." in note for note in notes)
    assert read_ausgrid([write_ausgrid(tmp_path / "b.csv", BOILER, "2012-07-01", 9)]).notes == ()


def test_pv_beyond_its_rated_power_is_noted(tmp_path: Path) -> None:
    """kW taken for kWh in the half-hour doubles the PV."""
    path = write_ausgrid(tmp_path / "a.csv", HOME, "2012-07-01", 9, capacity=0.15)
    assert any(
        "PV of customer 12 reaches 0.242 kW, but its rated power is 0.15 kWp" in n for n in read_ausgrid([path]).notes
    )


# errors -------------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "month first": (
        lambda lines: [line.replace(",2/07/2012,", ",7/31/2012,") for line in lines],
        "column date, row 4: '7/31/2012' is not a date like 1/07/2012 or 1-Jul-12, day first",
    ),
    "month first, and day first too": (
        lambda lines: [line.replace(",2/07/2012,", ",7/2/2012,") for line in lines],
        "column date, row 4: '7/2/2012' is read as 2012-02-07, day first, but the title speaks of July 2012",
    ),
    "another year than the title": (
        lambda lines: [line.replace("/2012,", "/2011,") for line in lines],
        "column date, row 3: '1/07/2011' is read as 2011-07-01, day first, but the title speaks of July 2012",
    ),
    "no date": (lambda lines: [lines[0], lines[1], lines[2].replace("1/07/2012", "")], "column date, row 3: '' is not"),
    "a stray text": (
        lambda lines: [*lines[:4], lines[4].replace(",0.2102,", ",x,", 1), *lines[5:]],
        "column 1:00, row 5: 'x' is not a number",
    ),
    "negative": (
        lambda lines: [*lines[:4], lines[4].replace(",0.2102,", ",-0.1,", 1), *lines[5:]],
        "column 1:00, row 5: -0.1 is outside [0, 5000]; it is energy in kWh, never negative",
    ),
    "far too large": (
        lambda lines: [*lines[:4], lines[4].replace(",0.2102,", ",6000,", 1), *lines[5:]],
        "column 1:00, row 5: 6000 is outside [0, 5000]; it is energy in kWh, never negative; is it in Wh?",
    ),
    "an unknown meter": (
        lambda lines: [line.replace(",GG,", ",XX,") for line in lines],
        "column Consumption Category, row 8: 'XX' is none of GC, CL, GG",
    ),
    "no generation": (
        lambda lines: [line for line in lines if ",GG," not in line],
        "column Consumption Category: customer 12 has no GG row; choose others with --customers",
    ),
    "a row twice": (
        lambda lines: [*lines, lines[4]],
        "column date, row 13: the GC row of customer 12 on 2012-07-03 stands twice",
    ),
    "no capacity": (
        lambda lines: [line.replace("12,1.5,", "12,,") for line in lines],
        "column Generator Capacity, row 3: it is empty",
    ),
    "hours that begin": (
        lambda lines: [
            line.replace(",0:30,1:00,", ",0:00,0:30,1:00,").replace(",23:30,0:00,", ",23:30,") for line in lines
        ],
        "row 2: it has 48 columns of time from 0:00 to 23:30; this format has 48, from 0:30 to 0:00",
    ),
    "hours only": (
        lambda lines: [re.sub(r",\d+:30(?=,)", "", line) for line in lines],
        "row 2: it has 24 columns of time from 1:00 to 0:00; this format has 48",
    ),
    "no customers": (
        lambda lines: [line.replace("Customer,", "Client,") for line in lines],
        "row 2: column Customer is missing; it has Client, Generator Capacity,",
    ),
    "cut off": (
        lambda lines: [*lines[:10], lines[10][:60]],
        "column 0:00, row 11: the last row ends before it; is the file cut off?",
    ),
    "nothing but a header": (lambda lines: lines[:2], "it has no rows below its header (row 2)"),
    "more cells than columns": (
        lambda lines: [*lines[:5], lines[5] + ",1,2", *lines[6:]],
        "it cannot be read (Error tokenizing data",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_that_names_file_column_and_row(tmp_path: Path, case: str) -> None:
    edit, what = ERRORS[case]
    path = rewrite(write_ausgrid(tmp_path / "a.csv", HOME, "2012-07-01", 5, title="2012-2013"), edit)
    message = refused([path])
    assert message.startswith(f"{path}: ")
    assert what in message, message


def test_customers_that_are_not_there_or_named_twice_are_refused(tmp_path: Path) -> None:
    path = write_ausgrid(tmp_path / "a.csv", HOME, "2012-07-01", 2)
    assert refused([path], ["12", "99"]) == f"{path}: column Customer: there is no customer '99'; change --customers"
    assert refused([path], ["99"]) == f"{path}: column Customer: there is no customer '99'; change --customers"
    assert "--customers 12,12: name each customer once" in refused([path], ["12", "12"])
    assert "--customers" in refused([path], [])


def test_files_of_overlapping_years_are_refused(tmp_path: Path) -> None:
    one = write_ausgrid(tmp_path / "a.csv", HOME, "2012-07-01", 5)
    other = write_ausgrid(tmp_path / "b.csv", HOME, "2012-07-05", 5)
    assert refused([one, other]).startswith(
        f"{other}: column date, row 3: the GC row of customer 12 on 2012-07-05 stands"
    )


def test_a_file_of_another_format_is_told_which_it_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "tidy.csv"
    path.write_text("time,id,load_kw,pv_kw\n2012-07-01T00:00Z,a,1,2\n")
    message = refused([path])
    assert message.startswith(f"{path}: it is no file of Ausgrid's solar homes: column Consumption Category is missing")
    assert message.endswith("it looks like a file of tidy readings")
    assert "there is no such file" in refused([tmp_path / "nowhere.csv"])
