"""A board of episodes of several days from end to end: its oracles, its tables and its records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prosumer_gym.actions import DayActions
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.bench import Board, run_boards, save_rows
from prosumer_gym.leaderboard.entries import policy_entry
from prosumer_gym.leaderboard.metrics import DayMetrics
from prosumer_gym.leaderboard.protocol import METRICS
from prosumer_gym.leaderboard.records import canonical, load_record
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.leaderboard.score import by_episode, score
from prosumer_gym.leaderboard.store import actions_digest
from prosumer_gym.leaderboard.table import board_table, notes, record_lines
from prosumer_gym.rollout import rollout

Kept = tuple[Stage, Board, list[Path]]


@pytest.fixture
def kept(pairs: Stage, players: Path, tmp_path: Path) -> Kept:
    """Two episodes of two days, a policy that counts its fallbacks, and the records."""
    del players
    stage = replace(pairs, left_over=1)
    boards = run_boards(stage, {"mpc": [policy_entry("players:Counts", None)]}, tmp_path)
    return stage, boards[0], save_rows(stage, "test", boards, tmp_path)


def by_name(files: list[Path], name: str) -> Path:
    return next(path for path in files if f".{name}." in path.name)


def test_a_board_of_episodes_and_its_records(kept: Kept) -> None:
    stage, board, files = kept
    check_yardstick(stage, board)
    check_what_is_said(stage, board)
    for path in files:
        check_record(stage, board, path)
    check_old_and_broken_records(files)


def check_yardstick(stage: Stage, board: Board) -> None:
    """Nobody beats perfect foresight over an episode; it is scored 1 in its own metric."""
    yard = board.yard
    assert yard.reference.shape == (3, 4)
    assert yard.ideal.shape == yard.gap.shape == (3, 2)
    rows = {row.entry.name: row for row in board.anchors}
    for metric, name, field in (("cost", "oracle-cost", "cost_ct"), ("peak", "oracle-peak", "peak_ratio")):
        assert rows[name].score.s[metric] == pytest.approx(1.0, abs=1e-4)
        attained = by_episode(getattr(rows[name].metrics, field), 2)
        np.testing.assert_allclose(yard.ideal[METRICS.index(metric)], attained, rtol=1e-5)
    assert rows["no-control"].score.j == 0.0
    voltage = by_episode(rows["oracle-voltage"].metrics.voltage_pu_h, 2)
    assert (voltage <= by_episode(rows["no-control"].metrics.voltage_pu_h, 2)).all()
    assert board.policies[0].score.j_interval is None
    # the batteries of the cheapest course do carry energy over midnight
    carried_kwh = np.abs(rows["oracle-cost"].trace.soc_kwh[[0, 2], -1] - stage.community.fleet.soc_initial_kwh)
    assert carried_kwh.max() > 1.0


def check_what_is_said(stage: Stage, board: Board) -> None:
    assert board_table(board).title == "mpc: every hour is decided anew; episodes of 2 days"
    said = notes(stage, "test", [board])
    assert "test: 2 episodes of 2 days, " in said[0]
    assert "fewer than 8 episodes: no intervals and no ranks" in said
    assert "1 day of the split is in no whole episode: left out" in said
    assert "players:Counts: 4 x plan at its cap, 8 x solver stopped short" in said


def check_record(stage: Stage, board: Board, path: Path) -> None:
    """It scores to the same without simulating, and the log beside it plays to its figures again."""
    record = load_record(path)
    result = record.result
    row = next(row for row in (*board.anchors, *board.policies) if row.entry.name == result.policy.name)
    assert path.name.startswith(f"tiny.ieee33.test2x2.{row.entry.mode}.central.")
    assert result.dataset.days_per_episode == 2
    assert len(result.dataset.dates) == 4
    assert not result.headline.ranked
    run = result.runs[0]
    again = score(row.entry.name, [run.metrics()], result.yard())
    assert again.j == row.score.j
    assert again.s == row.score.s
    for item in fields(DayMetrics):
        np.testing.assert_array_equal(getattr(run.metrics(), item.name), getattr(row.metrics, item.name))
    expected = {"plan at its cap": [2, 2], "solver stopped short": [4, 4]} if row.entry.kind == "policy" else {}
    assert run.fallbacks == expected
    with np.load(path.with_suffix(".npz")) as file:
        actions = DayActions(**{item.name: file[f"wanted_{item.name}"] for item in fields(DayActions)})
        np.testing.assert_array_equal(file["soc_kwh"][[1, 3], 0], file["soc_kwh"][[0, 2], -1])
    assert actions_digest(actions) == run.action_log_sha256
    trace = rollout(stage.community, stage.dataset.exogenous, stage.rows, actions, days_per_episode=2)
    np.testing.assert_array_equal(trace.cost_ct.sum(axis=(1, 2, 3)), run.metrics().cost_ct)
    lines = record_lines(record, again)
    assert "test: 2 episodes of 2 days, " in lines[0]
    assert "unranked: fewer than 8 episodes" in lines
    told = "players:Counts: 4 x plan at its cap, 8 x solver stopped short"
    assert (told in lines) == (row.entry.kind == "policy")


def check_old_and_broken_records(files: list[Path]) -> None:
    path = by_name(files, "players-Counts")
    content = json.loads(path.read_text())

    def load(change: Callable[[Any], object]) -> None:
        result = json.loads(json.dumps(content["result"]))
        change(result)
        digest = hashlib.sha256(canonical(result)).hexdigest()
        path.write_text(json.dumps({**content, "result": result, "result_sha256": digest}))
        load_record(path)

    for where, value, says in (
        (("dataset", "days_per_episode"), 3, "dataset.days_per_episode: 4 days are no whole episodes of 3"),
        (("dataset", "days_per_episode"), 1, "runs.0.fallbacks.plan at its cap: 2 values for 4 episodes"),
        (("dataset", "days_per_episode"), 0, "result.dataset.days_per_episode: input should be greater than"),
        (("yardstick", "ideal", "peak"), [1.0], "yardstick.ideal.peak: 1 values for 2 episodes"),
        (("yardstick", "reference", "peak"), [1.0] * 2, "yardstick.reference.peak: 2 values for 4 days"),
        (("runs", 0, "fallbacks", "plan at its cap"), [1], "fallbacks.plan at its cap: 1 values for 2 episodes"),
        (("runs", 0, "fallbacks", "plan at its cap"), [1.5, 1], "input should be a valid integer"),
    ):

        def change(result: Any, where: tuple[Any, ...] = where, value: object = value) -> None:
            for step in where[:-1]:
                result = result[step]
            result[where[-1]] = value

        with pytest.raises(UsageError) as caught:
            load(change)
        assert says in str(caught.value)


def test_a_record_from_before_there_were_episodes_is_of_single_days(stage: Stage, tmp_path: Path) -> None:
    boards = run_boards(replace(stage, rows=stage.rows[:2]), {"mpc": []}, tmp_path)
    path = by_name(save_rows(replace(stage, rows=stage.rows[:2]), "test", boards, tmp_path), "oracle-peak")
    assert path.name.startswith("tiny.ieee33.test2.both.central.")
    content = json.loads(path.read_text())
    found = load_record(path).result
    del content["result"]["dataset"]["days_per_episode"], content["result"]["runs"][0]["fallbacks"]
    content["result_sha256"] = hashlib.sha256(canonical(content["result"])).hexdigest()
    path.write_text(json.dumps(content))
    old = load_record(path).result
    assert old == found
    assert old.yard().days_per_episode == 1
