"""Splits by day: blocks of rows, their lead-in, and the rules that keep the splits apart.

A *block* is a run of rows that belongs to one split. It starts with exactly `LEAD_IN_DAYS` rows labelled "lead-in":
they exist so that the first scored day has its past days, and are themselves never scored. Axis: D days (rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import IntArray
from prosumer_gym.errors import UsageError

SPLITS = ("train", "dev", "test")
LEAD_IN = "lead-in"
LEAD_IN_DAYS = 8

DateArray = npt.NDArray[np.datetime64]
LabelArray = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Block:
    """The scored days `first` to `last` (both included) of one split; its lead-in is taken from the days before."""

    split: Literal["train", "dev", "test"]
    first: np.datetime64
    last: np.datetime64


def cut_blocks(dates: DateArray, blocks: Sequence[Block]) -> tuple[IntArray, LabelArray, IntArray]:
    """Rows of `dates` that the blocks keep, with the split and the block number of each.

    Args:
        dates: complete days at hand [D'], strictly increasing; days that are missing are simply not there.
        blocks: scored spans in any order. The `LEAD_IN_DAYS` rows just before `first` become the lead-in.

    Returns:
        rows [D] into `dates`, split [D], block [D] (numbered in the order of time).

    Raises:
        UsageError: no days in a span, too few days before it, or two blocks that share a row.
    """
    rows: list[IntArray] = []
    split: list[str] = []
    block: list[int] = []
    used_until = 0
    for number, span in enumerate(sorted(blocks, key=lambda b: b.first)):
        scored = np.flatnonzero((dates >= span.first) & (dates <= span.last))
        where = f"{span.split} block {span.first} to {span.last}"
        if scored.size == 0:
            raise UsageError(f"{where}: the data has no complete day in it; choose days that the data covers")
        start = int(scored[0]) - LEAD_IN_DAYS
        if start < used_until:
            raise UsageError(
                f"{where}: {int(scored[0]) - used_until} free complete days before it, {LEAD_IN_DAYS} are needed "
                "as lead-in; start the block later"
            )
        used_until = int(scored[-1]) + 1
        rows.append(np.arange(start, used_until, dtype=np.int64))
        split += [LEAD_IN] * LEAD_IN_DAYS + [span.split] * scored.size
        block += [number] * (LEAD_IN_DAYS + scored.size)
    if not rows:
        raise UsageError("splits: no block given; name at least one span of train days")
    return np.concatenate(rows), np.array(split, dtype="<U7"), np.array(block, dtype=np.int64)


def check_blocks(dates: DateArray, split: LabelArray, block: IntArray) -> None:
    """Check the rules of blocks; all arrays [D].

    Dates increase strictly from row to row; the rows of a block follow each other; each block starts with exactly
    `LEAD_IN_DAYS` lead-in rows, and the rest of it (at least one row) belongs to one split. So two blocks never share
    a day, and the scored days of different blocks are more than `LEAD_IN_DAYS` rows apart.

    Raises:
        UsageError: naming the row and its date.
    """
    steps = np.flatnonzero(np.diff(dates) <= np.timedelta64(0, "D"))
    if steps.size:
        row = int(steps[0]) + 1
        raise UsageError(
            f"dates: row {row} ({dates[row]}) does not come after row {row - 1} ({dates[row - 1]}); "
            "sort the days, each once"
        )
    unknown = np.flatnonzero(~np.isin(split, (*SPLITS, LEAD_IN)))
    if unknown.size:
        row = int(unknown[0])
        raise UsageError(
            f"split: row {row} ({dates[row]}) is {str(split[row])!r}; use one of {', '.join((*SPLITS, LEAD_IN))}"
        )
    starts = np.concatenate(([0], np.flatnonzero(np.diff(block)) + 1))
    ends = np.concatenate((starts[1:], [len(block)]))
    numbers = block[starts]
    if np.unique(numbers).size != numbers.size:
        repeated = next(k for k in range(numbers.size) if numbers[k] in numbers[:k])
        row = int(starts[repeated])
        raise UsageError(
            f"block: number {numbers[repeated]} comes back at row {row} ({dates[row]}); "
            "keep the rows of a block together"
        )
    for first, end in zip(starts.tolist(), ends.tolist(), strict=True):
        labels = split[first:end]
        what = f"block {block[first]} (row {first}, {dates[first]})"
        lead_in = int(np.argmax(labels != LEAD_IN)) if np.any(labels != LEAD_IN) else len(labels)
        if lead_in == len(labels):
            raise UsageError(f"{what}: it has lead-in days only; give it days of a split or leave it out")
        if lead_in != LEAD_IN_DAYS:
            raise UsageError(f"{what}: it starts with {lead_in} lead-in days; exactly {LEAD_IN_DAYS} are needed")
        mixed = np.flatnonzero(labels[lead_in:] != labels[lead_in])
        if mixed.size:
            row = first + lead_in + int(mixed[0])
            raise UsageError(
                f"{what}: row {row} ({dates[row]}) is {str(split[row])!r} in a block of {str(labels[lead_in])!r}; "
                "start a new block with its own lead-in"
            )
