"""Define the base of all configuration values, and how broken laws are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

Loc = tuple[str | int, ...]  # keys and positions, from the outermost value inwards


class Frozen(BaseModel):
    """Define a value: immutable, strictly typed, with no fields but its own."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Problem(NamedTuple):
    """Hold one broken law: its place and its message.

    Attributes:
        loc: Path from the value that was validated.
        message: Law, value, remedy.
    """

    loc: Loc
    message: str

    def __str__(self) -> str:
        return f"{format_path(self.loc)}: {self.message}" if self.loc else self.message


class ConstraintErrors(ValueError):
    """Collect all broken laws between the fields of one value; raised inside validators."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


def value_at(raw: Any, loc: Loc) -> Any:
    """Return the value at a path of nested mappings; None if there is none."""
    for part in loc:
        if not isinstance(raw, Mapping) or part not in raw:
            return None
        raw = raw[part]
    return raw


def format_path(loc: Loc) -> str:
    """Format a path for a message: seeds[2], base.optim.lr."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


def format_value(value: object) -> str:
    """Format a value for a message: short, text in quotes."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"a mapping ({', '.join(map(str, value))})" if value else "an empty mapping"
    text = repr(list(value)) if isinstance(value, list | tuple) else repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
