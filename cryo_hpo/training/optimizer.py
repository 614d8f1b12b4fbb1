"""Build parameter groups, optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree

from ..errors import SpecError, UnknownName
from ..models import Segmenter

# Last name part of parameters that are added to tokens or attention, not multiplied with them.
EMBEDDINGS = ("token", "tokens", "embed", "emb", "bias_table", "logit_scale")
MILESTONES = (0.6, 0.9)  # shares of all steps; after each, "multistep" divides the rate by ten


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hold the parameters that share a learning rate and a weight decay.

    Attributes:
        name: "encoder/03/decay", with the layer, or "decoder/decay".
        part: "encoder" or "decoder".
        layer: Depth in the encoder, 0 for the stem; the encoder's `num_layers` for the decoder.
        decay: Weight decay applies; not to norms, biases and embeddings, unless `decays_all`.
        lr: Learning rate before the schedule.
        weight_decay: 0 unless `decay`.
        parameters: Parameter names in the model.
        num_values: Trainable values in all these parameters.
    """

    name: str
    part: str
    layer: int
    decay: bool
    lr: float
    weight_decay: float
    parameters: tuple[str, ...]
    num_values: int


def groups(
    model: Segmenter,
    *,
    lr: float,
    weight_decay: float,
    encoder_lr_scale: float,
    layer_decay: float,
    decays_all: bool = False,
) -> list[Group]:
    """Group the trainable parameters of a model by layer and weight decay.

    The learning rate of an encoder layer is lr * encoder_lr_scale * layer_decay^(number of deeper
    encoder layers). Frozen parameters are in no group.

    Args:
        model: Encoder and decoder.
        lr: Learning rate of the decoder.
        weight_decay: Weight decay; 0 for norms, biases and embeddings, unless `decays_all`.
        encoder_lr_scale: Rate of the encoder's last layer, relative to the decoder's.
        layer_decay: Rate of a layer relative to the next deeper one, in (0, 1].
        decays_all: Apply weight decay to norms, biases and embeddings too.

    Source:
        Layer-wise decay: Clark et al. 2020, arXiv:2003.10555; as in Bao et al. 2021,
        arXiv:2106.08254.
    """
    num_layers = model.encoder.num_layers
    members: dict[tuple[int, bool], list[str]] = defaultdict(list)
    sizes: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_layer(model, name), decays_all or _decays(name, parameter)].append(name)
            sizes[name] = parameter.numel()
    result = []
    for (layer, decay), names in sorted(members.items()):
        inside = layer < num_layers
        scale = encoder_lr_scale * layer_decay ** (num_layers - 1 - layer) if inside else 1.0
        part = "encoder" if inside else "decoder"
        path = (part, *([f"{layer:02d}"] if inside else []), "decay" if decay else "no_decay")
        group = Group(
            name="/".join(path),
            part=part,
            layer=layer,
            decay=decay,
            lr=lr * scale,
            weight_decay=weight_decay if decay else 0.0,
            parameters=tuple(names),
            num_values=sum(sizes[name] for name in names),
        )
        result.append(group)
    return result


def check_groups_cover_model(model: torch.nn.Module, groups: Sequence[Group]) -> None:
    """Check that every trainable parameter is in exactly one group, and no frozen one in any.

    Raises:
        SpecError: A parameter is not; the message names the first.
    """
    times = Counter(name for group in groups for name in group.parameters)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    wrong = sorted(name for name in trainable | times.keys() if times[name] != (name in trainable))
    if wrong:
        state = "trainable" if wrong[0] in trainable else "frozen or absent"
        message = (
            f"Every trainable parameter belongs to exactly one optimizer group; '{wrong[0]}' is "
            f"{state} and in {times[wrong[0]]} ({len(wrong)} such). "
            "Freeze the model before making its groups, and make them once."
        )
        raise SpecError(message)


