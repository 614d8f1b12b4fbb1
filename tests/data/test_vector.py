from __future__ import annotations

import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.transform import Affine

from cryo_hpo.config.vector_layer import VectorLayer
from cryo_hpo.data.dataset import IGNORE
from cryo_hpo.data.drawn_mask import find_outlines, refuse_replacing, write_mask
from cryo_hpo.data.vector import Grid, area_km2, rasterize_layers
from cryo_hpo.data.vector_file import describe_layer
from cryo_hpo.errors import DataError

from ..support.fakes import write
from ..support.outlines import write_outlines

UTM = "EPSG:32632"
CLASSES = ("background", "lake", "river")
GRID = Grid(CRS.from_user_input(UTM), Affine(10, 0, 500_000, 0, -10, 5_200_000), 100, 100)


def _box(left, top, right, bottom):
    """Return a rectangle by columns and rows of the grid."""
    return shapely.box(
        500_000 + 10 * left, 5_200_000 - 10 * bottom, 500_000 + 10 * right, 5_200_000 - 10 * top
    )


def _draw(*layers):
    return rasterize_layers(layers, CLASSES, GRID)


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson", ".kml"])
def test_every_kind_of_file_gives_the_same_mask(tmp_path, suffix):
    shape, crs = _box(20, 30, 60, 50), UTM
    if suffix in (".geojson", ".kml"):  # both are in degrees by their standards
        crs = "EPSG:4326"
        corners = rasterio.warp.transform(UTM, crs, *shapely.get_coordinates(shape).T)
        shape = shapely.Polygon(np.column_stack(corners))
    path = write_outlines(tmp_path / f"lakes{suffix}", [shape], crs=crs, name=["a"])
    mask_HW = _draw((path, VectorLayer(file=path.name, label="lake")))
    expected_HW = np.zeros((100, 100), dtype=np.uint8)
    expected_HW[30:50, 20:60] = 1
    assert (mask_HW != expected_HW).sum() <= 4  # corners, moved by less than a pixel
    assert mask_HW.sum() == pytest.approx(800, abs=4)


def test_holes_stay_and_later_features_cover_earlier_ones(tmp_path):
    ring = shapely.difference(_box(10, 10, 50, 50), _box(20, 20, 40, 40))
    path = write_outlines(
        tmp_path / "a.gpkg", [ring, _box(45, 10, 60, 50)], kind="Polygon", type=[1, 2]
    )
    layer = VectorLayer(file="a.gpkg", attribute="type", labels={"1": "lake", "2": "river"})
    mask_HW = _draw((path, layer))
    assert mask_HW[30, 30] == 0
    assert mask_HW[15, 15] == 1
    assert mask_HW[15, 47] == 2
    assert np.bincount(mask_HW.ravel(), minlength=3).tolist() == [8400, 1000, 600]


def test_later_layers_cover_earlier_ones_even_with_the_first_class(tmp_path):
    lakes = write_outlines(tmp_path / "lakes.gpkg", [_box(0, 0, 50, 50)], id=[1])
    islands = write_outlines(tmp_path / "islands.gpkg", [_box(10, 10, 20, 20)], id=[1])
    mask_HW = _draw(
        (lakes, VectorLayer(file="lakes.gpkg", label="lake")),
        (islands, VectorLayer(file="islands.gpkg", label="background")),
    )
    assert mask_HW.sum() == 2500 - 100


def test_a_column_may_say_ignore_and_a_condition_may_leave_features_out(tmp_path):
    shapes = [_box(0, 0, 10, 10), _box(10, 0, 20, 10), _box(20, 0, 30, 10)]
    path = write_outlines(
        tmp_path / "a.gpkg", shapes, sure=["yes", "no", "yes"], year=[2001, 2001, 2020]
    )
    layer = VectorLayer(
        file="a.gpkg", attribute="sure", labels={"yes": "lake", "no": "ignore"}, where="year < 2010"
    )
    mask_HW = _draw((path, layer))
    assert mask_HW[5, [5, 15, 25]].tolist() == [1, IGNORE, 0]


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3413"])
def test_a_front_becomes_a_band_of_true_width_whatever_the_crs_of_its_file(tmp_path, crs):
    """A line down the middle, 60 m to either side: 12 of 100 columns of 10 m."""
    xs, ys = np.full(50, 500_500.0), np.linspace(5_198_000, 5_201_000, 50)
    points = rasterio.warp.transform(UTM, crs, xs, ys)
    line = shapely.LineString(np.column_stack(points))
    path = write_outlines(tmp_path / "front.gpkg", [line], crs=crs, kind="LineString", id=[1])
    mask_HW = _draw((path, VectorLayer(file="front.gpkg", label="lake", buffer_m=60)))
    assert (mask_HW[:, 44:56] == 1).mean() > 0.99
    assert mask_HW[:, :43].sum() == mask_HW[:, 57:].sum() == 0


