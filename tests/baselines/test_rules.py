from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support_policies import play, small_community, small_days

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.forecast import DayForecaster, DayValues
from prosumer_gym.baselines.greedy import Greedy
from prosumer_gym.baselines.no_control import NoControl
from prosumer_gym.baselines.policy import Observation
from prosumer_gym.baselines.rules import Move, RulePolicy, Slot, soc_after
from prosumer_gym.baselines.self_consumption import SelfConsumption
from prosumer_gym.baselines.trades import bought_kw
from prosumer_gym.community import Community
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.reference import no_control_position


def slot(community: Community, **changes: Any) -> Slot:
    """An ordinary hour of the default units; changes are numbers for all prosumers or arrays [N]."""
    num = community.num_prosumers
    fields: dict[str, Any] = {
        "load_kw": 8.0, "pv_kw": 0.0, "shiftable_ref_kw": 4.0, "least_shiftable_kw": 0.0, "most_shiftable_kw": 20.0,
        "soc_kwh": 100.0, "least_soc_kwh": 10.0, "backlog_kwh": 0.0, "connection_peak_kw": 0.0, "position_kw": 0.0,
        "usual_peak_kw": 0.0,
        "buy_ct_per_kwh": 12.0, "sell_ct_per_kwh": 3.0, "passive_pu": 0.5,
        "day_ahead_ct_per_kwh": np.full(community.hours_per_day, 8.0), "terminal_ct_per_kwh": None,
    }  # fmt: skip
    fields |= changes
    for name, value in fields.items():
        if name.endswith(("_kw", "_kwh")) and not name.endswith("per_kwh"):
            fields[name] = np.broadcast_to(np.asarray(value, dtype=np.float64), (num,)).copy()
    return Slot(**fields)


def hourly(policy: RulePolicy, num: int = 4, mechanism: str = "bilateral") -> RulePolicy:
    """The rule without its forecast."""
    policy.community = small_community(num, hours=24).replace(mechanism=mechanism)
    return policy


# self-consumption


def test_a_deficit_is_covered_by_the_battery_down_to_its_reserve() -> None:
    policy = hourly(SelfConsumption())
    move = policy.rule(slot(policy.community, soc_kwh=[130.0, 110.0, 100.0, 60.0]))
    # 12 kW are missing; 30 and 10 kWh above the reserve give 27 and 9 kW on the AC side.
    np.testing.assert_allclose(move.battery_kw, [-12.0, -9.0, 0.0, 0.0])
    np.testing.assert_allclose(move.shiftable_kw, 4.0)
    np.testing.assert_array_equal(move.curtail_kw, 0.0)


def test_a_surplus_runs_the_shiftable_load_then_charges_then_goes_to_neighbours() -> None:
    policy = hourly(SelfConsumption())
    community = policy.community
    # Surpluses over the load: 3 (less than the reference), 15, 50 and none.
    given = slot(community, pv_kw=[11.0, 23.0, 58.0, 0.0], most_shiftable_kw=[20.0, 10.0, 20.0, 20.0])
    move = policy.rule(given)
    np.testing.assert_allclose(move.shiftable_kw, [4.0, 10.0, 20.0, 4.0])
    np.testing.assert_allclose(move.battery_kw, [0.0, 5.0, 20.0, 0.0])
    # 10 kW are left at prosumer 2; 3 lacks 12 kW and is its neighbour; 0 lacks 1 kW and is its chord.
    bought = bought_kw(community, move.trade_kw)
    np.testing.assert_allclose(bought, [1.0, 0.0, -6.0, 5.0])
    # In a pool all 10 kW go, in proportion to the deficits of 1 and 12 kW.
    policy = hourly(SelfConsumption(), mechanism="supply-demand-ratio")
    move = policy.rule(given)
    np.testing.assert_allclose(move.trade_kw, [10 / 13, 0.0, -10.0, 120 / 13])


def test_a_full_battery_takes_nothing_and_the_days_energy_is_delivered() -> None:
    policy = hourly(SelfConsumption())
    move = policy.rule(
        slot(
            policy.community, pv_kw=60.0, soc_kwh=200.0, least_shiftable_kw=2.0, most_shiftable_kw=[2.0, 3.0, 4.0, 9.0]
        )
    )
    np.testing.assert_allclose(move.battery_kw, 0.0)
    np.testing.assert_allclose(move.shiftable_kw, [2.0, 3.0, 4.0, 9.0])
    late = policy.rule(slot(policy.community, least_shiftable_kw=17.0))
    np.testing.assert_allclose(late.shiftable_kw, 17.0)


