"""Tell which gap to expect of a search that runs to its own end, from recorded trainings.

Source:
    docs/search-benchmark.md, "What follows from it": 100 searches on ten tables of small
    cryosphere scenes, 27 epochs, the learning rate alone, one in three promoted, first rung at 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ..config import Search


class End(NamedTuple):
    """Hold how searches of one number of trials ended: cost in full trainings, gap in points."""

    trials: int
    cost: float
    gap: float


FRONTIER = (
    End(6, 1.88, 5.3),
    End(9, 2.58, 4.8),
    End(12, 3.64, 2.4),
    End(16, 5.11, 1.9),
    End(32, 10.3, 1.4),
)


def expect_gap(search: Search) -> str:
    """Return the mean gap of recorded searches of this length in words; empty if none compares.

    Compared are the trials, or the cost where the search has a budget.
    """
    rule, of_budget = search.scheduler, search.budget is not None
    if rule.kind != "asha" or rule.rule != "promote" or search.start != "even":
        return ""
    size = search.budget if of_budget else search.trials
    assert size is not None, "a search has trials or a budget"
    ends = [(end.cost if of_budget else end.trials, end.gap) for end in FRONTIER]
    (shortest, most), (longest, least) = ends[0], ends[-1]
    if size < shortest:
        return f"more than {most:g}"
    if size > longest:
        return f"{least:g} or less"
    sizes, gaps = zip(*ends, strict=True)
    return f"about {np.interp(np.log(size), np.log(sizes), gaps):.1f}"
