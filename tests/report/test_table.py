"""Tables in four formats: what goes in is what a reader of the format gets back."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.report import table as tables
from cryo_hpo.report.table import Table

TABLE = Table.of(
    ("arm", "mIoU", "why"), [("a_b", "70.1", "50 % & <b>"), ("mean", "71", "")], left=1, right=1,
    strong=[-1],
)  # fmt: skip
words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)


class Cells(HTMLParser):
    """Collects the text of every cell."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, _: object) -> None:
        if tag in ("td", "th"):
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1] += data.strip("\n")


def test_numbers_stand_right() -> None:
    assert TABLE.is_number == (False, True, False)
    assert tables.markdown(TABLE).splitlines()[1] == "| ---- | ---: | ------------- |"
    assert '<td class="n">70.1</td>' in tables.html(TABLE)
    assert r"\begin{tabular}{lrl}" in tables.latex(TABLE)


def test_latex_sees_letters_alone() -> None:
    text = tables.latex(TABLE, caption="10 % & more", label="tab:x")
    assert r"a\_b & 70.1 & 50 \% \& <b> \\" in text
    assert r"\textbf{mean} & \textbf{71} &  \\" in text
    assert r"\caption{10 \% \& more}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert tables.tex("{\\~^}") == r"\{\textbackslash{}\textasciitilde{}\textasciicircum{}\}"


@given(st.lists(st.tuples(words, words), max_size=4))
def test_html_and_csv_give_back_the_text(rows: list[tuple[str, str]]) -> None:
    rows = [(a.replace("`", ""), b.replace("`", "")) for a, b in rows]
    parser = Cells()
    parser.feed(tables.html(Table.of(("x", "y"), rows)))
    assert parser.found == ["x", "y", *(cell for row in rows for cell in row)]
    read = list(csv.reader(io.StringIO(tables.csv_text(("x", "y"), rows))))
    as_text = [tuple(f"'{c}" if c.startswith(tables.FORMULA) else c for c in row) for row in rows]
    assert [tuple(row) for row in read] == [("x", "y"), *as_text]


@pytest.mark.parametrize("cell", ['=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1"])
def test_no_cell_of_a_csv_is_a_formula(cell: str) -> None:
    (_, row) = csv.reader(io.StringIO(tables.csv_text(("x", "y"), [(cell, -1.5)])))
    assert row == [f"'{cell}", "-1.5"]


def test_a_name_in_markdown_is_no_html() -> None:
    assert tables.plain("<img src=x> and `a < b`") == "&lt;img src=x> and `a < b`"


def test_a_cell_stays_in_its_line() -> None:
    table = Table.of(("x",), [("a\nb | c" + "d" * 500,)])
    assert len(tables.markdown(table).splitlines()) == 3
    assert len(re.findall(r"\\\\", tables.latex(table))) == 2
