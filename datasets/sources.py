"""What a reader of files hands to the import: readings on grids of steps, in the units of the schema, and their story.

A reader knows one format and nothing else: complete days, splits, what is made where a source has nothing, the notes
and the card are the business of `imports.assemble`, the same for all. Imported by importers only (needs pandas). Axis:
N prosumers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prosumer_gym.arrays import FloatArray
from prosumer_gym.datasets.tables import Readings, Steps
from prosumer_gym.errors import UsageError

PRICES = ("price_da", "price_rt")


@dataclass(frozen=True, eq=False)
class Series:
    """Columns on one grid of steps, and whom to blame for a gap in them."""

    steps: Steps
    gap: Callable[[str, pd.Timestamp], UsageError]
    """Of a column of the steps and the beginning of a step that it lacks: the error that names file, column and row."""

    @classmethod
    def of_prosumers(cls, readings: Readings, column: str, values: FloatArray, names: Sequence[str]) -> Series:
        """One column for each of `names`, from the column of a file with an id in each row."""
        steps = readings.steps(values)
        return cls(Steps(steps.frame[list(names)], steps.step), lambda name, begin: readings.gap(column, name, begin))

    @classmethod
    def of_columns(cls, readings: Readings, columns: Mapping[str, tuple[str, FloatArray]]) -> Series:
        """Columns named by the keys, from a file without ids: its own name of each column, and the values by row."""
        frame = pd.DataFrame({name: values for name, (_, values) in columns.items()}, index=readings.begin)
        return cls(Steps.of(frame, readings.step), lambda name, begin: readings.gap(columns[name][0], "", begin))


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What a reader makes of its files. The parts of an import together hold every series that it needs."""

    files: tuple[Path, ...]
    series: dict[str, Series]
    """Of prosumers "load", "pv", perhaps "shiftable_ref" and "forecast <covariate>", a column for each; of the place
    "weather" with the covariates, any with a column `price_da` or `price_rt`, perhaps "passive"."""
    given: tuple[str, ...]
    """What stands in the files, measured or not: "load", "PV", ..."""
    derived: tuple[str, ...] = ()
    """What was computed from it, and how."""
    made: tuple[str, ...] = ()
    """What was invented in its place, and how."""
    stated: tuple[str, ...] = ()
    """What times, columns and units mean, and who says so: sentences without a full stop, for the card."""
    notes: tuple[str, ...] = ()
    """What the user should know or check: sentences."""
    licence: str = ""
    citation: str = ""
    names: tuple[str, ...] = ()
    """The prosumers [N], of the part that brings their load."""
    pv_capacity_kw: FloatArray | None = None
    """Rated PV power [N]; None: not told."""
