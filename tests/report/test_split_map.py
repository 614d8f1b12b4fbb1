"""The map of a split: what is drawn, by its geometry and by the colors of its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from cryo_hpo.config import DatasetCard
from cryo_hpo.config.split_rule import SplitRule
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.footprints import Footprint, count_by_region, frames_of
from cryo_hpo.data.palette import rgb
from cryo_hpo.data.splits import parts_of
from cryo_hpo.report.figures.map_names import keep_legible, write_names
from cryo_hpo.report.figures.split_map import PART_COLORS, UNUSED, split_map

from ..support.fakes import write


def _dataset(
    root: Path, names: list[str], *, size: int = 32, place: Any = None, **card: Any
) -> Any:
    """Write scenes 1 km apart, and open them."""
    for number, name in enumerate(names):
        where: dict[str, Any] = (
            {} if place is None else {"georeferenced": True, "place": place(number)}
        )
        rng = np.random.default_rng(number)
        image = rng.integers(1, 200, (1, size, size), dtype=np.uint8)
        write(root / f"mine/{name}.tif", image, **where)
        mask = rng.integers(0, 2, (1, size, size), dtype=np.uint8)
        write(root / f"mine/{name}_mask.tif", mask, **where)
    return custom_dataset(
        DatasetCard(
            name="mine",
            root="mine",
            images="{id}.tif",
            masks="{id}_mask.tif",
            bands=("DEM",),
            classes=("land", "lake"),
            **card,
        )
    )


def _area(print_: Footprint) -> float:
    x, y = print_.corners.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _pixels(path: Path) -> NDArray[np.uint8]:
    """Return the figure without the legend below it, (3, H, W)."""
    read = (imread(path)[..., :3] * 255).round().astype(np.uint8)
    return np.moveaxis(read[: int(len(read) * 0.9)], -1, 0)


def _count_pixels(path: Path) -> dict[str, int]:
    """Return color -> pixels of the figure above its legend."""
    pixels = _pixels(path)
    colors = {**PART_COLORS, "unused": UNUSED}
    return {
        name: int((pixels == np.array(rgb(color))[:, None, None]).all(axis=0).sum())
        for name, color in colors.items()
    }


@pytest.mark.parametrize("placed", [True, False])
def test_blocks_and_the_gap_between_parts_are_drawn_to_scale(tmp_path: Path, placed: bool) -> None:
    rule = SplitRule(by="place", block_px=64, gap_px=32)
    where = (lambda _: (0, 0)) if placed else None
    dataset = _dataset(tmp_path, ["one"], size=256, place=where, split=rule)
    parts = parts_of(dataset, tmp_path, cache=tmp_path / "cache")
    (frame,) = frames_of(parts)
    assert frame.unit == ("km" if placed else "pixels")
    side = 0.01 if placed else 1  # 10 m
    area = {
        part: sum(_area(p) for p in frame.footprints if p.part == part) / side**2 for part in parts
    }
    pixels = {
        part: sum(
            (r.stop - r.start) * (c.stop - c.start)
            for r, c in (i.window for i in items if i.window)
        )
        for part, items in parts.items()
    }
    assert area == pytest.approx(pixels)
    drawn = _count_pixels(split_map(dataset, parts, tmp_path / "map.png"))
    of_all = sum(drawn.values())
    # Train has no hatch, so its pixels are those of its area; so are those of the gap.
    assert drawn["train"] / of_all == pytest.approx(area["train"] / 256**2, abs=0.06)
    assert drawn["unused"] / of_all == pytest.approx(1 - sum(area.values()) / 256**2, abs=0.06)
    assert drawn["unused"] > 0.1 * of_all, "the gap is visible"
    assert drawn["val"] > 0
    assert drawn["test"] > 0


def test_scenes_of_several_coordinate_systems_share_a_map_in_degrees(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(6)]
    dataset = _dataset(tmp_path, names, place=lambda n: (0, 900 * n), split=SplitRule(by="scene"))
    for path in (tmp_path / "mine/s5.tif", tmp_path / "mine/s5_mask.tif"):
        with rasterio.open(path, "r+") as file:  # at 180 degrees east, the others in Svalbard
            file.crs, file.transform = "EPSG:4326", rasterio.Affine(1e-3, 0, 179.99, 0, -1e-3, 70)
    (frame,) = frames_of(parts_of(dataset, tmp_path, cache=tmp_path / "cache"))
    assert frame.unit == "degrees"
    assert len(frame.footprints) == 6
    far = [p for p in frame.footprints if p.corners[:, 0].max() > 100]
    assert np.allclose(far[0].corners[0], (179.99, 70))
    drawn = _count_pixels(
        split_map(
            dataset, parts_of(dataset, tmp_path, cache=tmp_path / "cache"), tmp_path / "a/m.png"
        )
    )
    assert all(drawn[part] for part in PART_COLORS), "scenes too small to see get a dot"


def test_scenes_on_both_sides_of_the_date_line_are_neighbors(tmp_path: Path) -> None:
    dataset = _dataset(
        tmp_path, ["a", "b", "c"], place=lambda n: (n, 0), split=SplitRule(by="scene")
    )
    for name, west in (("a", 179.0), ("b", -180.0), ("c", -179.0)):
        for path in (tmp_path / f"mine/{name}.tif", tmp_path / f"mine/{name}_mask.tif"):
            with rasterio.open(path, "r+") as file:
                file.crs, file.transform = "EPSG:4326", rasterio.Affine(0.03, 0, west, 0, -0.03, 70)
    (frame,) = frames_of(parts_of(dataset, tmp_path, cache=tmp_path / "cache"))
    wests = sorted(float(p.corners[:, 0].min()) for p in frame.footprints)
    assert np.allclose(wests, [179, 180, 181])


def test_scenes_without_a_place_are_counted_by_region(tmp_path: Path) -> None:
    names = [f"{region}_{i}" for region in "ABCDE" for i in range(2)]
    dataset = _dataset(tmp_path, names, region="^([A-E])_", split=SplitRule(by="scene"))
    parts = parts_of(dataset, tmp_path, cache=tmp_path / "cache")
    assert frames_of(parts) == []
    counts = count_by_region(parts)
    assert list(counts) == list("ABCDE")
    assert all(sorted(numbers.values()) == [0, 0, 2] for numbers in counts.values())
    drawn = _count_pixels(split_map(dataset, parts, tmp_path / "map.png"))
    assert drawn["train"] > drawn["val"] > 0
    assert drawn["test"] > 0


def test_dates_are_drawn_in_their_order(tmp_path: Path) -> None:
    names = [f"s_{year}0701" for year in range(2010, 2020)]
    rule = SplitRule(by="time", date=r"_(\d{8})")
    dataset = _dataset(tmp_path, names, place=lambda _: (0, 0), split=rule)
    parts = parts_of(dataset, tmp_path, cache=tmp_path / "cache")
    path = split_map(dataset, parts, tmp_path / "map.png")
    drawn = _count_pixels(path)
    assert drawn["train"] / drawn["test"] == pytest.approx(
        len(parts["train"]) / len(parts["test"]), rel=0.2
    )
    pixels = _pixels(path)
    east = {
        part: np.nonzero((pixels == np.array(rgb(color))[:, None, None]).all(axis=0))[1].max()
        for part, color in PART_COLORS.items()
    }
    assert east["train"] < east["val"] < east["test"], "later dates lie further right"


def _block(scene: str, row: int, column: int, *, side: float = 1.0, left: float = 0.0) -> Footprint:
    """Return a block of a scene of 4 x 4 blocks, rows from the top."""

    def box(x: float, y: float, width: float) -> NDArray[np.float64]:
        return np.array([(x, y), (x + width, y), (x + width, y - width), (x, y - width)])

    corners = box(left + column * side, -row * side, side)
    return Footprint("train", corners, box(left, 0, 4 * side), scene, f"r{row}c{column}")


def _legible(prints: list[Footprint], *, width: float) -> list[str]:
    """Return the names that stay on a map of so many units of length, 4 inches wide."""
    figure = Figure(figsize=(4, 4))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlim(0, width)
    axes.set_ylim(-width, 0)
    return keep_legible(figure, write_names(axes, prints))


def test_blocks_have_their_names_where_these_can_be_read() -> None:
    blocks = [_block("a", row, column) for row in range(4) for column in range(4)]
    assert _legible(blocks, width=4) == [
        f"r{row}c{column}" for row in range(4) for column in range(4)
    ]
    assert _legible([*blocks, *blocks], width=4) == _legible(blocks, width=4), "dates of one place"
    assert _legible(blocks, width=100) == []


def test_scenes_with_blocks_are_named_where_there_are_several() -> None:
    blocks = [_block("west", 0, 0), _block("east", 0, 1, left=5)]
    assert _legible(blocks, width=10) == ["r0c0", "west", "r0c1", "east"]
    long = [b._replace(scene=b.scene * 9) for b in blocks]
    assert _legible(long, width=10) == ["r0c0", "r0c1"], "a name that is wider than its scene"
    whole = [b._replace(block="", corners=b.whole) for b in blocks]
    assert _legible(whole, width=10) == ["west", "east"]


@pytest.mark.parametrize("placed", [True, False])
def test_the_name_of_a_block_counts_rows_and_columns_from_the_upper_left(
    tmp_path: Path, placed: bool
) -> None:
    rule = SplitRule(by="place", block_px=64, gap_px=0)
    where = (lambda _: (0, 0)) if placed else None
    dataset = _dataset(tmp_path, ["one"], size=256, place=where, split=rule)
    (frame,) = frames_of(parts_of(dataset, tmp_path, cache=tmp_path / "cache"))
    assert {print_.scene for print_ in frame.footprints} == {"one"}
    left, top = frame.footprints[0].whole[0]
    side = np.ptp(frame.footprints[0].whole[:, 0]) / 4
    for print_ in frame.footprints:
        column, row = np.abs(print_.corners[0] - (left, top)) / side
        assert print_.block == f"r{row:.0f}c{column:.0f}"
