"""A study that starts from what another one found."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryo_hpo.config import Prior, Study, dump_study, load_study
from cryo_hpo.errors import SpecError
from cryo_hpo.results.study import write

from ..support.results import a_result

STUDY = """\
name: next
base:
  data: {name: lakes-demo}
search:
  space:
    params:
      optim.lr: {kind: float, low: 1e-5, high: 1e-1, log: true}
      optim.warmup_epochs: {kind: int, low: 0, high: 5}
      loss.name: {kind: choice, values: [ce, dice]}
  trials: 8
  prior: PRIOR
"""


def _load(folder: Path, prior: str) -> Study:
    path = folder / "study.yaml"
    path.write_text(STUDY.replace("PRIOR", prior))
    return load_study(path)


def _prior(study: Study) -> dict[str, Prior]:
    assert study.search is not None
    return study.search.prior


def test_beliefs_are_part_of_the_study(tmp_path):
    study = _load(tmp_path, "{optim.lr: {center: 3e-4, spread: 2, weight: 0.25}}")
    assert _prior(study) == {"optim.lr": Prior(center=3e-4, spread=2, weight=0.25)}


def test_a_prior_written_for_version_0_1_is_still_read(tmp_path):
    study = _load(tmp_path, "{optim.lr: {centre: 3e-4}}")  # codespell:ignore
    assert _prior(study) == {"optim.lr": Prior(center=3e-4)}
    with pytest.raises(SpecError, match="No key named 'centre' here"):  # codespell:ignore
        _load(tmp_path, "{optim.lr: {centre: 3e-4, center: 1e-3}}")  # codespell:ignore


@pytest.mark.parametrize("source", ["other/result.json", "other"])
def test_a_finished_study_becomes_plain_values(tmp_path, source):
    (tmp_path / "other").mkdir()
    lr = 9.8e-4  # of the winner
    write(a_result(best_recipe={"optim": {"lr": lr}}), tmp_path / "other")
    study = _load(tmp_path, f"{{from: {source}, spread: 2}}")
    assert _prior(study) == {"optim.lr": Prior(center=lr, spread=2)}
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_study(study))
    write(a_result(best_recipe={"optim": {"lr": 0.05}}), tmp_path / "other")
    assert load_study(copy) == study  # the other study may change or go


CASES = {
    "{optim.lrr: {center: 1}}": "search.prior.optim.lrr: The space has no parameter 'optim.lrr'",
    "{loss.name: {center: 1}}": "'loss.name' is a choice",
    "{optim.lr: {center: 1}}": "range, 1e-05 to 0.1: got 1",
    "{optim.lr: {center: 1e-3, spread: 0.5}}": "factor above 1 because 'optim.lr' has log: true, got 0.5",
    "{optim.lr: {center: 1e-3, weight: 1}}": "Must be below 1",
    "{optim.lr: {middle: 1e-3}}": "Known: center, spread, weight",
    "{optim.lr: 1e-3}": "Must be a mapping",
    "{from: nowhere.json}": "study.yaml:11: search.prior.from: Cannot read a prior from '",
    "{from: .}": "search.prior.from: Cannot read a prior from '",
}


@pytest.mark.parametrize(("prior", "message"), CASES.items())
def test_a_belief_that_cannot_be_used_is_refused(tmp_path, prior, message):
    with pytest.raises(SpecError) as caught:
        _load(tmp_path, prior)
    assert message in str(caught.value)


def test_a_study_that_found_nothing_of_use_is_refused(tmp_path):
    write(a_result(winner=None), tmp_path)
    with pytest.raises(
        SpecError, match=r"has no prior for this study: it searched over .* Drop the prior"
    ):
        _load(tmp_path, "{from: result.json}")
