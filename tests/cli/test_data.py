from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tiny_dataset
from typer.testing import CliRunner, Result

from prosumer_gym.cli_data import app
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.store import list_datasets, load_dataset, load_dataset_folder, save_dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.plots_data import correlations, plot_dataset, typical_day


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data home of the test's own, with the working folder beside it."""
    monkeypatch.setenv("PROSUMER_GYM_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def fails(*arguments: str, match: str) -> None:
    """The command raises a one-line user error, which the main program prints with exit code 2."""
    result = run(*arguments)
    assert isinstance(result.exception, UsageError), result.output
    assert "\n" not in str(result.exception)
    with pytest.raises(UsageError, match=match):
        raise result.exception


def put(home: Path, name: str = "tiny", **changes: object) -> Dataset:
    dataset = tiny_dataset(num_days=10, num_prosumers=3)
    manifest = dataset.manifest.model_copy(update={"id": name, "title": "Little days"})
    dataset = dataset.replace(manifest=manifest, **changes)
    save_dataset(dataset, home / name)
    return dataset


def spoil(folder: Path) -> None:
    """Change one load without telling the manifest."""
    with np.load(folder / "days.npz") as stored:
        arrays = dict(stored)
    arrays["load_kw"][0, 0, 0] += 1e-3
    np.savez(folder / "days.npz", **arrays)


# list, show, verify -------------------------------------------------------------------------------------------------


def test_list_shows_days_by_split_prosumers_licence_and_place(home: Path) -> None:
    put(home)
    result = run("list")
    assert result.exit_code == 0
    line = next(line for line in result.output.splitlines() if line.startswith("tiny"))
    for text in ("6/2/2", " 3 ", "CC0-1.0", "your own"):
        assert text in line, text
    assert "tiny: Little days" in result.output.splitlines()
    assert str(home) in result.output.replace("\n", "")


def test_in_a_narrow_terminal_every_set_has_one_line_in_the_table_and_its_whole_title(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home)
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("list").output.splitlines()
    names = list_datasets()
    assert [line.split()[0] for line in lines[: 1 + len(names)]] == ["id", *names]
    assert "tiny: Little days" in lines
    assert "with the package" in next(line for line in lines if line.startswith("tehran-v0"))


def test_list_names_a_broken_set_and_still_lists_the_others(home: Path) -> None:
    put(home)
    put(home, "other")
    spoil(home / "tiny")
    output = run("list").output
    assert "broken" in next(line for line in output.splitlines() if line.startswith("tiny"))
    assert "SHA-256" in next(line for line in output.splitlines() if line.startswith("tiny: "))
    assert "6/2/2" in next(line for line in output.splitlines() if line.startswith("other"))


def test_remove_deletes_ones_own_set_and_nothing_else(home: Path) -> None:
    put(home)
    put(home, "other")
    assert run("remove", "tiny").output == f"removed {home / 'tiny'}\n"
    assert sorted(path.name for path in home.iterdir()) == ["other"]
    fails("remove", "tiny", match="data set 'tiny' is unknown")
    fails("remove", "tehran-v0", match="'tehran-v0' came with the package; only your own, in .*, can be removed")
    assert "tehran-v0" in list_datasets()
    (home / "other" / "notes.txt").touch()
    fails("remove", "other", match="it holds 'notes.txt', which is no part of a data set; move it away first")
    assert load_dataset("other").num_prosumers == 3


def test_a_home_that_is_a_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROSUMER_GYM_DATA", str(tmp_path / "file"))
    fails("list", match="it is no folder; name one with PROSUMER_GYM_DATA")
    fails("resize", "tehran-v0", "--prosumers", "1", "--id", "one", match="name another with PROSUMER_GYM_DATA")


def test_verify_tells_one_line_for_each_set(home: Path) -> None:
    dataset = put(home)
    output = run("verify", "tiny").output
    assert output == f"ok     tiny: train 6, dev 2, test 2, lead-in 24; SHA-256 {dataset.manifest.sha256}\n"
    result = run("verify")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == len(list_datasets())


def test_verify_fails_when_a_byte_changed_or_a_folder_has_another_name(home: Path) -> None:
    put(home)
    put(home, "other")
    spoil(home / "tiny")
    fails("verify", "tiny", match="SHA-256")
    result = run("verify")
    assert "1 of" in str(result.exception)
    assert "tiny; make them again" in str(result.exception)
    assert "wrong  tiny" in result.output
    assert "ok     other" in result.output
    (home / "other").rename(home / "renamed")
    fails("verify", "renamed", match="its manifest says 'other'")
    fails("verify", "nothing", match="'nothing' is unknown")


def test_show_prints_the_card_and_draws_a_figure(home: Path) -> None:
    put(home, card="# Little days\n\n- measured: nothing at all\n")
    result = run("show", "tiny")
    assert result.exit_code == 0, result.exception
    assert "measured: nothing at all" in result.output
    assert result.output.splitlines()[-1] == str(Path("tiny.png").resolve())
    assert Path("tiny.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    fails("show", "tiny", "--out", "a/b.png", match="there is no folder a; make it")
    Path("a").mkdir()
    assert run("show", "tiny", "--out", "a/b.png").output.splitlines()[-1] == str(Path("a/b.png").resolve())
    assert Path("a/b.png").stat().st_size > 50_000
    fails("show", "nothing", match="'nothing' is unknown")
    fails("show", "tiny", "--out", "figure.jpg", match="end in .png")
    fails("show", "tiny", "--out", "tiny.png/x.png", match="there is no folder tiny.png")
    Path("full.png").mkdir()
    fails("show", "tiny", "--out", "full.png", match="cannot be written")


def test_without_matplotlib_the_card_is_shown_and_the_figure_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home)
    monkeypatch.delitem(sys.modules, "prosumer_gym.plots_data")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("show", "tiny")
    assert "Tiny" in result.output
    assert "needs matplotlib" in str(result.exception)
    assert "'.[plots]' in the checkout" in str(result.exception)


def test_the_commands_start_without_pandas_and_matplotlib(home: Path) -> None:
    put(home)
    code = (
        "import sys, prosumer_gym.cli_data as c; from prosumer_gym.datasets import load_dataset; load_dataset('tiny');"
        "print(sorted({'pandas', 'matplotlib', 'torch', 'cvxpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# the figure ---------------------------------------------------------------------------------------------------------


def test_correlations_are_those_of_numpy(home: Path) -> None:  # noqa: ARG001
    dataset = tiny_dataset()
    names, matrix = correlations(dataset)
    load, rt = dataset.load_kw.sum(axis=2).ravel(), dataset.price_rt_ct_per_kwh.ravel()
    assert matrix[names.index("load"), names.index("real-time price")] == pytest.approx(np.corrcoef(load, rt)[0, 1])
    error = (dataset.weather_forecast[..., 0].mean(axis=2) - dataset.weather[..., 0]).ravel()
    expected = np.corrcoef(error, rt)[0, 1]
    assert matrix[names.index("temperature error"), names.index("real-time price")] == pytest.approx(expected)
    np.testing.assert_allclose(np.diag(matrix), 1.0)
    np.testing.assert_allclose(matrix, matrix.T)


def test_a_data_set_of_one_prosumer_without_sun_and_with_holes_can_be_drawn(tmp_path: Path) -> None:
    dataset = tiny_dataset(num_days=10, num_prosumers=1)
    dates = dataset.dates.copy()
    dates[20:] += np.timedelta64(200, "D")
    dates[5:] += np.timedelta64(3, "D")
    dataset = dataset.replace(pv_kw=np.zeros_like(dataset.pv_kw), dates=dates)
    names, matrix = correlations(dataset)
    assert np.isnan(matrix[names.index("PV")]).all()
    assert plot_dataset(dataset, tmp_path / "figure.png", row=9).is_file()


def test_the_day_that_is_shown_is_a_train_day() -> None:
    dataset = tiny_dataset()
    assert dataset.split[typical_day(dataset)] == "train"


# import -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tidy_files(home: Path) -> list[str]:
    """Forty days of two prosumers as files in the working folder, and the options that say what they are."""
    assert home.name == "home"
    times = pd.date_range("2018-05-01", periods=40 * 24, freq="h", tz="UTC")
    sun = np.clip(np.sin(np.pi * (times.hour.to_numpy() - 6) / 12), 0, None)
    common = {"time": times.map(lambda time: time.isoformat())}
    readings = [pd.DataFrame({**common, "id": name, "load_kw": 10.0 + sun, "pv_kw": 20 * sun}) for name in ("a", "b")]
    pd.concat(readings).to_csv("readings.csv", index=False)
    pd.DataFrame({**common, "price_da": 80.0, "price_rt": 90.0 + sun}).to_csv("prices.csv", index=False)
    weather = {"temperature_c": 20 + sun, "cloud_fraction": 0.3, "irradiance_w_per_m2": 500 * sun}
    pd.DataFrame({**common, **weather}).to_csv("weather.csv", index=False)
    said = {
        "--from": "readings.csv",
        "--id": "mine",
        "--time-zone": "UTC",
        "--interval-label": "begin",
        "--unit": "kW",
        "--prices": "prices.csv",
        "--price-unit": "EUR/MWh",
        "--weather": "weather.csv",
    }
    return ["import", "tidy", *(text for pair in said.items() for text in pair)]


def test_import_tidy_stores_a_data_set_and_tells_what_became_of_the_files(home: Path, tidy_files: list[str]) -> None:
    result = run(*tidy_files, "--seed", "5", "--licence", "CC0-1.0", "--weekend", "friday")
    assert result.exit_code == 0, result.exception
    for text in ("mine: 2 prosumers; train", "Local days in the files: 40.", "seed 5", "Note: ", f"stored in {home}"):
        assert text in result.output, text
    dataset = load_dataset("mine")
    assert dataset.manifest.sha256 in result.output
    assert dataset.manifest.licence == "CC0-1.0"
    assert dataset.price_da_ct_per_kwh[0, 0] == 8.0
    assert set(dataset.weekday[dataset.weekend].tolist()) == {4}
    assert run("verify", "mine").exit_code == 0
    assert run("show", "mine").exit_code == 0


def test_importing_the_same_again_changes_nothing_and_something_else_needs_force(
    home: Path, tidy_files: list[str]
) -> None:
    run(*tidy_files)
    before = (home / "mine" / "days.npz").stat().st_mtime_ns
    assert "unchanged in" in run(*tidy_files).output
    assert (home / "mine" / "days.npz").stat().st_mtime_ns == before
    fails(*tidy_files, "--seed", "9", match="another data set of this name is there")
    assert run(*tidy_files, "--seed", "9", "--force").exit_code == 0
    assert load_dataset("mine").manifest.seed == 9
    spoil(home / "mine")
    fails(*tidy_files, match="--force")
    assert run(*tidy_files, "--force").exit_code == 0
    assert load_dataset_folder(home / "mine").id == "mine"


def test_importing_the_same_again_refreshes_a_card_that_reads_otherwise(home: Path, tidy_files: list[str]) -> None:
    run(*tidy_files)
    card = home / "mine" / "CARD.md"
    fresh, before = card.read_text(), (home / "mine" / "days.npz").stat().st_mtime_ns
    card.write_text("# In other words\n")
    result = run(*tidy_files)
    assert result.exit_code == 0, result.exception
    assert f"card refreshed, all else unchanged, in {home}" in result.output
    assert card.read_text() == load_dataset("mine").card == fresh
    assert (home / "mine" / "days.npz").stat().st_mtime_ns == before
    assert sorted(path.name for path in home.rglob("*")) == ["CARD.md", "days.npz", "manifest.json", "mine"]
    assert "unchanged in" in run(*tidy_files).output


def test_import_never_hides_a_data_set_of_the_package(home: Path, tidy_files: list[str]) -> None:
    tidy_files[tidy_files.index("mine")] = "tehran-v0"
    fails(*tidy_files, match="a data set of the package has this name")
    assert not (home / "tehran-v0").exists()


def test_own_splits_are_read(home: Path, tidy_files: list[str]) -> None:
    assert home.name == "home"
    splits = ("train=2018-05-09:2018-05-14", "dev=2018-05-23:2018-05-24", "test=2018-06-02:2018-06-03")
    options = [text for split in splits for text in ("--split", split)]
    result = run(*tidy_files, *options)
    assert result.exit_code == 0, result.exception
    assert [len(load_dataset("mine").days(split)) for split in ("train", "dev", "test")] == [6, 2, 2]
    assert "Note: It has 6 train days; policies that fit a forecast need 12 or more" in result.output
    fails(*tidy_files, *options[:-2], match="no test block")
    fails(*tidy_files, "--split", "train=May", match="write train=2019-06-30:2019-09-19")
    fails(*tidy_files, "--split", "learn=2018-05-09:2018-05-14", match="begin with one of train")
    fails(*tidy_files, "--split", "train=2018-05-14:2018-05-09", match="the first day first")


def test_what_must_be_said_is_never_guessed(tidy_files: list[str]) -> None:
    for option in ("--from", "--id", "--time-zone", "--interval-label", "--unit", "--prices", "--weather"):
        at = tidy_files.index(option)
        result = run(*tidy_files[:at], *tidy_files[at + 2 :])
        assert result.exit_code == 2
        assert option in result.output
    at = tidy_files.index("--price-unit")
    fails(*tidy_files[:at], *tidy_files[at + 2 :], match="Say --price-unit")
    fails(*tidy_files, "--weekend", "sonntag", match="'sonntag' is no weekday")
    fails(*tidy_files, "--fill-gaps", "48", match="hours from 0 to 24")
    fails(*tidy_files, "--seed", "-3", match="--seed -3: give a whole number from 0 up")
    fails(*tidy_files, "--title", "a\x1b[31mb", match="--title .* holds control characters")
    fails(*tidy_files, "--title", "a\nb", match="--title .* holds control characters")
    assert list_datasets() == tuple(name for name in list_datasets() if name != "mine")


def test_import_cambridge_says_which_file_is_missing(home: Path) -> None:
    assert home.name == "home"
    fails("import", "cambridge", "--from", ".", match="cambridge_estates_2018_2022.parquet is nowhere in it")


def test_the_manifest_of_an_import_is_plain_json(home: Path, tidy_files: list[str]) -> None:
    run(*tidy_files)
    manifest = json.loads((home / "mine" / "manifest.json").read_text())
    assert manifest["time_zone"] == "UTC"
    assert manifest["interval_label"] == "begin"
    assert manifest["sources"] == ["readings.csv", "prices.csv", "weather.csv"]
