"""What one prosumer sees as one flat array: one table of features, for learners.

Everything in it follows from `local.TABLE`: the prosumer's own figures, what is public, its inbox. A value from which
hour on counts is that of the hour about to be played, at the day-ahead step that of the whole day.

Axis letters: N prosumers, G neighbours of one prosumer, M numbers of a message, H hours of a day, C features that have
a number for each hour to come, S places at which one prosumer may write to a neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import BOUNDS, Dataset
from prosumer_gym.envs.layout import Feature, Layout, divisor, make_layout, sizes_of
from prosumer_gym.envs.observation import MAX_CONNECTION_KW, Observation
from prosumer_gym.reference import PAST_DAYS
from prosumer_gym.sizes import MAX_POWER_KW

Float32Array = npt.NDArray[np.float32]

PRICE_SCALE_CT_PER_KWH = 10.0
_PRICE, _CONNECTION, _POSITION = f"{PRICE_SCALE_CT_PER_KWH:g}", "connection limit", "position limit"
_FORECASTS = {
    "irradiance_forecast": ("irradiance_w_per_m2", 0.0, 1000.0),
    "temperature_forecast": ("temperature_c", 20.0, 20.0),
}
"""Feature -> covariate, offset, scale."""
_MOST_KW = 3 * MAX_POWER_KW

TABLE: tuple[Feature, ...] = (
    Feature("stage", "1", "-", 0, 1, "", "0 at the day-ahead step, 1 at a real-time step"),
    Feature("time_of_day", "2", "-", -1, 1, "", "sine and cosine of the hour's beginning on a clock of one day"),
    Feature("season", "2", "-", -1, 1, "", "sine and cosine of the day in the year"),
    Feature("weekend", "1", "-", 0, 1, "", "1 on a weekend day of the place where the data is from"),
    Feature("days_left", "1", "-", 0, 1, "", "full days of the episode after the present one, of its days"),
    Feature("price_rt", "1", "ct/kWh", *BOUNDS["price_rt_ct_per_kwh"], _PRICE,
            "raw real-time price of this hour; zero at the day-ahead step"),
    Feature("load", "1", "kW", *BOUNDS["load_kw"], _CONNECTION, "own must-run load of this hour; likewise"),
    Feature("pv", "1", "kW", *BOUNDS["pv_kw"], _CONNECTION, "own available PV power of this hour; likewise"),
    Feature("soc", "1", "-", 0, 1, "", "own state of charge between its lowest (0) and its highest (1)"),
    Feature("backlog", "1", "-", -1, 1, "",
            "own shiftable energy delivered ahead of (+) or behind (-) its reference today, by its larger bound"),
    Feature("connection_peak", "1", "kW", 0, MAX_CONNECTION_KW, _CONNECTION,
            "highest import of the own connection today, on which the demand charge is paid"),
    Feature("price_da", "H", "ct/kWh", *BOUNDS["price_da_ct_per_kwh"], _PRICE,
            "raw day-ahead prices from this hour on; zero beyond the day, like all that follows but the inbox"),
    Feature("past_price_rt", "H", "ct/kWh", *BOUNDS["price_rt_ct_per_kwh"], _PRICE,
            "raw real-time prices from this hour on, mean of the last seven days"),
    Feature("net_load_last_week", "H", "kW", -_MOST_KW, _MOST_KW, _POSITION,
            "own load - PV from this hour on, mean of the last seven days, + shiftable_ref; no-control buys where "
            "positive"),
    Feature("shiftable_ref", "H", "kW", *BOUNDS["shiftable_ref_kw"], "shiftable power",
            "own shiftable load from this hour on if left alone"),
    Feature("irradiance_forecast", "H", "W/m2", *BOUNDS["irradiance_w_per_m2"], "1000",
            "own forecast from this hour on"),
    Feature("temperature_forecast", "H", "deg C", *BOUNDS["temperature_c"], "20 after subtracting 20",
            "own forecast from this hour on", 20),
    Feature("position", "H", "kW", -MAX_POWER_KW, MAX_POWER_KW, _POSITION,
            "own day-ahead position from this hour on, + = bought; zero at the day-ahead step"),
    Feature("inbox", "GM", "-", -1, 1, "", "what each neighbour wrote in the step before, neighbour after neighbour"),
)  # fmt: skip
"""The observation: what holds now, then what is known of the hours to come, then the inbox."""

_FIRST_OWN, _FIRST_OF_HOURS = "load", "price_da"
"""Before the one stands what everybody sees of the present, before the other what the prosumer sees of its own."""


def local_table(covariates: tuple[str, ...]) -> tuple[Feature, ...]:
    """The table without the forecasts of weather that a data set does not have."""
    return tuple(f for f in TABLE if f.name not in _FORECASTS or _FORECASTS[f.name][0] in covariates)


def local_sizes(num_hours: int, degree: int, message_size: int) -> dict[str, int]:
    """What the expressions in `Feature.size` mean for a prosumer with `degree` neighbours."""
    return {**sizes_of(1, num_hours), "GM": degree * message_size}


def local_layouts(dataset: Dataset, community: Community, degrees: list[int], message_size: int) -> tuple[Layout, ...]:
    """Where each feature stands, for each prosumer."""
    fleet, table = community.fleet, local_table(dataset.covariates)
    connection_kw, position_kw = divisor(fleet.connection_limit_kw), divisor(fleet.position_limit_kw)
    shiftable_kw = divisor(fleet.shiftable_power_kw)
    layouts = []
    for n, degree in enumerate(degrees):
        scales: dict[str, npt.ArrayLike] = dict.fromkeys((feature.name for feature in table), 1.0)
        scales |= dict.fromkeys(("price_da", "past_price_rt", "price_rt"), PRICE_SCALE_CT_PER_KWH)
        scales |= dict.fromkeys(("load", "pv", "connection_peak"), connection_kw[n])
        scales |= dict.fromkeys(("net_load_last_week", "position"), position_kw[n])
        scales |= {"shiftable_ref": shiftable_kw[n]} | {name: scale for name, (_, _, scale) in _FORECASTS.items()}
        layouts.append(make_layout(table, local_sizes(dataset.num_hours, degree, message_size), scales))
    return tuple(layouts)


class LocalFeatures:
    """What the prosumers of one community see, flat, from the community's observation.

    What is published before a day is worked out at its day-ahead step and kept: every day is shown from that step on.

    Args:
        dataset: the days, as the community lives them.
        community: the community.
        days_per_episode: by which the days left are divided.
        layouts: where each feature stands, for each prosumer.
    """

    def __init__(
        self, dataset: Dataset, community: Community, days_per_episode: int, layouts: Sequence[Layout]
    ) -> None:
        fleet, num = community.fleet, community.num_prosumers
        self._num_hours, self._days_per_episode = dataset.num_hours, days_per_episode
        self._connection_kw = divisor(fleet.connection_limit_kw)
        self._position_kw = divisor(fleet.position_limit_kw)[:, np.newaxis]
        self._shiftable_kw = divisor(fleet.shiftable_power_kw)[:, np.newaxis]
        self._soc_min_kwh = np.array(fleet.soc_min_kwh)
        self._span_kwh = divisor(fleet.soc_max_kwh - fleet.soc_min_kwh)
        self._backlog_kwh = divisor(np.maximum(-fleet.backlog_min_kwh, fleet.backlog_max_kwh))
        self._forecasts = [
            (f.name, dataset.covariates.index(_FORECASTS[f.name][0]), *_FORECASTS[f.name][1:])
            for f in local_table(dataset.covariates)
            if f.name in _FORECASTS
        ]
        self._at = {name: place.start for name, place in layouts[0].slices.items()}
        names = list(self._at)
        of_hours = names[names.index(_FIRST_OF_HOURS) : -1]
        self._rows = {name: c for c, name in enumerate(of_hours)}
        self._hours = np.zeros((num, len(self._rows), 2 * self._num_hours), np.float32)
        """From each hour of the day on, zero beyond it [N,C,2H]."""
        self._sizes = [layout.size for layout in layouts]
        is_mail = np.zeros((num, max(self._sizes)), np.bool_)
        for own, size in zip(is_mail, self._sizes, strict=True):
            own[self._at["inbox"] : size] = True
        self._mail = np.nonzero(is_mail)

    def of(self, seen: Observation, inbox: FloatArray) -> list[Float32Array]:
        """What each prosumer sees, from the two-stage observation without the axis B and all inboxes [S,M].

        The arrays are the caller's own and do not overlap.
        """
        if seen["stage"][0] == 0.0:
            self._open_day(seen)
        hour, num_hours = int(seen["hour"][0]), self._num_hours
        inside = seen["stage"][0] == 1.0 and hour < num_hours
        if hour == 0:
            self._hours[:, self._rows["position"], :num_hours] = seen["position_kw"] / self._position_kw
        num, at, first = len(self._hours), self._at, self._at[_FIRST_OF_HOURS]
        flat = np.empty((num, max(self._sizes)), np.float32)
        flat[:, : at[_FIRST_OWN]] = self._shared(seen, hour, inside)
        flat[:, at["load"]] = seen["load_kw"][hour] / self._connection_kw if inside else 0.0
        flat[:, at["pv"]] = seen["pv_kw"][hour] / self._connection_kw if inside else 0.0
        flat[:, at["soc"]] = (seen["soc_kwh"] - self._soc_min_kwh) / self._span_kwh
        flat[:, at["backlog"]] = seen["backlog_kwh"] / self._backlog_kwh
        flat[:, at["connection_peak"]] = seen["connection_peak_kw"] / self._connection_kw
        flat[:, first : at["inbox"]] = self._hours[:, :, hour : hour + num_hours].reshape(num, -1)
        flat[self._mail] = inbox.ravel()
        return [own[:size] for own, size in zip(flat, self._sizes, strict=True)]

    def _shared(self, seen: Observation, hour: int, inside: bool) -> list[float]:
        """What everybody sees of the present, in the order of the table."""
        clock = math.tau * hour / self._num_hours
        year = math.tau * float(seen["day_of_year"][0]) / 365.25
        return [
            float(seen["stage"][0]),
            math.sin(clock),
            math.cos(clock),
            math.sin(year),
            math.cos(year),
            float(seen["weekend"][0]),
            float(seen["days_left"][0]) / self._days_per_episode,
            float(seen["price_rt_ct_per_kwh"][hour]) / PRICE_SCALE_CT_PER_KWH if inside else 0.0,
        ]

    def _open_day(self, seen: Observation) -> None:
        """What is published before the day, for all its hours."""
        past = slice(-PAST_DAYS, None)
        net_kw = (seen["past_load_kw"][past] - seen["past_pv_kw"][past]).mean(axis=0) + seen["shiftable_ref_kw"]
        coming: dict[str, FloatArray] = {
            "price_da": seen["price_da_ct_per_kwh"] / PRICE_SCALE_CT_PER_KWH,
            "past_price_rt": seen["past_price_rt_ct_per_kwh"][past].mean(axis=0) / PRICE_SCALE_CT_PER_KWH,
            "net_load_last_week": net_kw.T / self._position_kw,
            "shiftable_ref": seen["shiftable_ref_kw"].T / self._shiftable_kw,
        }
        for name, covariate, offset, scale in self._forecasts:
            coming[name] = (seen["weather_forecast"][:, :, covariate].T - offset) / scale
        for name, values in coming.items():
            self._hours[:, self._rows[name], : self._num_hours] = values
