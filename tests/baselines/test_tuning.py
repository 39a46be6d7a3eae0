from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny_dataset
from support_policies import small_community, small_days

from prosumer_gym import leaderboard
from prosumer_gym.baselines import tuned as tuned_module
from prosumer_gym.baselines import tuning
from prosumer_gym.baselines.bilevel_search import TAUS, first_round
from prosumer_gym.baselines.day_ahead import DayStart, Scenarios, evaluate, solve_core
from prosumer_gym.baselines.dcso import ConsensusNearestDays
from prosumer_gym.baselines.registry import make_policy, policy_infos, tunable_class
from prosumer_gym.baselines.tuned import GridPoint, Parameters, TunedFile, load_tuned, tuned_for, tuned_path
from prosumer_gym.baselines.tuning import Run, Tuner, cheapest, gate_observation, grid_points, rolling_origins
from prosumer_gym.baselines.weighted_saa import ForestDays, KernelDays, NearestDays, WeightedSampleAverage
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import list_datasets, load_dataset
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario

RESULTS = Path(leaderboard.__file__).parent / "results"


def tuner(kind: type[Any] = NearestDays, dataset: Dataset | None = None) -> Tuner:
    return Tuner(kind, small_community(), dataset or small_days(), "0" * 64)


class Few(NearestDays):
    """Three candidates, for speed."""

    @classmethod
    def candidates(cls, num_days: int) -> list[dict[str, int | float]]:  # noqa: ARG003
        return [{"k": 1}, {"k": 9}]


class Climbing(Few):
    """Goes on with the neighbours of the best k, as a hill climber."""

    @classmethod
    def refined(cls, points: list[GridPoint]) -> list[Parameters]:
        best = int(cheapest(points).parameters["k"])
        return [{"k": k} for k in (best - 1, best + 1, best + 1) if 1 <= k <= 12]


# what is judged on what


def test_a_run_is_judged_by_what_lies_before_it() -> None:
    days = small_days()
    rows = days.days("train")
    runs = rolling_origins(rows, days.block[rows])
    assert [run.judged.tolist() for run in runs] == [rows[14:28].tolist(), rows[28:].tolist()]
    for run in runs:
        assert run.known.tolist() == rows[rows < run.judged[0]].tolist()


def test_runs_lie_in_one_block_and_a_third_of_the_days_before_them() -> None:
    rows = np.concatenate([np.arange(8, 28), np.arange(36, 76), np.arange(84, 104)])
    block = np.repeat([0, 1, 2], [20, 40, 20])
    runs = rolling_origins(rows, block)
    assert [run.judged.size for run in runs] == [14, 12, 14, 6]
    assert all(3 * run.known.size >= rows.size for run in runs)
    fewer = rolling_origins(rows, block, max_days=10)
    judged = np.concatenate([run.judged for run in fewer])
    assert judged.size == 10
    assert (judged[0], judged[-1]) == (runs[0].judged[0], runs[-1].judged[-1])
    assert set(np.diff(np.searchsorted(rows, judged)).tolist()) <= {5, 6}
    assert rolling_origins(rows[:1], block[:1]) == []


def test_the_observation_of_the_gate_is_that_of_the_environment() -> None:
    days, community = small_days(), small_community()
    for split in ("train", "dev"):
        for row in days.days(split)[[0, 7]].tolist():
            seen, _ = TwoStageEnv(days, community, split=split).reset(options={"day": row})
            made = gate_observation(community, days, row)
            assert made.keys() == seen.keys()
            for name, values in seen.items():
                np.testing.assert_array_equal(made[name], values, err_msg=name)


def test_the_cost_of_a_choice_is_that_of_its_plans_on_the_days_as_they_came() -> None:
    days, community = small_days(), small_community()
    rows = days.days("train")
    run = Run(rows[:20], rows[[20, 25]])
    costs = tuner().judge(run, {"k": 5})
    policy = NearestDays("open_loop", k=5)
    policy.fit(community, days.subset(rows[:20]))
    for row, cost in zip(run.judged.tolist(), costs, strict=True):
        obs = gate_observation(community, days, row)
        start = DayStart(
            0, community.fleet.soc_initial_kwh, np.zeros(2), np.zeros(2), days.shiftable_ref_kw[row],
            days.price_da_ct_per_kwh[row],
        )  # fmt: skip
        came = Scenarios(days.load_kw[[row]], days.pv_kw[[row]], days.price_rt_ct_per_kwh[[row]], weights=np.ones(1))
        plan = solve_core(community, start, policy.scenarios(obs))
        assert cost == pytest.approx(evaluate(plan, community, start, came).total_ct, rel=1e-9)
        best = solve_core(community, start, came)
        assert cost > evaluate(best, community, start, came).total_ct


