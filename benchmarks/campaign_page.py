"""Write a finished campaign into the docs: its figure, its tables, and its result in one sentence.

    python -m benchmarks.campaign_page runs/analogues

Draws docs/campaign-gains.png, and replaces what stands between the marks `<!-- campaign -->` and
`<!-- /campaign -->` of docs/real-studies.md and docs/campaign.md. All of it is computed from the
campaign's `campaign-result.json`.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryo_hpo import report
from cryo_hpo.report.answers import answers, headline
from cryo_hpo.report.campaign import GAINS, arranged
from cryo_hpo.report.table import Table, markdown
from cryo_hpo.report.wording import NONE
from cryo_hpo.results.campaign import CampaignResult, load_campaign_result

DOCS = Path(__file__).parents[1] / "docs"
FIGURE = "campaign-gains.png"
BEGIN, END = "<!-- campaign -->", "<!-- /campaign -->"
KEPT_OUT = "Provenance"  # section of the report that is of one machine


def write_pages(folder: Path, docs: Path = DOCS) -> list[Path]:
    """Write a campaign into both pages and draw its figure; return the files.

    Args:
        folder: Folder of a finished campaign.
        docs: Folder of the pages.
    """
    result = load_campaign_result(folder)
    with tempfile.TemporaryDirectory() as drawn:
        report.write_campaign(result, Path(drawn))
        (docs / FIGURE).write_bytes((Path(drawn) / f"{GAINS}.png").read_bytes())
        whole = (Path(drawn) / "report.md").read_text(encoding="utf-8")
    pages = {"real-studies.md": short_text(result), "campaign.md": long_text(whole)}
    for name, text in pages.items():
        _replace(docs / name, text)
    return [docs / FIGURE, *(docs / name for name in pages)]


def short_text(result: CampaignResult) -> str:
    """Return the answers, one table of fixed and tuned scores, and the figure."""
    search = sum(cell.epochs_search for cell in result.cells)
    grid = sum(cell.epochs_full_grid for cell in result.cells)
    hours = sum(cell.seconds for cell in result.cells) / 3600
    return "\n\n".join(
        [
            f"**{headline(result)}**",
            markdown(answers(result)).strip(),
            f"{search} epochs of search, where a grid takes {grid}; {hours:.2f} hours of training in sum.",
            markdown(_fixed_and_tuned(result)).strip(),
            f"![Relative improvement of every cell]({FIGURE})",
        ]
    )


def _fixed_and_tuned(result: CampaignResult) -> Table:
    """Return the mean test mIoU of every model on every dataset, fixed and tuned in one cell."""
    rows, datasets, fixed_MD = arranged(result, tuned=False)
    _, _, tuned_MD = arranged(result, tuned=True)
    body = [
        (row, *(_pair(a, b) for a, b in zip(fixed_MD[m], tuned_MD[m], strict=True)))
        for m, row in enumerate(rows)
    ]
    return Table.of(("test mIoU, fixed → tuned", *datasets), body, left=1)


def _pair(fixed: float, tuned: float) -> str:
    return NONE if fixed != fixed else f"{fixed:.2f} → {tuned:.2f}"  # nan: there is no such cell


def long_text(page: str) -> str:
    """Return a report's Markdown without its title and provenance, one level lower."""
    _, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    answer = re.split(r"^(?=## )", page, maxsplit=1, flags=re.MULTILINE)[0]
    lines = answer.strip().splitlines()
    body = "\n".join(lines[1:]).strip() if lines[0].startswith("# ") else answer.strip()
    kept = [
        f"#{section.strip()}" for section in sections if not section.startswith(f"## {KEPT_OUT}")
    ]
    return "\n\n".join([body, *kept]).replace(f"({GAINS}.png)", f"({FIGURE})")


def _replace(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page.

    Raises:
        ValueError: The page has no marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"'{page}' has no {BEGIN} and {END}: nothing was written to it. Add both.")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main(words: Sequence[str] | None = None) -> None:
    """Write the campaign that the command line names, and print the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of a finished campaign")
    parser.add_argument("--docs", type=Path, default=DOCS)
    asked = parser.parse_args(words)
    print(*write_pages(asked.folder, asked.docs), sep="\n")


if __name__ == "__main__":
    main()
