from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from network_cases import strained
from support import tiny_dataset
from support_leakage import assert_no_leak
from support_policies import play, small_community, small_days, total_cost_ct

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines import dcso as dcso_module
from prosumer_gym.baselines.bilevel_search import first_round, search
from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.day_ahead import Scenarios, evaluate, solve_core
from prosumer_gym.baselines.dcso import AT_CAP, ROUNDS_AT_THE_GATE, ConsensusNearestDays
from prosumer_gym.baselines.forecast import TrainingDays
from prosumer_gym.baselines.policy import MODES
from prosumer_gym.baselines.registry import make_policy, policy_info
from prosumer_gym.baselines.saa import SampleAverage
from prosumer_gym.baselines.scenario_policy import day_start
from prosumer_gym.baselines.tuned import GridPoint
from prosumer_gym.baselines.tuning import Tuner, gate_observation, plan_cost_ct
from prosumer_gym.baselines.weighted_saa import NearestDays
from prosumer_gym.baselines.weights import ContextScaler, among, cknn, distances, leave_one_out, nearest
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

NO_EDGES = TradeGraph(*(np.zeros(0, dtype=np.int64),) * 2, *(np.zeros(0),) * 2)


@cache
def five_days() -> Dataset:
    """24 training days of five prosumers, in steps of three hours."""
    return tiny_dataset(num_days=40, num_prosumers=5, hours=8)


def five() -> Community:
    return small_community(num_prosumers=5)


def fitted(
    kind: type[Any] = ConsensusNearestDays,
    mode: str = "open_loop",
    community: Community | None = None,
    days: Dataset | None = None,
    **parameters: Any,
) -> Any:
    policy = kind(mode, **parameters)
    policy.fit(community or five(), (days or five_days()).training_history())
    return policy


def dev_context(i: int = 0) -> Context:
    return Context.from_history(five_days(), five_days().days("dev")[[i]])


def played(policy: Any, i: int = 1, community: Community | None = None, days: Dataset | None = None) -> list[Any]:
    days = days or five_days()
    return play(policy, community or five(), days, int(days.days("dev")[i]))[1]


def assert_same(ones: list[Any], others: list[Any], atol: float) -> None:
    for one, other in zip(ones, others, strict=True):
        for key in one:
            np.testing.assert_allclose(one[key], other[key], atol=atol, rtol=0.0)


def at_gate(i: int = 0) -> Any:
    return gate_observation(five(), five_days(), int(five_days().days("dev")[i]))


# which days count


def test_days_count_as_they_do_for_oneself_and_for_the_neighbours() -> None:
    policy, knn = fitted(k=3, tau=0.25), fitted(NearestDays, k=3)
    for i in range(3):
        own = knn.weights(dev_context(i))
        expected = np.zeros_like(own)
        for n in range(5):
            ends = zip(five().graph.first, five().graph.second, strict=True)
            around = [int(b if a == n else a) for a, b in ends if n in (a, b)]
            expected[n] = 0.25 * own[n] + 0.75 * own[around].mean(axis=0)
        np.testing.assert_allclose(policy.weights(dev_context(i)), expected, atol=1e-15)


def test_relying_on_oneself_is_knn() -> None:
    np.testing.assert_array_equal(
        fitted(k=4, tau=1.0).weights(dev_context()), fitted(NearestDays, k=4).weights(dev_context())
    )
    assert_same(played(fitted(k=4, tau=1.0, central=True)), played(fitted(NearestDays, k=4)), atol=0.0)


def test_relying_on_others_leaves_out_the_days_that_nobody_else_named() -> None:
    own, others = (fitted(k=2, tau=tau).weights(dev_context(2)) for tau in (1.0, 0.0))
    named = own > 0
    neighbours = np.zeros((5, 5), dtype=bool)
    graph = five().graph
    neighbours[graph.first, graph.second] = neighbours[graph.second, graph.first] = True
    np.testing.assert_array_equal(others > 0, neighbours.astype(int) @ named.astype(int) > 0)
    assert ((others == 0) & named).any()


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mode", MODES)
def test_with_all_days_near_tau_does_not_matter_and_it_is_saa(tau: float, mode: str) -> None:
    community, days = small_community(), small_days()
    saa = fitted(SampleAverage, mode, community, days)  # 36 training days: it takes all of them
    policy = fitted(ConsensusNearestDays, mode, community, days, k=36, tau=tau)
    assert_same(played(policy, 4, community, days), played(saa, 4, community, days), atol=0.02)
    assert policy.fallbacks == {}


