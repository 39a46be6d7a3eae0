from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from price_files import (
    OASIS_HEADER,
    hours,
    write_entsoe,
    write_entsoe_imbalance,
    write_isone,
    write_lines,
    write_oasis,
)

from prosumer_gym.datasets.market_prices import PriceChoices, read_prices
from prosumer_gym.datasets.price_rows import PriceFormat
from prosumer_gym.datasets.tables import NaiveTimes
from prosumer_gym.errors import UsageError

ZONES = {"entsoe": "Europe/Paris", "oasis": "America/Los_Angeles", "isone": "America/New_York"}

Lines = list[str]
Edit = Callable[[Lines], Lines]


def day_ahead(folder: Path, name: PriceFormat, first: str = "2023-07-01") -> Path:
    path, times = folder / "da.csv", hours(first, 2, ZONES[name])
    return {"entsoe": write_entsoe, "oasis": write_oasis, "isone": write_isone}[name](path, times)  # type: ignore[operator]


def real_time(folder: Path, name: PriceFormat, first: str = "2023-07-01") -> Path:
    path, times = folder / "rt.csv", hours(first, 2, ZONES[name])
    if name == "entsoe":
        return write_entsoe_imbalance(path, times)
    return write_oasis(path, times, market="RTM") if name == "oasis" else write_isone(path, times, market="Real-Time")


def refused(
    files: list[Path],
    rt_files: list[Path],
    choices: PriceChoices,
    naive_times: NaiveTimes | None = None,
) -> str:
    with pytest.raises(UsageError) as caught:
        read_prices(files, rt_files, choices, zone=ZoneInfo(ZONES[choices.format]), naive_times=naive_times)
    message = str(caught.value)
    assert "\n" not in message
    return message


def cell(row: int, old: str, new: str) -> Edit:
    """Change a cell in a row of the file, the first being 1."""

    def edit(lines: Lines) -> Lines:
        assert old in lines[row - 1], lines[row - 1]
        return [*lines[: row - 1], lines[row - 1].replace(old, new, 1), *lines[row:]]

    return edit


def everywhere(old: str, new: str) -> Edit:
    return lambda lines: [line.replace(old, new) for line in lines]


def added(row: int, line: str) -> Edit:
    return lambda lines: [*lines[: row - 1], line, *lines[row - 1 :]]


def cut_after(row: int, characters: int) -> Edit:
    return lambda lines: [*lines[:row], lines[row][:characters]]


