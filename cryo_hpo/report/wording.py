"""Describe a finished study in sentences and tables: plain text, Markdown and CSV.

Scores are mIoU in percent with two digits, differences in percentage points, relative improvement
in percent with a sign and one digit. Only the CSV has full precision.
"""

from __future__ import annotations

import math
from typing import Any

from .. import stats
from ..config.recipe import short_lr as short_lr
from ..errors import count_of as count_of
from ..results.study import ArmResult, Result, RungStep, TrialResult
from ..search.rungs import Ladder
from ..stats import Interval, Verdict
from .selection import Selection
from .table import Table, csv_text

FIXED = 0  # number of the trial at the fixed learning rate
BASELINE, TUNED = "baseline", "tuned"  # the two arms of every verdict
NONE = "-"
VERDICTS: dict[Verdict, str] = {
    "improved": "Improved",
    "not shown": "No clear difference",
    "worse": "Worse",
}
TINY = 1e-9  # below it a difference is an error of rounding
ONE_CLASS = "collapsed: predicts one class"


def percent(fraction: float | None) -> str:
    """Return a score in percent with two digits."""
    return NONE if fraction is None or math.isnan(fraction) else f"{100 * fraction:.2f}"


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign; a small one that would round to zero keeps one digit."""
    rounded = round(value, digits) + 0.0
    if not rounded and abs(value) >= TINY:
        return f"{value:+.1g}" if abs(value) >= 1e-4 else f"{value:+.0e}"
    return f"{rounded:+.{digits}f}"


def format_limits(gain: Interval) -> str:
    """Return the limits of an interval of percentages in brackets, with its level."""
    name = f"{100 * gain.level:g} % interval"
    if not gain.is_bounded:
        return f"[{name} unbounded]"
    low, high = (signed(v) if math.isfinite(v) else "unbounded" for v in (gain.low, gain.high))
    return f"[{name} {low} to {high}]"


def full_length(result: Result) -> int:
    """Return the epochs of a full training."""
    return int(result.spec["base"]["epochs"])


def rung_epochs(result: Result) -> tuple[int, ...]:
    """Return the epochs at which trials were compared; empty without early stopping."""
    rule = (result.spec.get("search") or {}).get("scheduler") or {}
    if rule.get("kind") != "asha":
        return ()
    return Ladder.of(
        grace_epochs=rule["grace_epochs"], reduction=rule["reduction"], epochs=full_length(result)
    ).rungs


def fixed_lr(result: Result) -> float:
    """Return the baseline's learning rate."""
    return float(result.base_recipe["optim"]["lr"])


def scores(result: Result) -> Table:
    """Return every arm's test mIoU over its seeds."""
    head = ("arm", "LR", "seeds", "test mIoU", "IQM", "median", "lowest", "highest", "lost")
    return Table.of(head, [_arm_row(arm) for arm in result.arms], left=1)


def class_scores(result: Result) -> Table:
    """Return the test IoU of every class, means over seeds: a row per class, a column per arm.

    Classes are rows, so that none is cut off a narrow page.
    """
    head = ("class", *(arm.name for arm in result.arms))
    rows = [
        (name, *(percent(_class_mean(arm, name)) for arm in result.arms)) for name in result.classes
    ]
    return Table.of(head, rows, left=1)


def _class_mean(arm: ArmResult, name: str) -> float | None:
    scores = [iou for seed in arm.seeds if (iou := seed.test_iou.get(name)) is not None]
    return sum(scores) / len(scores) if scores else None


def trials(result: Result) -> Table:
    """Return the table of trials: parameters, epochs, scores, and why each ended."""
    more = any(_others(trial) for trial in result.trials)
    shown = Selection.of(result)
    best = f"best val {shown.words}"
    head = ("trial", "LR", "epochs", best, "state", "why", "other parameters")
    rows = [
        (
            _name(trial, result),
            f"{trial.lr:.1e}",
            str(trial.epochs),
            shown.text(trial.score),
            trial.state,
            "; ".join(filter(None, (ONE_CLASS * trial.collapsed, _parts(trial), trial.message))),
            ", ".join(f"{k}={plain(v)}" for k, v in _others(trial).items()),
        )
        for trial in result.trials
    ]
    width = len(head) if more else len(head) - 1
    return Table.of(head[:width], [row[:width] for row in rows], left=1, right=3)


def _parts(trial: TrialResult) -> str:
    """Return the micro-batch of a trial whose batch did not fit into memory; else nothing."""
    return "" if trial.micro_batch is None else f"in parts of {trial.micro_batch} (memory)"


