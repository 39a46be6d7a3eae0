"""A quadratic program that is solved hundreds of times while only its linear cost changes.

    minimise    1/2 x'Px + c'x
    subject to  Ax = b,  Gx <= h,  lb <= x <= ub        P diagonal, c new in every solve

That is what a prosumer does in distributed optimization: its neighbours' figures move its linear cost a little, and it
plans again. A primal-dual interior-point method (predictor and corrector after Mehrotra, SIAM J. Optim. 2(4), 1992),
compiled (`interior_point_kernel`), with two things that a general solver does not do:

- Structure once: order, fill and memory of the factorisation are settled when the program is set up.
- Warm start: points that a solve passes on its way, well inside, are kept, and the next solve starts from one of them
  (after Gondzio, Math. Program. 83, 1998: an optimum itself is too near the edge to start from); which one depends on
  how far the linear cost has moved since.

No BLAS, no threads of its own, no lock on the interpreter: programs may be solved on as many threads as there are
programs, and the answer is the same.

Axis letters: x variables, a rows of A, g rows of G.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.interior_point_kernel import Point, Program, Rows, Scratch, descend, fill_of
from prosumer_gym.baselines.solve import Residuals, SolverError

_LEVELS: FloatArray = np.array([1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
"""Mean products of slack and multiplier, ct, at which points are kept for warm starts."""

_LEVEL_PER_CHANGE = 5e-3
"""A warm start has at least this product per ct that a linear cost has moved. Measured over the 1570 solves of a
community's day (S = 50): 0.1 takes 6.2 iterations a solve, 0.01 4.9, 0.003 and 0.001 4.3; from scratch it is 17."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """An answer and its residuals."""

    x: FloatArray
    objective: float
    dual_objective: float
    """Bound on the optimum from the multipliers, up to the dual residual."""
    residuals: Residuals
    """As `solve` defines them."""
    iterations: int


class InteriorPoint:
    """A quadratic program with a diagonal P `[x]`, set up once and solved for many linear costs.

    An answer has residuals within `tolerance` or, when rounding leads no further even from scratch, `acceptable`.
    Variables whose bounds coincide are taken out: an interior-point method needs an interior.
    """

    def __init__(
        self, P: FloatArray, A: Any, b: FloatArray, G: Any, h: FloatArray, lb: FloatArray, ub: FloatArray,
        *, tolerance: float, acceptable: float | None = None, max_iterations: int = 80,
    ) -> None:  # fmt: skip
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.acceptable = tolerance if acceptable is None else acceptable
        self._free = free = ub > lb
        self._fixed_x = np.where(free, 0.0, lb)
        self._fixed_cost = 0.5 * float(P @ self._fixed_x**2)
        self._program = _set_up(
            P[free], sp.csr_matrix(A)[:, free], b - A @ self._fixed_x, sp.csr_matrix(G)[:, free],
            h - G @ self._fixed_x, lb[free], ub[free],
        )  # fmt: skip
        self._lower, self._upper = lb[free], ub[free]
        self._scratch, self._point = Scratch.empty(self._program), Point.empty(self._program)
        self._kept = tuple(Point.empty(self._program) for _ in _LEVELS)
        self._kept_at: list[FloatArray | None] = [None] * _LEVELS.size
        """The linear costs of the solves that have passed them."""

    def solve(self, c: FloatArray) -> Optimum:
        """The optimum for the linear cost `c` [x]. Raises `SolverError` with the residuals when it is not reached."""
        linear = np.ascontiguousarray(c[self._free])
        iterations = 0
        for is_warm in (True, False):
            if is_warm and not self._warm_start(linear):
                continue
            if not is_warm:
                self._cold_start(linear)
            is_kept = np.zeros(_LEVELS.size, dtype=np.bool_)
            steps, report = descend(
                self._program, linear, self._point, self._scratch, _LEVELS, self._kept, is_kept, self.tolerance,
                self.max_iterations,
            )  # fmt: skip
            for level in np.flatnonzero(is_kept):
                self._kept_at[level] = linear
            residuals = Residuals(report.primal, report.dual, report.gap)
            if steps >= 0 or (not is_warm and residuals.within(self.acceptable)):
                iterations += steps if steps >= 0 else self.max_iterations
                x = self._fixed_x.copy()
                x[self._free] = self._point.x
                constant = float(c @ self._fixed_x) + self._fixed_cost
                return Optimum(
                    x, report.objective + constant, report.dual_objective + constant, residuals, iterations
                )  # fmt: skip
            iterations += self.max_iterations
        self._kept_at = [None] * _LEVELS.size
        raise SolverError(f"interior point: not solved within tolerance {self.tolerance:.0e}, residuals {residuals}")

    def _warm_start(self, c: FloatArray) -> bool:
        """Take the kept point nearest to the edge that is far enough from it, if there is one."""
        for level in range(_LEVELS.size - 1, -1, -1):
            kept_at = self._kept_at[level]
            if kept_at is not None and _LEVELS[level] >= _LEVEL_PER_CHANGE * np.max(np.abs(c - kept_at), initial=0.0):
                for mine, kept in zip(self._point, self._kept[level], strict=True):
                    mine[:] = kept
                return True
        return False

    def _cold_start(self, c: FloatArray) -> None:
        """A point in the middle, its multipliers of the size of the costs."""
        program, point = self._program, self._point
        lower, upper = self._lower, self._upper
        with np.errstate(invalid="ignore"):
            middle = 0.5 * (lower + upper)
        inside = np.where(np.isfinite(lower), lower + 1.0, np.where(np.isfinite(upper), upper - 1.0, 0.0))
        point.x[:] = np.where(np.isfinite(middle), middle, inside)
        point.y[:] = 0.0
        G = sp.csr_matrix(
            (program.G.value, program.G.column, program.G.start), shape=(program.G.start.size - 1, point.x.size)
        )
        room = program.limit - np.concatenate([G @ point.x, program.bound_sign * point.x[program.bound_of]])
        num_g = G.shape[0]
        point.slack[:num_g], point.slack[num_g:] = np.maximum(room[:num_g], 1.0), room[num_g:]
        point.z[:] = max(1.0, float(np.mean(np.abs(c))) if c.size else 1.0)


