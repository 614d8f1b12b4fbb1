"""Batches: the same for the same seed and epoch, aligned, normalized, padded and full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from cryo_hpo.data.ahead import run_ahead
from cryo_hpo.data.augment import AUGMENTS
from cryo_hpo.data.cache import Scenes, open_split
from cryo_hpo.data.crop_plan import crops_of_scenes, scenes_in_turn
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE
from cryo_hpo.data.tiles import Normalize, Tiles
from cryo_hpo.errors import UnknownName

from ..support.fakes import fake_folder, write

Batches = list[tuple[Tensor, Tensor]]
CPU = torch.device("cpu")
PLAIN = Normalize.of((0, 0, 0), (1, 1, 1), device=CPU)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    root = tmp_path_factory.mktemp("tiles")
    card = fake_folder(root, num=(7, 0, 0), size=(40, 56), dtype="uint16")
    return open_split(custom_dataset(card), root, "train", cache=root / "cache")


def _epoch(tiles: Tiles, batch_size: int = 2, *, seed: int = 0, epoch: int = 1) -> Batches:
    return list(tiles.batches(batch_size, seed=seed, epoch=epoch, device=CPU))


def _samples(batches: Batches) -> set[bytes]:
    return {x.numpy().tobytes() for x_BCHW, _ in batches for x in x_BCHW}


def test_batches_have_the_promised_shapes_and_types(scenes: Scenes) -> None:
    for x_BCHW, y_BHW in _epoch(Tiles(scenes, crop=32, normalize=PLAIN, augment=tuple(AUGMENTS))):
        assert (x_BCHW.shape, x_BCHW.dtype) == ((2, 3, 32, 32), torch.float32)
        assert (y_BHW.shape, y_BHW.dtype) == ((2, 32, 32), torch.int64)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 7), (3, [3, 3]), (7, [7]), (9, [7])])
def test_partial_batch_goes_only_if_there_is_a_full_one(
    scenes: Scenes, batch_size: int, sizes: list[int]
) -> None:
    tiles = Tiles(scenes, crop=32, normalize=PLAIN)
    assert [len(x_BCHW) for x_BCHW, _ in _epoch(tiles, batch_size)] == sizes
    assert tiles.num_batches(batch_size) == len(sizes)


def test_same_seed_and_epoch_give_the_same_batches(scenes: Scenes) -> None:
    first, second = (
        _epoch(Tiles(scenes, crop=16, normalize=PLAIN, augment=tuple(AUGMENTS)), seed=3, epoch=4)
        for _ in range(2)
    )
    for (x, y), (again_x, again_y) in zip(first, second, strict=True):
        assert torch.equal(x, again_x)
        assert torch.equal(y, again_y)


def test_batches_ignore_the_global_generators(scenes: Scenes) -> None:
    tiles = Tiles(scenes, crop=16, normalize=PLAIN, augment=tuple(AUGMENTS))
    first = _epoch(tiles)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, _epoch(tiles), strict=True))


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 2}])
def test_another_seed_or_epoch_gives_other_crops(scenes: Scenes, other: dict[str, int]) -> None:
    tiles = Tiles(scenes, crop=16, normalize=PLAIN)
    assert not _samples(_epoch(tiles)) & _samples(_epoch(tiles, **other))


def test_batch_size_changes_no_crop_and_no_flip(scenes: Scenes) -> None:
    tiles = Tiles(scenes, crop=16, normalize=PLAIN, augment=tuple(AUGMENTS))
    assert _samples(_epoch(tiles, 1)) == _samples(_epoch(tiles, 7))


def test_every_scene_is_seen_once_an_epoch(scenes: Scenes) -> None:
    whole = Tiles(scenes, crop=56, normalize=PLAIN)
    seen = [x[:, :40].numpy().astype(np.uint16).tobytes() for x, _ in _flat(_epoch(whole, 1))]
    assert sorted(seen) == sorted(scenes.image(i).tobytes() for i in range(len(scenes)))


def _flat(batches: Batches) -> Batches:
    return [pair for x, y in batches for pair in zip(x, y, strict=True)]


@given(crop=st.integers(1, 40), epoch=st.integers(1, 1000))
def test_crops_are_windows_of_image_and_mask_at_one_place(
    scenes: Scenes, crop: int, epoch: int
) -> None:
    tiles = Tiles(scenes, crop=crop, normalize=PLAIN)
    ((x_CHW, y_HW),) = _flat(_epoch(tiles, 7, epoch=epoch))[:1]
    image, mask = x_CHW.numpy().astype(np.uint16), y_HW.numpy()
    found = [
        np.array_equal(scenes.mask(i)[t : t + crop, u : u + crop], mask)
        for i in range(len(scenes))
        for t, u in _places(scenes.image(i)[0], image[0])
    ]
    assert any(found)


def _places(whole_HW: NDArray[Any], part_HW: NDArray[Any]) -> list[list[int]]:
    windows = np.lib.stride_tricks.sliding_window_view(whole_HW, part_HW.shape)
    candidates = np.argwhere(windows[:, :, 0, 0] == part_HW[0, 0]).tolist()
    return [[t, u] for t, u in candidates if np.array_equal(windows[t, u], part_HW)]


def test_small_scenes_are_padded_with_band_mean_and_ignore(scenes: Scenes) -> None:
    normalize = Normalize.of(scenes.mean, scenes.std, device=CPU)
    for x_BCHW, y_BHW in _epoch(Tiles(scenes, crop=64, normalize=normalize)):
        outside = torch.ones(64, 64, dtype=torch.bool)
        outside[:40, :56] = False
        assert (x_BCHW[:, :, outside] == 0).all()
        assert (y_BHW[:, outside] == IGNORE).all()
        assert (y_BHW[:, ~outside] != IGNORE).any()
        assert x_BCHW[:, :, ~outside].std() > 0.5


def test_padding_is_flipped_with_its_scene(scenes: Scenes) -> None:
    tiles = Tiles(scenes, crop=64, normalize=PLAIN, augment=tuple(AUGMENTS))
    for x_BCHW, y_BHW in _epoch(tiles):
        padded = (x_BCHW == 0).all(dim=1)
        assert (y_BHW[padded] == IGNORE).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_normalized_pixels_are_those_of_numpy(dtype: str) -> None:
    pixels = np.random.default_rng(0).uniform(0, 200, size=(2, 3, 4, 5)).astype(dtype)
    mean, std = (10.5, 20.0, 30.0), (2.0, 0.5, 0.0)
    got = Normalize.of(mean, std, device=CPU)(pixels)
    expected = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape((2.0, 0.5, 1.0), (3, 1, 1))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-4)


def test_normalizing_leaves_the_pixels_alone(scenes: Scenes) -> None:
    before = scenes.image(0).copy()
    Normalize.of(scenes.mean, scenes.std, device=CPU)(scenes.image(0)).zero_()
    np.testing.assert_array_equal(scenes.image(0), before)


def test_crops_without_labels_are_drawn_again(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(40, 0, 0), size=(16, 48))
    data = custom_dataset(card)
    for item in data.index(tmp_path, "train"):
        mask_HW = np.full((16, 48), IGNORE, dtype=np.uint8)
        mask_HW[:, :8] = 1
        write(item.mask, mask_HW[None])
    scenes = open_split(data, tmp_path, "train", cache=tmp_path / "cache")
    tiles = Tiles(scenes, crop=16, normalize=PLAIN)
    labeled = [bool((y_HW != IGNORE).any()) for _, y_HW in _flat(_epoch(tiles, 1))]
    # One draw finds a label in 8 of 33 places; ten draws miss all in 1 of 16 scenes.
    assert sum(labeled) >= 30


def test_unknown_augmentation_is_refused(scenes: Scenes) -> None:
    with pytest.raises(UnknownName, match=r"No augmentation named 'flip'\. Did you mean 'vflip'"):
        Tiles(scenes, crop=16, normalize=PLAIN, augment=("flip",))


def test_batches_that_threads_gather_equal_the_others(scenes: Scenes) -> None:
    tiles = Tiles(scenes, crop=48, normalize=PLAIN, foreground=0.5, replicate=3)
    alone = list(tiles._gathers(2, seed=1, epoch=2, pinned=False))
    threaded = run_ahead(tiles._gathers(2, seed=1, epoch=2, pinned=False), lambda batch: batch)
    for gather, batch in zip(alone, threaded, strict=True):
        expected = gather()
        assert torch.equal(batch.mask_BHW, expected.mask_BHW)
        assert batch.sizes == expected.sizes
        for sample, (height, width) in enumerate(batch.sizes):  # the rest is padding
            own, other = (x.image_BCHW[sample, :, :height, :width] for x in (batch, expected))
            assert np.array_equal(own.numpy(), other.numpy())


@given(epoch=st.integers(1, 400))
def test_a_crop_lies_within_one_tile_of_a_larger_scene(scenes: Scenes, epoch: int) -> None:
    tiles = Tiles(scenes, crop=16, normalize=PLAIN, tile=24, redraws=False)
    for i in range(len(scenes)):
        rows, columns = tiles._place(i, np.random.default_rng([epoch, i]))
        assert 0 <= rows.start <= 40 - 16
        assert 0 <= columns.start <= 56 - 16
    same = Tiles(scenes, crop=24, normalize=PLAIN, tile=24)
    starts = {same._place(0, np.random.default_rng([epoch, i]))[1].start for i in range(30)}
    assert len(starts) > 5, "the tile moves although the crop fills it"


def test_a_scene_gives_as_many_different_crops_as_it_is_replicated(scenes: Scenes) -> None:
    once = Tiles(scenes, crop=16, normalize=PLAIN)
    thrice = Tiles(scenes, crop=16, normalize=PLAIN, replicate=3)
    assert thrice.num_batches(2) == 10
    crops = _samples(_epoch(thrice, 7))
    assert len(crops) == 21
    assert _samples(_epoch(once, 7)) < crops, "more crops leave the first ones as they were"


# -- large scenes


@pytest.mark.parametrize(
    ("labeled", "replicate", "crops"),
    [
        (0, None, 1),
        (100, None, 1),
        (400, None, 1),  # four crops of 10 x 10 pixels: as before
        (401, None, 4),
        (1999, None, 19),
        (1999, 3, 3),
    ],
)
def test_a_scene_gives_as_many_crops_as_its_labels_fill(labeled, replicate, crops):
    assert crops_of_scenes([(labeled, 0), (50, 50)], crop=10, replicate=replicate) == [
        crops,
        replicate or 1,
    ]


@given(crops=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_scenes_come_in_turn(crops: list[int]) -> None:
    turns = scenes_in_turn(crops).tolist()
    assert turns[: len(crops)] == list(range(len(crops)))
    assert [turns.count(number) for number in range(len(crops))] == crops


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """One scene of 96 x 80 pixels: labels in its left half, a lake of 2 x 3 pixels in the corner."""
    root = tmp_path_factory.mktemp("large")
    card = fake_folder(root, num=(1, 1, 1), size=(96, 80), dtype="uint16")
    (path,) = (root / "fake/train/masks").iterdir()
    mask = np.full((1, 96, 80), 255, dtype=np.uint8)
    mask[:, :, :40] = 0
    mask[:, 93:95, 0:3] = 1
    path.unlink()
    write(path, mask)
    return open_split(custom_dataset(card), root, "train", cache=root / "cache")


def test_an_epoch_covers_the_labels_and_nothing_else(large: Scenes) -> None:
    tiles = Tiles(large, crop=16, normalize=PLAIN, replicate=None)
    assert tiles.num_batches(3) == 96 * 40 // 16**2 // 3
    seen = np.zeros((96, 80))
    rng = np.random.default_rng(0)
    for _ in range(600):
        seen[tiles._place(0, rng)] += 1
    assert seen[:, 56:].sum() == 0, "no crop lies off the labels"
    inner = seen[16:80, 16:30]
    assert inner.min() > 0.5 * inner.mean(), "no labeled ground is left out"
    assert seen[:, :40].min() > 0


def test_a_share_of_the_crops_holds_the_rare_class(large: Scenes) -> None:
    def share(foreground: float) -> float:
        tiles = Tiles(large, crop=16, normalize=PLAIN, replicate=64, foreground=foreground)
        batches = [y for epoch in range(1, 9) for _, y in _epoch(tiles, 8, epoch=epoch)]
        return float(np.mean([(y_HW == 1).any().item() for y_BHW in batches for y_HW in y_BHW]))

    few, third, all_ = share(0.0), share(0.33), share(1.0)
    assert few < 0.1
    assert abs(third - 0.33 - 0.67 * few) < 0.07
    assert all_ == 1.0


def test_foreground_without_a_rare_class_is_an_ordinary_crop(scenes: Scenes) -> None:
    only = scenes.only([0])
    bare = Tiles(only, crop=16, normalize=PLAIN, foreground=1.0)
    assert bare._placer.rare_class(0, np.random.default_rng(0)) in {None, 0, 1}
    assert len(_epoch(bare, 1)) == 1


def test_crops_of_small_scenes_are_those_of_before(scenes: Scenes) -> None:
    """Scenes of 40 x 56 pixels fill fewer than five crops of 24 x 24: nothing may change."""
    assert _samples(_epoch(Tiles(scenes, crop=24, normalize=PLAIN, replicate=None))) == _samples(
        _epoch(Tiles(scenes, crop=24, normalize=PLAIN, replicate=1))
    )
