"""Recipe of `cambridge-2018`: ten university buildings and GB prices of one year, from two public archives.

The archives are not part of the package: `import_cambridge` reads the two files from a folder of the user's. What they
lack is made, and the card says so. Imported by importers only (needs pandas). Axes: D days, H = 24 hours, N prosumers.
"""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Fleet
from prosumer_gym.datasets.assemble import (
    Counts,
    Rows,
    blocks_table,
    complete_days,
    cut,
    steps_of_days,
    weekend_of,
)
from prosumer_gym.datasets.carve import SHIFTABLE_SHARE, carve_shiftable
from prosumer_gym.datasets.forecast_errors import make_forecasts
from prosumer_gym.datasets.imports import Imported
from prosumer_gym.datasets.schema import COVARIATES, UNITS, Dataset, Manifest
from prosumer_gym.datasets.splits import DateArray
from prosumer_gym.datasets.tables import Readings, Steps, Table
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import passive_profile

CAMBRIDGE_ID = "cambridge-2018"
ESTATES_FILE = "cambridge_estates_2018_2022.parquet"
PRICES_FILE = "gb_prices_2016_2019_halfhourly.csv.gz"
YEAR = 2018
TIME_ZONE = "Europe/London"

BUILDINGS = ("b4", "b33", "b35", "b36", "b40", "b52", "b58", "b97", "b105", "b111")
HOW_CHOSEN = (
    "by the loads of 2018 alone. Quality: at most 3 missing hours in a row, the highest hour at most 1.25 times the "
    "99.9 % quantile and the lowest at least 5 % of the median (no glitch, no outage), a mean of 10 kW or more "
    "(readings are rounded to 0.1 kWh). Twelve of the 27 buildings pass. Diversity: of the two whose hourly loads "
    "are most correlated the larger one goes, until ten are left."
)

TRAIN_PEAK_KW = 50.0
PV_KWP = 45.0
FILL_GAPS_H = 3
SEED = 2018
CT_PER_PENNY = 1.13
"""Euro cents for one penny: 1 GBP = 1.13 EUR, mean of the ECB's reference rates of 2018 (0.8847 GBP for 1 EUR)."""

_ADDER_HOURS = slice(16, 19)
_DECIMALS = 4
_WEATHER = {"temp_c": "temperature_c", "cloud_frac": "cloud_fraction", "ghi_wm2": "irradiance_w_per_m2"}
_DA, _RT = "da_agile_outgoing_p_per_kwh", "rt_ssp_gbp_per_mwh"


