"""Define SpectralGPT: tokens are patches of three neighboring bands."""

# B batch, C channels, G groups of bands, N places, D values of a token, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...bands import Band
from .positions import Grid
from .vit import Vit, resample
from .vit_blocks import ViTBlocks, init_weights

TOGETHER = 3  # bands of one token


class SpectralGpt(ViTBlocks):
    """Compute levels of SpectralGPT, all at the stride of its patch: the groups' values side by side.

    Args:
        vit: Sizes of the transformer.
        num_bands: Bands of the input, a multiple of three.

    Source:
        Hong et al. 2023, arXiv:2311.07113.
    """

    def __init__(self, vit: Vit, num_bands: int) -> None:
        super().__init__(vit, stride=vit.patch)
        self.native: Grid = (vit.size // vit.patch,) * 2
        self.num_groups = num_bands // TOGETHER
        self.channels = (vit.dim * self.num_groups,) * len(self.levels)
        kernel = (TOGETHER, vit.patch, vit.patch)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(1, vit.dim, kernel, kernel)})
        self.spatial_embed = nn.Parameter(torch.zeros(1, self.native[0] * self.native[1], vit.dim))
        self.group_embed = nn.Parameter(torch.zeros(1, self.num_groups, vit.dim))
        init_weights(self)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels (B, G * D, H / patch, W / patch), shallow to deep."""
        x_BDGHW = self.patch_embed["proj"](x_BCHW[:, None])
        grid: Grid = (x_BDGHW.shape[3], x_BDGHW.shape[4])
        x_BGND = x_BDGHW.flatten(3).permute(0, 2, 3, 1)
        place_1ND = resample(self.spatial_embed, grid, native=self.native)
        x_BGND = x_BGND + (place_1ND + self.group_embed.transpose(0, 1))
        tokens = self.read(x_BGND.flatten(1, 2), (self.num_groups, grid[0] * grid[1]))
        return [groups_to_maps(x, grid) for x in tokens]


def groups_to_maps(x_BDGN: Tensor, grid: Grid) -> Tensor:
    """Return maps (B, G * D, H, W): all values of the first group, then those of the next."""
    return x_BDGN.transpose(1, 2).flatten(1, 2).reshape(len(x_BDGN), -1, *grid)


def build_spectralgpt(vit: Vit, bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build SpectralGPT, with some of its values changed."""
    return SpectralGpt(replace(vit, **changes), len(bands))
