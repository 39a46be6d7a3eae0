"""`data import` from the command line: the examples of docs/data.md, as they stand, on small files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ausgrid_files import write_ausgrid
from citylearn_files import make_citylearn
from price_files import hours, write_entsoe, write_entsoe_imbalance, write_oasis
from simbench_files import make_simbench, write_companions
from tidy_files import make_frames, write
from typer.testing import CliRunner, Result

from prosumer_gym.cli_data import app
from prosumer_gym.datasets.format_tables import TABLES, filled
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.errors import UsageError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, with a data home beside it."""
    monkeypatch.setenv("PROSUMER_GYM_DATA", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def commands(name: str) -> list[list[str]]:
    """The commands of the page that begin with `prosumer-gym name`, without these words."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(rf"^    prosumer-gym {name} (.*)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines if "..." not in line and "FOLDER" not in line]


def example(format_name: str) -> list[str]:
    (found,) = [words for words in commands("data import") if words[0] == format_name]
    return ["import", *found]


def run(arguments: list[str]) -> Result:
    return CliRunner().invoke(app, arguments)


def fails(arguments: list[str], match: str) -> None:
    result = run(arguments)
    assert isinstance(result.exception, UsageError), result.output
    with pytest.raises(UsageError, match=match):
        raise result.exception


def tidy_example(folder: Path) -> None:
    frames = make_frames(days=60, zone="Europe/Berlin")  # policies that forecast need 12 train days
    frames["prices"][["price_da", "price_rt"]] *= 10.0
    write(folder, frames)


def citylearn_example(folder: Path) -> None:
    make_citylearn().write(folder / "citylearn_2022")
    times = hours("2016-07-30", 44, "America/Los_Angeles")
    write_oasis(folder / "dam.csv", times)
    write_oasis(folder / "rtpd.csv", times, market="RTPD", column="PRC")


def simbench_example(folder: Path) -> None:
    make_simbench().write(folder / "1-complete_data-mixed-all-0-sw")
    times = hours("2016-04-25", 60, "Europe/Paris")
    write_entsoe(folder / "day_ahead.csv", times)
    write_entsoe_imbalance(folder / "imbalance.csv", times)
    write_companions(folder)


def ausgrid_example(folder: Path) -> None:
    meters = {"12": ["GC", "CL", "GG"], "31": ["GC", "GG"], "57": ["GC", "GG"]}
    write_ausgrid(folder / "2012-2013.csv", meters, "2012-07-01", 40)
    write_companions(folder, "2012-06-25")


EXAMPLES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "tidy": (tidy_example, ("a", "b")),
    "citylearn": (citylearn_example, ("Building_1", "Building_2", "Building_3")),
    "simbench": (simbench_example, ("LV1.101 Bus 4", "LV1.101 Bus 2", "LV1.101 Bus 9")),
    "ausgrid": (ausgrid_example, ("12", "57")),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_page_run_as_they_stand(work: Path, name: str) -> None:
    make_files, prosumers = EXAMPLES[name]
    make_files(work)
    words = example(name)
    result = run(words)
    assert result.exit_code == 0, result.exception
    dataset = load_dataset(words[words.index("--id") + 1])
    assert dataset.prosumers == prosumers
    assert dataset.manifest.sha256 in result.output
    assert re.search(r"Local days in the files: [46]\d\.", result.output)
    assert run(["verify", dataset.id]).exit_code == 0
    assert "unchanged in" in run(words).output


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_an_import_needs_is_asked_for_by_name(work: Path, name: str) -> None:
    EXAMPLES[name][0](work)
    words = example(name)
    optional = {"--customers", "--price-unit", "--interval-label", "--latitude", "--longitude", "--diffuse-column"}
    optional |= {"--prices-format", "--prices", "--prices-rt"}
    needed = [word for word in words if word.startswith("--") and word not in optional]
    assert {"--from", "--id"} <= set(needed)
    for option in needed:
        at = words.index(option)
        result = run([*words[:at], *words[at + 2 :]])
        assert result.exit_code == 2, option
        assert option in result.output
    help_text = run(["import", name, "--help"]).output
    for option in words[2::2]:
        assert option in help_text, option


def test_words_that_cannot_be_read_are_named(work: Path) -> None:
    citylearn_example(work)
    words = example("citylearn")
    at = words.index("2016-07-31")
    fails([*words[:at], "31.07.2016", *words[at + 1 :]], "--first-date 31.07.2016: cannot be read; write 2016-07-31")
    at = words.index("UTC-08:00")
    fails([*words[:at], "PST", *words[at + 1 :]], "time zone 'PST' is unknown")
    fails([*words, "--buildings", "Building_9"], "no 'Building_9'")
    assert run([*words, "--buildings", "Building_2, Building_4", "--id", "two"]).exit_code == 0
    dataset = load_dataset("two")
    assert dataset.prosumers == ("Building_2", "Building_4")
    assert "diffuse +" not in dataset.manifest.derived  # the column is said to hold the global irradiance


def test_options_reach_the_import(work: Path) -> None:
    ausgrid_example(work)
    words = example("ausgrid")
    more = ["--seed", "7", "--weekend", "friday", "--shiftable-share", "0", "--zero-load", "missing", "--licence", "X"]
    more += ["--drop-incomplete-days", "--citation", "Y", "--title", "Z", "--drop-estimated"]
    result = run([*words, *more])
    assert result.exit_code == 0, result.exception
    dataset = load_dataset("sydney")
    manifest = dataset.manifest
    assert (manifest.seed, manifest.licence, manifest.citation, manifest.title) == (7, "X", "Y", "Z")
    assert set(dataset.weekday[dataset.weekend].tolist()) == {4}
    assert (dataset.shiftable_ref_kw == 0.0).all()
    assert "counts as missing" in dataset.card
    assert "left out" in dataset.card
    np.testing.assert_array_equal(dataset.load_kw, np.maximum(dataset.load_kw, 1e-6))


def test_the_page_shows_the_columns_that_are_read() -> None:
    """Otherwise: python -m prosumer_gym.datasets.format_tables docs/data.md."""
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text) == text
    for name, table in TABLES.items():
        assert table() in text, name
    with pytest.raises(UsageError, match="it has to mark each of"):
        filled(text.replace("<!-- table: simbench -->", ""))


def test_from_files_to_a_score_as_the_page_says(work: Path) -> None:
    tidy_example(work)
    assert run(example("tidy")).exit_code == 0
    (community,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (work / "street.yaml").write_text(community)
    (words,) = commands("bench")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "prosumer_gym.cli", "bench", *words],
        cwd=work,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"greedy +-?\d", done.stdout), done.stdout
