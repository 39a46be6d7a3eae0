"""Axes: N prosumers or stores, H hours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_cases import random_community
from hour_cases import random_slot, stored_kwh
from support_leakage import assert_no_leak
from support_policies import play, small_community, small_days, total_cost_ct

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines import tuned as tuned_module
from prosumer_gym.baselines.hour_program import HourProgram, Worth
from prosumer_gym.baselines.lyapunov import (
    Lyapunov,
    PriceBounds,
    Queue,
    Store,
    battery_store,
    largest_v,
    load_store,
    modified_queue,
    price_bounds,
    shift_interval,
    theoretical_queue,
)
from prosumer_gym.baselines.replay import replay_day
from prosumer_gym.baselines.rules import SOLVER_FELL_BACK, Slot
from prosumer_gym.baselines.solve import QuadraticProgram, SolverError
from prosumer_gym.baselines.tuned import GridPoint, Parameters, load_tuned
from prosumer_gym.baselines.tuning import Run, criterion, gate_observation, judge, plan_cost_ct
from prosumer_gym.community import Community
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import list_datasets, load_dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario

BOUNDS = PriceBounds(1.5, 30.0)


def random_stores(rng: np.random.Generator, num: int) -> Store:
    low = rng.uniform(0.0, 20.0, num)
    charge, discharge = rng.uniform(0.8, 1.0, (2, num))
    power = rng.uniform(2.0, 20.0, num)
    fill, drain = power * charge, power / discharge
    return Store(low, low + (fill + drain) * rng.uniform(1.3, 6.0, num), fill, drain, charge, discharge)


def prices_ct_per_kwh(rng: np.random.Generator, hours: int, num: int) -> FloatArray:
    """Anything within the bounds: calm and wild hours, and long spells at either end."""
    uniform = rng.uniform(*BOUNDS, (hours, num))
    ends = np.where(rng.random((hours, num)) < 0.5, BOUNDS.lowest, BOUNDS.highest)
    spell = np.sin(np.arange(hours)[:, None] / rng.uniform(2.0, 30.0, num)) > 0
    kind = rng.integers(0, 3, num)
    return np.select([kind == 0, kind == 1], [uniform, ends], np.where(spell, BOUNDS.lowest, BOUNDS.highest))


def levels_kwh(store: Store, queue: Queue, prices: FloatArray, *, hard_limits: bool = False) -> FloatArray:
    """The levels [H+1,N] under the rule written out once more: full power where the price is beyond the worth."""
    level = [0.5 * (store.low_kwh + store.high_kwh)]
    for price in prices:
        worth = (queue.shift_kwh - level[-1]) / queue.v_kwh2_per_ct
        fill = np.where(price / store.charge_efficiency < worth, store.fill_kwh, 0.0)
        drain = np.where(price * store.discharge_efficiency > worth, store.drain_kwh, 0.0)
        if hard_limits:
            fill = np.minimum(fill, store.high_kwh - level[-1])
            drain = np.minimum(drain, level[-1] - store.low_kwh)
        level.append(level[-1] + fill - drain)
    return np.array(level)


def beyond(store: Store, level_kwh: FloatArray) -> float:
    return float(max((store.low_kwh - level_kwh).max(), (level_kwh - store.high_kwh).max()))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_up_to_v_max_the_level_stays_within_its_bounds_by_itself(share: float) -> None:
    """The promise, over a million store-hours of any prices within their bounds; nothing is clipped."""
    rng = np.random.default_rng(1)
    store = random_stores(rng, 2000)
    prices = prices_ct_per_kwh(rng, 500, 2000)
    v = share * largest_v(store, BOUNDS)
    low, high = shift_interval(store, BOUNDS, v, "battery")
    for part in (0.0, 0.5, 1.0):
        level = levels_kwh(store, Queue(v, low + part * (high - low)), prices)
        assert beyond(store, level) < 1e-9
        assert np.ptp(level, axis=0).min() > 0.0
    # In use: at V_max each store goes through most of its range.
    assert share < 1.0 or np.median(np.ptp(level, axis=0) / (store.high_kwh - store.low_kwh)) > 0.7


def test_at_twice_v_max_it_does_not_unless_each_hour_is_limited() -> None:
    rng = np.random.default_rng(2)
    store = random_stores(rng, 200)
    prices = prices_ct_per_kwh(rng, 500, 200)
    right = theoretical_queue(store, BOUNDS, "battery", alike=False)
    twice = Queue(2.0 * right.v_kwh2_per_ct, right.shift_kwh + right.v_kwh2_per_ct * 12.0)
    assert beyond(store, levels_kwh(store, twice, prices)) > 5.0
    assert beyond(store, levels_kwh(store, twice, prices, hard_limits=True)) < 1e-9


def test_v_max_is_the_largest_v_with_a_shift() -> None:
    store = random_stores(np.random.default_rng(3), 50)
    v = largest_v(store, BOUNDS)
    low, high = shift_interval(store, BOUNDS, v, "battery")
    np.testing.assert_allclose(low, high)
    with pytest.raises(UsageError, match=r"lyapunov: battery of prosumer 7: V = .* leaves no shift"):
        shift_interval(store, BOUNDS, np.where(np.arange(50) == 7, 1.001, 0.5) * v, "battery")
    for wrong in (0.0, -1.0):
        with pytest.raises(UsageError, match="must lie in 0 < V"):
            shift_interval(store, BOUNDS, np.full(50, wrong), "battery")


def test_v_max_of_the_default_battery_by_hand() -> None:
    """(200 - 10 - 18 - 22.2) / (.9 (26 + 20) - 1.94 / .9) = 149.8 / 39.2 = 3.82; without the demand charge 7.05."""
    store = battery_store(small_community().fleet, 1.0)
    assert largest_v(store, PriceBounds(1.94, 46.0))[0] == pytest.approx(3.817, abs=1e-3)
    assert largest_v(store, PriceBounds(1.94, 26.0))[0] == pytest.approx(7.051, abs=1e-3)


def test_a_store_that_an_hour_empties_has_no_v() -> None:
    store = random_stores(np.random.default_rng(4), 3)._replace(fill_kwh=np.array([1.0, 500.0, 1.0]))
    with pytest.raises(UsageError, match=r"shiftable load of prosumer 1: .* use the modified method"):
        theoretical_queue(store, BOUNDS, "shiftable load", alike=False)
    modified = modified_queue(store, BOUNDS, 4.0, 8.0)
    assert (modified.v_kwh2_per_ct > 0).all()


def test_each_store_its_own_v_bounds_the_gap_better_than_one_for_all() -> None:
    """K / V summed over the stores bounds how much dearer an hour is than under the best stationary rule."""
    store = random_stores(np.random.default_rng(5), 20)
    own = theoretical_queue(store, BOUNDS, "battery", alike=False)
    alike = theoretical_queue(store, BOUNDS, "battery", alike=True)
    constant = 0.5 * np.maximum(store.fill_kwh, store.drain_kwh) ** 2
    assert np.ptp(alike.v_kwh2_per_ct) == 0.0
    assert (alike.v_kwh2_per_ct <= own.v_kwh2_per_ct).all()
    assert (constant / own.v_kwh2_per_ct).sum() < (constant / alike.v_kwh2_per_ct).sum()


def test_energy_is_worth_less_the_more_there_is_and_in_the_middle_what_it_was_said_to_be() -> None:
    store = random_stores(np.random.default_rng(6), 5)
    queue = modified_queue(store, BOUNDS, 4.0, 8.5)
    middle = 0.5 * (store.low_kwh + store.high_kwh)
    np.testing.assert_allclose(queue.worth_ct_per_kwh(middle), 8.5)
    slope = (queue.worth_ct_per_kwh(store.low_kwh) - queue.worth_ct_per_kwh(store.high_kwh)) * 4.0
    np.testing.assert_allclose(
        slope, BOUNDS.highest * store.discharge_efficiency - BOUNDS.lowest / store.charge_efficiency
    )


def test_with_an_endless_v_the_worth_is_constant() -> None:
    rng = np.random.default_rng(7)
    community = random_community(rng, num=4)
    store = battery_store(community.fleet, community.dt_h)
    queue = modified_queue(store, BOUNDS, 1e9, 9.0)
    hour, zero = HourProgram(community), np.zeros(4)
    for _ in range(5):
        slot = random_slot(rng, community, last_hour=False, negative=False)
        move = hour.solve(slot, Worth(queue.worth_ct_per_kwh(slot.soc_kwh), zero))
        threshold = hour.solve(slot, Worth(np.full(4, 9.0), zero))
        np.testing.assert_allclose(move.battery_kw, threshold.battery_kw, atol=1e-5)


# the hour's program with queues


def wide(community: Community) -> Community:
    """The same batteries without bounds to speak of: no hard limit ever binds."""
    return community.replace(fleet=replace(community.fleet, soc_min_kwh=np.zeros(4), soc_max_kwh=np.full(4, 1e6)))


_OFFSET_KWH = 5e5


def hours_of(rng: np.random.Generator, community: Community, num: int, most: float) -> list[Slot]:
    """Hours of any loads and prices, day after day, whose purchases with the demand charge cost at most `most`."""
    slots = []
    for i in range(num):
        slot = random_slot(rng, community, last_hour=False, negative=False)
        top = most - community.tariff.demand_charge_ct_per_kw / community.dt_h
        sell, buy = np.sort(rng.choice([BOUNDS.lowest, top, rng.uniform(BOUNDS.lowest, top)], 2))
        peak = np.zeros(4) if i % 24 == 0 else slot.connection_peak_kw
        slots.append(replace(slot, sell_ct_per_kwh=sell, buy_ct_per_kwh=buy, connection_peak_kw=peak))
    return slots


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_in_the_community_the_program_keeps_the_promise_without_a_limit_and_breaks_it_beyond_v_max(
    factor: float,
) -> None:
    """Trades, curtailment, shiftable loads, wear and demand charge included."""
    rng = np.random.default_rng(8)
    community = random_community(rng, num=4, hours=24)
    bounds = PriceBounds(BOUNDS.lowest, 50.0)
    store = battery_store(community.fleet, community.dt_h)
    right = theoretical_queue(store, bounds, "battery", alike=False)
    midway = right.worth_ct_per_kwh(0.5 * (store.low_kwh + store.high_kwh))
    v = factor * right.v_kwh2_per_ct
    queue = Queue(v, 0.5 * (store.low_kwh + store.high_kwh) + v * midway) if factor > 1.0 else right
    hour, soc = HourProgram(wide(community)), community.fleet.soc_initial_kwh
    furthest = 0.0
    constant = 0.5 * np.maximum(store.fill_kwh, store.drain_kwh) ** 2
    for slot in hours_of(rng, community, 750, bounds.highest):
        worth = Worth(queue.worth_ct_per_kwh(soc), np.zeros(4))
        move = hour.solve(replace(slot, soc_kwh=soc + _OFFSET_KWH, least_soc_kwh=np.zeros(4)), worth)
        before, gained = soc - queue.shift_kwh, stored_kwh(community, move)
        soc = soc + gained
        drift = 0.5 * ((soc - queue.shift_kwh) ** 2 - before**2)
        assert (drift <= constant + before * gained + 1e-6).all()
        furthest = max(furthest, beyond(store, soc))
    assert (furthest < 1e-5) == (factor == 1.0)


def test_with_hard_limits_no_v_ever_breaks_the_bounds() -> None:
    rng = np.random.default_rng(9)
    community = random_community(rng, num=4, hours=24)
    store = battery_store(community.fleet, community.dt_h)
    queue = modified_queue(store, BOUNDS, 32.0, 12.0)
    hour, soc, seen = HourProgram(community), community.fleet.soc_initial_kwh, []
    for slot in hours_of(rng, community, 400, 50.0):
        move = hour.solve(replace(slot, soc_kwh=soc), Worth(queue.worth_ct_per_kwh(soc), np.zeros(4)))
        soc = soc + stored_kwh(community, move)
        seen.append(soc)
    assert beyond(store, np.array(seen)) < 1e-5
    assert np.min(np.array(seen) - store.low_kwh) < 1.0
    assert np.min(store.high_kwh - np.array(seen)) < 1.0


# the policy


@pytest.mark.parametrize("options", [{}, {"network": True}, {"unplanned": True}, {"theoretical": True}])
def test_the_future_does_not_matter(options: dict[str, bool]) -> None:
    assert_no_leak(lambda: Lyapunov(**options), small_days(), small_community(), split="dev")


def fitted(**options: Any) -> Lyapunov:
    policy = Lyapunov(**options)
    policy.fit(small_community(), small_days().training_history())
    return policy


def test_it_buys_day_ahead_what_its_rule_draws_on_the_forecast_or_nothing() -> None:
    days, community = small_days(), small_community()
    row = int(days.days("dev")[0])
    gate = gate_observation(community, days, row)
    assert np.abs(fitted().plan(gate)).max() > 1.0
    assert not fitted(unplanned=True).plan(gate).any()


def test_prices_are_bounded_by_those_of_the_training_days() -> None:
    days, community = small_days(), small_community()
    history = days.training_history()
    prices = community.tariff.settlement_prices(days.price_da_ct_per_kwh, days.price_rt_ct_per_kwh)
    rows = days.days("train")
    found = price_bounds(community, history)
    assert found.lowest == prices.rt_sell[rows].min()
    assert found.highest == pytest.approx(prices.rt_buy[rows].max() + 20.0 / community.dt_h)
    other = days.replace(price_rt_ct_per_kwh=np.where(days.is_training[:, None], days.price_rt_ct_per_kwh, 99.0))
    assert price_bounds(community, other.training_history()) == found
    store = load_store(community.fleet, community.dt_h, history)
    np.testing.assert_allclose(store.drain_kwh, community.dt_h * days.shiftable_ref_kw[rows].max(axis=(0, 1)))


def test_the_variants_have_the_queues_they_say() -> None:
    own, alike, modified = fitted(theoretical=True), fitted(vanilla=True), fitted(battery_factor=4.0)
    bounds = price_bounds(own.community, small_days().training_history())
    store, prices = battery_store(own.community.fleet, own.community.dt_h), np.linspace(4.0, 11.0, 8)
    np.testing.assert_allclose(own.queues(prices).battery.v_kwh2_per_ct, largest_v(store, bounds))
    np.testing.assert_allclose(alike.queues(prices).battery.v_kwh2_per_ct, largest_v(store, bounds).min())
    np.testing.assert_allclose(
        modified.queues(prices).battery.v_kwh2_per_ct,
        4.0 * (store.high_kwh - store.low_kwh) / (bounds.highest * 0.9 - bounds.lowest / 0.9),
    )


@pytest.mark.parametrize("unplanned", [False, True])
def test_half_full_energy_is_worth_what_the_day_is_to_cost(unplanned: bool) -> None:
    """A quantile of the day's own prices; the theory's worth does not know them."""
    policy = fitted(battery_quantile=0.25, load_quantile=0.75, unplanned=unplanned)
    for prices in (np.linspace(4.0, 11.0, 8), np.linspace(11.0, 32.0, 8)):
        settled = policy.community.tariff.settlement_prices(prices, prices)
        buys = settled.rt_buy if unplanned else settled.da_buy
        found = policy.queues(prices)
        for queue, store, quantile in ((found.battery, policy.battery, 0.25), (found.load, policy.load, 0.75)):
            middle = 0.5 * (store.low_kwh + store.high_kwh)
            np.testing.assert_allclose(queue.worth_ct_per_kwh(middle), np.quantile(buys, quantile))
    theory = fitted(theoretical=True)
    assert theory.queues(np.zeros(8)) is theory.queues(np.full(8, 30.0))


def quiet_slot(policy: Lyapunov, **changes: Any) -> Slot:
    """An hour in which nothing but the batteries can move, half full."""
    zero = np.zeros(2)
    slot = random_slot(np.random.default_rng(10), policy.community, last_hour=False, negative=False)
    return replace(
        slot, pv_kw=zero, soc_kwh=np.full(2, 105.0), backlog_kwh=zero, position_kw=zero, least_shiftable_kw=zero,
        most_shiftable_kw=zero, connection_peak_kw=zero, buy_ct_per_kwh=8.0, sell_ct_per_kwh=3.0,
        day_ahead_ct_per_kwh=np.full(8, 8.0), **changes,
    )  # fmt: skip


def test_an_import_below_the_expected_peak_is_not_charged_for() -> None:
    policy = fitted(peak_share=0.5, battery_quantile=0.5)
    slot = quiet_slot(policy, load_kw=np.array([4.0, 6.0]), usual_peak_kw=np.array([10.0, 15.0]))
    np.testing.assert_allclose(policy.rule(slot).battery_kw, 0.0, atol=1e-4)
    unusual = replace(slot, usual_peak_kw=np.array([10.0, 0.0]))
    np.testing.assert_allclose(policy.rule(unusual).battery_kw, [0.0, -6.0], atol=1e-3)


def test_theory_expects_no_peak() -> None:
    policy = fitted(theoretical=True)
    slot = quiet_slot(policy, load_kw=np.array([4.0, 6.0]), usual_peak_kw=np.array([10.0, 15.0]))
    expected = policy.rule(replace(slot, usual_peak_kw=np.zeros(2)))
    np.testing.assert_array_equal(policy.rule(slot).battery_kw, expected.battery_kw)


def test_hours_that_the_second_solver_had_to_solve_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, days = fitted(), small_days()
    row = int(days.days("dev")[0])
    gate = gate_observation(policy.community, days, row)
    hour = {
        **gate,
        "stage": np.ones(1),
        "load_kw": days.load_kw[row],
        "price_rt_ct_per_kwh": gate["price_da_ct_per_kwh"],
    }
    policy.reset(0)
    usual = policy.plan(gate)
    assert policy.fallbacks == {}
    ask = QuadraticProgram._ask

    def short(self: QuadraticProgram, solver: str) -> Any:
        status, _, *rest = ask(self, solver)
        return (status, solver != "piqp", *rest)

    monkeypatch.setattr(QuadraticProgram, "_ask", short)
    np.testing.assert_allclose(policy.plan(gate), usual, atol=1e-2)
    assert policy.fallbacks == {SOLVER_FELL_BACK: 8}
    policy.dispatch(hour)
    assert policy.fallbacks == {SOLVER_FELL_BACK: 9}
    policy.reset(0)
    assert policy.fallbacks == {}
    monkeypatch.setattr(
        QuadraticProgram, "_ask", lambda self, solver: (lambda raw: (raw[0], False, *raw[2:]))(ask(self, solver))
    )
    with pytest.raises(SolverError, match="no optimum within tolerance"):
        policy.dispatch(hour)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"battery_factor": 0.0}, "battery_factor is 0.0; V must be positive"),
        ({"load_factor": -2.0}, "load_factor is -2.0; V must be positive"),
        ({"battery_factor": float("nan")}, "V must be positive"),
        ({"battery_quantile": 1.2}, r"a quantile lies in 0 \.\.\. 1"),
        ({"battery_factor": float("inf")}, "V must be positive"),
        ({"load_factor": "2"}, "load_factor is '2'; it must be a number"),
        ({"load_quantile": float("nan")}, r"a quantile lies in 0 \.\.\. 1"),
        ({"peak_share": float("nan")}, "it must not be negative"),
        ({"peak_share": -0.1}, "peak_share is -0.1; it must not be negative"),
        ({"theoretical": True, "vanilla": True}, "choose one"),
        ({"theoretical": True, "battery_factor": 2.0}, "battery_factor belongs to the modified method"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Lyapunov(**options)


def test_settings_name_the_parameters_and_where_they_come_from() -> None:
    history = small_days().training_history()
    assert Lyapunov().tuned_settings(history) == {**Lyapunov.default_for(history), "parameters": "default"}
    asked = dict.fromkeys(Lyapunov.default_for(history), 0.5)
    assert Lyapunov(**asked).tuned_settings(history) == {**asked, "parameters": "as asked for"}
    assert Lyapunov(theoretical=True).tuned_settings(history) == {}


# replay


@pytest.mark.parametrize("options", [{}, {"unplanned": True}])
def test_a_replayed_day_costs_what_it_costs_in_the_environment(options: dict[str, bool]) -> None:
    days, community, policy = small_days(), small_community(), fitted(**options)
    for row in days.days("dev")[:3].tolist():
        plan = replay_day(policy, days, row, gate_observation(community, days, row))
        _, _, infos = play(policy, community, days, row)
        assert plan_cost_ct(plan, community, days, row) == pytest.approx(total_cost_ct(infos), rel=1e-6)


def test_tuning_judges_it_by_the_days_it_plays() -> None:
    days, community = small_days(), small_community()
    rows = days.days("train")
    run = Run(rows[:24], rows[24:27])
    parameters = {**Lyapunov.default_for(days), "battery_factor": 8.0}
    policy = Lyapunov(**parameters)
    policy.fit(community, days.subset(run.known))
    expected = [
        plan_cost_ct(replay_day(policy, days, row, gate_observation(community, days, row)), community, days, row)
        for row in run.judged.tolist()
    ]
    assert judge(Lyapunov, community, days, run, parameters) == expected
    assert "as played hour by hour" in criterion(Lyapunov)


def search(cost: Callable[[Parameters], float]) -> list[GridPoint]:
    """All that tuning tries where the parameters cost that."""
    points: list[GridPoint] = []
    todo = Lyapunov.candidates(100)
    assert Lyapunov.default_for(small_days()) in todo
    while todo:
        for point in todo:
            mean = round(cost(point), 3)
            points.append(GridPoint(parameters=point, mean_cost_ct=mean, behind_best_ct=0.0, standard_error_ct=0.0))
        todo = Lyapunov.refined(points)
    return points


@pytest.mark.parametrize(("factor", "share", "load"), [(2.5, 0.45, 1.0), (14.0, 0.9, 3.5), (0.6, 0.0, 0.3)])
def test_a_few_dozen_choices_lead_to_the_best(factor: float, share: float, load: float) -> None:
    wanted = {"battery_factor": factor, "battery_quantile": 0.6, "load_factor": load, "load_quantile": 0.7}

    def cost(point: Parameters) -> float:
        off = [
            np.log2(point[name] / value) if "factor" in name else point[name] - value for name, value in wanted.items()
        ]
        return 20000.0 + 50.0 * float(np.square([*off, 4.0 * (point["peak_share"] - share)]).sum())

    points = search(cost)
    tried = [tuple(point.parameters.items()) for point in points]
    assert len(set(tried)) == len(tried)
    assert len(tried) <= 60
    best = min(points, key=lambda point: point.mean_cost_ct).parameters
    assert abs(np.log2(best["battery_factor"] / factor)) <= 0.5
    assert abs(np.log2(best["load_factor"] / load)) <= 0.5
    assert best["peak_share"] == pytest.approx(share, abs=0.03)
    assert best["battery_quantile"] == pytest.approx(0.6, abs=0.11)
    for parameters in (dict(choice) for choice in tried):
        Lyapunov(**parameters)  # none is refused


def test_where_nothing_matters_the_search_ends() -> None:
    assert len(search(lambda _: 1.0)) <= 40


@pytest.mark.parametrize(
    "path", sorted((Path(tuned_module.__file__).parent / "tuned").glob("*/lyapunov.json")), ids=str
)
def test_the_packages_file_holds_the_whole_search_and_is_used(path: Path) -> None:
    file = load_tuned(path)
    assert [point for point in Lyapunov.refined(file.train) if point not in [p.parameters for p in file.train]] == []
    assert file.criterion == criterion(Lyapunov)
    assert file.train_days == Lyapunov.judged_days
    if file.dataset not in list_datasets():
        return
    community, policy = make_scenario("ieee33"), Lyapunov()
    history = staged(load_dataset(file.dataset), community).training_history()
    assert policy.tuned_settings(history)["parameters"] == f"{file.dataset}/lyapunov.json, the package's"
    policy.fit(community, history)
    assert policy.given == file.parameters


def test_both_boards_have_a_file() -> None:
    found = {path.parent.name for path in (Path(tuned_module.__file__).parent / "tuned").glob("*/lyapunov.json")}
    assert found >= {"tehran-v0", "cambridge-2018"}
