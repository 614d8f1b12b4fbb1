"""The shipped notebook runs from its first cell to its last, in a kernel of this interpreter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.config import list_shipped

pytestmark = pytest.mark.slow


def _outputs(cells: dict[str, Any], cell: str, kind: str) -> list[str]:
    """Return the outputs of a cell in one format."""
    data = (output.get("data", {}) for output in cells[cell]["outputs"])
    return [each[kind] for each in data if kind in each]


def test_the_quickstart_notebook_runs(tmp_path: Path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    kernels = tmp_path / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    argv = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (kernels / "kernel.json").write_text(f'{{"argv": {argv}, "display_name": "x"}}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    for name in ("DATA", "STORAGE", "CACHE"):
        monkeypatch.setenv(f"CRYO_{name}", str(tmp_path / name.lower()))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    notebook = nbformat.read(list_shipped("notebook")["quickstart"], as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    cells = {cell["id"]: cell for cell in notebook.cells}
    (table, *_) = [html for html in _outputs(cells, "study", "text/html") if "epochs done" in html]
    assert "trial-0003" in table
    assert "tuned-seed2" in table or "baseline-seed2" in table
    assert "epoch 1/5" not in "".join(o.get("text", "") for o in cells["study"]["outputs"]), (
        "a table, not lines"
    )
    (verdict,) = _outputs(cells, "verdict", "text/html")
    assert "<td" in verdict
    assert "Cost:" in verdict
    for cell in ("search", "maps"):
        assert _outputs(cells, cell, "image/png"), f"no figure below the cell '{cell}'"