def make_optimizer(
    name: str,
    model: torch.nn.Module,
    groups: Sequence[Group],
    *,
    fused: bool = False,
    warms_up: bool = False,
) -> torch.optim.Optimizer:
    """Return an optimizer over the groups of a model, each with its `initial_lr`.

    Args:
        name: Key of `OPTIMIZERS`.
        model: Model of the groups, on its device.
        groups: Groups of its trainable parameters.
        fused: Whether AdamW is one kernel per group.
        warms_up: Whether the learning rate warms up.

    Raises:
        UnknownName: The table has no such optimizer.
    """
    if name not in OPTIMIZERS:
        raise UnknownName(name, OPTIMIZERS, what="optimizer")
    parameters = dict(model.named_parameters())
    optimizer = OPTIMIZERS[name].make(
        [
            {
                "name": group.name,
                "params": [parameters[key] for key in group.parameters],
                "lr": group.lr,
                "weight_decay": group.weight_decay,
            }
            for group in groups
        ],
        fused,
        warms_up,
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # the schedule scales it at every step
    return optimizer


def estimated_rate(optimizer: torch.optim.Optimizer) -> float:
    """Return the rate that Prodigy has estimated, on which lr is a factor; 1 for all others."""
    return float(optimizer.param_groups[0]["d"]) if isinstance(optimizer, Prodigy) else 1.0


@dataclass(frozen=True, slots=True)
class OptimizerKind:
    """Hold how an optimizer is built, and what it keeps.

    Attributes:
        make: Builds it from torch's parameter groups; then: one kernel per group, the rate warms up.
        values: Values kept per trained parameter, besides the parameter.
    """

    make: Callable[[list[dict[str, Any]], bool, bool], torch.optim.Optimizer]
    values: int


def _adamw(
    groups: list[dict[str, Any]],
    fused: bool,  # noqa: FBT001
    _warms_up: bool,  # noqa: FBT001
) -> torch.optim.Optimizer:
    """Build AdamW; the fused kernel reads and writes each value once.

    On a GPU it also keeps its step count there, so that a resumed step never waits to read it.
    """
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True if fused else None)


OPTIMIZERS = {
    "adamw": OptimizerKind(_adamw, values=2),
    "sgd": OptimizerKind(lambda groups, *_: torch.optim.SGD(groups, momentum=0.9), values=1),
    # Its estimate must not be divided by a rate that is almost 0.
    "prodigy": OptimizerKind(
        lambda groups, _, warms_up: Prodigy(groups, safeguard_warmup=warms_up), values=4
    ),
    "schedule-free": OptimizerKind(lambda groups, *_: AdamWScheduleFree(groups), values=2),
}
"""Name -> optimizer.

Source: AdamW: Loshchilov and Hutter 2019, arXiv:1711.05101, betas of Kingma and Ba 2015,
arXiv:1412.6980. Prodigy: Mishchenko and Defazio 2024, arXiv:2306.06101. Schedule-Free AdamW:
Defazio et al. 2024, arXiv:2405.15682; the last two are their authors' packages.
"""


def schedule(name: str, *, total_steps: int, warmup_steps: int = 0) -> Callable[[int], float]:
    """Return the factor on the learning rate at each step, 0-based.

    Warm-up multiplies the first factors by 1/warmup, 2/warmup, ... and shifts nothing: the
    schedule runs over all steps.

    Args:
        name: Key of `SCHEDULES`.
        total_steps: Optimizer steps of the whole training.
        warmup_steps: Steps until the warm-up factor is 1.

    Raises:
        UnknownName: The table has no such schedule.
    """
    if name not in SCHEDULES:
        raise UnknownName(name, SCHEDULES, what="schedule")
    base = SCHEDULES[name]

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return warm * base(step, total_steps)

    return factor


def _multistep(step: int, total_steps: int) -> float:
    passed = sum(step >= int(share * total_steps) for share in MILESTONES)
    return 0.1**passed


def _cosine(step: int, total_steps: int) -> float:
    """Return half a cosine wave, 0 after the last step. Source: arXiv:1608.03983."""
    return 0.5 * (1 + math.cos(math.pi * min(step, total_steps) / total_steps))


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "multistep": _multistep,
    "cosine": _cosine,
    "constant": lambda _step, _total_steps: 1.0,
}


def _layer(model: Segmenter, name: str) -> int:
    part, _, inner = name.partition(".")
    return model.encoder.layer_of(inner) if part == "encoder" else model.encoder.num_layers


def _decays(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1 and not name.endswith(EMBEDDINGS)
