"""Watch the processes of a local Ray cluster, whose death Ray itself reports late or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import ClusterDied

POLL_S = 0.5
STUCK_S = 40.0  # after a death the study may take so long to its next safe point
RESUMES = (
    "No trial is lost: run the same command again, and it resumes from the last checkpoints. Did the "
    "machine run out of memory (`dmesg`)?"
)

log = logging.getLogger(__name__)


class ProcessWatch:
    """Watch processes by their numbers, in a thread.

    Attributes:
        problem: What died, with the remedy; "": nothing.
    """

    def __init__(self, processes: Mapping[str, int], *, stuck_s: float = STUCK_S) -> None:
        """Start to watch.

        Args:
            processes: Name -> process number.
            stuck_s: Seconds from a death to a stop request, for a study that waits for Ray.
        """
        self.problem = ""
        self._processes, self._stuck_s = dict(processes), stuck_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the watch."""
        self._over.set()
        self._thread.join()

    def raise_if_dead(self) -> None:
        """Raise if a process has died.

        Raises:
            ClusterDied: One has.
        """
        if self.problem:
            raise ClusterDied(self.problem)

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            dead = [
                f"{name} (process {pid})" for name, pid in self._processes.items() if ended(pid)
            ]
            if dead:
                self.problem = f"Ray died: its {' and '.join(dead)} ended. {RESUMES}"
                break
        if self.problem and not self._over.wait(self._stuck_s):
            # Two requests to stop: the second one interrupts whatever waits for Ray.
            log.error("%s", self.problem)
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(POLL_S)


def ended(pid: int) -> bool:
    """Return True if a process has ended; a zombie has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return Path("/proc/self/stat").exists()  # without /proc nothing is known
    except (OSError, IndexError):
        return False
    return state in "ZX"


def children(parent: int) -> dict[int, str]:
    """Return process number -> command line of the children of a process; empty without /proc."""
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            of = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            if of == parent:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                commands[int(folder.name)] = command.decode(errors="replace")
    return commands


_watch: list[ProcessWatch] = []  # a process has one local cluster


@contextlib.contextmanager
def watching(processes: Mapping[str, int]) -> Iterator[ProcessWatch]:
    """Watch a local cluster's processes for the `with` block; none: nothing can be seen to die."""
    watch = ProcessWatch(processes)
    _watch.append(watch)
    try:
        yield watch
    finally:
        _watch.remove(watch)
        watch.close()


def raise_if_dead() -> None:
    """Raise if a process of the local cluster has died.

    Raises:
        ClusterDied: One has.
    """
    for watch in _watch:
        watch.raise_if_dead()
