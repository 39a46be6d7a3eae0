"""One policy, one day: what it wanted, hour by hour, and what went wrong.

The log holds physical actions; everything that is scored is computed from them again by the simulator, so neither a
policy nor an environment around it can say anything about its own score.

Axis letters: N prosumers, E undirected trade edges, H hours of a day.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prosumer_gym.actions import DayActions, Dispatch, from_kw, position_from_kw, position_to_kw, to_kw
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.policy import Policy
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import LEAD_IN_DAYS, Dataset
from prosumer_gym.envs.action import part_shapes
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.reference import no_control_dispatch, no_control_position

OUT_OF_RANGE = 1.0 + 1e-9
"""An action beyond this is counted, and clipped to 1."""


@dataclass(frozen=True, eq=False)
class DayLog:
    """What was wanted on one day, and how the deciding went."""

    actions: DayActions
    failed: int
    """Steps (of H + 1) on which the no-control action stood in for the policy's."""
    out_of_range: int
    """Numbers of the actions beyond [-1, 1], of the parts that were read."""
    first_error: str
    """Of the day, one line; empty without one."""
    decision_s: FloatArray
    """Seconds that each decision took [H+1], the day-ahead one first."""
    bound: float = float("nan")
    """Of an oracle: the value that no policy can beat on this day, ct or kW."""
    gap: float = 0.0
    """Of an oracle: by how much its solver may have missed the optimum, in the same unit."""


class BadActionError(Exception):
    """An action that cannot be played. The message says why."""


def day_seed(seed: int, row: int) -> int:
    """Seed of a policy's `reset` before the day in row `row`: it depends on the day, not on the days before it."""
    return int(np.random.SeedSequence([seed, row]).generate_state(1)[0])


def play_day(
    env: TwoStageEnv, policy: Policy, name: str, community: Community, dataset: Dataset, row: int, seed: int
) -> DayLog:
    """Let a fitted policy play the day in row `row` of the staged data, in an environment of that community and data.

    A step on which it raises, or returns an action of wrong keys or shapes or with NaN, is played by the reference;
    the error of the first such step is kept with policy, day and hour. One bad step never ends the day.
    """
    obs, _ = env.reset(seed=0, options={"day": row})
    shapes = part_shapes(community)
    failed, out_of_range, first_error = 0, 0, ""
    decision_s = np.zeros(community.hours_per_day + 1)
    position_kw = np.zeros((community.num_prosumers, community.hours_per_day))
    dispatches: list[Dispatch] = []
    ready = True
    for step in range(community.hours_per_day + 1):
        started = time.perf_counter()
        try:
            if (
                step == 0 or not ready
            ):  # a reset that failed is tried again: a policy that never comes up fails all steps
                ready = False
                policy.reset(day_seed(seed, row))
                ready = True
            action, beyond = checked(policy.act(obs), shapes)
            out_of_range += sum(count for key, count in beyond.items() if (key == "day_ahead") == (step == 0))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit too: a policy does not end the run
            failed += 1
            if not first_error:
                when = "day-ahead" if step == 0 else f"hour {step - 1}"
                first_error = f"{name}: {dataset.dates[row]}, {when}: {one_line(error)}"
            action = no_control_action(community, dataset, row, step)
        decision_s[step] = time.perf_counter() - started
        if step == 0:
            position_kw = position_to_kw(community, action)
        else:
            dispatches.append(to_kw(community, action, dataset.pv_kw[row, step - 1]))
        obs, *_ = env.step(action)
    return DayLog(DayActions.from_steps(position_kw, dispatches), failed, out_of_range, first_error, decision_s)


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
