"""Describe what a search ended with where no proof followed: what was not shown, and why."""

from __future__ import annotations

from ..results.study import Result, TrialResult
from .wording import BASELINE, fixed_lr, percent, short_lr, signed, tuned_arm

# Measured on recorded tables: how much the validation score that chose a winner, and a pair on the
# same seed, exceed its gain on fresh seeds; measured in docs/search.md.
CURSE_POINTS = 1.5


def unproven_line(result: Result) -> str:
    """Return the verdict of a study with `proof: none` or `quick`, in sentences."""
    if result.winner_is_baseline:
        return f"Unproven: {_kept_baseline(result)}"
    return f"Unproven: {_pair(result) if result.proof == 'quick' else _search_only(result)}"


def _kept_baseline(result: Result) -> str:
    others = len(result.trials) - 1
    end = "nothing was scored on the test split"
    if result.arms:
        end = f"scored once on test: {percent(result.arm(BASELINE).mean_test_miou)}"
    return (
        f"no other trial ({others} tried) beat the fixed learning rate {short_lr(fixed_lr(result))} "
        f"on validation, so the winner is the baseline itself; {end} (proof: {result.proof})."
    )


def _search_only(result: Result) -> str:
    trials = {trial.number: trial for trial in result.trials}
    won, base = trials[result.winner or 0], trials.get(0)
    against = "" if base is None else f"; the fixed learning rate {_reached(base, result)}"
    return (
        f"trial {won.number} won the search with learning rate {short_lr(won.lr)} and a validation "
        f"mIoU of {percent(won.best_val_miou)}{against}. That it is better is not shown: the winner "
        "is the best of the search on its own validation scores, no repeat was trained on fresh "
        "seeds, and nothing was scored on the test split (proof: none)."
    )


def _reached(base: TrialResult, result: Result) -> str:
    length = int(result.spec["base"]["epochs"])
    place = "" if base.epochs >= length else f" by epoch {base.epochs} of {length}"
    return f"{short_lr(base.lr)} reached {percent(base.best_val_miou)}{place}"


def _pair(result: Result) -> str:
    tuned, baseline = tuned_arm(result), result.arm(BASELINE)
    assert tuned is not None, "a winner that is not the baseline is an arm"
    before, after = baseline.mean_test_miou, tuned.mean_test_miou
    return (
        f"one repeat on the search's own seed ({tuned.seeds[0].seed}). Test mIoU is "
        f"{percent(before)} with the fixed learning rate {short_lr(fixed_lr(result))} and "
        f"{percent(after)} with {short_lr(tuned.recipe['optim']['lr'])}, "
        f"{signed(100 * (after - before), 2)} points. The winner was chosen on this seed, which "
        f"flatters it: the measured winner's curse is {signed(CURSE_POINTS)} points on our tables. "
        "One repeat decides nothing; no improvement is claimed (proof: quick)."
    )
