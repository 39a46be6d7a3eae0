"""Oracles of episodes of several days: what is stored runs through, and nothing that can be played beats them.

Axes: N prosumers, H hours of a day, D days of the episode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cvxpy
import numpy as np
import pytest
from core_cases import FORMS, random_community, random_days
from network_cases import strained

from prosumer_gym.actions import DayActions
from prosumer_gym.baselines.core_matrices import build_core
from prosumer_gym.baselines.day_ahead_reference import ReferenceProblem, reference_problem
from prosumer_gym.baselines.oracle import OracleEpisode, oracle_cost, oracle_peak, perfect_day_ahead
from prosumer_gym.baselines.oracle_episode import Episode
from prosumer_gym.baselines.oracle_voltage import oracle_voltage
from prosumer_gym.baselines.planning import DayStart, Scenarios
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.reference import no_control_dispatch
from prosumer_gym.rollout import Trace, rollout

cp: Any = cvxpy
ORACLES = [oracle_cost, oracle_peak, oracle_voltage]


def stage(
    seed: int, num_days: int = 3, *, num: int = 3, hours: int = 6, mechanism: str = "bilateral", negative: bool = False
) -> tuple[Community, Exogenous]:
    """Small batteries that are dear to run empty, days of unequal prices and loads: much to carry from day to day."""
    rng = np.random.default_rng(seed)
    community = random_community(rng, num=num, hours=hours, discomfort_linear=0.1 * (seed % 2), mechanism=mechanism)
    days = random_days(rng, community, num_days, negative=negative)
    scale = rng.uniform(0.4, 2.0, (num_days, 1))
    return community, replace(
        days, load_kw=scale[:, :, None] * days.load_kw, price_da_ct_per_kwh=scale * days.price_da_ct_per_kwh
    )


def play(community: Community, exogenous: Exogenous, actions: DayActions) -> Trace:
    days = len(actions.battery_kw)
    return rollout(community, exogenous, np.arange(days), actions, days_per_episode=days)


def metrics_of(community: Community, exogenous: Exogenous, trace: Trace) -> dict[Any, float]:
    """What each oracle minimises, of an episode that was played: cost, peaks as `attained` counts them, voltages."""
    gross = (exogenous.load_kw + exogenous.shiftable_ref_kw).sum(axis=2).mean(axis=1)
    peaks = np.maximum(trace.exchange_kw.max(axis=1), 0.0)
    return {
        oracle_cost: float(trace.community_cost_ct.sum()),
        oracle_peak: float((peaks / gross).sum() * gross.mean()),
        oracle_voltage: float(trace.voltage_excess_pu.sum() * community.dt_h),
    }


def rivals(rng: np.random.Generator, community: Community, exogenous: Exogenous) -> list[DayActions]:
    """Nobody steering, perfect day-ahead, wild actions."""
    D, H, N, fleet = exogenous.num_days, community.hours_per_day, community.num_prosumers, community.fleet
    still = [
        DayActions.from_steps(
            rng.uniform(0, 10, (N, H)),
            [no_control_dispatch(hour, community.num_offers) for hour in exogenous.shiftable_ref_kw[day]],
        )
        for day in range(D)
    ]
    wild = [
        DayActions(
            position_kw=rng.uniform(-1, 1, (D, N, H)) * fleet.position_limit_kw[:, None],
            battery_kw=rng.uniform(-1, 1, (D, H, N)) * fleet.battery_power_kw * rng.uniform(0, 1),
            shiftable_kw=rng.uniform(0, 1, (D, H, N)) * fleet.shiftable_power_kw,
            curtail_kw=exogenous.pv_kw * rng.uniform(0, 1, (D, H, N)) * rng.integers(2),
            offers=rng.uniform(-1.3, 1.3, (D, H, community.num_offers)) * community.offer_limits,
        )
        for _ in range(8)
    ]
    return [DayActions.stack(still), DayActions.stack(perfect_day_ahead(exogenous, range(D), community)), *wild]


def near(rng: np.random.Generator, course: OracleEpisode) -> DayActions:
    """Each number of its actions a little off."""
    return DayActions(**{k: v + rng.normal(0, 0.05, v.shape) for k, v in vars(course.actions).items()})


def reference(community: Community, exogenous: Exogenous, *, back: bool = False) -> tuple[list[ReferenceProblem], Any]:
    """The days' equations with the state of charge of one as the start of the next, and the community's cost.

    With `back` it is what it was at first on every midnight.
    """
    fleet, num, days = community.fleet, community.num_prosumers, exogenous.num_days
    problems: list[ReferenceProblem] = []
    for d in range(days):
        start = DayStart(
            0, fleet.soc_initial_kwh, np.zeros(num), np.zeros(num), exogenous.shiftable_ref_kw[d],
            exogenous.price_da_ct_per_kwh[d],
        )  # fmt: skip
        actual = Scenarios(exogenous.load_kw[[d]], exogenous.pv_kw[[d]], exogenous.price_rt_ct_per_kwh[[d]], np.ones(1))
        problems.append(
            reference_problem(
                community, start, actual, regulariser=0.0, foresight=True, terminal=d == days - 1,
                soc_kwh=problems[-1].soc_end_kwh if problems else None,
            )
        )  # fmt: skip
    constraints = [constraint for day in problems for constraint in day.problem.constraints]
    if back:
        constraints += [day.soc_end_kwh == fleet.soc_initial_kwh for day in problems]
    return problems, cp.Problem(cp.Minimize(sum(day.problem.objective.expr for day in problems)), constraints)


def solved(problem: Any) -> float:
    return float(problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10))


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize(("seed", "num_days", "hours"), [(0, 2, 6), (1, 3, 3), (2, 3, 5), (3, 2, 4)])
def test_the_cheapest_course_is_that_of_the_model(seed: int, num_days: int, hours: int, mechanism: str) -> None:
    """With surplus of negative price, so that curtailment counts."""
    community, exogenous = stage(seed, num_days, hours=hours, mechanism=mechanism)
    price = np.random.default_rng(seed).uniform(-15, 20, (num_days, hours))
    exogenous = replace(exogenous, price_rt_ct_per_kwh=price, pv_kw=2 * exogenous.pv_kw)
    (course,) = oracle_cost(community, exogenous, [np.arange(num_days)])
    _, problem = reference(community, exogenous)
    assert course.objective_ct == pytest.approx(solved(problem), rel=1e-7)
    assert course.attained == course.objective_ct
    assert course.gap < 1e-8


@pytest.mark.parametrize("seed", range(4))
def test_the_lowest_peaks_are_those_of_the_model(seed: int) -> None:
    community, exogenous = stage(seed, 3, hours=4)
    (course,) = oracle_peak(community, exogenous, [np.arange(3)])
    problems, whole = reference(community, exogenous)
    gross = (exogenous.load_kw + exogenous.shiftable_ref_kw).sum(axis=2).mean(axis=1)
    ratios = 0.0
    for d, day in enumerate(problems):
        flexible = day.shiftable_kw + day.charge_kw - day.discharge_kw + day.curtail_kw
        exchange = cp.sum(exogenous.load_kw[d] - exogenous.pv_kw[d] + flexible, axis=1)
        ratios += cp.pos(cp.max(exchange)) / gross[d]
    least = solved(cp.Problem(cp.Minimize(ratios), whole.constraints))
    assert course.attained / gross.mean() == pytest.approx(least, rel=1e-6, abs=1e-7)
    assert (course.peak_kw / gross).sum() == pytest.approx(least, rel=1e-6, abs=1e-6)
    assert course.gap <= 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_carrying_energy_over_midnight_pays(seed: int) -> None:
    """An episode costs at most what its days do when the batteries are brought back to their start each midnight."""
    community, exogenous = stage(seed, 3, hours=4)
    (course,) = oracle_cost(community, exogenous, [np.arange(3)])
    _, brought_back = reference(community, exogenous, back=True)
    assert course.objective_ct < solved(brought_back) - 1.0
    trace = play(community, exogenous, course.actions)
    assert np.abs(trace.soc_kwh[:-1, -1] - community.fleet.soc_initial_kwh).max() > 5.0


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_course_can_be_played_and_is_what_the_oracle_says(seed: int, mechanism: str) -> None:
    community, exogenous = stage(seed, mechanism=mechanism)
    community = strained(community)
    exogenous = replace(exogenous, passive_pu=np.full((3, 6), 0.2))
    for find in ORACLES:
        (course,) = find(community, exogenous, [np.arange(3)])
        trace = play(community, exogenous, course.actions)
        played = metrics_of(community, exogenous, trace)
        rel = 1e-5 if find is oracle_voltage else 1e-6
        assert played[oracle_cost] == pytest.approx(course.objective_ct, rel=rel)
        assert played[find] == pytest.approx(course.attained, rel=1e-6, abs=1e-6)
        np.testing.assert_allclose(np.maximum(trace.exchange_kw.max(axis=1), 0.0), course.peak_kw, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(trace.soc_kwh[1:, 0], trace.soc_kwh[:-1, -1])
        np.testing.assert_allclose(trace.backlog_kwh[:, -1], 0.0, atol=1e-9)
        shifted = course.actions.shiftable_kw.sum(axis=1) - exogenous.shiftable_ref_kw.sum(axis=1)
        np.testing.assert_allclose(shifted, 0.0, atol=1e-6)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("seed", [3, 4])
def test_nothing_played_beats_an_oracle(seed: int, negative: bool) -> None:
    community, exogenous = stage(seed, hours=4, negative=negative)
    community = strained(community)
    exogenous = replace(exogenous, pv_kw=0.3 * exogenous.pv_kw, passive_pu=np.full((3, 4), 0.2))
    rng = np.random.default_rng(seed)
    best = {find: find(community, exogenous, [np.arange(3)])[0] for find in ORACLES}
    tried = rivals(rng, community, exogenous)
    tried += [course.actions for course in best.values()]
    tried += [near(rng, course) for course in best.values() for _ in range(6)]
    # Each day as the oracle plays it when it is an episode of its own.
    tried += [DayActions.join([day.actions for day in find(community, exogenous, range(3))]) for find in ORACLES]
    for actions in tried:
        played = metrics_of(community, exogenous, play(community, exogenous, actions))
        for find, course in best.items():
            least = course.attained - course.missed
            assert played[find] >= least - 1e-6 * (1 + abs(least)), find
            assert find is not oracle_voltage or course.gap < 2e-5


def test_at_negative_prices_the_episode_played_costs_no_less() -> None:
    """Charging against discharging burns energy, which pays: the relaxed bound knows it, the environment does not."""
    community, exogenous = stage(7, negative=True)
    burning = replace(
        exogenous,
        price_da_ct_per_kwh=exogenous.price_da_ct_per_kwh - 40,
        price_rt_ct_per_kwh=exogenous.price_rt_ct_per_kwh - 60,
    )
    (course,) = oracle_cost(community, burning, [np.arange(3)])
    played = metrics_of(community, burning, play(community, burning, course.actions))[oracle_cost]
    assert played > course.objective_ct + 1.0


@pytest.mark.parametrize("find", ORACLES)
def test_a_day_is_an_episode_of_one_day(find: Callable[..., list[OracleEpisode]]) -> None:
    community, exogenous = stage(8)
    community = strained(community)
    (by_number,), (by_rows,) = find(community, exogenous, [1]), find(community, exogenous, [np.array([1])])
    assert by_number.attained == by_rows.attained
    for name, values in vars(by_number.actions).items():
        assert len(values) == 1
        np.testing.assert_array_equal(values, getattr(by_rows.actions, name))


def test_an_episode_of_one_day_is_its_core_problem_to_the_bit() -> None:
    community, exogenous = stage(9)
    start = DayStart(
        0, community.fleet.soc_initial_kwh, np.zeros(3), np.zeros(3), exogenous.shiftable_ref_kw[2],
        exogenous.price_da_ct_per_kwh[2],
    )  # fmt: skip
    actual = Scenarios(exogenous.load_kw[[2]], exogenous.pv_kw[[2]], exogenous.price_rt_ct_per_kwh[[2]], np.ones(1))
    alone = build_core(community, start, actual, regulariser=0.0, foresight=True)
    stacked = Episode.of(community, exogenous, 2).program()
    for name in ("P", "A", "G"):
        np.testing.assert_array_equal(getattr(stacked, name).toarray(), getattr(alone, name).toarray())
    for name in ("c", "b", "h", "lb", "ub", "constant_ct", "start_rows"):
        np.testing.assert_array_equal(getattr(stacked, name), getattr(alone, name))
    for name, columns in alone.columns._asdict().items():
        np.testing.assert_array_equal(getattr(stacked.columns, name), columns)


def test_an_episode_does_not_depend_on_the_others_asked_for() -> None:
    community, exogenous = stage(10, 4)
    together = oracle_cost(community, exogenous, [np.array([0, 1]), 3, [1, 2]])
    (alone,) = oracle_cost(community, exogenous, [[1, 2]])
    assert [len(course.peak_kw) for course in together] == [2, 1, 2]
    assert together[2].objective_ct == alone.objective_ct
    np.testing.assert_array_equal(together[2].actions.battery_kw, alone.actions.battery_kw)


def test_another_edge_never_costs_more() -> None:
    community, exogenous = stage(11, num=4)
    graph = community.graph
    costs = []
    for kept in range(len(graph) + 1):
        some = TradeGraph(*(part[:kept] for part in (graph.first, graph.second, graph.limit_kw, graph.fee_ct_per_kwh)))
        (course,) = oracle_cost(community.replace(graph=some), exogenous, [np.arange(3)])
        costs.append(course.objective_ct)
    assert np.all(np.diff(costs) <= 1e-6)
    assert costs[-1] < costs[0] - 1.0


# by hand ---------------------------------------------------------------------------------------------------------


def one_prosumer(load_kw: list[list[float]], price: list[float], soc_kwh: float) -> tuple[Community, Exogenous]:
    """Two days of two slots of 12 h, a lossless battery of 3 kW that wears not, no PV, nothing to shift."""
    community = random_community(np.random.default_rng(0), num=1, hours=2, edges=False)
    fleet = replace(
        community.fleet, battery_power_kw=np.array([3.0]), charge_efficiency=np.ones(1),
        discharge_efficiency=np.ones(1), soc_min_kwh=np.zeros(1), soc_max_kwh=np.array([200.0]),
        soc_initial_kwh=np.array([soc_kwh]), shiftable_power_kw=np.zeros(1),
        battery_wear_quadratic_ct_per_kw2h=np.zeros(1), battery_wear_linear_ct_per_kwh=np.zeros(1),
    )  # fmt: skip
    load, none = np.array(load_kw)[:, :, None], np.zeros((2, 2, 1))
    prices = np.repeat(np.array(price)[:, None], 2, axis=1)
    return community.replace(fleet=fleet), Exogenous(load, none, none, prices, prices, np.full((2, 2), 0.4))


def test_lowest_cost_by_hand() -> None:
    """Charge on the cheap day; on the dear one replace what is bought; what is left earns the sale price of that day.

    5 ct x 72 kWh and 20 ct/kW x 3 kW, then 20 ct x 36 kWh and 20 ct/kW x 3 kW, less 0.4 x 20 ct x 36 kWh.
    """
    community, exogenous = one_prosumer([[0.0, 0.0], [6.0, 0.0]], [5.0, 20.0], soc_kwh=0.0)
    (course,) = oracle_cost(community, exogenous, [[0, 1]])
    assert course.objective_ct == pytest.approx(360 + 60 + 720 + 60 - 288, rel=1e-8)
    # The other way round nothing is worth storing: what is left in the end is worth 0.4 x 5 ct, below any price.
    community, exogenous = one_prosumer([[6.0, 0.0], [0.0, 0.0]], [20.0, 5.0], soc_kwh=0.0)
    (course,) = oracle_cost(community, exogenous, [[0, 1]])
    assert course.objective_ct == pytest.approx(20 * 72 + 20 * 6, rel=1e-8)


def test_what_is_missing_in_the_end_is_paid_at_the_last_day_s_prices() -> None:
    """Nothing can be bought back at less than 1.5 x 2 ct, the value of a kWh missing on the cheap last day."""
    community, exogenous = one_prosumer([[3.0, 3.0], [0.0, 0.0]], [20.0, 2.0], soc_kwh=72.0)
    (course,) = oracle_cost(community, exogenous, [[0, 1]])
    assert course.objective_ct == pytest.approx(72 * 2 + 20 * 3, rel=1e-8)
    free = community.replace(tariff=replace(community.tariff, demand_charge_ct_per_kw=100.0))
    (course,) = oracle_cost(free, exogenous, [[0, 1]])
    assert course.objective_ct == pytest.approx(72 * 3, rel=1e-8)


def test_lowest_peaks_by_hand() -> None:
    """A kW counts twice as much on the day of half the demand: day 1 stores 2 kW, day 2 draws the full 3 kW less.

    That takes 72 kWh, of which 24 are there. 12 of 10 kW and 2 of 5 kW, a sum of 1.6, times 7.5 kW on average.
    """
    community, exogenous = one_prosumer([[10.0, 10.0], [5.0, 5.0]], [10.0, 10.0], soc_kwh=24.0)
    (course,) = oracle_peak(community, exogenous, [[0, 1]])
    np.testing.assert_allclose(course.peak_kw, [12.0, 2.0], atol=1e-5)
    assert course.attained == pytest.approx(1.6 * 7.5, abs=1e-6)
    assert replace(course, attained=-3.0, gap=0.5).missed == 2.0


def test_a_battery_charged_the_day_before_holds_the_voltage() -> None:
    """Empty at first; by itself the second day begins with nothing to give, after the first it gives all its power."""
    feeder = Feeder.from_arrays([0], [1], [1.0], [0.5], [0.0, 0.0], [0.0, 0.0], base_kv=1.0, v_min_pu=0.95)
    community, exogenous = one_prosumer([[0.0, 0.0], [100.0, 0.0]], [10.0, 10.0], soc_kwh=0.0)
    fleet = replace(community.fleet, bus=np.ones(1, dtype=np.int64))
    community = community.replace(feeder=feeder, fleet=fleet)
    exogenous = replace(exogenous, passive_pu=np.zeros((2, 2)))
    (alone,), (course,) = oracle_voltage(community, exogenous, [1]), oracle_voltage(community, exogenous, [[0, 1]])
    assert course.attained < alone.attained - 1e-3
    assert course.bound_pu_h == pytest.approx(course.attained, abs=1e-8)
    assert course.actions.battery_kw[1, 0, 0] == pytest.approx(-3.0, abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([0, 2], "consecutive"),
        ([1, 0], "consecutive"),
        ([], "consecutive"),
        ([0.0, 1.0], "consecutive"),
        ([[0, 1]], "consecutive"),
        ([2, 3], "not all in the data"),
        (-1, "not all in the data"),
    ],
)
@pytest.mark.parametrize("find", ORACLES)
def test_rows_that_are_no_episode(find: Callable[..., list[OracleEpisode]], rows: Any, says: str) -> None:
    community, exogenous = stage(12)
    with pytest.raises(UsageError, match=says):
        find(community, exogenous, [rows])


def test_a_peak_of_no_demand_has_no_ratio() -> None:
    community, exogenous = stage(13)
    none = exogenous.load_kw.copy()
    none[1] = 0.0
    idle = replace(exogenous, load_kw=none, shiftable_ref_kw=np.zeros_like(none))
    with pytest.raises(UsageError, match="day in row 1: no prosumer has any load"):
        oracle_peak(community, idle, [[0, 1, 2]])
