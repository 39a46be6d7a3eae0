"""How offers become trades: who trades how much with whom in one hour, and at what price.

`trade` reads the offers of a block and writes what every prosumer trades, its fee and the hour's price;
`offer_residuals` writes offers for prosumers that leave trading to the community.

Axis letters: N prosumers, E undirected trade edges, M numbers that an hour's offers consist of. `c` is the block's
column in what is wanted and in the results. What the first axis of an array means is said in `tables`.
"""

from __future__ import annotations

from prosumer_gym import tables as at
from prosumer_gym.arrays import FloatArray
from prosumer_gym.lanes import Vector, inlined, load, magnitude, spread, store
from prosumer_gym.lanes_order import lesser, load3, store3
from prosumer_gym.market import bought, feasible_offer, matched_trade, scaled_offer, seller_scale, sold
from prosumer_gym.prosumer import was_clipped
from prosumer_gym.tables import Results, Wanted, Work, World


@inlined
def trade(world: World, wanted: Wanted, results: Results, work: Work, c: int) -> None:
    """Offers are clipped, scaled to what their sellers generate, and matched edge by edge."""
    N, E, ends, edges, dt_h = world.bus.shape[0], world.ends.shape[1], world.ends, world.edges, world.dt_h
    hour, sells_kw, scale, offers_kw = work.hour, work.sells_kw, work.scale, wanted.offers
    after, cost_ct, traded_kw = results.by_prosumer, results.cost_ct, results.trade_kw
    for n in range(N):
        store(sells_kw, n, 0, spread(0.0))
        store3(after, at.P2P, n, c, spread(0.0))
        store3(cost_ct, at.P2P_FEE, n, c, spread(0.0))
    for end in range(2):
        for e in range(E):
            n, offer_kw = ends[end, e], feasible_offer(load(offers_kw, end * E + e, c), edges[at.LIMIT, e])
            store(sells_kw, n, 0, load(sells_kw, n, 0) + sold(offer_kw))
    for n in range(N):
        available_kw = load3(hour, at.PV, n, 0) - load3(after, at.CURTAIL, n, c)
        store(scale, n, 0, seller_scale(available_kw, load(sells_kw, n, 0)))
    clipped = load(work.by_lane, at.NUM_CLIPPED, 0)
    for e in range(E):
        first, second, limit_kw = ends[0, e], ends[1, e], edges[at.LIMIT, e]
        wanted_kw = load(offers_kw, e, c)
        first_kw = scaled_offer(feasible_offer(wanted_kw, limit_kw), load(scale, first, 0))
        clipped = clipped + was_clipped(first_kw, wanted_kw)
        wanted_kw = load(offers_kw, E + e, c)
        second_kw = scaled_offer(feasible_offer(wanted_kw, limit_kw), load(scale, second, 0))
        clipped = clipped + was_clipped(second_kw, wanted_kw)
        trade_kw = matched_trade(first_kw, second_kw)
        store(traded_kw, e, c, trade_kw)
        _add(after, at.P2P, first, c, trade_kw)
        _add(after, at.P2P, second, c, -trade_kw)
        half_fee_ct = magnitude(trade_kw) * spread(dt_h * edges[at.HALF_FEE, e])
        _add(cost_ct, at.P2P_FEE, first, c, half_fee_ct)
        _add(cost_ct, at.P2P_FEE, second, c, half_fee_ct)
    store(work.by_lane, at.NUM_CLIPPED, 0, clipped)
    store(results.by_lane, at.TRADE_PRICE, c, load(work.prices, at.P2P_PRICE, 0))


@inlined
def offer_residuals(world: World, wanted: Wanted, results: Results, work: Work, c: int) -> None:
    """Every prosumer offers what it has over or lacks beyond its day-ahead position, along its edges in their order.

    Both ends of an edge offer what is left of the surplus at one and of the deficit at the other.
    """
    N, E, ends, edges, offers_kw = world.bus.shape[0], world.ends.shape[1], world.ends, world.edges, wanted.offers
    hour, after, over_kw, lacking_kw = work.hour, results.by_prosumer, work.sells_kw, work.scale
    for n in range(N):
        residual_kw = load3(after, at.NET_IMPORT, n, c) - load(work.position_kw, n, 0)
        available_kw = load3(hour, at.PV, n, 0) - load3(after, at.CURTAIL, n, c)
        store(over_kw, n, 0, lesser(sold(residual_kw), available_kw))
        store(lacking_kw, n, 0, bought(residual_kw))
    for e in range(E):
        first, second, limit_kw = ends[0, e], ends[1, e], spread(edges[at.LIMIT, e])
        first_buys_kw = lesser(lesser(load(lacking_kw, first, 0), load(over_kw, second, 0)), limit_kw)
        second_buys_kw = lesser(lesser(load(lacking_kw, second, 0), load(over_kw, first, 0)), limit_kw)
        store(lacking_kw, first, 0, load(lacking_kw, first, 0) - first_buys_kw)
        store(over_kw, second, 0, load(over_kw, second, 0) - first_buys_kw)
        store(lacking_kw, second, 0, load(lacking_kw, second, 0) - second_buys_kw)
        store(over_kw, first, 0, load(over_kw, first, 0) - second_buys_kw)
        store(offers_kw, e, c, first_buys_kw - second_buys_kw)
        store(offers_kw, E + e, c, second_buys_kw - first_buys_kw)


@inlined
def _add(array: FloatArray, group: int, row: int, column: int, value: Vector) -> None:
    store3(array, group, row, column, load3(array, group, row, column) + value)
