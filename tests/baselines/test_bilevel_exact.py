"""The exact choice of tau and k: its inner problem is the core problem, and its optimum is that of brute force.

Axes: D training days, N prosumers, K candidates of k, S scenarios, H hours of a day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from core_cases import random_case, random_community, random_days

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.baselines import bilevel_exact
from prosumer_gym.baselines.bilevel_exact import BilevelInstance, ExactChoice, brute_force, exact_choice
from prosumer_gym.baselines.bilevel_lower import LowerLevel, lower_level
from prosumer_gym.baselines.bilevel_milp import ROOM, SingleLevel
from prosumer_gym.baselines.bilevel_search import search
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, solve_core
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.planning import DayStart, Scenarios
from prosumer_gym.baselines.solve import SolverError
from prosumer_gym.baselines.weights import cknn, distances, nearest
from prosumer_gym.community import Community, Tariff
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous

SEARCH = {"tau inside, 5 days": 6e-3}
"""How close the search comes to the exact optimum on these instances, relative, where not to 1e-4."""
FREE_PEAKS = Tariff(demand_charge_ct_per_kw=0.0)


def as_days(scenarios: Scenarios) -> Exogenous:
    shape = scenarios.price_rt_ct_per_kwh.shape
    return Exogenous(
        scenarios.load_kw, scenarios.pv_kw, np.zeros_like(scenarios.load_kw), np.zeros(shape),
        scenarios.price_rt_ct_per_kwh, np.zeros(shape),
    )  # fmt: skip


def inner(
    seed: int, num: int, hours: int, num_scenarios: int = 4, tariff: Tariff | None = None
) -> tuple[Community, DayStart, Scenarios, LowerLevel]:
    rng = np.random.default_rng(seed)
    community = random_community(rng, num=num, hours=hours, edges=num > 1, tariff=tariff)
    start, scenarios = random_case(rng, community, num_scenarios, own_weights=True)
    everybody = np.ones((num, num_scenarios), dtype=np.bool_)
    lower = lower_level(
        community, start, as_days(scenarios), everybody, regulariser=REGULARISER_CT_PER_KW2
    )  # fmt: skip
    return community, start, scenarios, lower


def instance(
    seed: int, *, num: int = 2, num_days: int = 3, ks: tuple[int, ...] = (1, 2), eligible: BoolArray | None = None
) -> BilevelInstance:
    """Contexts that have nothing to do with the days: what is chosen is only a matter of the program."""
    rng = np.random.default_rng(seed)
    community = random_community(rng, num=num, hours=3)
    days = random_days(rng, community, num_days)
    return BilevelInstance.of_contexts(community, days, rng.normal(size=(num_days, num, 3)), ks, eligible)


def short_of_sun(seed: int) -> BilevelInstance:
    """One has little sun and less load, the other load and no sun: what may be sold is short of what is wanted."""
    one = instance(seed)
    load_kw, pv_kw = one.days.load_kw * np.array([0.05, 1.0]), one.days.pv_kw * np.array([0.3, 0.0])
    return replace(one, days=replace(one.days, load_kw=load_kw, pv_kw=pv_kw))


def alone(seed: int, **kwargs: Any) -> BilevelInstance:
    return instance(seed, **kwargs).alone(0)


INSTANCES = {
    "one prosumer, 3 days": lambda: alone(1),
    "one prosumer, other data": lambda: alone(0),
    "all k": lambda: alone(2),
    "tau inside, 4 days": lambda: alone(4, num_days=4),
    "tau inside, 5 days": lambda: alone(1, num_days=5),
    "two that trade": lambda: instance(3),
}


@cache
def exact(name: str) -> ExactChoice:
    return exact_choice(INSTANCES[name]())


# the inner problem


@pytest.mark.parametrize(("seed", "num", "hours"), [(0, 1, 3), (1, 2, 3), (2, 3, 3), (3, 1, 6), (4, 2, 6), (5, 3, 6)])
def test_the_inner_problem_is_the_core_problem(seed: int, num: int, hours: int) -> None:
    community, start, scenarios, lower = inner(seed, num, hours)
    solution = lower.solve(scenarios.weights)
    plan = solve_core(community, start, scenarios, tolerance=1e-9)
    reference = reference_problem(community, start, scenarios, regulariser=REGULARISER_CT_PER_KW2)
    reference.problem.solve(solver="CLARABEL")
    assert solution.objective == pytest.approx(plan.objective_ct, rel=1e-7)
    assert solution.objective == pytest.approx(reference.problem.value, rel=1e-6)
    z = np.append(solution.x, 0.0)
    columns = lower.columns
    np.testing.assert_allclose((z[columns.buy] - z[columns.sell]).T, plan.position_kw, atol=2e-3)
    np.testing.assert_allclose(z[columns.charge] - z[columns.discharge], plan.battery_kw, atol=2e-3)
    np.testing.assert_allclose(z[columns.shiftable], plan.shiftable_kw, atol=2e-3)


@pytest.mark.parametrize("seed", range(6))
def test_its_optima_and_multipliers_keep_the_bounds_that_hold_for_all_weights(seed: int) -> None:
    _, _, scenarios, lower = inner(seed, 1 + seed % 3, 3 + 3 * (seed % 2))
    rng = np.random.default_rng(seed)
    shape = scenarios.weights.shape
    for weights in (scenarios.weights, np.eye(4)[rng.integers(0, 4, shape[0])], np.full(shape, 0.25)):
        solution = lower.solve(weights)
        assert (solution.x >= lower.box.low - 1e-5).all()
        assert (solution.x <= lower.box.high + 1e-5).all()
        assert (solution.y >= lower.equal_multipliers.low - 1e-4).all()
        assert (solution.y <= lower.equal_multipliers.high + 1e-4).all()
        assert (solution.z <= lower.below_multipliers + 1e-4).all()


@pytest.mark.parametrize("num", [1, 2])
def test_the_explicit_optimality_conditions_hold(num: int) -> None:
    """Row by row, with the multipliers of a solver, without a demand charge.

    pi_j is the value of energy in scenario j, omega that of stored energy, psi that of what was consumed ahead, theta
    that of generation to sell; m is the multiplier of the lower less that of the upper bound.
    """
    community, start, scenarios, lower = inner(11, num, 6, tariff=FREE_PEAKS)
    fleet, dt_h, r = community.fleet, community.dt_h, REGULARISER_CT_PER_KW2
    solution = lower.solve(scenarios.weights, tolerance=1e-11)
    prices = community.tariff.settlement_prices(start.price_da_ct_per_kwh, scenarios.price_rt_ct_per_kwh)
    columns, rows = lower.columns, lower.rows
    z, m = np.append(solution.x, 0.0), np.append(solution.z_lower - solution.z_upper, 0.0)
    pi, omega, psi = -solution.y[rows.balance], solution.y[rows.soc], solution.y[rows.backlog]  # [S,H,N], [H,N]
    theta = np.where(rows.sales >= 0, np.append(solution.z, 0.0)[rows.sales], 0.0)
    value = pi.sum(axis=0)
    weights = scenarios.weights.T[:, np.newaxis]  # [S,1,N]

    def zero(residual: FloatArray) -> None:
        np.testing.assert_allclose(residual, 0.0, atol=1e-8)

    rt_buy, rt_sell = weights * dt_h * prices.rt_buy[:, :, None], weights * dt_h * prices.rt_sell[:, :, None]
    zero(rt_buy - pi - m[columns.rt_buy])
    zero(-rt_sell + pi - m[columns.rt_sell])
    assert (pi >= rt_sell - 1e-8).all()
    assert (pi <= rt_buy + 1e-8).all()
    zero(dt_h * prices.da_buy[:, None] + r * z[columns.buy] - value - m[columns.buy])
    zero(-dt_h * prices.da_sell[:, None] + r * z[columns.sell] + value - m[columns.sell])
    wear = 2.0 * fleet.battery_wear_quadratic_ct_per_kw2h, fleet.battery_wear_linear_ct_per_kwh
    for name, sign, stored in (
        ("charge", 1.0, fleet.charge_efficiency), ("discharge", -1.0, 1.0 / fleet.discharge_efficiency),
    ):  # fmt: skip
        column = getattr(columns, name)
        zero(dt_h * (wear[0] * z[column] + wear[1]) + sign * (value - dt_h * stored * omega) - m[column])
    zero(omega[:-1] - omega[1:] - m[columns.soc[:-1]])
    short, left = community.tariff.terminal_values(
        start.price_da_ct_per_kwh, fleet.charge_efficiency, fleet.discharge_efficiency
    )
    worth = omega[-1] - m[columns.soc[-1]]  # of energy at the end: between what is earned and what missing costs
    zero(short - worth - m[columns.short])
    zero(-left + worth - m[columns.left])
    zero(value - dt_h * psi - m[columns.shiftable])
    backlog = columns.backlog[:-1]
    zero(2.0 * dt_h * fleet.discomfort_quadratic_ct_per_kwh2h * z[backlog] + psi[:-1] - psi[1:] - m[backlog])
    graph = community.graph
    for column, buyer, seller in (
        (columns.trade_up, graph.first, graph.second), (columns.trade_down, graph.second, graph.first)
    ):  # fmt: skip
        where = column >= 0  # a purchase and the sale it is, whose prices between neighbours cancel
        both = dt_h * graph.fee_ct_per_kwh + 2.0 * r * z[column] - value[:, buyer] + value[:, seller]
        zero((both + theta[:, seller] - m[column])[where])
    if num > 1:
        assert np.abs(z[columns.trade_up]).max() > 0.1
    assert np.abs(z[columns.backlog]).max() > 0.1


# the upper level


def test_weights_are_those_of_consensus_knn_among_the_other_days() -> None:
    one = instance(0, num=3, num_days=5, ks=(1, 3))
    rng = np.random.default_rng(0)
    random_days(rng, random_community(rng, num=3, hours=3), 5)
    vectors = rng.normal(size=(5, 3, 3))
    for i, weights in enumerate(one.weights(0.3, 3)):
        others = np.delete(np.arange(5), i)
        near = nearest(distances(vectors[[i]], vectors[others])[0], 3)
        np.testing.assert_allclose(weights[:, others], cknn(near, one.community.graph, 0.3, 3), atol=1e-15)
        assert not weights[:, i].any()


def test_what_the_plans_cost_is_the_same_from_the_matrices_and_from_the_core_problem() -> None:
    for one in (instance(3), alone(4), instance(0, num=3)):
        for tau, k in ((0.0, 1), (0.37, 1), (1.0, 2)):
            cost = bilevel_exact._try_out(one, tau, k).choice.objective_ct
            assert one.training_cost_ct(tau, k) == pytest.approx(cost, rel=1e-6)


@pytest.mark.parametrize("name", INSTANCES)
def test_the_single_level_program_finds_what_brute_force_finds(name: str) -> None:
    one = INSTANCES[name]()
    choice, brute = exact(name), brute_force(one, cells=20, refined=2)
    assert choice.objective_ct == pytest.approx(brute.objective_ct, rel=1e-4)
    assert choice.objective_ct <= brute.objective_ct * (1.0 + 2e-6)
    assert choice.lower_bound_ct <= brute.objective_ct * (1.0 + 1e-9)
    assert choice.program_ct == pytest.approx(choice.objective_ct, rel=2e-6)
    # F anew, by the policy's own program: at a corner of F a tau that is off by 1e-9 is felt.
    for tau, k in ((choice.tau, choice.k), choice.program_choice):
        assert one.training_cost_ct(tau, k) == pytest.approx(choice.objective_ct, rel=1e-5)
    assert choice.complementarity < 1e-6
    assert choice.num_binaries > 100


def test_wider_bounds_on_the_multipliers_change_nothing() -> None:
    one, choice = INSTANCES["one prosumer, 3 days"](), exact("one prosumer, 3 days")
    wider = exact_choice(one, room=2.0 * ROOM)
    assert wider.program_ct == pytest.approx(choice.program_ct, rel=1e-7)
    assert wider.objective_ct == pytest.approx(choice.objective_ct, rel=1e-7)
    assert wider.complementarity < 1e-6


def test_bounds_that_the_multipliers_do_not_fit_into_are_noticed() -> None:
    with pytest.raises(SolverError, match="single-level program"):
        exact_choice(INSTANCES["one prosumer, 3 days"](), room=0.7)


def test_the_proof_needs_no_cost_to_beat() -> None:
    """Nor good tangents: without either the program still finds the optimum, from below."""
    one, choice = INSTANCES["all k"](), exact("all k")
    program = SingleLevel(one.training)
    first = program.solve()
    program.add_tangents(program.plans(first))
    second = program.solve()
    assert first.objective_ct <= second.objective_ct <= choice.objective_ct * (1.0 + 1e-6)
    assert second.objective_ct > first.objective_ct
    assert second.objective_ct == pytest.approx(choice.objective_ct, rel=1e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_if_a_day_may_answer_for_itself_foresight_wins_whatever_the_data(seed: int) -> None:
    """The criterion as printed: k = 1 and tau = 1, and a cost that no choice reaches once a day asks only others."""
    leaky = alone(seed, eligible=np.ones((3, 3), dtype=np.bool_))
    honest = alone(seed)
    choice = exact_choice(leaky)
    assert choice.k == 1
    assert choice.program_choice[1] == 1
    for k in leaky.ks:
        for tau in (0.0, 0.5, 1.0):
            assert honest.training_cost_ct(tau, k) >= leaky.training_cost_ct(tau, k) - 1e-3
            assert leaky.training_cost_ct(tau, k) >= leaky.training_cost_ct(1.0, 1) - 1e-3
    assert leaky.training_cost_ct(1.0, 1) == pytest.approx(choice.objective_ct, rel=1e-6)


@pytest.mark.parametrize("name", INSTANCES)
def test_the_search_comes_close_to_the_exact_optimum(name: str) -> None:
    one, choice = INSTANCES[name](), exact(name)
    found = search(one.training_cost_ct, one.ks, width=0.01)
    assert choice.objective_ct * (1.0 - 1e-5) <= found.value <= choice.objective_ct * (1.0 + SEARCH.get(name, 1e-4))


@pytest.mark.parametrize(
    "make", [lambda: alone(3, num_days=4, ks=(2,)), lambda: short_of_sun(11)], ids=["one prosumer", "all sun is sold"]
)
def test_an_optimum_may_hide_where_neither_grid_nor_search_looks(make: Callable[[], BilevelInstance]) -> None:
    """Where two plans cost the same, tau passes through all between them within a ten-thousandth."""
    one = make()
    choice = exact_choice(one)
    assert one.training_cost_ct(choice.tau, choice.k) == pytest.approx(choice.objective_ct, rel=1e-5)
    assert choice.complementarity < 1e-6
    for aside in (-1e-4, 1e-4):
        assert one.training_cost_ct(choice.tau + aside, choice.k) > 1.01 * choice.objective_ct
    found = search(one.training_cost_ct, one.ks, width=0.01)
    assert 1.01 * choice.objective_ct < found.value < 1.03 * choice.objective_ct


@pytest.mark.parametrize("name", [name for name in INSTANCES if "inside" in name])
def test_tau_may_lie_inside(name: str) -> None:
    """Relying on oneself or on the neighbours alone costs more, with any k."""
    one, choice = INSTANCES[name](), exact(name)
    assert 0.05 < choice.tau < 0.95
    ends = min(one.training_cost_ct(tau, k) for tau in (0.0, 1.0) for k in one.ks)
    assert ends > choice.objective_ct + 10.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": ()}, "candidates"),
        ({"ks": (1, 1)}, "candidates"),
        ({"ks": (3,)}, "k=3"),
        ({"vectors": np.zeros((4, 2, 3))}, "contexts"),
        ({"vectors": np.zeros((3, 1, 3))}, "contexts"),
    ],
)
def test_what_does_not_fit_together_is_named(change: dict[str, Any], message: str) -> None:
    rng = np.random.default_rng(0)
    community = random_community(rng, num=2, hours=3)
    given: dict[str, Any] = {"vectors": rng.normal(size=(3, 2, 3)), "ks": (1, 2)} | change
    with pytest.raises(UsageError, match=message):
        BilevelInstance.of_contexts(community, random_days(rng, community, 3), **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"battery_wear_quadratic_ct_per_kw2h": np.zeros(1)}, "not unique"),
        ({"discomfort_quadratic_ct_per_kwh2h": np.zeros(1)}, "not unique"),
        ({"discomfort_linear_ct_per_kwhh": np.ones(1)}, "linear part"),
    ],
)
def test_plans_that_are_not_unique_have_no_exact_choice(change: dict[str, FloatArray], message: str) -> None:
    one = alone(0)
    fleet = replace(one.community.fleet, **change)
    with pytest.raises(UsageError, match=message):
        exact_choice(replace(one, community=one.community.replace(fleet=fleet)))


def test_what_the_program_was_not_written_for_is_refused() -> None:
    one = instance(0)
    pool = replace(one, community=one.community.replace(mechanism="mid-market-rate"))
    negative = replace(one, days=replace(one.days, price_rt_ct_per_kwh=one.days.price_rt_ct_per_kwh - 20.0))
    flat = replace(one, regulariser=0.0)
    for wrong, message in ((pool, "bilateral"), (negative, "prices must be higher"), (flat, "regulariser")):
        with pytest.raises(UsageError, match=message):
            exact_choice(wrong)
