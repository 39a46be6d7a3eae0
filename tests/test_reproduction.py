"""The reproduction page is of its data, its studies play what they say, and its arithmetic is right."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support import tiny_dataset

from prosumer_gym import leaderboard
from prosumer_gym.baselines.registry import make_policy
from prosumer_gym.baselines.tuning import gate_observation
from prosumer_gym.leaderboard.entries import BOTH, PERFECT_DAY_AHEAD, Entry, policy_entry
from prosumer_gym.leaderboard.records import load_record, make_record, save_record
from prosumer_gym.leaderboard.run import Stage, play
from prosumer_gym.leaderboard.statistics import Interval
from prosumer_gym.rollout import rollout
from prosumer_gym.scenarios import make_scenario

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(leaderboard.__path__[0]) / "results"
COMMUNITY = make_scenario("ieee33")
DATASET = tiny_dataset(num_days=40)
WEEK = np.repeat(np.arange(8), 3)


@pytest.fixture(scope="module")
def scripts() -> Iterator[ModuleType]:
    """The scripts beside each other, as the command line sees them; by attribute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        found = ModuleType("scripts")
        for name in ("studies", "ablations", "sample_size", "community_size", "dro_reproduction", "reproduction"):
            setattr(found, name, importlib.import_module(name))
        yield found


# the page ---------------------------------------------------------------------------------------------------------


def test_the_page_says_what_the_files_say_and_they_what_the_published_records_say() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "reproduction.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_figure_that_is_changed_by_hand_is_noticed(scripts: ModuleType) -> None:
    text = scripts.reproduction.PAGE.read_text(encoding="utf-8")
    study = scripts.reproduction.of_all("boards")[0]
    mean = f"| {study.days('cost_ct', policy='po', mode='open_loop').mean():.0f} |"
    assert mean in text
    assert scripts.reproduction.page(text.replace(mean, "| 1 |")) == text


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "reproduction").glob("*.json")), ids=lambda path: path.stem)
def test_a_file_has_as_many_figures_as_days_and_no_case_twice(scripts: ModuleType, path: Path) -> None:
    study = scripts.studies.load(path)
    assert len(study.week) == len(study.dates) == len(set(study.dates))
    assert path.name.endswith(f".{study.dataset}.json")
    seen = set()
    for case in study.cases:
        for name in scripts.studies.FIGURES:
            assert len(case.get(name, study.dates)) == len(study.dates)
        key = json.dumps({k: v for k, v in case.items() if not isinstance(v, list)}, sort_keys=True)
        assert key not in seen
        seen.add(key)


def test_what_is_fetched_is_what_the_records_hold(scripts: ModuleType, tmp_path: Path) -> None:
    records = scripts.reproduction.wanted(scripts.reproduction.records_in([RESULTS]), "test")
    for study in scripts.reproduction.fetched([RESULTS], "test"):
        for record in records:
            if record.result.dataset.id == study.dataset:
                of = {"policy": record.result.policy.name, "mode": record.result.mode}
                cost_ct = record.result.runs[0].metrics().cost_ct
                assert study.days("cost_ct", **of) == pytest.approx(cost_ct, abs=0.0051)
                assert study.dates == record.result.dataset.dates
    (po,) = RESULTS.glob("tehran-v0.ieee33.test90.open_loop.central.po.*.json")
    (saa,) = RESULTS.glob("tehran-v0.ieee33.test90.open_loop.central.saa.*.json")
    shutil.copy(po, tmp_path)
    record = load_record(saa)
    as_po = record.result.model_copy(update={"policy": record.result.policy.model_copy(update={"name": "po"})})
    save_record(make_record(as_po, record.made_on), tmp_path)
    with pytest.raises(SystemExit, match="two records of po"):
        scripts.reproduction.fetched([tmp_path], "test")


def test_the_order_is_told_as_it_came_out(scripts: ModuleType) -> None:
    flat = np.linspace(100.0, 120.0, 24)
    noise = np.tile([2.0, -2.0, 2.0, -2.0], 6)
    costs = {"po": flat, "saa": 0.9 * flat, "knn": 0.9 * flat + noise, "dcso": 0.95 * flat}
    cases = [{"policy": name, "mode": "open_loop", "cost_ct": list(cost)} for name, cost in costs.items()]
    study = _study(scripts, cases)
    told = scripts.reproduction.order(study)
    assert "`saa` below `po`: as published, -10.0 %" in told
    assert "`knn` below `saa`: cannot be told apart" in told
    assert "`dcso` below `knn`: the other way round" in told
    study.cases.pop()
    assert "`dcso` below `knn`: not played" in scripts.reproduction.order(study)


def _study(scripts: ModuleType, cases: list[dict[str, object]]) -> object:
    dates = [str(np.datetime64("2021-01-01") + day) for day in range(24)]
    return scripts.studies.Study("by hand", "tiny", "0", "dev", dates, WEEK.tolist(), cases)


# arithmetic -------------------------------------------------------------------------------------------------------


