"""Score the trainings of one recipe together, as a third arm beside baseline and tuned recipe.

The mean of their probabilities is scored once on the test split, with the trainings themselves and
kept beside their scores; no choice depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..evaluation.field_metrics import compute_metrics
from ..evaluation.metrics import Scores
from ..results.ensembles import EnsembleResult
from ..search.confirm import Arm, job, read_end
from ..training.checkpoint_store import pull_checkpoints
from ..training.checkpoints import BEST
from . import holdout as testsplit
from .folder import CONFIRM

if TYPE_CHECKING:
    from ..config import Site
    from ..execution.executor import Executor, TrialResources
    from ..search.jobs import Job

FEWEST = 2  # members


class Ensemble(NamedTuple):
    """Name the trainings that map together."""

    arm: Arm
    seeds: tuple[int, ...]

    @property
    def key(self) -> str:
        """Name of its scores; another choice of seeds is another map."""
        members = "-".join(map(str, self.seeds))
        return f"{self.arm.trainings or self.arm.name}-ensemble-{members}"

    def jobs(self, path: Path) -> list[Job]:
        """Return the trainings."""
        return [job(self.arm, seed, path / CONFIRM) for seed in self.seeds]


def open_ensembles(
    arms: Sequence[Arm], *, site: Site, path: Path, slots: TrialResources, executor: Executor
) -> tuple[EnsembleResult, ...]:
    """Score the trainings of baseline and tuned recipe together, each arm once.

    Trainings that diverged are left out, as `predict` does; an arm of fewer than two others has no
    ensemble.

    Args:
        arms: The recipes compared, all scored.
        site: Locations of data and weights.
        path: The study's folder, with the finished trainings.
        slots: Resources of a training.
        executor: Executor that scores.
    """
    ensembles = list(_ensembles(arms, path))
    kept = testsplit.kept_scores(path)
    todo = [
        ensemble
        for ensemble in ensembles
        if ensemble.key not in kept and _pull(ensemble, site, path)
    ]
    if todo:
        members = [ensemble.jobs(path) for ensemble in todo]
        scored = executor.score_ensembles(members, site=site, slots=slots)
        by_key = {ensemble.key: each for ensemble, each in zip(todo, scored, strict=True)}
        kept = testsplit.keep_scores(by_key, path, arms[0].recipe)
    return tuple(
        _result(ensemble, kept) for ensemble in ensembles if kept.get(ensemble.key) is not None
    )


def _ensembles(arms: Sequence[Arm], path: Path) -> Iterator[Ensemble]:
    kept = testsplit.kept_scores(path)
    for arm in arms:
        seeds = tuple(
            seed
            for seed in arm.seeds
            if kept.get(arm.training(seed)) is not None
            and read_end(job(arm, seed, path / CONFIRM)) == "complete"
        )
        if arm.name in testsplit.PAIR and len(seeds) >= FEWEST:
            yield Ensemble(arm, seeds)


def _pull(ensemble: Ensemble, site: Site, path: Path) -> bool:
    """Return whether the models of all members are there, after pulling those of a store."""
    folders = [Path(each.workdir) for each in ensemble.jobs(path)]
    for folder in folders:
        pull_checkpoints(site, folder, BEST)
    return all((folder / BEST).exists() for folder in folders)


def _result(ensemble: Ensemble, kept: dict[str, dict[str, object]]) -> EnsembleResult:
    scores = Scores.from_json(kept[ensemble.key])
    iou = dict(zip(scores.classes, scores.iou.tolist(), strict=True))
    members = [kept[ensemble.arm.training(seed)] for seed in ensemble.seeds]
    single = [float(Scores.from_json(each).miou) for each in members]
    return EnsembleResult(
        arm=ensemble.arm.name,
        seeds=ensemble.seeds,
        test_miou=float(scores.miou),
        test_iou={name: None if value != value else value for name, value in iou.items()},
        test_metrics=compute_metrics(scores),
        mean_member_miou=sum(single) / len(single),
    )
