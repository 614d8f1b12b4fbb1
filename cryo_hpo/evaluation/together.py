"""Score scenes with several models together: the class with the largest mean probability.

The members take turns on one network, so that its memory is that of one model. Between the turns the
probabilities of some scenes are held, at most `MOST_BYTES`; of a scene that takes more, those of a strip.
"""

# S scenes of one size, C bands, K classes, H W pixels

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.progress_log import ProgressLog
from .metrics import Scores
from .pieces import Piece, Window, chunk_pieces, count_windows
from .sliding_window import predict_pieces, refuse_nan
from .window_predictor import WindowPredictor

if TYPE_CHECKING:
    from ..data.cache import Scenes
    from ..data.tiles import Normalize
    from .sliding_window import FieldRules

MOST_BYTES = 2**28  # of probabilities that are held while the members take turns
FLOAT_BYTES = np.dtype(np.float32).itemsize

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
    total = num_members * count_windows(scenes, window)
    with ProgressLog("window", total, counted=True) as progress:
        taken = _Turns(load, num_members, scenes, normalize, window, batch, progress.advance)
        for pieces, maps in taken.maps(len(classes)):
            for (scene, place), map_HW in zip(pieces, maps, strict=True):
                mask_HW = scenes.mask(scene)[place]
                scores = Scores.of(mask_HW, map_HW, classes=classes)
                if field is not None:
                    scores = field.measure(scores, scene, mask_HW, map_HW)
                yield scenes.ids[scene], scores


class _Turns(NamedTuple):
    """Map scenes with members that take turns; see `score_together`."""

    load: Load
    num_members: int
    scenes: Scenes
    normalize: Normalize
    window: Window
    batch: int
    advance: Callable[[int], object]

    def maps(self, num_classes: int) -> Iterator[tuple[Sequence[Piece], NDArray[np.uint8]]]:
        """Yield pieces of one size and their maps, (S, H, W)."""
        for chunks in _groups(self.scenes, self.window, batch=self.batch, num_classes=num_classes):
            if len(chunks) == 1:
                yield chunks[0], self._map_in_strips(chunks[0], num_classes)
                continue
            totals: list[NDArray[np.float32]] = []
            for member in range(self.num_members):
                model = self.load(member).eval()
                for i, pieces in enumerate(chunks):
                    probs_SKHW = np.concatenate(list(self._rows(model, pieces)), axis=-2)
                    if member:
                        totals[i] += probs_SKHW
                    else:
                        totals.append(probs_SKHW)
            for pieces, total_SKHW in zip(chunks, totals, strict=True):
                yield pieces, total_SKHW.argmax(axis=1).astype(np.uint8)

    def _map_in_strips(self, pieces: Sequence[Piece], num_classes: int) -> NDArray[np.uint8]:
        """Map pieces in strips of `MOST_BYTES`, each of all members, (S, H, W)."""
        height, row_bytes = (
            pieces[0][1][0].stop - pieces[0][1][0].start,
            _area(pieces[0], height=1) * len(pieces) * num_classes * FLOAT_BYTES,
        )
        members: list[Iterator[NDArray[np.float32]]] = []
        strips: list[NDArray[np.uint8]] = []
        while sum(strip.shape[-2] for strip in strips) < height:
            totals: list[NDArray[np.float32]] = []
            for member in range(self.num_members):
                model = self.load(member).eval()
                if len(members) == member:
                    members.append(self._rows(model, pieces))
                if not member:
                    totals = list(_take(members[0], rows=MOST_BYTES // row_bytes))
                    continue
                for total_SKHW, probs_SKHW in zip(totals, members[member], strict=False):
                    total_SKHW += probs_SKHW
            strips += [total_SKHW.argmax(axis=1).astype(np.uint8) for total_SKHW in totals]
        return np.concatenate(strips, axis=-2)

    def _rows(self, model: nn.Module, pieces: Sequence[Piece]) -> Iterator[NDArray[np.float32]]:
        """Yield one member's probabilities of rows of pieces of one size, (S, K, rows, W)."""
        predictor = WindowPredictor(
            model,
            size=self.window.size,
            overlap=self.window.overlap,
            batch=self.batch,
            advance=self.advance,
        )
        for probs_SKHW in predict_pieces(
            predictor,
            self.scenes,
            pieces,
            normalize=self.normalize,
            bf16=self.window.bf16,
            convert=_softmax,
        ):
            refuse_nan(bool(np.isnan(probs_SKHW).any()))
            yield probs_SKHW


def _take(parts: Iterator[NDArray[np.float32]], *, rows: int) -> Iterator[NDArray[np.float32]]:
    """Yield parts until they have so many rows together."""
    taken = 0
    while taken < max(rows, 1) and (part := next(parts, None)) is not None:
        taken += part.shape[-2]
        yield part


def _area(piece: Piece, *, height: int | None = None) -> int:
    """Return the pixels of a piece, or of so many of its rows."""
    rows, columns = piece[1]
    number = rows.stop - rows.start if height is None else height
    return int(number * (columns.stop - columns.start))


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
        size = len(chunk) * _area(chunk[0]) * num_classes * FLOAT_BYTES
        if group and held + size > MOST_BYTES:
            yield group
            group, held = [], 0
        group.append(chunk)
        held += size
    if group:
        yield group
