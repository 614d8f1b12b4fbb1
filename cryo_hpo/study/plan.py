"""Estimate the cost of a study in epochs and disk space before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..config import Asha
from ..config.seeds import FEWEST_SIGNS
from ..config.start import kind_of
from ..report.table import align_columns
from ..search.budget import count_epochs, expect_rungs, limit_of, most_trials
from ..search.calibrated import calibrated_of
from ..search.frontier import expect_gap
from ..search.portfolio import KNOWN_POINTS
from ..stats import FEWEST
from ..training.build import segmenter
from ..training.checkpoint_size import count_bytes
from .start_words import start_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Recipe, Site, Study
    from ..config.seeds import Proof


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the expected size of a study.

    Attributes:
        trials: Configurations tried, the baseline included; as expected if the search has a budget.
        rungs: (epoch, trials expected to reach it), full length last.
        epochs_expected: Epochs of the search if one trial in `reduction` continues at each rung.
        epochs_most: Epochs of the search if every trial trained to full length: a grid's cost.
        epochs_budget: Epochs of the search at most, if it has a budget.
        epochs_confirm: Epochs of the final trainings, all arms on all seeds; if they stop when
            decided, up to the first pair that can decide.
        epochs_confirm_most: Epochs of the final trainings at most.
        parameters: Parameters of one model.
        disk_gib: Size of all checkpoints, at most, GiB.
        seeds: Number of pairs of baseline and winner, at most.
        stops_when_decided: Whether the final trainings stop at the pair that decides.
        proof: Final comparison; under quick the pair on the search's own seed.
        gap: Points below an exhaustive search that recorded searches of this length ended, in
            words; empty if none compares.
        epochs_known: Epochs of a search whose known points hold; None: it starts evenly, or goes on.
        start: Where a search starts that goes on after a calibrated default, in words; else empty.
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
    proof: Proof = "full"
    epochs_budget: int | None = None
    gap: str = ""
    epochs_known: int | None = None
    start: str = ""


def plan(study: Study, *, site: Site) -> Plan:
    """Return the size of a study; builds its model without weights, reads no data."""
    epochs, whole = study.base.epochs, calibrated_of(study).whole
    steps = () if study.search is None else expect_rungs(study.search, epochs, whole=whole)
    trials = steps[0][1] if steps else 0
    most = 0 if study.search is None else most_trials(study.search, epochs)
    budget = None if study.search is None else study.search.budget
    arms = num_arms(study)
    with torch.device("meta"):
        model = segmenter(study.base, site=site, weights="scratch")
    parameters = sum(p.numel() for p in model.parameters())
    recipes = [study.base, *(study.base.replace(over) for over in study.given_baselines.values())]
    size = max(count_bytes(recipe, model).most for recipe in _by_optimizer(recipes))
    seeds = len(study.comparison_seeds)
    runs = arms * seeds
    few = FEWEST_SIGNS if study.stops_when_decided else seeds
    lacking = epochs_lacking(study) if study.proof == "quick" else None
    return Plan(
        trials=trials,
        rungs=steps,
        epochs_expected=count_epochs(steps),
        epochs_budget=None if budget is None else limit_of(budget, epochs),
        epochs_most=trials * epochs,
        epochs_confirm=arms * few * epochs if lacking is None else lacking,
        epochs_confirm_most=runs * epochs if lacking is None else lacking,
        parameters=parameters,
        disk_gib=(most + runs) * size / 2**30,
        seeds=seeds,
        stops_when_decided=study.stops_when_decided,
        proof=study.proof,
        gap="" if study.search is None else expect_gap(study.search),
        epochs_known=epochs_known(study),
        start="".join(start_lines(study)),
    )


def _by_optimizer(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Return the first recipe, and it with every other optimizer and average of the others."""
    base = recipes[0]
    return [
        base.model_copy(update={"optim": optim})
        for optim in dict.fromkeys(recipe.optim for recipe in recipes)
    ]


def num_arms(study: Study) -> int:
    """Return the number of recipes compared in the end: base, named baselines, the tuned one."""
    return 1 + len(study.baselines) + (study.search is not None)


def epochs_lacking(study: Study) -> int:
    """Return the epochs that a pair on the search's own seed lacks, at most.

    The winner is complete, and the baseline has reached the first rung or, where no trial pauses,
    full length; named baselines are trained.
    """
    epochs = study.base.epochs
    return epochs - first_stop(study) + len(study.baselines) * epochs


def first_stop(study: Study) -> int:
    """Return the epoch at which a trial pauses or is complete, at the earliest."""
    epochs, rule = study.base.epochs, None if study.search is None else study.search.scheduler
    pauses = isinstance(rule, Asha) and rule.rule == "promote"
    return min(rule.grace_epochs, epochs) if pauses and isinstance(rule, Asha) else epochs


def epochs_known(study: Study) -> int | None:
    """Return the epochs of a search whose known points hold; None: it starts evenly, or goes on."""
    if study.search is None or kind_of(study.search.start) != "known":
        return None
    return first_stop(study) + KNOWN_POINTS * study.base.epochs


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
        *align_columns(("compared at epoch (rung)", "trials", "that go on"), rows).splitlines(),
        f"trials: {_trials(plan)}, the fixed-LR baseline included",
        f"epochs of the search: about {plan.epochs_expected}, at most {plan.epochs_budget or plan.epochs_most}",
        *known_lines(plan.epochs_known),
        *filter(None, [plan.start]),
        *gap_lines(plan.gap),
        f"epochs of the paired retraining: {_confirm(plan)}",
        f"epochs in all: about {total}; a grid of full trainings: {plan.epochs_most} before any retraining",
        f"model: {plan.parameters:,} parameters; checkpoints: at most {plan.disk_gib:.2f} GiB",
        *(seed_lines(plan.seeds) if plan.proof == "full" else proof_lines(plan.proof)),
    ]


def known_lines(epochs: int | None) -> list[str]:
    """Return what a start at known points costs where it holds; empty for an even start."""
    if epochs is None:
        return []
    return [
        f"start at known points: if they hold, the search ends after {epochs} epochs; the figures above "
        "are those of a search that starts evenly, or widens because they do not hold"
    ]


def gap_lines(gap: str) -> list[str]:
    """Return the gap to expect of a search; empty if no recorded one compares."""
    if not gap:
        return []
    return [
        f"expected gap: {gap} points of test mIoU below the rate that an exhaustive search names; the "
        "mean of recorded searches of this length (small scenes, 27 epochs, the learning rate alone; "
        "docs/search-benchmark.md), not a promise for these data"
    ]


def proof_lines(proof: Proof) -> list[str]:
    """Return what a study without a full proof does not show; empty for `full`."""
    return {
        "none": [
            "proof: none ends the study after its search; the verdict will be 'unproven', `seeds` "
            "and `baselines` are not trained"
        ],
        "quick": [
            "proof: quick trains one repeat on the search's own seed, which flatters the winner; the "
            "verdict will be 'unproven', `seeds` are not trained"
        ],
        "full": [],
    }[proof]


def _trials(plan: Plan) -> str:
    return str(plan.trials) if plan.epochs_budget is None else f"about {plan.trials}"


def _confirm(plan: Plan) -> str:
    if plan.proof == "quick":
        return f"at most {plan.epochs_confirm_most} (what the search has trained is reused)"
    if not plan.stops_when_decided:
        return str(plan.epochs_confirm)
    return (
        f"{plan.epochs_confirm} if the first {FEWEST_SIGNS} repeats decide, at most "
        f"{plan.epochs_confirm_most} ({plan.seeds} repeats)"
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
