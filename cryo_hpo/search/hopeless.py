"""Explain why a search can have no winner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trials import Record

REFUSALS = 3  # refused trials in a row that stop the study: the next would be refused too


def why_hopeless(records: Sequence[Record], *, refused: int) -> str:
    """Return why refused trials ended a search, or why no trial can win; empty if one can.

    Args:
        records: All trials of the search.
        refused: Number of trials that were refused in a row.
    """
    lost = [record for record in records if record.state in ("failed", "diverged")]
    if refused >= REFUSALS:
        return (
            f"A search goes on until {REFUSALS} trials in a row are refused, these were "
            f"(trial {lost[-1].number}: {lost[-1].message}). Mend that, then give the same "
            "command again: what is finished is kept."
        )
    if any(record.state == "complete" for record in records):
        return ""
    first = next(iter(lost), None)
    why = "no trial said why" if first is None else f"trial {first.number}: {first.message}"
    return f"At least one trial must reach full length for there to be a winner, none did ({why})."
