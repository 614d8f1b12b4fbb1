"""Define the final comparison of a study: how much is proven, and on which seeds.

In a campaign, the cells may share a total of repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from .frozen import ConstraintErrors, Frozen, Problem

FEWEST_SIGNS = 6  # equal ones, which decide a comparison at 95 %; see stats/sequential.py

NO_TOTAL = (
    "A total of repeats is shared by the cells of a campaign, and a study is alone. Drop it; at_most "
    "limits the repeats of a study."
)

Proof = Literal["none", "quick", "full"]


class SeedLimit(Frozen):
    """Seeds up to a limit: repeats are trained until the comparison is decided."""

    at_most: int = Field(
        ge=FEWEST_SIGNS,
        le=100,
        description="Repeats after which the comparison ends undecided; six equal signs are the fewest that decide, 16 is a good value.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_total(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and "total" in raw:
            raise ConstraintErrors([Problem(("total",), NO_TOTAL)])
        return raw


class SharedSeedLimit(SeedLimit):
    """Seeds of a campaign's cells up to a limit for each, and a total of repeats for all."""

    total: int = Field(
        ge=FEWEST_SIGNS,
        le=100_000,
        description="Repeats of all cells together, those of rivals and reused ones among them: what decided cells spare goes to undecided ones, until it is spent.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_total(cls, raw: Any) -> Any:
        return raw


def _seeds_kind(value: object) -> str:
    return "SeedLimit" if isinstance(value, SeedLimit | Mapping) else "tuple"


def _campaign_seeds_kind(value: object) -> str:
    shared = isinstance(value, Mapping) and "total" in value
    return "SharedSeedLimit" if shared or isinstance(value, SharedSeedLimit) else _seeds_kind(value)


_List = Annotated[
    tuple[Annotated[int, Field(ge=0, le=2**63 - 1)], ...], Field(min_length=1), Tag("tuple")
]
_Limit = Annotated[SeedLimit, Tag("SeedLimit")]
_SharedLimit = Annotated[SharedSeedLimit, Tag("SharedSeedLimit")]
Seeds = Annotated[_List | _Limit, Discriminator(_seeds_kind)]
CampaignSeeds = Annotated[_List | _Limit | _SharedLimit, Discriminator(_campaign_seeds_kind)]


def format_seeds(seeds: Seeds | CampaignSeeds) -> str:
    """Format seeds for people: 1, 2, 3; or "at most 16", with "36 in all cells" if they share them."""
    if isinstance(seeds, SharedSeedLimit):
        return f"at most {seeds.at_most}, {seeds.total} in all cells"
    if isinstance(seeds, SeedLimit):
        return f"at most {seeds.at_most}"
    return ", ".join(map(str, seeds))