def _set_up(P: FloatArray, A: Any, b: FloatArray, G: Any, h: FloatArray, lb: FloatArray, ub: FloatArray) -> Program:
    """Order of the Newton system, where its entries come from, and the fill of its factor."""
    A.sort_indices()
    G.sort_indices()
    lower_of, upper_of = np.flatnonzero(np.isfinite(lb)), np.flatnonzero(np.isfinite(ub))
    num_x, size = P.size, P.size + b.size
    place = _places(P, A, G, np.isfinite(lb) | np.isfinite(ub))
    first, second, gram_of, gram_value = _gram(G)
    entries = A.tocoo()
    one, other = (
        np.concatenate(parts)
        for parts in (
            (place, place[num_x + entries.row], place[first]),
            (place, place[entries.col], place[second]),
        )
    )
    # One number for each entry of the upper triangle, ascending by columns.
    numbers, at = np.unique(np.maximum(one, other) * size + np.minimum(one, other), return_inverse=True)
    column_start = np.searchsorted(numbers // size if size else numbers, np.arange(size + 1))
    column_row = numbers % size if size else numbers
    constant = np.zeros(numbers.size)
    constant[at[size : size + entries.nnz]] = entries.data
    return Program(
        P=np.ascontiguousarray(P, dtype=np.float64),
        A=_rows(A),
        b=np.ascontiguousarray(b),
        G=_rows(G),
        bound_of=np.concatenate([lower_of, upper_of]),
        bound_sign=np.concatenate([np.full(lower_of.size, -1.0), np.ones(upper_of.size)]),
        limit=np.concatenate([h, -lb[lower_of], ub[upper_of]]),
        place=place,
        sign=np.where(np.argsort(place) < num_x, 1.0, -1.0),
        column_start=column_start,
        column_row=column_row,
        constant=constant,
        diagonal_at=np.ascontiguousarray(at[:size]),
        gram_at=np.ascontiguousarray(at[size + entries.nnz :]),
        gram_of=gram_of,
        gram_value=gram_value,
        **dict(zip(("factor_start", "factor_row", "row_start", "row_column"), fill_of(column_start, column_row),
                   strict=True)),
    )  # fmt: skip


def _rows(matrix: Any) -> Rows:
    return Rows(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data.astype(np.float64))


def _places(P: FloatArray, A: Any, G: Any, bounded: Any) -> IntArray:
    """Where variables and rows of A stand in the Newton system: each has a pivot that is not tiny when its turn comes.

    Variables with bounds or curvature have one by themselves, and rows that hold such a variable once these are gone:
    these two come first, in the order of least fill. Variables without have what G and those rows leave them; they
    come next, those with few entries first; the rows that hold no others come last.
    """
    stands = bounded | (P > 0)
    rests = np.asarray(abs(A) @ stands.astype(np.float64)).ravel() > 0
    pattern: Any = sp.bmat([[abs(G).T @ abs(G), abs(A).T], [abs(A), None]], format="csc")
    early = np.concatenate([stands, rests])
    late = np.flatnonzero(~early)
    is_row = late >= P.size
    order = np.concatenate(
        [
            _least_fill(pattern, np.flatnonzero(early)),
            late[np.lexsort((np.diff(sp.csc_matrix(pattern).indptr)[late], is_row))],
        ]
    )
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size)
    return place


def _least_fill(pattern: Any, which: IntArray) -> IntArray:
    """`which` in the order that SuperLU's minimum degree takes them."""
    if which.size == 0:
        return which
    part = pattern[which][:, which]
    part = part + sp.diags(1.0 + np.asarray(part.sum(axis=0)).ravel())  # its numbers must not make it swap rows
    order = np.empty(which.size, dtype=np.int64)
    order[
        splu(
            sp.csc_matrix(part), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        ).perm_c
    ] = np.arange(which.size)
    return which[order]


def _gram(G: Any) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Upper triangle of G'WG as a sum: two columns, the row of G, and the product of its entries there."""
    in_row = np.diff(G.indptr)
    parts: list[tuple[Any, ...]] = []
    for count in np.unique(in_row[in_row > 0]):
        rows = np.flatnonzero(in_row == count)
        at = G.indptr[rows][:, None] + np.arange(count)
        one, other = np.triu_indices(count)
        parts.append((
            G.indices[at][:, one].ravel(), G.indices[at][:, other].ravel(), np.repeat(rows, one.size),
            (G.data[at][:, one] * G.data[at][:, other]).ravel(),
        ))  # fmt: skip
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none, np.zeros(0)
    first, second, rows, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return first, second, rows.astype(np.int64), np.asarray(values, dtype=np.float64)


def compile_kernels() -> None:
    """Compile what a solve needs, or read it from the cache: seconds that the first plan is not to take."""
    InteriorPoint(
        np.ones(2), sp.csr_matrix(np.ones((1, 2))), np.ones(1), sp.csr_matrix(np.eye(2)), np.ones(2), np.zeros(2),
        np.full(2, np.inf), tolerance=1e-8,
    ).solve(np.ones(2))  # fmt: skip
