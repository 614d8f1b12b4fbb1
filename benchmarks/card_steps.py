"""Make the steps that are timed on a card: models, scenes of random pixels, and the clock.

All of it runs on a CPU too, so that tests rehearse what a card will measure.
"""

# B batch, C bands, H W pixels
from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.training.run import Run
from cryo_hpo.training.step import take_step

BATCH, SIDE = 8, 224
SCENE = 512  # pixels, as in GLID
VIT = ModelSpec(encoder="vit-scratch", decoder="upernet", channels=512)
MODELS = {
    "ViT-B, UPerNet-512": VIT,
    "U-Net, width 32": ModelSpec(encoder="unet", decoder="unet", width=32),
    "Swin-T, UPerNet-256": ModelSpec(
        encoder="timm/swin_tiny_patch4_window7_224", weights="scratch", decoder="upernet"
    ),
    "Galileo-nano, UPerNet-64": ModelSpec(
        encoder="galileo-nano", weights="scratch", decoder="upernet", channels=64
    ),
}


def make_recipe(card: DatasetCard, **changes: Any) -> Recipe:
    """Return the recipe of the timed steps, with changes; `crop` is one of them."""
    given: dict[str, Any] = {"batch_size": BATCH, "epochs": 3, "precision": "auto", **changes}
    data = DataSpec(card=card, crop=given.pop("crop", SIDE))
    return Recipe(data=data, optim=OptimSpec(lr=1e-4), **given)


def first_batch(run: Run, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a whole batch of a training, repeated where its set is smaller."""
    batches = run.tiles.batches(run.recipe.batch_size, seed=0, epoch=1, device=device)
    x, y = next(iter(batches))
    repeats = -(-run.recipe.batch_size // len(x))  # the last batch of a small set may be short
    return (
        x.repeat(repeats, 1, 1, 1)[: run.recipe.batch_size],
        y.repeat(repeats, 1, 1)[: run.recipe.batch_size],
    )


def count_flop(run: Run, batch: tuple[Tensor, Tensor]) -> int:
    """Return the floating-point operations of a step, forward and backward."""
    run.model.train()
    with FlopCounterMode(display=False) as counter:
        run.step(*batch)
    return int(counter.get_total_flops())


def time_steps(run: Run, batch: tuple[Tensor, Tensor], rounds: int = 30) -> float:
    """Return the seconds of a step of the training loop."""
    run.model.train()
    position = iter(range(10**6))
    return time_rounds(lambda: take_step(run, *batch, position=next(position) % 3), rounds=rounds)


def time_rounds(work: Callable[[], Any], *, rounds: int) -> float:
    """Return the seconds of one round, median of five lots, after a warm-up."""
    for _ in range(5):
        work()
    lots = []
    for _ in range(5):
        synchronize()
        started = time.perf_counter()
        for _ in range(rounds):
            work()
        synchronize()
        lots.append((time.perf_counter() - started) / rounds)
    return statistics.median(lots)


def synchronize() -> None:
    """Wait for the card, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reserved_gib() -> float:
    """Return the card's memory that this process holds, graphs' too; 0 on a CPU."""
    return torch.cuda.memory_reserved() / 2**30 if torch.cuda.is_available() else 0.0


def free_memory() -> None:
    """Give the card's memory back that nothing holds any more."""
    gc.collect()
    torch.cuda.empty_cache()


def site_below(root: Path) -> Site:
    """Return a site whose folders lie below a root."""
    names = ("DATA", "STORAGE", "CACHE", "WEIGHTS")
    return Site.from_env({f"CRYO_{name}": str(root / name.lower()) for name in names})


def write_scenes(
    root: Path,
    count: dict[str, int],
    *,
    bands: tuple[str, ...] = ("B4", "B3", "B2"),
    name: str = "scenes",
) -> DatasetCard:
    """Write scenes of random pixels, whose class is a brighter half, below a data root."""
    card = DatasetCard(
        name=name,
        root=name,
        images="{split}/i/{id}.tif",
        masks="{split}/m/{id}.png",
        bands=bands,
        classes=("ground", "lake"),
        ignore=255,
        license="Apache-2.0",
    )
    rng = np.random.default_rng(0)
    for split, scenes in (count | {"test": 1}).items():
        for number in range(scenes):
            mask = np.zeros((1, SCENE, SCENE), dtype=np.uint8)
            mask[:, : rng.integers(100, 400)] = 1
            image = rng.integers(0, 100, (len(bands), SCENE, SCENE), dtype=np.uint8) + 60 * mask
            folder = root / "data" / name / split
            _write(folder / "i" / f"{number}.tif", image.astype(np.uint8), "GTiff")
            _write(folder / "m" / f"{number}.png", mask, "PNG")
    return card


def _write(path: Path, pixels_CHW: Any, driver: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels_CHW.shape
    shape = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # pixels are enough here
        with rasterio.open(path, "w", driver=driver, **shape) as file:
            file.write(pixels_CHW)
