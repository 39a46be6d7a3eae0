"""The solver layer: every solver finds the optimum, and nothing else is ever accepted."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from prosumer_gym.baselines import solve
from prosumer_gym.baselines.solve import QuadraticProgram, Residuals, Solution, SolverError, solve_qp
from prosumer_gym.errors import UsageError

QP_SOLVERS = ["piqp", "clarabel", "ecos"]
LP_SOLVERS = [*QP_SOLVERS, "highs"]
TOLERANCE = {"ecos": 1e-5}
"""Where it is not the default; ECOS turns a curved cost into a cone."""


def random_program(seed: int, *, linear: bool = False) -> dict[str, Any]:
    """A feasible, bounded program with every kind of bound: both sides, one side, none, and a pair that coincides."""
    rng = np.random.default_rng(seed)
    size, equalities, inequalities = 12, 3, 6
    inside = rng.uniform(-1, 1, size)
    A, G = rng.normal(size=(equalities, size)), rng.normal(size=(inequalities, size))
    lb, ub = inside - rng.uniform(0.1, 2, size), inside + rng.uniform(0.1, 2, size)
    if not linear:
        lb[0], ub[1], lb[2], ub[2] = -np.inf, np.inf, -np.inf, np.inf
    lb[3] = ub[3] = inside[3]
    return {
        "P": None if linear else np.diag(rng.uniform(0.5, 2, size)),
        "c": rng.normal(size=size),
        "A": sp.csc_matrix(A), "b": A @ inside,
        "G": G, "h": G @ inside + rng.uniform(0, 0.5, inequalities),
        "lb": lb, "ub": ub,
    }  # fmt: skip


def assert_optimal(program: dict[str, Any], found: Solution, tolerance: float = 1e-6) -> None:
    """Karush-Kuhn-Tucker conditions, written out with dense matrices and without the layer's own residuals."""
    size = len(program["c"])
    P = np.zeros((size, size)) if program["P"] is None else np.asarray(program["P"])
    A, G = program["A"].toarray(), np.asarray(program["G"])
    x, lb, ub = found.x, program["lb"], program["ub"]
    stationarity = P @ x + program["c"] + A.T @ found.y + G.T @ found.z - found.z_lower + found.z_upper
    np.testing.assert_allclose(stationarity, 0, atol=tolerance)
    np.testing.assert_allclose(A @ x, program["b"], atol=tolerance)
    assert np.all(G @ x <= program["h"] + tolerance)
    assert np.all((lb - tolerance <= x) & (x <= ub + tolerance))
    for multiplier, slack in ((found.z, program["h"] - G @ x), (found.z_lower, x - lb), (found.z_upper, ub - x)):
        assert np.all(multiplier >= -tolerance)
        finite = np.isfinite(slack)
        assert np.all(multiplier[~finite] == 0)
        np.testing.assert_allclose(multiplier[finite] * slack[finite], 0, atol=tolerance)


@pytest.fixture(autouse=True)
def _ecos_at_hand(request: pytest.FixtureRequest) -> None:
    if "ecos" in request.node.name:
        pytest.importorskip("ecos", reason="ECOS has no wheel for this Python")


@pytest.mark.parametrize("solver", QP_SOLVERS)
def test_hand_solved_quadratic_program(solver: str) -> None:
    # nearest point of the simplex to (1, 0.4, -1): (0.8, 0.2, 0)
    found = solve_qp(
        np.eye(3), np.array([-1.0, -0.4, 1.0]), np.ones((1, 3)), np.ones(1), lb=np.zeros(3), solver=solver,
        tolerance=TOLERANCE.get(solver, 1e-7),
    )  # fmt: skip
    np.testing.assert_allclose(found.x, [0.8, 0.2, 0.0], atol=1e-5)
    np.testing.assert_allclose(found.y, [0.2], atol=1e-5)
    assert found.objective == pytest.approx(-0.54, abs=1e-6)
    assert found.solver == solver
    assert found.fallbacks == ()


