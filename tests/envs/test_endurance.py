"""Long random play: the laws of the world hold in every step, worked out again from what is handed out.

Axis letters: B lanes, N prosumers, E trade edges.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from support import tiny_dataset

import prosumer_gym  # noqa: F401 - registers the ids
from prosumer_gym.community import Community
from prosumer_gym.envs.reward import REWARD_TERMS, RewardWeights
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.simulator import COST_TERMS

WEIGHTS = RewardWeights()


def soc_after(community: Community, soc_kwh: np.ndarray, battery_kw: np.ndarray) -> np.ndarray:
    """State of charge [B,N] after an hour at a feasible power, without bounds."""
    fleet, charge, discharge = community.fleet, np.maximum(battery_kw, 0.0), np.maximum(-battery_kw, 0.0)
    stored_kw: np.ndarray = fleet.charge_efficiency * charge - discharge / fleet.discharge_efficiency
    return soc_kwh + community.dt_h * stored_kw


def feasible_battery(community: Community, soc_kwh: np.ndarray, wanted_kw: np.ndarray) -> np.ndarray:
    """What a battery can do of what is wanted [B,N]."""
    fleet, dt = community.fleet, community.dt_h
    most = np.minimum(fleet.battery_power_kw, (fleet.soc_max_kwh - soc_kwh) / fleet.charge_efficiency / dt)
    least = np.minimum(fleet.battery_power_kw, (soc_kwh - fleet.soc_min_kwh) * fleet.discharge_efficiency / dt)
    return np.clip(wanted_kw, -least, most)


class Seen:
    """A flat observation [B,.] in units."""

    def __init__(self, env: Any, obs: np.ndarray) -> None:
        fleet = env.community.fleet
        part = {name: obs[:, place].astype(np.float64) for name, place in env.layout.items()}
        self.price_da = 10.0 * part["price_da"][:, :1]
        self.load_kw = part["load"] * fleet.connection_limit_kw
        self.pv_kw = part["pv"] * fleet.connection_limit_kw
        self.ref_kw = part["shiftable_ref"] * fleet.shiftable_power_kw
        self.position_kw = part["position"] * fleet.position_limit_kw
        self.soc_kwh = fleet.soc_min_kwh + part["soc"] * (fleet.soc_max_kwh - fleet.soc_min_kwh)
        self.backlog_kwh = part["backlog"] * np.maximum(-fleet.backlog_min_kwh, fleet.backlog_max_kwh)
        self.peak_kw = part["connection_peak"] * fleet.connection_limit_kw
        self.community_peak_kw = part["community_peak"][:, 0] * fleet.connection_limit_kw.sum()
        self.due = part["shiftable_due"]
        self.days_left = part["days_left"][:, 0]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_million_hours_of_the_real_time_environment(mechanism: str) -> None:
    """Two-day episodes of 1250 lanes; every law in every step of every lane that plays."""
    num, steps, days = 1250, 740 if mechanism == "bilateral" else 30, 2
    env: Any = gym.make_vec(
        "ProsumerGym/RealTime-v0", num_envs=num, dataset=tiny_dataset(), days_per_episode=days, mechanism=mechanism
    )
    community, fleet, tariff, dt = env.community, env.community.fleet, env.community.tariff, env.community.dt_h
    low, high = env.single_observation_space.low, env.single_observation_space.high
    rng = np.random.default_rng(0)
    lanes = rng.permutation(num)
    before = Seen(env, env.reset(seed=0)[0])
    for k in range(30):  # so that the lanes stand at all hours
        before = Seen(env, env.step(np.zeros(env.action_space.shape, np.float32))[0])
        if k % 5 == 0:
            mask = np.zeros(num, np.bool_)
            mask[lanes[k * 30 : k * 30 + 150]] = True
            before = Seen(env, env.reset(options={"reset_mask": mask})[0])
    over, played, hours_met, clipped = np.zeros(num, np.bool_), 0, set(), 0
    for step in range(steps):
        spread = (1.3, 0.3, 5.0)[step // 50 % 3]
        actions = rng.uniform(-spread, spread, env.action_space.shape).astype(np.float32)
        if step % 100 == 99:
            actions[:, ::3] = np.inf
        obs, rewards, ends, cut, info = env.step(actions)
        after, on = Seen(env, obs), ~over
        played += int(on.sum())
        assert np.isfinite(obs).all()
        assert ((obs >= low) & (obs <= high)).all()
        assert np.isfinite(rewards).all()
        assert not cut.any()
        assert not rewards[over].any()
        hour = info["hour"]
        hours_met |= set(hour[on].tolist())
        assert (ends == (on & (hour == 23) & (before.days_left == 0.0))).all()
        within = np.clip(actions.astype(np.float64), -1.0, 1.0)
        want_battery, _, want_curtail = np.split(within, 3, axis=1)
        assert (info["out_of_range"] == np.where(on, (np.abs(actions) > 1.0).sum(axis=1), 0)).all()

        battery_kw = feasible_battery(community, before.soc_kwh, want_battery * fleet.battery_power_kw)
        soc_kwh = soc_after(community, before.soc_kwh, battery_kw)
        assert (np.abs(after.soc_kwh - soc_kwh)[on] < 1e-3).all()
        # at midnight all shiftable energy is delivered: the backlog starts afresh from nothing, and so do the peaks
        same_day, terms = on & ((hour < 23) | ends), info["reward_terms"]
        midnight = on & ~same_day
        assert not after.backlog_kwh[midnight | over].any()
        assert not after.peak_kw[midnight | over].any()
        assert not after.community_peak_kw[midnight | over].any()
        assert (np.abs(after.backlog_kwh[ends]) < 1e-4).all(), "shiftable energy is delivered by midnight"
        assert (np.abs(after.due[ends]) < 1e-4).all()
        shiftable_kw = before.ref_kw + (after.backlog_kwh - before.backlog_kwh) / dt
        assert (shiftable_kw[on] > -1e-3).all()
        assert (shiftable_kw[on] < fleet.shiftable_power_kw + 1e-3).all()

        curtail_kw = np.maximum(want_curtail, 0.0) * before.pv_kw
        net_kw = before.load_kw - before.pv_kw + curtail_kw + shiftable_kw + battery_kw  # exact but for float32
        assert (np.abs(net_kw.sum(axis=1) - info["exchange_kw"])[on] < 0.02).all()
        peak_kw = np.maximum(before.peak_kw, net_kw)
        assert (np.abs(after.peak_kw - peak_kw)[same_day] < 0.01).all()
        assert (after.peak_kw >= before.peak_kw)[same_day].all()
        rise_kw = np.maximum(info["exchange_kw"] - before.community_peak_kw, 0.0)
        assert (np.abs(info["peak_increase_kw"] - rise_kw)[on] < 0.02).all()
        assert (np.abs(after.community_peak_kw - before.community_peak_kw - rise_kw)[same_day] < 0.02).all()

        sell = before.price_da - (1.0 - tariff.da_sell_ratio) * np.abs(before.price_da)
        quadratic = fleet.battery_wear_quadratic_ct_per_kw2h
        wear_ct_per_h = quadratic * battery_kw**2 + fleet.battery_wear_linear_ct_per_kwh * np.abs(battery_kw)
        expected_ct = {
            "day_ahead": dt * np.where(before.position_kw > 0.0, before.price_da, sell) * before.position_kw,
            "demand_charge": tariff.demand_charge_ct_per_kw * (peak_kw - before.peak_kw),
            "battery_wear": dt * wear_ct_per_h,
            "discomfort": dt * fleet.discomfort_quadratic_ct_per_kwh2h * after.backlog_kwh**2,
        }
        for name, by_prosumer in expected_ct.items():
            assert (np.abs(terms[name] + by_prosumer.sum(axis=1))[on] < 0.1).all(), name
        assert (np.abs(terms["p2p"])[on] < 1e-6).all(), "what one pays another gets"
        assert (terms["p2p_fee"][on] <= 0.0).all()
        assert not terms["terminal_soc"][on & ~ends].any()
        voltage_ct = -WEIGHTS.voltage_ct_per_pu_h * dt * info["voltage_excess_pu"]
        assert np.allclose(terms["voltage"][on], voltage_ct[on], rtol=1e-12)
        assert np.allclose(
            terms["community_peak"][on], -WEIGHTS.peak_ct_per_kw * info["peak_increase_kw"][on], rtol=1e-12
        )
        total_ct = np.zeros(num)
        for name in REWARD_TERMS:
            total_ct += terms[name]
        assert (rewards == total_ct)[on].all()
        costs_ct = sum(terms[name] for name in COST_TERMS)
        assert np.allclose(info["community_cost_ct"][on], -costs_ct[on], rtol=1e-9, atol=1e-6)
        assert ((info["violated_buses"] > 0) == (info["voltage_excess_pu"] > 0.0))[on].all()
        assert (info["losses_kw"][on] > 0.0).all()
        assert info["converged"][on].all()
        clipped += int(info["clipped"].sum())
        before, over = after, ends
    assert played > 0.97 * num * steps
    assert hours_met == set(range(24))
    assert clipped > 0.1 * played


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_twenty_thousand_steps_of_the_two_stage_environment(mechanism: str) -> None:
    """Energy and money are conserved under every mechanism, in every step of every lane."""
    num, steps = 200, 100
    env: Any = gym.make_vec(
        "ProsumerGym/TwoStage-v0", num_envs=num, dataset=tiny_dataset(), mechanism=mechanism, copy=False
    )
    community, fleet, graph = env.community, env.community.fleet, env.community.graph
    tariff, dt, feeder = community.tariff, community.dt_h, community.feeder
    everyone, rng = np.arange(num), np.random.default_rng(0)
    incidence = np.zeros((len(graph), len(fleet)))
    incidence[np.arange(len(graph)), graph.first] = 1.0
    incidence[np.arange(len(graph)), graph.second] = -1.0
    obs, _ = env.reset(seed=0)
    over, traded, prices = np.zeros(num, np.bool_), 0.0, set()
    for step in range(steps):
        if step == 7:  # from now on the lanes do not march together
            obs, _ = env.reset(options={"reset_mask": rng.random(num) < 0.5})
        hour = np.minimum(obs["hour"][:, 0].astype(int), 23)
        position_kw = obs["position_kw"][everyone, :, hour].copy()
        load_kw, pv_kw, ref_kw = (obs[name][everyone, hour].copy() for name in ("load_kw", "pv_kw", "shiftable_ref_kw"))
        price_da, price_rt, passive_pu = (
            obs[name][everyone, hour].copy() for name in ("price_da_ct_per_kwh", "price_rt_ct_per_kwh", "passive_pu")
        )
        soc_kwh, backlog_kwh, peak_kw = (obs[n].copy() for n in ("soc_kwh", "backlog_kwh", "connection_peak_kw"))
        community_peak_kw = obs["community_peak_kw"][:, 0].copy()
        at_gate = obs["stage"][:, 0] == 0.0
        actions = {name: rng.uniform(-1.2, 1.2, space.shape) for name, space in env.action_space.items()}
        actions["day_ahead"] *= 0.3
        obs, rewards, ends, _, info = env.step(actions)
        assert all(np.isfinite(values).all() for values in obs.values())
        on = ~over & ~at_gate
        assert not rewards[~on].any()
        over = ends
        if not on.any():
            continue
        told = {name: value[on] for name, value in info.items() if not isinstance(value, dict)}
        net_kw, p2p_kw, cost_ct = told["net_import_kw"], told["p2p_kw"], told["cost_ct"]
        cost = {name: cost_ct[:, t] for t, name in enumerate(COST_TERMS)}

        # energy
        assert np.abs(p2p_kw.sum(axis=1)).max() < 1e-9
        assert np.abs(net_kw - position_kw[on] - told["realtime_kw"] - p2p_kw).max() < 1e-9
        used_kw = load_kw[on] - pv_kw[on] + told["curtail_kw"] + told["shiftable_kw"] + told["battery_kw"]
        assert np.abs(net_kw - used_kw).max() < 1e-9
        assert np.abs(told["exchange_kw"] - net_kw.sum(axis=1)).max() < 1e-9
        slack_kw = told["exchange_kw"] + feeder.p_kw.sum() * passive_pu[on] + told["losses_kw"]
        assert np.abs(told["slack_kw"] - slack_kw).max() < 0.01
        assert (-p2p_kw <= pv_kw[on] - told["curtail_kw"] + 1e-9).all(), "only what the sun gives is sold"
        if mechanism == "bilateral":
            assert np.abs(told["trade_kw"] @ incidence - p2p_kw).max() < 1e-9
            assert (np.abs(told["trade_kw"]) <= graph.limit_kw + 1e-9).all()
        else:
            assert not told["trade_kw"].any()
            assert (np.abs(p2p_kw) <= community.pool_limit_kw + 1e-9).all()
        assert np.abs(obs["soc_kwh"][on] - soc_after(community, soc_kwh[on], told["battery_kw"])).max() < 1e-9
        assert (obs["soc_kwh"] >= fleet.soc_min_kwh).all()
        assert (obs["soc_kwh"] <= fleet.soc_max_kwh).all()
        shifted_kwh = backlog_kwh[on] + dt * (told["shiftable_kw"] - ref_kw[on])
        assert np.abs(obs["backlog_kwh"][on] - shifted_kwh).max() < 1e-9
        assert np.abs(obs["backlog_kwh"][ends]).max(initial=0.0) < 1e-6, "shiftable energy is delivered by midnight"
        assert np.array_equal(obs["connection_peak_kw"][on], np.maximum(peak_kw[on], net_kw))
        peak_now_kw = np.maximum(community_peak_kw[on], told["exchange_kw"])
        assert np.abs(obs["community_peak_kw"][on, 0] - peak_now_kw).max() < 1e-9

        # money
        assert np.abs(cost["p2p"].sum(axis=1)).max() < 1e-9, "what one pays another gets"
        assert np.abs(told["community_cost_ct"] - cost_ct.sum(axis=(1, 2))).max() < 1e-7
        da_buy = price_da[on][:, None]
        da_sell = da_buy - (1.0 - tariff.da_sell_ratio) * np.abs(da_buy)
        position_ct = dt * np.where(position_kw[on] > 0.0, da_buy, da_sell) * position_kw[on]
        assert np.abs(cost["day_ahead"] - position_ct).max() < 1e-9
        rt = price_rt[on][:, None]
        rt_buy = np.maximum(rt, da_buy) + tariff.rt_buy_margin_ct_per_kwh
        rt_sell = np.minimum(rt - (1.0 - tariff.rt_sell_ratio) * np.abs(rt), da_sell) - tariff.rt_sell_margin_ct_per_kwh
        realtime_ct = dt * np.where(told["realtime_kw"] > 0.0, rt_buy, rt_sell) * told["realtime_kw"]
        assert np.abs(cost["real_time"] - realtime_ct).max() < 1e-9
        trading = np.abs(p2p_kw) > 1e-3
        price = np.where(trading, cost["p2p"] / np.where(trading, dt * p2p_kw, 1.0), np.nan)[trading.any(axis=1)]
        lowest, highest = np.nanmin(price, axis=1), np.nanmax(price, axis=1)
        assert (highest - lowest < 1e-6).all(), "one price for all"
        ends_of_price = da_sell[trading.any(axis=1), 0], da_buy[trading.any(axis=1), 0]
        assert (lowest >= ends_of_price[0] - 1e-6).all()
        assert (highest <= ends_of_price[1] + 1e-6).all()
        place = (lowest - ends_of_price[0]) / (ends_of_price[1] - ends_of_price[0])
        prices |= set(np.round(place, 3).tolist())
        assert (cost["p2p_fee"] >= 0.0).all()
        assert np.abs(cost["demand_charge"] - 20.0 * np.maximum(net_kw - peak_kw[on], 0.0)).max() < 1e-7
        assert not cost["terminal_soc"][~ends[on]].any()
        terms = np.sum([info["reward_terms"][name] for name in REWARD_TERMS], axis=0)
        assert np.allclose(rewards[on], terms[on], rtol=1e-12)
        traded += np.abs(p2p_kw).sum()
    assert traded > 1000.0
    assert (prices == {0.5}) == (mechanism in ("bilateral", "mid-market-rate")), sorted(prices)[:5]
