"""Recognize a file of another kind than a command takes, by the keys that only that kind has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import SpecError

KEYS = {  # kind -> keys that it has, and no other kind
    "study": {"base"},
    "search space": {"params"},
    "dataset card": {"images", "masks"},
}
USE = {
    "study": "`cryo-hpo check {file}` checks it, and its `base.data.card` names the card.",
    "search space": "A study names it as `search.space`; `cryo-hpo space {file}` checks it.",
    "dataset card": "A study names it as `base.data.card`; `cryo-hpo data check {file}` checks it.",
}


def refuse_other_kind(raw: Mapping[str, Any], file: Path, *, what: str) -> None:
    """Refuse a file that has the keys of another kind, and none of its own.

    Raises:
        SpecError: The file is of another kind; the message says which, and what takes it.
    """
    if what not in KEYS or KEYS[what] & raw.keys():
        return
    for kind, keys in KEYS.items():
        if keys <= raw.keys():
            raise SpecError(
                f"{file}: This is a {kind}, not a {what}. {USE[kind].format(file=file)}"
            )
