"""Define CROMA's joint encoder: radar tokens attend to optical ones after an encoder for each."""

# B batch, C channels, N tokens, D values of a token, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from ...bands import Band
from .positions import Grid, measure_alibi
from .terramind import count_sensors
from .vit import VisionTransformer, Vit
from .vit_blocks import choose_levels, init_weights, tokens_to_maps


class CrossAttention(nn.Module):
    """Attention of tokens to those of another sensor.

    Args:
        dim: Values of a token.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor, context_BND: Tensor, attn_mask: Tensor) -> Tensor:
        """Return (B, N, D)."""
        made = (self.q(x_BND), self.k(context_BND), self.v(context_BND))
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in made)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        mixed: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return mixed


class CrossBlock(nn.Module):
    """Apply self-attention, attention to the other sensor, and an MLP, each beside the identity.

    Args:
        vit: Sizes of the transformer.
    """

    def __init__(self, vit: Vit) -> None:
        super().__init__()
        self.norm1, self.norm_cross, self.norm2 = (vit.norm(vit.dim) for _ in range(3))
        self.attn = Attention(vit.dim, vit.heads, qkv_bias=vit.qkv_bias)
        self.cross = CrossAttention(vit.dim, vit.heads)
        self.mlp = Mlp(vit.dim, 4 * vit.dim)

    def forward(self, x_BND: Tensor, context_BND: Tensor, attn_mask: Tensor) -> Tensor:
        """Return (B, N, D); one norm serves the tokens and their context."""
        x_BND = x_BND + self.attn(self.norm1(x_BND), attn_mask=attn_mask)
        query, context = self.norm_cross(x_BND), self.norm_cross(context_BND)
        x_BND = x_BND + self.cross(query, context, attn_mask)
        out_BND: Tensor = x_BND + self.mlp(self.norm2(x_BND))
        return out_BND


class CromaJoint(nn.Module):
    """Compute levels of CROMA's joint encoder, all at the stride of its patch.

    The optical encoder has twice as many blocks as the radar and the joint one.

    Args:
        vit: Sizes of the joint encoder.
        sensors: "optical" and "sar" -> number of bands; both are required.

    Source:
        Fuller et al. 2023, arXiv:2311.00566.
    """

    def __init__(self, vit: Vit, sensors: dict[str, int]) -> None:
        super().__init__()
        self.heads, self.num_optical = vit.heads, sensors["optical"]
        self.levels = vit.levels or choose_levels(vit.depth)
        deep = replace(vit, depth=2 * vit.depth)
        self.optical, self.sar = (
            VisionTransformer(replace(kind, levels=(kind.depth - 1,)), sensors[name])
            for kind, name in ((deep, "optical"), (vit, "sar"))
        )
        self.blocks = nn.ModuleList(CrossBlock(vit) for _ in range(vit.depth))
        self.norm = vit.norm(vit.dim)
        self.channels = (vit.dim,) * len(self.levels)
        self.strides = (vit.patch,) * len(self.levels)
        self.num_layers = self.optical.num_layers + vit.depth
        init_weights(self.blocks)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, shallow to deep."""
        (optical_BDHW,) = self.optical(x_BCHW[:, : self.num_optical])
        (sar_BDHW,) = self.sar(x_BCHW[:, self.num_optical :])
        grid: Grid = (sar_BDHW.shape[2], sar_BDHW.shape[3])
        context_BND, x_BND = (y.flatten(2).transpose(1, 2) for y in (optical_BDHW, sar_BDHW))
        mask = measure_alibi(grid, self.heads, device=x_BCHW.device)
        maps = []
        for i, block in enumerate(self.blocks):
            x_BND = block(x_BND, context_BND, mask)
            if i in self.levels:
                maps.append(x_BND)
        maps[-1] = self.norm(maps[-1])
        return [tokens_to_maps(x_BND, grid) for x_BND in maps]

    def layer_of(self, parameter_name: str) -> int:
        """Return the layer: stems, optical blocks beside the last radar blocks, joint blocks."""
        part, _, inner = parameter_name.partition(".")
        if part == "optical":
            return self.optical.layer_of(inner)
        if part == "sar":
            behind = self.optical.num_layers - self.sar.num_layers
            layer = self.sar.layer_of(inner)
            return layer + behind if layer else 0
        if part == "blocks":
            return self.optical.num_layers + int(inner.split(".")[0])
        return self.num_layers - 1


def build_croma_joint(vit: Vit, bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build CROMA's joint encoder for optical bands and radar bands after them."""
    return CromaJoint(replace(vit, **changes), count_sensors(bands))
