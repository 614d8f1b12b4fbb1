"""Define a confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold an estimate and its confidence limits; infinite where the data set no limit."""

    low: float
    mid: float
    high: float
    level: float

    @classmethod
    def unbounded(cls, mid: float, level: float) -> Interval:
        """Return an interval with infinite limits."""
        return cls(-math.inf, mid, math.inf, level)
