from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from prosumer_gym.actions import position_to_kw, to_kw
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import TwoStageEnv, TwoStageVectorEnv
from prosumer_gym.envs.action import ActionReader, action_space
from prosumer_gym.errors import UsageError


def at_hour(days: Dataset, hour: int) -> TwoStageEnv:
    env = TwoStageEnv(days)
    env.reset(seed=0)
    for _ in range(hour + 1):
        env.step(rest(env))
    return env


def rest(env: TwoStageEnv) -> dict[str, Any]:
    return {name: np.zeros(space.shape) for name, space in env.action_space.items()}


@pytest.mark.parametrize("num_lanes", [1, 5])
def test_the_batch_speaks_the_public_scales_to_the_bit(days: Dataset, community: Community, num_lanes: int) -> None:
    rng = np.random.default_rng(0)
    reader = ActionReader(community, num_lanes)
    everyone, hour = np.ones(num_lanes, np.bool_), rng.integers(0, 24, num_lanes)
    pv_kw = days.pv_kw[:num_lanes]
    action = {name: rng.uniform(-1.4, 1.4, (num_lanes, *box.shape)) for name, box in action_space(community).items()}
    reader.read(action, everyone, ~everyone, hour, pv_kw)
    for lane in range(num_lanes):
        one = {name: values[lane] for name, values in action.items()}
        expected = to_kw(community, one, pv_kw[lane, hour[lane]])
        for name in ("battery_kw", "shiftable_kw", "curtail_kw", "offers"):
            assert np.array_equal(getattr(reader.wanted, name)[:, lane], getattr(expected, name)), name
        beyond = sum(int((np.abs(values) > 1).sum()) for name, values in one.items() if name != "day_ahead")
        assert reader.out_of_range[lane] == beyond
    reader.read(action, everyone, everyone, hour, pv_kw)
    for lane in range(num_lanes):
        one = {name: values[lane] for name, values in action.items()}
        assert np.array_equal(reader.wanted.position_kw[:, :, lane], position_to_kw(community, one))
        assert reader.out_of_range[lane] == (np.abs(one["day_ahead"]) > 1).sum()


@pytest.mark.parametrize("part", ["day_ahead", "battery", "shiftable", "curtail", "trade"])
@pytest.mark.parametrize("hour", [-1, 5])
def test_bad_actions_are_refused_by_name_and_change_nothing(days: Dataset, part: str, hour: int) -> None:
    env, twin = at_hour(days, hour), at_hour(days, hour)
    good = rest(env)
    with_nan = good[part].copy()
    with_nan.flat[-1] = np.nan
    wrong: list[dict[str, Any]] = [
        {**good, part: with_nan},
        {**good, part: good[part][..., :-1]},
        {**good, part: good[part][np.newaxis]},
        {**good, part: 0.0},
        {**good, part: "full power"},
        {**good, part: [[0.0], [0.0, 1.0]]},
        {name: values for name, values in good.items() if name != part},
    ]
    for action in wrong:
        with pytest.raises(UsageError, match=part):
            env.step(action)
    with pytest.raises(UsageError, match="'heat_pump'"):
        env.step({**good, "heat_pump": np.zeros(10)})
    with pytest.raises(UsageError, match="action"):
        env.step(np.zeros(10))  # type: ignore[arg-type]
    assert data_equivalence(env.step(good), twin.step(good), exact=True)


def test_the_message_of_a_wrong_shape_speaks_of_the_users_shapes(days: Dataset) -> None:
    env = at_hour(days, 0)
    with pytest.raises(UsageError, match=r"action\['battery'\]: shape \(9,\), expected \(10,\)"):
        env.step({**rest(env), "battery": np.zeros(9)})
    batch = TwoStageVectorEnv(3, days)
    batch.reset(seed=0)
    with pytest.raises(UsageError, match=r"action\['battery'\]: shape \(10,\), expected \(3, 10\)"):
        batch.step({**{k: np.zeros(v.shape) for k, v in batch.action_space.items()}, "battery": np.zeros(10)})


def test_beyond_the_range_is_the_same_as_at_its_end_and_is_counted(days: Dataset) -> None:
    for hour in (-1, 7):
        wild, mild = at_hour(days, hour), at_hour(days, hour)
        ends = {
            name: np.where(np.arange(v.size).reshape(v.shape) % 2 == 0, 1.0, -1.0) for name, v in rest(wild).items()
        }
        beyond = {name: np.where(values > 0, np.inf, -3.0) for name, values in ends.items()}
        one, two = wild.step(beyond), mild.step(ends)
        read = ["day_ahead"] if hour < 0 else ["battery", "shiftable", "curtail", "trade"]
        assert one[4].pop("out_of_range") == sum(ends[name].size for name in read)
        assert two[4].pop("out_of_range") == 0
        assert data_equivalence(one, two, exact=True)


def test_what_a_battery_cannot_do_is_clipped_and_counted(days: Dataset) -> None:
    env = at_hour(days, -1)
    env.step(rest(env))
    counts = [env.step({**rest(env), "battery": np.ones(10)})[4] for _ in range(8)]
    assert all(info["out_of_range"] == 0 for info in counts)
    assert (counts[-1]["battery_kw"] == 0).all()  # full after 8 h of 20 kW
    assert counts[-1]["clipped"] >= 10 > counts[0]["clipped"]


def test_the_part_that_is_not_read_changes_nothing(days: Dataset) -> None:
    for hour in (-1, 4):
        one, two = at_hour(days, hour), at_hour(days, hour)
        one.action_space.seed(3)
        noise = one.action_space.sample()
        unread = ["battery", "shiftable", "curtail", "trade"] if hour < 0 else ["day_ahead"]
        loud = {**rest(one), **{name: noise[name] for name in unread}}
        assert data_equivalence(one.step(loud), two.step(rest(two)), exact=True)


def test_zero_curtails_nothing(days: Dataset) -> None:
    env = at_hour(days, 11)
    assert not env.step(rest(env))[4]["curtail_kw"].any()


@pytest.mark.parametrize("dtype", [np.float32, np.int64, object])
def test_other_numbers_than_float64_are_taken(days: Dataset, dtype: Any) -> None:
    env, twin = at_hour(days, 3), at_hour(days, 3)
    ones = {name: np.ones(values.shape) for name, values in rest(env).items()}
    other = {name: values.astype(dtype) for name, values in ones.items()}
    assert data_equivalence(env.step(other), twin.step(ones), exact=True)
