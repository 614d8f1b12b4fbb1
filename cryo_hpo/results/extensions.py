"""Record the extensions of a finished study: what was added, and the earlier result that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from ..config.frozen import Frozen
from ..errors import StorageError
from ..storage.atomic import write_text
from .files import EXTENSIONS

BASELINE = 0  # trial number of the fixed-LR baseline


class Extension(Frozen):
    """Hold what was added to a study after it had a result."""

    date: str = Field(description="Day on which it was added, as 2026-11-26")
    kept: str = Field(description="File beside result.json that holds the earlier result")
    seeds: tuple[int, ...] = Field(default=(), description="Seeds added to the comparison")
    at_most: int | None = Field(default=None, description="New limit of repeats; null: unchanged")
    trials: int = Field(default=0, description="Trials added to the search")
    proof: str | None = Field(default=None, description="New `proof`; null: unchanged")
    former_winner: int | None = Field(description="Trial that had won; null: no search")
    former_verdict: str | None = Field(description="Verdict of the earlier result; null: none")


_MANY = TypeAdapter(tuple[Extension, ...])


def read_extensions(folder: Path) -> tuple[Extension, ...]:
    """Return the extensions of a study in order; empty if it was never extended.

    Raises:
        StorageError: The file is damaged.
    """
    file = folder / EXTENSIONS
    if not file.exists():
        return ()
    try:
        return _MANY.validate_json(file.read_bytes())
    except (ValidationError, ValueError) as error:
        message = (
            f"'{file}' is damaged: it is no list of extensions. Restore it from a copy, or from "
            "`extensions` of the newest result file beside it."
        )
        raise StorageError(message) from error


def write_extensions(extensions: Sequence[Extension], folder: Path) -> None:
    """Write the extensions of a study, whole or not at all."""
    text = _MANY.dump_json(tuple(extensions), indent=2).decode()
    write_text(folder / EXTENSIONS, text + "\n")


def name_tuned(winner: int, extensions: Sequence[Extension]) -> str:
    """Return how the names of the tuned arm's trainings begin.

    The first tuned recipe of a study has "tuned". An extension whose search found another winner
    trains it under a name of its own, so that the trainings and scores of the former stay.

    Args:
        winner: Trial that wins now.
        extensions: Extensions of the study so far.
    """
    former = (extension.former_winner for extension in extensions)
    first = next((trial for trial in former if trial not in (None, BASELINE)), winner)
    return "tuned" if first == winner else f"tuned-trial-{winner:04d}"
