"""A YAML file of a user's, read safely: plain values only, nothing twice, nothing without end.

Read by PyYAML's safe loader, but plain values mean what they mean in the core schema of YAML 1.2: `no` and dates are
texts, and nothing is in base 8 or 60.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from prosumer_gym.errors import UsageError

MAX_BYTES = 1_000_000
MAX_VALUES = 200_000
"""Values of a file when every alias is written out: what an alias repeats counts each time."""
MAX_DEPTH = 30


class _Loader(yaml.SafeLoader):
    """The safe loader with plain values as in YAML 1.2, but for whole numbers that begin with 0."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as the base class has it


for _name, _form, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"({_form})$"), list(_first))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("(~|null|Null|NULL|)$"), ["~", "n", "N", ""])

_ADVICE = {
    "'\\t'": "indent with spaces, not with tabs",
    "could not determine a constructor": "write plain values, without ! before them",
}
"""Part of what PyYAML says -> what to do."""


def shortened(text: str) -> str:
    """The beginning of a text that is too long for a message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def shown(value: object) -> str:
    """A value much as it stands in the file."""
    return shortened(str(value).lower() if isinstance(value, bool) else repr(value))


def read_text(path: Path) -> str:
    """The text of a small file. Raises `UsageError` naming the file: missing, too large or no UTF-8."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: is not a file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{path}: has {size / 1e6:.1f} MB; {MAX_BYTES / 1e6:g} MB is the most that is read")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not text in UTF-8 (byte {error.start}); save it as UTF-8") from None


def read_yaml(path: Path) -> object:
    """What the file holds: dictionaries, lists, texts, numbers.

    Raises:
        UsageError: unreadable, no YAML, another tag than the plain ones, a key that stands twice, nesting deeper than
            `MAX_DEPTH`, or more than `MAX_VALUES` values. The message names file and line.
    """
    text = read_text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise UsageError(f"{path}: is empty")
        _Checks(path).values(node, 0)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        told = [getattr(error, name, None) for name in ("context", "problem", "reason")]
        said = ", ".join(" ".join(each.split()) for each in told if each) or "is no YAML"
        advice = "".join(f"; {what}" for part, what in _ADVICE.items() if part in said)
        raise UsageError(f"{path}: {where}{said}{advice}") from None
    except RecursionError:
        raise UsageError(f"{path}: is nested more than {MAX_DEPTH} levels deep") from None
    except UsageError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise UsageError(f"{path}: a value cannot be read ({str(error).partition(';')[0]})") from None


class _Checks:
    """Walks the parsed nodes once, before anything is built from them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counted: dict[int, int] = {}
        self.open: set[int] = set()

    def values(self, node: yaml.Node, depth: int) -> int:
        """Number of values in the node with all aliases written out; complains about what must not be."""
        line = node.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise UsageError(f"{self.path}: line {line}: is nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, yaml.ScalarNode) and node.style is None and re.fullmatch("[-+]?0[0-9]+", node.value):
            told = shortened(node.value)
            raise UsageError(f"{self.path}: line {line}: {told} begins with 0; leave it out, or quote a text")
        if id(node) in self.open:
            raise UsageError(f"{self.path}: line {line}: refers to itself")
        if id(node) not in self.counted:
            self.open.add(id(node))
            if isinstance(node, yaml.MappingNode):
                self.no_key_twice(node)
            self.counted[id(node)] = 1 + sum(self.values(child, depth + 1) for child in _children(node))
            self.open.remove(id(node))
        if self.counted[id(node)] > MAX_VALUES:
            raise UsageError(f"{self.path}: line {line}: holds more than {MAX_VALUES} values, aliases written out")
        return self.counted[id(node)]

    def no_key_twice(self, node: yaml.MappingNode) -> None:
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if (key.tag, key.value) in first:
                    before = first[key.tag, key.value]
                    raise UsageError(
                        f"{self.path}: line {line}: {shown(key.value)} stands twice (first in line {before})"
                    )
                first[key.tag, key.value] = line


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
