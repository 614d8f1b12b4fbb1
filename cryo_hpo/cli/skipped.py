"""Go on with the next scene where one of several cannot be mapped, and count those."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..errors import DataError

FIRST = 3  # scenes that all fail before the rest is given up: the fault is not theirs
MAX_NAMED = 5  # scenes in a message


class SkippedScenes:
    """Hold the scenes that could not be mapped."""

    def __init__(self, number: int) -> None:
        """Start with none, of a number of scenes."""
        self.scenes: list[Path] = []
        self._number, self._done = number, 0

    @contextmanager
    def going_on(self, scene: Path) -> Iterator[None]:
        """Map a scene in this context: an error is printed, and the scene counted as skipped.

        Raises:
            DataError: The scene is the only one, or no scene of the first `FIRST` can be mapped.
        """
        try:
            yield
            self._done += 1
        except DataError as error:
            if self._number == 1 or (not self._done and len(self.scenes) + 1 == FIRST):
                raise
            self.scenes.append(scene)
            click.echo(str(error), err=True)

    def refuse(self) -> None:
        """End with an error if scenes were skipped.

        Raises:
            DataError: Names them.
        """
        if not self.scenes:
            return
        names = ", ".join(map(str, self.scenes[:MAX_NAMED]))
        more = ", ..." if len(self.scenes) > MAX_NAMED else ""
        rest = " The others are mapped." if self._done else ""
        raise DataError(
            f"{len(self.scenes)} of {self._number} scenes could not be mapped, for the reasons above "
            f"({names}{more}).{rest}"
        )
