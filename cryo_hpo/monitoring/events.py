"""What happens in a study as one JSON line per event, for machines that watch it.

Whoever has something to tell calls `emit`; who listens is a handler of the logger "cryo_hpo.events":
a study writes the lines to its folder, and Ray's exporter counts them (see `execution.prometheus`).
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAME = "events.jsonl"
LOG = logging.getLogger("cryo_hpo.events")
LOG.setLevel(logging.INFO)
LOG.propagate = False  # the terminal has its own words
LOG.addHandler(logging.NullHandler())


def emit(event: str, **facts: str | float | None) -> None:
    """Tell that something has happened.

    Args:
        event: What, such as "epoch".
        facts: About it; plain values, no secrets.
    """
    LOG.info(event, extra={"facts": facts})


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Append every event to a file while this lasts; a full disk loses lines, not the study."""
    handler = _Lines(path, delay=True, encoding="utf-8")
    handler.setFormatter(_Json())
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


class _Lines(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Say nothing: the study's own records are kept elsewhere, and those do complain."""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: dict[str, Any] = getattr(record, "facts", {})
        return json.dumps({"time": time, "event": record.getMessage(), **facts})
