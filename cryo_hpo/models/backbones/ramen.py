"""Define RAMEN: bands are projected by wavelength, images resampled to a chosen resolution."""

# B batch, C channels, N tokens, D values of a token, H W pixels

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...bands import Band
from .positions import Grid, encode_sincos, list_places
from .vit_blocks import Blocks, ViTBlocks, init_weights

EXPERTS = 4
COLDEST = 1e-3  # there the mixture is a choice of one expert
PIXEL_M = 10.0  # ground size of a pixel in datasets of Sentinel, meters
# Wavelengths of Sentinel-2, rounded as by RAMEN's authors.
WAVELENGTHS_NM = {
    "B1": 440.0,
    "B2": 490.0,
    "B3": 560.0,
    "B4": 665.0,
    "B5": 705.0,
    "B6": 740.0,
    "B7": 783.0,
    "B8": 832.0,
    "B8A": 865.0,
    "B9": 945.0,
    "B10": 1373.0,
    "B11": 1610.0,
    "B12": 2200.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RamenBlocks(Blocks):
    """Hold the sizes of a RAMEN.

    Attributes:
        patch: Pixels per token and side, after resampling.
        size: Unused, since no table depends on it; present so that all encoders have one.
    """

    patch: int = 4
    size: int = 128


class SpectralProjector(nn.Module):
    """Compute a vector (D) for each wavelength.

    Args:
        dim: Values of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.LayerNorm(dim)
        )

    def forward(self, code_CD: Tensor) -> Tensor:
        """Return (C, D)."""
        made_CD: Tensor = self.mlp(code_CD)
        return made_CD


class Resampler(nn.Module):
    """Add a mixture of four projections that depends on how much the image was reduced.

    Args:
        dim: Values of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.7))
        self.experts = nn.ModuleList(nn.Conv2d(dim, dim, 1) for _ in range(EXPERTS))
        self.mlp = nn.Sequential(nn.Linear(dim, dim // 4), nn.GELU(), nn.Linear(dim // 4, EXPERTS))

    def forward(self, x_BDHW: Tensor, code_D: Tensor) -> Tensor:
        """Return (B, D, H, W)."""
        shares = torch.softmax(self.mlp(code_D) / self.temperature.clamp(min=COLDEST), dim=-1)
        mixed = [share * expert(x_BDHW) for share, expert in zip(shares, self.experts, strict=True)]
        return x_BDHW + torch.stack(mixed).sum(dim=0)


class Ramen(ViTBlocks):
    """Compute levels of RAMEN, all at the resolution of its tokens.

    Args:
        blocks: Sizes of the transformer.
        wavelengths_nm: Wavelengths of the input's bands, in their order.

    Source:
        Houdré et al. 2025, arXiv:2512.05025.
    """

    code_CD: Tensor
    scale_D: Tensor

    def __init__(self, blocks: RamenBlocks, wavelengths_nm: Sequence[float]) -> None:
        super().__init__(blocks, stride=blocks.patch)
        dim = blocks.dim
        self.patch, self.cell_m = blocks.patch, PIXEL_M * blocks.patch
        self.spectral_projector = SpectralProjector(dim)
        self.resampler = Resampler(dim)
        self.in_norm = nn.LayerNorm(dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        code_CD = encode_sincos(torch.tensor(wavelengths_nm, dtype=torch.float64), dim)
        scale_D = encode_sincos(
            torch.tensor([math.log(1 / blocks.patch)], dtype=torch.float64), dim
        )[0]
        self.register_buffer("code_CD", code_CD, persistent=False)
        self.register_buffer("scale_D", scale_D, persistent=False)
        init_weights(self)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, shallow to deep.

        Bands are projected after the image is reduced, which takes (1 / patch)^2 of the memory.
        The order does not matter: both are linear and the projection has no bias.
        """
        grid: Grid = (x_BCHW.shape[2] // self.patch, x_BCHW.shape[3] // self.patch)
        small = F.interpolate(x_BCHW, size=grid, mode="bilinear", align_corners=False)
        projected = torch.einsum("bchw,cd->bdhw", small, self.spectral_projector(self.code_CD))
        x_BND = self.resampler(projected, self.scale_D).flatten(2).transpose(1, 2)
        x_BND = self.in_norm(x_BND) + self._positions(grid, x_BND.device)
        x_BND = torch.cat([self.cls_token.expand(len(x_BND), -1, -1), x_BND], dim=1)
        return self.read(x_BND, grid)

    def _positions(self, grid: Grid, device: torch.device) -> Tensor:
        """Return position codes (N, D) of the places in meters."""
        half = self.in_norm.weight.shape[0] // 2
        return torch.cat(
            [encode_sincos(place * self.cell_m, half) for place in list_places(grid, device)],
            dim=1,
        )


def find_wavelength_nm(band: Band) -> float:
    """Return the wavelength that RAMEN uses for a band, nanometers.

    Raises:
        ValueError: The band has no wavelength.
    """
    center_um = band.center_um
    if band.name in WAVELENGTHS_NM:
        return WAVELENGTHS_NM[band.name]
    if center_um is None:
        message = f"RAMEN takes bands by their wavelength; '{band.name}' has none."
        raise ValueError(message)
    return 1000 * center_um


def build_ramen(blocks: RamenBlocks, bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build RAMEN for some bands, with some of its values changed."""
    return Ramen(replace(blocks, **changes), [find_wavelength_nm(band) for band in bands])
