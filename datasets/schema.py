"""The one container for days of data, whatever their source.

Axes: D days (rows), H steps of a day, N prosumers, F weather covariates. Loads and PV are means over a step in kW,
labelled by its beginning in the local time that the manifest names; prices are raw (before any spread) in ct/kWh.
A `Dataset` is checked once, when it is made, and cannot be changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import timedelta, timezone, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from prosumer_gym.arrays import BoolArray, FloatArray, FrozenArrays, IntArray
from prosumer_gym.datasets.splits import LEAD_IN, LEAD_IN_DAYS, SPLITS, DateArray, LabelArray, check_blocks
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous

if TYPE_CHECKING:
    from prosumer_gym.community import Community

__all__ = ["BOUNDS", "COVARIATES", "LEAD_IN_DAYS", "SPLITS", "Dataset", "Manifest", "covariate_bounds", "parse_zone"]

COVARIATES = ("temperature_c", "cloud_fraction", "irradiance_w_per_m2")

BOUNDS: dict[str, tuple[float, float]] = {
    "load_kw": (0.0, 1e4),
    "pv_kw": (0.0, 1e4),
    "shiftable_ref_kw": (0.0, 1e4),
    "price_da_ct_per_kwh": (-1e4, 1e4),
    "price_rt_ct_per_kwh": (-1e4, 1e4),
    "passive_pu": (0.0, 10.0),
    "temperature_c": (-90.0, 65.0),
    "cloud_fraction": (0.0, 1.0),
    "irradiance_w_per_m2": (0.0, 1500.0),
}
"""Range of every quantity, constants of the schema: what a value beyond them means is a wrong unit or a broken file.
The bounds of the observations are these, so that nothing about a data set's own days shows in them."""

_OTHER_COVARIATE = (-1e6, 1e6)
_HINTS = {
    "load_kw": "a load is never negative; is it net of PV?",
    "pv_kw": "PV is never negative; is it of the opposite sign?",
    "shiftable_ref_kw": "a shiftable load is never negative",
    "price_da_ct_per_kwh": "is the price per MWh instead of ct/kWh?",
    "price_rt_ct_per_kwh": "is the price per MWh instead of ct/kWh?",
    "passive_pu": "the passive load is a share of the feeder's nominal load",
    "temperature_c": "is it in deg F or K?",
    "cloud_fraction": "is it in percent or oktas?",
    "irradiance_w_per_m2": "is it in kJ/m2 or of a negative night offset?",
}
_ABOVE = dict.fromkeys(
    ("load_kw", "pv_kw", "shiftable_ref_kw"), "it is above the upper limit of one prosumer; is it W instead of kW?"
)

_TEXT = Annotated[str, Field(min_length=1)]


def parse_zone(text: str) -> tzinfo:
    """The time zone called `text`: a name of the IANA data base or a fixed offset such as UTC+03:30.

    Raises:
        UsageError: neither.
    """
    fixed = re.fullmatch(r"UTC(?:([+-])([01]\d|2[0-3]):([0-5]\d))?", text)
    if fixed:
        sign = -1 if fixed[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(fixed[2] or 0), minutes=int(fixed[3] or 0)))
    try:
        if "/" not in text:
            raise ValueError  # EST, GMT+3 and the like: names without a place mean different things to different people
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        short = re.fullmatch(r"[A-Z]{2,5}", text)
        why = " (an abbreviation does not say which place it is of)" if short else ""
        raise UsageError(
            f"time zone {text!r} is unknown; give a name such as Europe/London, or an offset such as UTC+03:30{why}"
        ) from None


