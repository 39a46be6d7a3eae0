"""How offers become trades: who trades how much in one hour, and at what price. One part for each market mechanism.

`trade` clears the offers of a block, `trade_residuals` does it for prosumers that leave trading to the community. Both
write what each prosumer trades, its fee and the price of the hour, which lies between what the grid pays and what it
asks day-ahead. Sources of the mechanisms are in `mechanisms`.

Axis letters: N prosumers, E undirected trade edges, M numbers that an hour's offers consist of. `c` is the block's
column in what is wanted and in the results. What the first axis of an array means is said in `tables`.
"""

from __future__ import annotations

from prosumer_gym import tables as at
from prosumer_gym.arrays import FloatArray
from prosumer_gym.lanes import LANES, Vector, inlined, inner, load, magnitude, spread, store, where
from prosumer_gym.lanes_order import exceeds, greater, lesser, load3, ratio, store3
from prosumer_gym.market import (
    bought,
    feasible_limit_price,
    feasible_offer,
    feasible_order,
    limit_price,
    matched_trade,
    scaled_offer,
    seller_scale,
    served_share,
    sold,
    supply_demand_price,
)
from prosumer_gym.prosumer import was_clipped
from prosumer_gym.tables import Results, Wanted, Work, World

_SERVED_KW = 1e-9
"""An order that trades no more than this, which may be rounding, does not set the price of an auction."""


@inlined
def trade(world: World, wanted: Wanted, results: Results, work: Work, c: int) -> None:
    """Clear what the prosumers offer."""
    if world.mechanism == at.BILATERAL:
        _match_offers(world, wanted, results, work, c)
    else:
        _take_orders(world, wanted, results, work, c)
        _clear(world, results, work, c)


@inlined
def trade_residuals(world: World, results: Results, work: Work, c: int) -> None:
    """Clear what every prosumer has over or lacks beyond its day-ahead position, its own generation at most.

    Nobody trades more than that, so nobody pays more than the grid would have asked, or earns less than it pays.
    """
    if world.mechanism == at.BILATERAL:
        _match_residuals(world, results, work, c)
    else:
        _order_residuals(world, results, work, c)
        _clear(world, results, work, c)


@inner
def _match_offers(world: World, wanted: Wanted, results: Results, work: Work, c: int) -> None:
    """Offers along edges are clipped, scaled to what their sellers generate, and matched edge by edge."""
    N, E, ends, edges, offers_kw = world.bus.shape[0], world.ends.shape[1], world.ends, world.edges, wanted.offers
    hour, market, after = work.hour, work.market, results.by_prosumer
    _begin(results, work, c)
    for n in range(N):
        store3(market, at.SELLS, n, 0, spread(0.0))
    for end in range(2):
        for e in range(E):
            n, offer_kw = ends[end, e], feasible_offer(load(offers_kw, end * E + e, c), edges[at.LIMIT, e])
            _add(market, at.SELLS, n, 0, sold(offer_kw))
    for n in range(N):
        available_kw = load3(hour, at.PV, n, 0) - load3(after, at.CURTAIL, n, c)
        store3(market, at.SCALE, n, 0, seller_scale(available_kw, load3(market, at.SELLS, n, 0)))
    clipped = load(work.by_lane, at.NUM_CLIPPED, 0)
    for e in range(E):
        first, second, limit_kw = ends[0, e], ends[1, e], edges[at.LIMIT, e]
        wanted_kw = load(offers_kw, e, c)
        first_kw = scaled_offer(feasible_offer(wanted_kw, limit_kw), load3(market, at.SCALE, first, 0))
        clipped = clipped + was_clipped(first_kw, wanted_kw)
        wanted_kw = load(offers_kw, E + e, c)
        second_kw = scaled_offer(feasible_offer(wanted_kw, limit_kw), load3(market, at.SCALE, second, 0))
        clipped = clipped + was_clipped(second_kw, wanted_kw)
        _book_edge(world, results, e, c, matched_trade(first_kw, second_kw))
    store(work.by_lane, at.NUM_CLIPPED, 0, clipped)


