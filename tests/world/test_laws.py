"""Laws that hold whatever is wanted, on random communities, days and actions: more than 1e5 hours of communities.

Axes: B lanes, N prosumers, E edges, H hours, T cost terms; arrays are lanes-last.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from plain_world import PlainDay, bus_loads, power_flow, random_community, random_days, random_position, random_wants

from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import COST_TERMS, Simulator, State, StepResult

LANES = 250
DAYS = 5
EPISODE = 2
SEEDS = range(20)
TERM = {name: index for index, name in enumerate(COST_TERMS)}


@dataclasses.dataclass
class Hour:
    """What is known before and after an hour."""

    before: State
    wants: tuple[np.ndarray, ...]
    after: StepResult


@dataclasses.dataclass
class Played:
    community: Community
    exogenous: Exogenous
    hours: list[Hour]


def play(community: Community, exogenous: Exogenous, num_lanes: int, seed: int, days: int = EPISODE) -> Played:
    rng = np.random.default_rng(seed)
    simulator = Simulator(community, exogenous, num_lanes)
    simulator.reset(rng.integers(0, exogenous.num_days - days + 1, num_lanes), days_per_episode=days)
    hours = []
    for _ in range(days):
        simulator.commit(random_position(community, num_lanes, rng))
        for _ in range(community.hours_per_day):
            before, wants = simulator.state.copy(), random_wants(community, num_lanes, rng)
            hours.append(Hour(before, wants, simulator.step(*wants).copy()))
    assert hours[-1].after.done.all()
    return Played(community, exogenous, hours)


@pytest.fixture(scope="module", params=SEEDS)
def played(request: pytest.FixtureRequest) -> Played:
    community = random_community(request.param)
    return play(community, random_days(community, DAYS, request.param), LANES, request.param)


@pytest.fixture(scope="module", params=range(100, 104))
def played_default(request: pytest.FixtureRequest) -> Played:
    community = make_scenario("ieee33")
    return play(community, random_days(community, DAYS, request.param), 200, request.param)


def column(values: np.ndarray) -> np.ndarray:
    return values[:, None]


def of_hour(played: Played, hour: Hour, name: str) -> np.ndarray:
    """Exogenous figure of every lane [N,B] or [B]."""
    return getattr(played.exogenous, name)[hour.before.day, hour.before.hour].T


def test_enough_is_played() -> None:
    assert sum(random_community(seed).hours_per_day * EPISODE * LANES for seed in SEEDS) > 1e5


def test_net_import_is_position_and_realtime_and_trade(played: Played) -> None:
    for hour in played.hours:
        after, lanes = hour.after, np.arange(hour.before.hour.size)
        position = hour.before.position_kw[:, hour.before.hour, lanes]
        assert np.abs(position).max() <= played.community.fleet.position_limit_kw.max()
        np.testing.assert_allclose(after.net_import_kw, position + after.realtime_kw + after.p2p_kw, atol=1e-9)
        load, pv = of_hour(played, hour, "load_kw"), of_hour(played, hour, "pv_kw")
        balance = load - (pv - after.curtail_kw) + after.shiftable_kw + after.battery_kw
        np.testing.assert_allclose(after.net_import_kw, balance, atol=1e-9)
        np.testing.assert_allclose(after.exchange_kw, after.net_import_kw.sum(axis=0), atol=1e-9)


def test_the_substation_feeds_prosumers_passive_load_and_losses(played: Played) -> None:
    community = played.community
    for hour in played.hours:
        after = hour.after
        assert after.converged.all()
        passive = community.feeder.p_kw.sum() * of_hour(played, hour, "passive_pu")
        prosumers = (column(community.fleet.units) * after.net_import_kw).sum(axis=0)
        np.testing.assert_allclose(after.slack_kw, passive + prosumers + after.losses_kw, atol=1e-6)
        assert (after.losses_kw >= 0.0).all()


def test_voltages_are_those_of_the_ac_power_flow(played: Played) -> None:
    community, feeder = played.community, played.community.feeder
    for hour in played.hours[:: max(1, len(played.hours) // 4)]:
        after = hour.after
        consumed = of_hour(played, hour, "load_kw") + after.shiftable_kw
        v_pu, losses = power_flow(
            community, *bus_loads(community, of_hour(played, hour, "passive_pu"), after.net_import_kw, consumed)
        )
        np.testing.assert_allclose(after.v_pu, v_pu, atol=1e-9)
        np.testing.assert_allclose(after.losses_kw, losses, atol=1e-6)
        below, above = feeder.v_min_pu - after.v_pu, after.v_pu - feeder.v_max_pu
        excess = np.maximum(below, 0.0).sum(axis=0) + np.maximum(above, 0.0).sum(axis=0)
        np.testing.assert_allclose(after.voltage_excess_pu, excess, atol=1e-12)
        np.testing.assert_array_equal(after.violated_buses, ((below > 0.0) | (above > 0.0)).sum(axis=0))


def test_trade_creates_neither_energy_nor_money(played: Played) -> None:
    for hour in played.hours:
        np.testing.assert_allclose(hour.after.p2p_kw.sum(axis=0), 0.0, atol=1e-9)
        np.testing.assert_allclose(hour.after.cost_ct[TERM["p2p"]].sum(axis=0), 0.0, atol=1e-6)


def test_cash_goes_to_the_grid_and_the_operator(played: Played) -> None:
    """What the prosumers pay in the settlement is what the grid and the operator receive."""
    community, dt = played.community, played.community.dt_h
    for hour in played.hours:
        after, lanes = hour.after, np.arange(hour.before.hour.size)
        raw = (of_hour(played, hour, "price_da_ct_per_kwh"), of_hour(played, hour, "price_rt_ct_per_kwh"))
        price = community.tariff.settlement_prices(*raw)
        position = hour.before.position_kw[:, hour.before.hour, lanes]
        grid = (price.da_buy * np.maximum(position, 0.0) + price.da_sell * np.minimum(position, 0.0)).sum(axis=0)
        grid += (price.rt_buy * np.maximum(after.realtime_kw, 0.0)).sum(axis=0)
        grid += (price.rt_sell * np.minimum(after.realtime_kw, 0.0)).sum(axis=0)
        operator = (column(community.graph.fee_ct_per_kwh) * np.abs(after.trade_kw)).sum(axis=0)
        cash = after.cost_ct[[TERM[name] for name in ("day_ahead", "real_time", "p2p", "p2p_fee")]].sum(axis=(0, 1))
        np.testing.assert_allclose(cash, dt * (grid + operator), atol=1e-6)


def test_trades_are_reciprocal_within_limits_and_of_own_generation(played: Played) -> None:
    graph = played.community.graph
    for hour in played.hours:
        after = hour.after
        bought = np.zeros_like(after.p2p_kw)
        sold = np.zeros_like(after.p2p_kw)
        for e, (first, second) in enumerate(zip(graph.first, graph.second, strict=True)):
            trade = after.trade_kw[e]
            assert (np.abs(trade) <= graph.limit_kw[e]).all()
            for n, power in ((first, trade), (second, -trade)):
                bought[n] += np.maximum(power, 0.0)
                sold[n] += np.maximum(-power, 0.0)
        np.testing.assert_allclose(after.p2p_kw, bought - sold, atol=1e-9)
        assert (sold <= of_hour(played, hour, "pv_kw") - after.curtail_kw + 1e-9).all()


def test_nobody_trades_against_the_offer(played: Played) -> None:
    num_edges = played.community.num_edges
    for hour in played.hours:
        first, second = hour.wants[3][:num_edges], hour.wants[3][num_edges:]
        trade = hour.after.trade_kw
        assert (np.maximum(trade, 0.0) <= np.minimum(np.maximum(first, 0.0), np.maximum(-second, 0.0))).all()
        assert (np.maximum(-trade, 0.0) <= np.minimum(np.maximum(-first, 0.0), np.maximum(second, 0.0))).all()


def test_state_of_charge_follows_its_recursion_within_bounds(played: Played) -> None:
    fleet, dt = played.community.fleet, played.community.dt_h
    eta_c, eta_d = column(fleet.charge_efficiency), column(fleet.discharge_efficiency)
    for hour in played.hours:
        after = hour.after
        charge, discharge = np.maximum(after.battery_kw, 0.0), np.maximum(-after.battery_kw, 0.0)
        expected = hour.before.soc_kwh + dt * (eta_c * charge - discharge / eta_d)
        np.testing.assert_allclose(after.soc_kwh, expected, atol=1e-9)
        assert (after.soc_kwh >= column(fleet.soc_min_kwh)).all()
        assert (after.soc_kwh <= column(fleet.soc_max_kwh)).all()
        assert (np.abs(after.battery_kw) <= column(fleet.battery_power_kw)).all()


def test_shiftable_energy_of_each_day_is_delivered(played: Played) -> None:
    community, num_hours = played.community, played.community.hours_per_day
    fleet, dt = community.fleet, community.dt_h
    for day in range(EPISODE):
        hours = played.hours[day * num_hours : (day + 1) * num_hours]
        rows = hours[0].before.day
        assert (hours[0].before.backlog_kwh == 0.0).all()
        backlog = np.zeros_like(hours[0].before.backlog_kwh)
        for hour in hours:
            after = hour.after
            assert (after.shiftable_kw >= 0.0).all()
            assert (after.shiftable_kw <= column(fleet.shiftable_power_kw)).all()
            backlog += dt * (after.shiftable_kw - of_hour(played, hour, "shiftable_ref_kw"))
            np.testing.assert_allclose(after.backlog_kwh, backlog, atol=1e-9)
            assert (after.backlog_kwh >= column(fleet.backlog_min_kwh)).all()
            assert (after.backlog_kwh <= column(fleet.backlog_max_kwh)).all()
        delivered = dt * sum(hour.after.shiftable_kw for hour in hours)
        due = dt * played.exogenous.shiftable_ref_kw[rows].sum(axis=1).T
        np.testing.assert_allclose(delivered, due, atol=1e-8)
        assert (hours[-1].after.backlog_kwh == 0.0).all()


def test_feasible_wants_are_granted_and_the_rest_is_counted(played: Played) -> None:
    """What was played, wanted again from the same state, is played unchanged and nothing counts as clipped."""
    community, num_edges = played.community, played.community.num_edges
    for hour in played.hours[:6]:
        before, after = hour.before, hour.after
        again = Simulator(community, played.exogenous, before.hour.size)
        again.restore(before)
        offer = np.zeros((2 * num_edges, before.hour.size))
        offer[:num_edges], offer[num_edges:] = after.trade_kw, -after.trade_kw
        result = again.step(after.battery_kw, after.shiftable_kw, after.curtail_kw, offer)
        assert (result.clipped == 0).all()
        for name in ("battery_kw", "shiftable_kw", "curtail_kw", "trade_kw", "net_import_kw"):
            np.testing.assert_allclose(getattr(result, name), getattr(after, name), atol=1e-9, err_msg=name)
        battery, shiftable, curtail, wanted_offer = hour.wants
        changed = sum(
            (np.abs(done - wanted) > 1e-9).sum(axis=0)
            for done, wanted in (
                (after.battery_kw, battery), (after.shiftable_kw, shiftable), (after.curtail_kw, curtail),
            )
        )  # fmt: skip
        assert (after.clipped >= changed).all()
        assert (after.clipped <= changed + 2 * num_edges).all()
        limit = np.concatenate((community.graph.limit_kw, community.graph.limit_kw))
        assert (after.clipped >= changed + (np.abs(wanted_offer) > column(limit) + 1e-9).sum(axis=0)).all()


def test_demand_charge_telescopes_to_the_peak_of_each_day(played: Played) -> None:
    num_hours, delta = played.community.hours_per_day, played.community.tariff.demand_charge_ct_per_kw
    for day in range(EPISODE):
        hours = [hour.after for hour in played.hours[day * num_hours : (day + 1) * num_hours]]
        charged = sum(after.cost_ct[TERM["demand_charge"]] for after in hours)
        peak = np.maximum(np.max([after.net_import_kw for after in hours], axis=0), 0.0)
        np.testing.assert_allclose(charged, delta * peak, atol=1e-8)
        rises = sum(after.peak_increase_kw for after in hours)
        np.testing.assert_allclose(rises, np.maximum(np.max([a.exchange_kw for a in hours], axis=0), 0.0), atol=1e-9)


def test_terminal_term_is_booked_once_at_the_end(played: Played) -> None:
    for hour in played.hours[:-1]:
        assert (hour.after.cost_ct[TERM["terminal_soc"]] == 0.0).all()
    community, last = played.community, played.hours[-1]
    prices = played.exogenous.price_da_ct_per_kwh[last.before.day]
    missing, left = community.tariff.terminal_values(
        prices, community.fleet.charge_efficiency, community.fleet.discharge_efficiency
    )
    change = (last.after.soc_kwh - column(community.fleet.soc_initial_kwh)).T
    expected = missing * np.maximum(-change, 0.0) - left * np.maximum(change, 0.0)
    np.testing.assert_allclose(last.after.cost_ct[TERM["terminal_soc"]].T, expected, atol=1e-9)


def test_community_cost_is_the_sum_of_everybodys_terms(played: Played) -> None:
    for hour in played.hours:
        np.testing.assert_allclose(hour.after.community_cost_ct, hour.after.cost_ct.sum(axis=(0, 1)), atol=1e-7)


def test_everything_is_finite(played: Played) -> None:
    for hour in played.hours:
        for item in dataclasses.fields(StepResult):
            assert np.isfinite(getattr(hour.after, item.name)).all(), item.name


def test_laws_hold_for_the_default_community(played_default: Played) -> None:
    test_net_import_is_position_and_realtime_and_trade(played_default)
    test_the_substation_feeds_prosumers_passive_load_and_losses(played_default)
    test_trade_creates_neither_energy_nor_money(played_default)
    test_cash_goes_to_the_grid_and_the_operator(played_default)
    test_trades_are_reciprocal_within_limits_and_of_own_generation(played_default)
    test_state_of_charge_follows_its_recursion_within_bounds(played_default)
    test_shiftable_energy_of_each_day_is_delivered(played_default)
    test_demand_charge_telescopes_to_the_peak_of_each_day(played_default)


@pytest.mark.parametrize("seed", range(12))
def test_every_figure_agrees_with_the_rules_in_plain_python(seed: int) -> None:
    community = random_community(seed)
    exogenous = random_days(community, DAYS, seed)
    played = play(community, exogenous, 2, seed)
    for lane in range(2):
        soc = list(community.fleet.soc_initial_kwh)
        for day in range(EPISODE):
            hours = played.hours[day * community.hours_per_day : (day + 1) * community.hours_per_day]
            before = hours[0].before
            plain = PlainDay(
                community, exogenous, int(before.day[lane]), before.position_kw[:, :, lane], soc, day == EPISODE - 1
            )
            for hour in hours:
                expected = plain.play(*(want[:, lane] for want in hour.wants))
                for item in dataclasses.fields(expected):
                    np.testing.assert_allclose(
                        getattr(hour.after, item.name)[..., lane],
                        getattr(expected, item.name),
                        atol=1e-8,
                        err_msg=f"{item.name}, hour {int(hour.before.hour[lane])}",
                    )
            soc = plain.soc_kwh


@pytest.mark.parametrize("seed", range(6))
def test_buying_day_ahead_to_sell_in_real_time_never_profits(seed: int) -> None:
    """Nor the reverse: any position that differs from what is then used costs at least as much as none."""
    community = random_community(seed)
    exogenous = random_days(community, DAYS, seed)
    raw = (exogenous.price_da_ct_per_kwh, exogenous.price_rt_ct_per_kwh)
    price = community.tariff.settlement_prices(*raw)
    assert (price.rt_sell <= price.da_sell).all()
    assert (price.da_sell <= price.da_buy).all()
    assert (price.da_buy <= price.rt_buy).all()
    rng = np.random.default_rng(seed)
    num_lanes = 64
    days = rng.integers(0, DAYS, num_lanes)
    used_kw = (
        exogenous.load_kw - exogenous.pv_kw + exogenous.shiftable_ref_kw
    )[days].transpose(2, 1, 0)  # [N,H,B] what is drawn whatever the position  # fmt: skip
    limit = community.fleet.position_limit_kw[:, None, None]
    exact_kw = np.clip(used_kw, -limit, limit)
    speculation_kw = rng.choice([-1.0, 1.0], exact_kw.shape) * rng.uniform(0.0, 20.0, exact_kw.shape)

    def energy_ct(position_kw: np.ndarray) -> np.ndarray:
        simulator = Simulator(community, exogenous, num_lanes)
        simulator.reset(days)
        simulator.commit(position_kw)
        zeros = np.zeros((community.num_prosumers, num_lanes))
        paid = np.zeros((community.num_prosumers, num_lanes))
        for hour in range(community.hours_per_day):
            shiftable = exogenous.shiftable_ref_kw[days, hour].T
            result = simulator.step(zeros, shiftable, zeros, np.zeros((2 * community.num_edges, num_lanes)))
            paid += result.cost_ct[TERM["day_ahead"]] + result.cost_ct[TERM["real_time"]]
        return paid.copy()

    assert (energy_ct(exact_kw + speculation_kw) >= energy_ct(exact_kw) - 1e-9).all()


@pytest.mark.parametrize("seed", range(6))
def test_prosumers_may_change_places(seed: int) -> None:
    community = random_community(seed)
    exogenous = random_days(community, DAYS, seed)
    rng = np.random.default_rng(seed)
    num, num_edges, num_lanes = community.num_prosumers, community.num_edges, 20
    order = rng.permutation(num)  # new place n holds old prosumer order[n]
    place = np.argsort(order)
    fleet = Fleet(**{item.name: getattr(community.fleet, item.name)[order] for item in dataclasses.fields(Fleet)})
    ends = np.stack((place[community.graph.first], place[community.graph.second]))
    turned = ends[0] > ends[1]
    graph = TradeGraph(
        ends.min(axis=0), ends.max(axis=0), community.graph.limit_kw, community.graph.fee_ct_per_kwh
    )  # fmt: skip
    moved = community.replace(fleet=fleet, graph=graph)
    moved_days = Exogenous(
        exogenous.load_kw[..., order],
        exogenous.pv_kw[..., order],
        exogenous.shiftable_ref_kw[..., order],
        exogenous.price_da_ct_per_kwh,
        exogenous.price_rt_ct_per_kwh,
        exogenous.passive_pu,
    )
    one, other = Simulator(community, exogenous, num_lanes), Simulator(moved, moved_days, num_lanes)
    days = rng.integers(0, DAYS, num_lanes)
    position = random_position(community, num_lanes, rng)
    for simulator, where in ((one, np.arange(num)), (other, order)):
        simulator.reset(days)
        simulator.commit(position[where])
    for _ in range(community.hours_per_day):
        battery, shiftable, curtail, offer = random_wants(community, num_lanes, rng)
        a = one.step(battery, shiftable, curtail, offer)
        first = np.where(turned[:, None], offer[num_edges:], offer[:num_edges])
        second = np.where(turned[:, None], offer[:num_edges], offer[num_edges:])
        b = other.step(battery[order], shiftable[order], curtail[order], np.concatenate((first, second)))
        np.testing.assert_allclose(b.cost_ct, a.cost_ct[:, order], atol=1e-8)
        np.testing.assert_allclose(b.v_pu, a.v_pu, atol=1e-9)
        np.testing.assert_allclose(b.community_cost_ct, a.community_cost_ct, atol=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_money_scales_with_prices(seed: int) -> None:
    """All prices, charges and coefficients times two: every cost times two, the physics to the bit as before."""
    community = random_community(seed)
    exogenous = random_days(community, DAYS, seed)
    fleet, tariff, graph = community.fleet, community.tariff, community.graph
    dear = community.replace(
        fleet=dataclasses.replace(
            fleet,
            **{
                name: 2.0 * getattr(fleet, name)
                for name in (item.name for item in dataclasses.fields(Fleet))
                if "_ct_" in name
            },
        ),
        graph=dataclasses.replace(graph, fee_ct_per_kwh=2.0 * graph.fee_ct_per_kwh),
        tariff=dataclasses.replace(
            tariff,
            rt_buy_margin_ct_per_kwh=2.0 * tariff.rt_buy_margin_ct_per_kwh,
            rt_sell_margin_ct_per_kwh=2.0 * tariff.rt_sell_margin_ct_per_kwh,
            demand_charge_ct_per_kw=2.0 * tariff.demand_charge_ct_per_kw,
        ),
    )
    dear_days = dataclasses.replace(
        exogenous,
        price_da_ct_per_kwh=2.0 * exogenous.price_da_ct_per_kwh,
        price_rt_ct_per_kwh=2.0 * exogenous.price_rt_ct_per_kwh,
    )
    for cheap, double in zip(
        play(community, exogenous, 10, seed).hours, play(dear, dear_days, 10, seed).hours, strict=True
    ):
        np.testing.assert_allclose(double.after.cost_ct, 2.0 * cheap.after.cost_ct, atol=1e-9)
        np.testing.assert_array_equal(double.after.v_pu, cheap.after.v_pu)


@pytest.mark.parametrize("seed", range(6))
def test_prosumers_of_twice_the_size_cost_twice_as_much(seed: int) -> None:
    """All powers and energies times two, quadratic coefficients by two; the feeder is another matter."""
    community = random_community(seed)
    exogenous = random_days(community, DAYS, seed)
    names = [item.name for item in dataclasses.fields(Fleet)]
    sized = {name: 2.0 * getattr(community.fleet, name) for name in names if name.endswith(("_kw", "_kwh"))}
    sized = {name: values for name, values in sized.items() if "_ct_" not in name}
    curved = {name: 0.5 * getattr(community.fleet, name) for name in names if "_quadratic_" in name}
    large = community.replace(
        fleet=dataclasses.replace(community.fleet, **sized, **curved),
        graph=dataclasses.replace(community.graph, limit_kw=2.0 * community.graph.limit_kw),
    )
    large_days = dataclasses.replace(
        exogenous,
        load_kw=2.0 * exogenous.load_kw,
        pv_kw=2.0 * exogenous.pv_kw,
        shiftable_ref_kw=2.0 * exogenous.shiftable_ref_kw,
    )
    rng = np.random.default_rng(seed)
    one, other = Simulator(community, exogenous, 20), Simulator(large, large_days, 20)
    days, position = rng.integers(0, DAYS, 20), random_position(community, 20, rng)
    for simulator, scale in ((one, 1.0), (other, 2.0)):
        simulator.reset(days)
        simulator.commit(scale * position)
    for _ in range(community.hours_per_day):
        wants = random_wants(community, 20, rng)
        a, b = one.step(*wants), other.step(*(2.0 * want for want in wants))
        np.testing.assert_allclose(b.cost_ct, 2.0 * a.cost_ct, atol=1e-7)
        np.testing.assert_allclose(b.soc_kwh, 2.0 * a.soc_kwh, atol=1e-9)


def test_more_units_at_a_node_load_the_feeder_and_change_nobodys_cost() -> None:
    community = random_community(2)
    exogenous = random_days(community, DAYS, 2)
    doubled = community.replace(fleet=dataclasses.replace(community.fleet, units=2 * community.fleet.units))
    moved = 0.0
    for a, b in zip(play(community, exogenous, 10, 2).hours, play(doubled, exogenous, 10, 2).hours, strict=True):
        np.testing.assert_array_equal(a.after.cost_ct, b.after.cost_ct)
        extra = (column(community.fleet.units) * a.after.net_import_kw).sum(axis=0)
        delivered = (b.after.slack_kw - b.after.losses_kw) - (a.after.slack_kw - a.after.losses_kw)
        np.testing.assert_allclose(delivered, extra, atol=1e-6)
        moved = max(moved, float(np.abs(a.after.v_pu - b.after.v_pu).max()))
    assert moved > 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_half_hours_cost_what_hours_cost_when_costs_are_linear(seed: int) -> None:
    """Every hour played twice as two halves: the same cost, the same voltages (quadratic terms would differ)."""
    hourly = random_community(seed, hours_per_day=24, linear=True)
    halved = hourly.replace(hours_per_day=48)
    exogenous = random_days(hourly, DAYS, seed)
    halves = Exogenous(*(np.repeat(getattr(exogenous, f.name), 2, axis=1) for f in dataclasses.fields(Exogenous)))
    rng = np.random.default_rng(seed)
    num_lanes = 10
    days = rng.integers(0, DAYS, num_lanes)
    position = random_position(hourly, num_lanes, rng)
    whole, half = Simulator(hourly, exogenous, num_lanes), Simulator(halved, halves, num_lanes)
    whole.reset(days)
    half.reset(days)
    whole.commit(position)
    half.commit(np.repeat(position, 2, axis=1))
    for _ in range(24):
        wants = random_wants(hourly, num_lanes, rng)
        a = whole.step(*wants)
        feasible = (a.battery_kw, a.shiftable_kw, a.curtail_kw, wants[3])
        first = half.step(*feasible).copy()
        second = half.step(*feasible).copy()
        np.testing.assert_allclose(first.cost_ct + second.cost_ct, a.cost_ct, atol=1e-7)
        np.testing.assert_allclose(first.v_pu, a.v_pu, atol=1e-9)
        np.testing.assert_allclose(second.v_pu, a.v_pu, atol=1e-9)
        np.testing.assert_allclose(second.soc_kwh, a.soc_kwh, atol=1e-8)


def test_a_round_trip_through_the_battery_loses_what_the_efficiencies_say() -> None:
    community = make_scenario("ieee33")
    exogenous = random_days(community, 1, 0)
    simulator = Simulator(community, exogenous, 1)
    simulator.reset(0)
    simulator.commit(np.zeros((10, 24, 1)))
    rest, offers = np.zeros((10, 1)), np.zeros((30, 1))

    def run(power_kw: float) -> np.ndarray:
        return simulator.step(rest + power_kw, rest, rest, offers).battery_kw.copy()

    charged = run(10.0)
    returned = run(-10.0 * 0.9 * 0.9)
    np.testing.assert_allclose(simulator.state.soc_kwh, 100.0, atol=1e-9)
    np.testing.assert_allclose(-returned / charged, 0.9 * 0.9, atol=1e-12)
