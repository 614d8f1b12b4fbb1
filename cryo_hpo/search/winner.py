"""Keep the winner of a search as a file, so that its model can be used before a study has finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config.frozen import Frozen
from ..errors import DataError
from .source import key

NAME = "winner.json"  # in the study's folder
WINNER = "winner"  # the name by which its model is requested


class SearchWinner(Frozen):
    """Describe the trial that won a search.

    Attributes:
        study: Name of the study.
        trial: Number of the trial.
        recipe: Its recipe, complete.
        val_miou: Validation mIoU of its best checkpoint, a fraction.
        data_fingerprints: Split -> hash of its files' content.
        provenance: Code, versions, machine.
    """

    study: str
    trial: int
    recipe: dict[str, Any]
    val_miou: float
    data_fingerprints: dict[str, str]
    provenance: dict[str, Any]

    @property
    def key(self) -> str:
        """Name of the trial's training."""
        return key(self.trial)


def load_winner(folder: Path) -> SearchWinner:
    """Read the winner of a study's search.

    Raises:
        DataError: The search is not over, or the file is damaged.
    """
    file = folder / NAME
    if not file.is_file():
        message = (
            f"The search leaves '{NAME}' at its end, '{folder}' has none. Run the study first."
        )
        raise DataError(message)
    try:
        return SearchWinner.model_validate_json(file.read_bytes())
    except ValueError as error:
        message = f"'{file}' is damaged. Remove it and resume the study: it is written anew."
        raise DataError(message) from error
