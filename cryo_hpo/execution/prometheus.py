"""Export a study's metrics through Ray's own Prometheus exporter, beside those of the cluster.

Each node of a cluster with a dashboard serves the metrics under `/metrics` (Ray's documentation,
"Collecting and monitoring metrics"); this module turns the events of a log into counters and
gauges.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ray.util.metrics import Counter, Gauge

from ..storage.event_log import Event, EventLog

STUDY = ("study",)


@contextlib.contextmanager
def exported(study: str, log: EventLog) -> Iterator[None]:
    """Count the events of a study's log inside the `with` block; Ray must be initialized."""
    meters = _Meters(study).take
    log.subscribe(meters)
    try:
        yield
    finally:
        log.unsubscribe(meters)


class _Meters:
    def __init__(self, study: str) -> None:
        self._tags = {"study": study}
        self._best = 0.0
        self.epochs = Counter("cryo_hpo_epochs", "Epochs trained", tag_keys=STUDY)
        self.seconds = Counter("cryo_hpo_seconds", "Seconds of training", tag_keys=STUDY)
        self.ended = Counter("cryo_hpo_trainings_ended", "By state", tag_keys=(*STUDY, "state"))
        self.at_work = Gauge("cryo_hpo_trainings_at_work", "Now", tag_keys=STUDY)
        self.best = Gauge("cryo_hpo_best_val_miou", "A fraction, so far", tag_keys=STUDY)
        self._running: set[str] = set()

    def take(self, event: Event) -> None:
        """Count one event; a failure to count must not end a study."""
        with contextlib.suppress(Exception):
            self._count(event["event"], event)

    def _count(self, event: str, facts: Event) -> None:
        key = facts.get("key", "")
        if event == "epoch":
            self.epochs.inc(1, tags=self._tags)
            self.seconds.inc(facts["seconds"], tags=self._tags)
            self._best = max(self._best, facts["best_val_miou"])
            self.best.set(self._best, tags=self._tags)
        elif event == "started":
            self._running.add(key)
        elif event in ("paused", "ended", "interrupted"):
            self._running.discard(key)
            if event == "ended":
                self.ended.inc(1, tags={**self._tags, "state": facts["state"]})
        self.at_work.set(len(self._running), tags=self._tags)
