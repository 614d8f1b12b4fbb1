"""Reports in a real browser, at the width of a desk and of a phone: nothing is cut off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryo_hpo.report import write, write_campaign

from ..support.browser import open_browser
from ..support.campaigns import a_campaign_result
from ..support.results import a_result

pytestmark = pytest.mark.browser
PICTURES = os.environ.get("SCREENSHOTS")  # a folder that gets a picture of every page
PHONE, DESK = 400, 1100  # pixels
LONG = "linux-6.1.0-" + "a-name-without-a-space" * 8
# What reaches beyond the right edge, other than inside of a table or a figure that scrolls.
BEYOND = """
const edge = document.documentElement.clientWidth + 0.5;
return [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll table, figure > *'))
  .filter(e => e.getBoundingClientRect().right > edge)
  .map(e => `${e.tagName}: ${e.textContent.slice(0, 60)}`);
"""
# Texts of cells that are seen whole without scrolling.
SEEN = """
return [...document.querySelectorAll(`#${arguments[0]} :is(th, td)`)]
  .filter(e => e.getBoundingClientRect().right <= e.closest('.scroll').getBoundingClientRect().right + 0.5)
  .map(e => e.textContent);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Open a browser."""
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the report of a study, with maps, and of a campaign."""
    root = tmp_path_factory.mktemp("reports")
    mask = np.random.default_rng(0).integers(0, 3, (120, 180)).astype(np.uint8)
    kept: dict[str, Any] = {"scenes": np.array([LONG]), "differences": np.array([0.2])}
    kept |= {f"0.{name}": mask for name in ("image", "truth", "baseline", "tuned")}
    np.savez(root / "test-maps.npz", **kept, seed=np.int64(4))
    write(a_result(provenance={"machine": LONG}), root / "study", folder=root)
    cells = tuple(
        cell.model_copy(update={"dataset": f"calving-{cell.dataset}", "row": f"{cell.row}.frozen"})
        for cell in a_campaign_result().cells
    )
    write_campaign(a_campaign_result(cells=cells), root / "campaign")
    return {name: root / name / "report.html" for name in ("study", "campaign")}


def _open(browser: Any, page: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    height = browser.execute_script("return document.documentElement.scrollHeight")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": height})
    if PICTURES:
        browser.save_screenshot(f"{PICTURES}/{page.parent.name}-{width}.png")


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", ["study", "campaign"])
def test_a_page_is_no_wider_than_the_screen(browser, reports, name, width):
    _open(browser, reports[name], width)
    measured = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    whole, seen = browser.execute_script(measured)
    assert whole <= seen <= width
    assert browser.execute_script(BEYOND) == []


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_class_and_its_scores_are_seen_without_scrolling(browser, reports, width):
    _open(browser, reports["study"], width)
    seen = browser.execute_script(SEEN, "classes")
    assert seen[:4] == ["class", "baseline", "paper", "tuned"]
    assert seen[4::4] == ["rock", "ice", "lake"]
    assert "89.24" in seen, "the last column of the first class"


def test_a_campaign_has_its_verdicts_in_sight(browser, reports):
    """On a desk all but what collapsed is; on a phone what decides."""
    _open(browser, reports["campaign"], DESK)
    assert {"repeats that gain", "LR"} <= set(browser.execute_script(SEEN, "cells"))
    _open(browser, reports["campaign"], PHONE)
    seen = browser.execute_script(SEEN, "cells")
    assert {"dataset", "model", "verdict", "no clear difference"} <= set(seen)


def test_the_maps_of_a_phone_are_large_enough_to_look_at(browser, reports):
    """They scroll sideways, and their caption stays."""
    _open(browser, reports["study"], PHONE)
    drawn = "return document.querySelector('figure.maps svg').getBoundingClientRect().width"
    assert browser.execute_script(drawn) >= 600
