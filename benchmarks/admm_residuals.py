"""How a negotiation of the prosumers comes to its end, by acceleration: residuals and objective gap over the rounds.

Run: OMP_NUM_THREADS=1 python benchmarks/admm_residuals.py [--out docs/img/admm_residuals.png]

A day of 10 prosumers and 50 scenarios (that of `core_problem.py`), to a residual of 1e-4 or 400 rounds. The gap is that
of the plan which the prosumers would carry out if the rounds ended there, with the trades of the best round so far.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from admm import case
from matplotlib.figure import Figure

from prosumer_gym.baselines.admm import ACCELERATIONS, History, consensus_admm
from prosumer_gym.baselines.day_ahead import solve_core

COLOURS = dict(zip(ACCELERATIONS, ("tab:blue", "tab:red", "tab:grey"), strict=True))
LABELS = {"restart": "Goldstein, with restart", "as published": "as published", "none": "no acceleration"}
ENDS = (1, 2, 4, 8, 15, 30, 60, 120)
"""Rounds after which the plan is looked at."""

Curves = dict[str, tuple[History, list[int], list[float]]]


def measure(seed: int, num_scenarios: int, cap: int) -> Curves:
    problem = case(seed, 10, num_scenarios)
    best = solve_core(*problem, tolerance=1e-9).objective_ct
    found: Curves = {}
    for name in ACCELERATIONS:
        whole = consensus_admm(*problem, acceleration=name, max_iterations=cap)
        ends = [end for end in ENDS if end < whole.iterations]
        plans = [consensus_admm(*problem, acceleration=name, max_iterations=end).plan for end in ends] + [whole.plan]
        ends.append(whole.iterations)
        gaps = [plan.objective_ct / best - 1.0 for plan in plans]
        found[name] = (whole.residuals, ends, gaps)
        print(
            f"{name:14}{whole.iterations:5d} rounds{'' if whole.converged else ' (cap)'}, "
            f"{np.count_nonzero(whole.residuals.restarted)} restarts, "
            f"residuals {whole.residuals.disagreement_kw[-1]:.0e} kW and "
            f"{whole.residuals.movement_ct_per_kw[-1]:.0e} ct/kW, gap {gaps[-1]:.0e}",
            flush=True,
        )
        print("  gap after rounds " + ", ".join(f"{end}: {gap:.0e}" for end, gap in zip(ends, gaps, strict=True)))
    return found


def draw(curves: Curves, path: Path) -> None:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    primal, dual, gap = figure.subplots(1, 3)
    for name, (history, ends, gaps) in curves.items():
        style = {"color": COLOURS[name], "label": LABELS[name], "linewidth": 1.3}
        rounds = np.arange(1, history.combined.size + 1)
        primal.semilogy(rounds, history.disagreement_kw, **style)
        dual.semilogy(rounds, history.movement_ct_per_kw, **style)
        gap.semilogy(ends, np.maximum(gaps, 1e-9), marker=".", **style)
    for axes, title, unit in (
        (primal, "primal residual |z - zh|", "kW"),
        (dual, "dual residual rho |zh - zhh|", "ct/kW"),
        (gap, "objective above the central optimum", "share"),
    ):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("round")
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
    target = next(iter(curves.values()))[0].target
    for axes in (primal, dual):
        axes.axhline(target, color="black", linewidth=0.8, linestyle=":")
    gap.axhline(1e-4, color="black", linewidth=0.8, linestyle=":")
    primal.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenarios", type=int, default=50)
    parser.add_argument("--cap", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("docs/img/admm_residuals.png"))
    arguments = parser.parse_args()
    draw(measure(arguments.seed, arguments.scenarios, arguments.cap), arguments.out)


if __name__ == "__main__":
    main()
