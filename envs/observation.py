"""What a policy sees: one table, from which the spaces, the arrays and the documentation are made.

Axis letters: B lanes (communities played side by side), N prosumers, H hours of a day, P past days (`LEAD_IN_DAYS`),
F weather covariates, D days (rows) of the data set. Everything is float64.

The column `moment` is the information gate: it says when a figure becomes known, and the builder has no other way to
fill an array.

    state    the environment's own: written after every step
    past     complete days before the one that is played, the last row being yesterday: written at the gate
    day      published before the gate, for the whole coming day: written at the gate
    hour     revealed hour by hour: zeros at the gate, then hour after hour up to the one about to be played
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from prosumer_gym.arrays import BoolArray, FloatArray, IntArray, frozen
from prosumer_gym.community import Community
from prosumer_gym.compiled import compiled
from prosumer_gym.datasets.schema import BOUNDS, LEAD_IN_DAYS, Dataset, covariate_bounds
from prosumer_gym.errors import UsageError
from prosumer_gym.sizes import FLEET_BOUNDS, MAX_ENERGY_KWH, MAX_POWER_KW, MAX_PROSUMERS

Observation = dict[str, FloatArray]
"""Named arrays, of a single environment or with a leading axis B."""

# A connection imports at most its load, its shiftable load and its charging battery, each below MAX_POWER_KW.
MAX_CONNECTION_KW = 3 * MAX_POWER_KW


@dataclass(frozen=True)
class Quantity:
    """One entry of the observation."""

    name: str
    axes: str
    """Axis letters of the single environment's array, without commas; "" for one number, of shape (1,)."""
    unit: str
    low: float
    high: float | Literal["H"]
    """Bounds are constants, never read off data; "H" is the number of hours of a day. NaN for weather covariates:
    each has its own, those of the data schema."""
    moment: Literal["state", "past", "day", "hour"]
    source: str
    """Field of the data set it is read from; "" for the environment's own."""
    description: str


def _row(
    name: str, axes: str, unit: str, bounds: tuple[float, float | Literal["H"]], moment: str, source: str, text: str
) -> Quantity:
    return Quantity(name, axes, unit, bounds[0], bounds[1], moment, source, text)  # type: ignore[arg-type]


_LOAD, _PV, _REF = BOUNDS["load_kw"], BOUNDS["pv_kw"], BOUNDS["shiftable_ref_kw"]
_DA, _RT, _PASSIVE = BOUNDS["price_da_ct_per_kwh"], BOUNDS["price_rt_ct_per_kwh"], BOUNDS["passive_pu"]
_WEATHER = (float("nan"), float("nan"))
_PRICE = "ct/kWh"

