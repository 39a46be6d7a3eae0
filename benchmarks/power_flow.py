"""Speed of the batched AC power flow, next to its peers, on the same loads in the same process.

    python benchmarks/power_flow.py [--batch 1024] [--repeats 15] [--write]

Run it with a Python that has the peers: pip install power-grid-model lightsim2grid pandapower (pandapower only hands
the feeder to lightsim2grid). Every solver is told to use one thread, and the clock counts the time of the processor in
this process, so that other programs and helping threads cannot hide. Solvers take turns: trust the ratios, medians over
the turns, more than the microseconds.

Every solver starts from arrays or tables that are ready and returns all voltage magnitudes. Peers run at 1e-8, their
usual tolerance; the answers are compared before the clock starts. `--write` puts the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from pages import machine, markdown, publish, significant

from prosumer_gym.arrays import FloatArray
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import ieee33
from prosumer_gym.lanes import LANES, aligned, exact
from prosumer_gym.power_flow import block_scratch, lindistflow, solve_block, solve_power_flow

Solver = Callable[[], FloatArray]  # returns voltage magnitudes, [K, B] or [B, K]
PEER_TOLERANCE = 1e-8
AGREEMENT_V_PU = 1e-7


def varied_loads(feeder: Feeder, batch: int) -> tuple[FloatArray, FloatArray]:
    """[K, B] 0.3 to 1 times the nominal load in each case, times 0.5 to 1.5 at each bus."""
    rng = np.random.default_rng(0)
    factor = rng.uniform(0.3, 1.0, batch) * rng.uniform(0.5, 1.5, (feeder.num_buses, batch))
    return feeder.p_kw[:, None] * factor, feeder.q_kvar[:, None] * factor


def ours(feeder: Feeder, p_kw: FloatArray, q_kvar: FloatArray) -> Solver:
    return lambda: solve_power_flow(feeder, p_kw, q_kvar).v_pu


def power_grid_model(feeder: Feeder, p_kw: FloatArray, q_kvar: FloatArray, method: str) -> Solver:
    from power_grid_model import CalculationMethod, ComponentType, DatasetType, PowerGridModel, initialize_array

    num_buses, num_lines, batch = feeder.num_buses, feeder.from_bus.size, p_kw.shape[1]
    node = initialize_array(DatasetType.input, ComponentType.node, num_buses)
    node["id"], node["u_rated"] = np.arange(num_buses), 1e3 * feeder.base_kv
    line = initialize_array(DatasetType.input, ComponentType.line, num_lines)
    line["id"] = 10_000 + np.arange(num_lines)
    line["from_node"], line["to_node"] = feeder.from_bus, feeder.to_bus
    line["from_status"], line["to_status"] = 1, 1
    line["r1"], line["x1"], line["c1"], line["tan1"] = feeder.r_ohm, feeder.x_ohm, 0.0, 0.0
    source = initialize_array(DatasetType.input, ComponentType.source, 1)
    source["id"], source["node"], source["status"], source["u_ref"] = 20_000, 0, 1, feeder.slack_v_pu
    source["sk"], source["rx_ratio"] = 1e20, 0.1  # stiff: the voltage at bus 0 is held
    load = initialize_array(DatasetType.input, ComponentType.sym_load, num_buses)
    load["id"], load["node"], load["status"], load["type"] = 30_000 + np.arange(num_buses), np.arange(num_buses), 1, 0
    load["p_specified"], load["q_specified"] = 1e3 * feeder.p_kw, 1e3 * feeder.q_kvar
    model = PowerGridModel(
        {
            ComponentType.node: node,
            ComponentType.line: line,
            ComponentType.source: source,
            ComponentType.sym_load: load,
        }
    )
    update = initialize_array(DatasetType.update, ComponentType.sym_load, (batch, num_buses))
    update["id"] = load["id"]
    update["p_specified"], update["q_specified"] = 1e3 * p_kw.T, 1e3 * q_kvar.T

    def solve() -> FloatArray:
        result = model.calculate_power_flow(
            update_data={ComponentType.sym_load: update},
            calculation_method=CalculationMethod[method],
            output_component_types={ComponentType.node: ["u_pu"]},
            error_tolerance=PEER_TOLERANCE,
            threading=-1,  # sequential
        )
        v_pu: FloatArray = result[ComponentType.node]["u_pu"]
        return v_pu

    return solve


def lightsim2grid(feeder: Feeder, p_kw: FloatArray, q_kvar: FloatArray) -> Solver:
    import pandapower
    from lightsim2grid.gridmodel import init_from_pandapower
    from lightsim2grid.timeSerie import AlgorithmType, TimeSeriesCPP

    net = pandapower.create_empty_network(sn_mva=1.0)
    for _ in range(feeder.num_buses):
        pandapower.create_bus(net, vn_kv=feeder.base_kv)
    pandapower.create_ext_grid(net, 0, vm_pu=feeder.slack_v_pu)
    for a, b, r, x in zip(feeder.from_bus, feeder.to_bus, feeder.r_ohm, feeder.x_ohm, strict=True):
        pandapower.create_line_from_parameters(
            net, int(a), int(b), length_km=1.0, r_ohm_per_km=r, x_ohm_per_km=x, c_nf_per_km=0.0, max_i_ka=1.0
        )
    for bus in range(feeder.num_buses):
        pandapower.create_load(net, bus, p_mw=feeder.p_kw[bus] / 1000, q_mvar=feeder.q_kvar[bus] / 1000)
    pandapower.runpp(net, numba=False)
    series = TimeSeriesCPP(init_from_pandapower(net))
    series.change_algorithm(AlgorithmType.NRSing_KLU)  # one slack: its fastest Newton method
    p_mw, q_mvar = np.ascontiguousarray(p_kw.T / 1000), np.ascontiguousarray(q_kvar.T / 1000)
    start = np.full(feeder.num_buses, feeder.slack_v_pu, np.complex128)
    no_sgen, slack_gen = np.zeros((p_mw.shape[0], 0)), np.zeros((p_mw.shape[0], 1))

    def solve() -> FloatArray:
        if series.compute_Vs(slack_gen, no_sgen, p_mw, q_mvar, start, 20, PEER_TOLERANCE) != 1:
            raise RuntimeError("lightsim2grid did not converge")
        return np.abs(series.get_voltages())

    return solve


def time_in_turns(solvers: dict[str, Solver], batch: int, repeats: int) -> dict[str, FloatArray]:
    """Microseconds per power flow of every solver in every turn. A turn lasts about 20 ms, whatever the solver."""

    def turn(solve: Solver, calls: int) -> float:
        start = time.process_time()
        for _ in range(calls):
            solve()
        return (time.process_time() - start) / calls

    calls = {name: 1 + int(0.02 / min(turn(solve, 1) for _ in range(3))) for name, solve in solvers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    for _ in range(repeats):
        for name, solve in solvers.items():
            seconds[name].append(turn(solve, calls[name]))
    return {name: 1e6 / batch * np.array(values) for name, values in seconds.items()}


def against_peers(batch: int, repeats: int) -> str | None:
    """The comparison on the 33-bus feeder in Markdown; None if there is no peer to compare with."""
    feeder = ieee33()
    p_kw, q_kvar = varied_loads(feeder, batch)
    solvers = {"prosumer-gym": ours(feeder, p_kw, q_kvar)}
    reference = solvers["prosumer-gym"]()
    differences: list[float] = []
    for name, make in {
        "power-grid-model, iterative current": lambda: power_grid_model(feeder, p_kw, q_kvar, "iterative_current"),
        "power-grid-model, Newton": lambda: power_grid_model(feeder, p_kw, q_kvar, "newton_raphson"),
        "lightsim2grid, Newton": lambda: lightsim2grid(feeder, p_kw, q_kvar),
    }.items():
        try:
            solver = make()
        except ImportError as error:
            print(f"{name}: not here ({error})", file=sys.stderr)
            continue
        difference = np.abs(solver().T - reference).max()
        differences.append(difference)
        if not difference < AGREEMENT_V_PU:
            raise SystemExit(f"{name} disagrees: more than {AGREEMENT_V_PU} p.u.")
        solvers[name] = solver
    if not differences:
        return None
    times = time_in_turns(solvers, batch, repeats)
    mine = times["prosumer-gym"]
    rows = [
        (
            name,
            significant(float(np.median(values))),
            significant(values.min()),
            significant(float(np.median(values / mine)), 2),
        )
        for name, values in times.items()
    ]
    table = markdown((f"{batch} cases at once", "us each, median", "lowest", "times ours"), rows)
    same = f"Voltages differ from ours by at most {max(differences):.0e} p.u."
    return f"{table}\n\n{same} {machine()}; {repeats} rounds, one thread."


def random_feeder(num_buses: int) -> Feeder:
    """A tree with a branch every few buses, loaded until the linear model shows a voltage of 0.92."""
    rng = np.random.default_rng(num_buses)
    below = np.arange(1, num_buses)
    above = np.maximum(0, below - 1 - rng.integers(0, 6, below.size) * (rng.random(below.size) < 0.2))
    p_kw = rng.uniform(0.0, 100.0, num_buses)
    feeder = Feeder.from_arrays(above, below, *rng.uniform(0.1, 1.0, (2, below.size)), p_kw, 0.5 * p_kw, base_kv=12.66)
    model = lindistflow(feeder)
    factor = 1000 * (1 - 0.92**2) / (model.r @ feeder.p_kw + model.x @ feeder.q_kvar).max()
    return feeder.replace(p_kw=factor * feeder.p_kw, q_kvar=factor * feeder.q_kvar)


@exact
def solve_again(calls, tables, p_pu, q_pu, scratch, v_pu, losses_pu, slack_pu, sweeps, converged):  # type: ignore[no-untyped-def]
    for _ in range(calls):
        solve_block(tables, p_pu, q_pu, scratch, v_pu, losses_pu, slack_pu, sweeps, converged)


def one_block(feeder: Feeder, p_kw: FloatArray, q_kvar: FloatArray) -> Solver:
    """The kernel alone, as the simulator meets it: one block again and again, as many cases as in the batch."""
    num_buses, calls = feeder.num_buses, p_kw.shape[1] // LANES
    p_pu, q_pu, v_pu = (aligned(num_buses) for _ in range(3))
    p_pu[:], q_pu[:] = p_kw[:, :LANES] / feeder.tables.base_kva, q_kvar[:, :LANES] / feeder.tables.base_kva
    rest = (
        block_scratch(num_buses),
        v_pu,
        aligned(2),
        aligned(2),
        np.zeros(LANES, np.int64),
        np.zeros(LANES, np.bool_),
    )

    def solve() -> FloatArray:
        solve_again(calls, feeder.tables, p_pu, q_pu, *rest)
        return v_pu

    return solve


def by_size(batch: int, repeats: int) -> str:
    """The cost per bus of growing feeders in Markdown."""
    solvers: dict[str, Solver] = {}
    sizes = (33, 100, 300, 1000)
    for num_buses in sizes:
        feeder = random_feeder(num_buses)
        loads = varied_loads(feeder, batch)
        solvers |= {f"batch {num_buses}": ours(feeder, *loads), f"kernel {num_buses}": one_block(feeder, *loads)}
    times = time_in_turns(solvers, batch, repeats)
    rows = [
        (
            f"{num_buses}",
            *(
                significant(1000 * float(np.median(times[f"{kind} {num_buses}"])) / num_buses)
                for kind in ("kernel", "batch")
            ),
        )
        for num_buses in sizes
    ]
    head = ("buses", "inside a kernel, ns per bus", f"`solve_power_flow`, batch {batch}, ns per bus")
    return markdown(head, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of the peers and their dependencies
    comparison = against_peers(arguments.batch, arguments.repeats)
    if comparison is not None:
        publish("performance.md", "power_flow", comparison, into_page=arguments.write)
    publish("performance.md", "buses", by_size(arguments.batch, arguments.repeats), into_page=arguments.write)
    if comparison is None:
        print("no peer is installed here: pip install power-grid-model lightsim2grid pandapower", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
