"""What more training days are worth: open-loop policies that plan on S of them, dev days; a table and a picture.

    python benchmarks/sample_size.py [--dataset tehran-v0 ...] [--every 1] [--jobs 2] [--write]

S training days, equally spaced, are all that a plan may be made of: `saa` plans on all of them, `knn` and `dcso` on
those whose contexts are nearest (k is the root of S, tau one half, nothing tuned), `er-saa` on the errors that the
forecast made on them. What contexts are scaled by, and the forecast, are learned from all training days. `dcso` is
solved centrally: the plans are those of the negotiation. Days are kept in --kept.

Axis letters: N prosumers, D training days, S of them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pages import DOCS, markdown
from studies import (
    Case,
    Study,
    arguments,
    change,
    datasets,
    dev_days,
    figures,
    finish,
    played,
    reach,
    source_digest,
    study_of,
)

from prosumer_gym.baselines.dcso import ConsensusNearestDays
from prosumer_gym.baselines.er_saa import ResidualSampleAverage
from prosumer_gym.baselines.forecast import DayValues
from prosumer_gym.baselines.policy import Policy
from prosumer_gym.baselines.saa import SampleAverage
from prosumer_gym.baselines.scenario_policy import equally_spaced_days
from prosumer_gym.baselines.weighted_saa import NearestDays
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.leaderboard.entries import BOTH, REFERENCE, Entry
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.scenarios import make_scenario

NAME = "sample_size"
SIZES = (5, 10, 20, 50, 100)
MODE = "open_loop"


class FewAverage(SampleAverage):
    """`saa` on S training days."""

    num_samples: int

    def fit(self, community: Community, history: Dataset) -> None:
        """Choose them."""
        super().fit(community, history)
        rows = np.flatnonzero(history.is_training)[equally_spaced_days(history, self.num_samples)]
        self.days = DayValues.of_history(history, rows)


class FewErrors(ResidualSampleAverage):
    """`er-saa` on the errors of S training days."""

    num_samples: int

    def fit(self, community: Community, history: Dataset) -> None:
        """Choose them."""
        super().fit(community, history)
        self.days = equally_spaced_days(history, self.num_samples)


class FewNearest(NearestDays):
    """`knn` among S training days."""

    num_samples: int

    def learn(self, history: Dataset) -> None:
        """Forget the others."""
        chosen = equally_spaced_days(history, self.num_samples)
        self.days = DayValues(*(values[chosen] for values in self.days))
        self.vectors = self.vectors[chosen]


class FewConsensus(ConsensusNearestDays):
    """`dcso` among S training days."""

    num_samples: int
    learn = FewNearest.learn


def policy(name: str, num_samples: int) -> Policy:
    """The policy that plans on so many training days."""
    k = math.ceil(math.sqrt(num_samples))
    kinds: dict[str, Callable[[], Any]] = {
        "saa": partial(FewAverage, MODE),
        "knn": partial(FewNearest, MODE, k=k),
        "dcso": partial(FewConsensus, MODE, k=k, tau=0.5, central=True),
        "er-saa": partial(FewErrors, MODE),
    }
    made = kinds[name]()
    made.num_samples = num_samples
    made.made_by = source_digest(__file__)
    return made


POLICIES = ("saa", "knn", "dcso", "er-saa")


def main() -> None:
    """Play, tell, keep."""
    asked = arguments(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter))
    studies = []
    for dataset in datasets(asked.dataset):
        stage = Stage(make_scenario("ieee33"), dataset, dev_days(dataset, asked.every))
        settings = [(name, size) for name in POLICIES for size in SIZES]
        entries: list[Entry] = [Entry(REFERENCE, BOTH, "reference", "-")]
        entries += [
            Case(f"{name} of {size} days", MODE, "policy", "-", factory=partial(policy, name, size))
            for name, size in settings
        ]
        reference, *rows = played(stage, entries, asked.kept, asked.jobs, "sample size")
        cases = [{"policy": REFERENCE, **figures(reference.metrics)}]
        cases += [
            {"policy": name, "size": size, **figures(row.metrics)}
            for (name, size), row in zip(settings, rows, strict=True)
        ]
        studies.append(study_of(NAME, asked, stage, cases))
    finish(NAME, studies, tables, write=asked.write)


def tables(studies: Sequence[Study]) -> dict[str, str]:
    """By name of their place on the page."""
    return {f"sample size {study.dataset}": _table(study) for study in studies}


def _table(study: Study) -> str:
    """Cost by S, and the whole step from the least to the most."""
    head = ("policy", *(f"S = {size}" for size in SIZES), f"{SIZES[0]} to {SIZES[-1]}", f"{SIZES[-2]} to {SIZES[-1]}")
    lines = []
    for name in POLICIES:
        costs = [study.days("cost_ct", policy=name, size=size) for size in SIZES]
        steps = [change(costs[-1], costs[place], study.weeks).percent for place in (0, -2)]
        lines.append((f"`{name}`", *(f"{cost.mean():.0f}" for cost in costs), *steps))
    reference = study.days("cost_ct", policy=REFERENCE).mean()
    words = f"{study.told}, open loop, ct/day; `no-control` pays {reference:.0f}. The last columns: change of cost."
    return f"{words}\n\n{markdown(head, lines)}"


def draw(studies: Sequence[Study]) -> None:
    """Cost over S, against `saa` of the least days, which shares their weather: docs/img/sample_size.png."""
    import matplotlib.pyplot as plt

    figure, charts = plt.subplots(1, len(studies), figsize=(4.6 * len(studies), 4.0), layout="constrained")
    for chart, study in zip(np.atleast_1d(charts), studies, strict=True):
        base = study.days("cost_ct", policy="saa", size=SIZES[0])
        for place, name in enumerate(POLICIES):
            told = [change(study.days("cost_ct", policy=name, size=s), base, study.weeks) for s in SIZES]
            where = np.array(SIZES) * 1.04 ** (place - 1.5)  # beside each other
            values = np.array([100 * each.value for each in told])
            style: dict[str, Any] = {"fmt": "o-", "ms": 4, "lw": 1.4, "elinewidth": 0.8, "capsize": 2}
            chart.errorbar(where, values, 100 * reach(told), label=name, **style)
        chart.set(xscale="log", xlabel="training days that the plan may be made of")
        chart.set_xticks(SIZES, [str(size) for size in SIZES])
        chart.minorticks_off()
        chart.set_title(study.told.replace("`", ""), fontsize="medium")
        chart.spines[["top", "right"]].set_visible(False)
        chart.grid(axis="y", color="#dddddd", linewidth=0.6)
    np.atleast_1d(charts)[0].set_ylabel(f"cost against saa of {SIZES[0]} days, %")
    np.atleast_1d(charts)[0].legend(frameon=False)
    figure.savefig(DOCS / "img" / "sample_size.png", dpi=110)


if __name__ == "__main__":
    main()
