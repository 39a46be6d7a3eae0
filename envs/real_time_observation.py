"""What a real-time policy sees: one table of features, and what the days bring of them, one row an hour.

A row shows nothing of the day's later hours but what is published before it begins: prices and forecasts.

Axis letters: N prosumers, H hours of a day, D days (rows) of the data set, X numbers of an observation that the days
bring (the first ones), Z numbers that are the environment's own (the rest).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import BOUNDS, Dataset
from prosumer_gym.envs.layout import Feature, Layout, divisor, make_layout, sizes_of
from prosumer_gym.envs.observation import MAX_CONNECTION_KW
from prosumer_gym.lanes_transpose import padded
from prosumer_gym.sizes import MAX_POWER_KW, MAX_PROSUMERS
from prosumer_gym.tables import World

PRICE_SCALE_CT_PER_KWH = 10.0
_WEATHER_SCALES = {"irradiance_forecast": 1000.0, "temperature_forecast": 20.0}
_CONNECTION = "connection limit"

TABLE: tuple[Feature, ...] = (
    Feature("time_of_day", "2", "-", -1, 1, "", "sine and cosine of the hour's beginning on a clock of one day"),
    Feature("weekend", "1", "-", 0, 1, "", "1 on a weekend day of the place where the data is from"),
    Feature("price_da", "H", "ct/kWh", *BOUNDS["price_da_ct_per_kwh"], f"{PRICE_SCALE_CT_PER_KWH:g}",
            "raw day-ahead prices from this hour on; zero beyond the day"),
    Feature("price_rt", "1", "ct/kWh", *BOUNDS["price_rt_ct_per_kwh"], f"{PRICE_SCALE_CT_PER_KWH:g}",
            "raw real-time price of this hour"),
    Feature("passive", "1", "p.u.", *BOUNDS["passive_pu"], "",
            "load of the rest of the feeder in this hour, multiple of its nominal load"),
    Feature("load", "N", "kW", *BOUNDS["load_kw"], _CONNECTION, "must-run load of this hour"),
    Feature("pv", "N", "kW", *BOUNDS["pv_kw"], _CONNECTION, "available PV power of this hour"),
    Feature("shiftable_ref", "N", "kW", 0, MAX_POWER_KW, "shiftable power",
            "shiftable load of this hour if left alone"),
    Feature("position", "N", "kW", -MAX_POWER_KW, MAX_POWER_KW, "position limit",
            "day-ahead position of this hour, + = bought"),
    Feature("irradiance_forecast", "H", "W/m2", *BOUNDS["irradiance_w_per_m2"], "1000",
            "forecast from this hour on, mean of the prosumers'; zero beyond the day"),
    Feature("temperature_forecast", "H/2", "deg C", *BOUNDS["temperature_c"],
            "20 after subtracting 20",
            "forecast from this hour on for half a day, mean of the prosumers'; zero beyond the day",
            20),
    Feature("shiftable_due", "N", "-", 0, 1, "",
            "energy that the shiftable load must still take today, as a share of what it could take in the hours left"),
    Feature("soc", "N", "-", 0, 1, "", "state of charge between its lowest (0) and its highest (1)"),
    Feature("backlog", "N", "-", -1, 1, "",
            "shiftable energy delivered ahead of (+) or behind (-) its reference today, by its larger bound"),
    Feature("connection_peak", "N", "kW", 0, MAX_CONNECTION_KW, _CONNECTION,
            "highest import of each connection today, on which the demand charge is paid"),
    Feature("community_peak", "1", "kW", 0, MAX_CONNECTION_KW * MAX_PROSUMERS, "sum of the connection limits",
            "highest import of all prosumers together today, which the reward's peak term uses"),
    Feature("days_left", "1", "-", 0, 1, "", "full days of the episode after the present one, of its days"),
)  # fmt: skip
"""The observation. The days bring all but the last six features."""

_FORECASTS = {"irradiance_forecast": "irradiance_w_per_m2", "temperature_forecast": "temperature_c"}
_OWN = "shiftable_due"
"""The first feature that is the environment's own."""


class Script(NamedTuple):
    """What the days bring, one row an hour, and one more for the end of each day."""

    hours: FloatArray  # [D*H,.] what the kernel's `Work` holds: hour [5,N], prices [6], position [N]; zeros to the end
    seen: npt.NDArray[np.float32]  # [D*(H+1),X] the first X numbers of the observation
    due: FloatArray  # [D*(H+1),.] what `shiftable_due` would be without a backlog [N], 1 / h left in the day, zeros


class Sight(NamedTuple):
    """How the environment's own state is seen: times these factors, the state of charge above its lowest."""

    soc_min_kwh: FloatArray  # [N]
    per_soc_kwh: FloatArray  # [N]
    per_backlog_kwh: FloatArray  # [N]
    per_connection_kw: FloatArray  # [N]
    per_shiftable_kw: FloatArray  # [N]
    per_community_kw: float
    per_day_left: float


def real_time_table(covariates: tuple[str, ...]) -> tuple[Feature, ...]:
    """The table without the forecasts of weather that a data set does not have."""
    return tuple(f for f in TABLE if f.name not in _FORECASTS or _FORECASTS[f.name] in covariates)


