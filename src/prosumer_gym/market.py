"""Offers, prices and the accounts: every ct that leaves one pocket enters another.

The compiled functions speak of one prosumer, one trade edge or one market in one hour; a `Vector` holds that hour's
number in LANES lanes at once. Payments between prosumers cancel, fees and the demand charge are the operator's income,
day-ahead and real-time energy is paid to the grid; wear, discomfort and the energy left in a battery change no hands.
"""

from __future__ import annotations

from prosumer_gym.lanes import Vector, inlined, spread, where
from prosumer_gym.lanes_order import exceeds, greater, lesser, ratio

COST_TERMS = (
    "day_ahead",
    "real_time",
    "p2p",
    "p2p_fee",
    "demand_charge",
    "battery_wear",
    "discomfort",
    "terminal_soc",
)
"""What a prosumer pays for, in the order of the axis T of every array of costs."""


@inlined
def feasible_offer(wanted_kw: Vector, limit_kw: float) -> Vector:
    """An offer clipped to the limit of its edge, + buys, kW."""
    return greater(spread(-limit_kw), lesser(wanted_kw, spread(limit_kw)))


@inlined
def sold(offer_kw: Vector) -> Vector:
    """What an offer sells, nothing when it buys, kW."""
    return greater(-offer_kw, spread(0.0))


@inlined
def bought(offer_kw: Vector) -> Vector:
    """What an offer buys, nothing when it sells, kW."""
    return greater(offer_kw, spread(0.0))


@inlined
def seller_scale(available_kw: Vector, sells_kw: Vector) -> Vector:
    """Only local generation can be sold: the factor on all sells of a prosumer that offers more than it has."""
    return where(exceeds(sells_kw, available_kw), ratio(available_kw, sells_kw), spread(1.0))


@inlined
def scaled_offer(offer_kw: Vector, scale: Vector) -> Vector:
    """An offer after its seller's scale; buying is not scaled, kW."""
    return bought(offer_kw) - sold(offer_kw) * scale


@inlined
def matched_trade(first_offer_kw: Vector, second_offer_kw: Vector) -> Vector:
    """What two opposing offers agree on, + when the first end buys, kW; zero when both buy or both sell."""
    first_buys_kw = lesser(bought(first_offer_kw), sold(second_offer_kw))
    second_buys_kw = lesser(bought(second_offer_kw), sold(first_offer_kw))
    return first_buys_kw - second_buys_kw


@inlined
def feasible_order(wanted_kw: Vector, limit_kw: float, available_kw: Vector) -> Vector:
    """An order in a pool within its limit, + buys; it sells no more than the prosumer generates, kW."""
    return greater(-lesser(available_kw, spread(limit_kw)), lesser(wanted_kw, spread(limit_kw)))


@inlined
def feasible_limit_price(wanted: Vector) -> Vector:
    """A limit price clipped to -1 ... 1."""
    return greater(spread(-1.0), lesser(wanted, spread(1.0)))


@inlined
def limit_price(limit: Vector, da_buy: Vector, da_sell: Vector) -> Vector:
    """-1 is what the grid pays day-ahead, +1 what it asks, ct/kWh."""
    return lesser(da_sell + (spread(0.5) + spread(0.5) * limit) * (da_buy - da_sell), da_buy)


@inlined
def served_share(served_kw: Vector, ordered_kw: Vector) -> Vector:
    """Which part of orders is served; 1 where more could be than is ordered, or nothing is."""
    return where(exceeds(ordered_kw, served_kw), ratio(served_kw, ordered_kw), spread(1.0))


@inlined
def supply_demand_price(supply_per_demand: Vector, da_buy: Vector, da_sell: Vector) -> Vector:
    """Price of a pool with this ratio of supply to demand, ct/kWh: what the grid asks at 0, what it pays from 1 on.

    The inverse of a straight line, s b / ((b - s) ratio + s), after N. Liu et al. 2017. Theirs is not defined where the
    grid pays nothing or less: there the price itself is a straight line between the same ends.
    """
    spread_of_prices = da_buy - da_sell
    inverse = ratio(da_sell * da_buy, spread_of_prices * supply_per_demand + da_sell)
    straight = da_buy - supply_per_demand * spread_of_prices
    price = where(exceeds(da_sell, spread(0.0)), inverse, straight)
    return greater(lesser(price, da_buy), da_sell)


@inlined
def energy_cost(power_kw: Vector, buy_ct_per_kwh: Vector, sell_ct_per_kwh: Vector, dt_h: float) -> Vector:
    """An hour at one price for buying (+) and another for selling (-), ct."""
    return spread(dt_h) * (buy_ct_per_kwh * bought(power_kw) - sell_ct_per_kwh * sold(power_kw))


@inlined
def terminal_cost(soc_kwh: float, soc_initial_kwh: float, missing_ct_per_kwh: float, left_ct_per_kwh: float) -> float:
    """Energy missing from the battery at the end of an episode is paid for, what is left over earns, ct."""
    left_kwh = soc_kwh - soc_initial_kwh
    return -left_ct_per_kwh * left_kwh if left_kwh > 0.0 else -missing_ct_per_kwh * left_kwh
