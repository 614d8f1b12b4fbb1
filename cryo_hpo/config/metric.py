"""Define the names of metrics (`miou`, `mde_m/ice|ocean`), and the tolerance of boundaries."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

MIOU = "miou"
WHOLE = (MIOU, "f1", "accuracy")  # of all classes together
OF_CLASS = ("iou", "f1", "precision", "recall")
OF_AREA = ("area_error_km2",)  # of a class
OF_FRONT = ("boundary_f1", "mde_m", "mde_px")  # of the edge of a class


# Beginnings of metrics of which less is better, those that only reports show included.
ERRORS = ("mde_", "directed_mde_", "area_", "missed_", "cleaned_")


def is_error(kind: str) -> bool:
    """Return True for a kind of metric of which less is better."""
    return kind.startswith(ERRORS)


def split_metric(name: str) -> tuple[str, str]:
    """Return the kind of a metric, and the class or front that it is of; "": of everything.

    Raises:
        ValueError: There is no such metric.
    """
    kind, _, of = name.partition("/")
    if kind in ((*OF_CLASS, *OF_AREA, *OF_FRONT) if of else WHOLE):
        return kind, of
    names = [
        *WHOLE,
        *(f"{k}/CLASS" for k in (*OF_CLASS, *OF_AREA)),
        *(f"{k}/FRONT" for k in OF_FRONT),
    ]
    message = (
        f"There is no metric '{name}'. Choose one of {', '.join(names)}, with the name of a class; "
        "a FRONT is the edge of a class, or of one class towards another: 'ice|ocean'."
    )
    raise ValueError(message)


def _require_metric(name: str) -> str:
    split_metric(name)
    return name


MetricName = Annotated[
    str,
    AfterValidator(_require_metric),
    Field(
        description="Validation metric that selects checkpoints, promotions and the winner: miou, f1, accuracy, iou/CLASS, f1/CLASS, precision/CLASS, recall/CLASS, boundary_f1/FRONT, mde_m/FRONT or mde_px/FRONT (mean distance error), area_error_km2/CLASS. A FRONT is the edge of a CLASS, or CLASS|CLASS."
    ),
]

TOLERANCE = "2 px"


class Tolerance(NamedTuple):
    """Hold the distance within which a pixel of a boundary counts as found."""

    value: float
    in_meters: bool

    @classmethod
    def named(cls, text: str) -> Tolerance:
        """Return the tolerance of a text such as "2 px" or "30 m".

        Raises:
            ValueError: The text is none.
        """
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(px|m)", text)
        if match is None:
            message = (
                f"A tolerance is a distance in pixels or meters, got '{text}'. Write 2 px or 30 m."
            )
            raise ValueError(message)
        return cls(float(match[1]), match[2] == "m")

    def pixels(self, gsd_m: float | None) -> float:
        """Return the tolerance in pixels of a side, meters; nan where it is unknown and needed."""
        if not self.in_meters:
            return self.value
        return float("nan") if gsd_m is None else self.value / gsd_m

    @property
    def words(self) -> str:
        """Tolerance for a sentence: "2 pixels", "30 m"."""
        unit = "m" if self.in_meters else "pixel" if self.value == 1 else "pixels"
        return f"{self.value:g} {unit}"


def _require_tolerance(text: str) -> str:
    Tolerance.named(text)
    return text


ToleranceText = Annotated[
    str,
    AfterValidator(_require_tolerance),
    Field(
        description="Distance within which a pixel of a boundary counts as found in boundary_f1: pixels (2 px) or, where the size of every pixel is known, meters (30 m)."
    ),
]
