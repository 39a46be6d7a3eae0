"""`prosumer-gym tune`, from the outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import tiny_dataset

from prosumer_gym.baselines.tuned import load_tuned
from prosumer_gym.baselines.weighted_saa import NearestDays
from prosumer_gym.cli import main
from prosumer_gym.datasets.store import save_dataset


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the user's tuned parameters; the data set "tiny" is at hand, and there are few candidates."""
    save_dataset(tiny_dataset(num_days=30), tmp_path / "data" / "tiny")
    monkeypatch.setenv("PROSUMER_GYM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PROSUMER_GYM_TUNED", str(tmp_path / "tuned"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(NearestDays, "candidates", lambda _: [{"k": 2}])
    return tmp_path / "tuned"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def records(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text())["result"] for path in sorted((folder / "records").glob("*.knn.*.json"))]
    assert found
    return [result["policy"] for result in found]


def test_what_is_tuned_is_kept_said_and_used_by_the_next_score(
    homes: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    score = ("score", "knn", "--dataset", "tiny", "--split", "dev", "--days", "1", "--jobs", "1", "--out", "runs")
    assert run(capsys, *score)[0] == 0
    code, out, err = run(capsys, "tune", "knn", "--dataset", "tiny", "--jobs", "1")
    assert code == 0
    path = homes / "tiny" / "knn.json"
    assert f"kept in {path}" in out
    assert "chosen" in out
    assert "default" in out
    assert "fits with their plans" in err
    file = load_tuned(path)
    assert file.command == "prosumer-gym tune knn --dataset tiny --scenario ieee33"
    assert [point.parameters for point in file.train] == [{"k": 2}, {"k": 5}]
    assert [p.name for p in path.parent.iterdir()] == ["knn.json"]  # nothing half-done is left
    path.write_text(file.model_copy(update={"parameters": {"k": 2}}).model_dump_json())
    assert run(capsys, *score)[0] == 0
    settings = sorted((record["settings"] for record in records(tmp_path / "runs")), key=lambda each: each["k"])
    assert [(each["k"], each["parameters"]) for each in settings] == [(2, "tiny/knn.json, yours"), (5, "default")]


def test_a_file_of_other_days_is_passed_over_with_a_line(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "tune", "knn", "--dataset", "tiny", "--jobs", "1")[0] == 0
    path = homes / "tiny" / "knn.json"
    path.write_text(load_tuned(path).model_copy(update={"history_sha256": "0" * 64}).model_dump_json())
    arguments = ("score", "knn", "--dataset", "tiny", "--split", "dev", "--days", "1", "--jobs", "1")
    code, _, err = run(capsys, *arguments)
    assert code == 0
    assert err.count(f"knn: {path} was tuned on other training days of the name 'tiny' and is passed over") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("saa",), "policy 'saa' has no parameters to tune; choose one of: "),
        (("knn+permuted",), "parameters are tuned once for all options; tune knn"),
        (("knearest",), "policy 'knearest' is not known"),
        (("knn", "--dataset", "nowhere"), "data set 'nowhere' is unknown"),
        (("knn", "--dataset", "tiny", "--jobs", "0"), "--jobs 0: at least one process is needed"),
        (("knn", "--dataset", "tiny", "--out", "file"), "it cannot be written"),
    ],
)
@pytest.mark.usefixtures("homes")
def test_a_mistake_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    Path("file").write_text("in the way")
    code, _, err = run(capsys, "tune", *arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
