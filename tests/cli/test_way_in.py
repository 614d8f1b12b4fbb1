"""The whole way of a user with data: init, check, run, predict, on folders of each kind."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from rasterio.transform import Affine

from cryo_hpo.cli.main import main
from cryo_hpo.config import load_card

from ..support.fakes import write

pytestmark = pytest.mark.slow


def _run(*words: object) -> str:
    """Run a command, and return its output."""
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.output


def _shorten(file: Path) -> None:
    """Leave of a study one training of one epoch."""
    text = re.sub(r"(?m)^search:\n(  .*\n)+", "", file.read_text())
    text = re.sub(r"(?m)^seeds: .*$", "seeds: [1]\nresources: {cpus: 1, gpus: 0}", text)
    text = re.sub(r"epochs: \d+", "epochs: 1", text).replace("width: 16", "width: 4")
    file.write_text(text)


def _real(here: Path, shared: Callable[[], Path]) -> tuple[Path, tuple[str, ...]]:
    """Put real tiles of Sentinel-2 and their masks into one folder, without parts."""
    tiles = sorted((shared() / "data/rock_glaciers_s2/train/images").glob("*.tif"))[:12]
    if not tiles:
        pytest.skip("the rock glaciers are not on this machine")
    for kind in ("images", "masks"):
        (here / "set" / kind).mkdir(parents=True)
        for tile in tiles:
            shutil.copy(next((tile.parents[1] / kind).glob(f"{tile.stem}.*")), here / "set" / kind)
    return here / "set/images" / tiles[0].name, ()


def _oetztal(here: Path, shared: Callable[[], Path]) -> tuple[Path, tuple[str, ...]]:
    """Rasterize real outlines on a real elevation model."""
    scene, data = here / "set/images/srtm_oetztal.tif", shared() / "data"
    if not (data / "oetztal").is_dir():
        pytest.skip("the scene of the Oetztal is not on this machine")
    scene.parent.mkdir(parents=True)
    shutil.copy(data / "oetztal/srtm_oetztal.tif", scene)
    _run("data", "rasterize", data / "oetztal/rgi_oetztal.shp", scene, "--out", "set/masks")
    return scene, ("--classes", "rock,glacier", "--bands", "DEM")


def _large(here: Path, _shared: Callable[[], Path]) -> tuple[Path, tuple[str, ...]]:
    """Write one scene whose lakes are polygons of a GeoPackage on another coordinate system."""
    scene, rng = here / "set/images/big.tif", np.random.default_rng(0)
    image = rng.normal(3000, 100, (3, 900, 900))
    place = Affine(10, 0, 500_000, 0, -10, 8_700_000)
    lakes = []
    for x, y, r in rng.uniform((50, 50, 10), (850, 850, 50), (40, 3)):
        lakes.append(shapely.Point(place @ (x, y)).buffer(10 * r))
        rows, columns = np.ogrid[:900, :900]
        image[:, np.hypot(rows + 0.5 - y, columns + 0.5 - x) < r] -= 2000
    write(scene, image.astype(np.uint16), georeferenced=True)
    with rasterio.open(scene, "r+") as file:
        file.crs, file.transform = "EPSG:32633", place
    corners = [
        rasterio.warp.transform("EPSG:32633", "EPSG:4326", *np.array(lake.exterior.coords).T)
        for lake in lakes
    ]
    shapes = [shapely.Polygon(np.column_stack(ring)) for ring in corners]
    pyogrio.raw.write(
        here / "lakes.gpkg",
        shapely.to_wkb(shapes),
        [],
        [],
        geometry_type="Polygon",
        crs="EPSG:4326",
    )
    _run("data", "rasterize", "lakes.gpkg", scene, "--out", "set/masks")
    return scene, ("--classes", "land,lake", "--bands", "B4,B3,B2")


def _binary(here: Path, _shared: Callable[[], Path]) -> tuple[Path, tuple[str, ...]]:
    """Write scenes with masks of 0 and 255."""
    rng = np.random.default_rng(0)
    for i in range(8):
        mask = np.zeros((1, 64, 64), dtype=np.uint8)
        top, left = rng.integers(0, 40, 2)
        mask[:, top : top + 20, left : left + 20] = 255
        image = rng.integers(20, 90, (3, 64, 64), dtype=np.uint8) + mask // 2
        where: dict[str, Any] = {"georeferenced": True, "place": (100 * i, 0)}
        write(here / f"set/s{i}.tif", image, **where)
        write(here / f"set/s{i}_mask.tif", mask, **where)
    return here / "set/s0.tif", ("--classes", "background,fracture")


@pytest.mark.parametrize(
    ("prepare", "by"),
    [(_real, "scene"), (_oetztal, "place"), (_large, "place"), (_binary, "scene")],
    ids=["real scenes", "oetztal", "large scene", "0 and 255"],
)
def test_from_a_folder_to_a_map(
    here: Path,
    request: pytest.FixtureRequest,
    prepare: Callable[..., tuple[Path, tuple[str, ...]]],
    by: str,
) -> None:
    scene, words = prepare(here, lambda: request.getfixturevalue("shared"))
    said = _run("init", "set", "--name", "mine", *words)
    card = load_card("mine.card.yaml")
    assert card.split is not None
    assert card.split.by == by
    assert (here / "mine-split.png").stat().st_size > 5000, "the split is drawn"
    assert "Next: cryo-hpo run mine.yaml" in said
    _run("data", "check", "mine.card.yaml")
    _shorten(here / "mine.yaml")
    _run("check", "mine.yaml")
    assert "result:" in _run("run", "--inline", "mine.yaml")
    _run("predict", "mine", scene, "--out", "map.tif")
    with rasterio.open("map.tif") as mapped, rasterio.open(scene) as source:
        assert (mapped.shape, mapped.crs, mapped.transform) == (
            source.shape,
            source.crs,
            source.transform,
        )
        assert set(np.unique(mapped.read(1))) <= {*range(len(card.classes)), 255}
    if card.bands == ("RED", "GREEN", "BLUE"):
        _map_in_another_order(scene)


def _map_in_another_order(scene: Path) -> None:
    """Map the same scene with its layers turned and named: the map is the same, and a warning is printed."""
    with rasterio.open(scene) as source:
        pixels, profile = source.read(), source.profile
    profile.pop("photometric", None)
    with rasterio.open("turned.tif", "w", **profile) as turned:
        turned.write(pixels[::-1])
        turned.descriptions = ("blue", "green", "red")
    said = _run("predict", "mine", "turned.tif", "--out", "again.tif")
    assert "the file calls its layers blue green red" in said
    with rasterio.open("map.tif") as mapped, rasterio.open("again.tif") as again:
        assert np.array_equal(mapped.read(1), again.read(1))
