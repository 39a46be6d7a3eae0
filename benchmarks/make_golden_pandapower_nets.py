"""Make the golden nets of tests/cases/pandapower again, with pandapower. Run by hand, never by the tests.

    python benchmarks/make_golden_pandapower_nets.py

needs a Python with pandapower. Each file holds the tables of a net, as far as its power flow depends on them, and the
power flow that pandapower finds. They are frozen: expect other last digits with another version of pandapower.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES = Path(__file__).parents[1] / "tests" / "cases" / "pandapower"
TOLERANCES_MVA = (1e-11, 1e-10, 1e-9)  # the finest that rounding lets Newton reach
COLUMNS = {
    "bus": ("vn_kv", "in_service"),
    "line": (
        "from_bus", "to_bus", "length_km", "r_ohm_per_km", "x_ohm_per_km", "c_nf_per_km", "g_us_per_km", "parallel",
        "in_service",
    ),
    "load": (
        "bus", "p_mw", "q_mvar", "const_z_p_percent", "const_i_p_percent", "const_z_q_percent", "const_i_q_percent",
        "scaling", "in_service",
    ),
    "sgen": ("bus", "p_mw", "q_mvar", "scaling", "in_service"),
    "ext_grid": ("bus", "vm_pu", "in_service"),
    "switch": ("bus", "element", "et", "closed", "z_ohm"),
    "trafo": ("hv_bus", "lv_bus", "in_service"),
}  # fmt: skip


def case33bw() -> Any:
    """Baran and Wu's feeder as pandapower has it: its tie lines are out of service."""
    from pandapower import networks

    return networks.case33bw()


def cigre_mv_feeder_1() -> Any:
    """Feeder 1 of the CIGRE European medium-voltage benchmark (TF C6.04.02, 2014), without capacitance of the lines.

    The substation's transformers and feeder 2 are out of service; the ring is open at switches.
    """
    from pandapower import networks

    net = networks.create_cigre_network_mv(with_der="pv_wind")
    net.trafo["in_service"] = False
    net.ext_grid.loc[0, "bus"] = 1
    net.bus.loc[[0, 12, 13, 14], "in_service"] = False
    net.line["c_nf_per_km"] = 0.0
    return net


def odd() -> Any:
    """A made net with everything that `from_pandapower` has to look at."""
    import pandapower as pp

    net = pp.create_empty_network(sn_mva=100.0)
    for label in (42, 7, 1000, 3, 8, 55, 56, 57, 21, 99, 12):
        pp.create_bus(net, vn_kv=20.0, index=label)
    net.bus.loc[12, "in_service"] = False
    pp.create_ext_grid(net, 1000, vm_pu=1.02, index=4)
    pp.create_ext_grid(net, 42, vm_pu=0.9, in_service=False)

    def line(a: int, b: int, km: float, r: float, x: float, **more: Any) -> int:
        return int(
            pp.create_line_from_parameters(
                net, a, b, length_km=km, r_ohm_per_km=r, x_ohm_per_km=x, c_nf_per_km=0.0, max_i_ka=1.0, **more
            )
        )

    line(7, 1000, 2.5, 0.3, 0.35, index=30)
    line(7, 3, 4.0, 0.5, 0.4, parallel=2)
    line(3, 8, 1.5, 0.6, 0.3)
    line(8, 3, 3.0, 0.4, 0.45)  # a second circuit of other make, the other way round
    line(8, 55, 2.0, 0.7, 0.3)
    line(56, 57, 0.5, 0.3, 0.3)  # bridged by switches
    line(57, 21, 3.5, 0.65, 0.38)
    line(42, 1000, 6.0, 0.45, 0.37)
    tie = line(42, 21, 5.0, 0.5, 0.4)
    out = line(21, 99, 1.0, 0.5, 0.4, in_service=False)
    line(21, 12, 1.0, 0.5, 0.4)  # to a bus out of service
    line(3, 99, 2.0, 0.5, 0.4)
    pp.create_switch(net, 55, 56, et="b")
    pp.create_switch(net, 57, 55, et="b")
    pp.create_switch(net, 99, 8, et="b", closed=False)
    pp.create_switch(net, 12, 3, et="b")
    pp.create_switch(net, 42, tie, et="l")
    pp.create_switch(net, 21, tie, et="l", closed=False)
    pp.create_switch(net, 21, out, et="l", closed=False)
    pp.create_load(net, 1000, p_mw=0.4, q_mvar=0.1)
    pp.create_load(net, 55, p_mw=0.9, q_mvar=0.3, scaling=0.5)
    pp.create_load(net, 57, p_mw=0.7, q_mvar=0.2)
    pp.create_load(net, 57, p_mw=0.6, q_mvar=-0.1, scaling=1.5)
    pp.create_load(net, 21, p_mw=1.1, q_mvar=0.35)
    pp.create_load(net, 3, p_mw=5.0, q_mvar=5.0, in_service=False)
    pp.create_load(net, 12, p_mw=5.0, q_mvar=5.0)  # its bus is out of service
    pp.create_load(net, 42, p_mw=1.3, q_mvar=0.4)
    pp.create_load(net, 99, p_mw=0.8, q_mvar=0.2)
    pp.create_sgen(net, 56, p_mw=0.3, q_mvar=0.05)
    pp.create_sgen(net, 99, p_mw=1.5, q_mvar=0.0, scaling=0.8)
    pp.create_sgen(net, 42, p_mw=2.0, q_mvar=0.0, in_service=False)
    return net


def frozen(net: Any) -> dict[str, Any]:
    """Tables and power flow."""
    import pandapower as pp

    for tolerance_mva in TOLERANCES_MVA:
        try:
            pp.runpp(net, init="flat", max_iteration=50, tolerance_mva=tolerance_mva, numba=False)
            break
        except pp.LoadflowNotConverged:
            continue
    version = importlib.metadata.version("pandapower")
    return {
        "tables": {
            table: {
                "index": net[table].index.tolist(),
                "columns": {column: net[table][column].tolist() for column in columns},
            }
            for table, columns in COLUMNS.items()
            if len(net[table])
        },
        "reference": f"pandapower {version}, Newton-Raphson, {tolerance_mva} MVA",
        "v_pu": {str(label): v for label, v in net.res_bus.vm_pu.dropna().items()},
        "losses_kw": 1000.0 * float(net.res_line.pl_mw.sum()),
        "losses_kvar": 1000.0 * float(net.res_line.ql_mvar.sum()),
        "slack_p_kw": 1000.0 * float(net.res_ext_grid.p_mw.sum()),
        "slack_q_kvar": 1000.0 * float(net.res_ext_grid.q_mvar.sum()),
    }


NETS: dict[str, Callable[[], Any]] = {"case33bw": case33bw, "cigre_mv_feeder_1": cigre_mv_feeder_1, "odd": odd}


def main() -> int:
    try:
        import pandapower  # noqa: F401  # only to say early that it is missing
    except ImportError:
        print("pandapower is not installed here: pip install pandapower", file=sys.stderr)
        return 2
    CASES.mkdir(parents=True, exist_ok=True)
    for name, make in NETS.items():
        case = frozen(make())
        text = re.sub(r"\[[^][]*]", lambda column: " ".join(column[0].split()), json.dumps(case, indent=1))
        (CASES / f"{name}.json").write_text(text + "\n")
        print(f"{name}: {len(case['v_pu'])} buses, lowest voltage {min(case['v_pu'].values()):.7f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
