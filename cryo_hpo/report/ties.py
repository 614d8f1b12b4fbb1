"""Describe trials that tie: which of equal validation scores was taken, and why."""

from __future__ import annotations

from collections.abc import Sequence

from ..results.study import Result
from .selection import Selection


def tie_words(numbers: Sequence[int], score: str = "") -> str:
    """Return which of several trials with one validation score won.

    Args:
        numbers: The trials; the first one won.
        score: The score, to be shown in parentheses; "": it is not shown.
    """
    *most, last = map(str, numbers)
    shown = f" ({score})" if score else ""
    return (
        f"trials {', '.join(most)} and {last} tie on the validation score{shown}; the lowest number "
        "is taken, as the search measures nothing else that tells them apart"
    )


def tie_line(result: Result) -> str:
    """Return a sentence on the trials that tie with the winner; empty where none does."""
    whole = {t.number: t.score for t in result.trials if t.state == "complete"}
    best = None if result.winner is None else whole.get(result.winner)
    equals = [] if best is None else sorted(n for n, score in whole.items() if score == best)
    if len(equals) < 2:
        return ""
    shown = Selection.of(result)
    words = tie_words(equals, f"{shown.words} {shown.text(best)}")
    return f"{words[0].upper()}{words[1:]}."
