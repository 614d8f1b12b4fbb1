"""Define the card of a trained model, which an exported model holds beside its weights."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..config.frozen import Frozen
from .study import ConstantMap

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
    scales: tuple[float, ...] = Field(
        default=(), description="Scale tag of each band in training's files; empty: not known"
    )
    offsets: tuple[float, ...] = Field(
        default=(), description="Offset tag of each band in training's files; empty: not known"
    )
    val_miou: float = Field(description="Fraction; of these weights")
    test_miou: float | None = Field(
        description="Fraction; of these weights; null: of a search's winner, which is not scored"
    )
    test_iou: dict[str, float | None] = Field(description="Per class")
    constant_map: ConstantMap | None = Field(
        default=None,
        description="What a map of one class everywhere scores on the same test pixels; null: not recorded",
    )
    warnings: tuple[str, ...] = Field(
        default=(), description="What weakens the scores; each goes on after 'This training'"
    )
    improvement: dict[str, Any] | None = Field(description="Of the study, tuned over baseline")
    data_fingerprints: dict[str, str] = Field(description="Split -> hash of its files' content")
    provenance: dict[str, Any] = Field(description="Code, versions, machine of the study")
    merged: bool = Field(
        default=False,
        description="Whether low-rank adapters are folded into the weights, which are then whole.",
    )
    weights_sha256: str = Field(description="Of names, shapes and values of the tensors")
