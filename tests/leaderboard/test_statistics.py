"""Intervals that cover, draws that can be repeated, and the figures behind a mean."""

from __future__ import annotations

import time

import numpy as np
import pytest

from prosumer_gym.leaderboard import statistics as st
from prosumer_gym.leaderboard.protocol import METRICS, WEIGHTS

WEIGHT = np.array([WEIGHTS[name] for name in METRICS])


def study(rng: np.random.Generator, num_weeks: int, num_seeds: int = 1, name: str = "p") -> st.Weekly:
    """A policy whose skill follows the week's weather; the last week is one day short, as in a summer of 90 days."""
    num_days = 7 * num_weeks - 1
    week = np.arange(num_days) // 7
    spell = rng.normal(size=num_weeks)[week]
    weather = spell + 0.7 * rng.normal(size=num_days)
    reference = np.stack(
        [
            1000 + 150 * weather,
            2 + 0.2 * rng.normal(size=num_days),
            rng.gamma(0.5, 1, size=num_days) * np.exp(0.6 * weather),
        ]
    )
    ideal = np.stack([600 + 100 * weather, np.ones(num_days), np.zeros(num_days)])
    seed_skill = 0.05 * rng.normal(size=num_seeds) if num_seeds > 1 else np.zeros(1)
    skill = 0.5 + seed_skill[:, None] + 0.15 * spell + 0.1 * rng.normal(size=(3, num_seeds, num_days))
    policy = reference[:, None] - skill * (reference - ideal)[:, None]
    sums = (st.weekly_sums(values, week) for values in (policy, reference, ideal))
    return st.Weekly(*sums, weight=WEIGHT, name=name, num_episodes=num_days)


def plain_j(sums: st.Weekly, weeks: np.ndarray | None = None) -> float:
    """J of given multiplicities of weeks, by the plain formula."""
    weeks = np.ones(sums.reference.shape[1]) if weeks is None else weeks
    policy = (sums.policy.mean(axis=1) * weeks).sum(axis=1)
    reference, ideal = (sums.reference * weeks).sum(axis=1), (sums.ideal * weeks).sum(axis=1)
    return float((sums.weight * (reference - policy) / (reference - ideal)).sum())


@pytest.mark.parametrize(("num_weeks", "num_seeds"), [(13, 1), (13, 5), (4, 1)])
def test_intervals_cover_the_truth(num_weeks: int, num_seeds: int) -> None:
    """Of 300 studies 95 % should cover; three standard deviations of that count are 11."""
    rng = np.random.default_rng(7)
    large = study(np.random.default_rng(8), 100_000)
    truth = plain_j(large)
    covered = 0
    for _ in range(300):
        interval = st.score_interval(study(rng, num_weeks, num_seeds), draws=1000)
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert 0.91 * 300 <= covered <= 0.99 * 300


def test_plain_percentiles_would_cover_less() -> None:
    """Why the draws are studentised: the same studies, with quantiles of the drawn scores themselves."""
    rng = np.random.default_rng(7)
    truth = plain_j(study(np.random.default_rng(8), 100_000))
    covered = {"studentised": 0, "percentile": 0}
    for _ in range(300):
        sums = study(rng, 8)
        interval = st.score_interval(sums, draws=1000)
        assert interval is not None
        covered["studentised"] += interval.low <= truth <= interval.high
        weeks = rng.multinomial(8, np.full(8, 1 / 8), size=1000).astype(float)
        low, high = np.quantile(st._draws(sums, weeks, np.ones((1000, 1))).value, [0.025, 0.975])
        covered["percentile"] += low <= truth <= high
    assert covered["percentile"] < covered["studentised"] - 9


def test_draws_are_those_of_the_plain_formula() -> None:
    rng = np.random.default_rng(3)
    sums = study(rng, 9, 3)
    weeks = rng.multinomial(9, np.full(9, 1 / 9), size=20).astype(float)
    found = st._draws(sums, weeks, np.ones((20, 3))).value
    np.testing.assert_allclose(found, [plain_j(sums, drawn) for drawn in weeks])