def real_time_layout(dataset: Dataset, community: Community) -> Layout:
    """Where each feature stands, for these prosumers, hours and covariates."""
    fleet = community.fleet
    connection_kw, ones = divisor(fleet.connection_limit_kw), np.ones(1)
    scales = {
        "price_da": PRICE_SCALE_CT_PER_KWH,
        "price_rt": PRICE_SCALE_CT_PER_KWH,
        "load": connection_kw,
        "pv": connection_kw,
        "shiftable_ref": divisor(fleet.shiftable_power_kw),
        "position": divisor(fleet.position_limit_kw),
        **_WEATHER_SCALES,
        "connection_peak": connection_kw,
        "community_peak": connection_kw.sum(),
    }
    table = real_time_table(dataset.covariates)
    sizes = sizes_of(community.num_prosumers, community.hours_per_day)
    return make_layout(table, sizes, {f.name: scales.get(f.name, ones) for f in table})


def make_script(dataset: Dataset, community: Community, world: World, layout: Layout) -> Script:
    """All rows, the positions still zero."""
    num_days, num_hours, num_prosumers = dataset.load_kw.shape
    fleet, num_seen = community.fleet, layout.slices[_OWN].start
    seen = np.zeros((num_days, num_hours + 1, num_seen), np.float32)
    connection_kw = divisor(fleet.connection_limit_kw)
    angle = 2.0 * np.pi * np.arange(num_hours + 1) / num_hours
    seen[:, :, layout.slices["time_of_day"]] = np.stack((np.sin(angle), np.cos(angle)), axis=1)
    seen[:, :, layout.slices["weekend"]] = dataset.weekend[:, np.newaxis, np.newaxis]
    hourly = {
        "price_rt": dataset.price_rt_ct_per_kwh[..., np.newaxis] / PRICE_SCALE_CT_PER_KWH,
        "passive": dataset.passive_pu[..., np.newaxis],
        "load": dataset.load_kw / connection_kw,
        "pv": dataset.pv_kw / connection_kw,
        "shiftable_ref": dataset.shiftable_ref_kw / divisor(fleet.shiftable_power_kw),
    }
    for name, values in hourly.items():
        seen[:, :num_hours, layout.slices[name]] = values
    coming = {"price_da": dataset.price_da_ct_per_kwh / PRICE_SCALE_CT_PER_KWH}
    for feature in real_time_table(dataset.covariates):
        if feature.name in _FORECASTS:
            forecast = dataset.weather_forecast[..., dataset.covariates.index(_FORECASTS[feature.name])].mean(axis=2)
            coming[feature.name] = (forecast - feature.offset) / _WEATHER_SCALES[feature.name]
    for name, values in coming.items():
        place = layout.slices[name]
        padded_values = np.pad(values, ((0, 0), (0, num_hours)))
        seen[:, :, place] = sliding_window_view(padded_values, place.stop - place.start, axis=1)[:, : num_hours + 1]
    no_position_kw = np.zeros((num_days * num_hours, num_prosumers))
    hours = np.concatenate((world.hours.reshape(len(no_position_kw), -1), world.prices, no_position_kw), axis=1)
    return Script(padded(hours), seen.reshape(-1, num_seen), padded(_due(dataset, community)))


def positions_of(script: Script, community: Community) -> FloatArray:
    """The positions in a script [D,H,N]; to write into them is to write into the script."""
    num, hours = community.num_prosumers, community.hours_per_day
    first = 5 * num + 6
    return script.hours.reshape(-1, hours, script.hours.shape[1])[:, :, first : first + num]


def write_positions(
    script: Script, community: Community, layout: Layout, rows: IntArray, position_kw: FloatArray
) -> None:
    """The positions `[.,N,H]` of some rows, in the observation too."""
    num_hours = community.hours_per_day
    by_hour = np.swapaxes(position_kw, 1, 2)
    positions_of(script, community)[rows] = by_hour
    seen = script.seen.reshape(-1, num_hours + 1, script.seen.shape[1])
    seen[rows, :num_hours, layout.slices["position"]] = by_hour / divisor(community.fleet.position_limit_kw)


def make_sight(community: Community, days_per_episode: int) -> Sight:
    """The factors by which the state is seen."""
    fleet = community.fleet
    largest_kwh = np.maximum(-fleet.backlog_min_kwh, fleet.backlog_max_kwh)
    connection_kw = divisor(fleet.connection_limit_kw)
    return Sight(
        soc_min_kwh=np.array(fleet.soc_min_kwh),
        per_soc_kwh=1.0 / divisor(fleet.soc_max_kwh - fleet.soc_min_kwh),
        per_backlog_kwh=1.0 / divisor(largest_kwh),
        per_connection_kw=1.0 / connection_kw,
        per_shiftable_kw=1.0 / divisor(fleet.shiftable_power_kw),
        per_community_kw=1.0 / float(connection_kw.sum()),
        per_day_left=1.0 / days_per_episode,
    )


def _due(dataset: Dataset, community: Community) -> FloatArray:
    """The table `Script.due`, without its spare columns."""
    num_days, num_hours, num_prosumers = dataset.load_kw.shape
    left_h = community.dt_h * np.arange(num_hours, -1, -1)
    per_hour_left = np.divide(1.0, left_h, out=np.zeros(left_h.shape), where=left_h > 0.0)
    due = np.zeros((num_days, num_hours + 1, num_prosumers + 1))
    due_kwh = community.dt_h * dataset.shiftable_ref_kw[:, ::-1].cumsum(axis=1)[:, ::-1]
    due[:, :num_hours, :-1] = due_kwh / divisor(community.fleet.shiftable_power_kw)
    due[:, :, :-1] *= per_hour_left[:, np.newaxis]
    due[:, :, -1] = per_hour_left
    return due.reshape(-1, num_prosumers + 1)
