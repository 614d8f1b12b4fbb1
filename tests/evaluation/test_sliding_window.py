"""Stitching what an identity model returns gives the image, whatever its size; parts add up."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cryo_hpo.data import progress_log
from cryo_hpo.data.cache import Scenes, open_split
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.tiles import Normalize
from cryo_hpo.errors import Diverged
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.evaluation.pieces import Window
from cryo_hpo.evaluation.sliding_window import score
from cryo_hpo.evaluation.tiling import grid, windows
from cryo_hpo.evaluation.together import score_together
from cryo_hpo.evaluation.window_predictor import WindowPredictor

from ..support.fakes import fake_folder
from ..support.windows import predict

CPU = torch.device("cpu")
SIZE = 8
PLAIN = Normalize.of((0, 0, 0), (1, 1, 1), device=CPU)
CLASSES = ("background", "lake")
sides = st.integers(1, 30)


class Bright(nn.Module):
    """Class 1 where the first band of three is bright: exact at every pixel, whatever the window."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, 2, H, W)."""
        assert x_BCHW.shape[-2:] == (SIZE, SIZE), "the model sees windows of its size alone"
        bright = x_BCHW[:, :1] - 115
        return torch.cat([-bright, bright], dim=1)


def _images(number: int, height: int, width: int) -> Tensor:
    return torch.randn(number, 2, height, width, generator=torch.Generator().manual_seed(0))


@settings(deadline=None)
@given(
    number=st.integers(1, 3),
    height=sides,
    width=sides,
    overlap=st.integers(0, SIZE - 1),
    batch=st.integers(1, 9),
)
def test_stitching_an_identity_model_returns_the_images(
    number: int, height: int, width: int, overlap: int, batch: int
) -> None:
    images = _images(number, height, width)
    stitched = predict(nn.Identity(), images, size=SIZE, overlap=overlap, batch=batch)
    torch.testing.assert_close(stitched, images, atol=1e-5, rtol=1e-5)


@settings(deadline=None)
@given(height=sides, width=sides, batch=st.integers(2, 9))
def test_the_batch_of_windows_changes_nothing(height: int, width: int, batch: int) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(2, 3, 3, padding=1)
    images = _images(2, height, width)
    with torch.inference_mode():
        one, many = (predict(model, images, size=SIZE, overlap=2, batch=b) for b in (1, batch))
    torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 40), width=sides, overlap=st.integers(0, SIZE - 1), data=st.data())
def test_rows_come_from_top_to_bottom_whatever_fits_into_a_pass(
    height: int, width: int, overlap: int, data: st.DataObject
) -> None:
    images = _images(2, height, width)
    batch = data.draw(st.integers(1, 20))
    predictor = WindowPredictor(nn.Identity(), size=SIZE, overlap=overlap, batch=batch)
    read: list[tuple[int, int]] = []

    def rows(top: int, bottom: int) -> Tensor:
        read.append((top, bottom))
        return images[:, :, top:bottom]

    parts = list(predictor.predict_rows(rows, length_hw=(height, width)))
    tops = [top for top, _ in parts]
    assert tops == [sum(part.shape[2] for _, part in parts[:i]) for i in range(len(parts))]
    assert torch.cat([part for _, part in parts], dim=2).shape == images.shape
    assert all(0 <= top < bottom <= height for top, bottom in read)
    assert read == sorted(read)


def _published_starts(length: int) -> list[int]:
    number = math.ceil(length / SIZE)
    return [round(float(start)) for start in np.linspace(0, length - SIZE, number)]


@given(height=st.integers(SIZE, 60), width=st.integers(SIZE, 60))
def test_without_overlap_windows_stand_where_cryo_bench_puts_them(height: int, width: int) -> None:
    expected = [(t, u) for t in _published_starts(height) for u in _published_starts(width)]
    assert windows((height, width), size=SIZE, overlap=0) == expected


@pytest.mark.parametrize(
    ("length", "size", "number"),
    [(512, 224, 3), (512, 120, 5), (512, 192, 3), (512, 128, 4), (300, 224, 2), (300, 128, 3)],
)
def test_as_many_windows_as_published(length: int, size: int, number: int) -> None:
    assert len(windows((length, length), size=size, overlap=0)) == number**2


