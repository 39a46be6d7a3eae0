"""How fast prosumers find their day's plan among themselves: consensus ADMM, N prosumers, H = 24 hours, S scenarios.

Run: OMP_NUM_THREADS=1 python benchmarks/admm.py

Four tables, all in one run; read the ratios, machines differ. Seconds are processor time unless said otherwise; what is
compiled is compiled before.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cvxpy
import numpy as np
from core_problem import instance

from prosumer_gym.baselines.admm import ACCELERATIONS, consensus_admm
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, DayStart, Scenarios, solve_core
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.local_problem import LocalProblem
from prosumer_gym.baselines.solve import QuadraticProgram
from prosumer_gym.baselines.trades import own_side
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.scenarios import make_scenario

RHO = 0.5
Problem = tuple[Community, DayStart, Scenarios]


def seconds(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> tuple[float, Any]:
    started = clock()
    result = call()
    return clock() - started, result


def case(seed: int, num_prosumers: int, num_scenarios: int) -> Problem:
    community = make_scenario("ieee33")
    if num_prosumers != 10:
        buses = 1 + np.arange(num_prosumers) % 32
        community = community.replace(
            fleet=Fleet.identical(buses), graph=TradeGraph.ring_with_chords(num_prosumers)
        )  # fmt: skip
    return community, *instance(seed, community, num_scenarios)


def the_day(num_instances: int, num_scenarios: int) -> None:
    print(f"\na day of 10 prosumers, S = {num_scenarios}: rounds, and gap to the central optimum")
    print(f"  {'':14}{'rounds':>8}{'restarts':>10}{'gap':>10}{'proven':>10}{'s':>8}{'x central':>11}")
    for seed in range(num_instances):
        problem = case(seed, 10, num_scenarios)
        central_s, central = seconds(lambda problem=problem: solve_core(*problem))
        for name in ACCELERATIONS:
            spent, found = seconds(
                lambda problem=problem, name=name: consensus_admm(*problem, rho=RHO, acceleration=name)
            )
            gap = found.plan.objective_ct / central.objective_ct - 1
            proven = found.plan.objective_ct / found.plan.lower_bound_ct - 1
            print(
                f"  {name:14}{found.iterations:7d}{' ' if found.converged else '+'}"
                f"{np.count_nonzero(found.residuals.restarted):10d}{gap:10.0e}{proven:10.0e}{spent:8.2f}"
                f"{spent / central_s:11.1f}"
            )
    print("  +: not converged")
    problem = case(0, 10, num_scenarios)
    for threads in (1, 2):
        spent, _ = seconds(
            lambda threads=threads: consensus_admm(*problem, rho=RHO, threads=threads), time.perf_counter
        )
        print(f"  instance 0, {threads} thread{'s' if threads > 1 else ''}: {spent:.2f} s of wall time")


def one_prosumer(num_scenarios: int, repetitions: int = 30) -> None:
    """A re-solve after the small changes of the middle of a negotiation, against the other ways to make it."""
    problem = case(0, 10, num_scenarios)
    local = LocalProblem(*problem, 0, rho=RHO)
    rng, shape = np.random.default_rng(0), (24, local.neighbours.size)
    price, target = rng.normal(0, 0.5, shape), rng.uniform(-1, 1, shape)
    local.solve(price, target)
    questions = [price + rng.normal(0, 0.01, shape) for _ in range(repetitions)]
    program = local._program
    m = local._matrices

    def median(call: Callable[[Any], Any]) -> float:
        return 1e3 * float(np.median([seconds(lambda q=q: call(q))[0] for q in questions]))

    def from_scratch(question: Any) -> None:
        program._kept_at = [None] * len(program._kept_at)
        local.solve(question, target)

    found = {"ours, warm": median(lambda q: local.solve(q, target)), "ours, from scratch": median(from_scratch)}
    piqp = QuadraticProgram(np.diag(local._curvature), m.c, m.A, m.b, m.G, m.h, m.lb, m.ub)

    def by_piqp(question: Any) -> None:
        piqp.update(c=local._tilted(local._linear, question - RHO * target))
        piqp.solve()

    found["PIQP, updated and checked"] = median(by_piqp)
    start = DayStart(
        0, *(values[[0]] for values in (problem[1].soc_kwh, problem[1].backlog_kwh, problem[1].connection_peak_kw)),
        problem[1].shiftable_ref_kw[:, [0]], problem[1].price_da_ct_per_kwh,
    )  # fmt: skip
    scenarios = Scenarios(
        problem[2].load_kw[:, :, [0]], problem[2].pv_kw[:, :, [0]], problem[2].price_rt_ct_per_kwh, problem[2].weights
    )
    model = reference_problem(
        local.community, start, scenarios, regulariser=REGULARISER_CT_PER_KW2, trades=own_side(problem[0], 0)[0]
    )
    parameter = cvxpy.Parameter(shape)
    extra = cvxpy.sum(cvxpy.multiply(parameter, model.trade_kw)) + RHO / 2 * cvxpy.sum_squares(model.trade_kw - target)
    whole = cvxpy.Problem(cvxpy.Minimize(model.problem.objective.expr + extra), model.problem.constraints)

    def by_cvxpy(question: Any) -> None:
        parameter.value = question
        whole.solve(solver=cvxpy.CLARABEL)

    by_cvxpy(price)  # compiled once, the parameter alone changes
    found["CVXPY with Clarabel"] = median(by_cvxpy)
    print(f"\none prosumer's re-solve, S = {num_scenarios}, median of {repetitions}")
    for name, value in found.items():
        print(f"  {name:28}{value:9.2f} ms{value / found['ours, warm']:8.1f} x")


def growing(num_scenarios: int, rounds: int = 60) -> None:
    print(f"\n{rounds} rounds of growing communities, S = {num_scenarios}")
    first = None
    for num in (10, 25, 50, 100, 200):
        problem = case(0, num, num_scenarios)
        spent, _ = seconds(lambda problem=problem: consensus_admm(*problem, rho=RHO, max_iterations=rounds))
        each = 1e3 * spent / num
        first = first or each
        print(f"  N = {num:4d}{spent:9.2f} s{each:9.1f} ms a prosumer{each / first:7.2f} x that of N = 10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--scenarios", type=int, default=50)
    arguments = parser.parse_args()
    consensus_admm(*case(0, 10, 2), max_iterations=2)  # compiles
    one_prosumer(arguments.scenarios)
    the_day(arguments.instances, arguments.scenarios)
    growing(arguments.scenarios)


if __name__ == "__main__":
    main()
