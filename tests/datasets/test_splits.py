"""Blocks of days and their lead-in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prosumer_gym.datasets.splits import LEAD_IN_DAYS, Block, check_blocks, cut_blocks
from prosumer_gym.errors import UsageError

DATES = np.datetime64("2021-01-01") + np.arange(120)


def block(split: str, first: int, last: int) -> Block:
    return Block(split, DATES[first], DATES[last])


def test_the_lead_in_is_the_rows_just_before() -> None:
    present = np.delete(DATES, [5, 30])  # two days were dropped
    rows, split, number = cut_blocks(present, [block("test", 60, 69), block("train", 10, 39)])
    assert [str(date) for date in present[rows[:LEAD_IN_DAYS]]] == [str(DATES[k]) for k in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert split.tolist() == ["lead-in"] * 8 + ["train"] * 29 + ["lead-in"] * 8 + ["test"] * 10
    assert number.tolist() == [0] * 37 + [1] * 18
    check_blocks(present[rows], split, number)


@given(st.lists(st.integers(1, 12), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_whatever_is_cut_keeps_the_rules(lengths: list[int], random) -> None:
    spans, start = [], 0
    for length in lengths:
        start += LEAD_IN_DAYS + random.randint(0, 3)
        if start + length > len(DATES):
            break
        spans.append(block(random.choice(["train", "dev", "test"]), start, start + length - 1))
        start += length
    random.shuffle(spans)
    rows, split, number = cut_blocks(DATES, spans)
    check_blocks(DATES[rows], split, number)
    assert len(set(rows.tolist())) == len(rows)
    assert (split != "lead-in").sum() == sum((s.last - s.first).astype(int) + 1 for s in spans)


@pytest.mark.parametrize(
    ("spans", "named"),
    [
        ([block("train", 7, 20)], "7 free complete days before it, 8 are needed"),
        ([block("train", 10, 20), block("test", 28, 30)], "7 free complete days"),
        ([block("train", 10, 20), block("test", 20, 30)], "-1 free complete days"),
        ([Block("dev", np.datetime64("2030-01-01"), np.datetime64("2030-02-01"))], "no complete day"),
        ([], "no block given"),
    ],
)
def test_blocks_that_cannot_be_cut(spans: list[Block], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        cut_blocks(DATES, spans)
