"""The real-time environment plays what the simulator and the two-stage environment play, bit by bit."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import operator
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from support import tiny_dataset

from prosumer_gym.actions import position_from_kw
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import RealTimeEnv, RewardWeights, TwoStageEnv
from prosumer_gym.envs.real_time import INFO_TABLE
from prosumer_gym.envs.reward import REWARD_TERMS, reward_terms
from prosumer_gym.errors import UsageError
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.simulator import Simulator

ID = "ProsumerGym/RealTime-v0"


def planned(obs: dict[str, np.ndarray]) -> np.ndarray:
    """A plan that depends on what the gate shows, beyond the position limit now and then."""
    return 3.0 * obs["past_load_kw"][-1].T - obs["past_pv_kw"][-2].T


def to_kw(community: Community, action: np.ndarray, pv_kw: np.ndarray) -> list[np.ndarray]:
    """The action's parts in kW, said plainly."""
    fleet, num = community.fleet, community.num_prosumers
    battery, shiftable, curtail = np.clip(np.asarray(action, np.float64), -1.0, 1.0).reshape(3, num)
    return [
        battery * fleet.battery_power_kw,
        (0.5 + 0.5 * shiftable) * fleet.shiftable_power_kw,
        np.maximum(curtail, 0.0) * pv_kw,
    ]


def play(env: RealTimeEnv, seed: int, scale: float = 1.3, **options: Any) -> list[tuple[Any, ...]]:
    """Steps (action, observation, reward, terminated, truncated, info); the first holds the reset."""
    rng = np.random.default_rng(seed)
    obs, info = env.reset(seed=seed, options=options)
    steps: list[tuple[Any, ...]] = [(None, obs, 0.0, False, False, info)]
    while not steps[-1][3]:
        action = rng.uniform(-scale, scale, env.action_space.shape).astype(np.float32)
        steps.append((action, *env.step(action)))
    return steps


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_it_plays_what_the_simulator_plays_to_the_bit(days: Dataset, community: Community, mechanism: str) -> None:
    community = community.replace(mechanism=mechanism)
    env = RealTimeEnv(days, community, days_per_episode=2, planner=planned)
    steps = play(env, seed=3)
    first = steps[0][5]["day"]
    simulator, weights = Simulator(community, days.exogenous, 1), RewardWeights()
    simulator.reset(first, days_per_episode=2)
    for s, (action, obs, reward, over, _, info) in enumerate(steps[1:]):
        row, hour = first + s // 24, s % 24
        if hour == 0:
            past = {"past_load_kw": days.load_kw[row - 8 : row], "past_pv_kw": days.pv_kw[row - 8 : row]}
            simulator.commit(planned(past)[..., np.newaxis])
        wanted = to_kw(community, action, days.pv_kw[row, hour])
        result = simulator.step(*(part[:, np.newaxis] for part in wanted))
        terms, total = reward_terms(weights, 1.0, result.cost_ct, result.voltage_excess_pu, result.peak_increase_kw)
        assert (info["day"], info["hour"]) == (row, hour)
        assert reward == total[0]
        assert list(info["reward_terms"].values()) == terms[:, 0].tolist()
        for name in ("community_cost_ct", "exchange_kw", "peak_increase_kw", "voltage_excess_pu", "losses_kw"):
            assert info[name] == getattr(result, name)[0], name
        assert info["violated_buses"] == result.violated_buses[0]
        assert info["converged"] == result.converged[0]
        assert info["clipped"] == result.clipped[0]
        assert info["out_of_range"] == (np.abs(action) > 1).sum() > 0
        assert over == result.done[0] == (s == 47)
        fleet = community.fleet
        share = (simulator.state.soc_kwh[:, 0] - fleet.soc_min_kwh) / (fleet.soc_max_kwh - fleet.soc_min_kwh)
        assert obs[env.layout["soc"]] == pytest.approx(share, rel=1e-6)
    assert np.array_equal(env.game.soc_kwh, simulator.state.soc_kwh)


