"""One step of the interior-point method of `interior_point`, compiled."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.compiled import compiled

_REGULARISATION = 1e-9
"""On the diagonal of the Newton system, so that it can be factorised; refinement takes its effect back."""


class Rows(NamedTuple):
    """A matrix row by row."""

    start: IntArray
    column: IntArray
    value: FloatArray


class Program(NamedTuple):
    """What stays: the program's numbers and how its Newton system is put together."""

    P: FloatArray
    A: Rows
    b: FloatArray
    G: Rows
    h: FloatArray
    lower_of: IntArray
    """Variables with a lower bound, and the bounds."""
    lower: FloatArray
    upper_of: IntArray
    upper: FloatArray
    place: IntArray
    """Where variables, then rows of A, stand in the Newton system [x+a]."""
    column_start: IntArray
    """Upper triangle of the Newton system by columns, in that order."""
    column_row: IntArray
    constant: FloatArray
    """Its entries that do not change: those of A."""
    diagonal_at: IntArray
    """Where its diagonal is [x+a]."""
    gram_at: IntArray
    """G'WG is the sum over these of W[gram_of] gram_value, each added at gram_at."""
    gram_of: IntArray
    gram_value: FloatArray
    factor_start: IntArray
    """L by columns: starts and rows; and by rows, the columns in which they have an entry."""
    factor_row: IntArray
    row_start: IntArray
    row_column: IntArray


class Point(NamedTuple):
    """Variables, slacks and multipliers; all of the latter positive but y."""

    x: FloatArray
    y: FloatArray
    """Multipliers of Ax = b."""
    slack: FloatArray
    z: FloatArray
    """Slacks and multipliers of Gx <= h."""
    above: FloatArray
    z_lower: FloatArray
    """x - lb and multipliers, where there is a bound."""
    below: FloatArray
    z_upper: FloatArray
    """ub - x and multipliers."""


class Scratch(NamedTuple):
    """Memory of a step."""

    r_dual: FloatArray
    r_primal: FloatArray
    r_below: FloatArray
    weight: FloatArray
    hessian: FloatArray
    entries: FloatArray
    factor: FloatArray
    inverse: FloatArray
    work: FloatArray
    filled: IntArray
    rhs: FloatArray
    solution: FloatArray
    residual: FloatArray
    step: Point
    target: Point
    """Of the complementarity products: only slack, above and below are used."""
    gx: FloatArray

    @classmethod
    def of(cls, program: Program) -> Self:
        num, a, g, lo, up = (v.size for v in (program.P, program.b, program.h, program.lower, program.upper))
        size = num + a

        def point() -> Point:
            return Point(*(np.zeros(k) for k in (num, a, g, g, lo, lo, up, up)))

        return cls(
            np.zeros(num), np.zeros(a), np.zeros(g), np.zeros(g), np.zeros(num), np.zeros(program.column_row.size),
            np.zeros(program.factor_row.size), np.zeros(size), np.zeros(size), np.zeros(size, dtype=np.int64),
            np.zeros(size), np.zeros(size), np.zeros(size), point(), point(), np.zeros(g),
        )


@compiled
def fill_of(column_start: IntArray, column_row: IntArray):
    """Pattern of L: by columns (start, rows) and by rows (start, columns, ascending)."""
    size = column_start.size - 1
    parent = np.full(size, -1)
    mark = np.full(size, -1)
    count = np.zeros(size, dtype=np.int64)
    row_count = np.zeros(size, dtype=np.int64)
    for k in range(size):
        mark[k] = k
        for p in range(column_start[k], column_start[k + 1]):
            j = column_row[p]
            while j != k and mark[j] != k:
                if parent[j] == -1:
                    parent[j] = k
                count[j] += 1
                row_count[k] += 1
                mark[j] = k
                j = parent[j]
    factor_start, row_start = np.zeros(size + 1, dtype=np.int64), np.zeros(size + 1, dtype=np.int64)
    for k in range(size):
        factor_start[k + 1] = factor_start[k] + count[k]
        row_start[k + 1] = row_start[k] + row_count[k]
    factor_row, row_column = np.empty(factor_start[size], dtype=np.int64), np.empty(row_start[size], dtype=np.int64)
    mark[:] = -1
    count[:] = 0
    for k in range(size):
        mark[k] = k
        found = row_start[k]
        for p in range(column_start[k], column_start[k + 1]):
            j = column_row[p]
            while j != k and mark[j] != k:
                row_column[found] = j
                found += 1
                mark[j] = k
                j = parent[j]
        row_column[row_start[k] : found].sort()
        for q in range(row_start[k], found):
            j = row_column[q]
            factor_row[factor_start[j] + count[j]] = k
            count[j] += 1
    return factor_start, factor_row, row_start, row_column


