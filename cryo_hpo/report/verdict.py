"""Describe the verdict of a study: what repeats gained, relative to what, and against doing nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from ..results.study import Result, Reused, SeedResult
from ..results.weak_runs import is_below_constant, runs_below_constant, runs_of
from ..stats import Improvement
from .calibrated import calibrated_notes
from .costs import cost_line
from .evidence import evidence_notes
from .table import Table, markdown
from .ties import tie_line
from .together import ensemble_notes
from .unproven import unproven_line
from .warning import warnings
from .wording import (
    BASELINE,
    NONE,
    TUNED,
    VERDICTS,
    count_of,
    fixed_lr,
    format_limits,
    percent,
    short_lr,
    signed,
    tuned_arm,
)


class VerdictRow(NamedTuple):
    """Hold a line of the paired comparison, as text."""

    seed: str
    baseline: str
    tuned: str
    difference: str


def verdict_line(result: Result) -> str:
    """Return the verdict in sentences: repeats, relative improvement, the score of doing nothing."""
    if result.proof != "full":
        return " ".join([unproven_line(result), *_against_nothing(result)])
    opening = _opening(result) if result.improvement is None or tuned_arm(result) is None else ""
    if opening or result.improvement is None:
        return " ".join([opening, *_against_nothing(result)])
    return " ".join(
        [
            f"{_judgement(result, result.improvement)}: {_repeats(result, result.improvement)}",
            _relative(result.improvement),
            *_against_nothing(result),
        ]
    )


def _opening(result: Result) -> str:
    """Return the sentence of a study without a tuned arm."""
    fixed = f"the fixed learning rate {short_lr(fixed_lr(result))}"
    baseline = result.arm(BASELINE)
    repeats = count_of(len(baseline.seeds), "repeat")
    scored = (
        f"test mIoU {percent(baseline.mean_test_miou)} over {repeats} ({_seeds(baseline.seeds)})"
    )
    if result.winner is None:
        return f"No search, no comparison: {fixed} gives {scored}."
    if result.winner_is_baseline:
        return (
            f"{VERDICTS['not shown']}: no other trial ({len(result.trials) - 1} tried) beat {fixed} "
            f"on validation, so the winner is the baseline itself, {scored}."
        )
    return (
        f"{VERDICTS['not shown']}: trial {result.winner} won on validation and was not compared; "
        f"{fixed} gives {scored}."
    )


def _seeds(seeds: tuple[SeedResult, ...]) -> str:
    return "seed" if len(seeds) == 1 else "seeds"


def _judgement(result: Result, improvement: Improvement) -> str:
    """Return the verdict's word; it names a baseline that is no better than a constant map."""
    word = VERDICTS[improvement.verdict]
    constant = result.constant_map
    if constant is None or not is_below_constant(result.arm(BASELINE), result):
        return word
    link = "over" if improvement.verdict == "improved" else "to"
    link = "than" if improvement.verdict == "worse" else link
    return (
        f"{word} {link} a baseline that is no better than a constant map "
        f"({percent(constant.test_miou)})"
    )


def _repeats(result: Result, improvement: Improvement) -> str:
    """Return how many repeats gained, by how many points, and both means."""
    points = sorted(100 * difference for difference in improvement.differences)
    least, most = signed(points[0], 2), signed(points[-1], 2)
    reach = f"{least} points" if len(points) == 1 else f"{least} to {most} points"
    middle = f" (median {signed(median(points), 2)})" if len(points) > 1 else ""
    several = "repeat (seed)" if len(points) == 1 else "repeats (seeds)"
    verb = "gains" if improvement.num_gained == 1 else "gain"
    return (
        f"{improvement.num_gained} of {len(points)} {several} {verb} over the fixed learning rate "
        f"{short_lr(fixed_lr(result))}. Test mIoU changes by {reach}{middle}, from "
        f"{percent(improvement.baseline)} to {percent(improvement.tuned)} on average."
    )


def _relative(improvement: Improvement) -> str:
    means, typical = improvement.relative_pct, improvement.typical_pct
    if not math.isfinite(means.mid):
        return "Relative improvement: undefined, the baseline scored 0."
    if not math.isfinite(typical.mid):
        return f"Relative improvement of the means: {signed(means.mid)} %; half of the seeds or more began at 0."
    return (
        f"Relative improvement: {signed(means.mid)} % of the means; a typical repeat "
        f"{signed(typical.mid)} % {format_limits(typical)}."
    )


