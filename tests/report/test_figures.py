"""Figures for a journal: colors for any eye, scale and place on maps, sharp sheets, no class cut off."""

# H W pixels

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import LINES
from cryo_hpo.data.palette import CLASS_COLORS, IGNORED
from cryo_hpo.data.splits import parts_of
from cryo_hpo.report import study
from cryo_hpo.report.figures import style
from cryo_hpo.report.figures.contact_sheet import contact_sheet, share_drawn
from cryo_hpo.report.figures.maps import DIFFERENCE, draw_maps
from cryo_hpo.report.table import Table
from cryo_hpo.training.build import dataset_of

from ..support.color_distance import SIGHTS, distance, seen
from ..support.finished import finished_study
from ..support.results import a_result

# Between any two colors of a figure, to any eye, in units of CIEDE2000.
FAR_APART = 12.0
FIGURES: dict[str, tuple[str, ...]] = {
    "classes and pixels without a label": (*CLASS_COLORS, IGNORED),
    "differences of maps": (*DIFFERENCE.values(), IGNORED),
    "lines and points": (style.BLUE, style.ORANGE, style.GREY, style.INK),
    "search benchmark": LINES,
}


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("name", FIGURES)
def test_any_eye_tells_the_colors_of_a_figure_apart(name: str, sight: str) -> None:
    for one, other in itertools.combinations(FIGURES[name], 2):
        assert distance(seen(one, sight), seen(other, sight)) >= FAR_APART, (one, other)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ],
)
def test_the_distance_is_ciede2000(one: Any, other: Any, apart: float) -> None:
    """Pairs of the table that its authors publish for this purpose."""
    assert distance(np.array(one), np.array(other)) == pytest.approx(apart, abs=1e-4)


def test_red_and_green_of_one_lightness_are_near_each_other_without_the_middle_cones() -> None:
    far = {s: distance(seen("#C80000", s), seen("#6E6E00", s)) for s in SIGHTS}
    assert far["deuteranopia"] < 0.6 * far["all cones"], far


def _kept(folder: Path, **more: Any) -> Path:
    mask = np.zeros((40, 60), dtype=np.uint8)
    kept: dict[str, Any] = {"scenes": np.array(["a"]), "differences": np.array([0.2]), **more}
    kept |= {f"0.{name}": mask for name in ("image", "truth", "baseline", "tuned")}
    np.savez(folder / "test-maps.npz", **kept)
    return folder


def _texts(axes: NDArray[Any]) -> list[str]:
    return [text.get_text() for text in axes[0, 0].texts]


def _open(height: float) -> Figure:
    return Figure(figsize=(5, height))


def test_maps_have_a_scale_bar_north_position_and_the_seed(tmp_path: Path) -> None:
    where = {"0.pixel_m": np.float64(100.0), "0.ground": np.array([-66.3, -68.92, 0.0])}
    axes = draw_maps(_kept(tmp_path, seed=np.int64(4), **where), ("rock", "ice"), _open)
    assert axes is not None
    assert {"2 km", "N"} <= set(_texts(axes)), "35 % of 60 pixels of 100 m are 2.1 km"
    (bar, _) = axes[0, 0].lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(20)
    assert axes[0, 0].get_xlabel() == "68.92° S, 66.30° W"
    assert axes[0, 0].get_figure().get_suptitle() == "maps of seed 4"


def test_pixels_in_degrees_are_as_tall_as_on_the_ground(tmp_path: Path) -> None:
    where = {"0.pixel_m": np.float64(100.0), "0.stretch": np.float64(4.0)}
    axes = draw_maps(_kept(tmp_path, **where), ("rock", "ice"), _open)
    assert axes is not None
    assert [panel.get_aspect() for panel in axes.ravel()] == [4.0] * 5
    (bar, _) = axes[0, 0].lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(20), "1 km of pixels 50 m wide and 200 m high"


