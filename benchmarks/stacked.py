"""Measure what training several learning rates at once would gain, in one run.

A frozen encoder runs once for all learning rates, and the decoders train stacked (`torch.func`
with `vmap`) or one after another; beside them the trainings as they are, one rate at a time. Seconds for a step
of four rates, interleaved: CPU seconds of one thread, or of the clock on a GPU.

    python -m benchmarks.stacked --weights ../shared/weights
    python -m benchmarks.stacked --device cuda
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from cryo_hpo.bands import BANDS
from cryo_hpo.models import build

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
BATCH, SIZE, CLASSES = 8, 96, 2
WARM_UP = 2  # steps
Way = Callable[[Tensor, Tensor], None]


def main() -> None:
    """Print seconds per step of the three ways, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="random weights where left out")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for row in compare(options.weights, steps=options.steps, device=options.device):
        print(row, flush=True)


def compare(weights: Path | None, *, steps: int, device: torch.device) -> Iterator[str]:
    """Yield the milliseconds of each way and how many times as fast as one at a time it is."""
    with torch.device(device):
        seconds, errors = _measure(_ways(weights), steps, clock_of(device))
    single = statistics.median(seconds["one at a time"] or [math.nan])
    for name, values in seconds.items():
        if not values:
            yield f"{name}: does not run on {device}: {errors[name]}"
            continue
        median = statistics.median(values)
        yield (
            f"{name}: {1e3 * median:.1f} ms for a step of {len(RATES)} rates, "
            f"{single / median:.2f} times"
        )


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock to time a device with: CPU seconds, or of the wall once a GPU is done."""
    if device.type == "cpu":
        return time.process_time

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def _measure(
    ways: dict[str, Way], steps: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the seconds of each way, and the error of each that does not run."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    errors: dict[str, str] = {}
    for step in range(steps + WARM_UP):
        x, y = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH, SIZE, SIZE))
        for name, run in ways.items():
            if name in errors:
                continue
            started = clock()
            try:
                run(x, y)
            except RuntimeError as error:  # not every operation can be stacked on every device
                errors[name] = " ".join(str(error).split())[:200]
                seconds[name].clear()
                continue
            taken = clock() - started
            if step >= WARM_UP:
                seconds[name].append(taken)
    return seconds, errors


def _ways(weights: Path | None) -> dict[str, Way]:
    model = build(
        "galileo-nano",
        "upernet",
        bands=[BANDS[name] for name in ("B4", "B3", "B2")],
        num_classes=CLASSES,
        size=SIZE,
        channels=64,
        weights="galileo_nano/encoder.pt" if weights else "scratch",
        weights_root=weights or Path(),
    ).train()
    encoder = model.get_submodule("encoder").eval().requires_grad_(requires_grad=False)
    decoders = [copy.deepcopy(model.decoder) for _ in RATES]
    optimizers = [
        torch.optim.AdamW(decoder.parameters(), lr=rate)
        for decoder, rate in zip(decoders, RATES, strict=True)
    ]

    def step(decoder: nn.Module, optimizer: torch.optim.Optimizer, levels: Any, y: Tensor) -> None:
        optimizer.zero_grad()
        _loss(decoder(levels), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def alone(x: Tensor, y: Tensor) -> None:
        for decoder, optimizer in zip(decoders, optimizers, strict=True):
            seen = x if model.pick is None else model.pick(x)
            step(decoder, optimizer, encoder(seen), y)

    def shared(x: Tensor, y: Tensor) -> None:
        levels = encoder(x if model.pick is None else model.pick(x))
        for decoder, optimizer in zip(decoders, optimizers, strict=True):
            step(decoder, optimizer, levels, y)

    stacked = _stacked(decoders)

    def packed(x: Tensor, y: Tensor) -> None:
        stacked(encoder(x if model.pick is None else model.pick(x)), y)

    return {"one at a time": alone, "encoder shared": shared, "encoder shared, vmap": packed}


def _stacked(decoders: list[nn.Module]) -> Callable[[Any, Tensor], None]:
    """Return a step of all decoders at once, with stacked parameters and statistics."""
    params, buffers = stack_module_state(decoders)
    skeleton = copy.deepcopy(decoders[0]).to("meta")
    optimizer = torch.optim.AdamW(params.values(), lr=1e-3)

    def one(
        params: dict[str, Tensor], buffers: dict[str, Tensor], levels: Any, y: Tensor
    ) -> Tensor:
        return _loss(functional_call(skeleton, (params, buffers), (levels,)), y)

    def step(levels: Any, y: Tensor) -> None:
        optimizer.zero_grad()
        losses = torch.vmap(one, in_dims=(0, 0, None, None), randomness="different")(
            params, buffers, levels, y
        )
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(
        F.interpolate(logits, size=y.shape[-2:], mode="bilinear", align_corners=False), y
    )


if __name__ == "__main__":
    main()