@compiled
def _largest(values):
    found = 0.0
    for i in range(values.size):
        v = abs(values[i])
        if not v <= found:
            found = v
    return found


@compiled
def _add_product(rows, x, out):
    for i in range(rows.start.size - 1):
        total = 0.0
        for p in range(rows.start[i], rows.start[i + 1]):
            total += rows.value[p] * x[rows.column[p]]
        out[i] += total


@compiled
def _add_transposed(rows, y, out):
    for i in range(rows.start.size - 1):
        v = y[i]
        for p in range(rows.start[i], rows.start[i + 1]):
            out[rows.column[p]] += rows.value[p] * v


@compiled
def measure(program, c, point, scratch):
    """Residuals (scaled), mean product, objectives; leaves the unscaled residuals in scratch."""
    x = point.x
    num = x.size
    quadratic = 0.0
    linear = 0.0
    size = 0.0
    big = 0.0
    for j in range(num):
        px = program.P[j] * x[j]
        quadratic += px * x[j]
        linear += c[j] * x[j]
        size += abs(c[j] * x[j])
        big = max(big, abs(c[j]), abs(px))
        scratch.r_dual[j] = px + c[j]
    _add_transposed(program.A, point.y, scratch.r_dual)
    _add_transposed(program.G, point.z, scratch.r_dual)
    for k in range(program.lower.size):
        scratch.r_dual[program.lower_of[k]] -= point.z_lower[k]
    for k in range(program.upper.size):
        scratch.r_dual[program.upper_of[k]] += point.z_upper[k]
    for i in range(program.b.size):
        scratch.r_primal[i] = -program.b[i]
    _add_product(program.A, x, scratch.r_primal)
    for i in range(program.h.size):
        scratch.r_below[i] = point.slack[i] - program.h[i]
    _add_product(program.G, x, scratch.r_below)
    mu = 0.0
    dual_objective = -0.5 * quadratic
    for i in range(program.b.size):
        dual_objective -= program.b[i] * point.y[i]
    for i in range(program.h.size):
        mu += point.slack[i] * point.z[i]
        dual_objective -= program.h[i] * point.z[i]
    for k in range(program.lower.size):
        mu += point.above[k] * point.z_lower[k]
        dual_objective += program.lower[k] * point.z_lower[k]
    for k in range(program.upper.size):
        mu += point.below[k] * point.z_upper[k]
        dual_objective -= program.upper[k] * point.z_upper[k]
    count = program.h.size + program.lower.size + program.upper.size
    objective = 0.5 * quadratic + linear
    primal = max(_largest(scratch.r_primal), _largest(scratch.r_below)) / (1.0 + max(_largest(x), _largest(program.b)))
    dual = _largest(scratch.r_dual) / (1.0 + big)
    gap = abs(objective - dual_objective) / (1.0 + size + 0.5 * quadratic)
    return primal, dual, gap, mu / max(count, 1), objective, dual_objective


@compiled
def _factorise(program, scratch):
    entries, work, filled = scratch.entries, scratch.work, scratch.filled
    factor, inverse = scratch.factor, scratch.inverse
    size = inverse.size
    work[:] = 0.0
    filled[:] = program.factor_start[:size]
    for k in range(size):
        for p in range(program.column_start[k], program.column_start[k + 1]):
            work[program.column_row[p]] = entries[p]
        pivot = work[k]
        work[k] = 0.0
        for q in range(program.row_start[k], program.row_start[k + 1]):
            j = program.row_column[q]
            value = work[j]
            work[j] = 0.0
            scaled = value * inverse[j]
            end = filled[j]
            for p in range(program.factor_start[j], end):
                work[program.factor_row[p]] -= factor[p] * value
            pivot -= scaled * value
            factor[end] = scaled
            filled[j] = end + 1
        inverse[k] = 1.0 / pivot


