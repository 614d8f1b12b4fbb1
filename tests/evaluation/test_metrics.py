"""Scores against other people's implementations, and the laws that a sum of scores obeys."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from cryo_hpo.data.dataset import IGNORE
from cryo_hpo.errors import DataError
from cryo_hpo.evaluation.fronts import FieldSums
from cryo_hpo.evaluation.metrics import Scores

CLASSES = ("rock", "ice", "ocean", "no data")
pixels = hnp.arrays(np.uint8, 60, elements=st.integers(0, len(CLASSES) - 1))
masks = hnp.arrays(np.uint8, 60, elements=st.sampled_from([0, 1, 2, 3, IGNORE]))


def scores(truth: Any, prediction: Any) -> Scores:
    return Scores.of(truth, prediction, classes=CLASSES)


def test_matches_the_published_evaluator(shared: Path) -> None:
    cases = json.loads((shared / "parity/protocol/metrics.json").read_text())
    assert cases
    for case in cases:
        # its rows are predictions
        confusion_TP = np.array(case["confusion_prediction_by_truth"]).T
        ours = Scores(tuple(f"c{i}" for i in range(len(confusion_TP))), confusion_TP)
        theirs = case["upstream"]
        np.testing.assert_allclose(100 * ours.iou, theirs["IoU"], atol=1e-4)
        np.testing.assert_allclose(100 * ours.f1, theirs["F1"], atol=1e-4)
        assert 100 * ours.miou == pytest.approx(theirs["mIoU"], abs=1e-4)
        # it calls overall accuracy `mAcc`, and exchanges the names of precision and recall
        assert 100 * ours.accuracy == pytest.approx(theirs["mAcc"], abs=1e-4)
        np.testing.assert_allclose(100 * ours.precision, theirs["Recall"], atol=1e-4)
        np.testing.assert_allclose(100 * ours.recall, theirs["Precision"], atol=1e-4)


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        ("iou", jaccard_score),
        ("f1", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ],
)
def test_matches_scikit_learn(ours: str, reference: Any) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 5000)
    prediction = np.where(rng.random(5000) < 0.6, truth, rng.integers(0, 3, 5000))
    expected = reference(truth, prediction, average=None, labels=range(4), zero_division=0)
    np.testing.assert_allclose(getattr(scores(truth, prediction), ours), expected)


@given(masks, pixels, st.integers(0, 60))
def test_scores_of_parts_add_up(truth: Any, prediction: Any, cut: int) -> None:
    parts = scores(truth[:cut], prediction[:cut]) + scores(truth[cut:], prediction[cut:])
    assert parts == scores(truth, prediction)
    assert hash(parts) == hash(scores(truth, prediction))


@given(masks, pixels, st.randoms())
def test_the_order_of_pixels_does_not_matter(truth: Any, prediction: Any, random: Any) -> None:
    order = list(range(len(truth)))
    random.shuffle(order)
    assert scores(truth[order], prediction[order]) == scores(truth, prediction)


@given(masks, pixels)
def test_scores_are_fractions_and_iou_is_the_strictest(truth: Any, prediction: Any) -> None:
    found = scores(truth, prediction)
    for values in (found.iou, found.f1, found.precision, found.recall):
        assert np.array_equal(np.isnan(values), np.isnan(found.iou))
        present = ~np.isnan(values)
        assert ((values[present] >= 0) & (values[present] <= 1)).all()
        assert (values[present] >= found.iou[present]).all()


@given(masks, pixels)
def test_json_returns_the_same_scores(truth: Any, prediction: Any) -> None:
    found = scores(truth, prediction)
    assert Scores.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_rows_are_truth_and_columns_are_prediction() -> None:
    found = scores([0, 0, 1, IGNORE], [1, 0, 1, 3])
    assert found.confusion_TP[0, 1] == 1
    assert found.confusion_TP.sum() == 3  # the ignored pixel is absent
    np.testing.assert_allclose(found.recall[:2], [0.5, 1.0])
    np.testing.assert_allclose(found.precision[:2], [1.0, 0.5])


def test_a_class_in_neither_map_has_no_part_in_the_mean() -> None:
    found = scores([0, 0, 1, 1], [0, 0, 1, 0])
    np.testing.assert_allclose(found.iou, [2 / 3, 1 / 2, np.nan, np.nan])
    assert found.miou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.metrics("val") == pytest.approx(
        {"val_miou": found.miou, "val_iou/rock": 2 / 3, "val_iou/ice": 1 / 2}
    )


def test_under_cryo_bench_a_class_in_neither_map_counts_as_zero() -> None:
    """A perfect map of two of three classes: 66.67, checked on the published evaluator."""
    found = Scores.of([0, 0, 1], [0, 0, 1], classes=CLASSES[:3])
    assert found.miou == 1.0
    theirs = replace(found, absent_is_zero=True)
    assert round(100 * theirs.miou, 2) == 66.67
    np.testing.assert_array_equal(theirs.iou, [1, 1, 0])
    assert theirs.metrics("val")["val_iou/ocean"] == 0
    assert theirs != found
    assert (theirs + theirs).absent_is_zero
    assert Scores.from_json(json.loads(json.dumps(theirs.to_json()))) == theirs


def test_a_missed_class_counts_as_zero() -> None:
    assert scores([0, 1], [0, 0]).miou == pytest.approx((0.5 + 0) / 2)


def test_no_pixels_no_scores() -> None:
    nothing = Scores.zero(CLASSES)
    assert np.isnan([nothing.miou, nothing.accuracy, *nothing.iou]).all()
    assert nothing.metrics("val") == {}
    assert not nothing.predicts_one_class
    some = scores([0, 1], [1, 1])
    assert nothing + some == some


@pytest.mark.parametrize(
    ("prediction", "one"), [([1, 1, 1], True), ([0, 0, 0], True), ([0, 1, 0], False)]
)
def test_a_collapsed_map_is_seen(prediction: list[int], one: bool) -> None:
    assert scores([0, 1, 2], prediction).predicts_one_class is one


def test_metric_names_are_legal_and_apart() -> None:
    classes = ("lake (open)", "lake [open]", "snow/ice", "mélange", "%")
    names = Scores.of(range(5), range(5), classes=classes).metrics("test")
    assert len(names) == 6
    assert all(re.fullmatch(r"test_(miou|iou/[\w.-]+)", name) for name in names)
    assert {"test_iou/snow_ice", "test_iou/mélange", "test_iou/class"} < set(names)


def test_no_class_overwrites_another_whose_name_ends_with_a_number() -> None:
    classes = ("a b", "a_b", "a_b_0")
    assert len(Scores.of(range(3), range(3), classes=classes).metrics("test")) == 4


def test_a_sum_has_the_fronts_of_all_its_parts_or_of_none() -> None:
    """Half of the scenes' fronts beside the pixels of all would pass for those of all."""
    plain = scores([0, 1], [0, 1])
    sums = FieldSums((), np.zeros((0, 18)), np.zeros((4, 4)))
    measured = replace(plain, sums=sums)
    assert (Scores.zero(CLASSES) + measured).sums is not None
    with pytest.raises(AssertionError, match="of all parts of a sum, or of none"):
        measured + plain