TABLE: tuple[Quantity, ...] = (
    _row("stage", "", "-", (0, 1), "state", "", "0 at the day-ahead step, 1 at a real-time step"),
    _row("hour", "", "-", (0, "H"), "state", "",
         "hour that is about to be played; 0 at the day-ahead step, H once the episode is over"),
    _row("days_left", "", "d", (0, 1e4), "state", "", "full days of the episode after the present one"),
    _row("day_of_year", "", "-", (1, 366), "day", "day_of_year", "1 January = 1"),
    _row("weekday", "", "-", (0, 6), "day", "weekday", "Monday = 0"),
    _row("weekend", "", "-", (0, 1), "day", "weekend", "1 on a weekend day of the place where the data is from"),
    _row("price_da_ct_per_kwh", "H", _PRICE, _DA, "day", "price_da_ct_per_kwh",
         "raw day-ahead price of the day (the tariff makes buying and selling prices of it)"),
    _row("shiftable_ref_kw", "HN", "kW", _REF, "day", "shiftable_ref_kw",
         "when the shiftable load would run if left alone; its daily energy has to be delivered"),
    _row("weather_forecast", "HNF", "by covariate", _WEATHER, "day", "weather_forecast",
         "forecast of the day issued at noon of the day before, each prosumer's own"),
    _row("observed", "H", "-", (0, 1), "state", "", "1 for the hours of the day that are revealed below"),
    _row("load_kw", "HN", "kW", _LOAD, "hour", "load_kw", "must-run load of the day"),
    _row("pv_kw", "HN", "kW", _PV, "hour", "pv_kw", "available PV power of the day"),
    _row("price_rt_ct_per_kwh", "H", _PRICE, _RT, "hour", "price_rt_ct_per_kwh", "raw real-time price of the day"),
    _row("passive_pu", "H", "p.u.", _PASSIVE, "hour", "passive_pu",
         "load of the rest of the feeder, multiple of its nominal load"),
    _row("weather", "HF", "by covariate", _WEATHER, "hour", "weather", "realised weather of the day"),
    _row("past_load_kw", "PHN", "kW", _LOAD, "past", "load_kw", "must-run load of the past days"),
    _row("past_pv_kw", "PHN", "kW", _PV, "past", "pv_kw", "available PV power of the past days"),
    _row("past_price_da_ct_per_kwh", "PH", _PRICE, _DA, "past", "price_da_ct_per_kwh", "their raw day-ahead prices"),
    _row("past_price_rt_ct_per_kwh", "PH", _PRICE, _RT, "past", "price_rt_ct_per_kwh", "their raw real-time prices"),
    _row("past_passive_pu", "PH", "p.u.", _PASSIVE, "past", "passive_pu", "load of the rest of the feeder on them"),
    _row("past_weather", "PHF", "by covariate", _WEATHER, "past", "weather", "their realised weather"),
    _row("position_kw", "NH", "kW", (-MAX_POWER_KW, MAX_POWER_KW), "state", "",
         "day-ahead position of the day, + = bought; zeros at the day-ahead step"),
    _row("soc_kwh", "N", "kWh", (0, MAX_ENERGY_KWH), "state", "", "state of charge of the batteries"),
    _row("backlog_kwh", "N", "kWh", (-MAX_ENERGY_KWH, MAX_ENERGY_KWH), "state", "",
         "shiftable energy delivered ahead of (+) or behind (-) its reference today"),
    _row("connection_peak_kw", "N", "kW", (0, MAX_CONNECTION_KW), "state", "",
         "highest import of each connection today, on which the demand charge is paid"),
    _row("community_peak_kw", "", "kW", (0, MAX_CONNECTION_KW * MAX_PROSUMERS), "state", "",
         "highest import of all prosumers together today, which the reward's peak term uses"),
)  # fmt: skip
"""The observation, in the order in which it is documented."""


def axis_sizes(dataset: Dataset) -> dict[str, int]:
    """Size of each axis letter of the table."""
    return {
        "P": LEAD_IN_DAYS,
        "H": dataset.num_hours,
        "N": dataset.num_prosumers,
        "F": len(dataset.covariates),
    }


def observation_space(dataset: Dataset) -> spaces.Dict:
    """The space of a single environment's observation: shapes from the data set's sizes, bounds from constants."""
    return spaces.Dict([(quantity.name, box_of(quantity, dataset)) for quantity in TABLE])


def box_of(quantity: Quantity, dataset: Dataset) -> spaces.Box:
    """The space of one entry of the observation, or of a row of it if its axes say so."""
    sizes = axis_sizes(dataset)
    shape = tuple(sizes[axis] for axis in quantity.axes) or (1,)
    low: Any = quantity.low
    high: Any = float(sizes["H"]) if quantity.high == "H" else quantity.high
    if np.isnan(low):
        low, high = np.array([covariate_bounds(name) for name in dataset.covariates]).T
    return spaces.Box(
        np.broadcast_to(np.asarray(low, dtype=np.float64), shape),
        np.broadcast_to(np.asarray(high, dtype=np.float64), shape),
        dtype=np.float64,
    )


