"""How the simulator is driven, and that a lane owes nothing to its neighbours."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys
from plain_world import random_community, random_days, random_position, random_wants

from prosumer_gym.clearing import trade, trade_residuals
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.hour import commit, feed, look_up, move_on, play, settle, take, use_equipment
from prosumer_gym.lanes import LANES, lean
from prosumer_gym.mechanisms import MECHANISMS
from prosumer_gym.scenarios import make_scenario
from prosumer_gym.simulator import COST_TERMS, Simulator, State, StepResult, name_results
from prosumer_gym.tables import Lanes, Results, Wanted, Work, World, make_results, make_wanted

NUM_DAYS = 7
FIELDS = [item.name for item in dataclasses.fields(StepResult)]


@pytest.fixture(scope="module")
def community() -> Community:
    return make_scenario("ieee33")


@pytest.fixture(scope="module")
def exogenous(community: Community) -> Exogenous:
    return random_days(community, NUM_DAYS, 0)


def idle(community: Community, num_lanes: int) -> tuple[np.ndarray, ...]:
    zeros = np.zeros((community.num_prosumers, num_lanes))
    return zeros, zeros, zeros, np.zeros((2 * community.num_edges, num_lanes))


def no_position(community: Community, num_lanes: int) -> np.ndarray:
    return np.zeros((community.num_prosumers, community.hours_per_day, num_lanes))


def test_results_do_not_depend_on_batch_place_or_threads(community: Community, exogenous: Exogenous) -> None:
    """To the bit: 700 lanes one by one, in other batches, other orders and on more threads."""
    rng = np.random.default_rng(1)
    num_lanes, days = 700, rng.integers(0, NUM_DAYS - 1, 700)
    positions = [random_position(community, num_lanes, rng) for _ in range(2)]
    wants = [random_wants(community, num_lanes, rng) for _ in range(48)]

    def play(lanes: np.ndarray, threads: int = 1) -> list[StepResult]:
        simulator = Simulator(community, exogenous, lanes.size, threads=threads)
        simulator.reset(days[lanes], days_per_episode=2)
        results = []
        for hour in range(48):
            if hour % 24 == 0:
                simulator.commit(positions[hour // 24][:, :, lanes])
            results.append(simulator.step(*(want[:, lanes] for want in wants[hour])).copy())
        return results

    everyone = np.arange(num_lanes)
    together = play(everyone)
    shuffled = rng.permutation(num_lanes)
    trials = [(everyone, 2), (everyone, 3), (shuffled, 1), (everyone[:64], 1), (everyone[100:105], 1)]
    trials += [(everyone[n : n + 1], 1) for n in (0, 17, 333, 699)]
    for lanes, threads in trials:
        for one, other in zip(together, play(lanes, threads), strict=True):
            for name in FIELDS:
                np.testing.assert_array_equal(getattr(one, name)[..., lanes], getattr(other, name), err_msg=name)


def test_random_communities_batched_are_those_played_alone() -> None:
    for seed in range(8):
        community = random_community(seed)
        exogenous = random_days(community, 3, seed)
        rng = np.random.default_rng(seed)
        batch = Simulator(community, exogenous, 5)
        alone = [Simulator(community, exogenous, 1) for _ in range(5)]
        days = rng.integers(0, 3, 5)
        position = random_position(community, 5, rng)
        batch.reset(days)
        batch.commit(position)
        for lane, simulator in enumerate(alone):
            simulator.reset(days[lane : lane + 1])
            simulator.commit(position[:, :, [lane]])
        for _ in range(community.hours_per_day):
            wants = random_wants(community, 5, rng)
            result = batch.step(*wants)
            for lane, simulator in enumerate(alone):
                own = simulator.step(*(want[:, [lane]] for want in wants))
                for name in FIELDS:
                    np.testing.assert_array_equal(getattr(result, name)[..., [lane]], getattr(own, name))


@lean
def play_one_block(
    world: World, lanes: Lanes, wanted: Wanted, results: Results, work: Work, b: int, central: bool
) -> None:
    """An hour put together from its parts; what is wanted and the results are those of one block."""
    look_up(world, lanes, work, b)
    use_equipment(world, lanes, wanted, results, work, b, 0)
    if central:
        trade_residuals(world, results, work, 0)
    else:
        trade(world, wanted, results, work, 0)
    feed(world, results, work, 0)
    settle(world, lanes, results, work, b, 0)
    move_on(world, lanes, results, work, b, 0)


@pytest.mark.parametrize("central", [False, True])
def test_the_parts_of_an_hour_work_with_the_results_of_one_block(
    community: Community, exogenous: Exogenous, central: bool
) -> None:
    num_lanes, rng = 3 * LANES, np.random.default_rng(6)
    days, position = rng.integers(0, NUM_DAYS - 1, num_lanes), random_position(community, num_lanes, rng)
    whole, blocks = Simulator(community, exogenous, num_lanes), Simulator(community, exogenous, num_lanes)
    for simulator in (whole, blocks):
        simulator.reset(days, days_per_episode=2)
        simulator.reset(days, mask=np.arange(num_lanes) % 2 == 0)  # these are done when the others stand at a gate
        simulator.commit(position)
    wanted, results = make_wanted(community, LANES), make_results(community, LANES)
    for _ in range(24):
        wants = random_wants(community, num_lanes, rng)
        result = whole.step(*wants[:3], None if central else wants[3])
        for b in range(0, num_lanes, LANES):
            for part, given in zip(wanted, wants, strict=True):
                part[:, :LANES] = given[:, b : b + LANES]
            play_one_block(blocks._world, blocks._lanes, wanted, results, blocks._work[0], b, central)
            own = name_results(results, LANES)
            for name in FIELDS:
                np.testing.assert_array_equal(getattr(own, name), getattr(result, name)[..., b : b + LANES])
        for item in dataclasses.fields(State):
            np.testing.assert_array_equal(getattr(whole.state, item.name), getattr(blocks.state, item.name))


def test_lanes_march_at_their_own_pace(community: Community, exogenous: Exogenous) -> None:
    num_lanes = 20
    late = np.arange(num_lanes) % 3 == 0
    rng = np.random.default_rng(2)
    position = random_position(community, num_lanes, rng)
    wants = [random_wants(community, num_lanes, rng) for _ in range(24)]
    steady = Simulator(community, exogenous, num_lanes)
    steady.reset(3)
    steady.commit(position)
    expected = [steady.step(*want).copy() for want in wants]

    simulator = Simulator(community, exogenous, num_lanes)
    simulator.reset(3, mask=~late)
    simulator.commit(position)
    for hour in range(3):
        result = simulator.step(*wants[hour])
        np.testing.assert_array_equal(result.played, ~late)
    simulator.reset(3, mask=late)
    np.testing.assert_array_equal(simulator.state.at_gate, late)
    between = simulator.step(*wants[3]).copy()  # the late lanes stand at the gate
    np.testing.assert_array_equal(simulator.state.hour, np.where(late, 0, 4))
    simulator.commit(position)
    for name in FIELDS:
        values = getattr(between, name)
        assert np.all(values[..., late] == (name == "converged")), name
        np.testing.assert_array_equal(values[..., ~late], getattr(expected[3], name)[..., ~late])
    for hour in range(20):
        mixed = tuple(np.where(late, a, b) for a, b in zip(wants[hour], wants[hour + 4], strict=True))
        result = simulator.step(*mixed)
        for name in FIELDS:
            values = getattr(result, name)
            np.testing.assert_array_equal(values[..., late], getattr(expected[hour], name)[..., late])
            np.testing.assert_array_equal(values[..., ~late], getattr(expected[hour + 4], name)[..., ~late])
    assert (simulator.state.hour == np.where(late, 20, 24)).all()
    over = simulator.state.copy()
    result = simulator.step(*wants[20])  # the others have finished
    np.testing.assert_array_equal(result.played, late)
    np.testing.assert_array_equal(simulator.state.soc_kwh[:, ~late], over.soc_kwh[:, ~late])
    assert not result.done.any()


def test_an_episode_of_several_days(community: Community, exogenous: Exogenous) -> None:
    num_lanes = 3
    rng = np.random.default_rng(3)
    simulator, single = Simulator(community, exogenous, num_lanes), Simulator(community, exogenous, num_lanes)
    simulator.reset([1, 2, 3], days_per_episode=3)
    soc = simulator.state.soc_kwh.copy()
    for day in range(3):
        state = simulator.state
        np.testing.assert_array_equal(state.day, np.array([1, 2, 3]) + day)
        np.testing.assert_array_equal(state.days_left, 2 - day)
        assert state.at_gate.all()
        assert not state.position_kw.any()
        assert not state.connection_peak_kw.any()
        assert not state.community_peak_kw.any()
        assert not state.backlog_kwh.any()
        np.testing.assert_array_equal(state.soc_kwh, soc)
        position = random_position(community, num_lanes, rng)
        single.reset(state.day)
        single.state.soc_kwh[:] = soc
        simulator.commit(position)
        single.commit(position)
        for hour in range(24):
            assert (state.hour == hour).all()
            wants = random_wants(community, num_lanes, rng)
            result, alone = simulator.step(*wants), single.step(*wants)
            last = hour == 23
            assert (result.done == (last and day == 2)).all()
            assert alone.done.all() == last
            terminal = COST_TERMS.index("terminal_soc")
            assert result.cost_ct[terminal].any() == (last and day == 2)
            np.testing.assert_array_equal(result.cost_ct[:terminal], alone.cost_ct[:terminal])
        soc = result.soc_kwh.copy()
    assert (simulator.state.hour == 24).all()
    assert not simulator.state.at_gate.any()


def test_quarter_hours(exogenous: Exogenous) -> None:
    community = make_scenario("ieee33").replace(hours_per_day=96)
    simulator = Simulator(community, random_days(community, 2, 0), 4)
    simulator.reset(1)
    simulator.commit(no_position(community, 4))
    for _ in range(96):
        result = simulator.step(*random_wants(community, 4, np.random.default_rng(0)))
    assert result.done.all()
    assert (result.backlog_kwh == 0.0).all()
    with pytest.raises(UsageError, match="community ieee33 has 96 hours and 10 prosumers"):
        Simulator(community, exogenous, 1)


@pytest.mark.parametrize(("load_kw", "pv_kw"), [(0.0, 300.0), (250.0, 0.0)])
def test_voltages_above_and_below_their_band_are_counted(community: Community, load_kw: float, pv_kw: float) -> None:
    day, hour = np.zeros((1, 24, 10)), np.full((1, 24), 0.1)
    simulator = Simulator(community, Exogenous(day + load_kw, day + pv_kw, day, hour, hour, hour), 2)
    simulator.reset(0)
    simulator.commit(no_position(community, 2))
    result = simulator.step(*idle(community, 2))
    above = np.maximum(result.v_pu - 1.05, 0.0)
    below = np.maximum(0.95 - result.v_pu, 0.0)
    assert ((above > 0.0).sum() > 0) == (pv_kw > 0.0)
    assert ((below > 0.0).sum() > 0) == (load_kw > 0.0)
    np.testing.assert_allclose(result.voltage_excess_pu, (above + below).sum(axis=0), atol=1e-12)
    np.testing.assert_array_equal(result.violated_buses, ((above > 0.0) | (below > 0.0)).sum(axis=0))


def test_no_solution_is_flagged_penalised_and_finite(community: Community, exogenous: Exogenous) -> None:
    load_kw = np.array(exogenous.load_kw)
    load_kw[2, 5, 3] = 1e6
    broken = dataclasses.replace(exogenous, load_kw=load_kw)
    simulators = [Simulator(community, days, 3) for days in (exogenous, broken)]
    for hour in range(7):
        results = []
        for simulator in simulators:
            if hour == 0:
                simulator.reset([1, 2, 3])
                simulator.commit(no_position(community, 3))
            results.append(simulator.step(*idle(community, 3)))
        sound, result = results
        dark = np.array([False, hour == 5, False])
        np.testing.assert_array_equal(result.converged, ~dark)
        np.testing.assert_array_equal(result.violated_buses[dark], 32)
        np.testing.assert_allclose(result.voltage_excess_pu[dark], 32 * 0.95)
        for name in FIELDS:
            assert np.isfinite(getattr(result, name)).all(), name
            np.testing.assert_array_equal(getattr(result, name)[..., [0, 2]], getattr(sound, name)[..., [0, 2]])
    np.testing.assert_array_equal(sound.v_pu, result.v_pu)  # and it was forgotten


@pytest.mark.parametrize("field", ["battery_kw", "shiftable_kw", "curtail_kw", "offers"])
@pytest.mark.parametrize("num_lanes", [1, LANES, 50])
def test_nan_is_refused_by_name_before_anything_changes(
    community: Community, exogenous: Exogenous, field: str, num_lanes: int
) -> None:
    simulator = Simulator(community, exogenous, num_lanes)
    simulator.reset(0)
    position = no_position(community, num_lanes)
    position[4, 7, -1] = np.nan
    with pytest.raises(UsageError, match="commit: position_kw holds NaN"):
        simulator.commit(position)
    assert simulator.state.at_gate.all()
    assert not simulator.state.position_kw.any()
    simulator.commit(no_position(community, num_lanes))
    simulator.step(*idle(community, num_lanes))
    before = simulator.state.copy()
    wants = dict(zip(("battery_kw", "shiftable_kw", "curtail_kw", "offers"), idle(community, num_lanes), strict=True))
    wants[field] = wants[field].copy()
    wants[field][-1, -1] = np.nan
    with pytest.raises(UsageError, match=f"step: {field} holds NaN"):
        simulator.step(**wants)
    for item in dataclasses.fields(State):
        np.testing.assert_array_equal(getattr(simulator.state, item.name), getattr(before, item.name))


def test_nan_for_a_lane_that_does_not_commit_is_not_read(community: Community, exogenous: Exogenous) -> None:
    simulator = Simulator(community, exogenous, 2)
    simulator.reset(0, mask=np.array([True, False]))
    position = no_position(community, 2)
    position[:, :, 1] = np.nan
    position[0, 0, 0] = 60.0
    assert simulator.commit(position).tolist() == [1, 0]
    assert simulator.state.position_kw[0, 0].tolist() == [50.0, 0.0]


def test_misuse_is_named(community: Community, exogenous: Exogenous) -> None:
    simulator = Simulator(community, exogenous, 2)
    wants = idle(community, 2)
    with pytest.raises(UsageError, match="step: no lane is inside a day"):
        simulator.step(*wants)
    with pytest.raises(UsageError, match="commit: no lane stands at the gate"):
        simulator.commit(no_position(community, 2))
    simulator.reset(0)
    with pytest.raises(UsageError, match="step: no lane is inside a day; commit a position"):
        simulator.step(*wants)
    with pytest.raises(UsageError, match=r"position_kw: shape \(10, 24\), expected \(10, 24, 2\)"):
        simulator.commit(np.zeros((10, 24)))
    simulator.commit(no_position(community, 2))
    with pytest.raises(UsageError, match=r"offers: shape \(15, 2\), expected \(30, 2\)"):
        simulator.step(*wants[:3], np.zeros((15, 2)))
    with pytest.raises(UsageError, match=r"curtail_kw: shape \(10, 1\), expected \(10, 2\)"):
        simulator.step(wants[0], wants[1], np.zeros((10, 1)), wants[3])
    for bad in (7, -1, [0, 7]):
        with pytest.raises(UsageError, match=r"episodes of 1 days must start on rows 0 \.\.\. 6"):
            simulator.reset(bad)
    with pytest.raises(
        UsageError, match=r"episodes of 3 days must start on rows 0 \.\.\. 4 of the data, not 5 \.\.\. 5"
    ):
        simulator.reset(5, days_per_episode=3)
    for bad_days in ([0, 1, 2], 1.5, [0.0, 1.0]):
        with pytest.raises(UsageError, match="day must be one whole number or 2 of them"):
            simulator.reset(bad_days)
    with pytest.raises(UsageError, match=r"mask has shape \(3,\)"):
        simulator.reset(0, mask=np.ones(3, np.bool_))
    for arguments in ({"num_lanes": 0}, {"num_lanes": 1, "threads": 0}):
        with pytest.raises(UsageError, match="must be 1 or more"):
            Simulator(community, exogenous, **arguments)
    negative = np.array(exogenous.pv_kw)
    negative[1, 2, 3] = -1.0
    with pytest.raises(UsageError, match=r"exogenous\.pv_kw: day 1, hour 2, prosumer 3: generation is negative"):
        Simulator(community, dataclasses.replace(exogenous, pv_kw=negative), 1)
    empty = Exogenous(*(getattr(exogenous, item.name)[:0] for item in dataclasses.fields(Exogenous)))
    with pytest.raises(UsageError, match="holds no day"):
        Simulator(community, empty, 1)


def test_any_arrays_will_do(community: Community, exogenous: Exogenous) -> None:
    """Lists, other dtypes, other strides."""
    rng = np.random.default_rng(4)
    wants = random_wants(community, 3, rng)
    wants = tuple(np.round(np.where(np.isinf(want), 1.0, want)) for want in wants)
    results = []
    for version in (
        wants,
        tuple(want.tolist() for want in wants),
        tuple(want.astype(np.float32) for want in wants),
        tuple(want.astype(np.int64) for want in wants),
        tuple(np.asfortranarray(want) for want in wants),
    ):
        simulator = Simulator(community, exogenous, 3)
        simulator.reset(0)
        simulator.commit(no_position(community, 3).tolist())
        results.append(simulator.step(*version).copy())
    for other in results[1:]:
        np.testing.assert_array_equal(other.cost_ct, results[0].cost_ct)


def test_results_are_overwritten_and_copies_are_not(community: Community, exogenous: Exogenous) -> None:
    simulator = Simulator(community, exogenous, 2)
    simulator.reset(0)
    simulator.commit(no_position(community, 2))
    first = simulator.step(*idle(community, 2))
    kept = first.copy()
    second = simulator.step(*idle(community, 2))
    assert first.net_import_kw is second.net_import_kw
    assert (kept.net_import_kw != second.net_import_kw).any()


@pytest.mark.parametrize("clone", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy, copy.copy])
@pytest.mark.parametrize("num_lanes", [1, 3 * LANES])
def test_a_simulator_can_be_copied_in_mid_day(
    community: Community, exogenous: Exogenous, clone: object, num_lanes: int
) -> None:
    assert callable(clone)
    rng = np.random.default_rng(5)
    simulator = Simulator(community, exogenous, num_lanes, threads=2)
    simulator.reset(rng.integers(0, NUM_DAYS - 1, num_lanes), days_per_episode=2)
    simulator.commit(random_position(community, num_lanes, rng))
    for _ in range(5):
        simulator.step(*random_wants(community, num_lanes, rng))
    twin: Simulator = clone(simulator)
    moment = simulator.state.copy()
    for _ in range(3):
        wants = random_wants(community, num_lanes, rng)
        one, other = simulator.step(*wants), twin.step(*wants)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (moment.hour == 5).all()
    last = one.copy()
    simulator.restore(moment)
    assert (simulator.state.hour == 5).all()
    for _ in range(2):
        simulator.step(*idle(community, num_lanes))
    simulator.restore(twin.state)
    assert (simulator.state.hour == 8).all()
    np.testing.assert_array_equal(simulator.state.soc_kwh, last.soc_kwh)


def test_a_pickled_community_needs_no_other_machine_code(community: Community, exogenous: Exogenous) -> None:
    Simulator(community, exogenous, 1)
    compiled = [len(function.overloads) for function in (play, take, commit)]
    other, days = pickle.loads(pickle.dumps((community, exogenous)))
    simulator = Simulator(other, days, 1)
    simulator.reset(0)
    position, wants = no_position(community, 1), idle(community, 1)
    for array in (position, *wants):
        array.setflags(write=False)
    simulator.commit(position)
    simulator.step(*wants)
    assert [len(function.overloads) for function in (play, take, commit)] == compiled == [1, 1, 1]


def test_a_foreign_state_is_refused(community: Community, exogenous: Exogenous) -> None:
    simulator = Simulator(community, exogenous, 2)
    with pytest.raises(UsageError, match=r"restore: day has shape \(3,\), expected \(2,\)"):
        simulator.restore(Simulator(community, exogenous, 3).state)
    foreign = simulator.state.copy()
    foreign.day[:] = NUM_DAYS
    with pytest.raises(UsageError, match="restore: a lane stands on a day"):
        simulator.restore(foreign)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("central", [False, True])
def test_a_step_allocates_nothing(community: Community, exogenous: Exogenous, mechanism: str, central: bool) -> None:
    """Nothing inside compiled code, and outside it less than one row of one result."""
    num_lanes, community = 256 * LANES, community.replace(mechanism=mechanism)
    simulator = Simulator(community, exogenous, num_lanes)
    simulator.reset(0)
    simulator.commit(no_position(community, num_lanes))
    wants = (*idle(community, num_lanes)[:3], None if central else np.zeros((community.num_offers, num_lanes)))
    simulator.step(*wants)
    _nrt_python.memsys_enable_stats()
    in_kernels = rtsys.get_allocation_stats()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(10):
        simulator.step(*wants)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rtsys.get_allocation_stats() == in_kernels
    _nrt_python.memsys_disable_stats()
    assert peak - before < 6 * num_lanes  # bytes: flags of the lanes, small objects; one number a lane would be 8
