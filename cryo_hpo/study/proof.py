"""Run the final comparison of a study: which pairs are trained, and when it is over.

A list of seeds is trained whole. A limit of seeds is trained in rounds: each round has the pairs
that are needed before the comparison can end, whatever they show (`count_pairs_to_stop`), so their
trainings run at the same time and none could have been spared. After a round its pairs are scored
on the test split, each once, and the rule of `stats.sequential` decides whether another follows.

In a campaign whose cells share a total of repeats, the campaign grants each round: it writes the
number of repeats into the cell's folder, and no more are trained (`stats.shared_repeats`).

The scores decide nothing but the number of pairs: the winner was chosen on the validation split
before the first one, and the rule keeps its level at any number of looks. They are written before
the next round begins, so a resumed study trains the same pairs and ends at the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config.seeds import SeedLimit
from ..errors import SpecError
from ..evaluation.metrics import Scores
from ..monitoring.heartbeat import phase
from ..results import epochs as recording
from ..results.extensions import name_tuned, read_extensions
from ..results.grant import read_grant
from ..results.study import Reused
from ..search.confirm import Arm, ConfirmSource, job
from ..search.source import BASELINE, winner
from ..stats.paired import paired_gains
from ..stats.sequential import Stop, count_pairs_to_stop, find_stop
from . import holdout as testsplit
from .calibrated import baselines_in
from .data_guard import DataGuard, GuardedSource
from .folder import CONFIRM
from .reuse import clean, day_of, read_origin, take_trials
from .training_store import TrainingStore

if TYPE_CHECKING:
    from ..config import Site, Study
    from ..config.space import Value
    from ..execution.executor import Executor, TrialResources
    from ..search.jobs import Job
    from ..search.listener import Listener
    from ..search.trials import Record


@dataclass(frozen=True, slots=True)
class Proof:
    """Hold the final comparison of a study, whose whole state is in the study's folder.

    Attributes:
        study: The study.
        path: Its folder.
        best: The winner of the search; None: the study has no search.
        first: The baseline's trial of the search, if there is one.
    """

    study: Study
    path: Path
    best: Record | None
    first: Record | None = None

    @classmethod
    def of(cls, study: Study, path: Path, trials: list[Record]) -> Proof:
        """Return the comparison of a study whose search is over."""
        first = next((trial for trial in trials if trial.number == BASELINE), None)
        return cls(study, path, winner(trials) if trials else None, first)

    @property
    def arms(self) -> list[Arm]:
        """The recipes compared, with the seeds that are needed as far as is known."""
        named = baselines_in(self.study, self.path)
        return arms_of(self.study, self.best, self._seeds(), tuned=self._tuned, baselines=named)

    def run(
        self,
        site: Site,
        *,
        slots: TrialResources,
        executor: Executor,
        listener: Listener,
        first_is_trained: bool = False,
    ) -> Iterator[str]:
        """Train and score round after round; yield a line after each that decides the next.

        Args:
            site: Locations of data and storage.
            slots: Resources of each training.
            executor: Runs and scores the trainings.
            listener: Records the trainings.
            first_is_trained: Whether the jobs of the first `source` have been run.
        """
        if not self.arms:
            return
        guard, trained = DataGuard(self.study.base, site, self.path), first_is_trained
        while True:
            if not trained:
                pairs = self.source(site, listener, slots)
                executor.run(GuardedSource(pairs, guard), site=site, slots=slots)
                pairs.raise_if_lost()
            trained = False
            with phase("scoring the test split"):
                self.score(site, slots=slots, executor=executor)
            if stop := self.find_stop():
                yield self._stop_words(stop)
            if self.is_over:
                return

    def source(self, site: Site, listener: Listener, slots: TrialResources) -> ConfirmSource:
        """Return the job source of the rounds so far and the next, without finished trainings."""
        self._take_stored(site, slots)
        self._take_trials(site)
        return ConfirmSource(
            self.arms,
            folder=self.path / CONFIRM,
            listener=listener,
            damage=testsplit.damage_finder(site, self.path),
        )

    @property
    def _jobs(self) -> list[Job]:
        return [job(arm, seed, self.path / CONFIRM) for arm in self.arms for seed in arm.seeds]

    def _take_stored(self, site: Site, slots: TrialResources) -> None:
        """Take trainings that an earlier study has finished, with their scores."""
        if not self.study.reuse:
            return
        store = TrainingStore(site, slots)
        for training in self._jobs:
            if entry := store.take(training):
                stored, scenes = entry
                testsplit.adopt(training.key, stored.scores, scenes, self.path)
                store.end(training, stored)

    def _store(self, site: Site, slots: TrialResources) -> None:
        """Keep the trainings that are scored for later studies."""
        if not self.study.reuse:
            return
        DataGuard(self.study.base, site, self.path).check()  # an entry names the data it is of
        store, epochs = TrainingStore(site, slots), recording.by_key(self.path)
        scores, scenes = testsplit.kept_scores(self.path), testsplit.by_scene(self.path)
        for training in self._jobs:
            history = epochs.get(training.key, [])
            if read_origin(Path(training.workdir)) is None and scores.get(training.key) and history:
                source = Reused(
                    study=self.study.name,
                    training=training.key,
                    date=day_of(history),
                    epochs=len(history),
                )
                store.put(
                    training,
                    source=source,
                    history=clean(history),
                    scores=scores[training.key],
                    scenes=scenes[training.key],
                )

    def _take_trials(self, site: Site) -> None:
        """Take what the search has trained, if the comparison is on the search's own seed."""
        if self.study.proof != "quick":
            return
        of, seed = {"baseline": self.first, "tuned": self.best}, self.study.base.seed
        named = {arm.training(seed): of.get(arm.name) for arm in self.arms}
        trials = {name: trial for name, trial in named.items() if trial is not None}
        take_trials(self._jobs, trials, site=site, path=self.path)

    @property
    def is_over(self) -> bool:
        """True if every training that is needed has been scored."""
        kept = testsplit.kept_scores(self.path)
        return all(arm.training(seed) in kept for arm in self.arms for seed in arm.seeds)

    def score(self, site: Site, *, slots: TrialResources, executor: Executor) -> dict[str, Any]:
        """Score the trainings of the rounds so far on the test split; see `holdout.open_test`."""
        scores = testsplit.open_test(
            self.arms, site=site, path=self.path, slots=slots, executor=executor
        )
        self._store(site, slots)
        return scores

    def find_stop(self) -> Stop | None:
        """Return where the comparison stands; None if its number of pairs is fixed.

        A baseline that won its search is compared with nothing, and "futile".
        """
        if not isinstance(self.study.seeds, SeedLimit) or not self.study.stops_when_decided:
            return None
        if not self._has_tuned:
            return Stop(len(self._seeds()), "futile")
        return find_stop(self._gains(), at_most=self.study.seeds.at_most)

    def _stop_words(self, stop: Stop) -> str:
        """Return where the comparison stands, as a line for a terminal."""
        if not self._has_tuned:
            return (
                "The baseline won its search, so there is nothing to compare it with: it was trained "
                f"with {stop.pairs} seeds."
            )
        state = "given up" if stop.decision == "futile" else stop.decision
        most = len(self.study.comparison_seeds)
        return f"Comparison after {stop.pairs} of at most {most} repeats: {state}."

    @property
    def shared_gains(self) -> list[float] | None:
        """Relative gains of the scored pairs in percent, in the order of seeds; None: the baseline won."""
        return self._gains() if self._has_tuned else None

    @property
    def is_waiting(self) -> bool:
        """True if it is undecided, and the cells that it shares repeats with determine what follows."""
        grant, stop = read_grant(self.path), self.find_stop()
        if grant is None or grant.is_spent or stop is None:
            return False
        return stop.decision == "undecided"

    @property
    def _has_tuned(self) -> bool:
        return self.best is not None and self.best.number != BASELINE

    @property
    def _tuned(self) -> str:
        """How the names of the tuned arm's trainings begin."""
        if self.best is None or not self._has_tuned:
            return "tuned"
        return name_tuned(self.best.number, read_extensions(self.path))

    def _seeds(self) -> tuple[int, ...]:
        """Return the seeds that are trained already or needed next."""
        every = self.study.comparison_seeds
        if not isinstance(self.study.seeds, SeedLimit) or not self.study.stops_when_decided:
            return every
        most, gains = self.study.seeds.at_most, self._gains()
        done = gains[: find_stop(gains, at_most=most).pairs]
        needed, grant = len(done) + count_pairs_to_stop(done, at_most=most), read_grant(self.path)
        return every[: needed if grant is None else min(needed, grant.repeats)]

    def _gains(self) -> list[float]:
        """Return the relative gains of the scored pairs, in percent, in the order of seeds."""
        kept = testsplit.kept_scores(self.path)
        pair = ("baseline", self._tuned)
        names = [[f"{arm}-seed{s}" for arm in pair] for s in self.study.comparison_seeds]
        pairs = list(takewhile(lambda pair: all(name in kept for name in pair), names))
        scores = np.array([[_miou(kept[name]) for name in pair] for pair in pairs]).reshape(-1, 2)
        gains: list[float] = paired_gains(scores[:, 1], scores[:, 0]).tolist()
        return gains


