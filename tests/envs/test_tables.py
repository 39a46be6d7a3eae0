from __future__ import annotations

import re
from pathlib import Path

import pytest

from prosumer_gym.envs import DayAheadEnv, RealTimeEnv
from prosumer_gym.envs.tables import TABLES, filled
from prosumer_gym.errors import UsageError

PAGE = Path(__file__).parents[2] / "docs" / "environment.md"


def test_the_page_says_what_the_code_does() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m prosumer_gym.envs.tables docs/environment.md"


def test_a_change_of_the_page_or_of_the_code_is_noticed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text.replace("state of charge of the batteries", "charge")) == text
    with pytest.raises(UsageError, match="tables"):
        filled(text.replace("<!-- table: info -->", ""))
    assert all(table() in text for table in TABLES.values())


def test_the_pages_examples_run_and_its_pictures_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    # Three sections write files or need a library more: `tests/test_docs.py` runs them in a process of their own.
    apart = r"^## (?:Pictures|With RL libraries|One agent a prosumer)\n.*?(?=^## )"
    blocks = re.findall(r"```python\n(.*?)```", re.sub(apart, "", text, flags=re.DOTALL | re.MULTILINE), re.DOTALL)
    assert len(blocks) == 4
    for code in blocks:
        played: dict[str, object] = {}
        exec(code, played)
        assert played.get("terminated", True) is True
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (PAGE.parent / picture).stat().st_size < 200_000


def test_the_places_in_the_page_are_those_of_the_layouts() -> None:
    for env in (RealTimeEnv(), DayAheadEnv()):
        for name, place in env.layout.items():
            assert re.search(
                rf"\| `{name}` \| [^|]+ \| {place.start}:{place.stop} \|", PAGE.read_text(encoding="utf-8")
            )