def test_a_choice_does_not_depend_on_what_comes_after_the_day_it_is_judged_on() -> None:
    days = small_days()
    rows = days.days("train")
    run = Run(rows[:20], rows[[20, 21]])
    changed = {}
    for name in ("load_kw", "pv_kw", "price_rt_ct_per_kwh", "price_da_ct_per_kwh", "weather", "weather_forecast"):
        changed[name] = np.array(getattr(days, name))
        changed[name][rows[22] :] = changed[name][rows[22] :][::-1] * 0.7
    for kind, parameters in ((NearestDays, {"k": 5}), (ForestDays, {"min_leaf": 3})):
        before = tuner(kind).judge(run, parameters)
        assert tuner(kind, days.replace(**changed)).judge(run, parameters) == before
        changed_today = np.array(days.load_kw)
        changed_today[rows[20]] *= 1.1
        assert tuner(kind, days.replace(load_kw=changed_today)).judge(run, parameters) != before


def test_test_days_are_not_looked_at(tmp_path: Path) -> None:
    days = small_days()
    test = days.days("test")
    with pytest.raises(UsageError, match=r"tiny: 2021-.* is a test day; tuning sees train and dev days only"):
        tuning.judge(NearestDays, small_community(), days, Run(days.days("train"), test[[2]]), {"k": 5})
    assert "test" not in set(tuner().days.split.tolist())
    changed = np.array(days.load_kw)
    changed[test[0] - 8 :] *= 0.5
    one, other = (
        tuner(Few, data).choose(tmp_path / f"{n}.partial")
        for n, data in enumerate((days, days.replace(load_kw=changed)))
    )
    assert (one.train, one.dev, one.parameters) == (other.train, other.dev, other.parameters)


def test_dev_days_show_a_choice_and_do_not_make_it(tmp_path: Path) -> None:
    days = small_days()
    changed = np.array(days.load_kw)
    changed[days.days("dev")[0] - 8 : days.days("dev")[-1] + 1] *= 0.3
    one, other = (
        tuner(Few, data).choose(tmp_path / f"{n}.partial")
        for n, data in enumerate((days, days.replace(load_kw=changed)))
    )
    assert (one.train, one.parameters) == (other.train, other.parameters)
    assert one.dev != other.dev
    assert one.num_dev_days == 12
    assert one.num_train_days == 22


# the choice


def test_the_cheapest_is_chosen_and_default_and_candidates_are_all_there(tmp_path: Path) -> None:
    found = tuner(Few).choose(tmp_path / "knn.partial")
    assert [point.parameters for point in found.train] == [{"k": 1}, {"k": 9}, {"k": 6}]
    costs = [point.mean_cost_ct for point in found.train]
    assert found.parameters == found.train[int(np.argmin(costs))].parameters
    assert found.default == {"k": 6}
    assert found.train[0].behind_best_ct > 3 * found.train[0].standard_error_ct  # a single day is a poor guide
    assert {json.dumps(point.parameters) for point in found.dev} == {
        json.dumps(p) for p in (found.parameters, found.default)
    }


def test_behind_the_best_is_a_mean_of_pairs_with_its_standard_error() -> None:
    costs = np.array([[10.0, 30.0, 20.0], [12.0, 31.0, 26.0]])
    best, other = grid_points([{"k": 1}, {"k": 2}], costs)
    assert (best.behind_best_ct, best.standard_error_ct) == (0.0, 0.0)
    assert other.mean_cost_ct == 23.0
    assert other.behind_best_ct == 3.0
    assert other.standard_error_ct == pytest.approx(np.std([2, 1, 6], ddof=1) / np.sqrt(3), abs=1e-3)
    (alone,) = grid_points([{"k": 1}], costs[:1, :1])
    assert alone.standard_error_ct == 0.0


