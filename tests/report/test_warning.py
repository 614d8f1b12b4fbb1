"""The warnings above a verdict: one of each kind, and none where nothing is weak."""

from __future__ import annotations

from typing import Any

import pytest

from cryo_hpo import report
from cryo_hpo.report.verdict import verdict_text
from cryo_hpo.report.warning import warnings
from cryo_hpo.results.study import ConstantMap, Result
from cryo_hpo.results.weak_runs import name_weak_runs

from ..support.results import TEST, a_result, an_arm

ARMS = (an_arm("baseline", TEST["baseline"]), an_arm("tuned", TEST["tuned"], lr=9.8e-4))


def with_seed(arm: str, seed: int, **changes: Any) -> Result:
    """Return the usual study with one training of the comparison changed."""
    arms = tuple(
        each.model_copy(
            update={
                "seeds": tuple(
                    s.model_copy(update=changes) if (each.name, s.seed) == (arm, seed) else s
                    for s in each.seeds
                )
            }
        )
        for each in ARMS
    )
    return a_result(arms=arms)


WEAK: dict[str, tuple[Result, str]] = {
    "below_constant": (
        a_result(arms=ARMS, constant_map=ConstantMap(label="ice", test_miou=0.7009)),
        "2 of 8 runs scored no more than doing nothing: a map of 'ice' everywhere has 70.09 on the "
        "same test pixels. These are baseline seeds 1 (69.82), 3 (70.09).",
    ),
    "diverged": (
        with_seed("tuned", 2, diverged=True, epochs=11, train_loss=9.0),
        "1 of 8 runs diverged before the end. This is tuned seed 2 (in epoch 12 of 27).",
    ),
    "above_even_guess": (
        with_seed("baseline", 4, train_loss=1.2),
        "1 of 8 runs did not learn: the training loss ended no lower than an even guess between the "
        "classes. Search a wider range of learning rates, or train longer (`base.epochs`). This is baseline "
        "seed 4 (loss 1.2, even guess 1.1).",
    ),
    "still_rising": (
        with_seed("baseline", 1, late_gain=0.0234),
        "1 of 8 runs had not converged: the best validation mIoU still rose by a point or more in "
        "the last tenth of the epochs. Longer training (`base.epochs`) may change the verdict. "
        "This is baseline seed 1 (+2.34).",
    ),
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_run_is_a_warning_above_the_verdict(kind: str, tmp_path: Any) -> None:
    result, text = WEAK[kind]
    assert warnings(result) == [text]
    assert list(name_weak_runs(result)) == [kind]
    assert verdict_text(result).startswith(f"Warning: {text}\n\nImproved")
    assert report.note(result).startswith(f"> **Warning:** {text}\n\n**Improved")
    page = report.markdown(result)
    assert page.index(text) < page.index("**Improved")
    html = report.write(result, tmp_path)[0].read_text(encoding="utf-8")
    assert html.index('class="warning"') < html.index('class="verdict improved"')


def test_a_study_without_a_weak_run_warns_of_nothing() -> None:
    assert warnings(a_result()) == []
    assert "Warning" not in report.markdown(a_result())


def test_what_was_not_recorded_warns_of_nothing() -> None:
    old = tuple(
        arm.model_copy(
            update={
                "even_guess_loss": None,
                "seeds": tuple(
                    s.model_copy(update={"train_loss": None, "late_gain": None}) for s in arm.seeds
                ),
            }
        )
        for arm in ARMS
    )
    assert warnings(a_result(arms=old, constant_map=None)) == []


def test_many_warnings_leave_the_note_within_mlflows_limit() -> None:
    arm = an_arm("baseline", tuple(0.1 for _ in range(400)))
    result = a_result(arms=(arm, an_arm("tuned", tuple(0.1 for _ in range(400)))))
    assert len(report.note(result)) < 8000
