from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor
from support import tiny_dataset
from support_leakage import with_another_future
from support_policies import small_community, small_days

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.context import Context, knows_of
from prosumer_gym.baselines.day_ahead import Scenarios, solve_core
from prosumer_gym.baselines.forecast import TrainingDays
from prosumer_gym.baselines.leaf_weights import LeafWeights, outcomes
from prosumer_gym.baselines.planning import DayStart
from prosumer_gym.baselines.weights import (
    ContextScaler,
    among,
    cknn,
    distances,
    heaviest,
    kernel,
    knn,
    leave_one_out,
    nearest,
    prosumer_features,
    rolling,
    usual_bandwidth,
)
from prosumer_gym.community import TradeGraph
from prosumer_gym.datasets.schema import LEAD_IN_DAYS
from prosumer_gym.errors import UsageError

NUM_DAYS, NUM_PROSUMERS = 36, 5


def some_distances(num_days: int = NUM_DAYS, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).uniform(0.1, 5.0, (NUM_PROSUMERS, num_days))


@cache
def training() -> TrainingDays:
    return TrainingDays.of_history(small_days().training_history())


@cache
def vectors() -> FloatArray:
    return ContextScaler.fit(training().context).vectors(training().context)


def assert_weights(weights: FloatArray) -> None:
    assert (weights >= 0.0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-12)


# contexts


