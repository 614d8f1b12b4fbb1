"""Images and masks as they come: colors, palettes, control points, south-up rows, fill values within."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data.alignment import Grid, place_of
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, Scene, Split
from cryo_hpo.data.facts import facts_of
from cryo_hpo.data.layer_names import wavelength_um
from cryo_hpo.data.nodata import suspect_fill
from cryo_hpo.data.raster_stream import open_raster
from cryo_hpo.data.review import review
from cryo_hpo.errors import DataError

SIDE = 32
UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 8_000_000)}
COLORS = {"#000000": "background", "#0000ff": "lake"}
LAKE_HW = np.pad(np.ones((8, 12), dtype=np.uint8), ((4, 20), (10, 10)))


def _write(
    path: Path, pixels: np.ndarray[Any, Any], palette: dict[int, Any] | None = None, **profile: Any
) -> None:
    layers = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = layers.shape
    shape = {"count": count, "height": height, "width": width, "dtype": layers.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
            file.write(layers)
            if palette:
                file.write_colormap(1, palette)


def _image() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    ground_CHW = rng.uniform(500, 1500, (3, SIDE, SIDE)).astype("float32")
    image_CHW: np.ndarray[Any, Any] = ground_CHW + np.float32(600) * LAKE_HW
    return image_CHW


def _card(root: Path, *, images: str, masks: str, **given: Any) -> DatasetCard:
    """Return the card of a folder; all but the paths may be given."""
    usual: dict[str, Any] = {"bands": ("B4", "B3", "B2")}
    if "values" not in given:
        usual["classes"] = ("background", "lake")
    return DatasetCard(name="mine", root=str(root), images=images, masks=masks, **usual | given)


def _read(
    folder: Path,
    *,
    image: np.ndarray[Any, Any] | None = None,
    mask: np.ndarray[Any, Any] = LAKE_HW,
    at: dict[str, Any] = UTM,
    mask_at: dict[str, Any] = UTM,
    **card: Any,
) -> Scene:
    """Write one scene and read it through a card."""
    for part in ("images", "masks"):
        (folder / "train" / part).mkdir(parents=True)
    _write(folder / "train/images/a.tif", _image() if image is None else image, **at)
    _write(folder / "train/masks/a.tif", mask, **mask_at)
    paths = {"images": "{split}/images/{id}.tif", "masks": "{split}/masks/{id}.tif"}
    dataset = custom_dataset(_card(folder, **paths, **card))
    return dataset.read(dataset.index(folder, "train")[0])


def test_a_palette_index_that_is_nodata_is_no_label_though_gdal_paints_it_black(
    tmp_path: Path,
) -> None:
    mask = LAKE_HW.copy()
    mask[:, :5] = 255
    palette = {0: (0, 0, 0, 255), 1: (0, 0, 255, 255)}
    scene = _read(
        tmp_path, mask=mask, mask_at={**UTM, "nodata": 255, "palette": palette}, values=COLORS
    )
    assert (scene.mask_HW[:, :5] == IGNORE).all()
    assert (scene.mask_HW[:, 5:] == LAKE_HW[:, 5:]).all()


def test_a_palette_of_16_bits_has_more_than_256_colors(tmp_path: Path) -> None:
    mask = LAKE_HW.astype("uint16")
    mask[:, :3] = 300
    palette = {0: (0, 0, 0, 255), 1: (0, 0, 255, 255), 300: (255, 0, 0, 255)}
    values = {**COLORS, "#ff0000": "ignore"}
    scene = _read(tmp_path, mask=mask, mask_at={**UTM, "palette": palette}, values=values)
    assert (scene.mask_HW[:, :3] == IGNORE).all()
    assert (scene.mask_HW[:, 3:] == LAKE_HW[:, 3:]).all()


@pytest.mark.parametrize(
    "mask",
    [
        np.stack([0 * LAKE_HW, 0 * LAKE_HW, LAKE_HW]).astype("uint16") * 65280,  # 0xff00
        -LAKE_HW.astype("int16"),
        0.5 * LAKE_HW.astype("float32"),
    ],
    ids=["16 bits", "signed", "floats"],
)
def test_colors_of_other_types_are_refused_and_never_wrapped(
    tmp_path: Path, mask: np.ndarray[Any, Any]
) -> None:
    with pytest.raises(DataError, match="have 8 bits"):
        _read(tmp_path, mask=mask, values={**COLORS, "#ffffff": "ignore"})


def _points(shift: float = 0.0) -> dict[str, Any]:
    corners = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)]
    west, north = 500_000 + shift, 8_000_000
    gcps = [GroundControlPoint(r, c, west + 10 * c, north - 10 * r) for r, c in corners]
    return {"crs": "EPSG:32633", "gcps": gcps}


def test_an_image_with_control_points_has_its_place_by_them(tmp_path: Path) -> None:
    scene = _read(tmp_path, at=_points())
    assert scene.header.notes == ()
    place = place_of(tmp_path / "train/images/a.tif")
    assert place is not None
    assert place.native == pytest.approx((500_000, 8_000_000 - 10 * SIDE, 500_320, 8_000_000))


def test_a_mask_on_a_map_grid_that_does_not_fit_the_control_points_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match=r"ground control points.*Rectify the image"):
        _read(tmp_path, at=_points(shift=100.0))


def test_rows_from_south_to_north_with_a_mask_without_coordinates_are_reported(
    tmp_path: Path,
) -> None:
    south_up = {"crs": UTM["crs"], "transform": Affine(10, 0, 500_000, 0, 10, 7_999_680)}
    assert "from south to north" in _read(tmp_path, at=south_up, mask_at={}).header.notes[0]


def test_pixels_in_degrees_shrink_with_the_latitude() -> None:
    lines = Affine(1e-3, 0, 10, 0, -1e-3, 60.0)
    grid = Grid(CRS.from_epsg(4326), lines, (2, 2))
    assert grid.gsd_m == pytest.approx(111.32 * np.sqrt(0.5), rel=1e-3)
    assert grid.pixel_m == pytest.approx((111.32 / 2, 111.32), rel=1e-3)


def test_pixels_in_feet_have_a_width_and_a_height_in_meters() -> None:
    feet = CRS.from_epsg(2225)  # California, US survey feet
    grid = Grid(feet, Affine(10, 0, 6_000_000, 0, -20, 2_000_000), (2, 2))
    assert grid.pixel_m == pytest.approx((3.048, 6.096), rel=1e-4)
    assert grid.gsd_m == pytest.approx(3.048 * np.sqrt(2), rel=1e-4)
    assert Grid(None, grid.transform, (2, 2)).pixel_m is None


@pytest.mark.parametrize("fill", [-9999.0, -3.4028235e38, 9.96921e36, -32768.0])
def test_a_conventional_fill_value_within_one_band_is_found(fill: float) -> None:
    image_CHW = _image()
    image_CHW[1, 10:12, 10:12] = fill
    found = suspect_fill(image_CHW, np.zeros((SIDE, SIDE), dtype=np.bool_))
    assert found is not None
    assert found.value == pytest.approx(fill)
    assert (found.share, found.far, found.edge) == (4 / SIDE**2, True, False)


def test_the_same_number_among_others_is_no_fill() -> None:
    image_CHW = _image() - 10_000  # elevations below a datum, say
    image_CHW[1, 10:12, 10:12] = -9999.0
    assert suspect_fill(image_CHW, np.zeros((SIDE, SIDE), dtype=np.bool_)) is None


def _reviewed(tmp_path: Path, *images: np.ndarray[Any, Any], names: tuple[str, ...] = ()) -> str:
    card = _card(tmp_path, images="{split}/{id}.tif", masks="{split}/{id}_m.tif")
    dataset = custom_dataset(card)
    header = _read(tmp_path).header._replace(names=names)
    absent_HW = np.zeros((SIDE, SIDE), dtype=np.bool_)
    parts: dict[Split, list[Any]] = {"train": [], "val": [], "test": []}
    for number, image_CHW in enumerate(images):
        scene = Scene(f"s{number}", image_CHW, LAKE_HW, header, absent_HW)
        parts[("train", "val", "test")[number % 3]].append(facts_of(scene, num_classes=2))
    found = review(dataset, parts)
    return "\n".join((*found.refusals, *found.warnings))


def test_pixels_written_twice_under_other_bytes_are_reported(tmp_path: Path) -> None:
    images = [_image() + number for number in range(3)]
    assert _reviewed(tmp_path, *images) == ""
    assert "train and test: the scenes s0 and s2" in _reviewed(
        tmp_path / "b", *images[:2], images[0]
    )


def test_a_band_that_is_constant_in_all_scenes_is_reported(tmp_path: Path) -> None:
    images = [_image() + number for number in range(3)]
    for image_CHW in images:
        image_CHW[2] = 700.0
    assert "Band B2 has the mean 700 in every scene" in _reviewed(tmp_path, *images)


def test_wavelengths_in_the_files_contradict_the_order_of_the_card(tmp_path: Path) -> None:
    images = [_image() + number for number in range(3)]
    text = _reviewed(tmp_path, *images, names=("490 nm", "560 nm", "665 nm"))
    assert re.search(r"name their layers 490 nm, 560 nm, 665 nm; the card's bands are B4", text)
    right = ("665.0 Nanometers", "0.56 um", "490nm")
    assert _reviewed(tmp_path / "b", *images, names=right) == ""
    assert [wavelength_um(name) for name in right] == pytest.approx([0.665, 0.56, 0.49])


def _read_beside(folder: Path, suffix: str, **card: Any) -> Scene:
    """Read the scene of a folder whose masks lie beside the images."""
    images, masks = f"{{split}}/{{id}}{suffix}", "{split}/{id}_mask.tif"
    dataset = custom_dataset(_card(folder, images=images, masks=masks, **card))
    (item,) = dataset.index(folder, "train")
    return dataset.read(item)


def _write_vrt(path: Path, number: int) -> None:
    """Stack a band of bytes and two of floats."""
    where = {
        "crs": "EPSG:32633",
        "transform": UTM["transform"] @ Affine.translation(99 * number, 0),
    }
    rng = np.random.default_rng(number)
    _write(
        path.with_name("dem.tif"), rng.normal(-20, 5, (2, SIDE, SIDE)).astype("float32"), **where
    )
    _write(path.with_name("gray.tif"), rng.integers(0, 255, (SIDE, SIDE), dtype=np.uint8), **where)
    layers = (("Byte", "gray.tif", 1), ("Float32", "dem.tif", 1), ("Float32", "dem.tif", 2))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{i}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{file}</SourceFilename><SourceBand>{of}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for i, (kind, file, of) in enumerate(layers, start=1)
    )
    place = ", ".join(map(str, where["transform"].to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )


def test_layers_of_several_types_are_read_in_one_that_holds_all(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    _write_vrt(folder / "a.vrt", 0)
    _write(folder / "a_mask.tif", LAKE_HW, **UTM)
    scene = _read_beside(tmp_path, ".vrt", bands=("RED", "DEM", "SLOPE"))
    assert scene.image_CHW.dtype == np.float32
    assert scene.header.dtype == "float32"
    with rasterio.open(folder / "dem.tif") as file:
        assert np.array_equal(scene.image_CHW[1:], file.read())
    with rasterio.open(folder / "gray.tif") as file:
        assert np.array_equal(scene.image_CHW[0], file.read(1).astype(np.float32))
    with open_raster(folder / "a.vrt", bands=[("RED",), ("DEM",), ("SLOPE",)]) as raster:
        rows_CHW, _ = raster.rows(4, 12)
        assert np.array_equal(rows_CHW, scene.image_CHW[:, 4:12])


@pytest.mark.parametrize("header", [{"scales": (0.01,)}, {"offsets": (1.0,)}])
def test_a_mask_with_scale_or_offset_is_reported(tmp_path: Path, header: dict[str, Any]) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    _write(folder / "a.tif", _image(), **UTM)
    _write(folder / "a_mask.tif", LAKE_HW, **UTM)
    with rasterio.open(folder / "a_mask.tif", "r+") as file:
        for name, value in header.items():
            setattr(file, name, value)
    scene = _read_beside(tmp_path, ".tif")
    assert np.array_equal(scene.mask_HW, LAKE_HW)
    assert any("the mask declares scale" in note for note in scene.header.notes)
