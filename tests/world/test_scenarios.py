"""The named communities: who sits where, and the profile of everybody else."""

from __future__ import annotations

import numpy as np
import pytest

from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder
from prosumer_gym.scenarios import make_scenario, passive_profile, scenario_names


def test_names() -> None:
    assert scenario_names() == ["ieee33", "ieee33-high-pv", "case69", "case141"]
    with pytest.raises(UsageError, match="scenario 'ieee34' is not known; choose one of: ieee33, ieee33-high-pv, c"):
        make_scenario("ieee34")


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_seats_ten_prosumers_at_buses_of_their_own(name: str) -> None:
    community = make_scenario(name)
    assert community.name == name
    assert (community.num_prosumers, community.num_edges, community.dt_h) == (10, 15, 1.0)
    assert np.unique(community.fleet.bus).size == 10
    assert (community.feeder.v_min_pu, community.feeder.v_max_pu) == (0.95, 1.05)
    assert community.replace(hours_per_day=96).dt_h == 0.25


@pytest.mark.parametrize(
    ("name", "num_buses", "slack_v_pu", "units", "pv_ratio", "limit_kw"),
    [
        ("ieee33", 33, 1.0, 1, 1.0, 50.0),
        ("ieee33-high-pv", 33, 1.03, 3, 3.25, 150.0),
        ("case69", 69, 1.0, 4, 1.0, 50.0),
        ("case141", 141, 1.0, 12, 1.0, 50.0),
    ],
)
def test_what_the_scenarios_differ_in(
    name: str, num_buses: int, slack_v_pu: float, units: int, pv_ratio: float, limit_kw: float
) -> None:
    community = make_scenario(name)
    fleet = community.fleet
    assert (community.feeder.num_buses, community.feeder.slack_v_pu) == (num_buses, slack_v_pu)
    assert set(fleet.units.tolist()) == {units}
    assert set(fleet.pv_ratio.tolist()) == {pv_ratio}
    assert set(fleet.position_limit_kw.tolist()) == set(fleet.connection_limit_kw.tolist()) == {limit_kw}
    usual = make_scenario("ieee33").fleet
    for field in ("battery_power_kw", "soc_max_kwh", "shiftable_power_kw", "power_factor"):
        np.testing.assert_array_equal(getattr(fleet, field), getattr(usual, field))


def below(feeder: Feeder, top: int) -> set[int]:
    """The bus `top` and all that it feeds."""
    found = {top}
    for bus in feeder.tables.order.tolist():
        if feeder.parent_bus[bus] in found:
            found.add(bus)
    return found


def test_prosumers_sit_where_the_scenarios_say() -> None:
    case69, case141 = make_scenario("case69"), make_scenario("case141")
    assert len(below(case69.feeder, 52) & set(case69.fleet.bus.tolist())) == 4
    assert len(below(case141.feeder, 36) & set(case141.fleet.bus.tolist())) == 5
    assert not set(case141.fleet.bus.tolist()) & set(case141.feeder.parent_bus.tolist())  # at the ends of branches


def test_passive_profile_passes_through_its_corners() -> None:
    profile = passive_profile()
    assert profile[[0, 4, 8, 12, 15, 18, 21, 23]].tolist() == [0.38, 0.30, 0.34, 0.32, 0.32, 0.42, 0.60, 0.48]
    assert profile[6] == pytest.approx(0.32)  # halfway from .30 to .34
    np.testing.assert_allclose(passive_profile(96)[::4], profile)
    assert passive_profile(48)[47] == pytest.approx(0.43)  # halfway from .48 at 23 to .38 at midnight
