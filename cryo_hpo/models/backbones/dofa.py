"""Define DOFA: a vision transformer with patch kernels computed from the bands' wavelengths."""

# B batch, C channels, N tokens, D values of a token, H W pixels, P pixels of a patch, Q code

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...bands import Band
from . import positions
from .positions import Grid, encode_sincos
from .vit import Vit, resample
from .vit_blocks import ViTBlocks, init_weights

CODE = 128  # values that encode a wavelength
KERNEL_SCALE = 0.01
RADAR_UM = 3.75  # backscatter of C band, in the authors' configuration
# Wavelengths of Sentinel-2, rounded as by DOFA's authors.
WAVELENGTHS_UM = {
    "B1": 0.44,
    "B2": 0.49,
    "B3": 0.56,
    "B4": 0.665,
    "B5": 0.705,
    "B6": 0.74,
    "B7": 0.783,
    "B8": 0.832,
    "B8A": 0.864,
    "B9": 0.945,
    "B10": 1.373,
    "B11": 1.61,
    "B12": 2.2,
}


class Residual(nn.Module):
    """Apply two linear layers, each with a ReLU, beside the identity.

    Args:
        dim: Values in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., dim)."""
        return x + F.relu(self.w2(F.relu(self.w1(x))))


class KernelMaker(nn.Module):
    """Compute the weight and bias of a patch projection from codes of wavelengths.

    Args:
        dim: Values of a token.
        patch: Side of a patch, pixels.
    """

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.weight_tokens = nn.Parameter(torch.zeros(CODE, CODE))
        self.bias_token = nn.Parameter(torch.zeros(1, CODE))
        layer = nn.TransformerEncoderLayer(CODE, 4, activation="gelu", dropout=0.0)
        self.transformer_encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc_weight = nn.Linear(CODE, patch * patch * dim)
        self.fc_bias = nn.Linear(CODE, dim)

    def forward(self, code_CQ: Tensor) -> tuple[Tensor, Tensor]:
        """Return the kernel (D, C, patch, patch) and the bias (D)."""
        tokens = torch.cat([self.weight_tokens, code_CQ, self.bias_token])
        made = self.transformer_encoder(tokens)
        weight_CPD = self.fc_weight(made[len(self.weight_tokens) : -1] + code_CQ)
        kernel = weight_CPD.reshape(len(code_CQ), self.patch, self.patch, -1)
        return kernel.permute(3, 0, 1, 2) * KERNEL_SCALE, self.fc_bias(made[-1]) * KERNEL_SCALE


class PatchMaker(nn.Module):
    """Project patches of any bands with kernels for their wavelengths.

    Args:
        wavelengths_um: Wavelengths of the bands, in their order.
        dim: Values of a token.
        patch: Side of a patch, pixels.
    """

    code_CQ: Tensor

    def __init__(self, wavelengths_um: Sequence[float], dim: int, patch: int) -> None:
        super().__init__()
        code_CQ = encode_sincos(torch.tensor(wavelengths_um, dtype=torch.float64) * 1000, CODE)
        self.register_buffer("code_CQ", code_CQ, persistent=False)
        self.weight_generator = KernelMaker(dim, patch)
        self.fclayer = Residual(CODE)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, D, H / patch, W / patch); kernels reach a pixel over the border."""
        weight, bias = self.weight_generator(self.fclayer(self.code_CQ))
        return F.conv2d(x_BCHW, weight, bias, stride=self.weight_generator.patch, padding=1)


class Dofa(ViTBlocks):
    """Compute levels of DOFA, all at the stride of its patch.

    Args:
        vit: Sizes of the transformer.
        wavelengths_um: Wavelengths of the input's bands, in their order.

    Source:
        Xiong et al. 2024, arXiv:2403.15356.
    """

    pos_embed: Tensor

    def __init__(self, vit: Vit, wavelengths_um: Sequence[float]) -> None:
        super().__init__(vit, stride=vit.patch)
        self.native: Grid = (vit.size // vit.patch,) * 2
        self.patch_embed = PatchMaker(wavelengths_um, vit.dim, vit.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, vit.dim))
        table = torch.cat([torch.zeros(1, vit.dim), positions.encode_places(self.native, vit.dim)])
        self.register_buffer("pos_embed", table[None])
        init_weights(self)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, shallow to deep."""
        x_BDHW = self.patch_embed(x_BCHW)
        grid: Grid = (x_BDHW.shape[2], x_BDHW.shape[3])
        x_BND = x_BDHW.flatten(2).transpose(1, 2)
        x_BND = torch.cat([self.cls_token.expand(len(x_BND), -1, -1), x_BND], dim=1)
        return self.read(x_BND + resample(self.pos_embed, grid, native=self.native, prefix=1), grid)


def find_wavelength_um(band: Band) -> float:
    """Return the wavelength that DOFA uses for a band, micrometers.

    Raises:
        ValueError: The band has no wavelength.
    """
    if band.sensor == "sar":
        return RADAR_UM
    wavelength = WAVELENGTHS_UM.get(band.name, band.center_um)
    if wavelength is None:
        message = f"DOFA takes bands by their wavelength; '{band.name}' has none."
        raise ValueError(message)
    return wavelength


def build_dofa(vit: Vit, bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build DOFA for some bands, with some of its values changed."""
    return Dofa(replace(vit, **changes), [find_wavelength_um(band) for band in bands])
