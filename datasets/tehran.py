"""`tehran-v0`: five made summers of a community in Tehran, and the code that makes them.

`python -m prosumer_gym.datasets.tehran --freeze FOLDER` writes the data set anew. On one machine with one set of
library versions the arrays come out with the same bits (the same digest); elsewhere they agree within one unit of
their last digit. Other seeds give other weather, noise and prices for the *same* buildings: private test sets.
A `Variant` tells the same community under the same sun by another clock.

Axes: D days, H = 24 hours of a day, N prosumers, F covariates.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.datasets.carve import carve_shiftable
from prosumer_gym.datasets.forecast_errors import make_forecasts
from prosumer_gym.datasets.loads import Building, building_loads
from prosumer_gym.datasets.prices import REAL_TIME_RANGE, day_ahead_price, real_time_price
from prosumer_gym.datasets.realism import MARKET_AND_HOME_BANDS, TEHRAN_BANDS, Band, network_without_control
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, SPLITS, UNITS, Dataset, Manifest
from prosumer_gym.datasets.solar import Site, clear_sky, pv_power, step_means
from prosumer_gym.datasets.splits import LEAD_IN, Block, DateArray, cut_blocks
from prosumer_gym.datasets.store import save_dataset
from prosumer_gym.datasets.weather import summer_weather
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario, passive_profile

SEED = 20192023
VERSION = "1"
TEHRAN = Site(latitude=35.69, longitude=51.31, altitude_m=1191.0, utc_offset_h=3.5, turbidity=(3.4, 3.9))
SPLIT_OF_YEAR: dict[int, Any] = {2019: "train", 2020: "train", 2021: "train", 2022: "dev", 2023: "test"}
FIRST_DAY, LAST_DAY = "06-22", "09-19"
PV_TILT_DEG = 30.0
SHIFTABLE_POWER_KW = 20.0
_SPIN_UP_DAYS = 1  # the effective temperature of a day knows the day before

BUILDINGS = (
    Building("apartments-1", "residential", 17.5, 0.050, 21.0, 0.4, 50.0, 180.0),
    Building("office-1", "commercial", 18.5, 0.055, 20.0, -0.5, 50.0, 170.0),
    Building("apartments-2", "residential", 16.0, 0.055, 22.0, -0.6, 40.0, 200.0),
    Building("apartments-3", "residential", 19.0, 0.045, 21.5, 0.0, 50.0, 160.0),
    Building("shops-1", "commercial", 16.0, 0.060, 20.5, 1.5, 45.0, 205.0),
    Building("apartments-4", "residential", 18.0, 0.050, 22.0, 0.8, 40.0, 185.0),
    Building("office-2", "commercial", 19.0, 0.050, 20.0, 0.0, 60.0, 175.0),
    Building("apartments-5", "residential", 18.5, 0.055, 21.0, -0.3, 55.0, 155.0),
    Building("shops-2", "commercial", 17.5, 0.055, 21.0, 2.0, 50.0, 195.0),
    Building("apartments-6", "residential", 17.0, 0.050, 21.5, 0.2, 45.0, 190.0),
)


@dataclass(frozen=True)
class Variant:
    """The clock that a data set's hours are of: people, market and forecasts keep to it, sun and weather do not."""

    name: str
    """Of the frozen data set."""
    title: str
    module: str
    """Where its command is."""
    time_zone: str
    ahead_h: Mapping[int, int]
    """How far the clock of each summer is ahead of standard time, UTC+3:30."""
    offices_earlier_h: Mapping[int, float]
    """How much earlier than usual, by the clock, offices live in each summer."""
    clock_words: str
    """The sentence of the card that says what an hour is."""
    limit_words: str
    """Ends the card's list of what there is not."""
    shift: Callable[[Dataset], str]
    """A section of the card on what changes from train to test, computed from the data set."""

    def buildings(self, year: int) -> tuple[Building, ...]:
        """The N buildings as they live in the summer of `year`."""
        earlier = self.offices_earlier_h[year]
        return tuple(replace(b, shift_h=b.shift_h - earlier) if b.name.startswith("office") else b for b in BUILDINGS)


STANDARD_TIME = Variant(
    name="tehran-v0",
    title="Ten prosumers in Tehran, five made summers (22 June to 19 September, 2019-2023)",
    module="prosumer_gym.datasets.tehran",
    time_zone="UTC+03:30",
    ahead_h=dict.fromkeys(SPLIT_OF_YEAR, 0),
    offices_earlier_h=dict.fromkeys(SPLIT_OF_YEAR, 0.0),
    clock_words="All hours are standard time, UTC+3:30 in every year (Iran's clock moved in summer until 2022), "
    "and so are the\nhours at which people live; an hour is labelled by its beginning.",
    limit_words=", no change of clock",
    shift=lambda _: "",
)
FROZEN_NAMES = (STANDARD_TIME.name, "tehran-shift-v0")


