"""`prosumer-gym bench` and `prosumer-gym score`, from the outside."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import tiny_dataset

from prosumer_gym import __version__, cli
from prosumer_gym.cli import available_cores, main
from prosumer_gym.datasets.store import save_dataset
from prosumer_gym.leaderboard.records import canonical

PLAYERS = """
import os, time
import numpy as np

class Still:
    def fit(self, community, history):
        self.community = community
    def reset(self, seed):
        pass
    def act(self, obs):
        N, H, E = self.community.num_prosumers, self.community.hours_per_day, self.community.num_edges
        return {"day_ahead": np.full((N, H), 0.1), "battery": np.zeros(N), "shiftable": np.zeros(N),
                "curtail": np.zeros(N), "trade": np.zeros(2 * E)}

class Planner(Still):
    def __init__(self, mode):
        self.mode = mode

class Poor(Still):
    def act(self, obs):
        if obs["hour"][0] == 3:
            raise ValueError("lost")
        return super().act(obs)

class Broken(Still):
    def fit(self, community, history):
        raise ValueError("no fit")

class Slow(Still):
    def reset(self, seed):
        with open(os.environ["SLOW_LOG"], "a") as log:
            log.write(f"{seed}\\n")
        time.sleep(0.3)

class Hungry(Still):
    def __init__(self, weights):
        pass

class NotAPolicy:
    pass

number = 3
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("data")
    save_dataset(tiny_dataset(num_days=60), home / "tiny")
    three = tiny_dataset(num_days=60, num_prosumers=3)
    save_dataset(three.replace(manifest=three.manifest.model_copy(update={"id": "three"})), home / "three")
    return home


