"""Join a network with its normalization, so that it takes pixels in the units of the files."""

# B batch, C channels, H W pixels, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from ..data.tiles import Normalize


class NativeModel(nn.Module):
    """Take pixels as they are in the files, and normalize them."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, segmenter: nn.Module, normalize: Normalize) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.register_buffer("mean_C11", normalize.mean_C11)
        self.register_buffer("std_C11", normalize.std_C11)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W)."""
        logits: Tensor = self.segmenter((x_BCHW - self.mean_C11) / self.std_C11)
        return logits