def alike(days: Dataset) -> Dataset:
    """Everybody lives the days of the first prosumer, and their contexts are the same."""
    shared = ("load_kw", "pv_kw", "shiftable_ref_kw")
    own = {name: np.repeat(getattr(days, name)[..., :1], days.num_prosumers, axis=-1) for name in shared}
    forecast = np.repeat(days.weather_forecast[:, :, :1], days.num_prosumers, axis=2)
    return days.replace(**own, weather_forecast=forecast, pv_capacity_kw=np.repeat(days.pv_capacity_kw[:1], 5))


def test_where_the_contexts_of_neighbours_are_identical_tau_does_not_matter() -> None:
    days = alike(five_days())
    context = Context.from_history(days, days.days("dev")[:1])
    ones = [fitted(days=days, k=3, tau=tau, central=True) for tau in (0.0, 0.6, 1.0)]
    for policy in ones[1:]:
        np.testing.assert_allclose(policy.weights(context), ones[0].weights(context), atol=1e-15)
        assert_same(played(policy, days=days), played(ones[0], days=days), atol=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_who_has_no_neighbours_plans_as_knn(tau: float) -> None:
    community = five().replace(graph=NO_EDGES)
    policy = fitted(community=community, k=3, tau=tau)
    knn = fitted(NearestDays, community=community, k=3)
    np.testing.assert_array_equal(policy.weights(dev_context()), knn.weights(dev_context()))
    assert_same(played(policy, community=community), played(knn, community=community), atol=2e-3)
    assert policy.diagnostics["rounds"] == 1  # nobody to negotiate with


def test_only_days_that_count_for_somebody_are_scenarios() -> None:
    scenarios = fitted(k=2, tau=0.5).scenarios(at_gate())
    assert scenarios.weights.shape[0] == 5
    assert scenarios.weights.any(axis=0).all()
    assert scenarios.weights.shape[1] <= 2 * 5
    assert ((scenarios.weights > 0).sum(axis=1) <= 2 * (1 + 4)).all()


# the plan


@pytest.mark.parametrize("i", [0, 3])
def test_what_is_negotiated_is_what_one_solver_plans_that_knows_everything(i: int) -> None:
    policy, central = (fitted(k=4, tau=0.5, central=c) for c in (False, True))
    obs = at_gate(i)
    one, other = policy._solve(obs, policy.scenarios(obs), None), central._solve(obs, central.scenarios(obs), None)
    assert (one.solver, other.solver) == ("admm", "piqp")
    assert one.objective_ct == pytest.approx(other.objective_ct, rel=1e-4, abs=0.0)
    assert policy.diagnostics["converged"]
    assert 1 < policy.diagnostics["rounds"] <= ROUNDS_AT_THE_GATE
    for name in ("position_kw", "battery_kw", "shiftable_kw", "trade_kw"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=0.05)
    np.testing.assert_allclose(policy.day_plan(obs).trade_kw, other.trade_kw, atol=1e-9)  # what tuning judges
    row = five_days().days("dev")[[i]]
    actual = (getattr(five_days(), name)[row] for name in ("load_kw", "pv_kw", "price_rt_ct_per_kwh"))
    came = Scenarios(*actual, weights=np.ones(1))
    costs = [evaluate(plan, five(), day_start(obs, None), came).total_ct for plan in (one, other)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-4)


def test_with_network_the_operator_of_the_feeder_takes_part() -> None:
    community, days = strained(small_community(), v_min_pu=0.975), small_days()
    obs = gate_observation(community, days, int(days.days("dev")[1]))
    plans = []
    for options in ({}, {"network": True}, {"network": True, "central": True}):
        policy = fitted(community=community, days=days, k=4, tau=0.5, **options)
        plans.append(policy._solve(obs, policy.scenarios(obs), None))
    careless, one, other = plans
    assert (one.solver, other.solver) == ("admm", "piqp")
    assert other.voltage_excess_pu_h > 0
    assert one.objective_ct == pytest.approx(other.objective_ct, rel=1e-4, abs=0.0)
    assert other.objective_ct > careless.objective_ct * 1.01
    assert np.abs(one.battery_kw - careless.battery_kw).max() > 0.1


@pytest.mark.parametrize("mode", MODES)
def test_a_day_negotiated_is_a_day_planned_centrally(mode: str) -> None:
    costs, actions = [], []
    for central in (False, True):
        policy = fitted(mode=mode, k=4, tau=0.5, central=central)
        _, acted, infos = play(policy, five(), five_days(), int(five_days().days("dev")[1]))
        costs.append(total_cost_ct(infos))
        actions.append(acted)
    # An hour's small difference is carried on to the next.
    assert costs[0] == pytest.approx(costs[1], rel=1e-4 if mode == "open_loop" else 5e-4)
    assert_same(*actions, atol=0.05)  # who trades with whom hardly matters


def test_every_hour_goes_on_from_what_was_agreed_and_every_gate_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = dcso_module.consensus_admm, []

    def watched(community: Community, start: Any, scenarios: Any, **how: Any) -> Any:
        found = real(community, start, scenarios, **how)
        asked.append((start.start_hour, how, found))
        return found

    monkeypatch.setattr(dcso_module, "consensus_admm", watched)
    policy = fitted(mode="mpc", k=2, tau=0.5)
    played(policy, 0)
    played(policy, 1)  # `play` resets; an episode of several days does not
    policy.act(at_gate(2))
    assert [hour for hour, *_ in asked] == [0, *range(8)] * 2 + [0]
    for i, (hour, how, _) in enumerate(asked):
        gate = i % 9 == 0
        assert (how["max_iterations"], how["tolerance"]) == ((400, 1e-4) if gate else (50, 3e-3))
        if gate:
            assert how["warm"] is None
        else:
            last = asked[i - 1][2].state
            np.testing.assert_array_equal(how["warm"].agreed_kw, last.agreed_kw[hour > 0 :])
    open_loop = fitted(k=2, tau=0.5)
    asked.clear()
    played(open_loop)
    assert len(asked) == 1


def test_an_hour_that_was_not_negotiated_is_passed_over() -> None:
    policy = fitted(mode="mpc", k=2, tau=0.5)
    from prosumer_gym.envs.single import TwoStageEnv

    env = TwoStageEnv(five_days(), five(), split="dev")
    obs, _ = env.reset(options={"day": int(five_days().days("dev")[0])})
    policy.reset(0)
    action = policy.act(obs)
    for hour in range(3):
        obs, *_ = env.step(action)
        if hour == 1:
            continue  # somebody else plays it
        action = policy.act(obs)
    assert policy._agreed[0] == 2
    assert len(policy._agreed[1].agreed_kw) == 6


# caps


@pytest.mark.parametrize("mode", MODES)
def test_a_negotiation_at_its_cap_is_counted_and_its_plan_can_be_carried_out(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dcso_module, "ROUNDS_AT_THE_GATE", 2)
    monkeypatch.setattr(dcso_module, "ROUNDS_IN_AN_HOUR", 1)
    real, ended = dcso_module.consensus_admm, []

    def watched(*args: Any, **how: Any) -> Any:
        ended.append(real(*args, **how))
        return ended[-1]

    monkeypatch.setattr(dcso_module, "consensus_admm", watched)
    policy = fitted(mode=mode, k=4, tau=0.5)
    days = five_days()
    _, _, infos = play(policy, five(), days, int(days.days("dev")[0]))
    at_cap = [found for found in ended if not found.converged]
    assert policy.fallbacks == {AT_CAP: len(at_cap)}
    assert len(at_cap) == 1 if mode == "open_loop" else len(at_cap) >= 5  # of an hour without sales one round is enough
    last = ended[-1]
    assert policy.diagnostics == {
        "rounds": 2 if mode == "open_loop" else 1,
        "converged": last.converged,
        "disagreement_kw": last.residuals.disagreement_kw[-1],
        "above_bound_ct": last.plan.objective_ct - last.plan.lower_bound_ct,
    }
    assert max(found.plan.objective_ct - found.plan.lower_bound_ct for found in at_cap) > 0.01
    assert all(np.isfinite(info["community_cost_ct"]).all() for info in infos)
    assert policy._plan is not None
    trade = policy._plan.trade_kw
    assert (np.abs(trade) <= five().graph.limit_kw + 1e-9).all()
    policy.reset(0)
    assert policy.fallbacks == {}
    assert policy.diagnostics == {}


def test_a_solver_that_falls_back_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = dcso_module.consensus_admm

    def stumbling(*args: Any, **how: Any) -> Any:
        found = real(*args, **how)
        return replace(found, plan=replace(found.plan, fallbacks=("prosumer 1: stopped short",)))

    monkeypatch.setattr(dcso_module, "consensus_admm", stumbling)
    policy = fitted(k=2, tau=0.5)
    policy.act(at_gate())
    assert policy.fallbacks == {dcso_module.SOLVER_FELL_BACK: 1}


# the bilevel problem


def criterion(honest: bool, community: Community, days: Dataset, asked: range) -> Any:
    """The paper's F: over training days, what the plan from (other) training days costs on the day as it came."""
    training = TrainingDays.of_history(days.training_history())
    vectors = ContextScaler.fit(training.context).vectors(training.context)
    distance = distances(vectors, vectors)
    if honest:
        distance = among(distance, leave_one_out(training.rows, training.block))
    values: Any = training.values
    all_rows = days.days("train")

    def cost(tau: float, k: int) -> FloatArray:
        found = []
        for i in asked:
            weights = cknn(nearest(distance[i], k), community.graph, tau, k)
            kept = np.flatnonzero(weights.any(axis=0))
            start = day_start(gate_observation(community, days, int(all_rows[i])), None)
            plan = solve_core(community, start, Scenarios(*(v[kept] for v in values), weights[:, kept]))
            came = Scenarios(*(v[[i]] for v in values), np.ones(1))
            found.append(evaluate(plan, community, start, came).total_ct)
        return np.array(found)

    return cost


def test_a_day_that_may_be_its_own_neighbour_makes_a_criterion_that_prefers_foresight() -> None:
    community, days, asked = small_community(), small_days(), range(1, 36, 3)
    leaky, honest = (criterion(honest, community, days, asked) for honest in (False, True))
    points = first_round((1, 4, 12), taus=(0.0, 0.5, 1.0))
    leaky_costs, honest_costs = ({point: f(*point).mean() for point in points} for f in (leaky, honest))
    assert leaky_costs[1.0, 1] <= min(leaky_costs.values()) + 0.1  # but for the regulariser
    assert {k for tau, k in leaky_costs if leaky_costs[tau, k] < leaky_costs[1.0, 1] + 1.0} == {1}
    assert min(honest_costs, key=honest_costs.__getitem__)[1] > 1
    assert honest_costs[1.0, 1] > min(honest_costs.values()) + 20.0
    # With itself alone as its scenario a day is planned with foresight, which no plan beats on any day.
    foresight = leaky(1.0, 1)
    for point in leaky_costs:
        assert (honest(*point) >= foresight - 0.2).all()
        assert honest_costs[point] >= leaky_costs[point]
    assert honest_costs[1.0, 1] > foresight.mean() + 100.0


def tuner(kind: type[Any] = ConsensusNearestDays) -> Tuner:
    return Tuner(kind, small_community(), small_days(), "0" * 64)


def test_tuning_is_the_search_of_the_bilevel_problem(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dcso_module, "_KS", (2, 9, 13))  # 14 days lie before the first run
    mine = tuner()
    choice = mine.choose(tmp_path / "dcso.partial")

    told = {(float(p.parameters["tau"]), int(p.parameters["k"])): p.mean_cost_ct for p in choice.train}
    found = search(lambda tau, k: told[round(tau, 3), k], (2, 9, 13), width=0.1)
    assert list(told)[:15] == first_round((2, 9, 13))
    assert list(told)[15] == (0.5, 6)  # the default
    assert {(round(tau, 3), k) for tau, k in found.values} == set(told) - {(0.5, 6)}
    assert len(told) > 16
    best = min(told, key=lambda point: told[point])
    assert choice.parameters == {"tau": best[0], "k": best[1]}
    run = mine.runs[0]
    for tau, k in ((0.0, 2), (0.5, 13)):  # what is judged is the cost of the central plans
        policy = fitted(community=small_community(), days=mine.days.subset(run.known), k=k, tau=tau, central=True)
        plan = policy.day_plan(gate_observation(small_community(), mine.days, int(run.judged[3])))
        cost = plan_cost_ct(plan, small_community(), mine.days, int(run.judged[3]))
        assert mine.judge(run, {"k": k, "tau": tau})[3] == pytest.approx(cost, rel=1e-9)


def test_what_tuning_tries_can_be_tried() -> None:
    mine = tuner()
    assert {p["k"] for p in mine.grid} == {1, 2, 3, 5, 6, 7, 10}

    def point(parameters: Any) -> GridPoint:
        cost = 100.0 + abs(parameters["tau"] - 0.6) - parameters["k"] / 100
        return GridPoint(parameters=parameters, mean_cost_ct=cost, behind_best_ct=0.0, standard_error_ct=0.0)

    further = ConsensusNearestDays.refined([point(p) for p in mine.grid])
    assert [p["k"] for p in further] == [5, 7, 10]  # not the default's 6, which has no cells
    assert all(p["tau"] in (0.405, 0.595) for p in further)  # the golden ratio of a cell beside 0.5
    for parameters in further:
        assert np.isfinite(mine.judge(replace(mine.runs[0], judged=mine.runs[0].judged[:1]), parameters)).all()


# information, settings, errors


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["dcso", "dcso+permuted", "dcso+central"])
def test_what_happens_later_changes_no_action(name: str, mode: str) -> None:
    assert_no_leak(lambda: make_policy(name, mode), small_days(), small_community(), split="dev")


