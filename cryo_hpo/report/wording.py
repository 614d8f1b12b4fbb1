"""Describe a finished study in sentences and tables: plain text, Markdown and CSV.

Scores are mIoU in percent with two digits, differences in percentage points, relative improvement
in percent with a sign and one digit. Only the CSV has full precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import stats
from ..config.recipe import short_lr as short_lr
from ..results.study import ArmResult, ImprovementResult, Result, SeedResult, TrialResult
from ..search.rungs import Ladder
from .table import Table, csv_text, markdown

BASELINE, TUNED = "baseline", "tuned"  # the two arms of every verdict
NONE = "-"
GAINS = (1, 2, 5, 10)  # percent, for which the notes state the number of seeds needed
ONE_CLASS = "collapsed: predicts one class"


class VerdictRow(NamedTuple):
    """A line of the paired comparison, as text."""

    seed: str
    baseline: str
    tuned: str
    difference: str


def percent(fraction: float | None) -> str:
    """Return a score in percent with two digits."""
    return NONE if fraction is None or math.isnan(fraction) else f"{100 * fraction:.2f}"


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign; what rounds to zero is +0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


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
    return float(result.arm(BASELINE).recipe["optim"]["lr"])


def verdict_line(result: Result) -> str:
    """Return the outcome of a study as one sentence."""
    fixed = f"the fixed learning rate {short_lr(fixed_lr(result))}"
    baseline = result.arm(BASELINE)
    scored = (
        f"test mIoU {percent(baseline.mean_test_miou)} over {_count(len(baseline.seeds), 'seed')}"
    )
    if result.winner is None:
        return f"No search, no comparison: {fixed} gives {scored}."
    if result.winner_is_baseline:
        return (
            f"No other trial ({len(result.trials) - 1} tried) beat {fixed} on validation: "
            f"the winner is the baseline itself, {scored}; improvement not shown."
        )
    found = result.improvement
    if found is None:
        return (
            f"Trial {result.winner} won on validation; on test, {fixed} gives {scored}: not shown."
        )
    opening = {
        "improved": f"Tuned beats {fixed}",
        "not shown": f"Tuned is not shown to beat {fixed}",
        "worse": f"Tuned falls behind {fixed}",
    }[found.verdict]
    return (
        f"{opening}: test mIoU {percent(found.tuned)} against {percent(found.baseline)}, "
        f"{_relative(found)}{_typical(found)}, "
        f"{_count(found.num_pairs, 'paired seed')}: {found.verdict}."
    )


def verdict_rows(result: Result) -> list[VerdictRow]:
    """Return the test scores of the two arms seed by seed, and their means."""
    baseline = result.arm(BASELINE)
    tuned = _tuned(result)
    of_tuned = {} if tuned is None else {s.seed: s for s in tuned.seeds}
    rows = [
        VerdictRow(
            str(one.seed),
            _score(one),
            _score(other),
            _gain(one.test_miou, other.test_miou if other else None),
        )
        for one in baseline.seeds
        for other in [of_tuned.get(one.seed)]
    ]
    b, t = baseline.mean_test_miou, None if tuned is None else tuned.mean_test_miou
    return [*rows, VerdictRow("mean", percent(b), percent(t), _gain(b, t))]


def verdict(result: Result) -> Table:
    """Return the paired comparison, seed by seed and as means."""
    rows = verdict_rows(result)
    if _tuned(result) is None:
        return Table.of(("seed", BASELINE), [row[:2] for row in rows], strong=[-1])
    return Table.of(("seed", BASELINE, TUNED, "difference"), rows, strong=[-1])


def verdict_notes(result: Result) -> list[str]:
    """Return the notes below the paired comparison: interval, verdict, p value."""
    found = result.improvement
    if found is None or _tuned(result) is None:
        return []
    # 2 of 2^n sign patterns are at least as extreme as a sample of one sign.
    least = 2.0 ** (1 - found.num_pairs)
    few = f"; {_count(found.num_pairs, 'pair')} cannot give less than {least:.4f}"
    sign = "" if found.sign_p_value is None else f", sign test: p = {found.sign_p_value:.4f}"
    return [
        f"Difference of the means: {_relative(found)}{_typical(found)}. Verdict: {found.verdict}.",
        f"Paired sign-flip test: p = {found.p_value:.4f}{sign}"
        f"{few if least > 1 - found.level else ''}.",
        *_too_few(found),
        *_seeds_needed(found),
    ]


def _too_few(found: ImprovementResult) -> list[str]:
    if found.num_pairs >= stats.FEWEST or found.verdict != "not shown":  # results of older rules
        return []
    return [
        f"{_count(found.num_pairs, 'seed')} cannot decide: an interval needs {stats.FEWEST}, an "
        "exact one six. Run a study of a new name with more `seeds`."
    ]


def _seeds_needed(found: ImprovementResult) -> list[str]:
    """Return how many seeds would show gains of several sizes, at the observed spread."""
    if not found.spread_pct:
        return []
    needed = {gain: stats.seeds_needed(gain, found.spread_pct) for gain in GAINS}
    said = ", ".join(
        f"{gain} %: {f'more than {stats.MOST}' if seeds is None else seeds}"
        for gain, seeds in needed.items()
    )
    return [
        f"Seeds it takes to show a gain with a chance of 80 %, at the spread seen here "
        f"({found.spread_pct:.1f} percentage points), for {said}."
    ]


def intervals(result: Result) -> Table | None:
    """Return every interval of the relative improvement; None without a comparison."""
    found = result.improvement
    if found is None or _tuned(result) is None:
        return None
    means = found.relative_pct
    rows = [
        ("typical seed (median); decides", found.typical_pct,
         found.typical_low_pct, found.typical_high_pct),
        ("means, Fieller", means, found.low_pct, found.high_pct),
        ("means, BCa over seeds", means, found.bca_low_pct, found.bca_high_pct),
        ("means, BCa over seeds and scenes", means, found.scenes_low_pct, found.scenes_high_pct),
    ]  # fmt: skip
    head = ("relative improvement in percent", "estimate", "low", "high")
    shown = [(name, *(NONE if v is None else signed(v) for v in row)) for name, *row in rows]
    return Table.of(head, shown, left=1, strong=[0])


def verdict_table(result: Result) -> str:
    """Return the verdict sentence and the paired comparison, for a terminal or a note."""
    parts = [verdict_line(result), markdown(verdict(result)), "\n".join(verdict_notes(result))]
    return "\n\n".join(filter(None, parts))


def scores(result: Result) -> Table:
    """Return every arm's test mIoU and IoU per class, means over its seeds."""
    fixed = ("arm", "LR", "seeds", "test mIoU", "IQM", "median", "lowest", "highest", "lost")
    head = (*fixed, *result.classes)
    rows = [_arm_row(arm, result.classes) for arm in result.arms]
    return Table.of(head, rows, left=1)


