"""The commands of the README and of the pages on studies run, its links lead somewhere, its Python works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from cryo_hpo.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
STUDIES = (ROOT / "docs" / "studies.md").read_text()
REAL = (ROOT / "docs" / "real-studies.md").read_text()
WAY_IN = (ROOT / "docs" / "datasets.md").read_text().split("## From a folder to a study")[1]
WAY_IN = WAY_IN.split("\n## ")[0]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]

# Commands that a test of their own runs, or the continuous integration itself.
ELSEWHERE = {
    "make quickstart": ".ci/run",
    "make test-all": "tests/test_layers.py",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make bench": "tests/benchmarks/test_benchmarks.py",
    "ray job submit": "tests/execution/test_job_submit.py",
    "cryo-hpo submit": "tests/cluster/test_submit.py",
    "cryo-hpo init": "tests/cli/test_init.py",
    "cryo-hpo data rasterize": "tests/cli/test_init.py",
    "cryo-hpo data get": "tests/data/test_real_sets.py",
    "cryo-hpo run": "tests/study/test_run.py",
    "cryo-hpo stop": "tests/cli/test_status.py",
    "cryo-hpo resume": "tests/campaign/test_run.py",
    "cryo-hpo report": "tests/cli/test_main.py",
    "cryo-hpo extend": "tests/study/test_extension.py",
    "cryo-hpo compare": "tests/results/test_comparison.py",
    "cryo-hpo predict": "tests/prediction/test_outlines.py",
    "CRYO_DATA=~/data CRYO_WEIGHTS=~/weights cryo-hpo run": "tests/study/test_real_studies.py",
}


def _commands(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


COMMANDS = list(dict.fromkeys(_commands(README + STUDIES + REAL + WAY_IN)))


def _elsewhere(command: str) -> str | None:
    return next((file for start, file in ELSEWHERE.items() if command.startswith(start)), None)


def test_the_readme_and_the_way_in_with_own_data_are_a_screen_each():
    assert len(README.splitlines()) <= 75
    assert len(WAY_IN.splitlines()) <= 45


def test_the_readme_has_commands():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", [c for c in COMMANDS if _elsewhere(c)])
def test_a_command_run_elsewhere_stands_there(command):
    file = ROOT / str(_elsewhere(command))
    words = [word for word in command.split() if "=" not in word]
    key = words[1] if words[0] in ("make", "cryo-hpo") else "submit"
    assert key in file.read_text(), f"{file.name} does not run '{command}'"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Generate small scenes, and the MLflow database that the commands before `ui` would have left."""
    from mlflow import MlflowClient

    from cryo_hpo.data.synthetic.generate import generate

    folder = tmp_path_factory.mktemp("readme")
    (folder / "runs").mkdir()
    MlflowClient(f"sqlite:///{folder}/runs/mlflow.db").search_experiments()
    generate("lakes-demo", folder / "data", scenes={"train": 8, "val": 4, "test": 4}, size=64)
    names = {"CRYO_DATA": "data", "CRYO_STORAGE": "runs", "CRYO_CACHE": "cache"}
    return {name: str(folder / path) for name, path in names.items()}


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if not _elsewhere(c)])
def test_a_command_of_the_readme_runs(command, scenes, monkeypatch):
    program, *words = shlex.split(command)
    assert program == "cryo-hpo", f"'{command}' is run by no test"
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(main, words, env=scenes)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip()


def test_the_python_of_the_page_on_studies_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.*?)```", STUDIES, flags=re.DOTALL)
    exec(compile(block, "studies.md", "exec"), {})
    assert "optim.weight_decay" in capsys.readouterr().out


def test_the_study_in_the_page_is_the_shipped_one():
    (block,) = re.findall(r"```yaml\n(.*?)```", STUDIES, flags=re.DOTALL)
    assert block in (ROOT / "search_spaces" / "studies" / "quickstart.yaml").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_verdict_that_the_page_on_the_report_explains_is_the_quickstarts():
    page = (ROOT / "docs" / "report.md").read_text()
    quoted = " ".join(line[2:] for line in page.splitlines() if line.startswith("> "))
    assert quoted.startswith("Improved: ")
    assert quoted in README
