"""Boards as text, 110 columns wide; narrower terminals are shown fewer columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from prosumer_gym.leaderboard.bench import Board, Row
from prosumer_gym.leaderboard.entries import Entry
from prosumer_gym.leaderboard.protocol import BLOCK_DAYS, BOOTSTRAP_DRAWS, METRICS, MIN_EPISODES, WEIGHTS
from prosumer_gym.leaderboard.records import Record
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.leaderboard.score import Detail, Score, mean_of_defined, weekly
from prosumer_gym.leaderboard.statistics import paired_difference

TITLES = {
    "open_loop": "open_loop: the plan of the day before is followed",
    "mpc": "mpc: every hour is decided anew",
}
_NAME_WIDTH = 22
_TEXT_WIDTH = 30
"""Of the explanations of details where they do not fit in full."""
_HEADINGS = (
    "J",
    "95 % interval",
    "S cost",
    "S peak",
    "S volt.",
    "ct/day",
    "PAR",
    "peak r.",
    "V",
    "% out",
    "s/day",
    "failed",
)
_BOARD_EXPENDABLE = ("V", "% out", "PAR", "peak r.", "s/day", "ct/day", "failed", "S volt.", "S peak", "S cost")
"""Columns that a narrow terminal does without, in this order: the record of each row has them all."""


def number(value: float | None, digits: int) -> str:
    """A figure with its digits after the point; "-" for none."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0.0 else text


def print_board(console: Console, board: Board) -> None:
    """Print a board; see `_print_fitted`."""
    _print_fitted(console, lambda without: board_table(board, without), _BOARD_EXPENDABLE)


def print_details(console: Console, columns: dict[str, Sequence[Detail]], scores: dict[str, Score]) -> None:
    """Print a table of details; see `_print_fitted`."""
    names = [f"column {name}" for name in list(columns)[:0:-1]]
    _print_fitted(console, lambda without: details_table(columns, scores, without), ["texts in full", "texts", *names])


def _print_fitted(console: Console, build: Callable[[frozenset[str]], Table], expendable: Sequence[str]) -> None:
    """Print a table with no line folded and no figure cut.

    In a terminal that is too narrow columns are left out, in the order of `expendable`; elsewhere, as in a file, lines
    are as long as they need to be.
    """
    wide = console.options.update(width=10_000)

    def width(table: Table) -> int:
        return Measurement.get(console, wide, table).maximum

    table = build(frozenset())
    if console.is_terminal:
        for num in range(1, len(expendable) + 1):
            if width(table) <= console.width:
                break
            table = build(frozenset(expendable[:num]))
    before = console.width
    console.width = max(before, width(table))
    console.print(table)
    console.width = before


def board_table(board: Board, without: frozenset[str] = frozenset()) -> Table:
    """A board, best J first; reference and oracles dimmed; `without` the columns of those headings."""
    table = Table(title=title(board), title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0)
    table.add_column("policy", no_wrap=True, max_width=_NAME_WIDTH, overflow="ellipsis")
    shown = [0, *(place for place, heading in enumerate(_HEADINGS, 1) if heading not in without)]
    for place in shown[1:]:
        table.add_column(_HEADINGS[place - 1], justify="right", no_wrap=True)
    if without:
        left_out = [heading for heading in _HEADINGS if heading in without]
        table.caption = f"this terminal is too narrow for: {', '.join(left_out)}"
        table.caption_justify = "left"
    for row in sorted((*board.policies, *board.anchors), key=lambda row: -_sortable(row.score.j)):
        cells = _cells(row)
        table.add_row(*(cells[place] for place in shown), style="" if row.entry.kind == "policy" else "dim")
    for failure in board.failures:
        text = [_short(failure.entry), *["-"] * (len(_HEADINGS) - 1), "all"]
        table.add_row(*(text[place] for place in shown), style="red")
    return table


def title(board: Board) -> str:
    """What is decided when, and over how many days where that is more than one."""
    length = board.yard.days_per_episode
    return TITLES[board.mode] + ("" if length == 1 else f"; episodes of {counted(length, 'day')}")


def counted(num: int, thing: str) -> str:
    """A number of things."""
    return f"{num} {thing}" if num == 1 else f"{num} {thing}s"


def _span(num_days: int, days_per_episode: int) -> str:
    """How much was played."""
    if days_per_episode == 1:
        return counted(num_days, "day")
    return f"{counted(num_days // days_per_episode, 'episode')} of {counted(days_per_episode, 'day')}"


def _fallbacks(name: str, counts: Mapping[str, int]) -> list[str]:
    """What a policy fell back to, on one line; none if it never did."""
    told = ", ".join(f"{count} x {what}" for what, count in counts.items() if count)
    return [f"{name}: {told}"] if told else []