def test_a_long_edge_bends_as_its_own_crs_says(tmp_path):
    """The 47th parallel, straight in degrees, is a curve on UTM: 40 km of it leave the chord by 60 m."""
    grid = Grid(CRS.from_user_input(UTM), Affine(100, 0, 460_000, 0, -100, 5_210_000), 200, 800)
    box = shapely.box(8.48, 46.9, 9.5, 47.0)
    path = write_outlines(tmp_path / "a.gpkg", [box], crs="EPSG:4326", id=[1])
    mask_HW = rasterize_layers([(path, VectorLayer(file="a.gpkg", label="lake"))], CLASSES, grid)
    rows, columns = np.nonzero(mask_HW)
    xs, ys = rasterio.transform.xy(grid.transform, rows, columns)
    lons, lats = rasterio.warp.transform(UTM, "EPSG:4326", xs, ys)
    assert max(lats) < 47.0 + 1e-5
    assert min(lats) > 46.9 - 1e-5
    assert min(lons) > 8.48 - 1e-5


@pytest.mark.parametrize("all_touched", [True, False])
def test_small_features_may_touch_or_must_cover_a_center(tmp_path, all_touched):
    speck = shapely.box(500_001, 5_199_991, 500_003, 5_199_993)  # off the center of its pixel
    path = write_outlines(tmp_path / "a.gpkg", [speck], id=[1])
    layer = VectorLayer(file="a.gpkg", label="lake", all_touched=all_touched)
    assert _draw((path, layer)).sum() == int(all_touched)


def test_no_feature_near_the_image_leaves_it_background(tmp_path):
    path = write_outlines(tmp_path / "a.gpkg", [_box(5000, 5000, 5010, 5010)], id=[1])
    assert _draw((path, VectorLayer(file="a.gpkg", label="lake"))).sum() == 0


def _two_layers(folder):
    write_outlines(folder / "a.gpkg", [_box(0, 0, 1, 1)], layer="one", id=[1])
    return write_outlines(folder / "a.gpkg", [_box(0, 0, 1, 1)], layer="two", id=[1])


def _no_crs(folder):
    path = write_outlines(folder / "a.shp", [_box(0, 0, 1, 1)], id=[1])
    path.with_suffix(".prj").unlink()
    return path


def _hostile(folder):
    path = folder / "a.geojson"
    path.write_text("<OGRVRTDataSource><OGRVRTLayer name='x'></OGRVRTLayer></OGRVRTDataSource>")
    return path


def _cut(folder):
    path = write_outlines(folder / "a.gpkg", [_box(0, 0, 1, 1)], id=[1])
    path.write_bytes(path.read_bytes()[:5000])
    return path


def _line(folder):
    line = shapely.LineString([(500_000, 5_200_000), (500_100, 5_199_000)])
    return write_outlines(folder / "a.gpkg", [line], kind="LineString", id=[1])


