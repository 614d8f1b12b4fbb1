"""Turn SIGTERM, SIGINT and SIGHUP into a clean shutdown at the next safe point.

The handler only records the first signal, since it may run while a record is being written or
inside Ray, which swallows some exceptions. Long waits call `raise_if_asked` in between.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_received: list[str] = []  # names of the signals received; a process has one set of handlers


class Stopped(KeyboardInterrupt):
    """End a study on a requested stop; the same command resumes the study."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Handle `SIGNALS` as stop requests; enter after `ray.init`, which sets handlers.

    A hangup that is ignored stays ignored: `nohup` keeps a study running without its terminal.
    """
    _received.clear()
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handled = [number for number in SIGNALS if number != signal.SIGHUP or not ignored]
    before = {number: signal.signal(number, _hear) for number in handled}
    try:
        yield
    finally:
        _received.clear()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def raise_if_asked() -> None:
    """Raise if a stop was requested.

    Raises:
        Stopped: A stop was requested. From now on the signals are ignored: a second signal must
            not break the clean-up that the first one began.
    """
    if not _received:
        return
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    message = f"stopped by {_received[0]}"
    raise Stopped(message)


def _hear(number: int, _: FrameType | None) -> None:
    _received.append(signal.Signals(number).name)
    if len(_received) > 1:  # a second signal stops without waiting for a safe point
        raise_if_asked()
