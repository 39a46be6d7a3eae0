"""Episodes of several days: played on, kept and counted as one, and scored against what is best over all of them."""

from __future__ import annotations

import importlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from support import tiny_dataset
from threadpoolctl import threadpool_info, threadpool_limits

from prosumer_gym.actions import DayActions, to_kw
from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.envs.game import first_days
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous
from prosumer_gym.feeder import Feeder
from prosumer_gym.leaderboard import metrics as m
from prosumer_gym.leaderboard.anchors import anchor_episode
from prosumer_gym.leaderboard.bench import choose_episodes
from prosumer_gym.leaderboard.entries import policy_entry
from prosumer_gym.leaderboard.play import day_seed, no_control_action
from prosumer_gym.leaderboard.run import Played, Stage, play, revision_of
from prosumer_gym.leaderboard.store import EpisodeStore
from prosumer_gym.market import COST_TERMS
from prosumer_gym.rollout import rollout


class Listener:
    """Remembers what was kept and played."""

    def __init__(self) -> None:
        self.kept = self.advanced = 0
        self.notes: list[str] = []

    def begin(self, name: str, total: int, kept: int) -> None:
        del name
        assert kept <= total
        self.kept = kept

    def fitting(self, name: str) -> None:
        del name

    def advance(self, name: str) -> None:
        del name
        self.advanced += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


def one(stage: Stage, name: str, out: Path, listener: Listener | None = None, jobs: int = 1) -> Played:
    (result,) = play(stage, [policy_entry(f"players:{name}", None)], out, jobs=jobs, reporter=listener or Listener())
    assert isinstance(result, Played), result
    return result


def same(first: DayActions, second: DayActions) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(DayActions))


# figures worked out by hand ---------------------------------------------------------------------------------------


def test_costs_of_an_episode_of_two_days_by_hand() -> None:
    """Steps of 12 h. On day 0 prosumer 0 charges 2 kW for a step: 2 x 12 x .9 = 21.6 kWh more than at the start.

    On day 1 it discharges 1 kW for a step: 12 / .9 kWh less. What is then left over is settled on day 1, at what the
    grid pays on that day, .4 x 20 = 8 ct/kWh, x .9. Bought is at max(10, da) + 1 = 11 ct/kWh on day 0, 21 on day 1.
    """
    feeder = Feeder.from_arrays(
        from_bus=[0, 1], to_bus=[1, 2], r_ohm=[0.5, 0.5], x_ohm=[0.5, 0.5], p_kw=[0, 0, 0], q_kvar=[0, 0, 0],
        base_kv=12.66,
    )  # fmt: skip
    graph = TradeGraph(np.array([0]), np.array([1]), np.array([5.0]), np.array([0.2]))
    community = Community("two", feeder, Fleet.identical([1, 2]), graph, hours_per_day=2)
    by_day = np.array([[10.0, 10.0], [20.0, 20.0]])
    exogenous = Exogenous(
        load_kw=np.full((2, 2, 2), 5.0), pv_kw=np.zeros((2, 2, 2)), shiftable_ref_kw=np.ones((2, 2, 2)),
        price_da_ct_per_kwh=by_day, price_rt_ct_per_kwh=np.full((2, 2), 10.0), passive_pu=np.zeros((2, 2)),
    )  # fmt: skip
    battery = np.zeros((2, 2, 2))
    battery[0, 1, 0], battery[1, 0, 0] = 2.0, -1.0
    idle = np.zeros((2, 2, 2))
    actions = DayActions(idle, battery, np.ones((2, 2, 2)), idle, idle)
    days = np.arange(2)
    trace = rollout(community, exogenous, days, actions, days_per_episode=2)
    found = m.day_metrics(community, exogenous, days, trace)
    left_kwh = 21.6 - 12.0 / 0.9
    terms = dict(zip(COST_TERMS, found.cost_terms_ct.T, strict=True))
    np.testing.assert_allclose(terms["real_time"], [12 * 11 * (6 + 8 + 6 + 6), 12 * 21 * (5 + 6 + 6 + 6)])
    np.testing.assert_allclose(terms["demand_charge"], [20 * (8 + 6), 20 * (6 + 6)])  # of every day anew
    np.testing.assert_allclose(terms["battery_wear"], [12 * (0.02 * 4 + 2), 12 * (0.02 + 1)])
    np.testing.assert_allclose(terms["terminal_soc"], [0.0, -left_kwh * 8 * 0.9])
    np.testing.assert_allclose(found.cost_ct, found.cost_terms_ct.sum(axis=1))
    np.testing.assert_allclose(found.peak_ratio, [14 / 12, 12 / 12])  # a figure of each day
    alone = m.day_metrics(community, exogenous, days, rollout(community, exogenous, days, actions))
    np.testing.assert_allclose(  # day 0 alone earns for its 21.6 kWh, day 1 alone pays for the 12 / .9 it took
        alone.cost_terms_ct[:, COST_TERMS.index("terminal_soc")], [-21.6 * 4 * 0.9, 12 / 0.9 * 1.5 * 20 / 0.9]
    )


