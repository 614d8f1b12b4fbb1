"""An estimate between its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between its limits; infinite limits: the data set none."""

    low: float
    mid: float
    high: float
    level: float

    @classmethod
    def unbounded(cls, mid: float, level: float) -> Interval:
        """Return the interval that excludes nothing."""
        return cls(-math.inf, mid, math.inf, level)
