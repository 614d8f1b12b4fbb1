"""What Ray hands over of a failed attempt: the training's own error, or the loss of its worker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cryo_hpo.errors import StorageError
from cryo_hpo.execution.attempts import CRASHES, Attempts
from cryo_hpo.execution.packs import Pack, Packs
from cryo_hpo.search.jobs import MESSAGE, OUTCOME

from .test_inline import Jobs

cloudpickle = pytest.importorskip("ray.cloudpickle")
exceptions = pytest.importorskip("ray.exceptions")
tune = pytest.importorskip("cryo_hpo.execution.ray_tune")


@pytest.fixture
def fail(tmp_path: Path) -> Any:
    """Let one attempt of the next job fail with an error, as Tune records it."""
    source = Jobs(1)
    packs = Packs(Attempts(source), most=1)
    callback = tune.OutcomeCallback(packs, tune.JobSearcher(packs, budget=lambda: 1))

    def fail(error: BaseException) -> list[Any]:
        pack = packs.next()
        assert isinstance(pack, Pack)
        file = tmp_path / "error.pkl"
        file.write_bytes(cloudpickle.dumps(error))
        trial = SimpleNamespace(
            trial_id="x",
            config=tune.config_of(pack),
            pickled_error_file=str(file),
            error_file=None,
        )
        callback.on_trial_error(trial=trial)
        return source.ends

    return fail


def _raised() -> BaseException:
    error = KeyError("no such layer")
    return exceptions.RayTaskError("work", "Traceback: ...", error)  # type: ignore[no-any-return]


def test_an_error_of_the_training_ends_it_the_third_time_as_inline(fail) -> None:
    for _ in range(CRASHES - 1):
        assert fail(_raised()) == []
    assert fail(_raised()) == [("0", "crashed", "KeyError: 'no such layer'")]


def test_a_lost_worker_is_tried_again_however_often_it_looks_the_same(fail) -> None:
    for _ in range(5):
        assert fail(exceptions.RayActorError()) == []
    assert fail(_raised()) == []


def test_a_full_disk_stops_the_study_and_is_no_death_of_a_worker(caplog) -> None:
    """Tune takes what its callback raises for an error of the trial, which then starts again."""
    source = Jobs(1)
    kept = tune.FirstErrorKept(Packs(Attempts(source), most=1))
    searcher = tune.JobSearcher(kept, budget=lambda: 1)
    callback = tune.OutcomeCallback(kept, searcher)
    trial = SimpleNamespace(
        trial_id="x",
        config=searcher.suggest("x"),
        pickled_error_file=None,
        error_file=None,
        status="ERROR",
    )
    outcome = {OUTCOME: "unwritable", MESSAGE: "Free space."}
    assert tune.RungScheduler(kept).on_trial_result(None, trial, outcome) == "CONTINUE"
    for _ in range(2):  # once as its end, and once more as the error that this was taken for
        with pytest.raises(StorageError, match="Free space"):
            callback.on_trial_complete(trial=trial)
        with pytest.raises(StorageError, match="Free space"):
            callback.on_trial_error(trial=trial)
    with pytest.raises(StorageError, match="Free space"):
        callback.on_step_begin(iteration=0, trials=[trial])
    with pytest.raises(StorageError, match="Free space"), kept.raising():
        raise RuntimeError("Tune's own words")
    assert "its worker died" not in caplog.text
    assert source.ends == [("0", "unwritable", "Free space.")]
