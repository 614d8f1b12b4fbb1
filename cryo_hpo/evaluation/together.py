"""Score scenes with several models together: the class with the largest mean probability.

The members take turns on one network, so that its memory is that of one model. Between the turns the
probabilities of some scenes are held, at most `MOST_BYTES` unless one scene takes more.
"""

# S scenes of one size, C bands, K classes, H W pixels

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from .metrics import Scores
from .sliding_window import Piece, Window, WindowPredictor, chunk_pieces, predict_pieces, refuse_nan

if TYPE_CHECKING:
    from ..data.cache import Scenes
    from ..data.tiles import Normalize
    from .sliding_window import FieldRules

MOST_BYTES = 2**28  # of probabilities that are held while the members take turns

Load = Callable[[int], nn.Module]  # number of a member -> the network with its weights


def score_together(  # noqa: PLR0913 (as `score_each`, and the members)
    load: Load,
    num_members: int,
    scenes: Scenes,
    *,
    normalize: Normalize,
    classes: tuple[str, ...],
    window: Window,
    batch: int,
    field: FieldRules | None = None,
) -> Iterator[tuple[str, Scores]]:
    """Yield (scene id, scores) of the mean probabilities, for every scene or tile.

    Args:
        load: Returns the network with the weights of a member, on the device of `normalize`.
        num_members: Number of members.
        scenes: Decoded scenes of one split.
        normalize: Turns native pixels (C, H, W) into the models' input.
        classes: Names of the classes; the index is the mask value.
        window: How scenes are cut.
        batch: Windows per forward pass; fewer where memory is too small.
        field: Fronts and areas to measure too; None: none.

    Raises:
        OutOfMemory: One window at a time does not fit.
        Diverged: A member's output is not a number.
    """
    for chunks in _groups(scenes, window, batch=batch, num_classes=len(classes)):
        totals: list[NDArray[np.float32]] = []
        for member in range(num_members):
            model = load(member).eval()
            for i, pieces in enumerate(chunks):
                probs_SKHW = _probabilities(model, scenes, pieces, normalize, window, batch)
                if member:
                    totals[i] += probs_SKHW
                else:
                    totals.append(probs_SKHW)
        for pieces, total_SKHW in zip(chunks, totals, strict=True):
            for (scene, place), total_KHW in zip(pieces, total_SKHW, strict=True):
                map_HW = total_KHW.argmax(axis=0).astype(np.uint8)
                mask_HW = scenes.mask(scene)[place]
                scores = Scores.of(mask_HW, map_HW, classes=classes)
                if field is not None:
                    scores = field.measure(scores, scene, mask_HW, map_HW)
                yield scenes.ids[scene], scores


def _probabilities(
    model: nn.Module,
    scenes: Scenes,
    pieces: Sequence[Piece],
    normalize: Normalize,
    window: Window,
    batch: int,
) -> NDArray[np.float32]:
    """Return one member's probabilities of scenes of one size, (S, K, H, W)."""
    predictor = WindowPredictor(model, size=window.size, overlap=window.overlap, batch=batch)
    probs_SKHW = predict_pieces(
        predictor, scenes, pieces, normalize=normalize, bf16=window.bf16, convert=_softmax
    )
    refuse_nan(bool(np.isnan(probs_SKHW).any()))
    return probs_SKHW


def _softmax(logits_SKHW: Tensor) -> NDArray[np.float32]:
    probs_SKHW: NDArray[np.float32] = logits_SKHW.float().softmax(dim=1).cpu().numpy()
    return probs_SKHW


def _groups(
    scenes: Scenes, window: Window, *, batch: int, num_classes: int
) -> Iterator[list[list[Piece]]]:
    """Yield as many neighboring chunks as may be held together; see `chunk_pieces`."""
    group: list[list[Piece]] = []
    held = 0
    for chunk in chunk_pieces(scenes, window, batch=batch):
        (rows, columns) = chunk[0][1]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        size = len(chunk) * area * num_classes * np.dtype(np.float32).itemsize
        if group and held + size > MOST_BYTES:
            yield group
            group, held = [], 0
        group.append(chunk)
        held += size
    if group:
        yield group
