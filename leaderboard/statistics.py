"""How sure a score is: two-level bootstrap of ratios of sums, and what lies behind a mean.

A score is a ratio of sums over days, S = sum (reference - policy) / sum (reference - ideal), and J a weighted sum of
such ratios. Two things vary from one study to the next: the weather, which comes in spells, and the training seed.
So whole weeks of days are drawn (the same ones for every policy: common random numbers) and, within a policy, seeds.
The draws are studentised: each is divided by its own standard error, found by linearising the ratio, so that
intervals keep their coverage with a dozen weeks, where plain percentiles cover about 85-92 %.

Sources: Davison and Hinkley (1997), Bootstrap Methods and their Application, ch. 5; Owen (2007), The pigeonhole
bootstrap, for crossed factors; Agarwal et al. (2021), Deep RL at the edge of the statistical precipice, for the rest.

Axis letters: M metrics (cost, peak, voltage), R training seeds, D days, W week blocks, Q bootstrap draws.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.leaderboard.protocol import (
    BLOCK_DAYS,
    BOOTSTRAP_DRAWS,
    CONFIDENCE,
    MIN_BLOCKS_STUDENTISED,
    MIN_EPISODES,
    protocol_seed,
)


class Interval(NamedTuple):
    """A confidence interval and how it came about: "studentised bootstrap" or "Student t"."""

    low: float
    high: float
    method: str


@dataclass(frozen=True, eq=False)
class Weekly:
    """Sums over the days of each week block: all that the bootstrap needs to know of a policy.

    What is zero in `weight` is left out of the score.
    """

    policy: FloatArray
    """[M,R,W]."""
    reference: FloatArray
    """[M,W]."""
    ideal: FloatArray
    """What the oracle of each metric attains [M,W]."""
    weight: FloatArray
    """Of each metric in the score [M], sum 1."""
    name: str
    """Of the policy: its seeds are drawn by a stream of their own, the weeks are shared."""
    num_episodes: int

    def with_weight(self, weight: npt.ArrayLike) -> Weekly:
        """The same sums for another score, e.g. one metric alone."""
        return replace(self, weight=np.asarray(weight, dtype=np.float64))


def week_blocks(dates: npt.NDArray[np.datetime64], block: IntArray) -> IntArray:
    """Number of the week of each day, 0 ... W-1 [D]: seven days from the first one of each block of the data.

    A week never reaches over two blocks; the last one of a block may be shorter. Of the first days of episodes, it is
    the week in which each of them begins: one of its own for every episode of seven days or more.
    """
    weeks = np.zeros(len(dates), dtype=np.int64)
    for value in np.unique(block):
        inside = block == value
        weeks[inside] = (dates[inside] - dates[inside].min()).astype(np.int64) // BLOCK_DAYS
    return np.unique(np.stack([block, weeks]), axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)


def weekly_sums(values: FloatArray, week: IntArray) -> FloatArray:
    """Sums over the days of each week: `[...,D]` -> `[...,W]`."""
    sums = np.zeros((int(week.max()) + 1, *values.shape[:-1]))
    np.add.at(sums, week, np.moveaxis(values, -1, 0))
    return np.moveaxis(sums, 0, -1)


class _Draws(NamedTuple):
    """A score under Q weightings of weeks and seeds, with what each week and each seed moves it by."""

    value: FloatArray
    """[Q]."""
    week: FloatArray
    """First-order share of each week in the deviation [Q,W]."""
    seed: FloatArray
    """First-order share of each seed [Q,R]."""


def _draws(sums: Weekly, weeks: FloatArray, seeds: FloatArray) -> _Draws:
    """Scores with how often each week `[Q,W]` and each seed `[Q,R]` was drawn."""
    share = seeds / seeds.sum(axis=1, keepdims=True)  # [Q,R]
    value, week, seed = np.zeros(len(weeks)), np.zeros(weeks.shape), np.zeros(seeds.shape)
    for m in np.flatnonzero(sums.weight):
        gain = sums.reference[m] - share @ sums.policy[m]  # [Q,W]
        room = sums.reference[m] - sums.ideal[m]  # [W]
        total_room = weeks @ room  # [Q]
        score = (weeks * gain).sum(axis=1) / total_room
        by_seed = weeks @ sums.policy[m].T  # [Q,R]
        value += sums.weight[m] * score
        week += sums.weight[m] * (gain - score[:, np.newaxis] * room) / total_room[:, np.newaxis]
        mean = (share * by_seed).sum(axis=1, keepdims=True)
        seed += sums.weight[m] * (mean - by_seed) / total_room[:, np.newaxis] / seeds.shape[1]
    return _Draws(value, week, seed)


def _week_draws(num_weeks: int, draws: int) -> FloatArray:
    """How often each week is drawn [Q,W], the same for every policy: the stream depends on the protocol alone."""
    rng = np.random.default_rng([protocol_seed(), num_weeks])
    return rng.multinomial(num_weeks, np.full(num_weeks, 1.0 / num_weeks), size=draws).astype(np.float64)


def _seed_draws(sums: Weekly, draws: int) -> FloatArray:
    """How often each training seed of this policy is drawn [Q,R]: a stream of its own, since seeds are not shared."""
    num_seeds = sums.policy.shape[1]
    if num_seeds == 1:
        return np.ones((draws, 1))
    name = int.from_bytes(hashlib.sha256(sums.name.encode()).digest()[:8], "little")
    rng = np.random.default_rng([protocol_seed(), name, num_seeds])
    return rng.multinomial(num_seeds, np.full(num_seeds, 1.0 / num_seeds), size=draws).astype(np.float64)


def score_interval(sums: Weekly, *, draws: int = BOOTSTRAP_DRAWS) -> Interval | None:
    """95 % interval of a score; None with fewer than 8 episodes, with one week only, or if nothing is scored."""
    return _interval([(1.0, sums)], draws)


def paired_difference(first: Weekly, second: Weekly, *, draws: int = BOOTSTRAP_DRAWS) -> tuple[float, Interval | None]:
    """Score of `first` minus that of `second` on the same days, and its interval; of a policy with itself exactly 0."""
    value = sum(sign * float(_draws(sums, *_once(sums)).value[0]) for sign, sums in ((1.0, first), (-1.0, second)))
    return value, _interval([(1.0, first), (-1.0, second)], draws)


def _once(sums: Weekly) -> tuple[FloatArray, FloatArray]:
    """Every week and every seed drawn once: the score itself ([1,W], [1,R])."""
    return np.ones((1, sums.reference.shape[1])), np.ones((1, sums.policy.shape[1]))


def _interval(parts: list[tuple[float, Weekly]], draws: int) -> Interval | None:
    """Interval of a signed sum of scores that share their weeks."""
    W = parts[0][1].reference.shape[1]
    if parts[0][1].num_episodes < MIN_EPISODES or W < 2 or not all(np.any(sums.weight) for _, sums in parts):
        return None
    tail = (1.0 - CONFIDENCE) / 2.0
    once = [_once(sums) for _, sums in parts]
    (centre,), (error,) = _value_and_error(parts, once[0][0], [seeds for _, seeds in once])
    if error == 0.0:
        return Interval(centre, centre, "studentised bootstrap")
    if min(_weeks_with_room(sums) for _, sums in parts) < MIN_BLOCKS_STUDENTISED:
        reach = float(stdtrit(W - 1, 1.0 - tail)) * error
        return Interval(centre - reach, centre + reach, "Student t")
    weeks = _week_draws(W, draws)
    scored = np.logical_and.reduce([_has_score(sums, weeks) for _, sums in parts])
    values, errors = _value_and_error(parts, weeks[scored], [_seed_draws(sums, draws)[scored] for _, sums in parts])
    deviation = values - centre
    # A draw of one week alone has no spread: it counts as an extreme one, on its side.
    no_spread = np.where(deviation == 0.0, 0.0, np.copysign(np.inf, deviation))
    pivots = np.divide(deviation, errors, out=no_spread, where=errors > 0.0)
    low, high = np.quantile(pivots, [tail, 1.0 - tail])
    return Interval(float(centre - high * error), float(centre - low * error), "studentised bootstrap")


def _room(sums: Weekly) -> FloatArray:
    """Between reference and ideal in each week, of the metrics that are scored [M',W]."""
    return np.asarray((sums.reference - sums.ideal)[np.flatnonzero(sums.weight)])


def _weeks_with_room(sums: Weekly) -> int:
    """In how many weeks the reference can be improved, of the metric where that is rarest."""
    return int((_room(sums) > 0.0).sum(axis=1).min())


def _has_score(sums: Weekly, weeks: FloatArray) -> BoolArray:
    """Whether a draw of weeks `[Q,W]` leaves room in every metric that is scored [Q]: a ratio to nothing is none."""
    return np.asarray((weeks @ _room(sums).T > 0.0).all(axis=1))


def _value_and_error(
    parts: list[tuple[float, Weekly]], weeks: FloatArray, seeds: list[FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """A signed sum of scores and its standard error [Q], with weeks `[Q,W]` and each part's seeds `[Q,R]` drawn."""
    W = weeks.shape[1]
    value, week = np.zeros(len(weeks)), np.zeros(weeks.shape)
    by_policy: dict[str, tuple[FloatArray, FloatArray]] = {}
    for (sign, sums), drawn in zip(parts, seeds, strict=True):
        part = _draws(sums, weeks, drawn)
        value = value + sign * part.value
        week = week + sign * part.week
        before = by_policy[sums.name][0] if sums.name in by_policy else 0.0
        by_policy[sums.name] = (before + sign * part.seed, drawn)
    variance = (weeks * week**2).sum(axis=1) * (W / (W - 1))
    for seed, drawn in by_policy.values():
        R = drawn.shape[1]
        variance = variance + (drawn * seed**2).sum(axis=1) * (R / max(R - 1, 1))
    return value, np.asarray(np.sqrt(variance))


def day_scores(policy: FloatArray, reference: FloatArray, mean_room: FloatArray, weight: FloatArray) -> FloatArray:
    """What each day contributes to the score [R,D], scaled so that their mean is the score itself.

    `policy` [M,R,D], `reference` [M,D], `weight` [M]. `mean_room` [M] lies between reference and ideal on a mean day:
    one day without room would make a ratio of its own meaningless.
    """
    scores = np.zeros(policy.shape[1:])
    for m in np.flatnonzero(weight):
        scores = scores + weight[m] * (reference[m] - policy[m]) / mean_room[m]
    return scores


def iqm(scores: FloatArray) -> float:
    """Interquartile mean: of what is left when the lowest and the highest quarter are cut off."""
    ordered = np.sort(scores, axis=None)
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


def worst_days(scores: FloatArray, share: float = 0.05) -> float:
    """Mean of the worst 5 % of the days (conditional value at risk); a day that straddles the 5 % counts in part."""
    ordered = np.sort(scores, axis=None)
    mass = share * ordered.size
    weight = np.clip(mass - np.arange(ordered.size), 0.0, 1.0)
    return float((ordered * weight).sum() / mass)


def better_than_reference(scores: FloatArray) -> float:
    """Share of the days (and seeds) on which the policy beat the reference; a tie counts half."""
    return float(np.mean((scores > 0.0) + 0.5 * (scores == 0.0)))


def performance_profile(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Share of the days (and seeds) with a score of at least each threshold."""
    return np.asarray((scores.reshape(-1, 1) >= thresholds).mean(axis=0))
