"""One layer over the solvers: convex quadratic programs in, checked solutions out.

    minimise    1/2 x'Px + c'x
    subject to  Ax = b,  Gx <= h,  lb <= x <= ub

PIQP (a proximal interior-point method for sparse problems) solves by default. When it fails, Clarabel is asked, the
failure is logged and named in the solution: never silent. HiGHS takes linear programs, ECOS programs with a diagonal P,
and those with a curved cost to a tolerance of 1e-5 only (a cone knows x to the root of its own).
Whatever a solver says about itself, the residuals of its answer are computed here, and an answer outside the tolerance
raises. Every solver runs on one thread: policies run in parallel by days, not inside a solve.

The residuals are maximum norms, scaled so that they do not depend on the units of the problem:

    primal = max(|Ax - b|, (Gx - h)+, (lb - x)+, (x - ub)+)          / (1 + max(|x|, |b|))
    dual   = max(|Px + c + A'y + G'z - z_lower + z_upper|, (-z)+)    / (1 + max(|c|, |Px|))
    gap    = |x'Px + c'x + b'y + h'z - lb'z_lower + ub'z_upper|      / (1 + sum |c x| + 1/2 x'Px)

Primal and dual feasible points with no gap are optimal: complementarity needs no check of its own.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import piqp
import scipy.sparse as sp

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.errors import UsageError

SOLVERS = ("piqp", "clarabel", "highs", "ecos")
DEFAULT_TOLERANCE = 1e-7
"""Largest scaled residual that is accepted."""

_log = logging.getLogger(__name__)
_Raw = tuple[str, bool, int, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]
"""status, solved, iterations, x, y, z, z_lower, z_upper."""


class SolverError(RuntimeError):
    """No solver reached an optimum within tolerance. The message names solvers, status and residuals."""


@dataclass(frozen=True)
class Residuals:
    """Scaled residuals of an answer (definition: module)."""

    primal: float
    dual: float
    gap: float

    def __str__(self) -> str:
        return f"primal {self.primal:.1e}, dual {self.dual:.1e}, gap {self.gap:.1e}"

    def within(self, tolerance: float) -> bool:
        """Whether all three are at most `tolerance`; NaN never is."""
        return self.primal <= tolerance and self.dual <= tolerance and self.gap <= tolerance


@dataclass(frozen=True, eq=False)
class Solution:
    """An optimum and its multipliers. Stationarity: Px + c + A'y + G'z - z_lower + z_upper = 0; all z >= 0."""

    x: FloatArray
    y: FloatArray
    """Multipliers of Ax = b."""
    z: FloatArray
    """Multipliers of Gx <= h."""
    z_lower: FloatArray
    z_upper: FloatArray
    objective: float
    dual_objective: float
    """Bound on the optimum from the multipliers, up to the dual residual."""
    residuals: Residuals
    solver: str
    """Who solved it in the end."""
    status: str
    iterations: int
    fallbacks: tuple[str, ...]
    """Why solvers asked before failed, one line each; empty when the first one solved it."""
    solve_s: float


class QuadraticProgram:
    """A program whose structure is set up once and whose numbers may change between solves.

    Sparsity patterns of P, A and G stay; `update` replaces values. Variables whose two bounds coincide are substituted
    out before the solver sees them (an interior-point method needs an interior), and get their value back.

    Raises `UsageError` for an unknown solver or shapes that disagree, `SolverError` from `solve`.
    """

    def __init__(
        self,
        P: Any,
        c: FloatArray,
        A: Any = None,
        b: FloatArray | None = None,
        G: Any = None,
        h: FloatArray | None = None,
        lb: FloatArray | None = None,
        ub: FloatArray | None = None,
        *,
        solver: str = "piqp",
        tolerance: float = DEFAULT_TOLERANCE,
    ) -> None:
        if solver not in SOLVERS:
            raise UsageError(f"solver {solver!r} is not known; choose one of: {', '.join(SOLVERS)}")
        size = np.size(c)
        self.solver = solver
        self.tolerance = tolerance
        self.P = _matrix(P, size, size)
        self.A = _matrix(A, np.size(b) if b is not None else 0, size)
        self.G = _matrix(G, np.size(h) if h is not None else 0, size)
        self.c = np.array(c, dtype=np.float64)
        self.b = np.zeros(0) if b is None else np.array(b, dtype=np.float64)
        self.h = np.zeros(0) if h is None else np.array(h, dtype=np.float64)
        self.lb = np.full(size, -np.inf) if lb is None else np.array(lb, dtype=np.float64)
        self.ub = np.full(size, np.inf) if ub is None else np.array(ub, dtype=np.float64)
        for name, values, length in (("lb", self.lb, size), ("ub", self.ub, size)):
            if values.shape != (length,):
                raise UsageError(f"quadratic program: {name} has shape {values.shape}, expected ({length},)")
        self._piqp: piqp.SparseSolver | None = None
        self._piqp_free = np.zeros(0, dtype=np.bool_)

    def update(
        self,
        *,
        P: Any = None,
        c: FloatArray | None = None,
        A: Any = None,
        b: FloatArray | None = None,
        G: Any = None,
        h: FloatArray | None = None,
        lb: FloatArray | None = None,
        ub: FloatArray | None = None,
    ) -> None:
        """Replace numbers. Raises `UsageError` when a shape or a sparsity pattern differs from the first one."""
        for name, matrix in (("P", P), ("A", A), ("G", G)):
            if matrix is not None:
                old = getattr(self, name)
                new = _matrix(matrix, *old.shape)
                if not (np.array_equal(new.indptr, old.indptr) and np.array_equal(new.indices, old.indices)):
                    raise UsageError(f"quadratic program: the sparsity pattern of {name} has changed; build a new one")
                setattr(self, name, new)
        for name, vector in (("c", c), ("b", b), ("h", h), ("lb", lb), ("ub", ub)):
            if vector is not None:
                new_vector = np.array(vector, dtype=np.float64)
                if new_vector.shape != getattr(self, name).shape:
                    raise UsageError(
                        f"quadratic program: {name} has shape {new_vector.shape}, expected {getattr(self, name).shape}"
                    )
                setattr(self, name, new_vector)

    def solve(self) -> Solution:
        """The optimum. Raises `SolverError` naming solver, status and residuals when none is reached."""
        start = time.perf_counter()
        failures: list[str] = []
        for solver in (self.solver, "clarabel") if self.solver == "piqp" else (self.solver,):
            status, solved, iterations, x, y, z, z_lower, z_upper = self._ask(solver)
            residuals, objective, dual_objective = self._check(x, y, z, z_lower, z_upper)
            if solved and residuals.within(self.tolerance):
                return Solution(
                    x, y, z, z_lower, z_upper, objective, dual_objective, residuals, solver, status, iterations,
                    tuple(failures), time.perf_counter() - start,
                )  # fmt: skip
            failures.append(f"{solver}: {status}, residuals {residuals}")
            _log.warning("%s; tolerance %.0e", failures[-1], self.tolerance)
        raise SolverError(f"no optimum within tolerance {self.tolerance:.0e}: {'; '.join(failures)}")

    def _ask(self, solver: str) -> _Raw:
        """What one solver answers to the program without its fixed variables, put back into full length."""
        free = self.ub > self.lb
        if free.all():
            P, A, G, c, b, h = self.P, self.A, self.G, self.c, self.b, self.h
        else:
            fixed_x = np.where(free, 0.0, self.lb)
            P, A, G = self.P[free][:, free], self.A[:, free], self.G[:, free]
            c, b, h = (self.c + self.P @ fixed_x)[free], self.b - self.A @ fixed_x, self.h - self.G @ fixed_x
        lb, ub = self.lb[free], self.ub[free]
        eps = 0.1 * self.tolerance
        if solver == "piqp":
            raw = self._ask_piqp(free, P, c, A, b, G, h, lb, ub, eps)
        else:
            raw = {"clarabel": _clarabel, "highs": _highs, "ecos": _ecos}[solver](P, c, A, b, G, h, lb, ub, eps)
        if free.all():
            return raw
        status, solved, iterations, x_free, y, z, z_lower_free, z_upper_free = raw
        x, z_lower, z_upper = self.lb.copy(), np.zeros(free.size), np.zeros(free.size)
        x[free], z_lower[free], z_upper[free] = x_free, z_lower_free, z_upper_free
        slope = self.P @ x + self.c + self.A.T @ y + self.G.T @ z
        z_lower[~free], z_upper[~free] = np.maximum(slope, 0.0)[~free], np.maximum(-slope, 0.0)[~free]
        return status, solved, iterations, x, y, z, z_lower, z_upper

    def _ask_piqp(
        self, free: BoolArray, P: Any, c: FloatArray, A: Any, b: FloatArray, G: Any, h: FloatArray,
        lb: FloatArray, ub: FloatArray, eps: float,
    ) -> _Raw:  # fmt: skip
        if self._piqp is None or not np.array_equal(free, self._piqp_free):
            self._piqp = piqp.SparseSolver()
            self._piqp_free = free
            settings = self._piqp.settings
            # Inequalities condensed into the Hessian: a third faster here than the full KKT system.
            settings.kkt_solver = piqp.sparse_ldlt_ineq_cond
            settings.eps_abs = settings.eps_duality_gap_abs = eps
            settings.eps_rel = 0.1 * eps
            # PIQP measures its gap against terms that cancel in the objective, often a thousand times larger.
            settings.eps_duality_gap_rel = 0.01 * eps
            # One step of refinement on every linear system: without it, a real-time problem of the evening in six
            # failed; with it none of hundreds did, in fewer iterations.
            settings.iterative_refinement_always_enabled = True
            settings.iterative_refinement_max_iter = 1
            settings.max_iter = 100
            self._piqp.setup(P, c, A, b, G, None, h, lb, ub)
        else:
            self._piqp.update(P, c, A, b, G, None, h, lb, ub)
        status = self._piqp.solve()
        result = self._piqp.result
        return (
            status.name.removeprefix("PIQP_").lower(), status == piqp.PIQP_SOLVED, result.info.iter,
            *(np.array(values) for values in (result.x, result.y, result.z_u, result.z_bl, result.z_bu)),
        )  # fmt: skip

    def _check(
        self, x: FloatArray, y: FloatArray, z: FloatArray, z_lower: FloatArray, z_upper: FloatArray
    ) -> tuple[Residuals, float, float]:
        """Residuals, objective and dual objective of an answer, whoever gave it."""
        Px = self.P @ x
        quadratic = float(x @ Px)
        objective = 0.5 * quadratic + float(self.c @ x)
        primal = max(
            _largest(np.abs(self.A @ x - self.b)), _largest(self.G @ x - self.h), _largest(self.lb - x),
            _largest(x - self.ub),
        )  # fmt: skip
        slope = Px + self.c + self.A.T @ y + self.G.T @ z - z_lower + z_upper
        dual = max(_largest(np.abs(slope)), *(_largest(-values) for values in (z, z_lower, z_upper)))
        # Infinite bounds have no multiplier: their product is 0, not NaN.
        dual_objective = (
            -0.5 * quadratic - float(self.b @ y) - _finite_product(self.h, z) + _finite_product(self.lb, z_lower)
            - _finite_product(self.ub, z_upper)
        )  # fmt: skip
        gap = abs(objective - dual_objective)
        return (
            Residuals(
                primal / (1.0 + max(_largest(np.abs(x)), _largest(np.abs(self.b)))),
                dual / (1.0 + max(_largest(np.abs(self.c)), _largest(np.abs(Px)))),
                gap / (1.0 + float(np.abs(self.c) @ np.abs(x)) + 0.5 * quadratic),
            ),
            objective,
            dual_objective,
        )


def solve_qp(
    P: Any,
    c: FloatArray,
    A: Any = None,
    b: FloatArray | None = None,
    G: Any = None,
    h: FloatArray | None = None,
    lb: FloatArray | None = None,
    ub: FloatArray | None = None,
    *,
    solver: str = "piqp",
    tolerance: float = DEFAULT_TOLERANCE,
) -> Solution:
    """Minimise 1/2 x'Px + c'x subject to Ax = b, Gx <= h, lb <= x <= ub; `None` leaves a part out.

    P is symmetric and positive semidefinite; matrices dense or sparse. Raises `SolverError` when no solver reaches
    the tolerance (scaled residuals, see module), `UsageError` for an unknown solver or disagreeing shapes.
    """
    return QuadraticProgram(P, c, A, b, G, h, lb, ub, solver=solver, tolerance=tolerance).solve()


def _matrix(matrix: Any, rows: int, columns: int) -> Any:
    """`matrix` as a float64 CSC matrix with sorted indices; `None` is all zeros."""
    if matrix is None:
        return sp.csc_matrix((rows, columns))
    csc = sp.csc_matrix(matrix, dtype=np.float64)
    if csc.shape != (rows, columns):
        raise UsageError(f"quadratic program: a matrix has shape {csc.shape}, expected {(rows, columns)}")
    csc.sort_indices()
    return csc


def _largest(values: FloatArray) -> float:
    """Largest entry, at least 0; NaN stays NaN."""
    return float(np.maximum(values.max(), 0.0)) if values.size else 0.0


def _finite_product(bound: FloatArray, multiplier: FloatArray) -> float:
    finite = np.isfinite(bound)
    return float(bound[finite] @ multiplier[finite])


def _bound_rows(lb: FloatArray, ub: FloatArray) -> tuple[Any, FloatArray, BoolArray, BoolArray]:
    """Finite bounds as rows of Gx <= h, for solvers that know no bounds; lower ones first."""
    has_lower, has_upper = np.isfinite(lb), np.isfinite(ub)
    identity = sp.identity(lb.size, format="csr")
    rows = sp.vstack([-identity[has_lower], identity[has_upper]], format="csc")
    return rows, np.concatenate([-lb[has_lower], ub[has_upper]]), has_lower, has_upper


def _clarabel(
    P: Any, c: FloatArray, A: Any, b: FloatArray, G: Any, h: FloatArray, lb: FloatArray, ub: FloatArray, eps: float
) -> _Raw:
    import clarabel

    bound_rows, bound_rhs, has_lower, has_upper = _bound_rows(lb, ub)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = eps
    finite = np.isfinite(h)
    cones = [clarabel.ZeroConeT(b.size), clarabel.NonnegativeConeT(int(finite.sum()) + bound_rhs.size)]
    rows = sp.vstack([A, G[finite], bound_rows], format="csc")
    answer = clarabel.DefaultSolver(
        sp.triu(P, format="csc"), c, rows, np.concatenate([b, h[finite], bound_rhs]), cones, settings
    ).solve()
    multipliers = np.array(answer.z)
    return (
        str(answer.status).lower(), answer.status == clarabel.SolverStatus.Solved, answer.iterations,
        np.array(answer.x), multipliers[: b.size],
        *_inequality_multipliers(multipliers[b.size :], finite, has_lower, has_upper),
    )  # fmt: skip


def _inequality_multipliers(
    multipliers: FloatArray, finite: BoolArray, has_lower: BoolArray, has_upper: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Multipliers of the stacked rows (finite rows of G, lower, upper bounds), each back at its place."""
    parts = np.split(multipliers, np.cumsum([int(finite.sum()), int(has_lower.sum())]))
    full = [np.zeros(mask.size) for mask in (finite, has_lower, has_upper)]
    for values, mask, part in zip(full, (finite, has_lower, has_upper), parts, strict=True):
        values[mask] = part
    return full[0], full[1], full[2]


