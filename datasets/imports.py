"""From the parts that readers bring to a data set: the one way of all importers.

Complete local days, splits, what is made where the files have nothing, the notes and the card. Imported by importers
only (needs pandas). Axes: D days, H = 24 hours, N prosumers, F covariates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Fleet
from prosumer_gym.datasets.assemble import Counts, Rows, blocks_table, complete_days, cut, weekend_of
from prosumer_gym.datasets.carve import SHIFTABLE_SHARE, carve_shiftable
from prosumer_gym.datasets.forecast_errors import make_forecasts
from prosumer_gym.datasets.oddities import oddities
from prosumer_gym.datasets.schema import COVARIATES, UNITS, Dataset, Manifest, parse_zone
from prosumer_gym.datasets.sources import PRICES, Part, Series
from prosumer_gym.datasets.splits import Block
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import passive_profile

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, eq=False)
class Imported:
    """A data set and what became of its source on the way."""

    dataset: Dataset
    counts: Counts
    notes: tuple[str, ...]
    """What the user should know or check, one sentence each."""


@dataclass(frozen=True, kw_only=True)
class ImportChoices:
    """What to do with the readings; every choice stands on the card."""

    id: str
    title: str = "Imported readings"
    licence: str = ""
    citation: str = ""
    blocks: tuple[Block, ...] | None = None
    """Splits; None: `season_blocks`."""
    weekend: tuple[int, ...] = (5, 6)
    """Weekdays of the weekend, Monday = 0."""
    shiftable_share: float = SHIFTABLE_SHARE
    zero_load_is_missing: bool = False
    """Count a load of exactly 0 as a gap: sources write 0 for a missing reading."""
    fill_gaps_h: float = 0.0
    drop_incomplete_days: bool = False
    seed: int = 0
    """Of the forecast errors, where forecasts are made."""


def assemble(parts: Sequence[Part], time_zone: str, choices: ImportChoices) -> Imported:
    """Make a data set of what readers brought.

    Readings of less than an hour are averaged to hours. Days of 23 or 25 hours, and days at the edges of the files, are
    dropped and counted.

    Args:
        parts: between them load and PV of the prosumers, both prices and the weather; they come in the order in which
            the card names them. What else may be there (`Part.series`) is made where it is not.
        time_zone: whose days are the days.
        choices: of the user.

    Raises:
        UsageError: a reading that is missing (naming file, column and row), or too few days for the splits.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", choices.id):
        raise UsageError(f"--id {choices.id!r}: use a-z, 0-9, dots, dashes and underscores, a letter or digit first")
    series = {key: each for part in parts for key, each in part.series.items()}
    (names,) = (part.names for part in parts if part.names)
    if choices.zero_load_is_missing:
        series["load"] = _without_zeros(series["load"])
    counts = Counts()
    days = complete_days(
        {key: each.steps for key, each in series.items()},
        parse_zone(time_zone),
        counts,
        fill_gaps_up_to=pd.Timedelta(hours=choices.fill_gaps_h),
    )
    if days.first_missing is not None and not choices.drop_incomplete_days:
        gap = days.first_missing
        raise series[gap.table].gap(gap.column, gap.begin)
    rows = cut(days, choices.blocks, counts)
    notes = (*(note for part in parts for note in part.notes), *oddities(rows, names))

    hourly = rows.hourly
    load_kw, pv_kw, weather = hourly["load"], hourly["pv"], hourly["weather"]
    if "shiftable_ref" in hourly:
        shiftable_ref_kw = hourly["shiftable_ref"]
    else:
        power_kw = float(Fleet.identical([1]).shiftable_power_kw[0])
        load_kw, shiftable_ref_kw = carve_shiftable(load_kw, rows.training, power_kw, share=choices.shiftable_share)
    forecasts_given = f"forecast {COVARIATES[0]}" in hourly
    if forecasts_given:
        forecast = np.stack([hourly[f"forecast {name}"] for name in COVARIATES], axis=-1)
    else:
        rng = np.random.default_rng(choices.seed)
        forecast = np.round(make_forecasts(weather, len(names), rng), 4)
    if "passive" in hourly:
        passive_pu = hourly["passive"][:, :, 0]
    else:
        passive_pu = np.tile(passive_profile(load_kw.shape[1]), (len(rows.dates), 1))
    capacities = [part.pv_capacity_kw for part in parts if part.pv_capacity_kw is not None]
    story = _Story(parts, series, choices, capacity_given=bool(capacities))
    prices = {name: _price(series, hourly, name) for name in PRICES}
    dataset = Dataset(
        manifest=Manifest(
            id=choices.id,
            version="1",
            title=choices.title or choices.id,
            licence=story.licence,
            citation=story.citation,
            sources=story.files,
            units=UNITS,
            interval_label="begin",
            time_zone=time_zone,
            measured=story.given,
            derived=story.derived,
            made=story.made,
            seed=None if forecasts_given else choices.seed,
        ),
        prosumers=names,
        dates=rows.dates,
        split=rows.split,
        block=rows.block,
        weekend=weekend_of(rows.dates, choices.weekend),
        load_kw=load_kw,
        pv_kw=pv_kw,
        shiftable_ref_kw=shiftable_ref_kw,
        price_da_ct_per_kwh=prices["price_da"],
        price_rt_ct_per_kwh=prices["price_rt"],
        passive_pu=passive_pu,
        weather=weather,
        weather_forecast=forecast,
        pv_capacity_kw=capacities[0] if capacities else pv_kw[rows.training].max(axis=(0, 1)),
        covariates=COVARIATES,
        card=story.card(time_zone, rows, counts, notes),
    )
    return Imported(dataset, counts, notes)