def test_without_overlap_logits_are_averaged_with_equal_weight() -> None:
    torch.manual_seed(0)
    model, image = nn.Conv2d(2, 3, 3, padding=1), _images(1, 13, 19)
    total, seen = torch.zeros(1, 3, 13, 19), torch.zeros(13, 19)
    with torch.inference_mode():
        for top in _published_starts(13):
            for left in _published_starts(19):
                inside = np.s_[..., top : top + SIZE, left : left + SIZE]
                total[inside] += model(image[inside])
                seen[inside] += 1
        ours = predict(model, image, size=SIZE, overlap=0, batch=4)
    torch.testing.assert_close(ours, total / seen, atol=1e-5, rtol=1e-5)


@given(length_hw=st.tuples(st.integers(1, 60), st.integers(1, 60)), size=st.integers(1, 24))
def test_tiles_stand_side_by_side_and_the_last_ends_at_the_edge(
    length_hw: tuple[int, int], size: int
) -> None:
    tops, lefts = (sorted(set(axis)) for axis in zip(*grid(length_hw, size=size), strict=True))
    for length, starts in zip(length_hw, (tops, lefts), strict=True):
        assert len(starts) == math.ceil(length / size)
        assert starts[:-1] == [size * i for i in range(len(starts) - 1)]
        assert starts[-1] == max(length - size, 0)


@pytest.fixture(scope="module")
def open_scenes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Scenes]:
    root = tmp_path_factory.mktemp("scenes")

    def open_(height: int, width: int) -> Scenes:
        name = f"fake-{height}x{width}"
        card = fake_folder(root, num=(0, 3, 0), size=(height, width), name=name)
        return open_split(custom_dataset(card), root, "val", cache=root / "cache")

    return open_


SIZES = [(5, 6), (SIZE, SIZE), (30, 11), (7, 40), (33, 21)]


def _score(scenes: Scenes, window: Window) -> Scores:
    return score(Bright(), scenes, normalize=PLAIN, classes=CLASSES, window=window, batch=4)


