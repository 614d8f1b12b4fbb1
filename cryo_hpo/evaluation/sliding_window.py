"""Predict and score whole scenes with overlapping, blended windows."""

# S scenes of one size, N windows, C bands, K classes, H W pixels
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.metric import TOLERANCE, Tolerance
from ..data.progress_log import ProgressLog
from ..errors import Diverged
from .fronts import FieldSums, Front
from .metrics import Scores
from .out_of_memory import reporting_out_of_memory, with_halving_batch
from .tiling import blend, grid, windows

if TYPE_CHECKING:
    from ..data.cache import Scenes
    from ..data.tiles import Normalize

Place = tuple[slice, slice]  # rows and columns of a scene
Piece = tuple[int, Place]  # number of a scene, and a place in it
T = TypeVar("T", bound=np.generic)
NO_CLASS = 255  # in a map on the device: the model's output is not a number there


class Window(NamedTuple):
    """Describe how scenes are cut."""

    size: int
    """Side of a window, pixels."""
    overlap: int
    """Pixels shared by neighboring windows, 0 <= overlap < size."""
    tile: int | None = None
    """Side of the tiles that larger scenes are cut into, pixels; each is a separate image."""
    bf16: bool = False
    """Whether the model runs in bf16; blending is always in float32."""


class FieldRules(NamedTuple):
    """Describe what is measured besides the confusion matrix: fronts and areas."""

    fronts: tuple[Front, ...]
    gsd_m: tuple[float | None, ...]
    """Side of a pixel of each scene, meters; None: unknown."""
    tolerance: Tolerance = Tolerance.named(TOLERANCE)
    """Distance within which a pixel of a front counts as found."""

    def measure(
        self, scores: Scores, scene: int, mask_HW: NDArray[np.uint8], map_HW: NDArray[np.uint8]
    ) -> Scores:
        """Return the scores of a map of a scene, or of a part of it, with its fronts and areas."""
        sums = FieldSums.of(
            mask_HW,
            map_HW,
            fronts=self.fronts,
            num_classes=len(scores.classes),
            gsd_m=self.gsd_m[scene],
            tolerance_px=self.tolerance.pixels(self.gsd_m[scene]),
        )
        return replace(scores, sums=sums)


class WindowPredictor:
    """Predict images of any size window by window, with memory that depends on their width only.

    Windows are blended with a cosine taper, so that a pixel's logits are the weighted mean over
    every window that covers it. Images smaller than a window are padded with zeros, the band means
    after normalization, and the padding is cut off again.

    Attributes:
        batch: Windows per forward pass. Changes memory, never the result; halved when memory is
            too small.
        advance: Called with the number of windows of each finished forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int,
        overlap: int,
        batch: int,
        advance: Callable[[int], object] = lambda _windows: None,
    ) -> None:
        """Predict with a model.

        Args:
            model: Segmenter, (B, C, size, size) -> (B, K, size, size), in evaluation mode.
            size: Side of a window, pixels.
            overlap: Pixels shared by neighboring windows, 0 <= overlap < size.
            batch: Windows per forward pass, at first.
            advance: Called with the number of windows of each finished forward pass.
        """
        self._model, self._size, self._overlap = model, size, overlap
        self._weights_HW: Tensor | None = None
        self.batch, self.advance = batch, advance

    def predict_rows(
        self, read: Callable[[int, int], Tensor], *, length_hw: tuple[int, int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (first row, logits (S, K, rows, W)) of images of one size, from top to bottom.

        As many rows of windows as fill a forward pass are in memory at a time; rows are yielded
        once no further window covers them.

        Args:
            read: (top, bottom) -> those rows of the images, normalized, (S, C, bottom - top, W).
            length_hw: Height and width of the images, pixels.

        Raises:
            OutOfMemory: One window at a time does not fit.
        """
        size, (height, width) = self._size, length_hw
        full = (max(height, size), max(width, size))
        places = windows(full, size=size, overlap=self._overlap)
        tops, lefts = sorted({top for top, _ in places}), sorted({left for _, left in places})
        at_once = math.ceil(self.batch / len(lefts))
        total_SKHW, norm_HW, done = torch.empty(0), torch.empty(0), 0
        for number in range(0, len(tops), at_once):
            group = tops[number : number + at_once]
            top, bottom = group[0], group[-1] + size
            part_SCHW = read(top, min(bottom, height))
            missing = (0, full[1] - width, 0, bottom - top - part_SCHW.shape[2])
            part_SCHW = F.pad(part_SCHW, missing)
            corners = [(row - top, left) for row in group for left in lefts]
            if not number:
                norm_HW = part_SCHW.new_zeros(part_SCHW.shape[-2:])
            norm_HW = _shift(norm_HW, done, bottom - top)
            total_SKHW = _shift(total_SKHW, done, bottom - top) if number else total_SKHW
            total_SKHW = self._add(part_SCHW, corners, total_SKHW, norm_HW)
            below = tops[number + at_once] if number + at_once < len(tops) else height
            done = below - top
            yield top, (total_SKHW[:, :, :done] / norm_HW[:done])[..., :width]

    def _add(
        self,
        part_SCHW: Tensor,
        corners: list[tuple[int, int]],
        total_SKHW: Tensor,
        norm_HW: Tensor,
    ) -> Tensor:
        """Add the weighted logits of all windows, and their weights; return the sum of logits."""
        size = self._size
        weights_HW = self._weights(part_SCHW.device)
        for top, left in corners:
            norm_HW[top : top + size, left : left + size] += weights_HW
        places = [(scene, *corner) for scene in range(len(part_SCHW)) for corner in corners]
        while places:
            chunk, places = places[: self.batch], places[self.batch :]
            crops = [part_SCHW[s, :, t : t + size, u : u + size] for s, t, u in chunk]
            logits_NKHW = self._forward(torch.stack(crops))
            if not total_SKHW.numel():
                shape = (len(part_SCHW), logits_NKHW.shape[1], *norm_HW.shape)
                total_SKHW = logits_NKHW.new_zeros(shape)
            for (s, t, u), logits_KHW in zip(chunk, logits_NKHW, strict=True):
                total_SKHW[s, :, t : t + size, u : u + size] += logits_KHW * weights_HW
            self.advance(len(chunk))
        return total_SKHW

    def _weights(self, device: torch.device) -> Tensor:
        """Return the weights of a window's pixels, (size, size); copied to the device once."""
        if self._weights_HW is None:
            weights = torch.from_numpy(blend(self._size, overlap=self._overlap))
            self._weights_HW = weights.to(device)
        return self._weights_HW

    def _forward(self, crops_NCHW: Tensor) -> Tensor:
        """Return the logits of windows, float32, in as many passes as memory needs."""

        def attempt(batch: int) -> Tensor:
            parts = crops_NCHW.split(batch)  # type: ignore[no-untyped-call]
            return torch.cat([self._model(part).float() for part in parts])

        number = len(crops_NCHW)
        logits_NKHW, fits = with_halving_batch(attempt, number, what="window")
        self.batch = fits if fits < number else self.batch
        return logits_NKHW


