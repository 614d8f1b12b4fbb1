"""Define the names of metrics that select models: `miou`, `iou/lake`, `mde_m/ice|ocean`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

MIOU = "miou"
WHOLE = (MIOU, "f1", "accuracy")  # of all classes together
OF_CLASS = ("iou", "f1", "precision", "recall")
OF_AREA = ("area_error_km2",)  # of a class
OF_FRONT = ("boundary_f1", "mde_m", "mde_px")  # of the edge of a class


# Beginnings of metrics of which less is better, those that only reports show included.
ERRORS = ("mde_", "directed_mde_", "area_", "missed_")


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
