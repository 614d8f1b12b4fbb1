"""MLflow's own pages in a real browser: do they answer which rate won, and by how much?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from cryo_hpo.config import load_study
from cryo_hpo.report import gain_line
from cryo_hpo.results.study import load_result
from cryo_hpo.study.folder import SPEC
from cryo_hpo.study.verdict import experiment
from cryo_hpo.tracking import charts_of, experiment_pages, ui_command
from cryo_hpo.tracking.view import CHARTS, HEADING

from ..support.browser import open_browser
from ..support.clusters import BIN, answers, environment, free_ports, started, until
from ..support.tracked import tracked_study

pytestmark = pytest.mark.browser
PATIENCE_S = 180
# MLflow opens an assistant beside the page, which takes a third of it.
CLOSE_ASSISTANT = """
document.querySelectorAll('button[aria-label*="lose"]').forEach(button => button.click())
"""
PICTURES = os.environ.get("SCREENSHOTS")  # a folder: what the docs show is taken here
RECORDED = os.environ.get("STUDY")  # folder of a finished study to show, in place of a made-up one


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Open a browser."""
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, Any]]:
    """A server, and a finished study in it."""
    root = tmp_path_factory.mktemp("ui")
    (port,) = free_ports(1)
    storage = root if RECORDED is None else Path(RECORDED).absolute().parent
    words = (
        *(BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{storage / 'mlflow.db'}"),
        *("--artifacts-destination", storage / "mlartifacts"),
    )
    uri = f"http://127.0.0.1:{port}"
    with started(*words, env=environment(), log=root / "mlflow.log"):
        until(lambda: answers(f"{uri}/health") == 200, timeout_s=300)
        if RECORDED is None:
            yield (uri, *tracked_study(root / "study", uri))
        else:
            yield uri, load_study(Path(RECORDED) / SPEC), load_result(RECORDED)


def _text(page: Any) -> str:
    return str(page.execute_script("return document.body.innerText"))


def _wait(page: Any, *words: str) -> None:
    try:
        until(lambda: all(word in _text(page) for word in words), timeout_s=PATIENCE_S)
    except TimeoutError:
        pytest.fail(f"the page does not say {words}, but: {_text(page)[:3000]}")


def _picture(page: Any, name: str, tmp_path: Path) -> Path:
    path = Path(PICTURES or tmp_path) / f"{name}.png"
    assert page.save_screenshot(str(path))
    assert path.stat().st_size > 20_000, "a page with something on it"
    return path


def test_the_page_of_the_study_says_verdict_improvement_and_trainings(page, told, tmp_path):
    uri, study, result = told
    assert result.improvement is not None
    gain = f"{result.improvement.relative_pct.mid:.2f}"[:4]
    address = ui_command(uri, experiment=experiment(study), key=study.name)
    page.get(f"{address}?workflowType=machine_learning")
    seeds = len(result.arm("tuned").seeds)
    words = f"Improved: {seeds} of {seeds} repeats"
    _wait(page, study.name, words, "relative_improvement_pct", gain)
    _wait(page, "Child runs", "tuned-seed1", f"baseline-seed{seeds}")  # the rest at "Load more"
    page.execute_script(CLOSE_ASSISTANT)
    _picture(page, "mlflow-ui", tmp_path)


def test_the_table_of_runs_answers_without_a_click(page, told, tmp_path):
    """The study stands above its trainings: learning rate, state, best score, verdict, gain."""
    uri, study, result = told
    page.get(experiment_pages(uri)[experiment(study)])
    winner = f"trial-{result.winner:04}"
    _wait(page, study.name, "best_val_miou", winner, "tuned-seed1", "lakes-demo")
    _wait(page, "cryo.state", "pruned", "cryo.verdict", "improved", gain_line(result))
    _picture(page, "mlflow-table", tmp_path)


# The titles of axes are Plotly's, in SVG.
AXES = """
return [...document.querySelectorAll('svg text')].map(text => text.textContent).join('\\n')
"""


def test_the_charts_answer_without_a_click(page, told, tmp_path):
    """Score over learning rate, parallel coordinates and curves are there, of all runs."""
    uri, study, _ = told
    page.get(charts_of(experiment_pages(uri)[experiment(study)]))
    count = f"({len(CHARTS)})"
    _wait(page, HEADING, count, "lr vs. best_val_miou", "Parallel Coordinates", "val_miou")
    page.execute_script(CLOSE_ASSISTANT)
    until(
        lambda: {"lr", "best_val_miou"} <= set(page.execute_script(AXES).split("\n")), timeout_s=60
    )
    assert "No chart data available" not in _text(page)
    _picture(page, "mlflow-charts", tmp_path)


def test_the_page_that_compares_runs_begins_with_rate_and_score(page, told, tmp_path):
    """MLflow has no setting for it: it begins with the parameters that differ, by name."""
    uri, study, _ = told
    client = MlflowClient(uri)
    stored = client.get_experiment_by_name(experiment(study))
    assert stored is not None
    found = client.search_runs([stored.experiment_id], "tags.`cryo.kind` = 'search'", max_results=4)
    query = f"runs={json.dumps([run.info.run_id for run in found])}"
    page.get(f"{uri}/#/compare-runs?{query}&experiments={json.dumps([stored.experiment_id])}")
    _wait(page, "Parallel Coordinates Plot", "lr", "best_val_miou")
    _picture(page, "mlflow-compare", tmp_path)
