"""Define the optimizer of a recipe: its name, learning rates and schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from .frozen import ConstraintErrors, Frozen, Problem

ADAMW = "adamw"
OWN: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        ADAMW: {"lr": 1e-4},
        "sgd": {"lr": 1e-2, "weight_decay": 1e-4},
        "prodigy": {"lr": 1.0},
        "schedule-free": {"lr": 2.5e-3, "schedule": "constant"},
    }
)
"""Optimizer -> values of keys that are left out, where they differ.

Source: AdamW's of Cryo-Bench (docs/protocol.md); SGD's of torchvision's reference training for
segmentation; Prodigy's and Schedule-Free's of their authors' packages.
"""
PRODIGY_LR = (0.1, 10.0)  # factors on the estimated rate; its authors advise 1


class OptimSpec(Frozen):
    """Optimizer, its learning rates and their schedule."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: Literal["adamw", "sgd", "prodigy", "schedule-free"] = Field(
        default="adamw",
        description=(
            "Optimizer. sgd: with momentum 0.9; prodigy: estimates the learning rate, lr is a factor "
            "on it; schedule-free: AdamW that averages its weights in place of a schedule."
        ),
    )
    lr: float = Field(
        default=1e-4,
        gt=0,
        le=1e3,
        description=(
            "Peak learning rate of the decoder. Left out: 1e-4 with adamw, 0.01 with sgd, 1 with "
            "prodigy, 2.5e-3 with schedule-free."
        ),
    )
    weight_decay: float = Field(
        default=0.05,
        ge=0,
        le=1e3,
        description=(
            "Weight decay; norms, biases and embeddings are exempt. Left out: 0.05, with sgd 1e-4, "
            "which adds it to the gradient."
        ),
    )
    encoder_lr_scale: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="Learning rate of the encoder's last layer, relative to lr.",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Layer-wise decay: learning rate of an encoder layer relative to the next one up.",
    )
    schedule: Literal["multistep", "cosine", "constant"] = Field(
        default="multistep",
        description=(
            "Learning-rate schedule over a whole training; schedule-free takes constant only."
        ),
    )
    warmup_epochs: float = Field(
        default=0.0,
        ge=0,
        le=100_000,
        description="Epochs of linear warm-up of the learning rate from 0; fractions are allowed.",
    )
    clip_grad_norm: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="Largest gradient norm, above which gradients are scaled down; left out: no clipping.",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=(
            "Decay per step of an exponential moving average of the weights, which is scored and "
            "kept in place of the raw weights; left out: no averaging."
        ),
    )

    @model_validator(mode="after")
    def _take_own(self) -> Self:
        """Fill values that were not given with those of the optimizer."""
        for key, value in OWN[self.name].items() if self.name != ADAMW else ():
            if key not in self.model_fields_set:
                self.__dict__[key] = value  # still under construction, frozen afterwards
                self.model_fields_set.add(key)  # a protocol does not replace it
        return self

    @model_validator(mode="after")
    def _laws(self) -> Self:
        problems = list(_PROBLEMS[self.name](self)) if self.name in _PROBLEMS else []
        if problems:
            raise ConstraintErrors(problems)
        return self


def keys_to_drop(before: str, after: object) -> set[str]:
    """Return the keys of `optim` that do not outlive a change of optimizer; empty without one."""
    if before == after or after not in OWN:
        return set()
    return set(OWN[before]) | set(OWN[str(after)])


def _prodigy_problems(optim: OptimSpec) -> Iterator[Problem]:
    low, high = PRODIGY_LR
    if not low <= optim.lr <= high:
        message = (
            f"With prodigy, lr is a factor on the rate that it estimates, got {optim.lr:g}. Drop the "
            f"key, which is 1 then, or use {low:g} to {high:g}."
        )
        yield Problem(("lr",), message)
    for key in ("encoder_lr_scale", "layer_decay"):
        value = getattr(optim, key)
        if value != 1:
            message = (
                f"Prodigy estimates one learning rate for all layers, got {value:g}. Set it to 1, or "
                "use another optimizer."
            )
            yield Problem((key,), message)


def _schedule_free_problems(optim: OptimSpec) -> Iterator[Problem]:
    if optim.schedule != "constant":
        message = (
            f"Schedule-free replaces the decay of the learning rate, got {optim.schedule}. Drop the "
            "key, or use constant; warm-up is allowed."
        )
        yield Problem(("schedule",), message)
    if optim.ema is not None:
        message = (
            f"Schedule-free scores an average of the weights already, got ema {optim.ema:g}. "
            "Drop the key."
        )
        yield Problem(("ema",), message)


_PROBLEMS = {"prodigy": _prodigy_problems, "schedule-free": _schedule_free_problems}
