"""Define the U-Net encoder, and the two layers that it shares with the decoder."""

# B batch, C channels, H W pixels

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Normalize batches as batch norm, and train also on a single value per channel.

    One value has no variance, so PyTorch refuses a batch of one tile whose map is 1x1. Such a
    step uses the running statistics, as evaluation does, and leaves them as they are.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalize with the batch's statistics if training has any, else the running ones."""
        if self.training and x_BCHW.numel() == x_BCHW.shape[1]:
            return F.batch_norm(
                x_BCHW, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x_BCHW)


def double_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return twice (3x3 convolution with bias, batch normalization, ReLU)."""
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        convolution = nn.Conv2d(channels, channels_out, 3, padding=1)
        layers += [convolution, BatchNorm(channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net encoder: five maps at strides 1, 2, 4, 8, 16, from any number of bands.

    Args:
        num_bands: Bands of the input.
        width: Channels of the finest map; the others have 2, 4, 8 and 8 times as many.

    Source:
        Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28; with padding, batch
        normalization, and a deepest map no wider than the one above it.
    """

    def __init__(self, num_bands: int, *, width: int = 64) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.strides = (1, 2, 4, 8, 16)
        self.num_layers = len(self.channels)
        inputs = (num_bands, *self.channels[:-1])
        self.stages = nn.ModuleList(
            double_conv(before, after) for before, after in zip(inputs, self.channels, strict=True)
        )

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, fine to coarse."""
        levels: list[Tensor] = []
        for stage in self.stages:
            x_BCHW = stage(F.max_pool2d(x_BCHW, 2) if levels else x_BCHW)
            levels.append(x_BCHW)
        return levels

    def layer_of(self, parameter_name: str) -> int:
        """Return the stage that holds a parameter, 0 the finest."""
        return int(parameter_name.split(".")[1])
