"""The campaigns of the proof's benchmark: the counts of its table, on cells whose truth is known."""

from __future__ import annotations

import numpy as np

from benchmarks.proof import CELLS, TOTALS, CampaignRow, Cell, simulate_campaigns

FIXED = np.linspace(0.5, 0.6, 11)
BETTER, SAME = Cell.of(FIXED + 0.2, FIXED), Cell.of(FIXED, FIXED)


def test_cells_that_always_gain_are_decided_rightly_wherever_six_repeats_are_there():
    rows = dict(simulate_campaigns(lambda _: [BETTER] * CELLS, campaigns=20))
    assert rows["6 fixed"] == rows["at_most: 16"] == rows["at_most: 16, total: 36"]
    assert rows["6 fixed"] == CampaignRow(CELLS, 0, 36, 36, 6)
    assert rows["at_most: 16, total: 30"] == CampaignRow(3, 0, 30, 30, 6), (
        "three of six cells at two more each"
    )


def test_cells_without_a_gain_are_decided_wrongly_if_at_all_and_no_total_is_exceeded():
    rows = dict(simulate_campaigns(lambda _: [SAME] * CELLS, campaigns=60))
    assert all(row.right == 0 for row in rows.values())
    assert all(row.wrong <= 0.05 * CELLS for row in rows.values())
    for total in TOTALS:
        row = rows[f"at_most: 16, total: {total}"]
        assert row.repeats <= row.most <= total
        assert row.most_of_a_cell <= 16
