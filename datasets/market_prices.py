"""Day-ahead and real-time prices from files in the formats of three markets.

The formats are told in the modules of their readers: `entsoe`, `oasis`, `isone`. Prices become ct/kWh, a ct being 1/100
of the currency of the file; negative prices are kept; nothing is guessed. Imported by importers only (needs pandas).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from pathlib import Path

from prosumer_gym.datasets import entsoe, isone, oasis
from prosumer_gym.datasets.price_rows import (
    CT_PER_KWH,
    NAMES,
    OPTIONS,
    Asked,
    Price,
    PriceChoices,
    PriceFormat,
    PriceRows,
    odd_sizes,
    paths_of,
    series_of,
)
from prosumer_gym.datasets.sources import Part, Series
from prosumer_gym.datasets.tables import NaiveTimes
from prosumer_gym.errors import UsageError

__all__ = ["COLUMNS", "FORMATS", "READERS", "PriceChoices", "PriceFormat", "read_prices"]

READERS: dict[PriceFormat, Callable[[Path, Asked], list[PriceRows]]] = {
    "entsoe": entsoe.read_entsoe,
    "oasis": oasis.read_oasis,
    "isone": isone.read_isone,
}
COLUMNS: dict[PriceFormat, dict[str, str]] = {
    "entsoe": entsoe.COLUMNS,
    "oasis": oasis.COLUMNS,
    "isone": isone.COLUMNS,
}
"""Of each format: the columns that are read, and what they hold."""
FORMATS: dict[PriceFormat, str] = {
    "entsoe": "ENTSO-E Transparency Platform, CSV of Day-ahead Prices and of Imbalance Prices",
    "oasis": "CAISO OASIS, CSV of PRC_LMP (day-ahead) and of PRC_INTVL_LMP or PRC_RTPD_LMP (real-time)",
    "isone": "ISO New England, CSV of hourly day-ahead and of hourly real-time LMPs, one file a day",
}


def read_prices(
    files: Sequence[Path],
    rt_files: Sequence[Path],
    choices: PriceChoices,
    *,
    zone: tzinfo,
    naive_times: NaiveTimes | None,
) -> Part:
    """Both prices, in two series `price_da` and `price_rt`.

    Args:
        files: with the day-ahead price, or, where there are no `rt_files` and the files say what they hold, with both.
        rt_files: with the real-time price.
        choices: the format, and what the files leave open.
        zone: of the data set; errors tell its time.
        naive_times: the clock of files that do not name theirs (ENTSO-E).

    Raises:
        UsageError: naming file, column and row: see the readers; rows that tell the same time twice; or a price that
            no file holds; or prices in different currencies.
    """
    given: tuple[Price, ...] = ("price_da", "price_rt")
    _check_choices(choices)
    rows: list[PriceRows] = []
    for price, paths in zip(given, (files, rt_files), strict=True):
        asked = Asked(price=price if rt_files else None, choices=choices, zone=zone, naive_times=naive_times)
        for path in paths:
            rows += READERS[choices.format](path, asked)
    series: dict[Price, Series] = {}
    for price in given:
        mine = [one for one in rows if one.price == price and len(one.begin)]
        if not mine:
            names = ", ".join(str(path) for path in files)
            raise UsageError(f"{names}: no file holds a {NAMES[price]}; give one with {OPTIONS[price]}")
        series[price] = series_of(mine, zone)
    for one in rows:
        if one.currency != rows[0].currency:
            raise UsageError(
                f"{one.table.path}: column {one.column}: it is in {one.currency}, but {rows[0].table.path} is in "
                f"{rows[0].currency}; give both prices in one currency"
            )
    return Part(
        files=paths_of(rows),
        series={str(price): each for price, each in series.items()},
        given=tuple(NAMES.values()),
        stated=tuple(dict.fromkeys(_stated(one, choices.format) for one in rows)),
        notes=odd_sizes(series, rows),
    )


def _check_choices(choices: PriceChoices) -> None:
    if choices.format != "entsoe":
        for option, value in (("--price-sequence", choices.sequence), ("--price-rt-column", choices.rt_column)):
            if value is not None:
                raise UsageError(f"{option} {value}: it is of use with --prices-format entsoe only; leave it out")


def _stated(rows: PriceRows, name: PriceFormat) -> str:
    factor = CT_PER_KWH[rows.per]
    return (
        f"{NAMES[rows.price]}: {FORMATS[name].partition(',')[0]}, {rows.place or 'place not told'}, column "
        f"{rows.column} in {rows.currency}/{rows.per} (times {factor:g} is ct/kWh); {rows.clock}; negative "
        "prices are kept"
    )
