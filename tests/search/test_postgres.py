"""The trials of a search in a real PostgreSQL server: the same search as in the journal file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import SecretStr

from cryo_hpo.config import Site, Study
from cryo_hpo.errors import SpecError, StorageError
from cryo_hpo.execution.submit import command
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.postgres import ENGINE, MARKER, require
from cryo_hpo.search.source import SearchSource
from cryo_hpo.search.trials import Record

from ..support.pool import Crash, Curves, Disk, Heard, a_study, peak, simulate
from ..support.postgres import Server, server

pytestmark = pytest.mark.slow
CURVES = peak(diverges=2e-2, epochs=4)
STUDY = a_study(trials=7, epochs=4, reduction=2)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as started:
        yield started


@pytest.fixture
def url(running: Server) -> SecretStr:
    return SecretStr(running.url)


def _drive(
    folder: Path,
    database: SecretStr | None,
    *,
    study: Study = STUDY,
    curves: Curves = CURVES,
    **pool: Any,
) -> list[Record]:
    assert study.search is not None
    source = SearchSource(
        study,
        suggest=study.search.space.suggest,  # type: ignore[union-attr]
        journal=Journal(folder / "journal.log", study=study.name, database=database),
        folder=folder / "trials",
        listener=Heard(),
    )
    simulate(source, curves, **pool)
    return source.records


def _in_database(folder: Path, url: SecretStr) -> optuna.Study:
    address = url.get_secret_value().replace("postgresql:", "postgresql+psycopg:")
    name = json.loads((folder / MARKER).read_text())["study"]
    storage = optuna.storages.RDBStorage(address, engine_kwargs=ENGINE)
    return optuna.load_study(study_name=name, storage=storage)


@pytest.mark.parametrize("workers", [1, 3])
def test_both_storages_give_the_same_search(tmp_path, url, workers):
    file = _drive(tmp_path / "file", None, workers=workers)
    assert _drive(tmp_path / "base", url, workers=workers) == file
    assert not (tmp_path / "base" / "journal.log").exists()
    trials = _in_database(tmp_path / "base", url).get_trials()
    assert [t.number for t in trials] == list(range(7))
    assert all(t.state.is_finished() for t in trials)
    assert [t.intermediate_values for t in trials] == [r.curve for r in file]


@pytest.mark.parametrize("crash_after", [3, 9, 16, 25])
def test_a_crash_changes_nothing(tmp_path, url, crash_after):
    through, disk = _drive(tmp_path / "file", None), Disk()
    with pytest.raises(Crash):
        _drive(tmp_path / "base", url, disk=disk, crash_after=crash_after)
    records = _drive(tmp_path / "base", url, disk=disk)
    assert [(r.number, r.params, r.state, r.curve) for r in records] == [
        (r.number, r.params, r.state, r.curve) for r in through
    ]
    assert len(disk.trained) == len(set(disk.trained))
    assert all(t.state.is_finished() for t in _in_database(tmp_path / "base", url).get_trials())


def test_two_folders_never_share_trials(tmp_path, url):
    one, two = (_drive(tmp_path / name, url) for name in ("one", "two"))
    assert len(one) == len(two) == 7


def test_a_server_that_goes_away_stops_the_search_and_loses_nothing(tmp_path, running, url):
    through, disk, seen = _drive(tmp_path / "file", None), Disk(), [0]

    def curves(recipe: Any) -> list[float]:
        seen[0] += 1
        if seen[0] == 6:
            running.stop()
        return CURVES(recipe)

    try:
        with pytest.raises(StorageError, match=r"CRYO_OPTUNA_STORAGE.*127\.0\.0\.1") as told:
            _drive(tmp_path / "base", url, curves=curves, disk=disk)
        with pytest.raises(StorageError, match="that answers"):
            require(url)
    finally:
        running.start()
    assert running.password not in str(told.value)
    require(url)
    records = _drive(tmp_path / "base", url, disk=disk)
    assert [(r.number, r.state, r.curve) for r in records] == [
        (r.number, r.state, r.curve) for r in through
    ]


def test_a_study_goes_on_where_it_began_and_nowhere_else(tmp_path, url):
    _drive(tmp_path / "file", None, workers=1)
    with pytest.raises(StorageError, match=r"journal file.*Unset CRYO_OPTUNA_STORAGE"):
        Journal(tmp_path / "file" / "journal.log", study="s", database=url)
    base = tmp_path / "base"
    _drive(base, url)
    with pytest.raises(
        StorageError, match=r"in the database postgresql.*Set\s+CRYO_OPTUNA"
    ) as told:
        Journal(base / "journal.log", study="s")
    password = url.get_secret_value().split(":")[2].partition("@")[0]
    assert password not in str(told.value) + (base / MARKER).read_text()
    facts = json.loads((base / MARKER).read_text())
    (base / MARKER).write_text(json.dumps({**facts, "study": "s-lost"}))
    with pytest.raises(StorageError, match="does not hold it"):
        Journal(base / "journal.log", study="s", database=url)


def test_a_wrong_password_is_told_without_it(url):
    wrong = SecretStr(url.get_secret_value().replace("tester:", "tester:guessed-"))
    with pytest.raises(StorageError, match="password authentication failed") as told:
        require(wrong)
    assert "guessed" not in str(told.value)


def test_the_url_comes_from_the_environment_and_is_never_shown(tmp_path, monkeypatch):
    env = {"CRYO_OPTUNA_STORAGE": "postgresql://me:secret-word@host/db"}
    site = Site.from_env(env)
    assert "secret-word" not in repr(site) + str(site) + site.model_dump_json()
    assert Site.from_env({"CRYO_OPTUNA_STORAGE": ""}).optuna is None
    with pytest.raises(SpecError, match=r"PostgreSQL.*begins with 'sqlite:'"):
        Site.from_env({"CRYO_OPTUNA_STORAGE": "sqlite:///x.db"})
    for url in ("postgresql://[::1/x", "postgresql://host:many/x"):
        with pytest.raises(SpecError, match="no whole URL: its host or port cannot be read"):
            Site.from_env({"CRYO_OPTUNA_STORAGE": url})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"no password when a study is submitted.*pgpass"):
        command(Path("study.yaml"), site, address="", env=env)
    env = {"CRYO_OPTUNA_STORAGE": "postgresql://me@host/db"}
    words = command(Path("study.yaml"), Site.from_env(env), address="", env=env)
    assert "postgresql://me@host/db" in str(words)
