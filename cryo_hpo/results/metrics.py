"""Compare the metrics of baseline and tuned on the test split, paired by seed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..config.metric import MIOU
from ..stats.difference import mean_difference
from ..stats.intervals import Interval
from .ensembles import EnsembleResult
from .study import ArmResult, Result, SeedResult

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


def seed_metrics(result: Result, seed: SeedResult) -> dict[str, float]:
    """Return the metrics of one training for MLflow: `test_iou/lake`."""
    names = _slugs(result)
    return {f"test_{names[name]}": value for name, value in seed.test_metrics.items()}


def parent_metrics(result: Result) -> dict[str, float]:
    """Return the comparison for MLflow: `baseline.test_*`, `tuned.test_*`, `difference.test_*`."""
    names, metrics = _slugs(result), {}
    for row in compare_metrics(result):
        metrics[f"baseline.test_{names[row.name]}"] = row.baseline
        if row.tuned is not None and row.difference is not None:
            metrics[f"tuned.test_{names[row.name]}"] = row.tuned
            metrics |= row.difference.to_metrics(f"difference.test_{names[row.name]}")
    return metrics


class EnsembleRow(NamedTuple):
    """Hold one metric of an ensemble, beside that of its members."""

    name: str
    single: float
    """Mean over the members that have a value."""
    together: float


def ensemble_rows(result: Result, ensemble: EnsembleResult) -> list[EnsembleRow]:
    """Return every metric of an ensemble that its members have too, in the order of computation."""
    members = [seed for seed in result.arm(ensemble.arm).seeds if seed.seed in ensemble.seeds]
    rows = []
    for name in _names(result):
        values = [seed.test_metrics[name] for seed in members if name in seed.test_metrics]
        if values and name in ensemble.test_metrics:
            mean = sum(values) / len(values)
            rows.append(EnsembleRow(name, mean, ensemble.test_metrics[name]))
    return rows


def ensemble_metrics(result: Result, ensemble: EnsembleResult) -> dict[str, float]:
    """Return an ensemble's metrics for MLflow: `tuned_ensemble.test_mde_m/ice`."""
    names = _slugs(result)
    rows = ensemble_rows(result, ensemble)
    return {f"{ensemble.arm}_ensemble.test_{names[row.name]}": row.together for row in rows}


def _slugs(result: Result) -> dict[str, str]:
    """Return each metric's name in signs that MLflow takes, all distinct."""
    names = _names(result)
    slugs = [re.sub(r"[^\w./-]+", "_", name).rstrip("_.") for name in names]
    return {
        name: slug if slugs.count(slug) == 1 else f"{slug}_{index}"
        for index, (name, slug) in enumerate(zip(names, slugs, strict=True))
    }


def _rows(result: Result) -> Iterator[MetricRow]:
    arms = {arm.name: arm for arm in result.arms}
    baseline, tuned = arms.get(PAIR[0]), arms.get(PAIR[1])
    if baseline is None:
        return  # the study ended after its search
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
    if name == MIOU:  # of a training without a model too, which scores 0
        return {s.seed: s.test_miou for s in arm.seeds}
    return {s.seed: s.test_metrics[name] for s in arm.seeds if name in s.test_metrics}
