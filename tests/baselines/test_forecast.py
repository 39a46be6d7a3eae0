from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from support import tiny_dataset
from support_leakage import with_another_future
from support_policies import play, small_community, small_days

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines import forecast as forecast_module
from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.forecast import (
    DayForecaster,
    DayValues,
    ErrorUpdate,
    GateForecast,
    fold_of_days,
    out_of_fold_forecast,
)
from prosumer_gym.baselines.no_control import NoControl
from prosumer_gym.datasets import load_dataset
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError


def training(dataset: Dataset) -> tuple[Context, DayValues, IntArray, IntArray]:
    history = dataset.training_history()
    rows = np.flatnonzero(history.is_training)
    return Context.from_history(history, rows), DayValues.of_history(history, rows), rows, history.block[rows]


@cache
def small_forecaster() -> DayForecaster:
    return DayForecaster.fit(small_days().training_history())


def rmse(forecast: FloatArray, actual: FloatArray) -> float:
    return float(np.sqrt(np.mean((forecast - actual) ** 2)))


# features


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_features_of_an_observation_are_those_of_the_same_day_in_the_history(split: str) -> None:
    days = small_days()
    env = TwoStageEnv(days, small_community(), split=split)
    for row in days.days(split)[[0, 5, -1]]:
        history = Context.from_history(days, np.array([row]))
        observed = Context.from_observation(env.reset(options={"day": int(row)})[0])
        for name in ("load_features", "pv_features", "price_features"):
            np.testing.assert_array_equal(getattr(history, name)(), getattr(observed, name)())


def test_the_context_does_not_change_in_the_course_of_a_day() -> None:
    days, community = small_days(), small_community()
    policy = NoControl()
    policy.fit(community, days.training_history())
    seen, _, _ = play(policy, community, days, int(days.days("dev")[0]))
    gate = Context.from_observation(seen[0])
    for obs in seen[1:]:
        np.testing.assert_array_equal(Context.from_observation(obs).load_features(), gate.load_features())


def test_no_feature_of_a_day_reads_what_happens_on_it() -> None:
    days = small_days()
    row = int(days.days("train")[20])
    before, after = (Context.from_history(data, np.array([row])) for data in (days, with_another_future(days, row, -1)))
    for name in ("load_features", "pv_features", "price_features"):
        np.testing.assert_array_equal(getattr(before, name)(), getattr(after, name)())


def test_a_lead_in_day_has_no_context() -> None:
    history = small_days().training_history()
    with pytest.raises(UsageError, match=r"row 3 .* lacks its past days"):
        Context.from_history(history, np.array([3]))


# regressions


def test_a_ridge_finds_a_linear_law_and_ignores_a_constant_target() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(3.0, [1.0, 100.0, 0.01], (400, 2, 3))
    truth = np.array([2.0, 0.03, -150.0])
    targets = np.stack([features[:, 0] @ truth + 7.0, np.zeros(400)], axis=1)
    ridges = forecast_module.Ridges.fit(features, targets)
    np.testing.assert_allclose(ridges.coefficients[0], truth, rtol=0.02)
    np.testing.assert_allclose(ridges.predict(features)[:, 0], targets[:, 0], atol=0.2)
    np.testing.assert_array_equal(ridges.predict(features)[:, 1], 0.0)


def test_forecasts_are_physically_possible_and_dark_at_night() -> None:
    days = small_days()
    context, values, _, _ = training(days)
    gate = GateForecast.fit(context, values)
    dev = Context.from_history(days, days.days("dev"))
    # A sky that no day of the history had.
    bright = np.array(dev.weather_forecast)
    bright[..., 1], bright[..., 2] = 0.0, 3.0 * bright[..., 2]
    forecast = gate.predict(Context(**{**vars(dev), "weather_forecast": bright}))
    night = values.pv_kw.max(axis=0) == 0.0
    assert night.any()
    assert (forecast.pv_kw[:, night] == 0.0).all()
    assert (forecast.pv_kw >= 0.0).all()
    assert (forecast.load_kw >= 0.0).all()
    assert (forecast.pv_kw <= values.pv_kw.max(axis=0)).all()
    assert (forecast.pv_kw[:, 4] == gate.pv_ceiling_kw(dev.day_of_year)[:, 4]).any()


def test_the_season_goes_round_the_end_of_the_year(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "_SEASON_DAYS", 2)
    context, values, _, _ = training(small_days())
    gate = GateForecast.fit(context, values)
    days = np.full(len(context.day_of_year), 180.0)
    days[[0, 1]] = 2.0, 363.0
    gate = GateForecast(gate.load, gate.pv, gate.price, days, values.pv_kw)
    np.testing.assert_array_equal(gate.pv_ceiling_kw(np.array([365.0]))[0], values.pv_kw[:2].max(axis=0))


