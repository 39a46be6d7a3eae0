from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from support import tiny_dataset
from support_leakage import assert_no_leak, with_another_future
from support_policies import play, small_community, small_days, total_cost_ct

from prosumer_gym.actions import DayActions, Dispatch, to_kw
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.day_ahead import Plan, Scenarios, solve_core
from prosumer_gym.baselines.er_saa import ResidualSampleAverage
from prosumer_gym.baselines.forecast import DayForecaster, DayValues
from prosumer_gym.baselines.no_control import NoControl
from prosumer_gym.baselines.oracle import oracle_cost
from prosumer_gym.baselines.po import PredictThenOptimise
from prosumer_gym.baselines.policy import MODES, Observation, Policy
from prosumer_gym.baselines.registry import make_policy, policy_infos
from prosumer_gym.baselines.saa import SampleAverage
from prosumer_gym.baselines.scenario_policy import (
    ScenarioPolicy,
    equally_spaced_days,
    observed_first,
    uniform_scenarios,
)
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.rollout import rollout

ALL = [(info.name, mode) for info in policy_infos() for mode in info.modes]
SCENARIO = ["po", "saa", "er-saa", "knn", "kernel", "forest"]


@cache
def fitted(name: str, mode: str) -> Policy:
    policy = make_policy(name, mode)
    policy.fit(small_community(), small_days().training_history())
    return policy


def dev_row(i: int = 0) -> int:
    return int(small_days().days("dev")[i])


def assert_same_actions(ones: list[Any], others: list[Any]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


# every policy


@pytest.mark.parametrize(("name", "mode"), ALL)
def test_actions_lie_in_the_action_space_and_are_feasible(name: str, mode: str) -> None:
    days, community = small_days(), small_community()
    space = TwoStageEnv(days, community, split="dev").action_space
    _, actions, infos = play(fitted(name, mode), community, days, dev_row())
    assert len(actions) == 9
    assert all(space.contains(action) for action in actions)
    assert all(info["converged"] for info in infos)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("name", "mode"), ALL)