class Manifest(BaseModel):
    """Where a data set comes from and what it may be used for; stored beside the arrays as JSON.

    `sha256` is the digest of the arrays (`Dataset` fills it in when it is empty and refuses it when it is wrong).
    `measured`, `derived` and `made` say which of the arrays are observations, computed from observations, or invented.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    version: _TEXT
    title: _TEXT
    licence: _TEXT
    citation: _TEXT
    sources: tuple[_TEXT, ...]
    units: dict[str, str]
    interval_label: Literal["begin"]
    time_zone: _TEXT
    measured: _TEXT
    derived: _TEXT
    made: _TEXT
    seed: int | None = None
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, text: str) -> str:
        parse_zone(text)
        return text

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Manifest:
        """Parse a manifest; `where` names the file in errors.

        Raises:
            UsageError: not JSON, or a field that is missing, unknown or wrong (the first of them is named).
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or "the file"
            own = "Value error, "  # pydantic's prefix of a message of a validator above
            what = first["msg"].removeprefix(own) if first["msg"].startswith(own) else first["msg"].lower()
            raise UsageError(f"{where}: {name}: {what}; mend the manifest or fetch the data again") from None


UNITS = {
    "load_kw": "kW",
    "pv_kw": "kW",
    "shiftable_ref_kw": "kW",
    "price_da_ct_per_kwh": "ct/kWh",
    "price_rt_ct_per_kwh": "ct/kWh",
    "passive_pu": "share of the feeder's nominal load",
    "weather": "temperature_c: deg C; cloud_fraction: 0-1; irradiance_w_per_m2: W/m2, global horizontal",
    "weather_forecast": "as weather",
    "pv_capacity_kw": "kW",
}

