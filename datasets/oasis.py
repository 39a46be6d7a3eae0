"""Prices of the California ISO (CAISO OASIS, reports PRC_LMP, PRC_INTVL_LMP and PRC_RTPD_LMP saved as CSV).

One header; a row for each interval, node and component of the price, in no order:

    INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,OPR_DT,OPR_HR,OPR_INTERVAL,NODE_ID_XML,NODE_ID,NODE,MARKET_RUN_ID,
    LMP_TYPE,XML_DATA_ITEM,PNODE_RESMRID,GRP_TYPE,POS,MW,GROUP
    2022-02-01T15:00:00-00:00,2022-02-01T16:00:00-00:00,2022-02-01,8,0,TH_NP15,...,DAM,LMP,LMP_PRC,...,74.63,1

What the columns mean: CAISO, "Interface Specification for OASIS"; that the price stands in MW, VALUE or PRC depending
on the report: seen in public files. Times are GMT and name both ends of the interval. OPR_DT and OPR_HR are the Pacific
operating day and its hour, counted from 1 by hours ending (25 when the clock is set back); they are read to check the
GMT times. LMP is the price, in USD/MWh whatever its column is called; its components MCE, MCC, MCL and MGHG are left
out. MARKET_RUN_ID says which price it is: DAM the day-ahead one, RTM (5 minutes) and RTPD (15 minutes) real-time ones.
HASP and other runs are refused, and so are both real-time runs at once: they are two different prices.

Imported by importers only (needs pandas).
"""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from prosumer_gym.arrays import FloatArray
from prosumer_gym.datasets.foreign import PickedTable, lines_of, not_a_file_of, picked
from prosumer_gym.datasets.price_rows import NAMES, OPTIONS, Asked, Price, PriceRows, only_place
from prosumer_gym.errors import UsageError

FORMAT = "CAISO OASIS (--prices-format oasis)"
COLUMNS = {
    "INTERVALSTARTTIME_GMT": "begin",
    "INTERVALENDTIME_GMT": "end",
    "OPR_DT": "local date",
    "OPR_HR": "local hour, ending",
    "NODE": "place",
    "MARKET_RUN_ID": "market",
    "LMP_TYPE": "component",
    "MW": "price",
    "VALUE": "price",
    "PRC": "price",
}
"""What is read: the file's columns and what they hold; the price is in the one of the last three that is there."""
MARKETS: dict[str, Price] = {"DAM": "price_da", "RTM": "price_rt", "RTPD": "price_rt"}

_BEGIN, _END = "INTERVALSTARTTIME_GMT", "INTERVALENDTIME_GMT"
_PRICE_COLUMNS = ("MW", "VALUE", "PRC")
_ZONE = ZoneInfo("America/Los_Angeles")


def read_oasis(path: Path, asked: Asked) -> list[PriceRows]:
    """The prices of one file, one entry for each price that it holds.

    Raises:
        UsageError: naming file, column and row: another format, a node or market run that is not clear, a time that
            cannot be read or is no GMT, a price that is no number.
    """
    table, price_column = _read(path)
    nodes = sorted(set(table.frame["NODE"].dropna()))
    node = only_place(table, "NODE", nodes, asked.choices.node, "--price-node")
    mine = table.where((table.frame["NODE"] == node).to_numpy())
    if "MARKET_RUN_ID" not in mine.frame.columns:
        if asked.price is None:
            raise UsageError(
                f"{path}: column MARKET_RUN_ID is missing, so it does not say which price it holds; give the "
                "day-ahead price with --prices and the real-time price with --prices-rt"
            )
        return [_rows(mine, asked.price, price_column, node)]
    markets = mine.frame["MARKET_RUN_ID"].fillna("").to_numpy(dtype=str)
    found = list(dict.fromkeys(markets.tolist()))
    for market in found:
        row = int(np.argmax(markets == market))
        if market not in MARKETS:
            raise mine.error("MARKET_RUN_ID", row, f"{market!r} is none of {', '.join(MARKETS)}; leave its rows out")
        if asked.price is not None and MARKETS[market] != asked.price:
            is_price = MARKETS[market]
            raise mine.error(
                "MARKET_RUN_ID", row, f"{market} is a {NAMES[is_price]}; give the file with {OPTIONS[is_price]}"
            )
    return [_rows(mine.where(markets == market), MARKETS[market], price_column, node) for market in found]


