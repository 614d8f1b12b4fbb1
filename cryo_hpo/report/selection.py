"""Show validation scores in the unit of the metric that selects: percent, meters, pixels, km2."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..config.metric import MIOU, is_error, split_metric
from ..results.study import Result

UNITS = {"_m": "m", "_px": "pixels", "_km2": "km2", "_fronts": "scenes"}
WORDS = {
    MIOU: "mIoU",
    "f1": "F1",
    "accuracy": "accuracy",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "boundary_f1": "boundary F1",
    "mde_m": "mean distance error",
    "mde_px": "mean distance error",
    "directed_mde_m": "distance of the mapped front",
    "directed_mde_px": "distance of the mapped front",
    "missed_fronts": "scenes without the front",
    "cleaned_mde_m": "mean distance error of the cleaned front",
    "cleaned_missed_fronts": "scenes without the cleaned front",
    "area_error_km2": "area error",
    "area_bias_km2": "area bias",
}


def unit_of(kind: str) -> str:
    """Return the unit of a kind of metric; fractions are shown in percent."""
    return next((unit for end, unit in UNITS.items() if kind.endswith(end)), "%")


def describe(name: str) -> str:
    """Return a metric in words: "IoU of lake", "mean distance error of ice|ocean"."""
    kind, _, of = name.partition("/")
    words = WORDS.get(kind, kind)
    if of:
        return f"{words} of {of}"
    return f"mean {words}" if kind == "f1" else words


class Selection(NamedTuple):
    """Show the scores by which models were selected on validation."""

    name: str
    """Name of the metric."""

    @classmethod
    def of(cls, result: Result) -> Selection:
        """Return how to show the validation scores of a study."""
        return cls(result.metric)

    @property
    def kind(self) -> str:
        """Kind of the metric."""
        return split_metric(self.name)[0]

    @property
    def unit(self) -> str:
        """Unit of the values: "%", "m", "pixels" or "km2"."""
        return unit_of(self.kind)

    @property
    def words(self) -> str:
        """Name of the metric in words."""
        return describe(self.name)

    @property
    def label(self) -> str:
        """Name with unit, for the axis of a figure."""
        less = ", less is better" if is_error(self.kind) else ""
        return f"{self.words} ({unit_of(self.kind)}{less})"

    def value(self, score: float | None) -> float:
        """Return a score in the metric's unit; nan where there is none."""
        if score is None or not math.isfinite(score):
            return math.nan
        if is_error(self.kind):
            return 0.0 - score
        return 100 * score if unit_of(self.kind) == "%" else score

    def text(self, score: float | None) -> str:
        """Return a score as text, with two digits; "-" where there is none."""
        value = self.value(score)
        return "-" if math.isnan(value) else f"{value:.2f}"
