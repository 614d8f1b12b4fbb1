"""Define windowed transformers: GFM (timm's Swin) and SatlasNet (torchvision's Swin V2)."""

# B batch, C channels, H W cells

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformerBlockV2,
)
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

from ...bands import Band

PATCH = 4  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Swin:
    """Hold the sizes of a windowed transformer.

    Attributes:
        dim: Channels of the first stage; each next one has twice as many.
        depth: Blocks of each stage.
        heads: Attention heads of each stage.
        window: Side of the windows, cells.
        size: Side of the pretraining images, pixels.
        drop_path: Stochastic depth of the last block; that of the others rises to it.
        merged: Whether maps are taken after patches are merged for the next stage, not before.
    """

    dim: int = 128
    depth: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int
    size: int
    drop_path: float = 0.0
    merged: bool = False

    @property
    def before_merging(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Channels and strides of the stages."""
        stages = range(len(self.depth))
        return tuple(self.dim << i for i in stages), tuple(PATCH << i for i in stages)

    def layer(self, stage: int, block: int) -> int:
        """Return the layer of a block, counted over all stages, the stem before them."""
        return 1 + sum(self.depth[:stage]) + block


class GfmSwin(nn.Module):
    """Compute maps of a Swin's stages, taken before or after patches are merged.

    Args:
        swin: Sizes of the transformer.
        num_bands: Bands of the input.

    Source:
        Liu et al. 2021, arXiv:2103.14030; pretrained as in Mendieta et al. 2023,
        arXiv:2302.04476 (GFM).
    """

    def __init__(self, swin: Swin, num_bands: int) -> None:
        super().__init__()
        self.swin = swin
        model: Any = SwinTransformer(
            swin.size,
            PATCH,
            num_bands,
            num_classes=0,
            embed_dim=swin.dim,
            depths=swin.depth,
            num_heads=swin.heads,
            window_size=swin.window,
            strict_img_size=False,
            drop_path_rate=swin.drop_path,
        )
        self.patch_embed, self.layers = model.patch_embed, model.layers
        channels, strides = swin.before_merging
        if swin.merged:
            channels, strides = (*channels[1:], channels[-1]), (*strides[1:], strides[-1])
        self.channels, self.strides = channels, strides
        self.num_layers = sum(swin.depth) + 1

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the maps, fine to coarse."""
        x_BHWC = self.patch_embed(x_BCHW)
        maps = []
        for number, stage in enumerate(self.layers):
            x_BHWC = stage.downsample(x_BHWC)
            if self.swin.merged and number:
                maps.append(x_BHWC)
            x_BHWC = stage.blocks(x_BHWC)
            if not self.swin.merged:
                maps.append(x_BHWC)
        if self.swin.merged:
            maps.append(x_BHWC)
        return [x_BHWC.permute(0, 3, 1, 2).contiguous() for x_BHWC in maps]

    def fit_size(self, size: int) -> None:
        """Choose the shifts of windows for images of a size, as if the model had been built for it.

        A map no larger than a window is one window, without a shift. Where the coarsest map would
        be smaller than a window nothing changes: maps are padded, and tables keep their size.
        """
        if size // (PATCH << (len(self.layers) - 1)) < self.swin.window:
            return
        for number, stage in enumerate(self.layers):
            before = size // (PATCH << max(number - 1, 0))  # the stage halves it first
            stage.set_input_size((before, before), (self.swin.window, self.swin.window))

    def layer_of(self, parameter_name: str) -> int:
        """Return 0 for the stem, else one more than the block; merging has the next one's."""
        match = re.match(r"layers\.(\d+)\.(?:blocks\.(\d+)|downsample)", parameter_name)
        return self.swin.layer(int(match[1]), int(match[2] or 0)) if match else 0


class SatlasSwin(nn.Module):
    """Compute maps of a Swin V2's stages.

    Args:
        swin: Sizes of the transformer.
        num_bands: Bands of the input.

    Source:
        Liu et al. 2021, arXiv:2111.09883; pretrained as in Bastani et al. 2022,
        arXiv:2211.15660 (SatlasPretrain).
    """

    def __init__(self, swin: Swin, num_bands: int) -> None:
        super().__init__()
        self.swin = swin
        model = TorchvisionSwin(
            patch_size=[PATCH, PATCH],
            embed_dim=swin.dim,
            depths=list(swin.depth),
            num_heads=list(swin.heads),
            window_size=[swin.window, swin.window],
            stochastic_depth_prob=swin.drop_path,
            num_classes=1,
            block=SwinTransformerBlockV2,
            downsample_layer=PatchMergingV2,
        )
        self.features: Any = model.features
        self.features[0][0] = nn.Conv2d(num_bands, swin.dim, PATCH, PATCH)
        self.channels, self.strides = swin.before_merging
        self.num_layers = sum(swin.depth) + 1

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the maps, fine to coarse."""
        maps, x = [], x_BCHW
        for number, part in enumerate(self.features):
            x = part(x)
            if number % 2:  # even ones make patches and merge them
                maps.append(x.permute(0, 3, 1, 2).contiguous())
        return maps

    def layer_of(self, parameter_name: str) -> int:
        """Return 0 for the stem, else one more than the block; merging has the next one's."""
        _, number, inner = parameter_name.split(".", 2)
        if number == "0":
            return 0
        stage, in_stage = divmod(int(number) - 1, 2)  # 1, 3, 5, 7 are stages
        if in_stage:
            return self.swin.layer(stage + 1, 0)
        return self.swin.layer(stage, int(inner.split(".")[0]))


def _build(cls: type[nn.Module], swin: Swin, bands: Sequence[Band], **changes: Any) -> nn.Module:
    return cls(replace(swin, **changes), len(bands))


build_gfm = partial(_build, GfmSwin)
build_satlas = partial(_build, SatlasSwin)
