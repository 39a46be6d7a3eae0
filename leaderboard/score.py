"""From recorded days to scores: ratios of sums between the reference (0) and perfect foresight (1).

Everything here is a pure function of recorded figures; nothing is simulated.

Axis letters: M metrics in the order of `protocol.METRICS`, R training seeds, D days, K episodes, N prosumers. Days come
one episode after the other, each of the same number of days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.leaderboard.metrics import DayMetrics, jain_index, self_consumption, self_sufficiency
from prosumer_gym.leaderboard.protocol import METRICS, SCORE_TOLERANCE, WEIGHTS, RunError
from prosumer_gym.leaderboard.statistics import (
    Interval,
    Weekly,
    better_than_reference,
    day_scores,
    iqm,
    performance_profile,
    score_interval,
    weekly_sums,
    worst_days,
)

SCORED = {"cost": "cost_ct", "peak": "peak_ratio", "voltage": "voltage_pu_h"}
"""Which figure of a day each score is made of."""

PROFILE_THRESHOLDS = np.round(np.linspace(-0.5, 1.0, 31), 2)


class ImpossibleScoreError(RunError):
    """A score that cannot be: a policy beat perfect foresight. Never a policy's fault; the run fails."""


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What the policies of a board are measured with, the same for all of them."""

    reference: FloatArray
    """The metrics of nobody steering [M,D]."""
    ideal: FloatArray
    """What the oracle of each metric attains in each episode; 0 for the voltage [M,K]."""
    gap: FloatArray
    """By how much the oracles' solver may have missed their optimum [M,K]."""
    week: IntArray
    """Number of the week of each day, of all days of an episode that in which it begins [D]."""
    reference_per_prosumer_ct: FloatArray
    """Cost of each prosumer under the reference [D,N]."""
    best_oracle_j: float
    """The best J that any oracle attains: one day cannot be ideal in every metric at once."""

    @property
    def num_days(self) -> int:
        """D."""
        return int(self.reference.shape[1])

    @property
    def num_episodes(self) -> int:
        """K."""
        return int(self.ideal.shape[1])

    @property
    def days_per_episode(self) -> int:
        """D / K."""
        return self.num_days // self.num_episodes

    @property
    def room(self) -> FloatArray:
        """Between reference and oracle, all days together [M]."""
        return np.asarray((by_episode(self.reference, self.days_per_episode) - self.ideal).sum(axis=1))

    @property
    def weight(self) -> FloatArray:
        """Of each metric in J [M]: the protocol's; a metric without room is left out, the others rescaled to sum 1."""
        given = np.array([WEIGHTS[name] for name in METRICS])
        kept = np.where(self.room > 1e-9 * np.maximum(np.abs(self.reference).sum(axis=1), 1e-9), given, 0.0)
        return kept / kept.sum() if kept.any() else kept


@dataclass(frozen=True, eq=False)
class Score:
    """How a policy stands on a board. What cannot be said is NaN or None."""

    j: float
    j_interval: Interval | None
    s: dict[str, float]
    """By metric; NaN where the reference leaves nothing to improve."""
    s_interval: dict[str, Interval | None]
    iqm: float
    worst_days: float
    better_than_reference: float
    profile: FloatArray
    """Share of days with a score of at least each of `PROFILE_THRESHOLDS`."""


def scored_metrics(runs: Sequence[DayMetrics]) -> FloatArray:
    """The metrics that enter the score [M,R,D] from the recorded days of each seed."""
    return np.stack([np.stack([getattr(run, SCORED[name]) for run in runs]) for name in METRICS])


def by_episode(values: FloatArray, days_per_episode: int) -> FloatArray:
    """Sums over the days of each episode: `[...,D]` -> `[...,K]`."""
    num_episodes = values.shape[-1] // days_per_episode
    return np.asarray(values.reshape(*values.shape[:-1], num_episodes, days_per_episode).sum(axis=-1))


def normalised(policy: FloatArray, reference: FloatArray, ideal: FloatArray) -> float:
    """(sum reference - sum policy) / (sum reference - sum ideal): never a mean of ratios.

    Over the days [D]; the ideal may be given by episode [K]. NaN where the reference equals the ideal.
    """
    room = float(reference.sum() - ideal.sum())
    return float(reference.sum() - policy.sum()) / room if room != 0.0 else float("nan")


def headline(s: dict[str, float], weight: FloatArray) -> float:
    """J: the weighted sum of the scores; those of weight 0 are not read. NaN if nothing is left to score."""
    if not weight.any():
        return float("nan")
    return float(sum(w * s[name] for name, w in zip(METRICS, weight.tolist(), strict=True) if w > 0.0))


def score(name: str, runs: Sequence[DayMetrics], yard: Yardstick) -> Score:
    """Score of the policy `name` from its recorded days, one `DayMetrics` per training seed.

    Raises:
        ImpossibleScoreError: it beat an oracle in an episode.
    """
    metrics = scored_metrics(runs)
    check_bound(name, metrics, yard)
    mean = metrics.mean(axis=1)  # [M,D]
    weight = yard.weight
    s = {
        metric: normalised(mean[m], yard.reference[m], yard.ideal[m]) if weight[m] > 0.0 else float("nan")
        for m, metric in enumerate(METRICS)
    }
    sums = weekly(name, runs, yard)
    alone = np.eye(len(METRICS)) * (weight > 0.0)
    daily = day_scores(metrics, yard.reference, yard.room / yard.num_days, weight)
    return Score(
        j=headline(s, weight),
        j_interval=score_interval(sums),
        s=s,
        s_interval={metric: score_interval(sums.with_weight(alone[m])) for m, metric in enumerate(METRICS)},
        iqm=iqm(daily),
        worst_days=worst_days(daily),
        better_than_reference=better_than_reference(daily),
        profile=performance_profile(daily, PROFILE_THRESHOLDS),
    )


