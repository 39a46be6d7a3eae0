"""`prosumer-gym data`: list, show, verify and import data sets."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from prosumer_gym.datasets.schema import SPLITS, Dataset
from prosumer_gym.datasets.splits import Block
from prosumer_gym.datasets.store import (
    data_home,
    dataset_folder,
    list_datasets,
    load_dataset,
    load_dataset_folder,
    replace_card,
    save_dataset,
)
from prosumer_gym.errors import UsageError

if TYPE_CHECKING:
    from prosumer_gym.datasets.imports import Imported

app = typer.Typer(no_args_is_help=True, help="Data sets: list, show, verify, import.")
importers = typer.Typer(no_args_is_help=True, help="Make a data set from files of your own.")
app.add_typer(importers, name="import")

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class _Label(StrEnum):
    begin = "begin"
    end = "end"


class _Unit(StrEnum):
    kw = "kW"
    kwh = "kWh"


class _PriceUnit(StrEnum):
    ct_per_kwh = "ct/kWh"
    eur_per_mwh = "EUR/MWh"
    eur_per_kwh = "EUR/kWh"


class _NaiveTimes(StrEnum):
    local = "local"
    utc = "utc"


@app.command("list")
def list_command() -> None:
    """List the data sets at hand."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("id", "train/dev/test", "prosumers", "title", "licence", "where"):
        table.add_column(heading, no_wrap=heading not in ("title", "licence"))  # these two give way
    problems = []
    for name in list_datasets():
        where = "your own" if dataset_folder(name).parent == data_home() else "with the package"
        try:
            dataset = load_dataset(name)
        except UsageError as error:
            table.add_row(name, "[red]broken[/red]", "", "see below", "", where)
            problems.append(f"{name}: {error}")
            continue
        manifest = dataset.manifest
        days = "/".join(str(int((dataset.split == split).sum())) for split in SPLITS)
        texts = (Text(text, no_wrap=True, overflow="ellipsis") for text in (manifest.title, manifest.licence))
        table.add_row(name, days, str(dataset.num_prosumers), *texts, where)
    Console().print(table)
    for line in problems:
        typer.echo(line)
    typer.echo(f"Your own data sets are kept in {data_home()}")


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(metavar="ID", help="Name of a data set.")],
    out: Annotated[Path | None, typer.Option(help="Where the figure goes; ID.png if left out.")] = None,
) -> None:
    """Print the card of a data set and draw its days, one day and its correlations into a PNG."""
    dataset = load_dataset(name)
    path = Path(f"{name}.png") if out is None else out
    if path.suffix.lower() != ".png":
        raise UsageError(f"--out {path}: the figure is a PNG; let the name end in .png")
    console = Console()
    console.print(Markdown(dataset.card))
    console.print(f"\nVersion {dataset.manifest.version}, SHA-256 {dataset.manifest.sha256}", highlight=False)
    try:
        from prosumer_gym.plots_data import plot_dataset
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the figure needs {error.name}, which is not installed; run pip install '.[plots]' in the checkout"
        ) from None
    try:
        typer.echo(plot_dataset(dataset, path).resolve())
    except OSError as error:
        raise UsageError(f"--out {path}: it cannot be written ({error.strerror}); choose another place") from None


@app.command("verify")
def verify_command(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="One data set; all if left out.")] = None,
) -> None:
    """Check stored data sets against their digest and the schema; exit code 2 when one is wrong."""
    wrong = []
    names = list_datasets() if name is None else (name,)
    for each in names:
        try:
            dataset = load_dataset_folder(dataset_folder(each))
            if dataset.id != each:
                raise UsageError(f"its manifest says {dataset.id!r}; rename the folder")
        except UsageError as error:
            if name is not None:
                raise
            wrong.append(each)
            typer.echo(f"wrong  {each}: {error}")
        else:
            typer.echo(f"ok     {each}: {_days(dataset)}; SHA-256 {dataset.manifest.sha256}")
    if wrong:
        raise UsageError(f"{len(wrong)} of {len(names)} data sets are wrong: {', '.join(wrong)}; make them again")


