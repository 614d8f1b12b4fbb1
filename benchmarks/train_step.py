"""Compare ways of taking a training step on a CPU with plain eager fp32, in one run.

`make bench-train` prints CPU seconds of a step, interleaved: one step of each way after another, so
that a loaded machine slows all alike. Ratios are medians over rounds; above 1 is faster than plain.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.training.build import parameter_groups, segmenter
from cryo_hpo.training.losses import make_loss
from cryo_hpo.training.micro_batch import AccumulatingStep
from cryo_hpo.training.optimizer import make_optimizer

MODELS = {
    "U-Net, width 32, 64 px": ModelSpec(encoder="unet", decoder="unet", width=32),
    "ViT-B, UPerNet of 64 channels, 64 px": ModelSpec(
        encoder="vit-scratch", decoder="upernet", channels=64
    ),
}
BATCH, SIDE = 4, 64
BF16 = ("avx512_bf16", "amx_bf16")
Step = Callable[[Tensor, Tensor], None]


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", metavar="WORD", help="models with this in their name")
    given = parser.parse_args()
    torch.set_num_threads(1)
    flags = set(Path("/proc/cpuinfo").read_text().split())
    print(f"bf16 instructions of this processor: {', '.join(flags & set(BF16)) or 'none'}")
    for name, spec in MODELS.items():
        if given.only not in name:
            continue
        recipe = Recipe(data=DataSpec(name="glid", crop=SIDE), model=spec)
        seconds = _measure(_ways(recipe, bf16=bool(flags & set(BF16))), given.rounds)
        print(f"\n| {name} | CPU s a step | times plain |\n|---|--:|--:|")
        for way, values in seconds.items():
            ratios = [p / v for p, v in zip(seconds["plain eager fp32"], values, strict=True)]
            print(f"| {way} | {statistics.median(values):.3f} | {statistics.median(ratios):.2f} |")


def _measure(ways: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        torch.manual_seed(number)
        x, y = torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(2, (BATCH, SIDE, SIDE))
        for name, step in ways.items():
            started = time.process_time()
            step(x, y)
            if number:  # the first one warms up
                seconds[name].append(time.process_time() - started)
    return seconds


def _ways(recipe: Recipe, *, bf16: bool) -> dict[str, Step]:
    model = segmenter(recipe, site=Site.from_env({}), weights="scratch").train()
    ways = {
        "plain eager fp32": _plain(copy.deepcopy(model)),
        "the loop of cryo-hpo": _ours(recipe, copy.deepcopy(model)),
        "fused AdamW": _plain(copy.deepcopy(model), fused=True),
        "channels-last": _plain(copy.deepcopy(model), channels_last=True),
        "channels-last, fused AdamW": _plain(copy.deepcopy(model), channels_last=True, fused=True),
    }
    if bf16:  # without instructions for it a step takes minutes
        ways["bf16"] = _plain(copy.deepcopy(model), bf16=True)
        ways["bf16, channels-last, fused AdamW"] = _plain(
            copy.deepcopy(model), bf16=True, channels_last=True, fused=True
        )
    return ways


def _plain(
    model: nn.Module, *, bf16: bool = False, channels_last: bool = False, fused: bool = False
) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused or None)
    loss = nn.CrossEntropyLoss()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(x.contiguous(memory_format=layout))
        loss(logits.float(), y).backward()
        optimizer.step()

    return step


def _ours(recipe: Recipe, model: nn.Module) -> Step:
    """Return the step of the training loop: gradient, norm and optimizer with its groups."""
    optimizer = make_optimizer("adamw", model, parameter_groups(recipe, model))  # type: ignore[arg-type]
    gradient = AccumulatingStep(
        model,
        forward=model,
        loss=make_loss("ce", num_classes=2, focal_gamma=2.0, class_weights=None),
        weight=lambda _: torch.ones(()),
        micro_batch=BATCH,
    )

    def step(x: Tensor, y: Tensor) -> None:
        gradient(x, y)
        nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
