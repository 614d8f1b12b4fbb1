"""Answer what a campaign was run for: short sentences, and a table with a row for each question."""

from __future__ import annotations

from ..results.campaign import CampaignResult
from ..stats import FEWEST, Verdict
from . import rivals
from .table import Table, align_columns
from .wording import VERDICTS, signed


def headline(result: CampaignResult) -> str:
    """Return the answers in short: whether the models beat the rivals, and what tuning gains."""
    return " ".join([*rivals.answers(result), _gain(result)])


def _gain(result: CampaignResult) -> str:
    """Return in one sentence what tuning gains."""
    overall, mean = result.overall, result.overall.relative_pct
    if mean is None:
        return f"{result.campaign}: no cell has a baseline above 0, so nothing is relative to it."
    return (
        f"{VERDICTS[tuning_verdict(result)]}: tuning changes the test mIoU by {signed(mean.mid, 2)} % "
        f"relative to the fixed learning rate, the mean of {overall.num_cells} cells."
    )


def tuning_verdict(result: CampaignResult) -> Verdict:
    """Return what the interval over cells says of tuning; of few cells it says nothing."""
    overall, mean = result.overall, result.overall.relative_pct
    if mean is None or overall.num_cells < FEWEST:
        return "not shown"
    return "improved" if mean.low > 0 else "worse" if mean.high < 0 else "not shown"


def answers(result: CampaignResult) -> Table:
    """Return a row for each question: its answer, the mean with its interval, and the counts."""
    overall, mean = result.overall, result.overall.relative_pct
    counts = (overall.improved, overall.not_shown, overall.worse)
    tuning = (
        "tuned against fixed learning rate",
        rivals.SHORT[tuning_verdict(result)],
        *rivals.mean_cells(mean),
        *map(str, counts),
    )
    level = 95 if mean is None else round(100 * mean.level)
    head = ("question", "answer", "on average", f"{level} % interval")
    rows = [*rivals.answer_rows(result), tuning]
    return Table.of((*head, "better", "no clear difference", "worse"), rows, left=2)


def answers_text(result: CampaignResult) -> str:
    """Return the answers for a terminal: the short sentences, and an aligned table."""
    table = answers(result)
    return f"{headline(result)}\n\n{align_columns(table.head, table.rows)}"