def test_neither_contexts_nor_loads_of_others_are_read_but_for_the_days_they_name() -> None:
    """Somebody whose days stay as near as they were is not noticed: only trades and day numbers are exchanged."""
    policy = fitted(k=3, tau=0.5)
    before = policy.weights(dev_context())
    for n in range(5):
        policy.vectors[:, n] *= 1.0 + 0.1 * n  # the scale of a context that nobody else knows
    context = dev_context()
    scaler = replace(policy.scaler, scale=policy.scaler.scale / (1.0 + 0.1 * np.arange(5)[:, None]))
    policy.scaler = scaler
    np.testing.assert_allclose(policy.weights(context), before, atol=1e-15)


def test_its_parameters_are_given_together_tuned_or_the_default() -> None:
    history = small_days().training_history()
    assert ConsensusNearestDays().tuned_settings(history) == {"k": 6, "tau": 0.5, "parameters": "default"}
    assert ConsensusNearestDays(k=3, tau=0.0).tuned_settings(history) == {
        "k": 3, "tau": 0.0, "parameters": "as asked for",
    }  # fmt: skip
    for half in ({"k": 3}, {"tau": 0.5}):
        with pytest.raises(UsageError, match=r"dcso: k is .* and tau is .*; give both"):
            ConsensusNearestDays(**half)  # type: ignore[arg-type]


