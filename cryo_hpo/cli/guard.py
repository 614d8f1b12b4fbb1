"""Turn errors into one message and an exit code, and read the inputs of every command."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ClusterDied, CryoError, SpecError
from ..execution.environment import write_any_text
from ..execution.signals import Stopped
from ..storage.no_room import is_full, is_no_room
from ..storage.os_errors import explain

if TYPE_CHECKING:
    from ..config import Site
    from ..monitoring.heartbeat import Heartbeat

KEPT = "No half-written file is left; give the same command again."
LOOP = "Symlink loop from "
NO_MEMORY = (
    "The memory of this machine, or what this process may take of it, is not enough. End other programs, "
    "raise the limit, or take smaller files, then run the same command again: what is finished is kept."
)
FREE = "Free space or make it writable, then run the same command again: what is finished is kept."


class _Printer(logging.Handler):
    """Print records of the log to standard error, as it is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


@contextlib.contextmanager
def _print_log() -> Iterator[None]:
    """Print warnings and the progress of long steps, whatever a library has set up.

    Python prints warnings by itself only as long as no library adds a handler to the root logger.
    """
    logger, handler = logging.getLogger("cryo_hpo"), _Printer()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library's handler of the root logger would print all again
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


class _Ended(KeyboardInterrupt):
    """End a command on SIGTERM, as on the keyboard's interrupt."""


@contextlib.contextmanager
def _ending_on_request() -> Iterator[None]:
    """Let SIGTERM end a command as an interrupt does, so that it removes its drafts."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break the clean-up
        raise _Ended

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


class GuardedGroup(click.Group):
    """Show this package's errors as one message: exit code 2 for a wrong spec, 1 for the rest."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; no error of this package is shown as a traceback."""
        write_any_text()
        try:
            with _ending_on_request(), _print_log():
                return super().invoke(ctx)
        except SpecError as error:
            click.echo(str(error), err=True)
            sys.exit(2)
        except ClusterDied as error:
            click.echo(str(error), err=True)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)  # what is left of Ray would end this process with a signal, or keep it
        except CryoError as error:
            click.echo(str(error), err=True)
            sys.exit(1)
        except (OSError, RuntimeError, MemoryError) as error:
            # Any place may meet a full disk or a path it cannot use; few have their own messages.
            click.echo(_explain(error), err=True)
            sys.exit(1)
        except _Ended:
            click.echo(f"Ended by SIGTERM. {KEPT}", err=True)
            sys.exit(128 + signal.SIGTERM)
        except KeyboardInterrupt as error:
            if not isinstance(error, Stopped):  # a study has said how it is resumed
                click.echo(f"Interrupted. {KEPT}", err=True)
            sys.exit(130)


def _explain(error: OSError | RuntimeError | MemoryError) -> str:
    """Return the message of an error of the system; raise any other again."""
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, RuntimeError):
        if not str(error).startswith(LOOP):  # pathlib's error where links lead in a circle
            raise error
        where = str(error)[len(LOOP) :].strip("'")
        return explain(OSError(errno.ELOOP, os.strerror(errno.ELOOP), where))
    if error.errno == errno.EPIPE:
        raise error  # click ends in silence: who read the output has gone
    return _no_room(error) if is_no_room(error) else explain(error)


def _no_room(error: OSError) -> str:
    """Return the message of a disk that is full or read-only."""
    where = f"'{error.filename}'" if error.filename else _full_folders()
    return f"{error.strerror}{f' ({where})' if where else ''}. {FREE}"


def _full_folders() -> str:
    """Name the folders that are written to and have no room, for errors that do not say where."""
    from ..config import Site

    site = Site.from_env(os.environ)  # it was read before, so it can be
    folders = {
        "CRYO_STORAGE": site.storage,
        "CRYO_CACHE": site.cache,
        "temporary files": Path(tempfile.gettempdir()),
    }
    return ", ".join(f"{name}: '{place}'" for name, place in folders.items() if is_full(place))


def _find_study(_context: click.Context, _parameter: click.Parameter, word: str) -> Path:
    from ..config import find_source

    return Path(find_source(word, "study", beside=Path()))


def _find_begun(context: click.Context, parameter: click.Parameter, word: str) -> Path:
    """Return a study's file, or the spec in the folder of a study that has begun."""
    from ..config import list_shipped
    from ..results.files import CAMPAIGN, SPEC
    from ..results.known import study_path

    if word not in list_shipped("study"):
        folder = study_path(word, read_site().storage)
        for spec in (SPEC, CAMPAIGN):
            if (folder / spec).is_file():
                return folder / spec
        beside = Path(f"{word}.yaml")
        if beside.is_file() and not Path(word).is_file():
            raise SpecError(f"'{word}' has not begun, and is no file. Write {beside} for the file.")
    return _find_study(context, parameter, word)


# A study's file, or the name of a shipped one.
STUDY = click.argument("study", callback=_find_study)
# The same, or the name or folder of a study that has begun.
BEGUN = click.argument("study", callback=_find_begun)


def read_site() -> Site:
    """Return the site, read from the environment."""
    from ..config import Site

    return Site.from_env(os.environ)


def heartbeat() -> Heartbeat:
    """Return what prints a line on standard error whenever a command was silent for ten seconds."""
    from ..monitoring.heartbeat import Heartbeat

    return Heartbeat(lambda text: click.echo(text, err=True))


@contextlib.contextmanager
def line_numbers(study: Path) -> Iterator[None]:
    """Prefix each message about a key of the study's file with its line."""
    from ..config import add_line_numbers

    try:
        yield
    except CryoError as error:
        raise add_line_numbers(error, study) from error
