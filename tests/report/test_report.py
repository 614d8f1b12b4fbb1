"""The page and the figures that a study leaves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from cryo_hpo import report
from cryo_hpo.data import palette
from cryo_hpo.report import files as report_files
from cryo_hpo.report.figures import maps, search, style
from cryo_hpo.results.study import Result
from cryo_hpo.stats import Interval

from ..support.results import a_recipe, a_result, a_trial, an_arm, an_improvement

GOLDEN = Path(__file__).parents[1] / "golden" / "report.md"
PAGE = ["report.html", "report.md", "tables.tex", "scores.csv"]
FIGURES = ["paired-seeds", "lr-response", "curves", "class-iou"]
ALL = [
    *PAGE,
    "trials.csv",
    "lr-response.json",
    *(f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")),
]
NO_SEARCH: dict[str, Any] = {
    "winner": None,
    "trials": (),
    "arms": (an_arm("baseline", (0.7, 0.71, 0.7)),),
    "best_recipe": a_recipe(1e-4),
    "improvement": None,
}
CROWD = tuple(a_trial(1, number=n, lr=1e-5 * 1.2**n) for n in range(1, 40))
STUDIES: dict[str, Result] = {
    "usual": a_result(),
    "winner is baseline": a_result(winner=0, winner_is_baseline=True),
    "one learning rate": a_result(trials=(a_trial(0), a_trial(7, lr=1e-4))),
    "every score the same": a_result(trials=(a_trial(1), a_trial(1, number=2))),
    "all diverged": a_result(trials=(a_trial(10),)),
    "one failed": a_result(trials=(a_trial(0), a_trial(10, state="failed", message="killed"))),
    "a crowd": a_result(trials=(a_trial(0), *CROWD), winner=0, winner_is_baseline=True),
}


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw with few pixels: what is tested does not depend on them."""
    monkeypatch.setattr(style, "DPI", 40)


def test_the_page_is_as_agreed() -> None:
    """To accept a change, read it, then write `report.markdown(a_result())` to the golden file."""
    assert report.markdown(a_result()) == GOLDEN.read_text(encoding="utf-8")


def test_a_report_is_a_page_a_table_and_two_figures(tmp_path: Path) -> None:
    files = report.write(a_result(), tmp_path / "new" / "folder")
    assert [file.name for file in files] == ALL
    assert {file.parent for file in files} == {tmp_path / "new" / "folder"}
    page = files[1].read_text(encoding="utf-8")
    assert page == report.markdown(a_result())
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert shown
    assert {tmp_path / "new" / "folder" / name for name in shown} <= set(files)


@pytest.mark.parametrize(
    "name",
    [
        '<script>alert(1)</script>"><img src=x onerror=alert(2)>',
        '=HYPERLINK("http://x","y")\\input{/etc/passwd}',
        "water $\\foo{$ deep",
        "$50 ice at $60_ $",
    ],
)
def test_a_hostile_name_is_shown_and_never_run(tmp_path: Path, name: str, caplog) -> None:
    text = a_result().model_dump_json().replace('"lake"', json.dumps(name))
    assert json.dumps(name) in text, "a class has the name"
    files = {f.name: f for f in report.write(Result.model_validate_json(text), tmp_path)}
    assert set(ALL) <= files.keys()
    assert "cannot be drawn" not in caplog.text
    page = files["report.html"].read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "<img src=x" not in files["report.md"].read_text(encoding="utf-8")
    assert "\\input{" not in files["tables.tex"].read_text(encoding="utf-8")
    assert not re.search(r'(^|,)"?[=+@]', files["scores.csv"].read_text(encoding="utf-8"), re.M)


def test_a_figure_that_cannot_be_drawn_costs_the_figure(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    def fail(*_: object) -> list[Path]:
        message = "Glyph is missing"
        raise RuntimeError(message)

    monkeypatch.setitem(report_files.FIGURES, "curves", fail)
    names = [file.name for file in report.write(a_result(), tmp_path)]
    assert "report.html" in names
    assert "curves.svg" not in names
    assert "no figure 'curves': it cannot be drawn (Glyph is missing)" in caplog.text


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    first = report.write(a_result(), tmp_path / "a")
    second = report.write(a_result(), tmp_path / "b")
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]


@pytest.mark.parametrize("draw", [search.lr_response, search.curves])
def test_the_figures_depend_on_the_result(draw: Any, tmp_path: Path) -> None:
    one = draw(a_result(), tmp_path / "one")
    other = draw(a_result(trials=a_result().trials[:-1]), tmp_path / "other")
    assert one[0].read_bytes() != other[0].read_bytes()


@pytest.mark.parametrize("study", STUDIES)
def test_every_figure_shows_something(study: str, tmp_path: Path) -> None:
    result = STUDIES[study]
    drawn = search.lr_response(result, tmp_path / "x.y") + search.curves(result, tmp_path / "z")
    expected = 4 if any(trial.curve for trial in result.trials) else 2
    assert len(drawn) == expected
    assert {path.suffix for path in drawn} == {".svg", ".png"}
    for path in drawn:
        if path.suffix == ".png":
            pixels = imread(path)
            assert pixels.std() > 0.01
        else:
            assert "<dc:date>" not in path.read_text(encoding="utf-8")


def test_the_response_marks_what_happened_to_each_trial() -> None:
    with style.figure() as fig:
        ax = fig.add_subplot()
        search._points(ax, a_result())
        search._bottom_edge(ax, a_result().trials)
        marks = {
            str(m.get_label()).split(",")[0]: np.shape(m.get_offsets())[0] for m in ax.collections
        }
        epochs = sorted(text.get_text() for text in ax.texts)
    expected = {"winner (9.8e-4)": 1, "baseline": 1, "complete": 1}
    assert marks == {**expected, "pruned": 7, "diverged": 2}
    assert epochs == ["1", "1", "3", "3", "9", "9", "9"]


