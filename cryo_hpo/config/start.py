"""Define how a search starts: at known good points, at a calibrated default, or evenly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AliasChoices, Discriminator, Field, Tag

from .frozen import Frozen, Problem
from .space import SearchSpace

StartKind = Literal["even", "known", "calibrated"]


class StartFrom(Frozen):
    """A portfolio of one's own, which extends the shipped one."""

    kind: Literal["known", "calibrated"] = Field(
        default="known", description="What is taken from the portfolio: see `start`."
    )
    path: str = Field(
        min_length=1,
        validation_alias=AliasChoices("from", "path"),
        description="Portfolio of `cryo-hpo learn`, or a folder of such files, relative to the working directory.",
    )


def _start_kind(value: object) -> str:
    return "StartFrom" if isinstance(value, StartFrom | Mapping) else "word"


Start = Annotated[
    Annotated[StartKind, Tag("word")] | Annotated[StartFrom, Tag("StartFrom")],
    Discriminator(_start_kind),
]


def kind_of(start: Start) -> StartKind:
    """Return the word for a start, whatever its portfolio."""
    return start.kind if isinstance(start, StartFrom) else start


def start_problems(start: Start, space: object, *, promotes: bool) -> Iterator[Problem]:
    """Yield why a search cannot start at known points.

    Args:
        start: Its start.
        space: Its space.
        promotes: Whether its trials pause at rungs and may be promoted.
    """
    if start == "even":
        return
    if not promotes:
        message = (
            "Known points are compared at a rung and may be promoted later, which needs "
            "scheduler: {kind: asha, rule: promote}. Drop start, or use that rule."
        )
        yield Problem(("start",), message)
    if not isinstance(space, SearchSpace):
        message = (
            "Known points belong to recipe paths, and a space by a function has names of its own. "
            "Drop start, or write the space as ranges."
        )
        yield Problem(("start",), message)
