"""Record the repeats that a cell gets of those that the cells of its campaign share."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from ..config.frozen import Frozen
from ..errors import StorageError
from ..storage.atomic import write_text
from .files import GRANT


class RepeatGrant(Frozen):
    """Hold the repeats of a cell so far, which its campaign decides from the scores of all cells."""

    repeats: int = Field(description="Repeats of the cell, the trained ones included")
    is_spent: bool = Field(
        default=False,
        description="Whether the cell ends undecided: what is left of the total cannot decide it",
    )
    turn: int = Field(
        default=0,
        description="Above 0: the search had failed, and the cells of lower turns share before it",
    )
    campaign: str = Field(description="Name of the campaign")
    total: int = Field(description="Repeats of all cells of the campaign together")


def read_grant(folder: Path) -> RepeatGrant | None:
    """Return the repeats of a cell; None if it shares no total, as a study does not.

    Raises:
        StorageError: The file is damaged.
    """
    file = folder / GRANT
    if not file.exists():
        return None
    try:
        return RepeatGrant.model_validate_json(file.read_bytes())
    except (ValidationError, ValueError) as error:
        message = (
            f"'{file}' is damaged: it holds the repeats that the campaign has granted to this cell. "
            "Remove it and run the campaign again: it is written anew, from the scores of all cells."
        )
        raise StorageError(message) from error


def write_grant(grant: RepeatGrant, folder: Path) -> None:
    """Write the repeats of a cell, whole or not at all."""
    write_text(folder / GRANT, grant.model_dump_json(indent=2) + "\n")
