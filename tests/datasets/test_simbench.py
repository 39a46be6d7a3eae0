from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simbench_files import NODES, ZONE, SimBenchFiles, make_simbench, write_companions

from prosumer_gym.datasets.importers import Companions, import_simbench
from prosumer_gym.datasets.imports import ImportChoices, Imported
from prosumer_gym.datasets.schema import parse_zone
from prosumer_gym.datasets.simbench import read_simbench
from prosumer_gym.errors import UsageError

WHOLE_LOAD = ImportChoices(id="mine", shiftable_share=0.0)


def load(
    folder: Path,
    files: SimBenchFiles,
    choices: ImportChoices = WHOLE_LOAD,
    *,
    nodes: tuple[str, ...] = NODES,
    zone: str = ZONE,
    first: str = "2016-04-25",
) -> Imported:
    paths = write_companions(folder / "beside", first)
    companions = Companions(
        prices=(paths["prices"],), price_unit="EUR/MWh", weather=paths["weather"], interval_label="begin"
    )
    return import_simbench(files.write(folder / "grid"), nodes, zone, companions, choices)


def quarters(frame: pd.DataFrame, column: str, first_row: int) -> np.ndarray[Any, Any]:
    """Hourly means of 96 rows."""
    return np.asarray(frame[column][first_row : first_row + 96].to_numpy().reshape(24, 4).mean(axis=1))


def test_loads_and_pv_plants_of_a_node_are_added_up_in_kw(tmp_path: Path) -> None:
    files = make_simbench()
    imported = load(tmp_path, files)
    dataset = imported.dataset
    assert dataset.prosumers == NODES
    loads, plants = files.frames["LoadProfile.csv"], files.frames["RESProfile.csv"]
    for row in (0, 25):
        home, shop = (quarters(loads, f"{name}_pload", 96 * row) for name in ("H0-A", "G1-B"))
        np.testing.assert_allclose(dataset.load_kw[row, :, 0], 4.0 * home + 2.0 * shop, rtol=1e-12)
        np.testing.assert_allclose(dataset.load_kw[row, :, 1], 10.0 * shop, rtol=1e-12)
        np.testing.assert_allclose(dataset.load_kw[row, :, 2], 8.0 * home, rtol=1e-12)
        pv = 20.0 * quarters(plants, "PV3", 96 * row) + 10.0 * quarters(plants, "PV5", 96 * row)
        np.testing.assert_allclose(dataset.pv_kw[row, :, 0], pv, rtol=1e-12)
    assert (dataset.pv_kw[:, :, 1:] == 0.0).all()  # wind is no PV
    np.testing.assert_array_equal(dataset.pv_capacity_kw, [30.0, 0.0, 0.0])
    notes = " ".join(imported.notes)
    assert "Plants of the kind Wind at these nodes are no PV" in notes
    assert "2 nodes have no PV: LV1.101 Bus 2, LV1.101 Bus 9." in notes
    assert "noon" not in notes
    assert "moved" not in notes
    assert "ODbL" in dataset.manifest.licence
    assert "ODbL" in dataset.card


def test_nodes_without_any_pv_make_a_data_set_without_sun(tmp_path: Path) -> None:
    files = make_simbench()
    (files.write(tmp_path / "grid") / "RESProfile.csv").unlink()
    files.frames.pop("RESProfile.csv")
    dataset = load(tmp_path, files, nodes=("LV1.101 Bus 9",)).dataset
    assert (dataset.pv_kw == 0.0).all()


@pytest.mark.parametrize(
    ("first", "change", "rows"), [("2016-03-05", "2016-03-27", 92), ("2016-10-10", "2016-10-30", 100)]
)
def test_days_of_92_and_100_quarters_are_dropped_and_the_others_stay_in_place(
    tmp_path: Path, first: str, change: str, rows: int
) -> None:
    files = make_simbench(first)
    days = pd.to_datetime(files.frames["LoadProfile.csv"]["time"], format="%d.%m.%Y %H:%M").dt.strftime("%Y-%m-%d")
    assert (days == change).sum() == rows
    imported = load(tmp_path, files, first=first)
    assert imported.counts.clock_change == [change]
    assert imported.counts.incomplete == []
    after = str(np.datetime64(change) + 1)
    row = [str(date) for date in imported.dataset.dates].index(after)
    expected = 8.0 * quarters(files.frames["LoadProfile.csv"], "H0-A_pload", int(np.argmax(days == after)))
    np.testing.assert_allclose(imported.dataset.load_kw[row, :, 2], expected, rtol=1e-12)


def test_the_order_of_the_nodes_is_the_users(tmp_path: Path) -> None:
    files = make_simbench()
    one = load(tmp_path, files).dataset
    other = load(tmp_path, files, nodes=NODES[::-1]).dataset
    assert other.prosumers == NODES[::-1]
    np.testing.assert_array_equal(other.load_kw, one.load_kw[:, :, ::-1])


Break = Callable[[SimBenchFiles], None]


