"""Outlines of maps: polygons with class and area, checked against the pixels and a reader of their own."""

from __future__ import annotations

import csv
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from cryo_hpo.cli.main import main
from cryo_hpo.data.map_area import date_of
from cryo_hpo.errors import DataError, SpecError
from cryo_hpo.prediction.outlines import outline_map, write_areas

CLASSES = ("background", "lake", "ice")
PIXEL_M = 10.0


def _write(path: Path, mask_HW: np.ndarray, crs: str | None = "EPSG:3413") -> Path:
    """Write a map near the standard parallel of 70 degrees, where the projection keeps areas."""
    place = {} if crs is None else {"crs": crs, "transform": _PLACES[crs]}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=mask_HW.shape[0],
        width=mask_HW.shape[1],
        count=1,
        dtype="uint8",
        nodata=255,
        **place,
    ) as file:
        file.write(mask_HW[None].astype(np.uint8))
    return path


_PLACES = {
    # x = 0, y = -2186490 m is 70 degrees north on the central meridian: scale 1 (true parallel)
    "EPSG:3413": Affine(PIXEL_M, 0, 0, 0, -PIXEL_M, -2_186_490),
    "EPSG:4326": Affine(0.001, 0, 10.0, 0, -0.001, 60.0),
}


def _read(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, CRS]:
    meta, _, wkb, data = pyogrio.raw.read(path)
    return (
        dict(zip(meta["fields"], data, strict=True)),
        shapely.from_wkb(wkb),
        CRS.from_user_input(meta["crs"]),
    )


@pytest.fixture
def mask_file(tmp_path: Path) -> Path:
    mask_HW = np.zeros((40, 50), dtype=np.uint8)
    mask_HW[5:15, 5:25] = 1  # 200 pixels
    mask_HW[8:10, 10:12] = 0  # an island of 4
    mask_HW[20:22, 5:6] = 1  # 2 pixels
    mask_HW[25:35, 30:40] = 2  # 100 pixels
    mask_HW[0, :] = 255
    return _write(tmp_path / "map.tif", mask_HW)


def test_the_scene_is_the_mapped_one_whatever_the_map_is_called(
    mask_file: Path, tmp_path: Path
) -> None:
    outline_map(mask_file, tmp_path / "o.gpkg", classes=CLASSES, scene="lake_20190731")
    fields, *_ = _read(tmp_path / "o.gpkg")
    assert set(fields["scene"]) == {"lake_20190731"}
    assert set(fields["date"]) == {"2019-07-31"}


def test_polygons_have_class_area_and_scene(mask_file: Path, tmp_path: Path) -> None:
    areas = outline_map(mask_file, tmp_path / "o.gpkg", classes=CLASSES)
    pixel = PIXEL_M**2 / 1e6
    assert areas == pytest.approx({"lake": 198 * pixel, "ice": 100 * pixel}, rel=2e-3)
    fields, polygons, crs = _read(tmp_path / "o.gpkg")
    assert crs == CRS.from_epsg(3413)
    assert sorted(zip(fields["class"], fields["value"], strict=True)) == [
        ("ice", 2),
        ("lake", 1),
        ("lake", 1),
    ]
    assert set(fields["scene"]) == {"map"}
    assert sum(len(polygon.interiors) for polygon in polygons) == 1, "the island is a hole"
    assert shapely.area(polygons) / 1e6 == pytest.approx(fields["area_km2"], rel=2e-3)


def test_areas_are_those_of_the_ellipsoid_in_degrees_too(tmp_path: Path) -> None:
    mask_HW = np.zeros((20, 20), dtype=np.uint8)
    mask_HW[5:15, 5:15] = 1
    areas = outline_map(
        _write(tmp_path / "m.tif", mask_HW, "EPSG:4326"), tmp_path / "o.gpkg", classes=CLASSES
    )
    # A cell of 0.01 degrees at 60 N on WGS84: M(59.99) * N(59.99) cos(59.99) * (0.01 rad)^2, with
    # a = 6378137 m, e2 = 0.00669438: 0.6222 km2 (Snyder 1987, eq. 4-18 to 4-20).
    lat, a, e2 = np.radians(59.99), 6378137.0, 0.00669437999
    w2 = 1 - e2 * np.sin(lat) ** 2
    cell = a * (1 - e2) / w2**1.5 * a / w2**0.5 * np.cos(lat) * np.radians(0.01) ** 2 / 1e6
    assert areas["lake"] == pytest.approx(cell, rel=1e-4)


