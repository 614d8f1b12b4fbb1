"""The pages' tables and the picture of a campaign come from its recorded result, by one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.campaign_page import BEGIN, DOCS, END, FIGURE, main
from cryo_hpo.report.answers import headline
from cryo_hpo.report.campaign import gains
from cryo_hpo.results.campaign import write

from ..support.campaigns import a_campaign_result

PAGES = ("real-studies.md", "campaign.md")


@pytest.fixture(name="campaign")
def _campaign(tmp_path: Path) -> Path:
    """Folder of a finished campaign, beside copies of the pages."""
    (tmp_path / "docs").mkdir()
    for name in PAGES:
        (tmp_path / "docs" / name).write_text((DOCS / name).read_text())
    (tmp_path / "camp").mkdir()
    write(a_campaign_result(), tmp_path / "camp")
    return tmp_path / "camp"


def test_a_command_writes_the_tables_and_draws_the_picture(campaign: Path) -> None:
    docs = campaign.with_name("docs")
    main([str(campaign), "--docs", str(docs)])
    result = a_campaign_result()
    for name in PAGES:
        before, after = (DOCS / name).read_text(), (docs / name).read_text()
        assert after.count(BEGIN) == after.count(END) == 1
        block = after.split(BEGIN)[1].split(END)[0]
        assert headline(result) in block
        assert "| tuned against fixed learning rate | " in block
        assert f"![Relative improvement of every cell]({FIGURE})" in block
        outside = [
            text.split(mark)[i] for text in (before, after) for mark, i in ((BEGIN, 0), (END, 1))
        ]
        assert outside[:2] == outside[2:], "only what stands between the marks is replaced"
    short = (docs / "real-studies.md").read_text()
    assert "| unet                     | 51.00 → 61.00 | 40.00 → 45.00 |" in short
    assert "120 epochs of search, where a grid takes 288; 2.00 hours of training in sum." in short
    long = (docs / "campaign.md").read_text()
    for title in ("Answers", "Fixed learning rate", "Tuned", "Cells", "Transfer", "Costs"):
        assert f"\n### {title}\n" in long
    assert "Provenance" not in long
    (png, *_) = (file for file in gains(result, campaign / "own") if file.suffix == ".png")
    assert (docs / FIGURE).read_bytes() == png.read_bytes()


def test_the_same_campaign_changes_nothing_a_second_time(campaign: Path) -> None:
    docs = campaign.with_name("docs")
    main([str(campaign), "--docs", str(docs)])
    first = [(docs / name).read_text() for name in PAGES]
    main([str(campaign), "--docs", str(docs)])
    assert [(docs / name).read_text() for name in PAGES] == first


def test_a_page_without_marks_is_refused(campaign: Path) -> None:
    page = campaign.with_name("docs") / "campaign.md"
    page.write_text("# Nothing\n")
    with pytest.raises(ValueError, match="has no <!-- campaign -->"):
        main([str(campaign), "--docs", str(page.parent)])
    assert page.read_text() == "# Nothing\n"
