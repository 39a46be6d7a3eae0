"""Random small planning problems, for the tests of the core problem and of the oracle.

Axes: N prosumers, E edges, H hours of a day, S scenarios.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.planning import DayStart, Scenarios
from prosumer_gym.community import Community, Fleet, Tariff, TradeGraph
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeders import ieee33
from prosumer_gym.mechanisms import MECHANISMS

FORMS = ("bilateral", "mid-market-rate")
"""One mechanism of each form of trades: edges, and the pool. The other two are planned for like the second."""

POOLS = tuple(name for name in MECHANISMS if name != "bilateral")


def random_community(
    rng: np.random.Generator,
    *,
    num: int = 3,
    hours: int = 6,
    edges: bool = True,
    discomfort_linear: float = 0.0,
    tariff: Tariff | None = None,
    mechanism: str = "bilateral",
) -> Community:
    """Prosumers that differ in everything; with `edges`, a ring with unequal limits and fees."""
    fleet = Fleet(
        bus=np.arange(1, num + 1),
        pv_ratio=np.ones(num),
        units=np.ones(num, dtype=np.int64),
        battery_power_kw=rng.uniform(5, 20, num),
        soc_min_kwh=rng.uniform(0, 20, num),
        soc_max_kwh=rng.uniform(100, 200, num),
        soc_initial_kwh=rng.uniform(40, 90, num),
        charge_efficiency=rng.uniform(0.85, 0.98, num),
        discharge_efficiency=rng.uniform(0.85, 0.98, num),
        battery_wear_quadratic_ct_per_kw2h=rng.uniform(0.01, 0.05, num),
        battery_wear_linear_ct_per_kwh=rng.uniform(0.2, 1.0, num),
        shiftable_power_kw=rng.uniform(8, 20, num),
        backlog_min_kwh=-rng.uniform(10, 40, num),
        backlog_max_kwh=rng.uniform(10, 40, num),
        discomfort_quadratic_ct_per_kwh2h=rng.uniform(0.01, 0.03, num),
        discomfort_linear_ct_per_kwhh=np.full(num, discomfort_linear),
        position_limit_kw=rng.uniform(20, 50, num),
        connection_limit_kw=np.full(num, 50.0),
        power_factor=np.full(num, 0.95),
    )
    graph = TradeGraph.ring_with_chords(num)
    graph = TradeGraph(
        graph.first, graph.second, rng.uniform(3, 8, len(graph)), rng.uniform(0.1, 0.5, len(graph))
    ) if edges else TradeGraph.ring_with_chords(1)  # fmt: skip
    return Community("random", ieee33(), fleet, graph, tariff or Tariff(), mechanism, hours_per_day=hours)


def random_days(rng: np.random.Generator, community: Community, num_days: int, *, negative: bool = False) -> Exogenous:
    """Independent days; with `negative`, prices of both signs."""
    D, H, N = num_days, community.hours_per_day, community.num_prosumers
    hour = (np.arange(H) + 0.5) * 24 / H
    sun = np.maximum(np.sin(np.pi * (hour - 6) / 12), 0.0)
    low = -8.0 if negative else 2.0
    reference = rng.uniform(0.5, 4.0, (D, H, N))
    return Exogenous(
        load_kw=rng.uniform(3, 18, (D, H, N)),
        pv_kw=sun[:, None] * rng.uniform(5, 45, (D, H, N)),
        shiftable_ref_kw=reference,
        price_da_ct_per_kwh=rng.uniform(low, 12, (D, H)),
        price_rt_ct_per_kwh=rng.uniform(low, 20, (D, H)),
        passive_pu=np.full((D, H), 0.4),
    )


def random_case(
    rng: np.random.Generator,
    community: Community,
    num_scenarios: int,
    *,
    start_hour: int | None = None,
    negative: bool = False,
    own_weights: bool = False,
) -> tuple[DayStart, Scenarios]:
    """A day-ahead problem, or with a `start_hour` a real-time one in the middle of a feasible day."""
    H, N, S = community.hours_per_day, community.num_prosumers, num_scenarios
    fleet, dt_h = community.fleet, community.dt_h
    days = random_days(rng, community, S, negative=negative)
    reference = np.array(days.shiftable_ref_kw[0])
    h = start_hour or 0
    load, pv, price_rt = (
        np.array(values[:, h:]) for values in (days.load_kw, days.pv_kw, days.price_rt_ct_per_kwh)
    )  # fmt: skip
    weights: FloatArray = rng.dirichlet(np.ones(S), N) if own_weights else rng.dirichlet(np.ones(S))
    soc, backlog, peak, position = fleet.soc_initial_kwh, np.zeros(N), np.zeros(N), None
    if start_hour is not None:
        for values in (load, pv, price_rt):
            values[:, 0] = values[0, 0]
        soc = rng.uniform(fleet.soc_min_kwh, fleet.soc_max_kwh)
        if h > 0:
            due = dt_h * reference[h:].sum(axis=0)
            backlog = np.clip(rng.uniform(-0.5, 0.9, N) * due, fleet.backlog_min_kwh, fleet.backlog_max_kwh)
            peak = rng.uniform(0, 20, N)
        position = rng.uniform(-10, 20, (N, H))
    start = DayStart(h, soc, backlog, peak, reference, np.array(days.price_da_ct_per_kwh[0]), position)
    return start, Scenarios(load, pv, price_rt, weights)
