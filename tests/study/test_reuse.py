"""What a comparison takes from elsewhere in place of training it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.config import Site, Study
from cryo_hpo.search.confirm import ENDED, Arm, job
from cryo_hpo.search.jobs import Job
from cryo_hpo.search.trials import Record
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study.reuse import history_of, read_origin, take_trials
from cryo_hpo.training.checkpoints import BEST, LAST, save

from ..support.pool import a_study

SITE = Site.from_env({})
EPOCHS = 3


@pytest.fixture
def study() -> Study:
    return a_study(epochs=EPOCHS, proof="quick")


def _searched(study: Study, path: Path, *, epochs: int, files: tuple[str, ...]) -> Job:
    """Leave what a search leaves of the baseline's trial; return the comparison's job for it."""
    for name in files:
        save(path / "trials" / "trial-0000" / name, {"recipe": study.base.id, "history": []})
    with closing(EventLog(path / "events.jsonl")) as log:
        for epoch in range(1, epochs + 1):
            log.append("epoch", study="s", key="trial-0000", epoch=epoch, best_val_miou=0.5)
    return job(Arm("baseline", study.base, (0,)), 0, path / "confirm")


def _record(state: Any) -> Record:
    return Record(number=0, params={}, state=state, curve={1: 0.5})


def test_a_trial_of_full_length_is_not_trained_again(tmp_path: Path, study: Study) -> None:
    one = _searched(study, tmp_path, epochs=EPOCHS, files=(BEST,))
    for _ in range(2):  # a resumed study takes it once
        take_trials([one], {one.key: _record("complete")}, site=SITE, path=tmp_path)
    workdir = Path(one.workdir)
    assert (workdir / ENDED).read_text() == "complete\n"
    assert (workdir / BEST).samefile(tmp_path / "trials" / "trial-0000" / BEST)
    origin = read_origin(workdir)
    assert origin is not None
    source = origin.source
    assert (source.training, source.epochs) == ("trial-0000", EPOCHS)
    assert len(source.date) == len("2026-01-01")
    history = history_of(SITE, workdir, study.base.id, EPOCHS)
    assert [e["epoch"] for e in history] == [1, 2, 3]
    assert "event" not in history[0]


def test_a_paused_trial_is_resumed(tmp_path: Path, study: Study) -> None:
    one = _searched(study, tmp_path, epochs=1, files=(BEST, LAST))
    take_trials([one], {one.key: _record("pruned")}, site=SITE, path=tmp_path)
    assert not (Path(one.workdir) / ENDED).exists()
    assert (Path(one.workdir) / LAST).exists()
    origin = read_origin(Path(one.workdir))
    assert origin is not None
    assert origin.source.epochs == 1


@pytest.mark.parametrize("lost", ["best", "last", "recipe"])
def test_what_a_trial_has_lost_is_trained(tmp_path: Path, study: Study, lost: str) -> None:
    one = _searched(study, tmp_path, epochs=1, files=(BEST, LAST))
    folder = tmp_path / "trials" / "trial-0000"
    if lost == "recipe":
        save(folder / BEST, {"recipe": "another"})
    else:
        (folder / f"{lost}.pt").unlink()
    take_trials([one], {one.key: _record("pruned")}, site=SITE, path=tmp_path)
    assert not Path(one.workdir).exists()


def test_a_damaged_origin_costs_only_the_report(tmp_path: Path, study: Study) -> None:
    one = _searched(study, tmp_path, epochs=EPOCHS, files=(BEST,))
    take_trials([one], {one.key: _record("complete")}, site=SITE, path=tmp_path)
    (Path(one.workdir) / "reused.json").write_text(json.dumps({"source": {}}))
    assert read_origin(Path(one.workdir)) is None
