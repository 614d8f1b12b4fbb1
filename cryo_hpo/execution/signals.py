"""Turn SIGTERM and SIGINT into a clean shutdown at the next safe point.

The signal's handler only takes a note, since it may run while a record is being written or inside
Ray, which swallows some exceptions. Whoever waits for long asks `raise_if_asked` in between.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_asked: list[str] = []  # names of the signals heard; a process has one set of handlers


class Stopped(KeyboardInterrupt):
    """Someone asked the study to stop; the same command goes on."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Take SIGTERM and SIGINT as requests to stop; enter after `ray.init`, which sets its own."""
    _asked.clear()
    before = {number: signal.signal(number, _hear) for number in SIGNALS}
    try:
        yield
    finally:
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def raise_if_asked() -> None:
    """Act on a request to stop.

    Raises:
        Stopped: There was one. From now on the signals are ignored: a second one must not break
            the clean-up that the first one began.
    """
    if not _asked:
        return
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    message = f"stopped by {_asked[0]}"
    raise Stopped(message)


def _hear(number: int, _: FrameType | None) -> None:
    _asked.append(signal.Signals(number).name)
    if len(_asked) > 1:  # whoever asks twice does not want to wait for a safe place
        raise_if_asked()
