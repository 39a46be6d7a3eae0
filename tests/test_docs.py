"""The examples of the pages run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python_block(page: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=environment)


def test_the_ten_lines_of_the_readme(tmp_path: Path) -> None:
    done = run(["-c", python_block("README.md")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"a day at random costs \d+ ct, penalties for voltage and peak included\n", done.stdout)


def test_the_policy_of_the_guide_is_scored_as_the_guide_says(tmp_path: Path) -> None:
    (tmp_path / "my_policy.py").write_text(python_block("docs/policies.md"), encoding="utf-8")
    command = ["score", "my_policy:SunIntoBattery", "--split", "dev", "--days", "8", "--jobs", "1"]
    done = run(["-m", "prosumer_gym.cli", *command], tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.lstrip().startswith(("SunIntoBattery", "my_policy"))][
        :1
    ]
    assert -0.2 < float(line.split()[1]) < 0.0
    assert line.split()[-1] == "0"  # no step failed


@pytest.mark.parametrize(
    ("section", "needs"),
    [("With RL libraries", "stable_baselines3"), ("One agent a prosumer", "pettingzoo"), ("Pictures", "matplotlib")],
)
def test_the_examples_of_the_environments_page_run(section: str, needs: str, tmp_path: Path) -> None:
    pytest.importorskip(needs)
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    (part,) = re.findall(rf"^## {section}\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    assert blocks
    done = run(["-W", "error::DeprecationWarning:__main__", "-c", "\n".join(blocks)], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        if target not in ("CONTRIBUTING.md",):  # does not travel with an installed copy of the pages
            assert ((ROOT / page).parent / target).exists(), target
