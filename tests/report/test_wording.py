"""What a study says about itself, in words and numbers."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from cryo_hpo.report import wording as tables
from cryo_hpo.report.table import Table, markdown

from ..support.results import EPOCHS, TRIALS, a_result, a_trial, an_arm


# what happened: the study, and the sentence it must say
def test_a_class_in_no_mask_has_no_score() -> None:
    arm = an_arm("baseline", (0.7, 0.8))
    first = arm.seeds[0].model_copy(update={"test_iou": {"rock": None, "ice": None, "lake": 0.5}})
    second = arm.seeds[1].model_copy(update={"test_iou": {"rock": None, "ice": 0.6, "lake": 0.7}})
    text = tables.class_scores(a_result(arms=(arm.model_copy(update={"seeds": (first, second)}),)))
    assert [row[-1] for row in cells(text)[-3:]] == ["-", "60.00", "60.00"]


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


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.04, "-0.04"), (0.0, "+0.0"), (-1e-12, "+0.0"), (0.05, "+0.1"), (-13.0026, "-13.0")],
)
def test_a_small_difference_keeps_its_sign_and_zero_has_none(value: float, text: str) -> None:
    assert tables.signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(41.4, "41 s"), (359.0, "359 s"), (5400.0, "1.50 h")]
)
def test_times_have_a_readable_unit(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def cells(table: Table | str) -> list[list[str]]:
    table = markdown(table) if isinstance(table, Table) else table
    return [[cell.strip() for cell in line[2:-2].split(" | ")] for line in table.splitlines()]


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0036, "0.36 %"), (0.944, "94 %"), (0.9964, "99.6 %"), (0.99964, "99.964 %"), (1, "100 %")],
)
def test_a_share_is_never_written_as_a_power(share: float, words: str) -> None:
    assert tables.percent_of(share) == words
