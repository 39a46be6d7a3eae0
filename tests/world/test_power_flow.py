"""Laws of the AC power flow, golden cases, and comparisons with an independent solution."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from power_flow_reference import reference_power_flow

from prosumer_gym.arrays import FloatArray
from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import case69, case141, ieee33
from prosumer_gym.lanes import LANES, aligned, exact
from prosumer_gym.power_flow import (
    MAX_SWEEPS,
    MIN_SWEEPS,
    PowerFlowResult,
    block_scratch,
    lindistflow,
    solve_block,
    solve_power_flow,
)

CASES = Path(__file__).parents[1] / "cases" / "power_flow"
GOLDEN = sorted(folder.name for folder in CASES.iterdir() if (folder / "case.json").exists())
FIGURES = ("v_pu", "losses_kw", "losses_kvar", "slack_p_kw", "slack_q_kvar", "converged", "sweeps")


def table(path: Path) -> dict[str, FloatArray]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def golden_feeder(name: str, slack_v_pu: float) -> Feeder:
    made: dict[str, Callable[[], Feeder]] = {"ieee33": ieee33, "case69": case69, "case141": case141}
    return made[name]().replace(slack_v_pu=slack_v_pu)


def random_feeder(num_buses: int, shape: str, seed: int, lowest_v_pu: float = 0.92) -> Feeder:
    """A feeder of the given shape whose nominal loads pull the voltage down to about `lowest_v_pu`."""
    rng = np.random.default_rng(seed)
    below = np.arange(1, num_buses)
    above = {
        "chain": below - 1,
        "star": np.zeros_like(below),
        "random": np.maximum(0, below - 1 - rng.integers(0, 6, below.size)),
    }[shape]
    renumbered = np.concatenate([[0], 1 + rng.permutation(num_buses - 1)])
    flip, shuffle = rng.random(below.size) < 0.5, rng.permutation(below.size)
    ends = np.where(flip, [renumbered[above], renumbered[below]], [renumbered[below], renumbered[above]])[:, shuffle]
    p_kw = rng.uniform(0.0, 100.0, num_buses)
    r_ohm, x_ohm = rng.uniform(0.05, 1.0, (2, below.size))
    feeder = Feeder.from_arrays(ends[0], ends[1], r_ohm, x_ohm, p_kw, 0.5 * p_kw, base_kv=12.66, base_mva=10.0)
    model = lindistflow(feeder)
    drop = (model.r @ feeder.p_kw + model.x @ feeder.q_kvar).max() / (1000.0 * feeder.base_mva)
    factor = (1.0 - lowest_v_pu**2) / drop
    return feeder.replace(p_kw=factor * feeder.p_kw, q_kvar=factor * feeder.q_kvar)


def varied_loads(feeder: Feeder, num_cases: int, low: float, high: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """[K, B] loads: a factor per case, and another per bus and case."""
    rng = np.random.default_rng(seed)
    factor = rng.uniform(low, high, num_cases) * rng.uniform(0.5, 1.5, (feeder.num_buses, num_cases))
    return factor * feeder.p_kw[:, None], rng.uniform(0.8, 1.2, factor.shape) * factor * feeder.q_kvar[:, None]


def assert_matches(result: PowerFlowResult, reference: Any, feeder: Feeder, *, v_pu: float = 1e-9) -> None:
    """Voltages to `v_pu`, powers to what that allows."""
    assert result.converged.all()
    assert np.abs(result.v_pu - reference.v_pu).max() <= v_pu
    for figure in FIGURES[1:5]:
        scale = 1e-8 * (1000.0 * feeder.base_mva + np.abs(reference.slack_p_kw))
        assert (np.abs(getattr(result, figure) - getattr(reference, figure)) <= scale).all(), figure


# Golden cases


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_case(name: str) -> None:
    case = json.loads((CASES / name / "case.json").read_text())
    buses = table(CASES / name / "buses.csv")
    feeder = golden_feeder(case["feeder"], case["slack_v_pu"])
    assert feeder.base_kv == case["base_kv"]
    result = solve_power_flow(feeder, buses["p_kw"], buses["q_kvar"])
    assert result.converged.item() == case["converges"]
    if case["converges"]:
        np.testing.assert_allclose(result.v_pu[:, 0], buses["v_pu"], rtol=0, atol=case["tolerances"]["v_pu"])
        for figure, value in case["totals"].items():
            assert getattr(result, figure).item() == pytest.approx(value, rel=0, abs=case["tolerances"]["totals"])


def test_there_are_golden_cases_for_three_feeders() -> None:
    assert len(GOLDEN) == 21
    assert {name.split("_")[0] for name in GOLDEN} == {"ieee33", "case69", "case141"}


# Against the independent solution


@pytest.mark.parametrize(("low", "high"), [(0.3, 1.0), (1.0, 2.2), (-3.0, 0.5)])
def test_ieee33_voltages_are_right_to_1e_9(low: float, high: float) -> None:
    feeder = ieee33()
    p_kw, q_kvar = varied_loads(feeder, 200, low, high, seed=3)
    assert_matches(solve_power_flow(feeder, p_kw, q_kvar), reference_power_flow(feeder, p_kw, q_kvar), feeder)


def test_voltages_are_right_to_1e_9_next_to_the_collapse() -> None:
    feeder = ieee33()
    factor = np.array([3.0, 3.3, 3.5, 3.6])
    p_kw, q_kvar = np.outer(feeder.p_kw, factor), np.outer(feeder.q_kvar, factor)
    reference = reference_power_flow(feeder, p_kw, q_kvar)
    result = solve_power_flow(feeder, p_kw, q_kvar)
    assert result.converged.all()
    np.testing.assert_allclose(result.v_pu, reference.v_pu, rtol=0, atol=1e-9)


def test_reverse_flow_may_lift_the_voltage_far() -> None:
    feeder = ieee33()
    factor = np.array([-5.0, -10.0, -20.0])
    p_kw, q_kvar = np.outer(feeder.p_kw, factor), np.zeros((33, 3))
    result, reference = solve_power_flow(feeder, p_kw, q_kvar), reference_power_flow(feeder, p_kw, q_kvar)
    assert_matches(result, reference, feeder)
    assert result.v_pu.max() > 1.6


@pytest.mark.parametrize(
    ("num_buses", "shape"),
    [(2, "chain"), (40, "star"), (300, "chain"), (1000, "random"), (1000, "chain"), (1000, "star")],
)
def test_feeders_of_any_depth(num_buses: int, shape: str) -> None:
    feeder = random_feeder(num_buses, shape, seed=num_buses)
    p_kw, q_kvar = varied_loads(feeder, 5, -1.0, 1.0, seed=4)
    reference = reference_power_flow(feeder, p_kw, q_kvar, balance_pu=1e-8, rounds=60)
    assert_matches(solve_power_flow(feeder, p_kw, q_kvar), reference, feeder)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_radial_feeder(data: st.DataObject) -> None:
    num_buses = data.draw(st.integers(2, 20), label="buses")
    above = [data.draw(st.integers(0, bus - 1)) for bus in range(1, num_buses)]
    branches = data.draw(st.permutations(list(zip(above, range(1, num_buses), strict=True))))
    ohm = st.floats(0.0, 0.5)
    r_ohm = data.draw(st.lists(ohm, min_size=num_buses - 1, max_size=num_buses - 1))
    x_ohm = data.draw(st.lists(st.floats(0.01, 0.5), min_size=num_buses - 1, max_size=num_buses - 1))
    kw = st.floats(-150.0, 150.0)
    p_kw, q_kvar = (np.array(data.draw(st.lists(kw, min_size=num_buses, max_size=num_buses))) for _ in range(2))
    slack_v_pu = data.draw(st.floats(0.9, 1.1))
    from_bus, to_bus = zip(*branches, strict=True)
    feeder = Feeder.from_arrays(from_bus, to_bus, r_ohm, x_ohm, p_kw, q_kvar, base_kv=11.0, slack_v_pu=slack_v_pu)
    result = solve_power_flow(feeder, p_kw, q_kvar)
    assert_matches(result, reference_power_flow(feeder, p_kw[:, None], q_kvar[:, None]), feeder)


# Laws


def test_the_slack_delivers_loads_and_losses() -> None:
    feeder = ieee33().replace(p_kw=ieee33().p_kw + 7.0)  # the slack bus has a load of its own
    p_kw, q_kvar = varied_loads(feeder, 300, -1.0, 3.0, seed=5)
    result = solve_power_flow(feeder, p_kw, q_kvar)
    np.testing.assert_allclose(result.slack_p_kw, p_kw.sum(0) + result.losses_kw, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(result.slack_q_kvar, q_kvar.sum(0) + result.losses_kvar, rtol=1e-9, atol=1e-8)
    assert (result.losses_kw > 0).all()


@pytest.mark.parametrize("slack_v_pu", [0.95, 1.0, 1.05])
def test_without_load_every_bus_has_the_voltage_of_the_slack(slack_v_pu: float) -> None:
    feeder = ieee33().replace(slack_v_pu=slack_v_pu)
    result = solve_power_flow(feeder, np.zeros((33, 3)), np.zeros((33, 3)))
    np.testing.assert_allclose(result.v_pu, slack_v_pu, rtol=1e-15)
    assert (result.v_pu[0] == slack_v_pu).all()
    assert not np.concatenate([result.losses_kw, result.slack_p_kw, result.slack_q_kvar]).any()


def test_the_base_of_power_does_not_matter() -> None:
    feeder = ieee33()
    p_kw, q_kvar = varied_loads(feeder, 20, 0.3, 2.0, seed=6)
    small, large = (solve_power_flow(feeder.replace(base_mva=base), p_kw, q_kvar) for base in (1.0, 100.0))
    np.testing.assert_allclose(small.v_pu, large.v_pu, rtol=1e-12)
    np.testing.assert_allclose(small.losses_kw, large.losses_kw, rtol=1e-9)


def test_numbers_and_directions_of_buses_do_not_matter() -> None:
    feeder = ieee33()
    p_kw, q_kvar = varied_loads(feeder, 20, 0.3, 2.0, seed=7)
    rng = np.random.default_rng(7)
    number = np.concatenate([[0], 1 + rng.permutation(32)])  # new number of each bus
    back = np.argsort(number)
    renumbered = Feeder.from_arrays(
        number[feeder.to_bus], number[feeder.from_bus], feeder.r_ohm, feeder.x_ohm, p_kw[back, 0], q_kvar[back, 0],
        base_kv=feeder.base_kv,
    )  # fmt: skip
    result = solve_power_flow(renumbered, p_kw[back], q_kvar[back])
    np.testing.assert_allclose(result.v_pu[number], solve_power_flow(feeder, p_kw, q_kvar).v_pu, rtol=1e-12)


# The same bits everywhere


@pytest.fixture(scope="module")
def mixed() -> tuple[Feeder, FloatArray, FloatArray, PowerFlowResult]:
    """1024 cases, easy, hard, hopeless and broken ones side by side, and their power flows."""
    feeder = ieee33()
    p_kw, q_kvar = varied_loads(feeder, 1024, 0.3, 1.0, seed=8)
    rng = np.random.default_rng(9)
    factor = rng.choice([1.0, 1.0, 1.0, 2.0, 3.0, 10.0, -3.0], 1024)
    p_kw, q_kvar = p_kw * factor, q_kvar * factor
    p_kw[5, ::101] = np.nan
    result = solve_power_flow(feeder, p_kw, q_kvar)
    assert 0.5 < result.converged.mean() < 1.0
    assert np.unique(result.sweeps[result.converged]).size > 5
    return feeder, p_kw, q_kvar, result


def assert_same_bits(result: PowerFlowResult, expected: PowerFlowResult, cases: Any) -> None:
    for figure in FIGURES:
        np.testing.assert_array_equal(getattr(result, figure), getattr(expected, figure)[..., cases], figure)


@pytest.mark.parametrize("num_cases", [1, 5, 64, 700, 1024])
@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_batch_or_threads(mixed: Any, num_cases: int, threads: int) -> None:
    feeder, p_kw, q_kvar, expected = mixed
    cases = slice(1024 - num_cases, None)
    result = solve_power_flow(feeder, p_kw[:, cases], q_kvar[:, cases], threads=threads)
    assert_same_bits(result, expected, cases)


def test_threads_do_not_share_memory(mixed: Any) -> None:
    feeder, p_kw, q_kvar, expected = mixed
    many = np.tile(np.arange(1024), 20)  # long enough for the threads to meet
    assert_same_bits(solve_power_flow(feeder, p_kw[:, many], q_kvar[:, many], threads=2), expected, many)


def test_bits_do_not_depend_on_the_place_in_the_batch(mixed: Any) -> None:
    feeder, p_kw, q_kvar, expected = mixed
    for seed in range(5):
        cases = np.random.default_rng(seed).permutation(1024)
        assert_same_bits(solve_power_flow(feeder, p_kw[:, cases], q_kvar[:, cases]), expected, cases)


def test_bits_of_every_case_alone(mixed: Any) -> None:
    feeder, p_kw, q_kvar, expected = mixed
    for case in range(0, 1024, 13):
        assert_same_bits(solve_power_flow(feeder, p_kw[:, case], q_kvar[:, case]), expected, [case])


@pytest.mark.parametrize("width", [LANES, 4 * LANES])
def test_a_block_inside_another_kernel_has_the_same_bits(mixed: Any, width: int) -> None:
    feeder, p_kw, q_kvar, expected = mixed
    p_pu, q_pu, v_pu = aligned(33, width), aligned(33, width), aligned(33, width)
    losses_pu, slack_pu = aligned(2, width), aligned(2, width)
    sweeps, converged = np.zeros(width, np.int64), np.zeros(width, np.bool_)
    p_pu[:], q_pu[:] = p_kw[:, :width] * 1e-3, q_kvar[:, :width] * 1e-3
    _solve_on_dirty_scratch(feeder.tables, p_pu, q_pu, block_scratch(33), v_pu, losses_pu, slack_pu, sweeps, converged)
    assert_same_bits(
        PowerFlowResult(
            v_pu, losses_pu[0] * 1e3, losses_pu[1] * 1e3, slack_pu[0] * 1e3, slack_pu[1] * 1e3, converged, sweeps
        ),
        expected,
        slice(0, width),
    )


@exact
def _solve_on_dirty_scratch(
    tables: Any,
    p_pu: Any,
    q_pu: Any,
    scratch: Any,
    v_pu: Any,
    losses_pu: Any,
    slack_pu: Any,
    sweeps: Any,
    converged: Any,
) -> None:
    scratch[:] = np.nan
    solve_block(tables, p_pu, q_pu, scratch, v_pu, losses_pu, slack_pu, sweeps, converged)


# Cases without a solution


def test_a_collapse_is_reported_and_leaves_no_nan(mixed: Any) -> None:
    feeder, _, _, result = mixed
    dark = ~result.converged
    assert (result.v_pu[1:, dark] == 0).all()
    assert (result.v_pu[0] == feeder.slack_v_pu).all()
    for figure in FIGURES[1:5]:
        assert (getattr(result, figure)[dark] == 0).all()
        assert np.isfinite(getattr(result, figure)).all()
    assert (result.v_pu[:, ~dark] > 0).all()


@pytest.mark.parametrize("factor", [3.65, 4.0, 10.0, 1e3, 1e9, 1e200])
def test_more_than_the_feeder_can_carry_does_not_converge(factor: float) -> None:
    feeder = ieee33()
    result = solve_power_flow(feeder, factor * feeder.p_kw, factor * feeder.q_kvar)
    assert not result.converged.any()
    assert np.isfinite(result.v_pu).all()
    assert result.sweeps.item() < MAX_SWEEPS  # given up early


def test_a_case_that_needs_too_many_sweeps_stops_at_the_cap() -> None:
    feeder = ieee33()
    result = solve_power_flow(feeder, 3.62 * feeder.p_kw, 3.62 * feeder.q_kvar)
    assert (result.converged.item(), result.sweeps.item()) == (False, MAX_SWEEPS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bus", [0, 5, 17])
def test_a_load_that_is_no_number_spoils_its_own_case_only(bad: float, bus: int) -> None:
    feeder = ieee33()
    p_kw, q_kvar = varied_loads(feeder, 8, 0.3, 1.0, seed=10)
    clean = solve_power_flow(feeder, p_kw, q_kvar)
    q_kvar[bus, 3] = bad
    result = solve_power_flow(feeder, p_kw, q_kvar)
    others = np.arange(8) != 3
    assert not result.converged[3]
    assert all(np.isfinite(getattr(result, figure)).all() for figure in FIGURES)
    assert_same_bits(PowerFlowResult(*[getattr(result, figure)[..., others] for figure in FIGURES]), clean, others)


# The interface


def test_one_case_may_be_given_as_a_plain_column() -> None:
    feeder = ieee33()
    result = solve_power_flow(feeder, feeder.p_kw, feeder.q_kvar)
    assert result.v_pu.shape == (33, 1)
    assert result.sweeps.shape == (1,)


def test_easy_cases_stop_at_the_first_test() -> None:
    feeder = ieee33()
    p_kw, q_kvar = varied_loads(feeder, 100, 0.3, 0.6, seed=12)
    assert (solve_power_flow(feeder, p_kw, q_kvar).sweeps == MIN_SWEEPS).all()


def test_an_empty_batch_is_a_batch() -> None:
    assert solve_power_flow(ieee33(), np.zeros((33, 0)), np.zeros((33, 0))).v_pu.shape == (33, 0)


def test_strided_and_integer_loads_are_taken() -> None:
    feeder = ieee33()
    p_kw, q_kvar = varied_loads(feeder, 40, 0.3, 1.0, seed=11)
    wide = solve_power_flow(feeder, np.asfortranarray(p_kw)[:, ::2], q_kvar[:, ::2])
    np.testing.assert_array_equal(wide.v_pu, solve_power_flow(feeder, p_kw, q_kvar).v_pu[:, ::2])
    assert solve_power_flow(feeder, np.full((33, 1), 10), np.full((33, 1), 5)).converged.all()


@pytest.mark.parametrize(
    ("p_kw", "q_kvar", "threads", "message"),
    [
        (np.zeros((32, 4)), np.zeros((33, 4)), 1, r"p_kw has shape \(32, 4\); give one row for each of the 33 buses"),
        (np.zeros((33, 4)), np.zeros((33, 3)), 1, r"p_kw has shape \(33, 4\) and q_kvar \(33, 3\)"),
        (np.zeros((33, 4, 1)), np.zeros((33, 4)), 1, "p_kw has shape"),
        (["a"] * 33, np.zeros(33), 1, "p_kw is not an array of numbers"),
        (np.zeros(33), np.zeros(33), 0, "threads is 0; give 1 to"),
        (np.zeros(33), np.zeros(33), 10**6, "threads is 1000000; give 1 to"),
    ],
)
def test_what_does_not_fit_is_refused(p_kw: Any, q_kvar: Any, threads: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        solve_power_flow(ieee33(), p_kw, q_kvar, threads=threads)


# The linear model


@pytest.mark.parametrize("feeder", [ieee33(), random_feeder(60, "random", seed=1)], ids=["ieee33", "random"])
def test_sensitivities_are_those_of_the_incidence_matrix(feeder: Feeder) -> None:
    """Drops add up along branches: with A the branch-bus incidence without the slack, R = 2 A^-1 diag(r) A^-T."""
    incidence = np.zeros((feeder.num_buses - 1, feeder.num_buses))
    rows = np.arange(feeder.num_buses - 1)
    incidence[rows, feeder.from_bus], incidence[rows, feeder.to_bus] = 1.0, -1.0
    inverse = np.linalg.inv(incidence[:, 1:])
    model = lindistflow(feeder)
    for matrix, ohm in ((model.r, feeder.r_ohm), (model.x, feeder.x_ohm)):
        pu = ohm / (feeder.base_kv**2 / feeder.base_mva)
        np.testing.assert_allclose(matrix[1:, 1:], 2 * inverse @ np.diag(pu) @ inverse.T, rtol=1e-10, atol=1e-14)
        assert not matrix[0].any()
        assert not matrix[:, 0].any()
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > -1e-14


def test_linear_model_of_ieee33() -> None:
    feeder = ieee33()
    model = lindistflow(feeder)
    linear = np.sqrt(1.0 - (model.r @ feeder.p_kw + model.x @ feeder.q_kvar) / 1000)
    exact_v_pu = solve_power_flow(feeder, feeder.p_kw, feeder.q_kvar).v_pu[:, 0]
    assert linear.min() == pytest.approx(0.9159, abs=5e-5)
    assert np.abs(linear - exact_v_pu).max() < 0.003
    half = np.sqrt(1.0 - (model.r @ feeder.p_kw + model.x @ feeder.q_kvar) / 2000)
    exact_half = solve_power_flow(feeder, feeder.p_kw / 2, feeder.q_kvar / 2).v_pu[:, 0]
    assert np.abs(half - exact_half).max() < 0.0007


@pytest.mark.parametrize(("bus", "dv_pu"), [(17, 0.0069), (32, 0.0041), (24, 0.0018), (21, 0.0018)])
def test_known_voltage_rise_per_100_kw(bus: int, dv_pu: float) -> None:
    assert lindistflow(ieee33()).r[bus, bus] * 0.1 / 2 == pytest.approx(dv_pu, abs=5e-5)


@pytest.mark.parametrize("which", ["r", "x"])
def test_sensitivities_are_near_the_finite_differences_of_the_ac_power_flow(which: str) -> None:
    feeder, step_kva = ieee33(), 1.0
    steps = np.hstack([step_kva * np.eye(33), -step_kva * np.eye(33)]) / 2  # [K, 2 K] injections around no load
    p_kw, q_kvar = (-steps, np.zeros_like(steps)) if which == "r" else (np.zeros_like(steps), -steps)
    squared = solve_power_flow(feeder, p_kw, q_kvar).v_pu ** 2
    slope = (squared[:, :33] - squared[:, 33:]) / (step_kva / 1000)
    loaded = solve_power_flow(feeder, p_kw + feeder.p_kw[:, None], q_kvar + feeder.q_kvar[:, None]).v_pu ** 2
    slope_loaded = (loaded[:, :33] - loaded[:, 33:]) / (step_kva / 1000)
    matrix = getattr(lindistflow(feeder), which)
    np.testing.assert_allclose(slope, matrix, atol=1e-3 * matrix.max())
    np.testing.assert_allclose(slope_loaded, matrix, atol=0.1 * matrix.max())
