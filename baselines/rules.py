"""Policies that decide hour by hour from what the hour shows; their position is their own rule, run on the forecast.

Axis letters: N prosumers, X trades of an hour (`trades`), H hours of a day.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass

import numpy as np

from prosumer_gym.actions import Dispatch
from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.fit_cache import cached
from prosumer_gym.baselines.forecast import DayForecaster
from prosumer_gym.baselines.policy import Observation, TwoStagePolicy, hour_of, obs_array
from prosumer_gym.baselines.trades import bought_kw, offers_of
from prosumer_gym.community import Community, Fleet
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.prosumer import backlog_tube

SOLVER_FELL_BACK = "an hour left to the second solver"
"""Name of the fallback that rules count."""


@dataclass(frozen=True, eq=False)
class Slot:
    """One hour as a rule sees it: actual in real time, forecast at the gate."""

    load_kw: FloatArray
    """[N]"""
    pv_kw: FloatArray
    """[N]"""
    shiftable_ref_kw: FloatArray
    """[N]"""
    least_shiftable_kw: FloatArray
    """Less, and the day's shiftable energy could not be delivered any more [N]."""
    most_shiftable_kw: FloatArray
    """[N]"""
    soc_kwh: FloatArray
    """[N]"""
    least_soc_kwh: FloatArray
    """The battery must not fall below it [N]."""
    backlog_kwh: FloatArray
    """[N]"""
    connection_peak_kw: FloatArray
    """[N]"""
    position_kw: FloatArray
    """What was bought day-ahead; zero at the gate [N]."""
    buy_ct_per_kwh: float
    """At which what is left is settled: day-ahead at the gate, real-time after it."""
    sell_ct_per_kwh: float
    passive_pu: float
    """Load of the rest of the feeder as a multiple of its nominal load; at the gate the mean of the past days."""
    usual_peak_kw: FloatArray
    """Largest import of a day at each connection if nobody steers, the mean of the past days [N]."""
    day_ahead_ct_per_kwh: FloatArray
    """Raw day-ahead prices of the whole day [H]."""
    terminal_ct_per_kwh: tuple[FloatArray, FloatArray] | None
    """In the last hour of an episode: worth of energy missing from the battery, and of energy left over [N] each."""


@dataclass(frozen=True, eq=False)
class Move:
    """What a rule does in one hour; feasible."""

    battery_kw: FloatArray
    """+ charges [N]."""
    shiftable_kw: FloatArray
    """[N]"""
    curtail_kw: FloatArray
    """[N]"""
    trade_kw: FloatArray
    """Of each edge, + when its first end buys, or in a pool or an auction of each prosumer, + buys [X]."""
    fallbacks: tuple[str, ...] = ()
    """Why solvers asked before failed; empty when the first one solved it, or none was asked."""