def _highs(
    P: Any, c: FloatArray, A: Any, b: FloatArray, G: Any, h: FloatArray, lb: FloatArray, ub: FloatArray, eps: float
) -> _Raw:
    import highspy

    if P.nnz and np.any(P.data):
        raise UsageError("solver 'highs' takes linear programs here; use 'piqp' or 'clarabel' for a quadratic one")
    rows = sp.vstack([A, G], format="csc")
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = c.size, b.size + h.size
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = c, lb, ub
    lp.row_lower_ = np.concatenate([b, np.full(h.size, -np.inf)])
    lp.row_upper_ = np.concatenate([b, h])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = rows.indptr, rows.indices, rows.data
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    for option in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
        highs.setOptionValue(option, max(eps, 1e-10))  # HiGHS takes nothing smaller
    highs.passModel(lp)
    highs.run()
    status = highs.getModelStatus()
    solution = highs.getSolution()
    solved = status == highspy.HighsModelStatus.kOptimal
    if not solution.value_valid or not solution.dual_valid:
        nan = np.full(c.size, np.nan)
        return highs.modelStatusToString(status).lower(), False, 0, nan, np.zeros(b.size), np.zeros(h.size), nan, nan
    row_dual, column_dual = -np.array(solution.row_dual), np.array(solution.col_dual)
    return (
        highs.modelStatusToString(status).lower(), solved, highs.getInfo().simplex_iteration_count,
        np.array(solution.col_value), row_dual[: b.size], row_dual[b.size :],
        np.where(np.isfinite(lb), np.maximum(column_dual, 0.0), 0.0),
        np.where(np.isfinite(ub), np.maximum(-column_dual, 0.0), 0.0),
    )  # fmt: skip


