"""Data sets on disk: whole or not at all, verified, found by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import tiny_dataset, tiny_manifest

from prosumer_gym.datasets import store
from prosumer_gym.datasets.schema import ARRAYS, Dataset
from prosumer_gym.datasets.store import list_datasets, load_dataset, load_dataset_folder, save_dataset
from prosumer_gym.errors import UsageError


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return tiny_dataset(num_days=6, num_prosumers=3)


@pytest.fixture
def folder(tiny: Dataset, tmp_path: Path) -> Path:
    return save_dataset(tiny, tmp_path / "tiny")


@pytest.fixture
def home(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROSUMER_GYM_DATA", str(tmp_path))
    save_dataset(tiny, tmp_path / "tiny")
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(UsageError) as error:
        load_dataset_folder(folder)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_what_is_saved_comes_back_with_the_same_bits(tiny: Dataset, folder: Path) -> None:
    back = load_dataset_folder(folder)
    for name in ARRAYS:
        ours, theirs = getattr(tiny, name), getattr(back, name)
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes()
    assert (back.prosumers, back.covariates, back.card) == (tiny.prosumers, tiny.covariates, tiny.card)
    assert back.manifest == tiny.manifest
    assert sorted(path.name for path in folder.iterdir()) == ["CARD.md", "days.npz", "manifest.json"]


def test_saving_twice_gives_the_same_files(tiny: Dataset, folder: Path, tmp_path: Path) -> None:
    again = save_dataset(tiny, tmp_path / "again")
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


def test_a_seed_of_many_bits_survives(tiny: Dataset, tmp_path: Path) -> None:
    dataset = tiny.replace(manifest=tiny_manifest(seed=2**200 + 1))
    assert load_dataset_folder(save_dataset(dataset, tmp_path / "x")).manifest.seed == 2**200 + 1


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "days.npz"
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert str(path) in refused(folder)


def test_a_flipped_bit_is_noticed(folder: Path) -> None:
    path = folder / "days.npz"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(bytes(whole))
    assert str(path) in refused(folder)


def test_changed_arrays_do_not_pass_for_the_published_ones(folder: Path) -> None:
    with np.load(folder / "days.npz") as stored:
        arrays = dict(stored)
    np.savez_compressed(folder / "days.npz", **{**arrays, "load_kw": arrays["load_kw"] + 0.001})
    message = refused(folder)
    assert "SHA-256" in message
    assert "days.npz" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda arrays: arrays.pop("pv_kw"), "array 'pv_kw' is missing"),
        (lambda arrays: arrays.update(wind=np.zeros(3)), "array 'wind' is not one of the schema"),
        (lambda arrays: arrays.update(load_kw=np.full(arrays["load_kw"].shape, np.nan)), "load_kw: nan on 2021-06-01"),
        (lambda arrays: arrays.update(load_kw=np.array([{}], dtype=object)), "cannot be read"),
    ],
)
def test_arrays_of_another_schema_are_named(folder: Path, change, named: str) -> None:
    with np.load(folder / "days.npz") as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez_compressed(folder / "days.npz", **arrays)
    message = refused(folder)
    assert named in message
    assert "days.npz" in message


@pytest.mark.parametrize("name", ["days.npz", "manifest.json", "CARD.md"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert str(folder / name) in refused(folder)


def test_a_manifest_that_lacks_a_field_or_the_digest(folder: Path) -> None:
    path = folder / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"licence"', '"license"'))
    assert "licence: field required" in refused(folder)
    digest = text.split('"sha256": "')[1][:64]
    path.write_text(text.replace(digest, ""))
    assert "sha256 is empty" in refused(folder)
    path.write_text(text.replace(digest, "0" * 64))
    assert "SHA-256" in refused(folder)


def test_an_existing_folder_is_not_overwritten_unasked(tiny: Dataset, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        save_dataset(tiny, folder)
    other = tiny.replace(load_kw=tiny.load_kw * 0.5)
    save_dataset(other, folder, overwrite=True)
    assert load_dataset_folder(folder).manifest == other.manifest
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        save_dataset(tiny, tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "thesis.tex").exists()


@pytest.mark.parametrize("fails", ["writing", "moving"])
def test_a_save_that_fails_leaves_the_old_one_and_no_litter(
    tiny: Dataset, folder: Path, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny.replace(load_kw=tiny.load_kw * 0.5)
    rename = Path.rename

    def no_move(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("disk on fire")
        return rename(self, target)

    def no_write(*_: object, **__: object) -> None:
        raise OSError("disk on fire")

    if fails == "writing":
        monkeypatch.setattr(store.np, "savez_compressed", no_write)
    else:
        monkeypatch.setattr(Path, "rename", no_move)
    with pytest.raises(UsageError, match="disk on fire"):
        save_dataset(other, folder, overwrite=True)
    assert load_dataset_folder(folder).manifest == tiny.manifest
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_home_that_is_no_folder_is_one_line(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("PROSUMER_GYM_DATA", str(home))
        with pytest.raises(UsageError, match=r"cannot be written \(.+\); name another with PROSUMER_GYM_DATA") as error:
            save_dataset(tiny, home / "tiny")
        assert str(home / "tiny") in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="choose another folder"):
        save_dataset(tiny, tmp_path / "file" / "elsewhere" / "tiny")


def test_data_sets_are_found_by_name(tiny: Dataset, home: Path) -> None:
    assert list_datasets() == ("tehran-shift-v0", "tehran-v0", "tiny")
    assert load_dataset("tiny").manifest == tiny.manifest
    assert load_dataset("tiny") is load_dataset("tiny")
    with pytest.raises(UsageError, match=r"'nowhere' is unknown; at hand: tehran-shift-v0, tehran-v0, tiny") as error:
        load_dataset("nowhere")
    assert str(home) in str(error.value)
    for name in ("../tiny", ".", "", "tiny/"):
        with pytest.raises(UsageError, match="is unknown"):
            load_dataset(name)


def test_a_data_set_that_changed_on_disk_is_read_again(tiny: Dataset, home: Path) -> None:
    assert load_dataset("tiny").manifest == tiny.manifest
    other = tiny.replace(load_kw=tiny.load_kw * 0.5)
    save_dataset(other, home / "tiny", overwrite=True)
    assert load_dataset("tiny").manifest == other.manifest


def test_the_package_s_own_sets_cannot_be_hidden(tiny: Dataset, home: Path) -> None:
    save_dataset(tiny, home / "tehran-v0")
    assert load_dataset("tehran-v0").id == "tehran-v0"
    save_dataset(tiny, home / "renamed")
    with pytest.raises(UsageError, match=r"it holds the data set 'tiny'; rename the folder to 'tiny'$"):
        load_dataset("renamed")


def test_the_user_s_home_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSUMER_GYM_DATA", str(tmp_path / "not" / "there"))
    assert list_datasets() == ("tehran-shift-v0", "tehran-v0")
    monkeypatch.delenv("PROSUMER_GYM_DATA")
    assert store.data_home().name == "datasets"


def test_loading_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from prosumer_gym.datasets import load_dataset; load_dataset('tehran-v0');"
        "print([m for m in ('pandas', 'pyarrow', 'scipy', 'pvlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
