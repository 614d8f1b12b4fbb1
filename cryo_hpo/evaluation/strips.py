"""Maps of scenes of any size: windows row by row, so that memory hangs on the width alone."""

# C bands, K classes, H W pixels, S side of a window

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .tiling import blend, windows


def strips(
    model: nn.Module,
    rows: Callable[[int, int], Tensor],
    *,
    length_hw: tuple[int, int],
    size: int,
    overlap: int,
    batch: int,
) -> Iterator[tuple[int, Tensor]]:
    """Segment a scene from top to bottom; put together, what `evaluate.predict` gives of it.

    One row of windows is in memory at a time. Rows of the map are yielded once no further window
    sees them.

    Args:
        model: Segmenter, (B, C, S, S) -> (B, K, S, S). Put in eval mode by the caller.
        rows: (top, bottom) -> those rows of the scene, normalised, (C, bottom - top, W), float32.
        length_hw: Height and width of the scene, pixels.
        size: Side of a window, pixels.
        overlap: Pixels shared by neighbouring windows, 0 <= overlap < size.
        batch: Windows per forward pass. Changes memory, never the result.

    Yields:
        The first row, and the logits (K, rows, W) from there on.
    """
    height, width = length_hw
    places = windows((max(height, size), max(width, size)), size=size, overlap=overlap)
    tops, lefts = sorted({top for top, _ in places}), sorted({left for _, left in places})
    total_KSW, norm_SW = torch.empty(0), torch.empty(0)
    for top, below in zip(tops, [*tops[1:], max(height, size)], strict=True):
        part_CHW = rows(top, min(top + size, height))
        right, down = max(size - width, 0), size - part_CHW.shape[1]
        part_CHW = F.pad(part_CHW, (0, right, 0, down))
        weights_SS = torch.from_numpy(blend(size, overlap=overlap)).to(part_CHW.device)
        for start in range(0, len(lefts), batch):
            chunk = lefts[start : start + batch]
            logits_BKSS = model(torch.stack([part_CHW[:, :, u : u + size] for u in chunk])).float()
            if not total_KSW.numel():
                total_KSW = logits_BKSS.new_zeros((logits_BKSS.shape[1], *part_CHW.shape[1:]))
                norm_SW = part_CHW.new_zeros(part_CHW.shape[1:])
            for left, one_KSS in zip(chunk, logits_BKSS, strict=True):
                total_KSW[:, :, left : left + size] += one_KSS * weights_SS
                norm_SW[:, left : left + size] += weights_SS
        done = below - top
        yield top, (total_KSW / norm_SW)[:, : min(done, height - top), :width]
        total_KSW, norm_SW = _moved(total_KSW, done), _moved(norm_SW, done)


def _moved(rows_SW: Tensor, done: int) -> Tensor:
    """Drop the finished rows at the top, and begin as many at the bottom."""
    return F.pad(rows_SW[..., done:, :], (0, 0, 0, done))
