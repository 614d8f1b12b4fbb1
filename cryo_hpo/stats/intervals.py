"""Define a confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold an estimate and its confidence limits; infinite where the data set no limit.

    Attributes:
        low: Lower limit.
        mid: Estimate.
        high: Upper limit.
        level: Confidence, a fraction.
    """

    low: float
    mid: float
    high: float
    level: float

    @classmethod
    def unbounded(cls, mid: float, level: float) -> Interval:
        """Return an interval with infinite limits."""
        return cls(-math.inf, mid, math.inf, level)

    @property
    def is_bounded(self) -> bool:
        """Return True if the data set a limit on at least one side."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    def to_metrics(self, name: str) -> dict[str, float]:
        """Return `{name}`, `{name}.low` and `{name}.high`; a value that is infinite is left out."""
        values = {name: self.mid, f"{name}.low": self.low, f"{name}.high": self.high}
        return {key: value for key, value in values.items() if math.isfinite(value)}
