"""Scenes that are read in strips give what reading them at once gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import reproject, transform

from cryo_hpo.config import DatasetCard
from cryo_hpo.data import raster, strips
from cryo_hpo.data.audit import inspect_scenes, summarize
from cryo_hpo.data.cache import open_split
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.facts import read_facts
from cryo_hpo.data.mask_labels import read_labels
from cryo_hpo.data.splits import items_of
from cryo_hpo.errors import DataError

from ..support.fakes import write


def _scenes(root: Path, **card: Any) -> Any:
    """Write two scenes with a band of -9999 along the edge, holes, and a part without data."""
    for number, (height, width) in enumerate(((700, 300), (300, 700))):
        rng = np.random.default_rng(number)
        image = rng.normal(100, 9, (3, height, width)).astype(np.float32)
        image[:, :60] = -9999
        image[:, -40:, :50] = 0
        mask = rng.integers(0, 3, (1, height, width), dtype=np.uint8)
        mask[:, :30, :30] = 255
        where: dict[str, Any] = {"georeferenced": True, "place": (50 * number, 0)}
        for part in ("train", "val", "test"):
            write(root / f"mine/{part}/s{number}.tif", image, **where)
            write(root / f"mine/{part}/s{number}_mask.tif", mask, **where)
    return custom_dataset(
        DatasetCard(
            name="mine",
            root="mine",
            images="{split}/{id}.tif",
            masks="{split}/{id}_mask.tif",
            bands=("B4", "B3", "B2"),
            classes=("a", "b", "c"),
            ignore=255,
            **card,
        )
    )


def _in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "WHOLE", 2**17)
    monkeypatch.setattr(strips, "STRIP", 2**17)


@pytest.mark.parametrize("nodata", [None, -9999])
def test_strips_give_the_facts_and_the_pixels_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodata: float | None
) -> None:
    dataset = _scenes(tmp_path, nodata=nodata)
    items = items_of(dataset, tmp_path, "train", cache=tmp_path)
    whole = [dataset.read(item) for item in items]
    one = summarize(dataset, inspect_scenes(dataset, items))
    scenes = open_split(dataset, tmp_path, "train", cache=tmp_path / "whole")
    _in_strips(monkeypatch)
    assert [top for top, _ in strips.read_strips(dataset, items[0])] == [0, 256, 512]
    read: list[float] = []
    other = summarize(dataset, inspect_scenes(dataset, items, progress=read.append))
    assert sum(read) == pytest.approx(2)
    assert len(read) == 5, "progress after every strip"
    assert other.counts_K.tolist() == one.counts_K.tolist()
    assert (other.sizes, other.ignored) == (one.sizes, one.ignored)
    assert np.allclose(other.moments.mean_C, one.moments.mean_C)
    assert np.allclose(other.moments.std, one.moments.std)
    for mine, its in zip(other.facts, one.facts, strict=True):
        assert np.allclose(mine.mean_C, its.mean_C)
        assert np.allclose(mine.class_means_KC, its.class_means_KC, rtol=0.05)
        same = mine._replace(mean_C=its.mean_C, class_means_KC=its.class_means_KC, fill=None)
        assert same == its._replace(fill=None)
        assert (mine.fill is None) == (its.fill is None) == (nodata is not None)
        if mine.fill and its.fill:
            assert mine.fill.value == its.fill.value == -9999
            assert mine.fill.share == pytest.approx(its.fill.share, abs=0.01)
    cut = open_split(dataset, tmp_path, "train", cache=tmp_path / "strips")
    for number, scene in enumerate(whole):
        assert np.array_equal(cut.image(number), scene.image_CHW)
        assert np.array_equal(cut.mask(number), scene.mask_HW)
    assert (cut.sizes, cut.counts, cut.dtype) == (scenes.sizes, scenes.counts, scenes.dtype)
    assert len(read_facts(cut.folder)) == 2


def test_a_sample_shows_the_whole_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = _scenes(tmp_path)
    item = items_of(dataset, tmp_path, "train", cache=tmp_path)[0]
    whole = dataset.read(item)
    _in_strips(monkeypatch)
    sample = strips.read_sample(dataset, item, side=101)
    rows = np.linspace(0, 699, 101).round().astype(int)
    columns = np.linspace(0, 299, 101).round().astype(int)
    assert np.array_equal(sample.image_CHW, whole.image_CHW[:, rows][:, :, columns])
    assert np.array_equal(sample.mask_HW, whole.mask_HW[rows][:, columns])


def test_a_mask_of_other_ground_is_refused_in_strips_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = _scenes(tmp_path)
    mask = tmp_path / "mine/train/s0_mask.tif"
    with rasterio.open(mask, "r+") as file:
        file.transform = file.transform @ rasterio.Affine.translation(5000, 0)
    item = items_of(dataset, tmp_path, "train", cache=tmp_path)[0]
    _in_strips(monkeypatch)
    with pytest.raises(DataError, match="different ground"):
        list(strips.read_strips(dataset, item))


def _to_degrees(path: Path) -> None:
    """Write a mask anew in degrees, with twice as many rows and columns."""
    with rasterio.open(path) as file:
        labels, box = file.read(), file.bounds
        corners = [box.left, box.right] * 2, [box.bottom] * 2 + [box.top] * 2
        longitudes, latitudes = transform(file.crs, "EPSG:4326", *corners)
        height, width = 2 * file.height, 2 * file.width
        west, north = min(longitudes), max(latitudes)
        steps = (max(longitudes) - west) / width, (min(latitudes) - north) / height
        place = Affine(steps[0], 0, west, 0, steps[1], north)
        warped = np.full((1, height, width), 255, dtype=np.uint8)
        ends = {"src_transform": file.transform, "src_crs": file.crs, "dst_transform": place}
        reproject(labels, warped, **ends, dst_crs="EPSG:4326", src_nodata=255, dst_nodata=255)
    write(path, warped, georeferenced=True)
    with rasterio.open(path, "r+") as file:
        file.crs, file.transform = "EPSG:4326", place


def _shift(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.transform = file.transform @ Affine.translation(7, 5)


@pytest.mark.parametrize(("move", "wrong"), [(_shift, 0.0), (_to_degrees, 0.01)])
def test_a_warped_mask_is_the_same_in_strips_which_read_a_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: Callable[[Path], None], wrong: float
) -> None:
    dataset = _scenes(tmp_path)
    move(tmp_path / "mine/train/s0_mask.tif")
    item = items_of(dataset, tmp_path, "train", cache=tmp_path)[0]
    whole = dataset.read(item).mask_HW
    with rasterio.open(item.mask) as file:
        height = file.height
    _in_strips(monkeypatch)
    read: list[int] = []

    def watched(schema: Any, path: Path, file: Any, place: Any) -> Any:
        read.append(place.height)
        return read_labels(schema, path, file, place)

    monkeypatch.setattr(raster, "read_labels", watched)
    parts = [scene.mask_HW for _, scene in strips.read_strips(dataset, item)]
    assert np.mean(np.concatenate(parts) != whole) <= wrong
    assert len(read) == 3
    assert max(read) < 0.6 * height, "only what covers the strip"