ENTSOE: dict[str, tuple[Edit, str, str]] = {
    "a stray text": (
        cell(3, '"50.01"', '"n.a."'),
        "da.csv: column Day-ahead Price [EUR/MWh], row 3: ",
        "'n.a.' is not",
    ),
    "a decimal comma": (cell(3, '"50.01"', '"50,01"'), "da.csv: column Day-ahead Price [EUR/MWh], row 3: ", "'50,01'"),
    "month first": (
        everywhere(".07.2023", ".13.2023"),
        "da.csv: column MTU (CET/CEST), row 2: ",
        "'01.13.2023 00:00 - 01.13.2023 01:00' is not an interval like 31.01.2023 00:00 - 31.01.2023 01:00, days first",
    ),
    "ISO times": (
        cell(2, "01.07.2023 00:00 - 01.07.2023 01:00", "2023-07-01 00:00"),
        "da.csv: column MTU (CET/CEST), row 2: ",
        "'2023-07-01 00:00' is not an interval",
    ),
    "a row twice": (
        lambda lines: [*lines, lines[4]],
        "da.csv: column MTU (CET/CEST), row 50: ",
        "2023-07-01 03:00 local time stands twice, first in row 5; keep one of them",
    ),
    "a quarter of an hour that has a price already": (
        lambda lines: [*lines, '"01.07.2023 02:30 - 01.07.2023 02:45","1","EUR",""'],
        "da.csv: column MTU (CET/CEST), row 50: ",
        "2023-07-01 02:30 local time stands twice, first in row 4; keep one of them",
    ),
    "a wrong end": (
        cell(4, "01.07.2023 03:00", "01.07.2023 04:00"),
        "da.csv: column MTU (CET/CEST), row 4: ",
        "it lasts 120 minutes; must be an hour or a whole part of it",
    ),
    "ends before it begins": (
        cell(4, "01.07.2023 03:00", "01.07.2023 01:00"),
        "da.csv: column MTU (CET/CEST), row 4: ",
        "it lasts -60 minutes",
    ),
    "cut off within a row": (
        cut_after(20, 45),
        "da.csv: row 21 ",
        "has 2 cells, the header has 4; is the file cut off?",
    ),
    "no unit": (everywhere(" [EUR/MWh]", ""), "da.csv: column Day-ahead Price: ", "does not say its unit"),
    "another currency": (
        cell(5, '"EUR"', '"GBP"'),
        "da.csv: column Currency, row 5: ",
        "it is GBP, but the header says",
    ),
    "too large": (
        cell(4, '"50.02"', '"200000"'),
        "da.csv: column Day-ahead Price [EUR/MWh], row 4: ",
        "200000 is outside [-100000, 100000]; the file says EUR/MWh; is that right?",
    ),
    "an unknown clock": (everywhere("CET/CEST", "MSK"), "da.csv: column MTU (MSK): ", "the clock MSK is not known"),
    "no clock": (everywhere(" (CET/CEST)", ""), "da.csv: column MTU: ", "say --naive-times local or utc"),
    "no price": (
        everywhere("Day-ahead Price", "Load"),
        "da.csv: it is no file of ENTSO-E",
        "no column Day-ahead Price",
    ),
    "no times": (everywhere("MTU", "Day"), "da.csv: it is no file of ENTSO-E", "no column MTU"),
    "two day-ahead prices": (
        everywhere('"Currency"', '"Day-ahead Price [EUR/MWh] - BZN|DE"'),
        "da.csv: it has several day-ahead prices: ",
        "keep one",
    ),
    "quoted as a whole": (
        lambda lines: ['"' + line.replace('"', '""') + '"' for line in lines],
        "da.csv: row 1: ",
        "its lines are quoted as a whole",
    ),
    "nothing but a header": (lambda lines: lines[:1], "da.csv: it has no rows below its header (row 1)", ""),
    "empty": (lambda _: [""], "da.csv: it is empty", ""),
    "a label of another season": (
        cell(2, "01.07.2023 00:00", "01.07.2023 00:00 (CET)"),
        "da.csv: column MTU (CET/CEST), row 2: ",
        "is not CET at that time of the year",
    ),
    "half past": (
        everywhere(":00", ":30"),
        "da.csv: column MTU (CET/CEST), row 2: ",
        "it begins at 00:30:00 local time, across local hours",
    ),
}

OASIS: dict[str, tuple[Edit, str, str]] = {
    "a stray text": (everywhere(",50.47,", ",n/a!,"), "da.csv: column MW, row 98: ", "'n/a!' is not a number"),
    "local times said to be GMT": (
        everywhere("T07:00:00-00:00,2023-07-01", "T00:00:00-00:00,2023-07-01"),
        "da.csv: column OPR_DT, row ",
        "is it GMT?",
    ),
    "another offset": (
        everywhere("2023-07-01T07:00:00-00:00", "2023-07-01T00:00:00-07:00"),
        "da.csv: column INTERVALSTARTTIME_GMT, row ",
        "is not a GMT time like 2022-02-01T15:00:00-00:00",
    ),
    "another hour": (everywhere(",2023-07-01,5,", ",2023-07-01,4,"), "da.csv: column OPR_HR, row ", "it is 4, but"),
    "components only": (everywhere(",LMP,", ",MCE,"), "da.csv: column LMP_TYPE: ", "no row is LMP"),
    "an unknown run": (
        everywhere("DAM", "HASP"),
        "da.csv: column MARKET_RUN_ID, row ",
        "'HASP' is none of DAM, RTM, RTPD",
    ),
    "real time given as day-ahead": (
        everywhere("DAM", "RTM"),
        "da.csv: column MARKET_RUN_ID, row ",
        "RTM is a real-time price; give the file with --prices-rt",
    ),
    "no price": (everywhere(",MW,", ",GW,"), "da.csv: it is no file of CAISO OASIS", "in one of MW, VALUE and PRC"),
    "two prices": (everywhere(",GROUP", ",PRC"), "da.csv: it is no file of CAISO OASIS", "it has MW and PRC"),
    "no node": (everywhere(",NODE,", ",KNOT,"), "da.csv: it is no file of CAISO OASIS", "column NODE is missing"),
    "an error page": (
        lambda _: ["<?xml version='1.0'?><m:OASISReport><m:ERROR>"],
        "da.csv: it is no file of CAISO OASIS",
        "column INTERVALSTARTTIME_GMT is missing",
    ),
    "a row twice": (
        lambda lines: [*lines, lines[100]],
        "da.csv: column INTERVALSTARTTIME_GMT, row 242: ",
        "stands twice",
    ),
}