@compiled
def _back_solve(program, scratch, v):
    factor, inverse = scratch.factor, scratch.inverse
    size = inverse.size
    for j in range(size):
        value = v[j]
        for p in range(program.factor_start[j], program.factor_start[j + 1]):
            v[program.factor_row[p]] -= factor[p] * value
    for j in range(size - 1, -1, -1):
        value = v[j] * inverse[j]
        for p in range(program.factor_start[j], program.factor_start[j + 1]):
            value -= factor[p] * v[program.factor_row[p]]
        v[j] = value


@compiled
def _newton(program, point, scratch, refinements):
    """Step that solves the linearised conditions with products target."""
    num, num_rows = program.P.size, program.b.size
    rhs, solution, residual = scratch.rhs, scratch.solution, scratch.residual
    step, target = scratch.step, scratch.target
    # right-hand side, variables then rows
    gx = scratch.gx
    for i in range(program.h.size):
        gx[i] = -(point.z[i] * scratch.r_below[i] - target.slack[i]) / point.slack[i]
    for j in range(num):
        rhs[j] = -scratch.r_dual[j]
    _add_transposed(program.G, gx, rhs)
    for k in range(program.lower.size):
        rhs[program.lower_of[k]] -= target.above[k] / point.above[k]
    for k in range(program.upper.size):
        rhs[program.upper_of[k]] += target.below[k] / point.below[k]
    for i in range(num_rows):
        rhs[num + i] = -scratch.r_primal[i]
    v = scratch.work
    for i in range(num + num_rows):
        v[program.place[i]] = rhs[i]
    _back_solve(program, scratch, v)
    for i in range(num + num_rows):
        solution[i] = v[program.place[i]]
    for _ in range(refinements):
        for j in range(num):
            residual[j] = rhs[j] - scratch.hessian[j] * solution[j]
        for i in range(num_rows):
            residual[num + i] = 0.0
        for i in range(program.b.size):
            value = solution[num + i]
            total = 0.0
            for p in range(program.A.start[i], program.A.start[i + 1]):
                j = program.A.column[p]
                residual[j] -= program.A.value[p] * value
                total += program.A.value[p] * solution[j]
            residual[num + i] = rhs[num + i] - total
        for i in range(program.h.size):
            total = 0.0
            for p in range(program.G.start[i], program.G.start[i + 1]):
                total += program.G.value[p] * solution[program.G.column[p]]
            total *= scratch.weight[i]
            for p in range(program.G.start[i], program.G.start[i + 1]):
                residual[program.G.column[p]] -= program.G.value[p] * total
        for i in range(num + num_rows):
            v[program.place[i]] = residual[i]
        _back_solve(program, scratch, v)
        for i in range(num + num_rows):
            solution[i] += v[program.place[i]]
    step.x[:] = solution[:num]
    step.y[:] = solution[num:]
    for i in range(program.h.size):
        gx[i] = 0.0
    _add_product(program.G, step.x, gx)
    for i in range(program.h.size):
        step.slack[i] = -scratch.r_below[i] - gx[i]
        step.z[i] = (-target.slack[i] - point.z[i] * step.slack[i]) / point.slack[i]
    for k in range(program.lower.size):
        step.above[k] = step.x[program.lower_of[k]]
        step.z_lower[k] = (-target.above[k] - point.z_lower[k] * step.above[k]) / point.above[k]
    for k in range(program.upper.size):
        step.below[k] = -step.x[program.upper_of[k]]
        step.z_upper[k] = (-target.below[k] - point.z_upper[k] * step.below[k]) / point.below[k]


@compiled
def _room(values, steps, longest):
    for i in range(values.size):
        if values[i] + longest * steps[i] < 0.0:
            longest = -values[i] / steps[i]
    return longest


@compiled
def _product(a, da, alpha, b, db, beta):
    total = 0.0
    for i in range(a.size):
        total += (a[i] + alpha * da[i]) * (b[i] + beta * db[i])
    return total


