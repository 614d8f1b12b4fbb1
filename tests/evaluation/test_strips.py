"""Row by row gives what the whole image gives, whatever its size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cryo_hpo.evaluation.sliding_window import predict
from cryo_hpo.evaluation.strips import strips

SIZE = 12


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 3, 5, padding=2))
    return layers.eval()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    overlap=st.integers(0, SIZE - 1),
    batch=st.integers(1, 9),
)
def test_strips_put_together_are_the_prediction_of_the_whole_image(
    model, height, width, overlap, batch
):
    image_CHW = torch.randn(2, height, width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (whole,) = predict(model, image_CHW[None], size=SIZE, overlap=overlap, batch=4)
        parts = list(
            strips(
                model,
                lambda top, bottom: image_CHW[:, top:bottom],
                length_hw=(height, width),
                size=SIZE,
                overlap=overlap,
                batch=batch,
            )
        )
    tops = [top for top, _ in parts]
    assert tops == [sum(part.shape[1] for _, part in parts[:i]) for i in range(len(parts))]
    torch.testing.assert_close(torch.cat([p for _, p in parts], dim=1), whole, atol=1e-5, rtol=1e-5)


def test_no_more_than_a_row_of_windows_is_asked_for_at_a_time(model):
    asked = []

    def rows(top, bottom):
        asked.append((top, bottom))
        return torch.zeros(2, bottom - top, 30)

    with torch.inference_mode():
        list(strips(model, rows, length_hw=(100, 30), size=SIZE, overlap=4, batch=2))
    assert all(0 <= top < bottom <= 100 and bottom - top <= SIZE for top, bottom in asked)
    assert asked == sorted(asked)
