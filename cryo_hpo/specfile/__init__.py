"""Studies and search spaces as files."""

from __future__ import annotations

from .campaign import (
    campaign_schema,
    cell_studies,
    dump_campaign,
    home,
    is_campaign,
    load_campaign,
)
from .dump import differences, dump_space, dump_study, schema, space_schema
from .load import load_card, load_space, load_study, placed
from .python import load_callable

__all__ = [
    "campaign_schema",
    "cell_studies",
    "differences",
    "dump_campaign",
    "dump_space",
    "dump_study",
    "home",
    "is_campaign",
    "load_callable",
    "load_campaign",
    "load_card",
    "load_space",
    "load_study",
    "placed",
    "schema",
    "space_schema",
]
