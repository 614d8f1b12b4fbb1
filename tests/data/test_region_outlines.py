"""A scene's region is the outline that covers most of it; what is not clear is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.warp
import shapely
from rasterio.crs import CRS
from rasterio.transform import Affine

from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.leakage import find_shared
from cryo_hpo.data.region_outlines import regions_on_ground
from cryo_hpo.data.region_split import PARTS
from cryo_hpo.data.splits import identify_scenes, parts_of
from cryo_hpo.errors import DataError

from ..support.fakes import write
from ..support.outlines import write_outlines

UTM = "EPSG:32633"
EAST, NORTH, SIDE_M = 500_000, 8_700_000, 320  # of the first scene, see `support.fakes`
STEP_M = 1000  # from scene to scene
GLACIERS = ("Aldous", "Borebreen", "Comfort", "Duvebreen", "Esmark")


def _card(**changes: Any) -> DatasetCard:
    raw = {
        "name": "mine",
        "root": "mine",
        "images": "images/{id}.tif",
        "masks": "masks/{id}.tif",
        "bands": ("B4", "B3"),
        "classes": ("land", "lake"),
        "split": {"by": "region"},
        "region_outlines": {"file": "regions.gpkg", "attribute": "glacier"},
    }
    return DatasetCard(**{**raw, **changes})


def _heap(root: Path, num: int = 10, **place: Any) -> None:
    rng = np.random.default_rng(0)
    for i in range(num):
        where = {"georeferenced": True, "place": (i, 0), **place}
        write(
            root / f"mine/images/s{i:02}.tif", rng.integers(1, 200, (2, 32, 32), np.uint16), **where
        )
        write(root / f"mine/masks/s{i:02}.tif", rng.integers(0, 2, (1, 32, 32), np.uint8), **where)


def _box(first: float, last: float) -> shapely.Polygon:
    """Return a rectangle around the scenes from one number to another."""
    return shapely.box(
        EAST + STEP_M * first - 50, NORTH - 1000, EAST + STEP_M * last + SIDE_M + 50, NORTH + 100
    )


def _in_degrees(shape: shapely.Polygon) -> shapely.Polygon:
    corners = shapely.get_coordinates(shapely.segmentize(shape, 200))
    return shapely.Polygon(np.column_stack(rasterio.warp.transform(UTM, "EPSG:4326", *corners.T)))


def _five(root: Path, suffix: str = ".gpkg", crs: str = UTM) -> None:
    """Write outlines of five glaciers; each holds two scenes."""
    boxes = [_box(2 * i, 2 * i + 1) for i in range(len(GLACIERS))]
    if crs != UTM:
        boxes = [_in_degrees(box) for box in boxes]
    write_outlines(root / f"mine/regions{suffix}", boxes, crs=crs, glacier=GLACIERS)


def _regions(root: Path, card: DatasetCard) -> dict[str, str | None]:
    return {item.id: item.region for item in custom_dataset(card).index(root, "train")}


@pytest.mark.parametrize(
    ("suffix", "crs"), [(".gpkg", UTM), (".shp", "EPSG:4326"), (".geojson", "EPSG:4326")]
)
def test_each_scene_takes_the_region_that_it_lies_in(tmp_path, suffix, crs):
    _heap(tmp_path)
    _five(tmp_path, suffix, crs)
    card = _card(region_outlines={"file": f"regions{suffix}", "attribute": "glacier"})
    assert _regions(tmp_path, card) == {f"s{i:02}": GLACIERS[i // 2] for i in range(10)}


@pytest.mark.parametrize("by", ["region", "scene"])
def test_regions_are_never_divided_and_land_in_every_part(tmp_path, by):
    _heap(tmp_path)
    _five(tmp_path)
    dataset = custom_dataset(_card(split={"by": by}))
    parts = parts_of(dataset, tmp_path, cache=tmp_path / "cache")
    where = {part: {item.region for item in parts[part]} for part in PARTS}
    assert sum(map(len, where.values())) == len(GLACIERS)
    assert all(where.values())
    identities = {
        part: identify_scenes(dataset, tmp_path, items, cache=tmp_path / "cache")
        for part, items in parts.items()
    }
    assert not find_shared(identities)


def test_other_outlines_give_another_split_whatever_is_cached(tmp_path):
    _heap(tmp_path)
    _five(tmp_path)
    dataset = custom_dataset(_card())
    parts_of(dataset, tmp_path, cache=tmp_path / "cache")
    boxes = [_box(0, 0), _box(1, 8), _box(9, 9)]
    (tmp_path / "mine/regions.gpkg").unlink()
    write_outlines(tmp_path / "mine/regions.gpkg", boxes, crs=UTM, glacier=["a", "b", "c"])
    parts = parts_of(dataset, tmp_path, cache=tmp_path / "cache")
    assert {len(items) for items in parts.values()} == {8, 1}


def test_another_expression_gives_another_split_whatever_is_cached(tmp_path):
    _heap(tmp_path, num=12)
    by = {"region_outlines": None, "split": {"by": "scene"}}
    ends, each = (
        parts_of(custom_dataset(_card(region=region, **by)), tmp_path, cache=tmp_path / "cache")
        for region in (r"s\d(\d)", r"(s\d\d)")
    )
    together = {"s00", "s10"}
    assert any(together <= {item.id for item in items} for items in ends.values())
    assert {part: [item.region for item in items] for part, items in each.items()} == {
        part: [item.id for item in items] for part, items in each.items()
    }


def test_numbers_and_outlines_of_several_years_are_one_region(tmp_path):
    _heap(tmp_path, num=1)
    boxes = [_box(0, 0), _box(0, 0), shapely.box(EAST, NORTH - 200, EAST + 320, NORTH)]
    write_outlines(tmp_path / "mine/regions.gpkg", boxes, crs=UTM, glacier=[7.0, 7.0, 8.0])
    # Added up, the two outlines of 7 would have 76 %; together they cover the scene once: 62 %.
    assert _regions(tmp_path, _card()) == {"s00": "7"}
    outlines = {"file": "regions.gpkg", "attribute": "glacier", "majority": 0.7}
    with pytest.raises(DataError, match="'7' 62 %, '8' 38 %"):
        _regions(tmp_path, _card(region_outlines=outlines))


def _half(west: float, east: float) -> shapely.Polygon:
    return shapely.box(EAST + west, NORTH - 320, EAST + east, NORTH)


REFUSED: dict[str, tuple[list[Any], list[Any], str]] = {
    "two regions": ([_half(0, 170), _half(170, 320)], ["a", "b"], "s00: 'a' 53 %, 'b' 47 %"),
    "elsewhere": ([_box(5, 6)], ["a"], "1 of 1 scenes of 'mine' lie in no outline.*first: s00"),
    "no name": ([_box(0, 0)], [None], "lie in no outline that has a value in 'glacier'"),
    "touching": ([_half(320, 640)], ["a"], "lie in no outline"),
    "unnamed half": ([_half(0, 170), _half(170, 320)], ["a", None], "'' 47 %"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_scenes_without_a_clear_region_are_named(tmp_path, case):
    shapes, names, words = REFUSED[case]
    _heap(tmp_path, num=1)
    values = np.array(names, dtype=object)
    write_outlines(tmp_path / "mine/regions.gpkg", shapes, crs=UTM, glacier=list(values))
    with pytest.raises(DataError, match=words):
        _regions(tmp_path, _card())


def test_the_largest_region_may_be_enough_but_never_a_tie(tmp_path):
    _heap(tmp_path, num=1)
    path = tmp_path / "mine/regions.gpkg"
    outlines = {"file": "regions.gpkg", "attribute": "glacier", "majority": 0}
    write_outlines(path, [_half(0, 170), _half(170, 320)], crs=UTM, glacier=["a", "b"])
    assert _regions(tmp_path, _card(region_outlines=outlines)) == {"s00": "a"}
    path.unlink()
    write_outlines(path, [_half(0, 160), _half(160, 320)], crs=UTM, glacier=["a", "b"])
    with pytest.raises(DataError, match="'a' 50 %, 'b' 50 %"):
        _regions(tmp_path, _card(region_outlines=outlines))


def test_files_that_cannot_name_regions_are_refused(tmp_path):
    _heap(tmp_path, num=1)
    path = tmp_path / "mine/regions.gpkg"
    with pytest.raises(DataError, match="does not exist"):
        _regions(tmp_path, _card())
    write_outlines(path, [_box(0, 0)], crs=UTM, name=["a"])
    with pytest.raises(DataError, match=r"no column named 'glacier'.*Columns: name"):
        _regions(tmp_path, _card())
    path.unlink()
    line = shapely.LineString([(EAST, NORTH), (EAST + 99, NORTH)])
    write_outlines(path, [line], crs=UTM, kind="LineString", glacier=["a"])
    with pytest.raises(DataError, match="holds no areas"):
        _regions(tmp_path, _card())


def test_a_scene_without_a_place_has_no_region(tmp_path):
    _heap(tmp_path, num=1, georeferenced=False)
    write_outlines(tmp_path / "mine/regions.gpkg", [_box(0, 0)], crs=UTM, glacier=["a"])
    with pytest.raises(DataError, match=r"s00\.tif.*no CRS and transform"):
        _regions(tmp_path, _card())


@pytest.mark.parametrize("west", [179.9, -180.1, -180.0])
def test_regions_across_the_date_line(tmp_path, west):
    """Outlines split at 180 degrees hold a scene that lies on both sides, however it is written."""
    where = {"crs": CRS.from_epsg(4326), "transform": Affine(0.005, 0, west, 0, -0.005, 70.1)}
    write(tmp_path / "s.tif", np.ones((1, 40, 40), dtype=np.uint8), **where)
    boxes = [shapely.box(179, 69, 180, 71), shapely.box(-180, 69, -179, 71)]
    write_outlines(tmp_path / "r.gpkg", boxes, crs="EPSG:4326", name=["wrangel", "wrangel"])
    outlines = _card(region_outlines={"file": "r.gpkg", "attribute": "name"}).region_outlines
    assert outlines is not None
    scenes = {"s": (tmp_path / "s.tif", None)}
    assert regions_on_ground("mine", outlines, tmp_path, scenes) == {"s": "wrangel"}


def test_a_scene_over_the_pole_finds_its_region(tmp_path):
    where = {"crs": CRS.from_epsg(3413), "transform": Affine(1000, 0, -20_000, 0, -1000, 20_000)}
    write(tmp_path / "s.tif", np.ones((1, 40, 40), dtype=np.uint8), **where)
    boxes = [shapely.box(-180, 88, 180, 90), shapely.box(-180, 80, 180, 88)]
    write_outlines(tmp_path / "r.gpkg", boxes, crs="EPSG:4326", name=["pole", "around"])
    outlines = _card(region_outlines={"file": "r.gpkg", "attribute": "name"}).region_outlines
    assert outlines is not None
    scenes = {"s": (tmp_path / "s.tif", None)}
    assert regions_on_ground("mine", outlines, tmp_path, scenes) == {"s": "pole"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region": "^(s)"}, "Regions are given twice"),
        ({"region_outlines": None}, "`by: region` needs the region of every scene"),
        ({"region_outlines": {"file": "a.txt", "attribute": "b"}}, "'a.txt'.*convert it"),
        ({"region_outlines": {"file": "a.tar", "attribute": "b"}}, "'a.tar'.*unpack it first"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        _card(**changes)
