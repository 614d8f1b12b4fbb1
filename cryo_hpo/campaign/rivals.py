"""Compare the cells of a campaign with its rivals: tuned against tuned, by seed, on the same data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..results.campaign import CellResult, RivalComparison, RivalSummary
from ..stats import FEWEST, Interval, Verdict, relative_improvement
from ..stats.pooled import mean_relative_improvement

if TYPE_CHECKING:
    from ..stats import Improvement

Pair = tuple[CellResult, CellResult]


def compare_with_rivals(
    cells: Sequence[CellResult],
    *,
    at_most: int | None = None,
    fingerprints: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[tuple[RivalComparison, ...], tuple[RivalSummary, ...]]:
    """Compare every cell with each rival on its dataset and label fraction.

    Args:
        cells: All cells of the campaign, the rivals among them.
        at_most: Limit of seeds, if each cell stopped as soon as it was decided; see
            `relative_improvement`.
        fingerprints: Study -> split -> hash of the files it saw; None: not compared.

    Returns:
        One comparison for each cell and rival; summaries of all rows and of each row.
    """
    pairs = list(_pairs(cells))
    prints = fingerprints or {}
    comparisons = [
        _compare(cell, rival, at_most, same=prints.get(cell.study) == prints.get(rival.study))
        for cell, rival in pairs
    ]
    compared = [
        (pair, comparison.improvement)
        for pair, comparison in zip(pairs, comparisons, strict=True)
        if comparison.improvement is not None
    ]
    return tuple(comparisons), tuple(_summaries(compared))


def _pairs(cells: Sequence[CellResult]) -> Iterator[Pair]:
    rivals = [cell for cell in cells if cell.is_rival]
    for cell in cells:
        for rival in rivals if not cell.is_rival else ():
            place = (rival.dataset, rival.label_fraction)
            if (cell.dataset, cell.label_fraction) == place:
                yield cell, rival


def _compare(
    cell: CellResult, rival: CellResult, at_most: int | None, *, same: bool
) -> RivalComparison:
    seeds = _shared_seeds(cell, rival)
    ours, theirs = _scores((cell, rival))
    comparable = same and bool(seeds)
    return RivalComparison(
        rival=rival.encoder,
        study=cell.study,
        rival_study=rival.study,
        row=cell.row,
        dataset=cell.dataset,
        seeds=seeds,
        improvement=relative_improvement(ours, theirs, at_most=at_most) if comparable else None,
    )


def _shared_seeds(cell: CellResult, rival: CellResult) -> tuple[int, ...]:
    return tuple(seed for seed in cell.seeds if seed in rival.seeds)


def _scores(pair: Pair) -> tuple[list[float], list[float]]:
    """Return the tuned scores of a cell and its rival on their shared seeds."""
    seeds = _shared_seeds(*pair)
    by_seed = [dict(zip(cell.seeds, cell.tuned, strict=True)) for cell in pair]
    ours, theirs = ([scores[seed] for seed in seeds] for scores in by_seed)
    return ours, theirs


def _summaries(compared: Sequence[tuple[Pair, Improvement]]) -> Iterator[RivalSummary]:
    for rival in dict.fromkeys(pair[1].encoder for pair, _ in compared):
        mine = [(pair, gain) for pair, gain in compared if pair[1].encoder == rival]
        rows = list(dict.fromkeys(pair[0].row for pair, _ in mine))
        if len(rows) > 1:
            yield _summary(rival, None, mine)
        for row in rows:
            yield _summary(rival, row, [(p, gain) for p, gain in mine if p[0].row == row])


def _summary(
    rival: str, row: str | None, compared: Sequence[tuple[Pair, Improvement]]
) -> RivalSummary:
    """Pool cells; those of one dataset share the rival's scores, so they are drawn together."""
    pairs, verdicts = [pair for pair, _ in compared], [gain.verdict for _, gain in compared]
    datasets = tuple(dict.fromkeys(cell.dataset for cell, _ in pairs))
    pooled = mean_relative_improvement(
        [_scores(pair) for pair in pairs], groups=[cell.dataset for cell, _ in pairs]
    ).relative_pct
    return RivalSummary(
        rival=rival,
        row=row,
        datasets=datasets,
        relative_pct=pooled,
        ahead=verdicts.count("improved"),
        not_shown=verdicts.count("not shown"),
        behind=verdicts.count("worse"),
        verdict=_verdict(pooled, verdicts, num_datasets=len(datasets)),
    )


def _verdict(pooled: Interval | None, verdicts: Sequence[Verdict], *, num_datasets: int) -> Verdict:
    """Return the answer of a summary; a bootstrap over fewer datasets keeps no level of 95 %."""
    if num_datasets < FEWEST:
        return verdicts[0] if len(set(verdicts)) == 1 else "not shown"
    if pooled is None:
        return "not shown"
    return "improved" if pooled.low > 0 else "worse" if pooled.high < 0 else "not shown"
