from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prosumer_gym.baselines import registry
from prosumer_gym.baselines.no_control import NoControl
from prosumer_gym.baselines.policy import MODES, Policy
from prosumer_gym.baselines.registry import (
    PolicyInfo,
    load_policy,
    make_policy,
    policy_info,
    policy_infos,
    policy_names,
    register,
)
from prosumer_gym.baselines.saa import SampleAverage
from prosumer_gym.errors import UsageError

USERS_MODULE = """
class Hourly:
    def fit(self, community, history): ...
    def reset(self, seed): ...
    def act(self, obs): ...

class TwoStage(Hourly):
    def __init__(self, *, mode): self.mode = mode

class Holder:
    Inner = Hourly

class Mute:
    def fit(self, community, history): ...
    def reset(self, seed): ...

class Odd(Hourly):
    def act(self, obs, state): ...

class Hungry(Hourly):
    def __init__(self, weights): ...

class Leaving(Hourly):
    def __init__(self): raise SystemExit(3)

class Optional(TwoStage):
    def __init__(self, mode, *, second=False, first=False, size=3): self.mode, self.chosen = mode, (first, second)

class Broken(Hourly):
    def __init__(self): raise OSError("no such\\nfile")

instance = Hourly()
"""


@pytest.fixture
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "my_lab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "policies.py").write_text(USERS_MODULE)
    (package / "broken.py").write_text("import a_library_that_nobody_has")
    (package / "leaving.py").write_text("raise SystemExit(3)")
    (package / "typo.py").write_text("def :")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_lab.policies"


def test_the_boards_hold_the_policies_that_belong_there() -> None:
    two_stage = ["no-control", "po", "saa", "er-saa", "knn", "kernel", "forest", "dcso", "dro", "ours"]
    assert policy_names("open_loop") == two_stage
    assert sorted(policy_names("mpc")) == sorted([*two_stage, "self-consumption", "greedy", "lyapunov"])
    assert policy_names() == policy_names("mpc")


def test_every_registered_policy_is_made_in_its_modes_and_in_no_other() -> None:
    for info in policy_infos():
        for mode in MODES:
            if mode in info.modes:
                policy = make_policy(info.name, mode)
                assert isinstance(policy, Policy)
                assert getattr(policy, "mode", mode) == mode
            else:
                with pytest.raises(UsageError, match=f"{info.name}' has no mode '{mode}'; use mpc"):
                    make_policy(info.name, mode)


def test_an_unknown_name_or_mode_says_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"'sae' is not known; choose one of: no-control, .*saa.* or package\.module"):
        make_policy("sae", "mpc")
    for call in (lambda: make_policy("saa", "closed"), lambda: policy_names("closed"), lambda: load_policy("a:B", "x")):
        with pytest.raises(UsageError, match=r"mode '\w+' is not known; choose one of: open_loop, mpc"):
            call()


def test_options_are_the_keywords_that_are_off_unless_named(users_module: str) -> None:
    kind: Any = type(load_policy(f"{users_module}:Optional", "mpc"))
    table: dict[str, Any] = {}
    register(table, PolicyInfo("new", "rule", MODES, "does nothing"), kind)
    assert table["new"][0].options == ("second", "first")
    assert {info.name: info.options for info in policy_infos()}["no-control"] == ()
    for info in policy_infos():
        for option in info.options:
            for mode in info.modes:
                with_it, without = make_policy(f"{info.name}+{option}", mode), make_policy(info.name, mode)
                assert type(with_it) is type(without)
                assert vars(with_it).items() >= (vars(without) | {option: True}).items()
                assert vars(without)[option] is False


