from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from price_files import (
    HUB,
    NODE,
    OASIS_HEADER,
    hours,
    isone_row,
    oasis_row,
    wave,
    write_entsoe,
    write_entsoe_imbalance,
    write_isone,
    write_lines,
    write_oasis,
)

from prosumer_gym.datasets.assemble import Counts, complete_days
from prosumer_gym.datasets.market_prices import COLUMNS, FORMATS, READERS, PriceChoices, read_prices
from prosumer_gym.datasets.sources import Part
from prosumer_gym.datasets.tables import NaiveTimes

ENTSOE = PriceChoices(format="entsoe")
OASIS = PriceChoices(format="oasis")
ISONE = PriceChoices(format="isone")
PARIS, NEW_YORK, LOS_ANGELES = "Europe/Paris", "America/New_York", "America/Los_Angeles"


def read(
    files: Sequence[Path],
    rt_files: Sequence[Path] = (),
    choices: PriceChoices = ENTSOE,
    *,
    zone: str = PARIS,
    naive_times: NaiveTimes | None = None,
) -> Part:
    return read_prices(files, rt_files, choices, zone=ZoneInfo(zone), naive_times=naive_times)


def prices(part: Part, name: str) -> pd.Series[float]:
    """ct/kWh by UTC."""
    return part.series[name].steps.frame[name]


def told(part: Part, name: str, *utc: str) -> list[float]:
    series = prices(part, name)
    return [round(float(series[pd.Timestamp(time, tz="UTC")]), 6) for time in utc]


def agrees(part: Part, name: str, times: pd.DatetimeIndex) -> None:
    """Every step holds the price that was written for it, in ct/kWh."""
    series = prices(part, name)
    assert list(series.index) == list(times.tz_convert("UTC"))
    np.testing.assert_allclose(series, [0.1 * wave(k) for k in range(len(times))], rtol=1e-12)


# every format, over the days on which the clock changes -------------------------------------------------------------


