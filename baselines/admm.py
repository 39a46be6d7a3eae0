"""The core problem solved by the prosumers themselves: they exchange estimates of their trades, and nothing else.

Consensus ADMM after arXiv 2409.00493. Prosumer n holds, for each neighbour m, an estimate z_nm [h] of their trade (+ it
buys), an agreed trade zh_nm and a price lam_nm on top of the mechanism's. A round:

1. n plans (`LocalProblem`): min C_n(z) + lam'(z - zh) + rho/2 |z - zh|^2, and sends z_nm to m.
2. Both ends agree on the middle, zh_nm = (z_nm - z_mn) / 2 = -zh_mn.
3. Both ends move the price, lam_nm += rho (z_nm - zh_nm) = rho (z_nm + z_mn) / 2: it rises where both would buy.

(The general second step has (lam_nm - lam_mn) / (2 rho) on top; both ends move their price by the same number, so that
it is zero for ever when it is zero at first.) Nothing else of a neighbour is known, but for the hours in which it
generates nothing, and so sells nothing, which it says once: else its neighbours' last watts of demand keep the price
rising for hundreds of rounds. `Trader` is one prosumer's side.

Acceleration. Steps 1 to 3 start from points lamh, zhh ahead of (lam, zh):

- "restart": Goldstein, O'Donoghue, Setzer, Baraniuk (SIAM J. Imaging Sci. 7(3), 2014), algorithm 8. Their combined
  residual comb = |lam - lamh|^2 / rho + rho |zh - zhh|^2 must fall to less than .999 of the last in every round; then
  both run ahead, else they go back to where they were and gather speed anew.
- "as published" in arXiv 2409.00493: the price alone runs ahead, and never goes back. It need not converge (the theory
  wants strong convexity, which the core problem lacks): for study.
- "none".

Where voltages are priced the operator of the feeder takes part (`admm_network`): what a prosumer draws in the hours
that the operator watches are estimates like its trades, and agreed upon with the operator in step 2.

Rounds end when |z - zh| <= eps sqrt(dim) and rho |zh - zhh| <= eps sqrt(dim), over the dim numbers of all trades at
both ends, and of what is drawn where the operator watches: the first is what they disagree by, the second how far each
plan is from its optimum at the price lam. These sums, and whether to restart, are all that `consensus_admm` adds to the
messages.

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
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.baselines.admm_network import Operator
from prosumer_gym.baselines.core_matrices import NO_KW
from prosumer_gym.baselines.local_problem import LocalProblem, OwnPlan
from prosumer_gym.baselines.network import NetworkPenalty
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
        self._degree = problem.neighbours.size
        self.estimate_kw = problem.at_rest_kw
        """z [h,deg]; two columns more, what it would draw, with an operator."""
        self.agreed_kw = self.estimate_kw
        """zh."""
        self.price_ct_per_kw = np.zeros(self.estimate_kw.shape)
        """lam."""
        self._ahead = self._last = self._kept = (self.agreed_kw, self.price_ct_per_kw)

    def begin(self, agreed_kw: FloatArray, price_ct_per_kw: FloatArray) -> None:
        """Go on from what was agreed before, both [h,deg(+2)]; its own estimate is that, too."""
        self.estimate_kw, self.agreed_kw, self.price_ct_per_kw = agreed_kw, agreed_kw, price_ct_per_kw
        self._ahead = self._last = self._kept = (agreed_kw, price_ct_per_kw)

    def may_sell(self) -> Messages:
        """To each neighbour, once: 1 in the hours in which this prosumer may sell anything, else 0."""
        generates = np.where(self.problem.mean_pv_kw > NO_KW, 1.0, 0.0)
        return {int(m): generates.copy() for m in self.problem.neighbours}

    def hear(self, messages: Mapping[int, FloatArray]) -> None:
        """In which hours each neighbour may sell. Without it the price alone would have to keep it from buying."""
        self.problem.hear(self._in_columns(messages) > 0.5)

    def plan(self) -> None:
        """Step 1: the best plan against what was agreed, from the points ahead."""
        agreed, price = self._ahead
        self.estimate_kw = self.problem.solve(price, agreed).estimate_kw

    def send(self) -> Messages:
        """To each neighbour: what this prosumer would trade with it."""
        return self._by_neighbour(self.estimate_kw)

    def report(self) -> FloatArray:
        """To the operator: what it would draw, and what that is to cost, as one number each, y + mu / rho [h,2]."""
        price = self._ahead[1][:, self._degree :]
        return np.asarray(self.estimate_kw[:, self._degree :] + price / self.problem.rhos[self._degree :])

    def receive(self, messages: Mapping[int, FloatArray], drawn_kw: FloatArray | None = None) -> Share:
        """Steps 2 and 3, from what neighbours would trade with it and what the operator would have it draw [h,2]."""
        rhos, (agreed_ahead, price_ahead) = self.problem.rhos, self._ahead
        theirs, own = self._in_columns(messages), self.estimate_kw[:, : self._degree]
        self._last = (self.agreed_kw, self.price_ct_per_kw)
        agreed, apart = 0.5 * (own - theirs), 0.5 * (own + theirs)
        if drawn_kw is not None:
            agreed = np.hstack([agreed, drawn_kw])
            apart = np.hstack([apart, self.estimate_kw[:, self._degree :] - drawn_kw])
        self.agreed_kw, self.price_ct_per_kw = agreed, price_ahead + rhos * apart
        disagreement = np.sum((self.estimate_kw - agreed) ** 2, axis=0)
        movement = np.sum((agreed - agreed_ahead) ** 2, axis=0)
        price_movement = np.sum((self.price_ct_per_kw - price_ahead) ** 2, axis=0)
        return Share(
            math.fsum(disagreement),
            math.fsum(rhos**2 * movement),
            math.fsum(price_movement / rhos) + math.fsum(rhos * movement),
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
    def kept(self) -> tuple[FloatArray, FloatArray]:
        """What was agreed in the best round, and the prices, both [h,deg(+2)]."""
        return self._kept

    def send_sales(self) -> Messages:
        """In the end: to each neighbour the agreed sale, all cut alike where they exceed what may be sold, kW."""
        sales = np.maximum(-self._kept[0][:, : self._degree], 0.0)
        total = sales.sum(axis=1)
        share = np.divide(self.problem.mean_pv_kw, total, out=np.ones(total.size), where=total > 0)
        return self._by_neighbour(sales * np.minimum(share, 1.0)[:, None])

    def settle(self, purchases: Mapping[int, FloatArray]) -> FloatArray:
        """The trades as both ends have them, from what the neighbours sell [h,deg]."""
        return self._in_columns(purchases) - self._in_columns(self.send_sales())

    def carry_out(self, trade_kw: FloatArray) -> OwnPlan:
        """What it does with these trades [h,deg], at what the operator asked for in the best round."""
        if self.estimate_kw.shape[1] == self._degree:
            return self.problem.plan(trade_kw)
        agreed, price = self._kept
        return self.problem.plan(trade_kw, price[:, self._degree :], agreed[:, self._degree :])

    def least_cost(self, node_price_ct_per_kw: FloatArray | None) -> float:
        """What it pays at least at the prices of the best round, and those of its node [h,2]: part of a bound."""
        price = self._kept[1]
        if node_price_ct_per_kw is not None:
            price = np.hstack([price[:, : self._degree], node_price_ct_per_kw])
        return self.problem.least_cost(price)

    def _by_neighbour(self, values: FloatArray) -> Messages:
        return {int(m): values[:, column].copy() for column, m in enumerate(self.problem.neighbours)}

    def _in_columns(self, messages: Mapping[int, FloatArray]) -> FloatArray:
        values = np.empty((len(self.estimate_kw), self._degree))
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
    drawn_kw: FloatArray | None = None
    """Net import and consumption as agreed with the operator, if there was one [h,N,2]."""
    node_price_ct_per_kw: FloatArray | None = None
    """Their prices [h,N,2]."""

    @classmethod
    def remembered(cls, traders: Sequence[Trader], num_edges: int) -> AdmmState:
        """What they have kept, put together."""
        hours = len(traders[0].estimate_kw)
        agreed_kw, price = np.zeros((2, hours, num_edges))
        for trader in traders:
            first = trader.problem.signs > 0
            for whole, own in zip((agreed_kw, price), trader.kept, strict=True):
                whole[:, trader.problem.edges[first]] = own[:, : first.size][:, first]
        if not traders[0].problem.is_watched:
            return cls(agreed_kw, price)
        drawn_kw, node_price = (np.stack([t.kept[i][:, -2:] for t in traders], axis=1) for i in (0, 1))
        return cls(agreed_kw, price, drawn_kw, node_price)

    def of(self, problem: LocalProblem) -> tuple[FloatArray, FloatArray]:
        """What one prosumer remembers, to begin with: agreed and prices, both [h,deg(+2)]."""
        agreed_kw = problem.signs * self.agreed_kw[:, problem.edges]
        price = self.price_ct_per_kw[:, problem.edges]
        if problem.is_watched:
            at_rest, n = problem.at_rest_kw[:, -2:], problem.prosumer
            drawn_kw = at_rest if self.drawn_kw is None else self.drawn_kw[:, n]
            node_price = np.zeros(at_rest.shape)
            if self.node_price_ct_per_kw is not None:
                node_price = np.where(problem.is_there[:, -2:], self.node_price_ct_per_kw[:, n], 0.0)
            agreed_kw, price = np.hstack([agreed_kw, drawn_kw]), np.hstack([price, node_price])
        return agreed_kw, price

    def later(self, hours: int = 1) -> AdmmState:
        """The same when the first `hours` are over."""
        return AdmmState(
            *(None if values is None else values[hours:] for values in vars(self).values())  # type: ignore[arg-type]
        )


@dataclass(frozen=True, eq=False)
class AdmmResult:
    """What the prosumers have agreed on."""

    plan: Plan
    price_ct_per_kwh: FloatArray
    """What is paid for each edge's trade, the mechanism's price and lam, the same at both ends [h,E]."""
    node_price_ct_per_kwh: FloatArray
    """What a kWh more of net import, and of consumption, costs in voltages at each prosumer's node [h,N,2]."""
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
    network: NetworkPenalty | None = None,
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
        network: prices the expected voltages beyond their limits, if given: the operator of the feeder takes part.
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

    hours, num_prosumers, num_edges = scenarios.load_kw.shape[1], community.num_prosumers, community.num_edges
    if warm is not None and not warm.agreed_kw.shape == warm.price_ct_per_kw.shape == (hours, num_edges):
        raise UsageError(
            f"ADMM: the state to start from is of {warm.agreed_kw.shape} hours and edges, expected "
            f"{(hours, num_edges)}; `later` drops the hours that are over"
        )
    operator = None
    if network is not None and network.price_ct_per_pu_h > 0:
        operator = Operator(community, scenarios, network, rho=rho)
        operator = operator if operator.watch.hours.any() else None

    def enter(prosumer: int) -> Trader:
        watch = None if operator is None else operator.watch
        trader = Trader(LocalProblem(community, start, scenarios, prosumer, rho=rho, watch=watch))
        if warm is not None:
            trader.begin(*warm.of(trader.problem))
        return trader

    def settled(trader: Trader, sold: Messages) -> tuple[FloatArray, OwnPlan, float]:
        trade_kw, n = trader.settle(sold), trader.problem.prosumer
        node_price = None if operator is None else operator.node_price_ct_per_kw[:, n]
        return trade_kw, trader.carry_out(trade_kw), trader.least_cost(node_price)

    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        each: Any = pool.map if pool else map
        traders: list[Trader] = list(each(enter, range(num_prosumers)))
        for trader, heard in zip(traders, _deliver(trader.may_sell() for trader in traders), strict=True):
            trader.hear(heard)
        if operator is not None:
            operator.meet(np.stack([trader.problem.is_fixed for trader in traders], axis=1))
        history, converged = _negotiate(
            traders, operator, tolerance, max_iterations, acceleration, lambda: list(each(Trader.plan, traders))
        )
        sales = _deliver(trader.send_sales() for trader in traders)
        trades, own_plans, least_costs = zip(*each(settled, traders, sales), strict=True)
    trade_kw = np.zeros((hours, num_edges))
    for trader, own in zip(traders, trades, strict=True):
        first = trader.problem.signs > 0
        trade_kw[:, trader.problem.edges[first]] = own[:, first]
    plan = _together(community, [own.plan for own in own_plans], trade_kw, math.fsum(least_costs), traders)
    node_price = np.zeros((hours, num_prosumers, 2))
    if operator is not None and network is not None:
        node_price = operator.node_price_ct_per_kw / community.dt_h
        excess_pu_h = operator.excess_pu_h(np.stack([own.drawn_kw for own in own_plans], axis=1))
        plan = replace(
            plan, voltage_excess_pu_h=excess_pu_h,
            objective_ct=plan.objective_ct + network.price_ct_per_pu_h * excess_pu_h,
            lower_bound_ct=plan.lower_bound_ct + operator.least_cost,
            fallbacks=plan.fallbacks + tuple(f"operator: {reason}" for reason in operator.fallbacks),
        )  # fmt: skip
    state = AdmmState.remembered(traders, num_edges)
    return AdmmResult(
        plan=plan,
        price_ct_per_kwh=traders[0].problem.p2p_price_ct_per_kwh[:, None] + state.price_ct_per_kw / community.dt_h,
        node_price_ct_per_kwh=node_price,
        iterations=history.combined.size,
        converged=converged,
        residuals=history,
        state=state,
    )


