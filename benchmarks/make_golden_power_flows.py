"""Make the golden power flows of tests/cases/power_flow again, with pandapower. Run by hand, never by the tests.

    python benchmarks/make_golden_power_flows.py

needs a Python with pandapower and this package. The committed files are frozen: expect differences in the last digits
with another version of pandapower.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.feeder import Feeder
from prosumer_gym.feeders import case69, case141, ieee33

CASES = Path(__file__).parents[1] / "tests" / "cases" / "power_flow"
FEEDERS = {"ieee33": ieee33, "case69": case69, "case141": case141}
TOLERANCES_MVA = (1e-11, 1e-10, 1e-9, 1e-8)  # the finest that rounding lets Newton reach: short cables make it coarse

# name of the case: feeder, factor on the nominal active and reactive load, voltage of the slack
RECIPES = {
    "ieee33_nominal": ("ieee33", 1.0, 1.0, 1.0),
    "ieee33_half_load": ("ieee33", 0.5, 0.5, 1.0),
    "ieee33_double_load": ("ieee33", 2.0, 2.0, 1.0),
    "ieee33_triple_load": ("ieee33", 3.0, 3.0, 1.0),
    "ieee33_near_collapse": ("ieee33", 3.6, 3.6, 1.0),
    "ieee33_beyond_collapse": ("ieee33", 3.65, 3.65, 1.0),
    "ieee33_reverse_flow": ("ieee33", -1.0, 0.0, 1.0),
    "ieee33_generation_and_reactive_load": ("ieee33", -0.8, 1.0, 1.0),
    "ieee33_slack_1_05": ("ieee33", 1.0, 1.0, 1.05),
    "case69_nominal": ("case69", 1.0, 1.0, 1.0),
    "case69_half_load": ("case69", 0.5, 0.5, 1.0),
    "case69_double_load": ("case69", 2.0, 2.0, 1.0),
    "case69_triple_load": ("case69", 3.0, 3.0, 1.0),
    "case69_reverse_flow": ("case69", -1.0, 0.0, 1.0),
    "case69_slack_1_05": ("case69", 1.0, 1.0, 1.05),
    "case141_nominal": ("case141", 1.0, 1.0, 1.0),
    "case141_half_load": ("case141", 0.5, 0.5, 1.0),
    "case141_double_load": ("case141", 2.0, 2.0, 1.0),
    "case141_triple_load": ("case141", 3.0, 3.0, 1.0),
    "case141_reverse_flow": ("case141", -1.0, 0.0, 1.0),
    "case141_slack_1_05": ("case141", 1.0, 1.0, 1.05),
}


def solve(feeder: Feeder, p_kw: FloatArray, q_kvar: FloatArray) -> tuple[FloatArray, dict[str, float], float] | None:
    """Voltages [K], totals and tolerance of pandapower; None where its Newton method fails."""
    import pandapower

    net = pandapower.create_empty_network(sn_mva=1.0)
    for _ in range(feeder.num_buses):
        pandapower.create_bus(net, vn_kv=feeder.base_kv)
    pandapower.create_ext_grid(net, 0, vm_pu=feeder.slack_v_pu)
    for a, b, r, x in zip(feeder.from_bus, feeder.to_bus, feeder.r_ohm, feeder.x_ohm, strict=True):
        pandapower.create_line_from_parameters(
            net, int(a), int(b), length_km=1.0, r_ohm_per_km=r, x_ohm_per_km=x, c_nf_per_km=0.0, max_i_ka=1.0
        )
    for bus in range(feeder.num_buses):
        pandapower.create_load(net, bus, p_mw=p_kw[bus] / 1000, q_mvar=q_kvar[bus] / 1000)
    for tolerance_mva in TOLERANCES_MVA:
        try:
            pandapower.runpp(net, init="flat", max_iteration=50, tolerance_mva=tolerance_mva, numba=False)
            break
        except pandapower.LoadflowNotConverged:
            continue
    else:
        return None
    totals = {
        "losses_kw": 1000 * float(net.res_line.pl_mw.sum()),
        "losses_kvar": 1000 * float(net.res_line.ql_mvar.sum()),
        "slack_p_kw": 1000 * float(net.res_ext_grid.p_mw.iloc[0]),
        "slack_q_kvar": 1000 * float(net.res_ext_grid.q_mvar.iloc[0]),
    }
    return net.res_bus.vm_pu.to_numpy(np.float64), totals, tolerance_mva


def write_case(name: str) -> str:
    feeder_name, factor_p, factor_q, slack_v_pu = RECIPES[name]
    feeder = FEEDERS[feeder_name]().replace(slack_v_pu=slack_v_pu)
    p_kw, q_kvar = factor_p * feeder.p_kw, factor_q * feeder.q_kvar
    solution = solve(feeder, p_kw, q_kvar)
    case: dict[str, object] = {
        "feeder": feeder_name,
        "base_kv": feeder.base_kv,
        "slack_v_pu": slack_v_pu,
        "converges": solution is not None,
        "reference": f"pandapower {importlib.metadata.version('pandapower')}, Newton-Raphson",
    }
    header = ["bus", "p_kw", "q_kvar"]
    columns: list[list[float]] = [list(range(feeder.num_buses)), p_kw.tolist(), q_kvar.tolist()]
    if solution is not None:
        v_pu, totals, tolerance_mva = solution
        case["reference"] = f"{case['reference']}, {tolerance_mva} MVA"
        largest = max(1.0, *map(abs, totals.values()))
        case["totals"] = totals
        # near the collapse a voltage that is right to 1e-9 leaves the losses less sure: they grow without bound there
        case["tolerances"] = {"v_pu": 1e-8, "totals": float(f"{largest * (1e-8 if v_pu.min() > 0.6 else 1e-7):.1e}")}
        header.append("v_pu")
        columns.append(v_pu.tolist())
    folder = CASES / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "case.json").write_text(json.dumps(case, indent=2) + "\n")
    with (folder / "buses.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
    return "no solution" if solution is None else f"lowest voltage {min(columns[-1]):.7f}, {case['totals']}"


def main() -> int:
    try:
        import pandapower  # noqa: F401  # only to say early that it is missing
    except ImportError:
        print("pandapower is not installed here: pip install pandapower", file=sys.stderr)
        return 2
    for name in RECIPES:
        print(f"{name}: {write_case(name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
