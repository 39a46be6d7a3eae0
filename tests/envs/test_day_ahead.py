from __future__ import annotations

import pickle

import gymnasium as gym
import numpy as np
import pytest
from support import tiny_dataset
from support_leakage import with_another_future

from prosumer_gym.actions import DayActions
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import DayAheadEnv, DayAheadVectorEnv, TwoStageEnv
from prosumer_gym.envs.reward import REWARD_TERMS
from prosumer_gym.errors import UsageError
from prosumer_gym.reference import no_control_dispatch, no_control_position
from prosumer_gym.rollout import rollout


def some_action(seed: int, env: DayAheadEnv, spread: float = 1.0) -> np.ndarray:
    shape = env.action_space.shape
    assert shape is not None
    return np.random.default_rng(seed).uniform(-spread, spread, shape).astype(np.float32)


def test_a_day_is_the_two_stage_day_that_nobody_steers(days: Dataset) -> None:
    single, two_stage = DayAheadEnv(days), TwoStageEnv(days)
    community, row = single.community, int(days.days("train")[3])
    single.reset(seed=0, options={"day": row})
    obs, _ = two_stage.reset(seed=0, options={"day": row})
    action = some_action(1, single, 1.2)
    _, reward, terminated, truncated, info = single.step(action)
    part = {name: space.sample() for name, space in two_stage.action_space.spaces.items()}  # type: ignore[attr-defined]
    part["day_ahead"] = action.astype(np.float64).reshape(community.num_prosumers, -1)
    total, cost_ct, peak_kw, excess, losses, violated, clipped = 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0
    for hour in range(-1, community.hours_per_day):
        if hour >= 0:
            shiftable = 2.0 * obs["shiftable_ref_kw"][hour] / community.fleet.shiftable_power_kw - 1.0
            part |= {name: 0.0 * part[name] for name in ("battery", "curtail", "trade")} | {"shiftable": shiftable}
        obs, one, over, _, told = two_stage.step(part)
        total += one
        cost_ct += told["community_cost_ct"]
        peak_kw = max(peak_kw, told["exchange_kw"])
        excess, losses = excess + told["voltage_excess_pu"], losses + told["losses_kw"]
        violated, clipped = violated + told["violated_buses"], clipped + told["clipped"]
    assert (terminated, over, truncated) == (True, True, False)
    assert reward == pytest.approx(total, rel=1e-12)
    assert info["community_cost_ct"] == pytest.approx(cost_ct, rel=1e-12)
    assert info["community_peak_kw"] == pytest.approx(peak_kw, rel=1e-12)
    assert info["voltage_excess_pu_h"] == pytest.approx(excess, rel=1e-9)
    assert info["losses_kwh"] == pytest.approx(losses, rel=1e-12)
    assert (info["violated_bus_steps"], info["clipped"]) == (violated, clipped)
    assert info["out_of_range"] == (np.abs(action) > 1.0).sum() > 0
    assert reward == sum(info["reward_terms"].values())
    assert list(info["reward_terms"]) == list(REWARD_TERMS)
    assert (info["day"], info["converged"]) == (row, True)


def test_the_reference_can_be_read_off_the_observation(days: Dataset, community: Community) -> None:
    env, row = DayAheadEnv(days, split="test"), int(days.days("test")[2])
    obs, _ = env.reset(options={"day": row})
    _, _, _, _, info = env.step(np.maximum(obs[env.layout["net_load_last_week"]], 0.0))
    past = slice(row - 8, row)
    position_kw = no_control_position(
        days.load_kw[past], days.pv_kw[past], days.shiftable_ref_kw[row], community.fleet.position_limit_kw
    )
    hours = [no_control_dispatch(hour_kw, community.num_offers) for hour_kw in days.shiftable_ref_kw[row]]
    played = rollout(community, days.exogenous, [row], DayActions.stack([DayActions.from_steps(position_kw, hours)]))
    assert info["community_cost_ct"] == pytest.approx(played.cost_ct.sum(), rel=1e-6)  # float32 of the observation