@inner
def _match_residuals(world: World, results: Results, work: Work, c: int) -> None:
    """Along the edges in their order: what is left of the surplus at one end meets what is left of the other's lack."""
    ends, edges, market = world.ends, world.edges, work.market
    _begin(results, work, c)
    for n in range(world.bus.shape[0]):
        residual_kw = _residual(results, work, n, c)
        store3(market, at.OVER, n, 0, sold(residual_kw))
        store3(market, at.LACKING, n, 0, bought(residual_kw))
    for e in range(world.ends.shape[1]):
        first, second, limit_kw = ends[0, e], ends[1, e], spread(edges[at.LIMIT, e])
        over_kw, lacking_kw = load3(market, at.OVER, first, 0), load3(market, at.LACKING, first, 0)
        their_over_kw, their_lack_kw = load3(market, at.OVER, second, 0), load3(market, at.LACKING, second, 0)
        buys_kw = lesser(lesser(lacking_kw, their_over_kw), limit_kw)
        sells_kw = lesser(lesser(over_kw, their_lack_kw), limit_kw)
        store3(market, at.OVER, first, 0, over_kw - sells_kw)
        store3(market, at.LACKING, first, 0, lacking_kw - buys_kw)
        store3(market, at.OVER, second, 0, their_over_kw - buys_kw)
        store3(market, at.LACKING, second, 0, their_lack_kw - sells_kw)
        _book_edge(world, results, e, c, buys_kw - sells_kw)


@inner
def _take_orders(world: World, wanted: Wanted, results: Results, work: Work, c: int) -> None:
    """Each prosumer's order within its limit and its generation and, in an auction, its limit price."""
    N, orders, market, pool = world.bus.shape[0], wanted.offers, work.market, world.pool
    hour, after = work.hour, results.by_prosumer
    da_buy, da_sell = load(work.prices, at.DA_BUY, 0), load(work.prices, at.DA_SELL, 0)
    clipped = load(work.by_lane, at.NUM_CLIPPED, 0)
    for n in range(N):
        available_kw = load3(hour, at.PV, n, 0) - load3(after, at.CURTAIL, n, c)
        wanted_kw = load(orders, n, c)
        order_kw = feasible_order(wanted_kw, pool[at.LIMIT, n], available_kw)
        clipped = clipped + was_clipped(order_kw, wanted_kw)
        store3(market, at.ORDER, n, 0, order_kw)
    if world.mechanism == at.DOUBLE_AUCTION:
        for n in range(N):
            wanted_limit = load(orders, N + n, c)
            limit = feasible_limit_price(wanted_limit)
            clipped = clipped + was_clipped(limit, wanted_limit)
            store3(market, at.LIMIT_PRICE, n, 0, limit_price(limit, da_buy, da_sell))
    store(work.by_lane, at.NUM_CLIPPED, 0, clipped)


@inner
def _order_residuals(world: World, results: Results, work: Work, c: int) -> None:
    """Each prosumer orders what it has over or lacks, at any price that is no worse than the grid's."""
    market, pool = work.market, world.pool
    da_buy, da_sell = load(work.prices, at.DA_BUY, 0), load(work.prices, at.DA_SELL, 0)
    for n in range(world.bus.shape[0]):
        order_kw = feasible_offer(_residual(results, work, n, c), pool[at.LIMIT, n])
        store3(market, at.ORDER, n, 0, order_kw)
        store3(market, at.LIMIT_PRICE, n, 0, where(exceeds(order_kw, spread(0.0)), da_buy, da_sell))


