"""Word the errors of the operating system: what failed, where, and the remedy."""

from __future__ import annotations

import errno
import os

SHOWN = 120  # characters of a path that a message shows
OTHER = "Fix that, then run the same command again: what is finished is kept."
REMEDIES = {
    errno.EACCES: "Allow this user to use it, or name another path.",
    errno.EPERM: "Allow this user to use it, or name another path.",
    errno.EEXIST: "Remove it, or name another path.",
    errno.EISDIR: "It is a folder: name a file.",
    errno.ELOOP: "Its symbolic links lead in a circle: remove one of them.",
    errno.EMFILE: "Raise `ulimit -n`, then run the same command again.",
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "A part of this path is a file and no folder: name another path.",
}


def explain(error: OSError) -> str:
    """Return the message of an error of the system, for a user."""
    what = (error.strerror or str(error) or type(error).__name__).rstrip(".")
    where = "" if error.filename is None else f"'{shorten(os.fsdecode(error.filename))}': "
    remedy = REMEDIES.get(error.errno or 0, OTHER)
    return f"{where}{what}. {remedy}"


def shorten(path: str) -> str:
    """Return a path without its middle where it is long."""
    half = SHOWN // 2
    return path if len(path) <= SHOWN else f"{path[:half]}...{path[-half:]}"
