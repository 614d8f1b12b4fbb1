"""Checkpoints: all or nothing, and messages that name the key."""

from __future__ import annotations

import argparse
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from cryo_hpo.errors import WeightsError
from cryo_hpo.models.backbones.timm import TimmBackbone, timm_weights
from cryo_hpo.models.lookup import find_encoder
from cryo_hpo.models.weights.load import fit_state, load_weights, read_checkpoint
from cryo_hpo.models.weights.published import Weights

LITE = "tf_efficientnet_lite0"
FILE = f"{LITE}_in1k/{LITE}_features_fp16.pt"


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def _load(model: nn.Module, wanted: str | None, root: Path, **rules: Any) -> None:
    load_weights(
        model, wanted, published=Weights(file="x.pt", url="far", **rules), root=root, name="toy"
    )


def _unchanged(model: nn.Module, call: Callable[[], None]) -> str:
    before = {key: x.clone() for key, x in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        call()
    assert all(torch.equal(before[key], x) for key, x in model.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_half_precision_becomes_float32(model: nn.Module, suffix: str, tmp_path: Path) -> None:
    state = {key: torch.full_like(x, 0.5).half() for key, x in model.state_dict().items()}
    path = tmp_path / f"x.{suffix}"
    torch.save(state, path) if suffix == "pt" else safetensors.torch.save_file(state, path)
    _load(model, path.name, tmp_path)
    assert all(x.dtype == torch.float32 and (x == 0.5).all() for x in model.state_dict().values())


def test_a_checkpoint_that_lacks_and_adds_keys_names_the_first_of_each(
    model: nn.Module, tmp_path: Path
) -> None:
    state = model.state_dict()
    state["extra.weight"] = state.pop("1.weight")
    state["more"] = torch.zeros(1)
    torch.save(state, tmp_path / "x.pt")
    message = _unchanged(model, lambda: _load(model, None, tmp_path))
    assert "lack 1 key the model needs (first: 1.weight)" in message
    assert "hold 2 keys the model does not have (first: extra.weight)" in message
    assert "Nothing was loaded" in message


def test_a_tensor_of_another_shape_is_named_with_both(model: nn.Module, tmp_path: Path) -> None:
    state = model.state_dict()
    state["0.weight"] = torch.zeros(3, 5)
    torch.save(state, tmp_path / "x.pt")
    message = _unchanged(model, lambda: _load(model, None, tmp_path))
    assert "(first: 0.weight), (3, 5) where the model has (3, 2)" in message


def test_only_listed_keys_may_be_missing_or_left_over(model: nn.Module) -> None:
    state = model.state_dict()
    del state["1.bias"]
    state["head.weight"] = torch.zeros(1)
    state["0.weight"] = torch.ones(3, 2)
    rules = Weights(file="", url="", may_miss=("1.bias",), may_have=("head.",))
    fit_state(model, state, rules=rules, source="x", name="toy")
    assert (model.state_dict()["0.weight"] == 1).all()
    with pytest.raises(WeightsError, match=r"first: 1\.bias"):
        fit_state(model, state, rules=Weights(file="", url=""), source="x", name="toy")


def test_tensors_may_lie_under_an_entry(model: nn.Module, tmp_path: Path) -> None:
    state = {key: torch.ones_like(x) for key, x in model.state_dict().items()}
    torch.save({"teacher": state, "epoch": 3}, tmp_path / "x.pt")
    _load(model, None, tmp_path, entry="teacher")
    assert (model.state_dict()["0.weight"] == 1).all()
    with pytest.raises(WeightsError, match="map names to tensors under 'student'"):
        _load(model, None, tmp_path, entry="student")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x02not a pickle", b"{}"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_damaged_file_is_said_to_be(
    model: nn.Module, content: bytes, suffix: str, tmp_path: Path
) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(content)
    message = _unchanged(model, lambda: _load(model, f"x.{suffix}", tmp_path))
    assert f"x.{suffix}' must be a checkpoint of plain tensors" in message
    assert "weights_only" not in message  # torch advises to run the file's code; we never do


def test_a_truncated_checkpoint_is_said_to_be(model: nn.Module, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: len(whole) // 2])
    assert "cut short" in _unchanged(model, lambda: _load(model, "x.pt", tmp_path))


class _Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _go_off, (self.path,)


def _go_off(path: Path) -> None:
    path.touch()


class _Config(dict[str, Any]):
    """Options as many trainings keep them: keys that are attributes too."""


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"x": _Bomb(tmp_path / "gone off")}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="names to tensors"):
        read_checkpoint(tmp_path / "x.pt")
    torch.save({"x": nn.Linear(1, 1)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="names to tensors"):
        read_checkpoint(tmp_path / "x.pt")
    assert not (tmp_path / "gone off").exists()


def test_options_of_a_training_beside_the_weights_are_left_alone(
    model: nn.Module, tmp_path: Path
) -> None:
    state = {key: torch.ones_like(x) for key, x in model.state_dict().items()}
    config = _Config(lr=1e-4, inner=_Config(depth=12))
    config.__dict__["frozen"] = True
    beside = {
        "args": argparse.Namespace(lr=1e-4, output=tmp_path),
        "config": config,
        "best": np.float64(0.5),
        "history": np.arange(3),
        "bomb": _Bomb(tmp_path / "gone off"),
    }
    torch.save({"model": state, **beside}, tmp_path / "x.pt")
    _load(model, None, tmp_path, entry="model")
    assert (model.state_dict()["0.weight"] == 1).all()
    assert not (tmp_path / "gone off").exists()


def test_code_that_would_run_by_another_door_is_refused(tmp_path: Path) -> None:
    class System:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch '{tmp_path / 'gone off'}'",)

    torch.save({"x": torch.ones(1), "y": System()}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="a checkpoint of plain tensors"):
        read_checkpoint(tmp_path / "x.pt")
    assert not (tmp_path / "gone off").exists()


def test_a_missing_file_is_named(model: nn.Module, tmp_path: Path) -> None:
    message = _unchanged(model, lambda: _load(model, "mine.pt", tmp_path))
    assert str(tmp_path / "mine.pt") in message
    assert "CRYO_WEIGHTS" in message


def test_published_weights_fetched_by_hand_say_from_where_to_where(
    model: nn.Module, tmp_path: Path
) -> None:
    message = _unchanged(model, lambda: _load(model, None, tmp_path))
    assert "from far at" in message
    assert str(tmp_path / "x.pt") in message


def test_no_network_says_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("opened a socket"))
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the hub's tries
    model = TimmBackbone("resnet10t", 3)
    message = _unchanged(
        model,
        lambda: load_weights(
            model, "hub", published=timm_weights("resnet10t"), root=tmp_path, name="timm/resnet10t"
        ),
    )
    assert "huggingface.co/timm/resnet10t" in message
    assert str(tmp_path / "timm" / "resnet10t.safetensors") in message