# played on --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("players")
def test_a_battery_that_was_filled_on_one_day_is_full_on_the_next(pairs: Stage, tmp_path: Path) -> None:
    played = one(pairs, "Fills", tmp_path)
    trace = rollout(pairs.community, pairs.dataset.exogenous, pairs.rows, played.actions, days_per_episode=2)
    fleet = pairs.community.fleet
    full = np.broadcast_to(fleet.soc_max_kwh, (2, len(fleet)))
    np.testing.assert_allclose(trace.soc_kwh[[1, 3], 0], full)
    np.testing.assert_array_equal(trace.soc_kwh[[0, 2], 0], np.broadcast_to(fleet.soc_initial_kwh, (2, len(fleet))))
    np.testing.assert_allclose(trace.battery_kw[[1, 3]], 0.0, atol=1e-9)  # nothing fits any more


@pytest.mark.usefixtures("players")
def test_what_the_environment_played_is_what_the_rollout_of_the_log_plays(pairs: Stage, tmp_path: Path) -> None:
    played = one(pairs, "Noisy", tmp_path)
    trace = rollout(pairs.community, pairs.dataset.exogenous, pairs.rows, played.actions, days_per_episode=2)
    env = TwoStageEnv(pairs.dataset, scenario=pairs.community, split="test", days_per_episode=2)
    policy = policy_entry("players:Noisy", None).make()
    policy.fit(pairs.community, pairs.dataset.training_history())
    for k, row in enumerate(pairs.rows[::2].tolist()):
        policy.reset(day_seed(pairs.seed, row))
        obs, _ = env.reset(options={"day": row})
        cost_ct, done = 0.0, False
        while not done:
            obs, _, done, _, info = env.step(policy.act(obs))
            cost_ct += float(info["community_cost_ct"])
        assert cost_ct == pytest.approx(trace.cost_ct[2 * k : 2 * k + 2].sum(), rel=1e-12)


@pytest.mark.usefixtures("players")
def test_reset_comes_before_an_episode_only_and_the_next_gate_shows_what_is_left(pairs: Stage, tmp_path: Path) -> None:
    played = one(pairs, "Remembers", tmp_path)
    trace = rollout(pairs.community, pairs.dataset.exogenous, pairs.rows, played.actions, days_per_episode=2)
    met = importlib.import_module("players").Remembers.met
    soc_kwh = trace.soc_kwh[:, 0].mean(axis=1)
    assert soc_kwh[1] > soc_kwh[0] + 1.0
    expected: list[tuple[object, ...]] = []
    for d, row in enumerate(pairs.rows.tolist()):
        expected += [("reset", day_seed(0, row))] if d % 2 == 0 else []
        expected.append(("gate", 1 - d % 2, pytest.approx(soc_kwh[d])))
    assert met == expected


@pytest.mark.usefixtures("players")
def test_what_fails_is_counted_by_the_day_and_named_with_its_own_date(pairs: Stage, tmp_path: Path) -> None:
    late = replace(pairs, rows=pairs.rows[:2])
    played = one(late, "Once", tmp_path)
    np.testing.assert_array_equal(played.failed, [1, 1])
    assert played.failed_share == 2 / 50
    assert f"{late.dataset.dates[late.rows[0]]}, hour 5: ValueError" in played.first_error
    for d, row in enumerate(late.rows.tolist()):
        instead = no_control_action(late.community, late.dataset, row, 6)
        expected = to_kw(late.community, instead, late.dataset.pv_kw[row, 5]).shiftable_kw
        np.testing.assert_array_equal(played.actions.shiftable_kw[d, 5], expected)
    beyond = one(pairs, "Beyond", tmp_path)
    np.testing.assert_array_equal(beyond.out_of_range, [240 + 2 * 24] * 4)
    assert beyond.decision_s.shape == (4, 25)
    assert (beyond.decision_s > 0.0).all()


