"""Print a warning once that says the same of several scenes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

MAX_NAMED = 3  # scenes in a message


class _First(logging.Filter):
    """Let the first of equal warnings pass, and keep the scenes of the others.

    Attributes:
        others: Sentence -> further scenes that it is about.
    """

    def __init__(self) -> None:
        super().__init__()
        self.others: dict[str, list[str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether nothing equal was said of another scene."""
        scene, _, sentence = record.getMessage().partition(": ")
        if record.levelno < logging.WARNING or not sentence:
            return True
        if sentence not in self.others:
            self.others[sentence] = []
            return True
        self.others[sentence].append(scene)
        return False


@contextmanager
def repeated_once(logger: str) -> Iterator[None]:
    """Print the warnings of a logger, "scene: sentence", once for each sentence.

    The other scenes are counted at the end, and the first of them named.
    """
    source, first = logging.getLogger(logger), _First()
    source.addFilter(first)
    try:
        yield
    finally:
        source.removeFilter(first)
        for sentence, scenes in first.others.items():
            if scenes:
                click.echo(_describe_others(sentence, scenes), err=True)


def _describe_others(sentence: str, scenes: list[str]) -> str:
    shown = ", ".join(scenes[:MAX_NAMED]) + (", ..." if len(scenes) > MAX_NAMED else "")
    number = "1 more scene" if len(scenes) == 1 else f"{len(scenes)} more scenes"
    return f"The same of {number} ({shown}): {sentence}"
