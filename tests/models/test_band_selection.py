"""Which bands go where, for every kind of encoder, and that the right pixels arrive there."""

# B batch, C channels, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.bands import BANDS, Band, BandPlan, Missing, Slot
from cryo_hpo.errors import BandMismatch
from cryo_hpo.models import ENCODERS, Encoder
from cryo_hpo.models.band_selection import Pick, plan_bands

SENTINEL_2 = tuple(band for band in BANDS.values() if band.sensor == "sentinel-2")


def _bands(names: str) -> tuple[Band, ...]:
    return tuple(BANDS[name] for name in names.split())


def _card(bands: str, *, gray: str = "") -> Encoder:
    """An encoder of these bands, in their order."""
    return replace(ENCODERS["unet"], name="toy", bands=_bands(bands), gray=_bands(gray))


THIRTEEN = _card(" ".join(band.name for band in SENTINEL_2), gray="B4 B3 B2")
COLORS = _card("B4 B3 B2", gray="B4 B3 B2")
RADAR = _card("VV VH")
GALILEO = ENCODERS["galileo-nano"]
WAVES = replace(ENCODERS["unet"], spectral=True, coded=frozenset({"sar"}), gray=_bands("B4 B3 B2"))

CASES = [
    # encoder, dataset, where it goes
    (ENCODERS["unet"], "B8 SLOPE GREY", "B8 SLOPE GREY"),
    (COLORS, "B2 B3 B4", "B4 B3 B2"),
    (COLORS, "BLUE GREEN RED NIR", "B4=RED B3=GREEN B2=BLUE"),
    (COLORS, "GREY", "B4=GREY B3=GREY B2=GREY"),
    (COLORS, "VV", "B4=VV B3=VV B2=VV"),
    (COLORS, "HH HV", "B4=HH B3=HV B2=HH"),
    (COLORS, "B2 RED B4", "B4 B3=zero B2"),  # the true band before the one that stands in
    (
        THIRTEEN,
        "B4 B3 B2",
        "B1=zero B2 B3 B4 B5=zero B6=zero B7=zero B8=zero B8A=zero B9=zero B10=zero "
        "B11=zero B12=zero",
    ),
    (
        THIRTEEN,
        "GREY",
        "B1=zero B2=GREY B3=GREY B4=GREY B5=zero B6=zero B7=zero B8=zero B8A=zero B9=zero "
        "B10=zero B11=zero B12=zero",
    ),
    (_card("B2 B8A"), "BLUE NIR", "B2=BLUE B8A=NIR"),  # the only near infrared it knows
    (_card("B8 B8A"), "BLUE NIR", "B8=NIR B8A=zero"),
    (RADAR, "VH VV", "VV VH"),
    (RADAR, "HH HV", "VV=HH VH=HV"),
    (RADAR, "VV SLOPE", "VV VH=zero"),
    (GALILEO, "B4 VV B3 B11 B2 VH B8", "VV VH B2 B3 B4 B8"),  # B11 lacks B12
    (GALILEO, "RED GREEN BLUE NIR", "B2=BLUE B3=GREEN B4=RED B8=NIR"),
    (GALILEO, "HH HV", "VV=HH VH=HV"),
    (GALILEO, "B8", "B8"),
    *((GALILEO, name, f"B2={name} B3={name} B4={name}") for name in ("GREY", "TIR", "VV", "B11")),
    (WAVES, "B4 SLOPE VV TIR GREY", "B4 VV TIR"),
    (WAVES, "GREY", "B4=GREY B3=GREY B2=GREY"),
]


@pytest.mark.parametrize(("card", "have", "where"), CASES)
def test_bands_go_where_they_belong(card: Encoder, have: str, where: str) -> None:
    assert str(plan_bands(card, _bands(have))) == where