def refuse_cell(study: Study, path: Path) -> None:
    """Refuse to run a cell alone that shares its repeats with others: its campaign decides when it ends.

    Raises:
        SpecError: The folder is that of such a cell.
    """
    if grant := read_grant(path):
        message = (
            f"'{study.name}' is a cell of campaign '{grant.campaign}', whose cells share {grant.total} "
            f"repeats, so it cannot be run alone. Run the campaign: `cryo-hpo resume {grant.campaign}`."
        )
        raise SpecError(message)


def _miou(scores: Any) -> float:
    return 0.0 if scores is None else float(Scores.from_json(scores).miou)


def arms_of(
    study: Study,
    best: Record | None,
    seeds: tuple[int, ...] | None = None,
    *,
    tuned: str = "tuned",
    baselines: Mapping[str, Mapping[str, Value]] | None = None,
) -> list[Arm]:
    """Return the recipes of the final comparison; all train on the same seeds and epochs.

    Args:
        study: The study.
        best: The winner of the search; None: the study has no search.
        seeds: The first seeds of the comparison; None: all.
        tuned: How the names of the tuned arm's trainings begin.
        baselines: Values of the named baselines; None: those that the study gives.

    Returns:
        Nothing if the study ends after its search.
    """
    seeds = study.comparison_seeds if seeds is None else seeds
    if not seeds:
        return []
    recipes = {"baseline": study.base}
    named = study.given_baselines if baselines is None else baselines
    recipes |= {name: study.base.replace(over) for name, over in named.items()}
    if best is not None and best.number != BASELINE:
        recipes["tuned"] = study.recipe(best.params)
    prefixes = {"tuned": tuned}
    return [
        Arm(name, recipe, seeds, study.metric, prefixes.get(name, ""))
        for name, recipe in recipes.items()
    ]
