"""Playing: what fails is counted and replaced, what is done is kept, and processes change nothing."""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from prosumer_gym.actions import DayActions, position_to_kw, to_kw
from prosumer_gym.envs.single import TwoStageEnv
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard import run
from prosumer_gym.leaderboard.anchors import anchor_episode
from prosumer_gym.leaderboard.entries import Entry, policy_entry
from prosumer_gym.leaderboard.play import day_seed, no_control_action
from prosumer_gym.leaderboard.progress import Silent
from prosumer_gym.leaderboard.protocol import RunError
from prosumer_gym.leaderboard.run import Failure, Played, Stage, play
from prosumer_gym.leaderboard.store import DamagedEpisodeError, EpisodeStore
from prosumer_gym.rollout import rollout


class Listener(Silent):
    """Remembers the notes and the days that were advanced."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.kept: dict[str, int] = {}
        self.advanced = 0

    def begin(self, name: str, total: int, kept: int) -> None:
        assert kept <= total
        self.kept[name] = kept

    def advance(self, name: str) -> None:
        assert name in self.kept
        self.advanced += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


def one(
    stage: Stage, name: str, out: Path, jobs: int = 1, listener: Silent | None = None, fresh: bool = False
) -> Played:
    (result,) = play(
        stage, [policy_entry(f"players:{name}", None)], out, jobs=jobs, reporter=listener or Silent(), fresh=fresh
    )
    assert isinstance(result, Played), result
    return result


def same(first: DayActions, second: DayActions) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(DayActions))


# a day ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("players")
def test_the_log_holds_the_physical_actions(stage: Stage, tmp_path: Path) -> None:
    played = one(stage, "Still", tmp_path)
    community = stage.community
    np.testing.assert_allclose(played.actions.position_kw, 0.1 * 50.0)
    np.testing.assert_allclose(
        played.actions.shiftable_kw, np.broadcast_to(0.5 * community.fleet.shiftable_power_kw, (4, 24, 10))
    )
    assert played.failed.sum() == 0
    assert played.ranked
    assert played.decision_s.shape == (4, 25)


@pytest.mark.usefixtures("players")
def test_what_the_environment_played_is_what_the_rollout_of_the_log_plays(stage: Stage, tmp_path: Path) -> None:
    """The costs that the environment reported are never used; they must be the same all the same."""
    played = one(stage, "Noisy", tmp_path)
    trace = rollout(stage.community, stage.dataset.exogenous, stage.rows, played.actions)
    env = TwoStageEnv(stage.dataset, scenario=stage.community, split="test")
    policy = policy_entry("players:Noisy", None).make()
    policy.fit(stage.community, stage.dataset.training_history())
    for d, row in enumerate(stage.rows.tolist()):
        policy.reset(day_seed(stage.seed, row))
        obs, _ = env.reset(options={"day": row})
        cost_ct, done = 0.0, False
        while not done:
            obs, _, done, _, info = env.step(policy.act(obs))
            cost_ct += float(info["community_cost_ct"])
        assert cost_ct == pytest.approx(trace.cost_ct[d].sum(), rel=1e-12)


@pytest.mark.usefixtures("players")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Once", "ValueError: no idea what to do"),
        ("OnceNan", "action['trade'] holds NaN"),
        ("OnceShape", "action['curtail'] has shape (3,), expected (10,)"),
        ("OnceMissing", "the action lacks battery"),
        ("OnceUnknown", "the action has unknown keys heater"),
        ("OnceText", "action['battery'] is not an array of numbers"),
        ("OnceNone", "the action is a NoneType, not a dict"),
        ("OnceWreck", "ValueError: spoilt"),
        ("OnceExit", "SystemExit: enough"),
    ],
)
def test_a_step_that_fails_is_played_by_the_reference_and_counted(
    stage: Stage, tmp_path: Path, name: str, says: str
) -> None:
    stage = replace(stage, rows=stage.rows[:2])
    played = one(stage, name, tmp_path)
    np.testing.assert_array_equal(played.failed, [1, 1])
    assert not played.ranked  # 1 of 25 steps is more than 1 %
    assert f"players:{name}: {stage.dataset.dates[stage.rows[0]]}, hour 5: " in played.first_error
    assert says in played.first_error
    assert "\n" not in played.first_error
    still = one(stage, "Still", tmp_path)
    for d, row in enumerate(stage.rows.tolist()):
        instead = no_control_action(stage.community, stage.dataset, row, 6)
        np.testing.assert_array_equal(
            played.actions.shiftable_kw[d, 5],
            to_kw(stage.community, instead, stage.dataset.pv_kw[row, 5]).shiftable_kw,
        )
    others = np.delete(np.arange(24), 5)
    np.testing.assert_array_equal(played.actions.shiftable_kw[:, others], still.actions.shiftable_kw[:, others])


@pytest.mark.usefixtures("players")
@pytest.mark.parametrize("name", ["NoReset", "ExitReset"])
def test_a_policy_that_never_starts_fails_every_step_and_plays_the_reference(
    stage: Stage, tmp_path: Path, name: str
) -> None:
    played = one(stage, name, tmp_path)
    np.testing.assert_array_equal(played.failed, [25] * 4)
    assert played.failed_share == 1.0
    reference = DayActions.join(
        [anchor_episode("no-control", stage.community, stage.dataset, rows).actions for rows in stage.episodes]
    )
    for item in fields(DayActions):
        np.testing.assert_allclose(getattr(played.actions, item.name), getattr(reference, item.name), atol=1e-12)


def test_the_failure_action_at_the_gate_is_the_references_position(stage: Stage) -> None:
    row = int(stage.rows[0])
    position = position_to_kw(stage.community, no_control_action(stage.community, stage.dataset, row, 0))
    past = slice(row - 7, row)
    net = (stage.dataset.load_kw[past] - stage.dataset.pv_kw[past]).mean(axis=0) + stage.dataset.shiftable_ref_kw[row]
    np.testing.assert_allclose(position, np.clip(net, 0.0, 50.0).T, atol=1e-12)


@pytest.mark.usefixtures("players")
def test_numbers_out_of_range_are_clipped_and_counted_where_they_are_read(stage: Stage, tmp_path: Path) -> None:
    played = one(stage, "Beyond", tmp_path)
    np.testing.assert_array_equal(played.out_of_range, [240 + 2 * 24] * 4)
    assert played.failed.sum() == 0
    np.testing.assert_array_equal(played.actions.position_kw, 50.0)
    np.testing.assert_array_equal(played.actions.battery_kw[0, 0, :2], [20.0, -20.0])


@pytest.mark.usefixtures("players")
def test_a_fit_that_fails_ends_that_policy_alone(stage: Stage, tmp_path: Path) -> None:
    entries = [policy_entry(f"players:{name}", None) for name in ("NoFit", "ExitFit", "Still")]
    for jobs in (1, 2):
        failed, left, fine = play(stage, entries, tmp_path / str(jobs), jobs=jobs)
        assert isinstance(failed, Failure)
        assert failed.error == "fit failed: RuntimeError: out of tune"
        assert isinstance(left, Failure)
        assert left.error == "fit failed: SystemExit: 0"
        assert isinstance(fine, Played)


@pytest.mark.usefixtures("players")
def test_days_do_not_depend_on_the_days_before_them(stage: Stage, tmp_path: Path) -> None:
    """Played backwards and alone, a day comes out the same, random numbers of the policy included."""
    forwards = one(stage, "Noisy", tmp_path / "a")
    backwards = one(replace(stage, rows=stage.rows[::-1].copy()), "Noisy", tmp_path / "b")
    np.testing.assert_array_equal(forwards.actions.battery_kw, backwards.actions.battery_kw[::-1])
    other_seed = one(replace(stage, seed=1), "Noisy", tmp_path / "c")
    assert not np.array_equal(forwards.actions.battery_kw, other_seed.actions.battery_kw)


# processes --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("players")
def test_two_processes_give_the_same_as_one(stage: Stage, tmp_path: Path) -> None:
    entries = [
        policy_entry("players:Noisy", None),
        policy_entry("saa", "open_loop"),
        Entry("perfect-day-ahead", "both", "reference", "-"),
    ]
    alone = play(stage, entries, tmp_path / "one")
    shared = play(stage, entries, tmp_path / "two", jobs=2)
    for first, second in zip(alone, shared, strict=True):
        assert isinstance(first, Played)
        assert isinstance(second, Played)
        assert same(first.actions, second.actions), first.entry.name
        assert first.revision == second.revision
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("players")
def test_a_policy_that_cannot_be_sent_to_a_process_says_so(stage: Stage, tmp_path: Path) -> None:
    (result,) = play(stage, [policy_entry("players:Unsendable", None)], tmp_path, jobs=2)
    assert isinstance(result, Failure)
    assert "cannot be sent to another process" in result.error
    assert "--jobs 1" in result.error
    assert one(stage, "Unsendable", tmp_path).failed.sum() == 0


@pytest.mark.usefixtures("players")
def test_a_process_that_dies_fails_the_run_in_one_line_and_keeps_the_rest(stage: Stage, tmp_path: Path) -> None:
    one(stage, "Still", tmp_path)
    with pytest.raises(RunError, match="killed from outside") as caught:
        one(stage, "Dies", tmp_path, jobs=2)
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()
    listener = Listener()
    one(stage, "Still", tmp_path, listener=listener)
    assert listener.advanced == 0


def test_no_processes_are_refused(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--jobs 0"):
        play(stage, [], tmp_path, jobs=0)


# what is kept -----------------------------------------------------------------------------------------------------


def files(out: Path) -> list[Path]:
    return sorted(out.glob("work/*/2*.npz"))


@pytest.mark.usefixtures("players")
def test_a_second_run_plays_nothing_again(stage: Stage, tmp_path: Path) -> None:
    first = one(stage, "Noisy", tmp_path)
    listener = Listener()
    second = one(stage, "Noisy", tmp_path, listener=listener)
    assert listener.advanced == 0
    assert listener.kept == {"players:Noisy (mpc)": 4}
    assert same(first.actions, second.actions)
    assert first.fit_s == second.fit_s
    np.testing.assert_array_equal(first.decision_s, second.decision_s)


@pytest.mark.usefixtures("players")
def test_more_days_build_on_those_that_are_there(stage: Stage, tmp_path: Path) -> None:
    one(replace(stage, rows=stage.rows[:3]), "Noisy", tmp_path)
    listener = Listener()
    grown = one(stage, "Noisy", tmp_path, listener=listener)
    assert listener.advanced == 1
    assert same(grown.actions, one(stage, "Noisy", tmp_path / "anew").actions)


@pytest.mark.usefixtures("players")
def test_fresh_plays_all_days_again(stage: Stage, tmp_path: Path) -> None:
    one(stage, "Still", tmp_path)
    listener = Listener()
    one(stage, "Still", tmp_path, listener=listener, fresh=True)
    assert listener.advanced == 4


@pytest.mark.usefixtures("players")
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "swap", "day", "policy"])
def test_a_damaged_day_is_named_and_played_again(stage: Stage, tmp_path: Path, damage: str) -> None:
    whole = one(stage, "Noisy", tmp_path)
    victim = files(tmp_path)[1]
    content = victim.read_bytes()
    if damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        victim.write_bytes(b"")
    elif damage == "day":  # a whole file, of another day
        victim.write_bytes(files(tmp_path)[2].read_bytes())
    elif damage == "policy":  # of the same day, but of another policy
        one(stage, "Still", tmp_path / "other")
        victim.write_bytes(files(tmp_path / "other")[1].read_bytes())
    elif damage == "flip":  # inside an array, where the archive's own checksum sees it
        place = content.index(b"battery_kw.npy") + 300
        victim.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif damage == "other":  # a sound archive with changed figures
        with np.load(victim) as file:
            arrays = dict(file)
        arrays["battery_kw"][0, 0] += 1.0
        np.savez(victim, **arrays)
    else:
        with np.load(victim) as file:
            arrays = dict(file)
        del arrays["first_error"]
        np.savez(victim, **arrays)
    listener = Listener()
    mended = one(stage, "Noisy", tmp_path, listener=listener)
    assert listener.advanced == 1
    assert len(listener.notes) == 1
    assert victim.name in listener.notes[0]
    assert "playing the day again" in listener.notes[0]
    assert same(whole.actions, mended.actions)


def test_a_day_file_holds_nothing_that_could_run_code(tmp_path: Path) -> None:
    """Files are read without pickle: what somebody else left there is data at most."""
    store = EpisodeStore(tmp_path, "key")
    np.savez(store.path(np.datetime64("2023-01-01")), battery_kw=np.array([print], dtype=object))  # type: ignore[arg-type]
    with pytest.raises(DamagedEpisodeError, match="cannot be read"):
        store.load(np.datetime64("2023-01-01"))


def test_a_policys_own_code_is_part_of_the_key(stage: Stage, tmp_path: Path, players: Path) -> None:
    first = one(stage, "Still", tmp_path)
    source = players / "players.py"
    source.write_text(source.read_text().replace("np.full((N, H), 0.1)", "np.full((N, H), 0.25)"))
    del sys.modules["players"]
    second = one(stage, "Still", tmp_path)
    assert first.revision != second.revision
    np.testing.assert_allclose(second.actions.position_kw, 0.25 * 50.0)


@pytest.mark.usefixtures("players")
def test_everything_that_decides_what_is_played_is_part_of_the_key(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = policy_entry("players:TwoStage", "open_loop")
    dataset = stage.dataset
    changed = dataset.replace(load_kw=dataset.load_kw * 1.0001)
    tariff = replace(stage.community.tariff, demand_charge_ct_per_kw=21.0)
    keys = [
        run.revision_of(stage, entry, {}),
        run.revision_of(stage, entry, {"k": 7}),
        run.revision_of(stage, policy_entry("players:TwoStage", "mpc"), {}),
        run.revision_of(stage, policy_entry("players:Still", None), {}),
        run.revision_of(replace(stage, dataset=changed), entry, {}),
        run.revision_of(replace(stage, community=stage.community.replace(tariff=tariff)), entry, {}),
        run.revision_of(replace(stage, seed=1), entry, {}),
    ]
    monkeypatch.setattr(run, "code_digest", lambda: "changed")
    keys.append(run.revision_of(stage, entry, {}))
    monkeypatch.setattr(run, "package_lock", lambda: {"piqp": "99"})
    keys.append(run.revision_of(stage, entry, {}))
    assert len(set(keys)) == len(keys)
    assert run.revision_of(replace(stage, rows=stage.rows[:1]), entry, {}) == keys[-1]


@pytest.mark.usefixtures("players")
def test_an_interrupted_run_keeps_its_days_and_the_next_one_goes_on(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        one(stage, "Interrupted", tmp_path)
    assert len(files(tmp_path)) == 2
    listener = Listener()
    one(stage, "Interrupted", tmp_path, listener=listener)
    assert listener.advanced == 2


def test_a_place_that_cannot_be_written_to_is_named(stage: Stage, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UsageError, match="cannot be written to"):
        play(stage, [policy_entry("no-control", "mpc")], blocked / "out")


# rows beside the policies -----------------------------------------------------------------------------------------


def test_the_reference_row_is_what_the_reference_policy_plays(stage: Stage, tmp_path: Path) -> None:
    row, policy = play(
        stage,
        [Entry("no-control", "both", "reference", "-"), policy_entry("no-control", "open_loop")],
        tmp_path,
    )
    assert isinstance(row, Played)
    assert isinstance(policy, Played)
    for item in fields(DayActions):
        np.testing.assert_allclose(getattr(row.actions, item.name), getattr(policy.actions, item.name), atol=1e-12)


def test_perfect_day_ahead_settles_nothing_in_real_time(stage: Stage) -> None:
    logs = [anchor_episode("perfect-day-ahead", stage.community, stage.dataset, rows) for rows in stage.episodes]
    trace = rollout(
        stage.community, stage.dataset.exogenous, stage.rows, DayActions.join([log.actions for log in logs])
    )
    np.testing.assert_allclose(trace.realtime_kw, 0.0, atol=1e-9)
    np.testing.assert_allclose(trace.battery_kw, 0.0)
