"""Scores against values worked out by hand."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from prosumer_gym.leaderboard import protocol
from prosumer_gym.leaderboard.metrics import DayMetrics
from prosumer_gym.leaderboard.score import (
    PROFILE_THRESHOLDS,
    ImpossibleScoreError,
    Yardstick,
    by_episode,
    details,
    headline,
    normalised,
    score,
    scored_metrics,
    weekly,
)


def a(*values: object) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def days(num: int = 2, **given: np.ndarray) -> DayMetrics:
    """Days on which everything is zero but what is given."""
    shapes = {"cost_terms_ct": (num, 8), "cost_per_prosumer_ct": (num, 3)}
    zeros = {item.name: np.zeros(shapes.get(item.name, (num,))) for item in fields(DayMetrics)}
    return DayMetrics(**{**zeros, **given})


def yard(num: int = 2, **changes: object) -> Yardstick:
    """Reference: 100 and 300 ct, ratio 2 and 4, voltage 1 and 0; the oracle: half the cost, 1 less of the ratio."""
    given = {
        "reference": a([100, 300], [2, 4], [1, 0])[:, :num],
        "ideal": a([50, 150], [1, 3], [0, 0])[:, :num],
        "gap": np.zeros((3, num)),
        "week": np.zeros(num, dtype=np.int64),
        "reference_per_prosumer_ct": a([40, 40, 20], [100, 100, 100])[:num],
        "best_oracle_j": 0.9,
    }
    return Yardstick(**{**given, **changes})  # type: ignore[arg-type]


def test_weights_are_those_of_the_protocol() -> None:
    assert protocol.WEIGHTS == {"cost": 0.6, "peak": 0.2, "voltage": 0.2}
    assert protocol.BOOTSTRAP_DRAWS >= 10_000
    assert protocol.MIN_EPISODES == 8


def test_normalised_is_a_ratio_of_sums_and_not_a_mean_of_ratios() -> None:
    """Sums: (400 - 320) / (400 - 200) = .4; the mean of the days' ratios would be (1 + 1 / 5) / 2 = .6."""
    assert normalised(a(50, 270), a(100, 300), a(50, 150)) == pytest.approx(0.4)


def test_normalised_keeps_negatives_and_signed_costs() -> None:
    assert normalised(a(-10, 0), a(-20, 0), a(-40, 0)) == pytest.approx(-0.5)
    assert np.isnan(normalised(a(0), a(0), a(0)))


def test_headline_by_hand() -> None:
    assert headline({"cost": 0.5, "peak": 0.25, "voltage": 1.0}, a(0.6, 0.2, 0.2)) == pytest.approx(0.55)
    assert headline({"cost": 0.5, "peak": 0.25, "voltage": np.nan}, a(0.75, 0.25, 0)) == pytest.approx(0.4375)
    assert np.isnan(headline({"cost": 0.5, "peak": 0.25, "voltage": 1.0}, a(0, 0, 0)))


def test_score_by_hand() -> None:
    """S: (400 - 300) / 200 = .5, (6 - 5.5) / 2 = .25, (1 - .2) / 1 = .8."""
    runs = [days(cost_ct=a(60, 240), peak_ratio=a(2, 3.5), voltage_pu_h=a(0.2, 0))]
    found = score("p", runs, yard())
    assert found.s == pytest.approx({"cost": 0.5, "peak": 0.25, "voltage": 0.8})
    assert found.j == pytest.approx(0.6 * 0.5 + 0.2 * 0.25 + 0.2 * 0.8)
    assert found.j_interval is None
    assert all(value is None for value in found.s_interval.values())


def test_seeds_are_averaged() -> None:
    runs = [
        days(cost_ct=a(60, 240), peak_ratio=a(2, 3.5), voltage_pu_h=a(0.2, 0)),
        days(cost_ct=a(100, 300), peak_ratio=a(2, 4), voltage_pu_h=a(1, 0)),
    ]
    found = score("p", runs, yard())
    assert found.s == pytest.approx({"cost": 0.25, "peak": 0.125, "voltage": 0.4})