@pytest.mark.parametrize(("first", "length"), [("2023-03-25", 23), ("2023-10-28", 25), ("2024-02-28", 24)])
@pytest.mark.parametrize("step", ["1h", "15min"])
def test_entsoe_prices_lie_at_their_time_when_the_clock_changes(
    tmp_path: Path, first: str, length: int, step: str
) -> None:
    times = hours(first, 3, PARIS, step)
    middle = times[(times >= times[0] + pd.Timedelta(hours=24)) & (times.day == (times[0] + pd.Timedelta("26h")).day)]
    assert len(middle) == length * (pd.Timedelta("1h") // pd.Timedelta(step))
    day_ahead = write_entsoe(tmp_path / "da.csv", times)
    real_time = write_entsoe_imbalance(tmp_path / "rt.csv", times)
    for part in (read([day_ahead], [real_time]), read([real_time, day_ahead])):
        agrees(part, "price_da", times)
        agrees(part, "price_rt", times)
        assert not part.notes


@pytest.mark.parametrize("first", ["2023-03-11", "2023-11-04", "2024-02-28"])
def test_oasis_prices_lie_at_their_time_when_the_clock_changes(tmp_path: Path, first: str) -> None:
    times = hours(first, 3, LOS_ANGELES)
    for column, step in (("VALUE", "5min"), ("MW", "5min"), ("PRC", "15min")):
        real = hours(first, 3, LOS_ANGELES, step)
        files = [
            write_oasis(tmp_path / "da.csv", times),
            write_oasis(tmp_path / "rt.csv", real, market="RTPD" if step == "15min" else "RTM", column=column),
        ]
        for part in (read(files[:1], files[1:], OASIS), read(files, (), OASIS)):
            agrees(part, "price_da", times)
            agrees(part, "price_rt", real)
            assert part.series["price_rt"].steps.step == pd.Timedelta(step)


@pytest.mark.parametrize(("first", "length"), [("2023-03-11", 71), ("2023-11-04", 73), ("2024-02-28", 72)])
def test_isone_prices_lie_at_their_time_when_the_clock_changes(tmp_path: Path, first: str, length: int) -> None:
    times = hours(first, 3, NEW_YORK)
    assert len(times) == length
    part = read(
        [write_isone(tmp_path / "da.csv", times)],
        [write_isone(tmp_path / "rt.csv", times, market="Real-Time")],
        ISONE,
        zone=NEW_YORK,
    )
    agrees(part, "price_da", times)
    agrees(part, "price_rt", times)


# against values computed by hand ------------------------------------------------------------------------------------


def test_entsoe_by_hand(tmp_path: Path) -> None:
    day_ahead = write_lines(
        tmp_path / "da.csv",
        [
            '"MTU (CET/CEST)","Day-ahead Price [EUR/MWh]","Currency","BZN|FR"',
            '"03.04.2023 23:00 - 04.04.2023 00:00","121.57","EUR",""',  # 3 April, never 4 March
            '"04.04.2023 00:00 - 04.04.2023 01:00","-8.10","EUR",""',
            '"04.04.2023 01:00 - 04.04.2023 02:00","n/e","EUR",""',
            '"04.04.2023 02:00 - 04.04.2023 03:00","-","",""',
            '"04.04.2023 03:00 - 04.04.2023 04:00","0","EUR",""',
        ],
    )
    real_time = write_lines(
        tmp_path / "rt.csv",
        [
            '"MTU (UTC)","Area","Imbalance Price (EUR/kWh)"',
            '"03/04/2023 21:00:00 - 03/04/2023 21:15:00","SCA|FR","0.05"',
            '"03/04/2023 21:15:00 - 03/04/2023 21:30:00","SCA|FR","-1.5"',
        ],
    )
    part = read([day_ahead], [real_time])
    hours_utc = [f"2023-04-03 {hour}:00" for hour in (21, 22)]
    assert told(part, "price_da", *hours_utc) == [12.157, -0.81]
    assert np.isnan(told(part, "price_da", "2023-04-03 23:00", "2023-04-04 00:00")).all()
    assert told(part, "price_da", "2023-04-04 01:00") == [0.0]
    assert told(part, "price_rt", "2023-04-03 21:00", "2023-04-03 21:15") == [5.0, -150.0]


def test_entsoe_autumn_by_hand(tmp_path: Path) -> None:
    """Of 02:00 twice the first is summer time, 00:00 UTC; labels say the same whatever the order."""
    old = ["28.10.2023 23:00", "29.10.2023 00:00", "29.10.2023 01:00", "29.10.2023 02:00", "29.10.2023 02:00"]
    ends = [*old[1:], "29.10.2023 03:00"]  # the platform writes 02:00 - 02:00, then 02:00 - 03:00
    plain = [f'"{a} - {b}",{k}' for k, (a, b) in enumerate(zip(old, ends, strict=True))]
    header = '"MTU (CET/CEST)","Day-ahead Price [EUR/MWh]"'
    real_time = write_entsoe_imbalance(tmp_path / "rt.csv", hours("2023-10-29", 1, PARIS))
    labelled = [
        *(row.replace(".", "/") for row in plain[:3]),
        '"29/10/2023 02:00:00 (CET) - 29/10/2023 03:00:00 (CET)",4',
        '"29/10/2023 02:00:00 (CEST) - 29/10/2023 02:00:00 (CET)",3',
    ]
    for name, rows in (("plain", plain), ("labelled", labelled)):
        part = read([write_lines(tmp_path / f"{name}.csv", [header, *rows])], [real_time])
        assert told(part, "price_da", *(f"2023-10-29 {k:02d}:00" for k in (0, 1))) == [0.3, 0.4], name
        assert part.series["price_da"].steps.step == pd.Timedelta("1h")


def test_entsoe_spring_by_hand(tmp_path: Path) -> None:
    """After 01:00 comes 03:00; a row for the hour between may stand there if it has no price."""
    header = '"MTU (CET/CEST)","Day-ahead Price [EUR/MWh]"'
    rows = ['"26.03.2023 01:00 - 26.03.2023 {}",10', '"26.03.2023 03:00 - 26.03.2023 04:00",30']
    nothing = '"26.03.2023 02:00 - 26.03.2023 03:00","-"'
    real_time = write_entsoe_imbalance(tmp_path / "rt.csv", hours("2023-03-26", 1, PARIS))
    for end, between in (("02:00", []), ("03:00", []), ("02:00", [nothing])):
        path = write_lines(tmp_path / "da.csv", [header, rows[0].format(end), *between, rows[1]])
        part = read([path], [real_time])
        assert list(prices(part, "price_da").index.hour) == [0, 1]
        assert told(part, "price_da", "2023-03-26 00:00", "2023-03-26 01:00") == [1.0, 3.0]


def test_entsoe_clocks_of_other_names(tmp_path: Path) -> None:
    real_time = write_entsoe_imbalance(tmp_path / "rt.csv", hours("2023-07-01", 1, PARIS))
    for clock, utc in (("UTC", "12:00"), ("CET/CEST", "10:00"), ("WET/WEST", "11:00"), ("EET/EEST", "09:00")):
        path = write_lines(
            tmp_path / "da.csv", [f"MTU ({clock}),Day-ahead Price (EUR/MWh)", "01/07/2023 12:00 - 01/07/2023 13:00,70"]
        )
        assert told(read([path], [real_time]), "price_da", f"2023-07-01 {utc}") == [7.0]
    path = write_lines(tmp_path / "da.csv", ["MTU,Day-ahead Price [EUR/MWh]", "01.07.2023 12:00 - 01.07.2023 13:00,70"])
    assert told(read([path], [real_time], naive_times="utc"), "price_da", "2023-07-01 12:00") == [7.0]
    assert told(read([path], [real_time], naive_times="local"), "price_da", "2023-07-01 10:00") == [7.0]


def test_entsoe_hours_may_turn_into_quarter_hours(tmp_path: Path) -> None:
    """As on 1 October 2025; also in a file with semicolons, compressed, and with a byte order mark."""
    text = (
        "\ufeffMTU (CET/CEST);Area;Sequence;Day-ahead Price (EUR/MWh)\n"
        "30/09/2025 23:00:00 - 01/10/2025 00:00:00;BZN|FR;Sequence 1;40\n"
        "01/10/2025 00:00:00 - 01/10/2025 00:15:00;BZN|FR;Sequence 1;10\n"
        "01/10/2025 00:15:00 - 01/10/2025 00:30:00;BZN|FR;Sequence 1;20\n"
    )
    path = tmp_path / "da.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    part = read([path], [write_entsoe_imbalance(tmp_path / "rt.csv", hours("2025-10-01", 1, PARIS))])
    assert part.series["price_da"].steps.step == pd.Timedelta("15min")
    assert prices(part, "price_da").tolist() == pytest.approx([4.0, 4.0, 4.0, 4.0, 1.0, 2.0])


def test_entsoe_areas_and_auctions_are_chosen(tmp_path: Path) -> None:
    rows = [
        f'"01/07/2025 {hour:02d}:00:00 - 01/07/2025 {hour + 1:02d}:00:00","BZN|{area}","{auction}",{price}'
        for hour in (0, 1)
        for area, auction, price in (
            ("DE-LU", "Sequence 1", 10 + hour),
            ("DE-LU", "Sequence 2", 20 + hour),
            ("FR", "Sequence 1", 30 + hour),
        )
    ]
    path = write_lines(tmp_path / "da.csv", ['"MTU (UTC)","Area","Sequence","Day-ahead Price (EUR/MWh)"', *rows])
    real_time = write_entsoe_imbalance(tmp_path / "rt.csv", hours("2025-07-01", 1, PARIS))
    for node in ("BZN|DE-LU", "SCA|DE-LU", "DE-LU"):
        for auction, price in (("Sequence 1", 1.0), ("Sequence 2", 2.0)):
            part = read([path], [real_time], PriceChoices(format="entsoe", node=node, sequence=auction))
            assert prices(part, "price_da").tolist() == pytest.approx([price, price + 0.1])
            assert any("BZN|DE-LU" in sentence for sentence in part.stated)
    part = read([path], [real_time], PriceChoices(format="entsoe", node="BZN|FR"))
    assert prices(part, "price_da").tolist() == pytest.approx([3.0, 3.1])


def test_entsoe_real_time_is_the_column_that_the_user_names_where_they_differ(tmp_path: Path) -> None:
    plus, minus = "+ Imbalance Price [EUR/MWh] - SCA|AT", "- Imbalance Price [EUR/MWh] - SCA|AT"
    real_time = write_lines(
        tmp_path / "rt.csv",
        [
            f'"Imbalance settlement period (CET/CEST)","{plus}","{minus}"',
            '"01.07.2023 00:00 - 01.07.2023 00:15",50,50',
            '"01.07.2023 00:15 - 01.07.2023 00:30",40,90',
        ],
    )
    day_ahead = write_entsoe(tmp_path / "da.csv", hours("2023-07-01", 1, PARIS))
    for column, price in ((plus, 4.0), (minus, 9.0)):
        part = read([day_ahead], [real_time], PriceChoices(format="entsoe", rt_column=column))
        assert told(part, "price_rt", "2023-06-30 22:15") == [price]
        assert any(column in sentence for sentence in part.stated)


def test_oasis_by_hand(tmp_path: Path) -> None:
    """Only LMP counts, whatever the order; on 5 November 2023 the operating day has an hour 25."""
    header = "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,OPR_DT,OPR_HR,NODE,MARKET_RUN_ID,LMP_TYPE,MW"
    rows = [
        "2023-11-06T07:00:00-00:00,2023-11-06T08:00:00-00:00,2023-11-05,25,N,DAM,LMP,25.5",
        "2023-11-06T07:00:00-00:00,2023-11-06T08:00:00-00:00,2023-11-05,25,N,DAM,MCE,7",
        "2023-11-05T07:00:00-00:00,2023-11-05T08:00:00-00:00,2023-11-05,1,N,DAM,LMP,-1.5",
        "2023-11-05T07:00:00-00:00,2023-11-05T07:15:00-00:00,2023-11-05,1,N,RTPD,LMP,2000",
        "2023-11-05T07:00:00-00:00,2023-11-05T07:15:00-00:00,2023-11-05,1,N,RTPD,MCC,1",
    ]
    part = read([write_lines(tmp_path / "a.csv", [header, *rows])], (), OASIS)
    assert told(part, "price_da", "2023-11-05 07:00", "2023-11-06 07:00") == [-0.15, 2.55]
    assert len(prices(part, "price_da")) == 25
    assert told(part, "price_rt", "2023-11-05 07:00") == [200.0]
    without = [header.replace("MARKET_RUN_ID,", ""), *(row.replace("DAM,", "") for row in rows[:3])]
    bare = write_lines(tmp_path / "b.csv", without)
    part = read([bare], [bare], OASIS)
    assert told(part, "price_rt", "2023-11-06 07:00") == [2.55]


def test_oasis_spring_hours_may_be_counted_or_named(tmp_path: Path) -> None:
    """After the hour that ends at 2 comes the one that ends at 4: hour 3 by count, 4 by the clock."""
    times = hours("2023-03-12", 1, LOS_ANGELES)[:3]
    real_time = write_oasis(tmp_path / "rt.csv", times, market="RTM")
    for hour in (3, 4):
        row = oasis_row(times[2], times[2] + pd.Timedelta("1h"), 30).split(",")
        assert row[3] == "3"
        row[3] = str(hour)
        path = write_lines(tmp_path / "a.csv", [OASIS_HEADER.format("MW"), ",".join(row)])
        assert told(read([path], [real_time], OASIS), "price_da", "2023-03-12 10:00") == [3.0]


def test_oasis_nodes_are_chosen(tmp_path: Path) -> None:
    times = hours("2023-07-01", 1, LOS_ANGELES)
    path = write_oasis(tmp_path / "da.csv", times)
    lines = path.read_text().splitlines()
    other = [line.replace(NODE, "OTHER").replace(",-999,", ",-888,") for line in lines[1:]]
    both = write_lines(tmp_path / "both.csv", [*lines, *other])
    real_time = write_oasis(tmp_path / "rt.csv", times, market="RTM")
    agrees(read([both], [real_time], PriceChoices(format="oasis", node=NODE)), "price_da", times)


def test_isone_by_hand(tmp_path: Path) -> None:
    """Hour 02 of 5 November 2023 begins at 05:00 UTC (summer time), 02X at 06:00, 24 at 04:00 of the day after."""
    lines = [
        '"C","Real-Time Energy Market Hourly LMP Report"',
        '"H","Date","Hour Ending","Location ID","Location Name","Locational Marginal Price"',
        '"H","Date","HE","String","String","Number"',
        *(
            f'"D","11/05/2023","{hour}","4000","{HUB}",{price}'
            for hour, price in (("24", 24), ("02X", -20), ("02", 2), ("01", 1), ("03", 3))
        ),
        '"T","5"',
    ]
    real_time = write_lines(tmp_path / "rt.csv", lines)
    part = read([write_isone(tmp_path / "da.csv", hours("2023-11-05", 1, NEW_YORK)), real_time], (), ISONE)
    utc = ["2023-11-05 04:00", "2023-11-05 05:00", "2023-11-05 06:00", "2023-11-05 07:00", "2023-11-06 04:00"]
    assert told(part, "price_rt", *utc) == [0.1, 0.2, -2.0, 0.3, 2.4]


def test_isone_days_come_one_a_file_and_locations_are_chosen_by_name_or_id(tmp_path: Path) -> None:
    times = hours("2023-11-04", 3, NEW_YORK)
    files = []
    for date in sorted(set(times.date)):
        mine = times[times.date == date]
        first = int(times.get_loc(mine[0]))
        files.append(
            write_isone(tmp_path / f"{date}.csv", mine, lambda k, first=first: wave(first + k), others=["UN.A", "UN.B"])
        )
    real_time = write_isone(tmp_path / "rt.csv", times, market="Real-Time")
    for node in (HUB, "4000"):
        part = read(files[::-1], [real_time], PriceChoices(format="isone", node=node), zone=NEW_YORK)
        agrees(part, "price_da", times)
        assert part.files == (*files[::-1], real_time)
        assert any(HUB in sentence for sentence in part.stated)


# what goes on to the import -----------------------------------------------------------------------------------------


def test_changes_of_the_clock_lose_their_day_only(tmp_path: Path) -> None:
    """Day-ahead hours and real-time quarter-hours meet in the hours of the same local days."""
    times, quarters = hours("2023-10-27", 5, PARIS), hours("2023-10-27", 5, PARIS, "15min")
    part = read([write_entsoe(tmp_path / "da.csv", times)], [write_entsoe_imbalance(tmp_path / "rt.csv", quarters)])
    counts = Counts()
    tables = {name: each.steps for name, each in part.series.items()}
    days = complete_days(tables, ZoneInfo(PARIS), counts, fill_gaps_up_to=pd.Timedelta(0))
    assert counts.clock_change == ["2023-10-29"]
    assert [str(date) for date in days.dates] == ["2023-10-27", "2023-10-28", "2023-10-30", "2023-10-31"]
    after = 24 + 24 + 25
    np.testing.assert_allclose(days.hourly["price_da"][2, :, 0], [0.1 * wave(after + h) for h in range(24)])
    quarters_of = [np.mean([0.1 * wave(4 * (after + h) + q) for q in range(4)]) for h in range(24)]
    np.testing.assert_allclose(days.hourly["price_rt"][2, :, 0], quarters_of)


def test_what_the_card_is_told(tmp_path: Path) -> None:
    times = hours("2023-07-01", 2, PARIS)
    part = read([write_entsoe(tmp_path / "da.csv", times)], [write_entsoe_imbalance(tmp_path / "rt.csv", times)])
    assert part.given == ("day-ahead price", "real-time price")
    assert [path.name for path in part.files] == ["da.csv", "rt.csv"]
    for sentence, words in zip(
        part.stated,
        (("day-ahead", "EUR/MWh", "CET/CEST", " BZN|FR,"), ("real-time", "+ Imbalance Price", " SCA|FR,")),
        strict=True,
    ):
        for word in words:
            assert word in sentence
    assert list(READERS) == list(FORMATS) == list(COLUMNS)


@pytest.mark.parametrize(
    ("factor", "note"),
    [(0.001, "median size of 0.05"), (100.0, "median size of 5"), (0.1, "more than 5 times")],
)
def test_prices_of_an_unlikely_size_are_noted_and_not_changed(tmp_path: Path, factor: float, note: str) -> None:
    """EUR/kWh, ct/MWh and ct/kWh under a header that says EUR/MWh."""
    times = hours("2023-07-01", 10, PARIS)
    day_ahead = write_entsoe(tmp_path / "da.csv", times, lambda k: round(factor * wave(k), 6))
    part = read([day_ahead], [write_entsoe_imbalance(tmp_path / "rt.csv", times)])
    assert any(note in sentence for sentence in part.notes), part.notes
    assert told(part, "price_da", "2023-06-30 22:00") == [pytest.approx(factor * 5.0)]


def test_isone_row_writes_what_the_reports_write() -> None:
    """The helper of these tests is no copy of the reader."""
    times = hours("2023-11-05", 1, NEW_YORK)
    assert [isone_row(time, 0).split(",")[2] for time in times[:4]] == ['"01"', '"02"', '"02X"', '"03"']
    assert isone_row(times[-1], 0).split(",")[1:3] == ['"11/05/2023"', '"24"']
