"""Decoders: the reference's numbers, any pyramid, and batches of one."""

# B batch, C channels, H W pixels, K classes

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cryo_hpo.models.decoders import (
    DECODERS,
    Neck,
    UNetDecoder,
    UPerNet,
    average_by_products,
    is_pyramid,
)

Reference = Callable[[Path], tuple[dict[str, Any], Any]]
Fill = Callable[[nn.Module, dict[str, dict[str, Any]]], None]

PYRAMIDS = {
    "one level": ((24,), (16,)),
    "flat": ((24, 24, 24, 24), (16, 16, 16, 16)),
    "flat, six": ((8,) * 6, (8,) * 6),
    "from full size": ((4, 8, 16, 32, 32), (1, 2, 4, 8, 16)),
    "convolutional": ((8, 12, 16, 24, 32), (2, 4, 8, 16, 32)),
    "two equal": ((8, 12, 16, 16), (4, 8, 16, 16)),
    "leaps": ((8, 16), (2, 16)),
}


@pytest.mark.parametrize(
    "name", ["odd_15", "pyramid", "pyramid_two_equal", "single_level", "vit_4levels"]
)
def test_upernet_agrees_with_the_reference(
    name: str, shared: Path, reference: Reference, fill: Fill
) -> None:
    described, stored = reference(shared / "parity" / "protocol" / f"upernet_{name}.json")
    channels, sizes = described["level_channels"], described["level_sizes"]
    strides = [described["output_size"] // size for size in sizes]
    if not described["pyramid"]:
        assert not is_pyramid(strides)
    decoder = UPerNet(
        channels, strides, num_classes=described["classes"], channels=described["channels"]
    )
    fill(decoder.eval(), described["weights"])
    levels = [
        torch.from_numpy(
            np.random.default_rng(100 + i).standard_normal((2, width, size, size), np.float32)
        )
        for i, (width, size) in enumerate(zip(channels, sizes, strict=True))
    ]
    with torch.no_grad():
        logits = F.interpolate(decoder(levels), size=described["output_size"], mode="bilinear")
    picked = np.random.default_rng(1).integers(0, logits.numel(), 1024)
    values = logits.flatten().numpy()[picked]
    largest = np.abs(stored["values"]).max()
    assert np.abs(values - stored["values"]).max() < 1e-5 * largest
    for name, ours in (("mean", logits.mean((0, 2, 3))), ("std", logits.std((0, 2, 3)))):
        assert np.abs(ours.numpy() - stored[name]).max() < 1e-4 * largest, name


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("name", DECODERS)
def test_logits_have_the_size_of_the_finest_level(name: str, pyramid: str) -> None:
    channels, strides = PYRAMIDS[pyramid]
    decoder = DECODERS[name](channels, strides, num_classes=3, channels=8).eval()
    levels = [torch.randn(2, c, 96 // s, 96 // s) for c, s in zip(channels, strides, strict=True)]
    finest = strides[0] if is_pyramid(strides) else strides[0] // 4
    assert decoder(levels).shape == (2, 3, 96 // finest, 96 // finest)


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("name", DECODERS)
def test_one_tile_with_the_smallest_maps_trains(name: str, pyramid: str) -> None:
    channels, strides = PYRAMIDS[pyramid]
    size = 2 * max(strides) if len(set(strides)) == 1 else max(strides)
    decoder = DECODERS[name](channels, strides, num_classes=2, channels=8).train()
    levels = [
        torch.randn(1, c, size // s, size // s) for c, s in zip(channels, strides, strict=True)
    ]
    decoder(levels).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())
    assert all(torch.isfinite(buffer).all() for buffer in decoder.buffers())


def test_unet_decoder_takes_odd_levels() -> None:
    decoder = DECODERS["unet"]((4, 8, 8), (1, 2, 4), num_classes=2, channels=8).eval()
    levels = [torch.randn(1, 4, 15, 13), torch.randn(1, 8, 8, 7), torch.randn(1, 8, 4, 4)]
    assert decoder(levels).shape == (1, 2, 15, 13)


def test_unet_decoder_of_the_classic_unet_has_its_size() -> None:
    # 14.8 M parameters in all with 13 bands, of which the encoder has 9,416,640.
    decoder = UNetDecoder((64, 128, 256, 512, 512), (1, 2, 4, 8, 16), num_classes=2, channels=256)
    widths = [conv.get_submodule("3").out_channels for conv in decoder.convs]
    assert widths == [256, 128, 64, 64]
    assert round(sum(p.numel() for p in decoder.parameters()) / 1e6, 1) == 5.4


def test_neck_reports_the_strides_it_makes() -> None:
    neck = Neck((8, 8, 8, 8), (16, 16, 16, 16))
    maps = neck([torch.randn(1, 8, 6, 6)] * 4)
    assert [96 // level.shape[-1] for level in maps] == list(neck.strides) == [4, 8, 16, 32]


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(6, 6), (7, 7), (5, 14), (2, 3)])
def test_pooling_by_products_gives_the_means_of_the_cells(cells, size):
    """What a GPU computes where it has to repeat every bit."""
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = torch.nn.functional.adaptive_avg_pool2d(x, cells)
    torch.testing.assert_close(average_by_products(x, cells), expected)
