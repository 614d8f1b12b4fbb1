"""Pass how far each worker is to the driver, through a file in the training's folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from ..data.progress_log import reporting_to

POSITION = ".position"
STALE_S = 60.0  # an older position is that of a worker that ended, or of a step without progress
SHOWN = 3  # trainings in a line; the others are counted


@contextlib.contextmanager
def writing_position(workdir: Path) -> Iterator[None]:
    """Write how far this process is into a training's folder, as long as the block lasts."""
    file = workdir / POSITION

    def write(text: str) -> None:
        with contextlib.suppress(OSError):  # a node without that folder, or a full disk
            file.write_text(text, encoding="utf-8")

    with reporting_to(write):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


class WorkerPositions:
    """Read how far the workers of running trainings are."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}

    def began(self, key: str, workdir: Path) -> None:
        """Watch a training."""
        self._folders[key] = workdir

    def ended(self, key: str) -> None:
        """Watch a training no longer."""
        self._folders.pop(key, None)

    @property
    def text(self) -> str:
        """Position of each running training; empty where none is long enough in an epoch."""
        texts = []
        for key, folder in self._folders.copy().items():
            with contextlib.suppress(OSError):
                file = folder / POSITION
                fresh = time.time() - file.stat().st_mtime < STALE_S
                text = file.read_text(encoding="utf-8") if fresh else ""
                if text:  # empty while it is being written
                    texts.append(f"{key} {text}")
        more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
        return "; ".join(texts[:SHOWN]) + more
