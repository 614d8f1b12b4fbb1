"""Define the colors of classes, the same in maps, styles, reports and contact sheets."""

from __future__ import annotations

# After Okabe and Ito, "Color Universal Design", 2008; the first class is the ground, gray. Moved
# so far that any two are 12 or more apart (CIEDE2000) in any color vision, the gray of unlabeled
# pixels included; and a dark page, which exchanges the original values in figures, leaves them.
CLASS_COLORS = (
    "#D9D9D9", "#0173B3", "#E69F00", "#009E73", "#B880A0", "#D65F01", "#56B4E9", "#F8EC58",
)  # fmt: skip
IGNORED = "#586068"  # pixels without a label


def class_color(value: int) -> str:
    """Return the color of a mask value, such as #0173B3."""
    return CLASS_COLORS[value % len(CLASS_COLORS)]


def rgb(color: str) -> tuple[int, int, int]:
    """Return the bytes of a color such as #0173B3."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
