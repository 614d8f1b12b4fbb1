"""Start a training from an exported model: encoder and decoder, with all that must agree compared.

The classes, the bands and their order, and the keys in `SAME` must be those of the exported model.
Anything else is refused, since the weights would load and mean something else. The mean and standard
deviation of the images are those of the new dataset; `start_lines` compares them with the exported
model's.
"""

# C bands

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..config import Recipe
from ..config.protocol import PROTOCOLS
from ..errors import WeightsError
from ..models.weights.exported import read_exported
from ..models.weights.hash import hash_weights
from ..models.weights.load import HUB, SCRATCH, fit_state
from ..models.weights.published import State, Weights
from ..results.model_card import ModelCard

if TYPE_CHECKING:
    from ..config.space import Scalar
    from ..models import Segmenter

SAME = (
    "model.encoder",
    "model.decoder",
    "model.channels",
    "model.missing_bands",
    "data.normalize",
)  # keys of the recipe that decide what the weights mean
SHIFT = 0.01  # standard deviations; means that differ by less are called the same


class WarmStart(NamedTuple):
    """Hold an exported model that a training starts from.

    Attributes:
        source: The file.
        card: Card of the model.
        recipe: Recipe that the model was trained with.
        state: Tensors of encoder and decoder by name.
    """

    source: str
    card: ModelCard
    recipe: Recipe
    state: State


def find_start(wanted: str | None, root: Path) -> WarmStart | None:
    """Return the exported model that `model.weights` names; None where it names anything else.

    Args:
        wanted: Value of `model.weights`.
        root: Folder of weights, to which a file is relative.

    Raises:
        WeightsError: The path is a folder, the card is of another version, the tensors are not
            those that were exported, or adapters are stored apart from their encoder.
    """
    if wanted in (None, SCRATCH, HUB):
        return None
    source = root / wanted
    exported = read_exported(source)
    if exported is None:
        return None
    try:
        card = ModelCard.model_validate_json(exported.card)
        recipe = Recipe.model_validate_json(json.dumps(card.recipe))
    except ValueError as error:
        message = (
            f"'{source}': the card of this exported model is not of this version of cryo_hpo. Write "
            "it again with `cryo-hpo export`."
        )
        raise WeightsError(message) from error
    if hash_weights(exported.state) != card.weights_sha256:
        message = (
            f"'{source}': the weights of this exported model are not those that its card describes. "
            "The file is damaged or was changed. Write it again with `cryo-hpo export`."
        )
        raise WeightsError(message)
    if recipe.model.tune == "lora" and not card.merged:
        message = (
            f"'{source}' holds low-rank adapters without their encoder. Export the model with its "
            "adapters merged: `cryo-hpo export STUDY --merge --out model.pt`."
        )
        raise WeightsError(message)
    return WarmStart(str(source), card, recipe, exported.state)


def load_start(
    model: Segmenter,
    start: WarmStart,
    recipe: Recipe,
    *,
    bands: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Load an exported model into the recipe's model, all or nothing.

    Args:
        model: Encoder and decoder, without adapters. Changed in place.
        start: The exported model.
        recipe: Recipe of the training that starts.
        bands: Names of the dataset's bands, in its order.
        classes: Names of the dataset's classes, in its order.

    Raises:
        WeightsError: The exported model is of another recipe; the message names all differences.
    """
    problems = list(_problems(start, recipe, bands=bands, classes=classes))
    if problems:
        raise WeightsError("\n".join(f"'{start.source}': {problem}" for problem in problems))
    rules, name = Weights(file="", url=""), recipe.model.encoder
    fit_state(model, start.state, rules=rules, source=start.source, name=name)


def _problems(
    start: WarmStart, recipe: Recipe, *, bands: Sequence[str], classes: Sequence[str]
) -> Iterator[str]:
    """Yield what keeps an exported model from being the start of a recipe."""
    if any(PROTOCOLS[each.protocol].revision is not None for each in (start.recipe, recipe)):
        yield (
            f"an exported model starts trainings of protocol corrected only, it has protocol "
            f"{start.recipe.protocol} and the study {recipe.protocol}. Set another model.weights."
        )
    exported, own = start.recipe.flat(), recipe.flat()
    for key in SAME:
        if exported[key] != own[key]:
            yield _differs(key, exported[key], own[key])
    if start.card.bands != tuple(bands):
        yield (
            f"the exported model takes the bands {', '.join(start.card.bands)} in this order, the "
            f"dataset has {', '.join(bands)}. Give the dataset's bands in that order, or set "
            "another model.weights."
        )
    if start.card.classes != tuple(classes):
        yield (
            f"the exported model maps the classes {', '.join(start.card.classes)} in this order, the "
            f"dataset has {', '.join(classes)}. Name and number the dataset's classes so, or set "
            "another model.weights: no part of the decoder is replaced silently."
        )


def _differs(key: str, exported: Scalar | None, own: Scalar | None) -> str:
    return (
        f"the exported model has {key} {exported}, the study {own}. Set {key}: {exported}, or "
        "another model.weights."
    )


def start_lines(
    start: WarmStart, recipe: Recipe, mean_C: Sequence[float], std_C: Sequence[float]
) -> list[str]:
    """Return lines on the exported model, and on how the normalization of its images differed.

    Args:
        start: The exported model.
        recipe: Recipe of the training that starts from it.
        mean_C: Mean of each band of the new dataset, in the files' units.
        std_C: Standard deviation of each band.
    """
    card = start.card
    first = (
        f"Weights: encoder and decoder start from the exported model {start.source} ('{card.study}', "
        f"{card.arm}, seed {card.seed}, validation mIoU {100 * card.val_miou:.2f})."
    )
    if recipe.data.normalize != "dataset":
        return [first]
    rows = zip(card.bands, card.mean, card.std, mean_C, std_C, strict=True)
    moved = [
        f"{band} {new_mean:.4g} ± {new_std:.4g} (exported {mean:.4g} ± {std:.4g})"
        for band, mean, std, new_mean, new_std in rows
        if abs(new_mean - mean) > SHIFT * std or abs(new_std - std) > SHIFT * std
    ]
    if not moved:
        return [
            first,
            "Normalization: the dataset's mean and std, the same as the exported model's.",
        ]
    kept = ", ".join(f"{x:.6g}" for x in card.mean), ", ".join(f"{x:.6g}" for x in card.std)
    return [
        first,
        f"Normalization: the dataset's mean and std, not the exported model's: {'; '.join(moved)}. "
        "Fitting for another sensor or unit; to keep the exported ones, write them into the "
        f"dataset's card: mean: [{kept[0]}], std: [{kept[1]}].",
    ]
