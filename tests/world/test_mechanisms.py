"""The market mechanisms on random communities: laws that hold whatever is offered, and independent references.

Axes: B lanes, N prosumers, E edges, M numbers that an hour's offers consist of; arrays are lanes-last.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from plain_world import PlainDay, random_community, random_days, random_position, random_wants
from scipy.optimize import linprog

from prosumer_gym.community import Community, Fleet, SettlementPrices, TradeGraph
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import COST_TERMS, Simulator, State, StepResult

TERM = {name: index for index, name in enumerate(COST_TERMS)}
POOLS = [name for name in MECHANISMS if name != "bilateral"]
SEEDS = range(8)
LANES, DAYS = 120, 4


@dataclasses.dataclass
class Hour:
    """What is known before and after an hour; no offers is central trade."""

    before: State
    offers: np.ndarray | None
    after: StepResult


@dataclasses.dataclass
class Market:
    community: Community
    exogenous: Exogenous
    hours: list[Hour]

    def of(self, hour: Hour, name: str) -> np.ndarray:
        """Exogenous figure of every lane [N,B] or [B]."""
        return getattr(self.exogenous, name)[hour.before.day, hour.before.hour].T

    def prices(self, hour: Hour) -> SettlementPrices:
        raw = (self.of(hour, "price_da_ct_per_kwh"), self.of(hour, "price_rt_ct_per_kwh"))
        return self.community.tariff.settlement_prices(*raw)


def open_market(community: Community, seed: int, *, central: bool, num_lanes: int = LANES) -> Market:
    exogenous = random_days(community, DAYS, seed)
    rng = np.random.default_rng(seed)
    simulator = Simulator(community, exogenous, num_lanes)
    simulator.reset(rng.integers(0, DAYS, num_lanes))
    simulator.commit(random_position(community, num_lanes, rng))
    hours = []
    for _ in range(community.hours_per_day):
        before, (*equipment, offers) = simulator.state.copy(), random_wants(community, num_lanes, rng)
        result = simulator.step(*equipment, None if central else offers)
        hours.append(Hour(before, None if central else offers, result.copy()))
    return Market(community, exogenous, hours)


@pytest.fixture(scope="module", params=[(m, s, c) for m in MECHANISMS for s in SEEDS for c in (False, True)])
def market(request: pytest.FixtureRequest) -> Market:
    mechanism, seed, central = request.param
    community = random_community(seed, hours_per_day=6).replace(mechanism=mechanism)
    return open_market(community, seed, central=central)


def column(values: np.ndarray) -> np.ndarray:
    return values[:, None]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("central", [False, True])
def test_there_is_trade_to_speak_of(mechanism: str, central: bool) -> None:
    traded = 0
    for seed in SEEDS:
        community = random_community(seed, hours_per_day=6).replace(mechanism=mechanism)
        market = open_market(community, seed, central=central)
        traded += sum(int((np.abs(hour.after.p2p_kw) > 0.1).any(axis=0).sum()) for hour in market.hours)
    assert traded > 1000


def test_trade_makes_no_energy_and_sells_only_generation(market: Market) -> None:
    community = market.community
    limit_kw = column(community.pool_limit_kw)
    for hour in market.hours:
        after = hour.after
        np.testing.assert_allclose(after.p2p_kw.sum(axis=0), 0.0, atol=1e-9)
        assert (-after.p2p_kw <= market.of(hour, "pv_kw") - after.curtail_kw + 1e-9).all()
        assert (np.abs(after.p2p_kw) <= limit_kw + 1e-9).all()
        if community.mechanism != "bilateral":
            assert not after.trade_kw.any()
            if hour.offers is not None:  # with the order, never beyond it
                order = hour.offers[: community.num_prosumers]
                assert (after.p2p_kw <= np.maximum(order, 0.0) + 1e-9).all()
                assert (after.p2p_kw >= np.minimum(order, 0.0) - 1e-9).all()
        position = hour.before.position_kw[:, hour.before.hour, np.arange(LANES)]
        np.testing.assert_allclose(after.net_import_kw, position + after.realtime_kw + after.p2p_kw, atol=1e-9)


def test_trade_makes_no_money(market: Market) -> None:
    """Payments cancel at one price, the fees are the operator's, and all else is paid to the grid."""
    community, dt = market.community, market.community.dt_h
    for hour in market.hours:
        after, price = hour.after, market.prices(hour)
        cost = {name: after.cost_ct[index] for name, index in TERM.items()}
        np.testing.assert_allclose(cost["p2p"], dt * after.p2p_price_ct_per_kwh * after.p2p_kw, atol=1e-9)
        np.testing.assert_allclose(cost["p2p"].sum(axis=0), 0.0, atol=1e-6)
        if community.mechanism == "bilateral":
            fees = (column(community.graph.fee_ct_per_kwh) * np.abs(after.trade_kw)).sum(axis=0)
        else:
            half = column(0.5 * community.pool_fee_ct_per_kwh)
            np.testing.assert_allclose(cost["p2p_fee"], dt * half * np.abs(after.p2p_kw), atol=1e-9)
            fees = (half * np.abs(after.p2p_kw)).sum(axis=0)
        position = hour.before.position_kw[:, hour.before.hour, np.arange(LANES)]
        grid = sum(
            np.where(power > 0.0, buy, sell) * power
            for power, buy, sell in (
                (position, price.da_buy, price.da_sell),
                (after.realtime_kw, price.rt_buy, price.rt_sell),
            )
        ).sum(axis=0)
        cash = sum(cost[name] for name in ("day_ahead", "real_time", "p2p", "p2p_fee")).sum(axis=0)
        np.testing.assert_allclose(cash, dt * (grid + fees), atol=1e-6)