def rungs(result: Result) -> Table:
    """Return the rung table: every trial's score at each comparison, its fate, and the reason."""
    epochs, shown = (*rung_epochs(result), full_length(result)), Selection.of(result)
    head = ("trial", *(f"epoch {epoch}" for epoch in epochs), "fate", "why")
    rows = [
        (
            _name(trial, result),
            *(shown.text(trial.curve.get(epoch)) for epoch in epochs),
            _fate(trial),
            _why(trial, reduction_of(result)),
        )
        for trial in result.trials
    ]
    return Table.of(head, rows, left=1, right=len(epochs))


def trials_csv(result: Result) -> str:
    """Return the trials as CSV, one column per parameter; scores in percent, full precision."""
    params = list(dict.fromkeys(name for trial in result.trials for name in trial.params))
    fixed = ("trial", "state", "lr", "epochs", "best_val_miou_pct", "collapsed", "seconds")
    rows = [
        (
            *(t.number, t.state, t.lr, t.epochs, _exact(t.best_val_miou)),
            *(t.collapsed, round(t.seconds, 3)),
            *(t.params.get(name) for name in params),
            t.message,
        )
        for t in result.trials
    ]
    return csv_text((*fixed, *params, "message"), rows)


def scores_csv(result: Result) -> str:
    """Return every training of the comparison as CSV: a row per arm and seed, in percent."""
    fixed = ("arm", "lr", "seed", "test_miou_pct", "val_miou_pct", "collapsed", "diverged")
    names = [f"test_iou_pct.{name}" for name in result.classes]
    rows = [
        (
            *(arm.name, arm.recipe["optim"]["lr"], s.seed, _exact(s.test_miou)),
            *(_exact(s.val_miou), s.collapsed, s.diverged, s.epochs, round(s.seconds, 3)),
            *(_exact(s.test_iou.get(name)) for name in result.classes),
        )
        for arm in result.arms
        for s in arm.seeds
    ]
    return csv_text((*fixed, "epochs", "seconds", *names), rows)


def duration(seconds: float) -> str:
    """Format a time in hours; below six minutes in seconds."""
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds:.0f} s"


def _exact(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 6)


def tuned_arm(result: Result) -> ArmResult | None:
    """Return the tuned arm; None where the baseline won or there was no search."""
    return next((arm for arm in result.arms if arm.name == TUNED), None)


def _arm_row(arm: ArmResult) -> tuple[str, ...]:
    scores = [seed.test_miou for seed in arm.seeds]
    of = stats.summary(scores)
    ends = (arm.mean_test_miou, of.iqm, of.median, min(scores), max(scores))
    lost = f"{sum(s.collapsed or s.diverged for s in arm.seeds)} of {len(scores)}"
    lr = short_lr(arm.recipe["optim"]["lr"])
    return (arm.name, lr, str(len(scores)), *map(percent, ends), lost)


def _others(trial: TrialResult) -> dict[str, Any]:
    return {name: value for name, value in trial.params.items() if name != "optim.lr"}


def _name(trial: TrialResult, result: Result) -> str:
    roles = {"baseline": 0, "winner": result.winner}
    words = [role for role, number in roles.items() if number == trial.number]
    return f"{trial.number} ({', '.join(words)})" if words else str(trial.number)


def reduction_of(result: Result) -> int | None:
    """Return how many trials at a rung one promotion takes; None where nothing was compared."""
    rule = (result.spec.get("search") or {}).get("scheduler") or {}
    return int(rule["reduction"]) if rule.get("kind") == "asha" else None


def _why(trial: TrialResult, reduction: int | None) -> str:
    """Return the last decision at each rung, with the place there and the number of trials."""
    last = {step.rung: step for step in trial.steps}
    return "; ".join(
        f"{s.decision} at epoch {s.rung} ({s.place} of {s.of}){_exception(trial, s, reduction)}"
        for s in last.values()
    )


def _exception(trial: TrialResult, step: RungStep, reduction: int | None) -> str:
    """Return why a trial was promoted that is not among the best third (of reduction 3)."""
    regular = reduction is None or step.place <= step.of // reduction
    if step.decision != "promoted" or regular:
        return ""
    return (
        ", as the baseline always is"
        if trial.number == FIXED
        else ", the best left at the search's end"
    )


def _fate(trial: TrialResult) -> str:
    if trial.state == "complete":
        return "complete"
    if trial.state == "pruned":
        return f"pruned after epoch {trial.epochs}"
    return f"{trial.state} in epoch {trial.epochs + 1}"


def plain(value: object) -> str:
    """Format a parameter's value, floats with three or four digits."""
    if not isinstance(value, float):
        return NONE if value is None else str(value)
    return short_lr(value) if 0 < abs(value) < 0.01 else f"{value:.4g}"


def percent_of(share: float) -> str:
    """Return a share in percent, two digits that count, never as a power: 0.36 %, 94 %, 99.6 %."""
    digits = 2 if share < 0.95 else 3 if share < 0.9995 else 5
    return f"{100 * share:.{digits}g} %"
