"""`prosumer-gym data`: list, show, verify, resize, import and remove data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from prosumer_gym.cli_import import days_by_split, importers, keep
from prosumer_gym.datasets.schema import SPLITS
from prosumer_gym.datasets.store import (
    HOME_VARIABLE,
    data_home,
    dataset_folder,
    list_datasets,
    load_dataset,
    load_dataset_folder,
    remove_dataset,
)
from prosumer_gym.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Data sets: list, show, verify, resize, import, remove.")
app.add_typer(importers, name="import")


@app.command("list")
def list_command() -> None:
    """List the data sets at hand."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("id", "train/dev/test", "prosumers", "where", "licence"):
        table.add_column(heading, no_wrap=heading != "licence")  # it gives way
    titles, problems = [], []
    home = data_home()
    if home.exists() and not home.is_dir():
        raise UsageError(
            f"{home}: your own data sets are kept there, but it is no folder; name one with {HOME_VARIABLE}"
        )
    for name in list_datasets():
        where = "your own" if dataset_folder(name).parent == home else "with the package"
        try:
            dataset = load_dataset(name)
        except UsageError as error:
            table.add_row(name, "[red]broken[/red]", "", where, "see below")
            problems.append(f"{name}: {error}")
            continue
        manifest = dataset.manifest
        days = "/".join(str(int((dataset.split == split).sum())) for split in SPLITS)
        licence = Text(manifest.licence, no_wrap=True, overflow="ellipsis")
        table.add_row(name, days, str(dataset.num_prosumers), where, licence)
        titles.append(f"{name}: {manifest.title}")
    Console().print(table)
    for line in titles:
        typer.echo(line)
    for line in problems:
        typer.echo(line)
    typer.echo(f"Your own data sets are kept in {home}")


@app.command("show", short_help="Print the card of a data set and draw its days.")
def show_command(
    name: Annotated[str, typer.Argument(metavar="ID", help="Name of a data set.")],
    out: Annotated[Path | None, typer.Option(help="Where the figure goes; ID.png if left out.")] = None,
) -> None:
    """Print the card of a data set and draw its days, one day and its correlations into a PNG."""
    dataset = load_dataset(name)
    path = Path(f"{name}.png") if out is None else out
    if path.suffix.lower() != ".png":
        raise UsageError(f"--out {path}: the figure is a PNG; let the name end in .png")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}; make it, or choose another place")
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


@app.command("verify", short_help="Check stored data sets against their digests.")
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
            typer.echo(f"ok     {each}: {days_by_split(dataset)}; SHA-256 {dataset.manifest.sha256}")
    if wrong:
        raise UsageError(f"{len(wrong)} of {len(names)} data sets are wrong: {', '.join(wrong)}; make them again")


@app.command("resize", short_help="Make a data set for more or fewer prosumers.")
def resize_command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Name of the data set to begin with.")],
    prosumers: Annotated[int, typer.Option(help="How many the new one has.")],
    name: Annotated[str, typer.Option("--id", help="Name of the new data set: a-z, 0-9, dots, dashes.")],
    scale: Annotated[float, typer.Option(help="Of every prosumer's load and PV.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of what further prosumers are made of.")] = 0,
    force: Annotated[bool, typer.Option(help="Replace a data set of this name that differs.")] = False,
) -> None:
    """Make a data set for another number of prosumers: the first ones, or all and further ones made from them."""
    from prosumer_gym.datasets.resize import resized

    dataset = resized(load_dataset(source), prosumers, scale=scale, seed=seed, name=name)
    keep(dataset, [f"From {source}. Made: {dataset.manifest.made}."], force=force)


@app.command("remove")
def remove_command(
    name: Annotated[str, typer.Argument(metavar="ID", help="Name of one of your own data sets.")],
) -> None:
    """Delete one of your own data sets."""
    typer.echo(f"removed {remove_dataset(name)}")