def test_features_are_of_mean_zero_and_variance_one_over_the_training_days() -> None:
    assert vectors().shape == (36, 2, 15)
    np.testing.assert_allclose(vectors().mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(vectors().std(axis=0), 1.0, atol=1e-9)


def test_a_feature_that_never_changes_tells_nothing_and_is_no_infinity() -> None:
    context = replace(training().context, weekend=np.full(36, 1.0), day_of_year=np.full(36, 200.1))
    scaler = ContextScaler.fit(context)
    assert np.isfinite(scaler.vectors(context)).all()
    assert np.count_nonzero((np.abs(scaler.vectors(context)) < 1e-6).all(axis=(0, 1))) == 3  # weekend, sine, cosine


def test_the_scale_is_that_of_the_days_it_was_fitted_on_whatever_is_asked_later() -> None:
    scaler = ContextScaler.fit(training().context)
    dev = Context.from_history(small_days(), small_days().days("dev"))
    together = scaler.vectors(dev)
    alone = np.concatenate([scaler.vectors(dev.take(np.array([d]))) for d in range(dev.num_days)])
    np.testing.assert_allclose(together, alone, atol=1e-12)
    assert (np.abs(together.mean(axis=0)) > 0.1).any()


def test_every_prosumer_has_its_own_context_and_knows_no_other_ones() -> None:
    context = training().context
    changed = {name: np.array(getattr(context, name)) for name in ("weather_forecast", "past_load_kw", "past_pv_kw")}
    changed["weather_forecast"][:, :, 1] *= 1.7
    changed["past_load_kw"][..., 1] *= 1.7
    changed["past_pv_kw"][..., 1] *= 1.7
    one, other = prosumer_features(context), prosumer_features(replace(context, **changed))
    np.testing.assert_array_equal(one[:, 0], other[:, 0])
    assert (one[:, 1] != other[:, 1]).any(axis=0).sum() == 2 * 3 + 4


def test_no_feature_of_a_day_reads_what_happens_on_it() -> None:
    days = small_days()
    row = int(days.days("train")[20])
    one, other = (
        prosumer_features(Context.from_history(data, np.array([row])))
        for data in (days, with_another_future(days, row, -1))
    )
    np.testing.assert_array_equal(one, other)


def test_distances_are_euclidean_and_each_prosumers_own() -> None:
    found = distances(vectors()[:3], vectors())
    assert found.shape == (3, 2, 36)
    assert found[2, 1, 7] == pytest.approx(np.linalg.norm(vectors()[2, 1] - vectors()[7, 1]))
    np.testing.assert_array_equal(found[np.arange(3), :, np.arange(3)], 0.0)


# who may answer


def test_leaving_a_day_out_leaves_out_the_days_that_know_of_it() -> None:
    rows, block = np.concatenate([np.arange(8, 28), np.arange(36, 46)]), np.repeat([0, 1], [20, 10])
    may = leave_one_out(rows, block)
    assert not may.diagonal().any()
    for i in range(30):
        forbidden = {j for j in range(30) if block[i] == block[j] and 0 <= rows[j] - rows[i] <= LEAD_IN_DAYS}
        assert set(np.flatnonzero(~may[i])) == forbidden
    assert may[19, 20:].all()  # the next block begins with lead-in days of its own
    np.testing.assert_array_equal(may, ~knows_of(rows, block).T)


def test_what_happened_on_a_day_left_out_moves_nobodys_weights_for_it() -> None:
    """Neither the day's own values nor features of other days in which they stand are among what answers."""
    days = small_days()
    _, block, context, values = training()[:4]
    may = leave_one_out(training().rows, block)
    place = 11
    row = int(training().rows[place])
    load = np.array(days.load_kw)
    load[row] *= 3.0
    other = TrainingDays.of_history(days.replace(load_kw=load).training_history())
    scaler = ContextScaler.fit(context)
    before, after = (scaler.vectors(c)[may[place]] for c in (context, other.context))
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(values.load_kw[may[place]], other.values.load_kw[may[place]])
    later = np.setdiff1d(np.flatnonzero(~may[place]), [place])
    assert (scaler.vectors(context)[later] != scaler.vectors(other.context)[later]).any()


def test_in_rolling_order_only_earlier_days_answer() -> None:
    rows = np.array([8, 9, 12, 30])
    np.testing.assert_array_equal(rolling(rows), np.tri(4, k=-1, dtype=bool))


@pytest.mark.parametrize("weigh", [lambda d: knn(d, 4), lambda d: kernel(d, 0.8)])
def test_who_may_not_answer_has_no_weight(weigh: Any) -> None:
    rows, block = training().rows, training().block
    distance = distances(vectors(), vectors())
    weights = weigh(among(distance, leave_one_out(rows, block)))
    assert_weights(weights)
    assert (weights.transpose(1, 0, 2)[:, ~leave_one_out(rows, block)] == 0.0).all()
    leaky = weigh(distance)
    assert (leaky[np.arange(36), :, np.arange(36)] > 0.1).all()  # oneself is nearest
    late = np.arange(10, 36)
    weights = weigh(among(distance, rolling(rows))[late])
    assert_weights(weights)
    assert all((weights[q, :, d:] == 0.0).all() for q, d in enumerate(late))


# nearest days


@pytest.mark.parametrize("k", [1, 4, NUM_DAYS])
def test_nearest_days_are_those_of_scikit_learn(k: int) -> None:
    targets = np.random.default_rng(1).normal(size=(36, 3))
    query = vectors()[:5, 0] + 0.01
    expected = KNeighborsRegressor(k).fit(vectors()[:, 0], targets).predict(query)
    weights = knn(distances((vectors()[:5] + 0.01), vectors()), k)[:, 0]
    np.testing.assert_allclose(weights @ targets, expected, atol=1e-12)


def test_of_equally_near_days_the_first_are_taken() -> None:
    distance = np.array([[2.0, 1.0, 1.0, 0.5, 1.0, 1.0]])
    assert np.flatnonzero(nearest(distance, 3)).tolist() == [1, 2, 3]
    assert np.flatnonzero(nearest(np.ones((1, 40)), 7)).tolist() == list(range(7))  # identical contexts


@pytest.mark.parametrize("k", [0, -1, 37])
def test_a_k_that_cannot_be_is_named(k: int) -> None:
    with pytest.raises(UsageError, match=rf"k={k} nearest days of 36 training days: k must lie in 1 \.\.\. 36"):
        knn(some_distances(), k)
    distance = some_distances()
    distance[2, :30] = np.inf
    with pytest.raises(UsageError, match=r"k=7 nearest days of 6 "):
        nearest(distance, 7)


def test_all_days_weigh_the_same_when_all_are_near() -> None:
    np.testing.assert_allclose(knn(some_distances(), NUM_DAYS), 1.0 / NUM_DAYS)
    np.testing.assert_allclose(kernel(some_distances(), 1e6), 1.0 / NUM_DAYS, rtol=1e-9)


# kernel


def test_a_kernel_is_nadaraya_watsons() -> None:
    distance = some_distances()
    expected = np.exp(-(distance**2) / (2 * 0.9**2))
    weights = kernel(distance, 0.9)
    assert_weights(weights)
    np.testing.assert_allclose(weights, expected / expected.sum(axis=1, keepdims=True), rtol=1e-9)


def test_a_narrow_kernel_is_the_nearest_day_and_far_days_are_no_zero_by_zero() -> None:
    np.testing.assert_allclose(kernel(some_distances() + 1000.0, 1e-3), knn(some_distances(), 1), atol=1e-9)


def test_a_day_that_is_there_twice_weighs_twice() -> None:
    distance = some_distances()
    twice = np.concatenate([distance, distance[:, :1]], axis=1)
    one, two = kernel(distance, 0.7), kernel(twice, 0.7)
    np.testing.assert_allclose(two[:, 0] + two[:, -1], 2.0 * two[:, 0])
    np.testing.assert_allclose((two[:, 0] / two[:, 1]), one[:, 0] / one[:, 1])


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, np.nan, np.inf])
def test_a_bandwidth_that_cannot_be_is_named(bandwidth: float) -> None:
    with pytest.raises(UsageError, match=r"bandwidth .*: must be a positive number"):
        kernel(some_distances(), bandwidth)


