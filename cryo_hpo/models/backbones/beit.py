"""Define the BEiT of SSL4EO-S12's data2vec, whose blocks share one attention bias for places."""

# B batch, C channels, N tokens, D values of a token, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from timm.models.beit import Block, RelativePositionBias, gen_relative_position_index
from torch import Tensor, nn

from ...bands import Band
from .positions import Grid
from .vit import Vit
from .vit_blocks import ViTBlocks, init_weights

OF_CLASS = 3  # last rows of the table: class to place, place to class, class to itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Beit(Vit):
    """Hold the sizes of a vision transformer with BEiT's blocks."""

    def block(self, drop_path: float) -> nn.Module:
        """Return one block with random weights."""
        norm: Any = partial(nn.LayerNorm, eps=self.eps)
        made: Any = Block(
            self.dim,
            self.heads,
            qkv_bias=True,
            init_values=0.1,
            drop_path=drop_path,
            norm_layer=norm,
        )
        made.attn.qkv_bias_separate = True  # otherwise adapters of the layer are bypassed
        block: nn.Module = made
        return block


class Data2Vec(ViTBlocks):
    """Compute levels of the BEiT, all at the stride of its patch.

    Args:
        beit: Sizes of the transformer.
        num_bands: Bands of the input.

    Source:
        Bao et al. 2021, arXiv:2106.08254; pretrained as in Wang et al. 2022, arXiv:2211.07044.
    """

    def __init__(self, beit: Beit, num_bands: int) -> None:
        super().__init__(beit, stride=beit.patch)
        self.native: Grid = (beit.size // beit.patch,) * 2
        self.patch_embed = PatchEmbed(None, beit.patch, num_bands, beit.dim, flatten=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, beit.dim))
        self.rel_pos_bias = RelativePositionBias(self.native, beit.heads)
        init_weights(self)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, shallow to deep."""
        x_BDHW = self.patch_embed(x_BCHW)
        grid: Grid = (x_BDHW.shape[2], x_BDHW.shape[3])
        x_BND = x_BDHW.flatten(2).transpose(1, 2)
        x_BND = torch.cat([self.cls_token.expand(len(x_BND), -1, -1), x_BND], dim=1)
        return self.read(x_BND, grid, shared_rel_pos_bias=self._bias(grid))

    def _bias(self, grid: Grid) -> Tensor:
        """Return the attention bias (heads, N, N); interpolates the table for another grid."""
        if grid == self.native:
            native: Tensor = self.rel_pos_bias()
            return native
        table = resample_distances(
            self.rel_pos_bias.relative_position_bias_table, grid, native=self.native
        )
        index_NN = gen_relative_position_index(grid, device=table.device)
        return table[index_NN].permute(2, 0, 1)


def resample_distances(table: Tensor, grid: Grid, *, native: Grid) -> Tensor:
    """Resample a table of biases by distance (rows, heads) to another grid, bicubic.

    Args:
        table: A row for each distance between places of `native`, then `OF_CLASS`.
        grid: Rows and columns wanted.
        native: Rows and columns of the table.
    """
    sides = [2 * side - 1 for side in native]
    places = table[:-OF_CLASS].T.reshape(1, -1, *sides)
    wanted = [2 * side - 1 for side in grid]
    resized = F.interpolate(places.float(), size=wanted, mode="bicubic", align_corners=False)
    return torch.cat([resized.flatten(2)[0].T, table[-OF_CLASS:]])


def build_data2vec(beit: Beit, bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build the BEiT, with some of its values changed."""
    return Data2Vec(replace(beit, **changes), len(bands))
