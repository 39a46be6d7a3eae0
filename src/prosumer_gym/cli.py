"""The command `prosumer-gym`. What a command needs is imported when it runs, so that help and errors come at once.

Exit codes: 0 done; 1 a run that failed or a policy that failed on too many steps; 2 bad input; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from prosumer_gym.errors import InterruptedRunError, UsageError
from prosumer_gym.leaderboard.protocol import RunError

if TYPE_CHECKING:
    from rich.console import Console

    from prosumer_gym.leaderboard.bench import Board
    from prosumer_gym.leaderboard.entries import Entry
    from prosumer_gym.leaderboard.run import Stage


app = typer.Typer(
    help="A benchmark of policies that run a community of prosumers.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COLUMNS = 110
_INTERRUPTED = "prosumer-gym: interrupted; run the same command again to go on"

_Dataset = Annotated[str, typer.Option("--dataset", metavar="ID", help="Data set; see: prosumer-gym data list.")]
_Scenario = Annotated[str, typer.Option("--scenario", metavar="ID|FILE", help="A community, or a file street.yaml.")]
_Split = Annotated[str, typer.Option("--split", help="Days to play: train, dev or test.")]
_Days = Annotated[int | None, typer.Option("--days", help="Only the first N days of the split.", show_default="all")]
_Episode = Annotated[
    int, typer.Option("--days-per-episode", help="Days that batteries carry their energy through, 30 say.")
]
_Jobs = Annotated[int | None, typer.Option("--jobs", help="Processes.", show_default="available cores")]
_Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the results.", show_default="runs/DATASET-SCENARIO-SPLIT")
]
_Fresh = Annotated[bool, typer.Option("--fresh", help="Play all days again, whatever is kept of earlier runs.")]


def _version(wanted: bool) -> None:
    if wanted:
        from prosumer_gym import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A benchmark of policies that run a community of prosumers."""


@app.command()
def bench(
    dataset: _Dataset = "tehran-v0",
    scenario: _Scenario = "ieee33",
    split: _Split = "test",
    policies: Annotated[str | None, typer.Option(help="Names, separated by commas.", show_default="all")] = None,
    days: _Days = None,
    mode: Annotated[
        str | None,
        typer.Option(help="open_loop or mpc: every policy that has this mode.", show_default="each on one board"),
    ] = None,
    days_per_episode: _Episode = 1,
    jobs: _Jobs = None,
    out: _Out = None,
    fresh: _Fresh = False,
) -> None:
    """Score the policies on days they have never seen.

    Without --mode, two-stage policies follow the plan of the day before (open_loop), and those that decide hour by
    hour have a second table (mpc). An interrupted run goes on where it stopped when it is started again.
    """
    with _libraries():
        from prosumer_gym.leaderboard.entries import board_entries
    names = None if policies is None else [name.strip() for name in policies.split(",") if name.strip()]
    if names is not None and not names:
        raise UsageError("--policies: no name given; separate names by commas")
    _import_from_here()
    stage, folder = _stage(dataset, scenario, split, days, days_per_episode, out)
    boards = _run(stage, board_entries(mode, names), folder, jobs, fresh)
    _report(stage, split, boards, folder, pictures=True)
    if not all(board.complete for board in boards):
        raise typer.Exit(1)


@app.command()
def score(
    context: typer.Context,
    policy: Annotated[
        str, typer.Argument(metavar="POLICY|RECORD.json", help="A name, package.module:Class, or a record to rescore.")
    ],
    dataset: _Dataset = "tehran-v0",
    scenario: _Scenario = "ieee33",
    split: _Split = "test",
    days: _Days = None,
    mode: Annotated[
        str | None, typer.Option(help="open_loop or mpc.", show_default="open_loop if the policy has two stages")
    ] = None,
    days_per_episode: _Episode = 1,
    jobs: _Jobs = None,
    out: _Out = None,
    fresh: _Fresh = False,
) -> None:
    """Score one policy in detail, or score a record again without simulating."""
    if policy.endswith(".json"):
        _alone(context, policy)
        _rescore(Path(policy))
        return
    with _libraries():
        from prosumer_gym.leaderboard.entries import board_entries
        from prosumer_gym.leaderboard.score import details
        from prosumer_gym.leaderboard.table import print_details
    _import_from_here()
    stage, folder = _stage(dataset, scenario, split, days, days_per_episode, out)
    boards = _run(stage, board_entries(mode, [policy]), folder, jobs, fresh)
    _report(stage, split, boards, folder, pictures=False)
    board = boards[0]
    shown = {row.entry.name: row for row in (*board.policies, *board.anchors)}
    columns = [*(row.entry.name for row in board.policies), "no-control", "oracle-cost"]
    print_details(
        _console(),
        {name: details([shown[name].metrics], board.yard) for name in columns},
        {name: shown[name].score for name in columns},
    )
    if not board.complete:
        raise typer.Exit(1)


@app.command()
def tune(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="One that has parameters, such as knn.")],
    dataset: _Dataset = "tehran-v0",
    scenario: _Scenario = "ieee33",
    jobs: _Jobs = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder that keeps it.", show_default="the user's; see docs/policies.md"),
    ] = None,
) -> None:
    """Choose a policy's parameters on training days; bench and score then use them.

    Test days are not looked at. An interrupted tuning goes on where it stopped when it is started again.
    """
    with _libraries():
        from prosumer_gym.cli_tune import tune as run
    run(policy, dataset, scenario, available_cores() if jobs is None else jobs, out)


