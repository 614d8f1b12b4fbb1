"""A study in a notebook is one table that is updated in place, from the events of the terminal."""

from __future__ import annotations

import io
import re
import sys
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from cryo_hpo.monitoring.notebook import NotebookTable
from cryo_hpo.monitoring.terminal import Progress

Shown = list[tuple[str, str]]  # display or update, and the HTML


@pytest.fixture
def shown(monkeypatch) -> Shown:
    """Replaces IPython's display, and returns what it was given."""
    calls: Shown = []

    class Handle:
        def update(self, html: str) -> None:
            calls.append(("update", html))

    def display(html: str, *, display_id: bool) -> Handle:
        assert display_id
        calls.append(("display", html))
        return Handle()

    module: Any = ModuleType("IPython.display")
    module.display, module.HTML = display, str
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return calls


def _texts(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_a_study_is_one_table_that_is_updated(shown: Shown):
    console = Console(force_jupyter=True, file=io.StringIO())
    progress = Progress(console=console)
    with progress:
        progress._show("", {"event": "started", "key": "trial-0000", "lr": 1e-4, "epochs": 9})
        score = {"val_miou": 0.5, "best_val_miou": 0.625, "train_loss": 0.25}
        progress._show("", {"event": "epoch", "key": "trial-0000", "epoch": 3, **score})
        progress._show("", {"event": "paused", "key": "trial-0000", "epoch": 3})
    progress.still("scoring the test split")
    assert [kind for kind, _ in shown] == ["display", "update", "update", "update"]
    assert "scoring the test split" in shown[-1][1]
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    assert "1 epochs done, time left not known yet" in shown[-1][1]
    assert _texts(shown[-1][1]) == [
        ["trial", "lr", "epoch", "best val mIoU", "state"],
        ["trial-0000", "1.00e-04", "3/9", "62.50", "paused"],
    ]


def test_names_are_escaped(shown: Shown):
    table = NotebookTable({"trial": "left"})
    table.update("<b>", [("<script>",)])
    assert _texts(shown[0][1]) == [["trial"], ["&lt;script&gt;"]]
    assert "<p>&lt;b&gt;</p>" in shown[0][1]


def test_elsewhere_nothing_is_displayed_and_ipython_is_not_imported(shown: Shown):
    out = io.StringIO()
    progress = Progress(console=Console(file=out))
    with progress:
        progress._show("", {"event": "started", "key": "trial-0000", "lr": 1e-4, "epochs": 9})
    assert shown == []
    assert out.getvalue() == "trial-0000  lr 0.0001  started\n"
