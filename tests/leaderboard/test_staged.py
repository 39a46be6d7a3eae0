"""On a scenario with more PV than the data everybody plays and is scored with that PV, and records name the data."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from prosumer_gym.actions import DayActions
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.leaderboard.anchors import anchor_episode
from prosumer_gym.leaderboard.bench import Board, run_boards, save_rows
from prosumer_gym.leaderboard.entries import Entry, content_digest, policy_entry
from prosumer_gym.leaderboard.protocol import METRICS
from prosumer_gym.leaderboard.records import load_record
from prosumer_gym.leaderboard.run import Played, Stage, play
from prosumer_gym.scenarios import make_scenario


@pytest.fixture
def sunny(tiny: Dataset) -> Stage:
    """Two test days of a community with three times the PV of the data."""
    community = make_scenario("ieee33")
    fleet = dataclasses.replace(community.fleet, pv_ratio=np.full(10, 3.0), position_limit_kw=np.full(10, 200.0))
    return Stage(community.replace(fleet=fleet, name="sunny"), tiny, tiny.days("test")[:2])


def played(stage: Stage, name: str, out: Path) -> Played:
    (result,) = play(stage, [policy_entry(f"players:{name}", None)], out)
    assert isinstance(result, Played), result
    return result


def test_where_the_pv_is_the_datas_the_data_are_played_as_they_are(stage: Stage, sunny: Stage) -> None:
    assert stage.staged is stage.dataset
    np.testing.assert_array_equal(sunny.staged.pv_kw, 3.0 * sunny.dataset.pv_kw)
    assert sunny.staged is sunny.staged
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sunny)).staged.pv_kw, sunny.staged.pv_kw)


@pytest.mark.usefixtures("players")
def test_a_policy_learns_and_acts_with_the_larger_pv(sunny: Stage, tmp_path: Path) -> None:
    actions = played(sunny, "Sunny", tmp_path).actions
    pv_kw = sunny.staged.pv_kw[sunny.rows]
    np.testing.assert_allclose(actions.curtail_kw, 0.5 * pv_kw, rtol=1e-12)  # half of what there is
    yesterday_kw, train = sunny.staged.pv_kw[sunny.rows - 1, 11], sunny.staged.is_training
    np.testing.assert_allclose(actions.position_kw[:, :, 11], -yesterday_kw, rtol=1e-12)
    mean_kw = np.broadcast_to(sunny.staged.pv_kw[train, 12].mean(axis=0), yesterday_kw.shape)
    np.testing.assert_allclose(actions.position_kw[:, :, 12], -mean_kw, rtol=1e-12)


@pytest.mark.usefixtures("players")
def test_the_reference_and_its_stand_in_expect_the_larger_pv(sunny: Stage, tmp_path: Path) -> None:
    instead = played(sunny, "NoReset", tmp_path).actions
    reference = DayActions.join(
        [anchor_episode("no-control", sunny.community, sunny.staged, rows).actions for rows in sunny.episodes]
    )
    np.testing.assert_allclose(instead.position_kw, reference.position_kw, atol=1e-12)
    (result,) = play(sunny, [Entry("no-control", "both", "reference", "-")], tmp_path)
    assert isinstance(result, Played)
    np.testing.assert_array_equal(result.actions.position_kw, reference.position_kw)


@pytest.fixture
def board(sunny: Stage, tmp_path: Path) -> tuple[Board, list[Path]]:
    boards = run_boards(sunny, {"mpc": []}, tmp_path)
    return boards[0], save_rows(sunny, "test", boards, tmp_path)


def test_figures_are_of_the_larger_pv_and_records_name_the_data(sunny: Stage, board: tuple[Board, list[Path]]) -> None:
    rows, files = board
    pv_kwh = 3.0 * sunny.dataset.pv_kw[sunny.rows].sum(axis=(1, 2))
    for row in rows.anchors:
        np.testing.assert_allclose(row.metrics.pv_kwh, pv_kwh, rtol=1e-12)
    cost = {row.entry.name: row.metrics.cost_ct for row in rows.anchors}
    assert (cost["oracle-cost"] <= cost["perfect-day-ahead"]).all()
    assert (cost["perfect-day-ahead"] <= cost["no-control"] + 1e-9).all()
    voltage = {row.entry.name: row.metrics.voltage_pu_h for row in rows.anchors}
    assert all((voltage["oracle-voltage"] <= others + 1e-6).all() for others in voltage.values())
    (steady,) = (row for row in rows.anchors if row.entry.name == "oracle-voltage")
    np.testing.assert_allclose(steady.played.bound, voltage["oracle-voltage"], atol=1e-9)  # as replayed
    assert steady.entry.kind == "oracle"
    np.testing.assert_array_equal(rows.yard.ideal[METRICS.index("voltage")], 0.0)  # whatever it leaves
    assert rows.yard.best_oracle_j == max(row.score.j for row in rows.anchors if row.entry.kind == "oracle")
    for path in files:
        result = load_record(path).result
        assert result.dataset.id == "tiny"
        assert result.dataset.sha256 == sunny.dataset.manifest.sha256  # as published: anybody can get these data
        assert result.scenario.id == "sunny"
        assert result.scenario.sha256 == content_digest(sunny.community)  # the ratio is in here