@inner
def _clear(world: World, results: Results, work: Work, c: int) -> None:
    """What the orders trade, at what price, and the fee on it."""
    N, market, pool, dt_h = world.bus.shape[0], work.market, world.pool, world.dt_h
    after, cost_ct = results.by_prosumer, results.cost_ct
    if world.mechanism == at.DOUBLE_AUCTION:
        _clear_auction(results, work, c)
    else:
        _share_out(world, results, work, c)
    for n in range(N):
        p2p_kw = load3(market, at.ORDER, n, 0)
        store3(after, at.P2P, n, c, p2p_kw)
        store3(cost_ct, at.P2P_FEE, n, c, magnitude(p2p_kw) * spread(dt_h * pool[at.HALF_FEE, n]))


@inlined
def _share_out(world: World, results: Results, work: Work, c: int) -> None:
    """One pool: the shorter side is served in full, the longer one in proportion to its orders."""
    N, market = world.bus.shape[0], work.market
    da_buy, da_sell = load(work.prices, at.DA_BUY, 0), load(work.prices, at.DA_SELL, 0)
    demand_kw, supply_kw, price = spread(0.0), spread(0.0), load(work.prices, at.P2P_PRICE, 0)
    for n in range(N):
        order_kw = load3(market, at.ORDER, n, 0)
        demand_kw, supply_kw = demand_kw + bought(order_kw), supply_kw + sold(order_kw)
    matched_kw = lesser(demand_kw, supply_kw)
    served, delivered = served_share(matched_kw, demand_kw), served_share(matched_kw, supply_kw)
    for n in range(N):
        order_kw = load3(market, at.ORDER, n, 0)
        store3(market, at.ORDER, n, 0, bought(order_kw) * served - sold(order_kw) * delivered)
    if world.mechanism == at.SUPPLY_DEMAND_RATIO:
        scarce = supply_demand_price(ratio(supply_kw, demand_kw), da_buy, da_sell)
        price = where(exceeds(matched_kw, spread(0.0)), scarce, price)
    store(results.by_lane, at.TRADE_PRICE, c, price)


@inlined
def _clear_auction(results: Results, work: Work, c: int) -> None:
    """The largest volume whose last bid is worth its last ask, at the middle of the two.

    At a price x the bids of at least x meet the asks of at most x. Of all order prices the dearest at which the demand
    still covers the supply, and the cheapest at which it no longer does, are searched for; the orders beyond them are
    served in full, those at one of them in proportion to what is left for them.
    """
    market, by_lane, N, zero = work.market, work.by_lane, work.market.shape[1], spread(0.0)
    da_buy, da_sell = load(work.prices, at.DA_BUY, 0), load(work.prices, at.DA_SELL, 0)
    dearer, cheaper = da_buy + spread(1.0), da_sell - spread(1.0)  # than any order
    low, high = da_sell, da_buy  # the order prices in doubt lie between; none does when they have passed each other
    in_doubt = LANES
    while in_doubt > 0:
        price, demand_kw, supply_kw = (low + high) * spread(0.5), zero, zero
        above, below = dearer, cheaper
        for n in range(N):
            order_kw, limit = load3(market, at.ORDER, n, 0), load3(market, at.LIMIT_PRICE, n, 0)
            is_above, is_below = exceeds(limit, price), exceeds(price, limit)
            demand_kw = demand_kw + where(is_below, zero, bought(order_kw))
            supply_kw = supply_kw + where(is_above, zero, sold(order_kw))
            above = lesser(where(is_above, limit, dearer), above)
            below = greater(where(is_below, limit, cheaper), below)
        short = exceeds(supply_kw, demand_kw)
        low, high = where(short, low, above), where(short, below, high)
        store(by_lane, at.IS_FOUND, 0, exceeds(low, high))
        in_doubt = LANES
        for j in range(LANES):
            in_doubt -= int(by_lane[at.IS_FOUND, j])
    _serve_orders(results, work, c, high, low)


