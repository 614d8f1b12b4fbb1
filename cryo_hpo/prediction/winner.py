"""Open the model of a search's winner, which is there before the study has finished."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..config import Site
from ..errors import DataError, SpecError
from ..results.files import TRIALS
from ..results.study import NAME as RESULT
from ..results.study import load_result
from ..search.winner import NAME, WINNER, load_winner
from ..storage.plain_files import require_plain_folder
from ..training import checkpoints
from .card import ModelCard, describe_model, read_weights, recipe_of


def opens_winner(path: Path, arm: str | None) -> bool:
    """Return whether a study's model is the search's: it is requested, or nothing else is there.

    Args:
        path: The study's folder, or its result.json.
        arm: The requested arm; None: the study's winner.

    Raises:
        CryoError: The result is damaged, or a file of the study is something else.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        require_plain_folder(folder)
    finished = (folder / RESULT).exists()
    arms = load_result(folder).arms if finished else ()
    if arm == WINNER:  # unless a baseline has this name
        return all(arm.name != WINNER for arm in arms)
    return arm is None and not arms and (folder / NAME).exists()


def open_winner(folder: Path, seed: int | None, site: Site) -> tuple[ModelCard, dict[str, Tensor]]:
    """Return the model of the search's winner, as the trial left it."""
    won = load_winner(folder)
    recipe = recipe_of(won.recipe)
    if seed not in (None, recipe.seed):
        message = (
            f"The search trains on seed {recipe.seed}, not {seed}. Take that one, or an arm of the "
            "final comparison once the study has finished."
        )
        raise SpecError(message)
    file = folder / TRIALS / won.key / checkpoints.BEST
    if not file.is_file():
        message = (
            f"{file}: the weights of the search's winner are gone. Run the study to its end, and "
            "take a model of its final comparison."
        )
        raise DataError(message)
    state: dict[str, Tensor] = read_weights(file)["model"]
    card = describe_model(
        recipe,
        state,
        site,
        study=won.study,
        arm=WINNER,
        trial=won.trial,
        val_miou=won.val_miou,
        test_miou=None,
        test_iou={},
        improvement=None,
        data_fingerprints=won.data_fingerprints,
        provenance=won.provenance,
    )
    return card, state
