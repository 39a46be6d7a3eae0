"""Pictures of a run: chosen by the rule that is stated, and legible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import tiny_dataset

from prosumer_gym import plots
from prosumer_gym.leaderboard.bench import Board, run_boards
from prosumer_gym.leaderboard.entries import policy_entry
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.scenarios import make_scenario


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, list[Board]]:
    dataset = tiny_dataset(num_days=30)
    stage = Stage(make_scenario("ieee33"), dataset, dataset.days("test"))
    boards = {"open_loop": [policy_entry("no-control", "open_loop")], "mpc": [policy_entry("no-control", "mpc")]}
    return stage, run_boards(stage, boards, tmp_path_factory.mktemp("out"))


def test_the_day_that_is_shown_is_dear_but_no_outlier(played: tuple[Stage, list[Board]]) -> None:
    reference = played[1][0].reference
    ranks = np.argsort(np.argsort(reference.metrics.cost_ct))
    assert ranks[plots.costly_day(reference)] == 4  # of six days, in order 0 ... 5: the 90th percentile is 4.5


def test_bars_add_up_to_the_exchange(played: tuple[Stage, list[Board]]) -> None:
    """What is used less what is given is what comes from the grid: the black line ends where the bars say."""
    stage, boards = played
    row = boards[0].policies[0]
    figure = plots.dispatch_picture(stage, row, boards[0].reference)
    bars = np.array([[patch.get_height() for patch in group] for group in figure.axes[0].containers])
    d = plots.costly_day(boards[0].reference)
    np.testing.assert_allclose(bars.sum(axis=0), row.trace.exchange_kw[d], atol=1e-9)
    plots.plt.close(figure)


def test_voltages_show_the_limits_that_matter_and_every_bus(played: tuple[Stage, list[Board]]) -> None:
    stage, boards = played
    reference = boards[0].reference
    figure = plots.voltage_picture(stage, reference, reference)
    low, _ = figure.axes[0].get_ylim()
    assert low < min(stage.community.feeder.v_min_pu, float(reference.trace.v_pu.min()))
    lines = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.8]
    assert sum(len(line.get_xdata()) for line in lines) == stage.community.feeder.num_buses
    assert len(lines) == 4  # main line and three laterals
    plots.plt.close(figure)


def test_names_of_points_do_not_cover_each_other(played: tuple[Stage, list[Board]]) -> None:
    """Three rows lie on the same spot here: reference, and the same policy on both boards."""
    figure = plots.pareto_picture(played[1])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 7
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    plots.plt.close(figure)


def test_all_pictures_are_written(played: tuple[Stage, list[Board]], tmp_path: Path) -> None:
    files = plots.save_pictures(*played, tmp_path / "pictures")
    assert [path.name for path in files] == ["dispatch.png", "voltages.png", "cost-peak.png", "profiles.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    assert plots.plt.get_fignums() == []
