"""Windows cover the image and stay inside; tapers of neighbors add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.errors import SpecError
from cryo_hpo.evaluation.tiling import blend, windows

Frame = tuple[int, int]  # size and overlap of a window
lengths = st.tuples(st.integers(1, 60), st.integers(1, 60))
frames = st.integers(1, 24).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


@given(length_hw=lengths, frame=frames)
def test_windows_cover_every_pixel_and_stay_inside(
    length_hw: tuple[int, int], frame: Frame
) -> None:
    size, overlap = frame
    seen = np.zeros(length_hw, dtype=bool)
    for top, left in windows(length_hw, size=size, overlap=overlap):
        assert 0 <= top <= max(length_hw[0] - size, 0)
        assert 0 <= left <= max(length_hw[1] - size, 0)
        seen[top : top + size, left : left + size] = True
    assert seen.all()


@given(length=st.integers(1, 500), frame=frames)
def test_neighbors_share_the_overlap_and_none_is_needless(length: int, frame: Frame) -> None:
    size, overlap = frame
    lefts = [left for _, left in windows((size, length), size=size, overlap=overlap)]
    steps = np.diff(lefts)
    assert (steps > 0).all()
    assert (steps <= size - overlap).all()
    assert (len(lefts) - 2) * (size - overlap) < max(length - size, 1)


def test_windows_of_a_known_image() -> None:
    assert windows((4, 9), size=4, overlap=1) == [(0, 0), (0, 2), (0, 5)]


@given(frame=frames)
def test_weights_are_positive_symmetric_and_one_inside(frame: Frame) -> None:
    size, overlap = frame
    weights = blend(size, overlap=overlap)
    assert weights.shape == (size, size)
    assert weights.dtype == np.float32
    assert (weights > 0).all()
    np.testing.assert_array_equal(weights, weights[::-1, ::-1].T)
    inside = weights[overlap : size - overlap, overlap : size - overlap]
    np.testing.assert_array_equal(inside, np.ones_like(inside))


@given(overlap=st.integers(1, 12), inside=st.integers(0, 5))
def test_opposite_tapers_of_neighbors_add_up_to_one(overlap: int, inside: int) -> None:
    line = np.sqrt(np.diag(blend(2 * overlap + inside, overlap=overlap)))
    np.testing.assert_allclose(line[:overlap] + line[-overlap:], 1, atol=1e-6)


@pytest.mark.parametrize(
    ("length_hw", "size", "overlap", "law"),
    [
        ((4, 4), 0, 0, "at least 1 pixel wide, got 0"),
        ((4, 4), 4, 4, "less than the window's 4 pixels, got 4"),
        ((4, 4), 4, -1, "at least 0 and less than the window's 4 pixels, got -1"),
        ((0, 4), 4, 0, r"at least one pixel on each side, got \(0, 4\)"),
    ],
)
def test_impossible_windows_are_refused(
    length_hw: tuple[int, int], size: int, overlap: int, law: str
) -> None:
    with pytest.raises(SpecError, match=law):
        windows(length_hw, size=size, overlap=overlap)
