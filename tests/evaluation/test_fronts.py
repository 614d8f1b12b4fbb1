"""Errors of fronts and areas against brute force, and as their publications define them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cryo_hpo.config.metric import Tolerance
from cryo_hpo.data.dataset import IGNORE
from cryo_hpo.errors import SpecError
from cryo_hpo.evaluation import front_distance
from cryo_hpo.evaluation.field_metrics import Metric, compute_metrics
from cryo_hpo.evaluation.front_distance import mark_front, sum_distances
from cryo_hpo.evaluation.fronts import FieldSums, Front, fronts_of
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.evaluation.sliding_window import FieldRules

CLASSES = ("rock", "ice", "ocean")
maps = hnp.arrays(np.uint8, (7, 9), elements=st.integers(0, 2))
masks = hnp.arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2, IGNORE]))


def scored(truth: Any, prediction: Any, *fronts: str, gsd_m: float | None = 20.0) -> Scores:
    wanted = fronts_of(CLASSES, *fronts)
    sums = FieldSums.of(truth, prediction, fronts=wanted, num_classes=3, gsd_m=gsd_m)
    flat = Scores.of(truth, prediction, classes=CLASSES)
    return Scores(CLASSES, flat.confusion_TP, sums=sums)


def brute_front(image: Any, inside: int, outside: int | None) -> list[tuple[int, int]]:
    """Look at every pixel and its four neighbors."""
    found = []
    for y, x in np.ndindex(*image.shape):
        beside = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        values = [image[p] for p in beside if 0 <= p[0] < image.shape[0] and 0 <= p[1] < 9]
        others = [v for v in values if v not in (inside, IGNORE)]
        if image[y, x] == inside and any(outside in (None, v) for v in others):
            found.append((y, x))
    return found


def brute_distances(one: Any, other: Any) -> list[float]:
    return [min(math.dist(p, q) for q in other) for p in one]


@given(masks, maps, st.sampled_from(["ice", "ocean", "ice|ocean", "ocean|rock"]))
def test_distances_and_boundary_f1_match_brute_force(
    truth: Any, prediction: Any, name: str
) -> None:
    front = Front.named(name, CLASSES)
    seen = np.where(truth == IGNORE, IGNORE, prediction).astype(np.uint8)
    true, found = (brute_front(m, front.inside, front.outside) for m in (truth, seen))
    marked = mark_front(prediction, truth, inside=front.inside, outside=front.outside)
    assert np.argwhere(marked).tolist() == [list(p) for p in found]
    values = compute_metrics(scored(truth, prediction, name))
    if not true or not found:
        assert f"mde_px/{name}" not in values
        assert values.get(f"missed_fronts/{name}", 0.0) == float(bool(true))
        assert values.get(f"boundary_f1/{name}") == (0 if true else None)
        return
    to, back = brute_distances(true, found), brute_distances(found, true)
    mde = (sum(to) + sum(back)) / (len(to) + len(back))  # Gourmelon et al. 2022, of one scene
    assert values[f"mde_px/{name}"] == pytest.approx(mde)
    assert values[f"mde_m/{name}"] == pytest.approx(20 * mde)
    assert values[f"directed_mde_m/{name}"] == pytest.approx(20 * np.mean(back))  # Shelf-Bench
    near = [np.mean(np.array(ds) <= 2) for ds in (back, to)]
    f1 = 2 * near[0] * near[1] / sum(near) if sum(near) else 0.0
    assert values[f"boundary_f1/{name}"] == pytest.approx(f1)


@given(
    hnp.arrays(np.bool_, (23, 5)),
    hnp.arrays(np.bool_, (23, 5)).filter(np.any),
    st.integers(1, 9),
    st.integers(1, 5),
)
def test_distances_in_strips_are_those_to_every_pixel(
    front: Any, other: Any, rows: int, reach: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front_distance, "ROWS", rows)
        patch.setattr(front_distance, "REACH", reach)
        sums = sum_distances(front, other, tolerance_px=2.0)
    distances = brute_distances(np.argwhere(front), np.argwhere(other))
    assert sums.number == len(distances)
    assert sums.sum_px == pytest.approx(sum(distances))
    assert sums.near == sum(distance <= 2 for distance in distances)


def straight(column: int, *, width: int = 9) -> Any:
    """Return ice up to a column, and ocean from there on."""
    return np.where(np.arange(width) < column, 1, 2).astype(np.uint8) * np.ones((7, 1), np.uint8)


def test_a_front_that_is_off_by_three_pixels_is_off_by_so_many_meters() -> None:
    values = compute_metrics(scored(straight(3), straight(6), gsd_m=40.0))
    assert values["mde_px/ice"] == 3
    assert values["mde_m/ice"] == 120
    assert values["boundary_f1/ice"] == 0  # beyond the tolerance of 2 pixels
    assert values["area_error_km2/ice"] == pytest.approx(3 * 7 * 1600 / 1e6)
    assert values["area_bias_km2/ocean"] == pytest.approx(-3 * 7 * 1600 / 1e6)
    assert values["missed_fronts/ice"] == 0


TABLE = [  # true and mapped column of each row's edge, MDE and directed distance, by hand
    ((3, 3, 3), (3, 3, 3), 0.0, 0.0),
    ((3, 3, 3), (5, 5, 5), 2.0, 2.0),
    # A tooth of 3 pixels in the middle row. Mapped edge: 2 pixels on the truth, 3 that are 1, 2 and 3
    # away; true edge: 2 pixels on the mapped one, and the middle one that is 1 away.
    ((3, 3, 3), (3, 6, 3), (1 + 2 + 3 + 1) / 8, (1 + 2 + 3) / 5),
]


def rows(*columns: int) -> Any:
    """Return a scene of one row for each column at which ice ends and ocean begins."""
    return np.stack([np.where(np.arange(9) < column, 1, 2) for column in columns]).astype(np.uint8)


@pytest.mark.parametrize(("truth", "mapped", "mde", "directed"), TABLE)
def test_distances_are_those_of_a_table_made_by_hand(
    truth: tuple[int, ...], mapped: tuple[int, ...], mde: float, directed: float
) -> None:
    values = compute_metrics(scored(rows(*truth), rows(*mapped), "ice|ocean", gsd_m=None))
    assert values["mde_px/ice|ocean"] == pytest.approx(mde)
    assert values["directed_mde_px/ice|ocean"] == pytest.approx(directed)


columns = st.lists(st.integers(1, 8), min_size=4, max_size=4)


@given(st.lists(st.tuples(columns, columns, st.floats(5, 50)), min_size=1, max_size=3))
def test_the_mean_distance_error_of_fronts_is_that_of_its_definition(scenes: Any) -> None:
    """Compare with the sums of Gourmelon et al. 2022, written out slowly, over scenes of a split."""
    total, distance, directed = Scores.zero(CLASSES), 0.0, []
    pixels = 0
    for true, mapped, gsd_m in scenes:
        pair = rows(*true), rows(*mapped)
        total = total + scored(*pair, "ice|ocean", gsd_m=gsd_m)
        p, q = (brute_front(image, 1, 2) for image in pair)
        to, back = brute_distances(p, q), brute_distances(q, p)
        distance += gsd_m * (sum(to) + sum(back))
        pixels += len(p) + len(q)
        directed.append(gsd_m * sum(back) / len(back))
    values = compute_metrics(total)
    assert values["mde_m/ice|ocean"] == pytest.approx(distance / pixels)
    assert values["directed_mde_m/ice|ocean"] == pytest.approx(sum(directed) / len(directed))


@pytest.mark.parametrize(
    ("tolerance", "gsd_m", "found"),
    [
        ("2 px", 20.0, 0),
        ("3 px", 20.0, 1),
        ("2.9px", None, 0),
        ("60 m", 20.0, 1),
        ("59 m", 20.0, 0),
    ],
)
def test_a_front_three_pixels_off_is_found_within_the_tolerance_only(
    tolerance: str, gsd_m: float | None, found: int
) -> None:
    rules = FieldRules(fronts_of(CLASSES), (gsd_m,), Tolerance.named(tolerance))
    truth, mapped = straight(3), straight(6)
    flat = Scores.of(truth, mapped, classes=CLASSES)
    assert compute_metrics(rules.measure(flat, 0, truth, mapped))["boundary_f1/ice"] == found


@pytest.mark.parametrize("text", ["", "2", "px", "-1 px", "2 km", "2 px or 30 m"])
def test_a_tolerance_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Write 2 px or 30 m"):
        Tolerance.named(text)


def test_scenes_are_pooled_pixel_by_pixel_and_in_their_own_meters() -> None:
    one, two = scored(straight(3), straight(6)), scored(straight(3), straight(4), gsd_m=100.0)
    values = compute_metrics(one + two)
    assert values["mde_px/ice"] == pytest.approx((14 * 3 + 14 * 1) / 28)
    assert values["mde_m/ice"] == pytest.approx((14 * 60 + 14 * 100) / 28)
    assert values["directed_mde_m/ice"] == pytest.approx((60 + 100) / 2)


def test_without_a_pixel_size_there_are_no_meters() -> None:
    values = compute_metrics(scored(straight(3), straight(4), gsd_m=None))
    assert values["mde_px/ice"] == 1
    assert not [name for name in values if "_m/" in name or "km2" in name]


def test_a_map_without_a_front_is_the_worst_that_can_be_selected() -> None:
    metric, truth = Metric.named("mde_m/ice"), straight(3)
    none = scored(truth, np.full_like(truth, 2))
    assert "mde_m/ice" not in compute_metrics(none)
    assert compute_metrics(none)["missed_fronts/ice"] == 1
    assert metric.value(none) == pytest.approx(20 * math.hypot(7, 9))
    every = [metric.score(scored(truth, straight(column))) for column in range(1, 9)]
    assert metric.score(none) < min(every)
    assert max(every) == every[2] == 0
    assert metric.shown(every[4]) == 2 * 20


@given(masks, maps, masks, maps)
def test_sums_survive_json_and_add_up(a: Any, b: Any, c: Any, d: Any) -> None:
    one, two = scored(a, b), scored(c, d)
    total = one + two
    again = Scores.from_json(total.to_json())
    assert compute_metrics(again) == compute_metrics(total)
    assert compute_metrics(Scores.zero(CLASSES) + one) == compute_metrics(one)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("miou", 1),
        ("f1", 1),
        ("accuracy", 1),
        ("iou/ice", 1),
        ("precision/ice", 1),
        ("recall/ocean", 1),
        ("boundary_f1/ice|ocean", 1),
        ("mde_px/ice|ocean", -1),
        ("area_error_km2/ice", -1),
    ],
)
def test_every_metric_prefers_the_better_map(name: str, better: int) -> None:
    metric, truth = Metric.named(name), straight(4)
    good, bad = (scored(truth, straight(c), "ice|ocean") for c in (4, 7))
    assert metric.score(good) > metric.score(bad)
    assert (metric.value(good) - metric.value(bad)) * better > 0


@pytest.mark.parametrize("name", ["mde", "mde_m", "iou", "miou/ice", "f2/ice", "area_bias_km2/ice"])
def test_unknown_metrics_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match="no metric"):
        Metric.named(name)


@pytest.mark.parametrize("name", ["iou/snow", "mde_m/snow", "mde_m/ice|ice", "mde_m/ice|snow"])
def test_metrics_of_unknown_classes_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match="Classes: rock, ice, ocean"):
        Metric.named(name).require_classes(CLASSES)
