"""The U-Net encoder, and batch normalization of a single value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cryo_hpo.models.backbones.unet import BatchNorm, UNet

Reference = Callable[[Path], tuple[dict[str, Any], Any]]
Fill = Callable[[nn.Module, dict[str, dict[str, Any]]], None]


def test_unet_agrees_with_the_reference(shared: Path, reference: Reference, fill: Fill) -> None:
    described, stored = reference(shared / "parity" / "encoders" / "unet_encoder.json")
    encoder = UNet(len(described["bands"])).eval()
    fill(encoder, described["checkpoint"])
    side = described["input_size"]
    image = np.random.default_rng(0).standard_normal((1, 13, side, side), np.float32)
    with torch.no_grad():
        levels = encoder(torch.from_numpy(image))
    for i, level in enumerate(reversed(levels)):  # the reference lists the deepest first
        assert level.shape == tuple(stored[f"level{i}_shape"])
        picked = np.random.default_rng(1).integers(0, level.numel(), 512)
        values, expected = level.flatten().numpy()[picked], stored[f"level{i}_values"]
        assert np.abs(values - expected).max() <= 1e-5 * np.abs(expected).max()


def test_batch_norm_is_torchs_where_there_is_a_variance() -> None:
    ours, torchs = BatchNorm(3).train(), torch.nn.BatchNorm2d(3).train()
    x = torch.randn(1, 3, 1, 2)
    assert torch.equal(ours(x), torchs(x))
    torch.testing.assert_close(ours.running_var, torchs.running_var, rtol=0, atol=0)


def test_batch_norm_of_one_value_uses_and_keeps_the_running_statistics() -> None:
    norm = BatchNorm(2).train()
    norm.running_mean = torch.tensor([1.0, 2.0])
    result = norm(torch.tensor([3.0, 2.0]).reshape(1, 2, 1, 1))
    assert result.flatten().tolist() == pytest.approx([2.0, 0.0], abs=1e-4)
    assert norm.running_mean.tolist() == [1.0, 2.0]
    assert norm.num_batches_tracked == 0