@inlined
def _serve_orders(results: Results, work: Work, c: int, covered: Vector, short: Vector) -> None:
    """Bids above and asks below the crossing in full; what then is left of one side goes to the other's at the margin.

    `covered` is the dearest order price at which the demand covers the supply, `short` the next one.
    """
    market, N, zero = work.market, work.market.shape[1], spread(0.0)
    demand_kw, supply_kw, marginal_demand_kw, marginal_supply_kw = zero, zero, zero, zero
    for n in range(N):
        order_kw, limit = load3(market, at.ORDER, n, 0), load3(market, at.LIMIT_PRICE, n, 0)
        demand_kw = demand_kw + where(exceeds(limit, covered), bought(order_kw), zero)
        supply_kw = supply_kw + where(exceeds(short, limit), sold(order_kw), zero)
        marginal_demand_kw = marginal_demand_kw + where(_differ(limit, covered), zero, bought(order_kw))
        marginal_supply_kw = marginal_supply_kw + where(_differ(limit, short), zero, sold(order_kw))
    volume_kw = greater(demand_kw, supply_kw)
    served = served_share(volume_kw - demand_kw, marginal_demand_kw)
    delivered = served_share(volume_kw - supply_kw, marginal_supply_kw)
    last_bid, last_ask = load(work.prices, at.DA_BUY, 0), load(work.prices, at.DA_SELL, 0)
    for n in range(N):
        order_kw, limit = load3(market, at.ORDER, n, 0), load3(market, at.LIMIT_PRICE, n, 0)
        at_margin = where(_differ(limit, covered), zero, served)
        bought_kw = bought(order_kw) * where(exceeds(limit, covered), spread(1.0), at_margin)
        at_margin = where(_differ(limit, short), zero, delivered)
        sold_kw = sold(order_kw) * where(exceeds(short, limit), spread(1.0), at_margin)
        last_bid = where(exceeds(bought_kw, spread(_SERVED_KW)), lesser(limit, last_bid), last_bid)
        last_ask = where(exceeds(sold_kw, spread(_SERVED_KW)), greater(limit, last_ask), last_ask)
        store3(market, at.ORDER, n, 0, bought_kw - sold_kw)
    store(results.by_lane, at.TRADE_PRICE, c, (last_bid + last_ask) * spread(0.5))


@inlined
def _residual(results: Results, work: Work, n: int, c: int) -> Vector:
    """What prosumer n lacks (+) beyond its position, or has over (-), its own generation at most."""
    hour, after = work.hour, results.by_prosumer
    available_kw = load3(hour, at.PV, n, 0) - load3(after, at.CURTAIL, n, c)
    return greater(load3(after, at.NET_IMPORT, n, c) - load(work.position_kw, n, 0), -available_kw)


@inlined
def _begin(results: Results, work: Work, c: int) -> None:
    """Nothing is traded yet."""
    after, cost_ct = results.by_prosumer, results.cost_ct
    for n in range(cost_ct.shape[1]):
        store3(after, at.P2P, n, c, spread(0.0))
        store3(cost_ct, at.P2P_FEE, n, c, spread(0.0))
    store(results.by_lane, at.TRADE_PRICE, c, load(work.prices, at.P2P_PRICE, 0))


@inlined
def _book_edge(world: World, results: Results, e: int, c: int, trade_kw: Vector) -> None:
    """What the first end of edge e buys from the second."""
    ends, edges, traded_kw = world.ends, world.edges, results.trade_kw
    first, second, after, cost_ct = ends[0, e], ends[1, e], results.by_prosumer, results.cost_ct
    half_fee_ct = magnitude(trade_kw) * spread(world.dt_h * edges[at.HALF_FEE, e])
    store(traded_kw, e, c, trade_kw)
    _add(after, at.P2P, first, c, trade_kw)
    _add(after, at.P2P, second, c, -trade_kw)
    _add(cost_ct, at.P2P_FEE, first, c, half_fee_ct)
    _add(cost_ct, at.P2P_FEE, second, c, half_fee_ct)


@inlined
def _differ(a: Vector, b: Vector) -> Vector:
    return exceeds(a, b) + exceeds(b, a)


@inlined
def _add(array: FloatArray, group: int, row: int, column: int, value: Vector) -> None:
    store3(array, group, row, column, load3(array, group, row, column) + value)