def generate(seed: int = SEED, name: str | None = None, variant: Variant = STANDARD_TIME) -> Dataset:
    """Five summers of the community, drawn from `seed` (any non-negative integer, 128 bits and more welcome).

    Args:
        seed: of weather, forecasts, load noise and prices; the buildings are always the same.
        name: of the data set; needed when the seed is not that of the frozen one.
        variant: whose clock the hours are of.

    Raises:
        UsageError: a negative seed, or a name that does not go with the seed.
    """
    if seed < 0:
        raise UsageError(f"seed: {seed} is negative; give a whole number from 0 up")
    if name is None:
        name = variant.name if seed == SEED else variant.name.replace("v0", "other")
    if (name in FROZEN_NAMES or seed == SEED) and (name, seed) != (variant.name, SEED):
        raise UsageError(f"{variant.name} is the data set of seed {SEED}; give a set of another seed another name")
    summers = [
        _summer(year, np.random.default_rng(child), variant)
        for year, child in zip(SPLIT_OF_YEAR, np.random.SeedSequence(seed).spawn(len(SPLIT_OF_YEAR)), strict=True)
    ]
    arrays = {key: np.concatenate([summer[key] for summer in summers]) for key in summers[0]}
    dates: DateArray = arrays.pop("dates")
    spans = [
        Block(split, np.datetime64(f"{year}-{FIRST_DAY}"), np.datetime64(f"{year}-{LAST_DAY}"))
        for year, split in SPLIT_OF_YEAR.items()
    ]
    rows, split, block = cut_blocks(dates, spans)
    load_kw, shiftable_ref_kw = carve_shiftable(arrays.pop("total_load_kw")[rows], split == "train", SHIFTABLE_POWER_KW)
    kept = {key: values[rows] for key, values in arrays.items()}
    weekday = _weekday(dates[rows])
    capacity = np.array([building.pv_kw for building in BUILDINGS])
    return Dataset(
        manifest=_manifest(name, seed, variant),
        prosumers=tuple(building.name for building in BUILDINGS),
        dates=dates[rows],
        split=split,
        block=block,
        weekend=(weekday == 3) | (weekday == 4),
        load_kw=np.round(load_kw, 3),
        pv_kw=np.round(kept["pv_kw"], 3),
        shiftable_ref_kw=np.round(shiftable_ref_kw, 3),
        price_da_ct_per_kwh=np.round(kept["price_da"], 3),
        price_rt_ct_per_kwh=np.round(kept["price_rt"], 3),
        passive_pu=np.tile(np.asarray(np.round(passive_profile(24), 3)), (rows.size, 1)),
        weather=_round_weather(kept["weather"]),
        weather_forecast=_round_weather(kept["weather_forecast"]),
        pv_capacity_kw=capacity,
    )


def _summer(year: int, rng: np.random.Generator, variant: Variant) -> dict[str, Any]:
    """One summer with its lead-in days; arrays lead with D, hours are those of the variant's clock."""
    weather_rng, forecast_rng, load_rng, price_rng = rng.spawn(4)
    first = np.datetime64(f"{year}-{FIRST_DAY}") - (LEAD_IN_DAYS + _SPIN_UP_DAYS)
    dates = np.arange(first, np.datetime64(f"{year}-{LAST_DAY}") + 1)
    day_of_year = (dates - np.datetime64(f"{year}-01-01")).astype(np.float64) + 1.0
    sky = clear_sky(TEHRAN, dates)
    air = summer_weather(day_of_year, weather_rng)
    pv_kw = pv_power(
        sky,
        air.transmission,
        air.temperature_c,
        np.array([building.pv_kw for building in BUILDINGS]),
        np.full(len(BUILDINGS), PV_TILT_DEG),
        np.array([building.pv_azimuth_deg for building in BUILDINGS]),
    )
    # up to here standard time, from here on the hours of the clock
    temperature_c, cloud, irradiance, pv_kw = (
        _by_clock(values, variant.ahead_h[year])
        for values in (
            air.temperature_c,
            air.cloud,
            step_means(sky.clear_w_per_m2, dates.size) * air.transmission,
            pv_kw,
        )
    )
    weather = np.stack([temperature_c, cloud, irradiance], axis=-1)
    forecast = make_forecasts(weather, len(BUILDINGS), forecast_rng)
    weekday = _weekday(dates)
    mean_forecast = forecast.mean(axis=2)
    price_da = day_ahead_price(mean_forecast[..., 0], weekday, price_rng)
    price_rt = real_time_price(
        price_da, temperature_c, mean_forecast[..., 0], irradiance, mean_forecast[..., 2], price_rng
    )
    total = building_loads(
        variant.buildings(year), year, weekday[1:], temperature_c, load_rng, base_year=min(SPLIT_OF_YEAR)
    )
    later = slice(_SPIN_UP_DAYS, None)
    return {
        "dates": dates[later],
        "total_load_kw": total,
        "pv_kw": pv_kw[later],
        "price_da": price_da[later],
        "price_rt": price_rt[later],
        "weather": weather[later],
        "weather_forecast": forecast[later],
    }