def test_equal_costs_are_the_first_ones_choice() -> None:
    """Also where they differ by less than a file says."""
    points = grid_points([{"k": 3}, {"k": 2}, {"k": 1}], np.array([[4.0, 2.0], [1.00004, 3.0], [1.0, 3.0]]))
    assert cheapest(points).parameters == {"k": 2}
    assert [point.behind_best_ct for point in points] == [1.0, 0.0, 0.0]


# rounds


def test_rounds_go_on_until_nothing_new_is_named(tmp_path: Path) -> None:
    found = tuner(Climbing).choose(tmp_path / "knn.partial")
    tried = [int(point.parameters["k"]) for point in found.train]
    assert tried[:3] == [1, 9, 6]
    assert len(tried) == len(set(tried)) > 3  # nothing twice
    best = int(found.parameters["k"])
    assert found.parameters == cheapest(found.train).parameters
    assert {best - 1, best + 1} & set(range(1, 13)) <= set(tried)
    one_by_one = {k: np.mean([c for run in tuner().runs[:-1] for c in tuner().judge(run, {"k": k})]) for k in tried}
    for point in found.train:
        assert point.mean_cost_ct == pytest.approx(one_by_one[int(point.parameters["k"])], abs=1e-3)
        assert point.behind_best_ct == pytest.approx(point.mean_cost_ct - one_by_one[best], abs=2e-3)


def test_a_round_sees_all_that_was_tried_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[GridPoint]] = []

    def refined(points: list[GridPoint]) -> list[Parameters]:
        asked.append(points)
        return [{"k": 2}] if len(asked) < 3 else [{"k": 9}]

    monkeypatch.setattr(Few, "refined", staticmethod(refined), raising=False)
    found = tuner(Few).choose(tmp_path / "knn.partial")
    ks = [[point.parameters["k"] for point in points] for points in asked]
    assert ks == [[1, 9, 6], [1, 9, 6, 2]]  # what was tried is nothing new: the second answer ends it
    assert found.train == asked[-1]


def test_an_interrupted_refinement_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "knn.partial", tuner(Climbing).choose(tmp_path / "whole.partial")
    real, judged = tuning.judge, []

    def killed(*args: Any) -> list[float]:
        judged.append(args[-1])
        if len(judged) == 8:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(tuning, "judge", killed)
    with pytest.raises(KeyboardInterrupt):
        tuner(Climbing).choose(path)
    assert judged[-1] not in [{"k": 1}, {"k": 9}, {"k": 6}]  # it was in a later round
    told: list[tuple[int, int]] = []
    found = tuner(Climbing).choose(path, told=lambda *numbers: told.append(numbers))
    assert (found.train, found.dev, found.parameters) == (whole.train, whole.dev, whole.parameters)
    assert told[0] == (6, 8)
    assert all(one <= other for one, other in itertools.pairwise(told))
    assert all(done <= total for done, total in told)
    assert told[-1][1] == 2 * len(whole.train) + 2
    assert len(judged) - 1 == told[-1][0]  # nothing was judged twice


@pytest.mark.parametrize("kind", [NearestDays, KernelDays, ForestDays])
def test_every_candidate_can_be_fitted_on_the_fewest_days(kind: type[WeightedSampleAverage]) -> None:
    """The first run has the fewest days to be fitted on."""
    mine = tuner(kind)
    assert mine.default in mine.grid
    assert len(mine.grid) >= 3
    for parameters in mine.grid:
        assert np.isfinite(mine.judge(Run(mine.runs[0].known, mine.runs[0].judged[:1]), parameters)).all()


def test_the_policies_with_parameters_are_named() -> None:
    tunable = [info.name for info in policy_infos() if hasattr(type(make_policy(info.name, "mpc")), "candidates")]
    assert {"knn", "kernel", "forest"} <= set(tunable)
    for info in policy_infos():
        if info.name in tunable:
            assert tunable_class(info.name).tuned_as == info.name
        else:
            with pytest.raises(UsageError) as caught:
                tunable_class(info.name)
            assert f"{info.name!r} has no parameters to tune; choose one of: {', '.join(tunable)}" in str(caught.value)
    with pytest.raises(UsageError, match=r"'knn\+permuted': parameters are tuned once for all options; tune knn"):
        tunable_class("knn+permuted")


