"""How a total of repeats is shared: by every score, and by nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryo_hpo.stats.sequential import count_pairs_to_stop, decide, find_stop, rate_chance
from cryo_hpo.stats.shared_repeats import (
    Grant,
    count_first_round,
    least_total,
    share_in_turns,
    share_repeats,
)

AT_MOST = 16
SIGNS = st.sampled_from([1.0, 1.0, 1.0, -1.0, 0.0])
WHOLE = st.lists(SIGNS, min_size=AT_MOST, max_size=AT_MOST)  # every gain that could be trained
CAMPAIGNS = st.lists(st.none() | WHOLE, min_size=1, max_size=6)


def _gains(*signs: str) -> list[list[float]]:
    return [[{"+": 1.0, "-": -1.0, "0": 0.0}[sign] for sign in cell] for cell in signs]


def _decisions(gains, grants):
    """Return how each comparison stands at its grant; None where there is nothing to compare."""
    return [
        None if of is None else find_stop(of[: grant.repeats], at_most=AT_MOST).decision
        for of, grant in zip(gains, grants, strict=True)
    ]


def _totals(cells):
    return st.integers(least_total(cells, fewest=6, at_most=AT_MOST), AT_MOST * cells)


@given(CAMPAIGNS, st.data())
def test_the_total_and_the_limit_of_each_are_kept(gains, data):
    total = data.draw(_totals(len(gains)))
    grants = share_repeats(gains, at_most=AT_MOST, total=total)
    assert sum(grant.repeats for grant in grants) <= total
    assert all(4 <= grant.repeats <= AT_MOST for grant in grants)
    for decision, grant in zip(_decisions(gains, grants), grants, strict=True):
        assert (decision == "undecided") == grant.is_spent, "with all scores none is left waiting"


@given(CAMPAIGNS)
def test_a_total_that_pays_for_all_changes_nothing(gains):
    grants = share_repeats(gains, at_most=AT_MOST, total=AT_MOST * len(gains))
    alone = [4 if of is None else _alone(of) for of in gains]
    assert [(grant.repeats, grant.is_spent) for grant in grants] == [(n, False) for n in alone]


def _alone(gains):
    """Return the repeats that a comparison trains by itself, round after round."""
    trained = 0
    while find_stop(gains[:trained], at_most=AT_MOST).decision == "undecided":
        trained += count_pairs_to_stop(gains[:trained], at_most=AT_MOST)
    return trained


@given(CAMPAIGNS, st.data())
def test_scores_come_in_any_order_and_never_take_a_grant_back(gains, data):
    """A campaign that is killed at any time goes on with the same grants to the same end."""
    total = data.draw(_totals(len(gains)))
    whole = share_repeats(gains, at_most=AT_MOST, total=total)
    known: list[list[float] | None] = [None if of is None else [] for of in gains]
    before = share_repeats(known, at_most=AT_MOST, total=total)
    while True:
        lacking = [
            i for i, of in enumerate(known) if of is not None and len(of) < before[i].repeats
        ]
        if not lacking:
            break
        i = data.draw(st.sampled_from(lacking))
        known[i] = gains[i][: data.draw(st.integers(len(known[i]) + 1, before[i].repeats))]
        now = share_repeats(known, at_most=AT_MOST, total=total)
        assert all(a.repeats <= b.repeats for a, b in zip(before, now, strict=True))
        assert not any(a.is_spent and a != b for a, b in zip(before, now, strict=True))
        assert sum(grant.repeats for grant in now) <= total
        before = now
    assert before == whole


@given(CAMPAIGNS.filter(lambda of: len(of) > 1), st.data())
def test_no_grant_depends_on_later_repeats_of_another(gains, data):
    """Whether a comparison gets repeat n + 1 is decided by the repeats 1 to n of all."""
    total = data.draw(_totals(len(gains)))
    n = data.draw(st.integers(4, AT_MOST - 1))
    rest = data.draw(st.lists(WHOLE, min_size=len(gains), max_size=len(gains)))
    other = [
        None if of is None else [*of[:n], *new[n:]] for of, new in zip(gains, rest, strict=True)
    ]
    one, two = (share_repeats(g, at_most=AT_MOST, total=total) for g in (gains, other))
    assert [a.repeats > n for a in one] == [b.repeats > n for b in two]


@given(st.lists(WHOLE, min_size=1, max_size=6))
def test_six_each_decide_all_that_six_fixed_ones_decide(gains):
    """Six fixed repeats decide where all are equal; sharing as many loses none of these."""
    grants = share_repeats(gains, at_most=AT_MOST, total=6 * len(gains))
    for of, decision in zip(gains, _decisions(gains, grants), strict=True):
        fixed = {6.0: "improved", -6.0: "worse"}.get(sum(of[:6]))
        assert fixed in (None, decision)


def _turns(data, cells):
    return data.draw(st.lists(st.integers(0, 2), min_size=cells, max_size=cells))


@given(CAMPAIGNS, st.data())
def test_turns_keep_the_total_and_end_whatever_order_the_scores_come_in(gains, data):
    """A cell of a later turn takes nothing back from those before it."""
    total, turns = data.draw(_totals(len(gains))), _turns(data, len(gains))
    whole = share_in_turns(gains, turns, at_most=AT_MOST, total=total)
    assert sum(grant.repeats for grant in whole) <= total
    for decision, grant in zip(_decisions(gains, whole), whole, strict=True):
        assert grant.repeats >= 4
        assert (decision == "undecided") == grant.is_spent
    known: list[list[float] | None] = [None if of is None else [] for of in gains]
    before = share_in_turns(known, turns, at_most=AT_MOST, total=total)
    while lacking := [
        i for i, of in enumerate(known) if of is not None and len(of) < before[i].repeats
    ]:
        i = data.draw(st.sampled_from(lacking))
        known[i] = gains[i][: before[i].repeats]
        now = share_in_turns(known, turns, at_most=AT_MOST, total=total)
        assert all(a.repeats <= b.repeats for a, b in zip(before, now, strict=True))
        before = now
    assert before == whole


@given(CAMPAIGNS.filter(lambda of: len(of) > 1), st.data())
def test_a_cell_of_a_later_turn_changes_nothing_for_those_before_it(gains, data):
    """Be it without a score yet, which the same turn would wait for, or with any."""
    total = data.draw(_totals(len(gains)))
    turns, empty = [0] * (len(gains) - 1) + [1], list[float]()
    one, two = (
        share_in_turns([*gains[:-1], last], turns, at_most=AT_MOST, total=total)
        for last in (empty, data.draw(st.none() | WHOLE))
    )
    assert one[:-1] == two[:-1]
    alone = share_repeats(gains[:-1], at_most=AT_MOST, total=total - 4)
    assert one[:-1] == alone
    assert one[-1] == Grant(4), "its first round, and no more before it is scored"


@given(CAMPAIGNS, st.data())
def test_one_turn_is_shared_as_without_turns(gains, data):
    total = data.draw(_totals(len(gains)))
    every = share_in_turns(gains, [1] * len(gains), at_most=AT_MOST, total=total)
    assert every == share_repeats(gains, at_most=AT_MOST, total=total)


@pytest.mark.parametrize(
    ("gains", "turns", "total", "grants"),
    [
        # The first ends at 6 of 17; the one that comes later gets its 4 and what it needs of 7 more.
        (_gains("++++++", "++++++"), [0, 1], 17, [(6, False), (6, False)]),
        # It waits while the one before it has not scored all.
        (_gains("++++", "++++"), [0, 1], 17, [(6, False), (4, False)]),
        # 1 is left for it, which decides nothing.
        (_gains("++++++", "++++"), [0, 1], 11, [(6, False), (4, True)]),
        # The third has no score yet, and its first round is kept for it.
        (_gains("++++++", "++++++", ""), [0, 1, 2], 16, [(6, False), (6, False), (4, False)]),
        (_gains("++++++", "++++", ""), [0, 1, 2], 15, [(6, False), (4, True), (4, False)]),
    ],
)
def test_a_later_turn_gets_what_the_earlier_ones_leave(gains, turns, total, grants):
    found = share_in_turns(gains, turns, at_most=AT_MOST, total=total)
    assert found == tuple(itertools.starmap(Grant, grants))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.9]), st.integers(30, 70))
def test_a_limit_that_knows_later_repeats_of_others_makes_no_false_gain_more_frequent(
    seed, shared, total
):
    """Six cells without a gain whose seeds move together; two take what the others leave."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(400)
    for campaign in range(400):
        common = rng.normal(size=AT_MOST)
        noise = shared * common + (1 - shared**2) ** 0.5 * rng.normal(size=(6, AT_MOST))
        gains = noise.tolist()
        grants = share_in_turns(gains, [0, 0, 0, 0, 1, 2], at_most=AT_MOST, total=total)
        decided = [d in ("improved", "worse") for d in _decisions(gains, grants)]
        wrong[campaign] = np.mean(decided[4:])
    assert wrong.mean() <= 0.05 + 3 * wrong.std() / 400**0.5


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.9]), st.integers(26, 60))
def test_no_false_gain_is_more_frequent_than_the_level(seed, shared, total):
    """Three cells that gain and three that do not share a total; their seeds may move together."""
    rng = np.random.default_rng(seed)
    wrong, truth = np.zeros(400), np.array([[1.5], [1.0], [0.5], [0], [0], [0]])
    for campaign in range(400):
        common = rng.normal(size=AT_MOST)
        noise = shared * common + (1 - shared**2) ** 0.5 * rng.normal(size=(6, AT_MOST))
        gains = (noise + truth).tolist()
        grants = share_repeats(gains, at_most=AT_MOST, total=total)
        decided = [d in ("improved", "worse") for d in _decisions(gains, grants)]
        wrong[campaign] = np.mean(decided[3:])
    assert wrong.mean() <= 0.05 + 3 * wrong.std() / 400**0.5


