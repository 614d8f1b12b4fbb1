"""Collect the calls of one run into what W&B shows of it. Pure.

A run is built from all events of its log so far, so it can be sent again at any time and is the same.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from .calls import Call

OWN = "cryo."  # beginning of the tags that this package sets
STATE = "cryo.state"
PAUSED = "paused"


@dataclass(slots=True)
class RunRecord:
    """Hold what is recorded of a training, or of the study itself.

    Attributes:
        key: Key of the run: `study/training`, or `study`.
        name: Name to show.
        config: Parameter -> value.
        tags: Tag -> newest value.
        points: Step -> metric -> value.
        status: FINISHED, FAILED or KILLED; empty while it runs.
    """

    key: str
    name: str = ""
    config: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: dict[int, dict[str, float]] = field(default_factory=dict)
    status: str = ""

    @property
    def study(self) -> str:
        """Name of the study, which groups its runs."""
        return self.key.partition("/")[0]

    @property
    def is_study(self) -> bool:
        """True for the run of the study itself."""
        return "/" not in self.key

    def add(self, call: Call) -> bool:
        """Add a call; return True if the run rests after it: it ended, or it is paused."""
        match call["do"]:
            case "start":
                self.name, self.status = call["name"], ""
                self.config |= call["params"]
                self.tags |= call["tags"]
            case "log":
                metrics = {legal_metric(name): v for name, v in call["metrics"].items()}
                self.points.setdefault(call["step"], {}).update(metrics)
            case "tag":
                self.tags |= call["tags"]
                return bool(call["tags"].get(STATE) == PAUSED)
            case "end":
                self.status = call["status"]
                return True
        return False

    def summary(self) -> dict[str, Any]:
        """Return the newest value of each metric, and the tags of this package as text."""
        newest: dict[str, Any] = {}
        for step in sorted(self.points):
            newest |= self.points[step]
        own = {name.removeprefix(OWN): v for name, v in self.tags.items() if name.startswith(OWN)}
        return {**newest, **{legal_metric(name): value for name, value in own.items()}}

    def id(self, origin: str) -> str:
        """Return the run's id in W&B, the same for every delivery of a log.

        Args:
            origin: Name of the log, which no other log has.
        """
        return hashlib.sha256(f"{origin}/{self.key}".encode()).hexdigest()[:16]


def legal_metric(name: str) -> str:
    """Return a name by which W&B can sort and filter: letters, digits and underscores.

    Source: docs.wandb.ai, "Metric naming constraints".
    """
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    return text if re.match(r"[A-Za-z_]", text) else f"_{text}"
