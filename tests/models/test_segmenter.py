"""Encoder and decoder together: contracts over both tables."""

# B batch, C bands, K classes, H W pixels

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cryo_hpo.bands import BANDS, Band
from cryo_hpo.errors import SpecError, UnknownName, WeightsError
from cryo_hpo.models import ENCODERS, Segmenter, build, freeze

from ..support.crops import side_of

Make = Callable[..., Segmenter]
TIMM = ("timm/resnet10t", "timm/vit_tiny_patch16_224")
BGR = tuple(BANDS[name] for name in ("B2", "B3", "B4"))
RADAR = (BANDS["VV"], BANDS["VH"])


def _bands(encoder: str) -> tuple[Band, ...]:
    """Colors, but for encoders of radar, and for those that need several sensors."""
    card = ENCODERS.get(encoder)
    if card is not None and card.needs_all:
        return card.bands or ()
    return RADAR if card is not None and card.bands == RADAR else BGR


pytestmark = pytest.mark.usefixtures("tiny_encoders")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("opened a socket"))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(encoder: str, decoder: str = "unet", **options: Any) -> Segmenter:
        width = 4 if encoder == "unet" else None
        asked: dict[str, Any] = {
            "bands": _bands(encoder),
            "num_classes": 3,
            "size": side_of(encoder),
            "channels": 8,
            "width": width,
            "weights": "scratch",
            "weights_root": tmp_path,
        }
        return build(encoder, decoder, **{**asked, **options})

    return make


# Each encoder with one decoder, and each decoder with encoders of every shape.
PAIRS = [
    *((encoder, "unet") for encoder in (*ENCODERS, *TIMM)),
    *((encoder, "upernet") for encoder in ("unet", "vit-scratch", "gfm-swin", *TIMM)),
]
each_pair = pytest.mark.parametrize(("encoder", "decoder"), PAIRS)


@each_pair
def test_logits_have_the_size_of_the_input_and_reach_every_parameter(
    make: Make, encoder: str, decoder: str
) -> None:
    size = side_of(encoder, 96)
    model = make(encoder, decoder, size=size).train()
    with torch.no_grad():
        for parameter in model.parameters():  # some residual branches start as exact zeros
            parameter.add_(0.01 * torch.randn_like(parameter))
    logits = model(torch.randn(2, len(_bands(encoder)), size, size))
    assert logits.shape == (2, 3, size, size)
    logits.square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [pytest.param(e, d, marks=[] if e in ENCODERS else pytest.mark.slow) for e, d in PAIRS],
)
def test_twenty_steps_on_one_tile_lower_the_loss(make: Make, encoder: str, decoder: str) -> None:
    torch.manual_seed(1)
    model, size = make(encoder, decoder).train(), side_of(encoder)
    mask = torch.zeros(1, size, size, dtype=torch.long)
    mask[:, :, size // 2 :] = 1
    image = torch.randn(1, len(_bands(encoder)), size, size) + 2 * mask[:, None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(model(image), mask)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@each_pair
def test_the_meta_device_holds_no_numbers_and_reads_no_weights(
    make: Make, encoder: str, decoder: str
) -> None:
    with torch.device("meta"):
        model = make(encoder, decoder, weights=None)  # an empty folder: reading would raise
    assert {p.device.type for p in model.parameters()} == {"meta"}
    size = side_of(encoder)
    image = torch.empty(1, len(_bands(encoder)), size, size, device="meta")
    assert model(image).shape == (1, 3, size, size)


def test_published_weights_are_the_default(make: Make) -> None:
    with pytest.raises(WeightsError, match="set to stay offline"):
        make("galileo-nano", weights=None)


@pytest.mark.parametrize("name", [*ENCODERS, *TIMM])
def test_a_frozen_encoder_stays_in_evaluation_and_gets_no_gradient(make: Make, name: str) -> None:
    model = make(name).train()
    freeze(model)
    model.train()
    encoder = model.get_submodule("encoder")
    assert model.decoder.training
    assert not any(module.training for module in encoder.modules())
    before = {key: x.clone() for key, x in encoder.state_dict().items()}
    size = side_of(name)
    torch.autograd.backward(model(torch.randn(2, len(_bands(name)), size, size)).mean())
    assert all(p.grad is None for p in encoder.parameters())
    assert all(p.grad is not None for p in model.decoder.parameters())
    assert all(torch.equal(x, before[key]) for key, x in encoder.state_dict().items())


def test_freezing_an_evaluated_model_does_not_start_training(make: Make) -> None:
    model = make("unet").eval()
    freeze(model)
    assert not model.training


def test_the_encoder_sees_its_bands_in_its_order(make: Make) -> None:
    model = make("galileo-nano", bands=BGR).eval()
    other = make("galileo-nano", bands=BGR[::-1]).eval()
    other.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(image), other(image.flip(1)))


def test_a_gray_dataset_trains_an_encoder_of_colors(make: Make) -> None:
    model = make("galileo-nano", bands=[BANDS["GREY"]])
    assert model(torch.randn(1, 1, 64, 64)).shape == (1, 3, 64, 64)


def test_stochastic_depth_reaches_the_encoder(make: Make) -> None:
    image = torch.randn(4, 3, 64, 64)
    for drop_path, same in ((0.0, True), (0.5, False)):
        model = make("timm/vit_tiny_patch16_224", drop_path=drop_path)
        encoder = model.get_submodule("encoder").train()
        with torch.no_grad():
            assert torch.equal(encoder(image)[-1], encoder(image)[-1]) is same


@pytest.mark.parametrize(
    ("encoder", "options", "says"),
    [
        ("unet", {"drop_path": 0.1}, "Encoder 'unet' has no model.drop_path, got 0.1"),
        ("timm/resnet10t", {"width": 32}, "has no model.width, got 32"),
        ("unet", {"size": 100}, "Nearest: 96, 112"),
    ],
)
def test_what_an_encoder_does_not_take_is_refused(
    make: Make, encoder: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(SpecError) as caught:
        make(encoder, **options)
    assert says in str(caught.value)


def test_an_unknown_decoder_is_told_what_is_near(make: Make) -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'upernet'\?"):
        make("unet", "upernt")


@pytest.mark.parametrize("encoder", ["unet", "timm/resnet10t"])
def test_a_single_tile_of_the_smallest_size_trains(make: Make, encoder: str) -> None:
    size = 16 if encoder == "unet" else 64
    model = make(encoder, "upernet", size=size).train()
    model(torch.randn(1, 3, size, size)).mean().backward()


def test_an_encoder_that_needs_two_tiles_says_so(make: Make) -> None:
    model = make("timm/rexnet_100").train()
    with pytest.raises(SpecError, match="cannot train on one tile at a time"):
        model(torch.randn(1, 3, 64, 64))