ISONE: dict[str, tuple[Edit, str, str]] = {
    "a stray text": (
        cell(8, ",50.02,", ",?,"),
        "da.csv: column Locational Marginal Price, row 8: ",
        "'?' is not a number",
    ),
    "days first": (everywhere('"07/01/2023"', '"31/07/2023"'), "da.csv: column Date, row 6: ", "month first"),
    "hour 25": (
        cell(8, '"03"', '"25"'),
        "da.csv: column Hour Ending, row 8: ",
        "'25' is not an hour from 01 to 24, or 02X",
    ),
    "hour 00": (cell(8, '"03"', '"00"'), "da.csv: column Hour Ending, row 8: ", "'00' is not an hour"),
    "02X in summer": (
        cell(8, '"03"', '"02X"'),
        "da.csv: column Hour Ending, row 8: ",
        "02X stands on 07/01/2023, when the clock is not set back",
    ),
    "cut off": (
        lambda lines: [*lines[:30], lines[-1]],
        "da.csv: row 31 says ",
        "that there are 48 D lines, but there are 25",
    ),
    "cut off within a row": (cut_after(30, 30), "da.csv: row 31 ", "is the file cut off?"),
    "no heading": (lambda lines: lines[:2], "da.csv: it is no file of ISO New England", "no line begins with H"),
    "no data": (lambda lines: lines[:5], "da.csv: it has no D lines", ""),
    "another report": (
        everywhere("Locational Marginal Price", "Price"),
        "da.csv: it is no file of ISO New England",
        "column Locational Marginal Price is missing in row 4",
    ),
    "a line of another kind": (
        added(9, '"X","1"'),
        "da.csv: it is no file of ISO New England",
        "row 9 begins with 'X'",
    ),
    "a row twice": (
        lambda lines: [*lines[:-1], lines[8]],
        "da.csv: column Hour Ending, row 54: ",
        "2023-07-01 03:00 local time stands twice, first in row 9",
    ),
    "real time given as day-ahead": (
        everywhere("Day-Ahead", "Real-Time"),
        "da.csv: row 1: its comments say that it is a real-time price; ",
        "give it with --prices-rt",
    ),
}


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name, cases in (("entsoe", ENTSOE), ("oasis", OASIS), ("isone", ISONE)) for case in cases],
)
def test_an_error_is_one_line_that_names_file_column_and_row(tmp_path: Path, name: PriceFormat, case: str) -> None:
    edit, where, what = {"entsoe": ENTSOE, "oasis": OASIS, "isone": ISONE}[name][case]
    path = day_ahead(tmp_path, name)
    write_lines(path, edit(path.read_text().splitlines()))
    message = refused([path], [real_time(tmp_path, name)], PriceChoices(format=name))
    assert message.startswith(f"{tmp_path}/{where}"), message
    assert what in message, message


# times ----------------------------------------------------------------------------------------------------------------


