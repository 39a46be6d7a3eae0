"""The core problem solved by the prosumers themselves: they exchange estimates of their trades, and nothing else.

Consensus ADMM after arXiv 2409.00493. Prosumer n holds, for each neighbour m, an estimate z_nm [h] of their trade (+ it
buys), an agreed trade zh_nm and a price lam_nm on top of the mechanism's. A round:

1. n plans (`LocalProblem`): min C_n(z) + lam'(z - zh) + rho/2 |z - zh|^2, and sends z_nm to m.
2. Both ends agree on the middle, zh_nm = (z_nm - z_mn) / 2 = -zh_mn.
3. Both ends move the price, lam_nm += rho (z_nm - zh_nm) = rho (z_nm + z_mn) / 2: it rises where both would buy.

(The general second step has (lam_nm - lam_mn) / (2 rho) on top; both ends move their price by the same number, so that
it is zero for ever when it is zero at first.) Nothing else of a neighbour is known: `Trader` is one prosumer's side.

Acceleration. Steps 1 to 3 start from points lamh, zhh ahead of (lam, zh):

- "restart": Goldstein, O'Donoghue, Setzer, Baraniuk (SIAM J. Imaging Sci. 7(3), 2014), algorithm 8. Their combined
  residual comb = |lam - lamh|^2 / rho + rho |zh - zhh|^2 must fall to less than .999 of the last in every round; then
  both run ahead, else they go back to where they were and gather speed anew.
- "as published" in arXiv 2409.00493: the price alone runs ahead, and never goes back. It need not converge (the theory
  wants strong convexity, which the core problem lacks): for study.
- "none".

Rounds end when |z - zh| <= eps sqrt(dim) and rho |zh - zhh| <= eps sqrt(dim), over the dim numbers of all trades at
both ends: the first is what they disagree by, the second how far each plan is from its optimum at the price lam. These
sums, and whether to restart, are all that `consensus_admm` adds to the messages.

In the end the trades are the agreed ones, cut where a seller has less than it agreed to, the same number at both ends;
each prosumer plans once more with them fixed. So the plan can be carried out however far the rounds have come; when
they reach their cap the agreed trades of the best round are taken, and `converged` says so.

Axis letters: deg neighbours of a prosumer, N prosumers, E edges, S scenarios, H hours of a day, h remaining hours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.baselines.local_problem import LocalProblem
from prosumer_gym.baselines.planning import DayStart, Plan, Scenarios
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError

ACCELERATIONS = ("restart", "as published", "none")
_FALL = 0.999
"""To which share of the last one the combined residual must fall, or the acceleration restarts."""

Messages = dict[int, FloatArray]
"""One array [h] for, or from, each neighbour, by the neighbour's number."""


class Share(NamedTuple):
    """What one prosumer's trades add to the sums of a round, each squared."""

    disagreement: float
    """|z - zh|^2, kW^2."""
    movement: float
    """rho^2 |zh - zhh|^2, (ct/kW)^2."""
    combined: float
    """|lam - lamh|^2 / rho + rho |zh - zhh|^2."""