def test_the_price_lies_between_what_the_grid_pays_and_asks(market: Market) -> None:
    for hour in market.hours:
        after, price = hour.after, market.prices(hour)
        assert (after.p2p_price_ct_per_kwh >= price.da_sell - 1e-12).all()
        assert (after.p2p_price_ct_per_kwh <= price.da_buy + 1e-12).all()
        idle = ~after.p2p_kw.any(axis=0)
        np.testing.assert_allclose(after.p2p_price_ct_per_kwh[idle], price.p2p[idle], atol=1e-12)


def test_central_trade_stays_within_what_is_over_and_lacks(market: Market) -> None:
    for hour in market.hours:
        if hour.offers is None:
            after = hour.after
            position = hour.before.position_kw[:, hour.before.hour, np.arange(LANES)]
            residual = after.net_import_kw - position
            assert (after.p2p_kw <= np.maximum(residual, 0.0) + 1e-12).all()
            assert (after.p2p_kw >= np.minimum(residual, 0.0) - 1e-12).all()


def energy_ct(market: Market, hour: Hour, *, with_trade: bool, with_fee: bool) -> np.ndarray:
    """What everybody pays for an hour's energy as it was, or had it not traded [N,B]."""
    price, after = market.prices(hour), hour.after
    if with_trade:
        terms = ("real_time", "p2p", "p2p_fee") if with_fee else ("real_time", "p2p")
        return after.cost_ct[[TERM[name] for name in terms]].sum(axis=0)
    power = after.realtime_kw + after.p2p_kw
    return market.community.dt_h * np.where(power > 0.0, price.rt_buy, price.rt_sell) * power


def test_central_trade_leaves_nobody_worse_off(market: Market) -> None:
    for hour in market.hours:
        if hour.offers is None:
            traded = energy_ct(market, hour, with_trade=True, with_fee=False)
            assert (traded <= energy_ct(market, hour, with_trade=False, with_fee=False) + 1e-9).all()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_nor_do_the_fees_of_the_scenario(mechanism: str) -> None:
    """The margins of its real-time prices exceed half the fee."""
    market = open_market(make_scenario("ieee33").replace(mechanism=mechanism), 0, central=True)
    gain = 0.0
    for hour in market.hours:
        traded = energy_ct(market, hour, with_trade=True, with_fee=True)
        alone = energy_ct(market, hour, with_trade=False, with_fee=True)
        assert (traded <= alone + 1e-9).all()
        gain += float((alone - traded).sum())
    assert gain > 0.0


