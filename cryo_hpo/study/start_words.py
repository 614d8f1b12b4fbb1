"""Put the start of a search into words, for log, plan, check and report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..search.calibrated import calibrated_of
from ..search.known_start import KnownStart, judge

if TYPE_CHECKING:
    from ..config import Study
    from ..config.space import Value
    from ..search.trials import Record


def describe(start: KnownStart) -> str:
    """Return a start in words."""
    if not start.points:
        return f"The search starts evenly: {start.reason}."
    files = f" (from {', '.join(start.sources)})" if start.sources else ""
    problems = f"{', '.join(start.problems)}{files}"
    first, *others = map(_point, start.points)
    last = "Nothing recorded on this study's own dataset counts."
    if not start.goes_on:
        points = "; ".join((first, *others))
        return (
            f"The search starts at known points ({points}), around the best of {problems}. {last}"
        )
    beside = f", and beside it ({'; '.join(others)})" if others else ""
    return (
        f"The search starts at the calibrated default ({first}), the mean of the best of {problems}"
        f"{beside}. If it leads the baseline at epoch {start.rung}, each trains to full length; then the "
        f"search goes on evenly. {last}"
    )


def describe_outcome(start: KnownStart, records: Iterable[Record]) -> str:
    """Return whether a calibrated default held, as a sentence after a space; empty for other starts."""
    trials = {record.number: record for record in records}
    if not (start.goes_on and trials):
        return ""
    judgment = judge(start, trials, waits=False)
    if judgment.stage == "settled":
        return " It did lead."
    reason = judgment.reason or "the search was too short for it"
    return f" {reason[0].upper()}{reason[1:]}, so the search went on evenly at once."


def _point(values: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def start_lines(study: Study) -> list[str]:
    """Return where a study's search will start at a calibrated default; empty for any other start.

    Raises:
        SpecError: The study's own portfolio cannot be read.
    """
    start = calibrated_of(study)
    return [] if start == KnownStart() else [describe(start)]
