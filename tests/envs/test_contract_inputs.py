"""What a user gets wrong is said in one line that names the thing; what is unusual but right is played."""

from __future__ import annotations

import datetime
import re
from typing import Any

import numpy as np
import pytest
from contract_cases import (
    CASES,
    IDS,
    SHORT_HOURS,
    Case,
    assert_same,
    every_case,
    every_id,
    numbers_of,
    random_action,
    short_days,
)
from gymnasium.error import Error
from support import tiny_dataset

from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario

SHORT = short_days()
REAL_TIME = IDS[1]


def refused(what: str, call: Any, *arguments: Any, **kwargs: Any) -> None:
    """A call raises one line that says this."""
    with pytest.raises(UsageError) as raised:
        call(*arguments, **kwargs)
    assert re.search(what, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)


@every_id
def test_what_an_environment_is_made_of(case: Case) -> None:
    for what, wrong in {
        "^data set 'tehran-v9' is unknown": {"dataset": "tehran-v9"},
        "^dataset: a int is no data set": {"dataset": 3},
        "^scenario 'ieee34' is not known": {"scenario": "ieee34"},
        "^scenario: a NoneType is no community": {"scenario": None},
        "^split 'lead-out' is unknown; use one of train, dev, test$": {"split": "lead-out"},
        "^split 'lead-in' is unknown": {"split": "lead-in"},  # what lies before these days is not known
        "^split None is unknown": {"split": None},
        "^days_per_episode: 0 must be a whole number": {"days_per_episode": 0},
        "^days_per_episode: 1.5 must": {"days_per_episode": 1.5},
        "^days_per_episode: True must": {"days_per_episode": True},
        "^days_per_episode: '2' must": {"days_per_episode": "2"},
        "^days_per_episode: tiny has no 100 consecutive train days": {"days_per_episode": 100},
        "^reward: there is no weight 'money'": {"reward": {"money": 1.0}},
        "^reward: a int is no set of weights": {"reward": 3},
        r"^reward\.peak_ct_per_kw: nan": {"reward": {"peak_ct_per_kw": float("nan")}},
        "^render_mode: 'ansi' is unknown": {"render_mode": "ansi"},
    }.items():
        refused(what, case.make, **{**SHORT, **wrong})
        refused(what, case.make_vec, 2, **{**SHORT, **wrong})
    if case is not IDS[2]:
        for wrong in ("barter", 3):
            refused(f"^mechanism {wrong!r} is not known", case.make, **SHORT, mechanism=wrong)
    for num in (0, -1, 1.5, True, "3", None):
        refused(f"^num_envs: {num!r} must be a whole number, 1 or more", case.make_vec, num, **SHORT)
        for num_envs in (2, 300):
            refused(f"^threads: {num!r} must be a whole number", case.make_vec, num_envs, **SHORT, threads=num)
    refused("^autoreset_mode: 'never' is unknown", case.make_vec, 2, **SHORT, autoreset_mode="never")
    if case is not IDS[2]:
        for what in ("no", 1, None):
            refused(f"^copy: {what!r} is neither True nor False", case.make_vec, 2, **SHORT, copy=what)
    refused("^render_mode: 'human' is unknown", case.make_vec, 2, **SHORT, render_mode="human")
    two = case.make_vec(np.int64(2), **SHORT, days_per_episode=np.int64(1), threads=np.int64(1))
    assert type(two.num_envs) is int


@every_id
def test_what_a_reset_is_told(case: Case) -> None:
    env, batch = case.make(**SHORT), case.make_vec(2, **SHORT)
    env.reset(seed=0)
    batch.reset(seed=0)
    first = int(env.dataset.days("train")[0])
    for what, options in {
        "^reset: option 'dya' is unknown; there is: day": {"dya": first},
        "^reset: options is a list": [first],
        "^day: 8.5 is neither a row": {"day": 8.5},
        **{
            f"^day: '{text}' is not a date; write a date like 2021-06-01, or a row as int$": {"day": text}
            for text in ("yesterday", "75", "20210610", "2021-06", "2021-06-1", "2021-06-31", "NaT", "")
        },
        "^day: tiny has no 1999-01-01": {"day": "1999-01-01"},
        "^day: tiny has rows 0 ... 38, not 39": {"day": 39},
        r"^day: row 7 \(2021-06-08, lead-in\) cannot begin": {"day": 7},
    }.items():
        refused(what, env.reset, options=options)
        refused(what, batch.reset, options=options)
    for what, options in {
        "^reset: 1 days for 2 lanes": {"day": [first]},
        "^day: 3.5 is neither": {"day": [first, 3.5]},
        "^reset: reset_mask must be an array of 2 bool": {"reset_mask": [True, True]},
        "^reset: reset_mask names no lane": {"reset_mask": np.zeros(2, np.bool_)},
    }.items():
        refused(what, batch.reset, options=options)
    for what, seed in {
        "^reset: 1 seeds for 2 lanes": [1],
        "^reset: seed 1.5 is neither a whole number nor a list": 1.5,
        "^reset: seed 'ab' is neither": "ab",
        "^reset: seed 2.5 of lane 1 must be a whole number, 0 or more": [1, 2.5],
        "^reset: seed -1 of lane 1 must": [7, -1],
        "^reset: seed -3 of lane 0 must": -3,
    }.items():
        refused(what, batch.reset, seed=seed)
    with pytest.raises(Error, match="Seed must be"):
        env.reset(seed=1.5)
    # nothing has changed: the days go on as if nobody had asked
    other, others = case.make(**SHORT), case.make_vec(2, **SHORT)
    other.reset(seed=0)
    others.reset(seed=0)
    assert_same(env.reset(), other.reset(), "reset")
    assert_same(batch.reset(), others.reset(), "reset of the batch")