def worth_of(market: Market, hour: Hour) -> np.ndarray:
    """Limit prices of an auction's orders, ct/kWh [N,B]."""
    assert hour.offers is not None
    price, limit = market.prices(hour), np.clip(hour.offers[market.community.num_prosumers :], -1.0, 1.0)
    return price.da_sell + (limit + 1.0) / 2.0 * (price.da_buy - price.da_sell)


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_in_an_auction_trades_beyond_its_limit_price(seed: int) -> None:
    community = random_community(seed, hours_per_day=6).replace(mechanism="double-auction")
    market = open_market(community, seed, central=False)
    for hour in market.hours:
        price, worth = hour.after.p2p_price_ct_per_kwh, worth_of(market, hour)
        buys, sells = hour.after.p2p_kw > 1e-9, hour.after.p2p_kw < -1e-9
        assert (price <= worth + 1e-12)[buys].all()
        assert (price >= worth - 1e-12)[sells].all()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_auction_has_the_largest_surplus_and_of_those_the_largest_volume(seed: int) -> None:
    """Against linear programs of the orders that are feasible."""
    community = random_community(seed, hours_per_day=6).replace(mechanism="double-auction")
    market = open_market(community, seed, central=False, num_lanes=LANES)
    limit_kw = community.pool_limit_kw
    for hour in market.hours[:3]:
        after, worth = hour.after, worth_of(market, hour)
        assert hour.offers is not None
        generated = market.of(hour, "pv_kw") - after.curtail_kw
        for lane in range(0, LANES, 8):
            order = np.clip(hour.offers[: len(limit_kw), lane], -np.minimum(limit_kw, generated[:, lane]), limit_kw)
            bounds = [(min(o, 0.0), max(o, 0.0)) for o in order]
            value, traded = worth[:, lane], after.p2p_kw[:, lane]
            balance = np.ones((1, len(order)))
            best = linprog(-value, A_eq=balance, b_eq=[0.0], bounds=bounds)
            np.testing.assert_allclose(value @ traded, -best.fun, atol=1e-7)
            most = linprog(
                -np.sign(order), A_ub=-value[None], b_ub=[best.fun + 1e-7], A_eq=balance, b_eq=[0.0], bounds=bounds
            )
            np.testing.assert_allclose(np.abs(traded).sum(), -most.fun, atol=1e-3)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_plain_rules_say_the_same(mechanism: str, central: bool, seed: int) -> None:
    community = random_community(seed, hours_per_day=6).replace(mechanism=mechanism)
    exogenous = random_days(community, DAYS, seed)
    rng = np.random.default_rng(seed)
    days, position = rng.integers(0, DAYS, 9), random_position(community, 9, rng)
    simulator = Simulator(community, exogenous, 9)
    simulator.reset(days)
    simulator.commit(position)
    plain = [
        PlainDay(
            community, exogenous, int(days[lane]), simulator.state.position_kw[:, :, lane].copy(),
            community.fleet.soc_initial_kwh.tolist(),
        )
        for lane in range(9)
    ]  # fmt: skip
    for _ in range(community.hours_per_day):
        *equipment, offers = random_wants(community, 9, rng)
        result = simulator.step(*equipment, None if central else offers)
        for lane, day in enumerate(plain):
            expected = day.play(*(want[:, lane] for want in equipment), None if central else offers[:, lane])
            for name in ("p2p_kw", "trade_kw", "realtime_kw", "cost_ct", "p2p_price_ct_per_kwh"):
                np.testing.assert_allclose(
                    getattr(result, name)[..., lane], getattr(expected, name), atol=1e-8, err_msg=name
                )


@pytest.mark.parametrize("mechanism", POOLS)
@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_prosumers_of_a_pool_may_change_places(mechanism: str, central: bool, seed: int) -> None:
    community = random_community(seed, hours_per_day=6).replace(mechanism=mechanism)
    exogenous = random_days(community, DAYS, seed)
    rng = np.random.default_rng(seed)
    num, num_lanes = community.num_prosumers, 20
    order = rng.permutation(num)
    place = np.argsort(order)
    ends = np.sort(np.stack((place[community.graph.first], place[community.graph.second])), axis=0)
    moved = community.replace(
        fleet=Fleet(**{f.name: getattr(community.fleet, f.name)[order] for f in dataclasses.fields(Fleet)}),
        graph=dataclasses.replace(community.graph, first=ends[0], second=ends[1]),
    )
    by_prosumer = {name: getattr(exogenous, name)[..., order] for name in ("load_kw", "pv_kw", "shiftable_ref_kw")}
    one = Simulator(community, exogenous, num_lanes)
    other = Simulator(moved, dataclasses.replace(exogenous, **by_prosumer), num_lanes)
    days, position = rng.integers(0, DAYS, num_lanes), random_position(community, num_lanes, rng)
    for simulator, where in ((one, np.arange(num)), (other, order)):
        simulator.reset(days)
        simulator.commit(position[where])
    for _ in range(community.hours_per_day):
        *equipment, offers = random_wants(community, num_lanes, rng)
        moved_offers = offers.reshape(-1, num, num_lanes)[:, order].reshape(offers.shape)
        a = one.step(*equipment, None if central else offers)
        b = other.step(*(want[order] for want in equipment), None if central else moved_offers)
        np.testing.assert_allclose(b.p2p_price_ct_per_kwh, a.p2p_price_ct_per_kwh, atol=1e-9)
        np.testing.assert_allclose(b.p2p_kw, a.p2p_kw[order], atol=1e-9)
        np.testing.assert_allclose(b.cost_ct, a.cost_ct[:, order], atol=1e-8)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("central", [False, True])