@pytest.fixture
def here(tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module of policies, and a small data set among the user's own."""
    (tmp_path / "players.py").write_text(PLAYERS)
    monkeypatch.setenv("PROSUMER_GYM_DATA", str(data_home))
    monkeypatch.setenv("SLOW_LOG", str(tmp_path / "slow.log"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "players", raising=False)
    return tmp_path


@pytest.fixture
def command(here: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process: exit code, stdout, stderr."""
    assert here.exists()

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


# what it shows ----------------------------------------------------------------------------------------------------


def test_bench_shows_each_policy_on_its_board_beside_reference_and_oracles(command: Command, here: Path) -> None:
    code, out, _ = command(
        "bench", "--dataset", "tiny", "--policies", "players:Planner,players:Still", "--days", "8", "--jobs", "1",
        "--out", "results",
    )  # fmt: skip
    assert code == 0
    first, second = out.split("mpc: every hour is decided anew")
    assert first.startswith("open_loop: the plan of the day before is followed")
    for board, policy, other in (
        (first, "players:Planner", "players:Still"),
        (second, "players:Still", "players:Planner"),
    ):
        for name in (policy, "no-control", "perfect-day-ahead", "oracle-cost", "oracle-peak", "oracle-voltage"):
            assert len(re.findall(rf"^ {name} ", board, re.MULTILINE)) == 1, name
        assert f" {other} " not in board.split("tiny (")[0]
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 120
    assert "tiny (" in out
    assert "test: 8 days" in out
    assert "no-control: " in out
    assert "best J of any oracle: " in out
    assert "intervals: Student t, 2 weeks" in out
    records = sorted((here / "results" / "records").glob("*.json"))
    assert len(records) == 7
    for picture in ("dispatch", "voltages", "cost-peak"):
        content = (here / "results" / "pictures" / f"{picture}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000


def test_the_rows_of_a_board_come_best_first(command: Command) -> None:
    _, out, _ = command("bench", "--dataset", "tiny", "--policies", "players:Still", "--days", "2", "--jobs", "1")
    scores = [float(line.split()[1]) for line in out.splitlines() if re.match(r" \S+ +-?\d\.\d{3} ", line)]
    assert len(scores) == 6
    assert scores == sorted(scores, reverse=True)
    assert "fewer than 8 days: no intervals and no ranks" in out


def test_with_a_mode_there_is_one_board(command: Command) -> None:
    code, out, _ = command(
        "bench", "--dataset", "tiny", "--policies", "players:Planner", "--mode", "mpc", "--days", "1", "--jobs", "1"
    )
    assert code == 0
    assert "open_loop:" not in out
    assert " players:Planner " in out.split("mpc: every hour")[1]


def test_a_board_of_episodes_says_so_and_has_a_folder_of_its_own(command: Command, here: Path) -> None:
    run = ("--dataset", "tiny", "--days-per-episode", "5", "--jobs", "1")
    code, out, err = command("bench", *run, "--policies", "players:Still")
    assert code == 0
    assert "mpc: every hour is decided anew; episodes of 5 days" in out
    assert "test: 2 episodes of 5 days, " in out
    assert "2 days of the split are in no whole episode: left out" in out
    assert "fewer than 8 episodes: no intervals and no ranks" in out
    assert "no-control: 2 episodes\n" in err
    folder = here / "runs" / "tiny-ieee33-test-5days"
    assert (folder / "pictures" / "dispatch.png").exists()
    (record,) = (folder / "records").glob("tiny.ieee33.test2x5.mpc.central.players-Still.*.json")
    j = re.search(r"^ players:Still +(-?\d\.\d{3})", out, re.MULTILINE)
    assert j is not None
    _, again, _ = command("score", str(record))
    assert f"J {j.group(1)}, no interval" in again
    assert "unranked: fewer than 8 episodes" in again  # of ten days
    assert json.loads(record.read_text())["result"]["dataset"]["week"] == [0] * 10  # both begin in the first week
    code, out, _ = command("score", "players:Still", *run)
    assert code == 0
    assert f" players:Still {j.group(1)} " in re.sub(" +", " ", out)


def test_results_go_to_runs_by_default(command: Command, here: Path) -> None:
    command("bench", "--dataset", "tiny", "--policies", "no-control", "--split", "dev", "--days", "1", "--jobs", "1")
    assert (here / "runs" / "tiny-ieee33-dev" / "records").is_dir()


def test_score_prints_a_line_and_the_details_and_the_record_scores_to_the_same(command: Command, here: Path) -> None:
    code, out, _ = command("score", "players:Still", "--dataset", "tiny", "--days", "8", "--jobs", "1", "--out", "o")
    assert code == 0
    j = re.search(r"^ players:Still +(-?\d\.\d{3})", out, re.MULTILINE)
    assert j is not None
    for label in ("peak ratio", "self-consumption", "traded", "overloads", "Jain index", "worst 5 % of days"):
        assert label in out
    (record,) = (here / "o" / "records").glob("*players-Still*.json")
    code, again, _ = command("score", str(record))
    assert code == 0
    assert f"J {j.group(1)}, 95 % interval" in again
    assert "scored by other code" not in again


def test_a_record_scored_again_after_the_score_was_mended_says_so(command: Command, here: Path) -> None:
    command("score", "no-control", "--dataset", "tiny", "--days", "1", "--jobs", "1", "--out", "o")
    path = changed_record(here, lambda result: result["headline"].update(j=0.5))
    code, out, _ = command("score", str(path))
    assert code == 0
    assert "the record says J = 0.500000: it was scored by other code" in out


def changed_record(here: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The record of the only oracle of costs in `o`, changed, with the digest that belongs to it."""
    (path,) = (here / "o" / "records").glob("*oracle-cost*.json")
    content = json.loads(path.read_text())
    change(content["result"])
    content["result_sha256"] = hashlib.sha256(canonical(content["result"])).hexdigest()
    path.write_text(json.dumps(content))
    return path


def test_a_record_of_other_weights_or_an_impossible_score_is_refused_by_name(command: Command, here: Path) -> None:
    command("score", "no-control", "--dataset", "tiny", "--days", "1", "--jobs", "1", "--out", "o")

    def cheaper(result: dict[str, Any]) -> None:
        result["runs"][0]["days"]["cost_ct"][0] -= 1e6

    def heavier(result: dict[str, Any]) -> None:
        result["protocol"]["weights"]["cost"] = 9.0

    for change, says in (
        (cheaper, "oracle-cost: on day 1 of the board its cost_ct is 1e+06 below"),
        (heavier, "result.protocol.weights: cost=9 peak=0.2 voltage=0.2 are not those of protocol 1, cost=0.6"),
    ):
        path = changed_record(here, change)
        code, out, err = command("score", str(path))
        assert (code, out) == (2, "")
        assert err.startswith(f"prosumer-gym: {path}: {says}")
        assert len(err.splitlines()) == 1


# what goes wrong --------------------------------------------------------------------------------------------------


def test_a_policy_that_fails_too_often_is_unranked_and_fails_the_run(command: Command) -> None:
    code, out, _ = command("score", "players:Poor", "--dataset", "tiny", "--days", "2", "--jobs", "1")
    assert code == 1
    assert "4.0 %" in out
    assert "players:Poor: 4.0 % of its steps failed, over 1 %: unranked" in out
    assert re.search(r"first error: players:Poor: \d{4}-\d\d-\d\d, hour 3: ValueError: lost", out)


def test_a_policy_whose_fit_fails_leaves_the_others_alone(command: Command) -> None:
    code, out, err = command(
        "bench", "--dataset", "tiny", "--policies", "players:Broken,players:Still", "--days", "1", "--jobs", "1"
    )
    assert code == 1
    assert "players:Broken (mpc): not played: fit failed: ValueError: no fit" in out
    assert re.search(r"^ players:Still +-?\d", out, re.MULTILINE)
    assert "Traceback" not in err


TINY = ("bench", "--dataset", "tiny")
QUICK = (*TINY, "--policies", "no-control")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("bench", "--dataset", "nowhere"), "data set 'nowhere' is unknown"),
        ((*TINY, "--scenario", "ieee34"), "scenario 'ieee34' is not known; choose one of: ieee33"),
        ((*TINY, "--split", "tests"), "--split 'tests' is not known; choose one of: train, dev, test"),
        ((*TINY, "--mode", "closed"), "mode 'closed' is not known; choose one of: open_loop, mpc"),
        ((*TINY, "--policies", "sea"), "policy 'sea' is not known; choose one of: no-control"),
        ((*TINY, "--policies", ","), "--policies: no name given"),
        ((*TINY, "--policies", "greedy", "--mode", "open_loop"), "policy 'greedy' has no mode 'open_loop'"),
        ((*QUICK, "--days", "0"), "--days 0: at least one day"),
        ((*QUICK, "--days", "-3"), "--days -3: at least one day"),
        ((*QUICK, "--days", "13"), "--days 13: split 'test' of tiny has 12 days"),
        ((*QUICK, "--days-per-episode", "0"), "--days-per-episode 0: an episode has at least one day"),
        ((*QUICK, "--days-per-episode", "-1"), "--days-per-episode -1: an episode has at least one day"),
        ((*QUICK, "--days-per-episode", "13"), "among the 12 days of split 'test' of tiny at most 12 follow each"),
        ((*QUICK, "--days", "4", "--days-per-episode", "5"), "among the first 4 days of split 'test' of tiny"),
        ((*QUICK, "--days-per-episode", "a month"), "Invalid value for '--days-per-episode': give a whole number"),
        (("score", "empty.json", "--days-per-episode", "2"), "--days-per-episode: empty.json is scored as it is"),
        (("bench", "--dataset", "three"), "it has 3 prosumers, the community has 10"),
        (("bench", "--days", "many"), "Invalid value for '--days'"),
        ((*QUICK, "--jobs", "0"), "--jobs 0: at least one process"),
        ((*QUICK, "--out", "players.py/x"), "cannot be written to"),
        (("bench", "--fast"), "No such option"),
        (("compare",), "No such command 'compare'"),
        (("score",), "Missing argument"),
        (("score", "players:Absent"), "module 'players' has no 'Absent'"),
        (("score", "players:NotAPolicy"), "policy 'players:NotAPolicy' has no method fit(community, history)"),
        (("score", "players:number"), "policy 'players:number' is not a class but a int"),
        (("score", "nobody:Here"), "module 'nobody' cannot be imported"),
        (("score", "players:Still", "--mode", "open_loop"), "decides hour by hour"),
        (("score", "missing.json"), "missing.json: cannot be read"),
        (("score", "broken.json"), "broken.json: is not JSON"),
        (("score", "empty.json"), "empty.json: result: field required"),
        (("score", "empty.json", "--days", "3"), "--days: empty.json is scored as it is"),
        (("score", "empty.json", "--dataset", "tehran-v0"), "--dataset: empty.json is scored as it is"),
        (("score", "empty.json", "--fresh"), "--fresh: empty.json is scored as it is"),
        (("score", "players:Hungry"), "policy 'players:Hungry' cannot be made: TypeError: "),
        (("score", "leaves:Policy"), "module 'leaves' cannot be imported: SystemExit: 0"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line_and_exit_code_2(
    command: Command, here: Path, arguments: tuple[str, ...], says: str
) -> None:
    (here / "broken.json").write_text("{")
    (here / "empty.json").write_text("{}")
    (here / "leaves.py").write_text("raise SystemExit(0)")
    code, out, err = command(*arguments)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("prosumer-gym: ")
    assert out == ""


def test_help_lists_the_commands_and_comes_without_the_heavy_libraries() -> None:
    """In a process of its own: bad input and help must not wait for compilers, solvers and plotting."""
    program = (
        "import sys\n"
        "from prosumer_gym.cli import main\n"
        "try:\n    main(['bench', '--days', 'many'])\n"
        "except SystemExit as e:\n    assert e.code == 2\n"
        "heavy = {'numba', 'pandas', 'scipy', 'sklearn', 'cvxpy', 'matplotlib', 'piqp'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("bench", "score", "data"):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["bench"], ["bench", "--policies", "players:Still"], ["score", "broken.json"]])
def test_a_core_installation_is_told_what_to_install(here: Path, arguments: list[str]) -> None:
    (here / "broken.json").write_text("{")
    program = (
        "import sys\n"
        "for name in ('scipy', 'sklearn', 'cvxpy', 'piqp', 'clarabel', 'highspy', 'threadpoolctl', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "from prosumer_gym.cli import main\n"
        f"main({arguments!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "run pip install '.[baselines,plots]' in the checkout" in done.stderr


def test_pictures_that_cannot_be_written_are_one_line_and_the_records_stay(command: Command, here: Path) -> None:
    (here / "o").mkdir()
    (here / "o" / "pictures").write_text("")
    code, out, err = command(*QUICK, "--days", "1", "--jobs", "1", "--out", "o")
    assert code == 2
    assert err.splitlines()[-1] == f"prosumer-gym: {Path('o') / 'pictures'}: cannot be written to (File exists); " + (
        "choose another --out"
    )
    assert "Traceback" not in err
    assert f"records: {Path('o') / 'records'}" in out
    assert len(list((here / "o" / "records").glob("*.json"))) == 5


def test_short_options(command: Command) -> None:
    for arguments in (["-h"], ["bench", "-h"]):
        code, out, _ = command(*arguments)
        assert code == 0
        assert out.startswith("Usage: prosumer-gym")
    assert command("--version") == (0, f"{__version__}\n", "")


def test_one_day_is_no_days(command: Command) -> None:
    _, out, err = command(*QUICK, "--days", "1", "--jobs", "1")
    assert "test: 1 day, " in out
    assert "no-control: 1 day\n" in err


def test_the_first_run_says_that_it_compiles(command: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = (*QUICK, "--days", "1", "--jobs", "1")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cli, "__file__", str(here / "cli.py"))
    assert "the first run compiles" in command(*run)[2]
    (here / "__pycache__").mkdir(exist_ok=True)
    (here / "__pycache__" / "hour.play-1.py311.nbi").write_text("")
    assert "the first run compiles" not in command(*run)[2]


def test_cores_are_at_least_one() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


# being stopped ----------------------------------------------------------------------------------------------------


def start(here: Path, jobs: int, days_per_episode: int = 1) -> subprocess.Popen[str]:
    """Twelve days of a slow policy, in a process group of its own.

    Where the tests run in the background, Ctrl-C is ignored from the start: the process listens to it again.
    """
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    return subprocess.Popen(
        [
            sys.executable, "-c", f"{listen}; from prosumer_gym.cli import main; main()", "score",
            "players:Slow", "--dataset", "tiny", "--jobs", str(jobs), "--out", "out",
            "--days-per-episode", str(days_per_episode),
        ],
        cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def days_kept(here: Path) -> int:
    return len(list((here / "out" / "work").glob("players-Slow*/2*.npz")))


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def group_is_empty(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def digest(here: Path) -> str:
    (record,) = (here / "out" / "records").glob("*players-Slow*.json")
    return str(json.loads(record.read_text())["result_sha256"])


@pytest.mark.slow
@pytest.mark.parametrize(("length", "num", "unit"), [(1, 12, "days"), (2, 6, "episodes")])
def test_after_kill_9_nothing_finished_is_played_again_and_the_result_is_the_same(
    command: Command, here: Path, length: int, num: int, unit: str
) -> None:
    process = start(here, 2, length)
    wait_for(lambda: days_kept(here) >= num // 3)
    process.kill()
    process.communicate()
    wait_for(lambda: group_is_empty(process.pid), 20.0)  # nobody is left working for a dead parent
    kept = days_kept(here)
    assert num // 3 <= kept < num
    begun = len((here / "slow.log").read_text().splitlines())
    resumed = start(here, 2, length)
    _, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert f"players:Slow (mpc): {kept} of {num} {unit} are kept from an earlier run" in err
    assert len((here / "slow.log").read_text().splitlines()) == begun + num - kept
    after_kill = digest(here)
    options = ("--jobs", "1", "--out", "out", "--fresh", "--days-per-episode", str(length))
    code, _, _ = command("score", "players:Slow", "--dataset", "tiny", *options)
    assert code == 0
    assert digest(here) == after_kill


def test_a_bad_option_is_told_in_plain_words(command: Command) -> None:
    said = ["data", "import", "tidy", "--from", "a", "--id", "x", "--time-zone", "UTC", "--unit", "MW"]
    for arguments, message in (
        (["bench", "--days", "x"], "Invalid value for '--days': give a whole number"),
        ([*said, "--interval-label", "begin", "--prices", "b", "--weather", "c"], "'MW' is not one of 'kW', 'kWh'"),
    ):
        code, _, err = command(*arguments)
        assert code == 2
        assert message in err
        assert "Value error" not in err
        assert len(err.splitlines()) == 1


def test_ctrl_c_says_so_in_every_phase(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_stage", interrupt)
    code, out, err = command("bench")
    assert (code, out) == (130, "")
    assert err == "prosumer-gym: interrupted; run the same command again to go on\n"


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_says_in_one_line_how_to_go_on(here: Path, jobs: int) -> None:
    process = start(here, jobs)
    wait_for(lambda: days_kept(here) >= 2)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: to all processes of the group
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if "interrupted" in line]
    assert lines == [
        f"interrupted; finished days are kept in {Path('out') / 'work'}: run the same command again to go on"
    ]
    assert err.splitlines()[-1] == lines[0]
    wait_for(lambda: group_is_empty(process.pid), 20.0)
    assert days_kept(here) >= 2
