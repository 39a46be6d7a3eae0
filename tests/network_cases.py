"""Communities whose feeder is strained: limits that bind on both sides, for the tests of plans that know the feeder.

Axes: N prosumers, H hours of a day.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.community import Community
from prosumer_gym.feeders import ieee33

_BUSES = np.array([17, 32, 24, 13])
_UNITS = np.array([8, 10, 6, 7])


def strained(community: Community, *, v_min_pu: float = 0.97, v_max_pu: float = 1.0) -> Community:
    """The community at the ends of the 33-bus feeder, several units at each node, within narrow limits."""
    num = community.num_prosumers
    fleet = replace(community.fleet, bus=_BUSES[:num], units=_UNITS[:num])
    feeder = ieee33().replace(slack_v_pu=0.99, v_min_pu=v_min_pu, v_max_pu=v_max_pu)
    return community.replace(fleet=fleet, feeder=feeder)


def penalty(community: Community, hours: int, *, price: float = 2e4, margin: float = 0.002) -> NetworkPenalty:
    """By LinDistFlow, for the last hours of a day with a passive load that rises from hour to hour."""
    passive_pu = np.linspace(0.05, 0.25, community.hours_per_day)[-hours:]
    return NetworkPenalty.lindistflow(community, passive_pu, price_ct_per_pu_h=price, margin_pu=margin)