def test_small_ones_are_left_out_of_the_file_and_not_of_the_sum(
    mask_file: Path, tmp_path: Path
) -> None:
    whole = outline_map(mask_file, tmp_path / "all.gpkg", classes=CLASSES)
    areas = outline_map(mask_file, tmp_path / "o.gpkg", classes=CLASSES, smallest_km2=0.001)
    assert areas == whole
    assert len(_read(tmp_path / "o.gpkg")[1]) == len(_read(tmp_path / "all.gpkg")[1]) - 1


def test_simplified_neighbors_share_their_edges(tmp_path: Path) -> None:
    row, column = np.mgrid[:60, :60]
    mask_HW = np.where(row + column < 60, 1, 2)  # a staircase between two classes
    mask = _write(tmp_path / "m.tif", mask_HW)
    outline_map(mask, tmp_path / "o.gpkg", classes=CLASSES, simplify_m=30)
    _, polygons, _ = _read(tmp_path / "o.gpkg")
    first, second = polygons
    assert shapely.get_num_coordinates(polygons).sum() < 20
    assert shapely.area(shapely.intersection(first, second)) == pytest.approx(0, abs=1e-6)
    assert shapely.area(shapely.union(first, second)) == pytest.approx((60 * PIXEL_M) ** 2)


def test_a_map_without_a_class_gives_an_empty_table(tmp_path: Path) -> None:
    mask = _write(tmp_path / "m.tif", np.zeros((8, 8)))
    assert outline_map(mask, tmp_path / "o.gpkg", classes=CLASSES) == {"lake": 0.0, "ice": 0.0}
    assert len(_read(tmp_path / "o.gpkg")[1]) == 0


def test_what_cannot_be_outlined_is_refused(mask_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no class 'fire' to outline"):
        outline_map(mask_file, tmp_path / "o.gpkg", classes=CLASSES, only=["fire"])
    with pytest.warns(NotGeoreferencedWarning):
        bare = _write(tmp_path / "bare.tif", np.ones((8, 8)), crs=None)
    with pytest.raises(DataError, match="outlines have coordinates"):
        outline_map(bare, tmp_path / "o.gpkg", classes=CLASSES)
    assert not (tmp_path / "o.gpkg").exists()


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--vector", "o.shp", "must end in .gpkg"),
        ("--areas", "o.xlsx", "must end in .csv, not '.xlsx'"),
        ("--areas", "o", "must end in .csv"),
    ],
)
def test_the_command_refuses_another_suffix_before_it_maps(
    tmp_path: Path, option: str, name: str, words: str
) -> None:
    done = CliRunner().invoke(
        main, ["predict", "x", "s.tif", "--out", "m.tif", option, str(tmp_path / name)]
    )
    assert done.exit_code == 2
    assert words in done.output


