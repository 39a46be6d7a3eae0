"""What every id owes to Gymnasium and its user with many communities at once: the answers of as many single ones."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from contract_cases import (
    IDS,
    MODES,
    SHORT_HOURS,
    Case,
    assert_same,
    copied,
    every_case,
    every_id,
    lanes_of,
    numbers_of,
    random_action,
    short_days,
)
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from prosumer_gym.datasets.schema import Dataset

SHORT = short_days()
REAL_TIME = IDS[1]
every_mode = pytest.mark.parametrize("mode", MODES)


def both(case: Case, num_envs: int, mode: str, **kwargs: Any) -> tuple[Any, Any]:
    """Gymnasium's own batch of single environments, and ours."""
    singles = [lambda: case.make(**SHORT, **kwargs)] * num_envs
    return SyncVectorEnv(singles, autoreset_mode=mode), case.make_vec(num_envs, autoreset_mode=mode, **SHORT, **kwargs)


@every_case
@every_mode
@pytest.mark.parametrize("days", [1, 2])
def test_it_answers_as_gymnasium_does_for_single_environments(case: Case, mode: str, days: int) -> None:
    """Key by key and to the bit, through several episodes, with lanes restarted by hand in between."""
    num = 3
    reference, native = both(case, num, mode, days_per_episode=days)
    for name in ("single_observation_space", "single_action_space", "observation_space", "action_space", "metadata"):
        assert getattr(native, name) == getattr(reference, name), name
    assert_same(native.reset(seed=[4, 9, 2]), reference.reset(seed=[4, 9, 2]), "reset")
    assert native.np_random_seed == tuple(reference.np_random_seed) == (4, 9, 2)
    rng, steps = np.random.default_rng(0), case.steps_of(days, SHORT_HOURS)
    rows = native.dataset.days("train")
    by_hand = [  # step, seed, lanes, day
        (steps // 2, None, [True, False, True], None),
        (steps + 1, 100, [False, True, True], None),
        (2 * steps, [7, None, 3], [True, True, False], None),
        (2 * steps + 2, 5, [False, False, True], int(rows[2])),
        (3 * steps, 20, None, None),
    ]
    for step in range(4 * steps + 3):
        actions = random_action(native.action_space, rng)
        got = native.step(copied(actions))
        assert_same(got, reference.step(actions), f"step {step}")
        assert got[0] in native.observation_space
        if mode == "Disabled" and got[2].any():
            options = {"reset_mask": got[2]}
            assert_same(native.reset(options=dict(options)), reference.reset(options=dict(options)), f"after {step}")
        for at, seed, lanes, row in by_hand:
            if at == step:
                options = {} if lanes is None else {"reset_mask": np.array(lanes)}
                options |= {} if row is None else {"day": row}
                mine, theirs = (env.reset(seed=seed, options=dict(options)) for env in (native, reference))
                assert_same(mine, theirs, f"reset after step {step}")


@every_case
@every_mode
def test_lane_i_is_the_single_environment_seeded_s_plus_i(case: Case, mode: str) -> None:
    num = 4
    batch = case.make_vec(num, autoreset_mode=mode, **SHORT)
    singles = [case.make(**SHORT) for _ in range(num)]
    rng = np.random.default_rng(3)
    obs, info = batch.reset(seed=50)
    for lane, single in enumerate(singles):
        own, told = single.reset(seed=50 + lane)
        assert_same(lanes_of(obs, lane), own, "reset")
        assert info["day"][lane] == told["day"]
    over = np.zeros(num, np.bool_)
    for _ in range(2 * case.steps_of(1, SHORT_HOURS) + 2):
        actions = random_action(batch.action_space, rng)
        obs, rewards, ends, cut, info = batch.step(actions)
        assert not cut.any()
        for lane, single in enumerate(singles):
            if over[lane] and mode == "NextStep":
                (own, told), reward, end = single.reset(), 0.0, False
            else:
                own, reward, end, _, told = single.step(lanes_of(actions, lane))
            if end and mode == "SameStep":
                assert_same(info["final_obs"][lane], own)
                own, _ = single.reset()
            assert (rewards[lane], ends[lane]) == (reward, end)
            assert_same(lanes_of(obs, lane), own)
        over = ends
        if mode == "Disabled" and ends.any():
            obs, _ = batch.reset(options={"reset_mask": ends})
            for lane in np.flatnonzero(ends):
                assert_same(lanes_of(obs, lane), singles[lane].reset()[0])


@every_case
def test_make_vec_makes_the_native_class(case: Case) -> None:
    env = gym.make_vec(case.id, num_envs=3, autoreset_mode="SameStep", **SHORT, **case.kwargs)
    assert type(env) is case.vector
    assert type(gym.make_vec(case.id, 2, "vector_entry_point", **SHORT, **case.kwargs)) is case.vector
    assert env.num_envs == 3
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert case.make_vec(1, **SHORT).metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    spaces = env.single_observation_space, env.observation_space, env.single_action_space, env.action_space
    obs, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(2 * case.steps_of(1, SHORT_HOURS)):
        obs, rewards, ends, cut, _ = env.step(random_action(env.action_space, rng))
        assert obs in env.observation_space
        assert (rewards.dtype, ends.dtype, cut.dtype) == (np.float64, np.bool_, np.bool_)
        assert rewards.shape == ends.shape == cut.shape == (3,)
        assert np.isfinite(rewards).all()
        assert all(np.isfinite(values).all() for values in numbers_of(obs))
    now = env.single_observation_space, env.observation_space, env.single_action_space, env.action_space
    assert all(one is two for one, two in zip(spaces, now, strict=True))
    assert isinstance(gym.make_vec(case.id, num_envs=1, vectorization_mode="sync", **SHORT), SyncVectorEnv)
    env.close()
    env.close()


@every_case
@every_mode
def test_what_is_told_has_always_the_same_keys_each_with_its_mask(case: Case, mode: str) -> None:
    env = case.make_vec(3, autoreset_mode=mode, **SHORT)
    rng, kinds = np.random.default_rng(0), {note.name: note.kind for note in case.notes}
    assert env.reset(seed=0)[1].keys() == {"day", "_day"}
    steps, over = case.steps_of(1, SHORT_HOURS), np.zeros(3, np.bool_)
    for step in range(4 * steps + 2):
        _, rewards, ends, _, info = env.step(random_action(env.action_space, rng))
        renewed = over if mode == "NextStep" else np.zeros(3, np.bool_)
        final = ends if mode == "SameStep" else np.zeros(3, np.bool_)
        assert not rewards[renewed].any()
        keys = {"day"} if (renewed | final).all() else set(kinds)
        keys |= {"final_obs", "final_info"} if final.any() else set()
        assert info.keys() == keys | {f"_{key}" for key in keys}
        assert info["_day"].all()
        assert all(info[f"_{key}"].tolist() == final.tolist() for key in keys & {"final_obs", "final_info"})
        for told, lanes in ((info, ~(renewed | final)), (info.get("final_info", {}), final)):
            for name in set(kinds) & told.keys() - {"day", "reward_terms"}:
                assert told[f"_{name}"].dtype == np.bool_
                assert told[f"_{name}"].tolist() == lanes.tolist()
                assert told[name].dtype == {int: np.int64}.get(kinds[name], kinds[name])
                assert len(told[name]) == 3
                assert not told[name][~lanes].any()
        if final.any():
            assert info["final_obs"].dtype == object
            assert [obs is not None for obs in info["final_obs"]] == final.tolist()
        over = ends
        if mode == "Disabled" and ends.any():
            env.reset(options={"reset_mask": ends})
        if step == 1 and steps > 1:  # from now on the lanes do not march together
            env.reset(options={"reset_mask": np.array([False, True, False])})


@every_case
@every_mode
def test_order_is_kept(case: Case, mode: str) -> None:
    env = case.make_vec(3, autoreset_mode=mode, **SHORT)
    action = random_action(env.action_space, np.random.default_rng(0))
    with pytest.raises(ResetNeeded, match="lane 0"):
        env.step(action)
    env.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(ResetNeeded, match="lane 1"):
        env.step(action)
    env.reset(options={"reset_mask": np.array([False, True, False])})
    for _ in range(case.steps_of(1, SHORT_HOURS)):
        ends = env.step(action)[2]
    assert ends.all()
    if mode == "Disabled":
        with pytest.raises(ResetNeeded, match="lane 0"):
            env.step(action)
    else:
        env.step(action)
    env.close()
    env.close()


@every_id
def test_the_action_of_a_lane_that_only_restarts_is_not_read(case: Case) -> None:
    env = case.make_vec(2, **SHORT)
    action = random_action(env.action_space, np.random.default_rng(0), spread=1.0)
    env.reset(seed=0)
    if case.steps_of(1, SHORT_HOURS) > 1:
        env.step(action)
        env.reset(options={"reset_mask": np.array([False, True])})
    while not env.step(action)[2][0]:
        pass
    for values in numbers_of(action):
        values[0] = np.nan
    _, rewards, _, _, info = env.step(action)
    assert rewards[0] == 0.0
    assert not info.get("_out_of_range", np.zeros(2))[0]


@every_id
def test_restarts_go_on_drawing_without_a_new_seed(case: Case) -> None:
    """Each lane plays all days of the split, in the order that its own generator draws, before any comes again."""
    env = case.make_vec(2, autoreset_mode="SameStep", split="train", **SHORT)
    rows = env.dataset.days("train")
    action = random_action(env.action_space, np.random.default_rng(0))
    played = [env.reset(seed=1)[1]["day"]]
    steps = case.steps_of(1, SHORT_HOURS)
    for step in range((len(rows) - 1) * steps):
        info = env.step(action)[4]
        if (step + 1) % steps == 0:
            played.append(info["day"])
    assert np.array_equal(np.sort(played, axis=0), np.column_stack((rows, rows)))
    assert not np.array_equal(*np.transpose(played))


@every_case
@every_mode
def test_what_is_handed_out_is_the_users_own(case: Case, mode: str) -> None:
    careful, careless = (case.make_vec(3, autoreset_mode=mode, days_per_episode=2, **SHORT) for _ in range(2))

    def play(env: VectorEnv[Any, Any, Any], spoil: bool) -> list[Any]:
        rng = np.random.default_rng(4)
        steps: list[Any] = [env.reset(seed=1)]
        for _ in range(2 * case.steps_of(2, SHORT_HOURS) + 2):
            told = env.step(random_action(env.action_space, rng))
            if mode == "Disabled" and told[2].any():
                told = (*told, *env.reset(options={"reset_mask": told[2].copy()}))
            steps.append(copied(told) if spoil else told)
            if spoil:
                for values in [*numbers_of(told[0]), *told[1:3]]:
                    values[...] = 1
                _spoil(told[4])
        return steps

    kept = play(careful, spoil=False)
    copies = copied(kept)
    play(careful, spoil=False)
    assert_same(kept, copies, "kept")
    assert_same(play(careless, spoil=True), copies, "written into")


def _spoil(info: dict[str, Any]) -> None:
    for value in info.values():
        if isinstance(value, dict):
            _spoil(value)
        elif value.dtype != object:
            value[...] = 1
        else:
            for lane in value:
                for values in [] if lane is None else numbers_of(lane):
                    values[...] = 0.5


@pytest.mark.parametrize("num_envs", [3, 64, 130])
@every_mode
def test_without_copies_the_observations_are_the_same_numbers(num_envs: int, mode: str) -> None:
    case = REAL_TIME
    kept, reused = (case.make_vec(num_envs, autoreset_mode=mode, copy=copy, **SHORT) for copy in (True, False))
    assert_same(kept.reset(seed=0), reused.reset(seed=0))
    rng = np.random.default_rng(0)
    for step in range(15):
        actions = random_action(kept.action_space, rng)
        one, two = kept.step(actions), reused.step(actions)
        assert_same(one, two, f"step {step}")
        if mode == "Disabled" and one[2].any():
            assert_same(*(env.reset(options={"reset_mask": one[2].copy()}) for env in (kept, reused)))


@every_id
def test_seeds_days_and_masks_may_be_given_in_every_form(case: Case) -> None:
    env = case.make_vec(3, split="test", **SHORT)
    rows = env.dataset.days("test")

    def days(**reset: Any) -> list[int]:
        told: list[int] = env.reset(**reset)[1]["day"].tolist()
        return told

    drawn = days(seed=7)
    assert env.np_random_seed == (7, 8, 9)
    assert days(seed=[7, 8, 9]) == days(seed=(7, 8, 9)) == days(seed=np.array([7, 8, 9])) == days(seed=np.int64(7))
    assert days(seed=7) == drawn
    assert all(type(seed) is int for seed in env.np_random_seed)
    one, two, three = rows[:3].tolist()
    assert days(options={"day": two}) == [two] * 3
    assert days(options={"day": str(env.dataset.dates[one])}) == [one] * 3
    assert days(options={"day": [one, two, three]}) == days(options={"day": rows[:3]}) == [one, two, three]
    env.reset(seed=7)
    assert days(seed=7, options={"day": [one, None, three]}) == [one, drawn[1], three]
    _, info = env.reset(options={"day": rows[[2, 1, 0]], "reset_mask": np.array([True, False, True])})
    assert info["_day"].tolist() == [True, False, True]
    assert info["day"].tolist() == [three, 0, one]


def test_batches_without_a_seed_differ(days: Dataset) -> None:
    case = REAL_TIME
    told = [case.make_vec(8, days).reset()[1]["day"].tolist() for _ in range(2)]
    assert told[0] != told[1]
    env = case.make_vec(4, days)
    assert len(set(env.np_random_seed)) == 4
    assert len(env.np_random) == 4
