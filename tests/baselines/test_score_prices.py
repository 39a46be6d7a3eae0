"""Prices from the score: by hand, and from days as the scorer sees them.

Axes: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support_policies import small_community, small_days

from prosumer_gym.baselines.score_prices import SHARES, DayGap, ScorePrices, day_gaps, score_prices
from prosumer_gym.feeders import ieee33
from prosumer_gym.leaderboard.anchors import anchor_episode
from prosumer_gym.leaderboard.metrics import day_metrics
from prosumer_gym.leaderboard.protocol import WEIGHTS
from prosumer_gym.rollout import rollout

DAYS = [
    DayGap(reference_ct=900.0, ideal_ct=500.0, reference_peak=1.2, ideal_peak=0.4, reference_pu_h=0.03),
    DayGap(reference_ct=700.0, ideal_ct=500.0, reference_peak=1.0, ideal_peak=0.6, reference_pu_h=0.01),
]


def test_by_hand() -> None:
    # 600 ct between reference and ideal; 1.2 of peak ratio, 0.04 p.u. h; a third as important as cost
    assert score_prices(DAYS) == pytest.approx(ScorePrices(600.0 / 3.0 / 1.2, 600.0 / 3.0 / 0.04))


def test_shares_are_those_of_the_protocol() -> None:
    assert SHARES == WEIGHTS


def test_cost_at_these_prices_tells_what_the_score_tells() -> None:
    """Of two courses of some days the one with the lower cost at these prices has the higher J, by just that much."""
    total = DayGap(*np.sum(DAYS, axis=0))
    prices, rng = score_prices(DAYS), np.random.default_rng(0)
    reference = np.array([total.reference_ct, total.reference_peak, total.reference_pu_h])
    ideal = np.array([total.ideal_ct, total.ideal_peak, 0.0])
    courses = reference - rng.uniform(-0.2, 1.0, (20, 3)) * (reference - ideal)
    j = ((reference - courses) / (reference - ideal)) @ np.array(list(WEIGHTS.values()))
    priced = courses @ np.array([1.0, *prices])
    per_ct = WEIGHTS["cost"] / (total.reference_ct - total.ideal_ct)
    np.testing.assert_allclose(np.diff(j), -per_ct * np.diff(priced), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "peak", "voltage"),
    [
        ({"reference_pu_h": 0.0}, 1.0, 0.0),  # no violation without control: voltages score nothing
        ({"reference_peak": 0.5, "ideal_peak": 0.5}, 0.0, 1.0),
        ({"reference_ct": 500.0}, 0.0, 0.0),  # nothing to be saved: no money that anything is worth
    ],
)
def test_a_metric_that_scores_nothing_has_no_price(change: dict[str, float], peak: float, voltage: float) -> None:
    prices = score_prices([replace_day(day, change) for day in DAYS])
    assert (prices.peak_ct > 0, prices.voltage_ct_per_pu_h > 0) == (peak > 0, voltage > 0)
    assert min(prices) >= 0


def replace_day(day: DayGap, change: dict[str, float]) -> DayGap:
    return day._replace(**change)


@pytest.mark.parametrize("units", [1, 100_000])  # the second beyond what the feeder can carry
def test_the_days_stand_where_the_scorer_sees_them(units: int) -> None:
    community, history = small_community(), small_days().training_history()
    feeder = ieee33().replace(v_min_pu=0.985)  # so that there is something to violate
    fleet = replace(community.fleet, units=np.full(len(community.fleet), units))
    community = community.replace(feeder=feeder, fleet=fleet)
    rows = np.flatnonzero(history.is_training)[::12]
    gaps = day_gaps(community, history, rows)
    for row, gap in zip(rows.tolist(), gaps, strict=True):
        for name, cost_ct, peak in (
            ("no-control", gap.reference_ct, gap.reference_peak), ("oracle-cost", gap.ideal_ct, None),
            ("oracle-peak", None, gap.ideal_peak),
        ):  # fmt: skip
            actions = anchor_episode(name, community, history, np.array([row])).actions
            trace = rollout(community, history.exogenous, np.array([row]), actions)
            seen = day_metrics(community, history.exogenous, np.array([row]), trace)
            if cost_ct is not None:
                assert cost_ct == pytest.approx(float(seen.cost_ct[0]), rel=1e-6)
            if peak is not None:
                assert peak == pytest.approx(float(seen.peak_ratio[0]), rel=1e-5, abs=1e-6)
            if name == "no-control":
                assert gap.reference_pu_h > 0.0
                assert bool(np.all(trace.converged)) == (units == 1)
                assert gap.reference_pu_h == pytest.approx(float(seen.voltage_pu_h[0]), rel=1e-9)