def test_reference_scores_zero_and_the_oracle_of_each_metric_one() -> None:
    y = yard()
    reference = days(cost_ct=y.reference[0], peak_ratio=y.reference[1], voltage_pu_h=y.reference[2])
    assert score("no-control", [reference], y).j == 0.0
    ideal = days(cost_ct=y.ideal[0], peak_ratio=y.ideal[1], voltage_pu_h=y.ideal[2])
    assert score("ideal", [ideal], y).j == pytest.approx(1.0)


def test_a_voltage_that_the_reference_keeps_is_left_out_and_the_other_weights_rescaled() -> None:
    y = yard()
    y = replace(y, reference=np.stack([y.reference[0], y.reference[1], a(0, 0)]))
    np.testing.assert_allclose(y.weight, [0.75, 0.25, 0.0])
    runs = [days(cost_ct=a(60, 240), peak_ratio=a(2, 3.5), voltage_pu_h=a(0.3, 0))]
    found = score("p", runs, y)
    assert np.isnan(found.s["voltage"])
    assert found.j == pytest.approx(0.75 * 0.5 + 0.25 * 0.25)


def test_nothing_to_improve_gives_no_score() -> None:
    y = yard()
    found = score(
        "p", [days(cost_ct=a(100, 300), peak_ratio=a(2, 4), voltage_pu_h=a(1, 0))], replace(y, ideal=y.reference)
    )
    assert np.isnan(found.j)


def test_beating_perfect_foresight_fails_the_run_and_names_policy_metric_and_day() -> None:
    better = days(cost_ct=a(60, 149), peak_ratio=a(2, 4), voltage_pu_h=a(1, 0))
    with pytest.raises(ImpossibleScoreError, match=r"greedy: on day 2 .* its cost_ct is 1 below"):
        score("greedy", [better], yard())


def test_beating_it_within_the_oracles_own_gap_is_fine() -> None:
    better = days(cost_ct=a(60, 149), peak_ratio=a(2, 4), voltage_pu_h=a(1, 0))
    score("greedy", [better], yard(gap=a([0, 1.5], [0, 0], [0, 0])))


def test_a_bad_day_does_not_hide_that_another_one_beat_the_oracle() -> None:
    mixed = days(cost_ct=a(200, 140), peak_ratio=a(2, 4), voltage_pu_h=a(1, 0))
    with pytest.raises(ImpossibleScoreError):
        score("p", [mixed], yard())


def test_fewer_than_eight_days_give_no_interval() -> None:
    def board(num: int) -> object:
        rng = np.random.default_rng(0)
        y = Yardstick(
            reference=np.full((3, num), 3.0), ideal=np.zeros((3, num)), gap=np.zeros((3, num)),
            week=np.arange(num) // 7, reference_per_prosumer_ct=np.ones((num, 3)), best_oracle_j=1.0,
        )  # fmt: skip
        values = {name: rng.uniform(1, 2, num) for name in ("cost_ct", "peak_ratio", "voltage_pu_h")}
        return score("p", [days(num, **values)], y).j_interval

    assert board(7) is None
    assert board(8) is not None


def test_scored_metrics_are_cost_peak_ratio_and_voltage() -> None:
    runs = [days(cost_ct=a(1, 2), peak_ratio=a(3, 4), voltage_pu_h=a(5, 6), peak_kw=a(9, 9), par=a(9, 9))]
    np.testing.assert_array_equal(scored_metrics(runs)[:, 0], [[1, 2], [3, 4], [5, 6]])


