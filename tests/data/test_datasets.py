"""What every dataset must do: the table's own, tiny and in their real layout, and folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from cryo_hpo.data import DATASETS, DEMOS, find_dataset
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, Dataset, Scene, SceneFiles, Split
from cryo_hpo.data.synthetic.generate import generate
from cryo_hpo.errors import DataError, UnknownName

from ..support.fakes import FAKES, fake_folder, fake_sicd, write

SPLITS: tuple[Split, ...] = get_args(Split)
SMALL: dict[Split, int] = {"train": 5, "val": 2, "test": 2}


def _built_in(name: str) -> Callable[[Path], Dataset]:
    def make(root: Path) -> Dataset:
        generate(name, folder=root, scenes=SMALL, size=48)
        return find_dataset(name)

    return make


def _faked(name: str) -> Callable[[Path], Dataset]:
    def make(root: Path) -> Dataset:
        FAKES[name](root)
        return find_dataset(name)

    return make


def _sicd_for_optical_models(root: Path) -> Dataset:
    fake_sicd(root, layers=3)
    return find_dataset("sicd")


KINDS: dict[str, Callable[[Path], Dataset]] = {
    "uint8": lambda root: custom_dataset(fake_folder(root)),
    "uint16": lambda root: custom_dataset(fake_folder(root, dtype="uint16", bands=4)),
    "int16": lambda root: custom_dataset(fake_folder(root, dtype="int16", bands=1)),
    "float32": lambda root: custom_dataset(fake_folder(root, dtype="float32")),
    "four-bytes": lambda root: custom_dataset(fake_folder(root, bands=4)),
    "nowhere": lambda root: custom_dataset(fake_folder(root, georeferenced=False)),
    "png": lambda root: custom_dataset(fake_folder(root, suffix=".png")),
    "png-16-bit": lambda root: custom_dataset(
        fake_folder(root, suffix=".png", dtype="uint16", bands=1)
    ),
    **{name: _built_in(name) for name in DEMOS},
    **{name: _faked(name) for name in FAKES},
    "sicd-three-layers": _sicd_for_optical_models,
}


each_published = pytest.mark.parametrize("name", FAKES)


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
    if dataset.shared:  # the official split makes no such claim, and says so
        return
    regions = [{item.region for item in dataset.index(root, split)} - {None} for split in SPLITS]
    assert all(regions)
    assert len(set.union(*regions)) == sum(map(len, regions))


def test_every_dataset_has_a_fake() -> None:
    assert set(FAKES) | set(DEMOS) == set(DATASETS)


@each_published
def test_facts_fit_together(name: str) -> None:
    dataset = find_dataset(name)
    assert dataset.name == name
    assert dataset.upstream_bands is not None
    assert dataset.mean is not None
    assert dataset.std is not None
    layers = {len(x) for x in (dataset.bands, dataset.upstream_bands, dataset.mean, dataset.std)}
    assert layers == {len(dataset.bands)}
    assert min(dataset.std) > 0
    assert len(set(dataset.bands)) == len(dataset.bands)
    assert dataset.class_shares is None or len(dataset.class_shares) == len(dataset.classes)
    assert dataset.source
    assert dataset.license
    assert dataset.page.startswith("https://")
    assert all(file.url.startswith("https://") for file in dataset.downloads)
    assert dataset.shared


@each_published
def test_no_ancillary_layer_goes_by_the_name_of_a_band(name: str) -> None:
    """Cryo-Bench calls slopes and heights B5 and B6; here a Sentinel-2 name is a Sentinel-2 band."""
    upstream = find_dataset(name).upstream_bands
    assert upstream is not None
    renamed = [
        (band.name, other.name)
        for band, other in zip(find_dataset(name).bands, upstream, strict=True)
        if band != other
    ]
    assert all(band not in {"B5", "B6", "B7", "B8A"} for band, _ in renamed)
    assert [other for _, other in renamed] == {
        "gld": ["B8A", "VV", "B5", "B6", "B7"],
        "gsdd": ["B8A", "B5", "B6", "B7"],
        "sicd": ["VV", "VH"],
        "caffe": ["VV"],
        "glb": ["NDWI", "SLOPE", "DEM"],  # by the wavelength of blue light
        "shelf-bench": ["B2"],
    }.get(name, [])


@each_published
def test_window_is_the_part_of_the_whole(name: str, tmp_path: Path) -> None:
    FAKES[name](tmp_path)
    dataset = find_dataset(name)
    item = dataset.index(tmp_path, "train")[0]
    window = (slice(5, 30), slice(11, 48))  # inside the smallest fake
    part, whole = dataset.read(item, window=window), dataset.read(item)
    np.testing.assert_array_equal(part.image_CHW, whole.image_CHW[:, *window])
    np.testing.assert_array_equal(part.mask_HW, whole.mask_HW[window])


@each_published
def test_cut_off_file_is_refused(name: str, tmp_path: Path) -> None:
    FAKES[name](tmp_path)
    dataset = find_dataset(name)
    item = dataset.index(tmp_path, "train")[0]
    whole = item.image.read_bytes()
    item.image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{item.image.name}: .*copied completely"):
        dataset.read(item)


@each_published
def test_wrong_mask_value_is_refused_with_what_is_allowed(name: str, tmp_path: Path) -> None:
    FAKES[name](tmp_path)
    dataset = find_dataset(name)
    item = dataset.index(tmp_path, "train")[0]
    shape = dataset.read(item).mask_HW.shape
    write(item.mask, np.full((1, *shape), 99, dtype=np.uint8))
    last = f"{len(dataset.classes) - 1} \\({dataset.classes[-1]}\\)"
    with pytest.raises(DataError, match=f"holds the value 99 .*'{name}' allows 0 .*{last}"):
        dataset.read(item)


@each_published
def test_missing_folder_says_where_it_goes_and_comes_from(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"Set CRYO_DATA .*The layout is .*data get {name}"):
        find_dataset(name).index(tmp_path, "train")


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


def test_statistics_are_those_of_the_labeled_pixels(
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

    def read(item: SceneFiles) -> Scene:
        raise AssertionError(f"{item.id} was read again")

    second = open_split(dataclasses.replace(dataset, read=read), root, "val", cache=tmp_path)
    assert second.folder == first.folder


def test_unknown_dataset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        UnknownName, match=r"No dataset named 'lake-demo'\. Did you mean 'lakes-demo'"
    ):
        find_dataset("lake-demo")