def test_weights_without_anybody_who_may_answer_are_refused() -> None:
    with pytest.raises(UsageError, match="no training day that may answer"):
        kernel(np.full((2, 3), np.inf), 1.0)


def test_the_usual_bandwidth_lets_many_days_count_but_not_all_alike() -> None:
    rng = np.random.default_rng(0)
    for num_features in (3, 15, 60):
        days = rng.normal(size=(300, 1, num_features))
        weights = kernel(distances(days[:20], days[20:]), usual_bandwidth(num_features))
        effective = 1.0 / (weights**2).sum(axis=-1)
        assert 10 < np.median(effective) < 230


def test_the_heaviest_days_keep_their_proportions() -> None:
    weights = kernel(some_distances(), 1.0)
    kept = heaviest(weights, 4)
    assert_weights(kept)
    for n in range(NUM_PROSUMERS):
        best = np.argsort(-weights[n])[:4]
        assert set(np.flatnonzero(kept[n])) == set(best)
        np.testing.assert_allclose(kept[n, best] / kept[n, best[0]], weights[n, best] / weights[n, best[0]])
    even = np.full((2, 4000), 1.0 / 4000)  # all of them light
    np.testing.assert_allclose(heaviest(even, 9999), even)
    steep = np.array([[0.9, 0.0989, 0.0011, 0.9e-3, 1e-9]])
    steep /= steep.sum()
    assert np.flatnonzero(heaviest(steep, 99)).tolist() == [0, 1, 2]
    assert_weights(heaviest(steep, 99))


# forests


def test_leaf_weights_predict_what_the_forest_does() -> None:
    """A tree without bootstrap predicts the mean of the leaf, which is the weighted mean of the training days."""
    values, day = training().values, vectors()[3] + 0.05
    grown = LeafWeights.fit(vectors(), values, min_leaf=3)
    weights = grown.weights(day)
    assert weights.shape == (2, 36)
    assert_weights(weights)
    targets = outcomes(values)
    forest = RandomForestRegressor(
        n_estimators=100, min_samples_leaf=3, max_features=1.0 / 3.0, random_state=0, bootstrap=True
    ).fit(vectors()[:, 1], targets[:, 1])
    leaves, leaf = forest.apply(vectors()[:, 1]), forest.apply(day[[1]])
    expected = np.mean([(leaves[:, t] == leaf[0, t]) / np.sum(leaves[:, t] == leaf[0, t]) for t in range(100)], axis=0)
    np.testing.assert_allclose(weights[1], expected, atol=1e-12)


def test_a_forest_of_one_leaf_knows_no_context() -> None:
    weights = LeafWeights.fit(vectors(), training().values, min_leaf=36).weights(vectors()[0])
    np.testing.assert_allclose(weights, 1.0 / 36)


