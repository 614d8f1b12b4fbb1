"""Describe the metrics of the field, baseline and tuned, with the paired interval of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..config.metric import MIOU, TOLERANCE, Tolerance, is_error
from ..results.metrics import MetricRow, compare_metrics
from ..results.study import Result
from ..stats import Interval
from .selection import Selection, describe, unit_of
from .table import Table
from .wording import BASELINE, NONE, TUNED, signed

GROUPS = (  # titles, and the kinds of metrics below each
    ("All classes", ("miou", "f1", "accuracy")),
    ("Each class", ("iou", "f1", "precision", "recall")),
    ("Edges and areas", ("boundary_f1", "mde_m", "mde_px", "directed_mde_m", "directed_mde_px",
                         "missed_fronts", "cleaned_mde_m", "cleaned_missed_fronts",
                         "area_error_km2", "area_bias_km2")),
)  # fmt: skip
EXPLAINED = (
    "Means over seeds on the test split; the difference is tuned minus baseline with the 95 % "
    "interval of its mean (Student, paired by seed). No correction for many metrics: mIoU decides."
)
EDGES = (
    "Mean distance error: the mean distance of all pixels of the true and the mapped edge of a class "
    "to the nearest pixel of the other (Gourmelon et al. 2022); scenes where only one has the edge "
    "are left out and counted as `scenes without the front` where the map lacks it. Distance of the "
    "mapped front: from the map to the truth only, mean over scenes (Shelf-Bench). Boundary F1: "
    "pixels of an edge within {tolerance} of the other. Area error: mean over scenes of the absolute "
    "error, area bias of the signed one."
)
CLEANED = (
    "Cleaned front: as CaFFe does before it measures, holes in the mapped class are filled, only its "
    "largest patch is kept, and parts of the front up to 750 m are left out."
)


def metrics(result: Result) -> list[str | Table]:
    """Return text and tables of every metric; empty where none was recorded."""
    rows = compare_metrics(result)
    if not rows:
        return []
    parts: list[str | Table] = [EXPLAINED]
    for title, kinds in GROUPS:
        whole = title == GROUPS[0][0]
        shown = [
            row for row in rows if kind_of(row.name) in kinds and ("/" not in row.name) == whole
        ]
        kept = names_in_meters_first([row.name for row in shown])
        if shown:
            parts += [f"{title}:", _table([row for row in shown if row.name in kept])]
    if any("boundary_f1" in row.name for row in rows):
        parts.append(EDGES.format(tolerance=tolerance_of(result).words))
    if any("cleaned_mde_m" in row.name for row in rows):
        parts.append(CLEANED)
    return parts


def tolerance_of(result: Result) -> Tolerance:
    """Return the tolerance of a study's boundaries."""
    data = result.spec.get("base", {}).get("data", {})
    return Tolerance.named(data.get("boundary_tolerance", TOLERANCE))


def selected_by(result: Result) -> list[str]:
    """Return a sentence where another metric than mIoU selected; else nothing."""
    if result.metric == MIOU:
        return []
    words = Selection.of(result).words
    return [
        f"Checkpoints, promotions and the winner were selected by {words} on validation "
        f"(`search.metric: {result.metric}`); the verdict compares test mIoU."
    ]


def _table(rows: Sequence[MetricRow]) -> Table:
    partial = any(row.seeds < row.of for row in rows)
    paired = any(row.tuned is not None for row in rows)
    head = ["metric", BASELINE, *([TUNED, "difference", "interval", "better"] * paired)]
    body = [[*_cells(row, paired=paired), *([str(row.seeds)] if partial else [])] for row in rows]
    return Table.of((*head, *(["repeats"] if partial else [])), body, left=1)


def _cells(row: MetricRow, *, paired: bool) -> list[str]:
    factor = _factor(row.name)
    cells = [label(row.name), number(factor * row.baseline)]
    if not paired or row.tuned is None or row.difference is None:
        return cells
    low, high = (factor * v for v in (row.difference.low, row.difference.high))
    limits = f"{_signed(low)} to {_signed(high)}" if math.isfinite(low) else NONE
    better = _better(row.difference, error=is_error(kind_of(row.name)))
    return [
        *cells,
        number(factor * row.tuned),
        _signed(factor * row.difference.mid),
        limits,
        better,
    ]


def _better(difference: Interval, *, error: bool) -> str:
    """Return the arm that the interval finds better; "-" where it leaves that open."""
    if not math.isfinite(difference.low) or difference.low <= 0 <= difference.high:
        return NONE
    return TUNED if (difference.low > 0) != error else BASELINE


def label(name: str) -> str:
    """Return a metric in words, with its unit: "mean distance error of ice (m)"."""
    return f"{describe(name)} ({unit_of(kind_of(name))})"


def in_unit(name: str, value: float) -> str:
    """Return the value of a metric in its unit, a fraction in percent."""
    return number(_factor(name) * value)


def _factor(name: str) -> float:
    return 100.0 if unit_of(kind_of(name)) == "%" else 1.0


def number(value: float) -> str:
    """Return a number with two digits, of small ones three significant digits."""
    return f"{value:.3g}" if 0 < abs(value) < 0.1 else f"{value:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2g}" if 0 < abs(value) < 0.1 else signed(value, 2)


def names_in_meters_first(names: Sequence[str]) -> list[str]:
    """Drop distances in pixels of fronts that have them in meters."""
    return [name for name in names if name.replace("_px/", "_m/") not in set(names) - {name}]


def kind_of(name: str) -> str:
    """Return the kind of a metric: "iou" of "iou/lake"."""
    return name.partition("/")[0]
