"""Replace the log lines of the Hugging Face client, which repeat every attempt, by a single one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARY = "huggingface_hub"
RETRY = "[Retry"  # in each of the client's lines about a further attempt

log = logging.getLogger(__name__)


@contextmanager
def one_line_of_retries(address: str) -> Iterator[None]:
    """Report the client's first retry in one line, and drop its other lines below an error.

    Args:
        address: Address of the hub, for the line.
    """
    logger = logging.getLogger(LIBRARY)
    handlers, propagate = list(logger.handlers), logger.propagate
    logger.handlers, logger.propagate = [_FirstRetry(address, handlers)], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate


class _FirstRetry(logging.Handler):
    """Log the first retry in our words; pass errors on to the handlers that were there."""

    def __init__(self, address: str, handlers: list[logging.Handler]) -> None:
        super().__init__()
        self._address, self._handlers, self._is_reported = address, handlers, False

    def emit(self, record: logging.LogRecord) -> None:
        """Handle a line of the client."""
        if record.levelno >= logging.ERROR:
            for handler in self._handlers:
                handler.handle(record)
        elif RETRY in record.getMessage() and not self._is_reported:
            self._is_reported = True
            log.warning(
                "%s does not answer: it is tried again, for up to half a minute. On a machine "
                "without a way to the web, set HF_HUB_OFFLINE=1.",
                self._address,
            )