@pytest.mark.usefixtures("players")
def test_a_policy_that_never_starts_plays_the_reference_through_the_episode(pairs: Stage, tmp_path: Path) -> None:
    played = one(pairs, "NoReset", tmp_path)
    np.testing.assert_array_equal(played.failed, [25] * 4)
    reference = [anchor_episode("no-control", pairs.community, pairs.dataset, rows).actions for rows in pairs.episodes]
    for item in fields(DayActions):
        expected = getattr(DayActions.join(reference), item.name)
        np.testing.assert_allclose(getattr(played.actions, item.name), expected, atol=1e-12)


@pytest.mark.usefixtures("players")
def test_episodes_do_not_depend_on_who_plays_them_or_when(pairs: Stage, tmp_path: Path) -> None:
    forwards = one(pairs, "Noisy", tmp_path / "a")
    backwards = one(replace(pairs, rows=pairs.rows[[2, 3, 0, 1]]), "Noisy", tmp_path / "b", jobs=2)
    np.testing.assert_array_equal(forwards.actions.battery_kw, backwards.actions.battery_kw[[2, 3, 0, 1]])


# what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("players")
def test_kept_days_are_no_episodes_and_kept_episodes_no_days(stage: Stage, pairs: Stage, tmp_path: Path) -> None:
    for board, num in ((stage, 4), (pairs, 2), (replace(pairs, days_per_episode=4), 1)):
        for kept in (0, num):
            listener = Listener()
            one(board, "Fills", tmp_path, listener)
            assert (listener.kept, listener.advanced) == (kept, num - kept)
    entry = policy_entry("players:Fills", None)
    assert revision_of(stage, entry, {}) != revision_of(pairs, entry, {})


