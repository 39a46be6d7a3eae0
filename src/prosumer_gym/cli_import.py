"""`prosumer-gym data import`: data sets from files of the user's own, or from public ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_type_hints

import numpy as np
import typer

from prosumer_gym.datasets.schema import SPLITS, Dataset, parse_zone
from prosumer_gym.datasets.splits import Block
from prosumer_gym.datasets.store import (
    data_home,
    dataset_folder,
    list_datasets,
    load_dataset_folder,
    replace_card,
    save_dataset,
)
from prosumer_gym.errors import UsageError

if TYPE_CHECKING:
    from prosumer_gym.datasets.importers import Companions
    from prosumer_gym.datasets.imports import ImportChoices, Imported

importers = typer.Typer(no_args_is_help=True, help="Make a data set from files: your own, or public ones.")

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_Label = StrEnum("_Label", ["begin", "end"])
_Unit = StrEnum("_Unit", {"kw": "kW", "kwh": "kWh"})
_PriceUnit = StrEnum("_PriceUnit", {"ct_per_kwh": "ct/kWh", "eur_per_mwh": "EUR/MWh", "eur_per_kwh": "EUR/kWh"})
_PriceFormat = StrEnum("_PriceFormat", ["tidy", "entsoe", "oasis", "isone"])
_NaiveTimes = StrEnum("_NaiveTimes", ["local", "utc"])
_Zeros = StrEnum("_Zeros", ["measured", "missing"])
_Diffuse = StrEnum("_Diffuse", {"diffuse": "diffuse", "horizontal": "global"})


def _companions(
    prices: Annotated[
        list[Path] | None, typer.Option(help="Tidy: time, price_da, price_rt. Of a market: its files, one option each.")
    ] = None,
    prices_rt: Annotated[
        list[Path] | None, typer.Option(help="Files of the real-time price, where those of --prices do not hold it.")
    ] = None,
    prices_format: Annotated[
        _PriceFormat, typer.Option(help="entsoe: ENTSO-E; oasis: CAISO OASIS; isone: ISO New England.")
    ] = _PriceFormat.tidy,
    price_unit: Annotated[
        _PriceUnit | None, typer.Option(help="Of tidy prices, which need it; 1 ct is 1/100 EUR, or of any currency.")
    ] = None,
    price_node: Annotated[
        str | None, typer.Option(help="Whose price, in files of several: node, location or area.")
    ] = None,
    price_sequence: Annotated[str | None, typer.Option(help="ENTSO-E: which auction, in files of several.")] = None,
    price_rt_column: Annotated[
        str | None, typer.Option(help="ENTSO-E: the column of the real-time price, where several differ.")
    ] = None,
    weather: Annotated[
        Path | None, typer.Option(help="time, temperature_c, cloud_fraction, irradiance_w_per_m2.")
    ] = None,
    forecasts: Annotated[
        Path | None, typer.Option(help="time, id and the columns of weather; made from the weather if left out.")
    ] = None,
    passive: Annotated[Path | None, typer.Option(help="time, passive_pu; the default profile if left out.")] = None,
    capacities: Annotated[
        Path | None, typer.Option(help="id, pv_capacity_kw; the largest PV of train days if left out and not told.")
    ] = None,
    interval_label: Annotated[
        _Label | None, typer.Option(help="Which end of its step a time names, in all tidy files, which need it.")
    ] = None,
    naive_times: Annotated[_NaiveTimes | None, typer.Option(help="What times without a UTC offset mean.")] = None,
) -> Companions:
    """The files beside the readings."""
    from prosumer_gym.datasets.importers import Companions

    return Companions(
        prices=tuple(prices or ()),
        prices_rt=tuple(prices_rt or ()),
        prices_format=_said(prices_format),
        price_unit=_said(price_unit),
        price_node=price_node,
        price_sequence=price_sequence,
        price_rt_column=price_rt_column,
        weather=weather,
        forecasts=forecasts,
        passive=passive,
        capacities=capacities,
        interval_label=_said(interval_label),
        naive_times=_said(naive_times),
    )


def _choices(
    name: Annotated[str, typer.Option("--id", help="Name of the new data set: a-z, 0-9, dots, dashes.")],
    split: Annotated[
        list[str] | None,
        typer.Option(help="A block, such as train=2019-06-30:2019-09-19; again for each. Seasons if left out."),
    ] = None,
    weekend: Annotated[str, typer.Option(help="Weekdays, separated by commas.")] = "saturday,sunday",
    shiftable_share: Annotated[float, typer.Option(help="Carved out of the load, if not given.")] = 0.3,
    zero_load: Annotated[
        _Zeros, typer.Option(help="What a load of exactly 0 is; some sources write 0 for a missing reading.")
    ] = _Zeros.measured,
    fill_gaps: Annotated[float, typer.Option(help="Hours: fill gaps up to this length by interpolation.")] = 0.0,
    drop_incomplete_days: Annotated[bool, typer.Option(help="Drop days with gaps instead of refusing them.")] = False,
    seed: Annotated[int, typer.Option(help="Of the errors of made forecasts.")] = 0,
    title: Annotated[str, typer.Option(help="What the set is.")] = "Imported readings",
    licence: Annotated[str, typer.Option(help="That of the source, where the format knows it, if left out.")] = "",
    citation: Annotated[str, typer.Option(help="Likewise.")] = "",
) -> ImportChoices:
    """What to do with the readings."""
    from prosumer_gym.datasets.imports import ImportChoices

    if not 0.0 <= fill_gaps <= 24.0:
        raise UsageError(f"--fill-gaps {fill_gaps:g}: give hours from 0 to 24")
    if seed < 0:
        raise UsageError(f"--seed {seed}: give a whole number from 0 up")
    for option, text in (("--title", title), ("--licence", licence), ("--citation", citation)):
        if not text.isprintable():
            raise UsageError(f"{option} {text!r}: it holds control characters; write one line of plain text")
    return ImportChoices(
        id=name,
        title=title,
        licence=licence,
        citation=citation,
        blocks=tuple(_block(text) for text in split) if split else None,
        weekend=_weekdays(weekend),
        shiftable_share=shiftable_share,
        zero_load_is_missing=zero_load == _Zeros.missing,
        fill_gaps_h=fill_gaps,
        drop_incomplete_days=drop_incomplete_days,
        seed=seed,
    )


_SHARED: dict[str, Callable[..., Any]] = {"companions": _companions, "choices": _choices}


def _force(force: Annotated[bool, typer.Option(help="Replace a data set of this name that differs.")] = False) -> bool:
    """Whether a stored data set may be replaced."""
    return force


def _importer(name: str, *, required: tuple[str, ...] = ()) -> Callable[[Callable[..., Imported]], None]:
    """Register a function as `import NAME`: its own options, then those behind its `companions` and `choices`.

    The data set that it returns is stored. Options named in `required` must be given here, optional as they may be
    elsewhere.
    """

    def register(function: Callable[..., Imported]) -> None:
        own = _options(function)
        shared = {key: _options(build) for key, build in _SHARED.items() if key in own}
        options = {key: option for key, option in own.items() if key not in shared}
        for some in (*shared.values(), _options(_force)):
            options |= some
        for key in required:
            options[key] = options[key].replace(default=inspect.Parameter.empty)

        def command(**given: Any) -> None:
            force = given.pop("force")
            for key, some in shared.items():
                given[key] = _SHARED[key](**{option: given.pop(option) for option in some})
            _keep(function(**given), force=force)

        first_what_must_be_said = sorted(options.values(), key=lambda each: each.default is not inspect.Parameter.empty)
        command.__signature__ = inspect.Signature(first_what_must_be_said)  # type: ignore[attr-defined]
        command.__annotations__ = {key: option.annotation for key, option in options.items()}
        command.__doc__ = function.__doc__
        importers.command(name)(command)

    return register


def _options(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a function, with their annotations as objects."""
    elsewhere = dict.fromkeys(("Companions", "ImportChoices", "Imported"), Any)  # what needs pandas is not loaded yet
    hints = get_type_hints(function, localns=elsewhere, include_extras=True)
    return {
        key: each.replace(annotation=hints[key], kind=inspect.Parameter.KEYWORD_ONLY)
        for key, each in inspect.signature(function).parameters.items()
    }