def cell(name: str, row: int, column: str, value: Any) -> Break:
    return lambda files: files.set(name, row, column, value)


def without(name: str, column: str) -> Break:
    def change(files: SimBenchFiles) -> None:
        files.frames[name] = files.frames[name].drop(columns=column)

    return change


def without_row(name: str, row: int) -> Break:
    def change(files: SimBenchFiles) -> None:
        files.frames[name] = files.frames[name].drop(index=row)

    return change


ERRORS: dict[str, tuple[Break, str]] = {
    "no node": (without("Load.csv", "node"), "Load.csv: column node is missing; it has id, profile"),
    "no kind": (without("RES.csv", "type"), "RES.csv: column type is missing; it has id, node"),
    "a power in kW": (
        cell("Load.csv", 1, "pLoad", 12),
        "Load.csv: column pLoad, row 3: 12 is outside [0, 10]; it is the power of a node in MW; is it in kW?",
    ),
    "no power": (cell("RES.csv", 1, "pRES", np.nan), "RES.csv: column pRES, row 3: it is empty"),
    "no profile": (cell("Load.csv", 0, "profile", np.nan), "Load.csv: column profile, row 2: it is empty"),
    "a profile that is not there": (
        cell("Load.csv", 0, "profile", "H0-Z"),
        "LoadProfile.csv: column H0-Z_pload is missing, the profile of a chosen node",
    ),
    "no time": (without("RESProfile.csv", "time"), "RESProfile.csv: column time is missing"),
    "an ISO time": (
        cell("LoadProfile.csv", 5, "time", "2016-05-01 01:15"),
        "LoadProfile.csv: column time, row 7: '2016-05-01 01:15' cannot be read; write 31.01.2016 13:45",
    ),
    "a row is missing": (
        without_row("LoadProfile.csv", 5),
        "LoadProfile.csv: column time, row 7: it is 01.05.2016 01:30, but on the clock of Europe/Berlin 01.05.",
    ),
    "times that run backwards": (
        cell("LoadProfile.csv", 1, "time", "30.04.2016 01:15"),
        "LoadProfile.csv: column time, row 3: it does not come after the row before",
    ),
    "a share that is none": (
        cell("LoadProfile.csv", 5, "H0-A_pload", 30),
        "LoadProfile.csv: column H0-A_pload, row 7: 30 is outside [0, 1.5]; a profile is a share",
    ),
    "negative PV": (
        cell("RESProfile.csv", 5, "PV5", -0.01),
        "RESProfile.csv: column PV5, row 7: -0.01 is outside [0, 1.5]; a profile is a share",
    ),
    "an empty share": (
        cell("RESProfile.csv", 5, "PV5", np.nan),
        "RESProfile.csv: column PV5, row 7: the reading at 2016-05-01 01:15 local time is empty",
    ),
    "a decimal comma": (
        cell("LoadProfile.csv", 5, "H0-A_pload", "0,3"),
        "LoadProfile.csv: column H0-A_pload, row 7: '0,3' is not a number",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_that_names_file_column_and_row(tmp_path: Path, case: str) -> None:
    change, what = ERRORS[case]
    files = make_simbench()
    change(files)
    with pytest.raises(UsageError, match=f"^{re.escape(str(tmp_path))}/grid/{re.escape(what)}") as caught:
        load(tmp_path, files)
    assert "\n" not in str(caught.value)


def test_another_zone_is_found_where_its_clock_changes(tmp_path: Path) -> None:
    files = make_simbench("2016-03-05")
    said = r"LoadProfile.csv: column time, row \d+: it is 27.03.2016 03:00, but on the clock of UTC 27.03"
    with pytest.raises(UsageError, match=said):
        load(tmp_path, files, zone="UTC", first="2016-02-25")


def test_nodes_that_are_none_are_named(tmp_path: Path) -> None:
    files = make_simbench()
    with pytest.raises(
        UsageError, match=r"Load.csv: column node has no 'LV1.101 Bus 44'; it has LV1.101 Bus 4, LV1.101 Bus 2"
    ):
        load(tmp_path, files, nodes=("LV1.101 Bus 44",))
    with pytest.raises(UsageError, match=r"Load.csv: column node has no 'X'; it has LV1.101 Bus 4"):
        load(tmp_path, files, nodes=("X",))
    with pytest.raises(UsageError, match=r"--nodes: 'LV1.101 Bus 4' stands twice"):
        load(tmp_path, files, nodes=("LV1.101 Bus 4", "LV1.101 Bus 4"))
    with pytest.raises(UsageError, match="--nodes: name at least one"):
        load(tmp_path, files, nodes=())
    (tmp_path / "grid" / "RES.csv").unlink()
    files.frames.pop("RES.csv")
    with pytest.raises(UsageError, match=r"RES.csv: there is no such file"):
        load(tmp_path, files)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "Load.csv").touch()
    with pytest.raises(UsageError, match=r"Load\.csv: it is a file; name the folder that holds"):
        read_simbench(tmp_path / "Load.csv", ["a"], parse_zone("Europe/Berlin"))
