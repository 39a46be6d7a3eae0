"""The page about feeders: its example runs, its refusals read so, its table is what comes out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from prosumer_gym.datasets.realism import network_without_control
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.feeder import Feeder
from prosumer_gym.scenarios import make_scenario, scenario_names

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "feeders.md").read_text(encoding="utf-8")
ARRAYS, PANDAPOWER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_with_arrays_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(ARRAYS, names)
    assert names["community"].num_prosumers == 3
    assert capsys.readouterr().out.startswith("[1.01 ")


@pytest.mark.filterwarnings("ignore")  # pandapower's own
def test_the_example_with_pandapower_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandapower", reason="pandapower is not installed")
    exec(PANDAPOWER, {})
    assert capsys.readouterr().out == "11 6\n"


@pytest.mark.parametrize("name", scenario_names())
def test_the_table_of_tehran_is_what_comes_out(name: str) -> None:
    community = make_scenario(name)
    days = staged(load_dataset("tehran-v0"), community)
    cells = re.findall(rf"^\| `{name}` \| (.* %, .*) \|$", PAGE, re.MULTILINE)[0].split(" | ")
    for split, cell in zip(("train", "dev", "test"), cells, strict=True):
        figures = network_without_control(days, community, split)
        low, high, lowest, highest = (float(number) for number in re.findall(r"\d+\.\d+", cell))
        assert (low, high) == pytest.approx((100 * figures.share_below, 100 * figures.share_above), abs=0.051)
        assert (lowest, highest) == pytest.approx((figures.lowest_pu, figures.highest_pu), abs=0.00051)


def odd_net() -> SimpleNamespace:
    case = json.loads((ROOT / "tests" / "cases" / "pandapower" / "odd.json").read_text())
    return SimpleNamespace(
        **{name: pd.DataFrame(table["columns"], index=table["index"]) for name, table in case["tables"].items()}
    )


def test_the_refusals_of_the_page_are_those_of_the_package() -> None:
    nets = [odd_net() for _ in range(6)]
    nets[0].trafo = pd.DataFrame({"hv_bus": [42], "lv_bus": [21], "in_service": [True]})
    nets[1].switch.loc[5, "closed"] = True
    nets[2].line.loc[34, "in_service"] = False
    nets[3].line.loc[31, "c_nf_per_km"] = 9.0
    nets[4].gen = pd.DataFrame({"bus": [3], "in_service": [True]})
    nets[5].load["const_z_percent"] = [30.0 if label == 4 else 0.0 for label in nets[5].load.index]
    arrays: dict[str, Any] = {
        "from_bus": [0, 2, 1, 0], "to_bus": [1, 1, 3, 4], "r_ohm": [0.1, 0.2, 0.3, 0.4], "x_ohm": [0.5, 0.6, 0.7, 0.8],
        "p_kw": [0.0] * 5, "q_kvar": [0.0] * 5, "base_kv": 10.0,
    }  # fmt: skip
    changes: list[dict[str, Any]] = [
        {"from_bus": [0, 2, 1, 2], "to_bus": [1, 1, 3, 3]},
        {"from_bus": [0, 2, 1], "to_bus": [1, 1, 3], "r_ohm": [1] * 3, "x_ohm": [1] * 3},
        {"r_ohm": [0.1, 0.2, 0.0, 0.4], "x_ohm": [0.5, 0.6, 0.0, 0.8]},
        {"p_kw": [0.0, 1.0, float("nan"), 3.0, 4.0]},
    ]
    said = []
    for net in nets:
        with pytest.raises(UsageError) as refusal:
            Feeder.from_pandapower(net)
        said.append(f"    {refusal.value}")
    for change in changes:
        with pytest.raises(UsageError) as refusal:
            Feeder.from_arrays(**{**arrays, **change})
        said.append(f"    {refusal.value}")
    assert re.findall(r"^    (?=\w+ \d+[ :]).*", PAGE.split("Everything else is refused")[1], re.MULTILINE) == said