@_importer("tidy", required=("prices", "weather", "interval_label"))
def _tidy(
    readings: Annotated[Path, typer.Option("--from", help="time, id, load_kw|load_kwh, pv_kw|pv_kwh.")],
    time_zone: Annotated[str, typer.Option(help="Whose days are the days: Europe/London, UTC+03:30, ...")],
    unit: Annotated[_Unit, typer.Option(help="Of load and PV.")],
    companions: Companions,
    choices: ImportChoices,
) -> Imported:
    """Tidy files of your own: a row for each time and prosumer."""
    from prosumer_gym.datasets.importers import import_tidy

    return import_tidy(readings, _said(unit), time_zone, companions, choices)


@_importer("citylearn")
def _citylearn(
    schema: Annotated[Path, typer.Option("--from", help="schema.json, or the folder that holds it.")],
    first_date: Annotated[str, typer.Option(help="Date of the first row, such as 2016-07-31: the files tell no year.")],
    time_zone: Annotated[str, typer.Option(help="Whose clock the hours are; of standard time all year: UTC-08:00.")],
    companions: Companions,
    choices: ImportChoices,
    buildings: Annotated[
        str | None, typer.Option(help="Names, separated by commas; those that the schema includes if left out.")
    ] = None,
    latitude: Annotated[
        float | None, typer.Option(help="Degrees north; needed to derive irradiance and cloud.")
    ] = None,
    longitude: Annotated[float | None, typer.Option(help="Degrees east; likewise.")] = None,
    diffuse_column: Annotated[
        _Diffuse, typer.Option(help="What the column of diffuse irradiance holds; in the sets of 2022 the global one.")
    ] = _Diffuse.diffuse,
    hours_name: Annotated[
        _Label | None, typer.Option(help="Of files with hours 0 to 23: which end of a step they name.")
    ] = None,
    one_price: Annotated[bool, typer.Option(help="Take the one price of the set for both.")] = False,
) -> Imported:
    """A CityLearn set: buildings, weather, one price."""
    from prosumer_gym.datasets.citylearn import CityLearn
    from prosumer_gym.datasets.importers import import_citylearn

    files = CityLearn(
        schema=schema,
        first_date=_date("--first-date", first_date),
        zone=parse_zone(time_zone),
        hours_name=_said(hours_name),
        buildings=_names(buildings),
        latitude=latitude,
        longitude=longitude,
        diffuse_column=_said(diffuse_column),
    )
    return import_citylearn(files, time_zone, companions, choices, one_price=one_price)