def predict_pieces(
    predictor: WindowPredictor,
    scenes: Scenes,
    pieces: Sequence[Piece],
    *,
    normalize: Normalize,
    bf16: bool,
    convert: Callable[[Tensor], NDArray[T]],
) -> Iterator[NDArray[T]]:
    """Yield rows of pieces of scenes, all of one size, from top to bottom, (S, ..., rows, W).

    Args:
        predictor: Predicts with one model, on the device of `normalize`.
        scenes: Decoded scenes.
        pieces: Places in them.
        normalize: Turns native pixels (C, H, W) into the model's input.
        bf16: Whether the model runs in bf16.
        convert: Logits (S, K, rows, W) -> what is kept of them, (S, ..., rows, W).

    Raises:
        OutOfMemory: One window at a time does not fit.
    """
    images = [scenes.image(i)[:, *place] for i, place in pieces]

    def read(top: int, bottom: int) -> Tensor:
        return torch.stack([normalize(image[:, top:bottom]) for image in images])

    length_hw = (images[0].shape[1], images[0].shape[2])
    parts = predictor.predict_rows(read, length_hw=length_hw)
    while True:
        # Modes of torch are never held over a yield: members that take turns would leave the mode
        # of one another on.
        with (
            torch.inference_mode(),
            torch.autocast(normalize.mean_C11.device.type, dtype=torch.bfloat16, enabled=bf16),
            reporting_out_of_memory("blending the windows of a scene"),
        ):
            part = next(parts, None)
            rows = None if part is None else convert(part[1])
        if rows is None:
            return
        yield rows


def map_each(
    model: nn.Module,
    scenes: Scenes,
    *,
    normalize: Normalize,
    window: Window,
    batch: int,
) -> Iterator[tuple[int, Place, NDArray[np.uint8]]]:
    """Yield (scene, place in it, map of that place) for every scene, or every tile if cut.

    Args:
        model: Segmenter, on the device of `normalize`. Set to evaluation mode.
        scenes: Decoded scenes.
        normalize: Turns native pixels (C, H, W) into the model's input.
        window: How scenes are cut.
        batch: Windows per forward pass; fewer where memory is too small.

    Raises:
        OutOfMemory: One window at a time does not fit.
    """
    model.eval()
    with ProgressLog("window", count_windows(scenes, window), counted=True) as progress:
        predictor = WindowPredictor(
            model,
            size=window.size,
            overlap=window.overlap,
            batch=batch,
            advance=progress.advance,
        )
        for pieces in chunk_pieces(scenes, window, batch=batch):
            rows = predict_pieces(
                predictor, scenes, pieces, normalize=normalize, bf16=window.bf16, convert=_classes
            )
            maps = np.concatenate(list(rows), axis=-2)
            for (i, place), classes_HW in zip(pieces, maps, strict=True):
                yield i, place, classes_HW