def check_fit(dataset: Dataset, community: Community) -> None:
    """Check that days and community belong together and that all they can lead to lies inside the observation's bounds.

    Raises:
        UsageError: naming the field.
    """
    if dataset.num_prosumers != community.num_prosumers:
        raise UsageError(
            f"data set {dataset.id} has {dataset.num_prosumers} prosumers, community {community.name} has "
            f"{community.num_prosumers}; use a data set and a scenario that belong together"
        )
    if dataset.num_hours != community.hours_per_day:
        raise UsageError(
            f"data set {dataset.id} has {dataset.num_hours} steps a day, community {community.name} has "
            f"{community.hours_per_day}; use community.replace(hours_per_day={dataset.num_hours})"
        )
    fleet = community.fleet
    for name, bound in FLEET_BOUNDS.items():
        values = getattr(fleet, name)
        worst = int(np.argmax(values * np.sign(bound)))
        if abs(values[worst]) > abs(bound):
            raise UsageError(
                f"fleet.{name}: prosumer {worst}: {values[worst]:g} is beyond the observation's bound of "
                f"{abs(bound):g}; is it in W or Wh?"
            )
    if community.num_prosumers > MAX_PROSUMERS:
        raise UsageError(
            f"community {community.name}: {community.num_prosumers} prosumers, the environment takes at most "
            f"{MAX_PROSUMERS}; split the community"
        )


class ObservationBuilder:
    """Writes the observations of B lanes, each array with a leading B axis.

    The arrays of `arrays` are written in place: only what a step changes is touched, so the eight past days are copied
    once a day. Whoever hands them to a user copies them.
    """

    def __init__(self, dataset: Dataset, num_lanes: int) -> None:
        sizes = axis_sizes(dataset)
        self._dataset = dataset
        self.arrays: Observation = {
            quantity.name: np.zeros((num_lanes, *(tuple(sizes[axis] for axis in quantity.axes) or (1,))))
            for quantity in TABLE
        }
        self._bind()

    def _bind(self) -> None:
        """What the kernels read, one row a day, and where they write it: flat views of the data and of the arrays."""
        data, lanes = self._dataset, len(self.arrays["stage"])
        self.first: Observation = {name: values[0] for name, values in self.arrays.items()}
        """`arrays` of the first lane, without the axis B: the same memory."""
        at_gate = [quantity for quantity in TABLE if quantity.moment in ("past", "day")]
        hourly = [quantity for quantity in TABLE if quantity.moment == "hour"]
        rows = {q.source: _as_float(getattr(data, q.source)).reshape(data.num_days, -1) for q in at_gate + hourly}
        self._days_back = np.array([LEAD_IN_DAYS if q.moment == "past" else 0 for q in at_gate])
        self._gate_sources = tuple(rows[q.source] for q in at_gate)
        self._gate_targets = tuple(self.arrays[q.name].reshape(lanes, -1) for q in at_gate)
        self._hour_sources = tuple(rows[q.source].reshape(data.num_days, data.num_hours, -1) for q in hourly)
        self._hour_targets = tuple(self.arrays[q.name].reshape(lanes, data.num_hours, -1) for q in hourly)

    def __getstate__(self) -> dict[str, Any]:
        return {"_dataset": self._dataset, "arrays": self.arrays}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    def copy_of_first(self) -> Observation:
        """The observation of the first lane, in arrays of its own without the axis B."""
        return {name: values.copy() for name, values in self.first.items()}

    def open_day(self, lanes: BoolArray, day: IntArray) -> None:
        """The day-ahead step of row `day` [B] in the lanes of the mask [B]: past days and what is published."""
        _open_day(
            lanes, day, self._days_back, self._gate_sources, self._gate_targets, self._hour_targets,
            self.arrays["observed"], self.arrays["position_kw"],
        )  # fmt: skip

    def reveal_hour(self, lanes: BoolArray, at_gate: BoolArray, day: IntArray, hour: IntArray) -> None:
        """Hour `hour` [B] of row `day` [B], in the lanes of the mask [B] that are inside a day."""
        _reveal_hour(lanes, at_gate, day, hour, self._hour_sources, self._hour_targets, self.arrays["observed"])

    def commit(self, lanes: BoolArray, position_kw: FloatArray) -> None:
        """The day-ahead position [N,H,B] that was accepted, in the lanes of the mask [B]."""
        _commit(lanes, position_kw, self.arrays["position_kw"])

    def write_state(
        self,
        at_gate: BoolArray,
        hour: IntArray,
        days_left: IntArray,
        soc_kwh: FloatArray,
        backlog_kwh: FloatArray,
        connection_peak_kw: FloatArray,
        community_peak_kw: FloatArray,
    ) -> None:
        """The state of every lane: at_gate, hour, days left and community peak [B], the rest [N,B]."""
        arrays = self.arrays
        _write_state(
            at_gate, hour, days_left, soc_kwh, backlog_kwh, connection_peak_kw, community_peak_kw,
            arrays["stage"], arrays["hour"], arrays["days_left"], arrays["soc_kwh"], arrays["backlog_kwh"],
            arrays["connection_peak_kw"], arrays["community_peak_kw"],
        )  # fmt: skip