def test_a_price_at_a_time_that_the_clock_jumps_over_is_refused(tmp_path: Path) -> None:
    header = '"MTU (CET/CEST)","Day-ahead Price [EUR/MWh]"'
    path = write_lines(tmp_path / "da.csv", [header, '"26.03.2023 02:00 - 26.03.2023 03:00",1'])
    message = refused([path], [real_time(tmp_path, "entsoe", "2023-03-26")], PriceChoices(format="entsoe"))
    assert "da.csv: column MTU (CET/CEST), row 2: 26.03.2023 02:00" in message
    assert "does not exist on the clock CET/CEST, which jumps over it; is it UTC?" in message
    path = write_isone(tmp_path / "da.csv", hours("2023-03-12", 1, ZONES["isone"]))
    write_lines(path, cell(8, '"04"', '"03"')(path.read_text().splitlines()))
    message = refused([path], [real_time(tmp_path, "isone", "2023-03-12")], PriceChoices(format="isone"))
    assert "da.csv: column Hour Ending, row 8: hour 03 of 03/12/2023 does not exist in New England" in message


def test_a_file_in_another_clock_than_it_says_is_refused_in_spring(tmp_path: Path) -> None:
    path = write_entsoe(tmp_path / "da.csv", hours("2023-03-25", 2, "UTC"))  # UTC under CET/CEST
    message = refused([path], [real_time(tmp_path, "entsoe", "2023-03-25")], PriceChoices(format="entsoe"))
    assert "da.csv: column MTU (CET/CEST), row 28: 26.03.2023 02:00 - 26.03.2023 03:00 does not exist" in message


def test_an_hour_shown_three_times_or_in_falling_order_is_refused(tmp_path: Path) -> None:
    path = write_entsoe(tmp_path / "da.csv", hours("2023-10-29", 1, ZONES["entsoe"]))
    lines = path.read_text().splitlines()
    rt = real_time(tmp_path, "entsoe", "2023-10-29")
    write_lines(path, [*lines[:5], lines[4], *lines[5:]])
    assert "row 6: 2023-10-29 02:00 local time stands twice, first in row 5" in refused(
        [path], [rt], PriceChoices(format="entsoe")
    )
    path = write_entsoe(tmp_path / "da.csv", hours("2023-10-29", 1, ZONES["entsoe"], "15min"))
    lines = path.read_text().splitlines()
    write_lines(path, [lines[0], *lines[:0:-1]])
    assert "is shown twice by the clock; sort the rows by time" in refused([path], [rt], PriceChoices(format="entsoe"))


def test_the_second_hour_of_two_without_its_mark_is_refused(tmp_path: Path) -> None:
    path = write_isone(tmp_path / "da.csv", hours("2023-11-05", 1, ZONES["isone"]))
    write_lines(path, everywhere('"02X"', '"02"')(path.read_text().splitlines()))
    message = refused([path], [real_time(tmp_path, "isone", "2023-11-05")], PriceChoices(format="isone"))
    assert "da.csv: column Hour Ending, row 8: 2023-11-05 01:00 local time stands twice, first in row 7" in message


def test_files_that_overlap_are_refused(tmp_path: Path) -> None:
    for name in ("entsoe", "oasis", "isone"):
        one = day_ahead(tmp_path, name, "2023-07-01").rename(tmp_path / "one.csv")
        other = day_ahead(tmp_path, name, "2023-07-02").rename(tmp_path / "other.csv")
        message = refused([one, other], [real_time(tmp_path, name)], PriceChoices(format=name))
        assert re.search(
            r"other\.csv: .* 2023-07-02 00:00 local time stands twice, first in row \d+ of .*one.csv", message
        )


def test_a_gap_is_told_by_file_and_row(tmp_path: Path) -> None:
    path = write_entsoe(tmp_path / "da.csv", hours("2023-07-01", 2, ZONES["entsoe"], "15min"))
    lines = path.read_text().splitlines()
    write_lines(path, cell(10, '"50.08"', '"n/e"')([*lines[:50], *lines[51:]]))
    part = read_prices(
        [path],
        [real_time(tmp_path, "entsoe")],
        PriceChoices(format="entsoe"),
        zone=ZoneInfo("Europe/Paris"),
        naive_times=None,
    )
    one = part.series["price_da"]
    missing = one.steps.frame.index[one.steps.frame["price_da"].isna()]
    assert [str(time.tz_convert("Europe/Paris"))[:16] for time in missing] == ["2023-07-01 02:00", "2023-07-01 12:15"]
    said = [str(one.gap("price_da", time)) for time in missing]
    where = f"{path}: column Day-ahead Price [EUR/MWh]"
    assert said[0].startswith(f"{where}, row 10: the price at 2023-07-01 02:00 local time is empty; fill the gap")
    assert said[1].startswith(f"{where}, row 50: after it the price at 2023-07-01 12:15 local time is missing; ")
    assert "--fill-gaps" in said[1]


