"""What is seen, earned and told up to an hour does not depend on what comes later, for every id."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract_cases import (
    CASES,
    SHORT_HOURS,
    Case,
    assert_same,
    random_action,
    sensitive_planner,
    short_days,
)
from support_leakage import with_another_future

from prosumer_gym.datasets.schema import Dataset

SHORT = short_days()
DAYS = 2


def played(case: Case, dataset: Dataset, row: int) -> list[Any]:
    """What is handed out in an episode of two days from `row` on, at the same actions whatever is seen."""
    planner = {"planner": sensitive_planner} if case.name == "RealTime" else {}
    env = case.make(dataset, SHORT["scenario"], split="train", days_per_episode=DAYS, **planner)
    rng = np.random.default_rng(0)
    first = (env.reset(options={"day": row})[0],)
    steps = [env.step(random_action(env.action_space, rng)) for _ in range(case.steps_of(DAYS, SHORT_HOURS))]
    return [first, *steps]


@pytest.mark.parametrize("case", [case for case in CASES if case.mechanism in (None, "bilateral")], ids=str)
def test_the_future_does_not_matter(case: Case) -> None:
    dataset, steps_of_day = SHORT["dataset"], case.steps_of(1, SHORT_HOURS)
    row = int(dataset.days("train")[1])
    truth = played(case, dataset, row)
    for day in range(DAYS):
        for hour in range(-1, SHORT_HOURS if steps_of_day > 1 else 0):
            told = played(case, with_another_future(dataset, row + day, hour), row)
            # the observation in which this hour (or the gate) is known; the step that it leads to plays this hour
            known = day * steps_of_day + (hour + steps_of_day - SHORT_HOURS if steps_of_day > 1 else 0)
            where = f"day {day}, hour {hour}"
            assert_same([step[0] for step in told[: known + 1]], [step[0] for step in truth[: known + 1]], where)
            ends = known + 1 if steps_of_day > 1 else known  # DayAhead plays in one step all that comes
            assert_same([s[1:] for s in told[1 : ends + 1]], [s[1:] for s in truth[1 : ends + 1]], where)
            if ends + 1 < len(truth):  # the probe itself: what comes later is another world
                with pytest.raises(AssertionError):
                    assert_same(told[ends + 1], truth[ends + 1])
