"""Presto: the authors' numbers with the published weights, and the dense encoder around them."""

# B batch, C channels, H W pixels, P pixels, T months

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cryo_hpo.models.backbones.galileo import encode_month
from cryo_hpo.models.backbones.presto import (
    GROUPS,
    PixelEncoder,
    Presto,
    adapt_presto,
    encode_place,
    encode_steps,
    presto_weights,
)
from cryo_hpo.models.weights.load import load_weights, read_checkpoint

Reference = Callable[[Path], tuple[dict[str, Any], Any]]
FILE = "presto/model.safetensors"


def _pixels(shared: Path, groups: list[str], *, land_cover: bool) -> PixelEncoder:
    model = PixelEncoder(groups, land_cover=land_cover).eval()
    holder = torch.nn.ModuleDict({"encoder": model})
    state = adapt_presto(holder, read_checkpoint(shared / "weights" / FILE))
    own = {key: state[f"encoder.{key}"] for key in model.state_dict()}
    model.load_state_dict(own)
    return model


@pytest.mark.parametrize("case", range(5))
def test_presto_agrees_with_its_authors(case: int, shared: Path, reference: Reference) -> None:
    described, stored = reference(shared / "parity" / "encoders" / "presto.json")
    told = described["cases"][case]
    steps, pixels = told["timesteps"], told["pixels"]
    rng = np.random.default_rng(told["input_seed"])
    drawn = rng.standard_normal((pixels, steps, 17), dtype=np.float32) * np.float32(0.2)
    x_PTC = torch.from_numpy(drawn + np.float32(0.3))
    land_cover: Tensor | None = None
    if told["dynamic_world"]:
        land_cover = torch.from_numpy(rng.integers(0, 9, (pixels, steps)))
    values = {g: x_PTC[:, :, described["channel_groups"][g]] for g in told["groups"]}
    model = _pixels(shared, told["groups"], land_cover=land_cover is not None)
    place_P3 = encode_place(*told["latlon"]).expand(pixels, -1)
    with torch.no_grad():
        *_, last = model(values, place_P3, month=told["month_index"], land_cover_PT=land_cover)
    expected = stored[f"case{case}_pooled"]
    assert last.shape == expected.shape
    assert np.abs(last.numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_fixed_tables_are_those_of_the_checkpoint(shared: Path) -> None:
    state = read_checkpoint(shared / "weights" / FILE)
    months = torch.stack([encode_month(month, 32) for month in range(12)])
    torch.testing.assert_close(months, state["encoder.month_embed.weight"], atol=1e-5, rtol=0)
    steps = encode_steps(24, 64)
    torch.testing.assert_close(steps, state["encoder.pos_embed"][0], atol=1e-5, rtol=0)


def test_the_dense_encoder_sees_every_pixel_by_itself_with_the_published_weights(
    shared: Path,
) -> None:
    model = Presto(["S1", "S2_RGB"], month=3, place=(75.0, -60.0)).eval()
    load_weights(model, None, published=presto_weights(), root=shared / "weights", name="presto")
    image = torch.rand(2, 5, 8, 12)
    with torch.no_grad():
        first, last, *coarser = model(image)
        pixels = image.permute(0, 2, 3, 1).reshape(-1, 1, 5)
        values = {"S1": pixels[:, :, :2], "S2_RGB": pixels[:, :, 2:]}
        place_P3 = encode_place(75.0, -60.0).expand(len(pixels), -1)
        expected = _pixels(shared, list(values), land_cover=False)(values, place_P3, month=3)
    for level, mean in zip((first, last), expected, strict=True):
        wanted = mean.reshape(2, 8, 12, 128).permute(0, 3, 1, 2)
        torch.testing.assert_close(level, wanted, atol=1e-5, rtol=1e-5)
    assert [level.shape[-1] for level in coarser] == [6, 3]
    torch.testing.assert_close(coarser[1][0, :, 0, 0], last[0, :, :4, :4].mean(dim=(1, 2)))


def test_every_group_has_its_channels() -> None:
    assert sum(map(len, GROUPS.values())) == 17