@pytest.mark.usefixtures("players")
def test_an_episode_that_was_interrupted_on_its_second_day_is_played_again_from_the_first(
    pairs: Stage, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        one(pairs, "Halts", tmp_path)
    assert len(sorted(tmp_path.glob("work/*/2*.npz"))) == 1
    listener = Listener()
    resumed = one(pairs, "Halts", tmp_path, listener)
    assert (listener.kept, listener.advanced) == (1, 1)
    assert same(resumed.actions, one(pairs, "Noisy", tmp_path / "other").actions)


@pytest.mark.usefixtures("players")
def test_a_kept_episode_comes_back_as_it_was_and_a_damaged_one_is_played_again(pairs: Stage, tmp_path: Path) -> None:
    first = one(pairs, "Counts", tmp_path)
    again = one(pairs, "Counts", tmp_path)
    assert same(first.actions, again.actions)
    for name in ("failed", "out_of_range", "decision_s"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert {k: v.tolist() for k, v in first.fallbacks.items()} == {k: v.tolist() for k, v in again.fallbacks.items()}
    victim = sorted(tmp_path.glob("work/*/2*.npz"))[1]
    victim.write_bytes(victim.read_bytes()[:-100])
    listener = Listener()
    one(pairs, "Counts", tmp_path, listener)
    assert listener.advanced == 1
    assert "playing the episode again" in listener.notes[0]


def test_an_oracles_bound_and_gap_are_kept(pairs: Stage, tmp_path: Path) -> None:
    log = anchor_episode("no-control", pairs.community, pairs.dataset, pairs.episodes[0])
    store = EpisodeStore(tmp_path, "key")
    store.save(np.datetime64("2023-01-01"), replace(log, bound=12.5, gap=0.25, first_error="é: x"))
    found = store.load(np.datetime64("2023-01-01"))
    assert found is not None
    assert (found.bound, found.gap, found.first_error, found.fallbacks) == (12.5, 0.25, "é: x", {})
    assert same(found.actions, log.actions)


# what a policy counts ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("players")
@pytest.mark.parametrize("name", ["Counts", "CountsOn"])
def test_fallbacks_are_counted_by_the_episode_whether_or_not_reset_forgets_them(
    stage: Stage, pairs: Stage, tmp_path: Path, name: str
) -> None:
    for board, days in ((stage, 1), (pairs, 2)):
        played = one(board, name, tmp_path)
        assert {what: counts.tolist() for what, counts in played.fallbacks.items()} == {
            "plan at its cap": [days] * (4 // days),
            "solver stopped short": [2 * days] * (4 // days),
        }
        assert played.failed.sum() == 0


@pytest.mark.usefixtures("players")
def test_fallbacks_that_cannot_be_read_are_told_and_those_of_before_a_start_are_not(
    pairs: Stage, tmp_path: Path
) -> None:
    bad = one(pairs, "CountsBadly", tmp_path).fallbacks
    assert {what: counts.tolist() for what, counts in bad.items()} == {"fallbacks that cannot be read": [1, 1]}
    assert one(pairs, "CountsAtLast", tmp_path).fallbacks == {}
    assert one(pairs, "Still", tmp_path).fallbacks == {}


# threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("players")
@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_do_not_fight_over_the_threads_of_numerical_libraries(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """Whatever the user's settings are: as many threads as there are processes."""
    log = tmp_path / "threads.log"
    monkeypatch.setenv("THREADS_LOG", str(log))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "3")  # what a new process would take
    with threadpool_limits(3):
        assert max(pool["num_threads"] for pool in threadpool_info()) == 3
        one(replace(stage, rows=stage.rows[:2]), "Threads", tmp_path, jobs=jobs)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert {what for _, what, _ in lines} == {"fit", "act"}
    assert {most for _, _, most in lines} == {"1"}
    assert len({process for process, _, _ in lines}) <= jobs


# which days -------------------------------------------------------------------------------------------------------


def with_gap(dataset: Dataset) -> Dataset:
    """The fifth test day is taken out."""
    rows = np.arange(dataset.num_days)
    return dataset.subset(rows[rows != dataset.days("test")[4]])


def test_episodes_are_whole_and_follow_each_other_without_overlap(tiny: Dataset) -> None:
    test = tiny.days("test")
    rows, left_over = choose_episodes(tiny, "test", None, 5)
    np.testing.assert_array_equal(rows, test[:10])
    assert left_over == 2
    rows, left_over = choose_episodes(tiny, "test", 9, 4)
    np.testing.assert_array_equal(rows, test[:8])
    assert left_over == 1
    for num in (None, 3):
        rows, left_over = choose_episodes(tiny, "test", num, 1)
        np.testing.assert_array_equal(rows, test[:num])
        assert left_over == 0


def test_an_episode_lies_on_consecutive_dates_of_one_block() -> None:
    tiny = tiny_dataset(num_days=60)
    gappy = with_gap(tiny)
    test = gappy.days("test")  # four days, a hole, seven days
    rows, left_over = choose_episodes(gappy, "test", None, 3)
    np.testing.assert_array_equal(rows, [*test[:3], *test[4:10]])
    assert left_over == 2
    assert set(rows[::3]) <= set(first_days(gappy, "test", 3))


def test_episodes_that_do_not_fit_are_refused_in_one_line(tiny: Dataset) -> None:
    for num, length, says in (
        (None, 0, "--days-per-episode 0: an episode has at least one day"),
        (None, -1, "--days-per-episode -1: an episode has at least one day"),
        (None, 13, "among the 12 days of split 'test' of tiny at most 12 follow each other"),
        (4, 5, "among the first 4 days of split 'test' of tiny at most 4 follow each other"),
        (0, 2, "--days 0: at least one day"),
    ):
        with pytest.raises(UsageError) as caught:
            choose_episodes(tiny, "test", num, length)
        assert says in str(caught.value)
    with pytest.raises(UsageError, match="at most 7 follow each other"):
        choose_episodes(with_gap(tiny), "test", None, 8)


def test_a_stage_of_broken_episodes_is_refused(pairs: Stage, tmp_path: Path) -> None:
    for rows in (pairs.rows[:3], pairs.rows[[0, 2]]):
        with pytest.raises(UsageError, match="episode"):
            play(replace(pairs, rows=rows), [policy_entry("no-control", "mpc")], tmp_path)
