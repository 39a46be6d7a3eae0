from __future__ import annotations

import numpy as np
import pytest
from core_cases import FORMS, random_community
from hour_cases import (
    MARGIN_PU,
    PRICE_CT_PER_PU_H,
    assert_feasible,
    on_a_weak_feeder,
    random_slot,
    random_worth,
)

from prosumer_gym.baselines.hour_admm import consensus_hour, slot_of
from prosumer_gym.baselines.hour_program import HourProgram
from prosumer_gym.baselines.hour_voltage import HourVoltage
from prosumer_gym.errors import UsageError


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize("network", [False, True])
def test_prosumers_and_operator_find_the_optimum_of_all_at_once(network: bool, mechanism: str) -> None:
    rng = np.random.default_rng(21)
    nodal = 0.0
    for i in range(3):
        community = on_a_weak_feeder(random_community(rng, num=4, mechanism=mechanism), units=8)
        voltage = HourVoltage(community, price_ct_per_pu_h=PRICE_CT_PER_PU_H, margin_pu=MARGIN_PU) if network else None
        program = HourProgram(community, voltage=voltage, tolerance=1e-8)
        slot = random_slot(rng, community, last_hour=i == 2, negative=False)
        worth = random_worth(rng, community)
        best = program.program(slot, worth).solve().objective
        found = consensus_hour(program, slot, worth, rho=2.0, tolerance=1e-3 if network else 1e-4)
        assert found.converged
        assert_feasible(community, slot, found.move, slack=2e-2)
        assert program.objective_ct(slot, worth, found.move) == pytest.approx(best, rel=1e-4, abs=0.02)
        assert found.disagreement_kw[-1] < found.disagreement_kw[0]
        assert found.iterations == len(found.movement_kw) > 1
        nodal = max(nodal, float(np.abs(found.node_price_ct_per_kwh).max()))
    assert (nodal > 0.1) == network


def test_at_the_prices_agreed_on_everybody_would_do_the_same_alone() -> None:
    """The prices are the multipliers: a prosumer that pays them for its trades and its node wants just these trades."""
    rng = np.random.default_rng(22)
    community = random_community(rng, num=4)
    slot, worth = random_slot(rng, community, last_hour=False, negative=False), random_worth(rng, community)
    program = HourProgram(community, tolerance=1e-8)
    central = program.program(slot, worth).solve()
    found = consensus_hour(program, slot, worth, rho=2.0, tolerance=1e-5)
    # What energy is worth to a prosumer is its multiplier in the balance; a price lies between those of the two ends.
    value = -central.y[:4] / community.dt_h
    graph, fee = community.graph, 0.5 * community.graph.fee_ct_per_kwh
    for e, trade in enumerate(found.move.trade_kw):
        first, second = (value[graph.first[e]], value[graph.second[e]]) if trade > 0 else (
            value[graph.second[e]], value[graph.first[e]])  # fmt: skip
        price = found.trade_price_ct_per_kwh[e]
        if 0.01 < abs(trade) < graph.limit_kw[e] - 0.01:
            assert price == pytest.approx(first - fee[e], abs=0.05)  # the buyer's; the seller may be short of PV
            assert price >= second + fee[e] - 0.05


def test_it_says_when_the_rounds_do_not_suffice() -> None:
    rng = np.random.default_rng(23)
    community = random_community(rng, num=4)
    slot, worth = random_slot(rng, community, last_hour=False, negative=False), random_worth(rng, community)
    found = consensus_hour(HourProgram(community), slot, worth, max_iterations=3)
    assert not found.converged
    assert found.iterations == 3


def test_one_prosumer_alone_agrees_at_once() -> None:
    rng = np.random.default_rng(24)
    community = random_community(rng, num=1, edges=False)
    slot, worth = random_slot(rng, community, last_hour=False, negative=False), random_worth(rng, community)
    program = HourProgram(community)
    found = consensus_hour(program, slot, worth)
    assert found.iterations == 1
    np.testing.assert_allclose(found.move.battery_kw, program.solve(slot, worth).battery_kw, atol=1e-3)


def test_a_prosumers_own_hour_is_its_part() -> None:
    community = random_community(np.random.default_rng(25), num=3)
    slot = random_slot(np.random.default_rng(25), community, last_hour=True, negative=False)
    own = slot_of(slot, 1)
    assert own.load_kw.tolist() == [slot.load_kw[1]]
    assert own.buy_ct_per_kwh == slot.buy_ct_per_kwh
    np.testing.assert_array_equal(own.day_ahead_ct_per_kwh, slot.day_ahead_ct_per_kwh)  # of all hours
    assert own.terminal_ct_per_kwh is not None
    assert slot.terminal_ct_per_kwh is not None
    assert own.terminal_ct_per_kwh[0].tolist() == [slot.terminal_ct_per_kwh[0][1]]


@pytest.mark.parametrize("wrong", [{"rho": 0.0}, {"tolerance": -1.0}, {"max_iterations": 0}])
def test_numbers_that_must_be_positive_are(wrong: dict[str, float]) -> None:
    rng = np.random.default_rng(26)
    community = random_community(rng, num=2)
    slot, worth = random_slot(rng, community, last_hour=False, negative=False), random_worth(rng, community)
    with pytest.raises(UsageError, match="must be positive"):
        consensus_hour(HourProgram(community), slot, worth, **wrong)  # type: ignore[arg-type]
