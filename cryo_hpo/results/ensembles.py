"""Hold the scores of the trainings of one arm that map together."""

from __future__ import annotations

from pydantic import Field

from ..config.frozen import Frozen


class EnsembleResult(Frozen):
    """Hold the test scores of the mean of an arm's probabilities over its seeds."""

    arm: str = Field(description="Arm whose trainings map together")
    seeds: tuple[int, ...] = Field(description="Seeds of the members")
    test_miou: float = Field(description="Of the map of the mean probabilities")
    test_iou: dict[str, float | None] = Field(
        description="Per class; null: in neither mask nor map"
    )
    test_metrics: dict[str, float] = Field(
        default={},
        description="Every metric, by its name; empty: scored by an earlier version, on mIoU only",
    )
    mean_member_miou: float = Field(description="Mean test mIoU of the members, each by itself")

    @property
    def name(self) -> str:
        """Name of the ensemble in tables: "tuned ensemble"."""
        return f"{self.arm} ensemble"

    @property
    def gain(self) -> float:
        """Test mIoU above the mean of its members, a fraction."""
        return self.test_miou - self.mean_member_miou
