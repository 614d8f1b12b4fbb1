"""Load studies and search spaces, and report all their problems at once."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ...errors import CryoError, SpecError, combine
from ..dataset_card import DatasetCard
from ..frozen import Loc, Problem, value_at
from ..messages import explain
from ..space import SearchSpace
from ..study import DefineByRun, Study
from .encoder_names import named_encoders, unknown_encoders
from .load_prior import inline_prior
from .marked_yaml import Fault, Marked, locate, read
from .python_space import check_corners, load_python
from .shipped import Kind, find_source

M = TypeVar("M", SearchSpace, DatasetCard)
SPACE: Loc = ("search", "space")
CARD: Loc = ("base", "data", "card")
# Replaces a required value that is wrong, so that the laws about the others are checked too.
STAND_INS: dict[Loc, Any] = {
    ("name",): "x",
    ("base",): {"data": {"name": "x"}},
    ("base", "data"): {"name": "x"},
    ("search", "trials"): 1,
    SPACE: {"params": {"optim.lr": {"kind": "float", "low": 1.0, "high": 1.0}}},
}
WHOLE: tuple[Loc, ...] = (SPACE, CARD, ("seeds",))  # half of one breaks laws that the whole keeps


def load_study(path: Path | str) -> Study:
    """Read a study, with the search space and the dataset card that it names.

    Args:
        path: A YAML file, or the name of a study that ships. Paths in it are relative to it.

    Raises:
        SpecError: All problems, one per line: `file:line: path: law, value, remedy`.
    """
    file = Path(find_source(str(path), "study", beside=Path()))
    marked = read(file, what="study")
    elsewhere = [*inline_file(marked, SPACE, file), *inline_file(marked, CARD, file)]
    inline_prior(marked, file)
    encoders = named_encoders(marked.raw)
    study, problems = validate_study(marked.raw)
    if study is not None and study.search and isinstance(study.search.space, DefineByRun):
        problems += [
            Problem((*SPACE, *p.loc), p.message)
            for p in check_corners(study.search.space, study.base)
        ]
    refuse(marked, problems, elsewhere, encoders)
    assert study is not None, "a study without problems is one"
    return study


def load_space(source: Path | str) -> SearchSpace:
    """Read a search space.

    Args:
        source: `file.yaml`, or `file.py:function` for a function that returns one, relative to
            the working directory; or the name of a space that ships, such as `lr`.

    Raises:
        SpecError: All problems, one per line.
    """
    source = find_source(str(source), "search space", beside=Path())
    if _is_python(source):
        space, where = load_python(source, beside=Path())
        if isinstance(space, DefineByRun):
            message = (
                f"{where.file}:{where.line}: '{space.function}' takes a trial, so it has no search "
                "space to show. Name it in a study, where it runs for each trial."
            )
            raise SpecError(message)
        return space
    marked = read(Path(source), what="search space")
    return _validate(marked, SearchSpace)


def load_card(path: Path | str) -> DatasetCard:
    """Read the card of a user's own dataset.

    Args:
        path: A YAML file, or the name of a card that ships.

    Raises:
        SpecError: All problems, one per line.
    """
    file = Path(find_source(str(path), "dataset card", beside=Path()))
    marked = read(file, what="dataset card")
    return _validate(marked, DatasetCard)


def _validate(marked: Marked, model: type[M]) -> M:
    """Return the value of a file, or raise all its problems with their lines."""
    try:
        value = model.model_validate_json(json.dumps(marked.raw))
    except ValidationError as error:
        refuse(marked, explain(error, model), [])
        raise
    refuse(marked, [], [])
    return value


def add_line_numbers(error: CryoError, path: Path) -> CryoError:
    """Return an error with `file:line: ` of the key that each of its parts is about.

    Args:
        error: A problem of a study that could be read.
        path: The study's file.
    """
    marks = read(path, what="study").marks
    errors: list[CryoError] = []
    for part in error.parts or (error,):
        if not part.key:
            errors.append(part)
            continue
        mark = locate(marks, Problem(part.key, "")).mark
        errors.append(SpecError(f"{mark.file}:{mark.line}: {part}"))
    return combine(errors)


def inline_file(marked: Marked, loc: Loc, study: Path) -> list[str]:
    """Replace a file's name by its content; return the problems of other files."""
    parent, source = value_at(marked.raw, loc[:-1]), value_at(marked.raw, loc)
    if not isinstance(source, str):
        return []
    kind: Kind = "search space" if loc == SPACE else "dataset card"
    file = None
    try:
        source = find_source(source, kind, beside=study.parent)
        if loc == SPACE and _is_python(source):
            space, where = load_python(source, beside=Path())
            parent[loc[-1]] = space.model_dump(mode="json")
            if isinstance(space, SearchSpace):
                marked.marks[loc] = where._replace(depth=len(loc))
            return []
        file = Path(source)
        inner = read(file, what=kind)
    except SpecError as error:
        _cut(marked.raw, loc)
        if file is not None and file.is_file():
            return [str(error)]
        marked.faults.append(Fault(marked.marks[loc], loc, str(error)))
        return []
    parent[loc[-1]] = inner.raw
    for path, place in inner.marks.items():
        marked.marks[(*loc, *path)] = place._replace(depth=len(loc))
    for fault in inner.faults:
        place = fault.mark._replace(depth=len(loc))
        marked.faults.append(Fault(place, (*loc, *fault.loc), fault.message))
    return []


