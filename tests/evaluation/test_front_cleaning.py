"""Mean distance errors of zones, raw and cleaned, are those that CaFFe's own code finds.

`python -m benchmarks.caffe_fronts FOLDER` ran its functions and recorded what they return.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cryo_hpo.config.metric import is_error
from cryo_hpo.data.builtin.caffe import CAFFE
from cryo_hpo.evaluation.field_metrics import compute_metrics
from cryo_hpo.evaluation.front_cleaning import drop_short, fill_and_keep_largest
from cryo_hpo.evaluation.fronts import BETWEEN, FieldSums, Front
from cryo_hpo.evaluation.metrics import Scores

GOLDEN = Path(__file__).parents[1] / "golden" / "caffe-fronts.npz"
CLASSES = CAFFE.classes
NAME = BETWEEN.join(CAFFE.front or ())
FRONT = Front.named(NAME, CLASSES)


def _metrics(truth_NHW, map_NHW, gsd_m):
    total = Scores.zero(CLASSES)
    for truth_HW, map_HW, side in zip(truth_NHW, map_NHW, gsd_m, strict=True):
        sums = FieldSums.of(
            truth_HW, map_HW, fronts=(FRONT, FRONT.cleaned), num_classes=4, gsd_m=side
        )
        flat = Scores.of(truth_HW, map_HW, classes=CLASSES)
        total = total + Scores(CLASSES, flat.confusion_TP, sums=sums)
    return compute_metrics(total)


def test_the_distances_are_those_of_caffes_own_code() -> None:
    with np.load(GOLDEN) as golden:
        values = _metrics(golden["truth_NHW"], golden["map_NHW"], golden["gsd_m"].tolist())
        assert values[f"mde_m/{NAME}"] == pytest.approx(float(golden["raw_mde_m"]), rel=1e-12)
        assert values[f"cleaned_mde_m/{NAME}"] == pytest.approx(
            float(golden["cleaned_mde_m"]), rel=1e-12
        )
        assert values[f"missed_fronts/{NAME}"] == golden["raw_missing"] > 0
        assert values[f"cleaned_missed_fronts/{NAME}"] == golden["cleaned_missing"]
        assert golden["raw_missing"] < golden["cleaned_missing"] < len(golden["gsd_m"]) / 2


def _clean(zones: np.ndarray) -> np.ndarray:
    return fill_and_keep_largest(zones, inside=3, outside=2)


def test_gaps_are_filled_and_only_the_largest_ocean_remains() -> None:
    zones = np.full((9, 12), 2, np.uint8)
    zones[:, 5:] = 3
    zones[4, 8] = 1  # a berg that was mapped as rock
    zones[1, 1] = 3  # a pond on the glacier
    cleaned = _clean(zones)
    assert (cleaned[:, 5:] == 3).all()
    assert (cleaned[:, :5] == 2).all()


@given(hnp.arrays(np.uint8, (6, 8), elements=st.integers(0, 3)))
def test_cleaning_again_changes_nothing(zones: np.ndarray) -> None:
    once = _clean(zones)
    assert np.array_equal(_clean(once), once)


@pytest.mark.parametrize(("gsd_m", "kept"), [(75.0, False), (75.1, True), (20.0, False)])
def test_a_front_of_750_m_and_less_is_left_out(gsd_m: float, kept: bool) -> None:
    front_HW = np.zeros((12, 9), bool)
    front_HW[:10, 3] = True
    assert drop_short(front_HW, gsd_m=gsd_m).sum() == 10 * kept


def test_without_a_pixel_size_there_is_no_cleaned_front() -> None:
    zones = np.where(np.arange(8) < 4, 2, 3).astype(np.uint8) * np.ones((5, 1), np.uint8)
    values = _metrics([zones], [zones], [None])
    assert values[f"mde_px/{NAME}"] == 0
    assert not [name for name in values if name.startswith("cleaned_")]


def test_less_of_it_is_better() -> None:
    assert is_error("cleaned_mde_m")