class RulePolicy(TwoStagePolicy):
    """A rule for one hour. Its kinds differ in `rule` alone. `fallbacks` counts since `reset` (`policy`)."""

    @abstractmethod
    def rule(self, slot: Slot) -> Move:
        """What to do in an hour."""

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn the forecast that the position is made from."""
        super().fit(community, history)
        self.forecaster = cached(DayForecaster.fit, history, permuted=False)
        self.fallbacks: Counter[str] = Counter()

    def reset(self, seed: int) -> None:  # noqa: ARG002
        """A rule remembers nothing of the days before but what it counts."""
        self.fallbacks = Counter()

    def plan(self, obs: Observation) -> FloatArray:
        """What the rule would draw from the grid on the forecast day, P2P taken off [N,H]."""
        fleet, dt_h = self.community.fleet, self.community.dt_h
        forecast = self.forecaster.forecast(obs)
        da_ct_per_kwh = obs_array(obs, "price_da_ct_per_kwh")
        prices = self.community.tariff.settlement_prices(da_ct_per_kwh, da_ct_per_kwh)
        soc_kwh, backlog_kwh = obs_array(obs, "soc_kwh"), obs_array(obs, "backlog_kwh")
        peak_kw = obs_array(obs, "connection_peak_kw")
        passive_pu = obs_array(obs, "past_passive_pu").mean(axis=0)
        position_kw = np.zeros((self.community.num_prosumers, self.community.hours_per_day))
        for hour in range(self.community.hours_per_day):
            slot = self._slot(
                obs, hour, forecast.load_kw[hour], forecast.pv_kw[hour], soc_kwh, backlog_kwh, peak_kw,
                np.zeros(len(fleet)), float(prices.da_buy[hour]), float(prices.da_sell[hour]), float(passive_pu[hour]),
            )  # fmt: skip
            move = self._counted(self.rule(slot))
            net_kw = slot.load_kw - slot.pv_kw + move.curtail_kw + move.shiftable_kw + move.battery_kw
            position_kw[:, hour] = net_kw - bought_kw(self.community, move.trade_kw)
            soc_kwh = soc_after(fleet, move.battery_kw, soc_kwh, dt_h)
            backlog_kwh = backlog_kwh + dt_h * (move.shiftable_kw - slot.shiftable_ref_kw)
            peak_kw = np.maximum(peak_kw, net_kw)
        return position_kw

    def dispatch(self, obs: Observation) -> Dispatch:
        """The rule on the hour as observed; its trades are offered by all concerned."""
        move = self._counted(self.rule(self.observed(obs)))
        return Dispatch(
            battery_kw=move.battery_kw,
            shiftable_kw=move.shiftable_kw,
            curtail_kw=move.curtail_kw,
            offers=offers_of(self.community.market, move.trade_kw),
        )

    def _counted(self, move: Move) -> Move:
        if move.fallbacks:
            self.fallbacks[SOLVER_FELL_BACK] += 1
        return move

    def observed(self, obs: Observation) -> Slot:
        """The hour that a real-time observation shows."""
        hour = hour_of(obs)
        prices = self.community.tariff.settlement_prices(
            obs_array(obs, "price_da_ct_per_kwh")[hour], obs_array(obs, "price_rt_ct_per_kwh")[hour]
        )
        return self._slot(
            obs, hour, obs_array(obs, "load_kw")[hour], obs_array(obs, "pv_kw")[hour], obs_array(obs, "soc_kwh"),
            obs_array(obs, "backlog_kwh"), obs_array(obs, "connection_peak_kw"),
            obs_array(obs, "position_kw")[:, hour], float(prices.rt_buy), float(prices.rt_sell),
            float(obs_array(obs, "passive_pu")[hour]),
        )  # fmt: skip

    def _slot(
        self, obs: Observation, hour: int, load_kw: FloatArray, pv_kw: FloatArray, soc_kwh: FloatArray,
        backlog_kwh: FloatArray, connection_peak_kw: FloatArray, position_kw: FloatArray, buy_ct_per_kwh: float,
        sell_ct_per_kwh: float, passive_pu: float,
    ) -> Slot:  # fmt: skip
        fleet, dt_h = self.community.fleet, self.community.dt_h
        ref_kw = obs_array(obs, "shiftable_ref_kw")
        low_kwh, high_kwh = (bound[0, hour + 1] for bound in backlog_tube(self.community, ref_kw[np.newaxis]))
        net_kw = obs_array(obs, "past_load_kw") + ref_kw - obs_array(obs, "past_pv_kw")  # [W,H,N]
        ends = hour == self.community.hours_per_day - 1 and obs_array(obs, "days_left")[0] < 0.5
        return Slot(
            load_kw=load_kw,
            pv_kw=pv_kw,
            shiftable_ref_kw=ref_kw[hour],
            least_shiftable_kw=np.clip(ref_kw[hour] + (low_kwh - backlog_kwh) / dt_h, 0.0, fleet.shiftable_power_kw),
            most_shiftable_kw=np.clip(ref_kw[hour] + (high_kwh - backlog_kwh) / dt_h, 0.0, fleet.shiftable_power_kw),
            soc_kwh=soc_kwh,
            least_soc_kwh=fleet.soc_min_kwh,
            backlog_kwh=backlog_kwh,
            connection_peak_kw=connection_peak_kw,
            position_kw=position_kw,
            buy_ct_per_kwh=buy_ct_per_kwh,
            sell_ct_per_kwh=sell_ct_per_kwh,
            passive_pu=passive_pu,
            usual_peak_kw=np.maximum(net_kw.max(axis=1), 0.0).mean(axis=0),
            day_ahead_ct_per_kwh=obs_array(obs, "price_da_ct_per_kwh"),
            terminal_ct_per_kwh=self.community.tariff.terminal_values(
                obs_array(obs, "price_da_ct_per_kwh"), fleet.charge_efficiency, fleet.discharge_efficiency
            )
            if ends
            else None,
        )


def battery_limits_kw(
    fleet: Fleet, soc_kwh: FloatArray, least_soc_kwh: FloatArray, dt_h: float
) -> tuple[FloatArray, FloatArray]:
    """The most that each battery can discharge, down to `least_soc_kwh`, and charge in an hour, both positive [N]."""
    discharge_kw = np.maximum(soc_kwh - least_soc_kwh, 0.0) * fleet.discharge_efficiency / dt_h
    charge_kw = np.maximum(fleet.soc_max_kwh - soc_kwh, 0.0) / (fleet.charge_efficiency * dt_h)
    return np.minimum(fleet.battery_power_kw, discharge_kw), np.minimum(fleet.battery_power_kw, charge_kw)


def soc_after(fleet: Fleet, battery_kw: FloatArray, soc_kwh: FloatArray, dt_h: float) -> FloatArray:
    """States of charge after an hour at feasible battery powers [N]."""
    charged_kw = np.maximum(battery_kw, 0.0) * fleet.charge_efficiency
    return soc_kwh + dt_h * (charged_kw - np.maximum(-battery_kw, 0.0) / fleet.discharge_efficiency)
