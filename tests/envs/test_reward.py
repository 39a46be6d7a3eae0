from __future__ import annotations

import functools
import operator

import numpy as np
import pytest
from support import tiny_dataset

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import RewardWeights, TwoStageEnv
from prosumer_gym.envs.reward import REWARD_TERMS, reward_terms
from prosumer_gym.errors import UsageError
from prosumer_gym.simulator import COST_TERMS


def test_terms_by_hand() -> None:
    cost_ct = np.zeros((len(COST_TERMS), 2, 1))
    cost_ct[0, :, 0] = [3.0, -1.0]
    cost_ct[4, :, 0] = [0.0, 20.0]
    terms, total = reward_terms(
        RewardWeights(voltage_ct_per_pu_h=1000.0, peak_ct_per_kw=5.0), 0.5, cost_ct, np.array([0.02]), np.array([4.0])
    )
    named = dict(zip(REWARD_TERMS, terms[:, 0].tolist(), strict=True))
    assert named == dict.fromkeys(REWARD_TERMS, 0.0) | {
        "day_ahead": -2.0, "demand_charge": -20.0, "voltage": -10.0, "community_peak": -20.0,
    }  # fmt: skip
    assert total.tolist() == [-52.0]


def test_terms_sum_exactly_to_the_reward_and_money_is_the_cost(days: Dataset) -> None:
    env = TwoStageEnv(days, days_per_episode=2)
    env.action_space.seed(0)
    env.reset(seed=0)
    over = False
    while not over:
        _, reward, over, _, info = env.step(env.action_space.sample())
        terms = info["reward_terms"]
        assert tuple(terms) == REWARD_TERMS
        assert functools.reduce(operator.add, terms.values()) == reward
        money = sum(terms[name] for name in COST_TERMS)
        assert money == pytest.approx(-info["community_cost_ct"], abs=1e-9)
        for t, name in enumerate(COST_TERMS):
            assert terms[name] == pytest.approx(-info["cost_ct"][t].sum(), abs=1e-9)


def test_the_peak_term_telescopes_to_the_peak_of_the_day(days: Dataset) -> None:
    env = TwoStageEnv(days, days_per_episode=2, reward={"peak_ct_per_kw": 7.0})
    env.action_space.seed(2)
    env.reset(seed=2)
    for _ in range(2):
        steps = [env.step(env.action_space.sample()) for _ in range(25)]
        peak_kw = max(0.0, *(step[4]["net_import_kw"].sum() for step in steps[1:]))
        assert sum(step[4]["reward_terms"]["community_peak"] for step in steps) == pytest.approx(-7.0 * peak_kw)


def test_the_voltage_term_is_the_excess_over_the_limits(community: Community) -> None:
    tight = community.replace(feeder=community.feeder.replace(v_min_pu=0.99, v_max_pu=1.0))
    env = TwoStageEnv(tiny_dataset(num_days=5), tight, reward=RewardWeights(voltage_ct_per_pu_h=100.0))
    env.action_space.seed(0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    for _ in range(24):
        info = env.step(env.action_space.sample())[4]
        excess = np.maximum(0.99 - info["v_pu"], 0) + np.maximum(info["v_pu"] - 1.0, 0)
        assert info["reward_terms"]["voltage"] == pytest.approx(-100.0 * excess.sum())
        assert info["violated_buses"] == (excess > 0).sum() > 0


def test_a_collapsed_power_flow_is_flagged_and_costs_a_lot_but_is_never_nan(community: Community) -> None:
    heavy = community.replace(feeder=community.feeder.replace(p_kw=community.feeder.p_kw * 30))
    env = TwoStageEnv(tiny_dataset(num_days=5), heavy)
    env.action_space.seed(0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    obs, reward, _, _, info = env.step(env.action_space.sample())
    assert info["converged"] is False
    assert obs in env.observation_space
    assert np.isfinite(reward)
    assert info["reward_terms"]["voltage"] < -100_000


def test_bad_weights_are_refused_by_name() -> None:
    for name in ("voltage_ct_per_pu_h", "peak_ct_per_kw"):
        for value in (-1.0, float("nan"), float("inf"), "much"):
            with pytest.raises(UsageError, match=name):
                RewardWeights.of({name: value})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="'comfort'"):
        RewardWeights.of({"comfort": 1.0})
