"""The days of a data set for another number of prosumers, from one to a thousand.

Fewer: the first ones. More: all of them, then further ones put together from them: the load of one, the PV of another,
the forecasts of a third. All arrays keep their days, so load, sun and weather go together as in the source.

Axes: D days, H steps of a day, N prosumers, N0 of them in the source, F covariates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.datasets.schema import Dataset, Manifest
from prosumer_gym.errors import UsageError

SMALLEST, LARGEST = 0.75, 1.25
"""Range of the factor on the load, and of the one on the PV, of a further prosumer."""
MOST_PROSUMERS = 1000
_DIGITS = 3


@dataclass(frozen=True)
class Recipe:
    """What each prosumer of the new data set is made of."""

    load_of: IntArray
    """Whose load and shiftable load [N]."""
    pv_of: IntArray
    """Whose PV [N]."""
    forecast_of: IntArray
    """Whose forecasts [N]."""
    load_factor: FloatArray
    """[N]"""
    pv_factor: FloatArray
    """[N]"""


def draw_recipe(num_source: int, num_prosumers: int, seed: int) -> Recipe:
    """The first `num_source` prosumers as they are; every further one drawn by its own number and the seed.

    So a larger data set of the same source and seed begins with the prosumers of a smaller one.
    """
    of = np.tile(np.arange(num_prosumers), (3, 1))
    factor = np.ones((2, num_prosumers))
    for n in range(num_source, num_prosumers):
        rng = np.random.default_rng([seed, n])
        of[:, n] = rng.integers(0, num_source, 3)
        factor[:, n] = np.round(rng.uniform(SMALLEST, LARGEST, 2), _DIGITS)
    return Recipe(*of, *factor)


def resized(
    dataset: Dataset, num_prosumers: int, *, scale: float = 1.0, seed: int = 0, name: str | None = None
) -> Dataset:
    """The data set for `num_prosumers` prosumers: the first ones, or all and further ones made from them.

    Args:
        dataset: the source.
        num_prosumers: N, from 1 to 1000.
        scale: of every prosumer's load and PV: .05 turns apartment blocks into something like homes.
        seed: of what further prosumers are made of, from 0 up.
        name: of the new data set; the source's with N behind it if left out.

    Raises:
        UsageError: a number, a scale or a seed of another type or out of range, a name that is none, or as `Dataset`.
    """
    num_source = dataset.num_prosumers
    if not _is_whole(num_prosumers):
        raise UsageError(f"{num_prosumers!r} prosumers: give a whole number from 1 to {MOST_PROSUMERS}")
    if num_prosumers < 1:
        raise UsageError(f"{num_prosumers} prosumers: at least one is needed")
    if num_prosumers > MOST_PROSUMERS:
        raise UsageError(f"{num_prosumers} prosumers: at most {MOST_PROSUMERS} can be made")
    if not isinstance(scale, int | float | np.integer | np.floating) or isinstance(scale, bool):
        raise UsageError(f"scale {scale!r}: give a number above zero")
    if not (np.isfinite(scale) and scale > 0.0):
        raise UsageError(f"scale {scale:g}: give a number above zero")
    if not _is_whole(seed) or seed < 0:
        raise UsageError(f"seed {seed!r}: give a whole number from 0 up")
    num_prosumers, scale, seed = int(num_prosumers), float(scale), int(seed)
    name = f"{dataset.id}-{num_prosumers}" if name is None else name
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise UsageError(f"id {name!r}: use a-z, 0-9, dots, dashes and underscores, a letter or digit first")
    recipe = draw_recipe(num_source, num_prosumers, seed)
    load_factor, pv_factor = scale * recipe.load_factor, scale * recipe.pv_factor
    return dataset.replace(
        manifest=_manifest(dataset, num_prosumers, scale, name),
        card=_card(dataset, num_prosumers, scale, seed, name),
        prosumers=tuple(
            dataset.prosumers[source] + (f".{n}" if n >= num_source else "")
            for n, source in enumerate(recipe.load_of.tolist())
        ),
        load_kw=_scaled(dataset.load_kw, recipe.load_of, load_factor),
        shiftable_ref_kw=_scaled(dataset.shiftable_ref_kw, recipe.load_of, load_factor),
        pv_kw=_scaled(dataset.pv_kw, recipe.pv_of, pv_factor),
        pv_capacity_kw=_scaled(dataset.pv_capacity_kw[np.newaxis, np.newaxis], recipe.pv_of, pv_factor)[0, 0],
        weather_forecast=_read_only(np.take(dataset.weather_forecast, recipe.forecast_of, axis=2)),
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _scaled(values: FloatArray, of: IntArray, factor: FloatArray) -> FloatArray:
    """Columns `of` [N] of values [D,H,N0] times their factors [N], rounded where the factor is not 1 [D,H,N]."""
    out = np.take(values, of, axis=2)
    changed = np.flatnonzero(factor != 1.0)
    if changed.size:
        part = slice(int(changed[0]), None)  # those kept as they are come first
        out[..., part] *= factor[part]
        np.round(out[..., part], _DIGITS, out=out[..., part])
    return _read_only(out)


def _read_only(values: FloatArray) -> FloatArray:
    """A `Dataset` takes arrays that cannot be written without copying them."""
    values.setflags(write=False)
    return values


def _manifest(source: Dataset, num_prosumers: int, scale: float, name: str) -> Manifest:
    of, num_source = source.manifest, source.num_prosumers
    changed: dict[str, object] = {
        "id": name,
        "title": f"{num_prosumers} prosumers from {of.id}: {of.title}",
        "sources": (*of.sources, f"{of.id}, version {of.version}, SHA-256 {of.sha256}"),
    }
    if scale != 1.0:
        changed["derived"] = f"{of.derived}; every prosumer's load and PV scaled by {scale:g}"
    if num_prosumers > num_source:
        changed["made"] = (
            f"{of.made}; prosumers {num_source} to {num_prosumers - 1}, put together from scaled copies of "
            f"the first {num_source}"
        )
    return of.model_copy(update=changed)


_CARD = """# {name}