def test_a_crowd_is_not_numbered() -> None:
    with style.figure() as fig:
        ax = fig.add_subplot()
        search._points(ax, STUDIES["a crowd"])
        assert not ax.texts


def test_a_baseline_that_waited_is_hollow_and_says_where() -> None:
    trials = (a_trial(0, state="pruned", epochs=5), *a_result().trials[1:])
    with style.figure() as fig:
        ax = fig.add_subplot()
        search._points(ax, a_result(trials=trials))
        (square,) = (mark for mark in ax.collections if mark.get_label() == "baseline")
        assert (
            np.asarray(square.get_facecolor()).tolist()
            != np.asarray(square.get_edgecolor()).tolist()
        )
        assert "5" in {text.get_text() for text in ax.texts}


def test_a_study_without_a_search_has_no_figures(tmp_path: Path) -> None:
    files = report.write(a_result(**NO_SEARCH), tmp_path)
    assert [file.name for file in files] == PAGE
    page = files[1].read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)", page, re.MULTILINE) == [
        "Scores",
        "Classes",
        "Costs",
        "Provenance",
    ]
    assert "![" not in page


def test_the_page_begins_with_the_verdict() -> None:
    lost = an_improvement(typical_pct=Interval(-2.0, 1.0, 4.0, 0.95), verdict="not shown")
    page = report.markdown(a_result(improvement=lost))
    assert page.splitlines()[2].startswith("**No clear difference: 4 of 4 repeats (seeds) gain")
    assert "Improved" not in page


def test_a_winner_that_is_the_baseline_changes_nothing() -> None:
    page = report.markdown(a_result(winner=0, winner_is_baseline=True, best_recipe=a_recipe(1e-4)))
    assert "Winning recipe" not in page
    assert "0 (baseline, winner)" in page


def test_records_that_wait_for_delivery_are_told() -> None:
    assert "mlflow.pending" not in report.markdown(a_result())
    assert re.search(r"mlflow.pending +\| 3 ", report.markdown(a_result(mlflow_pending=3)))


def test_the_note_holds_verdict_and_seeds() -> None:
    text = report.note(a_result())
    assert text.startswith("**Improved: 4 of 4 repeats (seeds) gain")
    assert "(get-artifact?path=report%2Flr-response.png&run_uuid={run_id})" in text
    assert len(text) < 8000
    assert "|    2 |    70.51 | 81.51 |     +11.00 |" in text


def test_drawing_leaves_the_users_settings_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    search.curves(a_result(), tmp_path / "curves")
    assert dict(mpl.rcParams) == before


def test_the_html_page_is_alone_and_says_everything(tmp_path: Path) -> None:
    page = report.write(a_result(), tmp_path)[0].read_text(encoding="utf-8")
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|src=\"(?!data:)", page)
    assert page.count("<svg") == len(FIGURES)
    assert "Improved: 4 of 4 repeats (seeds) gain" in page
    assert '<p class="verdict improved">' in page
    titles = re.findall(r"<h2>(.+?)</h2>", page)
    assert titles[:2] == ["Scores", "Learning rate"]
    assert re.findall(r'<a href="#(.+?)"', page) == [t.lower().replace(" ", "-") for t in titles]
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "every name on the page is its own"
    wanted = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
    assert set(wanted) <= set(ids)
    for color in (style.INK, style.GREY, style.BLUE):
        assert color.lower() not in page.lower().split("</style>")[1], "dark pages exchange it"


def test_what_users_wrote_is_text_in_the_page(tmp_path: Path) -> None:
    nasty = a_result(study="a<script>b", trials=(a_trial(0, message="<img src=x>"), a_trial(7)))
    page = report.write(nasty, tmp_path)[0].read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page


def test_a_search_of_more_parameters_shows_them(tmp_path: Path) -> None:
    trials = tuple(
        a_trial(n, params={"optim.lr": a_trial(n).lr, "loss.name": ("ce", "dice")[n % 2]})
        for n in range(9)
    )
    result = a_result(trials=trials, importance={"optim.lr": 0.8, "loss.name": 0.2})
    names = {file.name for file in report.write(result, tmp_path)}
    assert {"importance.svg", "slices.svg", "parallel.svg"} <= names
    assert "Parameters" in report.markdown(result)
    assert "Parameters" not in re.findall(
        "## (.+)", (report.write(a_result(), tmp_path)[1]).read_text()
    )


def test_maps_are_drawn_where_they_were_kept(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[5:, 5:], mask[:, -1] = 1, 255
    kept: dict[str, Any] = {"scenes": np.array(["a", "b"]), "differences": np.array([0.2, -0.1])}
    for number in range(2):
        kept |= {f"{number}.image": mask, f"{number}.truth": mask}
        kept |= {f"{number}.{arm}": np.minimum(mask, 1) for arm in ("baseline", "tuned")}
    np.savez_compressed(tmp_path / "test-maps.npz", **kept)
    files = report.write(a_result(), tmp_path / "out", folder=tmp_path)
    assert "maps.svg" in {file.name for file in files}
    assert "largest gain" in files[0].read_text(encoding="utf-8")
    truth, baseline, tuned = (
        np.array([[0, 1, 1, 0, 255]]),
        np.array([[0, 1, 0, 1, 0]]),
        np.array([[0, 0, 1, 1, 0]]),
    )
    painted = maps._difference(*(each.astype(np.uint8) for each in (truth, baseline, tuned)))
    colors = [*maps.DIFFERENCE.values()]
    wanted = [colors[0], colors[2], colors[1], colors[3], palette.IGNORED]
    assert painted[0].tolist() == [list(palette.rgb(color)) for color in wanted]