def test_standard_error_is_that_of_the_jackknife() -> None:
    """Linearised and leave-one-week-out errors agree to first order."""
    sums = study(np.random.default_rng(5), 40)
    weeks = np.ones((1, 40))
    _, error = st._value_and_error([(1.0, sums)], weeks, [np.ones((1, 1))])
    left_out = [plain_j(sums, np.ones(40) - np.eye(40)[w]) for w in range(40)]
    jackknife = np.sqrt(39 / 40 * np.square(left_out - np.mean(left_out)).sum())
    assert error[0] == pytest.approx(jackknife, rel=0.05)


def even_weeks(gain: np.ndarray) -> st.Weekly:
    """One metric, the same room every week: J is the plain mean of the weeks' gains."""
    reference = np.ones((3, len(gain)))
    return st.Weekly((reference - gain)[:, None], reference, 0 * reference, np.array([1.0, 0, 0]), "p", 7 * len(gain))


def test_standard_error_over_weeks_is_that_of_a_mean() -> None:
    gain = np.array([0.1, 0.4, 0.2, 0.6, 0.3, 0.9])
    value, error = st._value_and_error([(1.0, even_weeks(gain))], np.ones((1, 6)), [np.ones((1, 1))])
    assert value[0] == pytest.approx(gain.mean())
    assert error[0] == pytest.approx(np.std(gain, ddof=1) / np.sqrt(6))


def test_the_interval_is_the_bootstrap_t_of_the_textbook() -> None:
    """On skewed gains, week by week in plain loops: the long tail of the draws belongs to the other side."""
    gain = np.random.default_rng(3).lognormal(0.0, 1.2, 13) / 10.0
    mean, error = gain.mean(), np.std(gain, ddof=1) / np.sqrt(13)
    pivots = []
    for counts in st._week_draws(13, 2000).astype(int):
        drawn = np.repeat(gain, counts)
        pivots.append((drawn.mean() - mean) / (np.std(drawn, ddof=1) / np.sqrt(13)))
    low, high = np.quantile(pivots, [0.025, 0.975])
    found = st.score_interval(even_weeks(gain), draws=2000)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((mean - high * error, mean - low * error))
    assert found.high - mean > 1.5 * (mean - found.low)


def test_standard_error_over_seeds_is_that_of_a_mean() -> None:
    """All weeks alike: only the seeds differ, and J is linear in them."""
    weeks, seeds = 10, 5
    policy = np.broadcast_to(np.array([0.1, 0.4, 0.2, 0.6, 0.3])[None, :, None], (3, seeds, weeks))
    sums = st.Weekly(policy, np.ones((3, weeks)), np.zeros((3, weeks)), WEIGHT, "p", 7 * weeks)
    _, error = st._value_and_error([(1.0, sums)], np.ones((1, weeks)), [np.ones((1, seeds))])
    assert error[0] == pytest.approx(np.std([0.1, 0.4, 0.2, 0.6, 0.3], ddof=1) / np.sqrt(seeds))


def test_the_same_study_gives_the_same_interval_and_the_global_generator_is_not_touched() -> None:
    sums = study(np.random.default_rng(1), 13, 5)
    np.random.seed(0)  # noqa: NPY002 - to see that nobody reads it
    first = st.score_interval(sums)
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert st.score_interval(sums) == first
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_another_protocol_version_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = study(np.random.default_rng(1), 13)
    first = st.score_interval(sums)
    monkeypatch.setattr(st, "protocol_seed", lambda: 42)
    assert st.score_interval(sums) != first


