"""Compute the metrics of the field from scores, and the one that selects, by its name.

A name is a metric, or a metric and what it is of: `miou`, `iou/lake`, `mde_m/ice|ocean`.

Sources:
    Mean distance error: Gourmelon et al. 2022, doi:10.5194/essd-14-4287-2022 (CaFFe): over all
    scenes, the distances of every pixel of the true front to the nearest of the predicted one and
    of every pixel of the predicted front to the nearest of the true one, divided by the number of
    pixels of both; scenes without a predicted front are left out and counted.
    Cleaned: the same after the authors' cleaning of mapped fronts, see `front_cleaning`.
    Directed distance: the code of Shelf-Bench (doi:10.5194/essd-2025-758): the mean over scenes of
    the mean distance from the predicted front to the true one.
    Boundary F1: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..config.metric import MIOU, OF_CLASS, is_error, split_metric
from ..config.metric import OF_AREA as SELECTING_AREA
from ..errors import SpecError
from .fronts import CLEANED, Area, Edge, Front
from .metrics import Scores

# Metrics of everything, of a class, of a front, and of the area of a class.
WHOLE: Mapping[str, Callable[[Scores], float]] = {
    MIOU: lambda s: s.miou,
    "f1": lambda s: s.mean_f1,
    "accuracy": lambda s: s.accuracy,
}
OF_FRONT: Mapping[str, Callable[[Edge], float]] = {
    "boundary_f1": lambda e: _boundary_f1(e) if e.truth else math.nan,
    "mde_m": lambda e: _divide(e.distance_m, e.pixels_m),
    "mde_px": lambda e: _divide(e.distance_px, e.pixels),
    "directed_mde_m": lambda e: _divide(e.directed_m, e.scenes_m),
    "directed_mde_px": lambda e: _divide(e.directed_px, e.scenes),
    "missed_fronts": lambda e: e.missed if e.truth else math.nan,
}
# As `OF_FRONT`, of a front that is cleaned before it is measured.
OF_CLEANED: Mapping[str, Callable[[Edge], float]] = {
    "cleaned_mde_m": OF_FRONT["mde_m"],
    "cleaned_missed_fronts": OF_FRONT["missed_fronts"],
}
OF_AREA: Mapping[str, Callable[[Area], float]] = {
    "area_error_km2": lambda a: _divide(a.error_km2, a.scenes),
    "area_bias_km2": lambda a: _divide(a.map_km2 - a.truth_km2, a.scenes),
}
# As `OF_FRONT`, where a front that is missed or invented counts with the diagonal of its scene:
# left out, a map without any front would be the best one.
SELECTING: Mapping[str, Callable[[Edge], float]] = {
    "boundary_f1": lambda e: _boundary_f1(e),
    "mde_m": lambda e: _divide(e.distance_m + e.lone_m, e.pixels_m + e.lone_known),
    "mde_px": lambda e: _divide(e.distance_px + e.lone_px, e.pixels + e.lone),
}


class Metric(NamedTuple):
    """Name a metric that selects models, on the validation split."""

    kind: str
    of: str
    """Class or front; "": of everything."""

    @classmethod
    def named(cls, name: str) -> Metric:
        """Return the metric of a name.

        Raises:
            SpecError: There is no such metric.
        """
        try:
            return cls(*split_metric(name))
        except ValueError as error:
            raise SpecError(str(error)) from None

    @property
    def name(self) -> str:
        """Name in studies and results."""
        return f"{self.kind}/{self.of}" if self.of else self.kind

    @property
    def lower_is_better(self) -> bool:
        """True for an error."""
        return is_error(self.kind)

    @property
    def front(self) -> str | None:
        """Name of the front that is compared; None: the metric needs none."""
        return self.of if self.kind in SELECTING else None

    @property
    def needs_sums(self) -> bool:
        """True if the confusion matrix is not enough."""
        return self.kind in (*SELECTING, *SELECTING_AREA)

    def require_classes(self, classes: Sequence[str]) -> None:
        """Refuse a metric of a class or front that a dataset does not have.

        Raises:
            SpecError: There is no such class.
        """
        if self.front is not None:
            Front.named(self.front, classes)
        elif self.of and self.of not in classes:
            message = f"Metric '{self.name}' is of no class. Classes: {', '.join(classes)}."
            raise SpecError(message)

    def value(self, scores: Scores) -> float:
        """Return the metric, in its unit; nan where there is nothing to measure."""
        if not self.of:
            return WHOLE[self.kind](scores)
        if not self.needs_sums:
            of_classes = getattr(scores, self.kind)
            return float(of_classes[scores.classes.index(self.of)])
        assert scores.sums is not None, "scored with the fronts of the metric"
        if self.front is not None:
            return SELECTING[self.kind](scores.sums.edge(self.front))
        return OF_AREA[self.kind](scores.sums.area(scores.classes.index(self.of)))

    def score(self, scores: Scores) -> float:
        """Return the metric as a score of which more is better; -inf where it is nan."""
        value = self.value(scores)
        if math.isnan(value):
            return -math.inf
        return -value if self.lower_is_better else value

    def shown(self, score: float) -> float:
        """Return the metric in its unit, from its score."""
        return 0.0 - score if self.lower_is_better else score


def compute_metrics(scores: Scores) -> dict[str, float]:
    """Return every metric of a map under its name; what is nan is left out.

    Scores are fractions; `mde_m` is in meters, `mde_px` in pixels, areas in km2: `area_error_km2`
    is the mean over scenes of the absolute error, `area_bias_km2` of the signed one.
    """
    values = {name: compute(scores) for name, compute in WHOLE.items()}
    for kind in OF_CLASS:
        of_classes = getattr(scores, kind).tolist()
        values |= {f"{kind}/{n}": v for n, v in zip(scores.classes, of_classes, strict=True)}
    if scores.sums is not None:
        sums = scores.sums
        plain = [name for name in sums.fronts if not name.endswith(CLEANED)]
        for kind, front in OF_FRONT.items():
            values |= {f"{kind}/{name}": front(sums.edge(name)) for name in plain}
        for kind, front in OF_CLEANED.items():
            values |= {
                f"{kind}/{name.removesuffix(CLEANED)}": front(sums.edge(name))
                for name in sums.fronts
                if name not in plain
            }
        for kind, area in OF_AREA.items():
            values |= {f"{kind}/{n}": area(sums.area(k)) for k, n in enumerate(scores.classes)}
    return {name: float(value) for name, value in values.items() if not math.isnan(value)}


def _boundary_f1(edge: Edge) -> float:
    """Return the harmonic mean of the shares of both fronts that the other one is near."""
    if not edge.truth and not edge.map:
        return math.nan
    precision, recall = _divide(edge.map_near, edge.map), _divide(edge.truth_near, edge.truth)
    if math.isnan(precision) or math.isnan(recall) or not precision + recall:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _divide(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
