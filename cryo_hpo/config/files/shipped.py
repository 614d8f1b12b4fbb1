"""Find the search spaces, studies, dataset cards and notebooks that ship with the package by name.

Their only source is `search_spaces/` of the repository; `cryo_hpo/search_spaces` links to it, and
a wheel holds a copy.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from ...errors import SpecError, UnknownName

FOLDER = Path(__file__).parents[2] / "search_spaces"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # no dot and no slash: names of files have them
PATTERNS = {
    "search space": "*.yaml",
    "study": "studies/*.yaml",
    "dataset card": "studies/cards/*.yaml",
    "notebook": "notebooks/*.ipynb",
}
FUNCTION = ".py:space"  # of spaces in Python
Kind = Literal["search space", "study", "dataset card", "notebook"]


def list_shipped(kind: Kind) -> dict[str, str]:
    """Return name -> file of all shipped files of a kind; a Python space as `file.py:function`."""
    sources = {path.stem: str(path) for path in FOLDER.glob(PATTERNS[kind])}
    if kind == "search space" and (FOLDER / "wide.py").exists():
        sources["wide"] = f"{FOLDER / 'wide'}{FUNCTION}"
    return dict(sorted(sources.items()))


def find_source(source: str, kind: Kind, *, beside: Path) -> str:
    """Return the file that a source refers to: a shipped one by name, or one of the user's.

    Args:
        source: A name such as `lr`, or a path.
        kind: Expected content.
        beside: Folder that a path is relative to.

    Raises:
        SpecError: Nothing has that name, or both a file and a shipped one do.
    """
    file = os.path.normpath(beside / source)
    if not NAME.fullmatch(source):
        return file
    shipped = list_shipped(kind)
    if source in shipped and Path(file).is_file():
        message = (
            f"'{source}' names two: the {kind} that ships with cryo_hpo, and the file '{file}'. "
            f"Write './{source}' for the file, or rename it."
        )
        raise SpecError(message)
    if source in shipped:
        return shipped[source]
    if Path(file).is_file():
        return file
    raise UnknownName(source, valid=shipped, what=f"file or shipped {kind}")


def is_shipped(source: str) -> bool:
    """Return whether a source that `find_source` returned ships with the package."""
    return Path(source).is_relative_to(FOLDER)


def format_source(path: Path) -> str:
    """Return the shortest form of a study's file for a command line: its name, or its path."""
    return path.stem if path.parent == FOLDER / "studies" else str(path)
