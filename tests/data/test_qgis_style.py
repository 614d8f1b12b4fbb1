"""Styles have the structure of those that QGIS writes; no QGIS reads them here, 3.22 did once.

The table is of styles that QGIS 3.4 (paletted raster) and 3.28 (categorized polygons and lines) saved.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cryo_hpo.data.palette import class_color
from cryo_hpo.data.qgis_style import map_style, outline_style, write_style

CLASSES = ("rock & ice", "<lake>", 'a "front"', "straße")
# Path below the root -> attributes that QGIS writes; the first ones are those that it cannot do without.
Table = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
RASTER: Table = {
    "pipe": ((), ()),
    "pipe/rasterrenderer": (("type", "band"), ("opacity", "alphaBand", "nodataColor")),
    "pipe/rasterrenderer/colorPalette": ((), ()),
    "pipe/rasterrenderer/colorPalette/paletteEntry": (("value", "color"), ("alpha", "label")),
}
VECTOR: Table = {
    "renderer-v2": (("type", "attr"), ("symbollevels", "forceraster", "enableorderby")),
    "renderer-v2/categories": ((), ()),
    "renderer-v2/categories/category": (("symbol", "value", "label"), ("render", "type")),
    "renderer-v2/symbols": ((), ()),
    "renderer-v2/symbols/symbol": (("type", "name"), ("alpha", "clip_to_extent", "force_rhr")),
    "renderer-v2/symbols/symbol/layer": (("class",), ("pass", "enabled", "locked")),
    "renderer-v2/symbols/symbol/layer/Option": (("type",), ()),
    "renderer-v2/symbols/symbol/layer/Option/Option": (("name", "value"), ("type",)),
}
FILL = {"color", "style", "outline_color", "outline_style", "outline_width", "outline_width_unit"}
LINE = {"line_color", "line_style", "line_width", "line_width_unit"}
STYLES: dict[str, tuple[str, Table]] = {
    "map": (map_style(CLASSES), RASTER),
    "polygons": (outline_style(CLASSES), VECTOR),
    "lines": (outline_style(CLASSES, geometry="line"), VECTOR),
}


def _paths(parent: ET.Element, above: str = "") -> list[tuple[str, ET.Element]]:
    return [
        pair
        for child in parent
        for pair in [(above + child.tag, child), *_paths(child, f"{above}{child.tag}/")]
    ]


@pytest.mark.parametrize("name", STYLES)
def test_a_style_has_the_elements_and_attributes_that_qgis_writes(name: str) -> None:
    text, table = STYLES[name]
    assert text.startswith("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis ")
    root = ET.fromstring(text)
    assert (root.tag, set(root.keys())) == ("qgis", {"version", "styleCategories"})
    elements = _paths(root)
    assert {path for path, _ in elements} == set(table), "no element that QGIS does not know"
    for path, element in elements:
        needed, others = table[path]
        assert set(needed) <= set(element.keys()) <= {*needed, *others}, path


def test_a_map_shows_each_class_by_name_in_its_color() -> None:
    root = ET.fromstring(map_style(CLASSES))
    entries = [
        (e.get("value"), e.get("color"), e.get("alpha"), e.get("label"))
        for e in root.iter("paletteEntry")
    ]
    assert entries == [(str(k), class_color(k), "255", n) for k, n in enumerate(CLASSES)]


@pytest.mark.parametrize(
    ("geometry", "kind", "keys"), [("fill", "SimpleFill", FILL), ("line", "SimpleLine", LINE)]
)
def test_every_category_has_its_symbol_in_the_color_of_the_map(geometry, kind, keys) -> None:
    root = ET.fromstring(outline_style(CLASSES, geometry=geometry))
    symbols = {s.get("name"): s for s in root.iter("symbol")}
    for number, category in enumerate(root.iter("category")):
        symbol = symbols.pop(category.get("symbol"))
        assert symbol.get("type") == geometry
        (layer,) = symbol.iter("layer")
        assert layer.get("class") == kind
        options = {o.get("name"): o.get("value") for o in layer.iter("Option") if o.get("name")}
        assert set(options) == keys
        rgb = tuple(int(class_color(number)[i : i + 2], 16) for i in (1, 3, 5))
        for key in ("color", "outline_color") if geometry == "fill" else ("line_color",):
            color = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", options[key] or "")
            assert color is not None
            assert tuple(map(int, color.groups()))[:3] == rgb
    assert not symbols


def test_a_style_lies_beside_its_layer_under_the_name_that_qgis_looks_for(tmp_path: Path) -> None:
    assert write_style(tmp_path / "map.2024.tif", map_style(CLASSES)) == tmp_path / "map.2024.qml"
