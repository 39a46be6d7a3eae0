"""A quadratic program that is solved hundreds of times while only its linear cost changes.

    minimise    1/2 x'Px + c'x
    subject to  Ax = b,  Gx <= h,  lb <= x <= ub        P diagonal, c new in every solve

That is what a prosumer does in distributed optimization: its neighbours' figures move its linear cost a little, and it
plans again. A primal-dual interior-point method (predictor and corrector after Mehrotra, SIAM J. Optim. 2(4), 1992),
compiled, with two things that a general solver does not do:

- Structure once: order, fill and memory of the factorisation are settled when the program is set up.
- Warm start: the points that a solve passes on its way, where the products of slack and multiplier are about equal, are
  kept, and the next solve starts from one of them (after Gondzio, Math. Program. 83, 1998: an optimum itself is too
  near the edge to start from).

Every Newton system is reduced to x and the multipliers of Ax = b, and factorised as LDL' in `interior_point_kernel`.

No BLAS, no threads, no lock on the interpreter: programs may be solved on as many threads as there are programs, and
the answer is the same. Residuals as defined in `solve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.baselines.interior_point_kernel import Point, Program, Rows, Scratch, descend, fill_of
from prosumer_gym.baselines.solve import Residuals, SolverError


@dataclass(frozen=True, eq=False)
class Optimum:
    """An answer whose residuals are within tolerance."""

    x: FloatArray
    objective: float
    dual_objective: float
    """Bound on the optimum from the multipliers, up to the dual residual."""
    iterations: int
    residuals: Residuals


class InteriorPoint:
    """A quadratic program with a diagonal P `[x]`, set up once and solved for many linear costs.

    Variables whose bounds coincide are taken out: an interior-point method needs an interior.
    """

    def __init__(
        self, P: FloatArray, A: Any, b: FloatArray, G: Any, h: FloatArray, lb: FloatArray, ub: FloatArray,
        *, tolerance: float, max_iterations: int = 80,
    ) -> None:  # fmt: skip
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self._kept = ub > lb
        self._fixed_x, self._fixed_P = np.where(self._kept, 0.0, lb), P
        b, h = b - A @ self._fixed_x, h - G @ self._fixed_x
        kept = self._kept
        self._program = _program(P[kept], sp.csr_matrix(A)[:, kept], b, sp.csr_matrix(G)[:, kept], h, lb[kept], ub[kept])
        self._scratch = Scratch.of(self._program)
        self._path: list[Point] = []
        self._gaps: list[float] = []
        self._last_cost = np.zeros(0)

    def solve(self, c: FloatArray) -> Optimum:
        """The optimum for the linear cost `c` [x]. Raises `SolverError` with the residuals when it is not reached."""
        linear = c[self._kept]
        constant = float(c @ self._fixed_x + 0.5 * self._fixed_P @ self._fixed_x**2)
        warm = self._warm_point(linear)
        for point in [warm, _cold_point(self._program, linear)] if warm else [_cold_point(self._program, linear)]:
            found = self._descend(linear, point)
            if found is not None:
                iterations, residuals, objective, dual_objective, x = found
                full = self._fixed_x.copy()
                full[self._kept] = x
                return Optimum(full, objective + constant, dual_objective + constant, iterations, residuals)
        raise SolverError("interior point: no optimum")

    def _descend(self, c, point):
        report = np.zeros(5)
        program = self._program
        kept = Point(*(np.empty_like(part) for part in point))
        iterations = descend(program, c, point, self._scratch, kept, self.WARM, self.tolerance, self.max_iterations, report)
        if iterations < 0:
            return None
        self._path = [kept]
        return iterations, Residuals(*report[:3]), report[3], report[4], point.x.copy()

    WARM = 1e-2

    def _warm_point(self, c):
        if not self._path:
            return None
        return Point(*(part.copy() for part in self._path[0]))


def _cold_point(program: Program, c: FloatArray) -> Point:
    lower, upper = np.full(program.P.size, -np.inf), np.full(program.P.size, np.inf)
    lower[program.lower_of], upper[program.upper_of] = program.lower, program.upper
    both = np.isfinite(lower) & np.isfinite(upper)
    x = np.zeros(program.P.size)
    x[both] = 0.5 * (lower[both] + upper[both])
    only = np.isfinite(lower) & ~both
    x[only] = lower[only] + 1.0
    only = np.isfinite(upper) & ~both
    x[only] = upper[only] - 1.0
    price = max(1.0, float(np.mean(np.abs(c))))
    G = sp.csr_matrix((program.G.value, program.G.column, program.G.start), shape=(program.h.size, x.size))
    slack = np.maximum(program.h - G @ x, 1.0)
    return Point(
        x, np.zeros(program.b.size), slack, np.full(slack.size, price),
        x[program.lower_of] - program.lower, np.full(program.lower.size, price),
        program.upper - x[program.upper_of], np.full(program.upper.size, price),
    )  # fmt: skip


def _program(P, A, b, G, h, lb, ub) -> Program:
    """Order and patterns."""
    num, num_rows = P.size, b.size
    A, G = sp.csr_matrix(A), sp.csr_matrix(G)
    A.sort_indices(), G.sort_indices()
    bounded = np.isfinite(lb) | np.isfinite(ub) | (P > 0)
    standing = np.asarray((abs(A) @ bounded) > 0)
    # Newton system: pattern
    gram = sp.csr_matrix(abs(G).T @ abs(G))
    pattern = sp.bmat([[gram, A.T], [A, None]], format="csc")
    pattern = sp.csc_matrix((np.ones(pattern.nnz), pattern.indices, pattern.indptr), shape=pattern.shape)
    first = np.concatenate([bounded, standing])
    order = np.concatenate([
        _least_fill(pattern, np.flatnonzero(first)),
        _by_degree(pattern, num, np.flatnonzero(~first)),
    ])
    place = np.empty(num + num_rows, dtype=np.int64)
    place[order] = np.arange(order.size)
    # upper triangle in the new order
    size = num + num_rows
    rows_G = np.repeat(np.arange(h.size), np.diff(G.indptr))
    # pairs of G
    gi, gj, gr, gv = [], [], [], []
    counts = np.diff(G.indptr)
    for count in np.unique(counts):
        which = np.flatnonzero(counts == count)
        at = G.indptr[which][:, None] + np.arange(count)
        cols, vals = G.indices[at], G.data[at]
        for p in range(count):
            for q in range(p, count):
                gi.append(cols[:, p]); gj.append(cols[:, q]); gr.append(which); gv.append(vals[:, p] * vals[:, q])
    cat = lambda parts, t: np.concatenate(parts).astype(t) if parts else np.zeros(0, t)
    gi, gj, gr, gv = cat(gi, np.int64), cat(gj, np.int64), cat(gr, np.int64), cat(gv, np.float64)
    Ac = A.tocoo()
    diag = np.arange(size)
    r = np.concatenate([place[diag], place[num + Ac.row], place[gi]])
    k = np.concatenate([place[diag], place[Ac.col], place[gj]])
    r, k = np.minimum(r, k), np.maximum(r, k)
    key = k * size + r
    unique, inverse = np.unique(key, return_inverse=True)
    column_row = unique % size
    column_start = np.searchsorted(unique // size, np.arange(size + 1))
    constant = np.zeros(unique.size)
    np.add.at(constant, inverse[size : size + Ac.nnz], Ac.data)
    factor_start, factor_row, row_start, row_column = fill_of(column_start, column_row)
    low, up = np.flatnonzero(np.isfinite(lb)), np.flatnonzero(np.isfinite(ub))
    i64 = lambda a: np.ascontiguousarray(a, dtype=np.int64)
    return Program(
        np.array(P), Rows(i64(A.indptr), i64(A.indices), A.data), np.array(b), Rows(i64(G.indptr), i64(G.indices), G.data), np.array(h),
        low, lb[low], up, ub[up], place, i64(column_start), i64(column_row), constant, i64(inverse[:size]),
        i64(inverse[size + Ac.nnz :]), gr, gv, factor_start, factor_row, row_start, row_column,
    )


def _least_fill(pattern, which):
    part = pattern[which][:, which]
    n = which.size
    part = part - sp.diags(part.diagonal()) + sp.diags(np.full(n, 1e6))
    lu = splu(sp.csc_matrix(part), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    order = np.empty(n, dtype=np.int64)
    order[lu.perm_c] = np.arange(n)
    return which[order]


def _by_degree(pattern, num, which):
    degree = np.diff(pattern.indptr)[which]
    is_row = which >= num
    return which[np.lexsort((degree, is_row))]