def _by_clock(values: FloatArray, ahead_h: int) -> FloatArray:
    """Hours of standard time [D,H,...] as a clock that is `ahead_h` hours ahead names them.

    What it calls 0 h was 23 h of the day before. Before the first day nothing is known: its first hours repeat the
    first known one. That day only spins up and is not kept.
    """
    hours = values.reshape(-1, *values.shape[2:])
    later = np.concatenate((np.repeat(hours[:1], ahead_h, axis=0), hours[: len(hours) - ahead_h]))
    return np.asarray(later.reshape(values.shape))


def _weekday(dates: DateArray) -> IntArray:
    return np.asarray((dates.astype(np.int64) + 3) % 7, dtype=np.int64)  # Monday = 0; 1970-01-01 was a Thursday


def _round_weather(weather: FloatArray) -> FloatArray:
    """Temperature and irradiance to two decimals, cloud fraction to three."""
    return np.stack([np.round(weather[..., f], digits) for f, digits in enumerate((2, 3, 2))], axis=-1)


def _manifest(name: str, seed: int, variant: Variant) -> Manifest:
    return Manifest(
        id=name,
        version=VERSION,
        title=variant.title,
        licence="CC-BY-4.0",
        citation=f"The prosumer-gym developers: {name}, version {VERSION}, made by {variant.module}.",
        sources=(f"made by {variant.module}; sun and PV by pvlib",),
        units=UNITS,
        interval_label="begin",
        time_zone=variant.time_zone,
        measured="nothing",
        derived="the position of the sun and the clear sky, from place and date",
        made="weather, forecasts, loads, PV, shiftable loads and prices; the passive load is the scenario's profile",
        seed=seed,
    )


def clear_sky_energy(dataset: Dataset) -> float:
    """Mean global horizontal energy of a clear sky over Tehran on the scored days, kWh/m2 a day."""
    dates = dataset.dates[dataset.split != LEAD_IN]
    return float(step_means(clear_sky(TEHRAN, dates).clear_w_per_m2, dates.size).sum(axis=1).mean() / 1000.0)


BANDS = (
    *MARKET_AND_HOME_BANDS,
    *TEHRAN_BANDS,
    Band("clear-sky energy, summer mean (kWh/m2 a day)", clear_sky_energy, 7.6, 8.0),
)


_CARD = """# {name}

{title}. Version {version}, seed {seed}, SHA-256 of the arrays `{sha256}`.

**Everything in it is made.** It is a synthetic community, drawn once by `{module}` and frozen; no
household, market or weather station was measured. `python -m {module} --freeze FOLDER` makes it
again; another `--seed` makes other days of the same buildings.

## Days and splits

Hourly, complete days of 22 June to 19 September, 2019 to 2023.
{counts}.
Each summer starts with {lead_in} lead-in days (14 to 21 June), which give the first scored day its past and are never
scored. {clock} The weekend is Thursday and Friday. Both dev and test
are published, since one summer is one draw of the weather.
{shift}
## How it is made

- **Weather**: daily temperature around its seasonal mean, AR(1) .80, with a draw for each year; daily cloud fraction,
  beta distributed, AR(1) .55, correlated -.35 with temperature; hourly clouds around it; a daily dust factor of .75
  to 1. Irradiance is the clear sky of Ineichen and Perez (Linke turbidity 3.4 to 3.9) times the transmission of clouds
  (Kasten and Czeplak) and dust.
- **Forecasts**: issued at noon of the day before, each prosumer's own. Temperature error AR(1) .75 with a standard
  deviation of .55 + .02 lead hours; cloud error growing with the square root of the lead and with cloud (1 - cloud);
  irradiance follows the forecast clouds. 30 % of the error variance is the prosumer's own, the rest common to all.
- **Loads**: six apartment blocks and four commercial buildings. A profile of the hour, cooling in proportion to the
  effective temperature (half of now, .3 of the day's mean, .2 of yesterday's) above a balance point, factors of the
  day common to all and of each building, AR(1) hourly noise, weekend factors, growth of 3 % a year, and a commercial
  load 18 % lower in 2020.
- **Shiftable load**: 30 % of the load, carved out: `load_kw` is .7 of the load, `shiftable_ref_kw` is .3 of the
  training mean of the hour, the same every day, at most 20 kW.
- **PV**: Erbs, Hay and Davies, Faiman and PVWatts (pvlib), tilt 30 degrees.
- **Prices**: day-ahead 6 to 12 ct/kWh, a logistic curve of what the *forecast* temperature, the hour and the weekday
  let expect, and a noise of the market's own; real-time 6 to 25 ct/kWh: day-ahead, heat, what the forecasts missed in
  temperature and irradiance, AR(1) .65 noise, and spikes that arrive with heat in peak hours and decay.
- **Passive load of the feeder**: the profile of the scenario `ieee33`, the same every day.

| prosumer | PV (kW) | azimuth (deg) | mean load (kW) | highest load (kW) |
|---|---|---|---|---|
{houses}

## Is it like the real thing?

Bands measured on real day-ahead and real-time markets, homes, estates and forecasts, and facts of the place, beside
what this data set has (all rows; serial correlations inside a summer only; loads are the must-run part).

| statistic | band | here |
|---|---|---|
{bands}

On the feeder of `ieee33`, with no control (batteries idle, shiftable loads at their reference), voltage limits .95 and
1.05 p.u.:

| split | bus-hours under .95 | hours with one | lowest (p.u.) | bus-hours over 1.05 | community exchange (kW) |
|---|---|---|---|---|---|
{network}

## Known limits

- One generator made training and test days: what holds here need not hold on real data.
- The low voltages come every evening, 20 to 23 h, with the peak of the passive load; there are none on the high side.
- The real-time price stands at its floor of 6 ct/kWh in {floor:.0f} % of the hours.
- No holidays beside the weekend, no outages, no metering errors, no wind{limit}.
- Prosumers do not react to prices: the load is what it would be without the benchmark.

## Licence and citation

{licence}. {citation}
"""


