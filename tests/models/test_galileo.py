"""Galileo: the authors' numbers with the published weights, and what its parts mean."""

# B batch, C channels, H W pixels

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryo_hpo.errors import WeightsError
from cryo_hpo.models.backbones.galileo import (
    GROUPS,
    Galileo,
    encode_month,
    encode_sincos,
    galileo_weights,
    positions,
)
from cryo_hpo.models.weights.load import load_weights, read_checkpoint

Reference = Callable[[Path], tuple[dict[str, Any], Any]]
ORDER = [name for names in GROUPS.values() for name in names]


def _loaded(shared: Path, groups: Sequence[str], **options: Any) -> Galileo:
    model = Galileo(groups, **options).eval()
    load_weights(
        model, None, published=galileo_weights(), root=shared / "weights", name="galileo-nano"
    )
    return model


@pytest.mark.parametrize("case", range(5))
def test_galileo_agrees_with_its_authors(case: int, shared: Path, reference: Reference) -> None:
    described, stored = reference(shared / "parity" / "encoders" / "galileo_nano.json")
    told = described["cases"][case]
    model = _loaded(
        shared,
        told["groups"],
        patch=told["patch"],
        resolution_m=told["resolution_m"],
        month=told["month_index"],
    )
    rng = np.random.default_rng(told["input_seed"])
    image_HWC = rng.standard_normal((1, told["size"], told["size"], 1, 13), np.float32)[0, :, :, 0]
    given = [ORDER.index(name) for group in told["groups"] for name in GROUPS[group]]
    with torch.no_grad():
        *_, last = model(torch.from_numpy(image_HWC[:, :, given]).permute(2, 0, 1)[None])
    expected = stored[f"case{case}"]
    assert last.shape == tuple(told["output_shape"])
    assert np.abs(last.numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_fixed_tables_are_those_of_the_checkpoint(shared: Path) -> None:
    state = read_checkpoint(shared / "weights" / "galileo_nano" / "encoder.pt")
    times = encode_sincos(torch.arange(24.0), 32)
    months = torch.stack([encode_month(month, 32) for month in range(12)])
    torch.testing.assert_close(times, state["pos_embed"])
    torch.testing.assert_close(months, state["month_embed.weight"], atol=1e-5, rtol=0)


def test_every_tensor_of_the_checkpoint_is_used_or_listed(shared: Path) -> None:
    state = read_checkpoint(shared / "weights" / "galileo_nano" / "encoder.pt")
    model = Galileo(tuple(GROUPS))
    rules = galileo_weights()
    adapted = rules.adapt(model, state)
    assert set(model.state_dict()) <= set(adapted)
    left = sorted({key.split(".")[0] for key in set(adapted) - set(model.state_dict())})
    assert left == [
        "month_embed",
        "pos_embed",
        "sp_channel_embed",
        "space_embed",
        "st_channel_embed",
        "static_embed",
        "t_channel_embed",
        "time_embed",
    ]


def test_another_file_in_its_place_is_noticed(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "galileo_nano"
    folder.mkdir()
    torch.save({"pos_embed": torch.zeros(1)}, folder / "encoder.pt")
    with pytest.raises(WeightsError, match="must have the sha256 eab6"):
        load_weights(
            Galileo(["S1"]), None, published=galileo_weights(), root=tmp_path, name="galileo-nano"
        )


def test_order_of_rows_and_columns_in_the_position() -> None:
    place = positions(2, 3, 8, scale=1.0).reshape(2, 3, 8)
    assert torch.equal(place[0, :, :4], place[1, :, :4])  # the first half tells columns
    assert torch.equal(place[:, 0, 4:], place[:, 2, 4:])  # the second half tells rows
    assert not torch.equal(place[0, 1], place[1, 0])


def test_oblong_images_and_gradients_of_all_parameters() -> None:
    model = Galileo(["S1", "S2_RGB"], patch=4).train()
    levels = model(torch.randn(2, 5, 16, 24))
    assert [tuple(level.shape) for level in levels] == [(2, 128, 4, 6)] * 4
    sum(level.square().mean() for level in levels).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_stochastic_depth_acts_in_training_only() -> None:
    model, image = Galileo(["S1"], drop_path=0.5), torch.randn(4, 2, 16, 16)
    assert not torch.equal(model.train()(image)[-1], model(image)[-1])
    assert torch.equal(model.eval()(image)[-1], model(image)[-1])