def test_profile_counts_days_at_or_above_each_threshold() -> None:
    """Day scores by hand: cost (100-60)/100=.4 and (300-240)/100=.6; peak 0 and .5; voltage .8/.5 = 1.6 and 0."""
    runs = [days(cost_ct=a(60, 240), peak_ratio=a(2, 3.5), voltage_pu_h=a(0.2, 0))]
    found = score("p", runs, yard())
    daily = a(0.6 * 0.4 + 0.2 * 1.6, 0.6 * 0.6 + 0.2 * 0.5)
    for threshold, share in zip(PROFILE_THRESHOLDS, found.profile, strict=True):
        assert share == np.mean(daily >= threshold)
    assert found.iqm == pytest.approx(daily.mean())
    assert found.worst_days == pytest.approx(daily.min())
    assert found.better_than_reference == 1.0


def test_details_by_hand() -> None:
    runs = [
        days(
            cost_ct=a(60, 240),
            cost_per_prosumer_ct=a([20, 30, 10], [90, 100, 50]),
            peak_kw=a(10, 30),
            peak_ratio=a(2, 3.5),
            par=a(np.nan, 3),
            par_feeder=a(1.5, 2.5),
            voltage_pu_h=a(0.2, 0.1),
            violated_share=a(0.01, 0.03),
            worst_excess_pu=a(0.004, 0.002),
            losses_kwh=a(5, 7),
            non_converged=a(1, 2),
            demand_kwh=a(100, 300),
            import_kwh=a(60, 240),
            export_kwh=a(10, 0),
            pv_kwh=a(50, 50),
            curtailed_kwh=a(0, 5),
            p2p_kwh=a(4, 6),
            p2p_relayed_kwh=a(0, 1),
            battery_kwh=a(8, 12),
            shifted_kwh=a(1, 3),
            overload_events=a(2, 0),
            overload_kwh=a(5, 0),
        )
    ]
    found = {item.name: item.value for item in details(runs, yard())}
    assert found == pytest.approx(
        {
            "cost": 150.0,
            "peak": 20.0,
            "peak ratio": 2.75,
            "PAR": 3.0,
            "PAR undefined": 1.0,
            "PAR at the substation": 2.0,
            "voltage": 0.15,
            "bus-hours outside": 2.0,
            "worst voltage excess": 0.004,
            "losses": 6.0,
            "no power flow": 3.0,
            "self-consumption": 100.0 * (100 - 15) / 100,
            "self-sufficiency": 25.0,
            "curtailed": 2.5,
            "traded": 5.0,
            "passed on": 0.5,
            "battery throughput": 10.0,
            "shifted": 2.0,
            "overloads": 1.0,
            "overload energy": 2.5,
            "least saving": 10 / 2,  # reference 140, 140, 120 against 110, 130, 60
            "prosumers who lose": 0.0,
            "Jain index of savings": (30 + 10 + 60) ** 2 / (3 * (900 + 100 + 3600)),
        }
    )


def test_prosumers_who_pay_more_than_under_no_control_are_counted() -> None:
    runs = [days(cost_per_prosumer_ct=a([45, 40, 0], [100, 110, 100]))]
    found = {item.name: item.value for item in details(runs, yard())}
    assert found["prosumers who lose"] == 2.0
    assert found["least saving"] == pytest.approx(-5.0)


# episodes of several days -----------------------------------------------------------------------------------------


def episodes(**changes: object) -> Yardstick:
    """Two episodes of two days. Reference 100, 300, 50, 150 ct; the oracle 300 and 100 ct; ratio 2 a day, at best 3."""
    given = {
        "reference": a([100, 300, 50, 150], [2, 2, 2, 2], [1, 0, 0, 1]),
        "ideal": a([300, 100], [3, 3], [0, 0]),
        "gap": np.zeros((3, 2)),
        "week": np.array([0, 0, 1, 1]),
        "reference_per_prosumer_ct": np.ones((4, 3)),
        "best_oracle_j": 0.9,
    }
    return Yardstick(**{**given, **changes})  # type: ignore[arg-type]