# the position of a rule


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_on_a_perfect_forecast_the_rule_leaves_nothing_to_real_time(
    mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    community, plain = small_community().replace(mechanism=mechanism), small_days()
    days = plain.replace(pv_kw=plain.pv_kw * np.array([4.0, 0.0]))  # one has too much sun, its neighbour none

    def perfect(_: DayForecaster, obs: Observation) -> DayValues:
        row = int(np.argmin(np.abs(days.price_da_ct_per_kwh - obs["price_da_ct_per_kwh"]).sum(axis=1)))
        return DayValues(days.load_kw[row], days.pv_kw[row], days.price_rt_ct_per_kwh[row])

    monkeypatch.setattr(DayForecaster, "forecast", perfect)
    policy = SelfConsumption()
    policy.fit(community, days.training_history())
    infos = [info for row in days.days("dev")[:6].tolist() for info in play(policy, community, days, row)[2]]
    hours = [info for info in infos if info["hour"] >= 0]
    traded = [np.abs(info["p2p_kw"]).max() for info in hours]
    # A position has a limit; what exceeds it is left.
    within = [info for info in hours if (np.abs(info["net_import_kw"] - info["p2p_kw"]) < 49.9).all()]
    assert len(within) > 0.5 * len(hours)
    assert max(np.abs(info["realtime_kw"]).max() for info in within) < 1e-9
    assert max(info["clipped"] for info in hours) == 0
    assert max(traded) > 1.0
    assert any(np.abs(info["battery_kw"]).max() > 0.0 for info in hours)


class Spy(SelfConsumption):
    """Keeps the hours that its rule is shown."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []

    def rule(self, slot: Slot) -> Move:
        self.slots.append(slot)
        return super().rule(slot)


def test_a_rule_sees_day_ahead_prices_at_the_gate_and_the_hour_as_it_is_in_real_time() -> None:
    days, community = small_days(), small_community()
    spy = Spy()
    spy.fit(community, days.training_history())
    row = int(days.days("dev")[1])
    seen, actions, _ = play(spy, community, days, row)
    gate, hours = spy.slots[:8], spy.slots[8:]
    prices = community.tariff.settlement_prices(days.price_da_ct_per_kwh[row], days.price_rt_ct_per_kwh[row])
    assert [slot.buy_ct_per_kwh for slot in gate] == prices.da_buy.tolist()
    assert [slot.sell_ct_per_kwh for slot in gate] == prices.da_sell.tolist()
    assert [slot.buy_ct_per_kwh for slot in hours] == prices.rt_buy.tolist()
    assert [slot.sell_ct_per_kwh for slot in hours] == prices.rt_sell.tolist()
    assert [slot.passive_pu for slot in hours] == days.passive_pu[row].tolist()
    np.testing.assert_allclose([slot.passive_pu for slot in gate], days.passive_pu[row - 8 : row].mean(axis=0))
    limit = community.fleet.position_limit_kw[0]
    for h, (slot, obs) in enumerate(zip(hours, seen[1:], strict=True)):
        np.testing.assert_array_equal(slot.load_kw, days.load_kw[row, h])
        np.testing.assert_array_equal(slot.pv_kw, days.pv_kw[row, h])
        np.testing.assert_array_equal(slot.soc_kwh, obs["soc_kwh"])
        np.testing.assert_array_equal(slot.connection_peak_kw, obs["connection_peak_kw"])
        np.testing.assert_allclose(slot.position_kw, limit * actions[0]["day_ahead"][:, h])
    for h, slot in enumerate(gate):
        np.testing.assert_array_equal(slot.position_kw, 0.0)
        np.testing.assert_array_equal(slot.load_kw, spy.forecaster.forecast(seen[0]).load_kw[h])


def test_the_battery_is_settled_in_the_last_hour_of_the_episode() -> None:
    days, community = small_days(), small_community()
    spy = Spy()
    spy.fit(community, days.training_history())
    env = TwoStageEnv(days, community, split="dev", days_per_episode=2)
    obs, _ = env.reset(options={"day": int(days.days("dev")[0])})
    over = False
    while not over:
        obs, _, over, _, _ = env.step(spy.act(obs))
    settled = [k for k, slot in enumerate(spy.slots) if slot.terminal_ct_per_kwh is not None]
    assert settled == [23, 31]  # two days of 8 hours at the gate and 8 in real time


@pytest.mark.parametrize("kind", [SelfConsumption, Greedy])
def test_the_rule_beats_itself_with_the_position_of_the_reference(kind: type[RulePolicy]) -> None:
    days, community = small_days(), small_community()

    class WithReference(kind):  # type: ignore[misc, valid-type]
        def plan(self, obs: Observation) -> FloatArray:
            return no_control_position(
                obs["past_load_kw"], obs["past_pv_kw"], obs["shiftable_ref_kw"], self.community.fleet.position_limit_kw
            )

    costs = []
    for policy in (kind(), WithReference()):
        policy.fit(community, days.training_history())
        costs.append(
            sum(
                info["community_cost_ct"]
                for row in days.days("dev").tolist()
                for info in play(policy, community, days, row)[2]
            )
        )
    assert costs[0] < costs[1]


@pytest.mark.parametrize("kind", [SelfConsumption, Greedy])
def test_a_rule_never_ends_a_day_below_the_charge_it_began_with(kind: type[RulePolicy]) -> None:
    days, community = small_days(), small_community()
    policy = kind()
    policy.fit(community, days.training_history())
    for row in days.days("dev").tolist():
        seen, _, infos = play(policy, community, days, row)
        end = soc_after(community.fleet, infos[-1]["battery_kw"], seen[-1]["soc_kwh"], community.dt_h)
        assert (end >= community.fleet.soc_initial_kwh - 1e-6).all()


def test_the_battery_model_is_that_of_the_environment() -> None:
    days, community = small_days(), small_community()
    policy = SelfConsumption()
    policy.fit(community, days.training_history())
    seen, _, infos = play(policy, community, days, int(days.days("dev")[0]))
    assert np.ptp([obs["soc_kwh"] for obs in seen]) > 1.0
    for obs, info, later in zip(seen[1:-1], infos[1:-1], seen[2:], strict=True):
        after = soc_after(community.fleet, info["battery_kw"], obs["soc_kwh"], community.dt_h)
        np.testing.assert_allclose(after, later["soc_kwh"], atol=1e-9)


def test_the_usual_peak_is_that_of_the_past_days_with_the_loads_of_today() -> None:
    days, community, policy = small_days(), small_community(), Greedy()
    policy.fit(community, days.training_history())
    row = int(days.days("dev")[3])
    seen, _, _ = play(policy, community, days, row)
    past = range(row - 8, row)
    peaks = [(days.load_kw[day] + days.shiftable_ref_kw[row] - days.pv_kw[day]).max(axis=0) for day in past]
    for obs in seen[1:]:
        np.testing.assert_allclose(policy.observed(obs).usual_peak_kw, np.mean(np.maximum(peaks, 0.0), axis=0))
        np.testing.assert_array_equal(policy.observed(obs).day_ahead_ct_per_kwh, days.price_da_ct_per_kwh[row])


def test_no_control_is_the_reference() -> None:
    days, community = small_days(), small_community()
    policy = NoControl()
    policy.fit(community, days.training_history())
    seen, actions, infos = play(policy, community, days, int(days.days("dev")[0]))
    expected = no_control_position(
        seen[0]["past_load_kw"], seen[0]["past_pv_kw"], seen[0]["shiftable_ref_kw"], community.fleet.position_limit_kw
    )
    np.testing.assert_allclose(actions[0]["day_ahead"] * 50.0, expected)
    for hour, info in enumerate(infos[1:]):
        np.testing.assert_array_equal(info["battery_kw"], 0.0)
        np.testing.assert_allclose(info["shiftable_kw"], seen[0]["shiftable_ref_kw"][hour], atol=1e-9)
        np.testing.assert_array_equal(info["p2p_kw"], 0.0)
        np.testing.assert_array_equal(info["curtail_kw"], 0.0)