def test_a_whole_day_under_each_mechanism(
    name: str, mode: str, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has too much sun, the other none. No step fails, no solver hands over to another, hindsight is not beaten."""
    plain, community = small_days(), small_community().replace(mechanism=mechanism)
    days = plain.replace(pv_kw=plain.pv_kw * np.array([3.0, 0.0]))
    made: list[Plan] = []

    def watched(*args: Any, **options: Any) -> Plan:
        made.append(solve_core(*args, **options))
        return made[-1]

    monkeypatch.setattr("prosumer_gym.baselines.scenario_policy.solve_core", watched)
    policy = make_policy(name, mode)
    if name == "dcso" and community.market.offers != "edges":
        with pytest.raises(UsageError, match=r"dcso: neighbours trade over edges, and .* has none; use bilateral"):
            policy.fit(community, days.training_history())
        return
    policy.fit(community, days.training_history())
    _, actions, infos = play(policy, community, days, dev_row())
    space = TwoStageEnv(days, community, split="dev").action_space
    assert all(space.contains(action) for action in actions)
    assert len(made) == (0 if name not in SCENARIO else 1 if mode == "open_loop" else 9)
    assert [plan.fallbacks for plan in made] == [()] * len(made)
    traded_kw = np.array([info["p2p_kw"] for info in infos])
    np.testing.assert_allclose(traded_kw.sum(axis=1), 0.0, atol=1e-9)
    assert (np.abs(traded_kw).max() > 1.0) == (name != "no-control")
    (best,) = oracle_cost(community, days.exogenous, [dev_row()])
    assert total_cost_ct(infos) > best.objective_ct


@pytest.mark.parametrize(("name", "mode"), ALL)
def test_the_same_day_gets_the_same_actions_whatever_was_played_or_made_before(name: str, mode: str) -> None:
    days, community = small_days(), small_community()
    policy = fitted(name, mode)
    _, first, _ = play(policy, community, days, dev_row(0))
    play(policy, community, days, dev_row(7))
    _, again, _ = play(policy, community, days, dev_row(0))
    assert_same_actions(first, again)
    fresh = make_policy(name, mode)
    fresh.fit(small_community(), small_days().training_history())
    assert_same_actions(first, play(fresh, community, days, dev_row(0))[1])


@pytest.mark.parametrize(("name", "mode"), ALL)
def test_what_happens_later_changes_no_action(name: str, mode: str) -> None:
    assert_no_leak(lambda: make_policy(name, mode), small_days(), small_community(), split="dev")


@pytest.mark.parametrize(("name", "mode"), [(n, m) for n, m in ALL if n != "no-control"])
def test_what_is_revealed_changes_actions_in_mpc_and_none_in_open_loop(name: str, mode: str) -> None:
    days, community, policy = small_days(), small_community(), fitted(name, mode)
    row, hour = dev_row(3), 4
    _, actions, _ = play(policy, community, days, row)
    _, others, _ = play(policy, community, with_another_future(days, row, hour - 1), row)
    keys = ("battery", "shiftable", "trade")
    same = [np.array_equal(actions[hour + 1][key], others[hour + 1][key]) for key in keys]
    assert all(same) == (mode == "open_loop")


@pytest.mark.parametrize(("name", "mode"), ALL)
def test_fitting_reads_training_days_only(name: str, mode: str) -> None:
    days, community = small_days(), small_community()
    rows = np.concatenate([days.days("dev"), days.days("test")])
    changed: dict[str, FloatArray] = {}
    for field in ("load_kw", "pv_kw", "price_rt_ct_per_kwh", "price_da_ct_per_kwh", "weather", "weather_forecast"):
        changed[field] = np.array(getattr(days, field))
        changed[field][rows] = changed[field][rows[::-1]] * 0.5
    other = make_policy(name, mode)
    other.fit(community, days.replace(**changed).training_history())
    _, actions, _ = play(fitted(name, mode), community, days, dev_row(1))
    assert_same_actions(actions, play(other, community, days, dev_row(1))[1])


@pytest.mark.parametrize(("name", "mode"), ALL)
def test_a_policy_plays_several_days_in_a_row(name: str, mode: str) -> None:
    days, community, policy = small_days(), small_community(), fitted(name, mode)
    env = TwoStageEnv(days, community, split="dev", days_per_episode=2)
    obs, _ = env.reset(options={"day": dev_row(0)})
    policy.reset(0)
    over, steps = False, 0
    while not over:
        obs, _, over, _, _ = env.step(policy.act(obs))
        steps += 1
    assert steps == 18


@cache
def long_days() -> Dataset:
    return tiny_dataset(num_days=60, num_prosumers=2, hours=24)


@pytest.mark.parametrize(("name", "mode"), ALL)
def test_a_pickled_copy_acts_the_same_to_the_bit(name: str, mode: str) -> None:
    """Processes play with copies: an array of another layout would be summed in another order."""
    community = small_community(hours=24)
    policy = make_policy(name, mode)
    policy.fit(community, long_days().training_history())
    copy = pickle.loads(pickle.dumps(policy))
    row = int(long_days().days("dev")[2])
    mine, copys = (play(player, community, long_days(), row)[1] for player in (policy, copy))
    assert_same_actions(mine, copys)


def test_acting_before_fitting_is_refused() -> None:
    env = TwoStageEnv(small_days(), small_community(), split="dev")
    obs, _ = env.reset(options={"day": dev_row()})
    with pytest.raises(UsageError, match="NoControl: act was called before fit"):
        NoControl().act(obs)


def test_a_history_of_another_community_is_refused() -> None:
    with pytest.raises(UsageError, match="2 prosumers, the community has 3"):
        NoControl().fit(small_community(3), small_days().training_history())


class Curtailing(NoControl):
    """Throws a quarter of the hour's PV away."""

    def dispatch(self, obs: Observation) -> Dispatch:
        return replace(super().dispatch(obs), curtail_kw=0.25 * obs["pv_kw"][int(obs["hour"][0])])


def test_a_dispatch_in_kw_arrives_in_kw() -> None:
    days, community, policy = small_days(), small_community(), Curtailing()
    policy.fit(community, days.training_history())
    _, _, infos = play(policy, community, days, dev_row())
    np.testing.assert_allclose([info["curtail_kw"] for info in infos[1:]], 0.25 * days.pv_kw[dev_row()], atol=1e-9)


# the two modes


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="mode 'closed' is not known; choose one of: open_loop, mpc"):
        SampleAverage(mode="closed")


@pytest.mark.parametrize("name", SCENARIO)
def test_both_modes_commit_the_same_position(name: str) -> None:
    days, community = small_days(), small_community()
    open_loop, mpc = (play(fitted(name, mode), community, days, dev_row(2))[1] for mode in MODES)
    np.testing.assert_array_equal(open_loop[0]["day_ahead"], mpc[0]["day_ahead"])
    assert (open_loop[0]["day_ahead"] != 0.0).any()


