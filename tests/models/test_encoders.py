"""What every encoder must do, from the table and from timm."""

# B batch, C channels, H W pixels

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cryo_hpo.bands import BANDS, Band
from cryo_hpo.errors import SpecError, UnknownName
from cryo_hpo.models.encoders import (
    ENCODERS,
    Encoder,
    _keeps_promise,
    check_size,
    find_encoder,
)
from cryo_hpo.models.inputs import Pick, plan_bands
from cryo_hpo.models.timm_backbone import timm_facts

Reference = Callable[[Path], tuple[dict[str, Any], Any]]
Fill = Callable[[nn.Module, dict[str, dict[str, Any]]], None]

TIMM = (
    "timm/resnet10t",
    "timm/convnext_atto",
    "timm/vit_tiny_patch16_224",
    "timm/tf_efficientnet_lite0",
)
LARGE = ("timm/caformer_s18", "timm/swin_tiny_patch4_window7_224")
NAMES = (*ENCODERS, *TIMM)
SENTINEL_2 = tuple(BANDS[name] for name in BANDS if BANDS[name].sensor == "sentinel-2")
DATASETS = {
    1: (BANDS["PAN"],),
    3: tuple(BANDS[name] for name in ("B4", "B3", "B2")),
    4: tuple(BANDS[name] for name in ("B8", "B2", "B3", "B4")),
    13: SENTINEL_2,
}


def _build(name: str, bands: Sequence[Band] = DATASETS[3]) -> Any:
    card = find_encoder(name)
    knobs = {"width": 4} if "width" in card.knobs else {}
    return card.build(plan_bands(card, bands).bands, **knobs)


def _size(card: Encoder) -> int:
    """An odd multiple, at least three of the coarsest cells."""
    return card.only_size or 3 * card.multiple


pytestmark = pytest.mark.usefixtures("tiny_encoders")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("opened a socket"))


@pytest.mark.parametrize("num_bands", DATASETS)
@pytest.mark.parametrize("name", NAMES)
def test_levels_have_the_promised_channels_and_strides(name: str, num_bands: int) -> None:
    card = find_encoder(name)
    plan = plan_bands(card, DATASETS[num_bands])
    encoder, size = _build(name, DATASETS[num_bands]).eval(), _size(card)
    with torch.no_grad():
        levels = encoder(Pick(plan)(torch.randn(2, num_bands, size, size)))
    assert [tuple(level.shape) for level in levels] == [
        (2, width, size // stride, size // stride)
        for width, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    assert list(encoder.strides) == sorted(encoder.strides)
    assert all(level.dtype == torch.float32 and level.isfinite().all() for level in levels)


@pytest.mark.parametrize("name", [*NAMES, *LARGE])
def test_every_parameter_has_a_layer_and_every_layer_a_parameter(name: str) -> None:
    with torch.device("meta"):
        encoder = _build(name)
    layers = {encoder.layer_of(parameter) for parameter, _ in encoder.named_parameters()}
    assert layers == set(range(encoder.num_layers))


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_counted_from_the_input(name: str) -> None:
    # A step on the last layer alone leaves the first level as it is, unless there is one layer.
    encoder, card = _build(name).eval(), find_encoder(name)
    num_bands = len(plan_bands(card, DATASETS[3]).bands)
    image = torch.randn(1, num_bands, _size(card), _size(card))
    with torch.no_grad():
        before = encoder(image)
        for parameter, values in encoder.named_parameters():
            if encoder.layer_of(parameter) == encoder.num_layers - 1:
                values.mul_(1.5).add_(0.1)
        after = encoder(image)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[-1], after[-1])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_builds_the_same_weights_whatever_was_asked_before(name: str) -> None:
    states = []
    timm_facts.cache_clear()
    _keeps_promise.cache_clear()
    for _ in range(2):  # the first time asks timm, the second remembers
        torch.manual_seed(3)
        check_size(name, _size(find_encoder(name)))
        states.append(_build(name).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_where_an_encoder_comes_from(name: str) -> None:
    card = find_encoder(name)
    assert card.name == name
    assert card.source
    assert card.licence
    assert card.default_size % card.multiple == 0
    assert card.smallest <= card.default_size


def test_a_plain_transformer_is_read_at_the_depths_of_the_reference(
    shared: Path, reference: Reference
) -> None:
    described, _ = reference(shared / "parity" / "encoders" / "vit.json")
    assert described["output_layers"] == [3, 5, 7, 11]
    encoder = _build("timm/vit_tiny_patch16_224")
    assert encoder.levels == [3, 5, 7, 11]


@pytest.mark.slow
def test_vision_transformer_agrees_with_the_reference(
    shared: Path, reference: Reference, fill: Fill
) -> None:
    described, stored = reference(shared / "parity" / "encoders" / "vit.json")
    encoder = find_encoder("timm/vit_base_patch16_224").build(DATASETS[3]).eval()
    fill(encoder, described["checkpoint"])
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    with torch.no_grad():
        levels = encoder(torch.from_numpy(image))
    for i, level in enumerate(levels):
        picked = np.random.default_rng(1).integers(0, level.numel(), 512)
        values, expected = level.flatten().numpy()[picked], stored[f"level{i}_values"]
        assert np.abs(values - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("unt", "Did you mean 'unet'?"),
        ("galileo-nan", "Did you mean 'galileo-nano'?"),
        ("timm/resnet10", "timm/resnet101"),
        ("timm/vit_tiny_patch16_224.not_a_tag", "timm/vit_tiny_patch16_224"),
        ("resnet50", "timm/resnet50"),
    ],
)
def test_an_unknown_name_is_told_what_is_near(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match="No encoder named") as caught:
        find_encoder(name)
    assert near in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("unet", 100, "multiple of 16 for encoder 'unet', got 100. Nearest: 96, 112."),
        ("unet", 8, "got 8. Nearest: 16."),
        ("galileo-nano", 8, "multiple of 8, at least 16, for encoder"),
        ("timm/vit_tiny_patch16_224", 24, "Nearest: 32."),
        ("timm/beit_base_patch16_224", 128, "must be 224 for encoder"),
        ("timm/halonet26t", 64, "Its own size is 256."),
        ("timm/levit_128", 224, "Take another encoder."),
    ],
)
def test_a_size_that_does_not_fit_is_told_the_nearest(name: str, size: int, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_size(name, size)
    assert says in str(caught.value)


def test_a_tag_chooses_published_weights() -> None:
    card = find_encoder("timm/vit_tiny_patch16_224.augreg_in21k")
    assert card.weights is not None
    assert card.weights.url.endswith("vit_tiny_patch16_224.augreg_in21k")
