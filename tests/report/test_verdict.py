"""The verdict of a study in sentences: repeats, relative improvement, doing nothing."""

from __future__ import annotations

import math

import pytest

from cryo_hpo import report
from cryo_hpo.report import study
from cryo_hpo.report import verdict as verdicts
from cryo_hpo.results.study import ConstantMap, Result, Reused
from cryo_hpo.stats import Interval, relative_improvement

from ..support.results import TEST, a_result, an_arm, an_improvement

ONE_ARM = (an_arm("baseline", TEST["baseline"]),)
NOTHING = "Doing nothing ('ice' everywhere) scores 21.40 on the same pixels; every run scores more."


def compared(baseline: tuple[float, ...], tuned: tuple[float, ...]) -> Result:
    """Return a study whose verdict is that of these scores."""
    arms = (an_arm("baseline", baseline), an_arm("tuned", tuned, lr=9.8e-4))
    return a_result(arms=arms, improvement=relative_improvement(tuned, baseline))


# what happened: the study, and what its verdict says
SENTENCES: dict[str, tuple[Result, str]] = {
    "improved": (
        a_result(),
        "Improved: 4 of 4 repeats (seeds) gain over the fixed learning rate 1e-4. Test mIoU changes "
        "by +11.00 to +11.16 points (median +11.12), from 70.14 to 81.24 on average. Relative "
        "improvement: +15.8 % of the means; a typical repeat +15.9 % [95 % interval +15.6 to +16.1]. "
        + NOTHING,
    ),
    "no clear difference": (
        compared((0.70, 0.70, 0.70, 0.70), (0.72, 0.69, 0.73, 0.70)),
        "No clear difference: 2 of 4 repeats (seeds) gain over the fixed learning rate 1e-4. Test "
        "mIoU changes by -1.00 to +3.00 points (median +1.00), from 70.00 to 71.00 on average. "
        "Relative improvement: +1.4 % of the means; a typical repeat +1.4 % [95 % interval -2.7 to "
        "+5.6]. " + NOTHING,
    ),
    "worse": (
        compared((0.70, 0.70, 0.70, 0.71), (0.60, 0.61, 0.60, 0.61)),
        "Worse: 0 of 4 repeats (seeds) gain over the fixed learning rate 1e-4. Test mIoU changes by "
        "-10.00 to -9.00 points (median -10.00), from 70.25 to 60.50 on average. Relative "
        "improvement: -13.9 % of the means; a typical repeat -14.2 % [95 % interval -15.0 to -12.8]. "
        + NOTHING,
    ),
    "one pair": (
        compared((0.70,), (0.71,)),
        "No clear difference: 1 of 1 repeat (seed) gains over the fixed learning rate 1e-4. Test mIoU "
        "changes by +1.00 points, from 70.00 to 71.00 on average. Relative improvement: +1.4 % of "
        "the means; a typical repeat +1.4 % [95 % interval unbounded]. " + NOTHING,
    ),
    "winner is baseline": (
        a_result(winner=0, winner_is_baseline=True, arms=ONE_ARM, improvement=an_improvement()),
        "No clear difference: no other trial (11 tried) beat the fixed learning rate 1e-4 on "
        "validation, so the winner is the baseline itself, test mIoU 70.14 over 4 repeats (seeds). "
        + NOTHING,
    ),
    "no search": (
        a_result(winner=None, trials=(), arms=ONE_ARM, improvement=None),
        "No search, no comparison: the fixed learning rate 1e-4 gives test mIoU 70.14 over 4 repeats "
        "(seeds). " + NOTHING,
    ),
    "not compared": (
        a_result(arms=ONE_ARM, improvement=None),
        "No clear difference: trial 7 won on validation and was not compared; the fixed learning "
        "rate 1e-4 gives test mIoU 70.14 over 4 repeats (seeds). " + NOTHING,
    ),
    "no proof": (
        a_result(proof="none", arms=(), improvement=None, constant_map=None),
        "Unproven: trial 7 won the search with learning rate 9.8e-4 and a validation mIoU of 82.07; "
        "the fixed learning rate 1e-4 reached 69.74. That it is better is not shown: the winner is "
        "the best of the search on its own validation scores, no repeat was trained on fresh seeds, "
        "and nothing was scored on the test split (proof: none).",
    ),
    "no proof, the baseline won": (
        a_result(
            proof="none",
            arms=(),
            improvement=None,
            constant_map=None,
            winner=0,
            winner_is_baseline=True,
        ),
        "Unproven: no other trial (11 tried) beat the fixed learning rate 1e-4 on validation, so the "
        "winner is the baseline itself; nothing was scored on the test split (proof: none).",
    ),
    "one pair on the search's seed": (
        a_result(
            proof="quick",
            improvement=None,
            arms=(an_arm("baseline", (0.70,)), an_arm("tuned", (0.72,), lr=9.8e-4)),
        ),
        "Unproven: one repeat on the search's own seed (1). Test mIoU is 70.00 with the fixed learning "
        "rate 1e-4 and 72.00 with 9.8e-4, +2.00 points. The winner was chosen on this seed, which "
        "flatters it: the measured winner's curse is +1.5 points on our tables. One repeat decides "
        "nothing; no improvement is claimed (proof: quick). " + NOTHING,
    ),
    "result of an older version": (
        a_result(winner=None, trials=(), arms=ONE_ARM, improvement=None, constant_map=None),
        "No search, no comparison: the fixed learning rate 1e-4 gives test mIoU 70.14 over 4 repeats "
        "(seeds).",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_verdict_is_in_plain_sentences(case: str) -> None:
    result, sentences = SENTENCES[case]
    assert verdicts.verdict_line(result) == sentences
    assert verdicts.verdict_text(result).startswith(sentences)


def test_the_verdict_comes_in_order_everywhere() -> None:
    result = a_result(constant_map=ConstantMap(label="ice", test_miou=0.7))
    order = ["Warning", "Improved", "repeats (seeds)", "points (median", "Relative improvement",
             "Doing nothing", "p = 0.1250"]  # fmt: skip
    for text in (verdicts.verdict_text(result), report.markdown(result), report.note(result)):
        places = [text.index(part) for part in order]
        assert places == sorted(places)


def test_only_improved_is_said_of_an_improvement() -> None:
    said = {case for case, (r, _) in SENTENCES.items() if "Improved" in verdicts.verdict_line(r)}
    assert said == {"improved"}


@pytest.mark.parametrize("case", ["no proof", "one pair on the search's seed"])
def test_without_a_proof_the_report_is_whole_and_claims_nothing(case: str) -> None:
    result, sentences = SENTENCES[case]
    for text in (report.markdown(result), report.note(result), verdicts.verdict_text(result)):
        assert sentences.split(". ")[0] in text
        assert "p = " not in text
    assert result.verdict == "unproven"


def test_a_reused_training_is_named_with_its_origin() -> None:
    arm = an_arm("baseline", (0.70,))
    source = Reused(study="other", training="baseline-seed1", date="2026-01-31", epochs=27)
    seed = arm.seeds[0].model_copy(update={"reused": source})
    result = a_result(arms=(arm.model_copy(update={"seeds": (seed,)}),), improvement=None)
    line = "baseline, seed 1: reused from study 'other' (baseline-seed1), trained on 2026-01-31."
    assert line in verdicts.verdict_text(result)
    assert line in report.markdown(result)


@pytest.mark.parametrize(
    ("baseline", "tuned", "opening"),
    [
        ((0.40,) * 4, (0.50, 0.51, 0.52, 0.53), "Improved over a baseline that is no better"),
        ((0.40,) * 4, (0.40,) * 4, "No clear difference to a baseline that is no better"),
        ((0.40,) * 4, (0.30, 0.31, 0.32, 0.33), "Worse than a baseline that is no better"),
        ((0.40, 0.50, 0.51, 0.52), (0.60, 0.71, 0.72, 0.73), "Improved: 4 of 4"),
        ((0.45, 0.45, 0.46, 0.54), (0.64, 0.63, 0.65, 0.74), "Improved over a baseline"),
    ],
)
def test_a_baseline_that_beats_no_constant_map_is_named_in_the_same_sentence(
    baseline: tuple[float, ...], tuned: tuple[float, ...], opening: str
) -> None:
    result = compared(baseline, tuned).model_copy(
        update={"constant_map": ConstantMap(label="ice", test_miou=0.4655)}
    )
    first = verdicts.verdict_line(result).split(". ")[0]
    assert first.startswith(opening)
    if "baseline that is no better" in opening:
        assert "no better than a constant map (46.55): " in first


def test_a_baseline_without_a_score_has_no_relative_improvement() -> None:
    assert "undefined, the baseline scored 0." in verdicts.verdict_line(
        compared((0.0,) * 4, (0.5,) * 4)
    )
    text = verdicts.verdict_line(compared((0.0, 0.0, 0.0, 0.5), (0.5,) * 4))
    assert "improvement of the means: +300.0 %; half of the seeds or more began at 0." in text
    assert "inf" not in text


def test_a_limit_that_the_seeds_do_not_set_is_unbounded() -> None:
    half = an_improvement(typical_pct=Interval(15.57, 15.86, math.inf, 0.95))
    assert "[95 % interval +15.6 to unbounded]" in verdicts.verdict_line(a_result(improvement=half))


def test_seeds_are_compared_in_pairs_whatever_their_order() -> None:
    baseline, tuned = an_arm("baseline", (0.1, 0.2, 0.3)), an_arm("tuned", (0.2, 0.4, 0.6))
    turned = tuned.model_copy(update={"seeds": tuned.seeds[::-1]})
    rows = verdicts.verdict_rows(a_result(arms=(baseline, turned)))
    assert [row.difference for row in rows] == ["+10.00", "+20.00", "+30.00", "+20.00"]
    assert [row.seed for row in rows] == ["1", "2", "3", "mean"]


def test_a_seed_that_one_arm_lacks_is_left_blank() -> None:
    arms = (an_arm("baseline", (0.7, 0.7)), an_arm("tuned", (0.71,), lr=9.8e-4))
    rows = verdicts.verdict_rows(a_result(arms=arms))
    assert rows[1] == ("2", "70.00", "-", "-")


def test_collapse_and_divergence_stand_beside_the_score() -> None:
    arm = an_arm("baseline", (0.3333,))
    seed = arm.seeds[0].model_copy(update={"collapsed": True, "diverged": True})
    arms = (arm.model_copy(update={"seeds": (seed,)}),)
    assert verdicts.verdict_rows(a_result(arms=arms))[0].baseline == "33.33 (diverged, one class)"


def test_trials_that_tie_are_named_with_the_one_that_was_taken() -> None:
    result = a_result()
    won = next(trial for trial in result.trials if trial.number == result.winner)
    twin = won.model_copy(update={"number": 40})
    shorter = won.model_copy(update={"number": 41, "state": "pruned"})
    tied = result.model_copy(update={"trials": (*result.trials, twin, shorter)})
    score = f"{100 * won.curve[max(won.curve)]:.2f}"
    sentence = (
        f"Trials {won.number} and 40 tie on the validation score (mIoU {score}); the lowest number is "
        "taken, as the search measures nothing else that tells them apart."
    )
    assert sentence in verdicts.verdict_text(tied)
    (trials,) = [s for s in study.page(tied).sections if s.title == "Trials"]
    assert sentence in trials.parts
    assert "tie on" not in verdicts.verdict_text(result)
    lone = tied.model_copy(update={"winner": None})
    assert "tie on" not in verdicts.verdict_text(lone)