{what} of `{source}`, version {version}, SHA-256 `{digest}`; its card stands below.

{points}
- Days, splits, prices, weather and the load of the rest of the feeder are those of the source.

---

{card}"""

_FURTHER = """- Each further prosumer is put together from these: the load and the shiftable load of one, the PV of
  another, the forecasts of a third, drawn independently. The load and the PV are each multiplied by a factor drawn
  evenly from {low:g} to {high:g}, and rounded to {digits} decimals. Number {old} is called after the one whose load it
  has, `NAME.{old}`. Seed {seed}; a larger set of the same source and seed begins with the prosumers of this one.
- What that does not give: copies of one load rise and fall together, so the sum of {new} is as peaky for each
  prosumer as that of the first {old}, and there are no more than {old} different forecasts."""


def _card(source: Dataset, num_prosumers: int, scale: float, seed: int, name: str) -> str:
    new, old = num_prosumers, source.num_prosumers
    kept = min(new, old)
    first = f"- Prosumers 0 to {kept - 1} are" if kept > 1 else "- Prosumer 0 is"
    points = [
        f"{first} the source's"
        + (" as they stand there." if scale == 1.0 else f", load and PV multiplied by {scale:g} (so are all others).")
    ]
    if new > old:
        points.append(_FURTHER.format(low=SMALLEST, high=LARGEST, digits=_DIGITS, seed=seed, new=new, old=old))
    return _CARD.format(
        name=name,
        what=f"{new} prosumers made from the {old}" if new > old else f"{new} of the {old} prosumers",
        source=source.id,
        version=source.manifest.version,
        digest=source.manifest.sha256,
        points="\n".join(points),
        card=source.card,
    )
