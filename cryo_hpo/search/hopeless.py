"""Explain why a search can have no winner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .jobs import Outcome
    from .trials import Record

REFUSALS = 3  # trials in a row that fail alike and stop the study: the next would fail too


class Failures:
    """Count the trials in a row that were refused, or that crashed with the same last line.

    Attributes:
        count: The trials; once they end the search, a later success does not reset it.
    """

    def __init__(self) -> None:
        self.count, self._crash = 0, ""

    @property
    def end_search(self) -> bool:
        """True if so many trials failed alike that the next would too."""
        return self.count >= REFUSALS

    def add(self, outcome: Outcome, message: str) -> None:
        """Add how a trial ended."""
        if self.end_search:
            return
        before, self._crash = self._crash, message if outcome == "crashed" else ""
        alike = outcome == "refused" or (outcome == "crashed" and message == before)
        self.count = self.count + 1 if alike else int(outcome == "crashed")


def why_hopeless(records: Sequence[Record], *, refused: int) -> str:
    """Return why refused trials ended a search, or why no trial can win; empty if one can.

    Args:
        records: All trials of the search.
        refused: Number of trials that were refused in a row.
    """
    lost = [record for record in records if record.state in ("failed", "diverged")]
    if refused >= REFUSALS:
        return (
            f"A search ends when {REFUSALS} trials in a row are refused or crash alike, these did "
            f"(trial {lost[-1].number}: {lost[-1].message}). Mend that, then give the same "
            "command again: what is finished is kept."
        )
    if any(record.state == "complete" for record in records):
        return ""
    first = next(iter(lost), None)
    why = "no trial said why" if first is None else f"trial {first.number}: {first.message}"
    return f"At least one trial must reach full length for there to be a winner, none did ({why})."
