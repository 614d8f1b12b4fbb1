"""Warn above a verdict of runs that beat no constant map, diverged, did not learn or were rising."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..results.model_card import ModelCard
from ..results.study import ConstantMap, Result
from ..results.weak_runs import (
    Run,
    runs_above_even_guess,
    runs_below_constant,
    runs_of,
    runs_still_rising,
    runs_that_diverged,
)
from .wording import percent, signed

NOT_LEARNED = (
    "did not learn: the training loss ended no lower than an even guess between the classes. Search "
    "a wider range of learning rates, or train longer (`base.epochs`)."
)
RISING = (
    "had not converged: the best validation mIoU still rose by a point or more in the last tenth of "
    "the epochs."
)


def warnings(result: Result) -> list[str]:
    """Return the warnings of a study's verdict; each counts and names its runs."""
    return list(_warnings(result))


def _warnings(result: Result) -> Iterator[str]:
    if (below := runs_below_constant(result)) and result.constant_map is not None:
        fact = f"{_doing_nothing(result.constant_map)} on the same test pixels."
        yield _warning(result, below, fact, lambda run: percent(run.seed.test_miou))
    if diverged := runs_that_diverged(result):
        yield _warning(result, diverged, "diverged before the end.", _divergence)
    if above := runs_above_even_guess(result):
        yield _warning(result, above, NOT_LEARNED, _losses)
    if rising := runs_still_rising(result):
        fact = f"{RISING} Longer training (`base.epochs`) may change the verdict."
        yield _warning(result, rising, fact, lambda run: signed(_points(run.seed.late_gain), 2))


def training_warnings(result: Result, arm: str, seed: int) -> tuple[str, ...]:
    """Return what weakens the scores of one training; each continues "This training".

    Args:
        result: A finished study.
        arm: Name of the arm.
        seed: Seed of the training.
    """
    kinds = (
        (runs_below_constant, _no_gain(result.constant_map)),
        (runs_that_diverged, "diverged before the end of its training."),
        (runs_above_even_guess, NOT_LEARNED),
        (runs_still_rising, f"{RISING} Longer training (`base.epochs`) may change its maps."),
    )
    return tuple(
        text
        for find, text in kinds
        if any(run.arm.name == arm and run.seed.seed == seed for run in find(result))
    )


def model_warnings(cards: Sequence[ModelCard]) -> list[str]:
    """Return the warnings of models that map together; each names the seeds that it is about."""
    by_text: dict[str, list[str]] = {}
    for card in cards:
        for text in card.warnings:
            score = f"test mIoU {percent(card.test_miou)}"
            by_text.setdefault(text, []).append(f"{card.seed} ({score})")
    return [
        f"'{cards[0].arm}' of study '{cards[0].study}', seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(seeds)}, {text}"
        for text, seeds in by_text.items()
    ]


def _no_gain(constant: ConstantMap | None) -> str:
    if constant is None:
        return ""
    return (
        f"{_doing_nothing(constant)}. Before its maps are used, search a wider range of learning "
        "rates or train longer (`base.epochs`)."
    )


def _doing_nothing(constant: ConstantMap) -> str:
    return (
        f"scored no more than doing nothing: a map of '{constant.label}' everywhere has "
        f"{percent(constant.test_miou)}"
    )


def _warning(result: Result, runs: Sequence[Run], fact: str, value: Callable[[Run], str]) -> str:
    """Return a warning: how many runs, the fact, and every arm's seeds with their values."""
    by_arm: dict[str, list[str]] = {}
    for run in runs:
        by_arm.setdefault(run.arm.name, []).append(f"{run.seed.seed} ({value(run)})")
    names = "; ".join(
        f"{arm} seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" for arm, seeds in by_arm.items()
    )
    pronoun = "This is" if len(runs) == 1 else "These are"
    return f"{len(runs)} of {len(runs_of(result))} runs {fact} {pronoun} {names}."


def _divergence(run: Run) -> str:
    return f"in epoch {run.seed.epochs + 1} of {run.arm.recipe['epochs']}"


def _losses(run: Run) -> str:
    return f"loss {run.seed.train_loss:.3g}, even guess {run.arm.even_guess_loss:.3g}"


def _points(gain: float | None) -> float:
    return 100 * (gain or 0.0)
