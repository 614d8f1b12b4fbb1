"""Encoders of two sensors: which bands go in, what is left out, and what is refused."""

# B batch, C channels, H W pixels

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cryo_hpo.bands import BANDS, Band
from cryo_hpo.errors import BandMismatch
from cryo_hpo.models import ENCODERS, plan_bands
from cryo_hpo.models.backbones.thor import GROUPS
from cryo_hpo.models.backbones.vit_blocks import average_parts
from cryo_hpo.models.weights.remap import remap_prithvi

pytestmark = pytest.mark.usefixtures("tiny_encoders")


def _named(names: str) -> tuple[Band, ...]:
    return tuple(BANDS[name] for name in names.split())


def _build(name: str, bands: tuple[Band, ...], **changes: Any) -> Any:
    torch.manual_seed(0)
    return ENCODERS[name].build(bands, **changes).eval()


@pytest.mark.parametrize(
    ("have", "taken", "masked"),
    [
        ("B4 B3 B2", "B2 B3 B4", "VV VH"),
        ("HH HV", "VV VH", "B2 B3 B4"),
        ("VV VH B4", "B4 VV VH", ""),
        ("GREY", "B4 B3 B2", "VV VH"),
    ],
)
def test_a_sensor_that_a_dataset_lacks_is_left_out_and_listed(
    have: str, taken: str, masked: str
) -> None:
    card = ENCODERS["terramind-base-s2s1"]
    plan = plan_bands(card, _named(have))
    filled = [slot.band.name for slot in plan.slots if slot.layer is not None]
    assert set(filled) == set(taken.split())
    assert {band.name for band in plan.masked} >= set(masked.split())
    assert len(plan.slots) + len(plan.masked) == len(card.bands or ())
    model = _build("terramind-base-s2s1", plan.bands)
    with torch.no_grad():
        assert model(torch.randn(1, len(plan.bands), 64, 64))[-1].shape == (1, 32, 4, 4)


def test_terramind_of_one_sensor_is_the_optical_one() -> None:
    joint = _build("terramind-base-s2s1", ENCODERS["terramind-base"].bands or ())
    alone = _build("terramind-base", ENCODERS["terramind-base"].bands or ())
    alone.load_state_dict(
        {key.removeprefix("optical."): x for key, x in joint.state_dict().items()}
    )
    image = torch.randn(2, 12, 64, 96)
    with torch.no_grad():
        for one, other in zip(joint(image), alone(image), strict=True):
            torch.testing.assert_close(one, other)


def test_both_sensors_of_croma_are_needed() -> None:
    with pytest.raises(BandMismatch, match="needs bands of every sensor; the dataset has B4"):
        plan_bands(ENCODERS["croma-joint"], _named("B4 B3 B2"))
    plan = plan_bands(ENCODERS["croma-joint"], _named("B4 VV"))
    assert (len(plan.slots), len(plan.gaps), plan.masked) == (14, 12, ())


def test_thor_takes_any_of_its_bands_by_their_own_names() -> None:
    card = ENCODERS["thor-tiny"]
    plan = plan_bands(card, _named("HV B3 HH DEM B11"))
    assert [slot.band.name for slot in plan.slots] == ["B3", "B11", "HH", "HV"]
    assert not plan.gaps
    assert [band.name for band in plan.unused] == ["DEM"]
    other = plan_bands(card, _named("RED GREEN BLUE"))
    assert [(slot.band.name, slot.layer) for slot in other.slots] == [
        ("B2", 2),
        ("B3", 1),
        ("B4", 0),
    ]


def test_a_group_of_thor_has_the_code_of_its_pretraining() -> None:
    alone = _build("thor-tiny", _named("VV VH"))
    every = _build("thor-tiny", ENCODERS["thor-tiny"].bands or ())
    radar = next(i for i, group in enumerate(GROUPS) if "VV" in group)
    assert torch.equal(alone.code_GD[0], every.code_GD[radar])
    counted = _build("thor-tiny", _named("VV VH"), counts_present=True)
    assert not torch.equal(alone.code_GD[0], counted.code_GD[0])


def test_the_order_of_thors_bands_does_not_matter() -> None:
    one, other = (_build("thor-tiny", _named(names)) for names in ("B2 B3 VV", "VV B3 B2"))
    other.load_state_dict(one.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(one(image), other(image.flip(1)), strict=True):
            torch.testing.assert_close(a, b)


def test_parts_are_averaged_place_by_place() -> None:
    x_BND = torch.arange(14.0).reshape(1, 14, 1)
    wanted = (x_BND[:, 2:8] + x_BND[:, 8:]) / 2
    assert torch.equal(average_parts(x_BND, (2, 3), 2), wanted)


@pytest.mark.parametrize(("steps", "middle"), [(1, 0), (3, 1), (4, None)])
def test_a_table_of_several_time_steps_gives_the_step_that_was_asked_for(
    steps: int, middle: int | None
) -> None:
    def read(time_step: str) -> Tensor:
        model = _build("prithvi-v2-300m", _named("B2 B3 B4 B8A B11 B12"), time_step=time_step)
        table = torch.randn(1, 1 + 16 * steps, 32, generator=torch.Generator().manual_seed(1))
        state = {f"encoder.{key}": x for key, x in model.state_dict().items()}
        state["encoder.pos_embed"] = table
        state["encoder.patch_embed.proj.weight"] = state["encoder.patch_embed.proj.weight"][
            :, :, None
        ]
        model.load_state_dict(remap_prithvi(model, state))
        return torch.cat([table, model.pos_embed], dim=1)

    first, found = read("first"), read("middle")
    table, places = first[:, 1 : 1 + 16 * steps].unflatten(1, (steps, 16)), first[:, -16:]
    assert torch.equal(places, table[:, 0])
    wanted = table[:, [1, 2]].mean(dim=1) if middle is None else table[:, middle]
    torch.testing.assert_close(found[:, -16:], wanted)
