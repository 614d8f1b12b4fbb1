"""Read YAML 1.2 into plain values with line numbers, and write it so that it reads back.

PyYAML reads YAML 1.1, where 1e-4 is text, `no` is false and 010 is eight. Here the core schema of
YAML 1.2 decides: 1e-4 is a number, `no` and `on` are text, 010 is ten. A repeated key, a tag and an
alias that contains itself are reported as problems.

Source: YAML Ain't Markup Language, version 1.2.2, section 10.3 (core schema).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ...errors import SpecError, did_you_mean
from ...storage.plain_files import other_kind
from ..frozen import Loc, Problem
from .file_kind import refuse_other_kind

TAG = "tag:yaml.org,2002:"
NULL = re.compile(r"~|null|Null|NULL|")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
CORE = (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT))  # the first match wins
BREAKS = re.compile("[\n\r\x85\u2028\u2029]")
MAX_BYTES = 2**20  # of a file; the largest written by hand have a few thousand
MAX_DEPTH = 64  # of nested collections
MAX_VALUES = 100_000  # of a file, aliases expanded
MAX_INTEGER = 2**63 - 1
RESOLVERS = {None: [(TAG + name, re.compile(rf"(?:{r.pattern})\Z")) for name, r in CORE]}
RESOLVERS_OF_BOTH = {**yaml.SafeDumper.yaml_implicit_resolvers, **RESOLVERS}


class Mark(NamedTuple):
    """Hold the place of a value in a file.

    Attributes:
        file: Name for messages.
        line: From 1; of the key, if the value has one.
        depth: Parts of the path that lie outside this file.
    """

    file: str
    line: int
    depth: int = 0


class Fault(NamedTuple):
    """Hold a problem with its line; sorts by place, and reads `file:line: path: message`."""

    mark: Mark
    loc: Loc
    message: str

    def __str__(self) -> str:
        return f"{self.mark.file}:{self.mark.line}: {Problem(self.loc[self.mark.depth :], self.message)}"


class Marked(NamedTuple):
    """Hold the content of a file.

    Attributes:
        raw: Mappings, lists and scalars.
        marks: Place of each value; () is the whole file.
        faults: Errors in the YAML itself that did not prevent reading.
    """

    raw: Any
    marks: dict[Loc, Mark]
    faults: list[Fault]


class _Loader(yaml.SafeLoader):
    """Resolve plain scalars as YAML 1.2 does."""

    yaml_implicit_resolvers = RESOLVERS


class _Dumper(yaml.SafeDumper):
    """Quote text that YAML 1.1 or 1.2 would read as another type."""

    yaml_implicit_resolvers = RESOLVERS_OF_BOTH

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write every value in full instead of an alias, for human readers."""
        return True


def read(path: Path, *, what: str) -> Marked:
    """Read a YAML file that holds one mapping.

    Args:
        path: The file; messages name it as given.
        what: Expected content: "study", "search space", "dataset card".

    Raises:
        SpecError: The file does not exist, is not YAML, holds no mapping, or is of another kind.
    """
    text = _text(path, what=what)
    try:
        _refuse_deep(text, path)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax(path, error)) from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        line = text[: error.position].count("\n") + 1
        message = f"{path}:{line}: Unprintable character U+{code:04X}. Remove it."
        raise SpecError(message) from None
    if root is None or root.tag == TAG + "null":
        message = (
            f"{path}: The file is empty. Write a {what}, or copy one that `cryo-hpo list` shows."
        )
        raise SpecError(message)
    if not isinstance(root, yaml.MappingNode):
        message = (
            f"{path}:{root.start_mark.line + 1}: "
            f"{'A list' if isinstance(root, yaml.SequenceNode) else 'A single value'} is not a {what}. "
            "Write keys and values, as `key: value`, one per line."
        )
        raise SpecError(message)
    walk = _Walk(str(path))
    raw = walk.value(root, (), ())
    refuse_other_kind(raw, path, what=what)
    return Marked(raw, walk.marks, walk.faults)