def _alone(context: typer.Context, record: str) -> None:
    """A record says itself what was played: an option beside it would do nothing."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name != "policy" and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name.replace('_', '-')}: {record} is scored as it is; leave the option out")


def _rescore(path: Path) -> None:
    """Score a record from the figures it holds."""
    with _libraries():
        from prosumer_gym.leaderboard.records import load_record
        from prosumer_gym.leaderboard.score import ImpossibleScoreError, details, score
        from prosumer_gym.leaderboard.table import print_details, record_lines

    record = load_record(path)
    result = record.result
    runs, yard = [run.metrics() for run in result.runs], result.yard()
    try:
        found = score(result.policy.name, runs, yard)
    except ImpossibleScoreError as error:
        raise UsageError(
            f"{path}: {str(error).partition(';')[0]}; run the policy again to make the record anew"
        ) from None
    console = _console()
    print_details(console, {result.policy.name: details(runs, yard)}, {result.policy.name: found})
    for line in record_lines(record, found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _stage(
    dataset: str, scenario: str, split: str, days: int | None, days_per_episode: int, out: Path | None
) -> tuple[Stage, Path]:
    with _libraries():
        from prosumer_gym.datasets.store import load_dataset
        from prosumer_gym.leaderboard.bench import choose_episodes, community_of
        from prosumer_gym.leaderboard.run import Stage

    data = load_dataset(dataset)
    rows, left_over = choose_episodes(data, split, days, days_per_episode)
    community = community_of(scenario, data)
    length = "" if days_per_episode == 1 else f"-{days_per_episode}days"
    folder = Path("runs") / f"{data.id}-{community.name}-{split}{length}" if out is None else out
    return Stage(community, data, rows, days_per_episode=days_per_episode, left_over=left_over), folder


def _run(stage: Stage, entries: dict[str, list[Entry]], folder: Path, jobs: int | None, fresh: bool) -> list[Board]:
    from rich.console import Console

    from prosumer_gym.leaderboard.bench import run_boards
    from prosumer_gym.leaderboard.progress import reporter

    count = available_cores() if jobs is None else jobs
    unit = "day" if stage.days_per_episode == 1 else "episode"
    try:
        with reporter(Console(stderr=True), unit) as progress:
            if not _kernels_are_compiled():
                progress.note("the first run compiles its kernels, which takes up to a minute")
            return run_boards(stage, entries, folder, jobs=count, reporter=progress, fresh=fresh)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; finished {unit}s are kept in {folder / 'work'}: run the same command again to go on"
        ) from None


def _kernels_are_compiled() -> bool:
    """Whether an earlier process left compiled kernels where they are looked for by default."""
    return "NUMBA_CACHE_DIR" in os.environ or any((Path(__file__).parent / "__pycache__").glob("*.nbi"))


def _report(stage: Stage, split: str, boards: Sequence[Board], folder: Path, *, pictures: bool) -> None:
    """Tables, notes and files of a run."""
    from prosumer_gym.leaderboard.bench import save_rows
    from prosumer_gym.leaderboard.table import notes, print_board

    console = _console()
    for board in boards:
        print_board(console, board)
    for line in notes(stage, split, boards):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    files = save_rows(stage, split, boards, folder)
    said = f"records: {files[0].parent}"
    try:
        if pictures:
            try:
                from prosumer_gym.plots import save_pictures
            except ModuleNotFoundError as error:
                said += f"; no pictures without {error.name}: run pip install '.[plots]' in the checkout"
            else:
                said += f"; pictures: {save_pictures(stage, boards, folder / 'pictures')[0].parent}"
    finally:  # where pictures cannot be written, the records are there all the same
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def _console() -> Console:
    """For results; where there is no terminal, wide enough for the tables."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal or console.width >= _COLUMNS else Console(width=_COLUMNS)


@contextlib.contextmanager
def _libraries() -> Iterator[None]:
    """Say which libraries are missing where a core installation cannot run a bench."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("prosumer_gym"):
            raise
        raise UsageError(
            f"this needs {error.name}, which is not installed; run pip install '.[baselines,plots]' in the checkout"
        ) from None


def _import_from_here() -> None:
    """A user's own class is found in the current directory."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def available_cores() -> int:
    """Cores this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not app.registered_groups and (
            not given or given[0] in ("data", "community") or given[0].startswith("-")
        ):  # their libraries take a while to import
            from prosumer_gym.cli_community import app as community_app
            from prosumer_gym.cli_data import app as data_app

            app.add_typer(data_app, name="data")
            app.add_typer(community_app, name="community")
        code = app(args=given or ["--help"], prog_name="prosumer-gym", standalone_mode=False)
    except UsageError as error:
        _complain(str(error), 2)
    except RunError as error:
        _complain(str(error), 1)
    except InterruptedRunError as error:
        _interrupted(str(error))
    except KeyboardInterrupt:
        _interrupted()
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's own errors, of whichever version
        if message is not None:
            _complain(_plain(message()), getattr(error, "exit_code", 2))
        if type(error).__name__ == "Abort":
            _interrupted()
        raise
    if code == 130:  # what typer makes of an interruption, without a word
        _interrupted()
    raise SystemExit(code if isinstance(code, int) else 0)


def _plain(message: str) -> str:
    """The message of an option, without the words of the library that parsed it."""
    for theirs, ours in (
        ("Value error, ", ""),
        ("Input should be a valid integer, unable to parse string as an integer", "give a whole number"),
        ("Input should be a valid number, unable to parse string as a number", "give a number"),
    ):
        message = message.replace(theirs, ours)
    return message


def _interrupted(message: str = _INTERRUPTED) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(130)


def _complain(message: str, code: int) -> NoReturn:
    print(message if "\n" in message else f"prosumer-gym: {message}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
