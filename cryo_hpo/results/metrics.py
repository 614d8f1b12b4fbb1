"""Compare the metrics of baseline and tuned on the test split, paired by seed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..stats.difference import mean_difference
from ..stats.intervals import Interval
from .study import ArmResult, Result

PAIR = ("baseline", "tuned")


class MetricRow(NamedTuple):
    """Hold one metric of the test split: means over the seeds that both arms have a value of."""

    name: str
    baseline: float
    tuned: float | None
    """None: there is no tuned arm."""
    difference: Interval | None
    """Tuned minus baseline; None: there is no tuned arm."""
    seeds: int
    """Number of seeds in the means."""
    of: int
    """Number of seeds of the comparison."""


def compare_metrics(result: Result) -> list[MetricRow]:
    """Return every metric that was computed on the test split, in the order of computation.

    A training without a value, such as a distance where its map has no front, is left out with its
    pair; `seeds` counts the pairs that remain.
    """
    return list(_rows(result))


def _rows(result: Result) -> Iterator[MetricRow]:
    arms = {arm.name: arm for arm in result.arms}
    baseline, tuned = arms[PAIR[0]], arms.get(PAIR[1])
    for name in _names(result):
        before = _values(baseline, name)
        after = before if tuned is None else _values(tuned, name)
        seeds = [seed for seed in before if seed in after]
        if not seeds:
            continue
        values = [[of[seed] for seed in seeds] for of in (before, after)]
        means = [sum(column) / len(column) for column in values]
        yield MetricRow(
            name,
            baseline=means[0],
            tuned=None if tuned is None else means[1],
            difference=None if tuned is None else mean_difference(values[1], values[0]),
            seeds=len(seeds),
            of=len(baseline.seeds),
        )


def _names(result: Result) -> list[str]:
    seeds = [seed for arm in result.arms for seed in arm.seeds]
    return list(dict.fromkeys(name for seed in seeds for name in seed.test_metrics))


def _values(arm: ArmResult, name: str) -> dict[int, float]:
    return {s.seed: s.test_metrics[name] for s in arm.seeds if name in s.test_metrics}