@pytest.mark.parametrize("name", SCENARIO)
def test_open_loop_follows_the_plan_of_the_gate_and_curtails_nothing(name: str) -> None:
    days, community, policy = small_days(), small_community(), fitted(name, "open_loop")
    seen, actions, infos = play(policy, community, days, dev_row(5))
    assert isinstance(policy, ScenarioPolicy)
    policy.reset(0)
    policy.plan(seen[0])
    plan = policy._plan
    assert plan is not None
    for hour, (obs, action, info) in enumerate(zip(seen[1:], actions[1:], infos[1:], strict=True)):
        wanted = to_kw(community, action, obs["pv_kw"][hour])
        np.testing.assert_allclose(wanted.battery_kw, plan.battery_kw[hour], atol=1e-9)
        np.testing.assert_allclose(wanted.shiftable_kw, plan.shiftable_kw[hour], atol=1e-9)
        np.testing.assert_allclose(wanted.offers, plan.offers(hour), atol=1e-9)
        np.testing.assert_array_equal(wanted.curtail_kw, 0.0)
        np.testing.assert_allclose(info["battery_kw"], plan.battery_kw[hour], atol=1e-6)


def test_an_open_loop_policy_needs_to_have_seen_the_gate_of_the_episode() -> None:
    days, community = small_days(), small_community()
    policy = fitted("po", "open_loop")
    seen, _, _ = play(policy, community, days, dev_row())
    policy.reset(0)
    with pytest.raises(UsageError, match="has not seen the gate"):
        policy.act(seen[1])


@pytest.mark.parametrize("name", SCENARIO)
def test_mpc_needs_no_memory(name: str) -> None:
    days, community, policy = small_days(), small_community(), fitted(name, "mpc")
    seen, actions, _ = play(policy, community, days, dev_row(4))
    for obs, action in list(zip(seen, actions, strict=True))[::-3]:
        policy.reset(0)
        assert_same_actions([policy.act(obs)], [action])


def test_the_observed_hour_is_the_same_in_every_scenario_and_the_others_stay() -> None:
    days, community = small_days(), small_community()
    seen, _, _ = play(fitted("no-control", "mpc"), community, days, dev_row())
    obs, hour = seen[4], 3
    given = fitted("saa", "mpc").scenarios(obs)  # type: ignore[attr-defined]
    scenarios = observed_first(given, obs)
    for name in DayValues._fields:
        values = getattr(scenarios, name)
        np.testing.assert_array_equal(values[:, 0], np.broadcast_to(obs[name][hour], values[:, 0].shape))
        np.testing.assert_array_equal(values[:, 1:], getattr(given, name)[:, 1:])


# scenarios


class Fixed(ScenarioPolicy):
    """Knows its scenarios beforehand."""

    def __init__(self, mode: str, values: DayValues) -> None:
        super().__init__(mode)
        self.values = values

    def scenarios(self, obs: Observation) -> Scenarios:
        hour = 0 if obs["stage"][0] == 0 else int(obs["hour"][0])
        return uniform_scenarios(*(v[:, hour:] for v in self.values))


def played(policy: Policy, row: int, days: Dataset | None = None) -> tuple[list[Any], float]:
    community = small_community()
    policy.fit(community, small_days().training_history())
    _, actions, infos = play(policy, community, days or small_days(), row)
    return actions, total_cost_ct(infos)