def test_results_do_not_depend_on_batch_place_or_threads(mechanism: str, central: bool) -> None:
    community = make_scenario("ieee33").replace(mechanism=mechanism)
    exogenous = random_days(community, DAYS, 0)
    rng = np.random.default_rng(1)
    num_lanes = 300
    days, position = rng.integers(0, DAYS, num_lanes), random_position(community, num_lanes, rng)
    wants = [random_wants(community, num_lanes, rng) for _ in range(6)]

    def play(lanes: np.ndarray, threads: int = 1) -> list[StepResult]:
        simulator = Simulator(community, exogenous, lanes.size, threads=threads)
        simulator.reset(days[lanes])
        simulator.commit(position[:, :, lanes])
        return [
            simulator.step(*(want[:, lanes] for want in hour[:3]), None if central else hour[3][:, lanes]).copy()
            for hour in wants
        ]

    everyone = np.arange(num_lanes)
    together = play(everyone)
    trials = [(everyone, 3), (rng.permutation(num_lanes), 1), (everyone[100:105], 1)]
    trials += [(everyone[n : n + 1], 1) for n in range(0, num_lanes, 40)]
    for lanes, threads in trials:
        for one, other in zip(together, play(lanes, threads), strict=True):
            for item in dataclasses.fields(StepResult):
                values = getattr(one, item.name)[..., lanes]
                np.testing.assert_array_equal(values, getattr(other, item.name), err_msg=item.name)


@pytest.mark.parametrize("mechanism", POOLS)
def test_what_was_traded_can_be_ordered(mechanism: str) -> None:
    """Orders for what a pool traded are granted and count as unchanged; larger ones may not be."""
    community = make_scenario("ieee33").replace(mechanism=mechanism)
    market = open_market(community, 3, central=False)
    limit_kw = column(community.pool_limit_kw)
    for hour in market.hours[:4]:
        after = hour.after
        again = Simulator(community, market.exogenous, LANES)
        again.restore(hour.before)
        offers = np.zeros((community.num_offers, LANES))
        offers[:10] = after.p2p_kw
        if mechanism == "double-auction":
            offers[10:] = np.sign(after.p2p_kw)
        result = again.step(after.battery_kw, after.shiftable_kw, after.curtail_kw, offers)
        assert (result.clipped == 0).all()
        np.testing.assert_allclose(result.p2p_kw, after.p2p_kw, atol=1e-9)
        again.restore(hour.before)
        assert hour.offers is not None
        result = again.step(after.battery_kw, after.shiftable_kw, after.curtail_kw, hour.offers)
        generated = market.of(hour, "pv_kw") - after.curtail_kw
        feasible = np.clip(hour.offers[:10], -np.minimum(limit_kw, generated), limit_kw)
        changed = (np.abs(feasible - hour.offers[:10]) > 1e-9).sum(axis=0)
        changed += (np.abs(hour.offers[10:]) > 1.0 + 1e-9).sum(axis=0)
        np.testing.assert_array_equal(result.clipped, changed)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("central", [False, True])
def test_a_thousand_prosumers(mechanism: str, central: bool) -> None:
    num = 1000
    small = make_scenario("ieee33")
    community = small.replace(
        fleet=Fleet.identical(np.arange(num) % 32 + 1), graph=TradeGraph.ring_with_chords(num), mechanism=mechanism
    )
    rng = np.random.default_rng(0)
    day = np.zeros((1, 24, num))
    exogenous = Exogenous(
        rng.uniform(0.0, 2.0, day.shape), rng.uniform(0.0, 2.0, day.shape), day, *(np.full((1, 24), 10.0),) * 3
    )
    simulator = Simulator(community, exogenous, 2)
    simulator.reset(0)
    simulator.commit(np.zeros((num, 24, 2)))
    rest = np.zeros((num, 2))
    offers = rng.uniform(-1.0, 1.0, (community.num_offers, 2))
    position = np.zeros((num, 24))
    plain = PlainDay(community, exogenous, 0, position, community.fleet.soc_initial_kwh.tolist())
    result = simulator.step(rest, rest, rest, None if central else offers)
    expected = plain.play(rest[:, 1], rest[:, 1], rest[:, 1], None if central else offers[:, 1])
    np.testing.assert_allclose(result.p2p_kw[:, 1], expected.p2p_kw, atol=1e-8)
    np.testing.assert_allclose(result.p2p_price_ct_per_kwh[1], expected.p2p_price_ct_per_kwh, atol=1e-9)
    assert np.abs(result.p2p_kw).sum() > 10.0
