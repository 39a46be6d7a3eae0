"""Records: what is kept, that it can be scored again, and that a changed one is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny_dataset

from prosumer_gym.actions import DayActions
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.bench import Board, run_boards, save_rows
from prosumer_gym.leaderboard.metrics import DayMetrics
from prosumer_gym.leaderboard.protocol import PROTOCOL_VERSION
from prosumer_gym.leaderboard.records import canonical, load_record
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.leaderboard.score import score
from prosumer_gym.leaderboard.store import actions_digest
from prosumer_gym.rollout import rollout
from prosumer_gym.scenarios import make_scenario


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, list[Board], list[Path]]:
    """A board of nine days with one rule on it, and its records."""
    dataset = tiny_dataset(num_days=45)
    stage = Stage(make_scenario("ieee33"), dataset, dataset.days("test"))
    out = tmp_path_factory.mktemp("out")
    boards = run_boards(stage, {"mpc": []}, out)
    return stage, boards, save_rows(stage, "test", boards, out)


def by_name(files: list[Path], name: str) -> Path:
    return next(path for path in files if f".{name}." in path.name)


def test_a_record_scores_to_the_same_figures_without_simulating(kept: tuple[Stage, list[Board], list[Path]]) -> None:
    _, (board,), files = kept
    for row in board.anchors:
        result = load_record(by_name(files, row.entry.name)).result
        again = score(row.entry.name, [run.metrics() for run in result.runs], result.yard())
        assert again.j == row.score.j
        assert again.s == pytest.approx(row.score.s, rel=0, abs=0, nan_ok=True)
        assert again.j_interval == row.score.j_interval
        assert result.headline.j == row.score.j
        metrics = result.runs[0].metrics()
        for item in fields(DayMetrics):
            np.testing.assert_array_equal(getattr(metrics, item.name), getattr(row.metrics, item.name))


def test_a_record_says_what_was_run_on_what(kept: tuple[Stage, list[Board], list[Path]]) -> None:
    stage, _, files = kept
    path = by_name(files, "oracle-cost")
    result = load_record(path).result
    assert result.protocol.version == PROTOCOL_VERSION
    assert result.dataset.sha256 == stage.dataset.manifest.sha256
    assert result.dataset.dates[0] == str(stage.dataset.dates[stage.rows[0]])
    assert result.environment.lock["numpy"] == np.__version__
    assert result.control == "central"
    assert result.mode == "both"
    assert result.runs[0].seed == 0
    assert result.headline.ranked
    assert path.name.startswith("tiny.ieee33.test9.both.central.oracle-cost.")


def test_the_traces_replay_to_the_record(kept: tuple[Stage, list[Board], list[Path]]) -> None:
    """The action log in the side file is the one whose digest the record holds, and gives its costs again."""
    stage, _, files = kept
    path = by_name(files, "oracle-cost")
    run = load_record(path).result.runs[0]
    with np.load(path.with_suffix(".npz")) as file:
        actions = DayActions(**{item.name: file[f"wanted_{item.name}"] for item in fields(DayActions)})
        np.testing.assert_allclose(file["cost_ct"].sum(axis=(1, 2, 3)), run.metrics().cost_ct, rtol=1e-5)
        assert file["v_pu"].dtype == np.float32
    assert actions_digest(actions) == run.action_log_sha256
    trace = rollout(stage.community, stage.dataset.exogenous, stage.rows, actions)
    np.testing.assert_array_equal(trace.cost_ct.sum(axis=(1, 2, 3)), run.metrics().cost_ct)


def test_the_digest_is_of_the_result_alone_and_the_same_on_the_next_run(
    kept: tuple[Stage, list[Board], list[Path]], tmp_path: Path
) -> None:
    stage, boards, files = kept
    again = run_boards(stage, {"mpc": []}, tmp_path)
    for first, second in zip(files, save_rows(stage, "test", again, tmp_path), strict=True):
        one, two = json.loads(first.read_text()), json.loads(second.read_text())
        assert one["result_sha256"] == two["result_sha256"]
        assert one["result"] == two["result"]
        assert one["made_on"].keys() >= {"processor", "cores", "seconds_per_day", "p95_day_ahead_s", "fit_s"}
    assert boards[0].yard.best_oracle_j == again[0].yard.best_oracle_j


def test_canonical_bytes_do_not_depend_on_order_or_blanks() -> None:
    assert canonical({"b": 1.5, "a": [1, None]}) == canonical(json.loads('{ "a": [1,null], "b": 1.50 }'))
    assert canonical({"a": 0.1}) == b'{"a":0.1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})


def edit(path: Path, into: Path, change: Callable[[Any], object]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    into.write_text(json.dumps(content))
    return into


def set_at(*where: Any, value: object) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for step in where[:-1]:
            content = content[step]
        content[where[-1]] = value

    return change


def remove(*where: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for step in where[:-1]:
            content = content[step]
        del content[where[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            set_at("result", "headline", "j", value=0.99),
            "result_sha256 is not the digest of result: the record was changed",
        ),
        (set_at("result", "runs", 0, "days", "cost_ct", 0, value=1.0), "the record was changed"),
        (set_at("result_sha256", value="0" * 64), "the record was changed"),
        (set_at("result", "headline", "j", value="high"), "result.headline.j: input should be a valid number"),
        (set_at("result", "mode", value="fast"), "result.mode: input should be 'open_loop', 'mpc' or 'both'"),
        (
            set_at("result", "runs", 0, "days", "cost_ct", 0, value=None),
            "result.runs.0: days.cost_ct: null is not allowed",
        ),
        (
            set_at("result", "runs", 0, "days", "cost_ct", 0, value=[1.0]),
            "result.runs.0.days.cost_ct.0: input should be a valid number",
        ),
        (remove("result", "runs", 0, "days", "par"), "result.runs.0: days.par: missing"),
        (set_at("result", "runs", 0, "days", "bonus", value=[]), "result.runs.0: days.bonus: unknown"),
        (
            remove("result", "runs", 0, "day_lists", "cost_terms_ct", 0, 0),
            "day_lists.cost_terms_ct: lists of different",
        ),
        (remove("result", "runs", 0, "days", "cost_ct", 0), "result: runs.0.days.cost_ct: 8 values for 9 days"),
        (remove("result", "yardstick", "ideal", "peak"), "result: yardstick.ideal: needs cost, peak, voltage"),
        (set_at("result", "runs", value=[]), "result.runs: list should have at least 1 item"),
        (remove("made_on"), "made_on: field required"),
        (set_at("bonus", value=1), "bonus: extra inputs are not permitted"),
        (set_at("schema", value="other"), "schema: input should be 'prosumer-gym record 1'"),
        (set_at("result", "dataset", "sha256", value="abc"), "result.dataset.sha256: string should match"),
    ],
)
def test_a_broken_or_edited_record_is_refused_in_one_line_that_names_the_field(
    kept: tuple[Stage, list[Board], list[Path]], tmp_path: Path, change: Callable[[Any], object], says: str
) -> None:
    broken = edit(by_name(kept[2], "no-control"), tmp_path / "broken.json", change)
    with pytest.raises(UsageError) as caught:
        load_record(broken)
    assert says in str(caught.value)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hardware_and_time_are_outside_the_digest(kept: tuple[Stage, list[Board], list[Path]], tmp_path: Path) -> None:
    other = edit(by_name(kept[2], "no-control"), tmp_path / "other.json", set_at("made_on", "fit_s", value=123.0))
    assert load_record(other).made_on.fit_s == 123.0


def test_a_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.json: cannot be read"):
        load_record(tmp_path / "missing.json")
    (tmp_path / "cut.json").write_text('{"result": ')
    with pytest.raises(UsageError, match=r"cut\.json: is not JSON"):
        load_record(tmp_path / "cut.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.json: is not JSON"):
        load_record(tmp_path / "binary.json")
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(UsageError, match=r"list\.json: record: input should be"):
        load_record(tmp_path / "list.json")


def test_a_record_of_another_protocol_is_refused(
    kept: tuple[Stage, list[Board], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prosumer_gym.leaderboard.records.PROTOCOL_VERSION", "99")
    with pytest.raises(UsageError, match="scored by protocol 1, this is protocol 99"):
        load_record(by_name(kept[2], "no-control"))
