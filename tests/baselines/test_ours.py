"""The policy `ours`: what it plans on, what it pays for, and that it pays.

Axes: N prosumers, H hours of a day, S scenarios.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from support_policies import play, small_community, small_days

from prosumer_gym.actions import DayActions, to_kw
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.ours import FEW, Ours
from prosumer_gym.baselines.policy import Observation, Policy
from prosumer_gym.baselines.registry import make_policy
from prosumer_gym.baselines.score_prices import ScorePrices, day_gaps, score_prices
from prosumer_gym.leaderboard.metrics import day_metrics
from prosumer_gym.rollout import rollout

MODES = ("open_loop", "mpc")


@cache
def fitted(mode: str, name: str = "ours") -> Any:
    policy = make_policy(name, mode)
    policy.fit(small_community(), small_days().training_history())
    return policy


@cache
def day() -> list[Observation]:
    """The observations of a day, gate first."""
    return play(fitted("mpc"), small_community(), small_days(), dev_rows()[1])[0]


def dev_rows() -> list[int]:
    return [int(row) for row in small_days().days("dev")]


def dispatch_at(policy: Ours, obs: Observation) -> FloatArray:
    return np.asarray(policy.dispatch(obs).battery_kw)


@pytest.mark.parametrize("mode", MODES)
def test_errors_are_zero_in_the_mean(mode: str) -> None:
    policy: Ours = fitted(mode)
    assert len(policy.forecaster.errors) == (FEW if mode == "mpc" else 36)  # all training days, there are so few
    np.testing.assert_allclose(policy.forecaster.errors.mean(axis=0), 0.0, atol=1e-12)
    for obs in day():
        scenarios, forecast = policy.scenarios(obs), policy.forecaster.forecast(obs)
        np.testing.assert_allclose(scenarios.price_rt_ct_per_kwh.mean(axis=0), forecast.price_rt_ct_per_kwh)
        inside = np.min(scenarios.load_kw, axis=0) > 0.0
        assert inside.mean() > 0.9
        np.testing.assert_allclose(scenarios.load_kw.mean(axis=0)[inside], forecast.load_kw[inside])


def test_the_prices_are_those_of_the_training_days() -> None:
    history = small_days().training_history()
    rows = np.flatnonzero(history.is_training)
    expected = score_prices(day_gaps(small_community(), history, rows))  # all of them, there are so few
    for mode in MODES:
        assert fitted(mode).prices == pytest.approx(expected)
    assert expected.peak_ct > 0.0


def test_a_kw_of_peak_costs_its_share_of_the_demand_that_is_expected() -> None:
    policy: Ours = fitted("mpc")
    gate, noon = day()[0], day()[5]  # hour 4 of 8
    scenarios = policy.scenarios(gate)
    gross_kw = (scenarios.mean_load_kw + gate["shiftable_ref_kw"]).sum() / 8.0
    price = policy.peak_price(gate, scenarios)
    assert price.ct_per_kw == pytest.approx(policy.prices.peak_ct / gross_kw)
    assert price.so_far_kw == 0.0
    scenarios = policy.scenarios(noon)
    load_kw = np.concatenate([noon["load_kw"][:4], scenarios.mean_load_kw])
    price = policy.peak_price(noon, scenarios)
    assert price.ct_per_kw == pytest.approx(policy.prices.peak_ct / ((load_kw + noon["shiftable_ref_kw"]).sum() / 8.0))
    assert price.so_far_kw == noon["community_peak_kw"][0]


def test_below_the_peak_that_has_been_the_peak_costs_nothing() -> None:
    free, policy = Ours("mpc"), Ours("mpc")
    vars(free).update(vars(fitted("mpc")) | {"prices": fitted("mpc").prices._replace(peak_ct=0.0)})
    vars(policy).update(vars(fitted("mpc")) | {"prices": fitted("mpc").prices._replace(peak_ct=3000.0)})
    obs = dict(day()[3])
    obs["community_peak_kw"] = np.array([0.0])
    assert np.max(np.abs(dispatch_at(policy, obs) - dispatch_at(free, obs))) > 0.1
    obs["community_peak_kw"] = np.array([1e3])
    np.testing.assert_allclose(dispatch_at(policy, obs), dispatch_at(free, obs), atol=1e-2)


def test_voltages_cost_what_the_score_pays() -> None:
    policy = Ours("mpc")
    vars(policy).update(vars(fitted("mpc")) | {"prices": ScorePrices(0.0, 123.0)})
    network = policy._penalty(day()[0])
    assert network.price_ct_per_pu_h == 123.0


@pytest.mark.parametrize("mode", MODES)
def test_contexts_matter_unless_they_are_dealt_at_random(mode: str) -> None:
    obs = day()[0]
    told, dealt = fitted(mode), fitted(mode, "ours+permuted")
    assert np.max(np.abs(told.plan(obs) - dealt.plan(obs))) > 0.1
    assert dealt.prices == told.prices


def test_it_is_better_than_one_forecast_at_what_is_scored() -> None:
    """Cost, peak and voltages of twelve dev days, at the prices of the score."""
    community, days, rows = small_community(), small_days(), dev_rows()

    def priced_ct(policy: Policy) -> FloatArray:
        played = []
        for row in rows:
            seen, actions, _ = play(policy, community, days, row)
            position_kw = community.fleet.position_limit_kw[:, None] * actions[0]["day_ahead"]
            hours = [
                to_kw(community, action, obs["pv_kw"][h])
                for h, (obs, action) in enumerate(zip(seen[1:], actions[1:], strict=True))
            ]
            played.append(DayActions.from_steps(position_kw, hours))
        trace = rollout(community, days.exogenous, np.array(rows), DayActions.stack(played))
        result = day_metrics(community, days.exogenous, np.array(rows), trace)
        prices = fitted("mpc").prices
        return np.asarray(
            result.cost_ct + prices.peak_ct * result.peak_ratio + prices.voltage_ct_per_pu_h * result.voltage_pu_h
        )

    gain_ct = priced_ct(fitted("mpc", "po")) - priced_ct(fitted("mpc"))
    assert gain_ct.mean() > 2.0 * gain_ct.std(ddof=1) / np.sqrt(len(rows))
