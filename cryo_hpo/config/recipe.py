"""Everything one training needs: a recipe, complete and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from ..bands import Missing
from ..errors import SpecError, UnknownName
from .dataset_card import DatasetCard
from .frozen import BrokenLaws, Frozen, Problem, shown
from .messages import explain
from .protocol import CRYO_BENCH, Value, published
from .space import Scalar


class DataSpec(Frozen):
    """Which scenes, and how they are cut."""

    name: str | None = Field(
        default=None, description="A built-in dataset; see `cryo-hpo list datasets`."
    )
    card: DatasetCard | None = Field(default=None, description="A dataset of your own.")
    split: Literal["official", "region"] = Field(
        default="official",
        description=(
            "official: the folders' parts; region: scenes dealt out anew so that no region, ground "
            "or copy of an image is in two parts."
        ),
    )
    split_seed: int = Field(
        default=0, ge=0, description="Of the split by region; the same for every seed of a study."
    )
    crop: int = Field(default=128, ge=8, description="Side of a training tile, pixels.")
    overlap: int | None = Field(
        default=None,
        ge=0,
        description="Pixels shared by neighbouring windows at prediction; left out: crop / 4.",
    )
    augment: tuple[Literal["hflip", "vflip", "rot90"], ...] = Field(
        default=("hflip", "vflip", "rot90"), description="Random changes of training tiles."
    )
    replicate: int = Field(
        default=1,
        ge=1,
        description="Random crops of each training scene per epoch; more for few, large scenes.",
    )
    label_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description=(
            "Share of the training scenes to learn from (few-shot: 0.1), drawn so that scenes with "
            "all shares of the classes are there; every training of a study gets the same."
        ),
    )
    label_seed: int = Field(default=0, ge=0, description="Which scenes label_fraction keeps.")

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = []
        if (self.name is None) == (self.card is None):
            got = "neither" if self.name is None else "both"
            message = (
                f"A recipe has either `name` (a built-in dataset) or `card` (one of your own), "
                f"got {got}. Give one of them."
            )
            problems.append(Problem((), message))
        if self.overlap is not None and self.overlap >= self.crop:
            message = f"Must be below crop, got {self.overlap} with crop {self.crop}. Lower it."
            problems.append(Problem(("overlap",), message))
        if len(set(self.augment)) < len(self.augment):
            message = f"Each change stands once, got {shown(self.augment)}. Drop the repeated ones."
            problems.append(Problem(("augment",), message))
        if problems:
            raise BrokenLaws(problems)
        return self


class ModelSpec(Frozen):
    """Which encoder and decoder, and what of them learns."""

    encoder: str = Field(
        default="unet", min_length=1, description="See `cryo-hpo list encoders`; or timm/<name>."
    )
    decoder: Literal["unet", "upernet"] = Field(default="unet", description="Head on the encoder.")
    channels: int = Field(default=256, ge=1, description="Width of the decoder.")
    width: int | None = Field(
        default=None, ge=1, description="Width of the U-Net's first level; left out: 64."
    )
    weights: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Left out: the encoder's own default; 'scratch': random; 'hub': downloaded; "
            "else a file below CRYO_WEIGHTS."
        ),
    )
    missing_bands: Missing = Field(
        default="zero",
        description=(
            "Bands the encoder asks for and the dataset lacks. zero: the dataset's mean, as in "
            "Cryo-Bench; mean: the mean of the bands that are there; refuse: an error."
        ),
    )
    tune: Literal["full", "frozen"] = Field(
        default="full", description="Train everything, or the decoder alone."
    )
    drop_path: float = Field(
        default=0.0, ge=0, lt=1, description="Stochastic depth of the encoder, a share."
    )


class LossSpec(Frozen):
    """What is made small."""

    name: Literal["ce", "weighted_ce", "dice", "focal", "ce+dice"] = Field(
        default="ce", description="Loss; ce is cross entropy."
    )
    focal_gamma: float = Field(default=2.0, ge=0, description="Focus of the focal loss.")


class OptimSpec(Frozen):
    """How steps are made: AdamW, its rates and their schedule."""

    model_config = ConfigDict(allow_inf_nan=False)

    lr: float = Field(
        default=1e-4, gt=0, description="Learning rate of the decoder, before the schedule."
    )
    weight_decay: float = Field(
        default=0.05,
        ge=0,
        description="Pull of weights to zero; norms, biases and embeddings have none.",
    )
    encoder_lr_scale: float = Field(
        default=1.0, gt=0, description="Rate of the encoder's last layer, relative to lr."
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="Rate of a layer relative to the next deeper one."
    )
    schedule: Literal["multistep", "cosine", "constant"] = Field(
        default="multistep", description="How the rate falls over a training."
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="Epochs over which the rate rises from 0; fractions count."
    )
    clip_grad_norm: float | None = Field(
        default=None, gt=0, description="Largest norm of a gradient; left out: no limit."
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=(
            "Decay per step of an average of the weights, which is then what is scored and kept; "
            "left out: the raw weights are."
        ),
    )


class Recipe(Frozen):
    """Everything one training needs, nothing about the machine."""

    data: DataSpec = Field(description="Which scenes, and how they are cut.")
    model: ModelSpec = Field(default=ModelSpec(), description="Encoder and decoder.")
    loss: LossSpec = Field(default=LossSpec(), description="What is made small.")
    optim: OptimSpec = Field(default=OptimSpec(), description="Rates and their schedule.")
    batch_size: int = Field(default=8, ge=1, description="Tiles per step.")
    epochs: int = Field(default=80, ge=1, description="Length of a whole training.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description=(
            "Of training. auto: bf16 on a GPU, fp32 on CPU; bf16 and fp32 hold on both. "
            "Scores are computed in bf16 on a GPU and in fp32 on CPU, whatever this says."
        ),
    )
    seed: int = Field(default=0, ge=0, description="Every random draw hangs on it.")
    protocol: Literal["corrected", "cryo-bench"] = Field(
        default="corrected",
        description=(
            "cryo-bench: as published, with the faults that change numbers, and its values for "
            "every key that is left out; corrected: without the faults."
        ),
    )

    @model_validator(mode="after")
    def _take_published(self) -> Self:
        """Take Cryo-Bench's values for what was not given, under its protocol."""
        if self.protocol == CRYO_BENCH:
            for path, value in published(self.model.encoder, self.data.name).items():
                self._default(path, value)
        return self

    def _default(self, path: str, value: Value) -> None:
        part, _, name = path.rpartition(".")
        holder = getattr(self, part) if part else self
        if name in holder.model_fields_set:
            return
        if part:
            self.__dict__[part] = holder.model_copy(update={name: value})
        else:
            self.__dict__[name] = value  # still being made, and frozen from then on

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = []
        if self.optim.warmup_epochs > self.epochs:
            message = (
                f"Must not exceed epochs, got {self.optim.warmup_epochs:g} of {self.epochs}. "
                "Lower it."
            )
            problems.append(Problem(("optim", "warmup_epochs"), message))
        data = self.data  # its own law has not seen a published crop
        if data.overlap is not None and data.overlap >= data.crop:
            message = f"Must be below crop, got {data.overlap} with crop {data.crop}. Lower it."
            problems.append(Problem(("data", "overlap"), message))
        if problems:
            raise BrokenLaws(problems)
        return self

    @property
    def id(self) -> str:
        """Return 12 hex digits of the canonical JSON: equal recipes have equal ids."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def flat(self) -> dict[str, Scalar | None]:
        """Return dotted path -> value of everything in the recipe; lists as 'a,b'."""
        return dict(_flat(self.model_dump(mode="json")))

    def replace(self, params: Mapping[str, Scalar]) -> Recipe:
        """Return this recipe with other values at dotted paths, validated again.

        Args:
            params: Path -> value, such as {"optim.lr": 1e-3}.

        Raises:
            UnknownName: The recipe has no such path.
            SpecError: A value is not legal there.
        """
        for path in params:
            if path not in PATHS:
                raise UnknownName(path, known=PATHS, what="recipe parameter")
        raw = self.model_dump(mode="json")
        for path, value in params.items():
            *above, last = path.split(".")
            inner = raw
            for part in above:
                inner = inner[part]
            inner[last] = _plain(path, value)
        try:
            return Recipe.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            raise SpecError("\n".join(map(str, explain(error, Recipe)))) from None


def _paths(model: type[Frozen], prefix: str = "") -> Iterator[str]:
    """Name every field that a single value can set."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Frozen):
            yield from _paths(kind, f"{prefix}{name}.")
        elif name not in ("card", "augment"):  # a value of their own, and a list
            yield prefix + name


PATHS = tuple(_paths(Recipe))
"""The names a search space may use: optim.lr, batch_size, ..."""


def _plain(path: str, value: object) -> Scalar:
    if not isinstance(value, str | bool | int | float):
        message = f"{path}: A value is a number, text, true or false, got {shown(value)}."
        raise SpecError(message)
    return value


def _flat(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar | None]]:
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield prefix + name, ",".join(map(str, value))
        else:
            yield prefix + name, value


def short_lr(lr: float) -> str:
    """Return a learning rate as one says it: 1e-4, 3.2e-4."""
    mantissa, exponent = f"{lr:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
