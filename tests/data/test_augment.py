"""Image and mask move together, and only as far as the draw says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryo_hpo.data.augment import AUGMENTS, Augment, hflip, rot90, vflip

each_augment = pytest.mark.parametrize("name", AUGMENTS)
draws = st.floats(0, 1, exclude_max=True)


def _numbered(side: int) -> tuple[Tensor, Tensor]:
    """A mask in which every pixel is its own class, and an image that shows it in two bands."""
    y_HW = torch.arange(side * side).reshape(side, side)
    return torch.stack([y_HW, -y_HW]).float(), y_HW


@each_augment
@given(draw=draws, side=st.integers(1, 5))
def test_image_and_mask_stay_aligned(name: str, draw: float, side: int) -> None:
    x_CHW, y_HW = AUGMENTS[name](*_numbered(side), draw)
    assert torch.equal(x_CHW[0].long(), y_HW)
    assert torch.equal(x_CHW[1].long(), -y_HW)


@each_augment
@given(draw=draws, side=st.integers(1, 5))
def test_no_pixel_is_lost(name: str, draw: float, side: int) -> None:
    _, before_HW = _numbered(side)
    _, after_HW = AUGMENTS[name](*_numbered(side), draw)
    assert after_HW.shape == before_HW.shape
    assert torch.equal(after_HW.flatten().sort().values, before_HW.flatten())


@pytest.mark.parametrize(("augment", "dim"), [(hflip, -1), (vflip, -2)])
def test_flips_happen_below_a_half(augment: Augment, dim: int) -> None:
    x_CHW, y_HW = _numbered(3)
    assert torch.equal(augment(x_CHW, y_HW, 0.49)[0], x_CHW.flip(dim))
    assert torch.equal(augment(x_CHW, y_HW, 0.5)[0], x_CHW)


@pytest.mark.parametrize("quarters", range(4))
def test_turns_go_through_all_four_quarters(quarters: int) -> None:
    x_CHW, y_HW = _numbered(3)
    for draw in (quarters / 4, quarters / 4 + 0.249):
        turned, _ = rot90(x_CHW, y_HW, draw)
        assert torch.equal(turned, x_CHW.rot90(quarters, (-2, -1)))
