"""Define a named baseline of a study: its values, or the word for a default learned elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from .space import Value

CALIBRATED: Literal["calibrated"] = "calibrated"


def _baseline_kind(value: object) -> str:
    return "word" if isinstance(value, str) else "values"


Baseline = Annotated[
    Annotated[Literal["calibrated"], Tag("word")] | Annotated[dict[str, Value], Tag("values")],
    Discriminator(_baseline_kind),
]
"""Recipe path -> value; or `calibrated`: the mean of the learning rates that were best elsewhere."""