def _without_zeros(load: Series) -> Series:
    frame = load.steps.frame
    return replace(load, steps=replace(load.steps, frame=frame.mask(frame == 0.0)))


def _price(series: dict[str, Series], hourly: dict[str, FloatArray], name: str) -> FloatArray:
    """The hourly price [D,H] called `name`, from whichever series has it."""
    (key,) = (key for key, each in series.items() if name in each.steps.frame.columns)
    return hourly[key][:, :, list(series[key].steps.frame.columns).index(name)]


@dataclass(frozen=True)
class _Story:
    """What is given, derived, made and said, in words."""

    parts: Sequence[Part]
    series: dict[str, Series]
    choices: ImportChoices
    capacity_given: bool

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path.name for part in self.parts for path in part.files))

    @property
    def licence(self) -> str:
        told = [part.licence for part in self.parts if part.licence]
        return self.choices.licence or "; ".join(told) or "not stated"

    @property
    def citation(self) -> str:
        told = [part.citation for part in self.parts if part.citation]
        return self.choices.citation or "; ".join(told) or "not stated"

    @property
    def given(self) -> str:
        given = [each for part in self.parts for each in part.given]
        given += ["shiftable load"] if "shiftable_ref" in self.series else []
        return "as given in the files, measured or not: " + ", ".join(given)

    @property
    def derived(self) -> str:
        derived = [each for part in self.parts for each in part.derived]
        derived += [] if self.capacity_given else ["rated PV power: the largest PV power of the train days"]
        return "; ".join(derived) or "nothing"

    @property
    def made(self) -> str:
        made = [each for part in self.parts for each in part.made]
        if f"forecast {COVARIATES[0]}" not in self.series:
            made.append(f"weather forecasts (the weather plus the error model of tehran-v0, seed {self.choices.seed})")
        if "passive" not in self.series:
            made.append("load of the rest of the feeder (default profile, the same every day)")
        if "shiftable_ref" not in self.series:
            made.append(f"shiftable load ({self.choices.shiftable_share:.0%} of the load, carved out of it)")
        return "; ".join(made) or "nothing"

    def card(self, time_zone: str, rows: Rows, counts: Counts, notes: Sequence[str]) -> str:
        choices = self.choices
        stated = [text for part in self.parts for text in part.stated]
        zeros = ["A load of exactly 0 counts as missing, as the user says"] if choices.zero_load_is_missing else []
        lines = [
            f"# {choices.id}: {choices.title}",
            "",
            f"Licence: {self.licence}. Citation: {self.citation}.",
            f"Files: {', '.join(self.files)}.",
            "",
            "## What it is",
            f"- Given: {self.given}.",
            f"- Derived: {self.derived}.",
            f"- Made: {self.made}.",
            f"- Days are local days of {time_zone}.",
            *(f"- {text}." for text in dict.fromkeys([*stated, *zeros])),
            "- Readings of less than an hour are averaged to hours.",
            f"- Weekend: {', '.join(_WEEKDAYS[day] for day in choices.weekend) or 'none'}.",
            "",
            "## What was dropped and filled",
            *(f"- {line}" for line in counts.lines()),
            "",
            "## What to know",
            *([f"- {note}" for note in notes] or ["- Nothing odd was found."]),
            "",
            "## Splits",
            *blocks_table(rows),
            "",
            "Lead-in days are never scored nor trained on. Train days may lie after dev and test days.",
        ]
        return "\n".join(lines) + "\n"
