"""Plays the same days under every market mechanism and writes the tables and the picture of docs/mechanisms.md.

    python docs/mechanisms.py                     # every data set of the page that is installed; some minutes
    python docs/mechanisms.py --check tehran-v0   # exit 1 where the quick tables of that data set say something else

Tables stand between `<!-- KIND: DATASET ... -->` and `<!-- end -->`. KIND "trades": the same powers, and central offers
of what is over or lacking; "plans": policies and the oracle, each planning for the mechanism.

Axis letters: D days, H hours of a day, N prosumers, M numbers that an hour's offers consist of.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.oracle import oracle_cost
from prosumer_gym.baselines.policy import Policy
from prosumer_gym.baselines.registry import make_policy
from prosumer_gym.community import Community, TradeGraph
from prosumer_gym.datasets import list_datasets, load_dataset
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.leaderboard.anchors import no_control_day
from prosumer_gym.leaderboard.metrics import jain_index
from prosumer_gym.leaderboard.play import play_episode
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import Simulator

PAGE = Path(__file__).with_suffix(".md")
PICTURE = PAGE.parent / "img" / "mechanisms.png"
_TABLE = re.compile(r"(<!-- (trades|plans): (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)

NOBODY, SHADED = "nobody trades", "double-auction, limit prices at random"
_WORSE_CT = 1e-6
"""Whoever pays more by more than this is worse off."""
_TRADED_KW = 1e-6


class Stage(NamedTuple):
    """Days to be played."""

    community: Community
    dataset: Dataset
    rows: IntArray

    def under(self, mechanism: str) -> Stage:
        """The same days and prosumers, trading in another way."""
        return self._replace(community=self.community.replace(mechanism=mechanism))


class Played(NamedTuple):
    """What came of it."""

    cost_ct: FloatArray
    """[D,H,N]"""
    p2p_kw: FloatArray
    """+ buys [D,H,N]."""
    price_ct_per_kwh: FloatArray
    """Of what is traded [D,H]."""
    residual_kw: FloatArray
    """Left for the grid in real time [D,H,N]."""

    @property
    def traded_kw(self) -> FloatArray:
        """[D,H]."""
        return np.asarray(np.maximum(self.p2p_kw, 0.0).sum(axis=2))


@cache
def stage_of(dataset: str) -> Stage:
    """The test days of a data set and the community of the boards."""
    community = make_scenario("ieee33")
    days = staged(load_dataset(dataset), community)
    return Stage(community, days, days.days("test"))


# The same powers under every mechanism


@cache
def powers(dataset: str, name: str) -> DayActions:
    """What is done on each day whoever trades [D,...]; no offers.

    no-control: nobody steers. self-consumption: batteries and shiftable loads as that rule runs them; what it expects
    to lack is bought ahead, and nothing sold ahead, as if there were nobody to trade with.
    """
    stage = stage_of(dataset)
    if name == "no-control":
        days = [no_control_day(stage.community, stage.dataset, int(row)) for row in stage.rows]
    else:
        alone = stage._replace(community=stage.community.replace(graph=TradeGraph.ring_with_chords(1)))
        days = [
            replace(day, position_kw=np.maximum(day.position_kw, 0.0))
            for day in played_days(alone, fitted(alone, "self-consumption", "mpc"), name)
        ]
    return DayActions.stack([replace(day, offers=np.zeros((day.battery_kw.shape[0], 0))) for day in days])


def settled(stage: Stage, actions: DayActions, offers: FloatArray | None) -> Played:
    """The days played with these offers [D,H,M], or with central ones."""
    simulator = Simulator(stage.community, stage.dataset.exogenous, len(stage.rows))
    simulator.reset(stage.rows)
    simulator.commit(np.moveaxis(actions.position_kw, 0, -1))
    hours: list[tuple[FloatArray, ...]] = []
    for hour in range(stage.community.hours_per_day):
        result = simulator.step(
            actions.battery_kw[:, hour].T,
            actions.shiftable_kw[:, hour].T,
            actions.curtail_kw[:, hour].T,
            None if offers is None else offers[:, hour].T,
        )
        assert result.converged.all()
        hours.append(
            (
                result.cost_ct.sum(axis=0).T,
                result.p2p_kw.T.copy(),
                result.p2p_price_ct_per_kwh.copy(),
                result.realtime_kw.T.copy(),
            )
        )
    return Played(*(np.stack(values, axis=1) for values in zip(*hours, strict=True)))


@cache
def trades(dataset: str, name: str) -> dict[str, Played]:
    """The same days without trade, under each mechanism, and in an auction whose limit prices are drawn at random."""
    stage, actions = stage_of(dataset), powers(dataset, name)
    days, hours = actions.battery_kw.shape[:2]
    found = {NOBODY: settled(stage, actions, np.zeros((days, hours, stage.community.num_offers)))}
    for mechanism in MECHANISMS:
        found[mechanism] = settled(stage.under(mechanism), actions, None)
    auction = stage.under("double-auction")
    limit_kw = auction.community.pool_limit_kw
    available_kw = stage.dataset.pv_kw[stage.rows] - actions.curtail_kw
    orders = np.clip(found[NOBODY].residual_kw, -np.minimum(available_kw, limit_kw), limit_kw)
    prices = np.random.default_rng(0).uniform(-1.0, 1.0, orders.shape)
    found[SHADED] = settled(auction, actions, np.concatenate([orders, prices], axis=2))
    return found


def trades_table(dataset: str, name: str) -> str:
    """What trade is worth to whom, the powers being the same."""
    columns = (
        "traded, kWh/day", "price, ct/kWh", "cost, ct/day", "gain, ct/day", "of it sellers", "of it buyers",
        "Jain index", "prosumer-days worse off",
    )  # fmt: skip
    dt_h, found = stage_of(dataset).community.dt_h, trades(dataset, name)
    before = found[NOBODY]
    lines = _head("mechanism", columns)
    for mechanism, played in found.items():
        days = len(played.cost_ct)
        kwh = dt_h * played.traded_kw.sum()
        cost = f"{played.cost_ct.sum() / days:.0f}"
        if mechanism == NOBODY:
            lines.append(_line(f"*{mechanism}*", ["0", "", cost, "", "", "", "", ""]))
            continue
        saved = before.cost_ct - played.cost_ct
        sellers = float(saved[played.p2p_kw < 0].sum() / saved.sum())
        worse = np.mean(saved.sum(axis=1) < -_WORSE_CT)
        lines.append(
            _line(
                _named(mechanism),
                [
                    f"{kwh / days:.1f}",
                    f"{dt_h * (played.price_ct_per_kwh * played.traded_kw).sum() / kwh:.2f}",
                    cost,
                    f"{saved.sum() / days:.0f}",
                    f"{100 * sellers:.0f} %",
                    f"{100 * (1 - sellers):.0f} %",
                    f"{jain_index(saved.sum(axis=(0, 1))):.2f}",
                    f"{100 * worse:.1f} %",
                ],
            )
        )
    return "\n".join(lines) + "\n"


# Policies that plan for the mechanism


def fitted(stage: Stage, name: str, mode: str) -> Policy:
    """A policy that has seen the training days."""
    policy = make_policy(name, mode)
    policy.fit(stage.community, stage.dataset.training_history())
    return policy


def played_days(stage: Stage, policy: Policy, name: str) -> list[DayActions]:
    """What a policy wanted on each day. No step may fail."""
    env = TwoStageEnv(stage.dataset, stage.community, split="test")
    logs = [play_episode(env, policy, name, stage.community, stage.dataset, int(row), 0) for row in stage.rows]
    failed = [log.first_error for log in logs if log.first_error]
    if failed:
        raise SystemExit(failed[0])
    return [log.actions.day(0) for log in logs]


PLANNERS: dict[str, Callable[[Stage], list[DayActions]]] = {
    "`saa`, open loop": lambda stage: played_days(stage, fitted(stage, "saa", "open_loop"), "saa"),
    "`po`, open loop": lambda stage: played_days(stage, fitted(stage, "po", "open_loop"), "po"),
    "`po`, mpc": lambda stage: played_days(stage, fitted(stage, "po", "mpc"), "po"),
    "*oracle-cost*": lambda stage: [
        day.actions.day(0) for day in oracle_cost(stage.community, stage.dataset.exogenous, stage.rows.tolist())
    ],
}


def plans_table(dataset: str) -> str:
    """Policies and the oracle under each mechanism, and who pays less than if nobody steered."""
    columns = ("mechanism", "cost, ct/day", "traded, kWh/day", "price, ct/kWh", "Jain index", "prosumer-days worse off")
    lines = _head("policy", columns)
    plain = trades(dataset, "no-control")[NOBODY].cost_ct.sum(axis=1)  # [D,N]
    day_cost: dict[tuple[str, str], FloatArray] = {}
    for name, planned in PLANNERS.items():
        for mechanism in MECHANISMS:
            stage = stage_of(dataset).under(mechanism)
            actions = DayActions.stack(planned(stage))
            played = settled(stage, actions, actions.offers)
            cost = played.cost_ct.sum(axis=1)
            day_cost[name, mechanism] = cost.sum(axis=1)
            traded = stage.community.dt_h * played.traded_kw
            figures = [
                f"`{mechanism}`",
                f"{cost.sum() / len(cost):.0f}",
                f"{traded.sum() / len(cost):.1f}",
                f"{(played.price_ct_per_kwh * traded).sum() / traded.sum():.2f}",
                f"{jain_index((plain - cost).sum(axis=0)):.2f}",
                f"{100 * np.mean(cost > plain + _WORSE_CT):.1f} %",
            ]
            lines.append(_line(name, figures))
    for (name, mechanism), cost in day_cost.items():  # of the same mechanism, up to the solver's tolerance
        assert np.all(cost >= day_cost["*oracle-cost*", mechanism] * (1 - 1e-6)), (name, mechanism)
    return "\n".join(lines) + "\n"


def _head(first: str, columns: tuple[str, ...]) -> list[str]:
    left = "---|" if columns[0] == "mechanism" else "---:|"
    return [_line(first, list(columns)), "|---|" + left + "---:|" * (len(columns) - 1)]


def _line(first: str, cells: list[str]) -> str:
    return f"| {first} | " + " | ".join(cells) + " |"


def _named(mechanism: str) -> str:
    return re.sub("^double-auction", "`double-auction`", mechanism) if mechanism == SHADED else f"`{mechanism}`"


# The page


def filled(text: str, kinds: tuple[str, ...], datasets: tuple[str, ...]) -> str:
    """The page with the tables of these kinds and data sets as they come out now."""

    def replaced(match: re.Match[str]) -> str:
        head, kind, arguments, tail = match.groups()
        dataset, *rest = arguments.split()
        if kind not in kinds or dataset not in datasets:
            return match.group()
        print(f"{kind} {arguments}", flush=True)
        return head + (trades_table(dataset, *rest) if kind == "trades" else plans_table(dataset)) + tail

    return _TABLE.sub(replaced, text)


def save_picture(dataset: str) -> None:
    """The hour's price against the ratio of supply to demand, and over the day, nobody steering."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ink, muted, grid = "#1f2933", "#6b7785", "#e3e7eb"
    colours = dict(zip(MECHANISMS, ("#c0392b", "#2a6f97", "#4c9f70", "#e0982c"), strict=True))
    stage, found = stage_of(dataset), trades(dataset, "no-control")
    prices = stage.community.tariff.settlement_prices(
        stage.dataset.price_da_ct_per_kwh[stage.rows], stage.dataset.price_rt_ct_per_kwh[stage.rows]
    )
    limit_kw = stage.community.pool_limit_kw
    available_kw = np.minimum(stage.dataset.pv_kw[stage.rows], limit_kw)
    orders = np.clip(found[NOBODY].residual_kw, -available_kw, limit_kw)
    supply, demand = np.maximum(-orders, 0.0).sum(axis=2), np.maximum(orders, 0.0).sum(axis=2)
    both = (supply > _TRADED_KW) & (demand > _TRADED_KW)
    style = {
        "font.size": 9.5, "axes.edgecolor": muted, "axes.labelcolor": ink, "axes.titlesize": 10.5,
        "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": grid,
        "xtick.color": muted, "ytick.color": muted, "text.color": ink, "legend.frameon": False,
    }  # fmt: skip
    with plt.style.context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11.0, 4.2), layout="constrained")
        shown = {
            SHADED: ("double-auction, limit prices at random", colours["double-auction"], 6, 0.45),
            "supply-demand-ratio": ("supply-demand-ratio", colours["supply-demand-ratio"], 7, 0.6),
            "mid-market-rate": ("mid-market-rate; bilateral; double-auction", colours["mid-market-rate"], 7, 0.6),
        }
        for name, (label, colour, size, alpha) in shown.items():
            played = found[name]
            where = both & (played.traded_kw > _TRADED_KW)
            share = (played.price_ct_per_kwh - prices.da_sell) / (prices.da_buy - prices.da_sell)
            left.scatter(
                (supply / np.where(both, demand, 1.0))[where], share[where], s=size, alpha=alpha, color=colour,
                linewidths=0, label=label,
            )  # fmt: skip
        left.set(
            xscale="log", xlim=(0.02, 50), ylim=(-0.03, 1.03), xlabel="supply / demand of the hour",
            title="Price of an hour against scarcity",
        )  # fmt: skip
        left.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
        left.set_yticks([0, 0.5, 1], ["grid\npays", "middle", "grid\nasks"])
        left.legend(loc="upper right", bbox_to_anchor=(1.0, 0.97), fontsize=8.5, markerscale=2.2)
        hour = np.arange(stage.community.hours_per_day)
        right.fill_between(hour, prices.da_sell.mean(axis=0), prices.da_buy.mean(axis=0), color=grid, lw=0, step="mid")
        for name in ("mid-market-rate", "supply-demand-ratio"):
            played, label = found[name], shown[name][0]
            traded = played.traded_kw.sum(axis=0)
            enough = np.where(traded > _TRADED_KW, traded, np.nan)
            mean = (played.price_ct_per_kwh * played.traded_kw).sum(axis=0) / enough
            right.plot(hour, mean, color=colours[name], lw=2.0, label=label, drawstyle="steps-mid")
        right.text(0.0, prices.da_buy.mean(axis=0)[:8].max() + 0.15, "grid asks day-ahead", color=muted, fontsize=8.5)
        right.text(0.0, prices.da_sell.mean(axis=0)[0] - 0.45, "grid pays day-ahead", color=muted, fontsize=8.5)
        right.set(xlim=(-0.5, hour[-1] + 0.5), ylim=(0, None), xlabel="hour", ylabel="ct/kWh")
        right.set_title("Mean price of what is traded")
        right.set_xticks(range(0, len(hour) + 1, 6))
        right.legend(loc="lower left", fontsize=8.5)
        figure.savefig(PICTURE, dpi=130)
        plt.close(figure)


def main() -> None:
    """Write the page, or check its quick tables."""
    before = PAGE.read_text(encoding="utf-8")
    if sys.argv[1:2] == ["--check"]:
        if filled(before, ("trades",), tuple(sys.argv[2:])) != before:
            raise SystemExit(f"{PAGE.name}: not what the days say; run: python docs/mechanisms.py")
        return
    installed = tuple(list_datasets())
    PAGE.write_text(filled(before, ("trades", "plans"), installed), encoding="utf-8")
    save_picture("tehran-v0")
    for name in sorted({match[2].split()[0] for match in _TABLE.findall(before)} - set(installed)):
        print(f"{name} is not installed (docs/data.md): its tables stay as they were")


if __name__ == "__main__":
    main()
