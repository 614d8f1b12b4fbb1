"""What the report of a study says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import tables
from ..result import Result
from ..sheets import Sheet
from .page import Page, Part, Picture, Section, Tone
from .search import CURVES, LR_RESPONSE

RUNGS = (
    "Best validation mIoU so far, in percent, where trials were compared; and what was decided "
    "there last, with the trial's place among those that had come so far."
)
NO_RUNGS = "Best validation mIoU in percent; nothing was stopped early."


def page(result: Result) -> Page:
    """Return the page: verdict, scores, figures, trials, rungs, costs, provenance."""
    tone: Tone = "none" if result.improvement is None else result.improvement.verdict
    sections = tuple(Section(title, tuple(parts)) for title, parts in _sections(result))
    return Page(result.study, tables.verdict_line(result), tone, sections)


def _sections(result: Result) -> Iterator[tuple[str, list[Part]]]:
    """Yield the titles and parts of the page; what a study does not have is left out."""
    yield "Scores", _scores(result)
    if result.trials:
        yield "Learning rate", [Picture(LR_RESPONSE, "Validation mIoU against learning rate")]
    changed = _changes(result)
    if changed.rows:
        yield "Winning recipe", ["What it has other than the baseline:", changed]
    if result.trials:
        yield "Trials", ["Validation mIoU in percent.", tables.trials(result)]
        yield "Rungs", [RUNGS if tables.rung_epochs(result) else NO_RUNGS, tables.rungs(result)]
    if any(trial.curve for trial in result.trials):
        yield "Learning curves", [Picture(CURVES, "Validation mIoU by epoch")]
    yield "Costs", [tables.costs(result)]
    yield "Provenance", [_provenance(result)]


def _scores(result: Result) -> list[Part]:
    return [
        "Test mIoU and IoU in percent, seed by seed; differences in percentage points.",
        tables.verdict(result),
        *tables.verdict_notes(result),
        "Every arm, means over its seeds:",
        tables.scores(result),
    ]


def _changes(result: Result) -> Sheet:
    """Return what the winning recipe has other than the baseline; empty if it is the same."""
    before, after = _flat(result.arm(tables.BASELINE).recipe), _flat(result.best_recipe)
    paths = [p for p in {**before, **after} if p != "seed" and before.get(p) != after.get(p)]
    rows = [(f"`{p}`", tables.plain(before.get(p)), tables.plain(after.get(p))) for p in paths]
    head = ("parameter", tables.BASELINE, tables.TUNED)
    return Sheet.of(head, rows, left=1)


def _provenance(result: Result) -> Sheet:
    """Return what the result was made of: data, code, versions, machine."""
    facts = _flat(
        {"dataset": result.dataset, "split": result.data_split, "data": result.data_fingerprints}
    )
    facts["mlflow.experiment"] = result.mlflow_experiment
    facts["mlflow.run"] = result.mlflow_run_id
    facts["mlflow.pending"] = result.mlflow_pending or None
    facts |= _flat(result.provenance)
    rows = [(name, tables.plain(v)) for name, v in facts.items() if v is not None]
    return Sheet.of(("what", "value"), rows, left=2)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found