def test_too_few_training_days_are_refused() -> None:
    with pytest.raises(UsageError, match=r"tiny: 6 training days are too few .* give 12 or more"):
        DayForecaster.fit(tiny_dataset(num_days=10, num_prosumers=1).training_history())


@pytest.mark.parametrize("num_days", [20, 23, 30])
def test_few_training_days_are_enough_for_every_fold(num_days: int) -> None:
    history = tiny_dataset(num_days=num_days, num_prosumers=1, hours=4).training_history()
    forecaster = DayForecaster.fit(history)
    assert np.isfinite(forecaster.errors).all()


# out of fold


def test_folds_are_runs_of_days_within_blocks() -> None:
    block = np.repeat([0, 1, 2], 90)
    fold = fold_of_days(block)
    assert set(fold) == set(range(5))
    cuts = np.flatnonzero(np.diff(fold)) + 1
    runs = np.diff(np.concatenate([[0], cuts, [270]]))
    assert runs.max() <= 14
    assert runs.min() >= 6
    assert {90, 180} <= set(cuts.tolist())
    assert np.bincount(fold).min() >= 40


def test_the_out_of_fold_forecast_of_a_day_does_not_depend_on_what_happened_on_it() -> None:
    days = small_days()
    context, values, rows, block = training(days)
    before = out_of_fold_forecast(context, values, rows, block)
    for d in (0, 9, 35):
        row = int(rows[d])
        happened = {
            name: np.array(getattr(days, name))
            for name in ("load_kw", "pv_kw", "price_rt_ct_per_kwh", "price_da_ct_per_kwh", "weather")
        }
        for name, values_of_day in happened.items():
            if name != "price_da_ct_per_kwh":
                values_of_day[row] *= 0.5
        other_context, other_values, _, _ = training(days.replace(**happened))
        after = out_of_fold_forecast(other_context, other_values, rows, block)
        for one, other, actual, changed in zip(before, after, values, other_values, strict=True):
            assert not np.array_equal(actual[d], changed[d])
            np.testing.assert_array_equal(one[d], other[d])
        in_fold = GateForecast.fit(other_context, other_values).predict(other_context)
        assert not np.array_equal(in_fold.load_kw[d], GateForecast.fit(context, values).predict(context).load_kw[d])


def test_errors_out_of_fold_are_larger_than_in_the_training_set() -> None:
    context, values, rows, block = training(small_days())
    outside = out_of_fold_forecast(context, values, rows, block)
    inside = GateForecast.fit(context, values).predict(context)
    for one, other, actual in zip(outside, inside, values, strict=True):
        assert rmse(one, actual) > 1.1 * rmse(other, actual)


def test_errors_are_actual_minus_out_of_fold_forecast_in_date_order() -> None:
    context, values, rows, block = training(small_days())
    expected = values.series() - out_of_fold_forecast(context, values, rows, block).series()
    np.testing.assert_array_equal(small_forecaster().errors, expected)
    np.testing.assert_array_equal(DayValues.from_series(values.series()).pv_kw, values.pv_kw)


# the course of the day


def test_errors_of_an_autoregression_are_forecast_almost_as_well_as_by_its_own_law() -> None:
    rng = np.random.default_rng(3)
    phi, sd = 0.8, np.array([1.0, 50.0])

    def days(num: int) -> FloatArray:
        errors = np.zeros((num, 2, 24))
        for h in range(24):
            noise = rng.normal(size=(num, 2))
            errors[..., h] = noise if h == 0 else phi * errors[..., h - 1] + np.sqrt(1 - phi**2) * noise
        return errors * sd[:, np.newaxis]

    update, fresh = ErrorUpdate.fit(days(500)), days(2000)
    for hour in (0, 5, 20):
        later = fresh[..., hour + 1 :]
        law = fresh[..., hour, np.newaxis] * phi ** np.arange(1, 24 - hour)
        got = rmse(update.expected(fresh[..., : hour + 1]), later)
        assert got < 1.02 * rmse(law, later)
        assert got < rmse(np.zeros_like(later), later)
    assert update.expected(fresh).shape == (2000, 2, 0)


def test_an_error_that_lasts_all_day_is_learned_from_the_hours_so_far() -> None:
    rng = np.random.default_rng(4)
    level = rng.normal(0.0, 2.0, (600, 1, 1))
    errors = level + rng.normal(0.0, 1.0, (600, 1, 24))
    update = ErrorUpdate.fit(errors[:400])
    left = errors[400:, :, 12:] - update.expected(errors[400:, :, :12])
    assert left.std() < 1.1