def losses(result: Result) -> str:
    """Return how often each arm collapsed or diverged, with exact intervals."""
    said = []
    for arm in result.arms:
        lost = sum(seed.collapsed or seed.diverged for seed in arm.seeds)
        of = stats.share(lost, len(arm.seeds))
        said.append(f"{arm.name} {lost} of {of.of} [{100 * of.low:.0f} to {100 * of.high:.0f} %]")
    return f"Trainings that collapsed or diverged, with exact 95 % intervals: {'; '.join(said)}."


def trials(result: Result) -> Table:
    """Return the table of trials: parameters, epochs, scores, and why each ended."""
    more = any(_others(trial) for trial in result.trials)
    head = ("trial", "LR", "epochs", "best val mIoU", "state", "why", "other parameters")
    rows = [
        (
            _name(trial, result),
            f"{trial.lr:.1e}",
            str(trial.epochs),
            percent(trial.best_val_miou),
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
    epochs = (*rung_epochs(result), full_length(result))
    head = ("trial", *(f"epoch {epoch}" for epoch in epochs), "fate", "why")
    rows = [
        (
            _name(trial, result),
            *(percent(trial.curve.get(epoch)) for epoch in epochs),
            _fate(trial),
            _why(trial),
        )
        for trial in result.trials
    ]
    return Table.of(head, rows, left=1, right=len(epochs))


def costs(result: Result) -> Table:
    """Return the cost of the study beside that of a grid of full trainings of the same points."""
    spent = result.costs
    grid = spent.epochs_full_grid
    saved = f"{100 * (1 - spent.epochs_search / grid):.1f} %" if grid else NONE
    seconds = spent.seconds_search + spent.seconds_confirm
    waiting = f" ({100 * spent.seconds_data / seconds:.1f} %)" if seconds else ""
    rows = [
        ("search", str(spent.epochs_search), duration(spent.seconds_search)),
        ("confirmation on seeds", str(spent.epochs_confirm), duration(spent.seconds_confirm)),
        ("together", str(spent.epochs_search + spent.epochs_confirm), duration(seconds)),
        ("of which waiting for data", "", duration(spent.seconds_data) + waiting),
        ("search as a full grid", str(grid) if grid else NONE, ""),
        ("saved by early stopping", saved, ""),
        ("energy", "", "not measured"),
    ]
    return Table.of(("", "epochs", "training time"), rows, left=1)


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


def _relative(found: ImprovementResult) -> str:
    if found.relative_pct is None:
        return "relative improvement undefined"  # the baseline's mean is 0
    point = f"{signed(found.relative_pct)} % relative"
    return f"{point} {_bounds((found.low_pct, found.high_pct), found.level)}"


def _typical(found: ImprovementResult) -> str:
    """Return the gain of a typical seed, which decides; empty in results before that rule."""
    if found.typical_pct is None:
        return ""
    ends = (found.typical_low_pct, found.typical_high_pct)
    return f"; a typical seed gains {signed(found.typical_pct)} % {_bounds(ends, found.level)}"


def _bounds(ends: tuple[float | None, float | None], level: float) -> str:
    name = f"{100 * level:g} % interval"
    if ends == (None, None):
        return f"[{name} unbounded]"
    low, high = ("unbounded" if end is None else signed(end) for end in ends)
    return f"[{name} {low} to {high}]"


def _tuned(result: Result) -> ArmResult | None:
    return next((arm for arm in result.arms if arm.name == TUNED), None)


def _score(seed: SeedResult | None) -> str:
    if seed is None:
        return NONE
    flags = {"diverged": seed.diverged, "one class": seed.collapsed}
    faults = ", ".join(word for word, is_so in flags.items() if is_so)
    return f"{percent(seed.test_miou)} ({faults})" if faults else percent(seed.test_miou)


def _gain(baseline: float, tuned: float | None) -> str:
    return NONE if tuned is None else signed(100 * (tuned - baseline), 2)


def _arm_row(arm: ArmResult, classes: Sequence[str]) -> tuple[str, ...]:
    scores = [seed.test_miou for seed in arm.seeds]
    of = stats.summary(scores)
    ends = (arm.mean_test_miou, of.iqm, of.median, min(scores), max(scores))
    lost = f"{sum(s.collapsed or s.diverged for s in arm.seeds)} of {len(scores)}"
    per_class = [[seed.test_iou.get(name) for seed in arm.seeds] for name in classes]
    means = [_mean([iou for iou in column if iou is not None]) for column in per_class]
    lr = short_lr(arm.recipe["optim"]["lr"])
    return (arm.name, lr, str(len(scores)), *map(percent, ends), lost, *map(percent, means))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _others(trial: TrialResult) -> dict[str, Any]:
    return {name: value for name, value in trial.params.items() if name != "optim.lr"}


def _name(trial: TrialResult, result: Result) -> str:
    roles = {"baseline": 0, "winner": result.winner}
    words = [role for role, number in roles.items() if number == trial.number]
    return f"{trial.number} ({', '.join(words)})" if words else str(trial.number)


def _why(trial: TrialResult) -> str:
    """Return the last decision at each rung, with the place there and the number of trials."""
    last = {step.rung: step for step in trial.steps}
    return "; ".join(f"{s.decision} at epoch {s.rung} ({s.place} of {s.of})" for s in last.values())


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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