# what is never guessed ------------------------------------------------------------------------------------------------


def test_which_imbalance_price_is_the_real_time_one(tmp_path: Path) -> None:
    rt = real_time(tmp_path, "entsoe")
    lines = rt.read_text().splitlines()
    write_lines(rt, cell(5, '"50.03","50.03"', '"50.03","80"')(lines))
    da = day_ahead(tmp_path, "entsoe")
    message = refused([da], [rt], PriceChoices(format="entsoe"))
    assert message == (
        f"{rt}: column - Imbalance Price [EUR/MWh] - SCA|FR, row 5: it is 80, but + Imbalance Price [EUR/MWh] - SCA|FR "
        "is 50.03; which is the real-time price? say it with --price-rt-column"
    )
    message = refused([da], [rt], PriceChoices(format="entsoe", rt_column="Imbalance"))
    assert "rt.csv: column Imbalance is missing, it has + Imbalance Price [EUR/MWh] - SCA|FR; -" in message
    write_lines(rt, everywhere("+ Imbalance Price", "Intraday Price")(lines))
    message = refused([da], [rt], PriceChoices(format="entsoe", rt_column="Intraday Price [EUR/MWh] - SCA|FR"))
    assert "intraday auctions have times of their own and are not read" in message


def test_which_area_auction_node_and_location(tmp_path: Path) -> None:
    times = hours("2023-07-01", 1, "UTC")
    path = write_entsoe(
        tmp_path / "da.csv",
        times,
        header='"MTU (UTC)","Day-ahead Price (EUR/MWh)","Area","Sequence"',
        row='"{0:%d/%m/%Y %H:%M:%S} - {1:%d/%m/%Y %H:%M:%S}","{2}","BZN|FR","Sequence 1"',
    )
    rt = real_time(tmp_path, "entsoe")
    lines = path.read_text().splitlines()
    write_lines(path, [*lines, *everywhere("|FR", "|BE")(lines[1:])])
    message = refused([path], [rt], PriceChoices(format="entsoe"))
    assert message == f"{path}: column Area has several: BZN|FR, BZN|BE; say which with --price-node"
    message = refused([path], [rt], PriceChoices(format="entsoe", node="BZN|DE"))
    assert message == f"{path}: column Area has no 'BZN|DE', it has BZN|FR, BZN|BE; change --price-node"
    write_lines(path, [*lines, *everywhere(" 1", " 2")(lines[1:])])
    message = refused([path], [rt], PriceChoices(format="entsoe"))
    assert message == f"{path}: column Sequence has several: Sequence 1, Sequence 2; say which with --price-sequence"

    path, rt = day_ahead(tmp_path, "oasis"), real_time(tmp_path, "oasis")
    lines = path.read_text().splitlines()
    write_lines(path, [*lines, *everywhere("TH_NP15", "TH_SP15")(lines[1:])])
    message = refused([path], [rt], PriceChoices(format="oasis"))
    assert message.endswith("NODE has several: TH_NP15_GEN-APND, TH_SP15_GEN-APND; say which with --price-node")

    times, others = hours("2023-07-01", 1, ZONES["isone"]), [f"UN.{k}" for k in range(9)]
    path, rt = write_isone(tmp_path / "da.csv", times, others=others), real_time(tmp_path, "isone")
    message = refused([path], [rt], PriceChoices(format="isone"))
    assert (
        message
        == f"{path}: column Location Name has several: UN.0, UN.1, UN.2, UN.3 and 6 more; say which with --price-node"
    )
    message = refused([path], [rt], PriceChoices(format="isone", node="4001"))
    assert "has no '4001', it has UN.0, UN.1, UN.2, UN.3 and 6 more; change --price-node" in message


