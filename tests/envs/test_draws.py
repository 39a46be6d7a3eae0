"""Days drawn for many lanes at once are those that each lane's own generator draws."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils import seeding

from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import TwoStageEnv, TwoStageVectorEnv
from prosumer_gym.envs.draws import DayDraws


def own_draws(days: np.ndarray, seed: int, num: int) -> list[int]:
    """The first `num` days of a lane, said plainly: shuffled rounds, one after the other."""
    rng = seeding.np_random(seed)[0]
    rows: list[int] = []
    while len(rows) < num:
        rows += rng.permutation(days).tolist()
    return rows[:num]


@pytest.mark.parametrize("num_days", [1, 7, 300])
def test_each_lane_draws_as_if_it_were_alone(num_days: int) -> None:
    days = 11 + 3 * np.arange(num_days)
    draws = DayDraws(days, 6)
    rngs = [seeding.np_random(20 + lane)[0] for lane in range(6)]
    told: list[list[int]] = [[] for _ in range(6)]
    choose = np.random.default_rng(0)
    for _ in range(40):
        lanes = np.flatnonzero(choose.random(6) < 0.6)
        for lane, row in zip(lanes.tolist(), draws.draw(lanes, rngs.__getitem__).tolist(), strict=True):
            told[lane].append(row)
    for lane, rows in enumerate(told):
        assert rows == own_draws(days, 20 + lane, len(rows))


def test_a_new_seed_begins_a_new_round_in_its_lane_only(days: Dataset) -> None:
    batch = TwoStageVectorEnv(3, days)
    first = days.days("train")
    told = [batch.reset(seed=4)[1]["day"]] + [batch.reset()[1]["day"] for _ in range(4)]
    assert np.array_equal(np.transpose(told), [own_draws(first, 4 + lane, 5) for lane in range(3)])
    again = batch.reset(seed=[None, 9, None])[1]["day"].tolist()
    expected = [own_draws(first, 4, 6)[5], own_draws(first, 9, 1)[0], own_draws(first, 6, 6)[5]]
    assert again == expected
    single = TwoStageEnv(days)
    assert [single.reset(seed=5 if k == 0 else None)[1]["day"] for k in range(60)] == own_draws(first, 5, 60)


def test_only_a_round_that_is_over_asks_for_a_generator() -> None:
    asked = []

    def generator_of(lane: int) -> np.random.Generator:
        asked.append(lane)
        return np.random.default_rng(lane)

    draws, lanes = DayDraws(np.arange(5), 1000), np.arange(1000)
    for _ in range(5):
        draws.draw(lanes, generator_of)
    assert asked == lanes.tolist()
    draws.draw(lanes[:2], generator_of)
    assert asked[1000:] == [0, 1]
