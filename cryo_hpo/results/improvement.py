"""Define how result files hold an improvement: its intervals as values, infinite limits as null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, TypeAdapter

from ..stats import Improvement, Interval

LIMITS = {"low": -math.inf, "mid": math.inf, "high": math.inf}  # JSON has no infinity: null


def _restore_limits(value: Any) -> Any:
    """Return an interval as JSON holds it with its infinite values, and a list as a tuple."""
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, Mapping):
        return value
    return {k: LIMITS[k] if v is None and k in LIMITS else v for k, v in value.items()}


def _restore_intervals(value: Any) -> Any:
    """Do the same for all parts of an improvement."""
    if not isinstance(value, Mapping):
        return value
    parts = {name: _restore_limits(part) for name, part in value.items()}
    typical = parts.get("typical_pct")
    if parts.get("verdict") == "improved" and isinstance(typical, dict):
        limits = (typical.get("low"), typical.get("mid"))
        if limits == (-math.inf, math.inf):  # an improvement's lower limit is above 0
            typical["low"] = math.inf
    return parts


def _require_pairs(improvement: Improvement) -> Improvement:
    """Refuse an improvement of no pair, or with another number of differences than pairs.

    Raises:
        ValueError: It is one.
    """
    if not 1 <= improvement.num_pairs == len(improvement.differences):
        message = f"{improvement.num_pairs} pairs and {len(improvement.differences)} differences"
        raise ValueError(message)
    return improvement


StoredInterval = Annotated[Interval, BeforeValidator(_restore_limits)]
StoredImprovement = Annotated[
    Improvement, BeforeValidator(_restore_intervals), AfterValidator(_require_pairs)
]


def to_json(improvement: Improvement) -> dict[str, Any]:
    """Return an improvement as `result.json` holds it."""
    text = TypeAdapter(Improvement).dump_json(improvement)
    values: dict[str, Any] = json.loads(text)
    return values
