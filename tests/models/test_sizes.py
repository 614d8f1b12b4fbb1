"""Images of other sizes than the one that an encoder's tables of positions are for."""

# B batch, C channels, H W pixels

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from cryo_hpo.bands import BANDS
from cryo_hpo.models import ENCODERS
from cryo_hpo.models.backbones.positions import (
    encode_places,
    encode_places_and_time,
    encode_sincos,
    measure_alibi,
)
from cryo_hpo.models.backbones.vit import resample

pytestmark = pytest.mark.usefixtures("tiny_encoders")
S2 = tuple(band for band in BANDS.values() if band.sensor == "sentinel-2")
SIZED = [name for name in ENCODERS if name not in ("unet", "galileo-nano", "presto")]
COMPUTED = ("prithvi", "s12-moco", "s12-mae")  # sines and cosines, computed anew for every grid
FROM, TO = 64, 96
# Windows are no larger than the coarsest map, so the size must leave them whole.
SIZES = {"gfm-swin": (192, 256)}


def _build(name: str, size: int, **more: Any) -> Any:
    card = ENCODERS[name]
    torch.manual_seed(0)
    return card.build(card.bands or S2, size=size, **more).eval()


def _image(name: str, height: int, width: int) -> Tensor:
    num_bands = len(ENCODERS[name].bands or S2)
    return torch.randn(2, num_bands, height, width, generator=torch.Generator().manual_seed(1))


def _interpolated(name: str, key: str, table: Tensor, like: Tensor) -> Tensor:
    """As the texts that brought them in say: bicubic, tokens without a place left as they are."""
    if key.endswith("bias_table"):
        *_, heads = table.shape
        old, new = (round((len(x) - 3) ** 0.5) for x in (table, like))
        grid = table[:-3].T.reshape(1, heads, old, old)
        grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
        return torch.cat([grid.reshape(heads, -1).T, table[-3:]])
    old, new = (int(x.shape[1] ** 0.5) for x in (table, like))
    prefix = table.shape[1] - old**2
    if name == "s12-dino":
        places = table[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
        grown = F.interpolate(places, scale_factor=(new + 0.1) / old, mode="bicubic")
        return torch.cat([table[:, :1], grown.flatten(2).transpose(1, 2)], dim=1)
    resampled: Tensor = resample_abs_pos_embed(
        table, [new, new], [old, old], num_prefix_tokens=prefix
    )
    return resampled


@pytest.mark.parametrize("name", SIZED)
def test_weights_of_one_size_serve_another_as_if_interpolated(name: str) -> None:
    size, wanted_size = SIZES.get(name, (FROM, TO))
    native, other = _build(name, size), _build(name, wanted_size)
    own = other.state_dict()
    for key, x in native.state_dict().items():
        computed = name.startswith(COMPUTED) and key == "pos_embed"
        if not computed:
            own[key] = x if x.shape == own[key].shape else _interpolated(name, key, x, own[key])
    other.load_state_dict(own)
    with torch.no_grad():
        found, expected = (
            model(_image(name, wanted_size, wanted_size)) for model in (native, other)
        )
    for level, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(level, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [192, 384])
def test_shifts_of_windows_are_those_of_the_size_in_use(size: int) -> None:
    """A Swin that is fitted to a size equals one that was built for it."""
    native, other = (_build("gfm-swin", side, depth=(1, 1, 2, 2)) for side in (192, size))
    native.fit_size(size)
    other.load_state_dict(native.state_dict())
    image = _image("gfm-swin", size, size)
    assert native.layers[-1].blocks[1].shift_size == ((3, 3) if size == 384 else (0, 0))
    with torch.no_grad():
        for level, wanted in zip(native(image), other(image), strict=True):
            assert torch.equal(level, wanted)
    sides = [size // (4 << stage) for stage in range(4)]
    for stage, side in zip(native.layers, sides, strict=True):
        for number, block in enumerate(stage.blocks):
            assert block.window_size == (6, 6)
            assert block.shift_size == ((3, 3) if side > 6 and number % 2 else (0, 0))


def test_below_a_window_the_weights_keep_their_shape() -> None:
    native = _build("gfm-swin", 192)
    before = {key: x.shape for key, x in native.state_dict().items()}
    native.fit_size(96)
    assert {key: x.shape for key, x in native.state_dict().items()} == before
    assert {block.window_size for stage in native.layers for block in stage.blocks} == {(6, 6)}


@pytest.mark.parametrize("name", SIZED)
def test_oblong_images_have_oblong_maps(name: str) -> None:
    encoder = _build(name, FROM)
    with torch.no_grad():
        levels = encoder(_image(name, FROM, TO))
    for level, width, stride in zip(levels, encoder.channels, encoder.strides, strict=True):
        assert level.shape == (2, width, FROM // stride, TO // stride)


def test_the_own_size_takes_the_table_itself() -> None:
    table = torch.randn(1, 17, 8)
    assert resample(table, (4, 4), native=(4, 4), prefix=1) is table
    assert resample(table, (6, 4), native=(4, 4), prefix=1).shape == (1, 25, 8)
    assert torch.equal(resample(table, (6, 6), native=(4, 4), prefix=1)[:, 0], table[:, 0])


def test_waves_are_sines_and_then_cosines() -> None:
    told = encode_sincos(torch.tensor([0.0, 1.0]), 4)
    expected = torch.tensor([[0, 0, 1, 1], [0.841471, 0.0099998, 0.540302, 0.99995]])
    torch.testing.assert_close(told, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("told", [encode_places, encode_places_and_time])
def test_columns_come_before_rows(told: Any) -> None:
    place_HWD = told((2, 3), 32).reshape(2, 3, 32)
    assert torch.equal(place_HWD[0, :, :12], place_HWD[1, :, :12])
    assert torch.equal(place_HWD[:, 0, 16:], place_HWD[:, 2, 16:])
    assert not torch.equal(place_HWD[0, 1], place_HWD[1, 0])


def test_attention_falls_with_the_distance_at_the_slope_of_its_head() -> None:
    bias = measure_alibi((3, 4), 16)
    assert bias.shape == (1, 16, 12, 12)
    assert bias[0, 0, 0, 0] == 0
    assert bias[0, 0, 0, 5].item() == pytest.approx(-(2**0.5) * 2**-0.5)  # one row, one column
    assert bias[0, 15, 0, 3].item() == pytest.approx(-3 * 2**-8)
