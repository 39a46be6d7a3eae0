"""A whole step of a real-time environment in one pass over its lanes, so that a block of them stays in the cache.

What is wanted and what comes of it is kept for one block; of it only the reward, its terms and a few figures per lane
go out, and the next observation is written while the block's state is at hand.

Axis letters: B lanes, N prosumers, H hours of a day, R reward terms, T cost terms, W = LANES lanes of a block. Actions
and observations lead with B, the rest is lanes-last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from prosumer_gym import tables as at
from prosumer_gym.arrays import BoolArray, FloatArray, IntArray
from prosumer_gym.clearing import trade_residuals
from prosumer_gym.community import Community
from prosumer_gym.envs.real_time_observation import Script, Sight
from prosumer_gym.envs.reward import REWARD_TERMS
from prosumer_gym.hour import feed, move_on, settle, use_equipment
from prosumer_gym.lanes import LANES, aligned, inlined, lean, load, magnitude, spread, store
from prosumer_gym.lanes_order import exceeds, greater, lesser, load3
from prosumer_gym.lanes_transpose import COLUMNS, padded_columns, to_lanes, to_rows
from prosumer_gym.market import COST_TERMS
from prosumer_gym.tables import (
    Lanes,
    Results,
    Wanted,
    Work,
    World,
    make_lanes,
    make_wanted,
    make_work,
    width_of,
)

Float32Array = npt.NDArray[np.float32]

NUM_COSTS, NUM_TERMS = len(COST_TERMS), len(REWARD_TERMS)
# First axis of `Told.figures` after the reward's terms, and of `Told.counts` and `Told.flags`.
REWARD, COMMUNITY_COST, EXCHANGE, PEAK_INCREASE, VOLTAGE_EXCESS, LOSSES = range(NUM_TERMS, NUM_TERMS + 6)
DAY, HOUR, OUT_OF_RANGE, CLIPPED, VIOLATED_BUSES = range(5)
CONVERGED, DONE = range(2)


class Scales(NamedTuple):
    """kW that an action of 1 stands for, and the prices of the reward."""

    battery_kw: FloatArray  # [N]
    shiftable_kw: FloatArray  # [N]
    voltage_ct_per_pu: float
    peak_ct_per_kw: float


class Desk(NamedTuple):
    """Working memory of one thread."""

    rows: IntArray  # [W] of a table, one for each lane
    brought: FloatArray  # [.,W] what the hour brings, as in `Script.hours`
    action: FloatArray  # [3N,W]
    state: FloatArray  # [4N+2,W] as it is seen, and room to turn a row of `Script.due`
    wanted: Wanted
    results: Results
    work: Work


class Told(NamedTuple):
    """What is told about a step: new arrays every time, where they are handed out."""

    figures: FloatArray  # [R+6,B]
    counts: IntArray  # [5,B]
    flags: BoolArray  # [2,B]
    observations: Float32Array  # [B,.] in whole blocks


def make_desk(community: Community, results: Results) -> Desk:
    """Room for one thread; `results` has room for one block or for all lanes, and so has what is wanted."""
    num = community.num_prosumers
    brought, work = aligned(padded_columns(6 * num + 6)), make_work(community)
    hour, prices, position_kw = brought[: 5 * num], brought[5 * num : 5 * num + 6], brought[5 * num + 6 : 6 * num + 6]
    return Desk(
        rows=np.zeros(LANES, np.int64),
        brought=brought,
        action=aligned(3 * num),
        state=aligned(max(4 * num + 2, padded_columns(num + 1))),
        wanted=make_wanted(community, results.flags.shape[1]),
        results=results,
        work=work._replace(hour=hour.reshape(work.hour.shape), prices=prices, position_kw=position_kw),
    )


def make_lanes_without_positions(community: Community, num_lanes: int) -> Lanes:
    """Lanes whose episodes are over; the positions are in the script."""
    lanes = make_lanes(community, num_lanes)
    return lanes._replace(position_kw=np.zeros((community.num_prosumers, 0, lanes.at_gate.size)))


def make_told(num_lanes: int, observations: Float32Array) -> Told:
    """Room for what is told about one step."""
    width = width_of(num_lanes)
    return Told(
        figures=np.empty((LOSSES + 1, width)),
        counts=np.empty((5, width), np.int64),
        flags=np.empty((2, width), np.bool_),
        observations=observations,
    )


@lean
def play_hour(
    world: World,
    lanes: Lanes,
    script: Script,
    sight: Sight,
    scales: Scales,
    desk: Desk,
    actions: Float32Array,
    told: Told,
    first: int,
    last: int,
    keep: bool,
) -> int:
    """Play one hour of the blocks from the first to before the last.

    Lanes whose episode is over keep their state. `keep` keeps the results of all lanes, for which the desk has room
    then. Returns the place of a NaN among the actions of lanes that are played, and then nothing has changed, or -1.
    """
    nan: int = _find_nan(lanes, actions, world.num_hours)
    if nan >= 0:
        return nan
    wanted, results, work = desk.wanted, desk.results, desk.work
    for block in range(first, last):
        b = block * LANES
        c = b if keep else 0
        _look_up(lanes, script, desk, world.num_hours, b)
        _want(scales, desk, actions, told, b, c)
        use_equipment(world, lanes, wanted, results, work, b, c)
        trade_residuals(world, results, work, c)
        feed(world, results, work, c)
        settle(world, lanes, results, work, b, c)
        _tell_place(lanes, work, told, b)
        move_on(world, lanes, results, work, b, c)
        _tell(scales, results, told, b, c)
        _show(script, sight, lanes, desk, told.observations, world.num_hours, b)
    return -1


@lean
def begin_episodes(
    world: World,
    lanes: Lanes,
    script: Script,
    sight: Sight,
    desk: Desk,
    mask: BoolArray,
    row: IntArray,
    days_left: int,
    observations: Float32Array,
) -> None:
    """The lanes of the mask [B] begin an episode on their row [B]; the observations of all lanes are written."""
    counts, now, peak_kw, fleet = lanes.counts, lanes.by_prosumer, lanes.community_peak_kw, world.fleet
    for lane in range(mask.shape[0]):
        if mask[lane]:
            counts[at.DAY, lane] = row[lane]
            counts[at.HOUR, lane] = 0
            counts[at.DAYS_LEFT, lane] = days_left
            peak_kw[0, lane] = 0.0
            for n in range(now.shape[1]):
                now[at.NOW_SOC, n, lane] = fleet[at.SOC_INITIAL, n]
                now[at.NOW_BACKLOG, n, lane] = 0.0
                now[at.NOW_PEAK, n, lane] = 0.0
    for b in range(0, mask.shape[0], LANES):
        _show(script, sight, lanes, desk, observations, world.num_hours, b)


@lean
def _find_nan(lanes: Lanes, actions: Float32Array, num_hours: int) -> int:
    """The place of the first NaN in the flat actions of lanes inside a day, or -1."""
    num_lanes, num = actions.shape
    found = False
    for lane in range(num_lanes):
        for i in range(num):
            found |= actions[lane, i] != actions[lane, i]
    if found:
        for lane in range(num_lanes):
            for i in range(num):
                if actions[lane, i] != actions[lane, i] and lanes.counts[at.HOUR, lane] < num_hours:
                    place: int = lane * num + i
                    return place
    return -1


@inlined
def _look_up(lanes: Lanes, script: Script, desk: Desk, num_hours: int, b: int) -> None:
    """What this hour brings to each lane, as `hour.look_up` finds it; the position is the script's."""
    counts, hours, rows, by_lane, brought = lanes.counts, script.hours, desk.rows, desk.work.by_lane, desk.brought
    for j in range(LANES):
        hour = counts[at.HOUR, b + j]
        by_lane[at.IS_PLAYED, j] = 0.0 if hour >= num_hours else 1.0
        rows[j] = counts[at.DAY, b + j] * num_hours + min(hour, num_hours - 1)
    for column in range(0, hours.shape[1], COLUMNS):
        to_lanes(hours, rows, column, brought, column)


