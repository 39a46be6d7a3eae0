"""What reliability costs: `dro` on dev days, its cost against how often its supply falls short, over radius and level.

    python benchmarks/dro_frontier.py [--days 30] [--band 0.2] [--into-page]

Every setting plays the same dev days, equally spaced, in mode open_loop. An hour of a prosumer counts as violated where
what it buys in real time, as recorded, exceeds what the rule of the gate's plan buys for the deviation that came.
Radius and level are those of cost and reliability alike, in p.u. of the connection; the band keeps the rule from
leaving everything to real time, which would make any reliability slack. "all hours" divides the level by the hours
(Bonferroni), as the policy does; "each hour" does not. A finished setting is kept in the file of --kept and is not
played again.

With --full-rule: what a rule that answers all hours seen so far saves in the plan of the first prosumer alone, against
one that answers each hour by itself; few samples, for it is slow.

Axis letters: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from pages import markdown, publish

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import IntArray
from prosumer_gym.baselines.dro import DistributionallyRobust
from prosumer_gym.baselines.dro_program import Deviations, Robustness, RobustPlan, solve_dro
from prosumer_gym.baselines.dro_reference import dro_reference
from prosumer_gym.baselines.fit_cache import source_digest
from prosumer_gym.baselines.planning import DayStart
from prosumer_gym.baselines.policy import Policy
from prosumer_gym.baselines.registry import make_policy
from prosumer_gym.baselines.scenario_policy import uniform_scenarios
from prosumer_gym.baselines.tuning import gate_observation
from prosumer_gym.baselines.wasserstein import support_of
from prosumer_gym.community import Fleet, TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.leaderboard.play import play_episode
from prosumer_gym.rollout import Trace, rollout
from prosumer_gym.scenarios import make_scenario

RADII = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TOLD = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
"""Radii of the table; the picture has all."""
LEVELS = ((0.05, False), (0.05, True), (0.1, True), (0.2, True))
"""Level, and whether of each hour by itself."""
RIVALS = ("no-control", "po", "er-saa")
NO_KW = 1e-3
Found = dict[str, float]


def main() -> None:
    asked = arguments()
    community = make_scenario("ieee33")
    data = load_dataset(asked.dataset)
    days = staged(data, community)
    if asked.full_rule:
        print(full_rule(days))
        return
    dev = days.days("dev")
    rows = dev[np.linspace(0, dev.size - 1, min(asked.days, dev.size)).round().astype(np.int64)]
    env = TwoStageEnv(data, community, split="dev")
    kept = Kept(asked.kept, f"{source_digest()} {asked.dataset} {asked.band} {rows.tolist()}")
    settings = [(eps, individual, rho) for eps, individual in LEVELS for rho in RADII]
    rivals = {name: kept.get(name, lambda name=name: rival(name, env, days, rows)) for name in RIVALS}
    found = {}
    for done, (eps, individual, rho) in enumerate(settings, 1):

        def frontier(eps: float = eps, individual: bool = individual, rho: float = rho) -> Found:
            policy = DistributionallyRobust(
                "open_loop", rho_obj=rho, rho_cc=rho, band_pu=asked.band, eps=eps, individual=individual
            )
            return robust(policy, env, days, rows)

        found[eps, individual, rho] = kept.get(f"{eps} {individual} {rho}", frontier)
        print(f"\r{done} of {len(settings)} settings", end="\n" if done == len(settings) else "", file=sys.stderr)
    publish("policies.md", "dro frontier", table(found, rivals, rows.size, asked.band), into_page=asked.into_page)
    draw(found, rivals, asked.band, rows.size)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="tehran-v0")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--band", type=float, default=0.2, help="p.u. of the connection")
    parser.add_argument("--kept", type=Path, default=Path("runs/dro_frontier.jsonl"))
    parser.add_argument("--into-page", action="store_true", help="write the table into docs/policies.md")
    parser.add_argument("--full-rule", action="store_true")
    return parser.parse_args()


class Kept:
    """What was played, a line a setting; begun anew for other code, data, days or band."""

    def __init__(self, path: Path, revision: str) -> None:
        self.path, self.found = path, dict[str, Found]()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines and json.loads(lines[0]) == revision:
            for line in lines[1:]:
                try:
                    name, found = json.loads(line)
                except ValueError:
                    break  # cut off by a kill
                self.found[name] = found
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = [json.dumps(revision), *(json.dumps(item) for item in self.found.items())]
        path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")

    def get(self, name: str, compute: Any) -> Found:
        """What is kept of a setting, else what `compute` finds now."""
        if name not in self.found:
            self.found[name] = compute()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, self.found[name]]) + "\n")
        return self.found[name]


def played(policy: Policy, env: TwoStageEnv, days: Dataset, rows: IntArray) -> tuple[Trace, list[Any]]:
    """The days as the scorer plays them, and what the policy told of each day's plan."""
    policy.fit(env.community, days.training_history())
    logs, told = [], []
    for row in rows.tolist():
        logs.append(play_episode(env, policy, type(policy).__name__, env.community, days, row, seed=0))
        told.append(getattr(policy, "diagnostics", None))
        if logs[-1].first_error:
            raise SystemExit(logs[-1].first_error)
    trace = rollout(env.community, days.exogenous, rows, DayActions.join([log.actions for log in logs]))
    return trace, told


def rival(name: str, env: TwoStageEnv, days: Dataset, rows: IntArray) -> Found:
    trace, _ = played(make_policy(name, "open_loop"), env, days, rows)
    return {"cost": float(trace.cost_ct.sum()) / rows.size, "peak": float(trace.exchange_kw.max(axis=1).mean())}


