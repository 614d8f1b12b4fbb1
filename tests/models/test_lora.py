"""Low-rank adapters: contracts over every encoder, and what is refused."""

# B batch, C bands, K classes, H W pixels

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from cryo_hpo.bands import BANDS, Band
from cryo_hpo.errors import SpecError, WeightsError
from cryo_hpo.models import (
    ENCODERS,
    Segmenter,
    add_adapters,
    build,
    freeze,
    is_adapted,
    merge_adapters,
)
from cryo_hpo.models.backbones.timm import timm_facts
from cryo_hpo.models.lora import LoraLinear
from cryo_hpo.models.segmenter import FINGERPRINT
from cryo_hpo.training.optimizer import check_groups_cover_model, groups, make_optimizer

from ..support.crops import side_of

pytestmark = pytest.mark.usefixtures("tiny_encoders")

WITHOUT = ("unet", "gfm-swin", "satlasnet-swinv2b", "timm/resnet10t", "timm/convnext_atto")
# A plain transformer, BEiT with its biases beside the layer, DINOv3, and one with a gated MLP.
TIMM = {
    "timm/vit_tiny_patch16_224": {},
    "timm/beit_base_patch16_224": {"embed_dim": 48, "depth": 4, "num_heads": 3},
    "timm/vit_small_patch16_dinov3": {"embed_dim": 48, "depth": 4, "num_heads": 3},
    "timm/eva02_tiny_patch14_224": {"embed_dim": 48, "depth": 4, "num_heads": 3},
}
ADAPTABLE = (*(name for name in ENCODERS if name not in WITHOUT), *TIMM)
LORA: dict[str, Any] = {"rank": 2, "alpha": 8.0, "dropout": 0.0, "targets": "attention+mlp"}
Make = Callable[..., Segmenter]


def _bands(encoder: str) -> tuple[Band, ...]:
    """Colors, but for encoders of radar only."""
    bands = ENCODERS[encoder].bands if encoder in ENCODERS else None
    if bands is not None and ENCODERS[encoder].needs_all:
        return bands
    if bands is not None and all(band.sensor == "sar" for band in bands):
        return bands
    return tuple(BANDS[name] for name in ("B2", "B3", "B4"))


def _image(encoder: str) -> Tensor:
    side = side_of(encoder)
    return torch.randn(2, len(_bands(encoder)), side, side)


@pytest.fixture(autouse=True)
def small_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build some of timm's models with few and narrow blocks."""
    for name in TIMM:
        timm_facts(name.removeprefix("timm/"))
    create = timm.create_model

    def create_small(name: str, **options: Any) -> Any:
        return create(name, **{**TIMM.get(f"timm/{name}", {}), **options})

    monkeypatch.setattr(timm, "create_model", create_small)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(encoder: str, **lora: Any) -> Segmenter:
        """A model with adapters; the seed decides, so that two calls share the weights."""
        torch.manual_seed(0)
        model = build(
            encoder,
            "upernet",
            bands=_bands(encoder),
            num_classes=3,
            size=side_of(encoder),
            channels=8,
            weights="scratch",
            weights_root=tmp_path,
        )
        if lora:
            add_adapters(model, name=encoder, **lora)
        return model

    return make


def _train(model: Segmenter, encoder: str, steps: int = 2) -> None:
    """Take steps; the second also changes the matrix that a product of zero hides at first."""
    found = groups(model, lr=0.01, weight_decay=0.0, encoder_lr_scale=1.0, layer_decay=0.5)
    check_groups_cover_model(model, found)
    optimizer = make_optimizer("adamw", model, found)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(model(_image(encoder)).square().mean())
        optimizer.step()


def _norms(encoder: nn.Module) -> set[str]:
    return {
        f"{outer}.{inner}"
        for outer, module in encoder.named_modules()
        if isinstance(module, nn.LayerNorm)
        for inner, _ in module.named_parameters()
    }


@pytest.mark.parametrize("encoder", ADAPTABLE)
def test_an_encoder_starts_as_the_frozen_one_and_changes_only_adapters_and_norms(
    make: Make, encoder: str
) -> None:
    frozen, model = make(encoder).eval(), make(encoder, **LORA).eval()
    freeze(frozen)
    image = _image(encoder)
    with torch.no_grad():
        assert torch.equal(frozen(image), model(image))
    before = {key: x.clone() for key, x in model.named_parameters()}
    buffers = {key: x.clone() for key, x in model.get_submodule("encoder").named_buffers()}
    _train(model.train(), encoder)
    changed = {key for key, x in model.named_parameters() if not torch.equal(before[key], x)}
    inside = {key.removeprefix("encoder.") for key in changed if key.startswith("encoder.")}
    adapters = {
        key for key, _ in model.get_submodule("encoder").named_parameters() if "lora" in key
    }
    assert adapters
    assert adapters <= inside <= adapters | _norms(model.get_submodule("encoder"))
    assert any("norm" in key for key in inside) or not _norms(model.get_submodule("encoder"))
    after = dict(model.get_submodule("encoder").named_buffers())
    assert all(torch.equal(x, after[key]) for key, x in buffers.items())