def test_weeks_stay_together() -> None:
    """Days that repeat within their week carry no more information than the week: its interval is the wider one."""
    rng = np.random.default_rng(2)
    num_weeks = 13
    skill = rng.normal(0.5, 0.2, num_weeks).repeat(7)
    reference = np.ones((3, 7 * num_weeks))
    policy = reference[:, None] - skill

    def width(week: np.ndarray) -> float:
        sums = st.Weekly(
            st.weekly_sums(policy, week), st.weekly_sums(reference, week), st.weekly_sums(0 * reference, week),
            WEIGHT, "p", len(week),
        )  # fmt: skip
        interval = st.score_interval(sums)
        assert interval is not None
        return interval.high - interval.low

    ratio = width(np.arange(7 * num_weeks) // 7) / width(np.arange(7 * num_weeks))
    assert 2.2 < ratio < 3.5  # sqrt(7) = 2.6


def test_a_policy_differs_from_itself_by_exactly_nothing() -> None:
    for seeds in (1, 5):
        sums = study(np.random.default_rng(4), 13, seeds)
        value, interval = st.paired_difference(sums, sums)
        assert value == 0.0
        assert interval is not None
        assert (interval.low, interval.high) == (0.0, 0.0)


def test_pairing_removes_the_weather_that_two_policies_share() -> None:
    """The second policy is the first one, 2 % worse everywhere: the difference is far surer than either score."""
    first = study(np.random.default_rng(4), 13)
    worse = first.policy + 0.02 * (first.reference - first.ideal)[:, None]
    second = st.Weekly(worse, first.reference, first.ideal, WEIGHT, "q", first.num_episodes)
    value, interval = st.paired_difference(first, second)
    alone = st.score_interval(first)
    assert value == pytest.approx(0.02)
    assert interval is not None
    assert alone is not None
    assert interval.low == pytest.approx(0.02)
    assert interval.high == pytest.approx(0.02)
    assert alone.high - alone.low > 0.02


def test_seeds_of_two_policies_are_drawn_apart_and_of_one_policy_together() -> None:
    sums = study(np.random.default_rng(4), 13, 5, "p")
    other = study(np.random.default_rng(4), 13, 5, "q")
    assert not np.array_equal(st._seed_draws(sums, 50), st._seed_draws(other, 50))
    np.testing.assert_array_equal(st._seed_draws(sums, 50), st._seed_draws(sums, 50))


def test_few_weeks_give_a_wide_interval_that_says_how_it_came_about() -> None:
    two = st.score_interval(study(np.random.default_rng(4), 2))
    many = st.score_interval(study(np.random.default_rng(4), 13))
    assert two is not None
    assert many is not None
    assert two.method == "Student t"
    assert many.method == "studentised bootstrap"
    assert two.high - two.low > 2.0 * (many.high - many.low)


@pytest.mark.parametrize(("num_weeks", "with_room"), [(7, 1), (13, 1), (13, 4), (13, 6), (13, 7), (40, 6)])
def test_a_metric_with_room_in_few_weeks_gives_a_finite_interval(num_weeks: int, with_room: int) -> None:
    """A draw of weeks may hold none of those in which the reference violates anything: it has no score."""
    sums = study(np.random.default_rng(11), num_weeks)
    for array in (sums.policy, sums.reference, sums.ideal):
        array[2, ..., with_room:] = 0.0
    interval = st.score_interval(sums)
    assert interval is not None
    value = st._draws(sums, *st._once(sums)).value[0]
    assert -10.0 < interval.low < value < interval.high < 10.0
    assert interval.method == ("studentised bootstrap" if with_room >= 6 else "Student t")
    difference, apart = st.paired_difference(sums, even_weeks(np.linspace(0.1, 0.3, num_weeks)))
    assert apart is not None
    assert np.isfinite([difference, apart.low, apart.high]).all()


def test_one_week_or_fewer_than_eight_days_give_none() -> None:
    sums = study(np.random.default_rng(4), 2)
    assert st.score_interval(st.Weekly(sums.policy, sums.reference, sums.ideal, WEIGHT, "p", 7)) is None
    assert st.score_interval(study(np.random.default_rng(4), 1)) is None
    assert st.score_interval(sums.with_weight(0 * WEIGHT)) is None


def test_ten_thousand_draws_take_milliseconds() -> None:
    sums = study(np.random.default_rng(4), 13, 5)
    st.score_interval(sums)
    started = time.perf_counter()
    st.score_interval(sums)
    assert time.perf_counter() - started < 1.0


# weeks ------------------------------------------------------------------------------------------------------------


def test_weeks_count_from_the_first_day_of_each_block_and_never_reach_over_two() -> None:
    dates = np.array(["2023-06-22", "2023-06-28", "2023-06-29", "2023-07-05", "2023-07-06", "2023-09-01", "2023-09-08"])
    block = np.array([2, 2, 2, 2, 2, 5, 5])
    np.testing.assert_array_equal(st.week_blocks(dates.astype("datetime64[D]"), block), [0, 0, 1, 1, 2, 3, 4])


def test_ninety_days_are_thirteen_weeks() -> None:
    dates = np.datetime64("2023-06-22") + np.arange(90)
    week = st.week_blocks(dates, np.zeros(90, dtype=np.int64))
    assert week.max() + 1 == 13
    np.testing.assert_array_equal(np.bincount(week), [7] * 12 + [6])


def test_weekly_sums() -> None:
    np.testing.assert_array_equal(
        st.weekly_sums(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), np.array([0, 0, 1, 0])), [[7, 3], [19, 7]]
    )


