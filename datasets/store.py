"""Data sets on disk: a folder with `days.npz` (arrays), `manifest.json` (provenance, digest) and `CARD.md`.

The frozen sets come with the package; those that a user makes or imports live in the user's data folder: the folder
named by the environment variable PROSUMER_GYM_DATA, else the platform's usual place. A set of the package is never
hidden by one of the user with the same name.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from prosumer_gym.datasets.schema import ARRAYS, Dataset, Manifest
from prosumer_gym.errors import UsageError

ARRAYS_FILE = "days.npz"
MANIFEST_FILE = "manifest.json"
CARD_FILE = "CARD.md"
HOME_VARIABLE = "PROSUMER_GYM_DATA"
_EMBEDDED = Path(__file__).parent / "data"
_NAMES = ("prosumers", "covariates")


def data_home() -> Path:
    """The folder of the user's own data sets; it need not exist."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_data_dir("prosumer-gym")) / "datasets"


def list_datasets() -> tuple[str, ...]:
    """Names of the data sets at hand: the package's, then the user's."""
    return tuple(
        dict.fromkeys(path.parent.name for home in _homes() for path in sorted(home.glob(f"*/{MANIFEST_FILE}")))
    )


def dataset_folder(name: str) -> Path:
    """Folder of the data set called `name`.

    Raises:
        UsageError: there is none; the message lists those at hand.
    """
    known = list_datasets()
    if name not in known:
        raise UsageError(
            f"data set {name!r} is unknown; at hand: {', '.join(known) or 'none'} "
            f"(your own are looked for in {data_home()}, see {HOME_VARIABLE})"
        )
    return next(home / name for home in _homes() if (home / name / MANIFEST_FILE).is_file())


def load_dataset(name: str) -> Dataset:
    """The data set called `name`, checked; loading it again gives the same (read-only) object.

    Raises:
        UsageError: unknown name, or as `load_dataset_folder`.
    """
    folder = dataset_folder(name)
    stamps = tuple(
        (folder / file).stat().st_mtime_ns if (folder / file).exists() else 0
        for file in (ARRAYS_FILE, MANIFEST_FILE, CARD_FILE)
    )
    dataset = _load_once(folder, stamps)
    if dataset.id != name:
        raise UsageError(f"{folder}: it holds the data set {dataset.id!r}; rename the folder to {dataset.id!r}")
    return dataset


def load_dataset_folder(folder: str | Path) -> Dataset:
    """The data set in `folder`, with its digest verified.

    Raises:
        UsageError: a file that is missing, truncated or not of the schema, a manifest that lacks a field, a digest that
            is not that of the arrays, or data that breaks a rule of `Dataset`. The message names the file.
    """
    folder = Path(folder)
    manifest = Manifest.from_json(_read(folder / MANIFEST_FILE), str(folder / MANIFEST_FILE))
    if not manifest.sha256:
        raise UsageError(f"{folder / MANIFEST_FILE}: sha256 is empty; make the data set again with save_dataset")
    card = _read(folder / CARD_FILE).decode("utf-8", errors="replace")
    path = folder / ARRAYS_FILE
    if not path.is_file():
        raise UsageError(f"{path}: the file is missing; fetch or make the data set again")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UsageError(f"{path}: it cannot be read ({_line(error)}); fetch or make the data set again") from None
    expected = {*ARRAYS, *_NAMES}
    if arrays.keys() != expected:
        missing, extra = sorted(expected - arrays.keys()), sorted(arrays.keys() - expected)
        what = f"array {missing[0]!r} is missing" if missing else f"array {extra[0]!r} is not one of the schema"
        raise UsageError(f"{path}: {what}; make the data set again with this version")
    for name in _NAMES:
        arrays[name] = tuple(arrays[name].tolist())
    try:
        return Dataset(manifest=manifest, card=card, **arrays)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def save_dataset(dataset: Dataset, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write the data set to `folder`; it appears there complete or not at all. Returns the folder.

    Raises:
        UsageError: `folder` exists and `overwrite` is false, it holds something other than a data set, or it cannot be
            written.
    """
    folder = Path(folder)
    with _writing(folder):
        _save(dataset, folder, overwrite=overwrite)
    return folder


def _save(dataset: Dataset, folder: Path, *, overwrite: bool) -> None:
    if folder.exists():
        if not overwrite:
            raise UsageError(f"{folder}: it exists already; choose another folder or ask to overwrite it")
        _check_no_strangers(folder, "choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        arrays = {name: getattr(dataset, name) for name in ARRAYS}
        names = {name: np.array(getattr(dataset, name), dtype=np.str_) for name in _NAMES}
        np.savez_compressed(new / ARRAYS_FILE, allow_pickle=False, **arrays, **names)
        (new / MANIFEST_FILE).write_text(dataset.manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (new / CARD_FILE).write_text(dataset.card, encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_dataset(name: str) -> Path:
    """Delete one of the user's own data sets; returns the folder it lay in.

    Raises:
        UsageError: there is none of that name, it came with the package, its folder holds something else besides, or
            the system refuses.
    """
    folder = dataset_folder(name)
    if folder.parent != data_home():
        raise UsageError(f"data set {name!r} came with the package; only your own, in {data_home()}, can be removed")
    _check_no_strangers(folder, "move it away first")
    with _writing(folder):
        gone = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        folder.rename(gone / name)  # all at once: an interruption leaves no half of it behind under its name
        shutil.rmtree(gone)
    return folder


def replace_card(folder: Path, card: str) -> None:
    """Give the data set in `folder` another card; arrays and manifest stay as they are."""
    new = folder.parent / f".{folder.name}-{CARD_FILE}"
    with _writing(folder):
        new.write_text(card, encoding="utf-8")
        new.replace(folder / CARD_FILE)


def _check_no_strangers(folder: Path, advice: str) -> None:
    """Raise `UsageError` when a folder that exists holds anything but a data set."""
    strangers = (
        sorted(p.name for p in folder.iterdir() if p.name not in (ARRAYS_FILE, MANIFEST_FILE, CARD_FILE))
        if folder.is_dir()
        else [folder.name]
    )
    if strangers:
        raise UsageError(f"{folder}: it holds {strangers[0]!r}, which is no part of a data set; {advice}")


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what the system refuses into one line that says where the data sets go."""
    try:
        yield
    except OSError as error:
        other = f"name another with {HOME_VARIABLE}" if folder.parent == data_home() else "choose another folder"
        raise UsageError(
            f"{folder}: the folder cannot be written ({error.strerror or _line(error)}); {other}, or make room there"
        ) from None


def _homes() -> tuple[Path, ...]:
    return (_EMBEDDED, data_home())


@functools.lru_cache(maxsize=4)
def _load_once(folder: Path, stamps: tuple[int, ...]) -> Dataset:  # noqa: ARG001 (a file that changed is read again)
    return load_dataset_folder(folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: it cannot be read ({error.strerror or 'missing'}); fetch or make the data set again"
        ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