def test_the_matrix_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Scores.zero(CLASSES).confusion_TP[0, 0] = 1


@pytest.mark.parametrize(
    ("truth", "prediction", "said"),
    [
        ([0, 1], [0], r"mask's shape, got \(1,\) for \(2,\)"),
        ([0, 7], [0, 1], "Mask pixels must hold one of 0 .rock.*, got 7 .1 pixels.*resampled"),
        ([0, -1], [0, 1], "Mask pixels .* got -1"),
        ([0, 1], [0, 4], "Map pixels .* got 4"),
    ],
)
def test_refuses_what_cannot_be_compared(truth: Any, prediction: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        scores(truth, prediction)


def test_every_pixel_counts_when_none_is_ignored() -> None:
    with pytest.raises(DataError, match="got 255"):
        Scores.of([IGNORE], [0], classes=CLASSES, ignore=None)


def test_refuses_to_add_scores_of_other_classes() -> None:
    with pytest.raises(DataError, match="classes are the same"):
        Scores.zero(CLASSES) + Scores.zero(CLASSES[:2])


@given(masks, pixels, st.sampled_from(CLASSES), st.booleans())
def test_a_constant_map_is_scored_as_that_map_would_be(
    truth: Any, prediction: Any, label: str, absent_is_zero: bool
) -> None:
    drawn = np.full_like(truth, CLASSES.index(label))
    wanted = replace(scores(truth, drawn), absent_is_zero=absent_is_zero)
    found = replace(scores(truth, prediction), absent_is_zero=absent_is_zero).as_constant(label)
    assert found == wanted
