"""AC power flow of a radial feeder, for many load cases at once.

Axis letters: K buses, B load cases of a batch (lanes), W = LANES lanes of a block.
"""

from __future__ import annotations

import dataclasses

import numba
import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.compiled import compiled, compiled_parallel
from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder, FeederTables

LANES = 64  # lanes of a block
MAX_SWEEPS = 60


def block_scratch(num_buses: int) -> FloatArray:
    """[R, W] the working memory of `solve_block`; one per thread."""
    return np.zeros((6 * num_buses + 4, LANES))


@compiled
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
    """Power flow of one block of exactly LANES lanes. Allocates nothing.

    Args:
        tables: `Feeder.tables`.
        p_pu: [K, W] active loads, rows by bus number, p.u. (kW / tables.base_kva).
        q_pu: [K, W] reactive loads.
        scratch: `block_scratch(K)`.
        v_pu: [K, W] out: voltage magnitudes, rows by bus number.
        losses_pu: [2, W] out: active and reactive losses.
        slack_pu: [2, W] out: active and reactive power drawn from the slack: sum of loads + losses.
        sweeps: [W] out.
        converged: [W] out.
    """
    K = p_pu.shape[0]
    P = scratch[:K]
    Q = scratch[K : 2 * K]
    V = scratch[2 * K : 3 * K]
    D = scratch[3 * K : 4 * K]
    v0 = tables.slack_v_pu * tables.slack_v_pu
    for m in range(K):
        for j in range(LANES):
            V[m, j] = v0
    for j in range(LANES):
        converged[j] = False
        sweeps[j] = MAX_SWEEPS
    for sweep in range(1, MAX_SWEEPS + 1):
        for m in range(K):
            i = tables.order[m]
            for j in range(LANES):
                P[m, j] = p_pu[i, j]
                Q[m, j] = q_pu[i, j]
        for m in range(K - 1, 0, -1):
            a = tables.parent[m]
            r = tables.r_pu[m]
            x = tables.x_pu[m]
            for j in range(LANES):
                current = (P[m, j] * P[m, j] + Q[m, j] * Q[m, j]) / V[m, j]
                D[m, j] = 2.0 * (r * P[m, j] + x * Q[m, j]) + (r * r + x * x) * current
                P[a, j] += P[m, j] + r * current
                Q[a, j] += Q[m, j] + x * current
        residual = scratch[4 * K]
        for j in range(LANES):
            residual[j] = 0.0
        for m in range(1, K):
            a = tables.parent[m]
            for j in range(LANES):
                v = V[a, j] - D[m, j]
                change = v - V[m, j]
                residual[j] += change * change
                V[m, j] = v
        waiting = 0
        for j in range(LANES):
            if not converged[j]:
                if residual[j] < 1e-22:
                    converged[j] = True
                    sweeps[j] = sweep
                    losses_pu[0, j] = P[0, j]
                    losses_pu[1, j] = Q[0, j]
                    slack_pu[0, j] = P[0, j]
                    slack_pu[1, j] = Q[0, j]
                    for m in range(K):
                        i = tables.order[m]
                        v_pu[i, j] = np.sqrt(V[m, j])
                        losses_pu[0, j] -= p_pu[i, j]
                        losses_pu[1, j] -= q_pu[i, j]
                        if not V[m, j] > 0.0:
                            converged[j] = False
                else:
                    waiting += 1
        if waiting == 0:
            break
    for j in range(LANES):
        if not converged[j]:
            losses_pu[0, j] = 0.0
            losses_pu[1, j] = 0.0
            slack_pu[0, j] = 0.0
            slack_pu[1, j] = 0.0
            for m in range(K):
                v_pu[m, j] = 0.0
            v_pu[0, j] = tables.slack_v_pu


