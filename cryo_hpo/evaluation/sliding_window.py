"""Whole scenes to scores: overlapping windows, blended, pooled into one confusion matrix."""

# S scenes of one size, C bands, K classes, H W pixels
from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .metrics import Scores
from .out_of_memory import fitting
from .strips import strips
from .tiling import blend, grid, windows

if TYPE_CHECKING:
    from ..data.cache import Scenes
    from ..data.tiles import Normalize

LARGE = 2048 * 2048  # pixels of a scene; one of ten bands then takes 160 MiB as float32
Place = tuple[slice, slice]  # rows and columns of a scene
Piece = tuple[int, Place]  # number of a scene, and where in it


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


class Window(NamedTuple):
    """How scenes are looked at."""

    size: int
    """Side of a window, pixels."""
    overlap: int
    """Pixels shared by neighbouring windows, 0 <= overlap < size."""
    tile: int | None = None
    """Larger scenes are cut into tiles of this side, and each is an image of its own."""


def map_each(
    model: nn.Module, scenes: Scenes, *, normalise: Normalize, window: Window, batch: int
) -> Iterator[tuple[int, Place, NDArray[np.uint8]]]:
    """Yield (scene, where in it, the map of that part) for every scene; for every tile, if cut.

    Scenes of more than `LARGE` pixels go row of windows by row: memory hangs on their width alone.

    Args:
        model: Segmenter, on the device of `normalise`.
        scenes: Decoded.
        normalise: Turns native pixels (C, H, W) into the model's input.
        window: How scenes are looked at.
        batch: Windows per forward pass; fewer where memory is too small.
    """
    model.eval()
    device = normalise.mean_C11.device
    for pieces in _chunks(scenes, window, batch=batch):
        images = [scenes.image(i)[:, *place] for i, place in pieces]
        with torch.inference_mode(), _autocast(device):
            maps, batch = fitting(_maps(model, images, normalise, window), batch, what="window")
        for (i, place), one in zip(pieces, maps, strict=True):
            yield i, place, one


def score_each(
    model: nn.Module,
    scenes: Scenes,
    *,
    normalise: Normalize,
    classes: tuple[str, ...],
    window: Window,
    batch: int,
) -> Iterator[tuple[str, Scores]]:
    """Yield (scene id, its scores) for every scene of a split; for every tile, if it is cut.

    Args:
        model: Segmenter, on the device of `normalise`.
        scenes: One split, decoded.
        normalise: Turns native pixels (C, H, W) into the model's input.
        classes: Names; the index is the mask value.
        window: How scenes are looked at.
        batch: Windows per forward pass; fewer where memory is too small.
    """
    found = map_each(model, scenes, normalise=normalise, window=window, batch=batch)
    for i, place, one in found:
        yield scenes.ids[i], Scores.of(scenes.mask(i)[place], one, classes=classes)


def score(
    model: nn.Module,
    scenes: Scenes,
    *,
    normalise: Normalize,
    classes: tuple[str, ...],
    window: Window,
    batch: int,
) -> Scores:
    """Score a split: the confusion matrices of all its scenes, added up (see `score_each`)."""
    total = Scores.zero(classes)
    for _, one in score_each(
        model, scenes, normalise=normalise, classes=classes, window=window, batch=batch
    ):
        total = total + one
    return total


def _maps(
    model: nn.Module, images: list[NDArray[Any]], normalise: Normalize, window: Window
) -> Callable[[int], NDArray[np.uint8]]:
    """Return a function of the batch that maps images of one size, (S, H, W)."""
    height, width = images[0].shape[1:]

    def whole(batch: int) -> NDArray[np.uint8]:
        images_SCHW = torch.stack([normalise(image) for image in images])
        logits = predict(model, images_SCHW, size=window.size, overlap=window.overlap, batch=batch)
        return _classes(logits, dim=1)

    def by_rows(batch: int) -> NDArray[np.uint8]:
        parts = strips(
            model,
            lambda top, bottom: normalise(images[0][:, top:bottom]),
            length_hw=(height, width),
            size=window.size,
            overlap=window.overlap,
            batch=batch,
        )
        return np.concatenate([_classes(part, dim=0) for _, part in parts])[None]

    return by_rows if len(images) == 1 and height * width > LARGE else whole


def _classes(logits: Tensor, *, dim: int) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = logits.argmax(dim=dim).to(torch.uint8).cpu().numpy()
    return found


def _chunks(scenes: Scenes, window: Window, *, batch: int) -> Iterator[list[Piece]]:
    """Neighbouring pieces of one size together, so that small ones fill a forward pass."""
    pieces = [(i, place) for i in range(len(scenes)) for place in _places(scenes.sizes[i], window)]
    for (rows, columns), run in groupby(pieces, key=lambda piece: _shape(*piece[1])):
        alike = list(run)
        step = batch if rows <= window.size and columns <= window.size else 1
        for start in range(0, len(alike), step):
            yield alike[start : start + step]


def _places(size_hw: tuple[int, int], window: Window) -> list[tuple[slice, slice]]:
    if window.tile is None:
        return [(slice(0, size_hw[0]), slice(0, size_hw[1]))]
    sides = [min(window.tile, side) for side in size_hw]
    corners = grid(size_hw, size=window.tile)
    return [(slice(t, t + sides[0]), slice(u, u + sides[1])) for t, u in corners]


def _shape(rows: slice, columns: slice) -> tuple[int, int]:
    return rows.stop - rows.start, columns.stop - columns.start


def _autocast(device: torch.device) -> torch.autocast:
    """Half precision where training may use it; float32 on CPU, where parity counts."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