def test_which_price_a_file_holds(tmp_path: Path) -> None:
    for name in ("entsoe", "oasis", "isone"):
        choices = PriceChoices(format=name)
        da, rt = day_ahead(tmp_path, name), real_time(tmp_path, name)
        assert "no file holds a real-time price; give one with --prices-rt" in refused([da], [], choices)
        assert "no file holds a day-ahead price; give one with --prices" in refused([rt], [], choices)
        assert "day-ahead price; give " in refused([da], [da], choices)
        assert "real-time price; give " in refused([rt], [rt], choices)
    bare = write_isone(tmp_path / "bare.csv", hours("2023-07-01", 1, ZONES["isone"]), market="Some")
    assert "its comments do not say whether" in refused([bare], [], PriceChoices(format="isone"))
    header = OASIS_HEADER.format("MW").replace("MARKET_RUN_ID", "RUN")
    lines = day_ahead(tmp_path, "oasis").read_text().splitlines()
    bare = write_lines(tmp_path / "bare.csv", [header, *lines[1:]])
    assert "column MARKET_RUN_ID is missing" in refused([bare], [], PriceChoices(format="oasis"))


def test_two_real_time_markets_are_two_prices(tmp_path: Path) -> None:
    times = hours("2023-07-01", 1, ZONES["oasis"])
    rt = [write_oasis(tmp_path / f"{market}.csv", times, market=market) for market in ("RTM", "RTPD")]
    message = refused([day_ahead(tmp_path, "oasis")], rt, PriceChoices(format="oasis"))
    assert "RTPD.csv: column INTERVALSTARTTIME_GMT, row " in message
    assert "stands twice" in message


def test_prices_in_two_currencies_are_refused(tmp_path: Path) -> None:
    rt = real_time(tmp_path, "entsoe")
    write_lines(rt, everywhere("EUR/MWh", "GBP/MWh")(rt.read_text().splitlines()))
    message = refused([day_ahead(tmp_path, "entsoe")], [rt], PriceChoices(format="entsoe"))
    assert "rt.csv: column + Imbalance Price [GBP/MWh] - SCA|FR: it is in GBP, but " in message
    assert "da.csv is in EUR; give both prices in one currency" in message


@pytest.mark.parametrize("choice", [{"sequence": "Sequence 1"}, {"rt_column": "MW"}])
def test_choices_that_mean_nothing_to_a_format_are_refused(tmp_path: Path, choice: dict[str, str]) -> None:
    choices = PriceChoices(format="oasis", **choice)  # type: ignore[arg-type]
    message = refused([day_ahead(tmp_path, "oasis")], [real_time(tmp_path, "oasis")], choices)
    assert "it is of use with --prices-format entsoe only; leave it out" in message


# wrong files ----------------------------------------------------------------------------------------------------------


def test_a_file_of_another_format_is_told_which_it_looks_like(tmp_path: Path) -> None:
    files = {name: day_ahead(tmp_path, name).rename(tmp_path / f"{name}.csv") for name in ZONES}  # type: ignore[arg-type]
    files["tidy"] = write_lines(tmp_path / "tidy.csv", ["time,price_da,price_rt", "2023-07-01T00:00Z,1,2"])
    for name in ZONES:
        for other, path in files.items():
            if other != name:
                message = refused([path], [path], PriceChoices(format=name))  # type: ignore[arg-type]
                assert message.startswith(f"{path}: it is no file of "), message
                assert message.endswith(f"(--prices-format {other})"), message
    strange = write_lines(tmp_path / "strange.csv", ["a,b", "1,2"])
    assert refused([strange], [strange], PriceChoices(format="oasis")).endswith("; check the file")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for name, content, what in (
        ("nowhere.csv", None, "there is no such file"),
        ("a.zip", b"PK", "its name ends neither in .csv nor .csv.gz; unpack"),
        ("b.csv.gz", b"no gzip", "it cannot be read"),
        ("c.csv", b"\xff\xfe\x00M", "it cannot be read"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        for known in ZONES:
            message = refused([path], [path], PriceChoices(format=known))  # type: ignore[arg-type]
            assert message.startswith(f"{path}: "), message
            assert what in message, message