def test_episodes_of_a_week_or_more_are_blocks_of_their_own_and_shorter_ones_share_that_in_which_they_begin() -> None:
    dates = np.datetime64("2023-06-22") + np.arange(90)
    for length in (7, 8, 30):
        first = dates[::length]
        np.testing.assert_array_equal(
            st.week_blocks(first, np.zeros(len(first), dtype=np.int64)), np.arange(len(first))
        )
    weeks = st.week_blocks(dates[::5], np.zeros(18, dtype=np.int64))
    np.testing.assert_array_equal(weeks[:6], [0, 0, 1, 2, 2, 3])


# behind the mean --------------------------------------------------------------------------------------------------


def test_day_scores_average_to_the_score() -> None:
    rng = np.random.default_rng(0)
    reference = rng.uniform(5, 9, (3, 20))
    ideal = rng.uniform(0, 2, (3, 20))
    policy = rng.uniform(2, 7, (3, 4, 20))
    daily = st.day_scores(policy, reference, (reference - ideal).mean(axis=1), WEIGHT)
    assert daily.shape == (4, 20)
    s = (reference.sum(axis=1) - policy.mean(axis=1).sum(axis=1)) / (reference - ideal).sum(axis=1)
    assert daily.mean() == pytest.approx(WEIGHT @ s)


def test_day_scores_by_hand() -> None:
    """One metric: rooms 4 and 0, mean 2; gains 1 and -2."""
    weight = np.array([1.0, 0, 0])
    policy, reference = np.zeros((3, 1, 2)), np.zeros((3, 2))
    reference[0], policy[0, 0] = [6, 3], [5, 5]
    np.testing.assert_allclose(st.day_scores(policy, reference, np.array([2.0, 0, 0]), weight), [[0.5, -1.0]])


def test_interquartile_mean_by_hand() -> None:
    assert st.iqm(np.array([100.0, 3, 1, 2, 4, 5, 6, -50])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert st.iqm(np.array([[1.0, 2], [3, 40]])) == pytest.approx(2.5)
    assert st.iqm(np.array([7.0])) == 7.0


def test_worst_days_by_hand() -> None:
    """5 % of 30 days are one and a half: the worst day and half the second."""
    scores = np.arange(30.0)[::-1]
    assert st.worst_days(scores) == pytest.approx((0 + 0.5 * 1) / 1.5)
    assert st.worst_days(np.array([3.0, 1, 2])) == pytest.approx(1.0)


def test_better_than_reference_counts_ties_half() -> None:
    assert st.better_than_reference(np.array([1.0, -1, 0, 2])) == pytest.approx(2.5 / 4)


def test_performance_profile_by_hand() -> None:
    found = st.performance_profile(np.array([[0.1, 0.5], [0.5, 0.9]]), np.array([0.0, 0.5, 0.6, 1.0]))
    np.testing.assert_allclose(found, [1.0, 0.75, 0.25, 0.0])