@_importer("simbench", required=("prices", "weather"))
def _simbench(
    folder: Annotated[
        Path, typer.Option("--from", help="The folder of Load.csv, LoadProfile.csv, RES.csv and RESProfile.csv.")
    ],
    nodes: Annotated[str, typer.Option(help="Nodes to be prosumers, separated by commas.")],
    time_zone: Annotated[str, typer.Option(help="Whose clock the times are; of the published grids Europe/Berlin.")],
    companions: Companions,
    choices: ImportChoices,
) -> Imported:
    """Nodes of a SimBench grid: loads and PV plants."""
    from prosumer_gym.datasets.importers import import_simbench

    return import_simbench(folder, _names(nodes) or (), time_zone, companions, choices)


@_importer("ausgrid", required=("prices", "weather"))
def _ausgrid(
    readings: Annotated[list[Path], typer.Option("--from", help="A file of a year; again for each.")],
    companions: Companions,
    choices: ImportChoices,
    customers: Annotated[
        str | None, typer.Option(help="Numbers as in the column Customer, separated by commas; all if left out.")
    ] = None,
    drop_estimated: Annotated[
        bool, typer.Option(help="Count days that were not measured throughout (Row Quality) as gaps.")
    ] = False,
) -> Imported:
    """Ausgrid's solar homes, Sydney 2010-2013."""
    from prosumer_gym.datasets.importers import import_ausgrid

    return import_ausgrid(readings, _names(customers), companions, choices, drop_estimated=drop_estimated)