def four_days(*cost_ct: float, ratio: float = 2.0) -> DayMetrics:
    return days(4, cost_ct=a(*cost_ct), peak_ratio=np.full(4, ratio), voltage_pu_h=a(1, 0, 0, 0))


def test_figures_of_days_are_added_within_an_episode() -> None:
    np.testing.assert_array_equal(by_episode(a([1, 2, 3, 10], [0, 0, -1, 1]), 2), [[3, 13], [0, 0]])
    np.testing.assert_array_equal(by_episode(a(1, 2, 3), 1), [1, 2, 3])
    np.testing.assert_array_equal(by_episode(a(1, 2, 3), 3), [6])


def test_an_episodes_score_by_hand() -> None:
    """S: (600 - 500) / (600 - 400) = .5, (8 - 7) / (8 - 6) = .5, (2 - 1) / 2 = .5; a policy may be dearer on a day."""
    y = episodes()
    assert (y.num_days, y.num_episodes, y.days_per_episode) == (4, 2, 2)
    np.testing.assert_allclose(y.room, [200, 2, 2])
    found = score("p", [four_days(180, 140, 120, 60, ratio=1.75)], y)
    assert found.s == pytest.approx({"cost": 0.5, "peak": 0.5, "voltage": 0.5})
    assert found.j == pytest.approx(0.5)
    # shares of the days: gain over a quarter of the room
    cost = a(-80, 160, -70, 90) / 50
    daily = 0.6 * cost + 0.2 * 0.25 / 0.5 + 0.2 * a(0, 0, 0, 1) / 0.5
    assert daily.mean() == pytest.approx(found.j)
    assert found.worst_days == pytest.approx(daily.min())
    assert found.better_than_reference == 0.5


def test_perfect_foresight_may_be_beaten_on_a_day_but_not_over_an_episode() -> None:
    score("p", [four_days(10, 290, 99, 1)], episodes())
    with pytest.raises(ImpossibleScoreError, match=r"greedy: in episode 2 of the board its cost_ct is 1 below"):
        score("greedy", [four_days(100, 300, 50, 49)], episodes())
    score("p", [four_days(100, 300, 50, 49)], episodes(gap=a([0, 1.5], [0, 0], [0, 0])))
    with pytest.raises(ImpossibleScoreError, match=r"in episode 1 .* its peak_ratio is 0\.4 below"):
        score("p", [replace(four_days(100, 300, 50, 150), peak_ratio=a(2.6, 0, 2, 2))], episodes())


def test_the_tolerance_is_a_share_of_the_mean_room_of_an_episode() -> None:
    """1e-4 of 200 / 2 ct."""
    score("p", [four_days(100, 300, 50, 50 - 0.0099)], episodes())
    with pytest.raises(ImpossibleScoreError):
        score("p", [four_days(100, 300, 50, 50 - 0.0101)], episodes())


def test_what_is_drawn_is_whole_episodes() -> None:
    sums = weekly("p", [four_days(180, 140, 120, 60)], episodes())
    np.testing.assert_array_equal(sums.policy[0, 0], [320, 180])
    np.testing.assert_array_equal(sums.reference[0], [400, 200])
    np.testing.assert_array_equal(sums.ideal[0], [300, 100])
    assert sums.num_episodes == 2


def test_eight_episodes_give_an_interval_and_seven_none_however_many_days_they_have() -> None:
    rng = np.random.default_rng(0)
    for num, expected in ((7, False), (8, True)):
        y = Yardstick(
            reference=np.full((3, 4 * num), 3.0), ideal=np.zeros((3, num)), gap=np.zeros((3, num)),
            week=np.repeat(np.arange(num), 4), reference_per_prosumer_ct=np.ones((4 * num, 3)), best_oracle_j=1.0,
        )  # fmt: skip
        values = {name: rng.uniform(1, 2, 4 * num) for name in ("cost_ct", "peak_ratio", "voltage_pu_h")}
        assert (score("p", [days(4 * num, **values)], y).j_interval is not None) == expected