def test_outcomes_count_net_load_and_price_alike() -> None:
    found = outcomes(training().values)
    assert found.shape == (36, 2, 8)
    for part in (slice(0, 4), slice(4, 8)):
        np.testing.assert_allclose(found[:, :, part].std(axis=0).mean(axis=-1), 1.0)
    flat = training().values._replace(price_rt_ct_per_kwh=np.full((36, 8), 7.0))
    assert np.isfinite(outcomes(flat)).all()


@pytest.mark.parametrize("min_leaf", [0, 37])
def test_a_leaf_that_cannot_be_is_named(min_leaf: int) -> None:
    with pytest.raises(UsageError, match=rf"min_leaf {min_leaf} of 36 training days: must lie in 1 \.\.\. 36"):
        LeafWeights.fit(vectors(), training().values, min_leaf=min_leaf)


# consensus


def ring() -> TradeGraph:
    return TradeGraph.ring_with_chords(NUM_PROSUMERS)


def neighbours(graph: TradeGraph, n: int) -> list[int]:
    ends = zip(graph.first.tolist(), graph.second.tolist(), strict=True)
    return [b if a == n else a for a, b in ends if n in (a, b)]


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, np.linspace(0.0, 1.0, NUM_PROSUMERS)])
@pytest.mark.parametrize("k", [1, 6])
def test_consensus_weights_are_the_definition(k: int, tau: Any) -> None:
    graph, named = ring(), nearest(some_distances(), k)
    weights = cknn(named, graph, tau, k)
    assert_weights(weights)
    for n in range(NUM_PROSUMERS):
        own, around = np.broadcast_to(tau, NUM_PROSUMERS)[n], neighbours(graph, n)
        expected = own * named[n] / k + (1 - own) * sum(named[m] / k for m in around) / len(around)
        np.testing.assert_allclose(weights[n], expected, atol=1e-15)


def test_relying_on_oneself_is_knn_and_on_others_leaves_oneself_out() -> None:
    distance = some_distances()
    np.testing.assert_array_equal(cknn(nearest(distance, 4), ring(), 1.0, 4), knn(distance, 4))
    assert (cknn(nearest(distance, 1), ring(), 1.0, 1).argmax(axis=1) == distance.argmin(axis=1)).all()
    named = np.zeros((NUM_PROSUMERS, NUM_DAYS), dtype=bool)
    named[np.arange(NUM_PROSUMERS), np.arange(NUM_PROSUMERS)] = True  # everybody a day of its own
    weights = cknn(named, ring(), 0.0, 1)
    assert (weights[np.arange(NUM_PROSUMERS), np.arange(NUM_PROSUMERS)] == 0.0).all()


@pytest.mark.parametrize("tau", [0.0, 0.4, 1.0])
def test_all_days_or_one_context_for_all_make_tau_irrelevant(tau: float) -> None:
    everything = cknn(nearest(some_distances(), NUM_DAYS), ring(), tau, NUM_DAYS)
    np.testing.assert_allclose(everything, 1.0 / NUM_DAYS)
    same = np.repeat(some_distances()[:1], NUM_PROSUMERS, axis=0)
    np.testing.assert_allclose(cknn(nearest(same, 5), ring(), tau, 5), knn(same, 5), atol=1e-15)


def test_who_has_no_neighbours_relies_on_itself() -> None:
    graph = TradeGraph(
        first=np.array([0]), second=np.array([1]), limit_kw=np.array([5.0]), fee_ct_per_kwh=np.array([0.2])
    )
    named = nearest(some_distances(), 3)
    weights = cknn(named, graph, 0.0, 3)
    np.testing.assert_array_equal(weights[2:], named[2:] / 3)
    np.testing.assert_array_equal(weights[0], named[1] / 3)


@pytest.mark.parametrize("tau", [-0.1, 1.1, np.nan])
def test_a_tau_that_cannot_be_is_named(tau: float) -> None:
    with pytest.raises(UsageError, match=r"tau .*: must lie in 0 \.\.\. 1"):
        cknn(nearest(some_distances(), 3), ring(), tau, 3)