@pytest.mark.parametrize("mode", MODES)
def test_with_one_and_the_same_scenario_all_methods_coincide(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only = DayValues.of_history(small_days(), small_days().days("train")[[10]])

    def one_forecast(_: DayForecaster, obs: Observation) -> DayValues:
        hour = 0 if obs["stage"][0] == 0 else int(obs["hour"][0])
        return DayValues(*(v[0, hour:] for v in only))

    monkeypatch.setattr(DayForecaster, "forecast", one_forecast)
    monkeypatch.setattr(DayForecaster, "scenarios", lambda self, obs, _: [v[None] for v in one_forecast(self, obs)])
    row = dev_row(6)
    expected, _ = played(Fixed(mode, only), row)
    for kind in (PredictThenOptimise, ResidualSampleAverage):
        assert_same_actions(played(kind(mode=mode), row)[0], expected)
    saa = SampleAverage(mode=mode)
    saa.fit(small_community(), small_days().training_history())
    saa.days = only
    assert_same_actions(play(saa, small_community(), small_days(), row)[1], expected)


@pytest.mark.parametrize("mode", MODES)
def test_repeating_a_scenario_changes_nothing(mode: str) -> None:
    two = DayValues.of_history(small_days(), small_days().days("train")[[3, 30]])
    four = DayValues(*(np.concatenate([v, v]) for v in two))
    for one, other in zip(played(Fixed(mode, two), dev_row())[0], played(Fixed(mode, four), dev_row())[0], strict=True):
        for key in one:
            np.testing.assert_allclose(one[key], other[key], atol=2e-4)


def test_with_uncertain_prices_alone_the_average_of_samples_is_the_plan_for_the_mean_price() -> None:
    days = small_days()
    values = DayValues.of_history(days, days.days("train")[[3, 12, 30]])
    # Real-time prices over the day-ahead price of every scenario: the price rule is linear there.
    price = values.price_rt_ct_per_kwh + 15.0
    sure = DayValues(*(np.repeat(v[:1], 3, axis=0) for v in values[:2]), price)
    mean = DayValues(*(v[:1] for v in values[:2]), price.mean(axis=0, keepdims=True))
    for one, other in zip(
        played(Fixed("open_loop", sure), dev_row())[0], played(Fixed("open_loop", mean), dev_row())[0], strict=True
    ):
        for key in one:
            np.testing.assert_allclose(one[key], other[key], atol=2e-4)


@pytest.mark.parametrize("mode", MODES)
def test_with_the_day_itself_as_the_scenario_nothing_is_left_to_real_time(mode: str) -> None:
    days, community = small_days(), small_community()
    row = dev_row(8)
    policy = Fixed(mode, DayValues.of_history(days, np.array([row])))
    policy.fit(community, days.training_history())
    _, _, infos = play(policy, community, days, row)
    assert max(np.abs(info["realtime_kw"]).max() for info in infos[1:]) < 1e-3
    for name in SCENARIO:
        assert total_cost_ct(infos) < total_cost_ct(play(fitted(name, mode), community, days, row)[2])


def test_po_plans_on_the_forecast_and_er_saa_on_the_forecast_with_errors() -> None:
    days, community = small_days(), small_community()
    seen, _, _ = play(fitted("no-control", "mpc"), community, days, dev_row())
    po, er_saa = fitted("po", "mpc"), fitted("er-saa", "mpc")
    assert isinstance(po, PredictThenOptimise)
    assert isinstance(er_saa, ResidualSampleAverage)
    for obs in (seen[0], seen[3]):
        one, many = po.scenarios(obs), er_saa.scenarios(obs)
        assert one.load_kw.shape[0] == 1
        assert many.load_kw.shape == (36, *one.load_kw.shape[1:])
        for field, expected in zip(DayValues._fields, er_saa.forecaster.scenarios(obs, np.arange(36)), strict=True):
            np.testing.assert_array_equal(getattr(many, field), expected)
        for field, expected in zip(DayValues._fields, po.forecaster.forecast(obs), strict=True):
            np.testing.assert_array_equal(getattr(one, field)[0], expected)


def test_saa_takes_fifty_training_days_equally_spaced() -> None:
    class History:
        is_training = np.repeat([False, True, False, True], [8, 100, 8, 170])

    places = equally_spaced_days(History())  # type: ignore[arg-type]
    assert len(places) == len(set(places.tolist())) == 50
    assert (places[0], places[-1]) == (0, 269)
    assert set(np.diff(places).tolist()) == {5, 6}
    assert equally_spaced_days(small_days().training_history()).tolist() == list(range(36))
    saa = fitted("saa", "mpc")
    assert isinstance(saa, SampleAverage)
    np.testing.assert_array_equal(saa.days.load_kw, small_days().load_kw[small_days().days("train")])


def test_mpc_beats_open_loop_and_both_beat_no_control() -> None:
    days, community = small_days(), small_community()
    rows = days.days("dev")[::2].tolist()

    def cost(name: str, mode: str) -> float:
        return sum(total_cost_ct(play(fitted(name, mode), community, days, row)[2]) for row in rows)

    reference = cost("no-control", "mpc")
    for name in SCENARIO:
        assert cost(name, "mpc") < cost(name, "open_loop") < reference


def test_recorded_actions_replayed_cost_what_they_cost() -> None:
    days, community = small_days(), small_community()
    seen, actions, infos = play(fitted("er-saa", "mpc"), community, days, dev_row(9))
    position = actions[0]["day_ahead"] * community.fleet.position_limit_kw[:, np.newaxis]
    hours = [to_kw(community, a, o["pv_kw"][h]) for h, (a, o) in enumerate(zip(actions[1:], seen[1:], strict=True))]
    record = DayActions.stack([DayActions.from_steps(position, hours)])
    trace = rollout(community, days.exogenous, np.array([dev_row(9)]), record)
    assert trace.cost_ct.sum() == pytest.approx(total_cost_ct(infos), rel=1e-9)
