"""Score a split with several models side by side: each window is read, cut and shown once."""

# S scenes of one size, N models, B batch, C bands, K classes, H W pixels

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import Diverged
from .device_score import count_on_device, scores_of
from .metrics import Scores
from .sliding_window import NO_CLASS, classes_of, convert_windows, refuse_nan

if TYPE_CHECKING:
    from ..data.cache import Scenes
    from ..data.tiles import Normalize
    from .pieces import Window
    from .sliding_window import FieldRules


class SideBySide(nn.Module):
    """Map a batch (B, C, H, W) to the logits of several models, (B, N * K, H, W)."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the logits of each model after those of the one before."""
        return torch.cat([model(x_BCHW) for model in self.models], dim=1)


def score_side_by_side(  # noqa: PLR0913 (as `score`)
    models: Sequence[nn.Module],
    scenes: Scenes,
    *,
    normalize: Normalize,
    classes: tuple[str, ...],
    window: Window,
    batch: int,
    field: FieldRules | None = None,
) -> list[Scores | Diverged]:
    """Return what `sliding_window.score` returns of each model; `Diverged` where it raises that.

    Args:
        models: Segmenters, on the device of `normalize`. Set to evaluation mode.
        scenes: Decoded scenes of one split.
        normalize: Turns native pixels (C, H, W) into the models' input.
        classes: Names of the classes; the index is the mask value.
        window: How scenes are cut.
        batch: Windows per forward pass; fewer where memory is too small.
        field: Fronts and areas to measure too; None: none.

    Raises:
        OutOfMemory: One window at a time does not fit.
    """
    joint = SideBySide(models)
    given: Any = {"normalize": normalize, "window": window, "batch": batch}
    if field is None and normalize.mean_C11.device.type != "cpu":
        counted = count_on_device(joint, len(models), scenes, classes=classes, **given)
        return [_attempt(partial(scores_of, c, scenes, classes=classes)) for c in counted]
    totals: list[Scores | Diverged] = [Scores.zero(classes) for _ in models]
    convert = partial(_classes_of_each, num_models=len(models))
    parts = convert_windows(joint, scenes, **given, convert=lambda _: convert)
    for pieces, rows in parts:
        maps_SNHW = np.concatenate(list(rows), axis=-2)
        for (i, place), maps_NHW in zip(pieces, maps_SNHW, strict=True):
            mask_HW = scenes.mask(i)[place]
            for n, map_HW in enumerate(maps_NHW):
                totals[n] = _add(totals[n], mask_HW, map_HW, classes, field, i)
    return totals


def _add(
    total: Scores | Diverged,
    mask_HW: NDArray[np.uint8],
    map_HW: NDArray[np.uint8],
    classes: tuple[str, ...],
    field: FieldRules | None,
    scene: int,
) -> Scores | Diverged:
    """Return the scores so far and those of one more map together; `Diverged` stays."""
    if isinstance(total, Diverged):
        return total

    def add() -> Scores:
        refuse_nan(bool((map_HW == NO_CLASS).any()))
        scores = Scores.of(mask_HW, map_HW, classes=classes)
        return total + (scores if field is None else field.measure(scores, scene, mask_HW, map_HW))

    return _attempt(add)


def _attempt(work: Callable[[], Scores]) -> Scores | Diverged:
    """Return what work returns, or the `Diverged` that it raises."""
    try:
        return work()
    except Diverged as error:
        return error


def _classes_of_each(logits_SKHW: Tensor, *, num_models: int) -> NDArray[np.uint8]:
    """Return the class of each pixel by each model, (S, N, H, W); `NO_CLASS` where it has none."""
    parts = logits_SKHW.chunk(num_models, dim=1)
    return np.stack([classes_of(part) for part in parts], axis=1)