def test_consensus_needs_k_days_of_each() -> None:
    with pytest.raises(UsageError, match="every prosumer must name k=4 days"):
        cknn(nearest(some_distances(), 3), ring(), 0.5, 4)


# in the core problem


def start() -> DayStart:
    days, community = small_days(), small_community()
    row = int(days.days("dev")[2])
    fleet = community.fleet
    return DayStart(
        start_hour=0,
        soc_kwh=fleet.soc_initial_kwh,
        backlog_kwh=np.zeros(2),
        connection_peak_kw=np.zeros(2),
        shiftable_ref_kw=days.shiftable_ref_kw[row],
        price_da_ct_per_kwh=days.price_da_ct_per_kwh[row],
    )


def plan_numbers(scenarios: Scenarios) -> FloatArray:
    plan = solve_core(small_community(), start(), scenarios, tolerance=1e-8)
    return np.concatenate(
        [part.ravel() for part in (plan.position_kw, plan.battery_kw, plan.shiftable_kw, plan.trade_kw)]
    )


def weighted(weights: FloatArray, price: FloatArray | None = None) -> Scenarios:
    values = training().values
    kept = np.flatnonzero(np.atleast_2d(weights).any(axis=0))
    price = values.price_rt_ct_per_kwh if price is None else price
    return Scenarios(values.load_kw[kept], values.pv_kw[kept], price[kept], weights[..., kept])


def test_a_day_that_counts_for_one_prosumer_is_no_scenario_of_the_other() -> None:
    weights = np.zeros((2, 36))
    weights[0, [3, 9]] = 0.5
    weights[1, [9, 20]] = 0.25, 0.75
    values = training().values
    other = np.array(values.load_kw)
    other[20, :, 0] += 4.0
    other[3, :, 1] += 4.0
    kept = [3, 9, 20]
    np.testing.assert_allclose(
        plan_numbers(weighted(weights)),
        plan_numbers(Scenarios(other[kept], values.pv_kw[kept], values.price_rt_ct_per_kwh[kept], weights[:, kept])),
        atol=1e-4,
    )


def test_with_uncertain_prices_alone_nearest_days_plan_for_their_mean_price() -> None:
    """The price is the only thing unknown and the cost is linear in it: no gain of samples over a mean."""
    values = training().values
    weights = knn(distances(vectors()[[5]], vectors())[0], 7)[0]  # one context for all
    price = values.price_rt_ct_per_kwh + 15.0  # above every day-ahead price, where the tariff is linear
    sure = np.repeat(values.load_kw[:1], 36, axis=0), np.repeat(values.pv_kw[:1], 36, axis=0)
    kept = np.flatnonzero(weights)
    samples = Scenarios(sure[0][kept], sure[1][kept], price[kept], weights[kept])
    mean = Scenarios(sure[0][:1], sure[1][:1], (weights @ price)[None], np.ones(1))
    np.testing.assert_allclose(plan_numbers(samples), plan_numbers(mean), atol=2e-4)
    uncertain = Scenarios(values.load_kw[kept], values.pv_kw[kept], price[kept], weights[kept])
    mean = Scenarios(
        np.einsum("d,dhn->hn", weights, values.load_kw)[None],
        np.einsum("d,dhn->hn", weights, values.pv_kw)[None],
        (weights @ price)[None],
        np.ones(1),
    )
    assert np.abs(plan_numbers(uncertain) - plan_numbers(mean)).max() > 0.1


def test_with_one_training_day_every_way_of_weighing_is_the_same_plan() -> None:
    one = tiny_dataset(num_days=3, num_prosumers=2, hours=8).training_history()
    days = TrainingDays.of_history(one)
    scaler = ContextScaler.fit(days.context)
    found = scaler.vectors(days.context)
    distance = distances(found + 1.0, found)[0]
    for weights in (
        knn(distance, 1),
        kernel(distance, 0.5),
        heaviest(kernel(distance, 0.5), 50),
        cknn(nearest(distance, 1), TradeGraph.ring_with_chords(2), 0.3, 1),
        LeafWeights.fit(found, days.values, min_leaf=1).weights(found[0] + 1.0),
    ):
        np.testing.assert_array_equal(weights, np.ones((2, 1)))