@pytest.mark.parametrize("size", SIZES)
def test_scores_are_those_of_every_pixel_once(
    open_scenes: Callable[[int, int], Scenes], size: tuple[int, int]
) -> None:
    scenes = open_scenes(*size)
    expected = Scores.zero(CLASSES)
    for i in range(len(scenes)):
        predicted = (scenes.image(i)[0] > 115).astype(np.uint8)
        expected += Scores.of(scenes.mask(i), predicted, classes=CLASSES)
    assert _score(scenes, Window(SIZE, 2)) == expected
    assert _score(scenes, Window(SIZE, 0, tile=64)) == expected, "no scene is larger than the tile"


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_no_more_rows_are_read_than_fill_a_forward_pass(
    open_scenes: Callable[[int, int], Scenes], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, read = open_scenes(40, 11), []
    predict_rows = WindowPredictor.predict_rows

    def watched(self: WindowPredictor, rows: Callable[[int, int], Tensor], **rest: Any) -> Any:
        def rows_read(top: int, bottom: int) -> Tensor:
            read.append(bottom - top)
            return rows(top, bottom)

        return predict_rows(self, rows_read, **rest)

    expected = _score(scenes, Window(SIZE, 2))
    monkeypatch.setattr(WindowPredictor, "predict_rows", watched)
    window, model = Window(SIZE, 2), Bright()
    found = score(model, scenes, normalize=PLAIN, classes=CLASSES, window=window, batch=batch)
    assert found == expected
    assert max(read) <= (40 if batch == 100 else SIZE + (batch // 2) * (SIZE - 2))


@pytest.mark.parametrize("fits", [1, 2, 5])
def test_a_prediction_that_memory_does_not_hold_goes_on_with_fewer_windows(fits: int) -> None:
    images, asked = _images(2, 20, 25), []

    def model(x_BCHW: Tensor) -> Tensor:
        asked.append(len(x_BCHW))
        if len(x_BCHW) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x_BCHW

    predictor = WindowPredictor(model, size=SIZE, overlap=3, batch=16)  # type: ignore[arg-type]
    parts = predictor.predict_rows(lambda top, end: images[:, :, top:end], length_hw=(20, 25))
    whole = torch.cat([logits for _, logits in parts], dim=2)
    torch.testing.assert_close(whole, images, atol=1e-5, rtol=1e-5)
    assert predictor.batch <= fits
    assert max(asked[5:]) <= fits, "what did not fit is not tried again"


def test_tiles_of_a_larger_scene_are_images_of_their_own(
    open_scenes: Callable[[int, int], Scenes],
) -> None:
    scenes = open_scenes(33, 21)
    expected = Scores.zero(CLASSES)
    for i in range(len(scenes)):
        for top in (0, 16, 17):
            for left in (0, 5):
                place = np.s_[top : top + 16, left : left + 16]
                predicted = (scenes.image(i)[0][place] > 115).astype(np.uint8)
                expected += Scores.of(scenes.mask(i)[place], predicted, classes=CLASSES)
    assert _score(scenes, Window(SIZE, 0, tile=16)) == expected


@pytest.mark.parametrize("window", [Window(SIZE, 2), Window(SIZE, 0, tile=16)])
@pytest.mark.parametrize("size", SIZES)
def test_equal_members_together_score_as_each_by_itself(
    open_scenes: Callable[[int, int], Scenes], size: tuple[int, int], window: Window
) -> None:
    scenes = open_scenes(*size)
    together = score_together(
        lambda _: Bright(), 2, scenes, normalize=PLAIN, classes=CLASSES, window=window, batch=4
    )
    total = sum((scores for _, scores in together), start=Scores.zero(CLASSES))
    assert total == _score(scenes, window)


@pytest.mark.parametrize("most", [1, 5 * 21 * 4 * len(CLASSES), 2**28])
def test_members_that_take_turns_by_strips_score_as_by_scenes(
    open_scenes: Callable[[int, int], Scenes], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, loaded = open_scenes(33, 21), []
    members = [nn.Conv2d(3, len(CLASSES), 3, padding=1) for _ in range(3)]

    def load(member: int) -> nn.Module:
        loaded.append(member)
        return members[member]

    def scored() -> list[Scores]:
        window = Window(SIZE, 2)
        together = score_together(
            load, 3, scenes, normalize=PLAIN, classes=CLASSES, window=window, batch=4
        )
        return [scores for _, scores in together]

    whole = scored()
    loaded.clear()
    monkeypatch.setattr("cryo_hpo.evaluation.together.MOST_BYTES", most)
    assert scored() == whole
    assert loaded == [0, 1, 2] * (len(loaded) // 3)
    assert (len(loaded) > 3 * len(scenes)) == (most < 2**28)


def test_the_windows_of_all_scenes_and_members_are_counted(
    open_scenes: Callable[[int, int], Scenes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_log, "PAUSE_S", 0.0)
    texts: list[str] = []
    scenes = open_scenes(33, 21)
    given: dict[str, Any] = {"normalize": PLAIN, "classes": CLASSES, "batch": 4}
    number = len(scenes) * len(windows((33, 21), size=SIZE, overlap=2))
    with progress_log.reporting_to(texts.append):
        score(Bright(), scenes, window=Window(SIZE, 2), **given)
        list(score_together(lambda _: Bright(), 2, scenes, window=Window(SIZE, 2), **given))
    ends = [i for i, text in enumerate(texts) if not text]
    assert texts[ends[0] - 1] == f"window {number} of {number}"
    assert texts[ends[1] - 1] == f"window {2 * number} of {2 * number}"


def test_images_are_looked_at_in_evaluation_mode(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(0, 1, 0), size=(SIZE, SIZE))
    scenes = open_split(custom_dataset(card), tmp_path, "val", cache=tmp_path / "cache")
    model = nn.Sequential(Bright(), nn.Dropout(0.9)).train()
    score(model, scenes, normalize=PLAIN, classes=CLASSES, window=Window(SIZE, 0), batch=1)
    assert not any(module.training for module in model.modules())


class Lost(nn.Module):
    """A model whose output is not a number at one pixel."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BKHW = torch.zeros(len(x_BCHW), len(CLASSES), SIZE, SIZE)
        logits_BKHW[0, -1, 1, 1] = float("nan")
        return logits_BKHW


def test_a_map_of_what_is_not_a_number_is_refused(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(0, 1, 0), size=(SIZE, SIZE))
    scenes = open_split(custom_dataset(card), tmp_path, "val", cache=tmp_path / "cache")
    with pytest.raises(Diverged, match="no class can be chosen"):
        score(Lost(), scenes, normalize=PLAIN, classes=CLASSES, window=Window(SIZE, 0), batch=1)
