"""The day-ahead game on B lanes: one action a day, the position; real time runs by itself. A contextual bandit.

After the commitment nobody steers: batteries rest, shiftable loads run at their reference, nothing is curtailed or
traded between prosumers. An episode of one day is one step.

Axis letters: B lanes, N prosumers, H hours of a day, D days (rows) of the data set, R reward terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray, real_numbers
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import BOUNDS, Dataset
from prosumer_gym.envs.game import Game, Info, Note, whole_number
from prosumer_gym.envs.layout import Feature, Layout, divisor, make_layout, sizes_of
from prosumer_gym.envs.reward import REWARD_TERMS, reward_terms
from prosumer_gym.errors import UsageError
from prosumer_gym.reference import PAST_DAYS, no_control_dispatch
from prosumer_gym.simulator import Simulator, StepResult, name_results
from prosumer_gym.sizes import MAX_POWER_KW
from prosumer_gym.tables import make_results

Float32Array = npt.NDArray[np.float32]

_PRICE_SCALE = 10.0
_WEATHER: tuple[tuple[str, str, float, float], ...] = (
    ("irradiance_forecast", "irradiance_w_per_m2", 0.0, 1000.0),
    ("temperature_forecast", "temperature_c", 20.0, 20.0),
    ("cloud_forecast", "cloud_fraction", 0.0, 1.0),
)
"""Feature, covariate, offset, scale."""
_MOST_KW = 3 * MAX_POWER_KW

TABLE: tuple[Feature, ...] = (
    Feature("season", "2", "-", -1, 1, "", "sine and cosine of the day in the year"),
    Feature("weekend", "1", "-", 0, 1, "", "1 on a weekend day of the place where the data is from"),
    Feature("price_da", "H", "ct/kWh", *BOUNDS["price_da_ct_per_kwh"], f"{_PRICE_SCALE:g}",
            "raw day-ahead prices of the day"),
    Feature("past_price_rt", "H", "ct/kWh", *BOUNDS["price_rt_ct_per_kwh"], f"{_PRICE_SCALE:g}",
            "raw real-time prices, mean of the last seven days"),
    Feature("irradiance_forecast", "H", "W/m2", *BOUNDS["irradiance_w_per_m2"], "1000",
            "forecast of the day, mean of the prosumers'"),
    Feature("temperature_forecast", "H", "deg C", *BOUNDS["temperature_c"], "20 after subtracting 20",
            "forecast of the day, mean of the prosumers'", 20),
    Feature("cloud_forecast", "H", "-", *BOUNDS["cloud_fraction"], "", "forecast of the day, mean of the prosumers'"),
    Feature("net_load_yesterday", "N", "kW", -_MOST_KW, _MOST_KW, "position limit",
            "mean of yesterday's load + shiftable reference - PV of each prosumer"),
    Feature("net_load_last_week", "NH", "kW", -_MOST_KW, _MOST_KW, "position limit",
            "load - PV, mean of the last seven days, + the day's shiftable reference; no-control buys where positive"),
    Feature("soc", "N", "-", 0, 1, "", "state of charge between its lowest (0) and its highest (1)"),
    Feature("days_left", "1", "-", 0, 1, "", "full days of the episode after the present one, of its days"),
)  # fmt: skip
"""The observation."""

INFO_TABLE: tuple[Note, ...] = (
    Note("day", "", "-", "row of the data set that was played (after a reset: that will be played)", int),
    Note("out_of_range", "", "-", "numbers of the action beyond [-1, 1], clipped", int),
    Note("clipped", "", "-", "powers that were not feasible and clipped", int),
    Note("violated_bus_steps", "", "-", "buses beyond the voltage limits, summed over the steps of the day", int),
    Note("reward_terms", "", "ct", "the terms of the reward by name, summed over the day; they sum to it", dict),
    Note("community_cost_ct", "", "ct", "what the day cost all prosumers together"),
    Note("community_peak_kw", "", "kW", "highest sum of the net imports"),
    Note("voltage_excess_pu_h", "", "p.u. h", "voltage beyond the limits, summed over the buses and the day"),
    Note("losses_kwh", "", "kWh", "losses of the feeder"),
    Note("converged", "", "-", "whether the power flow had a solution in every step", bool),
)
"""The info of a step; after a reset only `day` is there."""

_COUNTS = ("out_of_range", "clipped", "violated_bus_steps")
_FIGURES = ("community_cost_ct", "community_peak_kw", "voltage_excess_pu_h", "losses_kwh")


class DayAheadGame(Game):
    """B lanes of the game, each on a day of its own.

    Args:
        num_lanes: B.
        single: whether actions come without the axis B; B is 1 then.
        threads: for batches of 256 lanes and more.
        game: as for `Game`.

    Raises:
        UsageError: as `Game`.
    """

    def __init__(self, num_lanes: int, *, single: bool = False, threads: int = 1, **game: Any) -> None:
        super().__init__(num_lanes, **game)
        num_lanes, threads = self.num_lanes, whole_number("threads", threads)
        community, num_hours = self.community, self.community.hours_per_day
        self.layout = day_ahead_layout(self.dataset, community)
        self.observation_space = self.layout.box
        self.action_space = spaces.Box(-1.0, 1.0, (community.num_prosumers * num_hours,), dtype=np.float32)
        self.simulator = Simulator(community, self.dataset.exogenous, num_lanes, threads=threads)
        self._single = single
        self._context = context_rows(self.dataset, community, self.layout, self._playable_rows())
        self.day = np.zeros(num_lanes, np.int64)
        self.terms_ct = np.zeros((len(REWARD_TERMS), num_lanes))
        """Terms of the last day's reward [R,B]."""
        self._counts: dict[str, IntArray] = {name: np.zeros(num_lanes, np.int64) for name in _COUNTS}
        self._figures: dict[str, FloatArray] = {name: np.zeros(num_lanes) for name in _FIGURES}
        self._converged = np.ones(num_lanes, np.bool_)
        # What a picture shows: of a day that was played, its last hour.
        self.hour = np.full(num_lanes, -1)
        self.result: StepResult = name_results(make_results(community, num_lanes), num_lanes)
        self.episode_cost_ct = np.zeros(num_lanes)
        self.exchange_kw = np.zeros((num_lanes, num_hours))
        self.position_kw = np.zeros((num_lanes, num_hours))

    @property
    def soc_kwh(self) -> FloatArray:
        """State of charge of the batteries [N,B]."""
        return self.simulator.state.soc_kwh

    def begin(self, lanes: BoolArray, row: IntArray) -> None:
        """An episode begins on row `row` [B] in the lanes of the mask [B]."""
        self.simulator.reset(row, days_per_episode=self.days_per_episode, mask=lanes)
        self.day = np.where(lanes, row, self.day)
        self.hour[lanes] = -1
        for of_episode in (self.episode_cost_ct, self.exchange_kw, self.position_kw):
            of_episode[lanes] = 0.0

    def play(self, action: Any, lanes: BoolArray) -> tuple[FloatArray, BoolArray]:
        """One day of the lanes of the mask [B]; `action` leads with B, unless the game is `single`.

        Returns:
            Reward [B] and whether the episode is over [B]; zero and false in other lanes.

        Raises:
            UsageError: the action has a wrong shape or holds NaN; nothing has changed.
        """
        actions, state = self._checked(action, lanes), self.simulator.state
        self.day = np.where(lanes, state.day, self.day)
        position_kw = np.clip(actions, -1.0, 1.0) * self.community.fleet.position_limit_kw[:, np.newaxis]
        self._counts["out_of_range"] = np.where(lanes, (np.abs(actions) > 1.0).sum(axis=(1, 2)), 0)
        self._counts["clipped"] = self.simulator.commit(np.moveaxis(position_kw, 0, -1))
        self._counts["violated_bus_steps"] = np.zeros(self.num_lanes, np.int64)
        self._figures = {name: np.zeros(self.num_lanes) for name in _FIGURES}
        self._converged = np.ones(self.num_lanes, np.bool_)
        self.terms_ct = np.zeros(self.terms_ct.shape)
        self.position_kw[lanes] = state.position_kw.sum(axis=0).T[lanes]
        for hour in range(self.community.hours_per_day):
            self._run_by_itself(hour, lanes)
        self.hour[lanes] = self.community.hours_per_day - 1
        self.episode_cost_ct += self._figures["community_cost_ct"]
        reward = np.zeros(self.num_lanes)
        for term in self.terms_ct:  # in their order: the bits do not depend on the number of lanes
            reward += term
        return reward, self.result.done.copy()

    def observation(self) -> Float32Array:
        """What the first lane sees, in an array of the caller's own."""
        return self.observations_of(np.zeros(1, np.int64))[0]

    def observations(self, *, copy: bool) -> Float32Array:  # noqa: ARG002 - they are made anew each time
        """What every lane sees [B,.], in an array of the caller's own."""
        state, fleet = self.simulator.state, self.community.fleet
        seen = self._context[state.day]
        span_kwh = divisor(fleet.soc_max_kwh - fleet.soc_min_kwh)
        seen[:, self.layout.slices["soc"]] = (state.soc_kwh.T - fleet.soc_min_kwh) / span_kwh
        seen[:, self.layout.slices["days_left"]] = state.days_left[:, np.newaxis] / self.days_per_episode
        return seen

    def observations_of(self, lanes: IntArray) -> list[Float32Array]:
        """What some lanes see, in arrays of the caller's own."""
        return list(self.observations(copy=True)[lanes])

    def info(self) -> Info:
        """What is told about the last step of the first lane."""
        info: Info = {"day": int(self.day[0]), **{name: int(values[0]) for name, values in self._counts.items()}}
        info["reward_terms"] = dict(zip(REWARD_TERMS, self.terms_ct[:, 0].tolist(), strict=True))
        info |= {name: float(values[0]) for name, values in self._figures.items()}
        info["converged"] = bool(self._converged[0])
        return info

    def infos(self) -> Info:
        """What is told about the last step of every lane, leading axis B, in arrays of the caller's own."""
        info: Info = {"day": self.day.copy(), **{name: values.copy() for name, values in self._counts.items()}}
        info["reward_terms"] = {name: term.copy() for name, term in zip(REWARD_TERMS, self.terms_ct, strict=True)}
        info |= {name: values.copy() for name, values in self._figures.items()}
        info["converged"] = self._converged.copy()
        return info

    def _run_by_itself(self, hour: int, lanes: BoolArray) -> None:
        """One hour as the no-control reference runs it, added to the figures of the day."""
        ref_kw = self.dataset.shiftable_ref_kw[self.day, hour]
        wanted = no_control_dispatch(ref_kw, self.community.num_offers)
        result = self.simulator.step(wanted.battery_kw.T, wanted.shiftable_kw.T, wanted.curtail_kw.T, wanted.offers.T)
        self.result, dt_h = result, self.community.dt_h
        terms_ct, _ = reward_terms(
            self.weights, dt_h, result.cost_ct, result.voltage_excess_pu, result.peak_increase_kw
        )  # fmt: skip
        self.terms_ct += terms_ct
        self._counts["clipped"] = self._counts["clipped"] + result.clipped
        self._counts["violated_bus_steps"] += result.violated_buses
        figures = self._figures
        figures["community_cost_ct"] += result.community_cost_ct
        figures["community_peak_kw"] += result.peak_increase_kw
        figures["voltage_excess_pu_h"] += dt_h * result.voltage_excess_pu
        figures["losses_kwh"] += dt_h * result.losses_kw
        self._converged &= result.converged
        self.exchange_kw[lanes, hour] = result.exchange_kw[lanes]

    def _checked(self, action: Any, lanes: BoolArray) -> FloatArray:
        """The action as [B,N,H]; it may hold NaN in lanes that are not played."""
        shape = self.action_space.shape if self._single else (self.num_lanes, *(self.action_space.shape or ()))
        try:
            actions = real_numbers(action, np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"action: is not an array of numbers: {error}") from None
        if actions.shape != shape:
            raise UsageError(f"action: shape {actions.shape}, expected {shape}")
        actions = actions.reshape(self.num_lanes, self.community.num_prosumers, self.community.hours_per_day)
        wrong = np.isnan(actions) & lanes[:, np.newaxis, np.newaxis]
        if wrong.any():
            lane, prosumer, hour = (int(i) for i in np.argwhere(wrong)[0])
            where = "" if self._single else f"lane {lane}, "
            raise UsageError(
                f"action: {where}position of prosumer {prosumer} in hour {hour} is NaN; give numbers in [-1, 1]"
            )
        return actions

    def _playable_rows(self) -> IntArray:
        """All rows that an episode may come to."""
        return np.unique(self.first_days[:, np.newaxis] + np.arange(self.days_per_episode))