def _short(entry: Entry) -> str:
    """Name of a row; of an own class only the class where that is too long."""
    return entry.name.partition(":")[2] if entry.is_own_class and len(entry.name) > _NAME_WIDTH else entry.name


def _sortable(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _cells(row: Row) -> list[Text]:
    score, metrics, played = row.score, row.metrics, row.played
    failed = f"{100.0 * played.failed_share:.1f} %" if played.failed.sum() else "0"
    cells = [
        _short(row.entry),
        number(score.j, 3),
        interval_text(score) if row.entry.kind == "policy" else "",
        *(number(score.s[metric], 3) for metric in METRICS),
        number(float(metrics.cost_ct.mean()), 0),
        number(mean_of_defined(metrics.par), 2),
        number(float(metrics.peak_ratio.mean()), 3),
        number(float(metrics.voltage_pu_h.mean()), 3),
        number(100.0 * float(metrics.violated_share.mean()), 2),
        number(played.seconds_per_day, 2),
        failed,
    ]
    return [
        Text(cell, style="red" if not played.ranked and place in (0, 12) else "") for place, cell in enumerate(cells)
    ]


def interval_text(score: Score) -> str:
    """The interval of J."""
    interval = score.j_interval
    return f"{number(interval.low, 3)} to {number(interval.high, 3)}" if interval else "-"


def notes(stage: Stage, split: str, boards: Sequence[Board]) -> list[str]:
    """What belongs under the tables of one run, a line each."""
    dataset, community = stage.dataset, stage.community
    dates = dataset.dates[stage.rows]
    board = boards[0]
    lines = [
        f"{dataset.id} ({dataset.manifest.sha256[:10]}), {split}: {_span(len(dates), stage.days_per_episode)}, "
        f"{dates[0]} to {dates[-1]}; scenario {community.name}",
        _reference_line(stage, board),
        "J = "
        + " + ".join(f"{weight:g} S {metric}" for metric, weight in WEIGHTS.items())
        + f"; best J of any oracle: {number(board.yard.best_oracle_j, 3)} (none is ideal in everything at once)",
        "peak r.: largest import over mean gross demand; V: p.u. h/day outside the voltage limits, % out: bus-hours",
    ]
    if np.any(board.yard.weight == 0.0):
        left_out = [metric for metric, weight in zip(METRICS, board.yard.weight, strict=True) if weight == 0.0]
        lines.append(f"{', '.join(left_out)}: nothing to improve on no-control; left out of J, other weights rescaled")
    rows = [row for b in boards for row in b.policies]
    interval = next((row.score.j_interval for row in rows if row.score.j_interval), None)
    if stage.left_over:
        verb = "is" if stage.left_over == 1 else "are"
        lines.append(f"{counted(stage.left_over, 'day')} of the split {verb} in no whole episode: left out")
    if len(stage.episodes) < MIN_EPISODES:
        unit = "days" if stage.days_per_episode == 1 else "episodes"
        lines.append(f"fewer than {MIN_EPISODES} {unit}: no intervals and no ranks")
    elif interval is not None:
        unit = "week" if stage.days_per_episode < BLOCK_DAYS else "episode"
        draws = f", {BOOTSTRAP_DRAWS} draws of whole {unit}s" if "bootstrap" in interval.method else ""
        lines.append(f"intervals: {interval.method}{draws}, {counted(int(board.yard.week.max()) + 1, unit)}")
    lines += [line for b in boards for line in _difference_lines(b)]
    for row in (*board.anchors, *rows):
        lines += _row_notes(row)
    lines += [f"{failure.entry.name} ({b.mode}): not played: {failure.error}" for b in boards for failure in b.failures]
    return lines


def _difference_lines(board: Board) -> list[str]:
    """How far each policy is behind the best one of its board, on the same days."""
    if len(board.policies) < 2:
        return []
    sums = [weekly(row.entry.name, [row.metrics], board.yard) for row in board.policies]
    parts = []
    for row, other in zip(board.policies[1:], sums[1:], strict=True):
        behind, interval = paired_difference(sums[0], other)
        spread = f" ({number(interval.low, 3)} to {number(interval.high, 3)})" if interval else ""
        parts.append(f"{row.entry.name} {number(behind, 3)}{spread}")
    return [f"{board.mode}, J behind {board.policies[0].entry.name} on the same days: {'; '.join(parts)}"]


def _reference_line(stage: Stage, board: Board) -> str:
    feeder, metrics = stage.community.feeder, board.reference.metrics
    return (
        f"no-control: {100.0 * metrics.violated_share.mean():.2f} % of bus-hours outside "
        f"{feeder.v_min_pu:g} to {feeder.v_max_pu:g} p.u., at worst by {metrics.worst_excess_pu.max():.4f} p.u."
    )


def _row_notes(row: Row) -> list[str]:
    played, name = row.played, row.entry.name
    lines = []
    if not played.ranked:
        lines.append(f"{name}: {100.0 * played.failed_share:.1f} % of its steps failed, over 1 %: unranked")
    if played.first_error:
        lines.append(f"first error: {played.first_error}")
    if played.out_of_range.sum():
        lines.append(f"{name}: {int(played.out_of_range.sum())} numbers of its actions were beyond [-1, 1] and clipped")
    lines += _fallbacks(name, {what: int(counts.sum()) for what, counts in played.fallbacks.items()})
    undefined = int(np.isnan(row.metrics.par).sum())
    if undefined:
        lines.append(f"{name}: PAR undefined on {counted(undefined, 'day')} (mean import under 1 % of gross demand)")
    collapsed = int(row.metrics.non_converged.sum())
    if collapsed:
        lines.append(f"{name}: no power flow solution in {counted(collapsed, 'hour')}")
    return lines


def record_lines(record: Record, found: Score) -> list[str]:
    """What belongs under the figures of a record that was scored again."""
    result = record.result
    dates, interval = result.dataset.dates, found.j_interval
    spread = f"95 % interval {interval_text(found)} ({interval.method})" if interval else "no interval"
    lines = [
        f"{result.policy.name}: {result.dataset.id} ({result.dataset.sha256[:10]}), {result.dataset.split}: "
        f"{_span(len(dates), result.dataset.days_per_episode)}, {dates[0]} to {dates[-1]}; "
        f"scenario {result.scenario.id}; {result.mode}",
        f"J {number(found.j, 3)}, {spread}; best J of any oracle: {number(result.yardstick.best_oracle_j, 3)}",
    ]
    if not result.headline.ranked:
        unit = "days" if result.dataset.days_per_episode == 1 else "episodes"
        few = len(dates) // result.dataset.days_per_episode < MIN_EPISODES
        lines.append("unranked: " + (f"fewer than {MIN_EPISODES} {unit}" if few else "over 1 % of the steps failed"))
    for run in result.runs:
        lines += _fallbacks(result.policy.name, {what: sum(counts) for what, counts in run.fallbacks.items()})
    lines += [f"first error: {run.first_error}" for run in result.runs if run.first_error]
    stored = math.nan if result.headline.j is None else result.headline.j
    if not math.isclose(stored, found.j, rel_tol=1e-9, abs_tol=1e-12) and not (
        math.isnan(stored) and math.isnan(found.j)
    ):
        lines.append(f"the record says J = {stored:.6f}: it was scored by other code")
    return lines


def details_table(
    columns: dict[str, Sequence[Detail]], scores: dict[str, Score], without: frozenset[str] = frozenset()
) -> Table:
    """Scores and the figures beside them, one column for each of some rows of a board.

    `without` names what to leave out: "texts in full", "texts" or "column NAME".
    """
    columns = {name: figures for name, figures in columns.items() if f"column {name}" not in without}
    scores = {name: scores[name] for name in columns}
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in columns:
        heading = name.partition(":")[2] if len(name) > _NAME_WIDTH and ":" in name else name
        table.add_column(heading, justify="right", no_wrap=True, max_width=_NAME_WIDTH, overflow="ellipsis")
    table.add_column("unit", no_wrap=True)
    if "texts" not in without:
        width = _TEXT_WIDTH if "texts in full" in without else None
        table.add_column("", no_wrap=True, max_width=width, overflow="ellipsis")

    def line(label: str, values: Sequence[float], digits: int, unit: str, says: str) -> None:
        texts = () if "texts" in without else (says,)
        table.add_row(label, *(number(value, digits) for value in values), unit, *texts)

    line("J", [score.j for score in scores.values()], 4, "", "headline")
    table.add_row("95 % interval", *(interval_text(score) for score in scores.values()))
    for metric in METRICS:
        line(f"S {metric}", [score.s[metric] for score in scores.values()], 4, "", "0 = no control, 1 = oracle")
    line("interquartile mean", [score.iqm for score in scores.values()], 4, "", "of the days' shares in J")
    line("worst 5 % of days", [score.worst_days for score in scores.values()], 4, "", "their mean share in J")
    better = [100.0 * score.better_than_reference for score in scores.values()]
    line("better than no control", better, 1, "% of days", "share in J above 0, a tie half")
    for place, item in enumerate(next(iter(columns.values()))):
        line(item.name, [details[place].value for details in columns.values()], item.digits, item.unit, item.says)
    return table
