"""When the final comparison ends, and that a resumed one ends at the same pair."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryo_hpo.config import Recipe, Site
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.execution.inline import InlineExecutor
from cryo_hpo.results.extensions import Extension, write_extensions
from cryo_hpo.search.jobs import Job, Source
from cryo_hpo.search.trials import Record
from cryo_hpo.stats.sequential import Stop
from cryo_hpo.study import proof as proving
from cryo_hpo.study.proof import Proof
from cryo_hpo.training.build import dataset_of
from cryo_hpo.training.checkpoints import BEST, save

from ..support.pool import Crash, Disk, Heard, a_study, peak, simulate

SITE, SLOTS = Site.from_env({}), TrialResources(1, 0.0, None)
WINNER = Record(number=3, params={"optim.lr": 1e-3}, state="complete", curve={9: 0.9})
BASELINE = Record(number=0, params={}, state="complete", curve={9: 0.9})


class Unguarded:
    """In place of the guard of the data: these trainings have none."""

    def __init__(self, *_: object) -> None: ...

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_args: None


@pytest.fixture(autouse=True)
def _no_data_to_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "DataGuard", Unguarded)


@dataclass
class FakeExecutor(InlineExecutor):
    """Train instantly, and score the tuned recipe above or below the baseline by a seed's sign."""

    signs: str
    disk: Disk = field(default_factory=Disk)
    scored: list[str] = field(default_factory=list)
    rounds: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # that the comparison prints
    crash_after: int | None = None  # scorings
    workers: int = 3

    def run(self, source: Source, **_: Any) -> None:
        before = len(self.disk.trained)
        simulate(source, peak(), disk=self.disk, workers=self.workers)
        self.rounds.append(sorted({key for key, _ in self.disk.trained[before:]}))

    def score(
        self,
        jobs: Sequence[Job],
        **_: Any,
    ) -> list[dict[str, Any]]:
        if self.crash_after is not None and len(self.scored) >= self.crash_after:
            raise Crash
        self.scored += [job.key for job in jobs]
        return [{"a": self._scores(job.key)} for job in jobs]

    def _scores(self, key: str) -> Scores:
        arm, _, seed = key.rpartition("-seed")
        gain = {"+": 1, "-": -1, "0": 0}[self.signs[int(seed) - 1]]
        right = 60 + gain * (arm == "tuned")
        classes = dataset_of(a_study().base.data).classes
        return Scores(classes, np.array([[right, 100 - right], [100 - right, right]]))