def day_ahead_table(covariates: tuple[str, ...]) -> tuple[Feature, ...]:
    """The table without the forecasts of weather that a data set does not have."""
    lacking = {name for name, covariate, *_ in _WEATHER if covariate not in covariates}
    return tuple(feature for feature in TABLE if feature.name not in lacking)


def day_ahead_layout(dataset: Dataset, community: Community) -> Layout:
    """Where each feature stands, for these prosumers, hours and covariates."""
    limit_kw, num_hours = divisor(community.fleet.position_limit_kw), community.hours_per_day
    scales: dict[str, npt.ArrayLike] = dict.fromkeys((feature.name for feature in TABLE), 1.0)
    scales |= {"price_da": _PRICE_SCALE, "past_price_rt": _PRICE_SCALE, "net_load_yesterday": limit_kw}
    scales |= {name: scale for name, _, _, scale in _WEATHER} | {"net_load_last_week": np.repeat(limit_kw, num_hours)}
    return make_layout(day_ahead_table(dataset.covariates), sizes_of(community.num_prosumers, num_hours), scales)


def context_rows(dataset: Dataset, community: Community, layout: Layout, rows: IntArray) -> Float32Array:
    """What is known of each day at its gate [D,.], zeros in rows that are not played and for what is of the episode."""
    limit_kw = divisor(community.fleet.position_limit_kw)
    past = rows[:, np.newaxis] + np.arange(-PAST_DAYS, 0)
    angle = 2.0 * np.pi * dataset.day_of_year[rows] / 365.25
    net_kw = dataset.load_kw - dataset.pv_kw
    last_week_kw = net_kw[past].mean(axis=1) + dataset.shiftable_ref_kw[rows]
    yesterday_kw = (net_kw + dataset.shiftable_ref_kw)[rows - 1].mean(axis=1)
    values: dict[str, FloatArray] = {
        "season": np.stack((np.sin(angle), np.cos(angle)), axis=1),
        "weekend": dataset.weekend[rows, np.newaxis].astype(np.float64),
        "price_da": dataset.price_da_ct_per_kwh[rows] / _PRICE_SCALE,
        "past_price_rt": dataset.price_rt_ct_per_kwh[past].mean(axis=1) / _PRICE_SCALE,
        "net_load_yesterday": yesterday_kw / limit_kw,
        "net_load_last_week": np.swapaxes(last_week_kw / limit_kw, 1, 2).reshape(rows.size, -1),
    }
    for name, covariate, offset, scale in _WEATHER:
        if covariate in dataset.covariates:
            forecast = dataset.weather_forecast[rows, ..., dataset.covariates.index(covariate)].mean(axis=2)
            values[name] = (forecast - offset) / scale
    context = np.zeros((dataset.num_days, layout.size), np.float32)
    for name, value in values.items():
        context[rows, layout.slices[name]] = value
    return context