def test_one_policy_has_one_name_in_whatever_order_its_options_are_given(
    users_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: Any = type(load_policy(f"{users_module}:Optional", "mpc"))
    table: dict[str, Any] = {}
    register(table, PolicyInfo("new", "rule", MODES, "does nothing"), kind)
    monkeypatch.setattr(registry, "_registered", lambda: table)
    for name in ("new+first+second", "new+second+first"):
        assert policy_info(name).name == "new+second+first"
        policy: Any = make_policy(name, "mpc")
        assert policy.chosen == (True, True)
    assert policy_info("new+first").name == "new+first"
    policy = make_policy("new+first", "open_loop")
    assert policy.chosen == (True, False)
    assert policy.mode == "open_loop"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("po+shuffled", r"'po\+shuffled': po has no option 'shuffled'; its options: .*permuted"),
        ("po+", r"'po\+': po has no option ''; its options: "),
        ("po+mode", r"po has no option 'mode'"),
        ("no-control+permuted", r"'no-control\+permuted': no-control has no option 'permuted'; it has none"),
        ("po+permuted+permuted", r"the option 'permuted' stands twice"),
        ("pro+permuted", r"'pro\+permuted' is not known; choose one of: no-control, "),
        ("+permuted", r"'\+permuted' is not known"),
        ("po permuted", r"'po permuted' is not known"),
    ],
)
def test_a_mistaken_option_is_one_clear_line(name: str, message: str) -> None:
    for call in (lambda: make_policy(name, "mpc"), lambda: policy_info(name)):
        with pytest.raises(UsageError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_users_class_takes_no_options_by_name(users_module: str) -> None:
    with pytest.raises(UsageError, match=r"a class is named package\.module:Class"):
        load_policy(f"{users_module}:Optional+first", "mpc")


def test_a_users_class_is_found_and_told_its_mode_if_it_asks(users_module: str) -> None:
    assert type(load_policy(f"{users_module}:Hourly", "mpc")).__name__ == "Hourly"
    assert type(load_policy(f"{users_module}:Holder.Inner", "mpc")).__name__ == "Hourly"
    for mode in MODES:
        policy: Any = load_policy(f"{users_module}:TwoStage", mode)
        assert policy.mode == mode


@pytest.mark.parametrize(
    ("entry", "mode", "message"),
    [
        ("my_lab.policies", "mpc", r"a class is named package\.module:Class"),
        ("my_lab.policies:", "mpc", r"a class is named package\.module:Class"),
        ("my lab:Hourly", "mpc", r"a class is named package\.module:Class"),
        ("my_lab/policies.py:Hourly", "mpc", r"a class is named package\.module:Class"),
        ("my_lab.policy:Hourly", "mpc", r"cannot be imported: ModuleNotFoundError: No module named 'my_lab\.policy'"),
        ("my_lab.broken:Hourly", "mpc", r"cannot be imported: ModuleNotFoundError: No module named 'a_library"),
        ("my_lab.typo:Hourly", "mpc", r"cannot be imported: SyntaxError: invalid syntax"),
        ("my_lab.leaving:Hourly", "mpc", r"cannot be imported: SystemExit: 3"),
        ("my_lab.policies:Leaving", "mpc", r"cannot be made: SystemExit: 3"),
        ("my_lab.policies:Nobody", "mpc", r"module 'my_lab\.policies' has no 'Nobody'"),
        ("my_lab.policies:instance", "mpc", r"is not a class but a Hourly"),
        ("my_lab.policies:Mute", "mpc", r"has no method act\(obs\)"),
        ("my_lab.policies:Odd", "mpc", r"its method act cannot be called as act\(obs\)"),
        ("my_lab.policies:Hourly", "open_loop", r"decides hour by hour .* belongs to mode 'mpc'"),
        ("my_lab.policies:Hungry", "mpc", r"cannot be made: TypeError: .*'weights'"),
        ("my_lab.policies:Broken", "mpc", r"cannot be made: OSError: no such file"),
    ],
)
def test_a_users_mistake_is_one_clear_line(users_module: str, entry: str, mode: str, message: str) -> None:
    del users_module
    with pytest.raises(UsageError, match=message) as caught:
        load_policy(entry, mode)
    assert "\n" not in str(caught.value)
    assert entry in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"name": "My Policy"}, NoControl, "lower-case words"),
        ({"name": "taken"}, NoControl, "registered twice"),
        ({"family": "magic"}, NoControl, "family 'magic' is not known"),
        ({"modes": ()}, NoControl, "choose from: open_loop, mpc"),
        ({"modes": ("mpc", "live")}, NoControl, "choose from: open_loop, mpc"),
        ({"summary": ""}, NoControl, "its summary is one line"),
        ({"summary": "a\nb"}, NoControl, "its summary is one line"),
        ({"modes": ("mpc",)}, SampleAverage, "stands on both boards"),
        ({}, int, "has no method fit"),
        ({}, "saa", "is not a class but a str"),
    ],
)
def test_registration_checks_what_is_registered(changes: dict[str, Any], kind: Any, message: str) -> None:
    fields: dict[str, Any] = {"name": "new", "family": "rule", "modes": MODES, "summary": "does nothing"}
    table: dict[str, Any] = {}
    register(table, PolicyInfo(**{**fields, "name": "taken"}), NoControl)
    with pytest.raises(UsageError, match=message):
        register(table, PolicyInfo(**{**fields, **changes}), kind)
    assert list(table) == ["taken"]


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def without_solver(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "prosumer_gym.baselines.er_saa":
            raise ModuleNotFoundError("No module named 'piqp'", name="piqp")
        return real(name, *args, **kwargs)

    registry._registered.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without_solver)
    with pytest.raises(UsageError, match=r"need 'piqp'.*pip install '\.\[baselines\]' in the checkout"):
        policy_names()
    monkeypatch.undo()
    assert "er-saa" in policy_names()
