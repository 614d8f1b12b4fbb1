"""Compose the report page of a study."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..config.recipe import flatten
from ..results.lr_response import response
from ..results.study import Result
from . import evidence
from . import verdict as verdicts
from . import wording as tables
from .calibrated import calibrated_notes
from .costs import cost_line, costs
from .figures import comparison as arms
from .figures import maps, parameters
from .figures.retraining import RETRAINING
from .figures.search import CURVES, LR_RESPONSE
from .metrics import metrics, selected_by
from .page import Page, Part, Picture, Section, Tone
from .selection import Selection
from .table import Table
from .ties import tie_line
from .together import INTRODUCTION, ensemble_metrics, ensembles
from .warning import warnings
from .wording import NONE

RUNGS = (
    "A rung is an epoch at which trials are compared: one in {reduction} goes on (is promoted), the "
    "others pause. The table has the best validation score so far, {label}, and what was decided there "
    "last, with the trial's place among those that had come so far. Where no trial of full length is "
    "left besides the baseline, the best one of the highest rung is promoted at the search's end, "
    "however few there are."
)
PAIRS = Picture(
    arms.SEEDS,
    "Test mIoU of every seed, baseline and tuned, and the intervals of the relative improvement",
    "Above, the pair of every repeat; below, what the gain may be: an arrow is an interval that goes on. "
    "Trainings that collapsed or diverged far from the others are at the edge, with their score.",
)
CLASSES = Picture(arms.CLASSES, "Test IoU of every class, baseline and tuned")
MAPS = Picture(
    maps.NAME,
    "Test scenes with the largest gain and the largest loss: image, truth, baseline, tuned, difference",
    "The test scenes in which tuned gains most over the baseline, and least, in the mean over all "
    "seeds; mapped by the repeat whose difference is the median. A row has the "
    "difference of that repeat in points of mIoU, and the mean over all seeds.",
)
MAPS_OF_BASELINE = Picture(
    maps.NAME,
    "Test scenes that the baseline maps best and worst: image, truth, baseline",
    "The test scenes that the baseline maps best, and worst, in the mean over all seeds; mapped by "
    "the training with the median score. A row has the mIoU of that training, and the mean.",
)
WORDS = (
    "IQM: interquartile mean, of the middle half of the seeds. Lost: trainings that collapsed (one "
    "class everywhere) or diverged. An interval is unbounded where so few or so different seeds "
    "set no limit."
)
PARAMETERS: list[Part] = [
    Picture(
        parameters.IMPORTANCE,
        "Importance of every parameter",
        "Share of what decides whether a trial is among the best (PED-ANOVA), at the first epoch "
        "after which trials were pruned.",
    ),
    Picture(parameters.SLICES, "Validation mIoU against every parameter"),
    Picture(parameters.PARALLEL, "All parameters of every trial", "Every line is a trial."),
]
RETRAINED = (
    "The trainings that decide: dotted lines are the score of every epoch, solid ones the best so far, "
    "whose model is compared."
)
GRID = (
    "Time is the sum over trainings, not by the clock; that of the grid is estimated from the "
    "search's time per epoch."
)
NO_RUNGS = "Best validation score, {label}; nothing was pruned."


def page(result: Result, *, figures: Collection[str] = ()) -> Page:
    """Return the page: verdict, scores, figures, trials, rungs, costs, provenance.

    Args:
        result: Result of a finished study.
        figures: Names of the figures that were drawn.
    """
    tone: Tone = "none" if result.improvement is None else result.improvement.verdict
    drawn = [(title, _kept(parts, figures)) for title, parts in _sections(result)]
    sections = tuple(Section(title, tuple(parts)) for title, parts in drawn if parts)
    return Page(
        result.study, verdicts.verdict_line(result), tone, sections, tuple(warnings(result))
    )


def _kept(parts: list[Part], figures: Collection[str]) -> list[Part]:
    """Drop figures that were not drawn; a section of only text is dropped whole."""
    kept = [p for p in parts if not isinstance(p, Picture) or p.name in figures]
    return kept if any(not isinstance(part, str) for part in kept) else []


def _sections(result: Result) -> Iterator[tuple[str, list[Part]]]:
    """Yield the titles and parts of the page, without what the study lacks."""
    yield "Scores", _scores(result)
    if (together := ensembles(result)) is not None:
        yield "Ensembles", [INTRODUCTION, together, *ensemble_metrics(result)]
    if result.trials:
        yield "Learning rate", _learning_rate(result)
    yield "Parameters", PARAMETERS
    changed = _changes(result)
    if changed.rows:
        yield "Winning recipe", ["What it has other than the baseline:", changed]
    if result.trials:
        label = Selection.of(result).label
        notes = filter(None, (result.search_start, tie_line(result)))
        yield "Trials", [*notes, f"Validation: {label}.", tables.trials(result)]
        rule = RUNGS if tables.rung_epochs(result) else NO_RUNGS
        text = rule.format(label=label, reduction=tables.reduction_of(result))
        yield "Rungs", [text, tables.rungs(result)]
    yield "Learning curves", _curves(result)
    yield "Classes", [CLASSES, *([tables.class_scores(result)] if result.arms else [])]
    yield "Metrics", list(metrics(result))
    yield "Maps", [MAPS if tables.tuned_arm(result) else MAPS_OF_BASELINE]
    yield "Statistics", _evidence(result)
    yield "Costs", [cost_line(result), GRID, costs(result)]
    yield "Provenance", [_provenance(result)]


def _curves(result: Result) -> list[Part]:
    words = Selection.of(result).words
    return [
        Picture(RETRAINING, f"Validation {words} of the compared trainings by epoch", RETRAINED),
        Picture(CURVES, f"Validation {words} of the trials by epoch", "The search."),
    ]


def _scores(result: Result) -> list[Part]:
    if not result.arms:
        return []
    return [
        *selected_by(result),
        "Test mIoU in percent, seed by seed; differences in percentage points.",
        verdicts.verdict(result),
        PAIRS,
        "Every arm, means over its seeds:",
        tables.scores(result),
        WORDS,
        *calibrated_notes(result),
        *(verdicts.reuse_lines(result)),
    ]


def _evidence(result: Result) -> list[Part]:
    intervals = evidence.intervals(result)
    return [
        *evidence.evidence_notes(result),
        *([] if intervals is None else [intervals]),
        evidence.losses(result),
    ]


def _learning_rate(result: Result) -> list[Part]:
    curve = response(result)
    assert curve is not None, "there are trials"
    facts = {
        "recommended (trained)": curve.recommended_lr,
        "best trial of full length": curve.best_lr,
        "plateau from": curve.plateau_low,
        "plateau to": curve.plateau_high,
        "fixed (baseline)": curve.fixed_lr,
        "diverged from": curve.divergence_edge,
    }
    rows = [(name, NONE if lr is None else tables.short_lr(lr)) for name, lr in facts.items()]
    noise = "not known" if curve.noise is None else _spread(curve.noise, result)
    return [
        Picture(LR_RESPONSE, "Validation mIoU against learning rate"),
        Table.of(("learning rate", "value"), rows, left=1, strong=[0]),
        f"The plateau holds the trials of full length within twice the noise of the best; the "
        f"noise, between seeds of one recipe: {noise}.",
    ]


def _spread(noise: float, result: Result) -> str:
    unit = Selection.of(result).unit
    return f"{100 * noise:.2f} percentage points" if unit == "%" else f"{noise:.3g} {unit}"


def _changes(result: Result) -> Table:
    """Return what the winning recipe changes from the baseline; empty if nothing."""
    before, after = (
        dict(flatten(result.base_recipe)),
        dict(flatten(result.best_recipe)),
    )
    paths = [p for p in {**before, **after} if p != "seed" and before.get(p) != after.get(p)]
    rows = [(f"`{p}`", tables.plain(before.get(p)), tables.plain(after.get(p))) for p in paths]
    head = ("parameter", tables.BASELINE, tables.TUNED)
    return Table.of(head, rows, left=1)


def _provenance(result: Result) -> Table:
    """Return the provenance of the result: data, code, versions, machine."""
    data = {"dataset": result.dataset, "split": result.data_split, "data": result.data_fingerprints}
    facts = dict(flatten(data))
    facts["mlflow.experiment"] = result.mlflow_experiment
    facts["mlflow.run"] = result.mlflow_run_id
    facts["mlflow.pending"] = result.mlflow_pending or None
    facts |= flatten(result.provenance)
    rows = [(name, tables.plain(v)) for name, v in facts.items() if v is not None]
    return Table.of(("what", "value"), rows, left=2)
