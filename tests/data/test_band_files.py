"""Bands in files of their own: one grid, one sensor, no clouds; names in files are believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pydantic import ValidationError
from rasterio.transform import Affine

from cryo_hpo.bands import SENSORS, bands_of_sensor
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data.band_stack import BandFiles
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, Scene
from cryo_hpo.data.file_templates import scene_bands
from cryo_hpo.data.raster_stream import open_raster
from cryo_hpo.data.splits import digests_of
from cryo_hpo.errors import DataError, UnknownName

PLACE = Affine(30, 0, 500_000, 0, -30, 8_700_000)
SIZE = 24
LANDSAT: dict[str, Any] = {
    "name": "mine",
    "root": "mine",
    "images": "{id}_{band}.TIF",
    "masks": "{id}_mask.tif",
    "sensor": "landsat-8",
    "bands": ("B5", "B4", "B3"),
    "classes": ("land", "lake"),
    "split": {"by": "scene"},
}


def _write(path: Path, pixels_HW: NDArray[Any], side_m: float = 30.0, **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pixels_HW[None] if pixels_HW.ndim == 2 else pixels_HW
    count, height, width = pixels.shape
    place = PLACE @ Affine.scale(side_m / 30)
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    names = profile.pop("descriptions", None)
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:32633", transform=place, **shape, **profile
    ) as file:
        file.write(pixels)
        if names:
            file.descriptions = names


def _bands(root: Path, **changed: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Write one scene of three bands and its mask; return the bands."""
    rng = np.random.default_rng(0)
    pixels = {b: rng.integers(1, 9000, (SIZE, SIZE), dtype=np.uint16) for b in ("B5", "B4", "B3")}
    pixels |= changed
    for band, pixels_HW in pixels.items():
        _write(root / f"mine/LC08_1_{band}.TIF", pixels_HW, 30 * SIZE / len(pixels_HW))
    _write(root / "mine/LC08_1_mask.tif", np.eye(SIZE, dtype=np.uint8))
    return pixels


def _read(root: Path, **card: Any) -> Scene:
    data = custom_dataset(DatasetCard.model_validate({**LANDSAT, **card}))
    (item,) = data.index(root, "train")
    return data.read(item)


def test_bands_are_stacked_in_the_order_of_the_card(tmp_path: Path) -> None:
    pixels = _bands(tmp_path)
    scene = _read(tmp_path)
    assert scene.id == "LC08_1"
    assert np.array_equal(scene.image_CHW, np.stack([pixels[b] for b in ("B5", "B4", "B3")]))
    assert np.array_equal(scene.mask_HW, np.eye(SIZE))