def card(dataset: Dataset, variant: Variant = STANDARD_TIME) -> str:
    """The data card, with every figure computed from `dataset`."""
    counts = "; ".join(
        f"{split} {', '.join(str(y) for y, s in SPLIT_OF_YEAR.items() if s == split)} ({dataset.days(split).size} days)"
        for split in SPLITS
    )
    bands = "\n".join(f"| {b.title} | {b.low:g} to {b.high:g} | {b.statistic(dataset):.2f} |" for b in BANDS)
    houses = "\n".join(
        f"| {b.name} | {b.pv_kw:g} | {b.pv_azimuth_deg:g} | {mean:.1f} | {peak:.1f} |"
        for b, mean, peak in zip(
            BUILDINGS,
            (dataset.load_kw + dataset.shiftable_ref_kw).mean(axis=(0, 1)),
            (dataset.load_kw + dataset.shiftable_ref_kw).max(axis=(0, 1)),
            strict=True,
        )
    )
    network = "\n".join(
        f"| {split} | {100 * f.share_below:.1f} % | {100 * f.hours_below:.1f} % | {f.lowest_pu:.4f} "
        f"| {100 * f.share_above:.1f} % | {f.exchange_kw[0]:.0f} to {f.exchange_kw[1]:+.0f} |"
        for split in ("dev", "test")
        for f in (network_without_control(dataset, make_scenario("ieee33"), split),)
    )
    return _CARD.format(
        name=dataset.id,
        module=variant.module,
        clock=variant.clock_words,
        shift=variant.shift(dataset),
        limit=variant.limit_words,
        version=dataset.manifest.version,
        title=dataset.manifest.title,
        licence=dataset.manifest.licence,
        citation=dataset.manifest.citation,
        seed=dataset.manifest.seed,
        sha256=dataset.manifest.sha256,
        lead_in=LEAD_IN_DAYS,
        counts=counts,
        bands=bands,
        houses=houses,
        network=network,
        floor=100.0 * float((dataset.price_rt_ct_per_kwh <= REAL_TIME_RANGE[0]).mean()),
    )


def freeze(folder: Path, seed: int = SEED, name: str | None = None, variant: Variant = STANDARD_TIME) -> Dataset:
    """Make the data set with its card and write it to `folder`, over an older one if it is there."""
    made = generate(seed, name, variant)
    complete = made.replace(card=card(made, variant))
    save_dataset(complete, folder, overwrite=True)
    return complete


def main(arguments: list[str] | None = None, variant: Variant = STANDARD_TIME) -> int:
    """Command line: `--freeze FOLDER [--seed WHOLE_NUMBER --name NAME]`."""
    parser = argparse.ArgumentParser(prog=f"python -m {variant.module}", description=f"Make {variant.name} anew.")
    parser.add_argument("--freeze", type=Path, required=True, metavar="FOLDER", help="where to write the data set")
    parser.add_argument("--seed", type=int, default=SEED, help=f"another draw of the same community (default {SEED})")
    parser.add_argument("--name", help="name of the data set; needed with another seed")
    options = parser.parse_args(arguments)
    try:
        dataset = freeze(options.freeze, options.seed, options.name, variant)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.freeze}: {dataset!r}, SHA-256 {dataset.manifest.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