def test_in_real_time_the_first_hour_is_as_observed_and_the_future_is_not_read() -> None:
    days, community = small_days(), small_community()
    row, hour = int(days.days("dev")[2]), 4
    policy = NoControl()
    policy.fit(community, days.training_history())
    forecaster, chosen = small_forecaster(), np.array([0, 7, 30])
    one, other = (play(policy, community, data, row)[0] for data in (days, with_another_future(days, row, hour)))
    obs = one[hour + 1]
    expected, scenarios = forecaster.forecast(obs), forecaster.scenarios(obs, chosen)
    assert expected.load_kw.shape == (8 - hour, 2)
    assert scenarios.price_rt_ct_per_kwh.shape == (3, 8 - hour)
    for name, value, spread in zip(DayValues._fields, expected, scenarios, strict=True):
        np.testing.assert_array_equal(value[0], getattr(days, name)[row, hour])
        np.testing.assert_array_equal(spread[:, 0], np.broadcast_to(value[0], spread[:, 0].shape))
    for one_value, other_value in zip(expected, forecaster.forecast(other[hour + 1]), strict=True):
        np.testing.assert_array_equal(one_value, other_value)


def test_scenarios_are_the_forecast_plus_whole_days_of_errors_within_physics() -> None:
    days = small_days()
    env = TwoStageEnv(days, small_community(), split="dev")
    obs = env.reset(options={"day": int(days.days("dev")[4])})[0]
    forecaster, chosen = small_forecaster(), np.arange(36)
    expected, scenarios = forecaster.forecast(obs), forecaster.scenarios(obs, chosen)
    errors = DayValues.from_series(forecaster.errors)
    np.testing.assert_allclose(
        scenarios.price_rt_ct_per_kwh, expected.price_rt_ct_per_kwh + errors.price_rt_ct_per_kwh, atol=1e-12
    )
    np.testing.assert_allclose(scenarios.load_kw, np.maximum(expected.load_kw + errors.load_kw, 0.0), atol=1e-12)
    assert (scenarios.pv_kw >= 0.0).all()
    assert (scenarios.pv_kw.max(axis=0) <= forecaster.gate.pv_ceiling_kw(np.asarray(obs["day_of_year"]))[0]).all()


def test_as_the_day_goes_by_the_forecast_gets_better_and_its_scenarios_narrow() -> None:
    days, community = _with_lasting_errors(small_days()), small_community()
    policy = NoControl()
    policy.fit(community, days.training_history())
    forecaster, every = DayForecaster.fit(days.training_history()), np.arange(36)
    gate, later, actual = [], [], []
    for row in days.days("dev").tolist():
        seen, _, _ = play(policy, community, days, row)
        gate.append(forecaster.forecast(seen[0]).load_kw[5:])
        later.append(forecaster.forecast(seen[5]).load_kw[1:])  # hour 4 is observed
        actual.append(days.load_kw[row, 5:])
    assert rmse(np.array(later), np.array(actual)) < 0.7 * rmse(np.array(gate), np.array(actual))
    before = forecaster.scenarios(seen[0], every).load_kw[:, 5:].std(axis=0)
    after = forecaster.scenarios(seen[5], every).load_kw[:, 1:].std(axis=0)
    assert (after < 0.8 * before).all()


def _with_lasting_errors(days: Dataset) -> Dataset:
    factor = np.random.default_rng(0).lognormal(0.0, 0.3, (days.num_days, 1, days.num_prosumers))
    return days.replace(load_kw=days.load_kw * factor)


# skill


@cache
def tehran() -> tuple[Dataset, Context, DayValues, Context, DayValues]:
    days = load_dataset("tehran-v0")
    context, values, _, _ = training(days)
    dev = days.days("dev")
    return days, context, values, Context.from_history(days, dev), DayValues.of_history(days, dev)


def test_the_forecast_beats_the_mean_of_the_last_week_and_yesterday() -> None:
    _, context, values, dev, happened = tehran()
    forecast = GateForecast.fit(context, values).predict(dev)
    past = DayValues(dev.past_load_kw, dev.past_pv_kw, dev.past_price_rt_ct_per_kwh)
    for margin, one, days, actual in zip((0.9, 0.6, 0.95), forecast, past, happened, strict=True):
        assert rmse(one, actual) < margin * rmse(days[:, -7:].mean(axis=1), actual)
        assert rmse(one, actual) < margin * rmse(days[:, -1], actual)


def test_with_permuted_contexts_the_gain_over_the_training_mean_vanishes() -> None:
    _, context, values, dev, happened = tehran()
    order = np.random.default_rng(0).permutation(context.num_days)
    permuted = GateForecast.fit(context.take(order), values).predict(dev)
    honest = GateForecast.fit(context, values).predict(dev)
    for one, other, days, actual in zip(honest, permuted, values, happened, strict=True):
        mean = rmse(np.broadcast_to(days.mean(axis=0), actual.shape), actual)
        gain, control = 1.0 - rmse(one, actual) / mean, 1.0 - rmse(other, actual) / mean
        assert gain > 0.05
        assert control < 0.2 * gain