def test_another_grid_needs_a_word(tmp_path: Path) -> None:
    coarse = np.arange((SIZE // 2) ** 2, dtype=np.uint16).reshape(SIZE // 2, -1) + 1
    pixels = _bands(tmp_path, B3=coarse)
    with pytest.raises(DataError, match=r"B3\.TIF: .*12 x 12 pixels of 60 m here, 24 x 24.*`warp:"):
        _read(tmp_path)
    near = _read(tmp_path, warp={"to": "B5", "resampling": "nearest"})
    assert np.array_equal(near.image_CHW[2], np.kron(coarse, np.ones((2, 2), dtype=np.uint16)))
    assert np.array_equal(near.image_CHW[0], pixels["B5"])
    down = _read(tmp_path, masks="{id}_mask.tif", warp={"to": "B3", "resampling": "average"})
    assert down.image_CHW.shape == (3, SIZE // 2, SIZE // 2)
    mean = pixels["B5"].reshape(SIZE // 2, 2, SIZE // 2, 2).mean(axis=(1, 3))
    assert np.abs(down.image_CHW[0] - mean).max() <= 1


def test_what_a_band_does_not_cover_is_ignored(tmp_path: Path) -> None:
    _bands(tmp_path)
    _write(tmp_path / "mine/LC08_1_B3.TIF", np.full((6, 12), 7, dtype=np.uint16), 60.0)
    scene = _read(tmp_path, warp={"to": "B5"})
    assert (scene.mask_HW[13:] == IGNORE).all(), "the band ends at row 12"
    assert (scene.mask_HW[:11] != IGNORE).all()
    assert set(np.unique(scene.image_CHW[2, :11])) == {7}


def test_windows_are_parts_of_the_whole(tmp_path: Path) -> None:
    _bands(tmp_path, B3=np.arange(144, dtype=np.uint16).reshape(12, 12))
    card = DatasetCard.model_validate({**LANDSAT, "warp": {"to": "B5"}})
    data = custom_dataset(card)
    (item,) = data.index(tmp_path, "train")
    whole, part = data.read(item), data.read(item, window=(slice(3, 17), slice(8, 21)))
    assert np.array_equal(part.image_CHW, whole.image_CHW[:, 3:17, 8:21])


def test_a_band_that_is_missing_is_named_and_another_name_can_be_given(tmp_path: Path) -> None:
    _bands(tmp_path)
    (tmp_path / "mine/LC08_1_B3.TIF").rename(tmp_path / "mine/LC08_1_B03_10m.TIF")
    with pytest.raises(
        DataError, match=r"without the file of band B3 .*B3 or B03 for .*`band_files"
    ):
        _read(tmp_path)
    assert _read(tmp_path, band_files={"B3": "B03_10m"}).image_CHW.shape[0] == 3


def test_stars_reach_into_safe_folders(tmp_path: Path) -> None:
    folder = tmp_path / "mine/A.SAFE/GRANULE/L2A_x/IMG_DATA"
    for number, name in enumerate(("R10m/T33_B03_10m", "R20m/T33_B03_20m", "R20m/T33_B11_20m")):
        side = 10.0 if "10m" in name else 20.0
        size = round(240 / side)
        _write(folder / f"{name}.tif", np.full((size, size), number + 1, dtype=np.uint16), side)
    _write(tmp_path / "mine/A.tif", np.zeros((24, 24), dtype=np.uint8), 10.0)
    scene = _read(
        tmp_path,
        images="{id}.SAFE/GRANULE/*/IMG_DATA/R*/*_{band}.tif",
        masks="{id}.tif",
        sensor="sentinel-2",
        bands=("B3", "B11"),
        band_files={"B3": "B03_10m", "B11": "B11_20m"},
        warp={"to": "B3"},
    )
    assert scene.id == "A"
    assert [set(np.unique(band)) for band in scene.image_CHW] == [{1}, {3}]


QUALITY = {
    "qa_pixel": (("fill", "cloud"), {1 << 3: True, 1 << 6: False, 1 << 5: False, 1: True}),
    "scl": ((), {9: True, 11: False, 6: False, 3: True}),
    "values": ((2,), {2: True, 3: False}),
}


@pytest.mark.parametrize("kind", QUALITY)
@pytest.mark.parametrize("side_m", [30, 60])
def test_clouds_are_left_out(tmp_path: Path, kind: str, side_m: int) -> None:
    ignore, poor = QUALITY[kind]
    _bands(tmp_path)
    for value, left_out in poor.items():
        layer = np.full((SIZE * 30 // side_m,) * 2, 11 if kind == "scl" else 1 << 6, np.uint16)
        layer[: 240 // side_m] = value
        _write(tmp_path / "mine/LC08_1_QA.TIF", layer, side_m)
        rule = {"file": "{id}_QA.TIF", "content": kind, "ignore": ignore}
        scene = _read(tmp_path, quality=rule)
        assert (scene.mask_HW[:8] == IGNORE).all() == left_out, value
        assert (scene.mask_HW[8:] != IGNORE).all()
        assert scene.image_CHW[:, :8].all(), "pixels stay, labels go"


def test_a_changed_band_or_quality_layer_is_another_image(tmp_path: Path) -> None:
    _bands(tmp_path)
    _write(tmp_path / "mine/LC08_1_QA.TIF", np.zeros((SIZE, SIZE), dtype=np.uint16))
    rule = {"file": "{id}_QA.TIF", "content": "qa_pixel"}
    data = custom_dataset(DatasetCard.model_validate({**LANDSAT, "quality": rule}))
    seen = set()
    for name in ("", "B3", "QA"):
        if name:
            with rasterio.open(tmp_path / f"mine/LC08_1_{name}.TIF", "r+") as file:
                file.write(file.read() + np.uint16(1))
        items = data.index(tmp_path, "train")
        seen |= set(digests_of(data, tmp_path, items, cache=tmp_path / "cache"))
    assert len(seen) == 3


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "mask": ({"masks": "{id}_{band}.tif"}, "A mask belongs to all bands"),
    "warp without": ({"images": "{id}.tif", "warp": {"to": "B5"}}, "holds no {band}"),
    "warp to": ({"warp": {"to": "B8"}}, "'B8' is no band of this card"),
    "files of": ({"band_files": {"B8": "x"}}, "'B8' is no band of this card"),
    "quality": (
        {"quality": {"file": "{id}.tif", "content": "scl", "ignore": ("fog",)}},
        "No content 'fog'",
    ),
    "values": ({"quality": {"file": "{id}.tif", "content": "values"}}, "needs the numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_cards_that_cannot_be_meant(case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises(ValidationError) as refusal:
        DatasetCard.model_validate({**LANDSAT, **changes})
    assert message in str(refusal.value.errors()[0]["ctx"]["error"])


# -- sensors


@pytest.mark.parametrize(
    ("sensor", "number"), [("landsat-7", "B4"), ("landsat-8", "B5"), ("sentinel-2", "B8")]
)
def test_a_number_is_what_its_sensor_calls_it(sensor: str, number: str) -> None:
    (band,) = bands_of_sensor((number,), sensor)
    assert band.name == ("B8" if sensor == "sentinel-2" else "NIR")
    assert band.center_um == pytest.approx(0.85, abs=0.02)
    assert band.names[0] == number


def test_colors_are_names_for_every_sensor() -> None:
    assert bands_of_sensor(("RED", "DEM"), "landsat-8")[0].center_um == 0.655
    with pytest.raises(UnknownName, match="B99"):
        bands_of_sensor(("B99",), "landsat-8")
    with pytest.raises(UnknownName, match=r"landsat-88.*landsat-8"):
        bands_of_sensor(("B5",), "landsat-88")


def test_an_unknown_camera_is_known_by_its_wavelengths() -> None:
    centers = {"C1": 0.49, "C2": 0.505, "C3": 0.665, "C4": 0.72}
    bands = bands_of_sensor((*centers, "DEM"), centers)
    assert [band.name for band in bands] == ["BLUE", "C2", "RED", "C4", "DEM"]
    assert [band.center_um for band in bands] == [*centers.values(), None]


def test_every_band_of_a_sensor_has_one_name() -> None:
    for sensor, table in SENSORS.items():
        names = [band.name for band in bands_of_sensor(tuple(table), sensor)]
        assert len(set(names)) == len(names), sensor


# -- names in files


def _named(root: Path, names: tuple[str, ...], **card: Any) -> Scene:
    pixels = np.stack([np.full((SIZE, SIZE), i + 1, dtype=np.uint16) for i in range(len(names))])
    _write(root / "mine/a.tif", pixels, descriptions=names)
    _write(root / "mine/a_mask.tif", np.eye(SIZE, dtype=np.uint8))
    return _read(root, images="{id}.tif", **{"bands": ("B5", "B4", "B3"), **card})


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (("SR_B3", "SR_B4", "SR_B5"), [3, 2, 1]),
        (("green", "red", "nir"), [3, 2, 1]),
        (("SR_B5", "SR_B4", "SR_B3"), [1, 2, 3]),
        (("NIR", "Red", "Green"), [1, 2, 3]),
        (("B2", "B3", "B4", "B5", "B6"), [4, 3, 2]),
        (("Band 1", "Band 2", "Band 3"), [1, 2, 3]),
    ],
)
def test_names_in_the_file_come_before_the_order_in_the_card(
    tmp_path: Path, names: tuple[str, ...], layers: list[int]
) -> None:
    scene = _named(tmp_path, names)
    assert scene.image_CHW[:, 0, 0].tolist() == layers
    assert bool(scene.header.notes) == (layers != [1, 2, 3])
    if scene.header.notes:
        assert "read by these names" in scene.header.notes[0]


def test_wrong_names_can_be_ignored(tmp_path: Path) -> None:
    scene = _named(tmp_path, ("B3", "B4", "B5"), layer_names="ignore")
    assert scene.image_CHW[:, 0, 0].tolist() == [1, 2, 3]


# -- Sentinel-2's offset


@pytest.mark.parametrize(("baseline", "value"), [("N0301", 5000.0), ("N0400", 4000.0)])
def test_the_baseline_in_a_name_is_an_offset(tmp_path: Path, baseline: str, value: float) -> None:
    name = f"S2A_MSIL2A_20220501T1_{baseline}_R1"
    _write(tmp_path / f"mine/{name}.tif", np.full((1, SIZE, SIZE), 5000, dtype=np.uint16))
    _write(tmp_path / f"mine/{name}_mask.tif", np.eye(SIZE, dtype=np.uint8))
    card = {"images": "{id}.tif", "sensor": None, "bands": ("B3",)}
    assert _read(tmp_path, **card).image_CHW.max() == 5000
    scene = _read(tmp_path, scale="apply", **card)
    assert scene.image_CHW.max() == value


# -- one scene for `predict`


def test_one_scene_is_named_by_the_path_its_bands_share(tmp_path: Path) -> None:
    pixels = _bands(tmp_path)
    template = tmp_path / "mine/LC08_*_{band}.TIF"
    files = scene_bands(template, ("B4", "B5"))
    with open_raster(BandFiles(files, files[0], None), bands=(("RED",), ("NIR",))) as raster:
        image_CHW, absent_HW = raster.rows(2, 9)
    assert np.array_equal(image_CHW, np.stack([pixels["B4"], pixels["B5"]])[:, 2:9])
    assert not absent_HW.any()
    with pytest.raises(DataError, match=r"one file is needed for band B8, .*0 are there"):
        scene_bands(template, ("B8",))
    _write(tmp_path / "mine/LC08_2_B4.TIF", pixels["B4"])
    with pytest.raises(DataError, match="2 are there"):
        scene_bands(template, ("B4",))
