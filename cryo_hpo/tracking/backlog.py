"""Read the undelivered MLflow calls of an event log.

    events.jsonl           the log, see `storage.event_log`
    events.jsonl.mlflow    position up to which it is delivered
    events.jsonl.refused   calls that MLflow rejects for good, with the reason

Delivery is at least once: records sent just before a crash are sent again, and MLflow recognizes
duplicates.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from ..storage.event_log import Event, EventLog, Mark
from .calls import Call, calls_of

CONSUMER, REFUSED = "mlflow", "refused"

log = logging.getLogger(__name__)


class Backlog:
    """Hold the undelivered MLflow calls of an event log.

    Attributes:
        opened: The open log.
        refilled: True if the log lost lines that MLflow has; they may be recorded again.
    """

    def __init__(self, opened: EventLog) -> None:
        self.opened = opened
        self._mark = Mark(opened, CONSUMER)
        self.refilled = self._mark.lost or opened.damaged
        self._lock = threading.Lock()
        self._pending = sum(1 for _ in self._waiting_events())
        self._taken = self._mark.start, 0
        opened.subscribe(self._count)

    @property
    def pending(self) -> int:
        """Number of undelivered events."""
        return self._pending

    def waiting(self, *, limit: int) -> list[Call]:
        """Return the calls of the oldest undelivered events, at most `limit` events."""
        calls: list[Call] = []
        end, number = self._mark.start, 0
        for end, event in self._waiting_events():  # noqa: B007  used after the loop
            calls += calls_of(event)
            number += 1
            if number == limit:
                break
        self._taken = end, number
        return calls

    @property
    def has_delivered(self) -> bool:
        """Whether a part of the log was delivered, now or by an earlier process."""
        return self._mark.start > 0

    def rewind(self) -> None:
        """Begin again with the log's first event: what was delivered is lost."""
        with self._lock:
            self._mark.write(0)
            self._pending = sum(1 for _ in self._waiting_events())
            self._taken = 0, 0

    def delivered(self) -> None:
        """Record that all calls of the last `waiting` are delivered or refused."""
        end, number = self._taken
        if number:
            self._mark.write(end)
            with self._lock:
                self._pending -= number
        self._taken = end, 0

    def refuse(self, call: Mapping[str, Any], reason: str) -> None:
        """Append a call that MLflow rejects for good to the file of refused calls."""
        path = self.opened.path
        with path.with_name(f"{path.name}.{REFUSED}").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**call, "refused": reason}) + "\n")

    def _waiting_events(self) -> Iterator[tuple[int, Event]]:
        return ((end, e) for end, e in self.opened.read(self._mark.start) if any(calls_of(e)))

    def _count(self, event: Event) -> None:
        if any(calls_of(event)):
            with self._lock:
                self._pending += 1