class Trader:
    """One prosumer's side of the negotiation: of the others it knows what they `send`.

    A round is `plan`, `send`, `receive`, and `go_on` or `go_back`. Who cannot sum the shares of all goes on without
    momentum, for a number of rounds that is agreed beforehand.
    """

    def __init__(self, problem: LocalProblem) -> None:
        self.problem = problem
        shape = (problem.mean_pv_kw.size, problem.neighbours.size)
        self.estimate_kw = np.zeros(shape)
        """z [h,deg]."""
        self.agreed_kw = np.zeros(shape)
        """zh."""
        self.price_ct_per_kw = np.zeros(shape)
        """lam."""
        self._ahead = self._last = self._kept = (self.agreed_kw, self.price_ct_per_kw)

    def begin(self, agreed_kw: FloatArray, price_ct_per_kw: FloatArray) -> None:
        """Go on from what was agreed before, both [h,deg]; its own estimate is that, too."""
        self.estimate_kw, self.agreed_kw, self.price_ct_per_kw = agreed_kw, agreed_kw, price_ct_per_kw
        self._ahead = self._last = self._kept = (agreed_kw, price_ct_per_kw)

    def plan(self) -> None:
        """Step 1: the best plan against what was agreed, from the points ahead."""
        agreed, price = self._ahead
        self.estimate_kw = self.problem.solve(price, agreed).trade_kw

    def send(self) -> Messages:
        """To each neighbour: what this prosumer would trade with it."""
        return self._by_neighbour(self.estimate_kw)

    def receive(self, messages: Mapping[int, FloatArray]) -> Share:
        """Steps 2 and 3, from what the neighbours would trade with this prosumer."""
        rho, (agreed_ahead, price_ahead) = self.problem.rho, self._ahead
        theirs = self._in_columns(messages)
        self._last = (self.agreed_kw, self.price_ct_per_kw)
        self.agreed_kw = 0.5 * (self.estimate_kw - theirs)
        self.price_ct_per_kw = price_ahead + rho * 0.5 * (self.estimate_kw + theirs)
        disagreement = np.sum((self.estimate_kw - self.agreed_kw) ** 2, axis=0)
        movement = np.sum((self.agreed_kw - agreed_ahead) ** 2, axis=0)
        price_movement = np.sum((self.price_ct_per_kw - price_ahead) ** 2, axis=0)
        return Share(
            math.fsum(disagreement),
            rho**2 * math.fsum(movement),
            math.fsum(price_movement) / rho + rho * math.fsum(movement),
        )

    def go_on(self, momentum: float, *, with_agreed: bool = True) -> None:
        """Run ahead by `momentum` times the last move; of the price alone unless `with_agreed`."""
        agreed, price = self._last
        self._ahead = (
            self.agreed_kw + (momentum if with_agreed else 0.0) * (self.agreed_kw - agreed),
            self.price_ct_per_kw + momentum * (self.price_ct_per_kw - price),
        )

    def go_back(self) -> None:
        """Start the next round from where the last one stood."""
        self._ahead = self._last

    def keep(self) -> None:
        """Remember this round as the best so far."""
        self._kept = (self.agreed_kw, self.price_ct_per_kw)

    @property
    def kept_agreed_kw(self) -> FloatArray:
        """What was agreed in the best round [h,deg]."""
        return self._kept[0]

    @property
    def kept_price_ct_per_kw(self) -> FloatArray:
        """The price of the best round [h,deg]."""
        return self._kept[1]

    def send_sales(self) -> Messages:
        """In the end: to each neighbour the agreed sale, all cut alike where they exceed what may be sold, kW."""
        sales = np.maximum(-self._kept[0], 0.0)
        total = sales.sum(axis=1)
        share = np.divide(self.problem.mean_pv_kw, total, out=np.ones(total.size), where=total > 0)
        return self._by_neighbour(sales * np.minimum(share, 1.0)[:, None])

    def settle(self, purchases: Mapping[int, FloatArray]) -> FloatArray:
        """The trades as both ends have them, from what the neighbours sell [h,deg]."""
        return self._in_columns(purchases) - self._in_columns(self.send_sales())

    def _by_neighbour(self, values: FloatArray) -> Messages:
        return {int(m): values[:, column].copy() for column, m in enumerate(self.problem.neighbours)}

    def _in_columns(self, messages: Mapping[int, FloatArray]) -> FloatArray:
        values = np.empty(self.estimate_kw.shape)
        for column, m in enumerate(self.problem.neighbours):
            values[:, column] = messages[int(m)]
        return values


@dataclass(frozen=True, eq=False)
class History:
    """How the rounds went [k]."""

    disagreement_kw: FloatArray
    """|z - zh|."""
    movement_ct_per_kw: FloatArray
    """rho |zh - zhh|."""
    combined: FloatArray
    """What the acceleration looks at."""
    restarted: BoolArray
    """Whether the acceleration went back after the round."""
    target: float
    """To which the first two had to fall: eps sqrt(dim)."""