def test_ratios_and_differences_by_hand(scripts: ModuleType) -> None:
    base = np.array([100.0, 300.0] * 12)
    values = np.array([50.0, 200.0] * 12)
    assert scripts.studies.ratio(values, base, WEEK).value == pytest.approx(250 / 400)
    assert scripts.studies.change(values, base, WEEK).value == pytest.approx(250 / 400 - 1)
    assert scripts.studies.difference(values, base, WEEK).value == pytest.approx(-75.0)
    assert scripts.studies.share(base - values, base, WEEK).value == pytest.approx(150 / 400)


@pytest.mark.parametrize("measure", ["ratio", "change", "difference", "share"])
def test_an_interval_surrounds_its_figure_and_follows_it(scripts: ModuleType, measure: str) -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(90.0, 110.0, 24)
    values = 0.8 * base + rng.normal(0.0, 4.0, 24)
    found = getattr(scripts.studies, measure)(values, base, WEEK)
    assert found.interval.low < found.value < found.interval.high
    assert found.interval.high - found.interval.low < (20.0 if measure == "difference" else 0.2)
    below, above = scripts.studies.reach([found])[:, 0]
    assert found.value - below == pytest.approx(found.interval.low)
    assert found.value + above == pytest.approx(found.interval.high)
    exact = scripts.studies.ratio(0.5 * base, base, WEEK)
    assert exact.interval[:2] == pytest.approx((0.5, 0.5))


def test_days_on_which_a_figure_is_undefined_are_left_out_on_both_sides(scripts: ModuleType) -> None:
    base, values = np.full(24, 2.0), np.full(24, 1.0)
    values[3], base[5], base[6], values[6] = np.nan, np.nan, 200.0, 100.0
    assert scripts.studies.ratio(values, base, WEEK).value == pytest.approx(0.5)


def test_few_days_have_no_interval_and_figures_are_told_with_theirs(scripts: ModuleType) -> None:
    few = scripts.studies.change(np.full(3, 0.9), np.ones(3), np.arange(3))
    assert few.interval is None
    assert few.percent == "-10.0 %"
    whole = scripts.studies.Estimate(0.12345, Interval(-0.0001, 0.2, "by hand"))
    assert whole.told(3) == "0.123 (0.000 to 0.200)"
    assert whole.percent == "12.3 % (0.0 to 20.0)"


# what is played ---------------------------------------------------------------------------------------------------


def _stage(scripts: ModuleType, *parts: str, days: int = 8) -> Stage:
    return Stage(scripts.ablations.without(COMMUNITY, *parts), DATASET, DATASET.days("dev")[:days])