class Written(Heard):
    """A listener that leaves a best checkpoint where a training begins, as a worker would."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def started(self, key: str, recipe: Recipe, *, kind: str) -> None:
        super().started(key, recipe, kind=kind)
        save(self._path / "confirm" / key / BEST, {"recipe": recipe.id})


def _prove(path: Path, executor: FakeExecutor, *, best: Record = WINNER, **study: Any) -> Proof:
    fields: dict[str, Any] = {"seeds": {"at_most": 16}, "epochs": 2, "reuse": False, **study}
    proof = Proof(a_study(**fields), path, best)
    executor.lines += proof.run(SITE, slots=SLOTS, executor=executor, listener=Written(path))
    return proof


@pytest.mark.parametrize(
    ("signs", "stop", "rounds"),
    [
        ("+" * 16, Stop(6, "improved"), [4, 2]),
        ("-" * 16, Stop(6, "worse"), [4, 2]),
        ("+-" * 8, Stop(4, "futile"), [4]),
        ("+-" + "+" * 14, Stop(13, "improved"), [4, *[1] * 9]),
    ],
)
def test_pairs_are_trained_until_they_decide(tmp_path, signs, stop, rounds):
    executor = FakeExecutor(signs)
    proof = _prove(tmp_path, executor, baselines={"paper": {"optim.lr": 1e-5}})
    assert proof.find_stop() == stop
    assert [len(keys) for keys in executor.rounds] == [3 * pairs for pairs in rounds]
    assert [arm.seeds for arm in proof.arms] == [tuple(range(1, stop.pairs + 1))] * 3
    assert len(executor.scored) == len(set(executor.scored)) == 3 * stop.pairs


@pytest.mark.parametrize("signs", ["+" * 16, "+-" * 8])
def test_a_killed_comparison_trains_and_opens_the_same_pairs(tmp_path, signs):
    whole = FakeExecutor(signs)
    stop = _prove(tmp_path / "whole", whole).find_stop()
    for crash_after in (0, 8, 10, 24):
        path, disk = tmp_path / str(crash_after), Disk()
        first = FakeExecutor(signs, disk, crash_after=crash_after)
        second = FakeExecutor(signs, disk)
        with contextlib.suppress(Crash):
            _prove(path, first)
        assert _prove(path, second).find_stop() == stop
        assert sorted([*first.scored, *second.scored]) == sorted(whole.scored)
        assert sorted(disk.trained) == sorted(whole.disk.trained)


def test_a_comparison_that_has_ended_is_not_opened_again(tmp_path):
    _prove(tmp_path, FakeExecutor("+" * 16))
    later = FakeExecutor("-" * 16)
    assert _prove(tmp_path, later).find_stop() == Stop(6, "improved")
    assert (later.rounds, later.scored) == ([[]], [])


def test_a_list_of_seeds_is_trained_whole_and_scored_once(tmp_path):
    executor = FakeExecutor("+" * 16)
    proof = _prove(tmp_path, executor, seeds=tuple(range(1, 10)))
    assert proof.find_stop() is None
    assert [len(keys) for keys in executor.rounds] == [18]
    assert len(executor.scored) == 18


def test_the_seed_of_the_search_proves_nothing(tmp_path):
    study = a_study(seeds={"at_most": 16})
    other = study.model_copy(update={"base": study.base.replace({"seed": 2})})
    assert study.comparison_seeds == tuple(range(1, 17))
    assert other.comparison_seeds == (1, *range(3, 18))
    assert Proof(other, tmp_path, WINNER).arms[0].seeds == (1, 3, 4, 5)


def test_a_baseline_that_won_is_trained_for_one_round(tmp_path):
    executor = FakeExecutor("+" * 16)
    proof = _prove(tmp_path, executor, best=BASELINE)
    assert proof.find_stop() == Stop(4, "futile")
    assert executor.rounds == [[f"baseline-seed{seed}" for seed in range(1, 5)]]
    (line,) = executor.lines
    assert line.startswith("The baseline won its search, so there is nothing to compare it with")
    assert line.endswith("4 seeds.")


def test_a_comparison_that_is_given_up_says_so_as_the_report_does(tmp_path):
    executor = FakeExecutor("+-" * 8)
    _prove(tmp_path, executor)
    assert executor.lines == ["Comparison after 4 of at most 16 repeats: given up."]


def test_a_training_that_diverged_at_once_scores_zero(tmp_path):
    executor = FakeExecutor("+" * 16)
    proof = _prove(tmp_path, executor)
    file = tmp_path / "test-scores.json"
    scores = json.loads(file.read_text())
    file.write_text(json.dumps({**scores, "tuned-seed1": None}))
    assert proof.find_stop() == Stop(6, "undecided")
    assert proof.score(SITE, slots=SLOTS, executor=executor).keys() == scores.keys() - {
        "tuned-seed1"
    }


def test_a_new_winner_of_an_extended_search_is_trained_beside_the_former(tmp_path):
    before = FakeExecutor("++--")
    _prove(tmp_path, before, seeds=(1, 2, 3, 4))
    extension = Extension(
        date="2026-11-26",
        kept="result-2026-11-26.json",
        trials=4,
        former_winner=WINNER.number,
        former_verdict=None,
    )
    write_extensions([extension], tmp_path)
    after = FakeExecutor("++--", before.disk)
    other = Record(number=9, params={"optim.lr": 2e-3}, state="complete", curve={9: 0.95})
    proof = _prove(tmp_path, after, best=other, seeds=(1, 2, 3, 4))
    new = [f"tuned-trial-0009-seed{seed}" for seed in range(1, 5)]
    assert (after.rounds, after.scored) == ([new], new)
    known = json.loads((tmp_path / "test-scores.json").read_text())
    assert {*new, "tuned-seed1", "baseline-seed1"} <= known.keys()
    assert [arm.name for arm in proof.arms] == ["baseline", "tuned"]
    later = FakeExecutor("++--", before.disk)
    write_extensions([extension, extension.model_copy(update={"former_winner": 9})], tmp_path)
    _prove(tmp_path, later, seeds=(1, 2, 3, 4))
    assert (later.rounds, later.scored) == ([[]], []), "the former winner wins again: all is there"
