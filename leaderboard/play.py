"""One policy, one episode: what it wanted, hour by hour, and what went wrong.

The log holds physical actions; everything that is scored is computed from them again by the simulator, so neither a
policy nor an environment around it can say anything about its own score.

Axis letters: D days of the episode, N prosumers, E undirected trade edges, H hours of a day.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prosumer_gym.actions import DayActions, Dispatch, from_kw, position_from_kw, position_to_kw, to_kw
from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.policy import Policy
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.envs.action import part_shapes
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.reference import no_control_dispatch, no_control_position

OUT_OF_RANGE = 1.0 + 1e-9
"""An action beyond this is counted, and clipped to 1."""


@dataclass(frozen=True, eq=False)
class EpisodeLog:
    """What was wanted on the days of one episode, and how the deciding went."""

    actions: DayActions
    """With a leading axis D."""
    failed: IntArray
    """Steps of each day (of H + 1) on which the no-control action stood in for the policy's [D]."""
    out_of_range: IntArray
    """Numbers of each day's actions beyond [-1, 1], of the parts that were read [D]."""
    first_error: str
    """Of the episode, one line; empty without one."""
    decision_s: FloatArray
    """Seconds that each decision took, the day-ahead one first [D,H+1]."""
    bound: float = float("nan")
    """Of an oracle: the value that no policy can beat in this episode, ct or kW or p.u. h."""
    gap: float = 0.0
    """Of an oracle: by how much its solver may have missed the optimum, in the same unit."""
    fallbacks: dict[str, int] = field(default_factory=dict)
    """What the policy fell back to, as it counted itself (`baselines.policy`)."""


class BadActionError(Exception):
    """An action that cannot be played. The message says why."""


def day_seed(seed: int, row: int) -> int:
    """Seed of a policy's `reset` before the episode that begins with row `row`: not of what was played before it."""
    return int(np.random.SeedSequence([seed, row]).generate_state(1)[0])


def play_episode(
    env: TwoStageEnv, policy: Policy, name: str, community: Community, dataset: Dataset, row: int, seed: int
) -> EpisodeLog:
    """Let a fitted policy play the episode that begins in row `row` of the staged data.

    The environment is of that community and data, and says how many days an episode has. `reset` comes before the first
    of them only; from one to the next the policy meets a new gate, and batteries as full as it left them.

    A step on which it raises, or returns an action of wrong keys or shapes or with NaN, is played by the reference;
    the error of the first such step is kept with policy, day and hour. One bad step never ends the episode.
    """
    obs, _ = env.reset(seed=0, options={"day": row})
    shapes = part_shapes(community)
    num_days, num_steps = env.game.days_per_episode, community.hours_per_day + 1
    failed, out_of_range = np.zeros((2, num_days), dtype=np.int64)
    first_error = ""
    decision_s = np.zeros((num_days, num_steps))
    days: list[DayActions] = []
    ready = False
    before: dict[str, int] | None = None
    for day in range(num_days):
        position_kw = np.zeros((community.num_prosumers, community.hours_per_day))
        dispatches: list[Dispatch] = []
        for step in range(num_steps):
            started = time.perf_counter()
            try:
                if not ready:  # a reset that failed is tried again: a policy that never comes up fails all steps
                    policy.reset(day_seed(seed, row))
                    ready, before = True, told_fallbacks(policy)
                action, beyond = checked(policy.act(obs), shapes)
                out_of_range[day] += sum(count for key, count in beyond.items() if (key == "day_ahead") == (step == 0))
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # SystemExit too: a policy does not end the run
                failed[day] += 1
                if not first_error:
                    when = "day-ahead" if step == 0 else f"hour {step - 1}"
                    first_error = f"{name}: {dataset.dates[row + day]}, {when}: {one_line(error)}"
                action = no_control_action(community, dataset, row + day, step)
            decision_s[day, step] = time.perf_counter() - started
            if step == 0:
                position_kw = position_to_kw(community, action)
            else:
                dispatches.append(to_kw(community, action, dataset.pv_kw[row + day, step - 1]))
            obs, *_ = env.step(action)
        days.append(DayActions.from_steps(position_kw, dispatches))
    return EpisodeLog(
        DayActions.stack(days), failed, out_of_range, first_error, decision_s,
        fallbacks=_since(before, told_fallbacks(policy)) if ready else {},
    )  # fmt: skip


def told_fallbacks(policy: Policy) -> dict[str, int] | None:
    """What a policy says that it fell back to (`baselines.policy`), by name; None if that cannot be read."""
    try:
        told = dict(getattr(policy, "fallbacks", None) or {})
        return {str(what): operator.index(count) for what, count in sorted(told.items())}
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:
        return None


def _since(before: dict[str, int] | None, after: dict[str, int] | None) -> dict[str, int]:
    """What was counted between two looks; never nothing where it cannot be read."""
    if after is None:
        return {"fallbacks that cannot be read": 1}
    known = before or {}
    return {what: count - known.get(what, 0) for what, count in after.items() if count > known.get(what, 0)}


def checked(action: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, FloatArray], dict[str, int]]:
    """A copy of `action` within [-1, 1], and how many numbers of each of its parts were not.

    Raises:
        BadActionError: not a mapping, keys that are missing or unknown, a wrong shape, NaN, not a number.
    """
    if not isinstance(action, Mapping):
        raise BadActionError(f"the action is a {type(action).__name__}, not a dict")
    if action.keys() != shapes.keys():
        missing, unknown = sorted(shapes.keys() - action.keys()), sorted(map(str, action.keys() - shapes.keys()))
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has unknown keys {', '.join(unknown)}"] if unknown else []
        raise BadActionError(f"the action {' and '.join(parts)}")
    clean: dict[str, FloatArray] = {}
    beyond: dict[str, int] = {}
    for key, shape in shapes.items():
        try:
            values = np.array(action[key], dtype=np.float64)
        except (TypeError, ValueError):
            raise BadActionError(f"action[{key!r}] is not an array of numbers") from None
        if values.shape != shape:
            raise BadActionError(f"action[{key!r}] has shape {values.shape}, expected {shape}")
        if np.isnan(values).any():
            raise BadActionError(f"action[{key!r}] holds NaN")
        beyond[key] = int(np.count_nonzero(np.abs(values) > OUT_OF_RANGE))
        clean[key] = np.clip(values, -1.0, 1.0)
    return clean, beyond


def no_control_action(community: Community, dataset: Dataset, row: int, step: int) -> dict[str, FloatArray]:
    """The reference's action at step `step` (0 = day-ahead) of the day in row `row`, from the data itself."""
    past = slice(row - LEAD_IN_DAYS, row)
    position_kw = no_control_position(
        dataset.load_kw[past],
        dataset.pv_kw[past],
        dataset.shiftable_ref_kw[row],
        community.fleet.position_limit_kw,
    )
    hour = max(step - 1, 0)
    dispatch = no_control_dispatch(dataset.shiftable_ref_kw[row, hour], community.num_offers)
    return {
        "day_ahead": position_from_kw(community, position_kw),
        **from_kw(community, dispatch, dataset.pv_kw[row, hour]),
    }


def one_line(error: BaseException) -> str:
    """Type and message of an error, on one line of bounded length."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else text[:197] + "..."