def _read(path: Path) -> tuple[PickedTable, str]:
    """The rows of the price itself, and its column."""
    lines = lines_of(path, ",")
    header = next((line.stripped for line in lines), None)
    if header is None or _BEGIN not in header.cells:
        raise not_a_file_of(path, FORMAT, f"column {_BEGIN} is missing")
    price_columns = [column for column in _PRICE_COLUMNS if column in header.cells]
    for column in (_END, "OPR_DT", "OPR_HR", "NODE", "LMP_TYPE"):
        if column not in header.cells:
            raise not_a_file_of(path, FORMAT, f"column {column} is missing")
    if len(price_columns) != 1:
        have = " and ".join(price_columns) or "none of them"
        raise not_a_file_of(path, FORMAT, f"the price must be in one of MW, VALUE and PRC, it has {have}")
    place = header.cells.index("LMP_TYPE")
    rows = [line for line in lines if len(line.cells) <= place or line.cells[place] == "LMP"]
    if not rows:
        raise UsageError(f"{path}: column LMP_TYPE: no row is LMP, the price itself; fetch the price, not its parts")
    return picked(path, header, rows), price_columns[0]


def _rows(table: PickedTable, price: Price, column: str, node: str) -> PriceRows:
    begin, end = _gmt(table, _BEGIN), _gmt(table, _END)
    _check_operating_hours(table, begin)
    values: FloatArray = table.numbers(column)
    return PriceRows(
        price=price,
        table=table,
        column=column,
        time_column=_BEGIN,
        begin=begin,
        length=pd.TimedeltaIndex(end - begin),
        values=values,
        per="MWh",
        currency="USD",
        place=node,
        clock="times are GMT and name both ends of an interval",
    )


def _gmt(table: PickedTable, column: str) -> pd.DatetimeIndex:
    text = table.frame[column].fillna("").astype(str)
    stamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    zero = text.str.contains(r"(?:Z|[+-]00:?00)$").to_numpy(dtype=np.bool_)
    bad = stamps.isna().to_numpy() | ~zero
    if bad.any():
        row = int(np.argmax(bad))
        raise table.error(column, row, f"{text.iloc[row]!r} is not a GMT time like 2022-02-01T15:00:00-00:00")
    return pd.DatetimeIndex(stamps).as_unit("ns")


def _check_operating_hours(table: PickedTable, begin: pd.DatetimeIndex) -> None:
    """Raises `UsageError` where the Pacific day and hour are not those of the GMT time."""
    local = begin.tz_convert(_ZONE)
    dates = table.frame["OPR_DT"].fillna("").to_numpy(dtype=str)
    wrong = np.asarray(local.strftime("%Y-%m-%d")) != dates
    if wrong.any():
        row = int(np.argmax(wrong))
        raise table.error(
            "OPR_DT",
            row,
            f"it is {dates[row] or 'empty'}, but {_BEGIN} lies on {local[row]:%Y-%m-%d} Pacific time; is it GMT?",
        )
    hours = table.numbers("OPR_HR")
    midnight = local.normalize()
    elapsed = np.asarray((local - midnight) // pd.Timedelta(hours=1)) + 1
    # When the clock is set forward some count hour 3 and some leave it out: that day's clock hour will do as well.
    wrong = (hours != elapsed) & (hours != local.hour.to_numpy() + 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise table.error(
            "OPR_HR",
            row,
            f"it is {hours[row]:g}, but {_BEGIN} lies in hour {elapsed[row]:g} Pacific time; is it GMT?",
        )
