"""How fast the community's day is planned: N = 10 prosumers, H = 24 hours, S scenarios, demand charge and trades.

Run: OMP_NUM_THREADS=1 python benchmarks/core_problem.py

Every number is a median over random instances, processor time, in one run; read the ratios, machines differ. The CVXPY
form is the readable reference of the model, not one tuned for CVXPY.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import cvxpy
import numpy as np
import piqp

from prosumer_gym.baselines.core_matrices import build_core
from prosumer_gym.baselines.day_ahead import REGULARISER_CT_PER_KW2, DayStart, Scenarios, plan_of, solve_core
from prosumer_gym.baselines.day_ahead_reference import reference_problem
from prosumer_gym.baselines.solve import QuadraticProgram
from prosumer_gym.community import Community
from prosumer_gym.scenarios import make_scenario


def instance(seed: int, community: Community, num_scenarios: int) -> tuple[DayStart, Scenarios]:
    """A summer day of ten homes with PV, as many neighbours' days again as there are scenarios."""
    rng = np.random.default_rng(seed)
    S, H, N = num_scenarios, community.hours_per_day, community.num_prosumers
    hour = np.arange(H) * 24 / H
    shape = 8 + 6 * np.exp(-(((hour - 13) / 4) ** 2)) + 5 * np.exp(-(((hour - 21) / 2.5) ** 2))
    noise = 0.2 * rng.normal(size=(S, 1, N)) + 0.15 * rng.normal(size=(S, H, N))
    load = shape[:, None] * rng.uniform(0.6, 1.4, N) * np.exp(noise)
    clear = np.clip(rng.beta(4, 1.5, (S, 1, 1)) + 0.1 * rng.normal(size=(S, H, N)), 0, 1)
    pv = np.clip(np.sin((hour - 6) / 12 * np.pi), 0, None)[:, None] * rng.uniform(20, 45, N) * clear
    price_da = 6 + 6 / (1 + np.exp(-(shape - 12) / 2 + 0.3 * rng.normal(size=H)))
    price_rt = price_da + 3 * rng.normal(size=(S, H)) + rng.exponential(2, (S, H))
    start = DayStart(0, np.full(N, 100.0), np.zeros(N), np.zeros(N), 0.2 * load.mean(axis=0), price_da)
    return start, Scenarios(load, pv, price_rt, np.full(S, 1 / S))


def real_time(start: DayStart, scenarios: Scenarios, position_kw: Any, hour: int) -> tuple[DayStart, Scenarios]:
    """The same day at `hour`, the first scenario being what is observed."""
    load, pv, price = (
        np.array(values[:, hour:]) for values in (scenarios.load_kw, scenarios.pv_kw, scenarios.price_rt_ct_per_kwh)
    )
    for values in (load, pv, price):
        values[:, 0] = values[0, 0]
    now = DayStart(
        hour, start.soc_kwh, start.backlog_kwh, np.full(len(start.soc_kwh), 10.0), start.shiftable_ref_kw,
        start.price_da_ct_per_kwh, position_kw,
    )  # fmt: skip
    return now, Scenarios(load, pv, price, scenarios.weights)


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def measure(community: Community, start: DayStart, scenarios: Scenarios, reference: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    found["ours, everything"], plan = seconds(lambda: solve_core(community, start, scenarios))
    found["  build the matrices"], m = seconds(
        lambda: build_core(community, start, scenarios, regulariser=REGULARISER_CT_PER_KW2)
    )
    program = QuadraticProgram(m.P, m.c, m.A, m.b, m.G, m.h, m.lb, m.ub)
    solution = program.solve()
    solver: Any = program._piqp
    found["  PIQP, set up"] = seconds(lambda: _set_up(m))[0]
    found["  PIQP, solve"], status = seconds(solver.solve)
    assert status == piqp.PIQP_SOLVED
    found["  check the answer"] = seconds(
        lambda: program._check(solution.x, solution.y, solution.z, solution.z_lower, solution.z_upper)
    )[0]
    found["  read the plan"] = seconds(lambda: plan_of(community, start, m, solution))[0]
    found["ours with Clarabel"], other = seconds(lambda: solve_core(community, start, scenarios, solver="clarabel"))
    assert abs(other.objective_ct / plan.objective_ct - 1) < 1e-6
    found["ours with ECOS"], other = seconds(
        lambda: solve_core(community, start, scenarios, solver="ecos", tolerance=1e-5)
    )
    assert abs(other.objective_ct / plan.objective_ct - 1) < 1e-5
    if reference:
        model = reference_problem(community, start, scenarios, regulariser=REGULARISER_CT_PER_KW2).problem
        found["CVXPY, canonicalisation alone"] = seconds(lambda: model.get_problem_data(cvxpy.ECOS))[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate": to 1e-5, see below
            found["CVXPY + ECOS, everything"], value = seconds(lambda: model.solve(solver=cvxpy.ECOS))
        assert abs(value / plan.objective_ct - 1) < 1e-5
    return found


def _set_up(m: Any) -> Any:
    solver = piqp.SparseSolver()
    solver.settings.kkt_solver = piqp.sparse_ldlt_ineq_cond
    solver.setup(m.P, m.c, m.A, m.b, m.G, None, m.h, m.lb, m.ub)
    return solver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--instances", type=int, default=5)
    parser.add_argument("--scenarios", type=int, default=50)
    parser.add_argument("--no-reference", action="store_true", help="leave out CVXPY, which takes longest")
    arguments = parser.parse_args()
    community = make_scenario("ieee33")
    print(f"piqp {version('piqp')}, cvxpy {version('cvxpy')}; S = {arguments.scenarios}, medians of", end=" ")
    print(f"{arguments.instances} instances\n\nday-ahead, 24 hours")
    cases = [instance(seed, community, arguments.scenarios) for seed in range(arguments.instances)]
    runs = [measure(community, *case, reference=not arguments.no_reference) for case in cases]
    median = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
    for name, value in median.items():
        print(f"  {name:<34} {1e3 * value:9.1f} ms  {value / median['  PIQP, solve']:7.2f} x PIQP's solve")

    hours, days = range(community.hours_per_day), []
    by_hour: list[list[float]] = [[] for _ in hours]
    for start, scenarios in cases:
        position = solve_core(community, start, scenarios).position_kw
        for hour in hours:
            case = real_time(start, scenarios, position, hour)
            by_hour[hour].append(seconds(lambda case=case: solve_core(community, *case))[0])  # type: ignore[misc]
        days.append(sum(times[-1] for times in by_hour))
    print("\nreal time, the remaining hours at")
    for hour in (0, 6, 12, 18, 23):
        print(f"  {hour:2d} h  {1e3 * np.median(by_hour[hour]):8.1f} ms")
    print(f"  a day of {len(hours)} plans: {np.median(days):.2f} s")
    print(f"\nlargest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