def test_scratch_and_an_encoder_without_weights_load_nothing(
    model: nn.Module, tmp_path: Path
) -> None:
    before = model.state_dict()["0.weight"].clone()
    _load(model, "scratch", tmp_path)
    load_weights(model, None, published=None, root=tmp_path, name="toy")
    assert torch.equal(model.state_dict()["0.weight"], before)
    with pytest.raises(WeightsError, match="no published weights"):
        load_weights(model, "hub", published=None, root=tmp_path, name="toy")


@pytest.mark.parametrize("num_bands", [1, 3, 6])
def test_a_timm_checkpoint_fits_any_number_of_bands(num_bands: int, shared: Path) -> None:
    model = TimmBackbone(LITE, num_bands).eval()
    root = shared / "weights"
    load_weights(model, FILE, published=timm_weights(LITE), root=root, name=LITE)
    stored = read_checkpoint(root / FILE)
    first = model.model.conv_stem.weight
    assert first.shape[1] == num_bands
    # Whole repetitions of red, green and blue answer to a gray image as the original does.
    torch.testing.assert_close(first.sum(dim=1), stored["conv_stem.weight"].sum(dim=1))
    assert torch.equal(model.model.bn1.weight, stored["bn1.weight"])


@pytest.mark.parametrize("num_bands", [3, 4])
@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "vit_tiny_patch16_224"])
def test_the_checkpoint_of_a_whole_timm_model_fits_its_backbone(name: str, num_bands: int) -> None:
    rules = timm_weights(name)
    assert rules is not None
    whole, model = timm.create_model(name), TimmBackbone(name, num_bands)
    adapted = rules.adapt(model, whole.state_dict())
    fit_state(model, adapted, rules=rules, source="whole", name=name)
    state = model.state_dict()
    assert all(torch.equal(x, adapted[key]) for key, x in state.items())


def test_a_checkpoint_of_another_encoder_is_refused(shared: Path) -> None:
    model = find_encoder("timm/resnet10t").build([None] * 3)
    message = _unchanged(
        model,
        lambda: load_weights(
            model, FILE, published=timm_weights("resnet10t"), root=shared / "weights", name="other"
        ),
    )
    assert "lack" in message