@pytest.mark.parametrize(
    ("gains", "total", "grants"),
    [
        # All are paid for: two more where the first four agree, one where one differs.
        (_gains("++++", "+++-"), 32, [(6, False), (5, False)]),
        # 1 is left: five equal signs decide nothing, so nobody gets it.
        (_gains("++++", "++++"), 9, [(4, True), (4, True)]),
        # 2 are left, for the one whose four agree; ties go by the order of the campaign.
        (_gains("+++-", "++++"), 10, [(4, True), (6, False)]),
        (_gains("++++", "----"), 10, [(6, False), (4, True)]),
        # 12 are left: a comparison with a loss needs nine more gains, after which one is left.
        (_gains("+++-++", "+-+-"), 17, [(7, False), (4, False)]),
        # The baseline of one won: its repeats are of one arm, and it takes no more.
        ([None, *_gains("++++")], 10, [(4, False), (6, False)]),
        # A cell has not scored its first round: the others wait, unless all could be paid for.
        ([[], *_gains("++++")], 20, [(4, False), (4, False)]),
        ([[], *_gains("++++")], 32, [(4, False), (6, False)]),
    ],
)
def test_who_gets_what(gains, total, grants):
    assert share_repeats(gains, at_most=AT_MOST, total=total) == tuple(
        itertools.starmap(Grant, grants)
    )


