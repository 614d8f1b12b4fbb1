"""Judge the start of a search at known points. Pure: no files, no Ray, no torch.

The search trains the points of a portfolio to the first rung. If the better one leads the baseline there
as such points did on the recorded problems, both train to full length and the search is over; else it
widens to the even sequence, with the points as two of its trials. Which of the two is better is not decided
at a rung: high rates overtake late, when they decay.

A start that goes on has a calibrated default as its first point and neighbors of it as the others. If
the default leads the baseline, all of them train to full length; in either case the even sequence follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..config.frozen import Frozen
from ..config.space import Value
from .trials import BASELINE

if TYPE_CHECKING:
    from .trials import Record

FIRST = BASELINE + 1  # number of the first known point's trial
LOST = ("diverged", "failed")


class KnownStart(Frozen):
    """Hold the points at which a search starts, and what the recorded problems lead to expect.

    Attributes:
        points: Values by recipe path, one mapping per trial; empty: the search starts evenly.
        goes_on: Whether the search goes on evenly once the points are trained. The first point is then
            the one that has to lead the baseline.
        rung: Epoch at which the points are held to the baseline.
        lead: Least lead of the better one over the baseline there, a fraction; None: unknown.
        at_edge: Positions of the points beyond the best values of all recorded problems.
        problems: Names of the recorded problems.
        sources: Files that they were learned from, each with the first digits of its sha256.
        reason: Why there are no points; empty otherwise.
    """

    points: tuple[dict[str, Value], ...] = ()
    goes_on: bool = False
    rung: int = 0
    lead: float | None = None
    at_edge: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    reason: str = ""

    def point(self, number: int) -> dict[str, Value] | None:
        """Return the values of a trial at a known point; None for any other trial."""
        place = number - FIRST
        return dict(self.points[place]) if 0 <= place < len(self.points) else None

    def cut(self, count: int) -> KnownStart:
        """Return the start with its first `count` points alone."""
        return self.model_copy(update={"points": self.points[:count]})

    @property
    def whole(self) -> int:
        """Number of points that train to full length before the search goes on; 0: it may end with them."""
        return len(self.points) if self.goes_on else 0

    @property
    def trials(self) -> tuple[int, ...]:
        """Numbers of the trials at known points."""
        return tuple(range(FIRST, FIRST + len(self.points)))


class Judgment(NamedTuple):
    """Hold what the known points are worth on the problem at hand.

    Attributes:
        stage: open: trials are on their way to the rung; settled: the leaders train to full length;
            wide: the search widens to the even sequence.
        leaders: Numbers of the trials that train to full length, in that order; empty unless settled.
        reason: Why the search widens; empty otherwise.
    """

    stage: Literal["open", "settled", "wide"]
    leaders: tuple[int, ...] = ()
    reason: str = ""


def judge(start: KnownStart, records: Mapping[int, Record], *, waits: bool = True) -> Judgment:
    """Judge the known points from the recorded trials; later scores never change the judgment.

    Only the divergence of a leader on its way to full length does: the search then widens.

    Args:
        start: The start.
        records: The trials so far.
        waits: Whether a trial runs or may begin that the judgment can wait for.
    """
    if not start.points:
        return Judgment("wide")
    numbers = (BASELINE, *start.trials)
    if any(n not in records or _is_on_its_way(start, records[n]) for n in numbers):
        return Judgment("open") if waits else _judge_begun(start, records)
    if start.goes_on:
        return _judge_first(start, records)
    reached = [records[n] for n in start.trials if records[n].state not in LOST]
    scores = {r.number: r.curve[start.rung] for r in reached}
    if len(scores) < len(start.points):
        return Judgment("wide", reason="a known point diverged or failed")
    ranked = sorted(scores, key=lambda n: (-scores[n], n))
    best = scores[ranked[0]]
    reason = _doubt(start, ranked[0], best, records[BASELINE].curve.get(start.rung))
    if reason:
        return Judgment("wide", reason=reason)
    return Judgment("settled", tuple(ranked))


def _judge_begun(start: KnownStart, records: Mapping[int, Record]) -> Judgment:
    """Judge a start whose search is too short for all of its points."""
    if start.goes_on and len(records) <= len(start.points):
        return judge(start.cut(len(records) - 1), records, waits=False)
    return Judgment("wide", reason="the search is too short for the known points")


def _judge_first(start: KnownStart, records: Mapping[int, Record]) -> Judgment:
    """Judge all points by the first one, the others of which are its neighbors."""
    first, baseline = records[FIRST], records[BASELINE].curve.get(start.rung)
    if first.state in LOST:
        return Judgment("wide", reason="the calibrated default diverged or failed")
    lead = math.inf if baseline is None else first.curve[start.rung] - baseline
    if start.lead is not None and lead < start.lead:
        reason = f"the calibrated default did not lead the baseline at epoch {start.rung}"
        return Judgment("wide", reason=reason)
    return Judgment("settled", tuple(n for n in start.trials if records[n].state not in LOST))


def passes_for_start(
    start: KnownStart, number: int, rung: int, records: Mapping[int, Record]
) -> bool | None:
    """Return whether a known point passes a rung on its way; None: the rule of the rungs decides."""
    promoted = any(step.decision == "promoted" for step in records[number].steps)
    if number not in start.trials or promoted or rung > start.rung:
        return None
    return rung < start.rung


def _doubt(start: KnownStart, leader: int, best: float, baseline: float | None) -> str:
    """Return why the better point may not be good; empty if nothing speaks against it."""
    if start.lead is not None and baseline is not None and best - baseline < start.lead:
        return "the known points lead the baseline by far less than on any recorded problem"
    if leader - FIRST in start.at_edge:
        return "the better known point lies at the portfolio's edge"
    return ""


def _is_on_its_way(start: KnownStart, record: Record) -> bool:
    return record.state not in LOST and start.rung not in record.curve