def gain_line(result: Result) -> str:
    """Return the relative gain of a typical repeat with its limits: +15.9 % [+15.6 to +16.1].

    Empty without a tuned recipe, or where the gain is undefined.
    """
    gain = None if result.improvement is None else result.improvement.typical_pct
    if gain is None or tuned_arm(result) is None or not math.isfinite(gain.mid):
        return ""
    limits = [signed(v) if math.isfinite(v) else "unbounded" for v in (gain.low, gain.high)]
    return f"{signed(gain.mid)} % [{' to '.join(limits)}]"


def _against_nothing(result: Result) -> Iterator[str]:
    """Yield the score of the best constant map, and how many runs do not exceed it."""
    if result.constant_map is None:
        return
    label, score = result.constant_map.label, percent(result.constant_map.test_miou)
    below, of = len(runs_below_constant(result)), len(runs_of(result))
    runs = "every run scores more" if not below else f"{below} of {of} runs score no more"
    yield f"Doing nothing ('{label}' everywhere) scores {score} on the same pixels; {runs}."


def verdict_rows(result: Result) -> list[VerdictRow]:
    """Return the test scores of the two arms seed by seed, and their means."""
    baseline, tuned = result.arm(BASELINE), tuned_arm(result)
    by_seed = {} if tuned is None else {seed.seed: seed for seed in tuned.seeds}
    rows = [_row(seed, by_seed.get(seed.seed)) for seed in baseline.seeds]
    b, t = baseline.mean_test_miou, None if tuned is None else tuned.mean_test_miou
    return [*rows, VerdictRow("mean", percent(b), percent(t), _gain(b, t))]


def _row(baseline: SeedResult, tuned: SeedResult | None) -> VerdictRow:
    gain = _gain(baseline.test_miou, tuned.test_miou if tuned else None)
    return VerdictRow(str(baseline.seed), _score(baseline), _score(tuned), gain)


def verdict(result: Result) -> Table:
    """Return the paired comparison, seed by seed and as means."""
    rows = verdict_rows(result)
    if tuned_arm(result) is None:
        return Table.of(("seed", BASELINE), [row[:2] for row in rows], strong=[-1])
    return Table.of(("seed", BASELINE, TUNED, "difference"), rows, strong=[-1])


def verdict_lines(result: Result) -> list[str]:
    """Return the warnings and below them the verdict, one paragraph each."""
    return [*(f"Warning: {text}" for text in warnings(result)), verdict_line(result)]


def verdict_text(result: Result) -> str:
    """Return warnings, verdict, paired comparison, statistics and costs, for a terminal."""
    notes = "\n".join(evidence_notes(result))
    pairs = markdown(verdict(result)) if result.arms else ""
    together, reused = "\n".join(ensemble_notes(result)), "\n".join(reuse_lines(result))
    default = "\n".join(calibrated_notes(result))
    about = [default, together, notes, tie_line(result), reused, cost_line(result)]
    parts = [*verdict_lines(result), pairs, *about]
    return "\n\n".join(filter(None, parts))


def reuse_lines(result: Result) -> list[str]:
    """Return a line for each training of the comparison that was reused, whole or in part."""
    return [
        f"{run.arm.name}, seed {run.seed.seed}: {_origin(source, run.seed.epochs, result)}."
        for run in runs_of(result)
        if (source := run.seed.reused) is not None
    ]


def _origin(source: Reused, epochs: int, result: Result) -> str:
    part = "" if source.epochs >= epochs else f"its first {source.epochs} epochs "
    where = "this study's search" if source.study == result.study else f"study '{source.study}'"
    return f"{part}reused from {where} ({source.training}), trained on {source.date}"


def _score(seed: SeedResult | None) -> str:
    if seed is None:
        return NONE
    flags = {"diverged": seed.diverged, "one class": seed.collapsed}
    faults = ", ".join(word for word, is_so in flags.items() if is_so)
    return f"{percent(seed.test_miou)} ({faults})" if faults else percent(seed.test_miou)


def _gain(baseline: float, tuned: float | None) -> str:
    return NONE if tuned is None else signed(100 * (tuned - baseline), 2)
