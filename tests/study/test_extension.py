"""A finished study is extended without repeating anything, and says that it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.config import Site, Study, dump_study, load_study
from cryo_hpo.errors import CryoError, SpecError, StorageError
from cryo_hpo.report.evidence import evidence_notes
from cryo_hpo.results.extensions import Extension, name_tuned, read_extensions
from cryo_hpo.results.study import Result, load_result, write
from cryo_hpo.stats import Stopping
from cryo_hpo.study import extension
from cryo_hpo.study import folder as folders
from cryo_hpo.study.extension import Addition, extended_spec, keep_result
from cryo_hpo.study.own_result import own_result

from ..support.pool import a_study
from ..support.recorded import recorded_epochs
from ..support.results import a_result, an_improvement
from ..support.sandbox import Sandbox


def _result(**changes: Any) -> Result:
    """Return the finished study of `results`, with a spec that is whole."""
    study = a_study(**changes)
    return a_result(spec=study.model_dump(mode="json"), proof=study.proof)


def test_seeds_and_trials_are_added_to_the_spec() -> None:
    before = a_study(seeds=(1, 2, 3, 4), trials=12)
    after = extended_spec(_result(seeds=(1, 2, 3, 4), trials=12), Addition((7, 8), 4))
    assert after.seeds == (1, 2, 3, 4, 7, 8)
    assert after.search is not None
    assert after.search.trials == 16
    same = after.search.model_copy(update={"trials": 12})
    assert after.model_copy(update={"seeds": before.seeds, "search": same}) == before


def test_the_result_before_an_unfinished_extension_is_named(tmp_path: Path) -> None:
    with pytest.raises(CryoError, match=r"Run the study first\.$"):
        load_result(tmp_path)
    for name in ("result-2026-01-31.json", "result-2026-01-31-2.json"):
        write(_result(), tmp_path)
        (tmp_path / "result.json").rename(tmp_path / name)
    with pytest.raises(
        CryoError, match=r"The result from before its extension is '.*result-2026-01-31-2\.json'"
    ):
        load_result(tmp_path)
    assert load_result(tmp_path / "result-2026-01-31-2.json").study == _result().study


@pytest.mark.parametrize(
    ("study", "added", "message"),
    [
        ({}, {}, "Nothing is added"),
        ({}, {"seeds": (1,)}, "Seeds are repeated: 1"),
        ({}, {"seeds": (0,)}, "Seed 0 is base.seed"),
        ({}, {"trials": -1}, "must be positive"),
        ({}, {"at_most": 20}, "are a list, without a limit"),
        ({"seeds": {"at_most": 8}}, {"seeds": (9,)}, "--at-most 9"),
        ({}, {"proof": "full"}, "has a full comparison already"),
        ({"proof": "quick"}, {"seeds": (9,)}, "--proof full"),
        ({"seeds": {"at_most": 8}}, {"at_most": 8}, "can only be raised"),
    ],
)
def test_what_cannot_be_added_is_refused(
    study: dict[str, Any], added: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        extended_spec(_result(**study), Addition(**added))


def test_a_search_gets_the_comparison_that_it_lacked() -> None:
    for proof in ("none", "quick"):
        study = extended_spec(_result(proof=proof, seeds=(1, 2)), Addition((3,), proof="full"))
        assert (study.proof, study.comparison_seeds) == ("full", (1, 2, 3))


def test_a_decided_comparison_needs_no_further_pairs() -> None:
    stopped = an_improvement(stopped=Stopping(8, "improved"))
    result = _result(seeds={"at_most": 8}).model_copy(update={"improvement": stopped})
    with pytest.raises(SpecError, match="is decided"):
        extended_spec(result, Addition(at_most=16))
    open_one = an_improvement(stopped=Stopping(8, "undecided"))
    result = result.model_copy(update={"improvement": open_one})
    assert extended_spec(result, Addition(at_most=16)).stops_when_decided


def _finished(path: Path) -> tuple[Result, Study]:
    before = a_study(seeds=(1, 2, 3, 4))
    result = _result(seeds=(1, 2, 3, 4)).model_copy(update={"study": before.name})
    write(result, path)
    (path / "study.yaml").write_text(dump_study(before))
    (path / "report").mkdir()
    (path / "report" / "report.md").write_text("earlier")
    return result, extended_spec(result, Addition((7,)))


def test_the_earlier_result_is_kept_under_a_dated_name(tmp_path: Path) -> None:
    result, study = _finished(tmp_path)
    kept = keep_result(result, tmp_path, study, Addition((7,)))
    assert not (tmp_path / "result.json").exists()
    assert load_result(kept) == result
    (extension,) = read_extensions(tmp_path)
    assert (extension.kept, extension.seeds, extension.former_winner) == (kept.name, (7,), 7)
    assert extension.date in kept.name
    assert load_study(tmp_path / "study.yaml") == study
    ending = kept.stem.removeprefix("result")
    assert (tmp_path / f"report{ending}" / "report.md").read_text() == "earlier"
    again = result.model_copy(update={"mlflow_pending": 3})
    write(again, tmp_path)
    second = keep_result(again, tmp_path, study, Addition(trials=2))
    assert second != kept
    assert [load_result(file) for file in (kept, second)] == [result, again]


def test_an_extension_that_was_cut_short_begins_anew(tmp_path: Path) -> None:
    result, study = _finished(tmp_path)
    text = (tmp_path / "result.json").read_text()
    keep_result(result, tmp_path, study, Addition((7,)))
    (tmp_path / "result.json").write_text(text)  # killed before the last step
    keep_result(result, tmp_path, study, Addition((7,)))
    assert len(read_extensions(tmp_path)) == 1
    assert len(list(tmp_path.glob("result-*.json"))) == 1


def test_the_same_command_resumes_an_extension_that_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lakes").mkdir()
    result, study = _finished(tmp_path / "lakes")
    keep_result(result, tmp_path / "lakes", study, Addition((7,)))
    resumed: list[Path] = []

    def run_study(spec: Path, *_: Any, **__: Any) -> Result:
        resumed.append(spec)
        return result

    monkeypatch.setattr(extension, "run_study", run_study)
    monkeypatch.setenv("CRYO_STORAGE", str(tmp_path))
    done = CliRunner().invoke(main, ["extend", "lakes", "--seeds", "7"])
    assert done.exit_code == 0, done.output
    assert "has begun this extension, and goes on" in done.output
    assert resumed == [tmp_path / "lakes" / "study.yaml"]
    other = CliRunner().invoke(main, ["extend", "lakes", "--seeds", "8"])
    assert other.exit_code == 2
    assert "`cryo-hpo resume lakes` first" in other.output


def test_an_extension_that_was_killed_before_its_last_step_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lakes"
    folder.mkdir()
    result, study = _finished(folder)
    result = result.model_copy(update={"study": "lakes"})
    text = (folder / "result.json").read_text()
    keep_result(result, folder, study, Addition((7,)))
    (folder / "result.json").write_text(text)  # the spec is the extended one by now
    driven: list[Study] = []

    def drive(study: Study, *_: Any, **__: Any) -> Result:
        assert not (folder / "result.json").exists()
        driven.append(study)
        return result

    monkeypatch.setattr(extension, "drive", drive)
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    with pytest.raises(StorageError, match="Give the same `cryo-hpo extend` command again"):
        own_result(study, folder)
    with pytest.raises(StorageError, match="was cut short"):
        extension.extend_study("lakes", site, seeds=(8,))
    assert driven == []
    assert extension.extend_study("lakes", site, seeds=(7,)) == result
    assert driven == [study]
    assert len(read_extensions(folder)) == 1


def test_no_other_driver_gets_in_between_the_kept_result_and_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lakes").mkdir()
    result, _ = _finished(tmp_path / "lakes")
    refused: list[str] = []

    def drive(study: Study, *_: Any, **__: Any) -> Result:
        assert not (tmp_path / "lakes" / "result.json").exists()
        assert study.seeds == (1, 2, 3, 4, 7)
        with pytest.raises(StorageError) as error, folders.driving(tmp_path / "lakes"):
            pass
        refused.append(str(error.value))
        return result

    for name, stand_in in {
        "drive": drive,
        "check": lambda *_, **__: [],
        "DataGuard": Mock(),
    }.items():
        monkeypatch.setattr(extension, name, stand_in)
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    assert extension.extend_study("lakes", site, seeds=(7,)) == result
    assert len(refused) == 1
    assert "One driver at a time" in refused[0]


def _extension(former: int | None, **changes: Any) -> Extension:
    fields = {"date": "2026-11-26", "kept": "result-2026-11-26.json", "former_verdict": "not shown"}
    return Extension(**{**fields, "former_winner": former, **changes})


def test_every_winner_has_trainings_of_its_own() -> None:
    assert name_tuned(3, ()) == "tuned"
    assert name_tuned(3, [_extension(3)]) == "tuned"
    assert name_tuned(9, [_extension(3)]) == "tuned-trial-0009"
    assert name_tuned(3, [_extension(3), _extension(9)]) == "tuned"
    assert name_tuned(5, [_extension(0)]) == "tuned", "the baseline had won, and no other"


def _notes(result: Result) -> str:
    return " ".join(evidence_notes(result))


def test_the_report_says_what_was_added_and_what_a_second_look_costs() -> None:
    seeds = _notes(a_result(extensions=(_extension(7, seeds=(7, 8)),)))
    assert "Extended on 2026-11-26 by the seeds 7, 8, after an earlier result" in seeds
    assert "kept in `result-2026-11-26.json`" in seeds
    assert "second chance" in seeds
    same = _notes(a_result(extensions=(_extension(7, trials=4),)))
    assert "still trial 7" in same
    assert "second chance" not in same, "no score of the test split was added"
    changed = _notes(a_result(extensions=(_extension(4, trials=4),)))
    assert "changed from trial 4 to trial 7" in changed
    assert "second chance" in changed
    rule = an_improvement(stopped=Stopping(16, "improved"))
    any_looks = _notes(a_result(improvement=rule, extensions=(_extension(7, at_most=16),)))
    assert "keeps its level" in any_looks
    assert "second chance" not in any_looks
    assert "Extended" not in _notes(a_result())


def test_only_a_finished_study_is_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYO_STORAGE", str(tmp_path))
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "study.yaml").write_text("name: open")
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "campaign.yaml").write_text("name: grid")
    for name, words in {
        "none": "There is no study 'none'",
        "open": "`cryo-hpo resume open` first",
        "grid": "A campaign cannot be extended",
        "grid.cell": "A campaign cannot be extended",
    }.items():
        said = CliRunner().invoke(main, ["extend", name, "--seeds", "7"])
        assert said.exit_code == 2
        assert words in said.output
    assert "not a list" in CliRunner().invoke(main, ["extend", "open", "--seeds", "x"]).output


def _extend(sandbox: Sandbox, name: str, storage: str, *words: str) -> Result:
    done = CliRunner().invoke(
        main,
        ["extend", name, "--inline", *words],
        env=sandbox.places(storage),
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    return load_result(sandbox.root / storage / name)


@pytest.mark.slow
def test_an_extended_study_equals_one_that_had_its_seeds_and_trials_from_the_start(
    tmp_path: Path,
) -> None:
    sandbox = Sandbox(tmp_path)
    fields = json.loads(sandbox.study("x", rule="none").model_dump_json())
    base, search = {**fields["base"], "epochs": 2}, fields["search"]
    small = sandbox.study("grown", base=base, search={**search, "trials": 2}, seeds=(1,))
    sandbox.run(small, "part")
    folder = tmp_path / "part" / "grown"
    first, scored = load_result(folder), (folder / "test-scores.json").read_text()
    grown = _extend(sandbox, "grown", "part", "--seeds", "2")
    assert _scores(first).items() <= _scores(grown).items()
    assert (
        json.loads(scored).items() <= json.loads((folder / "test-scores.json").read_text()).items()
    )
    assert load_result(folder / grown.extensions[0].kept).digest == first.digest
    assert "Extended on" in (folder / "report" / "report.md").read_text()

    more = _extend(sandbox, "grown", "part", "--trials", "1")
    whole = sandbox.study("grown", base=base, search={**search, "trials": 3}, seeds=(1, 2))
    sandbox.run(whole, "whole")
    wanted = load_result(tmp_path / "whole" / "grown")
    assert [(t.params, t.curve) for t in more.trials] == [
        (t.params, t.curve) for t in wanted.trials
    ]
    assert more.winner == wanted.winner
    assert _scores(more) == _scores(wanted)
    epochs = recorded_epochs(folder)
    assert len(epochs) == len(set(epochs)), "nothing is trained twice"


def _scores(result: Result) -> dict[tuple[str, int], float]:
    return {(arm.name, s.seed): s.test_miou for arm in result.arms for s in arm.seeds}