@dataclass(frozen=True, eq=False)
class AdmmState:
    """What the prosumers remember of a negotiation: where the next one may start."""

    agreed_kw: FloatArray
    """Each edge's agreed trade, + when its first end buys, before it is cut to what may be sold [h,E]."""
    price_ct_per_kw: FloatArray
    """Its price lam, on top of the mechanism's [h,E]."""

    def later(self, hours: int = 1) -> AdmmState:
        """The same when the first `hours` are over."""
        return AdmmState(self.agreed_kw[hours:], self.price_ct_per_kw[hours:])


@dataclass(frozen=True, eq=False)
class AdmmResult:
    """What the prosumers have agreed on."""

    plan: Plan
    price_ct_per_kwh: FloatArray
    """What is paid for each edge's trade, the mechanism's price and lam, the same at both ends [h,E]."""
    iterations: int
    converged: bool
    """Whether the rounds ended before their cap. The plan can be carried out either way."""
    residuals: History
    """How they got there."""
    state: AdmmState
    """From where they may go on, in an hour's time (`state.later()`) or with other scenarios."""


def consensus_admm(
    community: Community,
    start: DayStart,
    scenarios: Scenarios,
    *,
    rho: float = 0.5,
    tolerance: float = 1e-4,
    max_iterations: int = 800,
    acceleration: str = "restart",
    warm: AdmmState | None = None,
    threads: int = 1,
) -> AdmmResult:
    """The community's plan, found by its prosumers.

    Args:
        community: who plans; bilateral.
        start: where the day stands.
        scenarios: what the remaining hours may bring, each prosumer with its own weights.
        rho: how hard a disagreement weighs, ct/kW^2. It changes the number of rounds, not what they lead to.
        tolerance: eps.
        max_iterations: cap on the rounds.
        acceleration: one of `ACCELERATIONS`.
        warm: where the rounds start; without it there is no trade, at the mechanism's price.
        threads: on how many prosumers plan at once; the result is the same.

    Raises `UsageError` for inputs that do not fit together, `SolverError` when a prosumer's problem is not solved.
    """
    if acceleration not in ACCELERATIONS:
        raise UsageError(f"acceleration {acceleration!r} is not known; choose one of: {', '.join(ACCELERATIONS)}")
    for name, value in (("rho", rho), ("tolerance", tolerance)):
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"ADMM: {name} is {value}, must be positive")
    if max_iterations < 1 or threads < 1:
        raise UsageError(f"ADMM: max_iterations ({max_iterations}) and threads ({threads}) must be 1 or more")
    if community.market.offers != "edges":
        raise UsageError(f"ADMM: prosumers negotiate over edges, and {community.mechanism!r} has none; use bilateral")

    expected = (scenarios.load_kw.shape[1], community.num_edges)
    if warm is not None and not warm.agreed_kw.shape == warm.price_ct_per_kw.shape == expected:
        raise UsageError(
            f"ADMM: the state to start from is of {warm.agreed_kw.shape} hours and edges, expected {expected}; "
            "`later` drops the hours that are over"
        )

    def enter(prosumer: int) -> Trader:
        trader = Trader(LocalProblem(community, start, scenarios, prosumer, rho=rho))
        if warm is not None:
            edges, sign = trader.problem.edges, trader.problem.signs
            trader.begin(sign * warm.agreed_kw[:, edges], warm.price_ct_per_kw[:, edges])
        return trader

    def settled(trader: Trader, sold: Messages) -> tuple[FloatArray, Plan, float]:
        trade_kw = trader.settle(sold)
        return trade_kw, trader.problem.plan(trade_kw), trader.problem.least_cost(trader.kept_price_ct_per_kw)

    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        each: Any = pool.map if pool else map
        traders: list[Trader] = list(each(enter, range(community.num_prosumers)))
        history, converged = _negotiate(
            traders, tolerance, max_iterations, acceleration, lambda: list(each(Trader.plan, traders))
        )
        sales = _deliver(trader.send_sales() for trader in traders)
        trades, plans, least_costs = zip(*each(settled, traders, sales), strict=True)
    trade_kw, agreed_kw, extra = np.zeros((3, *expected))
    for trader, own in zip(traders, trades, strict=True):
        first = trader.problem.signs > 0
        edges = trader.problem.edges[first]
        trade_kw[:, edges] = own[:, first]
        agreed_kw[:, edges] = trader.kept_agreed_kw[:, first]
        extra[:, edges] = trader.kept_price_ct_per_kw[:, first]
    p2p_price = traders[0].problem.p2p_price_ct_per_kwh[:, None]
    return AdmmResult(
        plan=_together(community, plans, trade_kw, math.fsum(least_costs), [trader.problem for trader in traders]),
        price_ct_per_kwh=p2p_price + extra / community.dt_h,
        iterations=history.combined.size,
        converged=converged,
        residuals=history,
        state=AdmmState(agreed_kw, extra),
    )


