from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest
from support import tiny_dataset
from support_leakage import assert_no_leak
from support_policies import play, small_community, small_days

from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.forecast import DayValues, TrainingDays
from prosumer_gym.baselines.po import PredictThenOptimise
from prosumer_gym.baselines.policy import MODES, Observation
from prosumer_gym.baselines.registry import make_policy
from prosumer_gym.baselines.saa import SampleAverage
from prosumer_gym.baselines.weighted_saa import ForestDays, KernelDays, NearestDays, WeightedSampleAverage
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError

KINDS: list[tuple[type[Any], str, Any]] = [
    (NearestDays, "k", 4),
    (KernelDays, "bandwidth", 1.5),
    (ForestDays, "min_leaf", 3),
]


@cache
def fitted(kind: type[Any], mode: str = "mpc", permuted: bool = False, **parameters: Any) -> Any:
    policy = kind(mode, permuted=permuted, **parameters)
    policy.fit(small_community(), small_days().training_history())
    return policy


def dev_observation(i: int = 0, hour: int | None = None) -> Observation:
    """At the gate, or before an hour is played."""
    row = int(small_days().days("dev")[i])
    policy = make_policy("no-control", "mpc")
    policy.fit(small_community(), small_days().training_history())
    seen = play(policy, small_community(), small_days(), row)[0]
    return seen[0] if hour is None else seen[hour + 1]


def assert_same(ones: list[Any], others: list[Any], atol: float = 0.0) -> None:
    for one, other in zip(ones, others, strict=True):
        for key in one:
            np.testing.assert_allclose(one[key], other[key], atol=atol, rtol=0.0)


@pytest.mark.parametrize(("kind", "parameter", "value"), KINDS)
def test_scenarios_are_training_days_as_they_were_with_each_prosumers_weights(
    kind: type[Any], parameter: str, value: Any
) -> None:
    policy = fitted(kind, **{parameter: value})
    obs = dev_observation()
    scenarios = policy.scenarios(obs)
    weights = policy.weights(Context.from_observation(obs))
    days = np.flatnonzero(weights.any(axis=0))
    rows = small_days().days("train")[days]
    np.testing.assert_array_equal(scenarios.load_kw, small_days().load_kw[rows])
    np.testing.assert_array_equal(scenarios.pv_kw, small_days().pv_kw[rows])
    np.testing.assert_array_equal(scenarios.price_rt_ct_per_kwh, small_days().price_rt_ct_per_kwh[rows])
    np.testing.assert_array_equal(scenarios.weights, weights[:, days])
    assert scenarios.weights.shape == (2, len(days))
    assert (scenarios.weights[0] != scenarios.weights[1]).any()  # each its own context


@pytest.mark.parametrize(("kind", "parameter", "value"), KINDS)
def test_in_the_course_of_the_day_the_hours_to_come_are_those_of_the_same_days(
    kind: type[Any], parameter: str, value: Any
) -> None:
    policy = fitted(kind, **{parameter: value})
    gate, later = policy.scenarios(dev_observation(3)), policy.scenarios(dev_observation(3, hour=5))
    np.testing.assert_array_equal(later.weights, gate.weights)
    for name in DayValues._fields:
        np.testing.assert_array_equal(getattr(later, name), getattr(gate, name)[:, 5:])


def test_knn_takes_the_k_days_whose_contexts_are_nearest() -> None:
    policy, obs = fitted(NearestDays, k=4), dev_observation(7)
    weights = policy.weights(Context.from_observation(obs))
    distance = np.linalg.norm(policy.vectors - policy.scaler.vectors(Context.from_observation(obs)), axis=-1).T
    for n in range(2):
        near = np.flatnonzero(weights[n])
        assert len(near) == 4
        assert distance[n, near].max() <= np.delete(distance[n], near).min()
        np.testing.assert_array_equal(weights[n, near], 0.25)


def test_a_training_day_seen_again_is_its_own_nearest_neighbour() -> None:
    row = int(small_days().days("train")[12])
    obs, _ = TwoStageEnv(small_days(), small_community(), split="train").reset(options={"day": row})
    weights = fitted(NearestDays, k=1).weights(Context.from_observation(obs))
    np.testing.assert_array_equal(weights, np.eye(36)[[12, 12]])


def played(policy: Any, i: int = 4) -> list[Any]:
    days = small_days()
    return play(policy, small_community(), days, int(days.days("dev")[i]))[1]


@pytest.mark.parametrize("mode", MODES)
def test_with_all_days_near_knn_is_saa(mode: str) -> None:
    saa = SampleAverage(mode)
    saa.fit(small_community(), small_days().training_history())  # 36 training days: it takes all of them
    assert_same(played(fitted(NearestDays, mode, k=36)), played(saa), atol=2e-4)
    assert_same(played(fitted(KernelDays, mode, bandwidth=1e5)), played(saa), atol=2e-4)
    assert_same(played(fitted(ForestDays, mode, min_leaf=36)), played(saa), atol=2e-4)