def test_too_few_days_and_processes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tiny: 3 training days are too few to tune on"):
        tuner(dataset=tiny_dataset(num_days=5, num_prosumers=2, hours=8)).choose(tmp_path / "a")
    with pytest.raises(UsageError, match="--jobs 0: at least one process"):
        tuner().choose(tmp_path / "a", jobs=0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"file/knn\.partial: it cannot be written"):
        tuner(Few).choose(tmp_path / "file" / "knn.partial")


# going on


def test_an_interrupted_tuning_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "knn.partial", tuner(Few).choose(tmp_path / "whole.partial")
    real, judged = tuning.judge, []

    def killed(*args: Any) -> list[float]:
        judged.append(args[-1])
        if len(judged) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(tuning, "judge", killed)
    with pytest.raises(KeyboardInterrupt):
        tuner(Few).choose(path)
    with path.open("a") as file:
        file.write('["cut off in the mid')
    told: list[tuple[int, int]] = []
    found = tuner(Few).choose(path, told=lambda *numbers: told.append(numbers))
    assert (found.train, found.dev, found.parameters) == (whole.train, whole.dev, whole.parameters)
    assert told[0] == (2, 8)
    assert told[-1][0] in (7, 8)
    assert len(judged) - 3 == told[-1][0] - 2  # nothing was judged twice


def test_what_another_tuning_has_left_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "knn.partial"
    days = small_days()
    found = tuner(Few).choose(path)
    changed = np.array(days.load_kw)
    changed[days.days("train")[0]] *= 1.5
    other = tuner(Few, days.replace(load_kw=changed)).choose(path)
    assert other.train != found.train
    revisions = {
        tuner(Few).revision(),
        tuner(Few, days.replace(load_kw=changed)).revision(),
        tuner(NearestDays).revision(),
        Tuner(Few, small_community(), days, "1" * 64).revision(),
    }
    assert len(revisions) == 4


@pytest.mark.slow
def test_the_choice_is_the_same_with_two_processes(tmp_path: Path) -> None:
    one, two = (tuner(NearestDays).choose(tmp_path / f"{jobs}.partial", jobs=jobs) for jobs in (1, 2))
    assert (one.train, one.dev, one.parameters) == (two.train, two.dev, two.parameters)


# the files