def _negotiate(
    traders: list[Trader], tolerance: float, max_iterations: int, acceleration: str, plan_all: Callable[[], object]
) -> tuple[History, bool]:
    """Rounds until they agree."""
    target = tolerance * math.sqrt(sum(trader.estimate_kw.size for trader in traders))
    history: list[tuple[float, float, float, bool]] = []
    speed, last_combined, best = 1.0, math.inf, math.inf
    converged = False
    while not converged and len(history) < max_iterations:
        plan_all()
        inboxes = _deliver([trader.send() for trader in traders])
        shares = [trader.receive(inbox) for trader, inbox in zip(traders, inboxes, strict=True)]
        disagreement, movement = (math.sqrt(math.fsum(share[i] for share in shares)) for i in (0, 1))
        combined = math.fsum(share.combined for share in shares)
        converged = disagreement <= target and movement <= target
        if converged or max(disagreement, movement) < best:
            best = max(disagreement, movement)
            for trader in traders:
                trader.keep()
        restart = acceleration == "restart" and not combined < _FALL * last_combined
        faster = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * speed**2))
        momentum = 0.0 if acceleration == "none" else (speed - 1.0) / faster
        for trader in traders:
            if restart:
                trader.go_back()
            else:
                trader.go_on(momentum, with_agreed=acceleration == "restart")
        speed, last_combined = (1.0, last_combined / _FALL) if restart else (faster, combined)
        history.append((disagreement, movement, combined, restart))
    columns = [np.array(column) for column in zip(*history, strict=True)]
    return History(columns[0], columns[1], columns[2], columns[3].astype(np.bool_), target), converged


def _deliver(outboxes: Iterable[Messages]) -> list[Messages]:
    """Messages sent, by sender, become messages received, by receiver: along edges only."""
    sent = list(outboxes)
    return [{m: sent[m][n] for m in outbox} for n, outbox in enumerate(sent)]


def _together(
    community: Community, plans: Sequence[Plan], trade_kw: FloatArray, bound_ct: float, problems: list[LocalProblem]
) -> Plan:
    """One plan of all."""
    fallbacks = [reason for plan in plans for reason in plan.fallbacks]
    fallbacks += [f"prosumer {problem.prosumer}: {reason}" for problem in problems for reason in problem.fallbacks]
    return Plan(
        position_kw=np.concatenate([plan.position_kw for plan in plans]),
        battery_kw=np.concatenate([plan.battery_kw for plan in plans], axis=1),
        shiftable_kw=np.concatenate([plan.shiftable_kw for plan in plans], axis=1),
        curtail_kw=np.concatenate([plan.curtail_kw for plan in plans], axis=1),
        trade_kw=trade_kw,
        market=community.market,
        objective_ct=math.fsum(plan.objective_ct for plan in plans),
        lower_bound_ct=bound_ct,
        solver="admm",
        fallbacks=tuple(fallbacks),
    )