@compiled
def advance(program, c, point, mu, scratch):
    """Predictor and corrector; returns the smaller step length."""
    step, target = scratch.step, scratch.target
    num = program.P.size
    hessian, weight = scratch.hessian, scratch.weight
    for j in range(num):
        hessian[j] = program.P[j]
    for k in range(program.lower.size):
        hessian[program.lower_of[k]] += point.z_lower[k] / point.above[k]
    for k in range(program.upper.size):
        hessian[program.upper_of[k]] += point.z_upper[k] / point.below[k]
    for i in range(program.h.size):
        weight[i] = point.z[i] / point.slack[i]
    scratch.entries[:] = program.constant
    for j in range(num):
        scratch.entries[program.diagonal_at[j]] += hessian[j] + _REGULARISATION
    for i in range(program.b.size):
        scratch.entries[program.diagonal_at[num + i]] -= _REGULARISATION
    for p in range(program.gram_at.size):
        scratch.entries[program.gram_at[p]] += weight[program.gram_of[p]] * program.gram_value[p]
    _factorise(program, scratch)

    for i in range(program.h.size):
        target.slack[i] = point.slack[i] * point.z[i]
    for k in range(program.lower.size):
        target.above[k] = point.above[k] * point.z_lower[k]
    for k in range(program.upper.size):
        target.below[k] = point.below[k] * point.z_upper[k]
    _newton(program, point, scratch, 0)
    alpha = _room(point.below, step.below, _room(point.above, step.above, _room(point.slack, step.slack, 1.0)))
    beta = _room(point.z_upper, step.z_upper, _room(point.z_lower, step.z_lower, _room(point.z, step.z, 1.0)))
    count = program.h.size + program.lower.size + program.upper.size
    after = (
        _product(point.slack, step.slack, alpha, point.z, step.z, beta)
        + _product(point.above, step.above, alpha, point.z_lower, step.z_lower, beta)
        + _product(point.below, step.below, alpha, point.z_upper, step.z_upper, beta)
    ) / count
    aim = mu * (after / mu) ** 3
    for i in range(program.h.size):
        target.slack[i] += step.slack[i] * step.z[i] - aim
    for k in range(program.lower.size):
        target.above[k] += step.above[k] * step.z_lower[k] - aim
    for k in range(program.upper.size):
        target.below[k] += step.below[k] * step.z_upper[k] - aim
    _newton(program, point, scratch, 1)
    alpha = _room(point.below, step.below, _room(point.above, step.above, _room(point.slack, step.slack, 2.0)))
    beta = _room(point.z_upper, step.z_upper, _room(point.z_lower, step.z_lower, _room(point.z, step.z, 2.0)))
    keep = max(0.99, 1.0 - mu)
    alpha, beta = min(1.0, keep * alpha), min(1.0, keep * beta)
    for j in range(num):
        point.x[j] += alpha * step.x[j]
    for i in range(program.h.size):
        point.slack[i] += alpha * step.slack[i]
        point.z[i] += beta * step.z[i]
    for k in range(program.lower.size):
        point.above[k] += alpha * step.above[k]
        point.z_lower[k] += beta * step.z_lower[k]
    for k in range(program.upper.size):
        point.below[k] += alpha * step.below[k]
        point.z_upper[k] += beta * step.z_upper[k]
    for i in range(program.b.size):
        point.y[i] += beta * step.y[i]
    return min(alpha, beta)


@compiled
def _copy(to, source):
    to.x[:] = source.x
    to.y[:] = source.y
    to.slack[:] = source.slack
    to.z[:] = source.z
    to.above[:] = source.above
    to.z_lower[:] = source.z_lower
    to.below[:] = source.below
    to.z_upper[:] = source.z_upper


@compiled
def descend(program, c, point, scratch, kept, warm, tolerance, limit, report):
    """Steps until within tolerance; -1 when not."""
    for iteration in range(limit):
        primal, dual, gap, mu, objective, dual_objective = measure(program, c, point, scratch)
        report[0] = primal
        report[1] = dual
        report[2] = gap
        report[3] = objective
        report[4] = dual_objective
        if not primal + dual + gap < np.inf:
            return -1
        if primal <= tolerance and dual <= tolerance and gap <= tolerance:
            return iteration
        if iteration == 0 or mu >= warm:
            _copy(kept, point)
        if advance(program, c, point, mu, scratch) < 1e-10:
            return -1
    return -1
