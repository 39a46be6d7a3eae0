"""The compiled interior-point method finds what the general solvers find, from wherever it starts.

Axis letters: x variables, a rows of A, g rows of G.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from prosumer_gym.baselines.interior_point import InteriorPoint
from prosumer_gym.baselines.interior_point_kernel import _advance
from prosumer_gym.baselines.solve import SolverError, solve_qp

Program = dict[str, Any]


def random_program(seed: int, *, num_x: int = 14, num_a: int = 4, num_g: int = 6) -> Program:
    """Feasible and bounded; variables with both bounds, one, none, and coinciding ones; half of them without P."""
    rng = np.random.default_rng(seed)
    A, G = (sp.csr_matrix(rng.normal(size=(num, num_x)) * (rng.random((num, num_x)) < 0.4)) for num in (num_a, num_g))
    x = rng.normal(size=num_x)
    lb, ub = x - rng.uniform(0.1, 2, num_x), x + rng.uniform(0.1, 2, num_x)
    P = np.where(np.arange(num_x) % 2 == 0, rng.uniform(0.1, 2, num_x), 0.0)
    ub[0], lb[2], ub[4], lb[4] = np.inf, -np.inf, np.inf, -np.inf  # these are curved
    lb[5] = ub[5] = x[5]
    h = G @ x + rng.uniform(0.0, 1.0, num_g)
    return {"P": P, "A": A, "b": A @ x, "G": G, "h": h, "lb": lb, "ub": ub}


def expected(program: Program, c: Any) -> Any:
    return solve_qp(sp.diags(program["P"]), c, *(program[name] for name in ("A", "b", "G", "h", "lb", "ub")))


@pytest.mark.parametrize("seed", range(12))
def test_it_finds_the_optimum(seed: int) -> None:
    program = random_program(seed)
    c = np.random.default_rng(seed).normal(size=14)
    found, other = InteriorPoint(**program, tolerance=1e-9).solve(c), expected(program, c)
    assert found.objective == pytest.approx(other.objective, abs=1e-7)
    assert found.dual_objective == pytest.approx(found.objective, abs=1e-7)
    assert found.objective == pytest.approx(0.5 * program["P"] @ found.x**2 + c @ found.x, abs=1e-12)
    assert found.residuals.within(1e-9)
    np.testing.assert_allclose(program["A"] @ found.x, program["b"], atol=1e-8)
    assert np.all(program["G"] @ found.x <= program["h"] + 1e-8)
    assert np.all((found.x >= program["lb"] - 1e-8) & (found.x <= program["ub"] + 1e-8))
    assert found.x[5] == program["lb"][5]


@pytest.mark.parametrize(("num_a", "num_g"), [(0, 6), (4, 0), (0, 0)])
def test_programs_that_lack_a_part(num_a: int, num_g: int) -> None:
    program = random_program(3, num_a=num_a, num_g=num_g)
    c = np.linspace(-1, 1, 14)
    found = InteriorPoint(**program, tolerance=1e-9).solve(c)
    assert found.objective == pytest.approx(expected(program, c).objective, abs=1e-7)


def test_free_variables_that_only_rows_hold() -> None:
    """x0 = x2 - 1, x1 = x0 + x3, neither bounded nor curved, and x1 in a row of free variables alone: x1 = x0 + x4."""
    A = sp.csr_matrix([[1.0, 0, -1, 0, 0], [-1, 1, 0, -1, 0], [-1, 1, 0, 0, -1]])
    program = {
        "P": np.zeros(5), "A": A, "b": np.array([-1.0, 0, 0]), "G": sp.csr_matrix([[0.0, 1, 0, 0, 0]]),
        "h": np.array([2.5]), "lb": np.array([-np.inf, -np.inf, 0, 0, -np.inf]),
        "ub": np.array([np.inf, np.inf, 3, 3, np.inf]),
    }  # fmt: skip
    c = np.array([0.0, -2.0, 0.0, 1.0, 0.5])
    found = InteriorPoint(**program, tolerance=1e-9).solve(c)  # type: ignore[arg-type]
    assert found.objective == pytest.approx(expected(program, c).objective, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("change", [1e-4, 1e-2, 1.0, 100.0])
def test_a_warm_start_leads_to_the_same_answer(seed: int, change: float) -> None:
    program, rng = random_program(seed), np.random.default_rng(seed)
    warm, c = InteriorPoint(**program, tolerance=1e-9), rng.normal(size=14)
    for _ in range(6):
        c = c + change * rng.normal(size=14)
        cold = InteriorPoint(**program, tolerance=1e-9).solve(c)
        assert warm.solve(c).objective == pytest.approx(cold.objective, abs=1e-6 * max(1.0, change))


def test_a_warm_start_saves_most_of_the_way() -> None:
    """Of small changes; this is what the kept points are for."""
    program, rng = random_program(0, num_x=60, num_a=15, num_g=30), np.random.default_rng(0)
    solver, c = InteriorPoint(**program, tolerance=1e-8), rng.normal(size=60)
    first = solver.solve(c).iterations
    again = [solver.solve(c + 1e-4 * rng.normal(size=60)).iterations for _ in range(10)]
    assert np.mean(again) < 0.6 * first


def test_what_cannot_be_solved_is_an_error_and_leaves_nothing_behind() -> None:
    program = random_program(1)
    c = np.random.default_rng(1).normal(size=14)
    solver = InteriorPoint(**program, tolerance=1e-9, max_iterations=3)
    for _ in range(2):
        with pytest.raises(SolverError, match=r"not solved within tolerance 1e-09, residuals primal"):
            solver.solve(c)
    apart = {**program, "b": program["b"] + 1e3}
    with pytest.raises(SolverError, match="residuals"):
        InteriorPoint(**apart, tolerance=1e-9).solve(c)
    solver.max_iterations = 80
    assert solver.solve(c).objective == pytest.approx(expected(program, c).objective, abs=1e-7)


def test_a_step_that_is_no_number_leaves_the_point_where_it_was() -> None:
    """Else an answer that is as good as rounding allows would be spoilt by the attempt to better it."""
    method = InteriorPoint(**random_program(1), tolerance=1e-9)
    c = np.ones(14)
    method.solve(c)
    method._cold_start(c[method._free])
    point, scratch = method._point, method._scratch
    point.slack[0] = point.z[0] = 0.0  # 0 / 0 in the Newton system
    before = [part.copy() for part in point]
    with np.errstate(all="ignore"):
        assert not _advance(method._program, point, 1.0, scratch)
    for part, was in zip(point, before, strict=True):
        np.testing.assert_array_equal(part, was)
