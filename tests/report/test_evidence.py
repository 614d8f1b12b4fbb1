"""What is said of p values and power below a verdict."""

from __future__ import annotations

import pytest

from cryo_hpo.report.evidence import evidence_notes, intervals, name_intervals
from cryo_hpo.stats import Interval, relative_improvement

from ..support.results import TEST, a_result, an_arm, an_improvement


def notes(baseline: list[float], tuned: list[float]) -> str:
    improvement = relative_improvement(tuned, baseline)
    return "\n".join(evidence_notes(a_result(improvement=improvement)))


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        ([0.6], "One repeat allows no test."),
        (
            [0.6, 0.61, 0.62, 0.63, 0.64],
            "All five repeats agree, but five are too few for p < 0.05: five cannot give less than "
            "0.0625 (sign-flip test p = 0.0625, sign test p = 0.0625).",
        ),
        (
            [0.6, 0.4, 0.62, 0.5],
            "2 of 4 repeats gain and 1 loses, but four are too few for p < 0.05",
        ),
        (
            [0.6, 0.61, 0.62, 0.63, 0.64, 0.65],
            "All six repeats agree: without a true difference, repeats differ as clearly in 3.1 % of "
            "studies (sign-flip test p = 0.0312, sign test p = 0.0312).",
        ),
        ([0.4] * 6, "All six repeats agree: without"),
        ([0.6, 0.4, 0.6, 0.4, 0.6, 0.4], "3 of 6 repeats gain and 3 lose: without"),
    ],
)
def test_p_values_are_put_in_words(tuned: list[float], said: str) -> None:
    assert said in notes([0.5] * len(tuned), tuned)


def test_the_machine_readable_word_stays_beside_the_plain_one() -> None:
    assert "files have the verdict as `not shown`." in notes([0.5] * 4, [0.5, 0.6, 0.4, 0.5])


def test_power_is_the_number_of_seeds_for_a_gain() -> None:
    text = notes([0.5] * 4, [0.5, 0.6, 0.55, 0.58])
    assert "To show a gain in four studies of five, that takes so many repeats: " in text
    assert "for 1 %, " in text


def test_three_seeds_that_show_nothing_are_told_why() -> None:
    assert "3 repeats cannot decide" in notes([0.5] * 3, [0.6, 0.61, 0.62])
    assert "cannot decide" not in notes([0.5] * 4, [0.5, 0.6, 0.4, 0.5])


def test_without_a_tuned_arm_there_is_nothing_to_test() -> None:
    alone = a_result(arms=(an_arm("baseline", TEST["baseline"]),))
    assert (evidence_notes(alone), intervals(alone)) == ([], None)


def test_the_interval_over_scenes_is_shown_where_it_is_known() -> None:
    assert "means, BCa over scenes too" not in name_intervals(an_improvement())
    scenes = an_improvement(scenes_pct=Interval(12.0, 15.8, 19.0, 0.95))
    table = intervals(a_result(improvement=scenes))
    assert table is not None
    assert table.rows[-1] == ("means, BCa over scenes too", "+15.8", "+12.0", "+19.0")


@pytest.mark.parametrize(
    ("signs", "reason"),
    [
        ((1,) * 6, "decided after 6 of at most 16 repeats (10 repeats spared). Sequential"),
        ((-1,) * 6, "decided after 6 of at most 16 repeats (10 repeats spared). Sequential"),
        ((1, -1, 1, -1), "given up after 4 of at most 16 repeats (12 repeats spared): the others"),
        ((1, -1) * 8, "not decided by all 16 repeats"),
    ],
)
def test_a_comparison_that_stopped_says_why_and_what_it_spared(
    signs: tuple[int, ...], reason: str
) -> None:
    improvement = relative_improvement(
        [0.5 + sign / 100 for sign in signs], [0.5] * len(signs), at_most=16
    )
    notes = "\n".join(evidence_notes(a_result(improvement=improvement)))
    assert reason in notes
    assert "sign-flip" not in notes, "that test holds for a fixed number of pairs"
    assert "cannot decide" not in notes
    names = name_intervals(improvement)
    means = [name for name in names if name.startswith("means")]
    assert means == [name for name in names if "as if fixed" in name] != []
