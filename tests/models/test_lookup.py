"""What every encoder must do, from the table and from timm."""

# B batch, C channels, H W pixels

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cryo_hpo.bands import BANDS, Band
from cryo_hpo.errors import SpecError, UnknownName
from cryo_hpo.models.backbones.timm import timm_facts
from cryo_hpo.models.band_selection import Pick, plan_bands
from cryo_hpo.models.lookup import ENCODERS, Encoder, _keeps_promise, check_size, find_encoder

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
CARDS = dict(ENCODERS)  # at full size; tests shrink those of the table
SENTINEL_2 = tuple(BANDS[name] for name in BANDS if BANDS[name].sensor == "sentinel-2")
DATASETS = {
    1: (BANDS["PAN"],),
    3: tuple(BANDS[name] for name in ("B4", "B3", "B2")),
    4: tuple(BANDS[name] for name in ("B8", "B2", "B3", "B4")),
    13: SENTINEL_2,
}
RADAR = (BANDS["VV"], BANDS["VH"])
BOTH = (*SENTINEL_2, *RADAR)


def _build(name: str, bands: Sequence[Band] = ()) -> Any:
    card = find_encoder(name)
    knobs = {"width": 4} if "width" in card.knobs else {}
    return card.build(bands or _bands(name), **knobs)


def _datasets() -> Iterator[Any]:
    """Each encoder with every number of bands; those of radar know one band alone, or their two."""
    for name in NAMES:
        radar = name in ENCODERS and ENCODERS[name].bands == RADAR
        joint = name in ENCODERS and ENCODERS[name].needs_all
        datasets = {1: DATASETS[1], 2: RADAR} if radar else DATASETS
        for number, bands in ({15: BOTH} if joint else datasets).items():
            yield pytest.param(name, bands, id=f"{name}-{number}")


def _bands(name: str) -> tuple[Band, ...]:
    """What a build of an encoder is given here."""
    card = find_encoder(name)
    have = RADAR if card.bands == RADAR else BOTH if card.needs_all else DATASETS[3]
    return plan_bands(card, have).bands


def _size(card: Encoder) -> int:
    """An odd multiple, at least three of the coarsest cells."""
    return card.only_size or 3 * card.multiple


pytestmark = pytest.mark.usefixtures("tiny_encoders")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("opened a socket"))


@pytest.mark.parametrize(("name", "bands"), list(_datasets()))
def test_levels_have_the_promised_channels_and_strides(name: str, bands: tuple[Band, ...]) -> None:
    card = find_encoder(name)
    plan = plan_bands(card, bands)
    encoder, size = _build(name, plan.bands).eval(), _size(card)
    with torch.no_grad():
        levels = encoder(Pick(plan)(torch.randn(2, len(bands), size, size)))
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
    image = torch.randn(1, len(_bands(name)), _size(card), _size(card))
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
    assert card.license
    assert card.default_size % card.multiple == 0
    assert card.smallest <= card.default_size


def test_a_plain_transformer_is_read_at_the_depths_of_the_reference(
    shared: Path, reference: Reference
) -> None:
    described, _ = reference(shared / "parity" / "encoders" / "vit.json")
    assert described["output_layers"] == [3, 5, 7, 11]
    encoder = _build("timm/vit_tiny_patch16_224")
    assert encoder.levels == [3, 5, 7, 11]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_card_promises_what_a_build_at_full_size_is(name: str) -> None:
    card = CARDS[name]
    with torch.device("meta"):
        encoder: Any = card.build(card.bands or SENTINEL_2)
    numbers = sum(x.numel() for x in encoder.state_dict().values() if x.is_floating_point())
    assert (card.channels, card.strides) == (encoder.channels, encoder.strides)
    assert card.parameters in (numbers, None)
    assert (card.parameters is None) == (card.bands is None and not card.spectral)


@pytest.mark.parametrize("name", ENCODERS)
def test_cryo_bench_reads_its_own_levels(name: str) -> None:
    card = CARDS[name].under("cryo-bench")
    with torch.device("meta"):
        encoder: Any = card.build(card.bands or SENTINEL_2)
    strides = {"gfm-swin": (8, 16, 32, 32), "prithvi-100m": (16,)}
    assert encoder.strides == strides.get(name, CARDS[name].strides)
    levels = {"croma-optical": (3, 5, 7, 11), "prithvi-100m": (11,), "scale-mae-l": (7, 11, 15, 23)}
    levels |= {"prithvi-v2-300m": (7, 11, 15, 23), "croma-joint": (3, 5, 7, 11)}
    levels |= {"thor-tiny": (3, 5, 7, 11), "thor-large": (5, 11, 17, 23)}
    if name in levels:
        assert encoder.levels == levels[name]
    if name == "s12-dino":
        assert not any(key.endswith("attn.qkv.bias") for key in encoder.state_dict())


def test_dinov3_of_satellite_images_is_found_by_name() -> None:
    card = find_encoder("timm/vit_large_patch16_dinov3.sat493m")
    assert (card.native_size, card.multiple, card.license) == (256, 16, "dinov3-license")
    assert card.weights is not None
    assert card.weights.url == "https://huggingface.co/timm/vit_large_patch16_dinov3.sat493m"
    with torch.device("meta"):
        encoder: Any = card.build(SENTINEL_2[:3])
    assert (encoder.levels, encoder.strides) == ([7, 11, 15, 23], (16,) * 4)


def test_the_right_order_of_bands_is_that_of_pretraining() -> None:
    def order(name: str, protocol: str) -> str:
        return " ".join(band.name for band in CARDS[name].under(protocol).bands or ())

    assert order("satlasnet-swinv2b", "corrected") == "B4 B3 B2 B5 B6 B7 B8 B11 B12"
    assert order("satlasnet-swinv2b", "cryo-bench") == "B2 B3 B4 B5 B6 B7 B8 B11 B12"
    assert order("terramind-base", "corrected").endswith("B8A B9 B11 B12")
    assert order("terramind-base", "cryo-bench").endswith("B8A B10 B11 B12")
    assert CARDS["unet"].under("cryo-bench") is CARDS["unet"]
    assert order("prithvi-100m", "cryo-bench@1") == order("prithvi-100m", "corrected")
    assert order("prithvi-100m", "cryo-bench@3") == "B2 B3 B4 B8A"


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
    assert len(str(caught.value)) < 800  # a name for every encoder


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
