from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_policies import play, small_community, small_days

from prosumer_gym.baselines import fit_cache
from prosumer_gym.baselines.fit_cache import HOME_VARIABLE, cache_home, cached, fit_key
from prosumer_gym.baselines.registry import make_policy
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

calls: list[dict[str, Any]] = []


def total_load(history: Dataset, **parameters: Any) -> dict[str, Any]:
    calls.append(parameters)
    if parameters.get("fails"):
        raise UsageError("too few days")
    # Of another memory layout than a copy of it has: sums over it differ in the last bit.
    return {"load": np.swapaxes(history.load_kw[history.is_training], 0, 2), **parameters}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    calls.clear()
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def history() -> Dataset:
    return small_days().training_history()


def test_a_fit_is_computed_once_and_every_copy_is_alike_and_its_own() -> None:
    one, two = cached(total_load, history(), scale=2), cached(total_load, history(), scale=2)
    assert calls == [{"scale": 2}]
    assert one["load"].flags == two["load"].flags
    assert one["load"].sum().hex() == two["load"].sum().hex()
    one["load"][:] = 0.0
    np.testing.assert_array_equal(cached(total_load, history(), scale=2)["load"], two["load"])


def test_nothing_that_decides_a_fit_is_left_out_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    days = small_days()
    keys = {fit_key(total_load, history(), scale=2)}
    keys.add(fit_key(cached, history(), scale=2))
    keys.add(fit_key(total_load, history(), scale=3))
    keys.add(fit_key(total_load, history()))
    changed = np.array(days.load_kw)
    changed[days.days("train")[3], 2, 1] += 1e-9
    keys.add(fit_key(total_load, days.replace(load_kw=changed).training_history(), scale=2))
    monkeypatch.setattr(fit_cache, "_circumstances", lambda: ["other source"])
    keys.add(fit_key(total_load, history(), scale=2))
    assert len(keys) == 6
    monkeypatch.undo()
    changed = np.array(days.load_kw)
    changed[days.days("dev")] *= 2.0  # no fit sees these days
    assert fit_key(total_load, days.replace(load_kw=changed).training_history(), scale=2) in keys


def test_the_digest_of_the_source_reads_every_file_of_the_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "room_of_fits"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"prosumer_gym", "prosumer_gym.datasets", "prosumer_gym.baselines"} <= set(fit_cache._ROOMS)
    monkeypatch.setattr(fit_cache, "_ROOMS", ("room_of_fits",))
    digests = set()
    for text in ("a = 1", "a = 2"):
        (package / "module.py").write_text(text)
        digests.add(fit_cache.source_digest.__wrapped__())
    assert len(digests) == 2


def test_what_the_function_raises_is_raised_and_not_kept(own_folder: Path) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match="too few days"):
            cached(total_load, history(), fails=True)
    assert len(calls) == 2
    assert not own_folder.exists() or not list(own_folder.rglob("*.*"))


@pytest.mark.parametrize("damage", ["short", "other byte", "empty", "folder"])
def test_a_broken_file_is_made_again(damage: str) -> None:
    whole = cached(total_load, history())
    (path,) = cache_home().iterdir()
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        broken = {"short": content[:-1], "other byte": content[:-9] + b"\0" * 9, "empty": b""}[damage]
        path.write_bytes(broken)
    for _ in range(2):
        np.testing.assert_array_equal(cached(total_load, history())["load"], whole["load"])
    assert len(calls) == (3 if damage == "folder" else 2)
    assert damage == "folder" or path.read_bytes() == content


def test_without_a_folder_to_write_to_fits_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "file"))
    one, two = (cached(total_load, history()) for _ in range(2))
    np.testing.assert_array_equal(one["load"], two["load"])
    assert len(calls) == 2


def test_what_was_not_used_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    cached(total_load, history(), number=0)
    (path,) = cache_home().iterdir()
    monkeypatch.setattr(fit_cache, "SIZE_LIMIT_BYTES", int(2.5 * path.stat().st_size))
    for age, number in ((300, 0), (200, 1)):
        cached(total_load, history(), number=number)
        newest = max(cache_home().iterdir(), key=lambda p: p.stat().st_mtime)
        os.utime(newest, (newest.stat().st_atime, newest.stat().st_mtime - age))
    cached(total_load, history(), number=0)  # used again
    cached(total_load, history(), number=2)
    calls.clear()
    for number in (0, 2):
        cached(total_load, history(), number=number)
    assert calls == []
    cached(total_load, history(), number=1)
    assert calls == [{"number": 1}]


def test_a_fit_runs_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    real = fit_cache.threadpool_limits
    monkeypatch.setattr(fit_cache, "threadpool_limits", lambda n: (limits.append(n), real(n))[1])
    cached(total_load, history())
    cached(total_load, history())
    assert limits == [1]


@pytest.mark.parametrize("name", ["po", "er-saa", "po+permuted"])
def test_a_policy_acts_the_same_to_the_bit_with_a_cold_a_warm_and_no_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days, community = small_days(), small_community()
    (tmp_path / "file").write_text("in the way")
    played = []
    for home in ("cache", "cache", "file/none"):
        monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / home))
        policy = make_policy(name, "mpc")
        policy.fit(community, history())
        played.append(play(policy, community, days, int(days.days("dev")[1]))[1])
    for other in played[1:]:
        for one, two in zip(played[0], other, strict=True):
            for key in one:
                np.testing.assert_array_equal(one[key], two[key])


def test_two_processes_may_fit_at_once(own_folder: Path) -> None:
    program = (
        "from support_policies import small_days; from prosumer_gym.baselines.fit_cache import cached\n"
        "from prosumer_gym.baselines.forecast import DayForecaster\n"
        "print(cached(DayForecaster.fit, small_days().training_history(), permuted=False).errors.sum().hex())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    both = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {process.communicate()[0] for process in both}
    assert len(said) == 1
    assert [process.returncode for process in both] == [0, 0]
    assert len(list((own_folder / "fits").iterdir())) == 1