def test_it_is_the_two_stage_environment_with_the_same_position_and_the_central_offers(
    days: Dataset, community: Community
) -> None:
    real_time, two_stage = RealTimeEnv(days, planner=planned), TwoStageEnv(days)
    steps = play(real_time, seed=8)
    row = steps[0][5]["day"]
    obs, _ = two_stage.reset(options={"day": row})
    limit_kw = community.fleet.position_limit_kw[:, np.newaxis]
    nothing = {name: np.zeros(space.shape) for name, space in two_stage.action_space.items()}
    position_kw = np.clip(planned(obs), -limit_kw, limit_kw)
    two_stage.step({**nothing, "day_ahead": position_from_kw(community, position_kw)})
    probe = Simulator(community, days.exogenous, 1)
    probe.reset(row)
    probe.commit(position_kw[..., np.newaxis])
    for hour, (action, seen, reward, over, _, _) in enumerate(steps[1:]):
        wanted = to_kw(community, action, days.pv_kw[row, hour])
        trade_kw = probe.step(*(part[:, np.newaxis] for part in wanted)).trade_kw[:, 0]
        offers = np.concatenate((trade_kw, -trade_kw)) / community.offer_limits
        parts = dict(zip(("battery", "shiftable", "curtail"), action.reshape(3, 10), strict=True))
        obs, expected, done, _, info = two_stage.step({**nothing, **parts, "trade": offers})
        assert reward == pytest.approx(expected, abs=1e-9)
        assert 10.0 + 190.0 * seen[real_time.layout["soc"]] == pytest.approx(obs["soc_kwh"], rel=1e-6)
        assert np.abs(info["trade_kw"] - trade_kw).max() < 1e-9
        assert over == done
    assert np.array_equal(real_time.game.soc_kwh[:, 0], obs["soc_kwh"])


def test_terms_sum_exactly_to_the_reward(days: Dataset, community: Community) -> None:
    tight = community.replace(feeder=community.feeder.replace(v_min_pu=0.98, v_max_pu=1.0))
    env = RealTimeEnv(days, tight, reward={"voltage_ct_per_pu_h": 77.7, "peak_ct_per_kw": 3.3})
    for step in itertools.chain.from_iterable(play(env, seed)[1:] for seed in range(8)):
        reward, info = step[2], step[5]
        assert tuple(info["reward_terms"]) == REWARD_TERMS
        assert functools.reduce(operator.add, info["reward_terms"].values()) == reward
        assert info["reward_terms"]["community_peak"] == -3.3 * info["peak_increase_kw"]
        assert info["reward_terms"]["voltage"] == -77.7 * info["voltage_excess_pu"] < 0.0


def test_an_info_always_has_the_same_keys_and_pythons_own_types(days: Dataset) -> None:
    steps = play(RealTimeEnv(days), seed=0)
    assert steps[0][5].keys() == {"day"}
    for _, obs, reward, terminated, truncated, info in steps[1:]:
        assert [(name, type(value)) for name, value in info.items()] == [(n.name, n.kind) for n in INFO_TABLE]
        assert all(type(term) is float for term in info["reward_terms"].values())
        assert type(reward) is float
        assert type(terminated) is bool
        assert truncated is False
        assert obs.dtype == np.float32


def test_gymnasiums_checker_has_no_complaint(days: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(ID, dataset=days)
        check_env(env.unwrapped, skip_render_check=True)
        env.reset(seed=0)
        ends = [env.step(env.action_space.sample())[2:4] for _ in range(24)]
    assert ends == [(False, False)] * 23 + [(True, False)]
    assert env.spec is not None
    assert env.spec.max_episode_steps is None


def test_stable_baselines_checker_has_no_complaint(days: Dataset) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        checker.check_env(RealTimeEnv(days), warn=True)


def test_a_specification_survives_json() -> None:
    arguments = {"split": "dev", "mechanism": "mid-market-rate"}
    spec = gym.make(ID, **arguments).spec
    assert spec is not None
    assert json.loads(spec.to_json())["kwargs"] == arguments
    assert gym.make(EnvSpec.from_json(spec.to_json())).unwrapped.community.mechanism == "mid-market-rate"


def test_bad_actions_are_refused_by_name_and_change_nothing(days: Dataset) -> None:
    env, twin = RealTimeEnv(days), RealTimeEnv(days)
    for each in (env, twin):
        each.reset(seed=0)
        each.step(np.zeros(30))
    for place, name in ((3, "battery of prosumer 3"), (10, "shiftable of prosumer 0"), (29, "curtail of prosumer 9")):
        action = np.zeros(30, np.float32)
        action[place] = np.nan
        with pytest.raises(UsageError, match=name):
            env.step(action)
    for wrong in (np.zeros(29), np.zeros((1, 30)), 0.0):
        with pytest.raises(UsageError, match=r"shape .*, expected \(30,\)"):
            env.step(wrong)
    for wrong in ("much", {"battery": np.zeros(10)}, [[0.0], [0.0, 1.0]]):
        with pytest.raises(UsageError, match="action"):
            env.step(wrong)
    assert data_equivalence(env.step(np.ones(30)), twin.step(np.ones(30)), exact=True)


def test_beyond_the_range_is_the_same_as_at_its_end_and_is_counted(days: Dataset) -> None:
    one, two = RealTimeEnv(days), RealTimeEnv(days)
    signs = np.where(np.arange(30) % 2 == 0, 1.0, -1.0)
    for env in (one, two):
        env.reset(seed=0)
    for _ in range(24):
        mild = two.step(signs)
        far = one.step(np.where(signs > 0, np.inf, -3.0))
        assert far[4].pop("out_of_range") == 30
        assert mild[4].pop("out_of_range") == 0
        assert data_equivalence(far, mild, exact=True)


def test_what_single_precision_cannot_hold_is_clipped_without_a_warning(days: Dataset) -> None:
    one, two = RealTimeEnv(days), RealTimeEnv(days)
    for env in (one, two):
        env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = one.step(np.full(30, 1e300))
    assert far[4].pop("out_of_range") == 30
    mild = two.step([1.0] * 30)
    assert mild[4].pop("out_of_range") == 0
    assert data_equivalence(far, mild, exact=True)


def test_order_is_kept(days: Dataset) -> None:
    env = RealTimeEnv(days)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(30))
    play(env, seed=0)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(30))
    env.close()
    env.close()


