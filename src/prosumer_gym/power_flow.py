"""AC power flow of a radial feeder for many load cases at once, and its linear model.

Axis letters: K buses, B load cases of a batch, W load cases of a block (lanes; a multiple of LANES).

The equations are those of M. E. Baran and F. F. Wu, "Optimal capacitor placement on radial distribution systems", IEEE
Transactions on Power Delivery 4(1), 1989 (DistFlow), exact for a radial feeder without shunts. With P, Q the power that
leaves a branch at its lower end, v the squared voltage there and l the squared current:

    l = (P^2 + Q^2) / v
    P = load + sum over the branches below of (P + r l), and Q likewise with x
    v above - v = 2 (r P + x Q) + (r^2 + x^2) l

A sweep adds up P, Q and l from the leaves to the slack with the voltages of the sweep before, then walks back for new
voltages. A bus keeps s = 1 / |V| instead of v: l = (P s)^2 + (Q s)^2 needs no division, and a step of third order,
s <- s (1 + e / 2 + 3 e^2 / 8) with e = 1 - v s^2, follows the voltage without a square root. e is also the change of
the voltage in this sweep, and tells when to stop. Sweeps start from the slack voltage everywhere (flat start).

A load case owes nothing to its neighbours, to the bit. LANES cases go through the same instructions (see `lanes`), each
case stops by its own test and is frozen from then on while the rest of its LANES go on, and all operations are exact.
So the size of the batch, the place in it, the number of threads and the machine do not show in the results.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.compiled import compiled_parallel
from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder, FeederTables
from prosumer_gym.lanes import LANES, Vector, aligned, exact, fma, inner, load, magnitude, spread, store, where
from prosumer_gym.lanes_order import greater

MIN_SWEEPS = 4  # before the first test: fewer are hardly ever enough
MAX_SWEEPS = 100  # needed only within half a per cent of the load at which the voltage collapses
ERROR_BOUND = 1e-9  # on the relative error of squared voltage that is left when a case stops, in the Euclidean norm
_NO_CHANGE = 1e-11  # a change this small is rounding on a large feeder
_WIDTH = 4 * LANES  # columns of a batch taken at once: memory is read in longer stretches
_MAX_THREADS: int = vars(numba.config)["NUMBA_NUM_THREADS"]

# Rows of the scratch of a block, in multiples of K.
_DROP, _INVERSE, _SQUARE, _FORK_P, _FORK_Q = range(5)
# Single rows behind them.
_CHANGE, _CHANGE_BEFORE, _LIVE = range(3)


def block_scratch(num_buses: int) -> FloatArray:
    """[5 K + 3, LANES] the working memory of `solve_block`; one per thread."""
    return aligned(5 * num_buses + 3)


@exact
def solve_block(
    tables: FeederTables,
    p_pu: FloatArray,
    q_pu: FloatArray,
    scratch: FloatArray,
    v_pu: FloatArray,
    losses_pu: FloatArray,
    slack_pu: FloatArray,
    sweeps: IntArray,
    converged: BoolArray,
) -> None:
    """AC power flow of a block of W load cases, inside compiled code and without allocation.

    A case that does not converge is reported as a feeder gone dark: voltage zero at every bus but the slack, no losses,
    no power drawn. Reasons: no voltage satisfies the equations, MAX_SWEEPS did not find one, a load is not finite, or
    reverse flow would lift a voltage far beyond 1.3 p.u., where the flat start may go astray.

    Args:
        tables: `Feeder.tables`.
        p_pu: [K, W] active loads, rows by bus number, p.u. (kW / tables.base_kva); fill a short block up with zeros.
        q_pu: [K, W] reactive loads.
        scratch: `block_scratch(K)`.
        v_pu: [K, W] out: voltage magnitudes, rows by bus number.
        losses_pu: [2, W] out: active and reactive losses.
        slack_pu: [2, W] out: active and reactive power drawn from the substation: loads + losses.
        sweeps: [W] out: sweeps until the case stopped.
        converged: [W] out: whether the figures of the case are a power flow.

    All [., W] arrays are C-contiguous and do not overlap; rows that start on 64 bytes (`lanes.aligned`) are faster.
    """
    for column in range(0, p_pu.shape[1], LANES):
        _solve_lanes(tables, column, p_pu, q_pu, scratch, v_pu, losses_pu, slack_pu, sweeps, converged)


@inner
def _solve_lanes(
    tables: FeederTables,
    column: int,
    p_pu: FloatArray,
    q_pu: FloatArray,
    scratch: FloatArray,
    v_pu: FloatArray,
    losses_pu: FloatArray,
    slack_pu: FloatArray,
    sweeps: IntArray,
    converged: BoolArray,
) -> None:
    """`solve_block` for the lanes `column` to `column + LANES`."""
    num_buses = p_pu.shape[0]
    single = 5 * num_buses
    _start_flat(tables, scratch)
    for lane in range(column, column + LANES):
        converged[lane] = False
        sweeps[lane] = 0
    waiting = LANES
    sweep = 0
    while waiting > 0 and sweep < MAX_SWEEPS:
        sweep += 1
        _flows(tables, column, p_pu, q_pu, scratch)
        store(scratch, single + _CHANGE_BEFORE, 0, load(scratch, single + _CHANGE, 0))
        store(scratch, single + _CHANGE, 0, _voltages(tables, scratch))
        if sweep >= MIN_SWEEPS:
            waiting = _stop_lanes(sweep, column, scratch[single:], sweeps, converged)
    slack_p, slack_q, lost_p, lost_q = _flows(tables, column, p_pu, q_pu, scratch)  # with the voltages found
    store(slack_pu, 0, column, slack_p)
    store(slack_pu, 1, column, slack_q)
    store(losses_pu, 0, column, lost_p)
    store(losses_pu, 1, column, lost_q)
    store(v_pu, 0, column, spread(tables.slack_v_pu))
    for m in range(1, num_buses):
        v, s = load(scratch, _SQUARE * num_buses + m, 0), load(scratch, _INVERSE * num_buses + m, 0)
        store(v_pu, tables.order[m], column, magnitude(v * s))
    for lane in range(column, column + LANES):
        converged[lane] = converged[lane] and np.isfinite(slack_pu[0, lane]) and np.isfinite(slack_pu[1, lane])
        if not converged[lane]:
            _report_dark(tables, lane, v_pu, losses_pu, slack_pu)


@inner
def _start_flat(tables: FeederTables, scratch: FloatArray) -> None:
    num_buses = tables.order.shape[0]
    square = spread(tables.slack_v_pu * tables.slack_v_pu)
    inverse = spread(1.0 / tables.slack_v_pu)
    zero = spread(0.0)
    for m in range(num_buses):
        store(scratch, _INVERSE * num_buses + m, 0, inverse)
        store(scratch, _SQUARE * num_buses + m, 0, square)
        store(scratch, _FORK_P * num_buses + m, 0, zero)
        store(scratch, _FORK_Q * num_buses + m, 0, zero)
    store(scratch, 5 * num_buses + _LIVE, 0, spread(1.0))


@inner
def _flows(
    tables: FeederTables, column: int, p_pu: FloatArray, q_pu: FloatArray, scratch: FloatArray
) -> tuple[Vector, Vector, Vector, Vector]:
    """Leaves to slack: the voltage drop of every branch. Returns P, Q drawn from the slack and lost on the way."""
    num_buses = tables.order.shape[0]
    fork_p, fork_q = scratch[_FORK_P * num_buses :], scratch[_FORK_Q * num_buses :]
    zero = spread(0.0)
    lost_p, lost_q = zero, zero
    sent_p, sent_q = zero, zero  # what the branch to its first child draws from a position
    for m in range(num_buses - 1, 0, -1):
        p, q = load(p_pu, tables.order[m], column), load(q_pu, tables.order[m], column)
        if tables.num_children[m] > 0:
            p, q = p + sent_p, q + sent_q
            if tables.num_children[m] > 1:  # what the branches to its other children draw
                p, q = p + load(fork_p, m, 0), q + load(fork_q, m, 0)
                store(fork_p, m, 0, zero)
                store(fork_q, m, 0, zero)
        r, x = tables.r_pu[m], tables.x_pu[m]
        s = load(scratch, _INVERSE * num_buses + m, 0)
        ps, qs = p * s, q * s
        current = fma(ps, ps, qs * qs)
        drop = fma(spread(2.0 * r), p, fma(spread(2.0 * x), q, spread(r * r + x * x) * current))
        store(scratch, _DROP * num_buses + m, 0, drop)
        lost_p, lost_q = fma(spread(r), current, lost_p), fma(spread(x), current, lost_q)
        sent_p, sent_q = fma(spread(r), current, p), fma(spread(x), current, q)
        if tables.num_children[m - 1] == 0:  # the position before is a leaf: this is a later child of a fork
            above = tables.parent[m]
            store(fork_p, above, 0, load(fork_p, above, 0) + sent_p)
            store(fork_q, above, 0, load(fork_q, above, 0) + sent_q)
    slack_p = load(p_pu, 0, column) + sent_p + load(fork_p, 0, 0)
    slack_q = load(q_pu, 0, column) + sent_q + load(fork_q, 0, 0)
    store(fork_p, 0, 0, zero)
    store(fork_q, 0, 0, zero)
    return slack_p, slack_q, lost_p, lost_q


@inner
def _voltages(tables: FeederTables, scratch: FloatArray) -> Vector:
    """Slack to leaves: the voltages of the lanes that still run. Returns the squared norm of their relative change."""
    num_buses = tables.order.shape[0]
    live = load(scratch, 5 * num_buses + _LIVE, 0)
    one, half, three_eighths = spread(1.0), spread(0.5), spread(0.375)
    change, floor = spread(0.0), spread(-1.0)
    v = load(scratch, _SQUARE * num_buses, 0)
    for m in range(1, num_buses):
        if tables.num_children[m - 1] == 0:
            v = load(scratch, _SQUARE * num_buses + tables.parent[m], 0)
        v = v - load(scratch, _DROP * num_buses + m, 0)
        s = load(scratch, _INVERSE * num_buses + m, 0)
        e = fma(-(v * s), s, one)
        change = fma(e, e, change)
        e = greater(floor, e)
        followed = fma(s * e, fma(three_eighths, e, half), s)
        store(scratch, _INVERSE * num_buses + m, 0, where(live, followed, s))
        store(scratch, _SQUARE * num_buses + m, 0, where(live, v, load(scratch, _SQUARE * num_buses + m, 0)))
    return change


@inner
def _stop_lanes(sweep: int, column: int, singles: FloatArray, sweeps: IntArray, converged: BoolArray) -> int:
    """Freeze the lanes whose own test passes, or that are lost; returns how many go on.

    The error left after a change d that followed a change d' is about d q / (1 - q) with q = d / d'.
    """
    waiting = 0
    for j in range(LANES):
        if singles[_LIVE, j] != 0.0:
            change, before = np.sqrt(singles[_CHANGE, j]), np.sqrt(singles[_CHANGE_BEFORE, j])
            if change <= _NO_CHANGE or change * change <= ERROR_BOUND * (before - change):
                converged[column + j] = True
            sweeps[column + j] = sweep
            if converged[column + j] or not np.isfinite(change):
                singles[_LIVE, j] = 0.0
            else:
                waiting += 1
    return waiting


@inner
def _report_dark(
    tables: FeederTables, lane: int, v_pu: FloatArray, losses_pu: FloatArray, slack_pu: FloatArray
) -> None:
    """The fixed figures of a case without a power flow."""
    v_pu[:, lane] = 0.0
    v_pu[0, lane] = tables.slack_v_pu
    losses_pu[:, lane] = 0.0
    slack_pu[:, lane] = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class PowerFlowResult:
    """Power flows of a batch. A case that did not converge has v_pu 0 at every bus but the slack, and else zeros."""

    v_pu: FloatArray  # [K, B] voltage magnitudes
    losses_kw: FloatArray  # [B]
    losses_kvar: FloatArray  # [B]
    slack_p_kw: FloatArray  # [B] drawn from the substation: loads + losses
    slack_q_kvar: FloatArray  # [B]
    converged: BoolArray  # [B]
    sweeps: IntArray  # [B]


def solve_power_flow(
    feeder: Feeder, p_kw: npt.ArrayLike, q_kvar: npt.ArrayLike, *, threads: int = 1
) -> PowerFlowResult:
    """AC power flow of every column of a batch of loads.

    Voltage magnitudes are right to 1e-9 p.u. where `converged`. A case without a solution is not an error.

    Args:
        feeder: the feeder; its own nominal loads are not used.
        p_kw: [K, B] or [K] active loads, rows by bus number; negative is generation.
        q_kvar: [K, B] or [K] reactive loads.
        threads: 1 solves on the calling thread; more share the batch out. The results are the same to the bit.

    Raises:
        UsageError: the loads have not one row per bus or differ in shape, or there are not so many threads.
    """
    p, q = _loads(feeder, p_kw, "p_kw"), _loads(feeder, q_kvar, "q_kvar")
    if p.shape != q.shape:
        raise UsageError(f"p_kw has shape {p.shape} and q_kvar {q.shape}; give both for the same buses and cases")
    if not 1 <= threads <= _MAX_THREADS:
        raise UsageError(f"threads is {threads}; give 1 to {_MAX_THREADS}, or start with NUMBA_NUM_THREADS set higher")
    num_buses, num_cases = p.shape
    result = PowerFlowResult(
        v_pu=np.empty((num_buses, num_cases)),
        losses_kw=np.empty(num_cases),
        losses_kvar=np.empty(num_cases),
        slack_p_kw=np.empty(num_cases),
        slack_q_kvar=np.empty(num_cases),
        converged=np.empty(num_cases, np.bool_),
        sweeps=np.empty(num_cases, np.int64),
    )
    work, scratch = aligned(threads * (3 * num_buses + 4), _WIDTH), aligned(threads * (5 * num_buses + 3))
    if threads == 1:
        _solve_columns(feeder.tables, p, q, 0, num_cases, work, scratch, *_fields(result))
    else:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            _solve_shares(threads, feeder.tables, p, q, work, scratch, *_fields(result))
        finally:
            numba.set_num_threads(before)
    return result


def _loads(feeder: Feeder, values: npt.ArrayLike, field: str) -> FloatArray:
    """[K, B]."""
    try:
        array = np.ascontiguousarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{field} is not an array of numbers: {error}") from None
    if np.ndim(values) == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2 or array.shape[0] != feeder.num_buses:
        raise UsageError(f"{field} has shape {array.shape}; give one row for each of the {feeder.num_buses} buses")
    return array


def _fields(result: PowerFlowResult) -> tuple[Any, ...]:
    return tuple(getattr(result, field.name) for field in dataclasses.fields(result))


@exact
def _solve_columns(
    tables: FeederTables,
    p_kw: FloatArray,
    q_kvar: FloatArray,
    first: int,
    last: int,
    work: FloatArray,
    scratch: FloatArray,
    v_pu: FloatArray,
    losses_kw: FloatArray,
    losses_kvar: FloatArray,
    slack_p_kw: FloatArray,
    slack_q_kvar: FloatArray,
    converged: BoolArray,
    sweeps: IntArray,
) -> None:
    """Power flows of the columns `first` to `last`; the last LANES are filled up with cases without load."""
    K = p_kw.shape[0]
    p, q, v, losses, slack = work[:K], work[K : 2 * K], work[2 * K : 3 * K], work[3 * K : 3 * K + 2], work[3 * K + 2 :]
    block_sweeps, block_converged = np.zeros(_WIDTH, np.int64), np.zeros(_WIDTH, np.bool_)
    to_pu = 1.0 / tables.base_kva
    for start in range(first, last, _WIDTH):
        count = min(_WIDTH, last - start)
        whole = count // LANES * LANES
        for i in range(K):
            for j in range(0, whole, LANES):
                store(p, i, j, load(p_kw, i, start + j) * spread(to_pu))
                store(q, i, j, load(q_kvar, i, start + j) * spread(to_pu))
            if whole < count:
                p[i, whole : whole + LANES], q[i, whole : whole + LANES] = 0.0, 0.0
                for j in range(whole, count):
                    p[i, j], q[i, j] = p_kw[i, start + j] * to_pu, q_kvar[i, start + j] * to_pu
        for column in range(0, count, LANES):
            _solve_lanes(tables, column, p, q, scratch, v, losses, slack, block_sweeps, block_converged)
        for i in range(K):
            for j in range(0, whole, LANES):
                store(v_pu, i, start + j, load(v, i, j))
            for j in range(whole, count):
                v_pu[i, start + j] = v[i, j]
        for j in range(count):
            losses_kw[start + j] = losses[0, j] * tables.base_kva
            losses_kvar[start + j] = losses[1, j] * tables.base_kva
            slack_p_kw[start + j] = slack[0, j] * tables.base_kva
            slack_q_kvar[start + j] = slack[1, j] * tables.base_kva
            converged[start + j] = block_converged[j]
            sweeps[start + j] = block_sweeps[j]


@compiled_parallel
def _solve_shares(
    threads: int,
    tables: FeederTables,
    p_kw: FloatArray,
    q_kvar: FloatArray,
    work: FloatArray,
    scratch: FloatArray,
    v_pu: FloatArray,
    losses_kw: FloatArray,
    losses_kvar: FloatArray,
    slack_p_kw: FloatArray,
    slack_q_kvar: FloatArray,
    converged: BoolArray,
    sweeps: IntArray,
) -> None:
    """The batch in `threads` shares of whole blocks."""
    num_cases = p_kw.shape[1]
    blocks = (num_cases + _WIDTH - 1) // _WIDTH
    rows, scratch_rows = work.shape[0] // threads, scratch.shape[0] // threads
    for t in numba.prange(threads):
        first, last = _WIDTH * (blocks * t // threads), min(_WIDTH * (blocks * (t + 1) // threads), num_cases)
        own_work, own_scratch = work[t * rows : (t + 1) * rows], scratch[t * scratch_rows : (t + 1) * scratch_rows]
        _solve_columns(
            tables, p_kw, q_kvar, first, last, own_work, own_scratch,
            v_pu, losses_kw, losses_kvar, slack_p_kw, slack_q_kvar, converged, sweeps,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class LinDistFlow:
    """Linear model of squared voltages: v^2 = slack^2 + r p + x q with injections p, q in p.u. of base_mva."""

    r: FloatArray  # [K, K]
    x: FloatArray  # [K, K]


def lindistflow(feeder: Feeder) -> LinDistFlow:
    """Sensitivities of squared voltages to injections, losses neglected (Baran and Wu 1989; zero row at the slack).

    r_ij = 2 * sum of the resistances that the paths from the slack to bus i and to bus j share; x likewise.
    """
    tables = feeder.tables
    on_path = np.zeros((feeder.num_buses, feeder.num_buses))  # [bus, position at the lower end of a branch]
    for position in range(1, feeder.num_buses):
        bus = tables.order[position]
        on_path[bus] = on_path[tables.order[tables.parent[position]]]
        on_path[bus, position] = 1.0
    return LinDistFlow(
        r=_frozen(2.0 * (on_path * tables.r_pu) @ on_path.T), x=_frozen(2.0 * (on_path * tables.x_pu) @ on_path.T)
    )


def _frozen(matrix: FloatArray) -> FloatArray:
    matrix.setflags(write=False)
    return matrix
