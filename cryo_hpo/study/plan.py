"""Estimate the cost of a study in epochs and disk space before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..config.study import FEWEST_SIGNS
from ..report.table import align_columns
from ..search.rungs import Ladder
from ..stats import FEWEST
from ..training.build import freeze, segmenter

if TYPE_CHECKING:
    from ..config import Search, Site, Study

MOMENTS = 2  # values that AdamW keeps per trained parameter, besides the parameter
BYTES = 4  # float32
KEPT = 2  # checkpoints of a training: the newest, and the one before


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the expected size of a study.

    Attributes:
        trials: Configurations tried, the baseline included.
        rungs: (epoch, trials expected to reach it), full length last.
        epochs_expected: Epochs of the search if one trial in `reduction` continues at each rung.
        epochs_most: Epochs of the search if every trial trained to full length: a grid's cost.
        epochs_confirm: Epochs of the final trainings, all arms on all seeds; if they stop when
            decided, up to the first pair that can decide.
        epochs_confirm_most: Epochs of the final trainings at most.
        parameters: Parameters of one model.
        disk_gib: Size of all checkpoints, at most, GiB.
        seeds: Number of pairs of baseline and winner, at most.
        stops_when_decided: Whether the final trainings stop at the pair that decides.
    """

    trials: int
    rungs: tuple[tuple[int, int], ...]
    epochs_expected: int
    epochs_most: int
    epochs_confirm: int
    epochs_confirm_most: int
    parameters: int
    disk_gib: float
    seeds: int
    stops_when_decided: bool = False


def plan(study: Study, *, site: Site) -> Plan:
    """Return the size of a study; builds its model without weights, reads no data."""
    epochs = study.base.epochs
    trials = 0 if study.search is None else study.search.trials
    steps = () if study.search is None else rungs(study.search, epochs)
    arms = num_arms(study)
    with torch.device("meta"):
        model = segmenter(study.base, site=site, weights="scratch")
    freeze(study.base, model)
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    one, last = (n * BYTES / 2**30 for n in (parameters, parameters + MOMENTS * trained))
    seeds = len(study.comparison_seeds)
    runs = arms * seeds
    few = FEWEST_SIGNS if study.stops_when_decided else seeds
    return Plan(
        trials=trials,
        rungs=steps,
        epochs_expected=epochs_of(steps),
        epochs_most=trials * epochs,
        epochs_confirm=arms * few * epochs,
        epochs_confirm_most=runs * epochs,
        parameters=parameters,
        disk_gib=KEPT * trials * last + runs * (KEPT * last + one),
        seeds=seeds,
        stops_when_decided=study.stops_when_decided,
    )


def num_arms(study: Study) -> int:
    """Return the number of recipes compared in the end: base, named baselines, the tuned one."""
    return 1 + len(study.baselines) + (study.search is not None)


def rungs(search: Search, epochs: int) -> tuple[tuple[int, int], ...]:
    """Return (epoch, trials expected to reach it)."""
    rule = search.scheduler
    if rule.kind != "asha":
        return ((epochs, search.trials),)
    ladder = Ladder.of(grace_epochs=rule.grace_epochs, reduction=rule.reduction, epochs=epochs)
    steps, here = [], search.trials
    for rung in ladder.rungs:
        steps.append((rung, here))
        best = max(here // rule.reduction, 1)  # one candidate at least
        # the stop rule never ends the baseline, which is seldom among the best
        here = min(here, best + (rule.rule == "stop"))
    return (*steps, (epochs, here))


def epochs_of(steps: tuple[tuple[int, int], ...]) -> int:
    """Return the epochs trained if each step (epoch, trials) is reached by its trials."""
    total, below = 0, 0
    for epoch, trials in steps:
        total += (epoch - below) * trials
        below = epoch
    return total


def lines(plan: Plan) -> list[str]:
    """Return a plan as lines for a terminal."""
    rows = [
        (str(epoch), str(trials), str(after))
        for (epoch, trials), after in zip(
            plan.rungs, [*(t for _, t in plan.rungs), ""][1:], strict=True
        )
    ]
    total = plan.epochs_expected + plan.epochs_confirm
    return [
        *align_columns(("rung at epoch", "trials", "promoted"), rows).splitlines(),
        f"trials: {plan.trials}, the fixed-LR baseline included",
        f"epochs of the search: about {plan.epochs_expected}, at most {plan.epochs_most}",
        f"epochs of the paired retraining: {_confirm(plan)}",
        f"epochs in all: about {total}; a grid of full trainings: {plan.epochs_most} before any retraining",
        f"model: {plan.parameters:,} parameters; checkpoints: at most {plan.disk_gib:.2f} GiB",
        *seed_lines(plan.seeds),
    ]


def _confirm(plan: Plan) -> str:
    if not plan.stops_when_decided:
        return str(plan.epochs_confirm)
    return (
        f"{plan.epochs_confirm} if the first {FEWEST_SIGNS} pairs decide, at most "
        f"{plan.epochs_confirm_most} ({plan.seeds} pairs)"
    )


def seed_lines(seeds: int) -> list[str]:
    """Return the warning about a comparison on few seeds; empty from six on."""
    if seeds >= FEWEST_SIGNS:
        return []
    if seeds < FEWEST:
        return [
            f"seeds: {seeds} cannot decide, the verdict will be 'no clear difference'; give {FEWEST_SIGNS}"
        ]
    return [
        f"seeds: {seeds} decide under a normal approximation; from {FEWEST_SIGNS} on it is exact"
    ]
