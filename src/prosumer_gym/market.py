"""Peer-to-peer matching and the accounts: every ct that leaves one pocket enters another.

The compiled functions take and return the numbers of one prosumer or one trade edge in one hour; loops over them and
over lanes are the caller's. Only the demand charge, wear, discomfort and the terminal term are costs without a
counterpart inside the settlement: the first is the operator's income, the others are real wear and real energy.

Axis letters: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

from prosumer_gym.compiled import compiled

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


@compiled
def feasible_offer(wanted_kw: float, limit_kw: float) -> float:
    """An offer clipped to the limit of its edge, + buys, kW."""
    return max(-limit_kw, min(wanted_kw, limit_kw))


@compiled
def seller_scale(available_kw: float, sells_kw: float) -> float:
    """Only local generation can be sold: the factor on all sells of a prosumer that offers more than it has."""
    return available_kw / sells_kw if sells_kw > available_kw else 1.0


@compiled
def scaled_offer(offer_kw: float, scale: float) -> float:
    """An offer after its seller's scale; buying is not scaled, kW."""
    return offer_kw if offer_kw > 0.0 else offer_kw * scale


@compiled
def matched_trade(first_offer_kw: float, second_offer_kw: float) -> float:
    """What two opposing offers agree on, + when the first end buys, kW; zero when both buy or both sell."""
    first_buys_kw = min(max(first_offer_kw, 0.0), max(-second_offer_kw, 0.0))
    second_buys_kw = min(max(second_offer_kw, 0.0), max(-first_offer_kw, 0.0))
    return first_buys_kw - second_buys_kw


@compiled
def energy_cost(power_kw: float, buy_ct_per_kwh: float, sell_ct_per_kwh: float, dt_h: float) -> float:
    """An hour at one price for buying (+) and another for selling (-), ct."""
    return dt_h * (buy_ct_per_kwh * max(power_kw, 0.0) - sell_ct_per_kwh * max(-power_kw, 0.0))


@compiled
def terminal_cost(
    soc_kwh: float, soc_initial_kwh: float, shortfall_ct_per_kwh: float, surplus_ct_per_kwh: float
) -> float:
    """Energy missing from the battery at the end of an episode is paid for, what is left over earns, ct."""
    missing_kwh = soc_initial_kwh - soc_kwh
    return shortfall_ct_per_kwh * max(missing_kwh, 0.0) - surplus_ct_per_kwh * max(-missing_kwh, 0.0)