def test_its_name_and_options_are_registered() -> None:
    info = policy_info("dcso+central+permuted")
    assert info.name == "dcso+permuted+central"
    assert info.modes == MODES
    assert info.options == ("permuted", "network", "central")
    control = make_policy("dcso+permuted", "open_loop")
    control.fit(five(), five_days().training_history())
    honest = fitted()
    order = np.random.default_rng(0).permutation(len(honest.vectors))
    np.testing.assert_allclose(vars(control)["vectors"], honest.vectors[order], atol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k": 99, "tau": 0.5}, r"k=99 nearest days of \d+ training days: k must lie in 1"),
        ({"k": 0, "tau": 0.5}, "k=0 nearest days of"),
        ({"k": 3, "tau": -0.1}, r"tau -0\.1: must lie in 0 \.\.\. 1"),
        ({"k": 3, "tau": 1.5}, r"tau 1\.5: must lie in 0 \.\.\. 1"),
        ({"k": 3, "tau": float("nan")}, r"tau nan: must lie in 0 \.\.\. 1"),
    ],
)
def test_parameters_that_cannot_be_are_named_when_it_is_fitted(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fitted(**parameters)


def test_a_market_without_edges_is_named_when_it_is_fitted() -> None:
    with pytest.raises(UsageError, match="dcso: neighbours trade over edges, and 'mid-market-rate' has none"):
        fitted(community=five().replace(mechanism="mid-market-rate"))


def test_too_few_days_to_tune_on_are_named(tmp_path: Any) -> None:
    short = tiny_dataset(num_days=5, num_prosumers=2, hours=8)
    with pytest.raises(UsageError, match="tiny: 3 training days are too few to tune on"):
        Tuner(ConsensusNearestDays, small_community(), short, "0" * 64).choose(tmp_path / "a")


def test_identical_contexts_are_no_trouble() -> None:
    days = five_days()
    names = ("load_kw", "pv_kw", "price_da_ct_per_kwh", "weather_forecast", "weather", "price_rt_ct_per_kwh")
    same = days.replace(**{name: np.repeat(getattr(days, name)[:1], days.num_days, axis=0) for name in names})
    policy = fitted(days=same, k=3, tau=0.3)
    weights = policy.weights(dev_context())
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert np.isfinite(policy.plan(at_gate())).all()


@pytest.mark.parametrize("mode", MODES)
def test_the_pickled_copy_does_the_same_to_the_bit(mode: str) -> None:
    policy = fitted(mode=mode, k=3, tau=0.4)
    assert_same(played(pickle.loads(pickle.dumps(policy))), played(policy), atol=0.0)
