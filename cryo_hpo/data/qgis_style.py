"""Write QGIS styles of maps and outlines in the colors of the classes.

Elements and attributes are those that QGIS 3 itself writes for a paletted raster and for a
categorized vector layer; what is left out has QGIS's default.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..storage.atomic import write_text
from .palette import class_color, rgb

SUFFIX = ".qml"
DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
Geometry = Literal["fill", "line"]


def map_style(classes: Sequence[str]) -> str:
    """Return the style of a raster of class numbers: each class by name, in its color."""
    root = _root()
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ET.SubElement(renderer, "colorPalette")
    for value, name in enumerate(classes):
        ET.SubElement(
            palette,
            "paletteEntry",
            value=str(value),
            color=class_color(value),
            alpha="255",
            label=name,
        )
    return _text(root)


def outline_style(classes: Sequence[str], *, geometry: Geometry = "fill") -> str:
    """Return the style of outlines whose field `value` is the class number.

    Args:
        classes: Names of the classes.
        geometry: Whether the outlines are polygons or lines.
    """
    root = _root()
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="value", symbollevels="0"
    )
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for value, name in enumerate(classes):
        ET.SubElement(
            categories, "category", render="true", symbol=str(value), value=str(value), label=name
        )
        symbol = ET.SubElement(symbols, "symbol", name=str(value), type=geometry, alpha="1")
        layer = ET.SubElement(
            symbol,
            "layer",
            attrib={"class": "SimpleFill" if geometry == "fill" else "SimpleLine"},
            enabled="1",
            locked="0",
        )
        layer.set("pass", "0")  # a word of Python
        options = ET.SubElement(layer, "Option", type="Map")
        for key, text in _paint(class_color(value), geometry).items():
            ET.SubElement(options, "Option", name=key, type="QString", value=text)
    return _text(root)


def write_style(path: Path, text: str) -> Path:
    """Write a style beside a map or outlines, under the name that QGIS looks for.

    Raises:
        OSError: The folder cannot be written.
    """
    style = path.with_suffix(SUFFIX)
    write_text(style, text)
    return style


def _paint(color: str, geometry: Geometry) -> dict[str, str]:
    solid = ",".join(map(str, (*rgb(color), 255)))
    if geometry == "line":
        return {
            "line_color": solid,
            "line_style": "solid",
            "line_width": "0.6",
            "line_width_unit": "MM",
        }
    half = ",".join(map(str, (*rgb(color), 110)))
    return {
        "color": half,
        "style": "solid",
        "outline_color": solid,
        "outline_style": "solid",
        "outline_width": "0.4",
        "outline_width_unit": "MM",
    }


def _root() -> ET.Element:
    return ET.Element("qgis", version="3.28", styleCategories="Symbology")


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"
