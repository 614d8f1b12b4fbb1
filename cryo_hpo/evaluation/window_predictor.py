"""Predict images of any size with overlapping, blended windows."""

# S images of one size, N windows, C bands, K classes, H W pixels
from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .out_of_memory import REMEDY, with_halving_batch
from .tiling import blend, windows


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
        remedy: str = REMEDY,
    ) -> None:
        """Predict with a model.

        Args:
            model: Segmenter, (B, C, size, size) -> (B, K, size, size), in evaluation mode.
            size: Side of a window, pixels.
            overlap: Pixels shared by neighboring windows, 0 <= overlap < size.
            batch: Windows per forward pass, at first.
            advance: Called with the number of windows of each finished forward pass.
            remedy: What helps where one window does not fit, for the message.
        """
        self._model, self._size, self._overlap = model, size, overlap
        self._weights_HW: Tensor | None = None
        self.batch, self.advance, self._remedy = batch, advance, remedy

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
        logits_NKHW, fits = with_halving_batch(attempt, number, what="window", remedy=self._remedy)
        self.batch = fits if fits < number else self.batch
        return logits_NKHW


def _shift(rows: Tensor, done: int, height: int) -> Tensor:
    """Drop the finished rows at the top, and add rows of zeros at the bottom, up to a height."""
    left = rows[..., done:, :]
    return F.pad(left, (0, 0, 0, height - left.shape[-2]))
