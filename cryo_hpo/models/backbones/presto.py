"""Define Presto: a transformer over the bands and months of single pixels, here of one image."""

# B batch, C channels, H W pixels, P pixels of all images, T months, N tokens, D values of a token

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ...bands import Band
from ..weights.published import State, Weights
from .galileo import JUNE, encode_month

GROUPS: dict[str, tuple[str, ...]] = {
    "S1": ("VV", "VH"),
    "S2_RGB": ("B2", "B3", "B4"),
    "S2_Red_Edge": ("B5", "B6", "B7"),
    "S2_NIR_10m": ("B8",),
    "S2_NIR_20m": ("B8A",),
    "S2_SWIR": ("B11", "B12"),
    "ERA5": ("TEMPERATURE", "PRECIPITATION"),
    "SRTM": ("DEM", "SLOPE"),
    "NDVI": ("NDVI",),
}
STATIC = "SRTM"  # has one token for all months, without codes of time
DIM, DEPTH, HEADS = 128, 2, 8
PERIOD = 1000.0
PLACE = (
    70.0,
    -40.0,
)  # degrees; assumed for every image, since images come without a place
STRIDES = (1, 1, 2, 4)


class PixelEncoder(nn.Module):
    """Encode the time series of single pixels.

    Args:
        groups: Keys of `GROUPS` that are given, in the table's order.
        land_cover: Whether a class of land cover is given for every month.

    Source:
        Tseng et al. 2023, arXiv:2304.14065.
    """

    def __init__(self, groups: Sequence[str], *, land_cover: bool = False) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.eo_patch_embed = nn.ModuleDict(
            {group: nn.Linear(len(GROUPS[group]), DIM) for group in groups}
        )
        self.dw_embed = nn.Embedding(10, DIM) if land_cover else None
        self.group_embed = nn.Parameter(torch.zeros(len(groups) + land_cover, DIM // 4))
        self.latlon_embed = nn.Linear(3, DIM)
        norm: Any = partial(nn.LayerNorm, eps=1e-5)
        self.blocks = nn.ModuleList(
            Block(DIM, HEADS, qkv_bias=True, norm_layer=norm) for _ in range(DEPTH)
        )
        self.norm = nn.LayerNorm(DIM, eps=1e-5)

    def forward(
        self,
        values: Mapping[str, Tensor],
        place_P3: Tensor,
        *,
        month: int = JUNE,
        land_cover_PT: Tensor | None = None,
    ) -> list[Tensor]:
        """Return the mean token (P, D) after each block, the last one normalized.

        Args:
            values: Group -> (P, T, channels), scaled as in pretraining.
            place_P3: Unit vector to the place; see `encode_place`.
            month: First month, 0 for January.
            land_cover_PT: Class 0 to 8, if the encoder was built for it.
        """
        made = [self.latlon_embed(place_P3)[:, None]]
        for code_D, group in zip(self.group_embed, self.groups, strict=False):
            x_PTC = values[group]
            x_PTC = x_PTC[:, :1] if group == STATIC else x_PTC
            timed = group != STATIC
            codes = self._encode_times(code_D, x_PTC.shape[1], month, timed=timed)
            made.append(self.eo_patch_embed[group](x_PTC) + codes)
        if self.dw_embed is not None and land_cover_PT is not None:
            codes = self._encode_times(
                self.group_embed[-1], land_cover_PT.shape[1], month, timed=True
            )
            made.append(self.dw_embed(land_cover_PT) + codes)
        x_PND, means = torch.cat(made, dim=1), []
        for block in self.blocks:
            x_PND = block(x_PND)
            means.append(x_PND.mean(dim=1))
        means[-1] = self.norm(means[-1])
        return means

    def _encode_times(self, code_D: Tensor, steps: int, month: int, *, timed: bool) -> Tensor:
        """Return (T, D): a quarter each for month and group, half for the step."""
        months = [encode_month((month + t) % 12, DIM // 4) for t in range(steps)]
        when = torch.cat([torch.stack(months), encode_steps(steps, DIM // 2)], dim=1)
        when = (when if timed else torch.zeros_like(when)).to(code_D)
        group = code_D.expand(steps, -1)
        return torch.cat([when[:, : DIM // 4], group, when[:, DIM // 4 :]], dim=1)


def encode_steps(steps: int, dim: int) -> Tensor:
    """Return (T, dim): sines and cosines of each step in turn, at falling frequencies."""
    angle = torch.arange(steps)[:, None] * PERIOD ** -(torch.arange(0, dim, 2) / dim)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def encode_place(latitude: float, longitude: float) -> Tensor:
    """Return the unit vector (3) to a place given in degrees."""
    lat, lon = math.radians(latitude), math.radians(longitude)
    return torch.tensor(
        [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
    )


class Presto(nn.Module):
    """Presto's features of single pixels: after the first and last block, and coarser means.

    Four levels, at strides 1, 1, 2 and 4; the last two are averages over 2 x 2 and 4 x 4 pixels.

    Args:
        groups: Keys of `GROUPS` that the input holds, in the table's order.
        month: Month of the images, 0 for January.
        place: Latitude and longitude of the images, degrees.

    Source:
        Tseng et al. 2023, arXiv:2304.14065.
    """

    place_3: Tensor

    def __init__(
        self,
        groups: Sequence[str],
        *,
        month: int = JUNE,
        place: tuple[float, float] = PLACE,
    ) -> None:
        super().__init__()
        self.channels, self.strides = (DIM,) * len(STRIDES), STRIDES
        self.num_layers = DEPTH + 1
        self.month = month
        self.sizes = [len(GROUPS[group]) for group in groups]
        self.encoder = PixelEncoder(groups)
        self.register_buffer("place_3", encode_place(*place), persistent=False)
        nn.init.trunc_normal_(self.encoder.group_embed, std=0.02)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels (B, 128, H / stride, W / stride)."""
        batch, _, height, width = x_BCHW.shape
        pixels_PC = x_BCHW.permute(0, 2, 3, 1).flatten(0, 2)
        parts = torch.split(pixels_PC[:, None], self.sizes, dim=2)
        values = dict(zip(self.encoder.groups, parts, strict=True))
        place_P3 = self.place_3.to(x_BCHW.dtype).expand(len(pixels_PC), -1)
        first, last = (
            mean_PD.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2).contiguous()
            for mean_PD in self.encoder(values, place_P3, month=self.month)
        )
        return [first, last, F.avg_pool2d(last, 2), F.avg_pool2d(last, 4)]

    def layer_of(self, parameter_name: str) -> int:
        """Return 0 for projections and codes, else one more than the block."""
        _, part, *inner = parameter_name.split(".")
        if part == "blocks":
            return int(inner[0]) + 1
        return self.num_layers - 1 if part == "norm" else 0


def presto_weights() -> Weights:
    """Return the address of the weights, and the keys that dense features leave out.

    Left out: the decoder of pretraining, groups that are not given, land cover, and two fixed
    tables that the model computes. The mirror holds the same tensors as safetensors.
    """
    rules: dict[str, Any] = {
        "adapt": adapt_presto,
        "may_have": (
            *("decoder.", "encoder.eo_patch_embed.", "encoder.dw_embed.", "encoder.month_embed."),
            "encoder.pos_embed",
        ),
    }
    commit = "13173d028f035abcbcc3b13829314323a5c15d02"
    return Weights(
        file="presto/default_model.pt",
        url="https://github.com/nasaharvest/presto",
        address=f"https://raw.githubusercontent.com/nasaharvest/presto/{commit}/data/default_model.pt",
        sha256="559c9d76f525bdf2dd3774da8b1e7f1510769b73baacac12e9e4d8d5c67fbe65",
        mirror=Weights(
            file="presto/model.safetensors",
            url="https://github.com/nasaharvest/presto",
            sha256="ecf26d145586b23230d3d20ffde83721d77d6c08d77acd697894e5e89faabce0",
            **rules,
        ),
        **rules,
    )


def adapt_presto(backbone: nn.Module, state: State) -> State:
    """Take the codes of the groups that are given; row 9 is land cover's."""
    adapted = dict(state)
    encoder = backbone.get_submodule("encoder")
    if "encoder.channel_embed.weight" in adapted and isinstance(encoder, PixelEncoder):
        rows = [list(GROUPS).index(group) for group in encoder.groups]
        rows += [9] if encoder.dw_embed is not None else []
        adapted["encoder.group_embed"] = adapted.pop("encoder.channel_embed.weight")[rows]
    return adapted


def build_presto(bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build Presto for the groups that some bands fill."""
    names = {band.name for band in bands}
    return Presto([g for g, members in GROUPS.items() if names.issuperset(members)], **changes)
