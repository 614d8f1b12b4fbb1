"""Maps as they are written: Cloud Optimized GeoTIFFs, in the colors of their QGIS style."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from cryo_hpo.data.dataset import SceneFiles
from cryo_hpo.data.ground import ground_of
from cryo_hpo.data.palette import CLASS_COLORS, rgb
from cryo_hpo.data.qgis_style import map_style, outline_style
from cryo_hpo.data.raster_stream import float_writer, mask_writer, open_raster, write_rows

from ..support.fakes import write

CLASSES = ("rock & snow", "ice")
SIZE = (600, 700)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene of Antarctica, on the meridian of 90 degrees west, where north is on the right."""
    place = {"crs": "EPSG:3031", "transform": Affine(10, 0, -2_000_000, 0, -10, 3_000)}
    shape = {"height": SIZE[0], "width": SIZE[1], "count": 1, "dtype": "uint8"}
    path = tmp_path / "scene.tif"
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(np.ones((1, *SIZE), np.uint8))
    return path


def test_maps_are_cloud_optimized_with_overviews_names_and_colors(
    scene: Path, tmp_path: Path
) -> None:
    mask = np.zeros((1, *SIZE), np.uint8)
    mask[:, 300:] = 1
    with open_raster(scene, bands=[("x",)], layers=[1]) as source:
        with mask_writer(tmp_path / "map.tif", source, classes=CLASSES) as file:
            for top in range(0, SIZE[0], 200):
                write_rows(file, top, mask[:, top : top + 200])
        with float_writer(tmp_path / "p.tif", source, layers=("entropy", "spread")) as file:
            write_rows(file, 0, np.full((2, *SIZE), 0.5, np.float32))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2, 4]
        assert file.tags()["CLASS_0"] == "rock & snow"
        assert file.colormap(1)[1][:3] == rgb(CLASS_COLORS[1])
        assert np.array_equal(file.read(), mask)
        assert (file.nodata, file.crs.to_epsg()) == (255, 3031)
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.descriptions == ("entropy", "spread")
    assert not [p.name for p in tmp_path.iterdir() if "draft" in p.name]


def test_styles_name_every_class_in_its_color() -> None:
    entries = list(ET.fromstring(map_style(CLASSES)).iter("paletteEntry"))
    found = {e.get("label"): (e.get("value"), e.get("color")) for e in entries}
    assert found == {name: (str(k), CLASS_COLORS[k]) for k, name in enumerate(CLASSES)}
    for geometry in ("fill", "line"):
        root = ET.fromstring(outline_style(CLASSES, geometry=geometry))
        assert [symbol.get("type") for symbol in root.iter("symbol")] == [geometry] * 2


def test_north_and_position_of_a_scene(scene: Path) -> None:
    ground = ground_of(SceneFiles("a", None, scene, scene))
    assert ground is not None
    assert ground.longitude == pytest.approx(-90, abs=0.01)
    assert -73 < ground.latitude < -70
    assert ground.north == pytest.approx(-90, abs=0.01), "away from the pole, which is on the right"
    half = SceneFiles("b", None, scene, scene, window=(slice(0, 600), slice(0, 100)))
    assert ground_of(half).latitude > ground.latitude  # type: ignore[union-attr]
    assert ground_of(SceneFiles("c", None, scene.with_name("no.tif"), scene)) is None


@pytest.mark.parametrize(
    ("crs", "transform", "stretch"),
    [
        ("EPSG:4326", Affine(1e-3, 0, 10, 0, -1e-3, 60.05), 2.0),
        ("EPSG:4326", Affine(2e-3, 0, 10, 0, -1e-3, 60.05), 1.0),
        ("EPSG:4326", Affine(0, 1e-3, 10, -1e-3, 0, 60.05), 0.5),
        ("EPSG:32632", Affine(10, 0, 5e5, 0, -10, 6e6), 1.0),
    ],
    ids=["square degrees", "degrees that suit the latitude", "turned", "meters"],
)
def test_the_shape_of_a_pixel_on_the_ground(
    tmp_path: Path, crs: str, transform: Affine, stretch: float
) -> None:
    scene = tmp_path / "a.tif"
    write(scene, np.ones((1, 100, 100), dtype=np.uint8), crs=crs, transform=transform)
    ground = ground_of(SceneFiles("a", None, scene, scene))
    assert ground is not None
    assert ground.stretch == pytest.approx(stretch, rel=0.01)


def test_a_scene_on_a_grid_of_no_globe_has_no_ground(tmp_path: Path) -> None:
    """Its test map is drawn last of all, when everything is trained."""
    wkt = 'LOCAL_CS["front",LOCAL_DATUM["local",0],UNIT["meter",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    scene, pixels = tmp_path / "a.tif", np.ones((1, 8, 8), dtype=np.uint8)
    write(scene, pixels, crs=wkt, transform=Affine(1, 0, 100, 0, -1, 50))
    assert ground_of(SceneFiles("a", None, scene, scene)) is None
