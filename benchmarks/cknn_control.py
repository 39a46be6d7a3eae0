"""Do neighbours' days help, or more days? `dcso` against `knn` with as many scenario days, real and permuted contexts.

    python benchmarks/cknn_control.py [--dataset tehran-v0] [--every 1] [--k 3 7 15] [--tau 0.5] [--into-page]

Pooling the k days of each neighbour gives a prosumer more scenarios than k. So `dcso` of a k is compared not only with
`knn` of the same k but with `knn` of a k' that is as many: as many days as a prosumer weighs in `dcso`, or, since it
weighs them unevenly, as many as count: 1 / sum w^2 (both the mean over prosumers and days). With permuted contexts of
the training days nobody knows which days are near; what is left of a difference comes from averaging over more of them.

All play the same dev days in mode open_loop, planned by the central solver. Differences are paired by day, with their
standard error; a negative one says that `dcso` costs less.

Axis letters: D dev days, N prosumers, S training days.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from pages import markdown, publish
from threadpoolctl import threadpool_limits

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.dcso import ConsensusNearestDays
from prosumer_gym.baselines.tuned import tuned_for
from prosumer_gym.baselines.weighted_saa import NearestDays, WeightedSampleAverage
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.leaderboard.play import play_episode
from prosumer_gym.rollout import rollout
from prosumer_gym.scenarios import make_scenario


class Played(NamedTuple):
    """A policy on the dev days."""

    cost_ct: FloatArray
    """[D]."""
    weighed: float
    """Days that a prosumer weighs."""
    effective: float
    """Days that count for it."""


def main() -> None:
    asked = arguments()
    community = make_scenario("ieee33")
    data = load_dataset(asked.dataset)
    days = staged(data, community)
    rows = days.days("dev")[:: asked.every]
    env = TwoStageEnv(data, community, split="dev")
    parameters = [(k, asked.tau) for k in asked.k]
    tuned = tuned_for("dcso", days.training_history()).parameters
    if tuned:
        parameters.append((int(tuned["k"]), float(tuned["tau"])))
    table = []
    for k, tau in parameters:
        for permuted in (False, True):
            table += compared(
                k, tau, permuted, lambda policy: played(policy, env, days, rows), most=int(days.is_training.sum())
            )
            print(f"{len(table)} of {6 * len(parameters)} comparisons", file=sys.stderr)
    head = ("contexts", "k, tau of `dcso`", "days weighed, counting", "k of `knn`", "`dcso`, ct/day", "`knn`, ct/day")
    text = f"{rows.size} dev days of {asked.dataset}.\n\n" + markdown(
        (*head, "difference", "standard error"), table, text_columns=3
    )
    publish("policies.md", f"cknn control {asked.dataset}", text, into_page=asked.into_page)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="tehran-v0")
    parser.add_argument("--every", type=int, default=1, help="every how manieth dev day")
    parser.add_argument("--k", type=int, nargs="*", default=[3, 7, 15], help="besides the tuned one")
    parser.add_argument("--tau", type=float, default=0.5)
    parser.add_argument("--into-page", action="store_true", help="write the table into docs/policies.md")
    return parser.parse_args()


def compared(
    k: int, tau: float, permuted: bool, play: Callable[[WeightedSampleAverage], Played], most: int
) -> list[tuple[str, ...]]:
    """`dcso` against `knn` of the same k, of as many days, and of as many that count; `most`: training days."""
    ours = play(ConsensusNearestDays("open_loop", k=k, tau=tau, permuted=permuted, central=True))
    lines = []
    for rivals_k in (k, round(ours.weighed), round(ours.effective)):
        rival = play(NearestDays("open_loop", k=min(rivals_k, most), permuted=permuted))
        difference = ours.cost_ct - rival.cost_ct
        lines.append(
            (
                "permuted" if permuted else "real",
                f"{k}, {tau:g}",
                f"{ours.weighed:.1f}, {ours.effective:.1f}",
                str(rivals_k),
                f"{ours.cost_ct.mean():.1f}",
                f"{rival.cost_ct.mean():.1f}",
                f"{difference.mean():+.1f}",
                f"{difference.std(ddof=1) / np.sqrt(difference.size):.1f}",
            )
        )
    return lines


def played(policy: WeightedSampleAverage, env: TwoStageEnv, days: Dataset, rows: IntArray) -> Played:
    """The days as the scorer plays them."""
    policy.fit(env.community, days.training_history())
    logs, weights = [], []
    with threadpool_limits(1):
        for row in rows.tolist():
            logs.append(play_episode(env, policy, type(policy).__name__, env.community, days, row, seed=0))
            if logs[-1].first_error:
                raise SystemExit(logs[-1].first_error)
            weights.append(policy.weights(Context.from_history(days, np.array([row]))))
    trace = rollout(env.community, days.exogenous, rows, DayActions.join([log.actions for log in logs]))
    each = np.stack(weights)  # [D,N,S]
    return Played(
        cost_ct=trace.cost_ct.reshape(rows.size, -1).sum(axis=1),
        weighed=float((each > 0).sum(axis=-1).mean()),
        effective=float((1.0 / (each**2).sum(axis=-1)).mean()),
    )


if __name__ == "__main__":
    main()