@_importer("cambridge")
def _cambridge(
    folder: Annotated[Path, typer.Option("--from", help="The folder that holds the two public files.")],
) -> Imported:
    """cambridge-2018: ten university buildings and GB prices, from two public files."""
    from prosumer_gym.datasets.cambridge import import_cambridge

    return import_cambridge(folder)


def _keep(imported: Imported, *, force: bool) -> None:
    """Store the data set among the user's own and print what became of the source."""
    notes = [f"Note: {note}" for note in imported.notes]
    made = f"Made: {imported.dataset.manifest.made}."
    keep(imported.dataset, [*imported.counts.lines(), made, *notes], force=force)


def keep(dataset: Dataset, lines: Sequence[str], *, force: bool) -> None:
    """Store a data set among the user's own and print `lines` about it."""
    folder = data_home() / dataset.id
    if dataset.id in list_datasets() and dataset_folder(dataset.id) != folder:
        raise UsageError(f"--id {dataset.id}: a data set of the package has this name; choose another")
    stored = None
    if folder.exists() and not force:
        try:
            stored = load_dataset_folder(folder)
        except UsageError as error:
            raise UsageError(f"{error} (or say --force to replace it)") from None
        if stored.manifest != dataset.manifest:  # the manifest holds the digest of the arrays
            raise UsageError(f"{folder}: another data set of this name is there; choose another --id, or say --force")
    if stored is None:
        save_dataset(dataset, folder, overwrite=True)
        done = "stored"
    elif stored.card == dataset.card:
        done = "unchanged"
    else:
        replace_card(folder, dataset.card)
        done = "card refreshed, all else unchanged,"
    typer.echo(f"{dataset.id}: {dataset.num_prosumers} prosumers; {days_by_split(dataset)}")
    for line in lines:
        typer.echo(f"  {line}")
    typer.echo(f"  SHA-256 {dataset.manifest.sha256}")
    typer.echo(f"{done} in {folder}")


def days_by_split(dataset: Dataset) -> str:
    """How many days each split has, in words."""
    counts = {name: int((dataset.split == name).sum()) for name in (*SPLITS, "lead-in")}
    return ", ".join(f"{name} {days}" for name, days in counts.items() if days)


def _said(choice: StrEnum | None) -> Any:
    """The word that the user wrote."""
    return None if choice is None else choice.value


def _names(text: str | None) -> tuple[str, ...] | None:
    """Names separated by commas."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _date(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: cannot be read; write 2016-07-31") from None


def _block(text: str) -> Block:
    """Parse a block written as train=2019-06-30:2019-09-19."""
    split, _, span = text.partition("=")
    first, _, last = span.partition(":")
    try:
        begin, end = np.datetime64(date.fromisoformat(first)), np.datetime64(date.fromisoformat(last))
    except ValueError:
        raise UsageError(f"--split {text}: cannot be read; write train=2019-06-30:2019-09-19") from None
    if split not in SPLITS or end < begin:
        raise UsageError(f"--split {text}: begin with one of {', '.join(SPLITS)}, and give the first day first")
    return Block(cast(Literal["train", "dev", "test"], split), begin, end)


def _weekdays(text: str) -> tuple[int, ...]:
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _WEEKDAYS:
            raise UsageError(f"--weekend {text}: {name!r} is no weekday; write {_WEEKDAYS[5]},{_WEEKDAYS[6]}")
    return tuple(sorted({_WEEKDAYS.index(name) for name in names}))
