"""What a real-time policy sees, accounted for with plain indexing, and nothing of the future."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support import tiny_dataset
from support_leakage import with_another_future

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.store import list_datasets
from prosumer_gym.envs import RealTimeEnv, TwoStageEnv
from prosumer_gym.envs.real_time_observation import TABLE
from prosumer_gym.errors import UsageError
from prosumer_gym.reference import no_control_position


def play_days(env: RealTimeEnv, seed: int, num_steps: int | None = None, **options: Any) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(seed)
    obs, info = env.reset(seed=seed, options=options)
    steps: list[tuple[Any, ...]] = [(obs, info)]
    while num_steps is None or len(steps) <= num_steps:
        obs, _, over, _, info = env.step(rng.uniform(-1, 1, 30).astype(np.float32))
        steps.append((obs, info))
        if over:
            break
    return steps


def coming(values: np.ndarray, hour: int, num: int) -> np.ndarray:
    """`values` from an hour on, zeros beyond the day."""
    return np.concatenate((values[hour:], np.zeros(num)))[:num]


def test_every_number_is_what_the_table_says(days: Dataset, community: Community) -> None:
    env, fleet, first = RealTimeEnv(days, days_per_episode=2, split="dev"), community.fleet, int(days.days("dev")[1])
    assert [feature.name for feature in TABLE] == list(env.layout)
    assert sum(place.stop - place.start for place in env.layout.values()) == env.observation_space.shape[0] == 147
    steps = play_days(env, 1, day=first)
    assert len(steps) == 49
    for s, (obs, _) in enumerate(steps):
        day, hour = divmod(s, 24)
        if s == 48:
            day, hour = 1, 24
        row, inside = first + day, hour < 24
        here = min(hour, 23)
        position_kw = no_control_position(
            days.load_kw[row - 8 : row], days.pv_kw[row - 8 : row], days.shiftable_ref_kw[row], fleet.position_limit_kw
        )
        forecast = days.weather_forecast[row].mean(axis=1)
        due_kwh = days.shiftable_ref_kw[row, hour:].sum(axis=0) - 200.0 * obs[env.layout["backlog"]].astype(float)
        expected = {
            "time_of_day": [np.sin(hour / 12 * np.pi), np.cos(hour / 12 * np.pi)],
            "weekend": [days.weekend[row]],
            "price_da": coming(days.price_da_ct_per_kwh[row], hour, 24) / 10.0,
            "price_rt": [days.price_rt_ct_per_kwh[row, here] / 10.0 * inside],
            "passive": [days.passive_pu[row, here] * inside],
            "load": days.load_kw[row, here] / 50.0 * inside,
            "pv": days.pv_kw[row, here] / 50.0 * inside,
            "shiftable_ref": days.shiftable_ref_kw[row, here] / 20.0 * inside,
            "position": position_kw[:, here] / 50.0 * inside,
            "irradiance_forecast": coming(forecast[:, 2], hour, 24) / 1000.0,
            "temperature_forecast": coming((forecast[:, 0] - 20.0) / 20.0, hour, 12),
            "shiftable_due": due_kwh / 20.0 / (24 - hour) if inside else np.zeros(10),
            "days_left": [(1 - day) / 2],
        }
        for name, values in expected.items():
            assert obs[env.layout[name]] == pytest.approx(np.asarray(values, float), rel=1e-5, abs=1e-5), (name, s)
        assert obs in env.observation_space


def test_the_state_is_that_of_the_two_stage_environment(days: Dataset) -> None:
    real_time, two_stage = RealTimeEnv(days, planner=lambda _: np.zeros((10, 24))), TwoStageEnv(days)
    nothing = {name: np.zeros(space.shape) for name, space in two_stage.action_space.items()}
    rng, row = np.random.default_rng(0), int(days.days("train")[2])
    real_time.reset(options={"day": row})
    two_stage.reset(options={"day": row})
    two_stage.step(nothing)
    for _ in range(24):
        action = rng.uniform(-1, 1, 30).astype(np.float32)
        obs = real_time.step(action)[0]
        parts = dict(zip(("battery", "shiftable", "curtail"), action.reshape(3, 10), strict=True))
        other = two_stage.step({**nothing, **parts})[0]
        for name, values in {
            "soc": (other["soc_kwh"] - 10.0) / 190.0,
            "backlog": other["backlog_kwh"] / 200.0,
            "connection_peak": other["connection_peak_kw"] / 50.0,
            "community_peak": other["community_peak_kw"] / 500.0,
        }.items():
            assert obs[real_time.layout[name]] == pytest.approx(values, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("hour", [0, 11, 22])
def test_nothing_after_an_hour_is_seen_up_to_it(days: Dataset, split: str, hour: int) -> None:
    row = int(days.days(split)[3])
    truth = play_days(RealTimeEnv(days, split=split), 0, hour + 1, day=row)
    told = play_days(RealTimeEnv(with_another_future(days, row, hour), split=split), 0, hour + 1, day=row)
    for before, after in zip(truth[: hour + 1], told[: hour + 1], strict=True):
        assert np.array_equal(before[0], after[0])
    assert not np.array_equal(truth[-1][0], told[-1][0])  # the probe itself: the next hour is seen


def test_bounds_are_finite_constants_that_no_data_can_move(days: Dataset) -> None:
    space = RealTimeEnv(days).observation_space
    assert space == RealTimeEnv(tiny_dataset(seed=5)).observation_space
    assert space.dtype == np.float32
    assert np.isfinite(space.low).all()
    assert np.isfinite(space.high).all()
    assert (space.low < space.high).all()


def test_the_embedded_days_lie_inside_the_space() -> None:
    assert "tehran-v0" in list_datasets()
    env = RealTimeEnv(split="test", days_per_episode=2)
    for seed in range(3):
        assert all(step[0] in env.observation_space for step in play_days(env, seed))


def test_communities_without_one_of_the_units_divide_nothing_by_zero(days: Dataset, community: Community) -> None:
    bare = dataclasses.replace(
        community.fleet, battery_power_kw=0.0, soc_min_kwh=0.0, soc_max_kwh=0.0, soc_initial_kwh=0.0,
        connection_limit_kw=0.0, position_limit_kw=0.0, backlog_min_kwh=0.0, backlog_max_kwh=0.0,
    )  # fmt: skip
    env = RealTimeEnv(days, community.replace(fleet=bare))
    for obs, _ in play_days(env, 0):
        assert obs in env.observation_space
        assert not obs[env.layout["soc"]].any()
        assert not obs[env.layout["backlog"]].any()


def test_quarters_of_an_hour_and_data_without_weather(community: Community) -> None:
    data = tiny_dataset(num_days=3, hours=96)
    env = RealTimeEnv(data, community.replace(hours_per_day=96))
    steps = play_days(env, 0)
    assert len(steps) == 97
    assert all(step[0] in env.observation_space for step in steps)
    place = env.layout["temperature_forecast"]
    assert place.stop - place.start == 48
    less = data.replace(
        covariates=("humidity",), weather=data.weather[..., :1], weather_forecast=data.weather_forecast[..., :1]
    )
    bare = RealTimeEnv(less, community.replace(hours_per_day=96))
    assert env.layout.keys() - bare.layout.keys() == {"temperature_forecast", "irradiance_forecast"}
    assert all(step[0] in bare.observation_space for step in play_days(bare, 0))


def test_the_table_names_each_feature_once() -> None:
    names = [feature.name for feature in TABLE]
    assert len(set(names)) == len(names)
    assert all(feature.unit and feature.description and feature.low < feature.high for feature in TABLE)


def test_a_planner_sees_the_gate_of_each_day_once(days: Dataset) -> None:
    seen: list[dict[str, np.ndarray]] = []

    def planner(obs: dict[str, np.ndarray]) -> np.ndarray:
        seen.append(obs)
        return 60.0 * np.ones((10, 24))  # beyond the limit of 50

    env = RealTimeEnv(days, days_per_episode=2, planner=planner)
    assert not seen
    row = int(days.days("train")[0])
    steps = play_days(env, 0, day=row)
    assert len(seen) == 2
    play_days(env, 0, day=row + 1)
    assert len(seen) == 3
    for k, obs in enumerate(seen):
        assert obs.keys() == TwoStageEnv(days).observation_space.spaces.keys()
        gate, _ = TwoStageEnv(days).reset(options={"day": row + k})
        assert all(np.array_equal(values, gate[name]) for name, values in obs.items())
    assert (steps[0][0][env.layout["position"]] == 1.0).all()
    assert (steps[30][0][env.layout["position"]] == 1.0).all()


def test_a_bad_plan_is_refused_with_its_day(days: Dataset) -> None:
    row = int(days.days("train")[5])
    for plan, what in (
        (np.zeros((24, 10)), "shape"),
        (np.full((10, 24), np.nan), "NaN"),
        ("nothing", "not an array"),
    ):
        env = RealTimeEnv(days, planner=lambda _, plan=plan: plan)
        with pytest.raises(UsageError, match=rf"planner: {days.dates[row]} \(row {row}\).*{what}"):
            env.reset(options={"day": row})