def test_the_first_round_is_what_none_can_be_spared_of():
    assert count_first_round(16) == 4
    assert count_first_round(6) == 2
    assert least_total(6, fewest=6, at_most=16) == 26


def test_the_least_total_can_decide_and_one_less_cannot():
    gains = _gains("+" * 16, "+" * 16, "+-+-" * 4)
    least = least_total(3, fewest=6, at_most=16)
    for total, decided in ((least, 1), (least - 1, 0)):
        grants = share_repeats(gains, at_most=16, total=total)
        assert _decisions(gains, grants).count("improved") == decided


def test_a_total_without_the_first_rounds_is_refused():
    with pytest.raises(ValueError, match="begin with 4 repeats each, got a total of 11"):
        share_repeats(_gains("", "", ""), at_most=16, total=11)


def test_the_chance_of_a_repeat_is_that_of_all_paths():
    """Exact, by walking every path with Laplace's chances."""

    def walk(gains):
        if decide(gains, at_most=10) != "undecided":
            return float(decide(gains, at_most=10) in ("improved", "worse")), 0.0
        gain = (gains.count(1.0) + 1) / (len(gains) + 2)
        ends = [walk([*gains, sign]) for sign in (1.0, -1.0)]
        chance, pairs = (gain * a + (1 - gain) * b for a, b in zip(*ends, strict=True))
        return chance, 1 + pairs

    for gains in _gains("", "++", "++++", "-----"):
        chance, pairs = walk(gains)
        assert rate_chance(gains, at_most=10) == pytest.approx(chance / pairs)
    assert rate_chance([1.0] * 6, at_most=10) == 0