@importers.command("tidy")
def tidy_command(
    readings: Annotated[Path, typer.Option("--from", help="time, id, load_kw|load_kwh, pv_kw|pv_kwh.")],
    name: Annotated[str, typer.Option("--id", help="Name of the new data set: a-z, 0-9, dots, dashes.")],
    time_zone: Annotated[str, typer.Option(help="Whose days are the days: Europe/London, UTC+03:30, ...")],
    interval_label: Annotated[_Label, typer.Option(help="Which end of its step a time names, in all files.")],
    unit: Annotated[_Unit, typer.Option(help="Of load and PV.")],
    prices: Annotated[Path, typer.Option(help="time, price_da, price_rt.")],
    price_unit: Annotated[_PriceUnit, typer.Option(help="Of the prices; 1 ct is 1/100 EUR.")],
    weather: Annotated[Path, typer.Option(help="time, temperature_c, cloud_fraction, irradiance_w_per_m2.")],
    forecasts: Annotated[
        Path | None, typer.Option(help="time, id and the columns of weather; made from the weather if left out.")
    ] = None,
    passive: Annotated[Path | None, typer.Option(help="time, passive_pu; the default profile if left out.")] = None,
    capacities: Annotated[
        Path | None, typer.Option(help="id, pv_capacity_kw; the largest PV of train days if left out.")
    ] = None,
    naive_times: Annotated[_NaiveTimes | None, typer.Option(help="What times without a UTC offset mean.")] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="A block, such as train=2019-06-30:2019-09-19; again for each. Seasons if left out."),
    ] = None,
    weekend: Annotated[str, typer.Option(help="Weekdays, separated by commas.")] = "saturday,sunday",
    shiftable_share: Annotated[float, typer.Option(help="Carved out of the load, if not given.")] = 0.3,
    fill_gaps: Annotated[float, typer.Option(help="Hours: fill gaps up to this length by interpolation.")] = 0.0,
    drop_incomplete_days: Annotated[bool, typer.Option(help="Drop days with gaps instead of refusing them.")] = False,
    seed: Annotated[int, typer.Option(help="Of the errors of made forecasts.")] = 0,
    title: Annotated[str, typer.Option(help="For the card.")] = "Imported readings",
    licence: Annotated[str, typer.Option(help="For the card.")] = "not stated",
    citation: Annotated[str, typer.Option(help="For the card.")] = "not stated",
    force: Annotated[bool, typer.Option(help="Replace a data set of this name that differs.")] = False,
) -> None:
    """Make a data set from tidy CSV or parquet files: one row for each time and prosumer."""
    from prosumer_gym.datasets.imports import ImportChoices
    from prosumer_gym.datasets.tidy import TidyFiles, import_tidy

    if not 0.0 <= fill_gaps <= 24.0:
        raise UsageError(f"--fill-gaps {fill_gaps:g}: give hours from 0 to 24")
    files = TidyFiles(
        readings=readings,
        prices=prices,
        weather=weather,
        time_zone=time_zone,
        interval_label=interval_label.value,
        unit=unit.value,
        price_unit=price_unit.value,
        forecasts=forecasts,
        passive=passive,
        capacities=capacities,
        naive_times=None if naive_times is None else naive_times.value,
    )
    choices = ImportChoices(
        id=name,
        title=title,
        licence=licence,
        citation=citation,
        blocks=tuple(_block(text) for text in split) if split else None,
        weekend=_weekdays(weekend),
        shiftable_share=shiftable_share,
        fill_gaps_h=fill_gaps,
        drop_incomplete_days=drop_incomplete_days,
        seed=seed,
    )
    _keep(import_tidy(files, choices), force=force)


@importers.command("cambridge")
def cambridge_command(
    folder: Annotated[Path, typer.Option("--from", help="The folder that holds the two public files.")],
    force: Annotated[bool, typer.Option(help="Replace a cambridge-2018 that differs.")] = False,
) -> None:
    """Make cambridge-2018: ten university buildings and GB prices (the files are not part of the package)."""
    from prosumer_gym.datasets.cambridge import import_cambridge

    _keep(import_cambridge(folder), force=force)


def _keep(imported: Imported, *, force: bool) -> None:
    """Store the data set among the user's own and print what became of the source."""
    dataset = imported.dataset
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
    typer.echo(f"{dataset.id}: {dataset.num_prosumers} prosumers; {_days(dataset)}")
    for line in imported.counts.lines():
        typer.echo(f"  {line}")
    typer.echo(f"  Made: {dataset.manifest.made}.")
    for note in imported.notes:
        typer.echo(f"  Note: {note}")
    typer.echo(f"  SHA-256 {dataset.manifest.sha256}")
    typer.echo(f"{done} in {folder}")


def _days(dataset: Dataset) -> str:
    counts = {name: int((dataset.split == name).sum()) for name in (*SPLITS, "lead-in")}
    return ", ".join(f"{name} {days}" for name, days in counts.items() if days)


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
