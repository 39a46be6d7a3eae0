from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support_leakage import assert_no_leak

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import observation


class Sensitive:
    """Its action depends on every number of the observation."""

    def fit(self, community: Community, history: Dataset) -> None:
        self.community = community
        assert set(history.split) == {"train", "lead-in"}

    def reset(self, seed: int) -> None:
        self.memory = float(seed)

    def act(self, obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        weights = np.random.default_rng(7)
        for values in obs.values():
            self.memory = float(np.sin(self.memory + weights.normal(size=values.shape).ravel() @ values.ravel()))
        num, edges, hours = self.community.num_prosumers, self.community.num_edges, self.community.hours_per_day
        shapes = {"day_ahead": (num, hours), "battery": num, "shiftable": num, "curtail": num, "trade": 2 * edges}
        return {name: np.full(shape, self.memory) for name, shape in shapes.items()}


class NeverForgets(Sensitive):
    """Carries what it saw in one episode into the next."""

    memory = 0.0

    def reset(self, seed: int) -> None:
        pass


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_after_an_hour_is_seen_up_to_it(days: Dataset, community: Community, split: str) -> None:
    assert_no_leak(Sensitive, days, community, split=split, hours=range(24))


def test_the_probe_finds_memory_across_episodes(days: Dataset, community: Community) -> None:
    with pytest.raises(AssertionError, match="depends on what comes later"):
        assert_no_leak(NeverForgets, days, community)


def test_the_probe_finds_an_hour_revealed_too_early(
    days: Dataset, community: Community, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = observation._reveal_hour

    def early(lanes: Any, at_gate: Any, day: Any, hour: Any, *rest: Any) -> None:
        honest(lanes, at_gate, day, hour, *rest)
        honest(lanes, at_gate, day, hour + 1, *rest)

    monkeypatch.setattr(observation, "_reveal_hour", early)
    with pytest.raises(AssertionError, match=r"hour 11: observation\['observed'\]|hour 11: observation\['load_kw'\]"):
        assert_no_leak(Sensitive, days, community, hours=[11])


def test_the_probe_finds_today_among_the_past_days(
    days: Dataset, community: Community, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = observation._open_day

    def shifted(lanes: Any, day: Any, back: Any, *rest: Any) -> None:
        honest(lanes, day, back, *rest)
        sources, targets = rest[0], rest[1]
        for source, target, span in zip(sources, targets, back, strict=True):
            if span == 8:  # the last of the past days becomes today
                target[0, 7 * source.shape[1] :] = source[day[0]]

    monkeypatch.setattr(observation, "_open_day", shifted)
    with pytest.raises(AssertionError, match=r"day-ahead step: observation\['past_"):
        assert_no_leak(Sensitive, days, community, hours=[])
