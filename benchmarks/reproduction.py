"""Renders docs/reproduction.md from the files in docs/reproduction/; fetches the boards' figures from their records.

    python benchmarks/reproduction.py                                # the page anew from the files
    python benchmarks/reproduction.py --records leaderboard/results runs/controls/records      # fetch, then the page
    python benchmarks/reproduction.py --pictures                     # the pictures too
    python benchmarks/reproduction.py --check    # exit 1 where page and files, or files and published records, disagree

Nothing is played here. Records come from `prosumer-gym bench`; the files of the other studies from their own scripts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import ablations
import community_size
import dro_reproduction
import lyapunov_study
import sample_size
from pages import DOCS, filled, markdown
from studies import FOLDER, Estimate, Study, change, figures, load, ratio, save

from prosumer_gym import leaderboard
from prosumer_gym.leaderboard.entries import BOTH, ORACLES, REFERENCE
from prosumer_gym.leaderboard.records import Record, load_record

PAGE = DOCS / "reproduction.md"
RESULTS = Path(leaderboard.__path__[0]) / "results"
SCENARIO = "ieee33"
DATASETS = ("tehran-v0", "cambridge-2018")
OPEN_LOOP, MPC = "open_loop", "mpc"
ORACLE = ORACLES["cost"]
BOARDS = {
    BOTH: (REFERENCE, ORACLE),
    OPEN_LOOP: (
        "po", "saa", "knn", "dcso", "er-saa", "dro", "po+permuted", "knn+permuted", "dcso+permuted", "er-saa+permuted",
    ),
    MPC: ("po", "er-saa", "dro", "greedy", "lyapunov"),
}  # fmt: skip
"""What the page takes from the boards, by mode."""
PUBLISHED_CT = {"po": 11359, "saa": 10469, "knn": 9831, "dcso": 9187}
"""arXiv 2409.00493: cost by method; `dcso` is its CkNN."""
STUDIES: dict[str, Any] = {
    script.NAME: script for script in (sample_size, community_size, ablations, dro_reproduction, lyapunov_study)
}
NOT_PLAYED = "not played"


def main() -> None:
    """Fetch, render or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", nargs="+", type=Path, help="folders of records to fetch from")
    parser.add_argument("--split", default="test", help="of the records")
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    if asked.check:
        check()
        return
    if asked.records:
        for study in fetched(asked.records, asked.split):
            save(study, FOLDER / f"boards.{study.dataset}.json")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for name in ("sample_size", "community_size") if asked.pictures else ():
        STUDIES[name].draw(of_all(name))


def check() -> None:
    """Exit with 1 where the page is not of the files, or the files are not of the records that are published."""
    text = PAGE.read_text(encoding="utf-8")
    if page(text) != text:
        raise SystemExit(f"{PAGE.name}: not what docs/reproduction/ says; run: python benchmarks/reproduction.py")
    boards = {study.dataset: study for study in of_all("boards")}
    for record in wanted(records_in([RESULTS]), "test"):
        result = record.result
        of = {"policy": result.policy.name, "mode": result.mode, "record": record.result_sha256}
        if not boards[result.dataset.id].has(**of):
            raise SystemExit(
                f"docs/reproduction/boards.{result.dataset.id}.json: not of the record of {result.policy.name} "
                f"({result.mode}); run: python benchmarks/reproduction.py --records leaderboard/results ..."
            )


# the boards -------------------------------------------------------------------------------------------------------


def records_in(folders: Iterable[Path]) -> list[Record]:
    """All records of some folders."""
    return [load_record(path) for folder in folders for path in sorted(folder.glob("*.json"))]


def wanted(records: Iterable[Record], split: str) -> list[Record]:
    """Those of the boards of single days that the page is about."""
    return [
        record
        for record in records
        if (result := record.result).policy.name in BOARDS.get(result.mode, ())
        and result.dataset.id in DATASETS
        and (result.dataset.split, result.dataset.days_per_episode) == (split, 1)
        and (result.scenario.id, result.control) == (SCENARIO, "central")
    ]