@pytest.mark.parametrize("encoder", ADAPTABLE)
def test_a_checkpoint_holds_what_was_trained_and_restores_it(make: Make, encoder: str) -> None:
    model = make(encoder, **LORA)
    _train(model.train(), encoder)
    state = model.eval().state_dict()
    trained = {key for key, x in model.named_parameters() if x.requires_grad}
    decoder = {f"decoder.{key}" for key in model.decoder.state_dict()}
    assert set(state) == trained | decoder | {FINGERPRINT}
    other = make(encoder, **LORA).eval()
    image = _image(encoder)
    with torch.no_grad():
        assert not torch.equal(other(image), model(image))
        other.load_state_dict(state)
        assert torch.equal(other(image), model(image))
        twin = copy.deepcopy(model)
        assert torch.equal(twin(image), model(image))
        assert set(twin.state_dict()) == set(state)


# Of float32 sums in another order, relative to the largest value; Presto adds up more terms a pixel.
ROUNDING = {"presto": 2e-6}


@pytest.mark.parametrize("encoder", ADAPTABLE)
def test_merged_adapters_compute_the_same_in_a_plain_model(make: Make, encoder: str) -> None:
    model = make(encoder, **LORA)
    _train(model.train(), encoder)
    image = _image(encoder)
    with torch.no_grad():
        expected = model.eval()(image)
        merge_adapters(model)
        assert not is_adapted(model)
        merged = model(image)
        plain = make(encoder).eval()
        plain.load_state_dict(model.state_dict())
        again = plain(image)
    limit = ROUNDING.get(encoder, 1e-6) * expected.abs().max().item()
    torch.testing.assert_close(merged, expected, rtol=0, atol=limit)
    torch.testing.assert_close(again, merged, rtol=0, atol=0)


@pytest.mark.parametrize("encoder", WITHOUT)
def test_an_encoder_without_plain_transformer_blocks_is_refused(make: Make, encoder: str) -> None:
    with pytest.raises(SpecError, match="adapts plain transformer blocks, and encoder") as caught:
        make(encoder, **LORA)
    assert f"'{encoder}' has none. Set model.tune to full or frozen" in str(caught.value)


def test_a_rank_above_a_layer_is_refused(make: Make) -> None:
    with pytest.raises(SpecError, match=r"model\.lora\.rank is 64, above .* 'vit-b16', 32"):
        make("vit-b16", **{**LORA, "rank": 64})


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("attention", {"attn.qkv", "attn.proj"}),
        ("mlp", {"mlp.fc1", "mlp.fc2"}),
        ("attention+mlp", {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}),
    ],
)
def test_targets_choose_the_layers(make: Make, targets: str, names: set[str]) -> None:
    model = make("galileo-nano", **{**LORA, "targets": targets})
    adapted = [key for key, x in model.named_modules() if isinstance(x, LoraLinear)]
    assert {".".join(key.split(".")[-2:]) for key in adapted} == names
    assert len(adapted) == len(names) * len(list(model.get_submodule("encoder.blocks").children()))


def test_dropout_acts_in_training_only(make: Make) -> None:
    model, image = make("vit-b16", **{**LORA, "dropout": 0.5}), _image("vit-b16")
    with torch.no_grad():
        for key, x in model.named_parameters():
            if key.endswith("lora_up"):
                x.normal_()
        encoder = model.get_submodule("encoder")
        assert not torch.equal(encoder.train()(image)[-1], encoder(image)[-1])
        assert torch.equal(encoder.eval()(image)[-1], encoder(image)[-1])


def test_adapters_of_deeper_blocks_learn_faster_under_layer_decay(make: Make) -> None:
    model = make("timm/vit_tiny_patch16_224", **LORA)
    found = groups(model, lr=1.0, weight_decay=0.1, encoder_lr_scale=1.0, layer_decay=0.5)
    check_groups_cover_model(model, found)
    rates = {name: group.lr for group in found for name in group.parameters}
    stem = "encoder.model.blocks.{}.attn.qkv.lora_down"
    assert rates[stem.format(3)] == 2 * rates[stem.format(2)]
    decay = {name: group.weight_decay for group in found for name in group.parameters}
    assert decay[stem.format(3)] == 0.1


def test_adapters_of_other_weights_are_refused(make: Make) -> None:
    model = make("vit-b16", **LORA)
    other = make("vit-b16")
    with torch.no_grad():
        other.get_parameter("encoder.blocks.1.attn.qkv.weight")[0, 0] += 1e-3
    add_adapters(other, name="vit-b16", **LORA)
    before = {key: x.clone() for key, x in other.named_parameters()}
    with pytest.raises(WeightsError, match="belong to other encoder weights"):
        other.load_state_dict(model.state_dict())
    assert all(torch.equal(before[key], x) for key, x in other.named_parameters())
    with pytest.raises(WeightsError, match="belong to other encoder weights"):
        other.load_state_dict(make("vit-b16").state_dict())


def test_the_meta_device_holds_no_numbers(make: Make) -> None:
    with torch.device("meta"):
        model = make("galileo-nano", **LORA)
    assert {x.device.type for x in model.parameters()} == {"meta"}
    share = sum(x.numel() for x in model.get_submodule("encoder").parameters() if x.requires_grad)
    assert 0 < share < 0.1 * sum(x.numel() for x in model.get_submodule("encoder").parameters())
