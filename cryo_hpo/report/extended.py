"""Describe how a study was extended after it had a result, and what the second look costs."""

from __future__ import annotations

from collections.abc import Iterator

from ..results.extensions import Extension
from ..results.study import Result
from .wording import count_of

LOOKED_TWICE = (
    "The additions were made after scores of the test split had been seen. The interval and the p "
    "values hold for a comparison that was fixed beforehand; a second look gives a study without a "
    "true gain a second chance to show one, so its chance of a false verdict is above 5 %. A study "
    "with `seeds: {at_most: N}` keeps its level at any number of looks."
)
ANY_LOOKS = (
    "The rule of this comparison keeps its level however often its repeats are looked at, so more "
    "repeats cost nothing."
)
NEW_RECIPE = (
    "That holds for the repeats of one recipe; the winner has changed, so it does not here."
)


def extension_notes(result: Result) -> list[str]:
    """Return what was added to a study, when, and what that means for its verdict."""
    return list(_notes(result))


def _notes(result: Result) -> Iterator[str]:
    changed = False
    winners = [*(e.former_winner for e in result.extensions[1:]), result.winner]
    for extension, winner in zip(result.extensions, winners, strict=False):
        yield _addition(extension)
        if extension.trials:
            yield _winner(extension, winner)
            changed = changed or winner != extension.former_winner
    if not result.extensions:
        return
    sequential = result.improvement is not None and result.improvement.stopped is not None
    looked_twice = changed or any(e.seeds and not e.proof for e in result.extensions)
    if sequential:
        yield f"{ANY_LOOKS} {NEW_RECIPE}" if changed else ANY_LOOKS
    elif looked_twice:
        yield LOOKED_TWICE


def _addition(extension: Extension) -> str:
    parts = [
        f"the seeds {', '.join(map(str, extension.seeds))}" if extension.seeds else "",
        f"{count_of(extension.trials, 'trial')} of the search" if extension.trials else "",
        "a full comparison" if extension.proof else "",
        "" if extension.at_most is None else f"a limit of {extension.at_most} repeats",
    ]
    verdict = "" if extension.former_verdict is None else f"'{extension.former_verdict}', "
    return (
        f"Extended on {extension.date} by {' and '.join(filter(None, parts))}, after an earlier "
        f"result ({verdict}kept in `{extension.kept}`)."
    )


def _winner(extension: Extension, winner: int | None) -> str:
    if winner == extension.former_winner:
        return (
            f"The winner is still trial {winner}: no training of it was repeated, and none that had "
            "been scored on the test split was scored again."
        )
    return (
        f"The winner changed from trial {extension.former_winner} to trial {winner}, which was "
        "retrained on all seeds; the test split was opened again for these trainings only."
    )