_SHAPES: dict[str, tuple[type[np.generic] | str, str]] = {
    # name: (dtype, axes), in the order of the digest
    "dates": ("datetime64[D]", "D"),
    "split": ("<U7", "D"),
    "block": (np.int64, "D"),
    "weekend": (np.bool_, "D"),
    "load_kw": (np.float64, "DHN"),
    "pv_kw": (np.float64, "DHN"),
    "shiftable_ref_kw": (np.float64, "DHN"),
    "price_da_ct_per_kwh": (np.float64, "DH"),
    "price_rt_ct_per_kwh": (np.float64, "DH"),
    "passive_pu": (np.float64, "DH"),
    "weather": (np.float64, "DHF"),
    "weather_forecast": (np.float64, "DHNF"),
    "pv_capacity_kw": (np.float64, "N"),
}
ARRAYS = tuple(_SHAPES)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(FrozenArrays):
    """Days of data of one community, with splits and provenance. Arrays are read-only.

    Raises on construction:
        UsageError: an array of a wrong type or shape, a value that is not finite or out of its range (named by date,
        step and prosumer), broken rules of blocks, or a manifest whose digest is not that of the arrays.
    """

    manifest: Manifest
    prosumers: tuple[str, ...]
    """Names of the prosumers [N]."""
    dates: DateArray
    """Local date of each row [D], datetime64[D], strictly increasing."""
    split: LabelArray
    """"train", "dev", "test" or "lead-in" [D]."""
    block: IntArray
    """Number of the block of each row [D]; a block starts with its `LEAD_IN_DAYS` lead-in rows."""
    weekend: BoolArray
    """Whether the day is a weekend day where the data comes from [D]."""
    load_kw: FloatArray
    """Must-run load [D,H,N]."""
    pv_kw: FloatArray
    """Available PV power [D,H,N]."""
    shiftable_ref_kw: FloatArray
    """Reference profile of the shiftable load [D,H,N], known at the day-ahead gate."""
    price_da_ct_per_kwh: FloatArray
    """Raw day-ahead price [D,H]."""
    price_rt_ct_per_kwh: FloatArray
    """Raw real-time price [D,H]."""
    passive_pu: FloatArray
    """Load of the rest of the feeder as a share of its nominal load [D,H]."""
    weather: FloatArray
    """Realised covariates [D,H,F]."""
    weather_forecast: FloatArray
    """Forecast of them at noon of the day before, each prosumer's own [D,H,N,F]."""
    pv_capacity_kw: FloatArray
    """Rated PV power [N]."""
    covariates: tuple[str, ...] = COVARIATES
    """Names of the covariates [F]."""
    card: str = ""
    """The data card, Markdown."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prosumers", tuple(str(name) for name in self.prosumers))
        object.__setattr__(self, "covariates", tuple(str(name) for name in self.covariates))
        for name, (dtype, _) in _SHAPES.items():
            object.__setattr__(self, name, _read_only(name, getattr(self, name), np.dtype(dtype)))
        self._check_shapes()
        self._check_values()
        check_blocks(self.dates, self.split, self.block)
        digest = _digest(self)
        if self.manifest.sha256 not in ("", digest):
            raise UsageError(
                f"{self.id}: the arrays have SHA-256 {digest[:12]}..., the manifest says "
                f"{self.manifest.sha256[:12]}...; the data was changed: fetch or make it again"
            )
        object.__setattr__(self, "manifest", self.manifest.model_copy(update={"sha256": digest}))

    # what it is -------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Name of the data set, e.g. "tehran-v0"."""
        return self.manifest.id

    @property
    def time_zone(self) -> str:
        """Time zone of the dates and steps."""
        return self.manifest.time_zone

    @property
    def num_days(self) -> int:
        """D: all rows, lead-in included."""
        return int(self.load_kw.shape[0])

    @property
    def num_hours(self) -> int:
        """H: steps of a day."""
        return int(self.load_kw.shape[1])

    @property
    def num_prosumers(self) -> int:
        """N."""
        return int(self.load_kw.shape[2])

    @property
    def dt_h(self) -> float:
        """Length of a step, h."""
        return 24.0 / self.num_hours

    @cached_property
    def weekday(self) -> IntArray:
        """Day of the week [D], Monday = 0."""
        since_epoch = self.dates.astype(np.int64)  # 1970-01-01 was a Thursday
        return cast(IntArray, _read_only("weekday", (since_epoch + 3) % 7, np.dtype(np.int64)))

    @cached_property
    def day_of_year(self) -> IntArray:
        """Day of the year [D], 1 January = 1."""
        return cast(
            IntArray,
            _read_only(
                "day_of_year",
                (self.dates - self.dates.astype("datetime64[Y]")).astype(np.int64) + 1,
                np.dtype(np.int64),
            ),
        )

    @cached_property
    def exogenous(self) -> Exogenous:
        """The arrays that the simulator plays against, without calendar, splits and weather."""
        return Exogenous(
            load_kw=self.load_kw,
            pv_kw=self.pv_kw,
            shiftable_ref_kw=self.shiftable_ref_kw,
            price_da_ct_per_kwh=self.price_da_ct_per_kwh,
            price_rt_ct_per_kwh=self.price_rt_ct_per_kwh,
            passive_pu=self.passive_pu,
        )

    # rows ---------------------------------------------------------------------------------------------------------

    @property
    def is_training(self) -> BoolArray:
        """Rows of the train split [D] (lead-in rows are not among them)."""
        return np.asarray(self.split == "train", dtype=np.bool_)

    def days(self, split: str) -> IntArray:
        """Rows of a split, in the order of time; "lead-in" gives all lead-in rows.

        Raises:
            UsageError: unknown split, or a split without days.
        """
        if split not in (*SPLITS, LEAD_IN):
            raise UsageError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")
        rows = np.flatnonzero(self.split == split).astype(np.int64)
        if rows.size == 0:
            raise UsageError(f"{self.id}: it has no {split} days; use another split or data set")
        return rows

    def subset(self, rows: Sequence[int] | IntArray) -> Dataset:
        """The data set with these rows only, and the lead-in rows of every block that they touch.

        Raises:
            UsageError: a row out of range, or no row of a split.
        """
        wanted = np.unique(np.asarray(rows, dtype=np.int64))
        outside = wanted[(wanted < 0) | (wanted >= self.num_days)]
        if outside.size:
            raise UsageError(f"{self.id}: it has no row {outside[0]}; give rows from 0 to {self.num_days - 1}")
        scored = wanted[self.split[wanted] != LEAD_IN]
        if scored.size == 0:
            raise UsageError(
                f"{self.id}: the subset has no scored day; give rows from days('train'), days('dev') or days('test')"
            )
        keep = np.isin(self.block, self.block[scored]) & (self.split == LEAD_IN)
        keep[scored] = True
        return self.replace(
            **{name: getattr(self, name)[keep] for name, (_, axes) in _SHAPES.items() if axes[0] == "D"}
        )

    def training_history(self) -> Dataset:
        """Train rows and their lead-in: the only data that fitting a policy may see."""
        return self.subset(self.days("train"))

    def replace(self, **changes: Any) -> Dataset:
        """A copy with these fields changed, checked again; its manifest carries the digest of the changed arrays."""
        present = {field.name: getattr(self, field.name) for field in fields(self)}
        unknown = changes.keys() - present.keys()
        if unknown:
            raise UsageError(f"Dataset has no field {min(unknown)!r}; its fields are {', '.join(present)}")
        manifest = changes.pop("manifest", self.manifest).model_copy(update={"sha256": ""})
        return Dataset(**{**present, **changes, "manifest": manifest})

    def check_community(self, community: Community) -> None:
        """Check that a community can play these days.

        Raises:
            UsageError: another number of prosumers, or a shiftable reference above the power of the shiftable load.
        """
        fleet = community.fleet
        if len(fleet) != self.num_prosumers:
            raise UsageError(
                f"{self.id}: it has {self.num_prosumers} prosumers, the community has {len(fleet)}; "
                "choose a scenario of that size"
            )
        over = self.shiftable_ref_kw > fleet.shiftable_power_kw + 1e-9
        if over.any():
            d, h, n = np.unravel_index(int(np.argmax(over)), over.shape)
            raise UsageError(
                f"shiftable_ref_kw: {self.shiftable_ref_kw[d, h, n]:g} kW on {self.dates[d]} step {h}, "
                f"prosumer {self.prosumers[n]!r}, is above the power of its shiftable load, "
                f"{fleet.shiftable_power_kw[n]:g} kW; carve out less"
            )

    # checks -------------------------------------------------------------------------------------------------------

    def _check_shapes(self) -> None:
        sizes: dict[str, int] = {"N": len(self.prosumers), "F": len(self.covariates)}
        first: dict[str, str] = {"N": "prosumers", "F": "covariates"}
        for name, (_, axes) in _SHAPES.items():
            shape = getattr(self, name).shape
            if len(shape) != len(axes):
                raise UsageError(f"{name}: it has shape {shape}; [{','.join(axes)}] is needed")
            for axis, size in zip(axes, shape, strict=True):
                if sizes.setdefault(axis, size) != size:
                    raise UsageError(
                        f"{name}: axis {axis} has {size} entries, {first[axis]} has {sizes[axis]}; "
                        f"give [{','.join(axes)}] of one size"
                    )
                first.setdefault(axis, name)
        for axis, what in (("D", "days"), ("H", "steps of a day"), ("N", "prosumers")):
            if sizes[axis] == 0:
                raise UsageError(f"{first[axis]}: there are no {what}; an empty data set cannot be used")
        for label, names in (("prosumers", self.prosumers), ("covariates", self.covariates)):
            if len(set(names)) != len(names):
                raise UsageError(
                    f"{label}: {next(n for n in names if names.count(n) > 1)!r} stands twice; each name once"
                )
        if np.isnat(self.dates).any():
            raise UsageError(
                f"dates: row {int(np.flatnonzero(np.isnat(self.dates))[0])} has no date; give every row its local date"
            )

    def _check_values(self) -> None:
        for name in (
            "load_kw",
            "pv_kw",
            "shiftable_ref_kw",
            "price_da_ct_per_kwh",
            "price_rt_ct_per_kwh",
            "passive_pu",
        ):
            self._check_range(name, getattr(self, name), name, BOUNDS[name])
        for name in ("weather", "weather_forecast"):
            for f, covariate in enumerate(self.covariates):
                self._check_range(
                    f"{name} {covariate}", getattr(self, name)[..., f], covariate, covariate_bounds(covariate)
                )
        bad = np.flatnonzero(~(np.isfinite(self.pv_capacity_kw) & (self.pv_capacity_kw >= 0.0)))
        if bad.size:
            n = int(bad[0])
            raise UsageError(
                f"pv_capacity_kw: prosumer {self.prosumers[n]!r} has {self.pv_capacity_kw[n]}; "
                "give its rated PV power in kW, 0 for none"
            )

    def _check_range(self, what: str, values: FloatArray, quantity: str, bounds: tuple[float, float]) -> None:
        low, high = bounds
        good = (values >= low) & (values <= high)  # false for NaN
        if good.all():
            return
        place = np.unravel_index(int(np.argmin(good)), values.shape)
        value = float(values[place])
        where = f"{self.dates[place[0]]} (row {place[0]}) {'hour' if self.num_hours == 24 else 'step'} {place[1]}"
        if len(place) > 2:
            where += f", prosumer {self.prosumers[place[2]]!r}"
        if not np.isfinite(value):
            raise UsageError(f"{what}: {value} on {where}; fill the gap or leave the day out")
        hint = _ABOVE[quantity] if value > high and quantity in _ABOVE else _HINTS.get(quantity, "check the unit")
        raise UsageError(f"{what}: {value:g} on {where} is outside [{low:g}, {high:g}]; {hint}")

    def __repr__(self) -> str:
        counts = ", ".join(f"{int((self.split == s).sum())} {s}" for s in (*SPLITS, LEAD_IN))
        size = f"{self.num_prosumers} prosumers, {self.num_hours} steps"
        return f"Dataset({self.id!r} {self.manifest.version}, {size}, days: {counts})"


