"""Define what one trial of a study may use, and what is done when it hangs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .frozen import Frozen, format_value


def _refuse_other_than_auto(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    if value != "auto" and not number:
        message = (
            f"Must be 'auto' or a number from 0 to 1, got {format_value(value)}. "
            "A trial trains on one GPU at most."
        )
        raise ValueError(message)
    return value


class Resources(Frozen):
    """Cores and GPUs of one trial, and the time after which it hangs."""

    cpus: int = Field(default=1, ge=1, le=4_096, description="CPU cores of one trial.")
    gpus: Annotated[float | Literal["auto"], BeforeValidator(_refuse_other_than_auto)] = Field(
        default="auto",
        description="GPUs of one trial: 1, 0, a fraction of one, or auto (1 where the cluster has any).",
    )
    hang_minutes: float | None = Field(
        default=None,
        gt=0,
        le=100_000,
        description=(
            "Minutes without an epoch, from the start of its worker on, after which a training is reported "
            "as hanging. Left out: ten times its longest epoch, at least one minute; before its first "
            "epoch ten times the longest of the others, at least five minutes, or an hour without any."
        ),
    )
    hanging: Literal["report", "restart"] = Field(
        default="report",
        description="What is done with a training that hangs: report it, or end its worker and start it again.",
    )
