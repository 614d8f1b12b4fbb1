"""Encode the positions of tokens: sines and cosines of places, and distances between places."""

# N tokens, D values of a token, H heads

from __future__ import annotations

import torch
from torch import Tensor

Grid = tuple[int, int]  # rows, columns
PERIOD = 10000.0


def encode_sincos(place_N: Tensor, dim: int) -> Tensor:
    """Return (N, dim): sines, then cosines, of each place at dim / 2 falling frequencies.

    Source:
        Vaswani et al. 2017, arXiv:1706.03762, with sines and cosines apart as in MAE,
        He et al. 2021, arXiv:2111.06377.
    """
    steps = torch.arange(dim // 2, dtype=torch.float64, device=place_N.device) / (dim / 2)
    angle = place_N.double()[:, None] / PERIOD**steps
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def list_places(grid: Grid, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the column and the row (N) of every token, row by row."""
    rows, columns = (torch.arange(side, device=device) for side in grid)
    return columns.repeat(grid[0]), rows.repeat_interleave(grid[1])


def encode_places(
    grid: Grid, dim: int, *, scale: float = 1.0, device: torch.device | None = None
) -> Tensor:
    """Return position codes (N, dim): half of the values for the column, half for the row.

    Args:
        grid: Rows and columns.
        dim: Values per place.
        scale: Factor of the places: the ground size of a pixel for Scale-MAE, Reed et al. 2022,
            arXiv:2212.14532.
        device: Device of the result.
    """
    return torch.cat(
        [encode_sincos(place * scale, dim // 2) for place in list_places(grid, device)], dim=1
    )


def encode_places_and_time(grid: Grid, dim: int, *, device: torch.device | None = None) -> Tensor:
    """Return position codes (N, dim) at the first time step: 6/16 column, 6/16 row, 4/16 time.

    Source:
        Jakubik et al. 2023, arXiv:2310.18660 (Prithvi).
    """
    columns, rows = (encode_sincos(place, dim // 16 * 6) for place in list_places(grid, device))
    now = encode_sincos(torch.zeros(1, device=device), dim // 16 * 4).expand(len(rows), -1)
    return torch.cat([columns, rows, now], dim=1)


def measure_alibi(grid: Grid, heads: int, *, device: torch.device | None = None) -> Tensor:
    """Return the attention bias (1, H, N, N): lower the further two tokens are apart.

    Source:
        Fuller et al. 2023, arXiv:2311.00566 (CROMA), with the slopes of ALiBi,
        Press et al. 2021, arXiv:2108.12409.
    """
    place_N2 = torch.stack(list_places(grid, device), dim=1).float()
    apart_NN = (place_N2[:, None] - place_N2[None]).square().sum(dim=-1).sqrt()
    slopes_H = _choose_slopes(heads).to(apart_NN.device)
    return -slopes_H[:, None, None] * apart_NN[None, None]


def _choose_slopes(heads: int) -> Tensor:
    """Return the slopes of the heads (H): 2^(-8/H), 2^(-16/H), ... for powers of two.

    Other numbers of heads get the slopes of the next lower power, then every second one of the
    next higher power.
    """
    lower = 2 ** (heads.bit_length() - 1)
    powers = {n: 2.0 ** (-8 / n * torch.arange(1, n + 1)) for n in (lower, 2 * lower)}
    return torch.cat([powers[lower], powers[2 * lower][::2]])[:heads]