def _ecos(
    P: Any, c: FloatArray, A: Any, b: FloatArray, G: Any, h: FloatArray, lb: FloatArray, ub: FloatArray, eps: float
) -> _Raw:
    try:
        import ecos
    except ImportError as error:
        raise UsageError("solver 'ecos' is not installed (it has no wheel for Python 3.13); use 'clarabel'") from error

    diagonal = P.diagonal()
    if P.nnz != np.count_nonzero(diagonal) and abs(P - sp.diags(diagonal)).sum() > 0:
        raise UsageError("solver 'ecos' takes programs with a diagonal P; use 'piqp' or 'clarabel'")
    # 1/2 x'Px <= t as a cone: |(sqrt(2 P) x, t - 1)| <= t + 1, with t as one variable more.
    bound_rows, bound_rhs, has_lower, has_upper = _bound_rows(lb, ub)
    finite = np.isfinite(h)
    curved = np.flatnonzero(diagonal)
    root = sp.csr_matrix(
        (np.sqrt(2.0 * diagonal[curved]), (np.arange(curved.size), curved)), shape=(curved.size, c.size)
    )
    linear = sp.vstack([G[finite], bound_rows], format="csr")
    cone_t = sp.csr_matrix(np.concatenate([[-1.0, -1.0], np.zeros(curved.size)])[:, np.newaxis])
    rows = sp.vstack(
        [
            sp.hstack([linear, sp.csr_matrix((linear.shape[0], 1))]),
            sp.hstack([sp.vstack([sp.csr_matrix((2, c.size)), -root]), cone_t]),
        ],
        format="csc",
    )
    rhs = np.concatenate([h[finite], bound_rhs, [1.0, -1.0], np.zeros(curved.size)])
    equalities = (sp.hstack([A, sp.csr_matrix((b.size, 1))], format="csc"), b) if b.size else (None, None)
    answer = ecos.solve(
        np.append(c, 1.0), rows, rhs, {"l": linear.shape[0], "q": [curved.size + 2]}, *equalities,
        verbose=False, feastol=eps, abstol=0.01 * eps, reltol=0.01 * eps, max_iters=200,
    )  # fmt: skip
    return (
        answer["info"]["infostring"].lower(), answer["info"]["exitFlag"] == 0, answer["info"]["iter"],
        answer["x"][:-1], answer["y"] if b.size else np.zeros(0),
        *_inequality_multipliers(answer["z"][: linear.shape[0]], finite, has_lower, has_upper),
    )  # fmt: skip
