"""The published feeders: figure by figure, and their published power flows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prosumer_gym.arrays import FloatArray
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import case69, case141, ieee33
from prosumer_gym.power_flow import solve_power_flow

TABLES = Path(__file__).parents[1] / "cases" / "feeders"


def test_ieee33_is_the_feeder_of_baran_and_wu() -> None:
    feeder = ieee33()
    assert (feeder.num_buses, feeder.from_bus.size, feeder.base_kv, feeder.base_mva) == (33, 32, 12.66, 1.0)
    assert feeder.p_kw.sum() == 3715.0
    assert feeder.q_kvar.sum() == 2300.0
    assert feeder.r_ohm.sum() == pytest.approx(20.5784, abs=5e-5)
    assert feeder.x_ohm.sum() == pytest.approx(17.7843, abs=5e-5)
    # the branch that other copies of the table have wrong
    assert (feeder.from_bus[6], feeder.to_bus[6], feeder.r_ohm[6], feeder.x_ohm[6]) == (6, 7, 0.7114, 0.2351)
    assert feeder.parent_bus.tolist() == [-1, *range(17), 1, 18, 19, 20, 2, 22, 23, 5, *range(25, 32)]
    assert (feeder.slack_v_pu, feeder.v_min_pu, feeder.v_max_pu, feeder.name) == (1.0, 0.95, 1.05, "ieee33")


def column(path: Path, name: str) -> FloatArray:
    with path.open() as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


@pytest.mark.parametrize(("make", "base_kv"), [(case69, 12.66), (case141, 12.47)])
def test_feeders_are_as_their_tables_say(make: Callable[[], Feeder], base_kv: float) -> None:
    feeder = make()
    folder = TABLES / feeder.name
    for name in ("from_bus", "to_bus", "r_ohm", "x_ohm"):
        np.testing.assert_array_equal(getattr(feeder, name), column(folder / "branches.csv", name))
    for name in ("p_kw", "q_kvar"):  # the table's kvar are rounded to six decimals
        np.testing.assert_allclose(getattr(feeder, name), column(folder / "buses.csv", name), rtol=0, atol=5e-7)
    assert (feeder.base_kv, feeder.slack_v_pu, feeder.v_min_pu, feeder.v_max_pu) == (base_kv, 1.0, 0.95, 1.05)


@pytest.mark.parametrize(
    ("make", "losses_kw", "losses_kvar", "lowest_pu", "at_bus"),
    [
        (ieee33, 202.6771, 135.1410, 0.9130905, 17),
        (case69, 224.9917, 102.1580, 0.9091877, 64),
        (case141, 632.6956, 467.6504, 0.9278621, 86),
    ],
)
def test_feeders_have_their_published_losses_and_lowest_voltage(
    make: Callable[[], Feeder], losses_kw: float, losses_kvar: float, lowest_pu: float, at_bus: int
) -> None:
    feeder = make()
    result = solve_power_flow(feeder, feeder.p_kw, feeder.q_kvar)
    assert result.losses_kw.item() == pytest.approx(losses_kw, abs=1e-4)
    assert result.losses_kvar.item() == pytest.approx(losses_kvar, abs=1e-4)
    assert result.v_pu.min() == pytest.approx(lowest_pu, abs=1e-7)
    assert result.v_pu.argmin() == at_bus