def covariate_bounds(name: str) -> tuple[float, float]:
    """Range of a covariate: of the schema's own ones as in `BOUNDS`, wide for any other."""
    return BOUNDS[name] if name in COVARIATES else _OTHER_COVARIATE


def _read_only(name: str, values: npt.ArrayLike, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A read-only, C-contiguous, little-endian array; only conversions that lose nothing are made."""
    given, dtype = np.asarray(values), dtype.newbyteorder("<")
    kinds = {"f": "fiu", "i": "iu", "b": "b", "M": "M", "U": "U"}[dtype.kind]
    if given.dtype.kind not in kinds:
        raise UsageError(f"{name}: its type is {given.dtype}, {dtype} is needed; convert it first")
    if (
        dtype.kind == "U"
        and given.dtype.itemsize > dtype.itemsize
        and given.size
        and np.char.str_len(given).max() > dtype.itemsize // 4
    ):
        raise UsageError(
            f"{name}: {str(max(given.ravel(), key=len))!r} is not one of its labels; "
            f"use one of {', '.join((*SPLITS, LEAD_IN))}"
        )
    if not given.flags.writeable and given.dtype == dtype and given.flags.c_contiguous and given.flags.owndata:
        return given
    array = np.array(given, dtype=dtype, order="C", copy=True)
    if dtype.kind == "M" and not np.array_equal(array, given, equal_nan=True):
        raise UsageError(f"{name}: its entries are not whole days; give the local date of each row")
    array.setflags(write=False)
    return array


def _digest(dataset: Dataset) -> str:
    """SHA-256 over name, type, shape and little-endian bytes of every array, in a fixed order."""
    sha = hashlib.sha256()
    for label, names in (("prosumers", dataset.prosumers), ("covariates", dataset.covariates)):
        sha.update(json.dumps([label, list(names)]).encode())
    for name in ARRAYS:
        array = getattr(dataset, name)
        sha.update(json.dumps([name, array.dtype.newbyteorder("<").str, list(array.shape)]).encode())
        sha.update(array.view(np.int64).data if array.dtype.kind == "M" else array.data)
    return sha.hexdigest()
