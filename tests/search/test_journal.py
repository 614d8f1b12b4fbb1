from __future__ import annotations

import math

import pytest

from cryo_hpo.errors import StorageError
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.rungs import Step


def _lr(trial):
    return {"optim.lr": trial.suggest_float("optim.lr", 1e-6, 1e-2, log=True)}


def test_a_reopened_journal_knows_everything(tmp_path):
    path = tmp_path / "journal.log"
    journal = Journal(path, study="s")
    assert journal.begin({}, None) == 0
    assert journal.begin({"optim.lr": 1e-3}, _lr) == 1
    for epoch, score in [(1, 0.5), (2, 0.6)]:
        journal.report(0, epoch, score)
    journal.report(1, 1, 0.4)
    journal.end(0, "complete")

    again = Journal(path, study="s")
    baseline, trial = again.records()
    assert (baseline.state, baseline.curve, baseline.score) == ("complete", {1: 0.5, 2: 0.6}, 0.6)
    assert (trial.state, trial.params, trial.epochs) == ("running", {"optim.lr": 1e-3}, 1)
    again.report(1, 2, 0.7)
    again.end(1, "pruned", "pruned at epoch 2")
    assert Journal(path, study="s").record(1).message == "pruned at epoch 2"


def test_a_journal_of_an_older_version_is_read_with_the_words_of_today(tmp_path):
    journal = Journal(tmp_path / "journal.log", study="s")
    for words in (("went on", "waited", "paused"), ("continued", "paused")):
        number = journal.begin({"optim.lr": 1e-3}, _lr)
        steps = [Step(1, word, 1, 2) for word in words]  # type: ignore[arg-type]
        journal._storage.set_trial_user_attr(journal._ids[number], "steps", steps)
    old, new = Journal(tmp_path / "journal.log", study="s").records()
    assert [step.decision for step in old.steps] == ["continued", "paused", "pruned"]
    assert [step.decision for step in new.steps] == ["continued", "paused"]


def test_an_epoch_reported_twice_is_kept_once(tmp_path):
    journal = Journal(tmp_path / "journal.log", study="s")
    journal.begin({"optim.lr": 1e-3}, _lr)
    journal.report(0, 1, 0.5)
    journal.report(0, 1, 0.5)
    assert journal.record(0).curve == {1: 0.5}


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_diverged_trial_is_closed_and_keeps_its_name(tmp_path, epochs):
    journal = Journal(tmp_path / "journal.log", study="s")
    journal.begin({"optim.lr": 1e-2}, _lr)
    for epoch in range(1, epochs + 1):
        journal.report(0, epoch, 0.5)
    journal.end(0, "diverged", "Loss became nan at epoch 3")
    record = Journal(tmp_path / "journal.log", study="s").record(0)
    assert (record.state, record.epochs) == ("diverged", epochs)
    assert math.isnan(record.score) == (epochs == 0)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="journal must be writable"):
        Journal(tmp_path / "file" / "journal.log", study="s")


def test_what_was_drawn_and_what_the_recipe_gets_are_both_kept(tmp_path):
    def scaled(trial):
        return {"optim.lr": 1e-4 * trial.suggest_float("rel", 0.1, 10, log=True)}

    Journal(tmp_path / "journal.log", study="s").begin({"rel": 4.0}, scaled)
    record = Journal(tmp_path / "journal.log", study="s").record(0)
    assert (record.drawn, record.params) == ({"rel": 4.0}, {"optim.lr": 4e-4})
