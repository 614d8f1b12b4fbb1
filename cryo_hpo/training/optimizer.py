"""Build parameter groups, AdamW and learning-rate schedules."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

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
    found = []
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
        found.append(group)
    return found


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


def adamw(model: torch.nn.Module, groups: Sequence[Group]) -> torch.optim.AdamW:
    """Return AdamW over the groups of a model; on a GPU as one fused kernel per group.

    The fused kernel reads and writes each value once and keeps its step count on the GPU, so that a
    resumed step never waits to read that count.

    Source:
        Loshchilov and Hutter 2019, arXiv:1711.05101; betas of Kingma and Ba 2015,
        arXiv:1412.6980.
    """
    parameters = dict(model.named_parameters())
    on_gpu = all(parameter.device.type == "cuda" for parameter in parameters.values())
    return torch.optim.AdamW(
        [
            {
                "name": group.name,
                "params": [parameters[name] for name in group.parameters],
                "lr": group.lr,
                "weight_decay": group.weight_decay,
            }
            for group in groups
        ],
        betas=(0.9, 0.999),
        fused=True if on_gpu else None,
    )


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
