"""Answer whether a campaign's models beat its tuned rivals, in sentences and a table."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..results.campaign import CampaignResult, RivalComparison, RivalSummary
from ..stats import FEWEST, Interval
from .table import Table
from .wording import NONE, signed

NAMES = {"unet": "U-Net"}
ANSWERS = {"improved": "Yes", "not shown": "No clear difference", "worse": "No"}
SHORT = {"improved": "better", "not shown": "no clear difference", "worse": "worse"}
WORDS = {"improved": "ahead", "not shown": "no clear difference", "worse": "behind"}


def answers(result: CampaignResult) -> list[str]:
    """Return one short sentence for each rival: do the models beat it here, tuned like them?"""
    first: dict[str, RivalSummary] = {}
    for summary in result.rival_summaries:  # that of all models stands before those of each
        first.setdefault(summary.rival, summary)
    return [_answer(summary) for summary in first.values()]


def _answer(summary: RivalSummary) -> str:
    is_single = summary.row is not None
    subject = summary.row or "the models of this campaign"
    said = {
        "improved": "beats" if is_single else "beat",
        "not shown": f"{'is' if is_single else 'are'} not clearly better than",
        "worse": f"{'is' if is_single else 'are'} behind",
    }
    return (
        f"{ANSWERS[summary.verdict]}: {subject} {said[summary.verdict]} "
        f"a tuned {NAMES[summary.rival]} here."
    )


def answer_rows(result: CampaignResult) -> list[tuple[str, ...]]:
    """Return a row for each summary: question, answer, mean, interval, comparisons by answer."""
    return [
        (
            f"{summary.row or 'all models'} against tuned {NAMES[summary.rival]}",
            SHORT[summary.verdict],
            *mean_cells(summary.relative_pct),
            *map(str, (summary.ahead, summary.not_shown, summary.behind)),
        )
        for summary in result.rival_summaries
    ]


def notes(result: CampaignResult) -> list[str]:
    """Return how the answers are found where the datasets are few, or a rival scores 0."""
    few = any(len(summary.datasets) < FEWEST for summary in result.rival_summaries)
    zero = any(summary.relative_pct is None for summary in result.rival_summaries)
    return [
        *few
        * [
            f"With fewer than {FEWEST} datasets the interval decides nothing against a rival: the answer "
            "is yes or no only if every comparison says so."
        ],
        *zero * ["A rival that scores 0 has no relative difference."],
    ]


def mean_cells(mean: Interval | None) -> tuple[str, str]:
    """Return a mean and its interval as two cells."""
    return (NONE, NONE) if mean is None else (f"{number(mean.mid, 2)} %", limits(mean, 2))


def parts(result: CampaignResult) -> Iterator[str | Table]:
    """Yield the section on rivals: how they are compared, and every comparison."""
    yield (
        "Tuned against tuned: both were searched alike, retrained on the same seeds and data, and "
        "scored on the same test pixels. The interval is of the typical repeat's relative difference."
    )
    head = ("dataset", "model", "rival", "model's mIoU", "rival's mIoU", "typical", "interval")
    rows = [_row(comparison) for comparison in result.rivals]
    yield Table.of((*head, "repeats ahead", "answer"), rows, left=3, right=5)


def _row(comparison: RivalComparison) -> tuple[str, ...]:
    gain, name = comparison.improvement, NAMES[comparison.rival]
    if gain is None:
        return (
            comparison.dataset,
            comparison.row,
            name,
            *([NONE] * 5),
            "not compared: other files",
        )
    return (
        comparison.dataset,
        comparison.row,
        name,
        f"{100 * gain.tuned:.2f}",
        f"{100 * gain.baseline:.2f}",
        f"{number(gain.typical_pct.mid, 1)} %",
        limits(gain.typical_pct, 1),
        f"{gain.num_gained} of {gain.num_pairs}",
        WORDS[gain.verdict],
    )


def limits(interval: Interval, digits: int) -> str:
    """Return the limits of an interval: -1.0 to +2.5."""
    return f"{number(interval.low, digits)} to {number(interval.high, digits)}"


def number(value: float, digits: int) -> str:
    """Return a number with its sign; a dash for one that is not finite."""
    return signed(value, digits) if math.isfinite(value) else NONE
