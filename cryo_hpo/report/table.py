"""Format tables of text as Markdown, HTML, LaTeX (booktabs), CSV and aligned plain text."""

from __future__ import annotations

import csv
import html as escaping
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MAX_CELL = 120  # characters of one cell; the CSV has the full text
# Source: LaTeX's special characters, L. Lamport, LaTeX, 2nd ed., section 2.1.1.
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_"},
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # beginnings of a spreadsheet's formula
TAG = re.compile(r"<(?=[A-Za-z/!?])")  # beginning of an HTML tag
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Hold a table as text.

    Attributes:
        head: Names of the columns.
        rows: Rows of as many cells as `head`.
        left: Number of text columns, which precede those of numbers.
        right: Number of number columns; None: all that follow.
        strong: Indices of rows to emphasize; negative ones count from the end.
    """

    head: Row
    rows: tuple[Row, ...]
    left: int = 0
    right: int | None = None
    strong: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        head: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        left: int = 0,
        right: int | None = None,
        strong: Sequence[int] = (),
    ) -> Table:
        """Make a table from any sequences."""
        body = tuple(tuple(row) for row in rows)
        assert {len(row) for row in body} <= {len(head)}, "one cell per column"
        stands_out = tuple(i % len(body) for i in strong if body)
        return cls(tuple(head), body, left, right, stands_out)

    @property
    def is_number(self) -> tuple[bool, ...]:
        """Whether each column holds numbers, which are right-aligned."""
        until = len(self.head) if self.right is None else self.left + self.right
        return tuple(self.left <= i < until for i in range(len(self.head)))


def markdown(table: Table) -> str:
    """Write a table as Markdown with aligned columns."""
    lines = [[_one_line(cell) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(table.head))]
    sides = table.is_number
    rule = ["-" * (w - 1) + ":" if n else "-" * w for w, n in zip(widths, sides, strict=True)]
    padded = [
        " | ".join(
            f"{c:{'>' if n else '<'}{w}}" for c, n, w in zip(line, sides, widths, strict=True)
        )
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {line} |" for line in padded)


def markdown_rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, not padded, whose cells are already Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def align_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as plain text, numbers right-aligned and text left-aligned."""
    table = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    right = [
        bool(rows) and all(_looks_like_number(row[i]) for row in rows) for i in range(len(head))
    ]
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in table
    )
    return "\n".join(lines)


def html(table: Table) -> str:
    """Write a table as HTML that scrolls sideways if wider than the page."""
    head = "".join(
        _cell("th", c, number=n) for c, n in zip(table.head, table.is_number, strict=True)
    )
    body = "\n".join(_html_rows(table))
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def latex(table: Table, *, caption: str = "", label: str = "") -> str:
    r"""Write a table as LaTeX for `\usepackage{booktabs}`.

    Args:
        table: Table to write.
        caption: Text above the table; if given, the table is a float of its own.
        label: Name for `\ref`.
    """
    columns = "".join("r" if n else "l" for n in table.is_number)
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row(table.head),
        r"\midrule",
        *(_latex_row(row, strong=i in table.strong) for i, row in enumerate(table.rows)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if caption:
        named = [rf"\label{{{label}}}"] if label else []
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(caption)}}}",
            *named,
            *lines,
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def csv_text(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Write values (not text) as CSV: a header, then a line for each row.

    Text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerows([_without_formula(cell) for cell in row] for row in (head, *rows))
    return text.getvalue()


def _without_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def plain(text: str) -> str:
    """Escape text for Markdown, so that names in it are no HTML; `code` stays as it is."""
    parts = text.split("`")
    return "`".join(p if i % 2 else TAG.sub("&lt;", p) for i, p in enumerate(parts))


def tex(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(SPECIAL.get(sign, sign) for sign in text.replace("`", ""))


def rich(text: str) -> str:
    """Return text as HTML; the only markup it may contain is `code`."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaping.escape(text, quote=False))


def _html_rows(table: Table) -> Iterator[str]:
    for number, row in enumerate(table.rows):
        cells = "".join(_cell("td", c, number=n) for c, n in zip(row, table.is_number, strict=True))
        strong = ' class="strong"' if number in table.strong else ""
        yield f"<tr{strong}>{cells}</tr>"


def _cell(tag: str, text: str, *, number: bool) -> str:
    side = ' class="n"' if number else ""
    return f"<{tag}{side}>{rich(text)}</{tag}>"


def _latex_row(row: Sequence[str], *, strong: bool = False) -> str:
    cells = [tex(_shortened(cell)) for cell in row]
    shown = [rf"\textbf{{{cell}}}" if strong and cell else cell for cell in cells]
    return " & ".join(shown) + r" \\"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_CELL else line[: MAX_CELL - 4] + " ..."


def _one_line(text: str) -> str:
    """Return text that fits one cell of a Markdown table."""
    return _shortened(" ".join(text.split()).replace("|", "\\|").replace("<", "&lt;"))


def _looks_like_number(cell: str) -> bool:
    return cell[:1] in "-+0123456789" if cell else True
