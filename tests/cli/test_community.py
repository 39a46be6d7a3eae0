"""`prosumer-gym community` and `prosumer-gym data resize`, from the outside."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from support import tiny_dataset

from prosumer_gym import community_fields
from prosumer_gym.cli import main
from prosumer_gym.cli_community import field_rows, filled
from prosumer_gym.community import Fleet
from prosumer_gym.community_file import load_community
from prosumer_gym.datasets.resize import resized
from prosumer_gym.datasets.store import load_dataset, save_dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario

PAGE = Path(__file__).resolve().parents[2] / "docs" / "community.md"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process, in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.setenv("PROSUMER_GYM_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


# new ------------------------------------------------------------------------------------------------------------------


def test_new_writes_a_file_that_loads_and_can_be_shown(command: Command) -> None:
    code, out, _ = command("community", "new", "street.yaml")
    assert code == 0
    assert "prosumer-gym community show street.yaml" in out
    community = load_community("street.yaml")
    assert (community.name, community.num_prosumers) == ("street", 10)
    assert command("community", "show", "street.yaml")[0] == 0


def test_what_the_new_file_says_are_the_defaults_but_for_its_examples(command: Command) -> None:
    command("community", "new", "street.yaml")
    fleet = load_community("street.yaml").fleet
    for name in Fleet.__dataclass_fields__:
        expected = np.array(getattr(Fleet.identical(fleet.bus), name))
        if name == "battery_power_kw":
            expected[3] = 0.0
        if name == "pv_ratio":
            expected[7] = 1.5
        assert np.array_equal(getattr(fleet, name), expected), name
    assert fleet.bus[7] == 17


def test_what_the_new_file_says_in_comments_is_right_too(command: Command) -> None:
    """With the comment signs away, every commented field is a field, and has its default."""
    command("community", "new", "street.yaml")
    text = Path("street.yaml").read_text()
    tariff = yaml.safe_load(re.sub(r"^# ", "", text[text.index("# tariff:") :], flags=re.MULTILINE))
    assert tariff["tariff"] == community_fields.Prices().model_dump()
    top = yaml.safe_load("\n".join(re.findall(r"^# ((?:slack_v_pu|v_min_pu|v_max_pu|hours_per_day): \S+)", text, re.M)))
    feeder = make_scenario("ieee33").feeder
    assert top == {**{k: getattr(feeder, k) for k in ("slack_v_pu", "v_min_pu", "v_max_pu")}, "hours_per_day": 24}
    edges = yaml.safe_load(re.sub(r"^  # ", "", "".join(re.findall(r"^  # .*\n", text, re.M)), flags=re.M))
    prosumers = text[text.index("# prosumers:") : text.index("trade:")]
    listed = yaml.safe_load(re.sub(r"^# ", "", prosumers, flags=re.M))
    community_fields.CommunityFile.model_validate({**listed, "trade": edges})
    table = text[text.index("# feeder:") : text.index("# slack")]
    community_fields.CommunityFile.model_validate({**listed, **yaml.safe_load(re.sub(r"^# ", "", table, flags=re.M))})


def test_the_new_file_names_every_field(command: Command) -> None:
    command("community", "new", "street.yaml")
    text = Path("street.yaml").read_text()
    for row in field_rows():
        name = row.path.rpartition(".")[2]
        assert re.search(rf"\b{name}\b", text), row.path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("street.txt", "street.txt: let the name end in .yaml, by which a community file is known"),
        ("street", "street: let the name end in .yaml, by which a community file is known"),
        ("there.yaml", "there.yaml: is there already; choose another name"),
        ("none/street.yaml", "none/street.yaml: cannot be written (No such file or directory); choose another place"),
    ],
)
def test_new_overwrites_nothing(command: Command, name: str, says: str) -> None:
    Path("there.yaml").write_text("mine")
    assert command("community", "new", name) == (2, "", f"prosumer-gym: {says}\n")
    assert Path("there.yaml").read_text() == "mine"


def test_a_file_may_be_called_anything(command: Command) -> None:
    assert command("community", "new", "Elm Street (2).yml")[0] == 0
    assert load_community("Elm Street (2).yml").name == "Elm-Street-2"


# show -----------------------------------------------------------------------------------------------------------------


def test_show_tells_feeder_numbers_mechanism_and_sizes(command: Command) -> None:
    Path("street.yaml").write_text(
        "feeder: case69\nslack_v_pu: 1.02\nmechanism: double-auction\ntariff: {da_sell_ratio: 0.5}\n"
        "prosumers: {buses: [4, 4, 68], battery: {power_kw: 8}, overrides: {2: {battery: {power_kw: 2}, units: 3}}}\n"
    )
    code, out, _ = command("community", "show", "street.yaml")
    assert code == 0
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "case69: 69 buses, 12.66 kV, nominal load 3802 kW + j2695 kvar" in lines["feeder"]
    assert "1.02 p.u. at the substation, limits 0.95 ... 1.05 p.u." in lines["voltage"]
    assert "N = 3 on 2 buses: 4 68" in lines["prosumers"]
    assert "E = 3 edges, 5 kW each, fee 0.2 ct/kWh" in lines["trade"]
    assert "double-auction: one auction an hour" in lines["mechanism"]
    assert lines["tariff"].endswith("da_sell_ratio 0.5".ljust(len(lines["tariff"]) - lines["tariff"].index("da_sell")))
    assert re.search(r"battery, kW +2 \.\.\. 8 +18", out)
    assert re.search(r"units at the bus +1 \.\.\. 3 +5", out)
    assert re.search(r"battery, usable kWh +190 +570", out)
    assert "at its connection limit too, 250 kW together" in " ".join(out.split())  # units count at the bus


def test_show_tells_what_the_feeder_holds(command: Command) -> None:
    _, out, _ = command("community", "show", "ieee33")
    assert "0.950 p.u. at bus 17 at the evening peak of the rest of the feeder (2 buses too low)" in out
    text = " ".join(out.split())
    assert "0.930 p.u. at bus 17 with every prosumer at its connection limit too, 500 kW together (14 buses too" in text
    Path("street.yaml").write_text("prosumers: {count: 1000}")
    text = " ".join(command("community", "show", "street.yaml")[1].split())
    assert "none with every prosumer at its connection limit too, 50000 kW together: more than the feeder can" in text
    assert "N = 1000 on 32 buses: 1 ... 32" in text


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_show_fits_the_terminal(command: Command, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = command("community", "show", "ieee33")
    assert max(len(line) for line in out.splitlines()) <= int(columns)


def test_a_file_that_is_wrong_is_one_line_and_exit_code_2(command: Command) -> None:
    Path("street.yaml").write_text("prosumers: {count: 3, battery: {power_kw: -1}}")
    says = "prosumer-gym: street.yaml: prosumers.battery.power_kw: -1 must not be negative\n"
    for arguments in (("community", "show", "street.yaml"), ("bench", "--scenario", "street.yaml")):
        assert command(*arguments) == (2, "", says)
    code, out, err = command("community", "show", "ieee34")
    assert (code, out) == (2, "")
    assert "scenario 'ieee34' is not known; choose one of: " in err
    assert err.endswith("or name a .yaml file\n")


def test_the_commands_are_in_the_help(command: Command) -> None:
    assert re.search(r"^  community ", command("--help")[1], re.MULTILINE)
    _, out, _ = command("community", "--help")
    for name in ("new", "show", "fields"):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)


# fields ---------------------------------------------------------------------------------------------------------------


def test_fields_lists_every_field_with_unit_and_default(command: Command) -> None:
    _, out, _ = command("community", "fields")
    assert re.search(r"^prosumers\.battery *$", out, re.MULTILINE)
    assert re.search(r"^  power_kw +kW +20\.0 +largest charging", out, re.MULTILINE)
    assert re.search(r"^mechanism +bilateral ", out, re.MULTILINE)
    paths = [row.path for row in field_rows()]
    assert len(paths) == len(set(paths))
    assert {"name", "feeder.base_kv", "prosumers.count", "prosumers[].bus", "trade.edges[].between"} <= set(paths)
    assert all(row.what for row in field_rows())
    assert all(row.unit for row in field_rows() if re.search(r"_(kw|kwh|pu|kv|mva)$|_per_", row.path))


def test_the_page_has_the_table_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m prosumer_gym.cli_community docs/community.md"
    with pytest.raises(UsageError, match="marks the table of fields 0 times"):
        filled("nothing")


def test_the_examples_of_the_page_load(command: Command) -> None:
    assert command is not None
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        Path("street.yaml").write_text(example)
        load_community("street.yaml")


def test_the_errors_of_the_page_are_those_of_the_code(command: Command) -> None:
    wrong = (
        "prosumers: [{bus: 5}, {bus: 8}, {bus: 9, battery: {power_kw: -5}}]",
        "prosumers: {count: 3, batery: {power_kw: 5}}",
        "prosumers: [{bus: 40}]",
        "prosumers: {count: 5}\ntrade: {edges: [[0, 1], [1, 2], [2, 3], [4, 4]]}",
        "feeder: ieee33\nprosumers:\n  count: 3\n  units: 1\n  pv_ratio: 1\n  power_factor: 1\n  count: 4",
    )
    told = []
    for text in wrong:
        Path("street.yaml").write_text(text)
        told.append("    " + command("community", "show", "street.yaml")[2].strip().removeprefix("prosumer-gym: "))
    assert re.findall(r"^    street\.yaml: .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == told


# where a scenario is named --------------------------------------------------------------------------------------------


def test_a_file_can_be_played_and_scored(command: Command) -> None:
    save_dataset(resized(tiny_dataset(num_days=40), 3, name="three"), Path("home/three"))
    Path("street.yaml").write_text("prosumers: {count: 3}\n")
    env = gymnasium.make("ProsumerGym/TwoStage-v0", dataset="three", scenario="street.yaml", split="train")
    obs, _ = env.reset(seed=0)
    assert obs["position_kw"].shape == (3, 24)
    arguments = ("--dataset", "three", "--scenario", "street.yaml", "--days", "1", "--jobs", "1", "--out", "o")
    code, out, err = command("score", "no-control", *arguments)
    assert code == 0, err
    assert "no-control" in out
    assert any(".street." in path.name for path in Path("o/records").iterdir())


@pytest.mark.parametrize("num", [1, 2, 3, 1000])
def test_communities_of_every_size_play_in_the_environment(command: Command, num: int) -> None:
    assert command is not None
    Path("street.yaml").write_text(f"feeder: case141\nprosumers: {{count: {num}}}\n")
    dataset = resized(tiny_dataset(num_days=5, num_prosumers=2), num, scale=0.05)
    env = gymnasium.make("ProsumerGym/TwoStage-v0", dataset=dataset, scenario="street.yaml", split="dev")
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(25):
        obs, reward, over, _, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(obs)
        assert np.isfinite(reward)
    assert over


def test_another_number_of_prosumers_than_the_data_has_is_said(command: Command) -> None:
    Path("street.yaml").write_text("prosumers: {count: 3}\n")
    code, _, err = command("bench", "--dataset", "tehran-v0", "--scenario", "street.yaml")
    assert code == 2
    assert "it has 10 prosumers, the community has 3" in err


# data resize ----------------------------------------------------------------------------------------------------------


def test_resize_stores_a_set_that_is_found_by_its_name(command: Command) -> None:
    tiny = tiny_dataset(num_days=10, num_prosumers=3)
    save_dataset(tiny, Path("home/tiny"))
    arguments = ("data", "resize", "tiny", "--prosumers", "7", "--id", "seven", "--scale", "0.5", "--seed", "4")
    code, out, _ = command(*arguments)
    assert code == 0
    assert out.startswith("seven: 7 prosumers; train 6, dev 2, test 2, lead-in 24\n")
    expected = resized(tiny, 7, scale=0.5, seed=4, name="seven")
    assert load_dataset("seven").manifest == expected.manifest
    assert load_dataset("seven").card == expected.card
    assert expected.manifest.sha256 in out
    assert "unchanged in" in command(*arguments)[1]
    assert "another data set of this name is there" in command(*arguments[:-1], "5")[2]
    assert command(*arguments[:-1], "5", "--force")[0] == 0
    assert command("data", "verify", "seven")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "--prosumers", "3", "--id", "x"), "data set 'nowhere' is unknown"),
        (("tehran-v0", "--prosumers", "0", "--id", "x"), "0 prosumers: at least one is needed"),
        (("tehran-v0", "--prosumers", "3", "--id", "tehran-v0"), "a data set of the package has this name"),
        (("tehran-v0", "--prosumers", "3", "--id", "X"), "id 'X': use a-z, 0-9"),
    ],
)
def test_resize_says_what_is_wrong(command: Command, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = command("data", "resize", *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_the_package_s_sets_are_listed_and_verified(command: Command) -> None:
    _, out, _ = command("data", "list")
    for name in ("tehran-v0", "tehran-shift-v0"):
        assert re.search(rf"^{name} +270/90/90 +10 .*with the package", out, re.MULTILINE)
        assert command("data", "verify", name)[1].startswith(f"ok     {name}: train 270, dev 90, test 90")


def test_only_the_table_of_the_page_is_written_anew() -> None:
    text = filled("a\n<!-- table: fields -->\nold\n<!-- end -->\nb\n")
    assert text.startswith("a\n<!-- table: fields -->\n\n| field | unit | default | what it is |\n")
    assert text.endswith("|\n\n<!-- end -->\nb\n")
    assert "old" not in text
