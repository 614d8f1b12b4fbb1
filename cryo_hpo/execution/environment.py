"""Find what of a machine's environment would break a study: limits, temporary files, clock, encoding."""

from __future__ import annotations

import contextlib
import locale
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

OPEN_FILES = 4096  # Ray's workers, MLflow and memory-mapped scenes of a study hold hundreds each
MAX_SOCKET = 107  # bytes of a Unix socket's path that Linux takes
# Bytes of the longest path that Ray appends, with the eight random letters of the folder's name.
SOCKET = len("/XXXXXXXX/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
OWN_SOCKET = SOCKET - len("/XXXXXXXX/ray")  # below RAY_TMPDIR, which is used as it is
EARLIEST = 1_704_067_200.0  # 2024-01-01 UTC: before this package was written


def raise_open_files() -> None:
    """Raise this process's limit of open files as far as its user may; workers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def environment_problems(env: Mapping[str, str], *, cache: Path) -> Iterator[str]:
    """Yield what would break a study on this machine, each with the remedy.

    Args:
        env: Environment variables.
        cache: CRYO_CACHE, which need not exist.
    """
    nearest = next((path for path in (cache, *cache.parents) if path.exists()), Path("/"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        yield (
            f"CRYO_CACHE must be writable, '{cache}' is not (a read-only home?). Set it to a folder "
            "on a local disk."
        )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        yield (
            f"A study opens up to {OPEN_FILES} files, this user may open {hard}. Raise the limit: "
            f"`ulimit -Hn {OPEN_FILES}`, or /etc/security/limits.conf."
        )
    yield from _of_temporary_files(env)
    now_s = time.time()
    if now_s < EARLIEST:
        yield (
            f"The clock is set back to {time.strftime('%Y-%m-%d', time.gmtime(now_s))}: events of a study would lie before "
            "each other. Set it, or run an NTP service, such as chrony."
        )
    if locale.getpreferredencoding(do_setlocale=False).lower().replace("-", "") != "utf8":
        yield (
            f"The locale's encoding is {locale.getpreferredencoding(do_setlocale=False)}: names beyond it "
            "are shown as escapes, and files may be misread. Set LANG=C.UTF-8, or PYTHONUTF8=1."
        )


def _of_temporary_files(env: Mapping[str, str]) -> Iterator[str]:
    given = env.get("TMPDIR")
    if given and not os.access(given, os.W_OK | os.X_OK):
        yield (
            f"TMPDIR must be a writable folder, '{given}' is not; '{tempfile.gettempdir()}' is used. "
            "Set or unset it."
        )
    session = env.get("RAY_TMPDIR")
    if session and len(os.fsencode(session)) + OWN_SOCKET > MAX_SOCKET:
        yield (
            f"RAY_TMPDIR must be shorter than {MAX_SOCKET - OWN_SOCKET + 1} bytes, since Ray's sockets "
            f"lie below it; '{session}' has {len(os.fsencode(session))}. Shorten or unset it."
        )


def write_any_text() -> None:
    """Let output show what its encoding lacks as escapes, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        encoding = (getattr(stream, "encoding", "") or "").lower().replace("-", "")
        if reconfigure is not None and encoding != "utf8":
            reconfigure(errors="backslashreplace")
