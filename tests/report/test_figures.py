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
from cryo_hpo.data.palette import CLASS_COLORS, IGNORED, rgb
from cryo_hpo.data.splits import parts_of
from cryo_hpo.report import study
from cryo_hpo.report.figures import style
from cryo_hpo.report.figures.contact_sheet import contact_sheet
from cryo_hpo.report.figures.maps import DIFFERENCE, draw_maps
from cryo_hpo.report.table import Table
from cryo_hpo.training.build import dataset_of

from ..support.finished import finished_study
from ..support.results import a_result

# Linear sRGB as a person without one kind of cone sees it.
# Source: Machado, Oliveira and Fernandes, 2009, doi 10.1109/TVCG.2009.113, severity 1.
SIGHTS = {
    "all cones": np.eye(3).tolist(),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])
# Colors of a figure -> least distance (CIE 1976, about 2 is just seen) between any two of them.
# Lines of the search benchmark are the weakest: nine in one picture, told apart by little else.
FIGURES: dict[str, tuple[tuple[str, ...], float]] = {
    "classes": (CLASS_COLORS, 16.0),
    "classes and pixels without a label": ((*CLASS_COLORS, IGNORED), 10.0),
    "differences of maps": ((*DIFFERENCE.values(), IGNORED), 25.0),
    "lines and points": ((style.BLUE, style.ORANGE, style.GREY, style.INK), 25.0),
    "search benchmark": (LINES, 7.0),
}


def _lab(color: str, sight: str) -> NDArray[np.float64]:
    value = np.array(rgb(color)) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(SIGHTS[sight]) @ linear, 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("name", FIGURES)
def test_any_eye_tells_the_colors_of_a_figure_apart(name: str, sight: str) -> None:
    colors, least = FIGURES[name]
    for one, other in itertools.combinations(colors, 2):
        distance = np.linalg.norm(_lab(one, sight) - _lab(other, sight))
        assert distance >= least, (one, other)


def test_the_distance_is_that_of_red_and_green() -> None:
    """Pure red and green of one lightness are near each other without the middle cones."""
    red, green = "#C80000", "#6E6E00"
    seen = {s: np.linalg.norm(_lab(red, s) - _lab(green, s)) for s in SIGHTS}
    assert seen["deuteranopia"] < 0.4 * seen["all cones"]


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


def test_maps_without_coordinates_have_neither(tmp_path: Path) -> None:
    axes = draw_maps(_kept(tmp_path), ("rock", "ice"), _open)
    assert axes is not None
    assert (_texts(axes), axes[0, 0].get_xlabel()) == ([], "")


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
