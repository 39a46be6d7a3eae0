"""One descent of the interior-point method of `interior_point`, compiled.

All inequalities are one list, Kx + slack = limit: the rows of G first, then the bounds, each a row with one entry, -1
at a lower and +1 at an upper bound. With multipliers y of Ax = b and z of the inequalities an optimum satisfies

    Px + c + A'y + K'z = 0,   Ax = b,   Kx + slack = limit,   slack z = 0,   slack, z >= 0

A step towards slack z = target solves, with W = z / slack,

    [ P + K'WK   A' ] [dx]   [ ... ]
    [ A          0  ] [dy] = [ ... ]

as LDL' with a tiny diagonal added, the effect of which one step of refinement takes back.

Axis letters: x variables, a rows of A, g rows of G, q inequalities.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.compiled import compiled

_REGULARISATION = 1e-11
"""On the diagonal of the Newton system, + for variables, - for rows of A."""

_SMALLEST_PIVOT = 0.5 * _REGULARISATION
_PIVOT_OF_ROUNDING = 1e-7
"""A pivot that is smaller, or has the wrong sign, is nothing but rounding: it is taken for this."""

_SMALLEST_PRODUCT = 1e-12
"""No step aims at products of slack and multiplier below this: beyond it rounding decides."""

_SHORTEST_STEP = 1e-10
"""A descent that moves by less than this share of its step is stuck."""


class Rows(NamedTuple):
    """A matrix row by row."""

    start: IntArray
    column: IntArray
    value: FloatArray


class Program(NamedTuple):
    """What stays: the program's numbers, and how its Newton system is put together and factorised."""

    P: FloatArray
    """Diagonal [x]."""
    A: Rows
    b: FloatArray
    G: Rows
    bound_of: IntArray
    """The variable of each bound [q-g]."""
    bound_sign: FloatArray
    """-1 for a lower bound, +1 for an upper one [q-g]."""
    limit: FloatArray
    """h, -lb, ub [q]."""
    place: IntArray
    """Where variables, then rows of A, stand in the Newton system [x+a]."""
    sign: FloatArray
    """+1 for variables and -1 for rows, in the order of the system [x+a]."""
    column_start: IntArray
    """Upper triangle of the Newton system in that order, by columns: starts and rows."""
    column_row: IntArray
    constant: FloatArray
    """Its entries that stay the same: those of A."""
    diagonal_at: IntArray
    """Where the diagonal is among its entries [x+a]."""
    gram_at: IntArray
    """G'WG is the sum of W[gram_of] gram_value, each added to the entry gram_at."""
    gram_of: IntArray
    gram_value: FloatArray
    factor_start: IntArray
    """L by columns, starts and rows; and by rows, starts and columns."""
    factor_row: IntArray
    row_start: IntArray
    row_column: IntArray


class Point(NamedTuple):
    """Variables, multipliers and slacks."""

    x: FloatArray
    y: FloatArray
    slack: FloatArray
    z: FloatArray

    @classmethod
    def empty(cls, program: Program) -> Self:
        """One of the right size."""
        num = program.limit.size
        return cls(np.zeros(program.P.size), np.zeros(program.b.size), np.zeros(num), np.zeros(num))


class Scratch(NamedTuple):
    """Memory of a descent."""

    dual: FloatArray
    """Residuals: Px + c + A'y + K'z [x]."""
    equal: FloatArray
    """Ax - b [a]."""
    below: FloatArray
    """Kx + slack - limit [q]."""
    inverse_slack: FloatArray
    weight: FloatArray
    """W [q]."""
    target: FloatArray
    """What a step must take off the products slack z [q]."""
    k_step: FloatArray
    """[q]."""
    entries: FloatArray
    """The Newton system's."""
    factor: FloatArray
    """L's."""
    inverse_pivot: FloatArray
    filled: IntArray
    """How far each column of L is written."""
    work: FloatArray
    rhs: FloatArray
    solution: FloatArray
    error: FloatArray
    """[x+a]."""
    step: Point

    @classmethod
    def empty(cls, program: Program) -> Self:
        """Memory for `program`."""
        num_x, num_a, num_q = program.P.size, program.b.size, program.limit.size
        size = num_x + num_a
        return cls(
            dual=np.zeros(num_x), equal=np.zeros(num_a), below=np.zeros(num_q), inverse_slack=np.zeros(num_q),
            weight=np.zeros(num_q), target=np.zeros(num_q), k_step=np.zeros(num_q),
            entries=np.zeros(program.column_row.size), factor=np.zeros(program.factor_row.size),
            inverse_pivot=np.zeros(size), filled=np.zeros(size, dtype=np.int64), work=np.zeros(size),
            rhs=np.zeros(size), solution=np.zeros(size), error=np.zeros(size), step=Point.empty(program),
        )  # fmt: skip


