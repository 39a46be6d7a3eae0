"""The community's peak at a price: the program is the equations', the price works as prices do.

Axes: N prosumers, H hours of a day, S scenarios, h remaining hours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cvxpy
import numpy as np
import pytest
from core_cases import FORMS, random_case, random_community

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.core_matrices import build_core
from prosumer_gym.baselines.day_ahead import DayStart, Plan, Scenarios, plan_of, solve_matrices
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.peak import PeakPrice, build_with_peak
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.errors import UsageError

CASES = [
    # seed, S, start hour (None: the gate), foresight, negative prices, each prosumer's own weights
    (0, 1, None, True, True, False),
    (1, 3, None, False, True, True),
    (2, 4, None, False, False, False),
    (3, 1, 0, False, False, False),
    (4, 3, 2, False, False, True),
    (5, 4, 4, False, False, False),
]
REGULARISER = 1e-3

cp: Any = cvxpy  # its functions are not visible to type checkers
Problem = tuple[Community, DayStart, Scenarios]


def problem(seed: int, num_scenarios: int = 3, start: int | None = None, *, mechanism: str = "bilateral",
            negative: bool = False, own: bool = False) -> Problem:  # fmt: skip
    rng = np.random.default_rng(seed)
    community = random_community(rng, mechanism=mechanism)
    return (
        community,
        *random_case(rng, community, num_scenarios, start_hour=start, negative=negative, own_weights=own),
    )


def planned(stage: Problem, peak: PeakPrice, *, foresight: bool = False) -> Plan:
    community, start, scenarios = stage
    matrices = build_with_peak(community, start, scenarios, peak, regulariser=REGULARISER, foresight=foresight)
    return plan_of(community, start, matrices, solve_matrices(matrices, tolerance=1e-8))


def exchange_kw(plan: Plan, scenarios: Scenarios) -> FloatArray:
    """The community's net import by plan, where nothing is curtailed later [S,h]."""
    drawn = scenarios.load_kw - scenarios.pv_kw + plan.battery_kw + plan.shiftable_kw + plan.curtail_kw
    return np.asarray(drawn.sum(axis=2))


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize(("seed", "num", "start", "foresight", "negative", "own"), CASES)
def test_the_optimum_is_that_of_the_equations(
    seed: int, num: int, start: int | None, foresight: bool, negative: bool, own: bool, mechanism: str
) -> None:
    community, day, scenarios = stage = problem(seed, num, start, mechanism=mechanism, negative=negative, own=own)
    peak = PeakPrice(35.0, 10.0 if start else 0.0)
    reference = reference_problem(community, day, scenarios, regulariser=REGULARISER, foresight=foresight)
    drawn = reference.shiftable_kw + reference.charge_kw - reference.discharge_kw
    if start is not None or foresight:
        drawn = drawn + reference.curtail_kw
    total = cp.sum(drawn, axis=1)
    top = cp.Variable(num)
    fixed_kw = (scenarios.load_kw - scenarios.pv_kw).sum(axis=2)
    rows = [top[s] >= total + fixed_kw[s] for s in range(num)]
    probability = scenarios.weights_by_prosumer.mean(axis=0)
    charged = cp.Minimize(reference.problem.objective.args[0] + peak.ct_per_kw * (probability @ top - peak.so_far_kw))
    whole = cp.Problem(charged, [*reference.problem.constraints, *rows, top >= peak.so_far_kw])
    whole.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    assert planned(stage, peak, foresight=foresight).objective_ct == pytest.approx(whole.value, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("start", [None, 2])
def test_without_a_price_it_is_the_core_problem(start: int | None) -> None:
    stage = problem(0, 3, start)
    core = build_core(*stage, regulariser=REGULARISER)
    for peak in (PeakPrice(0.0), PeakPrice(0.0, 50.0)):
        same = build_with_peak(*stage, peak, regulariser=REGULARISER)
        for name in ("c", "b", "h", "lb", "ub"):
            np.testing.assert_array_equal(getattr(same, name), getattr(core, name))
        assert same.constant_ct == core.constant_ct


def test_the_dearer_the_lower_the_peak_and_the_dearer_the_day() -> None:
    stage = problem(2, 3)
    scenarios = stage[2]
    peaks, costs = [], []
    for price in (0.0, 5.0, 20.0, 80.0, 320.0):
        plan = planned(stage, PeakPrice(price))
        expected = float(scenarios.weights @ exchange_kw(plan, scenarios).max(axis=1))
        peaks.append(expected)
        costs.append(plan.objective_ct - price * expected)
    assert np.all(np.diff(peaks) < 1e-5)
    assert np.all(np.diff(costs) > -1e-5)
    assert peaks[-1] < peaks[0] - 1.0


def test_below_the_peak_that_has_been_nothing_is_paid() -> None:
    stage = problem(4, 3, 2)
    free = planned(stage, PeakPrice(0.0))
    under = planned(stage, PeakPrice(80.0, 1000.0))
    assert under.objective_ct == pytest.approx(free.objective_ct, rel=1e-7)
    np.testing.assert_allclose(under.battery_kw, free.battery_kw, atol=1e-3)
    floor_kw = float(exchange_kw(free, stage[2]).max()) - 5.0
    assert planned(stage, PeakPrice(80.0, floor_kw)).objective_ct > free.objective_ct + 1e-3


def test_what_is_thrown_away_later_raises_the_peak_like_all_that_is_drawn() -> None:
    """What is recourse in real time is a decision with foresight; of one scenario with a position the two are one."""
    community, day, scenarios = problem(6, 1, 2, negative=True)
    community = community.replace(graph=TradeGraph.ring_with_chords(1))  # what is sold to others is limited otherwise
    scenarios = replace(scenarios, price_rt_ct_per_kwh=np.full_like(scenarios.price_rt_ct_per_kwh, -30.0))
    stage, peak = (community, day, scenarios), PeakPrice(60.0)
    known = build_with_peak(
        community, replace(day, position_kw=None), scenarios, peak, regulariser=REGULARISER, foresight=True
    )
    assert day.position_kw is not None
    committed = day.position_kw[:, 2:].T
    for columns, value in (
        (known.columns.buy, np.maximum(committed, 0)),
        (known.columns.sell, np.maximum(-committed, 0)),
    ):
        known.lb[columns] = known.ub[columns] = value
    objective_ct = solve_matrices(known, tolerance=1e-8).objective + known.constant_ct
    same_ct = objective_ct - REGULARISER / 2 * float(np.sum(committed**2))
    assert planned(stage, peak).objective_ct == pytest.approx(same_ct, rel=1e-6)


@pytest.mark.parametrize(("price", "so_far"), [(-1.0, 0.0), (np.nan, 0.0), (1.0, -1.0), (1.0, np.inf)])
def test_prices_and_peaks_that_cannot_be(price: float, so_far: float) -> None:
    with pytest.raises(UsageError, match="peak price"):
        PeakPrice(price, so_far)