def _local(folder):
    crs = 'LOCAL_CS["site",UNIT["m",1]]'
    return write_outlines(folder / "a.gpkg", [_box(0, 0, 9, 9)], crs=crs, id=[1])


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "missing": (lambda folder: folder / "none.gpkg", {"label": "lake"}, "does not exist"),
    "two layers": (_two_layers, {"label": "lake"}, "holds 2 layers (one, two). Name one"),
    "no such layer": (_two_layers, {"label": "lake", "layer": "x"}, "no layer named 'x'"),
    "no CRS": (_no_crs, {"label": "lake"}, "name no CRS"),
    "a local CRS": (_local, {"label": "lake"}, "not tied to the globe"),
    "another kind": (_hostile, {"label": "lake"}, "not what the suffix"),
    "damaged": (_cut, {"label": "lake"}, "cannot read"),
    "a line without a width": (_line, {"label": "lake"}, "Give --buffer-m"),
    "no such column": (
        _line,
        {"attribute": "type", "labels": {"1": "lake"}},
        "no column named 'type'. Columns: id",
    ),
    "a value without a class": (
        _line,
        {"attribute": "id", "labels": {"7": "lake"}, "buffer_m": 1.0},
        "1 values of column 'id' have no class ('1')",
    ),
    "a bad condition": (_line, {"label": "lake", "where": "no sense"}, "cannot read its features"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_refused_in_words(tmp_path, case):
    make, how, words = REFUSED[case]
    path = make(tmp_path)
    with pytest.raises(DataError) as caught:
        _draw((path, VectorLayer(file=path.name, **how)))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_image_without_a_place_is_refused(tmp_path):
    path = tmp_path / "a.png"
    write(path, np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(DataError, match="without CRS"):
        Grid.of(path)


def test_real_outlines_have_the_area_of_their_inventory(shared):
    """RGI outlines in the Alps: on the ellipsoid, and rasterized, against the inventory's own `Area`."""
    folder = shared / "data" / "oetztal"
    path = folder / "rgi_oetztal.shp"
    _, _, wkb, (listed,) = pyogrio.raw.read(path, columns=["Area"])
    shapes = shapely.from_wkb(wkb)
    assert area_km2(shapes, CRS.from_epsg(4326)) == pytest.approx(listed, rel=2e-3)
    grid = Grid.of(Path(folder / "srtm_oetztal.tif"))
    layer = VectorLayer(file=path.name, label="glacier")
    mask_HW = rasterize_layers([(path, layer)], ("rock", "glacier"), grid)
    rows = np.nonzero(mask_HW)[0]
    lat = np.radians(grid.transform.f + grid.transform.e * (rows + 0.5))
    pixel_km2 = (111.32 * grid.transform.a) * (111.2 * -grid.transform.e) * np.cos(lat)
    inside = shapely.box(*rasterio.transform.array_bounds(grid.height, grid.width, grid.transform))
    within = area_km2(shapely.intersection(shapes, inside), CRS.from_epsg(4326)).sum()
    assert pixel_km2.sum() == pytest.approx(within, rel=0.01)


def test_meters_under_a_crs_of_degrees_are_refused(tmp_path):
    path = tmp_path / "a.geojson"
    square = shapely.to_geojson(_box(20, 20, 40, 40))
    path.write_text(
        '{"type": "FeatureCollection", "features": '
        f'[{{"type": "Feature", "properties": {{}}, "geometry": {square}}}]}}'
    )
    with pytest.raises(DataError, match=r"in degrees by their CRS.*ogr2ogr -a_srs"):
        _draw((path, VectorLayer(file=path.name, label="lake")))


def test_a_spike_of_a_polygon_is_not_drawn(tmp_path):
    x, y = 500_100, 5_199_900
    spike = [(x, y), (x + 200, y), (x + 800, y), (x + 200, y), (x + 200, y - 200), (x, y - 200)]
    path = write_outlines(tmp_path / "a.gpkg", [shapely.Polygon(spike)])
    assert _draw((path, VectorLayer(file="a.gpkg", label="lake"))).sum() == 400


def test_pixels_outside_of_the_digitized_area_have_no_label(tmp_path):
    write(
        tmp_path / "image.tif",
        np.zeros((1, 100, 100), dtype=np.uint8),
        crs=UTM,
        transform=GRID.transform,
    )
    lakes = write_outlines(tmp_path / "lakes.gpkg", [_box(10, 10, 30, 30), _box(80, 80, 90, 90)])
    area = write_outlines(tmp_path / "area.gpkg", [_box(0, 0, 50, 50)])
    layer = VectorLayer(file="lakes.gpkg", label="1")
    mask = write_mask(lakes, layer, tmp_path / "image.tif", tmp_path / "mask.tif", within=area)
    with rasterio.open(mask.file) as file:
        mask_HW = file.read(1)
    assert (mask_HW[:50, :50] == 1).sum() == 400
    assert (mask_HW[50:] == IGNORE).all()
    assert mask.share == 400 / 10_000


def test_outlines_on_an_image_beyond_its_edge_and_outside_are_counted(tmp_path):
    write(
        tmp_path / "image.tif",
        np.zeros((1, 100, 100), dtype=np.uint8),
        crs=UTM,
        transform=GRID.transform,
    )
    near = _box(101, 0, 104, 10)  # inside of the box in which outlines are looked for
    shapes = [_box(10, 10, 30, 30), _box(90, 90, 110, 95), near, _box(500, 0, 600, 10), None]
    path = write_outlines(tmp_path / "a.gpkg", shapes, size=[1, 1, 1, 1, 2])
    layer = VectorLayer(file="a.gpkg", label="1", where="size = 1")
    mask = write_mask(path, layer, tmp_path / "image.tif", tmp_path / "mask.tif")
    assert (len(mask.ids), mask.cut) == (2, 1)
    assert str(mask.extent) == "from 500100 5199050 to 501100 5199900 in EPSG:32632"
    every = find_outlines(path, layer)
    assert len(every.ids) == 4, "those that the condition selects"
    assert mask.ids < every.ids
    assert every.extent is not None
    assert every.extent[:4] == (500_100, 5_199_050, 506_000, 5_200_000)
    empty = find_outlines(path, VectorLayer(file="a.gpkg", label="1", where="size = 2"))
    assert (len(empty.ids), empty.extent) == (1, None)


def test_an_outline_without_points_has_no_part_in_the_extent(tmp_path):
    path = write_outlines(tmp_path / "a.gpkg", [_box(10, 10, 30, 30), shapely.Polygon()])
    every = find_outlines(path, VectorLayer(file="a.gpkg", label="1"))
    assert every.extent is not None
    assert every.extent[:4] == (500_100, 5_199_700, 500_300, 5_199_900)


def test_pixels_in_outlines_of_several_classes_are_counted(tmp_path):
    image = np.zeros((1, 100, 100), dtype=np.uint8)
    write(tmp_path / "image.tif", image, crs=UTM, transform=GRID.transform)
    shapes = [_box(10, 10, 30, 30), _box(20, 20, 40, 40), _box(25, 25, 35, 35)]
    path = write_outlines(tmp_path / "a.gpkg", shapes, what=["lake", "ice", "ice"])
    layer = VectorLayer(file="a.gpkg", attribute="what", labels={"lake": "1", "ice": "2"})
    mask = write_mask(path, layer, tmp_path / "image.tif", tmp_path / "mask.tif")
    assert mask.contested == 100 / 10_000
    with rasterio.open(mask.file) as file:
        assert (file.read(1)[20:30, 20:30] == 2).all(), "the last in the file"
    alone = VectorLayer(file="a.gpkg", label="1")
    mask = write_mask(path, alone, tmp_path / "image.tif", tmp_path / "again.tif")
    assert mask.contested == 0


def test_only_masks_that_were_drawn_from_outlines_are_replaced(tmp_path):
    image = np.zeros((1, 100, 100), dtype=np.uint8)
    write(tmp_path / "image.tif", image, crs=UTM, transform=GRID.transform)
    path = write_outlines(tmp_path / "a.gpkg", [_box(10, 10, 30, 30)])
    layer = VectorLayer(file="a.gpkg", label="1")
    drawn = write_mask(path, layer, tmp_path / "image.tif", tmp_path / "mask.tif").file
    refuse_replacing([drawn, tmp_path / "new.tif"])
    (tmp_path / "damaged.tif").write_bytes(b"")
    for other in ("image.tif", "damaged.tif"):
        with pytest.raises(DataError, match=r"not replaced.*--out"):
            refuse_replacing([drawn, tmp_path / other])


def _with_styles(path):
    """Add the table of styles that QGIS keeps in a GeoPackage."""
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, styleQML TEXT)")
        base.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
    base.close()
    return path


def test_tables_without_geometry_and_empty_layers_are_no_choice(tmp_path):
    square = _box(20, 20, 40, 40)
    lakes = _with_styles(write_outlines(tmp_path / "lakes.gpkg", [square], layer="lakes"))
    write_outlines(lakes, [], layer="empty")
    assert (_draw((lakes, VectorLayer(file="lakes.gpkg", label="lake"))) == 1).sum() == 400
    nested = tmp_path / "nested.kml"
    ring = rasterio.warp.transform(UTM, "EPSG:4326", *shapely.get_coordinates(square).T)
    text = " ".join(f"{x},{y},0" for x, y in zip(*ring, strict=True))
    nested.write_text(
        '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Folder>'
        "<name>Greenland</name><Folder><name>lakes</name><Placemark><Polygon><outerBoundaryIs>"
        f"<LinearRing><coordinates>{text}</coordinates></LinearRing></outerBoundaryIs></Polygon>"
        "</Placemark></Folder></Folder></Document></kml>"
    )
    assert (_draw((nested, VectorLayer(file="nested.kml", label="lake"))) == 1).sum() == 400


def test_features_without_geometry_are_left_out(tmp_path):
    path = write_outlines(tmp_path / "a.gpkg", [_box(20, 20, 40, 40), None, shapely.Polygon()])
    assert (_draw((path, VectorLayer(file="a.gpkg", label="lake"))) == 1).sum() == 400


@pytest.mark.parametrize("step", [10, -10])
def test_rows_may_run_either_way(tmp_path, step):
    path = write_outlines(tmp_path / "a.gpkg", [_box(20, 20, 40, 40)])
    top = 5_200_000 if step < 0 else 5_199_000
    grid = Grid(GRID.crs, Affine(10, 0, 500_000, 0, step, top), 100, 100)
    mask = rasterize_layers([(path, VectorLayer(file="a.gpkg", label="lake"))], CLASSES, grid)
    rows = np.flatnonzero(mask.any(axis=1))
    assert mask.sum() == 400
    assert rows[0] == (20 if step < 0 else 60)


def _at_the_date_line():
    """Return a grid of 20 km around 71 degrees north on the date line."""
    crs = CRS.from_epsg(32601)
    (x,), (y,) = rasterio.warp.transform("EPSG:4326", crs, [180.0], [71.0])
    return Grid(crs, Affine(100, 0, x - 10_000, 0, -100, y + 10_000), 200, 200)


def test_outlines_on_both_sides_of_the_date_line_are_drawn(tmp_path):
    west, east = shapely.box(179.9, 70.95, 180, 71.05), shapely.box(-180, 70.95, -179.9, 71.05)
    whole = shapely.box(179.9, 70.95, 180.1, 71.05)
    masks = []
    for number, shapes in enumerate(([west, east], [whole])):
        path = write_outlines(tmp_path / f"{number}.gpkg", shapes, crs="EPSG:4326")
        layer = VectorLayer(file=path.name, label="lake")
        masks.append(rasterize_layers([(path, layer)], CLASSES, _at_the_date_line()))
    # A fifth of a degree of longitude is 7.26 km there, a tenth of latitude 11.16 km.
    assert masks[0].sum() == pytest.approx(72.6 * 111.6, rel=0.01)
    assert (masks[0] != masks[1]).sum() < 5
    wrapped = shapely.Polygon([(179.9, 70.95), (-179.9, 70.95), (-179.9, 71.05), (179.9, 71.05)])
    path = write_outlines(tmp_path / "wrapped.gpkg", [wrapped], crs="EPSG:4326")
    with pytest.raises(DataError, match="cross the date line in one piece"):
        rasterize_layers(
            [(path, VectorLayer(file=path.name, label="lake"))], CLASSES, _at_the_date_line()
        )


def test_a_cap_around_the_pole_is_not_a_jump(tmp_path):
    cap = shapely.box(-180, 89.5, 180, 90)
    path = write_outlines(tmp_path / "cap.gpkg", [cap], crs="EPSG:4326")
    grid = Grid(CRS.from_epsg(3413), Affine(1000, 0, -100_000, 0, -1000, 100_000), 200, 200)
    mask = rasterize_layers([(path, VectorLayer(file="cap.gpkg", label="lake"))], CLASSES, grid)
    # Half a degree is 55.8 km; the scale of this projection at the pole is 0.9699.
    assert mask.sum() == pytest.approx(np.pi * (55.84 * 0.9699) ** 2, rel=0.02)


def test_a_condition_that_selects_nothing_is_refused(tmp_path):
    shapes = [_box(20, 20, 40, 40), _box(500, 500, 600, 600)]  # the second far from the image
    path = write_outlines(tmp_path / "a.gpkg", shapes, year=[2010, 2020])
    far = VectorLayer(file="a.gpkg", label="lake", where="year = 2020")
    assert not _draw((path, far)).any()
    none = VectorLayer(file="a.gpkg", label="lake", where="year > 2020")
    with pytest.raises(DataError, match="no feature meets the condition 'year > 2020'"):
        _draw((path, none))


def test_infinite_coordinates_are_refused(tmp_path):
    lost = shapely.Polygon([(500_000, 5_200_000), (np.inf, 5_200_000), (500_100, 5_199_000)])
    path = write_outlines(tmp_path / "a.gpkg", [_box(20, 20, 40, 40), lost])
    with pytest.raises(DataError, match="infinite coordinates"):
        _draw((path, VectorLayer(file="a.gpkg", label="lake")))


def test_a_column_whose_name_is_no_utf8_is_refused(tmp_path):
    ring = "[[[10.1, 69.9], [10.5, 69.9], [10.5, 69.5], [10.1, 69.9]]]"
    feature = (
        '{"type": "Feature", "properties": {"NAME": "1"}, "geometry": {"type": "Polygon", '
        f'"coordinates": {ring}}}}}'
    )
    text = f'{{"type": "FeatureCollection", "features": [{feature}]}}'
    file = tmp_path / "a.geojson"
    file.write_bytes(text.encode().replace(b"NAME", b"\xebis"))
    with pytest.raises(DataError, match=r"a\.geojson: a name of a layer or column is not UTF-8"):
        describe_layer(file, VectorLayer(file=file.name, label="lake"))


def _zip(path, *files, folder=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"{folder}{file.name}")
    return path


def test_a_zipped_shapefile_gives_the_mask_of_the_unpacked_one(tmp_path):
    shapes = [_box(20, 30, 60, 50), _box(5, 5, 10, 10)]
    lakes = write_outlines(tmp_path / "lakes.shp", shapes, type=[1, 2])
    labels = {"1": "lake", "2": "river"}
    plain_HW = _draw((lakes, VectorLayer(file="lakes.shp", attribute="type", labels=labels)))
    files = sorted(tmp_path.glob("lakes.*"))
    zipped = _zip(tmp_path / "rgi 60 {11}.zip", *files, folder="11_rgi60/")
    layer = VectorLayer(file=zipped.name, attribute="type", labels=labels, where="type < 3")
    assert (_draw((zipped, layer)) == plain_HW).all()
    assert np.bincount(plain_HW.ravel()).tolist() == [9175, 800, 25]


def test_a_kmz_is_read(tmp_path):
    corners = rasterio.warp.transform(
        UTM, "EPSG:4326", *shapely.get_coordinates(_box(20, 30, 60, 50)).T
    )
    shape = shapely.Polygon(np.column_stack(corners))
    kml = write_outlines(tmp_path / "doc.kml", [shape], crs="EPSG:4326", name=["a"])
    zipped = _zip(tmp_path / "lakes.kmz", kml)
    mask_HW = _draw((zipped, VectorLayer(file=zipped.name, label="lake")))
    assert mask_HW.sum() == pytest.approx(800, abs=4)


def test_archives_that_may_mean_several_things_are_refused(tmp_path):
    first = write_outlines(tmp_path / "a.gpkg", [_box(0, 0, 9, 9)], id=[1])
    second = write_outlines(tmp_path / "b.gpkg", [_box(0, 0, 9, 9)], id=[1])
    odd = tmp_path / "c.shp"
    odd.write_bytes(b"<OGRVRTDataSource/>")
    text = tmp_path / "readme.txt"
    text.write_text("no outlines")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(_zip(tmp_path / "whole.zip", first).read_bytes()[:200])
    cases = {
        _zip(tmp_path / "two.zip", first, second): r"2 vector files \(a.gpkg, b.gpkg\)",
        _zip(tmp_path / "none.zip", text): "no vector file",
        _zip(tmp_path / "odd.zip", odd): "not what the suffix '.shp' says",
        cut: "cannot read this archive",
    }
    for path, words in cases.items():
        with pytest.raises(DataError, match=words):
            _draw((path, VectorLayer(file=path.name, label="lake")))
