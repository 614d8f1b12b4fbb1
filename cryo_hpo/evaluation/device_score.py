"""Score a split where its logits are: what comes to the host is one confusion matrix."""

# S scenes of one size, K classes, H W pixels

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.tiles import copy_pixels
from .device_confusion import Counted, DeviceConfusion
from .metrics import Scores
from .out_of_memory import reporting_out_of_memory
from .pieces import Piece, Window
from .sliding_window import convert_windows, refuse_nan

if TYPE_CHECKING:
    from ..data.cache import Scenes
    from ..data.tiles import Normalize


def score_on_device(
    model: nn.Module,
    scenes: Scenes,
    *,
    normalize: Normalize,
    classes: tuple[str, ...],
    window: Window,
    batch: int,
) -> Scores:
    """Return the scores that `sliding_window.score` returns; the host waits for the device once.

    Raises:
        DataError: A mask holds a value that is no class.
        Diverged: The model's output is not a number.
        OutOfMemory: One window at a time does not fit.
    """
    given: Any = {"normalize": normalize, "classes": classes, "window": window, "batch": batch}
    (counted,) = count_on_device(model, 1, scenes, **given)
    return scores_of(counted, scenes, classes=classes)


def count_on_device(  # noqa: PLR0913 (as `score_on_device`)
    model: nn.Module,
    num_models: int,
    scenes: Scenes,
    *,
    normalize: Normalize,
    classes: tuple[str, ...],
    window: Window,
    batch: int,
) -> list[Counted]:
    """Count the confusion matrix of each model; the host waits for the device once for each.

    Args:
        model: Maps a batch to the logits of all models, those of one after those of another.
        num_models: Number of models.
        scenes: Decoded scenes of one split.
        normalize: Turns native pixels (C, H, W) into the model's input.
        classes: Names of the classes; the index is the mask value.
        window: How scenes are cut.
        batch: Windows per forward pass; fewer where memory is too small.

    Raises:
        OutOfMemory: One window at a time does not fit.
    """
    device = normalize.mean_C11.device
    counters = [DeviceConfusion(len(classes), device) for _ in range(num_models)]
    parts = convert_windows(
        model,
        scenes,
        normalize=normalize,
        window=window,
        batch=batch,
        convert=lambda pieces: _RowCounter(counters, scenes, pieces, device),
    )
    for _, rows in parts:
        deque(rows, maxlen=0)  # they are counted as they come
    return [counter.read() for counter in counters]


def scores_of(counted: Counted, scenes: Scenes, *, classes: tuple[str, ...]) -> Scores:
    """Return the scores of what was counted over a whole split.

    Raises:
        DataError: A mask holds a value that is no class.
        Diverged: The model's output is not a number.
    """
    refuse_nan(counted.lost > 0)
    if counted.strangers:
        for i in range(len(scenes)):  # raises at the scene that holds them
            Scores.of(scenes.mask(i), np.zeros_like(scenes.mask(i)), classes=classes)
    return Scores(classes, counted.confusion_TP)


class _RowCounter:
    """Count the rows of pieces from top to bottom, as `predict_pieces` converts them."""

    def __init__(
        self,
        counters: Sequence[DeviceConfusion],
        scenes: Scenes,
        pieces: Sequence[Piece],
        device: torch.device,
    ) -> None:
        with reporting_out_of_memory("moving masks to the device"):
            masks = [copy_pixels(scenes.mask(i)[place], device) for i, place in pieces]
            self._masks_SHW = torch.stack([mask.to(device, non_blocking=True) for mask in masks])
        self._counters, self._top = counters, 0

    def __call__(self, logits_SKHW: Tensor) -> NDArray[np.uint8]:
        """Count the next rows; return a map without columns."""
        rows = logits_SKHW.shape[2]
        truth_SHW = self._masks_SHW[:, self._top : self._top + rows]
        parts = logits_SKHW.chunk(len(self._counters), dim=1)
        for counter, part_SKHW in zip(self._counters, parts, strict=True):
            counter.add(part_SKHW, truth_SHW)
        self._top += rows
        return np.empty((len(logits_SKHW), rows, 0), dtype=np.uint8)
