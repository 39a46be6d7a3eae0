"""The imports: which readers bring the parts of a data set, by the format of its readings.

Every import is its readings and their companions (prices, weather and what else the user has) put together by
`imports.assemble`. Imported on demand only (needs pandas).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path
from typing import Literal

from prosumer_gym.datasets import ausgrid, tidy
from prosumer_gym.datasets.citylearn import CityLearn
from prosumer_gym.datasets.imports import ImportChoices, Imported, assemble
from prosumer_gym.datasets.market_prices import PriceChoices, PriceFormat, read_prices
from prosumer_gym.datasets.schema import COVARIATES, parse_zone
from prosumer_gym.datasets.simbench import read_simbench
from prosumer_gym.datasets.sources import Part, Series
from prosumer_gym.datasets.tables import IntervalLabel, NaiveTimes
from prosumer_gym.datasets.tidy import EnergyUnit, PriceUnit, TidyTimes
from prosumer_gym.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Companions:
    """The files beside the readings, and what is said of them.

    Weather, forecasts, passive and capacities are tidy files (`tidy`); prices may be. What may be left out is made, and
    the card says so.
    """

    prices: Sequence[Path] = ()
    """Tidy: one file with time, price_da and, without `prices_rt`, price_rt. Of a market: one or more of its files."""
    prices_rt: Sequence[Path] = ()
    """With the real-time price, where it is not in `prices`."""
    prices_format: Literal["tidy", PriceFormat] = "tidy"
    price_unit: PriceUnit | None = None
    """Of tidy prices; the formats of the markets have their own."""
    price_node: str | None = None
    price_sequence: str | None = None
    price_rt_column: str | None = None
    weather: Path | None = None
    """time, temperature_c, cloud_fraction, irradiance_w_per_m2."""
    forecasts: Path | None = None
    """time, id and the columns of weather."""
    passive: Path | None = None
    """time, passive_pu."""
    capacities: Path | None = None
    """id, pv_capacity_kw (no time)."""
    interval_label: IntervalLabel | None = None
    """Which end of its step a time of a tidy file names."""
    naive_times: NaiveTimes | None = None
    """What times without a UTC offset mean."""

    def times(self, zone: tzinfo) -> TidyTimes:
        """What the times of the tidy files mean."""
        return TidyTimes(zone, self.interval_label, self.naive_times)

    def price_parts(self, zone: tzinfo) -> list[Part]:
        """Both prices.

        Raises:
            UsageError: no file, a unit that is not said or need not be, too many files; or as the readers.
        """
        if not self.prices:
            raise UsageError("--prices: no file is given; name the files of the prices")
        if self.prices_format != "tidy":
            if self.price_unit is not None:
                raise UsageError(
                    f"--price-unit {self.price_unit}: the format {self.prices_format} has its own; leave it away"
                )
            choices = PriceChoices(
                format=self.prices_format,
                node=self.price_node,
                sequence=self.price_sequence,
                rt_column=self.price_rt_column,
            )
            return [read_prices(self.prices, self.prices_rt, choices, zone=zone, naive_times=self.naive_times)]
        if not self.prices_rt:
            return [self._tidy_price(self.prices, "--prices", zone, None)]
        return [self._tidy_price(self.prices, "--prices", zone, "price_da"), self.real_time_part(zone)]

    def real_time_part(self, zone: tzinfo) -> Part:
        """The real-time price from a tidy file of its own."""
        if self.prices_format != "tidy":
            raise UsageError(f"--prices-format {self.prices_format}: name the files of both prices, --prices too")
        return self._tidy_price(self.prices_rt, "--prices-rt", zone, "price_rt")

    def _tidy_price(
        self, paths: Sequence[Path], option: str, zone: tzinfo, only: Literal["price_da", "price_rt"] | None
    ) -> Part:
        for other, value in (
            ("--price-node", self.price_node),
            ("--price-sequence", self.price_sequence),
            ("--price-rt-column", self.price_rt_column),
        ):
            if value is not None:
                raise UsageError(f"{other} {value}: it is of the formats of markets; say --prices-format")
        if len(paths) != 1:
            raise UsageError(f"{option}: {len(paths)} tidy files are given; put them into one")
        if self.price_unit is None:
            raise UsageError(
                f"{paths[0]}: in which unit are the prices? Say --price-unit {' or '.join(tidy.CT_PER_KWH)}"
            )
        return tidy.read_prices(paths[0], self.times(zone), self.price_unit, only)

    def weather_part(self, zone: tzinfo) -> Part:
        """The weather from its tidy file."""
        if self.weather is None:
            raise UsageError(f"--weather: no file is given; name one with time, {', '.join(COVARIATES)}")
        return tidy.read_weather(self.weather, self.times(zone))

    def optional_parts(self, zone: tzinfo, names: Sequence[str]) -> list[Part]:
        """Forecasts, load of the rest of the feeder and rated PV power, where given."""
        times = self.times(zone)
        parts = [] if self.forecasts is None else [tidy.read_forecasts(self.forecasts, times, names)]
        parts += [] if self.passive is None else [tidy.read_passive(self.passive, times)]
        return parts + ([] if self.capacities is None else [tidy.read_capacities(self.capacities, names)])

    def all_parts(self, zone: tzinfo, prosumers: Part) -> list[Part]:
        """The prosumers and everything beside them."""
        return [
            prosumers,
            *self.price_parts(zone),
            self.weather_part(zone),
            *self.optional_parts(zone, prosumers.names),
        ]


def import_tidy(
    readings: Path, unit: EnergyUnit, time_zone: str, companions: Companions, choices: ImportChoices
) -> Imported:
    """Make a data set of tidy files.

    Args:
        readings: time, id, load_kw or load_kwh, pv_kw or pv_kwh; optionally shiftable_ref_kw or shiftable_ref_kwh.
        unit: of load and PV.
        time_zone: whose days are the days.
        companions: the files beside it.
        choices: what to do with them.

    Raises:
        UsageError: naming file, column and row: a column that is missing or of another unit than stated, a cell that
            is no number or out of its range, a time that cannot be read or has no offset, a reading that stands twice
            or is missing, prosumers that differ between files; or too few days for the splits.
    """
    zone = parse_zone(time_zone)
    prosumers = tidy.read_prosumers(readings, companions.times(zone), unit)
    return assemble(companions.all_parts(zone, prosumers), time_zone, choices)


def import_citylearn(
    files: CityLearn, time_zone: str, companions: Companions, choices: ImportChoices, *, one_price: bool = False
) -> Imported:
    """Make a data set of a CityLearn folder.

    Without prices among the companions the price of the set is the day-ahead price; the real-time price then is that
    of `prices_rt`, or, with `one_price`, the same. The weather of the set is used unless the companions bring one.

    Raises:
        UsageError: as `CityLearn` and `import_tidy`; or no real-time price.
    """
    zone = files.zone
    prosumers = files.prosumers()
    if companions.prices:
        if one_price:
            raise UsageError("--one-price: prices are given; leave one of the two away")
        prices = companions.price_parts(zone)
    else:
        day_ahead = files.pricing()
        if not companions.prices_rt and not one_price:
            raise UsageError(
                f"{day_ahead.files[0]}: the set has one price; give the real-time price with --prices-rt, both with "
                "--prices, or say --one-price to take it for both"
            )
        prices = [day_ahead, _same_price(day_ahead) if one_price else companions.real_time_part(zone)]
    weather = files.weather() if companions.weather is None else companions.weather_part(zone)
    parts = [prosumers, *prices, weather, *companions.optional_parts(zone, prosumers.names)]
    return assemble(parts, time_zone, choices)


def import_simbench(
    folder: Path, nodes: Sequence[str], time_zone: str, companions: Companions, choices: ImportChoices
) -> Imported:
    """Make a data set of nodes of a SimBench grid.

    Raises:
        UsageError: as `read_simbench` and `import_tidy`.
    """
    zone = parse_zone(time_zone)
    return assemble(companions.all_parts(zone, read_simbench(folder, nodes, zone)), time_zone, choices)


def import_ausgrid(
    files: Sequence[Path],
    customers: Sequence[str] | None,
    companions: Companions,
    choices: ImportChoices,
    *,
    drop_estimated: bool = False,
) -> Imported:
    """Make a data set of Ausgrid's solar homes; its days are those of Sydney.

    Raises:
        UsageError: as `read_ausgrid` and `import_tidy`.
    """
    prosumers = ausgrid.read_ausgrid(files, customers, drop_estimated=drop_estimated)
    prosumers = replace(prosumers, licence=ausgrid.LICENCE, citation=ausgrid.CITATION)
    parts = companions.all_parts(parse_zone(ausgrid.TIME_ZONE), prosumers)
    return assemble(parts, ausgrid.TIME_ZONE, choices)


def _same_price(day_ahead: Part) -> Part:
    """The day-ahead price once more, as the real-time price."""
    series = day_ahead.series["price_da"]
    frame = series.steps.frame.rename(columns={"price_da": "price_rt"})
    return Part(
        files=day_ahead.files,
        series={"price_rt": Series(replace(series.steps, frame=frame), lambda _, begin: series.gap("price_da", begin))},
        given=(),
        made=("real-time price (the day-ahead price, as said by the user)",),
        notes=(
            "Both prices are one: nothing is to be gained from the spread of the markets. Take this set for what does "
            "not depend on it.",
        ),
    )
