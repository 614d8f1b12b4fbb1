"""A result shows itself in a notebook: HTML without anybody's markup, and axes of matplotlib."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes

import cryo_hpo
from cryo_hpo.errors import CryoError
from cryo_hpo.report.verdict import verdict_line
from cryo_hpo.results.study import write

from ..support.results import TEST, a_result


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    with mpl.rc_context({"backend": "agg"}):
        from matplotlib import pyplot as plt

        yield
        plt.close("all")


def test_the_html_has_verdict_repeats_and_costs():
    html = a_result()._repr_html_()
    assert f"<strong>{verdict_line(a_result())}</strong>" in html
    for seed, (before, after) in enumerate(zip(TEST["baseline"], TEST["tuned"], strict=True), 1):
        cells = [
            seed,
            f"{100 * before:.2f}",
            f"{100 * after:.2f}",
            f"+{100 * (after - before):.2f}",
        ]
        assert "".join(f'<td class="n">{cell}</td>' for cell in cells) in html
    assert "epochs of search" in html
    assert "proof (retraining on seeds)" in html


def test_names_in_the_html_are_escaped():
    nasty = "<img src=x onerror=alert(1)>"
    html = a_result(study=nasty, classes=(nasty, "ice", "lake"))._repr_html_()
    assert nasty not in html
    assert "&lt;img" in html


def test_a_result_without_a_comparison_has_html():
    html = a_result(arms=(), improvement=None, proof="none")._repr_html_()
    assert "Unproven" in html


def test_plots_return_axes_of_a_figure_that_notebooks_show():
    from matplotlib import pyplot as plt

    result = a_result()
    response = result.plot_lr_response()
    assert isinstance(response, Axes)
    assert response.get_xscale() == "log"
    assert plt.fignum_exists(plt.gcf().number)
    assert response.get_figure() is plt.gcf()
    pairs, intervals = result.plot_seeds()
    assert [t.get_text() for t in pairs.get_yticklabels()] == [f"seed {n}" for n in (1, 2, 3, 4)]
    assert "Relative improvement" in intervals.get_xlabel()


def test_a_backend_that_shows_every_figure_keeps_showing(monkeypatch):
    from matplotlib import pyplot as plt

    make = plt.figure

    def load_backend(**given: Any) -> Any:
        mpl.interactive(True)  # as a notebook's backend does when it is loaded
        return make(**given)

    monkeypatch.setattr(plt, "figure", load_backend)
    was = mpl.is_interactive()
    try:
        mpl.interactive(False)
        a_result().plot_lr_response()
        assert mpl.is_interactive()
    finally:
        mpl.interactive(was)


def test_what_cannot_be_drawn_says_why():
    with pytest.raises(CryoError, match="no search"):
        a_result(trials=(), winner=None).plot_lr_response()
    with pytest.raises(CryoError, match="no tuned recipe"):
        a_result(improvement=None).plot_seeds()
    with pytest.raises(CryoError, match="the baseline won its own search"):
        a_result(winner_is_baseline=True, improvement=None).plot_seeds()


def test_maps_are_those_of_the_result(tmp_path: Path, monkeypatch):
    result = a_result()
    folder = tmp_path / result.study
    folder.mkdir()
    monkeypatch.setenv("CRYO_STORAGE", str(tmp_path))
    with pytest.raises(CryoError, match=r"result\.json"):
        result.plot_maps()
    write(result, folder)
    with pytest.raises(CryoError, match="keeps no maps"):
        result.plot_maps()
    flat = np.zeros((4, 4), np.uint8)
    kept: dict[str, Any] = {f"0.{name}": flat for name in ("image", "truth", "baseline", "tuned")}
    np.savez(folder / "test-maps.npz", scenes=["a"], differences=[0.1], seed=1, **kept)
    axes = result.plot_maps()
    assert [ax.get_title() for ax in axes[0]] == [
        "image", "truth", "baseline", "tuned", "difference",
    ]  # fmt: skip
    assert result.plot_maps(folder).shape == (1, 5)
    with pytest.raises(CryoError, match="holds another result"):
        a_result(dataset="other").plot_maps()


def test_matplotlib_comes_with_the_first_view():
    code = (
        "import sys, cryo_hpo; cryo_hpo.Result.plot_maps; "
        "print('matplotlib' in sys.modules, 'IPython' in sys.modules)"
    )
    root = Path(cryo_hpo.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert run.stdout.split() == ["False", "False"], run.stderr
