"""Answer whether a campaign's models beat its tuned rivals, in sentences and a table."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..results.campaign import CampaignResult, RivalComparison, RivalSummary
from ..stats import FEWEST, Interval
from .table import Table
from .wording import NONE, signed

NAMES = {"unet": "U-Net"}
ANSWERS = {"improved": "Yes", "not shown": "Not shown", "worse": "No, it is behind"}
WORDS = {"improved": "ahead", "not shown": "no clear difference", "worse": "behind"}


def answers(result: CampaignResult) -> list[str]:
    """Return one sentence for each summary: does the model beat the tuned rival here?"""
    return [_answer(summary) for summary in result.rival_summaries]


def _answer(summary: RivalSummary) -> str:
    question = (
        f"Does {summary.row or 'the pretrained model'} beat a tuned {NAMES[summary.rival]} here?"
    )
    if summary.row is None:
        question = f"Do the models of this campaign beat a tuned {NAMES[summary.rival]} here?"
    counts = (
        f"ahead in {summary.ahead}, no clear difference in {summary.not_shown}, behind in {summary.behind} of "
        f"{summary.ahead + summary.not_shown + summary.behind} comparisons"
    )
    answer = f"{question} {ANSWERS[summary.verdict]}: {counts}"
    if summary.relative_pct is None:
        return f"{answer}; the rival scores 0, so nothing is relative to it."
    level = f"{100 * summary.relative_pct.level:.0f} % interval"
    mean = (
        f"on average {signed(summary.relative_pct.mid, 2)} % test mIoU relative to it "
        f"({level} {limits(summary.relative_pct, 2)})"
    )
    few = "; too few datasets for that interval to decide" if len(summary.datasets) < FEWEST else ""
    return f"{answer}; {mean}{few}."


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
