"""Small price files made by hand in the formats of three markets, for the tests of their readers and of the import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

HUB = ".H.INTERNAL_HUB"
NODE = "TH_NP15_GEN-APND"


def hours(first: str, days: int, zone: str, step: str = "1h") -> pd.DatetimeIndex:
    """Steps of whole local days, aware."""
    end = (pd.Timestamp(first) + pd.Timedelta(days=days)).strftime("%Y-%m-%d")
    return pd.date_range(first, end, freq=step, inclusive="left", tz=zone)


def wave(k: int) -> float:
    """A price that tells its place: no two of a month are alike, and some are negative."""
    return round(50.0 + 0.01 * k - (90.0 if k % 24 == 13 else 0.0), 2)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def write_entsoe(
    path: Path,
    times: pd.DatetimeIndex,
    price: Callable[[int], object] = wave,
    *,
    header: str = '"MTU (CET/CEST)","Day-ahead Price [EUR/MWh]","Currency","BZN|FR"',
    row: str = '"{0:%d.%m.%Y %H:%M} - {1:%d.%m.%Y %H:%M}","{2}","EUR",""',
) -> Path:
    """Times as the clock of their zone shows them, with what comes after the interval in `row`."""
    ends = times + (times[1] - times[0])
    lines = [row.format(begin, end, price(k)) for k, (begin, end) in enumerate(zip(times, ends, strict=True))]
    return write_lines(path, [header, *lines])


def write_entsoe_imbalance(path: Path, times: pd.DatetimeIndex, price: Callable[[int], object] = wave) -> Path:
    """Single pricing: both columns are equal."""
    return write_entsoe(
        path,
        times,
        price,
        header='"Imbalance settlement period (CET/CEST)","+ Imbalance Price [EUR/MWh] - SCA|FR",'
        '"- Imbalance Price [EUR/MWh] - SCA|FR","Status"',
        row='"{0:%d.%m.%Y %H:%M} - {1:%d.%m.%Y %H:%M}","{2}","{2}","Final"',
    )


OASIS_HEADER = (
    "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,OPR_DT,OPR_HR,OPR_INTERVAL,NODE_ID_XML,NODE_ID,NODE,MARKET_RUN_ID,"
    "LMP_TYPE,XML_DATA_ITEM,PNODE_RESMRID,GRP_TYPE,POS,{},GROUP"
)


def oasis_row(begin: pd.Timestamp, end: pd.Timestamp, price: object, kind: str = "LMP", market: str = "DAM") -> str:
    local = begin.tz_convert("America/Los_Angeles")
    hour = (local - local.normalize()) // pd.Timedelta(hours=1) + 1  # 25 on the day when the clock is set back
    gmt = "%Y-%m-%dT%H:%M:%S-00:00"
    return (
        f"{begin.tz_convert('UTC'):{gmt}},{end.tz_convert('UTC'):{gmt}},{local:%Y-%m-%d},{hour},0,{NODE},{NODE},{NODE},"
        f"{market},{kind},X,{NODE},ALL,0,{price},1"
    )


def write_oasis(
    path: Path,
    times: pd.DatetimeIndex,
    price: Callable[[int], object] = wave,
    *,
    market: str = "DAM",
    column: str = "MW",
) -> Path:
    """All components of each interval, and the rows sorted by component and not by time."""
    ends = times + (times[1] - times[0])
    lines = []
    for kind in ("MCE", "MCL", "LMP", "MCC", "MGHG"):
        for k, (begin, end) in reversed(list(enumerate(zip(times, ends, strict=True)))):
            lines.append(oasis_row(begin, end, price(k) if kind == "LMP" else -999, kind, market))
    return write_lines(path, [OASIS_HEADER.format(column), *lines])


ISONE_HEADER = (
    '"H","Date","Hour Ending","Location ID","Location Name","Location Type","Locational Marginal Price",'
    '"Energy Component","Congestion Component","Marginal Loss Component"'
)
ISONE_TYPES = '"H","Date","HE","String","String","String","Number","Number","Number","Number"'


def isone_row(begin: pd.Timestamp, price: object, name: str = HUB, id_: str = "4000") -> str:
    """`begin` is aware, on the clock of New England."""
    earlier = begin - pd.Timedelta(hours=1)
    again = "X" if (earlier.hour, earlier.date()) == (begin.hour, begin.date()) else ""
    return f'"D","{begin:%m/%d/%Y}","{begin.hour + 1:02d}{again}","{id_}","{name}","HUB",{price},0,0,0'


def write_isone(
    path: Path,
    times: pd.DatetimeIndex,
    price: Callable[[int], object] = wave,
    *,
    market: str = "Day-Ahead",
    others: Sequence[str] = (),
) -> Path:
    """`times` are hours of New England; `others` are locations beside the hub, at other prices."""
    lines = [f'"C","{market} Energy Market Hourly LMP Report"', '"C","Filename: x.csv"', "", ISONE_HEADER, ISONE_TYPES]
    rows = []
    for k, begin in enumerate(times):
        rows += [isone_row(begin, -777, name, f"90{n}") for n, name in enumerate(others)]
        rows.append(isone_row(begin, price(k)))
    return write_lines(path, [*lines, *rows, f'"T","{len(rows)}"'])
