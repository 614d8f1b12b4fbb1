"""Define THOR: patch embedding per band, tokens per band group, attention falling with distance."""

# B batch, C channels, G groups, N tokens, D values of a token, H heads or height, W width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...bands import Band
from .positions import Grid, encode_sincos, measure_alibi
from .vit_blocks import Blocks, ViTBlocks, init_weights

# Groups of pretraining, then those of Cryo-Bench; the index of a group is its code.
GROUPS = (
    ("B2", "B3", "B4", "B8"),
    ("B5", "B6", "B7", "B8A", "B11", "B12"),
    ("B1", "B9"),
    ("VH", "VV"),
    ("HV", "HH"),
)
REFERENCE_PATCH = 4  # pixels of the finest ground size whose code is 1
CODES = {192: 32, 384: 64, 768: 128}  # values of a token that encode its group; else a quarter


@dataclass(frozen=True, slots=True, kw_only=True)
class Thor(Blocks):
    """Hold the sizes of a THOR.

    Attributes:
        patch: Side of a patch, pixels.
        size: Unused, since no table depends on it; present so that all encoders have one.
        counts_present: Whether the groups that are given are numbered, as in Cryo-Bench, instead
            of each having the code of its pretraining.
    """

    norm_all: bool = True
    patch: int = 16
    size: int = 256
    counts_present: bool = False


class ThorEncoder(ViTBlocks):
    """Compute levels of THOR, all at the stride of its patch: means over the groups that are given.

    All bands are assumed to have one ground size, since a dataset's layers lie on one grid.

    Args:
        thor: Sizes of the transformer.
        names: Bands of the input, in their order, each one of `GROUPS`.

    Source:
        arXiv:2601.16011 (THOR); the features that Cryo-Bench reads.
    """

    code_GD: Tensor

    def __init__(self, thor: Thor, names: Sequence[str]) -> None:
        super().__init__(thor, stride=thor.patch)
        self.heads = thor.heads
        self.patch_embed = nn.ModuleDict(
            {name: nn.Conv2d(1, thor.dim, thor.patch, thor.patch) for name in names}
        )
        self.names = tuple(names)
        present = [i for i, group in enumerate(GROUPS) if set(group) & set(names)]
        self.members = [[names.index(n) for n in GROUPS[i] if n in names] for i in present]
        codes = list(range(len(present))) if thor.counts_present else present
        self.register_buffer("code_GD", _encode_groups(thor, codes), persistent=False)
        init_weights(self)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, shallow to deep."""
        groups = [self._project(x_BCHW, group) for group in self.members]
        grid: Grid = (groups[0].shape[2], groups[0].shape[3])
        tokens = [
            x_BDHW.flatten(2).transpose(1, 2) + code_D
            for x_BDHW, code_D in zip(groups, self.code_GD, strict=True)
        ]
        bias_1HNN = measure_alibi(grid, self.heads, device=x_BCHW.device)
        mask = bias_1HNN.repeat(1, 1, len(groups), len(groups))
        return self.read(torch.cat(tokens, dim=1), grid, parts=len(groups), attn_mask=mask)

    def _project(self, x_BCHW: Tensor, group: Sequence[int]) -> Tensor:
        """Return the mean of the projections of a group's bands, (B, D, H, W)."""
        made = [self.patch_embed[self.names[i]](x_BCHW[:, i : i + 1]) for i in group]
        return torch.stack(made).mean(dim=0)


def _encode_groups(thor: Thor, codes: Sequence[int]) -> Tensor:
    """Return group codes (G, D): the code of the patch's ground size, then that of each group."""
    width = CODES.get(thor.dim, thor.dim // 4)
    place = torch.tensor(codes, dtype=torch.float64)
    size = torch.full_like(place, thor.patch / REFERENCE_PATCH)
    return torch.cat([encode_sincos(size, thor.dim - width), encode_sincos(place, width)], dim=1)


def build_thor(thor: Thor, bands: Sequence[Band], **changes: Any) -> nn.Module:
    """Build THOR for some of its bands, with some of its values changed."""
    return ThorEncoder(replace(thor, **changes), [band.name for band in bands])
