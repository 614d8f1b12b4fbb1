"""Define Galileo: a transformer over patches of each group of bands, at any patch size up to 8."""

# B batch, C channels, H W pixels or patches, P patches, G groups, N tokens, D Q values of a token

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..weights.published import State, Weights

GROUPS: dict[str, tuple[str, ...]] = {
    "S1": ("VV", "VH"),
    "S2_RGB": ("B2", "B3", "B4"),
    "S2_Red_Edge": ("B5", "B6", "B7"),
    "S2_NIR_10m": ("B8",),
    "S2_NIR_20m": ("B8A",),
    "S2_SWIR": ("B11", "B12"),
    "NDVI": ("NDVI",),
}
LARGEST_PATCH = 8  # pixels; the size of the stored kernels
POSITIONS_M = 10  # meters per unit of the position encoding
JUNE = 5  # 0-based; Galileo's default for an unknown month
MONTHS = 12


class Galileo(nn.Module):
    """Dense features of one image: as many levels as blocks, all at the stride of the patch.

    A level is the mean over the given groups of each patch's tokens after a block; the last one
    is taken after the final norm. Groups that are not given are masked: they have no tokens.

    Args:
        groups: Keys of `GROUPS` that the input holds, in the table's order.
        patch: Side of a patch, pixels, 1 to 8.
        resolution_m: Ground size of a pixel, meters; scales the position encoding.
        month: Month of the image, 0 for January.
        drop_path: Stochastic depth of every block.

    Source:
        Tseng et al. 2025, arXiv:2502.09356; sizes of the nano model.
    """

    shrink: Tensor | None
    when_Q: Tensor

    def __init__(
        self,
        groups: Sequence[str],
        *,
        patch: int = LARGEST_PATCH,
        resolution_m: float = POSITIONS_M,
        month: int = JUNE,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        dim, depth, num_heads = 128, 4, 8
        self.channels, self.strides = (dim,) * depth, (patch,) * depth
        self.num_layers = depth + 1
        self.groups, self.patch = tuple(groups), patch
        self.cell_scale = resolution_m * patch / POSITIONS_M
        self.sizes = [len(GROUPS[group]) for group in groups]
        self.projections = nn.ModuleDict(
            {
                group: nn.Conv2d(len(GROUPS[group]), dim, LARGEST_PATCH, LARGEST_PATCH)
                for group in groups
            }
        )
        self.group_embed = nn.Parameter(torch.zeros(len(groups), dim // 4))
        norm: Any = partial(nn.LayerNorm, eps=1e-5)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                num_heads,
                qkv_bias=True,
                drop_path=drop_path,
                norm_layer=norm,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        shrink = None if patch == LARGEST_PATCH else _shrink(patch)
        when_Q = torch.cat(
            [encode_sincos(torch.zeros(1), dim // 4)[0], encode_month(month, dim // 4)]
        )
        self.register_buffer("when_Q", when_Q, persistent=False)
        self.register_buffer("shrink", shrink, persistent=False)
        self.apply(_init_weights)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return a level per block, (B, 128, H / patch, W / patch), the normalized one last."""
        given = zip(self.projections.values(), torch.split(x_BCHW, self.sizes, dim=1), strict=True)
        x_BGDHW = torch.stack([self._project(conv, x) for conv, x in given], dim=1)
        height, width = x_BGDHW.shape[-2:]
        x_BGPD = x_BGDHW.flatten(3).transpose(2, 3) + self._encodings(height, width)
        shape, x_BND = x_BGPD.shape, x_BGPD.flatten(1, 2)
        size = (len(x_BND), -1, height, width)
        maps = []
        for block in self.blocks:
            x_BND = block(x_BND)
            maps.append(x_BND)
        maps[-1] = self.norm(x_BND)
        return [tokens.reshape(shape).mean(dim=1).transpose(1, 2).reshape(size) for tokens in maps]

    def layer_of(self, parameter_name: str) -> int:
        """Return 0 for projections and embeddings, else one more than the block."""
        part, _, inner = parameter_name.partition(".")
        if part == "blocks":
            return int(inner.split(".")[0]) + 1
        return self.num_layers - 1 if part == "norm" else 0

    def _project(self, conv: nn.Module, x_BCHW: Tensor) -> Tensor:
        weight: Tensor = conv.get_parameter("weight")
        if self.shrink is not None:
            weight = weight.flatten(2) @ self.shrink.T
            weight = weight.reshape(*weight.shape[:2], self.patch, self.patch)
        return F.conv2d(x_BCHW, weight, conv.get_parameter("bias"), stride=self.patch)

    def _encodings(self, height: int, width: int) -> Tensor:
        """Return token codes (G, P, D): a quarter each for group, time step, month and place."""
        (num_groups, quarter), num_patches = self.group_embed.shape, height * width
        place_PQ = positions(
            height, width, quarter, scale=self.cell_scale, device=self.when_Q.device
        )
        return torch.cat(
            [
                self.group_embed[:, None].expand(-1, num_patches, -1),
                self.when_Q.expand(num_groups, num_patches, -1),
                place_PQ.expand(num_groups, -1, -1),
            ],
            dim=-1,
        )


def positions(
    height: int, width: int, dim: int, *, scale: float, device: torch.device | None = None
) -> Tensor:
    """Return position codes (height * width, dim): half for the column, half for the row.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        dim: Values per place.
        scale: Size of a cell in units of the encoding.
        device: Device of the result.
    """
    columns_WQ = encode_sincos(torch.arange(width, device=device) * scale, dim // 2)
    rows_HQ = encode_sincos(torch.arange(height, device=device) * scale, dim // 2)
    both = (columns_WQ.expand(height, -1, -1), rows_HQ[:, None].expand(-1, width, -1))
    return torch.cat(both, dim=-1).flatten(0, 1)


def encode_sincos(place: Tensor, dim: int) -> Tensor:
    """Return sines, then cosines, of each place at dim / 2 falling frequencies.

    These fall from 1 towards 10000^(-1/4), a quarter of the usual range on a logarithmic scale.
    """
    frequency = 10000.0 ** -(torch.arange(dim // 2, device=place.device) / (2 * dim))
    angle = place[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def encode_month(month: int, dim: int) -> Tensor:
    """Return the month's angle in the year's circle: half of the values sine, half cosine."""
    angle = 2 * math.pi * month / MONTHS
    return torch.tensor([math.sin(angle)] * (dim // 2) + [math.cos(angle)] * (dim // 2))


def galileo_weights() -> Weights:
    """Return the address of the nano model's weights, and the keys that dense features leave out.

    Left out: groups that are not given, inputs that are not images, and the two fixed tables of
    months and time steps, which the model computes.
    """
    return Weights(
        file="galileo_nano/encoder.pt",
        url="https://github.com/nasaharvest/galileo",
        address=(
            "https://raw.githubusercontent.com/nasaharvest/galileo/"
            "0f0b5b95ac81acef4b74cf4686dc877202f4541b/data/models/nano/encoder.pt"
        ),
        sha256="eab6acacf527886a508a555bc24efe4b4a2cf91b162e84cd1c4a1807e942180c",
        adapt=_adapt,
        may_have=(
            "projections.",
            "space_embed.",
            "time_embed.",
            "static_embed.",
            "sp_channel_embed",
            "t_channel_embed",
            "st_channel_embed",
            "pos_embed",
            "month_embed.",
        ),
    )


def _adapt(backbone: nn.Module, state: State) -> State:
    """Join query, key and value, and take the embeddings of the given groups."""
    adapted: dict[str, Tensor] = {}
    # Some checkpoints of the authors have ".backbone" inside their keys.
    for key, x in state.items():
        name = key.replace(".backbone", "").replace("space_time_embed.", "projections.", 1)
        adapted[name.replace(".proj.", ".") if name.startswith("projections.") else name] = x
    for stem in [key.removesuffix("q.weight") for key in adapted if key.endswith(".q.weight")]:
        for kind in ("weight", "bias"):
            parts = [adapted.pop(f"{stem}{part}.{kind}", None) for part in "qkv"]
            adapted[f"{stem}qkv.{kind}"] = torch.cat([x for x in parts if x is not None])
    if "s_t_channel_embed" in adapted and isinstance(backbone, Galileo):
        rows = [list(GROUPS).index(group) for group in backbone.groups]
        adapted["group_embed"] = adapted.pop("s_t_channel_embed")[rows]
    return adapted


def _shrink(patch: int) -> Tensor:
    """Return the matrix (patch^2, 64) that resizes a stored kernel to a smaller one.

    The small kernel gives on a reduced image what the stored one gives on the whole: it is the
    stored one times the pseudo-inverse of the reduction.

    Source:
        Beyer et al. 2023, arXiv:2212.08013, the "PI-resize".
    """
    pixels = torch.eye(LARGEST_PATCH**2).reshape(-1, 1, LARGEST_PATCH, LARGEST_PATCH)
    reduced = F.interpolate(pixels, size=(patch, patch), mode="bicubic", antialias=True)
    inverse: Tensor = torch.linalg.pinv(reduced.flatten(1))
    return inverse


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
