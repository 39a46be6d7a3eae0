from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from support import tiny_dataset

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs import TwoStageEnv
from prosumer_gym.envs.observation import TABLE, observation_space
from prosumer_gym.errors import UsageError

CALENDAR = {"day_of_year": "day_of_year", "weekday": "weekday", "weekend": "weekend"}
HOURLY = ("load_kw", "pv_kw", "price_rt_ct_per_kwh", "passive_pu", "weather")


def test_it_shows_exactly_what_is_known_and_zeros_for_the_rest(days: Dataset) -> None:
    """An independent account of the information of every step, with plain indexing."""
    env = TwoStageEnv(days, split="dev", days_per_episode=2)
    first = int(days.days("dev")[1])
    env.action_space.seed(0)
    obs, _ = env.reset(options={"day": first})
    for step in range(50):
        row, hour = first + step // 25, step % 25 - 1  # hour -1 is the gate
        for name, source in CALENDAR.items():
            assert obs[name] == getattr(days, source)[row]
        for name in ("price_da_ct_per_kwh", "shiftable_ref_kw", "weather_forecast"):
            assert np.array_equal(obs[name], getattr(days, name)[row])
        for name in (*HOURLY, "price_da_ct_per_kwh"):
            assert np.array_equal(obs[f"past_{name}"], getattr(days, name)[row - 8 : row])
        for name in HOURLY:
            assert np.array_equal(obs[name][: hour + 1], getattr(days, name)[row, : hour + 1])
            assert not obs[name][hour + 1 :].any()
        assert obs["observed"].tolist() == [1.0] * (hour + 1) + [0.0] * (23 - hour)
        obs = env.step(env.action_space.sample())[0]


def test_the_state_is_that_of_the_simulator(days: Dataset, community: Community) -> None:
    env = TwoStageEnv(days, days_per_episode=2)
    env.action_space.seed(1)
    obs, _ = env.reset(seed=1)
    assert np.array_equal(obs["soc_kwh"], community.fleet.soc_initial_kwh)
    soc_kwh, backlog_kwh, peak_kw, community_kw = obs["soc_kwh"], np.zeros(10), np.zeros(10), 0.0
    position_kw = np.zeros((10, 24))
    for step in range(50):
        row = env.game.simulator.state.day[0]
        action = env.action_space.sample()
        obs, _, over, _, info = env.step(action)
        if step % 25 == 0:
            position_kw = action["day_ahead"] * community.fleet.position_limit_kw[:, None]
            backlog_kwh, peak_kw, community_kw = np.zeros(10), np.zeros(10), 0.0
        else:
            charge, discharge = np.maximum(info["battery_kw"], 0), np.maximum(-info["battery_kw"], 0)
            soc_kwh = soc_kwh + 0.9 * charge - discharge / 0.9
            backlog_kwh = backlog_kwh + info["shiftable_kw"] - days.shiftable_ref_kw[row, info["hour"]]
            peak_kw = np.maximum(peak_kw, info["net_import_kw"])
            community_kw = max(community_kw, info["net_import_kw"].sum())
        if step == 24 and not over:  # the next gate: the day's own figures start afresh
            backlog_kwh, peak_kw, community_kw, position_kw = np.zeros(10), np.zeros(10), 0.0, np.zeros((10, 24))
        assert obs["soc_kwh"] == pytest.approx(soc_kwh)
        assert obs["backlog_kwh"] == pytest.approx(backlog_kwh, abs=1e-9)
        assert obs["connection_peak_kw"] == pytest.approx(peak_kw)
        assert obs["community_peak_kw"][0] == pytest.approx(community_kw)
        assert np.array_equal(obs["position_kw"], position_kw)


def test_bounds_are_finite_constants_that_no_data_can_move(days: Dataset) -> None:
    other = tiny_dataset(seed=5)
    assert observation_space(days) == observation_space(other)
    for name, box in observation_space(days).spaces.items():
        assert box.dtype == np.float64, name
        assert np.isfinite(box.low).all(), name
        assert np.isfinite(box.high).all(), name
        assert (box.low < box.high).all(), name


def test_each_quantity_is_told_once_with_a_unit() -> None:
    names = [quantity.name for quantity in TABLE]
    assert len(set(names)) == len(names)
    for quantity in TABLE:
        assert quantity.unit
        assert quantity.description
        assert set(quantity.axes) <= set("PHNF")
        assert bool(quantity.source) == (quantity.moment != "state")
        for suffix, unit in {"_kw": "kW", "_kwh": "kWh", "_ct_per_kwh": "ct/kWh", "_pu": "p.u."}.items():
            if quantity.name.endswith(suffix) and not (suffix == "_kwh" and quantity.name.endswith("_ct_per_kwh")):
                assert quantity.unit == unit
        assert math.isnan(quantity.low) == (quantity.axes[-1:] == "F")


@pytest.mark.parametrize(
    ("field", "value"),
    [("position_limit_kw", 2e4), ("battery_power_kw", 2e4), ("soc_max_kwh", 2e5), ("backlog_min_kwh", -2e5)],
)
def test_a_community_beyond_the_bounds_is_refused_when_the_environment_is_made(
    days: Dataset, community: Community, field: str, value: float
) -> None:
    values = np.array(getattr(community.fleet, field))
    values[3] = value
    fleet = dataclasses.replace(community.fleet, **{field: values})
    with pytest.raises(UsageError, match=rf"fleet\.{field}: prosumer 3"):
        TwoStageEnv(days, community.replace(fleet=fleet))
