"""What a study says about itself, in words and numbers."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest

from cryo_hpo.report import verdict as verdicts
from cryo_hpo.report import wording as tables
from cryo_hpo.report.table import Table, markdown
from cryo_hpo.results.study import Result
from cryo_hpo.stats import Interval

from ..support.results import EPOCHS, TEST, TRIALS, a_result, a_trial, an_arm, an_improvement

ONE_ARM = (an_arm("baseline", TEST["baseline"]),)
ONE_PAIR = (an_arm("baseline", (0.70,)), an_arm("tuned", (0.71,), lr=9.8e-4))


def means(low: float, mid: float, high: float) -> Interval:
    return Interval(low, mid, high, 0.95)


# what happened: the study, and the sentence it must say
SENTENCES: dict[str, tuple[Result, str]] = {
    "improved": (
        a_result(),
        "Tuned beats the fixed learning rate 1e-4: test mIoU 81.24 against 70.14, "
        "+15.8 % relative [95 % interval +15.6 to +16.1]; a typical seed gains +15.9 % "
        "[95 % interval +15.6 to +16.1], 4 paired seeds: improved.",
    ),
    "not shown": (
        a_result(
            improvement=an_improvement(
                tuned=0.7102,
                relative_pct=means(-3.04, 1.2546, 5.61),
                typical_pct=means(-3.5, 1.3, 6.0),
                verdict="not shown",
            )
        ),
        "Tuned is not shown to beat the fixed learning rate 1e-4: test mIoU 71.02 against 70.14, "
        "+1.3 % relative [95 % interval -3.0 to +5.6]; a typical seed gains +1.3 % "
        "[95 % interval -3.5 to +6.0], 4 paired seeds: not shown.",
    ),
    "worse": (
        a_result(
            improvement=an_improvement(
                tuned=0.6102,
                relative_pct=means(-15.5, -13.0026, -10.1),
                typical_pct=means(-15.4, -13.0, -10.0),
                verdict="worse",
            )
        ),
        "Tuned falls behind the fixed learning rate 1e-4: test mIoU 61.02 against 70.14, "
        "-13.0 % relative [95 % interval -15.5 to -10.1]; a typical seed gains -13.0 % "
        "[95 % interval -15.4 to -10.0], 4 paired seeds: worse.",
    ),
    "one pair": (
        a_result(
            arms=ONE_PAIR,
            improvement=an_improvement(
                baseline=0.70,
                tuned=0.71,
                num_pairs=1,
                verdict="not shown",
                relative_pct=means(-math.inf, 1.43, math.inf),
                typical_pct=means(-math.inf, 1.43, math.inf),
            ),
        ),
        "Tuned is not shown to beat the fixed learning rate 1e-4: test mIoU 71.00 against 70.00, "
        "+1.4 % relative [95 % interval unbounded]; a typical seed gains +1.4 % "
        "[95 % interval unbounded], 1 paired seed: not shown.",
    ),
    "unbounded above": (
        a_result(improvement=an_improvement(relative_pct=means(15.57, 15.83, math.inf))),
        "Tuned beats the fixed learning rate 1e-4: test mIoU 81.24 against 70.14, "
        "+15.8 % relative [95 % interval +15.6 to unbounded]; a typical seed gains +15.9 % "
        "[95 % interval +15.6 to +16.1], 4 paired seeds: improved.",
    ),
    "baseline without a score": (
        a_result(
            improvement=an_improvement(
                baseline=0.0,
                relative_pct=means(-math.inf, math.inf, math.inf),
                typical_pct=means(-math.inf, math.inf, math.inf),
                verdict="not shown",
            )
        ),
        "Tuned is not shown to beat the fixed learning rate 1e-4: test mIoU 81.24 against 0.00, "
        "relative improvement undefined; a typical seed gains infinitely "
        "[95 % interval unbounded], 4 paired seeds: not shown.",
    ),
    "winner is baseline": (
        a_result(
            winner=0,
            winner_is_baseline=True,
            arms=ONE_ARM,
            improvement=an_improvement(
                tuned=0.7014, relative_pct=means(0.0, 0.0, 0.0), verdict="not shown"
            ),
        ),
        "No other trial (11 tried) beat the fixed learning rate 1e-4 on validation: the winner is "
        "the baseline itself, test mIoU 70.14 over 4 seeds; improvement not shown.",
    ),
    "no search": (
        a_result(winner=None, trials=(), arms=ONE_ARM, improvement=None),
        "No search, no comparison: the fixed learning rate 1e-4 gives test mIoU 70.14 over 4 seeds.",
    ),
    "not compared": (
        a_result(arms=ONE_ARM, improvement=None),
        "Trial 7 won on validation; on test, the fixed learning rate 1e-4 gives "
        "test mIoU 70.14 over 4 seeds: not shown.",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_verdict_is_one_plain_sentence(case: str) -> None:
    result, sentence = SENTENCES[case]
    assert verdicts.verdict_line(result).rstrip(".") == sentence.rstrip(".")
    assert verdicts.verdict_table(result).startswith(verdicts.verdict_line(result))


def test_only_an_improvement_is_said_to_beat_the_baseline() -> None:
    said = {case for case, (r, _) in SENTENCES.items() if "Tuned beats" in verdicts.verdict_line(r)}
    assert said == {"improved", "unbounded above"}


def test_seeds_are_compared_in_pairs_whatever_their_order() -> None:
    baseline, tuned = an_arm("baseline", (0.1, 0.2, 0.3)), an_arm("tuned", (0.2, 0.4, 0.6))
    turned = tuned.model_copy(update={"seeds": tuned.seeds[::-1]})
    rows = verdicts.verdict_rows(a_result(arms=(baseline, turned)))
    assert [row.difference for row in rows] == ["+10.00", "+20.00", "+30.00", "+20.00"]
    assert [row.seed for row in rows] == ["1", "2", "3", "mean"]


def test_a_seed_that_one_arm_lacks_is_left_blank() -> None:
    rows = verdicts.verdict_rows(a_result(arms=(an_arm("baseline", (0.7, 0.7)), ONE_PAIR[1])))
    assert rows[1] == ("2", "70.00", "-", "-")


def test_collapse_and_divergence_are_told_beside_the_score() -> None:
    arm = an_arm("baseline", (0.3333,))
    seed = arm.seeds[0].model_copy(update={"collapsed": True, "diverged": True})
    arms = (arm.model_copy(update={"seeds": (seed,)}),)
    assert verdicts.verdict_rows(a_result(arms=arms))[0].baseline == "33.33 (diverged, one class)"


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (1, "1 pair cannot give less than 1.0000"),
        (5, "5 pairs cannot give less than 0.0625"),
        (6, None),
    ],
)
def test_too_few_pairs_for_a_small_p_value_are_told(pairs: int, told: str | None) -> None:
    text = "\n".join(verdicts.verdict_notes(a_result(improvement=an_improvement(num_pairs=pairs))))
    assert ("cannot give less" in text) == (told is not None)
    assert told is None or told in text


def test_a_class_in_no_mask_has_no_score() -> None:
    arm = an_arm("baseline", (0.7, 0.8))
    first = arm.seeds[0].model_copy(update={"test_iou": {"rock": None, "ice": None, "lake": 0.5}})
    second = arm.seeds[1].model_copy(update={"test_iou": {"rock": None, "ice": 0.6, "lake": 0.7}})
    text = tables.scores(a_result(arms=(arm.model_copy(update={"seeds": (first, second)}),)))
    assert cells(text)[-1][-3:] == ["-", "60.00", "60.00"]


def test_every_trial_has_its_line_and_its_reason() -> None:
    lines = cells(tables.trials(a_result()))[2:]
    assert [line[0] for line in lines[:2]] == ["0 (baseline)", "1"]
    assert len(lines) == len(TRIALS)
    assert lines[7][0] == "7 (winner)"
    assert lines[10] == [
        "10", "9.1e-02", "0", "-", "diverged",
        "Loss became nan at epoch 1, step 12 (lr 0.091, bf16, recipe 3fa9c1d07b22).",
    ]  # fmt: skip
    assert lines[3][-1].startswith("collapsed: predicts one class; Loss became nan")


def test_other_parameters_are_shown_when_there_are_any() -> None:
    params = {"optim.lr": 6.4e-4, "loss.name": "dice", "optim.weight_decay": 0.003}
    text = tables.trials(a_result(trials=(a_trial(0), a_trial(4, params=params))))
    assert cells(text)[0][-1] == "other parameters"
    assert cells(text)[-1][-1] == "loss.name=dice, optim.weight_decay=3e-3"


def test_a_message_stays_in_its_cell() -> None:
    trial = a_trial(10, state="failed", message="<Error>\nleft | right\n" + "x" * 500)
    text = markdown(tables.trials(a_result(trials=(trial,))))
    assert len(text.splitlines()) == 3
    assert "&lt;Error> left \\| right xxx" in text
    assert max(map(len, text.splitlines())) < 220


def test_the_rung_table_holds_each_score_and_fate() -> None:
    lines = cells(tables.rungs(a_result()))
    assert lines[0] == ["trial", "epoch 1", "epoch 3", "epoch 9", "epoch 27", "fate", "why"]
    fates = {line[0]: line[-2] for line in lines[2:]}
    assert fates["0 (baseline)"] == "complete"
    assert fates["7 (winner)"] == "complete"
    assert fates["8"] == "pruned after epoch 9"
    assert fates["3"] == "diverged in epoch 4"
    scores = [f"{100 * a_trial(8).curve[epoch]:.2f}" for epoch in (1, 3, 9)]
    assert lines[2 + 8][1:5] == [*scores, "-"]
    assert lines[2 + 8][-1] == (
        "continued at epoch 1 (1 of 3); promoted at epoch 3 (2 of 6); pruned at epoch 9 (3 of 4)"
    )


@pytest.mark.parametrize("search", [None, {"scheduler": {"kind": "none"}}])
def test_without_early_stopping_there_are_no_rungs(search: dict[str, Any] | None) -> None:
    result = a_result(spec={**a_result().spec, "search": search})
    assert tables.rung_epochs(result) == ()
    assert cells(tables.rungs(result))[0] == ["trial", f"epoch {EPOCHS}", "fate", "why"]


def test_the_saving_is_against_a_grid_of_full_trainings() -> None:
    costs = a_result().costs.model_copy(update={"epochs_search": 81, "epochs_full_grid": 324})
    text = tables.costs(a_result(costs=costs))
    assert ["saved by early stopping", "75.0 %", ""] in cells(text)
    free = dict.fromkeys(("epochs_search", "epochs_confirm", "epochs_full_grid"), 0)
    idle = dict.fromkeys(("seconds_search", "seconds_confirm", "seconds_data"), 0.0)
    text = tables.costs(a_result(costs=costs.model_copy(update={**free, **idle})))
    assert ["saved by early stopping", "-", ""] in cells(text)


def test_the_csv_reads_back() -> None:
    trials = (
        a_trial(0),
        a_trial(4, params={"optim.lr": 6.4e-4, "loss.name": 'a,"b"\nc'}),
        a_trial(10),
    )
    rows = list(csv.DictReader(io.StringIO(tables.trials_csv(a_result(trials=trials)))))
    assert [int(row["trial"]) for row in rows] == [0, 4, 10]
    assert [float(row["lr"]) for row in rows] == [t.lr for t in trials]
    assert rows[1]["loss.name"] == 'a,"b"\nc'
    assert float(rows[1]["best_val_miou_pct"]) == pytest.approx(
        100 * (trials[1].best_val_miou or 0)
    )
    assert rows[2]["best_val_miou_pct"] == ""
    assert rows[0]["optim.lr"] == ""


@pytest.mark.parametrize(
    ("lr", "said"),
    [(1e-4, "1e-4"), (3.2e-4, "3.2e-4"), (0.01, "1e-2"), (1.0, "1e0"), (9.996e-5, "1e-4")],
)
def test_a_learning_rate_is_said_shortly(lr: float, said: str) -> None:
    assert tables.short_lr(lr) == said


@pytest.mark.parametrize(("value", "text"), [(-0.04, "+0.0"), (0.05, "+0.1"), (-13.0026, "-13.0")])
def test_what_rounds_to_zero_has_no_minus(value: float, text: str) -> None:
    assert tables.signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(41.4, "41 s"), (359.0, "359 s"), (5400.0, "1.50 h")]
)
def test_times_have_a_readable_unit(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def cells(table: Table | str) -> list[list[str]]:
    table = markdown(table) if isinstance(table, Table) else table
    return [[cell.strip() for cell in line[2:-2].split(" | ")] for line in table.splitlines()]


def test_three_seeds_that_show_nothing_are_told_why() -> None:
    unshown = a_result(improvement=an_improvement(verdict="not shown", num_pairs=3))
    assert any("3 seeds cannot decide" in note for note in verdicts.verdict_notes(unshown))
    enough = a_result(improvement=an_improvement(verdict="not shown", num_pairs=4))
    assert not any("cannot decide" in note for note in verdicts.verdict_notes(enough))
