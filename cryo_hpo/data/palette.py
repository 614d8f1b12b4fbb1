"""Define the colors of classes, the same in maps, styles, reports and contact sheets."""

from __future__ import annotations

# Source: Okabe and Ito, "Color Universal Design", 2008: distinct in any color vision. The first
# class is the ground, gray. Slightly different from Okabe and Ito's own values, so that a dark
# page, which exchanges those in figures, leaves the colors of classes alone.
CLASS_COLORS = (
    "#D9D9D9", "#0173B3", "#E69F00", "#009E73", "#CC79A7", "#D65F01", "#56B4E9", "#F0E442",
)  # fmt: skip
IGNORED = "#7A7A7A"  # pixels without a label


def class_color(value: int) -> str:
    """Return the color of a mask value, such as #0173B3."""
    return CLASS_COLORS[value % len(CLASS_COLORS)]


def rgb(color: str) -> tuple[int, int, int]:
    """Return the bytes of a color such as #0173B3."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