def test_it_can_be_pickled_in_the_middle_of_an_episode(days: Dataset) -> None:
    env = RealTimeEnv(days, days_per_episode=2, planner=planned)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(30):
        env.step(rng.uniform(-1, 1, 30))
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(60):
        action = rng.uniform(-1, 1, 30)
        mine, theirs = env.step(action), twin.step(action)
        assert data_equivalence(mine, theirs, exact=True)
        if mine[2]:
            assert data_equivalence(env.reset(), twin.reset(), exact=True)


def test_what_is_handed_out_is_never_touched_again(days: Dataset) -> None:
    env = RealTimeEnv(days)
    steps = play(env, seed=3)
    copies = pickle.loads(pickle.dumps(steps))
    play(env, seed=4)
    assert data_equivalence(steps, copies, exact=True)


def test_the_days_are_those_of_the_two_stage_environment(days: Dataset) -> None:
    one, two = RealTimeEnv(days, days_per_episode=3), TwoStageEnv(days, days_per_episode=3)
    assert [one.reset(seed=5 if k == 0 else None)[1] for k in range(30)] == [
        two.reset(seed=5 if k == 0 else None)[1] for k in range(30)
    ]
    row = int(days.days("train")[4])
    for day in (row, str(days.dates[row])):
        assert one.reset(options={"day": day})[1] == {"day": row}
    with pytest.raises(UsageError, match="cannot begin"):
        one.reset(options={"day": int(days.days("test")[0])})


@pytest.mark.parametrize("num", [1, 3, 4, 17])
def test_communities_of_other_sizes(community: Community, num: int) -> None:
    buses = list(range(1, num + 1))
    other = Community("other", community.feeder, Fleet.identical(buses), TradeGraph.ring_with_chords(num))
    data = tiny_dataset(num_days=5, num_prosumers=num)
    env, simulator = RealTimeEnv(data, other), Simulator(other, data.exogenous, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
    steps = play(env, seed=1)
    row = steps[0][5]["day"]
    simulator.reset(row)
    simulator.commit(env.game._plans.plan(np.array([row]))[0][..., np.newaxis])
    for hour, (action, obs, _, _, _, info) in enumerate(steps[1:]):
        wanted = to_kw(other, action, data.pv_kw[row, hour])
        result = simulator.step(*(part[:, np.newaxis] for part in wanted))
        assert info["community_cost_ct"] == result.community_cost_ct[0]
        assert obs in env.observation_space
        assert obs[env.layout["connection_peak"]] == pytest.approx(
            simulator.state.connection_peak_kw[:, 0] / other.fleet.connection_limit_kw, rel=1e-6
        )


def test_a_collapsed_power_flow_is_flagged_and_never_nan(community: Community) -> None:
    heavy = community.replace(feeder=community.feeder.replace(p_kw=community.feeder.p_kw * 30))
    env = RealTimeEnv(tiny_dataset(num_days=5), heavy)
    env.reset(seed=0)
    obs, reward, _, _, info = env.step(np.zeros(30))
    assert info["converged"] is False
    assert info["violated_buses"] == 32
    assert np.isfinite(reward)
    assert np.isfinite(obs).all()


def test_pv_is_as_large_as_the_communitys(days: Dataset, community: Community) -> None:
    doubled = community.replace(fleet=dataclasses.replace(community.fleet, pv_ratio=np.full(10, 2.0)))
    env, plain = RealTimeEnv(days, doubled), RealTimeEnv(days)
    row = int(days.days("train")[0])
    for each in (env, plain):
        each.reset(options={"day": row})
    for _ in range(12):
        obs, other = env.step(np.zeros(30))[0], plain.step(np.zeros(30))[0]
    assert obs[env.layout["pv"]] == pytest.approx(2.0 * other[env.layout["pv"]])
    assert obs[env.layout["pv"]].any()
