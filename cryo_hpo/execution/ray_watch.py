"""Watch the processes of a Ray cluster, whose death Ray itself reports late or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import ClusterDied
from .closing import close_all

POLL_S = 0.5
EVERY_S = 3.0  # between two connections to a server
ANSWER_S = 2.0  # a living process accepts a connection at once, whatever it does
GRACE_S = 30.0  # a head that is started again may be away for so long
RESUMES = (
    "No trial is lost: run the same command again, and it resumes from the last checkpoints. Did the "
    "machine run out of memory (`dmesg`)?"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """Hold how long the main thread may take to end the study after a part of Ray has died.

    Attributes:
        stuck_s: Seconds from the death that was seen to a stop request.
        end_s: Seconds from there to the end of the process.
    """

    stuck_s: float
    end_s: float


LOCAL = Patience(stuck_s=20, end_s=12)
# Ray ends the process without a word 60 s after the head has gone, of which `GRACE_S` are over.
JOINED = Patience(stuck_s=8, end_s=6)


class ClusterWatch:
    """Watch the parts of a cluster without which nothing runs, in a thread.

    Attributes:
        problem: What died, with the remedy; "": nothing.
    """

    def __init__(
        self, probes: Mapping[str, Callable[[], bool]], *, patience: Patience = LOCAL
    ) -> None:
        """Start to watch.

        Args:
            probes: What is wrong with a part -> whether it is.
            patience: How long the main thread may take to its end after a death.
        """
        self.problem = ""
        self._probes, self._patience = dict(probes), patience
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
            wrong = [what for what, is_so in self._probes.items() if is_so()]
            if wrong:
                self.problem = f"Ray died: its {' and its '.join(wrong)}. {RESUMES}"
                break
        if self.problem and not self._over.wait(self._patience.stuck_s):
            # Two requests to stop: the second one interrupts whatever waits for Ray in Python.
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(POLL_S)
            if not self._over.wait(self._patience.end_s):
                self._end_process()

    def _end_process(self) -> None:
        """End this process: its main thread is in a call of Ray's library that nothing interrupts.

        Ray itself would end it after a minute, with all records open.
        """
        close_all(ClusterDied(self.problem))
        if self._over.wait(POLL_S):
            return  # the main thread was closing them, and ends by itself
        log.error("%s", self.problem)
        kill_rays_children()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(1)


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


def kill_rays_children() -> None:
    """Kill what is left of a local cluster's processes."""
    for pid, command in children(os.getpid()).items():
        if "/ray/" in command:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


class Silence:
    """Return, when called, whether an address has refused every connection for a while."""

    def __init__(
        self, address: str, *, grace_s: float = GRACE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address = host.strip("[]"), int(port)
        self._grace_s, self._clock, self._last = grace_s, clock, clock()
        self._next = self._last

    def __call__(self) -> bool:
        """Try to connect, if the last try is a while ago."""
        if self._clock() >= self._next:
            self._next = self._clock() + EVERY_S
            with (
                contextlib.suppress(OSError),
                socket.create_connection(self._address, timeout=ANSWER_S),
            ):
                self._last = self._clock()
        return self._clock() - self._last > self._grace_s


def probes_of(
    processes: Mapping[str, int], addresses: Mapping[str, str]
) -> dict[str, Callable[[], bool]]:
    """Return the probes of processes on this machine, and of servers anywhere, by their names."""
    dead = {f"{name} (process {pid}) ended": partial(ended, pid) for name, pid in processes.items()}
    silent = {f"{name} ({at}) does not answer": Silence(at) for name, at in addresses.items()}
    return {**dead, **silent}


_watch: list[ClusterWatch] = []  # a process uses one cluster


@contextlib.contextmanager
def watching(
    probes: Mapping[str, Callable[[], bool]], *, patience: Patience = LOCAL
) -> Iterator[ClusterWatch]:
    """Watch a cluster for the `with` block; without probes nothing can be seen to die."""
    watch = ClusterWatch(probes, patience=patience)
    _watch.append(watch)
    try:
        yield watch
    finally:
        _watch.remove(watch)
        watch.close()


def raise_if_dead() -> None:
    """Raise if a part of the cluster has died.

    Raises:
        ClusterDied: One has.
    """
    for watch in _watch:
        watch.raise_if_dead()