def _labeled(folder: Path, rows: slice, columns: slice) -> NDArray[Any]:
    """Draw a map whose labels fill a rectangle of 40 x 60 pixels; return the axes."""
    truth, image = np.full((40, 60), 255, dtype=np.uint8), np.arange(2400.0).reshape(40, 60)
    truth[rows, columns] = 1
    kept = _kept(folder, seed=np.int64(1), **{"0.pixel_m": np.float64(100.0)})
    with np.load(kept / "test-maps.npz") as opened:
        arrays = dict(opened)
    np.savez(
        kept / "test-maps.npz", **arrays | {"0.truth": truth, "0.image": image.astype(np.uint8)}
    )
    axes = draw_maps(kept, ("rock", "ice"), _open)
    assert axes is not None
    return axes


def test_only_the_part_with_labels_is_drawn_where_it_is_small(tmp_path: Path) -> None:
    axes = _labeled(tmp_path, slice(10, 20), slice(0, 20))
    drawn = axes[0, 1].images[0].get_array()
    assert drawn.shape == (14, 22, 3), "two pixels of margin, none beyond the edge of the scene"
    assert [ax.images[0].get_array().shape[:2] for ax in axes[0]] == [(14, 22)] * 5
    assert axes[0, 0].images[0].get_array()[0, 0, 0] == (8 * 60) % 256, "image and maps cut alike"
    assert _texts(axes) == ["500 m"], "35 % of 22 pixels of 100 m are 770 m"
    assert "only the part with labels" in axes[0, 0].get_figure().get_suptitle()


@pytest.mark.parametrize("rows", [slice(0, 30), slice(0, 0)], ids=["half is labeled", "no label"])
def test_a_map_is_whole_where_most_or_nothing_is_labeled(tmp_path: Path, rows: slice) -> None:
    axes = _labeled(tmp_path, rows, slice(0, 60))
    assert axes[0, 1].images[0].get_array().shape == (40, 60, 3)
    assert axes[0, 0].get_figure().get_suptitle() == "maps of seed 1"


def test_maps_without_coordinates_have_neither(tmp_path: Path) -> None:
    axes = draw_maps(_kept(tmp_path), ("rock", "ice"), _open)
    assert axes is not None
    assert (_texts(axes), axes[0, 0].get_xlabel()) == ([], "")


@pytest.mark.parametrize(
    ("drawn", "of", "unit", "words"),
    [
        (12, 100, "scene", "12 of 100 scenes"),
        (6, 21, "block", "6 of 21 blocks"),
        (8, 8, "scene", "8 scenes"),
        (1, 1, "scene", "1 scene"),
    ],
)
def test_a_part_of_the_scenes_is_said_to_be_one(drawn: int, of: int, unit: str, words: str) -> None:
    assert share_drawn(drawn, of, unit) == words


def test_a_contact_sheet_has_300_dots_per_inch(tmp_path: Path) -> None:
    done = finished_study(tmp_path, epochs=1)
    dataset = dataset_of(done.study.base.data)
    parts = dict(parts_of(dataset, done.site.data, cache=done.site.cache))
    shares = dict.fromkeys(parts, (0.6, 0.3, 0.1))
    sheet = contact_sheet(dataset, parts, shares, tmp_path / "sheet.png", columns=2)
    with Image.open(sheet) as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_classes_are_rows_of_every_table_so_that_none_is_cut_off() -> None:
    names = tuple(f"class-{number}-of-many" for number in range(12))
    scores = dict.fromkeys(names, 0.5)
    result = a_result(classes=names)
    arms = tuple(
        arm.model_copy(
            update={"seeds": tuple(s.model_copy(update={"test_iou": scores}) for s in arm.seeds)}
        )
        for arm in result.arms
    )
    page = study.page(result.model_copy(update={"arms": arms}), figures=[])
    tables = [
        part for section in page.sections for part in section.parts if isinstance(part, Table)
    ]
    heads = [cell for table in tables for cell in table.head]
    assert not [cell for cell in heads if any(name in cell for name in names)]
    rows = [row[0] for table in tables for row in table.rows]
    assert set(names) <= set(rows)
    assert max(len(table.head) for table in tables if set(names) & {r[0] for r in table.rows}) <= 4