@cache
def file_of_small_days() -> TunedFile:
    history = small_days().training_history()
    return TunedFile(
        policy="knn", parameters={"k": 11}, dataset="tiny", dataset_sha256=small_days().manifest.sha256,
        history_sha256=history.manifest.sha256, scenario="small", scenario_sha256="0" * 64, criterion="none",
        train_days=0, train=[], dev_days=0, dev=[], command="none", package="0", code_sha256="0", libraries={},
        finished="2024-01-01",
    )  # fmt: skip


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's folder and the package's."""
    mine, packages = tmp_path / "mine", tmp_path / "package"
    monkeypatch.setenv(tuned_module.HOME_VARIABLE, str(mine))
    monkeypatch.setattr(tuned_module, "_EMBEDDED", packages)
    return mine, packages


def put(home: Path, **changes: Any) -> Path:
    path = tuned_path(home, "tiny", "knn")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file_of_small_days().model_copy(update=changes).model_dump_json())
    return path


def test_what_was_tuned_is_used_and_said(homes: tuple[Path, Path]) -> None:
    mine, packages = homes
    history = small_days().training_history()
    put(packages, parameters={"k": 8})
    policy = NearestDays()
    assert policy.tuned_settings(history) == {"k": 8, "parameters": "tiny/knn.json, the package's"}
    put(mine)
    assert policy.tuned_settings(history) == {"k": 11, "parameters": "tiny/knn.json, yours"}
    policy.fit(small_community(), history)
    assert policy.k == 11
    assert NearestDays(k=3).tuned_settings(history)["k"] == 3
    control = NearestDays(permuted=True)
    control.fit(small_community(), history)
    assert control.k == 11  # as many days as the policy it is a control of


def test_a_file_of_other_training_days_is_passed_over_with_a_note(homes: tuple[Path, Path]) -> None:
    mine, packages = homes
    history = small_days().training_history()
    path = put(mine, history_sha256="f" * 64)
    put(packages, parameters={"k": 8})
    settings = NearestDays().tuned_settings(history)
    assert settings["k"] == 8
    assert settings["passed_over"] == f"{path} was tuned on other training days of the name 'tiny' and is passed over"
    shutil.rmtree(packages)
    settings = NearestDays().tuned_settings(history)
    assert (settings["k"], settings["parameters"]) == (6, "default")
    assert "passed over" in str(settings["passed_over"])


def test_more_sun_makes_other_days_of_the_same_data(homes: tuple[Path, Path]) -> None:
    put(homes[0])
    community = small_community()
    sunny = community.replace(fleet=replace(community.fleet, pv_ratio=np.array([2.0, 1.0])))
    history = staged(small_days(), sunny).training_history()
    assert tuned_for("knn", history).source == "default"
    assert tuned_for("knn", staged(small_days(), community).training_history()).source == "tiny/knn.json, yours"


def test_the_history_of_a_tuner_is_the_one_that_policies_are_fitted_on() -> None:
    assert tuner().history.manifest.sha256 == small_days().training_history().manifest.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file: invalid json"),
        ("{}", "policy: field required"),
        ("k = 3", "the file: invalid json"),
        ('{"format": 2}', "format: input should be 1"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(homes: tuple[Path, Path], content: str, message: str) -> None:
    path = put(homes[0])
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        NearestDays().fit(small_community(), small_days().training_history())
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="it cannot be read"):
        tuned_for("knn", small_days().training_history())


@pytest.mark.parametrize("path", sorted((Path(tuned_module.__file__).parent / "tuned").glob("*/*.json")), ids=str)
def test_the_packages_files_are_whole_and_say_how_they_were_made(path: Path) -> None:
    file = load_tuned(path)
    assert (path.parent.name, path.stem) == (file.dataset, file.policy)
    kind = tunable_class(file.policy)
    best = min(file.train, key=lambda point: point.mean_cost_ct)
    assert file.parameters == best.parameters
    assert {point.behind_best_ct for point in file.train if point.parameters == file.parameters} == {0.0}
    assert file.command.split()[:3] == ["prosumer-gym", "tune", file.policy]
    assert file.train_days >= 30
    kind(**file.parameters)


@pytest.mark.parametrize("dataset", ["tehran-v0", "cambridge-2018"])
def test_the_packages_files_are_used_on_the_data_of_the_boards(dataset: str) -> None:
    """A data set that is not at hand is known by the digest in the records of its board."""
    names = ("knn", "kernel", "forest", "dcso")
    files = [load_tuned(tuned_path(Path(tuned_module.__file__).parent / "tuned", dataset, name)) for name in names]
    records = [json.loads(path.read_text()) for path in RESULTS.glob(f"{dataset}.ieee33.*.json")]
    assert records
    assert {file.dataset_sha256 for file in files} == {record["result"]["dataset"]["sha256"] for record in records}
    assert len({file.history_sha256 for file in files}) == 1
    if dataset not in list_datasets():
        return
    history = load_dataset(dataset).training_history()
    for name in names:
        found = tuned_for(name, history)
        assert (found.source, found.passed_over) == (f"{dataset}/{name}.json, the package's", "")
        assert vars(fitted(name, dataset)).items() >= found.parameters.items()


def fitted(name: str, dataset: str) -> Any:
    """As `bench` fits it."""
    policy = make_policy(name, "open_loop")
    community = make_scenario("ieee33")
    policy.fit(community, staged(load_dataset(dataset), community).training_history())
    return policy


@pytest.mark.parametrize("path", sorted((Path(tuned_module.__file__).parent / "tuned").glob("*/dcso.json")), ids=str)
def test_the_files_of_dcso_hold_the_whole_search(path: Path) -> None:
    """The grid, what golden section added inside its cells, and nothing that is still to be tried."""
    file = load_tuned(path)
    tried = [point.parameters for point in file.train]
    ks = {int(p["k"]) for p in tried if p["tau"] == 0.25}
    assert {1, 2, 3, 5, 7, 10, 15, 25} <= ks
    assert [p for p in first_round(sorted(ks)) if {"tau": p[0], "k": p[1]} not in tried] == []
    assert any(float(p["tau"]) not in TAUS for p in tried)
    assert [p for p in ConsensusNearestDays.refined(file.train) if p not in tried] == []