@inlined
def _want(scales: Scales, desk: Desk, actions: Float32Array, told: Told, b: int, c: int) -> None:
    """The actions in kW, by the public scales; what lies beyond [-1, 1] is clipped and counted."""
    num_lanes, num = actions.shape
    N, action, rows, hour = num // 3, desk.action, desk.rows, desk.work.hour
    battery_kw, shiftable_kw, curtail_kw = desk.wanted.battery_kw, desk.wanted.shiftable_kw, desk.wanted.curtail_kw
    whole = num - num % COLUMNS
    for j in range(LANES):
        lane = min(b + j, num_lanes - 1)
        rows[j] = lane
        for i in range(whole, num):
            action[i, j] = actions[lane, i]
    for column in range(0, whole, COLUMNS):
        to_lanes(actions, rows, column, action, column)
    one, half, zero = spread(1.0), spread(0.5), spread(0.0)
    beyond = zero
    for n in range(N):
        battery, shiftable, curtail = load(action, n, 0), load(action, N + n, 0), load(action, 2 * N + n, 0)
        beyond = beyond + exceeds(magnitude(battery), one) + exceeds(magnitude(shiftable), one)
        beyond = beyond + exceeds(magnitude(curtail), one)
        battery = greater(lesser(battery, one), -one)
        shiftable = half + half * greater(lesser(shiftable, one), -one)
        curtail = greater(lesser(curtail, one), zero)
        store(battery_kw, n, c, battery * spread(scales.battery_kw[n]))
        store(shiftable_kw, n, c, shiftable * spread(scales.shiftable_kw[n]))
        store(curtail_kw, n, c, curtail * load3(hour, at.PV, n, 0))
    store(action, 0, 0, beyond)
    for j in range(LANES):
        told.counts[OUT_OF_RANGE, b + j] = int(action[0, j])


