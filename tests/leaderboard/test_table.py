"""Tables that fit, notes that say what matters, progress in plain lines."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from prosumer_gym.leaderboard.bench import Board, run_boards
from prosumer_gym.leaderboard.entries import Entry, policy_entry
from prosumer_gym.leaderboard.progress import LiveBars, PlainLines, reporter
from prosumer_gym.leaderboard.run import Failure, Stage
from prosumer_gym.leaderboard.score import details
from prosumer_gym.leaderboard.table import board_table, details_table, notes, number, print_board, print_details


@pytest.fixture
def board(stage: Stage, players: object, tmp_path_factory: pytest.TempPathFactory) -> Board:
    del players
    entries = [policy_entry("players:Noisy", None), policy_entry("players:Beyond", None)]
    return run_boards(stage, {"mpc": entries}, tmp_path_factory.mktemp("out"))[0]


def text(renderable: object) -> str:
    console = Console(width=110, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_numbers_have_their_digits_and_no_negative_zero() -> None:
    assert number(0.12349, 3) == "0.123"
    assert number(-0.0001, 2) == "0.00"
    assert number(-0.5, 1) == "-0.5"
    assert number(float("nan"), 3) == "-"
    assert number(None, 3) == "-"


def test_a_board_fits_110_columns_without_cutting_figures(board: Board) -> None:
    long = Entry("a_long_package.of_policies:AClassWithALongName", "mpc", "policy", "-")
    rows = [replace(row, played=replace(row.played, entry=long)) for row in board.policies]
    shown = text(board_table(replace(board, policies=rows)))
    assert "…" not in shown.replace("AClassWithALongName", "")
    assert "AClassWithALongName" in shown
    header = next(line for line in shown.splitlines() if " J " in line)
    for heading in (
        "95 % interval",
        "S cost",
        "S peak",
        "S volt.",
        "ct/day",
        "PAR",
        "peak r.",
        "% out",
        "s/day",
        "failed",
    ):
        assert heading in header


def test_figures_of_a_row_are_those_of_its_days(board: Board) -> None:
    row = board.reference
    line = next(line for line in text(board_table(board)).splitlines() if " no-control " in line)
    cells = line.split()
    metrics = row.metrics
    assert cells[0:5] == ["no-control", "0.000", "0.000", "0.000", cells[4]]
    assert cells[-7:] == [
        f"{metrics.cost_ct.mean():.0f}",
        f"{np.nanmean(metrics.par):.2f}",
        f"{metrics.peak_ratio.mean():.3f}",
        f"{metrics.voltage_pu_h.mean():.3f}",
        f"{100 * metrics.violated_share.mean():.2f}",
        f"{row.played.seconds_per_day:.2f}",
        "0",
    ]


def test_notes_name_what_happened(stage: Stage, board: Board) -> None:
    failure = Failure(Entry("players:NoFit", "mpc", "policy", "-"), "fit failed: out of tune")
    lines = notes(stage, "test", [replace(board, failures=[failure])])
    joined = "\n".join(lines)
    assert "tiny (" in lines[0]
    assert "test: 4 days" in lines[0]
    assert (
        f"{100 * board.reference.metrics.violated_share.mean():.2f} % of bus-hours outside 0.95 to 1.05 p.u." in joined
    )
    assert "players:Beyond: 1152 numbers of its actions were beyond [-1, 1] and clipped" in joined
    assert "players:NoFit (mpc): not played: fit failed: out of tune" in joined
    assert f"mpc, J behind {board.policies[0].entry.name} on the same days: {board.policies[1].entry.name} " in joined
    assert not replace(board, failures=[failure]).complete
    assert board.complete


def test_the_difference_to_the_best_is_that_of_the_scores(stage: Stage, board: Board) -> None:
    line = next(line for line in notes(stage, "test", [board]) if "J behind" in line)
    behind = board.policies[0].score.j - board.policies[1].score.j
    assert f" {behind:.3f}" in line


def test_details_stand_beside_each_other(board: Board) -> None:
    rows = [board.policies[0], board.reference]
    shown = text(
        details_table(
            {row.entry.name: details([row.metrics], board.yard) for row in rows},
            {row.entry.name: row.score for row in rows},
        )
    )
    line = next(line for line in shown.splitlines() if line.startswith(" cost "))
    assert line.split()[1:3] == [f"{row.metrics.cost_ct.mean():.1f}" for row in rows]


@pytest.mark.parametrize("columns", [66, 80, 100, 120, 200])
def test_a_narrow_terminal_is_shown_fewer_columns_and_whole_ones(board: Board, columns: int) -> None:
    name = "a_long_package.of_policies:APolicyWithAVeryLongName"
    long = Entry(name, "mpc", "policy", "-")
    rows = [replace(row, played=replace(row.played, entry=long)) for row in board.policies]
    board = replace(board, policies=rows)
    console = Console(width=columns, file=io.StringIO(), force_terminal=True, color_system=None)
    print_board(console, board)
    shown = {name: rows[0], "no-control": board.reference, "oracle-cost": board.anchors[2]}
    print_details(
        console,
        {key: details([row.metrics], board.yard) for key, row in shown.items()},
        {key: row.score for key, row in shown.items()},
    )
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in said.splitlines()) <= columns
    for line in said.splitlines():  # only the long name is cut, and the explanations at the end of a line
        assert "…" not in line.rstrip()[:-1].replace("APolicyWithAVeryLongN…", ""), line
    for label in ("no-control", "Jain index of savings", "better than no control", "prosumers who lose"):
        assert len(re.findall(rf"^ {label} ", said, re.MULTILINE)) == 1, label
    assert ("this terminal is too narrow for: " in said) == (columns <= 100)


def test_a_file_is_given_all_columns_however_long_the_lines(board: Board) -> None:
    console = Console(width=80, file=io.StringIO())
    print_board(console, board)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "failed" in said
    assert "…" not in said
    assert console.width == 80


def test_plain_lines_say_what_is_kept_what_is_fitted_and_what_is_done() -> None:
    console = Console(file=io.StringIO(), width=80)
    with reporter(console) as lines:
        assert isinstance(lines, PlainLines)
        lines.begin("saa", 3, 1)
        lines.fitting("saa")
        lines.advance("saa")
        lines.advance("saa")
        lines.note("a note of more than eighty characters that must stay on a line of its own, whatever the width is")
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[:3] == ["saa: 1 of 3 days are kept from an earlier run", "saa: fitting", "saa: 3 days"]
    assert len(said) == 4


def test_progress_may_be_in_episodes() -> None:
    plain, terminal = Console(file=io.StringIO()), Console(file=io.StringIO(), width=100, force_terminal=True)
    for console in (plain, terminal):
        with reporter(console, "episode") as lines:
            lines.begin("saa", 2, 1)
            lines.advance("saa")
    said = plain.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said == ["saa: 1 of 2 episodes are kept from an earlier run", "saa: 2 episodes"]
    shown = re.sub("\x1b[^A-Za-z]*[A-Za-z]", "", terminal.file.getvalue())  # type: ignore[attr-defined]
    assert "2/2 episodes" in shown


@pytest.mark.parametrize("kept", [0, 1])
def test_a_finished_bar_shows_the_time_it_took_and_none_left(kept: int) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with reporter(console) as bars:
        bars.begin("saa", 1, kept)
        if not kept:
            bars.advance("saa")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    shown = next(line for line in reversed(lines) if "1/1" in line)
    assert "0:00:00" in shown
    assert "left" not in shown
    assert "-:--" not in shown


def test_on_a_terminal_there_are_bars() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with reporter(console) as bars:
        assert isinstance(bars, LiveBars)
        bars.begin("saa", 3, 1)
        bars.fitting("saa")
        bars.advance("saa")
        bars.note("[3] of them")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2/3" in shown
    assert "left" in shown
    assert "[3] of them" in shown