def test_what_is_played_is_kept_and_not_played_again(
    scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [policy_entry("po", "open_loop")]
    first = scripts.studies.played(_stage(scripts, days=2), entries, tmp_path, 1, "once")
    monkeypatch.setattr("prosumer_gym.leaderboard.run.play_episode", None)
    again = scripts.studies.played(_stage(scripts, days=2), entries, tmp_path, 1, "again")
    assert np.array_equal(first[0].metrics.cost_ct, again[0].metrics.cost_ct)
    with pytest.raises(TypeError):
        scripts.studies.played(_stage(scripts, days=3), entries, tmp_path, 1, "one more")


@pytest.mark.parametrize("mode", ["open_loop", "mpc"])
def test_what_is_removed_is_really_gone(scripts: ModuleType, mode: str, tmp_path: Path) -> None:
    def of(*parts: str) -> list[float]:
        stage = _stage(scripts, *parts, days=2)
        (row,) = scripts.studies.played(stage, [policy_entry("po", mode)], tmp_path, 1, "po")
        return [float(getattr(row.metrics, name).sum()) for name in ("p2p_kwh", "battery_kwh", "shifted_kwh")]

    traded, stored, shifted = of()
    assert min(traded, stored, shifted) > 1.0
    for place, part in enumerate(("trade", "batteries", "shiftable loads")):
        left = of(part)
        assert left[place] == pytest.approx(0.0, abs=1e-5)
        assert all(kwh > 1.0 for other, kwh in enumerate(left) if other != place)


def test_the_oracle_pays_more_for_every_part_that_is_missing_and_without_all_knows_only_the_position(
    scripts: ModuleType, tmp_path: Path
) -> None:
    cost = {}
    for lacking, parts in scripts.ablations.WITHOUT.items():
        entries = [*scripts.ablations.entries_of([]), Entry(PERFECT_DAY_AHEAD, BOTH, "reference", "-")]
        rows = scripts.studies.played(_stage(scripts, *parts), entries, tmp_path, 1, lacking)
        cost[lacking] = {entry.name: row.metrics.cost_ct for entry, row in zip(entries, rows, strict=True)}
    full, none = cost[scripts.ablations.FULL], cost[scripts.ablations.NONE]
    for lacking, found in cost.items():
        assert found["no-control"] == pytest.approx(full["no-control"], rel=1e-12), lacking
        assert np.all(full["oracle-cost"] <= found["oracle-cost"] + 1e-3), lacking
        assert np.all(found["oracle-cost"] <= none["oracle-cost"] + 1e-3), lacking
    # Nothing is left to decide but the position and what to throw away, and no price is below zero.
    assert DATASET.price_da_ct_per_kwh.min() > 0
    net_kw = (DATASET.load_kw + DATASET.shiftable_ref_kw - DATASET.pv_kw)[DATASET.days("dev")]
    assert np.abs(net_kw).max() < COMMUNITY.fleet.position_limit_kw.min()
    assert none["oracle-cost"] == pytest.approx(none[PERFECT_DAY_AHEAD], rel=1e-6)


def test_policies_on_few_training_days_weigh_no_others_and_on_the_usual_number_are_the_usual_ones(
    scripts: ModuleType,
) -> None:
    history = DATASET.training_history()
    row = int(DATASET.days("dev")[3])
    obs = gate_observation(COMMUNITY, DATASET, row)

    def scenarios(policy: object) -> object:
        policy.fit(COMMUNITY, history)  # type: ignore[attr-defined]
        return policy.scenarios(obs)  # type: ignore[attr-defined]

    rows = np.flatnonzero(history.is_training)
    for name in scripts.sample_size.POLICIES:
        few = scenarios(scripts.sample_size.policy(name, 5))
        assert len(few.load_kw) <= 5  # type: ignore[attr-defined]
        every = scenarios(scripts.sample_size.policy(name, rows.size))
        k = int(np.ceil(np.sqrt(rows.size)))
        if name in ("knn", "dcso"):
            usual = make_policy(name, "open_loop")
            usual._asked = {"k": k} if name == "knn" else {"k": k, "tau": 0.5}  # type: ignore[attr-defined]
        else:
            usual = make_policy(name, "open_loop")  # 24 training days: fewer than the usual 50, so all of them
        assert np.array_equal(every.load_kw, scenarios(usual).load_kw)  # type: ignore[attr-defined]
    chosen = scenarios(scripts.sample_size.policy("saa", 5)).load_kw  # type: ignore[attr-defined]
    assert np.array_equal(chosen, history.load_kw[rows[np.linspace(0, rows.size - 1, 5).round().astype(int)]])


def test_larger_communities_begin_with_the_prosumers_of_smaller_ones(scripts: ModuleType) -> None:
    small, large = (scripts.community_size.community_of(num) for num in (10, 50))
    assert len(large.graph) == 75
    assert np.array_equal(large.fleet.battery_power_kw[:10], small.fleet.battery_power_kw)
    assert large.fleet.bus.min() == 1
    assert large.fleet.bus.max() == large.feeder.num_buses - 1


def test_a_negotiation_is_told_and_kept(scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts.community_size, "ROUNDS", 20)
    stage = _stage(scripts)
    asked = type("Asked", (), {"gates": 1, "kept": tmp_path})
    found = scripts.community_size.negotiations(stage, asked)
    assert found["rounds"] == [20]
    assert found["converged"] == [False]
    monkeypatch.setattr(scripts.community_size, "consensus_admm", None)
    assert scripts.community_size.negotiations(stage, asked) == found


def test_what_falls_short_of_the_rule_is_counted(scripts: ModuleType, tmp_path: Path) -> None:
    stage = _stage(scripts, days=2)
    of = {"of": "each hour", "radius": 0.001}
    dro = scripts.dro_reproduction.policy(**of)
    assert (dro.eps, dro.individual) == (0.05, True)
    assert scripts.dro_reproduction.policy("all hours", 0.001).individual is False
    entry = scripts.studies.Case("dro", "open_loop", "policy", "-", factory=lambda: dro)
    (row,) = scripts.studies.played(stage, [entry], tmp_path, 1, "dro")
    realtime_kw = np.full_like(row.trace.realtime_kw, -1e6)  # sold, whatever the rule says
    realtime_kw[0, 5, 3] = realtime_kw[0, 6, 3] = realtime_kw[1, 5, 4] = 1e6
    by_hand = row._replace(trace=replace(row.trace, realtime_kw=realtime_kw))
    found = scripts.dro_reproduction.shortfall(stage, of, by_hand)
    assert found["days_short"] == [0.1, 0.1]
    assert found["hours_short"] == pytest.approx([2 / 240, 1 / 240], abs=1e-6)
    assert found["worst_hour_short"] == 0.1
    assert found["radius_used"] == 0.001


def test_the_two_ways_to_play_a_day_agree(scripts: ModuleType, tmp_path: Path) -> None:
    """What a study keeps of a day is what the boards would."""
    stage = _stage(scripts, days=2)
    entries = [policy_entry("saa", "open_loop")]
    (row,) = scripts.studies.played(stage, entries, tmp_path, 1, "saa")
    (item,) = play(stage, entries, tmp_path)
    trace = rollout(COMMUNITY, DATASET.exogenous, stage.rows, item.actions)  # type: ignore[union-attr]
    kept = scripts.studies.figures(row.metrics)
    assert kept["cost_ct"] == pytest.approx(trace.community_cost_ct.sum(axis=1), abs=0.0051)
    assert kept["peak_kw"] == pytest.approx(np.maximum(trace.exchange_kw, 0).max(axis=1), abs=0.00051)
