"""Describe a trained model on its card, and read the weights that it travels with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ..config import Recipe, Site
from ..data.facts import read_facts
from ..data.tiles import Normalize
from ..errors import CryoError, DataError
from ..evaluation.out_of_memory import is_out_of_memory
from ..models.weights.hash import hash_weights
from ..results.model_card import VERSION as VERSION
from ..results.model_card import ModelCard as ModelCard
from ..training import checkpoints
from ..training.build import dataset_of, normalizer, published_statistics, scenes_of

MORE_MEMORY = "End other programs, or take a machine with more memory."


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
    scales, offsets = _tags_of(recipe, site)
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
        scales=scales,
        offsets=offsets,
        weights_sha256=hash_weights(state),
        **facts,
    )


def _tags_of(recipe: Recipe, site: Site) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return scale and offset tags of training's files, which agree; empty where they are not used.

    They count only where a card says nothing about tags: else they are applied, or ignored.
    """
    if recipe.data.card is None or recipe.data.card.scale is not None:
        return (), ()
    try:
        facts = read_facts(scenes_of(recipe, "train", site).folder)
    except CryoError:  # the data are not on this machine
        return (), ()
    return facts[0].scales, facts[0].offsets


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
        if isinstance(error, checkpoints.Unreadable | MemoryError) or is_out_of_memory(error):
            raise  # the file may be whole
        message = f"{path}: a model is a file that torch reads as plain tensors, this is none."
        raise DataError(message) from error
    if state is None:
        raise DataError(f"{path}: there is no such file. Write it with `cryo-hpo export`.")
    return state
