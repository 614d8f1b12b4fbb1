"""Compute what the checkpoints of a search write to the shared storage: a plan, not a measurement.

`python -m benchmarks.checkpoint_rate` prints the tables of docs/scale.md: bytes as `plan` counts them,
of a ViT-B with a UPerNet of 512 channels, on 100 GPUs that are never idle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.search.rungs import Ladder
from cryo_hpo.training.build import segmenter
from cryo_hpo.training.checkpoint_size import CheckpointSize, count_bytes

GPUS = 100
STORAGE = 1e9  # bytes a second that the shared storage takes: an assumption
LADDER = Ladder.of(grace_epochs=3, reduction=3, epochs=81)
GRACE_EPOCHS = (3, 6, 9, 27)  # of the second table: full tuning, epochs of `SHORT_S`
SHORT_S, SELDOM = 30, 15  # seconds, minutes
MINUTES = (0, 5, 15)
EPOCHS_S = (30, 120, 600)
TUNES: tuple[Literal["full", "frozen", "lora"], ...] = ("full", "frozen", "lora")


def segments(ladder: Ladder) -> Iterator[tuple[float, int]]:
    """Yield (share of the trials, epochs) of each part of a training between two decisions."""
    stops = (*ladder.rungs, ladder.epochs)
    for number, (begin, end) in enumerate(zip((0, *stops), stops, strict=False)):
        yield ladder.reduction**-number, end - begin


def copies(epochs: int, *, epoch_s: float, minutes: float) -> int:
    """Return the checkpoints of one part of a training that are copied: the last one always.

    A copy is made at the first epoch that ends at least `minutes` after the copy before.
    """
    every = max(1, math.ceil(60 * minutes / epoch_s))
    return math.ceil(epochs / every)


def epochs_of_a_trial(ladder: Ladder) -> float:
    """Return the mean epochs that a trial of a search trains."""
    return sum(share * epochs for share, epochs in segments(ladder))


def copies_of_a_trial(ladder: Ladder, *, epoch_s: float, minutes: float) -> float:
    """Return the mean number of copies that a trial of a search makes."""
    return sum(share * copies(n, epoch_s=epoch_s, minutes=minutes) for share, n in segments(ladder))


def seconds_between_copies(ladder: Ladder, *, epoch_s: float, minutes: float) -> float:
    """Return the mean seconds between two copies of one GPU, over all trials of a search."""
    made = copies_of_a_trial(ladder, epoch_s=epoch_s, minutes=minutes)
    return epochs_of_a_trial(ladder) * epoch_s / made


def reads_of_a_copy(ladder: Ladder, *, epoch_s: float, minutes: float) -> float:
    """Return how many copies are read for each that is made: a promoted trial resumes from its own.

    The copy before is read only where the newest is damaged, which is left out here.
    """
    read = sum(share for share, _ in segments(ladder)) - 1  # the first part resumes from nothing
    return read / copies_of_a_trial(ladder, epoch_s=epoch_s, minutes=minutes)


def size_of(tune: Literal["full", "frozen", "lora"]) -> CheckpointSize:
    """Return the bytes of the checkpoints of a ViT-B with a UPerNet of 512 channels."""
    model = ModelSpec(encoder="vit-b16", decoder="upernet", channels=512, tune=tune)
    recipe = Recipe(data=DataSpec(name="glid", crop=224), model=model)
    with torch.device("meta"):
        network = segmenter(recipe, site=Site.from_env({}), weights="scratch")
    return count_bytes(recipe, network)


def main() -> None:
    """Print the tables."""
    print("| `model.tune` | epoch | minutes | a copy every | 100 GPUs | GPUs that fill 1 GB/s |")
    print("|---|--:|--:|--:|--:|--:|")
    for tune in TUNES:
        written = size_of(tune).last
        for epoch_s in EPOCHS_S:
            for minutes in MINUTES:
                gap = seconds_between_copies(LADDER, epoch_s=epoch_s, minutes=minutes)
                print(
                    f"| {tune} | {epoch_s} s | {minutes} | {gap:.0f} s "
                    f"| {GPUS * written / gap / 1e9:.2f} GB/s | {STORAGE * gap / written:.0f} |"
                )
    _print_ladders(size_of("full").last)


def _print_ladders(written: int) -> None:
    print(
        "\n| rungs | epochs a trial | a copy every | read for each written | GPUs that fill 1 GB/s |"
    )
    print("|---|--:|--:|--:|--:|")
    for grace in GRACE_EPOCHS:
        ladder = Ladder.of(grace_epochs=grace, reduction=3, epochs=81)
        gap = seconds_between_copies(ladder, epoch_s=SHORT_S, minutes=SELDOM)
        read = reads_of_a_copy(ladder, epoch_s=SHORT_S, minutes=SELDOM)
        print(
            f"| {', '.join(map(str, ladder.rungs))} | {epochs_of_a_trial(ladder):.0f} | {gap:.0f} s "
            f"| {read:.2f} | {STORAGE * gap / written:.0f} |"
        )


if __name__ == "__main__":
    main()