@dataclasses.dataclass(frozen=True, eq=False)
class PowerFlowResult:
    """The power flows of a batch."""

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

    Args:
        feeder: the feeder; its own nominal loads are not used.
        p_kw: [K, B] or [K] active loads, rows by bus number; negative is generation.
        q_kvar: [K, B] or [K] reactive loads.
        threads: 1 solves on the calling thread; more share the blocks out. The results are the same to the bit.

    Raises:
        UsageError: the loads have not one row per bus, or differ in shape.
    """
    p, q = _loads(feeder, p_kw, "p_kw"), _loads(feeder, q_kvar, "q_kvar")
    if p.shape != q.shape:
        raise UsageError(f"p_kw has shape {p.shape} and q_kvar {q.shape}; give both for the same buses and cases")
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
    outputs = tuple(getattr(result, field.name) for field in dataclasses.fields(result))
    if threads == 1:
        _solve_blocks(feeder.tables, p, q, 0, -(-num_cases // LANES), outputs)
    else:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            _solve_parallel(feeder.tables, p, q, threads, outputs)
        finally:
            numba.set_num_threads(before)
    return result


def _loads(feeder: Feeder, values: npt.ArrayLike, field: str) -> FloatArray:
    """[K, B]."""
    array = np.ascontiguousarray(values, np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[0] != feeder.num_buses:
        raise UsageError(f"{field} has shape {array.shape}; give one row for each of the {feeder.num_buses} buses")
    return array


@compiled
def _solve_blocks(tables, p_kw, q_kvar, first_block, last_block, outputs):
    v_pu, losses_kw, losses_kvar, slack_p_kw, slack_q_kvar, converged, sweeps = outputs
    num_buses, num_cases = p_kw.shape
    p = np.empty((num_buses, LANES))
    q = np.empty((num_buses, LANES))
    v = np.empty((num_buses, LANES))
    scratch = np.empty((6 * num_buses + 4, LANES))
    losses = np.empty((2, LANES))
    slack = np.empty((2, LANES))
    block_sweeps = np.empty(LANES, np.int64)
    block_converged = np.empty(LANES, np.bool_)
    for block in range(first_block, last_block):
        start = block * LANES
        count = min(LANES, num_cases - start)
        for i in range(num_buses):
            for j in range(count):
                p[i, j] = p_kw[i, start + j] / tables.base_kva
                q[i, j] = q_kvar[i, start + j] / tables.base_kva
            for j in range(count, LANES):
                p[i, j] = 0.0
                q[i, j] = 0.0
        solve_block(tables, p, q, scratch, v, losses, slack, block_sweeps, block_converged)
        for i in range(num_buses):
            for j in range(count):
                v_pu[i, start + j] = v[i, j]
        for j in range(count):
            losses_kw[start + j] = losses[0, j] * tables.base_kva
            losses_kvar[start + j] = losses[1, j] * tables.base_kva
            slack_p_kw[start + j] = slack[0, j] * tables.base_kva
            slack_q_kvar[start + j] = slack[1, j] * tables.base_kva
            converged[start + j] = block_converged[j]
            sweeps[start + j] = block_sweeps[j]


@compiled_parallel
def _solve_parallel(tables, p_kw, q_kvar, threads, outputs):
    num_blocks = (p_kw.shape[1] + LANES - 1) // LANES
    for t in numba.prange(threads):
        _solve_blocks(tables, p_kw, q_kvar, num_blocks * t // threads, num_blocks * (t + 1) // threads, outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class LinDistFlow:
    """Linear sensitivities of squared voltage: v^2 = slack^2 + R p + X q, with injections p, q in p.u. of base_mva."""

    r: FloatArray  # [K, K]
    x: FloatArray  # [K, K]


def lindistflow(feeder: Feeder) -> LinDistFlow:
    """R_ij = 2 sum of r over the branches common to the paths from the slack to i and to j; X likewise with x."""
    tables = feeder.tables
    path = np.zeros((feeder.num_buses, feeder.num_buses))  # [bus, position of a branch's lower end]
    for position in range(1, feeder.num_buses):
        path[tables.order[position]] = path[tables.order[tables.parent[position]]]
        path[tables.order[position], position] = 1.0
    return LinDistFlow(r=2.0 * (path * tables.r_pu) @ path.T, x=2.0 * (path * tables.x_pu) @ path.T)