def validate_study(raw: dict[str, Any]) -> tuple[Study | None, list[Problem]]:
    """Validate a study; then remove what is wrong and validate again, for laws between the other fields."""
    problems: list[Problem] = []
    removed: list[Loc] = []
    while True:
        try:
            study = Study.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            new = [p for p in explain(error, Study) if not _below(p.loc, removed)]
        else:
            return (None if problems else study), problems
        if not new:
            return None, problems
        problems += new
        removed += [_cut(raw, problem.loc) for problem in new]


def _cut(raw: dict[str, Any], loc: Loc) -> Loc:
    """Remove a value, or replace it by a stand-in; return the path of what was removed."""
    if not loc:
        return loc
    for whole in WHOLE:
        if loc[: len(whole)] == whole:
            loc = ("base", "data") if whole == CARD else whole
    parent = value_at(raw, loc[:-1])
    if loc in STAND_INS and isinstance(parent, dict):
        parent[loc[-1]] = copy.deepcopy(STAND_INS[loc])
    elif isinstance(parent, dict) and loc[-1] in parent:
        del parent[loc[-1]]
    elif len(loc) > 1:
        return _cut(raw, loc[:-1])
    return loc


def _below(loc: Loc, places: list[Loc]) -> bool:
    return any(loc[: len(place)] == place for place in places)


def refuse(
    marked: Marked,
    problems: list[Problem],
    elsewhere: list[str],
    encoders: Sequence[tuple[Loc, str]] = (),
) -> None:
    """Raise all problems, in the order of files and lines, if there are any.

    Args:
        marked: The file, with the problems of its text.
        problems: Problems of its values.
        elsewhere: Problems of other files, in words.
        encoders: Names of encoders, which are looked up if there is any other problem.
    """
    if marked.faults or problems or elsewhere:
        problems = [*problems, *unknown_encoders(encoders)]
    faults = [*marked.faults, *(locate(marked.marks, problem) for problem in problems)]
    first = marked.marks[()].file
    faults.sort(key=lambda fault: (fault.mark.file != first, fault.mark.file, fault.mark.line))
    lines = dict.fromkeys([*map(str, faults), *elsewhere])
    if lines:
        raise SpecError("\n".join(lines))


def _is_python(source: str) -> bool:
    return source.endswith(".py") or ".py:" in source
