"""Define TerraMind for optical and radar tokens: each place has one token per sensor."""

# B batch, C channels, N tokens, D values of a token, H W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from ...bands import Band
from . import positions
from .positions import Grid
from .vit import Vit, resample
from .vit_blocks import ViTBlocks, init_weights

ORDER = ("sar", "optical")  # sensors, in the order of the tokens


class SensorTokens(nn.Module):
    """Project patches of one sensor to tokens, and add their places and the sensor's own vector.

    Args:
        vit: Sizes of the transformer.
        num_bands: Bands of the sensor.
    """

    pos_embed: Tensor

    def __init__(self, vit: Vit, num_bands: int) -> None:
        super().__init__()
        self.native: Grid = (vit.size // vit.patch,) * 2
        self.patch_embed = PatchEmbed(
            None, vit.patch, num_bands, vit.dim, flatten=False, bias=vit.patch_bias
        )
        self.mod_emb = nn.Parameter(torch.zeros(1, 1, vit.dim))
        self.register_buffer("pos_embed", positions.encode_places(self.native, vit.dim)[None])

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens (B, N, D) and their grid."""
        x_BDHW = self.patch_embed(x_BCHW)
        grid: Grid = (x_BDHW.shape[2], x_BDHW.shape[3])
        places = resample(self.pos_embed, grid, native=self.native)
        return x_BDHW.flatten(2).transpose(1, 2) + places + self.mod_emb, grid


class TerraMind(ViTBlocks):
    """Compute levels of TerraMind, all at the stride of its patch: means over the sensors that are given.

    Args:
        vit: Sizes of the transformer.
        sensors: "optical" and "sar" -> number of bands, in the order of the input.

    Source:
        Jakubik et al. 2025, arXiv:2504.11171.
    """

    def __init__(self, vit: Vit, sensors: Mapping[str, int]) -> None:
        super().__init__(vit, stride=vit.patch)
        self.sensors = dict(sensors)
        for name, num_bands in sensors.items():
            self.add_module(name, SensorTokens(vit, num_bands))
        init_weights(self)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, shallow to deep."""
        parts = torch.split(x_BCHW, list(self.sensors.values()), dim=1)
        images = dict(zip(self.sensors, parts, strict=True))
        made = [self.get_submodule(name)(images[name]) for name in ORDER if name in images]
        grid: Grid = made[0][1]
        x_BND = torch.cat([tokens for tokens, _ in made], dim=1)
        return self.read(x_BND, grid, parts=len(made))


def count_sensors(bands: Sequence[Band]) -> dict[str, int]:
    """Return "optical" and "sar" -> number of bands, without a sensor that has none."""
    radar = sum(band.sensor == "sar" for band in bands)
    counts = {"optical": len(bands) - radar, "sar": radar}
    return {name: count for name, count in counts.items() if count}


def build_terramind(vit: Vit, bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build TerraMind for optical bands, radar bands after them, or either; some values changed."""
    return TerraMind(replace(vit, **changes), count_sensors(bands))