def test_the_command_refuses_scenes_without_coordinates_before_it_maps(tmp_path: Path) -> None:
    with pytest.warns(NotGeoreferencedWarning):
        bare = _write(tmp_path / "bare.tif", np.ones((8, 8)), crs=None)
    words = ["predict", "x", str(bare), "--out", "m.tif", "--vector", str(tmp_path / "o.gpkg")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "this raster has none" in done.output


def test_polygons_have_the_mean_confidence_of_their_pixels_and_the_date_of_the_name(tmp_path):
    mask = np.zeros((8, 9), np.uint8)
    mask[1:4, 1:4], mask[5:7, 2:8] = 1, 2
    mask[2, 2] = 0  # a hole, which counts for nothing
    path = _write(tmp_path / "S2_2023-07-09_map.tif", mask)
    sure = np.random.default_rng(0).random((8, 9)).astype(np.float32)
    profile = {**rasterio.open(path).profile, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(tmp_path / "sure.tif", "w", **profile) as file:
        file.write(sure[None])
    outline_map(path, tmp_path / "o.gpkg", classes=CLASSES, confidence=tmp_path / "sure.tif")
    fields, _, _ = _read(tmp_path / "o.gpkg")
    of = dict(zip(fields["class"], fields["confidence"], strict=True))
    assert of == pytest.approx({"lake": sure[mask == 1].mean(), "ice": sure[mask == 2].mean()})
    assert set(fields["date"]) == {"2023-07-09"}
    style = ET.parse(tmp_path / "o.qml").getroot()
    assert [c.get("label") for c in style.iter("category")] == list(CLASSES)


def test_a_front_is_the_common_edge_of_two_classes_with_its_length(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 10:20], mask[:, 20:] = 1, 2
    path = _write(tmp_path / "m.tif", mask)
    sizes = outline_map(path, tmp_path / "m.gpkg", classes=CLASSES, only=("ice|lake",))
    assert sizes == {"ice|lake": pytest.approx(20 * PIXEL_M / 1e3, rel=2e-3)}
    meta, _, wkb, data = pyogrio.raw.read(tmp_path / "m.gpkg", layer="fronts")
    fields = dict(zip(meta["fields"], data, strict=True))
    (line,) = shapely.from_wkb(wkb)
    assert line.geom_type == "LineString"
    assert {x for x, _ in line.coords} == {20 * PIXEL_M}
    assert fields["class"].tolist() == ["ice|lake"]
    table, _, _, styles = pyogrio.raw.read(tmp_path / "m.gpkg", layer="layer_styles")
    assert any("SimpleLine" in str(column) for column in styles)
    # QGIS 3.22 asks for these and orders by the last; without it the styles are not found.
    assert {"f_table_name", "styleQML", "useAsDefault", "ui", "update_time"} <= set(table["fields"])


@pytest.mark.parametrize("stem", ["fronts", "Fronts"])
def test_a_file_may_be_called_as_its_layer_of_fronts(tmp_path, stem):
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 10:20], mask[:, 20:] = 1, 2
    path = _write(tmp_path / "m.tif", mask)
    out = tmp_path / f"{stem}.gpkg"
    outline_map(path, out, classes=CLASSES, only=("ice", "ice|lake"))
    layers = dict(pyogrio.list_layers(out))
    assert layers["fronts"] == "LineString"
    assert layers[f"{stem}-polygons"] == "Polygon"


@pytest.mark.parametrize("crs", list(_PLACES))
def test_the_table_of_areas_agrees_with_the_polygons(tmp_path, crs):
    mask = np.random.default_rng(1).integers(0, 3, (150, 70)).astype(np.uint8)
    mask[:5] = 255
    path = _write(tmp_path / "2024_map.tif", mask, crs=crs)
    areas = outline_map(path, tmp_path / "o.gpkg", classes=CLASSES, only=CLASSES)
    write_areas([("scene_20240131.tif", path)], tmp_path / "areas.csv", classes=CLASSES)
    with (tmp_path / "areas.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert {n: float(r["area_km2"]) for n, r in rows.items()} == pytest.approx(areas, rel=1e-4)
    assert rows["ice"]["pixels"] == str((mask == 2).sum())
    assert rows["ice"]["date"] == "2024-01-31"


def test_without_coordinates_the_table_has_pixels_but_no_areas(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        path = _write(tmp_path / "m.tif", np.ones((4, 5), np.uint8), crs=None)
    write_areas([(path, path)], tmp_path / "areas.csv", classes=CLASSES)
    assert "m,,{},lake,1,20,1,\n".format(path) in (tmp_path / "areas.csv").read_text()  # noqa: UP032


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("S2A_MSIL1C_20230709T142241_N0509_20240101T000000", "2023-07-09"),
        ("LC08_L1TP_001011_20200131_20200209_02_T1", "2020-01-31"),
        ("COL_2011-11-13_TDX_7_1_092", "2011-11-13"),
        ("tile_20231340", None),
        ("12023070912", None),
    ],
)
def test_the_date_is_the_first_one_in_a_name(name, date):
    assert date_of(name) == date
