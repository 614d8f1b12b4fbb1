"""`cryo-hpo learn`: a portfolio of recorded tables and finished studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.results.portfolio import load_portfolio
from cryo_hpo.results.study import write

from ..support.results import a_result

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "data" / "lr_table.npz"


def test_a_recorded_table_becomes_lessons_with_their_source(tmp_path):
    out = tmp_path / "new" / "ours.json"
    done = CliRunner().invoke(main, ["learn", str(TABLE), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "10 lessons" in done.output
    lessons = load_portfolio(out).lessons
    assert {x.source.split()[0] for x in lessons} == {"lr_table.npz"}
    assert {x.steps for x in lessons} == {108}


def test_what_teaches_nothing_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no table")
    for source in (tmp_path / "x.npz", tmp_path / "nowhere"):
        done = CliRunner().invoke(main, ["learn", str(source), "--out", str(tmp_path / "p.json")])
        assert done.exit_code in (1, 2)
        assert source.name in done.output
        assert str(tmp_path) in done.output
    assert not (tmp_path / "p.json").exists()


def test_a_result_with_a_wrong_recipe_or_no_winner_is_named(tmp_path):
    recipe = {"optim": {"lr": 1e-4}, "epochs": 9}
    cases: dict[str, dict[str, Any]] = {
        "does not read: data: Field required": {"spec": {"base": recipe}},
        "does not read: optim.weight_decay": {
            "best_recipe": a_result().best_recipe | {"optim": {"lr": 1e-4, "weight_decay": -1}}
        },
        "lacks the trial that won": {"winner": 77},
        "or the baseline": {"trials": a_result().trials[1:]},
    }
    for words, changes in cases.items():
        write(a_result(**changes), tmp_path)
        done = CliRunner().invoke(main, ["learn", str(tmp_path), "--out", str(tmp_path / "p.json")])
        assert done.exit_code == 2, done.exception
        assert words in done.output
        assert "Leave it out" in done.output
    assert not (tmp_path / "p.json").exists()


def test_a_finished_study_teaches_the_values_of_its_winner(tmp_path):
    result = a_result()
    folder = tmp_path / "runs" / result.study
    folder.mkdir(parents=True)
    write(result, folder)
    out, env = tmp_path / "p.json", {"CRYO_STORAGE": str(tmp_path / "runs")}
    done = CliRunner().invoke(main, ["learn", result.study, "--out", str(out)], env=env)
    assert done.exit_code == 0, done.output
    (lesson,) = load_portfolio(out).lessons
    assert lesson.problem == result.dataset
    assert lesson.best["optim.lr"] == result.best_recipe["optim"]["lr"]
    winner, baseline = result.trials[result.winner or 0], result.trials[0]
    assert lesson.lead == round(winner.curve[3] - baseline.curve[3], 4)
    assert lesson.source.startswith(f"result.json of {result.study} ")
