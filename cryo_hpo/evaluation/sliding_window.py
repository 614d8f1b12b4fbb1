"""Predict and score whole scenes with overlapping, blended windows."""

# S scenes of one size, N windows, C bands, K classes, H W pixels
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config.metric import TOLERANCE, Tolerance
from ..data.progress_log import ProgressLog
from ..errors import Diverged
from .fronts import FieldSums, Front
from .metrics import Scores
from .out_of_memory import reporting_out_of_memory
from .pieces import Piece, Place, Window, chunk_pieces, count_windows
from .window_predictor import WindowPredictor

if TYPE_CHECKING:
    from ..data.cache import Scenes
    from ..data.tiles import Normalize

T = TypeVar("T", bound=np.generic)
NO_CLASS = 255  # in a map on the device: the model's output is not a number there


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
    parts = convert_windows(
        model, scenes, normalize=normalize, window=window, batch=batch, convert=lambda _: _classes
    )
    for pieces, rows in parts:
        maps = np.concatenate(list(rows), axis=-2)
        for (i, place), classes_HW in zip(pieces, maps, strict=True):
            yield i, place, classes_HW


def convert_windows(
    model: nn.Module,
    scenes: Scenes,
    *,
    normalize: Normalize,
    window: Window,
    batch: int,
    convert: Callable[[list[Piece]], Callable[[Tensor], NDArray[T]]],
) -> Iterator[tuple[list[Piece], Iterator[NDArray[T]]]]:
    """Yield pieces of one size with their rows, for all scenes; rows are computed when asked for.

    Args:
        model: Segmenter, on the device of `normalize`. Set to evaluation mode.
        scenes: Decoded scenes.
        normalize: Turns native pixels (C, H, W) into the model's input.
        window: How scenes are cut.
        batch: Windows per forward pass; fewer where memory is too small.
        convert: Pieces -> function from their logits to what is kept; see `predict_pieces`.
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
            yield (
                pieces,
                predict_pieces(
                    predictor,
                    scenes,
                    pieces,
                    normalize=normalize,
                    bf16=window.bf16,
                    convert=convert(pieces),
                ),
            )


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
    classes_SHW = classes_of(logits_SKHW)
    refuse_nan(bool((classes_SHW == NO_CLASS).any()))
    return classes_SHW


def classes_of(logits_SKHW: Tensor) -> NDArray[np.uint8]:
    """Return the class of each pixel, (S, H, W); `NO_CLASS` where a logit is not a number."""
    lost_SHW = logits_SKHW.isnan().any(dim=1)  # argmax would take them for a class
    mixed_SHW = logits_SKHW.argmax(dim=1).to(torch.uint8).masked_fill(lost_SHW, NO_CLASS)
    classes_SHW: NDArray[np.uint8] = mixed_SHW.cpu().numpy()
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
