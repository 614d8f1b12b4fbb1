"""Define the recorded tables of the search benchmark: which trainings each one holds.

`lr_table` has all rates, both encoders and three seeds; the others change one thing of it: the length, the
schedule, the share of the labels, the size of the windows, what is trained, or the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cryo_hpo.config import LossSpec, ModelSpec, OptimSpec

EMA = 0.8
BATCH = 8
SIDE = 32  # of a scene of the tables, pixels
TRAIN, VAL, TEST = 32, 16, 32  # scenes
LOSS = LossSpec(name="ce+dice")
LRS = tuple(float(f"{lr:.6g}") for lr in np.geomspace(1e-6, 1e-1, 16))
OPTIMIZERS = ("sgd", "prodigy", "schedule-free")


class Task(NamedTuple):
    """A dataset, reduced in size.

    Attributes:
        card: File name of its card, or the name of a generated dataset.
        reduce: Stride of the pixels taken where windows have `SIDE` pixels; images are averaged.
        tiles: Maximum number of windows of a scene, those with the most labeled pixels.
        augment: Augmentations of the training tiles.
    """

    card: str
    reduce: int
    tiles: int
    augment: tuple[Any, ...] = ("hflip", "vflip", "rot90")


TASKS = {
    "rock-glaciers": Task("rock-glaciers.yaml", reduce=4, tiles=1),
    "calving-fronts": Task("calving-fronts.yaml", reduce=2, tiles=4, augment=("hflip",)),
    "melt-ponds": Task("melt-ponds.yaml", reduce=4, tiles=9),
    "lakes-demo": Task("lakes-demo", reduce=2, tiles=1),
    "fronts-demo": Task("fronts-demo", reduce=2, tiles=1),
}
UNET = ModelSpec(encoder="unet", decoder="unet", width=8)
GALILEO = ModelSpec(
    encoder="galileo-nano", weights="galileo_nano/encoder.pt", decoder="upernet", channels=8
)
MODELS = {"unet-8": UNET, "galileo-nano": GALILEO}


def rates(lrs: tuple[float, ...], **optim: Any) -> dict[str, OptimSpec]:
    """Return the optimizer at each learning rate, every other one first: a half is a grid too."""
    return {f"{lr:g}": OptimSpec(lr=lr, ema=EMA, **optim) for lr in (*lrs[1::2], *lrs[::2])}


class Grid(NamedTuple):
    """The trainings of one table.

    Attributes:
        epochs: Length of a training.
        optims: Name in the log -> learning rate or optimizer.
        models: Name in the table -> model.
        seeds: One training each.
        side: Of a window, pixels; its ground is the same for all.
        train: Training scenes.
    """

    epochs: int
    optims: Mapping[str, OptimSpec]
    models: Mapping[str, ModelSpec] = MODELS
    seeds: tuple[int, ...] = (0,)
    side: int = SIDE
    train: int = TRAIN


EVERY_OTHER = rates(LRS[1::2])
SCHEDULE_FREE = {
    f"{lr:g}": OptimSpec.model_validate({"name": "schedule-free", "lr": lr}) for lr in LRS[7::2]
}
GRIDS = {
    "lr_table": Grid(27, rates(LRS), seeds=(0, 1, 2)),
    "lr_table_9": Grid(9, EVERY_OTHER, seeds=(0, 1, 2)),
    "lr_table_optimizers": Grid(
        27, {name: OptimSpec.model_validate({"name": name}) for name in OPTIMIZERS}, seeds=(0, 1, 2)
    ),
    "lr_table_schedule_free": Grid(27, SCHEDULE_FREE, seeds=(0, 1, 2)),
    "lr_table_schedule_free_9": Grid(9, SCHEDULE_FREE, seeds=(0, 1, 2)),
    "lr_table_schedule_free_81": Grid(81, SCHEDULE_FREE, {"unet-8": UNET}, seeds=(0, 1, 2)),
    "lr_table_81": Grid(81, EVERY_OTHER, {"unet-8": UNET}, seeds=(0, 1, 2)),
    "lr_table_frozen": Grid(
        27,
        EVERY_OTHER,
        {"galileo-nano": GALILEO.model_copy(update={"tune": "frozen"})},
        seeds=(0, 1, 2),
    ),
    "lr_table_scratch": Grid(
        27,
        EVERY_OTHER,
        {"galileo-nano": GALILEO.model_copy(update={"weights": "scratch"})},
        seeds=(0, 1, 2),
    ),
    "lr_table_constant": Grid(
        27, rates(LRS[1::2], schedule="constant"), {"unet-8": UNET}, seeds=(0, 1, 2)
    ),
    "lr_table_few": Grid(27, EVERY_OTHER, seeds=(0, 1, 2), train=8),
    "lr_table_64": Grid(27, EVERY_OTHER, {"unet-8": UNET}, seeds=(0, 1, 2), side=64),
}