def _negotiate(
    traders: list[Trader],
    operator: Operator | None,
    tolerance: float,
    max_iterations: int,
    acceleration: str,
    plan_all: Callable[[], object],
) -> tuple[History, bool]:
    """Rounds until they agree."""
    target = tolerance * math.sqrt(sum(np.count_nonzero(trader.problem.is_there) for trader in traders))
    history: list[tuple[float, float, float, bool]] = []
    speed, last_combined, best = 1.0, math.inf, math.inf
    converged = False
    while not converged and len(history) < max_iterations:
        plan_all()
        inboxes = _deliver([trader.send() for trader in traders])
        answers: Iterable[FloatArray | None] = [None] * len(traders)
        if operator is not None:
            answers = operator.answer(np.stack([trader.report() for trader in traders], axis=1)).swapaxes(0, 1)
        shares = [
            trader.receive(inbox, answer) for trader, inbox, answer in zip(traders, inboxes, answers, strict=True)
        ]
        disagreement, movement = (math.sqrt(math.fsum(share[i] for share in shares)) for i in (0, 1))
        combined = math.fsum(share.combined for share in shares)
        converged = disagreement <= target and movement <= target
        if converged or max(disagreement, movement) < best:
            best = max(disagreement, movement)
            for trader in traders:
                trader.keep()
            if operator is not None:
                operator.keep()
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
    community: Community, plans: Sequence[Plan], trade_kw: FloatArray, bound_ct: float, traders: Sequence[Trader]
) -> Plan:
    """One plan of all."""
    fallbacks = [reason for plan in plans for reason in plan.fallbacks]
    for problem in (trader.problem for trader in traders):
        fallbacks += [f"prosumer {problem.prosumer}: {reason}" for reason in problem.fallbacks]
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
