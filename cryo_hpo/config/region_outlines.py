"""Define the outlines that give each scene its region: a column of a vector file."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from .frozen import Frozen
from .vector_layer import SUFFIXES, explain_suffix


class RegionOutlines(Frozen):
    """Outlines of regions: a scene belongs to the one that covers most of it."""

    file: str = Field(
        min_length=1,
        description="Vector file of areas, below root or absolute (GeoPackage, Shapefile, GeoJSON, KML, or a zip of one).",
    )
    attribute: str = Field(
        min_length=1,
        description="Column that names the region: O2Region, glacier, basin. Outlines of one value are one region.",
    )
    layer: str | None = Field(
        default=None, description="Layer of the file. Left out: its only layer."
    )
    majority: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description=(
            "Share of a scene's outlined ground that its region must have. Scenes with less are "
            "refused; 0 takes the largest region."
        ),
    )

    @field_validator("file")
    @classmethod
    def _has_known_suffix(cls, file: str) -> str:
        if not file.lower().endswith(SUFFIXES):
            raise ValueError(explain_suffix(file))
        return file


def require_one_group(region: str) -> None:
    """Refuse a text that is no regular expression with one group.

    Raises:
        ValueError: With the reason and the remedy.
    """
    try:
        groups = re.compile(region).groups
    except (re.error, OverflowError, RecursionError) as error:
        message = (
            f"A region is a regular expression, '{region}' is none: {error}. "
            "Write one like '^([A-Z]+)_'."
        )
        raise ValueError(message) from None
    if groups != 1:
        message = (
            f"A region has exactly one group, '{region}' has {groups}. "
            "Put parentheses around the part of the id that names the region."
        )
        raise ValueError(message)
