"""Read features at several depths of timm's transformer blocks, for vision transformers."""

# B batch, N tokens, D values of a token, H W cells of the token grid

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers.mlp import SwiGLU
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from .positions import Grid

SHARES = (4, 6, 8, 12)  # twelfths of a plain transformer's blocks after which maps are taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Hold the sizes of a plain vision transformer's blocks.

    Attributes:
        dim: Values of a token.
        depth: Number of blocks.
        heads: Number of attention heads.
        levels: Blocks after which maps are taken, 0-based; empty for those at `SHARES`.
        norm_last: Whether the last level goes through a final norm.
        norm_all: Whether every level goes through the final norm.
        eps: Epsilon of every layer norm.
        qkv_bias: Whether queries, keys and values have a bias.
        gated: Whether the MLP is a SwiGLU; MLP, projection and norms then train no bias.
        drop_path: Stochastic depth of the last block; that of the others rises to it.
    """

    dim: int
    depth: int
    heads: int
    levels: tuple[int, ...] = ()
    norm_last: bool = True
    norm_all: bool = False
    eps: float = 1e-6
    qkv_bias: bool = True
    gated: bool = False
    drop_path: float = 0.0

    @property
    def norm(self) -> Any:
        """Constructor of a layer norm for a number of values."""
        return partial(ScaleNorm if self.gated else nn.LayerNorm, eps=self.eps)

    def block(self, drop_path: float) -> nn.Module:
        """Return one block with random weights."""
        options: dict[str, Any] = {"norm_layer": self.norm, "drop_path": drop_path}
        if self.gated:
            gated: Any = partial(SwiGLU, bias=False)
            options |= {"mlp_layer": gated, "mlp_ratio": 8 / 3, "proj_bias": False}
            options["act_layer"] = nn.SiLU  # a block passes its own activation to the SwiGLU
        return Block(self.dim, self.heads, qkv_bias=self.qkv_bias, **options)


class ScaleNorm(nn.LayerNorm):
    """Normalize layers with a trained scale only; the bias is stored with the weights, unchanged."""

    def __init__(self, dim: int, *, eps: float, **where: Any) -> None:
        super().__init__(dim, eps=eps, **where)
        bias = torch.zeros_like(self.bias)
        del self.bias
        self.register_buffer("bias", bias)


class ViTBlocks(nn.Module):
    """Run blocks, with maps taken at some depths; blocks after the last level are not built.

    Args:
        blocks: Number and kind of the blocks.
        stride: Pixels per token.
    """

    def __init__(self, blocks: Blocks, *, stride: int) -> None:
        super().__init__()
        self.levels = blocks.levels or choose_levels(blocks.depth)
        self.norm_all = blocks.norm_all
        if self.levels[-1] >= blocks.depth:
            message = f"Levels {self.levels} must be below the depth, {blocks.depth}."
            raise ValueError(message)
        used = self.levels[-1] + 1
        rates = torch.linspace(0, blocks.drop_path, blocks.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(blocks.block(rate) for rate in rates[:used])
        self.norm = blocks.norm(blocks.dim) if blocks.norm_last else nn.Identity()
        self.channels: tuple[int, ...] = (blocks.dim,) * len(self.levels)
        self.strides = (stride,) * len(self.levels)
        self.num_layers = used + 1
        self.unused = tuple(f"blocks.{i}." for i in range(used, blocks.depth))

    def read(
        self, x_BND: Tensor, grid: Grid, *, parts: int = 1, **extra: Tensor | None
    ) -> list[Tensor]:
        """Return a map (B, D, H, W) per level, of the last tokens.

        Args:
            x_BND: Tokens; those before the last parts * H * W belong to no place.
            grid: H and W.
            parts: Tokens of each place, part after part; a map is their mean.
            extra: Further inputs of every block.
        """
        maps = []
        for i, block in enumerate(self.blocks):
            x_BND = block(x_BND, **extra)
            if i in self.levels:
                maps.append(x_BND)
        maps = [self.norm(x_BND) for x_BND in maps] if self.norm_all else maps
        maps[-1] = maps[-1] if self.norm_all else self.norm(x_BND)
        return [tokens_to_maps(average_parts(x_BND, grid, parts), grid) for x_BND in maps]

    def layer_of(self, parameter_name: str) -> int:
        """Return 0 for the embedding of tokens, else one more than the block."""
        part, _, inner = parameter_name.partition(".")
        if part == "blocks":
            return int(inner.split(".")[0]) + 1
        if part == "norm":  # a norm of all levels belongs to the first level's layer
            return self.levels[0] + 1 if self.norm_all else self.num_layers - 1
        return 0


def average_parts(x_BND: Tensor, grid: Grid, parts: int) -> Tensor:
    """Return the mean of the tokens of each place, of the last parts * H * W tokens."""
    if parts == 1:
        return x_BND
    num_places = grid[0] * grid[1]
    x_BND = x_BND[:, -parts * num_places :]
    return x_BND.reshape(len(x_BND), parts, num_places, -1).mean(dim=1)


def tokens_to_maps(x_BND: Tensor, grid: Grid) -> Tensor:
    """Return the last H * W tokens as maps (B, D, H, W)."""
    x_BND = x_BND[:, -grid[0] * grid[1] :]
    return x_BND.transpose(1, 2).reshape(len(x_BND), -1, *grid)


def choose_levels(depth: int) -> tuple[int, ...]:
    """Return the blocks after a third, a half, two thirds and all of the depth, 0-based."""
    return tuple(sorted({max(depth * share // 12 - 1, 0) for share in SHARES}))


def init_weights(module: nn.Module) -> None:
    """Initialize linear layers and embeddings as vision transformers do; norms keep 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for name, values in module.named_parameters():
        if name.endswith(("token", "tokens", "embed", "emb")):
            nn.init.trunc_normal_(values, std=0.02)
