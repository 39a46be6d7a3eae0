"""What the scenarios' feeders look like when nobody steers, as the table of docs/feeders.md.

    python benchmarks/scenarios.py [DATASET]

Batteries rest, shiftable loads run by themselves, nothing is curtailed; the AC power flow of every hour.
"""

from __future__ import annotations

import sys

from prosumer_gym.datasets.realism import network_without_control
from prosumer_gym.datasets.splits import SPLITS
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario, scenario_names


def line(scenario: str, dataset_id: str) -> str:
    community = make_scenario(scenario)
    days = staged(load_dataset(dataset_id), community)
    figures = [network_without_control(days, community, split) for split in SPLITS]
    shares = [
        f"{100 * each.share_below:.1f} / {100 * each.share_above:.1f} %, {each.lowest_pu:.3f}–{each.highest_pu:.3f}"
        for each in figures
    ]
    return f"| `{scenario}` | {' | '.join(shares)} |"


def main() -> int:
    dataset_id = sys.argv[1] if len(sys.argv) > 1 else "tehran-v0"
    try:
        lines = [line(scenario, dataset_id) for scenario in scenario_names()]
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"| {dataset_id} | {' | '.join(SPLITS)} |\n|---|{'---|' * len(SPLITS)}", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
