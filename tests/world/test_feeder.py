"""What a feeder accepts, what it refuses and how it says so, and the order that the kernels rely on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import ieee33

NAN, INF = float("nan"), float("inf")


def five_buses(**changes: Any) -> Feeder:
    """0 - 1 - 2, 1 - 3, 0 - 4, one branch given from below."""
    arguments: dict[str, Any] = {
        "from_bus": [0, 2, 1, 0],
        "to_bus": [1, 1, 3, 4],
        "r_ohm": [0.1, 0.2, 0.3, 0.4],
        "x_ohm": [0.5, 0.6, 0.7, 0.8],
        "p_kw": [0.0, 10.0, 20.0, 30.0, 40.0],
        "q_kvar": [0.0, 1.0, 2.0, 3.0, 4.0],
        "base_kv": 10.0,
    }
    return Feeder.from_arrays(**{**arguments, **changes})


# Order for the kernels


def assert_tables_hold(feeder: Feeder) -> None:
    tables, positions = feeder.tables, np.arange(feeder.num_buses)
    assert sorted(tables.order) == positions.tolist()
    assert tables.order[0] == 0
    assert (tables.parent[1:] < positions[1:]).all()
    np.testing.assert_array_equal(tables.num_children, np.bincount(tables.parent[1:], minlength=feeder.num_buses))
    # depth first: behind a bus with children stands one of them, behind a leaf a child of an earlier fork
    assert all(tables.parent[m] == m - 1 for m in positions[1:] if tables.num_children[m - 1] > 0)
    branch = {
        frozenset((a, b)): (r, x)
        for a, b, r, x in zip(feeder.from_bus, feeder.to_bus, feeder.r_ohm, feeder.x_ohm, strict=True)
    }
    z_base = feeder.base_kv**2 / feeder.base_mva
    for m in positions[1:]:
        bus, above = tables.order[m], tables.order[tables.parent[m]]
        assert feeder.parent_bus[bus] == above
        r, x = branch[frozenset((bus, above))]
        assert (tables.r_pu[m] * z_base, tables.x_pu[m] * z_base) == pytest.approx((r, x), rel=1e-12)


def test_tables_of_five_buses() -> None:
    feeder = five_buses(base_mva=2.0)
    assert feeder.tables.order.tolist() == [0, 1, 2, 3, 4]
    assert feeder.tables.parent.tolist() == [0, 0, 1, 1, 0]
    assert feeder.tables.r_pu.tolist() == pytest.approx([0, 0.1 / 50, 0.2 / 50, 0.3 / 50, 0.4 / 50])
    assert feeder.tables.base_kva == 2000.0
    assert feeder.parent_bus.tolist() == [-1, 0, 1, 1, 0]
    assert_tables_hold(feeder)
    assert_tables_hold(ieee33())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_tables_of_any_tree(data: st.DataObject) -> None:
    num_buses = data.draw(st.integers(2, 30))
    above = [data.draw(st.integers(0, bus - 1)) for bus in range(1, num_buses)]
    number = [0, *data.draw(st.permutations(range(1, num_buses)))]
    branches = data.draw(st.permutations([(number[a], number[b]) for b, a in enumerate(above, start=1)]))
    flips = data.draw(st.lists(st.booleans(), min_size=num_buses - 1, max_size=num_buses - 1))
    ends = [(b, a) if flip else (a, b) for (a, b), flip in zip(branches, flips, strict=True)]
    ohm = np.arange(1.0, num_buses)
    feeder = Feeder.from_arrays(
        [a for a, _ in ends], [b for _, b in ends], ohm, 2 * ohm, np.zeros(num_buses), np.zeros(num_buses), base_kv=5.0
    )
    assert_tables_hold(feeder)


def test_a_deep_feeder_is_no_problem() -> None:
    num_buses = 5000
    buses = np.arange(num_buses)
    ones = np.ones(num_buses - 1)
    feeder = Feeder.from_arrays(buses[:-1], buses[1:], ones, ones, 0 * buses, 0 * buses, base_kv=20.0)
    np.testing.assert_array_equal(feeder.tables.order, buses)


# Never changes


def test_a_feeder_keeps_its_own_read_only_copy() -> None:
    p_kw = np.arange(5.0)
    feeder = five_buses(p_kw=p_kw)
    p_kw[1] = 99.0
    assert feeder.p_kw[1] == 1.0
    for field in ("from_bus", "to_bus", "r_ohm", "x_ohm", "p_kw", "q_kvar", "parent_bus"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(feeder, field)[0] = 1
    for array in feeder.tables[:5]:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        feeder.base_kv = 1.0  # type: ignore[misc]


def test_replace_gives_a_checked_copy() -> None:
    feeder = five_buses(name="before")
    other = feeder.replace(p_kw=np.zeros(5), slack_v_pu=1.02)
    assert (other.slack_v_pu, other.tables.slack_v_pu, other.p_kw.sum(), other.name) == (1.02, 1.02, 0.0, "before")
    assert feeder.slack_v_pu == 1.0
    with pytest.raises(UsageError, match=r"base_kv is 0\.0; give a finite number above zero"):
        feeder.replace(base_kv=0)
    with pytest.raises(UsageError, match="feeder has no field 'base_kva'; it has from_bus, to_bus, "):
        feeder.replace(base_kva=1000.0)


def test_tables_are_made_once() -> None:
    feeder = five_buses()
    assert feeder.tables is feeder.tables


# Refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"from_bus": [0, 2, 1, 2], "to_bus": [1, 1, 3, 3]},
            "branch 3 (bus 2 - bus 3): closes a loop; a feeder is radial, leave tie lines out",
        ),
        (
            {"from_bus": [0, 2, 1, 0, 4], "to_bus": [1, 1, 3, 4, 3], "r_ohm": [1] * 5, "x_ohm": [1] * 5},
            "branch 4 (bus 4 - bus 3): closes a loop; a feeder is radial, leave tie lines out",
        ),
        (
            {"from_bus": [0, 1, 1, 0], "to_bus": [1, 0, 3, 4]},
            "branch 1 (bus 1 - bus 0): repeats branch 0; give one branch between two buses",
        ),
        (
            {"from_bus": [0, 2, 1], "to_bus": [1, 1, 3], "r_ohm": [1] * 3, "x_ohm": [1] * 3},
            "bus 4: no path of branches leads to the slack (bus 0); connect it or leave it out",
        ),
        (
            {"from_bus": [1, 2, 1], "to_bus": [2, 3, 4], "r_ohm": [1] * 3, "x_ohm": [1] * 3},
            "bus 1: no path of branches leads to the slack (bus 0); connect it or leave it out",
        ),
        ({"to_bus": [1, 1, 3, 0]}, "branch 3 (bus 0 - bus 0): both ends are the same bus; remove the branch"),
        ({"to_bus": [1, 1, 3, 5]}, "branch 3 (bus 0 - bus 5): there is no bus 5; buses are 0 to 4"),
        ({"from_bus": [0, -1, 1, 0]}, "branch 1 (bus -1 - bus 1): there is no bus -1; buses are 0 to 4"),
        ({"from_bus": [0, 2.5, 1, 0]}, "from_bus: branch 1 has bus 2.5; give whole numbers"),
        ({"to_bus": [1, NAN, 3, 4]}, "to_bus: branch 1 has bus nan; give whole numbers"),
        (
            {"r_ohm": [0.1, 0.2, 0, 0.4], "x_ohm": [0.5, 0.6, 0, 0.8]},
            "branch 2 (bus 1 - bus 3): impedance is zero; merge its two buses into one",
        ),
        (
            {"r_ohm": [0.1, -0.2, 0.3, 0.4]},
            "branch 1 (bus 2 - bus 1): resistance -0.2 ohm is negative; give zero or more",
        ),
        ({"x_ohm": [0.5, 0.6, NAN, 0.8]}, "branch 2 (bus 1 - bus 3): impedance 0.3 + jnan ohm; give finite numbers"),
        ({"r_ohm": [INF, 0.2, 0.3, 0.4]}, "branch 0 (bus 0 - bus 1): impedance inf + j0.5 ohm; give finite numbers"),
        ({"p_kw": [0, 1, NAN, 3, 4]}, "bus 2: p_kw is nan; give a finite number"),
        ({"q_kvar": [0, 1, 2, 3, -INF]}, "bus 4: q_kvar is -inf; give a finite number"),
        ({"q_kvar": [0, 1, 2, 3]}, "q_kvar has 4 buses and p_kw 5; give one figure per bus"),
        ({"r_ohm": [0.1, 0.2, 0.3]}, "r_ohm has 3 branches and from_bus 4; give one figure per branch"),
        ({"x_ohm": [0.1, 0.2, 0.3]}, "x_ohm has 3 branches and from_bus 4; give one figure per branch"),
        ({"to_bus": [1, 1, 3]}, "to_bus has 3 branches and from_bus 4; give one figure per branch"),
        ({"p_kw": [[0, 1, 2, 3, 4]]}, "p_kw has shape (1, 5); give one number per branch or bus"),
        ({"p_kw": 3.0}, "p_kw has shape (); give one number per branch or bus"),
        ({"p_kw": [0, 1, "two", 3, 4]}, "p_kw is not an array of numbers: "),
        ({"base_kv": NAN}, "base_kv is nan; give a finite number above zero"),
        ({"base_kv": "high"}, "base_kv is 'high'; give a finite number above zero"),
        ({"base_mva": -1.0}, "base_mva is -1.0; give a finite number above zero"),
        ({"slack_v_pu": 0.0}, "slack_v_pu is 0.0; give a finite number above zero"),
        ({"v_min_pu": 1.1}, "v_min_pu 1.1 is not below v_max_pu 1.05; swap or widen them"),
    ],
)
def test_a_bad_feeder_is_refused_with_the_name_of_the_element(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        five_buses(**changes)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("buses", [[], [1.0]])
def test_a_feeder_has_two_buses_at_least(buses: Sequence[float]) -> None:
    with pytest.raises(UsageError, match=f"p_kw has {len(buses)} buses; a feeder has at least a slack and one more"):
        Feeder.from_arrays([], [], [], [], buses, buses, base_kv=10.0)


def test_a_branch_may_lack_resistance_or_reactance_or_be_compensated() -> None:
    feeder = five_buses(r_ohm=[0.0, 0.2, 0.3, 0.4], x_ohm=[0.5, 0.0, -0.7, 0.8])
    assert_tables_hold(feeder)