def fetched(folders: Sequence[Path], split: str) -> list[Study]:
    """The boards' figures by day, a study a data set.

    Raises:
        SystemExit: nothing is there, two records of one policy and mode, or records of different days.
    """
    studies = []
    for name in DATASETS:
        records = [record for record in wanted(records_in(folders), split) if record.result.dataset.id == name]
        if not records:
            raise SystemExit(f"no record of {name}, split {split}, in {', '.join(map(str, folders))}")
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for record in records:
            result = record.result
            if result.dataset != records[0].result.dataset:
                other = records[0].result.policy.name
                raise SystemExit(f"{result.policy.name} ({result.mode}): not of the days of {other}")
            (run,) = result.runs
            case = {"policy": result.policy.name, "mode": result.mode, "record": record.result_sha256}
            before = found.setdefault((result.mode, result.policy.name), case | figures(run.metrics()))
            if before["record"] != record.result_sha256:
                raise SystemExit(f"{name}: two records of {result.policy.name} ({result.mode}); take the old one away")
        of = records[0].result.dataset
        folder = " ".join(map(str, folders))
        studies.append(
            Study(
                command=f"python benchmarks/reproduction.py --records {folder}",
                dataset=name,
                dataset_sha256=of.sha256,
                split=split,
                dates=list(of.dates),
                week=list(of.week),
                cases=[found[mode, policy] for mode in BOARDS for policy in BOARDS[mode] if (mode, policy) in found],
            )
        )
    return studies


def compared(
    study: Study,
    first: str,
    second: str,
    of: Callable[..., Estimate],
    *,
    figure: str = "cost_ct",
    mode: str = OPEN_LOOP,
) -> Estimate | None:
    """A figure of the policy `first` against that of `second`; None if one of them was not played."""
    both = [{"policy": name, "mode": BOTH if name in BOARDS[BOTH] else mode} for name in (first, second)]
    if not all(study.has(**each) for each in both):
        return None
    return of(*(study.days(figure, **each) for each in both), study.weeks)


def against(study: Study, first: str, second: str, *, figure: str = "cost_ct", mode: str = OPEN_LOOP) -> str:
    """Change of a figure from the policy `second` to `first`, in percent with its interval."""
    found = compared(study, first, second, change, figure=figure, mode=mode)
    return found.percent if found else NOT_PLAYED


def ratio_to(study: Study, first: str, second: str) -> str:
    """Cost of a policy over that of another; 1 for itself."""
    found = compared(study, first, second, ratio)
    return "1" if first == second else found.told(3) if found else NOT_PLAYED


def ratios(study: Study) -> str:
    """Cost and peak of the paper's methods, beside what it publishes."""
    head = (
        "policy", "published, ct", "to PO", "ct/day", "to `po`", "to `po+permuted`", "peak, kW",
        "peak against `po+permuted`",
    )  # fmt: skip
    lines = []
    for name in ("po+permuted", *PUBLISHED_CT, "er-saa", REFERENCE, ORACLE):
        of = {"policy": name, "mode": BOTH if name in BOARDS[BOTH] else OPEN_LOOP}
        published = PUBLISHED_CT.get(name)
        lines.append(
            (
                f"*{name}*" if name == ORACLE else f"`{name}`",
                f"{published}" if published else "",
                f"{published / PUBLISHED_CT['po']:.3f}" if published else "",
                f"{study.days('cost_ct', **of).mean():.0f}" if study.has(**of) else NOT_PLAYED,
                ratio_to(study, name, "po"),
                ratio_to(study, name, "po+permuted"),
                f"{study.days('peak_kw', **of).mean():.0f}" if study.has(**of) else NOT_PLAYED,
                "" if name == "po+permuted" else against(study, name, "po+permuted", figure="peak_kw"),
            )
        )
    return f"{study.told}, open loop.\n\n{markdown(head, lines)}\n\n{order(study)}"


def order(study: Study) -> str:
    """Which steps of the published order came out so, in words."""
    steps = []
    for dearer, cheaper in pairwise(PUBLISHED_CT):
        step = compared(study, cheaper, dearer, change)
        if step is None:
            steps.append(f"`{cheaper}` below `{dearer}`: {NOT_PLAYED}")
            continue
        sure = step.interval is not None and step.interval.low * step.interval.high > 0
        verdict = ("as published" if step.value < 0 else "the other way round") if sure else "cannot be told apart"
        steps.append(f"`{cheaper}` below `{dearer}`: {verdict}, {step.percent}")
    return f"The published order, step by step: {'; '.join(steps)}."


