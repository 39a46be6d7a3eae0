"""What `dro` costs against no control, its PAR, and how often its supply falls short, over radius; dev days.

    python benchmarks/dro_reproduction.py [--dataset tehran-v0 ...] [--every 3] [--jobs 2] [--write]

Open loop. `dro` as it comes (a band of 50 kW, a radius of its own), and with a band of 10 kW, where what is promised
has to be bought, over the radius of the reliability; level 5 % of each hour by itself, or of all hours together. As in
`dro_frontier.py`: short is an hour of a prosumer in which real time buys more than the rule of the gate's plan says.
Days are kept in --kept.

Axis letters: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from dro_frontier import NO_KW
from pages import markdown
from studies import (
    Case,
    Outcome,
    Study,
    arguments,
    change,
    datasets,
    dev_days,
    figures,
    finish,
    kept_value,
    played,
    study_of,
)

from prosumer_gym.baselines.dro import DistributionallyRobust
from prosumer_gym.baselines.tuning import gate_observation
from prosumer_gym.leaderboard.entries import BOTH, REFERENCE, Entry, policy_entry
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.scenarios import make_scenario

NAME = "dro"
MODE = "open_loop"
RIVALS = ("po", "er-saa")
BAND_PU = 0.2
"""Of the connection's 50 kW."""
RADII = {"each hour": (0.0, 1e-4, 1e-3, 1e-2, 1e-1), "all hours": (0.0, 1e-3)}
"""By what the level is of: each hour by itself, or all hours together, where more than 1e-3 changes nothing."""
PLAIN: dict[str, Any] = {"policy": "dro", "of": "all hours", "radius": None}
"""The policy as it comes."""
VARIED: list[dict[str, Any]] = [
    {"policy": "dro", "of": of, "radius": radius} for of, radii in RADII.items() for radius in radii
]


def policy(of: str, radius: float | None) -> DistributionallyRobust:
    """`dro` with a setting of the study."""
    if radius is None:
        return DistributionallyRobust(MODE)
    return DistributionallyRobust(MODE, rho_obj=radius, rho_cc=radius, band_pu=BAND_PU, individual=of == "each hour")


def main() -> None:
    """Play, tell, keep."""
    asked = arguments(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter))
    studies = []
    for dataset in datasets(asked.dataset):
        stage = Stage(make_scenario("ieee33"), dataset, dev_days(dataset, asked.every))
        settings = [PLAIN, *VARIED]
        entries: list[Entry] = [
            Entry(REFERENCE, BOTH, "reference", "-"),
            *(policy_entry(name, MODE) for name in RIVALS),
            *(
                Case(_title(**each), MODE, "policy", "-", factory=partial(policy, each["of"], each["radius"]))
                for each in settings
            ),
        ]
        outcome = played(stage, entries, asked.kept, asked.jobs, "dro")
        named = [{"policy": name} for name in (REFERENCE, *RIVALS)]
        cases = [{**of, **figures(row.metrics)} for of, row in zip([*named, *settings], outcome, strict=True)]
        for case, each, row in zip(cases[len(named) :], settings, outcome[len(named) :], strict=True):
            of = {"shortfall": _title(**each), "data": dataset.manifest.sha256, "rows": stage.rows.tolist()}
            case.update(kept_value(asked.kept, of, partial(shortfall, stage, each, row)))
            print(f"{dataset.id}, {_title(**each)}: short {100 * np.mean(case['days_short']):.1f} % of the days")
        studies.append(study_of("dro_reproduction", asked, stage, cases))
    finish(NAME, studies, tables, write=asked.write)


def _title(policy: str, of: str, radius: float | None) -> str:
    return policy if radius is None else f"{policy} {of} {radius:g}"


def shortfall(stage: Stage, each: dict[str, Any], row: Outcome) -> dict[str, Any]:
    """By day: the share of prosumers with an hour that is short, and of all hours; and of the worst hour of the day.

    The gate's plans are made once more, since the log of a day does not hold their rules.
    """
    dro = policy(each["of"], each["radius"])
    dro.fit(stage.community, stage.history)
    planned_kw = np.zeros_like(row.trace.realtime_kw)
    for place, day in enumerate(stage.rows.tolist()):
        dro.reset(0)
        dro.plan(gate_observation(stage.community, stage.staged, day))
        net_load_kw = stage.staged.load_kw[day] - stage.staged.pv_kw[day]
        planned_kw[place] = dro.diagnostics["robust_plan"].real_time_kw(net_load_kw)
    short = row.trace.realtime_kw - planned_kw > NO_KW  # [D,H,N]
    return {
        "days_short": short.any(axis=1).mean(axis=1).round(4).tolist(),
        "hours_short": short.mean(axis=(1, 2)).round(6).tolist(),
        "worst_hour_short": round(float(short.mean(axis=(0, 2)).max()), 4),
        "radius_used": dro.rho_cc,
    }


def tables(studies: Sequence[Study]) -> dict[str, str]:
    """By name of their place on the page."""
    return {f"dro {study.dataset}": _table(study) for study in studies}


def _table(study: Study) -> str:
    """A line per setting."""
    week, reference = study.weeks, {name: study.days(name, policy=REFERENCE) for name in ("cost_ct", "peak_kw", "par")}
    head = (
        "policy", "5 % of", "radius, p.u.", "ct/day", "against no control", "peak", "PAR", "days short", "hours short",
        "worst hour",
    )  # fmt: skip
    settings: list[dict[str, Any]] = [*({"policy": name} for name in RIVALS), PLAIN, *VARIED]
    lines = []
    for of in settings:
        case = study.case(**of)
        against = [change(study.days(name, **of), base, week).percent for name, base in reference.items()]
        cells = [f"{study.days('cost_ct', **of).mean():.0f}", *against, "", "", ""]
        name, level, radius = f"`{of['policy']}`", "", ""
        if "of" in of:
            plain = of["radius"] is None
            name += ", 50 kW" if plain else f", {50 * BAND_PU:g} kW"
            level, radius = of["of"], f"{case['radius_used']:g}" + (" (chosen)" if plain else "")
            shares = (np.mean(case["days_short"]), np.mean(case["hours_short"]), case["worst_hour_short"])
            cells[-3:] = [f"{100 * share:.{digits}f} %" for share, digits in zip(shares, (1, 2, 1), strict=True)]
        lines.append((name, level, radius, *cells))
    words = (
        f"{study.told}, open loop. `no-control`: {reference['cost_ct'].mean():.0f} ct/day, peak "
        f"{reference['peak_kw'].mean():.0f} kW, PAR {np.nanmean(reference['par']):.2f}. kW: the band of real time. "
        "Days short: of a prosumer with any hour that is short; worst hour: that which is short most often."
    )
    return f"{words}\n\n{markdown(head, lines, text_columns=2)}"


if __name__ == "__main__":
    main()