def _as_float(values: Any) -> FloatArray:
    return values if values.dtype == np.float64 else frozen(values)


@compiled
def _open_day(
    lanes: BoolArray,
    day: IntArray,
    days_back: IntArray,
    sources: tuple[FloatArray, ...],
    targets: tuple[FloatArray, ...],
    hourly: tuple[FloatArray, ...],
    observed: FloatArray,
    position_kw: FloatArray,
) -> None:
    for lane in range(lanes.shape[0]):
        if not lanes[lane]:
            continue
        for k in range(len(sources)):
            source, target = sources[k], targets[k]
            size = source.shape[1]
            first = day[lane] - days_back[k]
            for row in range(max(days_back[k], 1)):
                for i in range(size):
                    target[lane, row * size + i] = source[first + row, i]
        for k in range(len(hourly)):
            hourly[k][lane, :, :] = 0.0
        observed[lane, :] = 0.0
        position_kw[lane, :, :] = 0.0


@compiled
def _reveal_hour(
    lanes: BoolArray,
    at_gate: BoolArray,
    day: IntArray,
    hour: IntArray,
    sources: tuple[FloatArray, ...],
    targets: tuple[FloatArray, ...],
    observed: FloatArray,
) -> None:
    for lane in range(lanes.shape[0]):
        if not lanes[lane] or at_gate[lane] or hour[lane] >= observed.shape[1]:
            continue
        for k in range(len(sources)):
            source, target = sources[k], targets[k]
            for i in range(source.shape[2]):
                target[lane, hour[lane], i] = source[day[lane], hour[lane], i]
        observed[lane, hour[lane]] = 1.0


@compiled
def _commit(lanes: BoolArray, position_kw: FloatArray, target: FloatArray) -> None:
    for lane in range(lanes.shape[0]):
        if lanes[lane]:
            for n in range(target.shape[1]):
                for h in range(target.shape[2]):
                    target[lane, n, h] = position_kw[n, h, lane]


@compiled
def _write_state(
    at_gate: BoolArray,
    hour: IntArray,
    days_left: IntArray,
    soc_kwh: FloatArray,
    backlog_kwh: FloatArray,
    connection_kw: FloatArray,
    community_kw: FloatArray,
    to_stage: FloatArray,
    to_hour: FloatArray,
    to_days_left: FloatArray,
    to_soc_kwh: FloatArray,
    to_backlog_kwh: FloatArray,
    to_connection_kw: FloatArray,
    to_community_kw: FloatArray,
) -> None:
    for lane in range(at_gate.shape[0]):
        to_stage[lane, 0] = 0.0 if at_gate[lane] else 1.0
        to_hour[lane, 0] = hour[lane]
        to_days_left[lane, 0] = days_left[lane]
        to_community_kw[lane, 0] = community_kw[lane]
        for n in range(soc_kwh.shape[0]):
            to_soc_kwh[lane, n] = soc_kwh[n, lane]
            to_backlog_kwh[lane, n] = backlog_kwh[n, lane]
            to_connection_kw[lane, n] = connection_kw[n, lane]
