"""The information gate, as a probe for environments and policies: the future must not matter.

Axes: H hours of a day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.single import TwoStageEnv

Step = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # observation, action


def assert_no_leak(
    make_policy: Callable[[], Any],
    dataset: Dataset,
    community: Community,
    *,
    split: str = "test",
    row: int | None = None,
    hours: Sequence[int] | None = None,
    seed: int = 0,
) -> None:
    """What a policy sees and does up to hour t is the same, to the bit, whatever comes after t.

    Everything after hour t of the day in `row` is changed: load, PV, real-time price, passive load and weather of the
    later hours, and all of every later day. For the day-ahead step that is all of the day's actuals.

    Args:
        make_policy: makes a policy that is not yet fitted; it is fitted once, on the unchanged training history.
        dataset: the days.
        community: the community.
        split: of the day that is played.
        row: the day; one in the middle of the split by default.
        hours: the values of t; a morning, a noon and an evening hour by default. The gate is always probed.
        seed: for the policy's `reset`.
    """
    last = community.hours_per_day - 1
    if hours is None:
        hours = sorted({0, last // 2, last - 1} - {-1})
    if row is None:
        days = dataset.days(split)
        row = int(days[len(days) // 2])
    policy = make_policy()
    policy.fit(community, dataset.training_history())
    steps_of = {t: t + 2 for t in (-1, *hours)}  # the gate and hours 0 ... t
    truth = play_steps(policy, dataset, community, split, row, max(steps_of.values()) + 1, seed)
    for t, num_steps in steps_of.items():
        changed = with_another_future(dataset, row, t)
        told = play_steps(policy, changed, community, split, row, num_steps + 1, seed)
        where = "at the day-ahead step" if t < 0 else f"up to hour {t}"
        for step in range(num_steps):
            when = "day-ahead step" if step == 0 else f"hour {step - 1}"
            for what, before, after in zip(("observation", "action"), truth[step], told[step], strict=True):
                for name, values in before.items():
                    assert np.array_equal(values, after[name]), (
                        f"{when}: {what}[{name!r}] depends on what comes later than what is known {where}"
                    )
        if t < last:  # the probe itself: what was changed is seen as soon as it may be
            assert any(not np.array_equal(truth[num_steps][0][k], told[num_steps][0][k]) for k in truth[num_steps][0])


def play_steps(
    policy: Any, dataset: Dataset, community: Community, split: str, row: int, num_steps: int, seed: int
) -> list[Step]:
    """Observations and actions of the first steps of a day; the last action may be missing when the day is over."""
    env = TwoStageEnv(dataset, community, split=split)
    policy.reset(seed)
    obs, _ = env.reset(seed=seed, options={"day": row})
    steps: list[Step] = []
    for _ in range(min(num_steps, community.hours_per_day + 1)):
        kept = {name: values.copy() for name, values in obs.items()}  # a policy may not write into what it is given
        action = {name: np.array(values) for name, values in policy.act(obs).items()}
        steps.append((kept, action))
        obs = env.step(action)[0]
    return steps


def with_another_future(dataset: Dataset, row: int, hour: int) -> Dataset:
    """The data with everything after an hour of a day changed, as far as the schema lets it; hour -1 is the gate."""
    actual = {
        "load_kw": lambda x: 0.6 * x + 1.0,
        "pv_kw": lambda x: 0.5 * x + 0.25,
        "price_rt_ct_per_kwh": lambda x: 31.0 - 1.1 * x,
        "passive_pu": lambda x: 0.8 * x + 0.1,
        "weather": _other_weather,
    }
    later = actual | {
        "shiftable_ref_kw": lambda x: 0.9 * x,
        "price_da_ct_per_kwh": lambda x: 19.0 - x,
        "weather_forecast": _other_weather,
    }
    changed = {name: np.array(getattr(dataset, name)) for name in later}
    for name, change in later.items():
        changed[name][row + 1 :] = change(changed[name][row + 1 :])
    for name, change in actual.items():
        changed[name][row, hour + 1 :] = change(changed[name][row, hour + 1 :])
    return dataset.replace(**changed)


def _other_weather(values: np.ndarray) -> np.ndarray:
    """Temperature, cloud, irradiance [..,F], still inside their bounds."""
    return values * np.array([0.7, 0.4, 0.5]) + np.array([3.0, 0.2, 10.0])
