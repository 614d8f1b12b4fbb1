"""Whole scenes to scores: overlapping windows, blended, pooled into one confusion matrix."""

# S scenes of one size, C bands, K classes, H W pixels
from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .memory import fitting
from .metrics import Scores
from .tiling import blend, windows

if TYPE_CHECKING:
    from .data.cache import Scenes
    from .data.tiles import Normalise


def predict(
    model: nn.Module, images_SCHW: Tensor, *, size: int, overlap: int, batch: int
) -> Tensor:
    """Segment images of any size with overlapping windows.

    Windows are blended with a cosine taper, so a pixel's logits are the weighted mean over
    every window that sees it. Images smaller than a window are padded with zeros, the band
    means after normalisation, and the padding is cut off again.

    Args:
        model: Segmenter, (B, C, size, size) -> (B, K, size, size). Put in eval mode by the caller.
        images_SCHW: Normalised images, (S, C, H, W), float32.
        size: Side of a window, pixels.
        overlap: Pixels shared by neighbouring windows, 0 <= overlap < size.
        batch: Windows per forward pass. Changes memory, never the result.

    Returns:
        Logits, (S, K, H, W), float32, on the device of `images_SCHW`.
    """
    height, width = images_SCHW.shape[-2:]
    right, below = max(size - width, 0), max(size - height, 0)
    padded = F.pad(images_SCHW, (0, right, 0, below))
    weights = torch.from_numpy(blend(size, overlap=overlap)).to(padded.device)
    places = [
        (scene, top, left)
        for scene in range(len(padded))
        for top, left in windows((padded.shape[-2], padded.shape[-1]), size=size, overlap=overlap)
    ]
    total: Tensor | None = None
    norm = padded.new_zeros(padded.shape[-2:])
    for start in range(0, len(places), batch):
        chunk = places[start : start + batch]
        crops = torch.stack([padded[s, :, t : t + size, u : u + size] for s, t, u in chunk])
        logits = model(crops).float()
        if total is None:
            total = logits.new_zeros((len(padded), logits.shape[1], *padded.shape[-2:]))
        for (s, t, u), one in zip(chunk, logits, strict=True):
            total[s, :, t : t + size, u : u + size] += one * weights
            if s == 0:
                norm[t : t + size, u : u + size] += weights
    assert total is not None, "a scene holds at least one window"
    return (total / norm)[..., :height, :width]


def score_each(
    model: nn.Module,
    scenes: Scenes,
    *,
    normalise: Normalise,
    classes: tuple[str, ...],
    window: tuple[int, int],
    batch: int,
) -> Iterator[tuple[str, Scores]]:
    """Yield (scene id, its scores) for every scene of a split.

    Args:
        model: Segmenter, on the device of `normalise`.
        scenes: One split, decoded.
        normalise: Turns native pixels (C, H, W) into the model's input.
        classes: Names; the index is the mask value.
        window: Size and overlap of the windows, pixels.
        batch: Windows per forward pass; fewer where memory is too small.
    """
    size, _ = window
    model.eval()
    for indices in _chunks(scenes, size=size, batch=batch):
        images = torch.stack([normalise(scenes.image(i)) for i in indices])
        with torch.inference_mode(), _autocast(images.device):
            logits, batch = fitting(_prediction(model, images, window), batch, what="window")
        predicted = logits.argmax(dim=1).cpu().numpy()
        for i, one in zip(indices, predicted, strict=True):
            yield scenes.ids[i], Scores.of(scenes.mask(i), one, classes=classes)


def score(
    model: nn.Module,
    scenes: Scenes,
    *,
    normalise: Normalise,
    classes: tuple[str, ...],
    window: tuple[int, int],
    batch: int,
) -> Scores:
    """Score a split: the confusion matrices of all its scenes, added up (see `score_each`)."""
    total = Scores.zero(classes)
    for _, one in score_each(
        model, scenes, normalise=normalise, classes=classes, window=window, batch=batch
    ):
        total = total + one
    return total


def _prediction(
    model: nn.Module, images_SCHW: Tensor, window: tuple[int, int]
) -> Callable[[int], Tensor]:
    size, overlap = window
    return lambda batch: predict(model, images_SCHW, size=size, overlap=overlap, batch=batch)


def _chunks(scenes: Scenes, *, size: int, batch: int) -> Iterator[list[int]]:
    """Neighbouring scenes of one size together, so that small scenes fill a forward pass."""
    for (height, width), run in groupby(range(len(scenes)), key=lambda i: scenes.sizes[i]):
        indices = list(run)
        step = batch if height <= size and width <= size else 1
        for start in range(0, len(indices), step):
            yield indices[start : start + step]


def _autocast(device: torch.device) -> torch.autocast:
    """Half precision where training may use it; float32 on CPU, where parity counts."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