@pytest.mark.parametrize("solver", LP_SOLVERS)
def test_hand_solved_linear_program(solver: str) -> None:
    # max 3x + 2y, x + y <= 4, x + 3y <= 7, x <= 3: (3, 1)
    found = solve_qp(
        None, np.array([-3.0, -2.0]), G=np.array([[1.0, 1.0], [1.0, 3.0]]), h=np.array([4.0, 7.0]), lb=np.zeros(2),
        ub=np.array([3.0, np.inf]), solver=solver,
    )  # fmt: skip
    np.testing.assert_allclose(found.x, [3.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(found.z, [2.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(found.z_upper, [1.0, 0.0], atol=1e-6)
    assert found.dual_objective == pytest.approx(-11.0, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("solver", QP_SOLVERS)
def test_random_quadratic_programs_are_optimal(solver: str, seed: int) -> None:
    program, tolerance = random_program(seed), TOLERANCE.get(solver, 1e-7)
    assert_optimal(program, solve_qp(**program, solver=solver, tolerance=tolerance), 10 * tolerance)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("solver", LP_SOLVERS)
def test_random_linear_programs_are_optimal(solver: str, seed: int) -> None:
    program = random_program(seed, linear=True)
    assert_optimal(program, solve_qp(**program, solver=solver))


@pytest.mark.parametrize("solver", ["piqp", "clarabel"])
def test_updated_program_is_the_program_built_anew(solver: str) -> None:
    old, new = random_program(0), random_program(1)
    program = QuadraticProgram(**old, solver=solver)
    first = program.solve().x
    program.update(**new)
    np.testing.assert_allclose(program.solve().x, solve_qp(**new, solver=solver).x, atol=1e-6)
    program.update(**{key: old[key] for key in ("c", "b", "h", "lb", "ub")}, P=old["P"], A=old["A"], G=old["G"])
    np.testing.assert_allclose(program.solve().x, first, atol=1e-6)


def test_update_may_fix_and_free_variables() -> None:
    program = random_program(2)
    kept = QuadraticProgram(**program)
    kept.solve()
    program["lb"] = program["lb"].copy()
    program["lb"][4] = program["ub"][4]
    kept.update(lb=program["lb"])
    assert_optimal(program, kept.solve())


def test_update_refuses_another_pattern_or_shape() -> None:
    program = random_program(0)
    kept = QuadraticProgram(**program)
    with pytest.raises(UsageError, match="pattern of A"):
        kept.update(A=np.eye(3, 12))
    with pytest.raises(UsageError, match="b has shape"):
        kept.update(b=np.zeros(2))


@pytest.mark.parametrize("solver", LP_SOLVERS)
def test_infeasible_and_unbounded_programs_raise_and_say_who_tried(solver: str) -> None:
    with pytest.raises(SolverError, match=f"{solver}: .*residuals primal"):
        solve_qp(None, np.ones(2), np.ones((2, 2)), np.array([1.0, 2.0]), lb=np.zeros(2), solver=solver)
    with pytest.raises(SolverError, match=solver):
        solve_qp(None, np.array([-1.0, 0.0]), np.array([[1.0, -1.0]]), np.zeros(1), lb=np.zeros(2), solver=solver)


def _wrong(answer: Any) -> Any:
    """The answer of a solver that claims success and is off by a little."""
    status, solved, iterations, x, *multipliers = answer
    return (status, solved, iterations, x + 1e-3, *multipliers)


def test_fallback_is_named_logged_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = random_program(0)
    ask = QuadraticProgram._ask_piqp
    monkeypatch.setattr(QuadraticProgram, "_ask_piqp", lambda *args: _wrong(ask(*args)))
    with caplog.at_level(logging.WARNING, logger=solve.__name__):
        found = solve_qp(**program)
    assert_optimal(program, found)
    assert found.solver == "clarabel"
    assert len(found.fallbacks) == 1
    assert "piqp: solved, residuals primal" in found.fallbacks[0]
    assert found.fallbacks[0] in caplog.text


def test_an_inaccurate_answer_is_never_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    clarabel = solve._clarabel
    monkeypatch.setattr(solve, "_clarabel", lambda *args: _wrong(clarabel(*args)))
    with pytest.raises(SolverError, match="clarabel: solved, residuals primal"):
        solve_qp(**random_program(0), solver="clarabel")


def test_each_residual_counts() -> None:
    assert Residuals(1e-8, 1e-8, 1e-8).within(1e-7)
    for bad in (1.0, np.nan):
        for place in range(3):
            assert not Residuals(*np.where(np.arange(3) == place, bad, 0.0)).within(1e-7)


def test_residuals_see_wrong_multipliers(monkeypatch: pytest.MonkeyPatch) -> None:
    program, clarabel = random_program(0), solve._clarabel
    for place in range(4, 8):  # y, z, z_lower, z_upper

        def wrong(*args: Any, place: int = place) -> Any:
            answer: list[Any] = list(clarabel(*args))
            answer[place] = answer[place] + 1e-3
            return tuple(answer)

        monkeypatch.setattr(solve, "_clarabel", wrong)
        with pytest.raises(SolverError, match="clarabel: solved, residuals"):
            solve_qp(**program, solver="clarabel")


def test_a_status_that_is_not_optimal_is_never_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = QuadraticProgram._ask_piqp
    monkeypatch.setattr(QuadraticProgram, "_ask_piqp", lambda *args: ("max_iter_reached", False, *ask(*args)[2:]))
    assert solve_qp(**random_program(0)).solver == "clarabel"


def test_unusable_programs_are_refused() -> None:
    with pytest.raises(UsageError, match="'cplex' is not known"):
        solve_qp(None, np.ones(2), solver="cplex")
    with pytest.raises(UsageError, match="shape"):
        solve_qp(np.eye(3), np.ones(2))
    with pytest.raises(UsageError, match="lb has shape"):
        solve_qp(np.eye(2), np.ones(2), lb=np.zeros(3))
    with pytest.raises(UsageError, match="linear programs"):
        solve_qp(np.eye(2), np.ones(2), solver="highs")


def test_ecos_refuses_a_matrix_that_is_not_diagonal() -> None:
    with pytest.raises(UsageError, match="diagonal"):
        solve_qp(np.array([[2.0, 1.0], [1.0, 2.0]]), np.ones(2), solver="ecos")


def test_a_matrix_that_is_not_diagonal() -> None:
    P = np.array([[2.0, 1.0], [1.0, 2.0]])
    for solver in ("piqp", "clarabel"):
        np.testing.assert_allclose(solve_qp(P, np.array([-3.0, -3.0]), solver=solver).x, [1.0, 1.0], atol=1e-7)