def score_each(  # noqa: PLR0913 (all but two by name)
    model: nn.Module,
    scenes: Scenes,
    *,
    normalize: Normalize,
    classes: tuple[str, ...],
    window: Window,
    batch: int,
    field: FieldRules | None = None,
) -> Iterator[tuple[str, Scores]]:
    """Yield (scene id, scores) for every scene of a split, or every tile if scenes are cut.

    Args:
        model: Segmenter, on the device of `normalize`. Set to evaluation mode.
        scenes: Decoded scenes of one split.
        normalize: Turns native pixels (C, H, W) into the model's input.
        classes: Names of the classes; the index is the mask value.
        window: How scenes are cut.
        batch: Windows per forward pass; fewer where memory is too small.
        field: Fronts and areas to measure too; a tile is then a scene of its own. None: none.

    Raises:
        OutOfMemory: One window at a time does not fit.
    """
    maps = map_each(model, scenes, normalize=normalize, window=window, batch=batch)
    for i, place, classes_HW in maps:
        mask_HW = scenes.mask(i)[place]
        scores = Scores.of(mask_HW, classes_HW, classes=classes)
        if field is not None:
            scores = field.measure(scores, i, mask_HW, classes_HW)
        yield scenes.ids[i], scores


def score(  # noqa: PLR0913 (all but two by name)
    model: nn.Module,
    scenes: Scenes,
    *,
    normalize: Normalize,
    classes: tuple[str, ...],
    window: Window,
    batch: int,
    field: FieldRules | None = None,
) -> Scores:
    """Score a split: the confusion matrices of all its scenes, added up (see `score_each`)."""
    each = score_each(
        model,
        scenes,
        normalize=normalize,
        classes=classes,
        window=window,
        batch=batch,
        field=field,
    )
    return sum((scores for _, scores in each), start=Scores.zero(classes))


def _classes(logits_SKHW: Tensor) -> NDArray[np.uint8]:
    """Return the class of each pixel; what is not a number is found on the host, with the copy."""
    lost_SHW = logits_SKHW.isnan().any(dim=1)  # argmax would take them for a class
    mixed_SHW = logits_SKHW.argmax(dim=1).to(torch.uint8).masked_fill(lost_SHW, NO_CLASS)
    classes_SHW: NDArray[np.uint8] = mixed_SHW.cpu().numpy()
    refuse_nan(bool((classes_SHW == NO_CLASS).any()))
    return classes_SHW


def refuse_nan(is_nan: bool) -> None:  # noqa: FBT001 (the fact itself)
    """Refuse a map of which a pixel has no class, because the model's output is not a number.

    Raises:
        Diverged: A pixel has no class.
    """
    if is_nan:
        message = (
            "The model's output is not a number for some pixels, so no class can be chosen: its "
            "weights or the image's values are not finite."
        )
        raise Diverged(message)


def _shift(rows: Tensor, done: int, height: int) -> Tensor:
    """Drop the finished rows at the top, and add rows of zeros at the bottom, up to a height."""
    left = rows[..., done:, :]
    return F.pad(left, (0, 0, 0, height - left.shape[-2]))


def chunk_pieces(scenes: Scenes, window: Window, *, batch: int) -> Iterator[list[Piece]]:
    """Yield neighboring pieces of one size, as many as fill a forward pass together."""
    for shape, run in _runs(scenes, window):
        number = number_of_windows(shape, size=window.size, overlap=window.overlap)
        step = max(1, batch // number)
        for start in range(0, len(run), step):
            yield run[start : start + step]


def count_windows(scenes: Scenes, window: Window) -> int:
    """Return the number of windows that cover all scenes."""
    return sum(
        len(run) * number_of_windows(shape, size=window.size, overlap=window.overlap)
        for shape, run in _runs(scenes, window)
    )


def _runs(scenes: Scenes, window: Window) -> Iterator[tuple[tuple[int, int], list[Piece]]]:
    """Yield neighboring pieces of one size, and that size."""
    pieces = [(i, place) for i in range(len(scenes)) for place in _places(scenes.sizes[i], window)]
    for shape, run in groupby(pieces, key=lambda piece: _shape(*piece[1])):
        yield shape, list(run)


def number_of_windows(length_hw: tuple[int, int], *, size: int, overlap: int) -> int:
    """Return the number of windows that cover an image of some height and width."""
    full = (max(length_hw[0], size), max(length_hw[1], size))
    return len(windows(full, size=size, overlap=overlap))


def _places(size_hw: tuple[int, int], window: Window) -> list[Place]:
    if window.tile is None:
        return [(slice(0, size_hw[0]), slice(0, size_hw[1]))]
    sides = [min(window.tile, side) for side in size_hw]
    corners = grid(size_hw, size=window.tile)
    return [(slice(t, t + sides[0]), slice(u, u + sides[1])) for t, u in corners]


def _shape(rows: slice, columns: slice) -> tuple[int, int]:
    return rows.stop - rows.start, columns.stop - columns.start