def test_what_is_seen_is_what_is_named(days: Dataset, community: Community) -> None:
    env, row = DayAheadEnv(days), int(days.days("train")[5])
    obs, _ = env.reset(options={"day": row})
    fleet, layout = community.fleet, env.layout
    seen = {name: obs[place].astype(np.float64) for name, place in layout.items()}
    week, angle = slice(row - 7, row), 2.0 * np.pi * days.day_of_year[row] / 365.25
    net_kw = days.load_kw - days.pv_kw
    expected = {
        "season": [np.sin(angle), np.cos(angle)],
        "weekend": [float(days.weekend[row])],
        "price_da": days.price_da_ct_per_kwh[row] / 10.0,
        "past_price_rt": days.price_rt_ct_per_kwh[week].mean(axis=0) / 10.0,
        "temperature_forecast": (days.weather_forecast[row, :, :, 0].mean(axis=1) - 20.0) / 20.0,
        "cloud_forecast": days.weather_forecast[row, :, :, 1].mean(axis=1),
        "irradiance_forecast": days.weather_forecast[row, :, :, 2].mean(axis=1) / 1000.0,
        "net_load_yesterday": (net_kw[row - 1] + days.shiftable_ref_kw[row - 1]).mean(axis=0) / fleet.position_limit_kw,
        "net_load_last_week": ((net_kw[week].mean(axis=0) + days.shiftable_ref_kw[row]) / fleet.position_limit_kw)
        .T.ravel(),
        "soc": (fleet.soc_initial_kwh - fleet.soc_min_kwh) / (fleet.soc_max_kwh - fleet.soc_min_kwh),
        "days_left": [0.0],
    }  # fmt: skip
    assert seen.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(seen[name], values, atol=1e-6, err_msg=name)
    assert env.observation_space.contains(obs)
    assert obs.dtype == np.float32
    assert sum(place.stop - place.start for place in layout.values()) == obs.size


def test_nothing_of_the_day_itself_is_seen(days: Dataset) -> None:
    row = int(days.days("train")[4])
    now, _ = DayAheadEnv(days).reset(options={"day": row})
    other, _ = DayAheadEnv(with_another_future(days, row, -1)).reset(options={"day": row})
    np.testing.assert_array_equal(now, other)


def test_an_episode_of_days_keeps_the_batteries_and_moves_on(days: Dataset) -> None:
    env, row = DayAheadEnv(days, days_per_episode=3), int(days.days("train")[0])
    obs, _ = env.reset(options={"day": row})
    left, ended = [], []
    for k in range(3):
        left.append(float(obs[env.layout["days_left"]][0]))
        np.testing.assert_allclose(obs[env.layout["price_da"]], days.price_da_ct_per_kwh[row + k] / 10.0, rtol=1e-6)
        obs, _, over, _, info = env.step(some_action(k, env))
        ended.append(over)
        assert info["day"] == row + k
    np.testing.assert_allclose(left, [2 / 3, 1 / 3, 0.0], rtol=1e-6)
    assert ended == [False, False, True]


