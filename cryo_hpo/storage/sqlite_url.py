"""Write the path of a SQLite database as the URL that SQLAlchemy and MLflow take, and back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

# What means something in a URL; the rest stays readable.
ESCAPES = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})


def sqlite_url(file: Path) -> str:
    """Return the URL of a database file, whatever characters its path has."""
    return f"sqlite:///{str(file).translate(ESCAPES)}"


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database; None: the URL is of something else."""
    match = re.match(r"sqlite:///([^?]+)", url)
    return Path(unquote(match[1])).resolve() if match else None


@contextlib.contextmanager
def removing_misread_folders(url: str) -> Iterator[None]:
    """Remove the empty folders that MLflow makes because it takes a URL's escapes for the path."""
    misread = Path(url.removeprefix("sqlite:///")).parent
    escaped = [each for each in (misread, *misread.parents) if unquote(str(each)) != str(each)]
    new = [each for each in escaped if not each.exists()]
    try:
        yield
    finally:
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()