def write(raw: Mapping[str, Any]) -> str:
    """Return a mapping as YAML that reads back as the same mapping."""
    text = yaml.dump(
        raw, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
    return str(text)


def locate(marks: Mapping[Loc, Mark], problem: Problem) -> Fault:
    """Return a problem with the line of the nearest enclosing value."""
    place = problem.loc
    while place not in marks:
        place = place[:-1]
    return Fault(marks[place], problem.loc, problem.message)


def _refuse_deep(text: str, path: Path) -> None:
    """Refuse nesting that would overflow a recursive reader; the parser itself is iterative."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = 1 if event.start_mark is None else event.start_mark.line + 1
            message = (
                f"{path}:{line}: Collections are nested more than {MAX_DEPTH} "
                "deep. Write them flatter."
            )
            raise SpecError(message)


def _quote(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Put text with a line break of any kind into double quotes: elsewhere PyYAML loses some."""
    style = '"' if BREAKS.search(text) else None
    return dumper.represent_scalar(TAG + "str", text, style=style)


_Dumper.add_representer(str, _quote)


def _text(path: Path, *, what: str) -> str:
    if kind := other_kind(path):
        message = f"{path}: The {what} must be a file, it is {kind}. Name another one."
        raise SpecError(message)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            message = f"{path}: The file is larger than {MAX_BYTES:,} bytes, so it is no {what}. Name another one."
            raise SpecError(message)
        return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        message = f"There is no {what} file '{path}'.{_describe_neighbors(path)}"
        raise SpecError(message) from None
    except UnicodeDecodeError as error:
        message = f"{path}: Not text in UTF-8: {error.reason}. Save the file as UTF-8."
        raise SpecError(message) from None
    except OSError as error:
        message = (
            f"{path}: Cannot read the {what}: {error.strerror}. Check the path and its permissions."
        )
        raise SpecError(message) from None


def _describe_neighbors(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder '{path.parent}' either. Paths in a study are relative to its file."
    names = sorted(p.name for p in path.parent.iterdir())
    return did_you_mean(path.name, names) or f" Look into '{path.parent}' for its name."


def _syntax(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = "" if mark is None else f":{mark.line + 1}"
    column = "" if mark is None else f" at column {mark.column + 1}"
    what = (error.problem or "it ends too soon").replace("\t", "\\t")
    if what.startswith("but"):
        what = f"{error.context}, {what}"
    remedy = (
        "Indent with spaces, not tabs."
        if "\\t" in what
        else "Look at indentation, colons, quotes and brackets here and on the line above."
    )
    return f"{path}{line}: Not valid YAML: {what}{column}. {remedy}"


class _Walk:
    """Turn nodes into values, and record lines and problems on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.marks: dict[Loc, Mark] = {}
        self.faults: list[Fault] = []
        self.num_values = 0

    def value(self, node: yaml.Node, loc: Loc, above: tuple[int, ...]) -> Any:
        """Return the value of a node; `above` are the nodes that contain it."""
        line = node.start_mark.line + 1
        self.marks.setdefault(loc, Mark(self.file, line))
        self.num_values += 1
        if self.num_values > MAX_VALUES or len(above) > MAX_DEPTH:
            message = (
                f"{self.file}:{line}: Aliases expand to more than {MAX_VALUES:,} values, or more "
                f"than {MAX_DEPTH} deep. Write the values out."
            )
            raise SpecError(message)
        if id(node) in above:
            self._refuse(loc, node, "Alias refers to itself. Write the value out.")
            return None
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, loc, above))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*loc, i), above) for i, item in enumerate(node.value)]
        return self._scalar(node, loc)

    def _items(
        self, node: yaml.MappingNode, loc: Loc, above: tuple[int, ...]
    ) -> Iterator[tuple[str, Any]]:
        lines: dict[str, int] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                message = "Key is a collection. Write it as text."
                self._refuse(loc, key, message)
                continue
            name = str(key.value)
            if name in lines:
                message = f"Key '{name}' is repeated; it is also on line {lines[name]}. Remove one of them."
                self._refuse((*loc, name), key, message)
                continue
            lines[name] = key.start_mark.line + 1
            self.marks[(*loc, name)] = Mark(self.file, lines[name])
            yield name, self.value(inner, (*loc, name), above)

    def _scalar(self, node: yaml.Node, loc: Loc) -> Any:
        text, tag = str(node.value), node.tag.removeprefix(TAG)
        if tag == "str":
            return text
        if tag == "null" and NULL.fullmatch(text):
            return None
        if tag == "bool" and BOOL.fullmatch(text):
            return text.lower() == "true"
        if tag == "int" and INT.fullmatch(text):
            return self._integer(text, loc, node)
        if tag == "float" and FLOAT.fullmatch(text):
            return float(re.sub(r"\.(?=[inIN])", "", text))
        self._refuse(loc, node, f"Tag '{node.tag}' is not supported. Write the value without it.")
        return None

    def _integer(self, text: str, loc: Loc, node: yaml.Node) -> int | None:
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        digits = text[2:] if base != 10 else text
        # the length first: Python refuses to parse thousands of digits
        number = int(digits, base) if len(digits.lstrip("+-0")) <= 22 else MAX_INTEGER + 1
        if abs(number) <= MAX_INTEGER:
            return number
        shown = text if len(text) <= 40 else f"{text[:36]} ..."
        self._refuse(loc, node, f"Number is beyond 64 bits: {shown}. Write a smaller one.")
        return 1

    def _refuse(self, loc: Loc, node: yaml.Node, message: str) -> None:
        self.faults.append(Fault(Mark(self.file, node.start_mark.line + 1), loc, message))
