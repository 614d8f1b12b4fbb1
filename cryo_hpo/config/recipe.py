"""Define the recipe: everything one training needs, complete and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ..bands import Missing
from ..errors import SpecError, UnknownName
from .dataset_card import DatasetCard
from .frozen import ConstraintErrors, Frozen, Problem, format_value
from .messages import explain
from .metric import TOLERANCE, ToleranceText
from .optim import ADAMW, OptimSpec, keys_to_drop
from .protocol import CRYO_BENCH, PROTOCOLS, Value, published_recipe
from .space import Scalar

# Keys that ids leave out at these values: recipes had ids before there was a choice.
NEWER = {"reproducible": "seeded", "compile": "off", "recompute": False}


class DataSpec(Frozen):
    """Dataset, split and training crops."""

    name: str | None = Field(
        default=None, description="Name of a built-in dataset; see `cryo-hpo list datasets`."
    )
    card: DatasetCard | None = Field(default=None, description="Card of a dataset of your own.")
    split: Literal["official", "region"] = Field(
        default="official",
        description=(
            "Split into train, val and test. official: as published; region: by region, so that no "
            "region, ground or copy of an image is in two parts."
        ),
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        le=2**63 - 1,
        description="Seeds the split by region; the same for every training of a study.",
    )
    crop: int = Field(
        default=128, ge=8, le=16_384, description="Side of a square training crop, in pixels."
    )
    overlap: int | None = Field(
        default=None,
        ge=0,
        le=16_384,
        description="Overlap of neighboring sliding windows at prediction, in pixels; left out: crop / 4.",
    )
    augment: tuple[Literal["hflip", "vflip", "rot90"], ...] = Field(
        default=("hflip", "vflip", "rot90"), description="Random augmentations of training crops."
    )
    normalize: Literal["dataset", "pretraining", "image"] = Field(
        default="dataset",
        description=(
            "Normalization of each band. dataset: mean and standard deviation of the training part; "
            "pretraining: those of the encoder's pretraining, for images in its units; image: those "
            "of each crop or window by itself (pixels without data count as 0)."
        ),
    )
    replicate: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description=(
            "Random crops per training scene and epoch. Left out: as many as the labeled pixels of "
            "a scene fill, and one where they fill no more than four."
        ),
    )
    foreground: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description=(
            "Share of the training crops that hold a class other than the most frequent: 0.33 for "
            "rare classes."
        ),
    )
    label_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description=(
            "Fraction of the training scenes to learn from (few-shot: 0.1), stratified by class "
            "share; the same scenes for every training of a study."
        ),
    )
    label_seed: int = Field(
        default=0,
        ge=0,
        le=2**63 - 1,
        description="Seeds the choice of scenes that label_fraction keeps.",
    )
    boundary_tolerance: ToleranceText = TOLERANCE

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = []
        if (self.name is None) == (self.card is None):
            message = (
                "No dataset is given. Set `name` (a built-in dataset) or `card` (one of your own)."
                if self.name is None
                else "Two datasets are given, `name` and `card`. Keep one of them."
            )
            problems.append(Problem((), message))
        if self.overlap is not None and self.overlap >= self.crop:
            message = f"Must be below crop, got {self.overlap} with crop {self.crop}. Lower it."
            problems.append(Problem(("overlap",), message))
        if len(set(self.augment)) < len(self.augment):
            message = (
                f"Augmentations are repeated: {format_value(self.augment)}. Drop the repetitions."
            )
            problems.append(Problem(("augment",), message))
        if problems:
            raise ConstraintErrors(problems)
        return self


class LoraSpec(Frozen):
    """Low-rank adapters on the linear layers of a transformer encoder."""

    rank: int = Field(default=8, ge=1, le=4_096, description="Rank of every adapter.")
    alpha: float = Field(
        default=16.0, gt=0, le=1e6, description="Scale of the adapters' output, times 1 / rank."
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout rate of the adapters' inputs, in training."
    )
    targets: Literal["attention", "mlp", "attention+mlp"] = Field(
        default="attention+mlp", description="Linear layers of each block that get an adapter."
    )


class ModelSpec(Frozen):
    """Encoder and decoder, and which of their weights are trained."""

    encoder: str = Field(
        default="unet",
        min_length=1,
        description="Name of the encoder: one of `cryo-hpo list encoders`, or timm/<name>.",
    )
    decoder: Literal["unet", "upernet"] = Field(
        default="unet", description="Segmentation decoder on top of the encoder."
    )
    channels: int = Field(default=256, ge=1, le=16_384, description="Channels of the decoder.")
    width: int | None = Field(
        default=None, ge=1, le=16_384, description="Channels of the U-Net's first level (64)."
    )
    weights: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Initial weights of the encoder: 'scratch' (random), 'hub' (downloaded), or a file "
            "below CRYO_WEIGHTS; a model that `cryo-hpo export` wrote starts the decoder too; left "
            "out: the encoder's default."
        ),
    )
    missing_bands: Missing = Field(
        default="zero",
        description=(
            "Fill for bands that the encoder expects and the dataset lacks. zero: 0 after "
            "normalization, as in Cryo-Bench; mean: mean of the available bands; nearest: the band of "
            "the nearest wavelength, 0 for radar; refuse: an error."
        ),
    )
    tune: Literal["full", "frozen", "lora"] = Field(
        default="full",
        description=(
            "Fine-tuning regime: full trains everything, frozen only the decoder, lora the decoder "
            "and the encoder's norms and low-rank adapters."
        ),
    )
    lora: LoraSpec = Field(
        default=LoraSpec(), description="Low-rank adapters, for tune: lora; see `tune`."
    )
    drop_path: float = Field(
        default=0.0, ge=0, lt=1, description="Stochastic depth rate of the encoder."
    )


class LossSpec(Frozen):
    """Training loss."""

    name: Literal["ce", "weighted_ce", "dice", "focal", "ce+dice"] = Field(
        default="ce", description="Loss function; ce is cross entropy."
    )
    focal_gamma: float = Field(
        default=2.0, ge=0, le=100, description="Focusing parameter gamma of the focal loss."
    )


class Recipe(Frozen):
    """Recipe of one training: data, model, loss, optimizer; nothing about the machine."""

    data: DataSpec = Field(description="Dataset, split and training crops.")
    model: ModelSpec = Field(
        default=ModelSpec(),
        description="Encoder and decoder, and which of their weights are trained.",
    )
    loss: LossSpec = Field(default=LossSpec(), description="Training loss.")
    optim: OptimSpec = Field(
        default=OptimSpec(), description="Optimizer, its learning rates and their schedule."
    )
    batch_size: int = Field(default=8, ge=1, le=65_536, description="Crops per optimizer step.")
    epochs: int = Field(default=80, ge=1, le=100_000, description="Epochs of a full training.")
    precision: Literal["auto", "bf16", "tf32", "fp32"] = Field(
        default="auto",
        description=(
            "Floating-point precision of training, validation and prediction. auto: bf16 on a GPU, "
            "fp32 on a CPU; tf32: fp32 whose products a GPU rounds to 10 bits; fp32: exact."
        ),
    )
    reproducible: Literal["seeded", "bitwise"] = Field(
        default="seeded",
        description=(
            "What a training repeats on a GPU. seeded: every random draw, with fast kernels; "
            "bitwise: every bit, slower, refused where a kernel cannot. A CPU always repeats every "
            "bit."
        ),
    )
    compile: Literal["off", "auto"] = Field(
        default="off",
        description=(
            "Whether the model is compiled for training. auto: on a GPU, where a compiler is "
            "installed and the training is long enough to pay for it."
        ),
    )
    recompute: bool = Field(
        default=False,
        description=(
            "Recompute activations of the encoder's transformer blocks in the backward pass: less "
            "memory, about a third more time, the same gradients."
        ),
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seeds the training's randomness.")
    protocol: Literal["corrected", "cryo-bench", "cryo-bench@1", "cryo-bench@3"] = Field(
        default="corrected",
        description=(
            "Training and scoring protocol. corrected: this package's own; cryo-bench@1, "
            "cryo-bench@3: as that revision of Cryo-Bench published it, faults included, with its "
            "values for every key that is left out; cryo-bench: cryo-bench@1."
        ),
    )

    @field_validator("protocol")
    @classmethod
    def _name_revision(cls, protocol: str) -> str:
        return "cryo-bench@1" if protocol == CRYO_BENCH else protocol

    @model_validator(mode="after")
    def _take_published(self) -> Self:
        """Fill values that were not given with Cryo-Bench's, under its protocol."""
        revision = PROTOCOLS[self.protocol].revision
        if revision is not None:
            published = published_recipe(self.model.encoder, self.data.name, revision)
            for path, value in published.items():
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
            self.__dict__[name] = value  # still under construction, frozen afterwards

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = []
        if self.optim.warmup_epochs > self.epochs:
            message = (
                f"Must not exceed epochs, got {self.optim.warmup_epochs:g} of {self.epochs}. "
                "Lower it."
            )
            problems.append(Problem(("optim", "warmup_epochs"), message))
        problems += _adapter_problems(self.model)
        data = self.data  # its own validator ran before the published crop was filled in
        if data.overlap is not None and data.overlap >= data.crop:
            message = f"Must be below crop, got {data.overlap} with crop {data.crop}. Lower it."
            problems.append(Problem(("data", "overlap"), message))
        if problems:
            raise ConstraintErrors(problems)
        return self

    @property
    def id(self) -> str:
        """12 hex digits of the canonical JSON; equal recipes have equal ids."""
        raw = self.model_dump(mode="json")
        if self.optim.name == ADAMW:  # ids of recipes from before there was a choice
            del raw["optim"]["name"]
        if self.data.boundary_tolerance == TOLERANCE:
            del raw["data"]["boundary_tolerance"]
        for name, value in NEWER.items():
            if raw[name] == value:
                del raw[name]
        text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def flat(self) -> dict[str, Scalar | None]:
        """Return dotted path -> value of everything in the recipe; lists as 'a,b'."""
        return dict(flatten(self.model_dump(mode="json")))

    def replace(self, params: Mapping[str, Scalar]) -> Recipe:
        """Return this recipe with new values at dotted paths, validated again.

        Another `optim.name` brings its own values of the keys that depend on it, unless they are in
        `params` too: a learning rate of AdamW says nothing about one of Prodigy.

        Args:
            params: Path -> value, such as {"optim.lr": 1e-3}.

        Raises:
            UnknownName: The recipe has no such path.
            SpecError: A value is not legal there.
        """
        for path in params:
            if path not in PATHS:
                raise UnknownName(path, valid=PATHS, what="recipe parameter")
        raw = self.model_dump(mode="json")
        for key in keys_to_drop(self.optim.name, params.get("optim.name", self.optim.name)):
            del raw["optim"][key]
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


