"""The model of a search's winner, before the study has finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.errors import CryoError, SpecError
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.prediction.ensemble import open_ensemble
from cryo_hpo.prediction.model import export_model, load_model, open_model
from cryo_hpo.search.trials import Record
from cryo_hpo.search.winner import load_winner
from cryo_hpo.study.winner import doubt_winner, keep_winner, score_constant
from cryo_hpo.training.checkpoints import BEST

from ..support.finished import Finished, finished_study

RECORDS = [
    Record(number=0, params={}, state="pruned", curve={1: 0.5}),
    Record(number=1, params={}, state="complete", curve={1: 0.6}),
    Record(number=2, params={"optim.lr": 1.0}, state="diverged"),
]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study whose search is over, and whose comparison is not."""
    done = finished_study(tmp_path_factory.mktemp("searched"), epochs=1)
    best = done.folder / "confirm" / "baseline-seed1" / BEST
    for record in RECORDS:
        folder = done.folder / "trials" / f"trial-{record.number:04d}"
        folder.mkdir(parents=True)
        shutil.copy(best, folder / BEST)
    (done.folder / "result.json").rename(done.folder / "later.json")
    keep_winner(done.study, done.site, done.folder, RECORDS)
    return done


def test_only_trials_of_full_length_keep_their_weights(searched: Finished) -> None:
    kept = {path.parent.name for path in (searched.folder / "trials").glob(f"*/{BEST}")}
    assert kept == {"trial-0001"}


def test_the_winner_maps_before_the_study_has_finished(searched: Finished) -> None:
    model = open_model(searched.folder, site=searched.site)
    card = model.card
    assert (card.arm, card.trial, card.seed) == ("winner", 1, searched.study.base.seed)
    assert (card.val_miou, card.test_miou, card.improvement) == (0.6, None, None)
    assert set(card.data_fingerprints) == {"train", "val", "test"}
    same = torch.load(searched.folder / "confirm" / "baseline-seed1" / BEST, weights_only=True)[
        "model"
    ]
    assert all(torch.equal(same[name], t) for name, t in model.segmenter.state_dict().items())
    assert model.predict(np.zeros((3, 16, 16), np.uint8)).shape == (16, 16)
    (only,) = open_ensemble(searched.folder, site=searched.site).members
    assert only.card == card
    with pytest.raises(CryoError, match=r"result\.json"):
        open_model(searched.folder, arm="baseline", site=searched.site)
    with pytest.raises(SpecError, match="trains on seed 0, not 5"):
        open_model(searched.folder, seed=5, site=searched.site)


def test_a_map_of_one_class_is_scored_as_validation_scores_maps(searched: Finished) -> None:
    last = torch.load(searched.folder / "confirm/baseline-seed1/last.pt", weights_only=True)
    scored = Scores.from_json(last["val"])
    assert score_constant(searched.study, searched.site) == scored.best_constant()


@pytest.mark.parametrize("above", [True, False])
def test_a_winner_that_has_learned_nothing_is_named_before_the_comparison(
    searched: Finished, *, above: bool
) -> None:
    label, least = score_constant(searched.study, searched.site)
    won = load_winner(searched.folder)
    score = least + 1e-6 if above else least
    doubt = doubt_winner(searched.study, searched.site, won.model_copy(update={"val_miou": score}))
    assert bool(doubt) != above
    if doubt:
        assert (
            f"a map of '{label}' everywhere has {100 * least:.2f}: it has learned no more" in doubt
        )


def test_an_exported_winner_says_what_it_is(
    searched: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATA", "STORAGE", "CACHE", "WEIGHTS"):
        monkeypatch.setenv(f"CRYO_{name}", str(getattr(searched.site, name.lower())))
    out = tmp_path / "model.pt"
    done = CliRunner().invoke(main, ["export", "done", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "winner of 'done', seed 0, trial 1 of the search" in done.output
    assert "not scored on the test split" in done.output
    assert json.loads(out.with_suffix(".json").read_text())["test_miou"] is None
    assert load_model(out).card.trial == 1


def test_a_finished_study_gives_its_comparison_and_the_winner_on_request(
    searched: Finished, tmp_path: Path
) -> None:
    folder = shutil.copytree(searched.folder, tmp_path / "done")
    (folder / "later.json").rename(folder / "result.json")
    assert open_model(folder, site=searched.site).card.arm == "baseline"
    assert export_model(folder, tmp_path / "a.pt", arm="winner", site=searched.site).trial == 1
    (folder / "trials" / "trial-0001" / BEST).unlink()
    with pytest.raises(CryoError, match="winner are gone"):
        open_model(folder, arm="winner", site=searched.site)


def test_a_search_that_is_not_over_has_no_winner(searched: Finished, tmp_path: Path) -> None:
    with pytest.raises(CryoError, match=r"result\.json"):
        open_model(tmp_path, site=searched.site)
    with pytest.raises(CryoError, match="Run the study first"):
        open_model(tmp_path, arm="winner", site=searched.site)
    (tmp_path / "winner.json").write_text("{")
    with pytest.raises(CryoError, match="damaged"):
        load_winner(tmp_path)
