"""Damage sound files as a bad disk, a bad editor or a hostile colleague does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import strategies as st

ODD = ["null", "true", "-1", "1e400", ".nan", "2.5", str(2**70), "0x" + "f" * 400, '""', "[]", "{}"]
ODD += ["x" * 300, "[" * 60, "&a [*a]", "!!python/object:os.system x", "\\x00", "\u202e", "'"]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2.5,
    1e308,
    2**63,
    10**40,
    "",
    "x" * 300,
    "a\0b",
    "../..",
    "\u202e",
]
VALUES += [[], {}, [[]], {"kind": "x"}, float("nan"), "2024-01-01", "{id}", "%s", "$HOME", "\ud800"]


@st.composite
def mutated(draw: Any, whole: Callable[[], bytes]) -> bytes:
    """Cut, flip, insert and replace parts of a sound file, or draw any bytes."""
    content = bytearray(whole())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["cut", "flip", "insert", "value", "drop", "any"])):
            case "cut":
                del content[at:]
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                content[at:at] = draw(st.binary(max_size=20))
            case "value":
                end = content.find(b"\n", at)
                start = content.rfind(b": ", 0, end)
                if 0 <= start < end:
                    content[start + 2 : end] = draw(st.sampled_from(ODD)).encode()
            case "drop":
                del content[at : at + draw(st.integers(1, 60))]
            case _:
                content = bytearray(draw(st.binary(max_size=200)))
    return bytes(content)


@st.composite
def reshaped(draw: Any, whole: Callable[[], bytes]) -> bytes:
    """Change values of a sound YAML or JSON file, drop, repeat or exchange them; it still reads."""
    root = [yaml.safe_load(whole())]
    for _ in range(draw(st.integers(1, 3))):
        above, key = _place(draw, root)
        match draw(st.sampled_from(["value", "value", "drop", "repeat", "exchange"])):
            case "drop" if above is not root:
                del above[key]
            case "repeat" if isinstance(above[key], list):
                above[key] = above[key] * 2
            case "exchange":
                other, name = _place(draw, root)
                above[key] = copy.deepcopy(other[name])
            case _:
                above[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return json.dumps(root[0]).encode()


def _place(draw: Any, root: list[Any]) -> tuple[Any, Any]:
    """Draw a value of a tree: what holds it, and its key there."""
    above, key = root, 0
    while isinstance(above[key], list | dict) and above[key] and draw(st.integers(0, 3)):
        above = above[key]
        keys = sorted(above) if isinstance(above, dict) else range(len(above))
        key = draw(st.sampled_from(keys))
    return above, key
