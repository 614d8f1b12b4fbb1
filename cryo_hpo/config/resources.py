"""Define what one trial of a study may use, how many train together, and what is done when one hangs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .frozen import Frozen, Problem, format_value
from .space import Choice, SearchSpace

MOST_PACKED = 64  # trainings of a pack
TUNE, FROZEN = "model.tune", "frozen"


def _refuse_other_than_auto(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    if value != "auto" and not number:
        message = (
            f"Must be 'auto' or a number from 0 to 1, got {format_value(value)}. "
            "A trial trains on one GPU at most."
        )
        raise ValueError(message)
    return value


def _refuse_other_packs(value: object) -> object:
    number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_PACKED
    if value != "auto" and not number:
        message = (
            f"Must be 'auto' or a whole number from 1 to {MOST_PACKED}, got {format_value(value)}."
        )
        raise ValueError(message)
    return value


class Resources(Frozen):
    """Cores and GPUs of one trial, trainings of a pack, and the time after which one hangs."""

    cpus: int = Field(default=1, ge=1, le=4_096, description="CPU cores of one trial.")
    gpus: Annotated[float | Literal["auto"], BeforeValidator(_refuse_other_than_auto)] = Field(
        default="auto",
        description="GPUs of one trial: 1, 0, a fraction of one, or auto (1 where the cluster has any).",
    )
    pack: Annotated[
        Annotated[int, Field(ge=1, le=MOST_PACKED)] | Literal["auto"],
        BeforeValidator(_refuse_other_packs),
    ] = Field(
        default=1,
        description=(
            "Trainings that one worker trains together, step by step, where a frozen encoder is the same for "
            "all: each batch is loaded once and passes the encoder once. auto: as many as memory holds, up to "
            "8. Together they take the cores or the GPU of one trial; `search.parallel` counts trainings."
        ),
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


def pack_problems(
    resources: Resources, regimes: Sequence[object], space: object | None
) -> Iterator[Problem]:
    """Yield why a number of trainings of a pack is refused: no two of the study can share an encoder.

    Args:
        resources: Resources of the study.
        regimes: `model.tune` of the base and of the named baselines.
        space: Space of the search, or a function in its place; None: there is no search.
    """
    if resources.pack in ("auto", 1) or shares_encoders(regimes, space):
        return
    message = (
        f"No two trainings can be packed, got {resources.pack}: those of one seed whose encoder is frozen "
        "train together, and there are no two. Set base.model.tune: frozen (in a campaign: regimes: "
        "[frozen]), or leave out resources.pack."
    )
    yield Problem(("resources", "pack"), message)


def shares_encoders(regimes: Sequence[object], space: object | None) -> bool:
    """Return whether two trainings of one seed may have a frozen encoder; see `pack_problems`."""
    if regimes.count(FROZEN) > 1 or (space is not None and not isinstance(space, SearchSpace)):
        return True  # what a function draws is not known before
    if space is None or TUNE not in space.params:
        return space is not None and FROZEN in regimes[:1]
    tune = space.params[TUNE]
    return isinstance(tune, Choice) and FROZEN in tune.values