def robust(policy: DistributionallyRobust, env: TwoStageEnv, days: Dataset, rows: IntArray) -> Found:
    trace, told = played(policy, env, days, rows)
    plans: list[RobustPlan] = [each["robust_plan"] for each in told]
    net_kw = days.load_kw[rows] - days.pv_kw[rows]
    planned_kw = np.stack([plan.real_time_kw(net) for plan, net in zip(plans, net_kw, strict=True)])
    short = trace.realtime_kw - planned_kw > NO_KW  # [D,H,N]
    return {
        "cost": float(trace.cost_ct.sum()) / rows.size,
        "peak": float(trace.exchange_kw.max(axis=1).mean()),
        "days": float(short.any(axis=1).mean()),
        "worst hour": float(short.mean(axis=(0, 2)).max()),
        "hours": float(short.mean()),
        "emergency": float(np.mean([each["emergency_kwh"] for each in told])),
    }


def table(found: dict[Any, Found], rivals: dict[str, Found], num_days: int, band: float) -> str:
    head = (
        "eps",
        "of",
        "radius, p.u.",
        "ct/day",
        "peak, kW",
        "days short",
        "worst hour",
        "hours short",
        "bought, kWh",
    )
    lines = [
        (
            f"{eps:.0%}", "each hour" if individual else "all hours", f"{rho:g}", f"{each['cost']:.0f}",
            f"{each['peak']:.0f}", f"{each['days']:.1%}", f"{each['worst hour']:.1%}", f"{each['hours']:.2%}",
            f"{each['emergency']:.1f}",
        )
        for (eps, individual, rho), each in found.items()
        if rho in TOLD
    ]  # fmt: skip
    others = "; ".join(f"`{name}` {each['cost']:.0f} ct/day, {each['peak']:.0f} kW" for name, each in rivals.items())
    words = (
        f"{num_days} dev days, band {band:g} p.u.; short: what real time had to buy beyond the rule; bought: "
        f"in plan, at the emergency price, per day. On the same days: {others}."
    )
    return f"{words}\n\n{markdown(head, lines, text_columns=2)}"


def draw(found: dict[Any, Found], rivals: dict[str, Found], band: float, num_days: int) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    for eps, individual in LEVELS:
        line = [found[eps, individual, rho] for rho in RADII]
        label = f"{eps:.0%} of {'each hour' if individual else 'all hours'}"
        axes.plot(
            [100 * each["days"] for each in line], [each["cost"] / 1000 for each in line], "o-", ms=4, label=label
        )
    for name, style in zip(("no-control", "er-saa"), ("--", ":"), strict=True):
        axes.axhline(rivals[name]["cost"] / 1000, color="0.5", ls=style, lw=1)
        axes.annotate(
            name, (1, rivals[name]["cost"] / 1000), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    axes.set(
        xlabel="days of a prosumer with an hour short of the rule, %",
        ylabel="cost of the community, 1000 ct/day",
        title=f"dro, {num_days} dev days, band {band:g} p.u.: along a line the radius grows to the left",
    )
    axes.title.set_fontsize("medium")
    axes.legend(title="level", frameon=False, loc="center right")
    axes.spines[["top", "right"]].set_visible(False)
    path = Path(__file__).parents[1] / "docs" / "img" / "dro_frontier.png"
    figure.savefig(path, dpi=110)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB", file=sys.stderr)


def full_rule(days: Dataset, num_samples: int = 12) -> str:
    """A table of planned costs on a gate of the dev days."""
    scenario = make_scenario("ieee33")
    fleet = Fleet(**{item.name: getattr(scenario.fleet, item.name)[:1] for item in fields(Fleet)})
    community = scenario.replace(fleet=fleet, graph=TradeGraph.ring_with_chords(1))
    policy = DistributionallyRobust("open_loop", rho_obj=0.0, rho_cc=0.0)
    policy.fit(scenario, days.training_history())
    row = int(days.days("dev")[45])
    obs = gate_observation(scenario, days, row)
    every = policy.scenarios(obs)
    few = np.linspace(0, len(every.load_kw) - 1, num_samples).round().astype(np.int64)
    cases = uniform_scenarios(every.load_kw[few, :, :1], every.pv_kw[few, :, :1], every.price_rt_ct_per_kwh[few])
    expected_kw = policy.deviations(obs, every).expected_kw[:, :1]
    nominal_kw = fleet.connection_limit_kw
    xi = (cases.load_kw - cases.pv_kw - expected_kw) / nominal_kw
    deviations = Deviations(nominal_kw, expected_kw, xi, *support_of(xi))
    start = DayStart(
        0, fleet.soc_initial_kwh, np.zeros(1), np.zeros(1), days.shiftable_ref_kw[row, :, :1],
        days.price_da_ct_per_kwh[row],
    )  # fmt: skip
    lines = []
    for rho in (0.0, 1e-3, 1e-2):
        asked = Robustness(0.0, rho, 0.05, 0.2 * nominal_kw)
        diagonal = solve_dro(community, start, cases, deviations, asked).plan.objective_ct
        row_of = [f"{rho:g}", f"{diagonal:.1f}"]
        for norm in (1, 2):
            full = dro_reference(
                community, start, cases, deviations, asked, regulariser=1e-3, full_rule=True, norm=norm
            )  # fmt: skip
            full.problem.solve(solver="CLARABEL")
            row_of.append(f"{full.problem.value:.1f} ({full.problem.status})")
        lines.append(row_of)
        print(f"radius {rho:g} done", file=sys.stderr)
    head = ("radius, p.u.", "each hour by itself", "all hours so far, 1-norm", "all hours so far, 2-norm")
    return f"Planned cost of one prosumer, ct, {num_samples} samples:\n\n{markdown(head, lines)}"


if __name__ == "__main__":
    main()
