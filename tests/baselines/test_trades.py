"""Trades in the form of each market mechanism: what they are for each prosumer, and the offers that bring them about.

Axes: N prosumers, E edges, X trades.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_cases import POOLS, random_community

from prosumer_gym.baselines.trades import bought_kw, offers_of, surplus_to_deficit, trade_form
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.scenarios import make_scenario


def stage(mechanism: str) -> Community:
    return random_community(np.random.default_rng(0), num=6, mechanism=mechanism)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_form_says_what_each_end_trades_and_pays(mechanism: str) -> None:
    community = stage(mechanism)
    form = trade_form(community)
    trade = np.random.default_rng(1).uniform(-1, 1, len(form.limit_kw)) * form.limit_kw
    bought = bought_kw(community, trade)
    if mechanism == "bilateral":
        for n in range(6):
            edges = community.graph
            assert bought[n] == pytest.approx(trade[edges.first == n].sum() - trade[edges.second == n].sum())
        np.testing.assert_array_equal(form.half_fee_ct_per_kwh, 0.5 * community.graph.fee_ct_per_kwh)
        assert bought.sum() == pytest.approx(0.0, abs=1e-12)
    else:
        np.testing.assert_array_equal(bought, trade)
        np.testing.assert_array_equal(form.limit_kw, community.pool_limit_kw)
        np.testing.assert_array_equal(form.half_fee_ct_per_kwh, 0.5 * community.pool_fee_ct_per_kwh)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_offers_have_the_form_of_the_mechanism_and_lie_within_its_limits(mechanism: str) -> None:
    community = stage(mechanism)
    form = trade_form(community)
    trade = np.random.default_rng(2).uniform(-1, 1, (3, len(form.limit_kw))) * form.limit_kw
    offers = offers_of(community.market, trade)
    assert offers.shape == (3, community.num_offers)
    assert (np.abs(offers) <= community.offer_limits).all()
    size = trade.shape[1]
    np.testing.assert_array_equal(offers[:, :size], trade)
    if mechanism == "bilateral":
        np.testing.assert_array_equal(offers[:, size:], -trade)
    if mechanism == "double-auction":
        np.testing.assert_array_equal(offers[:, size:], np.where(trade > 0, 1.0, -1.0))


def test_surplus_goes_to_deficit_along_edges_and_no_further_than_either() -> None:
    rng = np.random.default_rng(0)
    community = make_scenario("ieee33")
    graph = community.graph
    for _ in range(50):
        net = rng.normal(0.0, 6.0, 10)
        trade = surplus_to_deficit(community, net)
        left = net - bought_kw(community, trade)
        assert (np.abs(trade) <= graph.limit_kw).all()
        assert (left * net >= -1e-12).all()
        assert (np.abs(left) <= np.abs(net) + 1e-12).all()
        # Nobody is left with a surplus beside a neighbour with a deficit, unless their edge is full.
        full = np.abs(trade) >= graph.limit_kw - 1e-12
        assert (full | (left[graph.first] * left[graph.second] >= -1e-12)).all()


@pytest.mark.parametrize("mechanism", POOLS)
def test_in_a_pool_the_longer_side_is_served_in_proportion(mechanism: str) -> None:
    rng = np.random.default_rng(1)
    community = random_community(rng, num=10, mechanism=mechanism)
    for _ in range(50):
        net = rng.normal(rng.normal(0.0, 4.0), 6.0, 10)
        wanted = np.clip(net, -community.pool_limit_kw, community.pool_limit_kw)
        trade = surplus_to_deficit(community, net)
        assert trade.sum() == pytest.approx(0.0, abs=1e-12)
        for side in (wanted > 0, wanted < 0):
            share = trade[side] / wanted[side]
            np.testing.assert_allclose(share, share[:1].repeat(side.sum()), rtol=1e-12)
            assert (share <= 1 + 1e-12).all()
        demand, supply = np.maximum(wanted, 0).sum(), np.maximum(-wanted, 0).sum()
        assert np.maximum(trade, 0).sum() == pytest.approx(min(demand, supply))
        order = rng.permutation(10)
        fleet_of_others = community.replace(graph=_renumbered(community, order))
        np.testing.assert_allclose(surplus_to_deficit(fleet_of_others, net[order]), trade[order], atol=1e-12)


def _renumbered(community: Community, order: np.ndarray) -> TradeGraph:
    number, graph = np.argsort(order), community.graph
    ends = np.sort(np.stack([number[graph.first], number[graph.second]]), axis=0)
    return replace(graph, first=ends[0], second=ends[1])


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_without_a_seller_or_a_buyer_nothing_is_traded(mechanism: str) -> None:
    community = stage(mechanism)
    for net in (np.full(6, -5.0), np.full(6, 5.0), np.zeros(6)):
        np.testing.assert_array_equal(surplus_to_deficit(community, net), 0.0)
