"""Keep the outcomes of searches on disk, so that a benchmark that was cut short resumes.

A file holds one way of searching on one problem. Its name holds a hash of the search's and the
benchmark's code, of the recordings and of the number of searches: whatever changes one runs anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from .simulate import Outcomes

ROOT = Path(__file__).parents[1]
CODE = ("simulate.py", "ours.py", "rivals.py", "known.py", "untuned.py", "calibrated_start.py")


class Parts:
    """Read outcomes from a folder, or compute and keep them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._code = _digest(_code())

    def outcomes(
        self, name: str, seeds: int, compute: Callable[[], Outcomes], recordings: Iterable[Path]
    ) -> Outcomes:
        """Return the outcomes of a way of searching on a problem.

        Args:
            name: Name of problem and way, unique within the benchmark.
            seeds: Number of searches.
            compute: Runs them.
            recordings: Files that the outcomes depend on.
        """
        state = self._code + _digest(file for file in recordings if file.is_file())
        key = hashlib.sha256(f"{name} {seeds} {state}".encode()).hexdigest()[:12]
        file = self._folder / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}-{key}.npz"
        if file.exists():
            with np.load(file) as kept:
                return Outcomes(kept["gaps"], kept["diverging"], int(kept["tables"]))
        new = compute()
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft.npz")
        np.savez_compressed(draft, gaps=new.gaps, diverging=new.diverging, tables=new.tables)
        draft.replace(file)
        return new


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _code() -> Iterator[Path]:
    yield from sorted((ROOT / "cryo_hpo" / "search").glob("*.py"))
    yield from (Path(__file__).parent / name for name in CODE)