def _adapter_problems(model: ModelSpec) -> Iterator[Problem]:
    """Yield contradictions in a model: adapters without tune: lora, or without weights."""
    if model.tune != "lora" and model.lora != LoraSpec():
        message = f"Adapters exist only with tune: lora, got tune: {model.tune}. Drop the key."
        yield Problem(("model", "lora"), message)
    if model.tune == "lora" and model.weights == "scratch":
        message = (
            "Adapters need pretrained weights, got 'scratch'. Drop the key, or set tune: full."
        )
        yield Problem(("model", "weights"), message)


FIXED = ("card", "augment", "boundary_tolerance")  # a nested value, a list, and a measure


def _paths(model: type[Frozen], prefix: str = "") -> Iterator[str]:
    """Yield the path of every field that a single value can set."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Frozen):
            yield from _paths(kind, f"{prefix}{name}.")
        elif name not in FIXED:
            yield prefix + name


PATHS = tuple(_paths(Recipe))
"""The paths that a search space may vary: optim.lr, batch_size, ..."""


def _plain(path: str, value: object) -> Scalar:
    if not isinstance(value, str | bool | int | float):
        message = f"{path}: Must be a number, text, true or false, got {format_value(value)}."
        raise SpecError(message)
    return value


def flatten(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar | None]]:
    """Yield the leaves of nested mappings under dotted names; a list as its items with commas."""
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield prefix + name, ",".join(map(str, value))
        else:
            yield prefix + name, value


def short_lr(lr: float) -> str:
    """Format a learning rate briefly: 1e-4, 3.2e-4."""
    mantissa, exponent = f"{lr:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
