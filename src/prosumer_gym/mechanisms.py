"""The market mechanisms by which prosumers trade with each other, and what each wants to be told.

What a mechanism does with the offers is in `clearing`. All of them trade local generation only, at one price per hour
between what the grid pays and what it asks day-ahead, and settle what is left in real time.

Axis letters: N prosumers, E undirected trade edges, M numbers that an hour's offers consist of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prosumer_gym.errors import UsageError


@dataclass(frozen=True)
class Mechanism:
    """One way to match offers and to price what is traded."""

    name: str
    offers: Literal["edges", "orders", "priced orders"]
    """What it is told. Edges: an offer in kW from each end of every edge, M = 2E. Orders: one in kW from every
    prosumer, M = N. Priced orders: those, then a limit price from every prosumer, -1 what the grid pays day-ahead to +1
    what it asks, M = 2N. + buys."""
    summary: str
    source: str


MECHANISMS: dict[str, Mechanism] = {
    each.name: each
    for each in (
        Mechanism(
            "bilateral",
            "edges",
            "neighbours agree edge by edge, at the middle of what the grid pays and asks",
            "arXiv 2409.00493",
        ),
        Mechanism(
            "mid-market-rate",
            "orders",
            "one pool; the longer side is served in proportion, at the middle of what the grid pays and asks",
            "C. Long et al., Peer-to-peer energy trading in a community microgrid, IEEE PES General Meeting, 2017",
        ),
        Mechanism(
            "supply-demand-ratio",
            "orders",
            "one pool; the longer side is served in proportion, the price falls as supply grows",
            "N. Liu et al., Energy-sharing model with price-based demand response for microgrids of peer-to-peer "
            "prosumers, IEEE Transactions on Power Systems 32(5), 2017",
        ),
        Mechanism(
            "double-auction",
            "priced orders",
            "one auction an hour; the best orders trade, all at the middle of the last accepted bid and ask",
            "R. Wilson, Incentive efficiency of double auctions, Econometrica 53(5), 1985 (k = 1/2)",
        ),
    )
}
"""By name. The boards settle bilaterally; the others are for study."""


def mechanism_named(name: str) -> Mechanism:
    """The mechanism called `name`. Raises `UsageError` for an unknown name."""
    if name not in MECHANISMS:
        raise UsageError(f"mechanism {name!r} is not known; choose one of: {', '.join(MECHANISMS)}")
    return MECHANISMS[name]