@every_id
def test_a_day_may_be_told_in_every_form(case: Case) -> None:
    env = case.make(split="test", **SHORT)
    row = int(env.dataset.days("test")[1])
    date = env.dataset.dates[row]
    for day in (row, np.int64(row), np.array(row), str(date), date, date.item(), f"{date}T12:00"):
        assert env.reset(options={"day": day})[1] == {"day": row}, day
        assert case.make_vec(2, split="test", **SHORT).reset(options={"day": day})[1]["day"].tolist() == [row, row]
    assert isinstance(date.item(), datetime.date)


@every_case
def test_an_action_that_cannot_be_read_is_named_and_changes_nothing(case: Case) -> None:
    env, batch, fresh = case.make(**SHORT), case.make_vec(2, **SHORT), case.make(**SHORT)
    env.reset(seed=0)
    batch.reset(seed=0)
    fresh.reset(seed=0)
    rng = np.random.default_rng(0)
    good, good_batch = (random_action(each.action_space, rng) for each in (env, batch))
    if case.is_flat:
        refused(r"^action: shape \(\), expected", env.step, None)
        refused("^action: is not an array of numbers", env.step, "buy")
        refused("^action: is not an array of numbers: complex", env.step, good + 0.5j)
        refused("^action: is not an array of numbers", env.step, {"battery": 0})
        refused(rf"^action: shape \(3,\), expected \({good.size},\)$", env.step, good[:3])
        refused(rf"^action: shape \(1, {good.size}\), expected", env.step, good[np.newaxis])
        refused(rf"^action: shape \({good.size},\), expected \(2, {good.size}\)$", batch.step, good)
        for place in (0, good.size // 2, good.size - 1):
            wrong, wrong_batch = good.copy(), good_batch.copy()
            wrong[place] = wrong_batch[1, place] = np.nan
            refused(r"^action: \w+ of prosumer \d+ .*is NaN; give numbers in \[-1, 1\]$", env.step, wrong)
            refused(r"^action: lane 1, \w+ of prosumer \d+ .*is NaN", batch.step, wrong_batch)
    else:
        refused("^action: a NoneType is no mapping", env.step, None)
        refused("^action: a ndarray is no mapping", env.step, np.zeros(3))
        refused("^action: key 'x' is unknown", env.step, {**good, "x": good["battery"]})
        for name, values in good.items():
            refused(f"^action: key '{name}' is missing", env.step, {k: v for k, v in good.items() if k != name})
            refused(rf"^action\['{name}'\]: is not an array of numbers", env.step, {**good, name: "x"})
            refused(rf"^action\['{name}'\]: is not .*: complex", env.step, {**good, name: values + 0.5j})
            refused(rf"^action\['{name}'\]: shape \(3,\), expected", env.step, {**good, name: np.zeros(3)})
            refused(rf"^action\['{name}'\]: shape .*, expected \(2, ", batch.step, {**good_batch, name: values})
            wrong, wrong_batch = values.copy(), good_batch[name].copy()
            wrong.flat[-1] = wrong_batch.flat[-1] = np.nan
            refused(rf"^action\['{name}'\]: holds NaN", env.step, {**good, name: wrong})
            refused(rf"^action\['{name}'\]: holds NaN", batch.step, {**good_batch, name: wrong_batch})
    expected = fresh.step(good)
    assert_same(env.step(good), expected, "step")
    for values in numbers_of(good_batch):
        values[0] = 0.0
    assert np.isfinite(batch.step(good_batch)[1]).all()


@every_case
@pytest.mark.parametrize("beyond", [np.inf, 1e300, 3.0])
def test_numbers_beyond_the_range_count_as_its_ends(case: Case, beyond: float) -> None:
    env, at_the_end = case.make(**SHORT), case.make(**SHORT)
    env.reset(seed=0)
    at_the_end.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(case.steps_of(1, SHORT_HOURS)):
        sign = random_action(env.action_space, rng)
        parts = {name: np.sign(values) for name, values in sign.items()} if isinstance(sign, dict) else np.sign(sign)
        far = {k: v * beyond for k, v in parts.items()} if isinstance(parts, dict) else parts.astype(float) * beyond
        one, two = env.step(far), at_the_end.step(parts)
        assert one[4].pop("out_of_range") > 0 == two[4].pop("out_of_range")
        assert_same(one, two, "step")


def test_a_planner_that_gives_no_position() -> None:
    shape = (10, SHORT_HOURS)
    for what, plan in {
        "the plan holds NaN": lambda _: np.full(shape, np.nan),
        r"the plan has shape \(6, 10\), expected \(10, 6\)": lambda _: np.zeros(shape).T,
        r"the plan has shape \(\), expected": lambda _: None,
        "the plan is not an array of numbers": lambda _: "much",
    }.items():
        for env in (REAL_TIME.make(**SHORT, planner=plan), REAL_TIME.make_vec(70, **SHORT, planner=plan)):
            refused(rf"^planner: 2021-06-\d\d \(row \d+\): {what}", env.reset, seed=0)

    def broken(_: object) -> object:
        raise KeyError("no\nmodel")

    with pytest.raises(
        UsageError, match=r"^planner: 2021-06-\d\d \(row \d+\): it raised KeyError: .*; correct"
    ) as told:
        REAL_TIME.make(**SHORT, planner=broken).reset(seed=0)
    assert isinstance(told.value.__cause__, KeyError)
    assert "\n" not in str(told.value)
    refused("^planner: a int cannot be called", REAL_TIME.make, **SHORT, planner=3)
    for plan in (lambda _: np.full(shape, np.inf), lambda _: np.full(shape, 60), lambda _: [[60] * 6] * 10):
        env = REAL_TIME.make(**SHORT, planner=plan)
        obs, _ = env.reset(seed=0)
        assert (obs[env.layout["position"]] == 1.0).all()


def test_a_planner_may_fail_once_and_be_asked_again() -> None:
    asked: list[int] = []

    def plan(observation: dict[str, np.ndarray]) -> np.ndarray:
        asked.append(1)
        for values in observation.values():
            values[...] = 7.0  # its own
        if len(asked) == 1:
            raise RuntimeError("the solver is not at hand")
        return np.ones((10, SHORT_HOURS))

    env = REAL_TIME.make(**SHORT, planner=plan)
    row = int(env.dataset.days("train")[0])
    with pytest.raises(UsageError, match="it raised RuntimeError: the solver"):
        env.reset(options={"day": row})
    obs, _ = env.reset(options={"day": row})
    np.testing.assert_allclose(obs[env.layout["position"]], 1.0 / env.community.fleet.position_limit_kw)
    assert np.array_equal(env.reset(options={"day": row})[0], obs)
    assert len(asked) == 2


@every_id
def test_an_episode_never_runs_through_the_lead_in_of_another_block(case: Case) -> None:
    data = SHORT["dataset"]
    second = data.replace(
        split=np.where(data.split == "dev", "train", data.split)
    )  # two blocks of train, day after day
    env = case.make(second, SHORT["scenario"], days_per_episode=9)
    assert env.game.first_days.tolist() == [8]
    refused("no 10 consecutive train days", case.make, second, SHORT["scenario"], days_per_episode=10)


def other_stages() -> dict[str, dict[str, Any]]:
    feeder = make_scenario("ieee33").feeder
    alone = Community("alone", feeder, Fleet.identical([17]), TradeGraph.ring_with_chords(1))
    quarters = make_scenario("ieee33").replace(hours_per_day=96)
    return {
        "one prosumer": short_days(alone),
        "case141": {"dataset": tiny_dataset(num_days=3), "scenario": "case141"},
        "quarters of an hour": {"dataset": tiny_dataset(num_days=3, hours=96), "scenario": quarters},
    }


ALONE, *LARGER = other_stages().items()


@pytest.mark.parametrize(
    ("case", "stage"),
    [(case, ALONE) for case in CASES] + [(case, stage) for case in IDS for stage in LARGER],
    ids=lambda value: str(value) if isinstance(value, Case) else value[0],
)
def test_other_communities_feeders_and_steps_are_played(case: Case, stage: tuple[str, dict[str, Any]]) -> None:
    """Whole days, single and in a batch, to the same bits; terms sum to the reward; the space holds what is seen."""
    env, batch = case.make(**stage[1]), case.make_vec(2, **stage[1])
    rng, hours = np.random.default_rng(0), env.community.hours_per_day
    seen, _ = env.reset(seed=1)
    both, _ = batch.reset(seed=0)
    episode_ct = 0.0
    for step in range(case.steps_of(1, hours)):
        assert seen in env.observation_space
        assert both in batch.observation_space
        for one, two in zip(numbers_of(seen), numbers_of(both), strict=True):
            assert np.array_equal(one, two[1])
        actions = random_action(batch.action_space, rng)
        second = {name: values[1] for name, values in actions.items()} if isinstance(actions, dict) else actions[1]
        seen, reward, over, _, info = env.step(second)
        both, rewards, ends, _, _ = batch.step(actions)
        assert (reward, over) == (rewards[1], ends[1])
        assert reward == sum(info["reward_terms"].values())
        assert info["converged"]
        assert abs(info["reward_terms"]["p2p"]) < 1e-6
        episode_ct += info["community_cost_ct"]
        assert over == (step == case.steps_of(1, hours) - 1)
    assert seen in env.observation_space
    assert np.isfinite(episode_ct)
    assert episode_ct != 0.0
