"""Who stands on which board."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from prosumer_gym.baselines.registry import policy_names
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.entries import (
    ANCHORS,
    anchor_entries,
    board_entries,
    code_digest,
    content_digest,
    modes_of,
    own_code_digest,
    package_lock,
    parameters,
    policy_entry,
)
from prosumer_gym.scenarios import make_scenario

TWO_STAGE = [name for name in policy_names("open_loop") if name != "no-control"]
HOURLY = ["self-consumption", "greedy", "lyapunov"]


def names(boards: dict[str, list], mode: str) -> list[str]:  # type: ignore[type-arg]
    return [entry.name for entry in boards.get(mode, [])]


def test_without_a_mode_two_stage_policies_are_open_loop_and_the_others_mpc() -> None:
    boards = board_entries(None, None)
    assert names(boards, "open_loop") == TWO_STAGE
    assert names(boards, "mpc") == HOURLY


def test_with_a_mode_every_policy_that_has_it_is_on_its_board() -> None:
    assert set(names(board_entries("mpc", None), "mpc")) == {*TWO_STAGE, *HOURLY}
    only = board_entries("open_loop", None)
    assert list(only) == ["open_loop"]
    assert names(only, "open_loop") == TWO_STAGE


def test_the_reference_is_a_row_of_every_board_and_no_policy_on_it() -> None:
    assert [entry.name for entry in anchor_entries()] == list(ANCHORS)
    assert all(entry.mode == "both" for entry in anchor_entries())
    assert board_entries("mpc", ["no-control"]) == {"mpc": []}
    assert board_entries(None, ["no-control"]) == {"open_loop": []}
    assert names(board_entries(None, ["greedy", "no-control", "greedy"]), "mpc") == ["greedy"]


@pytest.mark.usefixtures("players")
def test_own_classes_stand_where_their_constructor_says() -> None:
    assert modes_of("players:TwoStage") == ("open_loop", "mpc")
    assert modes_of("players:Still") == ("mpc",)
    assert policy_entry("players:TwoStage", None).mode == "open_loop"
    assert policy_entry("players:TwoStage", "mpc").family == "-"
    assert policy_entry("greedy", None).family == "optimization"
    with pytest.raises(UsageError, match="decides hour by hour"):
        policy_entry("players:Still", "open_loop")
    for mode in (None, "open_loop", "mpc"):
        with pytest.raises(UsageError, match=r"'players:Hungry' cannot be made: TypeError: .*'weights'"):
            policy_entry("players:Hungry", mode)
    with pytest.raises(UsageError, match="has no 'Nobody'"):
        policy_entry("players:Nobody", None)


def test_own_code_is_the_module_and_what_it_imports_from_beside_it(
    players: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also inside functions, in packages and relatively; what else lies or is loaded beside it does not count."""
    package = players / "pack"
    package.mkdir()
    files = {
        players / "helper.py": "import numpy\nfrom deeper import depth\n",
        players / "deeper.py": "depth = 1\n",
        players / "bystander.py": "x = 1\n",
        package / "__init__.py": "",
        package / "other.py": "y = 1\n",
        package / "mine.py": (
            "import json\nfrom players import Still\nfrom .other import y\n\nclass Mine(Still):\n"
            "    def reset(self, seed):\n        import helper\n"
        ),
    }
    for path, source in files.items():
        path.write_text(source)

    def digest() -> str:
        for name in ("pack", "pack.mine", "pack.other", "helper", "deeper", "bystander", "players"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        return own_code_digest(policy_entry("pack.mine:Mine", None))

    before = digest()
    importlib.import_module("bystander")
    assert own_code_digest(policy_entry("pack.mine:Mine", None)) == before
    seen = {before}
    for path in (players / "helper.py", players / "deeper.py", package / "other.py", package / "mine.py"):
        path.write_text(files[path] + "# changed\n")
        seen.add(digest())
    assert len(seen) == 5
    (players / "bystander.py").write_text("x = 2\n")
    assert digest() in seen
    assert own_code_digest(policy_entry("no-control", None)) == ""


@pytest.mark.usefixtures("players")
def test_settings_are_the_plain_values_of_an_unfitted_policy() -> None:
    policy = policy_entry("players:TwoStage", "mpc").make()
    policy.k, policy._tau, policy.big, policy.bad = 7, 0.5, [1, 2], float("nan")  # type: ignore[attr-defined]
    assert parameters(policy) == {"k": 7, "mode": "mpc", "tau": 0.5}


def test_digests_are_stable_and_see_every_field() -> None:
    community = make_scenario("ieee33")
    assert content_digest(community) == content_digest(make_scenario("ieee33"))
    assert content_digest(community) != content_digest(community.replace(hours_per_day=48))
    assert len(code_digest()) == 64
    assert package_lock().keys() >= {"python", "numpy", "numba", "piqp", "prosumer-gym"}
