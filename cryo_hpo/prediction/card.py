"""Define the card of a trained model, and read the weights that it travels with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from ..config import Recipe, Site
from ..config.frozen import Frozen
from ..data.tiles import Normalize
from ..errors import CryoError, DataError
from ..training import checkpoints
from ..training.build import dataset_of, normalizer, published_statistics, scenes_of

VERSION: Literal[1] = 1


class ModelCard(Frozen):
    """Describe a trained model: inputs, classes, scores and provenance."""

    version: Literal[1] = VERSION
    study: str
    arm: str = Field(
        description="Recipe of the study's comparison: tuned, baseline, ...; winner: the search's"
    )
    trial: int | None = Field(
        default=None, description="Of the search, whose weights these are; null: of the comparison"
    )
    seed: int = Field(description="Of the training whose weights these are")
    recipe: dict[str, Any] = Field(description="As it was trained, complete")
    dataset: str
    bands: tuple[str, ...] = Field(description="In the order of the input's layers")
    gsd_m: float | None = Field(description="Side of a training pixel, meters")
    classes: tuple[str, ...] = Field(description="The position of a name is its value in a map")
    mean: tuple[float, ...] = Field(description="Taken off each band, in the files' units")
    std: tuple[float, ...] = Field(description="By which each band is divided after that")
    normalize: str = Field(default="dataset", description="Value of data.normalize")
    val_miou: float = Field(description="Fraction; of these weights")
    test_miou: float | None = Field(
        description="Fraction; of these weights; null: of a search's winner, which is not scored"
    )
    test_iou: dict[str, float | None] = Field(description="Per class")
    improvement: dict[str, Any] | None = Field(description="Of the study, tuned over baseline")
    data_fingerprints: dict[str, str] = Field(description="Split -> hash of its files' content")
    provenance: dict[str, Any] = Field(description="Code, versions, machine of the study")
    merged: bool = Field(
        default=False,
        description="Whether low-rank adapters are folded into the weights, which are then whole.",
    )
    weights_sha256: str = Field(description="Of names, shapes and values of the tensors")


def describe_model(
    recipe: Recipe, state: Mapping[str, Tensor], site: Site, **facts: Any
) -> ModelCard:
    """Return the card of a trained model.

    Args:
        recipe: Recipe of the training, with its seed.
        state: Weights.
        site: Folder of the data, for a normalization that is computed from the training split.
        facts: Fields of the card that only the study has: names, scores, provenance.
    """
    dataset, scale = dataset_of(recipe.data), scale_of(recipe, site)
    return ModelCard(
        seed=recipe.seed,
        recipe=recipe.model_dump(mode="json"),
        dataset=dataset.name,
        bands=tuple(band.name for band in dataset.bands),
        gsd_m=dataset.gsd_m,
        classes=dataset.classes,
        mean=tuple(scale.mean_C11.flatten().tolist()),
        std=tuple(scale.std_C11.flatten().tolist()),
        normalize=recipe.data.normalize,
        weights_sha256=hash_weights(state),
        **facts,
    )


def scale_of(recipe: Recipe, site: Site) -> Normalize:
    """Return the training's normalization; a dataset's own statistics need no pixels."""
    mean, std = published_statistics(recipe)
    if mean is not None and std is not None:
        return Normalize.of(mean, std, device=torch.device("cpu"))
    return normalizer(recipe, scenes_of(recipe, "train", site), torch.device("cpu"))


def recipe_of(raw: Mapping[str, Any]) -> Recipe:
    """Return a recipe from its JSON.

    Raises:
        CryoError: Another version of the package wrote it.
    """
    try:
        return Recipe.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        message = "The recipe is not of this version of cryo_hpo. Use the one that trained it."
        raise CryoError(message) from error


def read_weights(path: Path) -> dict[str, Any]:
    """Read a file of plain tensors.

    Raises:
        DataError: The file is missing, or is no such file.
    """
    try:
        state = checkpoints.load(path)
    except Exception as error:  # torch has many errors for a foreign file
        message = f"{path}: a model is a file that torch reads as plain tensors, this is none."
        raise DataError(message) from error
    if state is None:
        raise DataError(f"{path}: there is no such file. Write it with `cryo-hpo export`.")
    return state


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """Hash the tensors of a state, since torch's files of the same weights differ."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
