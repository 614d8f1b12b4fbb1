"""Parameter groups, AdamW and schedules."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.bands import BANDS
from cryo_hpo.errors import SpecError, UnknownName
from cryo_hpo.models import ENCODERS, Segmenter, build, freeze
from cryo_hpo.training.optimizer import (
    SCHEDULES,
    check_groups_cover_model,
    groups,
    make_optimizer,
    schedule,
)

from ..support.crops import side_of

Make = Callable[[str], Segmenter]
NAMES = (
    *ENCODERS,
    "timm/resnet10t",
    "timm/convnext_atto",
    "timm/vit_tiny_patch16_224",
    "timm/tf_efficientnet_lite0",
    "timm/swin_tiny_patch4_window7_224",
)
RATES: dict[str, Any] = {
    "lr": 1e-3,
    "weight_decay": 0.05,
    "encoder_lr_scale": 0.5,
    "layer_decay": 0.8,
}


pytestmark = pytest.mark.usefixtures("tiny_encoders")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(encoder: str) -> Segmenter:
        return build(
            encoder,
            "unet",
            bands=[BANDS[name] for name in ("B2", "B3", "B4", "VV", "VH")],
            num_classes=2,
            size=side_of(encoder),
            channels=8,
            width=4 if encoder == "unet" else None,
            weights="scratch",
            weights_root=tmp_path,
        )

    return make


@pytest.mark.parametrize("name", NAMES)
def test_every_trainable_parameter_is_in_exactly_one_group(make: Make, name: str) -> None:
    with torch.device("meta"):
        model = make(name)
    found = groups(model, **RATES)
    check_groups_cover_model(model, found)
    assert sum(group.num_values for group in found) == sum(p.numel() for p in model.parameters())
    assert len({group.name for group in found}) == len(found)


@pytest.mark.parametrize("name", NAMES)
def test_rates_fall_from_the_decoder_to_the_stem(make: Make, name: str) -> None:
    with torch.device("meta"):
        model = make(name)
    last = model.encoder.num_layers - 1
    for group in groups(model, **RATES):
        if group.part == "decoder":
            assert group.lr == RATES["lr"]
        else:
            assert group.lr == pytest.approx(1e-3 * 0.5 * 0.8 ** (last - group.layer))


@pytest.mark.parametrize("name", NAMES)
def test_norms_biases_and_embeddings_do_not_decay(make: Make, name: str) -> None:
    with torch.device("meta"):
        model = make(name)
    parameters = dict(model.named_parameters())
    for group in groups(model, **RATES):
        assert group.weight_decay == (0.05 if group.decay else 0.0)
        for parameter in group.parameters:
            if group.decay:
                assert parameters[parameter].ndim > 1
                assert parameter.endswith("weight")
            elif parameters[parameter].ndim > 1:
                added = ("_embed", "_token", "weight_tokens", "mod_emb", "bias_table")
                assert parameter.endswith((*added, "logit_scale"))


def test_under_cryo_bench_everything_decays(make: Make) -> None:
    model = make("timm/vit_tiny_patch16_224")
    found = groups(model, **RATES, decays_all=True)
    check_groups_cover_model(model, found)
    assert {group.weight_decay for group in found} == {0.05}
    assert sum(group.num_values for group in found) == sum(p.numel() for p in model.parameters())


def test_groups_of_one_rate_and_decay_step_like_a_single_group(make: Make) -> None:
    models = [make("unet"), make("unet")]
    models[1].load_state_dict(models[0].state_dict())
    rates = {**RATES, "encoder_lr_scale": 1.0, "layer_decay": 1.0}
    ours = make_optimizer("adamw", models[0], groups(models[0], **rates, decays_all=True))
    theirs = torch.optim.AdamW(models[1].parameters(), lr=1e-3, weight_decay=0.05)
    for step in range(3):
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            torch.manual_seed(step)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for mine, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(mine, other)


def test_frozen_parameters_are_in_no_group(make: Make) -> None:
    model = make("timm/resnet10t")
    freeze(model)
    found = groups(model, **RATES)
    check_groups_cover_model(model, found)
    assert {group.part for group in found} == {"decoder"}


def test_the_guard_names_a_parameter_in_no_or_two_groups(make: Make) -> None:
    model = make("unet")
    found = groups(model, **RATES)
    first = found[0].parameters[0]
    with pytest.raises(SpecError, match=f"'{first}' is trainable and in 0"):
        check_groups_cover_model(
            model, [replace(found[0], parameters=found[0].parameters[1:]), *found[1:]]
        )
    with pytest.raises(SpecError, match="is trainable and in 2"):
        check_groups_cover_model(model, [found[0], *found])
    freeze(model)
    with pytest.raises(SpecError, match="is frozen or absent and in 1"):
        check_groups_cover_model(model, found)


def test_adamw_steps_each_group_at_its_own_rate(make: Make) -> None:
    model = make("unet")
    found = groups(model, **RATES)
    optimizer = make_optimizer("adamw", model, found)
    assert [group["lr"] for group in optimizer.param_groups] == [group.lr for group in found]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    after = dict(model.named_parameters())
    for group in found:
        for name in group.parameters:
            # The first step of Adam is the rate times the sign of the gradient, after the decay.
            expected = before[name] * (1 - group.lr * group.weight_decay) - group.lr
            torch.testing.assert_close(after[name].detach(), expected, atol=1e-6, rtol=1e-5)


def test_multistep_is_the_references_at_every_step(shared: Path) -> None:
    stored = json.loads((shared / "parity" / "protocol" / "multistep.json").read_text())
    factor = schedule("multistep", total_steps=stored["total_steps"], warmup_steps=0)
    used = [stored["lr"] * factor(step) for step in range(stored["total_steps"])]
    assert used == stored["lr_used_at_step"]


def test_cosine_is_that_of_torch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    factor = schedule("cosine", total_steps=20, warmup_steps=0)
    for step in range(20):
        assert factor(step) == pytest.approx(annealed.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        annealed.step()
    assert factor(20) == 0


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    total=st.integers(1, 500),
    share=st.floats(0, 1),
)
def test_any_schedule_rises_while_it_warms_up_and_never_after(
    name: str, total: int, share: float
) -> None:
    warmup = int(share * total)
    cold = schedule(name, total_steps=total, warmup_steps=0)
    factor = schedule(name, total_steps=total, warmup_steps=warmup)
    values = [factor(step) for step in range(total)]
    assert all(0 < value <= 1 for value in values)
    for step, value in enumerate(values):
        warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
        assert math.isclose(value, warm * cold(step))
    rest = values[max(warmup - 1, 0) :]
    assert rest == sorted(rest, reverse=True)


def test_an_unknown_schedule_is_told_what_is_near() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'cosine'\?"):
        schedule("cosin", total_steps=1, warmup_steps=0)