@pytest.mark.parametrize(
    ("card", "have", "says"),
    [
        (COLORS, "VV DEM", "needs the bands B4 B3 B2; the dataset has VV DEM"),
        (RADAR, "GREY", "needs the bands VV VH; the dataset has GREY"),
        (RADAR, "B4 B3 B2", "needs the bands VV VH"),
        (GALILEO, "TIR DEM", "needs the bands VV VH, or B2 B3 B4, or B5 B6 B7, or B8, or"),
        (WAVES, "DEM SLOPE", "needs the bands bands with a wavelength; the dataset has DEM SLOPE"),
    ],
)
def test_a_dataset_that_has_nothing_for_an_encoder_is_refused(
    card: Encoder, have: str, says: str
) -> None:
    with pytest.raises(BandMismatch) as caught:
        plan_bands(card, _bands(have))
    assert says in str(caught.value)
    assert "'unet', 'vit-scratch', or 'timm/<name>'" in str(caught.value)


def test_missing_bands_can_be_refused() -> None:
    with pytest.raises(BandMismatch) as caught:
        plan_bands(THIRTEEN, SENTINEL_2[:11], missing="refuse")
    assert "model.missing_bands refuses what lacks: B11 B12. Set it to 'zero'" in str(caught.value)
    assert plan_bands(THIRTEEN, SENTINEL_2, missing="refuse").as_given
    assert not plan_bands(COLORS, _bands("GREY"), missing="refuse").gaps  # copies fill all
    with pytest.raises(BandMismatch, match="refuses what lacks: B1 B5"):
        plan_bands(THIRTEEN, _bands("GREY"), missing="refuse")


def test_what_an_encoder_can_do_without_is_masked() -> None:
    plan = plan_bands(GALILEO, _bands("B2 B3 B4 B8"), missing="refuse")
    assert [band.name for band in plan.masked] == [
        "VV",
        "VH",
        "B5",
        "B6",
        "B7",
        "B8A",
        "B11",
        "B12",
    ]


some_bands = st.lists(st.sampled_from(SENTINEL_2), unique=True, min_size=1)


@given(have=some_bands, want=some_bands, missing=st.sampled_from(["zero", "mean"]))
def test_each_pixel_arrives_in_its_slot(
    have: list[Band], want: list[Band], missing: Missing
) -> None:
    card = replace(ENCODERS["unet"], name="toy", bands=tuple(want))
    x_BCHW = torch.randn(2, len(have), 3, 4)
    try:
        plan = plan_bands(card, have, missing=missing)
    except BandMismatch:
        assert not set(have) & set(want)
        return
    y_BCHW = Pick(plan)(x_BCHW)
    seen = [i for i, band in enumerate(have) if band in want]
    gap = torch.zeros(2, 3, 4) if missing == "zero" else x_BCHW[:, seen].mean(dim=1)
    for channel, band in enumerate(want):
        expected = x_BCHW[:, have.index(band)] if band in have else gap
        torch.testing.assert_close(y_BCHW[:, channel], expected)
    assert [band.name for band in plan.bands] == [band.name for band in want]


def _plan(layers: Sequence[int | None], *, missing: Missing) -> BandPlan:
    slots = tuple(Slot(SENTINEL_2[i], layer) for i, layer in enumerate(layers))
    return BandPlan(have=SENTINEL_2[:4], slots=slots, missing=missing)


@pytest.mark.parametrize("missing", ["zero", "mean"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_the_dtype_and_the_input_stay(
    layout: torch.memory_format, missing: Missing
) -> None:
    x_BCHW = torch.randn(2, 4, 6, 5, dtype=torch.bfloat16).contiguous(memory_format=layout)
    before = x_BCHW.clone()
    pick = Pick(_plan([3, None, 1, 3, None], missing=missing))
    y_BCHW = pick(x_BCHW)
    assert y_BCHW.is_contiguous(memory_format=layout)
    assert y_BCHW.dtype == torch.bfloat16
    assert torch.equal(x_BCHW, before)
    other = pick(x_BCHW.contiguous())
    assert torch.equal(y_BCHW, other)


@pytest.mark.parametrize("missing", ["zero", "mean"])
def test_gradients_go_back_to_the_layers(missing: Missing) -> None:
    pick = Pick(_plan([3, None, 1], missing=missing)).double()
    x_BCHW = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pick, x_BCHW)


def test_the_meta_device_and_no_weights_of_its_own() -> None:
    with torch.device("meta"):
        pick = Pick(_plan([0, None], missing="mean"))
        assert pick(torch.empty(1, 4, 8, 8)).shape == (1, 2, 8, 8)
    assert pick.state_dict() == {}
