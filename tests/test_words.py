"""One word for one state of a trial: docs/decisions/0009 has the list, everything else uses it."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from rich.console import Console

from cryo_hpo import report
from cryo_hpo.monitoring.terminal import Progress
from cryo_hpo.report import wording
from cryo_hpo.report.files import FIGURES
from cryo_hpo.results import lr_response
from cryo_hpo.results.study import Decision, Result, TrialResult
from cryo_hpo.search import trials
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study.status import read_trainings
from cryo_hpo.tracking.calls import STATUS, calls_of

from .support.campaigns import a_campaign_result
from .support.results import TRIALS, a_result

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "decisions" / "0009-one-word-per-state.md").read_text()
STATES = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
DECISIONS = re.findall(r"`(\w+)`", PAGE.split("Decisions at a rung:")[1].split("\n\n")[0])
ENDS = set(STATES) - {"running", "interrupted", "paused"}
# Words that people use for these states elsewhere. "Ended" is any of the final ones.
OTHERS = (
    "abandoned|aborted|canceled|completed|crashed|culled|discarded|dropped|early[- ]stopped|"
    "eliminated|finished|halted|killed|rejected|stopped|succeeded|successful|suspended|terminated|waiting"
)
SYNONYM = re.compile(
    rf"\b(?:{OTHERS}) (?:trial|training)s?\b|"
    rf"\b(?:trial|training)s?(?: (?:that|which|is|are|was|were|has|have|had|been))+ (?:{OTHERS})\b",
    re.IGNORECASE,
)
# In a figure the word stands alone, so any of the others is one too many.
ALONE = re.compile(rf"\b(?:{OTHERS})\b", re.IGNORECASE)
PAGES = [
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "cluster/README.md")),
    ROOT / "search_spaces" / "README.md",
]
# Modules whose texts users read: help, terminal, report, fields of files, MLflow.
SHOWN = [
    file
    for room in ("cli", "monitoring", "report", "results", "tracking", "config")
    for file in (ROOT / "cryo_hpo" / room).rglob("*.py")
]


def test_the_list_has_the_states_of_the_code_and_of_contributing() -> None:
    listed = (
        (ROOT / "CONTRIBUTING.md").read_text().split("| state of a trial |")[1].split("\n\n")[0]
    )
    assert re.findall(r"^\| `(\w+)` \|", listed, flags=re.MULTILINE) == STATES
    assert set(get_args(Decision)) == set(DECISIONS)
    written = get_args(TrialResult.model_fields["state"].annotation)
    assert set(written) == set(STATUS) == ENDS
    assert set(get_args(trials.State)) == ENDS | {"running"}
    curve = lr_response.Point.model_fields["state"].annotation
    assert set(get_args(curve)) == ENDS


@pytest.mark.parametrize("table", [wording.trials, wording.rungs])
def test_the_report_uses_the_words(table: Any) -> None:
    sheet = table(a_result())
    column = sheet.head.index("state" if "state" in sheet.head else "fate")
    shown = {row[column].split()[0] for row in sheet.rows}
    assert shown == {state for *_, state in TRIALS.values()}
    assert shown <= set(STATES)


def _event(name: str, /, **facts: Any) -> dict[str, Any]:
    now = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    return {"event": name, "time": now, "study": "s", "key": "trial-0001", **facts}


def _log(state: str) -> list[dict[str, Any]]:
    """Return the events after which a training is in a state."""
    tags = {"cryo.state": "running"}
    begun = _event("started", name="t", lr=1e-3, epochs=3, tags=tags, params={})
    last = {
        "running": [],
        "interrupted": [_event("interrupted")],
        "paused": [_event("paused", epoch=1)],
    }
    ended = [_event("ended", state=state, message="", epochs=3, seconds=1.0)]
    return [begun, *last.get(state, ended)]


@pytest.mark.parametrize("state", STATES)
def test_mlflow_and_the_command_line_say_the_state_of_the_log(state: str) -> None:
    calls = [call for event in _log(state) for call in calls_of(event)]
    tags = [call["tags"] for call in calls if call.get("tags")]
    assert tags[-1]["cryo.state"] == state, "the last word that MLflow gets"
    (training,) = read_trainings(_log(state), is_driven=state == "running")
    assert training.state == state, "cryo-hpo status NAME"


@pytest.mark.parametrize("state", [*sorted(ENDS), "paused"])
def test_the_terminal_says_the_state(state: str, tmp_path: Path) -> None:
    text = io.StringIO()
    log = EventLog(tmp_path / "events.jsonl")
    with closing(log):
        Progress(console=Console(file=text, width=200)).follow(log)
        for event in _log(state):
            facts = {name: fact for name, fact in event.items() if name not in ("event", "time")}
            log.append(event["event"], **facts)
    assert re.search(rf"trial-0001 .*\b{state}\b", text.getvalue())


def _texts(file: Path) -> Iterator[tuple[int, str]]:
    if file.suffix == ".md":
        yield from enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())


@pytest.mark.parametrize("file", [*PAGES, *SHOWN], ids=lambda file: str(file.relative_to(ROOT)))
def test_no_text_has_another_word_for_a_state(file: Path) -> None:
    used = [f"line {line}: {m[0]}" for line, text in _texts(file) for m in SYNONYM.finditer(text)]
    assert not used, f"{file}: the states are {', '.join(STATES)}"


def _drawn(folder: Path) -> dict[str, set[str]]:
    """Return figure -> its texts: titles, labels of axes and ticks, legends, notes."""
    tag = "{http://www.w3.org/2000/svg}text"
    return {
        file.stem: {"".join(e.itertext()) for e in ElementTree.parse(file).iter(tag)}
        for file in folder.glob("*.svg")
    }


def _of_two_parameters() -> Result:
    whole = a_result(importance={"optim.lr": 0.8, "loss.name": 0.2})
    losses = ("ce", "dice")
    trials = tuple(
        trial.model_copy(update={"params": {**trial.params, "loss.name": losses[trial.number % 2]}})
        for trial in whole.trials
    )
    return whole.model_copy(update={"trials": trials})


def test_figures_use_the_words(tmp_path: Path) -> None:
    kept: dict[str, Any] = {"scenes": np.array(["a"]), "differences": np.array([0.1])}
    panels = [f"0.{name}" for name in ("image", "truth", "baseline", "tuned")]
    kept |= dict.fromkeys(panels, np.zeros((9, 9), "u1"))
    np.savez(tmp_path / "test-maps.npz", **kept)
    with mpl.rc_context({"svg.fonttype": "none"}):
        report.write(_of_two_parameters(), tmp_path / "study", folder=tmp_path)
        report.write_campaign(a_campaign_result(), tmp_path / "campaign")
    figures = {**_drawn(tmp_path / "study"), **_drawn(tmp_path / "campaign")}
    assert set(FIGURES) | {"maps", "gains"} <= set(figures)
    assert all(figures.values())
    others = {
        name: [text for text in texts if ALONE.search(text)] for name, texts in figures.items()
    }
    assert not any(others.values()), others
    ends = {state for *_, state in TRIALS.values()}
    shown = " ".join(figures["lr-response"])
    assert {state for state in ENDS if re.search(rf"\b{state}\b", shown)} == ends
    named = {text for texts in figures.values() for text in texts}
    assert {"baseline", "tuned", "Learning rate", "Epoch", "Test mIoU (%)", "no label"} <= named


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("a killed trial", True),
        ("trials that were stopped", True),
        ("the training is finished", True),
        ("trials that ended, pruned trials, a complete training", False),
    ],
)
def test_another_word_is_recognized(text: str, others: bool) -> None:
    assert bool(SYNONYM.search(text)) == others