def import_cambridge(folder: Path) -> Imported:
    """Make `cambridge-2018` from the two files in `folder`, or in folders of their own inside it.

    Raises:
        UsageError: a file or a column that is missing, or a value that cannot be what it should be.
    """
    zone = ZoneInfo(TIME_ZONE)
    estates = _read(folder, ESTATES_FILE)
    loads = _steps(estates, [f"load_kw_{name}" for name in BUILDINGS], zone)
    weather = _steps(estates, list(_WEATHER), zone)
    pv = _steps(estates, ["pv_pu_derived"], zone)
    prices = _steps(_read(folder, PRICES_FILE), [_DA, _RT], zone)

    counts = Counts()
    tables = {"load": _without_half_hours(loads), "weather": weather, "PV": pv, "prices": prices}
    rows = cut(complete_days(tables, zone, counts, fill_gaps_up_to=pd.Timedelta(hours=FILL_GAPS_H)), None, counts)
    training = rows.training

    source_kw = rows.hourly["load"]
    train_peak_kw = source_kw[training].max(axis=(0, 1))
    factors = TRAIN_PEAK_KW / train_peak_kw
    fleet = Fleet.identical([1])
    load_kw, shiftable_ref_kw = carve_shiftable(source_kw * factors, training, float(fleet.shiftable_power_kw[0]))
    observed = np.round(rows.hourly["weather"], _DECIMALS)
    adder_p = _adder(prices, rows.dates[training], zone)
    da_p = rows.hourly["prices"][:, :, 0].copy()
    da_p[:, _ADDER_HOURS] -= adder_p
    rt_p = 0.1 * rows.hourly["prices"][:, :, 1]

    num = len(BUILDINGS)
    pv_kw: FloatArray = PV_KWP * np.repeat(rows.hourly["PV"], num, axis=2)
    manifest = Manifest(
        id=CAMBRIDGE_ID,
        version="1",
        title="Ten university buildings in Cambridge and GB prices, 2018",
        licence="MIT (both archives)",
        citation="Langtry, M. and Choudhary, R. (2024): Cambridge University Estates building energy usage archive, "
        "version 2.1, doi:10.5281/zenodo.10955332",
        sources=(
            "github.com/EECi/Cambridge-Estates-Building-Energy-Archive, commit 97b8a6b7: loads, weather",
            "github.com/themathedges/3YP, commit dec021f9: prices",
        ),
        units=UNITS,
        interval_label="begin",
        time_zone=TIME_ZONE,
        measured="load (scaled by one factor for each building), weather (Bedford), real-time price (imbalance price)",
        derived="PV (from measured irradiance), day-ahead price (a day-ahead-indexed tariff without its evening adder)",
        made="weather forecasts, shiftable load (carved out of the load), load of the rest of the feeder, the fleet",
        seed=SEED,
    )
    dataset = Dataset(
        manifest=manifest,
        prosumers=BUILDINGS,
        dates=rows.dates,
        split=rows.split,
        block=rows.block,
        weekend=weekend_of(rows.dates, (5, 6)),
        load_kw=np.round(load_kw, _DECIMALS),
        pv_kw=np.round(pv_kw, _DECIMALS),
        shiftable_ref_kw=np.round(shiftable_ref_kw, _DECIMALS),
        price_da_ct_per_kwh=np.round(CT_PER_PENNY * da_p, _DECIMALS),
        price_rt_ct_per_kwh=np.round(CT_PER_PENNY * rt_p, _DECIMALS),
        passive_pu=np.tile(passive_profile(), (len(rows.dates), 1)),
        weather=observed,
        weather_forecast=np.round(make_forecasts(observed, num, np.random.default_rng(SEED)), _DECIMALS),
        pv_capacity_kw=np.full(num, PV_KWP),
        covariates=COVARIATES,
        card=_card(manifest, rows, counts, factors, train_peak_kw, adder_p),
    )
    return Imported(dataset, counts, ())


