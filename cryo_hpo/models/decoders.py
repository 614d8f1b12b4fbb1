"""Decode an encoder's levels into class scores: `UPerNet`, `UNetDecoder`, a table of both."""

# B batch, C channels, H W pixels of the finest level, K classes

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones.unet import BatchNorm, double_conv

POOLED = (1, 2, 3, 6)  # cells per side that the pyramid pooling averages over
NECK_SCALES = (4.0, 2.0, 1.0, 0.5)


def is_pyramid(strides: Sequence[int]) -> bool:
    """Return whether levels get coarser; those of a plain vision transformer do not."""
    return strides[0] < strides[-1]


class Neck(nn.Module):
    """Turn levels of one size into a pyramid; leave a pyramid as it is.

    Level i of n is scaled by 4, 2, 1 or 1/2, the finest first, at unchanged width.

    Args:
        channels: Channels of each level.
        strides: Strides of the levels, input pixels per cell.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        flat = not is_pyramid(strides)
        scales = [
            NECK_SCALES[4 * i // len(channels)] if flat else 1.0 for i in range(len(channels))
        ]
        self.strides = tuple(round(s / scale) for s, scale in zip(strides, scales, strict=True))
        self.ops = nn.ModuleList(
            _rescale(width, scale) for width, scale in zip(channels, scales, strict=True)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels at `strides`."""
        return [op(level) for op, level in zip(self.ops, levels, strict=True)]


def _rescale(channels: int, scale: float) -> nn.Module:
    if scale == 4.0:
        return nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 2, 2),
            BatchNorm(channels),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, 2, 2),
        )
    if scale == 2.0:
        return nn.Sequential(nn.ConvTranspose2d(channels, channels, 2, 2))
    return nn.Identity() if scale == 1.0 else nn.MaxPool2d(2, 2)


def _conv(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2),
        BatchNorm(channels_out),
        nn.ReLU(inplace=True),
    )


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class _AveragePool(nn.AdaptiveAvgPool2d):
    """Average a map over cells; on a GPU that has to repeat every bit, as products of matrices.

    The gradient of torch's own kernel there adds in any order.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return means (B, C, cells, cells)."""
        if x_BCHW.is_cuda and torch.are_deterministic_algorithms_enabled():
            return average_by_products(x_BCHW, int(self.output_size))  # type: ignore[arg-type]
        means_BCHW: Tensor = super().forward(x_BCHW)
        return means_BCHW


def average_by_products(x_BCHW: Tensor, cells: int) -> Tensor:
    """Return the means of a map over cells x cells parts, as adaptive average pooling has them."""
    rows, columns = (_shares(side, cells, x_BCHW) for side in x_BCHW.shape[-2:])
    return rows @ x_BCHW @ columns.T


def _shares(side: int, cells: int, like: Tensor) -> Tensor:
    """Return each pixel's share in each cell's mean, (cells, side)."""
    cell_N1 = torch.arange(cells, device=like.device)[:, None]
    pixel_S = torch.arange(side, device=like.device)
    first_N1, end_N1 = cell_N1 * side // cells, -(-(cell_N1 + 1) * side // cells)
    inside = (first_N1 <= pixel_S) & (pixel_S < end_N1)
    return inside.to(like.dtype) / (end_N1 - first_N1).to(like.dtype)


class UPerNet(nn.Module):
    """Decoder with pyramid pooling of the coarsest level, then a feature pyramid over all levels.

    Returns logits (B, K, H, W) at the size of the finest level after the neck.

    Args:
        channels_in: Channels of each level, fine to coarse.
        strides: Strides of the levels, input pixels per cell.
        num_classes: Number of classes, K.
        channels: Width of the decoder.
        dropout: Share of the maps dropped before the classifier, in training.

    Source:
        Xiao et al. 2018, arXiv:1807.10221, without its auxiliary head; neck as in PANGAEA,
        Marsocci et al. 2024, arXiv:2412.04204.
    """

    def __init__(
        self,
        channels_in: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        *finer, coarsest = channels_in
        self.neck = Neck(channels_in, strides)
        self.pools = nn.ModuleList(
            nn.Sequential(_AveragePool(cells), *_conv(coarsest, channels, 1)) for cells in POOLED
        )
        self.bottleneck = _conv(coarsest + len(POOLED) * channels, channels, 3)
        self.laterals = nn.ModuleList(_conv(width, channels, 1) for width in finer)
        self.smooth = nn.ModuleList(_conv(channels, channels, 3) for _ in finer)
        self.fuse = _conv(len(channels_in) * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, H, W) for levels that run fine to coarse."""
        *finer, coarsest = self.neck(levels)
        pooled = [_resize(pool(coarsest), coarsest) for pool in self.pools]
        maps = [lateral(level) for lateral, level in zip(self.laterals, finer, strict=True)]
        maps.append(self.bottleneck(torch.cat([coarsest, *pooled], dim=1)))
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + _resize(maps[i], maps[i - 1])
        maps[:-1] = [smooth(x) for smooth, x in zip(self.smooth, maps[:-1], strict=True)]
        fused = self.fuse(torch.cat([_resize(x, maps[0]) for x in maps], dim=1))
        logits_BKHW: Tensor = self.classifier(self.dropout(fused))
        return logits_BKHW


class UNetDecoder(nn.Module):
    """Decoder that upsamples, concatenates the next finer level and convolves twice, repeatedly.

    Returns logits (B, K, H, W) at the size of the finest level after the neck.

    Args:
        channels_in: Channels of each level, fine to coarse.
        strides: Strides of the levels; each divides the next.
        num_classes: Number of classes, K.
        channels: Upper limit for the width of a convolved map; from 256 on a U-Net of width 32
            equals the published one.

    Source:
        Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28.
    """

    def __init__(
        self,
        channels_in: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int,
    ) -> None:
        super().__init__()
        self.neck = Neck(channels_in, strides)
        ups: list[nn.Module] = []
        convs: list[nn.Module] = []
        width = channels_in[-1]
        for i in range(len(channels_in) - 2, -1, -1):
            ups.append(_upsample(width, self.neck.strides[i + 1] // self.neck.strides[i]))
            narrower = min(channels_in[max(i - 1, 0)], channels)
            convs.append(double_conv(channels_in[i] + width, narrower))
            width = narrower
        self.ups, self.convs = nn.ModuleList(ups), nn.ModuleList(convs)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, H, W) for levels that run fine to coarse."""
        *finer, x = self.neck(levels)
        for skip, up, conv in zip(reversed(finer), self.ups, self.convs, strict=True):
            x = conv(torch.cat([skip, _fit(up(x), skip)], dim=1))
        logits_BKHW: Tensor = self.classifier(x)
        return logits_BKHW


def _upsample(channels: int, factor: int) -> nn.Module:
    if factor == 1:
        return nn.Identity()
    return nn.ConvTranspose2d(channels, channels, factor, factor)


def _fit(x: Tensor, like: Tensor) -> Tensor:
    """Pad or crop a map at both ends, for levels whose sides were odd."""
    height, width = (a - b for a, b in zip(like.shape[-2:], x.shape[-2:], strict=True))
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


DECODERS: dict[str, Callable[..., nn.Module]] = {"unet": UNetDecoder, "upernet": UPerNet}
