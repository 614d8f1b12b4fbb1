"""Define the final comparison of a study: how much is proven, and on which seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from .frozen import Frozen

FEWEST_SIGNS = 6  # equal ones, which decide a comparison at 95 %; see stats/sequential.py

Proof = Literal["none", "quick", "full"]


class SeedLimit(Frozen):
    """Seeds up to a limit: repeats are trained until the comparison is decided."""

    at_most: int = Field(
        ge=FEWEST_SIGNS,
        le=100,
        description="Repeats after which the comparison ends undecided; six equal signs are the fewest that decide, 16 is a good value.",
    )


def _seeds_kind(value: object) -> str:
    return "SeedLimit" if isinstance(value, SeedLimit | Mapping) else "tuple"


Seeds = Annotated[
    Annotated[
        tuple[Annotated[int, Field(ge=0, le=2**63 - 1)], ...], Field(min_length=1), Tag("tuple")
    ]
    | Annotated[SeedLimit, Tag("SeedLimit")],
    Discriminator(_seeds_kind),
]


def format_seeds(seeds: Seeds) -> str:
    """Format seeds for people: 1, 2, 3; or "at most 16"."""
    if isinstance(seeds, SeedLimit):
        return f"at most {seeds.at_most}"
    return ", ".join(map(str, seeds))
