"""Share a campaign's total of repeats between its cells, by the scores of all cells alone.

What a cell gets is written into its folder before it trains (`results/grant.py`). A campaign that is
killed derives the same from the same scores, so the file is no state of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config.seeds import SharedSeedLimit
from ..results.grant import RepeatGrant, read_grant, write_grant
from ..stats.paired import paired_gains
from ..stats.shared_repeats import Grant, count_first_round, share_repeats

if TYPE_CHECKING:
    from ..config import Campaign, Cell
    from ..results.study import Result
    from ..stats.shared_repeats import Gains


class SharedRepeats:
    """Grant the repeats of a campaign; of one without a total, none is granted or limited."""

    def __init__(self, campaign: Campaign) -> None:
        """Take the total from the campaign's seeds."""
        self._cells, self._name = campaign.cells(), campaign.name
        self._limit = campaign.seeds if isinstance(campaign.seeds, SharedSeedLimit) else None

    def begin(self, folder: Path) -> None:
        """Grant a cell its first round, unless it has begun."""
        if self._limit is not None and read_grant(folder) is None:
            self._write(Grant(count_first_round(self._limit.at_most)), folder)

    def share(self, gains: Mapping[Cell, Gains], folders: Mapping[Cell, Path]) -> None:
        """Grant what the scores so far determine; see `stats.shared_repeats`.

        Args:
            gains: Relative gains of every cell so far, in the order of seeds; None: its baseline won.
            folders: Folders of the cells that have no result yet.
        """
        if self._limit is None:
            return
        every = [gains[cell] for cell in self._cells]
        grants = share_repeats(every, at_most=self._limit.at_most, total=self._limit.total)
        for cell, grant in zip(self._cells, grants, strict=True):
            if cell in folders:
                self._write(grant, folders[cell])

    def _write(self, grant: Grant, folder: Path) -> None:
        assert self._limit is not None, "only a total is shared"
        granted = RepeatGrant(**grant._asdict(), campaign=self._name, total=self._limit.total)
        if read_grant(folder) != granted:
            write_grant(granted, folder)


def gains_of(result: Result) -> list[float] | None:
    """Return the relative gains of a finished cell in percent, by seed; None if its baseline won."""
    if result.winner_is_baseline:
        return None
    tuned, baseline = (
        np.array([seed.test_miou for seed in result.arm(name).seeds])
        for name in ("tuned", "baseline")
    )
    gains: list[float] = paired_gains(tuned, baseline).tolist()
    return gains
