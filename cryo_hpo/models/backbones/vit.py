"""Define vision transformers: ViT, SSL4EO-S12, Scale-MAE, Prithvi, RemoteCLIP, CROMA, TerraMind."""

# B batch, C channels, N tokens, D values of a token, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from ...bands import Band
from . import positions
from .positions import Grid
from .vit_blocks import Blocks, ViTBlocks, init_weights

Positions = Literal["learned", "dino", "fixed", "zero", "flat", "planar", "cubic", "alibi"]
STORED = ("fixed", "zero", "planar", "cubic")  # stored with the weights, but not trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Vit(Blocks):
    """Hold the sizes and options of a plain vision transformer.

    Attributes:
        patch: Side of a patch, pixels.
        size: Side of the image that a table of positions is for, pixels.
        positions: Kind of position codes. "learned": a trained table; "fixed": a table that is
            not trained; both are interpolated for other sizes. "zero": "fixed" that starts at
            zero; "planar" and "cubic" (with time): "fixed", but computed for other sizes; "dino":
            "learned", interpolated as DINO does; "flat": computed for every size; "alibi":
            distances in attention.
        class_token: Whether a class token comes before the others.
        pre_norm: Whether tokens are normalized before the blocks.
        patch_bias: Whether the projection of patches has a bias.
        modality: Whether a learned vector of the sensor is added to the tokens.
        time_step: Time step that is read from a table of positions over several: "first", or
            "middle" for the mean of the two in the middle, as resizing to one step gives.
    """

    patch: int = 16
    size: int = 224
    positions: Positions = "fixed"
    class_token: bool = True
    pre_norm: bool = False
    patch_bias: bool = True
    modality: bool = False
    time_step: Literal["first", "middle"] = "first"


class VisionTransformer(ViTBlocks):
    """Compute levels of a plain vision transformer, all at the stride of its patch.

    Args:
        vit: Sizes of the transformer.
        num_bands: Bands of the input.

    Source:
        Dosovitskiy et al. 2020, arXiv:2010.11929.
    """

    def __init__(self, vit: Vit, num_bands: int) -> None:
        super().__init__(vit, stride=vit.patch)
        self.vit = vit
        self.native: Grid = (vit.size // vit.patch,) * 2
        self.patch_embed = PatchEmbed(
            None, vit.patch, num_bands, vit.dim, flatten=False, bias=vit.patch_bias
        )
        if vit.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, vit.dim))
        if vit.modality:
            self.mod_emb = nn.Parameter(torch.zeros(1, 1, vit.dim))
        self.norm_pre = nn.LayerNorm(vit.dim, eps=vit.eps) if vit.pre_norm else nn.Identity()
        table = self._table()
        if vit.positions in ("learned", "dino"):
            self.pos_embed = nn.Parameter(table)
        elif vit.positions in STORED:
            self.register_buffer("pos_embed", table)
        init_weights(self)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, shallow to deep."""
        x_BDHW = self.patch_embed(x_BCHW)
        grid: Grid = (x_BDHW.shape[2], x_BDHW.shape[3])
        x_BND = x_BDHW.flatten(2).transpose(1, 2)
        if self.vit.class_token:
            x_BND = torch.cat([self.cls_token.expand(len(x_BND), -1, -1), x_BND], dim=1)
        where_1ND = self._positions(grid)
        x_BND = x_BND if where_1ND is None else x_BND + where_1ND
        if self.vit.modality:
            x_BND = x_BND + self.mod_emb
        mask = None
        if self.vit.positions == "alibi":
            mask = positions.measure_alibi(grid, self.vit.heads, device=x_BND.device)
        return self.read(self.norm_pre(x_BND), grid, attn_mask=mask)

    def _positions(self, grid: Grid) -> Tensor | None:
        """Return the position codes (1, N, D) for a grid, class token first; None for "alibi"."""
        kind = self.vit.positions
        if kind == "alibi":
            return None
        if kind == "flat" or (kind in ("planar", "cubic") and grid != self.native):
            return self._computed(grid, self.patch_embed.proj.weight.device)
        if kind == "dino":
            return resample_as_dino(self.pos_embed, grid, native=self.native)
        return resample(self.pos_embed, grid, native=self.native, prefix=int(self.vit.class_token))

    def _computed(self, grid: Grid, device: torch.device | None = None) -> Tensor:
        """Return sines and cosines for a grid (1, N, D), zeros for the class token."""
        compute = (
            positions.encode_places_and_time
            if self.vit.positions == "cubic"
            else positions.encode_places
        )
        return self._after_class(compute(grid, self.vit.dim, device=device))

    def _table(self) -> Tensor:
        where_1ND = self._computed(self.native)
        return torch.zeros_like(where_1ND) if self.vit.positions == "zero" else where_1ND

    def _after_class(self, where_ND: Tensor) -> Tensor:
        """Return position codes (1, N, D), with zeros first for the class token."""
        if self.vit.class_token:
            where_ND = torch.cat([where_ND.new_zeros(1, self.vit.dim), where_ND])
        return where_ND[None]


def resample(table_1ND: Tensor, grid: Grid, *, native: Grid, prefix: int = 0) -> Tensor:
    """Resample a table of positions to a grid; the native grid gives the table bit for bit.

    Args:
        table_1ND: Codes for `prefix` tokens without a place, and then for each place.
        grid: Rows and columns wanted.
        native: Rows and columns of the table.
        prefix: Tokens without a place.
    """
    if grid == native:
        return table_1ND
    resampled: Tensor = resample_abs_pos_embed(
        table_1ND, list(grid), list(native), num_prefix_tokens=prefix
    )
    return resampled


def resample_as_dino(table_1ND: Tensor, grid: Grid, *, native: Grid) -> Tensor:
    """Resample a table of positions, class token first, as DINO's authors do.

    Source:
        Caron et al. 2021, arXiv:2104.14294: bicubic without antialiasing, by factors of a grid that
        is a tenth of a cell larger, which keeps the size from being rounded down.
    """
    if grid == native:
        return table_1ND
    first_11D, places_1ND = table_1ND[:, :1], table_1ND[:, 1:]
    places_1DHW = places_1ND.reshape(1, *native, -1).permute(0, 3, 1, 2)
    factors = [(new + 0.1) / old for new, old in zip(grid, native, strict=True)]
    resampled_1DHW = F.interpolate(places_1DHW, scale_factor=factors, mode="bicubic")
    return torch.cat([first_11D, resampled_1DHW.flatten(2).transpose(1, 2)], dim=1)


def build_vit(vit: Vit, bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build a plain vision transformer, with some of its values changed."""
    return VisionTransformer(replace(vit, **changes), len(bands))