def rivals(boards: Sequence[Study]) -> str:
    """`dcso` against each other method, as the paper's abstract of its results puts it."""
    columns = (f"{what}, {study.dataset}" for study in boards for what in ("cost", "peak"))
    head = ("`dcso` against", "published cost", *columns)
    lines = []
    for name in ("po+permuted", "po", "saa", "knn", REFERENCE):
        ours = [against(study, "dcso", name, figure=figure) for study in boards for figure in ("cost_ct", "peak_kw")]
        published = PUBLISHED_CT["dcso"] / PUBLISHED_CT[name] - 1 if name in PUBLISHED_CT else None
        lines.append((f"`{name}`", f"{100 * published:.1f} %" if published else "", *ours))
    return f"{days_of(boards)}, open loop; change with its 95 % interval.\n\n{markdown(head, lines)}"


def controls(boards: Sequence[Study]) -> str:
    """What is left of each method's gain when contexts are permuted."""
    pairs = [(f"{name}{option}", "saa") for name in ("po", "er-saa", "knn", "dcso") for option in ("", "+permuted")]
    pairs += [("dcso", "knn"), ("dcso+permuted", "knn+permuted")]
    head = ("policy", "against", *(study.dataset for study in boards))
    lines = [(f"`{a}`", f"`{b}`", *(against(study, a, b) for study in boards)) for a, b in pairs]
    return f"{days_of(boards)}, open loop; change of cost.\n\n{markdown(head, lines, text_columns=2)}"


def against_reference(boards: Sequence[Study]) -> str:
    """`dro` against no control."""
    head = ("mode", "figure", "published", *(study.dataset for study in boards))
    published = {"cost_ct": "-30.4 % (text: 35 %)", "par": "up to -30 %", "peak_kw": ""}
    named = {"cost_ct": "cost", "par": "PAR", "peak_kw": "peak"}
    lines = [
        (
            mode.replace("_", " "),
            named[figure],
            said,
            *(against(study, "dro", REFERENCE, figure=figure, mode=mode) for study in boards),
        )
        for mode in (OPEN_LOOP, MPC)
        for figure, said in published.items()
    ]
    return f"`dro` against `no-control`; {days_of(boards)}.\n\n{markdown(head, lines, text_columns=3)}"


def online(boards: Sequence[Study]) -> str:
    """`lyapunov` against what it is compared with, and how far below `greedy` anybody can be."""
    head = ("policy", "against", "figure", "published", *(study.dataset for study in boards))
    rows = [("lyapunov", other, figure) for other in ("greedy", REFERENCE) for figure in ("cost_ct", "peak_kw")]
    lines = [
        (
            f"*{name}*" if name == ORACLE else f"`{name}`",
            f"`{other}`",
            {"cost_ct": "cost", "peak_kw": "peak"}[figure],
            "-53.10 %" if (name, other, figure) == ("lyapunov", "greedy", "cost_ct") else "",
            *(against(study, name, other, figure=figure, mode=MPC) for study in boards),
        )
        for name, other, figure in (*rows, (ORACLE, "greedy", "cost_ct"))
    ]
    return f"Hour by hour; {days_of(boards)}.\n\n{markdown(head, lines, text_columns=4)}"


def days_of(boards: Sequence[Study]) -> str:
    """Which days the boards are of."""
    return "; ".join(study.told for study in boards)


# the page ---------------------------------------------------------------------------------------------------------


def of_all(name: str) -> list[Study]:
    """The studies called so, of every data set that has one."""
    paths = [FOLDER / f"{name}.{dataset}.json" for dataset in DATASETS]
    return [load(path) for path in paths if path.exists()]


def page(text: str) -> str:
    """The page with its tables as the files say."""
    boards = of_all("boards")
    tables = {f"cost ratios {study.dataset}": ratios(study) for study in boards}
    tables |= {
        "dcso against": rivals(boards),
        "controls": controls(boards),
        "dro against no control": against_reference(boards),
        "lyapunov against": online(boards),
        "how it was made": how(boards),
    }
    for name, script in STUDIES.items():
        studies = of_all(name)
        tables |= script.tables(studies)
        for dataset in set(DATASETS) - {study.dataset for study in studies}:
            command = f"python benchmarks/{Path(script.__file__).name} --dataset {dataset} --write"
            tables[f"{name.replace('_', ' ')} {dataset}"] = f"Not played yet: `{command}`."
    for name, table in tables.items():
        text = filled(text, name, table)
    return text


def how(boards: Sequence[Study]) -> str:
    """The commands, and the days that they were run on."""
    rows = [(f"`{study.command}`", study.told) for name in STUDIES for study in of_all(name)]
    rows += [(f"`{study.command}`", study.told) for study in boards]
    return markdown(("command", "days"), list(dict.fromkeys(rows)), text_columns=2)


if __name__ == "__main__":
    main()