@pytest.mark.parametrize("num_envs", [1, 5, 300])
def test_a_lane_is_the_single_environment_with_its_seed(days: Dataset, num_envs: int) -> None:
    batch = DayAheadVectorEnv(num_envs, days, days_per_episode=2, threads=2)
    seen, _ = batch.reset(seed=11)
    rng = np.random.default_rng(5)
    actions = [rng.uniform(-1, 1, batch.action_space.shape or ()).astype(np.float32) for _ in range(5)]
    steps = [batch.step(action) for action in actions]
    for lane in {0, num_envs // 2, num_envs - 1}:
        env = DayAheadEnv(days, days_per_episode=2)
        obs, _ = env.reset(seed=11 + lane)
        np.testing.assert_array_equal(obs, seen[lane])
        over = False
        for action, (all_obs, rewards, terminated, _, infos) in zip(actions, steps, strict=True):
            if over:
                obs, info = env.reset()
                reward, over = 0.0, False
            else:
                obs, reward, over, _, info = env.step(action[lane])
                assert infos["losses_kwh"][lane] == info["losses_kwh"]
            np.testing.assert_array_equal(obs, all_obs[lane])
            assert (reward, over) == (rewards[lane], terminated[lane])
            assert infos["day"][lane] == info["day"]


def test_pickled_in_the_middle_of_an_episode_it_goes_on_the_same(days: Dataset) -> None:
    env = DayAheadEnv(days, days_per_episode=2)
    env.reset(seed=2)
    env.step(some_action(0, env))
    copy = pickle.loads(pickle.dumps(env))
    for one, two in zip(env.step(some_action(1, env))[:2], copy.step(some_action(1, env))[:2], strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(env.reset()[0], copy.reset()[0])


def test_a_bad_action_is_named_and_changes_nothing(days: Dataset) -> None:
    env = gym.make("ProsumerGym/DayAhead-v0", dataset=days, disable_env_checker=True)
    env.reset(seed=0)
    action = np.zeros(240, np.float32)
    action[3 * 24 + 7] = np.nan
    with pytest.raises(
        UsageError, match=r"^action: position of prosumer 3 in hour 7 is NaN; give numbers in \[-1, 1\]$"
    ):
        env.step(action)
    with pytest.raises(UsageError, match=r"^action: shape \(24,\), expected \(240,\)$"):
        env.step(np.zeros(24, np.float32))
    with pytest.raises(UsageError, match=r"^action: is not an array of numbers"):
        env.step("buy")
    fresh = gym.make("ProsumerGym/DayAhead-v0", dataset=days, disable_env_checker=True)
    fresh.reset(seed=0)
    assert env.step(np.zeros(240))[1] == fresh.step(np.zeros(240))[1]
    batch = DayAheadVectorEnv(2, days)
    batch.reset(seed=0)
    with pytest.raises(UsageError, match="lane 1, position of prosumer 3"):
        batch.step(np.stack([np.zeros(240, np.float32), action]))


def test_the_action_of_an_episode_that_is_over_is_not_read(days: Dataset) -> None:
    batch = DayAheadVectorEnv(2, days)
    batch.reset(seed=0)
    batch.step(np.zeros((2, 240), np.float32))
    _, rewards, terminated, _, info = batch.step(np.full((2, 240), np.nan, np.float32))
    assert rewards.tolist() == [0.0, 0.0]
    assert not terminated.any()
    assert info.keys() == {"day", "_day"}


def test_the_figures_of_a_day_do_not_depend_on_the_length_of_its_steps(community: Community) -> None:
    data = tiny_dataset(num_days=5, hours=6)
    stage = community.replace(hours_per_day=6, feeder=community.feeder.replace(v_min_pu=0.99))
    env = DayAheadEnv(data, stage)
    _, start = env.reset(seed=0)
    action = some_action(2, env, 0.5)
    info = env.step(action)[4]
    position_kw = action.astype(np.float64).reshape(10, 6) * stage.fleet.position_limit_kw[:, np.newaxis]
    hours = [no_control_dispatch(ref_kw, stage.num_offers) for ref_kw in data.shiftable_ref_kw[start["day"]]]
    day = DayActions.stack([DayActions.from_steps(position_kw, hours)])
    played = rollout(stage, data.exogenous, [start["day"]], day)
    excess_pu = np.maximum(0.99 - played.v_pu, 0.0).sum()
    assert excess_pu > 0.01
    assert info["voltage_excess_pu_h"] == pytest.approx(4.0 * excess_pu, rel=1e-9)
    assert info["losses_kwh"] == pytest.approx(4.0 * played.losses_kw.sum(), rel=1e-12)
    assert info["community_peak_kw"] == pytest.approx(played.exchange_kw.max(), rel=1e-12)