@pytest.mark.parametrize("mode", MODES)
def test_with_one_training_day_all_ways_of_weighing_and_po_on_that_day_coincide(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tiny_dataset(num_days=3, num_prosumers=2, hours=8)
    only = DayValues.of_history(short, short.days("train"))
    actions = []
    for kind, parameter in ((NearestDays, "k"), (KernelDays, "bandwidth"), (ForestDays, "min_leaf")):
        policy = kind(mode, **{parameter: 1})
        policy.fit(small_community(), short.training_history())
        actions.append(play(policy, small_community(), short, int(short.days("dev")[0]))[1])
    po = PredictThenOptimise(mode)
    monkeypatch.setattr(PredictThenOptimise, "fit", lambda self, c, _: setattr(self, "community", c))

    def forecast(obs: Observation) -> DayValues:
        hour = 0 if obs["stage"][0] == 0 else int(obs["hour"][0])
        return DayValues(*(v[0, hour:] for v in only))

    po.fit(small_community(), short)
    po.forecaster = type("Sure", (), {"forecast": staticmethod(forecast)})()  # type: ignore[assignment]
    actions.append(play(po, small_community(), short, int(short.days("dev")[0]))[1])
    for other in actions[1:]:
        assert_same(actions[0], other, atol=2e-4)


@pytest.mark.parametrize(("kind", "parameter", "value"), KINDS)
def test_the_permuted_control_has_the_same_days_and_the_wrong_contexts(
    kind: type[Any], parameter: str, value: Any
) -> None:
    honest, control = (fitted(kind, permuted=p, **{parameter: value}) for p in (False, True))
    for one, other in zip(honest.days, control.days, strict=True):
        np.testing.assert_array_equal(one, other)
    order = np.random.default_rng(0).permutation(36)
    np.testing.assert_allclose(control.vectors, honest.vectors[order], atol=1e-12)
    context = Context.from_observation(dev_observation(2))
    one, other = honest.weights(context), control.weights(context)
    if kind is not ForestDays:  # a forest also learns from the pairs of context and outcome
        np.testing.assert_allclose(other, one[:, order], atol=1e-12)
    assert (one != other).any()


def test_the_permutation_is_of_training_days_and_always_the_same() -> None:
    history = small_days().training_history()
    honest, one, other = (TrainingDays.of_history(history, permuted=p) for p in (False, True, True))
    np.testing.assert_array_equal(one.context.past_load_kw, other.context.past_load_kw)
    np.testing.assert_array_equal(one.values.load_kw, honest.values.load_kw)
    assert set(one.context.day_of_year) == set(honest.context.day_of_year)
    assert (one.context.day_of_year != honest.context.day_of_year).mean() > 0.8


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", ["knn+permuted", "kernel+permuted", "forest+permuted", "po+permuted", "er-saa+permuted"]
)
def test_what_happens_later_changes_no_action_of_a_control(name: str, mode: str) -> None:
    assert_no_leak(lambda: make_policy(name, mode), small_days(), small_community(), split="dev")


def test_a_forest_knows_which_features_matter() -> None:
    """Load follows the weekend here, which the distance of all features together hardly shows."""
    days = small_days()
    factor = np.where(days.weekend, 3.0, 1.0)[:, np.newaxis, np.newaxis]
    history = days.replace(load_kw=days.load_kw * factor).training_history()
    is_weekend = history.weekend[history.is_training]
    rows = days.days("dev")
    context = Context.from_history(days, rows)
    on_alike = []
    for policy in (ForestDays(min_leaf=3), NearestDays(k=6)):
        policy.fit(small_community(), history)
        weights = np.stack([policy.weights(context.take(np.array([i]))) for i in range(len(rows))])
        alike = is_weekend == days.weekend[rows][:, np.newaxis]
        on_alike.append(np.einsum("qnd,qd->q", weights, alike) / 2)
    assert (on_alike[0] > 0.55).all()
    assert on_alike[0].mean() > on_alike[1].mean() + 0.15


@pytest.mark.parametrize(("kind", "parameter", "value"), KINDS)
def test_the_pickled_copy_is_small_and_weighs_the_same_to_the_bit(kind: type[Any], parameter: str, value: Any) -> None:
    policy = fitted(kind, **{parameter: value})
    content = pickle.dumps(policy)
    assert len(content) < 5e6
    context = Context.from_observation(dev_observation(5))
    np.testing.assert_array_equal(pickle.loads(content).weights(context), policy.weights(context))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (NearestDays(k=37), r"k=37 nearest days of 36"),
        (NearestDays(k=0), r"k=0 nearest days of 36"),
        (KernelDays(bandwidth=-1.0), r"bandwidth -1\.0: must be a positive number"),
        (ForestDays(min_leaf=99), r"min_leaf 99 of 36 training days"),
    ],
)
def test_parameters_that_cannot_be_are_named_when_the_policy_is_fitted(
    policy: WeightedSampleAverage, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        policy.fit(small_community(), small_days().training_history())


def test_without_tuning_the_parameters_are_the_documented_defaults() -> None:
    history = small_days().training_history()
    assert NearestDays().tuned_settings(history) == {"k": 6, "parameters": "default"}
    assert ForestDays().tuned_settings(history) == {"min_leaf": 5, "parameters": "default"}
    assert KernelDays().tuned_settings(history) == {"bandwidth": round(15**0.5 / 2, 4), "parameters": "default"}
    assert NearestDays(k=3).tuned_settings(history) == {"k": 3, "parameters": "as asked for"}
    policy = fitted(NearestDays)
    assert policy.k == 6


def test_identical_contexts_are_no_trouble() -> None:
    days = small_days()
    same = {
        name: np.repeat(getattr(days, name)[:1], days.num_days, axis=0)
        for name in ("load_kw", "pv_kw", "price_da_ct_per_kwh", "weather_forecast", "weather", "price_rt_ct_per_kwh")
    }
    for kind, parameter, value in KINDS:
        policy = kind(**{parameter: value})
        policy.fit(small_community(), days.replace(**same).training_history())
        weights = policy.weights(Context.from_observation(dev_observation()))
        assert np.isfinite(weights).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)
