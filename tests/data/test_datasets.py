"""What every dataset must do: the table's own, generated small, and folders of every kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from cryo_hpo.data import DATASETS, find, folder
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.generate import generate
from cryo_hpo.data.scenes import Dataset, Item, Scene, Split
from cryo_hpo.errors import UnknownName
from cryo_hpo.metrics import IGNORE

from ..fakes import fake_folder

SPLITS: tuple[Split, ...] = get_args(Split)
SMALL: dict[Split, int] = {"train": 5, "val": 2, "test": 2}


def _built_in(name: str) -> Callable[[Path], Dataset]:
    def make(root: Path) -> Dataset:
        generate(name, folder=root, scenes=SMALL, size=48)
        return find(name)

    return make


KINDS: dict[str, Callable[[Path], Dataset]] = {
    "uint8": lambda root: folder.dataset(fake_folder(root)),
    "uint16": lambda root: folder.dataset(fake_folder(root, dtype="uint16", bands=4)),
    "int16": lambda root: folder.dataset(fake_folder(root, dtype="int16", bands=1)),
    "float32": lambda root: folder.dataset(fake_folder(root, dtype="float32")),
    "four-bytes": lambda root: folder.dataset(fake_folder(root, bands=4)),
    "nowhere": lambda root: folder.dataset(fake_folder(root, georeferenced=False)),
    "png": lambda root: folder.dataset(fake_folder(root, suffix=".png")),
    "png-16-bit": lambda root: folder.dataset(
        fake_folder(root, suffix=".png", dtype="uint16", bands=1)
    ),
    **{name: _built_in(name) for name in DATASETS},
}


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, Path]:
    root = tmp_path_factory.mktemp("data")
    return KINDS[request.param](root), root


def test_ids_are_unique_and_files_exist(made: tuple[Dataset, Path]) -> None:
    dataset, root = made
    items = [item for split in SPLITS for item in dataset.index(root, split)]
    assert len({item.id for item in items}) == len(items) >= len(SPLITS)
    assert all(item.image.is_file() and item.mask.is_file() for item in items)


def test_index_is_in_the_order_of_ids(made: tuple[Dataset, Path]) -> None:
    dataset, root = made
    ids = [item.id for item in dataset.index(root, "train")]
    assert ids == sorted(ids)


def test_regions_stay_in_one_split(made: tuple[Dataset, Path]) -> None:
    dataset, root = made
    regions = [{item.region for item in dataset.index(root, split)} - {None} for split in SPLITS]
    assert all(regions)
    assert len(set.union(*regions)) == sum(map(len, regions))


def test_scenes_hold_what_the_facts_say(made: tuple[Dataset, Path]) -> None:
    dataset, root = made
    legal = {*range(len(dataset.classes)), IGNORE}
    for split in SPLITS:
        for item in dataset.index(root, split):
            scene = dataset.read(item)
            assert scene.id == item.id
            assert scene.image_CHW.shape == (len(dataset.bands), *scene.mask_HW.shape)
            assert scene.mask_HW.dtype == np.uint8
            assert np.isfinite(scene.image_CHW).all()
            assert set(np.unique(scene.mask_HW).tolist()) <= legal


def test_cache_equals_reading(made: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset, root = made
    for split in SPLITS:
        scenes = open_split(dataset, root, split, cache=tmp_path)
        items = dataset.index(root, split)
        assert scenes.ids == tuple(item.id for item in items)
        assert scenes.regions == tuple(item.region for item in items)
        for number, item in enumerate(items):
            scene = dataset.read(item)
            assert scenes.image(number).dtype == scene.image_CHW.dtype
            np.testing.assert_array_equal(scenes.image(number), scene.image_CHW)
            np.testing.assert_array_equal(scenes.mask(number), scene.mask_HW)


def test_statistics_are_those_of_the_labelled_pixels(
    made: tuple[Dataset, Path], tmp_path: Path
) -> None:
    dataset, root = made
    read = [dataset.read(item) for item in dataset.index(root, "train")]
    pixels = np.concatenate([s.image_CHW[:, s.mask_HW != IGNORE] for s in read], axis=1)
    labels = np.concatenate([s.mask_HW[s.mask_HW != IGNORE] for s in read])
    scenes = open_split(dataset, root, "train", cache=tmp_path)
    np.testing.assert_allclose(scenes.mean, pixels.mean(axis=1, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(scenes.std, pixels.std(axis=1, dtype=np.float64), rtol=1e-9)
    assert scenes.class_counts == tuple(
        int((labels == k).sum()) for k in range(len(dataset.classes))
    )


def test_second_opening_reads_nothing(made: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset, root = made
    first = open_split(dataset, root, "val", cache=tmp_path)

    def read(item: Item) -> Scene:
        raise AssertionError(f"{item.id} was read again")

    second = open_split(dataclasses.replace(dataset, read=read), root, "val", cache=tmp_path)
    assert second.folder == first.folder


def test_unknown_dataset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        UnknownName, match=r"No dataset named 'lake-demo'\. Did you mean 'lakes-demo'"
    ):
        find("lake-demo")
