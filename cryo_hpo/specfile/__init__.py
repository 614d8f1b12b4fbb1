"""Studies and search spaces as files."""

from __future__ import annotations

from .dump import differences, dump_space, dump_study, schema, space_schema
from .load import load_card, load_space, load_study, placed
from .python import load_callable

__all__ = [
    "differences",
    "dump_space",
    "dump_study",
    "load_callable",
    "load_card",
    "load_space",
    "load_study",
    "placed",
    "schema",
    "space_schema",
]