def weekly(name: str, runs: Sequence[DayMetrics], yard: Yardstick) -> Weekly:
    """What the intervals of the policy `name` are made of."""
    metrics = scored_metrics(runs)
    return Weekly(
        policy=weekly_sums(metrics, yard.week),
        reference=weekly_sums(yard.reference, yard.week),
        ideal=weekly_sums(yard.ideal, yard.week[:: yard.days_per_episode]),
        weight=yard.weight,
        name=name,
        num_episodes=yard.num_episodes,
    )


def check_bound(name: str, metrics: FloatArray, yard: Yardstick) -> None:
    """No policy beats perfect foresight, in any episode (so that S <= 1); metrics [M,R,D].

    Raises:
        ImpossibleScoreError: naming the policy, the metric and the episode.
    """
    slack = SCORE_TOLERANCE * np.maximum(yard.room, 0.0)[:, np.newaxis] / yard.num_episodes + yard.gap  # [M,K]
    attained = by_episode(metrics, yard.days_per_episode)
    beyond = (yard.ideal - slack)[:, np.newaxis] - attained
    if np.any(beyond > 1e-9):
        m, r, k = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
        where = f"on day {k + 1}" if yard.days_per_episode == 1 else f"in episode {k + 1}"
        raise ImpossibleScoreError(
            f"{name}: {where} of the board its {SCORED[METRICS[m]]} is "
            f"{yard.ideal[m, k] - attained[m, r, k]:.3g} below what "
            "perfect foresight attains; this is a bug of the benchmark, please report it"
        )


class Detail(NamedTuple):
    """One figure of a policy beside its score."""

    name: str
    value: float
    digits: int
    """After the point, when shown."""
    unit: str
    says: str


def details(runs: Sequence[DayMetrics], yard: Yardstick) -> list[Detail]:
    """The figures that are reported beside the score: means over days and seeds unless their text says otherwise."""

    def each(field: str) -> FloatArray:
        return np.concatenate([getattr(run, field) for run in runs])

    def mean(field: str) -> float:
        return float(each(field).mean())

    def daily(name: str, field: str, says: str) -> Detail:
        return Detail(name, mean(field), 1, "kWh/day", says)

    undefined = float(np.isnan(each("par")).sum())
    consumption = self_consumption(each("pv_kwh"), each("curtailed_kwh"), each("export_kwh"))
    sufficiency = self_sufficiency(each("demand_kwh"), each("import_kwh"))
    saving = np.mean(
        [yard.reference_per_prosumer_ct.sum(axis=0) - run.cost_per_prosumer_ct.sum(axis=0) for run in runs], axis=0
    )  # [N]
    days = yard.reference_per_prosumer_ct.shape[0]
    losers = float((saving < -1e-9 * days).sum())
    return [
        Detail("cost", mean("cost_ct"), 1, "ct/day", "of the community, signed (scored)"),
        Detail("peak", mean("peak_kw"), 1, "kW", "largest import of the day"),
        Detail("peak ratio", mean("peak_ratio"), 4, "", "largest import over mean gross demand (scored)"),
        Detail("PAR", mean_of_defined(each("par")), 3, "", "largest over mean import"),
        Detail("PAR undefined", undefined, 0, "days", "mean import under 1 % of gross demand"),
        Detail("PAR at the substation", mean_of_defined(each("par_feeder")), 3, "", "losses and passive load included"),
        Detail("voltage", mean("voltage_pu_h"), 4, "p.u. h/day", "excess outside the limits (scored)"),
        Detail("bus-hours outside", 100.0 * mean("violated_share"), 2, "%", "of the voltage limits"),
        Detail("worst voltage excess", float(each("worst_excess_pu").max()), 4, "p.u.", "of all buses and hours"),
        daily("losses", "losses_kwh", "of the feeder"),
        Detail("no power flow", float(each("non_converged").sum()), 0, "h", "hours without a solution, all days"),
        Detail("self-consumption", 100.0 * consumption, 1, "%", "of the PV energy"),
        Detail("self-sufficiency", 100.0 * sufficiency, 1, "%", "of the load"),
        daily("curtailed", "curtailed_kwh", "PV thrown away"),
        daily("traded", "p2p_kwh", "out of the sellers' own net surplus"),
        daily("passed on", "p2p_relayed_kwh", "sold beyond it"),
        daily("battery throughput", "battery_kwh", "charged plus discharged"),
        daily("shifted", "shifted_kwh", "shiftable energy moved in time"),
        Detail("overloads", mean("overload_events"), 2, "/day", "hours of a connection beyond its rating"),
        daily("overload energy", "overload_kwh", "beyond the ratings"),
        Detail("least saving", float(saving.min()) / days, 1, "ct/day", "of whoever gains least on no control"),
        Detail("prosumers who lose", losers, 0, "", "against no control, all days together"),
        Detail("Jain index of savings", jain_index(saving), 4, "", "1: all save the same"),
    ]


def mean_of_defined(values: FloatArray) -> float:
    """Mean of what is not NaN; NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
