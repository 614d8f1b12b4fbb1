"""The pages for developers name files that exist, and the floors that the architecture test holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cryo_hpo.cli.main import main
from cryo_hpo.data.palette import class_color, rgb

from .test_architecture import FLOORS, PACKAGE

ROOT = Path(__file__).parents[1]
OLD_PATHS = {"spec", "specfile"}
FLOOR_SETS = [rooms - OLD_PATHS for rooms in FLOORS]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
PAGES = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md", *DECISIONS]


def test_the_page_has_the_floors_of_the_test():
    (table,) = re.findall(r"<!-- floors -->\n(.*?)<!-- /floors -->", PAGE, flags=re.DOTALL)
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", table, flags=re.MULTILINE)
    floors = {int(number): set(re.findall(r"`(\w+)`", rooms)) for number, rooms in rows}
    assert floors == dict(enumerate(FLOOR_SETS))


def test_the_picture_has_the_floors_of_the_test():
    """`make architecture` draws it again."""
    with Image.open(ROOT / "docs" / "architecture.png") as picture:
        floors = json.loads(picture.info["Description"])
    assert floors == [sorted(rooms) for rooms in FLOOR_SETS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_a_page_exist(page):
    named = re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+)?)`", page.read_text())
    shipped = [name for name in named if name.endswith((".py", "/")) and "NAME" not in name]
    inside = {path.name for path in PACKAGE.iterdir()} | {path.name for path in ROOT.iterdir()}
    missing = [
        name
        for name in shipped
        if name.split("/")[0] in inside
        and not (PACKAGE / name).exists()
        and not (ROOT / name).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_has_its_four_parts(page):
    parts = re.findall(r"^## (.*)$", page.read_text(), flags=re.MULTILINE)
    assert parts == ["Context", "Decision", "What was measured", "Consequences"]


def test_every_decision_is_in_the_list():
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text()
    assert all(f"]({page.name})" in listed for page in DECISIONS)
    assert len(DECISIONS) > 7


def test_every_fault_of_the_reliability_page_names_its_tests():
    """A layer in parentheses is that of the file's tests; a fault without a test is under "Not promised"."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")]
    faults = [row for row in rows if row[0].strip() != "Fault"]
    assert len(faults) > 40
    for row in faults:
        assert len(row) == 4, row[0]
        assert row[1].strip(), row[0]
        assert row[3].strip(), row[0]
        named = re.findall(r"`(tests/[\w/]+\.py)`(?: \((\w+))?", row[2])
        assert named, f"no test of: {row[0]}"
        for name, layer in named:
            assert (ROOT / name).is_file(), name
            assert not layer or f"pytest.mark.{layer}" in (ROOT / name).read_text(), (name, layer)


SHOWN = {
    (page, (page.parent / name).resolve())
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
}
SECTION = (ROOT / "CONTRIBUTING.md").read_text().partition("## Pictures\n")[2].partition("\n## ")[0]
DRAWN = {  # picture -> command
    (ROOT / name).resolve(): row.split("|")[2].strip()
    for row in SECTION.splitlines()
    for name in re.findall(r"`(docs/[^`]+\.png)`", row.split("|")[1] if "|" in row else "")
}


def test_every_picture_of_a_page_exists_and_has_a_command():
    assert len(SHOWN) > 10
    pictures = {picture for _, picture in SHOWN}
    assert all(picture.is_file() for picture in pictures)
    assert pictures == set(DRAWN) == set((ROOT / "docs").glob("*.png"))


@pytest.mark.parametrize("command", sorted(set(DRAWN.values())))
def test_the_command_of_a_picture_exists(command):
    words = re.findall(r"`([^`]+)`", command)[0].split()
    assert words
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    match words:
        case ["make", target]:
            assert target in targets
        case ["cryo-hpo", name, *_]:
            assert name in main.commands
        case ["python", "-m", module, *_]:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        case _:
            assert (ROOT / words[-1]).is_file()


def test_the_scenes_in_the_docs_have_the_colors_of_classes():
    """`python -m benchmarks.pictures scenes` draws them."""
    with Image.open(ROOT / "docs" / "scenes.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()
    colors = {(red, green, blue) for red, green, blue in pixels}
    assert {rgb(class_color(value)) for value in range(4)} <= colors


def test_the_site_has_every_page():
    """`make docs` builds the site; decisions are reached from their list."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = {page for part in nav for entry in part.values() for page in _pages_of(entry)}
    assert named == {"index.md", "decisions/README.md"} | {
        page.name for page in (ROOT / "docs").glob("*.md")
    }


def _pages_of(entry):
    return [entry] if isinstance(entry, str) else [p for part in entry for p in part.values()]
