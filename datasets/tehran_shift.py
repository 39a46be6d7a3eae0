"""`tehran-shift-v0`: the days of `tehran-v0` by the clock on the wall, which changes before the test summer.

Until 2022 Iran's clock was an hour ahead in summer (UTC+4:30), in 2023 it was not (UTC+3:30), and government offices
opened an hour earlier by it. Sun, weather and every random draw are those of `tehran-v0`; only the names of the hours
differ, and who lives by them. `python -m prosumer_gym.datasets.tehran_shift --freeze FOLDER` writes the data set anew.

Axes: D days, H = 24 hours of a day, N prosumers.
"""

from __future__ import annotations

import sys

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.tehran import SEED, SPLIT_OF_YEAR, Variant
from prosumer_gym.datasets.tehran import generate as generate_variant
from prosumer_gym.datasets.tehran import main as main_of_variant

LAST_SUMMER_TIME = 2022
OFFICES_EARLIER_H = 1.0

_SHIFT = """
## What shifts

This is a board of distribution shift: the habits of training and dev days meet another clock on the test days.

- **What happened.** Iran moved its clock an hour ahead each summer until 2022 and ended that in September 2022. The law
  that ended it lets the government set office hours for the hot months: offices that opened at 7 in summer 2022 opened
  at 6 in 2023. One hour is this data set's choice; decrees differed by province and month.
- **What is made of it.** Hours are those of the clock. Homes and shops live, market peaks come and forecasts are issued
  by the clock in every year; the sun and the weather do not. So in 2019 to 2022 sun and temperature come an hour later
  by the clock than in `tehran-v0` (hour h here is its hour h - 1), and in 2023 they come as they do there. The two
  offices live an hour earlier by the clock in 2023 (that is by the sun as before). Nothing else differs: the buildings,
  the weather and every random draw are those of `tehran-v0` of the same seed. Its test summer and this one are equal
  but for the two offices and the shiftable references, which come from the training days.
- **What a policy can see.** The eight lead-in days of each summer, and so the past days of every observation, are on
  the clock of their own summer: the past week tells the shift, the training days do not. Forecasts are right about it.

| summer | split | clock | middle of the PV day (h) | hour of most PV | hottest hour | offices half up (h) |
|---|---|---|---|---|---|---|
{summers}

How large it is: the error of a forecast that repeats the training mean of the hour (mean absolute error of the
community's sum, kW), on dev days, on test days, and on test days with the clock put an hour ahead as it was before.

| quantity | dev | test | test, clock put ahead |
|---|---|---|---|
{errors}
"""


def _year(dataset: Dataset) -> FloatArray:
    return np.asarray(dataset.dates.astype("datetime64[Y]").astype(np.int64) + 1970, dtype=np.float64)


def pv_middle(dataset: Dataset, rows: BoolArray) -> float:
    """Middle of the PV day by energy, hours of the clock, over the rows of a mask [D]."""
    daily = dataset.pv_kw[rows].sum(axis=(0, 2))
    return float(daily @ (np.arange(24) + 0.5) / daily.sum())


def offices_half_up(dataset: Dataset, rows: BoolArray) -> float:
    """When offices have come half way from their lowest to their highest load on working days, hours of the clock."""
    offices = [n for n, name in enumerate(dataset.prosumers) if name.startswith("office")]
    profile = dataset.load_kw[rows & ~dataset.weekend][..., offices].mean(axis=(0, 2))
    first, last = int(np.argmin(profile[:12])), int(np.argmax(profile))
    rise = profile[first : last + 1]
    return float(np.interp(0.5 * (rise[0] + rise[-1]), rise, np.arange(first, last + 1) + 0.5))


def error_of_training_mean(dataset: Dataset, split: str, quantity: str, ahead_h: int = 0) -> float:
    """Mean absolute error of repeating the training mean of the hour on the days of a split, sum of all prosumers, kW.

    With `ahead_h` the days' clock is put ahead by as many hours first.
    """
    total = {
        "PV": dataset.pv_kw,
        "load": dataset.load_kw,
        "load of the two offices": dataset.load_kw * [name.startswith("office") for name in dataset.prosumers],
        "load minus PV": dataset.load_kw - dataset.pv_kw,
    }[quantity].sum(axis=2)  # [D,H]
    days = np.roll(total[dataset.days(split)].ravel(), ahead_h).reshape(-1, 24)
    return float(np.abs(days - total[dataset.days("train")].mean(axis=0)).mean())


def _shift(dataset: Dataset) -> str:
    """The card's section on what shifts."""
    summers = []
    for year, split in SPLIT_OF_YEAR.items():
        rows = np.asarray(_year(dataset) == year)
        offset = "+4:30" if CLOCK_ON_THE_WALL.ahead_h[year] else "+3:30"
        most, hottest = (
            int(np.argmax(values))
            for values in (dataset.pv_kw[rows].sum(axis=(0, 2)), dataset.weather[rows][..., 0].mean(axis=0))
        )
        middle, half = pv_middle(dataset, rows), offices_half_up(dataset, rows)
        summers.append(f"| {year} | {split} | UTC{offset} | {middle:.1f} | {most} | {hottest} | {half:.1f} |")
    errors = "\n".join(
        f"| {quantity} | " + " | ".join(f"{error_of_training_mean(dataset, *case):.1f}" for case in cases) + " |"
        for quantity in ("PV", "load", "load of the two offices", "load minus PV")
        for cases in [(("dev", quantity), ("test", quantity), ("test", quantity, 1))]
    )
    return _SHIFT.format(summers="\n".join(summers), errors=errors)


CLOCK_ON_THE_WALL = Variant(
    name="tehran-shift-v0",
    title="Ten prosumers in Tehran, five made summers by the clock on the wall, which changes before the test",
    module="prosumer_gym.datasets.tehran_shift",
    time_zone="Asia/Tehran",
    ahead_h={year: int(year <= LAST_SUMMER_TIME) for year in SPLIT_OF_YEAR},
    offices_earlier_h={year: OFFICES_EARLIER_H * (year > LAST_SUMMER_TIME) for year in SPLIT_OF_YEAR},
    clock_words="Hours are those of the clock on the wall (Asia/Tehran): UTC+4:30 in 2019 to 2022,\n"
    "UTC+3:30 in 2023; an hour is labelled by its beginning.",
    limit_words="",
    shift=_shift,
)


def generate(seed: int = SEED, name: str | None = None) -> Dataset:
    """The days of `tehran.generate(seed)` by the clock on the wall. Raises `UsageError` as it does."""
    return generate_variant(seed, name, CLOCK_ON_THE_WALL)


def main(arguments: list[str] | None = None) -> int:
    """Command line: `--freeze FOLDER [--seed WHOLE_NUMBER --name NAME]`."""
    return main_of_variant(arguments, CLOCK_ON_THE_WALL)


if __name__ == "__main__":
    sys.exit(main())
