"""Load campaigns from files, check every cell, and report all problems at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..campaign import Campaign, Cell
from ..frozen import Loc, Problem
from ..messages import explain
from ..study import DefineByRun, Study
from .dump import schema_of
from .encoder_names import named_encoders
from .load import SPACE, inline_file, refuse, validate_study
from .load_prior import inline_prior
from .marked_yaml import read, write
from .python_space import check_corners
from .shipped import find_source

MATRIX = "matrix"  # the key that only campaigns have
STAND_IN = {"name": "x"}  # for a dataset whose card cannot be read


def is_campaign(path: Path) -> bool:
    """Return whether a file is a campaign.

    Raises:
        SpecError: The file cannot be read.
    """
    return MATRIX in read(path, what="study").raw


def load_campaign(path: Path | str) -> Campaign:
    """Read a campaign, with the search space and the dataset cards that it names.

    Args:
        path: A YAML file, or the name of a campaign that ships. Paths in it are relative to it.

    Raises:
        SpecError: All problems, one per line: `file:line: path: law, value, remedy`.
            A problem of one cell names the cell.
    """
    file = Path(find_source(str(path), "study", beside=Path()))
    marked = read(file, what="campaign")
    elsewhere = inline_file(marked, SPACE, file)
    inline_prior(marked, file)
    for name in _names(marked.raw, "datasets"):
        place: Loc = (MATRIX, "datasets", name)
        faults = len(marked.faults)
        elsewhere += inline_file(marked, (*place, "card"), file)
        if len(marked.faults) > faults:
            marked.raw[MATRIX]["datasets"][name] = dict(STAND_IN)
    encoders = named_encoders(marked.raw)
    try:
        campaign = Campaign.model_validate_json(json.dumps(marked.raw))
    except ValidationError as error:
        refuse(marked, explain(error, Campaign), elsewhere, encoders)
        raise
    refuse(marked, list(_problems(campaign)), elsewhere, encoders)
    return campaign


def dump_campaign(campaign: Campaign) -> str:
    """Return a campaign as YAML: `load_campaign` of it gives the same cells."""
    return write(campaign.model_dump(mode="json", exclude_unset=True))


def cell_studies(campaign: Campaign) -> dict[Cell, Study]:
    """Return the study of every cell, in the campaign's order.

    Raises:
        pydantic.ValidationError: A cell is not a study; `load_campaign` would have reported it.
    """
    return {
        cell: Study.model_validate_json(json.dumps(campaign.study(cell)))
        for cell in campaign.cells()
    }


def locate_in_campaign(campaign: Campaign, cell: Cell, key: tuple[str | int, ...]) -> Loc:
    """Return the path in a campaign of a key in a cell's study."""
    part, rest = key[:2], key[2:]
    if part == ("base", "data"):
        given = campaign.matrix.datasets[cell.dataset].model_fields_set
        if not rest or rest[0] in given or rest[0] == "name":
            return (MATRIX, "datasets", cell.dataset, *(r for r in rest if rest[0] in given))
    if part == ("base", "model"):
        if cell.is_rival:
            return ("rivals",)
        given = campaign.matrix.encoders[cell.encoder].model_fields_set
        if not rest or rest[0] in given:
            return (MATRIX, "encoders", cell.encoder, *rest)
    return key


def campaign_schema() -> dict[str, Any]:
    """Return the JSON Schema of campaign files, for editors."""
    return schema_of(Campaign)


def _problems(campaign: Campaign) -> Iterator[Problem]:
    """Yield the problems of the cells; one that several cells share only once."""
    seen: dict[tuple[Loc, str], list[Cell]] = {}
    for cell in campaign.cells():
        study, problems = validate_study(campaign.study(cell))
        if study is not None and study.search and isinstance(study.search.space, DefineByRun):
            inner = check_corners(study.search.space, study.base)
            problems += [Problem((*SPACE, *p.loc), p.message) for p in inner]
        for problem in problems:
            loc = locate_in_campaign(campaign, cell, problem.loc)
            seen.setdefault((loc, problem.message), []).append(cell)
    for (loc, message), cells in seen.items():
        every = len(cells) == len(campaign.cells())
        names = ", ".join(f"{cell.dataset}.{campaign.row(cell)}" for cell in cells)
        yield Problem(loc, message if every else f"{message} In {names}.")


def _names(raw: Any, axis: str) -> list[str]:
    matrix = raw.get(MATRIX)
    inner = matrix.get(axis) if isinstance(matrix, dict) else None
    return (
        [name for name, value in inner.items() if isinstance(value, dict)]
        if isinstance(inner, dict)
        else []
    )
