"""The result in a study's folder belongs to that study, or it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.config import Study
from cryo_hpo.config.hours import Hours
from cryo_hpo.errors import StorageError
from cryo_hpo.results.study import write
from cryo_hpo.study.own_result import own_result

from ..support.pool import a_study
from ..support.results import a_result


def _keep(study: Study, folder: Path, **spec: Any) -> None:
    raw = {**study.model_dump(mode="json"), **spec}
    write(a_result().model_copy(update={"study": raw["name"], "spec": raw}), folder)


def test_a_study_gets_its_own_result(tmp_path: Path) -> None:
    study = a_study()
    _keep(study, tmp_path)
    assert own_result(study, tmp_path).study == study.name


def test_a_result_that_was_copied_from_another_study_is_refused(tmp_path: Path) -> None:
    study = a_study()
    write(a_result(study="other", spec=study.model_dump(mode="json")), tmp_path)
    with pytest.raises(StorageError, match=r"name: other -> .*Move it to the folder it was copied"):
        own_result(study, tmp_path)


def test_a_result_of_an_earlier_spec_is_refused(tmp_path: Path) -> None:
    """As when study.yaml was removed from the folder, and the spec was changed."""
    study = a_study()
    _keep(study, tmp_path)
    base = study.base.replace({"epochs": study.base.epochs + 1, "batch_size": 3})
    with pytest.raises(StorageError, match=rf"base\.epochs: {study.base.epochs} -> .*a new name"):
        own_result(study.model_copy(update={"base": base}), tmp_path)


def test_a_key_that_an_older_version_did_not_have_is_no_difference(tmp_path: Path) -> None:
    study = a_study()
    raw = study.model_dump(mode="json")
    del raw["reuse"], raw["base"]["batch_size"]
    write(a_result().model_copy(update={"study": study.name, "spec": raw}), tmp_path)
    assert own_result(study, tmp_path).study == study.name


def test_a_value_that_an_older_version_wrote_otherwise_is_no_difference(tmp_path: Path) -> None:
    study = a_study()
    base = study.base.replace({"protocol": "cryo-bench@1"})
    study = study.model_copy(update={"base": base, "search": None})
    stored = {**study.model_dump(mode="json")["base"], "protocol": "cryo-bench"}
    _keep(study, tmp_path, base=stored)
    assert own_result(study, tmp_path).study == study.name
    _keep(study, tmp_path, base={**stored, "epochs": stored["epochs"] + 1})
    with pytest.raises(StorageError, match=r"base\.epochs: "):
        own_result(study, tmp_path)


def test_what_a_budget_of_hours_decides_is_no_difference(tmp_path: Path) -> None:
    study = a_study()
    assert study.search is not None
    planned = study.search.model_dump(mode="json") | {"budget": 7.5, "trials": None}
    _keep(study, tmp_path, seeds={"at_most": 9}, search=planned)
    search = study.search.model_copy(update={"budget": 99.0, "trials": None})
    hours = study.model_copy(update={"search": search, "budget": Hours(core_hours=6.0)})
    assert own_result(hours, tmp_path).study == study.name
    with pytest.raises(StorageError, match=r"search\.budget: 7\.5 -> 99"):
        own_result(hours.model_copy(update={"budget": None}), tmp_path)