def _read(folder: Path, name: str) -> Table:
    """The file called `name`, with its times in a column `time`."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; name the one that holds {ESTATES_FILE} and {PRICES_FILE}")
    found = sorted(folder.rglob(name))
    if not found:
        raise UsageError(f"{folder}: {name} is nowhere in it; docs/data.md says where it is from")
    table = Table.read(found[0], keep_index=name == ESTATES_FILE)
    table.require("time_utc_begin")
    return Table(table.path, table.frame.rename(columns={"time_utc_begin": "time"}))


def _steps(table: Table, columns: list[str], zone: ZoneInfo) -> Steps:
    """Columns of a file over the local year; its times are UTC and name the beginning of a step."""
    table.require(*columns)
    readings = Readings.of(table, zone, "begin", "utc", by_id=False)
    frame = pd.DataFrame({column: table.numbers(column) for column in columns}, index=readings.begin)
    year = readings.begin.tz_convert(zone).year == YEAR
    if not year.any():
        raise UsageError(f"{table.path}: column time: it has no hour of {YEAR}; fetch the file again")
    return Steps.of(frame[year], readings.step)


def _without_half_hours(loads: Steps) -> Steps:
    """Blank the hours that lack a half: the archive sums half-hours, file by file and year by year.

    The first hour of each year holds about half of its energy, and so does an hour beside missing ones.
    """
    gone = loads.frame.isna()
    index = loads.frame.index
    assert isinstance(index, pd.DatetimeIndex)
    beside = gone | gone.shift(1, fill_value=False) | gone.shift(-1, fill_value=False)
    beside.loc[(index.day_of_year == 1) & (index.hour == 0)] = True
    return Steps(loads.frame.mask(beside), loads.step)


def _adder(prices: Steps, training: DateArray, zone: ZoneInfo) -> float:
    """What the tariff adds from 16 to 19 h local time, p/kWh: the median jump at both ends on the train days.

    Each day's jump is the mean of the step up from 15:30 to 16:00 and of the step down from 18:30 to 19:00.
    """
    day = steps_of_days(prices, training, zone)[:, :, 0]  # [D,48]
    if day.shape[1] != 48:
        raise UsageError(f"{PRICES_FILE}: column time: its steps are not half-hours; fetch the file again")
    first, after = 2 * _ADDER_HOURS.start, 2 * _ADDER_HOURS.stop
    jumps: FloatArray = 0.5 * ((day[:, first] - day[:, first - 1]) + (day[:, after - 1] - day[:, after]))
    return round(float(np.median(jumps)), 2)


def _card(
    manifest: Manifest, rows: Rows, counts: Counts, factors: FloatArray, train_peak_kw: FloatArray, adder_p: float
) -> str:
    source_kw = rows.hourly["load"]
    lines = [
        f"# {manifest.id}: {manifest.title}",
        "",
        f"{manifest.citation}. Licence: {manifest.licence}.",
        "",
        "Sources: " + "; ".join(manifest.sources) + ".",
        "Copyright: (c) 2023 Energy Efficient Cities Initiative, University of Cambridge; (c) 2018 Scot Wheeler, "
        "Avinash Vijay. The archives took the weather from the Met Office (MIDAS Open, station Bedford), the imbalance "
        "price from Elexon and the tariff from Octopus Energy; they do not state the terms of these sources; check "
        "them before publishing the data.",
        "",
        "## Measured",
        f"- Load: electricity of ten university buildings, each multiplied by one factor so that its highest hour on "
        f"train days is {TRAIN_PEAK_KW:g} kW. They are not homes: "
        "their loads are high by day and low at weekends, and alike.",
        "- Weather at Bedford, 40 km away: temperature and cloud cover as observed at the beginning of the hour, "
        "irradiance as the mean of the hour.",
        "- Real-time price: the GB imbalance price, mean of two half-hours. It can be negative, and it has spikes.",
        "",
        "## Derived",
        f"- PV: power per kWp computed from the measured irradiance (35 deg, south, 14 % losses), times {PV_KWP:g} kWp "
        "for every building. It is one series: the PV of the prosumers does not differ.",
        "- Day-ahead price: the Agile Outgoing tariff of Octopus (South-East; indexed to the day-ahead auction and "
        f"published the day before), mean of two half-hours, minus its adder of {adder_p:.2f} p/kWh from 16 to 19 h "
        "local time (the median jump of the tariff at 16 and 19 h on train days). It is not the auction price.",
        f"- Both prices: 1 penny = {CT_PER_PENNY} ct (1 GBP = {CT_PER_PENNY} EUR, mean of 2018).",
        "",
        "## Made",
        f"- Weather forecasts: the observed weather plus the error model of tehran-v0, seed {SEED}. They are no "
        "forecasts that anybody issued: contextual gains on this set tell about the error model as well.",
        f"- Shiftable load: {SHIFTABLE_SHARE:.0%} of the train mean of each hour, at most 20 kW, the same every day; "
        f"the must-run load is {1 - SHIFTABLE_SHARE:.0%} of the measured one.",
        "- Load of the rest of the feeder: the default profile, the same every day.",
        "- The fleet (batteries, limits) is that of tehran-v0.",
        "",
        "## Prosumers",
        "| building | train mean of the source, kW | train peak of the source, kW | factor | train mean here, kW |",
        "|---|---|---|---|---|",
    ]
    for n, name in enumerate(BUILDINGS):
        mean_kw = source_kw[rows.training, :, n].mean()
        lines.append(
            f"| {name} | {mean_kw:.1f} | {train_peak_kw[n]:.1f} | {factors[n]:.5g} | {factors[n] * mean_kw:.1f} |"
        )
    lines += [
        "",
        f"How they were chosen: {HOW_CHOSEN}",
        "",
        "## What was dropped and filled",
        *(f"- {line}" for line in counts.lines()),
        f"- Gaps of at most {FILL_GAPS_H} h are filled. The first hour of the year and hours beside a missing one "
        "count as missing: they hold only half of their energy.",
        f"- Days are complete local days ({TIME_ZONE}). Where days were dropped, rows that follow each other are not "
        "consecutive dates: the last eight complete days are the eight rows before.",
        "",
        "## Splits",
        *blocks_table(rows),
        "",
        "Every season is in every split. Lead-in days are never scored nor trained on. **Train days lie before and "
        "after dev and test days:** this set says how well a policy does in a known year, not how it ages.",
        "",
        "## Known weaknesses",
        "- One year: one draw of the weather and of the market.",
        "- The archive sums half-hours to hours without saying which end of the hour its times name; they are taken "
        "as beginnings, and may be off by up to an hour against weather and prices.",
        "- Weekend days are Saturday and Sunday; bank holidays and terms are not marked.",
    ]
    return "\n".join(lines) + "\n"
