"""An independent AC power flow: complex voltages, dense impedance matrix, plain NumPy, checked by the power balance.

It shares nothing with the package's kernel: not the equations (currents, not branch flows), not the order of buses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.feeder import Feeder


@dataclass(frozen=True)
class Reference:
    v_pu: FloatArray  # [K, B]
    losses_kw: FloatArray  # [B] r I^2 over the branches
    losses_kvar: FloatArray  # [B]
    slack_p_kw: FloatArray  # [B]
    slack_q_kvar: FloatArray  # [B]


def reference_power_flow(
    feeder: Feeder, p_kw: FloatArray, q_kvar: FloatArray, *, balance_pu: float = 1e-11, rounds: int = 3000
) -> Reference:
    """Power flows of loads [K, B]; fails the test if its own power balance is off by more than `balance_pu`."""
    base_kva = 1000.0 * feeder.base_mva
    admittance = (feeder.base_kv**2 / feeder.base_mva) / (feeder.r_ohm + 1j * feeder.x_ohm)
    ends = np.zeros((feeder.from_bus.size, feeder.num_buses))  # [L, K] +1 where a branch starts, -1 where it ends
    ends[np.arange(ends.shape[0]), feeder.from_bus] = 1.0
    ends[np.arange(ends.shape[0]), feeder.to_bus] = -1.0
    nodal = ends.T @ (admittance[:, None] * ends)
    impedance = np.linalg.inv(nodal[1:, 1:])
    load = (p_kw + 1j * q_kvar)[1:] / base_kva
    v = np.full((feeder.num_buses, load.shape[1]), feeder.slack_v_pu, np.complex128)
    for _ in range(rounds):
        new = feeder.slack_v_pu - impedance @ np.conj(load / v[1:])
        change = np.abs(new - v[1:]).max()
        v[1:] = new
        if change < 1e-15:
            break
    drawn = np.conj(v) * (nodal @ v)  # conjugate of the power that enters the network at each bus
    assert np.abs(np.conj(drawn[1:]) + load).max() < balance_pu * max(1.0, np.abs(load).max(), np.abs(drawn[0]).max())
    current = admittance[:, None] * (ends @ v)
    lost = (1.0 / admittance) @ np.abs(current) ** 2
    slack = np.conj(drawn[0]) + (p_kw + 1j * q_kvar)[0] / base_kva
    return Reference(
        v_pu=np.abs(v),
        losses_kw=lost.real * base_kva,
        losses_kvar=lost.imag * base_kva,
        slack_p_kw=slack.real * base_kva,
        slack_q_kvar=slack.imag * base_kva,
    )
