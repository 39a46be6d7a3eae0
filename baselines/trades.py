"""What prosumers can trade with each other in one hour, under any market mechanism.

What they pay each other is no cost of the community. To plan for all of them it matters which trades are possible, not
how they are priced, and of that there are two forms:

- bilateral: a trade on each edge, + when its first end buys, within the edge's limit;
- in a pool or an auction: what each prosumer buys (+) or sells, within its limit, purchases equal to sales. Each such
  set of orders comes about in full, because every one of these mechanisms rations the longer side only. In an auction
  buyers bid the highest price allowed and sellers ask the lowest: no order stays out for its price.

Axis letters: N prosumers, E undirected trade edges, X trades of an hour, E or N of them, M numbers that an hour's
offers consist of.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.mechanisms import Mechanism


class TradeForm(NamedTuple):
    """The signed trades of an hour."""

    ends: tuple[tuple[IntArray, float], ...]
    """Prosumers at one end of each trade [X], and the trade's sign there, +1 buys. A pool has no second end, nor has
    what one prosumer knows of its edges."""
    limit_kw: FloatArray
    """Largest trade either way [X]."""
    half_fee_ct_per_kwh: FloatArray
    """Network fee paid at each end [X]."""
    is_pool: bool
    """Whether the trades of an hour must sum to zero."""


def trade_form(community: Community) -> TradeForm:
    """What can be traded under the mechanism of `community`."""
    graph = community.graph
    if community.market.offers == "edges":
        ends = ((graph.first, 1.0), (graph.second, -1.0))
        return TradeForm(ends, graph.limit_kw, 0.5 * graph.fee_ct_per_kwh, is_pool=False)
    everybody = np.arange(community.num_prosumers)
    return TradeForm(((everybody, 1.0),), community.pool_limit_kw, 0.5 * community.pool_fee_ct_per_kwh, is_pool=True)


def own_side(community: Community, prosumer: int) -> tuple[TradeForm, IntArray, IntArray]:
    """What one prosumer knows of its edges: trades that it, now prosumer 0, buys (+) or sells (-); bilateral.

    And the neighbours at the other ends and the numbers of the edges, in the order of the edges [X].
    """
    graph = community.graph
    edges = np.flatnonzero((graph.first == prosumer) | (graph.second == prosumer))
    neighbours = graph.first[edges] + graph.second[edges] - prosumer
    ends = ((np.zeros(edges.size, dtype=np.int64), 1.0),)
    form = TradeForm(ends, graph.limit_kw[edges], 0.5 * graph.fee_ct_per_kwh[edges], is_pool=False)
    return form, neighbours, edges


def offers_of(market: Mechanism, trade_kw: FloatArray) -> FloatArray:
    """Offers [...,M] by which the trades [...,X] come about: everybody concerned offers just the trade.

    In an auction at the limit price that any partner accepts: +1 to buy, -1 to sell.
    """
    if market.offers == "edges":
        return np.concatenate([trade_kw, -trade_kw], axis=-1)
    if market.offers == "orders":
        return trade_kw.copy()
    return np.concatenate([trade_kw, np.sign(trade_kw)], axis=-1)


def bought_kw(community: Community, trade_kw: FloatArray) -> FloatArray:
    """What each prosumer buys from others, + buys [N], from the trades of an hour [X]."""
    num = community.num_prosumers
    at_ends = [sign * np.bincount(end, trade_kw, num) for end, sign in trade_form(community).ends]
    return np.asarray(sum(at_ends[1:], at_ends[0]), dtype=np.float64)


def surplus_to_deficit(community: Community, net_kw: FloatArray) -> FloatArray:
    """Trades that bring surplus to deficit [X], from the net imports [N]; nobody trades more than it has or lacks.

    Bilateral: edge after edge in their order. In a pool the longer side is served in proportion.
    """
    if community.market.offers == "edges":
        return _along_edges(community.graph, net_kw)
    wanted_kw = np.clip(net_kw, -community.pool_limit_kw, community.pool_limit_kw)
    buys_kw, sells_kw = np.maximum(wanted_kw, 0.0), np.maximum(-wanted_kw, 0.0)
    demand_kw, supply_kw = float(buys_kw.sum()), float(sells_kw.sum())
    if demand_kw == 0.0 or supply_kw == 0.0:
        return np.zeros(len(net_kw))
    traded_kw = min(demand_kw, supply_kw)
    return buys_kw * (traded_kw / demand_kw) - sells_kw * (traded_kw / supply_kw)


def _along_edges(graph: TradeGraph, net_kw: FloatArray) -> FloatArray:
    left_kw = net_kw.copy()
    trade_kw = np.zeros(len(graph))
    for edge, (first, second) in enumerate(zip(graph.first, graph.second, strict=True)):
        if left_kw[first] > 0.0 > left_kw[second]:
            trade_kw[edge] = min(left_kw[first], -left_kw[second], graph.limit_kw[edge])
        elif left_kw[second] > 0.0 > left_kw[first]:
            trade_kw[edge] = -min(left_kw[second], -left_kw[first], graph.limit_kw[edge])
        left_kw[first] -= trade_kw[edge]
        left_kw[second] += trade_kw[edge]
    return trade_kw