class Report(NamedTuple):
    """How a point does: scaled residuals as in `solve`, mean product of slack and multiplier, objectives."""

    primal: float
    dual: float
    gap: float
    product: float
    objective: float
    dual_objective: float


@compiled
def fill_of(column_start: IntArray, column_row: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Where L has entries: by columns (starts, rows) and by rows (starts, columns), both ascending.

    Row k of L holds what the elimination tree reaches from the entries of column k of the upper triangle.
    """
    size = column_start.size - 1
    parent, seen_by = np.full(size, -1), np.full(size, -1)
    in_column, in_row = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for k in range(size):
        seen_by[k] = k
        for p in range(column_start[k], column_start[k + 1]):
            j = column_row[p]
            while seen_by[j] != k:
                if parent[j] == -1:
                    parent[j] = k
                in_column[j] += 1
                in_row[k] += 1
                seen_by[j] = k
                j = parent[j]
    factor_start, row_start = np.zeros(size + 1, dtype=np.int64), np.zeros(size + 1, dtype=np.int64)
    for k in range(size):
        factor_start[k + 1] = factor_start[k] + in_column[k]
        row_start[k + 1] = row_start[k] + in_row[k]
    factor_row, row_column = np.empty(factor_start[size], dtype=np.int64), np.empty(row_start[size], dtype=np.int64)
    seen_by[:] = -1
    in_column[:] = 0
    for k in range(size):
        seen_by[k] = k
        end = row_start[k]
        for p in range(column_start[k], column_start[k + 1]):
            j = column_row[p]
            while seen_by[j] != k:
                at = end  # sorted as it comes: few are out of order
                while at > row_start[k] and row_column[at - 1] > j:
                    row_column[at] = row_column[at - 1]
                    at -= 1
                row_column[at] = j
                end += 1
                seen_by[j] = k
                j = parent[j]
        for q in range(row_start[k], end):
            j = row_column[q]
            factor_row[factor_start[j] + in_column[j]] = k
            in_column[j] += 1
    return factor_start, factor_row, row_start, row_column


@compiled
def descend(
    program: Program, c: FloatArray, point: Point, scratch: Scratch, levels: FloatArray, kept: tuple[Point, ...],
    is_kept: BoolArray, tolerance: float, max_iterations: int,
) -> tuple[int, Report]:  # fmt: skip
    """Move `point` to the optimum. Returns the number of steps, -1 when it is not reached, and how the point does.

    On the way the last point whose mean product is at least `levels[k]` (descending), and below the level before, is
    copied to `kept[k]`.
    """
    is_kept[:] = False
    report = _measure(program, c, point, scratch)
    for iteration in range(max_iterations):
        if report.primal <= tolerance and report.dual <= tolerance and report.gap <= tolerance:
            return iteration, report
        if iteration > 0:  # a point that was kept itself need not be again
            for k in range(levels.size):
                if report.product >= levels[k]:
                    _copy(point, kept[k])
                    is_kept[k] = True
                    break
        if not _advance(program, point, report.product, scratch):
            break
        report = _measure(program, c, point, scratch)
    return -1, report


@compiled
def _copy(source: Point, to: Point) -> None:
    to.x[:] = source.x
    to.y[:] = source.y
    to.slack[:] = source.slack
    to.z[:] = source.z


@compiled
def _add_product(rows: Rows, x: FloatArray, out: FloatArray) -> None:
    for i in range(rows.start.size - 1):
        total = 0.0
        for p in range(rows.start[i], rows.start[i + 1]):
            total += rows.value[p] * x[rows.column[p]]
        out[i] += total


@compiled
def _add_transposed(rows: Rows, y: FloatArray, out: FloatArray) -> None:
    for i in range(rows.start.size - 1):
        value = y[i]
        for p in range(rows.start[i], rows.start[i + 1]):
            out[rows.column[p]] += rows.value[p] * value


@compiled
def _inequalities(program: Program, x: FloatArray, out: FloatArray) -> None:
    """Kx."""
    num_g = program.G.start.size - 1
    out[:num_g] = 0.0
    _add_product(program.G, x, out)
    for k in range(program.bound_of.size):
        out[num_g + k] = program.bound_sign[k] * x[program.bound_of[k]]


@compiled
def _add_multipliers(program: Program, z: FloatArray, out: FloatArray) -> None:
    """K'z, added."""
    num_g = program.G.start.size - 1
    _add_transposed(program.G, z, out)
    for k in range(program.bound_of.size):
        out[program.bound_of[k]] += program.bound_sign[k] * z[num_g + k]


@compiled
def _largest(values: FloatArray) -> float:
    """Largest size; NaN stays NaN."""
    found = 0.0
    for value in values:
        if not abs(value) <= found:
            found = abs(value)
    return found


@compiled
def _measure(program: Program, c: FloatArray, point: Point, scratch: Scratch) -> Report:
    """How the point does; its residuals stay in scratch."""
    x, dual, equal, below = point.x, scratch.dual, scratch.equal, scratch.below
    quadratic, linear, size, largest_cost = 0.0, 0.0, 0.0, 0.0
    for j in range(x.size):
        Px, cx = program.P[j] * x[j], c[j] * x[j]
        dual[j] = Px + c[j]
        quadratic += Px * x[j]
        linear += cx
        size += abs(cx)
        largest_cost = max(largest_cost, abs(c[j]), abs(Px))
    _add_transposed(program.A, point.y, dual)
    _add_multipliers(program, point.z, dual)
    dual_objective = -0.5 * quadratic
    for i in range(equal.size):
        equal[i] = -program.b[i]
        dual_objective -= program.b[i] * point.y[i]
    _add_product(program.A, x, equal)
    _inequalities(program, x, below)
    product = 0.0
    for i in range(below.size):
        below[i] += point.slack[i] - program.limit[i]
        product += point.slack[i] * point.z[i]
        dual_objective -= program.limit[i] * point.z[i]
    objective = 0.5 * quadratic + linear
    return Report(
        max(_largest(equal), _largest(below)) / (1.0 + max(_largest(x), _largest(program.b))),
        _largest(dual) / (1.0 + largest_cost),
        abs(objective - dual_objective) / (1.0 + size + 0.5 * quadratic),
        product / max(below.size, 1),
        objective,
        dual_objective,
    )


@compiled
def _factorise(program: Program, scratch: Scratch) -> None:
    """LDL' of the Newton system, row by row of L."""
    factor, inverse_pivot, work, filled = scratch.factor, scratch.inverse_pivot, scratch.work, scratch.filled
    size = inverse_pivot.size
    work[:] = 0.0
    filled[:] = program.factor_start[:size]
    for k in range(size):
        for p in range(program.column_start[k], program.column_start[k + 1]):
            work[program.column_row[p]] = scratch.entries[p]
        pivot = work[k]
        work[k] = 0.0
        for q in range(program.row_start[k], program.row_start[k + 1]):
            j = program.row_column[q]
            value, end = work[j], filled[j]
            work[j] = 0.0
            for p in range(program.factor_start[j], end):
                work[program.factor_row[p]] -= factor[p] * value
            factor[end] = value * inverse_pivot[j]
            pivot -= factor[end] * value
            filled[j] = end + 1
        # Of a variable the pivot is positive, of a row negative, but for rounding.
        sign = program.sign[k]
        inverse_pivot[k] = 1.0 / pivot if sign * pivot > _SMALLEST_PIVOT else sign / _PIVOT_OF_ROUNDING


@compiled
def _add_solution(program: Program, scratch: Scratch, rhs: FloatArray, out: FloatArray) -> None:
    """Solve LDL' v = rhs and add v to `out`."""
    factor, row, v = scratch.factor, program.factor_row, scratch.work
    size = v.size
    for i in range(size):
        v[program.place[i]] = rhs[i]
    for j in range(size):
        value = v[j]
        for p in range(program.factor_start[j], program.factor_start[j + 1]):
            v[row[p]] -= factor[p] * value
    for j in range(size - 1, -1, -1):
        value = v[j] * scratch.inverse_pivot[j]
        for p in range(program.factor_start[j], program.factor_start[j + 1]):
            value -= factor[p] * v[row[p]]
        v[j] = value
    for i in range(size):
        out[i] += v[program.place[i]]


@compiled
def _set_up_newton(program: Program, point: Point, scratch: Scratch) -> None:
    """The Newton system at the point, factorised."""
    num_x, num_g = program.P.size, program.G.start.size - 1
    entries = scratch.entries
    for i in range(point.slack.size):
        scratch.inverse_slack[i] = 1.0 / point.slack[i]
        scratch.weight[i] = point.z[i] * scratch.inverse_slack[i]
    entries[:] = program.constant
    for j in range(num_x):
        entries[program.diagonal_at[j]] += program.P[j] + _REGULARISATION
    for i in range(num_x, program.place.size):
        entries[program.diagonal_at[i]] -= _REGULARISATION
    for k in range(program.bound_of.size):
        entries[program.diagonal_at[program.bound_of[k]]] += scratch.weight[num_g + k]
    for p in range(program.gram_at.size):
        entries[program.gram_at[p]] += scratch.weight[program.gram_of[p]] * program.gram_value[p]
    _factorise(program, scratch)


@compiled
def _find_step(program: Program, point: Point, scratch: Scratch, refine: bool) -> None:
    """The step that takes off all residuals, and `target` off the products."""
    num_x, num_q = program.P.size, point.slack.size
    rhs, solution, error, k_step, step = scratch.rhs, scratch.solution, scratch.error, scratch.k_step, scratch.step
    for i in range(num_q):
        k_step[i] = scratch.target[i] * scratch.inverse_slack[i] - scratch.weight[i] * scratch.below[i]
    for j in range(num_x):
        rhs[j] = -scratch.dual[j]
    _add_multipliers(program, k_step, rhs)
    rhs[num_x:] = -scratch.equal
    solution[:] = 0.0
    _add_solution(program, scratch, rhs, solution)
    if refine:
        for j in range(num_x):
            error[j] = program.P[j] * solution[j]
        error[num_x:] = 0.0
        _add_transposed(program.A, solution[num_x:], error)
        _add_product(program.A, solution, error[num_x:])
        _inequalities(program, solution, k_step)
        for i in range(num_q):
            k_step[i] *= scratch.weight[i]
        _add_multipliers(program, k_step, error)
        for i in range(error.size):
            error[i] = rhs[i] - error[i]
        _add_solution(program, scratch, error, solution)
    step.x[:] = solution[:num_x]
    step.y[:] = solution[num_x:]
    _inequalities(program, step.x, step.slack)
    for i in range(num_q):
        step.slack[i] = -scratch.below[i] - step.slack[i]
        step.z[i] = -scratch.target[i] * scratch.inverse_slack[i] - scratch.weight[i] * step.slack[i]


@compiled
def _room(point: Point, step: Point, longest: float) -> float:
    """How far the step may go, in parts of it and `longest` at most, before a slack or multiplier is zero."""
    for i in range(point.slack.size):
        if point.slack[i] + longest * step.slack[i] < 0.0:
            longest = -point.slack[i] / step.slack[i]
        if point.z[i] + longest * step.z[i] < 0.0:
            longest = -point.z[i] / step.z[i]
    return longest


@compiled
def _advance(program: Program, point: Point, product: float, scratch: Scratch) -> bool:
    """One step, predictor and corrector. Returns whether there was one: else the point is where it was."""
    step, target, num_q = scratch.step, scratch.target, point.slack.size
    _set_up_newton(program, point, scratch)
    for i in range(num_q):
        target[i] = point.slack[i] * point.z[i]
    _find_step(program, point, scratch, False)
    length = _room(point, step, 1.0)
    after = 0.0
    for i in range(num_q):
        after += (point.slack[i] + length * step.slack[i]) * (point.z[i] + length * step.z[i])
    after /= max(num_q, 1)
    # Mehrotra: the more the straight way promises, the less of the products is aimed at.
    aim = max(product * (after / product) ** 3, _SMALLEST_PRODUCT) if product > 0.0 else 0.0
    for i in range(num_q):
        target[i] += step.slack[i] * step.z[i] - aim
    _find_step(program, point, scratch, True)
    length = min(1.0, max(0.99, 1.0 - product) * _room(point, step, 2.0))
    if not (length > _SHORTEST_STEP and _is_finite(step)):
        return False
    for j in range(point.x.size):
        point.x[j] += length * step.x[j]
    for i in range(point.y.size):
        point.y[i] += length * step.y[i]
    for i in range(num_q):
        point.slack[i] += length * step.slack[i]
        point.z[i] += length * step.z[i]
    return True


@compiled
def _is_finite(step: Point) -> bool:
    return (
        _largest(step.x) < np.inf
        and _largest(step.y) < np.inf
        and _largest(step.slack) < np.inf
        and _largest(step.z) < np.inf
    )
