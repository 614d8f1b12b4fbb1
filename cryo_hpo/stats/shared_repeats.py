"""Share a total of repeats between comparisons that each stop as soon as they are decided.

Every comparison gets its first round. After that the comparisons that are neither decided nor futile
request their next one. If what is left of the total pays for all, all get it; if not, those with
the highest chance of a decision per repeat get it first. One that what is left cannot decide ends
without a decision.

Each decision keeps its level. The grant of a comparison's repeat n + 1 depends on the repeats 1 to
n of all comparisons and on no later one, although some may be trained already. So it is a stopping
time on the record of all comparisons, repeat by repeat, and where the median gain is not above 0
whatever the earlier repeats showed, the wealth of a bet is a supermartingale on that record: Ville's
inequality holds at every such time. To look at later repeats of other comparisons would not be
legitimate: a repeat has the same seed in all of them, so their scores may rise and fall together, and
a bet that is valid on its own record alone is not on a finer one. It holds likewise for the
comparison of two of the recipes over the repeats that both have, which end at the smaller grant.

Comparisons may have turns, which nothing that is compared decides: those of a later turn get their first
round, and share what the turns before leave once these are over. How much that is depends on
repeats that they have yet to train. It keeps the level too, on a comparison's own record: the chance
that a bet *ever* wins within `at_most` repeats is bounded, so a limit, whatever set it, can only take
decisions away.

Source: Ville, Etude critique de la notion de collectif, 1939 (the inequality); Choe and Ramdas,
"Combining Evidence Across Filtrations", arXiv 2402.09698, 2024 (what a finer record does to a bet).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from .sequential import count_pairs_to_stop, decide, find_stop, rate_chance

Gains = (
    Sequence[float] | None
)  # of one comparison so far; None: its baseline won, nothing to compare
Standing = Literal["over", "open", "awaited"]


class Grant(NamedTuple):
    """Hold the repeats that a comparison gets.

    Attributes:
        repeats: Number of its repeats, the trained ones included.
        is_spent: Whether it ends undecided with them, because what is left of the total cannot
            decide it.
    """

    repeats: int
    is_spent: bool = False


class _Rule(NamedTuple):
    at_most: int
    total: int
    level: float


def count_first_round(at_most: int, level: float = 0.95) -> int:
    """Return the repeats that every comparison trains, whatever they show."""
    return count_pairs_to_stop((), at_most=at_most, level=level)


def least_total(comparisons: int, *, fewest: int, at_most: int) -> int:
    """Return the least total that could decide any of the comparisons.

    Args:
        comparisons: Their number.
        fewest: Repeats with the same sign that decide one of them.
        at_most: Repeats after which one of them ends anyway.
    """
    return (comparisons - 1) * count_first_round(at_most) + fewest


def share_repeats(
    gains: Sequence[Gains], *, at_most: int, total: int, level: float = 0.95
) -> tuple[Grant, ...]:
    """Return the repeats of each comparison, as far as the scores so far determine them.

    The same scores give the same grants in whatever order they came, and a score that is added
    never lowers one. A comparison whose granted repeats are not all scored is waited for, by
    those that have as many, unless the total pays for all that they may need.

    Args:
        gains: Relative gains of each comparison's seeds so far, in the order of seeds; None where
            there is nothing to compare, which takes the first round only.
        at_most: Repeats after which a comparison ends anyway.
        total: Repeats of all comparisons together.
        level: Confidence of a decision, a fraction.

    Raises:
        ValueError: The total does not pay for the first rounds, or see `decide`.
    """
    first = count_first_round(at_most, level)
    if total < first * len(gains):
        message = (
            f"{len(gains)} comparisons begin with {first} repeats each, got a total of {total}. "
            f"Raise it to {first * len(gains)} or more."
        )
        raise ValueError(message)
    rule, grants = _Rule(at_most, total, level), [Grant(first)] * len(gains)
    while asking := list(_requests(gains, grants, rule)):
        _pay(asking, gains, grants, rule)
    return tuple(grants)


def share_in_turns(
    gains: Sequence[Gains],
    turns: Sequence[int],
    *,
    at_most: int,
    total: int,
    level: float = 0.95,
) -> tuple[Grant, ...]:
    """Return the repeats of each comparison as `share_repeats` does, turn after turn.

    Every comparison has its first round. What a turn leaves of the total is shared by the next one,
    once all comparisons of the turn are over.

    Args:
        gains: See `share_repeats`.
        turns: Turn of each comparison; lower ones come first.
        at_most: Repeats after which a comparison ends anyway.
        total: Repeats of all comparisons together.
        level: Confidence of a decision, a fraction.

    Raises:
        ValueError: See `share_repeats`.
    """
    grants = [Grant(count_first_round(at_most, level))] * len(gains)
    for turn in sorted(set(turns)):
        members = [i for i, its in enumerate(turns) if its == turn]
        others = sum(grant.repeats for i, grant in enumerate(grants) if i not in members)
        rule = _Rule(at_most, total - others, level)
        own = [gains[i] for i in members]
        shared = share_repeats(own, at_most=at_most, total=rule.total, level=level)
        for i, grant in zip(members, shared, strict=True):
            grants[i] = grant
        if any(_standing(*each, rule) != "over" for each in zip(own, shared, strict=True)):
            break
    return tuple(grants)


def _requests(gains: Sequence[Gains], grants: Sequence[Grant], rule: _Rule) -> Iterator[int]:
    """Yield the comparisons that request their next round."""
    standings = [_standing(of, grant, rule) for of, grant in zip(gains, grants, strict=True)]
    ahead = [i for i, standing in enumerate(standings) if standing != "over"]
    over = sum(grant.repeats for i, grant in enumerate(grants) if i not in ahead)
    if over + len(ahead) * rule.at_most > rule.total:  # it may run out: repeat after repeat
        fewest = min(grants[i].repeats for i in ahead)
        ahead = [i for i in ahead if grants[i].repeats == fewest]
        if any(standings[i] == "awaited" for i in ahead):
            return
    yield from (i for i in ahead if standings[i] == "open")


def _standing(gains: Gains, grant: Grant, rule: _Rule) -> Standing:
    if grant.is_spent or gains is None:
        return "over"
    done = gains[: grant.repeats]
    if find_stop(done, at_most=rule.at_most, level=rule.level).decision != "undecided":
        return "over"
    return "awaited" if len(done) < grant.repeats else "open"


def _pay(asking: Sequence[int], gains: Sequence[Gains], grants: list[Grant], rule: _Rule) -> None:
    """Grant the next rounds, the best chance per repeat first; what cannot be paid for ends."""
    left = rule.total - sum(grant.repeats for grant in grants)
    done = {i: (gains[i] or ())[: grants[i].repeats] for i in asking}
    limits = {i: min(rule.at_most, len(done[i]) + left) for i in asking}
    rates = {i: rate_chance(done[i], at_most=limits[i], level=rule.level) for i in asking}
    for i in sorted(asking, key=lambda i: (-round(rates[i], 9), i)):  # mirrored signs tie
        limit = min(rule.at_most, len(done[i]) + left)
        if decide(done[i], at_most=limit, level=rule.level) != "undecided":
            grants[i] = Grant(len(done[i]), is_spent=True)
            continue
        round_ = count_pairs_to_stop(done[i], at_most=rule.at_most, level=rule.level)
        grants[i] = Grant(len(done[i]) + round_)
        left -= round_