@inlined
def _tell_place(lanes: Lanes, work: Work, told: Told, b: int) -> None:
    """Day and hour that each lane plays, hour -1 where it does not."""
    for j in range(LANES):
        told.counts[DAY, b + j] = lanes.counts[at.DAY, b + j]
        told.counts[HOUR, b + j] = lanes.counts[at.HOUR, b + j] if work.by_lane[at.IS_PLAYED, j] > 0.0 else -1


@inlined
def _tell(scales: Scales, results: Results, told: Told, b: int, c: int) -> None:
    """Reward, its terms and the figures of each lane; sums are those of `reward.reward_terms`, in the same order."""
    figures, cost_ct, by_lane, zero = told.figures, results.cost_ct, results.by_lane, spread(0.0)
    total = zero
    for t in range(NUM_COSTS):
        cost = zero
        for n in range(cost_ct.shape[1]):
            cost = cost + load3(cost_ct, t, n, c)
        store(figures, t, b, zero - cost)
        total = total + (zero - cost)
    voltage = zero - spread(scales.voltage_ct_per_pu) * load(by_lane, at.VOLTAGE_EXCESS, c)
    peak = zero - spread(scales.peak_ct_per_kw) * load(by_lane, at.PEAK_INCREASE, c)
    store(figures, NUM_COSTS, b, voltage)
    store(figures, NUM_COSTS + 1, b, peak)
    store(figures, REWARD, b, total + voltage + peak)
    store(figures, COMMUNITY_COST, b, load(by_lane, at.COMMUNITY_COST, c))
    store(figures, EXCHANGE, b, load(by_lane, at.EXCHANGE, c))
    store(figures, PEAK_INCREASE, b, load(by_lane, at.PEAK_INCREASE, c))
    store(figures, VOLTAGE_EXCESS, b, load(by_lane, at.VOLTAGE_EXCESS, c))
    store(figures, LOSSES, b, load(by_lane, at.LOSSES, c))
    for j in range(LANES):
        told.counts[CLIPPED, b + j] = results.counts[at.CLIPPED, c + j]
        told.counts[VIOLATED_BUSES, b + j] = results.counts[at.VIOLATED_BUSES, c + j]
        told.flags[CONVERGED, b + j] = results.flags[at.CONVERGED, c + j]
        told.flags[DONE, b + j] = results.flags[at.DONE, c + j]


@inlined
def _show(
    script: Script, sight: Sight, lanes: Lanes, desk: Desk, observations: Float32Array, num_hours: int, b: int
) -> None:
    """The observation of each lane. Midnight leads straight into the next day: no lane waits at a gate."""
    seen, due, now, counts, state, rows = (
        script.seen,
        script.due,
        lanes.by_prosumer,
        lanes.counts,
        desk.state,
        desk.rows,
    )
    N, first = now.shape[1], seen.shape[1]
    for j in range(LANES):
        row = counts[at.DAY, b + j] * (num_hours + 1) + counts[at.HOUR, b + j]
        rows[j] = row
        for i in range(first):
            observations[b + j, i] = seen[row, i]
    for column in range(0, due.shape[1], COLUMNS):
        to_lanes(due, rows, column, state, column)
    per_hour_left, zero, one = load(state, N, 0), spread(0.0), spread(1.0)
    for n in range(N):
        soc_kwh, backlog_kwh = load3(now, at.NOW_SOC, n, b), load3(now, at.NOW_BACKLOG, n, b)
        left = load(state, n, 0) - backlog_kwh * spread(sight.per_shiftable_kw[n]) * per_hour_left
        store(state, n, 0, greater(lesser(left, one), zero))
        store(state, N + n, 0, (soc_kwh - spread(sight.soc_min_kwh[n])) * spread(sight.per_soc_kwh[n]))
        store(state, 2 * N + n, 0, backlog_kwh * spread(sight.per_backlog_kwh[n]))
        store(state, 3 * N + n, 0, load3(now, at.NOW_PEAK, n, b) * spread(sight.per_connection_kw[n]))
    store(state, 4 * N, 0, load(lanes.community_peak_kw, 0, b) * spread(sight.per_community_kw))
    for j in range(LANES):
        state[4 * N + 1, j] = counts[at.DAYS_LEFT, b + j] * sight.per_day_left
    num = 4 * N + 2
    whole = num - num % COLUMNS
    for row in range(0, whole, COLUMNS):
        to_rows(state, row, observations, b, first + row)
    for j in range(LANES):
        for i in range(whole, num):
            observations[b + j, first + i] = state[i, j]
