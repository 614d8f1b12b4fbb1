"""Normalization by the encoder's pretraining and image by image: equal to arithmetic on raw pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryo_hpo.bands import BandPlan, find_band
from cryo_hpo.errors import SpecError
from cryo_hpo.models import ENCODERS, PRETRAINING, plan_bands, pretraining_factors
from cryo_hpo.models.rescale import LEAST_STD, ImageScale, PretrainingScale


def _plan(encoder: str, names: str) -> BandPlan:
    return plan_bands(ENCODERS[encoder], [find_band(name) for name in names.split()])


def _factors(
    encoder: str,
    names: str,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    eight_bit: bool = False,
) -> list[tuple[float, float]]:
    plan = _plan(encoder, names)
    found = PRETRAINING.get(encoder)
    return pretraining_factors(encoder, found, plan, mean=mean, std=std, eight_bit=eight_bit)


def _scaled(factors: Sequence[tuple[float, float]], x_BSHW: Tensor) -> Tensor:
    module = PretrainingScale(len(factors))
    module.set_factors(factors)
    scaled: Tensor = module(x_BSHW)
    return scaled


@given(
    mean=st.lists(st.floats(500, 5000), min_size=4, max_size=4),
    std=st.lists(st.floats(300, 3000), min_size=4, max_size=4),
)
def test_raw_pixels_end_up_normalized_by_pretraining(mean: list[float], std: list[float]) -> None:
    """Prithvi gets blue, green, red and near infrared, whatever the order in the file."""
    names = ["NIR", "B4", "B3", "B2"]
    raw_4 = np.array([3000.0, 800.0, 700.0, 600.0])
    normalized_4 = (raw_4 - mean) / std
    plan = _plan("prithvi-v2-300m", " ".join(names))
    factors = _factors("prithvi-v2-300m", " ".join(names), mean, std)
    picked = [0.0 if s.layer is None else normalized_4[s.layer] for s in plan.slots]
    seen_S = _scaled(factors, torch.tensor(picked)[None, :, None, None]).flatten()
    theirs = {"B2": (1087, 2248), "B3": (1342, 2179), "B4": (1433, 2178), "B8A": (2734, 1850)}
    values = dict(zip(("B8A", "B4", "B3", "B2"), raw_4, strict=True))
    wanted_S = [
        (values[name] - theirs[name][0]) / theirs[name][1] if name in theirs else 0.0
        for name in ("B2", "B3", "B4", "B8A", "B11", "B12")
    ]
    np.testing.assert_allclose(seen_S.numpy(), wanted_S, atol=1e-4)


def test_reflectance_and_counts_give_the_same_input() -> None:
    mean, std = (0.11, 0.13, 0.15), (0.1, 0.1, 0.12)
    unit = _factors("prithvi-v2-300m", "B2 B3 B4", mean, std)
    counts = _factors(
        "prithvi-v2-300m", "B2 B3 B4", [1e4 * v for v in mean], [1e4 * v for v in std]
    )
    np.testing.assert_allclose(unit, counts, rtol=1e-12)


def test_eight_bits_are_photographs() -> None:
    factors = _factors("vit-b16", "RED GREEN BLUE", (127.5,) * 3, (127.5,) * 3, eight_bit=True)
    np.testing.assert_allclose(factors, [(1, 0)] * 3, atol=1e-12)


def test_a_constant_band_is_only_shifted() -> None:
    ((scale, shift), *_) = _factors("vit-b16", "RED GREEN BLUE", (0.5,) * 3, (1.0, 0.5, 0.5))
    assert (scale, shift) == (2.0, 0.0)


@pytest.mark.parametrize(
    ("encoder", "names", "mean", "eight_bit", "message"),
    [
        ("unet", "B4 B3 B2", 0.2, False, "no known mean and standard deviation of its pretraining"),
        ("prithvi-100m", "B4 B3 B2", 120.0, True, "reflectance .* the dataset has 8 bits"),
        (
            "remoteclip-b32",
            "B4 B3 B2",
            1400.0,
            False,
            "photographs .* other values, with a mean of 1400",
        ),
        ("terramind-base-s2s1", "VV VH", 0.05, False, "Band VV has mean 0.05 .* other units"),
    ],
)
def test_other_units_are_refused(
    encoder: str, names: str, mean: float, message: str, *, eight_bit: bool
) -> None:
    num = len(names.split())
    with pytest.raises(SpecError, match=message) as caught:
        _factors(encoder, names, [mean] * num, [abs(mean) / 5] * num, eight_bit=eight_bit)
    assert "Set data.normalize to" in str(caught.value) or "set data.normalize to" in str(
        caught.value
    )


def test_statistics_are_of_bands_that_the_encoder_reads() -> None:
    for name, statistics in PRETRAINING.items():
        card = ENCODERS[name]
        read = {band.name for band in card.bands or ()}
        assert read <= set(statistics.bands), name
        assert all(std > 0 for _, std in statistics.bands.values())
        top = max(mean for band, (mean, _) in statistics.bands.items() if band[0] == "B")
        assert top <= 1, f"{name}: optical values are from 0 to 1"


def test_an_image_is_normalized_by_itself_whatever_its_gain() -> None:
    x_BSHW = torch.randn(3, 4, 16, 16)
    gained = x_BSHW * torch.tensor([2.0, 0.5, 7.0])[:, None, None, None] + 3
    module = ImageScale()
    torch.testing.assert_close(module(gained), module(x_BSHW), atol=1e-4, rtol=1e-4)
    assert module(x_BSHW).mean(dim=(2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(
        module(x_BSHW).std(dim=(2, 3), correction=0), torch.ones(3, 4), atol=1e-4, rtol=1e-4
    )
    assert not module.state_dict()


def test_a_band_without_contrast_is_not_blown_up_to_noise() -> None:
    flat = torch.full((1, 1, 8, 8), 4.0) + 1e-4 * torch.randn(1, 1, 8, 8)
    assert ImageScale()(flat).abs().max() < 5e-4 / LEAST_STD
    assert (ImageScale()(torch.zeros(1, 1, 8, 8)) == 0).all()


def test_the_nearest_band_fills_a_gap_and_radar_stays_empty() -> None:
    def spelled(encoder: str, names: str) -> str:
        have = [find_band(name) for name in names.split()]
        return str(plan_bands(ENCODERS[encoder], have, missing="nearest"))

    assert spelled("prithvi-100m", "B2 B3 B4 B8") == "B2 B3 B4 B8A=B8 B11=B8 B12=B8"
    assert spelled("s12-moco", "B2 B3 B4 B8").startswith(
        "B1=B2 B2 B3 B4 B5=B4 B6=B4 B7=B8 B8 B8A=B8"
    )
    assert spelled("croma-joint", "B2 B3 B4 VV").endswith("B12=B4 VV VH=zero")
