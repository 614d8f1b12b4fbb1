"""Share a campaign's total of repeats between its cells, by the scores of all cells alone.

What a cell gets is written into its folder before it trains (`results/grant.py`). A campaign that is
killed derives the same from the same scores. The file has one state of its own, the turn of a cell
whose search has failed: the others go on without it, and if it succeeds in a later run, it gets its
first round and what they leave.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config.seeds import SharedSeedLimit
from ..results.grant import RepeatGrant, read_grant, write_grant
from ..stats.paired import paired_gains
from ..stats.shared_repeats import Grant, count_first_round, share_in_turns

if TYPE_CHECKING:
    from ..config import Campaign, Cell
    from ..results.study import Result
    from ..stats.shared_repeats import Gains

log = logging.getLogger(__name__)


class SharedRepeats:
    """Grant the repeats of a campaign; of one without a total, none is granted or limited."""

    def __init__(self, campaign: Campaign) -> None:
        """Take the total from the campaign's seeds."""
        self._cells, self._name = campaign.cells(), campaign.name
        self._limit = campaign.seeds if isinstance(campaign.seeds, SharedSeedLimit) else None

    def begin(self, folder: Path) -> None:
        """Grant a cell its first round, unless it has begun."""
        if self._limit is not None and read_grant(folder) is None:
            self._write(Grant(count_first_round(self._limit.at_most)), folder, turn=0)

    def postpone(self, failed: Collection[Cell], folders: Mapping[Cell, Path]) -> None:
        """Let the cells whose search has failed in this run take their turn after all others.

        It is written before the others get what is free by it: if such a cell succeeds in a later
        run, theirs is not taken back.

        Args:
            failed: Cells without a winner.
            folders: Folders of all cells.
        """
        if self._limit is None or not failed:
            return
        turns = self._turns(folders)
        last = 1 + max((turns[cell] for cell in self._cells if cell not in failed), default=-1)
        for cell in failed:
            if turns[cell] < last:
                first = Grant(count_first_round(self._limit.at_most))
                self._write(first, folders[cell], turn=last)
                log.warning(
                    "%s has no winner, so the cells that share %d repeats go on without it. If its "
                    "search succeeds in a later run, it gets its first %d and what they leave.",
                    folders[cell].name,
                    self._limit.total,
                    first.repeats,
                )

    def share(
        self, gains: Mapping[Cell, Gains], folders: Mapping[Cell, Path], open_: Collection[Cell]
    ) -> None:
        """Grant what the scores so far determine; see `stats.shared_repeats`.

        Args:
            gains: Relative gains of every cell so far, in the order of seeds; None: its baseline won.
            folders: Folders of all cells.
            open_: Cells that have no result yet.
        """
        if self._limit is None:
            return
        every, turns = [gains[cell] for cell in self._cells], self._turns(folders)
        limits = {"at_most": self._limit.at_most, "total": self._limit.total}
        grants = share_in_turns(every, list(turns.values()), **limits)
        for cell, grant in zip(self._cells, grants, strict=True):
            if cell in open_:
                self._write(grant, folders[cell], turn=turns[cell])

    def _turns(self, folders: Mapping[Cell, Path]) -> dict[Cell, int]:
        grants = {cell: read_grant(folders[cell]) for cell in self._cells}
        return {cell: 0 if grant is None else grant.turn for cell, grant in grants.items()}

    def _write(self, grant: Grant, folder: Path, *, turn: int) -> None:
        assert self._limit is not None, "only a total is shared"
        granted = RepeatGrant(
            **grant._asdict(), turn=turn, campaign=self._name, total=self._limit.total
        )
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
